package bench

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// Mode is how pgbench sends its statements (-M).
type Mode string

// Modes are all of pgbench's ways.
func Modes() []Mode { return []Mode{"simple", "extended", "prepared"} }

// Sample is one run of pgbench.
type Sample struct {
	Round int
	Mode  Mode
	// Path is the way to the server: "direct", "pgbouncer", …
	Path string
	Report
	// CPU is the processor time that the proxy used in the run; 0 for a direct connection.
	CPU time.Duration
}

// Cell is what all rounds of one mode on one path come to. Each figure is the median over the rounds.
type Cell struct {
	Mode Mode
	Path string
	TPS  float64
	// Ratio is the throughput relative to that of the base path in the same round.
	Ratio float64
	// CPUSeconds are the proxy's processor seconds for 1,000 queries.
	CPUSeconds float64
	Rounds     int
}

// Summary makes a cell for each mode and path, in the order of the samples. base is the path that ratios are
// relative to. A round without a sample of base counts for everything but the ratio.
func Summary(samples []Sample, base string) []Cell {
	type key struct {
		mode Mode
		path string
	}
	type round struct {
		mode  Mode
		round int
	}
	reference := map[round]float64{}
	for _, s := range samples {
		if s.Path == base {
			reference[round{s.Mode, s.Round}] = s.TPS
		}
	}
	var order []key
	groups := map[key][]Sample{}
	for _, s := range samples {
		k := key{s.Mode, s.Path}
		if _, ok := groups[k]; !ok {
			order = append(order, k)
		}
		groups[k] = append(groups[k], s)
	}
	cells := make([]Cell, 0, len(order))
	for _, k := range order {
		var tps, ratios, cpu []float64
		for _, s := range groups[k] {
			tps = append(tps, s.TPS)
			if ref := reference[round{s.Mode, s.Round}]; ref > 0 {
				ratios = append(ratios, s.TPS/ref)
			}
			if s.CPU > 0 && s.Transactions > 0 {
				cpu = append(cpu, s.CPU.Seconds()*1000/float64(s.Transactions))
			}
		}
		cells = append(cells, Cell{
			Mode: k.mode, Path: k.path, TPS: median(tps), Ratio: median(ratios), CPUSeconds: median(cpu), Rounds: len(tps),
		})
	}
	return cells
}

// median is the middle value, the mean of the two middle ones for an even number, 0 for none.
func median(values []float64) float64 {
	if len(values) == 0 {
		return 0
	}
	v := slices.Sorted(slices.Values(values))
	mid := len(v) / 2
	if len(v)%2 == 1 {
		return v[mid]
	}
	return (v[mid-1] + v[mid]) / 2
}

// Markdown writes the cells as a table: one row for each path, the modes beside each other.
func Markdown(cells []Cell) string {
	var paths []string
	var modes []Mode
	for _, c := range cells {
		if !slices.Contains(paths, c.Path) {
			paths = append(paths, c.Path)
		}
		if !slices.Contains(modes, c.Mode) {
			modes = append(modes, c.Mode)
		}
	}
	var b strings.Builder
	b.WriteString("| path |")
	for _, m := range modes {
		fmt.Fprintf(&b, " %s: tps | to direct | CPU-s per 1,000 |", m)
	}
	b.WriteString("\n|---|" + strings.Repeat("---:|---:|---:|", len(modes)) + "\n")
	for _, path := range paths {
		fmt.Fprintf(&b, "| %s |", path)
		for _, m := range modes {
			i := slices.IndexFunc(cells, func(c Cell) bool { return c.Path == path && c.Mode == m })
			if i < 0 {
				b.WriteString(" – | – | – |")
				continue
			}
			c := cells[i]
			fmt.Fprintf(&b, " %.0f | %s | %s |", c.TPS, figure(c.Ratio, 2), figure(c.CPUSeconds, 4))
		}
		b.WriteString("\n")
	}
	return b.String()
}

func figure(v float64, digits int) string {
	if v == 0 {
		return "–"
	}
	return fmt.Sprintf("%.*f", digits, v)
}

package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"unicode"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/jedib0t/go-pretty/v6/text"
	"github.com/spf13/cobra"
	"go.yaml.in/yaml/v3"
)

// output is the value of -o.
type output = choice

// The forms of output.
const (
	outTable = "table"
	outJSON  = "json"
	outYAML  = "yaml"
)

// outputFlag defines -o for a command that prints data.
func outputFlag(cmd *cobra.Command) *output {
	o := &output{outTable, []string{outTable, outJSON, outYAML}}
	choiceVar(cmd, cmd.Flags(), o, "output", "o", "form of the output")
	return o
}

// sheet is one table: a title over columns of cells.
type sheet struct {
	Title   string
	Columns []column
	Rows    [][]string
}

// column describes the cells below one heading.
type column struct {
	Name  string
	Align align
	// Wrap lets the column be narrowed when the terminal is too narrow for the table.
	Wrap bool
	// Paint gives the colour of a cell on a terminal; nil leaves all cells plain.
	Paint func(cell string) color
}

type align = text.Align

const (
	left   = text.AlignLeft
	center = text.AlignCenter
	right  = text.AlignRight
)

// color is an ANSI SGR parameter; "" is none.
type color string

const (
	red    color = "31"
	green  color = "32"
	yellow color = "33"
	bold   color = "1"
	faint  color = "2"
)

func (c color) paint(s string) string {
	if c == "" || s == "" {
		return s
	}
	return "\x1b[" + string(c) + "m" + s + "\x1b[0m"
}

// emit prints data in the form asked for. sheets is called for tables only. The JSON and YAML forms have the
// same keys: those of the json tags.
func (a *app) emit(o *output, data any, sheets func() []sheet) error {
	switch o.value {
	case outJSON:
		return writeJSON(a.stdout, data)
	case outYAML:
		return writeYAML(a.stdout, data)
	default:
		tty := isTerminal(a.stdout)
		return writeTables(a.stdout, sheets(), terminalWidth(a.stdout), tty && !a.noColor())
	}
}

func writeJSON(w io.Writer, data any) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	return enc.Encode(data)
}

// writeYAML goes through JSON, so that one set of tags names the keys of both forms.
func writeYAML(w io.Writer, data any) error {
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(data); err != nil {
		return err
	}
	var doc yaml.Node
	if err := yaml.Unmarshal(buf.Bytes(), &doc); err != nil {
		return fmt.Errorf("turn the output into YAML: %w", err)
	}
	blockStyle(&doc)
	y := yaml.NewEncoder(w)
	y.SetIndent(2)
	if err := y.Encode(&doc); err != nil {
		return err
	}
	return y.Close()
}

// blockStyle takes JSON's flow style and quotes off; the encoder quotes what needs it. Empty lists and maps
// stay in flow style, as YAML has no other form for them. Words that YAML 1.1 takes for a truth value stay quoted.
func blockStyle(n *yaml.Node) {
	if len(n.Content) > 0 || (n.Kind == yaml.ScalarNode && !oldBool(n.Value)) {
		n.Style = 0
	}
	for _, c := range n.Content {
		blockStyle(c)
	}
}

func oldBool(s string) bool {
	switch strings.ToLower(s) {
	case "y", "n", "yes", "no", "on", "off":
		return true
	default:
		return false
	}
}

// writeTables prints sheets in Shardman's style: boxes with a centred title. Sheets with as many columns as
// each other share their widths. width is that of the terminal, 0 when there is none: then nothing is wrapped,
// so that a line of the output is a row.
func writeTables(w io.Writer, sheets []sheet, width int, colors bool) error {
	widths := map[int][]int{}
	for i := range sheets {
		clean(&sheets[i], width == 0)
		widths[len(sheets[i].Columns)] = fit(sheets[i], widths[len(sheets[i].Columns)])
	}
	for _, s := range sheets {
		wd := shrink(s, widths[len(s.Columns)], width)
		if _, err := io.WriteString(w, render(s, wd, colors)+"\n"); err != nil {
			return err
		}
	}
	return nil
}

// clean takes control characters out of the cells: they come from other machines' messages and must not
// reach the terminal.
func clean(s *sheet, oneLineEach bool) {
	for _, row := range s.Rows {
		for i, cell := range row {
			row[i] = printable(strings.TrimSpace(cell))
			if oneLineEach {
				row[i] = strings.ReplaceAll(row[i], "\n", " ")
			}
		}
	}
}

// printable replaces control characters other than the newline.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\n':
			return r
		case r == '\t':
			return ' '
		case unicode.IsControl(r) || r == unicode.ReplacementChar:
			return '?'
		default:
			return r
		}
	}, s)
}

// fit gives the widths that hold all cells of s and at least those of old.
func fit(s sheet, old []int) []int {
	out := make([]int, len(s.Columns))
	copy(out, old)
	for i, c := range s.Columns {
		out[i] = max(out[i], text.StringWidthWithoutEscSequences(c.Name))
		for _, row := range s.Rows {
			out[i] = max(out[i], text.LongestLineLen(row[i]))
		}
	}
	return out
}

// minWrap is the narrowest that a column is wrapped to.
const minWrap = 16

// shrink narrows the columns that wrap, the widest first, until the table fits into width.
func shrink(s sheet, widths []int, width int) []int {
	out := append([]int(nil), widths...)
	total := 1
	for _, w := range out {
		total += w + 3
	}
	for width > 0 && total > width {
		widest := -1
		for i, c := range s.Columns {
			if c.Wrap && out[i] > minWrap && (widest < 0 || out[i] > out[widest]) {
				widest = i
			}
		}
		if widest < 0 {
			break
		}
		out[widest]--
		total--
	}
	return out
}

// render draws one table with the given column widths.
func render(s sheet, widths []int, colors bool) string {
	t := table.NewWriter()
	style := table.StyleLight
	style.Options.SeparateRows = true
	style.Title.Align = text.AlignCenter
	style.Format.Header = text.FormatUpper
	t.SetStyle(style)
	if s.Title != "" {
		t.SetTitle("== " + strings.ToUpper(printable(s.Title)) + " ==")
	}
	header := make(table.Row, len(s.Columns))
	configs := make([]table.ColumnConfig, len(s.Columns))
	for i, c := range s.Columns {
		header[i] = c.Name
		configs[i] = table.ColumnConfig{
			Number: i + 1, Align: c.Align, AlignHeader: text.AlignCenter, VAlign: text.VAlignTop,
			WidthMin: widths[i], WidthMax: widths[i], WidthMaxEnforcer: text.WrapSoft,
		}
		if colors && c.Paint != nil {
			configs[i].Transformer = func(v any) string {
				cell, _ := v.(string)
				return c.Paint(cell).paint(cell)
			}
		}
	}
	t.AppendHeader(header)
	t.SetColumnConfigs(configs)
	for _, row := range s.Rows {
		cells := make(table.Row, len(row))
		for i, cell := range row {
			cells[i] = cell
		}
		t.AppendRow(cells)
	}
	return t.Render()
}

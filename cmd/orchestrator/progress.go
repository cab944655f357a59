package main

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/jedib0t/go-pretty/v6/text"
)

// progress shows the steps of a long command. On a terminal the open steps stand below the finished ones and
// are redrawn with their seconds; elsewhere a finished step is one line, and one that takes long says so.
// Several steps may be open at any time. Safe for concurrent use. Close ends it.
type progress struct {
	mu    sync.Mutex
	w     io.Writer
	tty   bool
	paint bool
	width func() int
	open  []*progressStep
	drawn int // lines on the terminal below the finished ones
	frame int
	stop  chan struct{}
	done  sync.WaitGroup
}

// progressStep is one step between Start and Done or Fail.
type progressStep struct {
	p       *progress
	name    string
	note    string
	began   time.Time
	nextSay time.Time // when a line says that the step is still open (no terminal)
	ended   bool
}

const (
	redrawEvery = 100 * time.Millisecond
	// stillEvery is the time between two lines about a step that is still open, where there is no terminal.
	stillEvery = 10 * time.Second
)

var spinner = []string{"⠋", "⠙", "⠹", "⠸", "⠼", "⠴", "⠦", "⠧", "⠇", "⠏"}

// newProgress begins to show progress on w; isTTY says whether lines can be redrawn there.
func newProgress(w io.Writer, isTTY bool) *progress {
	p := &progress{w: w, tty: isTTY, paint: isTTY, stop: make(chan struct{}), width: func() int { return terminalWidth(w) }}
	p.done.Go(p.tick)
	return p
}

// startProgress shows progress on stderr and leads the log through it until Close.
func (a *app) startProgress() *progress {
	p := newProgress(a.stderr, isTerminal(a.stderr))
	p.paint = p.paint && !a.noColor()
	if p.tty {
		a.logOut.set(p.Writer())
	}
	return p
}

// stopProgress ends progress begun by startProgress and gives the log its own way back.
func (a *app) stopProgress(p *progress) {
	p.Close()
	a.logOut.set(a.stderr)
}

// Start opens a step. Its owner ends it with Done or Fail.
func (p *progress) Start(name string) *progressStep {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	s := &progressStep{p: p, name: name, began: now, nextSay: now.Add(stillEvery)}
	p.open = append(p.open, s)
	p.redraw()
	return s
}

// Note prints a line of its own above the open steps.
func (p *progress) Note(line string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.above(printable(line) + "\n")
}

// Writer gives a writer whose whole lines are printed above the open steps.
func (p *progress) Writer() io.Writer { return &lineWriter{p: p} }

// Close stops redrawing and waits. Steps that are still open are left with a line saying so.
func (p *progress) Close() {
	p.mu.Lock()
	select {
	case <-p.stop:
		p.mu.Unlock()
		return
	default:
	}
	close(p.stop)
	p.mu.Unlock()
	p.done.Wait()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.erase()
	for _, s := range p.open {
		s.ended = true
		_, _ = fmt.Fprintf(p.w, "%s %s: not finished after %s\n", p.color(yellow, "-"), s.label(), seconds(time.Since(s.began)))
	}
	p.open = nil
}

// Note replaces the words shown behind the step's name.
func (s *progressStep) Note(note string) {
	s.p.mu.Lock()
	defer s.p.mu.Unlock()
	s.note = note
	s.p.redraw()
}

// Done ends the step well. Ending a step twice is harmless.
func (s *progressStep) Done() { s.end(green, "✓", "") }

// Fail ends the step with the reason.
func (s *progressStep) Fail(err error) {
	reason := ""
	if err != nil {
		reason = ": " + printable(err.Error())
	}
	s.end(red, "✗", reason)
}

// Skip ends the step without a result: it turned out not to be needed.
func (s *progressStep) Skip(why string) { s.end(faint, "-", ": "+why) }

func (s *progressStep) end(c color, mark, suffix string) {
	p := s.p
	p.mu.Lock()
	defer p.mu.Unlock()
	if s.ended {
		return
	}
	s.ended = true
	for i, o := range p.open {
		if o == s {
			p.open = append(p.open[:i], p.open[i+1:]...)
			break
		}
	}
	took := p.color(faint, seconds(time.Since(s.began)))
	p.above(fmt.Sprintf("%s %s%s %s\n", p.color(c, mark), s.label(), suffix, took))
}

func (s *progressStep) label() string {
	if s.note == "" {
		return oneLine(s.name)
	}
	return oneLine(s.name + " (" + s.note + ")")
}

func seconds(d time.Duration) string { return fmt.Sprintf("%.1f s", d.Seconds()) }

// tick redraws until Close.
func (p *progress) tick() {
	t := time.NewTicker(redrawEvery)
	defer t.Stop()
	for {
		select {
		case <-p.stop:
			return
		case now := <-t.C:
			p.mu.Lock()
			p.frame++
			if p.tty {
				p.redraw()
			} else {
				p.sayStill(now)
			}
			p.mu.Unlock()
		}
	}
}

// sayStill writes a line for each step that has been open for long.
func (p *progress) sayStill(now time.Time) {
	for _, s := range p.open {
		if now.Before(s.nextSay) {
			continue
		}
		s.nextSay = now.Add(stillEvery)
		_, _ = fmt.Fprintf(p.w, "… %s: still running after %s\n", s.label(), seconds(now.Sub(s.began)))
	}
}

// above prints finished lines where the open steps are, and the open steps again below them.
func (p *progress) above(lines string) {
	p.erase()
	_, _ = io.WriteString(p.w, lines)
	p.redraw()
}

// erase takes the open steps off the terminal.
func (p *progress) erase() {
	if p.drawn > 0 {
		_, _ = fmt.Fprintf(p.w, "\x1b[%dA\r\x1b[J", p.drawn)
		p.drawn = 0
	}
}

// maxOpenLines bounds the redrawn part: what has scrolled off the top cannot be redrawn.
const maxOpenLines = 12

// redraw draws the open steps; on anything but a terminal it does nothing.
func (p *progress) redraw() {
	if !p.tty {
		return
	}
	var b strings.Builder
	if p.drawn > 0 {
		fmt.Fprintf(&b, "\x1b[%dA\r", p.drawn)
	}
	width := p.width()
	if width <= 0 {
		width = 80
	}
	lines := 0
	for i, s := range p.open {
		if i == maxOpenLines {
			fmt.Fprintf(&b, "  and %d more\x1b[K\n", len(p.open)-i)
			lines++
			break
		}
		took := seconds(time.Since(s.began))
		label := text.Trim(s.label(), max(10, width-len(took)-5))
		fmt.Fprintf(&b, "%s %s %s\x1b[K\n", p.color(yellow, spinner[p.frame%len(spinner)]), label, p.color(faint, took))
		lines++
	}
	b.WriteString("\x1b[J")
	if p.drawn == 0 && lines == 0 {
		return
	}
	p.drawn = lines
	_, _ = io.WriteString(p.w, b.String())
}

func (p *progress) color(c color, s string) string {
	if !p.paint {
		return s
	}
	return c.paint(s)
}

func oneLine(s string) string { return strings.ReplaceAll(printable(s), "\n", " ") }

// lineWriter collects bytes until a line is whole.
type lineWriter struct {
	p   *progress
	mu  sync.Mutex
	buf []byte
}

func (l *lineWriter) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.buf = append(l.buf, b...)
	end := bytes.LastIndexByte(l.buf, '\n')
	if end < 0 {
		return len(b), nil
	}
	l.p.mu.Lock()
	l.p.above(string(l.buf[:end+1]))
	l.p.mu.Unlock()
	l.buf = append(l.buf[:0], l.buf[end+1:]...)
	return len(b), nil
}

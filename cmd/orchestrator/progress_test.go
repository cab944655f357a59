package main

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// screen plays what was written to a terminal: enough of ECMA-48 for progress.
type screen struct {
	mu    sync.Mutex
	raw   bytes.Buffer
	lines []string
	row   int
}

func (s *screen) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.raw.Write(b)
	text := string(b)
	for text != "" {
		for len(s.lines) <= s.row {
			s.lines = append(s.lines, "")
		}
		var n int
		switch {
		case strings.HasPrefix(text, "\n"):
			s.row++
			text = text[1:]
		case strings.HasPrefix(text, "\r"):
			text = text[1:]
		case strings.HasPrefix(text, "\x1b[K"):
			text = text[3:]
		case strings.HasPrefix(text, "\x1b[J"):
			s.lines = s.lines[:s.row]
			text = text[3:]
		case cursorUp(text, &n):
			s.row -= n
			text = text[strings.IndexByte(text, 'A')+1:]
		default:
			end := strings.IndexAny(text, "\n\r\x1b")
			if end < 0 {
				end = len(text)
			}
			if end == 0 {
				panic(fmt.Sprintf("unexpected control sequence %q", text))
			}
			s.lines[s.row] = text[:end]
			text = text[end:]
		}
	}
	return len(b), nil
}

func cursorUp(text string, n *int) bool {
	var c rune
	got, err := fmt.Sscanf(text, "\x1b[%d%c", n, &c)
	return err == nil && got == 2 && c == 'A'
}

func (s *screen) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return strings.TrimRight(strings.Join(s.lines, "\n"), "\n")
}

func TestProgressOnATerminalRedrawsOpenStepsBelowFinishedOnes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s screen
		p := newProgress(&s, true)
		p.paint = false
		first, second := p.Start("create coordinator-1"), p.Start("create worker-1")
		time.Sleep(2500 * time.Millisecond)
		synctest.Wait()
		require.Equal(t, "⠴ create coordinator-1 2.5 s\n⠴ create worker-1 2.5 s", strings.ReplaceAll(s.String(), spinner[p.frame%len(spinner)], "⠴"))
		second.Done()
		first.Note("12 of 40 MB")
		p.Note("note")
		require.Equal(t, []string{"✓ create worker-1 2.5 s", "note"}, strings.Split(s.String(), "\n")[:2])
		require.Contains(t, s.String(), "create coordinator-1 (12 of 40 MB) 2.5 s")
		first.Fail(errors.New("disk full"))
		first.Done()
		p.Close()
		p.Close()
		require.Equal(t, "✓ create worker-1 2.5 s\nnote\n✗ create coordinator-1 (12 of 40 MB): disk full 2.5 s", s.String())
	})
}

func TestLogLinesAreInsertedAboveOpenSteps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s screen
		p := newProgress(&s, true)
		p.paint = false
		step := p.Start("wait for the router")
		log := newLogger(p.Writer(), false, true, "info")
		log.Info("elected", "id", "a")
		lines := strings.Split(s.String(), "\n")
		require.Len(t, lines, 2)
		require.Contains(t, lines[0], "elected id=a")
		require.Contains(t, lines[1], "wait for the router")
		step.Done()
		p.Close()
		require.Contains(t, s.String(), "✓ wait for the router 0.0 s")
	})
}

func TestProgressElsewhereIsALineForEachStep(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s screen
		p := newProgress(&s, false)
		quick, slow, left := p.Start("quick"), p.Start("slow"), p.Start("left")
		quick.Done()
		time.Sleep(10500 * time.Millisecond)
		slow.Fail(errors.New("no answer"))
		left.Note("so far")
		p.Close()
		require.Equal(t, "✓ quick 0.0 s\n"+
			"… slow: still running after 10.0 s\n… left: still running after 10.0 s\n"+
			"✗ slow: no answer 10.5 s\n- left (so far): not finished after 10.5 s", s.String())
		require.NotContains(t, s.raw.String(), "\x1b")
	})
}

func TestManyOpenStepsStayWithinTheRedrawnLines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s screen
		p := newProgress(&s, true)
		p.paint = false
		var steps []*progressStep
		for i := range 20 {
			steps = append(steps, p.Start(fmt.Sprint("step ", i)))
		}
		require.Len(t, strings.Split(s.String(), "\n"), maxOpenLines+1)
		require.Contains(t, s.String(), "and 8 more")
		for _, st := range steps {
			st.Skip("not needed")
		}
		p.Close()
		require.Len(t, strings.Split(s.String(), "\n"), 20)
	})
}

func TestLongStepsAreCutToTheTerminal(t *testing.T) {
	var s screen
	p := newProgress(&s, true)
	p.paint, p.width = false, func() int { return 40 }
	p.Start(strings.Repeat("ä", 100) + "\x1b[2J")
	require.LessOrEqual(t, len([]rune(s.String())), 40)
	p.Close()
}

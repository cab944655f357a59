package main

import (
	"io"
	"log/slog"
	"sync"
	"time"

	"github.com/lmittmann/tint"
)

// switchWriter is a writer whose destination can be changed: while progress is drawn on a terminal, log lines
// go through it, so that they do not tear its lines apart. Safe for concurrent use.
type switchWriter struct {
	mu sync.Mutex
	w  io.Writer
}

func (s *switchWriter) Write(p []byte) (int, error) {
	s.mu.Lock()
	w := s.w
	s.mu.Unlock()
	return w.Write(p)
}

// set changes the destination.
func (s *switchWriter) set(w io.Writer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.w = w
}

// logsAsText tells the form of the log.
func (a *app) logsAsText() bool {
	switch a.global.LogFormat.value {
	case "text":
		return true
	case "json":
		return false
	default:
		return isTerminal(a.stderr)
	}
}

// newLogger makes the process's logger: tint in text, one JSON object a line otherwise. level is one of
// debug, info, warn and error.
func newLogger(w io.Writer, color, text bool, level string) *slog.Logger {
	var l slog.Level
	if err := l.UnmarshalText([]byte(level)); err != nil {
		l = slog.LevelInfo
	}
	if text {
		return slog.New(tint.NewTextHandler(w, &tint.Options{Level: l, TimeFormat: "15:04:05.000", NoColor: !color}))
	}
	return slog.New(slog.NewJSONHandler(w, &slog.HandlerOptions{Level: l, ReplaceAttr: jsonAttr}))
}

// jsonAttr writes times in UTC and durations as text with a unit.
func jsonAttr(_ []string, at slog.Attr) slog.Attr {
	switch at.Value.Kind() {
	case slog.KindTime:
		return slog.Time(at.Key, at.Value.Time().UTC())
	case slog.KindDuration:
		return slog.String(at.Key, at.Value.Duration().Round(time.Microsecond).String())
	default:
		return at
	}
}

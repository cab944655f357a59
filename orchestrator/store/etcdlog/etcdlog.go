// Package etcdlog passes what etcd's client and server log through zap to our slog.Logger.
//
// Level: adapter between two loggers; it knows nothing else.
//
// etcd is talkative, and its "info" is our "debug": only warnings and errors are passed on, each as it is with its
// fields, except for a few warnings about set-ups that we choose on purpose.
package etcdlog

import (
	"context"
	"log/slog"
	"slices"
	"strings"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// New makes a zap logger that writes entries of the given level (zapcore.WarnLevel and up, or a zap.AtomicLevel
// that is changed later) to log, except those whose message
// contains one of drop. An entry at zap's fatal level ends the process, as etcd expects: it logs such an entry when it
// cannot vouch for its data any more.
func New(log *slog.Logger, level zapcore.LevelEnabler, drop ...string) *zap.Logger {
	return zap.New(&core{handler: log.Handler(), level: level, drop: drop}, zap.ErrorOutput(zapcore.AddSync(discard{})))
}

type discard struct{}

func (discard) Write(p []byte) (int, error) { return len(p), nil }

type core struct {
	handler slog.Handler
	level   zapcore.LevelEnabler
	drop    []string
}

func (c *core) Enabled(l zapcore.Level) bool { return c.level.Enabled(l) }

func (c *core) With(fields []zapcore.Field) zapcore.Core {
	return &core{handler: c.handler.WithAttrs(attrs(fields)), level: c.level, drop: c.drop}
}

func (c *core) Check(e zapcore.Entry, ce *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	dropped := slices.ContainsFunc(c.drop, func(part string) bool { return strings.Contains(e.Message, part) })
	if !c.Enabled(e.Level) || dropped {
		return ce
	}
	return ce.AddCore(e, c)
}

func (c *core) Write(e zapcore.Entry, fields []zapcore.Field) error {
	level := slogLevel(e.Level)
	ctx := context.TODO() //nolint:forbidigo // zap's Core carries none
	if !c.handler.Enabled(ctx, level) {
		return nil
	}
	at := e.Time
	if at.IsZero() {
		at = time.Now()
	}
	r := slog.NewRecord(at, level, e.Message, 0)
	r.AddAttrs(attrs(fields)...)
	return c.handler.Handle(ctx, r)
}

func (c *core) Sync() error { return nil }

func slogLevel(l zapcore.Level) slog.Level {
	switch {
	case l >= zapcore.ErrorLevel:
		return slog.LevelError
	case l == zapcore.WarnLevel:
		return slog.LevelWarn
	case l == zapcore.InfoLevel:
		return slog.LevelInfo
	}
	return slog.LevelDebug
}

func attrs(fields []zapcore.Field) []slog.Attr {
	enc := zapcore.NewMapObjectEncoder()
	names := make([]string, 0, len(fields))
	for _, f := range fields {
		f.AddTo(enc)
		names = append(names, f.Key)
	}
	out := make([]slog.Attr, 0, len(names))
	for _, name := range names {
		key := name
		if key == "error" {
			key = "err"
		}
		if v, ok := enc.Fields[name]; ok {
			out = append(out, slog.Any(snake(key), v))
		}
	}
	return out
}

// snake turns etcd's "local-member-id" into our "local_member_id".
func snake(key string) string {
	b := []byte(key)
	for i, c := range b {
		if c == '-' || c == ' ' {
			b[i] = '_'
		}
	}
	return string(b)
}

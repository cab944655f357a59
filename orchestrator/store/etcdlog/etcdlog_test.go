package etcdlog_test

import (
	"bytes"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/multicoord/multicoord/orchestrator/store/etcdlog"
)

func TestWarningsArePassedOnWithTheirFieldsAndNothingBelow(t *testing.T) {
	var b bytes.Buffer
	log := etcdlog.New(slog.New(slog.NewTextHandler(&b, nil)).With("part", "etcd"), zapcore.WarnLevel, "known noise")
	log.Debug("x")
	log.Info("x")
	log.Warn("known noise")
	assert.Empty(t, b.String())

	log.With(zap.String("local-member-id", "7")).Warn("slow", zap.Duration("took", time.Second), zap.Error(errors.New("disk")), zap.Strings("urls", []string{"a", "b"}))
	for _, want := range []string{"level=WARN", "msg=slow", "part=etcd", "local_member_id=7", "took=1s", "err=disk", "urls="} {
		assert.Contains(t, b.String(), want)
	}
	assert.Equal(t, 1, strings.Count(b.String(), "\n"))
	b.Reset()
	log.Error("bad")
	assert.Contains(t, b.String(), "level=ERROR")
}

func TestTheLevelCanBeRaisedLater(t *testing.T) {
	var b bytes.Buffer
	level := zap.NewAtomicLevelAt(zapcore.WarnLevel)
	log := etcdlog.New(slog.New(slog.NewTextHandler(&b, nil)), level)
	level.SetLevel(zapcore.FatalLevel)
	log.Error("closing")
	assert.Empty(t, b.String())
}

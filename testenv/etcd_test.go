package testenv

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestEtcdOfThreeMembersLivesThroughTheLossOfOne(t *testing.T) {
	env := New(t)
	etcd := env.Etcd(EtcdOptions{Members: 3})
	etcd.Members[0].Kill()
	etcd.WaitReady()
	etcd.Restart(0)
	etcd.WaitReady()
}

func TestEtcdWithTLSAndUserRefusesStrangers(t *testing.T) {
	env := New(t)
	etcd := env.Etcd(EtcdOptions{TLS: true, Auth: true})
	etcd.WaitReady()
	require.Len(t, etcd.environ(), 6, "endpoints, three files, user and password file")

	stranger := *etcd
	stranger.User, stranger.Password = "", ""
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	_, err := stranger.Client().Get(ctx, "ready")
	require.Error(t, err)
}

func TestFrozenEtcdAnswersAgainWhenItIsThawed(t *testing.T) {
	env := New(t)
	etcd := env.Etcd(EtcdOptions{})
	client := etcd.Client()
	etcd.Freeze()
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	_, err := client.Get(ctx, "ready")
	require.ErrorIs(t, err, context.DeadlineExceeded)
	etcd.Thaw()
	etcd.WaitReady()
}

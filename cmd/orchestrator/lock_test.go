package main

import (
	"context"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestAReleasedFolderNamesNobody(t *testing.T) {
	dir := t.TempDir()
	l, err := lockDir(dir)
	require.NoError(t, err)
	b, err := os.ReadFile(filepath.Join(dir, lockFileName))
	require.NoError(t, err)
	require.Equal(t, strconv.Itoa(os.Getpid())+"\n", string(b))
	l.release()
	b, err = os.ReadFile(filepath.Join(dir, lockFileName))
	require.NoError(t, err)
	require.Empty(t, b)
}

func TestAHolderIsNamedOnlyIfItHasTheLockOpen(t *testing.T) {
	dir := t.TempDir()
	l, err := lockDirFor(dir, "down")
	require.NoError(t, err)
	defer l.release()
	_, err = lockDir(dir)
	var held *lockedError
	require.ErrorAs(t, err, &held)
	require.Equal(t, lockedError{dir, os.Getpid(), "down"}, *held)

	// What a killed holder has left is by now the number of another process.
	require.NoError(t, os.WriteFile(filepath.Join(dir, lockFileName), []byte(strconv.Itoa(os.Getppid())+"\n"), 0o600))
	_, err = lockDir(dir)
	require.ErrorAs(t, err, &held)
	require.Zero(t, held.pid)
	require.ErrorContains(t, err, "by another process")
	stale := &lockedError{dir: dir, pid: os.Getppid()}
	require.NoError(t, stale.endHolder(), "and is not told to end")
}

func TestADeletedLockIsNobodysLock(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, lockFileName)
	l, err := lockDir(dir)
	require.NoError(t, err)
	f, err := os.Open(path)
	require.NoError(t, err)
	defer f.Close()
	require.True(t, inPlace(f))
	require.NoError(t, os.Remove(path))
	require.False(t, inPlace(f))
	again, err := lockDir(dir)
	require.NoError(t, err, "the folder's new lock is free")
	again.release()
	l.release()
}

func TestWhoeverWaitsGetsTheFolderWhenItsHolderEnds(t *testing.T) {
	dir := t.TempDir()
	l, err := lockDir(dir)
	require.NoError(t, err)
	short, cancel := context.WithTimeout(t.Context(), 60*time.Millisecond)
	defer cancel()
	_, err = waitLock(short, dir, "")
	require.ErrorContains(t, err, "did not end in time")
	got := make(chan error, 1)
	go func() {
		next, err := waitLock(t.Context(), dir, "")
		if err == nil {
			next.release()
		}
		got <- err
	}()
	l.release()
	require.NoError(t, <-got)
}

package store_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/multicoord/multicoord/orchestrator/store"
)

func TestTimesToLiveAreRoundedUpToWholeSeconds(t *testing.T) {
	for in, want := range map[time.Duration]time.Duration{
		-time.Hour: time.Second, 0: time.Second, 1: time.Second, time.Second: time.Second,
		time.Second + 1: 2 * time.Second, 5 * time.Second: 5 * time.Second, 1500 * time.Millisecond: 2 * time.Second,
	} {
		assert.Equal(t, want, store.WholeSeconds(in), in)
	}
}

func TestACloneSharesNothing(t *testing.T) {
	st := store.State{Revision: 2, Items: map[string]store.Item{"a": {Key: "a", Value: []byte("1")}}}
	c := st.Clone()
	c.Items["a"].Value[0] = 'x'
	delete(c.Items, "a")
	assert.Equal(t, "1", string(st.Items["a"].Value))
}

func TestLatestReplacesAndNeverBlocks(t *testing.T) {
	l := store.NewLatest[int]()
	for i := range 100 {
		l.Send(i)
	}
	l.Close()
	v, ok := <-l.C()
	assert.True(t, ok)
	assert.Equal(t, 99, v)
	_, ok = <-l.C()
	assert.False(t, ok)
}

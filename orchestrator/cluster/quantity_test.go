package cluster

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func TestDurationsReadBackAsWritten(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0: "0s", 5 * time.Minute: "5m", 24 * time.Hour: "24h", 90 * time.Second: "1m30s", time.Hour + time.Minute: "1h1m",
		10 * time.Second: "10s", 200 * time.Millisecond: "200ms", time.Hour + 30*time.Second: "1h0m30s", 20 * time.Minute: "20m",
	} {
		require.Equal(t, want, Duration(d).String())
	}
	rapid.Check(t, func(t *rapid.T) {
		d := Duration(rapid.Int64().Draw(t, "d"))
		text, _ := d.MarshalText()
		var got Duration
		require.NoError(t, got.UnmarshalText(text))
		require.Equal(t, d, got)
	})
	var d Duration
	require.EqualError(t, d.UnmarshalText([]byte("5")), `"5" is not a duration; write a number and a unit, such as 500ms or 5s`)
}

func TestSizesReadBackAsWritten(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b := Bytes(rapid.Int64Range(0, 1<<62).Draw(t, "b"))
		text, _ := b.MarshalText()
		var got Bytes
		require.NoError(t, got.UnmarshalText(text), "%s", text)
		require.Equal(t, b, got)
	})
	for text, want := range map[string]Bytes{"16MB": 16 << 20, "1 gb": 1 << 30, "64kb": 64 << 10, "7": 7, "7B": 7} {
		var b Bytes
		require.NoError(t, b.UnmarshalText([]byte(text)))
		require.Equal(t, want, b, text)
	}
	for _, text := range []string{"", "MB", "-1MB", "1.5GB", "9999999TB", "16 M"} {
		var b Bytes
		require.Error(t, b.UnmarshalText([]byte(text)), text)
	}
}

func TestLSNsReadBackAsWritten(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		l := LSN(rapid.Uint64().Draw(t, "l"))
		got, err := ParseLSN(l.String())
		require.NoError(t, err)
		require.Equal(t, l, got)
	})
	for _, text := range []string{"", "16", "/", "16/", "123456789/0", "x/1", "1/-1"} {
		_, err := ParseLSN(text)
		require.Error(t, err, text)
	}
	require.Equal(t, uint64(0), LSN(5).Behind(3))
	require.Equal(t, uint64(2), LSN(3).Behind(5))
}

func TestASpecSurvivesJSON(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		full, err := genSpec(t).Complete()
		require.NoError(t, err)
		text, err := json.Marshal(full)
		require.NoError(t, err)
		var got Spec
		require.NoError(t, json.Unmarshal(text, &got))
		require.Equal(t, full, got)
	})
}

package specfile

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/multicoord/multicoord/orchestrator/cluster"
)

func TestEncodedSpecsReadBackTheSame(t *testing.T) {
	full, err := cluster.DefaultSpec().Complete()
	require.NoError(t, err)
	for name, spec := range map[string]cluster.Spec{
		"default":   cluster.DefaultSpec(),
		"completed": full,
	} {
		t.Run(name, func(t *testing.T) {
			var b strings.Builder
			require.NoError(t, Encode(&b, spec))
			t.Log(b.String())
			got, err := Decode(strings.NewReader(b.String()), "x")
			require.NoError(t, err)
			require.Equal(t, spec, got)
		})
	}
}

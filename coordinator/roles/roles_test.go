package roles

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// The credentials of RFC 7677, section 3 (password 'pencil'), in PostgreSQL's form.
const pencil = "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU="

func TestAVerifierFitsItsPasswordAndNoOther(t *testing.T) {
	require.True(t, fits(pencil, "pencil"))
	require.False(t, fits(pencil, "pencils"))
	v, err := newVerifier("s3cret")
	require.NoError(t, err)
	require.True(t, fits(v, "s3cret"))
	for _, broken := range []string{"", "md5abc", "SCRAM-SHA-256$x:y$z", "SCRAM-SHA-256$0:AA==$AA==:AA==", "SCRAM-SHA-256$4096:*$AA==:AA=="} {
		require.False(t, fits(broken, "s3cret"), broken)
	}
}

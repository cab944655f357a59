package route

import (
	"time"

	"github.com/multicoord/multicoord/orchestrator/cluster"
)

// Token is what a session's reads must not fall behind. The zero token asks for nothing. It belongs to one session and is not
// safe for concurrent use.
type Token struct {
	wrote time.Time // of the last write that is not located yet; zero when there is none
	// The position that a standby must have replayed; zero lsn for none.
	systemID string
	timeline uint32
	lsn      cluster.LSN
}

// Wrote notes that a write, or a transaction that may have written, has completed at this moment (when its answer
// was read from the server, by the clock of the samples).
func (tk *Token) Wrote(at time.Time) {
	if at.After(tk.wrote) {
		tk.wrote = at
	}
}

// Saw notes that a read was answered by this server, so that the session's next read does not go to a standby that was known to be
// behind it. That is a guard against going back in time from a fresh standby to one that lags; between two samples a
// session may still see a little less than before.
func (tk *Token) Saw(s *Server) {
	if tk.pending() || s.Role != cluster.Standby || s.LSN == 0 {
		return
	}
	if tk.lsn == 0 || (tk.systemID == s.SystemID && tk.timeline == s.Timeline && tk.lsn < s.LSN) {
		tk.systemID, tk.timeline, tk.lsn = s.SystemID, s.Timeline, s.LSN
	}
}

func (tk *Token) pending() bool { return !tk.wrote.IsZero() }

// Resolve learns the position of the last write from a sample of the primary that began after it. A position on a timeline that the
// primary has left is given up for one that is yet to be learned on the new timeline, which holds all that has survived.
func (tk *Token) Resolve(t *Table) {
	p := t.Primary
	if p == nil || (tk.lsn == 0 && !tk.pending()) {
		return
	}
	if !tk.pending() && (tk.systemID != p.SystemID || tk.timeline != p.Timeline) {
		tk.wrote, tk.lsn = t.At, 0
	}
	if tk.pending() && p.SampleBegan.After(tk.wrote) {
		*tk = Token{systemID: p.SystemID, timeline: p.Timeline, lsn: p.LSN}
	}
}

// satisfied tells that s has replayed what the token asks for.
func (tk *Token) satisfied(s *Server) bool {
	if tk.pending() {
		return false
	}
	return tk.lsn == 0 || (s.SystemID == tk.systemID && s.Timeline == tk.timeline && reached(s.LSN, tk.lsn))
}

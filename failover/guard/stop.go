package guard

import (
	"time"

	"golang.org/x/sys/unix"
)

// rung is one step of a stop: a signal for the postmaster, and how long it may take. SIGKILL goes to all processes and
// is repeated.
type rung struct {
	signal unix.Signal
	wait   time.Duration
}

// Rounds of SIGKILL follow each other after killAgain, then ever more slowly: a process in an uninterruptible state (a disk that
// does not answer) may take any time to die.
const (
	killAgain    = 20 * time.Millisecond
	killAgainMax = time.Second
)

// ladder lists the steps of a stop. timeout bounds a smart and a fast one, immediate the one after.
func ladder(mode StopMode, timeout, immediate time.Duration) []rung {
	steps := []rung{
		{unix.SIGTERM, timeout},
		{unix.SIGINT, timeout},
		{unix.SIGQUIT, immediate},
		{unix.SIGKILL, killAgain},
	}
	return steps[urgency(mode):]
}

// fenceLadder is for a primary whose right has ended.
func fenceLadder(killAfter time.Duration) []rung {
	return []rung{{unix.SIGQUIT, killAfter}, {unix.SIGKILL, killAgain}}
}

func urgency(mode StopMode) int {
	switch mode {
	case Smart:
		return 0
	case Fast:
		return 1
	}
	return 2
}

// fenceUrgency is above all modes.
const fenceUrgency = 3

// stopping is a stop under way.
type stopping struct {
	reason  string
	urgency int
	rungs   []rung
}

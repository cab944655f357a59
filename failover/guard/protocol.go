package guard

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/multicoord/multicoord/failover"
)

// A connection carries one request and one response, each a line of JSON.
const (
	maxLine        = 16 << 10
	maxConnections = 64
	requestTimeout = 5 * time.Second
	// answerTimeout is how long a client waits for an answer that the guard has ready at once.
	answerTimeout = 2 * time.Second
)

// StopMode is how a server is asked to stop.
type StopMode string

// PostgreSQL's three ways to stop.
const (
	// Smart waits for all sessions to end.
	Smart StopMode = "smart"
	// Fast ends sessions, writes a checkpoint and ships it to connected standbys.
	Fast StopMode = "fast"
	// Immediate ends everything at once; the next start recovers from the WAL.
	Immediate StopMode = "immediate"
)

type request struct {
	Op string `json:"op"`
	// Instance is the guard that the sender means; another one refuses.
	Instance string        `json:"instance,omitempty"`
	Term     uint64        `json:"term,omitempty"`
	Deadline Instant       `json:"deadline,omitempty"`
	Mode     StopMode      `json:"mode,omitempty"`
	Timeout  time.Duration `json:"timeout,omitempty"`
}

type response struct {
	Error  string  `json:"error,omitempty"`
	Kind   string  `json:"kind,omitempty"`
	Status *Status `json:"status,omitempty"`
	Exit   *Exit   `json:"exit,omitempty"`
}

// Status is a guard's answer about itself and its server.
type Status struct {
	// Instance names this run of the guard.
	Instance      string    `json:"instance"`
	GuardPID      int       `json:"guard_pid"`
	PostmasterPID int       `json:"postmaster_pid"`
	DataDir       string    `json:"data_dir"`
	StartedAt     time.Time `json:"started_at"`
	Term          uint64    `json:"term"`
	DeadlineNanos Instant   `json:"deadline_nanos"`
	Fenced        bool      `json:"fenced,omitempty"`
	// Primary: there is no standby.signal in the data directory, or there was none at some time since the start.
	Primary bool `json:"primary"`
	// Stopping is the reason of a stop under way; empty while the server may run.
	Stopping string `json:"stopping,omitempty"`
}

// Exit is how a server ended: the exit record.
type Exit struct {
	Node          string    `json:"node"`
	PostmasterPID int       `json:"postmaster_pid,omitempty"`
	StartedAt     time.Time `json:"started_at,omitzero"`
	EndedAt       time.Time `json:"ended_at"`
	// Code is the exit code, -1 if a signal ended the postmaster or it was never started.
	Code   int    `json:"code"`
	Signal string `json:"signal,omitempty"`
	// Reason is why the guard stopped the server, or that it ended by itself.
	Reason string `json:"reason"`
	// Requested: the stop was asked for (Stop, SIGTERM). Fenced: the guard stopped a primary whose right had ended.
	Requested bool    `json:"requested,omitempty"`
	Fenced    bool    `json:"fenced,omitempty"`
	Term      uint64  `json:"term,omitempty"`
	Deadline  Instant `json:"deadline,omitempty"`
}

// Clean tells whether the server shut down in order (a checkpoint at the end, no recovery at the next start).
func (e Exit) Clean() bool { return e.Code == 0 }

// String is a sentence for logs and status.
func (e Exit) String() string {
	how := fmt.Sprintf("exit code %d", e.Code)
	switch {
	case e.PostmasterPID == 0:
		how = "not started"
	case e.Signal != "":
		how = e.Signal
	}
	return fmt.Sprintf("%s (%s)", e.Reason, how)
}

// Sentinels of the client.
var (
	// ErrNotRunning: no guard answers on the socket.
	ErrNotRunning = errors.New("no guard is running")
	// ErrNoAnswer: there is a guard, but it does not answer (stopped by SIGSTOP, say). It cannot be relied upon to stop
	// its server: whoever knows that the server must not go on has to end it without the guard.
	ErrNoAnswer = errors.New("the guard does not answer")
	// ErrStopping: the server is already on its way down; the request came too late.
	ErrStopping = errors.New("the server is already being stopped")
	// ErrStaleTerm and ErrFenced are failover's.
	ErrStaleTerm = failover.ErrStaleTerm
	ErrFenced    = failover.ErrFenced
)

var kinds = []struct {
	name string
	err  error
}{
	{"stale_term", ErrStaleTerm}, {"fenced", ErrFenced}, {"stopping", ErrStopping}, {"not_running", ErrNotRunning},
}

func failure(err error) response {
	r := response{Error: err.Error()}
	for _, k := range kinds {
		if errors.Is(err, k.err) {
			r.Kind = k.name
		}
	}
	return r
}

// remoteError is an error that a guard has answered with; it unwraps to the sentinel of its kind.
type remoteError struct {
	text string
	kind error
}

func (e *remoteError) Error() string { return e.text }
func (e *remoteError) Unwrap() error { return e.kind }

func (r response) err() error {
	if r.Error == "" {
		return nil
	}
	e := &remoteError{text: r.Error}
	for _, k := range kinds {
		if k.name == r.Kind {
			e.kind = k.err
		}
	}
	return e
}

// readLine decodes one line of at most maxLine bytes into v.
func readLine(r io.Reader, v any) error {
	line, err := bufio.NewReaderSize(io.LimitReader(r, maxLine), 4096).ReadBytes('\n')
	if err != nil {
		return err
	}
	return json.Unmarshal(line, v)
}

func writeLine(w io.Writer, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	_, err = w.Write(append(b, '\n'))
	return err
}

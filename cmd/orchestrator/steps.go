package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"io"
	"sync"
)

// steps shows the steps of a start. It is a progress on this process's terminal, or a pipe to the process that asked
// for a detached start and shows them there.
type steps interface {
	// Begin opens a step.
	Begin(name string) openStep
	// Say tells the user something besides.
	Say(line string)
	// Ready says that the start is over, with what the user should read.
	Ready(text string)
}

// openStep is a step between its beginning and its end.
type openStep interface {
	// Note shows what the step is waiting for.
	Note(text string)
	// End closes the step, with an error if it failed.
	End(err error)
}

// shownSteps are shown by a progress, which begins with the first of them.
type shownSteps struct {
	a *app

	mu sync.Mutex
	p  *progress // nil before the first step
}

func (s *shownSteps) progress() *progress {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.p == nil {
		s.p = s.a.startProgress()
	}
	return s.p
}

// close ends what is shown.
func (s *shownSteps) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.p != nil {
		s.a.stopProgress(s.p)
	}
}

func (s *shownSteps) Begin(name string) openStep { return shownStep{s.progress().Start(name)} }

func (s *shownSteps) Say(line string) { s.progress().Note(line) }

type shownStep struct{ *progressStep }

func (s shownStep) End(err error) {
	if err != nil {
		s.Fail(err)
		return
	}
	s.progressStep.Note("")
	s.Done()
}

func (s *shownSteps) Ready(text string) {
	s.close()
	_, _ = io.WriteString(s.a.stdout, text)
}

// stepEvent is a line on the pipe between a detached process and the one that waits for it.
type stepEvent struct {
	ID    int     `json:"id,omitempty"`
	Begin string  `json:"begin,omitempty"`
	Note  *string `json:"note,omitempty"`
	End   bool    `json:"end,omitempty"`
	Say   string  `json:"say,omitempty"`
	Ready bool    `json:"ready,omitempty"`
	Text  string  `json:"text,omitempty"`
	Err   string  `json:"err,omitempty"`
}

// pipedSteps writes the steps to a pipe, one JSON object a line. A reader that has gone is no error: the start goes on.
type pipedSteps struct {
	mu   sync.Mutex
	enc  *json.Encoder
	pipe io.Closer
	next int
}

func newPipedSteps(pipe io.WriteCloser) *pipedSteps {
	return &pipedSteps{enc: json.NewEncoder(pipe), pipe: pipe}
}

func (s *pipedSteps) send(e stepEvent) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.enc != nil {
		_ = s.enc.Encode(e) // the reader may have gone
	}
}

func (s *pipedSteps) Begin(name string) openStep {
	s.mu.Lock()
	s.next++
	st := &pipedStep{s: s, id: s.next}
	s.mu.Unlock()
	s.send(stepEvent{ID: st.id, Begin: name})
	return st
}

func (s *pipedSteps) Say(line string) { s.send(stepEvent{Say: line}) }

type pipedStep struct {
	s  *pipedSteps
	id int
}

func (p *pipedStep) Note(text string) { p.s.send(stepEvent{ID: p.id, Note: &text}) }

func (p *pipedStep) End(err error) {
	e := stepEvent{ID: p.id, End: true}
	if err != nil {
		e.Err = err.Error()
	}
	p.s.send(e)
}

func (s *pipedSteps) Ready(text string) {
	s.send(stepEvent{Ready: true, Text: text})
	s.close()
}

// fail tells the reader why the start ended, and closes the pipe.
func (s *pipedSteps) fail(err error) {
	s.send(stepEvent{Ready: true, Err: err.Error()})
	s.close()
}

func (s *pipedSteps) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.enc != nil {
		s.enc = nil
		_ = s.pipe.Close()
	}
}

// errStartEnded: the detached process ended without a word.
var errStartEnded = errors.New("the process ended before the cluster was ready")

// showPiped reads the events of a detached process until it is ready, and shows them. The error is the one that the
// process gave, or errStartEnded.
func showPiped(r io.Reader, to steps) error {
	open := map[int]openStep{}
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var e stepEvent
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			continue
		}
		switch {
		case e.Ready && e.Err != "":
			return errors.New(e.Err)
		case e.Ready:
			to.Ready(e.Text)
			return nil
		case e.Say != "":
			to.Say(e.Say)
		case e.Begin != "":
			open[e.ID] = to.Begin(e.Begin)
		case open[e.ID] == nil:
		case e.Note != nil:
			open[e.ID].Note(*e.Note)
		case e.End && e.Err != "":
			open[e.ID].End(errors.New(e.Err))
		case e.End:
			open[e.ID].End(nil)
		}
	}
	return errStartEnded
}

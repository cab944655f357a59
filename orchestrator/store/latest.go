package store

// Latest is a channel of one value that is replaced, not queued: a slow reader gets the newest value and never
// holds up the writer. It has one writer.
type Latest[T any] struct{ ch chan T }

// NewLatest makes an empty one.
func NewLatest[T any]() Latest[T] { return Latest[T]{ch: make(chan T, 1)} }

// C is the reader's end.
func (l Latest[T]) C() <-chan T { return l.ch }

// Send replaces what has not been read yet. It never blocks.
func (l Latest[T]) Send(v T) {
	select {
	case <-l.ch:
	default:
	}
	l.ch <- v // room for one: there is no other writer
}

// Close ends the channel; what was sent last can still be read.
func (l Latest[T]) Close() { close(l.ch) }

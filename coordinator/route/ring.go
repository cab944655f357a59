package route

import (
	"sort"
	"time"

	"github.com/multicoord/multicoord/orchestrator/cluster"
)

// mark says that the primary had reached lsn not later than a query that began at began was answered, and that nothing after
// lsn had been written by then.
type mark struct {
	began time.Time
	lsn   cluster.LSN
}

// ring is the primary's recent past on one timeline: marks in the order of both time and position. When it is full the
// older half is thinned, so that it reaches far back with less precision; a standby's lag is then overstated, never
// understated.
type ring struct {
	marks []mark
}

// ringSize is enough for more than three minutes of full precision at the default check interval.
const ringSize = 1024

// add takes the newest sample. The same position again moves its moment on: that is what makes the lag exact on an idle
// primary. A position that went back (a crash lost what was not flushed, which no standby can have) takes the marks
// above it away.
func (r *ring) add(began time.Time, lsn cluster.LSN) {
	if n := len(r.marks); n > 0 && !began.After(r.marks[n-1].began) {
		return
	}
	for n := len(r.marks); n > 0 && r.marks[n-1].lsn >= lsn; n-- {
		r.marks = r.marks[:n-1]
	}
	if len(r.marks) >= ringSize {
		kept := r.marks[:0]
		for i, m := range r.marks {
			if i >= ringSize/2 || i%2 == 0 {
				kept = append(kept, m)
			}
		}
		r.marks = kept
	}
	r.marks = append(r.marks, mark{began: began, lsn: lsn})
}

func (r *ring) newest() (mark, bool) {
	if len(r.marks) == 0 {
		return mark{}, false
	}
	return r.marks[len(r.marks)-1], true
}

// proof finds the newest mark that a standby at lsn has replayed, and the mark after it (the zero mark if there is none).
func (r *ring) proof(lsn cluster.LSN) (have, after mark, ok bool) {
	i := sort.Search(len(r.marks), func(i int) bool { return !reached(lsn, r.marks[i].lsn) })
	if i == 0 {
		return mark{}, mark{}, false
	}
	if i < len(r.marks) {
		after = r.marks[i]
	}
	return r.marks[i-1], after, true
}

// oldest is the beginning of what the ring knows.
func (r *ring) oldest() time.Time {
	if len(r.marks) == 0 {
		return time.Time{}
	}
	return r.marks[0].began
}

// Sizes of the log's pages, of their headers, and of the largest segment (src/include/access/xlog_internal.h). The first page
// of a segment has the long header; the largest segment's size divides into segments of any size.
const (
	walPage        = 8192
	walShortHeader = 24
	walLongHeader  = 40
	walMaxSegment  = 1 << 30
)

// reached tells that replayed covers everything up to head. As soon as a page is full the insert position stands behind the
// next page's header, while what can be replayed ends where that page begins: the header between them holds nothing.
func reached(replayed, head cluster.LSN) bool {
	if replayed >= head {
		return true
	}
	if head%walPage == walShortHeader || head%walMaxSegment == walLongHeader {
		return replayed >= head-head%walPage
	}
	return false
}

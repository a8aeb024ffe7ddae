package fanout

import (
	"runtime/debug"
	"sort"
	"sync"

	"github.com/eventissuer/eventissuer/internal/event"
	"github.com/eventissuer/eventissuer/internal/filter"
)

// view is a filtered log of the ring, shared by all readers with equal filters: the sequence numbers of the entries
// from since on that match. The view of everything keeps no list; it is the ring itself.
type view struct {
	lot
	// static
	key     string
	filter  *filter.Filter // nil: everything
	only    int32          // the one partition that its readers see; everyPartition: all
	picture bool           // its readers are told, too, what goes away: they have a picture of what is true now
	since   uint64

	// guarded by the hub's views lock
	readers int
	at      uint64 // one above the last entry that it was found to match

	panicked func(value any, stack []byte) // static: a filter failed by a mistake of the server

	// written under the hub's ring lock, read under its read lock
	matches  []uint64
	head     int    // matches[:head] have left the ring
	trimmed  uint64 // one above the highest match that has left the ring
	unlisted bool   // no list is kept: readers look at each entry themselves
	last     uint64 // while unlisted: one above the last match
}

// lot is where readers are parked that are woken together.
type lot struct {
	mu     sync.Mutex
	parked []*Reader // by shard: heads of doubly linked lists; guarded by mu
}

func newLot(shards int) lot { return lot{parked: make([]*Reader, shards+1)} }

const everyPartition int32 = -1

// whole says that the view is the ring itself.
func (v *view) whole() bool { return v.filter == nil && v.only == everyPartition }

// sees reports whether the view's readers see a partition at all.
func (v *view) sees(partition int32) bool { return v.only == everyPartition || v.only == partition }

// wants reports whether the view's readers are to get an event. Where the filter itself fails they do: what it would have
// said is not known, and nothing may be lost.
func (v *view) wants(e *event.Event) bool { return wanted(v.filter, e, v.panicked) }

// wanted is wants of a filter; nil is everything.
func wanted(f *filter.Filter, e *event.Event, panicked func(value any, stack []byte)) (is bool) {
	if f == nil {
		return true
	}
	defer func() {
		if p := recover(); p != nil {
			panicked(p, debug.Stack())
			is = true
		}
	}()
	return f.Match(e)
}

// listBytes is what the list takes.
func (v *view) listBytes() int64 { return int64(8 * cap(v.matches)) }

// unlist drops the list. It is a matter of memory only: readers then do by themselves what it saved them.
func (v *view) unlist() {
	v.last = v.trimmed
	if n := len(v.matches); n > v.head {
		v.last = v.matches[n-1] + 1
	}
	v.unlisted, v.matches, v.head = true, nil, 0
}

// listed reports whether the list tells of the entry.
func (v *view) listed(seq uint64) bool { return !v.unlisted && seq >= v.since }

// add appends a match and forgets those that have left the ring.
func (v *view) add(seq, ringFirst uint64) {
	if v.whole() {
		return
	}
	if v.unlisted {
		v.last = seq + 1
		return
	}
	v.trim(ringFirst)
	if v.head > 32 && v.head > len(v.matches)/2 {
		v.matches = v.matches[:copy(v.matches, v.matches[v.head:])]
		v.head = 0
	}
	v.matches = append(v.matches, seq)
}

func (v *view) trim(ringFirst uint64) {
	for v.head < len(v.matches) && v.matches[v.head] < ringFirst {
		v.trimmed = v.matches[v.head] + 1
		v.head++
	}
}

// from returns the index of the first match at or above seq. Readers mostly stand near the end, so it looks there first.
func (v *view) from(seq uint64) int {
	m := v.matches
	n := len(m)
	if n == v.head || m[n-1] < seq {
		return n
	}
	for i := n - 1; i >= max(v.head, n-4); i-- {
		if m[i] < seq {
			return i + 1
		}
	}
	return v.head + sort.Search(n-v.head, func(i int) bool { return m[v.head+i] >= seq })
}

// missed reports whether a reader at seq would skip a match that has left the ring.
func (v *view) missed(seq, ringFirst uint64) bool {
	if seq >= ringFirst {
		return false
	}
	if v.whole() || seq < v.since {
		return true
	}
	if v.unlisted {
		return v.last > seq // perhaps it is in the ring still; then the log is read for nothing
	}
	if v.trimmed > seq {
		return true
	}
	i := v.from(seq)
	return i < len(v.matches) && v.matches[i] < ringFirst
}

func (l *lot) park(r *Reader) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if r.parked { // only another reader of its session was woken
		return
	}
	if head := l.parked[r.shard]; head != nil {
		head.prev = r
		r.next = head
	}
	l.parked[r.shard] = r
	r.parked = true
}

// unpark takes a reader out of its list, if it is still in one.
func (l *lot) unpark(r *Reader) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !r.parked {
		return
	}
	if r.prev != nil {
		r.prev.next = r.next
	} else {
		l.parked[r.shard] = r.next
	}
	if r.next != nil {
		r.next.prev = r.prev
	}
	r.next, r.prev, r.parked = nil, nil, false
}

// release empties the parked lists into wake, by shard.
func (l *lot) release(wake [][]*Reader) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for s, r := range l.parked {
		for r != nil {
			next := r.next
			r.next, r.prev, r.parked = nil, nil, false
			wake[s] = append(wake[s], r)
			r = next
		}
		l.parked[s] = nil
	}
}

package fanout

import (
	"slices"
	"sort"
)

// ring is the shared recent tail of a stream: entries in the hub's local order, numbered by seq.
// Entries [first, next) are in it. It grows as it needs to and is bounded in bytes by whoever appends.
type ring struct {
	buf   []kept // a power of two
	first uint64
	next  uint64
	bytes int64
	base  []int64 // the vector before the first entry
	left  []left  // what the state dropped, by the entry that had it do so
}

// kept is an entry in its place, with the event of its key that it took the place of: nil where there was none, or the
// hub keeps no state.
type kept struct{ entry, before *Entry }

func (k kept) bytes() int64 {
	n := k.entry.size()
	if k.before != nil {
		n += k.before.size() // which may be in the ring itself, or held by nothing else any more
	}
	return n
}

// left is an event that the state dropped when the entry at seq came.
type left struct {
	seq   uint64
	entry *Entry
}

func (g *ring) place(seq uint64) *kept { return &g.buf[seq&uint64(len(g.buf)-1)] }

func (g *ring) at(seq uint64) *Entry { return g.place(seq).entry }

// before is what the entry at seq took the place of, or nil.
func (g *ring) before(seq uint64) *Entry { return g.place(seq).before }

// leftAt returns what was dropped when the entry at seq came.
func (g *ring) leftAt(seq uint64) []left {
	if len(g.left) == 0 || g.left[len(g.left)-1].seq < seq {
		return nil
	}
	from := sort.Search(len(g.left), func(i int) bool { return g.left[i].seq >= seq })
	to := from
	for to < len(g.left) && g.left[to].seq == seq {
		to++
	}
	return g.left[from:to]
}

// append adds an entry and returns what that takes.
func (g *ring) append(e, before *Entry) int64 {
	if n := g.next - g.first; n == uint64(len(g.buf)) {
		grown := make([]kept, max(64, 2*n))
		for s := g.first; s < g.next; s++ {
			grown[s&uint64(len(grown)-1)] = *g.place(s)
		}
		g.buf = grown
	}
	k := g.place(g.next)
	*k = kept{e, before}
	g.next++
	g.bytes += k.bytes()
	return k.bytes()
}

// leave notes what the state dropped for entries that were just appended, and returns what that takes.
func (g *ring) leave(gone []left) (bytes int64) {
	g.left = append(g.left, gone...)
	for i := range gone {
		bytes += gone[i].entry.size()
	}
	g.bytes += bytes
	return bytes
}

// evict drops the first entry and returns what it took.
func (g *ring) evict() int64 {
	k := g.place(g.first)
	n := k.bytes()
	g.base = k.entry.vec
	*k = kept{}
	g.first++
	gone := 0
	for gone < len(g.left) && g.left[gone].seq < g.first {
		n += g.left[gone].entry.size()
		g.left[gone].entry = nil
		gone++
	}
	g.left = g.left[gone:]
	g.bytes -= n
	return n
}

// clear drops everything; what follows begins at base. Sequence numbers go on, so that no reader mistakes a new
// entry for one it knew.
func (g *ring) clear(base []int64) int64 {
	n := g.bytes
	g.buf, g.left, g.first, g.bytes, g.base = nil, nil, g.next, 0, slices.Clone(base)
	return n
}

// join returns the first entry that a reader at vec does not have wholly behind it. Vectors rise with seq, so
// "vec covers the entry's vector" holds for a prefix of the ring.
func (g *ring) join(vec []int64) uint64 {
	lo, hi := g.first, g.next
	for lo < hi {
		mid := lo + (hi-lo)/2
		if dominates(vec, g.at(mid).vec) {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	return lo
}

// widened is a vector with an element for each of n partitions at least: those that it says nothing of count as 0.
func widened(vec []int64, n int) []int64 {
	for len(vec) < n {
		vec = append(vec, 0)
	}
	return vec
}

// dominates reports a[i] >= b[i] for every i; missing elements count as 0.
func dominates(a, b []int64) bool {
	for i, v := range b {
		if v > 0 && (i >= len(a) || a[i] < v) {
			return false
		}
	}
	return true
}

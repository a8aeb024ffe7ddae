package fanout

import "slices"

// ring is the shared recent tail of a stream: entries in the hub's local order, numbered by seq.
// Entries [first, next) are in it. It grows as it needs to and is bounded in bytes by whoever appends.
type ring struct {
	buf   []*Entry // a power of two
	first uint64
	next  uint64
	bytes int64
	base  []int64 // the vector before the first entry
}

func (g *ring) at(seq uint64) *Entry { return g.buf[seq&uint64(len(g.buf)-1)] }

func (g *ring) append(e *Entry) {
	if n := g.next - g.first; n == uint64(len(g.buf)) {
		grown := make([]*Entry, max(64, 2*n))
		for s := g.first; s < g.next; s++ {
			grown[s&uint64(len(grown)-1)] = g.at(s)
		}
		g.buf = grown
	}
	g.buf[g.next&uint64(len(g.buf)-1)] = e
	g.next++
	g.bytes += e.size()
}

// evict drops the first entry and returns its size.
func (g *ring) evict() int64 {
	i := g.first & uint64(len(g.buf)-1)
	e := g.buf[i]
	g.buf[i] = nil
	g.first++
	g.base = e.vec
	n := e.size()
	g.bytes -= n
	return n
}

// clear drops everything; what follows begins at base. Sequence numbers go on, so that no reader mistakes a new
// entry for one it knew.
func (g *ring) clear(base []int64) int64 {
	n := g.bytes
	g.buf, g.first, g.bytes, g.base = nil, g.next, 0, slices.Clone(base)
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

// dominates reports a[i] >= b[i] for every i; missing elements count as 0.
func dominates(a, b []int64) bool {
	for i, v := range b {
		if v > 0 && (i >= len(a) || a[i] < v) {
			return false
		}
	}
	return true
}

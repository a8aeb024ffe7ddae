package loadtest

import "slices"

// maxSpans bounds what a ledger remembers of a lane's holes. Past it the oldest hole is final: it counts as lost
// whatever comes later, and what then comes late counts as a duplicate.
const maxSpans = 4096

// verdict is what one arrival was.
type verdict int

const (
	arrived    verdict = iota // new, and above everything before it in its lane
	late                      // new, but after one with a higher number: out of order
	duplicate                 // had been there before
	unexpected                // of a lane that this reader did not ask for
)

// span is the numbers from <= n < to.
type span struct{ from, to uint64 }

// lane is what one reader got of one sequence.
type lane struct {
	next    uint64 // one above the highest number seen
	begun   bool
	missing []span // holes below next, ascending
	final   uint64 // numbers lost in holes that are no longer remembered
}

// ledger is one reader's account of every lane that it reads, kept across its reconnects. It is owned by one goroutine.
type ledger struct {
	first int // the lane that lanes[0] stands for
	lanes []lane
	open  bool // the sequences began before this reader did: count from the first number seen
}

func newLedger(first, lanes int, open bool) ledger {
	return ledger{first: first, lanes: make([]lane, lanes), open: open}
}

// see enters an arrival.
func (g *ledger) see(m mark) verdict {
	i := m.lane - g.first
	if i < 0 || i >= len(g.lanes) {
		return unexpected
	}
	l := &g.lanes[i]
	if !l.begun {
		l.begun = true
		if g.open {
			l.next = m.seq
		}
	}
	switch {
	case m.seq == l.next:
		l.next++
		return arrived
	case m.seq > l.next:
		if len(l.missing) == maxSpans {
			l.final += l.missing[0].to - l.missing[0].from
			l.missing = slices.Delete(l.missing, 0, 1)
		}
		l.missing = append(l.missing, span{l.next, m.seq})
		l.next = m.seq + 1
		return arrived
	}
	for j, s := range l.missing {
		if m.seq < s.from || m.seq >= s.to {
			continue
		}
		switch {
		case s.to-s.from == 1:
			l.missing = slices.Delete(l.missing, j, j+1)
		case m.seq == s.from:
			l.missing[j].from++
		case m.seq == s.to-1:
			l.missing[j].to--
		default:
			l.missing[j].to = m.seq
			l.missing = slices.Insert(l.missing, j+1, span{m.seq + 1, s.to})
		}
		return late
	}
	return duplicate
}

// sequence is the publisher's side of a lane.
type sequence struct {
	end    uint64              // one above the last number sent
	doubts map[uint64]struct{} // numbers whose publishing failed or was never answered: nobody can say whether they should arrive
}

// lost counts the numbers that were published and did not arrive. An open ledger is held only to what it saw begin.
func (g *ledger) lost(sent []sequence) uint64 {
	var n uint64
	for i := range g.lanes {
		if g.first+i >= len(sent) {
			break
		}
		l, s := &g.lanes[i], sent[g.first+i]
		if g.open && !l.begun {
			continue
		}
		n += l.final
		for _, hole := range l.missing {
			n += missed(hole, s)
		}
		if s.end > l.next {
			n += missed(span{l.next, s.end}, s)
		}
	}
	return n
}

// stale counts the lanes whose last published number did not arrive.
func (g *ledger) stale(sent []sequence) uint64 {
	var n uint64
	for i := range g.lanes {
		if g.first+i >= len(sent) {
			break
		}
		l, s := &g.lanes[i], sent[g.first+i]
		end := s.end
		for end > 0 && has(s.doubts, end-1) {
			end--
		}
		if l.next < end && (!g.open || l.begun) {
			n++
		}
	}
	return n
}

func has(doubts map[uint64]struct{}, n uint64) bool {
	_, ok := doubts[n]
	return ok
}

func missed(hole span, s sequence) uint64 {
	n := hole.to - hole.from
	if n < uint64(len(s.doubts)) {
		for seq := hole.from; seq < hole.to; seq++ {
			if _, doubt := s.doubts[seq]; doubt {
				n--
			}
		}
		return n
	}
	for seq := range s.doubts {
		if seq >= hole.from && seq < hole.to {
			n--
		}
	}
	return n
}

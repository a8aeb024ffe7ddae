package push

import (
	"crypto/rand"
	"time"
)

// Rules of writing statements.
const (
	statementMost  = 512 << 10 // bytes
	writeEvery     = time.Second
	writeHeadEvery = 30 * time.Second
)

// chunk is what an owner knows of one chunk's statements. All fields are guarded by the partition's mu.
type chunk struct {
	tenure tenure
	floor  int64          // the chunk's head when it was loaded; lanes that are not listed are not below it
	old    []statementKey // of others, and of tenures given up: to be taken away once a statement of this one is acknowledged
	routes int            // of the stream; a chunk without any is not written

	lanes int // that are remembered
	items int // of all of them

	dirty   bool // a delivery ended since the last statement
	urgent  bool
	starved bool      // it was full, and a lane had to stop
	written time.Time // when the last one was sent off
	stated  int64     // its head
	pending *statement
}

func newTenure() (t tenure) {
	_, _ = rand.Read(t[:]) // never fails
	return t
}

// full reports whether the chunk's statement has no room for another event that is not done.
func (c *chunk) full() bool { return c.size() >= statementMost-statementMost/4 }

// size is about what the chunk's statement takes, in bytes.
func (c *chunk) size() int { return c.lanes*laneBytes + c.items*undoneBytes }

// feed has the lanes go on that stopped because their chunk was full, once it is not by far. mu is held.
func (p *partition) feed(n uint8) {
	c := &p.chunks[n]
	if !c.starved || 2*c.size() >= statementMost {
		return
	}
	c.starved = false
	for _, l := range p.lanes[n] {
		p.seek(l)
	}
}

// due reports whether a statement is to be written.
func (c *chunk) due(now time.Time, head int64, every time.Duration) bool {
	switch {
	case c.pending != nil || c.routes == 0 && c.lanes == 0:
		return false
	case c.urgent:
		return true
	case c.dirty:
		return now.Sub(c.written) >= every
	}
	return head > c.stated && now.Sub(c.written) >= writeHeadEvery
}

// statedHead is the head that a statement of a chunk has now.
func (p *partition) statedHead(c uint8) int64 { return max(p.head, p.chunks[c].floor) }

// state builds the chunk's statement, and notes what it shows. mu is held, so that it is of one moment.
func (p *partition) state(n uint8) *statement {
	c := &p.chunks[n]
	s := &statement{cat: p.engine.applied.Load(), cut: p.cut, head: p.statedHead(n)}
	for _, l := range p.lanes[n] {
		l.building = l.done
		if l.ordinary() {
			continue
		}
		of := listed{incarnation: l.route.life, laneState: laneState{next: l.position()}}
		if len(l.items) > 0 {
			of.undone = make([]undone, len(l.items))
			for i, item := range l.items {
				of.undone[i] = undone{item.offset, item.attempts}
			}
			// What lies above next is not said to be done in any case; a statement with it could not be read.
			for n := len(of.undone); n > 0 && of.undone[n-1].offset >= of.next; n-- {
				of.undone = of.undone[:n-1]
			}
		}
		s.lanes = append(s.lanes, of)
	}
	sortListed(s.lanes)
	c.pending, c.dirty, c.urgent = s, false, false
	return s
}

// acknowledged notes that the log has the chunk's statement, and returns the keys that are to be taken away now.
func (p *partition) acknowledged(n uint8) (old []statementKey) {
	c := &p.chunks[n]
	c.stated, c.pending = c.pending.head, nil
	for _, l := range p.lanes[n] {
		full := l.unshown() >= p.engine.laneMost
		l.shown = max(l.shown, l.building)
		if full && l.unshown() < p.engine.laneMost {
			l.point.offer(l)
		}
		p.forget(l)
	}
	old, c.old = c.old, nil
	return old
}

// unacknowledged notes that nobody knows whether the log has the chunk's statement, or will have it. What comes next is
// written under another key, which the late one cannot replace.
func (p *partition) unacknowledged(n uint8) {
	c := &p.chunks[n]
	c.pending = nil
	p.soil(n)
	c.old = append(c.old, p.key(n))
	c.tenure = newTenure()
}

func (p *partition) key(n uint8) statementKey {
	return statementKey{p.epoch, p.id, n, p.chunks[n].tenure}
}

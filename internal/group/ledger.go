package group

import (
	"time"

	"github.com/eventissuer/eventissuer/internal/fanout"
)

// given is a delivery as its session has it. The empty one is answered, or means nothing any more.
type given struct {
	item *item
	away *remoteGiven // where the item is on another replica; then item is nil
	n    int          // which attempt it is; 0: it was not taken yet
	said bool         // its session has acknowledged it; it stays in the ledger until that is known to be stored
}

// remoteGiven is a delivery that came from another replica.
type remoteGiven struct {
	from   *foreign
	offset int64
	bytes  []byte
	typ    string
	due    int64 // by Groups.due: then it is given to another
	open   bool  // it counts as outstanding
}

func (d *given) empty() bool { return d.item == nil && d.away == nil }

// Delivery is an event as a session gets it.
type Delivery struct {
	JSON    []byte // the event
	Type    string // its type
	Group   string // "<stream>/<partition>"
	Attempt int    // from 1
	Seq     uint64 // in the session, from 1

	entry *fanout.Entry // which JSON and Type are still to be taken from
}

const (
	ledgerMost  = 4 // times MaxUncommitted: deliveries that a session lets time out are remembered so far
	ledgerLeast = 4096
	unsaidMost  = 1024 // deliveries behind one that others have acknowledged, which the session may still do
)

// enter has a session given a delivery. The caller wakes it.
func (m *Member) enter(d given) {
	if most := max(ledgerMost*m.group.sub.MaxUncommitted, ledgerLeast); len(m.ledger) >= most {
		if m.trim(); len(m.ledger) >= most {
			m.finish(endingReconnect)
			m.void = true
		}
	}
	m.ledger = append(m.ledger, d)
}

// queued is how many deliveries the session has not looked at yet.
func (m *Member) queued() int { return int(m.seq + 1 - m.next) }

// entry returns a delivery, nil where it is answered or was never handed over. It is valid until the next one is entered.
func (m *Member) entry(seq uint64) *given {
	if seq < m.base || seq-m.base >= uint64(len(m.ledger)) {
		return nil
	}
	if d := &m.ledger[seq-m.base]; !d.empty() {
		return d
	}
	return nil
}

// strike takes a delivery out of the ledger: no cursor speaks for it any more.
func (m *Member) strike(seq uint64) {
	d := m.entry(seq)
	if d == nil {
		return
	}
	m.free(d)
	*d = given{}
}

// free has a delivery from another replica count as outstanding no longer.
func (m *Member) free(d *given) {
	if d.away != nil && d.away.open {
		d.away.open = false
		m.outstanding--
		m.abroad--
	}
}

// trim forgets the beginning of the ledger that is answered. What is done by the word of another session alone is not: that it
// is stored still is for a write to say, should this one say so too. Far behind the newest it is forgotten, and cannot be said
// any more.
func (m *Member) trim() {
	far := len(m.ledger) > unsaidMost
	n := 0
	for ; n < len(m.ledger); n++ {
		d := &m.ledger[n]
		if d.empty() {
			continue
		}
		if d.item == nil || d.item.phase != phaseDone || !d.said && !far {
			break
		}
		if !d.said {
			m.unsaid = m.base + uint64(n)
		}
	}
	clear(m.ledger[:n])
	m.base += uint64(n)
	if m.ledger = m.ledger[n:]; len(m.ledger) == 0 {
		m.ledger = nil
	}
}

// Take appends to dst what the session was given and has not taken, up to most events and about maxBytes. more says that
// there is more at once. What it returns has to be acknowledged in time from now on.
func (m *Member) Take(dst []Delivery, most, maxBytes int) (_ []Delivery, more bool) {
	m.group.mu.Lock()
	dst, more = m.handOver(dst, most, maxBytes)
	m.group.mu.Unlock()
	unfold(dst)
	return dst, more
}

// unfold has deliveries hold their events. It need not be done under the lock.
func unfold(deliveries []Delivery) {
	for k := range deliveries {
		if d := &deliveries[k]; d.entry != nil {
			d.JSON, d.Type, d.entry = d.entry.Event.JSON(), d.entry.Event.Type(), nil
		}
	}
}

// handOver is Take, but for unfold. The caller holds mu.
func (m *Member) handOver(dst []Delivery, most, maxBytes int) (_ []Delivery, more bool) {
	g := m.group
	now := time.Now()
	if g.checkLate(now) {
		return dst, false // what waits is given once the partitions are known to be still this replica's
	}
	if m.idle {
		m.idle = false
		g.groups.bus.announceSoon(g)
	}
	due := g.groups.due(g.sub.AckTimeout)
	from, bytes := len(dst), 0
	fresh, queued := 0, m.queued()
	defer func() {
		g.groups.m.delivered.Add(float64(fresh))
		if queued > queueMost/2 { // else whoever had something for the session has given it
			g.feedAll()
		}
	}()
	for m.next = max(m.next, m.base); m.queued() > 0; m.next++ {
		d := m.entry(m.next)
		if d == nil || d.said {
			continue
		}
		i, size := d.item, 0
		switch {
		case d.away != nil && d.away.open && d.away.due > g.groups.due(0):
			size = len(d.away.bytes)
		case i != nil && i.to == m && i.seq == m.next && i.phase == phaseGiven:
			if i.lane.suspect {
				return dst, false
			}
			size = i.size
		default: // It has come back meanwhile. The client may never have seen it: what it acknowledges is not this.
			m.strike(m.next)
			continue
		}
		if n := len(dst) - from; n >= most || n > 0 && bytes+size > maxBytes {
			return dst, true
		}
		bytes += size
		m.taken = max(m.taken, m.next)
		if d.away != nil {
			dst = append(dst, Delivery{JSON: d.away.bytes, Type: d.away.typ, Group: d.away.from.name, Attempt: d.n, Seq: m.next})
			if !m.session.Poll { // a poll may be repeated
				d.away.bytes = nil
			}
			continue
		}
		if d.n == 0 {
			i.lane.hand(i)
			d.n = i.n
			fresh++
		}
		i.due = due
		i.lane.soonest = min(i.lane.soonest, due) // it may have become shorter since it was given
		dst = append(dst, Delivery{Group: i.lane.name, Attempt: d.n, Seq: m.next, entry: i.entry})
	}
	return dst, false
}

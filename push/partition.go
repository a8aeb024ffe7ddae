package push

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/eventissuer/eventissuer/broker"
	"github.com/eventissuer/eventissuer/internal/fanout"
)

// partition is a partition of a stream that this process owns.
type partition struct {
	// static
	engine *Engine
	stream *stream
	id     int32
	claim  broker.Claim
	hub    *fanout.Hub
	epoch  broker.Epoch
	log    *slog.Logger

	attempts context.Context    //nolint:containedctx // of all attempts: it ends when the partition is lost
	cancel   context.CancelFunc // ends it
	flights  sync.WaitGroup     // attempts
	kick     chan struct{}      // a statement is due at once
	changed  chan struct{}      // a statement will be due
	hungry   chan struct{}      // a lane waits for a scan
	recalls  chan struct{}      // an event is to be read again
	graves   chan struct{}      // a dead letter is to be written

	mu     sync.Mutex
	lanes  [chunks]map[*route]*lane // guarded by mu; all others are ordinary
	chunks [chunks]chunk            // guarded by mu
	head   int64                    // guarded by mu: every match below has been entered into its lane
	cut    int64                    // guarded by mu
	said   *[chunks]testimony       // guarded by mu: while lanes are placed after a load
	end    int64                    // guarded by mu: of the log, at the load
	recut  bool                     // guarded by mu: statements spoke of what lay beyond the end
	scan   scan                     // guarded by mu
	late   bool                     // guarded by mu: the process stood still; nothing is sent before it proved to be the owner
	over   bool                     // guarded by mu: the partition is lost
	dead   []burial                 // guarded by mu
	again  again                    // guarded by mu
	awake  time.Time                // guarded by mu: the last tick
	roused map[*endpoint]struct{}   // guarded by mu: were offered something under it
}

// laneFor returns the route's lane, and makes it where there is none. mu is held.
func (p *partition) laneFor(r *route) *lane {
	if l := p.lanes[r.chunk][r]; l != nil {
		return l
	}
	l := &lane{route: r, part: p, next: max(r.start(p), p.chunks[r.chunk].floor), index: -1, touched: -1}
	l.alarm.ring = l.ring
	for l.point = p.engine.pointOf(r.sub); !l.point.adopt(l); {
		l.point = p.engine.pointOf(r.sub)
	}
	if p.lanes[r.chunk] == nil {
		p.lanes[r.chunk] = map[*route]*lane{}
	}
	p.lanes[r.chunk][r] = l
	p.chunks[r.chunk].lanes++
	return l
}

// forget drops a lane of which nothing has to be remembered. mu is held.
func (p *partition) forget(l *lane) {
	if l.forgettable() {
		p.drop(l)
	}
}

// drop takes a lane out. mu is held.
func (p *partition) drop(l *lane) {
	if l.dropped {
		return
	}
	l.dropped = true
	p.leaveScan(l)
	c := &p.chunks[l.route.chunk]
	c.lanes--
	c.items -= len(l.items)
	for _, i := range l.items {
		l.release(i)
	}
	delete(p.lanes[l.route.chunk], l.route)
	p.engine.alarms.clear(&l.alarm)
	l.point.abandon(l)
	p.feed(l.route.chunk)
}

// enterAtHead enters an event that a route's filter matches, from the head. mu is held.
func (p *partition) enterAtHead(r *route, e *fanout.Entry, now time.Time) {
	l := p.lanes[r.chunk][r]
	if l == nil {
		if e.Offset < max(r.start(p), p.chunks[r.chunk].floor) || r.ended(p, e.Offset) {
			return
		}
		l = p.laneFor(r)
	}
	if l.place != atHead || e.Offset < l.next {
		return
	}
	if r.ended(p, e.Offset) {
		p.endAtHead(l)
		return
	}
	p.enter(l, e, now)
}

// enter enters an event into a lane whose source has come to it, or takes the lane from its source where it does not admit
// it. mu is held.
func (p *partition) enter(l *lane, e *fanout.Entry, now time.Time) {
	if !l.admits() {
		l.next, l.place, l.probe = e.Offset, held, false
		if !l.point.open() {
			l.point.await(l)
		}
		p.soil(l.route.chunk)
		return
	}
	l.enter(e, now)
	l.point.offer(l)
}

// ring is called when an item of the lane may be due.
func (l *lane) ring(time.Time) {
	l.part.mu.Lock()
	if !l.dropped {
		l.point.offer(l)
		if at := l.dueNext(); at.After(time.Now()) {
			l.part.engine.alarms.set(&l.alarm, at)
		}
	}
	l.part.mu.Unlock()
	l.part.rouse()
}

// rouse has the endpoints send that were offered something. mu is not held.
func (p *partition) rouse() {
	p.mu.Lock()
	if len(p.roused) == 0 {
		p.mu.Unlock()
		return
	}
	points := make([]*endpoint, 0, len(p.roused))
	for e := range p.roused {
		points = append(points, e)
	}
	clear(p.roused)
	p.mu.Unlock()
	for _, e := range points {
		e.pump()
	}
}

// gap notes that the log has lost events. Lanes that lie below it are told, and go on above. mu is held.
func (p *partition) gap(g broker.Gap) {
	p.log.Warn("gap in the log", "from", g.From, "to", g.To, "reason", g.Reason)
	p.engine.m.gaps.WithLabelValues(string(g.Reason)).Inc()
	for c := range p.lanes {
		for _, l := range p.lanes[c] {
			if l.place == atHead || l.position() >= g.To {
				continue
			}
			p.engine.notice(l, g)
			p.soil(uint8(c))
			if l.place != waiting {
				l.next = g.To
				continue
			}
			p.leaveScan(l)
			l.next = g.To
			p.seek(l)
		}
	}
}

// soil notes that a chunk is to be written. mu is held.
func (p *partition) soil(c uint8) {
	if !p.chunks[c].dirty {
		p.chunks[c].dirty = true
		nudge(p.changed)
	}
}

func sortListed(lanes []listed) {
	slices.SortFunc(lanes, func(a, b listed) int { return compareUUID(a.incarnation, b.incarnation) })
}

func nudge(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

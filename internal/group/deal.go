package group

import (
	"slices"
	"time"
)

// deal gives every lane somebody to go to. With ordering by key a lane goes to one session, and as few as possible move:
// one whose events are with a session goes on once those are acknowledged, or have come back.
func (g *group) deal() {
	if !g.sub.Ordered {
		for _, l := range g.lanes {
			l.member, l.heir = nil, nil
			g.feed(l)
		}
		for _, m := range g.members {
			m.assigned(nil, "")
		}
		return
	}
	fit := g.fit()
	lanes := map[*Member][]*lane{}
	var pool []*lane
	for _, l := range g.lanes {
		owner := l.member
		if l.heir != nil {
			owner = l.heir
		}
		if l.lost {
			continue
		}
		if owner == nil || !slices.Contains(fit, owner) {
			pool = append(pool, l)
			continue
		}
		lanes[owner] = append(lanes[owner], l)
	}
	if len(fit) > 0 {
		extreme := func(better func(a, b int) bool) *Member {
			best := fit[0]
			for _, m := range fit[1:] {
				if better(len(lanes[m]), len(lanes[best])) {
					best = m
				}
			}
			return best
		}
		for _, l := range pool {
			m := extreme(func(a, b int) bool { return a < b })
			lanes[m] = append(lanes[m], l)
			l.assign(m)
		}
		for {
			least := extreme(func(a, b int) bool { return a < b })
			most := extreme(func(a, b int) bool { return a > b })
			if len(lanes[most])-len(lanes[least]) <= 1 {
				break
			}
			// One of which nothing is out moves at once.
			at := max(0, slices.IndexFunc(lanes[most], func(l *lane) bool { return l.given == 0 }))
			l := lanes[most][at]
			lanes[most] = slices.Delete(lanes[most], at, at+1)
			lanes[least] = append(lanes[least], l)
			l.assign(least)
		}
	} else {
		for _, l := range pool {
			l.assign(nil)
		}
	}
	g.feedAll()
	for _, m := range g.members {
		names, why := g.fedFrom(m), ""
		switch {
		case len(names) > 0:
		case len(lanes[m]) > 0:
			continue // told once the first of them has come over
		case m.slow:
			why = "ackTimeout"
		case len(g.lanes) == 0:
			why = "rebalance"
		default:
			why = "partitions"
		}
		m.assigned(names, why)
	}
}

// fedFrom names the lanes that a session is told to be fed from: those that are its own, and neither move nor are let go.
func (g *group) fedFrom(m *Member) (names []string) {
	for _, l := range g.lanes {
		if l.member == m && l.heir == nil && !l.lost {
			names = append(names, l.name)
		}
	}
	slices.Sort(names)
	return names
}

// fit are the sessions here that may be given anything: those that acknowledge in time, or all where none does. Those that
// are to end are not among them.
func (g *group) fit() []*Member {
	var slow []*Member
	fit := make([]*Member, 0, len(g.members))
	for _, m := range g.members {
		switch {
		case !m.lives():
		case m.slow:
			slow = append(slow, m)
		default:
			fit = append(fit, m)
		}
	}
	if len(fit) == 0 {
		return slow
	}
	return fit
}

// assign gives the lane to a session, at once or once what the present one has is acknowledged or has come back.
func (l *lane) assign(m *Member) {
	switch {
	case m == l.member:
		l.heir = nil
	case l.given == 0:
		l.member, l.heir = m, nil
	default:
		if l.recall(); l.given == 0 {
			l.member, l.heir = m, nil
			return
		}
		l.heir = m
	}
}

// feed gives out what is ready of a lane.
func (g *group) feed(l *lane) {
	if l.heir != nil && l.given == 0 {
		l.member, l.heir = l.heir, nil
		g.reassigned()
	}
	if !l.held || l.lost || l.closing || l.heir != nil || l.ready.len() == 0 {
		return
	}
	now := time.Now()
	if g.checkLate(now) || l.suspect {
		return
	}
	due := g.groups.due(g.sub.AckTimeout)
	l.soonest = min(l.soonest, due)
	if g.sub.Ordered {
		if m := l.member; m != nil && m.hungry() {
			l.give(m, m.room(), due)
		}
	} else {
		fit := g.fit()
		// What there is goes to all alike who have room, but in stretches: of these less is to be written and to be said.
		hungry := g.hungry(fit)
		each := min(stretchMost, (l.ready.len()+hungry-1)/max(1, hungry))
		for l.ready.len() > 0 {
			m := g.nextOf(fit)
			if m == nil {
				break
			}
			l.give(m, min(m.room(), each), due)
		}
	}
	g.flush()
}

// feedAll gives out what is ready of all lanes.
func (g *group) feedAll() {
	for _, l := range g.lanes {
		g.feed(l)
	}
}

// stretchMost is how many events of a lane a session is given in its turn.
const stretchMost = 256

// reassigned tells the sessions that a lane has moved.
func (g *group) reassigned() {
	for _, m := range g.members {
		if names := g.fedFrom(m); len(names) > 0 {
			m.assigned(names, "")
		}
	}
}

// give gives a session what is ready, up to most events.
func (l *lane) give(m *Member, most int, due int64) {
	before := m.seq
	for most > 0 && !m.void && l.ready.len() > 0 {
		i := l.ready.first()
		l.ready.pop()
		if i.phase != phaseWaiting || i.behind {
			continue
		}
		most--
		i.phase, i.to, i.due, i.handed = phaseGiven, m, due, false
		l.given++
		m.seq++
		i.seq = m.seq
		m.outstanding++
		if m.proxy != nil {
			l.hand(i)
			l.group.groups.m.delivered.Inc()
			m.proxy.send(i)
			continue
		}
		m.enter(given{item: i})
	}
	if m.proxy == nil && m.seq > before {
		m.wake()
	}
	if l.ready.len() < readyMost {
		nudge(l.space)
	}
}

// hungry counts who may be given something: of the sessions here, which are given, else of those elsewhere.
func (g *group) hungry(fit []*Member) (n int) {
	for _, m := range fit {
		if m.hungry() {
			n++
		}
	}
	if n > 0 {
		return n
	}
	for _, r := range g.remotes {
		for _, m := range r.turn {
			if m.hungry() {
				n++
			}
		}
	}
	return n
}

// nextOf is the session whose turn it is, of those that have room: one of this replica's, which are given, else one of
// another replica.
func (g *group) nextOf(fit []*Member) *Member {
	for n := range fit {
		if m := fit[(g.turn+n)%len(fit)]; m.hungry() {
			g.turn = (g.turn + n + 1) % len(fit)
			return m
		}
	}
	return g.remoteMember()
}

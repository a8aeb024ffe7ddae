package group

import (
	"slices"
	"sync/atomic"
	"time"
)

// Session is what a client opened.
type Session struct {
	Transport string // for operators
	Address   string // likewise
	// Poll says that the session lives on between requests, as long as one comes in time.
	Poll bool
	// Notify is called when there is something to take. It must not block, and must not call back.
	Notify func()
}

// Member is one session of a subscription. Its methods may be called concurrently.
type Member struct {
	// static
	group   *group
	id      ID
	session Session
	since   time.Time
	proxy   *proxy    // it is on another replica; nil: here
	head    tokenHead // of its cursors, where it is here

	stirred atomic.Bool // there are notes, or it is to end: only then these are looked at, under the lock

	// guarded by the group's mu
	seq         uint64  // of the newest delivery
	taken       uint64  // of the newest that was taken
	ledger      []given // deliveries from seq base on; empty: answered, or never handed over
	base        uint64
	next        uint64 // what is in the ledger from it on is not taken yet
	unsaid      uint64 // the last that was forgotten though the session had not said it; 0: none was
	outstanding int    // given and neither acknowledged nor back
	notes       []Note
	groups      []string // what it is fed from, as it was told
	why         string   // why it is fed from nothing, as it was told
	told        bool     // it was told one of these
	slow        bool     // it let something time out, and has acknowledged nothing since
	idle        bool     // what others gave it timed out in its queue, and it has taken nothing since
	void        bool     // something it was given is no longer its own: it has to begin anew
	left        bool
	ending      *Ending
	foreigns    map[foreignKey]*foreign // partitions of others that it was given events of
	abroad      int                     // deliveries of others that are outstanding

	polling bool      // a request is under way
	stop    func()    // ends it
	turns   int       // requests so far
	expires time.Time // of a poll's session without a request, or of the memory of one that left
}

// Note is a control message for a session.
type Note struct {
	Name      string // gap, skipped, stalled, resumed, assigned, waiting
	Stream    string
	Partition int32
	From, To  int64
	Offset    int64
	Reason    string
	Groups    []string
}

// Ending says why a session ends.
type Ending string

// The endings.
const (
	endingDeleted   Ending = "deleted"
	endingGone      Ending = "gone"
	endingClosed    Ending = "closed"
	endingReconnect Ending = "reconnect"
)

// Deleted says that the subscription is gone.
func (e Ending) Deleted() bool { return e == endingDeleted }

// Gone says that the streams of the subscription are gone.
func (e Ending) Gone() bool { return e == endingGone }

// Closed says that this replica goes away.
func (e Ending) Closed() bool { return e == endingClosed }

// Reconnect says that what the session was given is no longer its own.
func (e Ending) Reconnect() bool { return e == endingReconnect }

const notesMost = 64

// admit takes a session in.
func (g *group) admit(s Session) (*Member, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.ending {
		return nil, errEnding
	}
	n := len(g.members)
	for _, r := range g.remotes {
		n += len(r.sessions)
	}
	if n >= g.sub.MaxSessions {
		return nil, &LimitError{Scope: "subscription", Limit: g.sub.MaxSessions}
	}
	m := &Member{group: g, id: newID(), session: s, since: time.Now(), base: 1, next: 1, polling: s.Poll}
	m.head = token{g.groups.replica, m.id, 0}.head()
	g.members = append(g.members, m)
	g.groups.m.sessions.Inc()
	g.deal()
	g.groups.bus.announceSoon(g)
	return m, nil
}

// Leave ends the session: what it has not acknowledged is given to others.
func (m *Member) Leave() {
	m.group.mu.Lock()
	defer m.group.mu.Unlock()
	m.group.remove(m)
}

// remove takes a session out.
func (g *group) remove(m *Member) {
	if m.left {
		return
	}
	m.left = true
	g.members = slices.DeleteFunc(g.members, func(x *Member) bool { return x == m })
	g.groups.m.sessions.Dec()
	for k := range m.ledger {
		switch d := &m.ledger[k]; {
		case d.away != nil:
			d.away.bytes = nil
		case d.item != nil && d.item.to == m:
			d.item.lane.giveBack(d.item, ReasonGone, 0)
		}
	}
	m.next, m.notes = m.seq+1, nil
	if len(g.departed) < departedMost {
		m.expires = time.Now().Add(max(g.sub.AckTimeout, time.Minute))
		g.departed[m.id] = m
	}
	if len(g.members) == 0 {
		nudge(g.empty)
	}
	g.deal()
	g.groups.bus.announceSoon(g)
	if m.stop != nil {
		m.stop()
	}
}

// departedMost bounds the sessions that are remembered after they left.
const departedMost = 1000

// finish has the session end by itself.
func (m *Member) finish(why Ending) {
	if m.ending == nil {
		m.ending = &why
		m.stirred.Store(true)
		m.wake()
	}
}

func (m *Member) wake() {
	if m.session.Notify != nil && !m.left {
		m.session.Notify()
	}
}

// note has the session told something.
func (m *Member) note(n Note) {
	if len(m.notes) >= notesMost {
		m.notes = slices.Delete(m.notes, 0, 1)
	}
	m.notes = append(m.notes, n)
	m.stirred.Store(true)
	m.wake()
}

// assigned has the session told what it is fed from, if that has changed.
func (m *Member) assigned(groups []string, why string) {
	if m.told && slices.Equal(groups, m.groups) && why == m.why {
		return
	}
	if !m.group.sub.Ordered {
		m.groups, m.why = nil, ""
		return
	}
	m.groups, m.why, m.told = groups, why, true
	if why != "" {
		m.note(Note{Name: "waiting", Reason: why})
		return
	}
	m.note(Note{Name: "assigned", Groups: groups})
}

// hungry reports whether the session may be given more.
func (m *Member) hungry() bool { return m.lives() && m.room() > 0 }

// room is how much more the session may be given: no more than it may leave unacknowledged, and only so much ahead of what
// it takes, that others get what it does not read.
func (m *Member) room() int {
	room := m.credit() - m.outstanding
	if m.proxy == nil {
		room = min(room, queueMost-m.queued())
	}
	return room
}

// queueMost is how many events wait for a session to take them at most.
const queueMost = 1024

// lives reports whether the session goes on.
func (m *Member) lives() bool { return !m.left && m.ending == nil && !m.void }

func (m *Member) credit() int {
	if m.proxy != nil {
		return min(m.proxy.credit, m.group.sub.MaxUncommitted)
	}
	return m.group.sub.MaxUncommitted
}

// ID names the session, for people.
func (m *Member) ID() string { return m.id.String() }

// Notes returns what is to be told to the client before anything that is taken later.
func (m *Member) Notes() []Note {
	if !m.stirred.Load() {
		return nil
	}
	m.group.mu.Lock()
	defer m.group.mu.Unlock()
	n := m.notes
	m.notes = nil
	m.stirred.Store(m.ending != nil)
	return n
}

// Ending tells why the session is to end, nil where it is not.
func (m *Member) Ending() *Ending {
	if !m.stirred.Load() {
		return nil
	}
	m.group.mu.Lock()
	defer m.group.mu.Unlock()
	return m.ending
}

// Taken is the number of the newest delivery that was taken, 0 before the first.
func (m *Member) Taken() uint64 {
	m.group.mu.Lock()
	defer m.group.mu.Unlock()
	return m.taken
}

// AppendCursor appends the text of the cursor that stands for everything up to a delivery.
func (m *Member) AppendCursor(dst []byte, seq uint64) []byte {
	return m.head.append(dst, seq)
}

// session finds a session of this replica, one that left a while ago too.
func (g *group) session(id ID) *Member {
	for _, m := range g.members {
		if m.id == id {
			return m
		}
	}
	return g.departed[id]
}

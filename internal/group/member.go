package group

import (
	"context"
	"errors"
	"slices"
	"sync"
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
	proxy   *proxy // it is on another replica; nil: here

	stirred atomic.Bool // there are notes, or it is to end: only then these are looked at, under the lock

	// guarded by the group's mu
	seq         uint64   // of the newest delivery
	taken       uint64   // of the newest that was taken
	ledger      []*given // deliveries from seq base on; nil: answered, or never handed over
	base        uint64
	queue       []*given // not taken yet
	outstanding int      // given and neither acknowledged nor back
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

// given is a delivery as its session has it.
type given struct {
	item    *item
	foreign *foreign // where the item is on another replica; then item is nil
	offset  int64
	seq     uint64
	n       int  // which attempt it is; 0: it was not taken yet
	said    bool // its session has acknowledged it; it stays in the ledger until that is known to be stored

	// of a foreign one
	bytes []byte
	typ   string
	due   int64 // Unix nanoseconds: then it is given to another
	open  bool  // it counts as outstanding
}

// Delivery is an event as a session gets it.
type Delivery struct {
	JSON    []byte // the event
	Type    string // its type
	Group   string // "<stream>/<partition>"
	Attempt int    // from 1
	Seq     uint64 // in the session, from 1
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

const (
	notesMost   = 64
	ledgerMost  = 4 // times MaxUncommitted: deliveries that a session lets time out are remembered so far
	ledgerLeast = 4096
)

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
	m := &Member{group: g, id: newID(), session: s, since: time.Now(), base: 1, polling: s.Poll}
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
	for _, d := range m.ledger {
		if d == nil {
			continue
		}
		if d.item != nil && d.item.to == m {
			d.item.lane.giveBack(d.item, ReasonGone, 0)
		}
		d.bytes = nil
	}
	m.queue, m.notes = nil, nil
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
func (m *Member) hungry() bool { return m.lives() && m.outstanding < m.credit() }

// lives reports whether the session goes on.
func (m *Member) lives() bool { return !m.left && m.ending == nil && !m.void }

func (m *Member) credit() int {
	if m.proxy != nil {
		return min(m.proxy.credit, m.group.sub.MaxUncommitted)
	}
	return m.group.sub.MaxUncommitted
}

// take gives the session an item.
func (m *Member) take(i *item) {
	m.seq++
	i.seq = m.seq
	m.outstanding++
	if m.proxy != nil {
		m.proxy.send(i)
		return
	}
	m.enter(&given{item: i, offset: i.offset, seq: m.seq})
}

func (m *Member) enter(d *given) {
	if most := max(ledgerMost*m.group.sub.MaxUncommitted, ledgerLeast); len(m.ledger) >= most {
		if m.trim(); len(m.ledger) >= most {
			m.finish(endingReconnect)
			m.void = true
		}
	}
	if len(m.queue) > 2*m.group.sub.MaxUncommitted { // what has come back is still in it
		m.queue = slices.DeleteFunc(m.queue, func(q *given) bool { return q != m.entry(q.seq) })
	}
	m.ledger = append(m.ledger, d)
	m.queue = append(m.queue, d)
	if len(m.queue) == 1 {
		m.wake()
	}
}

// entry returns a delivery, nil where it is answered or was never handed over.
func (m *Member) entry(seq uint64) *given {
	if seq < m.base || seq-m.base >= uint64(len(m.ledger)) {
		return nil
	}
	return m.ledger[seq-m.base]
}

// strike takes a delivery out of the ledger: no cursor speaks for it any more.
func (m *Member) strike(seq uint64) {
	d := m.entry(seq)
	if d == nil {
		return
	}
	m.free(d)
	m.ledger[seq-m.base] = nil
}

// free has a foreign delivery count as outstanding no longer.
func (m *Member) free(d *given) {
	if d.open {
		d.open = false
		m.outstanding--
		m.abroad--
	}
}

// ID names the session, for people.
func (m *Member) ID() string { return m.id.String() }

// Take appends to dst what the session was given and has not taken, up to most events and about maxBytes. more says that
// there is more at once. What it returns has to be acknowledged in time from now on.
func (m *Member) Take(dst []Delivery, most, maxBytes int) (_ []Delivery, more bool) {
	m.group.mu.Lock()
	defer m.group.mu.Unlock()
	return m.handOver(dst, most, maxBytes)
}

// handOver is Take. The caller holds mu.
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
	due := now.Add(g.sub.AckTimeout).UnixNano()
	from, bytes := len(dst), 0
	for len(m.queue) > 0 {
		d := m.queue[0]
		var json []byte
		switch {
		case d.said:
			m.queue = m.queue[1:]
			continue
		case d.foreign != nil && d.open && d.due > now.UnixNano():
			json = d.bytes
		case d.foreign == nil && d.item.to == m && d.item.seq == d.seq && d.item.phase == phaseGiven:
			if d.item.lane.suspect {
				return dst, false
			}
			json = d.item.entry.Event.JSON()
		default: // It has come back meanwhile. The client may never have seen it: what it acknowledges is not this.
			m.strike(d.seq)
			m.queue = m.queue[1:]
			continue
		}
		if n := len(dst) - from; n >= most || n > 0 && bytes+len(json) > maxBytes {
			return dst, true
		}
		m.queue = m.queue[1:]
		bytes += len(json)
		m.taken = max(m.taken, d.seq)
		if d.foreign != nil {
			if !m.session.Poll { // a poll may be repeated
				d.bytes = nil
			}
			dst = append(dst, Delivery{JSON: json, Type: d.typ, Group: d.foreign.name, Attempt: d.n, Seq: d.seq})
			continue
		}
		if d.n == 0 {
			d.item.lane.hand(d.item)
			d.n = d.item.n
		}
		d.item.due = due
		dst = append(dst, Delivery{JSON: json, Type: d.item.entry.Event.Type(), Group: d.item.lane.name, Attempt: d.n, Seq: d.seq})
	}
	m.queue = nil
	return dst, false
}

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
	return token{m.group.groups.replica, m.id, seq}.append(dst)
}

// Word is what a client says of deliveries.
type Word struct {
	// From and To are cursors. An acknowledgement without From is of all that the session was given up to To; what is
	// given back without From is To alone.
	From, To string
	Back     bool          // it is given back, to come again
	Delay    time.Duration // not before so long
}

// Answer says what became of words. Acknowledged is durable.
type Answer struct {
	Acknowledged int `json:"acknowledged"`
	Returned     int `json:"returned"`
	Refused      int `json:"refused"`
}

func (a *Answer) add(b Answer) {
	a.Acknowledged += b.Acknowledged
	a.Returned += b.Returned
	a.Refused += b.Refused
}

// stretch is a word by numbers.
type stretch struct {
	From  uint64 `json:"from"` // 0: from the beginning
	To    uint64 `json:"to"`
	Back  bool   `json:"back,omitempty"`
	Delay int64  `json:"delay,omitempty"` // nanoseconds
}

// say takes a session's word, and returns what has to be said to other replicas. The caller holds mu.
func (m *Member) say(w stretch, r *receipt) (abroad map[*foreign][]*given) {
	if m.void || w.To > m.taken {
		r.answer.Refused++
		m.finish(endingReconnect)
		m.void = true
		return nil
	}
	promised := map[*lane]int{}
	from := max(w.From, m.base)
	for seq := from; seq <= w.To; seq++ {
		d := m.ledger[seq-m.base]
		if d == nil {
			continue
		}
		if w.Back && d.said {
			continue
		}
		if d.foreign != nil { // it stays in the ledger until its owner has answered
			if abroad == nil {
				abroad = map[*foreign][]*given{}
			}
			abroad[d.foreign] = append(abroad[d.foreign], d)
			m.free(d)
			d.said = d.said || !w.Back
			continue
		}
		i := d.item
		l := i.lane
		switch {
		case i.phase == phaseDone && d.said:
			m.ledger[seq-m.base] = nil
		case i.phase == phaseDone && !w.Back && (i.tenure != l.tenure || !l.held):
			r.answer.Acknowledged++
			m.ledger[seq-m.base] = nil
		case i.tenure != l.tenure || !l.held:
			r.answer.Refused++
			m.void = true
			m.finish(endingReconnect)
			m.ledger[seq-m.base] = nil
		case w.Back:
			if i.to == m && i.seq == seq {
				l.giveBack(i, ReasonNack, time.Duration(w.Delay))
			}
			r.answer.Returned++
			m.ledger[seq-m.base] = nil
		default:
			// Said again it waits for the store, too: the first answer may not have come. So does what is done already: Redis
			// may have lost it since.
			l.acknowledge(i)
			n := promised[l]
			if !d.said {
				d.said = true
				n++
			}
			promised[l] = n
		}
	}
	m.trim()
	if w.Back {
		for _, l := range m.group.lanes {
			m.group.feed(l)
		}
	} else if m.slow {
		m.slow = false
		m.group.deal()
		m.group.groups.bus.announceSoon(m.group)
	}
	for l, n := range promised {
		r.open++
		l.receipts = append(l.receipts, promise{r, n})
		nudge(l.kick)
	}
	return abroad
}

// trim forgets the beginning of the ledger that is answered.
func (m *Member) trim() {
	n := 0
	for n < len(m.ledger) {
		if d := m.ledger[n]; d != nil && (d.item == nil || d.item.phase != phaseDone) {
			break
		}
		n++
	}
	m.base += uint64(n)
	if m.ledger = m.ledger[n:]; len(m.ledger) == 0 {
		m.ledger = nil
	}
}

// Say takes what a client says of deliveries of a subscription's sessions, on whatever replica they are. What it answers
// as acknowledged is durable. It blocks until that is so. Errors: ErrCursor, ErrBusy: it may or may not be stored.
func (gs *Groups) Say(ctx context.Context, id string, words []Word) (all Answer, err error) {
	ctx, cancel := context.WithTimeout(ctx, sayTime)
	defer cancel()
	type call struct {
		at    token
		words []stretch
	}
	var calls []call
	for _, w := range words {
		to, err := parseToken(w.To)
		if err != nil {
			return all, err
		}
		s := stretch{To: to.seq, Back: w.Back, Delay: int64(w.Delay)}
		if w.From != "" {
			from, err := parseToken(w.From)
			if err != nil {
				return all, err
			}
			if from.session != to.session || from.seq > to.seq || from.seq == 0 {
				return all, errors.Join(ErrCursor, errors.New("from and to must be cursors of deliveries of one session, in order"))
			}
			s.From = from.seq
		} else if w.Back {
			s.From = to.seq
		}
		at := slices.IndexFunc(calls, func(c call) bool { return c.at.session == to.session })
		if at < 0 {
			calls = append(calls, call{at: to})
			at = len(calls) - 1
		}
		calls[at].words = append(calls[at].words, s)
	}
	for _, c := range calls {
		var a Answer
		if c.at.replica == gs.replica {
			a, err = gs.hear(ctx, id, c.at.session, c.words)
		} else {
			a, err = gs.bus.say(ctx, c.at.replica, id, c.at.session, c.words)
		}
		if err != nil {
			return all, err
		}
		all.add(a)
	}
	return all, nil
}

// sayTime is how long words may take to be durable.
const sayTime = 10 * time.Second

// hear takes words for a session of this replica.
func (gs *Groups) hear(ctx context.Context, id string, session ID, words []stretch) (Answer, error) {
	g := gs.find(id)
	if g == nil {
		return Answer{Refused: len(words)}, nil
	}
	r := newReceipt()
	g.mu.Lock()
	m := g.session(session)
	if m == nil {
		g.mu.Unlock()
		return Answer{Refused: len(words)}, nil
	}
	ctx, cancel := context.WithCancel(ctx)
	var abroad sync.WaitGroup
	defer abroad.Wait()
	defer cancel()
	for _, w := range words {
		for f, all := range m.say(w, r) {
			r.open++
			abroad.Go(func() { m.sayAbroad(ctx, f, all, w, r) })
		}
	}
	for _, l := range g.lanes {
		g.feed(l)
	}
	r.close()
	g.mu.Unlock()
	select {
	case <-r.finished:
	case <-ctx.Done():
		return Answer{}, ErrBusy
	}
	if r.answer.Refused > 0 {
		g.mu.Lock()
		m.void = true
		m.finish(endingReconnect)
		g.deal() // to those that go on
		g.mu.Unlock()
	}
	return r.answer, nil
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

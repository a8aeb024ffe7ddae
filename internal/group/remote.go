package group

import (
	"context"
	"errors"
	"time"
)

// replicaOf is another replica with sessions of the same subscription.
type replicaOf struct {
	heard    time.Time
	owns     int
	sessions map[ID]*Member // without ordering: what its sessions may be given from here
	turn     []*Member      // the same, in turn
}

// proxy stands for a session of another replica, to which this one's partitions give events.
type proxy struct {
	replica ID
	session ID
	credit  int
	parcels map[*lane][]parcel // on their way with the next message
	bytes   int
}

// foreign is a partition of another replica, under one claim, that a session here was given events of.
type foreign struct {
	replica   ID
	name      string
	stream    string
	partition int32
	nonce     string
}

const (
	announceEvery = 2 * time.Second
	forgetAfter   = 7 * time.Second // a replica that is silent for so long has no sessions
	parcelBytes   = 512 << 10
)

// announce tells the other replicas of the sessions here.
func (g *group) announce() {
	g.mu.Lock()
	owners := 0
	if len(g.lanes) > 0 {
		owners++
	}
	for _, r := range g.remotes {
		if r.owns > 0 {
			owners++
		}
	}
	m := message{Kind: "here", Group: g.id, Owns: len(g.lanes)}
	for _, s := range g.members {
		if s.ending != nil || s.void {
			continue
		}
		credit := max(1, g.sub.MaxUncommitted/max(1, owners))
		if s.slow || s.idle {
			credit = 0
		}
		m.Sessions = append(m.Sessions, announced{ID: s.id, Credit: credit})
	}
	g.mu.Unlock()
	g.groups.bus.later(g.groups.bus.groupChannel(g.id), m)
}

// heard takes note of another replica's sessions.
func (g *group) heard(m *message) {
	g.mu.Lock()
	defer g.mu.Unlock()
	r := g.remotes[m.From]
	if r == nil {
		if len(m.Sessions) == 0 && m.Owns == 0 {
			return
		}
		r = &replicaOf{sessions: map[ID]*Member{}}
		g.remotes[m.From] = r
		g.groups.bus.announceSoon(g) // it is new, and knows nothing of this one
	}
	r.heard, r.owns = time.Now(), m.Owns
	there := map[ID]bool{}
	for _, s := range m.Sessions {
		there[s.ID] = true
		if p := r.sessions[s.ID]; p != nil {
			p.proxy.credit = s.Credit
			continue
		}
		p := &Member{group: g, id: s.ID, base: 1, proxy: &proxy{replica: m.From, session: s.ID, credit: s.Credit, parcels: map[*lane][]parcel{}}}
		r.sessions[s.ID] = p
		r.turn = append(r.turn, p)
	}
	for id, p := range r.sessions {
		if !there[id] {
			g.dropProxy(r, p)
		}
	}
	if len(r.sessions) == 0 && r.owns == 0 {
		delete(g.remotes, m.From)
	}
	if !g.sub.Ordered {
		g.feedAll()
	}
}

// drop forgets a replica.
func (g *group) drop(id ID) {
	r := g.remotes[id]
	delete(g.remotes, id)
	for _, p := range r.sessions {
		g.dropProxy(r, p)
	}
}

// dropProxy takes back what a session elsewhere has.
func (g *group) dropProxy(r *replicaOf, p *Member) {
	p.left = true
	delete(r.sessions, p.id)
	for i, x := range r.turn {
		if x == p {
			r.turn = append(r.turn[:i:i], r.turn[i+1:]...)
			break
		}
	}
	for _, l := range g.lanes {
		for _, i := range l.window.live() {
			if i.phase == phaseGiven && i.to == p {
				l.giveBack(i, ReasonGone, 0)
			}
		}
	}
}

// remoteMember is a session elsewhere that has room.
func (g *group) remoteMember() *Member {
	for _, r := range g.remotes {
		for n, p := range r.turn {
			if p.hungry() {
				r.turn = append(append(r.turn[:n:n], r.turn[n+1:]...), p)
				return p
			}
		}
	}
	return nil
}

// send puts an item on its way.
func (p *proxy) send(i *item) {
	json := i.entry.Event.JSON()
	p.parcels[i.lane] = append(p.parcels[i.lane], parcel{Offset: i.offset, N: i.n, Type: i.entry.Event.Type(), JSON: json})
	if p.bytes += len(json); p.bytes >= parcelBytes {
		p.flush(i.lane.group)
	}
}

// flush has what is gathered go out.
func (p *proxy) flush(g *group) {
	for l, parcels := range p.parcels {
		g.groups.bus.later(g.groups.bus.replicaChannel(p.replica), message{
			Kind: "deliver", Group: g.id, Session: p.session, Stream: l.source.Stream.Name, Partition: l.partition, Nonce: l.nonce, Parcels: parcels,
		})
	}
	clear(p.parcels)
	p.bytes = 0
}

// flush has what is gathered for sessions elsewhere go out.
func (g *group) flush() {
	for _, r := range g.remotes {
		for _, m := range r.turn {
			if m.proxy.bytes > 0 {
				m.proxy.flush(g)
			}
		}
	}
}

// delivered takes what another replica gives a session here.
func (g *group) delivered(msg *message) {
	g.mu.Lock()
	defer g.mu.Unlock()
	m := g.session(msg.Session)
	if m == nil || m.left || m.void || m.ending != nil {
		return // it comes back to who sent it in time
	}
	key := foreignKey{msg.From, msg.Stream, msg.Partition, msg.Nonce}
	f := m.foreigns[key]
	if f == nil {
		if m.foreigns == nil || len(m.foreigns) > foreignsMost {
			m.foreigns = map[foreignKey]*foreign{}
		}
		f = &foreign{replica: msg.From, name: laneName(msg.Stream, msg.Partition), stream: msg.Stream, partition: msg.Partition, nonce: msg.Nonce}
		m.foreigns[key] = f
	}
	due := g.groups.due(g.sub.AckTimeout)
	for _, p := range msg.Parcels {
		m.seq++
		m.outstanding++
		m.abroad++
		m.enter(given{n: p.N, away: &remoteGiven{from: f, offset: p.Offset, bytes: p.JSON, typ: p.Type, due: due, open: true}})
	}
	m.wake()
}

type foreignKey struct {
	replica   ID
	stream    string
	partition int32
	nonce     string
}

// foreignsMost bounds the partitions of others that are remembered by name; those forgotten are made anew.
const foreignsMost = 4096

// expire lets go of what others gave the session and it has not acknowledged in time: they have taken it back.
func (m *Member) expire(now int64) {
	if m.abroad == 0 {
		return
	}
	for k := range m.ledger {
		if d := &m.ledger[k]; d.away != nil && d.away.open && d.away.due <= now {
			m.free(d)
			if m.base+uint64(k) <= m.taken {
				m.slow = true
			} else {
				m.idle = true
			}
			m.group.groups.bus.announceSoon(m.group)
		}
	}
}

// sayAbroad passes a word on to the owner of a partition.
func (m *Member) sayAbroad(ctx context.Context, e elsewhere, w stretch, r *receipt) {
	g, f := m.group, e.owner
	a, err := g.groups.bus.ask(ctx, f.replica, message{
		Kind: "done", Group: g.id, Session: m.id, Stream: f.stream, Partition: f.partition, Nonce: f.nonce,
		Offsets: e.offsets, Attempts: e.attempts, Word: w,
	})
	g.mu.Lock()
	defer g.mu.Unlock()
	switch {
	case err == nil && a.Error == "":
		r.answer.add(a.Answer)
	case errors.Is(err, errNobody):
		r.answer.Refused += len(e.offsets)
	default:
		return // who waits is told that it is not known, and may ask again
	}
	for _, seq := range e.seqs {
		m.strike(seq)
	}
	m.trim()
	r.said()
}

// hearForeign takes the word of a session of another replica.
func (g *group) hearForeign(ctx context.Context, m *message) (Answer, error) {
	ctx, cancel := context.WithTimeout(ctx, sayTime)
	defer cancel()
	r := newReceipt()
	g.mu.Lock()
	var l *lane
	for _, x := range g.lanes {
		if x.source.Stream.Name == m.Stream && x.partition == m.Partition {
			l = x
		}
	}
	if l == nil || !l.held || l.nonce != m.Nonce {
		g.mu.Unlock()
		return Answer{Refused: len(m.Offsets)}, nil
	}
	promised := 0
	for k, o := range m.Offsets {
		i := l.window.find(o)
		switch {
		case i == nil && o >= l.read:
			r.answer.Refused++
		case m.Word.Back:
			// Unless another has it by now, or this session in a later attempt.
			if i != nil && i.phase == phaseGiven && i.to.proxy != nil && i.to.id == m.Session && k < len(m.Attempts) && i.n == m.Attempts[k] {
				l.giveBack(i, ReasonNack, time.Duration(m.Word.Delay))
			}
			r.answer.Returned++
		default: // under this claim nothing leaves the window but what is done; that it is still stored is for a write to say
			if i != nil {
				l.acknowledge(i)
			}
			promised++
		}
	}
	if promised > 0 {
		r.open++
		l.receipts = append(l.receipts, promise{r, promised})
		nudge(l.kick)
	}
	g.feed(l)
	r.close()
	g.mu.Unlock()
	select {
	case <-r.finished:
		return r.answer, nil
	case <-ctx.Done():
		return Answer{}, ErrBusy
	}
}

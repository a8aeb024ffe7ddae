package group

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/eventissuer/eventissuer/broker"
	"github.com/eventissuer/eventissuer/internal/clock"
	"github.com/eventissuer/eventissuer/internal/fanout"
)

// group is one subscription on this replica: its sessions, and the partitions that Kafka's consumer group gives it.
type group struct {
	// static
	groups  *Groups
	id      string
	log     *slog.Logger
	changed chan struct{} // one place: look at the definition
	empty   chan struct{} // one place: the last session left
	graves  chan struct{} // one place: something is to be buried
	ended   chan struct{} // closed once run has returned

	mu          sync.Mutex
	sub         Subscription
	lanes       []*lane            // by name
	members     []*Member          // in the order in which they came
	departed    map[ID]*Member     // whose late acknowledgements count still
	remotes     map[ID]*replicaOf  // replicas that have sessions of this subscription, too
	turn        int                // the member that is next, without ordering
	ticked      time.Time          // the last tick
	standstills int                // of the process, that were noticed
	ending      bool               // no session is admitted any more
	final       *Ending            // told to sessions when it ends
	dead        []*item            // to be buried
	rejoin      context.CancelFunc // ends the present membership, for another of other topics; nil: there is none
	measured    time.Time
	history     history
}

var errEnding = errors.New("the group is just ending")

func newGroup(gs *Groups, sub Subscription) *group {
	return &group{
		groups: gs, id: sub.ID, log: gs.log.With("subscription", sub.ID), sub: sub,
		changed: make(chan struct{}, 1), empty: make(chan struct{}, 1), graves: make(chan struct{}, 1), ended: make(chan struct{}),
		departed: map[ID]*Member{}, remotes: map[ID]*replicaOf{}, ticked: time.Now(),
	}
}

func (g *group) subscription() Subscription {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.sub
}

// run is a member of the consumer group until the last session has left, or ctx ends.
func (g *group) run(ctx context.Context) {
	ctx, cancel := context.WithCancel(ctx)
	g.groups.bus.follow(g)
	defer g.groups.bus.leave(g) // last: sessions elsewhere acknowledge what they have of a partition that is let go
	var parts sync.WaitGroup
	defer parts.Wait()
	defer cancel()
	nudge(g.changed) // what it was made of may have changed before anybody could tell it
	parts.Go(func() { g.buryAll(ctx) })
	parts.Go(func() { g.member(ctx) })
	tick := time.NewTicker(tickEvery)
	defer tick.Stop()
	announce := time.NewTicker(announceEvery)
	defer announce.Stop()
	linger := time.NewTimer(time.Hour)
	defer linger.Stop()
	for {
		select {
		case <-tick.C:
			g.tick()
		case <-announce.C:
			g.announce()
		case <-g.changed:
			if why := g.redefine(); why != "" {
				g.end(why)
				return
			}
		case <-g.empty:
			linger.Reset(g.linger())
		case <-linger.C:
			if g.close() {
				return
			}
		case <-ctx.Done():
			g.end(endingClosed)
			return
		}
	}
}

const tickEvery = 250 * time.Millisecond

// late is how far a tick may be from the one before: a process that stood still for longer may have been replaced.
const late = tickEvery + time.Second

// linger is how long the group waits for a session that comes back. Where others have sessions, they get the partitions
// at once.
func (g *group) linger() time.Duration {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, r := range g.remotes {
		if len(r.sessions) > 0 {
			return 0
		}
	}
	return g.groups.cfg.Linger
}

// close ends the group if no session is there.
func (g *group) close() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.members) > 0 {
		return false
	}
	g.ending = true
	return true
}

// end ends all sessions.
func (g *group) end(why Ending) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.ending, g.final = true, &why
	for _, m := range g.members {
		m.finish(why)
	}
}

// member is in Kafka's consumer group until ctx ends, anew when the subscription reads other topics.
func (g *group) member(ctx context.Context) {
	for ctx.Err() == nil {
		joined, leave := context.WithCancel(ctx)
		g.mu.Lock()
		g.rejoin = leave
		topics := g.sub.topics()
		g.mu.Unlock()
		err := g.groups.deps.Log.Join(joined, ConsumerGroup(g.id), topics, g.own)
		leave()
		if ctx.Err() == nil && joined.Err() == nil {
			g.log.Error("the consumer group cannot be joined", "error", err)
			clock.Pause(ctx, time.Second)
		}
	}
}

// ConsumerGroup is the name of a subscription's consumer group in Kafka.
func ConsumerGroup(id string) string { return "sub." + id }

// own owns one partition.
func (g *group) own(ctx context.Context, c broker.Claim) {
	g.mu.Lock()
	src := g.sub.source(c.Topic())
	g.mu.Unlock()
	if src == nil {
		<-ctx.Done()
		return
	}
	l := newLane(g, src, c)
	g.mu.Lock()
	g.lanes = append(g.lanes, l)
	slices.SortFunc(g.lanes, func(a, b *lane) int { return compareLanes(a, b) })
	g.mu.Unlock()
	l.run(ctx)
	g.mu.Lock()
	l.reset()
	g.lanes = slices.DeleteFunc(g.lanes, func(x *lane) bool { return x == l })
	g.deal()
	g.mu.Unlock()
}

func compareLanes(a, b *lane) int {
	switch {
	case a.source.Stream.Name < b.source.Stream.Name:
		return -1
	case a.source.Stream.Name > b.source.Stream.Name:
		return 1
	}
	return int(a.partition) - int(b.partition)
}

// refresh returns the definition as it is once every change made before is known here.
func (g *group) refresh(ctx context.Context) (Subscription, error) {
	if err := g.groups.deps.Definitions.Sync(ctx, g.id); err != nil {
		return Subscription{}, fmt.Errorf("see the present definition: %w", err)
	}
	sub, ok := g.adopt()
	if !ok || len(sub.Sources) == 0 {
		nudge(g.changed)
		return sub, ErrUnknown
	}
	return sub, nil
}

// redefine takes over a definition that has changed. It returns why the group ends, "" where it goes on.
func (g *group) redefine() Ending {
	switch sub, ok := g.adopt(); {
	case !ok:
		return endingDeleted
	case len(sub.Sources) == 0:
		return endingGone
	}
	return ""
}

// adopt takes over the definition as it is, and returns it. It is looked up under the lock, so that of two who do so at
// once the later one does not bring back what the other saw.
func (g *group) adopt() (sub Subscription, ok bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if sub, ok = g.groups.deps.Definitions.Subscription(g.id); !ok || len(sub.Sources) == 0 {
		return sub, ok
	}
	was := g.sub
	g.sub = sub
	switch {
	case !was.sameSources(&sub):
		if g.rejoin != nil {
			g.rejoin()
		}
	case !was.sameReading(&sub):
		for _, l := range g.lanes {
			if l.held {
				l.reclaim("the subscription was changed")
			}
		}
	}
	g.deal()
	return sub, true
}

// tick looks at what time does.
func (g *group) tick() {
	g.mu.Lock()
	defer g.mu.Unlock()
	now := time.Now()
	g.checkLate(now)
	g.ticked = now
	nano := g.groups.due(0)
	for _, l := range g.lanes {
		if l.expire(nano) {
			g.deal()
		}
		g.feed(l)
		g.tellStalled(l, now)
		if l.suspect {
			nudge(l.kick)
		}
	}
	for _, m := range slices.Clone(g.members) {
		m.expire(nano)
		if m.session.Poll && !m.polling && now.After(m.expires) {
			g.remove(m)
		}
	}
	for id, m := range g.departed {
		if now.After(m.expires) {
			delete(g.departed, id)
		}
	}
	for id, r := range g.remotes {
		if now.Sub(r.heard) > forgetAfter {
			g.drop(id)
		}
	}
	g.measure(now)
}

// checkLate notes that the process stood still for so long that it may have been replaced.
func (g *group) checkLate(now time.Time) bool {
	if now.Sub(g.ticked) <= late {
		return false
	}
	g.ticked = now
	g.standstills++
	for _, l := range g.lanes {
		if l.held {
			l.suspect = true
			nudge(l.kick)
		}
	}
	// What others gave the sessions here may be with theirs by now.
	for _, m := range g.members {
		for seq := max(m.next, m.base); seq <= m.seq; seq++ {
			if d := m.entry(seq); d != nil && d.away != nil {
				m.strike(seq)
			}
		}
	}
	return true
}

// trouble notes that a lane cannot be claimed or read.
func (g *group) trouble(l *lane, err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if l.troubled.IsZero() {
		l.troubled = time.Now()
		l.ill.Store(true)
	}
	if err != nil {
		g.log.Debug("a partition is in trouble", "partition", l.name, "error", err)
	}
}

// tellStalled tells sessions of trouble that lasts.
func (g *group) tellStalled(l *lane, now time.Time) {
	if l.stalled || l.troubled.IsZero() || now.Sub(l.troubled) < stallAfter {
		return
	}
	l.stalled = true
	g.tell(func(m *Member) { m.note(Note{Name: "stalled", Stream: l.source.Stream.Name}) })
}

const stallAfter = 2 * time.Second

// recovered ends a lane's trouble.
func (l *lane) recovered() {
	l.troubled = time.Time{}
	l.ill.Store(false)
	if l.stalled {
		l.stalled = false
		l.group.tell(func(m *Member) { m.note(Note{Name: "resumed", Stream: l.source.Stream.Name}) })
	}
}

// tell calls fn for every session here.
func (g *group) tell(fn func(*Member)) {
	for _, m := range g.members {
		fn(m)
	}
}

// skipped tells whoever the partition is dealt to that a record is no event.
func (g *group) skipped(l *lane, e *fanout.Entry) {
	n := Note{Name: "skipped", Stream: l.source.Stream.Name, Partition: e.Partition, Offset: e.Offset, Reason: e.Skipped}
	if l.member != nil {
		l.member.note(n)
	} else if len(g.members) > 0 && !g.sub.Ordered {
		g.members[0].note(n)
	}
}

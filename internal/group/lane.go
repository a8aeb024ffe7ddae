package group

import (
	"context"
	"fmt"
	"math"
	"sync/atomic"
	"time"

	"github.com/eventissuer/eventissuer/broker"
	"github.com/eventissuer/eventissuer/internal/clock"
)

// What a lane holds of its partition at most.
const (
	windowItems = 10_000  // events from the position on that were read, done ones among them
	windowBytes = 8 << 20 // of those that are not done
	readyMost   = 2048    // that could be given out at once, if any session had room
	readBytes   = 512 << 10
)

// lane is one partition that this replica owns: where it stands, and what of it is with sessions. Its state is the group's,
// under one lock with the sessions that it feeds.
type lane struct {
	// static
	group     *group
	source    *Source
	partition int32
	name      string // as clients are told it: "<stream>/<partition>"
	claim     broker.Claim
	kick      chan struct{} // one place: there is something to write, or a reason to claim anew
	space     chan struct{} // one place: the window has room again
	known     atomic.Int64  // the partition's end, as its reader last knew it
	ill       atomic.Bool   // troubled is set
	anew      atomic.Bool   // again is set

	// guarded by the group's mu
	held     bool   // claimed: events may be given out, and acknowledgements taken
	tenure   uint64 // rises with every claim
	at       place  // what the claim is of
	nonce    string
	epoch    uint64 // of the claim, as readers know it
	stored   state  // as the store has it, or a claim found it
	read     int64  // below it all was read
	bound    int64  // from it on stored says nothing of what a claim found
	window   window
	bytes    int64
	given    int // items that are with sessions
	ready    queue
	keys     map[uint64]*item // the last of each key that is not done
	todo     []*item          // acknowledged, to be written
	receipts []promise        // to who waits for that
	soonest  int64            // no item is due before, which whoever sets due keeps so; by Groups.due
	dirty    bool             // there is something to write besides
	suspect  bool             // the process stood still: nothing is given out before a write or a claim succeeds
	again    string           // why to claim anew; "": not
	closing  bool             // it is to be claimed anew: nothing more is given out under this claim
	lost     bool             // the partition is to be let go
	troubled time.Time        // since when it cannot be claimed or read; zero: it can
	stalled  bool             // which the sessions were told
	member   *Member          // to whom it is dealt, with ordering by key
	heir     *Member          // to whom it goes once nothing of it is with member
	counts   counts
}

// counts are what operators are told of a lane.
type counts struct {
	redelivered int64
	buried      int64
}

func newLane(g *group, src *Source, c broker.Claim) *lane {
	return &lane{
		group: g, source: src, partition: c.Partition(), name: laneName(src.Stream.Name, c.Partition()), claim: c,
		kick: make(chan struct{}, 1), space: make(chan struct{}, 1), keys: map[uint64]*item{},
		soonest: math.MaxInt64,
	}
}

func laneName(stream string, partition int32) string { return fmt.Sprintf("%s/%d", stream, partition) }

func nudge(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// roomy reports whether more may be read.
func (l *lane) roomy() bool {
	n := len(l.window.live())
	return n == 0 || n < windowItems && l.ready.len() < readyMost && l.bytes < windowBytes && l.group.groups.memory.roomy()
}

// add takes what was read into the window. It returns false where the claim is another by now.
func (l *lane) add(tenure uint64, slabs [][]item, read int64) bool {
	if !l.held || l.tenure != tenure {
		return false
	}
	var bytes int64
	for _, slab := range slabs {
		for len(slab) > 0 && slab[0].offset < l.read {
			slab = slab[1:]
		}
		if len(slab) == 0 {
			continue
		}
		for k := range slab {
			i := &slab[k]
			known := i.offset < l.bound
			if i.entry.Skipped != "" || known && l.stored.isDone(i.offset) {
				if i.entry.Skipped != "" {
					l.group.skipped(l, i.entry)
				}
				i.phase, i.entry = phaseDone, nil
				continue
			}
			if known {
				i.n = l.stored.attemptsOf(i.offset)
			}
			bytes += int64(i.size)
			if key := i.entry.Key; key != 0 && l.group.sub.Ordered {
				if last := l.keys[key]; last != nil {
					last.next, i.behind = i, true
				}
				l.keys[key] = i
			}
		}
		l.read = slab[len(slab)-1].offset + 1
		l.window.push(slab)
		for k := range slab {
			if i := &slab[k]; i.phase != phaseDone && !i.behind {
				l.free(i)
			}
		}
	}
	l.bytes += bytes
	l.group.groups.memory.add(bytes)
	l.read = max(l.read, read)
	l.window.trim()
	if l.position() > l.stored.pos {
		l.dirty = true // written with the next tick
	}
	return true
}

// free has an item given out, or buried where its attempts are used up. One that is behind another has to wait for it even
// so: what is behind both would otherwise go before the other.
func (l *lane) free(i *item) {
	if i.n >= l.group.sub.MaxAttempts {
		i.phase = phaseBurying
		l.group.bury(i)
		return
	}
	i.phase = phaseWaiting
	l.ready.push(i)
}

// position is the first offset that is not done, as far as is stored.
func (l *lane) position() int64 {
	for _, i := range l.window.live() {
		if i.phase != phaseDone {
			return i.offset
		}
	}
	return l.read
}

// acknowledge takes an item for acknowledged, once that is stored.
func (l *lane) acknowledge(i *item) {
	if i.phase == phaseAcking || i.phase == phaseDone {
		return
	}
	l.unhand(i)
	l.owe(i) // the dead letter of one that was to have one is not needed any more
}

// owe has an item written as done.
func (l *lane) owe(i *item) {
	i.phase = phaseAcking
	l.window.mark(i)
	l.todo = append(l.todo, i)
}

// unhand takes an item back from whom it was given to.
func (l *lane) unhand(i *item) {
	if i.phase != phaseGiven {
		return
	}
	i.to.outstanding--
	l.given--
	if !i.handed {
		i.to.strike(i.seq)
	}
	i.to = nil
}

// recall takes back what waits with sessions to be handed over.
func (l *lane) recall() {
	for _, i := range l.window.live() {
		if i.phase == phaseGiven && !i.handed {
			l.giveBack(i, i.why, 0)
		}
	}
}

// hand notes that an item is being handed over.
func (l *lane) hand(i *item) {
	i.handed = true
	i.n++
	l.window.mark(i)
	l.dirty = true // its attempts rise with the next write
	if i.n > 1 {
		l.counts.redelivered++
		l.group.groups.m.redelivered.Inc()
	}
}

// giveBack makes an item free again, after a delay. Where its attempts are used up it goes to the dead letters.
func (l *lane) giveBack(i *item, why Reason, delay time.Duration) {
	if i.phase != phaseGiven {
		return
	}
	l.unhand(i)
	if i.handed {
		i.why = why
	}
	if delay > 0 && i.n < l.group.sub.MaxAttempts {
		i.phase, i.due = phaseDelayed, l.group.groups.due(delay)
		l.soonest = min(l.soonest, i.due)
		return
	}
	l.free(i)
}

// expire takes back what was not acknowledged in time, and frees what was put off until now. It reports whether a session
// let something time out that it had been handed.
func (l *lane) expire(now int64) (slow bool) {
	if now < l.soonest {
		return false
	}
	l.soonest = math.MaxInt64
	for _, i := range l.window.live() {
		switch {
		case i.phase != phaseGiven && i.phase != phaseDelayed:
		case i.due > now:
			l.soonest = min(l.soonest, i.due)
		case i.phase == phaseDelayed:
			i.phase = phaseWaiting
			l.ready.push(i)
		default:
			if i.handed { // else the session has taken nothing of late, which is no fault of the event's
				i.to.slow, slow = true, true
			}
			l.giveBack(i, ReasonTimeout, 0)
		}
	}
	return slow
}

// settle marks items as done that are stored, and lets what waited behind them go.
func (l *lane) settle(items []*item) {
	var bytes int64
	for _, i := range items {
		if i.phase == phaseDone {
			continue
		}
		i.phase = phaseDone // as it is marked already
		bytes += int64(i.size)
		if l.group.sub.Ordered {
			if key := i.entry.Key; key != 0 && l.keys[key] == i {
				delete(l.keys, key)
			}
			if next := i.next; next != nil {
				next.behind = false
				if next.phase == phaseWaiting {
					l.free(next)
				}
			}
		}
		i.entry, i.next = nil, nil
	}
	l.bytes -= bytes
	l.group.groups.memory.add(-bytes)
	l.window.trim()
	nudge(l.space)
}

// snapshot is the state with what is to be stored now taken for done.
func (l *lane) snapshot() state {
	s := l.window.state(l.read)
	s.cut = l.stored.cut
	if l.read >= l.bound {
		return s
	}
	// What a claim found above what was read so far is as it was.
	above := state{cut: s.cut}
	for _, d := range l.stored.done {
		if d.to > l.read {
			above.done = append(above.done, span{max(d.from, l.read), d.to})
		}
	}
	for _, a := range l.stored.attempts {
		if a.to > l.read {
			above.attempts = append(above.attempts, attempt{span{max(a.from, l.read), a.to}, a.n})
		}
	}
	return join(s, above)
}

// reset empties the lane for a claim, or for good. What sessions hold of it means nothing any more.
func (l *lane) reset() {
	for _, i := range l.window.live() {
		if i.phase == phaseDone {
			continue
		}
		l.unhand(i)
		i.entry, i.next = nil, nil // a session may keep the item for long
	}
	l.group.groups.memory.add(-l.bytes)
	for _, p := range l.receipts {
		p.keep(false)
	}
	l.held, l.dirty, l.suspect, l.closing, l.again = false, false, false, false, ""
	l.anew.Store(false)
	l.bytes, l.window, l.todo, l.receipts, l.soonest = 0, window{}, nil, nil, math.MaxInt64
	l.ready.clear()
	clear(l.keys)
	l.tenure++
	nudge(l.space)
}

// run owns the partition until ctx ends.
func (l *lane) run(ctx context.Context) {
	failures := 0
	for ctx.Err() == nil {
		began := time.Now()
		err := l.acquire(ctx)
		if err == nil {
			failures = 0
			l.serve(ctx)
			continue
		}
		if ctx.Err() != nil {
			break
		}
		failures++
		l.group.trouble(l, err)
		if failures > 1 || time.Since(began) > time.Second {
			l.group.log.Warn("a partition cannot be claimed; trying again", "partition", l.name, "error", err)
		}
		clock.Pause(ctx, min(claimRetry<<min(failures-1, 6), time.Second))
	}
}

const claimRetry = 20 * time.Millisecond

// serve gives events out and writes what is acknowledged, until the claim is lost or the partition is.
func (l *lane) serve(ctx context.Context) {
	g := l.group
	following, stop := context.WithCancel(ctx)
	followed := make(chan struct{})
	g.mu.Lock()
	tenure := l.tenure
	g.mu.Unlock()
	go func() {
		defer close(followed)
		l.follow(following, tenure)
	}()
	w := newWriter(l, tenure)
	defer func() {
		stop()
		<-followed
		w.wait()
		g.mu.Lock()
		l.reset()
		g.deal()
		g.tell(func(m *Member) { m.wake() }) // who waited with what was of the lane goes on to what is behind it
		g.mu.Unlock()
	}()
	tick := time.NewTicker(saveEvery)
	defer tick.Stop()
	for {
		select {
		case <-l.kick:
			w.start(ctx, false)
		case <-tick.C:
			w.start(ctx, true)
			w.commit(ctx)
		case ok := <-w.saved:
			if !w.ended(ok) {
				return
			}
			w.start(ctx, false)
		case err := <-w.committed:
			w.busy = false
			if err != nil && isNotOwner(err) {
				return
			}
		case <-ctx.Done():
			l.letGo(w)
			return
		}
		if !l.anew.Load() {
			continue
		}
		g.mu.Lock()
		again := l.again
		l.again = ""
		l.anew.Store(false)
		g.mu.Unlock()
		if again != "" {
			w.finish()
			g.log.Debug("a partition is claimed anew", "partition", l.name, "reason", again)
			return
		}
	}
}

const (
	saveEvery = time.Second // what nobody waits for is written, and Kafka's commit follows, this often
	goodbye   = time.Second // for sessions to acknowledge what they have of a partition that moves
)

// letGo gives sessions a moment to acknowledge what they have, gives nothing out meanwhile, and writes the last of it.
func (l *lane) letGo(w *writer) {
	g := l.group
	g.mu.Lock()
	l.lost = true
	l.recall()
	g.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), min(goodbye, g.subscription().AckTimeout))
	defer cancel()
	for {
		g.mu.Lock()
		open := l.given
		g.mu.Unlock()
		if open == 0 {
			break
		}
		select {
		case <-l.kick:
			w.start(ctx, false)
		case ok := <-w.saved:
			if !w.ended(ok) {
				return
			}
			w.start(ctx, false)
		case err := <-w.committed:
			w.busy = false
			if err != nil && isNotOwner(err) {
				return
			}
		case <-ctx.Done():
			w.finish()
			return
		}
	}
	w.finish()
}

// follow reads the partition into the window, as far as there is room, until ctx ends.
func (l *lane) follow(ctx context.Context, tenure uint64) {
	g := l.group
	g.mu.Lock()
	from, f := l.read, g.sub.Filter
	g.mu.Unlock()
	for ctx.Err() == nil {
		hub, err := g.groups.deps.Hubs.Open(ctx, l.source.Stream)
		if err == nil {
			from, err = l.followHub(ctx, tenure, hub, from, f)
		}
		if ctx.Err() != nil || l.replaced(tenure) {
			return
		}
		g.trouble(l, err)
		clock.Pause(ctx, time.Second)
	}
}

func (l *lane) replaced(tenure uint64) bool {
	l.group.mu.Lock()
	defer l.group.mu.Unlock()
	return l.tenure != tenure
}

// reclaim has the lane claim its partition again.
func (l *lane) reclaim(why string) {
	l.again, l.closing = why, true
	l.anew.Store(true)
	nudge(l.kick)
}

package group

import (
	"context"
	"fmt"
	"slices"
	"sort"
	"sync/atomic"
	"time"

	"github.com/eventissuer/eventissuer/broker"
	"github.com/eventissuer/eventissuer/internal/fanout"
)

// What a lane holds of its partition at most.
const (
	windowItems = 10_000  // events from the position on that were read, done ones among them
	windowBytes = 8 << 20 // of those that are not done
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
	window   []*item
	front    int // window[:front] has left it
	bytes    int64
	given    int // items that are with sessions
	ready    queue
	keys     map[uint64]*item // the last of each key that is not done
	todo     []*item          // acknowledged, to be written
	receipts []promise        // to who waits for that
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
	}
}

func laneName(stream string, partition int32) string { return fmt.Sprintf("%s/%d", stream, partition) }

func nudge(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// live are the items in the window, by offset.
func (l *lane) live() []*item { return l.window[l.front:] }

// roomy reports whether more may be read.
func (l *lane) roomy() bool {
	n := len(l.live())
	return n == 0 || n < windowItems && l.bytes < windowBytes && l.group.groups.memory.roomy()
}

// add takes what was read into the window. It returns false where the claim is another by now.
func (l *lane) add(tenure uint64, entries []*fanout.Entry, read int64) bool {
	if !l.held || l.tenure != tenure {
		return false
	}
	for _, e := range entries {
		if e.Offset < l.read {
			continue
		}
		l.read = e.Offset + 1
		i := &item{lane: l, tenure: tenure, entry: e, offset: e.Offset}
		if e.Skipped != "" || l.stored.isDone(e.Offset) {
			if e.Skipped != "" {
				l.group.skipped(l, e)
			}
			i.phase, i.entry = phaseDone, nil
			l.window = append(l.window, i)
			continue
		}
		i.n = l.stored.attemptsOf(e.Offset)
		l.bytes += int64(len(e.Event.JSON()))
		l.group.groups.memory.add(int64(len(e.Event.JSON())))
		l.window = append(l.window, i)
		if l.group.sub.Ordered && e.Key != 0 {
			if last := l.keys[e.Key]; last != nil {
				last.next, i.behind = i, true
			}
			l.keys[e.Key] = i
		}
		i.why = ReasonFence // where it was handed over, that was under another claim
		if !i.behind {
			l.free(i)
		}
	}
	l.read = max(l.read, read)
	l.trim()
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
	for _, i := range l.live() {
		if i.phase != phaseDone {
			return i.offset
		}
	}
	return l.read
}

func (s *state) attemptsOf(offset int64) int {
	i, ok := slices.BinarySearchFunc(s.attempts, offset, func(a attempt, o int64) int { return int(min(max(a.offset-o, -1), 1)) })
	if !ok {
		return 0
	}
	return s.attempts[i].n
}

// find returns the item at an offset, nil where none is in the window.
func (l *lane) find(offset int64) *item {
	live := l.live()
	k := sort.Search(len(live), func(k int) bool { return live[k].offset >= offset })
	if k < len(live) && live[k].offset == offset {
		return live[k]
	}
	return nil
}

// acknowledge takes an item for acknowledged, once that is stored.
func (l *lane) acknowledge(i *item) {
	if i.phase == phaseAcking || i.phase == phaseDone {
		return
	}
	l.unhand(i)
	i.phase = phaseAcking // the dead letter of one that was to have one is not needed any more
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
	for _, i := range l.live() {
		if i.phase == phaseGiven && !i.handed {
			l.giveBack(i, i.why, 0)
		}
	}
}

// hand notes that an item is being handed over.
func (l *lane) hand(i *item) {
	i.handed = true
	i.n++
	l.dirty = true // its attempts rise with the next write
	if i.n > 1 {
		l.counts.redelivered++
		l.group.groups.m.redelivered.Inc()
	}
	l.group.groups.m.delivered.Inc()
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
		i.phase, i.due = phaseDelayed, time.Now().Add(delay).UnixNano()
		return
	}
	l.free(i)
}

// settle marks items as done that are stored, and lets what waited behind them go.
func (l *lane) settle(items []*item) {
	for _, i := range items {
		if i.phase == phaseDone {
			continue
		}
		i.phase = phaseDone
		n := int64(len(i.entry.Event.JSON()))
		l.bytes -= n
		l.group.groups.memory.add(-n)
		if key := i.entry.Key; key != 0 && l.group.sub.Ordered {
			if l.keys[key] == i {
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
	l.trim()
	nudge(l.space)
}

// trim lets what is done at the window's front leave it.
func (l *lane) trim() {
	for l.front < len(l.window) && l.window[l.front].phase == phaseDone {
		l.window[l.front] = nil
		l.front++
	}
	if l.front > 256 && l.front > len(l.window)/2 {
		n := copy(l.window, l.window[l.front:])
		clear(l.window[n:])
		l.window, l.front = l.window[:n], 0
	}
}

// snapshot is the state with what is to be stored now taken for done.
func (l *lane) snapshot() state {
	s := state{cut: l.stored.cut, pos: l.read}
	isDone := func(i *item) bool { return i.phase == phaseDone || i.phase == phaseAcking }
	live := l.live()
	first := slices.IndexFunc(live, func(i *item) bool { return !isDone(i) })
	if first < 0 {
		first = len(live)
	} else {
		s.pos = live[first].offset
	}
	var run *span
	for _, i := range live[first:] {
		if isDone(i) {
			if run == nil {
				s.done = append(s.done, span{i.offset, 0})
				run = &s.done[len(s.done)-1]
			}
			run.to = i.offset + 1
			continue
		}
		run = nil
		if i.n > 0 {
			s.attempts = append(s.attempts, attempt{i.offset, i.n})
		}
	}
	// What a claim found above what was read so far is as it was.
	for _, d := range l.stored.done {
		if d.to > l.read {
			s.done = append(s.done, span{max(d.from, l.read), d.to})
		}
	}
	for _, a := range l.stored.attempts {
		if a.offset >= l.read {
			s.attempts = append(s.attempts, a)
		}
	}
	return join(s, state{cut: s.cut})
}

// reset empties the lane for a claim, or for good. What sessions hold of it means nothing any more.
func (l *lane) reset() {
	for _, i := range l.live() {
		if i.phase == phaseDone {
			continue
		}
		l.unhand(i)
		n := int64(len(i.entry.Event.JSON()))
		l.group.groups.memory.add(-n)
		i.entry, i.next = nil, nil // a session may keep the item for long
	}
	for _, p := range l.receipts {
		p.keep(false)
	}
	l.held, l.dirty, l.suspect, l.closing, l.again = false, false, false, false, ""
	l.anew.Store(false)
	l.bytes, l.window, l.front, l.todo, l.receipts = 0, nil, 0, nil, nil
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
		pause(ctx, min(claimRetry<<min(failures-1, 6), time.Second))
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
		pause(ctx, time.Second)
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

func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

package group

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/eventissuer/eventissuer/broker"
)

// receipt is for who waits until acknowledgements of several lanes are durable. It is guarded by the group's mu.
type receipt struct {
	open     int // lanes that have not said yet
	answer   Answer
	finished chan struct{} // closed once all have
}

func newReceipt() *receipt { return &receipt{open: 1, finished: make(chan struct{})} }

// close says that no more lanes follow.
func (r *receipt) close() { r.said() }

func (r *receipt) said() {
	if r.open--; r.open == 0 {
		close(r.finished)
	}
}

// promise is a lane's part of a receipt.
type promise struct {
	to *receipt
	n  int // events
}

// keep tells whether they are stored.
func (p promise) keep(stored bool) {
	if stored {
		p.to.answer.Acknowledged += p.n
	} else {
		p.to.answer.Refused += max(1, p.n) // with none it is of what was said before
	}
	p.to.said()
}

// writer writes the state of a lane under one claim, one write at a time, and has Kafka's commit follow. It belongs to
// the goroutine of the lane.
type writer struct {
	// static
	lane      *lane
	tenure    uint64
	saved     chan saved
	committed chan error
	under     sync.WaitGroup

	saving      bool
	standstills int // of the process, before this write
	items       []*item
	spare       []*item // memory for the next ones
	receipts    []promise
	busy        bool   // a commit is on its way
	told        int64  // what was committed last
	cut         uint64 // and of which cut
}

// saved is what became of a write.
type saved struct {
	state state
	ok    bool // stored; else the key is gone, or there was no answer
	err   error
}

func newWriter(l *lane, tenure uint64) *writer {
	return &writer{lane: l, tenure: tenure, saved: make(chan saved, 1), committed: make(chan error, 1), told: -1}
}

// start writes what there is to write, unless a write is on its way. What nobody waits for is written when timed.
func (w *writer) start(ctx context.Context, timed bool) {
	l, g := w.lane, w.lane.group
	if w.saving {
		return
	}
	g.mu.Lock()
	if !l.held || l.tenure != w.tenure || len(l.todo) == 0 && len(l.receipts) == 0 && !l.suspect && (!timed || !l.dirty) {
		g.mu.Unlock()
		return
	}
	w.items, w.receipts = l.todo, l.receipts
	l.todo, l.receipts, l.dirty, w.spare = w.spare, nil, false, nil
	s, at, nonce := l.snapshot(), l.at, l.nonce
	g.checkLate(time.Now())
	w.standstills = g.standstills
	g.mu.Unlock()
	w.saving = true
	// Who lets a partition go still waits for its last write.
	ctx = context.WithoutCancel(ctx)
	w.under.Go(func() {
		ok, err := g.groups.store.save(ctx, at, nonce, s.binary())
		w.saved <- saved{state: s, ok: ok && err == nil, err: err}
	})
}

// ended takes what became of a write. It returns false where the claim is lost, or may be.
func (w *writer) ended(is saved) bool {
	l, g := w.lane, w.lane.group
	items, receipts := w.items, w.receipts
	w.saving, w.items, w.receipts = false, nil, nil
	g.mu.Lock()
	defer g.mu.Unlock()
	switch {
	case is.err != nil:
		g.groups.m.writes.WithLabelValues("unanswered").Inc()
		g.log.Warn("a position may not be saved: the partition is claimed anew", "partition", l.name, "error", is.err)
	case !is.ok:
		g.groups.m.writes.WithLabelValues("refused").Inc()
		g.log.Info("another has claimed the partition, or Redis lost it: it is claimed anew", "partition", l.name)
	default:
		g.groups.m.writes.WithLabelValues("stored").Inc()
		if is.state.cut == l.stored.cut { // else the log has lost its end meanwhile
			l.stored = is.state
		}
		if g.checkLate(time.Now()); l.suspect && w.standstills == g.standstills {
			l.suspect = false
			g.tell(func(m *Member) { m.wake() }) // what waited with them may be taken now
		}
		l.settle(items)
		g.groups.m.acknowledged.Add(float64(len(items)))
		clear(items)
		w.spare = items[:0]
	}
	for _, p := range receipts {
		p.keep(is.ok)
	}
	if is.ok {
		g.feed(l)
	}
	return is.ok
}

// finish writes what is left, and waits for it.
func (w *writer) finish() {
	for {
		if w.saving {
			if !w.ended(<-w.saved) {
				return
			}
		}
		w.start(context.Background(), true)
		if !w.saving {
			break
		}
	}
	if !w.busy {
		w.commit(context.Background())
	}
	if w.busy {
		if err := <-w.committed; err != nil { // the next owner begins at what is stored
			w.lane.group.log.Debug("the last commit of a partition failed", "partition", w.lane.name, "error", err)
		}
		w.busy = false
	}
}

// wait returns when nothing is on its way. Who is still owed an answer is told that it was not stored: nobody looks at
// what became of it.
func (w *writer) wait() {
	w.under.Wait()
	g := w.lane.group
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, p := range w.receipts {
		p.keep(false)
	}
	w.receipts = nil
}

// commit has Kafka's commit follow what is stored, unless one is on its way.
func (w *writer) commit(ctx context.Context) {
	l, g := w.lane, w.lane.group
	g.mu.Lock()
	s, at := l.stored, l.at
	g.mu.Unlock()
	if w.busy || s.pos == w.told && s.cut == w.cut {
		return
	}
	w.busy, w.told, w.cut = true, s.pos, s.cut
	w.under.Go(func() {
		ctx, cancel := context.WithTimeout(ctx, commitTime)
		defer cancel()
		err := l.claim.Commit(ctx, s.pos, note{at, s.cut}.String())
		if err != nil && ctx.Err() == nil && !isNotOwner(err) {
			g.log.Warn("a position is not committed to Kafka; it will be", "partition", l.name, "error", err)
		}
		w.committed <- err
	})
}

// commitTime is how long a commit may take, for which a rebalance may hold it up.
const commitTime = 5 * time.Second

func isNotOwner(err error) bool { return errors.Is(err, broker.ErrNotOwner) }

// note is what stands beside a commit in Kafka: of which life of what its offset is. Another's says nothing.
type note struct {
	at  place
	cut uint64
}

// String is the note as it is committed.
func (n note) String() string { return fmt.Sprintf("%s %s %d", n.at.incarnation, n.at.epoch, n.cut) }

// floorOf is what a commit says of a place.
func floorOf(at place, offset int64, text string) (state, bool) {
	var incarnation, epoch string
	var cut uint64
	if n, err := fmt.Sscanf(text, "%s %s %d", &incarnation, &epoch, &cut); n != 3 || err != nil || offset < 0 {
		return state{}, false
	}
	return state{cut: cut, pos: offset}, incarnation == at.incarnation && epoch == at.epoch
}

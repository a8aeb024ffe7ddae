package kafka

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/eventissuer/eventissuer/broker"
)

const (
	longPoll = 500 * time.Millisecond
	// A topic cannot be deleted, made again and written to within this time, so what came that soon after a proof that
	// it was there is its own. After longer its id is looked up first.
	trustFor = time.Millisecond
	// How long a preferred replica is read from before the leader is asked again.
	preferFor = 5 * time.Minute
)

// tail is one Tail call. Its workers, one per broker that it reads from, only fetch and decode; everything is decided
// and delivered by the goroutine of the call itself.
//
// Brokers before Kafka 3.5 are asked for records by the topic's name, so an answer may be of another topic than the one
// before: the broker may have handled the request at any time until the answer came. Answers that could be (with records that
// came later than trustFor after the last proof, as those of a long poll do), and errors of any broker, are held back until a
// look at the topic's id, begun after they came, shows that it is still the same: ids never come back.
type tail struct {
	// static
	log    *Log
	topic  string
	h      broker.TailHandler
	answer chan answer // from workers
	ranges chan ranged // from range checks
	looks  chan looked // from the goroutine that looks
	work   sync.WaitGroup

	epoch broker.Epoch // of the life that it follows; static once it has begun

	// owned by run
	parts    []*tailPart
	brokers  map[int32]string
	workers  map[int32]*worker
	held     []held
	looking  bool
	lookNext bool      // look again: something was held after the present look began
	lookAt   time.Time // after a look that failed
	blind    int       // looks that failed in a row
	doubt    bool      // an answer was not the topic's: deliver nothing that may be another's until that is settled
	proven   time.Time // the last look that showed the topic began then
	problems map[string]error
}

type tailPart struct {
	id        int32
	next      int64
	leader    int32     // -1: unknown
	replica   int32     // -1: none preferred to the leader
	preferred time.Time // since when
	maxBytes  int32
	starved   bool      // there is a batch for it larger than it may have, so it may have more
	busy      bool      // in a fetch, held, or checked
	notBefore time.Time // wait after a failure
	failures  int
}

func (p *tailPart) source() int32 {
	if p.replica >= 0 {
		return p.replica
	}
	return p.leader
}

// held is what waits for a look.
type held struct {
	at    time.Time
	apply func(ctx context.Context)
}

type looked struct {
	view  *topicView
	err   error
	doubt bool // not the end of the look: one answer was not the topic's
}

type ranged struct {
	part   *tailPart
	at     time.Time
	bounds broker.Bounds
	err    error
}

// Tail implements broker.Tailer.
func (l *Log) Tail(ctx context.Context, topic string, epoch broker.Epoch, from []int64, h broker.TailHandler) error {
	ctx, end, err := l.begin(ctx, 0)
	if err != nil {
		return err
	}
	defer end()
	ctx, cancel := context.WithCancel(ctx)
	t := &tail{
		log: l, topic: topic, epoch: epoch, h: h,
		answer: make(chan answer), ranges: make(chan ranged), looks: make(chan looked),
		workers: make(map[int32]*worker), problems: make(map[string]error),
	}
	defer t.work.Wait()
	defer cancel()
	err = t.run(ctx, from)
	if ctx.Err() != nil {
		if cause := context.Cause(ctx); errors.Is(cause, broker.ErrClosed) {
			return cause
		}
		return ctx.Err()
	}
	return err
}

func (t *tail) run(ctx context.Context, from []int64) error {
	view, err := t.begin(ctx)
	if err != nil {
		return err
	}
	t.epoch, t.proven = view.epoch, view.asked
	t.learn(view, func(p int) int64 {
		if p < len(from) {
			return from[p]
		}
		return 0
	})
	if n := int32(len(view.partitions)); int(n) > len(from) {
		t.h.Partitions(n)
	}
	ticker := time.NewTicker(t.log.cfg.MetadataEvery)
	defer ticker.Stop()
	retry := time.NewTimer(0)
	defer retry.Stop()
	for {
		if wait := t.dispatch(ctx); wait > 0 {
			retry.Reset(wait)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-ticker.C:
			t.look(ctx)
		case now := <-retry.C:
			if !t.lookAt.IsZero() && !now.Before(t.lookAt) {
				t.look(ctx)
			}
		case a := <-t.answer:
			t.answered(ctx, a)
		case r := <-t.ranges:
			t.checked(ctx, r)
		case l := <-t.looks:
			if err := t.looked(ctx, l); err != nil {
				return err
			}
		}
	}
}

// begin finds the topic, however long the cluster cannot be reached.
func (t *tail) begin(ctx context.Context) (*topicView, error) {
	for wait := retryAfter; ; wait = min(2*wait, retryMost) {
		view, err := t.log.cluster.confirm(ctx, t.topic, t.epoch, nil)
		switch {
		case err == nil:
			t.well("cluster")
			return view, nil
		case ctx.Err() != nil:
			return nil, ctx.Err()
		case errors.Is(err, broker.ErrNoTopic), errors.Is(err, broker.ErrRecreated):
			return nil, err
		}
		t.ill("cluster", err)
		if err := pause(ctx, wait); err != nil {
			return nil, err
		}
	}
}

// learn takes over leaders and new partitions.
func (t *tail) learn(view *topicView, from func(p int) int64) (grown bool) {
	t.brokers = view.brokers
	for len(t.parts) < len(view.partitions) {
		n := len(t.parts)
		t.parts = append(t.parts, &tailPart{id: int32(n), next: from(n), leader: -1, replica: -1, maxBytes: int32(t.log.cfg.FetchBytes)})
		grown = true
	}
	for _, p := range t.parts {
		if int(p.id) >= len(view.partitions) {
			continue // a broker that lags behind
		}
		leader := view.partitions[p.id].leader
		if _, ok := view.brokers[leader]; !ok {
			leader = -1
			t.ill(p.name(), fmt.Errorf("%w: partition %d has no leader", broker.ErrUnavailable, p.id))
		}
		if leader != p.leader {
			p.leader, p.replica, p.notBefore = leader, -1, time.Time{}
		}
		if _, ok := view.brokers[p.replica]; !ok || time.Since(p.preferred) > preferFor {
			p.replica = -1
		}
	}
	return grown
}

func (p *tailPart) name() string { return fmt.Sprintf("partition %d", p.id) }

// dispatch gives every idle worker what its broker has to be asked for, starts and ends workers as leaders move, and
// returns how long the first of the partitions that wait has to, or 0.
func (t *tail) dispatch(ctx context.Context) (wait time.Duration) {
	now := time.Now()
	if !t.lookAt.IsZero() && !t.looking {
		wait = max(t.lookAt.Sub(now), time.Millisecond)
	}
	wanted := make(map[int32][]want, len(t.workers)+1)
	used := make(map[int32]bool, len(t.workers)+1)
	for _, p := range t.parts {
		source := p.source()
		if source < 0 {
			continue
		}
		used[source] = true
		if p.busy {
			continue
		}
		if left := p.notBefore.Sub(now); left > 0 {
			if wait == 0 || left < wait {
				wait = left
			}
			continue
		}
		wanted[source] = append(wanted[source], want{p.id, p.next, p.maxBytes})
	}
	for id, w := range t.workers {
		if w.idle && (!used[id] || w.addr != t.brokers[id]) {
			close(w.tasks)
			delete(t.workers, id)
		}
	}
	for id, wants := range wanted {
		w := t.workers[id]
		if w == nil {
			w = t.hire(ctx, id, t.brokers[id])
		}
		if !w.idle {
			continue
		}
		for _, want := range wants {
			t.parts[want.partition].busy = true
		}
		w.idle = false
		share := int32(max(t.log.cfg.FetchTotalBytes/len(wants), 1))
		for i := range wants {
			if p := t.parts[wants[i].partition]; !p.starved {
				wants[i].maxBytes = min(wants[i].maxBytes, share)
			}
		}
		w.tasks <- task{wants: wants} // never blocks: an idle worker's channel is empty
	}
	return wait
}

// answered takes what a worker brought.
func (t *tail) answered(ctx context.Context, a answer) {
	proven := t.proven
	w := t.workers[a.worker]
	if w != nil {
		w.idle = true
		if w.proven.After(proven) {
			proven = w.proven
		}
	}
	if a.sure && a.err == nil {
		good, failed := a.parted()
		t.apply(ctx, good)
		if len(failed.wants) > 0 {
			t.hold(ctx, a.at, func(ctx context.Context) { t.apply(ctx, failed) })
		}
		return
	}
	apply := func(ctx context.Context) { t.apply(ctx, a) }
	late := a.at.Sub(proven) > trustFor
	if a.err != nil || a.failed || t.doubt || a.moves && late {
		// The worker goes on only with partitions that are not held; what failed waits a little anyway.
		t.hold(ctx, a.at, apply)
		return
	}
	if a.moves && w != nil {
		w.proven = a.sent
	}
	apply(ctx)
}

func (t *tail) hold(ctx context.Context, at time.Time, apply func(context.Context)) {
	t.held = append(t.held, held{at, apply})
	t.look(ctx)
}

// look looks at the topic in a goroutine of its own, once more if it is just being done.
func (t *tail) look(ctx context.Context) {
	if t.looking {
		t.lookNext = true
		return
	}
	t.looking, t.lookNext, t.lookAt = true, false, time.Time{}
	tell := func(l looked) {
		select {
		case t.looks <- l:
		case <-ctx.Done():
		}
	}
	epoch := t.epoch
	t.work.Go(func() {
		ctx, cancel := context.WithTimeout(ctx, t.log.cfg.RequestTimeout)
		defer cancel()
		view, err := t.log.cluster.confirm(ctx, t.topic, epoch, func() { tell(looked{doubt: true}) })
		tell(looked{view: view, err: err})
	})
}

// looked takes what a look brought, and delivers what it shows to be of the same topic.
func (t *tail) looked(ctx context.Context, l looked) error {
	if l.doubt {
		t.doubt = true
		return nil
	}
	t.looking = false
	if errors.Is(l.err, broker.ErrNoTopic) || errors.Is(l.err, broker.ErrRecreated) {
		return l.err
	}
	if t.blinded(l.err) {
		return nil
	}
	t.well("cluster")
	t.doubt, t.blind, t.lookAt, t.proven = false, 0, time.Time{}, l.view.asked
	if t.learn(l.view, func(int) int64 { return 0 }) {
		t.h.Partitions(int32(len(t.parts)))
	}
	waiting := t.held
	t.held = nil
	for i, h := range waiting {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if h.at.After(l.view.asked) {
			t.held = append(t.held, waiting[i])
			continue
		}
		h.apply(ctx)
	}
	if len(t.held) > 0 || t.lookNext {
		t.look(ctx)
	}
	return nil
}

// blinded notes a look that failed, which is no end of the tail: the cluster cannot be reached at the moment.
func (t *tail) blinded(err error) bool {
	if err == nil {
		return false
	}
	t.ill("cluster", err)
	t.lookAt = time.Now().Add(min(retryAfter<<min(t.blind, 8), retryMost))
	t.blind++
	return true
}

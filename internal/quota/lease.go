package quota

import (
	"context"
	"errors"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"
)

// leaseBatch bounds a pipeline.
const leaseBatch = 256

// Run leases tokens from Redis, ahead of need, until ctx ends. Without it, or without Redis, each replica goes by its share.
func (q *Quotas) Run(ctx context.Context) error {
	q.running.Store(true)
	defer q.running.Store(false)
	sweep := time.NewTicker(idleTime / 4)
	defer sweep.Stop()
	for {
		select {
		case <-ctx.Done():
			q.letGo(q.queued())
			return nil
		case <-sweep.C:
			q.sweep(q.clock.Elapsed())
		case <-q.kick:
			q.lease(ctx)
		}
	}
}

// enqueue has the entry refilled. The caller holds the entry's lock.
func (q *Quotas) enqueue(e *entry) {
	q.mu.Lock()
	q.queue = append(q.queue, e)
	q.mu.Unlock()
	select {
	case q.kick <- struct{}{}:
	default:
	}
}

func (q *Quotas) queued() []*entry {
	q.mu.Lock()
	defer q.mu.Unlock()
	all := q.queue
	q.queue = nil
	return all
}

// letGo has those who wait look again.
func (q *Quotas) letGo(entries []*entry) {
	for _, e := range entries {
		e.mu.Lock()
		e.settled()
		e.mu.Unlock()
	}
}

// settled ends a refill. The caller holds the lock.
func (e *entry) settled() {
	for i := range e.meters {
		e.meters[i].missing = 0
	}
	if e.pending != nil {
		close(e.pending)
		e.pending = nil
	}
}

// ask is one lease: amount tokens of one second of one limit.
type ask struct {
	entry  *entry
	meter  int
	second int64
	amount int64
	limit  Limit
	first  bool // the replica's first of the second
	reply  *redis.IntCmd
}

// lease serves all who wait for tokens. A pass asks one second of each limit, the oldest that is good and not used up;
// who lacks more after it comes again with the next.
func (q *Quotas) lease(ctx context.Context) {
	for waiting := q.queued(); len(waiting) > 0; waiting = waiting[min(len(waiting), leaseBatch):] {
		batch := waiting[:min(len(waiting), leaseBatch)]
		var asks []ask
		now := time.Now()
		for _, e := range batch {
			e.mu.Lock()
			asks = e.asks(asks, now)
			e.mu.Unlock()
		}
		if len(asks) > 0 && !q.send(ctx, asks) {
			q.letGo(waiting)
			return
		}
		for i := range asks {
			asks[i].granted()
		}
		for _, e := range batch {
			e.mu.Lock()
			if e.lacking(time.Now().Unix()) {
				q.enqueue(e)
			} else {
				e.settled()
			}
			e.mu.Unlock()
		}
	}
}

// asks appends what to ask for the entry. The caller holds the lock.
func (e *entry) asks(dst []ask, now time.Time) []ask {
	second := now.Unix()
	for i := range e.meters {
		m := &e.meters[i]
		if m.limit == 0 {
			continue
		}
		if amount := max(m.missing, m.target()) - m.held(second); amount > 0 {
			for k := second - m.burst + 1; k <= second; k++ {
				if s := m.slot(k); !s.full(m.limit) {
					dst = append(dst, ask{entry: e, meter: i, second: k, amount: min(amount, m.turn()), limit: e.limit, first: s.leased == 0})
					break
				}
			}
		}
		if next := m.slot(second + 1); late(now) && !next.asked {
			next.asked = true
			if amount := min(m.target(), m.limit); amount > 0 {
				dst = append(dst, ask{entry: e, meter: i, second: second + 1, amount: amount, limit: e.limit, first: true})
			}
		}
	}
	return dst
}

// turn bounds one lease, so that replicas that want much take turns.
func (m *meter) turn() int64 { return min(m.limit, max(m.last, m.limit/8, 1)) }

// lacking reports whether somebody waits for what may still be leased. The caller holds the lock.
func (e *entry) lacking(second int64) bool {
	for i := range e.meters {
		if m := &e.meters[i]; m.limit > 0 && m.missing > m.held(second) && m.open(second) {
			return true
		}
	}
	return false
}

// send asks Redis. The counter of a second tells how much of it has been leased to all; what it passes the limit by was
// not given to anybody.
func (q *Quotas) send(ctx context.Context, asks []ask) bool {
	ctx, cancel := context.WithTimeout(ctx, q.config.Timeout)
	defer cancel()
	pipe := q.redis.Pipeline()
	for i := range asks {
		a := &asks[i]
		kind := ":e:"
		if a.meter == 1 {
			kind = ":b:"
		}
		key := q.config.Prefix + "quota:" + a.entry.name + kind + strconv.FormatInt(a.second, 10)
		a.reply = pipe.IncrBy(ctx, key, a.amount)
		if a.first {
			pipe.Expire(ctx, key, time.Duration(maxBurst+2)*time.Second)
		}
	}
	_, err := pipe.Exec(ctx)
	q.m.leases.Add(float64(len(asks)))
	if err == nil {
		if q.failing.Swap(false) {
			q.log.Info("quotas are shared over all replicas again")
		}
		return true
	}
	q.m.failures.Inc()
	q.resting.Store(int64(q.clock.Elapsed() + restTime))
	if !q.failing.Swap(true) && !errors.Is(ctx.Err(), context.Canceled) {
		q.log.Warn("quotas are not shared: each replica allows its own share", "error", err)
	}
	return false
}

// granted notes what Redis answered.
func (a *ask) granted() {
	e := a.entry
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.limit != a.limit {
		return // the limit has changed meanwhile: what was leased under the old one is given up
	}
	m := &e.meters[a.meter]
	total := a.reply.Val()
	before := total - a.amount
	if s := &m.slots[a.second%int64(len(m.slots))]; s.second <= a.second {
		s = m.slot(a.second)
		s.leased = max(s.leased, total)
		s.tokens += min(a.amount, max(0, m.limit-before))
	}
}

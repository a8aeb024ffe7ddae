package loadtest

import (
	"context"
	"time"
)

// storm drops the group's readers whenever that is due, while publishing goes on.
func (q *squad) storm(ctx context.Context) {
	defer func() {
		q.mu.Lock()
		q.storming = false
		q.mu.Unlock()
	}()
	if len(q.Config.Storms) == 0 {
		return
	}
	select {
	case <-q.began:
	case <-ctx.Done():
		return
	}
	begin := time.Unix(0, q.all.from.Load())
	for _, c := range q.Config.Storms {
		if !wait(ctx, time.Until(begin.Add(c.At))) {
			return
		}
		s, ok := q.drop(ctx, c)
		if !ok {
			return
		}
		q.mu.Lock()
		q.storms = append(q.storms, s)
		q.mu.Unlock()
		if !wait(ctx, q.settle) {
			return
		}
	}
}

// drop is one storm. It is false where ctx ended it.
func (q *squad) drop(ctx context.Context, c StormConfig) (Storm, bool) {
	before, failures, began := q.all.storms.Load(), q.all.failures.Load(), time.Now().Add(c.Away)
	q.client.drop(c.Share, c.Away)
	live, err := within(ctx, c.Away+c.Timeout, func() bool { return q.all.storms.Load() > before && q.all.away.Load() <= 0 })
	s := Storm{At: began.Sub(time.Unix(0, q.all.from.Load())).Seconds(), AllLive: time.Since(began).Seconds()}
	if err != nil {
		return s, false
	}
	// A server that sends no block before its next event has its readers whole only then.
	blocks, err := within(ctx, max(0, c.Timeout-time.Since(began)), func() bool { return q.all.waiting.Load() <= 0 })
	s.AllBlocks = time.Since(began).Seconds()
	s.Timeout, s.Failures = !live || !blocks, q.all.failures.Load()-failures
	return s, err == nil
}

// merge adds what a storm was in another process, at the same time.
func (s *Storm) merge(o Storm) {
	s.At = max(s.At, o.At)
	s.AllLive, s.AllBlocks = max(s.AllLive, o.AllLive), max(s.AllBlocks, o.AllBlocks)
	s.Timeout = s.Timeout || o.Timeout
	s.Failures += o.Failures
}

// within polls a condition. It says whether the condition came true in time; an error is the end of ctx.
func within(ctx context.Context, timeout time.Duration, cond func() bool) (bool, error) {
	for deadline := time.Now().Add(timeout); !cond(); {
		if time.Now().After(deadline) {
			return false, nil
		}
		if !wait(ctx, 2*time.Millisecond) {
			return false, ctx.Err()
		}
	}
	return true, nil
}

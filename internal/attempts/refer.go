package attempts

import (
	"context"
	"fmt"
	"sync"
	"time"
)

// referral is a reference on its way to Redis.
type referral struct {
	subscription string
	reference    reference
}

// references are those that Redis is to be given.
type references struct {
	most int
	kick chan struct{}

	mu      sync.Mutex
	waiting []referral // guarded by mu
}

func newReferences(most int) *references {
	return &references{most: most, kick: make(chan struct{}, 1)}
}

// add reports whether there was room.
func (r *references) add(one referral) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.waiting) >= r.most {
		return false
	}
	r.waiting = append(r.waiting, one)
	nudge(r.kick)
	return true
}

// referMost bounds a pipeline.
const referMost = 1000

// first returns the oldest, which stay until they are done.
func (r *references) first() []referral {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := min(len(r.waiting), referMost)
	return r.waiting[:n:n]
}

func (r *references) done(n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.waiting = r.waiting[n:]; len(r.waiting) == 0 {
		r.waiting = nil
	}
}

const (
	noteAgain = time.Second
	noteRests = 5 * time.Second
)

// note writes references and counts to Redis until ctx ends, and then what is left.
func (l *Log) note(ctx context.Context) {
	tick := time.NewTicker(l.cfg.FlushEvery)
	defer tick.Stop()
	again := time.NewTimer(0)
	defer again.Stop()
	failing, wait := false, noteAgain
	for {
		counts := false
		kick := l.references.kick
		if failing {
			kick = nil // it is tried at its time
		}
		select {
		case <-kick:
		case <-again.C:
			counts = failing
		case <-tick.C:
			if failing {
				continue
			}
			counts = true
		case <-ctx.Done():
			l.noteRest(context.WithoutCancel(ctx))
			return
		}
		whole := context.WithoutCancel(ctx) // what is under way is not cut off, only to be written again
		err := l.refer(whole)
		if err == nil && counts {
			err = l.flush(whole, time.Now())
		}
		switch {
		case err == nil && failing:
			failing, wait = false, noteAgain
			l.log.Info("attempts can be found and are counted again")
		case err != nil && ctx.Err() == nil:
			if !failing {
				l.log.Warn("attempts are not referred to and not counted in Redis; trying again", "error", err)
			}
			failing = true
			again.Reset(wait)
			wait = min(2*wait, noteRests)
		}
	}
}

// noteRest writes what is left when the writing ends.
func (l *Log) noteRest(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, l.cfg.Drain)
	defer cancel()
	err := l.refer(ctx)
	if err == nil {
		err = l.flush(ctx, time.Now())
	}
	if err != nil {
		l.log.Warn("the last attempts are not referred to, or not counted, in Redis", "error", err)
	}
}

func (l *Log) listKey(subscription string) string { return l.cfg.Prefix + "attempts:" + subscription }

// refer gives Redis the references that wait. Where a write was made though it was not answered, it is made again:
// readers see each reference once.
func (l *Log) refer(ctx context.Context) error {
	for {
		batch := l.references.first()
		if len(batch) == 0 {
			return nil
		}
		bySubscription := map[string][]any{}
		for _, one := range batch {
			bySubscription[one.subscription] = append(bySubscription[one.subscription], one.reference.packed())
		}
		limited, cancel := context.WithTimeout(ctx, l.cfg.Timeout)
		pipe := l.redis.Pipeline()
		for subscription, refs := range bySubscription {
			key := l.listKey(subscription)
			pipe.LPush(limited, key, refs...)
			pipe.LTrim(limited, key, 0, int64(l.cfg.References-1))
			pipe.Expire(limited, key, l.cfg.Retention+24*time.Hour)
		}
		_, err := pipe.Exec(limited)
		cancel()
		if err != nil {
			return fmt.Errorf("refer to %d attempts: %w", len(batch), err)
		}
		l.references.done(len(batch))
	}
}

package failing

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/redis/go-redis/v9"

	"github.com/eventissuer/eventissuer/internal/clock"
)

// In Redis there is one sorted set of all that fails, "<incarnation>/<subscription>" by the Unix millisecond in which the
// period began, and a hash for each: last, when the latest failure was; cause, why; told, what of which period has been
// told; and disabled, which period has disabled whose subscription. What is of one period does not count in another.

const (
	fieldLast  = "last"
	fieldCause = "cause"
	fieldTold  = "told"
	fieldEnded = "disabled"
)

func (w *Watch) setKey() string { return w.cfg.Prefix + "failing" }

func (w *Watch) hashKey(incarnation uuid.UUID) string {
	return w.cfg.Prefix + "failing:" + incarnation.String()
}

func member(incarnation uuid.UUID, subscription string) string {
	return incarnation.String() + "/" + subscription
}

func parseMember(text string) (incarnation uuid.UUID, subscription string, ok bool) {
	first, subscription, ok := strings.Cut(text, "/")
	incarnation, err := uuid.Parse(first)
	return incarnation, subscription, ok && err == nil
}

const (
	// noteApart is how far apart two writes of what is noted are at least.
	noteApart = 100 * time.Millisecond
	noteMost  = 500 // bounds a pipeline
	// causesMost bounds for how many endpoints the cause is asked in one look.
	causesMost = 500
)

// noteAll writes what was noted here, and reads what was noted by all, until ctx ends.
func (w *Watch) noteAll(ctx context.Context) {
	tick := time.NewTicker(w.cfg.Every)
	defer tick.Stop()
	failing := false
	for look := true; ; {
		err := w.note(ctx)
		if err == nil && look {
			if err = w.look(ctx); err == nil {
				nudge(w.looked)
			}
		}
		switch {
		case err == nil && failing && look:
			failing = false
			w.log.Info("endpoints that fail are watched over all replicas again")
		case err != nil && ctx.Err() == nil:
			w.m.failures.Inc()
			if !failing {
				failing = true
				w.log.Warn("endpoints that fail are not watched over all replicas; trying again", "error", err)
			}
		}
		kick := w.kick
		if err != nil {
			kick = nil // it is tried again at the next tick
		}
		select {
		case <-kick:
			look = false
			clock.Pause(ctx, noteApart)
		case <-tick.C:
			look = true
		case <-ctx.Done():
			if err := w.note(context.WithoutCancel(ctx)); err != nil {
				w.log.Warn("what was noted of endpoints last is not kept", "error", err)
			}
			return
		}
	}
}

// noted is what is to be written of one endpoint.
type noted struct {
	incarnation  uuid.UUID
	subscription string
	cleared      bool
	failed       time.Time
	cause        string
	version      uint64

	score *redis.FloatCmd
	last  *redis.StringCmd
}

// note gives Redis what was noted here.
func (w *Watch) note(ctx context.Context) error {
	w.mu.RLock()
	all := make([]*noted, 0, len(w.dirty))
	for incarnation := range w.dirty {
		s := w.states[incarnation]
		all = append(all, &noted{
			incarnation: incarnation, subscription: s.subscription, cleared: s.cleared, failed: s.failed, cause: s.cause, version: s.version,
		})
	}
	w.mu.RUnlock()
	for batch := range slices.Chunk(all, noteMost) {
		if err := w.write(ctx, batch); err != nil {
			return err
		}
		w.mu.Lock()
		for _, n := range batch {
			s := w.states[n.incarnation]
			if s.version != n.version {
				continue // there is more by now
			}
			delete(w.dirty, n.incarnation)
			if s.failed.IsZero() { // a success was the last
				delete(w.states, n.incarnation)
			}
			if s.cleared {
				s.since, s.told = time.Time{}, 0
			}
			s.cleared, s.failed = false, time.Time{}
		}
		w.mu.Unlock()
	}
	return nil
}

// write blocks for two round trips.
func (w *Watch) write(ctx context.Context, batch []*noted) error {
	ctx, cancel := context.WithTimeout(ctx, w.cfg.Timeout)
	defer cancel()
	pipe := w.deps.Redis.Pipeline()
	for _, n := range batch {
		if n.cleared {
			pipe.ZRem(ctx, w.setKey(), member(n.incarnation, n.subscription))
			pipe.Del(ctx, w.hashKey(n.incarnation))
		}
		if !n.failed.IsZero() {
			n.score = pipe.ZScore(ctx, w.setKey(), member(n.incarnation, n.subscription))
			n.last = pipe.HGet(ctx, w.hashKey(n.incarnation), fieldLast)
		}
	}
	if _, err := pipe.Exec(ctx); err != nil && !errors.Is(err, redis.Nil) {
		return fmt.Errorf("read what is known of endpoints that fail: %w", err)
	}
	pipe = w.deps.Redis.Pipeline()
	for _, n := range batch {
		if n.failed.IsZero() {
			continue
		}
		policy, ok := w.deps.Definitions.Policy(n.subscription, n.incarnation)
		if !ok {
			continue // nothing is sent to it any more
		}
		since := n.failed
		if now := time.Now(); now.Sub(since) > 2*w.cfg.Every { // Redis was away, and others may have succeeded since
			since = now
		}
		z := redis.Z{Score: float64(since.UnixMilli()), Member: member(n.incarnation, n.subscription)}
		last, known := milliseconds(n.last.Val())
		if known && n.failed.Sub(last) > policy.quiet() {
			pipe.ZAdd(ctx, w.setKey(), z) // a period that went quiet: this failure begins another
		} else {
			pipe.ZAddNX(ctx, w.setKey(), z)
		}
		pipe.HSet(ctx, w.hashKey(n.incarnation), fieldLast, strconv.FormatInt(n.failed.UnixMilli(), 10), fieldCause, n.cause)
		pipe.Expire(ctx, w.hashKey(n.incarnation), policy.DisableAfter+policy.quiet()+24*time.Hour)
	}
	if pipe.Len() == 0 {
		return nil
	}
	if _, err := pipe.Exec(ctx); err != nil {
		return fmt.Errorf("write which endpoints fail: %w", err)
	}
	return nil
}

func milliseconds(text string) (time.Time, bool) {
	ms, err := strconv.ParseInt(text, 10, 64)
	return time.UnixMilli(ms), err == nil
}

// look reads what all replicas have noted.
func (w *Watch) look(ctx context.Context) error {
	limited, cancel := context.WithTimeout(ctx, w.cfg.Timeout)
	defer cancel()
	all, err := w.deps.Redis.ZRangeWithScores(limited, w.setKey(), 0, int64(w.cfg.Most-1)).Result()
	if err != nil {
		return fmt.Errorf("read which endpoints fail: %w", err)
	}
	found := make(map[uuid.UUID]struct{}, len(all))
	var unexplained []uuid.UUID
	w.mu.Lock()
	for _, z := range all {
		text, _ := z.Member.(string)
		incarnation, subscription, ok := parseMember(text)
		if !ok {
			continue
		}
		found[incarnation] = struct{}{}
		s := w.states[incarnation]
		if s == nil {
			s = &state{subscription: subscription}
			w.states[incarnation] = s
		}
		if since := time.UnixMilli(int64(z.Score)); !s.cleared && !s.since.Equal(since) {
			s.since, s.told = since, 0
		}
		if s.cause == "" && len(unexplained) < causesMost {
			unexplained = append(unexplained, incarnation)
		}
	}
	for incarnation, s := range w.states {
		if _, ok := found[incarnation]; !ok {
			if !s.pending() {
				delete(w.states, incarnation)
			}
			s.since, s.told = time.Time{}, 0
		}
	}
	w.m.failing.Set(float64(len(w.states)))
	w.mu.Unlock()
	return w.explain(limited, unexplained)
}

// explain reads causes that other replicas have noted.
func (w *Watch) explain(ctx context.Context, incarnations []uuid.UUID) error {
	if len(incarnations) == 0 {
		return nil
	}
	pipe := w.deps.Redis.Pipeline()
	causes := make([]*redis.StringCmd, len(incarnations))
	for i, incarnation := range incarnations {
		causes[i] = pipe.HGet(ctx, w.hashKey(incarnation), fieldCause)
	}
	if _, err := pipe.Exec(ctx); err != nil && !errors.Is(err, redis.Nil) {
		return fmt.Errorf("read why endpoints fail: %w", err)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for i, incarnation := range incarnations {
		if s := w.states[incarnation]; s != nil && s.cause == "" {
			s.cause = causes[i].Val()
		}
	}
	return nil
}

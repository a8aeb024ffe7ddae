package failing

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/redis/go-redis/v9"

	"github.com/eventissuer/eventissuer/internal/operations"
)

// levels are the percentages at which something is told. At the last the subscription is disabled.
var levels = [...]int{50, 70, 90, 100}

// levelOf is how many of the levels a period has reached.
func levelOf(lasted, disableAfter time.Duration) int {
	n := 0
	for n < len(levels) && lasted >= disableAfter/100*time.Duration(levels[n]) {
		n++
	}
	return n
}

// strayAfter is how old a period is at least when it is dropped because nothing is sent under its incarnation: this replica
// may only not have seen the definition yet.
const strayAfter = time.Minute

// judgeMost bounds how much is told between two looks, so that what has changed meanwhile is seen.
const judgeMost = 500

// judged is a period that something is to be done about.
type judged struct {
	incarnation  uuid.UUID
	subscription string
	since        time.Time
	policy       Policy // zero: nothing is sent under the incarnation any more
	level        int    // likewise
}

// judgeAll tells what is due until ctx ends.
func (w *Watch) judgeAll(ctx context.Context) {
	for {
		select {
		case <-w.looked:
		case <-ctx.Done():
			return
		}
		due, stray := w.due(time.Now())
		for _, d := range append(due, stray...) {
			if ctx.Err() != nil {
				return
			}
			if err := w.tell(ctx, d); err != nil && ctx.Err() == nil {
				w.log.Warn("what is to be told of a failing endpoint is not told yet; trying again", "subscription", d.subscription, "error", err)
			}
		}
	}
}

// due returns periods that have come to a level that was not told, and those that are of nothing any more.
func (w *Watch) due(now time.Time) (due, stray []judged) {
	w.mu.RLock()
	defer w.mu.RUnlock()
	for incarnation, s := range w.states { // in random order, so that replicas do not all begin with the same
		if s.since.IsZero() || s.cleared || len(due)+len(stray) >= judgeMost {
			continue
		}
		policy, ok := w.deps.Definitions.Policy(s.subscription, incarnation)
		d := judged{incarnation, s.subscription, s.since, policy, 0}
		if !ok {
			if now.Sub(s.since) >= strayAfter {
				stray = append(stray, d)
			}
			continue
		}
		if d.level = levelOf(now.Sub(s.since), policy.DisableAfter); d.level > s.told {
			due = append(due, d)
		}
	}
	return due, stray
}

// drop ends a period.
func (w *Watch) drop(ctx context.Context, d judged) error {
	ctx, cancel := context.WithTimeout(ctx, w.cfg.Timeout)
	defer cancel()
	return w.deps.Redis.ZRem(ctx, w.setKey(), member(d.incarnation, d.subscription)).Err()
}

// knowledge is what Redis has of a period at the moment.
type knowledge struct {
	current bool // it is still the period
	told    int  // up to which level
	last    time.Time
	cause   string
	// disabled says that it has disabled its subscription, whose owner that is.
	disabled bool
	owner    string
}

func (w *Watch) know(ctx context.Context, d judged) (k knowledge, err error) {
	ctx, cancel := context.WithTimeout(ctx, w.cfg.Timeout)
	defer cancel()
	pipe := w.deps.Redis.Pipeline()
	score := pipe.ZScore(ctx, w.setKey(), member(d.incarnation, d.subscription))
	fields := pipe.HMGet(ctx, w.hashKey(d.incarnation), fieldTold, fieldLast, fieldCause, fieldEnded)
	if _, err := pipe.Exec(ctx); err != nil && !errors.Is(err, redis.Nil) {
		return k, err
	}
	k.current = score.Err() == nil && int64(score.Val()) == d.since.UnixMilli()
	if values := fields.Val(); len(values) == 4 {
		text := func(i int) string { s, _ := values[i].(string); return s }
		k.told = parseTold(text(0), d.since)
		k.last, _ = milliseconds(text(1))
		k.cause = text(2)
		k.owner, k.disabled = strings.CutPrefix(text(3), told(d.since, len(levels))+"/")
	}
	return k, nil
}

// told is how it is written up to which level a period's have been told.
func told(since time.Time, level int) string {
	return strconv.FormatInt(since.UnixMilli(), 10) + "/" + strconv.Itoa(level)
}

func parseTold(text string, since time.Time) int {
	for level := len(levels); level > 0; level-- {
		if text == told(since, level) {
			return level
		}
	}
	return 0
}

// tell tells what a period has come to, unless it was told, or another replica is about it.
func (w *Watch) tell(ctx context.Context, d judged) error {
	k, err := w.know(ctx, d)
	if done, err := w.settled(ctx, d, k, err); done || err != nil {
		return err
	}
	// What follows is under a claim, which a replica that dies leaves to lapse. All that may take long is bounded so that it
	// ends before the claim does.
	won, release, err := w.claim(ctx, d)
	if err != nil || !won {
		return err
	}
	defer release()
	claimed, cancel := context.WithTimeout(ctx, w.cfg.Lease/2)
	defer cancel()
	k, err = w.know(claimed, d) // another may have told it just before
	if done, err := w.settled(claimed, d, k, err); done || err != nil {
		return err
	}
	if d.level == len(levels) && !k.disabled {
		if err := w.disable(claimed, d, k); err != nil {
			return err
		}
		k.disabled, k.owner = true, d.policy.Owner
	}
	if err := w.publish(claimed, d, k); err != nil {
		return err
	}
	if k.disabled {
		return w.drop(context.WithoutCancel(ctx), d)
	}
	limited, cancel := context.WithTimeout(context.WithoutCancel(ctx), w.cfg.Timeout)
	defer cancel()
	if err := w.deps.Redis.HSet(limited, w.hashKey(d.incarnation), fieldTold, told(d.since, d.level)).Err(); err != nil {
		return err
	}
	w.noteTold(d)
	return nil
}

// settled reports whether there is nothing to tell of a period, going by what is known of it.
func (w *Watch) settled(ctx context.Context, d judged, k knowledge, err error) (bool, error) {
	switch {
	case err != nil:
		return false, err
	case !k.current:
		return true, nil
	case k.disabled: // and that was not told
		return false, nil
	case d.level == 0:
		return true, w.drop(ctx, d)
	case k.told >= d.level:
		w.noteTold(d)
		return true, nil
	case !k.last.IsZero() && time.Since(k.last) > d.policy.quiet():
		return true, w.drop(ctx, d)
	}
	return false, nil
}

// noteTold saves this replica from asking again.
func (w *Watch) noteTold(d judged) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if s := w.states[d.incarnation]; s != nil && s.since.Equal(d.since) {
		s.told = max(s.told, d.level)
	}
}

// releaseLua deletes a claim that is still one's own.
const releaseLua = `if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end return 0`

// claim has this replica alone tell something of an endpoint, until it releases that or its lease ends.
func (w *Watch) claim(ctx context.Context, d judged) (won bool, release func(), err error) {
	key := w.hashKey(d.incarnation) + ":claim"
	limited, cancel := context.WithTimeout(ctx, w.cfg.Timeout)
	defer cancel()
	won, err = w.deps.Redis.SetNX(limited, key, w.replica, w.cfg.Lease).Result()
	return won, func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), w.cfg.Timeout)
		defer cancel()
		if err := w.deps.Redis.Eval(ctx, releaseLua, []string{key}, w.replica).Err(); err != nil {
			w.log.Debug("a claim is left to lapse", "subscription", d.subscription, "error", err)
		}
	}, err
}

// disable disables a subscription, and notes that, so that it is told even where the log takes nothing more just now.
func (w *Watch) disable(ctx context.Context, d judged, k knowledge) error {
	reason := fmt.Sprintf("its endpoint has failed, and only failed, since %s", d.since.UTC().Format(time.RFC3339))
	if k.cause != "" {
		reason += ": " + k.cause
	}
	if err := w.deps.Definitions.Disable(ctx, d.subscription, d.incarnation, reason); err != nil {
		return fmt.Errorf("disable the subscription: %w", err)
	}
	w.m.disabled.Inc()
	w.log.Info("a subscription is disabled", "subscription", d.subscription, "since", d.since, "cause", k.cause)
	err := w.deps.Redis.HSet(ctx, w.hashKey(d.incarnation), fieldEnded, told(d.since, len(levels))+"/"+d.policy.Owner).Err()
	if err != nil { // it is told now, if only the log takes it
		w.log.Debug("it is not noted that a subscription was disabled", "subscription", d.subscription, "error", err)
	}
	return nil
}

// publish tells what a period has come to.
func (w *Watch) publish(ctx context.Context, d judged, k knowledge) error {
	e := operations.Event{Type: operations.SubscriptionDisabled, Subject: d.subscription}
	percent := levels[len(levels)-1]
	if k.disabled {
		e.Data = operations.Disabled{Subscription: d.subscription, Owner: k.owner, Cause: k.cause, Since: d.since.UTC()}
	} else {
		percent = levels[d.level-1]
		e.Type = operations.SubscriptionFailing
		e.Data = operations.Failing{
			Subscription: d.subscription, Owner: d.policy.Owner, Cause: k.cause, Since: d.since.UTC(),
			DisableAt: d.since.Add(d.policy.DisableAfter).UTC(), Percent: percent,
		}
	}
	e.ID = fmt.Sprintf("%s-%d-%d", d.incarnation, d.since.UnixMilli(), percent)
	if err := w.deps.Publisher.Publish(ctx, e); err != nil {
		return err
	}
	if !k.disabled {
		w.m.warnings.Inc()
		w.log.Info("an endpoint fails, and only fails", "subscription", d.subscription, "since", d.since, "percent", percent, "cause", k.cause)
	}
	return nil
}

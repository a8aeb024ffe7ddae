package failing

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/redis/go-redis/v9"

	"github.com/eventissuer/eventissuer/internal/operations"
)

func TestWarningsComeOnceAndInOrderOverReplicasAndThenItIsDisabled(t *testing.T) {
	inBubble(t, func(w *world) {
		t := w.t
		all := w.replicas(3)
		w.fail(all, 130*time.Hour)
		w.wantTold(50, 70, 90, 100)
		since := w.told.events[0].Data.(operations.Failing).Since
		if d := since.Sub(w.began); d < 0 || d > time.Second {
			t.Errorf("since is %v after the first failure", d)
		}
		for i, at := range []time.Duration{60 * time.Hour, 84 * time.Hour, 108 * time.Hour, 120 * time.Hour} {
			if late := w.told.times[i].Sub(since.Add(at)); late < 0 || late > 2*every {
				t.Errorf("what is due after %v came %v late", at, late)
			}
			if e := w.told.events[i]; e.Subject != "sub" || !strings.HasPrefix(e.ID, incarnation.String()+"-") {
				t.Errorf("event %d is %q about %q", i, e.ID, e.Subject)
			}
		}
		want := operations.Failing{Subscription: "sub", Owner: "acme", Cause: "no answer", Since: since, DisableAt: since.Add(120 * time.Hour), Percent: 70}
		if diff := cmp.Diff(want, w.told.events[1].Data); diff != "" || w.told.events[1].Type != operations.SubscriptionFailing {
			t.Errorf("(-want +got)\n%s", diff)
		}
		if diff := cmp.Diff(operations.Disabled{Subscription: "sub", Owner: "acme", Cause: "no answer", Since: since}, w.told.events[3].Data); diff != "" {
			t.Errorf("(-want +got)\n%s", diff)
		}
		if len(w.defs.reasons) != 1 || !strings.Contains(w.defs.reasons[0], "has failed, and only failed, since 2000-01-0") || !strings.HasSuffix(w.defs.reasons[0], ": no answer") {
			t.Errorf("disabled for %q", w.defs.reasons)
		}
		if w.pass(24 * time.Hour); len(w.mini.Keys()) != 1 { // the hash, for its time
			t.Errorf("Redis is left with %q", w.mini.Keys())
		}
	})
}

func TestASuccessOnOneReplicaClearsWhatAnotherHasNoted(t *testing.T) {
	inBubble(t, func(w *world) {
		t := w.t
		all := w.replicas(3)
		w.fail(all[:1], 58*time.Hour)
		for i, r := range all {
			if p, ok := r.Failing(incarnation); !ok || p.Cause != "no answer" || p.Since.Sub(w.began).Abs() > time.Second {
				t.Errorf("replica %d knows %+v, %v", i, p, ok)
			}
		}
		all[1].Succeeded(incarnation)
		if _, ok := all[1].Failing(incarnation); ok {
			t.Error("who saw the success takes it for failing")
		}
		w.pass(2 * every)
		for i, r := range all {
			if p, ok := r.Failing(incarnation); ok {
				t.Errorf("replica %d still knows %+v", i, p)
			}
		}
		if keys := w.mini.Keys(); len(keys) != 0 {
			t.Errorf("Redis is left with %q", keys)
		}
		w.fail(all, 58*time.Hour+59*time.Hour)
		w.wantTold()
		w.fail(all, 58*time.Hour+62*time.Hour)
		w.wantTold(50)
	})
}

func TestASuccessRightAfterAFailureLeavesNothing(t *testing.T) {
	inBubble(t, func(w *world) {
		r := w.replicas(1)[0]
		r.Failed("sub", incarnation, "no answer")
		r.Succeeded(incarnation)
		w.pass(every)
		if _, ok := r.Failing(incarnation); ok || len(w.mini.Keys()) != 0 {
			w.t.Errorf("failing: %v, keys %q", ok, w.mini.Keys())
		}
		r.Failed("sub", incarnation, "no answer")
		w.pass(every)
		r.Succeeded(incarnation)
		r.Failed("sub", incarnation, "reset")
		at := time.Now()
		w.pass(every)
		if p, ok := r.Failing(incarnation); !ok || p.Cause != "reset" || p.Since.Sub(at).Abs() > time.Second {
			w.t.Errorf("after a failure, a success and a failure: %+v, %v; want since %v", p, ok, at)
		}
	})
}

func TestAPeriodThatGoesQuietDisablesNothing(t *testing.T) {
	inBubble(t, func(w *world) {
		all := w.replicas(2)
		w.fail(all, 28*time.Hour) // one event's schedule, and nothing else is to be sent
		for range 145 {
			w.pass(time.Hour)
		}
		w.wantTold(50, 70)
		if len(w.defs.reasons) != 0 {
			w.t.Errorf("disabled: %q", w.defs.reasons)
		}
		if _, ok := all[0].Failing(incarnation); ok {
			w.t.Error("it is still taken for failing")
		}
		began := time.Since(w.began)
		w.fail(all, began+59*time.Hour)
		w.wantTold(50, 70)
		w.fail(all, began+62*time.Hour)
		w.wantTold(50, 70, 50)
	})
}

func TestAFailureAfterAQuietTimeBeginsAnother(t *testing.T) {
	inBubble(t, func(w *world) {
		all := w.replicas(2)
		w.fail(all, 28*time.Hour)
		w.pass(72 * time.Hour)
		w.wantTold(50, 70) // what is next is not due yet
		all[0].Failed("sub", incarnation, "no answer")
		at := time.Now()
		w.pass(time.Hour)
		for i, r := range all {
			if p, ok := r.Failing(incarnation); !ok || p.Since.Sub(at).Abs() > time.Second {
				w.t.Errorf("replica %d: failing since %v, %v; want %v", i, p.Since, ok, at)
			}
		}
		w.wantTold(50, 70)
	})
}

func TestAShortTimeIsKeptWhateverTheSchedule(t *testing.T) {
	inBubble(t, func(w *world) {
		w.defs.define(incarnation, Policy{DisableAfter: 20 * time.Minute, LongestWait: 12 * time.Hour})
		r, _ := w.replica(func(c *Config) { c.Every = time.Minute })
		r.Failed("sub", incarnation, "no answer")
		for range 30 {
			w.pass(time.Minute)
		}
		w.wantTold(50, 70, 90, 100)
	})
}

func TestReplicasThatComeLateTellTheLatestAlone(t *testing.T) {
	inBubble(t, func(w *world) {
		first, stop := w.replica(nil)
		w.fail([]*Watch{first}, 50*time.Hour)
		stop()
		w.pass(41 * time.Hour)
		w.replicas(2)
		w.pass(every)
		w.wantTold(70)
	})
}

func TestWhatIsGoneIsToldOfNoMore(t *testing.T) {
	inBubble(t, func(w *world) {
		all := w.replicas(2)
		w.fail(all, 50*time.Hour)
		w.defs.mu.Lock()
		delete(w.defs.policies, incarnation)
		w.defs.mu.Unlock()
		all[1].Failed("sub", incarnation, "a late one")
		w.pass(100 * time.Hour)
		w.wantTold()
		for _, r := range all {
			if _, ok := r.Failing(incarnation); ok {
				w.t.Error("it is still taken for failing")
			}
		}
	})
}

func TestAWarningWhosePublicationFailsIsToldByWhoCan(t *testing.T) {
	inBubble(t, func(w *world) {
		all := w.replicas(3)
		var tried int
		w.told.refuse = func(context.Context, operations.Event) error {
			w.told.mu.Lock()
			defer w.told.mu.Unlock()
			if tried++; tried <= 10 {
				return errors.New("the log is away")
			}
			return nil
		}
		w.fail(all, 65*time.Hour)
		w.wantTold(50)
	})
}

func TestOneThatHangsWhileItTellsIsRelieved(t *testing.T) {
	inBubble(t, func(w *world) {
		all := w.replicas(2)
		hung := false
		w.told.refuse = func(ctx context.Context, _ operations.Event) error {
			w.told.mu.Lock()
			first := !hung
			hung = true
			w.told.mu.Unlock()
			if first {
				<-ctx.Done()
				return ctx.Err()
			}
			return nil
		}
		w.fail(all, 61*time.Hour)
		w.wantTold(50)
	})
}

func TestADisabledSubscriptionIsToldOfEvenWhereTheLogIsAwayJustThen(t *testing.T) {
	inBubble(t, func(w *world) {
		all := w.replicas(3)
		var away bool
		w.told.refuse = func(_ context.Context, e operations.Event) error {
			w.told.mu.Lock()
			defer w.told.mu.Unlock()
			if away = e.Type == operations.SubscriptionDisabled && time.Since(w.began) < 125*time.Hour; away {
				return errors.New("the log is away")
			}
			return nil
		}
		w.fail(all, 124*time.Hour)
		w.wantTold(50, 70, 90)
		if len(w.defs.reasons) != 1 {
			w.t.Fatalf("disabled: %q", w.defs.reasons)
		}
		w.pass(2 * time.Hour)
		w.wantTold(50, 70, 90, 100)
		if last := w.told.events[3].Data.(operations.Disabled); last.Owner != "acme" || last.Cause != "no answer" {
			w.t.Errorf("got %+v", last)
		}
		w.pass(24 * time.Hour)
		w.wantTold(50, 70, 90, 100)
	})
}

func TestAfterItIsResumedEverythingBeginsAnew(t *testing.T) {
	inBubble(t, func(w *world) {
		all := w.replicas(3)
		w.fail(all, 121*time.Hour)
		w.wantTold(50, 70, 90, 100)
		w.pass(time.Hour)
		w.defs.define(incarnation, fiveDays)
		resumed := time.Since(w.began)
		w.fail(all, resumed+59*time.Hour)
		w.wantTold(50, 70, 90, 100)
		w.fail(all, resumed+122*time.Hour)
		w.wantTold(50, 70, 90, 100, 50, 70, 90, 100)
	})
}

func TestARedisThatLosesItsDataBeginsPeriodsAnew(t *testing.T) {
	inBubble(t, func(w *world) {
		all := w.replicas(3)
		w.fail(all, 100*time.Hour)
		w.wantTold(50, 70)
		w.mini.FlushAll()
		w.fail(all, 159*time.Hour)
		w.wantTold(50, 70)
		w.fail(all, 162*time.Hour)
		w.wantTold(50, 70, 50)
	})
}

func TestARedisThatIsAwayIsToldWhatWasNotedWhenItIsBack(t *testing.T) {
	inBubble(t, func(w *world) {
		all := w.replicas(2)
		w.fail(all, 2*time.Hour)
		w.mini.SetError("LOADING Redis is loading the dataset in memory")
		all[0].Succeeded(incarnation)
		w.pass(10 * every)
		if n := testutil.ToFloat64(all[0].m.failures); n == 0 {
			w.t.Error("no failure of Redis is counted")
		}
		all[1].Failed("another", uuid.Max, "no answer")
		w.defs.define(uuid.Max, fiveDays)
		w.pass(10 * every)
		w.mini.SetError("")
		back := time.Now()
		w.pass(2 * every)
		if _, ok := all[1].Failing(incarnation); ok {
			w.t.Error("a success while Redis was away is forgotten")
		}
		if p, ok := all[0].Failing(uuid.Max); !ok || p.Since.Before(back) {
			w.t.Errorf("a failure of that time: %+v, %v; others may have succeeded meanwhile", p, ok)
		}
	})
}

func TestWhatANewReplicaLearnsItLearnsFromRedis(t *testing.T) {
	inBubble(t, func(w *world) {
		r, stop := w.replica(nil)
		r.Failed("sub", incarnation, "no answer")
		stop() // what was noted last is written
		fresh, _ := w.replica(nil)
		synctest.Wait()
		if p, ok := fresh.Failing(incarnation); !ok || p.Cause != "no answer" {
			w.t.Errorf("got %+v, %v", p, ok)
		}
	})
}

func TestHowManyAreWatchedIsBounded(t *testing.T) {
	inBubble(t, func(w *world) {
		r, _ := w.replica(func(c *Config) { c.Most = 10 })
		for i := range 100 {
			id := uuid.UUID{byte(i)}
			w.defs.define(id, fiveDays)
			r.Failed(fmt.Sprint("sub ", i), id, strings.Repeat("because ", 1000))
		}
		if n := testutil.ToFloat64(r.m.overflow); n != 90 || len(r.states) != 10 {
			w.t.Errorf("%d are watched, %v were too many", len(r.states), n)
		}
		if p, ok := r.Failing(uuid.UUID{3}); !ok || len(p.Cause) > maxCause {
			w.t.Errorf("a cause of %d bytes is kept, %v", len(p.Cause), ok)
		}
		w.pass(2 * every)
		if keys := w.mini.Keys(); len(keys) != 11 {
			w.t.Errorf("Redis has %d keys", len(keys))
		}
		for i := range 10 {
			r.Succeeded(uuid.UUID{byte(i)})
		}
		w.pass(2 * every)
		if len(r.states) != 0 || len(r.dirty) != 0 {
			w.t.Errorf("%d are watched, %d are to be noted", len(r.states), len(r.dirty))
		}
	})
}

// mute is a Redis that does not answer.
type mute struct{}

func (mute) DialHook(next redis.DialHook) redis.DialHook { return next }

func (mute) ProcessHook(redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, _ redis.Cmder) error {
		<-ctx.Done()
		return ctx.Err()
	}
}

func (mute) ProcessPipelineHook(redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, _ []redis.Cmder) error {
		<-ctx.Done()
		return ctx.Err()
	}
}

func TestNothingBlocksOnAStalledRedis(t *testing.T) {
	inBubble(t, func(w *world) {
		r, _ := w.replica(nil)
		r.deps.Redis.AddHook(mute{})
		for i := range 1000 { // were one of them to block, time would pass
			id := uuid.UUID{byte(i % 100)}
			r.Failed("sub", id, "no answer")
			if i%3 == 0 {
				r.Succeeded(id)
			}
			r.Failing(id)
		}
		if d := time.Since(w.began); d != 0 {
			w.t.Errorf("%v passed", d)
		}
		w.pass(10 * every)
		if n := len(r.states); n != 100 {
			w.t.Errorf("%d are watched", n)
		}
	})
}

func TestLevelsAreReachedInOrder(t *testing.T) {
	var got []int
	for minutes := range 121 {
		got = append(got, levelOf(time.Duration(minutes)*time.Minute, 100*time.Minute))
	}
	if !slices.IsSorted(got) || got[49] != 0 || got[50] != 1 || got[70] != 2 || got[90] != 3 || got[99] != 3 || got[100] != 4 || got[120] != 4 {
		t.Errorf("got %v", got)
	}
}

package catalog

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/eventissuer/eventissuer/internal/table"
	"github.com/eventissuer/eventissuer/internal/table/tabletest"
	"github.com/eventissuer/eventissuer/internal/webhook"
)

func TestWhatBecomesOfASubscriptionIsNoPartOfItsDefinition(t *testing.T) {
	fleet(t, 2, func(t *testing.T, _ *tabletest.Log, r []*process) {
		ctx, c := t.Context(), r[0]
		withStreams(t, c, "a")
		made := pushTo(t, c, "")
		var audited []string
		c.AuditTo(auditorFunc(func(e Entry) { audited = append(audited, strings.TrimSpace(string(e.Action)+" "+e.Detail)) }))
		is := func(s Subscription, err error) func(SubscriptionState, string) {
			t.Helper()
			return func(state SubscriptionState, reason string) {
				t.Helper()
				synctest.Wait()
				looked, _ := r[1].Subscription(made.ID)
				if err != nil || s.ETag() != made.ETag() || looked.ETag() != made.ETag() || s.Changed != made.Changed || s.Incarnation != made.Incarnation {
					t.Errorf("%v: it is another definition", err)
				}
				for _, s := range []Subscription{s, looked} {
					if got := c.SubscriptionStatus(s); got.State != state || !strings.Contains(got.Reason, reason) {
						t.Errorf("it is %+v", got)
					}
				}
			}
		}
		is(c.ProveSubscription(ctx, made.ID, made.Sink, Proof{State: ProofProven, By: ByConsent, At: time.Now()}))(SubscriptionActive, "")
		is(c.PauseSubscription(ctx, made.ID, made.ETag()))(SubscriptionPaused, "")
		is(c.PauseSubscription(ctx, made.ID, ""))(SubscriptionPaused, "")
		is(c.DisableSubscription(ctx, made.ID, "another", "410"))(SubscriptionPaused, "")
		is(c.DisableSubscription(ctx, made.ID, made.Incarnation, "the endpoint answered 410"))(SubscriptionDisabled, "410")
		is(c.DisableSubscription(ctx, made.ID, made.Incarnation, "again"))(SubscriptionDisabled, "410")
		is(c.ResumeSubscription(ctx, made.ID, ""))(SubscriptionActive, "")
		is(c.ResumeSubscription(ctx, made.ID, ""))(SubscriptionActive, "")
		if diff := cmp.Diff([]string{"verified proven by consent", "paused", "disabled the endpoint answered 410", "resumed"}, audited); diff != "" {
			t.Errorf("audited (-want +got)\n%s", diff)
		}
		wants(t, second(c.PauseSubscription(ctx, made.ID, `"another"`)), ErrPreconditionFailed)
		wants(t, second(c.ResumeSubscription(ctx, "none", "")), ErrNotFound)

		pull := must(c.subscribe(ctx, Subscription{Streams: []string{"a"}}))(t)
		wants(t, second(c.PauseSubscription(ctx, pull.ID, "")), ErrNotPushed)
		wants(t, second(c.DisableSubscription(ctx, pull.ID, pull.Incarnation, "")), ErrNotPushed)
		wants(t, second(c.ProveSubscription(ctx, pull.ID, "", Proof{})), ErrNotPushed)
		wants(t, second(c.RotateSecret(ctx, pull.ID, Rotation{}, "")), ErrNotPushed)
		wants(t, second(c.RewindSubscription(ctx, pull.ID, pull.Start, "")), ErrNotPushed)
		wants(t, second(c.ResetSubscription(ctx, made.ID, made.Start, "")), ErrPushed)
		wants(t, second(c.OpenEndpoint(pull, time.Now())), ErrNotPushed)
	})
}

func TestAChangeUnderIfMatchIsNotDisturbedByTheProof(t *testing.T) {
	fleet(t, 2, func(t *testing.T, _ *tabletest.Log, r []*process) {
		ctx := t.Context()
		withStreams(t, r[0], "a")
		made := pushTo(t, r[0], "")
		synctest.Wait()
		var racing sync.WaitGroup
		racing.Go(func() {
			for i := range 10 {
				must(r[1].ProveSubscription(ctx, made.ID, made.Sink, Proof{State: ProofPending, Tries: i + 1}))(t)
			}
		})
		must(r[0].PatchSubscription(ctx, made.ID, []byte(`{"description":"d"}`), made.ETag(), nil))(t)
		wants(t, second(r[0].PatchSubscription(ctx, made.ID, []byte(`{"description":"e"}`), made.ETag(), nil)), ErrPreconditionFailed)
		racing.Wait()
		synctest.Wait()
		if s, _ := r[0].Subscription(made.ID); s.Proof.Tries != 10 || s.Description != "d" {
			t.Errorf("%q after %d tries", s.Description, s.Proof.Tries)
		}
	})
}

func TestSecretsAreValidForAWhileAfterTheirRotation(t *testing.T) {
	fleet(t, 1, func(t *testing.T, _ *tabletest.Log, r []*process) {
		ctx, c := t.Context(), r[0]
		withStreams(t, c, "a")
		made := pushTo(t, c, "")
		var audited []string
		c.AuditTo(auditorFunc(func(e Entry) { audited = append(audited, string(e.Action)+" "+e.Detail) }))
		valid := func(want ...webhook.Secret) {
			t.Helper()
			s, _ := c.Subscription(made.ID)
			e := must(c.OpenEndpoint(s, time.Now()))(t)
			if !slices.EqualFunc(want, e.Signer.Secrets, slices.Equal) || len(e.Signer.Keys) != len(want) || e.Signer.Keys[0].Public() != s.PublicKey {
				t.Errorf("%d secrets are valid", len(e.Signer.Secrets))
			}
		}
		after := func(d time.Duration) *time.Duration { return &d }
		second1 := must(c.RotateSecret(ctx, made.ID, Rotation{}, made.ETag()))(t)
		if second1.PublicKey == made.PublicKey || slices.Equal(second1.Secret, made.Secret) || second1.ETag() == made.ETag() || len(second1.Secret) != 32 {
			t.Error("nothing was rotated")
		}
		valid(second1.Secret, made.Secret)
		time.Sleep(23 * time.Hour)
		third := must(c.RotateSecret(ctx, made.ID, Rotation{Keep: after(2 * time.Hour)}, ""))(t)
		valid(third.Secret, second1.Secret, made.Secret)
		wants(t, second(c.RotateSecret(ctx, made.ID, Rotation{}, "")), ErrTooMany)
		time.Sleep(time.Hour)
		valid(third.Secret, second1.Secret)
		given := must(webhook.ParseSecret(givenSecret))(t)
		fourth := must(c.RotateSecret(ctx, made.ID, Rotation{Secret: given}, ""))(t)
		valid(fourth.Secret, third.Secret, second1.Secret)
		if fourth.Secret.Text() != givenSecret {
			t.Error("another secret than was given")
		}
		fifth := must(c.RotateSecret(ctx, made.ID, Rotation{Keep: after(0)}, ""))(t)
		valid(fifth.Secret)
		complains(t, "keep", second(c.RotateSecret(ctx, made.ID, Rotation{Keep: after(169 * time.Hour), Secret: webhook.Secret("short")}, "")), "/keep", "/secret")
		wants(t, second(c.RotateSecret(ctx, made.ID, Rotation{}, made.ETag())), ErrPreconditionFailed)
		if len(audited) != 4 || !strings.HasPrefix(audited[3], "rotated ") || !strings.Contains(audited[3], fifth.PublicKey) {
			t.Errorf("audited %q", audited)
		}
		for _, s := range []webhook.Secret{made.Secret, second1.Secret, third.Secret, fourth.Secret, fifth.Secret} {
			if strings.Contains(fmt.Sprint(audited), strings.TrimPrefix(s.Text(), "whsec_")) {
				t.Error("the audit tells a secret")
			}
		}
	})
}

// at is a position of each stream: as many partitions as offsets.
func at(epoch string, streams map[string][]int64) map[string]Position {
	positions := map[string]Position{}
	for name, next := range streams {
		positions[name] = Position{Epoch: epoch, Next: next}
	}
	return positions
}

func TestARewindIsAnotherIncarnation(t *testing.T) {
	fleet(t, 1, func(t *testing.T, log *tabletest.Log, r []*process) {
		ctx, c := t.Context(), r[0]
		withStreams(t, c, "a", "b")
		made := must(c.subscribe(ctx, decoded(t, `{"streams":["a","b"],"sink":"https://example.com/"}`)))(t)
		_, replay, err := c.ReplaySubscription(ctx, made.ID, Replay{Start: made.Start, Until: at("e", map[string][]int64{"a": {9}, "b": {9}})}, "")
		if err != nil || replay == "" {
			t.Fatal(replay, err)
		}
		complains(t, "half", second(c.RewindSubscription(ctx, made.ID, at("e", map[string][]int64{"a": {1}}), "")), "")
		s := must(c.RewindSubscription(ctx, made.ID, at("e", map[string][]int64{"a": {0}, "b": {0}}), made.ETag()))(t)
		born := int64(len(log.Records("_test.catalog", 0))) - 1
		if s.Incarnation == made.Incarnation || s.Start["a"].Next[0] != 0 || s.Start["a"].Born != born || s.Start["b"].Born != born || len(s.Replays) != 0 {
			t.Errorf("rewound to %+v", s)
		}
		if s.PublicKey != made.PublicKey || s.ETag() == made.ETag() {
			t.Errorf("rewound to %+v", s)
		}
	})
}

func TestAReplayEndsPartitionByPartition(t *testing.T) {
	fleet(t, 2, func(t *testing.T, log *tabletest.Log, r []*process) {
		ctx, c := t.Context(), r[0]
		withStreams(t, c, "a", "b")
		made := must(c.subscribe(ctx, decoded(t, `{"streams":["a","b"],"sink":"https://example.com/"}`)))(t)
		var audited []string
		c.AuditTo(auditorFunc(func(e Entry) { audited = append(audited, string(e.Action)) }))
		end := at("e", map[string][]int64{"a": {5, 0, 7}, "b": {3}})
		s, replay, err := c.ReplaySubscription(ctx, made.ID, Replay{Start: at("e", map[string][]int64{"a": {1, 0, 2}, "b": {3}}), Until: end, Since: time.Now()}, "")
		if err != nil || len(s.Replays) != 1 || s.Replays[0].Incarnation != replay || replay == made.Incarnation || s.Incarnation != made.Incarnation || s.ETag() != made.ETag() {
			t.Fatalf("%v: %+v", err, s)
		}
		born := int64(len(log.Records("_test.catalog", 0))) - 1
		goes := func(s Subscription) (ways []string) {
			for _, r := range s.Replays {
				for _, stream := range []string{"a", "b", "c"} {
					for p := range int32(4) {
						if from, to, ok := r.Goes(stream, p); ok {
							ways = append(ways, fmt.Sprint(stream, p, " ", from, "-", to, " ", r.Start[stream].Born == born))
						}
					}
				}
			}
			return ways
		}
		if diff := cmp.Diff([]string{"a0 1-5 true", "a2 2-7 true"}, goes(s)); diff != "" {
			t.Errorf("(-want +got)\n%s", diff)
		}
		must(c.EndReplay(ctx, made.ID, replay, "a", 1))(t) // has nothing in it
		must(c.EndReplay(ctx, made.ID, "another", "a", 0))(t)
		s = must(c.EndReplay(ctx, made.ID, replay, "a", 0))(t)
		synctest.Wait()
		looked, _ := r[1].Subscription(made.ID)
		for _, s := range []Subscription{s, looked} {
			if diff := cmp.Diff([]string{"a2 2-7 true"}, goes(s)); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		}
		if s = must(c.EndReplay(ctx, made.ID, replay, "a", 2))(t); len(s.Replays) != 0 {
			t.Errorf("there still is %+v", s.Replays)
		}
		if diff := cmp.Diff([]string{"replayed", "replayed"}, audited); diff != "" {
			t.Errorf("audited (-want +got)\n%s", diff)
		}

		// Nothing to go through is no replay; four at a time are the most.
		if s, replay, err = c.ReplaySubscription(ctx, made.ID, Replay{Start: end, Until: end}, ""); err != nil || replay != "" || len(s.Replays) != 0 {
			t.Errorf("%v: %q, %+v", err, replay, s.Replays)
		}
		start := at("e", map[string][]int64{"a": {0, 0, 0}, "b": {0}})
		for range maxReplays {
			_, _, err = c.ReplaySubscription(ctx, made.ID, Replay{Start: start, Until: end}, "")
			wants(t, err, nil)
		}
		_, _, err = c.ReplaySubscription(ctx, made.ID, Replay{Start: start, Until: end}, "")
		wants(t, err, ErrTooMany)
		// A stream that is no longer read is not gone through either.
		if s = c.patch(t, made.ID, `{"streams":["b"]}`); len(s.Replays) != maxReplays || len(s.Replays[0].Start) != 1 {
			t.Errorf("it goes through %+v", s.Replays)
		}
		c.patch(t, made.ID, `{"config":{"ordering":"key"}}`)
		_, _, err = c.ReplaySubscription(ctx, made.ID, Replay{Start: start, Until: end}, "")
		wants(t, err, ErrOrdered)
	})
}

// BenchmarkSubscriptionMemory loads subscriptions with sinks, and tells what each takes in the table and the catalog.
func BenchmarkSubscriptionMemory(b *testing.B) {
	log := tabletest.New()
	ctx, stop := context.WithCancel(b.Context())
	var running sync.WaitGroup
	defer running.Wait()
	defer stop()
	load := func() *Catalog {
		tab, err := table.New(table.Config{Log: log.View(1, tabletest.Faults{}), Topic: "_test.catalog"})
		if err != nil {
			b.Fatal(err)
		}
		c, err := New(Config{Table: tab, Topics: log.View(1, tabletest.Faults{}), Keys: testKeys})
		if err != nil {
			b.Fatal(err)
		}
		running.Go(func() { _ = tab.Run(ctx) })
		<-c.Ready()
		return c
	}
	const n = 20_000
	e := load().As(Actor{Name: "local", RequestID: "f96dd6957471138cd61a9132"})
	if _, err := e.CreateStream(ctx, Stream{Name: "orders"}); err != nil {
		b.Fatal(err)
	}
	starts := func(context.Context, []string, string) (map[string]Position, error) {
		next := []int64{11111, 22222, 33333, 44444, 55555, 66666, 77777, 88888, 99999, 10000, 11111, 12222}
		return map[string]Position{"orders": {Epoch: strings.Repeat("0f", 16), Next: next}}, nil
	}
	for i := range n {
		made, _, err := e.CreateSubscription(ctx, Subscription{
			Name: fmt.Sprint("customer-", i), Streams: []string{"orders"}, Types: []string{"no.acme.order.*"},
			Delivery: Delivery{Sink: fmt.Sprint("https://hooks.example.com/customers/", i)},
		}, starts)
		if err == nil {
			_, err = e.ProveSubscription(ctx, made.ID, made.Sink, Proof{State: ProofProven, By: ByConsent, At: time.Now()})
		}
		if err != nil {
			b.Fatal(err)
		}
	}
	memory := func() int64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.GC()
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	for b.Loop() {
		before := memory()
		loaded := load()
		b.ReportMetric(float64(memory()-before)/n, "B/subscription")
		runtime.KeepAlive(loaded)
	}
}

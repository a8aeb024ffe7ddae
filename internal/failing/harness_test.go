package failing

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/google/uuid"
	"github.com/redis/go-redis/v9"
	"go.uber.org/goleak"

	"github.com/eventissuer/eventissuer/internal/operations"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// definitions are those of a test, which all its replicas see at once.
type definitions struct {
	mu       sync.Mutex
	policies map[uuid.UUID]Policy // guarded by mu
	reasons  []string             // for which subscriptions were disabled; likewise
}

func (d *definitions) Policy(_ string, incarnation uuid.UUID) (Policy, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	p, ok := d.policies[incarnation]
	return p, ok
}

func (d *definitions) Disable(_ context.Context, _ string, incarnation uuid.UUID, reason string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if _, ok := d.policies[incarnation]; ok {
		delete(d.policies, incarnation)
		d.reasons = append(d.reasons, reason)
	}
	return nil
}

func (d *definitions) define(incarnation uuid.UUID, p Policy) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.policies[incarnation] = p
}

// stream keeps what was published. refuse may have something done instead.
type stream struct {
	mu     sync.Mutex
	events []operations.Event
	times  []time.Time
	refuse func(ctx context.Context, e operations.Event) error // nil: nothing
}

func (s *stream) Publish(ctx context.Context, e operations.Event) error {
	s.mu.Lock()
	refuse := s.refuse
	s.mu.Unlock()
	if refuse != nil {
		if err := refuse(ctx, e); err != nil {
			return err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.events = append(s.events, e)
	s.times = append(s.times, time.Now())
	return nil
}

// percents are what was told, 100 standing for disabled.
func (s *stream) percents() (all []int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range s.events {
		switch data := e.Data.(type) {
		case operations.Failing:
			all = append(all, data.Percent)
		case operations.Disabled:
			all = append(all, 100)
		}
	}
	return all
}

const every = 10 * time.Minute

var (
	incarnation = uuid.MustParse("11111111-1111-4111-8111-111111111111")
	fiveDays    = Policy{Owner: "acme", DisableAfter: 120 * time.Hour, LongestWait: 12 * time.Hour}
)

// world is replicas on one Redis, in a bubble of time.
type world struct {
	t     *testing.T
	mini  *miniredis.Miniredis
	defs  *definitions
	told  *stream
	began time.Time
}

// inBubble runs a test in a bubble. Redis stands outside of it; its time passes with pass.
func inBubble(t *testing.T, test func(w *world)) {
	t.Helper()
	mini := miniredis.RunT(t)
	synctest.Test(t, func(t *testing.T) {
		test(&world{
			t: t, mini: mini, defs: &definitions{policies: map[uuid.UUID]Policy{incarnation: fiveDays}}, told: &stream{}, began: time.Now(),
		})
	})
}

// replica starts one; stop ends it.
func (w *world) replica(change func(*Config)) (r *Watch, stop func()) {
	w.t.Helper()
	client := redis.NewClient(&redis.Options{Addr: w.mini.Addr(), ContextTimeoutEnabled: true, MaxRetries: -1})
	cfg := Config{Every: every, Lease: 3 * every}
	if change != nil {
		change(&cfg)
	}
	r, err := New(cfg, Deps{Redis: client, Definitions: w.defs, Publisher: w.told})
	if err != nil {
		w.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		if err := r.Run(ctx); !errors.Is(err, context.Canceled) {
			w.t.Errorf("Run ended with %v", err)
		}
	})
	stop = sync.OnceFunc(func() { cancel(); running.Wait(); _ = client.Close() })
	w.t.Cleanup(stop)
	return r, stop
}

func (w *world) replicas(n int) (all []*Watch) {
	for range n {
		r, _ := w.replica(nil)
		all = append(all, r)
	}
	return all
}

// pass has time pass, and waits until all is done that is due.
func (w *world) pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait() // or a claim would lapse under who is telling something at this moment
	w.mini.FastForward(d)
	synctest.Wait()
}

// fail has the endpoint fail every hour until some time after the beginning, on one replica after another.
func (w *world) fail(all []*Watch, until time.Duration) {
	for n := 0; time.Since(w.began) < until; n++ {
		all[n%len(all)].Failed("sub", incarnation, "no answer")
		w.pass(time.Hour)
	}
}

func (w *world) wantTold(want ...int) {
	w.t.Helper()
	if got := w.told.percents(); !slices.Equal(got, want) {
		w.t.Errorf("told %v, want %v", got, want)
	}
}

package leases

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"
	"go.uber.org/goleak"

	"github.com/eventissuer/eventissuer/internal/clock"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	every = time.Second
	ttl   = 3 * time.Second
	step  = 10 * time.Millisecond // in which a test's time passes
)

// world is replicas on one Redis, in a bubble of time.
type world struct {
	t      *testing.T
	mini   *miniredis.Miniredis
	all    []*replica
	totals map[string]float64
	lost   time.Time // when Redis lost its data
}

// replica is one of them, and the network between it and Redis.
type replica struct {
	*Leases
	net   *network
	wants map[string]float64
	stop  func()
}

// inBubble runs a test in a bubble. Redis stands outside of it; its time passes with pass.
func inBubble(t *testing.T, totals map[string]float64, test func(w *world)) {
	t.Helper()
	mini := miniredis.RunT(t)
	synctest.Test(t, func(t *testing.T) {
		mini.SetTime(time.Now())
		test(&world{t: t, mini: mini, totals: totals})
	})
}

// replica starts one.
func (w *world) replica(change func(*Config, *Deps)) *replica {
	w.t.Helper()
	options := &redis.Options{Addr: w.mini.Addr(), ReadTimeout: time.Minute, MaxRetries: -1} // the network keeps to the bubble's time
	client, late := redis.NewClient(options), redis.NewClient(options)
	r := &replica{net: &network{late: late}, wants: map[string]float64{}}
	client.AddHook(r.net)
	cfg, deps := Config{Every: every, TTL: ttl}, Deps{Redis: client}
	if change != nil {
		change(&cfg, &deps)
	}
	var err error
	if r.Leases, err = New(cfg, deps); err != nil {
		w.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		if err := r.Run(ctx); !errors.Is(err, context.Canceled) {
			w.t.Errorf("Run ended with %v", err)
		}
	})
	r.stop = sync.OnceFunc(func() {
		cancel()
		running.Wait()
		r.net.under.Wait()
		_, _ = client.Close(), late.Close()
	})
	w.t.Cleanup(r.stop)
	w.all = append(w.all, r)
	return r
}

// pass has time pass. Meanwhile every replica asks for what it wants, and no key's grants exceed its total.
func (w *world) pass(d time.Duration, look func()) {
	w.t.Helper()
	for end := time.Now().Add(d); time.Now().Before(end) && !w.t.Failed(); {
		for _, r := range w.all {
			for key, want := range r.wants {
				r.Share(key, want, w.totals[key])
			}
		}
		time.Sleep(step)
		w.mini.SetTime(time.Now())
		w.mini.FastForward(step)
		synctest.Wait()
		w.check()
		if look != nil {
			look()
		}
	}
}

// held is what a replica holds of a key, by its own clock.
func (r *replica) held(key string) float64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	if e := r.entries[key]; e != nil {
		return e.holds(time.Now())
	}
	return 0
}

// sum is what all hold of a key.
func (w *world) sum(key string) (sum float64) {
	for _, r := range w.all {
		sum += r.held(key)
	}
	return sum
}

func (w *world) check() {
	w.t.Helper()
	if !w.lost.IsZero() && time.Since(w.lost) <= ttl {
		return
	}
	for key, total := range w.totals {
		if sum := w.sum(key); sum > total+1e-9 {
			w.t.Fatalf("%g of %q are granted, of %g", sum, key, total)
		}
	}
}

// lose has Redis lose all.
func (w *world) lose() {
	w.mini.FlushAll()
	w.lost = time.Now()
}

// wantHeld checks what each replica holds.
func (w *world) wantHeld(key string, want ...float64) {
	w.t.Helper()
	for i, r := range w.all {
		if got := r.held(key); got != want[i] {
			w.t.Errorf("replica %d holds %g of %q, want %g", i, got, key, want[i])
		}
	}
}

// network delays and loses what is sent to Redis, and what it answers.
type network struct {
	late  *redis.Client // by which what was held up comes to Redis
	under sync.WaitGroup

	mu   sync.Mutex
	rng  *rand.Rand    // guarded by mu
	odds int           // of 100, that something befalls a pipeline; likewise
	cut  bool          // nothing goes through any more; likewise
	held *heldUp       // where the next pipeline is to be held up; likewise
	last []redis.Cmder // what was sent last; likewise
}

// again has Redis get once more what was sent last.
func (n *network) again() {
	n.mu.Lock()
	cmds := n.last
	n.mu.Unlock()
	n.send(cmds)
}

// heldUp is a pipeline that is on its way.
type heldUp struct{ cmds []redis.Cmder }

// hold holds the next pipeline up, until letGo.
func (n *network) hold() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.held = &heldUp{}
}

// letGo has Redis get what is held up.
func (n *network) letGo() {
	n.mu.Lock()
	cmds := n.held.cmds
	n.held = nil
	n.mu.Unlock()
	n.send(cmds)
}

var errCut = errors.New("the network is cut")

func (n *network) set(odds int, cut bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.odds, n.cut = odds, cut
}

func (*network) DialHook(next redis.DialHook) redis.DialHook { return next }

func (*network) ProcessHook(next redis.ProcessHook) redis.ProcessHook { return next }

func (n *network) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		n.mu.Lock()
		cut, fate, before, after := n.cut, 0, time.Duration(0), time.Duration(0)
		if !cut && n.odds > 0 && n.rng.IntN(100) < n.odds {
			fate = 1 + n.rng.IntN(4)
			before = time.Duration(n.rng.IntN(5000)) * time.Millisecond
			after = time.Duration(n.rng.IntN(500)) * time.Millisecond
		}
		holding := n.held != nil && n.held.cmds == nil
		if holding {
			n.held.cmds = cmds
		}
		n.last = cmds
		n.mu.Unlock()
		if cut {
			return fail(cmds, errCut)
		}
		if holding {
			<-ctx.Done()
			return fail(cmds, ctx.Err())
		}
		switch fate {
		case 0:
			return next(ctx, cmds)
		case 1: // the answer is late, perhaps too late
			if err := next(ctx, cmds); err != nil {
				return err
			}
			clock.Pause(ctx, after)
			return fail(cmds, ctx.Err())
		case 2: // it is done, and the answer is lost
			n.send(cmds)
		case 4: // the client tries it again, and what it tried first comes later still
			n.under.Go(func() {
				time.Sleep(after)
				n.send(cmds)
			})
			return next(ctx, cmds)
		case 3: // it is done when nobody waits for it any more
			n.under.Go(func() {
				time.Sleep(before)
				n.send(cmds)
			})
		}
		<-ctx.Done()
		return fail(cmds, ctx.Err())
	}
}

// send has Redis do what nobody learns the outcome of.
func (n *network) send(cmds []redis.Cmder) {
	pipe := n.late.Pipeline()
	for _, cmd := range cmds {
		pipe.Do(context.Background(), cmd.Args()...)
	}
	_, _ = pipe.Exec(context.Background())
}

func fail(cmds []redis.Cmder, err error) error {
	if err != nil {
		for _, cmd := range cmds {
			cmd.SetErr(err)
		}
	}
	return err
}

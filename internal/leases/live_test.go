package leases

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/eventissuer/eventissuer/internal/testenv"
)

// live is replicas on a real Redis.
type live struct {
	t     *testing.T
	all   []*Leases
	stops []func()
}

const liveTotal = 8

func (l *live) replica(options *redis.Options, cfg Config) {
	l.t.Helper()
	client := redis.NewClient(options)
	r, err := New(cfg, Deps{Redis: client})
	if err != nil {
		l.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { _ = r.Run(ctx) })
	stop := sync.OnceFunc(func() { cancel(); running.Wait(); _ = client.Close() })
	l.t.Cleanup(stop)
	l.all, l.stops = append(l.all, r), append(l.stops, stop)
}

// held is what each replica holds of a key at one moment.
func (l *live) held(key string) (all []float64, ok []bool) {
	for _, r := range l.all {
		r.mu.Lock()
	}
	now := time.Now()
	for _, r := range l.all {
		e := r.entries[key]
		ok = append(ok, e != nil && now.Before(e.until))
		if e == nil {
			e = &entry{}
		}
		all = append(all, e.holds(now))
	}
	for _, r := range l.all {
		r.mu.Unlock()
	}
	return all, ok
}

// until has replicas want something until they hold what they are to, and checks that they never hold more than there is.
func (l *live) until(what string, want func(i int) float64, done func(held []float64, ok []bool) bool) {
	l.t.Helper()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	tooLate := time.After(time.Minute)
	for {
		for i, r := range l.all {
			if n := want(i); n >= 0 {
				r.Share("k", n, liveTotal)
			}
		}
		held, ok := l.held("k")
		if sum := sumOf(held); sum > liveTotal {
			l.t.Fatalf("%s: %v are held of %d", what, held, liveTotal)
		}
		if done(held, ok) {
			return
		}
		select {
		case <-tick.C:
		case <-tooLate:
			l.t.Fatalf("%s: %v are held (%v)", what, held, ok)
		}
	}
}

func equally(held []float64, _ []bool) bool {
	for _, n := range held {
		if n < float64(liveTotal/len(held)) {
			return false
		}
	}
	return sumOf(held) == liveTotal
}

func nobody(_ []float64, ok []bool) bool {
	for _, ok := range ok {
		if ok {
			return false
		}
	}
	return true
}

func all(int) float64 { return liveTotal }

func TestReplicasOnARealRedisShareATotal(t *testing.T) {
	options, err := redis.ParseURL(testenv.Redis(t))
	if err != nil {
		t.Fatal(err)
	}
	options.ContextTimeoutEnabled = true
	l := &live{t: t}
	cfg := Config{Prefix: testenv.Name("leases") + ":", Every: 20 * time.Millisecond, TTL: 2 * time.Second, Timeout: time.Second}
	for range 3 {
		l.replica(options, cfg)
	}
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	l.until("all", all, equally)
	for range 20 {
		wants := []float64{float64(rng.IntN(12)), float64(rng.IntN(12)), float64(rng.IntN(12))}
		l.until(fmt.Sprint(wants), func(i int) float64 { return wants[i] }, func(held []float64, ok []bool) bool {
			for i, n := range held {
				if !ok[i] || n < min(wants[i], liveTotal/3) {
					return false
				}
			}
			return sumOf(held) >= min(liveTotal, sumOf(wants))
		})
	}
	l.all[0].Release("k")
	l.until("one has given back", func(i int) float64 { return float64(min(i, 1)*(1+liveTotal) - 1) }, func(held []float64, _ []bool) bool {
		return held[0] == 0 && held[1] == liveTotal/2 && held[2] == liveTotal/2
	})
	l.stops[1]()
	l.until("one has stopped", func(i int) float64 { return float64(i/2*(1+liveTotal) - 1) }, func(held []float64, _ []bool) bool {
		return held[2] == liveTotal
	})
}

func TestRedisThatStallsOrRestartsIsSurvived(t *testing.T) {
	server := testenv.StartRedis(t, testenv.RedisOptions{})
	l := &live{t: t}
	cfg := Config{Every: 20 * time.Millisecond, TTL: 500 * time.Millisecond, Timeout: 100 * time.Millisecond}
	for range 2 {
		l.replica(&redis.Options{Addr: server.Addr(), ContextTimeoutEnabled: true, MaxRetries: 1}, cfg)
	}
	l.until("at first", all, equally)
	for range 2 {
		if err := server.Pause(); err != nil {
			t.Fatal(err)
		}
		l.until("while it stalls", all, nobody)
		if err := server.Resume(); err != nil {
			t.Fatal(err)
		}
		l.until("when it has stalled", all, equally)
	}
	if err := server.Kill(); err != nil {
		t.Fatal(err)
	}
	l.until("while it is away", all, nobody)
	if err := server.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	l.until("when it was restarted with nothing", all, equally)
}

func BenchmarkShare(b *testing.B) {
	client := redis.NewClient(&redis.Options{})
	b.Cleanup(func() { _ = client.Close() })
	l, err := New(Config{}, Deps{Redis: client})
	if err != nil {
		b.Fatal(err)
	}
	for i := range 10_000 {
		l.Share(fmt.Sprint(i), 1, 8)
	}
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			l.Share("5000", 1, 8)
		}
	})
}

// BenchmarkRenew renews keys that three replicas hold, on a real Redis.
func BenchmarkRenew(b *testing.B) {
	options, err := redis.ParseURL(testenv.Redis(b))
	if err != nil {
		b.Fatal(err)
	}
	const keys = 1000
	prefix := testenv.Name("leases") + ":"
	var replicas []*Leases
	for range 3 {
		client := redis.NewClient(options)
		b.Cleanup(func() { _ = client.Close() })
		l, err := New(Config{Prefix: prefix, TTL: time.Minute, Timeout: 10 * time.Second}, Deps{Redis: client})
		if err != nil {
			b.Fatal(err)
		}
		for i := range keys {
			l.Share(fmt.Sprint(i), 8, 8)
		}
		l.renew(b.Context(), l.sweep(time.Now()))
		replicas = append(replicas, l)
	}
	due := replicas[0].sweep(time.Now())
	for b.Loop() {
		replicas[0].renew(b.Context(), due)
	}
	b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N*keys), "µs/key")
}

package attempts

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"
	"go.uber.org/goleak"

	"github.com/eventissuer/eventissuer/broker/kafka"
	"github.com/eventissuer/eventissuer/internal/table/tabletest"
	"github.com/eventissuer/eventissuer/internal/testenv"
)

func TestMain(m *testing.M) {
	// sarama's metrics keep one goroutine for the whole process.
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/rcrowley/go-metrics.(*meterArbiter).tick"))
}

// world is a log and a Redis, and any number of replicas.
type world struct {
	t     testing.TB
	log   Topic
	redis *redis.Options
	cfg   Config
}

// replica is the log of attempts in one process.
type replica struct {
	*Log
	t    testing.TB
	stop func()
}

// onEach runs a test on what is in memory and on real servers.
func onEach(t *testing.T, test func(w *world)) {
	t.Helper()
	t.Run("memory", func(t *testing.T) { test(inMemory(t)) })
	t.Run("real", func(t *testing.T) {
		options, err := redis.ParseURL(testenv.Redis(t))
		if err != nil {
			t.Fatal(err)
		}
		log, err := kafka.New(kafka.Config{Brokers: []string{testenv.Kafka(t)}}, kafka.Deps{})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = log.Close() })
		test(&world{t: t, log: log, redis: options, cfg: Config{Topic: testenv.Name("attempts"), Prefix: testenv.Name("attempts") + ":"}})
	})
}

func inMemory(t testing.TB) *world {
	t.Helper()
	return &world{t: t, log: tabletest.New(), redis: &redis.Options{Addr: miniredis.RunT(t).Addr()}}
}

// replica starts one. Hooks stand between it and Redis.
func (w *world) replica(hooks ...redis.Hook) *replica { return w.replicaOver(w.log, hooks...) }

func (w *world) replicaOver(log Topic, hooks ...redis.Hook) *replica {
	w.t.Helper()
	options := *w.redis
	options.ContextTimeoutEnabled, options.MaxRetries = true, -1
	client := redis.NewClient(&options)
	for _, h := range hooks {
		client.AddHook(h)
	}
	l, err := New(w.cfg, Deps{Log: log, Redis: client})
	if err != nil {
		w.t.Fatal(err)
	}
	r := &replica{Log: l, t: w.t, stop: func() {}}
	r.start()
	w.t.Cleanup(func() { r.stop(); _ = client.Close() })
	return r
}

func (r *replica) start() {
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		if err := r.Run(ctx); !errors.Is(err, context.Canceled) {
			r.t.Errorf("Run ended with %v", err)
		}
	})
	r.stop = sync.OnceFunc(func() { cancel(); running.Wait() })
}

// settle returns when all that was recorded is written, or was given up.
func (r *replica) settle() { r.stop(); r.start() }

var epoch = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// failed is the n-th attempt of a subscription, a second after the one before it.
func failed(subscription string, n int) *Attempt {
	return &Attempt{
		Subscription: subscription, Stream: "orders", Partition: 3, Offsets: []int64{int64(n)}, EventID: fmt.Sprint("event ", n), EventType: "no.acme.order.v1",
		Message: fmt.Sprint("msg_", n), At: epoch.Add(time.Duration(n) * time.Second), Took: 12 * time.Millisecond, Outcome: Failed, Status: 503,
		Reason: "the endpoint answered 503 Service Unavailable", Answer: []byte("out of order"), Number: 1, Next: epoch.Add(time.Hour),
	}
}

// events are the first events' ids of attempts.
func events(items []Attempt) []string {
	ids := make([]string, len(items))
	for i, a := range items {
		ids[i] = a.EventID
	}
	return ids
}

// all reads every page of a query.
func (r *replica) all(q Query) []Attempt {
	r.t.Helper()
	var all []Attempt
	for {
		items, next, err := r.Page(r.t.Context(), "sub", q)
		if err != nil {
			r.t.Fatal(err)
		}
		if len(items) > q.Limit && q.Limit > 0 {
			r.t.Errorf("a page of %d where %d were asked for", len(items), q.Limit)
		}
		all = append(all, items...)
		if next == "" {
			return all
		}
		if len(items) == 0 {
			r.t.Errorf("an empty page that is not the last")
		}
		q.Before = next
	}
}

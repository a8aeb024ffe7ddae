package dedupe

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/eventissuer/eventissuer/broker"
	"github.com/eventissuer/eventissuer/broker/kafka"
	"github.com/eventissuer/eventissuer/internal/event"
	"github.com/eventissuer/eventissuer/internal/testenv"
)

func fakeKafka(t *testing.T, cfg kafka.Config, opts ...kfake.Opt) (*kfake.Cluster, *kafka.Log) {
	t.Helper()
	c, err := kfake.NewCluster(append(opts, kfake.NumBrokers(1))...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	cfg.Brokers = c.ListenAddrs()
	return c, openKafka(t, cfg)
}

func openKafka(t *testing.T, cfg kafka.Config) *kafka.Log {
	t.Helper()
	log, err := kafka.New(cfg, kafka.Deps{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = log.Close() })
	return log
}

// replicas makes n Dedupers on a log: n processes on one Redis, or one process that n use.
func replicas(t *testing.T, n int, cfg Config, log Log, redisURL string) []*Deduper {
	t.Helper()
	cfg.Prefix = testenv.Name("dedupe") + ":"
	var all []*Deduper
	for i := range n {
		if redisURL == "" && i > 0 {
			all = append(all, all[0])
			continue
		}
		deps := Deps{Log: log}
		if redisURL != "" {
			deps.Redis = realRedis(t, redisURL)
		}
		d, err := New(cfg, deps)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = d.Close() })
		all = append(all, d)
	}
	return all
}

// positions reads where the events of a topic are.
func positions(t *testing.T, log Log, topic string) map[string][]broker.Ack {
	t.Helper()
	all := make(map[string][]broker.Ack)
	bounds, err := log.Bounds(t.Context(), topic)
	if err != nil {
		t.Fatal(err)
	}
	for p := range int32(len(bounds)) {
		for at := int64(0); at < bounds[p].Next; {
			b, err := log.Read(t.Context(), topic, p, at, 1<<20)
			if err != nil {
				t.Fatal(err)
			}
			for _, r := range b.Records {
				e, err := event.FromRecord(r)
				if err != nil {
					t.Fatal(err)
				}
				all[e.ID()] = append(all[e.ID()], broker.Ack{Partition: p, Offset: r.Offset})
			}
			at = b.Next
		}
	}
	return all
}

// onRealTime runs a test with each store. pass is called now and then by those who wait for Redis's time to pass.
func onRealTime(t *testing.T, test func(t *testing.T, redisURL string, pass func(time.Duration))) {
	t.Helper()
	nothing := func(time.Duration) {}
	t.Run("memory", func(t *testing.T) { test(t, "", nothing) })
	t.Run("miniredis", func(t *testing.T) {
		mini := miniredis.RunT(t)
		test(t, "redis://"+mini.Addr(), mini.FastForward)
	})
	t.Run("redis", func(t *testing.T) { test(t, testenv.Redis(t), nothing) })
}

func TestPublishersOfTheSameEventsPersistEachOnce(t *testing.T) {
	onRealTime(t, func(t *testing.T, redisURL string, _ func(time.Duration)) {
		_, log := fakeKafka(t, kafka.Config{AppendDeadline: time.Minute}) // a machine that is busy is not to be taken for one that fails
		if err := log.Create(t.Context(), stream.Topic, broker.TopicConfig{Partitions: 4}); err != nil {
			t.Fatal(err)
		}
		const callers, n = 64, 1000
		all := replicas(t, 4, Config{RedisTimeout: time.Minute}, log, redisURL)
		var events []Event
		for i := range n {
			events = append(events, happening(t, fmt.Sprint(i), fmt.Sprint("key ", i%50)))
		}
		var (
			mu        sync.Mutex
			persisted = make(map[string]broker.Ack)
			said      = make(map[string]map[broker.Ack]bool)
			wg        sync.WaitGroup
		)
		for c := range callers {
			wg.Go(func() {
				rnd := rand.New(rand.NewPCG(uint64(c), 1))
				left := rnd.Perm(n)
				for len(left) > 0 && !t.Failed() { // what one leaves reserved stays so where no time passes
					size := min(1+rnd.IntN(60), len(left))
					batch := make([]Event, size)
					for i := range batch {
						batch[i] = events[left[i]]
					}
					out := all[c%len(all)].Append(t.Context(), stream, batch)
					again := left[size:]
					mu.Lock()
					for i, o := range out {
						id := batch[i].ID
						switch {
						case errors.Is(o.Ack.Err, ErrReserved):
							again = append(again, left[i])
							continue
						case o.Ack.Err != nil || o.Degraded:
							t.Errorf("%s: %+v", id, o)
						case !o.Duplicate && persisted[id] != broker.Ack{}:
							t.Errorf("%s is persisted at %+v and at %+v", id, persisted[id], o.Ack)
						case !o.Duplicate:
							persisted[id] = o.Ack
						}
						if said[id] == nil {
							said[id] = make(map[broker.Ack]bool)
						}
						said[id][o.Ack] = true
					}
					mu.Unlock()
					left = again
				}
			})
		}
		wg.Wait()
		for id, there := range positions(t, log, stream.Topic) {
			if len(there) != 1 || len(said[id]) != 1 || !said[id][there[0]] {
				t.Errorf("%s is on the log at %+v, answered were %+v", id, there, said[id])
			}
		}
		if len(said) != n {
			t.Errorf("%d events are answered, want %d", len(said), n)
		}
	})
}

// An append whose fate was not told is still on its way when it is published again, and lands before the lease is over.
func TestAnAppendThatLandsLateIsFound(t *testing.T) {
	onRealTime(t, func(t *testing.T, redisURL string, pass func(time.Duration)) {
		cluster, log := fakeKafka(t, kafka.Config{AppendDeadline: time.Second, RequestTimeout: 20 * time.Second}, kfake.SleepOutOfOrder())
		if err := log.Create(t.Context(), stream.Topic, broker.TopicConfig{Partitions: 2}); err != nil {
			t.Fatal(err)
		}
		cfg := Config{Lease: 5 * time.Second, Landing: 2 * time.Second, SettleTime: time.Second, RedisTimeout: 10 * time.Second}
		all := replicas(t, 2, cfg, log, redisURL)
		publish := func(n int, id string) Outcome {
			return all[n].Append(t.Context(), stream, []Event{happening(t, id, "a")})[0]
		}
		if o := publish(0, "first"); o.Ack.Err != nil || o.Degraded {
			t.Fatalf("%+v", o)
		}
		release := make(chan struct{})
		cluster.ControlKey(int16(kmsg.Produce), func(kmsg.Request) (kmsg.Response, error, bool) {
			cluster.SleepControl(func() { <-release })
			return nil, nil, false
		})
		if o := publish(0, "1"); o.Ack.Err == nil || errors.Is(o.Ack.Err, broker.ErrRefused) {
			t.Fatalf("%+v, want one in doubt", o)
		}
		if o := publish(1, "1"); !errors.Is(o.Ack.Err, ErrReserved) {
			t.Fatalf("%+v, want %v", o, ErrReserved)
		}
		close(release)
		for deadline := time.Now().Add(time.Minute); ; {
			pass(100 * time.Millisecond)
			o := publish(1, "1")
			if o.Ack.Err == nil {
				if !o.Duplicate {
					t.Errorf("%+v, want a duplicate", o)
				}
				break
			}
			if !errors.Is(o.Ack.Err, ErrReserved) || time.Now().After(deadline) {
				t.Fatalf("%+v, want %v", o, ErrReserved)
			}
			<-time.After(50 * time.Millisecond)
		}
		if there := positions(t, log, stream.Topic)["1"]; len(there) != 1 {
			t.Errorf("it is on the log at %+v", there)
		}
	})
}

func TestATopicThatIsMadeAgainTakesItsEventsAgain(t *testing.T) {
	onRealTime(t, func(t *testing.T, redisURL string, _ func(time.Duration)) {
		_, log := fakeKafka(t, kafka.Config{})
		d := replicas(t, 1, Config{RedisTimeout: time.Minute}, log, redisURL)[0]
		for round := range 2 {
			if err := log.Create(t.Context(), stream.Topic, broker.TopicConfig{Partitions: 2}); err != nil {
				t.Fatal(err)
			}
			for again := range 2 {
				var events []Event
				for i := range 20 {
					events = append(events, happening(t, fmt.Sprint(i), fmt.Sprint(i)))
				}
				for _, o := range d.Append(t.Context(), stream, events) {
					if o.Ack.Err != nil || o.Duplicate != (again == 1) {
						t.Errorf("life %d, time %d: %+v", round, again, o)
					}
				}
			}
			if round == 0 {
				if err := log.Delete(t.Context(), stream.Topic); err != nil {
					t.Fatal(err)
				}
			}
		}
	})
}

// A process that comes after another finds in the log what the other published.
func TestARestartReadsTheLog(t *testing.T) {
	cluster, log := fakeKafka(t, kafka.Config{})
	if err := log.Create(t.Context(), stream.Topic, broker.TopicConfig{Partitions: 4}); err != nil {
		t.Fatal(err)
	}
	var events []Event
	for i := range 5000 {
		events = append(events, happening(t, fmt.Sprint(i), fmt.Sprint(i)))
	}
	first := replicas(t, 1, Config{}, log, "")[0]
	persisted := first.Append(t.Context(), stream, events)
	second := replicas(t, 1, Config{}, openKafka(t, kafka.Config{Brokers: cluster.ListenAddrs()}), "")[0]
	if err := second.Prepare(context.Background(), stream, day); err != nil {
		t.Fatal(err)
	}
	for i, o := range second.Append(t.Context(), stream, events) {
		if !o.Duplicate || o.Ack != persisted[i].Ack {
			t.Fatalf("%+v, want a duplicate of %+v", o, persisted[i].Ack)
		}
	}
}

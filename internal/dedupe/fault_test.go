package dedupe

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/eventissuer/eventissuer/broker"
	"github.com/eventissuer/eventissuer/broker/kafka"
	"github.com/eventissuer/eventissuer/internal/clock"
	"github.com/eventissuer/eventissuer/internal/testenv"
)

// Publishers that repeat what was not acknowledged, through a Kafka that is killed, to replicas that drop out in the
// middle of what they do: nothing that was acknowledged is missing, and everything is there once.
func TestRetriesThroughAKilledKafkaWriteOnce(t *testing.T) {
	node := testenv.StartKafka(t, testenv.KafkaOptions{})
	cfg := kafka.Config{Brokers: []string{node.Addr()}, AppendDeadline: 2 * time.Second, RequestTimeout: 2 * time.Second}
	if err := openKafka(t, kafka.Config{Brokers: cfg.Brokers}).Create(t.Context(), stream.Topic, broker.TopicConfig{Partitions: 3}); err != nil {
		t.Fatal(err)
	}
	url := testenv.Redis(t)
	prefix := testenv.Name("dedupe") + ":"
	var all []*Deduper
	for range 3 {
		d, err := New(Config{Lease: 9 * time.Second, Landing: 5 * time.Second, SettleTime: 2 * time.Second, RedisTimeout: 10 * time.Second, Prefix: prefix},
			Deps{Log: openKafka(t, cfg), Redis: realRedis(t, url)})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = d.Close() })
		all = append(all, d)
	}
	const publishers, batches, size = 8, 50, 10
	var (
		mu        sync.Mutex
		said      = make(map[string]broker.Ack)
		doubtful  atomic.Int64
		began     atomic.Int64
		wg        sync.WaitGroup
		ctx, stop = context.WithTimeout(t.Context(), 3*time.Minute)
	)
	defer stop()
	for p := range publishers {
		wg.Go(func() {
			rnd := rand.New(rand.NewPCG(uint64(p), 7))
			for n := range batches {
				began.Add(1)
				var left []Event
				for i := range size {
					left = append(left, happening(t, fmt.Sprint(p, ".", n, ".", i), fmt.Sprint(i)))
				}
				for len(left) > 0 && ctx.Err() == nil {
					// Some replicas drop out after a few milliseconds.
					call, cancel := ctx, context.CancelFunc(func() {})
					if rnd.IntN(60) == 0 {
						call, cancel = context.WithTimeout(ctx, time.Duration(rnd.Int64N(int64(3*time.Millisecond))))
					}
					out := all[rnd.IntN(len(all))].Append(call, stream, left)
					cancel()
					var again []Event
					mu.Lock()
					for i, o := range out {
						if o.Degraded {
							t.Errorf("written undeduplicated: %+v", o)
						}
						if o.Ack.Err != nil {
							again = append(again, left[i])
							if !errors.Is(o.Ack.Err, broker.ErrRefused) {
								doubtful.Add(1)
							}
							continue
						}
						said[left[i].ID] = o.Ack
					}
					mu.Unlock()
					if left = again; len(left) > 0 {
						clock.Pause(ctx, 100*time.Millisecond)
					}
				}
			}
		})
	}
	for _, at := range []int64{publishers * batches / 4, publishers * batches / 2} {
		for began.Load() < at && ctx.Err() == nil {
			clock.Pause(ctx, 10*time.Millisecond)
		}
		if err := node.Kill(); err != nil {
			t.Fatal(err)
		}
		if err := node.Start(context.WithoutCancel(t.Context())); err != nil {
			t.Fatal(err)
		}
	}
	wg.Wait()
	there := positions(t, openKafka(t, kafka.Config{Brokers: []string{node.Addr()}}), stream.Topic)
	if len(said) != publishers*batches*size || len(there) != len(said) {
		t.Errorf("%d events are acknowledged and %d on the log, want %d", len(said), len(there), publishers*batches*size)
	}
	for id, at := range there {
		if len(at) != 1 || said[id] != at[0] {
			t.Errorf("%s is on the log at %+v, answered was %+v", id, at, said[id])
		}
	}
	if doubtful.Load() == 0 {
		t.Error("no append was in doubt: the test shows nothing")
	}
	t.Logf("%d appends were in doubt", doubtful.Load())
}

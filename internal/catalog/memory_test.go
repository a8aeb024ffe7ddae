package catalog

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/eventissuer/eventissuer/internal/table"
	"github.com/eventissuer/eventissuer/internal/table/tabletest"
)

// open runs a catalog on a log, in real time.
func open(b *testing.B, log *tabletest.Log, snapshotBytes int64) (c *Catalog, stop func()) {
	b.Helper()
	view := log.View(1, tabletest.Faults{})
	tab, err := table.New(table.Config{Log: view, Topic: "_test.catalog", SnapshotBytes: snapshotBytes, SnapshotDelay: time.Millisecond})
	if err != nil {
		b.Fatal(err)
	}
	if c, err = New(Config{Table: tab, Topics: view, Keys: testKeys}); err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		if err := tab.Run(ctx); !errors.Is(err, context.Canceled) {
			b.Error(err)
		}
	})
	<-c.Ready()
	return c, func() { cancel(); running.Wait() }
}

func heapBytes() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// BenchmarkSubscriptions reports what a subscription takes in a replica that has loaded 100,000, and how long the load is.
func BenchmarkSubscriptions(b *testing.B) {
	for name, of := range map[string]func(i int) Subscription{
		"read by sessions": func(int) Subscription { return Subscription{} },
		"with a sink": func(i int) Subscription {
			var s Subscription
			s.Sink = fmt.Sprintf("https://hooks.customer%d.example/inbox/%d", i%1000, i)
			return s
		},
	} {
		b.Run(name, func(b *testing.B) { benchmarkSubscriptions(b, of) })
	}
}

func benchmarkSubscriptions(b *testing.B, of func(i int) Subscription) {
	const n = 100_000
	log := tabletest.New()
	subscribeMany(b, log, n, of)
	load := func(b *testing.B) {
		for b.Loop() {
			before := heapBytes()
			begin := time.Now()
			c, stop := open(b, log, 1<<40)
			took := time.Since(begin)
			b.ReportMetric(float64(heapBytes()-before)/n, "B/subscription")
			b.ReportMetric(took.Seconds(), "s/load")
			if got := len(c.SubscriptionIDs()); got != n {
				b.Fatalf("%d subscriptions are there", got)
			}
			stop()
		}
	}
	b.Run("from the log", load)
	_, stop := open(b, log, 1)
	for first := int64(0); first == 0; runtime.Gosched() {
		bounds, err := log.Bounds(context.Background(), "_test.catalog")
		if err != nil {
			b.Fatal(err)
		}
		first = bounds[0].First
	}
	stop()
	b.Run("from a snapshot", load)
}

// subscribeMany makes subscriptions by way of a catalog that is gone afterwards.
func subscribeMany(b *testing.B, log *tabletest.Log, n int, of func(i int) Subscription) {
	b.Helper()
	c, stop := open(b, log, 1<<40)
	defer stop()
	ctx := context.Background()
	if _, err := c.As(Actor{Name: "test"}).CreateStream(ctx, Stream{Name: "messages"}); err != nil {
		b.Fatal(err)
	}
	starts := func(context.Context, []string, string) (map[string]Position, error) {
		return map[string]Position{"messages": {
			Epoch: "0194f7a26c3e7d109f6b5a3c2e1d0f4b", Next: []int64{1, 20, 300, 4000, 50_000, 600_000, 7_000_000, 8, 9, 10, 11, 12},
		}}, nil
	}
	const makers = 8
	var making sync.WaitGroup
	for first := range makers {
		making.Go(func() {
			for i := first; i < n; i += makers {
				s := of(i)
				s.Types, s.Streams = []string{"no.example.message.v1"}, []string{"messages"}
				s.Filters = json.RawMessage(fmt.Sprintf(`[{"exact":{"subject":"/party/%d"}}]`, i))
				e := c.As(Actor{Name: "https://login.example/someone", RequestID: uuid.NewString()})
				if _, _, err := e.CreateSubscription(ctx, s, starts); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	making.Wait()
}

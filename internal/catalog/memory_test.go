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
	if c, err = New(Config{Table: tab, Topics: view}); err != nil {
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
	const n = 100_000
	log := tabletest.New()
	c, stop := open(b, log, 1<<40)
	ctx := context.Background()
	if _, err := c.As(Actor{Name: "test"}).CreateStream(ctx, Stream{Name: "messages"}); err != nil {
		b.Fatal(err)
	}
	starts := func(_ context.Context, streams []string, _ string) (map[string]Position, error) {
		at := map[string]Position{}
		for i, name := range streams {
			at[name] = Position{Epoch: "0194f7a26c3e7d109f6b5a3c2e1d0f4b", Next: []int64{int64(i), 2, 30, 400, 5000, 60_000, 700_000, 8, 9, 10, 11, 12}}
		}
		return at, nil
	}
	var making sync.WaitGroup
	for part := range 8 {
		making.Go(func() {
			for i := part; i < n; i += 8 {
				e := c.As(Actor{Name: "https://login.example/someone", RequestID: uuid.NewString()})
				_, _, err := e.CreateSubscription(ctx, Subscription{
					Types:   []string{"no.example.message.v1"},
					Streams: []string{"messages"},
					Filters: json.RawMessage(fmt.Sprintf(`[{"exact":{"subject":"/party/%d"}}]`, i)),
				}, starts)
				if err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	making.Wait()
	stop()
	load := func(b *testing.B, bytes int64) {
		for b.Loop() {
			before := heapBytes()
			begin := time.Now()
			c, stop := open(b, log, bytes)
			took := time.Since(begin)
			b.ReportMetric(float64(heapBytes()-before)/n, "B/subscription")
			b.ReportMetric(took.Seconds(), "s/load")
			if len(c.Subscriptions()) != n {
				b.Fatal("not all are there")
			}
			stop()
		}
	}
	b.Run("from the log", func(b *testing.B) { load(b, 1<<40) })
	_, stop = open(b, log, 1)
	for first := int64(0); first == 0; {
		bounds, err := log.Bounds(ctx, "_test.catalog")
		if err != nil {
			b.Fatal(err)
		}
		first = bounds[0].First
		runtime.Gosched()
	}
	stop()
	b.Run("from a snapshot", func(b *testing.B) { load(b, 1<<40) })
}

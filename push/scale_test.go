package push

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/eventissuer/eventissuer/broker"
	"github.com/eventissuer/eventissuer/internal/catalog"
	"github.com/eventissuer/eventissuer/internal/event"
	"github.com/eventissuer/eventissuer/internal/fanout"
	"github.com/eventissuer/eventissuer/internal/keyring"
	"github.com/eventissuer/eventissuer/internal/table"
	"github.com/eventissuer/eventissuer/internal/table/tabletest"
	"github.com/eventissuer/eventissuer/internal/webhook"
)

// openCatalog runs a catalog on a log, in real time.
func openCatalog(b *testing.B, log *tabletest.Log, keys *keyring.Ring) (c *catalog.Catalog, stop func()) {
	b.Helper()
	view := log.View(1, tabletest.Faults{})
	definitions, err := table.New(table.Config{Log: view, Topic: "_test.catalog"})
	if err != nil {
		b.Fatal(err)
	}
	if c, err = catalog.New(catalog.Config{Table: definitions, Topics: view, Keys: keys}); err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		if err := definitions.Run(ctx); !errors.Is(err, context.Canceled) {
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

// BenchmarkManySubscriptions reports what a subscription with a sink and a filter of its own takes in a replica that owns all
// partitions, definition included; how long the replica takes to be ready for them; and what an event costs that one of
// them matches.
func BenchmarkManySubscriptions(b *testing.B) {
	for _, n := range []int{100, 100_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) { benchmarkMany(b, n) })
	}
}

func benchmarkMany(b *testing.B, n int) {
	log := tabletest.New()
	keys, err := keyring.Parse([]byte("k1 AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="))
	if err != nil {
		b.Fatal(err)
	}
	define(b, log, keys, n)
	before, began := heapBytes(), time.Now()
	c, stop := openCatalog(b, log, keys)
	defer stop()
	hubs, err := fanout.New(fanout.Config{Log: log})
	if err != nil {
		b.Fatal(err)
	}
	e, err := New(Config{}, Deps{
		Log: alone{log}, Hubs: hubs, Definitions: FromCatalog(c, nil), Letters: noLetters{},
		Sender: func(string, webhook.Credential) (Sender, error) { return nil, errors.New("nothing is sent here") },
	})
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(b.Context())
	defer cancel()
	var running sync.WaitGroup
	defer running.Wait()
	defer cancel()
	running.Go(func() { _ = hubs.Run(ctx) })
	running.Go(func() { _ = e.Run(ctx) })
	if err := e.awaitCatalog(ctx, c.Applied()); err != nil {
		b.Fatal(err)
	}
	messages, _ := c.Stream("messages")
	var st *stream
	for st == nil || st.owned.Load() != 12 {
		runtime.Gosched()
		e.registry.Lock()
		st = e.streams[fanout.Stream{Name: "messages", Topic: messages.Topic}]
		e.registry.Unlock()
	}
	took := time.Since(began)
	each := float64(heapBytes()-before) / float64(n)
	one, err := event.Parse([]byte(`{"specversion":"1.0","id":"1","source":"/bench","type":"no.example.message.v1","subject":"/party/77","data":{"text":"hello"}}`))
	if err != nil {
		b.Fatal(err)
	}
	var found []*route
	b.ReportAllocs()
	for b.Loop() {
		st.mu.RLock()
		found = st.index.Match(found[:0], &one)
		st.mu.RUnlock()
		if len(found) != 1 {
			b.Fatalf("%d subscriptions match", len(found))
		}
	}
	b.ReportMetric(each, "B/subscription")
	b.ReportMetric(took.Seconds(), "s/start")
}

// define makes subscriptions by way of a catalog that is gone afterwards.
func define(b *testing.B, log *tabletest.Log, keys *keyring.Ring, n int) {
	b.Helper()
	c, stop := openCatalog(b, log, keys)
	defer stop()
	editor := c.As(catalog.Actor{Name: "https://login.example/someone", RequestID: "3f0c7d9a1b2c4d5e6f708192"})
	stream, err := editor.CreateStream(b.Context(), catalog.Stream{Name: "messages"})
	if err != nil {
		b.Fatal(err)
	}
	info, err := log.Describe(b.Context(), stream.Topic)
	if err != nil {
		b.Fatal(err)
	}
	starts := func(context.Context, []string, string) (map[string]catalog.Position, error) {
		return map[string]catalog.Position{"messages": {Epoch: info.Epoch.Hex(), Next: make([]int64, 12)}}, nil
	}
	var making sync.WaitGroup
	const makers = 8
	for first := range makers {
		making.Go(func() {
			for i := first; i < n; i += makers {
				var s catalog.Subscription
				s.Sink = fmt.Sprintf("https://hooks.customer%d.example/inbox/%d", i%1000, i)
				s.Types, s.Streams = []string{"no.example.message.v1"}, []string{"messages"}
				s.Filters = json.RawMessage(fmt.Sprintf(`[{"exact":{"subject":"/party/%d"}}]`, i))
				made, _, err := editor.CreateSubscription(b.Context(), s, starts)
				if err == nil {
					_, err = editor.ProveSubscription(b.Context(), made.ID, made.Sink, catalog.Proof{State: catalog.ProofProven, By: catalog.ByConsent})
				}
				if err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	making.Wait()
}

// alone is a log whose one member of every group owns all partitions.
type alone struct{ *tabletest.Log }

// Join implements broker.Joiner.
func (l alone) Join(ctx context.Context, _ string, topics []string, own func(context.Context, broker.Claim)) error {
	bounds, err := l.Bounds(ctx, topics[0])
	if err != nil {
		return err
	}
	var owners sync.WaitGroup
	for p := range bounds {
		owners.Go(func() { own(ctx, whole{topics[0], int32(p)}) })
	}
	owners.Wait()
	return ctx.Err()
}

type whole struct {
	topic     string
	partition int32
}

// Topic, Partition, Committed and Commit implement broker.Claim.
func (w whole) Topic() string                                  { return w.topic }
func (w whole) Partition() int32                               { return w.partition }
func (whole) Committed(context.Context) (int64, string, error) { return -1, "", nil }
func (whole) Commit(context.Context, int64, string) error      { return nil }

type noLetters struct{}

// Write implements Letters.
func (noLetters) Write(context.Context, []Letter) []error { return nil }

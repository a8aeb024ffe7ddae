package failing

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/redis/go-redis/v9"

	"github.com/eventissuer/eventissuer/internal/operations"
	"github.com/eventissuer/eventissuer/internal/testenv"
)

// channel hands on what is published.
type channel chan operations.Event

func (c channel) Publish(ctx context.Context, e operations.Event) error {
	select {
	case c <- e:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func TestReplicasOnARealRedisTellEachLevelOnce(t *testing.T) {
	options, err := redis.ParseURL(testenv.Redis(t))
	if err != nil {
		t.Fatal(err)
	}
	const subscriptions = 20
	defs := &definitions{policies: map[uuid.UUID]Policy{}}
	ids := make([]uuid.UUID, subscriptions)
	for i := range ids {
		ids[i] = uuid.New()
		defs.define(ids[i], Policy{Owner: "acme", DisableAfter: 5 * time.Second, LongestWait: time.Minute})
	}
	told := make(channel)
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	defer func() { cancel(); running.Wait() }()
	cfg := Config{Prefix: testenv.Name("failing") + ":", Every: 20 * time.Millisecond}
	for range 3 {
		client := redis.NewClient(options)
		t.Cleanup(func() { _ = client.Close() })
		w, err := New(cfg, Deps{Redis: client, Definitions: defs, Publisher: told})
		if err != nil {
			t.Fatal(err)
		}
		running.Go(func() { _ = w.Run(ctx) })
		running.Go(func() {
			tick := time.NewTicker(50 * time.Millisecond)
			defer tick.Stop()
			for ctx.Err() == nil {
				for i, id := range ids[1:] {
					if _, ok := defs.Policy("", id); ok {
						w.Failed(string(rune('a'+1+i)), id, "no answer")
					}
				}
				w.Failed("a", ids[0], "no answer") // now and then
				w.Succeeded(ids[0])
				select {
				case <-tick.C:
				case <-ctx.Done():
				}
			}
		})
	}
	last := map[string]int{}
	for done := 0; done < subscriptions-1; {
		e := <-told
		percent := 100
		if data, ok := e.Data.(operations.Failing); ok {
			percent = data.Percent
		} else {
			done++
		}
		if percent <= last[e.Subject] {
			t.Errorf("of %s %d percent came after %d", e.Subject, percent, last[e.Subject])
		}
		last[e.Subject] = percent
	}
	if _, ok := last["a"]; ok {
		t.Errorf("one that succeeds now and then is warned of: %d", last["a"])
	}
	if len(defs.reasons) != subscriptions-1 {
		t.Errorf("%d were disabled", len(defs.reasons))
	}
}

func BenchmarkNoting(b *testing.B) {
	newWatch := func(b *testing.B) *Watch {
		w, err := New(Config{}, Deps{Redis: redis.NewClient(&redis.Options{}), Definitions: &definitions{}, Publisher: channel(nil)})
		if err != nil {
			b.Fatal(err)
		}
		for i := range 1000 {
			w.Failed("sub", uuid.UUID{byte(i), byte(i >> 8)}, "no answer")
		}
		return w
	}
	b.Run("success of one that does not fail", func(b *testing.B) {
		w := newWatch(b)
		b.ReportAllocs()
		for b.Loop() {
			w.Succeeded(uuid.Max)
		}
	})
	b.Run("failure", func(b *testing.B) {
		w := newWatch(b)
		b.ReportAllocs()
		for b.Loop() {
			w.Failed("sub", uuid.UUID{}, "no answer")
		}
	})
}

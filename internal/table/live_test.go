package table

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/eventissuer/eventissuer/broker"
	"github.com/eventissuer/eventissuer/broker/embedded"
	"github.com/eventissuer/eventissuer/broker/kafka"
	"github.com/eventissuer/eventissuer/internal/testenv"
)

// TestRacingReplicasAgreeOnKafka races writers over snapshots, truncation and restarts, in real time and on real
// servers: every version is replaced at most once, all replicas end alike, and so does one that loads afresh.
func TestRacingReplicasAgreeOnKafka(t *testing.T) {
	for name, brokers := range map[string]func(*testing.T) []string{
		"embedded": func(t *testing.T) []string {
			server, err := embedded.Start(t.Context(), embedded.Config{Dir: t.TempDir()})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = server.Close() })
			return server.Brokers()
		},
		"real": func(t *testing.T) []string { return []string{testenv.Kafka(t)} },
	} {
		t.Run(name, func(t *testing.T) { race(t, brokers(t), testenv.Name("table")) })
	}
}

// live is a replica with a log of its own.
type live struct {
	*Table
	log  broker.Log
	stop func()
}

func liveReplica(t *testing.T, brokers []string, topic string) *live {
	t.Helper()
	log, err := kafka.New(kafka.Config{Brokers: brokers}, kafka.Deps{})
	if err != nil {
		t.Fatal(err)
	}
	tab, err := New(Config{
		Log: log, Topic: topic, Partitions: 2, SnapshotBytes: 8 << 10, PartBytes: 1 << 10, SnapshotDelay: 300 * time.Millisecond, Retain: 50,
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- tab.Run(ctx) }()
	l := &live{Table: tab, log: log, stop: sync.OnceFunc(func() {
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("Run ended with %v", err)
		}
		if err := log.Close(); err != nil {
			t.Errorf("closing the log: %v", err)
		}
	})}
	t.Cleanup(l.stop)
	select {
	case <-tab.Ready():
	case <-time.After(30 * time.Second):
		t.Fatal("not ready in time")
	}
	return l
}

func race(t *testing.T, brokers []string, topic string) {
	var replicas []*live
	for range 3 {
		replicas = append(replicas, liveReplica(t, brokers, topic))
	}
	var mu sync.Mutex
	replaced := map[string]uuid.UUID{} // id and version -> what replaced it
	accepted, rejected := 0, 0
	writeFor := func(r *live, d time.Duration) {
		for end := time.Now().Add(d); time.Now().Before(end); {
			id := fmt.Sprint("object-", rand.IntN(12))
			cur, _ := r.Current(id)
			var v Version
			var err error
			if rand.IntN(5) == 0 && !cur.Deleted() {
				v, err = r.Delete(t.Context(), id, cur.U)
			} else {
				v, err = r.Put(t.Context(), id, cur.U, fmt.Appendf(nil, `{"n":%d,"fill":"%0100d"}`, rand.Int(), 0))
			}
			mu.Lock()
			switch key := id + cur.U.String(); {
			case err == nil && cur.U == uuid.Nil: // there may be many creations, each after a deletion that was dropped
				accepted++
			case err == nil && replaced[key] != uuid.Nil:
				t.Errorf("%s: %v was replaced by %v and by %v", id, cur.U, replaced[key], v.U)
			case err == nil:
				accepted++
				replaced[key] = v.U
			case errors.Is(err, ErrConflict):
				rejected++
			case !errors.Is(err, ErrNotReady) && !errors.Is(err, ErrInDoubt):
				t.Errorf("writing %s: %v", id, err)
			}
			mu.Unlock()
		}
	}
	for range 2 {
		var writing sync.WaitGroup
		for _, r := range replicas {
			for range 3 {
				writing.Go(func() { writeFor(r, 1500*time.Millisecond) })
			}
		}
		writing.Wait()
		replicas[0].stop()
		replicas[0] = liveReplica(t, brokers, topic) // from a snapshot
	}
	if accepted == 0 || rejected == 0 {
		t.Errorf("%d accepted, %d rejected: no race", accepted, rejected)
	}
	awaitTruncation(t, replicas[1].log, topic)
	replicas = append(replicas, liveReplica(t, brokers, topic))
	var states []string
	for _, r := range replicas {
		state := ""
		for p, s := range r.shards {
			bounds, err := r.log.Bounds(t.Context(), topic)
			if err != nil {
				t.Fatal(err)
			}
			awaitOffset(t, s, bounds[p].Next)
			s.mu.RLock()
			state += fmt.Sprint(s.fold.next, " ", digestOf(s.fold), "\n")
			s.mu.RUnlock()
		}
		states = append(states, state)
	}
	if n := len(slices.Compact(states)); n != 1 {
		t.Errorf("%d different states", n)
	}
	t.Logf("%d accepted, %d rejected", accepted, rejected)
}

// awaitTruncation waits until both partitions of the log begin above 0.
func awaitTruncation(t *testing.T, log broker.Log, topic string) {
	t.Helper()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(20 * time.Second)
	for {
		bounds, err := log.Bounds(t.Context(), topic)
		if err != nil {
			t.Fatal(err)
		}
		if !slices.ContainsFunc(bounds, func(b broker.Bounds) bool { return b.First == 0 }) {
			return
		}
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("never truncated: %v", bounds)
		}
	}
}

// awaitOffset waits until a partition is applied up to end, through loads that a truncation may cause meanwhile.
func awaitOffset(t *testing.T, s *shard, end int64) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	for {
		err := s.await(ctx, end)
		if err == nil {
			return
		}
		if !errors.Is(err, ErrNotReady) || ctx.Err() != nil {
			t.Fatal(err)
		}
		runtime.Gosched()
	}
}

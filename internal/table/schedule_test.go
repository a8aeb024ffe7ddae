package table

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"
	"go.uber.org/goleak"

	"github.com/eventissuer/eventissuer/broker"
	"github.com/eventissuer/eventissuer/internal/table/tabletest"
)

func TestMain(m *testing.M) {
	// sarama's metrics keep one goroutine for the life of the process.
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("github.com/rcrowley/go-metrics.(*meterArbiter).tick"))
}

const topic = "_test.table"

// process is one replica of a random schedule: a table on a log of its own faults.
type process struct {
	*Table
	log    *tabletest.View
	mirror map[string]Version // what the watchers were told; guarded by mu
	mu     sync.Mutex
	stop   context.CancelFunc
	done   chan struct{} // closed when Run has returned
}

// scale sets sizes and times small, so that a short schedule has many snapshots.
func scale(log broker.Log) Config {
	return Config{
		Log: log, Topic: topic, Partitions: 2, SnapshotBytes: 400, PartBytes: 1, SnapshotDelay: 300 * time.Millisecond,
		ReadBytes: 4, WriteTimeout: 3 * time.Second, Backoff: 200 * time.Millisecond, Retain: 12,
	}
}

func start(t *testing.T, cfg Config, log *tabletest.View) *process {
	tab, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	p := &process{Table: tab, log: log, mirror: map[string]Version{}, done: make(chan struct{})}
	tab.Watch(func(id string, v Version, deleted bool) {
		p.mu.Lock()
		defer p.mu.Unlock()
		if deleted {
			delete(p.mirror, id)
		} else {
			p.mirror[id] = v
		}
	})
	var ctx context.Context
	ctx, p.stop = context.WithCancel(context.Background())
	go func() {
		defer close(p.done)
		if err := tab.Run(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("Run ended with %v", err)
		}
	}()
	return p
}

func (p *process) kill() {
	p.stop()
	<-p.done
}

// loaded waits until the table is ready, for minutes of the bubble's time.
func (p *process) loaded(t *testing.T) {
	t.Helper()
	select {
	case <-p.Ready():
	case <-time.After(10 * time.Minute):
		t.Fatal("the table cannot be loaded")
	}
}

// TestReplicasFoldAlikeWhateverHappens runs whole replicas against a log that is slow, loses, repeats and delays
// messages and acknowledgements, while they write, take snapshots, truncate, pause, die and start.
func TestReplicasFoldAlikeWhateverHappens(t *testing.T) {
	seed := seedFrom(t)
	for k := range schedules(50) {
		s := seed + uint64(k)
		ok := t.Run("", func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { runSchedule(t, s) })
		})
		if !ok {
			t.Fatalf("schedule of seed %d", s)
		}
	}
}

func runSchedule(t *testing.T, seed uint64) {
	R := rand.New(rand.NewPCG(seed, 3))
	log := tabletest.New()
	usual := tabletest.Faults{Delay: 40 * time.Millisecond, Lose: .03, Late: .05, Twice: .05, Mute: .05}
	var replicas []*process
	launch := func() *process {
		view := log.View(R.Uint64(), usual)
		return start(t, scale(view), view)
	}
	for range 3 {
		replicas = append(replicas, launch())
	}
	defer func() {
		for _, r := range replicas {
			r.kill()
		}
	}()
	var writing sync.WaitGroup
	account := &account{wrote: map[uuid.UUID]int64{}, refused: map[uuid.UUID]bool{}}
	for range 150 + R.IntN(250) {
		time.Sleep(time.Duration(R.IntN(60)) * time.Millisecond)
		i := R.IntN(len(replicas))
		r := replicas[i]
		switch x := R.Float64(); {
		case x < .80:
			id := string("abcdef"[R.IntN(6)])
			drop := R.IntN(4) == 0
			writing.Go(func() { account.write(t, r, id, drop) })
		case x < .88: // paused for long, or awake again
			f := usual
			if R.IntN(2) == 0 {
				f.Delay = 3 * time.Second
			}
			r.log.Set(f)
		case x < .94:
			r.kill()
			check(t, log, r)
			replicas[i] = launch()
		default:
			check(t, log, r)
		}
	}
	for _, r := range replicas {
		r.log.Set(tabletest.Faults{})
	}
	writing.Wait()
	time.Sleep(time.Minute) // what is late has come by now
	replicas = append(replicas, launch())
	replicas[3].log.Set(tabletest.Faults{})
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	for _, r := range replicas {
		r.loaded(t)
		if err := errors.Join(r.Sync(ctx, "a"), r.Sync(ctx, "b"), r.Sync(ctx, "c")); err != nil {
			t.Error(err)
		}
	}
	account.truncates(t, log, replicas[3])
	for _, r := range replicas {
		check(t, log, r)
		r.checkMirror(t)
	}
	account.settle(t, log)
}

// truncates checks that whatever was left behind (snapshots without an end, parts that came late), another snapshot
// comes to be valid once the log has grown and nothing goes wrong any more, and the log is truncated by it.
func (a *account) truncates(t *testing.T, log *tabletest.Log, r *process) {
	t.Helper()
	before := make([]int64, len(r.shards))
	for p := range before {
		before[p] = int64(len(log.Records(topic, int32(p))))
	}
	for i := range 120 { // far more than a snapshot has
		a.write(t, r, string("abcdef"[i%6]), false)
	}
	time.Sleep(time.Minute)
	synctest.Wait()
	bounds, err := log.Bounds(t.Context(), topic)
	if err != nil {
		t.Fatal(err)
	}
	for p, b := range bounds {
		sc := newScan(r.shards[p].epoch, false)
		for _, rec := range log.Records(topic+".snapshots", int32(p)) {
			sc.add(&rec)
		}
		if last, ok := sc.valid(); !ok || last.x <= before[p] || b.First != last.x {
			t.Errorf("partition %d: the last valid snapshot is at %d (%v) and the log is truncated below %d, long after %d", p, last.x, ok, b.First, before[p])
		}
	}
}

// account is what writers were told.
type account struct {
	mu      sync.Mutex
	wrote   map[uuid.UUID]int64 // accepted, at this offset
	refused map[uuid.UUID]bool
	doubts  int
}

func (a *account) write(t *testing.T, r *process, id string, drop bool) {
	ctx := context.Background()
	cur, _ := r.Current(id)
	var v Version
	var err error
	switch {
	case drop && !cur.Deleted():
		v, err = r.Delete(ctx, id, cur.U)
	case cur.Deleted():
		v, err = r.Put(ctx, id, uuid.Nil, []byte("new "+id))
	default:
		v, err = r.Put(ctx, id, cur.U, []byte(strings.Repeat("x", 1+len(cur.Body)%7)))
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	switch {
	case err == nil:
		a.wrote[v.U] = v.Offset
		if now, ok := r.Current(id); !ok || now.Offset < v.Offset && now.Offset+r.cfg.Retain > v.Offset {
			if ok {
				t.Errorf("wrote %s at %d, but read %d afterwards", id, v.Offset, now.Offset)
			}
		}
	case errors.Is(err, ErrInDoubt):
		a.doubts++
	case errors.Is(err, ErrConflict), errors.Is(err, ErrNotReady):
	default:
		t.Errorf("writing %s: %v", id, err)
	}
}

// settle holds what writers were told against the log: there is a copy of the record where they were told, and it was
// accepted. There may be more than one, since a deletion is remembered for a few offsets only: the second copy of a
// creation that was accepted and then deleted is a creation once the deletion is forgotten.
func (a *account) settle(t *testing.T, log *tabletest.Log) {
	accepted := map[uuid.UUID][]int64{}
	for p := range int32(2) {
		ref := newIdeal(12)
		for _, r := range log.Records(topic, p) {
			ref.add(r)
		}
		maps.Copy(accepted, ref.accepted)
	}
	for u, o := range a.wrote {
		if !slices.Contains(accepted[u], o) {
			t.Errorf("answered as accepted at %d; the log accepted it at %v", o, accepted[u])
		}
	}
	if len(a.wrote) == 0 {
		t.Error("no write was accepted: the schedule tests nothing")
	}
}

// check holds a replica's state against the whole log.
func check(t *testing.T, log *tabletest.Log, r *process) {
	t.Helper()
	for _, s := range r.shards {
		ref := newIdeal(r.cfg.Retain)
		for _, rec := range log.Records(topic, s.partition) {
			ref.add(rec)
		}
		s.mu.Lock()
		next, got := s.fold.next, digestOf(s.fold)
		s.mu.Unlock()
		if want := ref.states[next]; got != want {
			t.Fatalf("partition %d at %d\nreplica %s\nlog     %s", s.partition, next, got, want)
		}
	}
}

// checkMirror holds what the watchers were told against the state.
func (p *process) checkMirror(t *testing.T) {
	t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	n := 0
	p.Range(func(id string, v Version) bool {
		n++
		if p.mirror[id].U != v.U {
			t.Errorf("watchers were told %v of %s, which is %v", p.mirror[id].U, id, v.U)
		}
		return true
	})
	if n != len(p.mirror) {
		t.Errorf("watchers were told of %d objects, there are %d", len(p.mirror), n)
	}
}

// TestTheSchedulesTakeSnapshotsAndTruncate guards the test above: without snapshots it would prove little.
func TestTheSchedulesTakeSnapshotsAndTruncate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := tabletest.New()
		view := log.View(1, tabletest.Faults{Delay: time.Millisecond})
		r := start(t, scale(view), view)
		defer r.kill()
		r.loaded(t)
		a := &account{wrote: map[uuid.UUID]int64{}}
		for i := range 200 { // longer than several waits before a snapshot
			a.write(t, r, fmt.Sprint(i%5), false)
			time.Sleep(50 * time.Millisecond)
		}
		time.Sleep(time.Minute)
		bounds, err := log.Bounds(t.Context(), topic)
		if err != nil || bounds[0].First == 0 || bounds[1].First == 0 {
			t.Fatalf("never truncated: %v %v", bounds, err)
		}
		snaps, err := log.Bounds(t.Context(), topic+".snapshots")
		if err != nil || snaps[0].First == 0 {
			t.Fatalf("snapshots never truncated: %v %v", snaps, err)
		}
	})
}

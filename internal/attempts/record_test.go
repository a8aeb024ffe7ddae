package attempts

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/redis/go-redis/v9"

	"github.com/eventissuer/eventissuer/broker"
	"github.com/eventissuer/eventissuer/internal/table/tabletest"
)

// stalled is a log that takes a call and does not answer it until release is closed, or the caller gives up.
type stalled struct {
	*tabletest.Log
	release chan struct{}
}

func (s stalled) Append(ctx context.Context, topic string, msgs []broker.Message) []broker.Ack {
	select {
	case <-s.release:
		return s.Log.Append(ctx, topic, msgs)
	case <-ctx.Done():
	}
	acks := make([]broker.Ack, len(msgs))
	for i := range acks {
		acks[i].Err = ctx.Err()
	}
	return acks
}

// mute is a Redis that does not answer.
type mute struct{}

func (mute) DialHook(next redis.DialHook) redis.DialHook     { return next }
func (mute) ProcessHook(redis.ProcessHook) redis.ProcessHook { return nil }
func (mute) ProcessPipelineHook(redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, _ []redis.Cmder) error {
		<-ctx.Done()
		return ctx.Err()
	}
}

func TestRecordDoesNotBlockOnAStalledLogAndIsBounded(t *testing.T) {
	w := inMemory(t)
	w.cfg = Config{QueueBytes: 64 << 10, PerSecond: 1 << 30}
	log := stalled{tabletest.New(), make(chan struct{})}
	r := w.replicaOver(log)
	const n = 20_000
	for i := range n { // were one of them to block, the test would not end
		r.Record(failed("sub", i))
	}
	if bytes := r.queue.bytes.Load(); bytes > 64<<10 || bytes == 0 {
		t.Errorf("%d bytes wait", bytes)
	}
	overflow := testutil.ToFloat64(r.m.overflow)
	if overflow == 0 {
		t.Error("nothing was dropped")
	}
	close(log.release)
	r.settle()
	kept := testutil.ToFloat64(r.m.kept)
	if kept+overflow != n {
		t.Errorf("%v are kept and %v dropped, of %d", kept, overflow, n)
	}
	if bytes := r.queue.bytes.Load(); bytes != 0 || testutil.ToFloat64(r.m.waiting) != 0 {
		t.Errorf("%d bytes wait when all is written", bytes)
	}
	if got := r.all(Query{Limit: 200}); float64(len(got)) != min(kept, 2000) {
		t.Errorf("%d of %v are shown", len(got), kept)
	}
}

func TestWhatCannotBeWrittenBeforeTheEndIsCounted(t *testing.T) {
	w := inMemory(t)
	w.cfg.Drain = time.Millisecond
	r := w.replicaOver(stalled{tabletest.New(), nil})
	for i := range 50 {
		r.Record(failed("sub", i))
	}
	r.stop()
	if n := testutil.ToFloat64(r.m.refused); n != 50 {
		t.Errorf("%v of 50 are counted as not written", n)
	}
	if bytes := r.queue.bytes.Load(); bytes != 0 {
		t.Errorf("%d bytes are left", bytes)
	}
}

func TestRecordDoesNotBlockOnAStalledRedisAndIsBounded(t *testing.T) {
	w := inMemory(t)
	w.cfg = Config{PerSecond: 1 << 30, MaxReferences: 100, MaxCounts: 30, Timeout: 10 * time.Millisecond, Drain: 20 * time.Millisecond}
	r := w.replica(mute{})
	for i := range 500 {
		r.Record(failed(fmt.Sprint("sub ", i%50), i))
	}
	r.settle()
	if n := testutil.ToFloat64(r.m.kept); n != 500 {
		t.Errorf("the log has %v of 500", n)
	}
	if n := len(r.references.first()); n != 100 {
		t.Errorf("%d references wait, of 100 that may", n)
	}
	if n := testutil.ToFloat64(r.m.unreferred); n != 400 {
		t.Errorf("%v references are counted as dropped", n)
	}
	if n := r.counted.Load(); n != 30 {
		t.Errorf("%d minutes are counted, of 30 that may", n)
	}
	if n := testutil.ToFloat64(r.m.uncounted); n != 200 {
		t.Errorf("%v attempts are counted as not counted", n)
	}
}

func TestAnAttemptThatTheLogDoesNotTakeHoldsNoOtherUp(t *testing.T) {
	w := inMemory(t)
	r := w.replicaOver(picky{tabletest.New()})
	for n := range 10 {
		r.Record(failed("sub", n))
	}
	r.settle()
	if got := r.all(Query{}); len(got) != 9 || testutil.ToFloat64(r.m.refused) != 1 {
		t.Errorf("kept %v, refused %v", events(got), testutil.ToFloat64(r.m.refused))
	}
}

// picky takes no record that is of event 4.
type picky struct{ *tabletest.Log }

func (p picky) Append(ctx context.Context, topic string, msgs []broker.Message) []broker.Ack {
	acks := make([]broker.Ack, len(msgs))
	for i := range msgs {
		var a Attempt
		if a.UnmarshalJSON(msgs[i].Value) == nil && a.EventID == "event 4" {
			acks[i].Err = broker.ErrTooLarge
			continue
		}
		acks[i] = p.Log.Append(ctx, topic, msgs[i:i+1])[0]
	}
	return acks
}

func TestRecordHoldsNothingOfItsCaller(t *testing.T) {
	w := inMemory(t)
	r := w.replica()
	a := failed("sub", 1)
	r.Record(a)
	a.Offsets[0], a.Answer[0], a.EventID = 99, 'X', "another"
	r.settle()
	if got := r.all(Query{}); len(got) != 1 || got[0].Offsets[0] != 1 || string(got[0].Answer) != "out of order" || got[0].EventID != "event 1" {
		t.Errorf("got %+v", got)
	}
}

func TestWhatManyRecordAtOnceIsAllAccountedFor(t *testing.T) {
	onEach(t, func(w *world) {
		t := w.t
		w.cfg.PerSecond, w.cfg.QueueBytes = 50, 256<<10
		r := w.replica()
		since := time.Now()
		const callers, each = 8, 500
		var recording sync.WaitGroup
		for i := range callers {
			recording.Go(func() {
				for n := range each {
					a := failed(fmt.Sprint("sub ", n%20), i*each+n)
					if n%2 == 0 {
						a.Outcome, a.Status, a.Number = Delivered, 200, 2
					}
					r.Record(a)
				}
			})
		}
		recording.Wait()
		r.settle()
		kept, overflow, rate := testutil.ToFloat64(r.m.kept), testutil.ToFloat64(r.m.overflow), testutil.ToFloat64(r.m.rate)
		if kept+overflow+rate != callers*each || rate == 0 {
			t.Errorf("%v are kept, %v and %v dropped, of %d", kept, overflow, rate, callers*each)
		}
		var shown int
		var delivered, failing int64
		for n := range 20 {
			id := fmt.Sprint("sub ", n)
			for q := (Query{Limit: MaxPage}); ; {
				items, next, err := r.Page(t.Context(), id, q)
				if err != nil {
					t.Fatal(err)
				}
				if shown += len(items); next == "" {
					break
				}
				q.Before = next
			}
			points, err := r.Series(t.Context(), id, since, time.Minute)
			if err != nil {
				t.Fatal(err)
			}
			for _, p := range points {
				delivered, failing = delivered+p.Delivered, failing+p.Failed
			}
		}
		if float64(shown) != kept {
			t.Errorf("%d are shown of %v that are kept", shown, kept)
		}
		if delivered != callers*each/2 || failing != callers*each/2 {
			t.Errorf("%d and %d are counted, of %d each", delivered, failing, callers*each/2)
		}
	})
}

func BenchmarkRecord(b *testing.B) {
	for _, bm := range []struct {
		name          string
		subscriptions int
		outcome       Outcome
	}{{"success", 1000, Delivered}, {"failure", 1000, Failed}} {
		b.Run(bm.name, func(b *testing.B) {
			w := inMemory(b)
			w.cfg.PerSecond = 1 << 30
			r := w.replicaOver(stalled{tabletest.New(), nil})
			r.cfg.Drain = time.Millisecond
			all := make([]*Attempt, bm.subscriptions)
			for i := range all {
				all[i] = failed(fmt.Sprint("subscription ", i), i)
				all[i].Outcome = bm.outcome
			}
			r.queue.most = 1 << 40 // what is dropped costs less
			b.ReportAllocs()
			b.ResetTimer()
			i := 0
			for b.Loop() {
				r.Record(all[i%len(all)])
				i++
			}
		})
	}
}

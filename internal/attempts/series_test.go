package attempts

import (
	"context"
	"math"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"
)

func TestSeriesJoinsTheCountsOfAllReplicasOnce(t *testing.T) {
	onEach(t, func(w *world) {
		t := w.t
		a, b := w.replica(), w.replica()
		since := time.Now()
		record := func(r *replica, o Outcome, n int) {
			for range n {
				x := failed("sub", 1)
				x.Outcome = o
				r.Record(x)
			}
		}
		record(a, Delivered, 300)
		record(b, Delivered, 200)
		a.settle()
		record(a, Failed, 10)
		record(b, Refused, 4)
		record(b, Gone, 1)
		record(b, Cut, 50)
		record(b, Lost, 50)
		a.settle()
		a.settle()
		b.settle()
		points, err := b.Series(t.Context(), "sub", since, time.Minute)
		if err != nil || len(points) < 1 || len(points) > 2 {
			t.Fatalf("%d points, %v", len(points), err)
		}
		var sum Point
		for i, p := range points {
			if want := since.Truncate(time.Minute).Add(time.Duration(i) * time.Minute); !p.At.Equal(want) {
				t.Errorf("point %d is at %v, want %v", i, p.At, want)
			}
			sum.Delivered, sum.Refused, sum.Failed = sum.Delivered+p.Delivered, sum.Refused+p.Refused, sum.Failed+p.Failed
		}
		if want := (Point{Delivered: 500, Refused: 5, Failed: 10}); !cmp.Equal(sum, want) {
			t.Errorf("got %+v, want %+v", sum, want)
		}
		whole, err := a.Series(t.Context(), "sub", since.Add(-100*time.Hour), time.Hour)
		if err != nil || len(whole) != 25 {
			t.Fatalf("of a whole day %d points, %v", len(whole), err)
		}
		if got := whole[23].Delivered + whole[24].Delivered; got != 500 {
			t.Errorf("%d in the last hours", got)
		}
		if none, err := a.Series(t.Context(), "another", since, time.Minute); err != nil || none[0].Delivered != 0 {
			t.Errorf("of another subscription: %+v, %v", none, err)
		}
		if future, err := a.Series(t.Context(), "sub", since.Add(time.Hour), time.Minute); err != nil || len(future) != 0 {
			t.Errorf("of the future: %+v, %v", future, err)
		}
	})
}

// meanwhile has something happen while Redis is written to.
type meanwhile struct{ do func() }

func (*meanwhile) DialHook(next redis.DialHook) redis.DialHook          { return next }
func (*meanwhile) ProcessHook(next redis.ProcessHook) redis.ProcessHook { return next }
func (m *meanwhile) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		m.do()
		return next(ctx, cmds)
	}
}

func TestWhatIsCountedWhileCountsAreWrittenIsWrittenNext(t *testing.T) {
	w := inMemory(t)
	hook := &meanwhile{do: func() {}}
	r := w.replica(hook)
	r.stop()
	since := time.Now()
	count := func() {
		s := &r.shards[0]
		s.mu.Lock()
		defer s.mu.Unlock()
		r.count(s, failed("sub", 1), since)
	}
	count()
	hook.do = sync.OnceFunc(count)
	if err := r.flush(t.Context(), since); err != nil {
		t.Fatal(err)
	}
	hook.do = func() {}
	if err := r.flush(t.Context(), since); err != nil {
		t.Fatal(err)
	}
	points, err := r.Series(t.Context(), "sub", since, time.Minute)
	if err != nil || points[0].Failed != 2 {
		t.Errorf("got %+v, %v; want 2", points, err)
	}
}

func TestMinutesThatAreOverAreForgottenWhenTheyAreWritten(t *testing.T) {
	w := inMemory(t)
	r := w.replica()
	r.stop()
	now := time.Now()
	for i := range 3 {
		s := &r.shards[0]
		s.mu.Lock()
		r.count(s, failed("sub", 1), now.Add(time.Duration(i-2)*time.Minute))
		s.mu.Unlock()
	}
	if n := r.counted.Load(); n != 3 {
		t.Fatalf("%d minutes", n)
	}
	if err := r.flush(t.Context(), now); err != nil {
		t.Fatal(err)
	}
	if n := r.counted.Load(); n != 1 || len(r.shards[0].tallies) != 1 {
		t.Errorf("%d minutes are held, want the present one", n)
	}
	points, err := r.Series(t.Context(), "sub", now.Add(-2*time.Minute), time.Minute)
	if err != nil || len(points) < 3 || points[0].Failed != 1 || points[1].Failed != 1 || points[2].Failed != 1 {
		t.Errorf("got %+v, %v", points, err)
	}
}

func TestPercentilesAreWithinAFifth(t *testing.T) {
	var c counts
	for i := range 1000 { // 1 ms, 2 ms, … 1 s
		c.add(&Attempt{Outcome: Delivered, Status: 200, Took: time.Duration(i+1) * time.Millisecond})
	}
	c.add(&Attempt{Outcome: Failed, Took: time.Hour}) // nothing answered
	for _, tt := range []struct {
		share float64
		want  time.Duration
	}{{0.5, 500 * time.Millisecond}, {0.95, 950 * time.Millisecond}, {0.99, 990 * time.Millisecond}} {
		got := c.within(tt.share)
		if ratio := float64(got) / float64(tt.want); math.Abs(ratio-1) > 0.2 {
			t.Errorf("%v: got %v, want %v", tt.share, got, tt.want)
		}
	}
	if got := (&counts{}).within(0.5); got != 0 {
		t.Errorf("of nothing: %v", got)
	}
}

func TestBucketsHaveTheirLatencies(t *testing.T) {
	for i := range buckets - 1 {
		end := bucketEnd(i)
		if got := bucketOf(end); got != i {
			t.Errorf("%v falls into bucket %d, want %d", end, got, i)
		}
		if got := bucketOf(end + end/100); got != i+1 {
			t.Errorf("just above %v falls into bucket %d, want %d", end, got, i+1)
		}
	}
	if bucketOf(0) != 0 || bucketOf(time.Hour) != buckets-1 {
		t.Errorf("nothing falls into %d, an hour into %d", bucketOf(0), bucketOf(time.Hour))
	}
}

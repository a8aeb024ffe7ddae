package attempts

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/redis/go-redis/v9"

	"github.com/eventissuer/eventissuer/broker"
	"github.com/eventissuer/eventissuer/internal/table/tabletest"
)

func TestPageHasTheAttemptsAsTheyWereRecordedNewestFirst(t *testing.T) {
	onEach(t, func(w *world) {
		t := w.t
		r := w.replica()
		var want []Attempt
		for n := range 5 {
			a := failed("sub", n)
			r.Record(a)
			r.Record(failed("another", n))
			want = append(want, *a)
		}
		r.settle()
		slices.Reverse(want)
		got := w.replica().all(Query{})
		if diff := cmp.Diff(want, got, cmpopts.IgnoreFields(Attempt{}, "ID")); diff != "" {
			t.Errorf("(-want +got)\n%s", diff)
		}
		ids := []string{got[3].ID, got[0].ID, got[3].ID}
		found, err := r.Find(t.Context(), "sub", ids)
		if diff := cmp.Diff([]Attempt{got[3], got[0], got[3]}, found); diff != "" || err != nil {
			t.Errorf("%v (-want +got)\n%s", err, diff)
		}
		if found, err := r.Find(t.Context(), "another", ids); len(found) != 0 || err != nil {
			t.Errorf("another subscription finds %v, %v", found, err)
		}
		if _, err := r.Find(t.Context(), "sub", []string{"made up"}); !errors.Is(err, ErrID) {
			t.Errorf("an id that is none: %v", err)
		}
		if _, _, err := r.Page(t.Context(), "sub", Query{Before: "made up"}); !errors.Is(err, ErrID) {
			t.Errorf("a page before no id: %v", err)
		}
		if items, next, err := r.Page(t.Context(), "unknown", Query{}); len(items) != 0 || next != "" || err != nil {
			t.Errorf("of a subscription without attempts: %v, %q, %v", items, next, err)
		}
	})
}

func TestPagesKeepToTheQuery(t *testing.T) {
	onEach(t, func(w *world) {
		t := w.t
		r := w.replica()
		for n := range 300 {
			a := failed("sub", n)
			a.EventID = fmt.Sprint("event ", n%100)
			switch n % 3 {
			case 1:
				a.Outcome = Refused
			case 2:
				a.Outcome, a.Number = Delivered, 2
			}
			r.Record(a)
			if n%80 == 79 {
				pass(r)
			}
		}
		r.settle()
		at := func(n int) time.Time { return epoch.Add(time.Duration(n) * time.Second) }
		for _, tt := range []struct {
			name string
			q    Query
			want func(n int) bool
		}{
			{"everything", Query{}, func(int) bool { return true }},
			{"two outcomes", Query{Outcomes: []Outcome{Refused, Gone, Delivered}}, func(n int) bool { return n%3 > 0 }},
			{"one event", Query{Event: "event 42"}, func(n int) bool { return n%100 == 42 }},
			{"no such event", Query{Event: "event 420"}, func(int) bool { return false }},
			{"since", Query{Since: at(250)}, func(n int) bool { return n >= 250 }},
			{"between milliseconds", Query{Since: at(10).Add(1), Until: at(20).Add(1)}, func(n int) bool { return n > 10 && n <= 20 }},
			{"until, and an outcome", Query{Until: at(9), Outcomes: []Outcome{Failed}}, func(n int) bool { return n < 9 && n%3 == 0 }},
		} {
			var want []time.Time
			for n := 299; n >= 0; n-- {
				if tt.want(n) {
					want = append(want, at(n))
				}
			}
			for _, limit := range []int{0, 1, 7, 1000} {
				if limit == 1 && len(want) > 20 {
					continue
				}
				tt.q.Limit = limit
				var got []time.Time
				for _, a := range r.all(tt.q) {
					got = append(got, a.At)
				}
				if diff := cmp.Diff(want, got); diff != "" {
					t.Errorf("%s, by %d (-want +got)\n%s", tt.name, limit, diff)
				}
			}
		}
	})
}

// pass has a replica's next second begin, as far as its samples are concerned.
func pass(r *replica) {
	for i := range r.shards {
		s := &r.shards[i]
		s.mu.Lock()
		s.sampler.second = 0
		s.mu.Unlock()
	}
}

func TestPagesLeaveOutWhatRetentionHasDeleted(t *testing.T) {
	onEach(t, func(w *world) {
		t := w.t
		w.cfg.Partitions = 1
		r := w.replica()
		for n := range 60 {
			r.Record(failed("sub", n))
		}
		r.settle()
		first := r.all(Query{Limit: 200})
		topic := r.cfg.Topic
		if err := w.log.(broker.Offsets).Truncate(t.Context(), topic, 0, 40); err != nil {
			t.Fatal(err)
		}
		if got := r.all(Query{Limit: 8}); !cmp.Equal(first[:20], got) {
			t.Errorf("after 40 of 60 were deleted: %v", events(got))
		}
		items, next, err := r.Page(t.Context(), "sub", Query{Limit: 20})
		if len(items) != 20 || next != "" || err != nil {
			t.Errorf("a page that what is left just fills: %d items, next %q, %v", len(items), next, err)
		}
		if items, next, err := r.Page(t.Context(), "sub", Query{Before: first[30].ID}); len(items) != 0 || next != "" || err != nil {
			t.Errorf("a page of what is deleted: %v, %q, %v", events(items), next, err)
		}
		if found, err := r.Find(t.Context(), "sub", []string{first[0].ID, first[50].ID}); err != nil || !cmp.Equal(found, first[:1]) {
			t.Errorf("found %v, %v", events(found), err)
		}
	})
}

func TestATopicThatWasMadeAgainShowsNothingInAnAttemptsPlace(t *testing.T) {
	w := inMemory(t)
	w.cfg.Partitions = 1
	r := w.replica()
	for n := range 10 {
		r.Record(failed("sub", n))
	}
	r.settle()
	if err := w.log.Delete(t.Context(), r.cfg.Topic); err != nil {
		t.Fatal(err)
	}
	if got := r.all(Query{}); len(got) != 0 {
		t.Errorf("without a topic: %v", events(got))
	}
	for n := range 5 {
		r.Record(failed("another", n))
		r.Record(failed("sub", 100+n))
	}
	r.settle()
	if got, want := events(r.all(Query{})), []string{"event 104", "event 103", "event 102", "event 101", "event 100"}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestAReadersPagesAreWholeWhileReplicasWrite(t *testing.T) {
	onEach(t, func(w *world) {
		t := w.t
		w.cfg.PerSecond = 10_000
		first := w.replica()
		for n := range 100 {
			first.Record(failed("sub", n))
		}
		first.settle()
		ctx, cancel := context.WithCancel(t.Context())
		var writing sync.WaitGroup
		for i := range 3 {
			r := w.replica()
			writing.Go(func() {
				for n := 0; n < 200 && ctx.Err() == nil; n++ {
					a := failed("sub", 1000+n)
					a.EventID = fmt.Sprint("of ", i, " ", n)
					r.Record(a)
					if n%40 == 0 {
						r.settle()
					}
				}
				r.settle()
			})
		}
		for range 3 {
			got := first.all(Query{Limit: 30})
			if !slices.IsSortedFunc(got, func(a, b Attempt) int { return b.At.Compare(a.At) }) {
				t.Error("pages are not in the order of time")
			}
			seen := map[string]bool{}
			for _, a := range got {
				if seen[a.ID] {
					t.Errorf("%s is there twice", a.EventID)
				}
				seen[a.ID] = true
			}
			if n := len(got); n < 100 || got[n-1].EventID != "event 0" || got[n-100].EventID != "event 99" {
				t.Errorf("what was there before is not there as it was, in %d attempts", n)
			}
		}
		writing.Wait()
		cancel()
		if got := first.all(Query{Limit: 200}); len(got) != 700 {
			t.Errorf("%d of 700 attempts in the end", len(got))
		}
	})
}

func TestAnAppendInDoubtIsShownOnce(t *testing.T) {
	w := inMemory(t)
	view := w.log.(*tabletest.Log).View(1, tabletest.Faults{Lose: .1, Mute: .2, Twice: .2, Late: .1, Delay: time.Millisecond})
	w.cfg.Drain = time.Minute
	w.cfg.PerSecond = 1000
	r := w.replicaOver(view)
	for n := range 200 {
		r.Record(failed("sub", n))
	}
	r.settle()
	got := events(r.all(Query{Limit: 200}))
	var want []string
	for n := 199; n >= 0; n-- {
		want = append(want, fmt.Sprint("event ", n))
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

// unheard gives Redis references, and loses some of the answers.
type unheard struct {
	mu   sync.Mutex
	lose int // so many times
}

func (*unheard) DialHook(next redis.DialHook) redis.DialHook          { return next }
func (*unheard) ProcessHook(next redis.ProcessHook) redis.ProcessHook { return next }
func (u *unheard) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		err := next(ctx, cmds)
		u.mu.Lock()
		defer u.mu.Unlock()
		if u.lose > 0 && cmds[0].Name() == "lpush" {
			u.lose--
			return errors.Join(err, errors.New("the answer is lost"))
		}
		return err
	}
}

func TestAWriteToRedisThatWasNotAnsweredShowsNothingTwice(t *testing.T) {
	w := inMemory(t)
	lossy := &unheard{lose: 1}
	r := w.replica(lossy)
	r.Record(failed("sub", 1))
	r.stop() // the answer is lost at the latest now
	lossy.mu.Lock()
	lost := lossy.lose == 0
	lossy.mu.Unlock()
	if !lost {
		t.Fatal("nothing was lost")
	}
	r.start()
	r.settle()
	r.Record(failed("sub", 2))
	r.settle()
	if got := events(r.all(Query{})); !slices.Equal(got, []string{"event 2", "event 1"}) {
		t.Errorf("got %v", got)
	}
}

func TestWithoutRedisPagesSaySoAndAttemptsComeLater(t *testing.T) {
	mini := miniredis.RunT(t)
	w := &world{t: t, log: tabletest.New(), redis: &redis.Options{Addr: mini.Addr()}}
	r := w.replica()
	r.Record(failed("sub", 1))
	r.settle()
	mini.SetError("LOADING Redis is loading the dataset in memory")
	r.Record(failed("sub", 2))
	r.settle()
	if _, _, err := r.Page(t.Context(), "sub", Query{}); !errors.Is(err, ErrUnavailable) {
		t.Errorf("a page without Redis: %v", err)
	}
	if _, err := r.Series(t.Context(), "sub", time.Now(), time.Minute); !errors.Is(err, ErrUnavailable) {
		t.Errorf("counts without Redis: %v", err)
	}
	if err := r.Forget(t.Context(), "sub"); !errors.Is(err, ErrUnavailable) {
		t.Errorf("forgetting without Redis: %v", err)
	}
	mini.SetError("")
	r.settle()
	if got := events(r.all(Query{})); !slices.Equal(got, []string{"event 2", "event 1"}) {
		t.Errorf("once Redis is back: %v", got)
	}
}

func TestReferencesAreBoundedAndGoWithTime(t *testing.T) {
	mini := miniredis.RunT(t)
	w := &world{t: t, log: tabletest.New(), redis: &redis.Options{Addr: mini.Addr()}, cfg: Config{References: 10}}
	r := w.replica()
	for n := range 30 {
		r.Record(failed("sub", n))
	}
	r.settle()
	if got := r.all(Query{}); len(got) != 10 || got[0].EventID != "event 29" || got[9].EventID != "event 20" {
		t.Errorf("got %v", events(got))
	}
	for _, key := range mini.Keys() {
		if ttl := mini.TTL(key); ttl <= 0 || ttl > 8*24*time.Hour {
			t.Errorf("%q stays for %v", key, ttl)
		}
	}
	if err := r.Forget(t.Context(), "sub"); err != nil {
		t.Fatal(err)
	}
	if keys := mini.Keys(); len(keys) != 0 {
		t.Errorf("what is forgotten has left %q", keys)
	}
	if got := r.all(Query{}); len(got) != 0 {
		t.Errorf("what is forgotten is shown: %v", events(got))
	}
}

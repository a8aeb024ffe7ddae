package cursor

import (
	"context"
	"errors"
	"net"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/google/go-cmp/cmp"

	"github.com/eventissuer/eventissuer/broker"
	"github.com/eventissuer/eventissuer/internal/table/tabletest"
	"github.com/eventissuer/eventissuer/internal/testenv"
)

// fleet runs replicas on one log without faults, and one Redis.
func fleet(t *testing.T, n int, test func(t *testing.T, r []*process, m *miniredis.Miniredis)) {
	t.Helper()
	m := miniredis.RunT(t)
	synctest.Test(t, func(t *testing.T) {
		log := tabletest.New()
		var replicas []*process
		for i := range n {
			r := start(t, log.View(uint64(i), tabletest.Faults{}), m.Addr())
			defer r.stop()
			r.loaded(t)
			replicas = append(replicas, r)
		}
		test(t, replicas, m)
	})
}

func request(change ...func(*OpenRequest)) OpenRequest {
	r := OpenRequest{Name: reader, Epoch: streamEpoch, Partitions: partitions, From: at(10, 20)}
	for _, c := range change {
		c(&r)
	}
	return r
}

func at(next ...int64) func(context.Context) ([]int64, error) {
	return func(context.Context) ([]int64, error) { return slices.Clone(next), nil }
}

func presents(h *Held, next ...int64) func(*OpenRequest) {
	return func(r *OpenRequest) { r.Presented = &StreamCursor{Epoch: streamEpoch, Next: next, Lease: h.Lease()} }
}

// confirm is a word of the session's own client.
func confirm(h *Held, next ...int64) {
	h.Confirm(StreamCursor{Epoch: streamEpoch, Next: next, Cut: h.Cut()}, partitions)
}

func open(t *testing.T, p *process, change ...func(*OpenRequest)) *Held {
	t.Helper()
	h, err := p.Open(t.Context(), request(change...))
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// stands waits until a replica has all that was written, and checks where the consumer stands.
func stands(t *testing.T, p *process, lease uint64, next ...int64) {
	t.Helper()
	id, _ := reader.id()
	if err := p.table.Sync(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	s, err := p.Get(t.Context(), reader)
	if err != nil {
		t.Fatal(err)
	}
	if s.Lease.Number != lease || !slices.Equal(s.Next, next) {
		t.Fatalf("lease %d at %v, want lease %d at %v", s.Lease.Number, s.Next, lease, next)
	}
}

func isClosed(h *Held) bool {
	select {
	case <-h.Lost():
		return true
	default:
		return false
	}
}

func TestAConsumerIsCreatedWhereFromSays(t *testing.T) {
	fleet(t, 2, func(t *testing.T, r []*process, _ *miniredis.Miniredis) {
		h := open(t, r[0])
		if h.Lease().Number != 1 || !slices.Equal(h.Start(), []int64{10, 20}) || len(h.Gap()) != 0 {
			t.Fatalf("lease %v start %v gap %v", h.Lease(), h.Start(), h.Gap())
		}
		stands(t, r[1], 1, 10, 20) // before a first event could have been sent
	})
}

func TestAnExistingConsumerIsNeverSentToLatest(t *testing.T) {
	fleet(t, 2, func(t *testing.T, r []*process, _ *miniredis.Miniredis) {
		r[1].log.Set(tabletest.Faults{Delay: time.Second}) // its view lags: it has not heard of the consumer
		open(t, r[0])
		h := open(t, r[1], func(q *OpenRequest) { q.From = at(99, 99) })
		if h.Lease().Number != 2 || !slices.Equal(h.Start(), []int64{10, 20}) {
			t.Fatalf("lease %v began at %v", h.Lease(), h.Start())
		}
	})
}

func TestATakeOverEndsTheEarlierSessionEverywhere(t *testing.T) {
	fleet(t, 2, func(t *testing.T, r []*process, _ *miniredis.Miniredis) {
		first := open(t, r[0])
		second := open(t, r[1])
		synctest.Wait()
		if !isClosed(first) || !errors.Is(first.Reason(), ErrSuperseded) || !errors.Is(first.Reason(), ErrLost) {
			t.Fatalf("the first session goes on (%v)", first.Reason())
		}
		confirm(first, 50, 50)
		if err := first.Save(t.Context()); !errors.Is(err, ErrLost) {
			t.Fatalf("a late save gave %v", err)
		}
		if isClosed(second) {
			t.Fatalf("the second session was closed: %v", second.Reason())
		}
		stands(t, r[0], 2, 10, 20)
	})
}

func TestATakeOverBeginsAtTheNewestOfPositionHintAndCursor(t *testing.T) {
	for name, tc := range map[string]struct {
		save, hint []int64
		present    []int64
		want       []int64 // the position taken over
		begin      []int64
	}{
		"saved":            {save: []int64{30, 20}, want: []int64{30, 20}, begin: []int64{30, 20}},
		"hint":             {save: []int64{30, 20}, hint: []int64{40, 25}, want: []int64{40, 25}, begin: []int64{40, 25}},
		"cursor is newest": {hint: []int64{40, 20}, present: []int64{41, 30}, want: []int64{41, 30}, begin: []int64{41, 30}},
		"cursor is older":  {save: []int64{40, 40}, present: []int64{15, 20}, want: []int64{40, 40}, begin: []int64{15, 20}},
	} {
		t.Run(name, func(t *testing.T) {
			fleet(t, 2, func(t *testing.T, r []*process, _ *miniredis.Miniredis) {
				h := open(t, r[0])
				if tc.save != nil {
					confirm(h, tc.save...)
					if err := h.Save(t.Context()); err != nil {
						t.Fatal(err)
					}
				}
				if tc.hint != nil {
					confirm(h, tc.hint...)
					time.Sleep(500 * time.Millisecond) // hinted, and not yet saved
				}
				var change []func(*OpenRequest)
				if tc.present != nil {
					change = append(change, presents(h, tc.present...))
				}
				next := open(t, r[1], change...)
				if diff := cmp.Diff(tc.begin, next.Start()); diff != "" {
					t.Errorf("began (-want +got)\n%s", diff)
				}
				stands(t, r[1], 2, tc.want...)
			})
		})
	}
}

func TestAnotherLeasesHintCountsAsNone(t *testing.T) {
	fleet(t, 1, func(t *testing.T, r []*process, m *miniredis.Miniredis) {
		h := open(t, r[0])
		id, _ := reader.id()
		for name, lease := range map[string]Lease{
			"later lease": {h.Lease().Incarnation, 2}, "another incarnation": {h.Lease().Incarnation + 1, 1},
		} {
			inc := h.seat.version().Incarnation
			if lease.Incarnation != h.Lease().Incarnation {
				inc[0]++
			}
			r[0].hints.write(t.Context(), []hinted{{id, hint{inc.String(), lease.Number, streamEpoch, place{next: []int64{500, 500}}}}})
			if !m.Exists("eventissuer:consumer:" + id) {
				t.Fatal("no hint: this tests nothing")
			}
			if next := open(t, r[0]); !slices.Equal(next.Start(), []int64{10, 20}) {
				t.Errorf("%s: began at %v", name, next.Start())
			}
			m.FlushAll()
			if err := r[0].Delete(t.Context(), reader); err != nil {
				t.Fatal(err)
			}
			h = open(t, r[0])
		}
	})
}

func TestAnOldNumberIsToldToStopUnlessItsAnswerMayBeLost(t *testing.T) {
	fleet(t, 1, func(t *testing.T, r []*process, _ *miniredis.Miniredis) {
		p := r[0]
		first := open(t, p)
		second := open(t, p, presents(first, 11, 20)) // lease 2, parent 1
		third := open(t, p, presents(first, 11, 20))  // the answer to the same request was lost: lease 3, parent 1
		if third.Lease().Number != 3 {
			t.Fatalf("lease %v", third.Lease())
		}
		if _, err := p.Open(t.Context(), request(presents(second, 12, 20))); !errors.Is(err, ErrSuperseded) {
			t.Fatalf("the number of a lost answer: %v", err)
		}
		open(t, p) // another tab, without a cursor: lease 4, no parent
		if _, err := p.Open(t.Context(), request(presents(third, 12, 20))); !errors.Is(err, ErrSuperseded) {
			t.Fatalf("two tabs evict each other: %v", err)
		}
	})
}

func TestAPollGoesOnUnderItsLeaseAtAnyReplica(t *testing.T) {
	fleet(t, 2, func(t *testing.T, r []*process, _ *miniredis.Miniredis) {
		poll := func(q *OpenRequest) { q.Poll = true }
		h := open(t, r[0], poll)
		for i := range 6 {
			if err := h.Close(t.Context()); err != nil {
				t.Fatal(err)
			}
			next := int64(11 + i)
			h = open(t, r[i%2], poll, presents(h, next, 20))
			if h.Lease().Number != 1 || !slices.Equal(h.Start(), []int64{next, 20}) {
				t.Fatalf("poll %d: lease %v start %v", i, h.Lease(), h.Start())
			}
		}
		if err := h.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		time.Sleep(5 * time.Second) // the timer saves what the polls presented
		stands(t, r[0], 1, 16, 20)
		stands(t, r[1], 1, 16, 20)
		for _, p := range r {
			p.mu.Lock()
			if len(p.seats)+len(p.dirty) != 0 {
				t.Errorf("%d seats stay behind, %d with something to save", len(p.seats), len(p.dirty))
			}
			p.mu.Unlock()
		}
	})
}

func TestFlushSavesWhatPollsLeft(t *testing.T) {
	fleet(t, 2, func(t *testing.T, r []*process, _ *miniredis.Miniredis) {
		poll := func(q *OpenRequest) { q.Poll = true }
		h := open(t, r[0], poll)
		h = open(t, r[0], poll, presents(h, 12, 20))
		if err := errors.Join(h.Close(t.Context()), r[0].Flush(t.Context())); err != nil {
			t.Fatal(err)
		}
		stands(t, r[1], 1, 12, 20)
	})
}

func TestConfirmedIsSavedInTimeAndAtAClose(t *testing.T) {
	fleet(t, 1, func(t *testing.T, r []*process, _ *miniredis.Miniredis) {
		h := open(t, r[0])
		confirm(h, 11, 21)
		synctest.Wait()
		stands(t, r[0], 1, 10, 20) // not at once
		time.Sleep(4 * time.Second)
		stands(t, r[0], 1, 11, 21)
		confirm(h, 12, 5, 9999) // lower, and beyond the stream's partitions: only what is higher counts
		if err := h.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		stands(t, r[0], 1, 12, 21)
	})
}

func TestNothingFailsWhileRedisIsAway(t *testing.T) {
	for name, addr := range map[string]string{"refused": "127.0.0.1:" + strconv.Itoa(testenv.FreePort(t)), "silent": silent(t), "none": ""} {
		t.Run(name, func(t *testing.T) {
			log := tabletest.New()
			p := start(t, log.View(1, tabletest.Faults{}), addr)
			defer p.stop()
			p.loaded(t)
			h := open(t, p)
			confirm(h, 30, 30)
			if err := h.Save(t.Context()); err != nil {
				t.Fatal(err)
			}
			began := time.Now()
			for range 50 {
				h = open(t, p)
			}
			if took := time.Since(began); took > 5*time.Second {
				t.Errorf("fifty take-overs took %v", took)
			}
			if !slices.Equal(h.Start(), []int64{30, 30}) {
				t.Errorf("began at %v", h.Start())
			}
		})
	}
}

// silent accepts connections and says nothing.
func silent(t *testing.T) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l.Addr().String()
}

func TestAResetMovesAnywhereAndEndsTheSession(t *testing.T) {
	fleet(t, 2, func(t *testing.T, r []*process, _ *miniredis.Miniredis) {
		h := open(t, r[0])
		confirm(h, 90, 90)
		time.Sleep(time.Second) // hinted: a reset does not care
		s, err := r[1].Put(t.Context(), PutRequest{
			Name: reader, Epoch: streamEpoch, Partitions: partitions, Reset: true, Cursor: StreamCursor{Epoch: streamEpoch, Next: []int64{3, 4}},
		})
		if err != nil || s.Lease.Number != 2 {
			t.Fatalf("%+v %v", s, err)
		}
		synctest.Wait()
		if !isClosed(h) || !errors.Is(h.Reason(), ErrReset) {
			t.Fatalf("reason %v", h.Reason())
		}
		if next := open(t, r[1]); !slices.Equal(next.Start(), []int64{3, 4}) {
			t.Fatalf("began at %v", next.Start())
		}
	})
}

func TestAPutSavesUnderTheLeaseOfItsCursor(t *testing.T) {
	put := func(l Lease, next ...int64) PutRequest {
		return PutRequest{Name: reader, Epoch: streamEpoch, Partitions: partitions, Cursor: StreamCursor{Epoch: streamEpoch, Next: next, Lease: l}}
	}
	fleet(t, 2, func(t *testing.T, r []*process, _ *miniredis.Miniredis) {
		ctx := t.Context()
		h := open(t, r[0])
		for i, p := range r { // where the session is, and elsewhere
			if _, err := p.Put(ctx, put(h.Lease(), int64(30+i), 1)); err != nil {
				t.Fatal(err)
			}
		}
		stands(t, r[0], 1, 31, 20)
		if isClosed(h) {
			t.Fatalf("the session was closed by its own client's word: %v", h.Reason())
		}
		confirm(h, 32, 22)
		if err := h.Save(ctx); err != nil { // over the other replica's version
			t.Fatal(err)
		}
		stands(t, r[1], 1, 32, 22)
		if s, err := r[1].Put(ctx, put(Lease{}, 40, 1)); err != nil || s.Lease.Number != 2 || !slices.Equal(s.Next, []int64{40, 22}) {
			t.Fatalf("without a number: %+v %v", s, err)
		}
		if _, err := r[1].Put(ctx, put(h.Lease(), 50, 50)); !errors.Is(err, ErrSuperseded) {
			t.Fatalf("with an old number: %v", err)
		}
		open(t, r[0], presents(h, 33, 20)) // the reader comes back: 3, parent 1
		stands(t, r[0], 3, 40, 22)
	})
}

func TestADeletedConsumerIsGoneForItsSession(t *testing.T) {
	fleet(t, 2, func(t *testing.T, r []*process, m *miniredis.Miniredis) {
		h := open(t, r[0])
		confirm(h, 90, 90)
		time.Sleep(time.Second)
		if err := r[1].Delete(t.Context(), reader); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if !isClosed(h) || !errors.Is(h.Reason(), ErrDeleted) {
			t.Fatalf("reason %v", h.Reason())
		}
		if len(m.Keys()) != 0 {
			t.Errorf("hints stay: %v", m.Keys())
		}
		for _, p := range r {
			if _, err := p.Get(t.Context(), reader); !errors.Is(err, ErrNotFound) {
				t.Errorf("got %v", err)
			}
		}
		if err := r[0].Delete(t.Context(), reader); !errors.Is(err, ErrNotFound) {
			t.Errorf("deleting twice: %v", err)
		}
		again := open(t, r[1], presents(h, 60, 60)) // its number is of another incarnation: none, but it says where to read
		if again.Lease().Number != 1 || again.Lease().Incarnation == h.Lease().Incarnation || !slices.Equal(again.Start(), []int64{60, 60}) {
			t.Fatalf("lease %v start %v", again.Lease(), again.Start())
		}
	})
}

func TestARemadeStreamIsToldAsAGap(t *testing.T) {
	fleet(t, 1, func(t *testing.T, r []*process, _ *miniredis.Miniredis) {
		h := open(t, r[0])
		confirm(h, 30, 30)
		remade := func(q *OpenRequest) { q.Epoch = streamEpoch + 1 }
		want := []broker.Gap{{Partition: 0, From: 30, Reason: broker.GapRecreated}, {Partition: 1, From: 30, Reason: broker.GapRecreated}}
		if err := h.Save(t.Context()); err != nil {
			t.Fatal(err)
		}
		next := open(t, r[0], remade)
		if diff := cmp.Diff(want, next.Gap()); diff != "" || !slices.Equal(next.Start(), []int64{0, 0}) {
			t.Fatalf("start %v\n%s", next.Start(), diff)
		}
		stands(t, r[0], 2)
		// And under a running session.
		next.Confirm(StreamCursor{Epoch: streamEpoch + 1, Next: []int64{5, 6}}, partitions)
		next.Recreated(streamEpoch+2, partitions)
		next.Confirm(StreamCursor{Epoch: streamEpoch + 2, Next: []int64{1, 2}}, partitions)
		if err := next.Save(t.Context()); err != nil {
			t.Fatal(err)
		}
		s, err := r[0].Get(t.Context(), reader)
		if err != nil || s.Epoch != streamEpoch+2 || !slices.Equal(s.Next, []int64{1, 2}) {
			t.Fatalf("%+v %v", s, err)
		}
	})
}

func TestASaveInDoubtEndsTheSession(t *testing.T) {
	fleet(t, 1, func(t *testing.T, r []*process, _ *miniredis.Miniredis) {
		h := open(t, r[0])
		r[0].log.Set(tabletest.Faults{Lose: 1})
		confirm(h, 30, 30)
		if err := h.Save(t.Context()); !errors.Is(err, ErrInDoubt) {
			t.Fatalf("answered %v", err)
		}
		if !isClosed(h) || !errors.Is(h.Reason(), ErrInDoubt) {
			t.Fatalf("reason %v", h.Reason())
		}
	})
}

func TestAConsumersNameIsChecked(t *testing.T) {
	fleet(t, 1, func(t *testing.T, r []*process, _ *miniredis.Miniredis) {
		for _, name := range []string{"", "/", "a b", "-a", strings.Repeat("a", 129), "å"} {
			q := request()
			q.Name.Consumer = name
			if _, err := r[0].Open(t.Context(), q); !errors.Is(err, ErrName) {
				t.Errorf("%q: %v", name, err)
			}
		}
	})
}

func TestThePaceHoldsTheFleetToItsLimit(t *testing.T) {
	p := newPace(10*time.Second, 2000)
	saves := make([]float64, 1200) // planned for each second
	phase := func(consumers float64, seconds int) (last float64) {
		// A consumer that always moves saves again as long after its last save as the pace says at that time.
		for range seconds {
			now := saves[0]
			copy(saves, saves[1:])
			saves[len(saves)-1] = 0
			saves[min(int(p.every().Seconds()), len(saves)-1)] += now
			p.seen.Store(int64(now))
			p.tick(time.Second)
			last += 0.02 * (now - last)
		}
		return last
	}
	const many = 100_000
	for i := range 10 { // they begin within ten seconds
		saves[i] = many / 10
	}
	if rate := phase(many, 1500); rate > 2600 || rate < 1200 {
		t.Errorf("%d consumers settle at %.0f saves a second, every %v", many, rate, p.every())
	}
	clear(saves)
	saves[0] = 100
	phase(100, 600)
	if p.every() != 10*time.Second {
		t.Errorf("with few consumers left it is still %v", p.every())
	}
}

package cursor

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/google/go-cmp/cmp"

	"github.com/eventissuer/eventissuer/broker"
)

// endsAt is a stream whose log ends there.
func endsAt(next ...int64) func(*OpenRequest) {
	return func(r *OpenRequest) { r.Latest, r.Ends = make([]int64, len(next)), at(next...) }
}

func truncated(partition int32, from, to int64) broker.Gap {
	return broker.Gap{Partition: partition, From: from, To: to, Reason: broker.GapTruncated}
}

func TestWhatIsConfirmedAfterTheLogLostItsEndIsWhereTheConsumerStands(t *testing.T) {
	fleet(t, 2, func(t *testing.T, r []*process, _ *miniredis.Miniredis) {
		h := open(t, r[0])
		confirm(h, 1000, 1000)
		time.Sleep(500 * time.Millisecond) // hinted: the hint is of before
		if err := h.Save(t.Context()); err != nil {
			t.Fatal(err)
		}
		before := StreamCursor{Epoch: streamEpoch, Next: []int64{1000, 1000}, Lease: h.Lease(), Cut: h.Cut()}
		h.Truncated(truncated(0, 1000, 500))
		h.Confirm(before, partitions) // on its way since before
		confirm(h, 510, 1000)
		if err := h.Save(t.Context()); err != nil {
			t.Fatal(err)
		}
		stands(t, r[1], 1, 510, 1000)
		again := open(t, r[1])
		if !slices.Equal(again.Start(), []int64{510, 1000}) || len(again.Gap()) != 0 {
			t.Fatalf("begins at %v with %v", again.Start(), again.Gap())
		}
		stands(t, r[0], 2, 510, 1000)
	})
}

func TestAPositionBeyondTheLogsEndSinksWhenItsNameIsOpened(t *testing.T) {
	for name, tc := range map[string]struct {
		present, begin []int64
		want           []int64
	}{
		"by name alone":              {nil, []int64{7, 20}, []int64{7, 20}},
		"with an older cursor":       {[]int64{5, 20}, []int64{5, 20}, []int64{5, 20}}, // what lies between was not confirmed
		"with the cursor from there": {[]int64{1000, 20}, []int64{7, 20}, []int64{7, 20}},
	} {
		t.Run(name, func(t *testing.T) {
			fleet(t, 2, func(t *testing.T, r []*process, _ *miniredis.Miniredis) {
				h := open(t, r[0])
				confirm(h, 1000, 20)
				if err := h.Close(t.Context()); err != nil {
					t.Fatal(err)
				}
				change := []func(*OpenRequest){endsAt(7, 900)}
				if tc.present != nil {
					change = append(change, presents(h, tc.present...))
				}
				next := open(t, r[1], change...)
				if !slices.Equal(next.Start(), tc.begin) || next.Cut() != 1 {
					t.Errorf("begins at %v under cut %d, want %v", next.Start(), next.Cut(), tc.begin)
				}
				if from := slices.Max(append([]int64{1000}, tc.present...)); tc.begin[0] == 7 {
					if diff := cmp.Diff([]broker.Gap{truncated(0, from, 7)}, next.Gap()); diff != "" {
						t.Error(diff)
					}
					// A client that is cut before it hears of the gap comes back with the place it came from.
					again := open(t, r[0], endsAt(2000, 2000), func(q *OpenRequest) { came := next.Came(); q.Presented = &came })
					if !slices.Equal(again.Start(), tc.begin) || len(again.Gap()) != 1 {
						t.Errorf("comes back to %v with %v", again.Start(), again.Gap())
					}
				}
				id, _ := reader.id()
				if err := r[1].table.Sync(t.Context(), id); err != nil {
					t.Fatal(err)
				}
				if s, err := r[1].Get(t.Context(), reader); err != nil || s.Cut != 1 || !slices.Equal(s.Next, tc.want) {
					t.Errorf("stands at %+v, want %v: %v", s, tc.want, err)
				}
			})
		})
	}
}

func TestAPollThatPresentsACursorFromBeforeALostEndIsToldAgain(t *testing.T) {
	fleet(t, 2, func(t *testing.T, r []*process, _ *miniredis.Miniredis) {
		poll := func(q *OpenRequest) { q.Poll = true }
		h := open(t, r[0], poll)
		was := presents(h, 1000, 20)
		h = open(t, r[0], poll, was, endsAt(3, 20)) // its answer is lost
		if !slices.Equal(h.Start(), []int64{3, 20}) || h.Cut() != 1 {
			t.Fatalf("begins at %v under cut %d", h.Start(), h.Cut())
		}
		if err := errors.Join(h.Close(t.Context()), r[0].Flush(t.Context())); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		// The log has grown past the cursor by now, so that nothing but the number tells that it is of before.
		again := open(t, r[1], poll, was, endsAt(5000, 20))
		if diff := cmp.Diff([]broker.Gap{truncated(0, 1000, 3)}, again.Gap()); diff != "" || !slices.Equal(again.Start(), []int64{3, 20}) {
			t.Fatalf("begins at %v\n%s", again.Start(), diff)
		}
	})
}

func TestAnEndLostElsewhereEndsTheSessionsOfTheLease(t *testing.T) {
	fleet(t, 2, func(t *testing.T, r []*process, _ *miniredis.Miniredis) {
		h := open(t, r[0])
		poll := open(t, r[1], func(q *OpenRequest) { q.Poll = true }, presents(h, 10, 20))
		poll.Truncated(truncated(0, 10, 3))
		if err := poll.Save(t.Context()); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if !isClosed(h) || !errors.Is(h.Reason(), ErrTruncated) {
			t.Fatalf("reason %v", h.Reason())
		}
		confirm(h, 11, 20)
		if err := h.Save(t.Context()); !errors.Is(err, ErrLost) {
			t.Fatalf("a word that was not heard was answered %v", err)
		}
	})
}

func TestABodyOfAnEarlierVersionIsRead(t *testing.T) {
	v, err := decodeVersion(newIncarnation(), []byte(`{"incarnation":"0190a3c4-0000-7000-8000-000000000000","lease":3,"pos":{"epoch":"000000000000004d","next":[5,6]},"reason":"saved"}`))
	if err != nil || v.Cut != 0 || v.Lease != 3 || !slices.Equal(v.in(77).next, []int64{5, 6}) {
		t.Fatalf("%+v %v", v, err)
	}
}

func TestAPartitionAddedUnderASessionIsConfirmedAndBegunAt(t *testing.T) {
	fleet(t, 2, func(t *testing.T, r []*process, _ *miniredis.Miniredis) {
		h := open(t, r[0])
		h.Confirm(StreamCursor{Epoch: streamEpoch, Next: []int64{100, 100, 77, 9}}, partitions+1)
		if err := h.Save(t.Context()); err != nil {
			t.Fatal(err)
		}
		stands(t, r[1], 1, 100, 100, 77)
		if again := open(t, r[1]); !slices.Equal(again.Start(), []int64{100, 100, 77}) { // which has not heard of the partition
			t.Fatalf("begins at %v", again.Start())
		}
	})
}

func TestAWordOfAnotherEpochMovesNothing(t *testing.T) {
	const remade = streamEpoch + 1
	fleet(t, 1, func(t *testing.T, r []*process, _ *miniredis.Miniredis) {
		h := open(t, r[0])
		put := PutRequest{Name: reader, Epoch: remade, Partitions: partitions, Cursor: StreamCursor{Epoch: remade, Next: []int64{0, 0}, Lease: h.Lease()}}
		if _, err := r[0].Put(t.Context(), put); err != nil {
			t.Fatal(err)
		}
		confirm(h, 5000, 6000) // the session's reader has not noticed yet
		if err := h.Save(t.Context()); err != nil {
			t.Fatal(err)
		}
		if s, err := r[0].Get(t.Context(), reader); err != nil || s.Epoch != remade || beyond(s.Next, nil) {
			t.Fatalf("stands at %+v: %v", s, err)
		}
	})
}

func TestASeatThatMeetsAnEpochItCannotPlaceIsGivenUp(t *testing.T) {
	fleet(t, 2, func(t *testing.T, r []*process, _ *miniredis.Miniredis) {
		h := open(t, r[0])
		h.Recreated(streamEpoch+2, partitions) // it never saw the life between
		late := open(t, r[1], func(q *OpenRequest) { q.Poll = true }, presents(h, 11, 20))
		late.Recreated(streamEpoch+1, partitions)
		if err := late.Save(t.Context()); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		h.Confirm(StreamCursor{Epoch: streamEpoch + 2, Next: []int64{1, 1}}, partitions)
		if err := h.Save(t.Context()); !errors.Is(err, ErrLost) || !errors.Is(err, ErrEpoch) {
			t.Fatalf("a word that was not heard was answered %v", err)
		}
	})
}

func TestAReplicaThatLagsDoesNotTakeTheConsumerBackToAnEarlierEpoch(t *testing.T) {
	const remade = streamEpoch + 1
	present := func(context.Context) (uint64, error) { return remade, nil }
	fleet(t, 2, func(t *testing.T, r []*process, _ *miniredis.Miniredis) {
		lagging := open(t, r[1], func(q *OpenRequest) { q.Poll = true }) // its seat is of the old epoch
		h := open(t, r[0], func(q *OpenRequest) { q.Epoch, q.Poll, q.Present = remade, true, present }, presents(lagging, 11, 20))
		h.Confirm(StreamCursor{Epoch: remade, Next: []int64{300, 300}}, partitions)
		if err := h.Save(t.Context()); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		confirm(lagging, 12, 20)
		if err := lagging.Save(t.Context()); err != nil {
			t.Fatal(err)
		}
		stands(t, r[1], 1, 300, 300)
		old := func(q *OpenRequest) { q.Present = present }
		if _, err := r[1].Open(t.Context(), request(old)); !errors.Is(err, ErrEpoch) {
			t.Fatalf("opened: %v", err)
		}
		if _, err := r[1].Put(t.Context(), PutRequest{Name: reader, Epoch: streamEpoch, Partitions: partitions, Present: present}); !errors.Is(err, ErrEpoch) {
			t.Fatalf("put: %v", err)
		}
		stands(t, r[0], 1, 300, 300)
	})
}

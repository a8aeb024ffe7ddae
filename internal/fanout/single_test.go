package fanout

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/eventissuer/eventissuer/broker"
	"github.com/eventissuer/eventissuer/internal/cursor"
	"github.com/eventissuer/eventissuer/internal/fanout/fanouttest"
	"github.com/eventissuer/eventissuer/internal/filter"
)

func TestAReaderOfOnePartitionSeesThatOneAlone(t *testing.T) {
	trains, err := filter.Compile(filter.Query{Subjects: []string{"/train/*"}})
	if err != nil {
		t.Fatal(err)
	}
	for seed := range uint64(60) {
		r := rand.New(rand.NewPCG(seed, 1))
		l := fanouttest.NewLog(3)
		var at [4][]string // ids by partition and offset; "" for a hole
		n := 0
		add := func(count, partitions int) {
			for range count {
				p := r.IntN(partitions)
				if r.IntN(12) == 0 {
					l.Hole(p, 1)
					at[p] = append(at[p], "")
					continue
				}
				l.Append(p, trainEvent(n))
				at[p] = append(at[p], fmt.Sprint(n))
				n++
			}
		}
		add(r.IntN(60), 3)
		h := open(t, start(t, Config{Log: l, RingBytes: int64(1000 + r.IntN(8000))}))
		add(r.IntN(60), 3)
		type one struct {
			p    int
			from int
			d    *driver
		}
		var readers []one
		for range 6 {
			p := r.IntN(3)
			from := r.IntN(len(at[p]) + 1)
			o := Options{Next: make([]int64, p+1), Epoch: cursor.EpochOf(l.Epoch), Single: true, Only: int32(p)}
			if o.Next[p] = int64(from); r.IntN(2) == 0 {
				o.Filter = trains
			}
			readers = append(readers, one{p, from, drive(t, h, o)})
		}
		add(r.IntN(100), 3)
		if r.IntN(2) == 0 {
			l.Grow(4)
			add(r.IntN(60), 4)
		}
		for _, x := range readers {
			var want []string
			for _, id := range at[x.p][x.from:] {
				if id != "" {
					want = append(want, id)
				}
			}
			got := x.d.until(count(len(want)))
			if diff := cmp.Diff(want, got); diff != "" {
				t.Fatalf("seed %d, partition %d from %d: %s", seed, x.p, x.from, diff)
			}
			ends, err := l.Bounds(t.Context(), "")
			if err != nil {
				t.Fatal(err)
			}
			if vec, _ := x.d.r.Position(); vec[x.p] > ends[x.p].Next {
				t.Fatalf("seed %d: stands at %d of partition %d, which ends at %d", seed, vec[x.p], x.p, ends[x.p].Next)
			}
		}
	}
}

func TestAReaderOfOnePartitionIsToldItsOwnGapsAlone(t *testing.T) {
	l := fanouttest.NewLog(2)
	for i := range 20 {
		l.Append(i%2, trainEvent(i))
	}
	h := open(t, start(t, Config{Log: l}))
	other := drive(t, h, Options{Next: []int64{10}, Epoch: cursor.EpochOf(l.Epoch), Single: true})
	mine := drive(t, h, Options{Next: []int64{0, 10}, Epoch: cursor.EpochOf(l.Epoch), Single: true, Only: 1})
	mine.until(func([]string) bool { return mine.r.live })
	l.Lose(1, 7)
	mine.until(func([]string) bool { return len(mine.gaps) > 0 })
	l.Append(0, trainEvent(100))
	l.Append(1, trainEvent(101))
	if diff := cmp.Diff([]string{"101"}, mine.until(count(1))); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]broker.Gap{{Partition: 1, From: 10, To: 7, Reason: broker.GapTruncated}}, mine.gaps); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"100"}, other.until(count(1))); diff != "" {
		t.Error(diff)
	}
	if len(other.gaps) > 0 {
		t.Errorf("the reader of another partition is told %v", other.gaps)
	}
}

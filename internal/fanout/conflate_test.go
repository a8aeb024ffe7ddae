package fanout

import (
	"fmt"
	"maps"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/eventissuer/eventissuer/broker"
	"github.com/eventissuer/eventissuer/internal/fanout/fanouttest"
)

// all takes what is due to a conflated reader: ids in the order in which they came.
func (c *Conflated) all(t *testing.T) (ids []string) {
	t.Helper()
	for {
		b, status := c.Take()
		if b != nil {
			for at := 0; ; {
				piece, _ := b.Next(&at)
				if piece == nil {
					break
				}
				for _, e := range piece.Entries {
					ids = append(ids, e.Event.ID())
				}
			}
			b.Release()
		}
		switch status {
		case More:
		case Idle:
			if c.Park() {
				c.Unpark()
				return ids
			}
		default:
			t.Fatalf("the reader is %v", status)
		}
	}
}

func TestAnIntervalGivesTheLatestOfEachKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := fanouttest.NewLog(1)
		h := open(t, start(t, Config{Log: l, Linger: 24 * time.Hour}))
		var woken atomic.Int32
		a := h.Conflated(Options{Notify: func() { woken.Add(1) }}, time.Second)
		defer a.Close()
		b := h.Conflated(Options{Filter: sql(t, "grade > 4")}, time.Second)
		defer b.Close()
		a.all(t)
		a.Park()
		for i := range 10 {
			put(l, 0, fmt.Sprint(i%3), i)
		}
		l.Append(0, trainEvent(10)) // which has no key
		l.Append(0, trainEvent(11))
		synctest.Wait()
		if woken.Load() > 0 {
			t.Error("the reader was woken before its interval was over")
		}
		time.Sleep(1100 * time.Millisecond)
		if n := woken.Load(); n != 1 {
			t.Errorf("the reader was woken %d times", n)
		}
		a.Unpark()
		if diff := cmp.Diff([]string{"7", "8", "9", "10", "11"}, a.all(t)); diff != "" {
			t.Errorf("(-want +got)\n%s", diff)
		}
		if diff := cmp.Diff([]string{"7", "8", "9"}, b.all(t)); diff != "" {
			t.Errorf("of grades above 4 (-want +got)\n%s", diff)
		}
		vec, _, _ := a.Position()
		if diff := cmp.Diff([]int64{12}, vec); diff != "" {
			t.Errorf("the position (-want +got)\n%s", diff)
		}
		put(l, 0, "0", 3) // which b does not want
		time.Sleep(1100 * time.Millisecond)
		if got := b.all(t); len(got) > 0 {
			t.Errorf("it was given %v", got)
		}
		if vec, _, _ := b.Position(); vec[0] != 13 {
			t.Errorf("a reader that wants nothing of what came stands at %v", vec)
		}
	})
}

// Those with equal filters and intervals are given the same piece; others have their moments apart from each other.
func TestConflatedReadersShareTheirPieces(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := fanouttest.NewLog(2)
		h := open(t, start(t, Config{Log: l, Linger: 24 * time.Hour}))
		var readers []*Conflated
		for range 100 {
			readers = append(readers, h.Conflated(Options{Filter: sql(t, "grade > 2")}, time.Second))
		}
		for i := range 50 {
			put(l, i%2, fmt.Sprint(i), i)
		}
		time.Sleep(2 * time.Second)
		pieces := map[*Piece]bool{}
		for _, c := range readers {
			b, _ := c.Take()
			piece, _ := b.Next(new(int))
			pieces[piece] = true
			c.Close()
		}
		if len(pieces) != 1 {
			t.Errorf("100 readers were given %d pieces", len(pieces))
		}
		if n := len(h.conflated.views); n > 0 {
			t.Errorf("%d views are kept without readers", n)
		}
		moments := map[time.Duration]bool{}
		for i := range 20 {
			c := h.Conflated(Options{Filter: sql(t, fmt.Sprintf("grade > %d", i))}, time.Minute)
			moments[c.cv.phase.Round(time.Second)] = true
			c.Close()
		}
		if len(moments) < 8 {
			t.Errorf("20 views share %d moments of a minute", len(moments))
		}
	})
}

// A reader that is slow is given what is the latest by then, whatever it missed, and every key once.
func TestASlowConflatedReaderIsGivenTheLatest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := fanouttest.NewLog(1)
		h := open(t, start(t, Config{Log: l, Linger: 24 * time.Hour}))
		c := h.Conflated(Options{}, 100*time.Millisecond)
		defer c.Close()
		want := map[string]int{}
		serial := 0
		for range 8 {
			for range 100 {
				put(l, 0, fmt.Sprint(serial%50), serial)
				want[fmt.Sprint(serial%50)] = serial
				serial++
			}
			time.Sleep(150 * time.Millisecond)
		}
		got := map[string]int{}
		for _, id := range c.all(t) {
			var n int
			_, _ = fmt.Sscan(id, &n)
			got[fmt.Sprint(n%50)]++
			if n != want[fmt.Sprint(n%50)] {
				t.Errorf("event %d of key %d, whose latest is %d", n, n%50, want[fmt.Sprint(n%50)])
			}
		}
		if len(got) != 50 || !maps.EqualFunc(got, got, func(a, b int) bool { return a == 1 }) {
			t.Errorf("keys were given so many times: %v", got)
		}
	})
}

// Rows that readers are slow with are taken from them where they are too many; what was given is not given again.
func TestRowsOfSlowReadersAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := fanouttest.NewLog(1)
		h := open(t, start(t, Config{Log: l, Linger: 24 * time.Hour, RingBytes: 64 << 20}))
		h.conflated.rowsMost = 1 << 20
		pad := strings.Repeat("x", 4000)
		serial := 0
		seen := make([]map[string]bool, 8)
		var readers []*Conflated
		for i := range seen {
			readers = append(readers, h.Conflated(Options{}, 100*time.Millisecond))
			seen[i] = map[string]bool{}
		}
		take := func(i int) {
			b, _ := readers[i].Take()
			if b == nil {
				return
			}
			piece, _ := b.Next(new(int))
			for _, e := range piece.Entries {
				if id := e.Event.ID(); seen[i][id] {
					t.Fatalf("reader %d was given event %s twice", i, id)
				} else {
					seen[i][id] = true
				}
			}
		}
		for range 8 {
			for range 100 {
				put(l, 0, fmt.Sprint(serial%100), serial, pad)
				serial++
			}
			time.Sleep(120 * time.Millisecond)
			for i := range readers { // a piece of it
				if i%2 == 0 || serial%200 == 0 {
					take(i)
				}
			}
		}
		if held := h.conflated.rows.Load(); held > 2<<20 {
			t.Errorf("rows take %d bytes", held)
		}
		for i, c := range readers {
			last := map[string]bool{}
			for _, id := range c.all(t) {
				if seen[i][id] {
					t.Fatalf("reader %d was given event %s twice", i, id)
				}
				last[id] = true
			}
			for n := serial - 100; n < serial; n++ {
				if id := fmt.Sprint(n); !last[id] && !seen[i][id] {
					t.Errorf("reader %d was not given event %d, the latest of its key", i, n)
				}
			}
			c.Close()
		}
		if held := h.conflated.rows.Load(); held != 0 {
			t.Errorf("rows without readers take %d bytes", held)
		}
	})
}

// What is more than may wait is given before the interval is over.
func TestAnIntervalEndsWhereItHoldsTooMuch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := fanouttest.NewLog(1)
		h := open(t, start(t, Config{Log: l, Linger: 24 * time.Hour}))
		h.conflated.most = 100 << 10
		c := h.Conflated(Options{}, time.Minute)
		defer c.Close()
		given := 0
		for i := range 1000 {
			put(l, 0, fmt.Sprint(i), i, strings.Repeat("x", 1000))
			time.Sleep(2 * time.Millisecond)
			if i%100 == 99 {
				time.Sleep(drainStep)
				given += len(c.all(t))
			}
		}
		if given < 800 {
			t.Errorf("%d of 1000 events were given within 3 s of a minute", given)
		}
		if n := h.conflated.bytes.Load(); n > 700<<10 {
			t.Errorf("the view holds %d bytes", n)
		}
	})
}

// A reader that comes back from further away is given the latest of each key at once, and not what came before it.
func TestAConflatedReaderThatWasAwayIsGivenTheLatestAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := fanouttest.NewLog(1)
		hs := start(t, Config{Log: l, RingBytes: 10_000, Linger: 24 * time.Hour})
		h := open(t, hs)
		for i := range 1000 {
			put(l, 0, fmt.Sprint(i%7), i)
		}
		bad := broker.Record{Key: []byte("3"), Value: []byte("no event")}
		l.Put(0, bad)
		synctest.Wait()
		tip := h.tip
		c := h.Conflated(Options{Next: []int64{100}, Epoch: tip.ep}, time.Minute)
		defer c.Close()
		var ids []string
		for status := Behind; status != Idle || ids == nil; {
			var b *Batch
			if b, status = c.Take(); status == Behind {
				var err error
				if b, status, err = c.Fill(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
			if b == nil {
				continue
			}
			for at := 0; ; {
				piece, _ := b.Next(&at)
				if piece == nil {
					break
				}
				for _, e := range piece.Entries {
					ids = append(ids, e.Event.ID()+e.Skipped[:min(3, len(e.Skipped))])
				}
			}
			b.Release()
		}
		if len(ids) != 8 || ids[0] != "993" || ids[6] != "999" {
			t.Errorf("it was given %v", ids)
		}
		if n := h.folds.used.Load(); n != 0 {
			t.Errorf("folds hold %d bytes that nobody has", n)
		}
	})
}

// A reader that is further behind than the view remembers goes on by itself, and misses nothing.
func TestAConflatedReaderFarBehindGoesOnByItself(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := fanouttest.NewLog(1)
		h := open(t, start(t, Config{Log: l, Linger: 24 * time.Hour}))
		c := h.Conflated(Options{}, 100*time.Millisecond)
		defer c.Close()
		put(l, 0, "early", 1)
		for i := range 2 * ticksMost {
			put(l, 0, "late", 2+i)
			time.Sleep(150 * time.Millisecond)
		}
		if diff := cmp.Diff([]string{"1", fmt.Sprint(1 + 2*ticksMost)}, c.all(t)); diff != "" {
			t.Errorf("(-want +got)\n%s", diff)
		}
		put(l, 0, "early", 100)
		time.Sleep(300 * time.Millisecond)
		if diff := cmp.Diff([]string{"100"}, c.all(t)); diff != "" || !c.shared {
			t.Errorf("it shares: %t (-want +got)\n%s", c.shared, diff)
		}
	})
}

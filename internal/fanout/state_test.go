package fanout

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/eventissuer/eventissuer/broker"
	"github.com/eventissuer/eventissuer/internal/fanout/fanouttest"
	"github.com/eventissuer/eventissuer/internal/filter"
)

var keepAll = State{Window: -1, MaxKeys: 1000, MaxBytes: 1 << 20}

// put appends an event of a key, which is its subject; serial is its id.
func put(l *fanouttest.Log, p int, key string, serial int, pad ...string) {
	l.Put(p, broker.Record{Key: []byte(key), Timestamp: time.Now(), Value: fmt.Appendf(nil,
		`{"specversion":"1.0","id":"%d","source":"/s","type":"t","subject":%q,"grade":%d,"data":%q}`, serial, key, serial%10, strings.Join(pad, ""))})
}

// pictureOf is what a batch shows.
func pictureOf(t *testing.T, b *Batch) map[string]string {
	t.Helper()
	picture := map[string]string{}
	for at := 0; ; {
		piece, ok := b.Next(&at)
		if !ok {
			t.Fatal("the batch was taken away")
		}
		if piece == nil {
			return picture
		}
		for _, e := range piece.Entries {
			picture[e.Event.Subject()] = e.Event.ID()
		}
	}
}

func snapshotOf(t *testing.T, h *Hub, f *filter.Filter) *Batch {
	t.Helper()
	b, err := h.Snapshot(t.Context(), f, nil)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func sql(t *testing.T, text string) *filter.Filter {
	t.Helper()
	f, err := filter.Compile(filter.Query{SQL: text})
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func TestAStateIsReadOnceSomebodyAsksForIt(t *testing.T) {
	l := fanouttest.NewLog(2)
	for i := range 10 {
		put(l, i%2, fmt.Sprint(i%4), i)
	}
	h := open(t, start(t, Config{Log: l}))
	if _, err := h.Snapshot(t.Context(), nil, nil); !errors.Is(err, ErrNoState) {
		t.Fatalf("got %v of a stream that keeps no state", err)
	}
	h.Keep(keepAll)
	live := drive(t, h, Options{})
	put(l, 0, "0", 10)
	live.until(count(1))
	if n := l.Reads.Load(); n > 0 {
		t.Fatalf("the log was read %d times, though nobody asked", n)
	}
	want := map[string]string{"0": "10", "1": "9", "2": "6", "3": "7"}
	b := snapshotOf(t, h, nil)
	if diff := cmp.Diff(want, pictureOf(t, b)); diff != "" || b.Keys() != 4 {
		t.Fatalf("%d keys (-want +got)\n%s", b.Keys(), diff)
	}
	b.Release()
	h.Keep(State{})
	if _, err := h.Snapshot(t.Context(), nil, nil); !errors.Is(err, ErrNoState) {
		t.Fatalf("got %v once the stream keeps no state", err)
	}
}

// What the log holds up holds up only those who asked.
func TestReadingAStateDelaysNobodyElse(t *testing.T) {
	l := fanouttest.NewLog(1)
	put(l, 0, "a", 1)
	slow := make(chan struct{})
	l.Delay = func() { <-slow }
	h := open(t, start(t, Config{Log: l}))
	h.Keep(keepAll)
	live := drive(t, h, Options{})
	done := make(chan *Batch)
	go func() {
		b, _ := h.Snapshot(t.Context(), nil, nil)
		done <- b
	}()
	for i := range 100 {
		put(l, 0, "b", 2+i)
		live.until(count(1))
	}
	close(slow)
	b := <-done
	if diff := cmp.Diff(map[string]string{"a": "1", "b": "101"}, pictureOf(t, b)); diff != "" {
		t.Fatalf("(-want +got)\n%s", diff)
	}
	b.Release()
}

func TestThoseWhoAskAtOnceShareWhatIsEncoded(t *testing.T) {
	l := fanouttest.NewLog(1)
	for i := range 500 {
		put(l, 0, fmt.Sprint(i), i, strings.Repeat("x", 500))
	}
	h := open(t, start(t, Config{Log: l}))
	h.Keep(keepAll)
	encoded := 0
	encode := func(entries []*Entry) ([]byte, []int) {
		encoded++
		return fmt.Appendf(nil, "%d", len(entries)), nil
	}
	for range 100 {
		for _, f := range []*filter.Filter{nil, sql(t, "grade > 4")} {
			b := snapshotOf(t, h, f)
			defer b.Release()
			for at := 0; ; {
				piece, _ := b.Next(&at)
				if piece == nil {
					break
				}
				if _, _, shared := piece.Encoded(1, encode); !shared {
					t.Fatal("a piece is not shared")
				}
			}
		}
	}
	if encoded < 6 || encoded > 12 {
		t.Errorf("%d pieces were encoded for 200 snapshots of 250 and 125 KB", encoded)
	}
}

// A picture is told what the bounds take away, by the entry that did.
func TestOverItsBoundsAStateDropsTheOldestKeys(t *testing.T) {
	for name, bounds := range map[string]State{
		"keys": {Window: -1, MaxKeys: 3, MaxBytes: 1 << 20}, "bytes": {Window: -1, MaxKeys: 100, MaxBytes: 4400},
	} {
		t.Run(name, func(t *testing.T) {
			l := fanouttest.NewLog(1)
			h := open(t, start(t, Config{Log: l}))
			h.Keep(bounds)
			for i := range 3 {
				put(l, 0, fmt.Sprint(i), i, strings.Repeat("x", 600))
			}
			b, err := h.Snapshot(t.Context(), nil, []int64{3})
			if err != nil {
				t.Fatal(err)
			}
			d := drive(t, h, Options{Since: b, Picture: true, Whole: true})
			b.Release()
			put(l, 0, "0", 3, strings.Repeat("x", 600)) // which makes 1 the oldest
			put(l, 0, "4", 4, strings.Repeat("x", 600))
			var told []string
			for len(told) < 3 {
				entries, status := d.r.Take(nil, 1<<20)
				for _, e := range entries {
					if e.Removed != nil {
						told = append(told, "-"+e.Removed.Event.ID())
						continue
					}
					d.r.After(e)
					told = append(told, "+"+e.Event.ID())
				}
				if len(told) < 3 && status == Idle && d.r.Park() {
					select {
					case <-d.wake:
					case <-time.After(10 * time.Second):
						t.Fatalf("told %v", told)
					}
					d.r.Unpark()
				}
			}
			if diff := cmp.Diff([]string{"+3", "-1", "+4"}, told); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
			b, err = h.Snapshot(t.Context(), nil, h.Latest())
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(map[string]string{"0": "3", "2": "2", "4": "4"}, pictureOf(t, b)); diff != "" || b.Dropped() != 1 {
				t.Errorf("%d dropped (-want +got)\n%s", b.Dropped(), diff)
			}
			b.Release()
		})
	}
}

func TestKeysThatToldNothingForAWindowAreLeftOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := fanouttest.NewLog(1)
		put(l, 0, "old", 1)
		time.Sleep(40 * time.Minute)
		put(l, 0, "a", 2)
		time.Sleep(30 * time.Minute)
		hs := start(t, Config{Log: l, Linger: 24 * time.Hour})
		h := open(t, hs)
		h.Keep(State{Window: time.Hour, MaxKeys: 100, MaxBytes: 1 << 20})
		b := snapshotOf(t, h, nil)
		if diff := cmp.Diff(map[string]string{"a": "2"}, pictureOf(t, b)); diff != "" {
			t.Fatalf("(-want +got)\n%s", diff)
		}
		d := drive(t, h, Options{Since: b, Picture: true, Whole: true})
		b.Release()
		time.Sleep(40 * time.Minute)
		b = snapshotOf(t, h, nil)
		if got := pictureOf(t, b); len(got) > 0 {
			t.Fatalf("a snapshot has %v, which is too old", got)
		}
		b.Release()
		put(l, 0, "b", 3)
		synctest.Wait()
		entries, _ := d.r.Take(nil, 1<<20)
		if len(entries) != 2 || entries[0].Removed == nil || entries[0].Removed.Event.ID() != "2" || !entries[0].Beside || entries[1].Event.ID() != "3" {
			t.Fatalf("a picture was told %v", entries)
		}
		d.r.After(entries[1])
	})
}

// Where too much goes at once to be told one by one, whoever has a picture is given another.
func TestAPictureThatMuchGoesFromIsStale(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := fanouttest.NewLog(1)
		for i := range 2 * departuresMost {
			put(l, 0, fmt.Sprint(i), i)
		}
		h := open(t, start(t, Config{Log: l, Linger: 24 * time.Hour}))
		h.Keep(State{Window: time.Hour, MaxKeys: 10_000, MaxBytes: 16 << 20})
		b := snapshotOf(t, h, sql(t, "grade = 7"))
		d := drive(t, h, Options{Since: b, Picture: true, Whole: true, Filter: sql(t, "grade = 7")})
		b.Release()
		time.Sleep(2 * time.Hour)
		put(l, 0, "new", 9) // which the filter does not want
		synctest.Wait()
		for {
			entries, status := d.r.Take(nil, 1<<20)
			if status == Stale {
				break
			}
			if len(entries) == 0 {
				t.Fatalf("the reader is %v", status)
			}
		}
	})
}

// Slow readers of snapshots hold no more than so much, and in the end no others up.
func TestSnapshotsOfSlowReadersAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := fanouttest.NewLog(1)
		for i := range 100 {
			put(l, 0, fmt.Sprint(i), i)
		}
		h := open(t, start(t, Config{Log: l, Linger: 24 * time.Hour}))
		h.bases.most = 1
		h.Keep(keepAll)
		var held []*Batch
		serial := 100
		next := func() *Batch {
			put(l, 0, "0", serial)
			serial++
			time.Sleep(time.Second)
			b := snapshotOf(t, h, nil)
			held = append(held, b)
			return b
		}
		for range 10 {
			next()
		}
		states := func() (n int, last *base) {
			h.bases.mu.Lock()
			defer h.bases.mu.Unlock()
			return len(h.bases.all), h.bases.last
		}
		if n, _ := states(); n > basesMost+1 {
			t.Fatalf("%d states are held", n)
		}
		if at := slices.IndexFunc(held, func(b *Batch) bool { _, ok := b.Next(new(int)); return !ok }); at >= 0 {
			t.Fatalf("snapshot %d was taken from its reader after seconds", at)
		}
		floor := h.Latest()
		if b := h.TrySnapshot(nil, floor); b != nil && pictureOf(t, b)["0"] != fmt.Sprint(serial-1) {
			t.Fatal("a snapshot is behind where it had to be")
		}
		time.Sleep(basePatience)
		newest := next()
		if got := pictureOf(t, newest)["0"]; got != fmt.Sprint(serial-1) {
			t.Fatalf("the newest snapshot has %s of %d", got, serial-1)
		}
		if _, ok := held[0].Next(new(int)); ok {
			t.Error("the oldest snapshot is still given")
		}
		for _, b := range held {
			b.Release()
		}
		time.Sleep(time.Second)
		if n, last := states(); n > 0 || last != nil {
			t.Error("states are kept that nobody is given")
		}
	})
}

// Which keys a state had no room for depends on the replica: who comes back with a cursor may have one that this replica can
// tell nothing of any more.
func TestAPictureThatComesBackToAStateOverItsBoundsIsInDoubt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := fanouttest.NewLog(1)
		h := open(t, start(t, Config{Log: l, Linger: 24 * time.Hour}))
		h.Keep(State{Window: -1, MaxKeys: 2, MaxBytes: 1 << 20})
		put(l, 0, "a", 1)
		put(l, 0, "b", 2)
		synctest.Wait()
		b := snapshotOf(t, h, nil)
		defer b.Release()
		vec, epoch, _ := b.Position()
		if d := drive(t, h, Options{Next: vec, Epoch: epoch, Picture: true, Whole: true}); d.r.Doubtful() {
			t.Error("a picture is in doubt though nothing was dropped")
		}
		put(l, 0, "c", 3)
		synctest.Wait()
		if d := drive(t, h, Options{Next: vec, Epoch: epoch, Picture: true, Whole: true}); !d.doubtful() {
			t.Error("a picture from elsewhere is not in doubt though a key was dropped here")
		}
		if d := drive(t, h, Options{Next: vec, Epoch: epoch, Picture: true}); d.doubtful() {
			t.Error("a picture that is not whole is in doubt")
		}
		d := drive(t, h, Options{Next: h.Latest(), Epoch: epoch, Picture: true, Whole: true})
		if d.doubtful() {
			t.Error("a picture is in doubt though nothing has come since")
		}
		put(l, 0, "c", 4)
		synctest.Wait()
		if !d.doubtful() {
			t.Error("a picture that something comes to is not in doubt")
		}
	})
}

// doubtful takes what is due, and reports whether the reader's picture is in doubt.
func (d *driver) doubtful() bool {
	entries, _ := d.r.Take(nil, 1<<20)
	for _, e := range entries {
		if !e.Beside {
			d.r.After(e)
		}
	}
	return d.r.Doubtful()
}

package fanout

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/eventissuer/eventissuer/broker"
	"github.com/eventissuer/eventissuer/internal/cursor"
	"github.com/eventissuer/eventissuer/internal/event"
	"github.com/eventissuer/eventissuer/internal/fanout/fanouttest"
	"github.com/eventissuer/eventissuer/internal/filter"
)

func start(t testing.TB, c Config) *Hubs {
	t.Helper()
	hs, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { _ = hs.Run(ctx) })
	t.Cleanup(func() { cancel(); running.Wait() })
	return hs
}

func open(t testing.TB, hs *Hubs) *Hub {
	t.Helper()
	h, err := hs.Open(context.Background(), Stream{Name: "s", Topic: "s"})
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func trainEvent(i int) string {
	return fmt.Sprintf(`{"specversion":"1.0","id":"%d","source":"/s","type":"t","subject":"/train/%d"}`, i, i%10)
}

// follower drives a reader as a session would.
type driver struct {
	t    testing.TB
	r    *Reader
	wake chan struct{}
	gaps []broker.Gap
}

func drive(t testing.TB, h *Hub, o Options) *driver {
	t.Helper()
	d := &driver{t: t, wake: make(chan struct{}, 1)}
	o.Notify = func() {
		select {
		case d.wake <- struct{}{}:
		default:
		}
	}
	d.r = h.Reader(o)
	t.Cleanup(func() { d.r.Unpark(); d.r.Close() })
	return d
}

// until takes entries until done says so, and returns their ids.
func (d *driver) until(done func(ids []string) bool) []string {
	d.t.Helper()
	var ids []string
	deadline := time.After(10 * time.Second)
	for {
		entries, status := d.r.Take(nil, 1<<20)
		d.gaps = append(d.gaps, d.r.Gaps()...)
		if status == Behind {
			var err error
			entries, _, err = d.r.Fill(context.Background(), nil, 1<<20)
			d.gaps = append(d.gaps, d.r.Gaps()...)
			if err != nil && !errors.Is(err, broker.ErrUnavailable) {
				d.t.Fatal(err)
			}
		}
		for _, e := range entries {
			d.r.After(e)
			ids = append(ids, e.Event.ID())
		}
		if done(ids) || status == Ended {
			return ids
		}
		if len(entries) > 0 || status != Idle {
			continue
		}
		if d.r.Park() {
			select {
			case <-d.wake:
			case <-deadline:
				d.t.Fatalf("got %v and no more", ids)
			}
			d.r.Unpark()
		}
	}
}

func count(n int) func([]string) bool { return func(ids []string) bool { return len(ids) >= n } }

func ids(from, to int) (s []string) {
	for i := from; i < to; i++ {
		s = append(s, fmt.Sprint(i))
	}
	return s
}

func TestAGapBeginsWhereItsReaderStands(t *testing.T) {
	log := fanouttest.NewLog(1)
	for i := range 40 {
		log.Append(0, trainEvent(i))
	}
	h := open(t, start(t, Config{Log: log}))
	log.Retain(0, 20)
	d := drive(t, h, Options{Next: []int64{10}, Epoch: cursor.EpochOf(log.Epoch)})
	ids := d.until(func(ids []string) bool { return len(ids) == 20 })
	if ids[0] != "20" {
		t.Errorf("goes on with %v", ids[:1])
	}
	want := []broker.Gap{{From: 10, To: 20, Reason: broker.GapRetention}}
	if diff := cmp.Diff(want, d.gaps); diff != "" {
		t.Error(diff)
	}
}

func TestCursorsBeforeALostEndAreToldAGapAndJoinWhatFollows(t *testing.T) {
	l := fanouttest.NewLog(1)
	for i := range 10 {
		l.Append(0, trainEvent(i))
	}
	h := open(t, start(t, Config{Log: l}))
	live := drive(t, h, Options{})
	ahead := drive(t, h, Options{Next: []int64{10}, Epoch: cursor.EpochOf(l.Epoch)})
	ahead.until(func([]string) bool { return ahead.r.live })
	l.Lose(0, 6)
	live.until(func([]string) bool { return len(live.gaps) > 0 })
	for i := range 8 { // beyond where the cursors stood, so that offsets alone would not tell
		l.Append(0, trainEvent(100+i))
	}
	want := []broker.Gap{{Partition: 0, From: 10, To: 6, Reason: broker.GapTruncated}}
	for name, d := range map[string]*driver{"live": live, "resumed": ahead} {
		if diff := cmp.Diff(ids(100, 108), d.until(count(8))); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
		if diff := cmp.Diff(want, d.gaps); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

func TestAnAnswerFromBeforeALostEndServesNobodyAfterIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var hold atomic.Bool
		held := make(chan struct{})
		l := fanouttest.NewLog(1)
		l.Late = func() {
			if hold.CompareAndSwap(true, false) {
				<-held
			}
		}
		for i := range 10 {
			l.Append(0, trainEvent(i))
		}
		hs, err := New(Config{Log: l})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		var running sync.WaitGroup
		running.Go(func() { _ = hs.Run(ctx) })
		defer running.Wait()
		defer cancel()
		h := open(t, hs)
		epoch := cursor.EpochOf(l.Epoch)
		fill := func(next int64) {
			r := h.Reader(Options{Next: []int64{next}, Epoch: epoch})
			defer r.Close()
			if _, _, err := r.Fill(ctx, nil, 1<<20); err != nil {
				t.Error(err)
			}
		}
		for _, next := range []int64{0, 12} { // a read, and a probe
			hold.Store(true)
			running.Go(func() { fill(next) })
			synctest.Wait()
		}
		l.Lose(0, 6)
		synctest.Wait()
		hold.Store(false)
		reread := make(chan []*Entry)
		running.Go(func() {
			r := h.Reader(Options{Next: []int64{0}, Epoch: epoch})
			defer r.Close()
			entries, _, err := r.Fill(ctx, nil, 1<<20)
			if err != nil {
				t.Error(err)
			}
			reread <- entries
		})
		synctest.Wait()
		close(held)
		if n := len(<-reread); n != 6 {
			t.Errorf("read %d entries of a log that has 6", n)
		}
		synctest.Wait()
		d := h.Reader(Options{Next: []int64{9}, Epoch: epoch})
		defer d.Close()
		if d.live {
			t.Error("a cursor beyond the end joined as live")
		}
	})
}

func TestACursorBeyondTheEndIsProbedAndNeverJoinedAsLive(t *testing.T) {
	l := fanouttest.NewLog(1)
	for i := range 5 {
		l.Append(0, trainEvent(i))
	}
	h := open(t, start(t, Config{Log: l}))
	d := drive(t, h, Options{Next: []int64{9}, Epoch: cursor.EpochOf(l.Epoch)})
	d.until(func([]string) bool { return len(d.gaps) > 0 })
	if diff := cmp.Diff([]broker.Gap{{Partition: 0, From: 9, To: 5, Reason: broker.GapTruncated}}, d.gaps); diff != "" {
		t.Error(diff)
	}
	for i := range 6 {
		l.Append(0, trainEvent(50+i))
	}
	if diff := cmp.Diff(ids(50, 56), d.until(count(6))); diff != "" {
		t.Error(diff)
	}
}

func TestARemadeTopicIsToldAndReadFromItsBeginning(t *testing.T) {
	l := fanouttest.NewLog(2)
	for i := range 10 {
		l.Append(i%2, trainEvent(i))
	}
	hs := start(t, Config{Log: l})
	h := open(t, hs)
	old := cursor.EpochOf(l.Epoch)
	live := drive(t, h, Options{})
	away := drive(t, h, Options{Next: []int64{0, 0}, Epoch: old})
	l.Recreate(1)
	for i := range 20 { // more than before: the old offsets exist again
		l.Append(0, trainEvent(100+i))
	}
	for name, d := range map[string]*driver{"live": live, "behind": away, "comes back": drive(t, h, Options{Next: []int64{3, 4}, Epoch: old})} {
		got := d.until(func(ids []string) bool { return len(ids) > 0 && ids[len(ids)-1] == "119" })
		from := slices.Index(got, "100")
		if from < 0 || !slices.Equal(got[from:], ids(100, 120)) {
			t.Errorf("%s: got %v", name, got)
		}
		if len(d.gaps) == 0 || d.gaps[0].Reason != broker.GapRecreated {
			t.Errorf("%s: gaps %v", name, d.gaps)
		}
	}
}

func TestAPositionOfTheOldTopicIsNeverGivenTheNewOnesEpoch(t *testing.T) {
	l := fanouttest.NewLog(1)
	h := open(t, start(t, Config{Log: l}))
	d := drive(t, h, Options{})
	old := cursor.EpochOf(h.Epoch())
	l.Append(0, trainEvent(0))
	d.until(count(1))
	l.Recreate(1)
	for deadline := time.Now().Add(10 * time.Second); cursor.EpochOf(h.Epoch()) == old; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the hub does not notice")
		}
	}
	if vec, _ := d.r.Position(); vec[0] != 1 || d.r.Epoch() != old {
		t.Errorf("position %v has epoch %d; it is of %d", vec, d.r.Epoch(), old)
	}
	d.until(func([]string) bool { return len(d.gaps) > 0 })
	if vec, _ := d.r.Position(); vec[0] != 0 || d.r.Epoch() == old {
		t.Errorf("position %v has epoch %d still", vec, d.r.Epoch())
	}
}

func TestANewPartitionIsReadFromItsBeginning(t *testing.T) {
	l := fanouttest.NewLog(1)
	h := open(t, start(t, Config{Log: l}))
	d := drive(t, h, Options{})
	l.Append(0, trainEvent(1))
	d.until(count(1))
	l.Grow(3)
	l.Append(2, trainEvent(2))
	if diff := cmp.Diff([]string{"2"}, d.until(count(1))); diff != "" {
		t.Error(diff)
	}
	if vec, _ := d.r.Position(); !slices.Equal(vec, []int64{1, 0, 1}) {
		t.Errorf("position %v", vec)
	}
}

func TestAnOutageIsToldAndSoIsItsEnd(t *testing.T) {
	l := fanouttest.NewLog(1)
	h := open(t, start(t, Config{Log: l}))
	f, err := filter.Compile(filter.Query{Subjects: []string{"/train/3"}})
	if err != nil {
		t.Fatal(err)
	}
	d := drive(t, h, Options{Filter: f})
	l.Outage(true)
	d.until(func([]string) bool { return d.r.Health() != nil })
	l.Outage(false)
	d.until(func([]string) bool { return d.r.Health() == nil })
	l.Append(0, trainEvent(3))
	d.until(count(1))
}

func TestADeletedTopicEndsItsReaders(t *testing.T) {
	l := fanouttest.NewLog(1)
	h := open(t, start(t, Config{Log: l}))
	d := drive(t, h, Options{})
	l.Change(func() { l.Gone = true })
	d.until(func([]string) bool { return h.Err() != nil })
	if _, s := d.r.Take(nil, 1); s != Ended || !errors.Is(h.Err(), ErrGone) {
		t.Errorf("status %v, %v", s, h.Err())
	}
}

func TestOneEventWakesOnlyParkedReadersThatItConcerns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := fanouttest.NewLog(1)
		hs, err := New(Config{Log: l})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		var running sync.WaitGroup
		running.Go(func() { _ = hs.Run(ctx) })
		defer running.Wait()
		defer cancel()
		h := open(t, hs)
		woken := make([]int, 10)
		var readers []*Reader
		for i := range 10 {
			f, err := filter.Compile(filter.Query{Subjects: []string{fmt.Sprintf("/train/%d", i)}})
			if err != nil {
				t.Fatal(err)
			}
			r := h.Reader(Options{Filter: f, Notify: func() { woken[i]++ }})
			defer r.Close()
			if !r.Park() {
				t.Fatal("nothing is due")
			}
			readers = append(readers, r)
		}
		l.Append(0, trainEvent(4))
		l.Append(0, trainEvent(14)) // its reader is awake by now, and finds it by itself
		synctest.Wait()
		if diff := cmp.Diff([]int{0, 0, 0, 0, 1, 0, 0, 0, 0, 0}, woken); diff != "" {
			t.Error(diff)
		}
		if got, _ := readers[4].Take(nil, 1<<20); len(got) != 2 {
			t.Errorf("took %d entries", len(got))
		}
	})
}

// A session over several streams is woken by one of them and parks them all again.
func TestAReaderThatParksAgainHidesNoOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := fanouttest.NewLog(1)
		hs, err := New(Config{Log: l})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		var running sync.WaitGroup
		running.Go(func() { _ = hs.Run(ctx) })
		defer running.Wait()
		defer cancel()
		h := open(t, hs)
		woken := make([]int, 3)
		var readers []*Reader
		for i := range 3 {
			r := h.Reader(Options{Notify: func() { woken[i]++ }})
			defer r.Close()
			readers = append(readers, r)
		}
		for _, i := range []int{0, 1, 2, 1} {
			if !readers[i].Park() {
				t.Fatal("nothing is due")
			}
		}
		l.Append(0, trainEvent(0))
		synctest.Wait()
		if diff := cmp.Diff([]int{1, 1, 1}, woken); diff != "" {
			t.Error(diff)
		}
	})
}

func TestTenThousandReadersThatComeBackShareTheReadsOfTheLog(t *testing.T) {
	l := fanouttest.NewLog(4)
	for i := range 20_000 {
		l.Append(i%4, trainEvent(i))
	}
	h := open(t, start(t, Config{Log: l}))
	var running sync.WaitGroup
	for i := range 10_000 {
		running.Go(func() {
			r := h.Reader(Options{Next: []int64{int64(4000 + i%1000), 4500, 4100, int64(4990 - i%900)}, Epoch: cursor.EpochOf(l.Epoch)})
			defer r.Close()
			got := 0
			for {
				entries, s, err := r.Fill(context.Background(), nil, 32<<10)
				if err != nil {
					t.Error(err)
					return
				}
				for _, e := range entries {
					r.After(e)
				}
				got += len(entries)
				if s == Idle {
					break
				}
			}
			if want := (1000 - i%1000) + 500 + 900 + (10 + i%900); got != want {
				t.Errorf("reader %d got %d of %d", i, got, want)
			}
		})
	}
	running.Wait()
	if n := l.Reads.Load(); n > 40 {
		t.Errorf("the log was read %d times", n)
	}
}

func TestRingsStayWithinTheirBoundsTogether(t *testing.T) {
	l := fanouttest.NewLog(1)
	const total = 1 << 20
	hs := start(t, Config{Log: l, RingBytes: 1 << 20, MemoryBytes: total})
	var drivers []*driver
	for i := range 3 {
		h, err := hs.Open(context.Background(), Stream{Name: fmt.Sprint(i), Topic: "s"})
		if err != nil {
			t.Fatal(err)
		}
		drivers = append(drivers, drive(t, h, Options{}))
	}
	pad := strings.Repeat("x", 1000)
	for i := range 3000 {
		l.Append(0, fmt.Sprintf(`{"specversion":"1.0","id":"%d","source":"/s","type":"t","data":%q}`, i, pad))
	}
	for _, d := range drivers {
		d.until(count(3000))
	}
	if used := hs.budget.used.Load(); used > total || used < total/4 {
		t.Errorf("rings hold %d bytes", used)
	}
}

func TestHubsWithoutReadersEnd(t *testing.T) {
	l := fanouttest.NewLog(1)
	hs := start(t, Config{Log: l, Linger: 20 * time.Millisecond})
	h := open(t, hs)
	<-h.done
	if again := open(t, hs); again == h {
		t.Error("an ended hub was given out")
	}
}

func BenchmarkPublish(b *testing.B) {
	for _, sessions := range []int{1, 1000, 100_000} {
		b.Run(fmt.Sprintf("distinctFilters=%d", sessions), func(b *testing.B) {
			l := fanouttest.NewLog(1)
			hs, err := New(Config{Log: l, RingBytes: 8 << 20})
			if err != nil {
				b.Fatal(err)
			}
			h, err := hs.open(context.Background(), Stream{Name: "s", Topic: "s"})
			if err != nil {
				b.Fatal(err)
			}
			hs.budget.hubs.Add(1)
			for i := range sessions {
				f, err := filter.Compile(filter.Query{Subjects: []string{fmt.Sprintf("/train/%d", i)}})
				if err != nil {
					b.Fatal(err)
				}
				h.Reader(Options{Filter: f}).Park()
			}
			record := broker.Record{Value: []byte(`{"specversion":"1.0","id":"1","source":"/bnr/siri-et","type":"no.banenor.train.position.v1","subject":"/train/0","time":"2018-08-27T22:15:00+02:00","datacontenttype":"application/json","data":{"trainId":"5794","line":"R20","latitude":59.91,"longitude":10.75,"delaySeconds":12}}`)}
			b.ReportAllocs()
			for b.Loop() {
				h.publish([]broker.Record{record}, record.Offset+1)
				record.Offset++
			}
		})
	}
}

func BenchmarkTake(b *testing.B) {
	l := fanouttest.NewLog(1)
	h := open(b, start(b, Config{Log: l}))
	r := h.Reader(Options{})
	defer r.Close()
	record := broker.Record{Value: []byte(trainEvent(1))}
	var entries []*Entry
	b.ReportAllocs()
	for b.Loop() {
		b.StopTimer()
		h.publish([]broker.Record{record}, record.Offset+1)
		record.Offset++
		b.StartTimer()
		entries, _ = r.Take(entries[:0], 1<<16)
		for _, e := range entries {
			r.After(e)
		}
		r.Park()
		r.Unpark()
	}
}

func TestARingThatStandsStillGivesWayToThoseThatGrow(t *testing.T) {
	const total = 1 << 20
	pad := strings.Repeat("x", 1000)
	logs := map[string]*fanouttest.Log{}
	for i := range 20 {
		logs[fmt.Sprint(i)] = fanouttest.NewLog(1)
	}
	hs := start(t, Config{Log: manyLogs(logs), RingBytes: total, MemoryBytes: total})
	for i := range 20 { // one after the other
		name := fmt.Sprint(i)
		h, err := hs.Open(t.Context(), Stream{Name: name, Topic: name})
		if err != nil {
			t.Fatal(err)
		}
		d := drive(t, h, Options{})
		for n := range 300 {
			logs[name].Append(0, fmt.Sprintf(`{"specversion":"1.0","id":"%d","source":"/s","type":"t","data":%q}`, n, pad))
		}
		d.until(count(300))
	}
	hs.relieve() // what the last of them asked for
	if used := hs.budget.used.Load(); used > total || used < total/4 {
		t.Errorf("rings hold %d bytes", used)
	}
}

// manyLogs is several topics, each a log of its own.
type manyLogs map[string]*fanouttest.Log

func (m manyLogs) Describe(ctx context.Context, topic string) (broker.TopicInfo, error) {
	return m[topic].Describe(ctx, topic)
}

func (m manyLogs) Present(ctx context.Context, topic string) (broker.Epoch, error) {
	return m[topic].Present(ctx, topic)
}

func (m manyLogs) Bounds(ctx context.Context, topic string) ([]broker.Bounds, error) {
	return m[topic].Bounds(ctx, topic)
}

func (m manyLogs) At(ctx context.Context, topic string, at time.Time) ([]int64, error) {
	return m[topic].At(ctx, topic, at)
}

func (m manyLogs) Truncate(ctx context.Context, topic string, p int32, offset int64) error {
	return m[topic].Truncate(ctx, topic, p, offset)
}

func (m manyLogs) Read(ctx context.Context, topic string, p int32, offset int64, n int) (broker.Batch, error) {
	return m[topic].Read(ctx, topic, p, offset, n)
}

func (m manyLogs) Tail(ctx context.Context, topic string, epoch broker.Epoch, from []int64, h broker.TailHandler) error {
	return m[topic].Tail(ctx, topic, epoch, from, h)
}

func TestFiltersOfManyReadersTakeNoMoreThanTheirShareOfMemory(t *testing.T) {
	l := fanouttest.NewLog(1)
	const ring = 1 << 20
	hs := start(t, Config{Log: l, RingBytes: ring, MemoryBytes: 64 << 20})
	h, err := hs.Open(t.Context(), Stream{Name: "s", Topic: "s"})
	if err != nil {
		t.Fatal(err)
	}
	const events = 3000
	t.Run("while they read", func(t *testing.T) {
		var drivers []*driver
		for i := range 300 { // each another filter, and each passes nearly everything
			f, err := filter.Compile(filter.Query{SQL: fmt.Sprintf("subject <> 'a%d'", i)})
			if err != nil {
				t.Fatal(err)
			}
			drivers = append(drivers, drive(t, h, Options{Filter: f}))
		}
		for i := range events {
			l.Append(0, fmt.Sprintf(`{"specversion":"1.0","id":"%d","source":"/s","type":"t","subject":"a%d"}`, i, i%600))
		}
		for i, d := range drivers {
			if ids := d.until(count(events - events/600)); slices.Contains(ids, fmt.Sprint(i)) {
				t.Errorf("reader %d was given what its filter keeps out", i)
			}
		}
		h.mu.RLock()
		defer h.mu.RUnlock()
		if h.lists > ring/listShare || h.lists == 0 {
			t.Errorf("the lists take %d bytes", h.lists)
		}
	})
	h.mu.RLock()
	defer h.mu.RUnlock()
	if h.lists != 0 {
		t.Errorf("%d bytes are counted for lists that are gone", h.lists)
	}
}

func TestAFilterThatFailsTakesTheEventFromNobody(t *testing.T) {
	l := fanouttest.NewLog(1)
	hs := start(t, Config{Log: l})
	h := open(t, hs)
	broken := new(filter.Filter) // it was never compiled
	func() {
		defer func() {
			if recover() == nil {
				t.Error("the filter does not fail")
			}
		}()
		broken.Match(&event.Event{})
	}()
	all, failing := drive(t, h, Options{}), drive(t, h, Options{Filter: broken})
	behind := drive(t, h, Options{Filter: broken, Next: []int64{0}, Epoch: cursor.EpochOf(l.Epoch)})
	l.Append(0, trainEvent(1))
	for _, d := range []*driver{all, failing, behind} {
		if got := d.until(count(1)); !slices.Equal(got, []string{"1"}) {
			t.Errorf("got %v", got)
		}
	}
}

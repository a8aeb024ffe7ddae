package table

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/eventissuer/eventissuer/broker"
	"github.com/eventissuer/eventissuer/internal/table/tabletest"
)

// single runs one replica on a log without faults in a bubble.
func single(t *testing.T, change func(*Config), test func(t *testing.T, log *tabletest.Log, r *process)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		log := tabletest.New()
		view := log.View(1, tabletest.Faults{})
		cfg := Config{Log: view, Topic: topic, Registerer: prometheus.NewPedanticRegistry()}
		if change != nil {
			change(&cfg)
		}
		r := start(t, cfg, view)
		defer r.kill()
		r.loaded(t)
		test(t, log, r)
	})
}

func must(t *testing.T, v Version, err error) Version {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func TestAWriteIsReadAtOnceAndOthersMustNameIt(t *testing.T) {
	single(t, nil, func(t *testing.T, _ *tabletest.Log, r *process) {
		ctx := t.Context()
		a := mustPut(t, r, "a", uuid.Nil, "1")
		if v, ok := r.Get("a"); !ok || string(v.Body) != "1" || v.U != a.U {
			t.Fatalf("got %v %v", v, ok)
		}
		for name, prev := range map[string]uuid.UUID{"creation": uuid.Nil, "stranger": uuid.New()} {
			if _, err := r.Put(ctx, "a", prev, []byte("2")); !errors.Is(err, ErrConflict) {
				t.Errorf("%s: %v", name, err)
			}
		}
		b := mustPut(t, r, "a", a.U, "2")
		if _, err := r.Delete(ctx, "a", a.U); !errors.Is(err, ErrConflict) {
			t.Errorf("deleting an older version: %v", err)
		}
		gone := must2(r.Delete(ctx, "a", b.U))(t)
		if _, ok := r.Get("a"); ok {
			t.Error("deleted, and yet found")
		}
		if v, ok := r.Current("a"); !ok || !v.Deleted() || v.U != gone.U {
			t.Errorf("the deletion is not the current version: %v %v", v, ok)
		}
		if _, err := r.Delete(ctx, "a", gone.U); !errors.Is(err, ErrConflict) {
			t.Errorf("deleting twice: %v", err)
		}
		mustPut(t, r, "a", uuid.Nil, "3") // names the deletion by itself
	})
}

func mustPut(t *testing.T, r *process, id string, prev uuid.UUID, body string) Version {
	t.Helper()
	v, err := r.Put(t.Context(), id, prev, []byte(body))
	return must(t, v, err)
}

func must2(v Version, err error) func(t *testing.T) Version {
	return func(t *testing.T) Version { t.Helper(); return must(t, v, err) }
}

func TestADeletionIsRememberedForItsOffsetsAndNoLonger(t *testing.T) {
	single(t, func(c *Config) { c.Retain = 5 }, func(t *testing.T, log *tabletest.Log, r *process) {
		a := mustPut(t, r, "a", uuid.Nil, "1")            // 0
		gone := must2(r.Delete(t.Context(), "a", a.U))(t) // 1
		late := write{id: "a", u: uuid.New(), body: []byte("late")}
		for i := range 4 { // 2 to 5
			mustPut(t, r, fmt.Sprint("other", i), uuid.Nil, "x")
		}
		if v, ok := r.Current("a"); !ok || v.U != gone.U {
			t.Fatalf("forgotten too early: %v %v", v, ok)
		}
		// At offset 6 a creation that names nothing is still rejected, and then the deletion is dropped.
		log.Append(t.Context(), topic, []broker.Message{late.message(0)})
		synctest.Wait()
		if v, ok := r.Current("a"); ok {
			t.Fatalf("not forgotten: %v", v)
		}
		late.u = uuid.New()
		log.Append(t.Context(), topic, []broker.Message{late.message(0)})
		synctest.Wait()
		if v, ok := r.Get("a"); !ok || string(v.Body) != "late" {
			t.Fatalf("got %v %v", v, ok)
		}
	})
}

func TestASecondCopyOfACreationIsRejectedAsLongAsItsDeletionIsRemembered(t *testing.T) {
	single(t, func(c *Config) { c.Retain = 5 }, func(t *testing.T, log *tabletest.Log, r *process) {
		a := mustPut(t, r, "a", uuid.Nil, "1") // 0
		again := write{id: "a", u: a.U, body: a.Body}
		must2(r.Delete(t.Context(), "a", a.U))(t) // 1
		for offset := int64(2); offset <= 6; offset++ {
			log.Append(t.Context(), topic, []broker.Message{again.message(0)})
			synctest.Wait()
			if v, ok := r.Get("a"); ok {
				t.Fatalf("a copy at %d brought back what is deleted: %v", offset, v)
			}
		}
		// Now nothing tells it from a first copy: it is a record of its own, accepted where it is.
		log.Append(t.Context(), topic, []broker.Message{again.message(0)})
		synctest.Wait()
		if v, ok := r.Get("a"); !ok || v.U != a.U || v.Offset != 7 {
			t.Fatalf("got %v %v", v, ok)
		}
	})
}

func TestAWriteWithoutAVerdictIsInDoubt(t *testing.T) {
	single(t, nil, func(t *testing.T, _ *tabletest.Log, r *process) {
		r.log.Set(tabletest.Faults{Lose: 1})
		began := time.Now()
		_, err := r.Put(t.Context(), "a", uuid.Nil, []byte("1"))
		if !errors.Is(err, ErrInDoubt) || time.Since(began) != 10*time.Second {
			t.Errorf("after %v: %v", time.Since(began), err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := r.Put(ctx, "a", uuid.Nil, []byte("1")); !errors.Is(err, ErrInDoubt) || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("with a deadline of the caller's: %v", err)
		}
	})
}

func TestALostAcknowledgementIsNoDoubt(t *testing.T) {
	single(t, nil, func(t *testing.T, _ *tabletest.Log, r *process) {
		r.log.Set(tabletest.Faults{Mute: 1})
		mustPut(t, r, "a", uuid.Nil, "1")
	})
}

func TestWhatCannotBeWrittenIsRefused(t *testing.T) {
	single(t, nil, func(t *testing.T, log *tabletest.Log, r *process) {
		for name, err := range map[string]error{
			"no id":      second(r.Put(t.Context(), "", uuid.Nil, []byte("1"))),
			"long id":    second(r.Put(t.Context(), string(make([]byte, MaxID+1)), uuid.Nil, []byte("1"))),
			"large body": second(r.Put(t.Context(), "a", uuid.Nil, make([]byte, MaxBody+1))),
		} {
			if !errors.Is(err, ErrTooLarge) {
				t.Errorf("%s: %v", name, err)
			}
		}
		if _, err := r.Put(t.Context(), "a", uuid.Nil, nil); err == nil {
			t.Error("an object without a body was written")
		}
		if n := len(log.Records(topic, 0)); n != 0 {
			t.Errorf("%d records were written", n)
		}
	})
}

func second(_ Version, err error) error { return err }

func TestReadsGoOnAndWritesAreRefusedWhileLoadingAgain(t *testing.T) {
	single(t, nil, func(t *testing.T, log *tabletest.Log, r *process) {
		a := mustPut(t, r, "a", uuid.Nil, "1")
		r.log.Set(tabletest.Faults{Delay: time.Hour}) // the load takes as long as this
		r.shards[0].outdate()
		if v, ok := r.Get("a"); !ok || v.U != a.U {
			t.Errorf("a read gave %v %v", v, ok)
		}
		if _, err := r.Put(t.Context(), "a", a.U, []byte("2")); !errors.Is(err, ErrNotReady) {
			t.Errorf("a write gave %v", err)
		}
		r.log.Set(tabletest.Faults{})
		if err := r.Sync(t.Context(), "a"); !errors.Is(err, ErrNotReady) {
			t.Errorf("Sync gave %v", err)
		}
	})
}

func TestARemadeTopicIsAnotherTable(t *testing.T) {
	single(t, func(c *Config) { c.SnapshotBytes, c.SnapshotDelay = 1, 1 }, func(t *testing.T, log *tabletest.Log, r *process) {
		for i := range 20 {
			mustPut(t, r, fmt.Sprint(i), uuid.Nil, "of the first life")
		}
		time.Sleep(time.Minute) // snapshots were taken
		if len(log.Records(topic+".snapshots", 0)) == 0 {
			t.Fatal("no snapshot: this tests nothing")
		}
		if err := log.Delete(t.Context(), topic); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		r.Range(func(id string, _ Version) bool {
			t.Errorf("%s is still there: an old snapshot was taken for one of the new log", id)
			return false
		})
		mustPut(t, r, "a", uuid.Nil, "of the second life")
		time.Sleep(time.Minute)
		r.checkMirror(t)
		fresh := start(t, r.cfg2(), r.log)
		defer fresh.kill()
		fresh.loaded(t)
		check(t, log, fresh)
		if _, ok := fresh.Get("a"); !ok {
			t.Error("what was written in the second life is lost")
		}
	})
}

// cfg2 is the configuration for another replica beside r.
func (p *process) cfg2() Config {
	c := p.cfg
	c.Registerer = nil
	return c
}

func TestALogThatLostItsEndIsFilledUpToTheSnapshot(t *testing.T) {
	single(t, func(c *Config) { c.SnapshotBytes, c.SnapshotDelay = 300, 1 }, func(t *testing.T, log *tabletest.Log, r *process) {
		v := mustPut(t, r, "a", uuid.Nil, "1")
		for i := range 9 {
			v = mustPut(t, r, "a", v.U, fmt.Sprint(i))
		}
		time.Sleep(time.Minute)
		bounds, err := log.Bounds(t.Context(), topic)
		if err != nil || bounds[0].First == 0 {
			t.Fatalf("no snapshot: this tests nothing (%v, %v)", bounds, err)
		}
		r.kill()
		log.LoseEnd(topic, 0, bounds[0].First-2) // a crash took what the snapshot has
		for range 2 {
			fresh := start(t, r.cfg2(), r.log)
			defer fresh.kill()
			fresh.loaded(t)
			got, ok := fresh.Get("a")
			if !ok || got.Offset < 2 {
				t.Fatalf("got %v %v", got, ok)
			}
			mustPut(t, fresh, "a", got.U, "after the crash") // and the next load must see it
		}
	})
}

func TestATopicThatCannotHoldATableIsNotUsed(t *testing.T) {
	for name, c := range map[string]broker.TopicConfig{
		"other partitions": {Partitions: 3, Retention: -1, RetentionBytes: -1},
		"compacted":        {Partitions: 1, Retention: -1, RetentionBytes: -1, Compaction: true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				log := tabletest.New()
				if err := log.Create(t.Context(), topic, c); err != nil {
					t.Fatal(err)
				}
				tab, err := New(Config{Log: log, Topic: topic})
				if err != nil {
					t.Fatal(err)
				}
				if err := (*topicError)(nil); !errors.As(tab.Run(t.Context()), &err) {
					t.Fatalf("got %v", err)
				}
			})
		})
	}
}

func TestTopicsAreKeptForEver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := tabletest.New()
		if err := log.Create(t.Context(), topic, broker.TopicConfig{Partitions: 1, Retention: time.Hour}); err != nil {
			t.Fatal(err)
		}
		view := log.View(1, tabletest.Faults{})
		r := start(t, Config{Log: view, Topic: topic}, view)
		defer r.kill()
		r.loaded(t)
		for _, name := range []string{topic, topic + ".snapshots"} {
			if info, err := log.Describe(t.Context(), name); err != nil || info.Retention >= 0 || info.RetentionBytes >= 0 || info.Compaction {
				t.Errorf("%s: %+v, %v", name, info, err)
			}
		}
	})
}

func TestPartitionsAreThoseOfJavasMurmur2(t *testing.T) {
	for s, want := range map[string]int32{ // of Kafka's own test
		"21": -973932308, "foobar": -790332482, "a-little-bit-long-string": -985981536,
		"a-little-bit-longer-string": -1486304829, "lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8": -58897971, "abc": 479470107,
	} {
		if got := int32(murmur2(s)); got != want {
			t.Errorf("%s: %d, want %d", s, got, want)
		}
	}
}

func TestADamagedPartIsNoPart(t *testing.T) {
	p := part{epoch: broker.Epoch{1}, w: uuid.New(), x: 7, n: 1}
	p.entries = appendEntry(p.entries, entry{"a", keep(Version{U: uuid.New(), Body: []byte("body"), Offset: 3})})
	whole := p.encode()
	for i := range whole {
		broken := append([]byte(nil), whole...)
		broken[i] ^= 1
		if _, ok := decodePart(broken); ok {
			t.Errorf("byte %d changed, and not noticed", i)
		}
		if _, ok := decodePart(whole[:i]); ok {
			t.Errorf("cut at %d, and not noticed", i)
		}
	}
}

func keep(v Version) *Kept { return (&packer{}).keep(v) }

func FuzzEntries(f *testing.F) {
	f.Add(appendEntry(nil, entry{"a", keep(Version{U: uuid.Max, Body: []byte("body"), Offset: 3})}))
	f.Add(appendEntry(nil, entry{"gone", keep(Version{U: uuid.Max, Offset: 3})}))
	f.Fuzz(func(t *testing.T, b []byte) {
		var back []byte
		whole := readEntries(b, func(id string, v Version) { back = appendEntry(back, entry{id, keep(v)}) })
		if !whole {
			return
		}
		again := map[string]string{}
		n, m := 0, 0
		readEntries(b, func(id string, v Version) {
			n++
			again[fmt.Sprint(n)] = fmt.Sprint(id, v.U, v.Offset, v.Body == nil, string(v.Body))
		})
		if !readEntries(back, func(id string, v Version) {
			m++
			if again[fmt.Sprint(m)] != fmt.Sprint(id, v.U, v.Offset, v.Body == nil, string(v.Body)) {
				t.Fatalf("entry %d came back as another", m)
			}
		}) || n != m {
			t.Fatal("what was read cannot be written and read again")
		}
	})
}

func BenchmarkApply(b *testing.B) {
	f := newFold(100_000)
	var records []broker.Record
	prev := map[string]uuid.UUID{}
	for i := range 10_000 {
		w := write{id: fmt.Sprint("owner/stream/consumer-", i%1000), u: uuid.New(), body: make([]byte, 200)}
		w.prev, prev[w.id] = prev[w.id], w.u
		m := w.message(0)
		records = append(records, broker.Record{Offset: int64(i), Key: m.Key, Value: m.Value, Headers: m.Headers})
	}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		f.apply(&records[i%len(records)])
	}
}

func TestSettledTellsOfWhatChangesNothingToo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := tabletest.New()
		table, err := New(Config{Log: log.View(1, tabletest.Faults{}), Topic: topic})
		if err != nil {
			t.Fatal(err)
		}
		var told []string
		table.Watch(func(id string, _ Version, _ bool) { told = append(told, id) })
		table.Settled(func(partition int32, next int64) { told = append(told, fmt.Sprint(partition, " ", next)) })
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- table.Run(ctx) }()
		<-table.Ready()
		if _, err := table.Put(ctx, "a", uuid.Nil, []byte("1")); err != nil {
			t.Fatal(err)
		}
		stranger := write{id: "a", u: uuid.New(), prev: uuid.New(), body: []byte("2")}
		for _, m := range []broker.Message{stranger.message(0), {Value: []byte("no write")}} {
			for _, ack := range log.Append(ctx, topic, []broker.Message{m}) {
				if ack.Err != nil {
					t.Fatal(ack.Err)
				}
			}
			synctest.Wait()
		}
		stop()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		if got, want := fmt.Sprint(told), "[0 0 a 0 1 0 2 0 3]"; got != want {
			t.Errorf("told %s, want %s", got, want)
		}
	})
}

package catalog

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"go.uber.org/goleak"

	"github.com/eventissuer/eventissuer/broker"
	"github.com/eventissuer/eventissuer/internal/keyring"
	"github.com/eventissuer/eventissuer/internal/table"
	"github.com/eventissuer/eventissuer/internal/table/tabletest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// process is one replica.
type process struct {
	*Catalog
	Editor
	log   *tabletest.View
	admin *crash
	stop  func()
}

// testKeys are what every replica seals with.
var testKeys = must(keyring.Parse([]byte("k1 MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=")))(nil)

func start(t *testing.T, log *tabletest.View) *process {
	t.Helper()
	tab, err := table.New(table.Config{Log: log, Topic: "_test.catalog"})
	if err != nil {
		t.Fatal(err)
	}
	admin := &crash{View: log, left: math.MaxInt}
	c, err := New(Config{Table: tab, Topics: admin, Partitions: 4, Keys: testKeys})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { _ = tab.Run(ctx) })
	running.Go(func() { _ = c.Run(ctx) })
	p := &process{Catalog: c, Editor: c.As(Actor{Name: "test"}), log: log, admin: admin, stop: func() { stop(); running.Wait() }}
	<-c.Ready()
	return p
}

// fleet runs n replicas on one log without faults, in a bubble.
func fleet(t *testing.T, n int, test func(t *testing.T, log *tabletest.Log, r []*process)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		log := tabletest.New()
		var replicas []*process
		for i := range n {
			p := start(t, log.View(uint64(i), tabletest.Faults{}))
			defer p.stop()
			replicas = append(replicas, p)
		}
		test(t, log, replicas)
	})
}

func must[T any](v T, err error) func(*testing.T) T {
	return func(t *testing.T) T {
		if err != nil {
			t.Helper()
			t.Fatal(err)
		}
		return v
	}
}

func wants(t *testing.T, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("got %v, want %v", err, want)
	}
}

func TestACreatedStreamCanBeLookedUpAndHasItsTopic(t *testing.T) {
	fleet(t, 2, func(t *testing.T, log *tabletest.Log, r []*process) {
		ctx := t.Context()
		s := must(r[0].CreateStream(ctx, Stream{Name: "trains", Retention: Duration(90 * 24 * time.Hour)}))(t)
		want := Stream{Name: "trains", Topic: "eventissuer.trains", Partitions: 4, Retention: Duration(90 * 24 * time.Hour), Owner: "local", Format: FormatCloudEvents}
		if diff := cmp.Diff(want, s, cmpopts.IgnoreUnexported(Stream{})); diff != "" {
			t.Fatalf("(-want +got)\n%s", diff)
		}
		synctest.Wait()
		for i, p := range r {
			if got, ok := p.Stream("trains"); !ok || got != s || got.ETag() == "" {
				t.Errorf("replica %d: %+v %v", i, got, ok)
			}
		}
		info := must(log.Describe(ctx, "eventissuer.trains"))(t)
		if info.Partitions != 4 || info.Retention != 90*24*time.Hour || info.RetentionBytes != -1 {
			t.Errorf("topic %+v", info)
		}
		_, err := r[1].CreateStream(ctx, Stream{Name: "trains"})
		wants(t, err, ErrExists)
	})
}

func TestOfRacingCreationsExactlyOneWins(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	for k := range 40 {
		synctest.Test(t, func(t *testing.T) {
			R := rand.New(rand.NewPCG(seed, uint64(k)))
			log := tabletest.New()
			var replicas []*process
			for range 3 {
				p := start(t, log.View(R.Uint64(), tabletest.Faults{Delay: 50 * time.Millisecond}))
				defer p.stop()
				replicas = append(replicas, p)
			}
			var racing sync.WaitGroup
			var mu sync.Mutex
			won := map[string]int32{}
			for i, p := range replicas {
				delay := time.Duration(R.IntN(200)) * time.Millisecond
				racing.Go(func() {
					time.Sleep(delay)
					s, err := p.CreateStream(t.Context(), Stream{Name: "s", Partitions: int32(3 + i), Description: fmt.Sprint(i)})
					mu.Lock()
					defer mu.Unlock()
					switch {
					case err == nil:
						won[s.Description] = s.Partitions
					case !errors.Is(err, ErrExists):
						t.Errorf("replica %d: %v", i, err)
					}
				})
			}
			racing.Wait()
			if len(won) != 1 {
				t.Fatalf("winners %v", won)
			}
			time.Sleep(time.Second)
			info := must(log.Describe(t.Context(), "eventissuer.s"))(t)
			for i, p := range replicas {
				if s, ok := p.Stream("s"); !ok || won[s.Description] != info.Partitions || s.Partitions != info.Partitions {
					t.Errorf("replica %d has %+v, the winner %v, the topic %d partitions", i, s, won, info.Partitions)
				}
			}
		})
	}
}

// crash is a process's way to the log's admin, which ends at some call: as far as topics go, the process is dead then.
type crash struct {
	*tabletest.View
	mu   sync.Mutex
	left int
	late bool // the call at which it dies is carried out, and its answer lost
}

var errCrash = fmt.Errorf("%w: crashed", broker.ErrUnavailable)

// set has the process go on for n calls more.
func (c *crash) set(n int, late bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.left, c.late = n, late
}

func (c *crash) step(call func() error) error {
	c.mu.Lock()
	left, late := c.left, c.late
	c.left--
	c.mu.Unlock()
	switch {
	case left > 0:
		return call()
	case left == 0 && late:
		_ = call()
	}
	return errCrash
}

func (c *crash) Create(ctx context.Context, name string, tc broker.TopicConfig) error {
	return c.step(func() error { return c.View.Create(ctx, name, tc) })
}

func (c *crash) Describe(ctx context.Context, name string) (info broker.TopicInfo, err error) {
	err = c.step(func() (err error) {
		info, err = c.View.Describe(ctx, name)
		return err
	})
	return info, err
}

func (c *crash) Delete(ctx context.Context, name string) error {
	return c.step(func() error { return c.View.Delete(ctx, name) })
}

func TestACrashAtAnyPointIsFinishedByTheNextAttempt(t *testing.T) {
	for step := range 10 {
		n, late := step/2, step%2 == 1
		fleet(t, 2, func(t *testing.T, log *tabletest.Log, r []*process) {
			ctx := t.Context()
			r[0].admin.set(n, late)
			if _, err := r[0].CreateStream(ctx, Stream{Name: "s"}); err != nil {
				wants(t, err, broker.ErrUnavailable)
				if _, ok := r[0].Stream("s"); ok {
					t.Errorf("crashed at step %d, and yet there is a stream", n)
				}
			}
			_, err := r[1].CreateStream(ctx, Stream{Name: "s"})
			if err != nil {
				wants(t, err, ErrExists)
			}
			s, ok := r[1].Stream("s")
			if !ok || s.Adopted {
				t.Fatalf("crashed at step %d: %+v %v after %v", n, s, ok, err)
			}
			must(log.Describe(ctx, s.Topic))(t)

			synctest.Wait()
			r[0].admin.set(n, late)
			if err := r[0].DeleteStream(ctx, "s", "", false); err != nil {
				wants(t, err, broker.ErrUnavailable)
			}
			synctest.Wait()
			for i, p := range r {
				if s, ok := p.Stream("s"); ok {
					t.Errorf("replica %d still finds %+v", i, s)
				}
			}
			time.Sleep(time.Hour) // the other replica finishes it by itself
			if _, err := log.Describe(ctx, s.Topic); !errors.Is(err, broker.ErrNoTopic) {
				t.Errorf("the topic is left behind: %v", err)
			}
			must(r[1].CreateStream(ctx, Stream{Name: "s"}))(t)
		})
	}
}

func TestADeletionThatWakesLateLeavesTheNextStreamsTopic(t *testing.T) {
	fleet(t, 2, func(t *testing.T, log *tabletest.Log, r []*process) {
		ctx := t.Context()
		must(r[0].CreateStream(ctx, Stream{Name: "s"}))(t)
		marked := *r[0].streams.get("s")
		if err := r[0].DeleteStream(ctx, "s", "", false); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		must(r[1].CreateStream(ctx, Stream{Name: "s"}))(t)
		marked.v.Phase = phaseDeleting
		if err := r[0].finishDeletion(ctx, &marked); !isConflict(err) {
			t.Errorf("the late deletion gave %v", err)
		}
		must(log.Describe(ctx, "eventissuer.s"))(t)
	})
}

func TestAnExistingTopicIsAdoptedWhenNamedAndLeftAloneAfterwards(t *testing.T) {
	fleet(t, 1, func(t *testing.T, log *tabletest.Log, r []*process) {
		ctx, c := t.Context(), r[0]
		if err := log.Create(ctx, "legacy", broker.TopicConfig{Partitions: 7, Retention: -1}); err != nil {
			t.Fatal(err)
		}
		if err := log.Create(ctx, "eventissuer.old", broker.TopicConfig{Partitions: 2}); err != nil {
			t.Fatal(err)
		}
		pointers(t, second(c.CreateStream(ctx, Stream{Name: "old"})), "/topic") // not without a word
		pointers(t, second(c.CreateStream(ctx, Stream{Name: "a", Topic: "legacy", Partitions: 3, Compaction: true})), "/partitions", "/compaction")
		pointers(t, second(c.CreateStream(ctx, Stream{Name: "a", Topic: "_test.catalog"})), "/topic")
		s := must(c.CreateStream(ctx, Stream{Name: "a", Topic: "legacy"}))(t)
		if !s.Adopted || s.Partitions != 7 || s.Retention.String() != "forever" {
			t.Errorf("adopted as %+v", s)
		}
		pointers(t, second(c.CreateStream(ctx, Stream{Name: "b", Topic: "legacy"})), "/topic")
		_, err := c.UpdateStream(ctx, "a", StreamPatch{Partitions: new(int32(9))}, "", false)
		wants(t, err, ErrKeyOrder)
		if err := c.DeleteStream(ctx, "a", "", false); err != nil {
			t.Fatal(err)
		}
		must(log.Describe(ctx, "legacy"))(t)
	})
}

func TestANameThatTheLogDoesNotTellApartIsRefused(t *testing.T) {
	fleet(t, 1, func(t *testing.T, _ *tabletest.Log, r []*process) {
		ctx, c := t.Context(), r[0]
		must(c.CreateStream(ctx, Stream{Name: "a.b"}))(t)
		pointers(t, second(c.CreateStream(ctx, Stream{Name: "a_b"})), "/name")
		pointers(t, second(c.CreateStream(ctx, Stream{Name: "other", Topic: "eventissuer_a.b"})), "/topic")
		must(c.CreateStream(ctx, Stream{Name: "a_b", Topic: "elsewhere"}))(t) // the name is free
	})
}

func TestAStreamGrowsUnlessThatBreaksTheOrderOfKeys(t *testing.T) {
	fleet(t, 1, func(t *testing.T, log *tabletest.Log, r []*process) {
		ctx, c := t.Context(), r[0]
		s := must(c.CreateStream(ctx, Stream{Name: "s"}))(t)
		s2 := must(c.UpdateStream(ctx, "s", StreamPatch{Partitions: new(int32(6)), Retention: new(Duration(time.Hour))}, s.ETag(), false))(t)
		if info := must(log.Describe(ctx, s.Topic))(t); info.Partitions != 6 || info.Retention != time.Hour {
			t.Errorf("topic %+v", info)
		}
		_, err := c.UpdateStream(ctx, "s", StreamPatch{Description: new("x")}, s.ETag(), false)
		wants(t, err, ErrPreconditionFailed)
		pointers(t, second(c.UpdateStream(ctx, "s", StreamPatch{Partitions: new(int32(2))}, s2.ETag(), true)), "/partitions")
		must(c.CreateEventType(ctx, EventType{Type: "a", Stream: "s"}, nil))(t)
		_, err = c.UpdateStream(ctx, "s", StreamPatch{Partitions: new(int32(8))}, "", false)
		wants(t, err, ErrKeyOrder)
		if s := must(c.UpdateStream(ctx, "s", StreamPatch{Partitions: new(int32(8))}, "*", true))(t); s.Partitions != 8 {
			t.Errorf("forced to %d partitions", s.Partitions)
		}
		_, err = c.UpdateStream(ctx, "none", StreamPatch{}, "", false)
		wants(t, err, ErrNotFound)
	})
}

func TestAStreamWithEventTypesIsKeptUnlessForced(t *testing.T) {
	fleet(t, 1, func(t *testing.T, log *tabletest.Log, r []*process) {
		ctx, c := t.Context(), r[0]
		s := must(c.CreateStream(ctx, Stream{Name: "s"}))(t)
		must(c.CreateEventType(ctx, EventType{Type: "a.*", Stream: "s"}, nil))(t)
		wants(t, c.DeleteStream(ctx, "s", "", false), ErrInUse)
		wants(t, c.DeleteStream(ctx, "s", `"other"`, true), ErrPreconditionFailed)
		if err := c.DeleteStream(ctx, "s", s.ETag(), true); err != nil {
			t.Fatal(err)
		}
		if all := c.EventTypes(); len(all) != 0 {
			t.Errorf("types are left: %v", all)
		}
		wants(t, c.DeleteStream(ctx, "s", "", true), ErrNotFound)
	})
}

func TestATypeRacingItsStreamsDeletionNeverOutlivesIt(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	both := map[bool]int{}
	for k := range 60 {
		synctest.Test(t, func(t *testing.T) {
			R := rand.New(rand.NewPCG(seed, uint64(k)))
			log := tabletest.New()
			a := start(t, log.View(R.Uint64(), tabletest.Faults{Delay: 50 * time.Millisecond}))
			defer a.stop()
			b := start(t, log.View(R.Uint64(), tabletest.Faults{Delay: 50 * time.Millisecond}))
			defer b.stop()
			must(a.CreateStream(t.Context(), Stream{Name: "s"}))(t)
			time.Sleep(time.Second)
			delay := time.Duration(R.IntN(120)) * time.Millisecond
			var racing sync.WaitGroup
			racing.Go(func() { _, _ = b.CreateEventType(t.Context(), EventType{Type: "x", Stream: "s"}, nil) })
			time.Sleep(delay)
			_ = a.DeleteStream(t.Context(), "s", "", false)
			racing.Wait()
			time.Sleep(time.Hour)
			_, stream := a.Stream("s")
			_, typ := a.EventType("x")
			if typ && !stream {
				t.Errorf("a type without its stream")
			}
			both[stream]++
		})
	}
	if both[true] == 0 || both[false] == 0 {
		t.Logf("one-sided races: %v", both)
	}
}

func TestTheLongestPatternIsFoundBehindTheExactType(t *testing.T) {
	fleet(t, 1, func(t *testing.T, _ *tabletest.Log, r []*process) {
		ctx, c := t.Context(), r[0]
		must(c.CreateStream(ctx, Stream{Name: "s"}))(t)
		for _, typ := range []string{"app.*", "app.train.*", "app.train.position", "exact"} {
			must(c.CreateEventType(ctx, EventType{Type: typ, Stream: "s"}, nil))(t)
		}
		find := func(want map[string]string) {
			t.Helper()
			for typ, w := range want {
				if got, ok := c.EventType(typ); got.Type != w || ok != (w != "") {
					t.Errorf("%q falls under %q, want %q", typ, got.Type, w)
				}
			}
		}
		find(map[string]string{
			"app.train.position": "app.train.position", "app.train.delay": "app.train.*", "app.train.a.b": "app.train.*",
			"app.bus": "app.*", "app": "", "application": "", "exact": "exact", "exact.x": "", "": "", "app.*": "app.*",
		})
		must(c.CreateEventType(ctx, EventType{Type: "*", Stream: "s"}, nil))(t)
		if err := c.DeleteEventType(ctx, "app.train.*", ""); err != nil {
			t.Fatal(err)
		}
		find(map[string]string{"app.train.delay": "app.*", "app": "*", "anything": "*"})
		if _, ok := c.Registration("app.train.delay"); ok {
			t.Error("what falls under a pattern is no registration of its own")
		}
	})
}

func TestEventTypesHonourIfMatch(t *testing.T) {
	fleet(t, 1, func(t *testing.T, _ *tabletest.Log, r []*process) {
		ctx, c := t.Context(), r[0]
		must(c.CreateStream(ctx, Stream{Name: "s"}))(t)
		a := must(c.CreateEventType(ctx, EventType{Type: "a", Stream: "s"}, nil))(t)
		if a.Owner != "local" || a.KeyAttribute != "subject" || a.Audience != Internal {
			t.Errorf("defaults: %+v", a)
		}
		_, err := c.CreateEventType(ctx, EventType{Type: "a", Stream: "s"}, nil)
		wants(t, err, ErrExists)
		b := must(c.UpdateEventType(ctx, EventType{Type: "a", Stream: "s", Description: "b"}, nil, `"x", `+a.ETag()))(t)
		if got, _ := c.EventType("a"); got.ETag() != b.ETag() || got.Description != "b" || b.ETag() == a.ETag() {
			t.Errorf("got %+v", got)
		}
		_, err = c.UpdateEventType(ctx, EventType{Type: "a", Stream: "s"}, nil, a.ETag())
		wants(t, err, ErrPreconditionFailed)
		wants(t, c.DeleteEventType(ctx, "a", a.ETag()), ErrPreconditionFailed)
		_, err = c.UpdateEventType(ctx, EventType{Type: "none", Stream: "s"}, nil, "")
		wants(t, err, ErrNotFound)
		if err := c.DeleteEventType(ctx, "a", b.ETag()); err != nil {
			t.Fatal(err)
		}
		must(c.CreateEventType(ctx, EventType{Type: "a", Stream: "s"}, nil))(t)
	})
}

func second[T any](_ T, err error) error { return err }

func third[T, U any](_ T, _ U, err error) error { return err }

// pointers checks what an *InvalidError complains of.
func pointers(t *testing.T, err error, want ...string) {
	t.Helper()
	var v *InvalidError
	if !errors.As(err, &v) {
		t.Errorf("got %v, want a complaint about %v", err, want)
		return
	}
	var got []string
	for _, p := range v.Problems {
		got = append(got, p.Pointer)
		if p.Message == "" {
			t.Errorf("%s: nothing said", p.Pointer)
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("pointers (-want +got)\n%s%v", diff, err)
	}
}

func TestWhatIsWrongIsPointedAt(t *testing.T) {
	fleet(t, 1, func(t *testing.T, log *tabletest.Log, r []*process) {
		ctx, c := t.Context(), r[0]
		must(c.CreateStream(ctx, Stream{Name: "s"}))(t)
		for _, name := range []string{"", "a/b", ".a", "_a", "a b", "å", strings.Repeat("a", 300)} {
			if err := second(c.CreateStream(ctx, Stream{Name: name, Topic: "t"})); err == nil {
				t.Errorf("a stream named %q was created", name)
			} else {
				pointers(t, err, "/name")
			}
		}
		pointers(t, second(c.CreateStream(ctx, Stream{Name: "x", Partitions: 5000, Retention: 1, Description: strings.Repeat("x", 5000)})), "/partitions", "/retention", "/description")
		for _, typ := range []string{"", "a*", "a.*.b", "**", ".*", "a b", "a/b", strings.Repeat("a", 256)} {
			if err := second(c.CreateEventType(ctx, EventType{Type: typ, Stream: "s"}, nil)); err == nil {
				t.Errorf("a type %q was created", typ)
			} else {
				pointers(t, err, "/type")
			}
		}
		pointers(t, second(c.CreateEventType(ctx, EventType{Type: "a", Stream: "none"}, nil)), "/stream")
		pointers(t, second(c.CreateEventType(ctx, EventType{Type: "a", Audience: "all", KeyAttribute: "A-b"}, nil)), "/stream", "/audience", "/keyAttribute")
		if n := len(log.Topics()); n != 3 {
			t.Errorf("topics were made for what was refused: %v", log.Topics())
		}
	})
	pointers(t, second(DecodeStream([]byte(`{"name":1,"partitions":"x","retention":"week","compaction":0,"sch/ema":{}}`))),
		"/compaction", "/name", "/partitions", "/retention", "/sch~1ema")
	pointers(t, second(DecodeStreamPatch([]byte(`{"name":"x","partitions":1.5}`))), "/name", "/partitions")
	pointers(t, third(DecodeEventType([]byte(`{"type":"a","stream":null,"audience":3}`))), "/audience")
	for _, raw := range []string{"", "null", "[]", `"x"`, `{"a":`} {
		pointers(t, second(DecodeStream([]byte(raw))), "")
	}
}

func filled(t EventType) EventType {
	t.fill("local")
	return t
}

func TestJSONIsTheOneOfTheAPI(t *testing.T) {
	s := must(DecodeStream([]byte(`{"name":"s","retention":"168h"}`)))(t)
	for want, v := range map[string]any{
		`{"name":"s","topic":"","partitions":0,"retention":"168h","compaction":false,"owner":""}`:                                      s,
		`{"type":"a","stream":"s","owner":"o","audience":"public","keyAttribute":"subject","compatibility":"backward","dedupe":"24h"}`: filled(EventType{Type: "a", Stream: "s", Owner: "o", Audience: Public, KeyAttribute: "subject"}),
		`["1h30m","5m","1m30s","forever","0s"]`: []Duration{Duration(90 * time.Minute), Duration(5 * time.Minute), Duration(90 * time.Second), -1, 0},
	} {
		if got := string(must(json.Marshal(v))(t)); got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	}
}

func TestChangesAreToldBeforeTheWriteReturns(t *testing.T) {
	fleet(t, 1, func(t *testing.T, _ *tabletest.Log, r []*process) {
		ctx, c := t.Context(), r[0]
		var told []string
		stop := c.Watch(func(ch Change) {
			if ch.Applied > 0 {
				return
			}
			name := ""
			if ch.Stream != nil {
				name = "stream " + ch.Stream.Name
				if _, ok := c.Stream(ch.Stream.Name); ok == ch.Deleted {
					t.Error("told before it could be looked up")
				}
			} else {
				name = "type " + ch.EventType.Type
			}
			told = append(told, fmt.Sprint(name, " ", ch.Deleted))
		})
		expect := func(want ...string) {
			t.Helper()
			if diff := cmp.Diff(want, told); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
			told = nil
		}
		must(c.CreateStream(ctx, Stream{Name: "s"}))(t)
		expect("stream s false")
		must(c.CreateEventType(ctx, EventType{Type: "a", Stream: "s"}, nil))(t)
		expect("type a false")
		if err := c.DeleteStream(ctx, "s", "", true); err != nil {
			t.Fatal(err)
		}
		expect("stream s true", "type a true")
		stop()
		must(c.CreateStream(ctx, Stream{Name: "s2"}))(t)
		expect()
	})
}

func TestEveryoneIsToldHowFarTheCatalogIsApplied(t *testing.T) {
	fleet(t, 2, func(t *testing.T, log *tabletest.Log, r []*process) {
		ctx := t.Context()
		told := make([][]Change, len(r))
		for i, p := range r {
			defer p.Watch(func(ch Change) {
				if told[i] = append(told[i], ch); ch.Applied != 0 && ch.Applied != p.Applied() {
					t.Errorf("replica %d is told %d, and has applied %d", i, ch.Applied, p.Applied())
				}
			})()
		}
		must(r[0].CreateStream(ctx, Stream{Name: "s"}))(t)
		if last := told[0][len(told[0])-1]; last.Applied == 0 || told[0][len(told[0])-2].Stream == nil {
			t.Errorf("the change comes last, and not how far it reaches: %+v", told[0])
		}
		// What changes nothing moves it too: nobody could wait for an offset otherwise.
		rejected := broker.Message{Key: []byte("stream/s"), Value: []byte("{}"), Headers: []broker.Header{{Key: "u", Value: []byte("6ba7b810-9dad-11d1-80b4-00c04fd430c8")}}}
		for range 3 {
			for _, ack := range log.Append(ctx, "_test.catalog", []broker.Message{rejected, {Key: []byte("no write")}}) {
				if ack.Err != nil {
					t.Fatal(ack.Err)
				}
			}
		}
		synctest.Wait()
		end := int64(len(log.Records("_test.catalog", 0)))
		for i, p := range r {
			if got := told[i][len(told[i])-1]; p.Applied() != end || got.Applied != end {
				t.Errorf("replica %d has applied %d of %d, and was told %+v", i, p.Applied(), end, got)
			}
		}
		late := start(t, log.View(9, tabletest.Faults{}))
		defer late.stop()
		if late.Applied() != end {
			t.Errorf("one that loads has applied %d of %d", late.Applied(), end)
		}
	})
}

func TestALookupAllocatesNothing(t *testing.T) {
	fleet(t, 1, func(t *testing.T, _ *tabletest.Log, r []*process) {
		c := r[0]
		must(c.CreateStream(t.Context(), Stream{Name: "s"}))(t)
		must(c.CreateEventType(t.Context(), EventType{Type: "app.*", Stream: "s"}, nil))(t)
		typ := "app.train.position.v1"
		if n := testing.AllocsPerRun(100, func() {
			if _, ok := c.EventType(typ); !ok {
				t.Error("not found")
			}
			if _, ok := c.Stream("s"); !ok {
				t.Error("not found")
			}
		}); n != 0 {
			t.Errorf("%v allocations", n)
		}
	})
}

func BenchmarkEventType(b *testing.B) {
	c := &Catalog{types: &kind[typeBody]{index: newIndex[object[typeBody]]()}, byPrefix: newIndex[object[typeBody]]()}
	types := map[string]*object[typeBody]{}
	for i := range 10_000 {
		key := fmt.Sprint("no.banenor.train.", i)
		types[key] = &object[typeBody]{key: key, v: typeBody{EventType: EventType{Type: key}}}
	}
	c.types.index.update(types)
	c.patterns.Store(1)
	c.byPrefix.update(map[string]*object[typeBody]{"app.": {v: typeBody{EventType: EventType{Type: "app.*"}}}})
	for name, typ := range map[string]string{"exact": "no.banenor.train.4711", "pattern": "app.train.position.v1", "none": "no.such.type.at.all"} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				c.EventType(typ)
			}
		})
	}
}

package catalog

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/eventissuer/eventissuer/broker"
	"github.com/eventissuer/eventissuer/internal/event"
	"github.com/eventissuer/eventissuer/internal/table/tabletest"
)

// begins is a Starts that tells of what it was asked: each stream's partition 0 begins at the number of the question.
type begins struct {
	mu    sync.Mutex
	asked []string // "<from> <stream>"
}

func (b *begins) starts(_ context.Context, streams []string, from string) (map[string]Position, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	start := map[string]Position{}
	for _, s := range streams {
		b.asked = append(b.asked, from+" "+s)
		start[s] = Position{Epoch: "e", Next: []int64{int64(len(b.asked))}}
	}
	return start, nil
}

// withStreams makes streams, and an event type "<stream>.t" of each.
func withStreams(t *testing.T, c *process, names ...string) {
	t.Helper()
	for _, name := range names {
		must(c.CreateStream(t.Context(), Stream{Name: name}))(t)
		must(c.CreateEventType(t.Context(), EventType{Type: name + ".t", Stream: name}, nil))(t)
	}
}

// wheneverBorn compares positions by where they are.
var wheneverBorn = cmpopts.IgnoreFields(Position{}, "Born")

func (p *process) subscribe(ctx context.Context, s Subscription) (Subscription, error) {
	sub, _, err := p.CreateSubscription(ctx, s, (&begins{}).starts)
	return sub, err
}

func TestASubscriptionIsTheSameOnEveryReplica(t *testing.T) {
	fleet(t, 2, func(t *testing.T, _ *tabletest.Log, r []*process) {
		ctx := t.Context()
		withStreams(t, r[0], "a", "b")
		synctest.Wait()
		sub, created, err := r[0].CreateSubscription(ctx, Subscription{Name: "billing", Streams: []string{"b", "a"}, Types: []string{"x.*"}}, (&begins{}).starts)
		if err != nil || !created {
			t.Fatal(created, err)
		}
		want := Subscription{
			ID: sub.ID, Name: "billing", Owner: "local", Streams: []string{"a", "b"}, Types: []string{"x.*"},
			Config:      SubscriptionConfig{From: "latest", Ordering: OrderingKey, AckTimeout: Duration(time.Minute), MaxUncommitted: 1000, MaxSessions: 100, MaxAttempts: 10},
			Start:       map[string]Position{"a": {Epoch: "e", Next: []int64{1}}, "b": {Epoch: "e", Next: []int64{2}}},
			Incarnation: sub.Incarnation, Revision: sub.Revision, Created: sub.Created, Changed: sub.Created,
		}
		if sub.Incarnation == "" || sub.Created.By != "test" || len(sub.ID) != 27 || sub.ID[0] != 's' {
			t.Errorf("made %+v", sub)
		}
		if err := r[1].SyncSubscription(ctx, sub.ID); err != nil {
			t.Fatal(err)
		}
		for i, p := range r {
			got, ok := p.Subscription(sub.ID)
			if diff := cmp.Diff(want, got, cmpopts.IgnoreUnexported(Subscription{}), wheneverBorn); diff != "" || !ok || got.ETag() != sub.ETag() {
				t.Errorf("replica %d: %v (-want +got)\n%s", i, ok, diff)
			}
			if all := p.Subscriptions(); len(all) != 1 || all[0].ID != sub.ID {
				t.Errorf("replica %d lists %+v", i, all)
			}
		}
	})
}

func TestTheSameSubscriptionIsMadeOnce(t *testing.T) {
	fleet(t, 1, func(t *testing.T, _ *tabletest.Log, r []*process) {
		ctx, c := t.Context(), r[0]
		withStreams(t, c, "a", "b")
		base := func() Subscription {
			return Subscription{
				Name: "n", Streams: []string{"a", "b"}, Types: []string{"x", "y*"}, Description: "d",
				Filters: json.RawMessage(`[{"exact":{"type":"x","source":"/s"}}]`), Config: SubscriptionConfig{From: "2026-01-02T03:04:05Z"},
			}
		}
		first := must(c.subscribe(ctx, base()))(t)
		unnamed := base()
		unnamed.Name = ""
		other := must(c.subscribe(ctx, unnamed))(t)
		if other.ID == first.ID {
			t.Error("with a name and without it is one")
		}
		for name, spell := range map[string]func(*Subscription){
			"again": func(*Subscription) {},
			"order": func(s *Subscription) { s.Streams, s.Types = []string{"b", "a", "b"}, []string{"y*", "x"} },
			"spelling": func(s *Subscription) {
				s.Filters = json.RawMessage(` [ {"exact": {"source":"\/s", "type":"\u0078"}} ]`)
			},
			"defaults": func(s *Subscription) { s.Config.Ordering, s.Config.MaxAttempts, s.Owner = OrderingKey, 10, "local" },
			"zone":     func(s *Subscription) { s.Config.From = "2026-01-02T04:04:05.000+01:00" },
		} {
			for _, made := range []Subscription{first, other} {
				s := base()
				s.Name = made.Name
				spell(&s)
				var b begins
				got, created, err := c.CreateSubscription(ctx, s, b.starts)
				if err != nil || created || got.ETag() != made.ETag() || b.asked != nil {
					t.Errorf("%s: %+v %v %v", name, got, created, err)
				}
			}
		}
		for name, change := range map[string]func(*Subscription){
			"streams":     func(s *Subscription) { s.Streams = []string{"a"} },
			"types":       func(s *Subscription) { s.Types = []string{"x", "y"} },
			"filters":     func(s *Subscription) { s.Filters = json.RawMessage(`[]`) },
			"config":      func(s *Subscription) { s.Config.MaxSessions = 7 },
			"from":        func(s *Subscription) { s.Config.From = FromOldest },
			"description": func(s *Subscription) { s.Description = "other" },
		} {
			s := base()
			change(&s)
			if _, err := c.subscribe(ctx, s); !errors.Is(err, ErrExists) {
				t.Errorf("%s differ: %v", name, err)
			}
			s.Name = ""
			if got := must(c.subscribe(ctx, s))(t); got.ID == other.ID {
				t.Errorf("%s differ, and yet it is the same without a name", name)
			}
		}
		s := base()
		s.Owner = "another"
		if got := must(c.subscribe(ctx, s))(t); got.ID == first.ID {
			t.Error("another owner's is the same")
		}
	})
}

func TestOfRacingCreationsOfASubscriptionAllGetTheOne(t *testing.T) {
	races(t, 40, 3, func(t *testing.T, R *rand.Rand, _ *tabletest.Log, r []*process) {
		withStreams(t, r[0], "a")
		time.Sleep(time.Second)
		var racing sync.WaitGroup
		var mu sync.Mutex
		made, lives := 0, map[string]bool{}
		for _, p := range r {
			delay := time.Duration(R.IntN(150)) * time.Millisecond
			racing.Go(func() {
				time.Sleep(delay)
				sub, created, err := p.CreateSubscription(t.Context(), Subscription{Name: "s", Streams: []string{"a"}}, (&begins{}).starts)
				mu.Lock()
				defer mu.Unlock()
				if err != nil {
					t.Error(err)
				}
				if lives[sub.Incarnation] = true; created {
					made++
				}
			})
		}
		racing.Wait()
		if made != 1 || len(lives) != 1 {
			t.Errorf("made %d times, with %d incarnations", made, len(lives))
		}
	})
}

func TestAnUpdateKeepsWhatWasRead(t *testing.T) {
	fleet(t, 1, func(t *testing.T, _ *tabletest.Log, r []*process) {
		ctx, c := t.Context(), r[0]
		withStreams(t, c, "a", "b", "c")
		var b begins
		made, _, err := c.CreateSubscription(ctx, Subscription{Name: "n", Streams: []string{"a", "b"}}, b.starts)
		if err != nil {
			t.Fatal(err)
		}
		_, err = c.UpdateSubscription(ctx, Subscription{ID: made.ID, Streams: []string{"a"}}, `"other"`, b.starts)
		wants(t, err, ErrPreconditionFailed)
		_, err = c.UpdateSubscription(ctx, Subscription{ID: "none", Streams: []string{"a"}}, "", b.starts)
		wants(t, err, ErrNotFound)
		pointers(t, second(c.UpdateSubscription(ctx, Subscription{ID: made.ID, Name: "m", Owner: "o", Streams: []string{"a"}}, "", b.starts)), "/name", "/owner")

		next := Subscription{ID: made.ID, Streams: []string{"b", "c"}, Config: SubscriptionConfig{From: FromOldest, MaxAttempts: 3}}
		changed := must(c.UpdateSubscription(ctx, next, made.ETag(), b.starts))(t)
		if diff := cmp.Diff(map[string]Position{"b": {Epoch: "e", Next: []int64{2}}, "c": {Epoch: "e", Next: []int64{3}}}, changed.Start, wheneverBorn); diff != "" {
			t.Errorf("(-want +got)\n%s", diff)
		}
		if diff := cmp.Diff([]string{"latest a", "latest b", "oldest c"}, b.asked); diff != "" {
			t.Errorf("(-want +got)\n%s", diff)
		}
		if changed.Incarnation != made.Incarnation || changed.Name != "n" || changed.Config.MaxAttempts != 3 || changed.ETag() == made.ETag() || changed.Created != made.Created {
			t.Errorf("changed to %+v", changed)
		}
		if again := must(c.UpdateSubscription(ctx, next, "", b.starts))(t); again.ETag() != changed.ETag() || len(b.asked) != 3 {
			t.Errorf("the same again is another version: %+v", again)
		}
		if _, err := c.subscribe(ctx, Subscription{Name: "n", Streams: []string{"a", "b"}}); !errors.Is(err, ErrExists) {
			t.Errorf("what was asked for first is no longer there: %v", err)
		}
	})
}

func TestAResetBeginsAnotherIncarnation(t *testing.T) {
	fleet(t, 1, func(t *testing.T, _ *tabletest.Log, r []*process) {
		ctx, c := t.Context(), r[0]
		withStreams(t, c, "a", "b")
		made := must(c.subscribe(ctx, Subscription{Streams: []string{"a", "b"}}))(t)
		at := func(names ...string) map[string]Position {
			start := map[string]Position{}
			for i, name := range names {
				start[name] = Position{Epoch: "f", Next: []int64{int64(100 + i)}}
			}
			return start
		}
		pointers(t, second(c.ResetSubscription(ctx, made.ID, at("a"), "")), "")
		pointers(t, second(c.ResetSubscription(ctx, made.ID, at("a", "b", "c"), "")), "")
		_, err := c.ResetSubscription(ctx, made.ID, at("a", "b"), `"other"`)
		wants(t, err, ErrPreconditionFailed)
		_, err = c.ResetSubscription(ctx, "none", at("a"), "")
		wants(t, err, ErrNotFound)

		reset := must(c.ResetSubscription(ctx, made.ID, at("a", "b"), made.ETag()))(t)
		if diff := cmp.Diff(at("a", "b"), reset.Start, wheneverBorn); diff != "" || reset.Incarnation == made.Incarnation || reset.ETag() == made.ETag() {
			t.Errorf("reset to %+v\n%s", reset, diff)
		}
		if got, _ := c.Subscription(made.ID); got.Incarnation != reset.Incarnation {
			t.Errorf("looked up %+v", got)
		}
		// Where a stream is gone there is no position to give.
		if err := c.DeleteStream(ctx, "b", "", true); err != nil {
			t.Fatal(err)
		}
		again := must(c.ResetSubscription(ctx, made.ID, at("a"), ""))(t)
		if diff := cmp.Diff(at("a", "b"), again.Start, wheneverBorn); diff != "" || again.Incarnation == reset.Incarnation {
			t.Errorf("reset to %+v\n%s", again, diff)
		}
	})
}

func TestEveryVersionSaysWhereAStreamsReadingWasBorn(t *testing.T) {
	fleet(t, 2, func(t *testing.T, log *tabletest.Log, r []*process) {
		ctx, c := t.Context(), r[0]
		withStreams(t, c, "a", "b")
		// end is where the last record is.
		end := func() int64 { return int64(len(log.Records("_test.catalog", 0))) - 1 }
		starts := func(_ context.Context, streams []string, _ string) (map[string]Position, error) {
			start := map[string]Position{}
			for _, s := range streams {
				start[s] = Position{Epoch: "e", Next: []int64{7}, Born: 99} // of another subscription
			}
			return start, nil
		}
		made, _, err := c.CreateSubscription(ctx, Subscription{Name: "n", Streams: []string{"a"}}, starts)
		if err != nil {
			t.Fatal(err)
		}
		check := func(s Subscription, want map[string]int64) {
			t.Helper()
			synctest.Wait()
			late := start(t, log.View(9, tabletest.Faults{}))
			defer late.stop()
			for i, p := range append(slices.Clone(r), late) {
				looked, _ := p.Subscription(s.ID)
				for name, of := range map[string]Subscription{"returned": s, "looked up": looked} {
					got := map[string]int64{}
					for stream, at := range of.Start {
						got[stream] = at.Born
					}
					if diff := cmp.Diff(want, got); diff != "" {
						t.Errorf("replica %d, %s (-want +got)\n%s", i, name, diff)
					}
				}
			}
		}
		a := end()
		check(made, map[string]int64{"a": a})
		check(must(c.PatchSubscription(ctx, made.ID, []byte(`{"description":"d"}`), "", starts))(t), map[string]int64{"a": a})
		s := must(c.PatchSubscription(ctx, made.ID, []byte(`{"streams":["a","b"]}`), "", starts))(t)
		b := end()
		check(s, map[string]int64{"a": a, "b": b})
		s = must(c.PatchSubscription(ctx, made.ID, []byte(`{"streams":["b"]}`), "", starts))(t)
		check(s, map[string]int64{"b": b})
		s = must(c.PatchSubscription(ctx, made.ID, []byte(`{"streams":["b","a"]}`), "", starts))(t)
		check(s, map[string]int64{"b": b, "a": end()})
		// An incarnation that is new is born anew, also on a stream that is gone.
		if err := c.DeleteStream(ctx, "b", "", true); err != nil {
			t.Fatal(err)
		}
		s = must(c.ResetSubscription(ctx, made.ID, map[string]Position{"a": s.Start["a"]}, ""))(t)
		check(s, map[string]int64{"a": end(), "b": end()})
	})
}

func TestADeletedSubscriptionIsAnotherWhenItIsMadeAgain(t *testing.T) {
	fleet(t, 1, func(t *testing.T, _ *tabletest.Log, r []*process) {
		ctx, c := t.Context(), r[0]
		withStreams(t, c, "a")
		made := must(c.subscribe(ctx, Subscription{Name: "n", Streams: []string{"a"}}))(t)
		wants(t, c.DeleteSubscription(ctx, made.ID, `"other"`), ErrPreconditionFailed)
		if err := c.DeleteSubscription(ctx, made.ID, made.ETag()); err != nil {
			t.Fatal(err)
		}
		if got, ok := c.Subscription(made.ID); ok {
			t.Errorf("there still is %+v", got)
		}
		wants(t, c.DeleteSubscription(ctx, made.ID, ""), ErrNotFound)
		again := must(c.subscribe(ctx, Subscription{Name: "n", Streams: []string{"a"}}))(t)
		if again.ID != made.ID || again.Incarnation == made.Incarnation {
			t.Errorf("made %+v after %+v", again, made)
		}
	})
}

func TestTypesFindTheStreamsOfASubscription(t *testing.T) {
	fleet(t, 1, func(t *testing.T, _ *tabletest.Log, r []*process) {
		ctx, c := t.Context(), r[0]
		withStreams(t, c, "a", "b", "c")
		must(c.CreateEventType(ctx, EventType{Type: "a.u", Stream: "b"}, nil))(t)
		var b begins
		made, _, err := c.CreateSubscription(ctx, Subscription{Types: []string{"a.*"}}, b.starts)
		if diff := cmp.Diff([]string{"a", "b"}, made.Streams); diff != "" || err != nil {
			t.Fatalf("%v (-want +got)\n%s", err, diff)
		}
		// What was read and is written back names no streams.
		same := must(c.UpdateSubscription(ctx, made, "", b.starts))(t)
		if same.ETag() != made.ETag() {
			t.Errorf("written back it is %+v", same)
		}
		// A stream whose type goes elsewhere still has events: it stays, and the new one comes with the next change.
		must(c.UpdateEventType(ctx, EventType{Type: "a.u", Stream: "c"}, nil, ""))(t)
		next := must(c.PatchSubscription(ctx, made.ID, []byte(`{"description":"d"}`), made.ETag(), b.starts))(t)
		if diff := cmp.Diff([]string{"a", "b", "c"}, next.Streams); diff != "" {
			t.Errorf("(-want +got)\n%s", diff)
		}
		if diff := cmp.Diff(made.Start["b"], next.Start["b"]); diff != "" || len(b.asked) != 3 {
			t.Errorf("asked %v\n%s", b.asked, diff)
		}
		// Other types, other streams.
		next = must(c.PatchSubscription(ctx, made.ID, []byte(`{"types":["c.t"]}`), "", b.starts))(t)
		if diff := cmp.Diff([]string{"c"}, next.Streams); diff != "" {
			t.Errorf("(-want +got)\n%s", diff)
		}
	})
}

// complains is pointers for one of many texts.
func complains(t *testing.T, of string, err error, want ...string) {
	t.Helper()
	var v *InvalidError
	var got []string
	if errors.As(err, &v) {
		for _, p := range v.Problems {
			got = append(got, p.Pointer)
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%.100s: %v\npointers (-want +got)\n%s", of, err, diff)
	}
}

func TestAMergePatchChangesWhatItNames(t *testing.T) {
	fleet(t, 1, func(t *testing.T, _ *tabletest.Log, r []*process) {
		ctx, c := t.Context(), r[0]
		withStreams(t, c, "a", "b")
		made := must(c.subscribe(ctx, Subscription{
			Name: "n", Description: "d", Streams: []string{"a"}, Types: []string{"a.t"}, Filters: json.RawMessage(`[{"sql":"n < 5 AND m > 3"}]`),
			Config: SubscriptionConfig{From: FromOldest, MaxAttempts: 3},
		}))(t)
		patch := func(text string) Subscription {
			t.Helper()
			return must(c.PatchSubscription(ctx, made.ID, []byte(text), "", (&begins{}).starts))(t)
		}
		s := patch(`{"name":"n","id":"` + made.ID + `","config":{"maxSessions":5}}`)
		if s.Config.MaxSessions != 5 || s.Config.MaxAttempts != 3 || s.Config.From != FromOldest || s.Description != "d" ||
			string(s.Filters) != `[{"sql":"n < 5 AND m > 3"}]` || s.Incarnation != made.Incarnation {
			t.Errorf("%+v", s)
		}
		s = patch(`{"description":null,"types":null,"filters":[{"exact":{"type":"x"}}],"streams":["b"],"config":{"maxAttempts":null}}`)
		if s.Description != "" || s.Types != nil || string(s.Filters) != `[{"exact":{"type":"x"}}]` || s.Config.MaxAttempts != 10 ||
			s.Config.MaxSessions != 5 || !slices.Equal(s.Streams, []string{"b"}) {
			t.Errorf("%+v", s)
		}
		if s = patch(`{"config":null,"filters":null}`); !cmp.Equal(s.Config, defaultConfig(false)) || s.Filters != nil {
			t.Errorf("%+v", s)
		}
		for text, want := range map[string][]string{
			`[]`: {""}, `{"name":"m"}`: {"/name"}, `{"name":null,"owner":null,"id":null}`: {"/id", "/name", "/owner"},
			`{"status":{"state":"paused"},"created":{}}`: {"/created", "/status"},
			`{"x/y":1}`:            {"/x~1y"},
			`{"sink":"https://x"}`: {"/sink"},
			`{"config":{"maxAttempts":0,"retry":{}}}`: {"/config/maxAttempts", "/config/retry"},
			`{"config":{"maxAttempts":0}}`:            {"/config/maxAttempts"},
			`{"config":{"from":{"x":null}}}`:          {"/config/from"},
			`{"config":7}`:                            {"/config"},
			`{"description":"a","description":"b"}`:   {"/description"},
			`{"streams":null}`:                        {"/streams"},
			`{"filters":{"exact":{"type":"x"}}}`:      {"/filters"},
		} {
			complains(t, text, second(c.PatchSubscription(ctx, made.ID, []byte(text), "", (&begins{}).starts)), want...)
		}
	})
}

func TestWhatIsWrongWithASubscriptionIsPointedAt(t *testing.T) {
	many := func(n int) (all []string) {
		for i := range n {
			all = append(all, fmt.Sprint("x", i))
		}
		return all
	}
	fleet(t, 1, func(t *testing.T, _ *tabletest.Log, r []*process) {
		c := r[0]
		withStreams(t, c, "a")
		for text, want := range map[string][]string{
			`{}`:                          {"/streams"},
			`{"streams":[],"types":null}`: {"/streams"},
			`{"streams":["a","none"]}`:    {"/streams/1"},
			`{"types":["a.t","none"]}`:    {"/types/1"},
			`{"streams":["a"],"types":["","` + strings.Repeat("x", 256) + `"]}`:                                                 {"/types/0", "/types/1"},
			`{"streams":["a"],"name":"a/b"}`:                                                                                    {"/name"},
			`{"streams":["a"],"id":"s"}`:                                                                                        {"/id"},
			`{"streams":["a"],"filters":{}}`:                                                                                    {"/filters"},
			`{"streams":["a"],"filters":[{"exact":{"type":"x"}},{"like":{}}]}`:                                                  {"/filters/1"},
			`{"streams":["a"],"filters":[{"exact":{"type":"x"}},{"any":[{"sql":"EXISTS a"},{"sql":"LIKE"}]}]}`:                  {"/filters/1/any/1/sql"},
			`{"streams":["a"],"filters":[` + strings.Repeat(`{"exact":{"type":"x"}},`, 1000) + `{"exact":{"type":"x"}}]}`:       {"/filters"},
			`{"streams":["a"],"filters":[{"sql":"` + strings.Repeat("x", 70_000) + `"}]}`:                                       {"/filters/0"},
			`{"streams":["a"],"config":{"from":"now","ordering":"all","ackTimeout":"1ms","maxUncommitted":0,"maxSessions":-1}}`: {"/config/ackTimeout", "/config/from", "/config/maxSessions", "/config/maxUncommitted", "/config/ordering"},
			`{"streams":["a"],"config":{"from":"","ordering":"","ackTimeout":"0s","maxAttempts":1000001}}`:                      {"/config/ackTimeout", "/config/from", "/config/maxAttempts", "/config/ordering"},
			`{"streams":["a"],"config":{"from":1,"ackTimeout":60,"maxAttempts":"3","maxSessions":1.5,"retry":{}}}`:              {"/config/ackTimeout", "/config/from", "/config/maxAttempts", "/config/maxSessions", "/config/retry"},
			`{"streams":["a"],"config":[]}`:                                                                                     {"/config"},
			`{"streams":["a"],"config":{"ackTimeout":"forever"}}`:                                                               {"/config/ackTimeout"},
			`{"streams":"a","types":[1],"name":1,"query":""}`:                                                                   {"/name", "/query", "/streams", "/types"},
			`{"streams":["a"],"protocol":"HTTP","protocolsettings":{},"sinkcredential":{},"secret":"x"}`:                        {"/protocol", "/protocolsettings", "/secret", "/sinkcredential"},
			`{"streams":["a"],"sink":"https://x","protocol":"HTTP","protocolsettings":{},"sinkcredential":{}}`:                  {"/sinkcredential/credentialtype"},
			`{"streams":["a"],"streams":["a"]}`:                                                                                 {"/streams"},
			`7`:                                                                                                                 {""},
		} {
			s, err := DecodeSubscription([]byte(text))
			if err == nil {
				_, err = c.subscribe(t.Context(), s)
			}
			complains(t, text, err, want...)
		}
		pointers(t, second(c.subscribe(t.Context(), Subscription{Streams: many(65), Types: many(65), Owner: strings.Repeat("o", 201), Description: strings.Repeat("d", 4097)})),
			"/description", "/owner", "/streams", "/types")
		if all := c.Subscriptions(); len(all) != 0 {
			t.Errorf("there are %+v", all)
		}
	})
}

func TestTypesOfTooManyStreamsAreRefused(t *testing.T) {
	fleet(t, 1, func(t *testing.T, _ *tabletest.Log, r []*process) {
		for i := range maxSubscribed + 1 {
			withStreams(t, r[0], fmt.Sprint("s", i))
		}
		pointers(t, second(r[0].subscribe(t.Context(), Subscription{Types: []string{"s*"}})), "/types")
	})
}

func TestTheFilterOfASubscriptionIsOfItsTypesAndFilters(t *testing.T) {
	fleet(t, 1, func(t *testing.T, _ *tabletest.Log, r []*process) {
		ctx, c := t.Context(), r[0]
		withStreams(t, c, "a")
		made := must(c.subscribe(ctx, Subscription{Streams: []string{"a"}, Types: []string{"x.*", "y"}, Filters: json.RawMessage(`[{"suffix":{"source":"/s"}}]`)}))(t)
		made, _ = c.Subscription(made.ID)
		f := must(made.Filter())(t)
		if again, _ := c.Subscription(made.ID); must(again.Filter())(t) != f {
			t.Error("it is compiled twice")
		}
		for text, want := range map[string]bool{
			`"type":"x.1","source":"/s"`: true, `"type":"y","source":"/a/s"`: true, `"type":"z","source":"/s"`: false, `"type":"y","source":"/t"`: false,
		} {
			e, err := event.Parse([]byte(`{"specversion":"1.0","id":"1",` + text + `}`))
			if err != nil {
				t.Fatal(err)
			}
			if got := f.Match(&e); got != want {
				t.Errorf("%s: %v", text, got)
			}
		}
		all := must(c.subscribe(ctx, Subscription{Streams: []string{"a"}, Filters: json.RawMessage(`[]`)}))(t)
		if f := must(all.Filter())(t); f != nil || all.Filters != nil {
			t.Errorf("a filter of nothing: %v %s", f.Key(), all.Filters)
		}
	})
}

func TestAStreamWithSubscriptionsIsKeptUnlessForced(t *testing.T) {
	fleet(t, 1, func(t *testing.T, _ *tabletest.Log, r []*process) {
		ctx, c := t.Context(), r[0]
		must(c.CreateStream(ctx, Stream{Name: "a"}))(t)
		must(c.CreateStream(ctx, Stream{Name: "b"}))(t)
		made := must(c.subscribe(ctx, Subscription{Name: "billing", Streams: []string{"a", "b"}}))(t)
		err := c.DeleteStream(ctx, "a", "", false)
		if wants(t, err, ErrInUse); err != nil && !strings.Contains(err.Error(), "billing") {
			t.Error(err)
		}
		if status := c.SubscriptionStatus(made); status != (SubscriptionStatus{State: SubscriptionActive}) {
			t.Errorf("%+v", status)
		}
		if err := c.DeleteStream(ctx, "a", "", true); err != nil {
			t.Fatal(err)
		}
		left, ok := c.Subscription(made.ID)
		if status := c.SubscriptionStatus(left); !ok || status.State != SubscriptionFailing || !strings.Contains(status.Reason, "stream a ") {
			t.Errorf("%v %+v", ok, status)
		}
		// The rest of it can be changed all the same, but not back to what is gone.
		left = must(c.PatchSubscription(ctx, made.ID, []byte(`{"description":"d"}`), "", (&begins{}).starts))(t)
		left = must(c.PatchSubscription(ctx, made.ID, []byte(`{"streams":["b"]}`), left.ETag(), (&begins{}).starts))(t)
		if status := c.SubscriptionStatus(left); status.State != SubscriptionActive {
			t.Errorf("%+v", status)
		}
		pointers(t, second(c.PatchSubscription(ctx, made.ID, []byte(`{"streams":["b","a"]}`), "", (&begins{}).starts)), "/streams/1")
		if err := c.DeleteSubscription(ctx, made.ID, ""); err != nil {
			t.Fatal(err)
		}
		if err := c.DeleteStream(ctx, "b", "", false); err != nil {
			t.Fatal(err)
		}
	})
}

func TestASubscriptionRacingItsStreamsDeletionNeverOutlivesIt(t *testing.T) {
	for name, subscribe := range map[string]func(context.Context, *process) error{
		"created": func(ctx context.Context, c *process) error {
			return second(c.subscribe(ctx, Subscription{Name: "n", Streams: []string{"a", "s"}}))
		},
		"changed": func(ctx context.Context, c *process) error {
			id := c.Subscriptions()[0].ID
			return second(c.PatchSubscription(ctx, id, []byte(`{"streams":["a","s"]}`), "", (&begins{}).starts))
		},
	} {
		t.Run(name, func(t *testing.T) {
			kept, gone := 0, 0
			races(t, 100, 2, func(t *testing.T, R *rand.Rand, _ *tabletest.Log, r []*process) {
				ctx := context.WithoutCancel(t.Context())
				must(r[0].CreateStream(ctx, Stream{Name: "a"}))(t)
				must(r[0].CreateStream(ctx, Stream{Name: "s"}))(t)
				if name == "changed" {
					must(r[0].subscribe(ctx, Subscription{Name: "n", Streams: []string{"a"}}))(t)
				}
				time.Sleep(time.Second)
				delay := time.Duration(R.IntN(150)) * time.Millisecond
				var racing sync.WaitGroup
				var made, deleted error
				racing.Go(func() { made = subscribe(ctx, r[1]) })
				time.Sleep(delay)
				deleted = r[0].DeleteStream(ctx, "s", "", false)
				racing.Wait()
				time.Sleep(time.Hour)
				_, there := r[0].Stream("s")
				reads := len(r[0].SubscriptionsOf("s")) > 0
				switch {
				case reads && !there:
					t.Error("a subscription without its stream")
				case reads != (made == nil):
					t.Errorf("answered %v, and yet it reads the stream: %v", made, reads)
				case there != errors.Is(deleted, ErrInUse):
					t.Errorf("the deletion answered %v, and the stream is there: %v", deleted, there)
				}
				if name == "changed" && len(r[0].Subscriptions()) != 1 {
					t.Error("the subscription is gone with its change")
				}
				if there {
					kept++
				} else {
					gone++
				}
			})
			if kept == 0 || gone == 0 {
				t.Errorf("one-sided: the subscription came first %d times, the deletion %d times", kept, gone)
			}
		})
	}
}

func TestAFailureToFindTheBeginningMakesNothing(t *testing.T) {
	fleet(t, 1, func(t *testing.T, _ *tabletest.Log, r []*process) {
		ctx, c := t.Context(), r[0]
		withStreams(t, c, "a", "b")
		fails := func(context.Context, []string, string) (map[string]Position, error) {
			return nil, broker.ErrUnavailable
		}
		_, created, err := c.CreateSubscription(ctx, Subscription{Name: "n", Streams: []string{"a"}}, fails)
		if wants(t, err, broker.ErrUnavailable); created || len(c.Subscriptions()) != 0 {
			t.Errorf("made %+v", c.Subscriptions())
		}
		made := must(c.subscribe(ctx, Subscription{Name: "n", Streams: []string{"a"}}))(t)
		_, err = c.UpdateSubscription(ctx, Subscription{ID: made.ID, Streams: []string{"a", "b"}}, "", fails)
		wants(t, err, broker.ErrUnavailable)
		if got, _ := c.Subscription(made.ID); got.ETag() != made.ETag() {
			t.Errorf("changed to %+v", got)
		}
	})
}

func TestChangesOfSubscriptionsAreToldAndAudited(t *testing.T) {
	fleet(t, 1, func(t *testing.T, _ *tabletest.Log, r []*process) {
		ctx, c := t.Context(), r[0]
		withStreams(t, c, "a")
		var told, audited []string
		stop := c.Watch(func(ch Change) {
			if ch.Subscription != "" {
				s, _ := c.Subscription(ch.Subscription)
				told = append(told, fmt.Sprint(s.Config.MaxSessions, " ", ch.Deleted))
			}
		})
		defer stop()
		c.AuditTo(auditorFunc(func(e Entry) { audited = append(audited, fmt.Sprint(e.Action, " ", e.Kind, " ", e.Name)) }))
		made := must(c.subscribe(ctx, Subscription{Name: "n", Streams: []string{"a"}}))(t)
		must(c.subscribe(ctx, Subscription{Name: "n", Streams: []string{"a"}}))(t)
		must(c.PatchSubscription(ctx, made.ID, []byte(`{"config":{"maxSessions":2}}`), "", nil))(t)
		must(c.ResetSubscription(ctx, made.ID, maps.Clone(made.Start), ""))(t)
		if err := c.DeleteSubscription(ctx, made.ID, ""); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff([]string{"100 false", "2 false", "2 false", "0 true"}, told); diff != "" {
			t.Errorf("told (-want +got)\n%s", diff)
		}
		of := " subscription " + made.ID
		if diff := cmp.Diff([]string{"created" + of, "changed" + of, "changed" + of, "deleted" + of}, audited); diff != "" {
			t.Errorf("audited (-want +got)\n%s", diff)
		}
	})
}

type auditorFunc func(Entry)

func (f auditorFunc) Record(_ context.Context, e Entry) error { f(e); return nil }

func TestASubscriptionsJSONIsTheOneOfTheAPI(t *testing.T) {
	s := must(DecodeSubscription([]byte(`{"streams":["s"],"filters":[],"config":{"ackTimeout":"90s"},"status":{},"created":{},"changed":{}}`)))(t)
	if err := s.prepare("local", nil); err != nil {
		t.Fatal(err)
	}
	s.Incarnation, s.Start = "i", map[string]Position{"s": {}}
	want := `{"owner":"local","streams":["s"],"config":{"from":"latest","ordering":"key","ackTimeout":"1m30s","maxUncommitted":1000,"maxSessions":100,"maxAttempts":10}}`
	if got := string(must(json.Marshal(s))(t)); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

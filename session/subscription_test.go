package session

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/google/go-cmp/cmp"

	"github.com/eventissuer/eventissuer/internal/fanout"
	"github.com/eventissuer/eventissuer/internal/group"
)

// definitions are the subscriptions of a test, which do not change.
type definitions map[string]group.Subscription

func (d definitions) Subscription(id string) (group.Subscription, bool) {
	s, ok := d[id]
	return s, ok
}

func (definitions) Sync(context.Context, string) error { return nil }

// subscribe makes subscriptions of a stream from its beginning.
func (s *site) subscribe(topic string, change func(*group.Subscription), ids ...string) *site {
	s.t.Helper()
	info, err := s.log.Describe(s.t.Context(), topic)
	if err != nil {
		s.t.Fatal(err)
	}
	if s.subscriptions == nil {
		s.subscriptions = definitions{}
		s.defined = s.subscriptions
	}
	for _, id := range ids {
		sub := group.Subscription{
			ID: id, Incarnation: "first-" + id, AckTimeout: time.Minute, MaxUncommitted: 100, MaxSessions: 10, MaxAttempts: 5,
			Sources: []group.Source{{
				Stream: fanout.Stream{Name: topic, Topic: topic}, Epoch: fmt.Sprintf("%x", info.Epoch[:]), Start: make([]int64, info.Partitions),
			}},
		}
		if change != nil {
			change(&sub)
		}
		s.subscriptions[id] = sub
	}
	return s
}

func (s *site) groups(ctx context.Context, running *sync.WaitGroup, hubs *fanout.Hubs) *group.Groups {
	s.t.Helper()
	log, ok := s.log.(group.Log)
	if !ok {
		s.t.Fatalf("a %T does not serve groups", s.log)
	}
	gs, err := group.New(group.Config{}, group.Deps{Log: log, Hubs: hubs, Definitions: s.defined, Redis: s.red})
	if err != nil {
		s.t.Fatal(err)
	}
	running.Go(func() { _ = gs.Run(ctx) })
	return gs
}

// event reads on to the next event, and fails at a control message but those that say what a session is fed from.
func (c *client) event() got {
	c.t.Helper()
	for {
		g := c.must()
		switch {
		case g.ID != "":
			return g
		case g.Control != "" && g.Control != "assigned" && g.Control != "waiting":
			c.t.Fatalf("%s: %s %s", c.as, g.Control, g.Data)
		}
	}
}

// control reads on to the next control message of a name.
func (c *client) control(name string) got {
	c.t.Helper()
	for {
		if g := c.must(); g.Control == name {
			return g
		}
	}
}

func (c *client) say(format string, args ...any) {
	c.t.Helper()
	if err := c.ws.Write(context.Background(), websocket.MessageText, fmt.Appendf(nil, format, args...)); err != nil {
		c.t.Fatal(err)
	}
}

// acknowledge says words, and fails unless all are taken.
func (r *replica) acknowledge(t *testing.T, id string, words ...group.Word) group.Answer {
	t.Helper()
	answer, err := r.deps.Groups.Say(t.Context(), id, words)
	if err != nil || answer.Refused > 0 {
		t.Fatalf("%+v, %v", answer, err)
	}
	return answer
}

func TestEveryTransportDeliversASubscriptionWithWhatItIsAcknowledgedBy(t *testing.T) {
	subs := []string{"sse", "ndjson", "socket", "batches", "tls"}
	s := newSite(t, subs...)
	for _, name := range subs {
		s.publish(name, 0, 6)
		s.subscribe(name, nil, name)
	}
	plain, secure := s.replica(Config{}, false), s.replica(Config{}, true)
	for i, as := range append(transports[:4:4], "sse") {
		t.Run(subs[i], func(t *testing.T) {
			r := plain
			if subs[i] == "tls" {
				r = secure
			}
			s := &site{t: t, log: s.log}
			c := r.connect(t, as, "subscription="+subs[i])
			first := c.must()
			if first.ID != "" || first.Control != "" || first.Cursor == "" {
				t.Fatalf("the first block is %+v", first)
			}
			var at string
			all := map[string]bool{}
			for range 6 {
				g := c.event()
				if want := fmt.Sprintf("%s/%d", subs[i], (g.ID[0]-'0')%2); g.Attempt != 1 || g.Group != want || g.Cursor == "" || g.Cursor == at {
					t.Errorf("event %s comes as %+v, of %s", g.ID, g, want)
				}
				at, all[g.ID] = g.Cursor, true
			}
			if len(all) != 6 {
				t.Errorf("what came is %v", all)
			}
			if a := r.acknowledge(t, subs[i], group.Word{To: at}); a.Acknowledged != 6 {
				t.Errorf("acknowledged: %+v", a)
			}
			c.close()
			again := r.connect(t, as, "subscription="+subs[i])
			s.publish(subs[i], 6, 7)
			if g := again.event(); g.ID != "6" {
				t.Errorf("after an acknowledgement of all, %+v comes", g)
			}
		})
	}
}

func TestASocketAcknowledgesAndGivesBackInBand(t *testing.T) {
	s := newSite(t, "a")
	s.publish("a", 0, 4)
	s.subscribe("a", nil, SubprotocolEvents, SubprotocolBatch)
	r := s.replica(Config{}, false)
	for _, sub := range []string{SubprotocolEvents, SubprotocolBatch} {
		t.Run(sub, func(t *testing.T) {
			c := r.connect(t, "websocket:"+sub, "subscription="+sub)
			given := []got{c.event(), c.event(), c.event(), c.event()}
			c.say(`{"ack":{"from":%q,"to":%q}}`, given[1].Cursor, given[2].Cursor)
			if g := c.control("acked"); !strings.Contains(g.Data, given[2].Cursor) {
				t.Errorf("acked tells %+v", g)
			}
			c.say(`{"nack":%q,"delay":"20ms"}`, given[0].Cursor)
			if g := c.control("nacked"); !strings.Contains(g.Data, given[0].Cursor) {
				t.Errorf("nacked tells %+v", g)
			}
			again := c.event()
			if again.ID != given[0].ID || again.Attempt != 2 {
				t.Errorf("what was given back comes as %+v", again)
			}
			c.say(`{"ack":%q}`, again.Cursor) // and all before it
			c.control("acked")
			st, err := r.deps.Groups.Stats(t.Context(), sub)
			if err != nil || st.Lag != 0 || st.Uncommitted != 0 || st.Redeliveries != 1 {
				t.Errorf("then the stats are %+v, %v", st, err)
			}
			c.say(`{"query":{"types":["x"]}}`)
			if g := c.control("problem"); !strings.Contains(g.Data, "/problems/bad-message") || !strings.Contains(g.Data, "PATCH") {
				t.Errorf("a query is answered %s", g.Data)
			}
		})
	}
}

func TestManyAcknowledgementsAtOnceAreAllAnswered(t *testing.T) {
	s := newSite(t, "a")
	s.publish("a", 0, 90)
	s.subscribe("a", nil, "many")
	r := s.replica(Config{}, false)
	c := r.connect(t, "websocket:"+SubprotocolBatch, "subscription=many")
	var cursors []string
	for range 90 {
		cursors = append(cursors, c.event().Cursor)
	}
	for _, at := range cursors {
		c.say(`{"ack":{"from":%q,"to":%q}}`, at, at)
	}
	for _, at := range cursors {
		if g := c.control("acked"); !strings.Contains(g.Data, at) {
			t.Fatalf("acked tells %s in place of %s", g.Data, at)
		}
	}
}

func TestWhatNoSessionHasToldIsRefusedInBand(t *testing.T) {
	s := newSite(t, "a")
	s.publish("a", 0, 1)
	s.subscribe("a", nil, "one", "other")
	r := s.replica(Config{}, false)
	of := r.connect(t, "sse", "subscription=other").event().Cursor
	for name, tt := range map[string]struct{ message, problem string }{
		"a cursor of another subscription": {fmt.Sprintf(`{"ack":%q}`, of), "/problems/reconnect"},
		"no cursor":                        {`{"ack":"nonsense"}`, "/problems/bad-message"},
		"half a range":                     {fmt.Sprintf(`{"nack":{"to":%q}}`, of), "from and to"},
		"two at once":                      {fmt.Sprintf(`{"ack":%q,"nack":%q}`, of, of), "send several"},
		"a delay of nothing":               {`{"delay":"1s","auth":"x"}`, "delay belongs to a nack"},
		"a delay that is none":             {fmt.Sprintf(`{"nack":%q,"delay":"soon"}`, of), "soon"},
		"an unknown member":                {`{"ok":true}`, "unknown field"},
		"nothing":                          {`{}`, "none of these members"},
	} {
		t.Run(name, func(t *testing.T) {
			c := r.connect(t, "websocket:"+SubprotocolBatch, "subscription=one")
			c.say("%s", tt.message)
			if g := c.control("problem"); !strings.Contains(g.Data, tt.problem) {
				t.Errorf("it is answered %s, which does not tell %s", g.Data, tt.problem)
			}
			if g, err := c.next(); err == nil {
				t.Errorf("the session goes on with %+v", g)
			}
		})
	}
}

func TestWithOrderingByKeyPartitionsAreDealtAndTold(t *testing.T) {
	s := newSite(t, "a")
	s.subscribe("a", func(sub *group.Subscription) { sub.Ordered = true }, "keyed")
	r := s.replica(Config{}, false)
	one := r.connect(t, "ndjson", "subscription=keyed")
	for {
		if g := one.control("assigned"); g.Data == `{"groups":["a/0","a/1"]}` {
			break
		}
	}
	two := r.connect(t, "ndjson", "subscription=keyed")
	if g := one.control("assigned"); strings.Count(g.Data, "a/") != 1 {
		t.Errorf("of two sessions the first is told %s", g.Data)
	}
	if g := two.control("assigned"); strings.Count(g.Data, "a/") != 1 {
		t.Errorf("of two sessions the second is told %s", g.Data)
	}
	three := r.connect(t, "ndjson", "subscription=keyed")
	if g := three.control("waiting"); !strings.Contains(g.Data, `"partitions"`) || !strings.Contains(g.Data, "detail") {
		t.Errorf("a third is told %s", g.Data)
	}
	one.close()
	three.control("assigned")
}

func TestWhatIsNotAcknowledgedInTimeGoesToAnother(t *testing.T) {
	s := newSite(t, "a")
	s.subscribe("a", func(sub *group.Subscription) { sub.AckTimeout, sub.MaxUncommitted = 300*time.Millisecond, 1 }, "brief")
	r := s.replica(Config{}, false)
	idle := r.connect(t, "sse", "subscription=brief")
	s.publish("a", 0, 1)
	first := idle.event()
	other := r.connect(t, "sse", "subscription=brief")
	if again := other.event(); again.ID != first.ID || again.Attempt != 2 {
		t.Errorf("the other is given %+v", again)
	}
}

func TestASubscriptionsSessionIsListedDrainedAndLeft(t *testing.T) {
	s := newSite(t, "a")
	s.publish("a", 0, 1)
	s.subscribe("a", nil, "one")
	r, other := s.replica(Config{}, false), s.replica(Config{}, false)
	for _, as := range transports {
		c := r.connect(t, as, "subscription=one")
		c.must()
		if all := r.List(10); len(all) != 1 || all[0].Subscription != "one" || all[0].Streams == nil {
			t.Errorf("%s: operators see %+v", as, all)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		if err := r.Drain(ctx); err != nil {
			t.Errorf("%s: drain: %v", as, err)
		}
		cancel()
		if g := c.control("drain"); !strings.Contains(g.Data, "retryAfter") {
			t.Errorf("%s: the drain tells %s", as, g.Data)
		}
		if g, err := c.next(); err == nil {
			t.Errorf("%s: a drained session goes on with %+v", as, g)
		}
		if status, body := get(t, r.url+"/?as=sse&subscription=one"); status != http.StatusServiceUnavailable {
			t.Errorf("a drained replica answers %d: %s", status, body)
		}
		r.Resume()
	}
	if g := other.connect(t, "sse", "subscription=one").event(); g.ID != "0" {
		t.Errorf("what nobody acknowledged comes elsewhere as %+v", g)
	}
}

func TestASessionEndsWithItsSubscription(t *testing.T) {
	s := newSite(t, "a")
	s.subscribe("a", nil, "passing")
	gone := &vanishing{definitions: s.subscriptions}
	s.defined = gone
	r := s.replica(Config{}, false)
	c := r.connect(t, "sse", "subscription=passing")
	c.must()
	gone.away()
	r.deps.Groups.Changed("passing")
	if g := c.control("problem"); !strings.Contains(g.Data, "/problems/unknown-subscription") {
		t.Errorf("the session is told %s", g.Data)
	}
	if g, err := c.next(); err == nil {
		t.Errorf("the session goes on with %+v", g)
	}
}

// vanishing are definitions that can all be deleted.
type vanishing struct {
	definitions

	mu   sync.Mutex
	gone bool // guarded by mu
}

func (v *vanishing) Subscription(id string) (group.Subscription, bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.gone {
		return group.Subscription{}, false
	}
	return v.definitions.Subscription(id)
}

func (v *vanishing) away() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.gone = true
}

// turned is a page of a subscription.
type turned struct {
	events []string // "id attempt"
	cursor string
}

func (r *replica) turn(t *testing.T, id, after string) turned {
	t.Helper()
	resp, err := insecure.Get(r.url + "/?as=page&wait&subscription=" + id + "&turned=" + after)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	var page struct{ Events []string }
	if err := json.Unmarshal(body, &page); err != nil {
		t.Fatalf("%d: %s", resp.StatusCode, body)
	}
	p := turned{cursor: resp.Header.Get("Cursor")}
	for _, text := range page.Events {
		var e struct {
			ID, Eventissuercursor, Eventissuergroup string
			Eventissuerattempt                      int
		}
		if err := json.Unmarshal([]byte(text), &e); err != nil || e.Eventissuercursor == "" || !strings.HasPrefix(e.Eventissuergroup, "a/") {
			t.Errorf("an event of a page is %s (%v)", text, err)
		}
		p.events = append(p.events, fmt.Sprintf("%s %d", e.ID, e.Eventissuerattempt))
	}
	return p
}

func TestPagesOfASubscriptionAcknowledgeTheOneBefore(t *testing.T) {
	s := newSite(t, "a")
	s.subscribe("a", nil, "pages")
	r := s.replica(Config{}, false)
	started := r.turnSoon(t, "pages")
	s.publish("a", 0, 1)
	first := <-started
	if diff := cmp.Diff([]string{"0 1"}, first.events); diff != "" {
		t.Fatal(diff)
	}
	s.publish("a", 2, 3)
	second := r.turn(t, "pages", first.cursor)
	if diff := cmp.Diff([]string{"2 1"}, second.events); diff != "" {
		t.Error(diff)
	}
	if again := r.turn(t, "pages", first.cursor); !cmp.Equal(second.events, again.events) || again.cursor != second.cursor {
		t.Errorf("the same request again gives %v, not %v", again, second)
	}
	s.publish("a", 4, 5)
	if third := r.turn(t, "pages", second.cursor); !cmp.Equal([]string{"4 1"}, third.events) {
		t.Errorf("the third page is %v", third)
	}
}

// turnSoon asks for a first page, and has begun to when its session is there.
func (r *replica) turnSoon(t *testing.T, id string) <-chan turned {
	t.Helper()
	page := make(chan turned, 1)
	go func() { page <- r.turn(t, id, "") }()
	for {
		st, err := r.deps.Groups.Stats(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		if len(st.Sessions) > 0 {
			return page
		}
	}
}

func TestAPageOfASubscriptionEndsWithADrain(t *testing.T) {
	s := newSite(t, "a")
	s.publish("a", 0, 1)
	s.subscribe("a", nil, "pages")
	r := s.replica(Config{}, false)
	first := r.turn(t, "pages", "")
	waiting := make(chan turned, 1)
	go func() { waiting <- r.turn(t, "pages", first.cursor) }()
	for r.Count() == 0 {
		runtime.Gosched() // until the request is there
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := r.Drain(ctx); err != nil {
		t.Error(err)
	}
	if page := <-waiting; page.cursor != first.cursor || page.events != nil {
		t.Errorf("the page that was waited for is %+v, after %s", page, first.cursor)
	}
}

func TestASubscriptionAdmitsNoMoreSessionsThanItSays(t *testing.T) {
	s := newSite(t, "a")
	s.subscribe("a", func(sub *group.Subscription) { sub.MaxSessions = 1 }, "one")
	r := s.replica(Config{}, false)
	r.connect(t, "sse", "subscription=one").must()
	_, err := r.deps.Groups.Open(t.Context(), "one", group.Session{})
	if limit := (*group.LimitError)(nil); !errors.As(err, &limit) || limit.Scope != "subscription" {
		t.Errorf("a second session: %v", err)
	}
	if status, _ := get(t, r.url+"/?as=sse&subscription=one"); status != http.StatusInternalServerError {
		t.Errorf("it is answered %d", status)
	}
	if n := r.Count(); n != 1 {
		t.Errorf("a session that was refused is still registered: %d", n)
	}
}

func get(t *testing.T, url string) (status int, body string) {
	t.Helper()
	resp, err := insecure.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(b)
}

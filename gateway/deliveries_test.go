package gateway

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/google/go-cmp/cmp"

	"github.com/eventissuer/eventissuer/internal/cursor"
	"github.com/eventissuer/eventissuer/internal/group"
	"github.com/eventissuer/eventissuer/session"
)

// subscribe makes a subscription of the trains from the oldest on, and gives its address. config has more members.
func (h *harness) subscribe(name, config string) string {
	h.t.Helper()
	body := fmt.Sprintf(`{"name":%q,"streams":["trains"],"config":{"from":"oldest","ordering":"none"%s}}`, name, config)
	a := h.must(h.sendJSON("POST", "/v1/subscriptions", body), http.StatusCreated)
	return strings.TrimPrefix(a.header.Get("Location"), h.server.URL)
}

func (h *harness) publishTrains(ids ...string) {
	h.t.Helper()
	for _, id := range ids {
		h.must(h.send("POST", "/v1/events", trainEvent(id, `,"subject":"`+id+`"`), "Content-Type: application/cloudevents+json"), http.StatusOK)
	}
}

// delivered is one line of NDJSON.
type delivered struct {
	Cursor  string
	Group   string
	Attempt int
	Event   struct{ ID string }
	Waiting *session.Waiting
	Problem *problemDocument
}

// lines opens a session over NDJSON and reads its first line.
func (h *harness) lines(t *testing.T, address string) (next func() delivered, end func()) {
	t.Helper()
	res, end := h.stream(t.Context(), t, address+"/events", mediaNDJSON)
	lines := bufio.NewScanner(res.Body)
	next = func() (d delivered) {
		t.Helper()
		if !lines.Scan() {
			t.Fatalf("the session ended: %v", lines.Err())
		}
		if err := json.Unmarshal(lines.Bytes(), &d); err != nil {
			t.Fatalf("%s: %v", lines.Bytes(), err)
		}
		return d
	}
	if first := next(); res.StatusCode != http.StatusOK || first.Cursor == "" || first.Event.ID != "" {
		t.Fatalf("the session begins with status %d and %+v", res.StatusCode, first)
	}
	return next, end
}

// turn asks for a page of a subscription: "id attempt" of its events, and the cursor.
func (h *harness) turn(address, query string) (events []string, at string, a answer) {
	h.t.Helper()
	a = h.must(h.send("GET", address+"/events?"+query, ""), http.StatusOK)
	var page []struct {
		ID, Eventissuercursor, Eventissuergroup string
		Eventissuerattempt                      int
	}
	a.decode(h.t, &page)
	for _, e := range page {
		if e.Eventissuercursor == "" || !strings.HasPrefix(e.Eventissuergroup, "trains/") {
			h.t.Errorf("an event of a page lacks something: %+v", e)
		}
		events = append(events, e.ID+" "+strconv.Itoa(e.Eventissuerattempt))
	}
	return events, a.header.Get("Cursor"), a
}

func (h *harness) stats(address string) (s subscriptionStats) {
	h.t.Helper()
	h.must(h.send("GET", address+"/stats", ""), http.StatusOK).decode(h.t, &s)
	return s
}

func TestWhatIsAcknowledgedIsDurableAndTheRestComesAgain(t *testing.T) {
	h := newHarness(t).withTrains()
	address := h.subscribe("board", "")
	h.publishTrains("a", "b", "c", "d")
	next, end := h.lines(t, address)
	var given []delivered
	for range 4 {
		d := next()
		if d.Attempt != 1 || !strings.HasPrefix(d.Group, "trains/") || d.Cursor == "" || d.Event.ID == "" {
			t.Errorf("a delivery is %+v", d)
		}
		given = append(given, d)
	}
	body := fmt.Sprintf(`{"ranges":[{"from":%q,"to":%q}],"nacks":[{"to":%q,"delay":"1ms"}]}`, given[1].Cursor, given[2].Cursor, given[0].Cursor)
	a := h.must(h.sendJSON("POST", address+"/cursors", body), http.StatusOK)
	if string(a.body) != `{"acknowledged":2,"returned":1}` {
		t.Errorf("it is answered %s", a.body)
	}
	again := next()
	if again.Event.ID != given[0].Event.ID || again.Attempt != 2 {
		t.Errorf("what was given back comes as %+v", again)
	}
	s := h.stats(address)
	if len(s.Sessions) != 1 || s.Sessions[0].Transport != "ndjson" || s.Uncommitted != 2 || s.Name != "board" || s.State != "active" {
		t.Errorf("the stats are %+v", s)
	}
	h.must(h.sendJSON("POST", address+"/cursors", fmt.Sprintf(`{"cursors":[%q]}`, again.Cursor)), http.StatusOK)
	if s := h.stats(address); s.Lag != 0 || s.Uncommitted != 0 || s.Redeliveries != 1 {
		t.Errorf("then the stats are %+v", s)
	}
	end()
	other, _ := h.lines(t, address)
	h.publishTrains("e")
	if d := other(); d.Event.ID != "e" {
		t.Errorf("another session is given %+v", d)
	}
}

func TestPagesOfASubscriptionAcknowledgeTheOneBeforeAndCanBeRepeated(t *testing.T) {
	h := newHarness(t).withTrains()
	address := h.subscribe("board", "")
	h.publishTrains("a")
	if a := h.send("HEAD", address+"/events", ""); a.status != http.StatusOK {
		t.Errorf("HEAD answers %d", a.status)
	}
	if s := h.stats(address); len(s.Sessions) != 0 {
		t.Errorf("looking has opened %+v", s.Sessions)
	}
	first, at, a := h.turn(address, "wait=20s")
	if diff := cmp.Diff([]string{"a 1"}, first); diff != "" {
		t.Fatal(diff)
	}
	if link := a.header.Get("Link"); !strings.Contains(link, address+"/events?after="+at) || !strings.Contains(link, "wait=20s") {
		t.Errorf("the next page is at %s", link)
	}
	h.publishTrains("b")
	second, then, _ := h.turn(address, "wait=20s&after="+at)
	repeated, same, _ := h.turn(address, "wait=20s&after="+at)
	if diff := cmp.Diff([][]string{{"b 1"}, {"b 1"}}, [][]string{second, repeated}); diff != "" || same != then {
		t.Errorf("asked twice, with %s and %s after it: %s", then, same, diff)
	}
	if none, _, _ := h.turn(address, "after="+then); none != nil {
		t.Errorf("then there is %v", none)
	}
	if s := h.stats(address); s.Lag != 0 {
		t.Errorf("all pages are acknowledged, but the lag is %d", s.Lag)
	}
}

func TestWhatIsNotAcknowledgedInTimeComesToAnotherSession(t *testing.T) {
	h := newHarness(t).withTrains()
	address := h.subscribe("board", `,"ackTimeout":"1s","maxUncommitted":1`)
	h.publishTrains("a")
	idle, _ := h.lines(t, address)
	if d := idle(); d.Attempt != 1 {
		t.Errorf("the first session is given %+v", d)
	}
	other, _ := h.lines(t, address)
	if d := other(); d.Event.ID != "a" || d.Attempt != 2 {
		t.Errorf("the other session is given %+v", d)
	}
}

func TestWhatUsesUpItsAttemptsIsADeadLetter(t *testing.T) {
	h := newHarness(t).withTrains()
	address := h.subscribe("board", `,"maxAttempts":1`)
	if a := h.must(h.send("GET", address+"/dead-letters", ""), http.StatusOK); string(a.body) != `{"items":[]}` {
		t.Errorf("at first they are %s", a.body)
	}
	h.publishTrains("a", "b")
	next, _ := h.lines(t, address)
	first, second := next(), next()
	h.must(h.sendJSON("POST", address+"/cursors", fmt.Sprintf(`{"nacks":[{"from":%q,"to":%q}]}`, first.Cursor, second.Cursor)), http.StatusOK)
	var letters list[deadLetter]
	for len(letters.Items) < 2 {
		h.must(h.send("GET", address+"/dead-letters", ""), http.StatusOK).decode(t, &letters)
	}
	for i, want := range []string{first.Event.ID, second.Event.ID} {
		if l := letters.Items[i]; l.Reason != string(group.ReasonNack) || l.Attempts != 1 || !strings.Contains(string(l.Event), `"id":"`+want+`"`) {
			t.Errorf("dead letter %d is %+v", i, l)
		}
	}
	h.must(h.send("GET", address+"/dead-letters?limit=1", ""), http.StatusOK).decode(t, &letters)
	if len(letters.Items) != 1 || letters.Next == "" {
		t.Fatalf("a page of one is %+v", letters)
	}
	at := letters.Next
	letters = list[deadLetter]{}
	h.must(h.send("GET", address+"/dead-letters?limit=1&next="+at, ""), http.StatusOK).decode(t, &letters)
	if len(letters.Items) != 1 || !strings.Contains(string(letters.Items[0].Event), `"id":"`+second.Event.ID+`"`) {
		t.Errorf("the next page is %+v", letters)
	}
}

func TestAResetNeedsQuietAndKnowsItsStreams(t *testing.T) {
	h := newHarness(t).withTrains()
	h.must(h.sendJSON("POST", "/v1/streams", `{"name":"buses","partitions":1}`), http.StatusCreated)
	address := h.subscribe("board", "")
	h.publishTrains("a", "b")
	next, end := h.lines(t, address)
	next()
	last := next()
	begin := h.stats(address).Cursor
	h.must(h.sendJSON("POST", address+"/cursors", fmt.Sprintf(`{"cursors":[%q]}`, last.Cursor)), http.StatusOK)
	reset := func(query, body string, status int) answer {
		t.Helper()
		return h.must(h.sendJSON("POST", address+":reset"+query, body), status)
	}
	if p := reset("", `{"from":"oldest"}`, http.StatusConflict).problem(t); !strings.Contains(p.Detail, "force=true") {
		t.Error(p.Detail)
	}
	var s subscriptionStats
	reset("?force=true", `{"from":"oldest"}`, http.StatusOK).decode(t, &s)
	if s.Name != "board" {
		t.Errorf("a reset answers %+v", s)
	}
	if d := next(); d.Attempt != 1 || d.Event.ID != "a" && d.Event.ID != "b" {
		t.Errorf("after a reset the session is given %+v", d)
	}
	end()
	for { // until the last member has left
		n, err := h.deps.Log.Members(t.Context(), group.ConsumerGroup(s.ID))
		if err != nil {
			t.Fatal(err)
		}
		if n == 0 {
			break
		}
	}
	reset("", `{"from":"latest"}`, http.StatusOK).decode(t, &s)
	if s.Lag != 0 {
		t.Errorf("from the latest the lag is %d", s.Lag)
	}
	reset("", fmt.Sprintf(`{"cursor":%q}`, begin), http.StatusOK).decode(t, &s)
	if s.Lag != 2 || s.Cursor != begin {
		t.Errorf("from the first cursor the lag is %d, at %s", s.Lag, s.Cursor)
	}
	buses := h.must(h.send("GET", "/v1/streams/buses", ""), http.StatusOK)
	var of streamAnswer
	buses.decode(t, &of)
	c, err := cursor.Parse(begin)
	if err != nil {
		t.Fatal(err)
	}
	c.Streams[0].Epoch++
	for name, tt := range map[string]struct {
		body   string
		status int
		kind   problemKind
	}{
		"nothing":                  {`{}`, 400, kindInvalidBody},
		"both":                     {fmt.Sprintf(`{"from":"oldest","cursor":%q}`, begin), 400, kindInvalidBody},
		"no time":                  {`{"from":"yesterday"}`, 400, kindInvalidParameter},
		"a session's cursor":       {fmt.Sprintf(`{"cursor":%q}`, last.Cursor), 400, kindInvalidCursor},
		"another stream's cursor":  {fmt.Sprintf(`{"cursor":%q}`, of.Oldest), 400, kindInvalidCursor},
		"a cursor of another life": {fmt.Sprintf(`{"cursor":%q}`, cursor.Append(nil, c)), 409, kindConflict},
	} {
		if p := reset("", tt.body, tt.status).problem(t); p.Type != problemPath+tt.kind.name {
			t.Errorf("%s: %s %s", name, p.Type, p.Detail)
		}
	}
	if p := h.must(h.sendJSON("POST", address+":reset", `{"from":"oldest"}`, `If-Match: "00000000-0000-0000-0000-000000000000"`), http.StatusPreconditionFailed).problem(t); p.Type != "/problems/precondition-failed" {
		t.Error(p.Type)
	}
}

func TestMistakesWithASubscriptionAreTold(t *testing.T) {
	h := newHarness(t).withTrains()
	address, other := h.subscribe("board", ""), h.subscribe("other", "")
	h.publishTrains("a")
	next, _ := h.lines(t, other)
	of := next().Cursor
	unknown := "/v1/subscriptions/saaaaaaaaaaaaaaaaaaaaaaaaaa"
	many := `{"cursors":["` + strings.Repeat(`x","`, saidMost) + `x"]}`
	for _, tt := range []struct {
		method, path, body string
		status             int
		kind               problemKind
		detail             string
	}{
		{"GET", unknown + "/events", "", 404, kindUnknownSubscription, "saaa"},
		{"POST", unknown + "/cursors", `{"cursors":["x"]}`, 404, kindUnknownSubscription, "saaa"},
		{"GET", unknown + "/stats", "", 404, kindUnknownSubscription, "saaa"},
		{"GET", unknown + "/dead-letters", "", 404, kindUnknownSubscription, "saaa"},
		{"POST", unknown + ":reset", `{"from":"oldest"}`, 404, kindUnknownSubscription, "saaa"},
		{"GET", address + "/events?type=train.position", "", 400, kindInvalidParameter, "definition"},
		{"GET", address + "/events?consumer=x", "", 400, kindInvalidParameter, "consumer"},
		{"GET", address + "/events?limit=1001", "", 400, kindInvalidParameter, "1000"},
		{"GET", address + "/events?after=zzz", "", 400, kindInvalidCursor, "cursor"},
		{"GET", address + "/events?after=" + of, "", 409, kindReconnect, "open the session again"},
		{"GET", address + "/dead-letters?next=x", "", 400, kindInvalidParameter, "next="},
		{"POST", address + "/cursors", `{}`, 400, kindInvalidBody, "1 to 1000"},
		{"POST", address + "/cursors", many, 400, kindInvalidBody, "1001"},
		{"POST", address + "/cursors", `{"cursor":"x"}`, 400, kindInvalidBody, `"cursor"`},
		{"POST", address + "/cursors", `{"cursors":[""]}`, 400, kindInvalidBody, "/cursors/0"},
		{"POST", address + "/cursors", `{"cursors":["nonsense"]}`, 400, kindInvalidCursor, "cursor"},
		{"POST", address + "/cursors", fmt.Sprintf(`{"ranges":[{"to":%q}]}`, of), 400, kindInvalidBody, "/ranges/0/from"},
		{"POST", address + "/cursors", fmt.Sprintf(`{"nacks":[{"to":%q,"delay":"13h"}]}`, of), 400, kindInvalidParameter, "12h"},
		{"POST", address + "/cursors", fmt.Sprintf(`{"cursors":[%q]}`, h.stats(address).Cursor), 400, kindInvalidCursor, "of a stream"},
	} {
		a := h.must(h.sendJSON(tt.method, tt.path, tt.body), tt.status)
		if p := a.problem(t); p.Type != problemPath+tt.kind.name || !strings.Contains(p.Detail, tt.detail) {
			t.Errorf("%s %s %.80s: %s %s", tt.method, tt.path, tt.body, p.Type, p.Detail)
		}
	}
	if p := h.must(h.send("GET", address+"/events?after="+of, "", "Accept: text/event-stream"), http.StatusBadRequest).problem(t); !strings.Contains(p.Detail, "acknowledges") {
		t.Errorf("after= on a stream: %s", p.Detail)
	}
	var refused struct {
		Type                            string
		Acknowledged, Returned, Refused *int
	}
	a := h.must(h.sendJSON("POST", address+"/cursors", fmt.Sprintf(`{"cursors":[%q]}`, of)), http.StatusConflict)
	a.decode(t, &refused)
	if refused.Type != "/problems/reconnect" || refused.Acknowledged == nil || refused.Returned == nil || refused.Refused == nil || *refused.Refused != 1 {
		t.Errorf("another subscription's cursor is answered %s", a.body)
	}
}

func TestASubscriptionsSessionsBeyondItsLimitAreTold(t *testing.T) {
	h := newHarness(t).withTrains()
	address := h.subscribe("board", `,"maxSessions":1`)
	h.lines(t, address)
	a := h.must(h.send("GET", address+"/events", "", "Accept: application/x-ndjson"), http.StatusTooManyRequests)
	if p := a.problem(t); p.Type != "/problems/too-many-sessions" || a.header.Get("Retry-After") == "" || !strings.Contains(p.Detail, "maxSessions") {
		t.Errorf("%s", a.body)
	}
	// A browser's EventSource gives up for good on any status but 200.
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, h.server.URL+address+"/events", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Accept", mediaSSE)
	res, err := http.DefaultTransport.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	told, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	if res.StatusCode != http.StatusOK || !strings.Contains(string(told), "retry:") || !strings.Contains(string(told), "/problems/too-many-sessions") {
		t.Errorf("an SSE client gets %d: %s", res.StatusCode, told)
	}
}

func TestDeletingASubscriptionEndsItsSessionsAndItsGroup(t *testing.T) {
	h := newHarness(t).withTrains()
	address := h.subscribe("board", "")
	h.publishTrains("a")
	next, _ := h.lines(t, address)
	next()
	h.must(h.send("DELETE", address, ""), http.StatusNoContent)
	if d := next(); d.Problem == nil || d.Problem.Type != "/problems/unknown-subscription" {
		t.Errorf("the session is told %+v", d)
	}
	id := address[strings.LastIndex(address, "/")+1:]
	commits, err := h.deps.Log.CommittedOffsets(t.Context(), group.ConsumerGroup(id), "eventissuer.trains")
	if err != nil {
		t.Fatal(err)
	}
	for p, c := range commits {
		if c.Offset >= 0 {
			t.Errorf("the group has %d committed of partition %d", c.Offset, p)
		}
	}
	// One that is made again begins anew.
	if again := h.subscribe("board", ""); again != address {
		t.Errorf("made again it is at %s", again)
	}
	events, _, _ := h.turn(address, "wait=20s")
	if diff := cmp.Diff([]string{"a 1"}, events); diff != "" {
		t.Error(diff)
	}
}

func TestASessionEndsWithTheLastStreamOfItsSubscription(t *testing.T) {
	h := newHarness(t).withTrains()
	address := h.subscribe("board", "")
	next, _ := h.lines(t, address)
	h.must(h.send("DELETE", "/v1/streams/trains?force=true", ""), http.StatusNoContent)
	for {
		if d := next(); d.Problem != nil {
			if d.Problem.Type != "/problems/unknown-stream" {
				t.Errorf("the session is told %+v", d.Problem)
			}
			break
		}
	}
	if s := h.stats(address); s.State != "failing" || !strings.Contains(s.Reason, "trains") || len(s.Partitions) != 0 {
		t.Errorf("then the stats are %+v", s)
	}
	h.must(h.send("GET", address+"/events", ""), http.StatusNotFound)
}

func TestASubscriptionsSocketTakesWordsInBand(t *testing.T) {
	h := newHarness(t).withTrains()
	address := h.subscribe("board", "")
	h.publishTrains("a")
	ws := h.dial(t, address+"/events", session.SubprotocolEvents)
	read := func() (text string, e struct{ Type, Eventissuercursor string }) {
		t.Helper()
		_, b, err := ws.Read(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(b, &e); err != nil {
			t.Fatal(err)
		}
		return string(b), e
	}
	write := func(format string, args ...any) {
		t.Helper()
		if err := ws.Write(t.Context(), websocket.MessageText, fmt.Appendf(nil, format, args...)); err != nil {
			t.Fatal(err)
		}
	}
	_, given := read()
	write(`{"ack":%q}`, given.Eventissuercursor)
	if text, e := read(); e.Type != "no.eventissuer.acked" || !strings.Contains(text, given.Eventissuercursor) {
		t.Errorf("an acknowledgement is answered %s", text)
	}
	write(`{"nack":%q,"delay":"13h"}`, given.Eventissuercursor)
	if text, e := read(); e.Type != "no.eventissuer.problem" || !strings.Contains(text, "/problems/invalid-parameter") || !strings.Contains(text, "12h") {
		t.Errorf("too long a delay is answered %s", text)
	}
	if _, _, err := ws.Read(t.Context()); websocket.CloseStatus(err) != websocket.StatusPolicyViolation {
		t.Errorf("then it is closed with %v", err)
	}
	for deadline := time.Now().Add(10 * time.Second); len(h.stats(address).Sessions) > 0; {
		if time.Now().After(deadline) {
			t.Fatal("the session that was closed is still there")
		}
	}
}

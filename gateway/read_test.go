package gateway

import (
	"bufio"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/coder/websocket"
)

func TestBadInputToReadsIsEachItsOwnProblem(t *testing.T) {
	h := newHarness(t).withTrains().withState("places")
	h.must(h.sendJSON("POST", "/v1/streams", `{"name":"planes","partitions":1}`), http.StatusCreated)
	var planes streamAnswer
	h.must(h.send("GET", "/v1/streams/planes", ""), http.StatusOK).decode(t, &planes)
	const trains = "/v1/streams/trains/events"
	damaged := "A" + strings.ToUpper(planes.Newest[1:])
	for _, tc := range []struct {
		name    string
		path    string
		headers []string
		status  int
		kind    string
	}{
		{"an unknown stream", "/v1/streams/none/events", nil, 404, "unknown-stream"},
		{"an unknown stream among several", "/v1/events?stream=trains&stream=none", nil, 404, "unknown-stream"},
		{"no stream", "/v1/events", nil, 400, "invalid-parameter"},
		{"a type that nobody registered", "/v1/events?type=none", nil, 404, "unknown-event-type"},
		{"a bad filter", trains + "?filter=" + url.QueryEscape("subject LIK 'x'"), nil, 400, "invalid-filter"},
		{"a damaged cursor", trains + "?after=" + damaged, nil, 400, "invalid-cursor"},
		{"a damaged cursor on reconnecting", trains, []string{"Last-Event-ID: nonsense"}, 400, "invalid-cursor"},
		{"another stream's cursor", trains + "?after=" + planes.Newest, nil, 400, "invalid-cursor"},
		{"a beginning without sense", trains + "?from=yesterday", nil, 400, "invalid-parameter"},
		{"a limit beyond the largest page", trains + "?limit=1001", nil, 400, "invalid-parameter"},
		{"too long a wait", trains + "?wait=61s", nil, 400, "invalid-parameter"},
		{"a parameter with a typing error", trains + "?sujbect=61", nil, 400, "invalid-parameter"},
		{"an unsupported transport", trains, []string{"Accept: text/html"}, 406, "not-acceptable"},
		{"a filter that is not escaped", trains + "?subject=a%zz", nil, 400, "invalid-parameter"},
		{"a semicolon that is not escaped", trains + "?subject=a;b", nil, 400, "invalid-parameter"},
		{"two filters", trains + "?filter=TRUE&filter=FALSE", nil, 400, "invalid-parameter"},
		{"a limit below one", trains + "?limit=-5", nil, 400, "invalid-parameter"},
		{"a wait that is none", trains + "?wait=rubbish", nil, 400, "invalid-parameter"},
		{"a bad name of a consumer", trains + "?consumer=a/b", nil, 400, "invalid-parameter"},
		{"a consumer's name that begins with a sign", trains + "?consumer=-x", nil, 400, "invalid-parameter"},
		{"a snapshot of a stream without state", trains + "?from=snapshot", nil, 409, "no-state"},
		{"a snapshot of several, one without state", "/v1/events?stream=places&stream=trains&from=snapshot", nil, 409, "no-state"},
		{"an overflow to a snapshot without state", trains + "?overflow=snapshot", nil, 409, "no-state"},
		{"another overflow", "/v1/streams/places/events?overflow=drop", nil, 400, "invalid-parameter"},
		{"a snapshot for a consumer", "/v1/streams/places/events?from=snapshot&consumer=app", nil, 400, "invalid-parameter"},
		{"too short an interval", trains + "?conflate=99ms", nil, 400, "invalid-parameter"},
		{"too long an interval", trains + "?conflate=61s", nil, 400, "invalid-parameter"},
		{"an interval that is none", trains + "?conflate=always", nil, 400, "invalid-parameter"},
		{"no interval", trains + "?conflate=0s", nil, 400, "invalid-parameter"},
		{"two intervals", trains + "?conflate=1s&conflate=2s", nil, 400, "invalid-parameter"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			h := *h
			h.t = t
			for _, accept := range []string{"", "text/event-stream"} {
				headers := tc.headers
				if accept != "" && tc.kind != "not-acceptable" {
					headers = append(headers[:len(headers):len(headers)], "Accept: "+accept)
				}
				a := h.must(h.send("GET", tc.path, "", headers...), tc.status)
				p := a.problem(t)
				if p.Type != "/problems/"+tc.kind {
					t.Errorf("the problem is %s: %s", p.Type, p.Detail)
				}
				if tc.kind == "invalid-filter" && (p.Position == nil || *p.Position < 7) {
					t.Errorf("the mistake's position is not told: %s", a.body)
				}
			}
		})
	}
	for body, kind := range map[string]string{
		`{"streams":`:         "malformed-json",
		`{"stream":"trains"}`: "invalid-body",
		`{"streams":["trains"],"filters":[{"sql":"subject LIK 'x'"}]}`: "invalid-filter",
		`{"streams":["trains"],"from":"snapshot"}`:                     "no-state",
		`{"streams":["trains"],"overflow":"snapshot"}`:                 "no-state",
		`{"streams":["places"],"overflow":"snap"}`:                     "invalid-parameter",
		`{"streams":["places"],"from":"snapshot","consumer":"app"}`:    "invalid-parameter",
		`{"streams":["trains"],"conflate":"2m"}`:                       "invalid-parameter",
		`{"streams":["trains"],"conflate":2}`:                          "invalid-body",
	} {
		a := h.sendJSON("POST", "/v1/events:query", body)
		if p := a.problem(t); p.Type != "/problems/"+kind || a.status != http.StatusBadRequest && kind != "no-state" {
			t.Errorf("%s: %s", body, a.body)
		}
	}
}

func TestQueryAsABodyTakesNoParameterInItsAddressButALinksCursor(t *testing.T) {
	h := newHarness(t).withTrains()
	for _, query := range []string{"subject=61", "after=a&subject=61", "after=a&after=b"} {
		a := h.must(h.sendJSON("POST", "/v1/streams/trains/events:query?"+query, "{}"), http.StatusBadRequest)
		if p := a.problem(t); p.Type != "/problems/invalid-parameter" {
			t.Errorf("%s: %s", query, a.body)
		}
	}
	a := h.must(h.sendJSON("POST", "/v1/streams/trains/events:query?after=a", "{}"), http.StatusBadRequest)
	if p := a.problem(t); p.Type != "/problems/invalid-cursor" {
		t.Errorf("%s", a.body)
	}
}

func TestBadHandshakeOfAWebSocketIsAProblem(t *testing.T) {
	h := newHarness(t).withTrains()
	const key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="
	for name, headers := range map[string][]string{
		"another version":       {"Connection: Upgrade", "Sec-WebSocket-Version: 12", key},
		"no version":            {"Connection: Upgrade", key},
		"no key":                {"Connection: Upgrade", "Sec-WebSocket-Version: 13"},
		"a short key":           {"Connection: Upgrade", "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: aGVp"},
		"no upgrade connection": {"Sec-WebSocket-Version: 13", key},
	} {
		a := h.must(h.send("GET", "/v1/streams/trains/events", "", append(headers, "Upgrade: websocket")...), http.StatusBadRequest)
		if p := a.problem(t); p.Type != "/problems/invalid-upgrade" {
			t.Errorf("%s: %s", name, a.body)
		}
	}
	h.must(h.send("POST", "/v1/streams/trains/events:query", "{}", "Content-Type: application/json", "Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13", key), http.StatusBadRequest).problem(t)
}

func TestMistakeInAFilterOfABodyIsPointedAt(t *testing.T) {
	h := newHarness(t).withTrains()
	a := h.must(h.sendJSON("POST", "/v1/streams/trains/events:query", `{"filters":[{"exact":{"id":"1"}},{"sql":"subject LIK 'x'"}]}`), http.StatusBadRequest)
	if p := a.problem(t); len(p.Errors) != 1 || p.Errors[0].Pointer != "/filters/1/sql" {
		t.Errorf("%s", a.body)
	}
}

func TestReadFromBeforeTheLogBeginsAtTheOldest(t *testing.T) {
	h := newHarness(t).withTrains()
	h.must(h.send("POST", "/v1/events", trainEvent("1", ""), structured), http.StatusOK)
	for _, from := range []string{"0001-01-01T00:00:00Z", "1969-12-31T23:59:59Z", "1970-01-01T00:00:00Z", "2001-01-01T00:00:00Z"} {
		var events []struct{ ID string }
		h.must(h.send("GET", "/v1/streams/trains/events?from="+from, ""), http.StatusOK).decode(t, &events)
		if len(events) != 1 {
			t.Errorf("from %s there are %d events", from, len(events))
		}
	}
}

func TestCursorOfADeletedStreamIsNotFound(t *testing.T) {
	h := newHarness(t).withTrains()
	var s streamAnswer
	h.must(h.send("GET", "/v1/streams/trains", ""), http.StatusOK).decode(t, &s)
	h.must(h.send("DELETE", "/v1/streams/trains?force=true", ""), http.StatusNoContent)
	for _, accept := range []string{"", "text/event-stream", "application/x-ndjson"} {
		a := h.must(h.send("GET", "/v1/streams/trains/events?after="+s.Newest, "", "Accept: "+accept), http.StatusNotFound)
		if p := a.problem(t); p.Type != "/problems/unknown-stream" {
			t.Errorf("%s", a.body)
		}
	}
}

func TestHeadOfAReadAnswersAtOnceAndHoldsNothing(t *testing.T) {
	h := newHarness(t).withTrains()
	a := h.must(h.send("HEAD", "/v1/streams/trains/events?wait=60s&consumer=app", "", "Accept: text/event-stream"), http.StatusOK)
	if a.header.Get("Cursor") == "" || len(a.body) != 0 {
		t.Errorf("the answer is %v", a.header)
	}
	h.must(h.send("GET", "/v1/streams/trains/consumers/app", ""), http.StatusNotFound)
	h.must(h.send("HEAD", "/v1/streams/none/events", ""), http.StatusNotFound)
}

func TestPagesAreWalkedByTheirLinks(t *testing.T) {
	h := newHarness(t).withTrains()
	for _, id := range []string{"1", "2", "3"} {
		h.must(h.send("POST", "/v1/events", trainEvent(id, `,"partitionkey":"a"`), structured), http.StatusOK)
	}
	for path, ask := range map[string]func(path string) answer{
		"/v1/streams/trains/events?from=oldest&limit=2": func(path string) answer { return h.send("GET", path, "") },
		"/v1/streams/trains/events:query": func(path string) answer {
			return h.sendJSON("POST", path, `{"from":"oldest","limit":2}`)
		},
		"/v1/events:query": func(path string) answer {
			return h.sendJSON("POST", path, `{"streams":["trains"],"from":"oldest","limit":2}`)
		},
	} {
		var ids []string
		for next := path; len(ids) < 3; {
			a := h.must(ask(next), http.StatusOK)
			var events []struct{ ID string }
			a.decode(t, &events)
			if len(events) == 0 {
				t.Fatalf("%s: a page is empty after %v", path, ids)
			}
			for _, e := range events {
				ids = append(ids, e.ID)
			}
			link, rel, ok := strings.Cut(strings.TrimPrefix(a.header.Get("Link"), "<"+h.server.URL), ">")
			if !ok || rel != `; rel="next"` || a.header.Get("Cursor") == "" {
				t.Fatalf("%s: Link is %q, Cursor is %q", path, a.header.Get("Link"), a.header.Get("Cursor"))
			}
			next = link
		}
		if got := strings.Join(ids, " "); got != "1 2 3" {
			t.Errorf("%s: %s", path, got)
		}
	}
}

func TestConnectionsBeyondTheLimitAreToldByTheirTransport(t *testing.T) {
	h := newHarness(t).withTrains()
	open := func(accept string) *http.Response {
		res, _ := h.stream(t.Context(), t, "/v1/streams/trains/events", accept)
		return res
	}
	for range 2 {
		lines := bufio.NewScanner(open("text/event-stream").Body)
		for lines.Scan() && !strings.HasPrefix(lines.Text(), "id:") {
		}
	}
	// A browser's EventSource gives up for good on any status but 200.
	sse := open("text/event-stream")
	told, err := io.ReadAll(sse.Body)
	if err != nil {
		t.Fatal(err)
	}
	if sse.StatusCode != http.StatusOK || !strings.Contains(string(told), "retry:") || !strings.Contains(string(told), "/problems/too-many-sessions") {
		t.Errorf("an SSE client gets %d: %s", sse.StatusCode, told)
	}
	a := h.must(h.send("GET", "/v1/streams/trains/events", "", "Accept: application/x-ndjson"), http.StatusTooManyRequests)
	if p := a.problem(t); p.Type != "/problems/too-many-sessions" || a.header.Get("Retry-After") == "" {
		t.Errorf("%s", a.body)
	}
	var sessions struct{ Total int }
	h.must(h.send("GET", "/v1/admin/sessions", ""), http.StatusOK).decode(t, &sessions)
	if sessions.Total != 2 {
		t.Errorf("%d sessions are listed", sessions.Total)
	}
}

func TestAConsumersNameIsOneEverywhere(t *testing.T) {
	h := newHarness(t).withTrains()
	for _, name := range []string{"a:b", "a@b", "1.x_y~z-"} {
		h.must(h.sendJSON("PUT", "/v1/streams/trains/consumers/"+name, `{"from":"oldest","reset":true}`), http.StatusOK)
		h.must(h.send("GET", "/v1/streams/trains/events?consumer="+name, ""), http.StatusOK)
	}
	for _, name := range []string{"-x", ".x", "a%20b", strings.Repeat("a", 129)} {
		put := h.must(h.sendJSON("PUT", "/v1/streams/trains/consumers/"+name, `{"from":"oldest","reset":true}`), http.StatusBadRequest)
		got := h.must(h.send("GET", "/v1/streams/trains/events?consumer="+name, "", "Accept: text/event-stream"), http.StatusBadRequest)
		if put.problem(t).Type != "/problems/invalid-parameter" || got.problem(t).Type != "/problems/invalid-parameter" {
			t.Errorf("%s: %s, %s", name, put.body, got.body)
		}
	}
}

func TestAQueryInFlightIsRefusedForWhatItCannotChange(t *testing.T) {
	h := newHarness(t).withTrains()
	for query, accepted := range map[string]bool{
		`{"types":["t"],"sources":["/s"],"subjects":["a"],"resources":["r"],"filter":"TRUE","filters":[{"exact":{"id":"1"}}]}`: true,
		`{}`:                     true,
		`{"streams":["trains"]}`: false, `{"after":"x"}`: false, `{"from":"oldest"}`: false, `{"consumer":"zz"}`: false, `{"autosave":true}`: false,
		`{"limit":1}`: false, `{"wait":"1s"}`: false, `{"heartbeat":"1s"}`: false, `{"flush":"1s"}`: false, `{"event":"type"}`: false,
		`{"conflate":"1s"}`: false, `{"overflow":"snapshot"}`: false, `{"from":"snapshot"}`: false,
	} {
		ws, _, err := websocket.Dial(t.Context(), h.server.URL+"/v1/streams/trains/events", &websocket.DialOptions{Subprotocols: []string{"eventissuer.v1"}}) //nolint:bodyclose // taken over
		if err != nil {
			t.Fatal(err)
		}
		if err := ws.Write(t.Context(), websocket.MessageText, []byte(`{"query":`+query+`}`)); err != nil {
			t.Fatal(err)
		}
		var told []byte
		for range 2 { // after the first cursor
			if _, told, err = ws.Read(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		if strings.HasPrefix(string(told), `{"queried"`) != accepted || !accepted && !strings.Contains(string(told), "in flight") {
			t.Errorf("%s was answered %s", query, told)
		}
		_ = ws.CloseNow()
	}
}

func TestPagesOfOtherOriginsMayReadAllThatAPageTells(t *testing.T) {
	h := newHarness(t, func(c *Config, _ *Deps) { c.Origins = []string{"https://app.example"} }).withTrains()
	a := h.must(h.send("GET", "/v1/streams/trains/events", "", "Origin: https://app.example"), http.StatusOK)
	for _, name := range []string{"Cursor", "Gap", "Skipped", "Stalled", "Waiting", "Drain", "Link", "Snapshot", "Removed"} {
		if !hasToken(a.header.Values("Access-Control-Expose-Headers"), name) {
			t.Errorf("%s is not exposed: %v", name, a.header.Values("Access-Control-Expose-Headers"))
		}
	}
}

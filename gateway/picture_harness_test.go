package gateway

import (
	"bufio"
	"context"
	"encoding/json"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/google/go-cmp/cmp"

	"github.com/eventissuer/eventissuer/session"
)

// withState makes compacted streams of one partition that keep a state, each with the event type of its name.
func (h *harness) withState(streams ...string) *harness {
	h.t.Helper()
	for _, name := range streams {
		h.must(h.sendJSON("POST", "/v1/streams", `{"name":"`+name+`","partitions":1,"compaction":true,"state":{}}`), http.StatusCreated)
		h.must(h.sendJSON("POST", "/v1/event-types", `{"type":"`+name+`","stream":"`+name+`"}`), http.StatusCreated)
	}
	return h
}

// put publishes events one after the other, each as subject=id or subject=id,color; subject= is a tombstone.
func (h *harness) put(stream string, events ...string) {
	h.t.Helper()
	for _, e := range events {
		subject, id, _ := strings.Cut(e, "=")
		id, color, colored := strings.Cut(id, ",")
		if id == "" {
			h.must(h.sendJSON("POST", "/v1/events:tombstone", `{"type":"`+stream+`","key":"`+subject+`"}`), http.StatusOK)
			continue
		}
		more := `,"subject":"` + subject + `"`
		if colored {
			more += `,"color":"` + color + `"`
		}
		h.must(h.send("POST", "/v1/events", `{"specversion":"1.0","id":"`+id+`","source":"/s","type":"`+stream+`"`+more+`}`, structured), http.StatusOK)
	}
}

// putSeen puts, and waits until a reader has been given it: so has the replica then.
func (h *harness) putSeen(t *testing.T, stream string, events ...string) {
	t.Helper()
	r := h.open(t, mediaNDJSON, "/v1/streams/"+stream+"/events")
	r.expect("@")
	h.put(stream, events...)
	for range events {
		message, err := r.next()
		if err != nil {
			t.Fatal(err)
		}
		r.told(message)
	}
	r.end()
}

// transports are all that a session can be read by.
var transports = []string{mediaSSE, mediaNDJSON, session.SubprotocolEvents, session.SubprotocolBatch}

// reading is a session as its client sees it.
type reading struct {
	t      *testing.T
	next   func() (message string, err error)
	told   func(message string) []string
	queue  []string
	cursor string // the last
	say    func(message string)
	end    func() // waits until the server has noticed; there must be no other
}

// sessions is how many there are.
func (h *harness) sessions(t *testing.T) int {
	t.Helper()
	var list struct{ Total int }
	h.must(h.send("GET", "/v1/admin/sessions", ""), http.StatusOK).decode(t, &list)
	return list.Total
}

// stream asks for a stream of a media type. It ends with cut, with ctx, or with the test.
func (h *harness) stream(ctx context.Context, t *testing.T, path, accept string) (res *http.Response, cut func()) {
	t.Helper()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, h.server.URL+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Accept", accept)
	if res, err = http.DefaultTransport.RoundTrip(req); err != nil {
		t.Fatal(err)
	}
	cut = func() { _ = res.Body.Close() }
	t.Cleanup(cut)
	return res, cut
}

// open opens a session on one of the transports. It ends with the test, at the latest after half a minute.
func (h *harness) open(t *testing.T, transport, path string) *reading {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	r := &reading{t: t}
	var cut func()
	r.end = func() {
		cut()
		eventually(t, "the session has ended", func() bool { return h.sessions(t) == 0 })
	}
	t.Cleanup(cancel)
	if !strings.Contains(transport, "/") {
		ws, _, err := websocket.Dial(ctx, h.server.URL+path, &websocket.DialOptions{Subprotocols: []string{transport}}) //nolint:bodyclose // taken over
		if err != nil {
			t.Fatal(err)
		}
		cut = func() { _ = ws.CloseNow() }
		t.Cleanup(cut)
		r.next = func() (string, error) {
			_, b, err := ws.Read(ctx)
			return string(b), err
		}
		r.say = func(message string) {
			if err := ws.Write(ctx, websocket.MessageText, []byte(message)); err != nil {
				t.Fatal(err)
			}
		}
		r.told = r.line
		if transport == session.SubprotocolEvents {
			r.told = r.cloudEvent
		}
		return r
	}
	var res *http.Response
	res, cut = h.stream(ctx, t, path, transport)
	if res.StatusCode != http.StatusOK {
		t.Fatalf("%s answers %s", path, res.Status)
	}
	body := bufio.NewReader(res.Body)
	r.next, r.told = func() (string, error) { return body.ReadString('\n') }, r.line
	if transport == mediaSSE {
		r.told = r.block
		r.next = func() (block string, err error) {
			for !strings.HasSuffix(block, "\n\n") && err == nil {
				var line string
				line, err = body.ReadString('\n')
				block += line
			}
			return block, err
		}
	}
	return r
}

// expect reads as many messages as there are words, and compares. A word is an event as subject=id, a control message with
// what matters in it, or nothing, and @ behind it where a cursor comes with it.
func (r *reading) expect(words ...string) {
	r.t.Helper()
	var got []string
	for len(got) < len(words) {
		for len(r.queue) == 0 {
			message, err := r.next()
			if err != nil {
				r.t.Fatalf("it ended after %q, instead of %q: %v", got, words, err)
			}
			r.queue = r.told(message)
		}
		got, r.queue = append(got, r.queue[0]), r.queue[1:]
	}
	if diff := cmp.Diff(words, got); diff != "" {
		r.t.Errorf("(-want +got)\n%s", diff)
	}
}

// word is what is told, with the cursor that came with it.
func (r *reading) word(name string, payload []byte, cursor string) string {
	var p struct {
		Stream, Subject, ID, Reason, Type string
		Keys                              int
	}
	if len(payload) > 0 {
		if err := json.Unmarshal(payload, &p); err != nil {
			r.t.Fatalf("%s: %v", payload, err)
		}
	}
	switch name {
	case "event":
		name = p.Subject + "=" + p.ID
	case "snapshot":
		name += " " + p.Stream + " " + strconv.Itoa(p.Keys)
	case "live":
		name += " " + p.Stream
	case "removed":
		name += " " + p.Stream + " " + p.Subject + "=" + p.ID + " " + p.Reason
	case "skipped":
		name += " " + p.Stream
	case "problem":
		name += " " + strings.TrimPrefix(p.Type, problemPath)
	}
	if cursor != "" {
		r.cursor = cursor
		name += "@"
	}
	return name
}

// line reads a line of NDJSON, or a message of eventissuer.v1.
func (r *reading) line(message string) (words []string) {
	var members map[string]json.RawMessage
	if err := json.Unmarshal([]byte(message), &members); err != nil {
		r.t.Fatalf("%s: %v", message, err)
	}
	var cursor string
	if text, ok := members["cursor"]; ok {
		_ = json.Unmarshal(text, &cursor)
		delete(members, "cursor")
	}
	var events []json.RawMessage
	_ = json.Unmarshal(members["events"], &events)
	for i, e := range events {
		at := ""
		if i == len(events)-1 {
			at = cursor
		}
		words = append(words, r.word("event", e, at))
	}
	delete(members, "events")
	for name, payload := range members {
		words = append(words, r.word(name, payload, cursor))
	}
	if len(words) == 0 {
		words = []string{r.word("", nil, cursor)}
	}
	return words
}

// block reads a block of Server-Sent Events.
func (r *reading) block(message string) []string {
	name, data, cursor := "", "", ""
	for line := range strings.Lines(message) {
		field, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), ": ")
		switch field {
		case "id":
			cursor = value
		case "event":
			name = value
		case "data":
			data = value
		}
	}
	if data != "" && name == "" {
		name = "event"
	}
	return []string{r.word(name, []byte(data), cursor)}
}

// cloudEvent reads a message of cloudevents.json.
func (r *reading) cloudEvent(message string) []string {
	var e struct {
		Type, EventissuerCursor string
		Data                    json.RawMessage
	}
	if err := json.Unmarshal([]byte(message), &e); err != nil {
		r.t.Fatalf("%s: %v", message, err)
	}
	name, own := strings.CutPrefix(e.Type, "no.eventissuer.")
	switch {
	case !own:
		return []string{r.word("event", []byte(message), e.EventissuerCursor)}
	case name == "cursor":
		return []string{r.word("", nil, e.EventissuerCursor)}
	}
	return []string{r.word(name, e.Data, e.EventissuerCursor)}
}

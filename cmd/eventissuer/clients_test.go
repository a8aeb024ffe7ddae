package main_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"
)

// message is what a transport brings: events, a cursor, or a control message.
type message struct {
	ids     []string
	cursor  string
	control string
	payload json.RawMessage
}

// transport reads from a server until the connection ends, and returns why. A *statusError is an answer that is no
// session. take's error ends the connection too.
type transport func(ctx context.Context, v *server, q url.Values, after string, take func(message) error) error

type statusError struct {
	status int
	body   string
}

func (e *statusError) Error() string { return fmt.Sprintf("answered %d: %s", e.status, e.body) }

// transports are all ways to read a stream.
var transports = map[string]transport{
	"sse": readSSE, "ndjson": readNDJSON, "cloudevents.json": readEvents, "eventissuer.v1": readBatches, "poll": readPages,
}

func address(v *server, q url.Values) string {
	return v.base + "/v1/streams/" + theStream + "/events?" + q.Encode()
}

// open begins a session over plain HTTP.
func open(ctx context.Context, v *server, q url.Values, accept, lastEventID string) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address(v, q), nil)
	if err != nil {
		return nil, err
	}
	if accept != "" {
		req.Header.Set("Accept", accept)
	}
	if lastEventID != "" {
		req.Header.Set("Last-Event-ID", lastEventID)
	}
	resp, err := v.client.Do(req)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		body, _ := io.ReadAll(io.LimitReader(resp.Body, 4<<10))
		_ = resp.Body.Close()
		return nil, &statusError{resp.StatusCode, string(body)}
	}
	return resp, nil
}

func readSSE(ctx context.Context, v *server, q url.Values, after string, take func(message) error) error {
	resp, err := open(ctx, v, q, "text/event-stream", after)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	if got := resp.Header.Get("Content-Type"); got != "text/event-stream" {
		return fmt.Errorf("the Content-Type of an event stream is %q", got)
	}
	lines := bufio.NewReader(resp.Body)
	var m message
	for {
		line, err := lines.ReadBytes('\n')
		if err != nil {
			return err // what came of an unfinished block does not count
		}
		name, value, _ := strings.Cut(strings.TrimSuffix(string(line), "\n"), ": ")
		switch name {
		case "":
			if m.control == "" && m.payload != nil {
				var e struct{ ID string }
				if err := json.Unmarshal(m.payload, &e); err != nil {
					return fmt.Errorf("%w in %s", err, m.payload)
				}
				m.ids = []string{e.ID}
			}
			if err := take(m); err != nil {
				return err
			}
			m = message{}
		case "id":
			m.cursor = value
		case "event":
			m.control = value
		case "data":
			m.payload = json.RawMessage(value)
		case "retry":
		default:
			return fmt.Errorf("no line of an event stream: %q", line)
		}
	}
}

func withAfter(q url.Values, after string) url.Values {
	if after == "" {
		return q
	}
	with := url.Values{"after": {after}}
	for name, values := range q {
		with[name] = values
	}
	return with
}

func readNDJSON(ctx context.Context, v *server, q url.Values, after string, take func(message) error) error {
	resp, err := open(ctx, v, withAfter(q, after), "application/x-ndjson", "")
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	lines := bufio.NewReader(resp.Body)
	for {
		line, err := lines.ReadBytes('\n')
		if err != nil {
			return err
		}
		m, err := controlOf(line)
		if err != nil {
			return err
		}
		if event, ok := m.fields["event"]; ok {
			var e struct{ ID string }
			if err := json.Unmarshal(event, &e); err != nil {
				return err
			}
			m.ids, m.control, m.payload = []string{e.ID}, "", nil
		}
		if err := take(m.message); err != nil {
			return err
		}
	}
}

type fielded struct {
	message
	fields map[string]json.RawMessage
}

// controlOf reads an object {"cursor":…,"<name>":{…}}.
func controlOf(line []byte) (fielded, error) {
	var f fielded
	if err := json.Unmarshal(line, &f.fields); err != nil {
		return f, fmt.Errorf("%w in %q", err, line)
	}
	for name, value := range f.fields {
		if name != "cursor" {
			f.control, f.payload = name, value
		} else if err := json.Unmarshal(value, &f.cursor); err != nil {
			return f, err
		}
	}
	return f, nil
}

// dial opens a WebSocket. Idle connections of the upgrade's client are closed with it.
func dial(ctx context.Context, v *server, q url.Values, after, subprotocol string) (*websocket.Conn, error) {
	ws, resp, err := websocket.Dial(ctx, address(v, withAfter(q, after)), &websocket.DialOptions{
		HTTPClient: v.client, Subprotocols: []string{subprotocol},
	})
	if err != nil {
		if resp != nil && resp.StatusCode != http.StatusSwitchingProtocols && resp.StatusCode != 0 {
			body, _ := io.ReadAll(io.LimitReader(resp.Body, 4<<10))
			return nil, &statusError{resp.StatusCode, string(body)}
		}
		return nil, err
	}
	if got := ws.Subprotocol(); got != subprotocol {
		return nil, errors.Join(fmt.Errorf("subprotocol %q, want %q", got, subprotocol), ws.CloseNow())
	}
	ws.SetReadLimit(64 << 20)
	return ws, nil
}

func readEvents(ctx context.Context, v *server, q url.Values, after string, take func(message) error) error {
	ws, err := dial(ctx, v, q, after, "cloudevents.json")
	if err != nil {
		return err
	}
	defer func() { _ = ws.CloseNow() }()
	for {
		_, b, err := ws.Read(ctx)
		if err != nil {
			return err
		}
		m, err := eventMessage(b)
		if err == nil {
			err = take(m)
		}
		if err != nil {
			return err
		}
	}
}

// eventMessage reads a message of the subprotocol cloudevents.json.
func eventMessage(b []byte) (message, error) {
	var e struct {
		SpecVersion, ID, Type, Source, EventIssuerCursor string
		Data                                             json.RawMessage
	}
	if err := json.Unmarshal(b, &e); err != nil {
		return message{}, fmt.Errorf("%w in %q", err, b)
	}
	if e.SpecVersion != "1.0" || e.ID == "" || e.Source == "" || e.Type == "" {
		return message{}, fmt.Errorf("no CloudEvent: %s", b)
	}
	m := message{cursor: e.EventIssuerCursor}
	switch name, control := strings.CutPrefix(e.Type, "no.eventissuer."); {
	case !control:
		m.ids = []string{e.ID}
	case name != "cursor":
		m.control, m.payload = name, e.Data
	}
	return m, nil
}

func readBatches(ctx context.Context, v *server, q url.Values, after string, take func(message) error) error {
	ws, err := dial(ctx, v, q, after, "eventissuer.v1")
	if err != nil {
		return err
	}
	defer func() { _ = ws.CloseNow() }()
	for {
		_, b, err := ws.Read(ctx)
		if err != nil {
			return err
		}
		m, err := batchMessage(b)
		if err == nil {
			err = take(m)
		}
		if err != nil {
			return err
		}
	}
}

// batchMessage reads a message of the subprotocol eventissuer.v1.
func batchMessage(b []byte) (message, error) {
	m, err := controlOf(b)
	if err != nil {
		return message{}, err
	}
	if m.control == "events" {
		var events []struct{ ID string }
		if err := json.Unmarshal(m.payload, &events); err != nil {
			return message{}, err
		}
		m.control, m.payload = "", nil
		for _, e := range events {
			m.ids = append(m.ids, e.ID)
		}
	}
	return m.message, nil
}

// readPages is one long-poll after the other, until one fails.
func readPages(ctx context.Context, v *server, q url.Values, after string, take func(message) error) error {
	q = withAfter(q, "")
	with := url.Values{"wait": {"2s"}, "limit": {"50"}}
	for name, values := range q {
		if name != "heartbeat" {
			with[name] = values
		}
	}
	for {
		resp, err := open(ctx, v, withAfter(with, after), "", "")
		if err != nil {
			return err
		}
		body, err := io.ReadAll(resp.Body)
		if err = errors.Join(err, resp.Body.Close()); err != nil {
			return err
		}
		m := message{cursor: resp.Header.Get("Cursor")}
		if m.cursor == "" || !strings.Contains(resp.Header.Get("Link"), `rel="next"`) {
			return fmt.Errorf("a page without a cursor or link: %v", resp.Header)
		}
		if gap := resp.Header.Get("Gap"); gap != "" {
			m.control, m.payload = "gap", json.RawMessage(gap)
		}
		var events []struct{ ID string }
		if err := json.Unmarshal(body, &events); err != nil {
			return fmt.Errorf("%w in a page: %s", err, body)
		}
		for _, e := range events {
			m.ids = append(m.ids, e.ID)
		}
		if err := take(m); err != nil {
			return err
		}
		after = m.cursor
	}
}

// client reads a stream over one transport and reconnects with its last cursor, to the next server, whenever the
// connection ends. It remembers all it got.
type client struct {
	name    string
	servers []*server
	over    string
	read    transport
	wants   selection
	query   url.Values
	first   int // the server to begin with

	mu          sync.Mutex
	connections []*connection  // guarded by mu
	controls    map[string]int // guarded by mu
	last        string         // guarded by mu: the newest cursor
	at          []int64        // guarded by mu: its position
	err         error          // guarded by mu: why it gave up
}

// connection is what came over one connection.
type connection struct {
	server    int
	presented []int64 // nil: none
	messages  []received
	ended     error
}

type received struct {
	ids []string
	at  []int64 // nil: none came with it
}

func newClient(name, over string, wants selection, consumer string, first int, servers ...*server) *client {
	q := withAfter(wants.query, "")
	c := &client{name: name, servers: servers, over: over, read: transports[over], wants: wants, first: first, controls: map[string]int{}}
	c.query = url.Values{"heartbeat": {"1s"}}
	for name, values := range q {
		c.query[name] = values
	}
	if consumer != "" {
		c.query.Set("consumer", consumer)
	}
	return c
}

// run reads until ctx ends, or an answer is final.
func (c *client) run(ctx context.Context, t testing.TB) {
	for at := c.first; ctx.Err() == nil; at++ {
		v := c.servers[at%len(c.servers)]
		c.mu.Lock()
		after := c.last
		conn := &connection{server: at % len(c.servers)}
		if after != "" {
			conn.presented = c.at
		}
		c.connections = append(c.connections, conn)
		c.mu.Unlock()
		err := c.read(ctx, v, c.query, after, func(m message) error { return c.take(t, conn, m) })
		c.mu.Lock()
		conn.ended = err
		var status *statusError
		if errors.As(err, &status) && status.status != http.StatusServiceUnavailable || errors.Is(err, errUnexpected) {
			c.err = err
		}
		final := c.err != nil
		c.mu.Unlock()
		if final {
			return
		}
		select {
		case <-ctx.Done():
		case <-time.After(20 * time.Millisecond): // a client's manners
		}
	}
}

var errUnexpected = errors.New("unexpected")

func (c *client) take(t testing.TB, conn *connection, m message) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	r := received{ids: m.ids}
	if m.cursor != "" {
		r.at = positionOf(t, m.cursor)
		c.last, c.at = m.cursor, r.at
	}
	conn.messages = append(conn.messages, r)
	if m.control != "" {
		c.controls[m.control]++
		switch m.control {
		case "drain", "stalled", "resumed", "acked":
		case "problem":
			var problem struct{ Status int }
			if json.Unmarshal(m.payload, &problem) == nil && problem.Status == http.StatusServiceUnavailable {
				return nil // an event stream can only be told in band to come back
			}
			return fmt.Errorf("%w problem: %s", errUnexpected, m.payload)
		default:
			return fmt.Errorf("%w control message %s: %s", errUnexpected, m.control, m.payload)
		}
	}
	return nil
}

// polls reports whether the client asks for pages: it has then no session that could be told anything.
func (c *client) polls() bool { return c.over == "poll" }

func (c *client) failed() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// liveOn reports whether the newest connection is to the server and has begun.
func (c *client) liveOn(server int) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.connections) == 0 {
		return false
	}
	conn := c.connections[len(c.connections)-1]
	return conn.server == server && len(conn.messages) > 0
}

func (c *client) reached(end []int64) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at != nil && reached(c.at, end)
}

// check compares all that came with what the stream holds: on every connection each event that the client wants, from
// where it came back, in the order of each partition, none missing, none twice, and no cursor ahead of what was
// delivered; and on all connections together no event missing that followed the first cursor.
func (c *client) check(j *journal) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return fmt.Errorf("%s gave up: %w", c.name, c.err)
	}
	var w *walk
	for i, conn := range c.connections {
		if len(conn.messages) == 0 {
			continue
		}
		start := conn.presented
		if start == nil { // the first message of every session is the cursor alone; a page has events with it
			if start = conn.messages[0].at; start == nil || len(conn.messages[0].ids) > 0 && w != nil {
				return fmt.Errorf("%s: connection %d begins without a cursor", c.name, i)
			}
			if len(conn.messages[0].ids) > 0 {
				start = make([]int64, len(j.ends)) // a page from latest: what it begins with is checked by the pages after
				for p := range start {
					start[p] = conn.messages[0].at[p]
				}
				conn.messages = conn.messages[1:]
			}
		}
		if w != nil && !bytes.Equal(fmt.Append(nil, w.at), fmt.Append(nil, j.walk(c.wants, start).at)) {
			return fmt.Errorf("%s: connection %d presented %v after standing at %v", c.name, i, start, w.at)
		}
		w = j.walk(c.wants, start)
		for k, m := range conn.messages {
			for _, id := range m.ids {
				if err := w.event(id); err != nil {
					return fmt.Errorf("%s: connection %d, message %d: %w", c.name, i, k, err)
				}
			}
			if m.at == nil {
				continue
			}
			if err := w.cursor(m.at); err != nil {
				return fmt.Errorf("%s: connection %d, message %d: %w", c.name, i, k, err)
			}
		}
	}
	if w == nil {
		return fmt.Errorf("%s was never served", c.name)
	}
	if err := w.complete(); err != nil {
		return fmt.Errorf("%s: %w", c.name, err)
	}
	return nil
}

// crowd is many clients at once.
type crowd struct {
	clients []*client
	stop    context.CancelFunc
	done    sync.WaitGroup
}

// gather starts clients; they are stopped when the test is done.
func gather(t *testing.T, clients []*client) *crowd {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	g := &crowd{clients: clients, stop: stop}
	for _, c := range clients {
		g.done.Go(func() { c.run(ctx, t) })
	}
	t.Cleanup(g.end)
	return g
}

// end stops the clients and waits for them. It may be called twice.
func (g *crowd) end() {
	g.stop()
	g.done.Wait()
}

// all waits until cond holds for every client.
func (g *crowd) all(t *testing.T, what string, cond func(c *client) bool) {
	t.Helper()
	left := append([]*client(nil), g.clients...)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	late := time.After(patience)
	for {
		rest := left[:0]
		for _, c := range left {
			if err := c.failed(); err != nil {
				t.Fatalf("%s gave up while all should be %s: %v", c.name, what, err)
			}
			if !cond(c) {
				rest = append(rest, c)
			}
		}
		if left = rest; len(left) == 0 {
			return
		}
		select {
		case <-tick.C:
		case <-late:
			c := left[0]
			c.mu.Lock()
			defer c.mu.Unlock()
			conn := c.connections[len(c.connections)-1]
			t.Fatalf("waited %s in vain for %d clients to be %s; %s stands at %v, on connection %d to server %d with %d messages, the one before ended with %v",
				patience, len(left), what, c.name, c.at, len(c.connections), conn.server, len(conn.messages), c.connections[max(0, len(c.connections)-2)].ended)
		}
	}
}

// verify finishes the publishing, waits until everybody has all of it, and compares.
func (g *crowd) verify(t *testing.T, p *publisher, through *server) *journal {
	t.Helper()
	p.finish()
	j := readJournal(t, through)
	j.holds(t, p.acks)
	g.all(t, "at the end of the stream", func(c *client) bool { return c.reached(j.ends) })
	g.end()
	bad := 0
	for _, c := range g.clients {
		if err := c.check(j); err != nil {
			if bad++; bad <= 10 {
				t.Error(err)
			}
		}
	}
	if bad > 0 {
		t.Errorf("%d of %d clients did not get what they should", bad, len(g.clients))
	}
	return j
}

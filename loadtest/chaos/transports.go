package chaos

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strings"

	"github.com/coder/websocket"
)

const (
	overSSE    = "sse"
	overNDJSON = "ndjson"
	overEvents = "cloudevents.json"
	overBatch  = "eventissuer.v1"
	overPages  = "poll"
)

// overAll are all ways to read, in the order in which they are dealt out.
var overAll = []string{overSSE, overNDJSON, overBatch, overEvents, overPages}

// largestMessage bounds what a client takes at once: more than a page, and than a WebSocket's batch.
const largestMessage = 32 << 20

// message is what comes at once: events, a cursor, or a control message.
type message struct {
	events  []arrival
	cursor  string
	control string
	payload json.RawMessage
}

// errUnexpected is of what no client should ever be given.
var errUnexpected = errors.New("unexpected")

// statusError is an answer that is no session.
type statusError struct {
	status int
	body   string
}

func (e *statusError) Error() string { return fmt.Sprintf("answered %d: %s", e.status, e.body) }

// passing reports whether who is answered so is meant to come again.
func (e *statusError) passing() bool {
	return e.status == http.StatusServiceUnavailable || e.status == http.StatusGatewayTimeout || e.status == http.StatusTooManyRequests
}

// link is an open connection. next blocks until a message came, and close ends it; say is nil where nothing can be said in it.
type link struct {
	next  func() (message, error)
	say   func(ctx context.Context, message any) error
	close func()
}

// dialer opens connections to the replicas.
type dialer struct{ client *http.Client }

// open begins a session. after is the cursor that is presented, if any.
func (d dialer) open(ctx context.Context, over, base, path string, q url.Values, after string) (*link, error) {
	switch over {
	case overSSE:
		return d.lines(ctx, base, path, q, "text/event-stream", "Last-Event-ID", after, nextBlock)
	case overNDJSON:
		return d.lines(ctx, base, path, withAfter(q, after), "application/x-ndjson", "", "", nextLine)
	case overEvents:
		return d.socket(ctx, base, path, withAfter(q, after), over, eventMessage)
	case overBatch:
		return d.socket(ctx, base, path, withAfter(q, after), over, batchMessage)
	default:
		return d.pages(ctx, base, path, q, after), nil
	}
}

func withAfter(q url.Values, after string) url.Values {
	with := url.Values{}
	for name, values := range q {
		with[name] = values
	}
	if after != "" {
		with.Set("after", after)
	}
	return with
}

// get asks for what is answered with 200.
func (d dialer) get(ctx context.Context, target, accept, header, value string) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, target, nil)
	if err != nil {
		return nil, err
	}
	if accept != "" {
		req.Header.Set("Accept", accept)
	}
	if value != "" {
		req.Header.Set(header, value)
	}
	return d.do(req)
}

// do makes a request that is to be answered with 200.
func (d dialer) do(req *http.Request) (*http.Response, error) {
	resp, err := d.client.Do(req)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		return nil, refusal(resp)
	}
	return resp, nil
}

// refusal closes an answer that is no session, and says what it was.
func refusal(resp *http.Response) error {
	body, _ := io.ReadAll(io.LimitReader(resp.Body, 2<<10)) // what comes of it is for people
	_ = resp.Body.Close()
	return &statusError{resp.StatusCode, string(body)}
}

func (d dialer) lines(
	ctx context.Context, base, path string, q url.Values, accept, header, value string, next func(*bufio.Reader) (message, error),
) (*link, error) {
	resp, err := d.get(ctx, base+path+"?"+q.Encode(), accept, header, value)
	if err != nil {
		return nil, err
	}
	if got, _, _ := strings.Cut(resp.Header.Get("Content-Type"), ";"); got != accept {
		return nil, errors.Join(fmt.Errorf("%w Content-Type %q, expected %s", errUnexpected, got, accept), resp.Body.Close())
	}
	in := bufio.NewReaderSize(resp.Body, 16<<10)
	return &link{next: func() (message, error) { return next(in) }, close: func() { _ = resp.Body.Close() }}, nil
}

// nextBlock reads a block of an event stream. What came of an unfinished one does not count.
func nextBlock(in *bufio.Reader) (m message, err error) {
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			return message{}, err
		}
		name, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), ": ")
		switch name {
		case "":
			if m.control == "" && m.payload != nil {
				m.events, err = parseEvents(m.payload)
				m.payload = nil
			}
			return m, err
		case "id":
			m.cursor = value
		case "event":
			m.control = value
		case "data":
			m.payload = json.RawMessage(value)
		case "retry":
		default:
			return m, fmt.Errorf("%w line of an event stream: %.200q", errUnexpected, line)
		}
	}
}

func parseEvents(all ...json.RawMessage) ([]arrival, error) {
	events := make([]arrival, len(all))
	for i, b := range all {
		if err := json.Unmarshal(b, &events[i]); err != nil {
			return nil, fmt.Errorf("%w event %.200q: %w", errUnexpected, b, err)
		}
	}
	return events, nil
}

// nextLine reads a line. One that is cut short does not count.
func nextLine(in *bufio.Reader) (message, error) {
	line, err := in.ReadBytes('\n')
	if err != nil {
		return message{}, err
	}
	return objectMessage(line)
}

// objectMessage reads an object {"cursor":…,"event":{…}}, or with "events", or with a control message's name.
func objectMessage(b []byte) (m message, err error) {
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(b, &fields); err != nil {
		return m, fmt.Errorf("%w message %.200q: %w", errUnexpected, b, err)
	}
	var group string
	var attempt int
	for name, value := range fields {
		switch name {
		case "cursor":
			err = json.Unmarshal(value, &m.cursor)
		case "group":
			err = json.Unmarshal(value, &group)
		case "attempt":
			err = json.Unmarshal(value, &attempt)
		case "event":
			m.events, err = parseEvents(value)
		case "events":
			var all []json.RawMessage
			if err = json.Unmarshal(value, &all); err == nil {
				m.events, err = parseEvents(all...)
			}
		case "deliveries":
		default:
			m.control, m.payload = name, value
		}
		if err != nil {
			return m, fmt.Errorf("%w message %.200q: %w", errUnexpected, b, err)
		}
	}
	if fields["event"] != nil {
		m.events[0].EventIssuerCursor, m.events[0].EventIssuerGroup, m.events[0].EventIssuerAttempt = m.cursor, group, attempt
	}
	return m, m.addDeliveries(fields["deliveries"])
}

// addDeliveries says of each event what a subscription's session tells beside it.
func (m *message) addDeliveries(b json.RawMessage) error {
	if b == nil {
		return nil
	}
	var all []struct {
		Cursor, Group string
		Attempt       int
	}
	if err := json.Unmarshal(b, &all); err != nil || len(all) != len(m.events) {
		return fmt.Errorf("%w deliveries %.200q of %d events: %w", errUnexpected, b, len(m.events), err)
	}
	for i, d := range all {
		m.events[i].EventIssuerCursor, m.events[i].EventIssuerGroup, m.events[i].EventIssuerAttempt = d.Cursor, d.Group, d.Attempt
	}
	return nil
}

func (d dialer) socket(
	ctx context.Context, base, path string, q url.Values, subprotocol string, parse func([]byte) (message, error),
) (*link, error) {
	ws, resp, err := websocket.Dial(ctx, base+path+"?"+q.Encode(), &websocket.DialOptions{
		HTTPClient: d.client, Subprotocols: []string{subprotocol},
		CompressionMode: websocket.CompressionMode(rand.IntN(3)), // none, with the messages before as the dictionary, or without
	})
	if err != nil {
		if resp != nil && resp.StatusCode != http.StatusSwitchingProtocols && resp.StatusCode != 0 {
			return nil, refusal(resp)
		}
		return nil, err
	}
	if got := ws.Subprotocol(); got != subprotocol {
		return nil, errors.Join(fmt.Errorf("%w subprotocol %q, expected %q", errUnexpected, got, subprotocol), ws.CloseNow())
	}
	ws.SetReadLimit(largestMessage)
	return &link{
		next: func() (message, error) {
			_, b, err := ws.Read(ctx)
			if err != nil {
				return message{}, err
			}
			m, err := parse(b)
			if err != nil && !json.Valid(b) {
				// The library takes the end of a connection within a message for the end of the message. Nothing comes behind it.
				if _, _, gone := ws.Read(ctx); gone != nil {
					return message{}, gone
				}
			}
			return m, err
		},
		say: func(ctx context.Context, what any) error {
			b, err := json.Marshal(what)
			if err != nil {
				return err
			}
			return ws.Write(ctx, websocket.MessageText, b)
		},
		close: func() { _ = ws.CloseNow() },
	}, nil
}

// eventMessage reads a message of the subprotocol cloudevents.json.
func eventMessage(b []byte) (m message, err error) {
	events, err := parseEvents(b)
	if err != nil {
		return m, err
	}
	m.cursor = events[0].EventIssuerCursor
	switch name, control := strings.CutPrefix(events[0].Type, controlType); {
	case !control:
		m.events = events
	case name != "cursor":
		m.control, m.payload = name, events[0].Data
	}
	return m, nil
}

// batchMessage reads a message of the subprotocol eventissuer.v1.
func batchMessage(b []byte) (message, error) { return objectMessage(b) }

const (
	pageWait  = "2s"
	pageLimit = "40"
)

// pages reads one page after the other, each with the cursor of the one before.
func (d dialer) pages(ctx context.Context, base, path string, q url.Values, after string) *link {
	q = withAfter(q, "")
	q.Del("heartbeat")
	q.Set("wait", pageWait)
	q.Set("limit", pageLimit)
	var due []message
	return &link{
		next: func() (m message, err error) {
			if len(due) == 0 {
				if due, err = d.page(ctx, base+path+"?"+withAfter(q, after).Encode(), nil); err != nil {
					return m, err
				}
			}
			if m, due = due[0], due[1:]; m.cursor != "" {
				after = m.cursor
			}
			return m, nil
		},
		close: func() {},
	}
}

// page is one page as what the other transports would give: what its header fields tell, the events, the cursor.
// The question is the body, where there is one.
func (d dialer) page(ctx context.Context, target string, question []byte) ([]message, error) {
	method := http.MethodGet
	if question != nil {
		method = http.MethodPost
	}
	req, err := http.NewRequestWithContext(ctx, method, target, bytes.NewReader(question))
	if err != nil {
		return nil, err
	}
	if question != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := d.do(req)
	if err != nil {
		return nil, err
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, largestMessage))
	if err = errors.Join(err, resp.Body.Close()); err != nil {
		return nil, err
	}
	m := message{cursor: resp.Header.Get("Cursor")}
	if m.cursor == "" || !strings.Contains(resp.Header.Get("Link"), `rel="next"`) {
		return nil, fmt.Errorf("%w page without a cursor or a link: %v", errUnexpected, resp.Header)
	}
	if err := json.NewDecoder(bytes.NewReader(body)).Decode(&m.events); err != nil {
		return nil, fmt.Errorf("%w page %.200q: %w", errUnexpected, body, err)
	}
	var all []message
	tell := func(name, control string) {
		for _, payload := range resp.Header.Values(name) {
			all = append(all, message{control: control, payload: json.RawMessage(payload)})
		}
	}
	for _, name := range []string{"Gap", "Skipped", "Snapshot", "Stalled", "Drain"} {
		tell(name, strings.ToLower(name))
	}
	if len(resp.Header["Snapshot"])+len(resp.Header["Removed"]) == 0 {
		return append(all, m), nil
	}
	// What is removed is so once the events are taken; and the cursor is behind all of that.
	after := message{cursor: m.cursor}
	m.cursor = ""
	all = append(all, m)
	tell("Snapshot", "live")
	tell("Removed", "removed")
	return append(all, after), nil
}

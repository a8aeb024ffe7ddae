package main_test

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
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coder/websocket"
)

// delivery is an event as a session of a subscription brings it.
type delivery struct {
	event, group, cursor string
	attempt              int
}

// frame is what comes at once: events, a cursor, or a control message.
type frame struct {
	deliveries []delivery
	cursor     string
	control    string
	payload    json.RawMessage
}

// link is a connection of a session.
type link struct {
	next  func() (frame, error)
	say   func(ctx context.Context, message any) error // nil: over HTTP
	close func()
}

// takes is an event with what a session adds to it.
type takes struct {
	ID, Type           string
	EventIssuerCursor  string
	EventIssuerGroup   string
	EventIssuerAttempt int
	Data               json.RawMessage
}

func (e takes) delivery() delivery {
	return delivery{e.ID, e.EventIssuerGroup, e.EventIssuerCursor, e.EventIssuerAttempt}
}

func parseTakes(b []byte) (takes, error) {
	var e takes
	if err := json.Unmarshal(b, &e); err != nil {
		return e, fmt.Errorf("%w in %q", err, b)
	}
	return e, nil
}

// links are the ways to take the events of a subscription, beside pages.
var links = map[string]func(ctx context.Context, v *server, path string) (*link, error){
	"sse": func(ctx context.Context, v *server, path string) (*link, error) {
		return linkLines(ctx, v, path, "text/event-stream", nextBlock)
	},
	"ndjson": func(ctx context.Context, v *server, path string) (*link, error) {
		return linkLines(ctx, v, path, "application/x-ndjson", nextLine)
	},
	"cloudevents.json": func(ctx context.Context, v *server, path string) (*link, error) {
		return linkSocket(ctx, v, path, "cloudevents.json", eventFrame)
	},
	"eventissuer.v1": func(ctx context.Context, v *server, path string) (*link, error) {
		return linkSocket(ctx, v, path, "eventissuer.v1", batchFrame)
	},
}

func linkLines(ctx context.Context, v *server, path, accept string, next func(*bufio.Reader) (frame, error)) (*link, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, v.base+path+"?heartbeat=1s", nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept", accept)
	resp, err := v.client.Do(req)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		body, _ := io.ReadAll(io.LimitReader(resp.Body, 4<<10))
		_ = resp.Body.Close()
		return nil, &statusError{resp.StatusCode, string(body)}
	}
	lines := bufio.NewReader(resp.Body)
	return &link{next: func() (frame, error) { return next(lines) }, close: func() { _ = resp.Body.Close() }}, nil
}

// nextBlock reads a block of an event stream.
func nextBlock(lines *bufio.Reader) (f frame, err error) {
	for {
		line, err := lines.ReadString('\n')
		if err != nil {
			return f, err
		}
		name, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), ": ")
		switch name {
		case "":
			if f.control != "" || f.payload == nil {
				return f, nil
			}
			e, err := parseTakes(f.payload)
			if err != nil {
				return f, err
			}
			e.EventIssuerCursor = f.cursor
			return frame{deliveries: []delivery{e.delivery()}, cursor: f.cursor}, nil
		case "id":
			f.cursor = value
		case "event":
			f.control = value
		case "data":
			f.payload = json.RawMessage(value)
		}
	}
}

func nextLine(lines *bufio.Reader) (frame, error) {
	line, err := lines.ReadBytes('\n')
	if err != nil {
		return frame{}, err
	}
	var d struct {
		Cursor, Group string
		Attempt       int
		Event         *struct{ ID string }
	}
	if err := json.Unmarshal(line, &d); err != nil {
		return frame{}, fmt.Errorf("%w in %q", err, line)
	}
	if d.Event != nil {
		return frame{deliveries: []delivery{{d.Event.ID, d.Group, d.Cursor, d.Attempt}}, cursor: d.Cursor}, nil
	}
	f, err := controlOf(line)
	return frame{cursor: f.cursor, control: f.control, payload: f.payload}, err
}

func linkSocket(ctx context.Context, v *server, path, subprotocol string, parse func([]byte) (frame, error)) (*link, error) {
	ws, resp, err := websocket.Dial(ctx, v.base+path+"?heartbeat=1s", &websocket.DialOptions{HTTPClient: v.client, Subprotocols: []string{subprotocol}})
	if err != nil {
		if resp != nil && resp.StatusCode != http.StatusSwitchingProtocols && resp.StatusCode != 0 {
			body, _ := io.ReadAll(io.LimitReader(resp.Body, 4<<10))
			return nil, &statusError{resp.StatusCode, string(body)}
		}
		return nil, err
	}
	ws.SetReadLimit(64 << 20)
	return &link{
		next: func() (frame, error) {
			_, b, err := ws.Read(ctx)
			if err != nil {
				return frame{}, err
			}
			return parse(b)
		},
		say: func(ctx context.Context, message any) error {
			b, err := json.Marshal(message)
			if err != nil {
				return err
			}
			return ws.Write(ctx, websocket.MessageText, b)
		},
		close: func() { _ = ws.CloseNow() },
	}, nil
}

func eventFrame(b []byte) (frame, error) {
	e, err := parseTakes(b)
	if err != nil {
		return frame{}, err
	}
	f := frame{cursor: e.EventIssuerCursor}
	switch name, control := strings.CutPrefix(e.Type, "no.eventissuer."); {
	case !control:
		f.deliveries = []delivery{e.delivery()}
	case name != "cursor":
		f.control, f.payload = name, e.Data
	}
	return f, nil
}

func batchFrame(b []byte) (frame, error) {
	var d struct {
		Cursor     string
		Events     []struct{ ID string }
		Deliveries []struct {
			Cursor, Group string
			Attempt       int
		}
	}
	if err := json.Unmarshal(b, &d); err != nil {
		return frame{}, fmt.Errorf("%w in %q", err, b)
	}
	if len(d.Events) != len(d.Deliveries) {
		return frame{}, fmt.Errorf("%d events and %d deliveries in %q", len(d.Events), len(d.Deliveries), b)
	}
	f := frame{cursor: d.Cursor}
	for i, e := range d.Events {
		f.deliveries = append(f.deliveries, delivery{e.ID, d.Deliveries[i].Group, d.Deliveries[i].Cursor, d.Deliveries[i].Attempt})
	}
	if len(d.Events) > 0 {
		return f, nil
	}
	m, err := controlOf(b)
	f.control, f.payload = m.control, m.payload
	return f, err
}

// taker is a client of a subscription: one session after the other, each at another server, over one transport. It
// acknowledges as it pleases: all, a part, something in the middle, late, never, and gives some back.
type taker struct {
	// static
	t       *testing.T
	name    string
	over    string // a transport, or "poll"
	path    string // of the subscription
	book    *logbook
	servers func(*rand.Rand) *server // that may be asked
	calm    *atomic.Bool             // it acknowledges all it gets at once

	rand *rand.Rand // owned by run

	mu  sync.Mutex
	cut context.CancelFunc // ends the present session; guarded by mu
}

// ackTimeout is that of the subscriptions that takers take from.
const ackTimeout = 2 * time.Second

// errReconnect tells that the session's cursors are no longer good.
var errReconnect = errors.New("refused")

// run takes events until ctx ends.
func (k *taker) run(ctx context.Context) {
	for n := 0; ctx.Err() == nil; n++ {
		one, cut := context.WithCancel(ctx)
		k.mu.Lock()
		k.cut = cut
		k.mu.Unlock()
		v := k.servers(k.rand)
		s := k.book.sit(fmt.Sprintf("%s.%d", k.name, n))
		var err error
		if k.over == "poll" {
			err = k.poll(one, s)
		} else {
			err = k.session(one, s, v)
		}
		cut()
		k.ended(err)
		if len(s.all) > 0 && k.rand.IntN(5) == 0 && ctx.Err() == nil { // better late than never
			_, _ = k.post(ctx, s, 0, len(s.all)-1)
			k.book.note("acknowledged after the session")
		}
		k.pause(ctx, k.between(20, 200))
	}
}

// ended looks at why a session ended.
func (k *taker) ended(err error) {
	var status *statusError
	switch {
	case errors.Is(err, errReconnect):
		k.book.note("session told to begin anew")
	case errors.As(err, &status):
		k.book.note(fmt.Sprintf("session answered %d", status.status))
		switch status.status {
		case http.StatusServiceUnavailable, http.StatusConflict, http.StatusGatewayTimeout:
		default:
			k.t.Errorf("%s: a session was answered %v", k.name, err)
		}
	case errors.Is(err, errUnexpected):
		k.t.Errorf("%s: %v", k.name, err)
	default:
		k.book.note("session ended")
	}
}

// drop cuts the present session's connection.
func (k *taker) drop() {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.cut != nil {
		k.cut()
	}
}

// between draws a duration of so many milliseconds.
func (k *taker) between(least, most int) time.Duration {
	return time.Duration(least+k.rand.IntN(most-least+1)) * time.Millisecond
}

func (k *taker) pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// seen is a frame, and the place in the session of the first event of it.
type seen struct {
	frame
	first int
}

// awaited is what the client said in band and was not answered yet.
type awaited struct {
	cursor string
	word   *word // nil: it gave something back
}

// session is one over a connection. A session that is silent for longer than some seconds, heartbeats too, is given up.
func (k *taker) session(ctx context.Context, s *sitting, v *server) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	patience := k.between(2500, 9000)
	silent := time.AfterFunc(patience, cancel)
	defer silent.Stop()
	conn, err := links[k.over](ctx, v, k.path+"/events")
	if err != nil {
		return err
	}
	defer conn.close()

	incoming := make(chan seen, 64)
	var lost error
	var reading sync.WaitGroup
	defer reading.Wait()
	defer cancel()
	reading.Go(func() {
		defer close(incoming)
		for {
			f, err := conn.next()
			if err != nil {
				lost = err
				return
			}
			silent.Reset(patience)
			select {
			case incoming <- seen{f, s.read(f.deliveries)}:
			case <-ctx.Done():
				return
			}
		}
	})

	c := conversation{taker: k, sitting: s, say: conn.say}
	idle := time.NewTimer(k.between(20, 300))
	defer idle.Stop()
	for {
		err, speak := error(nil), false
		select {
		case f, ok := <-incoming:
			if !ok {
				return lost
			}
			if err = c.take(f); err == nil && len(f.deliveries) > 0 {
				speak = k.rand.IntN(2) == 0
			}
		case <-idle.C:
			speak = true
			idle.Reset(k.between(20, 300))
		case <-ctx.Done():
			return ctx.Err()
		}
		if err == nil && speak {
			err = c.speak(ctx)
		}
		if err != nil {
			return err
		}
	}
}

// conversation is what a client says in a session.
type conversation struct {
	*taker
	*sitting
	say     func(ctx context.Context, message any) error
	unsaid  []int // places in the session, of what was neither acknowledged nor given back
	waiting []awaited
	sulks   time.Time // until then it says nothing
}

// take takes a frame.
func (c *conversation) take(f seen) error {
	for i := range f.deliveries {
		c.unsaid = append(c.unsaid, f.first+i)
	}
	switch f.control {
	case "", "assigned", "waiting", "stalled", "resumed":
	case "acked", "nacked":
		var of struct{ Cursor string }
		if err := json.Unmarshal(f.payload, &of); err != nil {
			return fmt.Errorf("%w answer %s: %w", errUnexpected, f.payload, err)
		}
		for i, a := range c.waiting {
			if a.cursor != of.Cursor || (a.word == nil) != (f.control == "nacked") {
				continue
			}
			if a.word != nil {
				c.answeredInBand(a.word, fateDurable)
			}
			c.waiting = append(c.waiting[:i:i], c.waiting[i+1:]...)
			return nil
		}
		return fmt.Errorf("%w answer to what was not said: %s %s", errUnexpected, f.control, f.payload)
	case "drain":
		return io.EOF
	case "problem":
		var problem struct {
			Type   string
			Status int
		}
		if err := json.Unmarshal(f.payload, &problem); err != nil {
			return fmt.Errorf("%w problem %s: %w", errUnexpected, f.payload, err)
		}
		switch {
		case strings.HasSuffix(problem.Type, "/reconnect"):
			for _, a := range c.waiting {
				if a.word != nil {
					c.answeredInBand(a.word, fateRefused)
				}
			}
			return errReconnect
		case problem.Status == http.StatusServiceUnavailable:
			return &statusError{problem.Status, string(f.payload)}
		}
		return fmt.Errorf("%w problem: %s", errUnexpected, f.payload)
	default: // nothing of the log is lost, cut off, or no event
		return fmt.Errorf("%w control message %s: %s", errUnexpected, f.control, f.payload)
	}
	return nil
}

// speak says something of what the client has, or nothing.
func (c *conversation) speak(ctx context.Context) error {
	n := len(c.unsaid)
	if n == 0 || time.Now().Before(c.sulks) && !c.calm.Load() {
		return nil
	}
	from := c.rand.IntN(n)
	to := from + c.rand.IntN(n-from)
	switch draw := c.rand.IntN(100); {
	case draw < 60 || c.calm.Load():
		return c.acknowledge(ctx, n-1)
	case draw < 68:
		return c.acknowledge(ctx, to)
	case draw < 78:
		return c.acknowledgeRange(ctx, from, to)
	case draw < 86:
		return c.giveBack(ctx, from, to, c.between(0, 500))
	case draw < 88:
		c.sulks = time.Now().Add(ackTimeout + c.between(100, 1500))
		c.taker.book.note("sulked")
	}
	return nil
}

// acknowledge says that all up to a place among the unsaid is done.
func (c *conversation) acknowledge(ctx context.Context, at int) error {
	to := c.unsaid[at]
	c.unsaid = c.unsaid[at+1:]
	if c.say == nil {
		_, err := c.post(ctx, c.sitting, 0, to)
		return err
	}
	cursor := c.cursorAt(to)
	return c.sayInBand(ctx, awaited{cursor, c.says(0, to)}, map[string]any{"ack": cursor})
}

// acknowledgeRange says that what is from one place among the unsaid to another is done, and all that is between them.
func (c *conversation) acknowledgeRange(ctx context.Context, from, to int) error {
	first, last := c.unsaid[from], c.unsaid[to]
	c.unsaid = append(c.unsaid[:from:from], c.unsaid[to+1:]...)
	if c.say == nil {
		_, err := c.post(ctx, c.sitting, first, last)
		return err
	}
	stretch := map[string]string{"from": c.cursorAt(first), "to": c.cursorAt(last)}
	return c.sayInBand(ctx, awaited{stretch["to"], c.says(first, last)}, map[string]any{"ack": stretch})
}

// giveBack gives back what is from one place among the unsaid to another, as far as they follow each other.
func (c *conversation) giveBack(ctx context.Context, from, to int, delay time.Duration) error {
	for i := from + 1; i <= to; i++ {
		if c.unsaid[i] != c.unsaid[i-1]+1 {
			to = i - 1 // what is between was acknowledged
			break
		}
	}
	first, last := c.unsaid[from], c.unsaid[to]
	c.unsaid = append(c.unsaid[:from:from], c.unsaid[to+1:]...)
	c.returns(first, last)
	if c.say == nil {
		_, err := c.postBody(ctx, map[string]any{"nacks": []any{
			map[string]string{"from": c.cursorAt(first), "to": c.cursorAt(last), "delay": delay.String()},
		}})
		return err
	}
	stretch := map[string]string{"from": c.cursorAt(first), "to": c.cursorAt(last)}
	return c.sayInBand(ctx, awaited{stretch["to"], nil}, map[string]any{"nack": stretch, "delay": delay.String()})
}

func (c *conversation) sayInBand(ctx context.Context, a awaited, message any) error {
	c.waiting = append(c.waiting, a)
	return c.say(ctx, message)
}

// cursorAt is the cursor of what a session brought.
func (s *sitting) cursorAt(i int) string {
	s.book.mu.Lock()
	defer s.book.mu.Unlock()
	return s.all[i].cursor
}

// post acknowledges over HTTP what a session brought from one place to another, at whatever server, and once more at
// another if it is not known what became of it.
func (k *taker) post(ctx context.Context, s *sitting, from, to int) (f fate, err error) {
	body := map[string]any{"cursors": []string{s.cursorAt(to)}}
	if from > 0 {
		body = map[string]any{"ranges": []any{map[string]string{"from": s.cursorAt(from), "to": s.cursorAt(to)}}}
	}
	for range 3 {
		w := s.says(from, to)
		f, err = k.postBody(ctx, body)
		if f != fateUnknown {
			k.book.answered(w, f)
			return f, err
		}
		if ctx.Err() != nil {
			return f, ctx.Err()
		}
		k.book.note("acknowledged anew")
	}
	return f, err
}

// postBody says something over HTTP. It is an error if it was refused, or if it is not known what became of it.
func (k *taker) postBody(ctx context.Context, body any) (fate, error) {
	ctx, cancel := context.WithTimeout(ctx, k.between(1500, 6000))
	defer cancel()
	status, answer, err := k.servers(k.rand).try(ctx, http.MethodPost, k.path+"/cursors", body)
	switch {
	case err != nil:
		return fateUnknown, err
	case status == http.StatusOK:
		return fateDurable, nil
	case status == http.StatusConflict:
		return fateRefused, errReconnect
	case status != http.StatusServiceUnavailable && status != http.StatusGatewayTimeout:
		k.t.Errorf("%s: an acknowledgement was answered %d: %s", k.name, status, answer)
	}
	k.book.note(fmt.Sprintf("acknowledgement answered %d", status))
	return fateUnknown, &statusError{status, string(answer)}
}

// poll is a session of pages. A page that did not come is asked for again, at another server.
func (k *taker) poll(ctx context.Context, s *sitting) error {
	after, upTo := "", -1
	failures := 0
	for {
		s.asks()
		var w *word
		if upTo >= 0 {
			w = s.says(0, upTo)
		}
		page, cursor, err := k.page(ctx, after)
		var status *statusError
		switch {
		case err == nil:
			failures = 0
			if w != nil {
				k.book.answered(w, fateDurable)
			}
		case errors.As(err, &status) && status.status == http.StatusConflict:
			if w != nil {
				k.book.answered(w, fateRefused)
			}
			return errReconnect
		case ctx.Err() != nil:
			return ctx.Err()
		case failures < 3 && (status == nil || status.status == http.StatusServiceUnavailable):
			failures++
			k.book.note("page asked for again")
			continue
		default:
			return err
		}
		first := s.read(page)
		after = cursor
		if len(page) > 0 {
			upTo = first + len(page) - 1
		}
		if k.calm.Load() || len(page) == 0 {
			continue
		}
		from := first + k.rand.IntN(len(page))
		to := from + k.rand.IntN(upTo-from+1)
		switch draw := k.rand.IntN(100); {
		case draw < 10:
			if _, err := k.post(ctx, s, from, to); err != nil {
				return err
			}
		case draw < 20:
			s.returns(from, to)
			_, err := k.postBody(ctx, map[string]any{"nacks": []any{
				map[string]string{"from": s.cursorAt(from), "to": s.cursorAt(to), "delay": k.between(0, 500).String()},
			}})
			if err != nil {
				return err
			}
		case draw < 23:
			k.book.note("sulked")
			k.pause(ctx, ackTimeout+k.between(100, 1500))
		case draw < 27:
			return nil // its session is left behind
		}
	}
}

// page asks for one page.
func (k *taker) page(ctx context.Context, after string) (page []delivery, cursor string, err error) {
	ctx, cancel := context.WithTimeout(ctx, k.between(2500, 9000))
	defer cancel()
	q := url.Values{"wait": {"1s"}, "limit": {fmt.Sprint(1 + k.rand.IntN(40))}}
	if after != "" {
		q.Set("after", after)
	}
	v := k.servers(k.rand)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, v.base+k.path+"/events?"+q.Encode(), nil)
	if err != nil {
		return nil, "", err
	}
	resp, err := v.client.Do(req)
	if err != nil {
		return nil, "", err
	}
	body, err := io.ReadAll(resp.Body)
	if err = errors.Join(err, resp.Body.Close()); err != nil {
		return nil, "", err
	}
	if resp.StatusCode != http.StatusOK {
		return nil, "", &statusError{resp.StatusCode, string(body)}
	}
	var events []takes
	if err := json.NewDecoder(bytes.NewReader(body)).Decode(&events); err != nil {
		return nil, "", fmt.Errorf("%w page %s: %w", errUnexpected, body, err)
	}
	for _, e := range events {
		page = append(page, e.delivery())
	}
	cursor = resp.Header.Get("Cursor")
	if cursor == "" {
		return nil, "", fmt.Errorf("%w page without a cursor: %v", errUnexpected, resp.Header)
	}
	return page, cursor, nil
}

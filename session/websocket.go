package session

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/coder/websocket"

	"github.com/eventissuer/eventissuer/internal/clock"
	"github.com/eventissuer/eventissuer/internal/cursor"
	"github.com/eventissuer/eventissuer/internal/filter"
)

// The WebSocket subprotocols. Without one it is SubprotocolEvents.
const (
	SubprotocolEvents = "cloudevents.json"
	SubprotocolBatch  = "eventissuer.v1"
)

const (
	clientMessageBytes = 64 << 10         // what a client may send in one message
	ackSaveInterval    = 10 * time.Second // acknowledgements are made durable together, this often
	askRetry           = 5 * time.Millisecond
)

// SocketOptions are what the gateway decides about WebSockets.
type SocketOptions struct {
	OriginPatterns []string // other origins than the server's own that may connect; see websocket.AcceptOptions
	// Query reads the body of an events:query in flight and returns its filter.
	Query func(body json.RawMessage) (*filter.Filter, error)
	// Delay reads for how long a subscription's client gives an event back.
	Delay func(text string) (time.Duration, error)
	// Problem tells the client why its message ends the session: a [MessageError], or what Query, an acknowledged cursor
	// or the consumer is refused with. Default: all are bad messages.
	Problem func(err error) Problem
}

// MessageError tells that a client's message is none of those that a session takes.
type MessageError struct {
	Detail string

	cause error
}

// Error implements error.
func (e *MessageError) Error() string { return e.Detail }

// Unwrap gives why the message could not be read; nil where it could.
func (e *MessageError) Unwrap() error { return e.cause }

func badMessage(err error) Problem {
	return Problem{Type: "/problems/bad-message", Title: "The session does not take this message", Status: http.StatusBadRequest, Detail: err.Error()}
}

// WebSocket serves a request as a WebSocket. It returns an error where nothing was answered yet. Otherwise the session
// goes on after the return, with a goroutine that reads; a shard writes, or over TLS a goroutine.
func (s *Server) WebSocket(w http.ResponseWriter, r *http.Request, q Request, o SocketOptions) error {
	if q.Subscription == "" && r.TLS == nil && canShard {
		return s.shardSocket(w, r, q, o)
	}
	l := newLoop(s, infoOf("websocket", q), q)
	if err := s.admit(&l.entry); err != nil {
		return err
	}
	if q.Subscription != "" {
		return s.deliverSocket(w, r, q, o, l)
	}
	f, err := s.prepare(r.Context(), q, 0, l, l.notify)
	if err != nil {
		s.leave(&l.entry, endFailure)
		return err
	}
	k := s.acceptLoop(w, r, o, l, !s.cfg.Plain)
	if k == nil {
		f.close()
		s.leave(&l.entry, endFailure)
		return nil
	}
	f.codec = k.codec()
	l.read(&f)
	k.hear = k.readerWords(&f, o)
	k.serve(l, f.begin)
	return nil
}

// acceptLoop takes the connection for a WebSocket that a loop writes to. It returns nil as accept does.
func (s *Server) acceptLoop(w http.ResponseWriter, r *http.Request, o SocketOptions, l *loop, zip bool) *socket {
	conn := &wholeConn{stall: s.cfg.Stall}
	k := s.accept(w, r, o, l, conn.take, zip)
	if k == nil {
		return nil
	}
	k.conn = conn
	s.took(&l.entry)
	l.cutBy(func() { _ = conn.Conn.Close() })
	return k
}

// shardSocket is WebSocket over a connection that a shard can write to.
func (s *Server) shardSocket(w http.ResponseWriter, r *http.Request, q Request, o SocketOptions) error {
	c, at := s.newConn(infoOf("websocket", q), q)
	if err := s.admit(&c.entry); err != nil {
		return err
	}
	f, err := s.prepare(r.Context(), q, at, c, func() {})
	if err != nil {
		s.leave(&c.entry, endFailure)
		return err
	}
	wire := &frames{conn: c, stall: s.cfg.Stall}
	k := s.accept(w, r, o, c, func(nc net.Conn) net.Conn { wire.Conn = nc; return wire }, !s.cfg.Plain)
	if k == nil || !c.attach(wire.Conn) {
		f.close()
		s.leave(&c.entry, endFailure)
		if k != nil {
			k.cancel()
			_ = k.ws.CloseNow()
		}
		return nil
	}
	s.took(&c.entry)
	wire.framer, wire.close, wire.cancel = k.framer, k.close, k.cancel
	f.codec = k.codec()
	c.feed, c.frames = f, wire
	k.hear = k.readerWords(&c.feed, o)
	var first output
	c.feed.begin(&first)
	c.feed.onLost(c.stop)
	wire.begin()
	c.begin(wire.append(nil, &first))
	s.loops.Go(func() {
		defer func() {
			c.hangUp()
			<-k.ctx.Done() // the shard has let go
			_ = k.ws.CloseNow()
		}()
		defer s.guard(func() {})
		k.read()
	})
	return nil
}

// accept takes the connection for a WebSocket, by the connection that wrap makes of it; with zip its messages are compressed
// where the client takes that. It returns nil where it could not, and has then answered.
func (s *Server) accept(w http.ResponseWriter, r *http.Request, o SocketOptions, by driver, wrap func(net.Conn) net.Conn, zip bool) *socket {
	k := &socket{server: s, by: by, problem: o.Problem}
	if k.problem == nil {
		k.problem = badMessage
	}
	mode := websocket.CompressionDisabled
	if zip {
		mode = websocket.CompressionNoContextTakeover // what the client says is compressed by itself: there is no window to be kept
	}
	ws, err := websocket.Accept(&wrapWriter{w, wrap, func(answer http.Header) {
		var ok bool
		if k.framer, ok = chooseDeflate(r.Header, answer); ok {
			k.framer.zip = s.zip
		}
	}}, r, &websocket.AcceptOptions{
		Subprotocols:         []string{SubprotocolEvents, SubprotocolBatch},
		OriginPatterns:       o.OriginPatterns,
		CompressionMode:      mode,
		CompressionThreshold: math.MaxInt, // it is not the library that writes messages
		OnPingReceived:       k.pinged,
	})
	if err != nil {
		return nil // told to the client by Accept
	}
	ws.SetReadLimit(clientMessageBytes)
	k.ws = ws
	k.ctx, k.cancel = context.WithCancel(context.WithoutCancel(r.Context()))
	return k
}

// batches says that the client asked for messages of many events.
func (k *socket) batches() bool { return k.ws.Subprotocol() == SubprotocolBatch }

// codec writes what the client's subprotocol asks for.
func (k *socket) codec() codec {
	if k.batches() {
		return &batchCodec{}
	}
	return k.eventCodec()
}

func (k *socket) readerWords(f *feed, o SocketOptions) func([]byte) error {
	return (&readerWords{socket: k, feed: f, query: o.Query, hurry: make(chan struct{}, 1)}).hear
}

func (k *socket) eventCodec() *eventCodec {
	return &eventCodec{source: k.server.cfg.Source, id: controlIDs()}
}

// serve starts a session that a loop writes to. It ends by itself.
func (k *socket) serve(l *loop, first func(*output)) {
	k.server.loops.Go(func() {
		defer k.cancel()
		defer k.server.guard(func() {})
		k.read()
	})
	k.server.loops.Go(func() {
		defer k.cancel()
		l.run(k.ctx, k, first)
		k.close(l.ending())
	})
}

// controlIDs numbers the control messages of a session: source and id together are to be unique.
func controlIDs() func() string {
	n, since := 0, time.Now().UnixNano()
	return func() string {
		n++
		return fmt.Sprintf("%x-%d", since, n)
	}
}

// driver is what writes to a session: a loop, or a shard by way of the conn.
type driver interface {
	// do has job run before anything more is written. It returns false where too much is asked already.
	do(job func(o *output)) bool
	stop(name string, payload any, reason string)
}

// socket is a session's WebSocket.
type socket struct {
	// static
	server  *Server
	by      driver
	ws      *websocket.Conn
	conn    *wholeConn           // where a loop writes
	hear    func(b []byte) error // takes a message of the client
	problem func(error) Problem
	ctx     context.Context //nolint:containedctx // of the session; a context per write costs 11 allocations
	cancel  context.CancelFunc

	framer framer // owned by the loop

	// owned by read
	pings allowance
}

// write sends the messages of o in one write to the connection.
func (k *socket) write(o *output) (int, error) {
	var wire output
	wire.expect(o.size())
	defer wire.release()
	wire.buf = k.framer.append(slices.Grow(wire.buf, o.size()+len(o.cuts)*frameHead), o)
	if err := k.conn.messages(wire.buf); err != nil {
		return 0, fmt.Errorf("write messages: %w", err)
	}
	return len(wire.buf), nil
}

// close ends the session's WebSocket as its ending says; nil is one that its client has left.
func (k *socket) close(end *ending) {
	switch {
	case end == nil:
		_ = k.ws.CloseNow()
	case end.name == "drain":
		_ = k.ws.Close(websocket.StatusServiceRestart, "this replica goes away; come back with your cursor")
	default:
		code, reason := closing(end)
		_ = k.ws.Close(code, reason)
	}
}

// closing gives the close code (RFC 6455, section 7.4.1) that keeps a client from coming back where that is of no use,
// and a reason that fits the frame.
func closing(end *ending) (websocket.StatusCode, string) {
	p, ok := end.payload.(Problem)
	switch {
	case !ok:
		return websocket.StatusGoingAway, "come back with your cursor"
	case p.unreadable:
		return websocket.StatusInvalidFramePayloadData, p.Title
	case p.Status/100 == 4:
		return websocket.StatusPolicyViolation, p.Title
	}
	return websocket.StatusInternalError, p.Title
}

// readerWords takes what the client of streams says.
type readerWords struct {
	// static
	*socket
	feed  *feed
	query func(json.RawMessage) (*filter.Filter, error)
	hurry chan struct{} // one place: a client waits for its acknowledgement to be durable

	// owned by the loop
	acked  string    // the newest acknowledged cursor not yet told to be saved
	saved  time.Time // when the consumers were last saved
	saving bool
}

// clientMessage is what a client of streams may send.
type clientMessage struct {
	Ack   string          `json:"ack"`
	Final bool            `json:"final"` // answer once the position is saved, at once
	Auth  string          `json:"auth"`
	Query json.RawMessage `json:"query"`
}

// decode reads a message strictly: what the server does not know, or would not come to, must not be lost silently.
func (m *clientMessage) decode(b []byte) error {
	if err := decodeStrictly(b, m); err != nil {
		return err
	}
	switch {
	case several(m.Ack != "", len(m.Query) > 0, m.Auth != ""):
		return errSeveral
	case m.Final && m.Ack == "":
		return errors.New("final belongs to an ack")
	}
	return nil
}

// decodeStrictly reads one JSON value that has no other members than v.
func decodeStrictly(b []byte, v any) error {
	if !json.Valid(b) { // or what follows the value would be lost
		return json.Unmarshal(b, new(any))
	}
	strict := json.NewDecoder(bytes.NewReader(b))
	strict.DisallowUnknownFields()
	return strict.Decode(v)
}

func several(said ...bool) bool {
	n := 0
	for _, is := range said {
		if is {
			n++
		}
	}
	return n > 1
}

var errSeveral = errors.New("a message says one of them: send several, in the order in which they are to hold")

// read takes the client's messages until the connection ends.
func (k *socket) read() {
	for {
		b, err := k.message()
		if err != nil {
			return
		}
		if err := k.hear(b); err != nil {
			var syntax *json.SyntaxError
			p := k.problem(err)
			p.unreadable = errors.As(err, &syntax)
			k.refuse(p)
			return
		}
	}
}

// message reads the client's next message. One that has begun must be whole within the stall timeout: fragments without an
// end would hold what they take for as long as the client likes.
func (k *socket) message() ([]byte, error) {
	_, in, err := k.ws.Reader(k.ctx)
	if err != nil {
		return nil, err
	}
	late := time.AfterFunc(k.server.cfg.Stall, func() {
		k.giveUp(fmt.Sprintf("a message that is begun must be whole within %s: send it at once", k.server.cfg.Stall))
	})
	defer late.Stop()
	return io.ReadAll(in)
}

// giveUp ends the session for what its client does. It does not block.
func (k *socket) giveUp(why string) {
	k.by.stop("problem", k.problem(&MessageError{Detail: why}), endMessage)
}

// pinged is told each ping, in the goroutine that reads, and says whether it is to be answered.
func (k *socket) pinged(context.Context, []byte) bool {
	if k.pings.take(time.Now()) {
		return true
	}
	k.giveUp(fmt.Sprintf("more than %d pings at once, and then more than one each %s: ping seldom", pingBurst, pingEvery))
	return false
}

// What a client may ping. Each ping costs a write, and clients that look whether the server is there do so each few seconds.
const (
	pingBurst = 50
	pingEvery = 200 * time.Millisecond
)

// allowance is a bucket of pingBurst, of which one is earned each pingEvery. The zero value is a full one.
type allowance struct {
	spent int       // of the burst, at the time
	at    time.Time // up to which what was earned has been added
}

// take says whether one more is allowed.
func (a *allowance) take(now time.Time) bool {
	if earned := int(now.Sub(a.at) / pingEvery); earned >= a.spent {
		a.spent, a.at = 0, now
	} else {
		a.spent -= earned
		a.at = a.at.Add(time.Duration(earned) * pingEvery)
	}
	if a.spent >= pingBurst {
		return false
	}
	a.spent++
	return true
}

// unexpected tells what was expected in place of a message that cannot be read.
func unexpected(expected string, err error) error {
	return &MessageError{Detail: "expected " + expected + ": " + strings.TrimPrefix(err.Error(), "json: "), cause: err}
}

// hear takes one message.
func (k *readerWords) hear(b []byte) error {
	var m clientMessage
	if err := m.decode(b); err != nil {
		return unexpected(expected, err)
	}
	switch {
	case m.Ack != "":
		return k.ack(m)
	case len(m.Query) > 0:
		return k.requery(m.Query)
	case m.Auth != "":
		return nil // without access control no session expires
	}
	return &MessageError{Detail: "expected " + expected + "; what came has none of these members"}
}

// expected is what a client may send.
const expected = `{"ack":"<cursor>"}, {"query":{…}} or {"auth":"<token>"}`

func (k *socket) refuse(p Problem) {
	k.by.stop("problem", p, endMessage)
	<-k.ctx.Done()
}

func (k *readerWords) ack(m clientMessage) error {
	c, err := cursor.Parse(m.Ack)
	if err != nil {
		return fmt.Errorf("acknowledge: %w", err)
	}
	k.ask(func(*output) {
		if err := k.feed.confirm(c); err != nil {
			k.by.stop("problem", k.problem(err), endMessage)
			return
		}
		k.acked = m.Ack
		k.save(m.Final)
	})
	return nil
}

// ask has the loop run job before it writes on. A client that asks for much at once, such as one that acknowledges
// every event of a batch, waits in its connection until the loop comes round.
func (k *socket) ask(job func(o *output)) {
	for !k.by.do(job) && k.ctx.Err() == nil {
		clock.Pause(k.ctx, askRetry)
	}
}

// save makes what was acknowledged durable and then says so. Only the loop calls it; the wait for the log is a
// goroutine's.
func (k *readerWords) save(now bool) {
	if now {
		select {
		case k.hurry <- struct{}{}:
		default:
		}
	}
	if k.saving || k.acked == "" {
		return
	}
	wait := max(0, time.Until(k.saved.Add(ackSaveInterval)))
	k.saving = true
	held := make([]*cursor.Held, 0, len(k.feed.parts))
	for i := range k.feed.parts {
		held = append(held, k.feed.parts[i].held)
	}
	k.server.loops.Go(func() {
		due := time.NewTimer(wait)
		defer due.Stop()
		select {
		case <-due.C:
			select {
			case <-k.hurry: // it is served with this one
			default:
			}
		case <-k.hurry:
		case <-k.ctx.Done():
		}
		var token string
		k.await(func(*output) { token, k.acked = k.acked, "" })
		var err error
		for _, h := range held {
			err = errors.Join(err, h.Save(k.ctx))
		}
		k.await(func(o *output) {
			k.saving, k.saved = false, time.Now()
			switch {
			case err == nil:
				k.feed.codec.control(o, "acked", map[string]string{"cursor": token}, nil)
			case k.acked == "":
				k.acked = token // in doubt: told with a later save
			}
			k.save(false)
		})
	})
}

// await has the loop run job, and waits for it.
func (k *socket) await(job func(o *output)) {
	done := make(chan struct{})
	k.ask(func(o *output) { job(o); close(done) })
	select {
	case <-done:
	case <-k.ctx.Done():
	}
}

// requery changes the session's filter in flight: what follows is what matches the new one, from where the session
// stands.
func (k *readerWords) requery(body json.RawMessage) error {
	f, err := k.query(body)
	if err != nil {
		return err
	}
	k.ask(func(o *output) {
		feed := k.feed
		feed.filter, feed.options.Filter = f, f
		for i := range feed.parts {
			feed.requery(o, &feed.parts[i])
		}
		feed.codec.control(o, "queried", struct{}{}, feed.cursor())
	})
	return nil
}

// wrapWriter hands websocket.Accept what wrap makes of the connection, and head the header of its answer.
type wrapWriter struct {
	http.ResponseWriter
	wrap func(net.Conn) net.Conn
	head func(http.Header)
}

// WriteHeader implements [http.ResponseWriter].
func (w *wrapWriter) WriteHeader(status int) {
	w.head(w.Header())
	w.ResponseWriter.WriteHeader(status)
}

// Hijack implements [http.Hijacker].
func (w *wrapWriter) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	c, rw, err := http.NewResponseController(w.ResponseWriter).Hijack()
	if err != nil {
		return nil, nil, fmt.Errorf("hijack: %w", err)
	}
	_ = c.SetDeadline(time.Time{})
	c = w.wrap(c)
	rw.Writer.Reset(c)
	return c, rw, nil
}

// Unwrap lets an http.ResponseController reach the original.
func (w *wrapWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// wholeConn is written to by a loop and by the library, which writes what answers to control frames are: whole frames both, one
// after the other. A write fails once the peer accepts nothing for the stall timeout.
type wholeConn struct {
	net.Conn
	stall time.Duration // static

	mu     sync.Mutex // held while something is written
	closed bool       // the last frame is written; guarded by mu
}

func (c *wholeConn) take(nc net.Conn) net.Conn {
	c.Conn = nc
	return c
}

// Write implements [net.Conn] for the library.
func (c *wholeConn) Write(b []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = c.closed || closes(b)
	if err := writeWithin(c.Conn, b, c.stall); err != nil {
		return 0, err
	}
	return len(b), nil
}

// messages writes frames of messages, of which there are none behind a close frame (RFC 6455, section 5.5.1).
func (c *wholeConn) messages(b []byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return net.ErrClosed
	}
	return writeWithin(c.Conn, b, c.stall)
}

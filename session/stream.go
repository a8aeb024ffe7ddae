package session

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"time"
)

// SSE serves a request as Server-Sent Events. It returns an error where nothing was answered yet, which the caller
// then turns into an answer; nil once the session has ended or is driven by a shard.
func (s *Server) SSE(w http.ResponseWriter, r *http.Request, q Request) error {
	if q.Subscription != "" {
		return s.deliver(w, r, q, "sse", "text/event-stream", sseDeliveries{sseCodec{typed: q.Typed}})
	}
	return s.stream(w, r, q, "sse", "text/event-stream", sseCodec{typed: q.Typed})
}

// NDJSON serves a request as an endless stream of JSON lines. It returns as SSE does.
func (s *Server) NDJSON(w http.ResponseWriter, r *http.Request, q Request) error {
	if q.Subscription != "" {
		return s.deliver(w, r, q, "ndjson", "application/x-ndjson", ndjsonDeliveries{})
	}
	return s.stream(w, r, q, "ndjson", "application/x-ndjson", ndjsonCodec{})
}

func (s *Server) stream(w http.ResponseWriter, r *http.Request, q Request, transport, contentType string, c codec) error {
	coding := ""
	if q.Gzip && !s.cfg.Plain {
		coding, c = "gzip", &zipped{codec: c, shared: s.zip}
	}
	head := func() {
		setHead(w.Header(), contentType)
		w.Header().Add("Vary", "Accept-Encoding")
		if coding != "" {
			w.Header().Set("Content-Encoding", coding)
		}
	}
	info := infoOf(transport, q)
	if r.ProtoMajor == 1 {
		if hj, ok := w.(http.Hijacker); ok {
			return s.hijack(hj, w, r, q, info, c, head)
		}
	}
	l := newLoop(s, info, q)
	if err := s.admit(&l.entry); err != nil {
		return err
	}
	f, err := s.prepare(r.Context(), q, 0, l, l.notify)
	if err != nil {
		s.leave(&l.entry, endFailure)
		return err
	}
	head()
	f.codec = c
	l.read(&f)
	l.serve(r.Context(), newResponseSink(w, s.cfg.Stall), firstBlock(transport, c, f.begin))
	return nil
}

// setHead sets the headers of an answer without end.
func setHead(h http.Header, contentType string) {
	h.Set("Content-Type", contentType)
	h.Set("Cache-Control", "no-cache, no-transform")
	h.Set("X-Accel-Buffering", "no") // nginx and its kin buffer otherwise
	h.Set("X-Content-Type-Options", "nosniff")
}

func infoOf(transport string, q Request) Info {
	info := Info{
		Transport: transport, Address: q.Address, Streams: make([]string, 0, len(q.Streams)), Subscription: q.Subscription,
		Consumer: q.Consumer, Filter: q.Filter != nil,
	}
	for _, st := range q.Streams {
		info.Streams = append(info.Streams, st.Name)
	}
	return info
}

// firstBlock is the resolved starting cursor, after the gaps there are, so that a client that is cut before its first
// event loses nothing.
func firstBlock(transport string, c codec, begin func(*output)) func(*output) {
	return func(o *output) {
		var text []byte
		if transport == "sse" {
			text = append(text, "retry: "...)
			text = strconv.AppendInt(text, jitter(2*time.Second).Milliseconds(), 10)
			text = append(text, '\n')
		}
		if z, ok := c.(*zipped); ok {
			z.open(o, text)
		} else {
			o.buf = append(o.buf, text...)
		}
		begin(o)
	}
}

// hijack takes the connection away from net/http, whose buffers and goroutine an idle session need not keep. head sets the
// headers of the answer.
func (s *Server) hijack(hj http.Hijacker, w http.ResponseWriter, r *http.Request, q Request, info Info, c codec, head func()) error {
	k, at := s.newConn(info, q)
	var l *loop // in place of k where the connection is none that a shard can write to
	plain := r.TLS == nil && canShard
	registered, owner, notify := &k.entry, any(k), func() {}
	if !plain {
		l = newLoop(s, info, q)
		registered, owner, notify, at = &l.entry, l, l.notify, 0
	}
	if err := s.admit(registered); err != nil {
		return err
	}
	f, err := s.prepare(r.Context(), q, at, owner, notify)
	if err != nil {
		s.leave(registered, endFailure)
		return err
	}
	f.codec = c
	head()
	header := w.Header().Clone()
	nc, buffered, err := hj.Hijack()
	if err != nil {
		f.close()
		s.leave(registered, endFailure)
		return err
	}
	s.took(registered)
	_ = buffered // what a client sends after its request means nothing here
	_ = nc.SetDeadline(time.Time{})
	if !plain {
		l.read(&f)
		l.over(r.Context(), nc, header, firstBlock(info.Transport, c, f.begin))
		return nil
	}
	if !k.attach(nc) {
		f.close()
		s.leave(&k.entry, endFailure)
		_ = nc.Close()
		return nil
	}
	k.feed = f
	o := output{buf: appendHead(nil, header)}
	firstBlock(info.Transport, c, k.feed.begin)(&o)
	k.feed.onLost(k.stop)
	k.begin(o.buf)
	return nil
}

// newConn makes a connection for a shard, and tells which by its 1-based number.
func (s *Server) newConn(info Info, q Request) (*conn, int) {
	at := int(s.turn.Add(1)) % len(s.shards)
	c := &conn{
		server: s, shard: s.shards[at], stall: s.cfg.Stall, heartbeat: s.beat(q), flush: s.flush(q), flushAsked: q.Flush != 0,
		entry: entry{info: info, request: q.RequestID},
	}
	c.entry.stop = c.stop
	return c, at + 1
}

// attach tells the connection what it goes over. It returns false where a shard cannot write to that.
func (c *conn) attach(nc net.Conn) bool {
	raw, ok := rawConn(nc)
	if !ok {
		return false
	}
	c.net, c.raw = nc, raw
	return raw.Control(func(fd uintptr) { c.fd = int(fd) }) == nil
}

// over serves the session over a connection that was taken from net/http, until it ends, and closes it.
func (l *loop) over(ctx context.Context, nc net.Conn, header http.Header, first func(*output)) {
	l.cutBy(func() { _ = nc.Close() })
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	l.server.loops.Go(func() { // ends with the connection
		defer cancel()
		var b [256]byte
		for {
			if _, err := nc.Read(b[:]); err != nil {
				return
			}
		}
	})
	l.serve(ctx, &connSink{nc: nc, stall: l.server.cfg.Stall}, func(o *output) { o.buf = appendHead(o.buf, header); first(o) })
	_ = nc.Close()
}

// begin sends the head and the first block and gives the connection to its shard.
func (c *conn) begin(head []byte) {
	n, err := c.tryWrite(head)
	c.lastWrite = time.Now()
	if err == nil && c.frames == nil { // a WebSocket has who reads
		err = c.server.watcher.add(c)
	}
	if err == nil && n < len(head) {
		_ = c.net.SetWriteDeadline(time.Now().Add(c.stall))
		_, err = c.net.Write(head[n:])
	}
	if err != nil {
		c.torn = true
		c.hungUp.Store(true)
	}
	c.shard.start(c)
}

func appendHead(dst []byte, h http.Header) []byte {
	dst = append(dst, "HTTP/1.1 200 OK\r\nDate: "...)
	dst = time.Now().UTC().AppendFormat(dst, http.TimeFormat)
	dst = append(dst, "\r\nConnection: close\r\n"...)
	for name, values := range h {
		if name == "Content-Length" || name == "Connection" || name == "Transfer-Encoding" || name == "Date" {
			continue
		}
		for _, v := range values {
			dst = append(dst, name...)
			dst = append(dst, ": "...)
			dst = append(dst, v...)
			dst = append(dst, "\r\n"...)
		}
	}
	return append(dst, "\r\n"...)
}

func (s *Server) beat(q Request) time.Duration {
	if q.Heartbeat > 0 {
		return q.Heartbeat
	}
	return s.cfg.Heartbeat
}

func (s *Server) flush(q Request) time.Duration {
	switch {
	case q.Flush < 0:
		return 0
	case q.Flush > 0:
		return q.Flush
	case q.Subscription != "": // what waits for an acknowledgement to come holds others up
		return min(shareFlush, max(0, s.cfg.Flush))
	}
	return max(0, s.cfg.Flush)
}

// shareFlush is how often a busy session of a subscription is written to at most.
const shareFlush = 2 * time.Millisecond

// Refuse answers an SSE request that is not to be served now: a browser's EventSource gives up for good on any status
// but 200, so that it is told to come back in band.
func Refuse(w http.ResponseWriter, after time.Duration, name string, payload any) {
	h := w.Header()
	h.Set("Content-Type", "text/event-stream")
	h.Set("Cache-Control", "no-cache, no-transform")
	h.Set("X-Accel-Buffering", "no")
	h.Set("Connection", "close")
	var o output
	o.buf = append(o.buf, "retry: "...)
	o.buf = strconv.AppendInt(o.buf, after.Milliseconds(), 10)
	o.buf = append(o.buf, "\n\n"...)
	sseCodec{}.control(&o, name, payload, nil)
	w.WriteHeader(http.StatusOK)
	_, _ = w.Write(o.buf)
}

// sink is where a loop writes. write tells how many bytes went to the client.
type sink interface {
	write(o *output) (int, error)
}

// connSink writes to a hijacked connection that a shard cannot drive.
type connSink struct {
	nc    net.Conn
	stall time.Duration
}

func (k *connSink) write(o *output) (int, error) {
	if err := writeWithin(k.nc, o.shared, k.stall); err != nil {
		return 0, err
	}
	return o.size(), writeWithin(k.nc, o.buf, k.stall)
}

// writeWithin writes b however long the peer takes, as long as it takes a piece within every stall timeout.
func writeWithin(nc net.Conn, b []byte, stall time.Duration) error {
	for len(b) > 0 {
		_ = nc.SetWriteDeadline(time.Now().Add(stall))
		n := min(len(b), 16<<10) // so that a slow peer that still reads makes progress within the deadline
		m, err := nc.Write(b[:n])
		if err != nil {
			return fmt.Errorf("write: %w", err)
		}
		b = b[m:]
	}
	return nil
}

// responseSink writes through net/http, for HTTP/2.
type responseSink struct {
	w     http.ResponseWriter
	rc    *http.ResponseController
	stall time.Duration
}

func newResponseSink(w http.ResponseWriter, stall time.Duration) *responseSink {
	return &responseSink{w: w, rc: http.NewResponseController(w), stall: stall}
}

func (k *responseSink) write(o *output) (int, error) {
	// HTTP/2 resets a stream once its deadline has passed, though nothing is being written.
	defer func() { _ = k.rc.SetWriteDeadline(time.Time{}) }()
	for _, b := range [...][]byte{o.shared, o.buf} {
		for len(b) > 0 {
			_ = k.rc.SetWriteDeadline(time.Now().Add(k.stall))
			n := min(len(b), 16<<10)
			if _, err := k.w.Write(b[:n]); err != nil {
				return 0, err
			}
			b = b[n:]
		}
	}
	return o.size(), k.rc.Flush()
}

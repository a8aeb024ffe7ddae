package session

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/eventissuer/eventissuer/internal/clock"
	"github.com/eventissuer/eventissuer/internal/fanout"
)

// conn is a session over a plain TCP connection that a shard drives.
type conn struct {
	// static
	net        net.Conn
	raw        syscall.RawConn
	fd         int // of raw; valid until the owner closes net
	shard      *shard
	stall      time.Duration
	heartbeat  time.Duration
	flush      time.Duration
	flushAsked bool // by the client: then it holds however idle the server is
	server     *Server
	watchID    uint64

	flags
	waiting atomic.Pointer[context.CancelFunc] // ends the wait for the log, where there is one
	entry                                      // of the server's register

	// owned by the shard's goroutine, or by the goroutine that the connection was sent away with
	feed      feed
	frames    *frames // static once begun; nil where the connection is no WebSocket
	torn      bool    // what was written last may not have been written whole
	lastWrite time.Time
	notBefore time.Time // a busy connection is written to at most once a flush interval

	// owned by the shard's goroutine
	isAway   bool
	deferred bool
	gone     bool
}

// ending is how a session is to be ended.
type ending struct {
	name    string // of the last control message; "" for none
	payload any
	reason  string
}

// finish asks for the session's end. The first reason given holds; it returns whether that is this one.
func (c *conn) finish(name string, payload any, reason string) bool {
	return c.end.CompareAndSwap(nil, &ending{name, payload, reason})
}

func (c *conn) stop(name string, payload any, reason string) {
	first := c.finish(name, payload, reason)
	c.interrupt()
	if first && c.begun.Load() {
		_ = c.net.SetWriteDeadline(time.Now().Add(endPatience)) // for a write that waits for a slow peer
	}
	c.shard.enqueue(c)
}

// endPatience is how long a session that is to end waits for a peer that takes nothing.
const endPatience = time.Second

func (c *conn) hangUp() {
	c.hungUp.Store(true)
	c.interrupt()
	c.shard.enqueue(c)
}

// interrupt ends a wait for the log, so that who waits looks at what is asked of it.
func (c *conn) interrupt() {
	if cancel := c.waiting.Load(); cancel != nil {
		(*cancel)()
	}
}

// fill reads the log for as long as until the next heartbeat is due, or something is asked of the session.
func (c *conn) fill(ctx context.Context, s *scratch) (fanout.Status, error) {
	ctx, cancel := context.WithDeadline(ctx, c.lastWrite.Add(c.heartbeat))
	defer cancel()
	c.waiting.Store(&cancel)
	defer c.waiting.Store(nil)
	if c.hungUp.Load() || c.end.Load() != nil || c.waits() { // after the store: whoever comes later finds what to cancel
		return fanout.Behind, nil
	}
	status, err := c.feed.fill(ctx, &s.out, &s.entries, catchUpBytes)
	if err != nil && ctx.Err() != nil {
		return status, nil // the log has not failed
	}
	return status, err
}

// waits says that a WebSocket's client, or its library, has something done.
func (c *conn) waits() bool { return c.frames != nil && c.frames.waits.Load() }

// asked does what a WebSocket's client asked for.
func (c *conn) asked(o *output) {
	if c.waits() {
		c.frames.asked(&c.feed, o)
	}
}

// do implements [driver] for WebSockets.
func (c *conn) do(job func(o *output)) bool { return c.frames.do(job) }

// due returns what is to be written of o, by way of wire where it has to be framed.
func (c *conn) due(o *output, wire *[]byte) (shared, own []byte) {
	if c.frames == nil {
		return o.shared, o.buf
	}
	*wire = c.frames.append((*wire)[:0], o)
	return nil, *wire
}

// tryWrite writes as much as the socket takes without blocking. It goes to the descriptor itself: only who owns the
// connection writes to it or closes it, so that the locks of net.Conn would be paid for nothing at every delivery.
func (c *conn) tryWrite(b []byte) (n int, err error) {
	for n < len(b) {
		m, err := writeFD(c.fd, b[n:])
		if m > 0 {
			n += m
		}
		switch {
		case errors.Is(err, syscall.EINTR):
		case errors.Is(err, syscall.EAGAIN):
			return n, nil
		case err != nil:
			return n, err
		case m == 0:
			return n, nil
		}
	}
	return n, nil
}

// writeAll writes b however long the peer takes, as long as it takes some within every stall timeout. A session that is to
// end waits no longer than endPatience, so that it can be told why.
func (c *conn) writeAll(ctx context.Context, b []byte) error {
	stop := context.AfterFunc(ctx, func() { _ = c.net.SetWriteDeadline(time.Unix(1, 0)) })
	defer stop()
	for len(b) > 0 {
		_ = c.net.SetWriteDeadline(time.Now().Add(c.stall))
		ends := c.end.Load() != nil // after the deadline, which stop may have set to a nearer one already
		if ends {
			_ = c.net.SetWriteDeadline(time.Now().Add(endPatience))
		}
		if ctx.Err() != nil || c.hungUp.Load() {
			return net.ErrClosed
		}
		n, err := c.net.Write(b)
		b = b[n:]
		c.server.m.bytes.Add(float64(n))
		if err != nil && (n == 0 || ends || !errors.Is(err, os.ErrDeadlineExceeded)) {
			return fmt.Errorf("write: %w", err)
		}
	}
	c.lastWrite = time.Now()
	return nil
}

// writeBoth writes what is shared and then what is the session's own.
func (c *conn) writeBoth(ctx context.Context, shared, own []byte) error {
	if err := c.writeAll(ctx, shared); err != nil {
		return err
	}
	return c.writeAll(ctx, own)
}

// catchUp reads the log and writes what matches until a reader has met its ring; its shard then looks at all.
func (c *conn) catchUp(ctx context.Context) error {
	s := scratchPool.Get().(*scratch)
	defer scratchPool.Put(s)
	for {
		if ctx.Err() != nil {
			return net.ErrClosed
		}
		if c.hungUp.Load() || c.end.Load() != nil {
			return nil
		}
		s.out.reset()
		c.asked(&s.out)
		status := c.feed.gather(&s.out, &s.entries, catchUpBytes) // other streams of the session may be live
		var err error
		if status == fanout.Behind {
			status, err = c.fill(ctx, s)
		}
		if err != nil {
			c.server.m.readErrors.Inc()
			c.server.logger.Debug("a catch-up waits for the log", "error", err)
		}
		if s.out.size() == 0 && status == fanout.Behind && time.Since(c.lastWrite) >= c.heartbeat {
			c.feed.beat(&s.out) // a filtered reader, too, keeps what it has passed
		}
		if s.out.size() > 0 || c.waits() {
			last := c.lastWrite
			shared, own := c.due(&s.out, &s.wire)
			if err := c.writeBoth(ctx, shared, own); err != nil {
				return err
			}
			if s.out.size() == 0 { // a WebSocket's own, beside which heartbeats go on
				c.lastWrite = last
			}
			c.feed.written()
		}
		if err != nil {
			c.sleep(ctx)
		}
		if status != fanout.Behind {
			return nil
		}
	}
}

const (
	catchUpBytes = 32 << 10
	readRetry    = 250 * time.Millisecond
)

// scratch is what a catch-up needs while it runs.
type scratch struct {
	out     output
	entries []*fanout.Entry
	wire    []byte // frames
}

var scratchPool = sync.Pool{New: func() any { return new(scratch) }}

// sleep waits before a log that failed is asked again, unless something is asked of the session.
func (c *conn) sleep(ctx context.Context) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	c.waiting.Store(&cancel)
	defer c.waiting.Store(nil)
	if !c.hungUp.Load() && c.end.Load() == nil && !c.waits() {
		clock.Pause(ctx, readRetry)
	}
}

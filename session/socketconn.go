package session

import (
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// frames is a WebSocket that a shard writes to. The shard makes the frames of messages itself (RFC 6455, section 5.2) and sends
// between them what the library answers to its peer's control frames; the library reads. To the library it is the connection.
type frames struct {
	net.Conn // static; the connection itself

	framer framer // owned by who owns the connection

	// static once begun
	conn   *conn
	stall  time.Duration
	close  func(*ending) // the closing handshake, which blocks for some seconds at most; nil once the shard has let go
	cancel func()        // ends what reads; likewise

	waits atomic.Bool // there are jobs or control frames

	mu      sync.Mutex
	closed  bool                // the library has said its last; guarded by mu
	byShard bool                // Write gathers, for the shard to write; guarded by mu
	control []byte              // whole frames, until the shard writes them; guarded by mu
	jobs    []func(out *output) // what the client asked for in flight, maxJobs at most; guarded by mu
}

// maxControl bounds the answers to control frames that wait for the connection to take them. A peer that pings on while it
// reads nothing is closed.
const maxControl = 2 * pingBurst * maxControlFrame

// maxControlFrame is the longest control frame of a server (RFC 6455, section 5.5).
const maxControlFrame = 2 + 125

var errControlFlood = errors.New("the peer sends control frames and does not take the answers")

// Write implements [net.Conn] for the library, which writes each frame whole.
func (k *frames) Write(b []byte) (int, error) {
	k.mu.Lock()
	switch {
	case !k.byShard:
		k.mu.Unlock() // or who closes would wait for a peer that takes nothing
		if err := writeWithin(k.Conn, b, k.stall); err != nil {
			return 0, err
		}
		return len(b), nil
	case len(k.control)+len(b) > maxControl:
		k.mu.Unlock()
		return 0, errControlFlood
	}
	k.control = append(k.control, b...)
	k.closed = k.closed || closes(b)
	k.note()
	k.mu.Unlock()
	k.conn.interrupt()
	k.conn.shard.enqueue(k.conn)
	return len(b), nil
}

// Close implements [net.Conn] for the library. The descriptor is the shard's for as long as it writes.
func (k *frames) Close() error {
	k.mu.Lock()
	byShard := k.byShard
	k.mu.Unlock()
	if byShard {
		k.conn.hangUp()
		return nil
	}
	return k.Conn.Close()
}

// begin leaves writing to the shard.
func (k *frames) begin() {
	k.mu.Lock()
	k.byShard = true
	k.mu.Unlock()
}

// do has the shard call job before it writes on. It returns false where too much is asked already, or it writes no more.
func (k *frames) do(job func(*output)) bool {
	k.mu.Lock()
	if len(k.jobs) >= maxJobs || !k.byShard {
		k.mu.Unlock()
		return false
	}
	k.jobs = append(k.jobs, job)
	k.note()
	k.mu.Unlock()
	k.conn.interrupt()
	k.conn.shard.enqueue(k.conn)
	return true
}

// note says whether anything waits. The caller holds mu.
func (k *frames) note() { k.waits.Store(len(k.control)+len(k.jobs) > 0) }

// asked runs the jobs. It belongs to who owns the connection.
func (k *frames) asked(f *feed, o *output) {
	k.mu.Lock()
	jobs := k.jobs
	k.jobs = nil
	k.note()
	k.mu.Unlock()
	if len(jobs) == 0 {
		return
	}
	f.unpark()
	for _, job := range jobs {
		job(o)
	}
}

// append frames what o has, behind the control frames that wait. It belongs to who owns the connection.
func (k *frames) append(dst []byte, o *output) []byte {
	k.mu.Lock()
	if len(k.control) > 0 {
		dst, k.control = append(dst, k.control...), nil
	}
	closed := k.closed
	k.note()
	k.mu.Unlock()
	if closed { // no message follows a close frame (RFC 6455, section 5.5.1)
		return dst
	}
	return k.framer.append(dst, o)
}

// closes reports whether a frame is that which ends a WebSocket.
func closes(frame []byte) bool {
	const finClose = 0x88
	return len(frame) > 0 && frame[0] == finClose
}

// hangUp closes the connection, which the shard lets go of. What the library has answered last is mostly the peer's own close.
func (k *frames) hangUp() {
	control, _, cancel := k.takeBack()
	if !k.conn.torn {
		_, _ = k.conn.tryWrite(control)
	}
	_ = k.Conn.Close()
	cancel()
}

// finish closes the connection, which the shard has let go of, by a closing handshake.
func (k *frames) finish(s *Server, end *ending) {
	control, closing, cancel := k.takeBack()
	s.loops.Go(func() {
		defer cancel()
		defer func() { _ = k.Conn.Close() }() // the library does not where the peer's own close came first
		if len(control) == 0 || writeWithin(k.Conn, control, endPatience) == nil {
			closing(end)
		}
	})
}

// takeBack has the library write by itself again, and lets go of what the connection would keep until its last timer is due. It
// returns what the library would still have written.
func (k *frames) takeBack() (control []byte, closing func(*ending), cancel func()) {
	k.mu.Lock()
	defer k.mu.Unlock()
	control, closing, cancel = k.control, k.close, k.cancel
	k.byShard, k.control, k.jobs, k.close, k.cancel, k.framer.last = false, nil, nil, nil, nil, nil
	return control, closing, cancel
}

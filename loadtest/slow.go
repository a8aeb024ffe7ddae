package loadtest

import (
	"context"
	"net"
	"time"
)

// Slowness is how slowly a reader takes what it is sent. Once the window has ended all read as fast as they can, so that
// what is lost is told from what is merely late.
type Slowness struct {
	BytesPerSecond int           `json:"bytesPerSecond,omitempty"` // at most so many; 0: no limit
	Every          time.Duration `json:"every,omitempty"`          // it reads for so long,
	For            time.Duration `json:"for,omitempty"`            // and then nothing for so long; 0: it makes no pauses
	// Buffer is the socket's receive buffer, in bytes; default 8192, so that it is the server that is held up, and not the
	// kernel that takes in what the reader does not. The kernel doubles it.
	Buffer int `json:"buffer,omitempty"`
}

// slowBuffer is the receive buffer of slow readers.
const slowBuffer = 8 << 10

// slow is one reader's state.
type slow struct {
	config *Slowness // nil: it is not slow
	offset int64     // of its pauses, so that not all make them together
	tokens float64   // bytes that it may read
	at     int64     // when they were counted
}

func newSlow(c *Slowness, number int) slow {
	return slow{config: c, offset: int64(number) * int64(7919*time.Millisecond)}
}

// allow says how many bytes, of at most most, may be read now, or, where that is 0, until when none. Times are Unix nanoseconds.
func (s *slow) allow(now int64, most int) (n int, until int64) {
	c := s.config
	if c == nil {
		return most, 0
	}
	if c.For > 0 {
		round := int64(c.Every + c.For)
		if phase := (now + s.offset) % round; phase >= int64(c.Every) {
			return 0, now + round - phase
		}
	}
	if c.BytesPerSecond <= 0 {
		return most, 0
	}
	rate := float64(c.BytesPerSecond) / 1e9
	full := max(1, float64(c.BytesPerSecond)/4)
	if s.at == 0 {
		s.at = now
	}
	s.tokens = min(full, s.tokens+float64(now-s.at)*rate)
	s.at = now
	if enough := max(1, full/2); s.tokens < enough { // not one byte at a time
		return 0, now + int64((enough-s.tokens)/rate) + 1
	}
	return min(most, int(s.tokens)), 0
}

// took notes that n bytes were read.
func (s *slow) took(n int) { s.tokens -= float64(n) }

// slowConn reads slowly, until the window has ended.
type slowConn struct {
	net.Conn
	ctx  context.Context //nolint:containedctx // of the session that has the connection: Read is given none
	slow slow
	all  *gauges
	read bool // something has been: the answer's header is not slow to come
}

// Read implements net.Conn.
func (c *slowConn) Read(p []byte) (int, error) {
	for c.read && c.all.to.Load() == 0 {
		n, until := c.slow.allow(time.Now().UnixNano(), len(p))
		if n > 0 {
			p = p[:n]
			break
		}
		pause := min(time.Until(time.Unix(0, until)), 100*time.Millisecond) // the window may end meanwhile
		if !wait(c.ctx, max(pause, time.Millisecond)) {
			return 0, c.ctx.Err()
		}
	}
	n, err := c.Conn.Read(p)
	c.slow.took(n)
	c.read = true
	return n, err
}

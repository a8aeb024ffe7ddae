package hostile

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"
)

// The ways in which an attacking connection ends, beside the status that the server answered.
const (
	endHeld    = "open at the end" // the server neither answered nor closed it
	endClosed  = "closed"          // by the server, in order
	endReset   = "reset"           // by the server
	endRefused = "refused"         // never open
	endOurs    = "closed by us"
)

// hand is one connection of an attack.
type hand struct {
	net.Conn

	tcp   *net.TCPConn // under it
	place *place
	n     uint64 // of this connection among all of the attack, for attacks that take turns at two forms
	pace  time.Duration
	purse *purse
	in    *bufio.Reader // what the server says
}

// place is what is attacked.
type place struct {
	address string // host:port
	host    string // for Host: and TLS
	stream  string // path of the stream
	nobody  string // the same with a filter that nothing matches: what sessions of attackers are sent is not what is measured
	publish string // path of publishing
	tls     bool
	from    net.Addr // nil: any

	// made where an attack needs them
	gzipBombs   [2][]byte
	deflateBomb []byte
}

// dial opens a connection, number n of its attack. It is closed by the function that is returned, and fails once ctx ends.
func (t *troop) dial(ctx context.Context, n uint64) (*hand, func(), error) {
	p := t.place
	d := net.Dialer{Timeout: 5 * time.Second, LocalAddr: p.from}
	conn, err := d.DialContext(ctx, "tcp", p.address)
	if err != nil {
		return nil, nil, err
	}
	h := &hand{Conn: conn, tcp: conn.(*net.TCPConn), place: p, n: n, pace: t.config.Pace, purse: &t.purse}
	if p.tls && !t.attack.plain {
		host, _, err := net.SplitHostPort(p.host)
		if err != nil {
			host = p.host
		}
		secure := tls.Client(conn, &tls.Config{ServerName: host, InsecureSkipVerify: true, NextProtos: []string{"http/1.1"}}) // an attacker trusts whom it likes
		if err := secure.HandshakeContext(ctx); err != nil {
			_ = conn.Close()
			return nil, nil, err
		}
		h.Conn = secure
	}
	h.in = bufio.NewReaderSize(h.Conn, 512)
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	return h, func() { stop(); _ = conn.Close() }, nil
}

// pieceBytes is what is written at once, so that the bytes that the attack may send are shared among its connections.
const pieceBytes = 16 << 10

// send writes b, and says how the connection ended where it did. A server that takes nothing for a pace ends the sending.
func (h *hand) send(ctx context.Context, b []byte) (string, bool) {
	if err := h.put(ctx, b); err != nil {
		if said, ok := h.hear(0); ok && said != endReset { // what it said before it closed
			return said, true
		}
		return ended(err), true
	}
	return "", false
}

// put writes b as the purse allows.
func (h *hand) put(ctx context.Context, b []byte) error {
	for len(b) > 0 {
		piece := b[:min(len(b), pieceBytes)]
		if err := h.purse.spend(ctx, len(piece)); err != nil {
			return os.ErrDeadlineExceeded
		}
		_ = h.SetWriteDeadline(time.Now().Add(h.pace + time.Second))
		n, err := h.Write(piece)
		if err != nil {
			return err
		}
		b = b[n:]
	}
	return nil
}

// purse is how many bytes an attack may still send. Its connections share it.
type purse struct {
	perSecond float64

	mu   sync.Mutex
	next time.Time // guarded by mu; when the bytes that are spent by now will have been earned
}

// spend waits until n bytes may be sent.
func (p *purse) spend(ctx context.Context, n int) error {
	p.mu.Lock()
	now := time.Now()
	if p.next.Before(now) {
		p.next = now
	}
	wait := p.next.Sub(now)
	p.next = p.next.Add(time.Duration(float64(n) / p.perSecond * float64(time.Second)))
	p.mu.Unlock()
	if wait <= 0 {
		return ctx.Err()
	}
	return sleep(ctx, wait)
}

// hear waits up to d for the server to answer or to end the connection, and says which it was.
func (h *hand) hear(d time.Duration) (string, bool) {
	_ = h.SetReadDeadline(time.Now().Add(max(d, time.Millisecond)))
	b, err := h.in.Peek(len("HTTP/1.1 200"))
	if status, ok := statusOf(b); ok {
		return status, true
	}
	if err == nil {
		_, err = h.in.Discard(h.in.Buffered())
	}
	if err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		return "", false
	}
	return ended(err), true
}

// repeat sends a piece at each pace until the server answers or ends the connection.
func (h *hand) repeat(ctx context.Context, piece func(i int) []byte) string {
	for i := 0; ctx.Err() == nil; i++ {
		if end, is := h.send(ctx, piece(i)); is {
			return end
		}
		if end, is := h.hear(h.pace); is {
			return end
		}
	}
	return endHeld
}

// answer waits until the server answers or ends the connection.
func (h *hand) answer(ctx context.Context) string {
	for ctx.Err() == nil {
		if end, is := h.hear(h.pace); is {
			return end
		}
	}
	return endHeld
}

// reset closes the connection by a RST in place of a FIN.
func (h *hand) reset() string {
	_ = h.tcp.SetLinger(0)
	_ = h.tcp.Close()
	return endOurs
}

// statusOf finds an HTTP status at the beginning of an answer.
func statusOf(b []byte) (string, bool) {
	if len(b) < len("HTTP/1.1 200") || string(b[:7]) != "HTTP/1." {
		return "", false
	}
	return string(b[9:12]), true
}

// ended names the end that an error is.
func ended(err error) string {
	switch {
	case errors.Is(err, io.EOF):
		return endClosed
	case errors.Is(err, os.ErrDeadlineExceeded):
		return endHeld
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return endReset
	case errors.Is(err, net.ErrClosed):
		return endOurs
	}
	return fmt.Sprint("error: ", err)
}

package embedded

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"
)

const (
	linkMost = 1 << 20  // bytes under way in one direction of a link; its writer waits for room beyond them
	linkKeep = 64 << 10 // bytes of memory that a direction keeps while nothing is under way

	acceptAgain = 50 * time.Millisecond // after a failure to
)

// link gives both ends of a connection within this process. Unlike [net.Pipe]'s a write does not wait for the reader, and
// unlike a socket's it wakes nobody but the goroutine that reads. Each end is for one reader and one writer at a time.
func link(addr net.Addr) (client, server net.Conn) {
	there, back := newStream(), newStream()
	return &linkEnd{in: back, out: there, addr: addr}, &linkEnd{in: there, out: back, addr: addr}
}

// linkEnd is one end of a link.
type linkEnd struct {
	in, out *stream
	addr    net.Addr
}

// Read implements net.Conn.
func (e *linkEnd) Read(p []byte) (int, error) { return e.in.read(p) }

// Write implements net.Conn.
func (e *linkEnd) Write(p []byte) (int, error) { return e.out.write(p) }

// Close implements net.Conn. The other end still reads what is under way to it.
func (e *linkEnd) Close() error {
	e.in.change(func(s *stream) { s.left = true })
	e.out.change(func(s *stream) { s.over = true })
	return nil
}

// LocalAddr implements net.Conn.
func (e *linkEnd) LocalAddr() net.Addr { return e.addr }

// RemoteAddr implements net.Conn.
func (e *linkEnd) RemoteAddr() net.Addr { return e.addr }

// SetDeadline implements net.Conn.
func (e *linkEnd) SetDeadline(t time.Time) error {
	_ = e.SetReadDeadline(t)
	return e.SetWriteDeadline(t)
}

// SetReadDeadline implements net.Conn.
func (e *linkEnd) SetReadDeadline(t time.Time) error {
	e.in.change(func(s *stream) { s.readBy = t })
	return nil
}

// SetWriteDeadline implements net.Conn.
func (e *linkEnd) SetWriteDeadline(t time.Time) error {
	e.out.change(func(s *stream) { s.writeBy = t })
	return nil
}

// stream is one direction of a link.
type stream struct {
	reader, writer chan struct{} // wake them, to look again

	mu              sync.Mutex // guards what follows
	bytes           []byte     // under way
	from            int        // of which the first ones were read
	over            bool       // the writer has closed its end
	left            bool       // the reader has
	readBy, writeBy time.Time  // the zero time: whenever
}

func newStream() *stream {
	return &stream{reader: make(chan struct{}, 1), writer: make(chan struct{}, 1)}
}

// change changes what a reader or a writer that waits has to know.
func (s *stream) change(how func(*stream)) {
	s.mu.Lock()
	how(s)
	s.mu.Unlock()
	wake(s.reader)
	wake(s.writer)
}

func wake(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default: // it was, and has not looked yet
	}
}

func (s *stream) read(p []byte) (int, error) {
	for {
		s.mu.Lock()
		n := copy(p, s.bytes[s.from:])
		s.from += n
		if s.from == len(s.bytes) {
			s.from, s.bytes = 0, s.bytes[:0]
			if cap(s.bytes) > linkKeep {
				s.bytes = nil
			}
		}
		over, left, by := s.over, s.left, s.readBy
		s.mu.Unlock()
		switch {
		case left:
			return 0, net.ErrClosed
		case n > 0 || len(p) == 0:
			wake(s.writer)
			return n, nil
		case over:
			return 0, io.EOF
		}
		if err := await(s.reader, by); err != nil {
			return 0, err
		}
	}
}

func (s *stream) write(p []byte) (written int, err error) {
	for {
		s.mu.Lock()
		n := min(len(p)-written, linkMost-(len(s.bytes)-s.from))
		over, left, by := s.over, s.left, s.writeBy
		if !over && !left && n > 0 {
			if s.from > 0 && len(s.bytes)+n > cap(s.bytes) {
				s.bytes = s.bytes[:copy(s.bytes, s.bytes[s.from:])]
				s.from = 0
			}
			s.bytes = append(s.bytes, p[written:written+n]...)
			written += n
		}
		s.mu.Unlock()
		switch {
		case over:
			return written, net.ErrClosed
		case left:
			return written, syscall.EPIPE
		case n > 0:
			wake(s.reader)
		}
		if written == len(p) {
			return written, nil
		}
		if err := await(s.writer, by); err != nil {
			return written, err
		}
	}
}

// await waits until it is woken or the deadline is over, which may be either when it returns nil.
func await(woken <-chan struct{}, by time.Time) error {
	if by.IsZero() {
		<-woken
		return nil
	}
	left := time.Until(by)
	if left <= 0 {
		return os.ErrDeadlineExceeded
	}
	timer := time.NewTimer(left)
	defer timer.Stop()
	select {
	case <-woken:
	case <-timer.C:
	}
	return nil
}

// linkListener takes links beside the connections of the listener that it stands upon.
type linkListener struct {
	net.Listener
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
	work   sync.WaitGroup
}

func listenForLinks(on net.Listener) *linkListener {
	l := &linkListener{Listener: on, conns: make(chan net.Conn), closed: make(chan struct{})}
	l.work.Go(func() {
		for {
			conn, err := on.Accept()
			if errors.Is(err, net.ErrClosed) {
				return
			}
			if err != nil { // there are too many open files at the moment
				select {
				case <-time.After(acceptAgain):
					continue
				case <-l.closed:
					return
				}
			}
			select {
			case l.conns <- conn:
			case <-l.closed:
				_ = conn.Close()
				return
			}
		}
	})
	return l
}

// Accept implements net.Listener.
func (l *linkListener) Accept() (net.Conn, error) {
	select {
	case conn := <-l.conns:
		return conn, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener.
func (l *linkListener) Close() error {
	var err error
	l.once.Do(func() {
		close(l.closed)
		err = l.Listener.Close()
		l.work.Wait()
	})
	return err
}

// dial gives a link to who accepts here.
func (l *linkListener) dial(ctx context.Context) (net.Conn, error) {
	client, server := link(l.Addr())
	select {
	case l.conns <- server:
		return client, nil
	case <-l.closed:
		return nil, &net.OpError{Op: "dial", Net: "tcp", Addr: l.Addr(), Err: syscall.ECONNREFUSED}
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

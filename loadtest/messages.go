package loadtest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strconv"
)

// Bounds of a message.
const (
	maxMessageHead = 64 << 10
	maxMessageBody = 16 << 20
)

// What is answered.
const (
	answerTaken   = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
	answerConsent = "HTTP/1.1 200 OK\r\nAllow: POST\r\nWebHook-Allowed-Origin: *\r\nWebHook-Allowed-Rate: *\r\nContent-Length: 0\r\n\r\n"
	answerRefused = "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n"
	answerUnknown = "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"
)

// request is one request as it lies in its connection's buffer, until the next is read.
type request struct {
	method, path []byte
	head         []byte // the header's lines
	body         []byte
}

// signed returns the headers that a signature is verified by.
func (q *request) signed() http.Header {
	h := http.Header{}
	for line := range bytes.Lines(q.head) {
		name, value, ok := bytes.Cut(bytes.TrimSpace(line), []byte(":"))
		if ok && len(name) > 8 && bytes.EqualFold(name[:8], []byte("webhook-")) {
			h.Add(string(name), string(bytes.TrimSpace(value)))
		}
	}
	return h
}

// messages reads the requests of one connection.
type messages struct {
	conn io.Reader
	buf  []byte
	from int // what lies before it has been handed out
	to   int // what lies behind it has not been read
}

var endOfHead = []byte("\r\n\r\n")

// fill reads more, into a buffer that has room for size bytes from the request's first on.
func (m *messages) fill(size int) error {
	if m.from > 0 {
		copy(m.buf, m.buf[m.from:m.to])
		m.from, m.to = 0, m.to-m.from
	}
	if size > len(m.buf) || m.to == len(m.buf) {
		grown := make([]byte, max(size, 2*len(m.buf)))
		copy(grown, m.buf[:m.to])
		m.buf = grown
	}
	n, err := m.conn.Read(m.buf[m.to:])
	m.to += n
	if n > 0 {
		return nil
	}
	return err
}

// next reads a request. The error is io.EOF where the connection ended between two.
func (m *messages) next(q *request) error {
	head := -1
	for searched := 0; ; {
		if head = bytes.Index(m.buf[m.from+searched:m.to], endOfHead); head >= 0 {
			head += searched + len(endOfHead)
			break
		}
		searched = max(0, m.to-m.from-len(endOfHead)+1)
		if m.to-m.from > maxMessageHead {
			return fmt.Errorf("a header of more than %d bytes", maxMessageHead)
		}
		if err := m.fill(0); err != nil {
			if errors.Is(err, io.EOF) && m.to > m.from {
				return io.ErrUnexpectedEOF
			}
			return err
		}
	}
	length, err := contentLength(m.buf[m.from : m.from+head])
	if err != nil {
		return err
	}
	for m.to-m.from < head+length {
		if err := m.fill(head + length); err != nil {
			if errors.Is(err, io.EOF) {
				return io.ErrUnexpectedEOF
			}
			return err
		}
	}
	all := m.buf[m.from : m.from+head+length]
	m.from += len(all)
	line, fields, _ := bytes.Cut(all[:head], []byte("\r\n"))
	method, rest, _ := bytes.Cut(line, []byte(" "))
	path, _, ok := bytes.Cut(rest, []byte(" "))
	if !ok {
		return fmt.Errorf("no request line: %.60q", line)
	}
	*q = request{method: method, path: path, head: fields, body: all[head:]}
	return nil
}

// contentLength finds how long the body is. A body in chunks is an error: messages are known whole before they are sent.
func contentLength(head []byte) (int, error) {
	length := 0
	for len(head) > 0 {
		end := bytes.IndexByte(head, '\n')
		if end < 0 {
			break
		}
		line := head[:end]
		head = head[end+1:]
		if len(line) < 15 || line[0]|0x20 != 'c' && line[0]|0x20 != 't' {
			continue
		}
		name, value, ok := bytes.Cut(line, []byte(":"))
		switch {
		case !ok:
		case bytes.EqualFold(name, []byte("content-length")):
			n, err := strconv.Atoi(string(bytes.TrimSpace(value)))
			if err != nil || n < 0 || n > maxMessageBody {
				return 0, fmt.Errorf("a body of %.20q bytes, expected up to %d", bytes.TrimSpace(value), maxMessageBody)
			}
			length = n
		case bytes.EqualFold(name, []byte("transfer-encoding")):
			return 0, errors.New("a body without Content-Length")
		}
	}
	return length, nil
}

// serve answers the requests of one connection, until it or ctx ends.
func (r *receiver) serve(ctx context.Context, conn net.Conn, hang bool) {
	defer func() { _ = conn.Close() }()
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
	in := &messages{conn: conn, buf: make([]byte, 4<<10)}
	var q request
	for {
		if err := in.next(&q); err != nil {
			if ctx.Err() == nil && !errors.Is(err, io.EOF) && !errors.Is(err, net.ErrClosed) {
				r.malformed.Add(1)
				r.note(err)
			}
			return
		}
		if hang && string(q.method) == http.MethodPost {
			r.hung.Add(1)
			_, _ = io.Copy(io.Discard, conn) // until the sender hangs up
			return
		}
		if _, err := io.WriteString(conn, r.answer(ctx, &q)); err != nil {
			return
		}
	}
}

func (r *receiver) answer(ctx context.Context, q *request) string {
	switch string(q.method) {
	case http.MethodOptions:
		r.consents.Add(1)
		return answerConsent
	case http.MethodPost:
	default:
		return answerUnknown
	}
	if r.down.Load() || r.setup.Fail > 0 && rand.Float64() < r.setup.Fail {
		r.refused.Add(1)
		return answerRefused
	}
	i, err := strconv.Atoi(string(bytes.TrimPrefix(q.path, []byte("/"))))
	if err != nil || !r.take(i, q) {
		return answerUnknown
	}
	if r.setup.Delay > 0 {
		wait(ctx, r.setup.Delay)
	}
	return answerTaken
}

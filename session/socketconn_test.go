package session

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"
)

// rawSocket is a WebSocket of which a test sees every frame.
type rawSocket struct {
	t    *testing.T
	conn net.Conn
	in   *bufio.Reader
}

func (r *replica) rawSocket(t *testing.T, query string) *rawSocket {
	t.Helper()
	k, _ := r.rawOffer(t, query, "")
	return k
}

// rawOffer opens a WebSocket with an offer of extensions, and returns what was chosen.
func (r *replica) rawOffer(t *testing.T, query, offer string) (*rawSocket, string) {
	t.Helper()
	if offer != "" {
		offer = "Sec-WebSocket-Extensions: " + offer + "\r\n"
	}
	conn, err := net.Dial("tcp", strings.TrimPrefix(r.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(time.Minute)) // a test that hangs fails
	_, err = fmt.Fprintf(conn, "GET /?as=websocket&%s HTTP/1.1\r\nHost: test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"+
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: %s\r\n%s\r\n", query, SubprotocolEvents, offer)
	if err != nil {
		t.Fatal(err)
	}
	k := &rawSocket{t: t, conn: conn, in: bufio.NewReaderSize(conn, 1<<20)}
	resp, err := http.ReadResponse(k.in, nil)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusSwitchingProtocols {
		t.Fatal(resp.Status)
	}
	return k, resp.Header.Get("Sec-WebSocket-Extensions")
}

const (
	opText  = 0x1
	opClose = 0x8
	opPing  = 0x9
	opPong  = 0xA
)

// frame makes a control frame, masked as a client's are, by a key of zeros.
func frame(op byte, payload string) []byte {
	return append([]byte{0x80 | op, 0x80 | byte(len(payload)), 0, 0, 0, 0}, payload...)
}

func (k *rawSocket) send(op byte, payload string) {
	k.t.Helper()
	if _, err := k.conn.Write(frame(op, payload)); err != nil {
		k.t.Fatal(err)
	}
}

// next reads a frame.
func (k *rawSocket) next() (op byte, payload []byte) {
	k.t.Helper()
	var head [8]byte
	read := func(b []byte) []byte {
		if _, err := io.ReadFull(k.in, b); err != nil {
			k.t.Fatal(err)
		}
		return b
	}
	first := read(head[:2])
	op, n := first[0], uint64(first[1])
	switch n {
	case 126:
		n = uint64(binary.BigEndian.Uint16(read(head[:2])))
	case 127:
		n = binary.BigEndian.Uint64(read(head[:8]))
	}
	if op&0xF0 != 0x80 || n > 2<<20 {
		k.t.Fatalf("a frame begins with %x and has %d bytes: frames are written into each other", op, n)
	}
	return op & 0xF, read(make([]byte, n))
}

// padded publishes an event whose JSON has so many bytes more.
func (s *site) padded(topic string, id, bytes int) {
	s.t.Helper()
	s.to0(topic, fmt.Appendf(nil, `{"specversion":"1.0","id":"%d","source":"/s","type":"t","data":"%s"}`, id, strings.Repeat("x", bytes)))
}

func TestPingsAreAnsweredInOrderBetweenWholeFrames(t *testing.T) {
	s := newSite(t, "a")
	k := s.replica(Config{}, false).rawSocket(t, "stream=a")
	if op, _ := k.next(); op != opText {
		t.Fatalf("the first frame is of opcode %d", op)
	}
	const events, pings = 60, pingBurst
	go func() {
		for i := range pings {
			_, _ = k.conn.Write(frame(opPing, fmt.Sprint(i)))
			if i%10 == 0 {
				time.Sleep(time.Millisecond)
			}
		}
	}()
	go func() {
		for i := range events {
			s.padded("a", i, []int{0, 300, 70_000}[i%3])
		}
	}()
	for event, pong := 0, 0; event < events || pong < pings; {
		switch op, payload := k.next(); op {
		case opPong:
			if string(payload) != fmt.Sprint(pong) {
				t.Fatalf("pong %q in place of %d", payload, pong)
			}
			pong++
		case opText:
			if !strings.Contains(string(payload), fmt.Sprintf(`"id":"%d"`, event)) || payload[len(payload)-1] != '}' {
				t.Fatalf("in place of event %d: %.100s", event, payload)
			}
			event++
		default:
			t.Fatalf("opcode %d: %q", op, payload)
		}
	}
}

func TestPingsDoNotKeepHeartbeatsBack(t *testing.T) {
	s := newSite(t, "a")
	k := s.replica(Config{}, false).rawSocket(t, "stream=a&beat") // 50 ms
	stop := make(chan struct{})
	defer close(stop)
	go func() {
		for {
			select {
			case <-stop:
				return
			case <-time.After(25 * time.Millisecond):
				_, _ = k.conn.Write(frame(opPing, ""))
			}
		}
	}()
	for texts := 0; texts < 4; {
		if op, _ := k.next(); op == opText {
			texts++
		}
	}
}

func TestAPeersCloseIsAnsweredAndEndsTheSession(t *testing.T) {
	s := newSite(t, "a")
	r := s.replica(Config{}, false)
	k := r.rawSocket(t, "stream=a")
	k.next()
	k.send(opClose, "\x03\xe8") // 1000
	if op, payload := k.next(); op != opClose || string(payload) != "\x03\xe8" {
		t.Errorf("answered by opcode %d, %q", op, payload)
	}
	if _, err := k.in.ReadByte(); err == nil {
		t.Error("something follows the close")
	}
	for r.Count() > 0 {
		time.Sleep(time.Millisecond)
	}
}

// A client that is told to go closes at once, which may come in the midst of the server's own closing.
func TestAPeerThatClosesAsItIsToldToIsClosed(t *testing.T) {
	s := newSite(t, "a")
	r := s.replica(Config{}, false)
	var clients sync.WaitGroup
	for range 50 {
		k := r.rawSocket(t, "stream=a")
		k.next()
		clients.Go(func() {
			for {
				op, payload := k.next()
				if op == opText && strings.Contains(string(payload), "no.eventissuer.drain") {
					break
				}
			}
			_, _ = k.conn.Write(frame(opClose, "\x03\xe9"))
			if _, err := io.Copy(io.Discard, k.in); errors.Is(err, os.ErrDeadlineExceeded) {
				t.Error("its connection is never closed")
			}
		})
	}
	drain, done := context.WithTimeout(t.Context(), 3*time.Second)
	defer done()
	if err := r.Drain(drain); err != nil {
		t.Error(err)
	}
	clients.Wait()
}

func TestAPeerThatPingsAndReadsNothingIsClosed(t *testing.T) {
	s := newSite(t, "a")
	r := s.replica(Config{}, false)
	k := r.rawSocket(t, "stream=a")
	_ = k.conn.(*net.TCPConn).SetReadBuffer(4 << 10)
	flood := strings.Repeat(string(frame(opPing, strings.Repeat("p", 125))), 100)
	for r.Count() > 0 {
		if _, err := io.WriteString(k.conn, flood); err != nil {
			break // closed, or within the minute that the connection has
		}
	}
	for end := time.Now().Add(time.Minute); r.Count() > 0; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("the session is kept")
		}
	}
}

func TestAnEndedSessionSaysWhyAndClosesByHandshake(t *testing.T) {
	s := newSite(t, "a")
	c := s.replica(Config{}, false).connect(t, "websocket:"+SubprotocolBatch, "stream=a")
	c.must()
	if err := c.ws.Write(t.Context(), websocket.MessageText, []byte(`{"hello":1}`)); err != nil {
		t.Fatal(err)
	}
	if g := c.must(); g.Control != "problem" {
		t.Errorf("told %+v", g)
	}
	if _, err := c.next(); websocket.CloseStatus(err) != websocket.StatusPolicyViolation {
		t.Errorf("closed by %v", err)
	}
}

// What a client asks for while its session reads the log is done meanwhile.
func TestACatchUpHearsItsClient(t *testing.T) {
	s := newSite(t, "a")
	for i := range 200 {
		s.padded("a", i, 30_000)
	}
	k := s.replica(Config{}, false).rawSocket(t, "stream=a&from=oldest")
	k.send(opPing, "early")
	events, pong := 0, false
	for events < 200 || !pong {
		switch op, payload := k.next(); {
		case op == opPong:
			pong = string(payload) == "early"
		case strings.Contains(string(payload), `"id":"`):
			if strings.Contains(string(payload), `"type":"t"`) {
				events++
			}
		}
	}
}

func TestNoMessageIsFramedBehindACloseFrame(t *testing.T) {
	c := &conn{shard: &shard{}}
	k := &frames{conn: c, byShard: true, control: []byte{0x80 | opPong, 0}}
	var o output
	o.buf = append(o.buf, "{}"...)
	o.cut(cutShared)
	if got := k.append(nil, &o); string(got) != "\x8a\x00\x81\x02{}" {
		t.Errorf("behind a pong: %q", got)
	}
	k.control, k.closed = []byte{0x80 | opClose, 2, 0x03, 0xE8}, true
	if got := k.append(nil, &o); string(got) != "\x88\x02\x03\xe8" {
		t.Errorf("behind a close frame: %q", got)
	}
}

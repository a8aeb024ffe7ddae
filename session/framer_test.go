package session

import (
	"bytes"
	"compress/flate"
	"context"
	"crypto/tls"
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coder/websocket"
)

// inflater is a client's side of permessage-deflate.
type inflater struct {
	keeps  bool   // the window from message to message
	window []byte // what was inflated last
}

// frame takes one frame off b and returns its message, and whether that was compressed.
func (i *inflater) frame(b []byte) (text, rest []byte, zipped bool, err error) {
	n, at := uint64(b[1]), 2
	switch n {
	case 126:
		n, at = uint64(binary.BigEndian.Uint16(b[2:])), 4
	case 127:
		n, at = binary.BigEndian.Uint64(b[2:]), 10
	}
	payload, rest := b[at:at+int(n)], b[at+int(n):]
	switch b[0] {
	case finText:
		return payload, rest, false, nil
	case finText | compressed:
		text, err := i.inflate(payload)
		return text, rest, true, err
	}
	return nil, nil, false, fmt.Errorf("a frame begins with %x", b[0])
}

func (i *inflater) inflate(payload []byte) ([]byte, error) {
	ended := append(append(bytes.Clone(payload), deflateTail...), 1, 0, 0, 0xff, 0xff)
	text, err := io.ReadAll(flate.NewReaderDict(bytes.NewReader(ended), i.window))
	if err != nil {
		return nil, fmt.Errorf("inflate behind %d bytes: %w", len(i.window), err)
	}
	if i.keeps {
		i.window = append(i.window, text...)
		i.window = i.window[max(0, len(i.window)-32<<10):]
	}
	return text, nil
}

// unbounded lets compression have all the time that it takes, however slow the machine is.
func (r *replica) unbounded() {
	r.zip.mu.Lock()
	defer r.zip.mu.Unlock()
	r.zip.share, r.zip.left = 1000, time.Minute
}

func TestWhatIsFramedInflatesToWhatWasSaid(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	word := func() string { return fmt.Sprintf(`"attribute%d":%d,`, rnd.IntN(9), rnd.IntN(1000)) }
	text := func() []byte {
		size := []int{1, 60, 200, 500, 3000, 4090, 9000, 20_000, 32_000, 40_000, 100_000}[rnd.IntN(11)]
		if rnd.IntN(10) == 0 { // what nothing makes shorter
			b := make([]byte, size)
			for i := range b {
				b[i] = byte(rnd.Uint32())
			}
			return b
		}
		var b strings.Builder
		for b.Len() < size {
			b.WriteString(word())
		}
		return []byte(b.String())
	}
	z := newZipper(newMetrics(nil))
	z.share, z.left = 1000, time.Minute
	var said [][]byte
	for range 200 {
		said = append(said, text())
	}
	type reader struct {
		framer
		inflater
	}
	var readers []*reader
	for i := range 9 {
		keeps := i%3 > 0
		readers = append(readers, &reader{framer{zip: z, takeover: keeps}, inflater{keeps: keeps}})
	}
	shortened, plain := 0, 0
	for n, message := range said {
		kind := []int{cutShared, cutShared, cutOwn}[n%3]
		if n == 150 {
			z.left, z.share = -time.Hour, 0 // no time from here on
		}
		for i, r := range readers {
			if rnd.IntN(3) == 0 && i > 3 {
				continue // another filter
			}
			var o output
			o.buf = append(o.buf, message...)
			o.cut(kind)
			o.buf = append(o.buf, "{}"...)
			o.cut(cutShared)
			frames := r.append(nil, &o)
			clear(o.buf) // it is the writer's to reuse
			got, rest, zipped, err := r.frame(frames)
			if err != nil || !bytes.Equal(got, message) {
				t.Fatalf("message %d to reader %d, zipped %v: %.60q in place of %.60q: %v", n, i, zipped, got, message, err)
			}
			if got, rest, _, err = r.frame(rest); err != nil || string(got) != "{}" || len(rest) > 0 {
				t.Fatalf("behind message %d: %q and %d bytes: %v", n, got, len(rest), err)
			}
			switch {
			case !zipped:
				plain++
			case n >= 150:
				t.Errorf("message %d was compressed without time", n)
			default:
				shortened++
			}
		}
	}
	if shortened < 500 || plain < 200 {
		t.Errorf("%d messages were compressed and %d were not: the test tests little", shortened, plain)
	}
}

func TestADeflateOfferIsTakenSoThatNoConnectionHasAWindow(t *testing.T) {
	s := newSite(t, "a").subscribe("a", nil, "work")
	r := s.replica(Config{}, false)
	r.unbounded()
	for _, c := range []struct{ offer, chosen string }{
		{"", ""},
		{"permessage-deflate; client_max_window_bits", "permessage-deflate; client_no_context_takeover"}, // browsers
		{"permessage-deflate", "permessage-deflate; client_no_context_takeover"},
		{"permessage-deflate; client_no_context_takeover", "permessage-deflate; client_no_context_takeover"},
		{"permessage-deflate; server_no_context_takeover; client_no_context_takeover", "permessage-deflate; client_no_context_takeover; server_no_context_takeover"},
		{"permessage-deflate; server_max_window_bits=10, permessage-deflate", "permessage-deflate; client_no_context_takeover"},
		{"permessage-deflate; server_max_window_bits=15; client_max_window_bits=12", "permessage-deflate; client_no_context_takeover; server_max_window_bits=15"},
		{"x-other; a=b, permessage-deflate; server_no_context_takeover", "permessage-deflate; client_no_context_takeover; server_no_context_takeover"},
		{"permessage-deflate; server_max_window_bits=10", ""}, // less than what a message before may be away
		{"x-webkit-deflate-frame", ""},
	} {
		k, chosen := r.rawOffer(t, "stream=a", c.offer)
		if chosen != c.chosen {
			t.Errorf("offered %q: %q, want %q", c.offer, chosen, c.chosen)
		}
		_ = k.conn.Close()
	}
	if _, chosen := r.rawOffer(t, "subscription=work", "permessage-deflate"); chosen != "" {
		t.Errorf("for a subscription's session, whose messages are its own: %q", chosen)
	}
	plain := s.replica(Config{Plain: true}, false)
	if _, chosen := plain.rawOffer(t, "stream=a", "permessage-deflate"); chosen != "" {
		t.Errorf("where it is turned off: %q", chosen)
	}
}

// socketClient is a WebSocket by coder/websocket, of which the bytes on the wire are counted.
type socketClient struct {
	t    *testing.T
	ws   *websocket.Conn
	wire atomic.Int64
}

// countedConn counts what is read of it.
type countedConn struct {
	net.Conn
	bytes *atomic.Int64
}

func (c countedConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.bytes.Add(int64(n))
	return n, err
}

func (r *replica) socket(t *testing.T, sub, query string, mode websocket.CompressionMode) *socketClient {
	t.Helper()
	c := &socketClient{t: t}
	dial := func(ctx context.Context, network, addr string) (net.Conn, error) {
		nc, err := new(net.Dialer).DialContext(ctx, network, addr)
		return countedConn{nc, &c.wire}, err
	}
	transport := &http.Transport{DialContext: dial, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}
	ws, _, err := websocket.Dial(t.Context(), r.url+"/?as=websocket&"+query, &websocket.DialOptions{
		HTTPClient: &http.Client{Transport: transport}, Subprotocols: []string{sub}, CompressionMode: mode, CompressionThreshold: 1,
	})
	if err != nil {
		t.Fatal(err)
	}
	ws.SetReadLimit(1 << 20)
	t.Cleanup(func() { _ = ws.CloseNow(); transport.CloseIdleConnections() })
	c.ws = ws
	return c
}

func (c *socketClient) next() []byte {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.t.Context(), time.Minute)
	defer cancel()
	_, b, err := c.ws.Read(ctx)
	if err != nil {
		c.t.Fatal(err)
	}
	return b
}

func (c *socketClient) say(text string) {
	c.t.Helper()
	if err := c.ws.Write(c.t.Context(), websocket.MessageText, []byte(text)); err != nil {
		c.t.Fatal(err)
	}
}

func (c *socketClient) upTo(text string) []byte {
	c.t.Helper()
	var all []byte
	for !bytes.Contains(all, []byte(text)) {
		all = append(all, c.next()...)
	}
	return all
}

func TestCompressedMessagesSayWhatPlainOnesSayInAThirdOfTheBytes(t *testing.T) {
	s := newSite(t, "a")
	for _, secure := range []bool{false, true} { // a shard writes, or a loop
		r := s.replica(Config{Flush: -1}, secure)
		r.unbounded()
		for _, query := range []string{"stream=a", "stream=a&subject=/train/3"} {
			plain := r.socket(t, SubprotocolEvents, query, websocket.CompressionDisabled)
			zipped := r.socket(t, SubprotocolEvents, query, websocket.CompressionContextTakeover)
			alone := r.socket(t, SubprotocolEvents, query, websocket.CompressionNoContextTakeover)
			batches := r.socket(t, SubprotocolBatch, query, websocket.CompressionContextTakeover)
			sockets := []*socketClient{plain, zipped, alone, batches}
			var before []int64
			for _, c := range sockets {
				c.next() // the cursor
				before = append(before, c.wire.Load())
			}
			s.like("a", 0, 206)
			s.to0("a", []byte(`{"specversion":"1.0","id":"last","source":"/s","type":"t","subject":"/train/3"}`))
			var texts [][]byte
			var wire []int64
			for i, c := range sockets {
				texts = append(texts, c.upTo(`"id":"last"`))
				wire = append(wire, c.wire.Load()-before[i])
			}
			if !bytes.Equal(texts[0], texts[1]) || !bytes.Equal(texts[0], texts[2]) || bytes.Count(texts[0], []byte(`"id":`)) != bytes.Count(texts[3], []byte(`"id":`)) {
				t.Errorf("%s: the plain one says\n%.2000s\nand the compressed ones\n%.2000s\n%.2000s\n%.2000s", query, texts[0], texts[1], texts[2], texts[3])
			}
			t.Logf("%s: %d bytes plain, %d behind the one before, %d each by itself, %d in batches", query, wire[0], wire[1], wire[2], wire[3])
			if wire[0] < int64(len(texts[0])) || wire[1] > wire[0]/3 || wire[2] > wire[0]*4/5 || wire[3] > wire[0]/3 {
				t.Errorf("%s: %d bytes take %v", query, len(texts[0]), wire)
			}
		}
	}
}

func TestAMessageIsCompressedOnceForAllWhoAreGivenItBehindTheSameOne(t *testing.T) {
	rnd := rand.New(rand.NewPCG(3, 4))
	z := newZipper(newMetrics(nil))
	z.share, z.left = 1000, time.Minute
	const clients, messages = 50, 1000
	var last [clients]*inflated
	var at [clients]int
	made := map[*byte]bool{}
	for front, done := 1, 0; done < clients; front++ { // clients that are up to 20 messages behind the first
		done = 0
		for i := range clients {
			for at[i] < min(front, messages) && (at[i] < front-20 || rnd.IntN(4) > 0) {
				text := fmt.Appendf(nil, `{"id":"%d","source":"/lines/%d","data":"a train is where it is, and goes on from there"}`, at[i], at[i]%7)
				var short []byte
				short, last[i] = z.message(last[i], text, true)
				if short == nil {
					t.Fatalf("message %d is not compressed", at[i])
				}
				made[&short[0]] = true
				at[i]++
			}
			if at[i] == messages {
				done++
			}
		}
	}
	// Some share a slot with another that is just asked for.
	if len(made) > messages*3/2 {
		t.Errorf("%d messages were made of %d", len(made), messages)
	}
}

func TestShardsMayFrameAtOnce(t *testing.T) {
	z := newZipper(newMetrics(nil))
	z.share, z.left = 1000, time.Minute
	var running sync.WaitGroup
	for i := range 8 {
		running.Go(func() {
			rnd := rand.New(rand.NewPCG(5, uint64(i)))
			f, client := framer{zip: z, takeover: true}, inflater{keeps: true}
			for n := range 500 {
				if rnd.IntN(5) == 0 {
					continue
				}
				var o output
				o.buf = fmt.Appendf(nil, `{"id":"%d","source":"/lines/%d","data":"a train is where it is, and goes on from there"}`, n, n%7)
				o.cut(cutShared)
				got, rest, zipped, err := client.frame(f.append(nil, &o))
				if err != nil || !bytes.Equal(got, o.buf) || len(rest) > 0 || !zipped {
					t.Errorf("message %d, zipped %v: %q: %v", n, zipped, got, err)
					return
				}
			}
		})
	}
	running.Wait()
}

func TestHeartbeatsAreNoDictionaries(t *testing.T) {
	for name, c := range map[string]codec{SubprotocolEvents: &eventCodec{source: "/s", id: controlIDs()}, SubprotocolBatch: &batchCodec{}} {
		f := framer{zip: newZipper(newMetrics(nil)), takeover: true}
		f.zip.share, f.zip.left = 1000, time.Minute
		before := &inflated{hash: 1, text: []byte("an event")}
		f.last = before
		var o output
		c.cursor(&o, bytes.Repeat([]byte("c"), 100))
		c.control(&o, "acked", map[string]string{"cursor": strings.Repeat("c", 300)}, nil)
		frames := f.append(nil, &o)
		for n := range 2 {
			_, rest, zipped, err := new(inflater).frame(frames)
			if err != nil || zipped {
				t.Errorf("%s: message %d, zipped %v: %v", name, n, zipped, err)
			}
			frames = rest
		}
		if f.last != before {
			t.Errorf("%s: a message of the session's own is what others' are behind", name)
		}
	}
}

// A client's messages are inflated by the library, and bounded by what they inflate to.
func TestAClientsMessagesMayBeCompressed(t *testing.T) {
	s := newSite(t, "a")
	r := s.replica(Config{}, false)
	for _, mode := range []websocket.CompressionMode{websocket.CompressionContextTakeover, websocket.CompressionNoContextTakeover} {
		c := r.socket(t, SubprotocolBatch, "stream=a", mode)
		c.next()
		for range 3 { // by itself each
			c.say(`{"query":{}}` + strings.Repeat(" ", 1000))
			c.upTo(`{"queried":`)
		}
		c.say(`{"query":{}}` + strings.Repeat(" ", 1<<20)) // a kilobyte on the wire
		_, _, err := c.ws.Read(t.Context())
		for err == nil {
			_, _, err = c.ws.Read(t.Context())
		}
		if got := websocket.CloseStatus(err); got != websocket.StatusMessageTooBig {
			t.Errorf("a message that inflates to a megabyte ends with %v", err)
		}
	}
}

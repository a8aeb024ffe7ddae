package hostile

import (
	"bytes"
	"compress/flate"
	"context"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"time"
)

// Attack is one way of misbehaving.
type Attack struct {
	Name    string
	Summary string

	plain bool                                      // no TLS handshake comes first
	tls   bool                                      // means something only where the server speaks TLS
	bomb  bool                                      // it needs one of the bombs
	play  func(h *hand, ctx context.Context) string // acts until ctx or the connection ends, and says how that was
}

// Attacks lists all of them, in the order in which they are run.
func Attacks() []Attack {
	return []Attack{
		{Name: "half-open", Summary: "connect, and say nothing", plain: true, play: (*hand).nothing},
		{Name: "tls-half-open", Summary: "end the TLS handshake, and say nothing (https:// only)", tls: true, play: (*hand).nothing},
		{Name: "slow-headers", Summary: "a byte of an endless header at each pace", play: (*hand).slowHeaders},
		{Name: "header-flood", Summary: "headers without end, many short ones or one long one", play: (*hand).headerFlood},
		{Name: "long-cursors", Summary: "cursors of 1 MiB, in the address or in Last-Event-ID", play: (*hand).longCursor},
		{Name: "slow-readers", Summary: "streams from the oldest event, read a byte at each pace into 2 KiB of buffer", play: (*hand).slowReader},
		{Name: "endless-body", Summary: "publish a body that never ends, in chunks or of a length that never comes", play: (*hand).endlessBody},
		{Name: "compressed-bomb", Summary: "publish gzip that inflates a thousandfold, to 1 GiB or to a little more than is taken", bomb: true, play: (*hand).compressedBomb},
		{Name: "websocket-fragments", Summary: "a WebSocket message in fragments without end", play: (*hand).fragments},
		{Name: "websocket-pings", Summary: "pings without end, a hundred at each pace", play: (*hand).pings},
		{Name: "websocket-huge", Summary: "a WebSocket frame that announces 2^62 bytes", play: (*hand).hugeFrame},
		{Name: "websocket-bomb", Summary: "a compressed message that inflates to 64 MiB, whether compression was agreed on or not", bomb: true, play: (*hand).deflatedFrame},
		{Name: "early-fin", Summary: "shut the sending side down right after the request", play: (*hand).earlyFin},
		{Name: "reset-connect", Summary: "connect, and reset", plain: true, play: (*hand).resetConnect},
		{Name: "reset-stream", Summary: "open a stream, and reset it", play: (*hand).resetStream},
		{Name: "pipelining", Summary: "twenty requests at once, and no reading of the answers", play: (*hand).pipelining},
		{Name: "garbage", Summary: "random bytes", play: (*hand).garbage},
	}
}

// pick finds the attacks by name; all stands for all that mean something for the target.
func pick(names []string, tls bool) ([]Attack, error) {
	var out []Attack
	known := map[string]Attack{}
	var list []string
	for _, a := range Attacks() {
		known[a.Name] = a
		list = append(list, a.Name)
	}
	for _, name := range names {
		if name == "all" {
			for _, a := range Attacks() {
				if tls || !a.tls {
					out = append(out, a)
				}
			}
			continue
		}
		a, ok := known[name]
		if !ok {
			return nil, fmt.Errorf("attack %q: expected all or some of %s", name, strings.Join(list, ", "))
		}
		if a.tls && !tls {
			return nil, fmt.Errorf("attack %q needs an https:// server", name)
		}
		out = append(out, a)
	}
	return out, nil
}

func (h *hand) nothing(ctx context.Context) string { return h.answer(ctx) }

// request begins a request to a path; what is left out is the blank line.
func (h *hand) request(method, path, more string) []byte {
	return []byte(method + " " + path + " HTTP/1.1\r\nHost: " + h.place.host + "\r\n" + more)
}

const acceptSSE = "Accept: text/event-stream\r\n"

func (h *hand) slowHeaders(ctx context.Context) string {
	text := append(h.request(methodGet, h.place.stream, acceptSSE), "X-Slow: "...)
	return h.repeat(ctx, func(i int) []byte {
		if i < len(text) {
			return text[i : i+1]
		}
		return []byte{'a'}
	})
}

// floodMost is how much of a header an attacker sends before it takes the server for one that would take all.
const floodMost = 16 << 20

func (h *hand) headerFlood(ctx context.Context) string {
	if end, is := h.send(ctx, h.request(methodGet, h.place.stream, acceptSSE)); is {
		return end
	}
	piece := bytes.Repeat([]byte("X-A: b\r\n"), 4<<10)
	if h.n%2 == 1 {
		if end, is := h.send(ctx, []byte("X-Long: ")); is {
			return end
		}
		piece = bytes.Repeat([]byte("a"), 32<<10)
	}
	for sent := 0; sent < floodMost && ctx.Err() == nil; sent += len(piece) {
		if end, is := h.send(ctx, piece); is {
			return end
		}
	}
	return h.answer(ctx)
}

func (h *hand) longCursor(ctx context.Context) string {
	cursor := bytes.Repeat([]byte("A"), 1<<20)
	var text []byte
	if h.n%2 == 0 {
		text = h.request(methodGet, h.place.stream+"?after="+string(cursor), acceptSSE)
	} else {
		text = h.request(methodGet, h.place.stream, acceptSSE+"Last-Event-ID: "+string(cursor)+"\r\n")
	}
	if end, is := h.send(ctx, append(text, "\r\n"...)); is {
		return end
	}
	return h.answer(ctx)
}

func (h *hand) slowReader(ctx context.Context) string {
	_ = h.tcp.SetReadBuffer(2 << 10)
	if end, is := h.send(ctx, append(h.request(methodGet, h.place.stream+"?from=oldest", acceptSSE), "\r\n"...)); is {
		return end
	}
	one, head := make([]byte, 1), make([]byte, 0, len("HTTP/1.1 200"))
	for tick := time.NewTicker(h.pace); ; {
		select {
		case <-ctx.Done():
			tick.Stop()
			if status, ok := statusOf(head); ok {
				return status + ", " + endHeld
			}
			return endHeld
		case <-tick.C:
		}
		_ = h.SetReadDeadline(time.Now().Add(time.Millisecond))
		n, err := h.Read(one)
		if n == 1 && len(head) < cap(head) {
			head = append(head, one[0])
		}
		if err != nil && ended(err) != endHeld {
			tick.Stop()
			return ended(err)
		}
	}
}

func (h *hand) endlessBody(ctx context.Context) string {
	const kind = "Content-Type: application/cloudevents+json\r\n"
	text, piece := h.request(methodPost, h.place.publish, kind+"Transfer-Encoding: chunked\r\n\r\n"), []byte("1\r\n \r\n")
	if h.n%2 == 1 {
		text, piece = h.request(methodPost, h.place.publish, kind+"Content-Length: 1000000\r\n\r\n"), []byte(" ")
	}
	if end, is := h.send(ctx, text); is {
		return end
	}
	return h.repeat(ctx, func(int) []byte { return piece })
}

func (h *hand) compressedBomb(ctx context.Context) string {
	bomb := h.place.gzipBombs[h.n%2]
	text := h.request(methodPost, h.place.publish, fmt.Sprintf(
		"Content-Type: application/cloudevents+json\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n", len(bomb)))
	if end, is := h.send(ctx, append(text, bomb...)); is {
		return end
	}
	return h.answer(ctx)
}

func (h *hand) earlyFin(ctx context.Context) string {
	if end, is := h.send(ctx, append(h.request(methodGet, h.place.nobody, acceptSSE), "\r\n"...)); is {
		return end
	}
	_ = h.tcp.CloseWrite()
	return h.answer(ctx)
}

func (h *hand) resetConnect(context.Context) string { return h.reset() }

func (h *hand) resetStream(ctx context.Context) string {
	if end, is := h.send(ctx, append(h.request(methodGet, h.place.nobody, acceptSSE), "\r\n"...)); is {
		return end
	}
	said := h.answer(ctx)
	h.reset()
	return said + ", " + endOurs
}

func (h *hand) pipelining(ctx context.Context) string {
	one := append(h.request(methodGet, h.place.nobody+"&limit=1", "Accept: application/cloudevents-batch+json\r\n"), "\r\n"...)
	if err := h.put(ctx, bytes.Repeat(one, 20)); err != nil && ended(err) != endHeld {
		return ended(err)
	}
	<-ctx.Done() // nothing is read
	return endHeld
}

func (h *hand) garbage(ctx context.Context) string {
	noise := make([]byte, 64<<10)
	r := rand.NewChaCha8([32]byte{byte(h.n), byte(h.n >> 8)})
	_, _ = r.Read(noise)
	if end, is := h.send(ctx, noise); is {
		return end
	}
	return h.answer(ctx)
}

// upgrade opens a WebSocket. Where it does not, it says how the connection ended.
func (h *hand) upgrade(ctx context.Context, more string) (string, bool) {
	if end, is := h.send(ctx, h.request(methodGet, h.place.nobody, "Connection: Upgrade\r\nUpgrade: websocket\r\n"+
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\n"+more+"\r\n")); is {
		return end, false
	}
	said := h.answer(ctx)
	if said != "101" {
		return said, false
	}
	for { // what follows the head are frames
		line, err := h.in.ReadSlice('\n')
		if err != nil {
			return ended(err), false
		}
		if len(line) <= len("\r\n") {
			return said, true
		}
	}
}

// The parts of a WebSocket frame's head (RFC 6455, section 5.2).
const (
	wsFinal      = 0x80
	wsCompressed = 0x40 // RSV1, as RFC 7692 has it
	wsMasked     = 0x80
	wsContinue   = 0x0
	wsText       = 0x1
	wsPing       = 0x9
	wsClose      = 0x8
)

// frame makes a frame whose payload is masked by zeros, which leave it as it is.
func frame(first byte, payload []byte) []byte {
	out := []byte{first}
	switch n := len(payload); {
	case n < 126:
		out = append(out, wsMasked|byte(n))
	case n < 1<<16:
		out = binary.BigEndian.AppendUint16(append(out, wsMasked|126), uint16(n))
	default:
		out = binary.BigEndian.AppendUint64(append(out, wsMasked|127), uint64(n))
	}
	return append(append(out, 0, 0, 0, 0), payload...)
}

// closing reads a WebSocket until the server ends it, and says with which close code, or until nothing comes for d.
func (h *hand) closing(d time.Duration) (string, bool) {
	for end := time.Now().Add(d); time.Now().Before(end); {
		_ = h.SetReadDeadline(end)
		if _, err := h.in.Peek(1); err != nil {
			end := ended(err)
			return end, end != endHeld
		}
		_ = h.SetReadDeadline(time.Now().Add(d + time.Second)) // a frame that has begun is read whole
		code, err := h.skipFrame()
		if err != nil {
			return ended(err), true
		}
		if code != 0 {
			return fmt.Sprint("WebSocket ", code), true
		}
	}
	return "", false
}

// skipFrame reads a frame, and gives its code where it closes the WebSocket.
func (h *hand) skipFrame() (code uint16, err error) {
	var head [2]byte
	if _, err := io.ReadFull(h.in, head[:]); err != nil {
		return 0, err
	}
	length := uint64(head[1] & 0x7f)
	if length >= 126 {
		var long [8]byte
		size := 2
		if length == 127 {
			size = 8
		}
		if _, err := io.ReadFull(h.in, long[8-size:]); err != nil {
			return 0, err
		}
		length = binary.BigEndian.Uint64(long[:])
	}
	if head[0]&0xf == wsClose && length >= 2 {
		var b [2]byte
		_, err := io.ReadFull(h.in, b[:])
		return binary.BigEndian.Uint16(b[:]), err
	}
	_, err = io.CopyN(io.Discard, h.in, int64(min(length, 1<<30)))
	return 0, err
}

// keepSending sends a frame at each pace on a WebSocket, until the server closes it.
func (h *hand) keepSending(ctx context.Context, next func(i int) []byte) string {
	if end, open := h.upgrade(ctx, ""); !open {
		return end
	}
	for i := 0; ctx.Err() == nil; i++ {
		err := h.put(ctx, next(i))
		if end, is := h.closing(h.pace); is {
			return end
		}
		if err != nil && ended(err) != endHeld {
			return ended(err)
		}
	}
	return endHeld
}

func (h *hand) fragments(ctx context.Context) string {
	piece := bytes.Repeat([]byte(" "), 1<<10)
	return h.keepSending(ctx, func(i int) []byte {
		if i == 0 {
			return frame(wsText, piece)
		}
		return frame(wsContinue, piece)
	})
}

func (h *hand) pings(ctx context.Context) string {
	hundred := bytes.Repeat(frame(wsFinal|wsPing, []byte("ping")), 100)
	return h.keepSending(ctx, func(int) []byte { return hundred })
}

func (h *hand) hugeFrame(ctx context.Context) string {
	if end, open := h.upgrade(ctx, ""); !open {
		return end
	}
	head := binary.BigEndian.AppendUint64([]byte{wsFinal | wsText, wsMasked | 127}, 1<<62)
	return h.last(ctx, append(append(head, 0, 0, 0, 0), bytes.Repeat([]byte(" "), 128<<10)...))
}

func (h *hand) deflatedFrame(ctx context.Context) string {
	if end, open := h.upgrade(ctx, "Sec-WebSocket-Extensions: permessage-deflate\r\n"); !open {
		return end
	}
	return h.last(ctx, frame(wsFinal|wsCompressed|wsText, h.place.deflateBomb))
}

// last sends the last bytes of an attack on a WebSocket, and waits for how the server takes them.
func (h *hand) last(ctx context.Context, b []byte) string {
	err := h.put(ctx, b)
	for ctx.Err() == nil {
		if end, is := h.closing(h.pace); is {
			return end
		}
		if err != nil && ended(err) != endHeld {
			return ended(err)
		}
	}
	return endHeld
}

const (
	methodGet  = "GET"
	methodPost = "POST"
)

// gzipBomb is so many MiB of spaces.
func gzipBomb(size int) []byte {
	piece, packed := spaces()
	b := slices.Concat([]byte("\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"), bytes.Repeat(packed, size), []byte{1, 0, 0, 0xff, 0xff})
	sum := uint32(0)
	for range size {
		sum = crc32.Update(sum, crc32.IEEETable, piece)
	}
	b = binary.LittleEndian.AppendUint32(b, sum)
	return binary.LittleEndian.AppendUint32(b, uint32(size*len(piece)))
}

// deflateBomb is 64 MiB of spaces as a message of RFC 7692, which fits what servers take of compressed bytes.
func deflateBomb() []byte {
	_, packed := spaces()
	return bytes.TrimSuffix(bytes.Repeat(packed, 64), []byte{0, 0, 0xff, 0xff})
}

// spaces is a MiB of them, and that compressed, by itself and up to a flush: so that it is right again behind itself.
func spaces() (piece, packed []byte) {
	var b bytes.Buffer
	piece = bytes.Repeat([]byte(" "), 1<<20)
	w, _ := flate.NewWriter(&b, flate.BestCompression) // the level is one that there is
	_, _ = w.Write(piece)                              // into memory
	_ = w.Flush()
	return piece, b.Bytes()
}

package loadtest

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"
)

// exampleStream is one answer in chunks that cut everywhere: a cursor block, heartbeat, events, a control message.
func exampleStream(run string) string {
	event := func(seq uint64) string {
		return fmt.Sprintf("id: c%d\ndata: {\"data\":{\"mark\":\"%s\"}}\n\n", seq, appendMark(nil, run, mark{lane: 0, seq: seq, sent: 7}))
	}
	body := "retry: 1500\nid: start\n\n" + event(0) + ": comment\n\n" + event(1) + "event: gap\nid: g\ndata: {\"stream\":\"s\"}\n\n" + event(2) +
		"data: no mark\n\nid: beat\n\nid: unfinished\ndata: " // what is cut off never counts
	var b strings.Builder
	b.WriteString("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
	for len(body) > 0 {
		n := min(1+len(body)%37, len(body))
		fmt.Fprintf(&b, "%x;ext=1\r\n%s\r\n", n, body[:n])
		body = body[n:]
	}
	b.WriteString("0\r\n\r\n")
	return b.String()
}

func newStream(run string) *stream {
	s := &stream{reader: &reader{tally: newTally(), all: &gauges{}, marks: newMarker(run), ledger: newLedger(0, 1, false)}}
	s.begin()
	return s
}

func TestStreamIsReadAlikeHoweverItIsCut(t *testing.T) {
	text := exampleStream("r1")
	seed := rand.Uint64()
	rng := rand.New(rand.NewPCG(seed, 1))
	for round := range 200 {
		s := newStream("r1")
		var err error
		for rest := text; len(rest) > 0 && err == nil; {
			n := min(len(rest), 1+rng.IntN(1+round))
			err = s.feed([]byte(rest[:n]), 100)
			rest = rest[n:]
		}
		if !errors.Is(err, errStreamEnd) {
			t.Fatalf("seed %d: ended with %v, want the last chunk", seed, err)
		}
		r := s.reader
		if r.tally.deliveries != 3 || r.tally.foreign != 1 || r.tally.controls["gap"] != 1 || r.ledger.lost([]sequence{{end: 3}}) != 0 {
			t.Fatalf("seed %d: %d deliveries, %d foreign, controls %v", seed, r.tally.deliveries, r.tally.foreign, r.tally.controls)
		}
		if string(r.cursor) != "beat" || r.retry != 1500*time.Millisecond || r.tally.bytes < uint64(len(text)-2) {
			t.Fatalf("seed %d: cursor %q, retry %s, %d bytes of %d", seed, r.cursor, r.retry, r.tally.bytes, len(text))
		}
	}
}

func TestAnswerThatIsNoStreamIsTold(t *testing.T) {
	s := newStream("r")
	err := s.feed([]byte("HTTP/1.1 503 Service Unavailable\r\nContent-Length: 4\r\n\r\nbusy"), 1)
	var no *rejection
	if !errors.As(err, &no) || no.status != 503 || !strings.Contains(no.line, "busy") {
		t.Errorf("%v, want 503 with its text", err)
	}
	for _, bad := range []string{"\r\n\r\n", "FTP/1.1 200 OK\r\n\r\n", "HTTP/1.1\r\n\r\n"} {
		if err := newStream("r").feed([]byte(bad), 1); err == nil {
			t.Errorf("%q passed for an answer", bad)
		}
	}
}

func FuzzStream(f *testing.F) {
	f.Add([]byte(exampleStream("r")), uint8(3))
	f.Add([]byte("HTTP/1.1 200 OK\r\n\r\nid: 1\r\ndata: x\r\n\r\n"), uint8(1))
	tallies := [2]*tally{newTally(), newTally()} // kept over the rounds: histograms are large
	fresh := func(i int) *stream {
		s := &stream{reader: &reader{tally: tallies[i], all: &gauges{}, marks: newMarker("r"), ledger: newLedger(0, 1, false)}}
		s.reader.tally.deliveries = 0
		clear(s.reader.tally.controls)
		s.begin()
		return s
	}
	f.Fuzz(func(t *testing.T, text []byte, size uint8) {
		whole, pieces := fresh(0), fresh(1)
		wholeErr := whole.feed(text, 1)
		var piecesErr error
		for rest := text; len(rest) > 0 && piecesErr == nil; {
			n := min(len(rest), int(size)+1)
			piecesErr = pieces.feed(rest[:n], 1)
			rest = rest[n:]
		}
		if wholeErr == nil && piecesErr != nil || whole.reader.tally.deliveries != pieces.reader.tally.deliveries || string(whole.reader.cursor) != string(pieces.reader.cursor) {
			t.Fatalf("whole: %v, %d, %q; in pieces of %d: %v, %d, %q", wholeErr, whole.reader.tally.deliveries, whole.reader.cursor,
				int(size)+1, piecesErr, pieces.reader.tally.deliveries, pieces.reader.cursor)
		}
	})
}

func TestCursorAndControlInWebSocketMessages(t *testing.T) {
	for message, want := range map[string][2]string{
		`{"cursor":"abc"}`:                                                   {"abc", "cursor"},
		`{"cursor":"abc","events":[{"id":"1"}]}`:                             {"abc", "cursor"},
		`{"problem":{"status":429}}`:                                         {"", "problem"},
		`{"specversion":"1.0","eventissuercursor":"xy"}`:                     {"xy", ""},
		`{"type":"no.eventissuer.drain","eventissuercursor":"xy","data":{}}`: {"xy", "drain"},
		`hello`: {"", ""},
	} {
		if got := [2]string{string(cursorIn([]byte(message))), controlIn([]byte(message))}; got != want {
			t.Errorf("%s: %q, want %q", message, got, want)
		}
	}
}

func BenchmarkStreamFeed(b *testing.B) {
	s := newStream("r1")
	_ = s.feed([]byte("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"), 1)
	var n uint64
	b.ReportAllocs()
	var buf, block []byte
	pad := strings.Repeat("x", 300)
	for b.Loop() {
		block = append(block[:0], "id: AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQ\ndata: {\"pad\":\""...)
		block = append(append(block, pad...), `","mark":"`...)
		block = append(appendMark(block, "r1", mark{seq: n, sent: 1}), "\"}\n\n"...)
		buf = fmt.Appendf(buf[:0], "%x\r\n%s\r\n", len(block), block)
		if err := s.feed(buf, 1000); err != nil {
			b.Fatal(err)
		}
		n++
	}
	if s.reader.tally.deliveries != n {
		b.Fatal("not all were delivered")
	}
}

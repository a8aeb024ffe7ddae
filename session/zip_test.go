package session

import (
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"hash/crc32"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/eventissuer/eventissuer/broker"
)

// body opens a stream and returns what comes, which is to be unpacked by who asked for gzip.
func (r *replica) body(t *testing.T, coding, query string) io.Reader {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute) // a test that hangs fails
	t.Cleanup(cancel)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, r.url+"/?"+query, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Accept-Encoding", coding)
	resp, err := insecure.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = resp.Body.Close(); insecure.CloseIdleConnections() })
	if got := resp.Header.Get("Content-Encoding"); got == "gzip" != (coding == "gzip") {
		t.Fatalf("asked for %s, the body is %q", coding, got)
	}
	if got := resp.Header.Get("Vary"); !strings.Contains(got, "Accept-Encoding") {
		t.Errorf("Vary is %q", got)
	}
	return resp.Body
}

// like publishes events to one partition that differ as those of one type do, of some 400 B each.
func (s *site) like(topic string, from, to int) {
	s.t.Helper()
	for i := from; i < to; i++ {
		value := fmt.Appendf(nil, `{"specversion":"1.0","id":"%d","source":"https://api.example/positions","type":"train.position.v1","subject":"/train/%d",`+
			`"time":"2026-02-28T17:31:%02d.125Z","datacontenttype":"application/json","data":{"latitude":%f,"longitude":%f,"speed":%d,"bearing":%d,`+
			`"delaySeconds":%d,"next":"Hamar","destination":"Trondheim S","operator":"Vy","line":"F6","platform":"%d"}}`,
			i, i%7, i%60, 60.1+float64(i*7919%1000)/1e4, 11.1+float64(i*104729%1000)/1e4, i%130, i*31%360, i%90, i%12)
		s.to0(topic, value)
	}
}

// to0 publishes to the first partition.
func (s *site) to0(topic string, value []byte) {
	s.t.Helper()
	if acks := s.log.Append(s.t.Context(), topic, []broker.Message{{Partition: 0, Value: value}}); acks[0].Err != nil {
		s.t.Fatal(acks[0].Err)
	}
}

// counted counts what is read through it.
type counted struct {
	io.Reader
	bytes int
}

func (c *counted) Read(p []byte) (int, error) {
	n, err := c.Reader.Read(p)
	c.bytes += n
	return n, err
}

// upTo reads until text has come.
func upTo(t *testing.T, r io.Reader, text string) []byte {
	t.Helper()
	var all []byte
	for !bytes.Contains(all, []byte(text)) {
		b := make([]byte, 4<<10)
		n, err := r.Read(b)
		if all = append(all, b[:n]...); err != nil {
			t.Fatalf("after %d bytes: %v", len(all), err)
		}
	}
	return all
}

func TestACompressedStreamSaysWhatAPlainOneSaysInAQuarterOfTheBytes(t *testing.T) {
	s := newSite(t, "a")
	for _, secure := range []bool{false, true} { // a shard writes, or a goroutine
		r := s.replica(Config{}, secure)
		r.zip.mu.Lock()
		r.zip.share, r.zip.left = 1000, time.Minute // however slow the machine is
		r.zip.mu.Unlock()
		for _, as := range []string{"sse", "ndjson"} {
			for _, query := range []string{"", "&subject=/train/3"} {
				query = "as=" + as + "&stream=a" + query
				plain, wire := r.body(t, "identity", query), &counted{Reader: r.body(t, "gzip", query)}
				unzipped, err := gzip.NewReader(wire)
				if err != nil {
					t.Fatal(err)
				}
				first := map[string]string{"sse": "\n\n", "ndjson": "\n"}[as] // a block of the cursor
				upTo(t, plain, first)
				upTo(t, unzipped, first)
				before := wire.bytes
				s.like("a", 0, 206)
				s.padded("a", 205, 100)
				s.to0("a", []byte(`{"specversion":"1.0","id":"last","source":"/s","type":"t","subject":"/train/3"}`))
				want, got := upTo(t, plain, `"id":"last"`), upTo(t, unzipped, `"id":"last"`)
				if want, got = want[bytes.Index(want, []byte(`"id":"3"`)):], got[bytes.Index(got, []byte(`"id":"3"`)):]; !bytes.Equal(want, got) {
					t.Errorf("%s: the plain stream says\n%.2000s\nand the compressed one\n%.2000s", query, want, got)
				}
				if n := wire.bytes - before; n > len(got)/4 {
					t.Errorf("%s: %d bytes for %d", query, n, len(got))
				}
			}
		}
	}
}

func TestACompressedStreamIsRightWhereCompressionHasHadItsShare(t *testing.T) {
	s := newSite(t, "a")
	r := s.replica(Config{}, false)
	r.zip.mu.Lock()
	r.zip.left = -time.Hour
	r.zip.mu.Unlock()
	unzipped, err := gzip.NewReader(r.body(t, "gzip", "as=ndjson&stream=a"))
	if err != nil {
		t.Fatal(err)
	}
	upTo(t, unzipped, "\n")
	s.like("a", 0, 20)
	s.padded("a", 20, 200_000) // more than one stored block
	all := upTo(t, unzipped, strings.Repeat("x", 1000)+`"}}`)
	if n := bytes.Count(all, []byte(`"event":`)); n != 21 || bytes.Count(all, []byte("x")) < 200_000 {
		t.Errorf("%d events in %d bytes", n, len(all))
	}
}

func TestReadersOfOneViewShareWhatIsCompressed(t *testing.T) {
	s := newSite(t, "a")
	r := s.replica(Config{Flush: -1}, false)
	var readers []io.Reader
	for range 20 {
		unzipped, err := gzip.NewReader(r.body(t, "gzip", "as=sse&stream=a"))
		if err != nil {
			t.Fatal(err)
		}
		upTo(t, unzipped, "id: ")
		readers = append(readers, unzipped)
	}
	s.like("a", 0, 100)
	var running sync.WaitGroup
	for _, reader := range readers {
		running.Go(func() { upTo(t, reader, `"id":"99"`) })
	}
	running.Wait()
	blocks := map[*zippedBlock]bool{}
	for i := range r.zip.slots {
		if b := r.zip.slots[i].Load(); b != nil {
			blocks[b] = true
		}
	}
	// Each event behind the one before it; the first, and what came first in a slow reader's turn, behind none.
	if n := len(blocks); n < 50 || n > 220 {
		t.Errorf("%d blocks were made of 100 events", n)
	}
}

func TestStreamsAreNotCompressedWhereThatIsTurnedOff(t *testing.T) {
	s := newSite(t, "a")
	r := s.replica(Config{Plain: true}, false)
	c := r.connect(t, "gzip:sse", "stream=a")
	if got := c.resp.Header.Get("Content-Encoding"); got != "" {
		t.Errorf("the body is %q", got)
	}
	if c.must().Cursor == "" {
		t.Error("no first block")
	}
}

// An ended stream is a whole one, whose checksum gzip readers verify, also of what was made for many and taken as it was.
func TestAnEndedCompressedStreamIsWhole(t *testing.T) {
	s := newSite(t, "a")
	for _, secure := range []bool{false, true} {
		r := s.replica(Config{}, secure)
		unzipped, err := gzip.NewReader(r.body(t, "gzip", "as=sse&stream=a&beat"))
		if err != nil {
			t.Fatal(err)
		}
		all := upTo(t, unzipped, "id: ")
		s.like("a", 0, 50)
		all = append(all, upTo(t, unzipped, `"id":"49"`)...)
		drained, done := context.WithTimeout(t.Context(), 5*time.Second)
		defer done()
		go func() { _ = r.Drain(drained) }()
		rest, err := io.ReadAll(unzipped)
		if err != nil || !bytes.Contains(rest, []byte("event: drain")) {
			t.Errorf("after %d bytes the stream ends with %q: %v", len(all), rest, err)
		}
	}
}

func TestChecksumsOfPartsMakeThatOfTheWhole(t *testing.T) {
	text := []byte(strings.Repeat("what is true now, ", 5000))
	for _, n := range []int{0, 1, 7, 64, 65, 1000, len(text) - 1, len(text)} {
		a, b := crc32.ChecksumIEEE(text[:n]), crc32.ChecksumIEEE(text[n:])
		if got := combined(a, b, len(text)-n); got != crc32.ChecksumIEEE(text) {
			t.Errorf("cut at %d: %x", n, got)
		}
	}
}

package main_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"
)

// rawSession opens a session by hand, so that the client can misbehave.
func rawSession(t *testing.T, v *server, version, accept, query string) (*net.TCPConn, *bufio.Reader) {
	t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(v.base, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	tcp := conn.(*net.TCPConn)
	_ = tcp.SetReadBuffer(4 << 10)
	_, err = fmt.Fprintf(conn, "GET /v1/streams/%s/events?%s %s\r\nHost: localhost\r\nAccept: %s\r\n\r\n", theStream, query, version, accept)
	if err != nil {
		t.Fatal(err)
	}
	return tcp, bufio.NewReaderSize(conn, 16)
}

// lineWith reads on until a line begins with the prefix.
func lineWith(t *testing.T, r *bufio.Reader, prefix string) string {
	t.Helper()
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			t.Fatalf("waiting for %q: %v", prefix, err)
		}
		if strings.HasPrefix(line, prefix) {
			return strings.TrimSpace(line)
		}
	}
}

const (
	ringLimit   = 1 << 20
	memoryLimit = 8 << 20
)

func TestReadersThatStallChangeNothingForOthersNorTheServersMemory(t *testing.T) {
	v := startServer(t, embedded(t), fmt.Sprint("--ring-bytes=", ringLimit), fmt.Sprint("--memory-bytes=", memoryLimit), "--drain-timeout=3s")
	define(t, 3, v)

	// Ten of each kind of trouble, on every plain transport, some of them catching up from the beginning.
	stopDrip := make(chan struct{})
	var dripping sync.WaitGroup
	defer dripping.Wait()
	defer close(stopDrip)
	for i := range 10 {
		accept := []string{"text/event-stream", "application/x-ndjson"}[i%2]
		rawSession(t, v, "HTTP/1.1", accept, "from=oldest") // reads nothing, not even the head
		_, head := rawSession(t, v, "HTTP/1.1", accept, "")
		lineWith(t, head, "HTTP/1.1 200") // reads the head and no more
		conn, _ := rawSession(t, v, "HTTP/1.1", accept, "")
		dripping.Go(func() {
			one := make([]byte, 1)
			tick := time.NewTicker(time.Second)
			defer tick.Stop()
			for {
				select {
				case <-stopDrip:
					return
				case <-tick.C:
				}
				if _, err := conn.Read(one); err != nil {
					return
				}
			}
		})
		noisy, answer := rawSession(t, v, "HTTP/1.1", accept, "")
		lineWith(t, answer, "HTTP/1.1 200")
		if _, err := noisy.Write(bytes.Repeat([]byte("garbage\x00\r\n\r\n"), 100)); err != nil {
			t.Fatal(err)
		}
		ws, err := dial(t.Context(), v, url.Values{}, "", []string{"cloudevents.json", "eventissuer.v1"}[i%2]) // never reads
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = ws.CloseNow() })
	}
	slow := startSlowReader(t, v)

	crowd := gather(t, everyKind(35, v))
	crowd.all(t, "connected", func(c *client) bool { return c.polls() || c.liveOn(0) })
	p := publish(t, 2, 12, 0, strings.Repeat("x", 16<<10), v)
	p.more(t, 400) // 6 MiB, six times the ring
	crowd.verify(t, p, v)
	slow.finish(t)

	for _, c := range crowd.clients {
		if n := c.count(); n != 1 && !c.polls() {
			t.Errorf("%s connected %d times", c.name, n)
		}
	}
	if got := v.metric(t, "eventissuer_fanout_overflows_total"); got == 0 {
		t.Error("no reader fell out of the ring: the test shows nothing")
	}
	if got := v.metric(t, "eventissuer_fanout_ring_bytes"); got > 2*ringLimit {
		t.Errorf("the rings of two streams hold %v bytes, want at most %d each", got, ringLimit)
	}
	if got := v.metric(t, "eventissuer_fanout_ring_bytes") + v.metric(t, "eventissuer_fanout_block_bytes"); got > memoryLimit {
		t.Errorf("ring and blocks hold %v bytes, want at most %d", got, memoryLimit)
	}
	// Beside what is configured: the process, the embedded servers, and what one write to each of 100 sessions holds.
	const most = memoryLimit + 200<<20
	if got := v.metric(t, "process_resident_memory_bytes"); got > most {
		t.Errorf("the server takes %v bytes of memory, want at most %d", got, most)
	}
	if got := v.metric(t, "eventissuer_session_panics_total") + v.metric(t, "eventissuer_http_panics_total") + v.metric(t, "eventissuer_fanout_panics_total"); got != 0 {
		t.Errorf("%v panics", got)
	}
	v.sigterm(t, 15*time.Second) // those who do not read are waited for as long as a drain may last, and no longer
}

func TestClientsThatPollAndDoNotReadHoldNoMoreThanPagesMay(t *testing.T) {
	v := startServer(t, embedded(t), fmt.Sprint("--ring-bytes=", ringLimit), fmt.Sprint("--memory-bytes=", memoryLimit), "--drain-timeout=10s")
	define(t, 3, v)
	p := publish(t, 2, 12, 0, strings.Repeat("x", 8<<10), v)
	p.more(t, 1000)
	p.finish()
	before := v.metric(t, "process_resident_memory_bytes")
	const clients = 150
	for range clients {
		rawSession(t, v, "HTTP/1.1", "application/json", "from=oldest&limit=1000")
	}
	// Each has a page that nobody takes, or waits for the memory to have one, which takes some seconds, and is told to come
	// back. All that time counts.
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(8 * time.Second); time.Now().Before(end); <-tick.C {
		if grown := v.metric(t, "process_resident_memory_bytes") - before; grown > 250<<20 {
			t.Fatalf("%d clients that do not read hold %v bytes", clients, grown)
		}
	}
	v.sigterm(t, 15*time.Second)
}

// slowReader reads a stream of large events in small pieces, far behind the others: it must be kept, and get all.
type slowReader struct {
	err chan error
}

const slowEvents = 12

func startSlowReader(t *testing.T, v *server) *slowReader {
	t.Helper()
	v.call(t, http.StatusCreated, http.MethodPost, "/v1/streams", map[string]any{"name": "large", "partitions": 1})
	v.call(t, http.StatusCreated, http.MethodPost, "/v1/event-types", map[string]any{"type": "large", "stream": "large"})
	conn, err := net.Dial("tcp", strings.TrimPrefix(v.base, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	_ = conn.(*net.TCPConn).SetReadBuffer(16 << 10)
	if _, err := fmt.Fprintf(conn, "GET /v1/streams/large/events HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	in := bufio.NewReaderSize(conn, 4<<10)
	lineWith(t, in, "id: ")
	for n := range slowEvents {
		event := fmt.Appendf(nil, `{"id":"%08d","specversion":"1.0","source":"/e2e","type":"large","data":"%s"}`, n, strings.Repeat("y", 1<<20-200))
		if _, err := v.publishOne(t.Context(), event); err != nil {
			t.Fatal(err)
		}
	}
	s := &slowReader{err: make(chan error, 1)}
	var done sync.WaitGroup
	done.Go(func() {
		for n := 0; n < slowEvents; {
			line, err := in.ReadBytes('\n')
			if err != nil {
				s.err <- fmt.Errorf("after %d large events: %w", n, err)
				return
			}
			if data, ok := bytes.CutPrefix(line, []byte("data: ")); ok {
				var e struct{ ID, Data string }
				if err := json.Unmarshal(data, &e); err != nil || e.ID != fmt.Sprintf("%08d", n) || len(e.Data) != 1<<20-200 {
					s.err <- fmt.Errorf("large event %d came as %q with %d bytes: %w", n, e.ID, len(e.Data), err)
					return
				}
				n++
			}
		}
		s.err <- nil
	})
	t.Cleanup(func() { _ = conn.Close(); done.Wait() })
	return s
}

func (s *slowReader) finish(t *testing.T) {
	t.Helper()
	select {
	case err := <-s.err:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(patience):
		t.Error("the slow reader does not get its events")
	}
}

func TestOddClientsGetWhatTheyAskFor(t *testing.T) {
	v := startServer(t, embedded(t), "--drain-timeout=5s")
	define(t, 3, v)
	published := 0
	events := func(n int) {
		t.Helper()
		for range n {
			if _, err := v.publishOne(t.Context(), eventJSON(eventID(0, published), "")); err != nil {
				t.Fatal(err)
			}
			published++
		}
	}

	t.Run("HTTP/1.0 session", func(t *testing.T) {
		_, in := rawSession(t, v, "HTTP/1.0", "text/event-stream", "")
		lineWith(t, in, "HTTP/1.")
		lineWith(t, in, "id: ")
		events(1)
		lineWith(t, in, "data: {")
	})
	t.Run("HTTP/1.0 page", func(t *testing.T) {
		_, in := rawSession(t, v, "HTTP/1.0", "*/*", "from=oldest&limit=1")
		all, err := io.ReadAll(in) // it has an end
		if err != nil || !bytes.Contains(all, []byte(`[{"specversion"`)) {
			t.Errorf("%v: %s", err, all)
		}
	})
	t.Run("garbage after the request", func(t *testing.T) {
		conn, in := rawSession(t, v, "HTTP/1.1", "text/event-stream", "")
		lineWith(t, in, "id: ")
		if _, err := conn.Write(bytes.Repeat([]byte("GET / HTTP/1.1\r\n\r\n"), 1000)); err != nil {
			t.Fatal(err)
		}
		events(1)
		lineWith(t, in, "data: {")
	})
	t.Run("HEAD", func(t *testing.T) {
		for _, accept := range []string{"text/event-stream", "application/x-ndjson", "*/*"} {
			req, err := http.NewRequestWithContext(t.Context(), http.MethodHead, address(v, url.Values{"wait": {"30s"}, "consumer": {"looked"}}), nil)
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("Accept", accept)
			resp, err := v.client.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			body, err := io.ReadAll(resp.Body)
			_ = resp.Body.Close()
			if err != nil || resp.StatusCode != http.StatusOK || len(body) != 0 || resp.Header.Get("Cursor") == "" {
				t.Errorf("HEAD with Accept %s answered %s, %d bytes, cursor %q, %v", accept, resp.Status, len(body), resp.Header.Get("Cursor"), err)
			}
		}
		if status, _, _ := v.try(t.Context(), http.MethodGet, "/v1/streams/"+theStream+"/consumers/looked", nil); status != http.StatusNotFound {
			t.Errorf("HEAD made a consumer: %d", status)
		}
	})
	t.Run("WebSocket messages that are none", func(t *testing.T) {
		for name, text := range map[string]string{
			"no JSON": "{", "no object": `"x"`, "nothing known": `{"x":1}`, "no cursor": `{"ack":"x"}`, "too long": strings.Repeat(" ", 100<<10),
			"no consumer": "", "bad query": `{"query":{"filter":"((("}}`,
		} {
			for _, sub := range []string{"cloudevents.json", "eventissuer.v1"} {
				ws, err := dial(t.Context(), v, url.Values{}, "", sub)
				if err != nil {
					t.Fatal(err)
				}
				_, first, err := ws.Read(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				if name == "no consumer" {
					m, err := batchMessage(first)
					if sub == "cloudevents.json" {
						m, err = eventMessage(first)
					}
					if err != nil {
						t.Fatal(err)
					}
					text = `{"ack":"` + m.cursor + `"}`
				}
				err = ws.Write(t.Context(), websocket.MessageText, []byte(text))
				if name == "too long" {
					_ = ws.CloseNow() // it may be cut while it still writes
					continue
				}
				told := ""
				for err == nil {
					var b []byte
					if _, b, err = ws.Read(t.Context()); err == nil {
						told = string(b)
					}
				}
				if websocket.CloseStatus(err) == -1 {
					t.Errorf("%s, %s: the connection broke: %v", name, sub, err)
				}
				if !strings.Contains(told, `"status":400`) {
					t.Errorf("%s, %s: told %q before the close %v", name, sub, told, err)
				}
				_ = ws.CloseNow()
			}
		}
	})
	t.Run("every event acknowledged at once", func(t *testing.T) {
		var batch [][]byte
		for i := range 600 {
			batch = append(batch, eventJSON(eventID(1, i), ""))
		}
		if _, err := v.publishBatch(t.Context(), batch); err != nil {
			t.Fatal(err)
		}
		j := readJournal(t, v)
		ctx, stop := context.WithCancel(t.Context())
		defer stop()
		ws, err := dial(ctx, v, url.Values{"consumer": {"eager"}, "from": {"oldest"}}, "", "cloudevents.json")
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = ws.CloseNow() }()
		for saved := []int64(nil); !reached(saved, j.ends) || saved == nil; {
			_, b, err := ws.Read(ctx)
			if err != nil {
				t.Fatalf("with %v saved: %v", saved, err)
			}
			m, err := eventMessage(b)
			if err != nil {
				t.Fatal(err)
			}
			switch m.control {
			case "":
				text := `{"ack":"` + m.cursor + `"`
				if reached(positionOf(t, m.cursor), j.ends) {
					text += `,"final":true`
				}
				if err := ws.Write(ctx, websocket.MessageText, []byte(text+"}")); err != nil {
					t.Fatal(err)
				}
			case "acked":
				saved = ackedOf(m)
			default:
				t.Fatalf("control message %s: %s", m.control, m.payload)
			}
		}
	})
	t.Run("limits", func(t *testing.T) {
		few := startServer(t, embedded(t), "--max-sessions=2")
		define(t, 1, few)
		var held []*http.Response
		for range 2 {
			resp, err := open(t.Context(), few, url.Values{}, "application/x-ndjson", "")
			if err != nil {
				t.Fatal(err)
			}
			held = append(held, resp)
		}
		for accept, want := range map[string]int{"application/x-ndjson": http.StatusServiceUnavailable, "text/event-stream": http.StatusOK} {
			resp, err := open(t.Context(), few, url.Values{}, accept, "")
			var status *statusError
			if want == http.StatusOK && err == nil {
				all, err := io.ReadAll(resp.Body)
				if err != nil || !strings.HasPrefix(string(all), "retry: ") || !strings.Contains(string(all), "event: problem\n") {
					t.Errorf("one session too many: %s, %v", all, err)
				}
				_ = resp.Body.Close()
			} else if !errors.As(err, &status) || status.status != want {
				t.Errorf("one session too many with Accept %s: %v", accept, err)
			}
		}
		for _, resp := range held {
			_ = resp.Body.Close()
		}
		eventually(t, "places are free again", func() bool {
			resp, err := open(t.Context(), few, url.Values{}, "application/x-ndjson", "")
			if err == nil {
				_ = resp.Body.Close()
			}
			return err == nil
		})
	})
}

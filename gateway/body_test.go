package gateway

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"
)

func TestRefusedBodyIsReadOnSoThatTheClientSeesTheAnswer(t *testing.T) {
	h := newHarness(t)
	conn, err := net.Dial("tcp", h.server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	// A client that writes all of 12 MiB before it reads anything: a server that closes earlier resets it.
	const size = 12 << 20
	if _, err := fmt.Fprintf(conn, "POST /v1/events HTTP/1.1\r\nHost: x\r\nContent-Type: application/cloudevents+json\r\nContent-Length: %d\r\n\r\n", size); err != nil {
		t.Fatal(err)
	}
	if _, err := io.CopyN(conn, zeros{}, size); err != nil {
		t.Fatalf("the body could not be written: %v", err)
	}
	res, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatalf("the answer did not arrive: %v", err)
	}
	defer func() { _ = res.Body.Close() }()
	if res.StatusCode != http.StatusRequestEntityTooLarge || !res.Close {
		t.Errorf("status %d, to be closed: %v", res.StatusCode, res.Close)
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

func TestClientThatExpectsContinueIsRefusedAtOnce(t *testing.T) {
	h := newHarness(t)
	conn, err := net.Dial("tcp", h.server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	if _, err := io.WriteString(conn, "POST /v1/events HTTP/1.1\r\nHost: x\r\nContent-Type: application/cloudevents+json\r\nContent-Length: 99999999\r\nExpect: 100-continue\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	if err := conn.SetReadDeadline(time.Now().Add(4 * time.Second)); err != nil {
		t.Fatal(err)
	}
	res, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	if res.StatusCode != http.StatusRequestEntityTooLarge {
		t.Errorf("status %d", res.StatusCode)
	}
}

func TestSlowBodyIsTimedOutAndTheConnectionClosed(t *testing.T) {
	h := newHarness(t, func(c *Config, _ *Deps) { c.BodyTimeout = 50 * time.Millisecond })
	conn, err := net.Dial("tcp", h.server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	if _, err := io.WriteString(conn, "POST /v1/events HTTP/1.1\r\nHost: x\r\nContent-Type: application/cloudevents+json\r\nContent-Length: 100\r\n\r\n{\"id\":"); err != nil {
		t.Fatal(err)
	}
	res, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	if res.StatusCode != http.StatusRequestTimeout || !strings.Contains(string(body), "/problems/body-timeout") || !res.Close {
		t.Errorf("status %d, to be closed %v: %s", res.StatusCode, res.Close, body)
	}
}

func TestBodiesBeyondTheirMemoryWaitAndAreThenRefused(t *testing.T) {
	h := newHarness(t)
	all := h.edge.config.MaxBodyMemory - h.edge.config.MaxBodyMemory/smallShare
	if !h.edge.bodies.large.TryAcquire(all) {
		t.Fatal("the memory is not free at the start")
	}
	large := `{"nam":"` + strings.Repeat("x", firstRoom) + `"}`
	a := h.sendJSON("POST", "/v1/streams", large)
	if p := a.problem(t); a.status != http.StatusServiceUnavailable || p.Type != "/problems/overloaded" || a.header.Get("Retry-After") == "" {
		t.Errorf("%d %s", a.status, a.body)
	}
	h.must(h.sendJSON("POST", "/v1/streams", `{"nam":"x"}`), http.StatusUnprocessableEntity) // small ones have their own
	h.edge.bodies.large.Release(all)
	h.must(h.sendJSON("POST", "/v1/streams", large), http.StatusUnprocessableEntity)
	if !h.edge.bodies.large.TryAcquire(all) {
		t.Error("memory was not given back")
	}
}

func TestClientsThatOnlyBeginToSendHoldUpNobody(t *testing.T) {
	h := newHarness(t).withTrains()
	address := strings.TrimPrefix(h.server.URL, "http://")
	for range 300 {
		conn, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		closing(t, conn.Close)
		_, err = io.WriteString(conn, "POST /v1/events HTTP/1.1\r\nHost: x\r\nContent-Type: application/cloudevents-batch+json\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n[\r\n")
		if err != nil {
			t.Fatal(err)
		}
	}
	large := make([]string, 1000)
	for i := range large {
		large[i] = trainEvent(strconv.Itoa(i), `,"data":"`+strings.Repeat("x", 7000)+`"`)
	}
	h.must(h.send("POST", "/v1/events", "["+strings.Join(large, ",")+"]", batched), http.StatusOK)
	h.must(h.send("POST", "/v1/events", trainEvent("small", ""), structured), http.StatusOK)
}

// zipped compresses with gzip.
func zipped(t *testing.T, text string) string {
	t.Helper()
	var buf bytes.Buffer
	w := gzip.NewWriter(&buf)
	if _, err := io.WriteString(w, text); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.String()
}

func TestClientThatDripsItsBodyHoldsNoConnection(t *testing.T) {
	h := newHarness(t, func(c *Config, _ *Deps) { c.BodyTimeout = 100 * time.Millisecond })
	for name, head := range map[string]string{
		"a body that is read":     "POST /v1/events HTTP/1.1\r\nContent-Type: application/cloudevents+json\r\n",
		"a body nobody asked for": "GET /v1/streams HTTP/1.1\r\n",
		"a body to no address":    "POST /v1/nothing HTTP/1.1\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			conn, err := net.Dial("tcp", h.server.Listener.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = conn.Close() }()
			if _, err := io.WriteString(conn, head+"Host: x\r\nContent-Length: 100000\r\n\r\n{"); err != nil {
				t.Fatal(err)
			}
			for begin := time.Now(); ; time.Sleep(20 * time.Millisecond) {
				if _, err := io.WriteString(conn, " "); err != nil {
					return // closed
				}
				if time.Since(begin) > 5*time.Second {
					t.Fatal("the connection is still open")
				}
			}
		})
	}
}

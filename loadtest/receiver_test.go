package loadtest_test

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/eventissuer/eventissuer/internal/webhook"
	"github.com/eventissuer/eventissuer/loadtest"
)

// told is what a receiver answers when it is asked.
type told struct {
	Addresses                                            []string
	Events, Requests, Consents, Malformed, Hung, Foreign uint64
	Lost, Repeated, Unexpected, Verified, Forged         uint64
	LastFault                                            string
}

// startReceiver runs a receiver, and returns its addresses and what asks it.
func startReceiver(t *testing.T, setup map[string]any) (addresses []string, ask func(order string) told) {
	t.Helper()
	fromUs, orders := io.Pipe()
	answers, toUs := io.Pipe()
	ended := make(chan error, 1)
	go func() { ended <- loadtest.Receive(fromUs, toUs) }()
	t.Cleanup(func() {
		_ = orders.Close()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	in := json.NewDecoder(answers)
	ask = func(order string) told {
		t.Helper()
		var got told
		if _, err := io.WriteString(orders, order+"\n"); err != nil {
			t.Fatal(err)
		}
		if err := in.Decode(&got); err != nil {
			t.Fatal(err)
		}
		return got
	}
	all := map[string]any{"run": "r", "endpoints": 1, "lanes": 2, "secrets": []string{webhook.NewSecret().Text()}}
	for name, value := range setup {
		all[name] = value
	}
	text, err := json.Marshal(all)
	if err != nil {
		t.Fatal(err)
	}
	return ask(string(text)).Addresses, ask
}

// dial connects to a receiver; answers come from the reader.
func dial(t *testing.T, address string) (net.Conn, *bufio.Reader) {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	return conn, bufio.NewReader(conn)
}

func answered(t *testing.T, from *bufio.Reader) *http.Response {
	t.Helper()
	resp, err := http.ReadResponse(from, nil)
	if err != nil {
		t.Fatal(err)
	}
	return resp
}

// post is a message to /0 with an event of lane and number.
func post(lane, n int) string {
	body := fmt.Sprintf(`{"data":{"mark":"~lt:r:%d:%d:1~"}}`, lane, n)
	return fmt.Sprintf("POST /0 HTTP/1.1\r\nHost: x\r\ncontent-LENGTH: %d \r\n\r\n%s", len(body), body)
}

func TestReceiverTakesRequestsHoweverTheyAreCut(t *testing.T) {
	addresses, ask := startReceiver(t, nil)
	conn, in := dial(t, addresses[0])
	text := "OPTIONS /0 HTTP/1.1\r\nHost: x\r\n\r\n" + post(0, 0) + post(1, 0) + post(0, 1)
	for i := range len(text) { // a byte at a time, requests one behind the other
		if _, err := io.WriteString(conn, text[i:i+1]); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 4 {
		resp := answered(t, in)
		if resp.StatusCode != http.StatusOK || (resp.Header.Get("WebHook-Allowed-Origin") == "*") != (i == 0) {
			t.Errorf("answer %d: %v", i, resp)
		}
	}
	if _, err := io.WriteString(conn, text[strings.Index(text, "POST"):]); err != nil { // all at once, and again
		t.Fatal(err)
	}
	for range 3 {
		answered(t, in)
	}
	got := ask(`{"sequences":[{"end":4,"doubts":[3]},{"end":1}]}`)
	if got.Events != 3 || got.Requests != 6 || got.Repeated != 3 || got.Consents != 1 || got.Lost != 1 || got.Malformed != 0 {
		t.Errorf("%+v", got)
	}
}

func TestReceiverCountsEventsThatDoNotBelong(t *testing.T) {
	addresses, ask := startReceiver(t, nil)
	conn, in := dial(t, addresses[0])
	for text, want := range map[string]int{
		post(7, 0): 200, // no such lane
		"POST /0 HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}": 200,
		strings.Replace(post(0, 0), "/0", "/9", 1):        404,
		"POST /0 HTTP/1.1\r\n\r\n":                        200,
		"GET /0 HTTP/1.1\r\n\r\n":                         404,
	} {
		if _, err := io.WriteString(conn, text); err != nil {
			t.Fatal(err)
		}
		if got := answered(t, in).StatusCode; got != want {
			t.Errorf("%q is answered %d, want %d", text, got, want)
		}
	}
	if got := ask("{}"); got.Unexpected != 1 || got.Foreign != 2 || got.Events != 0 {
		t.Errorf("%+v", got)
	}
}

func TestReceiverHangsUpOnWhatItCannotRead(t *testing.T) {
	addresses, ask := startReceiver(t, nil)
	for i, text := range []string{
		"POST /0 HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
		"POST /0 HTTP/1.1\r\nContent-Length: 99999999999\r\n\r\n",
		"POST /0 HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
		"nonsense\r\n\r\n",
		"POST /0 HTTP/1.1\r\nX: " + strings.Repeat("x", 70_000),
	} {
		conn, in := dial(t, addresses[0])
		if _, err := io.WriteString(conn, text); err != nil {
			t.Fatal(err)
		}
		if _, err := in.ReadByte(); err == nil {
			t.Errorf("%.60q is answered", text)
		}
		if got := ask("{}"); got.Malformed != uint64(i+1) || got.LastFault == "" {
			t.Errorf("%.60q: %+v", text, got)
		}
	}
}

func TestReceiverThatHangsConsentsAndThenAnswersNothing(t *testing.T) {
	addresses, ask := startReceiver(t, map[string]any{"endpoints": 2, "hang": 1, "secrets": []string{webhook.NewSecret().Text(), webhook.NewSecret().Text()}})
	conn, in := dial(t, addresses[0])
	if _, err := io.WriteString(conn, "OPTIONS /0 HTTP/1.1\r\n\r\n"+post(0, 0)); err != nil {
		t.Fatal(err)
	}
	answered(t, in)
	if err := conn.SetReadDeadline(time.Now().Add(50 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	var timeout net.Error
	if _, err := in.ReadByte(); !errors.As(err, &timeout) || !timeout.Timeout() {
		t.Errorf("got %v, expected nothing", err)
	}
	if got := ask(`{"sequences":[{"end":5},{"end":0}]}`); got.Hung != 1 || got.Events != 0 || got.Lost != 5 {
		t.Errorf("%+v: what hangs loses nothing, the other endpoint all", got)
	}
}

func TestReceiverWantsToKnowWhatToBe(t *testing.T) {
	for _, text := range []string{"", "no JSON", "{}", `{"endpoints":1,"lanes":1,"secrets":["x"]}`} {
		if err := loadtest.Receive(strings.NewReader(text), io.Discard); err == nil {
			t.Errorf("%q is taken", text)
		}
	}
}

func BenchmarkReceiver(b *testing.B) {
	fromUs, orders := io.Pipe()
	answers, toUs := io.Pipe()
	ended := make(chan error, 1)
	go func() { ended <- loadtest.Receive(fromUs, toUs) }()
	in := json.NewDecoder(answers)
	if _, err := fmt.Fprintf(orders, `{"run":"r","endpoints":1,"lanes":2,"secrets":[%q]}`+"\n", webhook.NewSecret().Text()); err != nil {
		b.Fatal(err)
	}
	var got told
	if err := in.Decode(&got); err != nil {
		b.Fatal(err)
	}
	conn, err := net.Dial("tcp", got.Addresses[0])
	if err != nil {
		b.Fatal(err)
	}
	message := []byte(strings.Replace(post(0, 0), "Host: x\r\n", "Host: x\r\nUser-Agent: x\r\nWebhook-Id: msg_x\r\nWebhook-Timestamp: 1\r\nWebhook-Signature: v1,"+strings.Repeat("A", 43)+"=\r\nContent-Type: application/cloudevents+json\r\n", 1))
	answer := make([]byte, len("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := conn.Write(message); err != nil {
			b.Fatal(err)
		}
		if _, err := io.ReadFull(conn, answer); err != nil {
			b.Fatal(err)
		}
	}
	_ = conn.Close()
	_ = orders.Close()
	if err := <-ended; err != nil {
		b.Fatal(err)
	}
}

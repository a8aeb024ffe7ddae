package guard

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/eventissuer/eventissuer/internal/webhook"
)

func local(t testing.TB) *Client {
	t.Helper()
	return newClient(t, newGuard(t, Config{AllowLoopback: true}), webhook.Credential{})
}

func soon(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	t.Cleanup(cancel)
	return ctx
}

func TestARequestArrivesAsItWasGiven(t *testing.T) {
	type seen struct {
		method, path, agent, kind, body, length string
		header                                  http.Header
	}
	requests := make(chan seen, 1)
	s := plainServer(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		requests <- seen{r.Method, r.URL.String(), r.UserAgent(), r.Header.Get("Content-Type"), string(body), r.Header.Get("Content-Length"), r.Header}
		w.Header().Set("Retry-After", "5")
		http.SetCookie(w, &http.Cookie{Name: "a", Value: "b"})
		w.WriteHeader(http.StatusAccepted)
		_, _ = io.WriteString(w, "thanks")
	})
	client := local(t)
	for range 2 { // the second would have the cookie
		resp, err := client.Do(t.Context(), Request{URL: s.URL + "/hook?a=b", Header: http.Header{"Content-Type": {"application/cloudevents+json"}}, Body: []byte(`{"a":1}`)})
		if err != nil {
			t.Fatal(err)
		}
		if resp.Status != 202 || string(resp.Body) != "thanks" || resp.Truncated || resp.Header.Get("Retry-After") != "5" || resp.Took <= 0 {
			t.Errorf("%+v", resp)
		}
		got := <-requests
		if got.method != "POST" || got.path != "/hook?a=b" || got.agent != "eventissuer" || got.kind != "application/cloudevents+json" || got.body != `{"a":1}` {
			t.Errorf("%+v", got)
		}
		for _, name := range []string{"Accept-Encoding", "Cookie", "Idempotency-Key", "X-Idempotency-Key", "Authorization", "Expect"} {
			if v, ok := got.header[name]; ok {
				t.Errorf("%s: %s was sent", name, v)
			}
		}
	}
	resp, err := client.Do(t.Context(), Request{Method: http.MethodOptions, URL: s.URL, Header: http.Header{"User-Agent": {"mine"}}})
	if got := <-requests; err != nil || resp.Status != 202 || got.method != "OPTIONS" || got.agent != "mine" || got.body != "" {
		t.Errorf("%+v %v %+v", resp, err, got)
	}
}

func TestEnvironmentVariablesNameNoProxy(t *testing.T) {
	proxy := newCanary(t, "127.0.0.1:0")
	for _, v := range []string{"HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"} {
		t.Setenv(v, "http://127.0.0.1:"+proxy.port)
	}
	i := newIdentity(t, tomorrow(), "sink.example")
	s := secureServer(t, "127.0.0.1:0", i, nil, func(http.ResponseWriter, *http.Request) {})
	_, port, _ := net.SplitHostPort(s.Listener.Addr().String())
	g := newGuard(t, Config{RootCAs: i.pool(), Allow: prefixes("127.0.0.1/32"), Resolver: fixed{"sink.example.": {"127.0.0.1"}}})
	if resp, err := newClient(t, g, webhook.Credential{}).Do(t.Context(), Request{URL: "https://sink.example:" + port + "/"}); err != nil || resp.Status != 200 {
		t.Errorf("%+v, %v", resp, err)
	}
	proxy.unvisited(t)
}

func TestRedirectsAndOtherHintsAreNotFollowed(t *testing.T) {
	canary := newCanary(t, ":0")
	elsewhere := "http://127.0.0.1:" + canary.port + "/"
	var asked atomic.Int64
	s := plainServer(t, func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		var status int
		_, _ = fmt.Sscan(strings.Trim(r.URL.Path, "/"), &status)
		w.Header().Set("Location", elsewhere)
		w.Header().Set("Refresh", "0; url="+elsewhere)
		w.Header().Set("Alt-Svc", `h2="127.0.0.1:`+canary.port+`"; ma=86400, h3="127.0.0.1:`+canary.port+`"; ma=86400`)
		w.Header().Set("Link", "<"+elsewhere+">; rel=preload")
		w.WriteHeader(status)
	})
	client := local(t)
	statuses := []int{201, 300, 301, 302, 303, 305, 307, 308, 200, 200, 421}
	for _, status := range statuses {
		resp, err := client.Do(t.Context(), Request{URL: fmt.Sprintf("%s/%d", s.URL, status), Body: []byte("{}")})
		if err != nil || resp.Status != status {
			t.Errorf("%d: %+v, %v", status, resp, err)
		}
	}
	if asked.Load() != int64(len(statuses)) {
		t.Errorf("the server was asked %d times", asked.Load())
	}
	canary.unvisited(t)
}

// readRequest reads a request without a body.
func readRequest(c net.Conn) {
	if r, err := http.ReadRequest(bufio.NewReader(c)); err == nil {
		_, _ = io.Copy(io.Discard, r.Body)
	}
}

// flood writes until nobody reads any more.
func flood(c net.Conn, text string) {
	for {
		if _, err := io.WriteString(c, text); err != nil {
			return
		}
	}
}

// drip writes a byte at a time, and never to an end.
func drip(c net.Conn, text string) {
	for {
		for i := range len(text) {
			if _, err := c.Write([]byte{text[i]}); err != nil {
				return
			}
			time.Sleep(time.Millisecond) // the pace of a peer, not a wait for anything
		}
	}
}

func reset(c net.Conn) {
	if tcp, ok := c.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
}

func TestHostileAnswersEndAsErrorsOfTheirKind(t *testing.T) {
	const secret = "c2VjcmV0"
	for name, test := range map[string]struct {
		script func(net.Conn)
		want   Kind
	}{
		"early close":          {func(c net.Conn) { readRequest(c) }, Reset},
		"close before reading": {func(net.Conn) {}, Reset},
		"reset":                {func(c net.Conn) { readRequest(c); reset(c) }, Reset},
		"half a status line":   {func(c net.Conn) { readRequest(c); _, _ = io.WriteString(c, "HTTP/1.1 20") }, Protocol},
		"half the headers":     {func(c net.Conn) { readRequest(c); _, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nA: b\r\n") }, Reset},
		"garbage":              {func(c net.Conn) { readRequest(c); _, _ = io.WriteString(c, "Basic "+secret+"\r\n\r\n") }, Protocol},
		"TLS":                  {func(c net.Conn) { readRequest(c); _, _ = c.Write([]byte{0x15, 3, 1, 0, 2, 2, 10, '\r', '\n'}) }, Protocol},
		"no number":            {func(c net.Conn) { readRequest(c); _, _ = io.WriteString(c, "HTTP/1.1 OK "+secret+"\r\n\r\n") }, Protocol},
		"HTTP/9":               {func(c net.Conn) { readRequest(c); _, _ = io.WriteString(c, "HTTX/9.9 200 OK\r\n\r\n") }, Protocol},
		"bad header":           {func(c net.Conn) { readRequest(c); _, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\n"+secret+"\r\n\r\n") }, Protocol},
		"two lengths": {func(c net.Conn) {
			readRequest(c)
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab")
		}, Protocol},
		"endless status line": {func(c net.Conn) {
			readRequest(c)
			_, _ = io.WriteString(c, "HTTP/1.1 200 ")
			flood(c, "aaaaaaaaaaaaaaaa")
		}, Headers},
		"endless header": {func(c net.Conn) {
			readRequest(c)
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nA: ")
			flood(c, "aaaaaaaaaaaaaaaa")
		}, Headers},
		"endless headers": {func(c net.Conn) {
			readRequest(c)
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\n")
			flood(c, "A: b\r\n")
		}, Headers},
		"100 without end": {func(c net.Conn) { readRequest(c); flood(c, "HTTP/1.1 100 Continue\r\n\r\n") }, Headers},
		"103 without end": {func(c net.Conn) { readRequest(c); flood(c, "HTTP/1.1 103 Early Hints\r\nLink: <a>\r\n\r\n") }, Headers},
		"another protocol": {func(c net.Conn) {
			readRequest(c)
			_, _ = io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n")
			flood(c, "a")
		}, Protocol},
		"silence":                 {func(c net.Conn) { readRequest(c); _, _ = c.Read(make([]byte, 1)) }, Timeout},
		"headers that drip":       {func(c net.Conn) { readRequest(c); _, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nA: "); drip(c, "a") }, Timeout},
		"a status line that drip": {func(c net.Conn) { readRequest(c); drip(c, "HTTP/1.1 100 Continue\r\n\r\n") }, Timeout},
	} {
		t.Run(name, func(t *testing.T) {
			addr := scripted(t, test.script)
			g := newGuard(t, Config{AllowLoopback: true})
			client := newClient(t, g, webhook.Credential{Type: webhook.Plain, Identifier: "name", Secret: "secret"})
			ctx := t.Context()
			if test.want == Timeout {
				ctx = soon(t)
			}
			resp, err := client.Do(ctx, Request{URL: "http://" + addr + "/?token=" + secret, Body: []byte("{}")})
			if kindOf(err) != test.want {
				t.Errorf("%+v, %v (%v), want %v", resp, err, kindOf(err), test.want)
			}
			if err != nil && (strings.Contains(err.Error(), secret) || !strings.Contains(err.Error(), addr)) {
				t.Errorf("the error does not say what it may: %v", err)
			}
			if test.want == Timeout && !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("%v is no deadline", err)
			}
		})
	}
}

func TestOfABodyOnlySoMuchIsReadAndKept(t *testing.T) {
	long := strings.Repeat("0123456789abcdef", 8<<10)
	for name, test := range map[string]struct {
		script    func(net.Conn)
		body      string
		truncated bool
	}{
		"none":               {answer("HTTP/1.1 204 No Content\r\n\r\n"), "", false},
		"empty":              {answer("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"), "", false},
		"short":              {answer("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"), "ok", false},
		"chunked":            {answer("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\no\r\n1\r\nk\r\n0\r\n\r\n"), "ok", false},
		"until it closes":    {answer("HTTP/1.1 200 OK\r\n\r\nok"), "ok", false},
		"exactly what fits":  {answer("HTTP/1.1 200 OK\r\nContent-Length: 4096\r\n\r\n" + long[:4096]), long[:4096], false},
		"a byte more":        {answer("HTTP/1.1 200 OK\r\nContent-Length: 4097\r\n\r\n" + long[:4097]), long[:4096], true},
		"cut":                {answer("HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\nok"), "ok", true},
		"cut between chunks": {answer("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n"), "ok", true},
		"broken chunks":      {answer("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\nxyz\r\n"), "ok", true},
		"endless":            {func(c net.Conn) { readRequest(c); _, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\n\r\n"); flood(c, long) }, long[:4096], true},
		"endless chunks": {func(c net.Conn) {
			readRequest(c)
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
			flood(c, "1\r\na\r\n")
		}, strings.Repeat("a", 4096), true},
		"gzip is not undone": {answer("HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 4\r\n\r\n\x1f\x8b\x08\x00"), "\x1f\x8b\x08\x00", false},
	} {
		t.Run(name, func(t *testing.T) {
			resp, err := local(t).Do(t.Context(), Request{URL: "http://" + scripted(t, test.script), Body: []byte("{}")})
			if err != nil {
				t.Fatal(err)
			}
			if string(resp.Body) != test.body || resp.Truncated != test.truncated || resp.Status/100 != 2 {
				t.Errorf("%d, %d bytes, truncated %v", resp.Status, len(resp.Body), resp.Truncated)
			}
		})
	}
}

func answer(text string) func(net.Conn) {
	return func(c net.Conn) {
		readRequest(c)
		_, _ = io.WriteString(c, text)
	}
}

// A status that came is the answer, though the body ends with the time.
func TestABodyThatDripsEndsWithTheTime(t *testing.T) {
	addr := scripted(t, func(c net.Conn) {
		readRequest(c)
		_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
		drip(c, "1\r\na\r\n")
	})
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	resp, err := local(t).Do(ctx, Request{URL: "http://" + addr})
	if err != nil || resp.Status != 200 || !resp.Truncated || len(resp.Body) == 0 || len(resp.Body) > keptAnswer {
		t.Errorf("%+v, %v", resp, err)
	}
}

func TestWhatCannotBeConnectedToSaysWhy(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	_ = l.Close()
	_, err = local(t).Do(t.Context(), Request{URL: "http://" + addr})
	if kindOf(err) != Connect || !errors.Is(err, syscall.ECONNREFUSED) || err.Error() != addr+" refuses connections" {
		t.Error(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := local(t).Do(ctx, Request{URL: "http://" + addr}); kindOf(err) != Canceled || !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

func TestWhatCannotBeSentIsNotBlamedOnTheEndpoint(t *testing.T) {
	canary := newCanary(t, "127.0.0.1:0")
	client := local(t)
	for name, r := range map[string]Request{
		"a method":         {Method: "P OST"},
		"a header's name":  {Header: http.Header{"A:": {"b"}}},
		"a header's value": {Header: http.Header{"A": {"b\r\nC: d"}}},
	} {
		r.URL = "http://127.0.0.1:" + canary.port
		if _, err := client.Do(t.Context(), r); kindOf(err) != Invalid {
			t.Errorf("%s: %v", name, err)
		}
	}
	canary.unvisited(t)
}

// The next address is tried while the one before says nothing.
func TestAnAddressThatSaysNothingIsPassedBy(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.2:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	good := netip.MustParseAddrPort(l.Addr().String())
	silent := netip.AddrPortFrom(netip.MustParseAddr("127.0.0.3"), good.Port())
	var p policy
	p.dialer.ControlContext = func(ctx context.Context, _, address string, _ syscall.RawConn) error {
		if address == silent.String() {
			<-ctx.Done()
			return ctx.Err()
		}
		return nil
	}
	c, err := p.dial(t.Context(), "sink.example:443", []netip.AddrPort{silent, silent, good})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if c.RemoteAddr().String() != good.String() {
		t.Errorf("connected to %v", c.RemoteAddr())
	}
	if _, err := p.dial(soon(t), "sink.example:443", []netip.AddrPort{silent, silent}); kindOf(err) != Timeout {
		t.Errorf("where none answers: %v", err)
	}
}

package guard

import (
	"bufio"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/eventissuer/eventissuer/internal/webhook"
)

// connectProxy is a CONNECT proxy that asks for a name and password and knows where its names lead.
type connectProxy struct {
	t        testing.TB
	addrs    map[string]string
	mu       sync.Mutex
	asked    []string
	tunnels  sync.WaitGroup
	refusing atomic.Int64 // a status to answer with
}

func (p *connectProxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	p.asked = append(p.asked, r.Method+" "+r.Host)
	p.mu.Unlock()
	if r.Header.Get("Proxy-Authorization") != "Basic bmFtZTpwYXNzd29yZA==" || len(r.Header) != 1 {
		w.Header().Set("X-Echo", r.Header.Get("Proxy-Authorization"))
		w.WriteHeader(http.StatusProxyAuthRequired)
		return
	}
	if status := p.refusing.Load(); status != 0 {
		w.WriteHeader(int(status))
		_, _ = io.WriteString(w, "password")
		return
	}
	to, err := net.Dial("tcp", p.addrs[r.Host])
	if err != nil {
		w.WriteHeader(http.StatusBadGateway)
		return
	}
	client, buf, err := http.NewResponseController(w).Hijack()
	if err != nil {
		p.t.Error(err)
		return
	}
	_, _ = io.WriteString(client, "HTTP/1.1 200 Connection established\r\n\r\n")
	p.tunnels.Go(func() { _, _ = io.Copy(to, buf); _ = to.Close() })
	p.tunnels.Go(func() { _, _ = io.Copy(client, to); _ = client.Close() })
}

func (p *connectProxy) requests() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return strings.Join(p.asked, ", ")
}

func TestEverythingGoesThroughTheProxy(t *testing.T) {
	i := newIdentity(t, tomorrow(), "sink.example", "proxy.example")
	sink := secureServer(t, "127.0.0.1:0", i, nil, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Proxy-Authorization") != "" {
			t.Error("the endpoint was sent the proxy's password")
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, `{"access_token":"abc","token_type":"bearer"}`)
	})
	for scheme, start := range map[string]func(*httptest.Server){
		"http":  (*httptest.Server).Start,
		"https": func(s *httptest.Server) { s.TLS = &tls.Config{Certificates: []tls.Certificate{i.tls}}; s.StartTLS() },
	} {
		t.Run(scheme, func(t *testing.T) {
			p := &connectProxy{t: t, addrs: map[string]string{"sink.example:443": sink.Listener.Addr().String()}}
			server := httptest.NewUnstartedServer(p)
			server.Config.ErrorLog = quiet
			start(server)
			t.Cleanup(func() { server.Close(); p.tunnels.Wait() })
			_, port, _ := net.SplitHostPort(server.Listener.Addr().String())
			// The proxy's address is a refused one, and its name is looked up as the machine does.
			at := &url.URL{Scheme: scheme, Host: "proxy.example:" + port, User: url.UserPassword("name", "password")}
			config := Config{Proxy: at, RootCAs: i.pool(), Resolver: fixed{"proxy.example": {"127.0.0.1"}}}
			g := newGuard(t, config)
			client := newClient(t, g, webhook.Credential{Type: webhook.OAuth2, TokenURL: "https://sink.example/token", ClientID: "id", Secret: "secret"})
			for range 2 {
				if resp, err := client.Do(t.Context(), Request{URL: "https://sink.example/"}); err != nil || resp.Status != 200 {
					t.Fatalf("%+v, %v", resp, err)
				}
			}
			for _, u := range []string{"https://127.0.0.1/", "https://10.0.0.1/", "https://[::1]/", "https://169.254.169.254/", "https://localhost/", "http://127.0.0.1/"} {
				if _, err := client.Do(t.Context(), Request{URL: u}); kindOf(err) != Refused && kindOf(err) != Invalid {
					t.Errorf("%s: %v", u, err)
				}
			}
			if got := p.requests(); got != "CONNECT sink.example:443" {
				t.Errorf("the proxy was asked: %s", got)
			}
			for _, status := range []int64{403, 407, 502, 301, 204} {
				p.refusing.Store(status)
				other := newClient(t, g, webhook.Credential{})
				_, err := other.Do(t.Context(), Request{URL: "https://sink.example/"})
				if kindOf(err) != Proxy || strings.Contains(err.Error(), "password@") || strings.Contains(err.Error(), "bmFt") {
					t.Errorf("%d: %v", status, err)
				}
			}
			p.refusing.Store(0)
			config.Proxy = &url.URL{Scheme: scheme, Host: at.Host, User: url.UserPassword("name", "hunter2")}
			_, err := newClient(t, newGuard(t, config), webhook.Credential{}).Do(t.Context(), Request{URL: "https://sink.example/"})
			if kindOf(err) != Proxy || !strings.Contains(err.Error(), "407") || strings.Contains(err.Error(), "hunter2") {
				t.Errorf("a wrong password: %v", err)
			}
		})
	}
}

func TestAProxyThatMisbehavesEndsAsAnError(t *testing.T) {
	readAsk := func(c net.Conn) { _, _ = http.ReadRequest(bufio.NewReader(c)) }
	for name, test := range map[string]struct {
		script func(net.Conn)
		want   Kind
	}{
		"close":       {func(net.Conn) {}, Proxy},
		"close later": {readAsk, Proxy},
		"garbage":     {func(c net.Conn) { readAsk(c); _, _ = io.WriteString(c, "bmFtZTpodW50ZXIy\r\n\r\n") }, Proxy},
		"endless":     {func(c net.Conn) { readAsk(c); _, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\n"); flood(c, "A: b\r\n") }, Proxy},
		"too much":    {func(c net.Conn) { readAsk(c); _, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\n\r\nmore") }, Proxy},
		"no TLS behind": {func(c net.Conn) {
			readAsk(c)
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\n\r\n")
			_, _ = c.Read(make([]byte, 1))
			_, _ = io.WriteString(c, "HTTP/1.1 400 No\r\n\r\n")
		}, TLS},
		"silence": {func(c net.Conn) { readAsk(c); _, _ = c.Read(make([]byte, 1)) }, Timeout},
		"a drip":  {func(c net.Conn) { readAsk(c); drip(c, "HTTP/1.1 200 OK but not yet") }, Timeout},
	} {
		t.Run(name, func(t *testing.T) {
			g := newGuard(t, Config{Proxy: parsed(t, "http://name:hunter2@"+scripted(t, test.script))})
			ctx := t.Context()
			if test.want == Timeout {
				ctx = soon(t)
			}
			_, err := newClient(t, g, webhook.Credential{}).Do(ctx, Request{URL: "https://sink.example/"})
			if kindOf(err) != test.want || strings.Contains(err.Error(), "hunter2") || strings.Contains(err.Error(), "bmFt") {
				t.Errorf("%v (%v)", err, kindOf(err))
			}
		})
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = l.Close()
	g := newGuard(t, Config{Proxy: parsed(t, "http://name:hunter2@"+l.Addr().String())})
	if _, err := newClient(t, g, webhook.Credential{}).Do(t.Context(), Request{URL: "https://sink.example/"}); kindOf(err) != Proxy || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("nobody there: %v", err)
	}
}

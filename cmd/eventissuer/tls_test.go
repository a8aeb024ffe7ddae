package main_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/eventissuer/eventissuer/internal/testenv"
)

// secureClient trusts whatever it meets: which certificate that is, is looked at by itself.
func secureClient(t *testing.T, http2 bool) *http.Client {
	transport := &http.Transport{
		TLSClientConfig:   &tls.Config{InsecureSkipVerify: true},
		ForceAttemptHTTP2: http2,
	}
	if !http2 {
		transport.TLSNextProto = map[string]func(string, *tls.Conn) http.RoundTripper{}
	}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

// over is the same server by another client.
func (v *server) over(client *http.Client) *server {
	return &server{Program: v.Program, base: v.base, client: client}
}

func TestSessionsOverTLSAndHTTP2DrainResumeAndOutliveTheirCertificate(t *testing.T) {
	dir := t.TempDir()
	cert, key := testenv.Certificate(t, dir)
	h2 := startServerAs(t, "https", secureClient(t, true), embedded(t), "--tls-cert", cert, "--tls-key", key, "--drain-timeout=20s")
	h1 := h2.over(secureClient(t, false))
	define(t, 3, h2)
	for want, v := range map[int]*server{1: h1, 2: h2} {
		resp, err := open(t.Context(), v, url.Values{}, "text/event-stream", "")
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if resp.ProtoMajor != want {
			t.Errorf("a session over %s, want HTTP/%d", resp.Proto, want)
		}
	}

	clients := append(everyKind(20, h2), everyKind(15, h1)...)
	for i, c := range clients {
		if c.query.Has("consumer") {
			c.query.Set("consumer", fmt.Sprintf("c%d", i))
		}
	}
	crowd := gather(t, clients)
	crowd.all(t, "connected", func(c *client) bool { return c.polls() || c.liveOn(0) })
	stalled := stallStream(t, h2)
	p := publish(t, 2, 12, 5*time.Millisecond, strings.Repeat("x", 40<<10), h2)
	p.more(t, 120) // more than the stalled stream's window

	served := leaf(t, h2)
	testenv.Certificate(t, dir)
	eventually(t, "new connections meet the new certificate", func() bool { return !served.Equal(leaf(t, h2)) })
	trusted(t, h2, cert)
	for _, c := range crowd.clients {
		if n := c.count(); n != 1 && !c.polls() {
			t.Errorf("%s connected %d times: the new certificate cut it", c.name, n)
		}
	}
	p.more(t, 20)
	_ = stalled.Body.Close()

	h2.sigterm(t, 20*time.Second)
	crowd.all(t, "cut", func(c *client) bool { return !c.liveOn(0) })
	for _, c := range crowd.clients {
		if !c.polls() && c.told("drain") == 0 {
			t.Errorf("%s was not told of the drain", c.name)
		}
	}
	h2.again(t)
	crowd.all(t, "back", func(c *client) bool { return c.polls() || c.liveOn(0) })
	p.more(t, 20)
	crowd.verify(t, p, h2)
}

// stallStream opens a session that nobody reads, beside others on the same HTTP/2 connection.
func stallStream(t *testing.T, v *server) *http.Response {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	t.Cleanup(stop)
	resp, err := open(ctx, v, url.Values{}, "text/event-stream", "")
	if err != nil {
		t.Fatal(err)
	}
	return resp
}

// leaf is the certificate that a new connection meets.
func leaf(t *testing.T, v *server) *x509.Certificate {
	t.Helper()
	conn, err := tls.Dial("tcp", strings.TrimPrefix(v.base, "https://"), &tls.Config{InsecureSkipVerify: true})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	return conn.ConnectionState().PeerCertificates[0]
}

// trusted wants a client that trusts the certificate in the file, and nothing else, to be served.
func trusted(t *testing.T, v *server, certFile string) {
	t.Helper()
	pem, err := os.ReadFile(certFile)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		t.Fatal("no certificate in the file")
	}
	conn, err := tls.Dial("tcp", strings.TrimPrefix(v.base, "https://"), &tls.Config{RootCAs: roots})
	if err != nil {
		t.Fatalf("with the new certificate trusted: %v", err)
	}
	_ = conn.Close()
}

// count is how many connections the client began.
func (c *client) count() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.connections)
}

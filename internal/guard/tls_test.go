package guard

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/eventissuer/eventissuer/internal/webhook"
)

func TestTLSFailuresSayWhy(t *testing.T) {
	good, other := newIdentity(t, tomorrow(), "127.0.0.1"), newIdentity(t, tomorrow(), "127.0.0.1")
	expired, elsewhere := newIdentity(t, time.Now().Add(-time.Hour), "127.0.0.1"), newIdentity(t, tomorrow(), "elsewhere.example")
	roots := good.pool()
	roots.AddCert(expired.leaf)
	roots.AddCert(elsewhere.leaf)
	g := newGuard(t, Config{AllowLoopback: true, RootCAs: roots})
	ok := func(http.ResponseWriter, *http.Request) {}
	serve := func(i identity, c *tls.Config) string {
		return secureServer(t, "127.0.0.1:0", i, c, ok).Listener.Addr().String()
	}
	for name, test := range map[string]struct {
		addr, reason string
		want         Kind
	}{
		"an unknown authority": {serve(other, nil), "unknown authority", TLS},
		"expired":              {serve(expired, nil), "expired", TLS},
		"for another host":     {serve(elsewhere, nil), "not for this host", TLS},
		"an old version":       {serve(good, &tls.Config{MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}), "protocol version", TLS},
		"a certificate wanted": {serve(good, &tls.Config{ClientAuth: tls.RequireAnyClientCert}), "certificate required", TLS},
		"wanted, by TLS 1.2":   {serve(good, &tls.Config{ClientAuth: tls.RequireAnyClientCert, MaxVersion: tls.VersionTLS12}), "alert", TLS},
		"no TLS":               {plainServer(t, ok).Listener.Addr().String(), "no TLS", TLS},
		"closed":               {scripted(t, func(net.Conn) {}), "closed during", TLS},
		"reset":                {scripted(t, func(c net.Conn) { _, _ = c.Read(make([]byte, 1)); reset(c) }), "closed during", TLS},
		"silence":              {scripted(t, func(c net.Conn) { _, _ = io.Copy(io.Discard, c) }), "too long", Timeout},
	} {
		t.Run(name, func(t *testing.T) {
			ctx := t.Context()
			if test.want == Timeout {
				ctx = soon(t)
			}
			_, err := newClient(t, g, webhook.Credential{}).Do(ctx, Request{URL: "https://" + test.addr, Body: []byte("{}")})
			if test.reason == "certificate required" && kindOf(err) == Reset {
				return // the reset that follows the alert can overtake it
			}
			if kindOf(err) != test.want || !strings.Contains(err.Error(), test.reason) {
				t.Errorf("%v (%v)", err, kindOf(err))
			}
		})
	}
}

func TestHTTP2IsSpokenWhereItIsOfferedAndBounded(t *testing.T) {
	i := newIdentity(t, tomorrow(), "127.0.0.1")
	s := secureServer(t, "127.0.0.1:0", i, nil, func(w http.ResponseWriter, r *http.Request) {
		if r.ProtoMajor != 2 {
			t.Errorf("spoke %s", r.Proto)
		}
		_, _ = io.Copy(io.Discard, r.Body)
		switch r.URL.Path {
		case "/headers": // one frame, of references to one header
			for range 600 {
				w.Header().Add("A", strings.Repeat("a", 100))
			}
		case "/frames":
			for n := range 5000 {
				w.Header().Set(fmt.Sprintf("A-%d", n), strings.Repeat("a", 100))
			}
		case "/body":
			for {
				if _, err := w.Write(make([]byte, 32<<10)); err != nil {
					return
				}
			}
		case "/hints":
			w.Header().Set("Link", strings.Repeat("a", 100))
			for range 10_000 {
				w.WriteHeader(http.StatusEarlyHints)
			}
		case "/abort":
			panic(http.ErrAbortHandler)
		case "/silence":
			<-r.Context().Done()
		case "/redirect":
			http.Redirect(w, r, "https://127.0.0.1/", http.StatusTemporaryRedirect)
		}
	})
	g := newGuard(t, Config{AllowLoopback: true, RootCAs: i.pool()})
	client := newClient(t, g, webhook.Credential{})
	do := func(path string) (*Response, error) {
		ctx := t.Context()
		if path == "/silence" {
			ctx = soon(t)
		}
		return client.Do(ctx, Request{URL: s.URL + path, Body: bytes.Repeat([]byte("a"), 10_000)})
	}
	for range 3 {
		if resp, err := do("/"); err != nil || resp.Status != 200 || resp.Truncated {
			t.Errorf("%+v, %v", resp, err)
		}
	}
	if resp, err := do("/redirect"); err != nil || resp.Status != 307 {
		t.Errorf("%+v, %v", resp, err)
	}
	if resp, err := do("/body"); err != nil || resp.Status != 200 || !resp.Truncated || len(resp.Body) != keptAnswer {
		t.Errorf("%+v, %v", resp, err)
	}
	for path, want := range map[string]Kind{"/headers": Headers, "/frames": Protocol, "/hints": Headers, "/abort": Reset, "/silence": Timeout} {
		if _, err := do(path); kindOf(err) != want {
			t.Errorf("%s: %v (%v)", path, err, kindOf(err))
		}
	}
	client.Close()
	if n := len(g.open); n != 0 {
		t.Errorf("%d connections are left by a client that was closed", n)
	}
}

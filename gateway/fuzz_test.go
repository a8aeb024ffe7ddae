package gateway

import (
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"testing"

	"github.com/eventissuer/eventissuer/session"
)

// Whatever forwarding headers say, an address that no trusted proxy told is not taken for the client's.
func FuzzForwarded(f *testing.F) {
	f.Add("for=192.0.2.1;proto=https;host=example.org, for=\"[2001:db8::1]:4711\"", "192.0.2.1, 10.0.0.1", "10.0.0.1:80")
	f.Add("for=unknown", "", "192.0.2.7:1")
	f.Add("for=_hidden, for=", ",,,", "[::1]:9")
	f.Add("", "fe80::1%eth0, ::ffff:192.0.2.1", "10.1.2.3:5")
	f.Add("host=\"a/b\";proto=javascript", "x", "nonsense")
	trusted := netip.MustParsePrefix("10.0.0.0/8")
	g := &Gateway{config: Config{TrustedProxies: []netip.Prefix{trusted}}}
	f.Fuzz(func(t *testing.T, forwarded, xff, peer string) {
		r := httptest.NewRequest(http.MethodGet, "http://own.example/", nil)
		r.RemoteAddr = peer
		r.Header["Forwarded"], r.Header["X-Forwarded-For"] = []string{forwarded}, []string{xff}
		if forwarded == "" {
			delete(r.Header, "Forwarded")
		}
		own, ok := parseHost(peer)
		got := g.clientAddr(r)
		if !ok && got.IsValid() {
			t.Errorf("from %q the client is %s", peer, got)
		}
		if ok && !trusted.Contains(own) && got != own {
			t.Errorf("%s is not trusted, and has the client be %s", own, got)
		}
		base := g.baseURL(r)
		u, err := url.Parse(base)
		if err != nil || u.Scheme != "http" && u.Scheme != "https" {
			if ok && trusted.Contains(own) {
				t.Skip("a trusted proxy said so")
			}
			t.Errorf("links begin with %q", base)
		}
	})
}

// What an address asks for is read within its bounds, or is a problem of the client's.
func FuzzReadQuery(f *testing.F) {
	for _, q := range []string{
		"type=a&type=b*&subject=/x", "from=oldest&limit=10&wait=30s", "from=2026-11-21T08:00:00Z", "conflate=2s&from=snapshot", "limit=-1", "limit=1e9",
		"heartbeat=1ms&flush=-1s", "wait=1000000h", "from=0000-01-01T00:00:00Z", "from=9999-12-31T23:59:59.999999999Z", "filter=((", "after=%00", "autosave=maybe",
		"event=type&overflow=snapshot", "a", "=", "limit=1&limit=2", "conflate=9223372036854775807ns",
	} {
		f.Add(q)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		values, err := url.ParseQuery(raw)
		if err != nil {
			return
		}
		var q readQuery
		err = q.fromURL(values)
		var req session.Request
		for _, step := range []func() error{
			func() error { _, err := q.compile(); return err },
			func() (err error) { req.From, err = q.from(); return err },
			func() error { return q.pace(&req) },
			func() error { return q.picture(&req) },
			func() error { return q.page(&req, true) },
		} {
			if err == nil {
				err = step()
			}
		}
		if err != nil {
			if p := asProblem(err); p.kind.status/100 != 4 {
				t.Errorf("%q is answered %d: %s", raw, p.kind.status, p.detail)
			}
			return
		}
		if req.Limit < 0 || req.Limit > 1000 || req.Wait < 0 || req.Heartbeat < 0 || req.Conflate < 0 {
			t.Errorf("%q asks for %+v", raw, req)
		}
	})
}

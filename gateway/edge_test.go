package gateway

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/eventissuer/eventissuer/internal/catalog"
	"github.com/eventissuer/eventissuer/internal/table"
)

func TestEveryAnswerCarriesARequestID(t *testing.T) {
	h := newHarness(t)
	for _, tc := range []struct{ given, want string }{
		{"", ""},
		{"abc-DEF_123.4", "abc-DEF_123.4"},
		{"short", ""},
		{strings.Repeat("x", 65), ""},
		{"evil\"}{injected", ""},
	} {
		for _, path := range []string{"/healthz", "/v1/nothing"} {
			a := h.send("GET", path, "", "X-Request-Id: "+tc.given)
			got := a.header.Get("X-Request-Id")
			if tc.want != "" && got != tc.want || tc.want == "" && (got == tc.given || !acceptedRequestID(got)) {
				t.Errorf("%s with id %q answered id %q", path, tc.given, got)
			}
		}
	}
}

func TestPathsAndMethodsThatAreNotThereAreProblems(t *testing.T) {
	h := newHarness(t)
	for _, tc := range []struct {
		method, path string
		status       int
		kind, allow  string
	}{
		{"GET", "/v1/nothing", 404, "not-found", ""},
		{"GET", "/v2", 404, "not-found", ""},
		{"GET", "//v1/streams", 404, "not-found", ""},
		{"DELETE", "/v1/events", 405, "method-not-allowed", "GET, HEAD, OPTIONS, POST"},
		{"PUT", "/v1/streams", 405, "method-not-allowed", "GET, HEAD, OPTIONS, POST"},
		{"BREW", "/v1/streams/x", 405, "method-not-allowed", "DELETE, GET, HEAD, OPTIONS, PATCH"},
		{"GET", "/v1/admin/drain", 405, "method-not-allowed", "DELETE, OPTIONS, POST"},
	} {
		a := h.send(tc.method, tc.path, "")
		p := a.problem(t)
		if a.status != tc.status || p.Type != "/problems/"+tc.kind || a.header.Get("Allow") != tc.allow {
			t.Errorf("%s %s: %d %s, Allow %q", tc.method, tc.path, a.status, p.Type, a.header.Get("Allow"))
		}
	}
}

func TestOptionsAndHeadAnswerWithoutBody(t *testing.T) {
	h := newHarness(t)
	a := h.must(h.send("OPTIONS", "/v1/streams", ""), http.StatusNoContent)
	if got := a.header.Get("Allow"); got != "GET, HEAD, OPTIONS, POST" {
		t.Errorf("Allow is %q", got)
	}
	a = h.must(h.send("HEAD", "/v1/streams", ""), http.StatusOK)
	if len(a.body) != 0 || a.header.Get("Content-Length") == "" {
		t.Errorf("HEAD gave %d bytes, and Content-Length %q", len(a.body), a.header.Get("Content-Length"))
	}
}

func TestEveryKindOfProblemIsDescribedAtItsType(t *testing.T) {
	h := newHarness(t)
	all := string(h.must(h.send("GET", "/problems", ""), http.StatusOK).body)
	seen := map[string]bool{}
	for _, k := range kinds() {
		if seen[k.name] {
			t.Errorf("%s is there twice", k.name)
		}
		seen[k.name] = true
		if k.title == "" || k.remedy == "" || http.StatusText(k.status) == "" {
			t.Errorf("%s is not complete", k.name)
		}
		page := string(h.must(h.send("GET", "/problems/"+k.name, ""), http.StatusOK).body)
		if !strings.Contains(page, k.remedy) || !strings.Contains(all, k.remedy) {
			t.Errorf("%s is not described", k.name)
		}
	}
	if p := h.must(h.send("GET", "/problems/none", ""), http.StatusNotFound).problem(t); p.Type != "/problems/not-found" {
		t.Error(p.Type)
	}
}

func TestPanicIsLoggedCountedAndEndsOnlyItsRequest(t *testing.T) {
	var logged bytes.Buffer
	h := newHarness(t, func(_ *Config, d *Deps) {
		d.Logger = slog.New(slog.NewTextHandler(&logged, nil))
		d.Page = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/late" {
				_, _ = w.Write([]byte("half"))
			}
			panic("a mistake of ours")
		})
	})
	p := h.must(h.send("GET", "/early?secret=1", ""), http.StatusInternalServerError).problem(t)
	if p.Type != "/problems/internal" || strings.Contains(p.Detail, "mistake of ours") {
		t.Errorf("the answer is %+v", p)
	}
	r, err := http.NewRequestWithContext(t.Context(), "GET", h.server.URL+"/late", nil)
	if err != nil {
		t.Fatal(err)
	}
	if res, err := http.DefaultTransport.RoundTrip(r); err == nil {
		body, err := io.ReadAll(res.Body)
		_ = res.Body.Close()
		if err == nil {
			t.Errorf("half an answer, %q, looks whole", body)
		}
	}
	h.must(h.send("GET", "/healthz", ""), http.StatusOK)
	if got := testutil.ToFloat64(h.edge.metrics.panics); got != 2 {
		t.Errorf("%v panics are counted instead of 2", got)
	}
	for _, want := range []string{"a mistake of ours", "edge_test.go", p.RequestID} {
		if !strings.Contains(logged.String(), want) {
			t.Errorf("the log lacks %q", want)
		}
	}
	if strings.Contains(logged.String(), "secret") {
		t.Error("the log has a query string")
	}
}

func TestAClientThatGoesAwayIsNoErrorOfTheServers(t *testing.T) {
	var logged bytes.Buffer
	began := make(chan struct{})
	h := newHarness(t, func(_ *Config, d *Deps) {
		d.Logger = slog.New(slog.NewTextHandler(&logged, nil))
		d.Page = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			close(began)
			<-r.Context().Done()
			writeProblem(w, r, asProblem(fmt.Errorf("read something: %w", r.Context().Err())))
		})
	})
	ctx, leave := context.WithCancel(t.Context())
	r, err := http.NewRequestWithContext(ctx, "GET", h.server.URL+"/", nil)
	if err != nil {
		t.Fatal(err)
	}
	go func() { <-began; leave() }()
	if res, err := http.DefaultTransport.RoundTrip(r); err == nil {
		_ = res.Body.Close()
		t.Errorf("status %d", res.StatusCode)
	}
	for deadline := time.Now().Add(20 * time.Second); testutil.ToFloat64(h.edge.metrics.requests.WithLabelValues("page", "GET", "gone")) != 1; <-time.After(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("it is not counted as gone")
		}
	}
	if got := testutil.ToFloat64(h.edge.metrics.requests.WithLabelValues("page", "GET", "500")); got != 0 || strings.Contains(logged.String(), "request failed") {
		t.Errorf("%v requests are counted as failed; logged: %s", got, &logged)
	}
}

func TestAbortedHandlerIsNoPanic(t *testing.T) {
	h := newHarness(t, func(_ *Config, d *Deps) {
		d.Page = http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
	})
	r, err := http.NewRequestWithContext(t.Context(), "GET", h.server.URL+"/", nil)
	if err != nil {
		t.Fatal(err)
	}
	if res, err := http.DefaultTransport.RoundTrip(r); err == nil {
		_ = res.Body.Close()
		t.Errorf("the connection was not cut: status %d", res.StatusCode)
	}
	if got := testutil.ToFloat64(h.edge.metrics.panics); got != 0 {
		t.Errorf("%v panics are counted", got)
	}
}

func TestRouteLabelsAreTemplates(t *testing.T) {
	h := newHarness(t)
	h.send("GET", "/v1/streams/one?x=1", "")
	h.send("GET", "/v1/streams/two", "")
	h.send("GET", "/made/up/path", "")
	for _, want := range []string{
		`eventissuer_http_requests_total{code="404",method="GET",route="/v1/streams/{stream}"} 2`,
		`eventissuer_http_requests_total{code="404",method="GET",route="unmatched"} 1`,
	} {
		// A client may have the answer a moment before it is counted.
		for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(5 * time.Millisecond) {
			metrics := string(h.must(h.send("GET", "/metrics", ""), http.StatusOK).body)
			if strings.Contains(metrics, want) {
				break
			}
			if time.Now().After(deadline) {
				t.Fatalf("the metrics lack %s", want)
			}
		}
	}
}

func TestOriginsAreDecidedByOneList(t *testing.T) {
	h := newHarness(t, func(c *Config, _ *Deps) {
		c.Origins = []string{"https://app.example"}
		c.PublicURL = &url.URL{Scheme: "https", Host: "events.example"}
	})
	for _, tc := range []struct {
		origin       string
		mayRead      bool // by CORS
		mayWrite     bool
		mayWebSocket bool
	}{
		{"", false, true, true},
		{h.server.URL, false, true, true},             // its own: the browser needs no header
		{"https://events.example", false, true, true}, // its own, by its public address
		{"https://app.example", true, true, true},
		{"https://evil.example", false, false, false},
		{"http://app.example", false, false, false},
		{"null", false, false, false},
	} {
		var headers []string
		r := httptest.NewRequest("GET", h.server.URL+"/", nil)
		if tc.origin != "" {
			headers = []string{"Origin: " + tc.origin}
			r.Header.Set("Origin", tc.origin)
		}
		read := h.must(h.send("GET", "/v1/streams", "", headers...), http.StatusOK)
		if got := read.header.Get("Access-Control-Allow-Origin"); (got != "") != tc.mayRead || got != "" && got != tc.origin {
			t.Errorf("%s may read as %q", tc.origin, got)
		}
		write := h.sendJSON("POST", "/v1/streams", `{}`, headers...)
		if (write.status != http.StatusForbidden) != tc.mayWrite {
			t.Errorf("%s: writing gives %d", tc.origin, write.status)
		}
		if !tc.mayWrite && write.problem(t).Type != "/problems/origin-not-allowed" {
			t.Errorf("%s: writing gives %s", tc.origin, write.body)
		}
		if got := h.edge.originAllowed(r); got != tc.mayWebSocket {
			t.Errorf("%s may open a WebSocket: %v", tc.origin, got)
		}
		ask := append(headers, "Access-Control-Request-Method: POST", "Access-Control-Request-Headers: ce-id,content-type")
		preflight := h.must(h.send("OPTIONS", "/v1/events", "", ask...), http.StatusNoContent)
		allowed := preflight.header.Get("Access-Control-Allow-Headers") == "ce-id,content-type"
		if allowed != (tc.origin != "" && tc.mayWrite) {
			t.Errorf("%s: a preflight gives %v", tc.origin, preflight.header)
		}
	}
}

func TestPageWhoseNameWasPointedAtLoopbackMayNotWrite(t *testing.T) {
	h := newHarness(t, func(c *Config, _ *Deps) { c.Loopback = true })
	for _, tc := range []struct {
		host    string
		allowed bool
	}{
		{"localhost:8080", true},
		{"127.0.0.1:8080", true},
		{"[::1]:8080", true},
		{"evil.example:8080", false},
	} {
		a := h.sendJSON("POST", "/v1/streams", `{}`, "Host: "+tc.host, "Origin: http://"+tc.host)
		if (a.status != http.StatusForbidden) != tc.allowed {
			t.Errorf("a page of %s gets %d", tc.host, a.status)
		}
		r := httptest.NewRequest("GET", "http://"+tc.host+"/v1/events", nil)
		r.Header.Set("Origin", "http://"+tc.host)
		if got := h.edge.originAllowed(r); got != tc.allowed {
			t.Errorf("a page of %s may open a WebSocket: %v", tc.host, got)
		}
	}
}

func TestNothingIsLookedUpBeforeTheCatalogIsLoaded(t *testing.T) {
	h := newHarness(t, func(_ *Config, d *Deps) {
		unloaded, err := table.New(table.Config{Log: d.Log, Topic: "_eventissuer.elsewhere"}) // it does not run
		if err != nil {
			t.Fatal(err)
		}
		if d.Catalog, err = catalog.New(catalog.Config{Table: unloaded, Topics: d.Log}); err != nil {
			t.Fatal(err)
		}
	})
	for _, a := range []answer{
		h.send("POST", "/v1/events", trainEvent("1", ""), structured),
		h.send("GET", "/v1/streams/trains", ""),
		h.send("GET", "/v1/event-types", ""),
	} {
		if p := h.must(a, http.StatusServiceUnavailable).problem(t); p.Type != "/problems/not-ready" || a.header.Get("Retry-After") == "" {
			t.Errorf("%s", a.body)
		}
	}
	h.must(h.send("GET", "/healthz", ""), http.StatusOK)
}

func TestClientAddressComesFromTrustedProxiesOnly(t *testing.T) {
	g := &Gateway{config: Config{TrustedProxies: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("fd00::/8")}}}
	for _, tc := range []struct {
		peer   string
		header string
		value  string
		want   string
	}{
		{"192.0.2.1:99", "", "", "192.0.2.1"},
		{"192.0.2.1:99", "X-Forwarded-For", "198.51.100.7", "192.0.2.1"},
		{"10.1.1.1:99", "X-Forwarded-For", "198.51.100.7", "198.51.100.7"},
		{"10.1.1.1:99", "X-Forwarded-For", "1.1.1.1, 198.51.100.7, 10.2.2.2", "198.51.100.7"},
		{"10.1.1.1:99", "X-Forwarded-For", "10.3.3.3, 10.2.2.2", "10.3.3.3"},
		{"10.1.1.1:99", "X-Forwarded-For", "198.51.100.7, junk", "10.1.1.1"},
		{"10.1.1.1:99", "X-Forwarded-For", "", "10.1.1.1"},
		{"[fd00::1]:99", "X-Forwarded-For", "2001:db8::7", "2001:db8::7"},
		{"10.1.1.1:99", "Forwarded", `for=1.1.1.1, for="[2001:db8::7]:4711";proto=https`, "2001:db8::7"},
		{"10.1.1.1:99", "Forwarded", `for=198.51.100.7, for=_hidden`, "10.1.1.1"},
		{"[::ffff:10.1.1.1]:99", "X-Forwarded-For", "198.51.100.7", "198.51.100.7"},
		{"@", "X-Forwarded-For", "198.51.100.7", "invalid IP"},
	} {
		r := httptest.NewRequest("GET", "/", nil)
		r.RemoteAddr = tc.peer
		r.Header.Set(tc.header, tc.value)
		if got := g.clientAddr(r).String(); got != tc.want {
			t.Errorf("peer %s with %s: %s is %s, not %s", tc.peer, tc.header, tc.value, got, tc.want)
		}
	}
}

func TestLinksBeginWithTheAddressThatTheClientUses(t *testing.T) {
	public := &url.URL{Scheme: "https", Host: "events.example", Path: "/base/"}
	trusted := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}
	for _, tc := range []struct {
		config  Config
		peer    string
		headers map[string]string
		want    string
	}{
		{Config{}, "192.0.2.1:1", nil, "http://server.example"},
		{Config{PublicURL: public}, "192.0.2.1:1", nil, "https://events.example/base"},
		{Config{TrustedProxies: trusted}, "192.0.2.1:1", map[string]string{"X-Forwarded-Proto": "https", "X-Forwarded-Host": "evil.example"}, "http://server.example"},
		{Config{TrustedProxies: trusted}, "10.0.0.1:1", map[string]string{"X-Forwarded-Proto": "https", "X-Forwarded-Host": "front.example"}, "https://front.example"},
		{Config{TrustedProxies: trusted}, "10.0.0.1:1", map[string]string{"X-Forwarded-Host": "a/b?c"}, "http://server.example"},
		{Config{TrustedProxies: trusted}, "10.0.0.1:1", map[string]string{"Forwarded": "for=1.1.1.1;proto=https;host=front.example, for=10.2.2.2"}, "https://front.example"},
	} {
		r := httptest.NewRequest("GET", "http://server.example/", nil)
		r.RemoteAddr = tc.peer
		for name, value := range tc.headers {
			r.Header.Set(name, value)
		}
		if got := (&Gateway{config: tc.config}).baseURL(r); got != tc.want {
			t.Errorf("%v from %s: %s, not %s", tc.headers, tc.peer, got, tc.want)
		}
	}
}

func TestReadinessTellsItsReasons(t *testing.T) {
	ready := false
	h := newHarness(t, func(_ *Config, d *Deps) {
		d.Ready = func() []Check { return []Check{{Name: "catalog", Ready: ready, Reason: "being loaded"}} }
	})
	h.must(h.send("GET", "/healthz", ""), http.StatusOK)
	a := h.must(h.send("GET", "/readyz", ""), http.StatusServiceUnavailable)
	if !strings.Contains(string(a.body), "being loaded") {
		t.Errorf("no reason: %s", a.body)
	}
	ready = true
	h.must(h.send("GET", "/readyz", ""), http.StatusOK)
}

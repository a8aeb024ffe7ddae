package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/eventissuer/eventissuer/loadtest"
)

// echo is a server that streams what is posted; it takes the definitions that loadtest makes too.
func echo(t *testing.T) *httptest.Server {
	t.Helper()
	var (
		mu   sync.Mutex
		subs = map[chan string]bool{}
	)
	mux := http.NewServeMux()
	defined := func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusConflict) } // it is there already
	mux.HandleFunc("POST /v1/streams", defined)
	mux.HandleFunc("POST /v1/event-types", defined)
	mux.HandleFunc("GET /v1/event-types/{type}", func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, `{"type":"`+r.PathValue("type")+`","stream":"lt"}`)
	})
	mux.HandleFunc("POST /v1/events", func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		mu.Lock()
		defer mu.Unlock()
		for s := range subs {
			s <- string(body)
		}
	})
	mux.HandleFunc("GET /v1/streams/lt/events", func(w http.ResponseWriter, r *http.Request) {
		c := make(chan string, 1000)
		mu.Lock()
		subs[c] = true
		mu.Unlock()
		defer func() { mu.Lock(); delete(subs, c); mu.Unlock() }()
		flush := http.NewResponseController(w).Flush
		_ = flush()
		for {
			select {
			case e := <-c:
				_, _ = io.WriteString(w, "data: "+e+"\n\n")
				_ = flush()
			case <-r.Context().Done():
				return
			}
		}
	})
	s := httptest.NewServer(mux)
	t.Cleanup(func() {
		http.DefaultClient.CloseIdleConnections()
		s.Close()
	})
	return s
}

func TestRunOfAStreamByNameIsReportedAsJSON(t *testing.T) {
	s := echo(t)
	var out, errs bytes.Buffer
	code := run(t.Context(), strings.Fields("sse --server "+s.URL+" --stream lt -n 3 --rate 50 --settle 10ms --warmup 100ms -d 300ms --linger 1s --json"), &out, &errs)
	var r loadtest.Report
	if err := json.Unmarshal(out.Bytes(), &r); err != nil || code != 0 {
		t.Fatalf("exit code %d, %v: %s%s", code, err, &out, &errs)
	}
	if r.Delivered.Events != 3*r.Published.Events || r.Published.Events < 10 || r.Latency.P50 <= 0 || r.Seconds < 0.3 {
		t.Errorf("%s", &out)
	}
}

func TestInterruptedRunPrintsTheReportSoFar(t *testing.T) {
	s := echo(t)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	serve, published := s.Config.Handler, atomic.Int64{}
	s.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if serve.ServeHTTP(w, r); r.Method == http.MethodPost && published.Add(1) == 20 {
			stop() // in the midst of it
		}
	})
	var out, errs bytes.Buffer
	code := run(ctx, strings.Fields("sse --server "+s.URL+" --stream lt -n 2 --rate 50 --settle 1ms --warmup 1ms -d 1h --linger 1s"), &out, &errs)
	if code != 130 || !strings.Contains(out.String(), "INTERRUPTED") || !strings.Contains(out.String(), "lost 0") {
		t.Errorf("exit code %d: %s%s", code, &out, &errs)
	}
}

func TestWrongUsageIsTold(t *testing.T) {
	for args, want := range map[string]int{
		"":                              2,
		"sse --client telepathy":        2,
		"sse":                           2,
		"sse --url http://x -n 0":       2,
		"storm --url http://x -n -1":    2,
		"publish":                       2,
		"webhook -n 0":                  2,
		"webhook --backlog":             2,
		"webhook --lanes 2":             2,
		"webhook --server ftp://x":      1,
		"sse --url ftp://x --rate 0":    1,
		"sse --url http://x -H nocolon": 2,
	} {
		var out, errs bytes.Buffer
		if code := run(t.Context(), strings.Fields(args), &out, &errs); code != want || errs.Len() == 0 {
			t.Errorf("%q: exit code %d, want %d; %s", args, code, want, &errs)
		}
	}
	var version bytes.Buffer
	if code := run(t.Context(), []string{"--version"}, &version, &version); code != 0 || !strings.HasPrefix(version.String(), "loadtest ") {
		t.Errorf("--version: exit code %d, %s", code, &version)
	}
	var out, errs bytes.Buffer
	if code := run(t.Context(), []string{"storm", "--help"}, &out, &errs); code != 0 || !strings.Contains(out.String(), "--rounds") {
		t.Errorf("help: exit code %d, %s", code, &out)
	}
}

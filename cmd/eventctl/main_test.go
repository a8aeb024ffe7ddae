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
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m)
}

// outcome is what one call of the program left behind.
type outcome struct {
	code     int
	out, err string
}

// lockedBuffer can be looked at while the program writes.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
	// grown, if not nil, gets a token with each write
	grown chan struct{}
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.grown != nil {
		select {
		case l.grown <- struct{}{}:
		default:
		}
	}
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func eventctl(ctx context.Context, stdin string, args ...string) outcome {
	var out, err lockedBuffer
	c := &console{in: strings.NewReader(stdin), out: &out, err: &err}
	code := run(ctx, c, args)
	return outcome{code, out.String(), err.String()}
}

// record is a request that the fake server got.
type record struct {
	method, uri, contentType, lastEventID string
	body                                  []byte
}

// fake is a server that notes requests and answers as it is told.
type fake struct {
	*httptest.Server
	mu   sync.Mutex
	got  []record
	next func(n int, w http.ResponseWriter, r *http.Request, body []byte) // n counts requests from 0
}

func newFake(t *testing.T, next func(n int, w http.ResponseWriter, r *http.Request, body []byte)) *fake {
	t.Helper()
	f := &fake{next: next}
	f.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		f.mu.Lock()
		n := len(f.got)
		f.got = append(f.got, record{r.Method, r.URL.RequestURI(), r.Header.Get("Content-Type"), r.Header.Get("Last-Event-ID"), body})
		f.mu.Unlock()
		f.next(n, w, r, body)
	}))
	t.Cleanup(func() {
		http.DefaultTransport.(*http.Transport).CloseIdleConnections()
		f.Close()
	})
	return f
}

func (f *fake) requests() []record {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]record{}, f.got...)
}

func writeAs(w http.ResponseWriter, contentType string, status int, body any) {
	w.Header().Set("Content-Type", contentType)
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body)
}

func unknownStream(w http.ResponseWriter) {
	writeAs(w, "application/problem+json", 404, map[string]any{
		"type": "/problems/unknown-stream", "title": "There is no such stream", "status": 404, "detail": `there is no stream "x"`, "requestId": "r-1",
	})
}

func TestWrongUsageIsToldAndHasItsOwnExitCode(t *testing.T) {
	for _, args := range [][]string{
		{"no-such-command"},
		{"tail"},
		{"publish", "--data", "{}"},
		{"publish", "--type", "t", "file"},
		{"consumers", "reset", "s", "c"},
		{"--server", "nowhere", "streams", "list"},
		{"--header", "no colon", "streams", "list"},
		{"streams", "delete", "s"}, // nobody to ask
		{"replay", "-", "--from", "yesterday"},
	} {
		if o := eventctl(t.Context(), "", args...); o.code != exitUsage || o.err == "" {
			t.Errorf("%v: exit code %d, %q", args, o.code, o.err)
		}
	}
}

func TestHelpShowsExamplesAndExitCodes(t *testing.T) {
	for _, args := range [][]string{{"--help"}, {"tail", "--help"}, {"publish", "--help"}, {"replay", "--help"}, {"subscriptions", "create", "--help"}, {"subscriptions", "tail", "--help"}, {"listen", "--help"}} {
		o := eventctl(t.Context(), "", args...)
		if o.code != exitDone || !strings.Contains(o.out, "eventctl "+strings.TrimPrefix(args[0], "--help")) {
			t.Errorf("%v: exit code %d, %q", args, o.code, o.out)
		}
	}
}

func TestVersionIsToldEitherWay(t *testing.T) {
	for _, arg := range []string{"version", "--version"} {
		if o := eventctl(t.Context(), "", arg); o.code != exitDone || !strings.HasPrefix(o.out, "eventctl ") || strings.TrimSpace(o.out) == "eventctl" {
			t.Errorf("%s: exit code %d, %q", arg, o.code, o.out)
		}
	}
}

func TestAbsentServerIsToldWithWhatToDo(t *testing.T) {
	f := newFake(t, nil)
	f.Close()
	o := eventctl(t.Context(), "", "--server", f.URL, "streams", "list")
	if o.code != exitFailed || !strings.Contains(o.err, "EVENTCTL_SERVER") {
		t.Errorf("exit code %d, %q", o.code, o.err)
	}
}

func TestProblemIsToldWithWhatToDo(t *testing.T) {
	f := newFake(t, func(_ int, w http.ResponseWriter, _ *http.Request, _ []byte) { unknownStream(w) })
	o := eventctl(t.Context(), "", "--server", f.URL, "streams", "show", "x")
	if o.code != exitRefused {
		t.Errorf("exit code %d, want %d", o.code, exitRefused)
	}
	for _, want := range []string{"There is no such stream (404)", `there is no stream "x"`, "eventctl streams create", "request r-1"} {
		if !strings.Contains(o.err, want) {
			t.Errorf("%q lacks %q", o.err, want)
		}
	}
}

func TestAnswerOfSomethingElseIsToldAsSuch(t *testing.T) {
	f := newFake(t, func(_ int, w http.ResponseWriter, _ *http.Request, _ []byte) {
		http.Error(w, "<html>", http.StatusBadGateway)
	})
	o := eventctl(t.Context(), "", "--server", f.URL, "streams", "show", "x")
	if o.code != exitFailed || !strings.Contains(o.err, "not an answer of an Event Issuer") {
		t.Errorf("exit code %d, %q", o.code, o.err)
	}
}

func TestListsAreReadToTheirLastPage(t *testing.T) {
	f := newFake(t, func(n int, w http.ResponseWriter, _ *http.Request, _ []byte) {
		page := map[string]any{"items": []any{map[string]any{"name": "a", "partitions": 3}}, "next": "p 2"}
		if n%2 == 1 {
			page = map[string]any{"items": []any{map[string]any{"name": "b", "partitions": 1, "description": "B", "state": map[string]any{"window": "1h"}}}}
		}
		writeAs(w, "application/json", 200, page)
	})
	o := eventctl(t.Context(), "", "--server", f.URL, "streams", "list")
	want := "NAME  PARTITIONS  RETENTION  STATE  TOPIC  DESCRIPTION\na     3           -          -      -      -\nb     1           -          1h     -      B\n"
	if o.code != exitDone || o.out != want {
		t.Errorf("exit code %d:\n%s", o.code, o.out)
	}
	o = eventctl(t.Context(), "", "--server", f.URL, "streams", "list", "--json")
	if lines := strings.Split(strings.TrimSpace(o.out), "\n"); len(lines) != 2 || !json.Valid([]byte(lines[1])) {
		t.Errorf("as JSON: %q", o.out)
	}
	if uri := f.requests()[1].uri; uri != "/v1/streams?limit=1000&next=p+2" {
		t.Errorf("asked for %s", uri)
	}
}

func TestDefinitionsAreSentAsTheServerTakesThem(t *testing.T) {
	f := newFake(t, func(_ int, w http.ResponseWriter, r *http.Request, body []byte) {
		switch r.Method {
		case http.MethodDelete:
			w.WriteHeader(http.StatusNoContent)
		case http.MethodGet:
			writeAs(w, "application/json", 200, map[string]string{})
		default:
			w.WriteHeader(http.StatusCreated)
			_, _ = w.Write(body)
		}
	})
	for _, c := range []struct {
		args                []string
		method, uri, member string
	}{
		{[]string{"streams", "create", "s", "--partitions", "3"}, "POST", "/v1/streams", `{"name":"s","partitions":3}`},
		{[]string{"streams", "create", "s", "--state"}, "POST", "/v1/streams", `{"name":"s","state":{}}`},
		{[]string{"streams", "create", "s", "--state-window", "forever"}, "POST", "/v1/streams", `{"name":"s","state":{"window":"forever"}}`},
		{[]string{"streams", "create", "s", "--state-max-keys", "0"}, "POST", "/v1/streams", `{"name":"s","state":{"maxKeys":0}}`}, // which is the server's to refuse
		{
			[]string{"streams", "create", "s", "--state", "--state-window", "2h", "--state-max-keys", "5", "--state-max-bytes", "1GiB"},
			"POST", "/v1/streams", `{"name":"s","state":{"maxBytes":"1GiB","maxKeys":5,"window":"2h"}}`,
		},
		{[]string{"streams", "delete", "s", "--yes"}, "DELETE", "/v1/streams/s", ""},
		{[]string{"streams", "delete", "s", "--yes", "--force"}, "DELETE", "/v1/streams/s?force=true", ""},
		{[]string{"types", "register", "app.*", "--stream", "s", "--key-attribute", "source"}, "POST", "/v1/event-types", `{"keyAttribute":"source","stream":"s","type":"app.*"}`},
		{[]string{"types", "register", "a/b", "--stream", "s", "--replace"}, "PUT", "/v1/event-types/a%2Fb", `{"stream":"s","type":"a/b"}`},
		{[]string{"types", "delete", "app.*", "-y"}, "DELETE", "/v1/event-types/app.%2A", ""},
		{[]string{"consumers", "show", "s", "c"}, "GET", "/v1/streams/s/consumers/c", ""},
		{[]string{"consumers", "save", "s", "c", "--cursor", "xyz"}, "PUT", "/v1/streams/s/consumers/c", `{"cursor":"xyz"}`},
		{[]string{"consumers", "reset", "s", "c", "--from", "oldest"}, "PUT", "/v1/streams/s/consumers/c", `{"from":"oldest","reset":true}`},
		{[]string{"consumers", "delete", "s", "c", "--yes"}, "DELETE", "/v1/streams/s/consumers/c", ""},
	} {
		o := eventctl(t.Context(), "", append([]string{"--server", f.URL}, c.args...)...)
		all := f.requests()
		got := all[len(all)-1]
		uri := strings.ReplaceAll(got.uri, "*", "%2A")
		if o.code != exitDone || got.method != c.method || uri != c.uri || string(got.body) != c.member {
			t.Errorf("%v: exit code %d, %s %s %s %s", c.args, o.code, got.method, got.uri, got.body, o.err)
		}
	}
}

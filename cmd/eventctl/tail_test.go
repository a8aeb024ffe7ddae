package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func recorder() *httptest.ResponseRecorder { return httptest.NewRecorder() }

func readAll(r io.Reader) []byte {
	b, _ := io.ReadAll(r)
	return b
}

// saying answers as an event stream whose whole text is given, and leaves the connection open until the client goes
// if hold is set.
func saying(w http.ResponseWriter, r *http.Request, text string, hold bool) {
	w.Header().Set("Content-Type", "text/event-stream; charset=utf-8")
	_, _ = io.WriteString(w, text)
	_ = http.NewResponseController(w).Flush()
	if hold {
		<-r.Context().Done()
	}
}

func block(cursor string, n int) string {
	return fmt.Sprintf("id: %s\ndata: {\"id\":\"%d\"}\n\n", cursor, n)
}

func TestTailGoesOnAfterAnyEndOfTheConnection(t *testing.T) {
	f := newFake(t, func(n int, w http.ResponseWriter, r *http.Request, _ []byte) {
		switch n {
		case 0: // a clean end
			saying(w, r, "retry: 1\nid: start\n\n"+block("c1", 1)+"id: c1b\n\n", false)
		case 1: // cut off within a cursor
			saying(w, r, block("c2", 2)+"id: c", false)
		case 2: // cut off within an event, without an end of the chunks
			saying(w, r, block("c3", 3)+"id: c4\ndata: {\"id\":\"fo", false)
			panic(http.ErrAbortHandler)
		case 3: // cut off after a line, but before the block's end
			saying(w, r, "id: c4\ndata: {\"id\":\"4\"}\n", false)
		case 4: // an overload, told in band
			saying(w, r, "retry: 1\nevent: problem\ndata: {\"title\":\"busy\",\"status\":503}\n\n", false)
		case 5:
			w.Header().Set("Retry-After", "1")
			writeAs(w, "application/problem+json", 503, map[string]any{"title": "The server is starting", "status": 503})
		default:
			saying(w, r, block("c4", 4)+block("c5", 5)+block("c6", 6), true)
		}
	})
	o := eventctl(t.Context(), "", "--server", f.URL, "tail", "s", "--from", "oldest", "-n", "5")
	if want := "{\"id\":\"1\"}\n{\"id\":\"2\"}\n{\"id\":\"3\"}\n{\"id\":\"4\"}\n{\"id\":\"5\"}\n"; o.code != exitDone || o.out != want {
		t.Errorf("exit code %d, printed\n%s%s", o.code, o.out, o.err)
	}
	var cursors []string
	for _, r := range f.requests() {
		cursors = append(cursors, r.lastEventID)
	}
	if got := strings.Join(cursors, " "); got != " c1b c2 c3 c3 c3 c3" {
		t.Errorf("came back with %q, want the cursor of the last whole block each time", got)
	}
}

func TestTailTakesEventsOfAMegabyte(t *testing.T) {
	large := strings.Repeat("x", 3<<20)
	f := newFake(t, func(_ int, w http.ResponseWriter, r *http.Request, _ []byte) {
		saying(w, r, "id: 1\ndata: {\"data\":\""+large+"\"}\n\n", true)
	})
	o := eventctl(t.Context(), "", "--server", f.URL, "tail", "s", "-n", "1")
	if o.code != exitDone || len(o.out) < 3<<20 {
		t.Errorf("exit code %d, %d bytes, %s", o.code, len(o.out), o.err)
	}
	o = eventctl(t.Context(), "", "--server", f.URL, "tail", "s", "-n", "1", "--max-event", "65536")
	if o.code != exitFailed || !strings.Contains(o.err, "--max-event") {
		t.Errorf("exit code %d, %s", o.code, o.err)
	}
}

func TestTailEndsWhereTheServerMeansIt(t *testing.T) {
	problem := func(status int) func(http.ResponseWriter, *http.Request) {
		return func(w http.ResponseWriter, _ *http.Request) {
			writeAs(w, "application/problem+json", status, map[string]any{"type": "/problems/unknown-stream", "title": "No", "status": status})
		}
	}
	for name, c := range map[string]struct {
		answer func(http.ResponseWriter, *http.Request)
		want   string
	}{
		"204":       {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) }, "another one has taken over"},
		"400":       {problem(400), "No (400)"},
		"401":       {problem(401), "No (401)"},
		"403":       {problem(403), "No (403)"},
		"404":       {problem(404), "eventctl streams list"},
		"no stream": {func(w http.ResponseWriter, _ *http.Request) { writeAs(w, "text/html", 200, "hello") }, "no event stream"},
		"in band": {func(w http.ResponseWriter, r *http.Request) {
			saying(w, r, "event: problem\ndata: {\"title\":\"Taken over\",\"status\":409,\"detail\":\"by another\"}\n\n", false)
		}, "Taken over (409): by another"},
	} {
		f := newFake(t, func(_ int, w http.ResponseWriter, r *http.Request, _ []byte) { c.answer(w, r) })
		o := eventctl(t.Context(), "", "--server", f.URL, "tail", "s")
		if o.code != exitRefused || !strings.Contains(o.err, c.want) || len(f.requests()) != 1 {
			t.Errorf("%s: exit code %d after %d requests, %s", name, o.code, len(f.requests()), o.err)
		}
	}
}

func TestTailAsksForWhatItsFlagsSay(t *testing.T) {
	f := newFake(t, func(_ int, w http.ResponseWriter, r *http.Request, _ []byte) { saying(w, r, block("c", 1), true) })
	for _, c := range []struct{ args, want string }{
		{"a/b --from oldest", "/v1/streams/a%2Fb/events?from=oldest"},
		{"a b", "/v1/events?stream=a&stream=b"},
		{"--type t.* --type u", "/v1/events?type=t.%2A&type=u"},
		{"a --subject /x --source /y --resource z --after cur", "/v1/streams/a/events?resource=z&source=%2Fy&subject=%2Fx"},
	} {
		o := eventctl(t.Context(), "", append([]string{"--server", f.URL, "tail", "-n", "1"}, strings.Fields(c.args)...)...)
		all := f.requests()
		if got := all[len(all)-1].uri; o.code != exitDone || got != c.want {
			t.Errorf("%s: asked for %s, want %s; %s", c.args, got, c.want, o.err)
		}
	}
	all := f.requests()
	if got := all[len(all)-1].lastEventID; got != "cur" {
		t.Errorf("--after is presented as %q", got)
	}
}

func TestTailKeepsItsCursorInAFile(t *testing.T) {
	f := newFake(t, func(n int, w http.ResponseWriter, r *http.Request, _ []byte) {
		saying(w, r, block(fmt.Sprintf("c%d", n), n), true)
	})
	file := filepath.Join(t.TempDir(), "cursor")
	for range 2 {
		if o := eventctl(t.Context(), "", "--server", f.URL, "tail", "s", "-n", "1", "--cursor-file", file); o.code != exitDone {
			t.Fatalf("exit code %d, %s", o.code, o.err)
		}
	}
	text, err := os.ReadFile(file)
	if all := f.requests(); err != nil || string(text) != "c1\n" || all[0].lastEventID != "" || all[1].lastEventID != "c0" {
		t.Errorf("the file holds %q (%v); presented %q, then %q", text, err, all[0].lastEventID, all[1].lastEventID)
	}
}

func TestTailWhoseCursorFileGoesAwayEndsAndTellsOnce(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "gone")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	f := newFake(t, func(_ int, w http.ResponseWriter, _ *http.Request, _ []byte) {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
		w.Header().Set("Content-Type", "text/event-stream")
		_, _ = io.WriteString(w, "id: a\ndata: {}\n\n")
	})
	o := eventctl(t.Context(), "", "--server", f.URL, "tail", "s", "--cursor-file", filepath.Join(dir, "cursor"))
	if o.code != exitUsage || strings.Count(o.err, "--cursor-file") != 1 {
		t.Errorf("exit code %d, %q", o.code, o.err)
	}
}

func TestTailNamesTheAddressWhereNobodyAnswers(t *testing.T) {
	f := newFake(t, nil)
	f.Close()
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	errs := &lockedBuffer{grown: make(chan struct{}, 1)}
	ended := make(chan int, 1)
	go func() {
		ended <- run(ctx, &console{out: &lockedBuffer{}, err: errs}, []string{"--server", f.URL, "tail", "s"})
	}()
	<-errs.grown
	stop()
	if code := <-ended; code != exitDone || !strings.Contains(errs.String(), "nobody answers at "+f.URL) {
		t.Errorf("exit code %d, %s", code, errs.String())
	}
}

func TestTailConfirmsANamedConsumersCursorAtTheEnd(t *testing.T) {
	f := newFake(t, func(_ int, w http.ResponseWriter, r *http.Request, body []byte) {
		if r.Method == http.MethodPut {
			_, _ = w.Write(body)
			return
		}
		saying(w, r, "id: c0\n\n"+block("c1", 1)+block("c2", 2), true)
	})
	o := eventctl(t.Context(), "", "--server", f.URL, "tail", "s", "-n", "2", "--consumer", "me")
	all := f.requests()
	last := all[len(all)-1]
	if o.code != exitDone || all[0].uri != "/v1/streams/s/events?consumer=me" || last.uri != "/v1/streams/s/consumers/me" || string(last.body) != `{"cursor":"c2"}` {
		t.Errorf("exit code %d, last request %s %s %s, %s", o.code, last.method, last.uri, last.body, o.err)
	}
}

func TestTailEndsQuietlyOnInterrupt(t *testing.T) {
	file := filepath.Join(t.TempDir(), "cursor")
	f := newFake(t, func(_ int, w http.ResponseWriter, r *http.Request, _ []byte) { saying(w, r, block("c1", 1), true) })
	ctx, stop := context.WithCancel(t.Context())
	out := &lockedBuffer{grown: make(chan struct{}, 1)}
	var errs lockedBuffer
	ended := make(chan int, 1)
	go func() {
		ended <- run(ctx, &console{out: out, err: &errs}, []string{"--server", f.URL, "tail", "s", "--cursor-file", file})
	}()
	<-out.grown
	stop()
	if code := <-ended; code != exitDone || errs.String() != "" {
		t.Errorf("exit code %d, %q", code, errs.String())
	}
	if text, err := os.ReadFile(file); err != nil || string(text) != "c1\n" {
		t.Errorf("the cursor file holds %q (%v), want what was printed", text, err)
	}
}

func TestTailTellsControlMessagesOnStandardError(t *testing.T) {
	f := newFake(t, func(_ int, w http.ResponseWriter, r *http.Request, _ []byte) {
		saying(w, r, "event: gap\nid: g\ndata: {\"stream\":\"s\",\"partition\":3,\"from\":10,\"to\":500,\"reason\":\"retention\"}\n\nevent: drain\ndata: {\"retryAfter\":1}\n\nevent: stalled\ndata: {\"stream\":\"s\"}\n\n"+block("c", 1), true)
	})
	o := eventctl(t.Context(), "", "--server", f.URL, "tail", "s", "-n", "1")
	for _, want := range []string{"GAP in stream s, partition 3: what was from 10 up to 500 is gone (retention)", "going away", `stalled {"stream":"s"}`} {
		if !strings.Contains(o.err, want) {
			t.Errorf("%q lacks %q", o.err, want)
		}
	}
	if o.out != "{\"id\":\"1\"}\n" {
		t.Errorf("printed %q", o.out)
	}
}

func TestTailLeavesAConnectionOnWhichNothingComes(t *testing.T) {
	f := newFake(t, func(n int, w http.ResponseWriter, r *http.Request, _ []byte) {
		if n == 0 {
			saying(w, r, "retry: 1\nid: c0\n\n", true)
			return
		}
		saying(w, r, block("c1", 1), true)
	})
	start := time.Now()
	o := eventctl(t.Context(), "", "--server", f.URL, "tail", "s", "-n", "1", "--idle-timeout", "100ms")
	if o.code != exitDone || !strings.Contains(o.err, "nothing was heard") || time.Since(start) > 10*time.Second {
		t.Errorf("exit code %d after %s, %s", o.code, time.Since(start), o.err)
	}
	if got := f.requests()[1].lastEventID; got != "c0" {
		t.Errorf("came back with %q", got)
	}
}

func TestPrettyShowsWhatMatters(t *testing.T) {
	f := newFake(t, func(_ int, w http.ResponseWriter, r *http.Request, _ []byte) {
		saying(w, r, `data: {"id":"1","source":"/s","type":"t.u","subject":"/x","time":"2026-01-02T03:04:05Z","data":{"a":1}}`+"\nid: c\n\n", true)
	})
	o := eventctl(t.Context(), "", "--server", f.URL, "tail", "s", "-n", "1", "--pretty")
	if want := "2026-01-02T03:04:05Z  t.u  /x  /s 1\n  {\n    \"a\": 1\n  }\n"; o.out != want {
		t.Errorf("printed\n%s, want\n%s", o.out, want)
	}
	o = eventctl(t.Context(), "", "--server", f.URL, "tail", "s", "-n", "1", "--envelope")
	if !strings.HasPrefix(o.out, `{"cursor":"c","event":{"id":"1"`) {
		t.Errorf("printed %s", o.out)
	}
}

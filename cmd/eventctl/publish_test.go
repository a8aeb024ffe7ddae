package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// taking answers as a server that takes events; status says what becomes of one.
func taking(status func(id string) string) func(int, http.ResponseWriter, *http.Request, []byte) {
	return func(_ int, w http.ResponseWriter, _ *http.Request, body []byte) {
		var events []struct{ ID, Source string }
		if err := json.Unmarshal(array(body), &events); err != nil {
			panic(err)
		}
		results, code := []any{}, 200
		for _, e := range events {
			r := map[string]any{"id": e.ID, "source": e.Source, "status": status(e.ID)}
			switch r["status"] {
			case "invalid":
				r["errors"] = []any{map[string]any{"pointer": "/type", "message": "is not registered", "expected": "a registered type"}}
				code = 207
			case "failed":
				r["retryable"] = true
				code = 207
			}
			results = append(results, r)
		}
		writeAs(w, "application/json", code, map[string]any{"results": results})
	}
}

// array gives a single event the form of a batch.
func array(body []byte) []byte {
	if len(body) > 0 && body[0] == '{' {
		return []byte("[" + string(body) + "]")
	}
	return body
}

func persisted(string) string { return "persisted" }

func events(n int) (lines, array string) {
	var all []string
	for i := range n {
		all = append(all, fmt.Sprintf(`{"specversion":"1.0","id":"%d","source":"/s","type":"t","time":"2026-01-02T03:04:%02d.5+01:00"}`, i, i%60))
	}
	return strings.Join(all, "\n") + "\n", "\ufeff [" + strings.Join(all, " ,\n ") + "]"
}

// ids lists the ids of all events that were sent, in order, batch by batch.
func (f *fake) ids(t *testing.T) (batches [][]string) {
	t.Helper()
	for _, r := range f.requests() {
		var events []struct{ ID string }
		if err := json.Unmarshal(array(r.body), &events); err != nil {
			t.Fatalf("body %.100s: %v", r.body, err)
		}
		var ids []string
		for _, e := range events {
			ids = append(ids, e.ID)
		}
		batches = append(batches, ids)
	}
	return batches
}

func TestEventsFromAnyInputAreSentInOrderAndInBatches(t *testing.T) {
	lines, array := events(7)
	file := filepath.Join(t.TempDir(), "events.json")
	if err := os.WriteFile(file, []byte(array), 0o600); err != nil {
		t.Fatal(err)
	}
	spread := strings.ReplaceAll(lines, ",", ",\n\t") // values over many lines
	for name, c := range map[string]struct {
		stdin string
		args  []string
	}{
		"lines on standard input":  {lines, nil},
		"array on standard input":  {array, []string{"-"}},
		"values over many lines":   {spread, nil},
		"array in a file":          {"", []string{file}},
		"lines without a last end": {strings.TrimSpace(lines), nil},
	} {
		want := [][]string{{"0", "1", "2"}, {"3", "4", "5"}, {"6"}}
		f := newFake(t, taking(persisted))
		o := eventctl(t.Context(), c.stdin, append([]string{"--server", f.URL, "publish", "--batch", "3"}, c.args...)...)
		if o.code != exitDone || !strings.Contains(o.err, "7 persisted") {
			t.Errorf("%s: exit code %d, %s", name, o.code, o.err)
		}
		got := f.ids(t)
		if c.stdin != "" { // a pipe's batches are what was there
			got, want = [][]string{slices.Concat(got...)}, [][]string{{"0", "1", "2", "3", "4", "5", "6"}}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

func TestSlowPipeIsPublishedAsItComesAndCanBeInterrupted(t *testing.T) {
	f := newFake(t, taking(persisted))
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	in, pipe := io.Pipe()
	out := &lockedBuffer{grown: make(chan struct{}, 1)}
	var errs lockedBuffer
	ended := make(chan int, 1)
	go func() {
		ended <- run(ctx, &console{in: in, out: out, err: &errs}, []string{"--server", f.URL, "publish", "--batch", "100", "--results"})
	}()
	for i := range 3 {
		if _, err := fmt.Fprintf(pipe, `{"specversion":"1.0","id":"%d","source":"/s","type":"t"}`, i); err != nil {
			t.Fatal(err)
		}
		<-out.grown // although the batch is not full and the pipe still open
	}
	stop()
	if code := <-ended; code != exitInterrupted || !strings.Contains(errs.String(), "3 persisted") {
		t.Errorf("exit code %d, %s", code, errs.String())
	}
	_ = pipe.Close()
}

func TestRefusedEventsAreNamedAndTheRestIsPublished(t *testing.T) {
	lines, _ := events(5)
	f := newFake(t, taking(func(id string) string {
		if id == "2" {
			return "invalid"
		}
		return "persisted"
	}))
	o := eventctl(t.Context(), lines, "--server", f.URL, "publish", "--results")
	if o.code != exitUnpublished {
		t.Errorf("exit code %d, want %d", o.code, exitUnpublished)
	}
	for _, want := range []string{"standard input: event 3", `id "2"`, "/type: is not registered (expected a registered type)", "4 persisted, 1 NOT published"} {
		if !strings.Contains(o.err, want) {
			t.Errorf("%q lacks %q", o.err, want)
		}
	}
	if n := strings.Count(o.out, "\n"); n != 5 {
		t.Errorf("%d results, want one line for each event:\n%s", n, o.out)
	}
}

func TestWhatFailedIsTriedAgain(t *testing.T) {
	lines, _ := events(4)
	failed := false
	f := newFake(t, taking(func(id string) string {
		if id == "1" && !failed {
			failed = true
			return "failed"
		}
		return "persisted"
	}))
	file := filepath.Join(t.TempDir(), "events.ndjson")
	if err := os.WriteFile(file, []byte(lines), 0o600); err != nil {
		t.Fatal(err)
	}
	o := eventctl(t.Context(), "", "--server", f.URL, "publish", file)
	if o.code != exitDone || !strings.Contains(o.err, "4 persisted") {
		t.Errorf("exit code %d, %s", o.code, o.err)
	}
	if diff := cmp.Diff([][]string{{"0", "1", "2", "3"}, {"1"}}, f.ids(t)); diff != "" {
		t.Error(diff)
	}
}

func TestUnavailableServerIsTriedAsLongAsItAsksAndThenGivenUp(t *testing.T) {
	lines, _ := events(1)
	busy := func(_ int, w http.ResponseWriter, _ *http.Request, _ []byte) {
		w.Header().Set("Retry-After", "1")
		writeAs(w, "application/problem+json", 503, map[string]any{"type": "/problems/log-unavailable", "title": "The log cannot be reached", "status": 503})
	}
	f := newFake(t, busy)
	start := time.Now()
	o := eventctl(t.Context(), lines, "--server", f.URL, "publish", "--retries", "1")
	if o.code != exitFailed || len(f.requests()) != 2 || !strings.Contains(o.err, "The log cannot be reached (503)") || time.Since(start) < time.Second {
		t.Errorf("exit code %d after %s and %d requests, %s", o.code, time.Since(start), len(f.requests()), o.err)
	}
}

func TestBatchThatIsTooLargeIsSentInParts(t *testing.T) {
	lines, _ := events(5)
	take := taking(persisted)
	f := newFake(t, func(n int, w http.ResponseWriter, r *http.Request, body []byte) {
		if strings.Count(string(body), "specversion") > 2 || strings.Contains(string(body), `"id":"3"`) {
			writeAs(w, "application/problem+json", 413, map[string]any{"type": "/problems/batch-too-large", "title": "The batch is too large", "status": 413})
			return
		}
		take(n, w, r, body)
	})
	o := eventctl(t.Context(), lines, "--server", f.URL, "publish")
	if o.code != exitUnpublished || !strings.Contains(o.err, "4 persisted, 1 NOT published") || !strings.Contains(o.err, `event 4 (id "3"`) {
		t.Errorf("exit code %d, %s", o.code, o.err)
	}
}

func TestEventsThatCannotBeReadAreNamedAndTheOthersPublished(t *testing.T) {
	lines, array := events(4)
	line := strings.SplitAfter(lines, "\n")
	for _, c := range []struct {
		input     string
		persisted string
		want      []string
	}{
		{lines + "{broken\n", "0 1 2 3", []string{"standard input: event 5: is no JSON (byte ", "4 persisted, 1 NOT published"}},
		{lines + "7\n", "0 1 2 3", []string{"event 5: is no JSON object: 7"}},
		{line[0] + "{bad\n" + line[1] + "\n\n" + `{"id":` + "\n" + line[2], "0 1 2", []string{"event 2: is no JSON (byte ", "event 4: is no JSON", "3 persisted, 2 NOT published"}},
		{line[0] + "not json\n" + `{"id":"cut`, "0", []string{"event 2: is no JSON", "event 3: is no JSON", "1 persisted, 2 NOT published"}},
		{array[:len(array)-1], "0 1 2 3", []string{"the array is cut off after event 4", "4 persisted, 1 NOT published"}},
		{"[" + line[0] + ",{bad," + line[1] + "]", "0", []string{"event 2: is no JSON", "what follows is not read"}},
	} {
		for _, command := range []string{"publish", "replay"} {
			f := newFake(t, taking(persisted))
			o := eventctl(t.Context(), c.input, "--server", f.URL, command, "-")
			if o.code != exitUnpublished {
				t.Errorf("%s %q: exit code %d, want %d: %s", command, c.input, o.code, exitUnpublished, o.err)
			}
			if got := strings.Join(slices.Concat(f.ids(t)...), " "); got != c.persisted {
				t.Errorf("%s %q: %q was published, not %q", command, c.input, got, c.persisted)
			}
			for _, want := range c.want {
				if !strings.Contains(o.err, want) {
					t.Errorf("%s %q: %q lacks %q", command, c.input, o.err, want)
				}
			}
		}
	}
}

func TestPlacesOfBrokenEventsAreThoseOfTheInput(t *testing.T) {
	input := `{"id":"1"}` + "\n{bad\n" + `{"id":"2"}` + "\n{worse\n"
	f := newFake(t, taking(persisted))
	o := eventctl(t.Context(), input, "--server", f.URL, "publish")
	for _, broken := range []string{"{bad", "{worse"} {
		if want := fmt.Sprintf("(byte %d)", strings.Index(input, broken)); !strings.Contains(o.err, want) {
			t.Errorf("%q lacks %s", o.err, want)
		}
	}
}

func TestInputThatIsNoEventsAtAllIsGivenUp(t *testing.T) {
	f := newFake(t, taking(persisted))
	o := eventctl(t.Context(), strings.Repeat("{bad\n", 10_000), "--server", f.URL, "publish")
	if n := len(f.requests()); o.code != exitUnpublished || n != 0 || !strings.Contains(o.err, fmt.Sprintf("%d NOT published", maxBroken)) {
		t.Errorf("exit code %d, %d requests, %s", o.code, n, o.err)
	}
}

func TestInputWithoutEventsIsToldAndNoError(t *testing.T) {
	for _, input := range []string{"", "\n \n", "[]"} {
		f := newFake(t, taking(persisted))
		o := eventctl(t.Context(), input, "--server", f.URL, "publish")
		if n := len(f.requests()); o.code != exitDone || n != 0 || !strings.Contains(o.err, "the input holds no event") {
			t.Errorf("%q: exit code %d, %d requests, %s", input, o.code, n, o.err)
		}
	}
}

func TestFileThatCannotBeUsedIsWrongUsageAndToldOnceBeforeAnythingIsSent(t *testing.T) {
	lines, _ := events(1)
	dir := t.TempDir()
	good, none := filepath.Join(dir, "good"), filepath.Join(dir, "none")
	if err := os.WriteFile(good, []byte(lines), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{
		{"publish", good, none},
		{"publish", good, dir},
		{"publish", "--type", "t", "--data", "@" + none},
		{"replay", good, none},
		{"tail", "s", "--cursor-file", filepath.Join(none, "cursor")},
		{"tail", "s", "--cursor-file", dir},
	} {
		f := newFake(t, taking(persisted))
		o := eventctl(t.Context(), "", append([]string{"--server", f.URL}, args...)...)
		if n := len(f.requests()); o.code != exitUsage || n != 0 || strings.Count(o.err, "eventctl: ") != 1 {
			t.Errorf("%v: exit code %d, %d requests, %q", args, o.code, n, o.err)
		}
	}
}

func TestOneEventFromFlags(t *testing.T) {
	for _, c := range []struct {
		args []string
		in   string
		want map[string]any
	}{
		{[]string{"--data", `{"a":[1]}`, "--subject", "/x", "--id", "7"}, "", map[string]any{"data": map[string]any{"a": []any{1.0}}, "datacontenttype": "application/json", "subject": "/x", "id": "7"}},
		{[]string{"--data", "hello", "-a", "resource=r1"}, "", map[string]any{"data": "hello", "datacontenttype": "text/plain; charset=utf-8", "resource": "r1"}},
		{[]string{"--data", "@-"}, "\xff\x00", map[string]any{"data_base64": "/wA=", "datacontenttype": "application/octet-stream"}},
		{[]string{"--source", "/me"}, "", map[string]any{"source": "/me", "specversion": "1.0", "type": "t"}},
	} {
		f := newFake(t, taking(persisted))
		o := eventctl(t.Context(), c.in, append([]string{"--server", f.URL, "publish", "--type", "t"}, c.args...)...)
		if o.code != exitDone {
			t.Fatalf("%v: exit code %d, %s", c.args, o.code, o.err)
		}
		var got []map[string]any
		if err := json.Unmarshal(array(f.requests()[0].body), &got); err != nil {
			t.Fatal(err)
		}
		if kind := f.requests()[0].contentType; kind != "application/cloudevents+json" {
			t.Errorf("%v: sent as %s", c.args, kind)
		}
		for name, want := range c.want {
			if diff := cmp.Diff(want, got[0][name]); diff != "" {
				t.Errorf("%v: %s: %s", c.args, name, diff)
			}
		}
		if got[0]["id"] == "" || got[0]["time"] == nil {
			t.Errorf("%v: %v lacks an id or a time", c.args, got[0])
		}
	}
}

// TestReplayKeepsThePaceOfTheEvents runs in a synctest bubble, where a minute takes no time: the server is a transport.
func TestReplayKeepsThePaceOfTheEvents(t *testing.T) {
	event := func(id, at string) string { return fmt.Sprintf(`{"id":%q,"source":"/s","type":"t","time":%q}`, id, at) }
	trains := event("a", "2026-01-02T03:00:00Z") + "\n" + event("c", "2026-01-02T03:02:00Z") + "\n" + event("d", "2026-01-02T03:02:00Z") + "\n" + `{"id":"e"}` + "\n"
	works := "[" + event("b", "2026-01-02T04:01:00+01:00") + "," + event("f", "2026-01-02T03:10:00Z") + "]"
	dir := t.TempDir()
	for name, text := range map[string]string{"trains": trains, "works": works} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		sent := map[string]time.Duration{}
		var order []string
		var out, errs lockedBuffer
		c := &client{base: "http://test", header: http.Header{}, http: &http.Client{Transport: roundTripper(func(r *http.Request) (*http.Response, error) {
			w := recorder()
			body := readAll(r.Body)
			var events []struct{ ID, Time string }
			if err := json.Unmarshal(array(body), &events); err != nil {
				return nil, err
			}
			for _, e := range events {
				sent[e.ID] = time.Since(start)
				order = append(order, e.ID)
			}
			taking(persisted)(0, w, r, body)
			return w.Result(), nil
		})}}
		p := &replayCommand{Files: []string{filepath.Join(dir, "trains"), filepath.Join(dir, "works")}, Speed: 60, Until: "2026-01-02T03:10:00Z", publishing: publishing{Batch: 10}}
		if err := p.Run(t.Context(), c, &console{out: &out, err: &errs}); err != nil {
			t.Fatal(err)
		}
		want := map[string]time.Duration{"a": 0, "b": time.Second, "c": 2 * time.Second, "d": 2 * time.Second, "e": 2 * time.Second}
		if diff := cmp.Diff(want, sent); diff != "" {
			t.Error(diff)
		}
		if got := strings.Join(order, ""); got != "abcde" {
			t.Errorf("order %s, want by time and within a file as written", got)
		}
	})
}

func TestReplayGivesNewIdsAndTimesIfAsked(t *testing.T) {
	lines, _ := events(3)
	f := newFake(t, taking(persisted))
	o := eventctl(t.Context(), lines, "--server", f.URL, "replay", "-", "--speed", "0", "--new-ids", "--now", "--from", "2026-01-02T02:04:01Z")
	if o.code != exitDone {
		t.Fatalf("exit code %d, %s", o.code, o.err)
	}
	var got []struct {
		ID, Source string
		Time       time.Time
	}
	if err := json.Unmarshal(array(f.requests()[0].body), &got); err != nil {
		t.Fatal(err)
	}
	if len(got) != 2 || len(got[0].ID) != 36 || got[0].ID == got[1].ID || got[0].Source != "/s" || time.Since(got[0].Time) > time.Minute {
		t.Errorf("sent %+v, want events 1 and 2 with new ids and times", got)
	}
}

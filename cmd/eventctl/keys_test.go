package main

import (
	"io"
	"net/http"
	"strings"
	"testing"
)

func TestStateIsATableOfKeys(t *testing.T) {
	answer := func(_ int, w http.ResponseWriter, _ *http.Request, _ []byte) {
		w.Header().Set("Content-Type", mediaBatch)
		w.Header().Set("Snapshot", `{"stream":"s","keys":2,"dropped":1}`)
		_, _ = io.WriteString(w, `[{"type":"t","subject":"b","time":"2026-01-01T00:00:00Z","data":{"long":"0123456789"}},`+
			`{"type":"t\u001b","subject":"a","data_base64":"AAAA"}]`)
	}
	f := newFake(t, answer)
	o := eventctl(t.Context(), "", "--server", f.URL, "state", "s", "--type", "t*", "--filter", "x > 1", "--width", "8")
	want := "SUBJECT  TYPE  TIME                  DATA\n" + "a        t     -                     AAAA\n" + "b        t     2026-01-01T00:00:00Z  {\"long\"…\n"
	if o.code != exitDone || o.out != want || !strings.Contains(o.err, "2 keys; the server has let 1 go") {
		t.Errorf("exit %d, printed\n%s\nwant\n%s\n%s", o.code, o.out, want, o.err)
	}
	if got := f.requests()[0].uri; got != "/v1/streams/s/events?filter=x+%3E+1&from=snapshot&type=t%2A" {
		t.Errorf("asked for %s", got)
	}
	if o = eventctl(t.Context(), "", "--server", f.URL, "state", "s", "--json"); o.code != exitDone || strings.Count(o.out, "\n") != 2 {
		t.Errorf("exit %d, printed %s", o.code, o.out)
	}
}

func TestStateThatIsCutOffIsToldSo(t *testing.T) {
	f := newFake(t, func(_ int, w http.ResponseWriter, _ *http.Request, _ []byte) {
		w.Header().Set("Content-Type", mediaBatch)
		_, _ = io.WriteString(w, `[{"type":"t"},{"ty`)
	})
	if o := eventctl(t.Context(), "", "--server", f.URL, "state", "s"); o.code != exitFailed || !strings.Contains(o.err, "cut off") || o.out != "" {
		t.Errorf("exit %d, printed %q and %q", o.code, o.out, o.err)
	}
}

// Programs that keep a picture are told by lines of the envelope when it begins, when it is whole, and what is gone.
func TestTailOfASnapshotTellsWhatIsGone(t *testing.T) {
	f := newFake(t, func(n int, w http.ResponseWriter, r *http.Request, _ []byte) {
		const begun = "retry: 1\nevent: snapshot\ndata: {\"stream\":\"s\",\"keys\":2}\n\ndata: {\"id\":\"1\"}\n\n"
		switch n {
		case 0: // cut in the middle: without a cursor
			saying(w, r, begun, false)
		case 1:
			saying(w, r, begun+"data: {\"id\":\"2\"}\n\nid: c1\nevent: live\ndata: {\"stream\":\"s\"}\n\n", false)
		default:
			saying(w, r, "id: c2\nevent: removed\ndata: {\"subject\":\"a\"}\n\n"+block("c3", 3), true)
		}
	})
	o := eventctl(t.Context(), "", "--server", f.URL, "tail", "s", "--snapshot", "--conflate", "2s", "--overflow-snapshot", "--envelope", "-n", "4")
	want := `{"snapshot":{"stream":"s","keys":2}}
{"event":{"id":"1"}}
{"snapshot":{"stream":"s","keys":2}}
{"event":{"id":"1"}}
{"event":{"id":"2"}}
{"live":{"stream":"s"}}
{"removed":{"subject":"a"}}
{"cursor":"c3","event":{"id":"3"}}
`
	if o.code != exitDone || o.out != want {
		t.Errorf("exit %d, printed\n%s\n%s", o.code, o.out, o.err)
	}
	for i, r := range f.requests() {
		if want := []string{"", "", "c1"}[i]; r.lastEventID != want || r.uri != "/v1/streams/s/events?conflate=2s&from=snapshot&overflow=snapshot" {
			t.Errorf("request %d asked for %s after %q", i, r.uri, r.lastEventID)
		}
	}
	if o = eventctl(t.Context(), "", "--server", f.URL, "tail", "s", "--snapshot", "--from", "oldest"); o.code != exitUsage {
		t.Errorf("exit %d of two places to begin", o.code)
	}
}

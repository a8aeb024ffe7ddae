package gateway

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/eventissuer/eventissuer/session"
)

// words are what a page tells: its snapshots, its events, what was passed, and what is gone.
func words(t *testing.T, a answer) string {
	t.Helper()
	var all []string
	for _, text := range a.header.Values("Snapshot") {
		var s session.Snapshot
		if err := json.Unmarshal([]byte(text), &s); err != nil {
			t.Fatal(err)
		}
		all = append(all, fmt.Sprintf("snapshot %s %d:", s.Stream, s.Keys))
	}
	var events []struct{ ID, Subject string }
	a.decode(t, &events)
	for _, e := range events {
		all = append(all, e.Subject+"="+e.ID)
	}
	if n := len(a.header.Values("Skipped")); n > 0 {
		all = append(all, fmt.Sprintf("%d skipped", n))
	}
	for _, text := range a.header.Values("Removed") {
		var r session.Removed
		if err := json.Unmarshal([]byte(text), &r); err != nil {
			t.Fatal(err)
		}
		all = append(all, fmt.Sprintf("removed %s %s=%s %s", r.Stream, r.Subject, r.ID, r.Reason))
	}
	return strings.Join(all, " ")
}

// pages asks for one page after the other.
type pages struct {
	h    *harness
	next string
}

func (p *pages) expect(want string) {
	p.h.t.Helper()
	a := p.h.must(p.h.send("GET", p.next, ""), http.StatusOK)
	if got := words(p.h.t.(*testing.T), a); got != want {
		p.h.t.Errorf("the page has %q, want %q", got, want)
	}
	link, rel, _ := strings.Cut(strings.TrimPrefix(a.header.Get("Link"), "<"+p.h.server.URL), ">")
	if cursor := a.header.Get("Cursor"); cursor == "" || rel != `; rel="next"` || !strings.Contains(link, "after="+cursor) {
		p.h.t.Errorf("Cursor is %q, Link is %q", cursor, a.header.Get("Link"))
	}
	p.next = link
}

func TestPageOfASnapshotIsTheWholeStateAndTheNextWhatChanged(t *testing.T) {
	h := newHarness(t).withState("places")
	h.put("places", "a=1", "b=2", "c=3", "a=4")
	p := &pages{h, "/v1/streams/places/events?from=snapshot&limit=2"}
	p.expect("snapshot places 3: b=2 c=3 a=4")
	if !strings.Contains(p.next, "from=snapshot") {
		t.Errorf("the link %s no longer says that its client has a picture", p.next)
	}
	p.expect("")
	h.putSeen(t, "places", "d=5", "b=", "d=6", "c=7", "a=")
	p.expect("d=5 removed places b=2 deleted") // and nothing after that, which would be taken before it
	p.expect("d=6 c=7 removed places a=4 deleted")
	p.expect("")
}

func TestPageOfEachKeysLatestHasAllSinceTheCursor(t *testing.T) {
	h := newHarness(t).withState("places")
	h.put("places", "a=1")
	p := &pages{h, "/v1/streams/places/events?from=snapshot&conflate=1s&limit=1"}
	p.expect("snapshot places 1: a=1")
	h.putSeen(t, "places", "b=2", "c=3", "b=4", "d=5", "a=", "d=6", "c=")
	p.expect("b=4 d=6 removed places a=1 deleted removed places c=3 deleted")
	p.expect("")
}

// Clients and proxies take so many headers, and not more.
func TestPageOfAReaderThatFellBehindIsASnapshotWhereItAskedForThat(t *testing.T) {
	h := newHarness(t).withState("places")
	var s streamAnswer
	h.must(h.send("GET", "/v1/streams/places", ""), http.StatusOK).decode(t, &s)
	h.put("places", "a=1", "b=2", "a=3")
	p := &pages{h, "/v1/streams/places/events?overflow=snapshot&limit=1&after=" + s.Oldest}
	p.expect("snapshot places 2: b=2 a=3")
	h.putSeen(t, "places", "c=4")
	p.expect("c=4")
	p = &pages{h, "/v1/streams/places/events?limit=1&after=" + s.Oldest}
	p.expect("a=1")
}

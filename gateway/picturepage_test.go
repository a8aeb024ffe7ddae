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
	if got := p.ask(); got != want {
		p.h.t.Errorf("the page has %q, want %q", got, want)
	}
}

// ask returns what the next page has.
func (p *pages) ask() string {
	p.h.t.Helper()
	a := p.h.must(p.h.send("GET", p.next, ""), http.StatusOK)
	link, rel, _ := strings.Cut(strings.TrimPrefix(a.header.Get("Link"), "<"+p.h.server.URL), ">")
	if cursor := a.header.Get("Cursor"); cursor == "" || rel != `; rel="next"` || !strings.Contains(link, "after="+cursor) {
		p.h.t.Errorf("Cursor is %q, Link is %q", cursor, a.header.Get("Link"))
	}
	p.next = link
	return words(p.h.t.(*testing.T), a)
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

func TestPageOfSeveralSnapshotsHasACursorThatIsBehindNone(t *testing.T) {
	h := newHarness(t).withState("places", "trains")
	h.put("places", "a=1")
	h.put("trains", "t=1")
	whole := &pages{h, "/v1/streams/places/events?from=snapshot"}
	whole.expect("snapshot places 1: a=1")
	h.putSeen(t, "places", "b=2") // those who ask now may be given the snapshot from before
	p := &pages{h, "/v1/events?stream=places&stream=trains&from=snapshot&wait=5s"}
	page := p.ask()
	if !strings.Contains(page, "b=2") {
		page = p.ask()
	}
	if !strings.Contains(page, "b=2") {
		t.Errorf("after a snapshot without b=2 comes %q", page)
	}
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

func TestPageOfEachKeysLatestLosesNothingOfAnyStream(t *testing.T) {
	h := newHarness(t).withState("places", "trains")
	p := &pages{h, "/v1/events?stream=places&stream=trains&from=snapshot&conflate=1s"}
	p.expect("snapshot places 0: snapshot trains 0:")
	h.putSeen(t, "places", "a=1", "a=2")
	h.putSeen(t, "trains", "b=3", "c=4", "c=")
	p.expect("a=2 b=3 removed trains c=4 deleted")
	h.putSeen(t, "trains", "b=5")
	p.expect("b=5")
}

func TestPageOfEachKeysLatestLosesNothingBehindManyTombstones(t *testing.T) {
	h := newHarness(t)
	h.must(h.sendJSON("POST", "/v1/streams", `{"name":"places","partitions":1,"compaction":true}`), http.StatusCreated)
	h.must(h.sendJSON("POST", "/v1/event-types", `{"type":"places","stream":"places"}`), http.StatusCreated)
	for i := range 40 {
		h.put("places", fmt.Sprintf("%d=", i))
	}
	h.put("places", "a=1")
	p := &pages{h, "/v1/streams/places/events?from=oldest&conflate=1s"}
	p.expect("a=1 16 skipped")
	p.expect("")
}

func TestPageTellsWhatGrewOldAndMovesOn(t *testing.T) {
	h := newHarness(t).withState("places")
	h.must(h.send("PATCH", "/v1/streams/places", `{"state":{"window":"1s"}}`, "Content-Type: application/merge-patch+json"), http.StatusOK)
	h.put("places", "a=1")
	p, n := &pages{h, "/v1/streams/places/events?from=snapshot&limit=1"}, 0
	p.expect("snapshot places 1: a=1")
	eventually(t, "what grew old is told, with the event that showed it", func() bool {
		n++
		event := fmt.Sprintf("b=%d", n)
		h.putSeen(t, "places", event)
		told := p.ask()
		if told != event && told != event+" removed places a=1 dropped" {
			t.Fatalf("the page has %q", told)
		}
		return told != event
	})
}

// Clients and proxies take so many headers, and not more.
func TestPageOnWhichMoreIsGoneThanHeadersTellIsASnapshot(t *testing.T) {
	h := newHarness(t).withState("places")
	keys := make([]string, 70)
	for i := range keys {
		keys[i] = fmt.Sprintf("%d=", i)
		h.put("places", keys[i]+"x")
	}
	h.put("places", "a=1")
	p := &pages{h, "/v1/streams/places/events?from=snapshot&conflate=1s"}
	if got := p.ask(); !strings.HasPrefix(got, "snapshot places 71: ") {
		t.Fatal(got)
	}
	h.putSeen(t, "places", keys...)
	eventually(t, "a snapshot without them", func() bool { // one may be shared for a moment
		told := p.ask()
		if strings.Contains(told, "removed") {
			t.Fatal(told)
		}
		return told == "snapshot places 1: a=1"
	})
}

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

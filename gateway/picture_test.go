package gateway

import (
	"net/http"
	"strings"
	"testing"

	"github.com/eventissuer/eventissuer/session"
)

func TestSnapshotIsGivenAndThenWhatChangesOnEveryTransport(t *testing.T) {
	for _, transport := range transports {
		t.Run(transport, func(t *testing.T) {
			h := newHarness(t).withState("places")
			h.put("places", "a=1", "b=2", "a=3")
			const path = "/v1/streams/places/events?from=snapshot"
			r := h.open(t, transport, path)
			r.expect("snapshot places 2", "b=2", "a=3", "live places@")
			h.put("places", "c=4")
			r.expect("c=4@")
			h.put("places", "b=")
			r.expect("removed places b=2 deleted@")
			r.end()
			h.put("places", "a=5", "c=")
			r = h.open(t, transport, path+"&after="+r.cursor)
			r.expect("@", "a=5@")
			h.put("places", "a=")
			r.expect("removed places c=4 deleted@", "removed places a=5 deleted@")
		})
	}
}

func TestSnapshotOfAFilterIsToldWhatNoLongerMatches(t *testing.T) {
	h := newHarness(t).withState("places")
	h.put("places", "a=1,red", "b=2,blue", "c=3,red")
	r := h.open(t, mediaNDJSON, "/v1/streams/places/events?from=snapshot&filter=color='red'")
	r.expect("snapshot places 2", "a=1", "c=3", "live places@")
	h.put("places", "a=4,blue", "b=5,blue", "b=6,red", "c=7,red", "c=")
	r.expect("removed places a=1 changed@", "b=6@", "c=7@", "removed places c=7 deleted@")
}

func TestEachKeysLatestIsGivenUnderOneCursorOnEveryTransport(t *testing.T) {
	for _, transport := range transports {
		t.Run(transport, func(t *testing.T) {
			h := newHarness(t).withState("places")
			h.put("places", "a=1")
			batch := func(words ...string) []string { // of one cursor, as the transport has it
				if last := words[len(words)-1]; transport == session.SubprotocolBatch && !strings.Contains(last, " ") {
					words[len(words)-1] += "@"
					return words
				}
				return append(words, "@")
			}
			const path = "/v1/streams/places/events?from=snapshot&conflate=200ms"
			r := h.open(t, transport, path)
			r.expect("snapshot places 1", "a=1", "live places@")
			h.put("places", "b=2")
			r.expect(batch("b=2")...)
			h.put("places", "b=")
			r.expect(batch("removed places b=2 deleted")...)
			r.end()
			h.putSeen(t, "places", "c=3", "a=4", "c=5", "d=6", "c=7", "d=")
			r = h.open(t, transport, path+"&after="+r.cursor)
			r.expect(append([]string{"@"}, batch("a=4", "c=7", "removed places d=6 deleted")...)...)
			h.put("places", "a=8")
			r.expect(batch("a=8")...)
		})
	}
}

func TestEachKeysLatestOfAStreamWithoutStateTellsTombstonesAsSkipped(t *testing.T) {
	h := newHarness(t)
	h.must(h.sendJSON("POST", "/v1/streams", `{"name":"places","partitions":1,"compaction":true}`), http.StatusCreated)
	h.must(h.sendJSON("POST", "/v1/event-types", `{"type":"places","stream":"places"}`), http.StatusCreated)
	h.put("places", "a=1", "b=2", "a=3", "b=")
	r := h.open(t, mediaNDJSON, "/v1/streams/places/events?from=oldest&conflate=1s")
	r.expect("@", "a=3", "skipped places", "@")
}

func TestEachStreamOfASessionHasItsSnapshotAndTheLastTheCursor(t *testing.T) {
	for _, transport := range transports {
		t.Run(transport, func(t *testing.T) {
			h := newHarness(t).withState("places", "trains")
			h.put("places", "a=1")
			h.put("trains", "a=2", "b=3")
			const path = "/v1/events?stream=trains&stream=places&from=snapshot"
			r := h.open(t, transport, path)
			r.expect("snapshot places 1", "a=1", "live places", "snapshot trains 2", "a=2", "b=3", "live trains@")
			h.put("trains", "b=")
			r.expect("removed trains b=3 deleted@")
			h.put("places", "c=4")
			r.expect("c=4@")
			r.end()
			h.put("places", "a=")
			r = h.open(t, transport, path+"&after="+r.cursor)
			r.expect("@", "removed places a=1 deleted@")
		})
	}
}

func TestReaderThatFellBehindIsGivenASnapshotWhereItAskedForThat(t *testing.T) {
	for _, transport := range transports {
		t.Run(transport, func(t *testing.T) {
			h := newHarness(t).withState("places")
			var s streamAnswer
			h.must(h.send("GET", "/v1/streams/places", ""), http.StatusOK).decode(t, &s)
			h.put("places", "a=1", "b=2", "a=3") // before the replica holds anything of the stream in memory
			const path = "/v1/streams/places/events"
			r := h.open(t, transport, path+"?overflow=snapshot&after="+s.Oldest)
			r.expect("@", "snapshot places 2@", "b=2", "a=3", "live places@")
			h.put("places", "c=4")
			r.expect("c=4@")
			r.end()
			if transport != session.SubprotocolBatch { // which has several events under one cursor
				r = h.open(t, transport, path+"?after="+s.Oldest)
				r.expect("@", "a=1@", "b=2@", "a=3@", "c=4@")
			}
		})
	}
}

// A reader that is cut in the middle comes back with what it had last: that must not be a cursor from before, whose picture
// it no longer has.
func TestSnapshotThatBeginsLaterHasACursorThatLeadsToAnother(t *testing.T) {
	h := newHarness(t).withState("places")
	var s streamAnswer
	h.must(h.send("GET", "/v1/streams/places", ""), http.StatusOK).decode(t, &s)
	h.put("places", "a=1", "b=2")
	for _, query := range []string{"from=snapshot&overflow=snapshot", "overflow=snapshot"} {
		r := h.open(t, mediaSSE, "/v1/streams/places/events?"+query+"&after="+s.Oldest)
		r.expect("@", "snapshot places 2@", "a=1", "b=2", "live places@")
		r.end()
	}
}

func TestFilterChangedInFlightIsGivenItsSnapshot(t *testing.T) {
	for _, transport := range []string{session.SubprotocolEvents, session.SubprotocolBatch} {
		for _, query := range []string{"from=snapshot", "from=snapshot&conflate=200ms"} {
			t.Run(transport+" "+query, func(t *testing.T) {
				h := newHarness(t).withState("places")
				h.put("places", "a=1,red", "b=2,blue")
				r := h.open(t, transport, "/v1/streams/places/events?"+query)
				r.expect("snapshot places 2", "a=1", "b=2", "live places@")
				r.say(`{"query":{"filter":"color = 'red'"}}`)
				// Until the new filter's picture is there, cursors lead to it.
				r.expect("queried@", "snapshot places 1@", "a=1", "live places@")
				r.say(`{"query":{}}`)
				r.expect("queried@", "snapshot places 2@", "a=1", "b=2", "live places@")
			})
		}
	}
}

func TestNamedConsumerIsGivenEachKeysLatestAndAcknowledges(t *testing.T) {
	h := newHarness(t).withState("places")
	h.must(h.sendJSON("PUT", "/v1/streams/places/consumers/app", `{"from":"oldest","reset":true}`), http.StatusOK)
	h.put("places", "a=1", "b=2", "a=3")
	const path = "/v1/streams/places/events?consumer=app&conflate=200ms"
	r := h.open(t, session.SubprotocolBatch, path)
	r.expect("@", "b=2", "a=3", "@")
	r.say(`{"ack":"` + r.cursor + `","final":true}`)
	r.expect("acked")
	r.end()
	h.putSeen(t, "places", "b=4", "b=5")
	r = h.open(t, session.SubprotocolBatch, path)
	r.expect("@", "b=5", "@")
	r.end()
	r = h.open(t, session.SubprotocolBatch, path) // what was not acknowledged comes again
	r.expect("@", "b=5", "@")
}

func TestQueryAsABodyTakesWhatAReadOfAPictureTakes(t *testing.T) {
	h := newHarness(t).withState("places")
	h.put("places", "a=1,red", "b=2,blue", "a=3,red")
	const body = `{"from":"snapshot","filter":"color = 'red'","conflate":"1s","overflow":"snapshot"}`
	a := h.must(h.sendJSON("POST", "/v1/streams/places/events:query", body), http.StatusOK)
	if got := words(t, a); got != "snapshot places 1: a=3" {
		t.Error(got)
	}
	h.putSeen(t, "places", "a=4,blue", "c=5,red")
	link, _, _ := strings.Cut(strings.TrimPrefix(a.header.Get("Link"), "<"+h.server.URL), ">")
	a = h.must(h.sendJSON("POST", link, body), http.StatusOK)
	if got := words(t, a); got != "c=5 removed places a=3 changed" {
		t.Error(got)
	}
}

func TestSessionEndsOnceItsStreamKeepsNoState(t *testing.T) {
	for _, transport := range transports {
		t.Run(transport, func(t *testing.T) {
			h := newHarness(t).withState("places")
			h.put("places", "a=1")
			const path = "/v1/streams/places/events"
			r := h.open(t, transport, path+"?from=snapshot")
			r.expect("snapshot places 1", "a=1", "live places@")
			h.must(h.send("PATCH", "/v1/streams/places", `{"state":null}`, "Content-Type: application/merge-patch+json"), http.StatusOK)
			h.must(h.send("GET", path+"?from=snapshot", ""), http.StatusConflict)
			h.must(h.send("GET", path, ""), http.StatusOK) // by which the replica takes notice
			h.put("places", "b=2")
			for r.queue = nil; len(r.queue) == 0 || strings.HasPrefix(r.queue[0], "b=2"); {
				message, err := r.next()
				if err != nil {
					t.Fatal(err)
				}
				r.queue = r.told(message)
			}
			r.expect("problem no-state@")
		})
	}
}

package chaos

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"time"

	"github.com/eventissuer/eventissuer/internal/clock"
)

// What an asker asks for.
const (
	askPage      = "page"      // what follows a cursor
	askSnapshot  = "snapshot"  // the latest of each key
	askConflated = "conflated" // the latest of each key since a cursor
	askEnds      = "ends"      // where a stream begins and ends
)

const (
	// mostHeard is how many cursors an asker remembers.
	mostHeard = 20
	// mostAsked is the largest page that is asked for.
	mostAsked = 100
)

// asker is a client that asks for one answer after the other, each for itself: from any place that it has heard of, through
// any replica, now by the address and now by a body, at once or waiting.
type asker struct {
	Reader
	name    string
	cluster *cluster
	dialer  dialer
	journal *Journal
	rand    *rand.Rand // owned by run
	heard   []string   // cursors; owned by run
}

func (a *asker) title() string { return a.name }

// whole is always true: nothing is owed to an asker but true answers.
func (a *asker) whole(context.Context, []int64) bool { return true }

// run asks until ctx ends.
func (a *asker) run(ctx context.Context) {
	a.journal.Note(Entry{What: WhatReader, Who: a.name, Reader: &a.Reader})
	for n := 1; ctx.Err() == nil; n++ {
		v := a.cluster.replicas[a.rand.IntN(replicaCount)]
		one, cancel := context.WithTimeout(ctx, patientTimeout)
		closed(a.journal, a.name, v, n, a.ask(one, v, n))
		cancel()
		clock.Pause(ctx, time.Duration(20+a.rand.IntN(400))*time.Millisecond)
	}
}

// ask asks for what is drawn, and notes the answer.
func (a *asker) ask(ctx context.Context, v *replica, n int) error {
	after := ""
	if len(a.heard) > 0 && a.rand.IntN(10) > 0 {
		after = a.heard[a.rand.IntN(len(a.heard))]
	}
	what := askPage
	switch draw := a.rand.IntN(10); {
	case draw == 0:
		return a.ends(ctx, v, n)
	case draw < 3:
		what, after = askSnapshot, ""
	case draw < 5 && after != "" && len(a.Streams) == 0: // what conflation does of tombstones, who has no picture is not told
		what = askConflated
	}
	at, _, err := placeOf(after)
	if err != nil {
		return err
	}
	a.journal.Note(Entry{What: WhatOpen, Who: a.name, On: v.name, Link: n, Cursor: at, Text: what})
	limit := 1 + a.rand.IntN(mostAsked)
	path, body := a.address(what, after, limit), []byte(nil)
	if a.rand.IntN(2) == 0 {
		path, body = a.body(what, after, limit)
	}
	page, err := a.dialer.page(ctx, v.base+path, body)
	if err != nil {
		return err
	}
	return a.answered(v, n, what, limit, page)
}

// answered notes a page: what it tells, and then all its events with the cursor.
func (a *asker) answered(v *replica, n int, what string, limit int, page []message) error {
	whole := message{}
	for i := range page {
		m := &page[i]
		if whole.events = append(whole.events, m.events...); m.cursor != "" {
			whole.cursor = m.cursor
		}
		if m.control == "" {
			continue
		}
		if _, err := noteMessage(a.journal, a.name, v, n, &message{control: m.control, payload: m.payload}); err != nil {
			return err
		}
	}
	if _, err := noteMessage(a.journal, a.name, v, n, &whole); err != nil {
		return err
	}
	if what == askPage && len(whole.events) > limit {
		return fmt.Errorf("%w page of %d events, expected %d at most", errUnexpected, len(whole.events), limit)
	}
	if len(a.heard) < mostHeard {
		a.heard = append(a.heard, whole.cursor)
	} else {
		a.heard[a.rand.IntN(mostHeard)] = whole.cursor
	}
	return nil
}

// wait draws how long the server may wait for a page's first event.
func (a *asker) wait() time.Duration { return time.Duration(a.rand.IntN(4)) * time.Second }

// address is where a page is asked for.
func (a *asker) address(what, after string, limit int) string {
	q := withAfter(a.query(), after)
	q.Del("heartbeat")
	switch what {
	case askSnapshot:
		q.Set("from", "snapshot")
	case askConflated:
		q.Set("conflate", "1s")
	}
	q.Set("limit", strconv.Itoa(limit))
	q.Set("wait", a.wait().String())
	return a.eventsPath() + "?" + q.Encode()
}

// body is the same as [asker.address] for POST.
func (a *asker) body(what, after string, limit int) (path string, body []byte) {
	q := map[string]any{"from": "oldest", "limit": limit, "wait": a.wait().String()}
	if after != "" {
		q["after"] = after
	}
	if len(a.Streams) > 1 {
		q["streams"] = a.Streams
	}
	if a.Prefix != "" {
		q["subjects"] = []string{a.Prefix + "*"}
	}
	switch what {
	case askSnapshot:
		q["from"] = "snapshot"
	case askConflated:
		q["conflate"] = "1s"
	}
	body, err := json.Marshal(q)
	if err != nil {
		panic(err) // there is nothing in it that could not be written
	}
	return a.eventsPath() + ":query", body
}

// ends asks where one of the streams begins and ends.
func (a *asker) ends(ctx context.Context, v *replica, n int) error {
	s, err := streamNamed(a.streams()[a.rand.IntN(len(a.streams()))])
	if err != nil {
		return err
	}
	a.journal.Note(Entry{What: WhatOpen, Who: a.name, On: v.name, Link: n, Text: askEnds})
	status, out, err := a.cluster.callBy(ctx, a.dialer.client, v.base, http.MethodGet, "/v1/streams/"+url.PathEscape(s.name), nil)
	if err != nil {
		return err
	}
	if status != http.StatusOK {
		return &statusError{status, string(out)}
	}
	var is struct{ Oldest, Newest string }
	if err := json.Unmarshal(out, &is); err != nil {
		return fmt.Errorf("%w stream %.200q: %w", errUnexpected, out, err)
	}
	e := Entry{What: WhatBounds, Who: a.name, On: v.name, Link: n, Stream: s.name}
	from, _, err := placeOf(is.Oldest)
	if err == nil {
		e.Cursor, _, err = placeOf(is.Newest)
	}
	if err != nil || from == nil || e.Cursor == nil {
		return fmt.Errorf("%w ends of a stream %.200q: %w", errUnexpected, out, err)
	}
	for p := s.first; p < s.first+s.partitions; p++ {
		e.Places = append(e.Places, Place{int64(p), from[p]})
	}
	a.journal.Note(e)
	return nil
}

// askerWitness follows an asker: each of its questions for itself.
type askerWitness struct {
	follower
	pages *streamWitness
	asked string
	from  []int64         // of what is asked for
	gone  []Gap           // of which it was told
	drawn map[string]bool // streams of which the answer is a snapshot
	acked map[int64]int64 // by partition, behind what was acknowledged when the question was asked
	low   []int64         // where the log began then
}

func (a *askerWitness) note(e *Entry) {
	switch e.What {
	case WhatOpen:
		a.asked, a.from, a.gone, a.drawn = e.Text, slices.Clone(e.Cursor), nil, map[string]bool{}
		a.acked, a.low = maps.Clone(a.checker.acked), a.checker.truth.low
		a.pages.note(e)
	case WhatControl:
		a.control(e)
	case WhatBounds:
		a.bounds(e)
	case WhatGiven:
		switch a.asked {
		case askPage:
			a.pages.note(e)
		case askSnapshot:
			a.snapshot(e)
		case askConflated:
			a.conflated(e)
		}
	}
}

func (a *askerWitness) control(e *Entry) {
	switch {
	case e.Text == "snapshot" && a.asked == askSnapshot:
		a.drawn[e.Stream] = true
	case e.Text == "live" && a.asked == askSnapshot:
	case e.Gap != nil && a.asked == askConflated:
		a.loses(e)
	default:
		a.pages.note(e)
	}
}

// loses takes a gap that a conflated answer tells. What was read before it comes at the answer's end.
func (a *askerWitness) loses(e *Entry) {
	p, at := int(e.Gap.Partition), a.pages.walk.at
	if p >= 0 && p < len(at) {
		a.pages.walk.pass(p, e.Gap.From)
	}
	a.pages.note(e)
	switch {
	case e.Gap.Reason == "retention":
		a.gone = append(a.gone, *e.Gap)
	case p >= 0 && p < len(a.from):
		a.from[p] = e.Gap.To
	}
}

// isGone reports whether the answer said that what is at an offset is gone.
func (a *askerWitness) isGone(p int, offset int64) bool {
	return slices.ContainsFunc(a.gone, func(g Gap) bool { return int(g.Partition) == p && g.From <= offset && offset < g.To })
}

// snapshot wants all that the log holds up to the answer's cursor.
func (a *askerWitness) snapshot(e *Entry) {
	picture := map[string]string{}
	for _, id := range e.IDs {
		key, _ := splitID(id)
		if picture[key] != "" {
			a.checker.breaks(e, PromisePicture, id, "the answer has %s and %s", picture[key], id)
		}
		picture[key] = id
	}
	for _, name := range a.reader().streams() {
		if !a.drawn[name] {
			a.checker.breaks(e, PromisePicture, "", "the answer is no snapshot of %s", name)
			return
		}
	}
	a.shows(e, picture, e.Cursor, "the answer")
}

// conflated wants of each key the latest event between the question's cursor and the answer's, or one that came later; a
// key of which one came later may also be left for the next answer.
func (a *askerWitness) conflated(e *Entry) {
	t := a.checker.truth
	given := map[string]Place{}
	for _, id := range e.IDs {
		key, _ := splitID(id)
		places := t.places[id]
		_, twice := given[key]
		switch {
		case len(places) == 0 || removes(id):
			a.checker.breaks(e, PromiseGenuine, id, "%s came, and is no event on the log", id)
			continue
		case !a.reader().wants(key):
			a.checker.breaks(e, PromiseWanted, id, "%s came, which the client did not ask for", id)
		case twice || !t.behind(places, a.from):
			a.checker.breaks(e, PromiseRepeat, id, "%s at %v came, twice or from before %v", id, places, a.from)
		}
		given[key] = places[len(places)-1]
	}
	for p := range min(len(e.Cursor), len(t.partitions)) {
		latest := map[string]record{}
		var from int64
		if p < len(a.from) {
			from = a.from[p]
		}
		if e.Cursor[p] < from {
			a.checker.breaks(e, PromiseCursor, "", "the cursor of partition %d goes back from %d to %d", p, from, e.Cursor[p])
		}
		for _, r := range t.partitions[p][t.find(p, from):t.find(p, max(from, e.Cursor[p]))] {
			if key, n := splitID(r.id); n >= 0 && a.reader().wants(key) && !a.isGone(p, r.offset) {
				latest[key] = r
			}
		}
		for key, r := range latest {
			if at, ok := given[key]; (!ok || at[1] < r.offset) && !a.follows(r.id, e.At) {
				a.checker.breaks(e, PromiseComplete, r.id, "%s at %d/%d did not come, and the cursor passes it: it is at %d", r.id, p, r.offset, e.Cursor[p])
			}
		}
	}
}

// follows reports whether the key's next event was sent by then, so that it may have been on the log.
func (a *askerWitness) follows(id string, by time.Duration) bool {
	key, n := splitID(id)
	b := a.checker.books[eventID(key, n+1)]
	return b != nil && b.sent != 0 && b.sent < by
}

// bounds takes where a stream is said to begin and end.
func (a *askerWitness) bounds(e *Entry) {
	t := a.checker.truth
	for _, at := range e.Places {
		p, first := at[0], at[1]
		var low, high int64
		if p < int64(len(a.low)) {
			low = a.low[p]
		}
		if p < int64(len(t.high)) {
			high = t.high[p]
		}
		if first < low || first > high {
			a.checker.breaks(e, PromiseEnds, "", "partition %d is said to begin at %d, and the log began between %d and %d", p, first, low, high)
		}
		if p >= int64(len(e.Cursor)) || p >= int64(len(t.ends)) {
			continue
		}
		if end := e.Cursor[p]; end < a.acked[p] || end > t.ends[p] {
			a.checker.breaks(e, PromiseEnds, "", "partition %d is said to end at %d, and %d was acknowledged of %d", p, end, a.acked[p], t.ends[p])
		}
	}
}

// end has nothing to say: an asker need not be answered.
func (a *askerWitness) end() {}

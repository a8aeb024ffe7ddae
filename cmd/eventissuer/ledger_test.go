package main_test

import (
	"fmt"
	"sync"
	"testing"
	"time"
)

// name is what an event is told apart by.
type name struct{ source, id string }

func (n name) String() string { return n.source + " " + n.id }

// story is what is known of one event that is published until it is answered for good.
type story struct {
	// static
	name    name
	subject string // its key: one publisher's own
	event   []byte
	valid   bool
	strict  bool // its type wants no event written undeduplicated
	era     int  // in which it was first sent
	// above is where the last event of its key was that had been acknowledged when it was first sent.
	above place

	// guarded by the ledger's mu
	acks  []place // the positions answered, each once
	loose bool    // an answer said that it was not deduplicated
	said  bool    // it was answered for good: persisted, duplicate or invalid
	again bool    // it was sent after that
}

// ledger holds every event's story, and is what the log is held against.
type ledger struct {
	mu      sync.Mutex // guards what follows
	era     int
	stories map[name]*story
	highest map[string]place // by subject: the highest position acknowledged
	count   map[string]int   // what came to pass, so that a test can show that it tested something
}

func newLedger() *ledger {
	return &ledger{stories: map[name]*story{}, highest: map[string]place{}, count: map[string]int{}}
}

// nowhere is below every position.
var nowhere = place{-1, -1}

// begin notes an event that is about to be sent for the first time.
func (l *ledger) begin(s *story) {
	l.mu.Lock()
	defer l.mu.Unlock()
	s.era, s.above = l.era, nowhere
	if at, ok := l.highest[s.subject]; ok {
		s.above = at
	}
	l.stories[s.name] = s
}

// newEra begins another phase of a test.
func (l *ledger) newEra() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.era++
}

func (l *ledger) note(what string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.count[what]++
}

// acked notes that an event was answered persisted or duplicate.
func (l *ledger) acked(t *testing.T, s *story, at place, duplicate, loose bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !s.valid {
		t.Errorf("%s is invalid and was acknowledged at %v", s.name, at)
	}
	known := false
	for _, other := range s.acks {
		known = known || other == at
	}
	switch {
	case duplicate:
		l.count["duplicate"]++
		if s.acks == nil && !s.said {
			l.count["duplicate at first"]++ // the answer before was lost, or said that its fate is not known
		}
	default:
		l.count["persisted"]++
		if loose {
			l.count["undeduplicated"]++
			s.loose = true
		} else if len(s.acks) > 0 && s.era == l.era {
			l.count["persisted again"]++
		}
		if known {
			t.Errorf("%s was answered persisted at %v twice", s.name, at)
		}
	}
	if !known {
		s.acks = append(s.acks, at)
	}
	s.again = s.again || s.said
	s.said = true
	if was, ok := l.highest[s.subject]; !ok || at.offset > was.offset {
		l.highest[s.subject] = at
	}
}

// refused notes that an event was answered invalid.
func (l *ledger) refused(t *testing.T, s *story) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.count["invalid"]++
	if s.valid {
		t.Errorf("%s is valid and was answered invalid: %s", s.name, s.event)
	}
	s.again = s.again || s.said
	s.said = true
}

// written is a topic as it was read: what is where, and where each event is, the partitions' own order.
type written struct {
	at map[place]name
	of map[name][]place
}

func newWritten() *written { return &written{at: map[place]name{}, of: map[name][]place{}} }

func (w *written) add(at place, n name) {
	w.at[at] = n
	w.of[n] = append(w.of[n], at)
}

// few reports so many mistakes of a kind and counts the rest.
type few struct {
	t    *testing.T
	what string
	n    int
}

func (f *few) errorf(format string, args ...any) {
	f.t.Helper()
	if f.n++; f.n <= 5 {
		f.t.Errorf(format, args...)
	}
}

func (f *few) done() {
	f.t.Helper()
	if f.n > 5 {
		f.t.Errorf("%s: %d in all", f.what, f.n)
	}
}

// holds wants the log to hold what was answered and nothing else. It is called while nothing is under way. Of the eras
// in which the window was known all the time, once, each event is to be there once, but for those that an answer said
// were not deduplicated; with lenient, also but for those whose type allows it: where that may have been answered and
// the answer been cut. It returns how many copies there are beyond the first of each.
func (l *ledger) holds(t *testing.T, w *written, once []int, lenient bool) (copies int) {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	single := map[int]bool{}
	for _, era := range once {
		single[era] = true
	}
	lost := few{t: t, what: "acknowledged events that are not where they were acknowledged"}
	twice := few{t: t, what: "events that are on the log more than once"}
	order := few{t: t, what: "events below others of their key that were acknowledged before they were sent"}
	open := few{t: t, what: "events without a final answer"}
	strangers := few{t: t, what: "events that are on the log and should not be"}
	for n, s := range l.stories {
		if !s.said {
			open.errorf("%s was never answered for good", n)
		}
		for _, at := range s.acks {
			if w.at[at] != n {
				lost.errorf("%s was acknowledged at %v, where there is %q", n, at, w.at[at])
			}
		}
		there := w.of[n]
		if len(there) > 1 {
			copies += len(there) - 1
			if single[s.era] && !s.loose && (s.strict || !lenient) {
				twice.errorf("%s is on the log at %v and was acknowledged at %v", n, there, s.acks)
			}
		}
		for _, at := range there {
			if s.above != nowhere && (at.partition != s.above.partition || at.offset <= s.above.offset) {
				order.errorf("%s is on the log at %v, and an event of its key was acknowledged at %v before it was sent", n, at, s.above)
			}
		}
	}
	for n, at := range w.of {
		switch s, ok := l.stories[n]; {
		case !ok:
			strangers.errorf("%s is on the log at %v and was never sent", n, at)
		case !s.valid:
			strangers.errorf("%s is invalid and on the log at %v", n, at)
		}
	}
	for _, f := range []*few{&lost, &twice, &order, &open, &strangers} {
		f.done()
	}
	return copies
}

// shows wants each of the things to have come to pass at least so often, so that the test has shown something.
func (l *ledger) shows(t *testing.T, least map[string]int) {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	for what, n := range least {
		if l.count[what] < n {
			t.Errorf("%q came to pass %d times, which shows nothing: expected %d", what, l.count[what], n)
		}
	}
	t.Logf("%d events: %v", len(l.stories), l.count)
}

// trip is an event for the types of these tests. Only a valid one has a distance that their schema takes.
func trip(n name, kind, subject string, valid bool) []byte {
	km := `12.5`
	if !valid {
		km = `"far"`
	}
	return fmt.Appendf(nil, `{"specversion":"1.0","id":%q,"source":%q,"type":"e2e.%s","subject":%q,"time":%q,"data":{"km":%s}}`,
		n.id, n.source, kind, subject, time.Unix(0, 0).UTC().Format(time.RFC3339), km)
}

package chaos

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// Findings is what a journal shows. Times are in nanoseconds where they are written as JSON.
type Findings struct {
	Seed       string          `json:"seed"`
	Took       time.Duration   `json:"took"`   // from its first entry to its last
	Events     int             `json:"events"` // on the log
	Acked      int             `json:"acknowledged"`
	Copies     int             `json:"copies"` // on the log beside the first of each
	Tombstones int             `json:"tombstones"`
	Doubts     int             `json:"doubts"` // times that an event was not acknowledged, and sent again
	Clients    int             `json:"clients"`
	Deliveries map[string]int  `json:"deliveries"` // by transport and kind
	Connects   int             `json:"connects"`
	Gaps       int             `json:"gaps"`
	Faults     map[string]int  `json:"faults"` // by kind
	Silence    Silence         `json:"silence"`
	Violations []Violation     `json:"violations"` // at most a few of each promise
	Broken     map[Promise]int `json:"broken"`     // all of them
}

// Silence is the longest time in which a client that wants every event was given none.
type Silence struct {
	Took time.Duration `json:"took"`
	At   time.Duration `json:"at"` // when it ended
	Who  string        `json:"who,omitempty"`
}

// eachPromise is how many violations of a promise are kept: more tell nothing new.
const eachPromise = 20

// book is what the checker knows of an event's way onto the log.
type book struct {
	sent     time.Duration // first; 0: never
	sends    int
	acked    time.Duration // first; 0: never
	doubtful bool          // some attempt has no answer
	loose    bool          // some answer said that it was not deduplicated
}

// checker reads a journal.
type checker struct {
	truth     *truth
	books     map[string]*book
	findings  Findings
	clients   map[string]witness
	groups    map[string]*groupBook
	troubles  []trouble
	stood     []trouble                // times in which nothing was noted
	last      map[string]time.Duration // when each client that wants everything was last given something
	said      map[string]Place         // by key, the last that was acknowledged
	acked     map[int64]int64          // by partition, behind the highest that was acknowledged
	published time.Duration            // when the last event was acknowledged
	ended     bool                     // the journal has all
}

// witness follows what one client was given and said.
type witness interface {
	// note takes an entry of the client's, in the journal's order.
	note(e *Entry)
	// end takes that there is nothing more.
	end()
}

// Check reads a journal and finds what it shows broken.
func Check(path string) (*Findings, error) {
	c := &checker{
		truth: newTruth(), books: map[string]*book{}, clients: map[string]witness{}, groups: map[string]*groupBook{}, last: map[string]time.Duration{}, said: map[string]Place{}, acked: map[int64]int64{},
		findings: Findings{Violations: []Violation{}, Deliveries: map[string]int{}, Faults: map[string]int{}, Broken: map[Promise]int{}},
	}
	// What the log holds is known only at the end, and is needed from the beginning.
	if err := readJournal(path, c.learn); err != nil {
		return nil, err
	}
	if !c.ended {
		return nil, fmt.Errorf("check %s: expected a journal to its end, which its run did not reach", path)
	}
	c.checkLog()
	if err := readJournal(path, c.follow); err != nil {
		return nil, err
	}
	for _, name := range slices.Sorted(maps.Keys(c.clients)) {
		c.clients[name].end()
	}
	for _, name := range slices.Sorted(maps.Keys(c.groups)) {
		c.groups[name].end()
	}
	return &c.findings, nil
}

// learn takes what the first reading is for: the log, and how what is on it came there.
func (c *checker) learn(e *Entry) error {
	f := &c.findings
	if e.At-f.Took > standstill {
		c.stood = append(c.stood, trouble{from: f.Took, to: e.At})
	}
	f.Took = e.At
	switch e.What {
	case WhatRun:
		f.Seed = e.Text
	case WhatSend:
		for _, id := range e.IDs {
			b := c.book(id)
			if b.sends++; b.sent == 0 {
				b.sent = e.At
			}
		}
	case WhatDoubt:
		f.Doubts += len(e.IDs)
		for _, id := range e.IDs {
			c.book(id).doubtful = true
		}
	case WhatAck:
		for i, id := range e.IDs {
			b := c.book(id)
			if b.acked == 0 {
				b.acked = e.At
				if !removes(id) {
					f.Acked++
				}
			}
			b.loose = b.loose || e.Flag
			if _, ok := c.truth.acked[e.Places[i]]; !ok {
				c.truth.acked[e.Places[i]] = e.At
			}
			c.published = e.At
		}
	case WhatRecord:
		switch id := e.IDs[0]; {
		case e.Text != "":
			c.breaks(e, PromiseGenuine, "", "the record at %v is no event: %s", e.Places[0], e.Text)
			return nil
		case removes(id):
			f.Tombstones++
		default:
			f.Events++
		}
		c.truth.add(e.Places[0], e.IDs[0])
	case WhatEnds:
		c.truth.ends = e.Cursor
	case WhatStarts:
		c.ended = true
		for len(c.truth.partitions) < len(e.Cursor) {
			c.truth.partitions = append(c.truth.partitions, nil)
		}
	case WhatFault:
		kind, _, _ := strings.Cut(e.Text, " ")
		f.Faults[kind]++
		c.troubles = append(c.troubles, trouble{FaultKind(kind), e.Who, e.At, forever})
	case WhatMended:
		for i := range c.troubles {
			if t := &c.troubles[i]; t.who == e.Who && t.to == forever {
				t.to = e.At
			}
		}
	}
	return nil
}

func (c *checker) book(id string) *book {
	b := c.books[id]
	if b == nil {
		b = &book{}
		c.books[id] = b
	}
	return b
}

// breaks notes that a promise is broken. e is the entry that shows it, or nil.
func (c *checker) breaks(e *Entry, promise Promise, id, format string, args ...any) {
	v := Violation{Promise: promise, ID: id, Text: fmt.Sprintf(format, args...)}
	if id != "" {
		v.Key, _ = splitID(id)
	}
	if e != nil {
		v.At, v.Who = e.At, e.Who
	}
	f := &c.findings
	if f.Broken[v.Promise]++; f.Broken[v.Promise] <= eachPromise {
		f.Violations = append(f.Violations, v)
	}
}

// checkLog compares what was answered to publishers with what the log holds.
func (c *checker) checkLog() {
	t := c.truth
	for _, id := range slices.Sorted(maps.Keys(t.places)) {
		places, b := t.places[id], c.books[id]
		if b == nil || b.sent == 0 {
			c.breaks(nil, PromiseGenuine, id, "%s is on the log at %v, and was never published", id, places)
			continue
		}
		if removes(id) {
			if len(places) > b.sends {
				c.breaks(nil, PromiseOnce, id, "the tombstone of %s was sent %d times, and is on the log at %v", id, b.sends, places)
			}
			continue
		}
		c.findings.Copies += len(places) - 1
		key, _ := splitID(id)
		if len(places) > 1 && (strict(key) || !b.doubtful && !b.loose) && !c.forgotten(b) {
			c.breaks(nil, PromiseOnce, id, "%s is on the log at %v", id, places)
		}
	}
	c.checkOrder()
}

// forgotten reports whether Redis lost its data while attempts to publish an event were under way: what one of them did
// the others did not know.
func (c *checker) forgotten(b *book) bool {
	over := b.acked + lateAttempt
	if b.acked == 0 {
		over = forever
	}
	return b.doubtful && slices.ContainsFunc(c.troubles, func(t trouble) bool { return t.forgets() && t.from < over && b.sent < t.to })
}

// checkOrder wants the first copies of a key's events in order.
func (c *checker) checkOrder() {
	for p, all := range c.truth.partitions {
		highest := map[string]int{}
		seen := map[string]bool{}
		for _, r := range all {
			key, n := splitID(r.id)
			if n < 0 {
				continue
			}
			if high, ok := highest[key]; ok && n < high && !seen[r.id] {
				c.breaks(nil, PromiseOrder, r.id, "%s is at %d/%d, behind %s", r.id, p, r.offset, eventID(key, high))
			}
			highest[key] = max(highest[key], n)
			seen[r.id] = true
		}
	}
}

// follow takes what the second reading is for: the clients, and what was seen of the replicas.
func (c *checker) follow(e *Entry) error {
	f := &c.findings
	switch e.What {
	case WhatAck:
		for i, id := range e.IDs {
			if is := c.truth.at(e.Places[i]); is != id {
				c.breaks(e, PromiseKept, id, "%s was acknowledged to be at %v, where there is %q", id, e.Places[i], is)
			}
			c.follows(e, id, e.Places[i])
		}
	case WhatTrim:
		c.truth.high = e.Cursor
		if e.Flag {
			c.truth.low = e.Cursor
		}
	case WhatReader:
		f.Clients++
		c.clients[e.Who] = c.witness(e)
	case WhatOpen:
		f.Connects++
	case WhatGiven, WhatPosted:
		c.deliveries(e)
	case WhatControl:
		if e.Gap != nil {
			f.Gaps++
		}
	case WhatAnswer:
		c.breaks(e, PromiseAnswer, "", "%s: %s", e.On, e.Text)
	case WhatExit:
		if e.Link != 0 {
			c.breaks(e, PromiseStop, "", "it ended with %d (-1: killed, as it took too long)", e.Link)
		}
	case WhatBroke:
		c.breaks(e, PromiseAlive, "", "%s", e.Text)
	case WhatUnwhole:
		c.breaks(e, PromiseWhole, "", "%s", e.Text)
	case WhatGrowth:
		c.breaks(e, PromiseGrowth, "", "%s", e.Text)
	}
	if w := c.clients[e.Who]; w != nil && e.What != WhatReader {
		w.note(e)
	}
	return nil
}

// follows wants what is acknowledged of a key, tombstones too, behind what was acknowledged of it before.
func (c *checker) follows(e *Entry, id string, at Place) {
	key, _ := splitID(id)
	if last, ok := c.said[key]; ok && (last[0] != at[0] || last[1] >= at[1]) {
		c.breaks(e, PromiseOrder, id, "%s was acknowledged to be at %v, and what came before it with its key at %v", id, at, last)
	}
	c.said[key] = at
	c.acked[at[0]] = max(c.acked[at[0]], at[1]+1)
}

// deliveries counts what came, and checks that it is what was sent.
func (c *checker) deliveries(e *Entry) {
	f := &c.findings
	if e.Text != "" {
		c.breaks(e, PromiseGenuine, "", "%s", e.Text)
	}
	r := c.reader(e.Who)
	if r == nil || len(e.IDs) == 0 {
		return
	}
	f.Deliveries[string(r.Kind)+" "+r.Over] += len(e.IDs)
	if r.Kind != KindStream || r.Key != "" || r.Prefix != "" || r.Latest {
		return
	}
	if last, ok := c.last[e.Who]; ok && e.At-last > f.Silence.Took && last < c.published {
		f.Silence = Silence{Took: e.At - last, At: e.At, Who: e.Who}
	}
	c.last[e.Who] = e.At
}

// described is a witness that knows whom it follows.
type described interface{ reader() *Reader }

func (c *checker) reader(who string) *Reader {
	if d, ok := c.clients[who].(described); ok {
		return d.reader()
	}
	return nil
}

// witness follows a client by its kind.
func (c *checker) witness(e *Entry) witness {
	base := follower{checker: c, who: e.Who, what: *e.Reader}
	switch e.Reader.Kind {
	case KindConsumer:
		return &consumerWitness{follower: base, walk: newWalk(c.truth, e.Reader.wants), places: map[string][]int64{}}
	case KindPicture:
		return newPictureWitness(base)
	case KindTaker:
		return &takerWitness{follower: base, book: c.group(e.Reader), sent: map[string]time.Duration{}}
	case KindQuery:
		return &askerWitness{follower: base, pages: &streamWitness{follower: base, walk: newWalk(c.truth, e.Reader.wants)}}
	case KindHook:
		return &hookWitness{follower: base, posted: map[string]bool{}, done: map[string]bool{}}
	default:
		return &streamWitness{follower: base, walk: newWalk(c.truth, e.Reader.wants)}
	}
}

// trouble is a time in which something was done to a server or a line.
type trouble struct {
	kind     FaultKind
	who      string
	from, to time.Duration
}

// forgets reports whether Redis lost its data in it.
func (t *trouble) forgets() bool { return t.kind == RedisFlush || t.kind == RedisEmpty }

const (
	forever = time.Duration(1<<63 - 1)
	// aftermath is how long what was done to a server may have consequences once it is over: members of a group are missed
	// and come back, and what waited on a line arrives.
	aftermath = 5 * time.Second
	// lateAttempt is how long an attempt to publish may be on its way of which its publisher knows nothing: a replica stands
	// still, and then Kafka takes its time.
	lateAttempt = 20 * time.Second
	// standstill is how long nothing is noted where the machine stands still: clients are told something every second.
	standstill = 5 * time.Second
	// recall is how long Kafka's commit may be behind what is acknowledged of a subscription: what is not acknowledged holds
	// it, until that is given out again. It is longer where there was trouble with replicas or Kafka.
	recall         = 2*ackTimeout + 2*time.Second
	troubledRecall = 40 * time.Second
)

// troubled reports whether trouble of some sort was in between, or shortly before.
func (c *checker) troubled(from, to time.Duration, sort func(t *trouble) bool) bool {
	return slices.ContainsFunc(c.troubles, func(t trouble) bool {
		return t.from < to && (t.to == forever || t.to+aftermath > from) && sort(&t)
	})
}

// awake is the time in between, but for that in which nothing at all was noted: the machine itself stood still.
func (c *checker) awake(from, to time.Duration) time.Duration {
	all := to - from
	for _, s := range c.stood {
		all -= max(0, min(to, s.to)-max(from, s.from))
	}
	return all
}

// follower is what all witnesses have in common.
type follower struct {
	checker *checker
	who     string
	what    Reader
}

func (f *follower) reader() *Reader { return &f.what }

// breaks notes what a step of the client's walk breaks.
func (f *follower) breaks(e *Entry, all []broken) {
	for _, b := range all {
		f.checker.breaks(e, b.promise, b.id, "%s", b.text)
	}
}

// told checks a control message: but for some, there is no reason for any.
func (f *follower) told(e *Entry) {
	switch e.Text {
	case "gap", "stalled", "resumed", "drain", "problem", "acked", "nacked", "assigned", "waiting":
	case "skipped":
		if id := f.checker.truth.at(e.Places[0]); id == "" || !removes(id) {
			f.checker.breaks(e, PromiseAnswer, "", "the record at %v is said to be no event, where there is %q", e.Places[0], id)
		}
	default:
		f.checker.breaks(e, PromiseAnswer, "", "the control message %q came", e.Text)
	}
}

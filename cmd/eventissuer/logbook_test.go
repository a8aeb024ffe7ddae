package main_test

import (
	"fmt"
	"maps"
	"slices"
	"sort"
	"sync"
	"time"
)

// moment is when something came to pass, counted from the logbook's beginning. No two are the same.
type moment time.Duration

func (m moment) String() string {
	if m == never {
		return "no time"
	}
	return time.Duration(m).Round(10 * time.Microsecond).String()
}

const never = moment(1<<63 - 1)

// logbook is what the clients of one subscription were given and said, what was published, and what was seen of the
// subscription from outside. It is held against what a subscription promises by mistakes.
type logbook struct {
	ordered bool // by key

	mu      sync.Mutex // guards what follows
	began   time.Time
	last    moment
	posts   map[string]*posted
	handed  []*handed
	words   []*word
	flushes []interval
	stills  []interval // in which a replica or Redis stood still
	looks   []look
	commits []look
	count   map[string]int // what came to pass, so that a test can show that it tested something
}

// posted is an event.
type posted struct {
	key  string
	n    int    // in its key's order, from 0
	sent moment // before it was first sent to a server
	at   place  // as it was acknowledged
	done bool   // it was acknowledged
}

// handed is an event as a client read it.
type handed struct {
	event, group, cursor, session string
	attempt                       int
	since                         moment // it was not taken out for the client before
	read                          moment
	said                          moment // it was first acknowledged in its session; 0: it was not
	returned                      bool   // it was given back, and may have been taken back
	durable                       bool   // an acknowledgement of it was answered as durable
}

// fate is how an acknowledgement was answered.
type fate string

const (
	fateUnknown fate = "unknown" // not, or that it is not known
	fateRefused fate = "refused"
	fateDurable fate = "durable"
)

// word is an acknowledgement.
type word struct {
	sent, answered moment
	fate           fate
	of             []*handed
	perhaps        []*handed // it is of these, too, unless the server took them back before
}

// interval is the time in which something came to pass.
type interval struct{ from, to moment }

// look is an answer about positions, by partition.
type look struct {
	interval
	positions map[int]int64
}

func newLogbook(ordered bool) *logbook {
	return &logbook{ordered: ordered, began: time.Now(), posts: map[string]*posted{}, count: map[string]int{}}
}

// tick is the present. The caller holds mu.
func (l *logbook) tick() moment {
	l.last = max(l.last+1, moment(time.Since(l.began)))
	return l.last
}

func (l *logbook) now() moment {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.tick()
}

func (l *logbook) note(what string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.count[what]++
}

func (l *logbook) counted(what string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.count[what]
}

// posting notes an event that is about to be sent for the first time.
func (l *logbook) posting(id, key string, n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.posts[id] = &posted{key: key, n: n, sent: l.tick()}
}

// posted notes that an event was acknowledged by the log.
func (l *logbook) posted(id string, at place) {
	l.mu.Lock()
	defer l.mu.Unlock()
	p := l.posts[id]
	p.at, p.done = at, true
}

// flush notes a time in which Redis loses everything.
func (l *logbook) flush(during func() error) error {
	from := l.now()
	err := during()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.flushes = append(l.flushes, interval{from, l.tick()})
	return err
}

// still notes that a replica or Redis stands still, until the function that it returns is called.
func (l *logbook) still() (over func()) {
	from := l.now()
	return func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.stills = append(l.stills, interval{from, l.tick()})
	}
}

// looked notes what was answered to a question about positions that was asked then.
func (l *logbook) looked(asked moment, positions map[int]int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.looks = append(l.looks, look{interval{asked, l.tick()}, positions})
}

// committed notes an answer of Kafka's about what is committed.
func (l *logbook) committed(asked moment, offsets map[int]int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.commits = append(l.commits, look{interval{asked, l.tick()}, offsets})
}

// sitting is one session of a client, as the logbook knows it. It belongs to the client, but for read.
type sitting struct {
	book *logbook
	name string

	// guarded by the logbook's mu
	since moment // what is read next was not taken out before
	all   []*handed
}

// sit begins a session. Nothing that it brings was taken out for it before.
func (l *logbook) sit(name string) *sitting { return &sitting{book: l, name: name, since: l.now()} }

// asks notes a request: what is answered was not taken out before.
func (s *sitting) asks() {
	s.book.mu.Lock()
	defer s.book.mu.Unlock()
	s.since = s.book.tick()
}

// read notes what the client has read, and returns the place in the session of the first of it.
func (s *sitting) read(deliveries []delivery) (first int) {
	l := s.book
	l.mu.Lock()
	defer l.mu.Unlock()
	first = len(s.all)
	now := l.tick()
	before := s.since
	for _, d := range deliveries {
		h := &handed{event: d.event, group: d.group, cursor: d.cursor, session: s.name, attempt: d.attempt, since: before, read: now}
		if p := l.posts[d.event]; p != nil {
			// A session gives out one thing after the other: what follows was taken out after this event was published.
			h.since = max(h.since, p.sent)
			s.since = max(s.since, p.sent)
		}
		l.handed = append(l.handed, h)
		s.all = append(s.all, h)
		l.count["delivered"]++
		if d.attempt > 1 {
			l.count["delivered again"]++
		}
	}
	return first
}

// says notes that the client is about to acknowledge what the session had from one place to another, both included.
func (s *sitting) says(from, to int) *word {
	l := s.book
	l.mu.Lock()
	defer l.mu.Unlock()
	w := &word{sent: l.tick(), fate: fateUnknown}
	for _, h := range s.all[from : to+1] {
		switch {
		case h.durable:
		case h.returned:
			w.perhaps = append(w.perhaps, h)
		default:
			if h.said == 0 {
				h.said = w.sent
			}
			w.of = append(w.of, h)
		}
	}
	l.words = append(l.words, w)
	return w
}

// answered notes how an acknowledgement was answered.
func (l *logbook) answered(w *word, f fate) {
	l.mu.Lock()
	defer l.mu.Unlock()
	w.answered, w.fate = l.tick(), f
	l.count["answered "+string(f)]++
	if f != fateDurable {
		return
	}
	for _, h := range w.of {
		if !h.durable {
			h.durable = true
			l.count["acknowledged"]++
		}
	}
}

// answeredInBand notes an answer that came in the session itself: what is read after it was taken out after it was asked for.
func (s *sitting) answeredInBand(w *word, f fate) {
	s.book.answered(w, f)
	s.book.mu.Lock()
	defer s.book.mu.Unlock()
	s.since = max(s.since, w.sent)
}

// returns notes that the client is about to give back what it had from one place to another.
func (s *sitting) returns(from, to int) {
	s.book.mu.Lock()
	defer s.book.mu.Unlock()
	for _, h := range s.all[from : to+1] {
		h.returned = true
		s.book.count["given back"]++
	}
}

// rule is what a subscription promises.
type rule string

const (
	// ruleLost: every event on the log was acknowledged by a client. As the log holds whatever its answers said, that is
	// every published event. (That all was, at the end, answered as durable is told by the subscription's lag.)
	ruleLost rule = "events that no client ever acknowledged"
	// ruleAgain: an event is not taken out for a client after an acknowledgement of it was answered as durable, unless
	// Redis was flushed after that acknowledgement was sent. It may be read after that: it was on its way. Without
	// ordering it may also be on its way from one replica to another: that is over when the time for its acknowledgement
	// is, or, where a replica or Redis stands still meanwhile, some time after.
	ruleAgain rule = "events that were given out after they were durably acknowledged"
	// ruleCommitted: nor, flushed or not, after Kafka's commit had passed it; on its way it may be likewise.
	ruleCommitted rule = "events that were given out after Kafka's commit had passed them"
	// ruleOrder: with ordering by key an event is first read after all before it of its key were acknowledged by a client.
	ruleOrder rule = "events that were given out before those before them were acknowledged"
	// ruleAhead: neither the position nor Kafka's commit passes an event before it was acknowledged by a client.
	ruleAhead rule = "positions ahead of what was acknowledged"
	// ruleBack: a position is not lower than one that was answered before the question, unless Redis was flushed after that
	// one may have been stored.
	ruleBack rule = "positions that went back"
	// ruleBelow: and, flushed or not, it is not below what Kafka had for committed before the question.
	ruleBelow rule = "positions below Kafka's commit"
	// ruleGroup: an event is given out as of its own partition.
	ruleGroup rule = "events that were given out as of another partition"
	// ruleStranger: nothing else is given out.
	ruleStranger rule = "events that were given out and are not on the log"
)

// mistake is what breaks a rule.
type mistake struct {
	rule rule
	text string
}

// evidence is a logbook in the form that the rules ask for.
type evidence struct {
	*logbook
	said    map[string]moment   // when an event was first acknowledged by a client
	durable map[string][]proof  // acknowledgements of an event that were answered as durable
	copies  map[string]int      // how often an event is on the log
	lines   map[int][]post      // by partition, by offset
	floors  map[int][]committed // by partition: what Kafka had for committed, rising
	found   []mistake
}

// proof is an acknowledgement that was answered as durable.
type proof struct {
	said, answered moment // it may have been stored since it was first said, though it was answered only when said again
}

// post is a record, and how far acknowledgement was up to it.
type post struct {
	offset int64
	event  string
	said   moment // when the last of this and all before it was first acknowledged
	last   string // which that is
}

type committed struct {
	offset int64
	known  moment
}

// mistakes holds the logbook against the rules, once nothing is under way, and against what is on the log by then. An event
// that is there more than once, since Redis lost that it was published already, cannot be told from itself: of it only
// what is true of all copies together is asked.
func (l *logbook) mistakes(log map[place]string) []mistake {
	l.mu.Lock()
	defer l.mu.Unlock()
	e := &evidence{
		logbook: l, said: map[string]moment{}, durable: map[string][]proof{}, copies: map[string]int{},
		lines: map[int][]post{}, floors: map[int][]committed{},
	}
	for _, w := range l.words {
		for _, h := range slices.Concat(w.of, w.perhaps) {
			if at, ok := e.said[h.event]; !ok || w.sent < at {
				e.said[h.event] = w.sent
			}
		}
		for _, h := range w.of {
			if w.fate == fateDurable {
				e.durable[h.event] = append(e.durable[h.event], proof{h.said, w.answered})
			}
		}
	}
	for at, event := range log {
		e.copies[event]++
		e.lines[at.partition] = append(e.lines[at.partition], post{offset: at.offset, event: event})
	}
	for _, line := range e.lines {
		slices.SortFunc(line, func(a, b post) int { return int(a.offset - b.offset) })
		high, last := moment(0), ""
		for i := range line {
			if said := e.saidAt(line[i].event); said > high {
				high, last = said, line[i].event
			}
			line[i].said, line[i].last = high, last
		}
	}
	for _, c := range l.commits {
		for p, offset := range c.positions {
			if all := e.floors[p]; len(all) == 0 || all[len(all)-1].offset < offset {
				e.floors[p] = append(all, committed{offset, c.to})
			}
		}
	}
	e.checkLost(log)
	e.checkHanded(log)
	if l.ordered {
		e.checkOrder()
	}
	e.checkAhead(l.looks, "the position")
	e.checkAhead(l.commits, "Kafka's commit")
	e.checkBack()
	return e.found
}

func (e *evidence) wrong(r rule, format string, args ...any) {
	e.found = append(e.found, mistake{r, fmt.Sprintf(format, args...)})
}

func (e *evidence) saidAt(event string) moment {
	if at, ok := e.said[event]; ok {
		return at
	}
	return never
}

// flushed reports whether Redis lost everything in between, or may have.
func (e *evidence) flushed(from, to moment) bool {
	return slices.ContainsFunc(e.flushes, func(f interval) bool { return f.from < to && f.to > from })
}

// underWay reports whether an event may have been on its way from one replica to another from a moment on until it was
// taken out for a client.
func (e *evidence) underWay(from moment, h *handed) bool {
	const most = moment(ackTimeout)
	return !e.ordered && (h.since-from < most || slices.ContainsFunc(e.stills, func(s interval) bool { return s.from < h.read && s.to > from-most }))
}

func (e *evidence) checkLost(log map[place]string) {
	for id, p := range e.posts {
		if p.done && log[p.at] != id {
			e.wrong(ruleLost, "%s was acknowledged by the log at %v, where there is %q", id, p.at, log[p.at])
		}
	}
	for at, id := range log {
		if _, ok := e.said[id]; !ok {
			e.wrong(ruleLost, "%s at %v was never acknowledged", id, at)
		}
	}
}

func (e *evidence) checkHanded(log map[place]string) {
	where := map[string]place{}
	for at, id := range log {
		where[id] = at
	}
	for _, h := range e.handed {
		at, ok := where[h.event]
		if !ok {
			e.wrong(ruleStranger, "%s was given to %s", h.event, h.session)
			continue
		}
		if group := fmt.Sprintf("%s/%d", theStream, at.partition); h.group != group {
			e.wrong(ruleGroup, "%s was given to %s as of %s, and is of %s", h.event, h.session, h.group, group)
		}
		if e.copies[h.event] > 1 {
			continue
		}
		for _, w := range e.durable[h.event] {
			if w.answered < h.since && !e.flushed(w.said, h.read) && !e.underWay(w.answered, h) {
				e.wrong(ruleAgain, "%s at %v, acknowledged at %s and answered at %s, was given to %s not before %s (read at %s, attempt %d)",
					h.event, at, w.said, w.answered, h.session, h.since, h.read, h.attempt)
				break
			}
		}
		floors := e.floors[at.partition]
		i := sort.Search(len(floors), func(i int) bool { return floors[i].offset > at.offset })
		if i < len(floors) && floors[i].known < h.since && !e.underWay(floors[i].known, h) {
			e.wrong(ruleCommitted, "%s at %v was given to %s not before %s (read at %s, attempt %d), and %d was committed at %s",
				h.event, at, h.session, h.since, h.read, h.attempt, floors[i].offset, floors[i].known)
		}
	}
}

func (e *evidence) checkOrder() {
	first := map[string]*handed{}
	for _, h := range e.handed {
		if f := first[h.event]; f == nil || h.read < f.read {
			first[h.event] = h
		}
	}
	keys := map[string][]string{}
	for id, p := range e.posts {
		keys[p.key] = append(keys[p.key], id)
	}
	for _, key := range slices.Sorted(maps.Keys(keys)) {
		ids := keys[key]
		slices.SortFunc(ids, func(a, b string) int { return e.posts[a].n - e.posts[b].n })
		before, last := moment(0), ""
		for _, id := range ids {
			if h := first[id]; h != nil && before > h.read {
				e.wrong(ruleOrder, "%s was given to %s, which read it at %s, and %s was acknowledged at %s", id, h.session, h.read, last, before)
			}
			if said := e.saidAt(id); said > before {
				before, last = said, id
			}
		}
	}
}

// below is the record before a position.
func (e *evidence) below(partition int, position int64) (post, bool) {
	line := e.lines[partition]
	i := sort.Search(len(line), func(i int) bool { return line[i].offset >= position })
	if i == 0 {
		return post{}, false
	}
	return line[i-1], true
}

func (e *evidence) checkAhead(looks []look, what string) {
	for _, k := range looks {
		for p, position := range k.positions {
			if last, ok := e.below(p, position); ok && last.said > k.to {
				e.wrong(ruleAhead, "%s of partition %d was %d at %s, and %s before it was acknowledged at %s", what, p, position, k.to, last.last, last.said)
			}
		}
	}
}

// checkBack compares every answer with the highest one that had come before it was asked for. A position was not stored
// before the last event below it was acknowledged: if Redis was flushed before that and not since, it was not lost. The
// higher a position the later that is, so that the highest is the one to ask of.
func (e *evidence) checkBack() {
	byAnswer := slices.SortedFunc(slices.Values(e.looks), func(a, b look) int { return int(a.to - b.to) })
	byAsked := slices.SortedFunc(slices.Values(e.looks), func(a, b look) int { return int(a.from - b.from) })
	highest := map[int]int64{}
	seen := 0
	for _, k := range byAsked {
		for ; seen < len(byAnswer) && byAnswer[seen].to < k.from; seen++ {
			for p, position := range byAnswer[seen].positions {
				highest[p] = max(highest[p], position)
			}
		}
		for p, position := range k.positions {
			if high := highest[p]; position < high {
				last, ok := e.below(p, high)
				if ok && !e.flushed(last.said, k.to) {
					e.wrong(ruleBack, "the position of partition %d, asked for at %s, was %d after %d", p, k.from, position, high)
				}
			}
			floors := e.floors[p]
			n := sort.Search(len(floors), func(i int) bool { return floors[i].known >= k.from })
			if n > 0 && position < floors[n-1].offset {
				e.wrong(ruleBelow, "the position of partition %d, asked for at %s, was %d, and %d was committed at %s",
					p, k.from, position, floors[n-1].offset, floors[n-1].known)
			}
		}
	}
}

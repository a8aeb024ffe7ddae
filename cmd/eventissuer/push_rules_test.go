package main_test

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/eventissuer/eventissuer/broker"
	"github.com/eventissuer/eventissuer/internal/deadletters"
	"github.com/eventissuer/eventissuer/internal/webhook"
)

// pushRule is what a subscription with a sink promises.
type pushRule string

const (
	// pushLost: every event on the log that the filter matches, from where the live incarnation begins, was answered 2xx
	// or is in the dead letters; likewise all between the ends of a replay. An earlier incarnation promises nothing any
	// more: it was rewound or deleted.
	pushLost pushRule = "events that were neither delivered nor set aside"
	// pushOrder: with ordering by key an event first arrives when all before it in its partition with its key, from where
	// the incarnation begins, were answered 2xx or set aside, or come before it in the same request. The time of a dead
	// letter is that before it was written, by the same clock.
	pushOrder pushRule = "events that arrived before those before them were done"
	// pushID: a request's message id is that of its events' places in one incarnation of the subscription, so that all
	// attempts have the same, and different events never do. Where a replay was asked for twice, since the first answer was
	// lost, there may be an incarnation that nobody has heard of.
	pushID pushRule = "messages under another id than that of their events"
	// pushBeyond: nothing is sent of what lies before the beginning of its incarnation, or behind the end of its replay.
	pushBeyond pushRule = "events that were sent though they are not of the incarnation"
	// pushRepeats: up to any time, of a lane (an incarnation in a partition) at most 256 deliveries came again for each time
	// a replica was killed or stood still, or a broker went away, up to then. A delivery is one that was answered 2xx
	// to a sender that was still there.
	pushRepeats pushRule = "deliveries that were made again, and too many"
	// pushCause: and only if some of that, or the start of a replica, came between the one and the other, or had ended up
	// to so long before the first that what it led to may have come after it.
	pushCause pushRule = "deliveries that were made again without a cause"
	// pushSilence: nothing arrives more than silenceGrace after a deletion or a pause was answered, the latter until it is
	// resumed; where a replica stood still or a broker was away meanwhile, so long after the end of that. It is for
	// attempts under way, and for replicas to hear of it.
	pushSilence pushRule = "events that arrived at endpoints that were to get nothing"
	// pushSeen: what an endpoint sees of a single request: signatures, consent, filter.
	pushSeen pushRule = "requests that were wrong by themselves"
)

const (
	silenceGrace = 5 * time.Second
	causeGrace   = time.Minute
	laneRepeats  = 256
)

// pushEvidence is what all subscriptions have in common.
type pushEvidence struct {
	began    time.Time // of the logbook
	epoch    broker.Epoch
	log      map[place]string
	where    map[string][]place
	keys     map[string]string // of events
	troubles []trouble
}

// moment is a time in the logbook.
func (e *pushEvidence) moment(at time.Time) moment { return moment(at.Sub(e.began)) }

// silence is a time in which nothing is to arrive at an address.
type silence struct {
	path     string
	from, to moment // to is never for a deletion
}

// quiet notes that from now on nothing is to arrive at the newest address, loud that it may again.
func (h *hook) quiet() {
	now := h.book.now()
	h.mu.Lock()
	defer h.mu.Unlock()
	h.silences = append(h.silences, &silence{h.spans[len(h.spans)-1].path, now, never})
}

func (h *hook) loud() {
	now := h.book.now()
	h.mu.Lock()
	defer h.mu.Unlock()
	h.silences[len(h.silences)-1].to = now
}

// spot is an event's place in an incarnation.
type spot struct {
	life uuid.UUID
	at   place
}

// account is what became of each event in each incarnation.
type account struct {
	hook     *hook
	evidence *pushEvidence
	lives    map[uuid.UUID]life
	arrivals []arrival
	spots    [][]spot // of each arrival's events; nil: it is not known
	first    map[spot]int
	done     map[spot]moment
	again    map[uuid.UUID]map[int][]repeat // by life and partition
	letters  int
	silences []silence
}

// repeat is a delivery that was made again.
type repeat struct {
	spot          spot
	before, again moment
}

// account draws up what became of the events.
func (h *hook) account(e *pushEvidence, letters []deadletters.Letter) *account {
	c := &account{
		hook: h, evidence: e, lives: map[uuid.UUID]life{}, arrivals: h.journal(), first: map[spot]int{}, done: map[spot]moment{},
		again: map[uuid.UUID]map[int][]repeat{}, letters: len(letters),
	}
	h.mu.Lock()
	for id, l := range h.lives {
		c.lives[id] = *l
	}
	for _, s := range h.silences {
		c.silences = append(c.silences, *s)
	}
	h.mu.Unlock()
	slices.SortFunc(c.arrivals, func(a, b arrival) int { return cmp.Compare(a.read, b.read) })
	delivered := map[spot]moment{}
	for i := range c.arrivals {
		a := &c.arrivals[i]
		spots := c.identify(a)
		c.spots = append(c.spots, spots)
		for _, s := range spots {
			if _, ok := c.first[s]; !ok {
				c.first[s] = i
			}
			if !a.delivered() || a.cut {
				continue
			}
			if before, ok := delivered[s]; ok && before < a.read {
				if c.again[s.life] == nil {
					c.again[s.life] = map[int][]repeat{}
				}
				c.again[s.life][s.at.partition] = append(c.again[s.life][s.at.partition], repeat{s, before, a.read})
			} else if !ok || a.done < before {
				delivered[s] = a.done
			}
		}
	}
	c.done = delivered
	for _, l := range letters {
		life, err := uuid.Parse(l.Incarnation)
		if err != nil {
			continue
		}
		s := spot{life, place{int(l.Partition), l.Offset}}
		if at := e.moment(l.At); c.done[s] == 0 || at < c.done[s] {
			c.done[s] = at
		}
	}
	return c
}

// identify finds what the message id of an arrival is of.
func (c *account) identify(a *arrival) []spot {
	for id, l := range c.lives {
		if l.path != a.path {
			continue
		}
		if spots := c.places(id, a, nil); spots != nil {
			return spots
		}
	}
	return nil
}

// places goes through all places at which the events may be: one may be on the log more than once.
func (c *account) places(id uuid.UUID, a *arrival, so []spot) []spot {
	if n := len(so); n < len(a.events) {
		for _, at := range c.evidence.where[a.events[n]] {
			if n > 0 && (at.partition != so[0].at.partition || at.offset <= so[n-1].at.offset) {
				continue
			}
			if found := c.places(id, a, append(so, spot{id, at})); found != nil {
				return found
			}
		}
		return nil
	}
	offsets := make([]int64, len(so))
	for i, s := range so {
		offsets[i] = s.at.offset
	}
	if webhook.MessageID(id, c.evidence.epoch, int32(so[0].at.partition), offsets...) != a.message {
		return nil
	}
	return slices.Clone(so)
}

// due are the places that an incarnation goes through, in the log's order, by key.
func (c *account) due(l life) map[string][]place {
	all := map[string][]place{}
	for at, id := range c.evidence.log {
		key := c.evidence.keys[id]
		if c.hook.wants != nil && !c.hook.wants(key) || at.partition < len(l.start) && at.offset < l.start[at.partition] ||
			l.replay && (at.partition >= len(l.until) || at.offset >= l.until[at.partition]) {
			continue
		}
		all[key] = append(all[key], at)
	}
	for _, places := range all {
		slices.SortFunc(places, func(a, b place) int { return cmp.Or(a.partition-b.partition, cmp.Compare(a.offset, b.offset)) })
	}
	return all
}

// missing are the events that are not done, of the incarnations that still count.
func (c *account) missing() (all []string) {
	path := c.hook.newest().path
	for id, l := range c.lives {
		if !l.last && (!l.replay || l.path != path) {
			continue
		}
		for _, places := range c.due(l) {
			for _, at := range places {
				if _, ok := c.done[spot{id, at}]; !ok {
					all = append(all, fmt.Sprintf("%s at %v, in %s", c.evidence.log[at], at, c.of(id)))
				}
			}
		}
	}
	slices.Sort(all)
	return all
}

func (c *account) of(id uuid.UUID) string {
	l := c.lives[id]
	if l.replay {
		return fmt.Sprintf("replay %s of %s from %v until %v", id, l.path, l.start, l.until)
	}
	return fmt.Sprintf("life %s of %s from %v", id, l.path, l.start)
}

// mistakes holds the account against the rules.
func (c *account) mistakes() map[pushRule][]string {
	found := map[pushRule][]string{pushLost: c.missing(), pushOrder: c.disorder(), pushSilence: c.noise()}
	for i, spots := range c.spots {
		if a := c.arrivals[i]; spots == nil && !c.hook.doubtful {
			found[pushID] = append(found[pushID], fmt.Sprintf("%s at %s brought %v", a.message, a.path, a.events))
		}
		for _, s := range spots {
			l := c.lives[s.life]
			if p := s.at.partition; p < len(l.start) && s.at.offset < l.start[p] || l.replay && (p >= len(l.until) || s.at.offset >= l.until[p]) {
				found[pushBeyond] = append(found[pushBeyond], fmt.Sprintf("%s at %v, in %s", c.evidence.log[s.at], s.at, c.of(s.life)))
			}
		}
	}
	for id, lanes := range c.again {
		for p, all := range lanes {
			for i, r := range all {
				if allowed := laneRepeats * c.troublesBefore(r.again); i >= allowed {
					found[pushRepeats] = append(found[pushRepeats], fmt.Sprintf("%d of partition %d, in %s, at %s, where %d are allowed", i+1, p, c.of(id), r.again, allowed))
					break
				}
			}
			for _, r := range all {
				if !c.caused(r) {
					found[pushCause] = append(found[pushCause], fmt.Sprintf("%s at %v, in %s: answered 2xx at %s, and came at %s", c.evidence.log[r.spot.at], r.spot.at, c.of(id), r.before, r.again))
				}
			}
		}
	}
	c.hook.mu.Lock()
	found[pushSeen] = slices.Clone(c.hook.mistakes)
	c.hook.mu.Unlock()
	return found
}

// disorder finds what breaks pushOrder.
func (c *account) disorder() (found []string) {
	if !c.hook.ordered {
		return nil
	}
	for id, l := range c.lives {
		for key, places := range c.due(l) {
			for i, at := range places {
				first, ok := c.first[spot{id, at}]
				if !ok {
					continue
				}
				for _, before := range places[:i] {
					if before.partition != at.partition {
						continue
					}
					done, ok := c.done[spot{id, before}]
					if ok && done <= c.arrivals[first].read || slices.Contains(c.spots[first], spot{id, before}) {
						continue
					}
					found = append(found, fmt.Sprintf("%s at %v arrived at %s, in %s, and %s at %v of %s was done at %s", c.evidence.log[at], at, c.arrivals[first].read, c.of(id),
						c.evidence.log[before], before, key, map[bool]moment{true: done, false: never}[ok]))
					break
				}
			}
		}
	}
	return found
}

// noise finds what breaks pushSilence.
func (c *account) noise() (found []string) {
	for _, s := range c.silences {
		from := c.graced(s.from)
		for _, a := range c.arrivals {
			if a.path == s.path && a.read > from && a.read < s.to {
				found = append(found, fmt.Sprintf("%v arrived at %s, at %s, which was to get nothing from %s on (%s with the grace)", a.events, a.path, a.read, s.from, from))
			}
		}
	}
	return found
}

// graced is when everybody has heard of what was answered at a moment.
func (c *account) graced(m moment) moment {
	until := m + moment(silenceGrace)
	for grown := true; grown; {
		grown = false
		for _, t := range c.evidence.troubles {
			if t.what != trialPause && t.what != trialBroker || c.evidence.moment(t.from) > until {
				continue
			}
			if end := c.evidence.moment(t.to) + moment(silenceGrace); t.to.IsZero() || end > until {
				if until == never {
					continue
				}
				if until, grown = end, true; t.to.IsZero() {
					until = never
				}
			}
		}
	}
	return until
}

// troublesBefore counts what may cost an owner its lanes.
func (c *account) troublesBefore(m moment) (n int) {
	for _, t := range c.evidence.troubles {
		if t.what != trialStart && c.evidence.moment(t.from) < m {
			n++
		}
	}
	return n
}

// caused reports whether something explains a repeat.
func (c *account) caused(r repeat) bool {
	return slices.ContainsFunc(c.evidence.troubles, func(t trouble) bool {
		return c.evidence.moment(t.from) < r.again && (t.to.IsZero() || c.evidence.moment(t.to)+moment(causeGrace) > r.before)
	})
}

// verify holds what the endpoint saw against the rules.
func (h *hook) verify(t *testing.T, e *pushEvidence, letters []deadletters.Letter) {
	c := h.account(e, letters)
	found := c.mistakes()
	for _, rule := range slices.Sorted(maps.Keys(found)) {
		f := few{t: t, what: string(rule)}
		for _, text := range found[rule] {
			f.errorf("%s: %s", rule, text)
		}
		f.done()
	}
	answers, events, repeats := map[int]int{}, 0, 0
	for _, a := range c.arrivals {
		answers[a.status]++
		events += len(a.events)
	}
	for _, lanes := range c.again {
		for _, all := range lanes {
			repeats += len(all)
		}
	}
	t.Logf("%d lives, %d requests with %d events, answers %v, %d deliveries made again, %d dead letters", len(c.lives), len(c.arrivals), events, answers, repeats, c.letters)
	if answers[204] == 0 {
		t.Error("nothing was delivered, which shows nothing")
	}
}

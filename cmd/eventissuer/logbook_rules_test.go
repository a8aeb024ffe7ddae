package main_test

import (
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// scene makes up a logbook, step by step in the order of time, of one partition: 3.
type scene struct {
	*logbook
	log  map[place]string
	next int64
}

func newScene(ordered bool) *scene {
	return &scene{logbook: newLogbook(ordered), log: map[place]string{}}
}

// publish puts events of a key on the log, in order.
func (s *scene) publish(key string, ids ...string) {
	for n, id := range ids {
		s.posting(id, key, n)
		s.posted(id, s.append(id))
	}
}

func (s *scene) append(id string) place {
	at := place{3, s.next}
	s.next++
	s.log[at] = id
	return at
}

// give has a session read events one by one.
func (s *scene) give(to *sitting, ids ...string) {
	for _, id := range ids {
		to.read([]delivery{{event: id, group: theStream + "/3", cursor: id, attempt: 1}})
	}
}

// acknowledge has a session acknowledge all that it has.
func (s *scene) acknowledge(by *sitting, f fate) {
	s.answered(by.says(0, len(by.all)-1), f)
}

// done publishes, gives and acknowledges durably.
func (s *scene) done(to *sitting, key string, ids ...string) {
	s.publish(key, ids...)
	for _, id := range ids {
		s.give(to, id)
		s.answered(to.says(len(to.all)-1, len(to.all)-1), fateDurable)
	}
}

func (s *scene) look(position int64) { s.looked(s.now(), map[int]int64{3: position}) }

func (s *scene) commit(offset int64) { s.committed(s.now(), map[int]int64{3: offset}) }

// pass lets so much time pass that nothing is on its way any more.
func (s *scene) pass() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.last += 2 * moment(ackTimeout)
}

func (s *scene) lose() { _ = s.flush(func() error { return nil }) }

// byKey is before a rule that is broken with ordering by key alone.
const byKey = "by key: "

func TestLogbookFindsWhatBreaksItsRules(t *testing.T) {
	tests := []struct {
		name string
		play func(s *scene)
		want []rule
	}{
		{"all is well", func(s *scene) {
			a := s.sit("a")
			s.done(a, "k", "1", "2", "3")
			s.look(3)
			s.commit(3)
			s.look(3)
		}, nil},
		{"no client acknowledged an event", func(s *scene) {
			a := s.sit("a")
			s.publish("k", "1")
			s.give(a, "1")
		}, []rule{ruleLost}},
		{"a refused acknowledgement may have been stored", func(s *scene) {
			a := s.sit("a")
			s.publish("k", "1")
			s.give(a, "1")
			s.acknowledge(a, fateRefused)
		}, nil},
		{"what was given back may be acknowledged with the rest", func(s *scene) {
			a := s.sit("a")
			s.publish("k", "1")
			s.give(a, "1")
			a.returns(0, 0)
			s.acknowledge(a, fateDurable)
			s.give(s.sit("b"), "1") // but need not be
		}, nil},
		{"an event is not where the log said", func(s *scene) {
			a := s.sit("a")
			s.done(a, "k", "1")
			delete(s.log, place{3, 0})
			s.log[place{3, 1}] = "1"
		}, []rule{ruleLost}},
		{"a new session is given what is done", func(s *scene) {
			s.done(s.sit("a"), "k", "1")
			s.pass()
			s.give(s.sit("b"), "1")
		}, []rule{ruleAgain}},
		{"a new session is given what was done just before", func(s *scene) {
			s.done(s.sit("a"), "k", "1")
			s.give(s.sit("b"), "1")
		}, []rule{byKey + ruleAgain}},
		{"a new session is given what was done when a replica stood still", func(s *scene) {
			over := s.still()
			s.done(s.sit("a"), "k", "1")
			s.pass()
			over()
			s.give(s.sit("b"), "1")
		}, []rule{byKey + ruleAgain}},
		{"a new session is given what was done after a replica stood still", func(s *scene) {
			s.still()()
			s.pass()
			s.done(s.sit("a"), "k", "1")
			s.pass()
			s.give(s.sit("b"), "1")
		}, []rule{ruleAgain}},
		{"what is done was on its way", func(s *scene) {
			b := s.sit("b")
			s.done(s.sit("a"), "k", "1")
			s.give(b, "1")
		}, nil},
		{"what is done comes after what was published since", func(s *scene) {
			b := s.sit("b")
			s.done(s.sit("a"), "k", "1")
			s.pass()
			s.publish("other", "2")
			s.give(b, "2", "1")
			s.acknowledge(b, fateDurable)
		}, []rule{ruleAgain}},
		{"what is done comes with what was published since", func(s *scene) {
			b := s.sit("b")
			s.done(s.sit("a"), "k", "1")
			s.publish("other", "2")
			s.give(b, "1", "2")
			s.acknowledge(b, fateDurable)
		}, nil},
		{"what is done is in a page that was asked for since", func(s *scene) {
			b := s.sit("b")
			s.done(s.sit("a"), "k", "1")
			s.pass()
			b.asks()
			s.give(b, "1")
		}, []rule{ruleAgain}},
		{"what is done comes after an answer in band", func(s *scene) {
			b := s.sit("b")
			s.publish("other", "2")
			s.give(b, "2")
			s.done(s.sit("a"), "k", "1")
			s.pass()
			b.answeredInBand(b.says(0, 0), fateDurable)
			s.give(b, "1")
		}, []rule{ruleAgain}},
		{"an acknowledgement without an answer is no promise", func(s *scene) {
			a := s.sit("a")
			s.publish("k", "1")
			s.give(a, "1")
			s.acknowledge(a, fateUnknown)
			s.give(s.sit("b"), "1")
		}, nil},
		{"Redis was flushed since", func(s *scene) {
			s.done(s.sit("a"), "k", "1")
			s.lose()
			s.give(s.sit("b"), "1")
		}, nil},
		{"Redis was flushed before", func(s *scene) {
			s.lose()
			s.done(s.sit("a"), "k", "1")
			s.pass()
			s.give(s.sit("b"), "1")
		}, []rule{ruleAgain}},
		{"Redis was flushed before it was acknowledged again", func(s *scene) {
			s.done(s.sit("a"), "k", "1")
			s.lose()
			b := s.sit("b")
			s.give(b, "1")
			s.acknowledge(b, fateDurable)
			s.pass()
			s.give(s.sit("c"), "1")
		}, []rule{ruleAgain}},
		{"Redis was flushed before an acknowledgement was said again", func(s *scene) {
			a := s.sit("a")
			s.publish("k", "1")
			s.give(a, "1")
			s.acknowledge(a, fateUnknown)
			s.lose()
			s.acknowledge(a, fateDurable)
			s.pass()
			s.give(s.sit("b"), "1")
		}, nil},
		{"Kafka had committed it when Redis was flushed", func(s *scene) {
			s.done(s.sit("a"), "k", "1")
			s.commit(1)
			s.lose()
			s.pass()
			s.give(s.sit("b"), "1")
		}, []rule{ruleCommitted}},
		{"Kafka had committed what is before it when Redis was flushed", func(s *scene) {
			s.done(s.sit("a"), "k", "1", "2")
			s.commit(1)
			s.lose()
			s.give(s.sit("b"), "2")
		}, nil},
		{"an event is on the log twice", func(s *scene) {
			s.done(s.sit("a"), "k", "1")
			s.append("1")
			s.give(s.sit("b"), "1")
		}, nil},
		{"a successor is given too early", func(s *scene) {
			a := s.sit("a")
			s.publish("k", "1", "2")
			s.give(a, "1", "2")
			s.acknowledge(a, fateDurable)
		}, []rule{byKey + ruleOrder}},
		{"a successor is given first", func(s *scene) {
			a := s.sit("a")
			s.publish("k", "1", "2")
			s.give(a, "2", "1")
			s.acknowledge(a, fateDurable)
		}, []rule{byKey + ruleOrder}},
		{"a successor's successor is given too early", func(s *scene) {
			a, b := s.sit("a"), s.sit("b")
			s.publish("k", "1", "2", "3")
			s.give(a, "1")
			s.give(b, "3")
			s.acknowledge(a, fateUnknown)
			s.give(a, "2")
			s.acknowledge(a, fateDurable)
			s.acknowledge(b, fateDurable)
		}, []rule{byKey + ruleOrder}},
		{"the position passes what nobody acknowledged", func(s *scene) {
			a := s.sit("a")
			s.publish("k", "1")
			s.look(1)
			s.give(a, "1")
			s.acknowledge(a, fateDurable)
		}, []rule{ruleAhead}},
		{"Kafka's commit passes what nobody acknowledged", func(s *scene) {
			a := s.sit("a")
			s.publish("k", "1")
			s.give(a, "1")
			s.commit(1)
			s.acknowledge(a, fateDurable)
		}, []rule{ruleAhead}},
		{"a position goes back", func(s *scene) {
			s.done(s.sit("a"), "k", "1", "2")
			s.look(2)
			s.look(1)
		}, []rule{ruleBack}},
		{"a position that was asked for before is lower", func(s *scene) {
			a := s.sit("a")
			s.done(a, "k", "1")
			asked := s.now()
			s.done(a, "other", "2")
			s.look(2)
			s.looked(asked, map[int]int64{3: 1})
		}, nil},
		{"a position goes back after a flush", func(s *scene) {
			s.done(s.sit("a"), "k", "1", "2")
			s.look(2)
			s.lose()
			s.look(1)
		}, nil},
		{"a position that was stored after a flush goes back", func(s *scene) {
			a := s.sit("a")
			s.done(a, "k", "1")
			s.lose()
			s.done(a, "other", "2")
			s.look(2)
			s.look(1)
		}, []rule{ruleBack}},
		{"a position goes back below Kafka's commit after a flush", func(s *scene) {
			s.done(s.sit("a"), "k", "1", "2")
			s.look(2)
			s.commit(2)
			s.lose()
			s.look(1)
		}, []rule{ruleBelow}},
		{"an event is given out as of another partition", func(s *scene) {
			a := s.sit("a")
			s.publish("k", "1")
			a.read([]delivery{{event: "1", group: theStream + "/4", cursor: "1", attempt: 1}})
			s.acknowledge(a, fateDurable)
		}, []rule{ruleGroup}},
		{"an event is given out that is not on the log", func(s *scene) {
			a := s.sit("a")
			s.give(a, "1")
			s.acknowledge(a, fateDurable)
		}, []rule{ruleStranger}},
	}
	for _, tt := range tests {
		for _, ordered := range []bool{false, true} {
			t.Run(map[bool]string{true: "by key/", false: "unordered/"}[ordered]+tt.name, func(t *testing.T) {
				s := newScene(ordered)
				tt.play(s)
				found := map[rule]bool{}
				for _, m := range s.mistakes(s.log) {
					found[m.rule] = true
					t.Log(m.rule, ": ", m.text)
				}
				want := map[rule]bool{}
				for _, r := range tt.want {
					if r, alone := strings.CutPrefix(string(r), byKey); ordered || !alone {
						want[rule(r)] = true
					}
				}
				if diff := cmp.Diff(slices.Sorted(maps.Keys(want)), slices.Sorted(maps.Keys(found))); diff != "" {
					t.Errorf("-expected +found:\n%s", diff)
				}
			})
		}
	}
}

func TestLogbookNotesAFlushThatFailed(t *testing.T) {
	l := newLogbook(false)
	gone := errors.New("gone")
	if err := l.flush(func() error { return gone }); !errors.Is(err, gone) {
		t.Errorf("got %v, expected %v", err, gone)
	}
	if len(l.flushes) != 1 || l.flushes[0].from >= l.flushes[0].to {
		t.Errorf("noted %v, expected one interval", l.flushes)
	}
}

package main_test

import (
	"fmt"
	"maps"
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/eventissuer/eventissuer/broker"
	"github.com/eventissuer/eventissuer/internal/deadletters"
	"github.com/eventissuer/eventissuer/internal/webhook"
)

// pushScene makes up what an endpoint saw, step by step in the order of time, of one partition: 2.
type pushScene struct {
	*hook
	evidence *pushEvidence
	now      uuid.UUID // the live incarnation
	letters  []deadletters.Letter
	next     int64
	clock    moment
}

func newPushScene() *pushScene {
	s := &pushScene{
		hook: &hook{name: "h", ordered: true, book: newLogbook(false), lives: map[uuid.UUID]*life{}, spans: []*span{{path: "/h/0"}}},
		evidence: &pushEvidence{
			began: time.Now(), epoch: broker.Epoch{1}, log: map[place]string{}, where: map[string][]place{}, keys: map[string]string{},
		},
	}
	s.begin(0)
	return s
}

// begin makes another incarnation the live one.
func (s *pushScene) begin(from int64) {
	for _, l := range s.lives {
		l.last = false
	}
	s.now = uuid.New()
	s.lives[s.now] = &life{path: "/h/0", start: []int64{0, 0, from}, last: true}
}

func (s *pushScene) tick(d time.Duration) moment {
	s.clock += moment(d)
	return s.clock
}

// publish puts events of a key on the log, in order.
func (s *pushScene) publish(key string, ids ...string) {
	for _, id := range ids {
		at := place{2, s.next}
		s.next++
		s.evidence.log[at], s.evidence.keys[id] = id, key
		s.evidence.where[id] = append(s.evidence.where[id], at)
	}
}

// send has events arrive in one request, and be answered.
func (s *pushScene) send(status int, ids ...string) *arrival {
	var offsets []int64
	for _, id := range ids {
		offsets = append(offsets, s.evidence.where[id][0].offset)
	}
	a := &arrival{path: "/h/0", message: webhook.MessageID(s.now, s.evidence.epoch, 2, offsets...), events: ids, status: status}
	a.read, a.done = s.tick(time.Millisecond), s.tick(time.Millisecond)
	s.arrivals = append(s.arrivals, a)
	return a
}

// deliver has events arrive one by one, and be acknowledged.
func (s *pushScene) deliver(ids ...string) {
	for _, id := range ids {
		s.send(http.StatusNoContent, id)
	}
}

// bury sets an event aside.
func (s *pushScene) bury(id string) {
	s.letters = append(s.letters, deadletters.Letter{
		Incarnation: s.now.String(), Partition: 2, Offset: s.evidence.where[id][0].offset, At: s.evidence.began.Add(time.Duration(s.tick(time.Millisecond))),
	})
}

// trouble has something be done to the servers for so long.
func (s *pushScene) trouble(what trial, d time.Duration) {
	from := s.tick(time.Millisecond)
	s.evidence.troubles = append(s.evidence.troubles, trouble{
		what, s.evidence.began.Add(time.Duration(from)), s.evidence.began.Add(time.Duration(s.tick(d))),
	})
}

// silent has nothing be allowed at the address any more.
func (s *pushScene) silent() {
	s.silences = append(s.silences, &silence{"/h/0", s.tick(time.Millisecond), never})
}

func TestPushRulesFindWhatBreaksThem(t *testing.T) {
	many := make([]string, laneRepeats+1)
	for i := range many {
		many[i] = fmt.Sprint("e", i)
	}
	for name, test := range map[string]struct {
		play func(s *pushScene)
		want []pushRule
	}{
		"all is well": {func(s *pushScene) {
			s.publish("k", "1", "2")
			s.publish("l", "3")
			s.deliver("3", "1", "2")
		}, nil},
		"an event is missing": {func(s *pushScene) {
			s.publish("k", "1", "2")
			s.deliver("1")
		}, []pushRule{pushLost}},
		"an event was only refused": {func(s *pushScene) {
			s.publish("k", "1")
			s.send(http.StatusUnprocessableEntity, "1")
		}, []pushRule{pushLost}},
		"an event is in the dead letters": {func(s *pushScene) {
			s.publish("k", "1", "2")
			s.send(http.StatusUnprocessableEntity, "1")
			s.bury("1")
			s.deliver("2")
		}, nil},
		"an event came before the one before it was set aside": {func(s *pushScene) {
			s.publish("k", "1", "2")
			s.send(http.StatusUnprocessableEntity, "1")
			s.deliver("2")
			s.bury("1")
		}, []pushRule{pushOrder}},
		"the answer was not heard": {func(s *pushScene) {
			s.publish("k", "1")
			s.send(http.StatusNoContent, "1").cut = true
		}, []pushRule{pushLost}},
		"an event overtook another of its key": {func(s *pushScene) {
			s.publish("k", "1", "2")
			s.deliver("2", "1")
		}, []pushRule{pushOrder}},
		"a refused event overtook another of its key": {func(s *pushScene) {
			s.publish("k", "1", "2")
			s.send(http.StatusUnprocessableEntity, "2")
			s.deliver("1", "2")
		}, []pushRule{pushOrder}},
		"a key came in one request": {func(s *pushScene) {
			s.publish("k", "1", "2")
			s.send(http.StatusNoContent, "1", "2")
		}, nil},
		"the other attempt has another id": {func(s *pushScene) {
			s.publish("k", "1")
			s.send(http.StatusServiceUnavailable, "1").message = webhook.NewMessageID()
			s.deliver("1")
		}, []pushRule{pushID}},
		"an event has the id of another": {func(s *pushScene) {
			s.publish("k", "1", "2")
			s.deliver("1", "2")
			a := s.send(http.StatusNoContent, "1")
			a.events = []string{"2"}
		}, []pushRule{pushID}},
		"a rewound subscription begins where it is told": {func(s *pushScene) {
			s.publish("k", "1", "2", "3")
			s.deliver("1")
			s.begin(1)
			s.deliver("2", "3")
		}, nil},
		"a rewound subscription passes over an event": {func(s *pushScene) {
			s.publish("k", "1", "2")
			s.deliver("1", "2")
			s.begin(0)
			s.deliver("2")
		}, []pushRule{pushLost, pushOrder}},
		"a replay ends early": {func(s *pushScene) {
			s.publish("k", "1", "2", "3")
			s.deliver("1", "2", "3")
			s.lives[uuid.New()] = &life{path: "/h/0", replay: true, start: []int64{0, 0, 0}, until: []int64{0, 0, 1}}
		}, []pushRule{pushLost}},
		"a rewound subscription goes back further than it is told": {func(s *pushScene) {
			s.publish("k", "1", "2")
			s.deliver("1")
			s.begin(1)
			s.deliver("1", "2")
		}, []pushRule{pushBeyond}},
		"a replay goes on for ever": {func(s *pushScene) {
			s.publish("k", "1", "2")
			s.deliver("1", "2")
			live := s.now
			s.now = uuid.New()
			s.lives[s.now] = &life{path: "/h/0", replay: true, start: []int64{0, 0, 0}, until: []int64{0, 0, 1}}
			s.deliver("1", "2")
			s.now = live
		}, []pushRule{pushBeyond}},
		"a delivery came again for nothing": {func(s *pushScene) {
			s.publish("k", "1")
			s.deliver("1", "1")
		}, []pushRule{pushCause, pushRepeats}},
		"a delivery came again after a kill": {func(s *pushScene) {
			s.publish("k", "1")
			s.deliver("1")
			s.trouble(trialKill, time.Second)
			s.deliver("1")
		}, nil},
		"a delivery came again long after the last kill": {func(s *pushScene) {
			s.publish("k", "1")
			s.trouble(trialKill, time.Second)
			s.tick(2 * causeGrace)
			s.deliver("1", "1")
		}, []pushRule{pushCause}},
		"a delivery came again after its answer was not heard": {func(s *pushScene) {
			s.publish("k", "1")
			s.send(http.StatusNoContent, "1").cut = true
			s.deliver("1")
		}, nil},
		"too many deliveries came again": {func(s *pushScene) {
			s.ordered = false
			s.publish("k", many...)
			s.deliver(many...)
			s.trouble(trialKill, time.Second)
			s.deliver(many...)
		}, []pushRule{pushRepeats}},
		"as many came again as may": {func(s *pushScene) {
			s.ordered = false
			s.publish("k", many...)
			s.deliver(many...)
			s.trouble(trialKill, time.Second)
			s.deliver(many[1:]...)
		}, nil},
		"an event came after the deletion": {func(s *pushScene) {
			s.publish("k", "1", "2")
			s.deliver("1")
			s.silent()
			s.tick(2 * silenceGrace)
			s.deliver("2")
		}, []pushRule{pushSilence}},
		"an event was on its way at the deletion": {func(s *pushScene) {
			s.publish("k", "1", "2")
			s.deliver("1")
			s.silent()
			s.tick(silenceGrace / 2)
			s.deliver("2")
		}, nil},
		"a replica stood still at the deletion": {func(s *pushScene) {
			s.publish("k", "1", "2")
			s.deliver("1")
			s.silent()
			s.trouble(trialPause, 2*silenceGrace)
			s.deliver("2")
		}, nil},
		"a request was wrong by itself": {func(s *pushScene) { s.wrong("unsigned") }, []pushRule{pushSeen}},
	} {
		t.Run(name, func(t *testing.T) {
			s := newPushScene()
			test.play(s)
			found := s.account(s.evidence, s.letters).mistakes()
			maps.DeleteFunc(found, func(_ pushRule, texts []string) bool { return len(texts) == 0 })
			want := slices.Sorted(slices.Values(test.want))
			if diff := cmp.Diff(want, slices.Sorted(maps.Keys(found))); diff != "" {
				t.Errorf("%s\n%v", diff, found)
			}
		})
	}
}

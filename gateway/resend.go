package gateway

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/eventissuer/eventissuer/internal/attempts"
	"github.com/eventissuer/eventissuer/internal/catalog"
	"github.com/eventissuer/eventissuer/internal/fanout"
	"github.com/eventissuer/eventissuer/push"
)

// What one request to send events again may ask for, and may cost.
const (
	resentMost      = 100              // attempts, or letters
	resentEvents    = 1000             // events of these
	resentAtOnce    = 8                // requests under way of one call
	resendCalls     = 8                // calls under way on this replica
	resendTime      = 45 * time.Second // after which what has not begun is not sent: an answer has to be written in time
	comparedEventID = 1000             // bytes; attempts keep no more of longer ones
)

// spot is an event's place among a subscription's streams.
type spot struct {
	stream    string
	partition int32
	offset    int64
}

// sending is an event that is to be sent again, and what became of it.
type sending struct {
	at      push.Place
	attempt *push.Attempt
	err     error // why it was not sent
}

// errNotBegun tells that there was no time left for an event.
var errNotBegun = errors.New("the time for one request was used up before its turn came: ask for it again")

// beginResending admits a call that sends events again. It answers by itself, and returns false, where it does not.
func (g *Gateway) beginResending(w http.ResponseWriter, r *http.Request, s catalog.Subscription) (Push, bool) {
	deliveries, ok := g.deliverer(w, r)
	switch {
	case !ok:
		return nil, false
	case !s.Proven():
		writeProblem(w, r, unproven(s))
		return nil, false
	case !g.resends.TryAcquire(1):
		writeProblem(w, r, newProblem(kindOverloaded, "this replica is sending events again for others already: try again").retry(retrySoon))
		return nil, false
	}
	return deliveries, true
}

// resend sends events again: those of one partition in the order of the log, those of several at once.
func (g *Gateway) resend(ctx context.Context, deliveries Push, s catalog.Subscription, all []*sending) {
	byPartition := map[spot][]*sending{}
	for _, one := range all {
		of := spot{stream: one.at.Stream.Name, partition: one.at.Partition}
		byPartition[of] = append(byPartition[of], one)
	}
	ctx, cancel := context.WithTimeout(ctx, resendTime)
	defer cancel()
	slots := make(chan struct{}, min(resentAtOnce, max(1, s.Config.Concurrency)))
	var running sync.WaitGroup
	for _, some := range byPartition {
		slots <- struct{}{}
		running.Go(func() {
			defer func() { <-slots }()
			slices.SortFunc(some, func(a, b *sending) int { return cmp.Compare(a.at.Offset, b.at.Offset) })
			for _, one := range some {
				if ctx.Err() != nil {
					one.err = errNotBegun
					continue
				}
				one.attempt, one.err = deliveries.Resend(ctx, s.ID, one.at)
			}
		})
	}
	running.Wait()
}

// reasonOf says for an owner why an event was not sent.
func (s *sending) reasonOf() string {
	switch {
	case s.attempt != nil:
		return s.attempt.Reason
	case errors.Is(s.err, errNotBegun), errors.Is(s.err, push.ErrGone), errors.Is(s.err, push.ErrBlocked), errors.Is(s.err, push.ErrNotPushed):
		return s.err.Error()
	}
	return asProblem(deliveryProblem(s.err)).detail
}

// outcome is what became of it, as an attempt tells it.
func (s *sending) outcome() push.Attempt {
	if s.attempt != nil {
		return shown(s.attempt)
	}
	a := push.Attempt{
		Stream: s.at.Stream.Name, Partition: s.at.Partition, Offsets: []int64{s.at.Offset}, EventID: s.at.Event,
		At: time.Now(), Outcome: push.Cut, Reason: s.reasonOf(), Manual: true,
	}
	if errors.Is(s.err, push.ErrGone) {
		a.Outcome = push.Lost
	}
	return a
}

// repeated is an attempt that was made since it was asked to be repeated.
type repeated struct {
	of string // the attempt that was named
	is push.Attempt
}

// MarshalJSON implements json.Marshaler: the attempt, with one member more.
func (r repeated) MarshalJSON() ([]byte, error) {
	of, err := json.Marshal(r.of)
	if err != nil {
		return nil, err
	}
	is, err := r.is.MarshalJSON()
	if err != nil {
		return nil, err
	}
	return slices.Concat([]byte(`{"of":`), of, []byte(","), is[1:]), nil
}

// replayAttempts answers POST …:replay with attempts: the events of each are sent again, now.
func (g *Gateway) replayAttempts(w http.ResponseWriter, r *http.Request, s catalog.Subscription, ids []string) {
	if len(ids) > resentMost {
		writeProblem(w, r, newProblem(kindInvalidBody, "%d attempts are named: name 1 to %d", len(ids), resentMost).
			at(fieldError{Pointer: "/attempts", Message: "must be 1 to 100 ids of attempts"}))
		return
	}
	if g.deps.Attempts == nil {
		writeProblem(w, r, newProblem(kindNoSinks, "this server keeps no attempts"))
		return
	}
	found, err := g.deps.Attempts.Find(r.Context(), s.ID, ids)
	if errors.Is(err, attempts.ErrID) {
		err = newProblem(kindInvalidBody, "%s", err).at(fieldError{Pointer: "/attempts", Message: "must be ids of attempts, as GET …/attempts has them"})
	}
	if err != nil {
		g.refuseRead(w, r, attemptsProblem(err))
		return
	}
	deliveries, ok := g.beginResending(w, r, s)
	if !ok {
		return
	}
	defer g.resends.Release(1)

	known := map[string]*attempts.Attempt{}
	for i := range found {
		known[found[i].ID] = &found[i]
	}
	once := map[spot]*sending{} // however often it is named
	var all []*sending
	items := make([]func() repeated, 0, len(ids))
	for _, id := range ids {
		a, there := known[id]
		places, reason := g.placesOf(a, there)
		if reason != "" {
			items = append(items, func() repeated { return repeated{id, notResent(a, reason)} })
		}
		for _, at := range places {
			of := spot{at.Stream.Name, at.Partition, at.Offset}
			if once[of] == nil {
				once[of] = &sending{at: at}
				all = append(all, once[of])
			}
			items = append(items, func() repeated { return repeated{id, once[of].outcome()} })
		}
		if len(all) > resentEvents {
			writeProblem(w, r, newProblem(kindInvalidBody, "the attempts are of more than %d events: name fewer at a time", resentEvents).
				at(fieldError{Pointer: "/attempts", Message: "must be of 1,000 events at most"}))
			return
		}
	}
	g.resend(r.Context(), deliveries, s, all)
	answer := list[repeated]{Items: make([]repeated, len(items))}
	for i, item := range items {
		answer.Items[i] = item()
	}
	writeJSON(w, r, http.StatusOK, answer)
}

// placesOf gives the places of an attempt's events, or why it has none.
func (g *Gateway) placesOf(a *attempts.Attempt, there bool) (places []push.Place, reason string) {
	switch {
	case !there:
		return nil, "the attempt is no longer kept: its events may be sent again with since"
	case a.Stream == "":
		return nil, "the attempt was of no event of a stream"
	case a.Outcome == attempts.Lost:
		return nil, "the log has lost the events"
	}
	stream, ok := g.fanned(a.Stream)
	if !ok {
		return nil, "the stream is gone"
	}
	for i, offset := range a.Offsets {
		at := push.Place{Stream: stream, Partition: a.Partition, Offset: offset}
		if i == 0 && len(a.EventID) < comparedEventID {
			at.Event = a.EventID
		}
		places = append(places, at)
	}
	return places, ""
}

// fanned gives a stream as it is read.
func (g *Gateway) fanned(name string) (fanout.Stream, bool) {
	s, ok := g.deps.Catalog.Stream(name)
	return fanout.Stream{Name: s.Name, Topic: s.Topic, Wrap: string(s.Wrap)}, ok
}

// notResent tells of an attempt that cannot be repeated. was is nil where it is not known.
func notResent(was *attempts.Attempt, reason string) push.Attempt {
	a := push.Attempt{At: time.Now(), Outcome: push.Lost, Reason: reason, Manual: true}
	if was != nil {
		a.Stream, a.Partition, a.Offsets, a.EventID, a.EventType = was.Stream, was.Partition, was.Offsets, was.EventID, was.EventType
	}
	return a
}

package push

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/eventissuer/eventissuer/broker"
	"github.com/eventissuer/eventissuer/internal/event"
	"github.com/eventissuer/eventissuer/internal/fanout"
	"github.com/eventissuer/eventissuer/internal/webhook"
)

// Test sends an example event to a subscription's endpoint, and returns what became of it. It is no event of any stream.
// Errors: ErrNotPushed, ErrBlocked, ErrBusyHost, and that of opening the endpoint. It blocks for the endpoint.
func (e *Engine) Test(ctx context.Context, id string) (*Attempt, error) {
	spec, by, err := e.openWay(id)
	if err != nil {
		return nil, err
	}
	defer by.Close()
	if !e.asked.ask(hostOf(spec.URL)) {
		return nil, ErrBusyHost
	}
	own, err := e.ownEvent(id, TestType, map[string]string{"message": "This is a test of the subscription's endpoint. It stands for no event."})
	if err != nil {
		return nil, err
	}
	a := &Attempt{Subscription: id, EventID: own.ID(), EventType: own.Type(), Message: webhook.NewMessageID(), Number: 1, Manual: true}
	e.sendOne(ctx, spec, by, []*event.Event{own}, a)
	return a, nil
}

// openWay opens a way to a subscription's endpoint that may be sent to.
func (e *Engine) openWay(id string) (*Endpoint, Sender, error) {
	is := e.deps.Definitions.Subscription(id)
	switch {
	case is == nil:
		return nil, nil, ErrNotPushed
	case is.Unproven: // paused or disabled, its owner may want to try it
		return nil, nil, fmt.Errorf("%w: %s", ErrBlocked, is.Blocked)
	}
	return e.way(id)
}

// sendOne makes one request beside the lanes, and fills in what became of it.
func (e *Engine) sendOne(ctx context.Context, spec *Endpoint, by Sender, events []*event.Event, a *Attempt) {
	a.At = time.Now()
	sending, cancel := context.WithTimeout(ctx, spec.Timeout)
	defer cancel()
	mode := spec.Mode
	if mode == webhook.Batch {
		mode = webhook.Structured
	}
	r, err := e.request(spec, mode, events, a.Message, a.At)
	if err == nil {
		response, failed := by.Do(sending, r)
		judge(a, response, failed, ctx.Err() != nil)
	} else {
		a.Outcome, a.Reason = Failed, err.Error()
	}
	a.Took = time.Since(a.At)
	e.m.observe(a)
	if e.deps.Record != nil {
		e.deps.Record(a)
	}
}

// Place is an event's place in a stream.
type Place struct {
	Stream    fanout.Stream
	Partition int32
	Offset    int64
	// Event is the event's id: where another is there by now, the event is gone. "": whichever is there.
	Event string
	// Copy is the event's JSON, which is sent where the log no longer has it; nil: there is none.
	Copy []byte
}

// Resend sends one event again, out of order and beside what else is sent, and returns what became of it. Its message id is
// that of its delivery, so that a receiver that had it knows it. Errors are ErrNotPushed, ErrBlocked, that of opening the
// endpoint, those of reading the log, and ErrGone where neither the log nor the place has the event.
func (e *Engine) Resend(ctx context.Context, id string, at Place) (*Attempt, error) {
	spec, by, err := e.openWay(id)
	if err != nil {
		return nil, err
	}
	defer by.Close()
	is := e.deps.Definitions.Subscription(id)
	if is == nil {
		return nil, ErrNotPushed
	}
	own, message, err := e.retrieve(ctx, is, at)
	if err != nil {
		return nil, err
	}
	a := &Attempt{
		Subscription: id, Stream: at.Stream.Name, Partition: at.Partition, Offsets: []int64{at.Offset}, Number: 1, Manual: true,
		EventID: own.ID(), EventType: own.Type(), Message: message,
	}
	e.sendOne(ctx, spec, by, []*event.Event{own}, a)
	return a, nil
}

// retrieve reads the event at a place, or else takes the place's copy of it, and gives the id of its message.
func (e *Engine) retrieve(ctx context.Context, is *Subscription, at Place) (*event.Event, string, error) {
	entry, epoch, err := e.look(ctx, at)
	switch {
	case err == nil && (at.Event == "" || entry.Event.ID() == at.Event):
		return &entry.Event, messageOf(is, epoch, at), nil
	case err != nil && !errors.Is(err, ErrGone):
		return nil, "", err
	case at.Copy == nil:
		return nil, "", ErrGone
	}
	kept, err := event.Parse(at.Copy)
	if err != nil {
		return nil, "", fmt.Errorf("the copy of the event: %w", err)
	}
	if entry != nil || epoch == (broker.Epoch{}) { // the stream was made anew: the id is, or comes to be, another event's
		return &kept, webhook.NewMessageID(), nil
	}
	return &kept, messageOf(is, epoch, at), nil
}

// look reads what is at a place now, and in which life of the topic. The epoch is zero where there is no topic.
func (e *Engine) look(ctx context.Context, at Place) (*fanout.Entry, broker.Epoch, error) {
	hub, err := e.deps.Hubs.Open(ctx, at.Stream)
	if errors.Is(err, broker.ErrNoTopic) {
		return nil, broker.Epoch{}, ErrGone
	}
	if err != nil {
		return nil, broker.Epoch{}, err
	}
	p := &partition{engine: e, stream: &stream{Stream: at.Stream}, id: at.Partition, hub: hub, epoch: hub.Epoch()}
	if ends := hub.Latest(); int(at.Partition) >= len(ends) || at.Partition < 0 || at.Offset < 0 || at.Offset >= ends[at.Partition] {
		return nil, broker.Epoch{}, ErrGone // in this life of the topic it never was
	}
	entry, err := p.fetch(ctx, at.Offset)
	return entry, p.epoch, err
}

// messageOf is the id of the message by which the live incarnation delivers the event at a place.
func messageOf(is *Subscription, epoch broker.Epoch, at Place) string {
	var life uuid.UUID
	if len(is.Lives) > 0 {
		life = is.Lives[0].Incarnation
	}
	return webhook.MessageID(life, epoch, at.Partition, at.Offset)
}

// ConsumerGroup names the group to which the positions of a topic are committed: of each partition the lowest offset that is
// not done for all subscriptions.
func (e *Engine) ConsumerGroup(topic string) string { return e.cfg.Group + topic }

// Failing says why the endpoint of a subscription does not take its events at the moment, as far as this replica knows.
func (e *Engine) Failing(id string) (reason string, ok bool) {
	e.registry.Lock()
	s := e.subs[id]
	e.registry.Unlock()
	if s == nil {
		return "", false
	}
	s.mu.Lock()
	p := s.point
	s.mu.Unlock()
	if h := e.deps.Health; h != nil {
		defer func() {
			if ok {
				return
			}
			var since time.Time
			if since, reason, ok = h.Failing(s.live()); ok { // another replica says so
				reason = "since " + since.UTC().Format(time.RFC3339) + ": " + reason
			}
		}()
	}
	if p == nil {
		return "", false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.reason != "":
		return p.reason, true
	case p.breaker.isOpen:
		return p.why, true
	case p.throttled.After(time.Now()):
		return "the endpoint asks to be left alone until " + p.throttled.UTC().Format(time.RFC3339), true
	}
	return "", false
}

// FailingSince tells since when the endpoint of a subscription has only failed, over all replicas.
func (e *Engine) FailingSince(id string) (since time.Time, ok bool) {
	e.registry.Lock()
	s := e.subs[id]
	e.registry.Unlock()
	if s == nil || e.deps.Health == nil {
		return time.Time{}, false
	}
	since, _, ok = e.deps.Health.Failing(s.live())
	return since, ok
}

// Standing is how far a subscription is in one partition.
type Standing struct {
	Stream    string
	Partition int32
	Position  int64 // all below is done, or in Undone
	End       int64 // of the log, as far as this replica knows
	Undone    int
	Flying    int
}

// Standings tells how far a subscription is in the partitions that this replica owns.
func (e *Engine) Standings(id string) (all []Standing) {
	e.registry.Lock()
	s := e.subs[id]
	e.registry.Unlock()
	if s == nil {
		return nil
	}
	for _, r := range s.all() {
		if st := r.stream; !r.replay {
			st.mu.RLock()
			for _, p := range st.parts {
				p.mu.Lock()
				at := Standing{Stream: st.Name, Partition: p.id, Position: p.head}
				if l := p.lanes[r.chunk][r]; l != nil {
					at.Position, at.Undone, at.Flying = l.position(), len(l.items), l.flying
				}
				p.mu.Unlock()
				if ends := p.hub.Latest(); int(p.id) < len(ends) {
					at.End = max(ends[p.id], at.Position)
				}
				all = append(all, at)
			}
			st.mu.RUnlock()
		}
	}
	return all
}

package push

import (
	"context"
	"errors"
	"math/rand/v2"
	"net/http"
	"net/textproto"
	"strconv"
	"strings"
	"time"

	"github.com/eventissuer/eventissuer/internal/attempts"
	"github.com/eventissuer/eventissuer/internal/event"
	"github.com/eventissuer/eventissuer/internal/guard"
	"github.com/eventissuer/eventissuer/internal/webhook"
)

// Attempt is one request, and what became of it.
type Attempt = attempts.Attempt

// The outcomes.
const (
	Delivered = attempts.Delivered
	Refused   = attempts.Refused
	Failed    = attempts.Failed
	Gone      = attempts.Gone
	Cut       = attempts.Cut
	Lost      = attempts.Lost
)

// retryAfterMost bounds for how long an endpoint may ask to be left alone.
const retryAfterMost = time.Hour

// fly makes one attempt.
func (p *endpoint) fly(f flight) {
	part := f.lane.part
	defer part.flights.Done()
	p.send(f)
	part.rouse()
	p.pump()
}

// send makes the request, and takes what became of it.
func (p *endpoint) send(f flight) {
	part := f.lane.part
	a := &Attempt{
		Subscription: p.sub.id, Replay: f.lane.route.replay, Stream: part.stream.Name, Partition: part.id,
		EventID: f.entries[0].Event.ID(), EventType: f.entries[0].Event.Type(),
		At: time.Now(),
	}
	for _, e := range f.entries {
		a.Offsets = append(a.Offsets, e.Offset)
	}
	a.Message = webhook.MessageID(f.lane.route.life, part.epoch, part.id, a.Offsets...)
	ctx, cancel := context.WithTimeout(part.attempts, f.spec.Timeout)
	response, err := p.engine.post(ctx, f, a)
	cancel()
	a.Took = time.Since(a.At)
	wait := judge(a, response, err, part.attempts.Err() != nil)
	p.engine.m.observe(a)
	p.settle(f)
	p.take(f, a, wait)
	if p.engine.deps.Record != nil && a.Outcome != Cut {
		p.engine.deps.Record(a)
	}
}

// post sends the request of an attempt.
func (e *Engine) post(ctx context.Context, f flight, a *Attempt) (*guard.Response, error) {
	events := make([]*event.Event, len(f.entries))
	for i, entry := range f.entries {
		events[i] = &entry.Event
	}
	mode := f.spec.Mode
	if f.spec.Batch.Max > 1 {
		mode = webhook.Batch
	}
	r, err := e.request(f.spec, mode, events, a.Message, a.At)
	if err != nil {
		return nil, err
	}
	return f.by.Do(ctx, r)
}

// request makes a signed request.
func (e *Engine) request(spec *Endpoint, mode webhook.Mode, events []*event.Event, message string, at time.Time) (guard.Request, error) {
	h := make(http.Header, 8+len(spec.Headers))
	for name, value := range spec.Headers {
		h[textproto.CanonicalMIMEHeaderKey(name)] = []string{value}
	}
	body, err := webhook.Body(h, mode, events)
	if err != nil {
		return guard.Request{}, err
	}
	h["Webhook-Request-Origin"] = e.origin
	spec.Signer.Sign(h, message, at, body)
	return guard.Request{URL: spec.URL, Header: h, Body: body}, nil
}

// judge says what became of an attempt, and for how long the endpoint asks to be left alone.
func judge(a *Attempt, r *guard.Response, err error, stopping bool) (wait time.Duration) {
	if err != nil {
		a.Outcome, a.Reason = Failed, reasonOf(err)
		if stopping {
			a.Outcome = Cut
		}
		return 0
	}
	a.Status, a.Answer = r.Status, r.Body
	switch {
	case r.Status >= 200 && r.Status < 300:
		a.Outcome = Delivered
		return 0
	case r.Status == http.StatusGone:
		a.Outcome = Gone
	case r.Status < 400, r.Status >= 500, r.Status == http.StatusRequestTimeout, r.Status == http.StatusTooManyRequests:
		a.Outcome = Failed
	default:
		a.Outcome = Refused
	}
	a.Reason = "the endpoint answered " + strconv.Itoa(r.Status)
	if text := http.StatusText(r.Status); text != "" {
		a.Reason += " " + text
	}
	if r.Status < 400 {
		a.Reason += ": redirects are not followed"
	}
	if r.Status == http.StatusTooManyRequests || r.Status == http.StatusServiceUnavailable {
		wait = retryAfter(r.Header.Get("Retry-After"), a.At)
	}
	return wait
}

// reasonOf tells an owner why there was no answer.
func reasonOf(err error) string {
	if errors.Is(err, context.DeadlineExceeded) {
		return "the endpoint did not answer in time"
	}
	return err.Error()
}

// retryAfter reads the header in both of its forms (RFC 9110, 10.2.3).
func retryAfter(text string, now time.Time) time.Duration {
	text = strings.TrimSpace(text)
	var wait time.Duration
	if seconds, err := strconv.ParseInt(text, 10, 64); err == nil {
		wait = time.Duration(min(max(seconds, 0), int64(retryAfterMost/time.Second))) * time.Second
	} else if at, err := http.ParseTime(text); err == nil {
		wait = at.Sub(now)
	}
	return min(max(wait, 0), retryAfterMost)
}

// take takes what became of a flight into the lane, and then into what is known of the endpoint.
func (p *endpoint) take(f flight, a *Attempt, wait time.Duration) {
	l, part, now := f.lane, f.lane.part, time.Now()

	p.mu.Lock()
	counts := !p.breaker.isOpen // while it is open no event's schedule is used up
	opened, closed, row := false, false, 0
	if p.spec != nil && p.spec.URL == f.spec.URL { // what another endpoint answered says nothing of this one
		switch a.Outcome {
		case Delivered, Refused, Gone:
			closed = p.breaker.succeeded(now)
			p.window.answered(a.Took, p.flying+1, p.share(), now)
		case Failed:
			opened = p.breaker.failed(now, f.spec.Schedule)
			p.why = a.Reason
			row = p.breaker.row
			p.window.failed(now, a.Took)
		case Cut:
			p.breaker.trying = false
		}
		if wait > 0 {
			p.throttled = now.Add(wait)
		}
		p.look.Store(p.ahead())
	} else if f.trial {
		p.breaker.trying = false
	}
	p.mu.Unlock()

	part.mu.Lock()
	l.flying -= len(a.Offsets)
	if !l.dropped {
		for _, offset := range a.Offsets {
			if i := l.item(offset); i != nil && i.phase == phaseFlying {
				if counts && i.attempts >= len(f.spec.Schedule) && row > i.attempts && !f.spec.Block {
					// Its schedule has ended, and the endpoint has taken nothing else meanwhile: it is at fault, not the event.
					p.mu.Lock()
					p.breaker.open(now, f.spec.Schedule)
					p.mu.Unlock()
					opened, counts = true, false
				}
				part.ended(l, i, f.spec, a, counts, wait, now)
			}
		}
		l.moved()
		if !l.dropped {
			p.offer(l)
			if at := l.dueNext(); !at.IsZero() {
				p.engine.alarms.set(&l.alarm, at)
			}
		}
	}
	part.mu.Unlock()

	p.tell(a)
	if a.Outcome == Gone {
		p.end(l, a.Reason)
	}
	if opened || closed || wait > 0 || f.trial {
		p.stir()
	}
}

// ended takes what became of one event. mu is held.
func (p *partition) ended(l *lane, i *item, spec *Endpoint, a *Attempt, counts bool, wait time.Duration, now time.Time) {
	switch {
	case a.Outcome == Delivered:
		a.Number = i.attempts + 1
		l.done++
		l.remove(i)
		return
	case a.Outcome == Cut || a.Outcome == Gone, a.Outcome == Failed && !counts:
		i.phase = phaseWaiting
		l.idle++
		i.why = a.Reason
		a.Number = i.attempts + 1
	case a.Outcome == Refused && i.whole != nil && len(i.whole.items) > 1 && splits(a.Status):
		i.phase, i.single = phaseWaiting, true
		l.idle++
	default:
		i.attempts++
		i.why = a.Reason
		p.park(l, i, spec, a, wait, now)
	}
	if i.single {
		i.whole = nil
	}
	if i.phase != phaseBurying {
		l.release(i)
	}
}

// splits reports whether an answer may be about a batch as such: then each of its events is sent by itself.
func splits(status int) bool {
	return status == http.StatusBadRequest || status == http.StatusRequestEntityTooLarge || status == http.StatusUnprocessableEntity
}

// park has an event wait for its next attempt, or ends its schedule. mu is held.
func (p *partition) park(l *lane, i *item, spec *Endpoint, a *Attempt, wait time.Duration, now time.Time) {
	a.Number = i.attempts
	if i.attempts <= len(spec.Schedule) {
		i.phase, i.due = phaseParked, now.Add(max(jitter(spec.Schedule[i.attempts-1]), wait))
		a.Next = i.due
		return
	}
	if spec.Block {
		i.phase, i.due = phaseParked, now.Add(max(jitter(spec.Schedule[len(spec.Schedule)-1]), wait))
		if !i.stuck {
			i.stuck = true
			l.stuck++
		}
		a.Next = i.due
		return
	}
	i.phase, a.DeadLetter = phaseBurying, true
	p.bury(l, i)
}

// jitter spreads a step of a schedule, so that what failed together is not tried together again.
func jitter(d time.Duration) time.Duration { return d + rand.N(d/10+1) }

// tell says whether the endpoint works.
func (p *endpoint) tell(a *Attempt) {
	h := p.engine.deps.Health
	if h == nil {
		return
	}
	live := p.sub.live()
	switch a.Outcome {
	case Delivered:
		h.Succeeded(live)
	case Failed, Refused:
		h.Failed(p.sub.id, live, a.Reason)
	case Gone, Cut, Lost:
	}
}

// end ends the subscription of an endpoint that answered that it is gone.
func (p *endpoint) end(l *lane, reason string) {
	e, life := p.engine, l.route.life
	e.insist("a subscription whose endpoint is gone is not disabled yet; trying again", p.sub.id, func() error {
		return e.deps.Definitions.Disable(e.ctx, p.sub.id, life, reason)
	})
}

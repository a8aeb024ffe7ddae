package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/eventissuer/eventissuer/internal/clock"
)

// acknowledger tells the server what became of one session's deliveries. At most one request is on its way; what is said
// meanwhile is gathered for the next.
//
// A cursor acknowledges all that its session was given up to it. That is said only while all of it is done: once a
// delivery was given back, or where deliveries are done in any order, each row of them is named by its first and last.
type acknowledger struct {
	client  *client
	console *console
	path    string
	wake    chan struct{} // has a token when there may be something to tell
	told    chan struct{} // has a token when there may be room again
	over    chan struct{} // closed when the server takes no more of this session
	stopped chan struct{} // closed when run has returned

	mu      sync.Mutex
	exact   bool   // guarded by mu
	pending []span // guarded by mu
	closing bool   // guarded by mu: nothing will be added

	refusal *problem // owned by run: why the server takes no more
	trouble error    // owned by run: why the last request failed
}

// span is a row of deliveries that came one after another and ended alike.
type span struct {
	first, last int // their places in the session
	from, to    string
	returned    bool // given back instead of acknowledged
	delay       time.Duration
}

// joins tells whether a span goes on where the one before ends.
func (s span) joins(before span) bool {
	return s.first == before.last+1 && s.returned == before.returned && s.delay == before.delay
}

const (
	maxSpans    = 500              // in one request
	maxUntold   = 2000             // spans, before no more deliveries are taken
	askTimeout  = 30 * time.Second // of one request
	settleLimit = 10 * time.Second // of all requests at the end of a session
)

func newAcknowledger(c *client, o *console, path string, exact bool) *acknowledger {
	return &acknowledger{
		client: c, console: o, path: path, exact: exact,
		wake: make(chan struct{}, 1), told: make(chan struct{}, 1), over: make(chan struct{}), stopped: make(chan struct{}),
	}
}

// done says that nothing more is to happen to the nth delivery of the session.
func (a *acknowledger) done(n int, cursor string) {
	a.add(span{first: n, last: n, from: cursor, to: cursor})
}

// giveBack says that the nth delivery of the session is to come again.
func (a *acknowledger) giveBack(n int, cursor string, delay time.Duration) {
	a.add(span{first: n, last: n, from: cursor, to: cursor, returned: true, delay: delay})
}

func (a *acknowledger) add(s span) {
	a.mu.Lock()
	a.exact = a.exact || s.returned
	if last := len(a.pending) - 1; last >= 0 && s.joins(a.pending[last]) {
		a.pending[last].last, a.pending[last].to = s.last, s.to
	} else {
		a.pending = append(a.pending, s)
	}
	a.mu.Unlock()
	nudge(a.wake)
}

// nudge leaves a token, unless there is one.
func nudge(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// room waits until little enough is to be told for more to be taken. False: no more is to be taken.
func (a *acknowledger) room(ctx context.Context) bool {
	for {
		a.mu.Lock()
		n := len(a.pending)
		a.mu.Unlock()
		select {
		case <-ctx.Done():
			return false
		case <-a.over:
			return false
		default:
		}
		if n < maxUntold {
			return true
		}
		select {
		case <-ctx.Done():
		case <-a.over:
		case <-a.told:
		}
	}
}

// take is what the next request is to tell, the oldest first. Nothing of it and closing: all is told.
func (a *acknowledger) take() (spans []span, exact, closing bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	slices.SortFunc(a.pending, func(x, y span) int { return cmp.Compare(x.first, y.first) })
	var joined []span
	for _, s := range a.pending {
		if last := len(joined) - 1; last >= 0 && s.joins(joined[last]) {
			joined[last].last, joined[last].to = s.last, s.to
		} else {
			joined = append(joined, s)
		}
	}
	n := min(len(joined), maxSpans)
	a.pending = joined[n:]
	return joined[:n:n], a.exact, a.closing
}

// run tells until finish was called and all is told, the server takes no more, or ctx is done.
func (a *acknowledger) run(ctx context.Context) {
	defer close(a.stopped)
	for failures := 0; ; {
		spans, exact, closing := a.take()
		if len(spans) == 0 {
			if closing {
				return
			}
			select {
			case <-a.wake:
			case <-ctx.Done():
				return
			}
			continue
		}
		a.trouble = a.tell(ctx, spans, exact)
		if a.trouble == nil {
			failures = 0
			nudge(a.told)
			continue
		}
		a.mu.Lock()
		a.pending = append(spans, a.pending...)
		a.mu.Unlock()
		var no *problem
		if errors.As(a.trouble, &no) && no.final() {
			a.refusal = no
			close(a.over)
			return
		}
		if ctx.Err() != nil {
			return
		}
		wait := backoff(failures)
		if no != nil && no.after > 0 {
			wait = no.after
		}
		failures++
		a.console.note("not acknowledged yet: %s; trying again in %s", a.client.ended(a.trouble), wait.Round(10*time.Millisecond))
		if !clock.Pause(ctx, wait) {
			return
		}
	}
}

// tell makes one request. It returns once what it says is durable.
func (a *acknowledger) tell(ctx context.Context, spans []span, exact bool) error {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	_, err := a.client.do(ctx, http.MethodPost, a.path, saidOf(spans, exact))
	return err
}

// acknowledgement is the body of a request.
type acknowledgement struct {
	Cursors []string `json:"cursors,omitempty"`
	Ranges  []bounds `json:"ranges,omitempty"`
	Nacks   []bounds `json:"nacks,omitempty"`
}

type bounds struct {
	From  string `json:"from"`
	To    string `json:"to"`
	Delay string `json:"delay,omitempty"`
}

func saidOf(spans []span, exact bool) acknowledgement {
	var said acknowledgement
	for _, s := range spans {
		switch {
		case s.returned:
			said.Nacks = append(said.Nacks, bounds{s.from, s.to, s.delay.String()})
		case exact:
			said.Ranges = append(said.Ranges, bounds{From: s.from, To: s.to})
		default:
			said.Cursors = []string{s.to}
		}
	}
	return said
}

// finish waits until all that was said is told, for as long as ctx lasts and the server does not refuse. Nothing may be
// added from here on. The error says how much was not told, and why: those deliveries come again.
func (a *acknowledger) finish(ctx context.Context, stop context.CancelFunc) error {
	a.mu.Lock()
	a.closing = true
	a.mu.Unlock()
	nudge(a.wake)
	late := false
	select {
	case <-a.stopped:
	case <-ctx.Done():
		stop()
		<-a.stopped
		late = true
	}
	untold := 0
	for _, s := range a.pending {
		if !s.returned {
			untold += s.last - s.first + 1
		}
	}
	if untold == 0 {
		return nil
	}
	why := a.client.ended(a.trouble)
	if late && (a.trouble == nil || errors.Is(a.trouble, context.Canceled)) {
		why = "the server did not answer in time"
	}
	return fmt.Errorf("%d events are dealt with but could not be acknowledged, and come again: %s", untold, why)
}

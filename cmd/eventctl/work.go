package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"time"

	"github.com/eventissuer/eventissuer/internal/clock"
)

// working is what is done with a subscription's events besides printing.
type working struct {
	Exec            string        `placeholder:"CMD" help:"With --subscription: hand each event to this shell command instead of printing it; acknowledge it when the command ends with 0, else give it back."`
	ExecConcurrency int           `name:"exec-concurrency" default:"1" placeholder:"N" help:"Commands that may run at a time (${default})."`
	RetryDelay      time.Duration `name:"retry-delay" default:"5s" help:"How long an event whose command failed stays away before it comes again (${default})."`
	Grace           time.Duration `default:"30s" help:"How long commands that run may go on after Ctrl-C (${default})."`
}

// What --exec-concurrency and --retry-delay may be.
const (
	maxConcurrency = 1000
	maxRetryDelay  = 12 * time.Hour
)

func (w *working) check(r reading) error {
	switch {
	case w.ExecConcurrency < 1 || w.ExecConcurrency > maxConcurrency:
		return &usageError{fmt.Sprintf("--exec-concurrency %d: expected 1 to %d", w.ExecConcurrency, maxConcurrency)}
	case w.RetryDelay < 0 || w.RetryDelay > maxRetryDelay:
		return &usageError{fmt.Sprintf("--retry-delay %s: expected 0s to %s", w.RetryDelay, maxRetryDelay)}
	case w.Exec != "" && (r.Pretty || r.Envelope):
		return &usageError{"--exec gets the events instead of standard output: leave out --pretty and --envelope"}
	}
	return nil
}

// work takes the events of a subscription, which is given by its id or its name.
func (w *working) work(ctx context.Context, c *client, o *console, name string, r reading) error {
	if err := w.check(r); err != nil {
		return err
	}
	sub, err := c.subscription(ctx, name)
	if err != nil {
		return err
	}
	p := &worker{
		client: c, console: o, path: subscriptionPath(sub.ID), maxEvent: r.MaxEvent, idle: r.IdleTimeout, left: r.Count,
		printer: &printer{out: o.out, pretty: r.Pretty, envelope: r.Envelope, color: o.terminals.out},
		options: *w,
	}
	if w.Exec != "" {
		p.commander = &commander{console: o, line: w.Exec, subscription: sub.ID, slots: make(chan struct{}, w.ExecConcurrency)}
	}
	return p.run(ctx)
}

// worker takes a subscription's events over any number of sessions. What it acknowledges was printed, or its command
// ended with 0.
type worker struct {
	client    *client
	console   *console
	path      string // of the subscription
	maxEvent  int
	idle      time.Duration
	options   working
	printer   *printer
	commander *commander // nil: events are printed

	left  int   // events until the end; 0: no end
	done  bool  // the count is reached
	final error // why not to come back
}

// run takes events until ctx is done (which is no error), the count is reached, or there is no reason to come back.
func (w *worker) run(ctx context.Context) error {
	for failures := 0; ; {
		got, err := w.session(ctx)
		if w.done || w.final != nil || ctx.Err() != nil {
			return w.final
		}
		if got.lines > 0 {
			failures = 0
		}
		wait := backoff(failures)
		var no *problem
		switch {
		case errors.As(err, &no) && no.after > 0:
			wait = no.after + rand.N(no.after/4+1)
		case got.drained:
			wait = got.wait
		}
		failures++
		w.console.note("%s; coming back in %s", w.client.ended(err), wait.Round(10*time.Millisecond))
		if !clock.Pause(ctx, wait) {
			return nil
		}
	}
}

// session opens a session and takes what it is given. It returns once nothing of it runs any more and what was done is
// acknowledged, or can no longer be. The connection stays open until then: without it, the server would give to others
// what is about to be acknowledged.
func (w *worker) session(ctx context.Context) (received, error) {
	conn, cut := context.WithCancelCause(context.WithoutCancel(ctx))
	defer cut(nil)
	opened := context.AfterFunc(ctx, func() { cut(context.Canceled) })
	body, err := w.open(conn, cut)
	opened()
	if err != nil {
		if final(err) {
			w.final = err
		}
		return received{}, err
	}
	defer func() { _ = body.Close() }()

	r := newReceiver(w)
	go r.run(conn, body)
	acks := newAcknowledger(w.client, w.console, w.path+"/cursors", w.options.ExecConcurrency > 1)
	telling, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	go acks.run(telling)

	failure := w.take(ctx, r, acks)
	settling, cancel := context.WithTimeout(telling, settleLimit)
	defer cancel()
	untold := acks.finish(settling, stop)
	cut(nil)
	<-r.ended

	last := w.done || ctx.Err() != nil
	switch {
	case failure != nil:
		w.final = failure
	case acks.refusal != nil && final(acks.refusal):
		w.final = acks.refusal
	case acks.refusal == nil && untold != nil && last:
		w.final, untold = untold, nil
	case r.final != nil && !last:
		w.final = r.final
	}
	if untold != nil {
		w.console.note("%v", untold)
	}
	if acks.refusal != nil {
		return r.received, acks.refusal
	}
	return r.received, r.err
}

// open begins a session.
func (w *worker) open(ctx context.Context, cut context.CancelCauseFunc) (io.ReadCloser, error) {
	req, err := w.client.request(ctx, http.MethodGet, w.path+"/events", ndjson, nil)
	if err != nil {
		return nil, err
	}
	body := &patientBody{idle: w.idle, timer: time.AfterFunc(w.idle, func() { cut(errIdle) })}
	if w.idle <= 0 {
		body.timer.Stop()
	}
	resp, err := w.client.http.Do(req)
	body.timer.Stop()
	switch {
	case err == nil:
	case errors.Is(context.Cause(ctx), errIdle):
		return nil, errIdle
	default:
		return nil, w.client.unreachable(err)
	}
	if err := w.client.streaming(resp, ndjson); err != nil {
		_ = resp.Body.Close()
		return nil, err
	}
	body.ReadCloser = resp.Body
	return body, nil
}

const ndjson = "application/x-ndjson"

// patientBody ends a connection on which nothing comes while somebody listens.
type patientBody struct {
	io.ReadCloser
	idle  time.Duration
	timer *time.Timer
}

// Read implements io.Reader.
func (b *patientBody) Read(p []byte) (int, error) {
	if b.idle > 0 {
		b.timer.Reset(b.idle)
		defer b.timer.Stop()
	}
	return b.ReadCloser.Read(p)
}

// take prints what a session is given, or hands it to commands, until ctx is done, the count is reached, or the session
// is over. No command runs when it returns. Only what makes it senseless to go on is an error.
func (w *worker) take(ctx context.Context, r *receiver, acks *acknowledger) error {
	if w.commander == nil {
		for n := 1; !w.done; n++ {
			d, ok := r.next(ctx, acks)
			if !ok {
				break
			}
			if err := w.printer.delivery(d); err != nil {
				return err
			}
			acks.done(n, d.Cursor)
			w.count()
		}
		return nil
	}
	taking, enough := context.WithCancelCause(ctx)
	defer enough(nil)
	running, kill := context.WithCancel(context.WithoutCancel(ctx))
	defer kill()
	for n := 1; !w.done; n++ {
		d, ok := r.next(taking, acks)
		// What has not begun when the connection ends is left to the next session. One is begun in any case, or a
		// connection that never lasts would bring nothing forward.
		if !ok || n > 1 && r.lost() {
			break
		}
		started := w.commander.start(taking, running, acks.over, d, func(err error) {
			w.settle(running, acks, n, d, err)
			if unrunnable(err) {
				enough(&usageError{fmt.Sprintf("--exec %q cannot be run (%v): nothing is lost, the event comes again", w.options.Exec, err)})
			}
		})
		if !started {
			break
		}
		w.count()
	}
	w.commander.wait(ctx, w.options.Grace, kill)
	var usage *usageError
	if errors.As(context.Cause(taking), &usage) {
		return usage
	}
	return nil
}

// count counts an event that was taken.
func (w *worker) count() {
	if w.left > 0 {
		w.left--
		w.done = w.left == 0
	}
}

// settle says what became of the nth delivery, whose command has ended.
func (w *worker) settle(running context.Context, acks *acknowledger, n int, d delivery, err error) {
	switch {
	case err == nil:
		acks.done(n, d.Cursor)
	case running.Err() != nil:
		w.console.note("the command was stopped at %s: it comes again", d)
		acks.giveBack(n, d.Cursor, 0)
	default:
		w.console.note("the command failed at %s: %v; it comes again in %s, or becomes a dead letter", d, err, w.options.RetryDelay)
		acks.giveBack(n, d.Cursor, w.options.RetryDelay)
	}
}

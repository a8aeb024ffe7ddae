package main

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/eventissuer/eventissuer/internal/cursor"
	"github.com/eventissuer/eventissuer/session"
)

// errInterrupted is why the server stops where a person at a terminal wants it to.
var errInterrupted = errors.New("interrupted")

// drainer sends the sessions elsewhere: when an operator asks for it, after which the process stays, so that what it
// still does can be looked at; and before a stop. Its methods may be called concurrently.
type drainer struct {
	// static
	sessions  *session.Server
	consumers *cursor.Consumers
	timeout   time.Duration
	log       *slog.Logger

	mu     sync.Mutex
	final  bool               // the server is stopping; guarded by mu
	cancel context.CancelFunc // of what begin started; nil where it did not; guarded by mu
	done   chan struct{}      // closed when that has ended; guarded by mu
}

// begin begins to send the sessions away, and returns at once.
func (d *drainer) begin() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.cancel != nil || d.final {
		return // asked before
	}
	ctx, cancel := context.WithTimeout(context.Background(), d.timeout)
	done := make(chan struct{})
	d.cancel, d.done = cancel, done
	d.log.Info("an operator drains this replica: its sessions are sent elsewhere", "drainTimeout", d.timeout)
	go func() {
		defer close(done)
		if err := d.sessions.Drain(ctx); errors.Is(err, context.DeadlineExceeded) {
			d.log.Warn("some sessions did not end within the drain's time", "sessions", d.sessions.Count(), "drainTimeout", d.timeout)
		}
	}()
}

// undo takes sessions again. It returns false where the server is stopping. Who was told to leave leaves.
func (d *drainer) undo() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.final {
		return false
	}
	if d.cancel == nil {
		return true // nobody asked for a drain
	}
	d.cancel()
	<-d.done
	d.cancel, d.done = nil, nil
	d.sessions.Resume()
	d.log.Info("this replica takes sessions again")
	return true
}

// drained tells whether an operator sent the sessions away.
func (d *drainer) drained() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.cancel != nil
}

// outcome is what became of the sessions at a stop.
type outcome struct{ sent, cut int }

// end sends all sessions away, within the drain's time, and is the last that is done with them. For the lame-duck time
// it only waits: whoever asks /readyz learns that this replica goes away, and sends nobody here any more, before those
// who are here are told to come back, and before connections are refused.
func (d *drainer) end(lameDuck time.Duration) outcome {
	ctx, cancel := context.WithTimeout(context.Background(), d.timeout)
	defer cancel()
	d.mu.Lock()
	d.final = true
	drained := d.cancel != nil
	d.mu.Unlock()
	if lameDuck = min(lameDuck, d.timeout/2); lameDuck > 0 && !drained {
		wait := time.NewTimer(lameDuck)
		defer wait.Stop()
		<-wait.C
	}
	result := outcome{sent: d.sessions.Count()}
	if err := d.sessions.Drain(ctx); err != nil {
		result.cut = d.sessions.Count()
		d.log.Warn("some sessions did not end within the drain's time and are cut", "sessions", result.cut, "drainTimeout", d.timeout)
	}
	result.sent = max(0, result.sent-result.cut)
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.cancel != nil {
		d.cancel()
		<-d.done
	}
	// What polls confirmed is saved by a timer, which is about to end.
	if err := d.consumers.Flush(ctx); err != nil {
		d.log.Warn("some consumers could not be saved: a little comes to them again", "error", err)
	}
	return result
}

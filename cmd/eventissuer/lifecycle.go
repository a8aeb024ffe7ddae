package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
)

// lifecycle runs the parts of the server: each is started after what it needs, and stopped before it, one by one.
// The first part that fails, or that ends without having been told to, is the reason to stop all. It is used by one
// goroutine.
type lifecycle struct {
	log    *slog.Logger
	group  *errgroup.Group
	failed <-chan struct{} // closed when a part has failed; the others outlive it, for an orderly stop
	cause  func() error    // why it has
	parts  []*part
}

type part struct {
	name string
	told atomic.Bool   // it was told to stop
	stop func()        // tells it to
	done chan struct{} // closed when it has ended
	must bool          // what it has to do last is done, however long that takes
}

func newLifecycle(log *slog.Logger) *lifecycle {
	group, ended := errgroup.WithContext(context.Background())
	return &lifecycle{log: log, group: group, failed: ended.Done(), cause: func() error { return context.Cause(ended) }}
}

// run starts a part that goes on until its context ends.
func (l *lifecycle) run(name string, run func(ctx context.Context) error) {
	ctx, cancel := context.WithCancel(context.Background())
	l.start(name, func() error { defer cancel(); return run(ctx) }, cancel)
}

// start starts a part that goes on until stop is called.
func (l *lifecycle) start(name string, run func() error, stop func()) *part {
	p := &part{name: name, stop: stop, done: make(chan struct{})}
	l.parts = append(l.parts, p)
	l.group.Go(func() error {
		defer close(p.done)
		err := run()
		if p.told.Load() && (err == nil || errors.Is(err, context.Canceled)) {
			return nil
		}
		if err == nil {
			err = errors.New("ended by itself")
		}
		return fmt.Errorf("%s: %w", name, err)
	})
	return p
}

// closing adds something that only has to be closed, or done, at its turn of the stop.
func (l *lifecycle) closing(name string, closeIt func() error) *part {
	stop := make(chan struct{})
	return l.start(name, func() error { <-stop; return closeIt() }, func() { close(stop) })
}

// lateTime is how long a part may still take once the time for all is over.
const lateTime = 100 * time.Millisecond

// stop ends all parts, the last one first, and returns the first failure of any. Where they take longer than patience together, as
// those do that have something to tell a Kafka or a Redis that does not answer, the rest is left under way: the process ends, and
// whatever comes after it must do with what was told, as after a crash.
func (l *lifecycle) stop(patience time.Duration) error {
	deadline := time.Now().Add(patience)
	var left []string
	for i := len(l.parts) - 1; i >= 0; i-- {
		p := l.parts[i]
		begin := time.Now()
		p.told.Store(true)
		p.stop()
		var late <-chan time.Time
		if !p.must {
			late = time.After(max(time.Until(deadline), lateTime))
		}
		select {
		case <-p.done:
			l.log.Debug("stopped", "part", p.name, "took", time.Since(begin))
		case <-late:
			left = append(left, p.name)
		}
	}
	if len(left) == 0 {
		return l.group.Wait()
	}
	l.log.Warn("not all could be ended in time: what was not written is as after a crash", "parts", left)
	if err := l.cause(); err != nil && !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

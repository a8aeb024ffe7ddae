package loadtest

import (
	"context"
	"errors"
	"math"
	"sync"
	"time"
)

// course is how a run goes: what it is doing, what was in each second, and who watches that. It is owned by the goroutine that
// leads the run, which has it look as it waits.
type course struct {
	run, scenario string
	watch         func(Progress) // nil: nobody watches
	publishers    []*publishers
	parties       []party  // nobody, where there are publishers alone
	measured      []string // what each measured process is, for those who watch
	every         time.Duration
	ask           func(recent bool) error // brings groups up to date, with what came since it was last asked for that; nil: there are none

	groups   []groupState // as parties, as they were when they were last asked
	expected uint64       // deliveries, once nothing is published any more; 0: that is not known
	phase    phase
	series   series
	next     time.Time // when the next second is taken
}

// phase is what a run is doing.
type phase struct {
	name  string
	began time.Time
	of    time.Duration // how long it is to take; 0: nobody knows
}

// forever is for what ends by itself.
const forever = time.Duration(math.MaxInt64)

// enter begins a phase.
func (c *course) enter(name string, of time.Duration) { c.phase = phase{name, time.Now(), of} }

// look brings everything up to date, and takes a second where one has passed.
func (c *course) look() error {
	now := time.Now()
	second := !now.Before(c.next)
	if c.ask != nil {
		if err := c.ask(second); err != nil {
			return err
		}
	}
	if !second {
		return nil
	}
	first := c.next.IsZero()
	if c.next = c.next.Add(time.Second); !c.next.After(now) { // it began, or was held up
		c.next = now.Add(time.Second)
	}
	if first {
		c.series.processes(now)
		c.series.before.groups = make([]uint64, len(c.groups))
		return nil
	}
	if err := c.series.add(now, c.publishers, c.groups); err != nil {
		return err
	}
	c.tell("")
	return nil
}

// within looks until a condition holds, and says whether it came true in time; an error is the end of ctx, or of those who are
// asked.
func (c *course) within(ctx context.Context, timeout time.Duration, cond func() bool) (bool, error) {
	deadline := time.Now().Add(timeout)
	for {
		if err := c.look(); err != nil {
			return false, err
		}
		if cond() {
			return true, nil
		}
		left := time.Until(deadline)
		if left <= 0 {
			return false, nil
		}
		if !wait(ctx, min(left, c.every)) {
			return false, ctx.Err()
		}
	}
}

// pass is within with nothing to wait for but time.
func (c *course) pass(ctx context.Context, d time.Duration) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	_, err := c.within(ctx, d, func() bool { return false })
	return err
}

// until looks once a second, and returns as soon as over is closed, or a time has passed. It says whether over is closed.
func (c *course) until(ctx context.Context, timeout time.Duration, over <-chan struct{}) (bool, error) {
	deadline := time.NewTimer(timeout)
	defer deadline.Stop()
	for {
		if err := c.look(); err != nil {
			return false, err
		}
		next := time.NewTimer(time.Until(c.next))
		select {
		case <-over:
			next.Stop()
			return true, nil
		case <-deadline.C:
			next.Stop()
			return closed(over), nil
		case <-ctx.Done():
			next.Stop()
			return closed(over), ctx.Err()
		case <-next.C:
		}
	}
}

// during looks once a second while fn runs, and returns its error. The context that fn is given ends with ctx, and where nobody can
// look any more.
func (c *course) during(ctx context.Context, fn func(ctx context.Context) error) error {
	w := begin(ctx, fn)
	_, err := c.until(context.WithoutCancel(ctx), forever, w.over)
	if err != nil {
		w.stop()
	}
	return errors.Join(w.wait(), err)
}

// live is how many connections there are, and how many there will never be again.
func (c *course) live() (live, stopped int) {
	for _, g := range c.groups {
		live += g.Live
		stopped += g.Stopped
	}
	return live, stopped
}

func (c *course) wanted() int {
	n := 0
	for _, p := range c.parties {
		n += p.wanted
	}
	return n
}

// why is the last failure of any connection.
func (c *course) why() string {
	for _, g := range c.groups {
		if g.Why != "" {
			return g.Why
		}
	}
	return ""
}

// work is something that runs beside the goroutine that leads a run.
type work struct {
	stop context.CancelFunc // has it end
	over chan struct{}      // closed once it has
	err  error              // once it has
}

// begin has functions run beside the caller, who is to call wait.
func begin(ctx context.Context, all ...func(ctx context.Context) error) *work {
	ctx, stop := context.WithCancel(ctx)
	w := &work{stop: stop, over: make(chan struct{})}
	errs := make([]error, len(all))
	var running sync.WaitGroup
	for i, fn := range all {
		running.Go(func() { errs[i] = fn(ctx) })
	}
	go func() {
		running.Wait()
		w.err = errors.Join(errs...)
		close(w.over)
	}()
	return w
}

// wait returns once all of it has ended, with what went wrong.
func (w *work) wait() error {
	<-w.over
	w.stop()
	return w.err
}

func closed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

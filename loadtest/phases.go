package loadtest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"
)

// phase is what a run is doing.
type phase struct {
	name  string
	began time.Time
	of    time.Duration // how long it is to take; 0: nobody knows
}

// within asks for the readers' state until a condition holds, and takes the seconds meanwhile. It says whether the
// condition came true in time; an error is the end of ctx, or of a crew.
func (r *conductor) within(ctx context.Context, timeout time.Duration, cond func() bool) (bool, error) {
	deadline := time.Now().Add(timeout)
	for {
		if err := r.look(); err != nil {
			return false, err
		}
		if cond() {
			return true, nil
		}
		left := time.Until(deadline)
		if left <= 0 {
			return false, nil
		}
		if !wait(ctx, min(left, 5*time.Millisecond)) {
			return false, ctx.Err()
		}
	}
}

// pass is within with nothing to wait for but time.
func (r *conductor) pass(ctx context.Context, d time.Duration) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	_, err := r.within(ctx, d, func() bool { return false })
	return err
}

// look asks for the readers' state, and takes a second where one has passed.
func (r *conductor) look() error {
	now := time.Now()
	second := !now.Before(r.next)
	if err := r.ask(crewOrder{Recent: second}); err != nil || !second {
		return err
	}
	first := r.next.IsZero()
	if r.next = r.next.Add(time.Second); !r.next.After(now) { // it began, or was held up
		r.next = now.Add(time.Second)
	}
	if first {
		r.series.processes(now)
		r.series.before.groups = make([]uint64, len(r.groups))
		return nil
	}
	var published, failed uint64
	for _, p := range r.publishers {
		published += p.sent.Load()
		failed += p.failed.Load()
	}
	if err := r.series.add(now, published, failed, r.groups); err != nil {
		return err
	}
	r.tell("")
	return nil
}

func (r *conductor) live() (live, stopped int) {
	for _, g := range r.groups {
		live += g.Live
		stopped += g.Stopped
	}
	return live, stopped
}

func (r *conductor) wanted() int {
	n := 0
	for _, p := range r.parties {
		n += p.wanted
	}
	return n
}

// why is the last failure of any connection.
func (r *conductor) why() string {
	for _, g := range r.groups {
		if g.Why != "" {
			return g.Why
		}
	}
	return ""
}

// enter begins a phase.
func (r *conductor) enter(name string, of time.Duration) { r.phase = phase{name, time.Now(), of} }

func (r *conductor) phases(ctx context.Context) error {
	c := &r.config
	if err := r.connect(ctx); err != nil {
		return err
	}
	r.enter("settling", c.Settle)
	if err := r.pass(ctx, c.Settle); err != nil {
		return err
	}
	if err := r.watch.take("connected"); err != nil {
		return err
	}
	publishing, stop := context.WithCancel(ctx)
	defer stop()
	ended := make(chan struct{})
	var publishErr error
	var all sync.WaitGroup
	errs := make([]error, len(r.publishers))
	for i, p := range r.publishers {
		all.Go(func() { errs[i] = p.run(publishing) })
	}
	go func() {
		all.Wait()
		publishErr = errors.Join(errs...)
		close(ended)
	}()
	err := r.measure(ctx)
	stop()
	// Requests that have begun end in time by themselves.
	r.enter("the last requests", 0)
	_, waitErr := r.within(context.WithoutCancel(ctx), time.Hour, func() bool { return closed(ended) })
	<-ended
	if err = errors.Join(err, waitErr); err == nil {
		err = publishErr
	}
	if errors.As(err, new(crewError)) {
		return err
	}
	if !r.foreign {
		// After an interruption too, else what is under way would count as lost; but then not for ever.
		return errors.Join(err, r.linger(ctx))
	}
	r.sampled = r.sequences()
	if err == nil {
		r.enter("waiting for the rest", c.Linger)
		err = r.pass(ctx, c.Linger)
	}
	return err
}

func closed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// connect waits until every reader is live.
func (r *conductor) connect(ctx context.Context) error {
	c := &r.config
	start := time.Now()
	r.enter("connecting", 0)
	r.report.Connections = &Connections{}
	defer func() { r.report.Connections.ConnectTime = time.Since(start).Seconds() }()
	ok, err := r.within(ctx, c.ConnectTimeout, func() bool {
		live, stopped := r.live()
		return live+stopped >= r.wanted()
	})
	if err != nil {
		return err
	}
	live, _ := r.live()
	if live == 0 {
		var failures uint64
		for _, g := range r.groups {
			failures += g.Failures
		}
		return fmt.Errorf("no connection became live within %s: %d attempts failed (%s)", c.ConnectTimeout, failures, r.why())
	} else if !ok {
		r.tell(fmt.Sprintf("only %d of %d connections are live after %s (%s); going on with those", live, r.wanted(), c.ConnectTimeout, r.why()))
	}
	return nil
}

// measure is the warm-up and the window.
func (r *conductor) measure(ctx context.Context) error {
	c := &r.config
	if c.Warmup > 0 {
		r.enter("warming up", c.Warmup)
		if err := r.pass(ctx, c.Warmup); err != nil {
			return err
		}
	}
	if err := r.watch.take("begin"); err != nil {
		return err
	}
	r.self, _ = sample(os.Getpid(), c.Shards > 1 || len(c.Webhooks) > 0)
	r.begin = time.Now()
	r.window.from.Store(r.begin.UnixNano())
	if err := r.ask(crewOrder{From: r.begin.UnixNano()}); err != nil {
		return err
	}
	r.enter("measuring", c.Duration)
	err := r.pass(ctx, c.Duration)
	if err == nil {
		r.phase.of = 0
		_, err = r.within(ctx, 24*time.Hour, func() bool { // every storm ends in time
			for _, g := range r.groups {
				if g.Storming {
					return false
				}
			}
			return true
		})
	}
	end := time.Now()
	r.window.to.Store(end.UnixNano())
	askErr := r.ask(crewOrder{To: end.UnixNano()})
	r.noteLive()
	if e := r.watch.take("after"); err == nil {
		err = e
	}
	r.report.Seconds = end.Sub(r.begin).Seconds()
	if now, e := sample(os.Getpid(), c.Shards > 1 || len(c.Webhooks) > 0); e == nil {
		r.report.Self = &SelfReport{Cores: (now.cpu - r.self.cpu).Seconds() / r.report.Seconds, RSS: now.rss}
	}
	return errors.Join(err, askErr)
}

// sequences are all publishers' lanes. No lane may be in use any more. Of another process's it is what any reader saw.
func (r *conductor) sequences() []sequence {
	all := []sequence{}
	for _, p := range r.publishers {
		all = append(all, p.sequences()...)
	}
	if r.sampled != nil {
		return r.sampled
	}
	if r.foreign {
		all = make([]sequence, maxForeignLanes)
		for _, g := range r.groups {
			for i, n := range g.Highest {
				all[i].end = max(all[i].end, n)
			}
		}
	}
	return all
}

// linger waits for what is under way: until everything has arrived, or nothing has for the linger time.
func (r *conductor) linger(ctx context.Context) error {
	c := &r.config
	r.enter("waiting for the rest", c.Linger)
	expected := make([]uint64, len(r.groups))
	for i := range expected {
		expected[i] = r.parties[i].expected(r.sequences())
	}
	most := time.Hour
	if ctx.Err() != nil {
		most = max(10*time.Second, c.Linger)
	}
	end := time.Now()
	_, err := r.within(context.WithoutCancel(ctx), most, func() bool {
		whole, last := true, end
		for i, g := range r.groups {
			whole = whole && g.Deliveries >= expected[i]
			if at := time.Unix(0, g.LastAt); at.After(last) {
				last = at
			}
		}
		return whole || time.Since(last) > c.Linger
	})
	return err
}

// noteLive keeps how many connections there are now, for the report.
func (r *conductor) noteLive() {
	r.report.Connections.Live, _ = r.live()
	for _, g := range r.groups {
		r.liveAtEnd = append(r.liveAtEnd, g.Live)
	}
}

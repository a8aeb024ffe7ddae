package loadtest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"
)

func (r *conductor) phases(ctx context.Context) error {
	c := &r.config
	if err := r.connect(ctx); err != nil {
		return err
	}
	r.course.enter("settling", c.Settle)
	if err := r.course.pass(ctx, c.Settle); err != nil {
		return err
	}
	if err := r.watch.take("connected"); err != nil {
		return err
	}
	var all []func(ctx context.Context) error
	for _, p := range r.course.publishers {
		all = append(all, p.run)
	}
	publishing := begin(ctx, all...)
	err := r.measure(ctx)
	publishing.stop()
	// Requests that have begun end in time by themselves.
	r.course.enter("the last requests", 0)
	_, waitErr := r.course.until(context.WithoutCancel(ctx), forever, publishing.over)
	publishErr := publishing.wait()
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
		r.course.enter("waiting for the rest", c.Linger)
		err = r.course.pass(ctx, c.Linger)
	}
	return err
}

// connect waits until every reader is live.
func (r *conductor) connect(ctx context.Context) error {
	c := &r.config
	start := time.Now()
	r.course.enter("connecting", 0)
	r.report.Connections = &Connections{}
	defer func() { r.report.Connections.ConnectTime = time.Since(start).Seconds() }()
	ok, err := r.course.within(ctx, c.ConnectTimeout, func() bool {
		live, stopped := r.course.live()
		return live+stopped >= r.course.wanted()
	})
	if err != nil {
		return err
	}
	live, _ := r.course.live()
	if live == 0 {
		var failures uint64
		for _, g := range r.course.groups {
			failures += g.Failures
		}
		return fmt.Errorf("no connection became live within %s: %d attempts failed (%s)", c.ConnectTimeout, failures, r.course.why())
	} else if !ok {
		r.course.tell(fmt.Sprintf("only %d of %d connections are live after %s (%s); going on with those", live, r.course.wanted(), c.ConnectTimeout, r.course.why()))
	}
	return nil
}

// measure is the warm-up and the window.
func (r *conductor) measure(ctx context.Context) error {
	c := &r.config
	if c.Warmup > 0 {
		r.course.enter("warming up", c.Warmup)
		if err := r.course.pass(ctx, c.Warmup); err != nil {
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
	r.course.enter("measuring", c.Duration)
	err := r.course.pass(ctx, c.Duration)
	if err == nil {
		r.course.phase.of = 0
		_, err = r.course.within(ctx, 24*time.Hour, func() bool { // every storm ends in time
			for _, g := range r.course.groups {
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
	for _, p := range r.course.publishers {
		all = append(all, p.sequences()...)
	}
	if r.sampled != nil {
		return r.sampled
	}
	if r.foreign {
		all = make([]sequence, maxForeignLanes)
		for _, g := range r.course.groups {
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
	r.course.enter("waiting for the rest", c.Linger)
	expected := make([]uint64, len(r.course.groups))
	for i := range expected {
		expected[i] = r.course.parties[i].expected(r.sequences())
		r.course.expected += expected[i]
	}
	most := time.Hour
	if ctx.Err() != nil {
		most = max(10*time.Second, c.Linger)
	}
	end := time.Now()
	_, err := r.course.within(context.WithoutCancel(ctx), most, func() bool {
		whole, last := true, end
		for i, g := range r.course.groups {
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
	r.report.Connections.Live, _ = r.course.live()
	for _, g := range r.course.groups {
		r.liveAtEnd = append(r.liveAtEnd, g.Live)
	}
}

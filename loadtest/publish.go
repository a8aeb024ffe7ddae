package loadtest

import (
	"context"
	"os"
	"time"
)

// PublishRunConfig is a run of publishers alone.
type PublishRunConfig struct {
	Run      string // name of the run; default a random one
	Publish  PublishConfig
	Warmup   time.Duration
	Duration time.Duration // the window; default 10 s. A limit of events may end it sooner
	PIDs     []int
	PIDTree  bool
	Watch    func(Progress) // as RunConfig has it
}

// Publish runs publishers alone, and reports how quickly they were answered. When ctx ends early the report is of what was until then.
func Publish(ctx context.Context, c PublishRunConfig) (*Report, error) {
	set(&c.Run, NewRun())
	set(&c.Duration, 10*time.Second)
	all := &gauges{}
	p, err := newPublishers(c.Run, c.Publish, all)
	if err != nil {
		return nil, err
	}
	w := newWatch(c.PIDs, c.PIDTree)
	if err := w.take("before"); err != nil {
		return nil, err
	}
	r := &Report{Run: c.Run, Scenario: "publish", Target: c.Publish.URL + c.Publish.Command, Started: time.Now()}
	on := &course{
		run: c.Run, scenario: r.Scenario, watch: c.Watch, publishers: []*publishers{p}, measured: servers(c.PIDs),
		series: series{pids: c.PIDs, tree: c.PIDTree},
	}
	publishing := begin(ctx, p.run)
	finished := false
	if c.Warmup > 0 {
		on.enter("warming up", c.Warmup)
		finished, _ = on.until(ctx, c.Warmup, publishing.over) // it fails by the end of ctx alone, as there is nobody to ask
	}
	_ = w.take("begin")
	self, _ := sample(os.Getpid(), false)
	from := time.Now()
	all.from.Store(from.UnixNano())
	if !finished {
		on.enter("measuring", c.Duration)
		_, _ = on.until(ctx, c.Duration, publishing.over)
	}
	all.to.Store(time.Now().UnixNano())
	_ = w.take("after")
	r.Seconds = time.Since(from).Seconds()
	if now, e := sample(os.Getpid(), false); e == nil && r.Seconds > 0 {
		r.Self = &SelfReport{Cores: (now.cpu - self.cpu).Seconds() / r.Seconds, RSS: now.rss}
	}
	publishing.stop()
	on.enter("the last requests", 0)
	_, _ = on.until(context.WithoutCancel(ctx), forever, publishing.over)
	if err := publishing.wait(); err != nil {
		return nil, err
	}
	if ctx.Err() != nil {
		r.Interrupted = context.Cause(ctx).Error()
	}
	r.Published, r.Series = p.report(r.Seconds), on.series.since(from)
	r.Processes = w.report(0, 0, p.inWindow, time.Duration(r.Seconds*float64(time.Second)))
	return r, nil
}

// report is the publisher's side of a run that has ended.
func (p *publishers) report(seconds float64) *Published {
	p.mu.Lock()
	defer p.mu.Unlock()
	c := &p.config
	out := &Published{
		Name: c.Name, Events: p.sent.Load(), Duplicates: p.duplicates.Load(), Failed: p.failed.Load(), Requests: p.requests.Load(), Wanted: c.wanted(),
		Batch: c.Batch, Size: len(p.body.append(nil, mark{seq: 1000, sent: time.Now().UnixNano()})), Publishers: c.Publishers, Lanes: c.Lanes,
		Acks: quantiles(p.acks), Lag: quantiles(p.lag), Answers: p.statuses, LastFailure: p.lastFail,
		Distribution: distribution(p.acks),
	}
	if seconds > 0 {
		out.Rate = float64(p.inWindow) / seconds
	}
	return out
}

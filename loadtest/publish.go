package loadtest

import (
	"context"
	"fmt"
	"io"
	"os"
	"sync"
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
	Progress io.Writer
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
	running, stop := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- p.run(running) }()
	var watching sync.WaitGroup
	defer watching.Wait() // after stop
	defer stop()
	if c.Progress != nil {
		watching.Go(func() { p.progress(running, c.Progress) })
	}

	finished := pauseOr(ctx, ended, c.Warmup, &err)
	_ = w.take("begin")
	self, _ := sample(os.Getpid(), false)
	begin := time.Now()
	all.from.Store(begin.UnixNano())
	if !finished {
		finished = pauseOr(ctx, ended, c.Duration, &err)
	}
	all.to.Store(time.Now().UnixNano())
	_ = w.take("after")
	r.Seconds = time.Since(begin).Seconds()
	if now, e := sample(os.Getpid(), false); e == nil && r.Seconds > 0 {
		r.Self = &SelfReport{Cores: (now.cpu - self.cpu).Seconds() / r.Seconds, RSS: now.rss}
	}
	stop()
	if !finished {
		err = <-ended
	}
	if err != nil {
		return nil, err
	}
	if ctx.Err() != nil {
		r.Interrupted = context.Cause(ctx).Error()
	}
	r.Published = p.report(r.Seconds)
	r.Processes = w.report(0, 0, p.inWindow, time.Duration(r.Seconds*float64(time.Second)))
	return r, nil
}

// pauseOr sleeps for d, and says whether the publishers ended before that, and how.
func pauseOr(ctx context.Context, ended <-chan error, d time.Duration, err *error) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	case *err = <-ended:
		return true
	}
	return false
}

func (p *publishers) progress(ctx context.Context, to io.Writer) {
	var before uint64
	for wait(ctx, time.Second) {
		now := p.sent.Load()
		_, _ = fmt.Fprintf(to, "published %d (+%d)  failed %d\n", now, now-before, p.failed.Load())
		before = now
	}
}

// report is the publisher's side of a run that has ended.
func (p *publishers) report(seconds float64) *Published {
	p.mu.Lock()
	defer p.mu.Unlock()
	c := &p.config
	out := &Published{
		Name: c.Name, Events: p.sent.Load(), Failed: p.failed.Load(), Requests: p.requests.Load(), Wanted: c.wanted(),
		Batch: c.Batch, Size: len(p.body.append(nil, mark{seq: 1000, sent: time.Now().UnixNano()})), Publishers: c.Publishers, Lanes: c.Lanes,
		Acks: quantiles(p.acks), Lag: quantiles(p.lag), Answers: p.statuses, LastFailure: p.lastFail,
	}
	if seconds > 0 {
		out.Rate = float64(p.inWindow) / seconds
	}
	return out
}

package loadtest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"slices"
	"sync"
	"text/tabwriter"
	"time"
)

// GroupReport is the outcome of a run of Drain or Consume.
type GroupReport struct {
	Scenario string  `json:"scenario"` // which client, how many of them, what ordering
	Events   int64   `json:"events"`   // that there were
	Read     int64   `json:"read"`     // with those that came again
	Seconds  float64 `json:"seconds"`  // from the first event until all were acknowledged
	Joining  float64 `json:"joiningSeconds"`
	Rate     float64 `json:"eventsPerSecond"`

	Posts       int64      `json:"acknowledgements,omitempty"`
	Acks        *Quantiles `json:"acks,omitempty"` // how long they took
	Redelivered int64      `json:"redelivered"`

	Processes  []ProcessReport `json:"processes,omitempty"` // from the beginning of joining on
	CPUSeconds float64         `json:"clientCPUSeconds"`
}

// WriteText writes the report for people.
func (r *GroupReport) WriteText(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
	line := func(name, format string, args ...any) {
		_, _ = fmt.Fprintf(t, name+"\t"+format+"\n", args...)
	}
	line("scenario", "%s", r.Scenario)
	line("events", "%d in %.2f s: %.0f/s; read %d, redelivered %d; %.2f s until the first", r.Events, r.Seconds, r.Rate, r.Read, r.Redelivered, r.Joining)
	if r.Posts > 0 {
		line("acks", "%d of %.0f events each; %v", r.Posts, float64(r.Events)/float64(r.Posts), r.Acks)
	}
	line("clients", "%.2f s of processor time, %.2f µs an event", r.CPUSeconds, r.CPUSeconds*1e6/float64(max(1, r.Events)))
	for _, p := range r.Processes {
		p.text(line)
	}
	return t.Flush()
}

// account is what a run of clients in this process is charged.
type account struct {
	watch *watch
	self  usage
	began time.Time
}

func openAccount(pids []int, tree bool) (*account, error) {
	a := &account{watch: newWatch(pids, tree)}
	if err := a.watch.take("before"); err != nil {
		return nil, err
	}
	_ = a.watch.take("begin")
	a.self, _ = sample(os.Getpid(), false)
	a.began = time.Now()
	return a, nil
}

// settle enters what was used in the report.
func (a *account) settle(r *GroupReport, first, last time.Time) {
	window := time.Since(a.began)
	_ = a.watch.take("after")
	r.Processes = a.watch.report(0, uint64(r.Events), 0, window)
	if now, err := sample(os.Getpid(), false); err == nil {
		r.CPUSeconds = (now.cpu - a.self.cpu).Seconds()
	}
	r.Seconds, r.Joining = last.Sub(first).Seconds(), first.Sub(a.began).Seconds()
	if r.Seconds > 0 {
		r.Rate = float64(r.Events) / r.Seconds
	}
}

// Drain has the sessions of a new subscription take everything that a stream holds, and reports how long that takes until
// the last acknowledgement is durable.
func Drain(ctx context.Context, c GroupConfig) (report *GroupReport, err error) {
	if err := c.defaults(); err != nil {
		return nil, err
	}
	path, err := c.subscribe(ctx, "oldest")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, c.unsubscribe(ctx, path)) }()
	before, err := c.stats(ctx, path)
	if err != nil {
		return nil, err
	}
	if before.Lag == 0 {
		return nil, fmt.Errorf("stream %s holds nothing", c.Stream)
	}
	all := c.takers(path)
	account, err := openAccount(c.PIDs, c.PIDTree)
	if err != nil {
		return nil, err
	}
	running, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	var sessions sync.WaitGroup
	for _, k := range all {
		sessions.Go(func() {
			if err := k.run(running); err != nil {
				stop(err)
			}
		})
	}
	// As the server counts what it took, all that there is has been acknowledged.
	err = until(running, func() bool {
		var acked int64
		for _, k := range all {
			k.mu.Lock()
			acked += k.acked
			k.mu.Unlock()
		}
		return acked >= before.Lag
	})
	after, statsErr := c.stats(ctx, path)
	report = &GroupReport{Scenario: fmt.Sprintf("%d sessions (%s), ordering %s, on %d servers", len(all), c.Client, c.Ordering, len(c.Servers)), Events: before.Lag}
	acks := newHistogram()
	first, last := time.Now(), account.began
	for _, k := range all {
		k.mu.Lock()
		report.Read += k.events
		report.Posts += k.posts
		acks.Merge(k.acks)
		if !k.first.IsZero() && k.first.Before(first) {
			first = k.first
		}
		if k.last.After(last) {
			last = k.last
		}
		k.mu.Unlock()
	}
	report.Acks, report.Redelivered = quantiles(acks), after.Redeliveries
	account.settle(report, first, last)
	stop(nil)
	sessions.Wait()
	switch {
	case err != nil:
		return nil, err
	case statsErr != nil:
		return nil, statsErr
	case after.Lag != 0:
		return nil, fmt.Errorf("all was acknowledged, and the subscription has a lag of %d", after.Lag)
	}
	return report, nil
}

func (c *GroupConfig) takers(path string) (all []*taker) {
	for i, n := range c.Spread {
		for range n {
			all = append(all, newTaker(c, c.Servers[i], path))
		}
	}
	return all
}

// until waits for cond. It returns why ctx ended, if that was first.
func until(ctx context.Context, cond func() bool) error {
	for !cond() {
		if !wait(ctx, 5*time.Millisecond) {
			return context.Cause(ctx)
		}
	}
	return nil
}

// RebalanceConfig says how a session leaves a subscription while events are published.
type RebalanceConfig struct {
	Group   GroupConfig
	Publish PublishConfig
	Leave   int           // the session that leaves: its server, by number
	Rounds  int           // it leaves and comes back so often; default 5
	Calm    time.Duration // before it leaves, and after it came back; default 5 s
}

// RebalanceReport tells the longest times without an event, in milliseconds.
type RebalanceReport struct {
	Scenario  string           `json:"scenario"`
	Published *Published       `json:"published"`
	Rounds    []RebalanceRound `json:"rounds"`
}

// RebalanceRound is one time that a session left. Its figures are of the sessions that stayed and were given something before.
type RebalanceRound struct {
	Fed int `json:"fed"` // how many these are
	// Usual is of the time before: the middle one of all gaps, and the longest of each session, the middle and the longest of these.
	Usual        float64 `json:"usual"`
	UsualMiddle  float64 `json:"usualMiddle"`
	UsualLongest float64 `json:"usualLongest"`
	// Middle and Longest are of the gaps that ended after the session left, the longest of each session.
	Middle  float64 `json:"middle"`
	Longest float64 `json:"longest"`
	// Oldest is how old an event was at most when it came, before and after: those of the session that left come again.
	UsualOldest float64 `json:"usualOldest"`
	Oldest      float64 `json:"oldest"`
	// Reconnects are of sessions that were told to begin anew.
	Reconnects int64 `json:"reconnects"`
}

// WriteText writes the report for people.
func (r *RebalanceReport) WriteText(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
	_, _ = fmt.Fprintf(t, "scenario\t%s\npublished\t%.0f/s\n", r.Scenario, r.Published.Rate)
	for i, o := range r.Rounds {
		_, _ = fmt.Fprintf(t, "round %d\tgap p50 %.1f; longest of each of %d sessions before: p50 %.1f max %.1f, after: p50 %.1f max %.1f; oldest event before %.1f, after %.1f ms; %d reconnects\n",
			i+1, o.Usual, o.Fed, o.UsualMiddle, o.UsualLongest, o.Middle, o.Longest, o.UsualOldest, o.Oldest, o.Reconnects)
	}
	return t.Flush()
}

// arrivals is what a session was given while somebody looked.
type arrivals struct {
	mu   sync.Mutex
	at   []time.Time     // guarded by mu
	ages []time.Duration // guarded by mu; of each

	reconnects int64 // guarded by mu
}

func (a *arrivals) add(now time.Time, age time.Duration) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.at, a.ages = append(a.at, now), append(a.ages, age)
}

func (a *arrivals) reset() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.at, a.ages, a.reconnects = a.at[:0], a.ages[:0], 0
}

// stay takes until ctx ends, and comes back where it is told to.
func (k *taker) stay(ctx context.Context, a *arrivals) error {
	for {
		err := k.run(ctx)
		if !errors.Is(err, errReconnect) || ctx.Err() != nil {
			return err
		}
		a.mu.Lock()
		a.reconnects++
		a.mu.Unlock()
	}
}

// round makes the figures of what came before and after a session left. What had not begun or ended is as long as it is.
func round(all []*arrivals, begin, left, end time.Time) RebalanceRound {
	var gaps, before, after []float64
	var out RebalanceRound
	for _, a := range all {
		a.mu.Lock()
		out.Reconnects += a.reconnects
		if len(a.at) == 0 || !a.at[0].Before(left) {
			a.mu.Unlock()
			continue // it waited
		}
		out.Fed++
		longest, since, was := 0.0, 0.0, begin
		for i, at := range a.at {
			age := a.ages[i]
			if at.Before(left) {
				out.UsualOldest = math.Max(out.UsualOldest, milliseconds(age))
			} else {
				out.Oldest = math.Max(out.Oldest, milliseconds(age))
			}
			gap := milliseconds(at.Sub(was))
			was = at
			if at.Before(left) {
				gaps = append(gaps, gap)
				longest = math.Max(longest, gap)
			} else {
				since = math.Max(since, gap)
			}
		}
		since = math.Max(since, milliseconds(end.Sub(was)))
		a.mu.Unlock()
		before, after = append(before, longest), append(after, since)
	}
	out.Usual, _ = middle(gaps)
	out.UsualMiddle, out.UsualLongest = middle(before)
	out.Middle, out.Longest = middle(after)
	return out
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// middle is the median and the greatest.
func middle(all []float64) (median, greatest float64) {
	if len(all) == 0 {
		return 0, 0
	}
	slices.Sort(all)
	return all[len(all)/2], all[len(all)-1]
}

// Rebalance has a session leave a subscription that others read, and reports how long these were given nothing.
func Rebalance(ctx context.Context, c RebalanceConfig) (report *RebalanceReport, err error) {
	if err := c.Group.defaults(); err != nil {
		return nil, err
	}
	set(&c.Rounds, 5)
	set(&c.Calm, 5*time.Second)
	if c.Leave < 0 || c.Leave >= len(c.Group.Spread) || c.Group.Spread[c.Leave] == 0 {
		return nil, fmt.Errorf("no session is on server %d that could leave", c.Leave)
	}
	path, err := c.Group.subscribe(ctx, "latest")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, c.Group.unsubscribe(ctx, path)) }()
	run := NewRun()
	gauges := &gauges{}
	p, err := newPublishers(run, c.Publish, gauges)
	if err != nil {
		return nil, err
	}
	running, stop := context.WithCancelCause(ctx)
	var parts sync.WaitGroup
	defer parts.Wait()
	defer stop(nil)

	marks := newMarker(run)
	var stayed []*arrivals
	var leaver *taker
	for _, k := range c.Group.takers(path) {
		if leaver == nil && k.server == c.Group.Servers[c.Leave] {
			leaver = k
			continue
		}
		a := &arrivals{}
		stayed = append(stayed, a)
		k.heard = func(event []byte, now time.Time) {
			if m, _, ok := marks.next(event); ok {
				a.add(now, now.Sub(time.Unix(0, m.sent)))
			}
		}
		parts.Go(func() {
			if err := k.stay(running, a); err != nil {
				stop(err)
			}
		})
	}
	begin := time.Now()
	gauges.from.Store(begin.UnixNano())
	parts.Go(func() {
		if err := p.run(running); err != nil {
			stop(err)
		}
	})
	report = &RebalanceReport{Scenario: fmt.Sprintf("%d sessions (%s), ordering %s, spread %v; one of server %d leaves", len(stayed)+1, c.Group.Client, c.Group.Ordering, c.Group.Spread, c.Leave+1)}
	for range c.Rounds {
		there, leave := context.WithCancel(running)
		var visit sync.WaitGroup
		k := newTaker(&c.Group, leaver.server, path)
		failed := make(chan error, 1)
		visit.Go(func() { failed <- k.run(there) })
		settled := wait(running, c.Calm) // it has come, and partitions have moved to it
		calm := time.Now()
		for _, a := range stayed {
			a.reset()
		}
		settled = settled && wait(running, c.Calm)
		left := time.Now()
		leave()
		visit.Wait()
		if err := <-failed; err != nil && !errors.Is(err, context.Canceled) {
			stop(err)
		}
		if !settled || !wait(running, c.Calm) {
			break
		}
		report.Rounds = append(report.Rounds, round(stayed, calm, left, time.Now()))
	}
	gauges.to.Store(time.Now().UnixNano())
	seconds := time.Since(begin).Seconds()
	err = context.Cause(running)
	stop(nil)
	parts.Wait()
	if len(report.Rounds) < c.Rounds && err != nil {
		return nil, err
	}
	report.Published = p.report(seconds)
	return report, nil
}

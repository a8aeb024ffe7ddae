package loadtest

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// webhookRun is one run.
type webhookRun struct {
	config     *WebhookConfig
	name       string // of several in a run, for their subscriptions
	api        *GroupConfig
	receiver   *receiverProcess
	publishers *publishers
	window     gauges
	course     course
	got        receiverReport // as it was when the receiver was last asked by course
	watch      *watch
	self       usage
	report     WebhookReport

	proven atomic.Int64 // subscriptions that may be sent events

	stream string // to be deleted; "": none
	mu     sync.Mutex
	paths  []string // of the subscriptions; guarded by mu
}

// prepare makes the stream and its type.
func (w *webhookRun) prepare(ctx context.Context) error {
	c := w.config
	if c.Stream == "" {
		c.Stream = "loadtest-" + c.Run
		c.Publish.Type = "loadtest." + c.Run
		w.stream = "/v1/streams/" + c.Stream + "?force=true" // with its type and events
	}
	set(&c.Publish.Type, "loadtest.tick")
	_, to, err := Prepare(ctx, PrepareConfig{
		Server: c.Server, Stream: c.Stream, Partitions: c.Partitions, Type: c.Publish.Type, Dedupe: "0s", Header: c.Header,
	})
	c.Publish.URL, c.Publish.Scheduled = to, true
	return err
}

// subscribe makes the subscriptions, and waits until each may be sent events.
func (w *webhookRun) subscribe(ctx context.Context, secrets []string) error {
	c, began := w.config, time.Now()
	from := "latest"
	if c.Backlog {
		from = "oldest"
	}
	config := map[string]any{"from": from, "ordering": c.Ordering}
	if c.Concurrency > 0 {
		config["concurrency"] = c.Concurrency
	}
	if c.Timeout > 0 {
		config["timeout"] = c.Timeout.String()
	}
	if len(c.Schedule) > 0 {
		config["retry"] = map[string]any{"schedule": c.Schedule}
	}
	if c.Batch > 1 {
		config["batch"] = map[string]any{"max": c.Batch}
	}
	ctx, cancel := context.WithTimeoutCause(ctx, proofTime, fmt.Errorf("not all subscriptions were active within %s", proofTime))
	defer cancel()
	err := each(c.Subscriptions, func(i int) error {
		var one struct{ ID string }
		body := map[string]any{
			"name": strings.TrimSuffix(fmt.Sprintf("loadtest-%s-%d-%s", c.Run, i, w.name), "-"), "description": "of a load test", "streams": []string{c.Stream}, "secret": secrets[i],
			"sink":     fmt.Sprintf("http://%s/%d", w.receiver.addresses[i%c.Endpoints], i),
			"protocol": "HTTP", "protocolsettings": map[string]any{"mode": c.Mode, "signatures": c.Signatures}, "config": config,
		}
		if len(c.Types) > 0 {
			body["types"] = c.Types
		}
		if c.OwnLane {
			lanes := w.publishers.config.Lanes
			subject := strings.ReplaceAll(w.publishers.config.Subject, "{lane}", strconv.Itoa(i%lanes))
			body["filters"] = []any{map[string]any{"exact": map[string]any{"subject": subject}}}
		}
		_, err := w.api.call(ctx, http.DefaultClient, http.MethodPost, c.Server+"/v1/subscriptions", body, &one)
		if err != nil {
			return err
		}
		w.mu.Lock()
		w.paths = append(w.paths, "/v1/subscriptions/"+url.PathEscape(one.ID))
		w.mu.Unlock()
		return nil
	})
	if err != nil {
		return err
	}
	err = each(c.Subscriptions, func(i int) error { return w.active(ctx, w.paths[i]) })
	w.report.Proven = time.Since(began).Seconds()
	return err
}

// active waits until a subscription may be sent events.
func (w *webhookRun) active(ctx context.Context, path string) error {
	for {
		var s struct {
			Status struct{ State, Reason string }
		}
		if _, err := w.api.call(ctx, http.DefaultClient, http.MethodGet, w.config.Server+path, nil, &s); err != nil {
			return err
		}
		switch s.Status.State {
		case "pending":
		case "active", "failing": // those that hang fail as soon as there are events
			w.proven.Add(1)
			return nil
		default:
			return fmt.Errorf("%s is %s: %s", path, s.Status.State, s.Status.Reason)
		}
		if !wait(ctx, 20*time.Millisecond) {
			return fmt.Errorf("%s is pending (%s): %w", path, s.Status.Reason, context.Cause(ctx))
		}
	}
}

// each calls fn for the numbers below n, eight at a time, and returns the first error by number.
func each(n int, fn func(i int) error) error {
	var (
		running sync.WaitGroup
		errs    = make([]error, n)
		slots   = make(chan struct{}, 8)
	)
	for i := range n {
		slots <- struct{}{}
		running.Go(func() {
			errs[i] = fn(i)
			<-slots
		})
	}
	running.Wait()
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// remove deletes what was made, once.
func (w *webhookRun) remove(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
	defer cancel()
	gone := func(path string) error {
		status, err := w.api.call(ctx, http.DefaultClient, http.MethodDelete, w.config.Server+path, nil, nil)
		if status == http.StatusNotFound {
			return nil
		}
		return err
	}
	paths, stream := w.paths, w.stream
	w.paths, w.stream = nil, ""
	err := each(len(paths), func(i int) error { return gone(paths[i]) })
	if stream != "" {
		err = errors.Join(err, gone(stream))
	}
	return err
}

// run publishes and waits for what is published.
func (w *webhookRun) run(ctx context.Context, secrets []string) (*WebhookReport, error) {
	c, r := w.config, &w.report
	r.Run, r.Started, r.Backlog, r.Scenario = c.Run, time.Now(), c.Backlog || c.Outage > 0, c.describe()
	r.Subscriptions, r.Endpoints, r.Hanging = c.Subscriptions, c.Endpoints, c.Hang
	// The receiver is a process like those that are measured, so that all of them are charged the same window.
	pids := append(slices.Clone(c.PIDs), w.receiver.command.Process.Pid)
	w.course = course{
		run: c.Run, scenario: "webhook", watch: c.Watch, publishers: []*publishers{w.publishers},
		parties: []party{{name: "webhooks", wanted: c.Subscriptions}}, measured: append(servers(c.PIDs), "endpoints"),
		every: 20 * time.Millisecond, ask: w.ask, series: series{pids: pids, tree: c.PIDTree},
	}
	if !c.Backlog {
		if err := w.prove(ctx, secrets); err != nil {
			return nil, err
		}
	}
	w.watch = newWatch(pids, c.PIDTree)
	if err := w.watch.take("before"); err != nil {
		return nil, err
	}
	defer w.watch.most()()
	var measured, published float64
	var err error
	switch {
	case c.Backlog:
		published, err = w.publish(ctx)
		if err == nil {
			w.begin()
			if err = w.prove(ctx, secrets); err == nil {
				err = w.settle(ctx)
			}
			measured, err = w.end(err)
		}
	case c.Outage > 0:
		if published, err = w.outage(ctx); err == nil {
			err = w.settle(ctx)
		}
		measured, err = w.end(err)
	case c.Publish.Events > 0:
		w.begin()
		if published, err = w.publish(ctx); err == nil {
			err = w.settle(ctx)
		}
		measured, err = w.end(err)
	default:
		measured, err = w.timed(ctx)
		published = measured
	}
	if err != nil && ctx.Err() == nil {
		return nil, err
	}
	if ctx.Err() != nil {
		r.Interrupted = context.Cause(ctx).Error()
	}
	r.Seconds = measured
	r.Published = w.publishers.report(published)
	r.Series = w.course.series.since(time.Unix(0, w.window.from.Load()))
	return r, w.finish()
}

// ask has the receiver tell how far it is.
func (w *webhookRun) ask(recent bool) error {
	var err error
	w.got, err = w.receiver.ask(receiverOrder{Recent: recent})
	w.course.groups = []groupState{w.state(w.got)}
	return err
}

// state is what a receiver tells, as of a group of readers.
func (w *webhookRun) state(got receiverReport) groupState {
	s := groupState{
		Live: int(w.proven.Load()), Deliveries: got.Events, LastAt: got.Last, Recent: got.Recent, Why: got.LastFault,
		Failures: got.Malformed + got.Forged,
		Content:  content{Duplicates: got.Repeated, Unexpected: got.Unexpected + got.Forged + got.Malformed},
	}
	if w.config.Ordering != "none" { // else order was not promised
		s.Content.Disordered = got.Disordered
	}
	return s
}

// prove is subscribe, told of as it goes on.
func (w *webhookRun) prove(ctx context.Context, secrets []string) error {
	w.course.enter("proving the endpoints", 0)
	return w.course.during(ctx, func(ctx context.Context) error { return w.subscribe(ctx, secrets) })
}

// publish publishes all events, and returns how long that took.
func (w *webhookRun) publish(ctx context.Context) (float64, error) {
	began := time.Now()
	w.window.from.CompareAndSwap(0, began.UnixNano())
	w.course.enter("publishing", 0)
	err := w.course.during(ctx, w.publishers.run)
	return time.Since(began).Seconds(), err
}

// outage publishes all events while all endpoints are down, and begins the window as they are well again.
func (w *webhookRun) outage(ctx context.Context) (published float64, err error) {
	down, well := true, false
	if _, err = w.receiver.ask(receiverOrder{Down: &down}); err != nil {
		return 0, err
	}
	if published, err = w.publish(ctx); err != nil {
		return published, err
	}
	w.course.enter("the outage goes on", w.config.Outage)
	if err := w.course.pass(ctx, w.config.Outage); err != nil {
		return published, err
	}
	w.begin()
	_, err = w.receiver.ask(receiverOrder{Down: &well})
	return published, err
}

// timed publishes for as long as the window, and a little before it, and waits for what is under way.
func (w *webhookRun) timed(ctx context.Context) (float64, error) {
	publishing := begin(ctx, w.publishers.run)
	over := false
	var err error
	if w.config.Warmup > 0 {
		w.course.enter("warming up", w.config.Warmup)
		over, err = w.course.until(ctx, w.config.Warmup, publishing.over)
	}
	w.begin()
	if !over && err == nil {
		w.course.enter("measuring", w.config.Duration)
		_, err = w.course.until(ctx, w.config.Duration, publishing.over)
	}
	measured, err := w.end(err)
	publishing.stop()
	if err = errors.Join(publishing.wait(), err); err != nil {
		return measured, err
	}
	return measured, w.settle(ctx)
}

// begin begins the window.
func (w *webhookRun) begin() {
	_ = w.watch.take("begin")
	w.self, _ = sample(os.Getpid(), false)
	now := time.Now().UnixNano()
	w.window.from.Store(now)
	_, _ = w.receiver.ask(receiverOrder{From: now}) // one that is gone is found at the end
}

// end ends the window where it has not ended, and returns how many seconds it had. Where everything was waited for it ended
// with the last arrival.
func (w *webhookRun) end(err error) (float64, error) {
	now := time.Now()
	w.window.to.Store(now.UnixNano())
	_ = w.watch.take("after")
	got, askErr := w.receiver.ask(receiverOrder{To: now.UnixNano()})
	window := now.Sub(time.Unix(0, w.window.from.Load()))
	if used, sampleErr := sample(os.Getpid(), false); sampleErr == nil {
		spent := (used.cpu - w.self.cpu).Seconds()
		w.report.Self = &SelfReport{Cores: spent / window.Seconds(), RSS: used.rss}
		if got.Window > 0 {
			w.report.Self.CPUPerDelivery = spent * 1e6 / float64(got.Window)
		}
	}
	w.report.Processes = w.watch.report(0, got.Window, 0, window)
	if w.config.Publish.Events > 0 && got.Last > w.window.from.Load() {
		window = time.Unix(0, got.Last).Sub(time.Unix(0, w.window.from.Load()))
	}
	return window.Seconds(), errors.Join(err, askErr)
}

// settle waits until everything has arrived, or nothing has for a while.
func (w *webhookRun) settle(ctx context.Context) error {
	w.course.enter("waiting for the rest", w.config.Linger)
	w.course.expected = w.expected()
	var before receiverReport
	moved := time.Now()
	_, err := w.course.within(ctx, forever, func() bool {
		if w.got.Events != before.Events || w.got.Refused != before.Refused {
			moved = time.Now()
		}
		before = w.got
		return w.got.Events >= w.course.expected || time.Since(moved) > w.config.Linger
	})
	return err
}

// expected is how many events are surely to arrive. Nothing is published any more.
func (w *webhookRun) expected() uint64 {
	var n uint64
	sequences := w.publishers.sequences()
	for i := range w.config.Subscriptions {
		if !w.config.answers(i) {
			continue
		}
		own := sequences
		if w.config.OwnLane {
			own = sequences[i%len(sequences):][:1]
		}
		for _, s := range own {
			n += s.end - uint64(len(s.doubts))
		}
	}
	return n
}

// finish enters what arrived in the report.
func (w *webhookRun) finish() error {
	got, err := w.receiver.ask(receiverOrder{Sequences: wire(w.publishers.sequences())})
	if err != nil {
		return err
	}
	return w.report.take(w.config, got, w.expected())
}

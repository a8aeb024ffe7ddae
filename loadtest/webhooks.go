package loadtest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/eventissuer/eventissuer/internal/webhook"
)

// WebhookConfig says who is sent the events of a stream of an Event Issuer, and how they are taken. The server must send
// to loopback addresses.
type WebhookConfig struct {
	Server string // base URL
	Header http.Header
	Run    string // name of the run; default a random one
	// Stream, and Publish.Type of it, are made where they are missing. Default: ones of this run, which are deleted afterwards.
	Stream     string
	Partitions int // of a stream that is made; default 4

	Subscriptions int           // default 1; each gets every event
	Endpoints     int           // ports of the receiver; subscription i is sent to number i modulo this; default one each, at most 100
	Mode          string        // default structured
	Ordering      string        // none or key; default key
	Batch         int           // events in a message, at most; default 1
	Concurrency   int           // messages of a subscription at a time; default the server's
	Timeout       time.Duration // of a message; default the server's

	Hang   int           // so many endpoints never answer a message
	Fail   float64       // share of the messages that are answered 503
	Delay  time.Duration // before each answer
	Verify float64       // share of the messages whose signatures are verified

	Backlog  bool          // publish first, then subscribe from the oldest event
	Publish  PublishConfig // its URL is the server's; with Events the run ends when these are delivered
	Warmup   time.Duration // published, but not measured; not with Events
	Duration time.Duration // the window; default 10 s; not with Events
	Linger   time.Duration // how long nothing may come until what is outstanding is lost; default 10 s

	Receiver []string // the command that runs Receive
	PIDs     []int    // processes to measure
	PIDTree  bool     // with their descendants
	Progress io.Writer
}

const (
	maxEndpoints = 100
	// proofTime bounds how long subscriptions may take until their endpoints have proven that they want events.
	proofTime = 2 * time.Minute
)

func (c *WebhookConfig) defaults() error {
	set(&c.Run, NewRun())
	set(&c.Subscriptions, 1)
	set(&c.Endpoints, min(c.Subscriptions, maxEndpoints))
	set(&c.Mode, string(webhook.Structured))
	set(&c.Ordering, "key")
	set(&c.Batch, 1)
	set(&c.Partitions, 4)
	set(&c.Duration, 10*time.Second)
	set(&c.Linger, 10*time.Second)
	c.Server = strings.TrimSuffix(c.Server, "/")
	if c.Publish.Events > 0 {
		c.Warmup = 0
	}
	switch {
	case len(c.Receiver) == 0:
		return errors.New("expected the command of a receiver")
	case c.Subscriptions < c.Endpoints:
		return fmt.Errorf("%d subscriptions are too few for %d endpoints: each needs one", c.Subscriptions, c.Endpoints)
	case c.Hang < 0 || c.Hang >= c.Endpoints:
		return fmt.Errorf("%d of %d endpoints hang: expected fewer, for some are to be measured", c.Hang, c.Endpoints)
	case c.Fail < 0 || c.Fail >= 1 || c.Verify < 0 || c.Verify > 1:
		return fmt.Errorf("shares of %g that fail and %g that are verified: expected 0 up to 1", c.Fail, c.Verify)
	case c.Backlog && c.Publish.Events == 0:
		return errors.New("a backlog needs a number of events")
	}
	return nil
}

// answering is how many subscriptions have an endpoint that answers.
func (c *WebhookConfig) answering() int {
	n := 0
	for i := range c.Subscriptions {
		if i%c.Endpoints >= c.Hang {
			n++
		}
	}
	return n
}

// Webhooks has a server send events to endpoints of its own, in a process apart, and reports how many a second arrive, after
// what time, what does not, and what that costs. When ctx ends early the report is of what was until then. What it made is deleted.
func Webhooks(ctx context.Context, c WebhookConfig) (report *WebhookReport, err error) {
	if err := c.defaults(); err != nil {
		return nil, err
	}
	api := &GroupConfig{Servers: []string{c.Server}, Header: c.Header}
	made := &webhookRun{config: &c, api: api}
	defer func() { err = errors.Join(err, made.remove(ctx)) }()
	if err := made.prepare(ctx); err != nil {
		return nil, err
	}
	if made.publishers, err = newPublishers(c.Run, c.Publish, &made.window); err != nil {
		return nil, err
	}
	secrets := make([]string, c.Subscriptions)
	for i := range secrets {
		secrets[i] = webhook.NewSecret().Text()
	}
	made.receiver, err = startReceiver(c.Receiver, receiverSetup{
		Run: c.Run, Endpoints: c.Endpoints, Hang: c.Hang, Fail: c.Fail, Delay: c.Delay, Lanes: made.publishers.config.Lanes, Verify: c.Verify, Secrets: secrets,
	})
	if err != nil {
		return nil, err
	}
	// While the subscriptions are there, so is what they are sent to.
	defer func() { err = errors.Join(err, made.remove(ctx), made.receiver.stop()) }()
	return made.run(ctx, secrets)
}

// webhookRun is one run.
type webhookRun struct {
	config     *WebhookConfig
	api        *GroupConfig
	receiver   *receiverProcess
	publishers *publishers
	window     gauges
	watch      *watch
	self       usage
	report     WebhookReport

	kind, stream string // to be deleted; "": nothing
	mu           sync.Mutex
	paths        []string // of the subscriptions; guarded by mu
}

// prepare makes the stream and its type.
func (w *webhookRun) prepare(ctx context.Context) error {
	c := w.config
	if c.Stream == "" {
		c.Stream = "loadtest-" + c.Run
		c.Publish.Type = "loadtest." + c.Run
		w.kind, w.stream = "/v1/event-types/"+c.Publish.Type, "/v1/streams/"+c.Stream
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
	if c.Batch > 1 {
		config["batch"] = map[string]any{"max": c.Batch}
	}
	ctx, cancel := context.WithTimeoutCause(ctx, proofTime, fmt.Errorf("not all subscriptions were active within %s", proofTime))
	defer cancel()
	err := each(c.Subscriptions, func(i int) error {
		var one struct{ ID string }
		_, err := w.api.call(ctx, http.DefaultClient, http.MethodPost, c.Server+"/v1/subscriptions", map[string]any{
			"name": fmt.Sprintf("loadtest-%s-%d", c.Run, i), "description": "of a load test", "streams": []string{c.Stream}, "secret": secrets[i],
			"sink":     fmt.Sprintf("http://127.0.0.1:%d/%d", w.receiver.ports[i%c.Endpoints], i),
			"protocol": "HTTP", "protocolsettings": map[string]any{"mode": c.Mode}, "config": config,
		}, &one)
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
	paths, rest := w.paths, []string{w.kind, w.stream}
	w.paths, w.kind, w.stream = nil, "", ""
	err := each(len(paths), func(i int) error { return gone(paths[i]) })
	for _, path := range rest {
		if path != "" {
			err = errors.Join(err, gone(path))
		}
	}
	return err
}

// run publishes and waits for what is published.
func (w *webhookRun) run(ctx context.Context, secrets []string) (*WebhookReport, error) {
	c, r := w.config, &w.report
	r.Run, r.Started, r.Backlog, r.Scenario = c.Run, time.Now(), c.Backlog, c.describe()
	r.Subscriptions, r.Endpoints, r.Hanging = c.Subscriptions, c.Endpoints, c.Hang
	if !c.Backlog {
		if err := w.subscribe(ctx, secrets); err != nil {
			return nil, err
		}
	}
	// The receiver is a process like those that are measured, so that all of them are charged the same window.
	w.watch = newWatch(append(slices.Clone(c.PIDs), w.receiver.command.Process.Pid), c.PIDTree)
	if err := w.watch.take("before"); err != nil {
		return nil, err
	}
	var measured, published float64
	var err error
	switch {
	case c.Backlog:
		published, err = w.publish(ctx)
		if err == nil {
			w.begin()
			if err = w.subscribe(ctx, secrets); err == nil {
				err = w.settle(ctx)
			}
			measured, err = w.end(err)
		}
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
	return r, w.finish()
}

// publish publishes all events, and returns how long that took.
func (w *webhookRun) publish(ctx context.Context) (float64, error) {
	began := time.Now()
	w.window.from.CompareAndSwap(0, began.UnixNano())
	err := w.publishers.run(ctx)
	return time.Since(began).Seconds(), err
}

// timed publishes for as long as the window, and a little before it, and waits for what is under way.
func (w *webhookRun) timed(ctx context.Context) (float64, error) {
	running, stop := context.WithCancel(ctx)
	defer stop()
	ended := make(chan error, 1)
	go func() { ended <- w.publishers.run(running) }()
	var err error
	over := pauseOr(ctx, ended, w.config.Warmup, &err)
	w.begin()
	if !over {
		over = pauseOr(ctx, ended, w.config.Duration, &err)
	}
	measured, endErr := w.end(nil)
	stop()
	if !over {
		err = <-ended
	}
	if err = errors.Join(err, endErr); err != nil {
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
	expected := w.expected()
	var before receiverReport
	moved, told := time.Now(), time.Now()
	for {
		got, err := w.receiver.ask(receiverOrder{})
		if err != nil {
			return err
		}
		if got.Events != before.Events || got.Refused != before.Refused {
			moved = time.Now()
		}
		if got.Events >= expected || time.Since(moved) > w.config.Linger {
			return nil
		}
		if w.config.Progress != nil && time.Since(told) > time.Second {
			_, _ = fmt.Fprintf(w.config.Progress, "delivered %d of %d\n", got.Events, expected)
			told = time.Now()
		}
		before = got
		if !wait(ctx, 5*time.Millisecond) {
			return context.Cause(ctx)
		}
	}
}

// expected is how many events are surely to arrive. Nothing is published any more.
func (w *webhookRun) expected() uint64 {
	var n uint64
	for _, s := range w.publishers.sequences() {
		n += s.end - uint64(len(s.doubts))
	}
	return n * uint64(w.config.answering())
}

// finish enters what arrived in the report.
func (w *webhookRun) finish() error {
	var all []wireSequence
	for _, s := range w.publishers.sequences() {
		one := wireSequence{End: s.end}
		for n := range s.doubts {
			one.Doubts = append(one.Doubts, n)
		}
		all = append(all, one)
	}
	got, err := w.receiver.ask(receiverOrder{Sequences: all})
	if err != nil {
		return err
	}
	w.report.take(w.config, got, w.expected())
	return nil
}

// receiverProcess is a receiver that was started.
type receiverProcess struct {
	command *exec.Cmd
	in      io.WriteCloser
	orders  *json.Encoder
	answers *json.Decoder
	ports   []int
}

// startReceiver starts a receiver. It ends with its standard input, and so with this process at the latest.
func startReceiver(command []string, setup receiverSetup) (*receiverProcess, error) {
	p := &receiverProcess{command: exec.Command(command[0], command[1:]...)}
	p.command.Stderr = os.Stderr
	in, err := p.command.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := p.command.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := p.command.Start(); err != nil {
		return nil, fmt.Errorf("start the receiver: %w", err)
	}
	p.in, p.orders, p.answers = in, json.NewEncoder(in), json.NewDecoder(out)
	var first receiverReport
	err = p.orders.Encode(setup)
	if err == nil {
		err = p.answers.Decode(&first)
	}
	if err == nil && len(first.Ports) != setup.Endpoints {
		err = fmt.Errorf("it has %d ports, expected %d", len(first.Ports), setup.Endpoints)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("start the receiver: %w", err), p.stop())
	}
	p.ports = first.Ports
	return p, nil
}

// ask asks the receiver, one at a time.
func (p *receiverProcess) ask(order receiverOrder) (receiverReport, error) {
	var got receiverReport
	if err := p.orders.Encode(order); err != nil {
		return got, fmt.Errorf("the receiver is gone: %w", err)
	}
	if err := p.answers.Decode(&got); err != nil {
		return got, fmt.Errorf("the receiver is gone: %w", err)
	}
	return got, nil
}

func (p *receiverProcess) stop() error {
	_ = p.in.Close()
	if err := p.command.Wait(); err != nil {
		return fmt.Errorf("the receiver: %w", err)
	}
	return nil
}

// describe names the scenario.
func (c *WebhookConfig) describe() string {
	rate := "as fast as it goes"
	if c.Publish.Rate > 0 {
		rate = fmt.Sprintf("%g/s", c.Publish.Rate)
	}
	text := fmt.Sprintf("%d subscriptions (%s, ordering %s, batches of %d) at %d endpoints, %d hang; %s", c.Subscriptions, c.Mode, c.Ordering, c.Batch, c.Endpoints, c.Hang, rate)
	if c.Fail > 0 {
		text += fmt.Sprintf(", %g%% are refused", math.Round(c.Fail*1e4)/100)
	}
	if c.Delay > 0 {
		text += fmt.Sprintf(", answers after %s", c.Delay)
	}
	if c.Backlog {
		text += ", from a backlog"
	}
	return text
}

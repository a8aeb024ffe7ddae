package loadtest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"
)

// SubscribeConfig says who reads what, who publishes, and what is measured.
type SubscribeConfig struct {
	Run    string // name of the run; default a random one. Give one to share it with a publisher in another process
	URL    string // of the stream; {i} and {lane} stand for the connection's number, and that modulo the lanes
	Query  []string
	Header http.Header
	Client string // ClientEpoll…; default ClientEpoll
	// Subprotocol is asked for by ClientWebSocket; default none.
	Subprotocol string

	Connections    int           // default 1000
	Dials          int           // being opened at once; default 256
	Ramp           float64       // connections begun in a second; 0: no limit
	Sources        []string      // local addresses; default enough of 127.0.0.0/8 for the ports needed, where the target is loopback
	ConnectTimeout time.Duration // for all to be live; default 60 s
	Settle         time.Duration // from all live until memory is sampled and publishing begins; default 2 s

	Publish  *PublishConfig // nil: nobody, or another process under the same Run
	Warmup   time.Duration  // published, but neither timed nor charged; default 0
	Duration time.Duration  // the window that is measured; default 10 s
	Linger   time.Duration  // how long after the last arrival what is outstanding counts as lost; default 3 s

	Storms       int           // rounds of dropping everybody within the window
	StormTimeout time.Duration // for all to be back; default 60 s

	PIDs    []int // processes to measure
	PIDTree bool  // with their descendants

	Progress io.Writer // a line a second; nil: none
}

func (c *SubscribeConfig) defaults() error {
	if c.Run == "" {
		c.Run = NewRun()
	}
	if c.URL == "" {
		return errors.New("no URL to read from")
	}
	set(&c.Client, ClientEpoll)
	set(&c.Connections, 1000)
	set(&c.Dials, 256)
	set(&c.ConnectTimeout, time.Minute)
	set(&c.Settle, 2*time.Second)
	set(&c.Duration, 10*time.Second)
	set(&c.Linger, 3*time.Second)
	set(&c.StormTimeout, time.Minute)
	if c.Connections < 1 || c.Dials < 1 {
		return errors.New("connections and dials must be at least 1")
	}
	return nil
}

// portsPerSource is how many connections are made from one local address: Linux has some 28,000 ports for one pair of
// addresses, and those of closed connections are not free at once.
const portsPerSource = 12_000

// loopbackSources spreads connections over as many addresses of 127.0.0.0/8 as they need.
func loopbackSources(target endpoint, connections int) []string {
	ips, err := net.LookupIP(target.url.Hostname())
	if err != nil || len(ips) == 0 || !ips[0].IsLoopback() || ips[0].To4() == nil || connections <= portsPerSource {
		return nil
	}
	var out []string
	for i := range (connections + portsPerSource - 1) / portsPerSource {
		out = append(out, fmt.Sprintf("127.0.%d.%d", i/250, 1+i%250))
	}
	return out
}

// subscription is one run of readers.
type subscription struct {
	config     SubscribeConfig
	target     endpoint
	fleet      *fleet
	client     client
	publishers *publishers // nil: none of ours
	all        *gauges
	watch      *watch
	report     *Report
	self       usage      // at the window's begin
	foreign    []sequence // what another process had published at the window's end
}

// Subscribe runs the readers, and the publisher if there is one, and reports. When ctx ends early the report is of what
// was until then, and Interrupted says so; an error is only what kept the run from being one.
func Subscribe(ctx context.Context, c SubscribeConfig) (*Report, error) {
	s, err := newSubscription(c)
	if err != nil {
		return nil, err
	}
	running, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	var clients sync.WaitGroup
	var clientErr error
	if err := s.watch.take("before"); err != nil {
		return nil, err
	}
	ctx, failed := context.WithCancelCause(ctx)
	defer failed(nil)
	clients.Go(func() {
		if clientErr = s.client.run(running); clientErr != nil {
			failed(clientErr)
		}
	})
	if s.config.Progress != nil {
		clients.Go(func() { s.progress(running) })
	}
	err = s.phases(ctx)
	live := int(s.all.live.Load())
	stop()
	clients.Wait()
	if clientErr != nil {
		return nil, clientErr
	}
	if err != nil {
		if ctx.Err() == nil && s.report.Seconds == 0 {
			return nil, err
		}
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		s.report.Interrupted = err.Error()
	}
	s.finish(live)
	return s.report, nil
}

func newSubscription(c SubscribeConfig) (*subscription, error) {
	if err := c.defaults(); err != nil {
		return nil, err
	}
	s := &subscription{config: c, all: &gauges{}, watch: newWatch(c.PIDs, c.PIDTree)}
	s.report = &Report{Run: c.Run, Client: c.Client, Target: c.URL, Started: time.Now(), Scenario: "sse"}
	if c.Client == ClientWebSocket {
		s.report.Scenario = "ws"
	}
	if c.Storms > 0 {
		s.report.Scenario = "storm"
	}
	var err error
	if s.target, err = resolve(expand(c.URL, 0, 1)); err != nil {
		return nil, err
	}
	lanes := 1
	if c.Publish != nil {
		if s.publishers, err = newPublishers(c.Run, *c.Publish, s.all); err != nil {
			return nil, err
		}
		lanes = s.publishers.config.Lanes
	}
	if len(c.Sources) == 0 {
		c.Sources = loopbackSources(s.target, c.Connections*(1+c.Storms))
	}
	s.fleet = &fleet{all: s.all, header: c.Header, dials: c.Dials, ramp: c.Ramp, sources: c.Sources, protocol: c.Subprotocol}
	shards := 1
	if c.Client != ClientEpoll {
		shards = 16
	}
	for range shards {
		s.fleet.tallies = append(s.fleet.tallies, newTally())
	}
	for i := range c.Connections {
		r := &reader{index: i, tally: s.fleet.tallies[i%shards], all: s.all, marks: newMarker(c.Run)}
		if r.target, err = addQuery(c.URL, c.Query, i, lanes); err != nil {
			return nil, err
		}
		first, n := s.lanesOf(i, lanes)
		r.ledger = newLedger(first, n, s.publishers == nil)
		s.fleet.readers = append(s.fleet.readers, r)
	}
	s.client, err = s.fleet.client(c.Client, s.target)
	return s, err
}

// maxForeignLanes bounds what a reader accounts for when the publisher is another process, whose lanes are not known.
const maxForeignLanes = 64

// lanesOf says which lanes connection i asks for: a placeholder in its URL or query makes that its own.
func (s *subscription) lanesOf(i, lanes int) (first, n int) {
	asked := s.config.URL + " " + strings.Join(s.config.Query, " ")
	switch {
	case s.publishers == nil:
		return 0, maxForeignLanes
	case strings.Contains(asked, "{lane}"):
		return i % lanes, 1
	case strings.Contains(asked, "{i}"):
		if i < lanes {
			return i, 1
		}
		return 0, 0
	}
	return 0, lanes
}

func (s *subscription) phases(ctx context.Context) error {
	if err := s.connect(ctx); err != nil {
		return err
	}
	if !wait(ctx, s.config.Settle) {
		return ctx.Err()
	}
	if err := s.watch.take("connected"); err != nil {
		return err
	}
	publishing, stop := context.WithCancel(ctx)
	defer stop()
	var publisher sync.WaitGroup
	var publishErr error
	if s.publishers != nil {
		publisher.Go(func() { publishErr = s.publishers.run(publishing) })
		defer publisher.Wait()
	}
	err := s.measure(ctx)
	stop()
	publisher.Wait()
	if err == nil {
		err = publishErr
	}
	switch {
	case s.publishers != nil:
		// After an interruption too, else what is under way would count as lost; but then not for ever.
		last, cancel := context.WithTimeout(context.WithoutCancel(ctx), max(10*time.Second, s.config.Linger))
		s.linger(last)
		cancel()
	case err != nil:
	case s.all.deliveries.Load() > 0: // of another process, which may go on
		s.sampleForeign()
		wait(ctx, s.config.Linger)
	}
	return err
}

// connect waits until every reader is live.
func (s *subscription) connect(ctx context.Context) error {
	start := time.Now()
	defer func() { s.report.Connections = &Connections{ConnectTime: time.Since(start).Seconds()} }()
	ok, err := s.until(ctx, s.config.ConnectTimeout, func() bool {
		return int(s.all.live.Load()+s.all.stopped.Load()) >= s.config.Connections
	})
	if err != nil {
		return err
	}
	if live := s.all.live.Load(); live == 0 {
		return fmt.Errorf("no connection became live within %s: %d attempts failed (%s)", s.config.ConnectTimeout, s.all.failures.Load(), s.why())
	} else if !ok {
		s.note("only %d of %d connections are live after %s (%s); going on with those\n", live, s.config.Connections, s.config.ConnectTimeout, s.why())
	}
	return nil
}

// why is the last failure of any connection.
func (s *subscription) why() string {
	if what := s.all.lastFail.Load(); what != nil {
		return *what
	}
	return ""
}

// measure is the warm-up and the window.
func (s *subscription) measure(ctx context.Context) error {
	if !wait(ctx, s.config.Warmup) {
		return ctx.Err()
	}
	if err := s.watch.take("begin"); err != nil {
		return err
	}
	s.self, _ = sample(os.Getpid(), false)
	begin := time.Now()
	s.all.from.Store(begin.UnixNano())
	var err error
	if s.config.Storms > 0 {
		err = s.storms(ctx)
	} else if !wait(ctx, s.config.Duration) {
		err = ctx.Err()
	}
	end := time.Now()
	s.all.to.Store(end.UnixNano())
	if e := s.watch.take("after"); err == nil {
		err = e
	}
	s.report.Seconds = end.Sub(begin).Seconds()
	if now, e := sample(os.Getpid(), false); e == nil {
		s.report.Self = &SelfReport{Cores: (now.cpu - s.self.cpu).Seconds() / s.report.Seconds, RSS: now.rss}
	}
	return err
}

// linger waits for what is under way: until everything has arrived, or nothing has for the linger time.
func (s *subscription) linger(ctx context.Context) {
	expected := s.expected()
	end := time.Now()
	_, _ = s.until(ctx, time.Hour, func() bool {
		last := time.Unix(0, s.all.lastAt.Load())
		if last.Before(end) {
			last = end
		}
		return s.all.deliveries.Load() >= expected || time.Since(last) > s.config.Linger
	})
}

// until polls a condition. It says whether the condition came true in time; an error is the end of ctx.
func (s *subscription) until(ctx context.Context, timeout time.Duration, cond func() bool) (bool, error) {
	for deadline := time.Now().Add(timeout); !cond(); {
		if time.Now().After(deadline) {
			return false, nil
		}
		if !wait(ctx, 2*time.Millisecond) {
			return false, ctx.Err()
		}
	}
	return true, nil
}

func (s *subscription) note(format string, args ...any) {
	if s.config.Progress != nil {
		_, _ = fmt.Fprintf(s.config.Progress, format, args...)
	}
}

func (s *subscription) progress(ctx context.Context) {
	var before uint64
	for wait(ctx, time.Second) {
		now := s.all.deliveries.Load()
		var sent, failed uint64
		if s.publishers != nil {
			sent, failed = s.publishers.sent.Load(), s.publishers.failed.Load()
		}
		s.note("live %d/%d  published %d (%d failed)  delivered %d (+%d)  reconnects %d  failures %d\n",
			s.all.live.Load(), s.config.Connections, sent, failed, now, now-before, s.all.reconnects.Load(), s.all.failures.Load())
		before = now
	}
}

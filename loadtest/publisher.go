package loadtest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"os"
	"os/exec"
	"sync"
	"sync/atomic"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// PublishConfig says what is published, where to and how fast.
type PublishConfig struct {
	Name    string // of the publishers, where there are several kinds
	URL     string // posted to; {lane} may occur in it
	Command string // or: a shell command that takes one event a line on its standard input
	// ContentType defaults to application/cloudevents+json, or …-batch+json where Batch is above 1.
	ContentType string
	Header      http.Header
	Body        string // template of an event; default a CloudEvent
	Type        string // default loadtest.tick
	Source      string // default /loadtest
	Subject     string // default /loadtest/{lane}
	Size        int    // bytes of an event, about; default 400

	Rate       float64       // events a second, of all publishers together; 0: as fast as answers come
	Pace       *Pace         // how the rate changes over time, in place of Rate
	Batch      int           // events in a request, as a JSON array where above 1; default 1
	Publishers int           // connections that publish, each with one request at a time; default one for each 25 requests a second, at most 64
	Lanes      int           // numbered sequences; default one for each publisher
	Timeout    time.Duration // of a request; default 10 s
	Events     uint64        // stop after so many; 0: no such limit
	// Scheduled has each event say when it was due and how late it was sent, where there is a rate: latency then counts from
	// when it was due, so that what held a publisher up is counted in.
	Scheduled bool
}

// wanted is the mean rate that was to be, where that is one for the whole run.
func (c *PublishConfig) wanted() float64 {
	if c.Pace == nil {
		return c.Rate
	}
	return 0
}

func (c *PublishConfig) defaults() error {
	if (c.URL == "") == (c.Command == "") {
		return errors.New("publisher: expected either a URL or a command")
	}
	set(&c.Batch, 1)
	if c.Body == "" {
		c.Body = defaultBody
	}
	if c.ContentType == "" {
		c.ContentType = "application/cloudevents+json"
		if c.Batch > 1 {
			c.ContentType = "application/cloudevents-batch+json"
		}
	}
	set(&c.Type, "loadtest.tick")
	set(&c.Source, "/loadtest")
	set(&c.Subject, "/loadtest/{lane}")
	set(&c.Size, 400)
	set(&c.Timeout, 10*time.Second)
	if c.Publishers == 0 {
		c.Publishers = min(max(1, int(math.Ceil(c.most()/float64(c.Batch)/25))), 64)
		if c.Lanes > 0 {
			c.Publishers = min(c.Publishers, c.Lanes)
		}
	}
	if c.Command != "" {
		c.Publishers = 1
	}
	if c.Pace != nil {
		if err := c.Pace.check(); err != nil {
			return fmt.Errorf("publisher: %w", err)
		}
	}
	set(&c.Lanes, c.Publishers)
	if c.Lanes < c.Publishers {
		return fmt.Errorf("publisher: %d lanes are too few for %d publishers: a lane's order has one owner", c.Lanes, c.Publishers)
	}
	return nil
}

// most is the highest rate that there will be, 0 where there is none.
func (c *PublishConfig) most() float64 {
	most := c.Rate
	if c.Pace != nil {
		for _, s := range c.Pace.Stages {
			most = max(most, s.From, s.To)
		}
	}
	return most
}

func set[T comparable](v *T, to T) {
	var zero T
	if *v == zero {
		*v = to
	}
}

// publishers send events until their context is done.
type publishers struct {
	config PublishConfig
	first  int // the lane that lanes[0] stands for
	body   *template
	all    *gauges // for the window; the readers' own where there are readers

	sent       atomic.Uint64 // events acknowledged
	duplicates atomic.Uint64 // of those, such as the server had already
	failed     atomic.Uint64 // events refused or in doubt
	requests   atomic.Uint64

	mu       sync.Mutex
	lanes    []sequence              // guarded by mu
	acks     *hdrhistogram.Histogram // guarded by mu; of requests begun in the window
	recent   *hdrhistogram.Histogram // guarded by mu; of requests that ended since it was last taken
	lag      *hdrhistogram.Histogram // guarded by mu; how far behind their schedule requests began
	inWindow uint64                  // guarded by mu; events acknowledged within the window
	statuses map[int]uint64          // guarded by mu; answers that were not plain success
	lastFail string                  // guarded by mu
}

func newPublishers(run string, c PublishConfig, all *gauges) (*publishers, error) {
	if err := c.defaults(); err != nil {
		return nil, err
	}
	body, err := newTemplate(run, c.Body, &c)
	if err != nil {
		return nil, err
	}
	return &publishers{
		config: c, body: body, all: all, lanes: make([]sequence, c.Lanes),
		acks: newHistogram(), recent: newHistogram(), lag: newHistogram(), statuses: map[int]uint64{},
	}, nil
}

// sink takes rendered events. It is used by one publisher.
type sink interface {
	// send blocks until the events are acknowledged. An error goes with those of which that is not sure.
	send(ctx context.Context, lane int, body []byte, events int) (receipt, error)
	io.Closer
}

// receipt is what was answered to a request.
type receipt struct {
	status     int
	ok         int // so many events are surely acknowledged
	duplicates int // of those, such as are said to have been there already
}

// run publishes until ctx is done or the number of events is reached.
func (p *publishers) run(ctx context.Context) error {
	var running sync.WaitGroup
	errs := make([]error, p.config.Publishers)
	for i := range p.config.Publishers {
		s, err := p.sink()
		if err != nil {
			return err
		}
		running.Go(func() {
			p.publish(ctx, i, s)
			errs[i] = s.Close()
		})
	}
	running.Wait()
	return errors.Join(errs...)
}

func (p *publishers) sink() (sink, error) {
	if p.config.Command != "" {
		return newCommandSink(p.config.Command)
	}
	return newPoster(&p.config)
}

// schedule says when publisher i's requests are due: a function of their number, false for never; nil where there is no rate.
func (c *PublishConfig) schedule(i int) func(n int) (time.Time, bool) {
	start := time.Now()
	switch {
	case c.Pace != nil:
		return func(n int) (time.Time, bool) {
			after, ever := c.Pace.due(float64((n*c.Publishers + i) * c.Batch))
			return start.Add(after), ever
		}
	case c.Rate > 0:
		interval := time.Duration(float64(c.Batch*c.Publishers) / c.Rate * float64(time.Second))
		// Publishers start evenly spread over one interval, lest all of them send at the same moment.
		start = start.Add(interval * time.Duration(i) / time.Duration(c.Publishers))
		return func(n int) (time.Time, bool) { return start.Add(time.Duration(n) * interval), true }
	}
	return nil
}

// publish is publisher i. It owns the lanes i, i+publishers, i+2·publishers…, and sends them in turn.
func (p *publishers) publish(ctx context.Context, i int, to sink) {
	c := &p.config
	schedule := c.schedule(i)
	lane := i
	var body []byte
	for n := 0; ; n++ {
		due := time.Now()
		if schedule != nil {
			var ever bool
			if due, ever = schedule(n); !ever {
				return
			}
		}
		if !wait(ctx, time.Until(due)) || c.Events > 0 && p.sent.Load()+p.failed.Load() >= c.Events {
			return
		}
		first := p.take(lane, c.Batch)
		began := time.Now()
		m := mark{lane: p.first + lane, seq: first, sent: began.UnixNano()}
		if c.Scheduled && schedule != nil {
			m.sent, m.late, m.scheduled = due.UnixNano(), int64(began.Sub(due)), true
		}
		body = p.render(body[:0], m)
		answer, err := to.send(ctx, m.lane, body, c.Batch)
		p.account(lane, first, answer, err, began, began.Sub(due))
		if err != nil && !wait(ctx, 50*time.Millisecond) { // a refusing server is not hammered
			return
		}
		if lane += c.Publishers; lane >= c.Lanes {
			lane = i
		}
	}
}

func (p *publishers) take(lane, n int) uint64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	first := p.lanes[lane].end
	p.lanes[lane].end += uint64(n)
	return first
}

// render appends a request's events, of which the mark is the first one's.
func (p *publishers) render(dst []byte, m mark) []byte {
	if p.config.Batch == 1 {
		return p.body.append(dst, m)
	}
	for i := range p.config.Batch {
		if p.config.Command == "" {
			dst = append(dst, "[,"[min(i, 1)])
		} else if i > 0 {
			dst = append(dst, '\n')
		}
		dst = p.body.append(dst, m)
		m.seq++
	}
	if p.config.Command == "" {
		dst = append(dst, ']')
	}
	return dst
}

func (p *publishers) account(lane int, first uint64, answer receipt, err error, began time.Time, lag time.Duration) {
	batch := p.config.Batch
	p.requests.Add(1)
	p.sent.Add(uint64(answer.ok))
	p.duplicates.Add(uint64(answer.duplicates))
	p.failed.Add(uint64(batch - answer.ok))
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	record(p.recent, int64(now.Sub(began)))
	if p.all.in(began.UnixNano()) {
		record(p.acks, int64(now.Sub(began)))
		record(p.lag, int64(lag))
	}
	if p.all.in(now.UnixNano()) {
		p.inWindow += uint64(answer.ok)
	}
	if err == nil && answer.ok == batch {
		return
	}
	p.statuses[answer.status]++
	if err != nil {
		p.lastFail = err.Error()
	}
	// Which of a batch failed is not looked into: none of it is held against the server.
	l := &p.lanes[lane]
	if l.doubts == nil {
		l.doubts = map[uint64]struct{}{}
	}
	for i := range batch {
		l.doubts[first+uint64(i)] = struct{}{}
	}
}

// takeRecent adds how long the requests took that ended since it was last called.
func (p *publishers) takeRecent(to *hdrhistogram.Histogram) {
	p.mu.Lock()
	defer p.mu.Unlock()
	to.Merge(p.recent)
	p.recent.Reset()
}

// sequences returns the publisher's side of every lane. No lane may be in use any more.
func (p *publishers) sequences() []sequence {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.lanes
}

// commandSink feeds a command's standard input. A written line counts as acknowledged: the command says nothing.
type commandSink struct {
	command *exec.Cmd
	stdin   io.WriteCloser
}

func newCommandSink(command string) (*commandSink, error) {
	c := exec.Command("sh", "-c", command)
	c.Stdout, c.Stderr = os.Stderr, os.Stderr
	in, err := c.StdinPipe()
	if err != nil {
		return nil, err
	}
	if err := c.Start(); err != nil {
		return nil, fmt.Errorf("publisher command %q: %w", command, err)
	}
	return &commandSink{c, in}, nil
}

func (s *commandSink) send(_ context.Context, _ int, body []byte, events int) (receipt, error) {
	if _, err := s.stdin.Write(append(body, '\n')); err != nil {
		return receipt{}, fmt.Errorf("publisher command: %w", err)
	}
	return receipt{ok: events}, nil
}

func (s *commandSink) Close() error {
	_ = s.stdin.Close()
	if err := s.command.Wait(); err != nil {
		return fmt.Errorf("publisher command: %w", err)
	}
	return nil
}

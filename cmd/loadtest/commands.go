package main

import (
	"context"
	"errors"
	"io"
	"os"
	"time"

	"github.com/eventissuer/eventissuer/loadtest"
)

// duration is a time.Duration whose default prints as it is written.
type duration struct{ time.Duration }

// UnmarshalText reads 10s, 1m30s and the like.
func (d *duration) UnmarshalText(p []byte) (err error) {
	d.Duration, err = time.ParseDuration(string(p))
	return err
}

// readers is shared by the commands that read.
type readers struct {
	target    `embed:""`
	publisher `embed:"" group:"Publisher"`

	URL            string   `name:"url" help:"Stream to read; {i} (the connection's number) and {lane} may occur."`
	Query          []string `sep:"none" placeholder:"NAME=VALUE" help:"Added to the URL, escaped; {i} and {lane} may occur. A filter by either is taken at its word: other lanes are unexpected. Repeatable."`
	From           string   `help:"Where reading begins: oldest, latest or a time. Added to the query."`
	After          string   `help:"Cursor that reading begins after. Added to the query."`
	Connections    int      `short:"n" default:"1000" help:"Readers (${default})."`
	Dials          int      `help:"Connections being opened at once (256; 1024 in a storm)."`
	Ramp           float64  `placeholder:"N" help:"Connections begun in a second (no limit)."`
	LocalAddr      []string `name:"local" placeholder:"ADDRESS" help:"Local address to connect from, in turn. Default enough of 127.0.0.0/8 for the ports needed, where the target is loopback. Repeatable."`
	ConnectTimeout duration `name:"connect-timeout" default:"60s" help:"For all to be live (${default})."`
	Settle         duration `default:"2s" help:"From all live until memory is taken and publishing begins (${default})."`
	Rate           float64  `default:"100" help:"Events a second (${default}); 0 for idle connections."`
	NoPublish      bool     `name:"no-publish" help:"Another process publishes, under the same --run."`
	Publishers     int      `help:"Connections that publish. Default one for each 25 requests a second, since each waits for its answers."`
	Warmup         duration `default:"2s" help:"Published, but neither timed nor charged (${default})."`
	Duration       duration `short:"d" default:"10s" help:"The window that is measured (${default})."`
	Scheduled      bool     `help:"Count latency from when each event was due, so that what held the publisher up is counted in. It is told from sending too."`
	Shards         int      `default:"1" help:"Processes that the readers are spread over. One may open as many connections as it may have files (${default})."`
	Linger         duration `default:"3s" help:"After the last arrival, before what is outstanding is lost (${default})."`
}

type sseCommand struct {
	readers `embed:""`
	Client  string `default:"${client}" enum:"epoll,goroutine,r3labs" help:"epoll: one loop, leanest, http:// on Linux. goroutine: any system and https://. r3labs: github.com/r3labs/sse, a client as others use it (${default})."`
}

type wsCommand struct {
	readers     `embed:""`
	Subprotocol string `default:"eventissuer.v1" help:"eventissuer.v1 or cloudevents.json, or another server's; empty for none (${default})."`
}

type stormCommand struct {
	readers      `embed:""`
	Client       string   `default:"${client}" enum:"epoll,goroutine,r3labs" help:"As for sse (${default})."`
	Rounds       int      `default:"1" help:"Times that everybody is dropped, evenly over the duration (${default})."`
	StormTimeout duration `name:"storm-timeout" default:"60s" help:"For all to be back (${default})."`
}

type publishCommand struct {
	target      `embed:""`
	publisher   `embed:"" group:"Publisher"`
	Rate        float64  `help:"Events a second; 0: as fast as answers come (0)."`
	Concurrency int      `short:"c" default:"1" help:"Connections, each with one request at a time (${default})."`
	Events      uint64   `help:"Stop after so many events."`
	Warmup      duration `default:"1s" help:"Published, but not measured (${default})."`
	Duration    duration `short:"d" default:"10s" help:"The window that is measured (${default})."`
}

func (r *readers) config(ctx context.Context) (loadtest.SubscribeConfig, error) {
	c := loadtest.SubscribeConfig{}
	if r.Connections < 1 {
		return c, usageError("--connections (-n): expected at least 1")
	}
	if err := r.prepare(ctx, &r.URL, &r.publisher); err != nil {
		return c, err
	}
	if r.URL == "" {
		return c, usageError("expected --stream NAME of an Event Issuer, or --url of any stream")
	}
	h, err := fields(r.Header)
	if err != nil {
		return c, err
	}
	query := r.Query
	if r.From != "" {
		query = append(query, "from="+r.From)
	}
	if r.After != "" {
		query = append(query, "after="+r.After)
	}
	c = loadtest.SubscribeConfig{
		Run: r.RunName, URL: r.URL, Query: query, Header: h, Connections: r.Connections, Dials: r.Dials, Ramp: r.Ramp, Sources: r.LocalAddr,
		ConnectTimeout: r.ConnectTimeout.Duration, Settle: r.Settle.Duration, Warmup: r.Warmup.Duration, Duration: r.Duration.Duration,
		Linger: r.Linger.Duration, PIDs: r.PID, PIDTree: r.PIDTree, Shards: r.Shards,
	}
	self, err := os.Executable()
	if err != nil {
		return c, err
	}
	c.Shard = []string{self, "shard"}
	if r.Rate > 0 && !r.NoPublish {
		p, err := r.publisher.config(r.Rate, r.Publishers)
		if err != nil {
			return c, err
		}
		p.Scheduled = r.Scheduled
		c.Publish = &p
	} else {
		c.Warmup = 0
	}
	return c, nil
}

func (r *readers) run(ctx context.Context, w io.Writer, c loadtest.SubscribeConfig) error {
	watch, done := r.watch(false)
	c.Watch = watch
	report, err := loadtest.Subscribe(ctx, c)
	done()
	if report == nil {
		return err
	}
	return errors.Join(err, r.print(w, report, report.Interrupted))
}

// Run is called by kong.
func (s *sseCommand) Run(ctx context.Context, out io.Writer) error {
	c, err := s.config(ctx)
	if err != nil {
		return err
	}
	c.Client = s.Client
	return s.run(ctx, out, c)
}

// Run is called by kong.
func (w *wsCommand) Run(ctx context.Context, out io.Writer) error {
	c, err := w.config(ctx)
	if err != nil {
		return err
	}
	c.Client, c.Subprotocol = loadtest.ClientWebSocket, w.Subprotocol
	return w.run(ctx, out, c)
}

// Run is called by kong.
func (s *stormCommand) Run(ctx context.Context, out io.Writer) error {
	if s.Dials == 0 {
		s.Dials = 1024
	}
	c, err := s.config(ctx)
	if err != nil {
		return err
	}
	c.Client, c.Storms, c.StormTimeout = s.Client, s.Rounds, s.StormTimeout.Duration
	return s.run(ctx, out, c)
}

// Run is called by kong.
func (p *publishCommand) Run(ctx context.Context, out io.Writer) error {
	if err := p.prepare(ctx, nil, &p.publisher); err != nil {
		return err
	}
	if p.PublishURL == "" && p.PublishCmd == "" {
		return usageError("expected --stream NAME of an Event Issuer, --publish-url or --publish-cmd")
	}
	c, err := p.publisher.config(p.Rate, p.Concurrency)
	if err != nil {
		return err
	}
	c.Events = p.Events
	watch, done := p.watch(false)
	report, err := loadtest.Publish(ctx, loadtest.PublishRunConfig{
		Run: p.RunName, Publish: c, Warmup: p.Warmup.Duration, Duration: p.Duration.Duration, PIDs: p.PID, PIDTree: p.PIDTree, Watch: watch,
	})
	done()
	if err != nil {
		return err
	}
	return p.print(out, report, report.Interrupted)
}

package main

import (
	"context"
	"io"

	"github.com/eventissuer/eventissuer/loadtest"
)

// takers is shared by the commands that take from a subscription.
type takers struct {
	Server         []string `placeholder:"URL" default:"http://127.0.0.1:8080" help:"Event Issuer. Repeatable, for its replicas (${default})."`
	Stream         string   `required:"" help:"Stream that is subscribed to."`
	Header         []string `short:"H" sep:"none" placeholder:"'Name: value'" help:"Header field of every request of the sessions. Repeatable."`
	Ordering       string   `default:"key" enum:"key,none" help:"Of the subscription: key or none (${default})."`
	Client         string   `default:"ndjson" enum:"ndjson,sse" help:"ndjson or sse (${default})."`
	MaxUncommitted int      `name:"max-uncommitted" default:"10000" help:"Events that a session may have and not have acknowledged (${default})."`
	AckEvery       int      `name:"ack-every" default:"1000" help:"Events that are acknowledged at once (${default})."`
	AckAfter       duration `name:"ack-after" default:"5ms" help:"Or what has come in so long (${default})."`
	JSON           bool     `name:"json" help:"Print the report as JSON."`
}

func (t *takers) config() (loadtest.GroupConfig, error) {
	h, err := fields(t.Header)
	return loadtest.GroupConfig{
		Servers: t.Server, Header: h, Stream: t.Stream, Ordering: t.Ordering, Client: t.Client,
		MaxUncommitted: t.MaxUncommitted, AckEvery: t.AckEvery, AckAfter: t.AckAfter.Duration,
	}, err
}

type groupsCommand struct {
	takers   `embed:""`
	Sessions int   `short:"n" default:"10" help:"Sessions, dealt out among the servers (${default})."`
	PID      []int `name:"pid" help:"Process whose processor time and memory to measure. Repeatable."`
	PIDTree  bool  `name:"pid-tree" help:"Count each process's descendants in."`
}

type rebalanceCommand struct {
	takers     `embed:""`
	publisher  `embed:"" group:"Publisher"`
	Partitions int      `default:"24" help:"Partitions of a stream that is created (${default})."`
	Spread     []int    `placeholder:"N,N,…" help:"Sessions on each server. Default 20, dealt out."`
	Leave      int      `default:"1" help:"Server, counted from 1, of the session that leaves (${default})."`
	Rounds     int      `default:"5" help:"How often it leaves and comes back (${default})."`
	Calm       duration `default:"5s" help:"Before it leaves, and after (${default})."`
	Rate       float64  `default:"4000" help:"Events a second (${default})."`
	Publishers int      `default:"4" help:"Connections that publish (${default})."`
}

type consumeCommand struct {
	Brokers   []string `required:"" placeholder:"HOST:PORT" help:"Kafka."`
	Topic     string   `required:"" help:"What is read."`
	Consumers int      `short:"n" default:"10" help:"Members of the group (${default})."`
	JSON      bool     `name:"json" help:"Print the report as JSON."`
}

// Run is called by kong.
func (g *groupsCommand) Run(ctx context.Context, out io.Writer) error {
	c, err := g.config()
	if err != nil {
		return err
	}
	if g.Sessions < 1 {
		return usageError("--sessions (-n): expected at least 1")
	}
	c.Sessions, c.PIDs, c.PIDTree = g.Sessions, g.PID, g.PIDTree
	report, err := loadtest.Drain(ctx, c)
	if err != nil {
		return err
	}
	return printReport(out, g.JSON, report)
}

// Run is called by kong.
func (r *rebalanceCommand) Run(ctx context.Context, out io.Writer) error {
	c, err := r.takers.config()
	if err != nil {
		return err
	}
	c.Sessions, c.Spread = 20, r.Spread
	_, publish, err := loadtest.Prepare(ctx, loadtest.PrepareConfig{
		Server: r.Server[0], Stream: r.Stream, Partitions: r.Partitions, Type: r.Type, Header: c.Header,
	})
	if err != nil {
		return err
	}
	if r.PublishURL == "" && r.PublishCmd == "" {
		r.PublishURL = publish
	}
	p, err := r.publisher.config(r.Rate, r.Publishers)
	if err != nil {
		return err
	}
	report, err := loadtest.Rebalance(ctx, loadtest.RebalanceConfig{
		Group: c, Publish: p, Leave: r.Leave - 1, Rounds: r.Rounds, Calm: r.Calm.Duration,
	})
	if err != nil {
		return err
	}
	return printReport(out, r.takers.JSON, report)
}

// Run is called by kong.
func (c *consumeCommand) Run(ctx context.Context, out io.Writer) error {
	if c.Consumers < 1 {
		return usageError("--consumers (-n): expected at least 1")
	}
	report, err := loadtest.Consume(ctx, loadtest.ConsumeConfig{Brokers: c.Brokers, Topic: c.Topic, Consumers: c.Consumers})
	if err != nil {
		return err
	}
	return printReport(out, c.JSON, report)
}

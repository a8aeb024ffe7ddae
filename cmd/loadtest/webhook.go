package main

import (
	"context"
	"errors"
	"io"
	"os"

	"github.com/eventissuer/eventissuer/loadtest"
)

type webhookCommand struct {
	Server     string   `placeholder:"URL" default:"http://127.0.0.1:8080" env:"EVENTCTL_SERVER" help:"Event Issuer, started with --allow-loopback-sinks (${default})."`
	Header     []string `short:"H" sep:"none" placeholder:"'Name: value'" help:"Header field of every request. Repeatable."`
	Stream     string   `help:"Stream that is published to; made if missing. Default: one of this run, which is deleted afterwards."`
	Partitions int      `default:"4" help:"Partitions of a stream that is made (${default})."`

	Subscriptions int      `short:"n" default:"1" help:"Subscriptions, each of which gets every event (${default})."`
	OwnLane       bool     `help:"Each subscription gets one lane alone, by a filter."`
	Endpoints     int      `help:"Endpoints, a port each; subscriptions are dealt out among them. Default one for each subscription, at most 100."`
	Mode          string   `default:"structured" enum:"structured,binary" help:"structured or binary (${default})."`
	Signatures    []string `default:"v1" enum:"v1,v1a" help:"What messages are signed with: v1, v1a (${default})."`
	Ordering      string   `default:"key" enum:"key,none" help:"key or none (${default})."`
	Batch         int      `default:"1" help:"Events in a message, at most (${default})."`
	Concurrency   int      `help:"Messages of a subscription at a time. Default the server's."`
	Timeout       duration `default:"0s" help:"How long the server waits for an answer. Default the server's."`

	Schedule []string `placeholder:"DURATION" help:"After what times a delivery is tried again: 5s,1m. Default the server's."`

	Hang   int      `default:"0" help:"So many of the endpoints never answer (${default})."`
	Fail   float64  `default:"0" help:"Share of the messages that are answered 503 (${default})."`
	Delay  duration `default:"0s" help:"Before each answer (${default})."`
	Outage duration `default:"0s" help:"All endpoints answer 503 while --events are published, and for so long after; what they missed is measured."`
	Verify float64  `default:"0.01" help:"Share of the messages whose signatures are verified (${default})."`

	Rate         float64  `help:"Events a second; 0: as fast as answers come (0)."`
	Events       uint64   `help:"Publish so many, and wait until they are delivered, instead of a window of time."`
	Backlog      bool     `help:"Publish them first, then subscribe from the oldest."`
	Size         int      `default:"400" help:"Bytes of an event, about (${default})."`
	PublishBatch int      `name:"publish-batch" default:"1" help:"Events in a request that publishes (${default})."`
	Publishers   int      `help:"Connections that publish. Default one for each 25 requests a second, since each waits for its answers; 4 without --rate."`
	Lanes        int      `default:"64" help:"Numbered sequences, each with a subject and an order of its own (${default})."`
	Type         string   `default:"loadtest.tick" help:"Event type, with --stream (${default})."`
	Warmup       duration `default:"2s" help:"Published, but not measured (${default})."`
	Duration     duration `short:"d" default:"10s" help:"The window that is measured (${default})."`
	Linger       duration `default:"10s" help:"How long nothing may arrive until what is outstanding is lost (${default})."`

	PID       []int `name:"pid" help:"Process whose processor time and memory to measure. Repeatable."`
	PIDTree   bool  `name:"pid-tree" help:"Count each process's descendants in."`
	reporting `embed:""`
	RunName   string `name:"run" help:"Name of the run (letters and digits; default random)."`
}

type webhookReceiverCommand struct{}

// Run is called by kong.
func (w *webhookCommand) Run(ctx context.Context, out io.Writer) error {
	h, err := fields(w.Header)
	if err != nil {
		return err
	}
	if w.Publishers == 0 && w.Rate == 0 {
		w.Publishers = 4
	}
	if w.Subscriptions < 1 || w.Publishers < 0 || w.Lanes < 1 || w.Lanes < w.Publishers || w.Batch < 1 || w.PublishBatch < 1 {
		return usageError("expected at least 1 of --subscriptions, --batch, --publish-batch and --publishers, and a lane for each publisher")
	}
	if (w.Backlog || w.Outage.Duration > 0) && w.Events == 0 {
		return usageError("--backlog and --outage need --events")
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	c := loadtest.WebhookConfig{
		Server: w.Server, Header: h, Run: w.RunName, Stream: w.Stream, Partitions: w.Partitions,
		Subscriptions: w.Subscriptions, Endpoints: w.Endpoints, Mode: w.Mode, Signatures: w.Signatures, Ordering: w.Ordering, Batch: w.Batch,
		Concurrency: w.Concurrency, Timeout: w.Timeout.Duration, Schedule: w.Schedule,
		Hang: w.Hang, Fail: w.Fail, Delay: w.Delay.Duration, Outage: w.Outage.Duration, Verify: w.Verify, OwnLane: w.OwnLane, Backlog: w.Backlog,
		Publish: loadtest.PublishConfig{
			Header: h, Type: w.Type, Size: w.Size, Rate: w.Rate, Batch: w.PublishBatch, Publishers: w.Publishers, Lanes: w.Lanes, Events: w.Events,
		},
		Warmup: w.Warmup.Duration, Duration: w.Duration.Duration, Linger: w.Linger.Duration,
		Receiver: []string{self, "webhook-receiver"}, PIDs: w.PID, PIDTree: w.PIDTree,
	}
	watch, done := w.watch(false)
	c.Watch = watch
	report, err := loadtest.Webhooks(ctx, c)
	done()
	if report == nil {
		return err
	}
	return errors.Join(err, w.print(out, report, report.Interrupted)) // what it made may not have been deleted
}

// Run is called by kong.
func (webhookReceiverCommand) Run(out io.Writer) error { return loadtest.Receive(os.Stdin, out) }

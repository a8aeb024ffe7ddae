//go:build unix

package main

import (
	"context"
	"io"
	"math/rand/v2"
	"os"

	"github.com/eventissuer/eventissuer/loadtest/chaos"
)

type chaosCommand struct {
	Seed     uint64   `placeholder:"N" help:"Repeats the draws of an earlier run. Default random, and printed."`
	Duration duration `short:"d" default:"3m" help:"Of the faults; starting, repairing and checking come on top (${default})."`
	Every    duration `default:"4s" help:"A fault begins every so long on average (${default})."`
	Faults   []string `placeholder:"KIND,…" help:"Kinds of faults, as replica-kill, or what kinds begin with, as replica. Default all."`
	Readers  int      `short:"n" default:"24" help:"Clients that keep their cursors; named consumers, sessions of subscriptions and webhooks come on top (${default})."`
	Rate     float64  `default:"60" help:"Events a second (${default})."`
	Keys     int      `default:"60" help:"Keys, each with an order of its own (${default})."`
	Settle   duration `default:"2m" help:"For everybody to become whole after the repair (${default})."`
	Dir      string   `placeholder:"DIR" help:"Empty folder for data, logs and journal, which is kept. Default a temporary one, kept where a promise is broken."`
	Binary   string   `placeholder:"FILE" help:"The server. Default the eventissuer beside loadtest, or in the source's folder one that is built."`
	Check    string   `placeholder:"FILE" help:"Check the journal of an earlier run, and run nothing."`
	JSON     bool     `name:"json" help:"Print the report as JSON."`
	Quiet    bool     `short:"q" help:"No progress on standard error."`
}

// Run is called by kong.
func (c *chaosCommand) Run(ctx context.Context, out io.Writer) error {
	report, err := c.report(ctx)
	if err != nil {
		return err
	}
	if err := printReport(out, c.JSON, report); err != nil {
		return err
	}
	if !report.Whole() {
		return errContent
	}
	return nil
}

func (c *chaosCommand) report(ctx context.Context) (*chaos.Report, error) {
	if c.Check != "" {
		return chaos.Examine(c.Check)
	}
	if c.Readers < 1 || c.Keys < 1 || c.Rate <= 0 || c.Duration.Duration <= 0 || c.Every.Duration <= 0 {
		return nil, usageError("expected --readers, --keys, --rate, --duration and --every above 0")
	}
	if err := chaos.CheckFaults(c.Faults); err != nil {
		return nil, usageError("--faults: " + err.Error())
	}
	if c.Seed == 0 {
		c.Seed = rand.Uint64()
	}
	cfg := chaos.Config{
		Seed: c.Seed, Duration: c.Duration.Duration, Every: c.Every.Duration, Faults: c.Faults, Readers: c.Readers, Rate: c.Rate, Keys: c.Keys,
		Settle: c.Settle.Duration, Dir: c.Dir, Binary: c.Binary,
	}
	if !c.Quiet {
		cfg.Progress = os.Stderr
	}
	return chaos.Run(ctx, cfg)
}

package main

import (
	"context"
	"io"
	"strings"

	"github.com/eventissuer/eventissuer/loadtest/hostile"
)

// hostileCommand attacks a server.
type hostileCommand struct {
	target    `embed:""`
	publisher `embed:"" group:"Publisher"`

	URL         string   `name:"url" help:"Stream to attack and read."`
	Attack      []string `default:"all" help:"Attacks, by name: ${attacks}. Repeatable, or separated by commas (${default})."`
	Connections int      `short:"n" default:"1000" help:"Of an attack at once (${default})."`
	Opens       float64  `default:"200" help:"Connections that an attack opens in a second at most (${default})."`
	Bytes       float64  `default:"1048576" help:"Bytes that an attack sends in a second at most: it shares its machine with what it attacks (${default})."`
	Pace        duration `default:"1s" help:"Between two acts of one connection, such as the bytes of a slow header (${default})."`
	Duration    duration `short:"d" default:"5s" help:"Each window, quiet or under attack (${default})."`
	Rounds      int      `default:"3" help:"Quiet windows, and windows under attack, of each attack (${default})."`
	LocalAddr   string   `name:"local" placeholder:"ADDRESS" help:"Local address of the attack. Default 127.0.66.6 where the target is loopback: another than the readers'."`
	Readers     int      `default:"200" help:"Ordinary readers (${default})."`
	Rate        float64  `default:"50" help:"Events a second (${default})."`
	MaxRatio    float64  `name:"max-ratio" help:"Exit with 3 where an attack moves the others' p99 by more than so many times (no limit)."`
}

// attackNames are for the help text.
func attackNames() string {
	var names []string
	for _, a := range hostile.Attacks() {
		names = append(names, a.Name)
	}
	return strings.Join(names, ", ")
}

// Run is called by kong.
func (c *hostileCommand) Run(ctx context.Context, out io.Writer) error {
	if c.Connections < 1 || c.Readers < 1 || c.Rounds < 1 || c.Rate <= 0 || c.Opens <= 0 || c.Bytes <= 0 {
		return usageError("--connections (-n), --readers, --rounds, --rate, --opens and --bytes: expected above 0")
	}
	if len(c.PID) > 1 || c.PIDTree {
		return usageError("--pid: expected one process, without --pid-tree")
	}
	if err := c.prepare(ctx, &c.URL, &c.publisher); err != nil {
		return err
	}
	if c.URL == "" || c.PublishURL == "" {
		return usageError("expected --stream NAME of an Event Issuer, or --url and --publish-url")
	}
	h, err := fields(c.Header)
	if err != nil {
		return err
	}
	publish, err := c.publisher.config(c.Rate, 0)
	if err != nil {
		return err
	}
	config := hostile.Config{
		URL: c.URL, PublishURL: c.PublishURL, Attacks: c.Attack, Connections: c.Connections, Opens: c.Opens, Bytes: c.Bytes, Pace: c.Pace.Duration,
		Duration: c.Duration.Duration, Rounds: c.Rounds, From: c.LocalAddr, Readers: c.Readers, Header: h, Publish: publish,
		Progress: c.progressTo(),
	}
	if len(c.PID) == 1 {
		config.PID = c.PID[0]
	}
	report, err := hostile.Run(ctx, config)
	if report == nil {
		return err
	}
	if printed := printReport(out, c.JSON, report); printed != nil {
		return printed
	}
	if err != nil {
		return err
	}
	for _, o := range report.Attacks {
		if c.MaxRatio > 0 && o.Ratio > c.MaxRatio {
			return errContent
		}
	}
	if !report.Right() {
		return errContent
	}
	return nil
}

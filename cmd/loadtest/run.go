package main

import (
	"context"
	"errors"
	"io"
	"os"
	"strings"

	"github.com/eventissuer/eventissuer/loadtest"
	"github.com/eventissuer/eventissuer/loadtest/scenario"
)

type runCommand struct {
	Scenario string `arg:"" optional:"" type:"existingfile" help:"Scenario, in YAML. docs/loadtest.md says what it may hold, and loadtest/scenarios/ has some."`

	Reader    []string `sep:"none" placeholder:"'{KEY: VALUE, …}'" help:"A group of readers, added to the scenario's and said as one is there: {transport: sse, connections: 100}. Repeatable."`
	Publisher []string `sep:"none" placeholder:"'{KEY: VALUE, …}'" help:"A publisher, likewise: {rate: 100, size: 1000}. Repeatable."`

	Server    []string  `placeholder:"URL" env:"EVENTCTL_SERVER" help:"Event Issuer, in place of the scenario's (http://127.0.0.1:8080). Repeatable, for replicas that the readers are dealt out among."`
	Stream    string    `help:"Stream, in place of the scenario's. It and the event types are made if missing."`
	Header    []string  `short:"H" sep:"none" placeholder:"'Name: value'" help:"Header field of every request. Repeatable."`
	Shards    int       `placeholder:"N" help:"Processes that the readers are spread over. One may open as many connections as it may have files (1)."`
	Warmup    *duration `placeholder:"TIME" help:"In place of the scenario's."`
	Duration  *duration `short:"d" placeholder:"TIME" help:"In place of the scenario's."`
	Scale     float64   `default:"1" placeholder:"FACTOR" help:"Multiply the numbers of connections, to try a scenario in miniature (${default})."`
	TimeScale float64   `name:"time-scale" default:"1" placeholder:"FACTOR" help:"Multiply the times in which something happens (${default})."`
	PID       []int     `name:"pid" help:"Process whose processor time and memory to measure. Repeatable."`
	PIDTree   bool      `name:"pid-tree" help:"Count each process's descendants in."`
	reporting `embed:""`
	RunName   string `name:"run" help:"Name of the run, to share with a publisher in another process (letters and digits; default random)."`
	Check     bool   `help:"Read the scenario, and run nothing."`
}

type shardCommand struct{}

// Run is called by kong.
func (shardCommand) Run(out io.Writer) error { return loadtest.Shard(os.Stdin, out) }

// Run is called by kong.
func (r *runCommand) Run(ctx context.Context, out io.Writer) error {
	s, err := r.scenario()
	if err != nil {
		return err
	}
	c, err := s.Config()
	if err != nil || r.Check {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	c.Run, c.Shard = r.RunName, []string{self, "shard"}
	for i := range c.Webhooks {
		c.Webhooks[i].Hook.Receiver = []string{self, "webhook-receiver"}
	}
	if err := s.Prepare(ctx); err != nil {
		return err
	}
	watch, done := r.watch(true)
	c.Watch = watch
	report, err := loadtest.Run(ctx, c)
	done()
	if report == nil {
		return err
	}
	return errors.Join(err, r.print(out, report, report.Interrupted)) // what it made may not have been deleted
}

// scenario is the file's, with what the command line says in its place.
func (r *runCommand) scenario() (*scenario.Scenario, error) {
	s := &scenario.Scenario{Name: "run"}
	var err error
	switch {
	case r.Scenario != "":
		if s, err = scenario.Read(r.Scenario); err != nil {
			return nil, mistake(err)
		}
	case len(r.Reader) == 0:
		return nil, usageError("expected a scenario's file, or --reader and --publisher")
	}
	for _, text := range r.Reader {
		if err := s.AddReaders("--reader", text); err != nil {
			return nil, mistake(err)
		}
	}
	for _, text := range r.Publisher {
		if err := s.AddPublisher("--publisher", text); err != nil {
			return nil, mistake(err)
		}
	}
	for _, line := range r.Header {
		name, value, ok := strings.Cut(line, ":")
		if !ok {
			return nil, usageError("header " + line + ": expected 'Name: value'")
		}
		s.Header = append(s.Header, [2]string{strings.TrimSpace(name), strings.TrimSpace(value)})
	}
	if r.Scale <= 0 || r.TimeScale <= 0 {
		return nil, usageError("--scale and --time-scale: expected a number above 0")
	}
	s.Scale(r.Scale, r.TimeScale)
	r.override(s)
	return s, nil
}

func (r *runCommand) override(s *scenario.Scenario) {
	if len(r.Server) > 0 {
		s.Server, s.Servers = "", r.Server
	}
	if r.Stream != "" {
		s.Stream = r.Stream
	}
	if r.Shards != 0 {
		s.Shards = r.Shards
	}
	if len(r.PID) > 0 {
		s.PIDs, s.PIDTree = r.PID, r.PIDTree
	}
	if r.Warmup != nil {
		s.Warmup = r.Warmup.Duration
	}
	if r.Duration != nil {
		s.Duration = r.Duration.Duration
	}
}

// mistake is a scenario's, which is wrong usage.
func mistake(err error) error {
	if errors.As(err, new(*scenario.Error)) {
		return usageError(err.Error())
	}
	return err
}

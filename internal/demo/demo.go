package demo

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"time"
	_ "time/tzdata" // Oslo's time zone, on machines that have none

	"github.com/eventissuer/eventissuer/internal/demo/timetable"
)

// The streams and event types of the demo.
const (
	PositionStream = "train-positions"
	MovementStream = "train-movements"

	PositionType = "no.banenor.train.position.v1"
	ArrivedType  = "no.banenor.train.arrived.v1"
	DepartedType = "no.banenor.train.departed.v1"
	DelayedType  = "no.banenor.train.delayed.v1"
)

// Source is the CloudEvents source of all its events.
const Source = "/demo/control-centre"

// Config says where and how to publish.
type Config struct {
	BaseURL    string        // of the gateway, such as http://127.0.0.1:8080. Required
	HTTPClient *http.Client  // http.DefaultClient
	Start      string        // time of day, "08:00", at which the demo's clock starts; empty: now, in Oslo
	Interval   time.Duration // between two positions of a train; 5 s
	Log        *slog.Logger  // slog.Default()
}

// Demo is the publisher.
type Demo struct {
	// static
	api      *api
	log      *slog.Logger
	day      *timetable.Timetable
	oslo     *time.Location
	start    string
	interval time.Duration

	// owned by Run
	clock    clock
	book     *book
	days     map[string][]*journey // by date
	touched  [2]serviceDay         // the days of journeys
	journeys []*journey
	numbers  map[numberKey]int64 // the last one given
	seen     map[string]bool     // ids that the log holds already, until the first batch is made
	told     time.Time           // movements up to here are published
	ticked   time.Time           // positions up to here are published
	complain complaint
	refused  time.Time // when a refusal was last logged
}

// New checks the configuration and reads the embedded timetable. It publishes nothing yet.
func New(c Config) (*Demo, error) {
	if c.BaseURL == "" {
		return nil, errors.New("demo: BaseURL is empty: name the gateway to publish to")
	}
	if c.Start != "" {
		if _, err := time.Parse("15:04", c.Start); err != nil {
			return nil, fmt.Errorf("demo: start %q: write a time of day, such as 08:00", c.Start)
		}
	}
	if c.HTTPClient == nil {
		c.HTTPClient = http.DefaultClient
	}
	if c.Interval <= 0 {
		c.Interval = 5 * time.Second
	}
	if c.Log == nil {
		c.Log = slog.Default()
	}
	day, err := timetable.Load()
	if err != nil {
		return nil, err
	}
	oslo, err := time.LoadLocation("Europe/Oslo")
	if err != nil {
		return nil, fmt.Errorf("demo: %w", err)
	}
	return &Demo{
		api:      &api{base: strings.TrimRight(c.BaseURL, "/"), client: c.HTTPClient},
		log:      c.Log,
		day:      day,
		oslo:     oslo,
		start:    c.Start,
		interval: c.Interval,
		book:     newBook(day),
		days:     map[string][]*journey{},
		numbers:  map[numberKey]int64{},
	}, nil
}

// Run publishes until ctx ends, and then returns nil. It blocks; it is called once.
func (d *Demo) Run(ctx context.Context) error {
	d.clock = newClock(d.start, d.oslo)
	if !d.patiently(ctx, "make the streams and event types", d.setUp) {
		return nil
	}
	now := d.clock.now()
	d.told, d.ticked = now, now.Add(-d.interval)
	if err := d.takeUp(ctx); err != nil {
		d.log.Warn("the demo cannot read where it stood, and numbers its events from 1", "error", err)
	}
	d.log.Info("the trains run", "time", now.Format("15:04"), "running", len(d.running(now)))

	// Every train publishes once per interval, each at a moment of its own: twenty small batches.
	ticks := time.NewTicker(d.interval / 20)
	defer ticks.Stop()
	for {
		if !d.publishDue(ctx, d.clock.now()) {
			return nil
		}
		select {
		case <-ctx.Done():
			return nil
		case <-ticks.C:
		}
	}
}

// patiently tries until do succeeds; false when ctx has ended.
func (d *Demo) patiently(ctx context.Context, what string, do func(context.Context) error) bool {
	wait := backoff{}
	for {
		err := do(ctx)
		if err == nil {
			d.complain.over(d.log)
			return true
		}
		if ctx.Err() != nil {
			return false
		}
		d.complain.about(d.log, what, err)
		if !wait.sleep(ctx, err) {
			return false
		}
	}
}

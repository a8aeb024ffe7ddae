package demo

import (
	"context"
	"log/slog"
	"time"
)

// setUp makes the streams and event types that do not exist yet.
func (d *Demo) setUp(ctx context.Context) error {
	type stream struct {
		Name        string `json:"name"`
		Partitions  int    `json:"partitions"`
		Retention   string `json:"retention"`
		Description string `json:"description"`
	}
	for _, s := range []stream{
		{PositionStream, 3, "24h", "Where each running train of Norway is, every few seconds."},
		{MovementStream, 3, "168h", "Arrivals, departures and delays of the trains of Norway."},
	} {
		if err := d.api.make(ctx, "/v1/streams", s); err != nil {
			return err
		}
	}
	type eventType struct {
		Type         string `json:"type"`
		Stream       string `json:"stream"`
		Description  string `json:"description"`
		Audience     string `json:"audience"`
		KeyAttribute string `json:"keyAttribute"`
	}
	for _, t := range []eventType{
		{Type: PositionType, Stream: PositionStream, Description: "A running train's position, speed, direction and delay."},
		{Type: ArrivedType, Stream: MovementStream, Description: "A train arrived at a station."},
		{Type: DepartedType, Stream: MovementStream, Description: "A train departed from a station."},
		{Type: DelayedType, Stream: MovementStream, Description: "A train's delay became another by a minute or more."},
	} {
		t.Audience, t.KeyAttribute = "public", "subject"
		if err := d.api.make(ctx, "/v1/event-types", t); err != nil {
			return err
		}
	}
	return nil
}

// complaint keeps an outage from filling the log: it is told when it begins, once a minute, and when it is over.
type complaint struct{ since, last time.Time }

func (c *complaint) about(log *slog.Logger, what string, err error) {
	now := time.Now()
	if c.since.IsZero() {
		c.since = now
	}
	if now.Sub(c.last) >= time.Minute {
		c.last = now
		log.Warn("the demo waits for the gateway", "to", what, "error", err)
	}
}

func (c *complaint) over(log *slog.Logger) {
	if !c.since.IsZero() {
		log.Info("the demo goes on", "after", time.Since(c.since).Round(time.Second))
		*c = complaint{}
	}
}

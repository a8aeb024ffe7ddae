package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/google/uuid"

	"github.com/eventissuer/eventissuer/internal/clock"
)

type replayCommand struct {
	Files  []string `arg:"" help:"Files of events, each in the order of its times: one JSON object a line, or one JSON array. Several are merged by time. - is standard input."`
	Speed  float64  `default:"1" help:"How many times faster than recorded (${default}); 0 for as fast as possible."`
	From   string   `placeholder:"TIME" help:"Begin at the first event of this time or later (RFC 3339)."`
	Until  string   `placeholder:"TIME" help:"End before the first event of this time or later (RFC 3339)."`
	NewIDs bool     `name:"new-ids" help:"Give every event a new id, so that a second replay is no duplicate of the first."`
	Now    bool     `help:"Set each event's time to the moment of its replay."`

	publishing `embed:""`
}

// Help is shown by kong.
func (p *replayCommand) Help() string {
	return `Examples:

  eventctl replay day.ndjson --speed 60 --new-ids --now
      an hour of recorded events a minute, as if they happened now
  eventctl replay trains.ndjson works.ndjson --from 2018-08-28T07:00:00+02:00 --speed 10
      the events of two recordings, merged; they may belong to any number of streams

Events without a time follow at once on the one before.
`
}

// recording is one file, with its next event in hand.
type recording struct {
	reader *eventReader
	raw    json.RawMessage
	at     time.Time
	number int
}

// advance reads the next event that can be read, and has s name the others; false at the end.
func (r *recording) advance(s *sender) (bool, error) {
	for {
		raw, err := r.reader.next()
		if errors.Is(err, io.EOF) {
			return false, nil
		}
		var unreadable *eventError
		if err != nil && !errors.As(err, &unreadable) {
			return false, err
		}
		if unreadable == nil {
			unreadable = r.take(raw)
		}
		if unreadable == nil {
			return true, nil
		}
		s.refuse(item{name: r.name(), unreadable: unreadable}, unreadable.Error())
	}
}

func (r *recording) name() string { return fmt.Sprintf("%s: event %d", r.reader.name, r.reader.number) }

// take has the event in hand, with its time.
func (r *recording) take(raw json.RawMessage) *eventError {
	var event struct {
		Time string `json:"time"`
	}
	if err := json.Unmarshal(raw, &event); err != nil {
		return &eventError{err.Error()}
	}
	if event.Time != "" {
		at, err := time.Parse(time.RFC3339Nano, event.Time)
		if err != nil {
			return &eventError{fmt.Sprintf("has the time %q, expected RFC 3339 as 2026-01-02T03:04:05Z", event.Time)}
		}
		r.at = at
	}
	r.raw, r.number = raw, r.reader.number
	return nil
}

// Run is called by kong.
func (p *replayCommand) Run(ctx context.Context, c *client, o *console) error {
	if p.Speed < 0 {
		return &usageError{"--speed must not be below 0"}
	}
	from, err := moment("from", p.From)
	if err != nil {
		return err
	}
	until, err := moment("until", p.Until)
	if err != nil {
		return err
	}
	s := newSender(c, o, p.publishing)
	var open []*recording
	defer func() {
		for _, r := range open {
			_ = r.reader.Close()
		}
	}()
	for _, name := range p.Files {
		reader, err := openEvents(name, o.in)
		if err != nil {
			return err
		}
		r := &recording{reader: reader}
		open = append(open, r)
		if more, err := r.advance(s); err != nil {
			return err
		} else if !more {
			open = open[:len(open)-1]
			_ = reader.Close()
		}
	}
	if len(open) > 0 {
		s.progress.begin(open[0].reader)
	}
	return s.finish(ctx, p.play(ctx, s, &open, from, until))
}

func moment(flag, text string) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	t, err := time.Parse(time.RFC3339Nano, text)
	if err != nil {
		return t, &usageError{fmt.Sprintf("--%s %q: expected a time as 2026-01-02T03:04:05Z", flag, text)}
	}
	return t, nil
}

// play sends the recordings' events when they are due. What is due at once goes in one request.
func (p *replayCommand) play(ctx context.Context, s *sender, open *[]*recording, from, until time.Time) error {
	var start, first time.Time
	for len(*open) > 0 {
		i := earliest(*open)
		r := (*open)[i]
		if !until.IsZero() && !r.at.IsZero() && !r.at.Before(until) {
			return nil
		}
		if r.at.IsZero() || from.IsZero() || !r.at.Before(from) {
			if first.IsZero() && !r.at.IsZero() {
				start, first = time.Now(), r.at
			}
			if p.Speed > 0 && !first.IsZero() {
				due := start.Add(time.Duration(float64(r.at.Sub(first)) / p.Speed))
				if err := p.await(ctx, s, due); err != nil {
					return err
				}
			}
			if err := p.send(ctx, s, r); err != nil {
				return err
			}
		}
		more, err := r.advance(s)
		if err != nil {
			return err
		}
		if !more {
			_ = r.reader.Close()
			*open = append((*open)[:i], (*open)[i+1:]...)
		}
	}
	return nil
}

// await sends what is pending before it waits for the next event's time.
func (p *replayCommand) await(ctx context.Context, s *sender, due time.Time) error {
	d := time.Until(due)
	if d <= 0 {
		return nil
	}
	if err := s.flush(ctx); err != nil {
		return err
	}
	if !clock.Pause(ctx, time.Until(due)) {
		return context.Canceled
	}
	return nil
}

func (p *replayCommand) send(ctx context.Context, s *sender, r *recording) error {
	change := map[string]string{}
	if p.NewIDs {
		change["id"] = uuid.NewString()
	}
	if p.Now {
		change["time"] = time.Now().UTC().Format(time.RFC3339Nano)
	}
	raw := r.raw
	if len(change) > 0 {
		var err error
		if raw, err = edit(raw, change); err != nil {
			return err
		}
	}
	s.add(item{raw: raw, name: fmt.Sprintf("%s: event %d", r.reader.name, r.number)})
	if s.full() {
		return s.flush(ctx)
	}
	return nil
}

// earliest is the recording whose next event comes first.
func earliest(open []*recording) int {
	best := 0
	for i, r := range open {
		if r.at.Before(open[best].at) {
			best = i
		}
	}
	return best
}

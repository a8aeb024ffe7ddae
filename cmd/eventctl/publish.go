package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"
)

type publishCommand struct {
	Files []string `arg:"" optional:"" help:"Files of events: one JSON object a line, or one JSON array. - is standard input."`

	Type      string   `group:"One event" help:"Its type. With this flag, one event is published from flags."`
	Source    string   `group:"One event" default:"/eventctl" help:"Its source (${default})."`
	Subject   string   `group:"One event" help:"Its subject."`
	ID        string   `group:"One event" name:"id" help:"Its id. Default a new UUID."`
	Data      string   `group:"One event" help:"Its data: JSON, or any text; @FILE for a file, @- for standard input."`
	DataType  string   `group:"One event" name:"content-type" placeholder:"TYPE" help:"Content type of the data. Default application/json, or text/plain where it is none."`
	Attribute []string `group:"One event" short:"a" sep:"none" placeholder:"NAME=VALUE" help:"Extension attribute. Repeatable."`

	publishing `embed:""`
}

// publishing is how events are sent, shared with replay.
type publishing struct {
	Batch   int  `default:"100" help:"Events in a request, at most (${default}; a server takes up to 1,000 by default)."`
	Retries int  `default:"5" help:"How often what may pass (503, 429, failed) is tried again (${default})."`
	Results bool `help:"Print each event's result as a line of JSON: status, stream, position."`
}

// Help is shown by kong.
func (p *publishCommand) Help() string {
	return `Examples:

  eventctl publish --type app.train.left --subject /train/61 --data '{"station":"Oslo S"}'
  eventctl publish events.ndjson
  zcat events.json.gz | eventctl publish -
  eventctl publish --type app.picture --data @oslo.jpg --content-type image/jpeg

Events from files are sent as they are, in their order. Each that the server does not take, or that cannot be read, is named on standard error; the others are published, and the exit code is 3. An input without any event is no error.
`
}

// Run is called by kong.
func (p *publishCommand) Run(ctx context.Context, c *client, o *console) error {
	s := newSender(c, o, p.publishing)
	if p.Type != "" {
		if len(p.Files) > 0 {
			return &usageError{"either files or --type with the flags of one event, not both"}
		}
		event, err := p.event(o.in)
		if err != nil {
			return err
		}
		s.add(item{raw: event, name: "the event"})
		return s.finish(ctx, nil)
	}
	if p.Subject != "" || p.Data != "" || p.ID != "" || len(p.Attribute) > 0 {
		return &usageError{"an event from flags needs at least --type"}
	}
	if len(p.Files) == 0 {
		if o.terminals.in {
			return &usageError{"nothing to publish: name a file, pipe events in, or give --type and --data (see 'eventctl publish --help')"}
		}
		p.Files = []string{"-"}
	}
	for _, name := range p.Files { // a mistake in a name should cost nothing
		if err := readable(name); err != nil {
			return err
		}
	}
	for _, name := range p.Files {
		if err := p.file(ctx, s, name, o.in); err != nil {
			return s.finish(ctx, err)
		}
	}
	return s.finish(ctx, nil)
}

// readable tells whether a file can be opened.
func readable(name string) error {
	if name == "-" {
		return nil
	}
	if info, err := os.Stat(name); err == nil && !info.Mode().IsRegular() && !info.IsDir() {
		return nil // opening a pipe twice would lose what it holds
	}
	r, err := openEvents(name, nil)
	if err != nil {
		return err
	}
	return r.Close()
}

func (p *publishCommand) file(ctx context.Context, s *sender, name string, stdin io.Reader) error {
	r, err := openEvents(name, stdin)
	if err != nil {
		return err
	}
	defer func() { _ = r.Close() }()
	s.progress.begin(r)
	// A pipe may give its events slowly: they are read on the side, so that what is there is sent and never waits for
	// a batch to fill.
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	items, ended := make(chan item, s.options.Batch), make(chan error, 1)
	go func() {
		defer close(items)
		ended <- readItems(ctx, r, items)
	}()
	for {
		select {
		case i, more := <-items:
			if !more {
				return <-ended
			}
			if i.unreadable != nil {
				s.refuse(i, i.unreadable.Error())
				continue
			}
			s.add(i)
		case <-ctx.Done():
			return context.Canceled
		}
		if s.full() || r.size == 0 && len(items) == 0 {
			if err := s.flush(ctx); err != nil {
				return err
			}
		}
	}
}

// readItems reads events to their end, or until ctx is done.
func readItems(ctx context.Context, r *eventReader, to chan<- item) error {
	for {
		raw, err := r.next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		var unreadable *eventError
		if err != nil && !errors.As(err, &unreadable) {
			return err
		}
		select {
		case to <- item{raw: raw, name: fmt.Sprintf("%s: event %d", r.name, r.number), unreadable: unreadable}:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// event makes the one event that the flags describe.
func (p *publishCommand) event(stdin io.Reader) (json.RawMessage, error) {
	event := map[string]any{"specversion": "1.0", "type": p.Type, "source": p.Source, "id": p.ID, "time": time.Now().UTC().Format(time.RFC3339Nano)}
	if p.ID == "" {
		event["id"] = uuid.NewString()
	}
	if p.Subject != "" {
		event["subject"] = p.Subject
	}
	for _, a := range p.Attribute {
		name, value, ok := strings.Cut(a, "=")
		if !ok {
			return nil, &usageError{fmt.Sprintf("--attribute %q: expected name=value", a)}
		}
		event[name] = value
	}
	if err := p.data(event, stdin); err != nil {
		return nil, err
	}
	return json.Marshal(event)
}

func (p *publishCommand) data(event map[string]any, stdin io.Reader) error {
	if p.Data == "" {
		return nil
	}
	data := []byte(p.Data)
	if name, ok := strings.CutPrefix(p.Data, "@"); ok {
		var err error
		if name == "-" {
			data, err = io.ReadAll(io.LimitReader(stdin, maxInputEvent))
		} else {
			data, err = os.ReadFile(name)
		}
		if err != nil {
			return &fileError{fmt.Errorf("--data: %w", err)}
		}
	}
	kind := p.DataType
	isJSON := kind == "" && json.Valid(data) || strings.HasSuffix(kind, "/json") || strings.HasSuffix(kind, "+json")
	switch {
	case isJSON:
		if !json.Valid(data) {
			return &usageError{"--data is no JSON, which --content-type says it is"}
		}
		if kind == "" {
			kind = "application/json"
		}
		event["data"] = json.RawMessage(data)
	case utf8.Valid(data):
		if kind == "" {
			kind = "text/plain; charset=utf-8"
		}
		event["data"] = string(data)
	default:
		if kind == "" {
			kind = "application/octet-stream"
		}
		event["data_base64"] = data // []byte marshals as base64
	}
	event["datacontenttype"] = kind
	return nil
}

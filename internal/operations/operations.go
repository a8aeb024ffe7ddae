// Package operations publishes the server's own events: what its operators, and those who have subscriptions, may want to
// be told of. They are CloudEvents in a stream like any other, of registered types with schemas, so that they are read,
// filtered and subscribed to as any other. Nobody else can publish events of these types.
//
//   - An event that was published without error is on the log, acknowledged by all in-sync replicas.
//   - An event that is published again keeps its id, by which readers know it.
//   - Events of one subject are in the order in which they were published.
//
// All methods may be called concurrently, and block on the log.
package operations

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"github.com/eventissuer/eventissuer/broker"
	"github.com/eventissuer/eventissuer/internal/catalog"
	"github.com/eventissuer/eventissuer/internal/event"
)

// Source is the source of all of them.
const Source = "/eventissuer"

// Event is one of the server's own events.
type Event struct {
	ID      string // the same whenever the same is told again; "": it is told once, and gets one
	Type    Type
	Subject string    // whom it is about, such as a subscription's id
	At      time.Time // zero: now
	Data    any       // its JSON is as the type's schema says
}

// Config says where the events go.
type Config struct {
	Stream     string        // made when it is first needed. Default "operations"
	Partitions int32         // of a stream that is made; default 1
	Retention  time.Duration // likewise; default 30 days
	Patience   time.Duration // for the stream and the types to be made, by this replica or another; default 10 s
}

// Deps are what the events are published with.
type Deps struct {
	Log     broker.Appender
	Catalog *catalog.Catalog
}

// Publisher publishes the events.
type Publisher struct {
	cfg     Config // static
	log     broker.Appender
	catalog *catalog.Catalog
	ready   atomic.Bool // the types have been found, or made
}

// New returns a publisher. It does nothing before the first call.
func New(cfg Config, deps Deps) (*Publisher, error) {
	if deps.Log == nil || deps.Catalog == nil {
		return nil, errors.New("operational events need a log and a catalog")
	}
	cfg.Stream = cmp.Or(cfg.Stream, "operations")
	cfg.Partitions = cmp.Or(cfg.Partitions, 1)
	cfg.Retention = cmp.Or(cfg.Retention, 30*24*time.Hour)
	cfg.Patience = cmp.Or(cfg.Patience, 10*time.Second)
	return &Publisher{cfg: cfg, log: deps.Log, catalog: deps.Catalog}, nil
}

// Publish appends an event, and blocks until the log has acknowledged it. What is in doubt after an error may be published
// again under its id.
func (p *Publisher) Publish(ctx context.Context, e Event) error {
	stream, err := p.prepared(ctx)
	if err != nil {
		return fmt.Errorf("an event of type %s: %w", e.Type, err)
	}
	m, err := message(e)
	if err != nil {
		return fmt.Errorf("an event of type %s: %w", e.Type, err)
	}
	if ack := p.log.Append(ctx, stream.Topic, []broker.Message{m})[0]; ack.Err != nil {
		return fmt.Errorf("writing an event of type %s to the stream %s: %w", e.Type, stream.Name, ack.Err)
	}
	return nil
}

func message(e Event) (broker.Message, error) {
	at := e.At
	if at.IsZero() {
		at = time.Now()
	}
	attributes := map[string]any{
		"specversion": "1.0", "id": cmp.Or(e.ID, uuid.NewString()), "source": Source, "type": e.Type,
		"time": at.UTC().Format(time.RFC3339Nano), "datacontenttype": "application/json", "data": e.Data,
	}
	if e.Subject != "" {
		attributes["subject"] = e.Subject
	}
	raw, err := json.Marshal(attributes)
	if err != nil {
		return broker.Message{}, err
	}
	parsed, err := event.Parse(raw)
	if err != nil {
		return broker.Message{}, err
	}
	return parsed.Message([]byte(e.Subject)), nil
}

// Prepare makes the stream and the types unless they are there, so that they can be subscribed to before there is a first
// event. It blocks on the log, and may be called again.
func (p *Publisher) Prepare(ctx context.Context) error {
	_, err := p.prepared(ctx)
	return err
}

func (p *Publisher) prepared(ctx context.Context) (catalog.Stream, error) {
	if stream, ok := p.catalog.Stream(p.cfg.Stream); ok && p.ready.Load() {
		return stream, nil
	}
	ctx, cancel := context.WithTimeout(ctx, p.cfg.Patience)
	defer cancel()
	stream, err := p.stream(ctx)
	if err != nil {
		return stream, fmt.Errorf("the stream %s: %w", p.cfg.Stream, err)
	}
	if stream.Format != catalog.FormatCloudEvents {
		return stream, fmt.Errorf("the stream %s: its records are %s, where the server's own events are %s: delete it, or have them go to another", stream.Name, stream.Format, catalog.FormatCloudEvents)
	}
	for _, k := range kinds() {
		if _, ok := p.catalog.Registration(string(k.name)); ok {
			continue
		}
		_, err := p.catalog.AsServer().CreateEventType(ctx, catalog.EventType{
			Type: string(k.name), Stream: stream.Name, Description: k.description, Audience: catalog.Internal,
			Examples: []json.RawMessage{json.RawMessage(k.example)},
		}, []byte(k.schema))
		if err != nil && !errors.Is(err, catalog.ErrExists) {
			return stream, fmt.Errorf("the event type %s: %w", k.name, err)
		}
	}
	p.ready.Store(true)
	return stream, nil
}

const lookAgain = 20 * time.Millisecond

// stream finds the stream, or makes it. Where another replica is making it, it waits for that to be seen here.
func (p *Publisher) stream(ctx context.Context) (catalog.Stream, error) {
	look := time.NewTicker(lookAgain)
	defer look.Stop()
	for {
		if stream, ok := p.catalog.Stream(p.cfg.Stream); ok {
			return stream, nil
		}
		stream, err := p.catalog.AsServer().CreateStream(ctx, catalog.Stream{
			Name: p.cfg.Stream, Partitions: p.cfg.Partitions, Retention: catalog.Duration(p.cfg.Retention),
			Description: "What the server itself tells: of subscriptions whose endpoints fail, and the like.",
		})
		if err == nil || !errors.Is(err, catalog.ErrExists) {
			return stream, err
		}
		select {
		case <-look.C:
		case <-ctx.Done():
			return stream, ctx.Err()
		}
	}
}

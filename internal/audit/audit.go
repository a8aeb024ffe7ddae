// Package audit keeps who changed which definition when, in a topic of its own, as CloudEvents.
//
//   - An entry that was recorded without error is on the log, acknowledged by all in-sync replicas, and is kept for the
//     retention of the topic.
//   - Entries are recorded after the change that they tell of. A process that is killed between the two leaves a change
//     without an entry; the definition itself says who made it, and when.
//   - Pages are read from the log, newest first, and are the same on every replica.
//
// All methods may be called concurrently, and block on the log.
package audit

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"github.com/eventissuer/eventissuer/broker"
	"github.com/eventissuer/eventissuer/internal/catalog"
	"github.com/eventissuer/eventissuer/internal/event"
)

// EventType is the type of the entries' events.
const EventType = "no.eventissuer.audit.v1"

// Config says where the audit is kept.
type Config struct {
	Log               broker.Log
	Topic             string        // one partition; made with the first entry. Default "_eventissuer.audit"
	Retention         time.Duration // of a topic that is made; default 365 days
	ReplicationFactor int16         // likewise; default: the cluster's
}

// Log is the audit.
type Log struct {
	cfg   Config
	ready atomic.Bool // the topic is there
}

// New returns the audit. It does nothing before the first call.
func New(cfg Config) (*Log, error) {
	if cfg.Log == nil {
		return nil, errors.New("an audit needs a log")
	}
	cfg.Topic = cmp.Or(cfg.Topic, "_eventissuer.audit")
	cfg.Retention = cmp.Or(cfg.Retention, 365*24*time.Hour)
	return &Log{cfg: cfg}, nil
}

// Record implements catalog.Auditor.
func (l *Log) Record(ctx context.Context, e catalog.Entry) error {
	m, err := message(e)
	if err != nil {
		return err
	}
	if !l.ready.Load() {
		if err := l.prepare(ctx); err != nil {
			return err
		}
	}
	ack := l.append(ctx, m)
	if errors.Is(ack.Err, broker.ErrNoTopic) { // somebody deleted it
		if err := l.prepare(ctx); err != nil {
			return err
		}
		ack = l.append(ctx, m)
	}
	if ack.Err != nil {
		return fmt.Errorf("writing to %s: %w", l.cfg.Topic, ack.Err)
	}
	return nil
}

func (l *Log) append(ctx context.Context, m broker.Message) broker.Ack {
	return l.cfg.Log.Append(ctx, l.cfg.Topic, []broker.Message{m})[0]
}

func message(e catalog.Entry) (broker.Message, error) {
	raw, err := json.Marshal(map[string]any{
		"specversion": "1.0", "id": uuid.NewString(), "source": "/eventissuer", "type": EventType,
		"subject": e.Kind + "/" + e.Name, "time": e.At.Format(time.RFC3339Nano), "datacontenttype": "application/json", "data": e,
	})
	if err != nil {
		return broker.Message{}, fmt.Errorf("an entry of the audit: %w", err)
	}
	parsed, err := event.Parse(raw)
	if err != nil {
		return broker.Message{}, fmt.Errorf("an entry of the audit: %w", err)
	}
	m := parsed.Message([]byte(parsed.Subject()))
	m.Partition = 0
	return m, nil
}

// prepare makes the topic unless it is there.
func (l *Log) prepare(ctx context.Context) error {
	_, err := l.cfg.Log.Describe(ctx, l.cfg.Topic)
	if errors.Is(err, broker.ErrNoTopic) {
		err = l.cfg.Log.Create(ctx, l.cfg.Topic, broker.TopicConfig{
			Partitions: 1, ReplicationFactor: l.cfg.ReplicationFactor, Retention: l.cfg.Retention, RetentionBytes: -1,
		})
		if errors.Is(err, broker.ErrTopicExists) {
			err = nil
		}
	}
	if err != nil {
		return fmt.Errorf("the topic %s: %w", l.cfg.Topic, err)
	}
	l.ready.Store(true)
	return nil
}

// readBytes is about how much one fetch of a page brings.
const readBytes = 1 << 20

// Page returns up to limit entries below the offset before, newest first, and the offset to go on below; 0: there are no
// older ones. before < 0 begins at the end.
func (l *Log) Page(ctx context.Context, before int64, limit int) (entries []catalog.Entry, next int64, err error) {
	bounds, err := l.cfg.Log.Bounds(ctx, l.cfg.Topic)
	if errors.Is(err, broker.ErrNoTopic) {
		return nil, 0, nil // nothing was changed yet
	}
	if err != nil || len(bounds) == 0 {
		return nil, 0, err
	}
	first, end := bounds[0].First, bounds[0].Next
	if before >= 0 {
		end = min(end, before)
	}
	from := max(first, end-int64(limit))
	for at := from; at < end; {
		batch, err := l.cfg.Log.Read(ctx, l.cfg.Topic, 0, at, readBytes)
		if err != nil {
			return nil, 0, fmt.Errorf("reading %s: %w", l.cfg.Topic, err)
		}
		for _, r := range batch.Records {
			if r.Offset < end {
				if e, ok := entryOf(r); ok {
					entries = append(entries, e)
				}
			}
		}
		if batch.Next <= at {
			break
		}
		at = batch.Next
	}
	slices.Reverse(entries)
	if from > first {
		next = from
	}
	return entries, next, nil
}

func entryOf(r broker.Record) (e catalog.Entry, ok bool) {
	parsed, err := event.FromRecord(r)
	if err != nil || parsed.Type() != EventType {
		return e, false
	}
	return e, json.Unmarshal(parsed.Data(), &e) == nil
}

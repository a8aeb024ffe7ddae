// Package deadletters keeps the events that a subscription could not hand over in all its attempts, in one topic.
//
// A letter that was written without error is on the log, acknowledged by all in-sync replicas, and is kept for the
// retention of the topic. Pages are read from the log, and are the same on every replica. Which letters were delivered
// since is remembered in Redis as long, and lost with it. All methods may be called concurrently, and block on the log, or
// on Redis where they say so.
package deadletters

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/eventissuer/eventissuer/broker"
)

// Letter is an event whose attempts are used up.
type Letter struct {
	Subscription string          `json:"subscription"`
	Incarnation  string          `json:"incarnation"`
	Stream       string          `json:"stream"`
	Partition    int32           `json:"partition"`
	Offset       int64           `json:"offset"`
	Attempts     int             `json:"attempts"`
	Reason       string          `json:"reason"` // for which the last attempt came to nothing
	At           time.Time       `json:"at"`
	Event        json.RawMessage `json:"event"` // null where the letter would be too large with it: the stream has it

	ID int64 `json:"-"` // where it is in the topic; what Page has read
}

const (
	partitions = 12
	retention  = 30 * 24 * time.Hour
	scanBytes  = 4 << 20 // of the log, for one page
)

// Log is what the letters need of the broker.
type Log interface {
	broker.Appender
	broker.Placer
	broker.Reader
	broker.Admin
}

// Config says where the letters are kept.
type Config struct {
	Log               Log
	Topic             string // made with the first letter. Default "_eventissuer.dead-letters"
	ReplicationFactor int16  // of the topic; default: the cluster's
	// Redis remembers which letters were delivered since; nil: nobody does.
	Redis  redis.UniversalClient
	Prefix string // of the keys there. Default "eventissuer:"
	Logger *slog.Logger
}

// Box holds the letters of all subscriptions.
type Box struct{ cfg Config }

// New returns the box. It does nothing before the first call.
func New(cfg Config) (*Box, error) {
	if cfg.Log == nil {
		return nil, errors.New("dead letters need a log")
	}
	cfg.Topic = cmp.Or(cfg.Topic, "_eventissuer.dead-letters")
	cfg.Prefix = cmp.Or(cfg.Prefix, "eventissuer:")
	cfg.Logger = cmp.Or(cfg.Logger, slog.New(slog.DiscardHandler))
	return &Box{cfg}, nil
}

// header names the subscription, so that a search need not read the letters of others.
const header = "subscription"

// Write appends letters, and makes their topic where it is not there yet: then the acknowledgements tell of
// broker.ErrNoTopic, and the next call finds it. A letter that is too large is written without its event.
func (b *Box) Write(ctx context.Context, letters []Letter) []broker.Ack {
	messages := make([]broker.Message, len(letters))
	for i := range letters {
		messages[i] = message(&letters[i])
	}
	acks := b.cfg.Log.Append(ctx, b.cfg.Topic, messages)
	missing := false
	for i, a := range acks {
		missing = missing || errors.Is(a.Err, broker.ErrNoTopic)
		if errors.Is(a.Err, broker.ErrTooLarge) {
			bare := letters[i]
			bare.Event = nil
			acks[i] = b.cfg.Log.Append(ctx, b.cfg.Topic, []broker.Message{message(&bare)})[0]
		}
	}
	if !missing {
		return acks
	}
	err := b.cfg.Log.Create(ctx, b.cfg.Topic, broker.TopicConfig{
		Partitions: partitions, ReplicationFactor: b.cfg.ReplicationFactor, Retention: retention, RetentionBytes: -1,
	})
	if err != nil && !errors.Is(err, broker.ErrTopicExists) {
		b.cfg.Logger.Warn("the topic of dead letters cannot be made", "topic", b.cfg.Topic, "error", err)
	}
	return acks
}

func message(l *Letter) broker.Message {
	value, err := json.Marshal(l)
	if err != nil { // an event that was read as JSON is JSON
		value = fmt.Appendf(nil, `{"subscription":%q}`, l.Subscription)
	}
	return broker.Message{
		Partition: broker.AnyPartition, Key: []byte(l.Subscription), Value: value,
		Headers: []broker.Header{{Key: header, Value: []byte(l.Subscription)}},
	}
}

// partition is where a subscription's letters are; -1: nobody has any.
func (b *Box) partition(ctx context.Context, id string) (int32, error) {
	msgs := []broker.Message{{Partition: broker.AnyPartition, Key: []byte(id)}}
	_, _, err := b.cfg.Log.Place(ctx, b.cfg.Topic, msgs)
	switch {
	case errors.Is(err, broker.ErrNoTopic):
		return -1, nil
	case err != nil:
		return -1, fmt.Errorf("find the dead letters: %w", err)
	}
	return msgs[0].Partition, nil
}

// Page lists a subscription's dead letters from an offset on, in the order in which they were written: up to most,
// and where to go on. next is -1 at the end.
func (b *Box) Page(ctx context.Context, id string, from int64, most int) (letters []Letter, next int64, err error) {
	log, topic := b.cfg.Log, b.cfg.Topic
	p, err := b.partition(ctx, id)
	if err != nil || p < 0 {
		return nil, -1, err
	}
	for read := 0; read < scanBytes && len(letters) < most; {
		batch, err := log.Read(ctx, topic, p, from, scanBytes/4)
		if outside := (*broker.RangeError)(nil); errors.As(err, &outside) {
			if from >= outside.Bounds.First {
				return letters, -1, nil
			}
			from = outside.Bounds.First
			continue
		}
		if err != nil {
			return nil, 0, fmt.Errorf("read the dead letters: %w", err)
		}
		if batch.Next <= from {
			return letters, -1, nil
		}
		for i := range batch.Records {
			r := &batch.Records[i]
			if len(letters) == most {
				return letters, from, nil
			}
			from = r.Offset + 1
			read += len(r.Value)
			if l, ok := letterOf(r, id); ok {
				letters = append(letters, l)
			}
		}
		from = batch.Next
		if from >= batch.End {
			return letters, -1, nil
		}
	}
	return letters, from, nil
}

// letterOf reads a record that is a letter of a subscription.
func letterOf(r *broker.Record, subscription string) (Letter, bool) {
	l := Letter{ID: r.Offset}
	return l, string(r.Key) == subscription && json.Unmarshal(r.Value, &l) == nil
}

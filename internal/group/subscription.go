package group

import (
	"context"
	"time"

	"github.com/eventissuer/eventissuer/internal/fanout"
	"github.com/eventissuer/eventissuer/internal/filter"
)

// Subscription is what a group shares out, and how.
type Subscription struct {
	ID          string
	Incarnation string // another after every reset
	Sources     []Source
	Filter      *filter.Filter // nil: everything

	Ordered        bool          // by key
	AckTimeout     time.Duration // for a session to acknowledge what it was given
	MaxUncommitted int           // what a session may have been given and not acknowledged
	MaxSessions    int
	MaxAttempts    int // then an event is a dead letter
}

// Source is a stream that a subscription reads, and where it begins.
type Source struct {
	Stream fanout.Stream
	Epoch  string  // of the topic that Start is of, in hexadecimal
	Start  []int64 // by partition; those beyond it begin at 0
}

// Definitions are the subscriptions there are.
type Definitions interface {
	// Subscription looks one up, without blocking.
	Subscription(id string) (Subscription, bool)
	// Sync returns once every change made before the call can be looked up.
	Sync(ctx context.Context, id string) error
}

// source finds the stream of a topic.
func (s *Subscription) source(topic string) *Source {
	for i := range s.Sources {
		if s.Sources[i].Stream.Topic == topic {
			return &s.Sources[i]
		}
	}
	return nil
}

// start is where a partition begins.
func (s *Subscription) start(stream string, at place) int64 {
	for i := range s.Sources {
		if src := &s.Sources[i]; src.Stream.Name == stream && src.Epoch == at.epoch && int(at.partition) < len(src.Start) {
			return src.Start[at.partition]
		}
	}
	return 0 // the topic was made again, or the partition was added, since
}

func (s *Subscription) topics() []string {
	var topics []string
	for i := range s.Sources {
		topics = append(topics, s.Sources[i].Stream.Topic)
	}
	return topics
}

// sameSources reports whether two versions read the same streams.
func (s *Subscription) sameSources(o *Subscription) bool {
	if len(s.Sources) != len(o.Sources) {
		return false
	}
	for i := range s.Sources {
		if s.Sources[i].Stream != o.Sources[i].Stream {
			return false
		}
	}
	return true
}

// sameReading reports whether what was read under one version is what the other reads.
func (s *Subscription) sameReading(o *Subscription) bool {
	return s.Incarnation == o.Incarnation && s.Ordered == o.Ordered && keyOf(s.Filter) == keyOf(o.Filter)
}

func keyOf(f *filter.Filter) string {
	if f == nil {
		return ""
	}
	return f.Key()
}

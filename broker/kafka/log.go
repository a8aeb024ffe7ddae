// Package kafka is the broker contract on Kafka.
package kafka

import (
	"context"
	"time"

	"github.com/eventissuer/eventissuer/broker"
)

// Log is broker.Log on a Kafka cluster.
type Log struct{}

var _ broker.Log = (*Log)(nil)

// New connects to a cluster.
func New(cfg Config, deps Deps) (*Log, error) { return &Log{}, nil }

func (l *Log) Append(ctx context.Context, topic string, msgs []broker.Message) []broker.Ack {
	return make([]broker.Ack, len(msgs))
}
func (l *Log) Read(ctx context.Context, topic string, partition int32, offset int64, maxBytes int) (broker.Batch, error) {
	return broker.Batch{}, broker.ErrUnavailable
}
func (l *Log) Tail(ctx context.Context, topic string, epoch broker.Epoch, from []int64, h broker.TailHandler) error {
	return broker.ErrUnavailable
}
func (l *Log) Join(ctx context.Context, group string, topics []string, own func(ctx context.Context, c broker.Claim)) error {
	return broker.ErrUnavailable
}
func (l *Log) Bounds(ctx context.Context, topic string) ([]broker.Bounds, error) {
	return nil, broker.ErrUnavailable
}
func (l *Log) At(ctx context.Context, topic string, t time.Time) ([]int64, error) {
	return nil, broker.ErrUnavailable
}
func (l *Log) Truncate(ctx context.Context, topic string, partition int32, offset int64) error {
	return broker.ErrUnavailable
}
func (l *Log) Create(ctx context.Context, topic string, c broker.TopicConfig) error {
	return broker.ErrUnavailable
}
func (l *Log) Describe(ctx context.Context, topic string) (broker.TopicInfo, error) {
	return broker.TopicInfo{}, broker.ErrUnavailable
}
func (l *Log) Change(ctx context.Context, topic string, c broker.TopicChange) error {
	return broker.ErrUnavailable
}
func (l *Log) Delete(ctx context.Context, topic string) error { return broker.ErrUnavailable }

// Close ends everything under way.
func (l *Log) Close() error { return nil }

package kafka

import (
	"context"

	"github.com/eventissuer/eventissuer/broker"
)

// Join implements broker.Joiner.
func (l *Log) Join(ctx context.Context, group string, topics []string, own func(ctx context.Context, c broker.Claim)) error {
	return broker.ErrUnavailable
}

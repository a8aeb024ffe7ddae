package kafka

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/IBM/sarama"

	"github.com/eventissuer/eventissuer/broker"
)

const (
	viewAge    = 30 * time.Second // leaders rarely move, and a wrong one is found out by the answer
	retryAfter = 50 * time.Millisecond
	retryMost  = time.Second
	skipsMost  = 8 // fetches of one Read that may bring nothing but holes
)

// Read implements broker.Reader.
func (l *Log) Read(ctx context.Context, topic string, partition int32, offset int64, maxBytes int) (broker.Batch, error) {
	ctx, end, err := l.begin(ctx, l.cfg.RequestTimeout)
	if err != nil {
		return broker.Batch{}, err
	}
	defer end()
	limit := int32(min(max(maxBytes, 1), fetchMost))
	at := offset
	for skips := 0; ; {
		d, err := l.readOnce(ctx, topic, partition, at, limit)
		switch {
		case err != nil:
			return broker.Batch{}, err
		case len(d.Records) > 0 || d.Next >= d.End && !d.truncated:
			return d.Batch, nil
		case d.truncated && d.Next == at:
			if limit >= fetchMost {
				return broker.Batch{}, fmt.Errorf("%w: a batch of partition %d at %d is larger than 64 MiB", broker.ErrUnavailable, partition, at)
			}
			limit *= 4
		default:
			if skips++; skips == skipsMost {
				return d.Batch, nil
			}
			at = d.Next
		}
	}
}

// readOnce makes one fetch from a partition's leader, finding the leader again as often as needed.
func (l *Log) readOnce(ctx context.Context, topic string, partition int32, offset int64, limit int32) (d decoded, err error) {
	err = l.retry(ctx, topic, partition, func(addr string) error {
		var block *sarama.FetchResponseBlock
		err := l.reads.do(ctx, addr, func(c *conn) error {
			blocks, err := l.fetch(ctx, c, kindRead, topic, []want{{partition, offset, limit}}, 0)
			block = blocks[partition]
			return err
		})
		switch {
		case err != nil:
			return err
		case block == nil: // its client is over its quota
			return fmt.Errorf("%w: no answer for partition %d", broker.ErrUnavailable, partition)
		case block.Err == sarama.ErrOffsetOutOfRange:
			return l.outside(ctx, topic, partition, offset)
		case block.Err != sarama.ErrNoError:
			l.metrics.fetchErrors.WithLabelValues(kindRead).Inc()
			return block.Err
		}
		d = decode(block, partition, offset)
		if d.empty && d.End > offset {
			return fmt.Errorf("%w: partition %d gave nothing at %d, below its end %d", broker.ErrUnavailable, partition, offset, d.End)
		}
		l.metrics.handedOn(kindRead, d.Records)
		return nil
	})
	return d, err
}

// outside asks the leader on which side of its log an offset lies. An offset that is inside by now is one to try again.
func (l *Log) outside(ctx context.Context, topic string, partition int32, offset int64) error {
	b, err := l.bounds(ctx, topic, partition)
	switch {
	case err != nil:
		return err
	case offset >= b.First && offset <= b.Next:
		return fmt.Errorf("%w: partition %d did not have offset %d yet", broker.ErrUnavailable, partition, offset)
	}
	return &broker.RangeError{Partition: partition, Offset: offset, Bounds: b}
}

// retry runs try with the address of a partition's leader, until it succeeds, fails for good, or ctx ends.
func (l *Log) retry(ctx context.Context, topic string, partition int32, try func(addr string) error) error {
	age, wait := viewAge, retryAfter
	var last error
	for {
		view, err := l.cluster.view(ctx, topic, age)
		if errors.Is(err, broker.ErrNoTopic) || err == nil && int(partition) >= len(view.partitions) {
			view, err = l.cluster.confirm(ctx, topic, broker.Epoch{}, nil)
			if errors.Is(err, broker.ErrNoTopic) {
				return err
			}
		}
		var addr string
		if err == nil {
			if addr, err = view.leaderOf(partition); errors.Is(err, broker.ErrNoPartition) {
				return fmt.Errorf("%w: %d of %s, which has %d", err, partition, topic, len(view.partitions))
			}
		}
		if err == nil {
			err = try(addr)
		}
		switch {
		case err == nil:
			return nil
		case errors.Is(err, broker.ErrClosed):
			return err
		case ctx.Err() != nil:
			return outOfTime(ctx, last, err)
		case !passing(err):
			return inWords(err)
		}
		// An error of the context alone says less than what went wrong before it.
		last, age = err, 0
		if pause(ctx, wait) != nil {
			return outOfTime(ctx, last, err)
		}
		wait = min(2*wait, retryMost)
	}
}

// outOfTime says why something was given up.
func outOfTime(ctx context.Context, last, err error) error {
	cause := context.Cause(ctx)
	switch {
	case errors.Is(cause, broker.ErrClosed):
		return cause
	case errors.Is(cause, context.Canceled):
		return ctx.Err()
	case last == nil:
		last = err
	}
	return fmt.Errorf("%w: gave up in time: %w", broker.ErrUnavailable, last)
}

// passing says whether asking again, perhaps elsewhere, may help.
func passing(err error) bool {
	var code sarama.KError
	if !errors.As(err, &code) {
		return errors.Is(err, broker.ErrUnavailable)
	}
	switch code {
	case sarama.ErrOffsetOutOfRange, sarama.ErrTopicAuthorizationFailed, sarama.ErrClusterAuthorizationFailed,
		sarama.ErrGroupAuthorizationFailed, sarama.ErrSASLAuthenticationFailed, sarama.ErrUnsupportedVersion,
		sarama.ErrInvalidRequest, sarama.ErrInvalidGroupId, sarama.ErrOffsetMetadataTooLarge, sarama.ErrPolicyViolation:
		return false
	}
	return true
}

// inWords puts what Kafka refuses for good in the contract's words; Kafka's own stay behind them.
func inWords(err error) error {
	var code sarama.KError
	if !errors.As(err, &code) || errors.Is(err, broker.ErrNotAllowed) || errors.Is(err, broker.ErrTopicName) {
		return err
	}
	switch code {
	case sarama.ErrTopicAuthorizationFailed, sarama.ErrClusterAuthorizationFailed, sarama.ErrGroupAuthorizationFailed,
		sarama.ErrPolicyViolation, sarama.ErrInvalidReplicationFactor, sarama.ErrInvalidConfig:
		return fmt.Errorf("%w: %w", broker.ErrNotAllowed, err)
	case full:
		return fmt.Errorf("%w: %w", broker.ErrFull, err)
	case sarama.ErrInvalidTopic:
		return fmt.Errorf("%w: %w", broker.ErrTopicName, err)
	}
	return err
}

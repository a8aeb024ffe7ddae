package kafka

import (
	"context"
	"fmt"
	"time"

	"github.com/IBM/sarama"
	"golang.org/x/sync/errgroup"

	"github.com/eventissuer/eventissuer/broker"
)

// Bounds implements broker.Offsets.
func (l *Log) Bounds(ctx context.Context, topic string) ([]broker.Bounds, error) {
	ctx, end, err := l.begin(ctx, l.cfg.RequestTimeout)
	if err != nil {
		return nil, err
	}
	defer end()
	view, err := l.fresh(ctx, topic)
	if err != nil {
		return nil, err
	}
	all := make([]broker.Bounds, len(view.partitions))
	return all, eachPartition(ctx, len(all), func(ctx context.Context, p int32) (err error) {
		all[p], err = l.bounds(ctx, topic, p)
		return err
	})
}

// At implements broker.Offsets.
func (l *Log) At(ctx context.Context, topic string, t time.Time) ([]int64, error) {
	ctx, end, err := l.begin(ctx, l.cfg.RequestTimeout)
	if err != nil {
		return nil, err
	}
	defer end()
	view, err := l.fresh(ctx, topic)
	if err != nil {
		return nil, err
	}
	// Kafka's timestamps are whole milliseconds: a record of the millisecond that t falls into is before t, unless t is
	// its very start. A negative number would be one of Kafka's special offsets.
	at := max(t.UnixMilli(), 0)
	if t.After(time.UnixMilli(at)) {
		at++
	}
	all := make([]int64, len(view.partitions))
	return all, eachPartition(ctx, len(all), func(ctx context.Context, p int32) (err error) {
		// The end is asked first: what is appended between the two questions may carry a time before t, and must not
		// be skipped.
		end, err := l.offset(ctx, topic, p, sarama.OffsetNewest)
		if err != nil {
			return err
		}
		if all[p], err = l.offset(ctx, topic, p, at); err == nil && all[p] < 0 {
			all[p] = end
		}
		return err
	})
}

// Truncate implements broker.Offsets.
func (l *Log) Truncate(ctx context.Context, topic string, partition int32, offset int64) error {
	ctx, end, err := l.begin(ctx, l.cfg.RequestTimeout)
	if err != nil {
		return err
	}
	defer end()
	err = l.retry(ctx, topic, partition, func(addr string) error {
		return l.questions.do(ctx, addr, func(c *conn) error {
			resp, err := call(ctx, c, func(b *sarama.Broker) (*sarama.DeleteRecordsResponse, error) {
				return b.DeleteRecords(&sarama.DeleteRecordsRequest{
					Version: 1,
					Topics:  map[string]*sarama.DeleteRecordsRequestTopic{topic: {PartitionOffsets: map[int32]int64{partition: offset}}},
					Timeout: l.cfg.RequestTimeout,
				})
			})
			if err != nil {
				return err
			}
			t := resp.Topics[topic]
			if t == nil || t.Partitions[partition] == nil {
				return fmt.Errorf("%w: no answer for partition %d", broker.ErrUnavailable, partition)
			}
			if code := t.Partitions[partition].Err; code != sarama.ErrNoError {
				return code
			}
			return nil
		})
	})
	if err != nil {
		return fmt.Errorf("delete records of %s/%d below %d: %w", topic, partition, offset, err)
	}
	return nil
}

// fresh returns a view of a topic that exists by now.
func (l *Log) fresh(ctx context.Context, topic string) (*topicView, error) {
	for wait := retryAfter; ; wait = min(2*wait, retryMost) {
		view, err := l.cluster.confirm(ctx, topic, broker.Epoch{}, nil)
		if err == nil || !passing(err) {
			return view, err
		}
		if ctx.Err() != nil || pause(ctx, wait) != nil {
			return nil, outOfTime(ctx, err, err)
		}
	}
}

func (l *Log) bounds(ctx context.Context, topic string, partition int32) (b broker.Bounds, err error) {
	if b.First, err = l.offset(ctx, topic, partition, sarama.OffsetOldest); err != nil {
		return b, err
	}
	b.Next, err = l.offset(ctx, topic, partition, sarama.OffsetNewest)
	// Retention may have moved the start past an end that an open transaction holds back.
	b.Next = max(b.Next, b.First)
	return b, err
}

// offset asks a partition's leader for the offset of a time, or of one of Kafka's two ends; -1 where there is none.
func (l *Log) offset(ctx context.Context, topic string, partition int32, at int64) (offset int64, err error) {
	err = l.retry(ctx, topic, partition, func(addr string) error {
		return l.questions.do(ctx, addr, func(c *conn) (err error) {
			offset, err = l.offsetOf(ctx, c, topic, partition, at, sarama.ReadCommitted, asConsumer)
			return err
		})
	})
	return offset, err
}

// As whom a broker is asked for offsets. A consumer is told by a partition's leader alone, and of what the replicas in step have.
// Whoever looks for mistakes is told by any replica, of all that it has itself. Both may ask for a topic that they may describe.
const (
	asConsumer int32 = -1
	asDebugger int32 = -2
)

func (l *Log) offsetOf(ctx context.Context, c *conn, topic string, partition int32, at int64, isolation sarama.IsolationLevel, as int32) (int64, error) {
	req := sarama.NewOffsetRequest(l.base.Version)
	req.IsolationLevel = isolation
	req.SetReplicaID(as)
	req.AddBlock(topic, partition, at, 1)
	resp, err := call(ctx, c, func(b *sarama.Broker) (*sarama.OffsetResponse, error) { return b.GetAvailableOffsets(req) })
	if err != nil {
		return 0, err
	}
	block := resp.GetBlock(topic, partition)
	if block == nil {
		return 0, fmt.Errorf("%w: no answer for partition %d", broker.ErrUnavailable, partition)
	}
	if block.Err != sarama.ErrNoError {
		return 0, block.Err
	}
	return block.Offset, nil
}

// logEnd asks a partition's leader for the end of its log, with what the other replicas do not have yet. That may be long: as long
// as the brokers that have gone away are not missed, for want of a majority that could say so.
func (l *Log) logEnd(ctx context.Context, topic string, partition int32) (end int64, err error) {
	err = l.retry(ctx, topic, partition, func(addr string) error {
		return l.questions.do(ctx, addr, func(c *conn) error {
			end = 0
			for _, as := range []int32{asConsumer, asDebugger, asConsumer} { // it leads before, and after
				offset, err := l.offsetOf(ctx, c, topic, partition, sarama.OffsetNewest, sarama.ReadUncommitted, as)
				if err != nil {
					return err
				}
				end = max(end, offset)
			}
			return nil
		})
	})
	return end, err
}

func eachPartition(ctx context.Context, n int, ask func(ctx context.Context, p int32) error) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(8)
	for p := range int32(n) {
		g.Go(func() error { return ask(ctx, p) })
	}
	return g.Wait()
}

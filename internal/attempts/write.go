package attempts

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/eventissuer/eventissuer/broker"
	"github.com/eventissuer/eventissuer/internal/clock"
)

// entry is an attempt on its way to the log.
type entry struct {
	subscription string
	reference    reference // its place is not known yet
	value        []byte
}

// entryBytes is about what an entry takes beside its value.
const entryBytes = 120

func (e *entry) size() int { return len(e.value) + entryBytes }

// queue is what is to be written. What was taken counts until it is done.
type queue struct {
	most  int
	gauge prometheus.Gauge
	kick  chan struct{}
	bytes atomic.Int64 // changed under mu

	mu      sync.Mutex
	waiting []entry // guarded by mu
}

func newQueue(most int, gauge prometheus.Gauge) *queue {
	return &queue{most: most, gauge: gauge, kick: make(chan struct{}, 1)}
}

func (q *queue) full() bool { return q.bytes.Load() >= int64(q.most) }

// add reports whether there was room.
func (q *queue) add(e entry) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.bytes.Load()+int64(e.size()) > int64(q.most) {
		return false
	}
	q.waiting = append(q.waiting, e)
	q.grow(e.size())
	nudge(q.kick)
	return true
}

// grow changes what the entries take. mu is held.
func (q *queue) grow(by int) { q.gauge.Set(float64(q.bytes.Add(int64(by)))) }

const (
	appendMost  = 500
	appendBytes = 1 << 20
)

// take returns the oldest entries, as many as are to be appended at once.
func (q *queue) take() []entry {
	q.mu.Lock()
	defer q.mu.Unlock()
	n, bytes := 0, 0
	for n < min(len(q.waiting), appendMost) && (n == 0 || bytes+q.waiting[n].size() <= appendBytes) {
		bytes += q.waiting[n].size()
		n++
	}
	batch := q.waiting[:n:n]
	if q.waiting = q.waiting[n:]; len(q.waiting) == 0 {
		q.waiting = nil
	}
	return batch
}

// done frees what entries took that were taken.
func (q *queue) done(batch []entry) {
	bytes := 0
	for i := range batch {
		bytes += batch[i].size()
	}
	q.mu.Lock()
	q.grow(-bytes)
	q.mu.Unlock()
}

const (
	writeAgain = 100 * time.Millisecond
	writeRests = 5 * time.Second
)

// write appends what is recorded to the log, until ctx ends and then nothing is left, or grace ends.
func (l *Log) write(ctx, grace context.Context) {
	for grace.Err() == nil {
		batch := l.queue.take()
		if len(batch) > 0 {
			l.append(grace, batch)
			l.queue.done(batch)
			continue
		}
		select {
		case <-l.queue.kick:
		case <-ctx.Done():
			return
		}
	}
	for batch := l.queue.take(); len(batch) > 0; batch = l.queue.take() {
		l.m.refused.Add(float64(len(batch)))
		l.queue.done(batch)
	}
}

// append blocks until the log has taken a batch, or surely will not, or ctx ends. What is in doubt is appended again:
// nothing refers to the first copy.
func (l *Log) append(ctx context.Context, batch []entry) {
	failing := false
	for wait := writeAgain; ; wait = min(2*wait, writeRests) {
		left, err := l.appendOnce(ctx, batch)
		if failing && err == nil {
			l.log.Info("attempts are kept again")
		}
		if len(left) < len(batch) { // it goes on
			wait = writeAgain
		}
		batch = left
		if len(batch) == 0 {
			return
		}
		if ctx.Err() != nil {
			l.m.refused.Add(float64(len(batch)))
			return
		}
		if !failing {
			failing = true
			l.log.Warn("attempts cannot be written to the log; trying again", "topic", l.cfg.Topic, "error", err)
		}
		clock.Pause(ctx, wait)
	}
}

// appendOnce returns those entries that are to be appended again, and why.
func (l *Log) appendOnce(ctx context.Context, batch []entry) (left []entry, err error) {
	partitions, err := l.prepare(ctx)
	if err != nil {
		return batch, err
	}
	msgs := make([]broker.Message, len(batch))
	for i, e := range batch {
		msgs[i] = broker.Message{
			Partition: int32(hash(e.subscription) % uint32(partitions)), Key: []byte(e.subscription), Value: e.value,
		}
	}
	for i, ack := range l.topic.Append(ctx, l.cfg.Topic, msgs) {
		switch {
		case ack.Err == nil:
			l.m.kept.Inc()
			r := batch[i].reference
			r.partition, r.offset = ack.Partition, ack.Offset
			if !l.references.add(referral{batch[i].subscription, r}) {
				l.m.unreferred.Inc()
			}
			continue
		case errors.Is(ack.Err, broker.ErrTooLarge), errors.Is(ack.Err, broker.ErrClosed):
			l.m.refused.Inc()
			continue
		case errors.Is(ack.Err, broker.ErrNoTopic), errors.Is(ack.Err, broker.ErrNoPartition):
			l.partitions.Store(0) // somebody deleted it
		}
		left, err = append(left, batch[i]), ack.Err
	}
	return left, err
}

// prepare makes the topic unless it is there, and returns how many partitions it has.
func (l *Log) prepare(ctx context.Context) (int32, error) {
	if n := l.partitions.Load(); n > 0 {
		return n, nil
	}
	info, err := l.topic.Describe(ctx, l.cfg.Topic)
	if errors.Is(err, broker.ErrNoTopic) {
		err = l.topic.Create(ctx, l.cfg.Topic, broker.TopicConfig{
			Partitions: l.cfg.Partitions, ReplicationFactor: l.cfg.ReplicationFactor, Retention: l.cfg.Retention, RetentionBytes: l.cfg.RetentionBytes,
		})
		if err == nil || errors.Is(err, broker.ErrTopicExists) {
			info, err = l.topic.Describe(ctx, l.cfg.Topic)
		}
	}
	if err != nil {
		return 0, fmt.Errorf("the topic %s: %w", l.cfg.Topic, err)
	}
	n := min(max(info.Partitions, 1), maxPartition+1)
	l.partitions.Store(n)
	return n, nil
}

package kafka

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/IBM/sarama"
	"golang.org/x/sync/singleflight"

	"github.com/eventissuer/eventissuer/broker"
)

const (
	ourMessageBytes = 2 << 20     // max.message.bytes of the topics we make
	limitAge        = time.Minute // how long a topic's limit is taken as known
	classesMost     = 8           // producers, of which each has a limit of its own
	retriesMost     = 14          // about ten seconds with the waits below
	firstRetry      = 20 * time.Millisecond
)

// producers are the idempotent producers of this process. There is one for all topics with the same limit of a batch's
// size: sarama fills batches up to one limit, and a topic that takes less would refuse them whole, small messages and
// all. Nearly always that is one.
type producers struct {
	log     *Log // static
	opening singleflight.Group
	closing atomic.Bool

	mu      sync.Mutex // guards what follows
	byLimit map[int]*producer
	limits  map[string]topicLimit
}

type topicLimit struct {
	bytes int
	asked time.Time
}

type producer struct {
	limit int
	async sarama.AsyncProducer
	done  sync.WaitGroup // its two readers
}

func newProducers(l *Log) *producers {
	return &producers{log: l, byLimit: make(map[int]*producer), limits: make(map[string]topicLimit)}
}

// forTopic returns the producer for a topic, starting it if it is the first of its kind.
func (ps *producers) forTopic(ctx context.Context, topic string) (*producer, error) {
	ps.mu.Lock()
	limit, known := ps.limits[topic]
	p := ps.byLimit[limit.bytes]
	ps.mu.Unlock()
	if known && p != nil && time.Since(limit.asked) < limitAge {
		return p, nil
	}
	bytes := ourMessageBytes
	configs, err := ps.log.topicConfigs(ctx, topic, "max.message.bytes")
	switch {
	case err == nil:
		if n, err := strconv.Atoi(configs["max.message.bytes"]); err == nil && n > 0 {
			bytes = n
		}
	case known: // the limit rarely changes: go on with what was known
		bytes = limit.bytes
	case errors.Is(err, sarama.ErrTopicAuthorizationFailed):
	default:
		return nil, err
	}
	bytes = min(bytes, ps.log.cfg.MaxMessageBytes)
	ps.mu.Lock()
	if _, ok := ps.byLimit[bytes]; !ok && len(ps.byLimit) >= classesMost {
		bytes = ps.nearest(bytes)
	}
	p = ps.byLimit[bytes]
	ps.limits[topic] = topicLimit{bytes, time.Now()}
	ps.mu.Unlock()
	if p != nil {
		return p, nil
	}
	opened, err, _ := ps.opening.Do(strconv.Itoa(bytes), func() (any, error) { return ps.open(bytes) })
	if err != nil {
		return nil, err
	}
	return opened.(*producer), nil
}

// nearest returns the largest limit in use that is not above bytes, else the smallest.
func (ps *producers) nearest(bytes int) int {
	below, least := 0, 0
	for limit := range ps.byLimit {
		if limit <= bytes {
			below = max(below, limit)
		}
		if least == 0 || limit < least {
			least = limit
		}
	}
	if below > 0 {
		return below
	}
	return least
}

func (ps *producers) open(limit int) (*producer, error) {
	ps.mu.Lock()
	p := ps.byLimit[limit]
	ps.mu.Unlock()
	if p != nil {
		return p, nil
	}
	cfg := *ps.log.base
	cfg.Net.MaxOpenRequests = 1 // sarama's condition for idempotence
	cfg.Producer.Idempotent = true
	cfg.Producer.RequiredAcks = sarama.WaitForAll
	cfg.Producer.Timeout = ps.log.cfg.AppendDeadline
	cfg.Producer.Partitioner = newPartitioner
	cfg.Producer.MaxMessageBytes = limit - 12 // sarama leaves these bytes of a batch's head out of its count
	cfg.Producer.Return.Successes = true
	cfg.Producer.Return.Errors = true
	cfg.Producer.Retry.Max = retriesMost
	cfg.Producer.Retry.BackoffFunc = func(retries, _ int) time.Duration {
		if ps.closing.Load() {
			return 0
		}
		return min(firstRetry<<min(max(retries-1, 0), 10), time.Second)
	}
	async, err := sarama.NewAsyncProducer(ps.log.cfg.Brokers, &cfg)
	if err != nil {
		return nil, fmt.Errorf("%w: start a producer: %w", broker.ErrUnavailable, err)
	}
	p = &producer{limit: limit, async: async}
	p.done.Go(p.successes)
	p.done.Go(func() { p.failures(ps) })
	ps.mu.Lock()
	ps.byLimit[limit] = p
	ps.mu.Unlock()
	return p, nil
}

// close sends what was accepted and ends the producers.
func (ps *producers) close() error {
	ps.closing.Store(true)
	ps.mu.Lock()
	defer ps.mu.Unlock()
	for _, p := range ps.byLimit {
		p.async.AsyncClose()
	}
	for _, p := range ps.byLimit {
		p.done.Wait()
	}
	return nil
}

func (ps *producers) forgetLimit(topic string) {
	ps.mu.Lock()
	delete(ps.limits, topic)
	ps.mu.Unlock()
}

func (p *producer) successes() {
	for m := range p.async.Successes() {
		t := m.Metadata.(ticket)
		t.call.settle(t.index, m.Partition, m.Offset, nil)
	}
}

func (p *producer) failures(ps *producers) {
	for e := range p.async.Errors() {
		t := e.Msg.Metadata.(ticket)
		err := fate(e.Err)
		if errors.Is(err, broker.ErrTooLarge) {
			ps.forgetLimit(e.Msg.Topic) // it must have changed
		}
		t.call.settle(t.index, -1, -1, err)
	}
}

// refuses says why a message need not be sent.
func (p *producer) refuses(m *broker.Message, view *topicView) error {
	size := recordOverhead + len(m.Key) + len(m.Value)
	for _, h := range m.Headers {
		size += headerOverhead + len(h.Key) + len(h.Value)
	}
	if size > p.limit {
		return fmt.Errorf("%w: %d bytes, where the topic takes %d", broker.ErrTooLarge, size, p.limit)
	}
	if m.Partition >= 0 && int(m.Partition) >= len(view.partitions) {
		if view.asked.IsZero() {
			return nil
		}
		return fmt.Errorf("%w: %w: %d", broker.ErrRefused, broker.ErrNoPartition, m.Partition)
	}
	return nil
}

// fate turns a producer's error into what it says about the message: refused where it is surely not written.
func fate(err error) error {
	var misuse sarama.ConfigurationError
	switch {
	case errors.Is(err, sarama.ErrMessageSizeTooLarge), errors.As(err, &misuse):
		return fmt.Errorf("%w: %w", broker.ErrTooLarge, err)
	case errors.Is(err, sarama.ErrUnknownTopicOrPartition):
		return fmt.Errorf("%w: %w", broker.ErrRefused, broker.ErrNoTopic)
	case errors.Is(err, sarama.ErrInvalidPartition):
		return fmt.Errorf("%w: %w", broker.ErrRefused, broker.ErrNoPartition)
	case errors.Is(err, sarama.ErrShuttingDown):
		return broker.ErrClosed
	case errors.Is(err, sarama.ErrTopicAuthorizationFailed), errors.Is(err, sarama.ErrInvalidTimestamp),
		errors.Is(err, sarama.ErrPolicyViolation), errors.Is(err, sarama.ErrInvalidTopic), errors.Is(err, sarama.ErrInvalidRecord):
		return fmt.Errorf("%w: %w", broker.ErrRefused, err)
	}
	return fmt.Errorf("%w: %w", broker.ErrUnavailable, err)
}

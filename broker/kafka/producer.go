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
	retryBytes      = 64 << 20 // of messages that wait to be sent again; above it they fail at once
)

// producers are the idempotent producers of this process. There is one for all topics with the same limit of a batch's
// size: sarama fills batches up to one limit, and a topic that takes less would refuse them whole, small messages and
// all. Nearly always that is one.
type producers struct {
	log     *Log // static
	opening singleflight.Group
	asking  singleflight.Group
	closing atomic.Bool

	mu      sync.Mutex // guards what follows
	byLimit map[int]*producer
	topics  map[string]written
	retired sync.WaitGroup
}

// written is a topic that was written to.
type written struct {
	epoch    broker.Epoch
	limit    int // max.message.bytes
	asked    time.Time
	renewing bool // it is being asked again
}

type producer struct {
	limit  int
	client sarama.Client
	async  sarama.AsyncProducer
	late   *lateness
	done   sync.WaitGroup // its two readers

	retries atomic.Uint64 // that have begun

	senders sync.WaitGroup // calls that use it; added to only while it is in byLimit, with mu held
}

func newProducers(l *Log) *producers {
	return &producers{log: l, byLimit: make(map[int]*producer), topics: make(map[string]written)}
}

// forTopic returns the producer for a topic, starting it if it is the first of its kind. The caller ends its use with
// senders.Done. Only what is not known at all is waited for: a limit that was asked long ago is asked again beside.
func (ps *producers) forTopic(ctx context.Context, topic string, epoch broker.Epoch) (*producer, error) {
	ps.mu.Lock()
	last, known := ps.topics[topic]
	p := ps.byLimit[last.limit]
	if known && last.epoch != epoch {
		if p != nil {
			// A producer numbers what it writes by a topic's name. A topic made again takes only number 0 at first.
			ps.retire(p)
		}
		delete(ps.topics, topic)
		known, p = false, nil
	}
	renew := known && !last.renewing && time.Since(last.asked) >= limitAge
	if renew {
		last.renewing = true
		ps.topics[topic] = last
	}
	if p != nil {
		p.senders.Add(1)
	}
	ps.mu.Unlock()
	if renew {
		ps.ask(topic, epoch, last)
	}
	if p != nil {
		return p, nil
	}

	limit := last.limit
	if !known {
		select {
		case r := <-ps.ask(topic, epoch, written{}):
			if r.Err != nil {
				return nil, r.Err
			}
			limit = r.Val.(int)
		case <-ctx.Done():
			return nil, outOfTime(ctx, nil, errors.New("the topic's settings did not come"))
		}
	}
	for own := limit; ; {
		ps.mu.Lock()
		if _, ok := ps.byLimit[limit]; !ok && len(ps.byLimit) >= classesMost {
			limit = ps.nearest(limit)
		}
		if p = ps.byLimit[limit]; p != nil {
			p.senders.Add(1)
			if now := ps.topics[topic]; now.epoch == epoch && now.limit == own {
				now.limit = limit
				ps.topics[topic] = now
			}
			ps.mu.Unlock()
			return p, nil
		}
		ps.mu.Unlock()
		if _, err, _ := ps.opening.Do(strconv.Itoa(limit), func() (any, error) { return nil, ps.open(limit) }); err != nil {
			return nil, err
		}
	}
}

// ask finds out a topic's limit and notes it, once at a time for all who ask. last is what is known, the zero value if
// nothing is.
func (ps *producers) ask(topic string, epoch broker.Epoch, last written) <-chan singleflight.Result {
	return ps.asking.DoChan(topic+string(epoch[:]), func() (any, error) {
		ps.mu.Lock()
		now, known := ps.topics[topic]
		ps.mu.Unlock()
		if known && now.epoch == epoch && !now.asked.Equal(last.asked) {
			return now.limit, nil // asked by somebody else since
		}
		ctx, end, err := ps.log.begin(context.Background(), ps.log.cfg.RequestTimeout)
		if err != nil {
			return nil, err
		}
		defer end()
		limit, err := ps.limit(ctx, topic)
		renewal := last.limit != 0
		switch {
		case err == nil:
		case renewal: // it rarely changes: go on with what was known
			limit = last.limit
		default:
			return nil, err
		}
		ps.mu.Lock()
		defer ps.mu.Unlock()
		if !renewal || ps.topics[topic].epoch == epoch { // else the topic was made again meanwhile
			ps.topics[topic] = written{epoch: epoch, limit: limit, asked: time.Now()}
		}
		return limit, nil
	})
}

// limit asks for the largest batch that a topic takes.
func (ps *producers) limit(ctx context.Context, topic string) (int, error) {
	configs, err := ps.log.topicConfigs(ctx, topic, "max.message.bytes")
	if err != nil && !errors.Is(err, sarama.ErrTopicAuthorizationFailed) {
		return 0, err
	}
	bytes, err := strconv.Atoi(configs["max.message.bytes"])
	if err != nil || bytes <= 0 {
		bytes = ourMessageBytes // we may write to it, but not ask
	}
	return min(bytes, ps.log.cfg.MaxMessageBytes), nil
}

// retire lets a producer send what it has and end; mu is held.
func (ps *producers) retire(p *producer) {
	delete(ps.byLimit, p.limit)
	ps.retired.Go(func() {
		p.senders.Wait()
		p.close()
	})
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

// open starts the producer of a limit, unless it is there.
func (ps *producers) open(limit int) error {
	ps.mu.Lock()
	p := ps.byLimit[limit]
	ps.mu.Unlock()
	if p != nil {
		return nil
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
	cfg.Producer.Retry.MaxBufferBytes = retryBytes
	p = &producer{limit: limit, late: newLateness()}
	cfg.Producer.Retry.BackoffFunc = func(retries, _ int) time.Duration {
		p.retries.Add(1) // sarama asks before it sends anything once more
		if ps.closing.Load() {
			return 0
		}
		return min(firstRetry<<min(max(retries-1, 0), 10), time.Second)
	}
	client, err := sarama.NewClient(ps.log.cfg.Brokers, &cfg)
	if err != nil {
		return fmt.Errorf("%w: start a producer: %w", broker.ErrUnavailable, err)
	}
	async, err := sarama.NewAsyncProducerFromClient(punctual{client, p.late})
	if err != nil {
		_ = client.Close()
		return fmt.Errorf("%w: start a producer: %w", broker.ErrUnavailable, err)
	}
	p.client, p.async = client, async
	p.done.Go(p.successes)
	p.done.Go(func() { p.failures(ps) })
	ps.mu.Lock()
	ps.byLimit[limit] = p
	ps.mu.Unlock()
	return nil
}

// close sends what was accepted and ends the producers.
func (ps *producers) close() {
	ps.closing.Store(true)
	ps.mu.Lock()
	for _, p := range ps.byLimit {
		ps.retire(p)
	}
	ps.mu.Unlock()
	ps.retired.Wait()
}

func (p *producer) close() {
	p.async.AsyncClose()
	p.done.Wait()
	_ = p.client.Close()
}

func (ps *producers) forgetLimit(topic string) {
	ps.mu.Lock()
	delete(ps.topics, topic)
	ps.mu.Unlock()
}

// learn sees to it that the producer knows of a topic's partition, which may be new.
func (p *producer) learn(topic string, partition int) error {
	if partition < 0 {
		return nil
	}
	known, err := p.client.Partitions(topic)
	if err == nil && partition >= len(known) {
		err = p.client.RefreshMetadata(topic)
	}
	if err != nil {
		return fmt.Errorf("%w: metadata of %s: %w", broker.ErrUnavailable, topic, err)
	}
	return nil
}

func (p *producer) successes() {
	for m := range p.async.Successes() {
		t := m.Metadata.(ticket)
		if m.Offset < 0 { // written by an attempt so long ago that the broker has forgotten where
			p.settle(t, -1, -1, fmt.Errorf("%w: written at a position that is not known", broker.ErrUnavailable))
			continue
		}
		p.settle(t, m.Partition, m.Offset, nil)
	}
}

func (p *producer) failures(ps *producers) {
	for e := range p.async.Errors() {
		t := e.Msg.Metadata.(ticket)
		err := fate(e.Err)
		if errors.Is(err, broker.ErrTooLarge) {
			ps.forgetLimit(e.Msg.Topic) // it must have changed
		}
		// sarama tells the last attempt's error alone, and not how many there were. An earlier one may have been written
		// without an answer, so what is said of a message counts only if nothing was sent again since it was handed in, or
		// if it is sarama's own word on a message that it never sends.
		var misuse sarama.ConfigurationError
		if p.retries.Load() != t.retries && !errors.As(e.Err, &misuse) {
			err = inDoubt(err)
		}
		p.settle(t, -1, -1, err)
	}
}

// settle tells who waits for a message what became of it.
func (p *producer) settle(t ticket, partition int32, offset int64, err error) {
	if !t.call.settle(t.index, partition, offset, err) {
		p.late.settled(t)
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
		return fmt.Errorf("%w: %w: %d", broker.ErrRefused, broker.ErrNoPartition, m.Partition)
	}
	return nil
}

// full is how the embedded Kafka says that there is no room on its disk. No Kafka refuses a record or a topic by it.
const full = sarama.ErrLogDirNotFound

// fate turns the error of a message's only attempt into what it says about the message: refused where it is surely not
// written.
func fate(err error) error {
	var misuse sarama.ConfigurationError
	switch {
	case errors.Is(err, sarama.ErrMessageSizeTooLarge), errors.As(err, &misuse):
		return fmt.Errorf("%w: %w", broker.ErrTooLarge, err)
	case errors.Is(err, sarama.ErrUnknownTopicOrPartition):
		return fmt.Errorf("%w: %w", broker.ErrRefused, broker.ErrNoTopic)
	case errors.Is(err, sarama.ErrInvalidPartition):
		return fmt.Errorf("%w: %w", broker.ErrRefused, broker.ErrNoPartition)
	case errors.Is(err, full):
		return fmt.Errorf("%w: %w", broker.ErrFull, err)
	case errors.Is(err, sarama.ErrShuttingDown):
		return broker.ErrClosed
	case errors.Is(err, sarama.ErrTopicAuthorizationFailed), errors.Is(err, sarama.ErrInvalidTimestamp),
		errors.Is(err, sarama.ErrPolicyViolation), errors.Is(err, sarama.ErrInvalidTopic), errors.Is(err, sarama.ErrInvalidRecord):
		return fmt.Errorf("%w: %w", broker.ErrRefused, inWords(err))
	}
	return fmt.Errorf("%w: %w", broker.ErrUnavailable, err)
}

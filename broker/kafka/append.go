package kafka

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/IBM/sarama"

	"github.com/eventissuer/eventissuer/broker"
)

// recordOverhead is more than a batch of one record takes besides its key, value and headers.
const (
	recordOverhead = 61 + 36
	headerOverhead = 10
	attemptsMost   = 3
	staleAfter     = 5 // times MetadataEvery
)

// Append implements broker.Appender. The messages' slices must not be changed afterwards, not even when it is in doubt
// whether they were written: they may still be on their way, and be sent again until AppendDeadline has passed.
func (l *Log) Append(ctx context.Context, topic string, msgs []broker.Message) []broker.Ack {
	began := time.Now()
	call := &appendCall{
		topic: topic, msgs: msgs, due: began.Add(l.cfg.AppendDeadline),
		acks: make([]broker.Ack, len(msgs)), known: make([]bool, len(msgs)), left: len(msgs), done: make(chan struct{}), unsent: refused,
	}
	if len(msgs) == 0 {
		return call.acks
	}
	ctx, end, err := l.begin(ctx, l.cfg.AppendDeadline)
	if err != nil {
		call.failAll(err)
		return call.acks
	}
	defer end()
	l.append(ctx, topic, msgs, call)

	ok, bytes := 0, 0
	for i := range call.acks {
		if call.acks[i].Err == nil {
			ok++
			bytes += len(msgs[i].Key) + len(msgs[i].Value)
		}
	}
	l.metrics.appended(began, ok, len(msgs)-ok, bytes)
	return call.acks
}

// append sends msgs, and once more those that the brokers refused for a reason that lies in the past.
func (l *Log) append(ctx context.Context, topic string, msgs []broker.Message, call *appendCall) {
	for attempt := 1; ; attempt++ {
		l.send(ctx, topic, msgs, call)
		call.unsent = inDoubt
		if attempt == attemptsMost || ctx.Err() != nil {
			return
		}
		if !call.reopen(msgs) {
			return
		}
	}
}

// send sends the messages that are not settled and waits for their fate.
func (l *Log) send(ctx context.Context, topic string, msgs []broker.Message, call *appendCall) {
	view, err := l.viewToWrite(ctx, topic)
	var p *producer
	if err == nil {
		if p, err = l.producers.forTopic(ctx, topic, view.epoch); err == nil {
			defer p.senders.Done()
		}
	}
	last := lastPartition(msgs)
	if err == nil && last >= len(view.partitions) { // the topic may have grown since
		view, err = l.cluster.look(ctx, topic)
	}
	if err == nil && last < len(view.partitions) {
		err = p.learn(topic, last)
	}
	if err != nil {
		call.failAll(call.unsent(err))
		return
	}
	call.late = p.late
	for i := range msgs {
		m := &msgs[i]
		if call.known[i] { // no lock: what was sent of the last attempt is settled
			continue
		}
		if err := p.refuses(m, view); err != nil {
			call.settle(i, -1, -1, call.unsent(err))
			continue
		}
		select {
		case p.async.Input() <- message(topic, m, ticket{call, i, m.Partition, p.retries.Load()}):
		case <-ctx.Done():
			for j := i; j < len(msgs); j++ { // those of the last attempt keep their fate
				call.settle(j, -1, -1, call.unsent(outOfTime(ctx, nil, errors.New("the queue to Kafka is full"))))
			}
			call.wait(ctx)
			return
		}
	}
	call.wait(ctx)
}

// viewToWrite returns what is known of a topic. Where it is in use it is looked at in the background, so that no publish
// waits for that, let alone for a broker that does not answer; what was seen long ago is looked at again first.
func (l *Log) viewToWrite(ctx context.Context, topic string) (*topicView, error) {
	view := l.cluster.peek(topic)
	if view != nil {
		switch age := time.Since(view.asked); {
		case age <= l.cfg.MetadataEvery:
			return view, nil
		case age <= staleAfter*l.cfg.MetadataEvery:
			l.renew(topic)
			return view, nil
		}
	}
	fresh, err := l.cluster.look(ctx, topic)
	if errors.Is(err, broker.ErrNoTopic) {
		fresh, err = l.cluster.confirm(ctx, topic, broker.Epoch{}, nil)
	}
	if err != nil && view != nil && !errors.Is(err, broker.ErrNoTopic) && ctx.Err() == nil {
		return view, nil // let the producer try
	}
	return fresh, err
}

// renew looks at a topic in the background, once at a time.
func (l *Log) renew(topic string) {
	if done, ok := l.cluster.claimRenewal(topic); ok {
		l.background(done, func(ctx context.Context) {
			_, _ = l.cluster.look(ctx, topic) // what it sees is kept; if it fails the next append asks again
		})
	}
}

// background does what was claimed for as long as a request may take, without being waited for. It calls done at the end,
// also where the log is closed already and nothing was done.
func (l *Log) background(done func(), do func(context.Context)) {
	ctx, end, err := l.begin(context.Background(), l.cfg.RequestTimeout)
	if err != nil {
		done()
		return
	}
	go func() {
		defer end()
		defer done()
		do(ctx)
	}()
}

// lastPartition returns the highest partition that a message asks for, or -1.
func lastPartition(msgs []broker.Message) int {
	last := -1
	for i := range msgs {
		last = max(last, int(msgs[i].Partition))
	}
	return last
}

// refused marks an error as one that came before anything was sent.
func refused(err error) error {
	if errors.Is(err, broker.ErrRefused) {
		return err
	}
	return fmt.Errorf("%w: %w", broker.ErrRefused, err)
}

// inDoubt takes back what an error says about a message's fate: it may have been written by an earlier attempt.
func inDoubt(err error) error {
	for _, known := range []error{broker.ErrNoTopic, broker.ErrNoPartition, broker.ErrNotAllowed} {
		if errors.Is(err, known) {
			return fmt.Errorf("%w: %w", broker.ErrUnavailable, known)
		}
	}
	if errors.Is(err, broker.ErrRefused) {
		return fmt.Errorf("%w: sent before, and then: %s", broker.ErrUnavailable, err.Error()) // not wrapped: refused no more
	}
	return err
}

func message(topic string, m *broker.Message, t ticket) *sarama.ProducerMessage {
	pm := &sarama.ProducerMessage{Topic: topic, Partition: m.Partition, Offset: -1, Metadata: t}
	if m.Key != nil {
		pm.Key = sarama.ByteEncoder(m.Key)
	}
	if m.Value != nil { // a nil value is a tombstone, an empty one is not
		pm.Value = sarama.ByteEncoder(m.Value)
	}
	if len(m.Headers) > 0 {
		pm.Headers = make([]sarama.RecordHeader, len(m.Headers))
		for i, h := range m.Headers {
			pm.Headers[i] = sarama.RecordHeader{Key: []byte(h.Key), Value: h.Value}
		}
	}
	return pm
}

// ticket leads from a message to the call that waits for it.
type ticket struct {
	call      *appendCall
	index     int
	partition int32  // as asked for
	retries   uint64 // of the producer, when it was given the message
}

// appendCall gathers the fates of one call's messages.
type appendCall struct {
	topic  string            // static
	msgs   []broker.Message  // static
	due    time.Time         // static: till when its messages may be sent
	late   *lateness         // of the producer that has the messages; set before they are sent
	done   chan struct{}     // closed when left is 0; replaced only between attempts
	unsent func(error) error // what an error before this attempt's send says; replaced only between attempts

	mu    sync.Mutex // guards what follows, until done is closed
	acks  []broker.Ack
	known []bool
	left  int
	gone  bool // nobody waits any more: the caller has its answer, or the next attempt has not begun
}

// settle notes the fate of message i, unless it is known: what was once acknowledged stays so. It reports whether
// somebody was waiting for it.
func (c *appendCall) settle(i int, partition int32, offset int64, err error) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.gone || c.known[i] {
		return false
	}
	c.acks[i] = broker.Ack{Partition: partition, Offset: offset, Err: err}
	c.known[i] = true
	if c.left--; c.left == 0 {
		close(c.done)
	}
	return true
}

// reopen makes messages unsettled that were refused out of sequence: the log does not have what this producer wrote
// before, because the topic was made again or its log lost its end. sarama has begun a new sequence by now, so they may
// be sent once more, provided that no later message of their partition was taken. It reports whether there are any.
func (c *appendCall) reopen(msgs []broker.Message) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	taken := make(map[int32]bool)
	var again []int
	for i := len(msgs) - 1; i >= 0; i-- {
		switch err := c.acks[i].Err; {
		case err == nil:
			taken[c.acks[i].Partition] = true
		case outOfSequence(err):
			again = append(again, i)
		}
	}
	if len(again) == 0 {
		return false
	}
	for _, i := range again {
		// Where a message without a partition of its own would have gone is not told; then any taken one bars it.
		if p := msgs[i].Partition; p < 0 && len(taken) > 0 || taken[p] {
			return false
		}
	}
	for _, i := range again {
		c.known[i] = false
	}
	c.left, c.done, c.gone = len(again), make(chan struct{}), false
	return true
}

func outOfSequence(err error) bool {
	return errors.Is(err, sarama.ErrOutOfOrderSequenceNumber) || errors.Is(err, sarama.ErrUnknownProducerID)
}

func (c *appendCall) failAll(err error) {
	for i := range c.acks {
		if !c.known[i] {
			c.acks[i] = broker.Ack{Partition: -1, Offset: -1, Err: err}
		}
	}
}

// wait blocks until the fate of all messages is known, or ctx ends: then that of the rest is in doubt.
// The producer gives them up when they are due.
func (c *appendCall) wait(ctx context.Context) {
	select {
	case <-c.done:
	case <-ctx.Done():
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.gone = true
	if c.left == 0 {
		return
	}
	doubt := outOfTime(ctx, nil, errors.New("no acknowledgement came"))
	if errors.Is(doubt, broker.ErrRefused) { // ErrClosed: it may still be sent
		doubt = fmt.Errorf("%w: closed before the acknowledgement came", broker.ErrUnavailable)
	}
	for i := range c.acks {
		if !c.known[i] {
			c.acks[i] = broker.Ack{Partition: -1, Offset: -1, Err: doubt}
			c.late.add(c, i, c.msgs[i].Partition)
		}
	}
}

// partitioner takes the partition that was asked for, else Java's choice.
type partitioner struct{ murmur2 sarama.Partitioner }

func newPartitioner(topic string) sarama.Partitioner {
	return partitioner{sarama.NewMurmur2Partitioner(topic)}
}

// Partition implements sarama.Partitioner.
func (p partitioner) Partition(m *sarama.ProducerMessage, n int32) (int32, error) {
	t, _ := m.Metadata.(ticket)
	if t.partition >= 0 {
		return t.partition, nil
	}
	return p.murmur2.Partition(m, n)
}

// RequiresConsistency implements sarama.Partitioner.
func (partitioner) RequiresConsistency() bool { return true }

// MessageRequiresConsistency lets messages without key go wherever a leader is.
func (partitioner) MessageRequiresConsistency(m *sarama.ProducerMessage) bool {
	t, _ := m.Metadata.(ticket)
	return t.partition >= 0 || m.Key != nil
}

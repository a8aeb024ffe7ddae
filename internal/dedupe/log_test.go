package dedupe

import (
	"context"
	"fmt"
	"hash/fnv"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/eventissuer/eventissuer/broker"
	"github.com/eventissuer/eventissuer/internal/event"
)

// memoryLog is a log in memory that keeps the contract of package broker.
type memoryLog struct {
	now func() time.Time

	mu     sync.Mutex
	lives  byte
	topics map[string]*memoryTopic
	step   int // the most records that a Read gives
}

type memoryTopic struct {
	epoch broker.Epoch
	first []int64
	parts [][]broker.Record // from offset 0 on
	held  []int64           // the end of what may be read, where a transaction is open; else -1
}

func newMemoryLog(now func() time.Time) *memoryLog {
	return &memoryLog{now: now, topics: make(map[string]*memoryTopic), step: 2}
}

// create makes a topic, anew where it is there.
func (l *memoryLog) create(topic string, partitions int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lives++
	t := &memoryTopic{epoch: broker.Epoch{l.lives, 1}, first: make([]int64, partitions), parts: make([][]broker.Record, partitions)}
	for range partitions {
		t.held = append(t.held, -1)
	}
	l.topics[topic] = t
}

func (l *memoryLog) delete(topic string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.topics, topic)
}

// retain deletes what is below first.
func (l *memoryLog) retain(topic string, partition int, first int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.topics[topic].first[partition] = first
}

// cut loses what is at end and above.
func (l *memoryLog) cut(topic string, partition int, end int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	t := l.topics[topic]
	t.parts[partition] = t.parts[partition][:end]
}

// hold lets nothing from end on be read; -1 ends that.
func (l *memoryLog) hold(topic string, partition int, end int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.topics[topic].held[partition] = end
}

// copies returns where a source and id are in a topic.
func (l *memoryLog) copies(topic string, k key) (all []broker.Ack) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if t := l.topics[topic]; t != nil {
		for p := range t.parts {
			for _, r := range t.parts[p] {
				if e, err := event.FromRecord(r); err == nil && keyOf(e.Source(), e.ID()) == k {
					all = append(all, broker.Ack{Partition: int32(p), Offset: r.Offset})
				}
			}
		}
	}
	return all
}

// holds reports whether the log has the event at a position.
func (l *memoryLog) holds(topic string, k key, at broker.Ack) bool {
	return slices.Contains(l.copies(topic, k), broker.Ack{Partition: at.Partition, Offset: at.Offset})
}

func (l *memoryLog) Append(_ context.Context, topic string, msgs []broker.Message) []broker.Ack {
	l.mu.Lock()
	defer l.mu.Unlock()
	acks := make([]broker.Ack, len(msgs))
	t := l.topics[topic]
	for i, m := range msgs {
		if t == nil {
			acks[i] = broker.Ack{Partition: -1, Offset: -1, Err: fmt.Errorf("%w: %w", broker.ErrRefused, broker.ErrNoTopic)}
			continue
		}
		p := partitionOf(m, len(t.parts))
		acks[i] = broker.Ack{Partition: p, Offset: int64(len(t.parts[p]))}
		t.parts[p] = append(t.parts[p], broker.Record{Partition: p, Offset: acks[i].Offset, Timestamp: l.now(), Key: m.Key, Value: m.Value, Headers: m.Headers})
	}
	return acks
}

func partitionOf(m broker.Message, n int) int32 {
	if m.Partition >= 0 {
		return m.Partition
	}
	h := fnv.New32a()
	_, _ = h.Write(m.Key)
	return int32(h.Sum32() % uint32(n))
}

func (l *memoryLog) Place(_ context.Context, topic string, msgs []broker.Message) (broker.Epoch, []int64, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	t := l.topics[topic]
	if t == nil {
		return broker.Epoch{}, nil, broker.ErrNoTopic
	}
	for i := range msgs {
		msgs[i].Partition = partitionOf(msgs[i], len(t.parts))
	}
	var ends []int64
	for p := range t.parts {
		ends = append(ends, t.readable(p))
	}
	return t.epoch, ends, nil
}

func (t *memoryTopic) readable(p int) int64 {
	if t.held[p] >= 0 {
		return t.held[p]
	}
	return int64(len(t.parts[p]))
}

func (l *memoryLog) End(_ context.Context, topic string, partition int32) (int64, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	t := l.topics[topic]
	if t == nil {
		return 0, broker.ErrNoTopic
	}
	if int(partition) >= len(t.parts) {
		return 0, broker.ErrNoPartition
	}
	return int64(len(t.parts[partition])), nil
}

func (l *memoryLog) Read(ctx context.Context, topic string, partition int32, offset int64, _ int) (broker.Batch, error) {
	if ctx.Err() != nil {
		return broker.Batch{}, ctx.Err()
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	t := l.topics[topic]
	if t == nil {
		return broker.Batch{}, broker.ErrNoTopic
	}
	first, end := t.first[partition], t.readable(int(partition))
	if offset < first || offset > end {
		return broker.Batch{}, &broker.RangeError{Partition: partition, Offset: offset, Bounds: broker.Bounds{First: first, Next: end}}
	}
	next := min(offset+int64(l.step), end)
	return broker.Batch{Partition: partition, Records: slices.Clone(t.parts[partition][offset:next]), Next: next, Start: first, End: end}, nil
}

func (l *memoryLog) Bounds(_ context.Context, topic string) ([]broker.Bounds, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	t := l.topics[topic]
	if t == nil {
		return nil, broker.ErrNoTopic
	}
	var all []broker.Bounds
	for p := range t.parts {
		all = append(all, broker.Bounds{First: t.first[p], Next: t.readable(p)})
	}
	return all, nil
}

func (l *memoryLog) At(_ context.Context, topic string, at time.Time) ([]int64, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	t := l.topics[topic]
	if t == nil {
		return nil, broker.ErrNoTopic
	}
	var all []int64
	for p := range t.parts {
		n, _ := slices.BinarySearchFunc(t.parts[p], at, func(r broker.Record, at time.Time) int { return r.Timestamp.Compare(at) })
		all = append(all, int64(n))
	}
	return all, nil
}

func (l *memoryLog) Describe(_ context.Context, topic string) (broker.TopicInfo, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	t := l.topics[topic]
	if t == nil {
		return broker.TopicInfo{}, broker.ErrNoTopic
	}
	return broker.TopicInfo{Epoch: t.epoch, TopicConfig: broker.TopicConfig{Partitions: int32(len(t.parts))}}, nil
}

// timer is time that passes when it is told to.
type timer struct {
	mu sync.Mutex
	at time.Time
}

func (c *timer) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at
}

func (c *timer) pass(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = c.at.Add(d)
}

const day = 24 * time.Hour

// happening is an event of a source, with a key for its partition.
func happening(t testing.TB, id, partitionKey string) Event {
	t.Helper()
	text := fmt.Sprintf(`{"specversion":"1.0","type":"t","source":"/test","id":%q,"data":{}}`, id)
	e, err := event.Parse([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return Event{Source: "/test", ID: id, Window: day, Message: e.Message([]byte(partitionKey))}
}

package fanout

import (
	"context"
	"encoding/binary"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/eventissuer/eventissuer/broker"
)

// memoryLog is a log in memory that keeps the contract of package broker as fan-out needs it, with the faults that a
// test asks for: holes, retention, a lost end, a topic made anew, an outage.
type memoryLog struct {
	mu      sync.Mutex
	epoch   broker.Epoch
	parts   []memoryPartition
	down    bool
	gone    bool
	changed chan struct{} // closed and replaced at every change

	reads atomic.Int64
	delay func() // before a read is answered, if not nil
	late  func() // before an answer of Read or Bounds arrives, if not nil
}

type memoryPartition struct {
	first, next int64
	records     []broker.Record
}

func newMemoryLog(partitions int) *memoryLog {
	l := &memoryLog{parts: make([]memoryPartition, partitions), changed: make(chan struct{})}
	l.epoch[7] = 1
	return l
}

func (l *memoryLog) change(f func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	f()
	close(l.changed)
	l.changed = make(chan struct{})
}

func (l *memoryLog) append(p int, value string) int64 {
	var at int64
	l.change(func() {
		q := &l.parts[p]
		at = q.next
		q.records = append(q.records, broker.Record{Partition: int32(p), Offset: at, Timestamp: time.Unix(at, 0), Value: []byte(value)})
		q.next++
	})
	return at
}

func (l *memoryLog) hole(p int, n int64) { l.change(func() { l.parts[p].next += n }) }

// retain deletes below first.
func (l *memoryLog) retain(p int, first int64) {
	l.change(func() {
		q := &l.parts[p]
		q.first = max(q.first, min(first, q.next))
		q.records = slices.DeleteFunc(slices.Clone(q.records), func(r broker.Record) bool { return r.Offset < q.first })
	})
}

// lose cuts the log's end off.
func (l *memoryLog) lose(p int, end int64) {
	l.change(func() {
		q := &l.parts[p]
		q.next = min(q.next, end)
		q.records = slices.DeleteFunc(slices.Clone(q.records), func(r broker.Record) bool { return r.Offset >= end })
	})
}

func (l *memoryLog) recreate(partitions int) {
	l.change(func() {
		n := binary.BigEndian.Uint64(l.epoch[:8])
		binary.BigEndian.PutUint64(l.epoch[:8], n+1)
		l.parts = make([]memoryPartition, partitions)
	})
}

func (l *memoryLog) grow(partitions int) {
	l.change(func() {
		for len(l.parts) < partitions {
			l.parts = append(l.parts, memoryPartition{})
		}
	})
}

func (l *memoryLog) outage(down bool) { l.change(func() { l.down = down }) }

func (l *memoryLog) Present(ctx context.Context, topic string) (broker.Epoch, error) {
	info, err := l.Describe(ctx, topic)
	return info.Epoch, err
}

func (l *memoryLog) Describe(context.Context, string) (broker.TopicInfo, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.gone {
		return broker.TopicInfo{}, broker.ErrNoTopic
	}
	return broker.TopicInfo{TopicConfig: broker.TopicConfig{Partitions: int32(len(l.parts))}, Epoch: l.epoch}, nil
}

func (l *memoryLog) Bounds(context.Context, string) ([]broker.Bounds, error) {
	if l.late != nil {
		defer l.late()
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	var b []broker.Bounds
	for _, q := range l.parts {
		b = append(b, broker.Bounds{First: q.first, Next: q.next})
	}
	return b, nil
}

func (l *memoryLog) At(context.Context, string, time.Time) ([]int64, error) {
	return nil, broker.ErrUnavailable
}

func (l *memoryLog) Truncate(_ context.Context, _ string, p int32, offset int64) error {
	l.retain(int(p), offset)
	return nil
}

func (l *memoryLog) Read(ctx context.Context, _ string, p int32, offset int64, maxBytes int) (broker.Batch, error) {
	l.reads.Add(1)
	if l.delay != nil {
		l.delay()
	}
	if ctx.Err() != nil {
		return broker.Batch{}, ctx.Err()
	}
	if l.late != nil {
		defer l.late()
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.down {
		return broker.Batch{}, broker.ErrUnavailable
	}
	if int(p) >= len(l.parts) {
		return broker.Batch{}, broker.ErrNoPartition
	}
	q := l.parts[p]
	if offset < q.first || offset > q.next {
		return broker.Batch{}, &broker.RangeError{Partition: p, Offset: offset, Bounds: broker.Bounds{First: q.first, Next: q.next}}
	}
	b := broker.Batch{Partition: p, Start: q.first, End: q.next, Next: offset}
	size := 0
	for _, r := range q.records {
		if r.Offset < offset {
			continue
		}
		if size > 0 && size+len(r.Value) > maxBytes {
			return b, nil
		}
		size += len(r.Value)
		b.Records = append(b.Records, r)
		b.Next = r.Offset + 1
	}
	b.Next = q.next // past the holes
	return b, nil
}

func (l *memoryLog) Tail(ctx context.Context, _ string, epoch broker.Epoch, from []int64, h broker.TailHandler) error {
	next := slices.Clone(from)
	down := false
	for {
		l.mu.Lock()
		changed, state, parts := l.changed, l.down, slices.Clone(l.parts)
		now, gone := l.epoch, l.gone
		l.mu.Unlock()
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case gone:
			return broker.ErrNoTopic
		case now != epoch:
			return broker.ErrRecreated
		case state != down:
			down = state
			if down {
				h.Health(fmt.Errorf("%w: an outage", broker.ErrUnavailable))
			} else {
				h.Health(nil)
			}
		}
		if !down {
			if len(parts) > len(next) {
				h.Partitions(int32(len(parts)))
				for len(next) < len(parts) {
					next = append(next, 0)
				}
			}
			for p, q := range parts {
				if g := (broker.Gap{Partition: int32(p), From: next[p]}); next[p] < q.first {
					g.To, g.Reason = q.first, broker.GapRetention
					next[p] = g.To
					h.Gap(g)
				} else if next[p] > q.next {
					g.To, g.Reason = q.next, broker.GapTruncated
					next[p] = g.To
					h.Gap(g)
				}
				at, _ := slices.BinarySearchFunc(q.records, next[p], func(r broker.Record, o int64) int { return int(r.Offset - o) })
				if rest := q.records[at:]; len(rest) > 0 || q.next > next[p] {
					next[p] = q.next
					h.Records(broker.Batch{Partition: int32(p), Records: slices.Clone(rest), Next: q.next, Start: q.first, End: q.next})
				}
			}
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Package fanouttest has the log that fan-out is tested on.
package fanouttest

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

// Log is a log in memory that keeps the contract of package broker as fan-out needs it, with the faults that a
// test asks for: holes, retention, a lost end, a topic made anew, an outage.
//
// Its fields are to be changed by Change alone while somebody follows it.
type Log struct {
	Epoch broker.Epoch
	Parts []Partition
	Gone  bool // the topic was deleted

	mu      sync.Mutex
	down    bool          // guarded by mu
	changed chan struct{} // closed and replaced at every change; guarded by mu

	Reads atomic.Int64 // calls of Read
	Delay func()       // before a read is answered, if not nil
	Late  func()       // before an answer of Read or Bounds arrives, if not nil
}

// Partition has its records in ascending order of their offsets, which may have holes.
type Partition struct {
	First, Next int64
	Records     []broker.Record
}

// NewLog makes an empty log.
func NewLog(partitions int) *Log {
	l := &Log{Parts: make([]Partition, partitions), changed: make(chan struct{})}
	l.Epoch[7] = 1
	return l
}

// Change has f change the log, and wakes who follows it.
func (l *Log) Change(f func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	f()
	close(l.changed)
	l.changed = make(chan struct{})
}

// Append adds a record without a key, whose time is its offset in seconds, and returns its offset.
func (l *Log) Append(p int, value string) int64 {
	return l.Put(p, broker.Record{Value: []byte(value)})
}

// Put adds a record, whose time is its offset in seconds unless it has one, and returns its offset.
func (l *Log) Put(p int, r broker.Record) int64 {
	l.Change(func() {
		q := &l.Parts[p]
		r.Partition, r.Offset = int32(p), q.Next
		if r.Timestamp.IsZero() {
			r.Timestamp = time.Unix(r.Offset, 0)
		}
		q.Records = append(q.Records, r)
		q.Next++
	})
	return r.Offset
}

// Compact takes out the records of a partition whose key has a later one.
func (l *Log) Compact(p int) {
	l.Change(func() {
		q := &l.Parts[p]
		last := map[string]int64{}
		for _, r := range q.Records {
			last[string(r.Key)] = r.Offset
		}
		q.Records = slices.DeleteFunc(slices.Clone(q.Records), func(r broker.Record) bool {
			return r.Key != nil && last[string(r.Key)] != r.Offset
		})
	})
}

// Hole moves the end of a partition on without a record.
func (l *Log) Hole(p int, n int64) { l.Change(func() { l.Parts[p].Next += n }) }

// Retain deletes below first.
func (l *Log) Retain(p int, first int64) {
	l.Change(func() {
		q := &l.Parts[p]
		q.First = max(q.First, min(first, q.Next))
		q.Records = slices.DeleteFunc(slices.Clone(q.Records), func(r broker.Record) bool { return r.Offset < q.First })
	})
}

// Lose cuts the log's end off.
func (l *Log) Lose(p int, end int64) {
	l.Change(func() {
		q := &l.Parts[p]
		q.Next = min(q.Next, end)
		q.Records = slices.DeleteFunc(slices.Clone(q.Records), func(r broker.Record) bool { return r.Offset >= end })
	})
}

// Recreate makes the topic anew.
func (l *Log) Recreate(partitions int) {
	l.Change(func() {
		n := binary.BigEndian.Uint64(l.Epoch[:8])
		binary.BigEndian.PutUint64(l.Epoch[:8], n+1)
		l.Parts = make([]Partition, partitions)
	})
}

// Grow adds partitions.
func (l *Log) Grow(partitions int) {
	l.Change(func() {
		for len(l.Parts) < partitions {
			l.Parts = append(l.Parts, Partition{})
		}
	})
}

// Outage has the log be out of reach, or in reach again.
func (l *Log) Outage(down bool) { l.Change(func() { l.down = down }) }

// Present implements [broker.Prover].
func (l *Log) Present(ctx context.Context, topic string) (broker.Epoch, error) {
	info, err := l.Describe(ctx, topic)
	return info.Epoch, err
}

// Describe tells the topic's partitions and epoch.
func (l *Log) Describe(context.Context, string) (broker.TopicInfo, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.Gone {
		return broker.TopicInfo{}, broker.ErrNoTopic
	}
	return broker.TopicInfo{TopicConfig: broker.TopicConfig{Partitions: int32(len(l.Parts))}, Epoch: l.Epoch}, nil
}

// Bounds implements [broker.Offsets].
func (l *Log) Bounds(context.Context, string) ([]broker.Bounds, error) {
	if l.Late != nil {
		defer l.Late()
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	var b []broker.Bounds
	for _, q := range l.Parts {
		b = append(b, broker.Bounds{First: q.First, Next: q.Next})
	}
	return b, nil
}

// At implements [broker.Offsets].
func (l *Log) At(_ context.Context, _ string, t time.Time) ([]int64, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.down {
		return nil, broker.ErrUnavailable
	}
	at := make([]int64, len(l.Parts))
	for p, q := range l.Parts {
		at[p] = q.Next
		for _, r := range q.Records {
			if !r.Timestamp.Before(t) {
				at[p] = r.Offset
				break
			}
		}
	}
	return at, nil
}

// Truncate implements [broker.Offsets].
func (l *Log) Truncate(_ context.Context, _ string, p int32, offset int64) error {
	l.Retain(int(p), offset)
	return nil
}

// Read implements [broker.Reader].
func (l *Log) Read(ctx context.Context, _ string, p int32, offset int64, maxBytes int) (broker.Batch, error) {
	l.Reads.Add(1)
	if l.Delay != nil {
		l.Delay()
	}
	if ctx.Err() != nil {
		return broker.Batch{}, ctx.Err()
	}
	if l.Late != nil {
		defer l.Late()
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.down {
		return broker.Batch{}, broker.ErrUnavailable
	}
	if int(p) >= len(l.Parts) {
		return broker.Batch{}, broker.ErrNoPartition
	}
	q := l.Parts[p]
	if offset < q.First || offset > q.Next {
		return broker.Batch{}, &broker.RangeError{Partition: p, Offset: offset, Bounds: broker.Bounds{First: q.First, Next: q.Next}}
	}
	b := broker.Batch{Partition: p, Start: q.First, End: q.Next, Next: offset}
	size := 0
	for _, r := range q.Records {
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
	b.Next = q.Next // past the holes
	return b, nil
}

// Tail implements [broker.Tailer].
func (l *Log) Tail(ctx context.Context, _ string, epoch broker.Epoch, from []int64, h broker.TailHandler) error {
	next := slices.Clone(from)
	down := false
	for {
		l.mu.Lock()
		changed, state, parts := l.changed, l.down, slices.Clone(l.Parts)
		now, gone := l.Epoch, l.Gone
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
				if g := (broker.Gap{Partition: int32(p), From: next[p]}); next[p] < q.First {
					g.To, g.Reason = q.First, broker.GapRetention
					next[p] = g.To
					h.Gap(g)
				} else if next[p] > q.Next {
					g.To, g.Reason = q.Next, broker.GapTruncated
					next[p] = g.To
					h.Gap(g)
				}
				at, _ := slices.BinarySearchFunc(q.Records, next[p], func(r broker.Record, o int64) int { return int(r.Offset - o) })
				if rest := q.Records[at:]; len(rest) > 0 || q.Next > next[p] {
					next[p] = q.Next
					h.Records(broker.Batch{Partition: int32(p), Records: slices.Clone(rest), Next: q.Next, Start: q.First, End: q.Next})
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

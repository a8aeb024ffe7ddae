package table

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/eventissuer/eventissuer/broker"
)

// loaded is what a load found.
type loaded struct {
	fold     *fold
	base     snapshot
	grown    int64
	scan     *scan                 // at the end of the snapshots
	verdicts map[uuid.UUID]verdict // on writes of this replica that the load read
}

var (
	errBelowStart  = errors.New("the log begins above the snapshot")
	errNothingLeft = errors.New("the log's beginning is gone and there is no snapshot of it: the table cannot be loaded; was its topic of snapshots deleted, or truncated by somebody else?")
)

// load folds a partition beside the state in use (rules 6 and 7). It blocks until it has, starting over as often as
// need be, and returns ctx.Err() or what should make the caller describe the topic again.
func (t *Table) load(ctx context.Context, s *shard, epoch broker.Epoch) (loaded, error) {
	t.metrics.loading.Inc()
	defer t.metrics.loading.Dec()
	t.metrics.loads.Inc()
	for attempt := 0; ; attempt++ {
		l, err := t.loadOnce(ctx, s, epoch)
		if !errors.Is(err, errBelowStart) {
			return l, err
		}
		// Somebody wrote a newer snapshot and truncated: it is there to be read by now. Were it not, the wait grows.
		if attempt > 2 {
			t.log.Error("cannot load", "partition", s.partition, "error", errNothingLeft, "detail", err)
			if err := t.pause(ctx, attempt); err != nil {
				return loaded{}, err
			}
		}
	}
}

func (t *Table) loadOnce(ctx context.Context, s *shard, epoch broker.Epoch) (loaded, error) {
	sc := newScan(epoch, true)
	if err := t.readSnapshots(ctx, s.partition, sc); err != nil {
		return loaded{}, err
	}
	l := loaded{verdicts: map[uuid.UUID]verdict{}}
	if sc.last != nil {
		l.base = sc.last.snapshot
		l.fold = restore(sc.last, t.cfg.Retain)
	} else {
		l.fold = newFold(t.cfg.Retain)
	}
	l.scan = sc.facts()
	return l, t.readLog(ctx, s, epoch, &l)
}

// readLog folds the log from the snapshot on to its end.
func (t *Table) readLog(ctx context.Context, s *shard, epoch broker.Epoch, l *loaded) error {
	first, end, err := t.bounds(ctx, t.cfg.Topic, s.partition)
	switch {
	case err != nil:
		return err
	case l.fold.next < first:
		return fmt.Errorf("%w: %d below %d", errBelowStart, l.fold.next, first)
	case l.fold.next > end:
		return t.mend(ctx, s, epoch, l.fold.next, end)
	}
	for l.fold.next < end {
		b, err := t.cfg.Log.Read(ctx, t.cfg.Topic, s.partition, l.fold.next, t.cfg.ReadBytes)
		if err != nil {
			if outside := (*broker.RangeError)(nil); errors.As(err, &outside) && outside.Offset < outside.Bounds.First {
				return fmt.Errorf("%w: %w", errBelowStart, err) // rule 6: never skip to the start
			}
			return fmt.Errorf("reading %s: %w", t.cfg.Topic, err)
		}
		before := l.fold.next
		for i := range b.Records {
			r := &b.Records[i]
			w, k, ok := l.fold.apply(r)
			l.grown += recordSize(r)
			if ok {
				s.note(l, &w, k)
			}
		}
		l.fold.next = max(l.fold.next, b.Next)
		if l.fold.next == before {
			if err := t.pause(ctx, 0); err != nil { // the end is known but may not be read yet
				return err
			}
		}
	}
	return nil
}

// note keeps the verdict on a write that waits in this replica.
func (s *shard) note(l *loaded, w *write, k *Kept) {
	s.mu.RLock()
	_, waits := s.waiting[w.u]
	s.mu.RUnlock()
	if _, decided := l.verdicts[w.u]; waits && !decided {
		l.verdicts[w.u] = judge(w, k)
	}
}

func judge(w *write, k *Kept) verdict {
	if k == nil {
		return verdict{err: ErrConflict}
	}
	return verdict{version: k.with(w.body)}
}

// mend fills a log that lost its end below a snapshot (a crash without fsync, an unclean election) up to that
// snapshot with records that are no writes. Otherwise writes would land at offsets that every later load passes over
// as being in the snapshot. It then has the caller load again. Several replicas may do it at once.
func (t *Table) mend(ctx context.Context, s *shard, epoch broker.Epoch, x, end int64) error {
	t.log.Error("the log lost its end: filling it up to the last snapshot", "partition", s.partition, "end", end, "snapshot", x)
	for end < x {
		msgs := make([]broker.Message, min(x-end, 1000))
		for i := range msgs {
			msgs[i] = broker.Message{Partition: s.partition, Value: []byte("{}")}
		}
		if info, err := t.cfg.Log.Describe(ctx, t.cfg.Topic); err != nil || info.Epoch != epoch {
			return errors.Join(err, broker.ErrRecreated)
		}
		for _, ack := range t.cfg.Log.Append(ctx, t.cfg.Topic, msgs) {
			if ack.Err != nil {
				return fmt.Errorf("filling %s: %w", t.cfg.Topic, ack.Err)
			}
			end = max(end, ack.Offset+1)
			t.metrics.mended.Inc()
		}
	}
	return fmt.Errorf("%w: filled up", errBelowStart)
}

// readSnapshots brings sc to the end of the topic of snapshots. Where truncation overtook it, it begins anew.
func (t *Table) readSnapshots(ctx context.Context, partition int32, sc *scan) error {
	first, end, err := t.bounds(ctx, t.cfg.Snapshots, partition)
	if err != nil {
		return err
	}
	bad := sc.bad
	defer func() { t.metrics.foreign.Add(float64(max(sc.bad-bad, 0))) }()
	for {
		if sc.next < first || sc.next > end {
			*sc = scan{epoch: sc.epoch, build: sc.build, next: first, bad: sc.bad}
		}
		if sc.next >= end {
			return nil
		}
		b, err := t.cfg.Log.Read(ctx, t.cfg.Snapshots, partition, sc.next, t.cfg.ReadBytes)
		if outside := (*broker.RangeError)(nil); errors.As(err, &outside) {
			first, end = outside.Bounds.First, outside.Bounds.Next
			continue
		}
		if err != nil {
			return fmt.Errorf("reading %s: %w", t.cfg.Snapshots, err)
		}
		before := sc.next
		for i := range b.Records {
			sc.add(&b.Records[i])
		}
		sc.next = max(sc.next, b.Next)
		if sc.next == before {
			if err := t.pause(ctx, 0); err != nil {
				return err
			}
		}
	}
}

func (t *Table) bounds(ctx context.Context, topic string, partition int32) (first, end int64, err error) {
	all, err := t.cfg.Log.Bounds(ctx, topic)
	if err == nil && int(partition) >= len(all) {
		err = broker.ErrNoPartition
	}
	if err != nil {
		return 0, 0, fmt.Errorf("asking for the ends of %s: %w", topic, err)
	}
	return all[partition].First, all[partition].Next, nil
}

// pause waits before another attempt, longer each time, jittered so that replicas do not come in step.
func (t *Table) pause(ctx context.Context, attempt int) error {
	d := min(10*time.Millisecond<<min(attempt, 20), t.cfg.Backoff)
	select {
	case <-time.After(jitter(d)):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// recordSize counts what a record adds to the log, for the trigger alone.
func recordSize(r *broker.Record) int64 {
	n := len(r.Key) + len(r.Value)
	for _, h := range r.Headers {
		n += len(h.Key) + len(h.Value)
	}
	return int64(n)
}

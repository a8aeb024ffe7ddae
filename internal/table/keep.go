package table

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/google/uuid"

	"github.com/eventissuer/eventissuer/broker"
)

// due reports whether a snapshot is to be written (rule 4). s.mu is held.
func (s *shard) due(threshold int64) bool {
	return !s.stale && s.grown > threshold && s.grown > s.base.size
}

func (t *Table) wakeKeeper() {
	select {
	case t.due <- struct{}{}:
	default:
	}
}

// keep writes snapshots and truncates until ctx ends (rules 3 to 5). It does so partition by partition, so that at
// most one part of a snapshot is in memory at a time.
func (t *Table) keep(ctx context.Context) {
	for {
		select {
		case <-t.due:
		case <-ctx.Done():
			return
		}
		// All replicas come to be due at about the same time: the wait spreads them, and whoever comes later finds the
		// snapshot of the first (rule 4).
		select {
		case <-time.After(rand.N(t.cfg.SnapshotDelay)):
		case <-ctx.Done():
			return
		}
		for _, s := range t.shards {
			again, err := t.keepShard(ctx, s)
			if ctx.Err() != nil {
				return
			}
			if err != nil {
				t.metrics.snapshots.WithLabelValues("failed").Inc()
				t.log.Warn("snapshot failed; it will be tried again", "partition", s.partition, "error", err)
			}
			if again || err != nil {
				t.wakeKeeper()
			}
		}
	}
}

// keepShard looks again, writes a snapshot if that is still due, and truncates by what is valid. again asks for
// another round.
func (t *Table) keepShard(ctx context.Context, s *shard) (again bool, err error) {
	s.mu.Lock()
	epoch, stale, found := s.epoch, s.stale, s.found
	s.found = nil
	s.mu.Unlock()
	if stale {
		return false, nil // the load that follows wakes the keeper
	}
	if found != nil {
		s.scan = found
	}
	if s.scan == nil || s.scan.epoch != epoch {
		s.scan = newScan(epoch, false)
	}
	opened := s.scan.progress()
	if err := t.readSnapshots(ctx, s.partition, s.scan); err != nil {
		return false, err
	}
	s.rebase(s.scan, epoch)
	s.mu.RLock()
	due := s.due(t.cfg.SnapshotBytes)
	s.mu.RUnlock()
	if due && s.scan.open != nil && s.scan.progress() != opened {
		return true, nil // somebody is at it; beginning now would make theirs invalid
	}
	if due {
		if err := t.writeSnapshot(ctx, s, epoch); err != nil {
			return false, err
		}
		if err := t.readSnapshots(ctx, s.partition, s.scan); err != nil { // read back whole (rule 5)
			return false, err
		}
		s.rebase(s.scan, epoch)
	}
	return false, t.truncate(ctx, s, epoch)
}

// progress identifies how far the open snapshot has come.
func (sc *scan) progress() (p struct {
	w uuid.UUID
	k int64
},
) {
	if sc.open != nil {
		p.w, p.k = sc.open.w, sc.open.k
	}
	return p
}

// rebase takes note of a newer valid snapshot.
func (s *shard) rebase(sc *scan, epoch broker.Epoch) {
	s.mu.Lock()
	defer s.mu.Unlock()
	last, ok := sc.valid()
	if !ok || s.epoch != epoch || last.w == s.base.w {
		return
	}
	// How many bytes lie above the other's X is not known: a share in proportion to offsets will do for a trigger.
	if passed := s.fold.next - s.base.x; passed > 0 {
		s.grown = int64(float64(s.grown) * float64(max(s.fold.next-last.x, 0)) / float64(passed))
	}
	s.base = last
}

// writeSnapshot writes the fold as it is now, in one attempt (rule 3). A part whose fate is not known ends the attempt:
// the next one has another w, and no part of this one can make it valid.
func (t *Table) writeSnapshot(ctx context.Context, s *shard, epoch broker.Epoch) error {
	s.mu.RLock()
	x, entries, current := s.fold.next, s.fold.entries(), s.epoch == epoch && !s.stale
	s.mu.RUnlock()
	if last, ok := s.scan.valid(); !current || ok && x < last.x {
		return errors.New("another replica is ahead")
	}
	parts := split(entries, t.cfg.PartBytes)
	p := part{epoch: epoch, w: uuid.New(), x: x, n: int64(len(parts))}
	for k, es := range parts {
		p.k, p.entries = int64(k), nil
		for _, e := range es {
			p.entries = appendEntry(p.entries, e)
		}
		acks := t.cfg.Log.Append(ctx, t.cfg.Snapshots, []broker.Message{{Partition: s.partition, Value: p.encode()}})
		if len(acks) != 1 || acks[0].Err != nil {
			return fmt.Errorf("writing part %d of %d: %w", k, len(parts), firstError(acks))
		}
	}
	t.metrics.snapshots.WithLabelValues("whole").Inc()
	t.log.Info("snapshot written", "partition", s.partition, "offset", x, "objects", len(entries), "parts", len(parts))
	return nil
}

func firstError(acks []broker.Ack) error {
	for _, a := range acks {
		if a.Err != nil {
			return a.Err
		}
	}
	return broker.ErrUnavailable
}

// truncate deletes what the last valid snapshot, read back whole by now, makes needless (rule 5).
func (t *Table) truncate(ctx context.Context, s *shard, epoch broker.Epoch) error {
	last, ok := s.scan.valid()
	if !ok {
		return nil
	}
	// The offsets are of this life of the topic: in another one they would delete what no snapshot has.
	if info, err := t.cfg.Log.Describe(ctx, t.cfg.Topic); err != nil || info.Epoch != epoch {
		return err
	}
	for _, cut := range []struct {
		topic string
		below int64
	}{{t.cfg.Topic, last.x}, {t.cfg.Snapshots, last.first}} {
		first, _, err := t.bounds(ctx, cut.topic, s.partition)
		if err == nil && first < cut.below {
			err = t.cfg.Log.Truncate(ctx, cut.topic, s.partition, cut.below)
		}
		if err != nil {
			return fmt.Errorf("truncating %s below %d: %w", cut.topic, cut.below, err)
		}
	}
	return nil
}

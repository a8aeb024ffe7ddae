package table

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/eventissuer/eventissuer/broker"
)

// Run creates the topics that are missing, loads the table and keeps it live until ctx ends; it then returns
// ctx.Err(). Another error says that the topics are not as a table needs them, which no retry mends.
func (t *Table) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var keeping sync.WaitGroup
	keeping.Go(func() { t.keep(ctx) })
	defer keeping.Wait()
	defer cancel(nil) // before the wait

	for failures := 0; ; failures++ {
		err := t.follow(ctx, &failures)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if wrong := (*topicError)(nil); errors.As(err, &wrong) {
			return err
		}
		t.log.Warn("table interrupted", "error", err)
		if err := t.pause(ctx, failures); err != nil {
			return err
		}
	}
}

// topicError tells that a topic exists but must not be used.
type topicError struct{ topic, problem string }

func (e *topicError) Error() string {
	return fmt.Sprintf("topic %s cannot hold a table: %s", e.topic, e.problem)
}

// follow loads what is stale and tails the log until something is stale again or the log fails.
func (t *Table) follow(ctx context.Context, failures *int) error {
	epoch, err := t.topics(ctx)
	if err != nil {
		return err
	}
	h := &tail{t: t}
	for _, s := range t.shards {
		if s.outdated(epoch) {
			l, err := t.load(ctx, s, epoch)
			if err != nil {
				return err
			}
			t.swap(s, l, epoch)
		}
		h.from = append(h.from, s.fold.next) // run alone changes it
	}
	if !t.isReady.Swap(true) {
		close(t.ready) // rule 8
	}
	*failures = 0
	ctx, h.stop = context.WithCancelCause(ctx)
	defer h.stop(nil)
	err = t.cfg.Log.Tail(ctx, t.cfg.Topic, epoch, h.from, h)
	if errors.Is(err, broker.ErrRecreated) || errors.Is(err, broker.ErrNoTopic) {
		for _, s := range t.shards {
			s.outdate() // rule 7: another topic
		}
	}
	if cause := context.Cause(ctx); cause != nil {
		err = cause
	}
	return fmt.Errorf("following %s: %w", t.cfg.Topic, err)
}

// topics makes sure of the two topics (rule 9) and returns the epoch of the log.
func (t *Table) topics(ctx context.Context) (broker.Epoch, error) {
	if _, err := t.topic(ctx, t.cfg.Snapshots); err != nil {
		return broker.Epoch{}, err
	}
	info, err := t.topic(ctx, t.cfg.Topic)
	return info.Epoch, err
}

func (t *Table) topic(ctx context.Context, name string) (broker.TopicInfo, error) {
	info, err := t.cfg.Log.Describe(ctx, name)
	if errors.Is(err, broker.ErrNoTopic) {
		err = t.cfg.Log.Create(ctx, name, broker.TopicConfig{
			Partitions:        t.cfg.Partitions,
			ReplicationFactor: t.cfg.ReplicationFactor,
			Retention:         -1,
			RetentionBytes:    -1,
		})
		if err != nil && !errors.Is(err, broker.ErrTopicExists) {
			return info, fmt.Errorf("creating %s: %w", name, err)
		}
		info, err = t.cfg.Log.Describe(ctx, name)
	}
	if err != nil {
		return info, fmt.Errorf("describing %s: %w", name, err)
	}
	switch {
	case info.Partitions != t.cfg.Partitions:
		// The partition follows from the id and the count: in a grown topic every object would be looked for elsewhere.
		return info, &topicError{name, fmt.Sprintf("it has %d partitions, and must have %d", info.Partitions, t.cfg.Partitions)}
	case info.Compaction:
		return info, &topicError{name, "it is compacted (cleanup.policy): rejected writes would erase accepted ones"}
	}
	if info.Retention >= 0 || info.RetentionBytes >= 0 {
		t.log.Warn("setting retention.ms and retention.bytes to -1", "topic", name)
		ever, all := time.Duration(-1), int64(-1)
		if err := t.cfg.Log.Change(ctx, name, broker.TopicChange{Retention: &ever, RetentionBytes: &all}); err != nil {
			return info, fmt.Errorf("keeping %s for ever: %w", name, err)
		}
	}
	return info, nil
}

// tail folds what the log delivers. Its methods are called one at a time.
type tail struct {
	t    *Table
	from []int64
	stop context.CancelCauseFunc
}

var errGap = errors.New("the log began above what was applied, or lost its end")

// Records implements broker.TailHandler.
func (h *tail) Records(b broker.Batch) {
	if int(b.Partition) < len(h.t.shards) {
		h.t.applyBatch(h.t.shards[b.Partition], b)
	}
}

// Gap implements broker.TailHandler: what lies between was folded into a snapshot, or is gone. The partition is loaded
// again; what the tail still delivers of it is passed over (rule 7).
func (h *tail) Gap(g broker.Gap) {
	h.t.log.Info("loading again", "partition", g.Partition, "from", g.From, "to", g.To, "reason", g.Reason)
	if int(g.Partition) < len(h.t.shards) {
		h.t.shards[g.Partition].outdate()
	}
	h.stop(errGap)
}

// Partitions implements broker.TailHandler.
func (h *tail) Partitions(n int32) {
	h.stop(&topicError{h.t.cfg.Topic, fmt.Sprintf("it has grown to %d partitions, and must have %d", n, h.t.cfg.Partitions)})
}

// Health implements broker.TailHandler.
func (h *tail) Health(problem error) {
	if problem != nil {
		h.t.log.Warn("the log cannot be reached: reads may lag, writes will be in doubt", "error", problem)
		return
	}
	h.t.log.Info("the log can be reached again")
}

// applyBatch folds what was read from the log, tells the watchers, and then those whose writes were among it.
func (t *Table) applyBatch(s *shard, b broker.Batch) {
	var changes []change
	var verdicts []settled
	s.telling.Lock()
	defer s.telling.Unlock()
	s.mu.Lock()
	before := s.fold.next
	if s.stale {
		s.mu.Unlock()
		return // behind a gap: the fold has not seen what comes before
	}
	for i := range b.Records {
		r := &b.Records[i]
		if r.Offset < s.fold.next {
			continue // not twice
		}
		s.grown += recordSize(r)
		w, k, ok := s.fold.apply(r)
		if !ok {
			t.metrics.foreign.Inc()
			continue
		}
		t.metrics.applied.Inc()
		if k != nil {
			changes = append(changes, change{w.id, k, w.body})
		} else {
			t.metrics.rejected.Inc()
		}
		if wait := s.waiting[w.u]; wait != nil {
			wait.read = true
			verdicts = append(verdicts, settled{wait, judge(&w, k)})
		}
	}
	s.fold.next = max(s.fold.next, b.Next)
	next := s.fold.next
	due := s.due(t.cfg.SnapshotBytes)
	s.wakeAwaiting()
	s.mu.Unlock()

	if next != before {
		t.tell(s.partition, next, changes, verdicts)
	}
	if due {
		t.wakeKeeper()
	}
}

type change struct {
	id   string
	kept *Kept  // nil: deleted, by a record that is not known
	body []byte // where it is at hand
}

func (c *change) version() Version {
	switch {
	case c.kept == nil:
		return Version{}
	case c.body == nil:
		return c.kept.Version()
	}
	return c.kept.with(c.body)
}

type settled struct {
	wait *waiter
	v    verdict
}

// tell has the watchers, then those who wait for their verdicts, know what came up to next.
func (t *Table) tell(partition int32, next int64, changes []change, verdicts []settled) {
	if len(t.watchers) > 0 {
		for _, c := range changes {
			v := c.version()
			for _, fn := range t.watchers {
				fn(c.id, v, v.Deleted())
			}
		}
	}
	for _, fn := range t.settled {
		fn(partition, next)
	}
	for _, v := range verdicts {
		v.wait.settle(v.v)
	}
}

// outdate has the partition loaded again. Reads are served from what it has until then (rule 7).
func (s *shard) outdate() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stale = true
	s.wakeAwaiting()
}

// outdated reports whether the partition is to be loaded: it was told so, or the topic is another.
func (s *shard) outdated(epoch broker.Epoch) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stale = s.stale || s.epoch != epoch
	return s.stale
}

// swap puts what was loaded in the place of what was there, and tells the watchers what differs.
func (t *Table) swap(s *shard, l loaded, epoch broker.Epoch) {
	s.telling.Lock()
	defer s.telling.Unlock()
	s.mu.Lock()
	old := s.fold.cur
	s.fold, s.base, s.grown, s.epoch, s.stale = l.fold, l.base, l.grown, epoch, false
	s.found = l.scan
	due := s.due(t.cfg.SnapshotBytes)
	var verdicts []settled
	for u, wait := range s.waiting {
		if v, ok := l.verdicts[u]; ok {
			wait.read = true
			verdicts = append(verdicts, settled{wait, v})
		} else if wait.acked < s.fold.next && !wait.read {
			wait.read = true
			verdicts = append(verdicts, settled{wait, folded(s.fold.cur[wait.id], u)})
		}
	}
	s.wakeAwaiting()
	changes := differences(old, s.fold.cur)
	next := s.fold.next
	s.mu.Unlock()

	t.tell(s.partition, next, changes, verdicts)
	if due || l.base.w != uuid.Nil {
		t.wakeKeeper() // a snapshot whose writer died before it truncated is finished by somebody else
	}
}

// differences lists what turns one state into another, in the order of the log.
func differences(from, to map[string]*Kept) []change {
	var changes []change
	for id, k := range to {
		old := from[id]
		was := old != nil && !old.deleted()
		if (old == nil || old.u != k.u) && (was || !k.deleted()) {
			changes = append(changes, change{id: id, kept: k})
		}
	}
	for id, k := range from {
		if to[id] == nil && !k.deleted() {
			changes = append(changes, change{id: id})
		}
	}
	slices.SortFunc(changes, func(a, b change) int { return cmp.Compare(a.offset(), b.offset()) })
	return changes
}

func (c *change) offset() int64 {
	if c.kept == nil {
		return 0
	}
	return c.kept.offset()
}

func jitter(d time.Duration) time.Duration {
	return d/2 + rand.N(d/2+1)
}

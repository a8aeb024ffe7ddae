package push

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/eventissuer/eventissuer/broker"
	"github.com/eventissuer/eventissuer/internal/clock"
)

// loadBytes is about how much one fetch of the positions brings.
const loadBytes = 1 << 20

// load reads all that was said of the partition's lanes. It reads to where the log ended with the very fetch that got there:
// of an end that was noted earlier, compaction may have taken what stood before it while its successor lies behind it.
func (p *partition) load(ctx context.Context) (*[chunks]testimony, error) {
	e := p.engine
	topic, at := e.cfg.Positions, positionsOf(p.epoch, p.id)
	said := map[statementKey]*statement{}
	var order []statementKey
	var from int64
	for {
		b, err := e.deps.Log.Read(ctx, topic, at, from, loadBytes)
		if outside := (*broker.RangeError)(nil); errors.As(err, &outside) && from < outside.Bounds.First {
			from = outside.Bounds.First
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", topic, err)
		}
		for _, r := range b.Records {
			key, ok := decodeStatementKey(r.Key)
			if !ok || key.epoch != p.epoch || key.partition != p.id {
				continue
			}
			if r.Value == nil {
				delete(said, key)
				continue
			}
			s, err := decodeStatement(r.Value)
			if err != nil {
				return nil, fmt.Errorf("read %s at offset %d: %w: is this server older than the one that wrote it?", topic, r.Offset, err)
			}
			if said[key] == nil {
				order = append(order, key)
			}
			said[key] = s
		}
		from = b.Next
		if from >= b.End {
			break
		}
	}
	all := &[chunks]testimony{}
	for _, key := range order {
		if s := said[key]; s != nil {
			all[key.chunk].add(key, s)
			delete(said, key)
		}
	}
	return all, nil
}

// positionPartitions is the number of partitions of the topic of positions. It is part of the format.
const positionPartitions = 16

// positionsOf is where the statements of a partition are.
func positionsOf(epoch broker.Epoch, partition int32) int32 {
	h := uint32(2166136261) // FNV-1a
	for _, b := range epoch {
		h = (h ^ uint32(b)) * 16777619
	}
	return int32((h + uint32(partition)) % positionPartitions)
}

// prepare makes the topic of positions unless it is there.
func (e *Engine) prepare(ctx context.Context) error {
	for {
		info, err := e.deps.Log.Describe(ctx, e.cfg.Positions)
		if err == nil && info.Partitions != positionPartitions {
			return fmt.Errorf("the topic %s has %d partitions: expected %d, which is fixed for ever", e.cfg.Positions, info.Partitions, positionPartitions)
		}
		if errors.Is(err, broker.ErrNoTopic) {
			err = e.deps.Log.Create(ctx, e.cfg.Positions, broker.TopicConfig{
				Partitions: positionPartitions, ReplicationFactor: e.cfg.ReplicationFactor, Compaction: true, Retention: -1, RetentionBytes: -1,
			})
			if errors.Is(err, broker.ErrTopicExists) {
				continue
			}
		}
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		e.log.Warn("the topic of push positions cannot be prepared; trying again", "topic", e.cfg.Positions, "error", err)
		clock.Pause(ctx, time.Second)
	}
}

// awaitCatalog waits until the catalog has told of all lanes that a statement may speak of.
func (e *Engine) awaitCatalog(ctx context.Context, cat int64) error {
	stop := context.AfterFunc(ctx, e.progress.Broadcast)
	defer stop()
	e.progress.L.Lock()
	defer e.progress.L.Unlock()
	for e.applied.Load() < cat {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		e.progress.Wait()
	}
	return nil
}

// found is the state in which the owners before have left a route's lane.
func (p *partition) found(r *route) laneState {
	start := r.start(p)
	if p.said == nil {
		return laneState{next: start} // made since the partition was loaded
	}
	state, _ := p.said[r.chunk].state(r.life, r.born, start)
	if p.recut {
		state = state.cutAt(p.end)
	}
	return state
}

// settle places all lanes as the statements say, and the head where most of them are. Both mu are held.
func (p *partition) settle(said *[chunks]testimony) (cut []broker.Gap) {
	p.said = said
	highest := int64(0)
	for c := range said {
		p.cut = max(p.cut, said[c].cut)
		if head := said[c].head(); head >= 0 {
			highest = max(highest, head)
		}
		for _, s := range said[c].statements {
			for _, l := range s.lanes {
				highest = max(highest, l.next)
			}
		}
	}
	for c := range said { // a lower cut is of a log that is no more
		if said[c].cut < p.cut {
			said[c] = testimony{keys: said[c].keys, cut: p.cut, statements: cutAll(said[c].statements, p.end), cat: said[c].cat}
		}
	}
	if highest > p.end { // what was said of is gone
		p.recut = true
		p.cut++
		cut = append(cut, broker.Gap{Partition: p.id, From: highest, To: p.end, Reason: broker.GapTruncated})
	}
	p.head = -1
	for c := range said {
		ch := &p.chunks[c]
		ch.tenure, ch.old = newTenure(), said[c].keys
		head := said[c].head()
		if p.recut {
			head = min(head, p.end)
		}
		ch.floor, ch.stated = max(head, 0), max(head, 0)
		if head >= 0 && (p.head < 0 || head < p.head) {
			p.head = head
		}
	}
	if p.head < 0 {
		// Nothing was said yet: lanes are at their starts. Those that begin far back are left to scans.
		p.head = p.end
		for _, r := range p.stream.routes {
			if start := r.start(p); start < p.head && start >= p.end-headBack {
				p.head = start
			}
		}
	}
	for _, r := range p.stream.routes {
		p.admit(r)
	}
	p.said = nil
	return cut
}

// headBack is how far back the head begins at most where no owner before has said anything.
const headBack = 50_000

// cutAll gives statements of a log that has lost its end since.
func cutAll(all []*statement, end int64) []*statement {
	out := make([]*statement, len(all))
	for i, s := range all {
		c := *s
		c.head = min(c.head, end)
		c.lanes = make([]listed, len(s.lanes))
		for j, l := range s.lanes {
			c.lanes[j] = listed{l.incarnation, l.laneState.cutAt(end)}
		}
		out[i] = &c
	}
	return out
}

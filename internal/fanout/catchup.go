package fanout

import (
	"context"
	"errors"
	"fmt"
	"sort"

	"github.com/eventissuer/eventissuer/broker"
)

// read takes what matches out of the one block that holds the reader's position in p.
func (r *Reader) read(ctx context.Context, dst []*Entry, p int32, maxBytes int) ([]*Entry, error) {
	from := r.vec[p]
	b, err := r.hub.blocks.get(ctx, r.ep, p, from)
	if err != nil {
		if re := (*broker.RangeError)(nil); errors.As(err, &re) {
			r.lost(re)
			return dst, nil
		}
		return dst, fmt.Errorf("read %s from offset %d of partition %d: %w", r.hub.stream.Topic, from, p, err)
	}
	if b.next <= from {
		return dst, nothingAt(from, p)
	}
	most := takeEntries
	if r.view.only != everyPartition {
		most = aheadEntries
		r.hub.blocks.ahead(p, b.next)
	}
	first, size := len(dst), 0
	at := sort.Search(len(b.entries), func(i int) bool { return b.entries[i].Offset >= from })
	for _, e := range b.entries[at:] {
		if r.view.picture && (e.tombstone || e.Skipped == "" && !r.view.wants(&e.Event)) {
			r.mayMiss(e)
			continue
		}
		if e.Skipped == "" && !r.view.wants(&e.Event) {
			continue
		}
		if n := len(dst) - first; n > 0 && (size+len(e.frame) > maxBytes || n >= most) {
			r.skip.partition, r.skip.next = p, e.Offset
			return dst, nil
		}
		size += len(e.frame)
		dst = append(dst, e)
	}
	r.skip.partition, r.skip.next = p, b.next
	if r.view.only != everyPartition {
		r.hub.blocks.pass(b)
	}
	return dst, nil
}

// nothingAt tells that a read gave nothing where the log has something.
func nothingAt(offset int64, partition int32) error {
	return fmt.Errorf("%w: nothing to read at offset %d of partition %d though the log goes on", broker.ErrUnavailable, offset, partition)
}

// lost tells a gap and goes on behind it.
func (r *Reader) lost(re *broker.RangeError) {
	g := re.Gap()
	r.tell(g)
	r.unsure = r.whole
	r.vec = widened(r.vec, int(g.Partition)+1)
	r.vec[g.Partition] = g.To
}

// probe asks the leaders where the log ends, for a position beyond what this replica knows of. A position that another
// replica gave out a moment ago lies below the end; one that lies above it points at what the log lost. What was asked
// before the reader came does not count, so each reader asks for itself; where ctx ends first, the next call waits on.
func (r *Reader) probe(ctx context.Context) error {
	h := r.hub
	loads := h.blocks.loads
	l := r.probing
	if l == nil {
		l = &loading{over: func() {}}
		l.work = func(ctx context.Context) { h.findEnds(ctx, l) }
		loads.start(l)
		r.probing = l
	}
	select {
	case <-l.done:
		r.probing = nil
	case <-ctx.Done():
		return ctx.Err()
	}
	if l.err != nil {
		return l.err
	}
	h.mu.RLock()
	moved := h.gen != l.gen || h.gen != r.gen // the ends may be those of before a cut
	h.mu.RUnlock()
	if moved {
		return nil
	}
	for p := range r.vec {
		if !r.view.sees(int32(p)) {
			continue
		}
		var end int64
		if p < len(l.bounds) {
			end = l.bounds[p].Next
		}
		if r.vec[p] > end {
			r.lost(&broker.RangeError{Partition: int32(p), Offset: r.vec[p], Bounds: broker.Bounds{First: 0, Next: end}})
		}
	}
	if len(r.vec) > len(l.bounds) && r.view.only == everyPartition {
		r.vec = r.vec[:len(l.bounds)]
	}
	return nil
}

// findEnds asks for the ends, and notes them where nothing was cut off meanwhile.
func (h *Hub) findEnds(ctx context.Context, l *loading) {
	h.mu.RLock()
	l.gen = h.gen
	h.mu.RUnlock()
	if l.bounds, l.err = h.log.Bounds(ctx, h.stream.Topic); l.err != nil {
		l.err = fmt.Errorf("find the ends of %s: %w", h.stream.Topic, l.err)
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.gen != l.gen {
		return
	}
	for p, b := range l.bounds {
		if p < len(h.ends) {
			h.ends[p] = max(h.ends[p], b.Next)
		} else {
			h.ends = append(h.ends, b.Next)
		}
	}
}

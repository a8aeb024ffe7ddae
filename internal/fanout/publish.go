package fanout

import (
	"cmp"
	"slices"
	"time"

	"github.com/eventissuer/eventissuer/broker"
	"github.com/eventissuer/eventissuer/internal/cursor"
	"github.com/eventissuer/eventissuer/internal/event"
)

// follower is the hub as its tail sees it.
type follower struct{ h *Hub }

func (f follower) Records(b broker.Batch) { f.h.records(b) }
func (f follower) Gap(g broker.Gap)       { f.h.gap(g) }
func (f follower) Partitions(n int32)     { f.h.partitions(n) }
func (f follower) Health(problem error)   { f.h.health(problem) }

// records appends a batch and wakes the readers that it concerns.
func (h *Hub) records(b broker.Batch) {
	if int(b.Partition) >= len(h.tip.vec) {
		h.partitions(b.Partition + 1)
	}
	for rest := b.Records; len(rest) > 0; {
		n := min(publishChunk, len(rest))
		h.publish(rest[:n], b.End)
		rest = rest[n:]
	}
	p := int(b.Partition)
	h.mu.Lock()
	if p < len(h.tip.vec) && b.Next > h.tip.vec[p] { // holes at the batch's end
		vec := slices.Clone(h.tip.vec)
		vec[p] = b.Next
		h.setTip(vec)
	}
	h.mu.Unlock()
}

func (h *Hub) publish(records []broker.Record, end int64) {
	// Only this goroutine moves the tip, so it may be read without the lock.
	vec, epoch := h.tip.vec, cursor.EpochOf(h.epoch)
	partitions := len(vec)
	keeps := h.keeps.Load()
	var slab []int64
	if !keeps {
		slab = make([]int64, 0, len(records)*partitions)
	}
	var text [512]byte
	h.entries = h.entries[:0]
	for i := range records {
		r := &records[i]
		if r.Offset < vec[r.Partition] {
			continue // told twice by a restarted tail
		}
		if keeps { // an entry may stay for long, and is not to keep its neighbours' vectors
			slab = make([]int64, 0, partitions)
		}
		slab = append(slab, vec...)
		vec = slab[len(slab)-partitions : len(slab) : len(slab)]
		vec[r.Partition] = r.Offset + 1
		e := newEntry(r, cursor.AppendOne(text[:0], cursor.StreamCursor{Tag: h.tag, Epoch: epoch, Next: vec}), h.wrap)
		e.vec, e.seq = vec, h.ring.next+uint64(len(h.entries))
		h.entries = append(h.entries, e)
	}
	if len(h.entries) == 0 {
		return
	}
	h.viewsMu.Lock()
	h.dropped, h.dropsAll = h.dropped[:0], true
	h.matchAll()
	h.mu.Lock()
	for i, e := range h.entries {
		h.budget.add(h.ring.append(e, h.befores[i]))
		if e.Skipped != "" {
			h.m.skipped.WithLabelValues(h.stream.Name, e.cause()).Inc() // here alone: a catch-up reads the same records again
		}
	}
	h.budget.add(h.ring.leave(h.dropped))
	if !h.dropsAll {
		h.exactFrom = h.ring.next
	}
	h.evict()
	h.setTip(vec)
	last := h.entries[len(h.entries)-1]
	if p := int(last.Partition); p < len(h.ends) {
		h.ends[p] = max(h.ends[p], end, last.Offset+1)
	}
	h.list()
	for _, m := range h.matched {
		m.view.release(h.wake)
	}
	h.mu.Unlock()
	h.viewsMu.Unlock()
	h.m.records.Add(float64(len(h.entries)))
	clear(h.entries)
	clear(h.befores)
	clear(h.dropped)
	h.flushWakes()
}

// matchAll fills matched with what each entry concerns. The caller holds viewsMu.
func (h *Hub) matchAll() {
	h.matched, h.befores = h.matched[:0], h.befores[:0]
	now := h.clock.Earliest()
	for _, e := range h.entries {
		h.matched = append(h.matched, match{h.all, e.seq})
		switch {
		case e.Skipped == "":
			h.matchOne(&e.Event, e, false)
		default: // what it was cannot be told, so everybody is
			for _, v := range h.views {
				if v.sees(e.Partition) && !(v.picture && e.tombstone) {
					h.concerns(v, e)
				}
			}
		}
		h.befores = append(h.befores, h.change(e, now))
	}
	if h.state != nil {
		h.state.tell()
	}
}

// matchOne notes which views e concerns for an event: its own, or for readers with a picture one that it takes away.
func (h *Hub) matchOne(ev *event.Event, e *Entry, pictures bool) {
	h.scratch = h.index.Match(h.scratch[:0], ev)
	for _, v := range h.scratch {
		if v.sees(e.Partition) && (v.picture || !pictures) {
			h.concerns(v, e)
		}
	}
}

// concerns notes that an entry concerns a view.
func (h *Hub) concerns(v *view, e *Entry) {
	if v.at <= e.seq {
		v.at = e.seq + 1
		h.matched = append(h.matched, match{v, e.seq})
	}
}

// change has the state take an entry, and notes whom that concerns. It returns what the entry took the place of, or nil.
func (h *Hub) change(e *Entry, now time.Time) *Entry {
	if h.state == nil {
		return nil
	}
	was := h.state.dropped
	before, dropped, all := h.state.apply(e, h.bounds, now)
	if n := h.state.dropped - was; n > 0 {
		h.drops.Store(h.state.dropped)
		h.m.dropped.WithLabelValues(h.stream.Name).Add(float64(n))
	}
	for _, gone := range dropped {
		h.dropped = append(h.dropped, left{e.seq, gone})
	}
	if !all {
		h.dropsAll = false
	}
	if h.pictures == 0 {
		return before
	}
	if before != nil {
		h.matchOne(&before.Event, e, true)
	}
	for _, gone := range dropped {
		h.matchOne(&gone.Event, e, true)
	}
	if !all {
		for _, v := range h.views {
			if v.picture {
				h.concerns(v, e)
			}
		}
	}
	return before
}

// list enters the matches in the views' lists, and drops lists where they take too much. The caller holds both locks.
func (h *Hub) list() {
	grown := int64(0)
	for _, m := range h.matched {
		before := m.view.listBytes()
		m.view.add(m.seq, h.ring.first)
		grown += m.view.listBytes() - before
	}
	h.lists += grown
	if most := h.limit / listShare; h.lists > most {
		grown -= h.unlist(h.lists - most/2)
	}
	h.budget.add(grown)
}

// listShare is the part of a ring's bound that the lists of its views may take, as a divisor. A list saves the readers
// of one filter from looking at each entry; clients decide how many filters there are.
const listShare = 4

// unlist drops lists that take bytes in all or a little more, those first that serve the fewest readers for their size.
// It returns what is freed. The caller holds both locks.
func (h *Hub) unlist(bytes int64) (freed int64) {
	var all []*view
	for _, v := range h.views {
		if v.listBytes() > 0 {
			all = append(all, v)
		}
	}
	weight := func(v *view) int64 { return v.listBytes() / int64(max(1, v.readers)) }
	slices.SortFunc(all, func(a, b *view) int { return cmp.Compare(weight(b), weight(a)) })
	for _, v := range all {
		if freed >= bytes {
			break
		}
		freed += v.listBytes()
		v.unlist()
		h.m.unlisted.Inc()
	}
	h.lists -= freed
	return freed
}

// evict keeps the ring within its own bound and its share of the total. The caller holds mu.
func (h *Hub) evict() {
	for h.ring.next-h.ring.first > 1 && (h.ring.bytes > h.limit || h.budget.over(h.ring.bytes)) {
		h.budget.add(-h.ring.evict())
	}
}

// relieve gives up about bytes of the ring for those of others, and returns how many it has given up.
func (h *Hub) relieve(bytes int64) (freed int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for freed < bytes && h.ring.next-h.ring.first > 1 {
		freed += h.ring.evict()
	}
	h.budget.add(-freed)
	return freed
}

func (h *Hub) ringBytes() int64 {
	h.mu.RLock()
	defer h.mu.RUnlock()
	return h.ring.bytes
}

func (h *Hub) flushWakes() {
	h.deliver(h.wake)
	for s, readers := range h.wake {
		clear(readers)
		h.wake[s] = readers[:0]
	}
}

// gap takes a gap in the log. The ring then no longer joins what was to what follows, so it is emptied and
// every reader joins anew: from its own position, by way of the log, where it finds the gap itself; only a lost end
// must be remembered, as a position beyond it can not be told from a later one.
func (h *Hub) gap(g broker.Gap) {
	h.logger.Warn("gap in the log", "partition", g.Partition, "from", g.From, "to", g.To, "reason", g.Reason)
	h.blocks.drop() // before any reader can join anew
	h.loseState()
	h.mu.Lock()
	vec := slices.Clone(h.tip.vec)
	if int(g.Partition) < len(vec) {
		vec[g.Partition] = g.To
	}
	h.budget.add(-h.ring.clear(vec))
	h.setTip(vec)
	h.gen++
	if g.Reason == broker.GapTruncated {
		h.cuts = append(h.cuts, cut{gen: h.gen, partition: g.Partition, to: g.To, reason: g.Reason})
		h.ends[g.Partition] = g.To
	}
	h.mu.Unlock()
	h.signal()
}

func (h *Hub) partitions(n int32) {
	h.mu.Lock()
	vec := slices.Clone(h.tip.vec)
	vec, h.ends = widened(vec, int(n)), widened(h.ends, int(n))
	h.setTip(vec)
	h.mu.Unlock()
}

func (h *Hub) health(problem error) {
	h.mu.Lock()
	changed := (problem == nil) != (h.unhealthy == nil)
	h.unhealthy = problem
	h.mu.Unlock()
	if changed {
		if problem != nil {
			h.logger.Warn("the log cannot be reached", "error", problem)
		} else {
			h.logger.Info("the log can be reached again")
		}
		h.signal()
	}
}

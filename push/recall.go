package push

import (
	"container/heap"
	"context"
	"errors"
	"fmt"

	"github.com/eventissuer/eventissuer/broker"
	"github.com/eventissuer/eventissuer/internal/clock"
	"github.com/eventissuer/eventissuer/internal/fanout"
)

// Events that a lane needs and that are not in memory, since their endpoint did not take them, or an owner before left them,
// are read again: by offset, one sweep over the partition after the other, so that what many lanes need is read once.

// again is what is to be read again. It is guarded by the partition's mu.
type again struct {
	sweep recalls // at or above at
	next  recalls // below it
	at    int64
}

// recalls are what is to be read again, as a heap by offset.
type recalls []recall

type recall struct {
	offset int64
	lane   *lane
}

// Len, Less, Swap, Push and Pop implement heap.Interface.
func (r recalls) Len() int           { return len(r) }
func (r recalls) Less(i, j int) bool { return r[i].offset < r[j].offset }
func (r recalls) Swap(i, j int)      { r[i], r[j] = r[j], r[i] }
func (r *recalls) Push(x any)        { *r = append(*r, x.(recall)) }
func (r *recalls) Pop() any {
	last := len(*r) - 1
	x := (*r)[last]
	(*r)[last] = recall{}
	*r = (*r)[:last]
	return x
}

// recall has an item's event read again. mu is held.
func (p *partition) recall(l *lane, i *item) {
	if i.recalled {
		return
	}
	i.recalled = true
	p.again.ask(recall{i.offset, l})
	nudge(p.recalls)
}

func (a *again) ask(r recall) {
	if r.offset >= a.at {
		heap.Push(&a.sweep, r)
	} else {
		heap.Push(&a.next, r)
	}
}

// begin tells from where to read next, and whether much is wanted there. What is asked for below it from now on is for the
// next sweep.
func (a *again) begin() (from int64, much, ok bool) {
	if len(a.sweep) == 0 {
		a.sweep, a.next, a.at = a.next, a.sweep[:0], 0
	}
	if len(a.sweep) == 0 {
		return 0, false, false
	}
	a.at = a.sweep[0].offset
	return a.at, a.sweep.nextTo(a.at + recallNear), true
}

// pop takes one that lies at an offset, or below.
func (a *again) pop(offset int64) (r recall, ok bool) {
	if len(a.sweep) == 0 || a.sweep[0].offset > offset {
		return r, false
	}
	return heap.Pop(&a.sweep).(recall), true
}

// readAgain reads what is to be read again, until ctx ends.
func (p *partition) readAgain(ctx context.Context) error {
	for {
		p.mu.Lock()
		from, much, found := p.again.begin()
		p.mu.Unlock()
		most := 1
		if much {
			most = recallBytes
		}
		if !found {
			select {
			case <-p.recalls:
				continue
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		entries, at, err := p.readFrom(ctx, from, most)
		if err != nil {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			p.log.Warn("events that are not delivered yet cannot be read again; trying again", "offset", from, "error", err)
			clock.Pause(ctx, ownAgain)
			continue
		}
		p.engine.m.recalled.Add(float64(len(entries)))
		p.mu.Lock()
		for _, e := range entries {
			p.arrived(e.Offset, e)
		}
		p.arrived(at-1, nil) // those that the log no longer has
		p.again.at = at
		p.mu.Unlock()
		p.rouse()
	}
}

// Events that lie close to each other are read together.
const (
	recallBytes = 64 << 10
	recallNear  = 256 // offsets
)

// nextTo reports whether the second lies below an offset, too.
func (r recalls) nextTo(offset int64) bool {
	return len(r) > 1 && r[1].offset < offset || len(r) > 2 && r[2].offset < offset
}

// arrived takes the event at an offset, and that there is none where one was asked for below. mu is held.
func (p *partition) arrived(offset int64, e *fanout.Entry) {
	for {
		r, ok := p.again.pop(offset)
		if !ok {
			return
		}
		l := r.lane
		i := l.item(r.offset)
		if l.dropped || i == nil || !i.recalled {
			continue
		}
		i.recalled = false
		switch {
		case r.offset != offset || e == nil || e.Skipped != "":
			if i.phase == phaseWaiting || i.phase == phaseParked {
				p.lost(l, i)
			}
			if !l.dropped {
				l.point.offer(l) // its key may go on
			}
			continue
		case i.wanted && i.entry == nil:
			i.wanted = false
			l.hold(i, e.Clone())
		}
		if i.keyless {
			i.key, i.keyless = e.Key, false
			l.unkeyed--
		}
		l.point.offer(l)
	}
}

// ErrGone tells that an event is no longer in the log.
var ErrGone = errors.New("the event is no longer in the log")

// fetch reads one event again. It is ErrGone where retention, compaction or a lost end has taken it.
func (p *partition) fetch(ctx context.Context, offset int64) (*fanout.Entry, error) {
	entries, _, err := p.readFrom(ctx, offset, 1)
	switch {
	case err != nil:
		return nil, err
	case len(entries) == 0 || entries[0].Offset != offset || entries[0].Skipped != "":
		return nil, ErrGone
	}
	return entries[0].Clone(), nil
}

// readFrom reads events from an offset on, and tells up to where it came, which is beyond the offset.
func (p *partition) readFrom(ctx context.Context, offset int64, most int) (entries []*fanout.Entry, at int64, err error) {
	r := p.reader(offset, func() {})
	defer r.Close()
	for ctx.Err() == nil {
		var status fanout.Status
		entries, status, err = p.read(ctx, r, entries[:0], most)
		vec, _ := r.Position()
		switch at = vec[p.id]; {
		case len(entries) > 0:
			return entries, at, nil
		case err != nil:
			return nil, 0, err
		case at != offset: // a gap, or a hole at the log's end
			for _, g := range r.Gaps() {
				if g.Reason != broker.GapRetention {
					return nil, 0, fmt.Errorf("%w: the log was changed under it", broker.ErrUnavailable)
				}
			}
			return nil, at, nil
		case status == fanout.Ended:
			return nil, 0, fmt.Errorf("read stream %s: %w", p.stream.Name, p.hub.Err())
		case status == fanout.Idle:
			return nil, 0, fmt.Errorf("%w: offset %d is not there yet", broker.ErrUnavailable, offset)
		}
	}
	return nil, 0, ctx.Err()
}

// lost has an event count as done that the log has lost, and tells it. mu is held.
func (p *partition) lost(l *lane, i *item) {
	p.engine.notice(l, broker.Gap{Partition: p.id, From: i.offset, To: i.offset + 1, Reason: broker.GapRetention})
	if i.phase == phaseWaiting {
		l.idle--
	}
	l.remove(i)
	l.moved()
}

package push

import (
	"context"
	"errors"
	"fmt"

	"github.com/eventissuer/eventissuer/broker"
	"github.com/eventissuer/eventissuer/internal/fanout"
)

// readKeys has the keys of a lane's events read, of which only the offsets are known after a load. mu is held.
func (p *partition) readKeys(l *lane) {
	p.blind = append(p.blind, l)
	nudge(p.keyless)
}

// readAllKeys reads keys until ctx ends.
func (p *partition) readAllKeys(ctx context.Context) error {
	for {
		p.mu.Lock()
		var l *lane
		var offsets []int64
		if len(p.blind) > 0 {
			l, p.blind = p.blind[0], p.blind[1:]
			for _, i := range l.items {
				if i.keyless {
					offsets = append(offsets, i.offset)
				}
			}
		}
		p.mu.Unlock()
		if l == nil {
			select {
			case <-p.keyless:
				continue
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		for _, offset := range offsets {
			entry, err := p.fetch(ctx, offset)
			if err != nil && !errors.Is(err, ErrGone) {
				if ctx.Err() != nil {
					return ctx.Err()
				}
				p.log.Warn("the key of an event that is not delivered yet cannot be read; trying again", "offset", offset, "error", err)
				pause(ctx, ownAgain)
				p.mu.Lock()
				p.readKeys(l)
				p.mu.Unlock()
				break
			}
			p.mu.Lock()
			if i := l.item(offset); i != nil && i.keyless {
				if entry == nil {
					p.lost(l, i)
				} else {
					i.key, i.keyless = entry.Key, false
					l.unkeyed--
				}
			}
			p.mu.Unlock()
		}
		p.mu.Lock()
		if l.unkeyed == 0 && !l.dropped {
			l.point.offer(l)
		}
		p.mu.Unlock()
		p.rouse()
	}
}

// ErrGone tells that an event is no longer in the log.
var ErrGone = errors.New("the event is no longer in the log")

// fetch reads one event again. It is ErrGone where retention, compaction or a lost end has taken it.
func (p *partition) fetch(ctx context.Context, offset int64) (*fanout.Entry, error) {
	r := p.reader(offset, func() {})
	defer r.Close()
	var entries []*fanout.Entry
	for ctx.Err() == nil {
		var status fanout.Status
		var err error
		entries, status, err = p.read(ctx, r, entries[:0], 1)
		if len(entries) > 0 {
			if e := entries[0]; e.Offset == offset && e.Skipped == "" {
				return e.Clone(), nil
			}
			return nil, ErrGone
		}
		vec, _ := r.Position()
		switch {
		case err != nil:
			return nil, err
		case vec[p.id] != offset: // a gap, or a hole at the log's end
			for _, g := range r.Gaps() {
				if g.Reason != broker.GapRetention {
					return nil, fmt.Errorf("%w: the log was changed under it", broker.ErrUnavailable)
				}
			}
			return nil, ErrGone
		case status == fanout.Ended:
			return nil, fmt.Errorf("read stream %s: %w", p.stream.Name, p.hub.Err())
		case status == fanout.Idle:
			return nil, fmt.Errorf("%w: offset %d is not there yet", broker.ErrUnavailable, offset)
		}
	}
	return nil, ctx.Err()
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

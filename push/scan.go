package push

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/eventissuer/eventissuer/broker"
	"github.com/eventissuer/eventissuer/internal/clock"
	"github.com/eventissuer/eventissuer/internal/fanout"
	"github.com/eventissuer/eventissuer/internal/filter"
)

// Lanes that are behind share scans of the partition: a scan begins where the lane is that is furthest behind, or every other
// time the one that has waited longest, takes along every other that waits where it comes by, and leaves each where it has no
// more room. So ten thousand lanes behind cost about what the one costs that is furthest behind.

// sliceReads bounds a scan while others wait elsewhere, in reads.
const sliceReads = 64

// scanBytes is what a scan reads at first, and more as it goes on: most lanes want few events.
const scanBytes = 32 << 10

// scan is the reading that lanes behind the head share. All is guarded by the partition's mu.
type scan struct {
	at      int64   // all below is entered into the lanes that are with it
	queue   []*lane // that wait, by when they came
	sorted  []*lane // the same, by next
	members map[*lane]*filter.Filter
	index   filter.Index[*lane]
}

func byNext(l *lane, next int64) int { return int(l.next - next) }

// seek has a lane wait for a scan, if it wants one. mu is held.
func (p *partition) seek(l *lane) {
	if !l.wants() {
		return
	}
	if l.next >= p.head {
		l.place = atHead // nothing was missed
		return
	}
	l.place = waiting
	at, _ := slices.BinarySearchFunc(p.scan.sorted, l.next, byNext)
	p.scan.sorted = slices.Insert(p.scan.sorted, at, l)
	p.scan.queue = append(p.scan.queue, l)
	nudge(p.hungry)
}

// leaveScan takes a lane out of the scan, or from among those that wait for one. mu is held.
func (p *partition) leaveScan(l *lane) {
	switch l.place {
	case waiting:
		p.unwait(l)
	case scanning:
		l.next = l.position()
		p.scan.index.Remove(p.scan.members[l], l)
		delete(p.scan.members, l)
	default:
		return
	}
	l.place = held
}

// unwait takes a lane out of the sorted list. mu is held.
func (p *partition) unwait(l *lane) {
	at, _ := slices.BinarySearchFunc(p.scan.sorted, l.next, byNext)
	for ; at < len(p.scan.sorted); at++ {
		if p.scan.sorted[at] == l {
			p.scan.sorted = slices.Delete(p.scan.sorted, at, at+1)
			return
		}
	}
}

// gatherTime is how long a scan waits for other lanes that will soon want one, too.
const gatherTime = 10 * time.Millisecond

// othersBehind reports whether lanes are behind that do not want a scan yet, since they have events to send. mu is held.
func (p *partition) othersBehind() bool {
	for c := range p.lanes {
		for _, l := range p.lanes[c] {
			if l.place == held && l.idle+l.flying > 0 && l.point.open() {
				return true
			}
		}
	}
	return false
}

// gather waits until no lane is to be expected to want a scan soon that does not, or for a while.
func (p *partition) gather(ctx context.Context) {
	for range 5 {
		p.mu.Lock()
		others := len(p.scan.sorted) > 0 && p.othersBehind()
		p.mu.Unlock()
		if !others {
			return
		}
		clock.Pause(ctx, gatherTime/5)
	}
}

// scanAll scans for lanes that wait, until ctx ends.
func (p *partition) scanAll(ctx context.Context) error {
	for longest := false; ; longest = !longest {
		p.gather(ctx)
		p.mu.Lock()
		var from int64
		found := false
		for len(p.scan.queue) > 0 && !found {
			l := p.scan.queue[0]
			if found = !l.dropped && l.place == waiting; found {
				from = l.next
				if !longest {
					from = p.scan.sorted[0].next
				}
			} else {
				p.scan.queue = p.scan.queue[1:]
			}
		}
		p.scan.at = from
		p.mu.Unlock()
		if !found {
			select {
			case <-p.hungry:
				continue
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		if err := p.scanFrom(ctx, from); err != nil {
			return err
		}
	}
}

// scanFrom reads from an offset on, until it has come to the head, or no lane goes along any more, or others have waited
// long enough.
func (p *partition) scanFrom(ctx context.Context, from int64) error {
	wake := make(chan struct{}, 1)
	r := p.reader(from, func() { nudge(wake) })
	defer r.Close()
	p.engine.m.scansBegun.Inc()
	var entries []*fanout.Entry
	for reads := 1; ; reads++ {
		var err error
		var status fanout.Status
		entries, status, err = p.read(ctx, r, entries[:0], min(scanBytes<<min(reads-1, 8), readBytes))
		if status == fanout.Ended {
			return fmt.Errorf("scan stream %s: %w", p.stream.Name, p.hub.Err())
		}
		gaps := r.Gaps()
		if err := overturned(gaps); err != nil {
			return err
		}
		vec, _ := r.Position()
		at := vec[p.id]
		size := 0
		for _, e := range entries {
			size += int(e.Bytes())
		}
		p.engine.m.rescanned.Add(float64(len(entries)))
		left, more := p.scanned(entries, gaps, at, reads, true)
		for p.rouse(); len(left) > 0; p.rouse() {
			patient := p.engine.relief(ctx)
			left, more = p.scanned(left, nil, at, reads, patient)
		}
		clear(entries)
		switch {
		case err != nil && ctx.Err() == nil:
			p.log.Warn("the log cannot be read for subscriptions that are behind; trying again", "error", err)
			clock.Pause(ctx, ownAgain)
		case ctx.Err() != nil:
			return ctx.Err()
		case !more:
			return nil
		case status == fanout.Idle && r.Park(): // the head was told of events that have not come to this replica yet
			select {
			case <-wake:
			case <-ctx.Done():
			}
			r.Unpark()
		}
		if wait := p.engine.scans.take(float64(size)); wait > 0 {
			clock.Pause(ctx, wait)
		}
	}
}

// scanned enters what a scan has read up to at, and reports whether it is to go on. With patient it stops where memory is
// short, rather than leave lanes behind, and returns what is left.
func (p *partition) scanned(entries []*fanout.Entry, gaps []broker.Gap, at int64, reads int, patient bool) (left []*fanout.Entry, more bool) {
	p.stream.mu.RLock()
	defer p.stream.mu.RUnlock()
	p.mu.Lock()
	defer p.mu.Unlock()
	s := &p.scan
	for _, g := range gaps {
		p.gap(g)
	}
	p.board(at)
	now := time.Now()
	var found []*lane
	for n, e := range entries {
		if e.Skipped != "" || len(s.members) == 0 {
			continue
		}
		if patient && p.engine.crowded() {
			s.at = max(s.at, e.Offset)
			return entries[n:], true
		}
		found = s.index.Match(found[:0], &e.Event)
		for _, l := range found {
			switch {
			case e.Offset < l.next || l.place != scanning:
			case l.route.ended(p, e.Offset), !l.admits():
				p.alight(l, e.Offset)
			default:
				l.enter(e.Clone(), now) // those of a block hold their neighbours
				l.point.offer(l)
				if l.probe { // one was asked for
					l.probe = false
					p.alight(l, e.Offset+1)
				}
			}
		}
	}
	if at <= s.at && len(s.members)+len(s.sorted) > 0 {
		return nil, true // nothing was read yet
	}
	s.at = max(s.at, at)
	if s.at >= p.head { // a lane that is with the head skips what lies below its own next
		for l := range s.members {
			p.alight(l, s.at)
			l.probe = false
			if !l.route.ended(p, l.next) {
				l.place = atHead
			}
			p.forget(l)
		}
	}
	if len(s.members) == 0 {
		return nil, false
	}
	if reads < sliceReads || len(s.queue) == 0 {
		return nil, true
	}
	for l := range s.members { // it is the others' turn
		p.alight(l, s.at)
		p.seek(l)
	}
	return nil, false
}

// board takes along the lanes that wait below at. mu is held.
func (p *partition) board(at int64) {
	s := &p.scan
	from, _ := slices.BinarySearchFunc(s.sorted, s.at, byNext)
	to, _ := slices.BinarySearchFunc(s.sorted, at, byNext)
	if from >= to {
		return
	}
	if s.members == nil {
		s.members = map[*lane]*filter.Filter{}
	}
	for _, l := range s.sorted[from:to] {
		l.place = scanning
		s.members[l] = l.route.filter
		s.index.Add(l.route.filter, l)
	}
	s.sorted = slices.Delete(s.sorted, from, to)
	s.queue = slices.DeleteFunc(s.queue, func(l *lane) bool { return l.place != waiting })
}

// alight has a lane leave the scan at an offset. mu is held.
func (p *partition) alight(l *lane, at int64) {
	p.scan.index.Remove(p.scan.members[l], l)
	delete(p.scan.members, l)
	l.place, l.next = held, max(l.next, at)
	p.soil(l.route.chunk)
	if l.route.ended(p, l.next) {
		l.next = l.route.end(p)
		p.finish(l)
		return
	}
	if !l.point.open() {
		l.point.await(l)
	}
}

// finish has a replay's part in the partition come to its end, once all of it is done. mu is held.
func (p *partition) finish(l *lane) {
	if len(l.items) > 0 || l.route.until == nil || l.position() < l.route.end(p) || l.finishing {
		return
	}
	l.finishing = true
	p.engine.endReplay(l.route, p.id)
}

// endAtHead has a replay's part end that came to the head before its end. mu is held.
func (p *partition) endAtHead(l *lane) {
	l.next, l.place = l.route.end(p), held
	p.soil(l.route.chunk)
	p.finish(l)
}

// endReplays ends the parts of replays that the head has come past, though nothing beyond their end matches. mu is held.
func (p *partition) endReplays() {
	for c := range p.lanes {
		for _, l := range p.lanes[c] {
			if l.place == atHead && l.route.ended(p, l.position()) {
				p.endAtHead(l)
			}
		}
	}
}

// endReplay notes the end in the catalog.
func (e *Engine) endReplay(r *route, partition int32) {
	e.insist("the end of a replay is not noted yet; trying again", r.sub.id, func() error {
		return e.deps.Definitions.EndReplay(e.ctx, r.sub.id, r.life, r.stream.Name, partition)
	})
}

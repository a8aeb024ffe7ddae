package dedupe

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/eventissuer/eventissuer/broker"
)

// attempt is one event on its way.
type attempt struct {
	index  int // of the event
	key    key
	window time.Duration

	mine  state     // the reservation that it makes
	found state     // what was there before; absent: the reservation is made
	over  bool      // found's lease has run out
	err   error     // what is there is not known
	began time.Time // before the reservation was asked for

	fate fate
}

// fate is what is to become of an attempt.
type fate byte

const (
	undecided fate = iota
	answered       // its outcome stands
	going          // is appended, under its reservation
	bare           // is appended without
)

// batch is one call of Append. It is used again.
type batch struct {
	attempts []attempt
	pointers []*attempt
	moves    []move
	changes  []change
	changing []*change
	twins    twins

	topic  string
	life   life
	events []Event
	msgs   []broker.Message
	out    []Outcome
}

// Append appends the events of one stream in order, each of them that is not there already, and tells what became of
// each. It blocks like the log's Append, and for Redis at most three times Config.RedisTimeout; where the same event
// was tried before and its fate is not known, also for Config.SettleTime. When ctx ends first, what was sent and is not
// yet acknowledged is in doubt. What is in doubt is answered with an error that is not broker.ErrRefused, and repeating
// it is safe: it is looked for in the log first. The events' messages must not be changed afterwards.
func (d *Deduper) Append(ctx context.Context, s Stream, events []Event) []Outcome {
	out := make([]Outcome, len(events))
	msgs := make([]broker.Message, len(events))
	var window time.Duration
	for i := range events {
		msgs[i] = events[i].Message
		out[i].Stream = s.Name
		window = max(window, events[i].Window)
	}
	if window <= 0 {
		for i, ack := range d.log.Append(ctx, s.Topic, msgs) {
			out[i].Ack = ack
		}
		return out
	}
	e, ends, err := d.log.Place(ctx, s.Topic, msgs)
	l := life{s.Topic, s.Name, epochOf(e)}
	if err == nil {
		err = d.store.prepare(ctx, l, window)
	}
	if err != nil {
		err = refused(err)
		for i := range out {
			out[i].Ack = broker.Ack{Partition: -1, Offset: -1, Err: err}
		}
		d.metrics.count(out)
		return out
	}

	b := d.scratch.Get().(*batch)
	b.topic, b.life, b.events, b.msgs, b.out = s.Topic, l, events, msgs, out
	d.reserve(b, ends)
	d.decide(ctx, b)
	d.append(ctx, b)
	d.answerTwins(b)
	d.metrics.count(out)
	b.topic, b.life, b.events, b.msgs, b.out = "", life{}, nil, nil, nil
	clear(b.attempts)
	clear(b.changes)
	clear(b.moves)
	d.scratch.Put(b)
	return out
}

// refused marks an error as one that came before anything was sent.
func refused(err error) error {
	if errors.Is(err, broker.ErrRefused) {
		return err
	}
	return fmt.Errorf("%w: %w", broker.ErrRefused, err)
}

func (b *batch) answer(a *attempt, o Outcome) {
	b.out[a.index] = o
	a.fate = answered
}

func (b *batch) refuse(a *attempt, err error) {
	b.answer(a, Outcome{Ack: broker.Ack{Partition: -1, Offset: -1, Err: err}, Stream: b.life.stream})
}

// duplicate answers with a position that was acknowledged or read (rule 11).
func (b *batch) duplicate(a *attempt, l life, partition int32, offset int64) {
	b.answer(a, Outcome{Ack: broker.Ack{Partition: partition, Offset: offset}, Stream: l.stream, Duplicate: true})
}

// reserve reserves the events, but for the second of two that are the same (rules 2, 3 and 12).
func (d *Deduper) reserve(b *batch, ends []int64) {
	n := 0
	for i := range b.events {
		if b.events[i].Window > 0 {
			n++
		}
	}
	if cap(b.attempts) < n {
		b.attempts = make([]attempt, 0, max(n, 16))
	}
	b.attempts, b.pointers = b.attempts[:0], b.pointers[:0]
	b.twins.reset(n)
	began := d.now() // before anything is sent (rule 5)
	for i := range b.events {
		e := &b.events[i]
		if e.Window <= 0 {
			continue
		}
		k := keyOf(e.Source, e.ID)
		if !b.twins.first(k, len(b.attempts), i, b.attempts) {
			continue
		}
		b.attempts = append(b.attempts, attempt{index: i, key: k, window: e.Window, began: began})
		a := &b.attempts[len(b.attempts)-1]
		d.own(b, a, ends)
	}
	for i := range b.attempts {
		b.pointers = append(b.pointers, &b.attempts[i])
	}
	d.store.reserve(b.pointers)
}

// own makes a's reservation one of the event's own place.
func (d *Deduper) own(b *batch, a *attempt, ends []int64) {
	p := b.msgs[a.index].Partition
	var low int64
	if p >= 0 && int(p) < len(ends) {
		low = ends[p]
	}
	a.mine = state{kind: reserved, life: b.life, partition: p, offset: low, token: d.token(), window: a.window}
}

// decide goes from what was found to what is done: rules 3, 4, 8 to 10 and 13.
func (d *Deduper) decide(ctx context.Context, b *batch) {
	b.moves = b.moves[:0]
	var elsewhere, lost []*attempt
	for i := range b.attempts {
		a := &b.attempts[i]
		switch {
		case a.found.kind == reserved && a.found.token == a.mine.token: // the first reply was lost
			a.fate = going
		case a.found.kind == done && a.found.life.is(b.life):
			b.duplicate(a, a.found.life, a.found.partition, a.found.offset)
		case a.found.kind == done:
			elsewhere = append(elsewhere, a)
		case a.found.kind == reserved && a.over && a.err == nil: // its lease ran out
			lost = append(lost, a)
		case a.found.kind == reserved:
			b.refuse(a, ErrReserved)
		case errors.Is(a.err, errState):
			b.refuse(a, ErrUnsettled) // what we cannot read may be a reservation: never append beside one
		case a.err == nil:
			a.fate = going
		case b.events[a.index].Strict:
			b.refuse(a, ErrStoreAway)
		default:
			a.fate = bare
		}
	}
	if len(elsewhere) == 0 && len(lost) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, d.cfg.SettleTime)
	defer cancel()
	d.visit(ctx, b, elsewhere)
	d.settle(ctx, b, lost)
	d.move(b)
}

// visit decides about events that are said to be on another topic, or in another life of this one.
func (d *Deduper) visit(ctx context.Context, b *batch, elsewhere []*attempt) {
	var (
		there life // the one that was looked at last
		over  bool
		err   error
	)
	for i, a := range elsewhere {
		if i == 0 || a.found.life != there {
			there = a.found.life
			over, err = d.isOver(ctx, there)
		}
		switch {
		case err != nil:
			b.refuse(a, ErrUnsettled)
		case over:
			b.takeOver(a)
		default:
			b.duplicate(a, there, a.found.partition, a.found.offset)
		}
	}
}

// move is a change in the place of what was found.
type move struct {
	attempt *attempt
	takes   bool // the change is a's reservation, which stands or falls with it
	change  change
}

// takeOver puts a's reservation in the place of what was found, if that is still there when the moves are made.
func (b *batch) takeOver(a *attempt) {
	b.moves = append(b.moves, move{attempt: a, takes: true, change: change{key: a.key, was: a.found, to: a.mine, window: a.window}})
}

// move makes the moves, all at once.
func (d *Deduper) move(b *batch) {
	if len(b.moves) == 0 {
		return
	}
	began := d.now() // before they are sent (rule 5)
	b.changing = b.changing[:0]
	for i := range b.moves {
		b.changing = append(b.changing, &b.moves[i].change)
	}
	d.store.swap(b.changing)
	for i := range b.moves {
		m := &b.moves[i]
		if !m.takes {
			continue
		}
		a := m.attempt
		if c := &m.change; c.ok || c.err == nil && c.found.kind == reserved && c.found.token == a.mine.token {
			a.fate, a.began = going, began
		} else {
			b.refuse(a, ErrReserved)
		}
	}
}

// append appends what is to be appended, in order, and makes known what became of it (rules 5 to 7).
func (d *Deduper) append(ctx context.Context, b *batch) {
	now := d.now()
	cancelled := ctx.Err() != nil
	b.changes = b.changes[:0]
	if cap(b.changes) < len(b.attempts) {
		b.changes = make([]change, 0, cap(b.attempts))
	}
	next := 0 // the attempt of the next event, if it has one
	of := func(i int) *attempt {
		if next < len(b.attempts) && b.attempts[next].index == i {
			next++
			return &b.attempts[next-1]
		}
		return nil
	}
	msgs, indexes := b.msgs[:0:0], []int(nil)
	for i := range b.events {
		a := of(i)
		switch {
		case a == nil && b.events[i].Window > 0: // a twin
		case a == nil:
			indexes = append(indexes, i)
		case a.fate == going && (cancelled || now.Sub(a.began) >= d.cfg.Lease-d.cfg.Landing):
			b.refuse(a, ErrOutOfTime)
			if cancelled { // not when it is late: it may be another's by now, who will find it out
				b.changes = append(b.changes, change{key: a.key, was: a.mine})
			}
		case a.fate == going, a.fate == bare:
			b.msgs[i].Partition = a.mine.partition
			indexes = append(indexes, i)
		}
	}
	if len(indexes) == len(b.msgs) {
		msgs = b.msgs
	} else {
		for _, i := range indexes {
			msgs = append(msgs, b.msgs[i])
		}
	}
	if len(msgs) > 0 {
		acks := d.log.Append(ctx, b.topic, msgs)
		next = 0
		for j, i := range indexes {
			for next < len(b.attempts) && b.attempts[next].index < i {
				next++
			}
			b.out[i].Ack = acks[j]
			if a := of(i); a != nil {
				d.appended(b, a, acks[j])
			}
		}
	}
	if len(b.changes) == 0 {
		return
	}
	// The answer waits for this, or a client that repeats the event at once would hear that it is being published.
	b.changing = b.changing[:0]
	for i := range b.changes {
		b.changing = append(b.changing, &b.changes[i])
	}
	d.store.swap(b.changing)
	for i := range b.changes {
		if c := &b.changes[i]; c.to.kind == done && c.err == nil && !c.ok && !c.found.same(&c.to) {
			d.metrics.late.Inc() // rule 14; the answer is true all the same
		}
	}
}

// appended notes what is to be made known of an append.
func (d *Deduper) appended(b *batch, a *attempt, ack broker.Ack) {
	if a.fate == bare {
		b.out[a.index].Degraded = ack.Err == nil
		return
	}
	switch {
	case ack.Err == nil:
		to := state{kind: done, life: a.mine.life, partition: ack.Partition, offset: ack.Offset}
		b.changes = append(b.changes, change{key: a.key, was: a.mine, orAbsent: true, to: to, window: a.window})
	case errors.Is(ack.Err, broker.ErrRefused):
		b.changes = append(b.changes, change{key: a.key, was: a.mine})
	} // in doubt: the reservation stays until somebody settles it
}

func (s *state) same(other *state) bool {
	return s.kind == other.kind && s.partition == other.partition && s.offset == other.offset && s.life.is(other.life)
}

// answerTwins answers the second of two that are the same by the first's outcome (rule 12). Where the first was not
// written, nor is the second: what comes after it may be written already.
func (d *Deduper) answerTwins(b *batch) {
	for _, t := range b.twins.pairs {
		first := b.out[b.attempts[t.attempt].index]
		if first.Ack.Err == nil {
			first.Duplicate, first.Degraded = true, false
		} else {
			first = Outcome{Ack: broker.Ack{Partition: -1, Offset: -1, Err: ErrReserved}, Stream: b.life.stream}
		}
		b.out[t.event] = first
	}
}

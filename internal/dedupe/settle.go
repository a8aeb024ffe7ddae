package dedupe

import (
	"context"
	"errors"
	"fmt"

	"github.com/eventissuer/eventissuer/broker"
	"github.com/eventissuer/eventissuer/internal/event"
)

// readBytes is what one fetch asks for where the log is read through.
const readBytes = 1 << 20

// place is where an append of unknown fate would be.
type place struct {
	topic     string
	partition int32
}

// sought is what is looked for in one partition.
type sought struct {
	place
	attempts []*attempt
	from     map[key]int64 // where to look from

	life  life          // of the topic that was read
	found map[key]int64 // the first of each that is there
	next  int64         // up to where nothing else is
	whole bool          // that is the end
	err   error         // it is not known what is there
}

// settle finds out what became of appends whose reservations ran out, and answers or takes over (rules 8 to 10). Each
// was seen to have run out before, so that the end that is asked now lies above them if they are there.
func (d *Deduper) settle(ctx context.Context, b *batch, lost []*attempt) {
	var all []*sought
	for _, a := range lost {
		p := place{a.found.life.topic, a.found.partition}
		var s *sought
		for _, other := range all {
			if other.place == p {
				s = other
			}
		}
		if s == nil {
			s = &sought{place: p, from: make(map[key]int64), found: make(map[key]int64)}
			all = append(all, s)
		}
		s.attempts = append(s.attempts, a)
	}
	for _, s := range all {
		if s.err = d.inTurn(ctx, s); s.err != nil {
			d.logger.Warn("events are refused until it is known whether they are on the log", "topic", s.topic, "partition", s.partition, "events", len(s.attempts), "error", s.err)
		}
	}
	for _, s := range all {
		for _, a := range s.attempts {
			d.settled(b, s, a)
		}
	}
}

// inTurn looks when it is s's turn.
func (d *Deduper) inTurn(ctx context.Context, s *sought) error {
	select {
	case d.settlers <- struct{}{}:
		defer func() { <-d.settlers }()
		return d.look(ctx, s)
	case <-ctx.Done():
		return fmt.Errorf("wait until other partitions are read: %w", ctx.Err())
	}
}

// settled goes on with one attempt from what was found.
func (d *Deduper) settled(b *batch, s *sought, a *attempt) {
	offset, found := s.found[a.key]
	switch {
	case s.err != nil:
		d.metrics.settled.WithLabelValues("unsettled").Inc()
		b.refuse(a, ErrUnsettled)
	case found:
		d.metrics.settled.WithLabelValues("found").Inc()
		l := s.life
		l.stream = a.found.life.stream
		to := state{kind: done, life: l, partition: s.partition, offset: offset}
		b.moves = append(b.moves, move{attempt: a, change: change{key: a.key, was: a.found, to: to, window: a.window}})
		b.duplicate(a, l, s.partition, offset) // whatever becomes of the change
	case !s.whole:
		d.metrics.settled.WithLabelValues("unsettled").Inc()
		// The next one goes on here: what was read holds no copy, and what lands later lands behind it.
		to := a.found
		to.life.epoch, to.offset = s.life.epoch, max(s.next, s.from[a.key])
		if to != a.found {
			b.moves = append(b.moves, move{attempt: a, change: change{key: a.key, was: a.found, to: to, progress: true}})
		}
		b.refuse(a, ErrUnsettled)
	default:
		d.metrics.settled.WithLabelValues("absent").Inc()
		// It stays where it was tried before, so that this can be found again. What was tried in another topic, or in
		// another life of this one, begins anew in the event's own place.
		if a.found.life.is(b.life) && s.life.is(b.life) {
			a.mine.partition, a.mine.offset = a.found.partition, a.found.offset
		}
		b.takeOver(a)
	}
}

// look reads a partition for what is sought.
func (d *Deduper) look(ctx context.Context, s *sought) error {
	e, exists, err := d.present(ctx, s.topic)
	if err != nil {
		return err
	}
	s.life = life{topic: s.topic, epoch: e}
	if !exists {
		gone, err := d.isOver(ctx, s.attempts[0].found.life)
		if err == nil && !gone {
			err = fmt.Errorf("%w: the topic is not there", broker.ErrUnavailable)
		}
		s.whole = err == nil
		return err
	}
	at := int64(-1)
	for _, a := range s.attempts {
		from := a.found.offset
		if !a.found.life.epoch.is(e) {
			from = 0 // the topic was made again meanwhile: it may have landed in what is there now
		}
		s.from[a.key] = from
		if at < 0 || from < at {
			at = from
		}
	}
	end, err := d.log.End(ctx, s.topic, s.partition)
	switch {
	case errors.Is(err, broker.ErrNoPartition) && !s.attempts[0].found.life.epoch.is(e): // the new one has fewer
		s.whole = true
		return nil
	case err != nil:
		return err
	}
	reading, cancel := context.WithTimeout(ctx, d.cfg.SettleTime*4/5) // what is left is for the last look
	defer cancel()
	if err := d.scan(reading, s, at, end); err != nil {
		return err
	}
	switch after, exists, err := d.present(ctx, s.topic); {
	case err != nil:
		return err
	case !exists || !after.is(e):
		return fmt.Errorf("%w: topic %s", broker.ErrRecreated, s.topic)
	}
	return nil
}

// scan reads [at, end) as far as the bounds allow.
func (d *Deduper) scan(ctx context.Context, s *sought, at, end int64) error {
	if at > end { // the log lost its end since: where it was is not known
		at = 0
		for k := range s.from {
			s.from[k] = 0
		}
	}
	bytes := int64(0)
	for at < end {
		if bytes >= d.cfg.SettleBytes || ended(ctx) {
			s.next = at
			return nil
		}
		batch, err := d.log.Read(ctx, s.topic, s.partition, at, readBytes)
		var outside *broker.RangeError
		switch {
		case errors.As(err, &outside) && at < outside.Bounds.First:
			at = outside.Bounds.First // what retention took away is not there
			continue
		case err != nil && ended(ctx):
			continue
		case err != nil:
			return err
		}
		for i := range batch.Records {
			r := &batch.Records[i]
			bytes += int64(len(r.Key) + len(r.Value) + 100)
			if r.Offset >= end {
				break
			}
			s.see(*r)
		}
		if len(s.found) == len(s.from) && len(s.from) > 0 {
			break
		}
		if batch.Next <= at {
			return fmt.Errorf("%w: partition %d can be read up to %d, and ends at %d: a transaction is open, or the other replicas do not have the rest yet", broker.ErrUnavailable, s.partition, at, end)
		}
		at = batch.Next
	}
	s.next, s.whole = at, true
	return nil
}

func ended(ctx context.Context) bool { return ctx.Err() != nil }

// see takes note of a record.
func (s *sought) see(r broker.Record) {
	e, err := event.FromRecord(r)
	if err != nil {
		return // no event, or none of ours
	}
	k := keyOf(e.Source(), e.ID())
	from, ok := s.from[k]
	if !ok || r.Offset < from {
		return
	}
	if _, again := s.found[k]; !again {
		s.found[k] = r.Offset
	}
}

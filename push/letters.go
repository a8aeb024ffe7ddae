package push

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/eventissuer/eventissuer/broker"
	"github.com/eventissuer/eventissuer/internal/clock"
)

// Letter is an event whose schedule has ended.
type Letter struct {
	Subscription string
	Incarnation  uuid.UUID
	Stream       string
	Partition    int32
	Offset       int64
	Attempts     int
	Reason       string
	At           time.Time
	Event        json.RawMessage // nil: the log no longer has it
}

// Letters keep what could not be delivered.
type Letters interface {
	// Write appends letters and blocks until the log has acknowledged them, or not: the errors are by letter.
	Write(ctx context.Context, letters []Letter) []error
}

// burial is an event on its way to the dead letters.
type burial struct {
	lane *lane
	item *item
}

const (
	buryMost  = 100
	buryAgain = time.Second
)

// bury has an event go to the dead letters. Only once the log has acknowledged that does it count as done. mu is held.
func (p *partition) bury(l *lane, i *item) {
	p.dead = append(p.dead, burial{l, i})
	nudge(p.graves)
}

// buryAll writes dead letters until ctx ends. What cannot be written is tried again.
func (p *partition) buryAll(ctx context.Context) error {
	for ctx.Err() == nil {
		p.mu.Lock()
		n := min(len(p.dead), buryMost)
		due := p.dead[:n:n]
		p.dead = p.dead[n:]
		p.mu.Unlock()
		if n == 0 {
			select {
			case <-p.graves:
			case <-ctx.Done():
			}
			continue
		}
		letters := make([]Letter, 0, n)
		for _, b := range due {
			l, err := p.letter(ctx, b)
			if err != nil {
				if ctx.Err() != nil {
					return ctx.Err()
				}
				p.log.Warn("an event for the dead letters cannot be read; trying again", "offset", b.item.offset, "error", err)
				break
			}
			letters = append(letters, l)
		}
		errs := p.engine.deps.Letters.Write(ctx, letters)
		var failed error
		p.mu.Lock()
		p.dead = append(p.dead, due[len(letters):]...)
		for k, b := range due[:len(letters)] {
			if errs[k] != nil {
				failed = errs[k]
				p.dead = append(p.dead, b)
				continue
			}
			p.engine.m.buried.Inc()
			if !b.lane.dropped {
				b.lane.remove(b.item)
				b.lane.moved()
				b.lane.point.offer(b.lane) // its key may go on
			}
		}
		left := failed != nil || len(letters) < n
		p.mu.Unlock()
		p.rouse()
		if left {
			if failed != nil && ctx.Err() == nil {
				p.log.Warn("dead letters cannot be written; trying again", "error", failed)
			}
			clock.Pause(ctx, buryAgain)
		}
	}
	return ctx.Err()
}

func (p *partition) letter(ctx context.Context, b burial) (Letter, error) {
	p.mu.Lock()
	entry := b.item.entry
	l := Letter{
		Subscription: b.lane.route.sub.id, Incarnation: b.lane.route.life, Stream: p.stream.Name, Partition: p.id,
		Offset: b.item.offset, Attempts: b.item.attempts, Reason: b.item.why, At: time.Now().UTC().Truncate(time.Millisecond),
	}
	p.mu.Unlock()
	if entry == nil {
		var err error
		if entry, err = p.fetch(ctx, l.Offset); err != nil {
			if errors.Is(err, ErrGone) {
				return l, nil
			}
			return l, err
		}
	}
	l.Event = json.RawMessage(entry.Event.JSON())
	return l, nil
}

// notice tells a subscription's owner that the log has lost events. The partition's mu is held.
func (e *Engine) notice(l *lane, g broker.Gap) {
	if e.deps.Record == nil {
		return
	}
	reason := map[broker.GapReason]string{
		broker.GapRetention: "the log no longer keeps them", broker.GapTruncated: "the log has lost its end", broker.GapRecreated: "the stream was made anew",
	}[g.Reason]
	e.deps.Record(&Attempt{
		Subscription: l.route.sub.id, Replay: l.route.replay, Stream: l.part.stream.Name, Partition: g.Partition, Offsets: []int64{g.From, g.To},
		At: time.Now(), Outcome: Lost, Reason: fmt.Sprintf("events at the offsets from %d to before %d were not delivered: %s", g.From, g.To, reason),
	})
}

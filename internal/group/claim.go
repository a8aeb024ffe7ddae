package group

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/eventissuer/eventissuer/internal/cursor"
)

var (
	errRace    = errors.New("another claimed the partition at the same time")
	errChanged = errors.New("the subscription was changed while the partition was claimed")
)

// acquire claims the partition. The order of its steps is what keeps two owners apart: who holds the state, then that
// Kafka takes this member's commit, then the claim, then the state itself.
func (l *lane) acquire(ctx context.Context) error {
	g := l.group
	sub, err := g.refresh(ctx)
	if err != nil {
		return err
	}
	epoch, err := g.groups.deps.Log.Present(ctx, l.source.Stream.Topic)
	if err != nil {
		return fmt.Errorf("find the present life of %s: %w", l.source.Stream.Topic, err)
	}
	at := place{sub.Incarnation, epoch.Hex(), l.partition}
	g.mu.Lock()
	g.checkLate(time.Now())
	standstills := g.standstills
	mine := state{}
	if l.at == at {
		mine = l.stored
	}
	g.mu.Unlock()
	if start := sub.start(l.source.Stream.Name, at); mine.cut == 0 {
		mine = join(mine, state{pos: start})
	}

	if err := g.groups.claiming.Acquire(ctx, 1); err != nil {
		return err
	}
	defer g.groups.claiming.Release(1)
	holder, err := g.groups.store.holder(ctx, at)
	if err != nil {
		return err
	}
	offset, text, err := l.claim.Committed(ctx)
	if err != nil {
		return fmt.Errorf("read the commit of %s: %w", l.name, err)
	}
	known := mine
	if floor, ok := floorOf(at, offset, text); ok {
		known = join(mine, floor)
	}
	if err := l.claim.Commit(ctx, known.pos, note{at, known.cut}.String()); err != nil {
		return fmt.Errorf("prove that %s is this replica's: %w", l.name, err)
	}
	nonce, err := g.groups.store.take(ctx, at, holder, mine)
	if err != nil {
		return err
	}
	if nonce == "" {
		return errRace
	}
	kept, ok, err := g.groups.store.load(ctx, at, nonce)
	if errors.Is(err, errState) {
		g.log.Error("what was kept of a partition cannot be read: Kafka's commit holds", "partition", l.name, "error", err)
		kept, err = known, nil
	}
	if err != nil {
		return err
	}
	if !ok {
		return errRace
	}
	g.groups.m.claims.Inc()
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.sub.sameReading(&sub) {
		return errChanged
	}
	l.at, l.nonce, l.epoch = at, nonce, cursor.EpochOf(epoch)
	l.stored = join(kept, known)
	l.bound = l.stored.end()
	l.read = l.stored.pos
	l.held = true
	if g.checkLate(time.Now()); standstills != g.standstills {
		l.suspect = true // another may have claimed the partition since: a write tells
		nudge(l.kick)
	}
	l.recovered()
	g.deal()
	g.tell(func(m *Member) { m.wake() })
	return nil
}

package cursor

import (
	"context"
	"errors"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/eventissuer/eventissuer/internal/table"
)

// Run hints and saves what sessions confirm, until ctx ends; it then returns ctx.Err(). It saves nothing when it ends:
// see Flush.
func (c *Consumers) Run(ctx context.Context) error {
	var saving sync.WaitGroup
	defer saving.Wait()
	saving.Go(func() { c.saveDue(ctx) })
	tick := time.NewTicker(c.cfg.HintEvery)
	defer tick.Stop()
	last := time.Now()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case now := <-tick.C:
			if elapsed := now.Sub(last); elapsed > 0 {
				c.pace.tick(elapsed)
			}
			last = now
			c.hints.write(ctx, c.unhinted())
		}
	}
}

// saveDue saves in time. It is apart from the hints, which must go on where the log answers slowly.
func (c *Consumers) saveDue(ctx context.Context) {
	tick := time.NewTicker(min(c.cfg.SaveEvery, time.Second))
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-tick.C:
			if err := c.saveAll(ctx, c.due(now)); err != nil && ctx.Err() == nil {
				c.log.Warn("positions of consumers were not saved", "error", err)
			}
		}
	}
}

// Flush saves all that was confirmed and not saved, and blocks until it has. A replica that drains calls it after its
// sessions have ended and before the table stops: it is polls that leave something to save.
func (c *Consumers) Flush(ctx context.Context) error {
	c.mu.Lock()
	all := make([]*seat, 0, len(c.dirty))
	for s := range c.dirty {
		all = append(all, s)
	}
	c.mu.Unlock()
	return c.saveAll(ctx, all)
}

// saveAll saves seats, a bounded number at once. It returns the first error that is not about one seat's lease.
func (c *Consumers) saveAll(ctx context.Context, seats []*seat) error {
	var group errgroup.Group
	group.SetLimit(c.cfg.SaveParallel)
	for _, s := range seats {
		group.Go(func() error {
			err := s.save(ctx)
			s.clean() // where nothing was left to save, or the lease is lost
			if errors.Is(err, ErrLost) || errors.Is(err, ErrBusy) || errors.Is(err, table.ErrNotReady) {
				return nil // told to the session, or tried again
			}
			return err
		})
	}
	return group.Wait()
}

// due returns the seats whose save is due.
func (c *Consumers) due(now time.Time) []*seat {
	c.mu.Lock()
	defer c.mu.Unlock()
	var due []*seat
	for s := range c.dirty {
		s.mu.Lock()
		if !now.Before(s.due) {
			due = append(due, s)
		}
		s.mu.Unlock()
	}
	return due
}

// unhinted returns the positions to be hinted.
func (c *Consumers) unhinted() []hinted {
	if c.hints.off() {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	var all []hinted
	for s := range c.dirty {
		s.mu.Lock()
		if s.unhinted && s.reason == nil {
			s.unhinted = false
			all = append(all, hinted{s.id, hint{
				incarnation: s.applied.Incarnation.String(), lease: s.lease.Number, epoch: s.epoch, place: place{s.cut, Max(s.next, nil)},
			}})
		}
		s.mu.Unlock()
	}
	return all
}

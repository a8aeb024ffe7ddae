package push

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/eventissuer/eventissuer/broker"
	"github.com/eventissuer/eventissuer/internal/clock"
	"github.com/eventissuer/eventissuer/internal/cursor"
	"github.com/eventissuer/eventissuer/internal/fanout"
)

const (
	ownAgain   = 500 * time.Millisecond // after a failure
	ownMost    = 15 * time.Second
	graceTime  = 500 * time.Millisecond // for attempts under way, once the partition is lost
	lastSave   = 3 * time.Second
	tickEvery  = 250 * time.Millisecond
	commitRate = 5 * time.Second
	readBytes  = 1 << 20
)

// errAnew ends one run of an owner, which begins anew.
var errAnew = errors.New("the partition has to be loaded anew")

// own is the ownership of one partition, from the assignment to the loss.
func (e *Engine) own(ctx context.Context, st *stream, c broker.Claim) {
	// The same partition may be assigned anew before the last of its former tenure is done.
	mine := make(chan struct{})
	defer close(mine)
	st.mu.Lock()
	before := st.turns[c.Partition()]
	st.turns[c.Partition()] = mine
	st.mu.Unlock()
	if before != nil {
		select {
		case <-before:
		case <-ctx.Done():
			<-before
			return
		}
	}
	cutTo := int64(-1)
	for wait := ownAgain; ctx.Err() == nil; wait = min(2*wait, ownMost) {
		began := time.Now()
		cut, err := e.work(ctx, st, c, cutTo)
		if ctx.Err() != nil {
			return
		}
		if cutTo = cut; errors.Is(err, errAnew) {
			continue
		}
		e.log.Warn("a partition cannot be pushed from; trying again", "stream", st.Name, "partition", c.Partition(), "error", err)
		if time.Since(began) > 10*ownMost {
			wait = ownAgain
		}
		clock.Pause(ctx, wait)
	}
}

// work is one run of an owner: one tenure. It returns to where the log was cut off, or -1.
func (e *Engine) work(ctx context.Context, st *stream, c broker.Claim, cutTo int64) (cut int64, err error) {
	hub, err := e.deps.Hubs.Open(ctx, st.Stream)
	if err != nil {
		return cutTo, fmt.Errorf("open stream %s: %w", st.Name, err)
	}
	p := &partition{
		engine: e, stream: st, id: c.Partition(), claim: c, hub: hub, epoch: hub.Epoch(),
		log:  e.log.With("stream", st.Name, "partition", c.Partition()),
		kick: make(chan struct{}, 1), changed: make(chan struct{}, 1), hungry: make(chan struct{}, 1), graves: make(chan struct{}, 1), recalls: make(chan struct{}, 1),
		roused: map[*endpoint]struct{}{},
	}
	p.scan.index.Panicked = e.panicked
	p.attempts, p.cancel = context.WithCancel(context.WithoutCancel(ctx))
	defer p.cancel()
	said, err := p.load(ctx)
	if err != nil {
		return cutTo, err
	}
	cat := int64(0)
	for i := range said {
		cat = max(cat, said[i].cat)
	}
	if err := e.awaitCatalog(ctx, cat); err != nil {
		return cutTo, err
	}
	bounds, err := e.deps.Log.Bounds(ctx, st.Topic)
	if err == nil && int(p.id) >= len(bounds) {
		err = broker.ErrNoPartition
	}
	if err == nil {
		var present broker.Epoch
		if present, err = e.deps.Log.Present(ctx, st.Topic); err == nil && present != p.epoch {
			err = broker.ErrRecreated
		}
	}
	if err != nil {
		return cutTo, fmt.Errorf("find the end of %s: %w", st.Topic, err)
	}
	p.end = bounds[p.id].Next
	if cutTo >= 0 && cutTo < p.end {
		p.end = cutTo
	}

	st.mu.Lock()
	st.total.Store(int32(len(bounds)))
	p.mu.Lock()
	gaps := p.settle(said)
	p.awake = time.Now()
	st.parts[p.id] = p
	st.owned.Store(int32(len(st.parts)))
	for _, g := range gaps {
		p.gap(g)
	}
	head := p.head
	p.mu.Unlock()
	st.mu.Unlock()
	if p.id == 0 {
		e.stewardAll(st)
	}
	p.log.Debug("partition taken over", "head", head, "end", p.end)
	e.m.partitions.Inc()
	defer e.m.partitions.Dec()
	p.rouse()

	ctx, end := context.WithCancelCause(ctx)
	defer end(nil)
	var parts sync.WaitGroup
	for _, run := range []func(context.Context) error{p.follow, p.scanAll, p.tick, p.readAgain, p.buryAll} {
		parts.Go(func() {
			if err := run(ctx); err != nil && ctx.Err() == nil {
				end(err)
			}
		})
	}
	saving, stopSaving := context.WithCancel(context.WithoutCancel(ctx))
	defer stopSaving()
	var saver sync.WaitGroup
	saver.Go(func() { p.saveAll(saving) })

	<-ctx.Done()
	p.letGo()
	parts.Wait()
	stopSaving()
	saver.Wait()
	p.saveLast()

	var gone *cutError
	if errors.As(context.Cause(ctx), &gone) {
		return gone.to, errAnew
	}
	return -1, context.Cause(ctx)
}

// cutError tells that the log has lost its end.
type cutError struct{ to int64 }

// Error implements error.
func (e *cutError) Error() string { return fmt.Sprintf("the log was cut at offset %d", e.to) }

// letGo ends what is under way: attempts have a moment left, and are then cut.
func (p *partition) letGo() {
	p.stream.mu.Lock()
	if p.stream.parts[p.id] == p {
		delete(p.stream.parts, p.id)
		p.stream.owned.Store(int32(len(p.stream.parts)))
	}
	p.mu.Lock()
	p.over = true
	p.mu.Unlock()
	p.stream.mu.Unlock()
	cut := time.AfterFunc(graceTime, p.cancel)
	p.flights.Wait()
	cut.Stop()
	p.cancel()
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.lanes {
		for _, l := range p.lanes[c] {
			for _, i := range l.items {
				l.release(i)
			}
			p.engine.alarms.clear(&l.alarm)
			l.point.abandon(l)
		}
	}
}

// follow reads the partition and enters what matches.
func (p *partition) follow(ctx context.Context) error {
	p.mu.Lock()
	from := p.head
	p.mu.Unlock()
	wake := make(chan struct{}, 1)
	r := p.reader(from, func() { nudge(wake) })
	defer r.Close()
	var entries []*fanout.Entry
	var found []*route
	for ctx.Err() == nil {
		var status fanout.Status
		var err error
		entries, status, err = p.read(ctx, r, entries[:0], readBytes)
		gaps := r.Gaps()
		if err := overturned(gaps); err != nil {
			return err
		}
		vec, _ := r.Position()
		at := vec[p.id]
		p.stream.mu.RLock()
		p.mu.Lock()
		for _, g := range gaps {
			p.gap(g)
		}
		now := time.Now()
		for _, e := range entries {
			if e.Skipped != "" {
				continue
			}
			found = p.stream.index.Match(found[:0], &e.Event)
			for _, route := range found {
				p.enterAtHead(route, e, now)
			}
		}
		p.head = max(p.head, at)
		p.mu.Unlock()
		p.stream.mu.RUnlock()
		p.engine.m.scanned.Add(float64(len(entries)))
		clear(entries)
		clear(found)
		p.rouse()
		if err != nil && ctx.Err() == nil {
			p.log.Warn("the log cannot be read; trying again", "error", err)
			clock.Pause(ctx, ownAgain)
			continue
		}
		switch status {
		case fanout.Ended:
			return fmt.Errorf("follow stream %s: %w", p.stream.Name, p.hub.Err())
		case fanout.More, fanout.Behind:
			continue
		}
		if !r.Park() {
			continue
		}
		select {
		case <-wake:
		case <-ctx.Done():
		}
		r.Unpark()
	}
	return ctx.Err()
}

// overturned tells that some gap makes all that is known of the partition void.
func overturned(gaps []broker.Gap) error {
	for _, g := range gaps {
		switch g.Reason {
		case broker.GapTruncated:
			return &cutError{g.To}
		case broker.GapRecreated:
			return errAnew
		case broker.GapRetention:
		}
	}
	return nil
}

// reader reads the partition from an offset on.
func (p *partition) reader(from int64, notify func()) *fanout.Reader {
	next := make([]int64, p.id+1)
	next[p.id] = from
	return p.hub.Reader(fanout.Options{
		Next: next, Epoch: cursor.EpochOf(p.epoch), Notify: notify, Single: true, Only: p.id,
	})
}

// read takes what is next, from memory or from the log.
func (p *partition) read(ctx context.Context, r *fanout.Reader, into []*fanout.Entry, most int) ([]*fanout.Entry, fanout.Status, error) {
	entries, status := r.Take(into, most)
	var err error
	if status == fanout.Behind {
		if entries, status, err = r.Fill(ctx, into, most); status == fanout.Idle {
			status = fanout.More // it met the ring: look there
		}
	}
	for _, e := range entries {
		r.After(e)
	}
	return entries, status, err
}

// tick notices that the process stood still: another may own the partition since. Then nothing is sent until the
// coordinator has taken a commit of this owner.
func (p *partition) tick(ctx context.Context) error {
	ticker := time.NewTicker(tickEvery)
	defer ticker.Stop()
	p.mu.Lock()
	p.awake = time.Now()
	p.mu.Unlock()
	committed := time.Now()
	for {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return ctx.Err()
		}
		p.mu.Lock()
		now := time.Now()
		late := p.stoodStill(now)
		p.awake = now
		p.endReplays()
		due := late || now.Sub(committed) >= commitRate
		var lowest int64
		if due {
			lowest = p.lowest()
		}
		p.mu.Unlock()
		if !due {
			continue
		}
		committed = now
		err := p.claim.Commit(ctx, lowest, "")
		switch {
		case err == nil:
			p.mu.Lock()
			was := p.late
			p.late = false
			if was {
				p.offerAll()
			}
			p.mu.Unlock()
			p.rouse()
		case errors.Is(err, broker.ErrNotOwner):
			p.mu.Lock()
			p.late = true
			p.mu.Unlock()
		case ctx.Err() == nil:
			p.log.Debug("the position for lag tools is not committed", "error", err)
		}
	}
}

// stoodStill reports whether the process may have been paused for so long that it was given up. mu is held.
func (p *partition) stoodStill(now time.Time) bool {
	if now.Sub(p.awake) > tickEvery+p.engine.cfg.StandStill {
		p.late = true
	}
	return p.late
}

// lowest is the lowest offset that is not done. mu is held.
func (p *partition) lowest() int64 {
	low := p.head
	for c := range p.lanes {
		for _, l := range p.lanes[c] {
			low = min(low, l.position())
			if len(l.items) > 0 {
				low = min(low, l.items[0].offset)
			}
		}
	}
	return low
}

// offerAll has every lane's endpoint look at it again. mu is held.
func (p *partition) offerAll() {
	for c := range p.lanes {
		for _, l := range p.lanes[c] {
			l.point.offer(l)
		}
	}
}

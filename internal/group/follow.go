package group

import (
	"context"
	"fmt"
	"time"

	"github.com/eventissuer/eventissuer/broker"
	"github.com/eventissuer/eventissuer/internal/clock"
	"github.com/eventissuer/eventissuer/internal/cursor"
	"github.com/eventissuer/eventissuer/internal/fanout"
	"github.com/eventissuer/eventissuer/internal/filter"
)

// followHub reads the partition from a hub, as far as the window has room. It returns where it stands, once the hub ended
// (with the reason), ctx did, or the claim is another's.
func (l *lane) followHub(ctx context.Context, tenure uint64, hub *fanout.Hub, from int64, f *filter.Filter) (int64, error) {
	g := l.group
	g.mu.Lock()
	epoch := l.epoch
	g.mu.Unlock()
	if cursor.EpochOf(hub.Epoch()) != epoch {
		// The topic was made again, and one of the two has not noticed yet.
		clock.Pause(ctx, lifeRetry)
		g.mu.Lock()
		if l.tenure == tenure {
			l.reclaim("the topic was made again")
		}
		g.mu.Unlock()
		<-ctx.Done()
		return from, ctx.Err()
	}
	wake := make(chan struct{}, 1)
	next := make([]int64, l.partition+1)
	next[l.partition] = from
	r := hub.Reader(fanout.Options{
		Filter: f, Next: next, Epoch: epoch, Notify: func() { nudge(wake) }, Single: true, Only: l.partition,
	})
	defer r.Close()
	var entries []*fanout.Entry
	failures, room := 0, false
	for ctx.Err() == nil {
		if !room && !l.awaitRoom(ctx) {
			return from, ctx.Err()
		}
		var (
			status fanout.Status
			err    error
		)
		entries, status = r.Take(entries[:0], readBytes)
		if status == fanout.Behind {
			if entries, status, err = r.Fill(ctx, entries[:0], readBytes); status == fanout.Idle {
				status = fanout.More // it met the ring: look there
			}
		}
		for _, e := range entries {
			r.After(e)
		}
		vec, _ := r.Position()
		from = vec[l.partition]
		if ends := hub.Latest(); int(l.partition) < len(ends) {
			l.known.Store(ends[l.partition])
		}
		var ok bool
		if ok, room = l.took(tenure, entries, from, r.Gaps()); !ok {
			return from, nil
		}
		clear(entries)
		if err != nil && ctx.Err() == nil {
			if failures++; failures > 1 {
				g.trouble(l, err)
			}
			clock.Pause(ctx, claimRetry<<min(failures, 6))
			continue
		}
		failures = 0
		if problem := r.Health(); problem != nil {
			g.trouble(l, problem)
		} else {
			l.well()
		}
		switch status {
		case fanout.Ended:
			return from, fmt.Errorf("follow stream %s: %w", l.source.Stream.Name, hub.Err())
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
	return from, ctx.Err()
}

// lifeRetry is how long a claim waits for the hub to notice that the topic was made again.
const lifeRetry = 100 * time.Millisecond

// awaitRoom waits until more may be read. It returns false once ctx has ended.
func (l *lane) awaitRoom(ctx context.Context) bool {
	for {
		l.group.mu.Lock()
		room := l.roomy()
		l.group.mu.Unlock()
		if room {
			return true
		}
		// The memory of all groups may come free without this lane's doing.
		wait, cancel := context.WithTimeout(ctx, tickEvery)
		select {
		case <-l.space:
		case <-wait.Done():
		}
		cancel()
		if ctx.Err() != nil {
			return false
		}
	}
}

// took takes what was read, and what was lost before it. It returns false where the partition has to be claimed
// anew; room says that more may be read.
func (l *lane) took(tenure uint64, entries []*fanout.Entry, read int64, gaps []broker.Gap) (ok, room bool) {
	g := l.group
	slabs := l.itemsOf(tenure, entries)
	g.mu.Lock()
	defer g.mu.Unlock()
	if l.tenure != tenure || !l.held {
		return false, false
	}
	for _, gap := range gaps {
		note := Note{Name: "gap", Stream: l.source.Stream.Name, Partition: gap.Partition, From: gap.From, To: gap.To, Reason: string(gap.Reason)}
		if l.member != nil {
			l.member.note(note)
		} else {
			g.tell(func(m *Member) { m.note(note) })
		}
		switch gap.Reason {
		case broker.GapTruncated:
			// What is known above the log's end is of records that are gone: others get their offsets. Nothing more is
			// written of the window, which is of the old log.
			g.log.Warn("the log has lost its end: what was acknowledged above it is forgotten", "partition", l.name, "from", gap.From, "to", gap.To)
			l.stored = l.stored.cutAt(gap.To)
			l.held = false
			l.reclaim("the log has lost its end")
			return false, false
		case broker.GapRecreated:
			l.reclaim("the topic was made again")
			return false, false
		}
	}
	if !l.add(tenure, slabs, read) {
		return false, false
	}
	g.feed(l)
	return true, l.roomy()
}

// well notes that the log can be read.
func (l *lane) well() {
	if !l.ill.Load() {
		return
	}
	l.group.mu.Lock()
	defer l.group.mu.Unlock()
	if !l.troubled.IsZero() {
		l.recovered()
	}
}

package group

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/eventissuer/eventissuer/broker"
	"github.com/eventissuer/eventissuer/internal/cursor"
)

// Stats tell how far a subscription is.
type Stats struct {
	Sessions     []SessionStats   `json:"sessions"`
	Lag          int64            `json:"lag"`        // events
	LagSeconds   float64          `json:"lagSeconds"` // how long the oldest event that is not done has waited
	Uncommitted  int              `json:"uncommitted"`
	Redeliveries int64            `json:"redeliveries"` // by the owners that there are now
	DeadLetters  int64            `json:"deadLetters"`  // likewise
	Partitions   []PartitionStats `json:"partitions"`
	Cursor       string           `json:"cursor"` // of the streams, at the positions
	History      []LagAt          `json:"history,omitempty"`
}

// SessionStats describe one session.
type SessionStats struct {
	ID          string    `json:"id"`
	Replica     string    `json:"replica"`
	Transport   string    `json:"transport"`
	Address     string    `json:"address,omitempty"`
	Since       time.Time `json:"since"`
	Uncommitted int       `json:"uncommitted"`
	Groups      []string  `json:"groups,omitempty"`
	Waiting     string    `json:"waiting,omitempty"` // why it is given nothing
}

// PartitionStats describe one partition.
type PartitionStats struct {
	Stream            string  `json:"stream"`
	Partition         int32   `json:"partition"`
	Session           string  `json:"session,omitempty"` // with ordering by key
	Replica           string  `json:"replica,omitempty"` // that owns it
	Begin             int64   `json:"begin"`             // the oldest offset that the log keeps
	Position          int64   `json:"position"`
	End               int64   `json:"end"`
	Lag               int64   `json:"lag"`
	LagSeconds        float64 `json:"lagSeconds"`
	Uncommitted       int     `json:"uncommitted"`
	AcknowledgedAbove int     `json:"acknowledgedAbove"` // events done above the position
	Redeliveries      int64   `json:"redeliveries"`
	DeadLetters       int64   `json:"deadLetters"`
}

// LagAt is the lag at one time.
type LagAt struct {
	At  time.Time `json:"at"`
	Lag int64     `json:"lag"`
}

// history is the lag of the partitions owned here, over the last quarter of an hour.
type history struct {
	points []LagAt
}

const (
	historyEvery = 10 * time.Second
	historyMost  = 90
)

func (h *history) add(now time.Time, lag int64) {
	at := now.Truncate(historyEvery)
	if n := len(h.points); n > 0 && h.points[n-1].At.Equal(at) {
		h.points[n-1].Lag = lag
		return
	}
	if len(h.points) == historyMost {
		h.points = slices.Delete(h.points, 0, 1)
	}
	h.points = append(h.points, LagAt{at, lag})
}

// measure notes the lag. The caller holds mu.
func (g *group) measure(now time.Time) {
	if now.Sub(g.measured) < time.Second {
		return
	}
	g.measured = now
	lag := int64(0)
	for _, l := range g.lanes {
		if l.held {
			lag += max(0, l.end()-l.stored.pos)
		}
	}
	g.groups.m.lag.WithLabelValues(g.id).Set(float64(lag))
	g.history.add(now, lag)
}

// end is where the partition ends, as far as is known.
func (l *lane) end() int64 { return max(l.known.Load(), l.read) }

// stats tell what this replica knows.
func (g *group) stats() Stats {
	g.mu.Lock()
	defer g.mu.Unlock()
	replica := g.groups.replica.String()
	var s Stats
	for _, m := range g.members {
		d := SessionStats{
			ID: m.id.String(), Replica: replica, Transport: m.session.Transport, Address: m.session.Address,
			Since: m.since.UTC().Truncate(time.Millisecond), Uncommitted: m.outstanding, Waiting: m.why,
		}
		for _, l := range g.lanes {
			if l.member == m {
				d.Groups = append(d.Groups, l.name)
			}
		}
		s.Sessions = append(s.Sessions, d)
	}
	now := time.Now()
	g.checkLate(now)
	for _, l := range g.lanes {
		if !l.held || l.suspect { // who stood still may have been replaced, and knows nothing of it
			continue
		}
		p := PartitionStats{
			Stream: l.source.Stream.Name, Partition: l.partition, Replica: replica, Position: l.stored.pos,
			Uncommitted: l.given, Redeliveries: l.counts.redelivered, DeadLetters: l.counts.buried,
		}
		if l.member != nil {
			p.Session = l.member.id.String()
		}
		oldest := true
		for _, i := range l.window.live() {
			switch {
			case i.phase == phaseDone:
				p.AcknowledgedAbove++
			case oldest:
				oldest = false
				p.LagSeconds = max(0, float64(now.UnixMilli()-i.entry.Time)/1000)
			}
		}
		s.Partitions = append(s.Partitions, p)
	}
	s.History = slices.Clone(g.history.points)
	return s
}

// Stats tell how far a subscription is, on all replicas.
func (gs *Groups) Stats(ctx context.Context, id string) (Stats, error) {
	sub, ok := gs.deps.Definitions.Subscription(id)
	if !ok {
		return Stats{}, ErrUnknown
	}
	var parts []Stats
	if g := gs.find(id); g != nil {
		parts = append(parts, g.stats())
	}
	parts = append(parts, gs.bus.statsOf(ctx, id)...)
	all := Stats{Sessions: []SessionStats{}, Partitions: []PartitionStats{}}
	owned := map[string]PartitionStats{}
	lags := map[time.Time]int64{}
	for _, s := range parts {
		all.Sessions = append(all.Sessions, s.Sessions...)
		for _, p := range s.Partitions {
			name := laneName(p.Stream, p.Partition)
			if was, ok := owned[name]; !ok || was.Position <= p.Position { // of two, one is letting it go
				owned[name] = p
			}
		}
		for _, h := range s.History {
			lags[h.At] += h.Lag
		}
	}
	slices.SortFunc(all.Sessions, func(a, b SessionStats) int { return a.Since.Compare(b.Since) })
	for at, lag := range lags {
		all.History = append(all.History, LagAt{at, lag})
	}
	slices.SortFunc(all.History, func(a, b LagAt) int { return a.At.Compare(b.At) })
	var at cursor.Cursor
	for _, src := range sub.Sources {
		c, err := gs.partitions(ctx, &sub, src, owned, &all)
		if errors.Is(err, broker.ErrNoTopic) {
			continue // the subscription's status tells
		}
		if err != nil {
			return Stats{}, err
		}
		at.Streams = append(at.Streams, c)
	}
	if len(at.Streams) > 0 {
		all.Cursor = string(cursor.Append(nil, at))
	}
	return all, nil
}

// partitions adds what is to be told of a stream's partitions: what their owners say, and of the others what is kept.
func (gs *Groups) partitions(ctx context.Context, sub *Subscription, src Source, owned map[string]PartitionStats, all *Stats) (cursor.StreamCursor, error) {
	topic := src.Stream.Topic
	info, err := gs.deps.Log.Describe(ctx, topic)
	if err != nil {
		return cursor.StreamCursor{}, fmt.Errorf("describe %s: %w", topic, err)
	}
	bounds, err := gs.deps.Log.Bounds(ctx, topic)
	if err != nil {
		return cursor.StreamCursor{}, fmt.Errorf("find the ends of %s: %w", topic, err)
	}
	at := cursor.StreamCursor{Tag: cursor.TagOf(src.Stream.Name), Epoch: cursor.EpochOf(info.Epoch)}
	var commits []broker.Commit
	for i, b := range bounds {
		n := int32(i)
		p, ok := owned[laneName(src.Stream.Name, n)]
		if !ok {
			p = PartitionStats{Stream: src.Stream.Name, Partition: n}
			if commits == nil {
				if commits, err = gs.deps.Log.CommittedOffsets(ctx, ConsumerGroup(sub.ID), topic); err != nil {
					return at, fmt.Errorf("read the commits of %s: %w", topic, err)
				}
			}
			where := place{sub.Incarnation, info.Epoch.Hex(), n}
			known := state{pos: sub.start(src.Stream.Name, where)}
			if i < len(commits) {
				if floor, ok := floorOf(where, commits[i].Offset, commits[i].Note); ok {
					known = join(known, floor)
				}
			}
			kept, err := gs.kept(ctx, where)
			if err != nil {
				return at, err
			}
			known = join(known, kept)
			p.Position = known.pos
			p.LagSeconds = gs.waiting(ctx, topic, n, max(known.pos, b.First), b)
		} else {
			kept, err := gs.kept(ctx, place{sub.Incarnation, info.Epoch.Hex(), n})
			if err != nil {
				return at, err
			}
			p.Position = max(p.Position, kept.pos) // whoever told may have been replaced, and not know it yet
		}
		p.Begin, p.End = b.First, b.Next
		p.Lag = max(0, b.Next-max(p.Position, b.First))
		if p.Lag == 0 {
			p.LagSeconds = 0
		}
		all.Lag += p.Lag
		all.LagSeconds = max(all.LagSeconds, p.LagSeconds)
		all.Uncommitted += p.Uncommitted
		all.Redeliveries += p.Redeliveries
		all.DeadLetters += p.DeadLetters
		all.Partitions = append(all.Partitions, p)
		at.Next = append(at.Next, p.Position)
	}
	return at, nil
}

// kept reads the state of a partition that nobody owns. Where the store does not answer, what else is known would tell less
// than was told before.
func (gs *Groups) kept(ctx context.Context, at place) (state, error) {
	for before := ""; ; {
		nonce, err := gs.store.holder(ctx, at)
		if err != nil {
			return state{}, errors.Join(ErrBusy, err)
		}
		if nonce == before { // there is none, or Redis has lost its state
			return state{}, nil
		}
		s, ok, err := gs.store.load(ctx, at, nonce)
		switch {
		case errors.Is(err, errState):
			return state{}, nil // a claim goes by Kafka's commit, too
		case err != nil:
			return state{}, errors.Join(ErrBusy, err)
		case ok:
			return s, nil
		}
		before = nonce // another has claimed it in between
	}
}

// waiting is how long the record at an offset has been on the log, in seconds.
func (gs *Groups) waiting(ctx context.Context, topic string, partition int32, at int64, b broker.Bounds) float64 {
	if at >= b.Next {
		return 0
	}
	batch, err := gs.deps.Log.Read(ctx, topic, partition, at, 1)
	if err != nil || len(batch.Records) == 0 {
		return 0
	}
	return max(0, time.Since(batch.Records[0].Timestamp).Seconds())
}

// statsTime is how long other replicas have to tell of a subscription.
const statsTime = 500 * time.Millisecond

// statsOf asks the other replicas that have sessions of a subscription.
func (b *bus) statsOf(ctx context.Context, id string) (all []Stats) {
	answers := make(chan message, 64)
	b.mu.Lock()
	b.last++
	call := b.last
	b.many[call] = answers
	_, here := b.groups[id]
	b.mu.Unlock()
	defer func() {
		b.mu.Lock()
		delete(b.many, call)
		b.mu.Unlock()
	}()
	n, err := b.post(ctx, b.groupChannel(id), &message{Kind: "stats", Group: id, Call: call})
	if err != nil {
		return nil
	}
	if here {
		n-- // this one hears it, too
	}
	until := time.NewTimer(statsTime)
	defer until.Stop()
	for ; n > 0; n-- {
		select {
		case a := <-answers:
			if a.Stats != nil {
				all = append(all, *a.Stats)
			}
		case <-until.C:
			return all
		case <-ctx.Done():
			return all
		}
	}
	return all
}

package gateway

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/eventissuer/eventissuer/broker"
	"github.com/eventissuer/eventissuer/internal/catalog"
	"github.com/eventissuer/eventissuer/push"
)

// deliveryStats tell how far a subscription with a sink is.
type deliveryStats struct {
	ID           string                    `json:"id"`
	Name         string                    `json:"name,omitempty"`
	State        catalog.SubscriptionState `json:"state"`
	Reason       string                    `json:"reason,omitempty"`
	FailingSince time.Time                 `json:"failingSince,omitzero"` // the endpoint has only failed
	Lag          int64                     `json:"lag"`
	Undone       int                       `json:"undone"`
	InFlight     int                       `json:"inFlight"`
	Partial      bool                      `json:"partial,omitempty"` // other replicas deliver some of the partitions
	Partitions   []deliveryPartition       `json:"partitions"`
}

// deliveryPartition tells how far it is in one partition.
type deliveryPartition struct {
	Stream    string `json:"stream"`
	Partition int32  `json:"partition"`
	Position  int64  `json:"position"` // all below is done, but for what is undone
	End       int64  `json:"end"`
	Lag       int64  `json:"lag"` // what is left: the offsets from the position to the end, and what is undone
	Undone    int    `json:"undone"`
	InFlight  int    `json:"inFlight"`
	Elsewhere bool   `json:"elsewhere,omitempty"` // another replica delivers it: it is at least as far as this
}

// getDeliveryStats answers GET …/stats of a subscription with a sink.
func (g *Gateway) getDeliveryStats(w http.ResponseWriter, r *http.Request) {
	s, ok := g.sunk(w, r)
	if !ok {
		return
	}
	deliveries, ok := g.deliverer(w, r)
	if !ok {
		return
	}
	status := g.subscriptionStatus(s)
	stats := deliveryStats{ID: s.ID, Name: s.Name, State: status.State, Reason: status.Reason, Partitions: []deliveryPartition{}}
	if since, failing := deliveries.FailingSince(s.ID); failing {
		stats.FailingSince = since.UTC()
	}
	type place struct {
		stream    string
		partition int32
	}
	here := map[place]push.Standing{}
	for _, at := range deliveries.Standings(s.ID) {
		here[place{at.Stream, at.Partition}] = at
	}
	ctx, cancel := context.WithTimeout(r.Context(), g.config.AppendTimeout)
	defer cancel()
	for _, name := range s.Streams {
		away, err := g.standings(ctx, deliveries, s, name)
		if err != nil {
			g.refuseRead(w, r, err)
			return
		}
		for _, p := range away {
			if at, ok := here[place{p.Stream, p.Partition}]; ok {
				p.Position, p.End, p.Undone, p.InFlight, p.Elsewhere = at.Position, max(at.End, p.End), at.Undone, at.Flying, false
			}
			p.Lag = max(0, p.End-p.Position) + int64(p.Undone)
			stats.Lag += p.Lag
			stats.Undone += p.Undone
			stats.InFlight += p.InFlight
			stats.Partial = stats.Partial || p.Elsewhere
			stats.Partitions = append(stats.Partitions, p)
		}
	}
	writeJSON(w, r, http.StatusOK, stats)
}

// standings tells how far a subscription is at least in the partitions of a stream, as far as that can be seen from
// outside: what is committed holds for all subscriptions. A stream that is gone has none.
func (g *Gateway) standings(ctx context.Context, deliveries Push, s catalog.Subscription, name string) ([]deliveryPartition, error) {
	stream, info, err := g.streamOf(ctx, name)
	if gone := (*problem)(nil); errors.As(err, &gone) && gone.kind.status == http.StatusNotFound {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	bounds, err := g.deps.Log.Bounds(ctx, stream.Topic)
	if err != nil {
		return nil, err
	}
	committed, err := g.deps.Log.CommittedOffsets(ctx, deliveries.ConsumerGroup(stream.Topic), stream.Topic)
	if err != nil && !errors.Is(err, broker.ErrNoTopic) {
		return nil, err
	}
	starts := s.Start[name].Next
	if s.Start[name].Epoch != info.Epoch.Hex() {
		starts = nil
	}
	all := make([]deliveryPartition, len(bounds))
	for p, b := range bounds {
		at := b.First
		if p < len(starts) {
			at = max(at, starts[p])
		}
		if p < len(committed) && committed[p].Offset <= b.Next {
			at = max(at, committed[p].Offset)
		}
		all[p] = deliveryPartition{Stream: name, Partition: int32(p), Position: at, End: b.Next, Elsewhere: true}
	}
	return all, nil
}

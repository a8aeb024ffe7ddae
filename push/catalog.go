package push

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/eventissuer/eventissuer/internal/catalog"
	"github.com/eventissuer/eventissuer/internal/fanout"
)

// Catalogued implements Definitions on a catalog.
type Catalogued struct {
	catalog *catalog.Catalog
	log     *slog.Logger
}

// FromCatalog gives the definitions of a catalog's subscriptions with a sink.
func FromCatalog(c *catalog.Catalog, log *slog.Logger) *Catalogued {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &Catalogued{c, log}
}

// Watch implements Definitions. What is there already is told once the catalog is loaded.
func (p *Catalogued) Watch(fn func(Change)) (stop func()) {
	// What was applied before the changes are told is found by the look at all of them.
	end := p.catalog.Watch(func(c catalog.Change) {
		switch {
		case c.Subscription != "":
			fn(Change{ID: c.Subscription})
		case c.Stream != nil:
			for _, id := range p.catalog.SubscriptionsOf(c.Stream.Name) {
				fn(Change{ID: id})
			}
		case c.EventType == nil:
			fn(Change{Applied: c.Applied})
		}
	})
	applied := p.catalog.Applied()
	for _, id := range p.catalog.SubscriptionIDs() {
		if sink, _ := p.catalog.HasSink(id); sink {
			fn(Change{ID: id})
		}
	}
	fn(Change{Applied: applied})
	return end
}

// Subscription implements Definitions. One whose filter this version of the program cannot read stands still: nobody
// here could tell which events are its own.
func (p *Catalogued) Subscription(id string) *Subscription {
	s, ok := p.catalog.Subscription(id)
	if !ok || s.Sink == "" {
		return nil
	}
	is := &Subscription{ID: id, Version: s.Revision, Ordered: s.Config.Ordering == catalog.OrderingKey}
	is.Unproven = !s.Proven()
	switch {
	case s.Disabled != nil:
		is.Blocked = "disabled: " + s.Disabled.Reason
	case s.Paused:
		is.Blocked = "paused"
	case !s.Proven():
		if s.Proof.State != catalog.ProofRefused {
			is.Pending = &Pending{Sink: s.Sink, Tries: s.Proof.Tries, Next: s.Proof.Next}
		}
		is.Blocked = "the endpoint has not proven yet that it wants the events"
	}
	var err error
	if is.Filter, err = s.Filter(); err != nil {
		p.log.Error("a subscription's filter cannot be read: is this server older than the one that took it?", "subscription", id, "error", err)
		is.Blocked = "this version of the server cannot read its filter"
	}
	live, err := uuid.Parse(s.Incarnation)
	if err != nil {
		p.log.Error("a subscription's incarnation cannot be read", "subscription", id, "error", err)
		return nil
	}
	is.Lives = append(is.Lives, Life{Incarnation: live, Routes: p.routes(s.Streams, s.Start, nil)})
	for _, r := range s.Replays {
		if of, err := uuid.Parse(r.Incarnation); err == nil {
			is.Lives = append(is.Lives, Life{Incarnation: of, Routes: p.routes(s.Streams, r.Start, r.Until)})
		}
	}
	return is
}

// routes gives the ways through the streams that are there. until is nil where they have no end.
func (p *Catalogued) routes(streams []string, start, until map[string]catalog.Position) (routes []Route) {
	for _, name := range slices.Sorted(slices.Values(streams)) {
		stream, ok := p.catalog.Stream(name)
		at, begins := start[name]
		if !ok || until != nil && !begins {
			continue
		}
		r := Route{
			Stream: fanout.Stream{Name: stream.Name, Topic: stream.Topic, Wrap: string(stream.Wrap)},
			Epoch:  at.Epoch, Start: at.Next, Born: at.Born,
		}
		if until != nil {
			r.Until = make([]int64, len(until[name].Next))
			for i, end := range until[name].Next {
				if i < len(at.Next) && at.Next[i] < end {
					r.Until[i] = end
				}
			}
		}
		routes = append(routes, r)
	}
	return routes
}

// Endpoint implements Definitions.
func (p *Catalogued) Endpoint(id string) (*Endpoint, error) {
	s, ok := p.catalog.Subscription(id)
	if !ok {
		return nil, errors.New("the subscription is gone")
	}
	now := time.Now()
	e, err := p.catalog.OpenEndpoint(s, now)
	if err != nil {
		return nil, err
	}
	to := &Endpoint{
		Owner: s.Owner, URL: e.Sink, Mode: e.Mode, Headers: e.Headers, Signer: &e.Signer, Secrets: e.Secrets, Credential: e.Credential,
		Concurrency: s.Config.Concurrency, Timeout: time.Duration(s.Config.Timeout),
		Block: s.Config.OnExhausted == catalog.Block, DisableAfter: time.Duration(s.Config.DisableAfter), Until: s.SignersUntil(now),
		Batch: Batch{Max: s.Config.Batch.Max, MaxWait: time.Duration(s.Config.Batch.MaxWait), Bytes: s.Config.Batch.MaxBytes},
	}
	for _, step := range s.Config.Retry.Schedule {
		to.Schedule = append(to.Schedule, time.Duration(step))
	}
	to.Rate = float64(s.Config.RatePerSecond)
	if allowed := float64(s.Proof.RatePerMinute) / 60; allowed > 0 && (to.Rate == 0 || allowed < to.Rate) {
		to.Rate = allowed
	}
	return to, nil
}

// server is in whose name the server itself changes definitions.
var server = catalog.Actor{Name: "eventissuer"}

// Disable implements Definitions.
func (p *Catalogued) Disable(ctx context.Context, id string, incarnation uuid.UUID, reason string) error {
	_, err := p.catalog.As(server).DisableSubscription(ctx, id, incarnation.String(), reason)
	if errors.Is(err, catalog.ErrNotFound) {
		return nil
	}
	return err
}

// Owner is whose subscription it is; "": there is none.
func (p *Catalogued) Owner(id string) string {
	s, _ := p.catalog.Subscription(id)
	return s.Owner
}

// Policy tells how long a subscription whose events are sent under an incarnation may fail, and how long its schedule waits
// at most. ok is false where nothing is sent under it. It does not block.
func (p *Catalogued) Policy(id string, incarnation uuid.UUID) (owner string, disableAfter, longest time.Duration, ok bool) {
	s, found := p.catalog.Subscription(id)
	if !found || s.Incarnation != incarnation.String() || s.Paused || s.Disabled != nil || !s.Proven() {
		return "", 0, 0, false
	}
	for _, step := range s.Config.Retry.Schedule {
		longest = max(longest, time.Duration(step))
	}
	return s.Owner, time.Duration(s.Config.DisableAfter), longest, true
}

// Prove implements Definitions.
func (p *Catalogued) Prove(ctx context.Context, id string, v Verdict) error {
	proof := catalog.Proof{
		State: catalog.ProofPending, By: catalog.ProofMethod(v.By), Reason: v.Reason, At: v.At, RatePerMinute: v.RatePerMinute, Tries: v.Tries, Next: v.Next,
	}
	switch {
	case v.Proven:
		proof.State = catalog.ProofProven
	case v.Refused:
		proof.State = catalog.ProofRefused
	}
	_, err := p.catalog.As(server).ProveSubscription(ctx, id, v.Sink, proof)
	if errors.Is(err, catalog.ErrNotFound) {
		return nil
	}
	return err
}

// EndReplay implements Definitions.
func (p *Catalogued) EndReplay(ctx context.Context, id string, replay uuid.UUID, stream string, partition int32) error {
	_, err := p.catalog.As(server).EndReplay(ctx, id, replay.String(), stream, partition)
	if errors.Is(err, catalog.ErrNotFound) {
		return nil
	}
	return err
}

// Package definitions gives groups the subscriptions that the catalog keeps, and tells them of changes.
//
// What it returns is what the catalog's table says at that moment; nothing blocks but Sync. All methods may be called
// concurrently.
package definitions

import (
	"context"
	"log/slog"
	"slices"
	"time"

	"github.com/eventissuer/eventissuer/internal/catalog"
	"github.com/eventissuer/eventissuer/internal/fanout"
	"github.com/eventissuer/eventissuer/internal/group"
)

// Definitions implement group.Definitions.
type Definitions struct {
	catalog *catalog.Catalog
	log     *slog.Logger
}

// New makes the definitions of a catalog.
func New(c *catalog.Catalog, log *slog.Logger) *Definitions {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &Definitions{c, log}
}

// Subscription implements group.Definitions. A subscription whose filter this version of the program cannot read is as
// one that is not there: nobody here could tell which events are its own.
func (d *Definitions) Subscription(id string) (group.Subscription, bool) {
	s, ok := d.catalog.Subscription(id)
	if !ok {
		return group.Subscription{}, false
	}
	f, err := s.Filter()
	if err != nil {
		d.log.Error("a subscription's filter cannot be read: is this server older than the one that took it?", "subscription", id, "error", err)
		return group.Subscription{}, false
	}
	sub := group.Subscription{
		ID: s.ID, Incarnation: s.Incarnation, Filter: f, Ordered: s.Config.Ordering == catalog.OrderingKey,
		AckTimeout: time.Duration(s.Config.AckTimeout), MaxUncommitted: s.Config.MaxUncommitted,
		MaxSessions: s.Config.MaxSessions, MaxAttempts: s.Config.MaxAttempts,
	}
	for _, name := range slices.Sorted(slices.Values(s.Streams)) {
		stream, ok := d.catalog.Stream(name)
		if !ok {
			continue // the subscription's status tells
		}
		start := s.Start[name]
		sub.Sources = append(sub.Sources, group.Source{
			Stream: fanout.Stream{Name: stream.Name, Topic: stream.Topic, Wrap: string(stream.Wrap)}, Epoch: start.Epoch, Start: start.Next,
		})
	}
	return sub, true
}

// Sync implements group.Definitions.
func (d *Definitions) Sync(ctx context.Context, id string) error {
	return d.catalog.SyncSubscription(ctx, id)
}

// Watch has changed called with the id of every subscription that changes, or one of whose streams does. It must not
// block. The returned function ends it.
func (d *Definitions) Watch(changed func(id string)) (stop func()) {
	return d.catalog.Watch(func(c catalog.Change) {
		switch {
		case c.Subscription != "":
			changed(c.Subscription)
		case c.Stream != nil:
			for _, id := range d.catalog.SubscriptionsOf(c.Stream.Name) {
				changed(id)
			}
		}
	})
}

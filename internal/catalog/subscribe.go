package catalog

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/google/uuid"
)

// Starts finds where streams begin for a SubscriptionConfig's From.
type Starts func(ctx context.Context, streams []string, from string) (map[string]Position, error)

// CreateSubscription creates a subscription that begins where starts says. One that is there already and asks for the
// same is returned as it is, with created false. Errors: *InvalidError, ErrExists for one that asks for something else,
// and those of starts and the table.
func (e Editor) CreateSubscription(ctx context.Context, s Subscription, starts Starts) (sub Subscription, created bool, err error) {
	c := e.c
	if err := s.prepare(c.cfg.Owner); err != nil {
		return Subscription{}, false, err
	}
	id, digest, err := s.identity()
	if err != nil {
		return Subscription{}, false, err
	}
	if s.ID != "" && s.ID != id {
		return Subscription{}, false, invalid("/id", "nothing, or %s, which is made of the owner and the name, or without a name of the owner and the content; got %.100q", id, s.ID)
	}
	o, err := retry(ctx, "", func() (*object[subscriptionBody], error) {
		created = false
		if cur := c.subscriptions.get(id); cur != nil {
			if cur.v.Digest != digest {
				return nil, fmt.Errorf("subscription %s with other content: %w", cmp.Or(s.Name, id), ErrExists)
			}
			return cur, nil
		}
		body := subscriptionBody{Subscription: s, Life: uuid.NewString(), Asked: s.Streams, Digest: digest}
		body.ID = id
		body.Created, body.Changed = e.stamp(), e.stamp()
		var err error
		if body.Streams, err = c.streamsFor(s, nil); err != nil {
			return nil, err
		}
		if err := body.begin(ctx, nil, starts); err != nil {
			return nil, err
		}
		created = true
		return c.subscriptions.put(ctx, id, nil, body)
	})
	if err != nil {
		return Subscription{}, false, err
	}
	if !created {
		sub, _ = subscribed(o)
		return sub, false, nil
	}
	// A stream may have been deleted between the check and this record's place in the log. Then its deletion came first,
	// and did not see this subscription: it has to go again.
	if gone := c.gone(o.v.Streams); gone != "" {
		if err := c.subscriptions.delete(ctx, o); err != nil && !isConflict(err) {
			return Subscription{}, false, err
		}
		return Subscription{}, false, deletedMeanwhile(gone)
	}
	sub, _ = subscribed(o)
	e.audit(ctx, Entry{Action: ActionCreated, Kind: "subscription", Name: id, Detail: differences(Subscription{}, sub)})
	return sub, true, nil
}

// UpdateSubscription replaces the definition of the subscription that s.ID names; its positions stay. A stream that is
// new to it begins where starts says. The name and the owner are as they were, or left out. ifMatch is the header's
// value; empty: whatever is current. Errors: *InvalidError, ErrNotFound, ErrPreconditionFailed, and those of starts and
// the table.
func (e Editor) UpdateSubscription(ctx context.Context, s Subscription, ifMatch string, starts Starts) (Subscription, error) {
	return e.changeSubscription(ctx, s.ID, ifMatch, starts, func(was *subscriptionBody) (Subscription, error) {
		// Streams that were found come back from whoever writes what was read: that does not name them.
		if len(was.Asked) == 0 && sameSet(s.Types, was.Types) && sameSet(s.Streams, was.Streams) {
			next := s
			next.Streams = nil
			return next, nil
		}
		return s, nil
	})
}

// PatchSubscription changes a subscription by a JSON merge patch (RFC 7396). All else is as with UpdateSubscription.
func (e Editor) PatchSubscription(ctx context.Context, id string, patch []byte, ifMatch string, starts Starts) (Subscription, error) {
	return e.changeSubscription(ctx, id, ifMatch, starts, func(was *subscriptionBody) (Subscription, error) { return was.patched(patch) })
}

func (e Editor) changeSubscription(ctx context.Context, id, ifMatch string, starts Starts, to func(was *subscriptionBody) (Subscription, error)) (Subscription, error) {
	c := e.c
	var was *object[subscriptionBody]
	o, err := retry(ctx, ifMatch, func() (*object[subscriptionBody], error) {
		was = c.subscriptions.get(id)
		if err := permit(was, "subscription "+id, ifMatch); err != nil {
			return nil, err
		}
		s, err := to(&was.v)
		if err != nil {
			return nil, err
		}
		next, err := c.succeeding(&was.v, s)
		if err != nil {
			return nil, err
		}
		if next.Digest == was.v.Digest && slices.Equal(next.Streams, was.v.Streams) {
			return was, nil
		}
		if err := next.begin(ctx, was.v.Begins, starts); err != nil {
			return nil, err
		}
		next.Changed = e.stamp()
		return c.subscriptions.put(ctx, id, was, next)
	})
	if err != nil {
		return Subscription{}, err
	}
	s, _ := subscribed(o)
	if o == was {
		return s, nil
	}
	// As after a creation, for the streams that are new.
	added := slices.DeleteFunc(slices.Clone(s.Streams), func(name string) bool { return slices.Contains(was.v.Streams, name) })
	if gone := c.gone(added); gone != "" {
		if _, err := c.subscriptions.put(ctx, id, o, was.v); err != nil && !isConflict(err) {
			return Subscription{}, err
		}
		return Subscription{}, deletedMeanwhile(gone)
	}
	before, _ := subscribed(was)
	e.audit(ctx, Entry{Action: ActionChanged, Kind: "subscription", Name: id, Detail: differences(before, s)})
	return s, nil
}

// succeeding is what a body is replaced by; it does not say yet where streams begin that are new.
func (c *Catalog) succeeding(was *subscriptionBody, s Subscription) (subscriptionBody, error) {
	v := &InvalidError{}
	for _, fixed := range []struct {
		member    string
		got, want string
	}{{"id", s.ID, was.ID}, {"name", s.Name, was.Name}, {"owner", s.Owner, was.Owner}} {
		if fixed.got != "" && fixed.got != fixed.want {
			v.add("/"+fixed.member, "%q, or nothing: it cannot be changed; got %.100q", fixed.want, fixed.got)
		}
	}
	if err := v.orNil(); err != nil {
		return subscriptionBody{}, err
	}
	s.ID, s.Name, s.Owner, s.Created, s.Changed = was.ID, was.Name, was.Owner, was.Created, was.Changed
	if err := s.prepare(was.Owner); err != nil {
		return subscriptionBody{}, err
	}
	body := subscriptionBody{Subscription: s, Life: was.Life, Asked: s.Streams}
	var err error
	if _, body.Digest, err = s.identity(); err != nil {
		return body, err
	}
	body.Streams, err = c.streamsFor(s, was)
	return body, err
}

// begin says where the streams begin: where they did, and those that are new where starts says.
func (b *subscriptionBody) begin(ctx context.Context, was map[string]Position, starts Starts) error {
	b.Begins = make(map[string]Position, len(b.Streams))
	var added []string
	for _, name := range b.Streams {
		if at, ok := was[name]; ok {
			b.Begins[name] = at
		} else {
			added = append(added, name)
		}
	}
	if len(added) == 0 {
		return nil
	}
	found, err := starts(ctx, added, b.Config.From)
	if err != nil {
		return err
	}
	for _, name := range added {
		at, ok := found[name]
		if !ok {
			return fmt.Errorf("subscription %s: nothing says where stream %s begins", b.ID, name)
		}
		at.Born = 0
		b.Begins[name] = at
	}
	return nil
}

// gone returns the first of some streams that does not exist, "" where all do.
func (c *Catalog) gone(streams []string) string {
	for _, name := range streams {
		if _, ok := c.Stream(name); !ok {
			return name
		}
	}
	return ""
}

func deletedMeanwhile(stream string) error {
	return invalid("/streams", "streams that exist; %q was deleted meanwhile", stream)
}

// ResetSubscription begins a subscription anew: all that was read and acknowledged is forgotten. start has the position of
// each of its streams that exists, and no other's. ifMatch is as with UpdateSubscription. Errors: *InvalidError,
// ErrNotFound, ErrPreconditionFailed, and those of the table.
func (e Editor) ResetSubscription(ctx context.Context, id string, start map[string]Position, ifMatch string) (Subscription, error) {
	c := e.c
	o, err := retry(ctx, ifMatch, func() (*object[subscriptionBody], error) {
		cur := c.subscriptions.get(id)
		if err := permit(cur, "subscription "+id, ifMatch); err != nil {
			return nil, err
		}
		for _, name := range slices.Sorted(maps.Keys(start)) {
			if !slices.Contains(cur.v.Streams, name) {
				return nil, invalid("", "positions of the streams that the subscription reads; %q is none of them", name)
			}
		}
		next := cur.v
		next.Begins = unborn(start)
		for _, name := range cur.v.Streams {
			if _, given := start[name]; given {
				continue
			}
			if _, ok := c.Stream(name); ok {
				return nil, invalid("", "a position of every stream that the subscription reads; there is none of %q", name)
			}
			kept := cur.v.Begins[name]
			kept.Born = 0
			next.Begins[name] = kept
		}
		next.Life = uuid.NewString()
		next.Changed = e.stamp()
		return c.subscriptions.put(ctx, id, cur, next)
	})
	if err != nil {
		return Subscription{}, err
	}
	e.audit(ctx, Entry{Action: ActionChanged, Kind: "subscription", Name: id, Detail: "reset: it is read from another position"})
	s, _ := subscribed(o)
	return s, nil
}

// DeleteSubscription deletes a subscription. One that is created under the same name later is another: it has another
// incarnation. Errors: ErrNotFound, ErrPreconditionFailed, and those of the table.
func (e Editor) DeleteSubscription(ctx context.Context, id, ifMatch string) error {
	_, err := retry(ctx, ifMatch, func() (*object[subscriptionBody], error) {
		cur := e.c.subscriptions.get(id)
		if err := permit(cur, "subscription "+id, ifMatch); err != nil {
			return nil, err
		}
		return nil, e.c.subscriptions.delete(ctx, cur)
	})
	if err == nil {
		e.audit(ctx, Entry{Action: ActionDeleted, Kind: "subscription", Name: id})
	}
	return err
}

// SyncSubscription blocks until every write of the subscription that was made before the call is applied here. Errors are
// those of table.Sync.
func (c *Catalog) SyncSubscription(ctx context.Context, id string) error {
	return c.table.Sync(ctx, c.subscriptions.id(id))
}

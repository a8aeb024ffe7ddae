package catalog

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/google/uuid"

	"github.com/eventissuer/eventissuer/internal/webhook"
)

// Starts finds where streams begin for a SubscriptionConfig's From.
type Starts func(ctx context.Context, streams []string, from string) (map[string]Position, error)

// CreateSubscription creates a subscription that begins where starts says. One that is there already and asks for the
// same is returned as it is, with created false; secrets make no difference to that. One that is created with a sink is
// returned with its Secret, this once. Errors: *InvalidError, ErrExists for one that asks for something else, ErrNoKeys,
// and those of starts and the table.
func (e Editor) CreateSubscription(ctx context.Context, s Subscription, starts Starts) (sub Subscription, created bool, err error) {
	c := e.c
	s.own()
	s.Course, s.signers, s.sealed, s.version = Course{}, nil, sealedTexts{}, uuid.Nil
	if err := s.prepare(c.cfg.Owner, c.cfg.Sinks); err != nil {
		return Subscription{}, false, err
	}
	id, digest, err := s.identity()
	if err != nil {
		return Subscription{}, false, err
	}
	if s.ID != "" && s.ID != id {
		return Subscription{}, false, invalid("/id", "nothing, or %s, which is made of the owner and the name, or without a name of the owner and the content; got %.100q", id, s.ID)
	}
	s.ID = id
	first := subscriptionBody{asked: s.Streams}
	secret, err := e.equip(&s)
	if err != nil {
		return Subscription{}, false, err
	}
	first.Subscription = s
	o, err := retry(ctx, "", func() (*object[subscriptionRecord], error) {
		created = false
		if cur := c.subscriptions.get(id); cur != nil {
			if was, err := bodyOf(cur).digest(); err != nil || was != digest {
				return nil, cmp.Or(err, fmt.Errorf("subscription %s with other content: %w", cmp.Or(s.Name, id), ErrExists))
			}
			return cur, nil
		}
		body := first
		body.Incarnation = uuid.NewString()
		body.Created = e.stamp()
		body.Changed = body.Created
		var err error
		if body.Streams, err = c.streamsFor(s, nil); err != nil {
			return nil, err
		}
		if err := body.begin(ctx, nil, starts); err != nil {
			return nil, err
		}
		created = true
		return c.putSubscription(ctx, nil, &body)
	})
	if err != nil {
		return Subscription{}, false, err
	}
	sub, _ = subscribed(o)
	if !created {
		return sub, false, nil
	}
	// A stream may have been deleted between the check and this record's place in the log. Then its deletion came first,
	// and did not see this subscription: it has to go again.
	if gone := c.gone(sub.Streams); gone != "" {
		return Subscription{}, false, cmp.Or(c.undo(ctx, sub, nil), deletedMeanwhile(gone))
	}
	e.audit(ctx, Entry{Action: ActionCreated, Kind: "subscription", Name: id, Detail: differences(Subscription{}, sub)})
	sub.Secret = secret
	return sub, true, nil
}

// equip gives a new subscription with a sink what it signs with, and seals what is secret of it.
func (e Editor) equip(s *Subscription) (webhook.Secret, error) {
	if s.Sink == "" {
		return nil, nil
	}
	secret := s.Secret
	if secret == nil {
		secret = webhook.NewSecret()
	}
	signs, err := e.c.newSigner(s.ID, secret)
	if err == nil {
		err = e.c.conceal(s, sealedTexts{})
	}
	if err != nil {
		return nil, fmt.Errorf("subscription %s: %w", cmp.Or(s.Name, s.ID), err)
	}
	s.signers = []signer{signs}
	s.Course = Course{Proof: Proof{Sink: s.Sink, State: ProofPending}}
	return secret, nil
}

func (c *Catalog) putSubscription(ctx context.Context, prev *object[subscriptionRecord], b *subscriptionBody) (*object[subscriptionRecord], error) {
	r, err := b.stored()
	if err != nil {
		return nil, err
	}
	return c.subscriptions.put(ctx, b.ID, prev, r)
}

// UpdateSubscription replaces the definition of the subscription that s.ID names; its positions stay. A stream that is
// new to it begins where starts says. The name and the owner are as they were, or left out; it stays with or without a
// sink. Secrets that are left out, or come as they are shown, stay. At another sink the endpoint has to prove anew that it
// wants the events. ifMatch is the header's value; empty: whatever is current. Errors: *InvalidError, ErrNotFound,
// ErrPreconditionFailed, ErrNoKeys, and those of the key ring, of starts and the table.
func (e Editor) UpdateSubscription(ctx context.Context, s Subscription, ifMatch string, starts Starts) (Subscription, error) {
	return e.redefine(ctx, s.ID, ifMatch, starts, func(was *subscriptionBody) (Subscription, error) {
		// Streams that were found come back from whoever writes what was read: that does not name them.
		if len(was.asked) == 0 && sameSet(s.Types, was.Types) && sameSet(s.Streams, was.Streams) {
			next := s
			next.Streams = nil
			return next, nil
		}
		return s, nil
	})
}

// PatchSubscription changes a subscription by a JSON merge patch (RFC 7396). All else is as with UpdateSubscription.
func (e Editor) PatchSubscription(ctx context.Context, id string, patch []byte, ifMatch string, starts Starts) (Subscription, error) {
	return e.redefine(ctx, id, ifMatch, starts, func(was *subscriptionBody) (Subscription, error) { return was.patched(patch) })
}

func (e Editor) redefine(ctx context.Context, id, ifMatch string, starts Starts, to func(was *subscriptionBody) (Subscription, error)) (Subscription, error) {
	c := e.c
	var was *subscriptionBody
	same := false
	o, err := c.changing(ctx, id, ifMatch, func(cur *object[subscriptionRecord], b *subscriptionBody) (*object[subscriptionRecord], error) {
		was = b
		s, err := to(was)
		if err != nil {
			return nil, err
		}
		next, err := c.succeeding(was, s)
		if err != nil {
			return nil, err
		}
		if same, err = next.sameAs(was); err != nil || same {
			return cur, err
		}
		if err := next.begin(ctx, was.Start, starts); err != nil {
			return nil, err
		}
		next.Changed = e.stamp()
		return c.putSubscription(ctx, cur, &next)
	})
	if err != nil {
		return Subscription{}, err
	}
	s, _ := subscribed(o)
	if same {
		return s, nil
	}
	// As after a creation, for the streams that are new.
	added := slices.DeleteFunc(slices.Clone(s.Streams), func(name string) bool { return slices.Contains(was.Streams, name) })
	if gone := c.gone(added); gone != "" {
		return Subscription{}, cmp.Or(c.undo(ctx, s, was), deletedMeanwhile(gone))
	}
	e.audit(ctx, Entry{Action: ActionChanged, Kind: "subscription", Name: id, Detail: changes(was.Subscription, s)})
	return s, nil
}

// undo puts a definition back in the place of the one that was just made, or deletes that where there was none, unless
// somebody has made another since.
func (c *Catalog) undo(ctx context.Context, made Subscription, was *subscriptionBody) error {
	_, err := c.changing(ctx, made.ID, made.ETag(), func(cur *object[subscriptionRecord], b *subscriptionBody) (*object[subscriptionRecord], error) {
		if was == nil {
			return nil, c.subscriptions.delete(ctx, cur)
		}
		back := *was
		if back.Sink == b.Sink {
			back.Course = b.Course
		}
		return c.putSubscription(ctx, cur, &back)
	})
	if errors.Is(err, ErrNotFound) || errors.Is(err, ErrPreconditionFailed) {
		return nil
	}
	return err
}

// changing makes a change of a subscription that is there and is what If-Match names, again from the newer state while
// others win the race. The definition's version decides, not the record's: the endpoint's proof, and the like, are
// written beside it.
func (c *Catalog) changing(ctx context.Context, id, ifMatch string, change func(cur *object[subscriptionRecord], b *subscriptionBody) (*object[subscriptionRecord], error)) (*object[subscriptionRecord], error) {
	return retry(ctx, "", func() (*object[subscriptionRecord], error) {
		cur := c.subscriptions.get(id)
		b := bodyOf(cur)
		switch {
		case b == nil:
			return nil, fmt.Errorf("subscription %s: %w", id, ErrNotFound)
		case !matches(ifMatch, b.ETag()):
			return nil, fmt.Errorf("subscription %s: %w", id, ErrPreconditionFailed)
		}
		return change(cur, b)
	})
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
	if (s.Sink == "") != (was.Sink == "") {
		v.add("/sink", "%s", keptWay(was.Sink))
	}
	if err := v.orNil(); err != nil {
		return subscriptionBody{}, err
	}
	s.ID, s.Name, s.Owner, s.Created, s.Changed = was.ID, was.Name, was.Owner, was.Created, was.Changed
	s.Incarnation, s.Course, s.signers, s.sealed, s.version = was.Incarnation, was.Course, was.signers, sealedTexts{}, uuid.Nil
	s.own()
	if s.Sink != "" {
		if err := c.recall(&s, &was.Subscription); err != nil {
			return subscriptionBody{}, err
		}
	}
	if err := s.prepare(was.Owner, c.cfg.Sinks); err != nil {
		return subscriptionBody{}, err
	}
	if s.Sink != "" {
		if err := c.conceal(&s, was.sealed); err != nil {
			return subscriptionBody{}, fmt.Errorf("subscription %s: %w", s.ID, err)
		}
		if s.Sink != was.Sink {
			s.Proof = Proof{Sink: s.Sink, State: ProofPending}
		}
	}
	body := subscriptionBody{Subscription: s, asked: s.Streams}
	var err error
	if body.Streams, err = c.streamsFor(s, was); err != nil {
		return body, err
	}
	body.Replays = slices.Clone(was.Replays)
	body.endReplays(func(stream string, _ int32) bool { return !slices.Contains(body.Streams, stream) })
	return body, nil
}

// sameAs reports whether two bodies ask for the same, with the same secrets.
func (b *subscriptionBody) sameAs(other *subscriptionBody) (bool, error) {
	if !slices.Equal(b.Streams, other.Streams) || b.sealed != other.sealed {
		return false, nil
	}
	of, err := b.digest()
	if err != nil {
		return false, err
	}
	before, err := other.digest()
	return of == before, err
}

// digest is that of all that a body asks for.
func (b *subscriptionBody) digest() (string, error) {
	asked := b.askedFor()
	_, digest, err := asked.identity()
	return digest, err
}

// changes tells what of a subscription was changed; of secrets, that they were.
func changes(was, is Subscription) string {
	told := []string{differences(was, is)}
	for _, secret := range []struct{ of, was, is string }{
		{"sinkcredential", was.sealed.Credential, is.sealed.Credential},
		{"legacySignature", was.sealed.Legacy, is.sealed.Legacy},
		{"headers", was.sealed.Headers, is.sealed.Headers},
	} {
		if secret.was != secret.is && secret.was != "" && secret.is != "" {
			told = append(told, "secrets of "+secret.of+" replaced")
		}
	}
	return strings.Join(slices.DeleteFunc(told, func(text string) bool { return text == "" }), "; ")
}

// begin says where the streams begin: where they did, and those that are new where starts says.
func (b *subscriptionBody) begin(ctx context.Context, was map[string]Position, starts Starts) error {
	b.Start = make(map[string]Position, len(b.Streams))
	var added []string
	for _, name := range b.Streams {
		if at, ok := was[name]; ok {
			b.Start[name] = at
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
		b.Start[name] = at
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

// ResetSubscription begins a subscription that sessions read anew: all that was read and acknowledged is forgotten. start
// has the position of each of its streams that exists, and no other's. ifMatch is as with UpdateSubscription. Errors:
// *InvalidError, ErrNotFound, ErrPreconditionFailed, ErrPushed, and those of the table.
func (e Editor) ResetSubscription(ctx context.Context, id string, start map[string]Position, ifMatch string) (Subscription, error) {
	s, err := e.restart(ctx, id, start, ifMatch, func(b *subscriptionBody) error {
		if b.Sink != "" {
			return fmt.Errorf("subscription %s: %w", id, ErrPushed)
		}
		return nil
	})
	if err == nil {
		e.audit(ctx, Entry{Action: ActionChanged, Kind: "subscription", Name: id, Detail: "reset: it is read from another position"})
	}
	return s, err
}

// restart begins another incarnation, where permitted lets it.
func (e Editor) restart(ctx context.Context, id string, start map[string]Position, ifMatch string, permitted func(*subscriptionBody) error) (Subscription, error) {
	c := e.c
	o, err := c.changing(ctx, id, ifMatch, func(cur *object[subscriptionRecord], b *subscriptionBody) (*object[subscriptionRecord], error) {
		if err := permitted(b); err != nil {
			return nil, err
		}
		begins, err := c.wholly(b, start)
		if err != nil {
			return nil, err
		}
		b.Start, b.Incarnation, b.Replays = begins, uuid.NewString(), nil
		b.version, b.Changed = uuid.Nil, e.stamp()
		return c.putSubscription(ctx, cur, b)
	})
	s, _ := subscribed(o)
	return s, err
}

// wholly checks that positions are of all streams that a subscription reads, and of no others. Of one that is gone there
// is none to give: it stays.
func (c *Catalog) wholly(b *subscriptionBody, at map[string]Position) (map[string]Position, error) {
	for _, name := range slices.Sorted(maps.Keys(at)) {
		if !slices.Contains(b.Streams, name) {
			return nil, invalid("", "positions of the streams that the subscription reads; %q is none of them", name)
		}
	}
	whole := maps.Clone(at)
	if whole == nil {
		whole = map[string]Position{}
	}
	for _, name := range b.Streams {
		if _, given := at[name]; given {
			continue
		}
		if _, ok := c.Stream(name); ok {
			return nil, invalid("", "a position of every stream that the subscription reads; there is none of %q", name)
		}
		whole[name] = b.Start[name]
	}
	return unborn(whole), nil
}

// DeleteSubscription deletes a subscription. One that is created under the same name later is another: it has another
// incarnation, and other secrets. Errors: ErrNotFound, ErrPreconditionFailed, and those of the table.
func (e Editor) DeleteSubscription(ctx context.Context, id, ifMatch string) error {
	c := e.c
	_, err := c.changing(ctx, id, ifMatch, func(cur *object[subscriptionRecord], _ *subscriptionBody) (*object[subscriptionRecord], error) {
		return nil, c.subscriptions.delete(ctx, cur)
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

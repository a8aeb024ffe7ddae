package catalog

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/eventissuer/eventissuer/broker"
)

// attempts of a change that names no version, each from the newer state, after a little.
const (
	attempts  = 12
	retryWait = 10 * time.Millisecond // at first, and longer each time
)

// CreateEventType registers an event type, with its first schema where text is not empty. Errors: *InvalidError,
// ErrExists, and those of the table.
func (e Editor) CreateEventType(ctx context.Context, t EventType, text []byte) (EventType, error) {
	c := e.c
	if err := e.complete(&t); err != nil {
		return EventType{}, err
	}
	cur := c.types.get(t.Type)
	if _, ok := registered(cur); ok {
		return EventType{}, fmt.Errorf("event type %s: %w", t.Type, ErrExists)
	}
	body, err := e.firstBody(ctx, cur, t, text)
	if err != nil {
		return EventType{}, inType(err)
	}
	o, err := c.types.put(ctx, t.Type, cur, body)
	switch {
	case isConflict(err):
		return EventType{}, fmt.Errorf("event type %s: %w", t.Type, ErrExists)
	case err != nil:
		return EventType{}, err
	}
	// The stream may have been deleted between the check and this record's place in the log. Then its deletion came
	// first, and did not see this type: it has to go again.
	if _, ok := c.Stream(t.Stream); !ok {
		if err := c.bury(ctx, o, e.stamp()); err != nil && !isConflict(err) {
			return EventType{}, err
		}
		return EventType{}, noStream(t.Stream)
	}
	t, _ = registered(o)
	e.audit(ctx, Entry{Action: ActionCreated, Kind: "event-type", Name: t.Type, Detail: differences(EventType{}, t)})
	if t.LatestVersion > 0 {
		e.audit(ctx, Entry{Action: ActionRegistered, Kind: "schema", Name: t.Type, Version: t.LatestVersion})
	}
	return t, nil
}

// firstBody is what a new event type begins with. Under a name that was used before, the numbers of schemas go on, so
// that what old events name stays what it was; the last schema may be taken up again.
func (e Editor) firstBody(ctx context.Context, grave *object[typeBody], t EventType, text []byte) (typeBody, error) {
	body := typeBody{First: 1}
	if grave != nil {
		body.Versions = grave.v.Versions
		body.First = len(body.Versions) + 1
	}
	t.Created, t.Changed = e.stamp(), e.stamp()
	body.EventType = t
	if len(text) == 0 {
		body.adopt()
		return body, nil
	}
	if n := len(body.Versions); n > 0 {
		fresh, err := e.compile(t.Type, text)
		if err != nil {
			return body, err
		}
		if body.Versions[n-1].Digest == fresh.digest {
			body.First = n
			body.adopt()
			return body, nil
		}
	}
	fresh := &object[typeBody]{key: t.Type, v: body}
	body, _, err := e.withSchema(ctx, fresh, t, text, false)
	return body, err
}

// UpdateEventType replaces a registration, and adds text to its schemas where it is another than the latest; without
// text the schemas stay. ifMatch is the header's value; empty: whatever is current. Errors: *InvalidError,
// *IncompatibleError, ErrNotFound, ErrPreconditionFailed, and those of the table.
func (e Editor) UpdateEventType(ctx context.Context, t EventType, text []byte, ifMatch string) (EventType, error) {
	c := e.c
	if err := e.complete(&t); err != nil {
		return EventType{}, err
	}
	changed, added := false, false
	var was EventType
	o, err := retry(ctx, ifMatch, func() (*object[typeBody], error) {
		cur := c.types.get(t.Type)
		var ok bool
		was, ok = registered(cur)
		if !ok {
			cur = nil
		}
		if err := permit(cur, "event type "+t.Type, ifMatch); err != nil {
			return nil, err
		}
		next := t
		next.Created, next.FormerStreams = was.Created, was.FormerStreams
		if next.Stream != was.Stream {
			next.FormerStreams = append(slices.Clone(was.FormerStreams), was.Stream)
		}
		body := cur.v
		body.EventType = next
		var err error
		if added = false; len(text) > 0 {
			if body, added, err = e.withSchema(ctx, cur, next, text, false); err != nil {
				return nil, err
			}
		}
		if err := c.checkLatest(cur, next, added); err != nil {
			return nil, err
		}
		if changed = added || !next.same(was); !changed {
			return cur, nil
		}
		body.Changed = e.stamp()
		body.adopt()
		return c.types.put(ctx, t.Type, cur, body)
	})
	if err != nil {
		return EventType{}, inType(err)
	}
	t, _ = registered(o)
	if changed {
		e.audit(ctx, Entry{Action: ActionChanged, Kind: "event-type", Name: t.Type, Detail: differences(was, t)})
	}
	if added {
		e.audit(ctx, Entry{Action: ActionRegistered, Kind: "schema", Name: t.Type, Version: t.LatestVersion})
	}
	return t, nil
}

// checkLatest holds the examples of a changed type to the schema that it has already.
func (c *Catalog) checkLatest(cur *object[typeBody], t EventType, added bool) error {
	latest, ok := c.latest(cur)
	if !ok || added || len(t.Examples) == 0 {
		return nil
	}
	s, err := c.Compiled(latest)
	if err != nil {
		return err
	}
	v := &InvalidError{}
	t.fits(v, s)
	return v.orNil()
}

// DeleteEventType deletes a registration. Its schemas can be looked up still: events may name them. Errors: ErrNotFound,
// ErrPreconditionFailed, and those of the table.
func (e Editor) DeleteEventType(ctx context.Context, typ, ifMatch string) error {
	_, err := retry(ctx, ifMatch, func() (*object[typeBody], error) {
		cur := e.c.types.get(typ)
		if _, ok := registered(cur); !ok {
			cur = nil
		}
		if err := permit(cur, "event type "+typ, ifMatch); err != nil {
			return nil, err
		}
		return nil, e.c.bury(ctx, cur, e.stamp())
	})
	if err == nil {
		e.audit(ctx, Entry{Action: ActionDeleted, Kind: "event-type", Name: typ})
	}
	return err
}

// bury deletes a registration. One that has had schemas leaves their list behind.
func (c *Catalog) bury(ctx context.Context, o *object[typeBody], by Stamp) error {
	if len(o.v.Versions) == 0 {
		return c.types.delete(ctx, o)
	}
	grave := typeBody{Phase: phaseDeleting, Versions: o.v.Versions, First: len(o.v.Versions) + 1}
	grave.Type, grave.Changed = o.v.Type, by
	_, err := c.types.put(ctx, o.key, o, grave)
	return err
}

// complete fills in what was left out, and checks.
func (e Editor) complete(t *EventType) error {
	c := e.c
	t.fill(c.cfg.Owner)
	v := &InvalidError{}
	if !e.own && IsReservedType(t.Type) {
		v.add("/type", "a type of your own: %s is this server's, whose readers know its control messages by it; got %q", reservedTypes+"*", t.Type)
	}
	t.check(v)
	if err := v.orNil(); err != nil {
		return err
	}
	if _, ok := c.Stream(t.Stream); !ok {
		return noStream(t.Stream)
	}
	return nil
}

func noStream(name string) error {
	return invalid("/stream", "a stream that exists; there is none named %q: create it first", name)
}

// permit checks that an object is there and is the one that If-Match names.
func permit[T any](cur *object[T], what, ifMatch string) error {
	switch {
	case cur == nil:
		return fmt.Errorf("%s: %w", what, ErrNotFound)
	case !matches(ifMatch, etag(cur.u)):
		return fmt.Errorf("%s: %w", what, ErrPreconditionFailed)
	}
	return nil
}

// retry makes a change again, from the newer state, while others win the race; whoever names a version is told at once.
func retry[T any](ctx context.Context, ifMatch string, change func() (T, error)) (T, error) {
	for n := 1; ; n++ {
		v, err := change()
		switch {
		case !isConflict(err):
			return v, err
		case ifMatch != "":
			return v, fmt.Errorf("%w (%w)", ErrPreconditionFailed, err)
		case n == attempts:
			return v, fmt.Errorf("%w (%w)", ErrBusy, err)
		}
		select {
		case <-time.After(rand.N(time.Duration(n) * retryWait)):
		case <-ctx.Done():
			return v, ctx.Err()
		}
	}
}

// UpdateStream changes a stream. More partitions for a stream whose events have keys are refused unless force. Errors:
// *InvalidError, ErrNotFound, ErrPreconditionFailed, ErrKeyOrder, and those of the table and the log; after one of the
// log the change is recorded, and asking for it again finishes it.
func (e Editor) UpdateStream(ctx context.Context, name string, p StreamPatch, ifMatch string, force bool) (Stream, error) {
	c := e.c
	v := &InvalidError{}
	if p.Partitions != nil {
		checkPartitions(v, *p.Partitions)
	}
	if p.Retention != nil {
		checkRetention(v, *p.Retention)
	}
	checkTexts(v, deref(p.Owner), deref(p.Description))
	if p.State != nil {
		given := p.State.onto(State{})
		given.check(v)
	}
	if err := v.orNil(); err != nil {
		return Stream{}, err
	}
	// The object first: of two racing changes its version decides, and what the topic lacks is made up for from it.
	changed := false
	var before Stream
	o, err := retry(ctx, ifMatch, func() (*object[streamBody], error) {
		changed = false
		cur := c.streams.get(name)
		if _, ok := visible(cur); !ok {
			cur = nil
		}
		if err := permit(cur, "stream "+name, ifMatch); err != nil {
			return nil, err
		}
		next, err := c.patched(cur.v, p, force)
		if err != nil || next == cur.v {
			return cur, err
		}
		changed, before = true, cur.v.Stream
		return c.streams.put(ctx, name, cur, next)
	})
	if err != nil {
		return Stream{}, err
	}
	if changed {
		e.audit(ctx, Entry{Action: ActionChanged, Kind: "stream", Name: name, Detail: differences(before, o.v.Stream)})
	}
	s, _ := visible(o)
	return s, c.fit(ctx, o)
}

func (c *Catalog) patched(b streamBody, p StreamPatch, force bool) (streamBody, error) {
	if p.Partitions != nil && *p.Partitions != b.Partitions {
		switch keyed := b.Adopted || len(c.EventTypesOf(b.Name)) > 0; {
		case *p.Partitions < b.Partitions:
			return b, invalid("/partitions", "partitions only grow: %d or more; got %d", b.Partitions, *p.Partitions)
		case keyed && !force:
			return b, fmt.Errorf("stream %s: %w: force it if that is no matter", b.Name, ErrKeyOrder)
		}
		b.Partitions = *p.Partitions
	}
	if p.Retention != nil {
		b.Retention = *p.Retention
	}
	if p.Owner != nil {
		b.Owner = cmp.Or(*p.Owner, c.cfg.Owner)
	}
	if p.Description != nil {
		b.Description = *p.Description
	}
	if p.State != nil {
		b.State = b.patchedState(*p.State)
	}
	return b, nil
}

// fit makes the topic as the stream says.
func (c *Catalog) fit(ctx context.Context, o *object[streamBody]) error {
	info, err := c.topics.Describe(ctx, o.v.Topic)
	if err != nil {
		return fmt.Errorf("topic of stream %s: %w", o.key, err)
	}
	var change broker.TopicChange
	if info.Partitions < o.v.Partitions {
		change.Partitions = &o.v.Partitions
	}
	if want := time.Duration(o.v.Retention); want != 0 && !sameRetention(want, info.Retention) {
		change.Retention = &want
	}
	if change.Partitions == nil && change.Retention == nil {
		return nil
	}
	if err := c.topics.Change(ctx, o.v.Topic, change); err != nil {
		return fmt.Errorf("topic of stream %s: %w", o.key, err)
	}
	return nil
}

func sameRetention(a, b time.Duration) bool { return a == b || a < 0 && b < 0 }

func deref(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

// isPassing reports whether an error of the log leaves open what was done, or may pass.
func isPassing(err error) bool {
	return errors.Is(err, broker.ErrUnavailable) || errors.Is(err, broker.ErrClosed) ||
		errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)
}

package catalog

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/eventissuer/eventissuer/broker"
)

// attempts of a change that names no version, each from the newer state.
const attempts = 4

// CreateEventType registers an event type. Errors: *InvalidError, ErrExists, and those of the table.
func (c *Catalog) CreateEventType(ctx context.Context, t EventType) (EventType, error) {
	if err := c.complete(&t); err != nil {
		return EventType{}, err
	}
	if c.types.get(t.Type) != nil {
		return EventType{}, fmt.Errorf("event type %s: %w", t.Type, ErrExists)
	}
	o, err := c.types.put(ctx, t.Type, nil, t)
	switch {
	case isConflict(err):
		return EventType{}, fmt.Errorf("event type %s: %w", t.Type, ErrExists)
	case err != nil:
		return EventType{}, err
	}
	// The stream may have been deleted between the check and this record's place in the log. Then its deletion came
	// first, and did not see this type: it has to go again.
	if _, ok := c.Stream(t.Stream); !ok {
		if err := c.types.delete(ctx, o); err != nil && !isConflict(err) {
			return EventType{}, err
		}
		return EventType{}, noStream(t.Stream)
	}
	t, _ = typeOf(o)
	return t, nil
}

// UpdateEventType replaces a registration. ifMatch is the header's value; empty: whatever is current. Errors:
// *InvalidError, ErrNotFound, ErrPreconditionFailed, and those of the table.
func (c *Catalog) UpdateEventType(ctx context.Context, t EventType, ifMatch string) (EventType, error) {
	if err := c.complete(&t); err != nil {
		return EventType{}, err
	}
	o, err := retry(ifMatch, func() (*object[EventType], error) {
		cur := c.types.get(t.Type)
		if err := permit(cur, "event type "+t.Type, ifMatch); err != nil {
			return nil, err
		}
		return c.types.put(ctx, t.Type, cur, t)
	})
	t, _ = typeOf(o)
	return t, err
}

// DeleteEventType deletes a registration. Errors: ErrNotFound, ErrPreconditionFailed, and those of the table.
func (c *Catalog) DeleteEventType(ctx context.Context, typ, ifMatch string) error {
	_, err := retry(ifMatch, func() (*object[EventType], error) {
		cur := c.types.get(typ)
		if err := permit(cur, "event type "+typ, ifMatch); err != nil {
			return nil, err
		}
		return nil, c.types.delete(ctx, cur)
	})
	return err
}

// complete fills in what was left out, and checks.
func (c *Catalog) complete(t *EventType) error {
	t.Owner = cmp.Or(t.Owner, c.cfg.Owner)
	t.Audience = cmp.Or(t.Audience, Internal)
	t.KeyAttribute = cmp.Or(t.KeyAttribute, "subject")
	v := &InvalidError{}
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
func retry[T any](ifMatch string, change func() (T, error)) (T, error) {
	for n := 1; ; n++ {
		v, err := change()
		if isConflict(err) {
			if ifMatch == "" && n < attempts {
				continue
			}
			err = fmt.Errorf("%w (%w)", ErrPreconditionFailed, err)
		}
		return v, err
	}
}

// UpdateStream changes a stream. More partitions for a stream whose events have keys are refused unless force. Errors:
// *InvalidError, ErrNotFound, ErrPreconditionFailed, ErrKeyOrder, and those of the table and the log; after one of the
// log the change is recorded, and asking for it again finishes it.
func (c *Catalog) UpdateStream(ctx context.Context, name string, p StreamPatch, ifMatch string, force bool) (Stream, error) {
	v := &InvalidError{}
	if p.Partitions != nil {
		checkPartitions(v, *p.Partitions)
	}
	if p.Retention != nil {
		checkRetention(v, *p.Retention)
	}
	checkTexts(v, deref(p.Owner), deref(p.Description))
	if err := v.orNil(); err != nil {
		return Stream{}, err
	}
	// The object first: of two racing changes its version decides, and what the topic lacks is made up for from it.
	o, err := retry(ifMatch, func() (*object[streamBody], error) {
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
		return c.streams.put(ctx, name, cur, next)
	})
	if err != nil {
		return Stream{}, err
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
		b.Owner = *p.Owner
	}
	if p.Description != nil {
		b.Description = *p.Description
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

package catalog

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/eventissuer/eventissuer/broker"
)

// A stream is an object and a topic, made and deleted in an order in which a crash at any point leaves something that
// the next attempt, of whichever replica, finishes, and never a stream without its topic, nor somebody else's topic
// taken for ours:
//
//	create: the object as "creating" (takes the name, and says that the topic is to be ours) – the topic – the object
//	delete: the object as "deleting" (nobody finds the stream any more) – the topic – the object's deletion
//
// "deleting" is never undone, so that whoever sees it may finish it. A deletion that spares streams with event types or
// subscriptions writes "checking" first: those made after it see that, and those before it are seen. Nothing is deleted
// by it, and whoever finds it left over makes the stream ready again.
//
// With the topic first, a crash would leave a topic that nobody knows to be ours, and of two racing creations the loser
// could make it with its own number of partitions.

// CreateStream creates a stream and its topic. Where s.Topic names a topic that exists, that is adopted. Errors:
// *InvalidError, ErrExists, and those of the table and the log; after one of those it may be asked for again.
func (e Editor) CreateStream(ctx context.Context, s Stream) (Stream, error) {
	c := e.c
	named := s.Topic != ""
	sized := s.Partitions != 0
	s.Topic = cmp.Or(s.Topic, c.cfg.TopicPrefix+s.Name)
	s.Partitions = cmp.Or(s.Partitions, c.cfg.Partitions)
	s.Owner = cmp.Or(s.Owner, c.cfg.Owner)
	s.Format = cmp.Or(s.Format, FormatCloudEvents)
	v := &InvalidError{}
	s.check(v)
	if err := v.orNil(); err != nil {
		return Stream{}, err
	}
	claim, ours, err := c.claim(ctx, s, named, sized)
	if err != nil {
		return Stream{}, err
	}
	if rival := c.rival(claim); rival != nil {
		c.abandon(ctx, claim)
		return Stream{}, notItsOwn(s.Topic, rival)
	}
	if s, err = c.establish(ctx, claim, ours); err == nil {
		e.audit(ctx, Entry{Action: ActionCreated, Kind: "stream", Name: s.Name})
	}
	return s, err
}

// claim takes the name. ours says that the topic, if it is there, was made under an earlier claim of the name.
func (c *Catalog) claim(ctx context.Context, s Stream, named, sized bool) (o *object[streamBody], ours bool, err error) {
	for range attempts {
		left, err := c.vacate(ctx, s.Name)
		if err != nil {
			return nil, false, err
		}
		ours = left != nil && left.v.Topic == s.Topic && !left.v.Adopted
		if named {
			if err := c.free(ctx, s); err != nil {
				return nil, false, err
			}
		}
		want := s
		info, err := c.topics.Describe(ctx, s.Topic)
		switch {
		case errors.Is(err, broker.ErrNoTopic):
		case err != nil:
			return nil, false, fmt.Errorf("topic of stream %s: %w", s.Name, err)
		case ours: // made by a creation that did not come to its end
		case !named:
			if err := c.refuseLeftover(ctx, s); err != nil {
				return nil, false, err
			}
			continue
		default:
			if err := c.adopt(&want, info, sized); err != nil {
				return nil, false, err
			}
		}
		want.State = want.State.filled(want.Compaction) // which is known now, also of a topic that is adopted
		o, err := c.streams.put(ctx, s.Name, left, streamBody{Stream: want, Phase: phaseCreating})
		if isConflict(err) { // somebody was first, whom this replica may have yet to see: what becomes of theirs decides
			if err := c.table.Sync(ctx, c.streams.id(s.Name)); err != nil {
				return nil, false, err
			}
			continue
		}
		return o, ours, err
	}
	return nil, false, exists(s.Name)
}

func exists(name string) error { return fmt.Errorf("stream %s: %w", name, ErrExists) }

// vacate returns what a creation has to replace under the name: nothing, or a claim that was left behind. It waits for
// a creation or deletion that is under way and finishes a deletion that is not complete.
func (c *Catalog) vacate(ctx context.Context, name string) (*object[streamBody], error) {
	deadline := time.After(c.cfg.ClaimWait)
	poll := time.NewTicker(20 * time.Millisecond)
	defer poll.Stop()
	for {
		cur := c.streams.get(name)
		switch {
		case cur == nil:
			return nil, nil
		case cur.v.Phase == phaseReady:
			return nil, exists(name)
		case cur.v.Phase == phaseDeleting:
			if err := c.finishDeletion(ctx, cur); err != nil && !isConflict(err) {
				return nil, err
			}
			continue
		}
		select {
		case <-poll.C:
		case <-deadline:
			if cur.v.Phase == phaseChecking {
				return nil, cmp.Or(c.spare(ctx, cur), exists(name))
			}
			return cur, nil
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// refuseLeftover says why a topic that is there already is not taken without being named: it may be a deleted stream's,
// with events that nobody expects. nil: the name is taken by now, so look again.
func (c *Catalog) refuseLeftover(ctx context.Context, s Stream) error {
	// Unless another replica is just creating the stream, and this one has not seen it yet.
	if err := c.table.Sync(ctx, c.streams.id(s.Name)); err != nil {
		return err
	}
	if c.streams.get(s.Name) != nil {
		return nil
	}
	return invalid("/topic", "topic %s is there already: name it to adopt it with the events that are in it", s.Topic)
}

// adopt takes a topic that is there as it is.
func (c *Catalog) adopt(s *Stream, info broker.TopicInfo, sized bool) error {
	v := &InvalidError{}
	if sized && s.Partitions != info.Partitions {
		v.add("/partitions", "that of the topic adopted, %d, or nothing; got %d", info.Partitions, s.Partitions)
	}
	if s.Retention != 0 && !sameRetention(time.Duration(s.Retention), info.Retention) {
		v.add("/retention", "that of the topic adopted, %v, or nothing; got %v: change it afterwards", Duration(info.Retention), s.Retention)
	}
	if s.Compaction && !info.Compaction {
		v.add("/compaction", "the topic adopted is not compacted")
	}
	s.Adopted, s.Partitions, s.Retention, s.Compaction = true, info.Partitions, Duration(info.Retention), info.Compaction
	return v.orNil()
}

// establish makes the topic of a claimed name and then the stream. See claim for ours.
func (c *Catalog) establish(ctx context.Context, claim *object[streamBody], ours bool) (Stream, error) {
	s := claim.v.Stream
	made := false
	if !s.Adopted {
		err := c.topics.Create(ctx, s.Topic, s.topicConfig(c.cfg.ReplicationFactor))
		made = err == nil
		switch {
		case made || errors.Is(err, broker.ErrTopicExists) && ours:
		case isPassing(err):
			return Stream{}, fmt.Errorf("topic of stream %s: %w", s.Name, err) // the claim stays, for the next attempt
		default:
			c.abandon(ctx, claim)
			if errors.Is(err, broker.ErrTopicName) {
				return Stream{}, c.refusedName(s, err)
			}
			if errors.Is(err, broker.ErrTopicExists) {
				return Stream{}, invalid("/topic", "topic %s was made by somebody else meanwhile: name it to adopt it", s.Topic)
			}
			return Stream{}, fmt.Errorf("topic of stream %s: %w", s.Name, err)
		}
	}
	info, err := c.describeNew(ctx, s.Topic)
	if err != nil {
		return Stream{}, fmt.Errorf("topic of stream %s: %w", s.Name, err)
	}
	s.Partitions, s.Retention = info.Partitions, Duration(info.Retention)
	o, err := c.streams.put(ctx, s.Name, claim, streamBody{Stream: s, Epoch: info.Epoch.Hex()})
	switch {
	case isConflict(err):
		c.leave(ctx, s, made, info.Epoch)
		return Stream{}, exists(s.Name)
	case err != nil:
		return Stream{}, err
	}
	s, _ = visible(o)
	return s, nil
}

// refusedName says which of the caller's words made a name that the log refuses for a topic.
func (c *Catalog) refusedName(s Stream, err error) error {
	pointer := "/topic"
	if s.Topic == c.cfg.TopicPrefix+s.Name {
		pointer = "/name"
	}
	return invalid(pointer, "a name that differs from every other in more than . and _; the log refuses topic %s: %v", s.Topic, err)
}

// describeNew describes a topic that was just made: not every broker knows it at once.
func (c *Catalog) describeNew(ctx context.Context, topic string) (info broker.TopicInfo, err error) {
	for range 50 {
		if info, err = c.topics.Describe(ctx, topic); !errors.Is(err, broker.ErrNoTopic) {
			return info, err
		}
		select {
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
			return info, ctx.Err()
		}
	}
	return info, err
}

// leave deletes the topic that a creation made whose claim was taken over after long, unless the other uses it.
func (c *Catalog) leave(ctx context.Context, s Stream, made bool, epoch broker.Epoch) {
	if cur := c.streams.get(s.Name); !made || cur != nil && cur.v.Topic == s.Topic || c.shared(s) {
		return
	}
	if err := c.deleteTopic(ctx, s.Topic, epoch.Hex()); err != nil {
		c.log.Warn("a topic is left over", "topic", s.Topic, "error", err)
	}
}

// DeleteStream deletes a stream, and its topic unless it was adopted. One that has event types or subscriptions is
// refused, unless by force, which deletes the event types too and leaves the subscriptions failing. Errors: ErrNotFound,
// ErrPreconditionFailed, ErrInUse, and those of the table and the log; after one of those the stream may be gone, and
// asking again, or Run in time, brings it to an end.
func (e Editor) DeleteStream(ctx context.Context, name, ifMatch string, force bool) error {
	c := e.c
	marked, err := retry(ctx, ifMatch, func() (*object[streamBody], error) { return c.condemn(ctx, name, ifMatch, force) })
	if err != nil {
		return err
	}
	e.audit(ctx, Entry{Action: ActionDeleted, Kind: "stream", Name: name})
	if err := c.finishDeletion(ctx, marked); !isConflict(err) {
		return err
	}
	// Another replica has finished it, unless one of an older version has made the stream ready again.
	cur := c.streams.get(name)
	if s, ok := visible(cur); ok && !s.Adopted && cur.v.Epoch == marked.v.Epoch {
		return fmt.Errorf("stream %s: %w", name, ErrPreconditionFailed)
	}
	return nil
}

// condemn marks a stream for good as to be deleted.
func (c *Catalog) condemn(ctx context.Context, name, ifMatch string, force bool) (*object[streamBody], error) {
	cur := c.streams.get(name)
	if cur != nil && cur.v.Phase == phaseDeleting {
		return cur, nil
	}
	if cur != nil && cur.v.Phase == phaseCreating {
		cur = nil
	}
	if err := permit(cur, "stream "+name, ifMatch); err != nil {
		return nil, err
	}
	if force {
		return c.enter(ctx, cur, phaseDeleting)
	}
	if err := c.unused(name); err != nil {
		return nil, err
	}
	mine := cur.v.Phase == phaseReady // else another deletion is checking: its mark serves this one, too
	if mine {
		var err error
		if cur, err = c.enter(ctx, cur, phaseChecking); err != nil {
			return nil, err
		}
	}
	// A type or subscription may have been made just before the mark. One that comes after it sees the mark, and goes again.
	err := c.unused(name)
	if err == nil {
		var marked *object[streamBody]
		if marked, err = c.enter(ctx, cur, phaseDeleting); err == nil {
			return marked, nil
		}
	}
	if mine && !isConflict(err) {
		if undo := c.spare(ctx, cur); undo != nil {
			c.log.Warn("a stream that was not deleted cannot be found for some minutes", "stream", name, "error", undo)
		}
	}
	return nil, err
}

func (c *Catalog) enter(ctx context.Context, o *object[streamBody], p phase) (*object[streamBody], error) {
	body := o.v
	body.Phase = p
	return c.streams.put(ctx, o.key, o, body)
}

// spare makes a stream ready again that was marked to be checked. That it has moved on meanwhile is no error.
func (c *Catalog) spare(ctx context.Context, o *object[streamBody]) error {
	// Also where the caller has gone: until it is done nobody finds the stream.
	if _, err := c.enter(context.WithoutCancel(ctx), o, phaseReady); err != nil && !isConflict(err) {
		return err
	}
	return nil
}

func (c *Catalog) unused(stream string) error {
	var users []string
	if types := c.EventTypesOf(stream); len(types) > 0 {
		users = append(users, fmt.Sprintf("%d event types, %s among them", len(types), types[0].Type))
	}
	if ids := c.SubscriptionsOf(stream); len(ids) > 0 {
		first, _ := c.Subscription(ids[0])
		users = append(users, fmt.Sprintf("%d subscriptions, %s among them", len(ids), cmp.Or(first.Name, ids[0])))
	}
	if users == nil {
		return nil
	}
	return fmt.Errorf("stream %s: %w by %s", stream, ErrInUse, strings.Join(users, ", and "))
}

// finishDeletion does what is left of a deletion once it is marked. Several replicas may do it at once.
func (c *Catalog) finishDeletion(ctx context.Context, o *object[streamBody]) error {
	for _, t := range c.EventTypesOf(o.key) {
		if err := c.As(Actor{Name: "stream " + o.key}).DeleteEventType(ctx, t.Type, ""); err != nil && !errors.Is(err, ErrNotFound) {
			return err
		}
	}
	if s := o.v.Stream; !s.Adopted && !c.shared(s) {
		if err := c.deleteTopic(ctx, s.Topic, o.v.Epoch); err != nil {
			return fmt.Errorf("stream %s is deleted, its topic is not yet: %w", o.key, err)
		}
	}
	return c.streams.delete(ctx, o)
}

// shared reports whether another stream uses the topic, as an earlier version of the program let it.
func (c *Catalog) shared(s Stream) bool {
	for _, o := range c.streams.all() {
		if o.v.Topic == s.Topic && o.key != s.Name && (o.v.Phase == phaseReady || o.v.Phase == phaseChecking) {
			return true
		}
	}
	return false
}

// deleteTopic deletes a topic in the life in which it was ours. Without that check a replica that was paused between
// the mark and here would delete the topic of the next stream of this name.
func (c *Catalog) deleteTopic(ctx context.Context, topic, epoch string) error {
	info, err := c.topics.Describe(ctx, topic)
	if err == nil && (epoch == "" || info.Epoch.Hex() == epoch) {
		err = c.topics.Delete(ctx, topic)
	}
	if errors.Is(err, broker.ErrNoTopic) {
		return nil
	}
	return err
}

// reconcile finishes what was left half done.
func (c *Catalog) reconcile(ctx context.Context) {
	for _, o := range c.streams.all() {
		var err error
		switch o.v.Phase {
		case phaseDeleting:
			if err = c.finishDeletion(ctx, o); isConflict(err) {
				err = nil
			}
		case phaseChecking: // if its deletion is under way still, that begins anew
			err = c.spare(ctx, o)
		case phaseReady:
			err = c.fit(ctx, o)
		case phaseCreating: // the next creation takes it over; nothing is lost meanwhile
		}
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			c.log.Warn("a stream is not as it should be", "stream", o.key, "error", err)
		}
	}
}

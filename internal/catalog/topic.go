package catalog

import (
	"context"
	"time"
)

// A topic is of one stream at most. The table makes names unique, not topics: so a creation looks before it claims the
// name (free), and once more when its claim is in the log (rival).

// free sees to it that no other stream has the topic that s is to adopt: it finishes a deletion that is not complete, and
// ends a creation that has long not come to its end, unless that one makes the topic.
func (c *Catalog) free(ctx context.Context, s Stream) error {
	deadline := time.After(c.cfg.ClaimWait)
	poll := time.NewTicker(20 * time.Millisecond)
	defer poll.Stop()
	for {
		o := c.holder(s.Topic, s.Name)
		switch {
		case o == nil:
			return nil
		case o.v.Phase == phaseDeleting:
			if err := c.finishDeletion(ctx, o); err != nil && !isConflict(err) {
				return err
			}
			continue
		case o.v.Phase != phaseCreating:
			return notItsOwn(s.Topic, o)
		}
		select {
		case <-poll.C:
		case <-deadline:
			if o.v.Adopted {
				c.abandon(ctx, o)
			}
			if o = c.holder(s.Topic, s.Name); o != nil {
				return notItsOwn(s.Topic, o)
			}
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// holder returns another stream that has the topic, in whatever phase.
func (c *Catalog) holder(topic, except string) *object[streamBody] {
	for _, o := range c.streams.all() {
		if o.v.Topic == topic && o.key != except {
			return o
		}
	}
	return nil
}

// rival returns another stream to which the topic of a claim belongs. Of claims that race for a topic the first in the
// log has it: whoever comes later has applied that one by now, and sees it, or what became of it.
func (c *Catalog) rival(claim *object[streamBody]) *object[streamBody] {
	for _, o := range c.streams.all() {
		if o.v.Topic == claim.v.Topic && o.key != claim.key && (o.v.Phase != phaseCreating || o.offset < claim.offset) {
			return o
		}
	}
	return nil
}

func notItsOwn(topic string, of *object[streamBody]) error {
	if of.v.Phase == phaseCreating {
		return invalid("/topic", "a topic of its own; %s is that of stream %s, whose creation has not come to its end: create that again first", topic, of.key)
	}
	return invalid("/topic", "a topic of its own; %s is that of stream %s", topic, of.key)
}

// abandon gives up a claim.
func (c *Catalog) abandon(ctx context.Context, claim *object[streamBody]) {
	if err := c.streams.delete(ctx, claim); err != nil && !isConflict(err) {
		c.log.Warn("a stream that could not be created still holds its name", "stream", claim.key, "error", err)
	}
}

package group

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/eventissuer/eventissuer/broker"
)

// DeadLetter is an event whose attempts are used up.
type DeadLetter struct {
	Subscription string          `json:"subscription"`
	Incarnation  string          `json:"incarnation"`
	Stream       string          `json:"stream"`
	Partition    int32           `json:"partition"`
	Offset       int64           `json:"offset"`
	Attempts     int             `json:"attempts"`
	Reason       Reason          `json:"reason"` // for which it came back last
	At           time.Time       `json:"at"`
	Event        json.RawMessage `json:"event"` // null where the letter would be too large with it: the stream has it
}

const (
	deadPartitions = 12
	deadRetention  = 30 * 24 * time.Hour
	deadRetry      = time.Second
	deadScan       = 4 << 20 // of the log, for one page
	deadPage       = 100
)

// bury has an item go to the dead letters. Only once the log has acknowledged that does it count as acknowledged.
func (g *group) bury(i *item) {
	g.dead = append(g.dead, i)
	nudge(g.graves)
}

// buryAll writes dead letters until ctx ends. What cannot be written is tried again.
func (g *group) buryAll(ctx context.Context) {
	for {
		select {
		case <-g.graves:
		case <-ctx.Done():
			return
		}
		for ctx.Err() == nil {
			g.mu.Lock()
			items := g.dead
			g.dead = nil
			var letters []broker.Message
			var alive []*item
			for _, i := range items {
				if i.phase != phaseBurying || i.tenure != i.lane.tenure || len(letters) == deadPage {
					if i.phase == phaseBurying && i.tenure == i.lane.tenure {
						g.dead = append(g.dead, i)
					}
					continue
				}
				alive = append(alive, i)
				letters = append(letters, g.letter(i))
			}
			g.mu.Unlock()
			if len(alive) == 0 {
				break
			}
			acks := g.groups.writeDead(ctx, letters)
			var failed error
			g.mu.Lock()
			for k, i := range alive {
				switch {
				case acks[k].Err != nil:
					failed = acks[k].Err
					i.bare = i.bare || errors.Is(acks[k].Err, broker.ErrTooLarge)
					g.dead = append(g.dead, i)
				case i.phase == phaseBurying && i.tenure == i.lane.tenure:
					i.lane.owe(i)
					i.lane.counts.buried++
					g.groups.m.buried.Inc()
					nudge(i.lane.kick)
				}
			}
			g.mu.Unlock()
			if failed != nil {
				g.log.Warn("dead letters cannot be written; trying again", "error", failed)
				pause(ctx, deadRetry)
			}
		}
	}
}

func (g *group) letter(i *item) broker.Message {
	d := DeadLetter{
		Subscription: g.id, Incarnation: i.lane.at.incarnation, Stream: i.lane.source.Stream.Name, Partition: i.lane.partition,
		Offset: i.offset, Attempts: i.n, Reason: i.why, At: time.Now().UTC().Truncate(time.Millisecond),
	}
	if !i.bare {
		d.Event = json.RawMessage(i.entry.Event.JSON())
	}
	value, err := json.Marshal(d)
	if err != nil { // an event that was read as JSON is JSON
		value = fmt.Appendf(nil, `{"subscription":%q}`, g.id)
	}
	return broker.Message{
		Partition: broker.AnyPartition, Key: []byte(g.id), Value: value,
		Headers: []broker.Header{{Key: deadHeader, Value: []byte(g.id)}},
	}
}

// deadHeader names the subscription, so that a search need not read the letters of others.
const deadHeader = "subscription"

// writeDead appends dead letters, and makes their topic where it is not there yet.
func (gs *Groups) writeDead(ctx context.Context, letters []broker.Message) []broker.Ack {
	acks := gs.deps.Log.Append(ctx, gs.cfg.DeadLetters, letters)
	missing := false
	for _, a := range acks {
		missing = missing || errors.Is(a.Err, broker.ErrNoTopic)
	}
	if !missing {
		return acks
	}
	err := gs.deps.Log.Create(ctx, gs.cfg.DeadLetters, broker.TopicConfig{
		Partitions: deadPartitions, ReplicationFactor: gs.cfg.ReplicationFactor, Retention: deadRetention, RetentionBytes: -1,
	})
	if err != nil && !errors.Is(err, broker.ErrTopicExists) {
		gs.log.Warn("the topic of dead letters cannot be made", "topic", gs.cfg.DeadLetters, "error", err)
	}
	return acks // the next try finds it
}

// DeadLetters lists a subscription's dead letters from an offset on, in the order in which they were written: up to most,
// and where to go on. next is -1 at the end.
func (gs *Groups) DeadLetters(ctx context.Context, id string, from int64, most int) (letters []DeadLetter, next int64, err error) {
	topic := gs.cfg.DeadLetters
	msgs := []broker.Message{{Partition: broker.AnyPartition, Key: []byte(id)}}
	if _, _, err := gs.deps.Log.Place(ctx, topic, msgs); err != nil {
		if errors.Is(err, broker.ErrNoTopic) {
			return nil, -1, nil
		}
		return nil, 0, fmt.Errorf("find the dead letters: %w", err)
	}
	p := msgs[0].Partition
	for read := 0; read < deadScan && len(letters) < most; {
		b, err := gs.deps.Log.Read(ctx, topic, p, from, deadScan/4)
		if outside := (*broker.RangeError)(nil); errors.As(err, &outside) {
			if from >= outside.Bounds.First {
				return letters, -1, nil
			}
			from = outside.Bounds.First
			continue
		}
		if err != nil {
			return nil, 0, fmt.Errorf("read the dead letters: %w", err)
		}
		if b.Next <= from {
			return letters, -1, nil
		}
		for _, r := range b.Records {
			if len(letters) == most {
				return letters, from, nil
			}
			from = r.Offset + 1
			read += len(r.Value)
			if string(r.Key) != id {
				continue
			}
			var d DeadLetter
			if json.Unmarshal(r.Value, &d) == nil {
				letters = append(letters, d)
			}
		}
		from = b.Next
		if from >= b.End {
			return letters, -1, nil
		}
	}
	return letters, from, nil
}

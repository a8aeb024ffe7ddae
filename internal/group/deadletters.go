package group

import (
	"context"
	"encoding/json"
	"time"

	"github.com/eventissuer/eventissuer/internal/clock"
	"github.com/eventissuer/eventissuer/internal/deadletters"
)

const (
	deadRetry = time.Second
	deadPage  = 100
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
			var letters []deadletters.Letter
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
			acks := g.groups.letters.Write(ctx, letters)
			var failed error
			g.mu.Lock()
			for k, i := range alive {
				switch {
				case acks[k].Err != nil:
					failed = acks[k].Err
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
				clock.Pause(ctx, deadRetry)
			}
		}
	}
}

func (g *group) letter(i *item) deadletters.Letter {
	return deadletters.Letter{
		Subscription: g.id, Incarnation: i.lane.at.incarnation, Stream: i.lane.source.Stream.Name, Partition: i.lane.partition,
		Offset: i.offset, Attempts: i.n, Reason: string(i.why), At: time.Now().UTC().Truncate(time.Millisecond),
		Event: json.RawMessage(i.entry.Event.JSON()),
	}
}

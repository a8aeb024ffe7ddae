package dedupe

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/eventissuer/eventissuer/broker"
	"github.com/eventissuer/eventissuer/internal/clock"
)

// A broker whose metadata lags tells the old life of a topic, or that there is none: such an answer counts when it stays.
const (
	lookTimes = 3
	lookEvery = 150 * time.Millisecond
	goneMost  = 4096 // lives that are remembered to be over
)

// isOver reports whether a life of a topic is over. It asks the brokers unless it is known already.
func (d *Deduper) isOver(ctx context.Context, l life) (bool, error) {
	l.stream = ""
	d.mu.Lock()
	over := d.gone[l]
	d.mu.Unlock()
	if over {
		return true, nil
	}
	for n := 1; ; n++ {
		e, exists, err := d.present(ctx, l.topic)
		switch {
		case err != nil:
			return false, err
		case exists && e.is(l.epoch):
			return false, nil
		case n == lookTimes:
			d.mu.Lock()
			if len(d.gone) >= goneMost {
				clear(d.gone)
			}
			d.gone[l] = true
			d.mu.Unlock()
			return true, nil
		}
		if !clock.Pause(ctx, lookEvery) {
			return false, ctx.Err()
		}
	}
}

// present asks which life a topic is in, and whether it exists.
func (d *Deduper) present(ctx context.Context, topic string) (e epoch, exists bool, err error) {
	info, err := d.log.Describe(ctx, topic)
	switch {
	case errors.Is(err, broker.ErrNoTopic):
		return epoch{}, false, nil
	case err != nil:
		return epoch{}, false, fmt.Errorf("look at topic %s: %w", topic, err)
	}
	return epochOf(info.Epoch), true, nil
}

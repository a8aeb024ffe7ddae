package clock

import (
	"context"
	"time"
)

// Pause blocks for d, or until ctx ends, and reports whether ctx goes on: the way in which whoever tries again waits, lest a stop
// wait for it.
func Pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
	return ctx.Err() == nil
}

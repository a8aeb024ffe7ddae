package clock_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/eventissuer/eventissuer/internal/clock"
)

func TestPauseLastsAsLongAsItIsToOrUntilTheContextEnds(t *testing.T) {
	for name, c := range map[string]struct {
		pause, context time.Duration
		lasts          time.Duration
		goesOn         bool
	}{
		"to its end":             {time.Second, time.Minute, time.Second, true},
		"the context ends first": {time.Minute, time.Second, time.Second, false},
		"no time at all":         {0, time.Minute, 0, true},
		"the context has ended":  {time.Minute, 0, 0, false},
		"both at once":           {0, 0, 0, false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, stop := context.WithTimeout(t.Context(), c.context)
				defer stop()
				began := time.Now()
				if goesOn := clock.Pause(ctx, c.pause); goesOn != c.goesOn || time.Since(began) != c.lasts {
					t.Errorf("it goes on: %t, after %s; want %t, %s", goesOn, time.Since(began), c.goesOn, c.lasts)
				}
			})
		})
	}
}

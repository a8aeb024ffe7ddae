package clock_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/eventissuer/eventissuer/internal/clock"
)

func TestElapsedTimeDoesNotFollowAWallClockThatIsSet(t *testing.T) {
	start := time.Date(2026, 11, 29, 12, 0, 0, 0, time.UTC)
	for name, jump := range map[string]time.Duration{"an hour on": time.Hour, "a day back": -24 * time.Hour, "to 1970": time.Unix(0, 0).Sub(start), "none": 0} {
		wall, passed := start, time.Duration(0)
		c := clock.New(func() time.Time { return wall }, func() time.Duration { return passed })
		before := c.Elapsed()
		wall, passed = wall.Add(time.Minute+jump), passed+time.Minute
		if got := c.Elapsed() - before; got != time.Minute {
			t.Errorf("%s: %s have passed, want a minute", name, got)
		}
		if got := c.Steady(); !got.Equal(start.Add(time.Minute)) {
			t.Errorf("%s: steadily it is %s", name, got)
		}
		if want := start.Add(time.Minute + min(jump, 0)); !c.Earliest().Equal(want) {
			t.Errorf("%s: at the earliest it is %s, want %s", name, c.Earliest(), want)
		}
	}
}

func TestTheSystemsClockGoesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := clock.System()
		if c.Elapsed() <= 0 {
			t.Errorf("%s have passed at the beginning: 0 is for what never was", c.Elapsed())
		}
		before := c.Elapsed()
		time.Sleep(time.Hour)
		if got := c.Elapsed() - before; got != time.Hour || !c.Steady().Equal(time.Now()) || !c.Earliest().Equal(time.Now()) {
			t.Errorf("after an hour %s have passed, and it is %s, at the earliest %s", got, c.Steady(), c.Earliest())
		}
	})
}

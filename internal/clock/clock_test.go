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
		if got := c.Elapsed() - before; got != time.Hour || !c.Earliest().Equal(time.Now()) {
			t.Errorf("after an hour %s have passed, and at the earliest it is %s", got, c.Earliest())
		}
	})
}

func TestAWallClockThatStaysAheadIsBelieved(t *testing.T) {
	start := time.Unix(60, 0) // a machine that has yet to learn the time
	wall, passed := start, time.Duration(0)
	c := clock.New(func() time.Time { return wall }, func() time.Duration { return passed })
	pass := func(d time.Duration) { wall, passed = wall.Add(d), passed+d }
	wall = time.Date(2026, 11, 29, 12, 0, 0, 0, time.UTC)
	for range 9 {
		if got := c.Earliest(); !got.Equal(start.Add(passed)) {
			t.Fatalf("after %s it is %s at the earliest: a jump is believed too soon", passed, got)
		}
		pass(time.Minute)
	}
	pass(2 * time.Minute)
	if got := c.Earliest(); !got.Equal(wall) {
		t.Errorf("after %s it is %s at the earliest, want %s", passed, got, wall)
	}
	// One that is set back meanwhile is not.
	wall = wall.Add(time.Hour)
	c.Earliest()
	pass(9 * time.Minute)
	wall = wall.Add(-time.Hour)
	c.Earliest()
	pass(9 * time.Minute)
	if got := c.Earliest(); !got.Equal(wall) {
		t.Errorf("set on and back it is %s at the earliest, want %s", got, wall)
	}
}

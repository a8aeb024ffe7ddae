// Package clock tells how much time has passed, whatever becomes of the wall clock meanwhile: an operator who sets it, or a
// machine that learns the time late, moves it by hours, and back.
//
// A [time.Time] that [time.Now] gave is safe by itself as long as it is compared with another such one, since both carry a
// monotonic reading. What is reduced to a number (Unix nanoseconds) is not: numbers that are compared are to be a clock's.
//
// [Pause] lets some of it pass.
package clock

import (
	"sync"
	"time"
)

// Clock is a wall clock and the time that has passed since it was made. Its methods may be called concurrently.
type Clock struct {
	wall    func() time.Time
	elapsed func() time.Duration
	*state
}

// state is what a clock has learnt of the wall clock.
type state struct {
	mu    sync.Mutex
	began time.Time     // what the wall clock would have said in the beginning; guarded by mu
	ahead time.Duration // how far it has been ahead of that at least, since; guarded by mu
	since time.Duration // elapsed time; guarded by mu
}

// believed is for how long a wall clock that is ahead is taken for one that was set by mistake, and will be set back. Then it is
// believed: the machine has learnt the time late, or slept, which a monotonic clock does not count.
const believed = 10 * time.Minute

// negligible is how far a wall clock may be ahead for being kept in step.
const negligible = time.Second

// System is the system's clock. It begins now.
func System() Clock {
	began := time.Now()
	return New(time.Now, func() time.Duration { return time.Since(began) })
}

// New makes a clock of a wall clock, which may be set, and of the time that passes since, which goes only forward.
func New(wall func() time.Time, elapsed func() time.Duration) Clock {
	return Clock{wall: wall, elapsed: elapsed, state: &state{began: wall().Round(0).Add(-elapsed())}}
}

// Elapsed is the time that has passed since the clock was made. It never goes back. The first that it gives is above 0.
func (c Clock) Elapsed() time.Duration { return c.elapsed() + 1 }

// Earliest is the earlier of what the wall clock says and of what it would say had nobody set it since the clock was made: by it
// nothing that was stamped by a wall clock that was set on by mistake is older than it is. A wall clock that stays ahead is believed
// after ten minutes.
func (c Clock) Earliest() time.Time {
	elapsed, wall := c.elapsed(), c.wall().Round(0)
	c.mu.Lock()
	defer c.mu.Unlock()
	steady := c.began.Add(elapsed)
	ahead := wall.Sub(steady)
	switch {
	case ahead <= 0:
		c.ahead = 0
		return wall
	case ahead <= negligible:
		c.ahead = 0
	case c.ahead == 0:
		c.ahead, c.since = ahead, elapsed
	case elapsed-c.since < believed:
		c.ahead = min(c.ahead, ahead)
	default:
		c.began = c.began.Add(min(c.ahead, ahead))
		steady, c.ahead = c.began.Add(elapsed), 0
	}
	return steady
}

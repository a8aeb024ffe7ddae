// Package clock tells how much time has passed, whatever becomes of the wall clock meanwhile: an operator who sets it, or a
// machine that learns the time late, moves it by hours, and back.
//
// A [time.Time] that [time.Now] gave is safe by itself as long as it is compared with another such one, since both carry a
// monotonic reading. What is reduced to a number (Unix nanoseconds) is not: numbers that are compared are to be a clock's.
package clock

import "time"

// Clock is a wall clock and the time that has passed since it was made. Its methods may be called concurrently.
type Clock struct {
	wall    func() time.Time
	elapsed func() time.Duration
	began   time.Time
}

// System is the system's clock. It begins now.
func System() Clock {
	began := time.Now()
	return New(time.Now, func() time.Duration { return time.Since(began) })
}

// New makes a clock of a wall clock, which may be set, and of the time that passes since, which goes only forward.
func New(wall func() time.Time, elapsed func() time.Duration) Clock {
	return Clock{wall: wall, elapsed: elapsed, began: wall().Round(0).Add(-elapsed())}
}

// Elapsed is the time that has passed since the clock was made. It never goes back. The first that it gives is above 0.
func (c Clock) Elapsed() time.Duration { return c.elapsed() + 1 }

// Steady is what the wall clock would say had nobody set it since the clock was made.
func (c Clock) Steady() time.Time { return c.began.Add(c.elapsed()) }

// Earliest is the earlier of what the wall clock says and of what it would say had nobody set it: by it nothing that was
// stamped by a wall clock that was set meanwhile is older than it is.
func (c Clock) Earliest() time.Time {
	wall, steady := c.wall().Round(0), c.Steady()
	if wall.Before(steady) {
		return wall
	}
	return steady
}

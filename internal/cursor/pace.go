package cursor

import (
	"math"
	"sync/atomic"
	"time"
)

// pace stretches the time between timed saves so that all replicas together make no more than limit a second (rule 7).
// Every replica applies every save, so each sees the fleet's rate without asking anybody.
type pace struct {
	base  time.Duration // static
	limit float64       // static: saves a second
	seen  atomic.Int64  // versions applied since the last tick
	now   atomic.Int64  // the time between saves, in nanoseconds
	rate  float64       // owned by tick: smoothed
}

const (
	// paceMost bounds the stretch: hints cover what is not saved, but not for ever.
	paceMost = 60
	// paceGain is the share of the way to the right time that one tick goes. A change of the time shows in the rate
	// only when the saves planned by the old one are through: a larger gain would swing.
	paceGain = 0.04
	// paceSmooth is the weight of the newest second.
	paceSmooth = 0.2
)

func newPace(base time.Duration, limit float64) *pace {
	p := &pace{base: base, limit: limit}
	p.now.Store(int64(base))
	return p
}

// count takes note of one version applied.
func (p *pace) count() { p.seen.Add(1) }

// every returns the time between saves at present.
func (p *pace) every() time.Duration { return time.Duration(p.now.Load()) }

// tick adapts the time; elapsed is the time since the last tick.
func (p *pace) tick(elapsed time.Duration) {
	p.rate += paceSmooth * (float64(p.seen.Swap(0))/elapsed.Seconds() - p.rate)
	// At the limit the factor is 1 and the time stays, however long it is.
	factor := math.Pow(max(p.rate, 1)/p.limit, paceGain)
	now := time.Duration(float64(p.now.Load()) * factor)
	p.now.Store(int64(min(max(now, p.base), paceMost*p.base)))
}

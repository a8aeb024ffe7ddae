package loadtest

import (
	"fmt"
	"math"
	"time"
)

// Stage is a time in which a rate goes from one value to another in a straight line, in events a second.
type Stage struct {
	From float64       `json:"from"`
	To   float64       `json:"to"`
	For  time.Duration `json:"for"`
}

// Pace is a rate of events that changes over time: its stages, one after the other.
type Pace struct {
	Stages []Stage `json:"stages"`
	// Repeat has the first stage follow the last; otherwise the last one's rate stays.
	Repeat bool `json:"repeat,omitempty"`
}

// check says what is wrong with a pace.
func (p *Pace) check() error {
	if len(p.Stages) == 0 {
		return fmt.Errorf("a pace without stages")
	}
	var events float64
	for i, s := range p.Stages {
		if s.For <= 0 || s.From < 0 || s.To < 0 || math.IsInf(s.From+s.To, 0) || math.IsNaN(s.From+s.To) {
			return fmt.Errorf("stage %d: expected a time above 0 and rates of at least 0, got %g to %g for %s", i+1, s.From, s.To, s.For)
		}
		events += s.events()
	}
	if last := p.Stages[len(p.Stages)-1]; events == 0 && (p.Repeat || last.To == 0) {
		return fmt.Errorf("a pace by which no event is ever due")
	}
	return nil
}

// events is how many are due in the stage.
func (s Stage) events() float64 { return (s.From + s.To) / 2 * s.For.Seconds() }

// due is the time into the stage at which n events, of those that it has, have become due.
func (s Stage) due(n float64) float64 {
	if n <= 0 {
		return 0
	}
	slope := (s.To - s.From) / s.For.Seconds()
	if math.Abs(slope) < 1e-9 {
		return n / s.From
	}
	// n = from·t + slope·t²/2, in the form that loses no digits where the slope is small.
	root := math.Sqrt(max(0, s.From*s.From+2*slope*n))
	return 2 * n / (s.From + root)
}

// due is when, after the beginning, event n (from 0) is due. It is false where that is never.
func (p *Pace) due(n float64) (time.Duration, bool) {
	var round, length float64
	for _, s := range p.Stages {
		round += s.events()
		length += s.For.Seconds()
	}
	at := 0.0
	if p.Repeat {
		rounds := math.Floor(n / round)
		n -= rounds * round
		at = rounds * length
	}
	for _, s := range p.Stages {
		if has := s.events(); n >= has {
			n -= has
			at += s.For.Seconds()
			continue
		}
		return seconds(at + s.due(n)), true
	}
	if p.Repeat { // rounding brought n to the round's very end
		return seconds(at), true
	}
	last := p.Stages[len(p.Stages)-1].To
	if last == 0 {
		return 0, false
	}
	return seconds(at + n/last), true
}

func seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }

package scenario

import (
	"math"
	"time"
)

// Scale makes the scenario smaller or larger: the numbers of connections, but none below 1, and with them how quickly they
// come, and the times in which something happens. Rates, and times that something is waited for, stay.
func (s *Scenario) Scale(connections, times float64) {
	scale := func(all ...*time.Duration) {
		for _, d := range all {
			*d = time.Duration(float64(*d) * times)
		}
	}
	scale(&s.Warmup, &s.Duration)
	for i := range s.Publishers {
		p := &s.Publishers[i]
		if p.Burst != nil {
			scale(&p.Burst.On, &p.Burst.Off)
		}
		if p.Ramp != nil {
			scale(&p.Ramp.Over)
		}
		for j := range p.Steps {
			scale(&p.Steps[j].For)
		}
	}
	fewer := func(n int) int { return max(1, int(math.Round(float64(n)*connections))) }
	for i := range s.Subscriptions {
		s.Subscriptions[i].Sessions = fewer(s.Subscriptions[i].Sessions)
	}
	for i := range s.Webhooks {
		w := &s.Webhooks[i]
		w.Subscriptions = fewer(w.Subscriptions)
		w.Endpoints = min(w.Endpoints, w.Subscriptions)
		if w.Hang > 0 {
			w.Hang = min(w.Hang, max(w.Endpoints, 1)-1)
		}
	}
	for i := range s.Readers {
		r := &s.Readers[i]
		r.Connections = fewer(r.Connections)
		r.Ramp *= connections / times
		scale(&r.Lifetime, &r.Every)
		for j := range r.Storms {
			scale(&r.Storms[j].At)
			scale(&r.Storms[j].Away)
		}
		if r.Slow != nil {
			scale(&r.Slow.Reads, &r.Slow.Pauses)
		}
	}
}

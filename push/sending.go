package push

import (
	"math"
	"slices"
	"time"

	"github.com/eventissuer/eventissuer/internal/fanout"
)

// pump starts all attempts that may be started.
func (p *endpoint) pump() {
	for {
		f, ok := p.begin()
		if !ok {
			return
		}
		go p.fly(f)
	}
}

// flight is one request under way.
type flight struct {
	lane    *lane
	items   []*item
	entries []*fanout.Entry // of the items
	spec    *Endpoint
	by      Sender
	trial   bool
	host    *turnstile
}

// begin reserves what an attempt needs, and picks what it sends.
func (p *endpoint) begin() (flight, bool) {
	for {
		f, ok := p.reserve()
		if !ok {
			return flight{}, false
		}
		part, now := f.lane.part, time.Now()
		part.mu.Lock()
		f.items = f.lane.take(now, f.spec.Batch, f.trial)
		for _, i := range f.items {
			f.entries = append(f.entries, i.entry)
		}
		if len(f.items) > 0 {
			part.flights.Add(1)
		} else if at := f.lane.dueNext(); at.After(now) && !f.lane.dropped {
			p.engine.alarms.set(&f.lane.alarm, at)
		}
		part.mu.Unlock()
		if len(f.items) > 0 {
			if !f.trial {
				p.line(f.lane) // it may have more
			}
			return f, true
		}
		p.settle(f)
		if f.trial {
			p.mu.Lock()
			p.breaker.trying = false
			p.mu.Unlock()
			if !p.seekTrial() {
				return flight{}, false
			}
		}
	}
}

// reserve takes a place for one attempt, and the lane whose turn it is.
func (p *endpoint) reserve() (f flight, ok bool) {
	version, ready := p.load()
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	if p.breaker.isOpen {
		f.trial = true
		ready = ready && !p.breaker.trying && !now.Before(p.breaker.until) && p.flying == 0
	}
	switch {
	case !ready, p.retired, p.spec == nil, p.version != version, p.blocked != "", p.throttled.After(now),
		!f.trial && (len(p.ready) == 0 || p.flying >= p.window.limit(p.share())):
		p.declineAll()
		return f, false
	}
	if p.pace != nil {
		rate := p.rate()
		if rate <= 0 {
			p.declineAll()
			return f, false // until it is granted some
		}
		p.pace.at(rate)
		if wait, ok := p.pace.try(1); !ok {
			p.declineAll()
			p.engine.alarms.set(&p.alarm, now.Add(wait))
			return f, false
		}
	}
	if !p.host.enter(&p.atHost) {
		p.giveBack()
		return f, false
	}
	if !p.engine.all.enter(&p.atAll) {
		p.host.leave()
		p.giveBack()
		return f, false
	}
	if f.trial {
		f.lane = p.trialLane()
		if f.lane == nil {
			p.host.leave()
			p.engine.all.leave()
			p.giveBack()
			return f, false
		}
		p.breaker.trying = true
	} else {
		f.lane = p.ready[0]
		p.ready[0] = nil
		p.ready = p.ready[1:]
		f.lane.queued = false
	}
	p.flying++
	p.inUse()
	f.spec, f.by, f.host = p.spec, p.sender, p.host
	return f, true
}

// giveBack returns what pace has given for an attempt that is not made.
func (p *endpoint) giveBack() {
	if p.pace != nil {
		p.pace.take(-1)
	}
}

// declineAll gives up places that were kept for the endpoint, which has nothing to do with them now. mu is held.
func (p *endpoint) declineAll() {
	if p.host == nil {
		return
	}
	p.host.decline(&p.atHost)
	p.engine.all.decline(&p.atAll)
}

// settle gives back what a flight has reserved.
func (p *endpoint) settle(f flight) {
	p.mu.Lock()
	p.flying--
	p.inUse()
	p.mu.Unlock()
	f.host.leave()
	p.engine.all.leave()
}

// trialLane is a lane to try the endpoint with: one that has something. mu is held.
func (p *endpoint) trialLane() *lane {
	for len(p.ready) > 0 {
		l := p.ready[0]
		p.ready[0] = nil
		p.ready = p.ready[1:]
		l.queued = false
		if l.index >= 0 {
			return l
		}
	}
	if len(p.lanes) == 0 {
		return nil
	}
	p.turn++
	return p.lanes[p.turn%len(p.lanes)]
}

// seekTrial has some lane look for an event to try the endpoint with, where the one that was asked holds none. It reports
// whether another holds something.
func (p *endpoint) seekTrial() bool {
	p.mu.Lock()
	lanes := slices.Clone(p.lanes)
	p.mu.Unlock()
	soon := false
	for _, l := range lanes {
		l.part.mu.Lock()
		now := l.pick(time.Now(), true) >= 0
		soon = soon || slices.ContainsFunc(l.items, func(i *item) bool { return i.recalled })
		if now {
			p.mu.Lock()
			if !l.queued {
				l.queued = true
				p.ready = slices.Insert(p.ready, 0, l)
			}
			p.mu.Unlock()
		}
		l.part.mu.Unlock()
		if now {
			return true
		}
	}
	if soon {
		return false // it is offered when it has been read again
	}
	for _, l := range lanes {
		l.part.mu.Lock()
		asked := false
		if !l.dropped && l.place == held && len(l.items) == 0 {
			l.probe = true
			l.part.seek(l)
			asked = l.place == waiting
		}
		l.part.mu.Unlock()
		if asked {
			break
		}
	}
	return false
}

// share is how many attempts this replica may have under way: what was granted to it where replicas share by leases, else
// in proportion to the partitions that it owns. mu is held.
func (p *endpoint) share() int {
	part, total := p.sub.part(), float64(p.spec.Concurrency)
	if part == 1 {
		return p.spec.Concurrency // nobody else sends
	}
	if l := p.engine.deps.Leases; l != nil {
		if granted, ok := l.Share(p.attemptsKey(), float64(p.flying+len(p.ready)+1), total); ok {
			return int(granted)
		}
	}
	return max(1, int(math.Ceil(total*part)))
}

func (p *endpoint) attemptsKey() string { return "c:" + p.sub.id }

// inUse tells how many attempts are under way. mu is held.
func (p *endpoint) inUse() {
	if l := p.engine.deps.Leases; l != nil && p.sub.part() < 1 {
		l.InUse(p.attemptsKey(), float64(p.flying))
	}
}

// rate is how many requests this replica may make in a second, likewise. mu is held.
func (p *endpoint) rate() float64 {
	part := p.sub.part()
	if l := p.engine.deps.Leases; l != nil && part < 1 {
		if granted, ok := l.Share("r:"+p.sub.id, p.spec.Rate, p.spec.Rate); ok {
			return granted
		}
	}
	return p.spec.Rate * max(part, 0.01)
}

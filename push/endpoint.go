package push

import (
	"net/url"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// endpoint is where one subscription's events are sent from this replica, by all of its lanes. It is there while any of
// them is.
type endpoint struct {
	// static
	engine *Engine
	sub    *subscription
	atHost turn
	atAll  turn
	alarm  alarm

	takes  atomic.Bool  // events may be sent now, as far as the endpoint goes
	look   atomic.Int32 // how many may wait in a lane
	window window       // guarded by mu, as all that follows

	mu        sync.Mutex
	spec      *Endpoint // nil: not opened yet, or it cannot be
	sender    Sender
	version   edition // of the definition that spec is of
	reason    string  // for which it cannot be opened
	loading   bool
	blocked   string
	hostName  string
	host      *turnstile
	pace      *pace
	lanes     []*lane
	ready     []*lane // that have something to send, by whose turn it is
	flying    int
	breaker   breaker
	throttled time.Time // nothing is sent before
	gaveUp    bool      // it will not take events soon: its lanes hold none that were not sent
	idleSince time.Time // without lanes
	retired   bool
	why       string // the breaker is open
	turn      int    // which lane is asked next for something to try the endpoint with
}

// pointOf returns the subscription's endpoint, and makes it where there is none.
func (e *Engine) pointOf(s *subscription) *endpoint {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.point == nil {
		p := &endpoint{engine: e, sub: s, window: newWindow(), blocked: s.blocked.Value(), idleSince: time.Now()}
		p.atHost.wake, p.atAll.wake = p.pump, p.pump
		p.alarm.ring = func(time.Time) { p.stir() }
		p.takes.Store(p.blocked == "")
		p.look.Store(2 * windowStart)
		s.point = p
		e.m.endpoints.Inc()
	}
	return s.point
}

// open reports whether lanes may take events in for the endpoint. It takes no lock.
func (p *endpoint) open() bool { return p.takes.Load() }

// lookahead is how many events of a lane may wait for it. It takes no lock.
func (p *endpoint) lookahead() int { return int(p.look.Load()) }

// adopt and abandon count a lane in and out. The lane's partition's mu is held.
// adopt returns false where the endpoint has been given up meanwhile.
func (p *endpoint) adopt(l *lane) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.retired {
		return false
	}
	l.index = len(p.lanes)
	p.lanes = append(p.lanes, l)
	return true
}

func (p *endpoint) abandon(l *lane) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if l.index < 0 {
		return
	}
	last := len(p.lanes) - 1
	p.lanes[l.index] = p.lanes[last]
	p.lanes[l.index].index = l.index
	p.lanes[last] = nil
	p.lanes = p.lanes[:last]
	l.index = -1
	if len(p.lanes) == 0 {
		p.idleSince = time.Now()
	}
}

// offer puts a lane among those that have something to send. Its partition's mu is held, and rouse is called later.
func (p *endpoint) offer(l *lane) {
	p.line(l)
	l.part.roused[p] = struct{}{}
}

// line puts a lane in the line of those that have something to send.
func (p *endpoint) line(l *lane) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !l.queued {
		l.queued = true
		p.ready = append(p.ready, l)
	}
}

// await has the endpoint think of a lane that holds nothing, when it tries whether it is taken again. The lane's partition's
// mu is held.
func (p *endpoint) await(l *lane) { l.part.roused[p] = struct{}{} }

// part is which part of the subscription's partitions this replica owns. It takes no lock.
func (s *subscription) part() float64 {
	owned, total := 0, 0
	for st := range s.readFrom() {
		owned += int(st.owned.Load())
		total += int(st.total.Load())
	}
	if total == 0 || owned >= total {
		return 1
	}
	return float64(owned) / float64(total)
}

// load opens the endpoint where it is not, or was opened for another version of the definition. It returns the version that
// counts now, and whether it is open for that one.
func (p *endpoint) load() (version edition, ready bool) {
	p.sub.mu.Lock()
	version, blocked := p.sub.version, p.sub.blocked.Value()
	p.sub.mu.Unlock()
	p.mu.Lock()
	stale := p.spec != nil && !p.spec.Until.IsZero() && !time.Now().Before(p.spec.Until)
	if p.loading || p.retired || p.version == version && !stale && (p.spec != nil || p.reason != "") {
		ready = !p.loading && p.version == version
		p.mu.Unlock()
		return version, ready
	}
	p.loading = true
	p.mu.Unlock()

	spec, err := p.engine.deps.Definitions.Endpoint(p.sub.id)
	var sender Sender
	if err == nil {
		sender, err = p.engine.deps.Sender(spec.Owner, spec.Credential)
	}
	p.mu.Lock()
	p.loading = false
	was, hadHost := p.sender, p.hostName
	if err == nil && p.host != nil {
		p.declineAll()
	}
	p.version = version
	if err != nil {
		p.spec, p.sender, p.reason = nil, nil, err.Error()
		p.engine.log.Warn("a subscription's events cannot be sent", "subscription", p.sub.id, "reason", p.reason)
	} else {
		p.spec, p.sender, p.reason = spec, sender, ""
		p.hostName = hostOf(spec.URL)
		p.host = p.engine.hosts.use(p.hostName)
		if spec.Rate == 0 {
			p.pace = nil
		} else if p.pace == nil {
			p.pace = newPace(spec.Rate, max(1, spec.Rate/10))
		}
	}
	p.blocked = blocked
	p.look.Store(p.ahead())
	ready = p.spec != nil
	p.mu.Unlock()
	if was != nil {
		was.Close()
	}
	if hadHost != "" && err == nil {
		p.engine.hosts.drop(hadHost)
	}
	go p.stir()
	return version, ready
}

func hostOf(raw string) string {
	u, err := url.Parse(raw)
	if err != nil {
		return raw
	}
	return u.Host
}

// aheadMore is how many events a lane takes beyond what an endpoint needs that answers fast: reading few at a time costs more
// than reading many, and it will soon be done with them.
const (
	aheadMore  = 64
	aheadQuick = 100 * time.Millisecond
)

// ahead is how many events of a lane may wait, so that the endpoint need not. mu is held.
func (p *endpoint) ahead() int32 {
	each := 1
	if p.spec != nil {
		each = max(1, p.spec.Batch.Max)
	}
	n := 2 * each * (int(p.window.size) + 2)
	if base := p.window.base; base > 0 && base < aheadQuick {
		n += aheadMore
	}
	return int32(min(laneMost, n))
}

// stir looks whether events may be sent now, and has lanes come or wait accordingly.
func (p *endpoint) stir() {
	p.mu.Lock()
	now := time.Now()
	takes := !p.retired && p.blocked == "" && p.reason == "" && !p.breaker.isOpen && !p.throttled.After(now)
	brief := p.blocked == "" && p.reason == "" && !p.breaker.isOpen && p.throttled.Before(now.Add(briefly))
	gaveUp := !takes && (p.gaveUp || !brief)
	turned := p.takes.Swap(takes) != takes && takes || gaveUp && !p.gaveUp
	p.gaveUp = gaveUp
	trial := false
	switch {
	case p.retired || p.blocked != "" || p.reason != "":
	case p.throttled.After(now):
		p.engine.alarms.set(&p.alarm, p.throttled)
	case p.breaker.isOpen && !p.breaker.trying:
		if p.breaker.until.After(now) {
			p.engine.alarms.set(&p.alarm, p.breaker.until)
		} else {
			trial = true
		}
	}
	lanes := p.lanes
	if turned {
		lanes = slices.Clone(lanes)
	}
	p.mu.Unlock()
	if turned {
		p.turned(lanes, takes)
	}
	if trial {
		p.seekTrial()
	}
	p.pump()
}

// briefly is for how long events are kept that an endpoint does not want at the moment.
const briefly = 10 * time.Second

// turned tells the lanes that the endpoint takes events again, or that it will not soon.
func (p *endpoint) turned(lanes []*lane, takes bool) {
	for _, l := range lanes {
		l.part.mu.Lock()
		switch {
		case l.dropped:
		case takes:
			l.part.seek(l)
			p.offer(l)
		default:
			l.rewind()
			for _, i := range l.items { // they are read again when it is their turn
				if i.phase != phaseFlying {
					l.release(i)
				}
			}
		}
		l.part.mu.Unlock()
		if takes {
			l.part.rouse()
		}
	}
}

// renew takes over a definition that was changed.
func (s *subscription) renew() {
	s.mu.Lock()
	p, blocked := s.point, s.blocked.Value()
	s.mu.Unlock()
	if p == nil {
		return
	}
	p.mu.Lock()
	if p.blocked != "" && blocked == "" { // its owner, or its proof, says that it works
		p.breaker, p.throttled = breaker{}, time.Time{}
	}
	p.blocked = blocked
	p.mu.Unlock()
	p.stir()
}

// retire ends what is sent to a subscription that is gone. Its lanes are gone already.
func (s *subscription) retire() {
	s.mu.Lock()
	p := s.point
	s.point = nil
	s.mu.Unlock()
	if p != nil {
		p.close()
	}
}

func (p *endpoint) close() {
	p.mu.Lock()
	if p.retired {
		p.mu.Unlock()
		return
	}
	p.retired = true
	p.takes.Store(false)
	sender, host := p.sender, p.hostName
	p.declineAll()
	p.sender, p.spec = nil, nil
	p.mu.Unlock()
	p.engine.alarms.clear(&p.alarm)
	p.engine.m.endpoints.Dec()
	if sender != nil {
		sender.Close()
		p.engine.hosts.drop(host)
	}
}

// sweep drops endpoints that have had nothing to do for a while.
func (e *Engine) sweep() {
	e.registry.Lock()
	subs := make([]*subscription, 0, 64)
	for _, s := range e.subs {
		subs = append(subs, s)
	}
	e.registry.Unlock()
	for _, s := range subs {
		s.mu.Lock()
		p := s.point
		if p == nil {
			s.mu.Unlock()
			continue
		}
		p.mu.Lock()
		// What is known of one that fails is kept: else each event would find out anew.
		idle := len(p.lanes) == 0 && p.flying == 0 && time.Since(p.idleSince) > endpointIdle && p.breaker.since.IsZero() && !p.throttled.After(time.Now())
		p.mu.Unlock()
		if idle {
			s.point = nil
		}
		s.mu.Unlock()
		if idle {
			p.close()
		}
	}
}

// endpointIdle is how long an endpoint without lanes is kept, with its connections and what was learned of it.
const endpointIdle = 2 * time.Minute

package push

import (
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"github.com/eventissuer/eventissuer/internal/fanout"
	"github.com/eventissuer/eventissuer/internal/filter"
)

// stream is a stream that some subscription is pushed from.
type stream struct {
	// static
	fanout.Stream
	stop func() // ends its share of the group

	// mu is held for reading while events are matched and entered, so that a route comes and goes between two batches.
	// It is taken before a partition's.
	mu     sync.RWMutex
	index  filter.Index[*route]
	routes map[uuid.UUID]*route    // by incarnation
	parts  map[int32]*partition    // those that this process owns
	turns  map[int32]chan struct{} // closed when the owner before has let go

	owned, total atomic.Int32 // partitions, as last seen
}

// route is the way of one incarnation through one stream.
type route struct {
	// static
	sub    *subscription
	life   uuid.UUID
	chunk  uint8
	stream *stream
	epoch  string
	starts []int64
	until  []int64 // nil: it has no end; 0: its part there is done
	born   int64
	replay bool

	filter *filter.Filter // guarded by the stream's mu
}

// start is where the route begins in a partition.
func (r *route) start(p *partition) int64 {
	if int(p.id) < len(r.starts) && r.epoch == p.epoch.Hex() {
		return r.starts[p.id]
	}
	return 0
}

// end is where the route ends in a partition, exclusive.
func (r *route) end(p *partition) int64 {
	switch {
	case r.until == nil:
		return math.MaxInt64
	case r.epoch != p.epoch.Hex() || int(p.id) >= len(r.until):
		return 0
	}
	return r.until[p.id]
}

// ended reports whether an offset is behind the route's end.
func (r *route) ended(p *partition, offset int64) bool { return r.until != nil && offset >= r.end(p) }

// subscription is a subscription as the engine remembers it, whether anything is sent to it or not.
type subscription struct {
	id      string                    // static
	ordered atomic.Bool               // events of one key wait for each other
	live    atomic.Pointer[uuid.UUID] // the incarnation that is no replay

	mu      sync.Mutex
	current *Subscription // guarded by mu
	point   *endpoint     // guarded by mu; nil while there is nothing to send
	asking  bool          // guarded by mu: its endpoint is being asked for its proof
	alarm   alarm         // when it is to be asked
	routes  []*route      // owned by the goroutine that applies changes
	streams atomic.Pointer[[]*stream]
}

// readFrom are the streams that the subscription reads. It takes no lock.
func (s *subscription) readFrom() []*stream {
	if all := s.streams.Load(); all != nil {
		return *all
	}
	return nil
}

// apply takes over a change of the definitions: after it, all lanes are as the catalog says.
func (e *Engine) apply(c Change) {
	if c.ID == "" {
		e.applied.Store(max(e.applied.Load(), c.Applied))
		e.progress.Broadcast()
		return
	}
	is := e.deps.Definitions.Subscription(c.ID)
	e.registry.Lock()
	s := e.subs[c.ID]
	switch {
	case s == nil && is == nil:
		e.registry.Unlock()
		return
	case s == nil:
		s = &subscription{id: c.ID}
		s.alarm.ring = func(time.Time) { s.ask(e) }
		e.subs[c.ID] = s
	case is == nil:
		delete(e.subs, c.ID)
	}
	e.registry.Unlock()

	if is == nil {
		for _, r := range s.routes {
			e.closeRoute(r)
		}
		s.routes = nil
		s.retire()
		e.alarms.clear(&s.alarm)
		return
	}
	s.mu.Lock()
	s.current = is
	s.mu.Unlock()
	s.ordered.Store(is.Ordered)
	s.live.Store(&is.Lives[0].Incarnation)
	type place struct {
		life   uuid.UUID
		stream string
	}
	wanted := map[place]bool{}
	for n, life := range is.Lives {
		for _, w := range life.Routes {
			wanted[place{life.Incarnation, w.Stream.Name}] = true
			e.openRoute(s, is, life.Incarnation, w, n > 0)
		}
	}
	kept := s.routes[:0]
	for _, r := range s.routes {
		if wanted[place{r.life, r.stream.Name}] {
			kept = append(kept, r)
		} else {
			e.closeRoute(r)
		}
	}
	clear(s.routes[len(kept):])
	s.routes = kept
	var streams []*stream
	for _, r := range kept {
		if !r.replay {
			streams = append(streams, r.stream)
		}
	}
	s.streams.Store(&streams)
	s.renew()
	e.steward(s)
}

// openRoute makes a route, or brings it up to date.
func (e *Engine) openRoute(s *subscription, is *Subscription, life uuid.UUID, w Route, replay bool) {
	for _, r := range s.routes {
		if r.life != life || r.stream.Name != w.Stream.Name {
			continue
		}
		if r.stream.Stream == w.Stream && r.born == w.Born {
			st := r.stream
			st.mu.Lock()
			if r.filter.Key() != is.Filter.Key() || (r.filter == nil) != (is.Filter == nil) {
				st.index.Remove(r.filter, r)
				r.filter = is.Filter
				st.index.Add(r.filter, r)
			}
			st.mu.Unlock()
			return
		}
		e.closeRoute(r) // the stream was taken out of the subscription and added again, or made anew
		s.routes = slices.DeleteFunc(s.routes, func(x *route) bool { return x == r })
		break
	}
	st := e.streamOf(w.Stream)
	r := &route{
		sub: s, life: life, chunk: chunkOf(life), stream: st, epoch: w.Epoch, starts: w.Start, until: w.Until, born: w.Born,
		filter: is.Filter, replay: replay,
	}
	st.mu.Lock()
	st.routes[life] = r
	st.index.Add(r.filter, r)
	parts := make([]*partition, 0, len(st.parts))
	for _, p := range st.parts {
		p.mu.Lock()
		p.admit(r)
		p.mu.Unlock()
		parts = append(parts, p)
	}
	st.mu.Unlock()
	s.routes = append(s.routes, r)
	for _, p := range parts {
		p.rouse()
	}
}

// closeRoute takes a route away, with its lanes.
func (e *Engine) closeRoute(r *route) {
	st := r.stream
	st.mu.Lock()
	if st.routes[r.life] == r {
		delete(st.routes, r.life)
	}
	st.index.Remove(r.filter, r)
	for _, p := range st.parts {
		p.mu.Lock()
		p.chunks[r.chunk].routes--
		if l := p.lanes[r.chunk][r]; l != nil {
			p.drop(l)
		}
		p.mu.Unlock()
	}
	empty := len(st.routes) == 0
	st.mu.Unlock()
	if empty {
		e.leave(st)
	}
}

// admit places the lane of a route that is new to a partition which is owned and loaded: by what the statements found
// then say of it, which is nothing where it was made since. Both mu are held.
func (p *partition) admit(r *route) {
	c := &p.chunks[r.chunk]
	c.routes++
	if r.until != nil && r.end(p) == 0 {
		return // this part of the replay is done
	}
	start := r.start(p)
	state := p.found(r)
	if r.until != nil {
		state.next = min(state.next, r.end(p))
	}
	if r.until == nil && len(state.undone) == 0 && state.next == max(start, c.floor, p.head) {
		return // as all of which nothing is known
	}
	l := p.laneFor(r)
	l.next = state.next
	for _, u := range state.undone {
		i := &item{offset: u.offset, attempts: u.attempts, keyless: true}
		l.items = append(l.items, i)
		l.idle++
		c.items++
		if r.sub.ordered.Load() {
			l.unkeyed++
		}
	}
	p.soil(r.chunk)
	switch {
	case r.ended(p, l.next):
		l.place = held
		p.finish(l)
	case l.next >= p.head:
		l.place = atHead
	default:
		l.place = held
		p.seek(l)
	}
	if l.unkeyed > 0 {
		p.readKeys(l)
	} else if len(l.items) > 0 {
		l.point.offer(l)
	}
	if !l.point.open() {
		l.point.await(l)
	}
}

// owns reports whether this process owns a partition.
func (st *stream) owns(partition int32) bool {
	st.mu.RLock()
	defer st.mu.RUnlock()
	return st.parts[partition] != nil
}

// streamOf finds the stream, and joins its group where it is new.
func (e *Engine) streamOf(s fanout.Stream) *stream {
	e.registry.Lock()
	defer e.registry.Unlock()
	if st := e.streams[s]; st != nil {
		return st
	}
	st := &stream{Stream: s, routes: map[uuid.UUID]*route{}, parts: map[int32]*partition{}, turns: map[int32]chan struct{}{}}
	st.index.Panicked = e.panicked
	e.streams[s] = st
	e.join(st)
	return st
}

// leave ends the process's share of a stream that nothing is pushed from any more.
func (e *Engine) leave(st *stream) {
	e.registry.Lock()
	defer e.registry.Unlock()
	st.mu.RLock()
	empty := len(st.routes) == 0
	st.mu.RUnlock()
	if empty && e.streams[st.Stream] == st {
		delete(e.streams, st.Stream)
		st.stop()
	}
}

package push

import (
	"encoding/binary"
	"iter"
	"math"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"unique"

	"github.com/google/uuid"

	"github.com/eventissuer/eventissuer/broker"
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
	routes []*route
	parts  map[int32]*partition    // those that this process owns
	turns  map[int32]chan struct{} // closed when the owner before has let go

	owned, total atomic.Int32 // partitions, as last seen
}

// route is the way of one incarnation through one stream. There are as many as there are subscriptions: it is kept small.
type route struct {
	// static
	sub    *subscription
	stream *stream
	starts offsets
	until  *offsets // nil: it has no end; 0: its part there is done
	born   int64
	life   uuid.UUID
	epoch  broker.Epoch // of the topic that starts and until are of

	filter *filter.Filter // guarded by the stream's mu
	index  int32          // in the stream's routes; likewise
	chunk  uint8          // static
	replay bool           // static
}

// offsets are offsets by partition, as varints.
type offsets string

func pack(all []int64) offsets {
	b := make([]byte, 0, 4*len(all))
	for _, n := range all {
		b = binary.AppendUvarint(b, uint64(max(n, 0)))
	}
	return offsets(b)
}

// at gives a partition's offset, and 0 for one that is not among them.
func (o offsets) at(partition int32) int64 {
	for i, shift, n, p := 0, 0, uint64(0), int32(0); i < len(o); i++ {
		n |= uint64(o[i]&0x7f) << shift
		if shift += 7; o[i] >= 0x80 {
			continue
		}
		if p == partition {
			return int64(n)
		}
		shift, n, p = 0, 0, p+1
	}
	return 0
}

// start is where the route begins in a partition.
func (r *route) start(p *partition) int64 {
	if r.epoch != p.epoch {
		return 0
	}
	return r.starts.at(p.id)
}

// end is where the route ends in a partition, exclusive.
func (r *route) end(p *partition) int64 {
	switch {
	case r.until == nil:
		return math.MaxInt64
	case r.epoch != p.epoch:
		return 0
	}
	return r.until.at(p.id)
}

// ended reports whether an offset is behind the route's end.
func (r *route) ended(p *partition, offset int64) bool { return r.until != nil && offset >= r.end(p) }

// subscription is a subscription as the engine remembers it, whether anything is sent to it or not. It is kept small.
type subscription struct {
	id      string      // static
	ordered atomic.Bool // events of one key wait for each other
	// Where there is one route it is in only, and where there are several, the live one's first, they are in routes, which
	// then counts. Both are replaced by the goroutine that applies changes.
	only   atomic.Pointer[route]
	routes atomic.Pointer[[]*route]

	mu      sync.Mutex
	point   *endpoint             // guarded by mu; nil while there is nothing to send
	proving *proving              // guarded by mu; nil: there is no proof to be had
	version edition               // guarded by mu
	blocked unique.Handle[string] // guarded by mu
}

// edition tells one version of a definition from the next: half of its UUID, which is random.
type edition uint64

func editionOf(version uuid.UUID) edition { return edition(binary.BigEndian.Uint64(version[8:])) }

// proving is a proof that is still to be had.
type proving struct {
	pending Pending // static
	alarm   alarm   // when the endpoint is to be asked
	asking  bool    // guarded by the subscription's mu
}

// all are the subscription's routes. It takes no lock.
func (s *subscription) all() []*route {
	if all := s.routes.Load(); all != nil {
		return *all
	}
	if r := s.only.Load(); r != nil {
		return []*route{r}
	}
	return nil
}

// take replaces the subscription's routes.
func (s *subscription) take(all []*route) {
	switch len(all) {
	case 0:
		s.only.Store(nil)
		s.routes.Store(nil)
	case 1:
		s.only.Store(all[0])
		s.routes.Store(nil)
	default:
		s.routes.Store(&all)
		s.only.Store(nil)
	}
}

// live is the incarnation that is no replay; the zero UUID where there is nothing to read. It takes no lock.
func (s *subscription) live() (life uuid.UUID) {
	for _, r := range s.all() {
		if !r.replay {
			return r.life
		}
	}
	return life
}

// readFrom are the streams that the subscription reads. It takes no lock.
func (s *subscription) readFrom() iter.Seq[*stream] {
	return func(yield func(*stream) bool) {
		for _, r := range s.all() {
			if !r.replay && !yield(r.stream) {
				return
			}
		}
	}
}

// steward is the stream whose first partition's owner looks after the subscription; nil: there is none.
func (s *subscription) stewards() *stream {
	for st := range s.readFrom() {
		return st
	}
	return nil
}

// applyAll takes over changes of the definitions, in order. Subscriptions are looked up beforehand by several at a time: at
// the start there may be very many.
func (e *Engine) applyAll(changes []Change) {
	const together = 1024
	found := e.lookUp(changes[:min(len(changes), together)])
	for len(changes) > 0 {
		now := changes[:min(len(changes), together)]
		changes = changes[len(now):]
		all := found()
		found = e.lookUp(changes[:min(len(changes), together)]) // while these are applied
		for i, c := range now {
			e.apply(c, all[i])
		}
	}
}

// lookUp looks the subscriptions up that have changed. The returned function blocks until that is done.
func (e *Engine) lookUp(changes []Change) func() []*Subscription {
	found := make([]*Subscription, len(changes))
	part := func(first, step int) {
		for i := first; i < len(changes); i += step {
			if id := changes[i].ID; id != "" {
				found[i] = e.deps.Definitions.Subscription(id)
			}
		}
	}
	var looking sync.WaitGroup
	if workers := runtime.GOMAXPROCS(0); len(changes) > 2*workers {
		for first := range workers {
			looking.Go(func() { part(first, workers) })
		}
	} else {
		part(0, 1)
	}
	return func() []*Subscription { looking.Wait(); return found }
}

// apply takes over a change of the definitions, and what the subscription is as of then or later: after it, all lanes are as
// the catalog says.
func (e *Engine) apply(c Change, is *Subscription) {
	if c.ID == "" {
		e.applied.Store(max(e.applied.Load(), c.Applied))
		e.progress.Broadcast()
		return
	}
	e.registry.Lock()
	s := e.subs[c.ID]
	switch {
	case s == nil && is == nil:
		e.registry.Unlock()
		return
	case s == nil:
		s = &subscription{id: c.ID, blocked: unique.Make("")}
		e.subs[c.ID] = s
	case is == nil:
		delete(e.subs, c.ID)
	}
	e.registry.Unlock()

	if is == nil {
		for _, r := range s.all() {
			e.closeRoute(r)
		}
		s.take(nil)
		s.retire()
		e.provable(s, nil)
		return
	}
	s.mu.Lock()
	s.version, s.blocked = editionOf(is.Version), unique.Make(is.Blocked)
	s.mu.Unlock()
	s.ordered.Store(is.Ordered)
	all := slices.Clip(s.all())
	type place struct {
		life   uuid.UUID
		stream string
	}
	wanted := map[place]bool{}
	for n, life := range is.Lives {
		for _, w := range life.Routes {
			wanted[place{life.Incarnation, w.Stream.Name}] = true
			all = e.openRoute(s, all, is, life.Incarnation, w, n > 0)
		}
	}
	kept := make([]*route, 0, len(wanted))
	for _, r := range all {
		if wanted[place{r.life, r.stream.Name}] {
			kept = append(kept, r)
		} else {
			e.closeRoute(r)
		}
	}
	s.take(kept)
	s.renew()
	e.provable(s, is.Pending)
}

// openRoute makes a route, or brings it up to date, and returns all of the subscription's.
func (e *Engine) openRoute(s *subscription, all []*route, is *Subscription, life uuid.UUID, w Route, replay bool) []*route {
	for _, r := range all {
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
			return all
		}
		e.closeRoute(r) // the stream was taken out of the subscription and added again, or made anew
		all = slices.DeleteFunc(all, func(x *route) bool { return x == r })
		break
	}
	st := e.streamOf(w.Stream)
	r := &route{
		sub: s, life: life, chunk: chunkOf(life), stream: st, starts: pack(w.Start), born: w.Born,
		filter: is.Filter, replay: replay,
	}
	r.epoch, _ = broker.ParseEpoch(w.Epoch)
	if w.Until != nil {
		until := pack(w.Until)
		r.until = &until
	}
	st.mu.Lock()
	r.index = int32(len(st.routes))
	st.routes = append(st.routes, r)
	st.index.Add(r.filter, r)
	parts := make([]*partition, 0, len(st.parts))
	for _, p := range st.parts {
		p.mu.Lock()
		p.admit(r)
		p.mu.Unlock()
		parts = append(parts, p)
	}
	st.mu.Unlock()
	for _, p := range parts {
		p.rouse()
	}
	return append(all, r)
}

// closeRoute takes a route away, with its lanes.
func (e *Engine) closeRoute(r *route) {
	st := r.stream
	st.mu.Lock()
	last := len(st.routes) - 1
	st.routes[r.index] = st.routes[last]
	st.routes[r.index].index = r.index
	st.routes[last] = nil
	st.routes = st.routes[:last]
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
		l.touched = u.offset
		l.unkeyed++
		l.idle++
		c.items++
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
	if len(l.items) > 0 {
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
	st := &stream{Stream: s, parts: map[int32]*partition{}, turns: map[int32]chan struct{}{}}
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

package session

import (
	"cmp"
	"context"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/eventissuer/eventissuer/internal/fanout"
)

// shard drives many connections from one goroutine. It takes what is due for each that was woken, writes it without
// blocking, and parks the connection again. What would block (a full socket, a read of the log) is done by a goroutine
// that the connection gets for as long as that lasts.
type shard struct {
	// static
	server *Server
	wakeup chan struct{}
	yields bool // there is no processor but those of shards for what publishes the next event

	mu    sync.Mutex
	queue []*conn // guarded by mu

	// owned by run
	ctx     context.Context //nolint:containedctx // of run, for the goroutines that it starts
	work    []*conn
	timers  timers
	out     output
	entries []*fanout.Entry
	wire    []byte // frames
	now     time.Time
	load    load
	writes  int // not yet in the metrics
	bytes   int
	away    sync.WaitGroup
}

// Wake implements [fanout.Shard].
func (s *shard) Wake(readers []*fanout.Reader) {
	s.mu.Lock()
	for _, r := range readers {
		if c := r.Owner().(*conn); c.queued.CompareAndSwap(false, true) {
			s.queue = append(s.queue, c)
		}
	}
	s.mu.Unlock()
	s.nudge()
}

// enqueue has the shard look at a connection. One that is still being prepared is looked at once it begins.
func (s *shard) enqueue(c *conn) {
	if !c.begun.Load() || !c.queued.CompareAndSwap(false, true) {
		return
	}
	s.mu.Lock()
	s.queue = append(s.queue, c)
	s.mu.Unlock()
	s.nudge()
}

func (s *shard) nudge() {
	select {
	case s.wakeup <- struct{}{}:
	default:
	}
}

// run drives the shard until ctx ends, and returns when the goroutines it started have ended.
func (s *shard) run(ctx context.Context) {
	s.ctx = ctx
	defer s.away.Wait()
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		s.mu.Lock()
		s.work, s.queue = s.queue, s.work[:0]
		s.mu.Unlock()
		s.now = time.Now()
		for i, c := range s.work {
			s.work[i] = nil
			c.queued.Store(false)
			s.step(c)
			if s.yields && i%yieldEvery == yieldEvery-1 {
				runtime.Gosched()
			}
		}
		s.now = time.Now()
		for {
			c, kind, ok := s.timers.due(s.now)
			if !ok {
				break
			}
			s.fire(c, kind)
		}
		if s.writes > 0 {
			s.server.m.writes.Add(float64(s.writes))
			s.server.m.bytes.Add(float64(s.bytes))
			s.writes, s.bytes = 0, 0
		}
		if len(s.work) > 0 {
			s.mu.Lock()
			more := len(s.queue) > 0
			s.mu.Unlock()
			if more {
				if ctx.Err() != nil {
					return
				}
				now := time.Now()
				s.load.rest(now)
				s.load.work(now)
				continue
			}
		}
		if d, ok := s.timers.next(time.Now()); ok {
			timer.Reset(d)
		} else {
			timer.Reset(time.Hour)
		}
		s.load.rest(time.Now())
		select {
		case <-s.wakeup:
		case <-timer.C:
		case <-ctx.Done():
			return
		}
		s.load.work(time.Now())
	}
}

// gatherFor is how long a connection gathers before it is written to again: as long as it asked for, else as the shard
// has work. Gathering pays where processor time is scarce; where it is not, it would only be delay.
func (s *shard) gatherFor(c *conn) time.Duration {
	if c.flushAsked {
		return c.flush
	}
	return time.Duration(float64(c.flush) * min(1, max(0, (s.load.busy-idleEnough)/(busyEnough-idleEnough))))
}

// Between these shares of its time that a shard works, gathering grows from nothing to the whole flush interval.
const (
	idleEnough = 0.5
	busyEnough = 0.85
	loadWindow = 50 * time.Millisecond
)

// yieldEvery is how many connections a shard that yields serves, about 100 µs, before others may run.
const yieldEvery = 16

// load is the share of its time that a goroutine works, smoothed over some windows.
type load struct {
	busy   float64 // 0 to 1
	since  time.Time
	worked time.Duration
	began  time.Time // of the present work
}

func (l *load) work(now time.Time) { l.began = now }

func (l *load) rest(now time.Time) {
	if l.since.IsZero() {
		l.since, l.began = now, now
		return
	}
	l.worked += now.Sub(l.began)
	if window := now.Sub(l.since); window >= loadWindow {
		l.busy += (float64(l.worked)/float64(window) - l.busy) / 2
		l.since, l.worked = now, 0
	}
}

// step does what a connection has due.
func (s *shard) step(c *conn) {
	if c.gone {
		return
	}
	defer s.server.guard(func() { s.fail(c) })
	if c.fresh.Swap(false) {
		s.timers.add(c, timerBeat, s.now.Add(c.heartbeat))
	}
	if c.isAway {
		if !c.returned.Swap(false) {
			return // its goroutine looks at everything before it returns
		}
		c.isAway = false
	}
	if c.hungUp.Load() {
		s.out.reset()
		c.asked(&s.out) // what it acknowledged before it left
		s.drop(c, endClient)
		return
	}
	if end := c.end.Load(); end != nil {
		s.finish(c, end)
		return
	}
	if wait := c.notBefore.Sub(s.now); wait > 0 {
		if s.out.reset(); c.waits() && !s.write(c) { // a pong does not wait
			return
		}
		s.later(c, wait)
		return
	}
	s.out.reset()
	c.asked(&s.out)
	status := c.feed.gather(&s.out, &s.entries, writeBytes)
	if (s.out.size() > 0 || c.waits()) && !s.write(c) {
		return
	}
	switch status {
	case fanout.Idle:
		if !c.feed.park() {
			s.enqueue(c)
		}
	case fanout.More:
		c.notBefore = time.Time{} // a full write is followed at once by the next
		s.enqueue(c)
	case fanout.Behind:
		s.sendAway(c, c.catchUp)
	case fanout.Ended:
		p := c.feed.ended()
		c.finish("problem", p, endStream)
		s.enqueue(c)
	}
}

// write sends s.out to the connection. It returns false where the connection is no longer the shard's.
func (s *shard) write(c *conn) bool {
	shared, own := c.due(&s.out, &s.wire)
	n, err := c.tryWrite(shared)
	s.bytes += n
	if shared = shared[n:]; err == nil && len(shared) == 0 {
		n, err = c.tryWrite(own)
		s.bytes += n
		own = own[n:]
	}
	if err != nil {
		c.torn = true
		s.drop(c, endClient)
		return false
	}
	if s.out.size() > 0 { // else it is a WebSocket's own, beside which heartbeats go on
		s.writes++
		c.lastWrite, c.notBefore = s.now, s.now.Add(s.gatherFor(c))
	}
	if len(shared)+len(own) > 0 {
		own = append([]byte(nil), own...)
		s.sendAway(c, func(ctx context.Context) error { return c.writeBoth(ctx, shared, own) })
		return false
	}
	c.feed.written()
	return true
}

// sendAway gives the connection to a goroutine until work is done.
func (s *shard) sendAway(c *conn, work func(context.Context) error) {
	c.isAway = true
	c.feed.unpark()
	s.away.Go(func() {
		defer func() {
			c.returned.Store(true)
			s.enqueue(c)
		}()
		defer s.server.guard(func() { c.torn = true; c.hungUp.Store(true) })
		if err := work(s.ctx); err != nil {
			c.torn = true
			c.hungUp.Store(true)
		} else {
			c.feed.written()
		}
	})
}

// start takes a new connection on.
func (s *shard) start(c *conn) {
	c.fresh.Store(true)
	c.begun.Store(true)
	s.enqueue(c)
}

// closeAll ends what is left once run has returned.
func (s *shard) closeAll() {
	s.mu.Lock()
	queue := s.queue
	s.queue = nil
	s.mu.Unlock()
	for _, c := range queue {
		if !c.gone {
			s.drop(c, endDrain)
		}
	}
	s.away.Wait()
}

// later looks at the connection again once its flush interval has passed.
func (s *shard) later(c *conn, wait time.Duration) {
	if !c.deferred {
		c.deferred = true
		s.timers.add(c, timerFlush, s.now.Add(wait))
	}
}

func (s *shard) fire(c *conn, kind timerKind) {
	switch {
	case kind == timerFlush:
		c.deferred = false
		s.step(c)
	case c.gone:
	case c.isAway:
		s.timers.add(c, timerBeat, s.now.Add(c.heartbeat))
	default:
		s.beat(c)
	}
}

// beat sends a heartbeat where nothing was written for as long as one lasts.
func (s *shard) beat(c *conn) {
	defer s.server.guard(func() { s.fail(c) })
	if due := c.lastWrite.Add(c.heartbeat); due.After(s.now) {
		s.timers.add(c, timerBeat, due)
		return
	}
	s.timers.add(c, timerBeat, s.now.Add(c.heartbeat))
	s.out.reset()
	c.feed.unpark()
	if status := c.feed.gather(&s.out, &s.entries, writeBytes); status == fanout.Idle && s.out.size() == 0 {
		c.feed.beat(&s.out)
	}
	if s.out.size() == 0 || s.write(c) {
		s.enqueue(c) // which parks it again
		c.notBefore = time.Time{}
	}
}

// finish writes the last message and closes. A peer that does not read is not waited for.
func (s *shard) finish(c *conn, end *ending) {
	s.out.reset()
	c.asked(&s.out)
	if end.name != "" {
		text := c.feed.cursor()
		c.feed.codec.control(&s.out, end.name, c.payloadOf(end), text)
	}
	c.feed.seal(&s.out)
	_, own := c.due(&s.out, &s.wire)
	if n, err := c.tryWrite(own); err != nil || n < len(own) || c.frames == nil {
		c.torn = true
		s.drop(c, end.reason)
		return
	}
	s.letGo(c, end.reason)
	c.frames.finish(s.server, end)
}

// fail ends a connection in whose turn a panic was.
func (s *shard) fail(c *conn) {
	if !c.gone {
		c.torn = true
		s.drop(c, endFailure)
	}
}

// drop closes a connection.
func (s *shard) drop(c *conn, reason string) {
	if c.frames != nil {
		c.frames.hangUp()
	} else {
		_ = c.net.Close()
	}
	s.letGo(c, reason)
}

// letGo gives up what a session holds. Its connection is no longer the shard's.
func (s *shard) letGo(c *conn, reason string) {
	c.gone = true
	s.timers.left()
	c.feed.unpark()
	s.server.unwatch(c)
	for i := range c.feed.parts {
		if c.feed.parts[i].held != nil { // saving waits for the log
			s.away.Go(func() { c.feed.close(); s.server.leave(&c.entry, reason) })
			return
		}
	}
	c.feed.close()
	c.feed = feed{} // a timer may still name the connection
	s.server.leave(&c.entry, reason)
}

// timers is a heap of when to look at connections.
type timers struct {
	heap []timerItem
	gone int // connections that may still be in it though they are gone, about
}

// left notes that a connection is gone. Once they are many they are swept out: connections may come and go much faster than
// their heartbeats are due.
func (t *timers) left() {
	t.gone++
	if t.gone < sweepLeast || t.gone < len(t.heap)/2 {
		return
	}
	t.gone = 0
	t.heap = slices.DeleteFunc(t.heap, func(i timerItem) bool { return i.conn.gone })
	slices.SortFunc(t.heap, func(a, b timerItem) int { return cmp.Compare(a.at, b.at) }) // which is a heap, too
}

// sweepLeast is for how few that are gone no sweep is made.
const sweepLeast = 1024

type timerKind uint8

const (
	timerBeat timerKind = iota
	timerFlush
)

type timerItem struct {
	at   int64 // Unix nanoseconds
	conn *conn
	kind timerKind
}

func (t *timers) add(c *conn, kind timerKind, at time.Time) {
	h := append(t.heap, timerItem{at.UnixNano(), c, kind})
	i := len(h) - 1
	for i > 0 {
		up := (i - 1) / 2
		if h[up].at <= h[i].at {
			break
		}
		h[up], h[i] = h[i], h[up]
		i = up
	}
	t.heap = h
}

func (t *timers) due(now time.Time) (*conn, timerKind, bool) {
	if len(t.heap) == 0 || t.heap[0].at > now.UnixNano() {
		return nil, 0, false
	}
	h := t.heap
	first := h[0]
	last := len(h) - 1
	h[0] = h[last]
	h[last] = timerItem{}
	h = h[:last]
	for i := 0; ; {
		l := 2*i + 1
		if l >= last {
			break
		}
		if r := l + 1; r < last && h[r].at < h[l].at {
			l = r
		}
		if h[i].at <= h[l].at {
			break
		}
		h[i], h[l] = h[l], h[i]
		i = l
	}
	t.heap = h
	return first.conn, first.kind, true
}

func (t *timers) next(now time.Time) (time.Duration, bool) {
	if len(t.heap) == 0 {
		return 0, false
	}
	return max(0, time.Duration(t.heap[0].at-now.UnixNano())), true
}

var _ fanout.Shard = (*shard)(nil)

// flags of a connection that others than its owner set.
type flags struct {
	begun    atomic.Bool // prepared: the shard may look at it
	fresh    atomic.Bool // not yet seen by its shard
	queued   atomic.Bool // in the shard's queue
	returned atomic.Bool // its goroutine has done what it was sent away for
	hungUp   atomic.Bool // the peer is gone
	end      atomic.Pointer[ending]
}

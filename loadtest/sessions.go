package loadtest

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"time"
)

// dialer opens one reader's connection and reads it.
type dialer interface {
	// session blocks until the connection has ended or ctx is done. It calls live once, when the stream's header has
	// come, and enters what it reads in r under r.tally.mu. A *rejection is an answer that is no stream.
	session(ctx context.Context, r *reader, live func()) error
}

// sessions is the client with a goroutine (or more) for each connection.
type sessions struct {
	fleet  *fleet
	dialer dialer

	mu  sync.Mutex
	end []context.CancelCauseFunc // guarded by mu; ends the session of the reader with that number
}

func newSessions(f *fleet, d dialer) *sessions {
	return &sessions{fleet: f, dialer: d, end: make([]context.CancelCauseFunc, len(f.readers))}
}

// Causes of a session's end by its own client, after which it comes back at once.
var (
	errDropped = errors.New("dropped by a storm")
	errExpired = errors.New("it has lived as long as it was to")
)

func (s *sessions) drop(share float64, away time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := s.fleet.all
	all.stormAt.Store(time.Now().Add(away).UnixNano())
	for i, end := range s.end {
		if end != nil && chosen(s.fleet.readers[i].number, share) {
			all.away.Add(1)
			all.waiting.Add(1)
			end(errDropped)
		}
	}
	all.storms.Add(1)
}

// begin makes the context of one session of a reader.
func (s *sessions) begin(ctx context.Context, r *reader) context.Context {
	ctx, end := context.WithCancelCause(ctx)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.end[r.index] = end
	return ctx
}

// over releases what begin made, and returns why the session had to end, or nil where it was not made to.
func (s *sessions) over(session context.Context, r *reader) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	cause := context.Cause(session)
	s.end[r.index](nil)
	s.end[r.index] = nil
	return cause
}

// expire ends a session once it has lived as long as it was to. The returned function ends that.
func (s *sessions) expire(r *reader) (stop func()) {
	if s.fleet.lifetime == 0 {
		return func() {}
	}
	t := time.AfterFunc(lifetime(s.fleet.lifetime), func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if end := s.end[r.index]; end != nil && s.fleet.all.to.Load() == 0 {
			end(errExpired)
		}
	})
	return func() { t.Stop() }
}

// lifetime spreads the lives of connections, lest those that began together end together.
func lifetime(mean time.Duration) time.Duration { return mean/2 + rand.N(mean) }

func (s *sessions) run(ctx context.Context) error {
	slots := make(chan struct{}, s.fleet.dials)
	start := time.Now()
	var all sync.WaitGroup
	defer all.Wait()
	for i, r := range s.fleet.readers {
		if ramp := s.fleet.ramp; ramp > 0 {
			if !wait(ctx, time.Until(start.Add(time.Duration(float64(i)/ramp*float64(time.Second))))) {
				return nil
			}
		}
		all.Go(func() { s.keep(ctx, r, slots) })
	}
	<-ctx.Done()
	return nil
}

// keep holds one reader connected until ctx is done or the server tells it to stop.
func (s *sessions) keep(ctx context.Context, r *reader, slots chan struct{}) {
	for ctx.Err() == nil {
		select {
		case slots <- struct{}{}:
		case <-ctx.Done():
			return
		}
		var once sync.Once
		release := func() { once.Do(func() { <-slots }) }
		r.dialed = time.Now().UnixNano()
		session := s.begin(ctx, r)
		stop := s.expire(r)
		err := s.dialer.session(session, r, release)
		stop()
		release()
		cause := s.over(session, r)

		r.tally.mu.Lock()
		final := false
		var no *rejection
		if rejected := errors.As(err, &no); cause == nil && err != nil && (rejected || !r.headed) {
			status, why := 0, err.Error()
			if rejected {
				status, why = no.status, no.line
			}
			final = r.rejectedWith(status, why)
		}
		r.lost()
		if errors.Is(cause, errDropped) {
			r.drop()
		}
		asked := r.retry
		r.tally.mu.Unlock()
		if errors.Is(cause, errDropped) && !wait(ctx, time.Until(time.Unix(0, r.all.stormAt.Load()))) {
			return
		}
		atOnce := errors.Is(cause, errDropped) || errors.Is(cause, errExpired)
		if final || !atOnce && !wait(ctx, pause(asked)) {
			return
		}
	}
}

// enter runs fn, which enters what was read, under the shard's lock, and counts what it delivered.
func (r *reader) enter(fn func(now int64)) {
	now := time.Now().UnixNano()
	r.tally.mu.Lock()
	before := r.tally.deliveries
	fn(now)
	delivered := r.tally.deliveries - before
	r.tally.mu.Unlock()
	if delivered > 0 {
		r.all.deliveries.Add(delivered)
		r.all.lastAt.Store(now)
	}
}

// wait sleeps, and says whether it slept to the end.
func wait(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

package loadtest

import (
	"context"
	"errors"
	"net"
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

// errDropped ends a session that is dropped on purpose.
var errDropped = errors.New("dropped")

func (s *sessions) drop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fleet.all.stormAt.Store(time.Now().UnixNano())
	for _, end := range s.end {
		if end != nil {
			end(errDropped)
		}
	}
}

// begin makes the context of one session of a reader.
func (s *sessions) begin(ctx context.Context, r *reader) context.Context {
	ctx, end := context.WithCancelCause(ctx)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.end[r.index] = end
	return ctx
}

// over releases what begin made.
func (s *sessions) over(r *reader) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.end[r.index](nil)
	s.end[r.index] = nil
}

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
		err := s.dialer.session(session, r, release)
		release()
		stopped := session.Err() != nil
		dropped := errors.Is(context.Cause(session), errDropped)
		s.over(r)

		r.tally.mu.Lock()
		final := false
		if !r.headed && !stopped && err != nil {
			status, why := 0, err.Error()
			var no *rejection
			if errors.As(err, &no) {
				status, why = no.status, no.line
			}
			final = r.rejectedWith(status, why)
		}
		r.lost()
		r.storm = r.storm || dropped
		asked := r.retry
		r.tally.mu.Unlock()
		if final || !dropped && !wait(ctx, pause(asked)) {
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

// netDialer binds reader i to one of the source addresses in turn.
func netDialer(sources []string, i int) *net.Dialer {
	d := &net.Dialer{Timeout: 30 * time.Second}
	if len(sources) > 0 {
		d.LocalAddr = &net.TCPAddr{IP: net.ParseIP(sources[i%len(sources)])}
	}
	return d
}

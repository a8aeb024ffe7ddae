package fanout

import (
	"context"
	"fmt"
	"runtime/debug"
	"sync"

	"github.com/eventissuer/eventissuer/broker"
)

// loads are a hub's reads of the log on behalf of readers that are behind. A reader waits for one, and may go away while
// it waits. A hub has a bounded number of them at once, so that a stream that cannot be read holds up no other, and so
// have all hubs together; the others queue, without a goroutine.
type loads struct {
	// static
	own    int           // at once, of this hub
	all    chan struct{} // a place for each that may be under way in the whole replica
	failed func(panicked any, stack []byte)
	ctx    context.Context //nolint:containedctx // of the hub's life: a read outlives who asked for it
	cancel context.CancelFunc

	mu      sync.Mutex
	queue   []*loading // guarded by mu
	workers int        // guarded by mu
	closed  bool       // guarded by mu
	running sync.WaitGroup
}

// loading is one read.
type loading struct {
	// static once started
	work func(ctx context.Context) // sets block or bounds, and err
	over func()                    // it is not to be joined any more; called before done is closed
	done chan struct{}

	// guarded by loads.mu
	waiters int
	left    bool // nobody waited when its turn came

	// written by work, read once done is closed
	block  *block
	bounds []broker.Bounds
	gen    uint64
	err    error
}

func newLoads(own int, all chan struct{}, failed func(any, []byte)) *loads {
	l := &loads{own: own, all: all, failed: failed}
	l.ctx, l.cancel = context.WithCancel(context.Background())
	return l
}

// start queues l, with its caller waiting for it.
func (s *loads) start(l *loading) {
	s.mu.Lock()
	defer s.mu.Unlock()
	l.waiters, l.done = 1, make(chan struct{})
	if s.closed {
		l.err = errHubEnds
		close(l.done)
		return
	}
	s.queue = append(s.queue, l)
	if s.workers < s.own {
		s.workers++
		s.running.Go(s.run)
	}
}

// spawn runs what is of the hub's life until it ends; f is to heed the context. It returns false once the hub ends.
func (s *loads) spawn(f func()) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false
	}
	s.running.Go(f)
	return true
}

// join has the caller wait for l too. It returns false where l was given up.
func (s *loads) join(l *loading) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if l.left {
		return false
	}
	l.waiters++
	return true
}

// await waits for l, or until ctx ends, which ends the caller's interest in it. The error is ctx's alone.
func (s *loads) await(ctx context.Context, l *loading) error {
	select {
	case <-l.done:
		return nil
	case <-ctx.Done():
		s.leave(l)
		return ctx.Err()
	}
}

// leave ends the interest of one who waits.
func (s *loads) leave(l *loading) {
	s.mu.Lock()
	defer s.mu.Unlock()
	l.waiters--
}

// run works the queue off.
func (s *loads) run() {
	for {
		l := s.take()
		if l == nil {
			return
		}
		select {
		case s.all <- struct{}{}:
			s.do(l)
			<-s.all
		case <-s.ctx.Done():
			l.err = errHubEnds
		}
		l.over()
		close(l.done)
	}
}

// take takes the first of the queue that somebody waits for. nil ends the worker.
func (s *loads) take() *loading {
	for {
		s.mu.Lock()
		if len(s.queue) == 0 {
			s.workers--
			s.queue = nil
			s.mu.Unlock()
			return nil
		}
		l := s.queue[0]
		s.queue[0] = nil
		s.queue = s.queue[1:]
		l.left = l.waiters == 0
		left := l.left
		s.mu.Unlock()
		if !left {
			return l
		}
		l.over()
		close(l.done)
	}
}

func (s *loads) do(l *loading) {
	defer func() {
		if p := recover(); p != nil {
			s.failed(p, debug.Stack())
			l.err = fmt.Errorf("%w: a mistake of the server", broker.ErrUnavailable)
		}
	}()
	l.work(s.ctx)
}

var errHubEnds = fmt.Errorf("%w: the hub ends", broker.ErrUnavailable)

// close ends what is under way, and waits for it.
func (s *loads) close() {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.cancel()
	s.running.Wait()
}

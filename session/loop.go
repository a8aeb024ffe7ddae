package session

import (
	"context"
	"sync"
	"time"

	"github.com/eventissuer/eventissuer/internal/fanout"
)

// loop drives one session from a goroutine of its own, for transports that cannot be written to without blocking.
type loop struct {
	// static
	server    *Server
	heartbeat time.Duration
	flush     time.Duration

	entry // of the server's register

	wake chan struct{} // one place: something is due, or asked for

	quit chan struct{} // closed with the first stop

	mu   sync.Mutex
	end  *ending           // guarded by mu
	jobs []func(o *output) // what a client asked for in flight; bounded by asks; guarded by mu
	cut  func()            // closes the connection under a write that waits for its peer; guarded by mu
	// interrupt ends a wait for the log, so that run looks at what is asked; nil where there is none; guarded by mu.
	interrupt func()

	// owned by run
	from source
	out  output
	last time.Time
}

// source is what a session is written from: streams, or its share of a subscription. It belongs to one goroutine.
type source interface {
	// gather writes what is due, about writeBytes, and tells what to do next.
	gather(o *output) fanout.Status
	// fill reads the log where gather found that the source is behind it.
	fill(ctx context.Context, o *output) (fanout.Status, error)
	// park returns false where something is due. Until unpark the loop is woken once something is.
	park() bool
	unpark()
	// written tells that what was gathered is on its way to the client.
	written()
	// tell writes a control message, or where it has no name the cursor alone.
	tell(o *output, name string, payload any)
	// seal writes what the session ends with.
	seal(o *output)
	// ended tells why gather found that there is nothing more to come.
	ended() ending
	close()
}

// streams are a feed as the source of a loop.
type streams struct {
	*feed
	entries []*fanout.Entry // scratch
}

func (s *streams) gather(o *output) fanout.Status { return s.feed.gather(o, &s.entries, writeBytes) }

func (s *streams) fill(ctx context.Context, o *output) (fanout.Status, error) {
	return s.feed.fill(ctx, o, &s.entries, catchUpBytes)
}

func (s *streams) tell(o *output, name string, payload any) {
	if name == "" {
		s.beat(o)
		return
	}
	s.codec.control(o, name, payload, s.cursor())
}

func (s *streams) ended() ending { return ending{"problem", s.feed.ended(), endStream} }

// maxJobs bounds what a client may ask for before it is answered.
const maxJobs = 64

func newLoop(s *Server, info Info, q Request) *loop {
	l := &loop{server: s, heartbeat: s.beat(q), flush: s.flush(q), wake: make(chan struct{}, 1), quit: make(chan struct{}), entry: entry{info: info, request: q.RequestID}}
	l.entry.stop, l.entry.cut = l.stop, l.cutOff
	return l
}

// read has the loop written from a feed.
func (l *loop) read(f *feed) {
	l.from = &streams{feed: f}
	f.onLost(l.stop)
}

func (l *loop) cutBy(cut func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.cut = cut
}

// cutOff closes the connection, whatever is being written to it.
func (l *loop) cutOff() {
	l.mu.Lock()
	cut := l.cut
	l.mu.Unlock()
	if cut != nil {
		cut()
	}
}

func (l *loop) notify() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

func (l *loop) stop(name string, payload any, reason string) {
	l.mu.Lock()
	if l.end == nil {
		l.end = &ending{name, payload, reason}
		close(l.quit)
	}
	if l.interrupt != nil {
		l.interrupt()
	}
	l.mu.Unlock()
	l.notify()
}

// do has run call job before it writes on. It returns false where too much is asked already.
func (l *loop) do(job func(o *output)) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.jobs) >= maxJobs {
		return false
	}
	l.jobs = append(l.jobs, job)
	if l.interrupt != nil {
		l.interrupt()
	}
	l.notify()
	return true
}

// uninterrupted begins a wait for the log that ends when the next heartbeat is due, or something is asked.
func (l *loop) uninterrupted(ctx context.Context, d time.Duration) (context.Context, func()) {
	ctx, cancel := context.WithTimeout(ctx, d)
	l.mu.Lock()
	l.interrupt = cancel
	if l.end != nil || len(l.jobs) > 0 {
		cancel()
	}
	l.mu.Unlock()
	return ctx, func() {
		l.mu.Lock()
		l.interrupt = nil
		l.mu.Unlock()
		cancel()
	}
}

func (l *loop) asked() (jobs []func(o *output), end *ending) {
	l.mu.Lock()
	defer l.mu.Unlock()
	jobs, l.jobs = l.jobs, nil
	return jobs, l.end
}

// serve is run from a goroutine that is not the server's own.
func (l *loop) serve(ctx context.Context, to sink, first func(*output)) {
	l.server.loops.Add(1)
	defer l.server.loops.Done()
	l.run(ctx, to, first)
}

// run serves the session until it ends. It closes the source and leaves the register.
func (l *loop) run(ctx context.Context, to sink, first func(*output)) {
	reason := endClient
	defer func() {
		l.from.close()
		l.server.leave(&l.entry, reason)
	}()
	defer l.server.guard(func() { reason = endFailure })
	l.out.reset()
	first(&l.out)
	if _, err := to.write(&l.out); err != nil {
		return
	}
	l.last = time.Now()
	timer := time.NewTimer(l.heartbeat)
	defer timer.Stop()
	defer l.out.release()
	for ctx.Err() == nil {
		l.out.reset()
		jobs, end := l.asked()
		for _, job := range jobs {
			job(&l.out)
		}
		var status fanout.Status
		if end != nil {
			reason = end.reason
			if end.name != "" {
				l.from.tell(&l.out, end.name, l.payloadOf(end))
			}
			l.from.seal(&l.out)
			if l.out.size() > 0 {
				_, _ = to.write(&l.out)
			}
			return
		}
		status = l.from.gather(&l.out)
		if status == fanout.Behind {
			status = l.fill(ctx)
			if status == fanout.Idle {
				status = fanout.More // it met the ring: look there
			}
		}
		if l.out.size() == 0 && time.Since(l.last) >= l.heartbeat {
			l.from.tell(&l.out, "", nil)
		}
		wrote := l.out.size() > 0
		if wrote {
			n, err := to.write(&l.out)
			if err != nil {
				return
			}
			l.server.m.writes.Inc()
			l.server.m.bytes.Add(float64(n))
			l.last = time.Now()
			l.from.written()
			if l.out.pooled != nil || cap(l.out.buf) > 2*writeBytes {
				l.out.release() // others write meanwhile, and few writes are that large
			}
		}
		switch status {
		case fanout.Ended:
			end := l.from.ended()
			l.stop(end.name, end.payload, end.reason)
			continue
		case fanout.More, fanout.Behind:
			continue
		}
		if wrote && l.flush > 0 {
			l.gatherFor(ctx, l.flush)
		}
		if !l.from.park() {
			continue
		}
		l.out.release() // an idle session holds no buffer
		timer.Reset(max(0, time.Until(l.last.Add(l.heartbeat))))
		select {
		case <-l.wake:
		case <-timer.C:
		case <-ctx.Done():
		}
		l.from.unpark()
	}
}

// fill reads the log for a part that is behind. A log that fails is left alone for a moment.
func (l *loop) fill(ctx context.Context) fanout.Status {
	reading, done := l.uninterrupted(ctx, time.Until(l.last.Add(l.heartbeat)))
	status, err := l.from.fill(reading, &l.out)
	failed := err != nil && reading.Err() == nil
	done()
	if failed {
		l.server.m.readErrors.Inc()
		if l.out.size() == 0 {
			waiting, done := l.uninterrupted(ctx, readRetry)
			<-waiting.Done()
			done()
		}
	}
	return status
}

// gatherFor lets a busy session gather what its next write carries. Its end is not kept waiting.
func (l *loop) gatherFor(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-l.quit:
	case <-ctx.Done():
	}
}

func (l *loop) ending() *ending {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.end
}

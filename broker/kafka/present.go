package kafka

import (
	"context"
	"sync"

	"github.com/eventissuer/eventissuer/broker"
)

// presents asks which life of a topic is the present one, once for all who want to know at the same time. An answer
// counts for those alone who came before its question was put, so who comes while one is open waits for the next.
type presents struct {
	mu   sync.Mutex
	open map[string]*present // questions under way, by topic; guarded by mu
	next map[string]*present // those that follow; guarded by mu
}

type present struct {
	epoch broker.Epoch
	err   error
	done  chan struct{} // closed once the others are set
}

func newPresents() *presents {
	return &presents{open: map[string]*present{}, next: map[string]*present{}}
}

// Present implements broker.Prover.
func (l *Log) Present(ctx context.Context, topic string) (broker.Epoch, error) {
	p := l.presents
	p.mu.Lock()
	waits := p.next[topic]
	if waits == nil {
		waits = &present{done: make(chan struct{})}
		if p.open[topic] == nil {
			p.open[topic] = waits
			l.askPresent(topic, waits)
		} else {
			p.next[topic] = waits
		}
	}
	p.mu.Unlock()
	select {
	case <-waits.done:
		return waits.epoch, waits.err
	case <-ctx.Done():
		return broker.Epoch{}, outOfTime(ctx, nil, ctx.Err())
	}
}

// askPresent puts a question, and then the one that follows it. The caller holds the mutex.
func (l *Log) askPresent(topic string, a *present) {
	a.err = broker.ErrClosed // where the log is closed, nothing is asked
	l.background(func() {
		close(a.done)
		go l.askNext(topic) // its own goroutine: the mutex is held where the log is closed
	}, func(ctx context.Context) {
		view, err := l.fresh(ctx, topic)
		if a.err = err; err == nil {
			a.epoch = view.epoch
		}
	})
}

func (l *Log) askNext(topic string) {
	p := l.presents
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.open, topic)
	if next := p.next[topic]; next != nil {
		delete(p.next, topic)
		p.open[topic] = next
		l.askPresent(topic, next)
	}
}

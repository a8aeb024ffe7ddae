// Package kafka is the broker contract on Kafka, by sarama.
//
// A broker answers the requests of one connection one after the other, so each purpose has connections of its own: the
// producer, every tail (one per leader it reads from), random reads (a small pool), consumer groups, and questions
// about topics. A publish never waits behind a tail's long poll.
//
// Everything reads committed records only, no request ever makes a topic, and no offset is ever reset: what is gone is
// told by package broker's errors and gaps.
package kafka

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/IBM/sarama"

	"github.com/eventissuer/eventissuer/broker"
)

// Log is broker.Log on a Kafka cluster. Its methods may be called concurrently.
type Log struct {
	// static
	cfg       Config
	base      *sarama.Config
	log       *slog.Logger
	metrics   *metrics
	cluster   *cluster
	questions *pool
	reads     *pool
	producers *producers
	ends      *endsKept
	presents  *presents

	mu     sync.Mutex // guards what follows
	closed bool
	next   uint64
	calls  map[uint64]context.CancelCauseFunc // under way
	busy   sync.WaitGroup
}

var (
	_ broker.Log    = (*Log)(nil)
	_ broker.Placer = (*Log)(nil)
)

// New prepares the clients of a cluster. It does not wait for the cluster: a broker that cannot be reached shows in
// the first call. It fails where the configuration cannot work.
func New(cfg Config, deps Deps) (*Log, error) {
	cfg = cfg.withDefaults()
	base, err := cfg.sarama()
	if err != nil {
		return nil, err
	}
	if deps.Log == nil {
		deps.Log = slog.New(slog.DiscardHandler)
	}
	l := &Log{
		cfg:       cfg,
		base:      base,
		log:       deps.Log,
		metrics:   newMetrics(deps.Registerer),
		questions: newPool(base, 4),
		reads:     newPool(base, cfg.ReadConnections),
		calls:     make(map[uint64]context.CancelCauseFunc),
	}
	l.cluster = newCluster(cfg.Brokers, max(cfg.RequestTimeout/4, time.Millisecond), l.questions)
	l.producers = newProducers(l)
	l.ends = newEndsKept()
	l.presents = newPresents()
	return l, nil
}

// begin starts a call that Close ends and waits for. A limit of 0 means none.
func (l *Log) begin(ctx context.Context, limit time.Duration) (context.Context, func(), error) {
	ctx, cancel := context.WithCancelCause(ctx)
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		cancel(nil)
		return nil, nil, broker.ErrClosed
	}
	id := l.next
	l.next++
	l.calls[id] = cancel
	l.busy.Add(1)
	l.mu.Unlock()

	stop := func() {}
	if limit > 0 {
		ctx, stop = context.WithTimeout(ctx, limit)
	}
	return ctx, func() {
		stop()
		cancel(nil)
		l.mu.Lock()
		delete(l.calls, id)
		l.mu.Unlock()
		l.busy.Done()
	}, nil
}

// Close ends everything under way and blocks until it has ended. Messages that were accepted are still sent, for at
// most the append deadline.
func (l *Log) Close() error {
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		l.busy.Wait()
		return nil
	}
	l.closed = true
	for _, cancel := range l.calls {
		cancel(broker.ErrClosed)
	}
	l.mu.Unlock()
	l.busy.Wait()
	l.producers.close()
	l.reads.close()
	l.questions.close()
	return nil
}

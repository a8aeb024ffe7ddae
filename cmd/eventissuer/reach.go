package main

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/eventissuer/eventissuer/broker"
)

const (
	reachInterval = 5 * time.Second // between two questions
	reachTimeout  = 2 * time.Second // for an answer
)

// reach tells whether something that the server depends on can be reached: to the log when that changes, and to /readyz.
type reach struct {
	// static
	name string // for people
	then string // what it means that it cannot be reached
	ask  func(ctx context.Context) error
	log  *slog.Logger

	mu  sync.Mutex
	err error // of the last question; guarded by mu
}

// problem gives why it cannot be reached, or nil.
func (r *reach) problem() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.err
}

// watch asks at once and then again and again, until ctx or enough ends. It then returns nil.
func (r *reach) watch(ctx context.Context, enough <-chan struct{}) error {
	again := time.NewTicker(reachInterval)
	defer again.Stop()
	for {
		asking, cancel := context.WithTimeout(ctx, reachTimeout)
		err := r.ask(asking)
		cancel()
		if ctx.Err() != nil {
			return nil
		}
		r.enter(err)
		select {
		case <-ctx.Done():
			return nil
		case <-enough:
			r.enter(nil)
			<-ctx.Done()
			return nil
		case <-again.C:
		}
	}
}

func (r *reach) enter(err error) {
	r.mu.Lock()
	before := r.err
	r.err = err
	r.mu.Unlock()
	switch {
	case err != nil && (before == nil || before.Error() != err.Error()): // what it is may show only later, as behind a time-out
		r.log.Warn(r.name+" cannot be reached: "+r.then, "error", err)
	case err == nil && before != nil:
		r.log.Info(r.name + " can be reached")
	}
}

// watchStorage tells who waits for the server's start what it waits for. What becomes of Kafka later is told by those
// who read and write there.
func (s *server) watchStorage(context.Context) error {
	loaded := make(chan struct{})
	s.kafkaReach = &reach{
		name: "Kafka", then: "the server is not ready until it can be", log: s.log,
		ask: func(ctx context.Context) error {
			_, err := s.records.Describe(ctx, s.ownTopic("catalog"))
			if errors.Is(err, broker.ErrNoTopic) {
				return nil // it answers
			}
			return err
		},
	}
	s.redisReach = &reach{
		name: "Redis", then: "nothing is lost, but a named consumer's last seconds may come again", log: s.log,
		ask: func(ctx context.Context) error { return s.redis.Ping(ctx).Err() },
	}
	s.life.run("watch of Kafka", func(ctx context.Context) error { return s.kafkaReach.watch(ctx, loaded) })
	s.life.run("watch of Redis", func(ctx context.Context) error { return s.redisReach.watch(ctx, nil) })
	s.loaded = sync.OnceFunc(func() { close(loaded) })
	return nil
}

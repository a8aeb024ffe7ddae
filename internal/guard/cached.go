package guard

import (
	"context"
	"sync"
	"time"
)

// cached is a value that is good for a while and fetched by one caller for all that want it meanwhile.
type cached[T any] struct {
	mu     sync.Mutex
	value  T          // guarded by mu
	err    error      // that there is no value; guarded by mu
	until  time.Time  // guarded by mu
	flight *flight[T] // guarded by mu
}

type flight[T any] struct {
	done    chan struct{}
	value   T     // once done
	err     error // once done
	aborted bool  // its caller's context was done, which says nothing to others
}

// get gives the value that is kept, or fetches another, which is kept until the time that fetch says, and so is an error.
// It waits no longer than the context; the error is then [ended]'s.
func (c *cached[T]) get(ctx context.Context, doing string, fetch func(context.Context) (T, time.Time, error)) (v T, hit bool, err error) {
	for {
		c.mu.Lock()
		if time.Now().Before(c.until) {
			v, err := c.value, c.err
			c.mu.Unlock()
			return v, true, err
		}
		f := c.flight
		if f == nil {
			f = &flight[T]{done: make(chan struct{}), aborted: true}
			c.flight = f
			c.mu.Unlock()
			v, err := c.lead(ctx, f, fetch)
			return v, false, err
		}
		c.mu.Unlock()
		select {
		case <-f.done:
			if !f.aborted {
				return f.value, true, f.err
			}
		case <-ctx.Done():
			return v, false, ended(ctx, doing)
		}
	}
}

func (c *cached[T]) lead(ctx context.Context, f *flight[T], fetch func(context.Context) (T, time.Time, error)) (T, error) {
	defer close(f.done)
	defer func() { // also after a panic
		c.mu.Lock()
		defer c.mu.Unlock()
		c.flight = nil
	}()
	value, until, err := fetch(ctx)
	f.value, f.err, f.aborted = value, err, err != nil && ctx.Err() != nil
	if !f.aborted {
		c.mu.Lock()
		c.value, c.err, c.until = value, err, until
		c.mu.Unlock()
	}
	return value, err
}

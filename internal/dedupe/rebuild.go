package dedupe

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/eventissuer/eventissuer/broker"
	"github.com/eventissuer/eventissuer/internal/event"
)

// rebuilder reads into memory what topics hold, each the first time that it is used.
type rebuilder struct {
	memory *memory
	log    Log
	logger *slog.Logger

	mu     sync.RWMutex // guards what follows
	lives  map[life]*rebuild
	closed bool
	busy   sync.WaitGroup
}

// rebuild is the reading of one topic.
type rebuild struct {
	window time.Duration
	cancel context.CancelFunc
	done   chan struct{} // closed when it has ended
	err    error         // static once done is closed
}

func (r *rebuild) ended() bool {
	select {
	case <-r.done:
		return true
	default:
		return false
	}
}

func (b *rebuilder) init(m *memory, log Log, logger *slog.Logger) {
	b.memory, b.log, b.logger, b.lives = m, log, logger, make(map[life]*rebuild)
}

// await blocks until the topic's last window is known. The reading goes on when ctx ends first.
func (b *rebuilder) await(ctx context.Context, l life, window time.Duration) error {
	b.mu.RLock()
	r := b.lives[l]
	b.mu.RUnlock()
	if r == nil || r.window < window {
		var err error
		if r, err = b.begin(l, window); err != nil {
			return err
		}
	}
	if !r.ended() {
		select {
		case <-r.done:
		case <-ctx.Done():
			return fmt.Errorf("%w: %s", ErrRebuilding, l.topic)
		}
	}
	if r.err != nil {
		return fmt.Errorf("%w: %s: %w", ErrRebuilding, l.topic, r.err)
	}
	return nil
}

// begin starts reading, unless somebody has.
func (b *rebuilder) begin(l life, window time.Duration) (*rebuild, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return nil, broker.ErrClosed
	}
	if r := b.lives[l]; r != nil && r.window >= window {
		return r, nil
	}
	known := b.lives[l] != nil
	for other, r := range b.lives { // those of its earlier lives are of no use
		if other.topic == l.topic && !other.is(l) && r.ended() {
			delete(b.lives, other)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	r := &rebuild{window: window, cancel: cancel, done: make(chan struct{})}
	b.lives[l] = r
	b.busy.Go(func() {
		defer cancel()
		r.err = b.run(ctx, l, window, known)
		if r.err != nil {
			if ctx.Err() == nil {
				b.logger.Error("the events of a topic could not be read for deduplication: the next publish tries again", "topic", l.topic, "error", r.err)
			}
			b.mu.Lock()
			if b.lives[l] == r {
				delete(b.lives, l)
			}
			b.mu.Unlock()
		}
		close(r.done)
	})
	return r, nil
}

func (b *rebuilder) close() {
	b.mu.Lock()
	b.closed = true
	for _, r := range b.lives {
		r.cancel()
	}
	b.mu.Unlock()
	b.busy.Wait()
}

// run reads a topic's window. What this process has written since it began is known already, or was not to be
// deduplicated, so that reading ends where it began; unless some of it is known for a shorter window than this one.
func (b *rebuilder) run(ctx context.Context, l life, window time.Duration, known bool) error {
	began := time.Now()
	from, err := b.log.At(ctx, l.topic, b.memory.now().Add(-window))
	if err != nil {
		return err
	}
	bounds, err := b.log.Bounds(ctx, l.topic)
	if err != nil {
		return err
	}
	if !known {
		began, err := b.log.At(ctx, l.topic, b.memory.start.Add(time.Second)) // a little of its own does no harm
		if err != nil {
			return err
		}
		for p := range bounds[:min(len(bounds), len(began))] {
			bounds[p].Next = min(bounds[p].Next, began[p])
		}
	}
	from = from[:min(len(from), len(bounds))]
	total := int64(0)
	for p := range from {
		from[p] = max(from[p], bounds[p].First)
		total += max(bounds[p].Next-from[p], 0)
	}
	if room := b.memory.capacity(); total > room { // the newest of each partition
		for p := range from {
			if n := bounds[p].Next - from[p]; n > 0 {
				from[p] = bounds[p].Next - int64(float64(n)*float64(room)/float64(total))
			}
		}
		b.memory.metrics.shortened.Inc()
		b.logger.Warn("less than a topic's window fits into the memory for deduplication: older events that are published again are written again", "topic", l.topic, "window", window, "records", total, "room", room)
		total = room
	}
	g, reading := errgroup.WithContext(ctx)
	g.SetLimit(runtime.GOMAXPROCS(0))
	for p := range from {
		g.Go(func() error {
			return b.read(reading, spot{l, int32(p)}, from[p], bounds[p].Next, window)
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	info, err := b.log.Describe(ctx, l.topic)
	if err != nil {
		return err
	}
	if !epochOf(info.Epoch).is(l.epoch) {
		return fmt.Errorf("%w: %s", broker.ErrRecreated, l.topic)
	}
	took := time.Since(began)
	b.memory.metrics.rebuilds.Observe(took.Seconds())
	b.logger.Info("read a topic's events for deduplication", "topic", l.topic, "window", window, "records", total, "took", took)
	return nil
}

// read reads [at, end) of a partition.
func (b *rebuilder) read(ctx context.Context, p spot, at, end int64, window time.Duration) error {
	m := b.memory
	n, ok := m.spots.of(p)
	if !ok {
		return errors.New("there are too many partitions")
	}
	for at < end {
		batch, err := b.log.Read(ctx, p.life.topic, p.partition, at, readBytes)
		var outside *broker.RangeError
		switch {
		case errors.As(err, &outside) && at < outside.Bounds.First:
			at = outside.Bounds.First
			continue
		case err != nil:
			return err
		case batch.Next <= at:
			return nil // the end of what may be read
		}
		unix := m.unix(m.now())
		for i := range batch.Records {
			r := &batch.Records[i]
			e, err := event.FromRecord(*r)
			if err != nil || r.Offset >= 1<<offBits {
				continue
			}
			k := keyOf(e.Source(), e.ID())
			since := uint32(min(max(r.Timestamp.Unix(), 0), int64(unix)))
			sh := m.shard(&k)
			sh.mu.Lock()
			if where, before, known := sh.ids.get(&k); !known || before < since || m.outlived(where, p.life) {
				sh.put(m, &k, n, r.Offset, since, window, unix)
			}
			sh.mu.Unlock()
		}
		at = batch.Next
	}
	return nil
}

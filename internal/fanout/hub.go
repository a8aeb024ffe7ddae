package fanout

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/eventissuer/eventissuer/broker"
	"github.com/eventissuer/eventissuer/internal/clock"
	"github.com/eventissuer/eventissuer/internal/cursor"
	"github.com/eventissuer/eventissuer/internal/event"
	"github.com/eventissuer/eventissuer/internal/filter"
)

// What a reader's end is told by.
var (
	// ErrGone tells that the stream's topic is gone.
	ErrGone = errors.New("the stream is gone")
	// ErrClosed tells that this replica's hub ended.
	ErrClosed = errors.New("the hub is closed")
)

// Shard is a set of readers that are driven together. Wake must not block; readers is the hub's to reuse once it
// returned.
type Shard interface {
	Wake(readers []*Reader)
}

// publishChunk bounds how many records are matched and appended under one hold of the locks.
const publishChunk = 64

// Stream names what a hub follows.
type Stream struct {
	Name  string
	Topic string
	// Wrap is the mapping by which records that do not say that they are CloudEvents are made events, as
	// event.CompileWrap takes it; "": there are none such.
	Wrap string
}

// Hub follows one stream for all of a replica's readers.
type Hub struct {
	// static
	stream Stream
	wrap   *event.Wrap // nil: every record is a CloudEvent
	tag    cursor.Tag
	log    Log
	shards []Shard
	budget *budget
	blocks *blocks
	logger *slog.Logger
	m      *metrics
	limit  int64 // bytes of the ring
	now    func() time.Time
	clock  clock.Clock

	// viewsMu is held while records are matched, so that a view joins between two chunks and never in one.
	viewsMu sync.Mutex
	views   map[string]*view    // guarded by viewsMu
	index   filter.Index[*view] // of views; guarded by viewsMu
	readers atomic.Int64
	// What is kept for snapshots; all guarded by viewsMu.
	bounds   State
	keeps    atomic.Bool // whether there are bounds; not guarded
	ages     atomic.Bool // whether keys leave the state by their age; not guarded
	state    *state      // nil: nobody asked, it is being built, or the log was cut since
	building *building   // nil: it is not
	bases    bases
	pictures int // views of readers that have a picture

	drops     atomic.Uint64 // keys that the present state has dropped for want of room
	conflated cviews
	folds     folds

	// mu guards the ring, the lists of the views, and what follows.
	mu        sync.RWMutex
	ring      ring
	lists     int64 // bytes of the views' lists
	all       *view
	tip       *Tip
	epoch     broker.Epoch
	ends      []int64 // the highest known end of each partition: a cursor up to here is not beyond the log
	gen       uint64  // rises when the ring was emptied: readers must join anew
	cuts      []cut   // what the log lost, by the generation that began with it
	sig       uint64  // rises with every change of health, generation or end
	unhealthy error
	ended     error
	exactFrom uint64 // from here on the ring tells what entries took the place of

	// owned by the goroutine that publishes
	entries []*Entry
	befores []*Entry // what each of entries took the place of
	dropped []left   // what the state dropped for them
	// dropsAll says that dropped is all of it.
	dropsAll bool
	matched  []match
	scratch  []*view
	wake     [][]*Reader

	done chan struct{} // closed when run has returned
	quit chan struct{} // closed to end it
	once sync.Once
	idle time.Time // since when there is no reader; guarded by the Hubs' mutex
}

// cut is a loss at the log's end: positions of partition (−1: of every partition) above to sink to it.
type cut struct {
	gen       uint64
	partition int32
	to        int64
	reason    broker.GapReason
}

type match struct {
	view *view
	seq  uint64
}

// open asks where the stream stands and makes a hub that begins at its end.
func (hs *Hubs) open(ctx context.Context, s Stream) (*Hub, error) {
	h := &Hub{
		stream: s, tag: cursor.TagOf(s.Name), log: hs.log, shards: hs.shards, budget: hs.budget,
		logger: hs.logger.With("stream", s.Name), m: hs.m, limit: hs.ringBytes,
		exactFrom: math.MaxUint64, now: hs.now, clock: hs.clock,
		views: map[string]*view{}, done: make(chan struct{}), quit: make(chan struct{}), idle: hs.now(),
	}
	if s.Wrap != "" {
		var err error
		if h.wrap, err = event.CompileWrap([]byte(s.Wrap)); err != nil {
			return nil, fmt.Errorf("read records of stream %s: %w", s.Name, err)
		}
	}
	h.index.Panicked = h.panicked
	h.all = h.newView(nil, everyPartition, "")
	h.bases.hub, h.bases.most = h, baseMost
	h.conflated.most, h.conflated.rowsMost = conflatedMost, rowsMost
	h.wake = make([][]*Reader, len(h.shards)+1)
	if err := h.locate(ctx, false); err != nil {
		return nil, err
	}
	h.blocks = hs.blocks.of(h, hs.catchUp, hs.reads)
	return h, nil
}

// locate finds the topic's epoch and where the hub begins: at the ends, or for a topic that was made anew at 0.
func (h *Hub) locate(ctx context.Context, recreated bool) error {
	for {
		info, err := h.log.Describe(ctx, h.stream.Topic)
		if err != nil {
			return fmt.Errorf("describe %s: %w", h.stream.Topic, err)
		}
		bounds, err := h.log.Bounds(ctx, h.stream.Topic)
		if err != nil {
			return fmt.Errorf("find the ends of %s: %w", h.stream.Topic, err)
		}
		again, err := h.log.Describe(ctx, h.stream.Topic)
		if err != nil {
			return fmt.Errorf("describe %s: %w", h.stream.Topic, err)
		}
		if again.Epoch != info.Epoch {
			continue // remade in between: the ends may be of either life
		}
		vec := make([]int64, len(bounds))
		ends := make([]int64, len(bounds))
		for p, b := range bounds {
			ends[p] = b.Next
			if recreated {
				vec[p] = 0
			} else {
				vec[p] = b.Next
			}
		}
		if recreated { // before any reader can know of the new topic
			h.blocks.drop()
			h.loseState()
		}
		h.mu.Lock()
		h.epoch = info.Epoch
		h.ends = ends
		h.budget.add(-h.ring.clear(vec))
		h.setTip(vec)
		if recreated {
			h.gen++
			h.cuts = append(h.cuts, cut{gen: h.gen, partition: -1, reason: broker.GapRecreated})
		}
		h.mu.Unlock()
		return nil
	}
}

// setTip publishes where the hub stands. The caller holds mu, or is alone.
func (h *Hub) setTip(vec []int64) {
	h.tip = &Tip{seq: h.ring.next, vec: vec, tag: h.tag, ep: cursor.EpochOf(h.epoch)}
}

// run follows the log until ctx ends or the stream is gone.
func (h *Hub) run(ctx context.Context) {
	defer close(h.done)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		select {
		case <-h.quit:
			cancel()
		case <-ctx.Done():
		}
	}()
	var err error
	for {
		h.mu.RLock()
		epoch, from := h.epoch, h.tip.vec
		h.mu.RUnlock()
		err = h.log.Tail(ctx, h.stream.Topic, epoch, from, follower{h})
		if ctx.Err() != nil {
			err = ErrClosed
			break
		}
		if errors.Is(err, broker.ErrNoTopic) {
			err = ErrGone
			break
		}
		if errors.Is(err, broker.ErrRecreated) {
			h.logger.Warn("the topic was deleted and made again: readers go on at its beginning")
			if err = h.relocate(ctx); err != nil {
				break
			}
			continue
		}
		h.logger.Error("the tail ended and begins again", "error", err)
		h.health(err)
		if !clock.Pause(ctx, time.Second) {
			err = ErrClosed
			break
		}
	}
	h.mu.Lock()
	h.ended = err
	h.budget.add(-h.ring.clear(h.tip.vec))
	h.mu.Unlock()
	h.signal() // before the wait for reads, whose readers are told the same
	h.blocks.loads.close()
	h.blocks.drop()
	h.budget.leave()
	h.loseState()
	own := prometheus.Labels{"stream": h.stream.Name}
	h.m.stateKeys.DeletePartialMatch(own)
	h.m.stateBytes.DeletePartialMatch(own)
	if errors.Is(err, ErrGone) { // no label outlives its stream
		h.m.skipped.DeletePartialMatch(own)
		h.m.dropped.DeletePartialMatch(own)
	}
}

func (h *Hub) relocate(ctx context.Context) error {
	for {
		err := h.locate(ctx, true)
		switch {
		case err == nil:
			h.signal()
			return nil
		case errors.Is(err, broker.ErrNoTopic):
			return ErrGone
		case ctx.Err() != nil:
			return ErrClosed
		}
		h.health(err)
		if !clock.Pause(ctx, time.Second) {
			return ErrClosed
		}
	}
}

// stop ends the hub; it does not wait.
func (h *Hub) stop() { h.once.Do(func() { close(h.quit) }) }

// signal makes every reader look up.
func (h *Hub) signal() {
	h.viewsMu.Lock()
	h.mu.Lock()
	h.sig++
	wake := make([][]*Reader, len(h.shards)+1)
	h.all.release(wake)
	for _, v := range h.views {
		v.release(wake)
	}
	h.mu.Unlock()
	h.viewsMu.Unlock()
	h.deliver(wake)
}

// deliver wakes readers, by shard. The caller holds none of the hub's locks.
func (h *Hub) deliver(wake [][]*Reader) {
	for s, readers := range wake {
		switch {
		case len(readers) == 0:
		case s == 0:
			for _, r := range readers {
				r.notify()
			}
		default:
			h.shards[s-1].Wake(readers)
		}
	}
}

func (h *Hub) newView(f *filter.Filter, only int32, key string) *view {
	return &view{lot: newLot(len(h.shards)), key: key, filter: f, only: only, panicked: h.panicked}
}

func (h *Hub) panicked(value any, stack []byte) {
	h.m.panics.Inc()
	h.logger.Error("panic in a filter: its readers get the event", "panic", value, "stack", string(stack))
}

// enter finds or makes the view of a filter, of one partition or for readers with a picture where that is asked for, and
// counts one reader in.
func (h *Hub) enter(f *filter.Filter, only int32, picture bool) *view {
	h.readers.Add(1)
	h.m.readers.Inc()
	key := ""
	if f != nil {
		key = f.Key()
	}
	switch {
	case only != everyPartition:
		key = strconv.Itoa(int(only)) + "/" + key
	case picture:
		key = "picture/" + key
	case f == nil:
		return h.all
	default:
		key = "/" + key
	}
	h.viewsMu.Lock()
	defer h.viewsMu.Unlock()
	v, ok := h.views[key]
	if !ok {
		v = h.newView(f, only, key)
		if v.picture = picture; picture {
			h.pictures++
		}
		h.mu.RLock()
		v.since = h.ring.next
		h.mu.RUnlock()
		h.views[key] = v
		h.index.Add(f, v)
		h.m.views.Inc()
	}
	v.readers++
	return v
}

func (h *Hub) leave(v *view) {
	h.readers.Add(-1)
	h.m.readers.Dec()
	if v == h.all {
		return
	}
	h.viewsMu.Lock()
	defer h.viewsMu.Unlock()
	if v.readers--; v.readers == 0 {
		delete(h.views, v.key)
		h.index.Remove(v.filter, v)
		if v.picture {
			h.pictures--
		}
		h.mu.Lock()
		n := v.listBytes()
		h.lists -= n
		h.mu.Unlock()
		h.budget.add(-n)
		h.m.views.Dec()
	}
}

// Stream names what the hub follows.
func (h *Hub) Stream() Stream { return h.stream }

// Epoch is the stream's present epoch.
func (h *Hub) Epoch() broker.Epoch {
	h.mu.RLock()
	defer h.mu.RUnlock()
	return h.epoch
}

// Latest returns the hub's present vector, which is what `latest` means to a reader that starts now.
func (h *Hub) Latest() []int64 {
	h.mu.RLock()
	defer h.mu.RUnlock()
	return slices.Clone(h.tip.vec)
}

// Err tells why the hub ended, or nil while it runs.
func (h *Hub) Err() error {
	h.mu.RLock()
	defer h.mu.RUnlock()
	return h.ended
}

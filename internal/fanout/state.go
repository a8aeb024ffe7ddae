package fanout

import (
	"context"
	"errors"
	"fmt"
	"math"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/eventissuer/eventissuer/broker"
	"github.com/eventissuer/eventissuer/internal/clock"
)

// State says what a stream's hub keeps of it: the latest event of each key, for snapshots. The zero State keeps nothing.
type State struct {
	Window   time.Duration // events older than this are left out; negative: none are
	MaxKeys  int           // over which the oldest are dropped
	MaxBytes int64         // likewise, of all events and what holds them in memory
}

// ErrNoState tells that the stream keeps no state, so that there are no snapshots of it.
var ErrNoState = errors.New("the stream keeps no state")

// state is the latest event of each key as of an entry of the ring. It changes with entries alone, so that what became of
// it from one entry to another can be told by the entries in between.
type state struct {
	latest  *latest
	dropped uint64 // keys dropped over the bounds since it was built

	keys, bytes prometheus.Gauge
}

func (s *state) tell() {
	s.keys.Set(float64(s.latest.n))
	s.bytes.Set(float64(s.latest.bytes))
}

// departuresMost bounds what one entry may drop and tell one by one. Where it is more, whoever has a picture gets it anew.
const departuresMost = 1000

// apply takes the next entry, and tells what it took the place of and what was dropped when it came. all is false where
// that is not all.
func (s *state) apply(e *Entry, bounds State, now time.Time) (before *Entry, dropped []*Entry, all bool) {
	switch {
	case e.Key == 0, e.Skipped != "" && !e.tombstone:
	case e.tombstone:
		before = s.latest.remove(e.id())
	default:
		before = s.latest.put(e)
	}
	all = true
	for {
		oldest := s.latest.oldest()
		if oldest == nil {
			return before, dropped, all
		}
		over := s.over(bounds)
		if !over && !bounds.expired(oldest, now) {
			return before, dropped, all
		}
		if over {
			s.dropped++
		}
		s.latest.drop()
		if oldest == e {
			continue // it came too late, or is larger than all there may be: whoever is given it has seen that it is gone
		}
		if len(dropped) < departuresMost {
			dropped = append(dropped, oldest)
		} else {
			all = false
		}
	}
}

// over reports whether the oldest key is to be dropped for the bounds. One alone is kept whatever it takes.
func (s *state) over(bounds State) bool {
	return s.latest.n > 1 && (s.latest.n > bounds.MaxKeys || s.latest.bytes > bounds.MaxBytes)
}

// expired takes for now the earliest that it may be: a clock that is set on for a moment must not empty the state, nor one that
// is set back hide what comes after that.
func (b State) expired(e *Entry, now time.Time) bool {
	return b.Window >= 0 && e.Time < now.Add(-b.Window).UnixMilli()
}

// Keep says what the hub keeps of its stream once somebody asks for a snapshot. Without bounds it keeps nothing, and forgets
// what it kept.
func (h *Hub) Keep(bounds State) {
	if bounds == (State{}) && !h.keeps.Load() {
		return
	}
	h.viewsMu.Lock()
	defer h.viewsMu.Unlock()
	if h.bounds == bounds {
		return
	}
	h.bounds = bounds
	h.keeps.Store(bounds != (State{}))
	h.ages.Store(bounds != (State{}) && bounds.Window >= 0)
	if bounds == (State{}) {
		h.forgetState()
	}
}

// KeepsState reports whether there are snapshots of the stream, or will be once somebody asks.
func (h *Hub) KeepsState() bool { return h.keeps.Load() }

// loseState forgets the state, since the log is not what it was made from any more.
func (h *Hub) loseState() {
	h.viewsMu.Lock()
	defer h.viewsMu.Unlock()
	h.forgetState()
}

// forgetState drops the state, which whoever asks next has built anew. The caller holds viewsMu.
func (h *Hub) forgetState() {
	if h.building != nil {
		h.building.cancel()
		h.building = nil
	}
	if h.state == nil {
		return
	}
	h.state.keys.Set(0)
	h.state.bytes.Set(0)
	h.state = nil
	h.mu.Lock()
	h.exactFrom = math.MaxUint64
	h.mu.Unlock()
}

// building is the making of a state.
type building struct {
	cancel context.CancelFunc

	mu   sync.Mutex
	done chan struct{} // closed once the state is there, or an attempt failed and err says why; guarded by mu
	err  error         // guarded by mu
}

// Prepare has the state built in the background, for who will be told what goes away once it is.
func (h *Hub) Prepare() {
	h.viewsMu.Lock()
	defer h.viewsMu.Unlock()
	h.startBuilding()
}

// startBuilding has the state built unless it is there, is being built, or is not to be. The caller holds viewsMu. It
// returns false once the hub has ended.
func (h *Hub) startBuilding() bool {
	if h.bounds == (State{}) || h.state != nil || h.building != nil {
		return true
	}
	b := &building{done: make(chan struct{})}
	var building context.Context
	building, b.cancel = context.WithCancel(h.blocks.loads.ctx)
	if !h.blocks.loads.spawn(func() { h.buildGuarded(building, b) }) {
		b.cancel()
		return false
	}
	h.building = b
	return true
}

// built blocks until the hub keeps its state. An error wrapping broker.ErrUnavailable tells that the log cannot be read at
// the moment: the building goes on.
func (h *Hub) built(ctx context.Context) error {
	for {
		h.viewsMu.Lock()
		switch {
		case h.bounds == (State{}):
			h.viewsMu.Unlock()
			return ErrNoState
		case h.state != nil:
			h.viewsMu.Unlock()
			return nil
		case !h.startBuilding():
			h.viewsMu.Unlock()
			return ErrClosed
		}
		b := h.building
		h.viewsMu.Unlock()
		b.mu.Lock()
		done := b.done
		b.mu.Unlock()
		select {
		case <-done:
		case <-ctx.Done():
			return ctx.Err()
		}
		b.mu.Lock()
		err := b.err
		b.mu.Unlock()
		if err != nil && !errors.Is(err, errForgotten) {
			return err
		}
	}
}

// errForgotten ends a building that is not wanted any more.
var errForgotten = errors.New("the state is not to be built any more")

// tell ends the waits for an attempt.
func (b *building) tell(err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.err = err
	close(b.done)
	if err != nil {
		b.done = make(chan struct{})
	}
}

// buildRetry is how long a log that failed is left alone.
const buildRetry = 250 * time.Millisecond

// buildGuarded builds, and ends a panic with the waits for what it was to make: who asks next has it tried anew.
func (h *Hub) buildGuarded(ctx context.Context, b *building) {
	defer func() {
		p := recover()
		if p == nil {
			return
		}
		h.m.panics.Inc()
		h.logger.Error("panic while the state was read", "panic", p, "stack", string(debug.Stack()))
		h.viewsMu.Lock()
		if h.building == b {
			h.building = nil
		}
		h.viewsMu.Unlock()
		b.tell(fmt.Errorf("%w: a mistake of the server", broker.ErrUnavailable))
	}()
	h.build(ctx, b)
}

// build makes the state and hands it to the hub. It tries until that is done, or ctx ends.
func (h *Hub) build(ctx context.Context, b *building) {
	defer b.cancel()
	began := time.Now()
	var m *maker
	for failed := false; ; {
		var err error
		if m == nil {
			m, err = h.maker(ctx)
		}
		if err == nil {
			if err = m.run(ctx); err == nil {
				break
			}
		}
		if ctx.Err() != nil {
			b.tell(errForgotten)
			return
		}
		if errors.Is(err, errBuiltOfOld) {
			m = nil // the log was cut, or the topic made anew
			continue
		}
		if !failed {
			failed = true
			h.logger.Warn("the stream's state cannot be read at the moment: readers who asked for a snapshot wait until it can", "error", err)
		}
		b.tell(err)
		if !clock.Pause(ctx, buildRetry) {
			b.tell(errForgotten)
			return
		}
	}
	h.m.stateBuilds.Observe(time.Since(began).Seconds())
	b.tell(nil)
}

var errBuiltOfOld = errors.New("the log was cut while its state was read")

// maker reads a state from the log until it has met the ring.
type maker struct {
	h     *Hub
	epoch broker.Epoch
	gen   uint64
	state *state
	vec   []int64 // what has been read, by partition
	times []int64 // of the last record read, by partition
	end   []int64 // where to read to for now
}

// maker begins at the beginning of the window.
func (h *Hub) maker(ctx context.Context) (*maker, error) {
	h.mu.RLock()
	m := &maker{h: h, epoch: h.epoch, gen: h.gen, state: &state{
		latest: newLatest(), keys: h.m.stateKeys.WithLabelValues(h.stream.Name), bytes: h.m.stateBytes.WithLabelValues(h.stream.Name),
	}}
	h.mu.RUnlock()
	bounds, err := h.log.Bounds(ctx, h.stream.Topic)
	if err != nil {
		return nil, fmt.Errorf("find the beginning of %s: %w", h.stream.Topic, err)
	}
	m.vec = make([]int64, len(bounds))
	for p, b := range bounds {
		m.vec[p] = b.First
	}
	if window := m.bounds().Window; window >= 0 {
		at, err := h.log.At(ctx, h.stream.Topic, h.clock.Earliest().Add(-window))
		if err != nil {
			return nil, fmt.Errorf("find the window's beginning in %s: %w", h.stream.Topic, err)
		}
		for p := range min(len(at), len(m.vec)) {
			m.vec[p] = max(m.vec[p], at[p])
		}
	}
	return m, nil
}

// run reads on, and hands the state over. It may be called again after an error.
func (m *maker) run(ctx context.Context) error {
	for {
		if err := m.aim(); err != nil {
			return err
		}
		if err := m.read(ctx); err != nil {
			return err
		}
		if err := m.h.blocks.sameTopic(ctx, m.epoch); err != nil {
			if errors.Is(err, errMadeAnew) {
				return errBuiltOfOld
			}
			return err
		}
		switch met, err := m.meet(); {
		case err != nil:
			return err
		case met:
			return nil
		}
	}
}

// aim sets out for where the hub stands now.
func (m *maker) aim() error {
	m.h.mu.RLock()
	defer m.h.mu.RUnlock()
	if m.h.gen != m.gen || m.h.epoch != m.epoch {
		return errBuiltOfOld
	}
	m.end = m.h.tip.vec
	m.vec, m.times = widened(m.vec, len(m.end)), widened(m.times, len(m.end))
	return nil
}

// stateBytes is what one read of a building asks for.
const stateBytes = 1 << 20

// read reads all partitions up to the aim, always the one that is behind the others in time, so that keys come about in
// the order of their events.
func (m *maker) read(ctx context.Context) error {
	for {
		p := none
		for q := range m.end {
			if m.vec[q] < m.end[q] && (p == none || m.times[q] < m.times[p]) {
				p = int32(q)
			}
		}
		if p == none {
			return nil
		}
		batch, err := m.fetch(ctx, p)
		if re := (*broker.RangeError)(nil); errors.As(err, &re) {
			if re.Bounds.First <= m.vec[p] { // beyond the end: the hub will learn of it
				return fmt.Errorf("%w: %w", broker.ErrUnavailable, err)
			}
			m.vec[p] = re.Bounds.First // retention was faster
			continue
		}
		if err != nil {
			return fmt.Errorf("read the state of %s from offset %d of partition %d: %w", m.h.stream.Topic, m.vec[p], p, err)
		}
		if batch.Next <= m.vec[p] {
			return nothingAt(m.vec[p], p)
		}
		batch.Records = slices.DeleteFunc(batch.Records, func(r broker.Record) bool { return r.Offset >= m.end[p] }) // the hub's to tell
		m.fold(batch.Records)
		m.vec[p] = min(batch.Next, m.end[p])
		if n := len(batch.Records); n > 0 {
			m.times[p] = batch.Records[n-1].Timestamp.UnixMilli()
		}
	}
}

// fetch makes a read that counts among those for readers that are behind.
func (m *maker) fetch(ctx context.Context, p int32) (broker.Batch, error) {
	select {
	case m.h.blocks.loads.all <- struct{}{}:
		defer func() { <-m.h.blocks.loads.all }()
	case <-ctx.Done():
		return broker.Batch{}, ctx.Err()
	}
	return m.h.log.Read(ctx, m.h.stream.Topic, p, m.vec[p], stateBytes)
}

// fold takes the records of one read. What a later one of them takes the place of is not looked at.
func (m *maker) fold(records []broker.Record) {
	var made []*Entry // the last first
	seen := make(map[keyID]struct{}, 64)
	for i := range slices.Backward(records) {
		r := &records[i]
		if r.Key == nil {
			continue
		}
		id := idOf(r.Key)
		if _, ok := seen[id]; ok {
			continue
		}
		e := newEntry(r, nil, m.h.wrap)
		if e.Skipped != "" && !e.tombstone {
			continue // what is no event takes no event's place
		}
		seen[id] = struct{}{}
		made = append(made, e)
	}
	bounds := m.bounds()
	now := m.h.clock.Earliest()
	for _, e := range slices.Backward(made) {
		m.apply(e, bounds, now)
	}
}

func (m *maker) bounds() State {
	m.h.viewsMu.Lock()
	defer m.h.viewsMu.Unlock()
	return m.h.bounds
}

// apply takes an entry, unless its key has a later one in another partition.
func (m *maker) apply(e *Entry, bounds State, now time.Time) {
	if before := m.state.latest.get(e.id()); before != nil && before.Partition != e.Partition && before.Time > e.Time {
		return
	}
	m.state.apply(e, bounds, now)
}

const (
	meetEntries = 2048 // of the ring, that are taken at once while it goes on
	meetLast    = 64   // and while it is held up
)

// meet takes what the ring has beyond what was read, and hands the state to the hub. It returns false where the ring has
// lost what would come next: then the log is to be read further.
func (m *maker) meet() (met bool, err error) {
	h := m.h
	m.sort()
	at, began := uint64(0), false
	for {
		h.mu.RLock()
		if h.gen != m.gen || h.epoch != m.epoch {
			h.mu.RUnlock()
			return false, errBuiltOfOld
		}
		if !began {
			if !dominates(m.vec, h.ring.base) {
				h.mu.RUnlock()
				return false, nil
			}
			at, began = h.ring.join(m.vec), true
		}
		if at < h.ring.first {
			h.mu.RUnlock()
			return false, nil
		}
		last := h.ring.next-at <= meetLast
		h.mu.RUnlock()
		if last {
			break
		}
		at = m.take(at, meetEntries, m.bounds())
	}
	h.viewsMu.Lock() // nothing is appended from here on
	defer h.viewsMu.Unlock()
	h.mu.RLock()
	stale := h.gen != m.gen || h.epoch != m.epoch
	behind := at < h.ring.first
	next := h.ring.next
	h.mu.RUnlock()
	switch {
	case stale:
		return false, errBuiltOfOld
	case behind:
		return false, nil
	case h.bounds == (State{}):
		return false, ErrNoState
	}
	for at < next {
		at = m.take(at, publishChunk, h.bounds)
	}
	if h.building == nil { // it was forgotten meanwhile
		return false, errBuiltOfOld
	}
	h.state, h.building = m.state, nil
	h.drops.Store(m.state.dropped)
	h.state.tell()
	h.mu.Lock()
	h.exactFrom = next
	h.mu.Unlock()
	return true, nil
}

// take applies about n entries of the ring from at on, and returns where to go on.
func (m *maker) take(at uint64, n int, bounds State) uint64 {
	h := m.h
	var entries []*Entry
	h.mu.RLock()
	at = max(at, h.ring.first)
	for ; at < h.ring.next && len(entries) < n; at++ {
		entries = append(entries, h.ring.at(at))
	}
	h.mu.RUnlock()
	now := h.clock.Earliest()
	for _, e := range entries {
		p := int(e.Partition)
		m.vec = widened(m.vec, p+1)
		if e.Offset < m.vec[p] {
			continue
		}
		m.state.apply(e, bounds, now)
		m.vec[p] = e.Offset + 1
	}
	return at
}

// sort brings the keys that were read into the order of their events' times.
func (m *maker) sort() {
	all := m.state.latest.all()
	slices.SortStableFunc(all, func(a, b *Entry) int {
		switch {
		case a.Time != b.Time:
			return int(max(-1, min(1, a.Time-b.Time)))
		case a.Partition != b.Partition:
			return int(a.Partition - b.Partition)
		}
		return int(max(-1, min(1, a.Offset-b.Offset)))
	})
	sorted := newLatest()
	for _, e := range all {
		sorted.put(e)
	}
	m.state.latest = sorted
}

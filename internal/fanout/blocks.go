package fanout

import (
	"container/list"
	"context"
	"errors"
	"fmt"
	"slices"
	"sort"
	"sync"

	"github.com/eventissuer/eventissuer/broker"
	"github.com/eventissuer/eventissuer/internal/cursor"
)

// blockBytes is what one fetch of a catch-up asks for, and aheadBytes that of a reader that works a partition off: there
// the way to the log and back counts for more than what others might not need of it.
const (
	blockBytes = 256 << 10
	aheadBytes = 1 << 20
)

// blockOverhead is what a block costs beside its entries.
const blockOverhead = 256

// block is a stretch of one partition as it was read: all its records in [from, next).
type block struct {
	from, next int64
	epoch      uint64 // of the topic that it was read from
	entries    []*Entry
	bytes      int64

	// guarded by the cache's mutex
	owner     *blocks
	partition int32
	place     *list.Element // nil: it is not in the cache
	passed    bool          // whoever worked the partition off is beyond it
}

// blockCache bounds the blocks of all hubs, the least recently used leaving first. Those that were passed leave sooner:
// few come after one who works a partition off, and what is kept of it for long only costs memory.
type blockCache struct {
	log   Log
	limit int64
	m     *metrics

	// guarded by mu
	mu          sync.Mutex
	bytes       int64
	used        list.List // of *block, the most recent first
	passed      list.List // of *block, those that were passed, the last one first
	passedBytes int64
}

// passedMost bounds the blocks that were passed, in bytes.
const passedMost = 16 << 20

// blocks are the blocks of one hub.
type blocks struct {
	cache *blockCache
	hub   *Hub
	loads *loads

	// guarded by cache.mu
	partitions map[int32][]*block // ascending by from
	reading    map[place]*loading
	life       int   // rises when all is dropped: what was being read then is not kept
	mean       int64 // bytes of a record, smoothed
}

// place is where a read begins.
type place struct {
	partition int32
	from      int64
}

func (c *blockCache) of(h *Hub, own int, all chan struct{}) *blocks {
	b := &blocks{cache: c, hub: h, partitions: map[int32][]*block{}, reading: map[place]*loading{}, mean: 512}
	b.loads = newLoads(own, all, func(panicked any, stack []byte) {
		c.m.panics.Inc()
		h.logger.Error("panic while reading the log", "panic", panicked, "stack", string(stack))
	})
	return b
}

// get returns the block that holds offset, from the cache or with one read that all who ask at the same time share. At
// the log's end the block may be empty, with next == offset. What is of another epoch of the topic than the caller's is
// an error that passes, once the caller has noticed. A read that nobody waits for any more goes on once it has
// begun, so that those who come back soon find what they came for.
func (b *blocks) get(ctx context.Context, epoch uint64, p int32, offset int64) (*block, error) {
	floor := int64(0)
	for {
		b.cache.mu.Lock()
		found, from := b.find(p, offset, floor)
		if found != nil {
			b.cache.use(found)
			b.cache.mu.Unlock()
			b.cache.m.blockHits.Inc()
			if found.epoch != epoch {
				return nil, errMadeAnew
			}
			return found, nil
		}
		l := b.begin(place{p, from}, blockBytes)
		b.cache.mu.Unlock()
		if err := b.loads.await(ctx, l); err != nil {
			return nil, err
		}
		if l.block != nil && l.block.epoch != epoch {
			return nil, errMadeAnew
		}
		if l.err != nil {
			re := (*broker.RangeError)(nil)
			switch {
			case !errors.As(l.err, &re):
				return nil, l.err
			case from < offset && re.Bounds.First <= offset && re.Bounds.Next >= offset:
				floor = max(floor+1, re.Bounds.First) // only the rounding down was out of range
				continue
			}
			return nil, &broker.RangeError{Partition: p, Offset: offset, Bounds: re.Bounds} // of what is asked for, not of where the read began
		}
		if l.block.next > offset || l.block.next <= from {
			return l.block, nil
		}
		floor = l.block.next
	}
}

// ahead begins to read what follows a block, for a reader that works a partition off and will be there soon.
func (b *blocks) ahead(p int32, offset int64) {
	b.hub.mu.RLock()
	end := int(p) < len(b.hub.ends) && offset >= b.hub.ends[p]
	b.hub.mu.RUnlock()
	if end {
		return
	}
	b.cache.mu.Lock()
	defer b.cache.mu.Unlock()
	if found, _ := b.find(p, offset, offset); found != nil {
		return
	}
	b.begin(place{p, offset}, aheadBytes)
}

// pass notes that a reader that works a partition off is beyond a block. It will hardly be asked for again.
func (b *blocks) pass(k *block) {
	c := b.cache
	c.mu.Lock()
	defer c.mu.Unlock()
	if k.place == nil || k.passed {
		return
	}
	c.used.Remove(k.place)
	k.place = c.passed.PushFront(k)
	k.passed = true
	c.passedBytes += k.bytes
	for c.passedBytes > passedMost {
		c.forget(c.passed.Back().Value.(*block))
	}
	c.m.blockBytes.Set(float64(c.bytes))
}

// use notes that a block was asked for. The caller holds the mutex.
func (c *blockCache) use(k *block) {
	if !k.passed {
		c.used.MoveToFront(k.place)
		return
	}
	c.passed.Remove(k.place)
	k.place = c.used.PushFront(k)
	k.passed = false
	c.passedBytes -= k.bytes
}

// begin has a stretch read, for its caller and others that join. The caller holds the cache's mutex.
func (b *blocks) begin(key place, bytes int) *loading {
	l := b.reading[key]
	if l != nil && b.loads.join(l) {
		return l
	}
	life := b.life
	l = &loading{}
	l.work = func(ctx context.Context) { b.fetch(ctx, l, key, bytes, life) }
	l.over = func() { b.forgetLoad(key, l) }
	b.reading[key] = l
	b.loads.start(l)
	return l
}

func (b *blocks) forgetLoad(key place, l *loading) {
	b.cache.mu.Lock()
	defer b.cache.mu.Unlock()
	if b.reading[key] == l {
		delete(b.reading, key)
	}
}

// find returns the block that covers offset, or from where to read towards it. Reads begin at rounded offsets, or where
// a block ends, so that readers a few records apart share them. The caller holds the cache's mutex.
func (b *blocks) find(p int32, offset, floor int64) (*block, int64) {
	stretch := int64(1)
	for stretch < 4096 && stretch*b.mean*2 <= blockBytes {
		stretch *= 2
	}
	from := max(offset&^(stretch-1), floor)
	all := b.partitions[p]
	for i := sort.Search(len(all), func(i int) bool { return all[i].from > offset }) - 1; i >= 0; i-- {
		if all[i].next > offset {
			return all[i], 0
		}
		if all[i].next > from {
			from = all[i].next
		}
		if all[i].from <= from-stretch {
			break
		}
	}
	return nil, from
}

func (b *blocks) fetch(ctx context.Context, l *loading, key place, bytes, life int) {
	b.cache.m.blockReads.Inc()
	epoch := b.hub.Epoch()
	batch, err := b.cache.log.Read(ctx, b.hub.stream.Topic, key.partition, key.from, bytes)
	if err == nil || errors.As(err, new(*broker.RangeError)) || errors.Is(err, broker.ErrNoPartition) {
		// A read goes by the topic's name. Ids never come back: the one after the answer tells whose it was.
		if e := b.sameTopic(ctx, epoch); e != nil {
			err = e
		}
	}
	if errors.Is(err, broker.ErrNoPartition) { // partitions never go away: whoever answered does not know it yet
		err = fmt.Errorf("%w: %w", broker.ErrUnavailable, err)
	}
	made := &block{from: key.from, next: batch.Next, epoch: cursor.EpochOf(epoch), owner: b, partition: key.partition, bytes: blockOverhead}
	if err == nil {
		entries, bytes := newEntries(batch.Records, b.hub.wrap)
		made.entries = entries
		made.bytes += bytes
	}
	l.block, l.err = made, err
	b.cache.mu.Lock()
	defer b.cache.mu.Unlock()
	if err == nil && made.next > made.from && b.life == life {
		b.keep(made)
	}
}

// sameTopic fails where the topic is no longer the one of the epoch; the hub learns of it within a second.
func (b *blocks) sameTopic(ctx context.Context, epoch broker.Epoch) error {
	present, err := b.cache.log.Present(ctx, b.hub.stream.Topic)
	if err != nil {
		return fmt.Errorf("%w: %w", broker.ErrUnavailable, err)
	}
	if present != epoch {
		return errMadeAnew
	}
	return nil
}

var errMadeAnew = fmt.Errorf("%w: the topic was made anew while it was read", broker.ErrUnavailable)

// keep files a block and drops others until the cache is within its bound. The caller holds the cache's mutex.
func (b *blocks) keep(made *block) {
	c := b.cache
	if n := int64(len(made.entries)); n > 0 {
		b.mean = max(1, (3*b.mean+(made.bytes-blockOverhead)/n)/4)
	}
	all := b.partitions[made.partition]
	i := sort.Search(len(all), func(i int) bool { return all[i].from >= made.from })
	if i < len(all) && all[i].from == made.from {
		if all[i].next >= made.next {
			return
		}
		c.forget(all[i])
		all = b.partitions[made.partition]
	}
	b.partitions[made.partition] = slices.Insert(all, i, made)
	made.place = c.used.PushFront(made)
	c.bytes += made.bytes
	for c.bytes > c.limit && c.passed.Len()+c.used.Len() > 1 {
		last := c.passed.Back()
		if last == nil {
			last = c.used.Back()
		}
		c.forget(last.Value.(*block))
	}
	c.m.blockBytes.Set(float64(c.bytes))
}

// forget drops a block. The caller holds the mutex.
func (c *blockCache) forget(k *block) {
	if k.passed {
		c.passed.Remove(k.place)
		c.passedBytes -= k.bytes
	} else {
		c.used.Remove(k.place)
	}
	k.place = nil
	c.bytes -= k.bytes
	all := k.owner.partitions[k.partition]
	if i := slices.Index(all, k); i >= 0 {
		k.owner.partitions[k.partition] = slices.Delete(all, i, i+1)
	}
}

// drop forgets all blocks of the hub. What is being read serves those who wait for it already, and nobody after them.
func (b *blocks) drop() {
	b.cache.mu.Lock()
	defer b.cache.mu.Unlock()
	b.life++
	clear(b.reading)
	for _, all := range b.partitions {
		for _, k := range slices.Clone(all) {
			b.cache.forget(k)
		}
	}
}

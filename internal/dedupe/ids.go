package dedupe

import "encoding/binary"

const (
	chunkIDs = 1160 // a chunk then fills one of the allocator's sizes
	offBits  = 44   // of an offset; the rest of 64 bits numbers the partition it is in
	refBits  = 24   // of a reference to an entry; the rest of 32 bits is of its key
	chunkMax = 1<<refBits/chunkIDs - 1

	// idBytes is what an id takes at most: its entry, and its share of an index that is three eighths full.
	idBytes = 29 + 11
)

// chunk holds entries in the order in which they came.
type chunk struct {
	keys   [chunkIDs]key
	where  [chunkIDs]uint64             // number of the partition, offset
	since  [chunkIDs]uint32             // Unix seconds
	dead   [(chunkIDs + 63) / 64]uint64 // bits of those that are in the index no more
	used   int
	newest uint32 // the latest of since
	widest uint32 // the widest window, in seconds
}

// ids is a hash table of what is on the log, in the order in which it came: the oldest leave first. It is not for
// concurrent use.
type ids struct {
	chunks []*chunk // by reference; nil where free
	order  []uint32 // of the chunks in use, oldest first
	free   []uint32
	index  []uint32 // 1 + reference and some bits of the key; open addressing
	live   int
	most   int // chunks
}

func newIDs(most int) *ids {
	return &ids{most: min(max(most/chunkIDs, 2), chunkMax), index: make([]uint32, 64)}
}

func (t *ids) home(k *key) uint64 { return binary.LittleEndian.Uint64(k[:8]) & uint64(len(t.index)-1) }

// tag is of bits that home does not use.
func tag(k *key) uint32 { return uint32(k[15]) << refBits }

func (t *ids) entry(word uint32) (*chunk, int) {
	ref := word&(1<<refBits-1) - 1
	return t.chunks[ref/chunkIDs], int(ref % chunkIDs)
}

// at returns the place in the index of k, or where it would be.
func (t *ids) at(k *key) (at uint64, found bool) {
	mask := uint64(len(t.index) - 1)
	want := tag(k)
	for at = t.home(k); ; at = (at + 1) & mask {
		word := t.index[at]
		if word == 0 {
			return at, false
		}
		if word&^(1<<refBits-1) == want {
			if c, i := t.entry(word); c.keys[i] == *k {
				return at, true
			}
		}
	}
}

// get returns where k is, and since when.
func (t *ids) get(k *key) (where uint64, since uint32, ok bool) {
	at, ok := t.at(k)
	if !ok {
		return 0, 0, false
	}
	c, i := t.entry(t.index[at])
	return c.where[i], c.since[i], true
}

// put sets where k is. It returns how many others had to leave before their time.
func (t *ids) put(k *key, where uint64, since, window, now uint32) (evicted int) {
	if at, ok := t.at(k); ok {
		t.remove(at)
	}
	c := (*chunk)(nil)
	ref := uint32(0)
	if n := len(t.order); n > 0 {
		ref = t.order[n-1]
		c = t.chunks[ref]
	}
	if c == nil || c.used == chunkIDs {
		t.expire(now)
		if len(t.order) >= t.most {
			evicted = t.drop()
		}
		ref, c = t.chunk()
	}
	i := c.used
	c.keys[i], c.where[i], c.since[i] = *k, where, since
	c.used++
	c.newest, c.widest = max(c.newest, since), max(c.widest, window)
	if t.live++; t.live*4 > len(t.index)*3 {
		t.grow()
	}
	at, _ := t.at(k)
	t.index[at] = tag(k) | (ref*chunkIDs + uint32(i) + 1)
	return evicted
}

// expire drops the oldest chunks whose windows are all over.
func (t *ids) expire(now uint32) {
	for len(t.order) > 0 {
		c := t.chunks[t.order[0]]
		if uint64(c.newest)+uint64(c.widest) >= uint64(now) {
			return
		}
		t.drop()
	}
}

// drop forgets the oldest chunk, and returns how many it held.
func (t *ids) drop() (n int) {
	ref := t.order[0]
	c := t.chunks[ref]
	for i := range c.used {
		if c.dead[i/64]&(1<<(i%64)) != 0 {
			continue
		}
		if at, ok := t.at(&c.keys[i]); ok {
			t.remove(at)
			n++
		}
	}
	t.chunks[ref] = nil
	t.order = t.order[1:]
	t.free = append(t.free, ref)
	return n
}

func (t *ids) chunk() (ref uint32, c *chunk) {
	c = new(chunk)
	if n := len(t.free); n > 0 {
		ref = t.free[n-1]
		t.free = t.free[:n-1]
		t.chunks[ref] = c
	} else {
		ref = uint32(len(t.chunks))
		t.chunks = append(t.chunks, c)
	}
	t.order = append(t.order, ref)
	return ref, c
}

// remove takes an entry out of the index and closes the hole.
func (t *ids) remove(at uint64) {
	c, i := t.entry(t.index[at])
	c.dead[i/64] |= 1 << (i % 64)
	t.live--
	mask := uint64(len(t.index) - 1)
	hole := at
	for next := (hole + 1) & mask; t.index[next] != 0; next = (next + 1) & mask {
		c, i := t.entry(t.index[next])
		if home := t.home(&c.keys[i]); (next-home)&mask >= (next-hole)&mask {
			t.index[hole] = t.index[next]
			hole = next
		}
	}
	t.index[hole] = 0
}

func (t *ids) grow() {
	old := t.index
	t.index = make([]uint32, 2*len(old))
	mask := uint64(len(t.index) - 1)
	for _, word := range old {
		if word == 0 {
			continue
		}
		c, i := t.entry(word)
		at := t.home(&c.keys[i])
		for t.index[at] != 0 {
			at = (at + 1) & mask
		}
		t.index[at] = word
	}
}

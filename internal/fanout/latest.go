package fanout

// latest holds one entry of each key, and the order in which they came. It is what a compacted log is, in memory: who
// reads it from any place on in that order has what became of each key since. It belongs to one goroutine at a time.
type latest struct {
	at    map[keyID]int32 // places in slots
	slots []slot
	free  []int32
	first int32 // the oldest; none where there is none
	last  int32
	n     int
	bytes int64 // of the entries, and of what holds them
}

// slot is a place in the list.
type slot struct {
	entry      *Entry
	prev, next int32
}

const (
	none = int32(-1)
	// slotBytes is what a key costs beside its entry: its slot, and its place in the map with the room that maps keep.
	slotBytes = 24 + 40
)

func newLatest() *latest {
	return &latest{at: map[keyID]int32{}, first: none, last: none}
}

// get returns the entry of a key, or nil.
func (l *latest) get(id keyID) *Entry {
	if i, ok := l.at[id]; ok {
		return l.slots[i].entry
	}
	return nil
}

// put makes e the latest of its key and returns what it takes the place of, or nil. An entry without a key takes nothing's.
func (l *latest) put(e *Entry) (before *Entry) {
	i, known := none, false
	if e.Key != 0 {
		i, known = l.at[e.id()]
	}
	if known {
		before = l.slots[i].entry
		l.bytes -= before.size()
		l.unlink(i)
	} else {
		if i = l.take(); e.Key != 0 {
			l.at[e.id()] = i
		}
		l.n++
		l.bytes += slotBytes
	}
	l.bytes += e.size()
	s := &l.slots[i]
	s.entry, s.prev, s.next = e, l.last, none
	if l.last == none {
		l.first = i
	} else {
		l.slots[l.last].next = i
	}
	l.last = i
	return before
}

// take finds a place.
func (l *latest) take() int32 {
	if n := len(l.free); n > 0 {
		i := l.free[n-1]
		l.free = l.free[:n-1]
		return i
	}
	l.slots = append(l.slots, slot{})
	return int32(len(l.slots) - 1)
}

// unlink takes a place out of the order.
func (l *latest) unlink(i int32) {
	s := &l.slots[i]
	if s.prev == none {
		l.first = s.next
	} else {
		l.slots[s.prev].next = s.next
	}
	if s.next == none {
		l.last = s.prev
	} else {
		l.slots[s.next].prev = s.prev
	}
}

// remove forgets a key and returns its entry, or nil.
func (l *latest) remove(id keyID) *Entry {
	i, ok := l.at[id]
	if !ok {
		return nil
	}
	delete(l.at, id)
	return l.release(i)
}

// oldest returns the entry that came first, or nil.
func (l *latest) oldest() *Entry {
	if l.first == none {
		return nil
	}
	return l.slots[l.first].entry
}

// drop forgets the oldest entry. There must be one.
func (l *latest) drop() {
	if e := l.slots[l.first].entry; e.Key != 0 {
		delete(l.at, e.id())
	}
	l.release(l.first)
}

func (l *latest) release(i int32) *Entry {
	l.unlink(i)
	e := l.slots[i].entry
	l.slots[i] = slot{}
	l.free = append(l.free, i)
	l.n--
	l.bytes -= slotBytes + e.size()
	return e
}

// all returns the entries, the oldest first.
func (l *latest) all() []*Entry {
	all := make([]*Entry, 0, l.n)
	for i := l.first; i != none; i = l.slots[i].next {
		all = append(all, l.slots[i].entry)
	}
	return all
}

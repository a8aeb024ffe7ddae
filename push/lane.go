package push

import (
	"slices"
	"time"

	"github.com/eventissuer/eventissuer/internal/fanout"
)

// laneMost bounds a lane: the events below next that are not done, and the deliveries that no acknowledged statement shows
// done, which a successor would repeat. With half of the latter a statement is due at once.
const laneMost = 256

// place says what a lane gets its events from. It is a matter of memory only.
type place uint8

const (
	atHead   place = iota // with the partition's head, as all lanes are that nothing is known of
	held                  // from nothing: it has no room, or its endpoint takes nothing
	waiting               // from nothing yet: it waits for a scan of the log to come by
	scanning              // with a scan
)

// lane is one incarnation's way through one partition, as far as it is not what the next statement says of those that it
// does not list. All fields are guarded by the partition's mu.
type lane struct {
	route *route
	part  *partition
	point *endpoint

	place     place
	next      int64 // all below is entered; at the head and with a scan: that one's position, if it is higher
	items     []*item
	touched   int64 // the highest offset that was sent, or that a statement said is not done
	flying    int   // items that are being sent
	idle      int   // items that wait to be sent, and are not parked
	stuck     int   // items that hold the lane up
	unkeyed   int   // items whose key is not known yet: where keys keep their order nothing may be sent before it is
	probe     bool
	dropped   bool // it is no longer the route's lane
	finishing bool // a replay's end is being noted
	queued    bool // for its endpoint's turn; guarded by the endpoint's mu
	index     int  // in the endpoint's lanes; guarded by the endpoint's mu

	// Deliveries of this tenure that the endpoint acknowledged, and how many of them an acknowledged statement shows.
	done, building, shown uint64

	alarm alarm // when an item is due
}

// phase says where an item is.
type phase uint8

const (
	phaseWaiting phase = iota // to be sent, for the first time or again because the endpoint, not the event, was at fault
	phaseParked               // the event was refused: it is due again at a time
	phaseFlying               // being sent
	phaseBurying              // its dead letter is being written
)

// item is an event of a lane that is not done yet.
type item struct {
	offset   int64
	key      uint64        // a hash of the record's key, 0 where it has none; not known while keyless
	entry    *fanout.Entry // nil: it has to be read again
	due      time.Time     // of phaseParked
	tried    time.Time     // last
	entered  time.Time
	attempts int
	phase    phase
	keyless  bool    // the key is not known
	recalled bool    // it is to be read again
	wanted   bool    // likewise, and to be kept then, since it is to be sent
	whole    *bundle // the batch that it goes with
	stuck    bool    // its schedule has ended, and it is not to be buried: it holds the lane up
	single   bool    // it was refused as part of a batch: it goes by itself
	why      string  // of the last failure
}

// bundle is a batch, which stays the same on every retry.
type bundle struct {
	items []*item
}

// position is the effective next. The partition's mu is held.
func (l *lane) position() int64 {
	switch l.place {
	case atHead:
		return max(l.next, l.part.head)
	case scanning:
		return max(l.next, l.part.scan.at)
	}
	return l.next
}

// ordinary reports whether a statement need not list the lane: its state is what is said of those that are not listed. A
// lane of which something is not shown yet is remembered all the same.
func (l *lane) ordinary() bool {
	return len(l.items) == 0 && l.position() == max(l.route.start(l.part), l.part.statedHead(l.route.chunk))
}

// forgettable reports whether nothing would be lost with the lane. A replay's end is still to be noted.
func (l *lane) forgettable() bool {
	return l.place == atHead && l.route.until == nil && l.ordinary() && l.flying == 0 && l.done == l.shown
}

// unshown is how many deliveries a successor would make again, if the process ended now.
func (l *lane) unshown() int { return l.flying + int(l.done-l.shown) }

// ahead is how many items may wait to be sent: so many that the endpoint never waits, or where memory is short a few.
func (l *lane) ahead() int {
	n := l.point.lookahead()
	if l.part.engine.crowded() {
		n = max(2, n/8)
	}
	return min(n, laneMost)
}

// admits reports whether the lane takes another event.
func (l *lane) admits() bool {
	if l.stuck > 0 || len(l.items) >= l.part.engine.laneMost {
		return false
	}
	if c := &l.part.chunks[l.route.chunk]; c.full() {
		c.starved = true
		return false
	}
	if !l.point.open() {
		return l.probe && len(l.items) == 0
	}
	return l.idle < l.ahead()
}

// wants reports whether a lane without a source is to get one.
func (l *lane) wants() bool {
	return l.place == held && !l.route.ended(l.part, l.next) && l.admits() && l.idle <= l.ahead()/2
}

// enter takes an event. The lane admits it.
func (l *lane) enter(e *fanout.Entry, now time.Time) {
	i := &item{offset: e.Offset, key: e.Key, entered: now}
	if !l.part.engine.overcrowded() { // else it is read again when its turn comes
		l.hold(i, e)
	}
	l.items = append(l.items, i)
	l.idle++
	l.part.chunks[l.route.chunk].items++
}

// hold gives an item its event.
func (l *lane) hold(i *item, e *fanout.Entry) {
	i.entry = e
	l.part.engine.hold(e)
}

// item finds an item by its offset.
func (l *lane) item(offset int64) *item {
	at, ok := l.find(offset)
	if !ok {
		return nil
	}
	return l.items[at]
}

func (l *lane) find(offset int64) (int, bool) {
	return slices.BinarySearchFunc(l.items, offset, func(x *item, o int64) int { return int(x.offset - o) })
}

// free reports whether an item may be sent as far as order goes: with ordering by key no lower offset of its key is undone.
// at is its index.
func (l *lane) free(at int) bool {
	if !l.route.sub.ordered.Load() {
		return true
	}
	key := l.items[at].key
	if key == 0 {
		return true
	}
	for _, lower := range l.items[:at] {
		if lower.key == key {
			return false
		}
	}
	return true
}

// pick finds what is to be sent next, or -1 where nothing is due, or it has to be read again first, which pick asks for.
// trial looks for what was tried longest ago, whatever its schedule says.
func (l *lane) pick(now time.Time, trial bool) int {
	if l.unshown() >= l.part.engine.laneMost || l.dropped || l.part.over || l.part.stoodStill(now) {
		return -1
	}
	if l.unkeyed > 0 && l.route.sub.ordered.Load() {
		for _, i := range l.items {
			if i.keyless {
				l.part.recall(l, i)
			}
		}
		return -1
	}
	first, asked := -1, 0
	for at, i := range l.items {
		switch {
		case i.phase == phaseWaiting, i.phase == phaseParked && (trial || !i.due.After(now)):
		default:
			continue
		}
		if !l.free(at) {
			continue
		}
		switch {
		case trial:
			if first < 0 || i.tried.Before(l.items[first].tried) {
				first = at
			}
		case l.atHand(i):
			return at
		default: // others may be sent meanwhile
			if asked++; asked == recallsAhead {
				return -1
			}
		}
	}
	if first >= 0 && !l.atHand(l.items[first]) {
		return -1
	}
	return first
}

// recallsAhead bounds how many events of a lane are read again before the first of them is sent.
const recallsAhead = 8

// atHand reports whether an item, and what goes with it, is in memory. What is not is read again.
func (l *lane) atHand(i *item) bool {
	all := []*item{i}
	if i.whole != nil {
		all = i.whole.items
	}
	ok := true
	for _, i := range all {
		if i.entry == nil && l.item(i.offset) == i {
			ok, i.wanted = false, true
			l.part.recall(l, i)
		}
	}
	return ok
}

// take picks what is to be sent next, one event or a batch, and marks it as being sent. It returns nil where nothing is due.
func (l *lane) take(now time.Time, batch Batch, trial bool) []*item {
	first := l.pick(now, trial)
	if first < 0 {
		return nil
	}
	picked := l.bundle(first, now, batch, trial)
	for _, i := range picked {
		if i.phase == phaseWaiting {
			l.idle--
		}
		i.phase = phaseFlying
		i.tried = now
		l.touched = max(l.touched, i.offset)
	}
	l.flying += len(picked)
	return picked
}

// bundle gives the items that go with the one at first: those of its batch where it has one, else a new batch of what
// waits behind it. It is nil where more is to be waited for.
func (l *lane) bundle(first int, now time.Time, batch Batch, trial bool) []*item {
	head := l.items[first]
	if head.whole != nil {
		return slices.DeleteFunc(slices.Clone(head.whole.items), func(i *item) bool { return l.item(i.offset) != i })
	}
	room := l.part.engine.laneMost - l.unshown()
	if batch.Max <= 1 || head.single || head.attempts > 0 || head.phase != phaseWaiting {
		return []*item{head}
	}
	picked, size := []*item{head}, head.size()
	blocked := map[uint64]bool{}
	for at, i := range l.items {
		if at <= first {
			blocked[i.key] = blocked[i.key] || at < first
			continue
		}
		if len(picked) == min(batch.Max, room) {
			break
		}
		// Within the request events keep their order, so one may go with the one before it of its key.
		if i.entry == nil || i.phase != phaseWaiting || i.whole != nil || i.single || i.attempts > 0 || l.route.sub.ordered.Load() && i.key != 0 && blocked[i.key] {
			blocked[i.key] = true
			continue
		}
		if size += i.size(); size > batch.Bytes {
			break
		}
		picked = append(picked, i)
	}
	if len(picked) < min(batch.Max, room) && size <= batch.Bytes && batch.MaxWait > 0 && !trial {
		if ripe := head.entered.Add(batch.MaxWait); ripe.After(now) {
			l.part.engine.alarms.set(&l.alarm, ripe)
			return nil
		}
	}
	if len(picked) > 1 {
		whole := &bundle{items: picked}
		for _, i := range picked {
			i.whole = whole
		}
		return slices.Clone(picked)
	}
	return picked
}

// size is about what an event takes of a request, in bytes.
func (i *item) size() int { return len(i.entry.Event.JSON()) + 1 }

// remove takes an item out that is done.
func (l *lane) remove(i *item) {
	at, ok := l.find(i.offset)
	if !ok || l.items[at] != i {
		return
	}
	l.items = slices.Delete(l.items, at, at+1)
	l.part.chunks[l.route.chunk].items--
	if i.keyless {
		l.unkeyed--
	}
	if i.stuck {
		l.stuck--
	}
	l.release(i)
}

// release lets go of an item's event, which is read again before it is sent.
func (l *lane) release(i *item) {
	if i.entry != nil {
		l.part.engine.unhold(i.entry)
		i.entry = nil
	}
	i.wanted = false
}

// rewind gives up the events that were never sent, which a scan finds again: the lane stands where the first of them is.
func (l *lane) rewind() {
	at, _ := l.find(l.touched + 1)
	if at == len(l.items) {
		return
	}
	l.part.leaveScan(l)
	l.place, l.next = held, l.items[at].offset
	for _, i := range l.items[at:] {
		l.release(i)
	}
	given := len(l.items) - at
	l.idle -= given
	l.part.chunks[l.route.chunk].items -= given
	clear(l.items[at:])
	l.items = l.items[:at]
	l.part.soil(l.route.chunk)
	l.part.feed(l.route.chunk)
}

// dueNext is when the first parked item is due; zero: none is parked.
func (l *lane) dueNext() (at time.Time) {
	for _, i := range l.items {
		if i.phase == phaseParked && (at.IsZero() || i.due.Before(at)) {
			at = i.due
		}
	}
	return at
}

// moved looks for what the lane can do next, after something of it was done. The partition's mu is held.
func (l *lane) moved() {
	if l.dropped {
		return
	}
	l.part.soil(l.route.chunk)
	if 2*int(l.done-l.shown) >= l.part.engine.laneMost {
		l.part.chunks[l.route.chunk].urgent = true
		nudge(l.part.kick)
	}
	if l.route.until != nil {
		l.part.finish(l)
	}
	l.part.seek(l)
	l.part.forget(l)
	l.part.feed(l.route.chunk)
}

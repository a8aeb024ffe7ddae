package group

import (
	"github.com/eventissuer/eventissuer/internal/fanout"
)

// phase is how far an event has come.
type phase uint8

const (
	phaseWaiting phase = iota // to be given out, once nothing of its key is before it
	phaseDelayed              // as waiting, but not before due
	phaseGiven                // with a session, until due
	phaseAcking               // acknowledged; not yet stored
	phaseBurying              // its attempts are used up: on its way to the dead letters
	phaseDone                 // stored
)

// item is one event of a lane's window.
type item struct {
	lane   *lane
	tenure uint64        // of the lane, when the item was made: it means nothing in another
	entry  *fanout.Entry // nil once it is done
	offset int64
	place  uint64  // in the window
	size   int     // of the event, in bytes
	next   *item   // the next of its key
	n      int     // how often it was handed over: a session's queue does not count
	due    int64   // by Groups.due: of the acknowledgement, or of the next attempt
	to     *Member // who has it
	seq    uint64  // in the numbering of to
	why    Reason  // for which it came back last
	phase  phase
	behind bool // another of its key is before it and not done
	handed bool // to has taken it, or it is on its way to another replica
}

// Reason says why an event came back unacknowledged.
type Reason string

// The reasons.
const (
	ReasonTimeout Reason = "timeout"      // it was not acknowledged in time
	ReasonNack    Reason = "nack"         // it was given back
	ReasonGone    Reason = "sessionEnded" // its session ended
	ReasonFence   Reason = "taken"        // the claim was lost: another owns the partition, or Redis lost what was kept
)

// itemsOf makes items of what was read, some of which share their memory.
func (l *lane) itemsOf(tenure uint64, entries []*fanout.Entry) (slabs [][]item) {
	for len(entries) > 0 {
		n := min(len(entries), slabItems)
		slab := make([]item, n)
		for k, e := range entries[:n] {
			// Where it was handed over before, that was under another claim.
			slab[k] = item{lane: l, tenure: tenure, entry: e, offset: e.Offset, size: len(e.Event.JSON()), why: ReasonFence}
		}
		slabs, entries = append(slabs, slab), entries[n:]
	}
	return slabs
}

// slabItems is how many items share their memory, 8 KiB: so few that one which a session keeps for long does not keep much.
const slabItems = 72

// queue is a first-in-first-out queue of items.
type queue struct {
	items []*item
	head  int
}

func (q *queue) len() int { return len(q.items) - q.head }

func (q *queue) push(i *item) { q.items = append(q.items, i) }

func (q *queue) first() *item { return q.items[q.head] }

func (q *queue) pop() {
	q.items[q.head] = nil
	q.head++
	if q.head > 64 && q.head > len(q.items)/2 {
		n := copy(q.items, q.items[q.head:])
		clear(q.items[n:])
		q.items, q.head = q.items[:n], 0
	}
}

func (q *queue) clear() { q.items, q.head = nil, 0 }

package group

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"
)

// Word is what a client says of deliveries.
type Word struct {
	// From and To are cursors. An acknowledgement without From is of all that the session was given up to To; what is
	// given back without From is To alone.
	From, To string
	Back     bool          // it is given back, to come again
	Delay    time.Duration // not before so long
}

// Answer says what became of words. Acknowledged is durable.
type Answer struct {
	Acknowledged int `json:"acknowledged"`
	Returned     int `json:"returned"`
	Refused      int `json:"refused"`
}

func (a *Answer) add(b Answer) {
	a.Acknowledged += b.Acknowledged
	a.Returned += b.Returned
	a.Refused += b.Refused
}

// stretch is a word by numbers.
type stretch struct {
	From  uint64 `json:"from"` // 0: from the beginning
	To    uint64 `json:"to"`
	Back  bool   `json:"back,omitempty"`
	Delay int64  `json:"delay,omitempty"` // nanoseconds
}

// elsewhere is what is to be said to the owner of a partition on another replica.
type elsewhere struct {
	owner    *foreign
	seqs     []uint64
	offsets  []int64
	attempts []int
}

// say takes a session's word, and returns what has to be said to other replicas. The caller holds mu.
func (m *Member) say(w stretch, r *receipt) (abroad []elsewhere) {
	if m.void || w.To > m.taken || !w.Back && max(w.From, 1) <= m.unsaid {
		r.answer.Refused++
		m.finish(endingReconnect)
		m.void = true
		return nil
	}
	// Those of a session are few, and one lane's come together.
	type promised struct {
		lane *lane
		n    int
	}
	var promises []promised
	for seq := max(w.From, m.base); seq <= w.To; seq++ {
		d := &m.ledger[seq-m.base]
		if d.empty() || w.Back && d.said {
			continue
		}
		if d.away != nil { // it stays in the ledger until its owner has answered
			k := slices.IndexFunc(abroad, func(e elsewhere) bool { return e.owner == d.away.from })
			if k < 0 {
				abroad = append(abroad, elsewhere{owner: d.away.from})
				k = len(abroad) - 1
			}
			e := &abroad[k]
			e.seqs, e.offsets, e.attempts = append(e.seqs, seq), append(e.offsets, d.away.offset), append(e.attempts, d.n)
			m.free(d)
			d.said = d.said || !w.Back
			continue
		}
		i := d.item
		l := i.lane
		switch {
		case i.phase == phaseDone && d.said:
			*d = given{}
		case i.tenure != l.tenure || !l.held:
			r.answer.Refused++
			m.void = true
			m.finish(endingReconnect)
			*d = given{}
		case w.Back:
			if i.to == m && i.seq == seq {
				l.giveBack(i, ReasonNack, time.Duration(w.Delay))
			}
			r.answer.Returned++
			*d = given{}
		default:
			// Said again it waits for the store, too: the first answer may not have come. So does what is done already: Redis
			// may have lost it since.
			l.acknowledge(i)
			k := len(promises) - 1
			if k < 0 || promises[k].lane != l {
				if k = slices.IndexFunc(promises, func(p promised) bool { return p.lane == l }); k < 0 {
					promises = append(promises, promised{lane: l})
					k = len(promises) - 1
				}
			}
			if !d.said {
				d.said = true
				promises[k].n++
			}
		}
	}
	m.trim()
	if m.slow && !w.Back {
		m.slow = false
		m.group.deal()
		m.group.groups.bus.announceSoon(m.group)
	}
	for _, p := range promises {
		r.open++
		p.lane.receipts = append(p.lane.receipts, promise{r, p.n})
		nudge(p.lane.kick)
	}
	return abroad
}

// Say takes what a client says of deliveries of a subscription's sessions, on whatever replica they are. What it answers
// as acknowledged is durable. It blocks until that is so. Errors: ErrCursor, ErrBusy: it may or may not be stored.
func (gs *Groups) Say(ctx context.Context, id string, words []Word) (all Answer, err error) {
	ctx, cancel := context.WithTimeout(ctx, sayTime)
	defer cancel()
	type call struct {
		at    token
		words []stretch
	}
	var calls []call
	for _, w := range words {
		to, err := parseToken(w.To)
		if err != nil {
			return all, err
		}
		s := stretch{To: to.seq, Back: w.Back, Delay: int64(w.Delay)}
		if w.From != "" {
			from, err := parseToken(w.From)
			if err != nil {
				return all, err
			}
			if from.session != to.session || from.seq > to.seq || from.seq == 0 {
				return all, errors.Join(ErrCursor, errors.New("from and to must be cursors of deliveries of one session, in order"))
			}
			s.From = from.seq
		} else if w.Back {
			s.From = to.seq
		}
		at := slices.IndexFunc(calls, func(c call) bool { return c.at.session == to.session })
		if at < 0 {
			calls = append(calls, call{at: to})
			at = len(calls) - 1
		}
		calls[at].words = append(calls[at].words, s)
	}
	for _, c := range calls {
		var a Answer
		if c.at.replica == gs.replica {
			a, err = gs.hear(ctx, id, c.at.session, c.words)
		} else {
			a, err = gs.bus.say(ctx, c.at.replica, id, c.at.session, c.words)
		}
		if err != nil {
			return all, err
		}
		all.add(a)
	}
	return all, nil
}

// sayTime is how long words may take to be durable.
const sayTime = 10 * time.Second

// hear takes words for a session of this replica.
func (gs *Groups) hear(ctx context.Context, id string, session ID, words []stretch) (Answer, error) {
	g := gs.find(id)
	if g == nil {
		return Answer{Refused: len(words)}, nil
	}
	r := newReceipt()
	g.mu.Lock()
	m := g.session(session)
	if m == nil {
		g.mu.Unlock()
		return Answer{Refused: len(words)}, nil
	}
	ctx, cancel := context.WithCancel(ctx)
	var abroad sync.WaitGroup
	defer abroad.Wait()
	defer cancel()
	for _, w := range words {
		for _, e := range m.say(w, r) {
			r.open++
			abroad.Go(func() { m.sayAbroad(ctx, e, w, r) })
		}
	}
	g.feedAll()
	r.close()
	g.mu.Unlock()
	select {
	case <-r.finished:
	case <-ctx.Done():
		return Answer{}, ErrBusy
	}
	if r.answer.Refused > 0 {
		g.mu.Lock()
		m.void = true
		m.finish(endingReconnect)
		g.deal() // to those that go on
		g.mu.Unlock()
	}
	return r.answer, nil
}

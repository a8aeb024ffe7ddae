package group

import (
	"context"
	"errors"
	"time"
)

// Poll is a request for a page of a subscription.
type Poll struct {
	// After is the cursor of the page before, which it acknowledges; "" begins a session.
	After    string
	Most     int           // events
	MaxBytes int           // about so many
	Wait     time.Duration // for the first event
	Address  string        // the client's
}

// Page is what a poll gives.
type Page struct {
	Deliveries []Delivery
	Cursors    []string // of each
	Cursor     string   // which acknowledges all
	Notes      []Note
	Closed     bool // this replica goes away: come back with the cursor, which another will not know
}

// ErrReplaced tells a poll that a later one of the same session has taken its place.
var ErrReplaced = errors.New("a later request of the same session has taken the place of this one")

// leastLinger is how long a poll's session waits for the next request at least.
const leastLinger = 10 * time.Second

// Poll gives a page. A request that is repeated with the same cursor gets again what it was given, unless that has
// timed out. Errors: those of Open and Say, and ErrReconnect: the session is over, and begins anew without a cursor.
func (gs *Groups) Poll(ctx context.Context, id string, p Poll) (Page, error) {
	if p.After == "" {
		m, err := gs.Open(ctx, id, Session{Transport: "poll", Address: p.Address, Poll: true})
		if err != nil {
			return Page{}, err
		}
		page, err := m.page(ctx, p, 0)
		if err != nil {
			m.Leave() // nobody has a cursor of it
		}
		return page, err
	}
	at, err := parseToken(p.After)
	if err != nil {
		return Page{}, err
	}
	if at.replica != gs.replica {
		if _, ok := gs.deps.Definitions.Subscription(id); !ok {
			return Page{}, ErrUnknown
		}
		return gs.bus.poll(ctx, at, id, p)
	}
	return gs.pollHere(ctx, id, at, p)
}

// pollHere continues a session of this replica.
func (gs *Groups) pollHere(ctx context.Context, id string, at token, p Poll) (Page, error) {
	g := gs.find(id)
	if g == nil {
		return Page{}, ErrReconnect
	}
	g.mu.Lock()
	m := g.session(at.session)
	g.mu.Unlock()
	if m == nil || !m.session.Poll {
		return Page{}, ErrReconnect
	}
	return m.page(ctx, p, at.seq)
}

// page makes one page of a poll's session, which acknowledges what was given up to after.
func (m *Member) page(ctx context.Context, p Poll, after uint64) (Page, error) {
	g := m.group
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stop := func() { cancel(ErrReplaced) }
	wake := make(chan struct{}, 1)
	g.mu.Lock()
	if m.left || after > m.taken {
		g.mu.Unlock()
		return Page{}, ErrReconnect
	}
	if m.stop != nil {
		m.stop() // of two requests at once the later one is the client's
	}
	m.stop, m.polling = stop, true
	m.turns++
	turn := m.turns
	m.session.Notify = func() { nudge(wake) }
	g.mu.Unlock()
	defer func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		if m.turns == turn {
			m.stop, m.polling, m.session.Notify = nil, false, nil
			if !m.left { // else it says for how long the session is remembered
				m.expires = time.Now().Add(max(g.sub.AckTimeout, leastLinger))
			}
		}
	}()
	if after > 0 {
		a, err := g.groups.hear(ctx, g.id, m.id, []stretch{{To: after}})
		switch {
		case err != nil:
			return Page{}, err
		case a.Refused > 0:
			m.Leave()
			return Page{}, ErrReconnect
		}
	}
	g.mu.Lock()
	if m.turns == turn {
		m.next = after + 1
	}
	g.mu.Unlock()
	var page Page
	until := time.NewTimer(p.Wait)
	defer until.Stop()
	for {
		g.mu.Lock()
		if m.turns != turn {
			g.mu.Unlock()
			return Page{}, ErrReplaced
		}
		page.Deliveries, _ = m.handOver(page.Deliveries, p.Most, p.MaxBytes)
		g.mu.Unlock()
		page.Notes = append(page.Notes, m.Notes()...)
		if len(page.Deliveries) > 0 || p.Wait <= 0 {
			break
		}
		if why := m.Ending(); why != nil {
			switch {
			case why.Deleted():
				return Page{}, ErrUnknown
			case why.Gone():
				return Page{}, ErrGone
			case why.Reconnect():
				m.Leave()
				return Page{}, ErrReconnect
			}
			page.Closed = true
			break
		}
		waiting := true
		select {
		case <-wake:
		case <-until.C:
			waiting = false
		case <-ctx.Done():
			if errors.Is(context.Cause(ctx), ErrReplaced) {
				return Page{}, ErrReplaced
			}
			return Page{}, ctx.Err()
		}
		if !waiting {
			break
		}
	}
	unfold(page.Deliveries)
	for _, d := range page.Deliveries {
		page.Cursors = append(page.Cursors, string(m.AppendCursor(nil, d.Seq)))
	}
	// A page without events acknowledges nothing more than the one before: what was handed over since may not have come.
	if n := len(page.Deliveries); n > 0 {
		after = page.Deliveries[n-1].Seq
	}
	page.Cursor = string(m.AppendCursor(nil, after))
	return page, nil
}

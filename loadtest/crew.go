package loadtest

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// crewSetup tells the readers of one process who they are.
type crewSetup struct {
	Run    string      `json:"run"`
	Shard  int         `json:"shard"`
	Shards int         `json:"shards"`
	Groups []crewGroup `json:"groups"`
	// Foreign says that another process publishes, whose lanes are not known.
	Foreign bool `json:"foreign,omitempty"`
	// Settle is how long after a storm the next may begin.
	Settle time.Duration `json:"settle"`
}

// crewGroup is a group of readers, of which a process has its share.
type crewGroup struct {
	Config ReaderConfig `json:"config"`
	Before int          `json:"before"` // readers of the groups before it
	Lanes  laneRange    `json:"lanes"`
}

// crewOrder is what a crew is asked. Everything in it is done, in the order of the fields, and then it tells its state.
type crewOrder struct {
	From   int64 `json:"from,omitempty"` // the window begins, Unix nanoseconds
	To     int64 `json:"to,omitempty"`   // it ends
	Recent bool  `json:"recent,omitempty"`
	// Sequences are what was published: all readers stop, and the answer says what they got.
	Sequences []wireSequence `json:"sequences,omitempty"`
}

// crewAnswer is the state of each group of a crew, in the order of its setup.
type crewAnswer struct {
	Groups []groupState `json:"groups"`
	Failed string       `json:"failed,omitempty"` // why the crew cannot go on
}

// groupState is how far a group's readers are, in one process or in all of them.
type groupState struct {
	Live       int          `json:"live"`
	Stopped    int          `json:"stopped"`
	Reconnects uint64       `json:"reconnects"`
	Failures   uint64       `json:"failures"`
	Deliveries uint64       `json:"deliveries"`
	LastAt     int64        `json:"lastAt"`
	Why        string       `json:"why,omitempty"`     // the last failure of a connection
	Storming   bool         `json:"storming"`          // there are storms that are not over
	Highest    []uint64     `json:"highest,omitempty"` // of a foreign publisher's lanes: one above the highest number seen
	Recent     []byte       `json:"recent,omitempty"`  // histogram of what arrived since it was last asked for
	Content    content      `json:"content"`           // told where Recent is
	Result     *groupResult `json:"result,omitempty"`
}

// merge adds another process's state.
func (s *groupState) merge(o groupState) error {
	s.Live += o.Live
	s.Stopped += o.Stopped
	s.Reconnects += o.Reconnects
	s.Failures += o.Failures
	s.Deliveries += o.Deliveries
	s.LastAt = max(s.LastAt, o.LastAt)
	set(&s.Why, o.Why)
	s.Storming = s.Storming || o.Storming
	s.Content.add(o.Content)
	for i, n := range o.Highest {
		if i == len(s.Highest) {
			s.Highest = append(s.Highest, 0)
		}
		s.Highest[i] = max(s.Highest[i], n)
	}
	if len(o.Recent) > 0 {
		h, err := hdrhistogram.Decode(s.Recent)
		if len(s.Recent) == 0 {
			h, err = newHistogram(), nil
		}
		if err != nil {
			return fmt.Errorf("read a histogram: %w", err)
		}
		if err := mergeEncoded(h, o.Recent); err != nil {
			return err
		}
		if s.Recent, err = encodeHistogram(h); err != nil {
			return err
		}
	}
	switch {
	case o.Result == nil:
	case s.Result == nil:
		s.Result = o.Result
	default:
		return s.Result.merge(o.Result)
	}
	return nil
}

// groupResult is what a group's readers got, in one process or in all of them.
type groupResult struct {
	Tally      wireTally `json:"tally"`
	Lost       uint64    `json:"lost"`
	Superseded uint64    `json:"superseded,omitempty"`
	Storms     []Storm   `json:"storms,omitempty"`
}

func (r *groupResult) merge(o *groupResult) error {
	r.Lost += o.Lost
	r.Superseded += o.Superseded
	for i, s := range o.Storms {
		if i == len(r.Storms) {
			r.Storms = append(r.Storms, Storm{})
		}
		r.Storms[i].merge(s)
	}
	return r.Tally.merge(&o.Tally)
}

// crew is the readers of one process.
type crew struct {
	groups []*squad

	stop    context.CancelFunc
	running sync.WaitGroup

	mu     sync.Mutex
	failed string // guarded by mu
}

// squad is a group's readers in this process.
type squad struct {
	crewGroup
	foreign bool
	fleet   *fleet
	client  client
	all     *gauges
	settle  time.Duration
	began   chan struct{} // closed once the window has begun
	once    sync.Once

	mu       sync.Mutex
	storming bool    // guarded by mu
	storms   []Storm // guarded by mu
}

// newCrew makes the readers that are this process's. start has them connect.
func newCrew(s crewSetup) (*crew, error) {
	c := &crew{stop: func() {}}
	for _, g := range s.Groups {
		q, err := newSquad(s, g)
		if err != nil {
			return nil, fmt.Errorf("readers %s: %w", g.Config.Name, err)
		}
		c.groups = append(c.groups, q)
	}
	return c, nil
}

func newSquad(s crewSetup, g crewGroup) (*squad, error) {
	c := &g.Config
	target, err := resolve(expand(c.URL, 0, 0))
	if err != nil {
		return nil, err
	}
	q := &squad{crewGroup: g, foreign: s.Foreign, all: &gauges{}, settle: s.Settle, began: make(chan struct{}), storming: len(c.Storms) > 0}
	q.fleet = &fleet{
		all: q.all, header: c.Header, dials: max(1, c.Dials/s.Shards), ramp: c.Ramp / float64(s.Shards), sources: c.Sources, protocol: c.Subprotocol,
		format: c.format(), wait: c.Wait, every: c.Every, slow: c.Slow, lifetime: c.Lifetime,
	}
	tallies := 1
	if c.Client != ClientEpoll {
		tallies = 16
	}
	for range tallies {
		q.fleet.tallies = append(q.fleet.tallies, newTally())
	}
	for i := c.Connections * s.Shard / s.Shards; i < c.Connections*(s.Shard+1)/s.Shards; i++ {
		n := c.First + i
		lanes := c.lanesOf(n, g.Lanes)
		index := len(q.fleet.readers)
		r := &reader{index: index, number: g.Before + i, tally: q.fleet.tallies[index%tallies], all: q.all, marks: newMarker(s.Run)}
		if r.target, err = addQuery(c.URL, c.Query, n, lanes.First); err != nil {
			return nil, err
		}
		r.ledger = newLedger(lanes.First, lanes.Count, s.Foreign)
		q.fleet.readers = append(q.fleet.readers, r)
	}
	if q.client, err = q.fleet.client(c.Client, target); err != nil {
		return nil, err
	}
	return q, nil
}

// start has everybody connect, and returns. Who calls it asks for the result, or calls end.
func (c *crew) start() {
	ctx, stop := context.WithCancel(context.Background())
	c.stop = stop
	for _, q := range c.groups {
		c.running.Go(func() {
			if err := q.client.run(ctx); err != nil {
				c.mu.Lock()
				c.failed = fmt.Sprintf("readers %s: %v", q.Config.Name, err)
				c.mu.Unlock()
			}
		})
		c.running.Go(func() { q.storm(ctx) })
	}
}

// end returns once no reader is connected any more.
func (c *crew) end() error {
	c.stop()
	c.running.Wait()
	return nil
}

// ask implements asker.
func (c *crew) ask(o crewOrder) (crewAnswer, error) {
	for _, q := range c.groups {
		if o.From != 0 {
			q.all.from.Store(o.From)
			q.once.Do(func() { close(q.began) })
		}
		if o.To != 0 {
			q.all.to.Store(o.To)
		}
	}
	if o.Sequences != nil {
		_ = c.end() // which has nothing that could go wrong
	}
	var out crewAnswer
	for _, q := range c.groups {
		state := q.state()
		if o.Recent {
			recent := newHistogram()
			for _, t := range q.fleet.tallies {
				state.Content.add(t.takeRecent(recent))
			}
			var err error
			if state.Recent, err = encodeHistogram(recent); err != nil {
				return out, err
			}
		}
		if o.Sequences != nil {
			var err error
			if state.Result, err = q.result(o.Sequences); err != nil {
				return out, err
			}
		}
		out.Groups = append(out.Groups, state)
	}
	c.mu.Lock()
	out.Failed = c.failed
	c.mu.Unlock()
	return out, nil
}

func (q *squad) state() groupState {
	a := q.all
	s := groupState{
		Live: int(a.live.Load()), Stopped: int(a.stopped.Load()), Reconnects: a.reconnects.Load(), Failures: a.failures.Load(),
		Deliveries: a.deliveries.Load(), LastAt: a.lastAt.Load(),
	}
	if why := a.lastFail.Load(); why != nil {
		s.Why = *why
	}
	q.mu.Lock()
	s.Storming = q.storming
	q.mu.Unlock()
	if q.foreign {
		s.Highest = make([]uint64, maxForeignLanes)
		for i := range s.Highest {
			s.Highest[i] = a.highest[i].Load()
		}
	}
	return s
}

// result is what the readers got, of what was published. They have stopped.
func (q *squad) result(sequences []wireSequence) (*groupResult, error) {
	all := newTally()
	for _, t := range q.fleet.tallies {
		all.merge(t)
	}
	sent := unwire(sequences)
	r := &groupResult{}
	for _, reader := range q.fleet.readers {
		lost := reader.ledger.lost(sent)
		if q.Config.Latest {
			stale := reader.ledger.stale(sent)
			r.Superseded += lost - stale
			lost = stale
		}
		r.Lost += lost
	}
	q.mu.Lock()
	r.Storms = q.storms
	q.mu.Unlock()
	var err error
	r.Tally, err = all.wire()
	return r, err
}

// asker is a crew, in this process or another.
type asker interface {
	ask(o crewOrder) (crewAnswer, error)
	// end returns once it has stopped, and what it made is gone.
	end() error
}

package fanout

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/eventissuer/eventissuer/broker"
	"github.com/eventissuer/eventissuer/internal/cursor"
	"github.com/eventissuer/eventissuer/internal/fanout/fanouttest"
	"github.com/eventissuer/eventissuer/internal/filter"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var seedFlag = flag.Uint64("seed", 0, "seed of the random schedules; 0 draws one")

// world is a log, several replicas that read it, and clients that come, stall, are cut and come back anywhere.
type world struct {
	t        *testing.T
	rnd      *rand.Rand
	log      *fanouttest.Log
	replicas []*Hubs
	clients  []*client
	values   []map[int64]string // per partition: subject of each offset ever written
	skipped  []map[int64]bool
}

// client is what a browser would be: it keeps the cursor of the last thing it was given, and checks all it is given.
type client struct {
	name   string
	w      *world
	filter *filter.Filter
	want   func(subject string) bool
	reader *Reader
	wake   chan struct{}

	start []int64          // where it first began
	seen  []map[int64]bool // per partition
	next  []int64          // its cursor: what it came back with last
	epoch uint64
	lost  []map[int64]bool // told as gaps
	last  []int64          // per partition: the highest offset seen
}

func (w *world) hub(r int) *Hub {
	h, err := w.replicas[r].Open(w.t.Context(), Stream{Name: "s", Topic: "s"})
	if err != nil {
		w.t.Fatal(err)
	}
	return h
}

func (c *client) connect(replica int) {
	h := c.w.hub(replica)
	o := Options{Filter: c.filter, Next: c.next, Epoch: c.epoch, Notify: func() {
		select {
		case c.wake <- struct{}{}:
		default:
		}
	}}
	c.reader = h.Reader(o)
	vec, _ := c.reader.Position()
	c.note(vec)
	if c.start == nil {
		c.start = slices.Clone(c.next)
	}
}

func (c *client) note(vec []int64) {
	for p := range c.next {
		if p < len(vec) && vec[p] < c.next[p] {
			c.w.t.Fatalf("%s: cursor of partition %d went back from %d to %d", c.name, p, c.next[p], vec[p])
		}
	}
	c.next, c.epoch = slices.Clone(vec), c.reader.Epoch()
}

func (c *client) cut() {
	if c.reader != nil {
		c.reader.Unpark()
		c.reader.Close()
		c.reader = nil
	}
}

func (c *client) take(entries []*Entry) {
	t := c.w.t
	for _, g := range c.reader.Gaps() {
		if g.Reason != broker.GapRetention {
			t.Fatalf("%s: gap with reason %s", c.name, g.Reason)
		}
		for o := g.From; o < g.To; o++ {
			c.lost[g.Partition][o] = true
		}
	}
	for _, e := range entries {
		vec, shared := c.reader.After(e)
		p := int(e.Partition)
		if e.Offset < c.next[p] {
			t.Fatalf("%s: offset %d of partition %d again, though its cursor is at %d", c.name, e.Offset, p, c.next[p])
		}
		if e.Offset <= c.last[p] && c.last[p] >= 0 {
			t.Fatalf("%s: offset %d of partition %d after %d", c.name, e.Offset, p, c.last[p])
		}
		if vec[p] != e.Offset+1 {
			t.Fatalf("%s: cursor %v after offset %d of partition %d", c.name, vec, e.Offset, p)
		}
		if shared {
			got, err := cursor.Parse(string(e.Cursor()))
			if err != nil || !slices.Equal(got.Streams[0].Next, vec) {
				t.Fatalf("%s: shared cursor %v is not %v: %v", c.name, got, vec, err)
			}
		}
		// The cursor must claim nothing that the client was not given: every other partition may only have moved over
		// what does not concern it.
		for q := range vec {
			for o := c.next[q]; o < vec[q]; o++ {
				if q == p && o == e.Offset {
					continue
				}
				if subject, ok := c.w.values[q][o]; ok && !c.lost[q][o] && (c.want(subject) || c.w.skipped[q][o]) {
					t.Fatalf("%s: the cursor after offset %d of partition %d passes offset %d of partition %d, which was not given", c.name, e.Offset, p, o, q)
				}
			}
		}
		if e.Skipped == "" && !c.want(e.Event.Subject()) {
			t.Fatalf("%s: got subject %s", c.name, e.Event.Subject())
		}
		c.seen[p][e.Offset] = true
		c.last[p] = e.Offset
		c.next = slices.Clone(vec)
	}
}

// step drives the client for one write. It returns true where there is nothing more to do now.
func (c *client) step(ctx context.Context) bool {
	entries, status := c.reader.Take(nil, c.w.room())
	c.take(entries)
	switch status {
	case Behind:
		var err error
		entries, status, err = c.reader.Fill(ctx, nil, c.w.room())
		if err != nil && !errors.Is(err, broker.ErrUnavailable) {
			c.w.t.Fatal(err)
		}
		c.take(entries)
		if len(entries) > 0 || status != Behind {
			vec, _ := c.reader.Position()
			c.note(vec)
		}
		return false
	case Ended:
		c.w.t.Fatalf("%s: ended: %v", c.name, c.reader.Hub().Err())
	case More:
		return false
	}
	if len(entries) > 0 {
		return false
	}
	vec, text := c.reader.Position()
	if text != nil {
		if got, err := cursor.Parse(string(text)); err != nil || !slices.Equal(got.Streams[0].Next, vec) {
			c.w.t.Fatalf("%s: heartbeat %v is not %v: %v", c.name, got, vec, err)
		}
	}
	c.note(vec)
	return true
}

// room draws how much a write may take: an event as often as dozens of them, or hundreds.
func (w *world) room() int { return 1 + w.rnd.IntN(1<<(4+w.rnd.IntN(13))) }

func (w *world) publish() {
	p := w.rnd.IntN(len(w.values))
	subject := fmt.Sprintf("/train/%d", w.rnd.IntN(6))
	value := fmt.Sprintf(`{"specversion":"1.0","id":"%d","source":"/s","type":"t","subject":%q}`, w.rnd.Uint64(), subject)
	bad := w.rnd.IntN(40) == 0
	if bad {
		value = `no event`
	}
	o := w.log.Append(p, value)
	if bad {
		w.skipped[p][o] = true
	} else {
		w.values[p][o] = subject
	}
}

func (w *world) newClient(i int) *client {
	c := &client{name: fmt.Sprintf("client %d", i), w: w, wake: make(chan struct{}, 1), want: func(string) bool { return true }}
	subject := fmt.Sprintf("/train/%d", w.rnd.IntN(6))
	var q filter.Query
	switch w.rnd.IntN(4) {
	case 0:
		q.Subjects = []string{subject}
		c.want = func(s string) bool { return s == subject }
	case 1:
		q.Subjects = []string{subject, "/train/0"}
		c.want = func(s string) bool { return s == subject || s == "/train/0" }
	case 2:
		q.SQL = "subject LIKE '%/" + subject[len("/train/"):] + "'"
		c.want = func(s string) bool { return s == subject }
	}
	f, err := filter.Compile(q)
	if err != nil {
		w.t.Fatal(err)
	}
	c.filter = f
	n := len(w.values)
	c.last = make([]int64, n)
	for p := range n {
		c.last[p] = -1
		c.seen = append(c.seen, map[int64]bool{})
		c.lost = append(c.lost, map[int64]bool{})
	}
	if w.rnd.IntN(3) == 0 { // from some place in the past
		bounds, _ := w.log.Bounds(w.t.Context(), "s")
		c.epoch = cursor.EpochOf(w.log.Epoch)
		for _, b := range bounds {
			c.next = append(c.next, b.First+w.rnd.Int64N(b.Next-b.First+1))
		}
		c.start = slices.Clone(c.next)
	}
	return c
}

// TestReadersLoseNothingUnderRandomSchedules publishes, joins, leaves, stalls, overflows rings, deletes by retention and
// changes replicas at random, and holds every client to what it must have been given.
func TestReadersLoseNothingUnderRandomSchedules(t *testing.T) {
	seed := *seedFlag
	if seed == 0 {
		seed = rand.Uint64()
	}
	runs := 12 // each with draws of its own, so that every run of the tests adds to those before
	if testing.Short() {
		runs = 10
	}
	for i := range runs {
		t.Run(fmt.Sprintf("seed=%d", seed+uint64(i)), func(t *testing.T) { schedule(t, seed+uint64(i)) })
		if t.Failed() {
			t.Fatalf("to repeat: go test ./internal/fanout -run Schedules -seed %d", seed+uint64(i))
		}
	}
}

func schedule(t *testing.T, seed uint64) {
	t.Helper()
	rnd := rand.New(rand.NewPCG(seed, 1))
	n := 1 + rnd.IntN(3)
	w := &world{t: t, rnd: rnd, log: fanouttest.NewLog(n)}
	for range n {
		w.values = append(w.values, map[int64]string{})
		w.skipped = append(w.skipped, map[int64]bool{})
	}
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	defer running.Wait()
	defer cancel()
	for range 2 {
		hs, err := New(Config{Log: w.log, RingBytes: int64(500 + rnd.IntN(20000)), MemoryBytes: 1 << 20, CatchUpReads: 1 + rnd.IntN(3), Linger: time.Millisecond})
		if err != nil {
			t.Fatal(err)
		}
		w.replicas = append(w.replicas, hs)
		running.Go(func() { _ = hs.Run(ctx) })
	}
	for range rnd.IntN(50) {
		w.publish()
	}
	for range 600 {
		switch x := rnd.IntN(100); {
		case x < 35:
			for range 1 + rnd.IntN(1+rnd.IntN(60)) {
				w.publish()
			}
		case x < 40 && len(w.clients) < 12:
			w.clients = append(w.clients, w.newClient(len(w.clients)))
		case x < 42:
			w.log.Hole(rnd.IntN(n), rnd.Int64N(5))
		case x < 43:
			p := rnd.IntN(n)
			b, _ := w.log.Bounds(ctx, "s")
			w.log.Retain(p, b[p].First+rnd.Int64N(b[p].Next-b[p].First+1)/2)
		case x < 45:
			w.log.Outage(rnd.IntN(2) == 0)
		case len(w.clients) > 0:
			c := w.clients[rnd.IntN(len(w.clients))]
			switch {
			case c.reader == nil:
				c.connect(rnd.IntN(len(w.replicas)))
			case x < 52:
				c.cut()
			default:
				c.step(ctx)
			}
		}
	}
	w.log.Outage(false)
	bounds, _ := w.log.Bounds(ctx, "s")
	for _, c := range w.clients {
		if c.reader == nil {
			c.connect(rnd.IntN(len(w.replicas)))
		}
		c.finish(ctx, bounds)
		c.cut()
		c.check()
	}
}

// finish drives the client to the end of the log.
func (c *client) finish(ctx context.Context, bounds []broker.Bounds) {
	deadline := time.After(2 * time.Minute)
	for {
		for !c.step(ctx) {
			select {
			case <-deadline:
				c.w.t.Fatalf("%s: stands at %v, the log ends at %v", c.name, c.next, bounds)
			default:
			}
		}
		done := true
		for p, b := range bounds {
			done = done && c.next[p] >= b.Next
		}
		if done {
			return
		}
		if c.reader.Park() {
			select {
			case <-c.wake:
			case <-time.After(time.Millisecond): // a filtered reader is not woken by what it does not want
			case <-deadline:
				c.w.t.Fatalf("%s: stands at %v, the log ends at %v", c.name, c.next, bounds)
			}
			c.reader.Unpark()
		}
	}
}

// check holds what was given against the log.
func (c *client) check() {
	for p, values := range c.w.values {
		for _, o := range slices.Sorted(maps.Keys(values)) {
			if o < c.start[p] || !c.want(values[o]) {
				continue
			}
			if !c.seen[p][o] && !c.lost[p][o] {
				c.w.t.Errorf("%s: offset %d of partition %d was neither given nor told to be lost", c.name, o, p)
			}
		}
	}
}

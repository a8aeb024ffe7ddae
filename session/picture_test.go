package session

import (
	"compress/flate"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/eventissuer/eventissuer/broker"
	"github.com/eventissuer/eventissuer/internal/cursor"
	"github.com/eventissuer/eventissuer/internal/fanout"
	"github.com/eventissuer/eventissuer/internal/fanout/fanouttest"
	"github.com/eventissuer/eventissuer/internal/filter"
)

var seedFlag = flag.Uint64("seed", 0, "seed of the random schedules; 0 draws one")

// gallery is a log of keyed events, replicas on it, and clients that keep a picture of what is true now.
type gallery struct {
	t        *testing.T
	rnd      *rand.Rand
	log      *fanouttest.Log
	replicas []*Server
	state    fanout.State
	zip      *zipper
	clients  []*painter
	serial   int
	pad      int // most of an event's data
	compacts bool
	retained bool
}

// shown is an event as a client's picture has it.
type shown struct {
	ID    int
	Grade int
}

// painter is a client: it draws what it is told, and forgets what it is told to be gone.
type painter struct {
	g        *gallery
	name     string
	request  Request
	messages bool // it reads messages of eventissuer.v1, not lines
	zipped   bool // its lines come compressed
	wants    func(key string, grade int) bool
	all      bool // it is given every event, not the latest of each key alone
	whole    bool

	feed    *feed
	entries []*fanout.Entry
	out     output
	window  []byte // what came last of a compressed stream
	sum     checksum
	parked  bool

	cursor   string
	picture  map[string]shown
	drawing  int            // events of the snapshot under way that are still to come; -1: there is none
	seen     map[int]bool   // ids of events that it was given
	from     []int64        // where its first cursor stood
	since    map[string]int // on this connection: the newest id of each key
	stood    []int64        // on this connection: the newest cursor, in the topic of
	life     uint64
	anyDrops bool
}

func TestPicturesAreWhatTheLogSays(t *testing.T) {
	seed, runs := *seedFlag, 12
	if seed == 0 {
		seed = rand.Uint64()
	} else {
		runs = 1
	}
	if testing.Short() {
		runs = 10
	}
	for i := range runs {
		seed := seed + uint64(i)
		t.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { paint(t, seed) })
		})
		if t.Failed() {
			t.Fatalf("to repeat: go test ./session -run Pictures -seed %d", seed)
		}
	}
}

const pictureKeys = 14

func paint(t *testing.T, seed uint64) {
	rnd := rand.New(rand.NewPCG(seed, 2))
	n := 1 + rnd.IntN(3)
	g := &gallery{t: t, rnd: rnd, log: fanouttest.NewLog(n), state: fanout.State{Window: -1, MaxKeys: 1000, MaxBytes: 1 << 20}}
	g.zip = newZipper(newMetrics(nil))
	if rnd.IntN(4) == 0 { // compression has had its share
		g.zip.left = -24 * time.Hour
	}
	g.compacts = rnd.IntN(2) == 0
	g.pad = 200
	ring := int64(2000 + rnd.IntN(30_000))
	if rnd.IntN(4) == 0 { // so that pictures take several pieces
		g.pad, ring = 12_000, 50*ring
	}
	if rnd.IntN(4) == 0 {
		g.state.MaxKeys = 3 + rnd.IntN(pictureKeys)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	defer running.Wait()
	defer cancel()
	for range 3 {
		hubs, err := fanout.New(fanout.Config{
			Log: g.log, RingBytes: ring, MemoryBytes: 4 << 20, CatchUpReads: 1 + rnd.IntN(3), Linger: 300 * time.Millisecond,
		})
		if err != nil {
			t.Fatal(err)
		}
		s := &Server{deps: Deps{Hubs: hubs, Log: g.log}, logger: slog.New(slog.DiscardHandler), m: newMetrics(nil)}
		g.replicas = append(g.replicas, s)
		running.Go(func() { _ = hubs.Run(ctx) })
	}
	for range rnd.IntN(60) {
		g.publish()
	}
	g.clients = append(g.clients, g.client(0))
	for range 700 {
		switch x := rnd.IntN(100); {
		case x < 25:
			for range 1 + rnd.IntN(1+rnd.IntN(50)) {
				g.publish()
			}
		case x < 30 && len(g.clients) < 14:
			g.clients = append(g.clients, g.client(len(g.clients)))
		case x < 31:
			g.log.Hole(rnd.IntN(n), rnd.Int64N(4))
		case x < 33:
			g.log.Outage(rnd.IntN(2) == 0)
		case x < 34 && g.compacts:
			g.log.Compact(rnd.IntN(n))
		case x < 35 && rnd.IntN(8) == 0:
			g.retained = true
			p := rnd.IntN(n)
			g.log.Retain(p, g.log.Parts[p].First+rnd.Int64N(g.log.Parts[p].Next-g.log.Parts[p].First+1)/2)
		case x < 36 && rnd.IntN(10) == 0:
			g.log.Recreate(n)
		case x < 45:
			time.Sleep(time.Duration(rnd.IntN(400)) * time.Millisecond)
		case len(g.clients) > 0:
			switch c := g.clients[rnd.IntN(len(g.clients))]; {
			case c.feed != nil && x < 50:
				c.cut()
			case c.feed != nil && x < 51 && c.whole:
				c.requery()
			default:
				c.drive(ctx)
			}
		}
	}
	g.log.Outage(false)
	time.Sleep(5 * time.Second)
	g.settle(ctx)
	// What comes while all are there, or but some of them, is told to each as it comes.
	for range 1 + rnd.IntN(3) {
		for _, c := range g.clients {
			if rnd.IntN(4) == 0 {
				c.cut()
			}
		}
		if rnd.IntN(3) == 0 {
			g.log.Recreate(n)
			time.Sleep(time.Duration(rnd.IntN(2000)) * time.Millisecond)
		}
		for range 1 + rnd.IntN(80) {
			g.publish()
			if rnd.IntN(4) == 0 {
				g.clients[rnd.IntN(len(g.clients))].drive(ctx)
			}
		}
		g.settle(ctx)
	}
	for _, c := range g.clients {
		c.cut()
	}
}

// settle has every client come to the end of the log, and compares.
func (g *gallery) settle(ctx context.Context) {
	for _, c := range g.clients {
		c.finish(ctx)
		c.check()
	}
}

// drive has the client do something.
func (c *painter) drive(ctx context.Context) {
	if c.feed == nil {
		c.connect(ctx)
	} else {
		c.step(ctx)
	}
}

// publish appends an event, a tombstone or what is no event; keys stay in their partitions.
func (g *gallery) publish() {
	k := g.rnd.IntN(pictureKeys)
	key := fmt.Sprintf("/k/%d", k)
	g.serial++
	r := broker.Record{Key: []byte(key), Timestamp: time.Now()}
	switch x := g.rnd.IntN(100); {
	case x < 10: // a tombstone
	case x < 13:
		r.Value = []byte("no event")
		if g.compacts { // which lets what is no event take an event's place
			r.Key = []byte("/none")
		}
	default:
		r.Value = fmt.Appendf(nil, `{"specversion":"1.0","id":"%d","source":"/s","type":"t","subject":%q,"grade":%d,"data":"%s"}`,
			g.serial, key, g.rnd.IntN(10), strings.Repeat("x", g.rnd.IntN(g.pad)))
	}
	g.log.Put(k%len(g.log.Parts), r)
}

// truth is what the log says: the latest event of each key.
func (g *gallery) truth() map[string]shown {
	events := map[string]shown{}
	for _, part := range g.log.Parts {
		for _, r := range part.Records {
			var e struct {
				ID    int `json:"id,string"`
				Grade int
			}
			switch {
			case r.Value == nil:
				delete(events, string(r.Key))
			case json.Unmarshal(r.Value, &e) == nil:
				events[string(r.Key)] = shown{e.ID, e.Grade}
			}
		}
	}
	return events
}

func (g *gallery) client(i int) *painter {
	c := &painter{g: g, name: fmt.Sprintf("client %d", i), messages: g.rnd.IntN(2) == 0, picture: map[string]shown{}, seen: map[int]bool{}}
	c.zipped = !c.messages && g.rnd.IntN(2) == 0
	c.request = Request{Streams: []fanout.Stream{{Name: "s", Topic: "s"}}, States: []fanout.State{g.state}}
	c.ask()
	c.request.From.Snapshot, c.whole = true, true
	switch g.rnd.IntN(5) {
	case 0:
		c.all = true
	case 1:
		c.request.Renew = true
	case 2, 3:
		c.request.Conflate = time.Duration(100+g.rnd.IntN(900)) * time.Millisecond
		c.request.Renew = g.rnd.IntN(2) == 0
	case 4:
		c.request.Conflate = 200 * time.Millisecond
		c.request.From.Snapshot, c.whole = false, false
		if g.rnd.IntN(2) == 0 {
			c.request.States = nil
		}
	}
	return c
}

// ask chooses what the client wants to see.
func (c *painter) ask() {
	var q filter.Query
	c.wants = func(string, int) bool { return true }
	switch rnd := c.g.rnd; rnd.IntN(4) {
	case 0:
		key := fmt.Sprintf("/k/%d", rnd.IntN(pictureKeys))
		q.Subjects = []string{key}
		c.wants = func(k string, _ int) bool { return k == key }
	case 1:
		q.SQL = "grade > 4"
		c.wants = func(_ string, grade int) bool { return grade > 4 }
	}
	f, err := filter.Compile(q)
	if err != nil {
		c.g.t.Fatal(err)
	}
	c.request.Filter = f
}

// requery changes the filter in flight. The cursors of the old one are worth nothing any more.
func (c *painter) requery() {
	c.feed.unpark()
	c.parked = false
	c.ask()
	c.cursor, c.from, c.since, c.drawing = "", nil, map[string]int{}, -1
	c.out.reset()
	f := c.request.Filter
	c.feed.filter, c.feed.options.Filter = f, f
	for i := range c.feed.parts {
		c.feed.requery(&c.out, &c.feed.parts[i])
	}
	c.read()
}

func (c *painter) connect(ctx context.Context) {
	q := c.request
	if c.cursor != "" {
		at, err := cursor.Parse(c.cursor)
		if err != nil {
			c.g.t.Fatal(err)
		}
		q.After = &at
	}
	f, err := c.g.replicas[c.g.rnd.IntN(len(c.g.replicas))].prepare(ctx, q, 0, nil, func() {})
	if err != nil {
		if !errors.Is(err, ErrBehind) && !errors.Is(err, broker.ErrUnavailable) && !errors.Is(err, fanout.ErrClosed) {
			c.g.t.Fatalf("%s: %v", c.name, err)
		}
		return
	}
	f.codec = ndjsonCodec{}
	switch {
	case c.messages:
		f.codec = &batchCodec{}
	case c.zipped:
		f.codec = &zipped{codec: ndjsonCodec{}, shared: c.g.zip}
	}
	c.window, c.sum = nil, checksum{}
	c.feed, c.drawing, c.parked, c.since, c.stood = &f, -1, false, map[string]int{}, nil
	c.out.reset()
	c.feed.begin(&c.out)
	c.read()
}

func (c *painter) cut() {
	if c.feed != nil && c.g.rnd.IntN(3) == 0 { // it is sent away, and told where it stands
		c.out.reset()
		c.feed.codec.control(&c.out, "drain", Drain{}, c.feed.cursor())
		var m pictureMessage
		if err := json.Unmarshal([]byte(c.text()), &m); err != nil {
			c.g.t.Fatal(err)
		}
		c.take(m)
	}
	if c.feed != nil {
		c.feed.unpark()
		c.feed.close()
		c.feed = nil
	}
}

// step drives the session for one write. It returns true where there is nothing more to do now.
func (c *painter) step(ctx context.Context) (idle bool) {
	if c.parked {
		c.feed.unpark()
		c.parked = false
	}
	c.out.reset()
	status := c.feed.gather(&c.out, &c.entries, 1+c.g.rnd.IntN(3000))
	if status == fanout.Behind {
		ctx, cancel := context.WithTimeout(ctx, 100*time.Millisecond)
		defer cancel()
		_, _ = c.feed.fill(ctx, &c.out, &c.entries, 1+c.g.rnd.IntN(3000))
	}
	size := c.out.size()
	if size == 0 && c.g.rnd.IntN(4) == 0 {
		c.feed.beat(&c.out)
	}
	c.read()
	switch status {
	case fanout.Ended:
		c.cut()
		return false
	case fanout.Idle:
		c.parked = c.feed != nil && c.feed.park()
		return c.parked && size == 0
	}
	return false
}

// message is what may come, in either form.
type pictureMessage struct {
	Cursor   string            `json:"cursor"`
	Event    json.RawMessage   `json:"event"`
	Events   []json.RawMessage `json:"events"`
	Snapshot *Snapshot         `json:"snapshot"`
	Live     *Live             `json:"live"`
	Removed  *Removed          `json:"removed"`
	Gap      *Gap              `json:"gap"`
}

// text is what the session wrote, as a client sees it.
func (c *painter) text() string {
	all := string(c.out.shared) + string(c.out.buf)
	if !c.zipped {
		return all
	}
	// Each write ends with a flush: followed by a last block it is a stream of its own, behind what came before.
	plain, err := io.ReadAll(flate.NewReaderDict(strings.NewReader(all+"\x01\x00\x00\xff\xff"), c.window))
	if err != nil {
		c.g.t.Fatalf("%s: %v", c.name, err)
	}
	c.sum.add(plain)
	if z := c.feed.codec.(*zipped); z.sum != c.sum {
		c.g.t.Fatalf("%s: the checksum is %v in place of %v", c.name, z.sum, c.sum)
	}
	c.window = append(c.window, plain...)
	c.window = c.window[max(0, len(c.window)-32<<10):]
	return string(plain)
}

// read takes what the session wrote, or a part of it, after which the connection is gone.
func (c *painter) read() {
	var texts []string
	all := c.text()
	if c.messages {
		from := 0
		for _, cut := range c.out.cuts {
			to := cut >> cutBits
			texts = append(texts, all[from:to])
			from = to
		}
		if from != len(all) {
			c.g.t.Fatalf("%s: %q is no message", c.name, all[from:])
		}
	} else {
		texts = strings.SplitAfter(all, "\n")
		texts = texts[:len(texts)-1]
	}
	torn := c.g.rnd.IntN(50) == 0
	for i, text := range texts {
		if torn && i >= len(texts)/2 {
			c.feed.unpark()
			c.feed.close()
			c.feed = nil
			return
		}
		var m pictureMessage
		if err := json.Unmarshal([]byte(text), &m); err != nil {
			c.g.t.Fatalf("%s: %v in %s", c.name, err, text)
		}
		c.take(m)
	}
	c.feed.written()
}

func (c *painter) take(m pictureMessage) {
	t := c.g.t
	switch {
	case m.Snapshot != nil:
		if !c.whole && !c.request.Renew {
			t.Fatalf("%s: a snapshot that it did not ask for", c.name)
		}
		c.picture, c.drawing = map[string]shown{}, m.Snapshot.Keys
		c.anyDrops = c.anyDrops || m.Snapshot.Dropped > 0
		c.since, c.seen, c.from = map[string]int{}, map[int]bool{}, nil // it takes the place of what came before
	case m.Live != nil:
		if c.drawing != 0 {
			t.Fatalf("%s: the snapshot ends with %d keys missing", c.name, c.drawing)
		}
		c.drawing = -1
	case m.Removed != nil:
		delete(c.picture, m.Removed.Subject)
		c.anyDrops = c.anyDrops || m.Removed.Reason == "dropped"
	case m.Gap != nil:
		c.since, c.stood = map[string]int{}, nil
		if m.Gap.Reason == "recreated" {
			c.from = make([]int64, len(c.g.log.Parts))
		}
	}
	events := m.Events
	if m.Event != nil {
		events = append(events, m.Event)
	}
	for _, text := range events {
		var e struct {
			ID      int `json:"id,string"`
			Subject string
			Grade   int
		}
		if err := json.Unmarshal(text, &e); err != nil {
			t.Fatalf("%s: %v in %s", c.name, err, text)
		}
		if !c.wants(e.Subject, e.Grade) {
			t.Fatalf("%s: was given %s", c.name, text)
		}
		if e.ID <= c.since[e.Subject] {
			t.Fatalf("%s: event %d of %s after %d", c.name, e.ID, e.Subject, c.since[e.Subject])
		}
		c.since[e.Subject] = e.ID
		c.picture[e.Subject] = shown{e.ID, e.Grade}
		c.seen[e.ID] = true
		if c.drawing >= 0 {
			c.drawing--
		}
	}
	if m.Cursor == "" {
		return
	}
	at, err := cursor.Parse(m.Cursor)
	if err != nil {
		t.Fatal(err)
	}
	if c.drawing >= 0 && !at.Streams[0].Doubt {
		t.Fatalf("%s: a cursor in the middle of a snapshot that does not lead to another", c.name)
	}
	for p, next := range at.Streams[0].Next {
		if p < len(c.stood) && next < c.stood[p] && c.life == at.Streams[0].Epoch {
			t.Fatalf("%s (%+v): its cursor went back from %v to %v with %+v", c.name, c.request, c.stood, at.Streams[0].Next, m)
		}
	}
	c.cursor, c.stood, c.life = m.Cursor, at.Streams[0].Next, at.Streams[0].Epoch
	if c.from == nil && c.drawing < 0 {
		c.from = at.Streams[0].Next
	}
}

// finish drives the client to the end of the log.
func (c *painter) finish(ctx context.Context) {
	for i := 0; ; i++ {
		if i > 20_000 {
			c.g.t.Fatalf("%s: does not come to an end: %+v at %s", c.name, c.request, c.cursor)
		}
		if c.feed == nil {
			c.connect(ctx)
			if c.feed == nil {
				time.Sleep(100 * time.Millisecond)
			}
			continue
		}
		if !c.step(ctx) {
			continue
		}
		time.Sleep(1500 * time.Millisecond) // longer than any interval
		if !c.step(ctx) || c.feed == nil {
			continue
		}
		c.out.reset()
		c.feed.unpark()
		c.parked = false
		c.feed.beat(&c.out)
		c.read()
		if c.feed == nil || c.cursor == "" {
			continue
		}
		at, _ := cursor.Parse(c.cursor)
		done := cursor.EpochOf(c.g.log.Epoch) == at.Streams[0].Epoch
		for p, part := range c.g.log.Parts {
			done = done && p < len(at.Streams[0].Next) && at.Streams[0].Next[p] >= part.Next
		}
		if done {
			return
		}
	}
}

// check compares the picture with the log.
func (c *painter) check() {
	t := c.g.t
	truth := c.g.truth()
	for key, e := range truth {
		if !c.wants(key, e.Grade) {
			delete(truth, key)
		}
	}
	bounded := c.g.state.MaxKeys < pictureKeys
	for _, key := range slices.Sorted(maps.Keys(c.picture)) {
		has, ok := c.picture[key], false
		want, known := truth[key]
		switch {
		case known:
			ok = has == want
		case c.g.retained:
			ok = true // the log has forgotten what a state need not
		default:
			ok = !c.whole // who asked for no snapshot may not be told what went away before it came
		}
		if !ok {
			t.Errorf("%s (%+v): its picture of %s is %+v, the log says %+v", c.name, c.request, key, has, want)
		}
	}
	for _, key := range slices.Sorted(maps.Keys(truth)) {
		if _, ok := c.picture[key]; ok {
			continue
		}
		switch {
		case bounded && c.anyDrops:
		case !c.whole && !c.changedSince(key):
		default:
			t.Errorf("%s (%+v): %s is missing, the log says %+v", c.name, c.request, key, truth[key])
		}
	}
	if !c.all || c.from == nil {
		return
	}
	for p, part := range c.g.log.Parts {
		for _, r := range part.Records {
			var e struct {
				ID    int `json:"id,string"`
				Grade int
			}
			if r.Value == nil || json.Unmarshal(r.Value, &e) != nil || !c.wants(string(r.Key), e.Grade) {
				continue
			}
			if p < len(c.from) && r.Offset >= c.from[p] && !c.seen[e.ID] {
				t.Errorf("%s: event %d at offset %d of partition %d was not given", c.name, e.ID, r.Offset, p)
			}
		}
	}
}

// changedSince reports whether a key's latest event came after the client began.
func (c *painter) changedSince(key string) bool {
	for p, part := range c.g.log.Parts {
		for _, r := range part.Records {
			if string(r.Key) == key && p < len(c.from) && r.Offset >= c.from[p] && r.Value != nil {
				return true
			}
		}
	}
	return false
}

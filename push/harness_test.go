package push

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"github.com/eventissuer/eventissuer/broker"
	"github.com/eventissuer/eventissuer/internal/fanout"
	"github.com/eventissuer/eventissuer/internal/filter"
	"github.com/eventissuer/eventissuer/internal/guard"
	"github.com/eventissuer/eventissuer/internal/table/tabletest"
	"github.com/eventissuer/eventissuer/internal/webhook"
)

const (
	testTopic     = "trains"
	testPositions = "positions"
)

var testStream = fanout.Stream{Name: "trains", Topic: testTopic}

// world is what all processes share: the log, the catalog, who owns which partition, and the endpoints.
type world struct {
	t   testing.TB
	log *tabletest.Log

	mu        sync.Mutex
	rnd       *rand.Rand
	catalog   []version // by offset
	current   map[string]*Subscription
	processes []*process
	owners    map[int32]*ownership
	owned     map[int32]int // how many owners a partition has had
	endpoints map[string]*sink
	lives     map[uuid.UUID]*life
	letters   []Letter
	disabled  map[string]string
}

// version is a record of the catalog.
type version struct {
	id string
	is *Subscription
}

// life is one incarnation as the test knows it.
type life struct {
	subscription string
	start        []int64
	until        []int64 // of a replay; nil: it has no end
	over         bool
	got          map[spot][]time.Time // deliveries that were acknowledged
	tried        map[spot]bool        // first sent
}

type spot struct {
	partition int32
	offset    int64
}

func newWorld(t testing.TB, seed uint64, partitions int32) *world {
	w := &world{
		t: t, log: tabletest.New(), rnd: rand.New(rand.NewPCG(seed, 2)), current: map[string]*Subscription{}, owners: map[int32]*ownership{},
		owned: map[int32]int{}, endpoints: map[string]*sink{}, lives: map[uuid.UUID]*life{}, disabled: map[string]string{},
	}
	if err := w.log.Create(t.Context(), testTopic, broker.TopicConfig{Partitions: partitions}); err != nil {
		t.Fatal(err)
	}
	return w
}

// publish appends an event with a key.
func (w *world) publish(partition int32, key string) int64 {
	id := uuid.NewString()
	value := fmt.Sprintf(`{"specversion":"1.0","id":%q,"source":"/test","type":"t","subject":%q}`, id, key)
	ack := w.log.Append(w.t.Context(), testTopic, []broker.Message{{
		Partition: partition, Key: []byte(key), Value: []byte(value),
		Headers: []broker.Header{{Key: "content-type", Value: []byte("application/cloudevents+json")}},
	}})[0]
	if ack.Err != nil {
		w.t.Fatal(ack.Err)
	}
	return ack.Offset
}

func (w *world) epoch() broker.Epoch {
	info, err := w.log.Describe(w.t.Context(), testTopic)
	if err != nil {
		w.t.Fatal(err)
	}
	return info.Epoch
}

func (w *world) end(partition int32) int64 {
	bounds, err := w.log.Bounds(w.t.Context(), testTopic)
	if err != nil {
		w.t.Fatal(err)
	}
	return bounds[partition].Next
}

// subscribe creates a subscription that begins at start in every partition.
func (w *world) subscribe(id string, start []int64, query filter.Query, ordered bool) *Subscription {
	f, err := filter.Compile(query)
	if err != nil {
		w.t.Fatal(err)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	sub := &Subscription{ID: id, Version: uuid.New(), Filter: f, Ordered: ordered, Lives: []Life{w.live(id, start)}}
	w.change(sub)
	return sub
}

// live makes a new incarnation. w.mu is held.
func (w *world) live(id string, start []int64) Life {
	incarnation := uuid.New()
	w.lives[incarnation] = &life{subscription: id, start: start, got: map[spot][]time.Time{}, tried: map[spot]bool{}}
	return Life{Incarnation: incarnation, Routes: []Route{{
		Stream: testStream, Epoch: w.epoch().Hex(), Start: start, Born: int64(len(w.catalog)),
	}}}
}

// change appends a version of a subscription to the catalog. w.mu is held.
func (w *world) change(sub *Subscription) {
	w.current[sub.ID] = sub
	w.catalog = append(w.catalog, version{sub.ID, sub})
}

// edit replaces a subscription by a changed copy.
func (w *world) edit(id string, change func(s *Subscription)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	s := *w.current[id]
	s.Version = uuid.New()
	s.Lives = slices.Clone(s.Lives)
	change(&s)
	w.change(&s)
}

// rewind gives a subscription a new incarnation.
func (w *world) rewind(id string, start []int64) {
	w.edit(id, func(s *Subscription) {
		for _, l := range s.Lives {
			w.lives[l.Incarnation].over = true
		}
		s.Lives = []Life{w.live(id, start)}
	})
}

// replay gives a subscription an incarnation beside its live one, which has an end.
func (w *world) replay(id string, start, until []int64) {
	w.edit(id, func(s *Subscription) {
		l := w.live(id, start)
		l.Routes[0].Until = make([]int64, len(until))
		for i := range until {
			if start[i] < until[i] {
				l.Routes[0].Until[i] = until[i]
			}
		}
		w.lives[l.Incarnation].until = l.Routes[0].Until
		if slices.Max(l.Routes[0].Until) > 0 { // else there is nothing to send again
			s.Lives = append(s.Lives, l)
		}
	})
}

// replays counts those whose end was not noted.
func (w *world) replays() (n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, s := range w.current {
		n += len(s.Lives) - 1
	}
	return n
}

// due are the records of a life, of a partition's.
func (l *life) due(partition int32, records []broker.Record) []broker.Record {
	end := int64(len(records))
	if l.until != nil {
		end = l.until[partition]
	}
	return records[min(l.start[partition], end):end]
}

func (w *world) unsubscribe(id string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, l := range w.current[id].Lives {
		w.lives[l.Incarnation].over = true
	}
	delete(w.current, id)
	w.catalog = append(w.catalog, version{id, nil})
}

// sink is an endpoint as the test has it.
type sink struct {
	answer func(id string, p spot) (status int, took time.Duration)
	spec   func(e *Endpoint)
}

func (w *world) sink(id string) *sink {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.endpoints[id] == nil {
		w.endpoints[id] = &sink{}
	}
	return w.endpoints[id]
}

// process is one replica.
type process struct {
	w      *world
	name   string
	view   *tabletest.View
	engine *Engine
	cancel context.CancelFunc
	ended  chan struct{}
	alive  bool // its requests reach endpoints

	mu   sync.Mutex
	own  func(context.Context, broker.Claim) // guarded by mu
	ctx  context.Context                     //nolint:containedctx // of the Join; guarded by mu
	busy *sync.WaitGroup                     // guarded by mu: the partitions that the Join gave
	told int                                 // changes of the catalog that it has applied
	fns  map[*func(Change)]struct{}
}

// puppet is a process's log, whose groups the test makes.
type puppet struct {
	*tabletest.View
	p *process
}

// Join implements broker.Joiner.
func (l puppet) Join(ctx context.Context, _ string, _ []string, own func(context.Context, broker.Claim)) error {
	l.p.mu.Lock()
	busy := &sync.WaitGroup{}
	l.p.own, l.p.ctx, l.p.busy = own, ctx, busy
	l.p.mu.Unlock()
	<-ctx.Done()
	l.p.mu.Lock()
	if l.p.ctx == ctx {
		l.p.own = nil
	}
	l.p.mu.Unlock()
	busy.Wait()
	return ctx.Err()
}

// start starts a process with settings of its own.
func (w *world) start(seed uint64, faults tabletest.Faults, setting func(c *Config, e *Engine)) *process {
	p := &process{w: w, name: fmt.Sprintf("p%d", len(w.processes)), view: w.log.View(seed, faults), ended: make(chan struct{}), alive: true, fns: map[*func(Change)]struct{}{}}
	hubs, err := fanout.New(fanout.Config{Log: puppet{p.view, p}, RingBytes: 20 << 10, MemoryBytes: 1 << 20})
	if err != nil {
		w.t.Fatal(err)
	}
	c := Config{Positions: testPositions}
	if setting != nil {
		setting(&c, nil)
	}
	p.engine, err = New(c, Deps{Log: puppet{p.view, p}, Hubs: hubs, Definitions: p, Sender: p.sender, Letters: p})
	if err != nil {
		w.t.Fatal(err)
	}
	if setting != nil {
		setting(&c, p.engine)
	}
	ctx, cancel := context.WithCancel(context.Background())
	hubsCtx, endHubs := context.WithCancel(context.Background())
	p.cancel = cancel
	var running sync.WaitGroup
	running.Go(func() { _ = hubs.Run(hubsCtx) })
	go func() {
		defer close(p.ended)
		if err := p.engine.Run(ctx); err != nil {
			w.t.Error(err)
		}
		endHubs()
		running.Wait()
	}()
	w.mu.Lock()
	w.processes = append(w.processes, p)
	w.mu.Unlock()
	return p
}

// stop stops a process in order. kill has its requests and writes end at once.
func (p *process) stop() {
	p.w.release(p)
	p.cancel()
	<-p.ended
}

func (p *process) kill() {
	p.w.mu.Lock()
	p.alive = false
	p.w.mu.Unlock()
	p.view.Set(tabletest.Faults{Lose: 1})
	p.stop()
}

// Watch implements Definitions: what was applied is told at once, the rest when the test says so.
func (p *process) Watch(fn func(Change)) (stop func()) {
	p.w.mu.Lock()
	defer p.w.mu.Unlock()
	p.fns[&fn] = struct{}{}
	for _, c := range p.w.catalog[:p.told] {
		fn(Change{ID: c.id})
	}
	fn(Change{Applied: int64(p.told)})
	return func() {
		p.w.mu.Lock()
		defer p.w.mu.Unlock()
		delete(p.fns, &fn)
	}
}

// tell has the process apply the catalog up to an offset.
func (p *process) tell(upTo int) {
	p.w.mu.Lock()
	defer p.w.mu.Unlock()
	for p.told < min(upTo, len(p.w.catalog)) {
		p.told++
		for fn := range p.fns {
			(*fn)(Change{ID: p.w.catalog[p.told-1].id})
		}
	}
	for fn := range p.fns {
		(*fn)(Change{Applied: int64(p.told)})
	}
}

// Subscription implements Definitions.
func (p *process) Subscription(id string) *Subscription {
	p.w.mu.Lock()
	defer p.w.mu.Unlock()
	for _, v := range slices.Backward(p.w.catalog[:p.told]) {
		if v.id == id {
			return v.is
		}
	}
	return nil
}

// Endpoint implements Definitions.
func (p *process) Endpoint(id string) (*Endpoint, error) {
	s := p.w.sink(id)
	e := &Endpoint{
		Owner: id, URL: "https://" + id + "/hook", Mode: webhook.Structured, Signer: &webhook.Signer{Secrets: []webhook.Secret{webhook.NewSecret()}},
		Concurrency: 8, Timeout: 15 * time.Second, Schedule: []time.Duration{time.Second, 5 * time.Second, 30 * time.Second, time.Minute},
	}
	p.w.mu.Lock()
	defer p.w.mu.Unlock()
	if s.spec != nil {
		s.spec(e)
	}
	return e, nil
}

// Disable implements Definitions.
func (p *process) Disable(_ context.Context, id string, _ uuid.UUID, reason string) error {
	p.w.mu.Lock()
	p.w.disabled[id] = reason
	p.w.mu.Unlock()
	p.w.edit(id, func(s *Subscription) { s.Blocked = reason })
	return nil
}

// Prove implements Definitions.
func (*process) Prove(context.Context, string, Verdict) error { return nil }

// EndReplay implements Definitions.
func (p *process) EndReplay(_ context.Context, id string, replay uuid.UUID, _ string, partition int32) error {
	p.w.mu.Lock()
	gone := p.w.current[id] == nil
	p.w.mu.Unlock()
	if gone {
		return nil
	}
	p.w.edit(id, func(s *Subscription) {
		for i, l := range s.Lives {
			if l.Incarnation != replay {
				continue
			}
			l.Routes = slices.Clone(l.Routes)
			until := slices.Clone(l.Routes[0].Until)
			until[partition] = 0
			l.Routes[0].Until = until
			s.Lives[i] = l
			if !slices.ContainsFunc(until, func(n int64) bool { return n > 0 }) {
				s.Lives = slices.Delete(s.Lives, i, i+1)
			}
			return
		}
	})
	return nil
}

// Write implements Letters.
func (p *process) Write(_ context.Context, letters []Letter) []error {
	p.w.mu.Lock()
	defer p.w.mu.Unlock()
	errs := make([]error, len(letters))
	for i, l := range letters {
		if !p.alive || p.w.rnd.Float64() < 0.2 {
			errs[i] = broker.ErrUnavailable
			continue
		}
		p.w.letters = append(p.w.letters, l)
		if of := p.w.lives[l.Incarnation]; of != nil {
			at := spot{l.Partition, l.Offset}
			of.got[at] = append(of.got[at], time.Now())
		}
	}
	return errs
}

func (p *process) sender(owner string, _ webhook.Credential) (Sender, error) {
	return &wire{p: p, id: owner}, nil
}

// wire is the way to an endpoint.
type wire struct {
	p  *process
	id string
}

// Do implements Sender.
func (s *wire) Do(ctx context.Context, r guard.Request) (*guard.Response, error) {
	w := s.p.w
	lives, places := w.recognise(s.id, r.Header.Get("webhook-id"), r.Body)
	if lives == nil {
		w.t.Errorf("an endpoint of %s got a message that is nobody's: %s", s.id, r.Body)
		return &guard.Response{Status: 400}, nil
	}
	answer := w.sink(s.id).answer
	status, took := 200, 5*time.Millisecond
	for n, at := range places {
		if lives.until != nil && at.offset >= lives.until[at.partition] {
			w.t.Errorf("offset %d of partition %d was sent in a replay of %s that ends at %d", at.offset, at.partition, s.id, lives.until[at.partition])
		}
		w.firstSent(lives, at, places[:n])
	}
	if answer != nil {
		w.mu.Lock()
		status, took = answer(s.id, places[0])
		w.mu.Unlock()
	}
	wait := time.NewTimer(took)
	defer wait.Stop()
	select {
	case <-wait.C:
	case <-ctx.Done():
		w.mu.Lock()
		defer w.mu.Unlock()
		if status == 200 && w.rnd.Float64() < 0.5 { // it may have been accepted, and nobody knows
			lives.accept(places)
		}
		return nil, ctx.Err()
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if !s.p.alive {
		return nil, io.ErrUnexpectedEOF
	}
	if status == 200 {
		lives.accept(places)
	}
	return &guard.Response{Status: status, Header: http.Header{}}, nil
}

// Close implements Sender.
func (*wire) Close() {}

func (l *life) accept(places []spot) {
	for _, at := range places {
		l.got[at] = append(l.got[at], time.Now())
	}
}

// recognise finds whose message it is, by its id and its events.
func (w *world) recognise(id, message string, body []byte) (*life, []spot) {
	type cloudEvent struct{ ID string }
	var one cloudEvent
	events := []cloudEvent{}
	if strings.HasPrefix(string(body), "[") {
		_ = json.Unmarshal(body, &events)
	} else if json.Unmarshal(body, &one) == nil {
		events = append(events, one)
	}
	var places []spot
	for _, e := range events {
		for partition := range int32(len(w.bounds())) {
			for _, r := range w.log.Records(testTopic, partition) {
				if strings.Contains(string(r.Value), e.ID) {
					places = append(places, spot{partition, r.Offset})
				}
			}
		}
	}
	if len(places) != len(events) || len(places) == 0 {
		return nil, nil
	}
	offsets := make([]int64, len(places))
	for i, at := range places {
		offsets[i] = at.offset
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for incarnation, l := range w.lives {
		if l.subscription == id && webhook.MessageID(incarnation, w.epoch(), places[0].partition, offsets...) == message {
			return l, places
		}
	}
	return nil, nil
}

func (w *world) bounds() []broker.Bounds {
	b, err := w.log.Bounds(w.t.Context(), testTopic)
	if err != nil {
		w.t.Fatal(err)
	}
	return b
}

// firstSent checks that an event is first sent only when all before it with its key are done, or before it in the request.
func (w *world) firstSent(l *life, at spot, before []spot) {
	records := w.log.Records(testTopic, at.partition)
	w.mu.Lock()
	defer w.mu.Unlock()
	s := w.current[l.subscription]
	if l.tried[at] || l.over || s == nil || !s.Ordered {
		return
	}
	l.tried[at] = true
	for _, r := range records[l.start[at.partition]:at.offset] {
		if slices.Contains(before, spot{at.partition, r.Offset}) {
			continue
		}
		if string(r.Key) == string(records[at.offset].Key) && len(l.got[spot{at.partition, r.Offset}]) == 0 && l.matches(w, r) {
			w.t.Errorf("%s: offset %d of partition %d was sent before %d, which has its key and is not done", l.subscription, at.offset, at.partition, r.Offset)
		}
	}
}

// matches reports whether a record is one of the life's. w.mu is held.
func (l *life) matches(w *world, r broker.Record) bool {
	s := w.current[l.subscription]
	return s != nil && s.Filter.Match(eventOf(w.t, r))
}

// ownership is the ownership of a partition by a process.
type ownership struct {
	w         *world
	p         *process
	partition int32
	cancel    context.CancelFunc
	ended     chan struct{}
}

// assign gives a partition to a process, and takes it from the one that had it: in order, or without that one's noticing
// before later.
func (w *world) assign(partition int32, p *process, inOrder bool) {
	w.mu.Lock()
	was := w.owners[partition]
	delete(w.owners, partition)
	w.mu.Unlock()
	if was != nil {
		if inOrder {
			was.cancel()
			<-was.ended
		} else {
			time.AfterFunc(time.Duration(w.draw(20_000))*time.Millisecond, was.cancel)
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.own == nil || p.ctx.Err() != nil {
		return
	}
	ctx, cancel := context.WithCancel(p.ctx)
	o := &ownership{w: w, p: p, partition: partition, cancel: cancel, ended: make(chan struct{})}
	w.mu.Lock()
	w.owners[partition] = o
	w.owned[partition]++
	w.mu.Unlock()
	own := p.own
	p.busy.Go(func() {
		defer close(o.ended)
		own(ctx, o)
	})
}

func (w *world) draw(n int) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.rnd.IntN(n)
}

// release takes all of a process's partitions from it.
func (w *world) release(p *process) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for n, o := range w.owners {
		if o.p == p {
			delete(w.owners, n)
		}
	}
}

// Topic, Partition, Committed and Commit implement broker.Claim.
func (o *ownership) Topic() string    { return testTopic }
func (o *ownership) Partition() int32 { return o.partition }
func (o *ownership) Committed(context.Context) (int64, string, error) {
	return -1, "", nil
}

func (o *ownership) Commit(context.Context, int64, string) error {
	o.w.mu.Lock()
	defer o.w.mu.Unlock()
	if o.w.owners[o.partition] != o {
		return broker.ErrNotOwner
	}
	return nil
}

type credential = webhook.Credential

// count reads a counter.
func count(c prometheus.Counter) float64 {
	var m dto.Metric
	if c.Write(&m) != nil {
		return -1
	}
	return m.GetCounter().GetValue()
}

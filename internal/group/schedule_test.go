package group

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/eventissuer/eventissuer/broker"
	"github.com/eventissuer/eventissuer/broker/kafka"
	"github.com/eventissuer/eventissuer/internal/clock"
)

// The schedules below are those of the protocol's model, on the real code over a real log: owners that are replaced and
// run on, generations that pass, writes to Redis that are not answered and land late or never, Redis flushed, sessions that
// come, go, acknowledge, give back and forget. Only who owns a partition is decided by the test, as a coordinator would.
//
// It checks: an owner that was not replaced gives out nothing that was answered as acknowledged (but for a flush); an event
// is first given out only when all before it with its key were acknowledged; Kafka's commit, and what Redis keeps between
// flushes, do not go back; and when the faults stop everything is acknowledged.

// coordinator says who owns what.
type coordinator struct {
	t testing.TB

	mu      sync.Mutex
	members map[*puppet]bool        // guarded by mu
	owners  map[int32]*puppetClaim  // guarded by mu
	commits map[int32]broker.Commit // guarded by mu
}

// puppet is a replica's log, whose groups the coordinator makes.
type puppet struct {
	*kafka.Log
	of *coordinator

	mu   sync.Mutex
	own  func(context.Context, broker.Claim) // nil: not a member; guarded by mu
	ctx  context.Context                     //nolint:containedctx // of the Join; guarded by mu
	live map[int32]bool                      // partitions that it owns, or takes itself to; guarded by mu
	busy sync.WaitGroup
}

type puppetClaim struct {
	of        *coordinator
	by        *puppet
	topic     string
	partition int32
	cancel    context.CancelFunc
	ended     chan struct{}
}

func (p *puppet) Join(ctx context.Context, _ string, _ []string, own func(context.Context, broker.Claim)) error {
	p.mu.Lock()
	p.own, p.ctx = own, ctx
	p.mu.Unlock()
	p.of.mu.Lock()
	p.of.members[p] = true
	p.of.mu.Unlock()
	<-ctx.Done()
	p.of.mu.Lock()
	delete(p.of.members, p)
	p.of.mu.Unlock()
	p.mu.Lock()
	p.own = nil
	p.mu.Unlock()
	p.busy.Wait()
	p.of.mu.Lock()
	for n, c := range p.of.owners {
		if c.by == p {
			delete(p.of.owners, n)
		}
	}
	p.of.mu.Unlock()
	return ctx.Err()
}

// assign gives a partition to a member, which begins to own it.
func (c *coordinator) assign(n int32, p *puppet) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.own == nil || p.ctx.Err() != nil || p.live[n] { // a member that was replaced joins again once it has let go
		return
	}
	p.live[n] = true
	ctx, cancel := context.WithCancel(p.ctx)
	claim := &puppetClaim{of: c, by: p, topic: "orders", partition: n, cancel: cancel, ended: make(chan struct{})}
	c.mu.Lock()
	c.owners[n] = claim
	c.mu.Unlock()
	own := p.own
	p.busy.Go(func() {
		defer close(claim.ended)
		own(ctx, claim)
		p.mu.Lock()
		delete(p.live, n)
		p.mu.Unlock()
	})
}

// replace takes a partition from its owner: told, so that it lets go first; or not, so that it runs on for a while.
func (c *coordinator) replace(n int32, told bool, wakes time.Duration) {
	c.mu.Lock()
	claim := c.owners[n]
	if claim == nil {
		c.mu.Unlock()
		return
	}
	if told {
		c.mu.Unlock()
		claim.cancel()
		<-claim.ended
		c.mu.Lock()
	} else {
		time.AfterFunc(wakes, claim.cancel)
	}
	if c.owners[n] == claim {
		delete(c.owners, n)
	}
	c.mu.Unlock()
}

func (c *coordinator) owner(n int32) *puppet {
	c.mu.Lock()
	defer c.mu.Unlock()
	if claim := c.owners[n]; claim != nil {
		return claim.by
	}
	return nil
}

func (p *puppetClaim) Topic() string { return p.topic }

func (p *puppetClaim) Partition() int32 { return p.partition }

func (p *puppetClaim) Committed(context.Context) (int64, string, error) {
	p.of.mu.Lock()
	defer p.of.mu.Unlock()
	if c, ok := p.of.commits[p.partition]; ok {
		return c.Offset, c.Note, nil
	}
	return -1, "", nil
}

func (p *puppetClaim) Commit(_ context.Context, offset int64, note string) error {
	p.of.mu.Lock()
	defer p.of.mu.Unlock()
	if p.of.owners[p.partition] != p {
		return broker.ErrNotOwner
	}
	if was := p.of.commits[p.partition]; offset < was.Offset && note == was.Note {
		p.of.t.Errorf("the commit of partition %d goes back from %d to %d", p.partition, was.Offset, offset)
	}
	p.of.commits[p.partition] = broker.Commit{Offset: offset, Note: note}
	return nil
}

// faults makes a replica's Redis lose requests and replies.
type faults struct {
	mu   sync.Mutex
	r    *rand.Rand // guarded by mu
	rate int        // in a thousand; guarded by mu
	late sync.WaitGroup
}

var errNoAnswer = errors.New("no answer")

func (f *faults) DialHook(next redis.DialHook) redis.DialHook { return next }

func (f *faults) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

func (f *faults) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		switch cmd.Name() {
		case "set", "get", "evalsha", "eval":
		default:
			return next(ctx, cmd)
		}
		f.mu.Lock()
		fails, how, wait := f.r.IntN(1000) < f.rate, f.r.IntN(3), time.Duration(f.r.IntN(400))*time.Millisecond
		f.mu.Unlock()
		if !fails {
			return next(ctx, cmd)
		}
		switch how {
		case 0: // it never came to Redis
		case 1: // the reply was lost
			_ = next(ctx, redis.NewCmd(ctx, cmd.Args()...))
		case 2: // it lands late
			f.late.Go(func() {
				time.Sleep(wait) // this is the fault, not a wait for something
				_ = next(context.Background(), redis.NewCmd(context.Background(), cmd.Args()...))
			})
		}
		cmd.SetErr(errNoAnswer)
		return errNoAnswer
	}
}

// journal is what happened, as clients saw it.
type journal struct {
	mu       sync.Mutex
	answered map[string]durable   // events whose acknowledgement was answered; guarded by mu
	told     map[saying]time.Time // when a session first said that it has an event; guarded by mu
	said     map[string]bool      // events that a client acknowledged, whatever became of it; guarded by mu
	first    map[string]bool      // events that were given out; guarded by mu
	flushed  time.Time            // guarded by mu
	last     map[string]int       // by key, the newest event that was first given out; guarded by mu
}

// durable is an acknowledgement that was answered. It may be stored since it was first said, though it was answered only
// when it was said again.
type durable struct{ told, answered time.Time }

type saying struct {
	session *Member
	event   string
}

func TestScheduleOfFaults(t *testing.T) {
	if testing.Short() {
		t.Skip("it takes half a minute")
	}
	seed := rand.Uint64()
	if text := os.Getenv("EVENTISSUER_TEST_SEED"); text != "" {
		var err error
		if seed, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("EVENTISSUER_TEST_SEED=%d", seed)
	schedules := 6
	if text := os.Getenv("EVENTISSUER_TEST_SCHEDULES"); text != "" {
		schedules, _ = strconv.Atoi(text)
	}
	for n := range schedules {
		t.Run(fmt.Sprint(n), func(t *testing.T) { schedule(t, seed+uint64(n)) })
	}
}

const (
	scheduleKeys       = 5
	schedulePartitions = 2
	scheduleTime       = 4 * time.Second
)

func schedule(t *testing.T, seed uint64) {
	r := rand.New(rand.NewPCG(seed, 0))
	w := newWorld(t, schedulePartitions, func(s *Subscription) {
		s.AckTimeout, s.MaxAttempts, s.MaxUncommitted = 200*time.Millisecond, 1_000_000, 20
	})
	co := &coordinator{t: t, members: map[*puppet]bool{}, owners: map[int32]*puppetClaim{}, commits: map[int32]broker.Commit{}}
	var keys []string
	for k := range scheduleKeys {
		keys = append(keys, fmt.Sprintf("key-%d", k))
	}
	j := &journal{answered: map[string]durable{}, told: map[saying]time.Time{}, said: map[string]bool{}, first: map[string]bool{}, last: map[string]int{}}
	var (
		replicas []*Groups
		puppets  []*puppet
		hooks    []*faults
	)
	rate := []int{0, 20, 80}[r.IntN(3)]
	for range 3 {
		p := &puppet{Log: w.log, of: co, live: map[int32]bool{}}
		f := &faults{r: rand.New(rand.NewPCG(seed, r.Uint64())), rate: rate}
		gs := w.replicaOver(p, f)
		replicas, puppets, hooks = append(replicas, gs), append(puppets, p), append(hooks, f)
	}
	ctx, stop := context.WithCancel(t.Context())
	var running sync.WaitGroup
	publishing, published := context.WithCancel(ctx)
	var publisher sync.WaitGroup
	publisher.Go(func() {
		for n := 0; publishing.Err() == nil && n < 400; n++ {
			w.publish(1, keys...)
			clock.Pause(publishing, time.Duration(n%7)*time.Millisecond)
		}
	})
	calm := make(chan struct{})
	for n := range 5 {
		cr := rand.New(rand.NewPCG(seed, uint64(100+n)))
		running.Go(func() { clientOf(ctx, t, cr, replicas, puppets, co, j, calm) })
	}
	flushes := r.IntN(3) == 0
	end := time.Now().Add(scheduleTime)
	for time.Now().Before(end) {
		n := int32(r.IntN(schedulePartitions))
		switch x := r.IntN(10); {
		case x < 5:
			co.replace(n, x == 0, time.Duration(r.IntN(600))*time.Millisecond)
		case x == 9 && flushes && r.IntN(4) == 0:
			j.mu.Lock()
			flush(t, w.servers.RedisAddr())
			j.flushed = time.Now()
			j.mu.Unlock()
		}
		if co.owner(n) == nil && r.IntN(4) > 0 {
			co.assign(n, puppets[r.IntN(len(puppets))])
		}
		clock.Pause(ctx, time.Duration(r.IntN(120))*time.Millisecond)
	}
	// The faults stop.
	for _, f := range hooks {
		f.mu.Lock()
		f.rate = 0
		f.mu.Unlock()
	}
	published()
	publisher.Wait() // or an event would come after all were seen to be done
	close(calm)
	eventually(t, "everything is acknowledged", func() bool {
		for n := range int32(schedulePartitions) {
			if co.owner(n) == nil {
				co.assign(n, puppets[r.IntN(len(puppets))])
			}
		}
		s, err := replicas[0].Stats(t.Context(), subscriptionID)
		return err == nil && s.Lag == 0 && len(s.Partitions) == schedulePartitions
	})
	stop()
	running.Wait()
	for _, f := range hooks {
		f.late.Wait()
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	for n := range w.count {
		if !j.said[fmt.Sprint(n)] {
			t.Errorf("seed %d: event %d passed without anybody's acknowledgement; it was given out: %v", seed, n, j.first[fmt.Sprint(n)])
		}
	}
}

// clientOf opens sessions, and says at random what it did with what it is given.
func clientOf(ctx context.Context, t *testing.T, r *rand.Rand, replicas []*Groups, puppets []*puppet, co *coordinator, j *journal, calm chan struct{}) {
	quiet := func() bool {
		select {
		case <-calm:
			return true
		default:
			return false
		}
	}
	for ctx.Err() == nil {
		at := r.IntN(len(replicas))
		gs, home := replicas[at], puppets[at]
		wake := make(chan struct{}, 1)
		m, err := gs.Open(ctx, subscriptionID, Session{Transport: "test", Notify: func() { nudge(wake) }})
		if err != nil {
			clock.Pause(ctx, 10*time.Millisecond)
			continue
		}
		life := time.Now().Add(time.Duration(r.IntN(1500)) * time.Millisecond)
		var open []Delivery
		for ctx.Err() == nil && m.Ending() == nil && (quiet() || time.Now().Before(life)) {
			m.Notes()
			before := [schedulePartitions]*puppet{co.owner(0), co.owner(1)}
			began := time.Now()
			got, _ := m.Take(nil, 8, 1<<20)
			for _, d := range got {
				p := int32(d.Group[len(d.Group)-1] - '0')
				j.given(t, d, began, before[p] == home && co.owner(p) == home)
			}
			open = append(open, got...)
			if len(open) > 0 {
				open = speak(ctx, r, replicas, m, open, j, quiet())
			}
			wait, cancel := context.WithTimeout(ctx, 20*time.Millisecond)
			select {
			case <-wake:
			case <-wait.Done():
			}
			cancel()
		}
		m.Leave()
	}
}

// given checks a delivery. sure says that its replica owned the partition all the while.
func (j *journal) given(t *testing.T, d Delivery, began time.Time, sure bool) {
	id := idOf(d)
	n, _ := strconv.Atoi(id)
	j.mu.Lock()
	defer j.mu.Unlock()
	if is, ok := j.answered[id]; ok && sure && is.answered.Before(began) && is.told.After(j.flushed) {
		t.Errorf("event %s was answered as acknowledged and is given out again, in attempt %d", id, d.Attempt)
	}
	if j.first[id] {
		return
	}
	j.first[id] = true
	for before := n - scheduleKeys; before >= 0; before -= scheduleKeys {
		if b := fmt.Sprint(before); !j.said[b] {
			t.Errorf("event %d is given out before %s, of the same key, was acknowledged", n, b)
		}
	}
}

// speak says something of what is open, and returns what is still.
func speak(ctx context.Context, r *rand.Rand, replicas []*Groups, m *Member, open []Delivery, j *journal, quiet bool) []Delivery {
	gs := replicas[r.IntN(len(replicas))]
	cursor := func(d Delivery) string { return string(m.AppendCursor(nil, d.Seq)) }
	var (
		word  Word
		about []Delivery
		left  []Delivery
	)
	switch x := r.IntN(10); {
	case x < 6 || quiet:
		n := 1 + r.IntN(len(open))
		word, about, left = Word{To: cursor(open[n-1])}, open[:n], open[n:]
	case x == 6:
		n := r.IntN(len(open))
		word, about = Word{From: cursor(open[n]), To: cursor(open[n])}, open[n:n+1]
		left = append(append(left, open[:n]...), open[n+1:]...)
	case x == 7:
		n := len(open) - 1
		word = Word{To: cursor(open[n]), Back: true, Delay: time.Duration(r.IntN(100)) * time.Millisecond}
		left = open[:n]
	default: // it forgets what it has, or takes its time
		return open
	}
	if !word.Back {
		j.mu.Lock()
		for _, d := range about {
			j.said[idOf(d)] = true
			if _, again := j.told[saying{m, idOf(d)}]; !again {
				j.told[saying{m, idOf(d)}] = time.Now()
			}
		}
		j.mu.Unlock()
	}
	a, err := gs.Say(ctx, subscriptionID, []Word{word})
	if err == nil && a.Refused == 0 && !word.Back {
		now := time.Now()
		j.mu.Lock()
		for _, d := range about {
			j.answered[idOf(d)] = durable{j.told[saying{m, idOf(d)}], now}
		}
		j.mu.Unlock()
	}
	return left
}

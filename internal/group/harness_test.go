package group

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"go.uber.org/goleak"

	"github.com/eventissuer/eventissuer/broker"
	"github.com/eventissuer/eventissuer/broker/embedded"
	"github.com/eventissuer/eventissuer/broker/kafka"
	"github.com/eventissuer/eventissuer/internal/fanout"
)

func TestMain(m *testing.M) {
	// sarama's metrics keep one goroutine for the whole process.
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("github.com/rcrowley/go-metrics.(*meterArbiter).tick"))
}

// definitions are those of a test, which all its replicas see at once.
type definitions struct {
	mu   sync.Mutex
	subs map[string]Subscription // guarded by mu
}

func (d *definitions) Subscription(id string) (Subscription, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	s, ok := d.subs[id]
	return s, ok
}

func (*definitions) Sync(context.Context, string) error { return nil }

// world is an embedded Kafka and Redis, with a topic, a subscription of it, and any number of replicas.
type world struct {
	t       testing.TB
	servers *embedded.Server
	log     *kafka.Log
	topic   string
	epoch   broker.Epoch
	defs    *definitions
	count   int
	stops   map[*Groups]func() // by replica, each to be called once or more
}

const subscriptionID = "sub-1"

func newWorld(t testing.TB, partitions int32, change func(*Subscription)) *world {
	t.Helper()
	servers, err := embedded.Start(t.Context(), embedded.Config{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	closing(t, servers.Close)
	w := &world{t: t, servers: servers, topic: "orders", defs: &definitions{subs: map[string]Subscription{}}, stops: map[*Groups]func(){}}
	w.log = w.newLog()
	if err := w.log.Create(t.Context(), w.topic, broker.TopicConfig{Partitions: partitions}); err != nil {
		t.Fatal(err)
	}
	info, err := w.log.Describe(t.Context(), w.topic)
	if err != nil {
		t.Fatal(err)
	}
	w.epoch = info.Epoch
	sub := Subscription{
		ID: subscriptionID, Incarnation: "i1", Sources: []Source{{Stream: fanout.Stream{Name: "orders", Topic: w.topic}, Epoch: info.Epoch.Hex()}},
		Ordered: true, AckTimeout: time.Minute, MaxUncommitted: 1000, MaxSessions: 100, MaxAttempts: 10,
	}
	if change != nil {
		change(&sub)
	}
	w.define(sub)
	return w
}

func (w *world) define(sub Subscription) {
	w.defs.mu.Lock()
	w.defs.subs[sub.ID] = sub
	w.defs.mu.Unlock()
}

func (w *world) newLog() *kafka.Log {
	w.t.Helper()
	log, err := kafka.New(kafka.Config{Brokers: w.servers.Brokers()}, kafka.Deps{})
	if err != nil {
		w.t.Fatal(err)
	}
	closing(w.t, log.Close)
	return log
}

func closing(t testing.TB, closeIt func() error) {
	t.Cleanup(func() {
		if err := closeIt(); err != nil {
			t.Error(err)
		}
	})
}

// replica starts groups that share everything with those of the other replicas but memory.
func (w *world) replica() *Groups { return w.replicaOver(w.newLog()) }

func (w *world) replicaOver(log interface {
	Log
	fanout.Log
}, hooks ...redis.Hook,
) *Groups {
	w.t.Helper()
	hubs, err := fanout.New(fanout.Config{Log: log})
	if err != nil {
		w.t.Fatal(err)
	}
	client := redis.NewClient(&redis.Options{Addr: w.servers.RedisAddr(), MaxRetries: -1})
	closing(w.t, client.Close)
	for _, h := range hooks {
		client.AddHook(h)
	}
	gs, err := New(Config{Linger: time.Millisecond}, Deps{Log: log, Hubs: hubs, Definitions: w.defs, Redis: client})
	if err != nil {
		w.t.Fatal(err)
	}
	for _, run := range []func(context.Context) error{hubs.Run, gs.Run} {
		ctx, cancel := context.WithCancel(context.Background())
		ended := make(chan error, 1)
		go func() { ended <- run(ctx) }()
		stop := sync.OnceFunc(func() {
			cancel()
			if err := <-ended; err != nil && !errors.Is(err, context.Canceled) {
				w.t.Error(err)
			}
		})
		w.stops[gs] = stop // that of the groups is the last one
		w.t.Cleanup(stop)
	}
	return gs
}

// stop ends a replica's groups, and waits for that.
func (w *world) stop(gs *Groups) { w.stops[gs]() }

// publish appends n events, in turn of the keys given.
func (w *world) publish(n int, keys ...string) {
	w.t.Helper()
	var msgs []broker.Message
	for range n {
		key := "k"
		if len(keys) > 0 {
			key = keys[w.count%len(keys)]
		}
		msgs = append(msgs, broker.Message{Partition: broker.AnyPartition, Key: []byte(key), Value: eventJSON(w.count, key)})
		w.count++
	}
	for _, a := range w.log.Append(w.t.Context(), w.topic, msgs) {
		if a.Err != nil {
			w.t.Fatal(a.Err)
		}
	}
}

func (w *world) publishJSON(event []byte) {
	w.t.Helper()
	if a := w.log.Append(w.t.Context(), w.topic, []broker.Message{{Key: []byte("k"), Value: event}})[0]; a.Err != nil {
		w.t.Fatal(a.Err)
	}
}

func eventJSON(n int, key string) []byte {
	return fmt.Appendf(nil, `{"specversion":"1.0","id":"%d","type":"no.acme.order","source":"/test","subject":%q}`, n, key)
}

// client is a session and what it was given.
type client struct {
	t    testing.TB
	gs   *Groups
	m    *Member
	wake chan struct{}
	got  []Delivery
	told []Note // not looked at yet
}

func (w *world) open(gs *Groups) *client {
	w.t.Helper()
	c := &client{t: w.t, gs: gs, wake: make(chan struct{}, 1)}
	var err error
	if c.m, err = gs.Open(w.t.Context(), subscriptionID, Session{Transport: "test", Notify: func() { nudge(c.wake) }}); err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(c.m.Leave)
	return c
}

const patience = 20 * time.Second

// take waits until the session was given n events more, and returns them.
func (c *client) take(n int) []Delivery {
	c.t.Helper()
	var all []Delivery
	late := time.After(patience)
	for {
		all, _ = c.m.Take(all, n-len(all), 1<<20)
		if len(all) >= n {
			c.got = append(c.got, all...)
			return all
		}
		select {
		case <-c.wake:
		case <-late:
			c.t.Fatalf("given %d of %d events", len(all), n)
		}
	}
}

// note waits for a control message.
func (c *client) note(name string) Note {
	c.t.Helper()
	late := time.After(patience)
	for {
		c.told = append(c.told, c.m.Notes()...)
		for len(c.told) > 0 {
			n := c.told[0]
			c.told = c.told[1:]
			if n.Name == name {
				return n
			}
		}
		select {
		case <-c.wake:
		case <-late:
			c.t.Fatalf("not told %q", name)
		}
	}
}

// ack acknowledges everything up to a delivery.
func (c *client) ack(d Delivery) Answer {
	c.t.Helper()
	return c.say(Word{To: c.cursor(d)})
}

func (c *client) cursor(d Delivery) string { return string(c.m.AppendCursor(nil, d.Seq)) }

func (c *client) say(words ...Word) Answer {
	c.t.Helper()
	a, err := c.gs.Say(c.t.Context(), subscriptionID, words)
	if err != nil {
		c.t.Fatal(err)
	}
	return a
}

func idsOf(all []Delivery) (ids []string) {
	for _, d := range all {
		ids = append(ids, idOf(d))
	}
	return ids
}

func idOf(d Delivery) string {
	var n int
	if _, err := fmt.Sscanf(string(d.JSON), `{"specversion":"1.0","id":"%d"`, &n); err != nil {
		return "?"
	}
	return fmt.Sprint(n)
}

func numbersFrom(from, n int) (ids []string) {
	for i := range n {
		ids = append(ids, fmt.Sprint(from+i))
	}
	return ids
}

func equal(t testing.TB, got, want []string, what string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Fatalf("%s: got %v, want %v", what, got, want)
	}
}

// eventually waits for a condition that other goroutines bring about.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	late := time.After(patience)
	for !ok() {
		select {
		case <-time.After(5 * time.Millisecond):
		case <-late:
			t.Fatalf("never: %s", what)
		}
	}
}

func redisClient(addr string) *redis.Client { return redis.NewClient(&redis.Options{Addr: addr}) }

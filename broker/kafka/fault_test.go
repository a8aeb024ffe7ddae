package kafka_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/eventissuer/eventissuer/broker"
	"github.com/eventissuer/eventissuer/broker/kafka"
)

const patience = 45 * time.Second

func fakeCluster(t *testing.T, opts ...kfake.Opt) *kfake.Cluster {
	t.Helper()
	c, err := kfake.NewCluster(opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func open(t *testing.T, cfg kafka.Config) *kafka.Log {
	t.Helper()
	log, err := kafka.New(cfg, kafka.Deps{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := log.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return log
}

func makeTopic(t *testing.T, log broker.Log, name string, partitions int32) broker.Epoch {
	t.Helper()
	if err := log.Create(t.Context(), name, broker.TopicConfig{Partitions: partitions}); err != nil {
		t.Fatal(err)
	}
	info, err := log.Describe(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	return info.Epoch
}

// watcher notes what a tail tells.
type watcher struct {
	mu      sync.Mutex
	records []broker.Record
	gaps    []broker.Gap
	health  []error
	seen    chan struct{} // has room for one
}

func newWatcher() *watcher { return &watcher{seen: make(chan struct{}, 1)} }

func (w *watcher) note(fn func()) {
	w.mu.Lock()
	fn()
	w.mu.Unlock()
	select {
	case w.seen <- struct{}{}:
	default:
	}
}

func (w *watcher) Records(b broker.Batch) {
	w.note(func() { w.records = append(w.records, b.Records...) })
}
func (w *watcher) Gap(g broker.Gap)     { w.note(func() { w.gaps = append(w.gaps, g) }) }
func (*watcher) Partitions(int32)       {}
func (w *watcher) Health(problem error) { w.note(func() { w.health = append(w.health, problem) }) }

func (w *watcher) await(t *testing.T, what string, wanted func() bool) {
	t.Helper()
	for deadline := time.After(patience); ; {
		w.mu.Lock()
		ok := wanted()
		w.mu.Unlock()
		if ok {
			return
		}
		select {
		case <-w.seen:
		case <-deadline:
			t.Fatalf("waited in vain for %s: %d records, gaps %v, health %v", what, len(w.records), w.gaps, w.health)
		}
	}
}

// tail follows a topic of n partitions from its start until the test ends, and returns the way to its result.
func tail(t *testing.T, log broker.Log, topic string, epoch broker.Epoch, n int, w *watcher) <-chan error {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		done <- log.Tail(ctx, topic, epoch, make([]int64, n), w)
	}()
	t.Cleanup(func() { cancel(); <-ended })
	return done
}

func appendOne(t *testing.T, log broker.Log, topic string, m broker.Message) broker.Ack {
	t.Helper()
	a := log.Append(t.Context(), topic, []broker.Message{m})[0]
	if a.Err != nil {
		t.Fatal(a.Err)
	}
	return a
}

func TestLeadersMoveUnderReadersAndWriters(t *testing.T) {
	c := fakeCluster(t, kfake.NumBrokers(3))
	log := open(t, kafka.Config{Brokers: c.ListenAddrs()})
	const partitions, each = 4, 300
	epoch := makeTopic(t, log, "moving", partitions)
	w := newWatcher()
	tail(t, log, "moving", epoch, partitions, w)

	var (
		writers sync.WaitGroup
		left    atomic.Int32
		acked   sync.Map
	)
	left.Store(partitions)
	for p := range int32(partitions) {
		writers.Go(func() {
			defer left.Add(-1)
			for i := range each {
				value := fmt.Sprintf("%d:%d", p, i)
				if a := log.Append(t.Context(), "moving", []broker.Message{{Partition: p, Value: []byte(value)}})[0]; a.Err == nil {
					acked.Store(broker.Ack{Partition: a.Partition, Offset: a.Offset}, value)
				} else {
					t.Errorf("append: %v", a.Err)
				}
			}
		})
	}
	for n := int32(0); left.Load() > 0; n++ {
		if err := c.MoveTopicPartition("moving", n%partitions, (n/partitions)%3); err != nil {
			t.Fatal(err)
		}
		<-time.After(20 * time.Millisecond)
	}
	writers.Wait()
	w.await(t, "all records", func() bool { return len(w.records) >= partitions*each })
	w.mu.Lock()
	defer w.mu.Unlock()
	next := make([]int64, partitions)
	for _, r := range w.records {
		if r.Offset != next[r.Partition] {
			t.Fatalf("partition %d went on at %d, want %d", r.Partition, r.Offset, next[r.Partition])
		}
		next[r.Partition]++
		if value, ok := acked.Load(broker.Ack{Partition: r.Partition, Offset: r.Offset}); !ok || value != string(r.Value) {
			t.Errorf("%d/%d is %q, acknowledged was %q", r.Partition, r.Offset, r.Value, value)
		}
	}
	if len(w.records) != partitions*each || len(w.gaps) > 0 {
		t.Errorf("%d records for %d, gaps %v", len(w.records), partitions*each, w.gaps)
	}
}

// A broker that has just started may not have heard of a topic, or still name its old id.
func TestLaggingMetadataIsNotTakenForADeletion(t *testing.T) {
	for name, spoil := range map[string]func(*kmsg.MetadataResponseTopic){
		"unknown": func(rt *kmsg.MetadataResponseTopic) {
			rt.ErrorCode = kerr.UnknownTopicOrPartition.Code
			rt.Partitions = nil
		},
		"other id": func(rt *kmsg.MetadataResponseTopic) { rt.TopicID[3]++ },
	} {
		t.Run(name, func(t *testing.T) {
			c := fakeCluster(t, kfake.NumBrokers(1))
			addr := c.ListenAddrs()[0]
			host, _, _ := net.SplitHostPort(addr)
			var port int32
			_, _ = fmt.Sscanf(addr[len(host)+1:], "%d", &port)
			log := open(t, kafka.Config{Brokers: c.ListenAddrs(), MetadataEvery: 50 * time.Millisecond})
			epoch := makeTopic(t, log, "there", 1)
			w := newWatcher()
			done := tail(t, log, "there", epoch, 1, w)
			appendOne(t, log, "there", broker.Message{Value: []byte("before")})
			w.await(t, "the first record", func() bool { return len(w.records) == 1 })

			var lies atomic.Int32
			c.ControlKey(int16(kmsg.Metadata), func(req kmsg.Request) (kmsg.Response, error, bool) {
				c.KeepControl()
				if lies.Add(1) > 2 {
					return nil, nil, false
				}
				resp := req.ResponseKind().(*kmsg.MetadataResponse)
				b := kmsg.NewMetadataResponseBroker()
				b.Host, b.Port = host, port
				resp.Brokers = append(resp.Brokers, b)
				rt := kmsg.NewMetadataResponseTopic()
				topic := "there"
				rt.Topic, rt.TopicID = &topic, epoch
				rp := kmsg.NewMetadataResponseTopicPartition()
				rp.Replicas, rp.ISR = []int32{0}, []int32{0}
				rt.Partitions = append(rt.Partitions, rp)
				spoil(&rt)
				resp.Topics = append(resp.Topics, rt)
				return resp, nil, true
			})
			for deadline := time.Now().Add(patience); lies.Load() < 5; <-time.After(time.Millisecond) {
				if time.Now().After(deadline) {
					t.Fatal("the metadata is not looked at any more")
				}
			}
			for { // the producer may have heard a lie, too
				if a := log.Append(t.Context(), "there", []broker.Message{{Value: []byte("after")}})[0]; a.Err == nil {
					break
				}
			}
			w.await(t, "the second record", func() bool { return len(w.records) == 2 })
			select {
			case err := <-done:
				t.Errorf("the tail ended: %v", err)
			default:
			}
		})
	}
}

// A replica that lags says that an offset is out of range; the leader, which knows, is asked before anything is told.
func TestOutOfRangeByAReplicaThatLagsIsNoGap(t *testing.T) {
	c := fakeCluster(t, kfake.NumBrokers(1))
	log := open(t, kafka.Config{Brokers: c.ListenAddrs()})
	epoch := makeTopic(t, log, "lagging", 1)
	appendOne(t, log, "lagging", broker.Message{Value: []byte("1")})
	var answers atomic.Int32
	c.ControlKey(int16(kmsg.Fetch), func(req kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		if answers.Add(1) > 3 {
			return nil, nil, false
		}
		resp := req.ResponseKind().(*kmsg.FetchResponse)
		rt := kmsg.NewFetchResponseTopic()
		rt.Topic = "lagging"
		rp := kmsg.NewFetchResponseTopicPartition()
		rp.ErrorCode, rp.RecordBatches = kerr.OffsetOutOfRange.Code, []byte{}
		rt.Partitions = append(rt.Partitions, rp)
		resp.Topics = append(resp.Topics, rt)
		return resp, nil, true
	})
	w := newWatcher()
	tail(t, log, "lagging", epoch, 1, w)
	w.await(t, "the record", func() bool { return len(w.records) == 1 })
	if len(w.gaps) > 0 {
		t.Errorf("gaps were told: %v", w.gaps)
	}
}

func TestPreferredReplicaIsReadFrom(t *testing.T) {
	c := fakeCluster(t, kfake.NumBrokers(2))
	log := open(t, kafka.Config{Brokers: c.ListenAddrs(), Rack: "here"})
	epoch := makeTopic(t, log, "near", 1)
	leader := c.LeaderFor("near", 0)
	near := 1 - leader
	c.SetFollowers("near", 0, []int32{near})
	var fromNear atomic.Int32
	c.ControlKey(int16(kmsg.Fetch), func(req kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		fetch := req.(*kmsg.FetchRequest)
		if c.CurrentNode() == near {
			fromNear.Add(1)
			return nil, nil, false
		}
		if fetch.Rack != "here" {
			t.Errorf("the fetch says rack %q", fetch.Rack)
		}
		resp := req.ResponseKind().(*kmsg.FetchResponse)
		rt := kmsg.NewFetchResponseTopic()
		rt.TopicID = fetch.Topics[0].TopicID
		rp := kmsg.NewFetchResponseTopicPartition()
		rp.PreferredReadReplica, rp.RecordBatches = near, []byte{}
		rt.Partitions = append(rt.Partitions, rp)
		resp.Topics = append(resp.Topics, rt)
		return resp, nil, true
	})
	w := newWatcher()
	tail(t, log, "near", epoch, 1, w)
	appendOne(t, log, "near", broker.Message{Value: []byte("1")})
	w.await(t, "the record", func() bool { return len(w.records) == 1 })
	if fromNear.Load() == 0 {
		t.Error("the record did not come from the replica nearby")
	}
}

// A broker that takes connections and says nothing must not hold anybody longer than the deadlines say.
func TestSilentBrokerBoundsEveryCall(t *testing.T) {
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	log := open(t, kafka.Config{
		Brokers: []string{silent.Addr().String()}, AppendDeadline: 200 * time.Millisecond, RequestTimeout: 200 * time.Millisecond,
	})
	began := time.Now()
	if a := log.Append(t.Context(), "any", []broker.Message{{}})[0]; !errors.Is(a.Err, broker.ErrUnavailable) || !errors.Is(a.Err, broker.ErrRefused) {
		t.Errorf("append: %v, want ErrUnavailable, and surely not written", a.Err)
	}
	_, read := log.Read(t.Context(), "any", 0, 0, 1)
	_, bounds := log.Bounds(t.Context(), "any")
	_, describe := log.Describe(t.Context(), "any")
	for call, err := range map[string]error{"read": read, "bounds": bounds, "describe": describe, "create": log.Create(t.Context(), "any", broker.TopicConfig{})} {
		if !errors.Is(err, broker.ErrUnavailable) {
			t.Errorf("%s: %v, want ErrUnavailable", call, err)
		}
	}
	if took := time.Since(began); took > 20*time.Second {
		t.Errorf("took %v", took)
	}
	ctx, cancel := context.WithCancel(t.Context())
	w := newWatcher()
	done := make(chan error, 1)
	go func() { done <- log.Tail(ctx, "any", broker.Epoch{}, nil, w) }()
	w.await(t, "the trouble to be told", func() bool { return len(w.health) == 1 && errors.Is(w.health[0], broker.ErrUnavailable) })
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("the tail ended with %v", err)
	}
}

// A produce request whose answer is lost is in doubt, not refused; and it is on the log once at most.
func TestUnansweredAppendIsInDoubt(t *testing.T) {
	c := fakeCluster(t, kfake.NumBrokers(1), kfake.SleepOutOfOrder())
	log := open(t, kafka.Config{Brokers: c.ListenAddrs(), AppendDeadline: 300 * time.Millisecond})
	makeTopic(t, log, "doubt", 1)
	appendOne(t, log, "doubt", broker.Message{Value: []byte("1")})
	release := make(chan struct{})
	c.ControlKey(int16(kmsg.Produce), func(kmsg.Request) (kmsg.Response, error, bool) {
		c.SleepControl(func() { <-release })
		return nil, nil, false
	})
	a := log.Append(t.Context(), "doubt", []broker.Message{{Value: []byte("2")}})[0]
	close(release)
	if !errors.Is(a.Err, broker.ErrUnavailable) || errors.Is(a.Err, broker.ErrRefused) {
		t.Errorf("append: %v, want ErrUnavailable without ErrRefused", a.Err)
	}
	appendOne(t, log, "doubt", broker.Message{Value: []byte("3")})
	b, err := log.Read(t.Context(), "doubt", 0, 0, 1<<20)
	if err != nil || len(b.Records) > 3 || string(b.Records[len(b.Records)-1].Value) != "3" {
		t.Errorf("the log holds %d records, %v", len(b.Records), err)
	}
}

// produceErrors answers a produce request with an error for every partition.
func produceErrors(req kmsg.Request, code int16) kmsg.Response {
	resp := req.ResponseKind().(*kmsg.ProduceResponse)
	for _, rt := range req.(*kmsg.ProduceRequest).Topics {
		topic := kmsg.NewProduceResponseTopic()
		topic.Topic, topic.TopicID = rt.Topic, rt.TopicID
		for _, rp := range rt.Partitions {
			p := kmsg.NewProduceResponseTopicPartition()
			p.Partition, p.ErrorCode = rp.Partition, code
			topic.Partitions = append(topic.Partitions, p)
		}
		resp.Topics = append(resp.Topics, topic)
	}
	return resp
}

// What was written by an attempt whose answer was lost is on the log, whatever the next attempts are told.
func TestRefusedAfterAnUnansweredAttemptIsInDoubt(t *testing.T) {
	for _, refusal := range []*kerr.Error{
		kerr.TopicAuthorizationFailed, kerr.MessageTooLarge, kerr.PolicyViolation, kerr.InvalidRecord, kerr.UnknownTopicOrPartition,
	} {
		t.Run(refusal.Message, func(t *testing.T) {
			t.Parallel()
			c := fakeCluster(t, kfake.NumBrokers(1), kfake.SleepOutOfOrder())
			log := open(t, kafka.Config{Brokers: c.ListenAddrs(), RequestTimeout: 300 * time.Millisecond, AppendDeadline: time.Minute})
			epoch := makeTopic(t, log, "w", 1)
			appendOne(t, log, "w", broker.Message{Value: []byte("1")})

			release := make(chan struct{})
			var attempts atomic.Int32
			c.ControlKey(int16(kmsg.Produce), func(req kmsg.Request) (kmsg.Response, error, bool) {
				c.KeepControl()
				switch attempts.Add(1) {
				case 1: // done, and answered when nobody waits any more
					c.SleepControl(func() { <-release })
					return nil, nil, false
				case 2:
					close(release)
				}
				return produceErrors(req, refusal.Code), nil, true
			})
			a := log.Append(t.Context(), "w", []broker.Message{{Value: []byte("2")}})[0]
			if attempts.Load() < 2 {
				t.Fatal("it was not sent again")
			}
			if !errors.Is(a.Err, broker.ErrUnavailable) || errors.Is(a.Err, broker.ErrRefused) {
				t.Errorf("append: %v, want ErrUnavailable without ErrRefused", a.Err)
			}
			// The first attempt is carried out as soon as the broker comes to it, be that after the others.
			w := newWatcher()
			tail(t, log, "w", epoch, 1, w)
			w.await(t, "what the first attempt wrote", func() bool { return len(w.records) == 2 })
		})
	}
}

func TestRefusedAtOnceIsSurelyNotWritten(t *testing.T) {
	c := fakeCluster(t, kfake.NumBrokers(1))
	log := open(t, kafka.Config{Brokers: c.ListenAddrs()})
	makeTopic(t, log, "w", 1)
	appendOne(t, log, "w", broker.Message{Value: []byte("1")})
	c.ControlKey(int16(kmsg.Produce), func(req kmsg.Request) (kmsg.Response, error, bool) {
		return produceErrors(req, kerr.PolicyViolation.Code), nil, true
	})
	if a := log.Append(t.Context(), "w", []broker.Message{{Value: []byte("2")}})[0]; !errors.Is(a.Err, broker.ErrRefused) {
		t.Errorf("append: %v, want ErrRefused", a.Err)
	}
	appendOne(t, log, "w", broker.Message{Value: []byte("3")})
}

// loseAnswer has the next request of a kind carried out by carry, another client, and answered by nobody. What comes
// after it is answered by then, if that is given.
func loseAnswer(c *kfake.Cluster, kind kmsg.Key, carry func(), then func(kmsg.Request) kmsg.Response) {
	var lost, carried atomic.Bool
	c.ControlKey(int16(kind), func(req kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		if lost.Swap(true) {
			if then != nil && carried.Load() {
				return then(req), nil, true
			}
			return nil, nil, false
		}
		c.SleepControl(carry)
		carried.Store(true)
		return nil, errors.New("connection lost"), true
	})
}

// A topic that is there after an unanswered attempt to create it is likely our own: nobody may be told that it is not.
func TestCreateWithoutAnAnswerIsInDoubt(t *testing.T) {
	c := fakeCluster(t, kfake.NumBrokers(1))
	log, other := open(t, kafka.Config{Brokers: c.ListenAddrs()}), open(t, kafka.Config{Brokers: c.ListenAddrs()})
	create := func(log broker.Log) error {
		return log.Create(t.Context(), "lost", broker.TopicConfig{Partitions: 1})
	}
	loseAnswer(c, kmsg.CreateTopics, func() {
		if err := create(other); err != nil {
			t.Error(err)
		}
	}, nil)
	if err := create(log); !errors.Is(err, broker.ErrUnavailable) || errors.Is(err, broker.ErrTopicExists) {
		t.Errorf("created without an answer: %v, want ErrUnavailable without ErrTopicExists", err)
	}
	if err := create(log); !errors.Is(err, broker.ErrTopicExists) {
		t.Errorf("created again: %v, want ErrTopicExists", err)
	}
}

func TestGrowthWithoutAnAnswerSucceeds(t *testing.T) {
	c := fakeCluster(t, kfake.NumBrokers(1))
	log, other := open(t, kafka.Config{Brokers: c.ListenAddrs()}), open(t, kafka.Config{Brokers: c.ListenAddrs()})
	makeTopic(t, log, "lost", 1)
	grow := broker.TopicChange{Partitions: new(int32(3))}
	loseAnswer(c, kmsg.CreatePartitions, func() {
		if err := other.Change(t.Context(), "lost", grow); err != nil {
			t.Error(err)
		}
	}, func(req kmsg.Request) kmsg.Response { // as Kafka does where a topic has as many partitions already
		resp := req.ResponseKind().(*kmsg.CreatePartitionsResponse)
		rt := kmsg.NewCreatePartitionsResponseTopic()
		rt.Topic, rt.ErrorCode = "lost", kerr.InvalidPartitions.Code
		resp.Topics = append(resp.Topics, rt)
		return resp
	})
	if err := log.Change(t.Context(), "lost", grow); err != nil {
		t.Errorf("grown without an answer: %v", err)
	}
	appendOne(t, log, "lost", broker.Message{Partition: 2})
}

// A broker may hold a fetch (its queue is long, the client is over its quota) and handle it when the topic has been made
// again: what it then gives is not the tail's.
func TestAFetchHeldWhileItsTopicIsRemadeDeliversNothing(t *testing.T) {
	t.Run("by id", func(t *testing.T) { fetchHeldWhileTopicIsRemade(t, fakeCluster(t, kfake.NumBrokers(1))) })
	t.Run("by name", func(t *testing.T) { fetchHeldWhileTopicIsRemade(t, olderCluster(t)) })
}

func fetchHeldWhileTopicIsRemade(t *testing.T, c *kfake.Cluster) {
	log, other := open(t, kafka.Config{Brokers: c.ListenAddrs()}), open(t, kafka.Config{Brokers: c.ListenAddrs()})
	for round := range 5 {
		topic := fmt.Sprint("held-", round)
		epoch := makeTopic(t, log, topic, 1)
		for range 10 {
			appendOne(t, log, topic, broker.Message{Value: []byte("old")})
		}
		var armed, once atomic.Bool
		held, release := make(chan struct{}), make(chan struct{})
		c.ControlKey(int16(kmsg.Fetch), func(req kmsg.Request) (kmsg.Response, error, bool) {
			f := req.(*kmsg.FetchRequest)
			if once.Load() {
				return nil, nil, false
			}
			c.KeepControl()
			if armed.Load() && len(f.Topics) > 0 && (f.Topics[0].Topic == topic || f.Topics[0].TopicID == epoch) && !once.Swap(true) {
				close(held)
				c.SleepControl(func() { <-release })
			}
			return nil, nil, false
		})
		w := newWatcher()
		done := tail(t, log, topic, epoch, 1, w)
		w.await(t, "what is there", func() bool { return len(w.records) == 10 })
		armed.Store(true)
		<-held
		if err := other.Delete(t.Context(), topic); err != nil {
			t.Fatal(err)
		}
		makeTopic(t, other, topic, 1)
		for range 3 {
			msgs := make([]broker.Message, 10)
			for i := range msgs {
				msgs[i].Value = []byte("new")
			}
			other.Append(t.Context(), topic, msgs)
		}
		close(release)
		if err := <-done; !errors.Is(err, broker.ErrRecreated) {
			t.Errorf("the tail ended with %v, want ErrRecreated", err)
		}
		for _, r := range w.records {
			if string(r.Value) != "old" {
				t.Fatalf("the tail of one life delivered %q at %d of the other", r.Value, r.Offset)
			}
		}
	}
}

// Where a topic is asked for by its id, what came of one partition need not wait until it is known what became of another.
func TestPartitionsThatAreWellDoNotWaitForOneThatIsNot(t *testing.T) {
	c := fakeCluster(t, kfake.NumBrokers(2))
	log := open(t, kafka.Config{Brokers: c.ListenAddrs(), MetadataEvery: time.Hour})
	epoch := makeTopic(t, log, "two", 2)
	for p := range int32(2) {
		if err := c.MoveTopicPartition("two", p, 0); err != nil {
			t.Fatal(err)
		}
	}
	w := newWatcher()
	tail(t, log, "two", epoch, 2, w)
	for p := range int32(2) {
		appendOne(t, log, "two", broker.Message{Partition: p, Value: []byte("1")})
	}
	w.await(t, "both partitions", func() bool { return len(w.records) == 2 })
	var dark atomic.Bool
	dark.Store(true)
	c.ControlKey(int16(kmsg.Metadata), func(kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		return nil, errors.New("not now"), dark.Load()
	})
	if err := c.MoveTopicPartition("two", 1, 1); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		appendOne(t, log, "two", broker.Message{Value: []byte("2")})
	}
	w.await(t, "the partition that did not move", func() bool { return len(w.records) == 5 })
	dark.Store(false)
	appendOne(t, log, "two", broker.Message{Partition: 1, Value: []byte("3")})
	w.await(t, "the one that did", func() bool { return len(w.records) == 6 })
}

// What the cluster will never do is no outage: asking again is of no use, and Kafka's reason is what the operator needs.
func TestWhatTheClusterForbidsIsToldWithItsReason(t *testing.T) {
	c := fakeCluster(t, kfake.NumBrokers(1))
	log := open(t, kafka.Config{Brokers: c.ListenAddrs()})
	makeTopic(t, log, "there", 1)
	refusals := map[kmsg.Key]func(req kmsg.Request) kmsg.Response{
		kmsg.CreateTopics: func(req kmsg.Request) kmsg.Response {
			resp := req.ResponseKind().(*kmsg.CreateTopicsResponse)
			rt := kmsg.NewCreateTopicsResponseTopic()
			rt.Topic, rt.ErrorCode, rt.ErrorMessage = "made", kerr.PolicyViolation.Code, kmsg.StringPtr("names begin with the team's")
			resp.Topics = append(resp.Topics, rt)
			return resp
		},
		kmsg.DescribeConfigs: func(req kmsg.Request) kmsg.Response {
			resp := req.ResponseKind().(*kmsg.DescribeConfigsResponse)
			rr := kmsg.NewDescribeConfigsResponseResource()
			rr.ResourceType, rr.ResourceName, rr.ErrorCode = kmsg.ConfigResourceTypeTopic, "there", kerr.TopicAuthorizationFailed.Code
			resp.Resources = append(resp.Resources, rr)
			return resp
		},
		kmsg.ListOffsets: func(req kmsg.Request) kmsg.Response {
			resp := req.ResponseKind().(*kmsg.ListOffsetsResponse)
			rt := kmsg.NewListOffsetsResponseTopic()
			rt.Topic = "there"
			rp := kmsg.NewListOffsetsResponseTopicPartition()
			rp.ErrorCode = kerr.TopicAuthorizationFailed.Code
			rt.Partitions = append(rt.Partitions, rp)
			resp.Topics = append(resp.Topics, rt)
			return resp
		},
		kmsg.Produce: func(req kmsg.Request) kmsg.Response { return produceErrors(req, kerr.TopicAuthorizationFailed.Code) },
	}
	for kind, answer := range refusals {
		c.ControlKey(int16(kind), func(req kmsg.Request) (kmsg.Response, error, bool) {
			c.KeepControl()
			return answer(req), nil, true
		})
	}
	_, describe := log.Describe(t.Context(), "there")
	_, bounds := log.Bounds(t.Context(), "there")
	for call, err := range map[string]error{
		"create": log.Create(t.Context(), "made", broker.TopicConfig{Partitions: 1}), "describe": describe, "bounds": bounds,
		"append": log.Append(t.Context(), "there", []broker.Message{{}})[0].Err,
	} {
		if !errors.Is(err, broker.ErrNotAllowed) || errors.Is(err, broker.ErrUnavailable) {
			t.Errorf("%s: %v, want ErrNotAllowed alone", call, err)
		}
		if reason := "names begin with the team's"; call == "create" && (err == nil || !strings.Contains(err.Error(), reason)) {
			t.Errorf("%s: %v does not say %q", call, err, reason)
		}
	}
}

// What nobody waits for any more is not sent for minutes yet: whoever looks for it in the log, and writes it again when it
// is not there, must know till when it can come.
func TestAppendIsNotSentAgainAfterItsDeadline(t *testing.T) {
	c := fakeCluster(t, kfake.NumBrokers(1), kfake.SleepOutOfOrder())
	const deadline, request = 500 * time.Millisecond, 300 * time.Millisecond
	log := open(t, kafka.Config{Brokers: c.ListenAddrs(), AppendDeadline: deadline, RequestTimeout: request})
	makeTopic(t, log, "late", 1)
	appendOne(t, log, "late", broker.Message{Value: []byte("1")})
	var silent atomic.Bool
	silent.Store(true)
	release := make(chan struct{})
	defer close(release)
	c.ControlKey(int16(kmsg.Produce), func(kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		if !silent.Load() {
			return nil, nil, false
		}
		c.SleepControl(func() { <-release })
		return nil, errors.New("no answer"), true
	})
	a := log.Append(t.Context(), "late", []broker.Message{{Value: []byte("2")}})[0]
	if !errors.Is(a.Err, broker.ErrUnavailable) || errors.Is(a.Err, broker.ErrRefused) {
		t.Errorf("append: %v, want ErrUnavailable without ErrRefused", a.Err)
	}
	a = log.Append(t.Context(), "late", []broker.Message{{Partition: broker.AnyPartition, Value: []byte("3")}})[0]
	if a.Err == nil {
		t.Error("what came behind it is acknowledged by a broker that does not answer")
	}
	<-time.After(2 * request) // the attempt that is under way may take one
	silent.Store(false)
	for late := time.Now().Add(20 * time.Second); ; {
		a := log.Append(t.Context(), "late", []broker.Message{{Value: []byte("4")}})[0]
		if a.Err == nil {
			break
		}
		if time.Now().After(late) {
			t.Fatalf("nothing is appended any more: %v", a.Err)
		}
	}
	b, err := log.Read(t.Context(), "late", 0, 0, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range b.Records {
		if v := string(r.Value); v == "2" || v == "3" {
			t.Errorf("%s has landed after it was due", v)
		}
	}
}

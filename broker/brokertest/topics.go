package brokertest

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/eventissuer/eventissuer/broker"
)

func (s *suite) admin(t *testing.T) {
	log := s.open(t)
	c := broker.TopicConfig{Partitions: 2, ReplicationFactor: 1, Retention: 48 * time.Hour, RetentionBytes: 1 << 30, MaxMessageBytes: 2 << 20}
	topic, epoch := s.topic(t, log, c)
	if err := log.Create(within(t), topic, c); !errors.Is(err, broker.ErrTopicExists) {
		t.Errorf("created twice: %v", err)
	}
	info, err := log.Describe(within(t), topic)
	if diff := cmp.Diff(broker.TopicInfo{TopicConfig: c, Epoch: epoch}, info); err != nil || diff != "" {
		t.Errorf("described: %v\n%s", err, diff)
	}
	four, ever, bytes := int32(4), time.Duration(-1), int64(-1)
	if err := log.Change(within(t), topic, broker.TopicChange{Partitions: &four, Retention: &ever, RetentionBytes: &bytes}); err != nil {
		t.Fatal(err)
	}
	c.Partitions, c.Retention, c.RetentionBytes = 4, -1, -1
	info, err = log.Describe(within(t), topic)
	if diff := cmp.Diff(broker.TopicInfo{TopicConfig: c, Epoch: epoch}, info); err != nil || diff != "" {
		t.Errorf("described after the change: %v\n%s", err, diff)
	}
	compacted, _ := s.topic(t, log, broker.TopicConfig{Partitions: 1, Compaction: true})
	if info, err = log.Describe(within(t), compacted); err != nil || !info.Compaction || info.Retention != -1 || info.MaxMessageBytes != 2<<20 {
		t.Errorf("described a compacted topic: %+v, %v", info, err)
	}
	// Its events can be given an age, and that be taken away again.
	hour := time.Hour
	for _, retention := range []*time.Duration{&hour, &ever} {
		if err := log.Change(within(t), compacted, broker.TopicChange{Retention: retention}); err != nil {
			t.Fatal(err)
		}
		if info, err = log.Describe(within(t), compacted); err != nil || !info.Compaction || info.Retention != *retention {
			t.Errorf("described a compacted topic of retention %v: %+v, %v", *retention, info, err)
		}
	}
	if err := log.Delete(within(t), topic); err != nil {
		t.Fatal(err)
	}
	if _, err := log.Describe(within(t), topic); !errors.Is(err, broker.ErrNoTopic) {
		t.Errorf("described after deletion: %v", err)
	}
	if again := create(t, log, topic, c); again == epoch {
		t.Error("a topic made again has the epoch of the one before")
	}
}

func (s *suite) unmakeable(t *testing.T) {
	log := s.open(t)
	topic := s.name("case.a")
	create(t, log, topic, broker.TopicConfig{Partitions: 1})
	for name, want := range map[string]error{
		strings.ReplaceAll(topic, ".", "_"): broker.ErrTopicName, // Kafka's metrics know no difference
		s.name("replicas"):                  broker.ErrNotAllowed,
	} {
		c := broker.TopicConfig{Partitions: 1}
		if errors.Is(want, broker.ErrNotAllowed) {
			c.ReplicationFactor = 99
		}
		if err := log.Create(within(t), name, c); !errors.Is(err, want) || errors.Is(err, broker.ErrUnavailable) {
			t.Errorf("create %s: %v, want %v", name, err, want)
		}
		if _, err := log.Describe(within(t), name); !errors.Is(err, broker.ErrNoTopic) {
			t.Errorf("describe %s: %v, want ErrNoTopic", name, err)
		}
	}
}

func (s *suite) unknownTopic(t *testing.T) {
	log := s.open(t)
	topic := s.name("nowhere")
	ctx := within(t)
	ack := log.Append(ctx, topic, numbered(0, 0, 1))[0]
	if !errors.Is(ack.Err, broker.ErrNoTopic) || !errors.Is(ack.Err, broker.ErrRefused) {
		t.Errorf("append: %v, want ErrNoTopic and ErrRefused", ack.Err)
	}
	_, read := log.Read(ctx, topic, 0, 0, 1)
	_, bounds := log.Bounds(ctx, topic)
	_, at := log.At(ctx, topic, time.Now())
	_, describe := log.Describe(ctx, topic)
	for call, err := range map[string]error{
		"read": read, "bounds": bounds, "at": at, "describe": describe,
		"tail":     log.Tail(ctx, topic, broker.Epoch{}, nil, deaf{}),
		"truncate": log.Truncate(ctx, topic, 0, 0),
		"change":   log.Change(ctx, topic, broker.TopicChange{}),
		"delete":   log.Delete(ctx, topic),
	} {
		if !errors.Is(err, broker.ErrNoTopic) {
			t.Errorf("%s: %v, want ErrNoTopic", call, err)
		}
	}
	there, epoch := s.topic(t, log, broker.TopicConfig{Partitions: 1})
	if _, err := log.Read(ctx, there, 3, 0, 1); !errors.Is(err, broker.ErrNoPartition) {
		t.Errorf("read of a partition that is not there: %v", err)
	}
	epoch[0]++
	if err := log.Tail(ctx, there, epoch, nil, deaf{}); !errors.Is(err, broker.ErrRecreated) {
		t.Errorf("tail of another epoch: %v, want ErrRecreated", err)
	}
	// None of this made the topic, and it can still be made and written.
	create(t, log, topic, broker.TopicConfig{Partitions: 1})
	put(t, log, topic, numbered(0, 0, 1)...)
}

// deaf is the handler of a tail that never begins.
type deaf struct{ broker.TailHandler }

func (s *suite) deleted(t *testing.T) {
	log := s.open(t)
	topic, epoch := s.topic(t, log, broker.TopicConfig{Partitions: 2})
	put(t, log, topic, numbered(0, 0, 3)...)
	f := follow(t, log, topic, epoch, []int64{0, 0})
	f.awaitRecords(3)
	if err := log.Delete(within(t), topic); err != nil {
		t.Fatal(err)
	}
	if err := f.result(); !errors.Is(err, broker.ErrNoTopic) {
		t.Errorf("the tail ended with %v, want ErrNoTopic", err)
	}
}

func (s *suite) remade(t *testing.T) {
	s.remake(t, 10, 3, false)
}

func (s *suite) remadeLonger(t *testing.T) {
	s.remake(t, 10, 200, false)
}

// A reader that is busy while its topic is made again, and then asks for what comes next, must not be given the other
// topic's records.
func (s *suite) remadeBehindSlowReader(t *testing.T) {
	s.remake(t, 10, 200, true)
}

func (s *suite) remake(t *testing.T, before, after int, slow bool) {
	log, other := s.open(t), s.open(t)
	for range 5 {
		c := broker.TopicConfig{Partitions: 1}
		topic, epoch := s.topic(t, log, c)
		gate := make(chan struct{})
		if !slow {
			close(gate)
		}
		f := followGated(t, log, topic, epoch, []int64{0}, gate)
		put(t, log, topic, numbered(0, 0, before)...)
		if slow {
			f.await("a first batch", func() bool { return len(f.records) > 0 })
		} else {
			f.awaitRecords(before)
		}
		// By another client, so that this one has no part in it.
		if err := other.Delete(within(t), topic); err != nil {
			t.Fatal(err)
		}
		if again := create(t, other, topic, c); again == epoch {
			t.Fatal("a topic made again has the epoch of the one before")
		}
		msgs := make([]broker.Message, after)
		for i := range msgs {
			msgs[i].Value = fmt.Appendf(nil, "of the other life: %d", i)
		}
		put(t, other, topic, msgs...)
		if slow {
			close(gate)
		}
		// It may look between the two, for as long as a busy broker takes.
		if err := f.result(); !errors.Is(err, broker.ErrRecreated) && !errors.Is(err, broker.ErrNoTopic) {
			t.Fatalf("the tail ended with %v, want ErrRecreated or ErrNoTopic", err)
		}
		f.mu.Lock()
		for _, r := range f.records {
			if len(r.Value) > 10 {
				t.Fatalf("the tail of one life delivered %q", r.Value)
			}
		}
		if len(f.gaps) > 0 {
			t.Errorf("gaps were told: %v", f.gaps)
		}
		f.mu.Unlock()
	}
}

func (s *suite) appendToRemade(t *testing.T) {
	log, other := s.open(t), s.open(t)
	c := broker.TopicConfig{Partitions: 1}
	topic, _ := s.topic(t, log, c)
	for life := range 4 {
		put(t, log, topic, numbered(0, 0, 20)...)
		if err := other.Delete(within(t), topic); err != nil {
			t.Fatal(err)
		}
		create(t, other, topic, c)
		// What the producer knew of the topic is of its other life, so a first message may be refused, but soon none.
		acked := make(map[int64]string)
		for deadline := time.Now().Add(patience); len(acked) < 5; {
			msg := numbered(0, len(acked), 1)
			if ack := log.Append(within(t), topic, msg)[0]; ack.Err == nil {
				acked[ack.Offset] = string(msg[0].Value)
			} else if time.Now().After(deadline) {
				t.Fatalf("life %d cannot be written: %v", life, ack.Err)
			}
		}
		got := make(map[int64]string)
		for _, r := range readAll(t, log, topic, 0, 0, 1<<20) {
			got[r.Offset] = string(r.Value)
		}
		if diff := cmp.Diff(acked, got); diff != "" {
			t.Errorf("life %d holds something else than was acknowledged:\n%s", life, diff)
		}
	}
}

package brokertest

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/eventissuer/eventissuer/broker"
)

// placer returns what a log can do beyond the least, or skips the case.
func placer(t *testing.T, log broker.Log) broker.Placer {
	t.Helper()
	p, ok := log.(broker.Placer)
	if !ok {
		t.Skipf("the log %T has no %T", log, &p)
	}
	return p
}

func anywhere(keys ...string) []broker.Message {
	var msgs []broker.Message
	for i, k := range keys {
		msgs = append(msgs, broker.Message{Partition: broker.AnyPartition, Key: []byte(k), Value: fmt.Appendf(nil, "%d", i)})
	}
	return msgs
}

func (s *suite) places(t *testing.T) {
	log := s.open(t)
	p := placer(t, log)
	topic, epoch := s.topic(t, log, broker.TopicConfig{Partitions: 5})
	for round := range 3 {
		var keys []string
		for i := range 50 {
			keys = append(keys, fmt.Sprintf("key %d of %d", i, round))
		}
		placed := append(anywhere(keys...), broker.Message{Partition: broker.AnyPartition, Key: []byte{}}, broker.Message{Partition: 3, Key: []byte("fixed")},
			broker.Message{Partition: broker.AnyPartition}, broker.Message{Partition: broker.AnyPartition})
		asked := append(anywhere(keys...), broker.Message{Partition: broker.AnyPartition, Key: []byte{}})
		got, ends, err := p.Place(within(t), topic, placed)
		if err != nil || got != epoch || len(ends) != 5 {
			t.Fatalf("placed in epoch %v with ends %v: %v; want epoch %v and 5 ends", got, ends, err, epoch)
		}
		if placed[len(keys)+1].Partition != 3 {
			t.Errorf("a message for partition 3 was placed in %d", placed[len(keys)+1].Partition)
		}
		if a, b := placed[len(placed)-2].Partition, placed[len(placed)-1].Partition; a != b || a < 0 || a >= 5 {
			t.Errorf("messages without key were placed in %d and %d", a, b)
		}
		for i, a := range put(t, log, topic, asked...) {
			if a.Partition != placed[i].Partition {
				t.Errorf("key %q was placed in %d and went to %d", asked[i].Key, placed[i].Partition, a.Partition)
			}
			if a.Offset < ends[a.Partition] {
				t.Errorf("appended to partition %d at %d, below the end %d that was told before", a.Partition, a.Offset, ends[a.Partition])
			}
		}
	}
	if _, _, err := p.Place(within(t), s.name("missing"), anywhere("a")); err == nil {
		t.Error("a topic that is not there has places")
	}
}

func (s *suite) placesOfRemade(t *testing.T) {
	log := s.open(t)
	p := placer(t, log)
	topic, old := s.topic(t, log, broker.TopicConfig{Partitions: 2})
	put(t, log, topic, numbered(0, 0, 20)...)
	put(t, log, topic, numbered(1, 0, 20)...)
	if epoch, _, err := p.Place(within(t), topic, anywhere("a")); err != nil || epoch != old {
		t.Fatalf("placed in epoch %v, %v; want %v", epoch, err, old)
	}
	other := s.open(t) // another process makes it again
	try(t, other.Delete(within(t), topic))
	epoch := create(t, other, topic, broker.TopicConfig{Partitions: 2})
	put(t, other, topic, numbered(1, 0, 2)...)
	for deadline := time.Now().Add(patience); ; {
		got, ends, err := p.Place(within(t), topic, anywhere("a"))
		if err == nil && got == epoch {
			if len(ends) != 2 || ends[0] > 0 || ends[1] > 2 {
				t.Errorf("the new life, with 0 and 2 records, has ends %v", ends)
			}
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("still placed in epoch %v, %v; want %v", got, err, epoch)
		}
		<-time.After(100 * time.Millisecond)
	}
}

func (s *suite) endOfOpenTransaction(t *testing.T) {
	power[Kafka](t, s)
	log := s.open(t)
	p := placer(t, log)
	topic, _ := s.topic(t, log, broker.TopicConfig{Partitions: 1})
	put(t, log, topic, broker.Message{Value: []byte("before")})
	w := s.transactional(t)
	try(t, w.BeginTxn())
	send(t, w, topic, "inside")
	put(t, log, topic, broker.Message{Value: []byte("after")})
	if end, err := p.End(within(t), topic, 0); err != nil || end != 3 {
		t.Errorf("the end is %d, %v; want 3", end, err)
	}
	_, ends, err := p.Place(within(t), topic, nil)
	if err != nil || len(ends) != 1 || ends[0] > 1 {
		t.Errorf("ends %v, %v; want one that is at most 1", ends, err)
	}
	try(t, w.CommitTxn())
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := p.End(ctx, topic, 0); err == nil {
		t.Error("an end was told to a caller who had gone")
	}
}

package brokertest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/eventissuer/eventissuer/broker"
)

func (s *suite) ackedPositions(t *testing.T) {
	log := s.open(t)
	topic, _ := s.topic(t, log, broker.TopicConfig{Partitions: 3})
	next := make([]int64, 3)
	for round := range 4 {
		var msgs []broker.Message
		for i := range 60 {
			msgs = append(msgs, broker.Message{Partition: int32(i % 3), Value: fmt.Appendf(nil, "%d/%d", round, i)})
		}
		for i, a := range put(t, log, topic, msgs...) {
			want := broker.Ack{Partition: int32(i % 3), Offset: next[i%3]}
			if a != want {
				t.Fatalf("message %d of round %d: %+v, want %+v", i, round, a, want)
			}
			next[i%3]++
		}
	}
	bounds, err := log.Bounds(within(t), topic)
	if diff := cmp.Diff([]broker.Bounds{{Next: 80}, {Next: 80}, {Next: 80}}, bounds); err != nil || diff != "" {
		t.Errorf("bounds: %v\n%s", err, diff)
	}
}

// The hashes are those of Kafka's own tests (UtilsTest.testMurmur2).
func (s *suite) murmur2(t *testing.T) {
	log := s.open(t)
	const partitions = 7
	topic, _ := s.topic(t, log, broker.TopicConfig{Partitions: partitions})
	for key, hash := range map[string]int32{
		"21": -973932308, "foobar": -790332482, "a-little-bit-long-string": -985981536, "abc": 479470107,
	} {
		ack := put(t, log, topic, broker.Message{Partition: broker.AnyPartition, Key: []byte(key)})[0]
		if want := (hash & 0x7fffffff) % partitions; ack.Partition != want {
			t.Errorf("key %q went to %d, want %d", key, ack.Partition, want)
		}
	}
	put(t, log, topic, broker.Message{Partition: broker.AnyPartition, Value: []byte("no key")})
}

func (s *suite) roundTrip(t *testing.T) {
	log := s.open(t)
	topic, _ := s.topic(t, log, broker.TopicConfig{Partitions: 1})
	msgs := []broker.Message{
		{Key: []byte("k"), Value: []byte("v"), Headers: []broker.Header{{Key: "a", Value: []byte("1")}, {Key: "a", Value: []byte("2")}, {Key: "b"}}},
		{Key: []byte("tombstone")},
		{Key: []byte{}, Value: []byte{}},
		{Value: []byte("no key")},
		{Key: []byte{0xff, 0}, Value: []byte{0, 1, 2, 0xff}, Headers: []broker.Header{{Key: "bytes", Value: []byte{0, 0xfe}}}},
	}
	put(t, log, topic, msgs...)
	var got []broker.Message
	for _, r := range readAll(t, log, topic, 0, 0, 1<<20) {
		if r.Timestamp.IsZero() {
			t.Error("a record has no time")
		}
		got = append(got, broker.Message{Key: r.Key, Value: r.Value, Headers: r.Headers})
	}
	if diff := cmp.Diff(msgs, got); diff != "" {
		t.Errorf("what came back differs:\n%s", diff)
	}
}

func (s *suite) concurrentAppends(t *testing.T) {
	log := s.open(t)
	topic, _ := s.topic(t, log, broker.TopicConfig{Partitions: 4})
	const callers, calls, each = 8, 10, 20
	var (
		mu   sync.Mutex
		seen = make(map[broker.Ack]string)
		wg   sync.WaitGroup
	)
	for c := range callers {
		wg.Go(func() {
			for n := range calls {
				var msgs []broker.Message
				for i := range each {
					msgs = append(msgs, broker.Message{Partition: int32(c % 4), Value: fmt.Appendf(nil, "%d.%d.%d", c, n, i)})
				}
				acks := log.Append(within(t), topic, msgs)
				mu.Lock()
				for i, a := range acks {
					switch {
					case a.Err != nil:
						t.Errorf("append: %v", a.Err)
					case seen[a] != "":
						t.Errorf("%s and %s share the position %+v", seen[a], msgs[i].Value, a)
					case i > 0 && a.Offset <= acks[i-1].Offset:
						t.Errorf("a call's messages changed order: %d after %d", a.Offset, acks[i-1].Offset)
					}
					seen[a] = string(msgs[i].Value)
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	total := 0
	for p := range int32(4) {
		for _, r := range readAll(t, log, topic, p, 0, 1<<20) {
			total++
			if want := seen[broker.Ack{Partition: p, Offset: r.Offset}]; want != string(r.Value) {
				t.Errorf("partition %d at %d holds %q, acknowledged was %q", p, r.Offset, r.Value, want)
			}
		}
	}
	if want := callers * calls * each; total != want {
		t.Errorf("the log holds %d records, want %d", total, want)
	}
}

func (s *suite) refusals(t *testing.T) {
	log := s.open(t)
	topic, _ := s.topic(t, log, broker.TopicConfig{Partitions: 2})
	acks := log.Append(within(t), topic, []broker.Message{
		{Partition: 0, Value: []byte("first")},
		{Partition: 0, Value: make([]byte, 3<<20)},
		{Partition: 7, Value: []byte("nowhere")},
		{Partition: 0, Value: []byte("last")},
	})
	for i, want := range []error{nil, broker.ErrTooLarge, broker.ErrNoPartition, nil} {
		if !errors.Is(acks[i].Err, want) {
			t.Errorf("message %d: %v, want %v", i, acks[i].Err, want)
		}
		if want != nil && !errors.Is(acks[i].Err, broker.ErrRefused) {
			t.Errorf("message %d: %v does not say that it was not written", i, acks[i].Err)
		}
	}
	var got []string
	for _, r := range readAll(t, log, topic, 0, 0, 1<<20) {
		got = append(got, string(r.Value))
	}
	if diff := cmp.Diff([]string{"first", "last"}, got); diff != "" {
		t.Errorf("the log holds:\n%s", diff)
	}
}

// An adopted topic may take less than ours: small messages must not be refused because they were sent together.
func (s *suite) smallLimit(t *testing.T) {
	log := s.open(t)
	topic, _ := s.topic(t, log, broker.TopicConfig{Partitions: 1, MaxMessageBytes: 64 << 10})
	msgs := make([]broker.Message, 100)
	for i := range msgs {
		msgs[i].Value = bytes.Repeat([]byte{byte(i)}, 10<<10)
	}
	put(t, log, topic, msgs...)
	ack := log.Append(within(t), topic, []broker.Message{{Value: make([]byte, 65<<10)}})[0]
	if !errors.Is(ack.Err, broker.ErrTooLarge) {
		t.Errorf("a message above the topic's limit: %v, want %v", ack.Err, broker.ErrTooLarge)
	}
	put(t, log, topic, broker.Message{Value: make([]byte, 63<<10)})
	if got := readAll(t, log, topic, 0, 0, 1<<20); len(got) != 101 {
		t.Errorf("the log holds %d records, want 101", len(got))
	}
}

func (s *suite) appendContext(t *testing.T) {
	log := s.open(t)
	topic, _ := s.topic(t, log, broker.TopicConfig{Partitions: 1})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for _, a := range log.Append(ctx, topic, numbered(0, 0, 3)) {
		if a.Err == nil {
			t.Error("a message was acknowledged to a caller who had gone")
		}
	}
	if acks := log.Append(within(t), topic, nil); len(acks) != 0 {
		t.Errorf("no messages got %d acks", len(acks))
	}
	put(t, log, topic, numbered(0, 0, 1)...)
}

func (s *suite) largeEvents(t *testing.T) {
	log := s.open(t)
	const partitions, each = 3, 4
	topic, epoch := s.topic(t, log, broker.TopicConfig{Partitions: partitions})
	var msgs []broker.Message
	for i := range partitions * each {
		msgs = append(msgs, broker.Message{Partition: int32(i % partitions), Value: bytes.Repeat([]byte{byte(i)}, 1<<20)})
	}
	put(t, log, topic, msgs...)
	put(t, log, topic, broker.Message{Partition: 0, Value: make([]byte, 2<<20-200)})
	for p := range int32(partitions) {
		want := each
		if p == 0 {
			want++
		}
		if got := readAll(t, log, topic, p, 0, 1); len(got) != want { // one byte asked for: still one record at a time
			t.Errorf("partition %d holds %d records, want %d", p, len(got), want)
		}
	}
	f := follow(t, log, topic, epoch, make([]int64, partitions))
	next := make([]int, partitions)
	for _, r := range f.awaitRecords(len(msgs) + 1) {
		if i := next[r.Partition]*partitions + int(r.Partition); i < len(msgs) && !bytes.Equal(r.Value, msgs[i].Value) {
			t.Errorf("record %d of partition %d is not what was written", next[r.Partition], r.Partition)
		}
		next[r.Partition]++
	}
}

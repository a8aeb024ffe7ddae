package kafka_test

import (
	"sync/atomic"
	"testing"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/eventissuer/eventissuer/broker"
	"github.com/eventissuer/eventissuer/broker/kafka"
)

func TestPlacesOfATopicInUseAreKnownWithoutAsking(t *testing.T) {
	c := fakeCluster(t, kfake.NumBrokers(1))
	log := open(t, kafka.Config{Brokers: c.ListenAddrs()})
	makeTopic(t, log, "topic", 3)
	msgs := func() []broker.Message {
		return []broker.Message{{Partition: broker.AnyPartition, Key: []byte("a")}, {Partition: broker.AnyPartition}}
	}
	if _, _, err := log.Place(t.Context(), "topic", msgs()); err != nil {
		t.Fatal(err)
	}
	var asked atomic.Int64
	c.ControlKey(int16(kmsg.ListOffsets), func(kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		asked.Add(1)
		return nil, nil, false
	})
	keyless := make(map[int32]bool)
	for range 10_000 {
		m := msgs()
		if _, _, err := log.Place(t.Context(), "topic", m); err != nil {
			t.Fatal(err)
		}
		keyless[m[1].Partition] = true
	}
	// Should this take longer than five seconds, the ends are asked for again in the background.
	if n := asked.Load(); n > 3*3 {
		t.Errorf("10,000 places cost %d questions", n)
	}
	if len(keyless) != 3 {
		t.Errorf("what has no key went to the partitions %v, want all three", keyless)
	}
}

func BenchmarkPlace(b *testing.B) {
	c, err := kfake.NewCluster(kfake.NumBrokers(1))
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	log, err := kafka.New(kafka.Config{Brokers: c.ListenAddrs()}, kafka.Deps{})
	if err != nil {
		b.Fatal(err)
	}
	defer log.Close()
	if err := log.Create(b.Context(), "topic", broker.TopicConfig{Partitions: 8}); err != nil {
		b.Fatal(err)
	}
	msgs := make([]broker.Message, 100)
	b.ReportAllocs()
	for b.Loop() {
		for i := range msgs {
			msgs[i] = broker.Message{Partition: broker.AnyPartition, Key: []byte("/train/61")}
		}
		if _, _, err := log.Place(b.Context(), "topic", msgs); err != nil {
			b.Fatal(err)
		}
	}
}

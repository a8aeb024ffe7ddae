package kafka

import (
	"context"
	"errors"
	"testing"

	"github.com/IBM/sarama"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/twmb/franz-go/pkg/kfake"

	"github.com/eventissuer/eventissuer/broker"
)

// openFake opens a log on a fake cluster, with a topic that is written to.
func openFake(t *testing.T, topic string, partitions int32) *Log {
	t.Helper()
	c, err := kfake.NewCluster(kfake.NumBrokers(1))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	log, err := New(Config{Brokers: c.ListenAddrs()}, Deps{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := log.Close(); err != nil {
			t.Error(err)
		}
	})
	if err := log.Create(t.Context(), topic, broker.TopicConfig{Partitions: partitions}); err != nil {
		t.Fatal(err)
	}
	if a := log.Append(t.Context(), topic, []broker.Message{{}})[0]; a.Err != nil {
		t.Fatal(a.Err)
	}
	return log
}

// A call whose first message is sent once more, and whose context ends before there is room for it, keeps what the
// first attempt brought for the others.
func TestAnAcknowledgementOutlivesAnAttemptThatIsGivenUp(t *testing.T) {
	log := openFake(t, "again", 3)
	msgs := []broker.Message{{Partition: 0}, {Partition: 1}, {Partition: 2}}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for range 64 { // whether there is room is by chance
		call := &appendCall{acks: make([]broker.Ack, 3), known: make([]bool, 3), left: 3, done: make(chan struct{}), unsent: inDoubt}
		call.settle(0, -1, -1, errors.Join(broker.ErrUnavailable, sarama.ErrOutOfOrderSequenceNumber))
		call.settle(1, 1, 77, nil)
		call.settle(2, 2, 78, nil)
		call.wait(t.Context())
		if !call.reopen(msgs) {
			t.Fatal("the message that was refused out of sequence is not sent again")
		}
		log.send(ctx, "again", msgs, call)
		want := []broker.Ack{{Partition: 1, Offset: 77}, {Partition: 2, Offset: 78}}
		if diff := cmp.Diff(want, call.acks[1:], cmpopts.EquateErrors()); diff != "" {
			t.Fatalf("acknowledged before, and now:\n%s", diff)
		}
	}
}

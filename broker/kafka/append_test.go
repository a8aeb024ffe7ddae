package kafka

import (
	"context"
	"errors"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/IBM/sarama"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/eventissuer/eventissuer/broker"
)

// openOn opens a log on a fake cluster.
func openOn(t *testing.T, c *kfake.Cluster) *Log {
	t.Helper()
	log, err := New(Config{Brokers: c.ListenAddrs()}, Deps{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := log.Close(); err != nil {
			t.Error(err)
		}
	})
	return log
}

// A call whose first message is sent once more, and whose context ends before there is room for it, keeps what the
// first attempt brought for the others.
func TestAnAcknowledgementOutlivesAnAttemptThatIsGivenUp(t *testing.T) {
	c, err := kfake.NewCluster(kfake.NumBrokers(1))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	log := openOn(t, c)
	if err := log.Create(t.Context(), "again", broker.TopicConfig{Partitions: 3}); err != nil {
		t.Fatal(err)
	}
	if a := log.Append(t.Context(), "again", []broker.Message{{}})[0]; a.Err != nil {
		t.Fatal(a.Err)
	}
	msgs := []broker.Message{{Partition: 0}, {Partition: 1}, {Partition: 2}}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for range 64 { // whether there is room is by chance
		call := &appendCall{topic: "again", msgs: msgs, acks: make([]broker.Ack, 3), known: make([]bool, 3), left: 3, done: make(chan struct{}), unsent: inDoubt}
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

// However many publish at once, a topic's settings are asked once; and when they are asked again, nobody waits for it.
func TestAppendersShareOneQuestionForATopicsLimit(t *testing.T) {
	c, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SleepOutOfOrder())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	log := openOn(t, c)
	if err := log.Create(t.Context(), "herd", broker.TopicConfig{Partitions: 1}); err != nil {
		t.Fatal(err)
	}
	var questions atomic.Int32
	answer := make(chan struct{})
	c.ControlKey(int16(kmsg.DescribeConfigs), func(kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		if questions.Add(1) > 1 {
			c.SleepControl(func() { <-answer })
		}
		return nil, nil, false
	})
	herd := func() {
		t.Helper()
		var wg sync.WaitGroup
		for range 300 {
			wg.Go(func() {
				if a := log.Append(t.Context(), "herd", []broker.Message{{Value: []byte("x")}})[0]; a.Err != nil {
					t.Error(a.Err)
				}
			})
		}
		wg.Wait()
	}
	herd()
	if n := questions.Load(); n != 1 {
		t.Errorf("the first appends asked %d times", n)
	}

	log.producers.mu.Lock()
	w := log.producers.topics["herd"]
	w.asked = w.asked.Add(-2 * limitAge)
	log.producers.topics["herd"] = w
	log.producers.mu.Unlock()
	herd()
	close(answer)
	for renewed := false; !renewed; {
		log.producers.mu.Lock()
		renewed = time.Since(log.producers.topics["herd"].asked) < limitAge
		log.producers.mu.Unlock()
		runtime.Gosched()
	}
	if n := questions.Load(); n != 2 {
		t.Errorf("the appends of a later minute asked %d times", n-1)
	}
}

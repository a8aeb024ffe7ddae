package kafka_test

import (
	"errors"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/eventissuer/eventissuer/broker"
	"github.com/eventissuer/eventissuer/broker/kafka"
)

func TestWhoWantsToKnowThePresentLifeAtOnceSharesTheQuestion(t *testing.T) {
	c := fakeCluster(t, kfake.NumBrokers(1))
	log := open(t, kafka.Config{Brokers: c.ListenAddrs()})
	makeTopic(t, log, "topic", 3)
	info, err := log.Describe(t.Context(), "topic")
	if err != nil {
		t.Fatal(err)
	}
	var asked atomic.Int64
	all, first := make(chan struct{}), make(chan struct{})
	c.ControlKey(int16(kmsg.Metadata), func(kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		if asked.Add(1) == 1 {
			close(first)
			<-all
		}
		return nil, nil, false
	})
	var askers sync.WaitGroup
	ask := func() {
		epoch, err := log.Present(t.Context(), "topic")
		if err != nil || epoch != info.Epoch {
			t.Errorf("%x, %v", epoch, err)
		}
	}
	askers.Go(ask)
	<-first
	var come sync.WaitGroup
	for range 100 {
		come.Add(1)
		askers.Go(func() { come.Done(); ask() })
	}
	come.Wait()
	close(all)
	askers.Wait()
	// Those who came while the first question was open cannot take its answer. Who was late by a moment asks once more.
	if n := asked.Load(); n < 2 || n > 10 {
		t.Errorf("101 who wanted to know put %d questions", n)
	}
}

func TestThePresentLifeIsTheNewOneOnceATopicIsMadeAgain(t *testing.T) {
	c := fakeCluster(t, kfake.NumBrokers(1))
	log := open(t, kafka.Config{Brokers: c.ListenAddrs()})
	makeTopic(t, log, "topic", 1)
	before, err := log.Present(t.Context(), "topic")
	if err != nil {
		t.Fatal(err)
	}
	if err := log.Delete(t.Context(), "topic"); err != nil {
		t.Fatal(err)
	}
	if _, err := log.Present(t.Context(), "topic"); !errors.Is(err, broker.ErrNoTopic) {
		t.Fatalf("got %v", err)
	}
	makeTopic(t, log, "topic", 1)
	if after, err := log.Present(t.Context(), "topic"); err != nil || after == before {
		t.Fatalf("%x after %x, %v", after, before, err)
	}
	if err := log.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := log.Present(t.Context(), "topic"); !errors.Is(err, broker.ErrClosed) {
		t.Fatalf("closed: %v", err)
	}
}

package brokertest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/eventissuer/eventissuer/broker"
)

func (s *suite) closing(t *testing.T) {
	log := s.h.Open(t)
	topic := s.name("case")
	epoch := create(t, log, topic, broker.TopicConfig{Partitions: 2})
	put(t, log, topic, numbered(0, 0, 1)...)
	f := follow(t, log, topic, epoch, []int64{0, 0})
	f.awaitRecords(1)
	m := newMembers()
	joined := make(chan error, 1)
	go func() { joined <- log.Join(t.Context(), s.name("group"), []string{topic}, m.own("a")) }()
	m.await(t, "a to own all", func() bool { return m.shares()["a"] == 2 })
	if err := log.Close(); err != nil {
		t.Fatal(err)
	}
	if err := f.result(); !errors.Is(err, broker.ErrClosed) {
		t.Errorf("the tail ended with %v, want ErrClosed", err)
	}
	if err := <-joined; !errors.Is(err, broker.ErrClosed) {
		t.Errorf("the join ended with %v, want ErrClosed", err)
	}
	if ack := log.Append(within(t), topic, numbered(0, 0, 1))[0]; !errors.Is(ack.Err, broker.ErrClosed) || !errors.Is(ack.Err, broker.ErrRefused) {
		t.Errorf("append after close: %v", ack.Err)
	}
	if _, err := log.Read(within(t), topic, 0, 0, 1); !errors.Is(err, broker.ErrClosed) {
		t.Errorf("read after close: %v", err)
	}
	if err := log.Close(); err != nil {
		t.Errorf("closed twice: %v", err)
	}
}

func (s *suite) restart(t *testing.T) { s.outage(t, power[Restarter](t, s).Restart) }

func (s *suite) kill(t *testing.T) { s.outage(t, power[Killer](t, s).Kill) }

// outage writes and tails while the broker goes and comes back, and holds the log to its word: what was acknowledged is
// there, at its position, once, and the tail delivers it in order.
func (s *suite) outage(t *testing.T, breakDown func(testing.TB)) {
	log := s.open(t)
	const partitions = 2
	topic, epoch := s.topic(t, log, broker.TopicConfig{Partitions: partitions})
	f := follow(t, log, topic, epoch, make([]int64, partitions))
	var (
		mu    sync.Mutex
		acked = make(map[broker.Ack]string)
		count atomic.Int64
		wg    sync.WaitGroup
	)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	for p := range int32(partitions) {
		wg.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				msgs := make([]broker.Message, 5)
				for i := range msgs {
					msgs[i] = broker.Message{Partition: p, Value: fmt.Appendf(nil, "%d:%d.%d", p, n, i)}
				}
				for i, a := range log.Append(context.WithoutCancel(ctx), topic, msgs) {
					if a.Err == nil {
						mu.Lock()
						acked[a] = string(msgs[i].Value)
						mu.Unlock()
						count.Add(1)
					}
				}
			}
		})
	}
	reach := func(more int64) {
		t.Helper()
		want, deadline := count.Load()+more, time.Now().Add(patience)
		for count.Load() < want {
			if time.Now().After(deadline) {
				t.Fatalf("appends did not recover: %d acknowledged, waited for %d", count.Load(), want)
			}
			<-time.After(time.Millisecond)
		}
	}
	for range 2 {
		reach(200)
		breakDown(t)
	}
	reach(200)
	cancel()
	wg.Wait()

	bounds, err := log.Bounds(within(t), topic)
	try(t, err)
	f.await("the end", func() bool {
		for p, b := range bounds {
			if f.next[int32(p)] < b.Next {
				return false
			}
		}
		return true
	})
	f.mu.Lock()
	defer f.mu.Unlock()
	got := make(map[broker.Ack]string)
	for _, r := range f.records {
		got[broker.Ack{Partition: r.Partition, Offset: r.Offset}] = string(r.Value)
	}
	for at, value := range acked {
		if got[at] != value {
			t.Errorf("acknowledged %q at %d/%d, where the tail delivered %q", value, at.Partition, at.Offset, got[at])
		}
	}
	_, forgets := s.h.(ForgetsProducers)
	twice := make(map[string]int)
	for _, value := range got {
		if twice[value]++; twice[value] > 1 && !forgets {
			t.Errorf("%q is on the log more than once", value)
		}
	}
	if len(f.gaps) > 0 {
		t.Errorf("gaps were told: %v", f.gaps)
	}
	for i := 1; i < len(f.health); i++ {
		if (f.health[i] == nil) == (f.health[i-1] == nil) {
			t.Errorf("health was told without a change: %v", f.health)
		}
	}
	if n := len(f.health); n > 0 && f.health[n-1] != nil {
		t.Errorf("the tail is well, but last told %v", f.health[n-1])
	}
	t.Logf("%d acknowledged, %d on the log, health %v", len(acked), len(got), f.health)
}

func (s *suite) lostEnd(t *testing.T) {
	loser := power[EndLoser](t, s)
	log := s.open(t)
	topic, epoch := s.topic(t, log, broker.TopicConfig{Partitions: 1})
	put(t, log, topic, numbered(0, 0, 10)...)
	f := follow(t, log, topic, epoch, []int64{0})
	f.awaitRecords(10)
	loser.LoseEnd(t, func() {
		put(t, log, topic, numbered(0, 10, 7)...)
		f.awaitRecords(17)
	})
	f.await("the gap", func() bool { return len(f.gaps) == 1 })
	want := broker.Gap{From: 17, To: 10, Reason: broker.GapTruncated}
	if diff := cmp.Diff(want, f.toldGaps()[0]); diff != "" {
		t.Errorf("the gap:\n%s", diff)
	}
	// The log has lost what the producer wrote last, so a first message may be refused. No other is taken for it.
	var ack broker.Ack
	for deadline := time.Now().Add(patience); ; {
		if ack = log.Append(within(t), topic, []broker.Message{{Value: []byte("new")}})[0]; ack.Err == nil {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("the log cannot be written any more: %v", ack.Err)
		}
	}
	if r := f.awaitRecords(18)[17]; r.Offset != ack.Offset || string(r.Value) != "new" {
		t.Errorf("went on with %q at %d, want the new record at %d", r.Value, r.Offset, ack.Offset)
	}
}

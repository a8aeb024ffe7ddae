package kafka_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/eventissuer/eventissuer/broker"
	"github.com/eventissuer/eventissuer/broker/kafka"
)

// join makes a member of a group until the test ends.
func join(t *testing.T, log broker.Log, group, topic string, own func(context.Context, broker.Claim)) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- log.Join(ctx, group, []string{topic}, own) }()
	t.Cleanup(func() {
		cancel()
		select {
		case err := <-done:
			if !errors.Is(err, context.Canceled) {
				t.Errorf("join ended with %v", err)
			}
		case <-time.After(patience):
			t.Error("join did not end")
		}
	})
}

func TestMembersJoinWithTheSessionTimeoutAskedFor(t *testing.T) {
	for _, c := range []struct{ session, wantSession, wantRebalance time.Duration }{
		{0, 10 * time.Second, 30 * time.Second},
		{7 * time.Second, 7 * time.Second, 30 * time.Second},
		{time.Minute, time.Minute, time.Minute},
	} {
		t.Run(c.session.String(), func(t *testing.T) {
			cluster := fakeCluster(t)
			log := open(t, kafka.Config{Brokers: cluster.ListenAddrs(), GroupSessionTimeout: c.session})
			makeTopic(t, log, "t", 1)
			joins := make(chan *kmsg.JoinGroupRequest, 1)
			cluster.ControlKey(int16(kmsg.JoinGroup), func(req kmsg.Request) (kmsg.Response, error, bool) {
				joins <- req.(*kmsg.JoinGroupRequest)
				return nil, nil, false
			})
			join(t, log, "g", "t", func(ctx context.Context, _ broker.Claim) { <-ctx.Done() })
			select {
			case got := <-joins:
				session, rebalance := time.Duration(got.SessionTimeoutMillis)*time.Millisecond, time.Duration(got.RebalanceTimeoutMillis)*time.Millisecond
				if session != c.wantSession || rebalance != c.wantRebalance {
					t.Errorf("joined with session %v, rebalance %v, want %v, %v", session, rebalance, c.wantSession, c.wantRebalance)
				}
			case <-time.After(patience):
				t.Fatal("nobody joined")
			}
		})
	}
}

// One member takes longer to let go of a partition than a broker may take to answer any other request. The others wait
// for it, and keep what they keep.
func TestWaitingForASlowOwnerLosesNothing(t *testing.T) {
	const requests = time.Second
	cluster := fakeCluster(t, kfake.NumBrokers(1))
	member := func() broker.Log {
		return open(t, kafka.Config{Brokers: cluster.ListenAddrs(), RequestTimeout: requests})
	}
	log := member()
	makeTopic(t, log, "t", 6)

	var mu sync.Mutex
	owns, lost := make(map[string]int), make(map[string]int)
	changed := make(chan struct{}, 1)
	count := func(of map[string]int, name string, n int) {
		mu.Lock()
		of[name] += n
		mu.Unlock()
		select {
		case changed <- struct{}{}:
		default:
		}
	}
	own := func(name string, letGo time.Duration) func(context.Context, broker.Claim) {
		return func(ctx context.Context, _ broker.Claim) {
			count(owns, name, 1)
			<-ctx.Done()
			if t.Context().Err() == nil {
				<-time.After(letGo)
			}
			count(lost, name, 1)
			count(owns, name, -1)
		}
	}
	await := func(a, b, c int) {
		t.Helper()
		for deadline := time.After(patience); ; {
			mu.Lock()
			ok := owns["a"] == a && owns["b"] == b && owns["c"] == c
			mu.Unlock()
			if ok {
				return
			}
			select {
			case <-changed:
			case <-deadline:
				mu.Lock()
				defer mu.Unlock()
				t.Fatalf("waited in vain for %d, %d and %d partitions: %v", a, b, c, owns)
			}
		}
	}
	join(t, log, "g", "t", own("a", 3*requests))
	await(6, 0, 0)
	join(t, member(), "g", "t", own("b", 0))
	await(3, 3, 0)
	join(t, member(), "g", "t", own("c", 0))
	await(2, 2, 2)
	mu.Lock()
	defer mu.Unlock()
	if lost["a"] != 4 || lost["b"] != 1 || lost["c"] != 0 {
		t.Errorf("lost %v, want a to lose 4, b 1: more than what moved", lost)
	}
}

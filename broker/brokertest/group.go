package brokertest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/eventissuer/eventissuer/broker"
)

// members watches who owns what in a group.
type members struct {
	mu      sync.Mutex
	changed chan struct{}
	owners  map[int32][]string // by partition
	claims  map[string]broker.Claim
	wrong   []string
}

func newMembers() *members {
	return &members{changed: make(chan struct{}), owners: make(map[int32][]string), claims: make(map[string]broker.Claim)}
}

func (m *members) change(fn func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	fn()
	close(m.changed)
	m.changed = make(chan struct{})
}

// own is what member name does with what it is given: it holds it until it is lost.
func (m *members) own(name string) func(context.Context, broker.Claim) {
	return func(ctx context.Context, c broker.Claim) {
		m.change(func() {
			m.owners[c.Partition()] = append(m.owners[c.Partition()], name)
			if n := m.owners[c.Partition()]; len(n) > 1 {
				m.wrong = append(m.wrong, fmt.Sprintf("partition %d has owners %v", c.Partition(), n))
			}
			m.claims[fmt.Sprint(name, c.Partition())] = c
		})
		<-ctx.Done()
		m.change(func() {
			left := m.owners[c.Partition()][:0]
			for _, n := range m.owners[c.Partition()] {
				if n != name {
					left = append(left, n)
				}
			}
			m.owners[c.Partition()] = left
		})
	}
}

func (m *members) await(t *testing.T, what string, wanted func() bool) {
	t.Helper()
	deadline := time.After(patience)
	for {
		m.mu.Lock()
		ok, changed, wrong := wanted(), m.changed, m.wrong
		m.mu.Unlock()
		if len(wrong) > 0 {
			t.Fatal(wrong)
		}
		if ok {
			return
		}
		select {
		case <-changed:
		case <-deadline:
			m.mu.Lock()
			defer m.mu.Unlock()
			t.Fatalf("waited in vain for %s: owners %v", what, m.owners)
		}
	}
}

// shares counts the partitions of each member.
func (m *members) shares() map[string]int {
	n := make(map[string]int)
	for _, owners := range m.owners {
		for _, o := range owners {
			n[o]++
		}
	}
	return n
}

// join makes a member; the returned function ends it and waits.
func join(t *testing.T, log broker.Log, group, topic string, own func(context.Context, broker.Claim)) func() {
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- log.Join(ctx, group, []string{topic}, own) }()
	leave := sync.OnceFunc(func() {
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
	t.Cleanup(leave)
	return leave
}

func (s *suite) rebalance(t *testing.T) {
	log := s.open(t)
	topic, _ := s.topic(t, log, broker.TopicConfig{Partitions: 4})
	group, m := s.name("group"), newMembers()
	leaveA := join(t, log, group, topic, m.own("a"))
	m.await(t, "a to own all", func() bool { return m.shares()["a"] == 4 })
	leaveB := join(t, s.open(t), group, topic, m.own("b"))
	m.await(t, "a and b to share", func() bool { n := m.shares(); return n["a"] == 2 && n["b"] == 2 })
	leaveA()
	m.await(t, "b to own all", func() bool { return m.shares()["b"] == 4 })
	leaveB()
	if n := m.shares(); len(n) > 0 {
		t.Errorf("after Join returned owners are left: %v", n)
	}
}

func (s *suite) commits(t *testing.T) {
	log := s.open(t)
	topic, _ := s.topic(t, log, broker.TopicConfig{Partitions: 2})
	put(t, log, topic, numbered(0, 0, 10)...)
	group := s.name("group")
	for _, want := range []int64{-1, 4, 9} {
		results := make(chan error, 2)
		leave := join(t, log, group, topic, func(ctx context.Context, c broker.Claim) {
			if c.Topic() != topic || c.Partition() != 0 {
				<-ctx.Done()
				return
			}
			at, err := c.Committed(ctx)
			if err == nil && at != want {
				err = fmt.Errorf("committed is %d, want %d", at, want)
			}
			if err == nil {
				err = c.Commit(ctx, max(at, -1)+5)
			}
			results <- err
			<-ctx.Done()
		})
		select {
		case err := <-results:
			if err != nil {
				t.Error(err)
			}
		case <-time.After(patience):
			t.Fatal("nobody was given the partition")
		}
		leave()
	}
}

func (s *suite) staleCommit(t *testing.T) {
	log := s.open(t)
	topic, _ := s.topic(t, log, broker.TopicConfig{Partitions: 2})
	group, m := s.name("group"), newMembers()
	join(t, log, group, topic, m.own("a"))
	m.await(t, "a to own all", func() bool { return m.shares()["a"] == 2 })
	join(t, s.open(t), group, topic, m.own("b"))
	m.await(t, "a and b to share", func() bool { n := m.shares(); return n["a"] == 1 && n["b"] == 1 })
	for p := range int32(2) {
		m.mu.Lock()
		owner := m.owners[p][0]
		a, b := m.claims[fmt.Sprint("a", p)], m.claims[fmt.Sprint("b", p)]
		m.mu.Unlock()
		if err := a.Commit(within(t), 1); owner == "a" && err != nil {
			t.Errorf("the owner that kept its partition over a rebalance cannot commit: %v", err)
		} else if owner == "b" && !errors.Is(err, broker.ErrNotOwner) {
			t.Errorf("the owner before commits: %v, want ErrNotOwner", err)
		}
		if owner == "b" {
			if err := b.Commit(within(t), 2); err != nil {
				t.Errorf("the new owner cannot commit: %v", err)
			}
			if at, err := b.Committed(within(t)); err != nil || at != 2 {
				t.Errorf("committed is %d, %v, want 2", at, err)
			}
		}
	}
}

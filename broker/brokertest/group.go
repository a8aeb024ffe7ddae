package brokertest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

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

// owner returns who owns a partition.
func (m *members) owner(partition int32) string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.owners[partition][0]
}

// claim returns what a member was given last, or nil.
func (m *members) claim(name string, partition int32) broker.Claim {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.claims[fmt.Sprint(name, partition)]
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
	for _, want := range []broker.Commit{{Offset: -1}, {Offset: 4, Note: "øøøø"}, {Offset: 9, Note: "øøøøøøøøø"}} {
		results := make(chan error, 2)
		leave := join(t, log, group, topic, func(ctx context.Context, c broker.Claim) {
			if c.Topic() != topic || c.Partition() != 0 {
				<-ctx.Done()
				return
			}
			at, note, err := c.Committed(ctx)
			if got := (broker.Commit{Offset: at, Note: note}); err == nil && got != want {
				err = fmt.Errorf("committed is %v, want %v", got, want)
			}
			if err == nil {
				err = c.Commit(ctx, at+5, strings.Repeat("ø", int(at+5)))
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

func (s *suite) notes(t *testing.T) {
	log := s.open(t)
	topic, _ := s.topic(t, log, broker.TopicConfig{Partitions: 1})
	group, m := s.name("group"), newMembers()
	join(t, log, group, topic, m.own("a"))
	m.await(t, "a to own all", func() bool { return m.shares()["a"] == 1 })
	c := m.claim("a", 0)
	longest := strings.Repeat("x", broker.MaxNote)
	try(t, c.Commit(within(t), 1, longest))
	for _, note := range []string{longest + "x", "\xff"} {
		if err := c.Commit(within(t), 2, note); err == nil {
			t.Errorf("a note of %d bytes was taken", len(note))
		}
	}
	if at, note, err := c.Committed(within(t)); err != nil || at != 1 || note != longest {
		t.Errorf("committed is %d, %q, %v", at, note, err)
	}
}

func (s *suite) groups(t *testing.T) {
	log, outside := s.open(t), s.open(t)
	topic, _ := s.topic(t, log, broker.TopicConfig{Partitions: 2})
	group, m := s.name("group"), newMembers()
	is := func(members int, commits ...broker.Commit) {
		t.Helper()
		if n, err := outside.Members(within(t), group); err != nil || n != members {
			t.Errorf("the group has %d members, %v, want %d", n, err, members)
		}
		got, err := outside.CommittedOffsets(within(t), group, topic)
		if diff := cmp.Diff(commits, got); err != nil || diff != "" {
			t.Errorf("committed: %v\n%s", err, diff)
		}
	}
	nothing := broker.Commit{Offset: -1}
	is(0, nothing, nothing)
	try(t, outside.DeleteGroup(within(t), group))

	leaveA := join(t, log, group, topic, m.own("a"))
	leaveB := join(t, s.open(t), group, topic, m.own("b"))
	m.await(t, "a and b to share", func() bool { n := m.shares(); return n["a"] == 1 && n["b"] == 1 })
	c := m.claim(m.owner(1), 1)
	try(t, c.Commit(within(t), 7, "seven"))
	is(2, nothing, broker.Commit{Offset: 7, Note: "seven"})
	if err := outside.DeleteGroup(within(t), group); !errors.Is(err, broker.ErrInUse) {
		t.Errorf("a group with members is deleted: %v, want ErrInUse", err)
	}
	leaveA()
	leaveB()
	is(0, nothing, broker.Commit{Offset: 7, Note: "seven"})
	try(t, outside.DeleteGroup(within(t), group))
	is(0, nothing, nothing)
	if _, err := outside.CommittedOffsets(within(t), group, s.name("absent")); !errors.Is(err, broker.ErrNoTopic) {
		t.Errorf("committed offsets of no topic: %v, want ErrNoTopic", err)
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
		owner, a, b := m.owner(p), m.claim("a", p), m.claim("b", p)
		if err := a.Commit(within(t), 1, ""); owner == "a" && err != nil {
			t.Errorf("the owner that kept its partition over a rebalance cannot commit: %v", err)
		} else if owner == "b" && !errors.Is(err, broker.ErrNotOwner) {
			t.Errorf("the owner before commits: %v, want ErrNotOwner", err)
		}
		if owner == "b" {
			if err := b.Commit(within(t), 2, ""); err != nil {
				t.Errorf("the new owner cannot commit: %v", err)
			}
			if at, _, err := b.Committed(within(t)); err != nil || at != 2 {
				t.Errorf("committed is %d, %v, want 2", at, err)
			}
		}
	}
}

// An owner that has been told to let go may commit while it lasts, whatever else of this member's has a newer generation
// by then; a commit that is still on its way when it has let go is not in time.
func (s *suite) lateCommits(t *testing.T) {
	log := s.open(t)
	topic, _ := s.topic(t, log, broker.TopicConfig{Partitions: 2})
	group := s.name("group")
	type ownership struct {
		member string
		claim  broker.Claim
	}
	var (
		began   = make(chan ownership, 8)
		revoked = make(chan broker.Claim, 2)
		letGo   = make(chan struct{})
	)
	own := func(member string) func(context.Context, broker.Claim) {
		return func(ctx context.Context, c broker.Claim) {
			began <- ownership{member, c}
			<-ctx.Done()
			if member == "a" && t.Context().Err() == nil {
				revoked <- c
				<-letGo
			}
		}
	}
	join(t, log, group, topic, own("a"))
	kept := make(map[int32]broker.Claim)
	for range 2 {
		o := receive(t, "a to own all", began)
		kept[o.claim.Partition()] = o.claim
	}
	join(t, s.open(t), group, topic, own("b"))
	lost := receive(t, "a to be told of its loss", revoked)
	delete(kept, lost.Partition())
	if err := lost.Commit(within(t), 1, "a, last"); err != nil {
		t.Errorf("an owner that has not let go yet cannot commit: %v", err)
	}
	// Commits without a pause, from before to after the partition changes hands.
	refused := make(chan error, 2)
	for range cap(refused) {
		go func() {
			ctx := context.WithoutCancel(t.Context())
			for n := int64(2); ; n++ {
				if err := lost.Commit(ctx, n, "a, too late"); err != nil {
					refused <- err
					return
				}
			}
		}()
	}
	close(letGo)
	o := receive(t, "b to own", began)
	if o.member != "b" || o.claim.Partition() != lost.Partition() {
		t.Fatalf("%s was given %d, want b to be given %d", o.member, o.claim.Partition(), lost.Partition())
	}
	want := broker.Commit{Offset: 1, Note: "b"}
	if err := o.claim.Commit(within(t), want.Offset, want.Note); err != nil {
		t.Errorf("the new owner cannot commit: %v", err)
	}
	for range cap(refused) {
		if err := receive(t, "a's commits to end", refused); !errors.Is(err, broker.ErrNotOwner) {
			t.Errorf("a commit by the owner before: %v, want ErrNotOwner", err)
		}
	}
	for range 3 {
		if err := lost.Commit(within(t), 9, "a, again"); !errors.Is(err, broker.ErrNotOwner) {
			t.Errorf("a commit by the owner before: %v, want ErrNotOwner", err)
		}
	}
	offset, note, err := o.claim.Committed(within(t))
	if diff := cmp.Diff(want, broker.Commit{Offset: offset, Note: note}); err != nil || diff != "" {
		t.Errorf("what the new owner committed: %v\n%s", err, diff)
	}
	for p, c := range kept {
		if err := c.Commit(within(t), 3, "kept"); err != nil {
			t.Errorf("the owner of %d, which it kept, cannot commit: %v", p, err)
		}
	}
}

func receive[T any](t *testing.T, what string, from <-chan T) T {
	t.Helper()
	select {
	case v := <-from:
		return v
	case <-time.After(patience):
		t.Fatalf("waited in vain for %s", what)
		panic("unreachable")
	}
}

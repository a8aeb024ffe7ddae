package brokertest

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/IBM/sarama"
	"github.com/google/go-cmp/cmp"

	"github.com/eventissuer/eventissuer/broker"
)

// puppet is a member of a consumer group that does what the case tells it, step by step, so that a rebalance lasts for
// as long as the case wants. As the group's first member it is the leader, who deals out the partitions.
type puppet struct {
	coordinator *sarama.Broker
	group       string
	topic       string
	member      string
	generation  int32
	owned       []int32
}

func (s *suite) puppet(t *testing.T, group, topic string) *puppet {
	t.Helper()
	c := sarama.NewConfig()
	c.Version = sarama.V3_2_0_0
	c.Net.ReadTimeout = patience
	client, err := sarama.NewClient(power[Kafka](t, s).Brokers(), c)
	try(t, err)
	t.Cleanup(func() { _ = client.Close() })
	coordinator, err := client.Coordinator(group)
	try(t, err)
	return &puppet{coordinator: coordinator, group: group, topic: topic}
}

// join joins the group, or joins it again, and returns the other members once all have joined.
func (p *puppet) join(t *testing.T) (others []string) {
	t.Helper()
	for {
		req := &sarama.JoinGroupRequest{
			Version: 7, GroupId: p.group, MemberId: p.member, ProtocolType: "consumer",
			SessionTimeout: int32(2 * patience / time.Millisecond), RebalanceTimeout: int32(2 * patience / time.Millisecond),
		}
		meta := &sarama.ConsumerGroupMemberMetadata{Version: 2, Topics: []string{p.topic}, GenerationID: p.generation}
		if len(p.owned) > 0 {
			meta.OwnedPartitions = []*sarama.OwnedPartition{{Topic: p.topic, Partitions: p.owned}}
		}
		try(t, req.AddGroupProtocolMetadata(sarama.CooperativeStickyBalanceStrategyName, meta))
		resp, err := p.coordinator.JoinGroup(req)
		try(t, err)
		p.member = resp.MemberId
		switch resp.Err {
		case sarama.ErrMemberIdRequired:
			continue
		case sarama.ErrNoError:
		default:
			t.Fatalf("the puppet cannot join: %v", resp.Err)
		}
		if resp.LeaderId != p.member {
			t.Fatal("the puppet is not the leader")
		}
		p.generation = resp.GenerationId
		for _, m := range resp.Members {
			if m.MemberId != p.member {
				others = append(others, m.MemberId)
			}
		}
		return others
	}
}

// deal ends the rebalance: every member gets what plan says.
func (p *puppet) deal(t *testing.T, plan map[string][]int32) {
	t.Helper()
	req := &sarama.SyncGroupRequest{Version: 3, GroupId: p.group, MemberId: p.member, GenerationId: p.generation}
	for member, partitions := range plan {
		a := &sarama.ConsumerGroupMemberAssignment{}
		if len(partitions) > 0 {
			a.Topics = map[string][]int32{p.topic: partitions}
		}
		try(t, req.AddGroupAssignmentMember(member, a))
	}
	resp, err := p.coordinator.SyncGroup(req)
	try(t, err)
	if resp.Err != sarama.ErrNoError {
		t.Fatalf("the puppet cannot deal: %v", resp.Err)
	}
	p.owned = plan[p.member]
}

// awaitRebalance sends heartbeats until the group wants its members to join again.
func (p *puppet) awaitRebalance(t *testing.T) {
	t.Helper()
	beat := time.NewTicker(20 * time.Millisecond)
	defer beat.Stop()
	for deadline := time.After(patience); ; {
		resp, err := p.coordinator.Heartbeat(&sarama.HeartbeatRequest{Version: 3, GroupId: p.group, MemberId: p.member, GenerationId: p.generation})
		try(t, err)
		switch resp.Err {
		case sarama.ErrNoError:
		case sarama.ErrRebalanceInProgress:
			return
		default:
			t.Fatalf("the puppet's heartbeat: %v", resp.Err)
		}
		select {
		case <-beat.C:
		case <-deadline:
			t.Fatal("waited in vain for a rebalance")
		}
	}
}

func (s *suite) commitInRebalance(t *testing.T) {
	power[Kafka](t, s)
	log := s.open(t)
	topic, _ := s.topic(t, log, broker.TopicConfig{Partitions: 2})
	group, m := s.name("group"), newMembers()
	p := s.puppet(t, group, topic)
	p.join(t)
	p.deal(t, nil)

	join(t, log, group, topic, m.own("a"))
	p.awaitRebalance(t)
	others := p.join(t)
	p.deal(t, map[string][]int32{others[0]: {0, 1}})
	m.await(t, "a to own all", func() bool { return m.shares()["a"] == 2 })
	moving, keeping := m.claim("a", 0), m.claim("a", 1)

	p.join(t) // all have joined, and nobody is told yet what is its own
	short, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if err := keeping.Commit(short, 1, ""); !errors.Is(err, broker.ErrUnavailable) || errors.Is(err, broker.ErrNotOwner) {
		t.Errorf("a commit amid a rebalance: %v, want ErrUnavailable", err)
	}
	committed := make(chan error, 1)
	go func() { committed <- keeping.Commit(context.WithoutCancel(t.Context()), 2, "kept") }()
	p.deal(t, map[string][]int32{others[0]: {1}})
	if err := receive(t, "the commit", committed); err != nil {
		t.Errorf("a commit that waited for the end of a rebalance: %v", err)
	}

	// The one that was taken away is given to the other in the next generation.
	p.awaitRebalance(t)
	others = p.join(t)
	p.deal(t, map[string][]int32{others[0]: {1}, p.member: {0}})
	if err := moving.Commit(within(t), 3, ""); !errors.Is(err, broker.ErrNotOwner) {
		t.Errorf("a commit by the owner before: %v, want ErrNotOwner", err)
	}
	if err := keeping.Commit(within(t), 3, "kept still"); err != nil {
		t.Errorf("a commit of what was kept: %v", err)
	}
	got, err := log.CommittedOffsets(within(t), group, topic)
	if diff := cmp.Diff([]broker.Commit{{Offset: -1}, {Offset: 3, Note: "kept still"}}, got); err != nil || diff != "" {
		t.Errorf("committed: %v\n%s", err, diff)
	}
}

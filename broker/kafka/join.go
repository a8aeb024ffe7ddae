package kafka

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/IBM/sarama"

	"github.com/eventissuer/eventissuer/broker"
)

const (
	heartbeatEvery = 500 * time.Millisecond // at most: a member learns of a rebalance by a heartbeat
	rebalanceLeast = 30 * time.Second       // for owners to let go
	joinAgainAfter = 100 * time.Millisecond // when a rebalance began anew, or the coordinator moved
	leaveWithin    = 5 * time.Second        // of the end of a Join, else its connections are broken off
)

// Join implements broker.Joiner. The group is cooperative: a rebalance takes away only what moves.
func (l *Log) Join(ctx context.Context, group string, topics []string, own func(ctx context.Context, c broker.Claim)) error {
	ctx, end, err := l.begin(ctx, 0)
	if err != nil {
		return err
	}
	defer end()
	sockets := &sockets{timeout: l.cfg.DialTimeout, patience: l.cfg.rebalanceTimeout(), open: make(map[net.Conn]struct{})}
	for wait := retryAfter; ctx.Err() == nil; wait = min(2*wait, retryMost) {
		began := time.Now()
		err := l.member(ctx, sockets, group, topics, own)
		if ctx.Err() != nil {
			break
		}
		l.log.Warn("consumer group left; joining again", "group", group, "error", err)
		if time.Since(began) > 10*retryMost {
			wait = retryAfter
		}
		_ = pause(ctx, wait)
	}
	if cause := context.Cause(ctx); errors.Is(cause, broker.ErrClosed) {
		return cause
	}
	return ctx.Err()
}

// member is in the group until ctx ends or the group's client fails.
func (l *Log) member(ctx context.Context, sockets *sockets, group string, topics []string, own func(ctx context.Context, c broker.Claim)) error {
	sockets.waiting.Store(false)
	cfg := *l.base
	cfg.Net.Proxy.Enable, cfg.Net.Proxy.Dialer = true, sockets
	// A strategy remembers its own member's assignment, so each member has one of its own.
	strategy := strategy{sarama.NewBalanceStrategyCooperativeSticky().(cooperative), &sockets.waiting}
	cfg.Consumer.Group.Rebalance.GroupStrategies = []sarama.BalanceStrategy{strategy}
	cfg.Consumer.Group.Rebalance.Timeout = l.cfg.rebalanceTimeout()
	cfg.Consumer.Group.Session.Timeout = l.cfg.GroupSessionTimeout
	cfg.Consumer.Group.Heartbeat.Interval = min(heartbeatEvery, l.cfg.GroupSessionTimeout/3)
	// A member that waits before it joins again sends no heartbeats meanwhile: that must be short beside the session.
	cfg.Consumer.Group.Rebalance.Retry.Backoff = joinAgainAfter
	cfg.Consumer.Group.Rebalance.Retry.Max = int(l.cfg.rebalanceTimeout() / joinAgainAfter)
	// The owner reads with Read. What sarama fetches before a claim is paused is kept to one batch, and thrown away;
	// where it would begin is of no importance, and an offset that is gone must not end the session. Heartbeats wait
	// behind such a fetch.
	cfg.ChannelBufferSize = 0
	cfg.Consumer.MaxWaitTime = 100 * time.Millisecond
	cfg.Consumer.Fetch.Default = 1
	cfg.Consumer.Offsets.Initial = sarama.OffsetNewest
	cfg.Consumer.Group.ResetInvalidOffsets = true

	// In a cluster that has not had a group yet the coordinator is made when it is first asked for. sarama would then
	// sleep for seconds, whatever happens to ctx.
	if err := l.findCoordinator(ctx, group); err != nil {
		return err
	}
	g, err := sarama.NewConsumerGroup(l.cfg.Brokers, group, &cfg)
	if err != nil {
		return fmt.Errorf("%w: join group %s: %w", broker.ErrUnavailable, group, err)
	}
	var errs sync.WaitGroup
	errs.Go(func() {
		for err := range g.Errors() {
			l.log.Warn("consumer group in trouble", "group", group, "error", err)
		}
	})
	stop := context.AfterFunc(ctx, sockets.closeSoon)
	defer func() {
		stop()
		_ = g.Close()
		errs.Wait()
		sockets.closeAll()
	}()
	h := &groupHandler{log: l, group: group, sarama: g, own: own}
	for ctx.Err() == nil {
		if err := g.Consume(ctx, topics, h); err != nil {
			return err
		}
	}
	return ctx.Err()
}

// rebalanceTimeout is how long a rebalance waits for a member. A member that has died holds it up for as long as its
// session lasts.
func (c Config) rebalanceTimeout() time.Duration { return max(rebalanceLeast, c.GroupSessionTimeout) }

// cooperative is what sarama's cooperative strategy is.
type cooperative interface {
	sarama.RebalanceProtocolBalanceStrategy
	sarama.SubscriptionUserDataBalanceStrategy
	sarama.OnAssignmentBalanceStrategy
}

// strategy marks the time for which its member waits for a rebalance.
type strategy struct {
	cooperative
	waiting *atomic.Bool
}

// SubscriptionUserData is called before the member asks to join.
func (s strategy) SubscriptionUserData(topics []string) ([]byte, error) {
	s.waiting.Store(true)
	return s.cooperative.SubscriptionUserData(topics)
}

// OnAssignment is called when the member has been told what is its own.
func (s strategy) OnAssignment(assignment *sarama.ConsumerGroupMemberAssignment, generation int32) {
	s.cooperative.OnAssignment(assignment, generation)
	s.waiting.Store(false)
}

// sockets are the connections of one group's client. They are kept at hand because a member that waits for a rebalance
// hears nothing else.
type sockets struct {
	timeout  time.Duration // of dialing
	patience time.Duration // with a coordinator that has not answered yet because others have not joined
	waiting  atomic.Bool   // for that

	mu   sync.Mutex // guards what follows
	open map[net.Conn]struct{}
	late *time.Timer
}

// Dial implements the proxy dialer interface that sarama takes.
func (s *sockets) Dial(network, addr string) (net.Conn, error) {
	c, err := net.DialTimeout(network, addr, s.timeout)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.open[c] = struct{}{}
	return &socket{c, s}, nil
}

func (s *sockets) closeSoon() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.late = time.AfterFunc(leaveWithin, s.closeAll)
}

func (s *sockets) closeAll() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.late != nil {
		s.late.Stop()
	}
	for c := range s.open {
		_ = c.Close()
		delete(s.open, c)
	}
}

type socket struct {
	net.Conn
	of *sockets
}

// SetReadDeadline implements net.Conn. A broker that is silent is given up soon, so that another can be asked, but not one
// that waits for the other members: to give that up would be to lose all partitions.
func (c *socket) SetReadDeadline(t time.Time) error {
	if c.of.waiting.Load() && !t.IsZero() {
		t = t.Add(c.of.patience)
	}
	return c.Conn.SetReadDeadline(t)
}

// Close implements net.Conn.
func (c *socket) Close() error {
	c.of.mu.Lock()
	delete(c.of.open, c.Conn)
	c.of.mu.Unlock()
	return c.Conn.Close()
}

// groupHandler turns sarama's claims into calls of own. With a cooperative strategy Setup is called once, whatever is
// assigned later, so all that counts happens in ConsumeClaim.
type groupHandler struct {
	log    *Log
	group  string
	sarama sarama.ConsumerGroup
	own    func(ctx context.Context, c broker.Claim)
}

// Setup implements sarama.ConsumerGroupHandler.
func (*groupHandler) Setup(sarama.ConsumerGroupSession) error { return nil }

// Cleanup implements sarama.ConsumerGroupHandler.
func (*groupHandler) Cleanup(sarama.ConsumerGroupSession) error { return nil }

// ConsumeClaim runs one ownership, from the assignment to the loss. sarama tells the loss by closing the messages.
func (h *groupHandler) ConsumeClaim(session sarama.ConsumerGroupSession, sc sarama.ConsumerGroupClaim) error {
	h.sarama.Pause(map[string][]int32{sc.Topic(): {sc.Partition()}})
	ctx, cancel := context.WithCancel(session.Context())
	defer cancel()
	c := &claim{
		log: h.log, group: h.group, topic: sc.Topic(), partition: sc.Partition(), session: session,
		lost: ctx.Done(),
	}
	var owner sync.WaitGroup
	owner.Go(func() { h.own(ctx, c) })
	for range sc.Messages() { // at most what was fetched before the pause
		continue
	}
	cancel()
	owner.Wait()
	c.end()
	return nil
}

package kafka

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/IBM/sarama"

	"github.com/eventissuer/eventissuer/broker"
)

const (
	sessionTimeout   = 10 * time.Second       // after which a member that is silent loses its partitions
	heartbeatEvery   = 500 * time.Millisecond // a member learns of a rebalance by a heartbeat, so it loses within a second
	rebalanceTimeout = 30 * time.Second       // for owners to let go
	leaveWithin      = 5 * time.Second        // of the end of a Join, else its connections are broken off
)

// Join implements broker.Joiner. The group is cooperative: a rebalance takes away only what moves.
func (l *Log) Join(ctx context.Context, group string, topics []string, own func(ctx context.Context, c broker.Claim)) error {
	ctx, end, err := l.begin(ctx, 0)
	if err != nil {
		return err
	}
	defer end()
	sockets := &sockets{timeout: l.cfg.DialTimeout, open: make(map[net.Conn]struct{})}
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
	cfg := *l.base
	cfg.Net.Proxy.Enable, cfg.Net.Proxy.Dialer = true, sockets
	// A strategy remembers its own member's assignment, so each member has one of its own.
	cfg.Consumer.Group.Rebalance.GroupStrategies = []sarama.BalanceStrategy{sarama.NewBalanceStrategyCooperativeSticky()}
	cfg.Consumer.Group.Rebalance.Timeout = rebalanceTimeout
	cfg.Consumer.Group.Session.Timeout = sessionTimeout
	cfg.Consumer.Group.Heartbeat.Interval = heartbeatEvery
	// The owner reads with Read. What sarama fetches before a claim is paused is kept to one batch, and thrown away;
	// where it would begin is of no importance, and an offset that is gone must not end the session.
	cfg.ChannelBufferSize = 0
	cfg.Consumer.Fetch.Default = 1
	cfg.Consumer.Offsets.Initial = sarama.OffsetNewest
	cfg.Consumer.Group.ResetInvalidOffsets = true

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

// sockets are the connections of one group's client. They are kept at hand because a member that waits for a rebalance
// hears nothing else.
type sockets struct {
	timeout time.Duration

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
		lost: ctx.Done(), over: make(chan struct{}),
	}
	var owner sync.WaitGroup
	owner.Go(func() { h.own(ctx, c) })
	for range sc.Messages() { // at most what was fetched before the pause
		continue
	}
	cancel()
	owner.Wait()
	close(c.over)
	return nil
}

// claim is broker.Claim.
type claim struct {
	log       *Log
	group     string
	topic     string
	partition int32
	session   sarama.ConsumerGroupSession
	lost      <-chan struct{} // closed when the partition is to be let go
	over      chan struct{}   // closed when the owner has returned
}

// Topic implements broker.Claim.
func (c *claim) Topic() string { return c.topic }

// Partition implements broker.Claim.
func (c *claim) Partition() int32 { return c.partition }

// Committed implements broker.Claim.
func (c *claim) Committed(ctx context.Context) (offset int64, err error) {
	ctx, end, err := c.log.begin(ctx, c.log.cfg.RequestTimeout)
	if err != nil {
		return 0, err
	}
	defer end()
	err = c.log.atCoordinator(ctx, c.group, func(n *conn) error {
		req := sarama.NewOffsetFetchRequest(sarama.V2_5_0_0, c.group, map[string][]int32{c.topic: {c.partition}})
		resp, err := call(ctx, n, func(b *sarama.Broker) (*sarama.OffsetFetchResponse, error) { return b.FetchOffset(req) })
		if err != nil {
			return err
		}
		if resp.Err != sarama.ErrNoError {
			return resp.Err
		}
		block := resp.GetBlock(c.topic, c.partition)
		if block == nil {
			return fmt.Errorf("%w: no answer for partition %d", broker.ErrUnavailable, c.partition)
		}
		if block.Err != sarama.ErrNoError {
			return block.Err
		}
		offset = block.Offset
		return nil
	})
	if err != nil {
		return 0, fmt.Errorf("committed offset of %s/%d in group %s: %w", c.topic, c.partition, c.group, err)
	}
	return offset, nil
}

// Commit implements broker.Claim.
func (c *claim) Commit(ctx context.Context, offset int64) error {
	ctx, end, err := c.log.begin(ctx, c.log.cfg.RequestTimeout)
	if err != nil {
		return err
	}
	defer end()
	err = c.log.atCoordinator(ctx, c.group, func(n *conn) error {
		select {
		case <-c.over:
			return broker.ErrNotOwner
		default:
		}
		req := sarama.NewOffsetCommitRequest(c.log.base, c.group)
		// A member that keeps a partition over a rebalance owns it in the next generation too.
		req.ConsumerGroupGeneration = c.session.GenerationID()
		req.ConsumerID = c.session.MemberID()
		req.AddBlock(c.topic, c.partition, offset, 0, "")
		resp, err := call(ctx, n, func(b *sarama.Broker) (*sarama.OffsetCommitResponse, error) { return b.CommitOffset(req) })
		if err != nil {
			return err
		}
		switch code := resp.Errors[c.topic][c.partition]; code {
		case sarama.ErrNoError:
			return nil
		case sarama.ErrUnknownMemberId, sarama.ErrFencedInstancedId:
			return fmt.Errorf("%w: %w", broker.ErrNotOwner, code)
		case sarama.ErrIllegalGeneration:
			select {
			case <-c.lost:
				return fmt.Errorf("%w: %w", broker.ErrNotOwner, code)
			default:
				// A rebalance is under way, and this member has not been told its generation: it will be soon, or that
				// the partition is lost.
				return code
			}
		default:
			return code
		}
	})
	if errors.Is(err, sarama.ErrIllegalGeneration) && !errors.Is(err, broker.ErrNotOwner) {
		err = fmt.Errorf("%w: %w", broker.ErrNotOwner, err) // no generation of this member's came in time
	}
	if err != nil {
		return fmt.Errorf("commit %d of %s/%d in group %s: %w", offset, c.topic, c.partition, c.group, err)
	}
	return nil
}

// atCoordinator sends a request to the broker that keeps a group, finding it anew as often as needed. It does not go
// over the group's own connection, which is taken for as long as a rebalance lasts.
func (l *Log) atCoordinator(ctx context.Context, group string, ask func(*conn) error) error {
	for wait := retryAfter; ; wait = min(2*wait, retryMost) {
		addr, err := l.cluster.coordinator(ctx, group)
		if err == nil {
			err = l.questions.do(ctx, addr, ask)
		}
		switch {
		case err == nil, errors.Is(err, broker.ErrNotOwner), errors.Is(err, broker.ErrClosed):
			return err
		case ctx.Err() != nil:
			return outOfTime(ctx, nil, err)
		case !passing(err):
			return err
		}
		l.cluster.forgetCoordinator(group)
		if pause(ctx, wait) != nil {
			return outOfTime(ctx, err, err)
		}
	}
}

func (c *cluster) coordinator(ctx context.Context, group string) (string, error) {
	c.mu.Lock()
	addr := c.coordinators[group]
	c.mu.Unlock()
	if addr != "" {
		return addr, nil
	}
	err := c.anyone(ctx, func(ctx context.Context, n *conn) error {
		resp, err := call(ctx, n, func(b *sarama.Broker) (*sarama.FindCoordinatorResponse, error) {
			return b.FindCoordinator(&sarama.FindCoordinatorRequest{Version: 3, CoordinatorKey: group, CoordinatorType: sarama.CoordinatorGroup})
		})
		if err != nil {
			return err
		}
		if resp.Err != sarama.ErrNoError {
			return resp.Err
		}
		addr = resp.Coordinator.Addr()
		return nil
	})
	if err != nil {
		return "", err
	}
	c.mu.Lock()
	c.coordinators[group] = addr
	c.mu.Unlock()
	return addr, nil
}

func (c *cluster) forgetCoordinator(group string) {
	c.mu.Lock()
	delete(c.coordinators, group)
	c.mu.Unlock()
}

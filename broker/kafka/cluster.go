package kafka

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/IBM/sarama"

	"github.com/eventissuer/eventissuer/broker"
)

// cluster knows who leads what, by asking the brokers.
type cluster struct {
	seeds []string
	turn  time.Duration // how long one broker may take to answer where there are others
	pool  *pool         // of connections for questions that are answered at once

	mu           sync.Mutex // guards what follows
	brokers      map[int32]string
	controller   int32
	prefer       string                // the broker that answered last
	topics       map[string]*topicView // as last seen
	renewing     map[string]bool       // topics that are looked at in the background
	coordinators map[string]string     // by consumer group
}

// topicView is a topic as one broker described it.
type topicView struct {
	asked      time.Time // when the question was sent: what is told was true then or later
	epoch      broker.Epoch
	partitions []partitionView
	brokers    map[int32]string
}

type partitionView struct {
	leader   int32 // -1: none at the moment
	replicas int
}

func (v *topicView) leaderOf(partition int32) (string, error) {
	if partition < 0 || int(partition) >= len(v.partitions) {
		return "", broker.ErrNoPartition
	}
	addr, ok := v.brokers[v.partitions[partition].leader]
	if !ok {
		return "", fmt.Errorf("%w: partition %d has no leader", broker.ErrUnavailable, partition)
	}
	return addr, nil
}

func newCluster(seeds []string, turn time.Duration, p *pool) *cluster {
	return &cluster{seeds: seeds, turn: turn, pool: p, renewing: make(map[string]bool), brokers: make(map[int32]string), topics: make(map[string]*topicView), coordinators: make(map[string]string)}
}

// candidates returns the addresses to ask, best first, and every known broker before the seeds.
func (c *cluster) candidates() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	var all []string
	seen := make(map[string]bool)
	add := func(addr string) {
		if addr != "" && !seen[addr] {
			seen[addr] = true
			all = append(all, addr)
		}
	}
	add(c.prefer)
	for _, addr := range c.brokers {
		add(addr)
	}
	for _, addr := range c.seeds {
		add(addr)
	}
	return all
}

// anyone asks the brokers in turn until one answers. One that says nothing has only a part of the time.
func (c *cluster) anyone(ctx context.Context, ask func(context.Context, *conn) error) error {
	var last error
	all := c.candidates()
	for i, addr := range all {
		turn, cancel := ctx, context.CancelFunc(func() {})
		if i < len(all)-1 {
			turn, cancel = context.WithTimeout(ctx, c.turn)
		}
		err := c.pool.do(turn, addr, func(n *conn) error { return ask(turn, n) })
		cancel()
		if err == nil {
			c.mu.Lock()
			c.prefer = addr
			c.mu.Unlock()
			return nil
		}
		if ctx.Err() != nil {
			return outOfTime(ctx, last, err)
		}
		last = err
		c.mu.Lock()
		if c.prefer == addr {
			c.prefer = ""
		}
		c.mu.Unlock()
	}
	last = inWords(last)
	for _, final := range []error{broker.ErrUnavailable, broker.ErrClosed, broker.ErrNotAllowed, broker.ErrTopicName} {
		if errors.Is(last, final) {
			return last
		}
	}
	return fmt.Errorf("%w: %w", broker.ErrUnavailable, last)
}

// look asks one broker for a topic. ErrNoTopic is that broker's word alone: see confirm.
func (c *cluster) look(ctx context.Context, topic string) (*topicView, error) {
	var (
		asked  time.Time
		answer *sarama.MetadataResponse
	)
	err := c.anyone(ctx, func(ctx context.Context, n *conn) (err error) {
		asked = time.Now()
		answer, err = call(ctx, n, func(b *sarama.Broker) (*sarama.MetadataResponse, error) {
			// Version 10 and above tell the topic's id.
			return b.GetMetadata(&sarama.MetadataRequest{Version: 11, Topics: []string{topic}})
		})
		if err == nil && len(answer.Brokers) == 0 {
			err = fmt.Errorf("%w: %s is starting", broker.ErrUnavailable, n.addr)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	brokers := make(map[int32]string, len(answer.Brokers))
	for _, b := range answer.Brokers {
		brokers[b.ID()] = b.Addr()
	}
	c.mu.Lock()
	c.brokers, c.controller = brokers, answer.ControllerID
	c.mu.Unlock()

	if len(answer.Topics) != 1 {
		return nil, fmt.Errorf("%w: asked for one topic, got %d", broker.ErrUnavailable, len(answer.Topics))
	}
	t := answer.Topics[0]
	switch t.Err {
	case sarama.ErrNoError, sarama.ErrLeaderNotAvailable:
	case sarama.ErrUnknownTopicOrPartition:
		c.forget(topic)
		return nil, fmt.Errorf("%w: %s", broker.ErrNoTopic, topic)
	case sarama.ErrInvalidTopic:
		return nil, fmt.Errorf("%w: %q is no valid name of a topic", broker.ErrNoTopic, topic)
	case sarama.ErrTopicAuthorizationFailed:
		return nil, fmt.Errorf("metadata of %s: %w", topic, inWords(t.Err))
	default:
		return nil, fmt.Errorf("%w: metadata of %s: %w", broker.ErrUnavailable, topic, t.Err)
	}
	view := &topicView{asked: asked, epoch: broker.Epoch(t.Uuid), brokers: brokers, partitions: make([]partitionView, len(t.Partitions))}
	for _, p := range t.Partitions {
		if p.ID < 0 || int(p.ID) >= len(view.partitions) {
			return nil, fmt.Errorf("%w: metadata of %s lacks partitions", broker.ErrUnavailable, topic)
		}
		view.partitions[p.ID] = partitionView{leader: p.Leader, replicas: len(p.Replicas)}
	}
	c.mu.Lock()
	c.topics[topic] = view
	c.mu.Unlock()
	return view, nil
}

// view returns a topic as seen at most maxAge ago.
func (c *cluster) view(ctx context.Context, topic string, maxAge time.Duration) (*topicView, error) {
	c.mu.Lock()
	v := c.topics[topic]
	c.mu.Unlock()
	if v != nil && time.Since(v.asked) <= maxAge {
		return v, nil
	}
	return c.look(ctx, topic)
}

// peek returns a topic as last seen, if ever.
func (c *cluster) peek(topic string) *topicView {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.topics[topic]
}

// claimRenewal reports whether the caller is the one to look at a topic in the background; then it calls done.
func (c *cluster) claimRenewal(topic string) (done func(), ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.renewing[topic] {
		return nil, false
	}
	c.renewing[topic] = true
	return func() {
		c.mu.Lock()
		delete(c.renewing, topic)
		c.mu.Unlock()
	}, true
}

func (c *cluster) forget(topic string) {
	c.mu.Lock()
	delete(c.topics, topic)
	c.mu.Unlock()
}

// A broker whose metadata lags (it has just started, or just heard of the topic) says that a topic is not there, or has
// its old id. So such an answer counts only when it stays.
const (
	confirmations = 3
	confirmEvery  = 150 * time.Millisecond
)

// confirm looks until what is seen is sure: a view of the topic with that epoch (the zero epoch: any), or ErrNoTopic
// or ErrRecreated seen several times in a row. doubt, if given, is called as soon as one answer was not the topic.
func (c *cluster) confirm(ctx context.Context, topic string, epoch broker.Epoch, doubt func()) (*topicView, error) {
	for n := 1; ; n++ {
		v, err := c.look(ctx, topic)
		switch {
		case err == nil && (epoch == broker.Epoch{} || v.epoch == broker.Epoch{} || v.epoch == epoch):
			return v, nil
		case err == nil:
			err = fmt.Errorf("%w: %s", broker.ErrRecreated, topic)
		case !errors.Is(err, broker.ErrNoTopic):
			return nil, err
		}
		if n == confirmations {
			return nil, err
		}
		if doubt != nil {
			doubt()
		}
		if err := pause(ctx, confirmEvery); err != nil {
			return nil, err
		}
	}
}

// pause waits for d, or for the end of ctx, whose error it returns.
func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

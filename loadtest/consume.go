package loadtest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/IBM/sarama"
)

// ConsumeConfig says which topic is read by a plain consumer group: what Drain is compared with.
type ConsumeConfig struct {
	Brokers   []string
	Topic     string
	Consumers int // default 10
}

// Consume has a new consumer group of sarama, with the settings that it has by itself, read everything that a topic holds.
// Each message is marked, and what is marked is committed once a second and at the end, which is not waited for.
func Consume(ctx context.Context, c ConsumeConfig) (report *GroupReport, err error) {
	set(&c.Consumers, 10)
	cfg := sarama.NewConfig()
	cfg.Version = sarama.V2_8_0_0
	cfg.Consumer.Offsets.Initial = sarama.OffsetOldest
	client, err := sarama.NewClient(c.Brokers, cfg)
	if err != nil {
		return nil, fmt.Errorf("reach Kafka: %w", err)
	}
	defer func() { err = errors.Join(err, client.Close()) }()
	read := &consumption{ends: map[int32]int64{}, over: map[int32]bool{}, done: make(chan struct{})}
	partitions, err := client.Partitions(c.Topic)
	if err != nil {
		return nil, fmt.Errorf("find the partitions of %s: %w", c.Topic, err)
	}
	for _, p := range partitions {
		first, err1 := client.GetOffset(c.Topic, p, sarama.OffsetOldest)
		end, err2 := client.GetOffset(c.Topic, p, sarama.OffsetNewest)
		if err := errors.Join(err1, err2); err != nil {
			return nil, fmt.Errorf("find the ends of %s: %w", c.Topic, err)
		}
		read.events += end - first
		read.ends[p] = end
		if end > first {
			read.left++
		}
	}
	if read.left == 0 {
		return nil, fmt.Errorf("topic %s holds nothing", c.Topic)
	}
	group := "loadtest-" + NewRun()
	account, err := openAccount(nil, false)
	if err != nil {
		return nil, err
	}
	running, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	var consumers sync.WaitGroup
	for range c.Consumers {
		consumers.Go(func() {
			if err := consume(running, c, cfg, group, read); err != nil && running.Err() == nil {
				stop(err)
			}
		})
	}
	select {
	case <-read.done:
	case <-running.Done():
		err = context.Cause(running)
	}
	stop(nil)
	consumers.Wait() // with the last commit
	if err != nil {
		return nil, err
	}
	report = &GroupReport{Scenario: fmt.Sprintf("%d consumers of a sarama consumer group", c.Consumers), Events: read.events, Read: read.count}
	account.settle(report, read.first, read.last)
	return report, nil
}

// consume is one member of the group, with connections of its own.
func consume(ctx context.Context, c ConsumeConfig, cfg *sarama.Config, group string, read *consumption) (err error) {
	own := *cfg
	member, err := sarama.NewConsumerGroup(c.Brokers, group, &own)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, member.Close()) }()
	for ctx.Err() == nil {
		if err := member.Consume(ctx, []string{c.Topic}, read); err != nil {
			return err
		}
	}
	return nil
}

// consumption is how far all members are. It implements sarama.ConsumerGroupHandler.
type consumption struct {
	// static
	ends   map[int32]int64 // by partition
	events int64
	done   chan struct{} // closed once all was read

	mu          sync.Mutex     // guards what follows
	over        map[int32]bool // partitions that were read to their ends
	left        int            // partitions that were not
	count       int64
	first, last time.Time
}

// Setup implements sarama.ConsumerGroupHandler.
func (r *consumption) Setup(sarama.ConsumerGroupSession) error { return nil }

// Cleanup implements sarama.ConsumerGroupHandler.
func (r *consumption) Cleanup(sarama.ConsumerGroupSession) error { return nil }

// ConsumeClaim implements sarama.ConsumerGroupHandler.
func (r *consumption) ConsumeClaim(s sarama.ConsumerGroupSession, claim sarama.ConsumerGroupClaim) error {
	n := int64(0)
	end := r.ends[claim.Partition()]
	defer func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.count += n
	}()
	for m := range claim.Messages() {
		if n == 0 {
			r.begin()
		}
		n++
		s.MarkMessage(m, "")
		if m.Offset+1 == end {
			r.ended(claim.Partition(), n)
			n = 0
		}
	}
	return nil
}

func (r *consumption) begin() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.first.IsZero() {
		r.first = time.Now()
	}
}

// ended notes that a partition was read to its end.
func (r *consumption) ended(partition int32, n int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.count += n
	if r.over[partition] {
		return
	}
	r.over[partition] = true
	if r.left--; r.left == 0 {
		r.last = time.Now()
		close(r.done)
	}
}

package kafka

import (
	"context"
	"fmt"
	"sync"
	"unicode/utf8"

	"github.com/IBM/sarama"

	"github.com/eventissuer/eventissuer/broker"
)

// claim is broker.Claim.
type claim struct {
	log       *Log
	group     string
	topic     string
	partition int32
	session   sarama.ConsumerGroupSession
	lost      <-chan struct{} // closed when the partition is to be let go

	mu   sync.Mutex // guards what follows
	over bool       // the owner has returned
}

// Topic implements broker.Claim.
func (c *claim) Topic() string { return c.topic }

// Partition implements broker.Claim.
func (c *claim) Partition() int32 { return c.partition }

// Committed implements broker.Claim.
func (c *claim) Committed(ctx context.Context) (offset int64, note string, err error) {
	ctx, end, err := c.log.begin(ctx, c.log.cfg.RequestTimeout)
	if err != nil {
		return 0, "", err
	}
	defer end()
	all, err := c.log.committed(ctx, c.group, c.topic, []int32{c.partition})
	if err != nil {
		return 0, "", fmt.Errorf("committed offset of %s/%d in group %s: %w", c.topic, c.partition, c.group, err)
	}
	return all[0].Offset, all[0].Note, nil
}

// Commit implements broker.Claim.
func (c *claim) Commit(ctx context.Context, offset int64, note string) error {
	if len(note) > broker.MaxNote || !utf8.ValidString(note) {
		return fmt.Errorf("note of a commit: expected at most %d bytes of UTF-8, got %d: %.40q", broker.MaxNote, len(note), note)
	}
	ctx, end, err := c.log.begin(ctx, c.log.cfg.RequestTimeout)
	if err != nil {
		return err
	}
	defer end()
	err = c.log.atCoordinator(ctx, c.group, func(n *conn) error {
		req := sarama.NewOffsetCommitRequest(c.log.base, c.group)
		req.AddBlock(c.topic, c.partition, offset, 0, note)
		if err := c.sign(req); err != nil {
			return err
		}
		resp, err := call(ctx, n, func(b *sarama.Broker) (*sarama.OffsetCommitResponse, error) { return b.CommitOffset(req) })
		if err != nil {
			return err
		}
		code, ok := resp.Errors[c.topic][c.partition]
		switch {
		case !ok:
			return fmt.Errorf("%w: no answer for partition %d", broker.ErrUnavailable, c.partition)
		case code == sarama.ErrNoError:
			return nil
		case code == sarama.ErrUnknownMemberId, code == sarama.ErrFencedInstancedId, code == sarama.ErrIllegalGeneration && c.isLost():
			return fmt.Errorf("%w: %w", broker.ErrNotOwner, code)
		}
		// Where the generation is wrong a rebalance is under way, and this member has not been told the new one: it will
		// be soon, or that the partition is lost.
		return code
	})
	if err != nil {
		return fmt.Errorf("commit %d of %s/%d in group %s: %w", offset, c.topic, c.partition, c.group, err)
	}
	return nil
}

// sign puts member and generation under a commit. Kafka takes a commit of any partition from any member of the present
// generation, so it must be a generation in which no other has this partition. Until the owner has returned it is: the
// partition stays with this member in each generation that sarama joins, or is withheld from all, and the member keeps its
// name for as long as it holds anything. Only afterwards does sarama join the generation that hands the partition on.
func (c *claim) sign(req *sarama.OffsetCommitRequest) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.over {
		return broker.ErrNotOwner
	}
	req.ConsumerID, req.ConsumerGroupGeneration = c.session.MemberID(), c.session.GenerationID()
	return nil
}

// end is called once the owner has returned: whatever is not signed by then never will be.
func (c *claim) end() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.over = true
}

func (c *claim) isLost() bool {
	select {
	case <-c.lost:
		return true
	default:
		return false
	}
}

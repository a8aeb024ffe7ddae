package kafka

import (
	"context"
	"errors"
	"fmt"

	"github.com/IBM/sarama"

	"github.com/eventissuer/eventissuer/broker"
)

// Members implements broker.Groups.
func (l *Log) Members(ctx context.Context, group string) (members int, err error) {
	ctx, end, err := l.begin(ctx, l.cfg.RequestTimeout)
	if err != nil {
		return 0, err
	}
	defer end()
	err = l.atCoordinator(ctx, group, func(n *conn) error {
		resp, err := call(ctx, n, func(b *sarama.Broker) (*sarama.DescribeGroupsResponse, error) {
			// From version 6 on a group that does not exist is an error; before, it is one that is dead.
			return b.DescribeGroups(&sarama.DescribeGroupsRequest{Version: 5, Groups: []string{group}})
		})
		if err != nil {
			return err
		}
		if len(resp.Groups) != 1 {
			return fmt.Errorf("%w: asked for one group, got %d", broker.ErrUnavailable, len(resp.Groups))
		}
		if code := resp.Groups[0].Err; code != sarama.ErrNoError {
			return code
		}
		members = len(resp.Groups[0].Members)
		return nil
	})
	if err != nil {
		return 0, fmt.Errorf("describe group %s: %w", group, err)
	}
	return members, nil
}

// CommittedOffsets implements broker.Groups.
func (l *Log) CommittedOffsets(ctx context.Context, group, topic string) ([]broker.Commit, error) {
	ctx, end, err := l.begin(ctx, l.cfg.RequestTimeout)
	if err != nil {
		return nil, err
	}
	defer end()
	view, err := l.fresh(ctx, topic)
	if err != nil {
		return nil, err
	}
	partitions := make([]int32, len(view.partitions))
	for p := range partitions {
		partitions[p] = int32(p)
	}
	all, err := l.committed(ctx, group, topic, partitions)
	if err != nil {
		return nil, fmt.Errorf("committed offsets of %s in group %s: %w", topic, group, err)
	}
	return all, nil
}

// committed asks for what a group has committed for some partitions.
func (l *Log) committed(ctx context.Context, group, topic string, partitions []int32) ([]broker.Commit, error) {
	all := make([]broker.Commit, len(partitions))
	err := l.atCoordinator(ctx, group, func(n *conn) error {
		req := sarama.NewOffsetFetchRequest(sarama.V2_5_0_0, group, map[string][]int32{topic: partitions})
		resp, err := call(ctx, n, func(b *sarama.Broker) (*sarama.OffsetFetchResponse, error) { return b.FetchOffset(req) })
		if err != nil {
			return err
		}
		switch resp.Err {
		case sarama.ErrNoError:
		case sarama.ErrGroupIDNotFound: // Kafka itself answers that nothing is committed
			for i := range all {
				all[i] = broker.Commit{Offset: -1}
			}
			return nil
		default:
			return resp.Err
		}
		for i, p := range partitions {
			block := resp.GetBlock(topic, p)
			if block == nil {
				return fmt.Errorf("%w: no answer for partition %d", broker.ErrUnavailable, p)
			}
			if block.Err != sarama.ErrNoError {
				return block.Err
			}
			all[i] = broker.Commit{Offset: block.Offset, Note: block.Metadata}
		}
		return nil
	})
	return all, err
}

// DeleteGroup implements broker.Groups.
func (l *Log) DeleteGroup(ctx context.Context, group string) error {
	ctx, end, err := l.begin(ctx, l.cfg.RequestTimeout)
	if err != nil {
		return err
	}
	defer end()
	err = l.atCoordinator(ctx, group, func(n *conn) error {
		resp, err := call(ctx, n, func(b *sarama.Broker) (*sarama.DeleteGroupsResponse, error) {
			return b.DeleteGroups(&sarama.DeleteGroupsRequest{Version: 2, Groups: []string{group}})
		})
		if err != nil {
			return err
		}
		switch code, ok := resp.GroupErrorCodes[group]; {
		case !ok:
			return fmt.Errorf("%w: no answer for the group", broker.ErrUnavailable)
		case code == sarama.ErrNoError, code == sarama.ErrGroupIDNotFound: // or an earlier attempt has done it
			return nil
		case code == sarama.ErrNonEmptyGroup:
			return fmt.Errorf("%w: %w", broker.ErrInUse, code)
		default:
			return code
		}
	})
	if err != nil {
		return fmt.Errorf("delete group %s: %w", group, err)
	}
	l.cluster.forgetCoordinator(group)
	return nil
}

// atCoordinator sends a request to the broker that keeps a group, finding it anew as often as needed. It does not go
// over the group's own connection, which is taken for as long as a rebalance lasts.
func (l *Log) atCoordinator(ctx context.Context, group string, ask func(*conn) error) error {
	var last error
	for wait := retryAfter; ; wait = min(2*wait, retryMost) {
		addr, err := l.cluster.coordinator(ctx, group)
		if err == nil {
			err = l.questions.do(ctx, addr, ask)
		}
		switch {
		case err == nil, errors.Is(err, broker.ErrNotOwner), errors.Is(err, broker.ErrInUse), errors.Is(err, broker.ErrClosed):
			return err
		case ctx.Err() != nil:
			return outOfTime(ctx, last, err)
		case !passing(err):
			return inWords(err)
		}
		last = err
		l.cluster.forgetCoordinator(group)
		if pause(ctx, wait) != nil {
			return outOfTime(ctx, last, err)
		}
	}
}

// findCoordinator waits until a group has a coordinator.
func (l *Log) findCoordinator(ctx context.Context, group string) error {
	ctx, cancel := context.WithTimeout(ctx, l.cfg.RequestTimeout)
	defer cancel()
	if err := l.atCoordinator(ctx, group, func(*conn) error { return nil }); err != nil {
		return fmt.Errorf("find the coordinator of group %s: %w", group, err)
	}
	return nil
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

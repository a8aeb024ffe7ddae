package deadletters

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/eventissuer/eventissuer/broker"
)

// ErrUnavailable tells that it cannot be known at present which letters were delivered since. It may pass.
var ErrUnavailable = errors.New("it cannot be told at present which dead letters were delivered since")

const (
	redisTimeout = 2 * time.Second
	findBytes    = 256 << 10 // of one fetch
)

// Find returns a subscription's letters of some ids, by id. Those that are not kept any more, and those of others, are left
// out.
func (b *Box) Find(ctx context.Context, subscription string, ids []int64) ([]Letter, error) {
	p, err := b.partition(ctx, subscription)
	if err != nil || p < 0 {
		return nil, err
	}
	wanted := slices.Compact(slices.Sorted(slices.Values(ids)))
	var found []Letter
	for len(wanted) > 0 {
		batch, err := b.cfg.Log.Read(ctx, b.cfg.Topic, p, wanted[0], findBytes)
		if outside := (*broker.RangeError)(nil); errors.As(err, &outside) {
			wanted = slices.DeleteFunc(wanted, func(id int64) bool { return id < outside.Bounds.First || id >= outside.Bounds.Next })
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("read the dead letters: %w", err)
		}
		if batch.Next <= wanted[0] {
			return found, nil // the log ends before it
		}
		for i := range batch.Records {
			r := &batch.Records[i]
			if _, ok := slices.BinarySearch(wanted, r.Offset); !ok {
				continue
			}
			if l, ok := letterOf(r, subscription); ok {
				found = append(found, l)
			}
		}
		for len(wanted) > 0 && wanted[0] < batch.Next {
			wanted = wanted[1:]
		}
	}
	return found, nil
}

// Redelivered tells of each of some letters of a subscription whether it was delivered since. It blocks on Redis. The error
// is ErrUnavailable, or ctx's.
func (b *Box) Redelivered(ctx context.Context, subscription string, ids []int64) ([]bool, error) {
	if b.cfg.Redis == nil || len(ids) == 0 {
		return make([]bool, len(ids)), nil
	}
	ctx, cancel := context.WithTimeout(ctx, redisTimeout)
	defer cancel()
	is, err := b.cfg.Redis.SMIsMember(ctx, b.redeliveredKey(subscription), members(ids)...).Result()
	if err != nil {
		return nil, fmt.Errorf("%w (%w)", ErrUnavailable, err)
	}
	return is, nil
}

// Redeliver remembers that letters of a subscription were delivered, as long as letters are kept. It blocks on Redis. Errors
// are those of Redelivered.
func (b *Box) Redeliver(ctx context.Context, subscription string, ids []int64) error {
	if b.cfg.Redis == nil || len(ids) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, redisTimeout)
	defer cancel()
	key := b.redeliveredKey(subscription)
	pipe := b.cfg.Redis.Pipeline()
	pipe.SAdd(ctx, key, members(ids)...)
	pipe.Expire(ctx, key, retention)
	if _, err := pipe.Exec(ctx); err != nil {
		return fmt.Errorf("%w (%w)", ErrUnavailable, err)
	}
	return nil
}

func (b *Box) redeliveredKey(subscription string) string {
	return b.cfg.Prefix + "letters:" + subscription + ":redelivered"
}

func members(ids []int64) []any {
	all := make([]any, len(ids))
	for i, id := range ids {
		all[i] = strconv.FormatInt(id, 10)
	}
	return all
}

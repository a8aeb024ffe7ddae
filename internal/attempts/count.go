package attempts

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// A replica writes what it has counted of a subscription in a minute as one value, and writes it anew, as a whole, when
// there is more: a write that is made twice, or of which nobody knows whether it was made, counts nothing twice. The values
// of half an hour are in one hash, a field for each minute and replica: small enough for Redis to pack it.

const (
	minute   = int64(time.Minute / time.Second)
	span     = 30 * minute
	countTTL = 25 * time.Hour
)

func spanOf(t time.Time) int64 { return t.Unix() / span }

func (l *Log) spanKey(subscription string, number int64) string {
	return l.cfg.Prefix + "attempts:" + subscription + ":" + strconv.FormatInt(number, 10)
}

// packReplica names a process in the fields. Two of the same name hide some of each other's minutes; it is a random one.
func packReplica(name uint32) string { return string(binary.BigEndian.AppendUint32(nil, name)) }

// tallyKey is a minute of a subscription.
type tallyKey struct {
	subscription string
	minute       int64
}

// tally is what a replica has counted in a minute of a subscription.
type tally struct {
	counts
	version, saved uint32 // it is to be written where they differ
}

// counts are numbers of attempts, and of those that were answered by how long that took.
type counts struct {
	delivered, refused, failed uint64
	took                       [buckets]uint32
}

// The buckets of latencies: the first is of a millisecond and less, and each ends at √2 times the end of the one before;
// the last has no end. 32 of them reach to 46 s, and one more to 65 s, which is beyond the longest time-out.
const buckets = 34

// bucketEnd is where a bucket ends.
func bucketEnd(i int) time.Duration {
	return time.Duration(float64(time.Millisecond) * math.Pow(2, float64(i)/2))
}

func bucketOf(d time.Duration) int {
	if d <= time.Millisecond {
		return 0
	}
	return min(int(math.Ceil(2*math.Log2(float64(d)/float64(time.Millisecond))-1e-9)), buckets-1)
}

func (c *counts) add(a *Attempt) {
	switch a.Outcome {
	case Delivered:
		c.delivered++
	case Refused, Gone:
		c.refused++
	case Failed:
		c.failed++
	case Cut, Lost:
	}
	if a.Status > 0 {
		c.took[bucketOf(a.Took)]++
	}
}

// packed is the counts in a few bytes: the three numbers, and then of each bucket that is not empty its place and number,
// all as varints.
func (c *counts) packed() string {
	b := binary.AppendUvarint(make([]byte, 0, 24), c.delivered)
	b = binary.AppendUvarint(b, c.refused)
	b = binary.AppendUvarint(b, c.failed)
	for i, n := range c.took {
		if n > 0 {
			b = binary.AppendUvarint(b, uint64(i))
			b = binary.AppendUvarint(b, uint64(n))
		}
	}
	return string(b)
}

// join adds packed counts.
func (c *counts) join(packed string) error {
	b := []byte(packed)
	next := func() uint64 {
		v, n := binary.Uvarint(b)
		if n <= 0 {
			b = nil
			return math.MaxUint64
		}
		b = b[n:]
		return v
	}
	is := *c
	for _, to := range []*uint64{&is.delivered, &is.refused, &is.failed} {
		v := next()
		if v > math.MaxUint32 {
			return errors.New("no counts of attempts")
		}
		*to += v
	}
	for len(b) > 0 {
		i, n := next(), next()
		if i >= buckets || n > math.MaxUint32 {
			return errors.New("no counts of attempts")
		}
		is.took[i] += uint32(n)
	}
	*c = is
	return nil
}

// count counts an attempt, and reports whether there was room to. s.mu is held.
func (l *Log) count(s *shard, a *Attempt, now time.Time) bool {
	if a.Outcome == Cut || a.Outcome == Lost {
		return true // nobody knows what became of it; nothing was sent
	}
	key := tallyKey{a.Subscription, now.Unix() / minute}
	t := s.tallies[key]
	if t == nil {
		if l.counted.Load() >= int64(l.cfg.MaxCounts) {
			return false
		}
		l.counted.Add(1)
		t = &tally{}
		key.subscription = strings.Clone(key.subscription)
		s.tallies[key] = t
	}
	t.add(a)
	t.version++
	return true
}

// due is a tally that is to be written.
type due struct {
	shard   *shard
	key     tallyKey
	value   string
	version uint32
}

// flushMost bounds a pipeline.
const flushMost = 500

// flush writes the tallies that have changed, and forgets those of minutes that are over.
func (l *Log) flush(ctx context.Context, now time.Time) error {
	var all []due
	for i := range l.shards {
		s := &l.shards[i]
		s.mu.Lock()
		for key, t := range s.tallies {
			if t.version != t.saved {
				all = append(all, due{s, key, t.packed(), t.version})
			} else if key.minute < now.Unix()/minute {
				l.drop(s, key)
			}
		}
		s.mu.Unlock()
	}
	for len(all) > 0 {
		n := min(len(all), flushMost)
		if err := l.save(ctx, all[:n], now); err != nil {
			return err
		}
		all = all[n:]
	}
	return nil
}

// drop forgets a tally. s.mu is held.
func (l *Log) drop(s *shard, key tallyKey) {
	delete(s.tallies, key)
	l.counted.Add(-1)
}

func (l *Log) save(ctx context.Context, batch []due, now time.Time) error {
	ctx, cancel := context.WithTimeout(ctx, l.cfg.Timeout)
	defer cancel()
	pipe := l.redis.Pipeline()
	for _, d := range batch {
		key := l.spanKey(d.key.subscription, d.key.minute*minute/span)
		field := l.replica + string(rune(d.key.minute%(span/minute)))
		pipe.HSet(ctx, key, field, d.value)
		pipe.Expire(ctx, key, countTTL)
	}
	if _, err := pipe.Exec(ctx); err != nil {
		return fmt.Errorf("write the counts of %d minutes: %w", len(batch), err)
	}
	for _, d := range batch {
		d.shard.mu.Lock()
		if t := d.shard.tallies[d.key]; t != nil {
			t.saved = d.version
			if t.version == t.saved && d.key.minute < now.Unix()/minute {
				l.drop(d.shard, d.key)
			}
		}
		d.shard.mu.Unlock()
	}
	return nil
}

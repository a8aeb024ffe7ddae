package attempts

import (
	"context"
	"fmt"
	"math"
	"time"

	"github.com/redis/go-redis/v9"
)

// Point is what became of a subscription's attempts in a span of time.
type Point struct {
	At        time.Time // where the span begins
	Delivered int64
	Refused   int64
	Failed    int64
	// How long the endpoint took to answer, where it did: half, 95 and 99 of a hundred answers came within that time. They
	// are told to within a fifth.
	P50, P95, P99 time.Duration
}

// SeriesMost is how far back a series reaches.
const SeriesMost = 24 * time.Hour

// Series returns what became of a subscription's attempts since a time, in steps of whole minutes, up to now: at most 24
// hours. Steps begin at multiples of their length; there is a point for each, also where there were no attempts. Those of
// the last seconds are not in it yet. The error is ErrUnavailable, or ctx's.
func (l *Log) Series(ctx context.Context, subscription string, since time.Time, step time.Duration) ([]Point, error) {
	now := time.Now()
	if oldest := now.Add(-SeriesMost); since.Before(oldest) {
		since = oldest
	}
	if since.After(now) {
		return nil, nil
	}
	each := min(max(int64(step/time.Minute), 1), int64(SeriesMost/time.Minute)) * minute
	first := since.Unix() / each
	all := make([]counts, now.Unix()/each-first+1)

	limited, cancel := context.WithTimeout(ctx, l.cfg.Timeout)
	defer cancel()
	pipe := l.redis.Pipeline()
	hashes := map[int64]*redis.MapStringStringCmd{}
	for number := first * each / span; number <= spanOf(now); number++ {
		hashes[number] = pipe.HGetAll(limited, l.spanKey(subscription, number))
	}
	if _, err := pipe.Exec(limited); err != nil {
		return nil, unavailable("read the counts of attempts", err)
	}
	for number, hash := range hashes {
		for field, value := range hash.Val() {
			if len(field) != len(l.replica)+1 {
				continue
			}
			at := number*span + int64(field[len(field)-1])*minute
			if i := at/each - first; i >= 0 && i < int64(len(all)) {
				if err := all[i].join(value); err != nil { // of another version of the program
					l.log.Debug("counts that cannot be read", "subscription", subscription, "error", err)
				}
			}
		}
	}
	points := make([]Point, len(all))
	for i := range all {
		c := &all[i]
		points[i] = Point{
			At: time.Unix((first+int64(i))*each, 0).UTC(), Delivered: int64(c.delivered), Refused: int64(c.refused), Failed: int64(c.failed),
			P50: c.within(0.5), P95: c.within(0.95), P99: c.within(0.99),
		}
	}
	return points, nil
}

// within is the time within which a share of the answers came: the geometric way through the bucket that it falls into.
func (c *counts) within(share float64) time.Duration {
	var total uint64
	for _, n := range c.took {
		total += uint64(n)
	}
	if total == 0 {
		return 0
	}
	rank := share * float64(total)
	for i, n := range c.took {
		if rank > float64(n) {
			rank -= float64(n)
			continue
		}
		if i == 0 {
			return time.Duration(rank / float64(n) * float64(bucketEnd(0)))
		}
		return time.Duration(float64(bucketEnd(i-1)) * math.Pow(2, rank/float64(n)/2)).Round(time.Microsecond)
	}
	return bucketEnd(buckets - 1)
}

// unavailable hides which server it was from those who asked, and not from the log.
func unavailable(what string, err error) error {
	return fmt.Errorf("%s: %w (%w)", what, ErrUnavailable, err)
}

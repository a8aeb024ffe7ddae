package attempts

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"sync"

	"github.com/eventissuer/eventissuer/broker"
)

const (
	pageDefault = 50
	// near is how far apart two attempts of a page may be, in offsets, to be read at once.
	near = 24
	// meanBytes is about what an attempt takes on the log.
	meanBytes = 1 << 10
	readMost  = 1 << 20
	// readersMost is how many fetches a page makes at once.
	readersMost = 4
)

// Page returns a subscription's attempts that the query asks for, newest first, and what Query.Before is to be for those
// before them; "": there are none. Errors: ErrID of Query.Before, ErrUnavailable where Redis or the log does not answer, and
// ctx's.
func (l *Log) Page(ctx context.Context, subscription string, q Query) (items []Attempt, next string, err error) {
	all, err := l.referred(ctx, subscription)
	if err != nil {
		return nil, "", err
	}
	refs, err := q.pick(all)
	if err != nil {
		return nil, "", err
	}
	limit := min(max(q.Limit, 0), MaxPage)
	limit = cmp.Or(limit, pageDefault)
	f := l.fetch(subscription)
	for len(items) < limit && len(refs) > 0 {
		n := min(limit-len(items), len(refs))
		got, err := f.read(ctx, refs[:n])
		if err != nil {
			return nil, "", err
		}
		last := refs[n-1]
		for i := range got {
			if got[i] != nil && q.wants(got[i]) {
				items = append(items, *got[i])
			}
		}
		if refs = f.kept(refs[n:]); len(refs) > 0 {
			next = last.id()
		} else {
			next = ""
		}
	}
	return items, next, nil
}

// Find returns attempts of a subscription by their ids, in the order of these. Those that the log no longer has, and those
// of other subscriptions, are left out. Errors: ErrID, ErrUnavailable, and ctx's.
func (l *Log) Find(ctx context.Context, subscription string, ids []string) ([]Attempt, error) {
	refs := make([]reference, len(ids))
	for i, id := range ids {
		r, err := parseID(id)
		if err != nil {
			return nil, err
		}
		refs[i] = r
	}
	found := make([]Attempt, 0, min(len(ids), MaxPage))
	for chunk := range slices.Chunk(refs, MaxPage) {
		got, err := l.fetch(subscription).read(ctx, chunk)
		if err != nil {
			return nil, err
		}
		for _, a := range got {
			if a != nil {
				found = append(found, *a)
			}
		}
	}
	return found, nil
}

// referred returns all that Redis refers to of a subscription, in the order of pages.
func (l *Log) referred(ctx context.Context, subscription string) ([]reference, error) {
	limited, cancel := context.WithTimeout(ctx, l.cfg.Timeout)
	defer cancel()
	texts, err := l.redis.LRange(limited, l.listKey(subscription), 0, -1).Result()
	if err != nil {
		return nil, unavailable("find a subscription's attempts in Redis", err)
	}
	refs := make([]reference, 0, len(texts))
	for _, text := range texts {
		if r, ok := unpack(text); ok {
			refs = append(refs, r)
		}
	}
	return arrange(refs), nil
}

// fetch reads a subscription's attempts, and remembers where the log begins.
type fetch struct {
	log          *Log
	subscription string

	mu     sync.Mutex
	starts map[int32]int64 // of partitions; guarded by mu
}

func (l *Log) fetch(subscription string) *fetch {
	return &fetch{log: l, subscription: subscription, starts: map[int32]int64{}}
}

// kept leaves out what is known to be deleted.
func (f *fetch) kept(refs []reference) []reference {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.DeleteFunc(refs, func(r reference) bool { return r.offset < f.starts[r.partition] })
}

func (f *fetch) begins(partition int32, first int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.starts[partition] = max(f.starts[partition], first)
}

// read returns the attempts by the places of their references; nil: the log does not have it.
func (f *fetch) read(ctx context.Context, refs []reference) ([]*Attempt, error) {
	order := make([]int, len(refs))
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(a, b int) int {
		return cmp.Or(cmp.Compare(refs[a].partition, refs[b].partition), cmp.Compare(refs[a].offset, refs[b].offset))
	})
	var runs [][]int // of neighbours
	for at := 0; at < len(order); {
		end := at + 1
		for end < len(order) && neighbours(refs[order[end-1]], refs[order[end]]) {
			end++
		}
		runs = append(runs, order[at:end])
		at = end
	}
	got := make([]*Attempt, len(refs))
	errs := make([]error, len(runs))
	slots := make(chan struct{}, readersMost)
	var reading sync.WaitGroup
	for i, run := range runs {
		slots <- struct{}{}
		reading.Go(func() {
			defer func() { <-slots }()
			errs[i] = f.readRun(ctx, refs, run, got)
		})
	}
	reading.Wait()
	return got, errors.Join(errs...)
}

func neighbours(a, b reference) bool { return a.partition == b.partition && b.offset-a.offset <= near }

// readRun reads neighbours of one partition, by ascending offset, into their places of got.
func (f *fetch) readRun(ctx context.Context, refs []reference, run []int, got []*Attempt) error {
	partition, last := refs[run[0]].partition, refs[run[len(run)-1]].offset
	for len(run) > 0 {
		at := refs[run[0]].offset
		size := int(min((last-at+1)*meanBytes, readMost))
		batch, err := f.log.topic.Read(ctx, f.log.cfg.Topic, partition, at, size)
		var outside *broker.RangeError
		switch {
		case errors.As(err, &outside):
			f.begins(partition, outside.Bounds.First)
			run = run[1:]
			for len(run) > 0 && (refs[run[0]].offset < outside.Bounds.First || refs[run[0]].offset >= outside.Bounds.Next) {
				run = run[1:]
			}
			continue
		case errors.Is(err, broker.ErrNoTopic), errors.Is(err, broker.ErrNoPartition):
			return nil
		case err != nil && ctx.Err() != nil:
			return ctx.Err()
		case err != nil:
			return unavailable("read attempts from the log", err)
		}
		f.begins(partition, batch.Start)
		for i := range batch.Records {
			r := &batch.Records[i]
			for len(run) > 0 && refs[run[0]].offset < r.Offset {
				run = run[1:]
			}
			for len(run) > 0 && refs[run[0]].offset == r.Offset {
				got[run[0]] = f.attempt(r, refs[run[0]])
				run = run[1:]
			}
		}
		if batch.Next <= at {
			return nil // the log ends before it
		}
		for len(run) > 0 && refs[run[0]].offset < batch.Next {
			run = run[1:]
		}
	}
	return nil
}

// attempt reads a record, if it is the one that is referred to: the topic may be another by now, or the reference made up.
func (f *fetch) attempt(r *broker.Record, ref reference) *Attempt {
	if string(r.Key) != f.subscription {
		return nil
	}
	a := &Attempt{}
	if a.UnmarshalJSON(r.Value) != nil || a.Subscription != f.subscription || a.At.UnixMilli() != ref.at {
		return nil
	}
	a.ID = ref.id()
	return a
}

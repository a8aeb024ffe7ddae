package session

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/eventissuer/eventissuer/internal/cursor"
	"github.com/eventissuer/eventissuer/internal/fanout"
	"github.com/eventissuer/eventissuer/internal/filter"
)

// Request is what a client asks for, after the gateway read and checked it.
type Request struct {
	Streams  []fanout.Stream
	Filter   *filter.Filter
	After    *cursor.Cursor // explicit: Last-Event-ID or after=; nil where there is none
	From     From           // where there is no cursor
	Owner    string         // of the named consumer
	Consumer string         // "" for none
	Autosave bool
	Typed    bool // SSE: the event field is the event's type

	Heartbeat time.Duration // 0: the server's
	Flush     time.Duration // negative: at once; 0: the server's

	Limit int           // of a page; at least 1
	Wait  time.Duration // of a long-poll

	Address   string // the client's
	RequestID string // names the session in the problem it ends with; "" for none
}

// From says where reading begins without a cursor.
type From struct {
	Oldest bool
	Time   time.Time // log-append time; zero for none
	// neither: latest
}

// ErrOtherStream tells that an explicit cursor is of none of the streams asked for.
var ErrOtherStream = errors.New("the cursor is of another stream")

// prepare opens the hubs and finds where reading begins. The feed is to be closed.
func (s *Server) prepare(ctx context.Context, q Request, shard int, owner any, notify func()) (_ feed, err error) {
	f := feed{filter: q.Filter, autosave: q.Autosave && q.Consumer != "", parts: make([]part, 0, len(q.Streams))}
	defer func() {
		if err != nil {
			f.close()
		}
	}()
	if q.After != nil {
		known := false
		for _, st := range q.Streams {
			_, ok := q.After.For(st.Name)
			known = known || ok
		}
		if !known {
			return feed{}, ErrOtherStream
		}
	}
	for _, st := range q.Streams {
		hub, err := s.deps.Hubs.Open(ctx, st)
		if err != nil {
			return feed{}, fmt.Errorf("open stream %s: %w", st.Name, err)
		}
		o := fanout.Options{Filter: q.Filter, Epoch: cursor.EpochOf(hub.Epoch()), Shard: shard, Owner: owner, Notify: notify}
		p := part{stream: st.Name, tag: cursor.TagOf(st.Name)}
		var at *cursor.StreamCursor
		if q.After != nil {
			if c, ok := q.After.For(st.Name); ok {
				at = &c
				o.Next, o.Epoch = c.Next, c.Epoch
				if o.Next == nil {
					o.Next = []int64{}
				}
			}
		}
		if q.Consumer != "" {
			if err := s.hold(ctx, q, hub, at, &p, &o); err != nil {
				return feed{}, err
			}
		} else if at == nil {
			if o.Next, err = s.resolve(ctx, q.From, hub); err != nil {
				return feed{}, err
			}
		}
		p.reader = hub.Reader(o)
		f.parts = append(f.parts, p)
	}
	for i := range f.parts {
		f.stand(&f.parts[i], nil)
	}
	return f, nil
}

// hold takes the named consumer of one stream over.
func (s *Server) hold(ctx context.Context, q Request, hub *fanout.Hub, at *cursor.StreamCursor, p *part, o *fanout.Options) error {
	epoch := cursor.EpochOf(hub.Epoch())
	held, err := s.deps.Consumers.Open(ctx, cursor.OpenRequest{
		Name:       cursor.Name{Owner: q.Owner, Stream: hub.Stream().Name, Consumer: q.Consumer},
		Epoch:      epoch,
		Partitions: len(hub.Latest()),
		Presented:  at,
		Poll:       q.Limit > 0,
		From: func(ctx context.Context) ([]int64, error) {
			next, err := s.resolve(ctx, q.From, hub)
			if next == nil && err == nil {
				next = hub.Latest()
			}
			return next, err
		},
	})
	if err != nil {
		return fmt.Errorf("open consumer %s: %w", q.Consumer, err)
	}
	p.held, p.lease, p.gaps = held, held.Lease(), held.Gap()
	o.Next, o.Epoch = held.Start(), epoch
	return nil
}

// resolve turns from= into offsets; nil means latest.
func (s *Server) resolve(ctx context.Context, from From, hub *fanout.Hub) ([]int64, error) {
	topic := hub.Stream().Topic
	switch {
	case from.Oldest:
		bounds, err := s.deps.Log.Bounds(ctx, topic)
		if err != nil {
			return nil, fmt.Errorf("find the beginning of %s: %w", topic, err)
		}
		next := make([]int64, len(bounds))
		for p, b := range bounds {
			next[p] = b.First
		}
		return next, nil
	case !from.Time.IsZero():
		next, err := s.deps.Log.At(ctx, topic, from.Time)
		if err != nil {
			return nil, fmt.Errorf("find the time in %s: %w", topic, err)
		}
		return next, nil
	}
	return nil, nil
}

package session

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/eventissuer/eventissuer/internal/clock"
	"github.com/eventissuer/eventissuer/internal/cursor"
	"github.com/eventissuer/eventissuer/internal/fanout"
	"github.com/eventissuer/eventissuer/internal/filter"
)

// Request is what a client asks for, after the gateway read and checked it.
type Request struct {
	Streams  []fanout.Stream
	States   []fanout.State // of each of Streams: what is kept for snapshots; shorter where there is none
	Filter   *filter.Filter
	After    *cursor.Cursor // explicit: Last-Event-ID or after=; nil where there is none
	From     From           // where there is no cursor
	Owner    string         // of the named consumer
	Consumer string         // "" for none
	Autosave bool
	Typed    bool // SSE: the event field is the event's type
	Gzip     bool // the client accepts a stream of SSE or NDJSON that is compressed by gzip
	// Conflate gives each key's latest event once in so long; 0: every event. Of a page it says only that it has each key's
	// latest event.
	Conflate time.Duration
	Renew    bool // a reader that falls out of the ring is given a snapshot rather than what it missed

	// Subscription is the id of the subscription that a session is opened of; "" for one that reads Streams by itself.
	// Filter, After, From, Consumer and Autosave mean nothing to it, and Streams is what operators are told.
	Subscription string
	Turned       string // of a page of it: the cursor of the page before, which it acknowledges; "" for the first

	Heartbeat time.Duration // 0: the server's
	Flush     time.Duration // negative: at once; 0: the server's

	Limit int           // of a page; at least 1
	Wait  time.Duration // of a long-poll

	Address   string // the client's
	RequestID string // names the session in the problem it ends with; "" for none
}

// From says where reading begins without a cursor.
type From struct {
	Oldest   bool
	Snapshot bool      // the latest event of each key, and then what follows
	Time     time.Time // log-append time; zero for none
	// neither: latest
}

// ErrOtherStream tells that an explicit cursor is of none of the streams asked for.
var ErrOtherStream = errors.New("the cursor is of another stream")

// ErrBehind tells that this replica does not notice in time that a stream was deleted and made again.
var ErrBehind = errors.New("this replica has yet to notice that the stream was deleted and made again")

// prepare opens the hubs and finds where reading begins. The feed is to be closed.
func (s *Server) prepare(ctx context.Context, q Request, shard int, owner any, notify func()) (_ feed, err error) {
	f := feed{
		filter: q.Filter, autosave: q.Autosave && q.Consumer != "", parts: make([]part, 0, len(q.Streams)),
		options: fanout.Options{Filter: q.Filter, Shard: shard, Owner: owner, Notify: notify, Renew: q.Renew},
		whole:   q.From.Snapshot, batches: q.Conflate > 0, interval: q.Conflate, page: q.Limit > 0,
	}
	if f.page {
		f.interval = 0
	}
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
	if q.From, err = s.fromOfNew(ctx, q); err != nil {
		return feed{}, err
	}
	for i, st := range q.Streams {
		hub, err := s.deps.Hubs.Open(ctx, st)
		if err != nil {
			return feed{}, fmt.Errorf("open stream %s: %w", st.Name, err)
		}
		if i < len(q.States) {
			hub.Keep(q.States[i])
		}
		p, err := s.enter(ctx, q, hub, &f)
		if err != nil {
			return feed{}, err
		}
		f.parts = append(f.parts, p)
	}
	for i := range f.parts {
		if p := &f.parts[i]; len(p.gaps) == 0 {
			f.stand(p, nil)
		}
	}
	return f, nil
}

// fromOfNew is where a consumer of several streams begins in those that it has not read yet: at their oldest events, where
// it has read others. They were not there when it began, and all in them is still to come.
func (s *Server) fromOfNew(ctx context.Context, q Request) (From, error) {
	if q.Consumer == "" || len(q.Streams) < 2 || q.From != (From{}) {
		return q.From, nil
	}
	for _, st := range q.Streams {
		_, err := s.deps.Consumers.Get(ctx, cursor.Name{Owner: q.Owner, Stream: st.Name, Consumer: q.Consumer})
		if err == nil {
			return From{Oldest: true}, nil
		}
		if !errors.Is(err, cursor.ErrNotFound) {
			return q.From, fmt.Errorf("find consumer %s: %w", q.Consumer, err)
		}
	}
	return q.From, nil
}

// enter finds where reading begins in one stream, and begins.
func (s *Server) enter(ctx context.Context, q Request, hub *fanout.Hub, f *feed) (p part, err error) {
	name := hub.Stream().Name
	p = part{stream: name, tag: cursor.TagOf(name), picture: hub.KeepsState() && (f.whole || q.Renew || f.batches)}
	o := f.options
	o.Epoch = cursor.EpochOf(hub.Epoch())
	var at *cursor.StreamCursor
	if q.After != nil {
		if c, ok := q.After.For(name); ok {
			at = &c
		} else if q.From == (From{}) {
			q.From.Oldest = true // it was not there when the cursor was given: all in it is still to come
		}
	}
	if at != nil && at.Epoch != o.Epoch { // of the life before, or of one that another replica knows already
		if err := s.follow(ctx, hub); err != nil {
			return p, err
		}
		o.Epoch = cursor.EpochOf(hub.Epoch())
	}
	switch {
	case q.Consumer != "":
		if err := s.hold(ctx, q, hub, at, &p, &o); err != nil {
			return p, err
		}
	case at != nil:
		o.Next, o.Epoch, o.Doubt = at.Next, at.Epoch, at.Doubt
		p.snapshot = at.Doubt && p.picture && q.Renew
		if o.Next == nil {
			o.Next = []int64{}
		}
	case q.From.Snapshot:
		p.snapshot, p.first = true, true
	default:
		if o.Next, err = s.resolve(ctx, q.From, hub); err != nil {
			return p, err
		}
	}
	f.read(&p, hub, o, f.whole)
	lost := p.reader.Gaps()
	if len(p.gaps) == 0 {
		p.epoch, p.next = o.Epoch, o.Next // where the client stands until it is told
	}
	if len(lost) == 0 && len(p.gaps) == 0 {
		p.epoch, p.next = p.reader.Epoch(), nil
		return p, nil
	}
	p.next = slices.Clone(p.next)
	if p.held != nil && len(lost) > 0 { // the stream was made anew a moment ago
		p.held.Recreated(p.reader.Epoch(), len(hub.Latest()))
	}
	p.gaps = append(p.gaps, lost...)
	return p, nil
}

// follow waits until the hub knows the stream's present life, as the log tells it.
func (s *Server) follow(ctx context.Context, hub *fanout.Hub) error {
	present, err := s.present(ctx, hub)
	if err != nil {
		return err
	}
	wait, cancel := context.WithTimeout(ctx, followTime)
	defer cancel()
	for cursor.EpochOf(hub.Epoch()) != present {
		if err := hub.Err(); err != nil {
			return err
		}
		if wait.Err() != nil {
			return ErrBehind
		}
		clock.Pause(wait, followStep)
	}
	return nil
}

// present asks the log for the epoch of a hub's stream.
func (s *Server) present(ctx context.Context, hub *fanout.Hub) (uint64, error) {
	info, err := s.deps.Log.Describe(ctx, hub.Stream().Topic)
	if err != nil {
		return 0, fmt.Errorf("ask which life of %s is the present one: %w", hub.Stream().Topic, err)
	}
	return cursor.EpochOf(info.Epoch), nil
}

// A hub asks for its topic's epoch every second.
const (
	followTime = 5 * time.Second
	followStep = 20 * time.Millisecond
)

// hold takes the named consumer of one stream over. Where the consumer has met a life of the stream that this replica has
// not noticed yet, it waits for the hub.
func (s *Server) hold(ctx context.Context, q Request, hub *fanout.Hub, at *cursor.StreamCursor, p *part, o *fanout.Options) error {
	held, err := s.open(ctx, q, hub, at, o.Epoch)
	if errors.Is(err, cursor.ErrEpoch) {
		if err := s.follow(ctx, hub); err != nil {
			return err
		}
		o.Epoch = cursor.EpochOf(hub.Epoch())
		held, err = s.open(ctx, q, hub, at, o.Epoch)
	}
	if err != nil {
		return fmt.Errorf("open consumer %s: %w", q.Consumer, err)
	}
	p.held, p.lease, p.cut, p.gaps = held, held.Lease(), held.Cut(), held.Gap()
	if len(p.gaps) > 0 {
		came := held.Came()
		p.epoch, p.cut, p.next = came.Epoch, came.Cut, came.Next
	}
	o.Next = held.Start()
	return nil
}

func (s *Server) open(ctx context.Context, q Request, hub *fanout.Hub, at *cursor.StreamCursor, epoch uint64) (*cursor.Held, error) {
	latest := hub.Latest()
	return s.deps.Consumers.Open(ctx, cursor.OpenRequest{
		Name:       cursor.Name{Owner: q.Owner, Stream: hub.Stream().Name, Consumer: q.Consumer},
		Epoch:      epoch,
		Partitions: len(latest),
		Presented:  at,
		Present:    func(ctx context.Context) (uint64, error) { return s.present(ctx, hub) },
		Latest:     latest,
		Ends:       func(ctx context.Context) ([]int64, error) { return s.ends(ctx, hub.Stream().Topic) },
		Poll:       q.Limit > 0,
		From: func(ctx context.Context) ([]int64, error) {
			next, err := s.resolve(ctx, q.From, hub)
			if next == nil && err == nil {
				next = hub.Latest()
			}
			return next, err
		},
	})
}

// ends asks the log where a topic ends.
func (s *Server) ends(ctx context.Context, topic string) ([]int64, error) {
	bounds, err := s.deps.Log.Bounds(ctx, topic)
	if err != nil {
		return nil, fmt.Errorf("find the ends of %s: %w", topic, err)
	}
	next := make([]int64, len(bounds))
	for p, b := range bounds {
		next[p] = b.Next
	}
	return next, nil
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

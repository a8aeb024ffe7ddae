package cursor

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"

	"github.com/eventissuer/eventissuer/internal/table"
)

// What callers of Consumers decide on. Errors of the table pass through: table.ErrNotReady, and what wraps
// broker.ErrRefused.
var (
	// ErrSuperseded says that the presented cursor's lease was taken over by a later session: the client is to stop (204).
	ErrSuperseded = errors.New("a later session has taken over this consumer")
	// ErrBusy says that others took the consumer over at the same time, again and again: retry later (503).
	ErrBusy = errors.New("consumer is being taken over by others")
	// ErrInDoubt says that nothing can be said about whether the position was saved: the client retries (503).
	ErrInDoubt = errors.New("not known in time whether the consumer was saved")
	// ErrNotFound says that there is no such consumer.
	ErrNotFound = errors.New("no such consumer")
	// ErrReset is the reason of a lease lost to a reset.
	ErrReset = errors.New("the consumer was reset")
	// ErrTruncated is the reason of a lease lost because the log lost its end and another session of the same lease sank
	// the position: the client comes back with its cursor.
	ErrTruncated = errors.New("the log lost its end under the consumer")
	// ErrEpoch says that this replica has not yet noticed that the stream was deleted and made again: retry (503).
	ErrEpoch = errors.New("the stream was made again, which this replica has yet to notice")
	// ErrDeleted is the reason of a lease lost to a deletion.
	ErrDeleted = errors.New("the consumer was deleted")
	// ErrLost says that a session no longer holds its lease; Held.Reason wraps what took it.
	ErrLost = errors.New("the lease is lost")
)

// retries of a write that was rejected (rule 4).
const retries = 3

// ConsumersConfig says where consumers are kept.
type ConsumersConfig struct {
	Table      *table.Table          // of topic `_eventissuer.consumers`; run by the caller, after NewConsumers
	Redis      redis.UniversalClient // for hints, with ContextTimeoutEnabled; nil: none
	Log        *slog.Logger
	Registerer prometheus.Registerer

	Prefix       string        // of keys in Redis; default "eventissuer:"
	SaveEvery    time.Duration // between saves of a moved position; default 10 s
	HintEvery    time.Duration // between hints of a moved position; default 1 s
	HintTimeout  time.Duration // of Redis; default 250 ms
	SavesPerSec  float64       // of all replicas, above which SaveEvery is stretched; default 2,000
	SaveParallel int           // saves under way at once by the timer; default 64
}

// Consumers are the named consumers of all streams, as this replica sees and serves them.
type Consumers struct {
	cfg     ConsumersConfig // static
	table   *table.Table
	hints   *hints
	pace    *pace
	metrics *metrics
	log     *slog.Logger

	mu    sync.Mutex
	seats map[string]*seat   // guarded by mu: the lease that this replica serves, by the consumer's id
	dirty map[*seat]struct{} // guarded by mu: seats whose confirmed position is not saved
}

// NewConsumers returns the consumers of a table that does not run yet.
func NewConsumers(cfg ConsumersConfig) (*Consumers, error) {
	if cfg.Table == nil {
		return nil, errors.New("named consumers need a table")
	}
	cfg.Prefix = cmp.Or(cfg.Prefix, "eventissuer:")
	cfg.SaveEvery = cmp.Or(cfg.SaveEvery, 10*time.Second)
	cfg.HintEvery = cmp.Or(cfg.HintEvery, time.Second)
	cfg.HintTimeout = cmp.Or(cfg.HintTimeout, 250*time.Millisecond)
	cfg.SavesPerSec = cmp.Or(cfg.SavesPerSec, 2000)
	cfg.SaveParallel = cmp.Or(cfg.SaveParallel, 64)
	cfg.Log = cmp.Or(cfg.Log, slog.New(slog.DiscardHandler))
	if !heedsContexts(cfg.Redis) {
		cfg.Log.Warn("the Redis client was made without ContextTimeoutEnabled: while Redis is away, sessions' starts wait for its own time-outs")
	}
	m := newMetrics(cfg.Registerer)
	c := &Consumers{
		cfg:     cfg,
		table:   cfg.Table,
		hints:   newHints(cfg.Redis, cfg.Prefix, cfg.HintTimeout, cfg.Log, m),
		pace:    newPace(cfg.SaveEvery, cfg.SavesPerSec),
		metrics: m,
		log:     cfg.Log,
		seats:   map[string]*seat{},
		dirty:   map[*seat]struct{}{},
	}
	c.table.Watch(c.observe)
	return c, nil
}

// OpenRequest asks for a session of a consumer.
type OpenRequest struct {
	Name       Name
	Epoch      uint64        // of the stream at present
	Partitions int           // of the stream at present
	Presented  *StreamCursor // the client's explicit cursor of this stream; nil: none
	// Present asks the log for the stream's epoch, where the table's is another than Epoch. Nil: Epoch is right.
	Present func(ctx context.Context) (uint64, error)
	// Latest is up to where the log is known to go, and Ends asks the log itself, where a position lies beyond Latest: a
	// position beyond the log's end points at what was lost. Nil Ends: nobody asks.
	Latest []int64
	Ends   func(ctx context.Context) ([]int64, error)
	// From resolves `from` to offsets, for a consumer that is not there yet and for which no cursor was presented.
	From func(ctx context.Context) ([]int64, error)
	// Poll says that a client which presents the current lease goes on under it, instead of taking over.
	Poll bool
}

// Open begins a session: it creates the consumer, takes it over or, for a poll, goes on under its lease. It blocks until
// that is in the log. Errors: ErrSuperseded, ErrBusy, ErrInDoubt, ErrName, ErrEpoch, what From, Present and Ends returned,
// and the table's.
func (c *Consumers) Open(ctx context.Context, r OpenRequest) (*Held, error) {
	id, err := r.Name.id()
	if err != nil {
		return nil, err
	}
	if resolve := r.From; resolve != nil {
		once := sync.OnceValues(func() ([]int64, error) { return resolve(ctx) })
		r.From = func(context.Context) ([]int64, error) { return once() }
	}
	h, err := again(ctx, func() (*Held, error) { return c.open(ctx, id, &r) })
	c.metrics.opened(err)
	return h, err
}

// again repeats fn from the newer state while its write is rejected: at most three times, jittered (rule 4).
func again[T any](ctx context.Context, fn func() (T, error)) (T, error) {
	for attempt := 0; ; attempt++ {
		v, err := fn()
		switch {
		case errors.Is(err, table.ErrInDoubt):
			return v, fmt.Errorf("%w: %w", ErrInDoubt, err)
		case !errors.Is(err, table.ErrConflict):
			return v, err
		case attempt == retries:
			return v, ErrBusy
		}
		select {
		case <-time.After(rand.N(20 * time.Millisecond << attempt)):
		case <-ctx.Done():
			return v, ctx.Err()
		}
	}
}

func (c *Consumers) open(ctx context.Context, id string, r *OpenRequest) (*Held, error) {
	cur, number, err := c.current(ctx, id, r.Presented)
	if err != nil {
		return nil, err
	}
	switch {
	case cur == nil:
		return c.create(ctx, id, r)
	case number != 0 && number < cur.Lease && number != cur.Parent:
		return nil, ErrSuperseded // rule 5
	}
	if err := agree(ctx, uint64(cur.Pos.Epoch), r.Epoch, r.Present); err != nil {
		return nil, err
	}
	if number == cur.Lease && r.Poll {
		return c.goOn(ctx, id, r, cur) // rule 5
	}
	return c.takeOver(ctx, id, r, cur, number)
}

// agree makes sure that a consumer is moved to another epoch only where that is the stream's present one (rule 3).
func agree(ctx context.Context, table, given uint64, present func(context.Context) (uint64, error)) error {
	if table == given || present == nil {
		return nil
	}
	now, err := present(ctx)
	if err == nil && now != given {
		return ErrEpoch
	}
	return err
}

// ends asks the log where it ends, for positions that lie beyond what is known of it; nil where none does. It is asked
// after the positions are known: what was confirmed meanwhile would seem to lie beyond an older end.
func (r *OpenRequest) ends(ctx context.Context, positions ...[]int64) ([]int64, error) {
	if r.Ends == nil || !slices.ContainsFunc(positions, func(p []int64) bool { return beyond(p, r.Latest) }) {
		return nil, nil
	}
	ends, err := r.Ends(ctx)
	if err != nil {
		return nil, fmt.Errorf("finding the log's end for consumer %s: %w", r.Name.Consumer, err)
	}
	for _, p := range positions {
		if len(p) > len(ends) { // partitions only grow: these are not known everywhere yet
			ends = append(ends, p[len(ends):]...)
		}
	}
	return ends, nil
}

// current reads a consumer's version from the table, nil where there is none, and the presented cursor's number of the
// same incarnation, 0 where there is none. A number that this replica has not seen yet is waited for.
func (c *Consumers) current(ctx context.Context, id string, presented *StreamCursor) (*version, uint64, error) {
	for synced := false; ; synced = true {
		cur, err := c.read(id)
		if err != nil || cur == nil || presented == nil || presented.Lease.Incarnation != cur.incarnation() {
			return cur, 0, err
		}
		number := presented.Lease.Number
		if number <= cur.Lease {
			return cur, number, nil
		}
		if synced {
			return cur, 0, nil // the log lost the version that gave this number
		}
		if err := c.table.Sync(ctx, id); err != nil {
			return nil, 0, err
		}
	}
}

// create is rule 2. Where somebody was first, the write is rejected, and what they made is taken over.
func (c *Consumers) create(ctx context.Context, id string, r *OpenRequest) (*Held, error) {
	h := &Held{}
	switch {
	case r.Presented != nil:
		h.begin(r, r.Presented.Epoch, r.Presented.Next)
		h.came = StreamCursor{Epoch: r.Presented.Epoch, Next: r.Presented.Next}
	case r.From == nil:
		h.begin(r, r.Epoch, nil)
	default:
		from, err := r.From(ctx)
		if err != nil {
			return nil, fmt.Errorf("resolving where consumer %s begins: %w", r.Name.Consumer, err)
		}
		h.begin(r, r.Epoch, from)
	}
	v := &version{Incarnation: newIncarnation(), Lease: 1, Pos: position{epoch(r.Epoch), h.start}, Reason: reasonCreated}
	if err := c.put(ctx, id, nil, v); err != nil {
		return nil, err
	}
	h.seat = c.sit(id, v, v.Pos.Next, r.Partitions)
	return h, nil
}

// takeOver is rule 4.
func (c *Consumers) takeOver(ctx context.Context, id string, r *OpenRequest, cur *version, number uint64) (*Held, error) {
	// The hint is read after the version: a later lease's hint then counts as none.
	at := cur.in(r.Epoch)
	if hint, ok := c.hints.read(ctx, id); ok && hint.of(cur) && hint.epoch == r.Epoch {
		at = join(at, hint.place)
	}
	if number == cur.Lease && r.Presented.Epoch == r.Epoch {
		at = join(at, place{r.Presented.Cut, trim(r.Presented.Next, r.Partitions)})
	}
	var presented []int64
	if r.Presented != nil && r.Presented.Epoch == r.Epoch {
		presented = r.Presented.Next
	}
	ends, err := r.ends(ctx, at.next, presented)
	if err != nil {
		return nil, err
	}
	to := at
	if ends != nil && beyond(at.next, ends) {
		to = at.sunk(ends, cur.in(r.Epoch), r.Presented != nil, presented)
	}
	v := &version{
		Incarnation: cur.Incarnation, Lease: cur.Lease + 1, Parent: number,
		Cut: to.cut, Pos: position{epoch(r.Epoch), to.next}, Reason: reasonTaken,
	}
	if err := c.put(ctx, id, cur, v); err != nil {
		return nil, err
	}
	h := &Held{}
	switch {
	case r.Presented != nil: // decides where reading begins, whatever its number; pos is not lowered (rule 5)
		h.begin(r, r.Presented.Epoch, r.Presented.Next)
		h.came = *r.Presented
		if number == 0 {
			h.came.Cut = at.cut
		}
		h.lower(presented, number != 0 && r.Presented.Cut < at.cut, to.next, ends)
	case cur.Pos.Epoch != epoch(r.Epoch) && at.next == nil: // no hint of the new epoch either
		h.begin(r, uint64(cur.Pos.Epoch), cur.Pos.Next) // rule 3
		h.came = StreamCursor{Epoch: uint64(cur.Pos.Epoch), Next: cur.Pos.Next, Cut: cur.Cut}
	default:
		h.begin(r, r.Epoch, at.next)
		h.came = StreamCursor{Epoch: r.Epoch, Next: at.next, Cut: at.cut}
		h.sink(to.next)
	}
	h.cut.Store(to.cut)
	h.seat = c.sit(id, v, to.next, r.Partitions)
	return h, nil
}

// lower has reading that begins where a cursor says begin lower: at the consumer's position where the cursor is of
// before the log lost its end, and else not beyond the log's end.
func (h *Held) lower(presented []int64, stale bool, pos, ends []int64) {
	switch {
	case presented == nil:
	case stale:
		h.sink(pos)
	case ends != nil:
		h.sink(ends)
	}
}

// sunk is a place after the log lost its end: at the ends where it lay beyond them, or lower where a client says that it
// reads from lower, since what has been appended meanwhile is then still to be read by it. It stays at what is saved where
// that lies within the ends.
func (a place) sunk(ends []int64, saved place, said bool, presented []int64) place {
	to := place{a.cut + 1, Max(a.next, nil)}
	for p, end := range ends {
		if p >= len(to.next) || to.next[p] <= end {
			continue
		}
		to.next[p] = end
		if !said {
			continue
		}
		var low int64
		if p < len(presented) {
			low = presented[p]
		}
		if saved.cut == a.cut && p < len(saved.next) && saved.next[p] <= end {
			low = max(low, saved.next[p])
		}
		to.next[p] = min(end, low)
	}
	return to
}

// goOn serves a poll under the lease that it presents. What it presents is the client's word.
func (c *Consumers) goOn(ctx context.Context, id string, r *OpenRequest, cur *version) (*Held, error) {
	h := &Held{poll: true, came: *r.Presented}
	h.begin(r, r.Presented.Epoch, r.Presented.Next)
	h.seat = c.sit(id, cur, nil, r.Partitions)
	if uint64(cur.Pos.Epoch) != r.Epoch {
		h.seat.recreated(r.Epoch, r.Partitions)
	}
	h.cut.Store(h.seat.raise(r.Presented))
	if r.Presented.Epoch != r.Epoch {
		return h, nil
	}
	h.seat.confirm(*r.Presented, r.Partitions)
	at := h.seat.place()
	ends, err := r.ends(ctx, at.next, r.Presented.Next)
	if err != nil {
		h.seat.leave()
		return nil, err
	}
	stale, to := r.Presented.Cut < at.cut, at
	if ends != nil && beyond(at.next, ends) {
		to = at.sunk(ends, h.seat.version().in(r.Epoch), true, r.Presented.Next)
		h.cut.Store(h.seat.sinkFrom(at.next, to.next))
	}
	h.lower(r.Presented.Next, stale, to.next, ends)
	return h, nil
}

// Get returns where a consumer stands, or ErrNotFound. It asks the log only for a consumer that this replica does not
// know.
func (c *Consumers) Get(ctx context.Context, n Name) (State, error) {
	id, err := n.id()
	if err != nil {
		return State{}, err
	}
	cur, err := c.read(id)
	if err == nil && cur == nil {
		if err = c.table.Sync(ctx, id); err == nil {
			cur, err = c.read(id)
		}
	}
	if err != nil {
		return State{}, err
	}
	if cur == nil {
		return State{}, ErrNotFound
	}
	return cur.state(), nil
}

// PutRequest is the client's word on where a consumer stands, from outside a session.
type PutRequest struct {
	Name       Name
	Epoch      uint64       // of the stream at present
	Partitions int          // of the stream at present
	Cursor     StreamCursor // to save, or to reset to; one of another epoch says nothing but 0
	Reset      bool         // move to Cursor whatever was confirmed, back too; ends the running session
	// Present and Ends ask the log, as in OpenRequest.
	Present func(ctx context.Context) (uint64, error)
	Ends    func(ctx context.Context) ([]int64, error)
}

// Put saves a position, or resets the consumer, and creates it where it is not there; when it returns, that is durable.
// A cursor that carries the current lease is saved under it. One without a number of this consumer (read without
// `consumer=`, or of an earlier incarnation) takes over and saves in one step, since only the holder of a lease moves a
// position; the running session may come back. Errors: ErrSuperseded for the number of an earlier lease, ErrBusy,
// ErrInDoubt, ErrName, ErrEpoch, what Present and Ends returned, and the table's.
func (c *Consumers) Put(ctx context.Context, r PutRequest) (State, error) {
	id, err := r.Name.id()
	if err != nil {
		return State{}, err
	}
	var next []int64
	if r.Cursor.Epoch == r.Epoch {
		next = trim(r.Cursor.Next, r.Partitions)
	}
	v, err := again(ctx, func() (*version, error) { return c.replace(ctx, id, &r, next) })
	if err != nil {
		return State{}, err
	}
	return v.state(), nil
}

func (c *Consumers) replace(ctx context.Context, id string, r *PutRequest, next []int64) (*version, error) {
	cur, number, err := c.current(ctx, id, &r.Cursor)
	if err != nil {
		return nil, err
	}
	if cur == nil {
		v := &version{Incarnation: newIncarnation(), Lease: 1, Pos: position{epoch(r.Epoch), next}, Reason: reasonCreated}
		return v, c.put(ctx, id, nil, v)
	}
	if err := agree(ctx, uint64(cur.Pos.Epoch), r.Epoch, r.Present); err != nil {
		return nil, err
	}
	v := &version{Incarnation: cur.Incarnation, Cut: cur.Cut, Pos: position{Epoch: epoch(r.Epoch)}}
	at := cur.in(r.Epoch)
	switch {
	case r.Reset: // rule 11: without the hint
		v.Lease, v.Pos.Next, v.Reason = cur.Lease+1, next, reasonReset
	case number != 0 && number < cur.Lease:
		return nil, ErrSuperseded
	case number == cur.Lease:
		if s := c.seatOf(id, cur); s != nil { // so that one save is on its way at a time (rule 6)
			return c.saveSeat(ctx, s, r)
		}
		if r.Cursor.Epoch == r.Epoch {
			at = join(at, place{r.Cursor.Cut, next})
		}
		v.Lease, v.Parent, v.Reason = cur.Lease, cur.Parent, reasonSaved
		v.Cut, v.Pos.Next = at.cut, at.next
	default:
		if hint, ok := c.hints.read(ctx, id); ok && hint.of(cur) && hint.epoch == r.Epoch {
			at = join(at, hint.place)
		}
		asks := OpenRequest{Name: r.Name, Ends: r.Ends}
		ends, err := asks.ends(ctx, at.next)
		if err != nil {
			return nil, err
		}
		if ends != nil && beyond(at.next, ends) {
			at = at.sunk(ends, cur.in(r.Epoch), true, next)
		}
		v.Lease, v.Parent, v.Reason = cur.Lease+1, cur.Lease, reasonTaken
		v.Cut, v.Pos.Next = at.cut, Max(at.next, next)
	}
	return v, c.put(ctx, id, cur, v)
}

func (c *Consumers) saveSeat(ctx context.Context, s *seat, r *PutRequest) (*version, error) {
	s.recreated(r.Epoch, r.Partitions)
	s.raise(&r.Cursor)
	s.confirm(r.Cursor, r.Partitions)
	if err := s.save(ctx); err != nil {
		return nil, err
	}
	return s.version(), nil
}

// Delete deletes a consumer; its session is closed (rule 12). Errors: ErrNotFound, ErrBusy, ErrInDoubt, the table's.
func (c *Consumers) Delete(ctx context.Context, n Name) error {
	id, err := n.id()
	if err != nil {
		return err
	}
	_, err = again(ctx, func() (struct{}, error) {
		cur, err := c.read(id)
		if err == nil && cur == nil {
			if err = c.table.Sync(ctx, id); err == nil {
				cur, err = c.read(id)
			}
		}
		if err != nil {
			return struct{}{}, err
		}
		if cur == nil {
			return struct{}{}, ErrNotFound
		}
		_, err = c.table.Delete(ctx, id, cur.u)
		return struct{}{}, err
	})
	if err == nil {
		c.hints.forget(ctx, id)
	}
	return err
}

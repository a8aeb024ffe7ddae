package dedupe

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"
)

const (
	shards = 16
	// reservedMost bounds the reservations of a shard. They are many only when the log acknowledges nothing for long.
	reservedMost = 4096
	// spotsMost bounds the partitions that ids may be in.
	spotsMost = 1<<(64-offBits) - 1
)

// memory keeps what is known in the process: reservations in maps, and what is on the log in compact tables.
type memory struct {
	// static
	lease   time.Duration
	metrics *metrics
	now     func() time.Time
	start   time.Time // reservations' time is counted from here, by the monotonic clock
	shards  [shards]shard
	rebuild rebuilder

	spots spots
}

type shard struct {
	mu       sync.Mutex // guards what follows
	ids      *ids
	reserved map[key]reservation
	swept    time.Duration // when reserved was last looked through
	held     atomic.Int64  // of ids; read without mu
}

// reservation is somebody's append under way, or of unknown fate.
type reservation struct {
	token     token
	spot      uint32
	offset    int64
	window    time.Duration
	until     time.Duration // since the memory's start
	partition int32
}

// spot is a partition of a topic's life.
type spot struct {
	life      life
	partition int32
}

// spots numbers partitions.
type spots struct {
	mu     sync.RWMutex // guards what follows
	all    []spot
	number map[spot]uint32
}

// of returns a partition's number. ok is false when there are too many.
func (s *spots) of(p spot) (n uint32, ok bool) {
	s.mu.RLock()
	n, ok = s.number[p]
	s.mu.RUnlock()
	if ok {
		return n, true
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if n, ok = s.number[p]; ok {
		return n, true
	}
	if len(s.all) >= spotsMost {
		return 0, false
	}
	n = uint32(len(s.all))
	s.all = append(s.all, p)
	s.number[p] = n
	return n, true
}

func (s *spots) get(n uint32) spot {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.all[n]
}

func newMemory(cfg Config, log Log, logger *slog.Logger, m *metrics, now func() time.Time) *memory {
	s := &memory{lease: cfg.Lease, metrics: m, now: now, start: now()}
	s.spots.number = make(map[spot]uint32)
	for i := range s.shards {
		s.shards[i].ids = newIDs(int(cfg.MemoryBytes / idBytes / shards))
		s.shards[i].reserved = make(map[key]reservation)
	}
	s.rebuild.init(s, log, logger)
	return s
}

// unix is the seconds of t, counted on from those at the start by what has passed: a clock that is set on must not have the
// windows of all ids be over.
func (s *memory) unix(t time.Time) uint32 {
	return uint32(s.start.Unix() + int64(t.Sub(s.start)/time.Second))
}

func (s *memory) prepare(ctx context.Context, l life, window time.Duration) error {
	return s.rebuild.await(ctx, l, window)
}

func (s *memory) close() { s.rebuild.close() }

func (s *memory) shard(k *key) *shard { return &s.shards[k[14]%shards] }

// count returns how many ids are held.
func (s *memory) count() int {
	n := int64(0)
	for i := range s.shards {
		n += s.shards[i].held.Load()
	}
	return int(n)
}

// capacity returns how many more fit without any leaving early.
func (s *memory) capacity() int64 {
	n := int64(0)
	for i := range s.shards {
		sh := &s.shards[i]
		sh.mu.Lock()
		n += int64(max(sh.ids.most-len(sh.ids.order), 0)) * chunkIDs
		sh.mu.Unlock()
	}
	return n
}

func seconds(d time.Duration) uint32 {
	return uint32(min((d+time.Second-1)/time.Second, 1<<30))
}

// reserve implements store.
func (s *memory) reserve(all []*attempt) {
	t := s.now()
	now, unix := t.Sub(s.start), s.unix(t)
	for _, a := range all {
		n, ok := s.spots.of(spot{a.mine.life, a.mine.partition})
		sh := s.shard(&a.key)
		sh.mu.Lock()
		a.found, a.over = sh.look(s, &a.key, a.window, now, unix)
		switch {
		case a.found.kind != absent:
		case !ok || !sh.room(s, now):
			a.found.kind = reserved // as if somebody else had it: it is sent again
		default:
			sh.reserved[a.key] = s.reservation(&a.mine, n, now)
		}
		sh.mu.Unlock()
	}
}

func (s *memory) reservation(r *state, spot uint32, now time.Duration) reservation {
	return reservation{token: r.token, spot: spot, partition: r.partition, offset: r.offset, window: r.window, until: now + s.lease}
}

// look returns what is known of k, and whether that is a reservation that has run out.
func (sh *shard) look(s *memory, k *key, window, now time.Duration, unix uint32) (found state, over bool) {
	if r, ok := sh.reserved[*k]; ok {
		if now < r.until+r.window {
			p := s.spots.get(r.spot)
			return state{kind: reserved, life: p.life, partition: r.partition, offset: r.offset, token: r.token, window: r.window}, now >= r.until
		}
		delete(sh.reserved, *k)
	}
	where, since, ok := sh.ids.get(k)
	if !ok || uint64(since)+uint64(seconds(window+s.lease)) < uint64(unix) {
		return state{}, false
	}
	p := s.spots.get(uint32(where >> offBits))
	return state{kind: done, life: p.life, partition: p.partition, offset: int64(where & (1<<offBits - 1))}, false
}

// room reports whether one more reservation may be made. Where there are too many it lets go of those that have run
// out, at most once a second: what they were for is then not looked for any more.
func (sh *shard) room(s *memory, now time.Duration) bool {
	if len(sh.reserved) < reservedMost {
		return true
	}
	if now-sh.swept < time.Second {
		return false
	}
	sh.swept = now
	for k, r := range sh.reserved {
		if now >= r.until {
			delete(sh.reserved, k)
			s.metrics.evicted.Inc()
		}
	}
	return len(sh.reserved) < reservedMost
}

// swap implements store.
func (s *memory) swap(all []*change) {
	t := s.now()
	now, unix := t.Sub(s.start), s.unix(t)
	for _, c := range all {
		sh := s.shard(&c.key)
		sh.mu.Lock()
		s.change(sh, c, now, unix)
		sh.mu.Unlock()
	}
}

func (s *memory) change(sh *shard, c *change, now time.Duration, unix uint32) {
	found, _ := sh.look(s, &c.key, c.window, now, unix)
	switch {
	case found.kind == absent && c.orAbsent:
	case found.kind == absent || found.kind != c.was.kind,
		found.kind == reserved && found.token != c.was.token,
		found.kind == done && !found.same(&c.was):
		c.found = found
		return
	}
	n, ok := s.spots.of(spot{c.to.life, c.to.partition})
	switch {
	case c.to.kind == absent:
		delete(sh.reserved, c.key)
	case !ok || c.to.offset >= 1<<offBits:
		s.metrics.evicted.Inc()
		delete(sh.reserved, c.key)
	case c.to.kind == done:
		delete(sh.reserved, c.key)
		sh.put(s, &c.key, n, c.to.offset, unix, c.window, unix)
	case c.progress:
		r := sh.reserved[c.key]
		r.spot, r.partition, r.offset = n, c.to.partition, c.to.offset
		sh.reserved[c.key] = r
	default:
		sh.reserved[c.key] = s.reservation(&c.to, n, now)
	}
	c.ok = true
}

// outlived reports whether what is said to be somewhere is in an earlier life of l's topic.
func (s *memory) outlived(where uint64, l life) bool {
	there := s.spots.get(uint32(where >> offBits)).life
	return there.topic == l.topic && !there.is(l)
}

// put notes where an event is; mu is held.
func (sh *shard) put(s *memory, k *key, spot uint32, offset int64, since uint32, window time.Duration, unix uint32) {
	evicted := sh.ids.put(k, uint64(spot)<<offBits|uint64(offset), since, seconds(window+s.lease), unix)
	if evicted > 0 {
		s.metrics.evicted.Add(float64(evicted))
	}
	sh.held.Store(int64(sh.ids.live))
}

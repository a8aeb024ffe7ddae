package dedupe

import (
	"context"
	"errors"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/eventissuer/eventissuer/internal/clock"
)

// changeLua is a compare-and-set: KEYS[1] must begin with ARGV[1], or may be missing where ARGV[4] is 1; then it is
// set to ARGV[2] for ARGV[3] ms (0: for what is left of its time), or deleted where ARGV[2] is empty. It returns 1, or
// what is there instead.
const changeLua = `
local v = redis.call('GET', KEYS[1])
if v then
  if string.sub(v, 1, #ARGV[1]) ~= ARGV[1] then return v end
elseif ARGV[4] ~= '1' then return false end
if ARGV[2] == '' then redis.call('DEL', KEYS[1])
elseif ARGV[3] == '0' then redis.call('SET', KEYS[1], ARGV[2], 'KEEPTTL')
else redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3]) end
return 1
`

// rest is how long Redis is left alone after a failure. Then one call tries it again, and all others when that succeeded.
const rest = time.Second

// redisStore keeps what is known in Redis. A key's time to live is its window and the lease, so that what is left of it
// tells by Redis's own clock whether the lease has run out: no other clock is asked.
type redisStore struct {
	client  redis.UniversalClient
	prefix  string
	lease   time.Duration
	timeout time.Duration
	script  *redis.Script
	log     *slog.Logger
	metrics *metrics

	clock   clock.Clock
	failing atomic.Bool  // Redis is left alone
	until   atomic.Int64 // the clock's elapsed time: till then
}

func newRedisStore(cfg Config, client redis.UniversalClient, log *slog.Logger, m *metrics) *redisStore {
	return &redisStore{
		client: client, prefix: cfg.Prefix + "d:", lease: cfg.Lease, timeout: cfg.RedisTimeout,
		script: redis.NewScript(changeLua), log: log, metrics: m, clock: clock.System(),
	}
}

func (*redisStore) prepare(context.Context, life, time.Duration) error { return nil }

func (*redisStore) close() {}

func (s *redisStore) name(k key) string { return s.prefix + string(k[:]) }

var errAway = errors.New("redis is away")

// may reports whether Redis is to be asked.
func (s *redisStore) may() bool {
	if !s.failing.Load() {
		return true
	}
	now, until := int64(s.clock.Elapsed()), s.until.Load()
	return now >= until && s.until.CompareAndSwap(until, now+int64(rest))
}

// answered takes note of whether Redis did.
func (s *redisStore) answered(operation string, err error) {
	if err == nil {
		if s.failing.Load() && s.failing.CompareAndSwap(true, false) {
			s.metrics.away.Set(0)
			s.log.Info("events are deduplicated again")
		}
		return
	}
	s.metrics.store.WithLabelValues(operation).Inc()
	s.until.Store(int64(s.clock.Elapsed() + rest))
	if s.failing.CompareAndSwap(false, true) {
		s.metrics.away.Set(1)
		s.log.Warn("no answer from Redis: events are written undeduplicated, or refused where their type demands it", "error", err)
	}
}

// reserve implements store, in one round trip; another where reservations of others are found.
func (s *redisStore) reserve(all []*attempt) {
	if !s.may() {
		for _, a := range all {
			a.err = errAway
		}
		return
	}
	// Whoever asks may go away: what Redis did is needed all the same.
	ctx, cancel := context.WithTimeout(context.Background(), s.timeout)
	defer cancel()
	lost, err := s.set(ctx, all)
	if len(lost) > 0 && ctx.Err() == nil {
		_, err = s.set(ctx, lost) // rule 4: a reservation that is there already has our token
	}
	others := found(all)
	unknown, e := s.ages(ctx, others)
	if len(unknown) > 0 && ctx.Err() == nil {
		_, e = s.ages(ctx, unknown)
	}
	if err == nil {
		err = e
	}
	s.answered("reserve", err)
}

// set reserves, and returns those of which it is not known.
func (s *redisStore) set(ctx context.Context, all []*attempt) (lost []*attempt, err error) {
	pipe := s.client.Pipeline()
	cmds := make([]*redis.Cmd, len(all))
	for i, a := range all {
		cmds[i] = pipe.Do(ctx, "SET", s.name(a.key), a.mine.text(nil), "NX", "GET", "PX", (a.window + s.lease).Milliseconds())
	}
	_, _ = pipe.Exec(ctx) // each command has its own error
	for i, c := range cmds {
		a := all[i]
		a.err = nil
		switch text, e := c.Text(); {
		case errors.Is(e, redis.Nil):
		case e == nil:
			a.found, a.err = parseState(text)
		default:
			a.err, err = e, e
			lost = append(lost, a)
		}
	}
	return lost, err
}

// found returns those who found a reservation of somebody else.
func found(all []*attempt) (others []*attempt) {
	for _, a := range all {
		if a.err == nil && a.found.kind == reserved && a.found.token != a.mine.token {
			others = append(others, a)
		}
	}
	return others
}

// ages finds out which of the reservations found have run out, and returns those of which it is not known. Should a key
// hold something else by now, then no change that is made for what was found succeeds.
func (s *redisStore) ages(ctx context.Context, all []*attempt) (lost []*attempt, err error) {
	if len(all) == 0 {
		return nil, nil
	}
	pipe := s.client.Pipeline()
	cmds := make([]*redis.DurationCmd, len(all))
	for i, a := range all {
		cmds[i] = pipe.PTTL(ctx, s.name(a.key))
	}
	_, _ = pipe.Exec(ctx)
	for i, c := range cmds {
		a := all[i]
		left, e := c.Result()
		a.over, a.err = e == nil && left >= 0 && left <= a.found.window, e
		if e != nil {
			err = e
			lost = append(lost, a)
		}
	}
	return lost, err
}

// swap implements store, in one round trip. It is tried while Redis is left alone too: what was reserved before wants to
// be told, and that is not much.
func (s *redisStore) swap(all []*change) {
	ctx, cancel := context.WithTimeout(context.Background(), s.timeout)
	defer cancel()
	lost, err := s.run(ctx, all, s.script.EvalSha)
	if len(lost) > 0 && ctx.Err() == nil {
		// Redis was restarted and has no scripts, or the replies were lost: what was done already is not done twice.
		_, err = s.run(ctx, lost, s.script.Eval)
	}
	s.answered("change", err)
}

type eval func(ctx context.Context, c redis.Scripter, keys []string, args ...any) *redis.Cmd

// run makes changes, and returns those of which it is not known whether they were made.
func (s *redisStore) run(ctx context.Context, all []*change, run eval) (lost []*change, err error) {
	pipe := s.client.Pipeline()
	cmds := make([]*redis.Cmd, len(all))
	for i, c := range all {
		var (
			to  []byte
			ttl int64
		)
		if c.to.kind != absent {
			to = c.to.text(nil)
		}
		if !c.progress {
			ttl = (c.window + s.lease).Milliseconds()
		}
		orAbsent := 0
		if c.orAbsent {
			orAbsent = 1
		}
		cmds[i] = run(ctx, pipe, []string{s.name(c.key)}, c.was.claim(nil), to, ttl, orAbsent)
	}
	_, _ = pipe.Exec(ctx)
	for i, cmd := range cmds {
		c := all[i]
		c.err = nil
		switch v, e := cmd.Result(); {
		case errors.Is(e, redis.Nil): // nothing is there
		case e != nil:
			c.err, err = e, e
			lost = append(lost, c)
		default:
			switch v := v.(type) {
			case int64:
				c.ok = v == 1
			case string:
				c.found, c.err = parseState(v)
			default:
				c.err = errState
			}
		}
	}
	return lost, err
}

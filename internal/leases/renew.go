package leases

import (
	"cmp"
	"context"
	"errors"
	"math"
	"slices"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"
)

// renewLua renews what one holder has of KEYS[1], and returns what it is granted.
//
// ARGV: 1 the holder; 2 the number of this request among the holder's; 3 what it wants; 4 the total; 5 what it uses until it
// has the answer; 6 the TTL and 7 a turn, in microseconds.
//
// A field for each holder is "<request> <want> <reserved> <granted> <expires>". Reserved is what nobody else gets: what was
// granted, or what the holder said it uses where that is more, for who is granted less goes on with what it has until
// it knows. So a grant that shrinks is others' only once the holder has said that it knows. A request that others of the
// holder have overtaken changes nothing: what it says is over.
//
// A fair part is what a holder gets by the level up to which all wants can be met: whole units below the level, and what
// is left of the total a unit at a time, in the order of names. Where the level is below one unit the order rotates with time.
const renewLua = `
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local me, request, want, total, used = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
local fields = redis.call('HGETALL', KEYS[1])
local all, free, wanted = {}, total, want
for i = 1, #fields, 2 do
  local r, w, reserved, granted, expires = string.match(fields[i + 1], '^(%S+) (%S+) (%S+) (%S+) (%S+)$')
  if tonumber(expires) <= now then
    redis.call('HDEL', KEYS[1], fields[i])
  elseif fields[i] == me then
    if tonumber(r) > request then return false end
    if tonumber(r) == request then return granted end
  else
    free = free - reserved
    all[#all + 1] = {name = fields[i], want = tonumber(w)}
    wanted = wanted + w
  end
end
if want == 0 and used == 0 then
  redis.call('HDEL', KEYS[1], me)
  return '0'
end

local fair, whole = want, nil
if wanted > total then
  all[#all + 1] = {name = me, want = want}
  table.sort(all, function(a, b) return a.want < b.want end)
  local left = total
  for i, h in ipairs(all) do
    local level = left / (#all - i + 1)
    if h.want > level then
      whole = math.floor(level)
      break
    end
    left = left - h.want
  end
end
if whole then
  local open, rest = {}, total
  for _, h in ipairs(all) do
    rest = rest - math.min(h.want, whole)
    if h.want > whole then open[#open + 1] = h end
  end
  table.sort(open, function(a, b) return a.name < b.name end)
  local first = 0
  if whole == 0 then first = math.floor(now / tonumber(ARGV[7])) % #open end
  fair = math.min(want, whole)
  for n = 0, #open - 1 do
    local h = open[(first + n) % #open + 1]
    local more = math.max(0, math.min(1, h.want - whole, rest))
    if h.name == me then
      fair = whole + more
      break
    end
    rest = rest - more
  end
end

local grant = math.max(0, math.min(fair, free))
local text, reserved = string.format('%.17g', grant), ARGV[5]
if grant > used then reserved = text end
local expires = string.format('%.0f', now + tonumber(ARGV[6]))
redis.call('HSET', KEYS[1], me, table.concat({ARGV[2], ARGV[3], reserved, text, expires}, ' '))
redis.call('PEXPIRE', KEYS[1], math.ceil(tonumber(ARGV[6]) / 1000) + 1000)
return text
`

// renewMost bounds a pipeline.
const renewMost = 256

// renewal is one request, and its answer.
type renewal struct {
	entry *entry // nil: of a key that is given back
	key   string
	want  float64
	total float64
	used  float64

	request uint64
	granted float64
	ok      bool
}

// renew renews entries, and those that were granted less than they had once more, so that others learn that they know.
func (l *Leases) renew(ctx context.Context, due []*entry) {
	var fewer []*entry
	for batch := range slices.Chunk(due, renewMost) {
		less, ok := l.renewSome(ctx, batch)
		if !ok {
			return
		}
		fewer = append(fewer, less...)
	}
	for batch := range slices.Chunk(fewer, renewMost) {
		if _, ok := l.renewSome(ctx, batch); !ok {
			return
		}
	}
}

// renewSome blocks for a round trip. It returns those that were granted less than they had.
func (l *Leases) renewSome(ctx context.Context, batch []*entry) (fewer []*entry, ok bool) {
	sent := time.Now() // Redis counts the TTL from later
	all := make([]*renewal, 0, len(batch))
	l.mu.Lock()
	for _, e := range batch {
		if l.entries[e.key] != e {
			continue // released
		}
		r := &renewal{entry: e, key: e.key, want: max(e.peak, e.want), total: e.total, used: max(e.holds(sent), e.used)}
		e.peak, e.sent = 0, r.want
		all = append(all, r)
	}
	l.mu.Unlock()
	if len(all) == 0 {
		return nil, true
	}
	ok = l.send(ctx, all)
	until := sent.Add(l.cfg.TTL - l.cfg.TTL/100) // a little early: clocks differ in speed
	var more []string
	l.mu.Lock()
	for _, r := range all {
		e := r.entry
		switch {
		case l.entries[e.key] != e:
			continue
		case !r.ok: // what it has is good for its time, and Redis knows of it
			e.peak = max(e.peak, r.want)
			continue
		case r.granted < r.used:
			fewer = append(fewer, e)
		}
		if r.granted > e.holds(time.Now()) {
			more = append(more, e.key)
		}
		e.granted, e.until = r.granted, until
		if e.granted == 0 && r.want > 0 {
			l.starved[e] = struct{}{}
		} else {
			delete(l.starved, e)
		}
	}
	l.mu.Unlock()
	if l.deps.Granted != nil {
		for _, key := range more {
			l.deps.Granted(key)
		}
	}
	return fewer, ok
}

// giveBack gives back what was released.
func (l *Leases) giveBack(ctx context.Context) {
	l.mu.Lock()
	keys := make([]string, 0, len(l.released))
	for key := range l.released {
		keys = append(keys, key)
	}
	clear(l.released)
	l.mu.Unlock()
	for batch := range slices.Chunk(keys, renewMost) {
		all := make([]*renewal, len(batch))
		for i, key := range batch {
			all[i] = &renewal{key: key}
		}
		if !l.send(ctx, all) {
			return // the TTL takes care of them
		}
	}
}

// end has nothing be granted any more, and gives all back.
func (l *Leases) end(ctx context.Context) {
	l.mu.Lock()
	l.ended = true
	for _, e := range l.entries {
		l.release(e)
	}
	l.urgent = nil
	l.mu.Unlock()
	l.m.keys.Set(0)
	ctx, cancel := context.WithTimeout(ctx, l.cfg.TTL) // by then all have expired
	defer cancel()
	l.giveBack(ctx)
}

// send asks Redis. It returns false where that failed for some at least.
func (l *Leases) send(ctx context.Context, all []*renewal) bool {
	limited, cancel := context.WithTimeout(ctx, l.cfg.Timeout)
	defer cancel()
	for _, r := range all {
		l.sequence++
		r.request = l.sequence
	}
	unknown, err := l.run(limited, all, l.script.EvalSha)
	if len(unknown) > 0 {
		_, again := l.run(limited, unknown, l.script.Eval)
		err = cmp.Or(err, again)
	}
	l.m.renewals.Add(float64(len(all)))
	switch {
	case err == nil && l.failing:
		l.log.Info("limits are shared over all replicas again")
		l.failing = false
	case err != nil && ctx.Err() == nil:
		l.m.failures.Inc()
		if !l.failing {
			l.log.Warn("limits are not shared: each replica will limit itself", "error", err)
			l.failing = true
		}
	}
	return err == nil
}

type eval func(ctx context.Context, c redis.Scripter, keys []string, args ...any) *redis.Cmd

// run sends renewals, and returns those for which Redis lacked the script.
func (l *Leases) run(ctx context.Context, all []*renewal, run eval) (unknown []*renewal, err error) {
	pipe := l.deps.Redis.Pipeline()
	cmds := make([]*redis.Cmd, len(all))
	ttl, turn := l.cfg.TTL.Microseconds(), l.cfg.Turn.Microseconds()
	for i, r := range all {
		cmds[i] = run(ctx, pipe, []string{l.cfg.Prefix + "lease:" + r.key}, l.holder, r.request, r.want, r.total, r.used, ttl, turn)
	}
	if _, err = pipe.Exec(ctx); errors.Is(err, redis.Nil) || redis.HasErrorPrefix(err, "NOSCRIPT") {
		err = nil // each is told below
	}
	for i, cmd := range cmds {
		text, e := cmd.Text()
		switch {
		case e == nil:
			var granted float64
			if granted, e = strconv.ParseFloat(text, 64); e == nil && granted >= 0 && !math.IsInf(granted, 0) {
				all[i].granted, all[i].ok = granted, true
			}
		case redis.HasErrorPrefix(e, "NOSCRIPT"):
			unknown, e = append(unknown, all[i]), nil
		case errors.Is(e, redis.Nil): // overtaken
			e = nil
		}
		if e != nil && err == nil {
			err = e
		}
	}
	return unknown, err
}

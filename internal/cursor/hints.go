package cursor

import (
	"context"
	"log/slog"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/eventissuer/eventissuer/internal/clock"
)

// hintLua keeps {incarnation, lease, epoch, next}: it refuses a lower lease, and under an equal one a lower cut, and takes
// the maximum under an equal cut (rule 8). A cut stands behind the epoch, "4d:2", so that a replica of a version without
// cuts takes such a hint for none. Offsets stay the strings they are, so that none passes through a floating-point
// number's text.
const hintLua = `
local h = redis.call('HMGET', KEYS[1], 'i', 'l', 'e', 'n')
local next = ARGV[4]
if h[1] == ARGV[1] and h[2] and h[3] and h[4] then
  local held, mine = tonumber(h[2]), tonumber(ARGV[2])
  if held > mine then return 0 end
  local heldEpoch, heldCut = string.match(h[3], '^(%x+):?(%d*)$')
  local epoch, cut = string.match(ARGV[3], '^(%x+):?(%d*)$')
  heldCut, cut = tonumber(heldCut) or 0, tonumber(cut) or 0
  if held == mine and heldEpoch == epoch and heldCut > cut then return 0 end
  if held == mine and heldEpoch == epoch and heldCut == cut then
    local old, new = {}, {}
    for v in string.gmatch(h[4], '%d+') do old[#old + 1] = v end
    for v in string.gmatch(next, '%d+') do
      local o = old[#new + 1]
      if o and tonumber(o) > tonumber(v) then v = o end
      new[#new + 1] = v
    end
    for i = #new + 1, #old do new[i] = old[i] end
    next = table.concat(new, ',')
  end
end
redis.call('HSET', KEYS[1], 'i', ARGV[1], 'l', ARGV[2], 'e', ARGV[3], 'n', next)
redis.call('EXPIRE', KEYS[1], ARGV[5])
return 1
`

const (
	// hintTTL outlives every stretch of the time between saves; what is saved needs no hint.
	hintTTL = 24 * time.Hour
	// hintBatch bounds a pipeline, and so how long other commands wait behind it.
	hintBatch = 256
	// hintRest is how long Redis is left alone after a failure, so that its absence costs a session's start nothing.
	hintRest = time.Second
)

// hint is the newest position known of a lease. It is never answered as saved, and only a take-over reads it.
type hint struct {
	incarnation string
	lease       uint64
	epoch       uint64
	place
}

// epochText is the epoch, with the cut if there is one.
func (h *hint) epochText() string {
	text := strconv.FormatUint(h.epoch, 16)
	if h.cut > 0 {
		text += ":" + strconv.FormatUint(h.cut, 10)
	}
	return text
}

// of reports whether the hint was given under v's lease; another's counts as none.
func (h *hint) of(v *version) bool {
	return h.lease == v.Lease && h.incarnation == v.Incarnation.String()
}

// hints keeps hints in Redis. Nothing it does may fail: without Redis there are none.
type hints struct {
	redis   redis.UniversalClient // nil: none
	prefix  string
	timeout time.Duration
	script  *redis.Script
	log     *slog.Logger
	metrics *metrics
	clock   clock.Clock
	resting atomic.Int64 // the clock's elapsed time until which Redis is left alone
	failing atomic.Bool  // to log an outage once
}

func newHints(r redis.UniversalClient, prefix string, timeout time.Duration, log *slog.Logger, m *metrics) *hints {
	return &hints{redis: r, prefix: prefix + "consumer:", timeout: timeout, script: redis.NewScript(hintLua), log: log, metrics: m, clock: clock.System()}
}

func (h *hints) off() bool {
	return h.redis == nil || int64(h.clock.Elapsed()) < h.resting.Load()
}

// done takes note of how Redis answered and reports whether it did.
func (h *hints) done(err error) bool {
	if err == nil {
		if h.failing.Swap(false) {
			h.log.Info("hints of consumers' positions go to Redis again")
		}
		return true
	}
	h.metrics.hints.WithLabelValues("failed").Inc()
	h.resting.Store(int64(h.clock.Elapsed() + hintRest))
	if !h.failing.Swap(true) {
		h.log.Warn("no hints of consumers' positions: after a fail-over some events will come again", "error", err)
	}
	return false
}

// read returns the hint for a consumer. ok is false where there is none, or no Redis.
func (h *hints) read(ctx context.Context, id string) (found hint, ok bool) {
	if h.off() {
		return hint{}, false
	}
	ctx, cancel := context.WithTimeout(ctx, h.timeout)
	defer cancel()
	fields, err := h.redis.HMGet(ctx, h.prefix+id, "i", "l", "e", "n").Result()
	if !h.done(err) || len(fields) != 4 {
		return hint{}, false
	}
	var text [4]string
	for i, f := range fields {
		if text[i], ok = f.(string); !ok {
			return hint{}, false
		}
	}
	found.incarnation = text[0]
	var errLease, errEpoch error
	found.lease, errLease = strconv.ParseUint(text[1], 10, 64)
	epoch, cut, hasCut := strings.Cut(text[2], ":")
	found.epoch, errEpoch = strconv.ParseUint(epoch, 16, 64)
	if hasCut && errEpoch == nil {
		found.cut, errEpoch = strconv.ParseUint(cut, 10, 64)
	}
	found.next, ok = parseOffsets(text[3])
	return found, ok && errLease == nil && errEpoch == nil && found.cut <= MaxCut
}

type hinted struct {
	id string
	hint
}

// write sends hints, pipelined.
func (h *hints) write(ctx context.Context, all []hinted) {
	for len(all) > 0 && !h.off() {
		n := min(len(all), hintBatch)
		h.writeBatch(ctx, all[:n])
		all = all[n:]
	}
}

func (h *hints) writeBatch(ctx context.Context, batch []hinted) {
	ctx, cancel := context.WithTimeout(ctx, h.timeout)
	defer cancel()
	unknown, err := h.run(ctx, batch, h.script.EvalSha)
	if len(unknown) > 0 {
		_, err = h.run(ctx, unknown, h.script.Eval) // Redis was restarted: this also loads the script
	}
	if h.done(err) {
		h.metrics.hints.WithLabelValues("written").Add(float64(len(batch)))
	}
}

type eval func(ctx context.Context, c redis.Scripter, keys []string, args ...any) *redis.Cmd

// run returns those whose script Redis did not know, and the first other error.
func (h *hints) run(ctx context.Context, batch []hinted, run eval) (unknown []hinted, err error) {
	pipe := h.redis.Pipeline()
	cmds := make([]*redis.Cmd, len(batch))
	for i, b := range batch {
		cmds[i] = run(ctx, pipe, []string{h.prefix + b.id},
			b.incarnation, strconv.FormatUint(b.lease, 10), b.epochText(), formatOffsets(b.next), int(hintTTL.Seconds()))
	}
	_, _ = pipe.Exec(ctx) // each command has its own error
	for i, c := range cmds {
		switch e := c.Err(); {
		case e == nil:
		case redis.HasErrorPrefix(e, "NOSCRIPT"):
			unknown = append(unknown, batch[i])
		case err == nil:
			err = e
		}
	}
	return unknown, err
}

// forget removes the hint of a deleted consumer.
func (h *hints) forget(ctx context.Context, id string) {
	if h.off() {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, h.timeout)
	defer cancel()
	h.done(h.redis.Del(ctx, h.prefix+id).Err())
}

func formatOffsets(next []int64) string {
	b := make([]byte, 0, 12*len(next))
	for i, o := range next {
		if i > 0 {
			b = append(b, ',')
		}
		b = strconv.AppendInt(b, o, 10)
	}
	return string(b)
}

func parseOffsets(s string) ([]int64, bool) {
	if s == "" {
		return nil, true
	}
	if len(s) > MaxToken {
		return nil, false
	}
	var next []int64
	for v := range strings.SplitSeq(s, ",") {
		o, err := strconv.ParseInt(v, 10, 64)
		if err != nil || o < 0 {
			return nil, false
		}
		next = append(next, o)
	}
	return next, true
}

// heedsContexts reports whether a client ends a command with its context.
func heedsContexts(c redis.UniversalClient) bool {
	switch c := c.(type) {
	case *redis.Client:
		return c.Options().ContextTimeoutEnabled
	case *redis.ClusterClient:
		return c.Options().ContextTimeoutEnabled
	case *redis.Ring:
		return c.Options().ContextTimeoutEnabled
	}
	return true
}

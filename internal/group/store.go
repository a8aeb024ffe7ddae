package group

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"
)

// claimLua takes the state of one partition over: KEYS are the pointer to the present holder's state, that state, and the
// state's new name; ARGV the holder (empty: none), the new one, and what the state is where nothing is kept. It does
// nothing, and returns 0, where another holds it by now. Names are random and used once, so that comparing them is enough.
const claimLua = `
local holder = redis.call('GET', KEYS[1]) or ''
if holder ~= ARGV[1] then return 0 end
if holder ~= '' and redis.call('EXISTS', KEYS[2]) == 1 then redis.call('RENAME', KEYS[2], KEYS[3])
else redis.call('SET', KEYS[3], ARGV[3]) end
redis.call('SET', KEYS[1], ARGV[2])
return 1
`

// store keeps states in Redis. Its client must retry nothing by itself: a first copy of a write that came late would land
// over a newer one.
type store struct {
	client  redis.UniversalClient
	prefix  string
	timeout time.Duration
	claims  *redis.Script
}

func newStore(client redis.UniversalClient, prefix string, timeout time.Duration) *store {
	return &store{client: client, prefix: prefix, timeout: timeout, claims: redis.NewScript(claimLua)}
}

// place names what is kept of one partition, in one incarnation of a subscription and one life of the topic.
type place struct {
	incarnation string
	epoch       string // of the topic, whose every life has another
	partition   int32
}

// tag is the part of the keys' names that keeps them in one slot of a Redis cluster.
func (p place) tag() string { return fmt.Sprintf("{%s/%s/%d}", p.incarnation, p.epoch, p.partition) }

func (s *store) pointer(p place) string { return s.prefix + "sub:" + p.tag() + ":ptr" }

func (s *store) state(p place, nonce string) string {
	return s.prefix + "sub:" + p.tag() + ":st:" + nonce
}

// holder returns the name of the present holder's state, "" where there is none.
func (s *store) holder(ctx context.Context, p place) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	nonce, err := s.client.Get(ctx, s.pointer(p)).Result()
	if err != nil && !errors.Is(err, redis.Nil) {
		return "", fmt.Errorf("find who holds partition %d: %w", p.partition, err)
	}
	return nonce, nil
}

// take claims the state from a holder under a fresh name. It returns "" where another was first.
func (s *store) take(ctx context.Context, p place, holder string, remembered state) (nonce string, err error) {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	nonce = rand.Text()
	keys := []string{s.pointer(p), s.state(p, holder), s.state(p, nonce)}
	n, err := s.claims.Run(ctx, s.client, keys, holder, nonce, remembered.binary()).Int()
	if err != nil {
		return "", fmt.Errorf("claim partition %d: %w", p.partition, err)
	}
	if n == 0 {
		return "", nil
	}
	return nonce, nil
}

// load reads a state; ok says that it is there, even where errState says that it cannot be read.
func (s *store) load(ctx context.Context, p place, nonce string) (_ state, ok bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	b, err := s.client.Get(ctx, s.state(p, nonce)).Bytes()
	if errors.Is(err, redis.Nil) {
		return state{}, false, nil
	}
	if err != nil {
		return state{}, false, fmt.Errorf("load the state of partition %d: %w", p.partition, err)
	}
	st, err := parseState(b)
	return st, true, err
}

// save writes a state over the one of the same name. It returns false where that is gone: another has claimed it, or Redis
// has lost it. After an error it may still land.
func (s *store) save(ctx context.Context, p place, nonce string, blob []byte) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	cmd := once{redis.NewCmd(ctx, "set", s.state(p, nonce), blob, "xx")}
	err := s.client.Process(ctx, cmd)
	if errors.Is(err, redis.Nil) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("save the state of partition %d: %w", p.partition, err)
	}
	return true, nil
}

// once is a command that is sent once. A client of a cluster follows redirections, which sent nothing; but it repeats what
// was not answered, too, whatever its MaxRetries.
type once struct{ *redis.Cmd }

// NoRetry implements redis.Cmder.
func (once) NoRetry() bool { return true }

// forget deletes what is kept of a partition.
func (s *store) forget(ctx context.Context, p place) error {
	nonce, err := s.holder(ctx, p)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	if err := s.client.Del(ctx, s.pointer(p), s.state(p, nonce)).Err(); err != nil {
		return fmt.Errorf("forget partition %d: %w", p.partition, err)
	}
	return nil
}

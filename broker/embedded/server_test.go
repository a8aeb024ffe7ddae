package embedded_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"

	"github.com/eventissuer/eventissuer/broker"
	"github.com/eventissuer/eventissuer/broker/embedded"
)

func TestSecondServerOnAFolderIsToldWhoUsesIt(t *testing.T) {
	h := newHarness(t)
	_, err := embedded.Start(t.Context(), embedded.Config{Dir: h.config.Dir})
	var inUse *embedded.InUseError
	if !errors.As(err, &inUse) {
		t.Fatalf("started a second time: %v", err)
	}
	if pid := strconv.Itoa(os.Getpid()); inUse.PID != pid || !strings.Contains(err.Error(), h.config.Dir) || !strings.Contains(err.Error(), pid) {
		t.Errorf("%q names neither the folder %s nor the process %s", err, h.config.Dir, pid)
	}
	h.Restart(t) // the refused attempt did not take the lock away
}

func TestKilledProcessLeavesNoLock(t *testing.T) {
	c := newChild(t)
	_, err := embedded.Start(t.Context(), embedded.Config{Dir: c.dir})
	var inUse *embedded.InUseError
	if !errors.As(err, &inUse) || inUse.PID != strconv.Itoa(c.cmd.Process.Pid) {
		t.Fatalf("started beside process %d: %v", c.cmd.Process.Pid, err)
	}
	c.end()
	s, err := embedded.Start(t.Context(), embedded.Config{Dir: c.dir})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

func TestStartNeedsAFolderItCanUse(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{"", file} {
		if s, err := embedded.Start(t.Context(), embedded.Config{Dir: dir}); err == nil {
			t.Errorf("started in %q", dir)
			_ = s.Close()
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := embedded.Start(ctx, embedded.Config{Dir: t.TempDir()}); !errors.Is(err, context.Canceled) {
		t.Errorf("started for a caller who had gone: %v", err)
	}
}

func TestRestartKeepsTopicsOffsetsAndGroups(t *testing.T) {
	h := newHarness(t)
	log := h.Open(t)
	defer log.Close()
	ctx := t.Context()
	config := broker.TopicConfig{Partitions: 2, ReplicationFactor: 1, Retention: time.Hour, RetentionBytes: -1, MaxMessageBytes: 2 << 20}
	if err := log.Create(ctx, "kept", config); err != nil {
		t.Fatal(err)
	}
	for _, a := range log.Append(ctx, "kept", []broker.Message{{Value: []byte("0")}, {Value: []byte("1")}, {Value: []byte("2")}}) {
		if a.Err != nil {
			t.Fatal(a.Err)
		}
	}
	if err := log.Truncate(ctx, "kept", 0, 1); err != nil {
		t.Fatal(err)
	}
	commit(t, log, func(ctx context.Context, c broker.Claim) error { return c.Commit(ctx, 2, "second") })
	before, err := log.Describe(ctx, "kept")
	if err != nil {
		t.Fatal(err)
	}
	h.Restart(t)
	after, err := log.Describe(ctx, "kept")
	if diff := cmp.Diff(before, after); err != nil || diff != "" {
		t.Errorf("the topic after a restart: %v\n%s", err, diff)
	}
	bounds, err := log.Bounds(ctx, "kept")
	if diff := cmp.Diff([]broker.Bounds{{First: 1, Next: 3}, {}}, bounds); err != nil || diff != "" {
		t.Errorf("bounds after a restart: %v\n%s", err, diff)
	}
	commit(t, log, func(ctx context.Context, c broker.Claim) error {
		if at, note, err := c.Committed(ctx); err != nil || at != 2 || note != "second" {
			t.Errorf("committed after a restart: %d, %q, %v, want 2, second", at, note, err)
		}
		return nil
	})
}

// commit runs do as the owner of partition 0 in a group.
func commit(t *testing.T, log broker.Log, do func(context.Context, broker.Claim) error) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	result := make(chan error, 1)
	_ = log.Join(ctx, "group", []string{"kept"}, func(ctx context.Context, c broker.Claim) {
		if c.Partition() == 0 {
			result <- do(ctx, c)
			cancel()
		}
		<-ctx.Done()
	})
	if err := <-result; err != nil {
		t.Error(err)
	}
}

func TestRedisOutlivesARestart(t *testing.T) {
	h := newHarness(t)
	ctx := t.Context()
	client := redis.NewClient(&redis.Options{Addr: h.server.RedisAddr()})
	defer client.Close()
	odd := "\x00\xff not text \n"
	for _, err := range []error{
		client.Set(ctx, "string", odd, 0).Err(),
		client.Set(ctx, "empty", "", 0).Err(),
		client.Set(ctx, odd, "odd key", 0).Err(),
		client.Set(ctx, "leaves", "soon", time.Hour).Err(),
		client.Set(ctx, "gone", "by then", time.Second).Err(),
		client.RPush(ctx, "list", "b", "a", "b").Err(),
		client.SAdd(ctx, "set", "x", "y").Err(),
		client.HSet(ctx, "hash", "f", "1", "g", odd).Err(),
		client.Expire(ctx, "hash", 2*time.Hour).Err(),
		client.ZAdd(ctx, "sorted", redis.Z{Score: 1.5, Member: "m"}, redis.Z{Score: -2, Member: "n"}).Err(),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	state := func() map[string]any {
		return map[string]any{
			"string": client.Get(ctx, "string").Val(), "empty": client.Exists(ctx, "empty").Val(), odd: client.Get(ctx, odd).Val(),
			"list": client.LRange(ctx, "list", 0, -1).Val(), "set": client.SMembers(ctx, "set").Val(),
			"hash": client.HGetAll(ctx, "hash").Val(), "sorted": client.ZRangeWithScores(ctx, "sorted", 0, -1).Val(),
		}
	}
	before := state()
	h.stop(t)
	<-time.After(1100 * time.Millisecond) // the time that a server is down counts, too
	h.start(t)
	if diff := cmp.Diff(before, state()); diff != "" {
		t.Errorf("after a restart:\n%s", diff)
	}
	if n := client.Exists(ctx, "gone").Val(); n != 0 {
		t.Error("a key outlived its time")
	}
	for key, most := range map[string]time.Duration{"leaves": time.Hour, "hash": 2 * time.Hour} {
		if ttl := client.TTL(ctx, key).Val(); ttl <= most-time.Minute || ttl > most {
			t.Errorf("%s has %v left of %v", key, ttl, most)
		}
	}
	if ttl := client.TTL(ctx, "string").Val(); ttl != -1 {
		t.Errorf("a key without end now ends in %v", ttl)
	}
}

func TestTimePassesForRedisKeys(t *testing.T) {
	h := newHarness(t)
	client := redis.NewClient(&redis.Options{Addr: h.server.RedisAddr()})
	defer client.Close()
	if err := client.Set(t.Context(), "brief", "1", time.Second).Err(); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(20 * time.Second); client.Exists(t.Context(), "brief").Val() != 0; {
		if time.Now().After(deadline) {
			t.Fatal("a key of one second does not go")
		}
		<-time.After(20 * time.Millisecond)
	}
}

func TestBrokenRedisSnapshotIsNoReasonNotToStart(t *testing.T) {
	h := newHarness(t)
	h.stop(t)
	snapshot := filepath.Join(h.config.Dir, "redis", "snapshot")
	if err := os.WriteFile(snapshot, []byte(`{"format":1}`+"\n"+`{"k":"bm90`), 0o600); err != nil {
		t.Fatal(err)
	}
	h.start(t)
	client := redis.NewClient(&redis.Options{Addr: h.server.RedisAddr()})
	defer client.Close()
	if n, err := client.DBSize(t.Context()).Result(); err != nil || n != 0 {
		t.Errorf("started with %d keys, %v", n, err)
	}
}

func TestRedisIsSavedWhileItRuns(t *testing.T) {
	dir := t.TempDir()
	s, err := embedded.Start(t.Context(), embedded.Config{Dir: dir, SaveEvery: 20 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	client := redis.NewClient(&redis.Options{Addr: s.RedisAddr()})
	defer client.Close()
	if err := client.Set(t.Context(), "k", "v", 0).Err(); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(20 * time.Second); ; <-time.After(5 * time.Millisecond) {
		saved, err := os.ReadFile(filepath.Join(dir, "redis", "snapshot"))
		if err == nil && strings.Contains(string(saved), `"k":"aw=="`) {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("never saved: %v", err)
		}
	}
}

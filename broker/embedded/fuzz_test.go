package embedded

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
)

// A snapshot that is anything is read or refused, and what was read can be saved and read again.
func FuzzSnapshot(f *testing.F) {
	m := miniredis.NewMiniRedis()
	_ = m.Set("s", "v")
	m.HSet("h", "f", "v")
	_, _ = m.ZAdd("z", 1.5, "m")
	_, _ = m.SAdd("set", "a", "b")
	_, _ = m.Push("l", "x", "y")
	m.SetTTL("s", time.Hour)
	file := filepath.Join(f.TempDir(), "seed")
	if err := save(m, file, time.Unix(1_800_000_000, 0)); err != nil {
		f.Fatal(err)
	}
	whole, err := os.ReadFile(file)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(whole)
	f.Add(whole[:len(whole)-7])
	f.Add([]byte(`{"format":1,"taken":"2026-11-29T12:00:00Z"}` + "\n" + `{"k":"cw==","t":"zset","z":[{"n":"bQ==","v":1e308}],"ttl":-1}`))
	f.Add([]byte(`{"format":2}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		dir := t.TempDir()
		in, out := filepath.Join(dir, "in"), filepath.Join(dir, "out")
		if err := os.WriteFile(in, text, 0o600); err != nil {
			t.Fatal(err)
		}
		now := time.Unix(1_800_000_000, 0)
		first := miniredis.NewMiniRedis()
		if load(first, in, now) != nil {
			return
		}
		if err := save(first, out, now); err != nil {
			t.Fatalf("what was read cannot be saved: %v", err)
		}
		second := miniredis.NewMiniRedis()
		if err := load(second, out, now); err != nil {
			t.Fatalf("what was saved cannot be read: %v", err)
		}
		if a, b := len(first.Keys()), len(second.Keys()); a != b {
			t.Errorf("of %d keys %d are there after another save", a, b)
		}
	})
}

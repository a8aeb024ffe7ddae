package cursor

import (
	"context"
	"log/slog"
	"slices"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/google/uuid"
	"github.com/redis/go-redis/v9"

	"github.com/eventissuer/eventissuer/internal/testenv"
)

// onEveryRedis runs a test against the embedded Redis and a real one.
func onEveryRedis(t *testing.T, test func(t *testing.T, h *hints, client *redis.Client)) {
	t.Helper()
	for name, url := range map[string]func(testing.TB) string{
		"embedded": func(t testing.TB) string { return "redis://" + miniredis.RunT(t).Addr() },
		"real":     testenv.Redis,
	} {
		t.Run(name, func(t *testing.T) {
			o, err := redis.ParseURL(url(t))
			if err != nil {
				t.Fatal(err)
			}
			o.ContextTimeoutEnabled, o.DisableIdentity = true, true
			client := redis.NewClient(o)
			defer func() { _ = client.Close() }()
			test(t, newHints(client, testenv.Name("hints")+":", 5*time.Second, slog.New(slog.DiscardHandler), newMetrics(nil)), client)
		})
	}
}

func TestAHintIsTheHighestOfTheLatestLease(t *testing.T) {
	onEveryRedis(t, func(t *testing.T, h *hints, _ *redis.Client) {
		ctx := context.Background()
		a, b := uuid.New().String(), uuid.New().String()
		const large = 1<<53 - 1
		for i, step := range []struct {
			write hint
			want  hint
		}{
			{hint{a, 2, 7, place{0, []int64{5, 5}}}, hint{a, 2, 7, place{0, []int64{5, 5}}}},
			{hint{a, 2, 7, place{0, []int64{9, 3}}}, hint{a, 2, 7, place{0, []int64{9, 5}}}},             // the maximum under an equal lease
			{hint{a, 2, 7, place{0, []int64{10}}}, hint{a, 2, 7, place{0, []int64{10, 5}}}},              // missing ones count as 0
			{hint{a, 2, 7, place{0, []int64{1, 1, 4}}}, hint{a, 2, 7, place{0, []int64{10, 5, 4}}}},      // a partition was added
			{hint{a, 1, 7, place{0, []int64{99, 99, 99}}}, hint{a, 2, 7, place{0, []int64{10, 5, 4}}}},   // a lower lease is refused
			{hint{a, 3, 7, place{0, []int64{1, 1, 1}}}, hint{a, 3, 7, place{0, []int64{1, 1, 1}}}},       // a higher one takes over, lower too
			{hint{a, 3, 8, place{0, []int64{0, 2}}}, hint{a, 3, 8, place{0, []int64{0, 2}}}},             // another epoch of the stream
			{hint{a, 3, 8, place{0, []int64{large, 100}}}, hint{a, 3, 8, place{0, []int64{large, 100}}}}, // compared as numbers, kept as they are
			{hint{a, 3, 8, place{0, []int64{large - 1, 99}}}, hint{a, 3, 8, place{0, []int64{large, 100}}}},
			{hint{b, 1, 8, place{0, []int64{6}}}, hint{b, 1, 8, place{0, []int64{6}}}}, // another incarnation
			{hint{b, 1, 8, place{}}, hint{b, 1, 8, place{0, []int64{6}}}},
			{hint{b, 1, 8, place{1, []int64{2}}}, hint{b, 1, 8, place{1, []int64{2}}}}, // the log lost its end: a higher cut counts alone
			{hint{b, 1, 8, place{0, []int64{7}}}, hint{b, 1, 8, place{1, []int64{2}}}}, // a lower one is refused
			{hint{b, 1, 8, place{1, []int64{3}}}, hint{b, 1, 8, place{1, []int64{3}}}},
			{hint{b, 1, 9, place{1, []int64{1}}}, hint{b, 1, 9, place{1, []int64{1}}}},
			{hint{b, 2, 9, place{0, []int64{1}}}, hint{b, 2, 9, place{0, []int64{1}}}},
		} {
			h.write(ctx, []hinted{{"x", step.write}})
			got, ok := h.read(ctx, "x")
			if !ok || got.incarnation != step.want.incarnation || got.lease != step.want.lease || got.epoch != step.want.epoch || got.cut != step.want.cut || !slices.Equal(got.next, step.want.next) {
				t.Fatalf("step %d: got %+v (%v), want %+v", i, got, ok, step.want)
			}
		}
		h.forget(ctx, "x")
		if got, ok := h.read(ctx, "x"); ok {
			t.Fatalf("forgotten, and yet %+v", got)
		}
	})
}

func TestAHintOfAnEarlierVersionIsRead(t *testing.T) {
	onEveryRedis(t, func(t *testing.T, h *hints, client *redis.Client) {
		if err := client.HSet(t.Context(), h.prefix+"x", "i", "a", "l", "2", "e", "4d", "n", "5,6").Err(); err != nil {
			t.Fatal(err)
		}
		if got, ok := h.read(t.Context(), "x"); !ok || got.epoch != 0x4d || got.cut != 0 || !slices.Equal(got.next, []int64{5, 6}) {
			t.Fatalf("got %+v %v", got, ok)
		}
		h.write(t.Context(), []hinted{{"x", hint{"a", 2, 0x4d, place{0, []int64{4, 7}}}}})
		if got, ok := h.read(t.Context(), "x"); !ok || !slices.Equal(got.next, []int64{5, 7}) {
			t.Fatalf("got %+v %v", got, ok)
		}
	})
}

func TestHintsGoOnAfterRedisForgotTheScript(t *testing.T) {
	onEveryRedis(t, func(t *testing.T, h *hints, client *redis.Client) {
		ctx := context.Background()
		var all []hinted
		for range 3 * hintBatch / 2 { // more than a pipeline
			all = append(all, hinted{uuid.New().String(), hint{"i", 1, 2, place{0, []int64{3}}}})
		}
		for range 2 {
			if err := client.ScriptFlush(ctx).Err(); err != nil {
				t.Fatal(err)
			}
			h.write(ctx, all)
			for _, b := range all {
				if got, ok := h.read(ctx, b.id); !ok || !slices.Equal(got.next, []int64{3}) {
					t.Fatalf("got %+v %v", got, ok)
				}
			}
		}
		if ttl := client.TTL(ctx, h.prefix+all[0].id).Val(); ttl <= 0 || ttl > hintTTL {
			t.Errorf("a hint lives for %v", ttl)
		}
	})
}

func TestWhatIsNoHintCountsAsNone(t *testing.T) {
	onEveryRedis(t, func(t *testing.T, h *hints, client *redis.Client) {
		ctx := context.Background()
		for name, fields := range map[string][]string{
			"half":     {"i", "a", "l", "1"},
			"lease":    {"i", "a", "l", "one", "e", "1", "n", "1"},
			"offsets":  {"i", "a", "l", "1", "e", "1", "n", "1,x"},
			"cut":      {"i", "a", "l", "1", "e", "1:x", "n", "1"},
			"negative": {"i", "a", "l", "1", "e", "1", "n", "-1"},
		} {
			if err := client.HSet(ctx, h.prefix+name, fields).Err(); err != nil {
				t.Fatal(err)
			}
			if got, ok := h.read(ctx, name); ok {
				t.Errorf("%s: %+v", name, got)
			}
		}
		if err := client.Set(ctx, h.prefix+"string", "x", 0).Err(); err != nil {
			t.Fatal(err)
		}
		if got, ok := h.read(ctx, "string"); ok {
			t.Errorf("of another type: %+v", got)
		}
	})
}

package deadletters

import (
	"encoding/json"
	"errors"
	"fmt"
	"testing"

	"github.com/alicebob/miniredis/v2"
	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"
	"go.uber.org/goleak"

	"github.com/eventissuer/eventissuer/broker"
	"github.com/eventissuer/eventissuer/broker/embedded"
	"github.com/eventissuer/eventissuer/broker/kafka"
)

func TestMain(m *testing.M) {
	// sarama's metrics keep one goroutine for the whole process.
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("github.com/rcrowley/go-metrics.(*meterArbiter).tick"))
}

// boxes are two replicas' boxes on one log and one Redis.
func boxes(t *testing.T) (one, other *Box, server *miniredis.Miniredis) {
	t.Helper()
	servers, err := embedded.Start(t.Context(), embedded.Config{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	log, err := kafka.New(kafka.Config{Brokers: servers.Brokers()}, kafka.Deps{})
	if err != nil {
		t.Fatal(err)
	}
	server = miniredis.RunT(t)
	client := redis.NewClient(&redis.Options{Addr: server.Addr(), MaxRetries: -1})
	t.Cleanup(func() {
		if err := errors.Join(client.Close(), log.Close(), servers.Close()); err != nil {
			t.Error(err)
		}
	})
	both := make([]*Box, 2)
	for i := range both {
		if both[i], err = New(Config{Log: log, Redis: client}); err != nil {
			t.Fatal(err)
		}
	}
	return both[0], both[1], server
}

// write writes letters of a subscription, one for each of some offsets of a stream.
func write(t *testing.T, b *Box, subscription string, offsets ...int64) {
	t.Helper()
	letters := make([]Letter, len(offsets))
	for i, offset := range offsets {
		letters[i] = Letter{Subscription: subscription, Stream: "trains", Offset: offset, Attempts: 1, Reason: "timeout", Event: json.RawMessage(fmt.Sprintf(`{"id":"%d"}`, offset))}
	}
	for _, ack := range b.Write(t.Context(), letters) {
		if errors.Is(ack.Err, broker.ErrNoTopic) {
			write(t, b, subscription, offsets...) // it is there now
			return
		}
		if ack.Err != nil {
			t.Fatal(ack.Err)
		}
	}
}

// page reads all letters of a subscription, some at a time.
func page(t *testing.T, b *Box, subscription string, most int) (all []Letter) {
	t.Helper()
	for from := int64(0); from >= 0; {
		letters, next, err := b.Page(t.Context(), subscription, from, most)
		if err != nil {
			t.Fatal(err)
		}
		all, from = append(all, letters...), next
	}
	return all
}

func TestLettersAreFoundByTheirIDs(t *testing.T) {
	b, _, _ := boxes(t)
	if found, err := b.Find(t.Context(), "one", []int64{0}); err != nil || len(found) != 0 {
		t.Errorf("before the first letter: %v %v", found, err)
	}
	for i := range int64(20) { // those of others lie between them
		write(t, b, "one", i)
		write(t, b, "two", 100+i)
	}
	all := page(t, b, "one", 3)
	if len(all) != 20 {
		t.Fatalf("there are %d letters", len(all))
	}
	others := page(t, b, "two", 100)
	asked := []int64{all[7].ID, others[3].ID + 1_000_000, all[2].ID, all[19].ID, all[2].ID}
	found, err := b.Find(t.Context(), "one", asked)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]Letter{all[2], all[7], all[19]}, found); diff != "" {
		t.Error(diff)
	}
	for _, l := range others {
		found, err := b.Find(t.Context(), "one", []int64{l.ID})
		if err != nil || len(found) > 0 && found[0].Subscription != "one" {
			t.Errorf("asked for another's letter, it finds %+v, %v", found, err)
		}
	}
}

func TestDeliveredLettersAreRememberedOnEveryReplicaAsLongAsLettersAreKept(t *testing.T) {
	b, other, server := boxes(t)
	is := func(subscription string, want ...bool) {
		t.Helper()
		got, err := other.Redelivered(t.Context(), subscription, []int64{1, 2, 3})
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
	}
	is("one", false, false, false)
	for _, ids := range [][]int64{{3}, nil, {1, 3}} {
		if err := b.Redeliver(t.Context(), "one", ids); err != nil {
			t.Fatal(err)
		}
	}
	is("one", true, false, true)
	is("two", false, false, false)
	server.FastForward(retention - 1)
	is("one", true, false, true)
	server.FastForward(2)
	is("one", false, false, false)

	server.Close()
	if _, err := b.Redelivered(t.Context(), "one", []int64{1}); !errors.Is(err, ErrUnavailable) {
		t.Errorf("without Redis: %v", err)
	}
	if err := b.Redeliver(t.Context(), "one", []int64{1}); !errors.Is(err, ErrUnavailable) {
		t.Errorf("without Redis: %v", err)
	}
}

func TestWithoutRedisNothingIsRemembered(t *testing.T) {
	b, _, _ := boxes(t)
	alone, err := New(Config{Log: b.cfg.Log})
	if err != nil {
		t.Fatal(err)
	}
	if err := alone.Redeliver(t.Context(), "one", []int64{1}); err != nil {
		t.Error(err)
	}
	if is, err := alone.Redelivered(t.Context(), "one", []int64{1}); err != nil || len(is) != 1 || is[0] {
		t.Errorf("%v %v", is, err)
	}
}

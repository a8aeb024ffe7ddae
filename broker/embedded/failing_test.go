package embedded

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/eventissuer/eventissuer/broker"
	"github.com/eventissuer/eventissuer/broker/kafka"
	"github.com/eventissuer/eventissuer/internal/testenv"
)

// blind has a server not see that its disk is full, as where another process takes the last of it at that very moment.
func blind(t *testing.T, dir string) (broker.Log, func()) {
	t.Helper()
	s, err := start(t.Context(), Config{Dir: dir}, func(string) (left, size uint64, err error) {
		return math.MaxInt64, math.MaxInt64, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	log, err := kafka.New(kafka.Config{Brokers: s.Brokers()}, kafka.Deps{})
	if err != nil {
		t.Fatal(err)
	}
	return log, func() {
		if err := log.Close(); err != nil {
			t.Error(err)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestAWriteThatFailsHalfWayIsNotAcknowledgedAndSpoilsNothing(t *testing.T) {
	dir := testenv.SmallDisk(t, 8<<20)
	log, stop := blind(t, dir)
	if err := log.Create(t.Context(), "a", broker.TopicConfig{Partitions: 1}); err != nil {
		t.Fatal(err)
	}
	acked := map[string]int64{}
	n := 0
	write := func(size int) error {
		value := fmt.Sprintf("%06d:%s", n, strings.Repeat("x", size))
		n++
		ctx, cancel := context.WithTimeout(t.Context(), 15*time.Second)
		defer cancel()
		ack := log.Append(ctx, "a", []broker.Message{{Partition: 0, Value: []byte(value)}})[0]
		if ack.Err == nil {
			acked[value[:6]] = ack.Offset
		}
		return ack.Err
	}
	verify := func(when string) {
		t.Helper()
		batch, err := log.Read(t.Context(), "a", 0, 0, 8<<20)
		if err != nil {
			t.Fatalf("%s: %v", when, err)
		}
		for value, offset := range acked {
			if !slices.ContainsFunc(batch.Records, func(r broker.Record) bool { return r.Offset == offset && strings.HasPrefix(string(r.Value), value) }) {
				t.Errorf("%s: record %s was acknowledged at %d, and is not there", when, value, offset)
			}
		}
		for i, r := range batch.Records {
			if r.Offset != int64(i) {
				t.Errorf("%s: record %d is at %d", when, i, r.Offset)
			}
		}
	}
	for round := range 4 {
		for range 5 {
			if err := write(1000 * (round + 1)); err != nil {
				t.Fatal(err)
			}
		}
		release := testenv.Fill(t, dir)
		failed := 0
		for range 6 { // the last page of a file may have room for the first
			if write(2000) != nil {
				failed++
			}
		}
		if failed == 0 {
			t.Error("a full disk takes everything: the test shows nothing")
		}
		verify("on a full disk")
		release()
		if err := write(100); err != nil {
			t.Errorf("with room again: %v", err)
		}
		verify("with room again")
		if round%2 == 1 {
			stop()
			log, stop = blind(t, dir)
			verify("after a start")
		}
	}
	stop()
}

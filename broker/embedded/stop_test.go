package embedded

import (
	"context"
	"fmt"
	"math"
	"testing"
	"time"

	"github.com/eventissuer/eventissuer/broker"
	"github.com/eventissuer/eventissuer/broker/kafka"
	"github.com/eventissuer/eventissuer/internal/testenv"
)

// The guard takes its time here, so that nearly every stop comes while a record is with it.
func TestAStopAmidAWriteHasNothingWrittenTwice(t *testing.T) {
	cfg := Config{Dir: t.TempDir(), KafkaPort: testenv.FreePort(t), RedisPort: testenv.FreePort(t)}
	again := func() *Server {
		s, err := start(t.Context(), cfg, func(string) (left, size uint64, err error) {
			time.Sleep(5 * time.Millisecond)
			return math.MaxInt64, math.MaxInt64, nil
		})
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	s := again()
	log, err := kafka.New(kafka.Config{Brokers: s.Brokers()}, kafka.Deps{})
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	if err := log.Create(t.Context(), "a", broker.TopicConfig{Partitions: 1}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	acked := make(chan int)
	go func() {
		n := 0
		for ; ctx.Err() == nil; n++ {
			if ack := log.Append(t.Context(), "a", []broker.Message{{Value: fmt.Append(nil, n)}})[0]; ack.Err != nil {
				t.Errorf("record %d: %v", n, ack.Err)
			}
		}
		acked <- n
	}()
	for range 5 {
		time.Sleep(50 * time.Millisecond)
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		s = again()
	}
	cancel()
	n := <-acked
	batch, err := log.Read(t.Context(), "a", 0, 0, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	for i, r := range batch.Records {
		if got, want := string(r.Value), fmt.Sprint(i); got != want {
			t.Fatalf("record %d is %q", i, got)
		}
	}
	if len(batch.Records) != n {
		t.Errorf("%d records on the log, %d acknowledged", len(batch.Records), n)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

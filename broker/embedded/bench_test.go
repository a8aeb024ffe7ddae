package embedded_test

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/eventissuer/eventissuer/broker"
)

// event is about as large as most events are.
var event = bytes.Repeat([]byte("e"), 400)

func benchTopic(b *testing.B, partitions int32) (broker.Log, string, broker.Epoch) {
	b.Helper()
	h := newHarness(b)
	log := h.Open(b)
	b.Cleanup(func() { _ = log.Close() })
	if err := log.Create(b.Context(), "bench", broker.TopicConfig{Partitions: partitions}); err != nil {
		b.Fatal(err)
	}
	info, err := log.Describe(b.Context(), "bench")
	if err != nil {
		b.Fatal(err)
	}
	return log, "bench", info.Epoch
}

func messages(n int) []broker.Message {
	msgs := make([]broker.Message, n)
	for i := range msgs {
		msgs[i] = broker.Message{
			Partition: broker.AnyPartition, Key: fmt.Appendf(nil, "key-%d", i), Value: event,
			Headers: []broker.Header{{Key: "content-type", Value: []byte("application/cloudevents+json; charset=UTF-8")}},
		}
	}
	return msgs
}

func mustAppend(b *testing.B, log broker.Log, topic string, msgs []broker.Message) {
	b.Helper()
	for _, a := range log.Append(b.Context(), topic, msgs) {
		if a.Err != nil {
			b.Fatal(a.Err)
		}
	}
}

func BenchmarkAppend(b *testing.B) {
	for _, n := range []int{1, 100} {
		b.Run(fmt.Sprintf("batch=%d", n), func(b *testing.B) {
			log, topic, _ := benchTopic(b, 12)
			msgs := messages(n)
			mustAppend(b, log, topic, msgs)
			b.SetBytes(int64(n * len(event)))
			b.ReportAllocs()
			for b.Loop() {
				mustAppend(b, log, topic, msgs)
			}
			b.ReportMetric(float64(b.N*n)/b.Elapsed().Seconds(), "events/s")
		})
	}
	b.Run("batch=1/callers=64", func(b *testing.B) {
		log, topic, _ := benchTopic(b, 12)
		msgs := messages(1)
		mustAppend(b, log, topic, msgs)
		b.SetParallelism(32)
		b.ReportAllocs()
		b.ResetTimer()
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				mustAppend(b, log, topic, msgs)
			}
		})
		b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "events/s")
	})
}

func fill(b *testing.B, log broker.Log, topic string, events int) {
	b.Helper()
	msgs := messages(1000)
	for range events / len(msgs) {
		mustAppend(b, log, topic, msgs)
	}
}

func BenchmarkRead(b *testing.B) {
	log, topic, _ := benchTopic(b, 1)
	fill(b, log, topic, 50_000)
	b.ReportAllocs()
	events, at := 0, int64(0)
	for b.Loop() {
		batch, err := log.Read(b.Context(), topic, 0, at, 256<<10)
		if err != nil {
			b.Fatal(err)
		}
		events += len(batch.Records)
		if at = batch.Next; at >= batch.End {
			at = 0
		}
	}
	b.ReportMetric(float64(events)/b.Elapsed().Seconds(), "events/s")
	b.ReportMetric(float64(events)/float64(b.N), "events/op")
}

// counter counts what a tail brings, and ends it at a number.
type counter struct {
	events, until int
	end           context.CancelFunc
}

func (c *counter) Records(b broker.Batch) {
	if c.events += len(b.Records); c.events >= c.until {
		c.end()
	}
}
func (*counter) Gap(broker.Gap)   {}
func (*counter) Partitions(int32) {}
func (*counter) Health(error)     {}

func BenchmarkTail(b *testing.B) {
	const partitions, events = 12, 100_000
	log, topic, epoch := benchTopic(b, partitions)
	fill(b, log, topic, events)
	b.SetBytes(int64(events * len(event)))
	b.ReportAllocs()
	for b.Loop() {
		ctx, cancel := context.WithCancel(b.Context())
		_ = log.Tail(ctx, topic, epoch, make([]int64, partitions), &counter{until: events, end: cancel})
	}
	b.ReportMetric(float64(b.N*events)/b.Elapsed().Seconds(), "events/s")
}

// BenchmarkAppendToTail is the time from an append on an idle log to the record's arrival at a tail.
func BenchmarkAppendToTail(b *testing.B) {
	log, topic, epoch := benchTopic(b, 12)
	ctx, cancel := context.WithCancel(b.Context())
	arrived, done := make(chan struct{}, 1), make(chan struct{})
	go func() {
		defer close(done)
		_ = log.Tail(ctx, topic, epoch, make([]int64, 12), arrivals(arrived))
	}()
	defer func() { cancel(); <-done }()
	msgs := messages(1)
	mustAppend(b, log, topic, msgs)
	<-arrived
	b.ReportAllocs()
	for b.Loop() {
		mustAppend(b, log, topic, msgs)
		<-arrived
	}
}

// BenchmarkLiveEventOnAnIdleStream is the same, where there was nothing for some time before each event.
func BenchmarkLiveEventOnAnIdleStream(b *testing.B) {
	log, topic, epoch := benchTopic(b, 12)
	ctx, cancel := context.WithCancel(b.Context())
	arrived, done := make(chan struct{}, 1), make(chan struct{})
	go func() {
		defer close(done)
		_ = log.Tail(ctx, topic, epoch, make([]int64, 12), arrivals(arrived))
	}()
	defer func() { cancel(); <-done }()
	msgs := messages(1)
	mustAppend(b, log, topic, msgs)
	<-arrived
	quiet := time.NewTicker(10 * time.Millisecond)
	defer quiet.Stop()
	var took []time.Duration
	for b.Loop() {
		<-quiet.C
		began := time.Now()
		mustAppend(b, log, topic, msgs)
		<-arrived
		took = append(took, time.Since(began))
	}
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Microseconds()), "µs/event")
	b.ReportMetric(float64(took[len(took)*99/100].Microseconds()), "µs/event-p99")
	b.ReportMetric(0, "ns/op") // it is mostly the silence
}

type arrivals chan<- struct{}

func (a arrivals) Records(broker.Batch) { a <- struct{}{} }
func (arrivals) Gap(broker.Gap)         {}
func (arrivals) Partitions(int32)       {}
func (arrivals) Health(error)           {}

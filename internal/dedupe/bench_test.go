package dedupe

import (
	"context"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/eventissuer/eventissuer/broker"
	"github.com/eventissuer/eventissuer/broker/embedded"
	"github.com/eventissuer/eventissuer/broker/kafka"
	"github.com/eventissuer/eventissuer/internal/testenv"
)

// instantLog acknowledges at once, so that what is measured is deduplication alone.
type instantLog struct {
	*memoryLog
	next int64
	ends []int64
}

func (l *instantLog) Append(_ context.Context, _ string, msgs []broker.Message) []broker.Ack {
	acks := make([]broker.Ack, len(msgs))
	for i := range msgs {
		acks[i] = broker.Ack{Partition: msgs[i].Partition, Offset: l.next}
		l.next++
	}
	return acks
}

func (l *instantLog) Place(_ context.Context, _ string, msgs []broker.Message) (broker.Epoch, []int64, error) {
	for i := range msgs {
		msgs[i].Partition = int32(i % len(l.ends))
	}
	return broker.Epoch{1, 1}, l.ends, nil
}

func benchmarkAppend(b *testing.B, client redis.UniversalClient, size int) {
	log := &instantLog{memoryLog: newMemoryLog(time.Now), ends: make([]int64, 8)}
	log.create("eventissuer.train-positions", 8)
	d, err := New(Config{Prefix: testenv.Name("bench") + ":"}, Deps{Log: log, Redis: client})
	if err != nil {
		b.Fatal(err)
	}
	defer d.Close()
	stream := Stream{"train-positions", "eventissuer.train-positions"}
	events := make([]Event, size)
	m := happening(b, "x", "a").Message
	n := 0
	b.ReportAllocs()
	for b.Loop() {
		for i := range events {
			n++
			events[i] = Event{Source: "https://trains.example.com/positions", ID: fmt.Sprintf("%08d-c0de-4a11-8a11", n), Window: day, Message: m}
		}
		for _, o := range d.Append(b.Context(), stream, events) {
			if o.Ack.Err != nil || o.Duplicate || o.Degraded {
				b.Fatalf("%+v", o)
			}
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*size), "ns/event")
}

func BenchmarkAppend(b *testing.B) {
	for _, size := range []int{1, 100} {
		b.Run(fmt.Sprintf("memory/%d", size), func(b *testing.B) { benchmarkAppend(b, nil, size) })
		b.Run(fmt.Sprintf("redis/%d", size), func(b *testing.B) { benchmarkAppend(b, realRedis(b, testenv.Redis(b)), size) })
	}
}

func BenchmarkKey(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		keyOf("https://trains.example.com/positions", "00000001-c0de-4a11-8a11")
	}
}

func realRedis(t testing.TB, url string) *redis.Client {
	t.Helper()
	o, err := redis.ParseURL(url)
	if err != nil {
		t.Fatal(err)
	}
	o.ContextTimeoutEnabled, o.DisableIdentity = true, true
	o.MaintNotificationsConfig = silent()
	c := redis.NewClient(o)
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// bytesPerID measures what n events take in the process.
func bytesPerID(n int) float64 {
	for range 3 { // what pools hold goes with the second
		runtime.GC()
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	m := newMemory(Config{}.withDefaults(), nil, nil, newMetrics(nil), time.Now)
	put(m, n)
	runtime.GC()
	runtime.ReadMemStats(&after)
	runtime.KeepAlive(m)
	return (float64(after.HeapAlloc) - float64(before.HeapAlloc)) / float64(n)
}

func put(m *memory, n int) {
	l := life{"prefix.s", "s", epoch{1}}
	for i := range n {
		k := keyOf("/test", fmt.Sprint(i))
		m.swap([]*change{{key: k, orAbsent: true, window: day, to: state{kind: done, life: l, partition: int32(i % 8), offset: int64(i)}}})
	}
}

// TestAnEventTakesFewBytesInRedis measures what the documentation says.
func TestAnEventTakesFewBytesInRedis(t *testing.T) {
	client := realRedis(t, testenv.StartRedis(t, testenv.RedisOptions{}).URL())
	used := func() (bytes float64) {
		info := client.Info(t.Context(), "memory").Val()
		_, rest, _ := strings.Cut(info, "used_memory:")
		_, _ = fmt.Sscan(rest, &bytes)
		return bytes
	}
	log := &instantLog{memoryLog: newMemoryLog(time.Now), ends: make([]int64, 8)}
	d, err := New(Config{RedisTimeout: time.Minute}, Deps{Log: log, Redis: client})
	if err != nil {
		t.Fatal(err)
	}
	const batches, size = 1000, 100
	m := happening(t, "x", "a").Message
	before := used()
	for i := range batches {
		events := make([]Event, size)
		for j := range events {
			events[j] = Event{Source: "/test", ID: fmt.Sprint(i, ".", j), Window: day, Message: m}
		}
		for _, o := range d.Append(t.Context(), Stream{"train-positions", "eventissuer.train-positions"}, events) {
			if o.Ack.Err != nil || o.Duplicate || o.Degraded {
				t.Fatalf("%+v", o)
			}
		}
	}
	each := (used() - before) / batches / size
	t.Logf("%.0f bytes an event", each)
	if each > 220 {
		t.Errorf("an event takes %.0f bytes in Redis, more than documented", each)
	}
}

// BenchmarkEmbedded publishes to the embedded Kafka, with and without deduplication, from one publisher.
func BenchmarkEmbedded(b *testing.B) {
	for _, size := range []int{1, 100} {
		for name, window := range map[string]time.Duration{"plain": 0, "deduplicated": day} {
			b.Run(fmt.Sprintf("%s/%d", name, size), func(b *testing.B) {
				servers, err := embedded.Start(b.Context(), embedded.Config{Dir: b.TempDir()})
				if err != nil {
					b.Fatal(err)
				}
				defer servers.Close()
				log, err := kafka.New(kafka.Config{Brokers: servers.Brokers()}, kafka.Deps{})
				if err != nil {
					b.Fatal(err)
				}
				defer log.Close()
				if err := log.Create(b.Context(), stream.Topic, broker.TopicConfig{Partitions: 8}); err != nil {
					b.Fatal(err)
				}
				d, err := New(Config{}, Deps{Log: log})
				if err != nil {
					b.Fatal(err)
				}
				defer d.Close()
				keys := make([][]byte, 50)
				for i := range keys {
					keys[i] = fmt.Append(nil, "/train/", i)
				}
				value := make([]byte, 300)
				n := 0
				b.ReportAllocs()
				for b.Loop() {
					events := make([]Event, size)
					for i := range events {
						n++
						events[i] = Event{Source: "https://trains.example.com/positions", ID: fmt.Sprintf("%08d-c0de-4a11-8a11", n), Window: window, Message: broker.Message{Partition: broker.AnyPartition, Key: keys[n%50], Value: value}}
					}
					for _, o := range d.Append(b.Context(), stream, events) {
						if o.Ack.Err != nil || o.Duplicate {
							b.Fatalf("%+v", o)
						}
					}
				}
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*size), "ns/event")
			})
		}
	}
}

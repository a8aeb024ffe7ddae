package kafka

import (
	"bytes"
	"testing"
	"time"

	"github.com/IBM/sarama"
)

// BenchmarkDecode turns a fetch of 3,000 records of 300 B into the contract's.
func BenchmarkDecode(b *testing.B) {
	const n = 3000
	value := bytes.Repeat([]byte("x"), 300)
	set := &sarama.RecordBatch{
		Version: 2, LastOffsetDelta: n - 1, ProducerID: -1, FirstTimestamp: time.UnixMilli(1000), MaxTimestamp: time.UnixMilli(5000),
	}
	for i := range int64(n) {
		set.Records = append(set.Records, &sarama.Record{
			OffsetDelta: i, TimestampDelta: time.Duration(i) * time.Millisecond, Key: value[:4], Value: value,
			Headers: []*sarama.RecordHeader{{Key: []byte("content-type"), Value: []byte("application/cloudevents+json; charset=UTF-8")}},
		})
	}
	block := &sarama.FetchResponseBlock{RecordsSet: []*sarama.Records{{RecordBatch: set}}, LastStableOffset: n}
	for _, owned := range []bool{false, true} {
		b.Run(map[bool]string{false: "read", true: "tail"}[owned], func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				d := decode(block, 0, 0)
				if owned {
					d.own()
				}
				if len(d.Records) != n {
					b.Fatal(len(d.Records))
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*n), "ns/event")
		})
	}
}

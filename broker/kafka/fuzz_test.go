package kafka

import (
	"encoding/binary"
	"testing"

	"github.com/IBM/sarama"
)

// Responses of a broker that are anything are read without harm: offsets go up, none is below what was asked for, and where to
// read on is above all.
func FuzzDecode(f *testing.F) {
	f.Add([]byte{3, 1, 2, 3}, int64(0), uint8(0))
	f.Add([]byte{200, 0, 9, 9, 9, 255, 255}, int64(5), uint8(1))
	f.Add([]byte{1}, int64(1<<40), uint8(7))
	f.Fuzz(func(t *testing.T, shape []byte, asked int64, how uint8) {
		if asked < 0 {
			return
		}
		block := &sarama.FetchResponseBlock{HighWaterMarkOffset: 1 << 50, LastStableOffset: 1 << 50}
		at := max(asked-int64(how%8), 0)
		for i, n := range shape {
			batch := &sarama.RecordBatch{FirstOffset: at, Version: 2, LastOffsetDelta: int32(n), Control: how&8 != 0 && i%3 == 0}
			for d := int64(0); d <= int64(n%16); d++ {
				value := binary.AppendVarint(nil, at+d)
				batch.Records = append(batch.Records, &sarama.Record{OffsetDelta: d, Key: shape[:i], Value: value, Headers: []*sarama.RecordHeader{{Key: shape[:i], Value: value}}})
			}
			block.RecordsSet = append(block.RecordsSet, &sarama.Records{RecordBatch: batch})
			at += int64(n) + 1
		}
		d := decode(block, 3, asked)
		last := asked - 1
		for _, r := range d.Records {
			if r.Offset <= last || r.Partition != 3 {
				t.Fatalf("record at %d of partition %d comes after %d", r.Offset, r.Partition, last)
			}
			if want, _ := binary.Varint(r.Value); want != r.Offset {
				t.Fatalf("at %d is the value of %d", r.Offset, want)
			}
			last = r.Offset
		}
		if d.Next <= last && len(d.Records) > 0 {
			t.Errorf("reading goes on at %d, after %d", d.Next, last)
		}
	})
}

package kafka

import (
	"fmt"
	"testing"
	"time"
	"unsafe"

	"github.com/IBM/sarama"
	"github.com/google/go-cmp/cmp"

	"github.com/eventissuer/eventissuer/broker"
)

// batchOf makes a record batch whose keys and values are slices of one buffer, as sarama's are.
func batchOf(buffer []byte, first int64, n int, set func(*sarama.RecordBatch)) *sarama.Records {
	b := &sarama.RecordBatch{
		Version: 2, FirstOffset: first, LastOffsetDelta: int32(n - 1), ProducerID: -1,
		FirstTimestamp: time.UnixMilli(1000), MaxTimestamp: time.UnixMilli(5000),
	}
	for i := range n {
		b.Records = append(b.Records, &sarama.Record{
			OffsetDelta: int64(i), TimestampDelta: time.Duration(i) * time.Millisecond, Key: buffer[i : i+1], Value: buffer[i : i+4],
			Headers: []*sarama.RecordHeader{{Key: buffer[:2], Value: buffer[2:3]}},
		})
	}
	if set != nil {
		set(b)
	}
	return &sarama.Records{RecordBatch: b}
}

func offsets(d decoded) string {
	var all []int64
	for _, r := range d.Records {
		all = append(all, r.Offset)
	}
	return fmt.Sprint(all, " next ", d.Next)
}

func TestOwnedRecordsAliasNothingOfTheResponse(t *testing.T) {
	buffer := []byte("0123456789")
	d := decode(&sarama.FetchResponseBlock{RecordsSet: []*sarama.Records{batchOf(buffer, 0, 3, nil)}}, 0, 0)
	d.own()
	clear(buffer)
	for i, want := range []string{"0123", "1234", "2345"} {
		r := d.Records[i]
		if string(r.Value) != want || string(r.Key) != want[:1] || r.Headers[0].Key != "01" || string(r.Headers[0].Value) != "2" {
			t.Errorf("record %d changed with the response: %q %q %v", i, r.Key, r.Value, r.Headers)
		}
	}
	// One piece of memory a batch, and an append to one value does not run into the next.
	if a, b := unsafe.SliceData(d.Records[0].Value), unsafe.SliceData(d.Records[1].Key); uintptr(unsafe.Pointer(b))-uintptr(unsafe.Pointer(a)) > 8 {
		t.Error("a batch's records are not in one piece of memory")
	}
	_ = append(d.Records[0].Value, "overwritten"...)
	if string(d.Records[1].Key) != "1" {
		t.Error("an append to one value changed the next record")
	}
}

func TestAnAppendToADecodedSliceLeavesTheResponse(t *testing.T) {
	buffer := []byte("0123456789")
	d := decode(&sarama.FetchResponseBlock{RecordsSet: []*sarama.Records{batchOf(buffer, 0, 3, nil)}}, 0, 0)
	for _, r := range d.Records {
		for _, b := range [][]byte{r.Key, r.Value, r.Headers[0].Value} {
			_ = append(b, "overwritten"...)
		}
	}
	if string(buffer) != "0123456789" {
		t.Errorf("an append changed the response: %q", buffer)
	}
}

func TestRecordsShareHeadersOnlyWhereTheyAreTheSame(t *testing.T) {
	header := func(key string, value []byte) *sarama.RecordHeader {
		return &sarama.RecordHeader{Key: []byte(key), Value: value}
	}
	lists := [][]*sarama.RecordHeader{
		{header("a", []byte("1"))},
		{header("a", []byte("1"))},
		{header("a", []byte("2"))},
		{header("b", []byte("2"))},
		nil,
		{header("b", []byte{})},
		{header("b", nil)},
		{header("b", nil), header("b", nil)},
		{header("b", nil)},
	}
	for _, owned := range []bool{false, true} {
		set := batchOf([]byte("0123456789"), 0, 1, func(b *sarama.RecordBatch) {
			b.Records = nil
			for i, list := range lists {
				b.Records = append(b.Records, &sarama.Record{OffsetDelta: int64(i), Headers: list})
			}
			b.LastOffsetDelta = int32(len(lists) - 1)
		})
		d := decode(&sarama.FetchResponseBlock{RecordsSet: []*sarama.Records{set}}, 0, 0)
		if owned {
			d.own()
		}
		for i, list := range lists {
			var want []broker.Header
			for _, h := range list {
				want = append(want, broker.Header{Key: string(h.Key), Value: h.Value})
			}
			if diff := cmp.Diff(want, d.Records[i].Headers); diff != "" {
				t.Errorf("record %d, owned %v:\n%s", i, owned, diff)
			}
		}
		if &d.Records[0].Headers[0] != &d.Records[1].Headers[0] {
			t.Error("the same headers are made twice")
		}
	}
}

func TestDecodeKeepsWhatMayBeReadAndStepsPastTheRest(t *testing.T) {
	buffer := []byte("0123456789")
	plain := func(first int64, n int) *sarama.Records { return batchOf(buffer, first, n, nil) }
	txn := func(first int64, n int, pid int64) *sarama.Records {
		return batchOf(buffer, first, n, func(b *sarama.RecordBatch) { b.IsTransactional, b.ProducerID = true, pid })
	}
	marker := func(at, pid int64, commit byte) *sarama.Records {
		return batchOf(buffer, at, 1, func(b *sarama.RecordBatch) {
			b.Control, b.IsTransactional, b.ProducerID = true, true, pid
			b.Records[0].Key = []byte{0, 0, 0, commit}
		})
	}
	cut := &sarama.Records{RecordBatch: &sarama.RecordBatch{Version: 2, FirstOffset: 7, LastOffsetDelta: 9, PartialTrailingRecord: true}}
	aborted := func(pairs ...int64) (all []*sarama.AbortedTransaction) {
		for i := 0; i < len(pairs); i += 2 {
			all = append(all, &sarama.AbortedTransaction{ProducerID: pairs[i], FirstOffset: pairs[i+1]})
		}
		return all
	}
	for name, c := range map[string]struct {
		from    int64
		sets    []*sarama.Records
		aborted []*sarama.AbortedTransaction
		want    string
		cut     bool
	}{
		"all":                         {0, []*sarama.Records{plain(0, 2), plain(2, 1)}, nil, "[0 1 2] next 3", false},
		"below the offset asked":      {1, []*sarama.Records{plain(0, 3)}, nil, "[1 2] next 3", false},
		"a batch below altogether":    {3, []*sarama.Records{plain(0, 3), plain(5, 1)}, nil, "[5] next 6", false},
		"a hole by compaction":        {0, []*sarama.Records{plain(4, 1), plain(9, 1)}, nil, "[4 9] next 10", false},
		"a committed transaction":     {0, []*sarama.Records{txn(0, 2, 7), marker(2, 7, 1)}, nil, "[0 1] next 3", false},
		"an aborted transaction":      {0, []*sarama.Records{txn(0, 2, 7), marker(2, 7, 0)}, aborted(7, 0), "[] next 3", false},
		"one aborted, one not":        {0, []*sarama.Records{txn(0, 1, 7), txn(1, 1, 8), marker(2, 7, 0), marker(3, 8, 1)}, aborted(7, 0), "[1] next 4", false},
		"aborted, then committed":     {0, []*sarama.Records{txn(0, 1, 7), marker(1, 7, 0), txn(2, 1, 7), marker(3, 7, 1)}, aborted(7, 0), "[2] next 4", false},
		"plain of a doomed producer":  {0, []*sarama.Records{batchOf(buffer, 0, 1, func(b *sarama.RecordBatch) { b.ProducerID = 7 })}, aborted(7, 0), "[0] next 1", false},
		"begun before what was asked": {5, []*sarama.Records{txn(5, 1, 7), marker(6, 7, 0)}, aborted(7, 2), "[] next 7", false},
		"aborted, told in any order":  {0, []*sarama.Records{txn(0, 1, 8), txn(1, 1, 7)}, aborted(7, 1, 8, 0), "[] next 2", false},
		"cut off after a whole one":   {5, []*sarama.Records{plain(5, 2), cut}, nil, "[5 6] next 7", true},
		"cut off at once":             {7, []*sarama.Records{cut}, nil, "[] next 7", true},
		"nothing":                     {7, nil, nil, "[] next 7", false},
	} {
		d := decode(&sarama.FetchResponseBlock{RecordsSet: c.sets, AbortedTransactions: c.aborted}, 0, c.from)
		if got := offsets(d); got != c.want || d.truncated != c.cut || d.empty != (c.sets == nil) {
			t.Errorf("%s: %s, cut off %v, empty %v; want %s", name, got, d.truncated, d.empty, c.want)
		}
	}
}

func TestDecodedTimesAreTheLogsOwnWhereItKeepsThem(t *testing.T) {
	buffer := []byte("0123456789")
	for appendTime, want := range map[bool][]int64{false: {1000, 1001}, true: {5000, 5000}} {
		set := batchOf(buffer, 0, 2, func(b *sarama.RecordBatch) { b.LogAppendTime = appendTime })
		var got []int64
		for _, r := range decode(&sarama.FetchResponseBlock{RecordsSet: []*sarama.Records{set}}, 0, 0).Records {
			got = append(got, r.Timestamp.UnixMilli())
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("log append time %v:\n%s", appendTime, diff)
		}
	}
}

// The end of emptied batches is read from a field of sarama's that has no other way out; it must still be there.
func TestEndOfEmptiedBatchesIsFound(t *testing.T) {
	block := &sarama.FetchResponseBlock{LastStableOffset: 10}
	if _, ok := nextOffset(block); ok {
		t.Error("an empty block has an end")
	}
	setNextOffset(block, 9)
	if d := decode(block, 0, 4); d.Next != 9 || d.empty {
		t.Errorf("next is %d, want 9", d.Next)
	}
	block.Partial = true
	if d := decode(block, 0, 4); d.Next != 4 || !d.truncated {
		t.Errorf("next is %d though the block was cut off", d.Next)
	}
}

func TestLegacyMessagesAreRead(t *testing.T) {
	when := time.UnixMilli(7000)
	set := &sarama.MessageSet{Messages: []*sarama.MessageBlock{
		{Offset: 3, Msg: &sarama.Message{Version: 1, Timestamp: when, Value: []byte("3")}},
		{Offset: 6, Msg: &sarama.Message{Version: 1, Codec: sarama.CompressionGZIP, Set: &sarama.MessageSet{Messages: []*sarama.MessageBlock{
			{Offset: 0, Msg: &sarama.Message{Version: 1, Timestamp: when, Value: []byte("4")}},
			{Offset: 1, Msg: &sarama.Message{Version: 1, Timestamp: when, Value: []byte("5")}},
			{Offset: 2, Msg: &sarama.Message{Version: 1, Timestamp: when, Value: []byte("6")}},
		}}}},
	}}
	d := decode(&sarama.FetchResponseBlock{RecordsSet: []*sarama.Records{{MsgSet: set}}}, 0, 4)
	both := []*sarama.Records{{MsgSet: set}, batchOf([]byte("0123456789"), 7, 2, nil)}
	if got := offsets(decode(&sarama.FetchResponseBlock{RecordsSet: both}, 0, 6)); got != "[6 7 8] next 9" {
		t.Errorf("old and new formats: got %s", got)
	}
	if got := offsets(d); got != "[4 5 6] next 7" || string(d.Records[0].Value) != "4" || !d.Records[0].Timestamp.Equal(when) {
		t.Errorf("got %s", got)
	}
}

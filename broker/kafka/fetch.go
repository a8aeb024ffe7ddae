package kafka

import (
	"context"
	"fmt"
	"reflect"
	"slices"
	"time"

	"github.com/IBM/sarama"

	"github.com/eventissuer/eventissuer/broker"
)

// want is one partition of a fetch.
type want struct {
	partition int32
	offset    int64
	maxBytes  int32
}

// fetchVersion is the newest that sarama speaks: by topic name, with the log's start, preferred replicas and aborted
// transactions.
const fetchVersion = 12

// fetchMost bounds an answer, in bytes, and no batch is larger. It is never meant to be reached: the embedded broker
// forgets to name aborted transactions in an answer that reaches it.
const fetchMost = 64 << 20

// fetch asks for records on c and waits up to wait for the first of them.
func (l *Log) fetch(ctx context.Context, c *conn, kind, topic string, wants []want, wait time.Duration) (map[int32]*sarama.FetchResponseBlock, error) {
	req := &sarama.FetchRequest{
		Version:      fetchVersion,
		MaxWaitTime:  int32(wait / time.Millisecond),
		MinBytes:     1,
		MaxBytes:     fetchMost, // what bounds an answer is the sum of its partitions'
		Isolation:    sarama.ReadCommitted,
		SessionEpoch: -1, // no fetch session
		RackID:       l.cfg.Rack,
	}
	for _, w := range wants {
		req.AddBlock(topic, w.partition, w.offset, w.maxBytes, -1)
	}
	resp, err := call(ctx, c, func(b *sarama.Broker) (*sarama.FetchResponse, error) { return b.Fetch(req) })
	if err == nil && resp.ErrorCode != 0 {
		err = fmt.Errorf("%w: fetch: %w", broker.ErrUnavailable, sarama.KError(resp.ErrorCode))
	}
	l.metrics.fetches.WithLabelValues(kind).Inc()
	if err != nil {
		l.metrics.fetchErrors.WithLabelValues(kind).Inc()
		return nil, err
	}
	// An empty answer is that of a broker that limits this client's rate: sarama waits before the next request.
	return resp.Blocks[topic], nil
}

// decoded is a partition's part of a fetch.
type decoded struct {
	broker.Batch
	truncated bool // a batch larger than what was asked was cut off: ask for more
	empty     bool // nothing came at all, not even holes
}

// decode turns what a fetch at offset gave for a partition into records. Like sarama's they are slices of the whole
// response, so that keeping one keeps what came for all partitions; [decoded.own] ends that.
func decode(block *sarama.FetchResponseBlock, partition int32, offset int64) decoded {
	d := decoded{Batch: broker.Batch{Partition: partition, Next: offset, Start: block.LogStartOffset, End: block.LastStableOffset}}
	aborted := slices.Clone(block.AbortedTransactions)
	slices.SortFunc(aborted, func(a, b *sarama.AbortedTransaction) int { return int(min(max(a.FirstOffset-b.FirstOffset, -1), 1)) })
	doomed := make(map[int64]bool) // producers inside a transaction that was aborted

	var keep []*sarama.RecordBatch
	records := 0
	d.empty = len(block.RecordsSet) == 0 && !block.Partial
	for _, set := range block.RecordsSet {
		if set.MsgSet != nil {
			d.decodeLegacy(set.MsgSet, offset) // older than all in the present format
			d.truncated = d.truncated || set.MsgSet.PartialTrailingMessage
			continue
		}
		b := set.RecordBatch
		if b == nil {
			continue
		}
		if b.PartialTrailingRecord {
			d.truncated = true
			continue
		}
		last := b.LastOffset()
		d.Next = max(d.Next, last+1)
		for len(aborted) > 0 && aborted[0].FirstOffset <= last {
			doomed[aborted[0].ProducerID] = true
			aborted = aborted[1:]
		}
		if b.Control {
			if isAbort(b) {
				delete(doomed, b.ProducerID)
			}
			continue
		}
		if b.IsTransactional && doomed[b.ProducerID] || last < offset {
			continue
		}
		keep = append(keep, b)
		records += len(b.Records)
		if b.FirstOffset < offset {
			for _, r := range b.Records {
				if b.FirstOffset+r.OffsetDelta < offset {
					records--
				}
			}
		}
	}
	if next, ok := nextOffset(block); ok && next > d.Next {
		d.Next, d.empty = next, false
	}
	d.truncated = d.truncated || block.Partial

	d.Records = slices.Grow(d.Records, records)
	var h headers
	for _, b := range keep {
		for _, r := range b.Records {
			at := b.FirstOffset + r.OffsetDelta
			if at < offset {
				continue
			}
			when := b.MaxTimestamp
			if !b.LogAppendTime {
				when = b.FirstTimestamp.Add(r.TimestampDelta)
			}
			d.Records = append(d.Records, broker.Record{
				Partition: partition, Offset: at, Timestamp: when,
				Key: slices.Clip(r.Key), Value: slices.Clip(r.Value), Headers: h.list(r.Headers),
			})
		}
	}
	return d
}

// decodeLegacy adds the messages of a set in the formats before Kafka 0.11, which old segments of adopted topics may hold.
func (d *decoded) decodeLegacy(set *sarama.MessageSet, offset int64) {
	for _, outer := range set.Messages {
		inner := outer.Messages()
		for _, m := range inner {
			at, when := m.Offset, m.Msg.Timestamp
			if m.Msg.Version >= 1 && len(inner) > 0 {
				// Inside a compressed message offsets are relative, and the outer one is that of the last.
				at += outer.Offset - inner[len(inner)-1].Offset
				if outer.Msg.LogAppendTime {
					when = outer.Msg.Timestamp
				}
			}
			if at < offset || at < d.Next {
				continue
			}
			d.Next = at + 1
			d.Records = append(d.Records, broker.Record{
				Partition: d.Partition, Offset: at, Timestamp: when, Key: slices.Clip(m.Msg.Key), Value: slices.Clip(m.Msg.Value),
			})
		}
	}
}

// isAbort reads a control batch's marker: a version and a type, of which 0 is abort.
func isAbort(b *sarama.RecordBatch) bool {
	return len(b.Records) > 0 && len(b.Records[0].Key) >= 4 && b.Records[0].Key[2] == 0 && b.Records[0].Key[3] == 0
}

// nextOffset returns where a block ends that holds nothing but batches which compaction emptied. sarama drops those from
// what it hands out and keeps their end to itself, yet without it a reader would stand before them for ever. In any
// other block the field is of no use: it may be the end of a batch that was cut off.
func nextOffset(block *sarama.FetchResponseBlock) (int64, bool) {
	if len(block.RecordsSet) > 0 || block.Partial {
		return 0, false
	}
	f := reflect.ValueOf(block).Elem().FieldByName("recordsNextOffset")
	if f.Kind() != reflect.Pointer || f.IsNil() || f.Elem().Kind() != reflect.Int64 {
		return 0, false
	}
	return f.Elem().Int(), true
}

// headersMost bounds how many headers are made in one piece of memory.
const headersMost = 512

// headers makes the headers of a batch's records. Most records have those of the one before them, and share them.
type headers struct {
	last  []broker.Header
	room  []broker.Header   // where the next ones are made
	names map[string]string // keys seen: a topic has few
}

func (h *headers) list(list []*sarama.RecordHeader) []broker.Header {
	if len(list) == 0 {
		return nil
	}
	if h.same(list) {
		return h.last
	}
	if cap(h.room)-len(h.room) < len(list) {
		h.room = make([]broker.Header, 0, max(len(list), min(2*cap(h.room), headersMost)))
	}
	from := len(h.room)
	for i, of := range list {
		h.room = append(h.room, broker.Header{Key: h.name(i, of.Key), Value: slices.Clip(of.Value)})
	}
	h.last = h.room[from:len(h.room):len(h.room)]
	return h.last
}

// same tells whether the headers are those that were made last, where a value that is nil is another than an empty one.
func (h *headers) same(list []*sarama.RecordHeader) bool {
	if len(list) != len(h.last) {
		return false
	}
	for i, of := range list {
		last := &h.last[i]
		if string(of.Key) != last.Key || string(of.Value) != string(last.Value) || (of.Value == nil) != (last.Value == nil) {
			return false
		}
	}
	return true
}

// name is the key as a string, which is mostly that of the header in the same place of the record before.
func (h *headers) name(at int, key []byte) string {
	if at < len(h.last) && h.last[at].Key == string(key) {
		return h.last[at].Key
	}
	if name, ok := h.names[string(key)]; ok {
		return name
	}
	if h.names == nil {
		h.names = make(map[string]string)
	}
	name := string(key)
	h.names[name] = name
	return name
}

// own moves the records into one piece of memory of their own.
func (d *decoded) own() {
	size := 0
	d.eachValue(func(b []byte) []byte {
		size += len(b)
		return b
	})
	arena := make([]byte, 0, size)
	d.eachValue(func(b []byte) []byte {
		if b == nil {
			return nil // a tombstone's value, and not an empty one
		}
		from := len(arena)
		arena = append(arena, b...)
		return arena[from:len(arena):len(arena)]
	})
}

// eachValue replaces all slices of the records, those that several share once.
func (d *decoded) eachValue(by func([]byte) []byte) {
	var last []broker.Header
	for i := range d.Records {
		r := &d.Records[i]
		r.Key, r.Value = by(r.Key), by(r.Value)
		if len(r.Headers) == 0 || len(last) > 0 && &r.Headers[0] == &last[0] {
			continue
		}
		last = r.Headers
		for j := range last {
			last[j].Value = by(last[j].Value)
		}
	}
}

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

// decoded is a partition's part of a fetch, made free of the response's buffer.
type decoded struct {
	broker.Batch
	truncated bool // a batch larger than what was asked was cut off: ask for more
	empty     bool // nothing came at all, not even holes
}

// decode turns what a fetch at offset gave for a partition into records of their own memory: sarama's are slices of the
// whole response, and keeping one would keep them all.
func decode(block *sarama.FetchResponseBlock, partition int32, offset int64) decoded {
	d := decoded{Batch: broker.Batch{Partition: partition, Next: offset, Start: block.LogStartOffset, End: block.LastStableOffset}}
	aborted := slices.Clone(block.AbortedTransactions)
	slices.SortFunc(aborted, func(a, b *sarama.AbortedTransaction) int { return int(min(max(a.FirstOffset-b.FirstOffset, -1), 1)) })
	doomed := make(map[int64]bool) // producers inside a transaction that was aborted

	var (
		keep []*sarama.RecordBatch
		sum  sizes
	)
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
		for _, r := range b.Records {
			if b.FirstOffset+r.OffsetDelta >= offset {
				sum.add(r.Key, r.Value, r.Headers)
			}
		}
	}
	if next, ok := nextOffset(block); ok && next > d.Next {
		d.Next, d.empty = next, false
	}
	d.truncated = d.truncated || block.Partial

	if sum.records > 0 {
		c := newCopier(sum)
		d.Records = slices.Grow(d.Records, sum.records)
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
					Key: c.bytes(r.Key), Value: c.bytes(r.Value), Headers: c.headerList(r.Headers),
				})
			}
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
				Partition: d.Partition, Offset: at, Timestamp: when, Key: slices.Clone(m.Msg.Key), Value: slices.Clone(m.Msg.Value),
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

// sizes says how much memory a copy takes.
type sizes struct{ records, bytes, headers int }

func (s *sizes) add(key, value []byte, headers []*sarama.RecordHeader) {
	s.records++
	s.bytes += len(key) + len(value)
	s.headers += len(headers)
	for _, h := range headers {
		s.bytes += len(h.Value)
	}
}

// copier copies into one piece of memory a batch.
type copier struct {
	arena   []byte
	headers []broker.Header
	names   map[string]string // header keys seen: a topic has few
}

func newCopier(s sizes) *copier {
	c := &copier{arena: make([]byte, 0, s.bytes)}
	if s.headers > 0 {
		c.headers = make([]broker.Header, 0, s.headers)
		c.names = make(map[string]string, 8)
	}
	return c
}

// bytes keeps the difference between nil and empty: a nil value is a tombstone.
func (c *copier) bytes(b []byte) []byte {
	if b == nil {
		return nil
	}
	from := len(c.arena)
	c.arena = append(c.arena, b...)
	return c.arena[from:len(c.arena):len(c.arena)]
}

func (c *copier) headerList(list []*sarama.RecordHeader) []broker.Header {
	if len(list) == 0 {
		return nil
	}
	from := len(c.headers)
	for _, h := range list {
		name, ok := c.names[string(h.Key)]
		if !ok {
			name = string(h.Key)
			c.names[name] = name
		}
		c.headers = append(c.headers, broker.Header{Key: name, Value: c.bytes(h.Value)})
	}
	return c.headers[from:len(c.headers):len(c.headers)]
}

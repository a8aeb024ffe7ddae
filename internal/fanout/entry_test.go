package fanout

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/eventissuer/eventissuer/broker"
	"github.com/eventissuer/eventissuer/internal/event"
)

// seen is what readers see of an entry.
type seen struct {
	Partition              int32
	Offset, Time           int64
	Key                    uint64
	Skipped, Frame, Cursor string
	ID, Data, X            string
}

func see(e *Entry) seen {
	x, _ := e.Event.Attribute("x")
	return seen{
		e.Partition, e.Offset, e.Time, e.Key, e.Skipped, string(e.SSEData()), string(e.Cursor()),
		e.Event.ID(), string(e.Event.Data()), x.String(),
	}
}

func TestEntriesOfABlockAreThoseReadOneByOne(t *testing.T) {
	wrap, err := event.CompileWrap([]byte(plain.Wrap))
	if err != nil {
		t.Fatal(err)
	}
	structured := []broker.Header{{Key: "content-type", Value: []byte("application/cloudevents+json; charset=UTF-8")}}
	binary := []broker.Header{
		{Key: "ce_specversion", Value: []byte("1.0")},
		{Key: "ce_id", Value: []byte("b")},
		{Key: "ce_source", Value: []byte("/s")},
		{Key: "ce_type", Value: []byte("t")},
		{Key: "ce_x", Value: []byte("y")},
	}
	one := func(i int, data string) string {
		return fmt.Sprintf(`{"specversion":"1.0","id":"%d","source":"/s","type":"t","x":"\u00e6%d","data":%s}`, i, i, data)
	}
	records := func() []broker.Record {
		var all []broker.Record
		for i := range 300 {
			r := broker.Record{Partition: 1, Offset: int64(2 * i), Timestamp: time.UnixMilli(int64(i)), Headers: structured, Value: []byte(one(i, `{"a":1}`))}
			switch i % 7 {
			case 1:
				r.Key = fmt.Append(nil, i)
			case 2:
				r.Headers, r.Value = binary, []byte(`{"binary":1}`)
			case 3:
				r.Headers, r.Value = nil, []byte(`{"plain":1}`)
			case 4:
				r.Value = nil
			case 5:
				r.Value = []byte("\n " + one(i, "[1,\n2]") + " ")
			case 6:
				r.Value = []byte(one(i, `"`+strings.Repeat("x", i*200)+`"`))
			}
			all = append(all, r)
		}
		return all
	}
	for _, wrap := range []*event.Wrap{nil, wrap} {
		block := records()
		entries, size := newEntries(block, wrap)
		for i := range block { // what was read shares nothing with the entries
			clear(block[i].Key)
			clear(block[i].Value)
		}
		var got, want []seen
		var sum int64
		for _, e := range entries {
			got = append(got, see(e))
			sum += e.size()
			if n := len(e.frame); cap(e.frame) != n || len(e.Event.JSON()) > n {
				t.Errorf("entry %d: a frame of %d bytes, with room for %d, holds %d", e.Offset, n, cap(e.frame), len(e.Event.JSON()))
			}
		}
		for _, r := range records() {
			want = append(want, see(newEntry(&r, nil, wrap)))
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("(-one by one +block):\n%s", diff)
		}
		if size != sum {
			t.Errorf("the block counts for %d bytes, its entries for %d", size, sum)
		}
	}
}

func TestAFrameBeginsWithTheCursor(t *testing.T) {
	r := blockOf(1)[0]
	e := newEntry(&r, []byte("cursor"), nil)
	data := "data: " + string(r.Value) + "\n\n"
	if got := string(e.SSE()); got != "id: cursor\n"+data {
		t.Errorf("the block is %q", got)
	}
	if string(e.Cursor()) != "cursor" || string(e.SSEData()) != data || string(e.Event.JSON()) != string(r.Value) {
		t.Errorf("cursor %q, data %q, event %q", e.Cursor(), e.SSEData(), e.Event.JSON())
	}
	if &e.Event.JSON()[0] == &r.Value[0] {
		t.Error("the event shares memory with the record")
	}
}

package event_test

import (
	"errors"
	"sort"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/eventissuer/eventissuer/broker"
	"github.com/eventissuer/eventissuer/internal/event"
)

// headers makes record headers of names and values in turn.
func headers(pairs ...string) []broker.Header {
	var h []broker.Header
	for i := 0; i < len(pairs); i += 2 {
		h = append(h, broker.Header{Key: pairs[i], Value: []byte(pairs[i+1])})
	}
	return h
}

func binaryHeaders(pairs ...string) []broker.Header {
	return append(headers("ce_specversion", "1.0", "ce_type", "t", "ce_source", "/s", "ce_id", "1"), headers(pairs...)...)
}

func TestRecordsAreReadInBothModes(t *testing.T) {
	one := with(``)
	for _, c := range []struct {
		name    string
		headers []broker.Header
		value   string
		want    string
	}{
		{"structured", headers("content-type", "application/cloudevents+json; charset=UTF-8"), one, one},
		{"structured in capitals", headers("Content-Type", "Application/CloudEvents+JSON"), one, one},
		{"structured without a header", nil, one, one},
		{"structured as plain JSON", headers("content-type", "application/json"), one, one},
		{"structured, with headers of the binary mode", append(binaryHeaders(), headers("content-type", "application/cloudevents+json")...), one, one},
		{"structured in lines", headers("content-type", "application/cloudevents+json"), "{\n" + one[1:], one},
		{"binary, JSON", binaryHeaders("content-type", "application/json"), `{"a": 1}`, `{"specversion":"1.0","type":"t","source":"/s","id":"1","datacontenttype":"application/json","data":{"a": 1}}`},
		{"binary, not decoded", binaryHeaders("ce_x", "100%20 æ \"q\""), ``, `{"specversion":"1.0","type":"t","source":"/s","id":"1","x":"100%20 æ \"q\""}`},
		{"binary in capitals", headers("CE_SpecVersion", "1.0", "Ce_Type", "t", "ce_Source", "/s", "CE_ID", "1", "Content-Type", "text/plain"), `x`, `{"specversion":"1.0","type":"t","source":"/s","id":"1","datacontenttype":"text/plain","data":"x"}`},
		{"binary, no JSON where JSON is said", binaryHeaders("content-type", "application/json"), `{a}`, `{"specversion":"1.0","type":"t","source":"/s","id":"1","datacontenttype":"application/json","data_base64":"e2F9"}`},
		{"binary, what is no attribute", binaryHeaders("ce_a-b", "x", "ce_datacontenttype", "y", "other", "z", "ce_eventissuercursor", "c"), ``, `{"specversion":"1.0","type":"t","source":"/s","id":"1"}`},
	} {
		t.Run(c.name, func(t *testing.T) {
			e, err := event.FromRecord(broker.Record{Headers: c.headers, Value: []byte(c.value)})
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c.want, string(e.JSON())); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
	e, err := event.FromRecord(broker.Record{Headers: append(binaryHeaders(), broker.Header{Key: "ce_x"})})
	if _, ok := e.Attribute("x"); err != nil || ok {
		t.Errorf("a header without a value: %v, %v", ok, err)
	}
}

func TestRecordsThatAreNoEventsAreToldApart(t *testing.T) {
	for _, r := range []broker.Record{{}, {Headers: headers("content-type", event.MediaType)}, {Headers: headers("content-type", event.MediaType+"; charset=UTF-8")}} {
		if _, err := event.FromRecord(r); !errors.Is(err, event.ErrTombstone) {
			t.Errorf("a tombstone gives %v", err)
		}
	}
	for name, r := range map[string]broker.Record{
		"another format":  {Headers: headers("content-type", "application/cloudevents+avro"), Value: []byte("x")},
		"a batch":         {Headers: headers("content-type", event.BatchMediaType), Value: []byte("[]")},
		"another charset": {Headers: headers("content-type", event.MediaType+"; charset=utf-16"), Value: []byte("x")},
		"no event":        {Value: []byte(`{"a":1}`)},
		"no JSON":         {Value: []byte("\x00\x01")},
		"not UTF-8":       {Headers: binaryHeaders("ce_x", "\xff"), Value: []byte(`1`)},
		"no id":           {Headers: headers("ce_specversion", "1.0")},
		"a header twice":  {Headers: binaryHeaders("CE_id", "2")},
	} {
		_, err := event.FromRecord(r)
		var problems *event.Error
		if !errors.As(err, &problems) || len(problems.Problems) == 0 {
			t.Errorf("%s gives %v", name, err)
		}
	}
}

func TestRecordsOfOursAliasTheirValue(t *testing.T) {
	value := []byte(position)
	e, err := event.FromRecord(broker.Record{Headers: headers("content-type", "application/cloudevents+json; charset=UTF-8"), Value: value})
	if err != nil {
		t.Fatal(err)
	}
	if &e.JSON()[0] != &value[0] || len(e.JSON()) != len(value) {
		t.Error("the event is a copy")
	}
}

func TestMessagesAreRead(t *testing.T) {
	e, err := event.Parse([]byte(position))
	if err != nil {
		t.Fatal(err)
	}
	m := e.Message([]byte("key"))
	if m.Partition != broker.AnyPartition || string(m.Key) != "key" || string(m.Value) != position {
		t.Errorf("message %+v", m)
	}
	if diff := cmp.Diff(headers("content-type", "application/cloudevents+json; charset=UTF-8"), m.Headers); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}

	e, err = event.Parse([]byte(with(`,"n":5,"x":"æ %20","datacontenttype":"text/plain","data":"a\nb"`)))
	if err != nil {
		t.Fatal(err)
	}
	m, err = e.BinaryMessage(nil)
	if err != nil {
		t.Fatal(err)
	}
	want := binaryHeaders("ce_n", "5", "ce_x", "æ %20", "content-type", "text/plain")
	byKey := func(h []broker.Header) { sort.Slice(h, func(i, j int) bool { return h[i].Key < h[j].Key }) }
	byKey(want)
	byKey(m.Headers)
	if diff := cmp.Diff(want, m.Headers); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if string(m.Value) != "a\nb" {
		t.Errorf("value %q", m.Value)
	}
}

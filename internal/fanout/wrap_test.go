package fanout

import (
	"context"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/eventissuer/eventissuer/broker"
	"github.com/eventissuer/eventissuer/internal/fanout/fanouttest"
)

// plain is a stream whose records say nothing of CloudEvents.
var plain = Stream{Name: "s", Topic: "s", Wrap: `{"type":"t","source":"/s","id":{"pointer":"/id","default":"none"},"subject":{"pointer":"/train"}}`}

// taken reads n entries, and returns each one's id or why it was skipped.
func (d *driver) taken(n int) (got []string) {
	d.t.Helper()
	for len(got) < n {
		entries, status := d.r.Take(nil, 1<<20)
		if status == Behind {
			var err error
			if entries, _, err = d.r.Fill(context.Background(), nil, 1<<20); err != nil {
				d.t.Fatal(err)
			}
		}
		for _, e := range entries {
			d.r.After(e)
			if e.Skipped != "" {
				got = append(got, "skipped")
				continue
			}
			got = append(got, e.Event.ID())
			if frame := string(e.SSEData()); frame != "data: "+string(e.Event.JSON())+"\n\n" {
				d.t.Errorf("the frame is %q", frame)
			}
			if json := e.Event.JSON(); len(json) > 0 && &json[0] != &e.SSEData()[len("data: ")] {
				d.t.Error("the entry holds its event twice")
			}
		}
		if len(entries) == 0 && status == Idle && d.r.Park() {
			<-d.wake
			d.r.Unpark()
		}
	}
	return got
}

func TestPlainRecordsAreReadLiveAndFromTheLogAlike(t *testing.T) {
	l := fanouttest.NewLog(1)
	registry := prometheus.NewRegistry()
	hs := start(t, Config{Log: l, Registerer: registry})
	h, err := hs.Open(t.Context(), plain)
	if err != nil {
		t.Fatal(err)
	}
	live := drive(t, h, Options{})
	l.Append(0, `{"id":"a","train":61}`)
	l.Append(0, `no JSON`)
	l.Change(func() {
		q := &l.Parts[0]
		q.Records = append(q.Records, broker.Record{Offset: q.Next, Value: []byte(trainEvent(7)), Headers: []broker.Header{{Key: "content-type", Value: []byte("application/cloudevents+json")}}},
			broker.Record{Offset: q.Next + 1})
		q.Next += 2
	})
	l.Append(0, `{"train":{}}`)
	l.Append(0, `{"train":"62"}`)
	want := []string{"a", "skipped", "7", "skipped", "skipped", "none"}
	if diff := cmp.Diff(want, live.taken(len(want))); diff != "" {
		t.Errorf("live: (-want +got):\n%s", diff)
	}
	for range 2 {
		behind := drive(t, h, Options{Next: []int64{0}, Epoch: live.r.Epoch()})
		if diff := cmp.Diff(want, behind.taken(len(want))); diff != "" {
			t.Errorf("from the log: (-want +got):\n%s", diff)
		}
	}
	if err := testutil.GatherAndCompare(registry, strings.NewReader(`# HELP eventissuer_fanout_skipped_records_total Records that are no event, each counted once by every hub, by why.
# TYPE eventissuer_fanout_skipped_records_total counter
eventissuer_fanout_skipped_records_total{cause="tombstone",stream="s"} 1
eventissuer_fanout_skipped_records_total{cause="unreadable",stream="s"} 2
`), "eventissuer_fanout_skipped_records_total"); err != nil {
		t.Error(err)
	}
	l.Change(func() { l.Gone = true })
	<-h.done
	if n, err := testutil.GatherAndCount(registry, "eventissuer_fanout_skipped_records_total"); err != nil || n != 0 {
		t.Errorf("%d counters are left of a stream that is gone: %v", n, err)
	}
}

func TestAHubServesOneWayOfReadingAStream(t *testing.T) {
	hs := start(t, Config{Log: fanouttest.NewLog(1)})
	first, err := hs.Open(t.Context(), plain)
	if err != nil {
		t.Fatal(err)
	}
	same := plain
	same.Wrap = strings.Clone(plain.Wrap)
	if h, err := hs.Open(t.Context(), same); err != nil || h != first {
		t.Errorf("the same stream has another hub, %v", err)
	}
	other := plain
	other.Wrap = `{"type":"u","source":"/s"}`
	h, err := hs.Open(t.Context(), other)
	if err != nil || h == first {
		t.Errorf("another mapping is served by the same hub, %v", err)
	}
	<-first.done
	other.Wrap = `{"type":"u"}`
	if _, err := hs.Open(t.Context(), other); err == nil || !strings.Contains(err.Error(), "/source") {
		t.Errorf("a mapping that is none gives %v", err)
	}
}

func TestTheReasonOfASkippedRecordIsShort(t *testing.T) {
	e := newEntry(&broker.Record{Value: []byte(`{"` + strings.Repeat(`æ":{},"`, 4000))}, nil, nil)
	if e.Skipped == "" || len(e.Skipped) > maxReason+len("…") {
		t.Errorf("%d bytes: %s", len(e.Skipped), e.Skipped)
	}
	var many strings.Builder
	for range 12 {
		many.WriteString(`"` + strings.Repeat("x", many.Len()) + `":{},`)
	}
	e = newEntry(&broker.Record{Value: []byte(`{` + strings.TrimSuffix(many.String(), ",") + `}`)}, nil, nil)
	if e.Skipped == "" || len(e.Skipped) > maxReason+len("…") {
		t.Errorf("%d bytes: %s", len(e.Skipped), e.Skipped)
	}
}

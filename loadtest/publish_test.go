package loadtest_test

import (
	"encoding/json"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/eventissuer/eventissuer/loadtest"
)

func TestPublishersReportAcknowledgements(t *testing.T) {
	for _, batch := range []int{1, 10} {
		f := newFeed(t, nil)
		r, err := loadtest.Publish(t.Context(), loadtest.PublishRunConfig{
			Duration: 10 * time.Second,
			Publish:  loadtest.PublishConfig{URL: f.URL + "/pub", Publishers: 4, Batch: batch, Size: 700, Events: 400},
		})
		if err != nil {
			t.Fatal(err)
		}
		p := r.Published
		if p.Events < 400 || p.Events > 400+4*uint64(batch) || p.Failed != 0 || p.Requests != p.Events/uint64(batch) || p.Acks == nil || r.Seconds > 9 {
			t.Errorf("batch %d: %+v in %.1f s", batch, p, r.Seconds)
		}
		var one json.RawMessage = []byte(f.bodies[0])
		if batch > 1 {
			var all []json.RawMessage
			if err := json.Unmarshal(one, &all); err != nil || len(all) != batch {
				t.Fatalf("a batch is %s: %v", one, err)
			}
			one = all[batch-1]
		}
		var event struct{ ID, Subject, Specversion, Time string }
		if err := json.Unmarshal(one, &event); err != nil || event.Specversion != "1.0" || !strings.HasPrefix(event.Subject, "/loadtest/") {
			t.Errorf("an event is %s: %v", one, err)
		}
		if len(one) < 690 || len(one) > 710 {
			t.Errorf("an event has %d bytes, want about 700", len(one))
		}
	}
}

func TestPublisherWithoutMarkIsRefused(t *testing.T) {
	_, err := loadtest.Publish(t.Context(), loadtest.PublishRunConfig{Publish: loadtest.PublishConfig{URL: "http://127.0.0.1:1/", Body: "hello"}})
	if err == nil || !strings.Contains(err.Error(), "{mark}") {
		t.Errorf("%v, want a word about {mark}", err)
	}
}

func TestScheduledEventsSayWhenTheyWereDue(t *testing.T) {
	f := newFeed(t, func(f *feed) {
		f.refuse = func(int) int {
			time.Sleep(30 * time.Millisecond) // what holds the publisher up
			return 0
		}
	})
	c := loadtest.PublishConfig{URL: f.URL + "/pub", Rate: 100, Publishers: 1, Events: 4, Scheduled: true}
	if _, err := loadtest.Publish(t.Context(), loadtest.PublishRunConfig{Publish: c, Duration: time.Minute}); err != nil {
		t.Fatal(err)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	var sent []time.Duration
	for _, body := range f.bodies {
		_, text, _ := strings.Cut(body, "~lt:")
		text, _, _ = strings.Cut(text, "~")
		fields := strings.Split(text, ":") // run, lane, number, when it was due, how late it was sent
		if len(fields) != 5 {
			t.Fatalf("the mark is %q", text)
		}
		n, err := strconv.ParseInt(fields[3], 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		sent = append(sent, time.Duration(n))
	}
	for i, at := range sent {
		if due := sent[0] + time.Duration(i)*10*time.Millisecond; at != due {
			t.Errorf("event %d says that it is %s late", i, at-due)
		}
	}
	if len(sent) != 4 {
		t.Errorf("%d events", len(sent))
	}
}

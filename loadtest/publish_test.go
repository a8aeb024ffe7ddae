package loadtest_test

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
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

func TestPublishersAloneAreToldOfEverySecond(t *testing.T) {
	f := newFeed(t, func(f *feed) {
		f.refuse = func(n int) int {
			if n == 5 {
				return http.StatusTooManyRequests
			}
			return 0
		}
	})
	var told []loadtest.Progress
	var text strings.Builder
	lines := loadtest.Lines(&text)
	r, err := loadtest.Publish(t.Context(), loadtest.PublishRunConfig{
		Warmup: 200 * time.Millisecond, Duration: 2200 * time.Millisecond, PIDs: []int{os.Getpid()},
		Publish: loadtest.PublishConfig{URL: f.URL + "/pub", Rate: 100, Publishers: 1},
		Watch: func(p loadtest.Progress) {
			told = append(told, p)
			lines(p)
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	var published, failed uint64
	for i, s := range r.Series {
		published += s.Published
		failed += s.Failed
		if s.AckP50 <= 0 || s.AckP99 < s.AckP50 || s.AckMax < s.AckP99 || len(s.Processes) != 1 || s.Delivered != 0 {
			t.Errorf("second %d: %+v", i, s)
		}
	}
	if len(r.Series) < 2 || r.Series[0].At > 1.5 || published == 0 || published > r.Published.Events || failed != 1 || r.Published.Failed != 1 {
		t.Errorf("%d published and %d failed in %+v", published, failed, r.Series)
	}
	last := told[len(told)-1]
	if len(told) != len(r.Series) || last.Published < published || last.Failed != 1 || last.Acks == nil || last.Wanted != 0 || told[0].Phase != "measuring" || len(last.Processes) != 1 {
		t.Errorf("told %+v", told)
	}
	if !strings.Contains(text.String(), "failed 1\n") || strings.Contains(text.String(), "delivered") {
		t.Errorf("the lines are %s", &text)
	}
	if len(r.Published.Distribution) < 2 || r.Right() {
		t.Errorf("%+v", r.Published)
	}
}

func TestPublishersTellWhatTheServerHadAlready(t *testing.T) {
	for answer, want := range map[string][2]uint64{ // acknowledged, of those duplicates
		`200 {"results":[{"status":"duplicate"},{"status":"persisted"}]}`: {2, 1},
		`207 {"results":[{"status":"duplicate"},{"status":"failed"}]}`:    {1, 1},
		`202 `: {2, 0},
	} {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			status, _ := strconv.Atoi(answer[:3])
			w.WriteHeader(status)
			_, _ = io.WriteString(w, answer[4:])
		}))
		r, err := loadtest.Publish(t.Context(), loadtest.PublishRunConfig{Publish: loadtest.PublishConfig{URL: s.URL, Batch: 2, Events: 2}})
		s.Close()
		if err != nil {
			t.Fatal(err)
		}
		var text strings.Builder
		if err := r.WriteText(&text); err != nil || strings.Contains(text.String(), "1 events were there already") != (want[1] > 0) {
			t.Errorf("%s: the report is %s (%v)", answer, &text, err)
		}
		if p := r.Published; p.Events != want[0] || p.Duplicates != want[1] || p.Failed != 2-want[0] {
			t.Errorf("%s: %+v", answer, p)
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

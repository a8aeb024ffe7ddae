package loadtest_test

import (
	"context"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/eventissuer/eventissuer/internal/event"
	"github.com/eventissuer/eventissuer/loadtest"
)

func webhookConfig(t *testing.T, s *sender) loadtest.WebhookConfig {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return loadtest.WebhookConfig{
		Server: s.URL, Subscriptions: 3, Endpoints: 2, Verify: 1, Linger: time.Second, Receiver: []string{self, asReceiver}, PIDs: []int{os.Getpid()},
		Publish: loadtest.PublishConfig{Events: 120, Publishers: 2, Lanes: 6},
	}
}

func webhooks(t *testing.T, c loadtest.WebhookConfig) *loadtest.WebhookReport {
	t.Helper()
	r, err := loadtest.Webhooks(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestWebhooksCountsWhatArrivesInEachMode(t *testing.T) {
	for name, set := range map[string]func(c *loadtest.WebhookConfig){
		"structured":      func(*loadtest.WebhookConfig) {},
		"binary":          func(c *loadtest.WebhookConfig) { c.Mode = "binary" },
		"batches":         func(c *loadtest.WebhookConfig) { c.Batch, c.Publish.Batch = 7, 10 },
		"at a rate":       func(c *loadtest.WebhookConfig) { c.Publish.Rate = 1000 },
		"from backlog":    func(c *loadtest.WebhookConfig) { c.Backlog = true },
		"after an outage": func(c *loadtest.WebhookConfig) { c.Outage = 100 * time.Millisecond },
		"with refusals": func(c *loadtest.WebhookConfig) {
			c.Fail, c.Delay = 0.3, time.Millisecond
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSender(t, nil)
			c := webhookConfig(t, s)
			set(&c)
			r := webhooks(t, c)
			d := r.Delivered
			if !r.Right() || d.Events != 3*r.Published.Events || d.Expected != d.Events || d.Window != d.Events || d.Repeated != 0 || d.Rate <= 0 || r.Seconds <= 0 {
				t.Errorf("%+v", r)
			}
			if r.Published.Events < 120 || r.Messages.Consents != 3 || r.Signatures.Verified != r.Messages.Taken || (r.Messages.Refused > 0) != (c.Fail+c.Outage.Seconds() > 0) {
				t.Errorf("%+v", r)
			}
			if c.Batch <= 1 && r.Messages.Taken != d.Events || c.Batch > 1 && r.Messages.Taken >= d.Events {
				t.Errorf("%d messages for %d events", r.Messages.Taken, d.Events)
			}
			if (r.Latency == nil) != (c.Backlog || c.Outage > 0) || len(r.Processes) != 2 || r.Processes[0].PID != os.Getpid() || r.Self == nil {
				t.Errorf("%+v", r)
			}
			var text strings.Builder
			if err := r.WriteText(&text); err != nil || !strings.Contains(text.String(), "lost 0  repeated 0  out of order 0") {
				t.Errorf("the report is %s (%v)", text.String(), err)
			}
		})
	}
}

func TestWebhooksDeletesWhatItMade(t *testing.T) {
	s := newSender(t, nil)
	c := webhookConfig(t, s)
	c.Run = "abc"
	webhooks(t, c)
	s.mu.Lock()
	defer s.mu.Unlock()
	slices.Sort(s.deleted)
	if got := strings.Join(s.deleted, " "); got != "streams/loadtest-abc?force=true subscriptions/0 subscriptions/1 subscriptions/2" {
		t.Errorf("deleted %s", got)
	}
	if len(s.defined) != 2 || !strings.Contains(s.defined[1], `"dedupe":"0s"`) {
		t.Errorf("defined %v", s.defined)
	}
}

func TestWebhooksFindsWhatIsWrong(t *testing.T) {
	var held *event.Event
	for name, c := range map[string]struct {
		set   func(s *sender)
		found func(r *loadtest.WebhookReport) bool
	}{
		"a loss": {func(s *sender) {
			s.fault = func(n int, e *event.Event) []*event.Event {
				if n == 10 {
					return nil
				}
				return []*event.Event{e}
			}
		}, func(r *loadtest.WebhookReport) bool { return r.Delivered.Lost == 1 && !r.Right() }},
		"a repetition, which is no fault": {func(s *sender) {
			s.fault = func(n int, e *event.Event) []*event.Event {
				if n == 10 {
					return []*event.Event{e, e}
				}
				return []*event.Event{e}
			}
		}, func(r *loadtest.WebhookReport) bool { return r.Delivered.Repeated == 1 && r.Right() }},
		"disorder": {func(s *sender) {
			s.fault = func(n int, e *event.Event) []*event.Event {
				switch n {
				case 10:
					held = e
					return nil
				case 11:
					return []*event.Event{e, held}
				}
				return []*event.Event{e}
			}
		}, func(r *loadtest.WebhookReport) bool {
			return r.Delivered.Disordered == 1 && r.Delivered.Lost == 0 && !r.Right()
		}},
		"wrong signatures": {func(s *sender) {
			s.signed = func(h http.Header) { h.Set("Webhook-Id", "another") }
		}, func(r *loadtest.WebhookReport) bool { return r.Signatures.Wrong == r.Messages.Taken && !r.Right() }},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSender(t, c.set)
			config := webhookConfig(t, s)
			config.Subscriptions, config.Endpoints = 1, 1
			config.Publish.Publishers, config.Publish.Lanes, config.Linger = 1, 1, 300*time.Millisecond
			if r := webhooks(t, config); !c.found(r) {
				t.Errorf("%+v", r)
			}
		})
	}
}

func TestWebhooksCountsEndpointsThatHangApart(t *testing.T) {
	s := newSender(t, nil)
	c := webhookConfig(t, s)
	c.Hang, c.Endpoints = 1, 3
	r := webhooks(t, c)
	if r.Messages.Hung != 1 || r.Delivered.Expected != 2*r.Published.Events || r.Delivered.Events != r.Delivered.Expected || !r.Right() {
		t.Errorf("%+v", r)
	}
}

func TestWebhooksOfOneLaneEachAreHeldToThatAlone(t *testing.T) {
	s := newSender(t, nil)
	c := webhookConfig(t, s)
	c.OwnLane, c.Subscriptions = true, 8 // lanes 0 and 1 have two
	r := webhooks(t, c)
	if r.Delivered.Expected <= r.Published.Events || r.Delivered.Expected >= 2*r.Published.Events || r.Delivered.Events != r.Delivered.Expected || !r.Right() {
		t.Errorf("%+v", r)
	}
	if p := r.Processes[0]; p.RSSMost < p.RSSAfter {
		t.Errorf("at most %d bytes, and %d in the end", p.RSSMost, p.RSSAfter)
	}
}

func TestWebhooksMeasuresAWindowOfTime(t *testing.T) {
	s := newSender(t, nil)
	c := webhookConfig(t, s)
	c.Publish = loadtest.PublishConfig{Rate: 200, Publishers: 2, Lanes: 6}
	c.Warmup, c.Duration = 100*time.Millisecond, 400*time.Millisecond
	r := webhooks(t, c)
	if !r.Right() || r.Seconds < 0.4 || r.Delivered.Window == 0 || r.Delivered.Window >= r.Delivered.Events || uint64(r.Latency.Count) >= r.Delivered.Events {
		t.Errorf("%+v", r)
	}
}

func TestWebhooksAreToldOfEverySecond(t *testing.T) {
	for name, set := range map[string]func(c *loadtest.WebhookConfig){
		"a window of time": func(c *loadtest.WebhookConfig) { c.Warmup, c.Duration = 100*time.Millisecond, 2200*time.Millisecond },
		"events":           func(c *loadtest.WebhookConfig) { c.Publish.Events = 500 },
		"from backlog":     func(c *loadtest.WebhookConfig) { c.Publish.Events, c.Backlog = 500, true },
		"after an outage":  func(c *loadtest.WebhookConfig) { c.Publish.Events, c.Outage = 300, 1200*time.Millisecond },
	} {
		t.Run(name, func(t *testing.T) {
			s := newSender(t, func(s *sender) {
				s.fault = func(n int, e *event.Event) []*event.Event {
					if n == 10 {
						return []*event.Event{e, e}
					}
					return []*event.Event{e}
				}
			})
			c := webhookConfig(t, s)
			c.Publish = loadtest.PublishConfig{Rate: 200, Publishers: 2, Lanes: 6}
			set(&c)
			var told []loadtest.Progress
			c.Watch = func(p loadtest.Progress) { told = append(told, p) }
			r := webhooks(t, c)
			var published, delivered uint64
			for i, s := range r.Series {
				published += s.Published
				delivered += s.Delivered
				if len(s.Processes) != 2 || s.Processes[1].RSS == 0 || s.Delivered > 0 && (s.P50 <= 0 || s.Max < s.P50) || s.Published > 0 && s.AckMax <= 0 {
					t.Errorf("second %d: %+v", i, s)
				}
			}
			if !r.Right() || len(r.Series) < 2 || published == 0 || published > r.Published.Events || delivered > r.Delivered.Events || delivered == 0 && !c.Backlog && c.Outage == 0 {
				t.Errorf("%d published and %d delivered in %+v", published, delivered, r)
			}
			last := told[len(told)-1]
			if len(told) != len(r.Series) || last.Published < published || last.Delivered < delivered || last.Wanted != 3 || strings.Join(last.Processes, " ") != "server endpoints" {
				t.Errorf("told %+v", told)
			}
			if !c.Backlog && last.Live != 3 || delivered > 0 && last.Duplicates != 3 {
				t.Errorf("%d live, %d duplicates", last.Live, last.Duplicates)
			}
			var page strings.Builder
			if err := r.WriteHTML(&page); err != nil || !strings.Contains(page.String(), "Everything arrived") || !strings.Contains(page.String(), "Events delivered a second") {
				t.Errorf("the page: %v, %.200s", err, page.String())
			}
			if (len(r.Distribution) > 1) == (c.Backlog || c.Outage > 0) {
				t.Errorf("distribution %v", r.Distribution)
			}
		})
	}
}

func TestWebhooksThatAreInterruptedReportWhatWas(t *testing.T) {
	s := newSender(t, nil)
	c := webhookConfig(t, s)
	c.Publish = loadtest.PublishConfig{Rate: 200, Publishers: 2, Lanes: 6}
	c.Duration = time.Hour
	ctx, stop := context.WithTimeout(t.Context(), time.Second)
	defer stop()
	r, err := loadtest.Webhooks(ctx, c)
	if err != nil || r.Interrupted == "" || r.Delivered.Events == 0 {
		t.Fatalf("%+v, %v", r, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.deleted) != 4 {
		t.Errorf("deleted %v", s.deleted)
	}
}

func TestWebhooksThatCannotBeMeantAreRefused(t *testing.T) {
	for want, set := range map[string]func(c *loadtest.WebhookConfig){
		"command of a receiver":     func(c *loadtest.WebhookConfig) { c.Receiver = nil },
		"too few for 9 endpoints":   func(c *loadtest.WebhookConfig) { c.Endpoints = 9 },
		"2 of 2 endpoints hang":     func(c *loadtest.WebhookConfig) { c.Hang = 2 },
		"an outage need a number":   func(c *loadtest.WebhookConfig) { c.Backlog, c.Publish.Events = true, 0 },
		"or an outage, not both":    func(c *loadtest.WebhookConfig) { c.Backlog, c.Outage = true, time.Second },
		"shares of 1.5 that fail":   func(c *loadtest.WebhookConfig) { c.Fail = 1.5 },
		"start the receiver":        func(c *loadtest.WebhookConfig) { c.Receiver = []string{"/no/such/program"} },
		"7 lanes are too few for 8": func(c *loadtest.WebhookConfig) { c.Publish.Publishers, c.Publish.Lanes = 8, 7 },
	} {
		s := newSender(t, nil)
		c := webhookConfig(t, s)
		set(&c)
		if r, err := loadtest.Webhooks(t.Context(), c); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, %v, expected %q", r, err, want)
		}
	}
}

package loadtest_test

import (
	"os"
	"strings"
	"testing"
	"time"

	"github.com/eventissuer/eventissuer/internal/event"
	"github.com/eventissuer/eventissuer/loadtest"
)

// beside is a run of webhooks alone.
func beside(t *testing.T, s *sender) loadtest.RunConfig {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return loadtest.RunConfig{
		Settle: time.Millisecond, Duration: 300 * time.Millisecond, Linger: time.Second,
		Publishers: []loadtest.PublishConfig{{URL: s.URL + "/v1/events", Rate: 200, Publishers: 2, Lanes: 4, Scheduled: true}},
		Webhooks: []loadtest.WebhooksConfig{{Name: "hooks", Hook: loadtest.WebhookConfig{
			Server: s.URL, Stream: "lt", Subscriptions: 3, Endpoints: 2, Verify: 1, Receiver: []string{self, asReceiver},
		}}},
	}
}

func TestWebhooksAreCountedAsReadersAre(t *testing.T) {
	s := newSender(t, nil)
	r := runAll(t, beside(t, s))
	if len(r.Readers) != 1 || r.Readers[0].Transport != "webhook" || r.Connections.Wanted != 3 {
		t.Fatalf("%+v", r)
	}
	d := r.Readers[0].Delivered
	if d.Events == 0 || d.Events != 3*r.Published.Events || d.Lost+d.Unexpected+d.Disordered+d.Foreign != 0 || r.Readers[0].Latency == nil {
		t.Errorf("published %+v, delivered %+v, latency %v", r.Published, d, r.Readers[0].Latency)
	}
}

func TestWebhooksThatLoseOrDoubleAreFoundAndDeleted(t *testing.T) {
	s := newSender(t, func(s *sender) {
		s.fault = func(n int, e *event.Event) []*event.Event {
			switch n {
			case 5:
				return nil
			case 8:
				return []*event.Event{e, e}
			}
			return []*event.Event{e}
		}
	})
	d := runAll(t, beside(t, s)).Delivered
	if d.Lost != 3 || d.Duplicates != 3 {
		t.Errorf("lost %d and doubled %d, want 3 of each: %+v", d.Lost, d.Duplicates, d)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.deleted) != 3 {
		t.Errorf("deleted %v, want the three subscriptions", s.deleted)
	}
}

func TestSessionThatIsRefusedEndsTheRunAndIsDeleted(t *testing.T) {
	b := newBoard(t, 50, false)
	b.Config.Handler = refuse(b.Config.Handler)
	c := loadtest.RunConfig{
		Settle: time.Millisecond, Duration: time.Minute,
		Publishers: []loadtest.PublishConfig{{URL: b.URL + "/v1/events", Rate: 100}},
		Sessions:   []loadtest.SessionsConfig{{Name: "workers", Group: loadtest.GroupConfig{Servers: []string{b.URL}, Stream: "s", Sessions: 2}}},
	}
	_, err := loadtest.Run(t.Context(), c)
	if err == nil || !strings.Contains(err.Error(), "sessions workers") || !strings.Contains(err.Error(), "429") {
		t.Errorf("%v, want the server's answer", err)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.deleted {
		t.Error("the subscription was left")
	}
}

func TestEventsOfOthersDoNotStandInForThoseOfTheRun(t *testing.T) {
	b := newBoard(t, 40, false) // whose events are not those that are published
	c := loadtest.RunConfig{
		Settle: time.Millisecond, Duration: 200 * time.Millisecond, Linger: 100 * time.Millisecond,
		Publishers: []loadtest.PublishConfig{{URL: b.URL + "/v1/events", Events: 5, Rate: 100, Publishers: 1}},
		Sessions:   []loadtest.SessionsConfig{{Group: loadtest.GroupConfig{Servers: []string{b.URL}, Stream: "s", Sessions: 2, AckEvery: 10}}},
	}
	d := runAll(t, c).Delivered
	if d.Foreign != 40 || d.Lost != 5 || d.Events != 0 {
		t.Errorf("%+v, want 40 foreign, and all of ours lost", d)
	}
}

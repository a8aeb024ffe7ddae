package operations

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kfake"
	"go.uber.org/goleak"

	"github.com/eventissuer/eventissuer/broker"
	"github.com/eventissuer/eventissuer/broker/kafka"
	"github.com/eventissuer/eventissuer/internal/catalog"
	"github.com/eventissuer/eventissuer/internal/event"
	"github.com/eventissuer/eventissuer/internal/schema"
	"github.com/eventissuer/eventissuer/internal/table"
	"github.com/eventissuer/eventissuer/internal/testenv"
)

func TestMain(m *testing.M) {
	// sarama's metrics keep one goroutine for the whole process.
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/rcrowley/go-metrics.(*meterArbiter).tick"))
}

// replica is a publisher with a catalog of its own, on a log that others share.
type replica struct {
	*Publisher
	catalog *catalog.Catalog
	log     *kafka.Log
}

// replicas starts n of them, all at once as far as they know.
func replicas(t *testing.T, brokers []string, n int) []replica {
	t.Helper()
	tables, prefix := testenv.Name("catalog"), testenv.Name("operations")+"."
	var all []replica
	for range n {
		log, err := kafka.New(kafka.Config{Brokers: brokers}, kafka.Deps{})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = log.Close() })
		tab, err := table.New(table.Config{Log: log, Topic: tables})
		if err != nil {
			t.Fatal(err)
		}
		c, err := catalog.New(catalog.Config{Table: tab, Topics: log, TopicPrefix: prefix})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		var running sync.WaitGroup
		running.Go(func() { _ = tab.Run(ctx) })
		t.Cleanup(func() { cancel(); running.Wait() })
		<-c.Ready()
		p, err := New(Config{Patience: time.Minute}, Deps{Log: log, Catalog: c})
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, replica{p, c, log})
	}
	return all
}

func fake(t *testing.T) []string {
	t.Helper()
	c, err := kfake.NewCluster(kfake.NumBrokers(1))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c.ListenAddrs()
}

// records reads all of the stream's only partition.
func (r replica) records(t *testing.T) (events []event.Event) {
	t.Helper()
	stream, ok := r.catalog.Stream("operations")
	if !ok {
		t.Fatal("there is no stream")
	}
	for at := int64(0); ; {
		b, err := r.log.Read(t.Context(), stream.Topic, 0, at, 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		if b.Next == at {
			return events
		}
		for _, rec := range b.Records {
			e, err := event.FromRecord(rec)
			if err != nil {
				t.Fatal(err)
			}
			events = append(events, e)
		}
		at = b.Next
	}
}

var (
	since = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	told  = []Event{
		{ID: "a", Type: SubscriptionFailing, Subject: "sub", At: since, Data: Failing{
			Subscription: "sub", Owner: "acme", Cause: "no answer", Since: since, DisableAt: since.Add(time.Hour), Percent: 50,
		}},
		{Type: SubscriptionDisabled, Subject: "sub", Data: Disabled{Subscription: "sub", Owner: "acme", Since: since}},
	}
)

func TestEventsArePublishedByReplicasThatAllMakeTheStream(t *testing.T) {
	for name, brokers := range map[string]func(*testing.T) []string{"fake": fake, "real": func(t *testing.T) []string { return []string{testenv.Kafka(t)} }} {
		t.Run(name, func(t *testing.T) {
			all := replicas(t, brokers(t), 3)
			var publishing sync.WaitGroup
			for _, r := range all {
				publishing.Go(func() {
					for _, e := range told {
						if err := r.Publish(t.Context(), e); err != nil {
							t.Error(err)
						}
					}
				})
			}
			publishing.Wait()
			got := all[0].records(t)
			count := map[string]int{}
			for _, e := range got {
				count[e.Type()]++
				if e.Source() != Source || e.Subject() != "sub" {
					t.Errorf("%s", e.JSON())
				}
			}
			want := map[string]int{string(SubscriptionFailing): 3, string(SubscriptionDisabled): 3}
			if diff := cmp.Diff(want, count); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		})
	}
}

func TestWhatIsPublishedIsAsItsSchemaSays(t *testing.T) {
	r := replicas(t, fake(t), 1)[0]
	if err := r.Prepare(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := len(r.catalog.EventTypesOf("operations")); n != len(kinds()) {
		t.Errorf("%d types are registered", n)
	}
	for _, e := range told {
		if err := r.Publish(t.Context(), e); err != nil {
			t.Fatal(err)
		}
	}
	events := r.records(t)
	if len(events) != len(told) {
		t.Fatalf("%d events", len(events))
	}
	for i, e := range events {
		registered, ok := r.catalog.Registration(e.Type())
		if !ok {
			t.Fatalf("%s is not registered", e.Type())
		}
		s, _, err := r.catalog.Validator(registered)
		if err != nil || s == nil {
			t.Fatalf("%s has no schema: %v", e.Type(), err)
		}
		if wrong := s.Validate(e.Data(), schema.Verbatim); wrong != nil {
			t.Errorf("%s: %v", e.JSON(), wrong)
		}
		if wrong := s.Validate([]byte(`{"subscription":"sub"}`), schema.Verbatim); wrong == nil {
			t.Errorf("the schema of %s takes anything", e.Type())
		}
		if e.ID() == "" || told[i].ID != "" && e.ID() != told[i].ID {
			t.Errorf("event %d has the id %q", i, e.ID())
		}
	}
	var data Failing
	if err := json.Unmarshal(events[0].Data(), &data); err != nil || data != told[0].Data {
		t.Errorf("got %+v, %v", data, err)
	}
	if at, err := time.Parse(time.RFC3339Nano, events[0].Time()); err != nil || !at.Equal(since) {
		t.Errorf("time %q", events[0].Time())
	}
}

func TestNobodyElseRegistersTheServersTypes(t *testing.T) {
	r := replicas(t, fake(t), 1)[0]
	if err := r.Prepare(t.Context()); err != nil {
		t.Fatal(err)
	}
	someone := r.catalog.As(catalog.Actor{Name: "someone"})
	var invalid *catalog.InvalidError
	_, err := someone.CreateEventType(t.Context(), catalog.EventType{Type: "no.eventissuer.subscription.mine.v1", Stream: "operations"}, nil)
	if !errors.As(err, &invalid) || !strings.Contains(err.Error(), "a type of your own") {
		t.Errorf("got %v", err)
	}
	_, err = someone.UpdateEventType(t.Context(), catalog.EventType{Type: string(SubscriptionFailing), Stream: "operations", Description: "mine"}, nil, "")
	if !errors.As(err, &invalid) {
		t.Errorf("got %v", err)
	}
}

func TestAStreamOfAnotherFormIsLeftAlone(t *testing.T) {
	r := replicas(t, fake(t), 1)[0]
	_, err := r.catalog.AsServer().CreateStream(t.Context(), catalog.Stream{Name: "operations", Format: catalog.FormatJSON, Wrap: `{"type":"a","source":"/b"}`})
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Publish(t.Context(), told[0]); err == nil || !strings.Contains(err.Error(), "its records are json") {
		t.Errorf("got %v", err)
	}
}

func TestWhatTheLogDoesNotTakeIsAnError(t *testing.T) {
	r := replicas(t, fake(t), 1)[0]
	if err := r.Prepare(t.Context()); err != nil {
		t.Fatal(err)
	}
	e := told[0]
	e.Data = Failing{Cause: strings.Repeat("x", 4<<20)}
	if err := r.Publish(t.Context(), e); !errors.Is(err, broker.ErrTooLarge) {
		t.Errorf("got %v", err)
	}
}

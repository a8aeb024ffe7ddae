package event_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"testing"

	"github.com/cucumber/godog"
	"github.com/google/go-cmp/cmp"

	"github.com/eventissuer/eventissuer/broker"
	"github.com/eventissuer/eventissuer/internal/event"
)

// TestConformance runs the features under testdata, written from the specifications of CloudEvents.
func TestConformance(t *testing.T) {
	var output bytes.Buffer
	suite := godog.TestSuite{
		Name:                "CloudEvents",
		ScenarioInitializer: func(c *godog.ScenarioContext) { new(scenario).register(c) },
		Options: &godog.Options{
			Format: "progress", Output: &output, NoColors: true, Paths: []string{"testdata/features"}, Strict: true, TestingT: t,
		},
	}
	if status := suite.Run(); status != 0 {
		t.Fatalf("the features do not hold: status %d\n%s", status, &output)
	}
}

// scenario is the state of one scenario.
type scenario struct {
	header  http.Header
	record  broker.Record
	raw     string // what came
	event   event.Event
	items   []event.Item
	batch   bool
	err     error             // of the event
	refused error             // of the request
	written map[string]string // headers
	body    string
}

func (s *scenario) register(c *godog.ScenarioContext) {
	c.Before(func(ctx context.Context, _ *godog.Scenario) (context.Context, error) {
		*s = scenario{header: http.Header{}}
		return ctx, nil
	})
	c.Step(`^this event is read:$`, func(text *godog.DocString) {
		s.raw = text.Content
		s.event, s.err = event.Parse([]byte(s.raw))
	})
	c.Step(`^the header "([^"]*)" is "(.*)"$`, func(name, value string) { s.header.Add(name, value) })
	c.Step(`^the request is read with this body:$`, func(body *godog.DocString) { s.read(body.Content) })
	binaryWith := func(name, value string) {
		s.header = binary(name, value)
		s.read("")
	}
	c.Step(`^a binary request with the header "([^"]*)" of "(.*)"$`, binaryWith)
	c.Step(`^a binary request with the quoted header "([^"]*)" of (.*)$`, binaryWith)
	c.Step(`^a record with the value "(.*)" and the headers:$`, func(value string, table *godog.Table) {
		s.raw = value
		s.record = broker.Record{Value: []byte(value)}
		for _, row := range table.Rows[1:] {
			s.record.Headers = append(s.record.Headers, headers(row.Cells[0].Value, row.Cells[1].Value)...)
		}
	})
	c.Step(`^the record is read$`, func() { s.event, s.err = event.FromRecord(s.record) })
	c.Step(`^it is written in the binary mode$`, s.writeRequest)
	c.Step(`^it is written to a record in the (binary|structured) mode$`, s.writeRecord)

	c.Step(`^the event is valid$`, func() error { return errors.Join(s.refused, s.err) })
	c.Step(`^the event is refused at "([^"]*)"$`, s.isRefusedAt)
	c.Step(`^its attributes are:$`, s.hasAttributes)
	c.Step(`^the attribute "([^"]*)" is (.*)$`, func(name, value string) error {
		got, _ := s.event.Attribute(name)
		return s.same(value[1:len(value)-1], got.String())
	})
	c.Step(`^it has no data$`, func() error {
		data, _, err := s.event.Payload()
		if data != nil || err != nil {
			return fmt.Errorf("data %q, %w", data, err)
		}
		return nil
	})
	c.Step(`^its data is (.*)$`, func(want string) error {
		data, _, err := s.event.Payload()
		return errors.Join(err, s.same(want, string(data)))
	})
	c.Step(`^it is forwarded as it came$`, func() error { return s.same(s.raw, string(s.event.JSON())) })
	c.Step(`^it is a batch of (\d+) events$`, func(n int) error {
		if s.refused != nil || !s.batch || len(s.items) != n {
			return fmt.Errorf("batch: %v, %d events, %w", s.batch, len(s.items), s.refused)
		}
		for _, item := range s.items {
			if item.Err != nil {
				return item.Err
			}
		}
		return nil
	})
	c.Step(`^the request is refused as "([^"]*)"$`, func(kind string) error {
		var refused *event.RequestError
		if !errors.As(s.refused, &refused) {
			return fmt.Errorf("it is not refused: %w", s.refused)
		}
		return s.same(kind, refused.Kind.Error())
	})
	c.Step(`^the headers are:$`, func(table *godog.Table) error {
		want := map[string]string{}
		for _, row := range table.Rows[1:] {
			want[row.Cells[0].Value] = row.Cells[1].Value
		}
		return s.same(want, s.written)
	})
	c.Step(`^the body is "(.*)"$`, func(want string) error { return s.same(want, s.body) })
}

func (s *scenario) same(want, got any) error {
	if diff := cmp.Diff(want, got); diff != "" {
		return fmt.Errorf("(-want +got):\n%s", diff)
	}
	return nil
}

func (s *scenario) read(body string) {
	s.raw = body
	s.items, s.batch, s.refused = event.ReadRequest(s.header, []byte(body), event.Limits{})
	if s.refused == nil && !s.batch {
		s.event, s.err = s.items[0].Event, s.items[0].Err
	}
}

func (s *scenario) writeRequest() error {
	h := http.Header{}
	body, err := s.event.WriteBinary(h)
	s.body, s.written = string(body), map[string]string{}
	for name := range h {
		s.written[name] = h.Get(name)
	}
	return err
}

func (s *scenario) writeRecord(mode string) error {
	m := s.event.Message(nil)
	if mode == "binary" {
		var err error
		if m, err = s.event.BinaryMessage(nil); err != nil {
			return err
		}
	}
	s.body, s.written = string(m.Value), map[string]string{}
	for _, h := range m.Headers {
		s.written[h.Key] = string(h.Value)
	}
	return nil
}

func (s *scenario) isRefusedAt(pointer string) error {
	var problems *event.Error
	if s.refused != nil || !errors.As(s.err, &problems) {
		return fmt.Errorf("request: %w, event: %w", s.refused, s.err)
	}
	return s.same(pointer, problems.Problems[0].Pointer)
}

func (s *scenario) hasAttributes(table *godog.Table) error {
	type value struct{ Kind, Text string }
	want, got := map[string]value{}, map[string]value{}
	for _, row := range table.Rows[1:] {
		want[row.Cells[0].Value] = value{row.Cells[1].Value, row.Cells[2].Value}
	}
	for name, v := range s.event.Attributes() {
		got[name] = value{v.Kind().String(), v.String()}
	}
	return s.same(want, got)
}

package chaos

import (
	"bufio"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// brief is what a message says, as far as a test looks at it.
type brief struct {
	IDs, Groups              []string
	Cursor, Control, Payload string
}

func briefly(m *message) brief {
	b := brief{Cursor: m.cursor, Control: m.control}
	if m.control != "" {
		b.Payload = string(m.payload)
	}
	for _, e := range m.events {
		b.IDs = append(b.IDs, e.ID)
		b.Groups = append(b.Groups, e.EventIssuerCursor+" "+e.EventIssuerGroup)
	}
	return b
}

func TestMessagesOfEachTransportAreUnderstood(t *testing.T) {
	line := func(text string) func() (message, error) {
		return func() (message, error) { return nextLine(bufio.NewReader(strings.NewReader(text))) }
	}
	block := func(text string) func() (message, error) {
		return func() (message, error) { return nextBlock(bufio.NewReader(strings.NewReader(text))) }
	}
	for _, tt := range []struct {
		name string
		read func() (message, error)
		want brief
		err  error // nil: none
	}{
		{"a block with a cursor alone", block("retry: 2000\nid: c1\n\n"), brief{Cursor: "c1"}, nil},
		{
			"a block with an event", block("id: c1\ndata: {\"id\":\"a00-1\",\"eventissuergroup\":\"chaos/3\"}\n\n"),
			brief{IDs: []string{"a00-1"}, Groups: []string{" chaos/3"}, Cursor: "c1"},
			nil,
		},
		{"a block with a control message", block("event: drain\ndata: {\"retryAfter\":2}\n\n"), brief{Control: "drain", Payload: `{"retryAfter":2}`}, nil},
		{"a block that is cut short", block("id: c1\ndata: {\"id\":\"a00-1\"}\n"), brief{}, io.EOF},
		{"no block", block("what: this\n\n"), brief{}, errUnexpected},
		{"a line with a cursor alone", line("{\"cursor\":\"c1\"}\n"), brief{Cursor: "c1"}, nil},
		{
			"a line with an event", line("{\"cursor\":\"c1\",\"group\":\"chaos/3\",\"attempt\":1,\"event\":{\"id\":\"a00-1\"}}\n"),
			brief{IDs: []string{"a00-1"}, Groups: []string{"c1 chaos/3"}, Cursor: "c1"},
			nil,
		},
		{"a line with a control message", line("{\"stalled\":{\"stream\":\"chaos\"}}\n"), brief{Control: "stalled", Payload: `{"stream":"chaos"}`}, nil},
		{"a line that is cut short", line("{\"cursor\":\"c1\"}"), brief{}, io.EOF},
		{"no line", line("cursor\n"), brief{}, errUnexpected},
		{
			"a batch", func() (message, error) {
				return batchMessage([]byte(`{"cursor":"c2","events":[{"id":"a00-1"},{"id":"a00-2"}]}`))
			},
			brief{IDs: []string{"a00-1", "a00-2"}, Groups: []string{" ", " "}, Cursor: "c2"},
			nil,
		},
		{"a batch of deliveries", func() (message, error) {
			return batchMessage([]byte(`{"cursor":"c1","deliveries":[{"cursor":"c1","group":"chaos/3","attempt":1}],"events":[{"id":"a00-1"}]}`))
		}, brief{IDs: []string{"a00-1"}, Groups: []string{"c1 chaos/3"}, Cursor: "c1"}, nil},
		{
			"a batch with more deliveries than events", func() (message, error) { return batchMessage([]byte(`{"deliveries":[{}],"events":[]}`)) },
			brief{},
			errUnexpected,
		},
		{"an event by itself", func() (message, error) {
			return eventMessage([]byte(`{"id":"a00-1","type":"chaos.strict","eventissuercursor":"c1","eventissuergroup":"chaos/3"}`))
		}, brief{IDs: []string{"a00-1"}, Groups: []string{"c1 chaos/3"}, Cursor: "c1"}, nil},
		{
			"a cursor by itself", func() (message, error) {
				return eventMessage([]byte(`{"type":"no.eventissuer.cursor","eventissuercursor":"c1"}`))
			},
			brief{Cursor: "c1"},
			nil,
		},
		{"a control message by itself", func() (message, error) {
			return eventMessage([]byte(`{"type":"no.eventissuer.gap","eventissuercursor":"c1","data":{"from":1}}`))
		}, brief{Cursor: "c1", Control: "gap", Payload: `{"from":1}`}, nil},
	} {
		m, err := tt.read()
		if !errors.Is(err, tt.err) {
			t.Errorf("%s: %v, expected %v", tt.name, err, tt.err)
		}
		if err != nil {
			continue
		}
		if diff := cmp.Diff(tt.want, briefly(&m)); diff != "" {
			t.Errorf("%s: -expected +understood:\n%s", tt.name, diff)
		}
	}
}

package session

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/eventissuer/eventissuer/broker"
	"github.com/eventissuer/eventissuer/internal/cursor"
	"github.com/eventissuer/eventissuer/internal/fanout"
	"github.com/eventissuer/eventissuer/internal/filter"
)

func (s *site) append(topic string, values ...string) {
	s.t.Helper()
	var msgs []broker.Message
	for _, v := range values {
		msgs = append(msgs, broker.Message{Partition: 0, Value: []byte(v)})
	}
	for _, a := range s.log.Append(s.t.Context(), topic, msgs) {
		if a.Err != nil {
			s.t.Fatal(a.Err)
		}
	}
}

func TestRecordsThatAreNoEventsAreToldOnEveryTransport(t *testing.T) {
	s := newSite(t, "a")
	r := s.replica(Config{}, false)
	s.append("a", `{"specversion":"1.0","id":"0","source":"/s","type":"t","subject":"/train/0"}`, `no event`,
		`{"specversion":"1.0","id":"2","source":"/s","type":"t","subject":"/train/0"}`)
	for _, as := range transports {
		// A filter hides events, and what could not be read is no event that it could be asked about.
		for _, query := range []string{"stream=a&from=oldest", "stream=a&from=oldest&subject=/none"} {
			c := r.connect(t, as, query)
			for {
				g := c.must()
				if g.Control == "" {
					continue
				}
				var told struct {
					Skipped
					Data Skipped // of cloudevents.json
				}
				if err := json.Unmarshal([]byte(g.Data), &told); err != nil {
					t.Fatal(err)
				}
				if told.Data.Stream != "" {
					told.Skipped = told.Data
				}
				if reason := told.Reason; g.Control != "skipped" || told.Stream != "a" || told.Partition != 0 || told.Offset != 1 || !strings.Contains(reason, "JSON object") {
					t.Errorf("%s: %s %s", as, g.Control, g.Data)
				}
				at, err := cursor.Parse(g.Cursor)
				if err != nil {
					t.Fatalf("%s: cursor %q: %v", as, g.Cursor, err)
				}
				if next, ok := at.For("a"); !ok || next.Next[0] != 2 {
					t.Errorf("%s: the cursor after offset 1 is %v", as, next.Next)
				}
				break
			}
			c.close()
		}
	}
}

func TestPagesTellAFewSkippedRecordsEachAndPassAll(t *testing.T) {
	s := newSite(t, "a")
	var bad []string
	for range 3*skippedOfPage - 1 {
		bad = append(bad, "no event")
	}
	s.append("a", append(bad, `{"specversion":"1.0","id":"last","source":"/s","type":"t"}`)...)
	r := s.replica(Config{}, false)
	f, err := filter.Compile(filter.Query{Types: []string{"t"}})
	if err != nil {
		t.Fatal(err)
	}
	q := Request{Streams: []fanout.Stream{{Name: "a", Topic: "a"}}, Filter: f, From: From{Oldest: true}, Limit: 100}
	told := int64(0)
	for range 4 {
		page, err := r.page(t.Context(), q)
		if err != nil {
			t.Fatal(err)
		}
		if len(page.Skipped) > skippedOfPage {
			t.Fatalf("a page tells %d", len(page.Skipped))
		}
		for _, p := range page.Skipped {
			if p.Offset != told {
				t.Fatalf("offset %d is told after %d", p.Offset, told-1)
			}
			told++
		}
		if len(page.Events) > 0 {
			break
		}
		at, err := cursor.Parse(page.Cursor)
		if err != nil {
			t.Fatal(err)
		}
		q.After = &at
	}
	if told != int64(len(bad)) {
		t.Errorf("%d of %d are told before the event", told, len(bad))
	}
}

package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"text/tabwriter"
)

type stateCommand struct {
	Stream string `arg:"" help:"Name of the stream, which must keep a state."`

	matching `embed:""`

	JSON  bool `name:"json" help:"Print the events instead, one a line, in the order in which they came."`
	Width int  `default:"60" help:"Characters of the data that are shown (${default})."`
}

// Help is shown by kong.
func (s *stateCommand) Help() string {
	return `Examples:

  eventctl state positions
  eventctl state positions --filter "delay > 60"
  eventctl state positions --json | jq .data

Only of a stream that keeps a state: make one with 'eventctl streams create --state'. To follow what changes, see 'eventctl tail --snapshot'.
`
}

// Run is called by kong.
func (s *stateCommand) Run(ctx context.Context, c *client, o *console) error {
	q := url.Values{"from": {"snapshot"}}
	s.add(q)
	req, err := c.request(ctx, http.MethodGet, "/v1/streams/"+url.PathEscape(s.Stream)+"/events?"+q.Encode(), mediaBatch, nil)
	if err != nil {
		return err
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return c.unreachable(err)
	}
	defer func() { _ = resp.Body.Close() }()
	if err := c.streaming(resp, mediaBatch); err != nil {
		return err
	}
	events, err := newEventReader("the answer", resp.Body, 0, nil)
	if err != nil {
		return err
	}
	if !events.array {
		return &refusedError{"the answer is no array of events: does --server lead to an Event Issuer?"}
	}
	var rows [][]string
	for n := 0; ; {
		event, err := events.next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return fmt.Errorf("the answer is cut off, or damaged, after event %d: %w", n, err)
		}
		n++
		if s.JSON {
			if _, err := fmt.Fprintf(o.out, "%s\n", event); err != nil {
				return err
			}
			continue
		}
		cells, err := s.cells(event)
		if err != nil {
			return err
		}
		rows = append(rows, cells)
	}
	for _, told := range resp.Header.Values("Snapshot") {
		o.tell("snapshot", []byte(told))
	}
	if s.JSON {
		return nil
	}
	slices.SortStableFunc(rows, func(a, b []string) int { return strings.Compare(a[0], b[0]) })
	table := tabwriter.NewWriter(o.out, 0, 4, 2, ' ', 0)
	row(table, []string{"SUBJECT", "TYPE", "TIME", "DATA"})
	for _, cells := range rows {
		row(table, cells)
	}
	return table.Flush()
}

// mediaBatch is the media type of events that are sent, or read as a page.
const mediaBatch = "application/cloudevents-batch+json"

// cells are an event's in the table.
func (s *stateCommand) cells(event json.RawMessage) ([]string, error) {
	var e struct {
		Subject, Type, Time string
		Data                json.RawMessage
		DataBase64          string `json:"data_base64"`
	}
	if err := json.Unmarshal(event, &e); err != nil {
		return nil, fmt.Errorf("an event of the answer cannot be read: %w", err)
	}
	cells := []string{e.Subject, e.Type, e.Time, cmp.Or(string(e.Data), e.DataBase64)}
	for i := range cells {
		cells[i] = printable(cells[i], ' ')
	}
	cells[3] = shortened(cells[3], s.Width)
	for i := range cells {
		cells[i] = cell(cells[i])
	}
	return cells, nil
}

// shortened cuts a text to most characters.
func shortened(text string, most int) string {
	if runes := []rune(text); len(runes) > most && most > 0 {
		return string(runes[:most-1]) + "…"
	}
	return text
}

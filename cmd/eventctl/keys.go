package main

import (
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
	"unicode"
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
	body, header, err := c.reading(ctx, "/v1/streams/"+url.PathEscape(s.Stream)+"/events?"+q.Encode(), "application/cloudevents-batch+json")
	if err != nil {
		return err
	}
	defer func() { _ = body.Close() }()
	var rows [][]string
	err = eachOf(body, func(event json.RawMessage) error {
		if s.JSON {
			_, err := fmt.Fprintf(o.out, "%s\n", event)
			return err
		}
		var e struct {
			Subject, Type, Time string
			Data                json.RawMessage
			DataBase64          string `json:"data_base64"`
		}
		if err := json.Unmarshal(event, &e); err != nil {
			return fmt.Errorf("an event of the answer cannot be read: %w", err)
		}
		data := string(e.Data)
		if data == "" {
			data = e.DataBase64
		}
		rows = append(rows, []string{cell(plain(e.Subject)), plain(e.Type), cell(plain(e.Time)), cell(shortened(plain(data), s.Width))})
		return nil
	})
	if err != nil {
		return err
	}
	for _, told := range header.Values("Snapshot") {
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

// plain replaces what would move a terminal's cursor, or end a cell.
func plain(text string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, text)
}

// shortened cuts a text to most characters.
func shortened(text string, most int) string {
	if runes := []rune(text); len(runes) > most && most > 0 {
		return string(runes[:most-1]) + "…"
	}
	return text
}

// reading makes a request for an answer that may be large, and is to be closed. What is no success is a *problem.
func (c *client) reading(ctx context.Context, path, accept string) (io.ReadCloser, http.Header, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.base+path, nil)
	if err != nil {
		return nil, nil, err
	}
	req.Header = c.header.Clone()
	req.Header.Set("Accept", accept)
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, nil, c.unreachable(err)
	}
	if resp.StatusCode != http.StatusOK {
		body, _ := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
		return nil, nil, errors.Join(c.problemOf(resp.StatusCode, resp.Header, body), resp.Body.Close())
	}
	return resp.Body, resp.Header, nil
}

// eachOf calls fn for each value of a JSON array, of which it never holds more than one.
func eachOf(from io.Reader, fn func(json.RawMessage) error) error {
	d := json.NewDecoder(from)
	if begin, err := d.Token(); err != nil || begin != json.Delim('[') {
		return &refusedError{"the answer is no array of events: does --server lead to an Event Issuer?"}
	}
	for d.More() {
		var value json.RawMessage
		if err := d.Decode(&value); err != nil {
			return fmt.Errorf("the answer is cut off: %w", unexpected(err))
		}
		if err := fn(value); err != nil {
			return err
		}
	}
	if _, err := d.Token(); err != nil {
		return fmt.Errorf("the answer is cut off: %w", unexpected(err))
	}
	return nil
}

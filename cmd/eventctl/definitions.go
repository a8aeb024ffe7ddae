package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"text/tabwriter"
)

type streamsCommand struct {
	List   streamsList   `cmd:"" help:"List the streams."`
	Show   streamsShow   `cmd:"" help:"Show a stream: its settings, event types, oldest and newest cursor."`
	Create streamsCreate `cmd:"" help:"Create a stream, with its topic; or adopt a topic that is there."`
	Delete streamsDelete `cmd:"" help:"Delete a stream with all its events."`
}

type streamsList struct {
	JSON bool `name:"json" help:"One stream a line, as JSON."`
}

// Run is called by kong.
func (l *streamsList) Run(ctx context.Context, c *client, o *console) error {
	return list(ctx, c, o, "/v1/streams", nil, l.JSON, []string{"NAME", "PARTITIONS", "RETENTION", "STATE", "TOPIC", "DESCRIPTION"},
		[]string{"name", "partitions", "retention", "state.window", "topic", "description"})
}

type streamsShow struct {
	Stream string `arg:"" help:"Name of the stream."`
}

// Run is called by kong.
func (s *streamsShow) Run(ctx context.Context, c *client, o *console) error {
	return show(ctx, c, o, "/v1/streams/"+url.PathEscape(s.Stream))
}

type streamsCreate struct {
	Stream      string `arg:"" help:"Name of the stream."`
	Partitions  int    `help:"How many. Events of one key stay in order within theirs; partitions only grow. Default the server's."`
	Retention   string `placeholder:"168h" help:"How long events are kept. Default the server's."`
	Compaction  bool   `help:"Keep the latest event of each key for ever."`
	Topic       string `help:"Kafka topic. One that is there is adopted as it is. Default the name under the server's prefix."`
	Owner       string `help:"Who answers for it."`
	Description string `help:"What it holds."`
	stateFlags  `embed:""`
}

// Help is shown by kong.
func (s *streamsCreate) Help() string {
	return "Examples:\n\n  eventctl streams create trains --partitions 12 --retention 168h\n  eventctl streams create orders --topic internal.orders.v2\n  eventctl streams create positions --compaction --state-max-bytes 64MiB\n"
}

// Run is called by kong.
func (s *streamsCreate) Run(ctx context.Context, c *client, o *console) error {
	return change(ctx, c, o, http.MethodPost, "/v1/streams", compact(map[string]any{
		"name": s.Stream, "partitions": s.Partitions, "retention": s.Retention, "compaction": s.Compaction, "topic": s.Topic, "owner": s.Owner, "description": s.Description,
		memberState: s.member(),
	}))
}

type streamsDelete struct {
	Stream string `arg:"" help:"Name of the stream."`
	Yes    bool   `short:"y" help:"Do not ask."`
	Force  bool   `help:"With the registrations of its event types."`
}

// Run is called by kong.
func (s *streamsDelete) Run(ctx context.Context, c *client, o *console) error {
	path, what := "/v1/streams/"+url.PathEscape(s.Stream), "stream "+s.Stream+" with all its events"
	if s.Force {
		path, what = path+"?force=true", what+" and its event types"
	}
	return remove(ctx, c, o, path, what, s.Yes)
}

// compact leaves out what was not said, so that the server's defaults hold.
func compact(m map[string]any) map[string]any {
	for k, v := range m {
		if v == "" || v == 0 || v == false || v == nil {
			delete(m, k)
		}
	}
	return m
}

// list prints all pages of a collection, as a table or as JSON lines. A member may be a path, as "created.at".
func list(ctx context.Context, c *client, o *console, path string, query url.Values, asJSON bool, titles, members []string) error {
	return listFirst(ctx, c, o, 0, path, query, asJSON, titles, members)
}

// errEnough ends the way through the pages.
var errEnough = errors.New("there are enough")

// listFirst is list, up to most items; 0: all.
func listFirst(ctx context.Context, c *client, o *console, most int, path string, query url.Values, asJSON bool, titles, members []string) error {
	table := tabwriter.NewWriter(o.out, 0, 4, 2, ' ', 0)
	if !asJSON {
		row(table, titles)
	}
	n := 0
	err := c.each(ctx, path, query, func(item json.RawMessage) error {
		var enough error
		if n++; n == most {
			enough = errEnough
		}
		if asJSON {
			_, err := fmt.Fprintf(o.out, "%s\n", item)
			return cmp.Or(err, enough)
		}
		var values map[string]any
		if err := json.Unmarshal(item, &values); err != nil {
			return err
		}
		cells := make([]string, len(members))
		for i, m := range members {
			var v any = values
			for name := range strings.SplitSeq(m, ".") {
				object, _ := v.(map[string]any)
				v = object[name]
			}
			cells[i] = cell(v)
		}
		row(table, cells)
		return enough
	})
	if err != nil && !errors.Is(err, errEnough) {
		return err
	}
	return table.Flush()
}

// each calls fn for every item of a collection, page by page.
func (c *client) each(ctx context.Context, path string, query url.Values, fn func(item json.RawMessage) error) error {
	next := ""
	for {
		q := url.Values{"limit": {"1000"}}
		maps.Copy(q, query)
		if next != "" {
			q.Set("next", next)
		}
		body, err := c.do(ctx, http.MethodGet, path+"?"+q.Encode(), nil)
		if err != nil {
			return err
		}
		var page struct {
			Items []json.RawMessage `json:"items"`
			Next  string            `json:"next"`
		}
		if err := json.Unmarshal(body, &page); err != nil {
			return fmt.Errorf("the answer to GET %s is no list: %w", path, err)
		}
		for _, item := range page.Items {
			if err := fn(item); err != nil {
				return err
			}
		}
		if page.Next == "" || page.Next == next {
			return nil
		}
		next = page.Next
	}
}

func cell(v any) string {
	switch v := v.(type) {
	case nil:
		return "-"
	case string:
		return cmp.Or(v, "-")
	case float64:
		return strconv.FormatFloat(v, 'f', -1, 64)
	case []any:
		cells := make([]string, len(v))
		for i := range v {
			cells[i] = cell(v[i])
		}
		return cmp.Or(strings.Join(cells, ","), "-")
	}
	return fmt.Sprint(v)
}

func row(w io.Writer, cells []string) {
	for i, c := range cells {
		sep := "\t"
		if i == len(cells)-1 {
			sep = "\n"
		}
		_, _ = io.WriteString(w, c+sep)
	}
}

// show prints one object, indented.
func show(ctx context.Context, c *client, o *console, path string) error {
	body, err := c.do(ctx, http.MethodGet, path, nil)
	if err != nil {
		return err
	}
	return o.print(body)
}

func (c *console) print(body []byte) error {
	var b bytes.Buffer
	if json.Indent(&b, bytes.TrimSpace(body), "", "  ") != nil {
		b.Reset()
		b.Write(body)
	}
	b.WriteByte('\n')
	_, err := c.out.Write(b.Bytes())
	return err
}

// change makes or changes one object and prints it as it is then.
func change(ctx context.Context, c *client, o *console, method, path string, object any) error {
	body, err := c.do(ctx, method, path, object)
	if err != nil {
		return err
	}
	return o.print(body)
}

// remove deletes one object, after a question if there is somebody to ask.
func remove(ctx context.Context, c *client, o *console, path, what string, yes bool) error {
	if err := o.confirm(deletion, what, yes); err != nil {
		return err
	}
	if _, err := c.do(ctx, http.MethodDelete, path, nil); err != nil {
		return err
	}
	o.note("deleted %s", what)
	return nil
}

// deed is what is asked about before it is done, in the forms that the question and its answers need.
type deed struct{ verb, doing, done string }

// What is asked about.
var (
	deletion  = deed{"Delete", "deleting", "deleted"} //nolint:gochecknoglobals // a constant
	resetting = deed{"Reset", "resetting", "reset"}   //nolint:gochecknoglobals // a constant
)

// confirm asks before something is done, if there is somebody to ask. An error says that it is not to be done.
func (c *console) confirm(d deed, what string, yes bool) error {
	if yes {
		return nil
	}
	if err := c.askable(d, what); err != nil {
		return err
	}
	_, _ = fmt.Fprintf(c.err, "%s %s? Type yes: ", d.verb, what)
	var reply string
	if _, _ = fmt.Fscanln(c.in, &reply); reply != "yes" && reply != "y" {
		return &usageError{"nothing was " + d.done}
	}
	return nil
}

// askable tells whether there is somebody to ask.
func (c *console) askable(d deed, what string) error {
	if !c.terminals.in {
		return &usageError{d.doing + " " + what + " needs --yes where nobody can be asked"}
	}
	return nil
}

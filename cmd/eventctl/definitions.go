package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
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
	return list(ctx, c, o, "/v1/streams", l.JSON, []string{"NAME", "PARTITIONS", "RETENTION", "TOPIC", "DESCRIPTION"},
		[]string{"name", "partitions", "retention", "topic", "description"})
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
}

// Help is shown by kong.
func (s *streamsCreate) Help() string {
	return "Examples:\n\n  eventctl streams create trains --partitions 12 --retention 168h\n  eventctl streams create orders --topic internal.orders.v2\n"
}

// Run is called by kong.
func (s *streamsCreate) Run(ctx context.Context, c *client, o *console) error {
	return change(ctx, c, o, http.MethodPost, "/v1/streams", compact(map[string]any{
		"name": s.Stream, "partitions": s.Partitions, "retention": s.Retention, "compaction": s.Compaction, "topic": s.Topic, "owner": s.Owner, "description": s.Description,
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

type typesCommand struct {
	List     typesList     `cmd:"" help:"List the event types."`
	Show     typesShow     `cmd:"" help:"Show an event type."`
	Register typesRegister `cmd:"" help:"Register an event type, or a pattern of them (app.*)."`
	Delete   typesDelete   `cmd:"" help:"Delete a registration. Events already published stay."`
}

type typesList struct {
	JSON bool `name:"json" help:"One event type a line, as JSON."`
}

// Run is called by kong.
func (l *typesList) Run(ctx context.Context, c *client, o *console) error {
	return list(ctx, c, o, "/v1/event-types", l.JSON, []string{"TYPE", "STREAM", "OWNER", "DESCRIPTION"}, []string{"type", "stream", "owner", "description"})
}

type typesShow struct {
	Type string `arg:"" help:"The event type, or the pattern."`
}

// Run is called by kong.
func (s *typesShow) Run(ctx context.Context, c *client, o *console) error {
	return show(ctx, c, o, "/v1/event-types/"+url.PathEscape(s.Type))
}

type typesRegister struct {
	Type         string `arg:"" help:"The event type, or a pattern that ends in .*"`
	Stream       string `required:"true" help:"Stream that its events go to."`
	KeyAttribute string `name:"key-attribute" placeholder:"subject" help:"Attribute whose value keeps events in order. Default subject."`
	Owner        string `help:"Who answers for it."`
	Audience     string `enum:"public,partner,internal," default:"" help:"public, partner or internal."`
	Description  string `help:"What it says."`
	Replace      bool   `help:"Change it if it is registered already."`
}

// Help is shown by kong.
func (t *typesRegister) Help() string {
	return "Examples:\n\n  eventctl types register no.banenor.train.position.v1 --stream train-positions\n  eventctl types register 'app.*' --stream app --description 'whatever our app says'\n"
}

// Run is called by kong.
func (t *typesRegister) Run(ctx context.Context, c *client, o *console) error {
	object := compact(map[string]any{
		"type": t.Type, "stream": t.Stream, "keyAttribute": t.KeyAttribute, "owner": t.Owner, "audience": t.Audience, "description": t.Description,
	})
	if t.Replace {
		path := "/v1/event-types/" + url.PathEscape(t.Type)
		a, err := c.send(ctx, http.MethodGet, path, "", nil)
		if err != nil {
			return err
		}
		if a.status == http.StatusOK {
			return change(ctx, c, o, http.MethodPut, path, object)
		}
	}
	return change(ctx, c, o, http.MethodPost, "/v1/event-types", object)
}

type typesDelete struct {
	Type string `arg:"" help:"The event type, or the pattern."`
	Yes  bool   `short:"y" help:"Do not ask."`
}

// Run is called by kong.
func (t *typesDelete) Run(ctx context.Context, c *client, o *console) error {
	return remove(ctx, c, o, "/v1/event-types/"+url.PathEscape(t.Type), "event type "+t.Type, t.Yes)
}

// compact leaves out what was not said, so that the server's defaults hold.
func compact(m map[string]any) map[string]any {
	for k, v := range m {
		if v == "" || v == 0 || v == false {
			delete(m, k)
		}
	}
	return m
}

// list prints all pages of a collection, as a table or as JSON lines.
func list(ctx context.Context, c *client, o *console, path string, asJSON bool, titles, members []string) error {
	table := tabwriter.NewWriter(o.out, 0, 4, 2, ' ', 0)
	if !asJSON {
		row(table, titles)
	}
	next := ""
	for {
		target := path + "?limit=1000"
		if next != "" {
			target += "&next=" + url.QueryEscape(next)
		}
		body, err := c.do(ctx, http.MethodGet, target, nil)
		if err != nil {
			return err
		}
		var page struct {
			Items []json.RawMessage `json:"items"`
			Next  string            `json:"next"`
		}
		if err := json.Unmarshal(body, &page); err != nil {
			return fmt.Errorf("the answer to GET %s is no list: %w", target, err)
		}
		for _, item := range page.Items {
			if asJSON {
				if _, err := fmt.Fprintf(o.out, "%s\n", item); err != nil {
					return err
				}
				continue
			}
			var values map[string]any
			if err := json.Unmarshal(item, &values); err != nil {
				return err
			}
			cells := make([]string, len(members))
			for i, m := range members {
				cells[i] = cell(values[m])
			}
			row(table, cells)
		}
		if page.Next == "" || page.Next == next {
			return table.Flush()
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
	if !yes {
		if !o.terminals.in {
			return &usageError{"deleting " + what + " needs --yes where nobody can be asked"}
		}
		_, _ = fmt.Fprintf(o.err, "Delete %s? Type yes: ", what)
		var reply string
		if _, _ = fmt.Fscanln(o.in, &reply); reply != "yes" && reply != "y" {
			return &usageError{"nothing was deleted"}
		}
	}
	if _, err := c.do(ctx, http.MethodDelete, path, nil); err != nil {
		return err
	}
	o.note("deleted %s", what)
	return nil
}

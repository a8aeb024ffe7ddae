package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"strings"
)

type typesCommand struct {
	List     typesList     `cmd:"" help:"List the event types."`
	Show     typesShow     `cmd:"" help:"Show an event type, with its schema."`
	Register typesRegister `cmd:"" help:"Register an event type, or a pattern of them (app.*)."`
	Delete   typesDelete   `cmd:"" help:"Delete a registration. Events already published stay."`
	Export   typesExport   `cmd:"" help:"Write streams and event types, schemas and all, as files fit for git."`
	Diff     typesDiff     `cmd:"" help:"Tell how such files differ from what the server has."`
	Apply    typesApply    `cmd:"" aliases:"import" help:"Bring the server to what such files say. No definition is deleted."`
}

type typesList struct {
	Stream   string `help:"Only those whose events go to this stream."`
	Owner    string `help:"Only those of this owner."`
	Audience string `enum:"public,partner,internal," default:"" help:"Only those for this audience: public, partner or internal."`
	Search   string `short:"s" placeholder:"WORDS" help:"Only those that say each of these words of themselves."`
	JSON     bool   `name:"json" help:"One event type a line, as JSON."`
}

// Run is called by kong.
func (l *typesList) Run(ctx context.Context, c *client, o *console) error {
	query := url.Values{}
	for name, value := range map[string]string{"stream": l.Stream, "owner": l.Owner, "audience": l.Audience, "q": l.Search} {
		if value != "" {
			query.Set(name, value)
		}
	}
	return list(ctx, c, o, "/v1/event-types", query, l.JSON, []string{"TYPE", "STREAM", "OWNER", "SCHEMA", "DESCRIPTION"},
		[]string{"type", "stream", "owner", "latestVersion", "description"})
}

type typesShow struct {
	Type string `arg:"" help:"The event type, or the pattern."`
}

// Run is called by kong.
func (s *typesShow) Run(ctx context.Context, c *client, o *console) error {
	return show(ctx, c, o, typePath(s.Type))
}

func typePath(typ string) string { return "/v1/event-types/" + url.PathEscape(typ) }

type typesRegister struct {
	Type           string            `arg:"" help:"The event type, or a pattern that ends in .*"`
	Stream         string            `help:"Stream that its events go to. Needed unless --replace finds it registered."`
	Schema         string            `placeholder:"FILE" help:"JSON Schema (2020-12 or draft-07) of the events' data. - is standard input."`
	Example        []string          `placeholder:"FILE" sep:"none" help:"An example of the events' data, as JSON. Repeatable."`
	KeyAttribute   string            `name:"key-attribute" placeholder:"subject" help:"Attribute whose value keeps events in order. Default subject."`
	Owner          string            `help:"Who answers for it."`
	Audience       string            `enum:"public,partner,internal," default:"" help:"public, partner or internal."`
	Description    string            `help:"What it says, in a sentence."`
	Documentation  string            `placeholder:"FILE" help:"All about it, in Markdown."`
	Compatibility  string            `enum:"backward,backward_transitive,forward,forward_transitive,full,full_transitive,none," default:"" help:"What new schemas must be to old ones: backward (default), forward, full, each also with _transitive, or none."`
	AllowOpen      bool              `name:"allow-open-properties" help:"New schemas may describe properties that objects left open to anything."`
	Dedupe         string            `placeholder:"24h" help:"How long the same source and id are known again. 0s: not at all. Default 24h."`
	DedupeRequired bool              `help:"Refuse events while it cannot be known whether they are there already."`
	Personal       bool              `help:"The events hold personal data: errors never quote them."`
	Attributes     string            `placeholder:"FILE" help:"JSON Schema of the context attributes, as one object."`
	Source         []string          `placeholder:"PREFIX" sep:"none" help:"What an event's source may begin with. Repeatable. Default anything."`
	Promote        map[string]string `placeholder:"NAME=/POINTER" help:"Extension attribute to be taken from the data at a JSON Pointer. Repeatable."`
	Replace        bool              `help:"Change it if it is registered already; what is not given stays."`
}

// Help is shown by kong.
func (t *typesRegister) Help() string {
	return "Examples:\n\n  eventctl types register no.banenor.train.position.v1 --stream train-positions --schema position.json\n  eventctl types register 'app.*' --stream app --description 'whatever our app says'\n"
}

// Run is called by kong.
func (t *typesRegister) Run(ctx context.Context, c *client, o *console) error {
	object, err := t.object(o)
	if err != nil {
		return err
	}
	if t.Replace {
		a, err := c.send(ctx, http.MethodGet, typePath(t.Type), "", nil)
		if err != nil {
			return err
		}
		if a.status == http.StatusOK {
			var current map[string]any
			if err := json.Unmarshal(a.body, &current); err != nil {
				return fmt.Errorf("the answer to GET %s is no event type: %w", typePath(t.Type), err)
			}
			delete(current, "schema") // stays, unless another is given
			for name, value := range object {
				current[name] = value
			}
			return change(ctx, c, o, http.MethodPut, typePath(t.Type), current)
		}
	}
	if t.Stream == "" {
		return &usageError{"--stream: name the stream that events of the type go to"}
	}
	return change(ctx, c, o, http.MethodPost, "/v1/event-types", object)
}

func (t *typesRegister) object(o *console) (map[string]any, error) {
	object := compact(map[string]any{
		"type": t.Type, "stream": t.Stream, "keyAttribute": t.KeyAttribute, "owner": t.Owner, "audience": t.Audience,
		"description": t.Description, "compatibility": t.Compatibility, "allowOpenProperties": t.AllowOpen, "dedupe": t.Dedupe,
		"dedupeRequired": t.DedupeRequired, "personal": t.Personal,
	})
	for member, file := range map[string]string{"schema": t.Schema, "attributes": t.Attributes} {
		if file == "" {
			continue
		}
		document, err := o.readJSON(file)
		if err != nil {
			return nil, err
		}
		object[member] = document
	}
	var examples []json.RawMessage
	for _, file := range t.Example {
		document, err := o.readJSON(file)
		if err != nil {
			return nil, err
		}
		examples = append(examples, document)
	}
	if examples != nil {
		object["examples"] = examples
	}
	if t.Documentation != "" {
		text, err := o.readFile(t.Documentation)
		if err != nil {
			return nil, err
		}
		object["documentation"] = string(text)
	}
	if len(t.Source) > 0 {
		object["sources"] = t.Source
	}
	if len(t.Promote) > 0 {
		object["promote"] = t.Promote
	}
	return object, nil
}

// maxFile bounds the files that hold definitions.
const maxFile = 1 << 20

// readFile reads a file, or standard input where it is "-".
func (c *console) readFile(name string) ([]byte, error) {
	src := c.in
	if name != "-" {
		f, err := os.Open(name)
		if err != nil {
			return nil, &usageError{err.Error()}
		}
		defer func() { _ = f.Close() }()
		src = f
	}
	text, err := readBounded(src, maxFile)
	if err != nil {
		return nil, &usageError{fmt.Sprintf("%s: %v", name, err)}
	}
	return text, nil
}

func (c *console) readJSON(name string) (json.RawMessage, error) {
	text, err := c.readFile(name)
	if err != nil {
		return nil, err
	}
	var document json.RawMessage
	if err := json.Unmarshal(text, &document); err != nil {
		return nil, &usageError{fmt.Sprintf("%s is not JSON: %v", name, err)}
	}
	return document, nil
}

type typesDelete struct {
	Type  string `arg:"" help:"The event type, or the pattern."`
	Yes   bool   `short:"y" help:"Do not ask."`
	Force bool   `help:"Although the stream still holds events of it."`
}

// Run is called by kong.
func (t *typesDelete) Run(ctx context.Context, c *client, o *console) error {
	path := typePath(t.Type)
	if t.Force {
		path += "?force=true"
	}
	return remove(ctx, c, o, path, "event type "+t.Type, t.Yes)
}

type schemasCommand struct {
	List     schemasList     `cmd:"" help:"List the versions of an event type's schema."`
	Show     schemasShow     `cmd:"" help:"Print a version of an event type's schema, as it was registered."`
	Check    schemasCheck    `cmd:"" help:"Tell whether a schema is compatible with those that a type has. Writes nothing."`
	Register schemasRegister `cmd:"" help:"Register a schema as the type's next version."`
}

type schemasList struct {
	Type string `arg:"" help:"The event type."`
	JSON bool   `name:"json" help:"One version a line, as JSON."`
}

// Run is called by kong.
func (l *schemasList) Run(ctx context.Context, c *client, o *console) error {
	return list(ctx, c, o, typePath(l.Type)+"/schemas", nil, l.JSON, []string{"VERSION", "DRAFT", "BYTES", "CREATED", "BY", "URL"},
		[]string{"version", "draft", "bytes", "created.at", "created.by", "url"})
}

type schemasShow struct {
	Type    string `arg:"" help:"The event type."`
	Version string `arg:"" optional:"" default:"latest" help:"Its number. Default the latest."`
}

// Run is called by kong.
func (s *schemasShow) Run(ctx context.Context, c *client, o *console) error {
	return show(ctx, c, o, typePath(s.Type)+"/schemas/"+url.PathEscape(s.Version))
}

type schemasCheck struct {
	Type string `arg:"" help:"The event type."`
	File string `arg:"" help:"The schema. - is standard input."`
	JSON bool   `name:"json" help:"Print the verdict as JSON."`
}

// Help is shown by kong.
func (s *schemasCheck) Help() string {
	return "Exits with 0 if it is compatible, with 5 if it is not or if that cannot be decided, and with 4 if it is no schema.\n\nIn a pipeline:\n\n  eventctl schemas check no.banenor.train.position.v1 schemas/position.json\n"
}

// verdict is what became of comparing a schema.
type verdict struct {
	Compatible   bool         `json:"compatible"`
	Verdict      string       `json:"verdict"`
	Mode         string       `json:"mode"`
	ComparedWith []int        `json:"comparedWith"`
	EqualTo      int          `json:"equalTo"`
	Breaks       []difference `json:"breaks"`
	Undecided    []difference `json:"undecided"`
}

// difference is one between two versions of a schema.
type difference struct {
	Rule    string          `json:"rule"`
	Path    string          `json:"path"`
	Old     string          `json:"old"`
	New     string          `json:"new"`
	Message string          `json:"message"`
	Version int             `json:"version"`
	Example json.RawMessage `json:"example"`
}

func (d difference) String() string {
	text := fmt.Sprintf("%s: %s [%s]", cmp.Or(d.Path, "the whole"), d.Message, d.Rule)
	if d.Old != "" || d.New != "" {
		text += fmt.Sprintf("\n    was %s, is %s", cmp.Or(d.Old, "nothing"), cmp.Or(d.New, "nothing"))
	}
	if len(d.Example) > 0 {
		text += "\n    for example " + brief(d.Example)
	}
	return text
}

// String tells a verdict over several lines.
func (v *verdict) String() string {
	var b strings.Builder
	with := "no other version"
	if len(v.ComparedWith) > 0 {
		with = strings.Trim(fmt.Sprint(v.ComparedWith), "[]")
		with = "version " + strings.ReplaceAll(with, " ", ", ")
	}
	fmt.Fprintf(&b, "%s with %s (%s)", v.Verdict, with, v.Mode)
	if v.EqualTo > 0 {
		fmt.Fprintf(&b, "; it is version %d already", v.EqualTo)
	}
	for _, br := range v.Breaks {
		fmt.Fprintf(&b, "\n  %s", br)
	}
	for _, u := range v.Undecided {
		fmt.Fprintf(&b, "\n  cannot be decided: %s", u)
	}
	return b.String()
}

// errDiffers says that what was compared is not the same, or does not fit; what was told already says how.
var errDiffers = fmt.Errorf("it differs")

// Run is called by kong.
func (s *schemasCheck) Run(ctx context.Context, c *client, o *console) error {
	text, err := o.readJSON(s.File)
	if err != nil {
		return err
	}
	body, err := c.do(ctx, http.MethodPost, typePath(s.Type)+"/schemas:check", text)
	if err != nil {
		return err
	}
	var v verdict
	if err := json.Unmarshal(body, &v); err != nil {
		return fmt.Errorf("the answer is no verdict: %w", err)
	}
	if s.JSON {
		err = o.print(body)
	} else {
		_, err = fmt.Fprintln(o.out, v.String())
	}
	if err == nil && !v.Compatible {
		err = errDiffers
	}
	return err
}

type schemasRegister struct {
	Type  string `arg:"" help:"The event type."`
	File  string `arg:"" help:"The schema. - is standard input."`
	Force bool   `help:"Although its compatibility cannot be decided. One that is incompatible is refused in any case."`
}

// Run is called by kong.
func (s *schemasRegister) Run(ctx context.Context, c *client, o *console) error {
	text, err := o.readJSON(s.File)
	if err != nil {
		return err
	}
	path := typePath(s.Type) + "/schemas"
	if s.Force {
		path += "?force=true"
	}
	return change(ctx, c, o, http.MethodPost, path, text)
}

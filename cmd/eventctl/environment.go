package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// An environment's definitions as files: streams/NAME.json and types/TYPE.json, the star of a pattern written as %. What
// the server adds by itself is left out, so that a file changes only when a definition does. A type's schemas are all in
// its file, oldest first.
const (
	streamsFolder = "streams"
	typesFolder   = "types"
)

// maxDefinitions bounds the files that are read.
const maxDefinitions = 100_000

// definition is one file, or what the server has of the same name.
type definition struct {
	name    string
	members map[string]json.RawMessage // without schemas
	schemas []json.RawMessage
}

// environment is a set of definitions by name.
type environment struct{ streams, types map[string]definition }

func readBounded(src io.Reader, limit int64) ([]byte, error) {
	text, err := io.ReadAll(io.LimitReader(src, limit+1))
	if err == nil && int64(len(text)) > limit {
		err = fmt.Errorf("more than %d bytes", limit)
	}
	return text, err
}

func fileName(name string) string { return strings.ReplaceAll(name, "*", "%") + ".json" }

type typesExport struct {
	Dir string `arg:"" help:"Folder to write to; made if it is not there. Files of definitions that the server does not have are left alone."`
}

// Run is called by kong.
func (e *typesExport) Run(ctx context.Context, c *client, o *console) error {
	env, err := c.environment(ctx, nil)
	if err != nil {
		return err
	}
	n := 0
	for folder, defs := range map[string]map[string]definition{streamsFolder: env.streams, typesFolder: env.types} {
		dir := filepath.Join(e.Dir, folder)
		if err := os.MkdirAll(dir, 0o755); err != nil { //nolint:gosec // definitions are to be read by others
			return err
		}
		for name, d := range defs {
			text, err := d.file()
			if err != nil {
				return err
			}
			path := filepath.Join(dir, fileName(name))
			if old, err := os.ReadFile(path); err == nil && bytes.Equal(old, text) {
				continue
			}
			if err := os.WriteFile(path, text, 0o644); err != nil { //nolint:gosec // likewise
				return err
			}
			n++
		}
	}
	o.note("%d streams and %d event types in %s, %d files changed", len(env.streams), len(env.types), e.Dir, n)
	return nil
}

// file is the definition as it is written: indented, members in order.
func (d definition) file() ([]byte, error) {
	members := maps.Clone(d.members)
	if len(d.schemas) > 0 {
		raw, err := json.Marshal(d.schemas)
		if err != nil {
			return nil, err
		}
		members["schemas"] = raw
	}
	raw, err := json.Marshal(members)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	if err := json.Indent(&b, raw, "", "  "); err != nil {
		return nil, err
	}
	b.WriteByte('\n')
	return b.Bytes(), nil
}

// What the server adds to definitions, or what belongs to one environment alone.
var serversOwn = map[string][]string{ //nolint:gochecknoglobals // a constant table
	streamsFolder: {"oldest", "newest", "eventTypes", "adopted", "topic"},
	typesFolder:   {"schema", "latestVersion", "schemaUrl", "created", "changed"},
}

// environment reads what the server has: all of it, or what wanted names.
func (c *client) environment(ctx context.Context, wanted *environment) (environment, error) {
	env := environment{streams: map[string]definition{}, types: map[string]definition{}}
	for _, part := range []struct {
		path, folder, key string
		into, wanted      map[string]definition
	}{
		{"/v1/streams", streamsFolder, "name", env.streams, nil},
		{"/v1/event-types", typesFolder, "type", env.types, nil},
	} {
		if wanted != nil {
			part.wanted = map[string]map[string]definition{streamsFolder: wanted.streams, typesFolder: wanted.types}[part.folder]
		}
		err := c.each(ctx, part.path, nil, func(item json.RawMessage) error {
			d := definition{}
			if err := json.Unmarshal(item, &d.members); err != nil {
				return err
			}
			if err := json.Unmarshal(d.members[part.key], &d.name); err != nil {
				return err
			}
			if _, ok := part.wanted[d.name]; wanted != nil && !ok {
				return nil
			}
			_, hasSchema := d.members["latestVersion"]
			if adopted := d.members["adopted"]; string(adopted) == "true" {
				defer func(topic json.RawMessage) { d.members["topic"] = topic }(d.members["topic"])
			}
			for _, own := range serversOwn[part.folder] {
				delete(d.members, own)
			}
			if hasSchema {
				var err error
				if d.schemas, err = c.schemas(ctx, d.name); err != nil {
					return err
				}
			}
			part.into[d.name] = d
			return nil
		})
		if err != nil {
			return env, err
		}
	}
	return env, nil
}

func (c *client) schemas(ctx context.Context, typ string) ([]json.RawMessage, error) {
	var all []json.RawMessage
	err := c.each(ctx, typePath(typ)+"/schemas", nil, func(item json.RawMessage) error {
		var v struct{ Version int }
		if err := json.Unmarshal(item, &v); err != nil {
			return err
		}
		text, err := c.do(ctx, http.MethodGet, fmt.Sprintf("%s/schemas/%d", typePath(typ), v.Version), nil)
		all = append(all, text)
		return err
	})
	return all, err
}

// readEnvironment reads the files of a folder.
func readEnvironment(dir string) (environment, error) {
	env := environment{streams: map[string]definition{}, types: map[string]definition{}}
	n := 0
	for folder, part := range map[string]struct {
		key  string
		into map[string]definition
	}{streamsFolder: {"name", env.streams}, typesFolder: {"type", env.types}} {
		files, err := os.ReadDir(filepath.Join(dir, folder))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return env, &usageError{err.Error()}
		}
		for _, f := range files {
			if f.IsDir() || filepath.Ext(f.Name()) != ".json" {
				continue
			}
			if n++; n > maxDefinitions {
				return env, &usageError{fmt.Sprintf("%s has more than %d definitions", dir, maxDefinitions)}
			}
			path := filepath.Join(dir, folder, f.Name())
			d, err := readDefinition(path, part.key)
			if err != nil {
				return env, err
			}
			if _, twice := part.into[d.name]; twice {
				return env, &usageError{fmt.Sprintf("%s: %s has a file already", path, d.name)}
			}
			part.into[d.name] = d
		}
	}
	if n == 0 {
		return env, &usageError{fmt.Sprintf("%s has no definitions: they are in %s/*.json and %s/*.json, as 'eventctl types export' writes them", dir, streamsFolder, typesFolder)}
	}
	return env, nil
}

func readDefinition(path, key string) (definition, error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return definition{}, &usageError{err.Error()}
	}
	d := definition{}
	if err := json.Unmarshal(raw, &d.members); err != nil {
		return d, &usageError{fmt.Sprintf("%s is no JSON object: %v", path, err)}
	}
	if json.Unmarshal(d.members[key], &d.name) != nil || d.name == "" {
		return d, &usageError{fmt.Sprintf("%s: the member %q has to name what it defines", path, key)}
	}
	if schemas, ok := d.members["schemas"]; ok {
		if err := json.Unmarshal(schemas, &d.schemas); err != nil {
			return d, &usageError{fmt.Sprintf("%s: schemas is an array of schemas, oldest first: %v", path, err)}
		}
		delete(d.members, "schemas")
	}
	return d, nil
}

// step is one difference, and what undoes it.
type step struct {
	kind, name string
	create     bool
	changes    []string // members, with what they were and what they are to be
	schemas    []int    // which of the file's are to be registered, from 0
	to         definition
}

func (s step) String() string {
	sign, rest := "~", ""
	if s.create {
		sign = "+"
	}
	for _, c := range s.changes {
		rest += "\n    " + c
	}
	for _, n := range s.schemas {
		rest += fmt.Sprintf("\n    schema %d is to be registered", n+1)
	}
	return fmt.Sprintf("%s %s %s%s", sign, s.kind, s.name, rest)
}

// plan tells what has to be done for have to become want: streams first, since types need them.
func plan(have, want environment) []step {
	var steps []step
	for _, part := range []struct {
		kind       string
		have, want map[string]definition
	}{{"stream", have.streams, want.streams}, {"event type", have.types, want.types}} {
		for _, name := range slices.Sorted(maps.Keys(part.want)) {
			to := part.want[name]
			from, there := part.have[name]
			s := step{kind: part.kind, name: name, create: !there, to: to}
			if there {
				s.changes = changes(from.members, to.members)
			}
			for i, text := range to.schemas {
				if !slices.ContainsFunc(from.schemas, func(t json.RawMessage) bool { return sameJSON(t, text) }) {
					s.schemas = append(s.schemas, i)
				}
			}
			if s.create || len(s.changes) > 0 || len(s.schemas) > 0 {
				steps = append(steps, s)
			}
		}
	}
	return steps
}

// changes lists the members that a file has otherwise. What a file does not say is left as it is.
func changes(have, want map[string]json.RawMessage) []string {
	var all []string
	for _, name := range slices.Sorted(maps.Keys(want)) {
		switch old, ok := have[name]; {
		case !ok:
			all = append(all, fmt.Sprintf("%s: %s", name, brief(want[name])))
		case !sameJSON(old, want[name]):
			all = append(all, fmt.Sprintf("%s: %s -> %s", name, brief(old), brief(want[name])))
		}
	}
	return all
}

func brief(raw json.RawMessage) string {
	var b bytes.Buffer
	if json.Compact(&b, raw) != nil {
		return string(raw)
	}
	if text := []rune(b.String()); len(text) > 60 {
		return string(text[:57]) + "..."
	}
	return b.String()
}

// sameJSON reports whether two texts mean the same, whatever their white space and order of members.
func sameJSON(a, b json.RawMessage) bool {
	normal := func(raw json.RawMessage) ([]byte, error) {
		dec := json.NewDecoder(bytes.NewReader(raw))
		dec.UseNumber() // large numbers stay what they are
		var v any
		if err := dec.Decode(&v); err != nil {
			return nil, err
		}
		return json.Marshal(v)
	}
	x, errX := normal(a)
	y, errY := normal(b)
	return errX == nil && errY == nil && bytes.Equal(x, y)
}

type typesDiff struct {
	Dir string `arg:"" help:"Folder as 'eventctl types export' writes it."`
}

// Help is shown by kong.
func (d *typesDiff) Help() string {
	return "Exits with 0 if the server has all that the files say, else with 5.\n"
}

// Run is called by kong.
func (d *typesDiff) Run(ctx context.Context, c *client, o *console) error {
	steps, err := c.planFor(ctx, d.Dir)
	if err != nil {
		return err
	}
	for _, s := range steps {
		if _, err := fmt.Fprintln(o.out, s); err != nil {
			return err
		}
	}
	if len(steps) > 0 {
		return errDiffers
	}
	o.note("no differences")
	return nil
}

func (c *client) planFor(ctx context.Context, dir string) ([]step, error) {
	want, err := readEnvironment(dir)
	if err != nil {
		return nil, err
	}
	have, err := c.environment(ctx, &want)
	if err != nil {
		return nil, err
	}
	return plan(have, want), nil
}

type typesApply struct {
	Dir    string `arg:"" help:"Folder as 'eventctl types export' writes it."`
	DryRun bool   `help:"Tell what would be done, and whether the schemas are compatible, but do nothing."`
}

// Help is shown by kong.
func (a *typesApply) Help() string {
	return "From one environment to the next:\n\n  eventctl --server https://test.example types export definitions\n  eventctl --server https://prod.example types apply definitions --dry-run\n  eventctl --server https://prod.example types apply definitions\n"
}

// Run is called by kong.
func (a *typesApply) Run(ctx context.Context, c *client, o *console) error {
	steps, err := c.planFor(ctx, a.Dir)
	if err != nil {
		return err
	}
	unfit := false
	for _, s := range steps {
		if _, err := fmt.Fprintln(o.out, s); err != nil {
			return err
		}
		if a.DryRun {
			ok, err := s.check(ctx, c, o)
			if err != nil {
				return fmt.Errorf("%s %s: %w", s.kind, s.name, err)
			}
			unfit = unfit || !ok
			continue
		}
		if err := s.do(ctx, c); err != nil {
			return fmt.Errorf("%s %s: %w", s.kind, s.name, err)
		}
	}
	switch {
	case unfit:
		return errDiffers
	case a.DryRun:
		o.note("%d definitions would be changed", len(steps))
	default:
		o.note("%d definitions were changed", len(steps))
	}
	return nil
}

// check asks whether the first schema that is to be registered would be taken; of those after it that is not known
// before it is there.
func (s step) check(ctx context.Context, c *client, o *console) (bool, error) {
	if s.create || len(s.schemas) == 0 {
		return true, nil
	}
	body, err := c.do(ctx, http.MethodPost, typePath(s.name)+"/schemas:check", s.to.schemas[s.schemas[0]])
	if err != nil {
		return false, err
	}
	var v verdict
	if err := json.Unmarshal(body, &v); err != nil {
		return false, err
	}
	_, err = fmt.Fprintln(o.out, "    "+strings.ReplaceAll(v.String(), "\n", "\n    "))
	return v.Compatible, err
}

func (s step) do(ctx context.Context, c *client) error {
	if s.kind == "stream" {
		return s.doStream(ctx, c)
	}
	// The examples come last: they fit the last schema, and need not fit those before it.
	path := typePath(s.name)
	if s.create || len(s.changes) > 0 {
		members := maps.Clone(s.to.members)
		if len(s.schemas) > 0 {
			delete(members, "examples")
		}
		if _, err := c.do(ctx, http.MethodPut, path, members); err != nil {
			return err
		}
	}
	for _, n := range s.schemas {
		if _, err := c.do(ctx, http.MethodPost, path+"/schemas", s.to.schemas[n]); err != nil {
			return fmt.Errorf("schema %d: %w", n+1, err)
		}
	}
	if _, has := s.to.members["examples"]; has && len(s.schemas) > 0 {
		_, err := c.do(ctx, http.MethodPut, path, s.to.members)
		return err
	}
	return nil
}

func (s step) doStream(ctx context.Context, c *client) error {
	if s.create {
		_, err := c.do(ctx, http.MethodPost, "/v1/streams", s.to.members)
		return err
	}
	patch := maps.Clone(s.to.members)
	delete(patch, "name")
	// What cannot be changed is not asked for where it is the same; where it is not, the server says so.
	have, err := c.do(ctx, http.MethodGet, "/v1/streams/"+url.PathEscape(s.name), nil)
	if err != nil {
		return err
	}
	var current map[string]json.RawMessage
	if err := json.Unmarshal(have, &current); err != nil {
		return err
	}
	for name, value := range patch {
		if sameJSON(current[name], value) {
			delete(patch, name)
		}
	}
	_, err = c.do(ctx, http.MethodPatch, "/v1/streams/"+url.PathEscape(s.name), patch)
	return err
}

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// An environment's definitions as files: streams/NAME.json and types/TYPE.json, the star of a pattern written as %. What
// the server adds by itself is left out, so that a file changes only when a definition does; all else is there, so that a
// member that a file lacks is one that the definition is not to have. A type's schemas are all in its file, oldest first.
const (
	streamsFolder = "streams"
	typesFolder   = "types"
)

// maxDefinitions bounds the files that are read.
const maxDefinitions = 100_000

// The members of a type's file that are of its schemas. The last two are there only where they say something.
const (
	memberSchemas = "schemas"        // the texts, oldest first
	memberFirst   = "firstVersion"   // the number of the first of them: another than 1 where the type had been deleted before
	memberForced  = "forcedVersions" // the numbers of those that were taken although their compatibility was undecided
)

// definition is one file, or what the server has of the same name.
type definition struct {
	name    string
	members map[string]json.RawMessage // without those of schemas
	schemas []json.RawMessage
	first   int   // the number of schemas[0]
	forced  []int // numbers
	etag    string
}

// number is the version that schemas[i] is where the definition comes from.
func (d definition) number(i int) int { return max(d.first, 1) + i }

// indexOf finds a schema among the definition's; -1 where it is not there.
func (d definition) indexOf(text json.RawMessage) int {
	return slices.IndexFunc(d.schemas, func(t json.RawMessage) bool { return sameJSON(t, text) })
}

// environment is a set of definitions by name.
type environment struct {
	streams, types map[string]definition
	streamNames    map[string]bool // of all streams, also of those whose definitions were not asked for
}

func newEnvironment() environment {
	return environment{streams: map[string]definition{}, types: map[string]definition{}, streamNames: map[string]bool{}}
}

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
	object := map[string]any{}
	for name, value := range d.members {
		object[name] = value
	}
	if len(d.schemas) > 0 {
		object[memberSchemas] = d.schemas
		if d.first > 1 {
			object[memberFirst] = d.first
		}
		if len(d.forced) > 0 {
			object[memberForced] = d.forced
		}
	}
	raw, err := encode(object)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	if err := json.Indent(&b, raw, "", "  "); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

// encode is JSON on a line, whose <, > and & are left as people write them.
func encode(v any) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	err := enc.Encode(v)
	return b.Bytes(), err
}

// What the server adds to definitions, or what belongs to one environment alone.
var serversOwn = map[string][]string{ //nolint:gochecknoglobals // a constant table
	streamsFolder: {"oldest", "newest", "eventTypes", "adopted", "topic"},
	typesFolder:   {"schema", "latestVersion", "schemaUrl", "created", "changed"},
}

// definitionOf reads what the server answers of a stream or a type. Its schemas are not read: latest is the number of the
// last of them, 0 where there is none.
func definitionOf(folder string, item json.RawMessage) (d definition, latest int, err error) {
	if err := json.Unmarshal(item, &d.members); err != nil {
		return d, 0, err
	}
	if err := json.Unmarshal(d.members[keys[folder]], &d.name); err != nil {
		return d, 0, err
	}
	if n, ok := d.members["latestVersion"]; ok {
		if err := json.Unmarshal(n, &latest); err != nil {
			return d, 0, err
		}
	}
	topic, adopted := d.members["topic"], string(d.members["adopted"]) == "true"
	for _, own := range serversOwn[folder] {
		delete(d.members, own)
	}
	if adopted {
		d.members["topic"] = topic
	}
	return d, latest, nil
}

// keys are the members that name what is defined.
var keys = map[string]string{streamsFolder: "name", typesFolder: "type"} //nolint:gochecknoglobals // a constant table

// environment reads what the server has: all of it, or what wanted names.
func (c *client) environment(ctx context.Context, wanted *environment) (environment, error) {
	env := newEnvironment()
	err := c.each(ctx, "/v1/streams", nil, func(item json.RawMessage) error {
		d, _, err := definitionOf(streamsFolder, item)
		if err != nil {
			return err
		}
		env.streamNames[d.name] = true
		if wanted == nil || has(wanted.streams, d.name) {
			env.streams[d.name] = d
		}
		return nil
	})
	if err != nil {
		return env, err
	}
	return env, c.each(ctx, "/v1/event-types", nil, func(item json.RawMessage) error {
		d, latest, err := definitionOf(typesFolder, item)
		if err != nil || wanted != nil && !has(wanted.types, d.name) {
			return err
		}
		if latest > 0 {
			if err := c.readSchemas(ctx, &d); err != nil {
				return err
			}
		}
		env.types[d.name] = d
		return nil
	})
}

func has(m map[string]definition, name string) bool {
	_, ok := m[name]
	return ok
}

// readSchemas reads all versions of a type's schema into its definition.
func (c *client) readSchemas(ctx context.Context, d *definition) error {
	d.schemas, d.forced, d.first = nil, nil, 0
	return c.each(ctx, typePath(d.name)+"/schemas", nil, func(item json.RawMessage) error {
		var v struct {
			Version int
			Forced  bool
		}
		if err := json.Unmarshal(item, &v); err != nil {
			return err
		}
		if len(d.schemas) == 0 {
			d.first = v.Version
		} else if v.Version != d.number(len(d.schemas)) {
			return fmt.Errorf("event type %s: expected version %d of its schema, got %d: the server lacks one, and nothing can be told of those after it", d.name, d.number(len(d.schemas)), v.Version)
		}
		if v.Forced {
			d.forced = append(d.forced, v.Version)
		}
		text, err := c.do(ctx, http.MethodGet, schemaPath(d.name, v.Version), nil)
		d.schemas = append(d.schemas, text)
		return err
	})
}

func schemaPath(typ string, version int) string {
	return fmt.Sprintf("%s/schemas/%d", typePath(typ), version)
}

// readEnvironment reads the files of a folder.
func readEnvironment(dir string) (environment, error) {
	env := newEnvironment()
	n := 0
	for folder, into := range map[string]map[string]definition{streamsFolder: env.streams, typesFolder: env.types} {
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
			d, err := readDefinition(path, keys[folder])
			if err != nil {
				return env, err
			}
			if has(into, d.name) {
				return env, &usageError{fmt.Sprintf("%s: %s has a file already", path, d.name)}
			}
			into[d.name] = d
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
	for member, part := range map[string]struct {
		into any
		is   string
	}{
		memberSchemas: {&d.schemas, "an array of schemas, oldest first"},
		memberFirst:   {&d.first, "the number of the first of the schemas"},
		memberForced:  {&d.forced, "an array of the numbers of schemas that are to be registered although their compatibility is undecided"},
	} {
		value, ok := d.members[member]
		if !ok || key != keys[typesFolder] {
			continue
		}
		if err := json.Unmarshal(value, part.into); err != nil {
			return d, &usageError{fmt.Sprintf("%s: %s is %s: %v", path, member, part.is, err)}
		}
		delete(d.members, member)
	}
	for _, n := range d.forced {
		if n < d.number(0) || n >= d.number(len(d.schemas)) {
			return d, &usageError{fmt.Sprintf("%s: %s has %d: expected %d to %d, the numbers of the schemas", path, memberForced, n, d.number(0), d.number(len(d.schemas)-1))}
		}
	}
	return d, nil
}

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"time"
)

// The kinds of definitions, as they are told.
const (
	kindStream = "stream"
	kindType   = "event type"
)

// step is one definition that differs, and what undoes it.
type step struct {
	kind, name string
	create     bool
	changes    []string // members, with what they were and what they are to be
	pending    []int    // which of the file's schemas are to be registered, from 0
	from, to   definition
}

func (s *step) title() string { return s.kind + " " + s.name }

// String tells a step over several lines.
func (s *step) String() string {
	sign, rest := "~", ""
	if s.create {
		sign = "+"
	}
	for _, c := range s.changes {
		rest += "\n    " + c
	}
	for _, n := range s.pending {
		rest += fmt.Sprintf("\n    schema %d is to be registered", s.to.number(n))
	}
	return fmt.Sprintf("%s %s%s", sign, s.title(), rest)
}

// differs reports whether there is anything to do.
func (s *step) differs() bool { return s.create || len(s.changes) > 0 || len(s.pending) > 0 }

// newStep compares a definition with its file. Without from the definition is to be made.
func newStep(kind string, from *definition, to definition) *step {
	s := &step{kind: kind, name: to.name, create: from == nil, to: to}
	if from != nil {
		s.from = *from
		s.changes = changes(kind, from.members, to.members)
	}
	for i, text := range to.schemas {
		if s.from.indexOf(text) < 0 && to.indexOf(text) == i {
			s.pending = append(s.pending, i)
		}
	}
	return s
}

// compare tells what has to be done for have to become want: streams first, since types need them.
func compare(have, want environment) []*step {
	var steps []*step
	for _, part := range []struct {
		kind       string
		have, want map[string]definition
	}{{kindStream, have.streams, want.streams}, {kindType, have.types, want.types}} {
		for _, name := range slices.Sorted(maps.Keys(part.want)) {
			var from *definition
			if d, there := part.have[name]; there {
				from = &d
			}
			if s := newStep(part.kind, from, part.want[name]); s.differs() {
				steps = append(steps, s)
			}
		}
	}
	return steps
}

// defaulted are the members that every definition has, whether or not anybody says so: a file that leaves one out leaves
// it as it is. All others a file takes away by leaving them out. The wrap of a stream goes with its format, which is
// what it was made with.
var defaulted = map[string][]string{ //nolint:gochecknoglobals // a constant table
	kindStream: {"topic", "partitions", "retention", "compaction", "owner", "format", "wrap"},
	kindType:   {"owner", "audience", "keyAttribute", "compatibility", "dedupe"},
}

// says reports whether a member is there and is not what the server takes for one that is left out.
func says(kind, name string, members map[string]json.RawMessage) bool {
	var b bytes.Buffer
	if json.Compact(&b, members[name]) != nil {
		return false
	}
	switch b.String() {
	case "null", `""`:
		return false
	case "false", "[]", "{}":
		return slices.Contains(defaulted[kind], name) || kind == kindStream && name == memberState // {}: with its defaults
	}
	return true
}

// changes lists the members that are to be others, and those that are to go.
func changes(kind string, have, want map[string]json.RawMessage) []string {
	names := slices.Sorted(maps.Keys(want))
	for _, name := range slices.Sorted(maps.Keys(have)) {
		if _, ok := want[name]; !ok {
			names = append(names, name)
		}
	}
	var all []string
	for _, name := range names {
		switch was, is := says(kind, name, have), says(kind, name, want); {
		case is && !was:
			all = append(all, fmt.Sprintf("%s: %s", name, brief(want[name])))
		case is && !sameMember(name, have[name], want[name]):
			all = append(all, fmt.Sprintf("%s: %s -> %s", name, brief(have[name]), brief(want[name])))
		case was && !is && !slices.Contains(defaulted[kind], name):
			all = append(all, fmt.Sprintf("- %s: was %s", name, brief(have[name])))
		}
	}
	return all
}

// whole is a file with those members added that it leaves as they are: what PUT, which replaces all, is to be given.
func whole(kind string, have, want map[string]json.RawMessage) map[string]json.RawMessage {
	all := maps.Clone(want)
	for _, name := range defaulted[kind] {
		if value, ok := have[name]; ok && !says(kind, name, want) {
			all[name] = value
		}
	}
	return all
}

// sameMember is sameJSON, where some values may be spelled in several ways.
func sameMember(name string, have, want json.RawMessage) bool {
	switch name {
	case "dedupe", "retention":
		return sameDuration(have, want)
	case memberState:
		return sameState(have, want)
	}
	return sameJSON(have, want)
}

// sameDuration is sameJSON, where 1h is 60m.
func sameDuration(a, b json.RawMessage) bool {
	var x, y string
	if json.Unmarshal(a, &x) == nil && json.Unmarshal(b, &y) == nil {
		dx, errX := time.ParseDuration(x)
		dy, errY := time.ParseDuration(y)
		if errX == nil && errY == nil {
			return dx == dy
		}
	}
	return sameJSON(a, b)
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

// differences compares the files of a folder with the server.
func (c *client) differences(ctx context.Context, dir string, o *console) (have, want environment, steps []*step, err error) {
	if want, err = readEnvironment(dir); err != nil {
		return have, want, nil, err
	}
	if have, err = c.environment(ctx, &want); err != nil {
		return have, want, nil, err
	}
	for _, name := range slices.Sorted(maps.Keys(have.types)) {
		more, file := 0, want.types[name]
		for _, text := range have.types[name].schemas {
			if file.indexOf(text) < 0 {
				more++
			}
		}
		if more > 0 {
			o.note("event type %s has %d schemas that are not in its file: schemas always stay", name, more)
		}
	}
	return have, want, compare(have, want), nil
}

// pin reads again each definition that is to be changed, with the ETag of what the step is made from. Steps that have
// nothing to do any more are left out.
func (c *client) pin(ctx context.Context, steps []*step) ([]*step, error) {
	var pinned []*step
	for _, s := range steps {
		if !s.create {
			from, err := c.current(ctx, s.kind, s.name, s.from)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", s.title(), err)
			}
			s = newStep(s.kind, &from, s.to)
		}
		if s.differs() {
			pinned = append(pinned, s)
		}
	}
	return pinned, nil
}

// current reads a definition with its ETag. The schemas are those of known, unless there are others by now.
func (c *client) current(ctx context.Context, kind, name string, known definition) (definition, error) {
	folder, path := typesFolder, typePath(name)
	if kind == kindStream {
		folder, path = streamsFolder, streamPath(name)
	}
	a, err := c.exchange(ctx, http.MethodGet, path, "", nil)
	if err != nil {
		return definition{}, err
	}
	d, latest, err := definitionOf(folder, a.body)
	if err != nil {
		return d, fmt.Errorf("the answer to GET %s is no %s: %w", path, kind, err)
	}
	d.etag, d.schemas, d.first, d.forced = a.header.Get("ETag"), known.schemas, known.first, known.forced
	if n := len(d.schemas); n == 0 && latest > 0 || n > 0 && d.number(n-1) != latest {
		err = c.readSchemas(ctx, &d)
	}
	return d, err
}

func streamPath(name string) string { return "/v1/streams/" + url.PathEscape(name) }

// exchange is do with If-Match, where etag is not empty, and with the answer's header. A body is sent with the characters
// that its texts have in the files.
func (c *client) exchange(ctx context.Context, method, path, etag string, body any) (*answer, error) {
	if etag != "" {
		conditional := *c
		conditional.header = c.header.Clone()
		conditional.header.Set("If-Match", etag)
		c = &conditional
	}
	var raw []byte
	contentType := ""
	if body != nil {
		var err error
		if raw, err = encode(body); err != nil {
			return nil, err
		}
		contentType = "application/json"
	}
	a, err := c.send(ctx, method, path, contentType, raw)
	if err == nil && a.status/100 != 2 {
		err = c.problemOf(a.status, a.header, a.body)
	}
	return a, err
}

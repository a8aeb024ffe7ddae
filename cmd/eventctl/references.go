package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// reference is a $ref of a schema that leads to a schema of an event type.
type reference struct {
	text    string // as it is written
	typ     string
	version int // 0: it names none by number, so the server takes it for no schema
}

// registry stands for the server in references between schemas, wherever it is reached.
const registry = "https://registry.invalid"

// mapKeywords have schemas by names of the user's own, which are no keywords.
var mapKeywords = []string{"properties", "patternProperties", "$defs", "definitions", "dependentSchemas", "dependencies"} //nolint:gochecknoglobals // a constant table

// references lists where a version of a type's schema leads to. What stays within the document is left out, and what is
// no address of an event type's schema: the server says what it thinks of it.
func references(typ string, version int, schema json.RawMessage) []reference {
	var document any
	base, err := url.Parse(registry + schemaPath(typ, 1)) // as the server reads all versions
	if err != nil || json.Unmarshal(schema, &document) != nil {
		return nil
	}
	var found []reference
	var walk func(v any, base *url.URL, names bool)
	walk = func(v any, base *url.URL, names bool) {
		switch v := v.(type) {
		case []any:
			for _, item := range v {
				walk(item, base, false)
			}
		case map[string]any:
			if id, ok := v["$id"].(string); ok && !names && !strings.HasPrefix(id, "#") {
				if u, err := base.Parse(id); err == nil {
					base = u
				}
			}
			for name, item := range v {
				text, isText := item.(string)
				switch {
				case names:
					walk(item, base, false)
				case (name == "$ref" || name == "$dynamicRef") && isText:
					if r, ok := referenceTo(text, base); ok && (version != 1 || r != reference{text, typ, 1} || strings.Contains(text, "://")) && !slices.Contains(found, r) {
						found = append(found, r)
					}
				case name == "const", name == "enum", name == "default", name == "examples":
				default:
					walk(item, base, slices.Contains(mapKeywords, name))
				}
			}
		}
	}
	walk(document, base, false)
	slices.SortFunc(found, func(a, b reference) int { return strings.Compare(a.text, b.text) })
	return found
}

// referenceTo reads a $ref against the address of where it stands.
func referenceTo(text string, base *url.URL) (reference, bool) {
	if strings.HasPrefix(text, "#") {
		return reference{}, false
	}
	u, err := base.Parse(text)
	if err != nil {
		return reference{}, false
	}
	_, path, ok := strings.Cut(u.EscapedPath(), "/v1/event-types/")
	typ, number, isSchema := strings.Cut(path, "/schemas/")
	typ, err = url.PathUnescape(typ)
	if !ok || !isSchema || err != nil || typ == "" {
		return reference{}, false
	}
	r := reference{text: text, typ: typ}
	if n, err := strconv.Atoi(number); err == nil && n > 0 && strconv.Itoa(n) == number {
		r.version = n
	}
	return r, true
}

// task is a part of a step: its i-th schema, with the members if it is the first; -1: the members alone.
type task struct {
	step        *step
	schema      int
	first, last bool // of the step
}

// plan is what apply does, in that order, and why it must not begin.
type plan struct {
	c          *client
	have, want environment
	byType     map[string]*step
	tasks      []task
	faults     []string

	numbers map[string][]int // of types' files, what their schemas will be in the target
	texts   map[string]json.RawMessage
	visited map[string]bool // a task's key; false while what it needs is visited
}

// planFor orders the steps so that whatever a schema refers to is there before it, and finds out what cannot be done.
func (c *client) planFor(ctx context.Context, have, want environment, steps []*step) (*plan, error) {
	p := &plan{
		c: c, have: have, want: want, byType: map[string]*step{},
		numbers: map[string][]int{}, texts: map[string]json.RawMessage{}, visited: map[string]bool{},
	}
	for _, s := range steps {
		if s.kind == kindStream {
			p.tasks = append(p.tasks, task{s, -1, true, true})
			continue
		}
		p.byType[s.name] = s
		var stream string
		if err := json.Unmarshal(s.to.members["stream"], &stream); err == nil && !have.streamNames[stream] && !has(want.streams, stream) {
			p.faults = append(p.faults, fmt.Sprintf("%s: there is no stream %q, neither on the server nor among the files", s.title(), stream))
		}
	}
	for _, s := range steps {
		if s.kind == kindStream {
			continue
		}
		if len(s.pending) == 0 {
			p.tasks = append(p.tasks, task{s, -1, true, true})
		}
		for n := range s.pending {
			if err := p.visit(ctx, s, n); err != nil {
				return nil, fmt.Errorf("%s: %w", s.title(), err)
			}
		}
	}
	return p, nil
}

// visit adds the n-th pending schema of a step, after all that it needs.
func (p *plan) visit(ctx context.Context, s *step, n int) error {
	key := fmt.Sprint(s.name, " ", n)
	done, begun := p.visited[key]
	if done {
		return nil
	}
	i := s.pending[n]
	if begun {
		p.faults = append(p.faults, fmt.Sprintf("%s: schema %d refers to itself by way of others: no order of registering them has each reference lead to what is there", s.title(), s.to.number(i)))
		return nil
	}
	p.visited[key] = false
	if n > 0 {
		if err := p.visit(ctx, s, n-1); err != nil {
			return err
		}
	}
	for _, r := range references(s.name, s.to.number(i), s.to.schemas[i]) {
		other, needs, err := p.resolve(ctx, s, i, r)
		if err != nil {
			return err
		}
		if other != nil {
			if err := p.visit(ctx, other, needs); err != nil {
				return err
			}
		}
	}
	p.visited[key] = true
	p.tasks = append(p.tasks, task{s, i, n == 0, n == len(s.pending)-1})
	return nil
}

// resolve finds what a reference will lead to in the target: the n-th pending schema of another step, or what is there
// (nil). It is a fault where that is nothing, or another schema than the files mean.
func (p *plan) resolve(ctx context.Context, s *step, i int, r reference) (other *step, n int, err error) {
	fault := func(format string, args ...any) {
		p.faults = append(p.faults, fmt.Sprintf("%s: schema %d refers to %s: %s", s.title(), s.to.number(i), r.text, fmt.Sprintf(format, args...)))
	}
	if r.version == 0 {
		fault("name a version by its number, since what a schema means must not change")
		return nil, 0, nil
	}
	if file, ok := p.want.types[r.typ]; ok {
		numbers, err := p.numbersOf(ctx, r.typ)
		if err != nil {
			return nil, 0, err
		}
		at := r.version - file.number(0)
		if at >= 0 && at < len(file.schemas) {
			if numbers[at] != r.version {
				fault("the server has or gives that schema the number %d, so that it would lead elsewhere; write the reference anew, as another version of the schema", numbers[at])
				return nil, 0, nil
			}
			if other = p.byType[r.typ]; other != nil {
				if n = slices.Index(other.pending, at); n >= 0 {
					return other, n, nil
				}
			}
			return nil, 0, nil
		}
		if slices.Contains(numbers, r.version) {
			fault("the file of %s has no version %d, and the server has or gives that number to another schema of the file", r.typ, r.version)
			return nil, 0, nil
		}
	}
	text, err := p.text(ctx, r.typ, r.version)
	if err == nil && text == nil {
		fault("neither the server nor the files have version %d of %s", r.version, r.typ)
	}
	return nil, 0, err
}

// numbersOf tells which versions the schemas of a type's file are, or will be, in the target.
func (p *plan) numbersOf(ctx context.Context, typ string) ([]int, error) {
	if numbers, ok := p.numbers[typ]; ok {
		return numbers, nil
	}
	file := p.want.types[typ]
	s := p.byType[typ]
	if s == nil { // the target has all of them
		s = &step{from: p.have.types[typ]}
	}
	next := s.from.number(len(s.from.schemas))
	numbers := make([]int, len(file.schemas))
	if len(s.from.schemas) == 0 {
		// A name that was used before goes on with its numbers; a new type may take up the last schema again.
		last, err := p.lastNumber(ctx, typ)
		if err != nil {
			return nil, err
		}
		next = last + 1
		if last > 0 && s.create && len(file.schemas) > 0 && sameJSON(p.texts[schemaPath(typ, last)], file.schemas[0]) {
			next = last
		}
	}
	for i, text := range file.schemas {
		switch at, before := s.from.indexOf(text), file.indexOf(text); {
		case at >= 0:
			numbers[i] = s.from.number(at)
		case before < i:
			numbers[i] = numbers[before]
		default:
			numbers[i] = next
			next++
		}
	}
	p.numbers[typ] = numbers
	return numbers, nil
}

// lastNumber finds the highest version that a name has ever had; versions have no gaps.
func (p *plan) lastNumber(ctx context.Context, typ string) (int, error) {
	low, high := 0, 1 // low is there, or 0; high is not, once the first loop is done
	for {
		text, err := p.text(ctx, typ, high)
		if err != nil {
			return 0, err
		}
		if text == nil {
			break
		}
		low, high = high, 2*high
	}
	for high-low > 1 {
		middle := (low + high) / 2
		text, err := p.text(ctx, typ, middle)
		if err != nil {
			return 0, err
		}
		if text == nil {
			high = middle
		} else {
			low = middle
		}
	}
	return low, nil
}

// text reads a version of a schema, also of a type that is deleted; nil: there is none.
func (p *plan) text(ctx context.Context, typ string, version int) (json.RawMessage, error) {
	path := schemaPath(typ, version)
	if text, ok := p.texts[path]; ok {
		return text, nil
	}
	a, err := p.c.send(ctx, http.MethodGet, path, "", nil)
	switch {
	case err != nil:
		return nil, err
	case a.status == http.StatusOK:
		p.texts[path] = a.body
	case a.status == http.StatusNotFound:
		p.texts[path] = nil
	default:
		return nil, p.c.problemOf(a.status, a.header, a.body)
	}
	return p.texts[path], nil
}

package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
)

type typesDiff struct {
	Dir string `arg:"" help:"Folder as 'eventctl types export' writes it."`
}

// Help is shown by kong.
func (d *typesDiff) Help() string {
	return `Exits with 0 if the server has all that the files say, else with 5.

A file is the whole definition: a member that the server has and the file lacks is shown as "- member: was …", and apply removes it. Left alone are members that every definition has (of a type owner, audience, keyAttribute, compatibility, dedupe; of a stream all but the description and the state; of a state all), schemas, which never go, and definitions that have no file.
`
}

// Run is called by kong.
func (d *typesDiff) Run(ctx context.Context, c *client, o *console) error {
	_, _, steps, err := c.differences(ctx, d.Dir, o)
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

type typesApply struct {
	Dir    string `arg:"" help:"Folder as 'eventctl types export' writes it."`
	DryRun bool   `help:"Tell what would be done, and what is known of whether it can be, but do nothing. Exits with 5 if it cannot."`
}

// Help is shown by kong.
func (a *typesApply) Help() string {
	return `From one environment to the next:

  eventctl --server https://test.example types export definitions
  eventctl --server https://prod.example types apply definitions --dry-run
  eventctl --server https://prod.example types apply definitions

A file is the whole definition: apply removes the members that it lacks, as 'eventctl types diff' shows them. Streams, types and schemas are never deleted.

A type is made together with its first schema, and after the types that its schemas refer to. Nothing is written where a schema is known not to fit, or a reference would lead nowhere or to another schema than in the files. A new type's older schemas that are incompatible with each other are registered under compatibility none, and the type's own is set last; a type that is there already is never loosened.

A definition that somebody else changes meanwhile is not overwritten. Whatever stops apply, it says what was done and what was not; it can be called again.
`
}

// Run is called by kong.
func (a *typesApply) Run(ctx context.Context, c *client, o *console) error {
	have, want, steps, err := c.differences(ctx, a.Dir, o)
	if err != nil {
		return err
	}
	if steps, err = c.pin(ctx, steps); err != nil {
		return err
	}
	p, err := c.planFor(ctx, have, want, steps)
	if err != nil {
		return err
	}
	unfit := len(p.faults)
	for _, s := range steps {
		told, fits, err := p.check(ctx, s)
		if err != nil {
			return fmt.Errorf("%s: %w", s.title(), err)
		}
		if !fits {
			unfit++
		}
		text := s.String()
		if told != "" && (a.DryRun || !fits) {
			text += "\n    " + strings.ReplaceAll(told, "\n", "\n    ")
		}
		if _, err := fmt.Fprintln(o.out, text); err != nil {
			return err
		}
	}
	for _, fault := range p.faults {
		if _, err := fmt.Fprintln(o.out, "! "+fault); err != nil {
			return err
		}
	}
	switch {
	case unfit > 0 && a.DryRun:
		return errDiffers
	case unfit > 0:
		return &refusedError{"nothing was written: what is told above cannot be done"}
	case a.DryRun:
		o.note("%d definitions would be changed", len(steps))
		return nil
	}
	if err := p.apply(ctx, o); err != nil {
		return err
	}
	o.note("%d definitions were changed", len(steps))
	return nil
}

// standing is how far a step has come.
type standing struct {
	now      definition // what the server has, with its ETag; the schemas are not kept
	done     []int      // the numbers of schemas registered, as in the file
	begun    bool
	loosened bool // its mode is to be set with the last change
	finished bool
}

// apply does all tasks in their order. Where one fails it tells what was done and what was not.
func (p *plan) apply(ctx context.Context, o *console) error {
	state := map[*step]*standing{}
	for _, t := range p.tasks {
		if state[t.step] == nil {
			state[t.step] = &standing{now: t.step.from}
		}
		at := state[t.step]
		if err := p.do(ctx, t, at, o); err != nil {
			p.tellStanding(state, o)
			where := t.step.title()
			if t.schema >= 0 {
				where += fmt.Sprintf(": schema %d", t.step.to.number(t.schema))
			}
			return fmt.Errorf("%s: %w", where, explain(err))
		}
		at.finished = t.last
	}
	return nil
}

// explain says what the refusal of a change means that was to be made of what the plan saw.
func explain(err error) error {
	var no *problem
	if errors.As(err, &no) && no.Status == http.StatusPreconditionFailed {
		return fmt.Errorf("somebody else has changed it since it was compared with its file, and that is left as it is: call 'eventctl types diff', then decide: %w", err)
	}
	return err
}

// parts says how far a step has come that was not finished.
func (at *standing) parts(s *step) []string {
	var parts []string
	switch {
	case s.create:
		parts = append(parts, "it is made")
	case len(s.changes) > 0:
		parts = append(parts, "its members are changed")
	}
	for _, i := range s.pending {
		is := "not registered"
		if slices.Contains(at.done, s.to.number(i)) {
			is = "registered"
		}
		parts = append(parts, fmt.Sprintf("schema %d %s", s.to.number(i), is))
	}
	full := whole(kindType, s.from.members, s.to.members)
	if at.loosened || modeOf(at.now.members) == modeNone && modeOf(full) != modeNone {
		parts = append(parts, "compatibility none until it is done")
	}
	if says(kindType, "examples", full) && !says(kindType, "examples", at.now.members) {
		parts = append(parts, "without examples until it is done")
	}
	return parts
}

func (p *plan) tellStanding(state map[*step]*standing, o *console) {
	var done, partly, not []string
	told := map[*step]bool{}
	for _, t := range p.tasks {
		if told[t.step] {
			continue
		}
		told[t.step] = true
		switch at := cmp.Or(state[t.step], &standing{}); {
		case at.finished:
			done = append(done, t.step.title())
		case at.begun:
			partly = append(partly, t.step.title()+" ("+strings.Join(at.parts(t.step), ", ")+")")
		default:
			not = append(not, t.step.title())
		}
	}
	for _, part := range []struct {
		is   string
		what []string
	}{{"done", done}, {"done in part", partly}, {"not done", not}} {
		if len(part.what) > 0 {
			_, _ = fmt.Fprintf(o.err, "eventctl: %s: %s\n", part.is, strings.Join(part.what, ", "))
		}
	}
}

func (p *plan) do(ctx context.Context, t task, at *standing, o *console) error {
	if t.step.kind == kindStream {
		return p.doStream(ctx, t.step)
	}
	full := whole(kindType, t.step.from.members, t.step.to.members)
	if t.schema < 0 {
		return p.put(ctx, t.step, at, full, nil)
	}
	// The examples come with the last schema: they need not fit those before it.
	body := maps.Clone(full)
	if !t.last {
		delete(body, "examples")
	}
	if at.loosened {
		body["compatibility"] = json.RawMessage(`"` + modeNone + `"`)
	}
	err := p.register(ctx, t, at, body)
	var no *problem
	if errors.As(err, &no) && no.Verdict != "" && !at.loosened && (t.step.create || modeOf(t.step.from.members) == modeNone) {
		_, err = fmt.Fprintf(o.out, "  %s: schema %d is %s with those before it (%s), as in the files: it is registered under none\n",
			t.step.title(), t.step.to.number(t.schema), no.Verdict, no.Mode)
		if err != nil {
			return err
		}
		at.loosened = true
		body["compatibility"] = json.RawMessage(`"` + modeNone + `"`)
		err = p.put(ctx, t.step, at, body, t.step.to.schemas[t.schema])
	}
	if err != nil {
		return err
	}
	at.done = append(at.done, t.step.to.number(t.schema))
	if t.last && (at.loosened || len(changes(kindType, at.now.members, full)) > 0) {
		return p.put(ctx, t.step, at, full, nil)
	}
	return nil
}

// register adds a schema: with the members in one request, unless it has to be forced, which has a request of its own.
func (p *plan) register(ctx context.Context, t task, at *standing, body map[string]json.RawMessage) error {
	if !t.step.forced(t.schema) || t.first && t.step.create {
		return p.put(ctx, t.step, at, body, t.step.to.schemas[t.schema])
	}
	delete(body, "examples")
	if len(changes(kindType, at.now.members, body)) > 0 {
		if err := p.put(ctx, t.step, at, body, nil); err != nil {
			return err
		}
	}
	if _, err := p.c.exchange(ctx, http.MethodPost, typePath(t.step.name)+"/schemas?force=true", at.now.etag, t.step.to.schemas[t.schema]); err != nil {
		return err
	}
	// Registering tells no ETag of the type.
	at.begun = true
	was := at.now.members
	now, err := p.c.current(ctx, kindType, t.step.name, definition{})
	if err != nil {
		return err
	}
	if len(changes(kindType, was, now.members)) > 0 || now.indexOf(t.step.to.schemas[t.schema]) != len(now.schemas)-1 {
		return fmt.Errorf("the schema was registered, and somebody else has changed the type just after: call 'eventctl types diff', then decide")
	}
	at.now = now
	return nil
}

// put makes or replaces a type, with one more schema where text is not nil.
func (p *plan) put(ctx context.Context, s *step, at *standing, members map[string]json.RawMessage, text json.RawMessage) error {
	body := maps.Clone(members)
	if text != nil {
		body["schema"] = text
	}
	method, path := http.MethodPut, typePath(s.name)
	if s.create && !at.begun {
		method, path = http.MethodPost, "/v1/event-types" // which refuses where somebody has made it meanwhile
	}
	a, err := p.c.exchange(ctx, method, path, at.now.etag, body)
	if err != nil {
		return err
	}
	at.begun = true
	if at.now, _, err = definitionOf(typesFolder, a.body); err != nil {
		return fmt.Errorf("the answer to %s %s is no event type: %w", method, path, err)
	}
	at.now.etag = a.header.Get("ETag")
	return nil
}

func (p *plan) doStream(ctx context.Context, s *step) error {
	if s.create {
		_, err := p.c.exchange(ctx, http.MethodPost, "/v1/streams", "", s.to.members)
		return err
	}
	// What cannot be changed is not asked for where it is the same; where it is not, the server says so.
	patch := map[string]json.RawMessage{}
	for name, value := range s.to.members {
		if says(s.kind, name, s.to.members) && !sameMember(name, s.from.members[name], value) {
			patch[name] = value
			if name == memberState {
				patch[name] = statePatch(value)
			}
		}
	}
	for name := range s.from.members {
		if says(s.kind, name, s.from.members) && !says(s.kind, name, s.to.members) && !slices.Contains(defaulted[s.kind], name) {
			patch[name] = json.RawMessage("null")
		}
	}
	_, err := p.c.exchange(ctx, http.MethodPatch, streamPath(s.name), s.from.etag, patch)
	return err
}

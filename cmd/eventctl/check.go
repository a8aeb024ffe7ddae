package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
)

// check finds out whether the server would take a step, writes nothing, and says of what that cannot be known.
func (p *plan) check(ctx context.Context, s *step) (told string, fits bool, err error) {
	if s.kind == kindStream {
		told, fits = s.checkStream()
		return told, fits, nil
	}
	if len(s.pending) == 0 {
		return "", true, nil
	}
	if s.create {
		told = "whether its schema is valid is not known before the type is there"
		if len(s.pending) > 1 {
			told = "whether its schemas are valid, and which are compatible, is not known before the type is there"
		}
		return told, true, nil
	}
	told, fits, err = p.checkSchema(ctx, s, s.pending[0])
	if len(s.pending) > 1 {
		told += fmt.Sprintf("\nof the schemas after %d it is not known before that one is there", s.to.number(s.pending[0]))
	}
	return strings.TrimPrefix(told, "\n"), fits, err
}

// checkStream knows what no stream can change.
func (s *step) checkStream() (told string, fits bool) {
	if s.create {
		return "", true
	}
	var all []string
	fits = true
	for _, name := range []string{"topic", "compaction", "format", "wrap", "partitions"} {
		switch {
		case !says(s.kind, name, s.to.members) || sameMember(name, s.from.members[name], s.to.members[name]):
		case name == "partitions":
			all = append(all, "whether its partitions can be others is not known: they only grow, and not while types with keys go to the stream")
		default:
			all = append(all, fmt.Sprintf("a stream's %s cannot be changed: make another stream", name))
			fits = false
		}
	}
	return strings.Join(all, "\n"), fits
}

// checkSchema asks whether a schema of a type that is there would be taken.
func (p *plan) checkSchema(ctx context.Context, s *step, i int) (told string, fits bool, err error) {
	for _, r := range references(s.name, s.to.number(i), s.to.schemas[i]) {
		other := p.byType[r.typ]
		if other != nil && slices.ContainsFunc(other.pending, func(at int) bool { return other.to.number(at) == r.version }) {
			return fmt.Sprintf("of schema %d it is not known before %s is there", s.to.number(i), r.text), true, nil
		}
	}
	a, err := p.c.exchange(ctx, http.MethodPost, typePath(s.name)+"/schemas:check", "", s.to.schemas[i])
	var no *problem
	switch {
	case errors.As(err, &no) && no.final():
		return fmt.Sprintf("schema %d: %v", s.to.number(i), no), false, nil
	case err != nil:
		return "", false, err
	}
	var v verdict
	if err := json.Unmarshal(a.body, &v); err != nil {
		return "", false, fmt.Errorf("the answer is no verdict: %w", err)
	}
	told = v.String()
	full := whole(kindType, s.from.members, s.to.members)
	switch ruled := sameJSON(full["compatibility"], s.from.members["compatibility"]) &&
		says(kindType, "allowOpenProperties", full) == says(kindType, "allowOpenProperties", s.from.members); {
	case v.Compatible, v.Verdict == "undecided" && s.forced(i):
		return told, true, nil
	case ruled:
		return told, false, nil
	case modeOf(full) == modeNone:
		return "", true, nil
	}
	return told + "\nwhat it is under the rules that the file sets is not known before they are", true, nil
}

func (s *step) forced(i int) bool { return slices.Contains(s.to.forced, s.to.number(i)) }

const modeNone = "none"

func modeOf(members map[string]json.RawMessage) string {
	var mode string
	_ = json.Unmarshal(members["compatibility"], &mode) // what is no text is no mode
	return mode
}

package schema

import (
	"slices"
	"strconv"
)

// difference is what a proof failed of.
type difference struct {
	rule    string
	keyword string
	from    *node // nil: the first of the case
	to      *node
	message string // {from} and {to} stand for the two schemas
}

// failure is a difference at a place, with the cases that it is about.
type failure struct {
	difference
	frame   *frame
	at      []conjunction
	witness *value
}

// maxFailureCases bounds the cases that are kept of one failure.
const maxFailureCases = 6

func (f *failure) like(g *failure) bool {
	return f.rule == g.rule && f.from == g.from && f.to == g.to && f.frame.path() == g.frame.path()
}

// frame is a step into the data: into a property or an item of the values of a case.
type frame struct {
	parent *frame
	of     conjunction
	class  class
	index  int // of an item; -1 for a property
	name   bool
}

func (f *frame) path() string {
	if f == nil {
		return ""
	}
	token := strconv.Itoa(f.index)
	if f.index < 0 {
		token = "*"
		if f.class.explicit {
			token = f.class.name
		}
	}
	return f.parent.path() + "/" + escapePointer(token)
}

func (p *prover) fail(d difference, at conjunction, f *frame) bool {
	if d.from == nil && len(at.nodes) > 0 {
		d.from = at.nodes[0]
		for _, n := range at.nodes {
			if d.keyword != "" && p.from.textOf(n, d.keyword) != "" {
				d.from = n
				break
			}
		}
	}
	p.note(&failure{difference: d, at: []conjunction{at}, frame: f})
	return false
}

// note keeps failures, once each.
func (p *prover) note(failures ...*failure) {
	for _, f := range failures {
		if i := slices.IndexFunc(p.failures, f.like); i >= 0 {
			g := p.failures[i]
			if len(g.at) < maxFailureCases && f != g {
				g.at = append(g.at, f.at...)
			}
		} else if len(p.failures) < maxFailures {
			p.failures = append(p.failures, f)
		}
	}
}

// attempt proves on trial: failures are returned instead of noted.
func (p *prover) attempt(proof func() bool) (bool, []*failure) {
	before := p.failures
	p.failures = nil
	ok := proof()
	failures := p.failures
	p.failures = before
	return ok, failures
}

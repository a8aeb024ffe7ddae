package schema

import (
	"slices"
	"strings"
)

// class is a set of property names: one name, or all those that no schema lists and that match exactly some patterns.
type class struct {
	name     string
	explicit bool
	patterns []string
}

func (k class) matches(p *pattern) bool {
	if k.explicit {
		return p.re.MatchString(k.name)
	}
	return slices.Contains(k.patterns, p.source)
}

// applied are the schemas that a schema by its own keywords applies to the properties of a class.
func (n *node) applied(k class) []*node {
	var out []*node
	seen := false
	if k.explicit {
		if child := n.property(k.name); child != nil {
			out, seen = append(out, child), true
		}
	}
	for _, pp := range n.patterns {
		if k.matches(pp.pattern) {
			out, seen = append(out, pp.node), true
		}
	}
	if !seen && n.additional != nil {
		out = append(out, n.additional)
	}
	return out
}

// evaluates is whether a schema evaluates the properties of a class: for sure, or possibly.
func (n *node) evaluates(k class, possibly bool) bool {
	return slices.ContainsFunc(n.reach(possibly), func(m *node) bool {
		return len(m.applied(k)) > 0 || m.unevaluatedProperties != nil
	})
}

// reach is a schema with all those applied in place whose evaluations count.
func (n *node) reach(possibly bool) []*node {
	out, seen := []*node{n}, map[*node]bool{n: true}
	for i := 0; i < len(out); i++ {
		for _, m := range out[i].evaluators(possibly) {
			if !seen[m] {
				seen[m] = true
				out = append(out, m)
			}
		}
	}
	return out
}

// evaluators are the schemas applied in place whose evaluations count: always, or possibly.
func (n *node) evaluators(possibly bool) []*node {
	out := slices.Clone(n.all)
	if n.ref != nil {
		out = append(out, n.ref)
	}
	if possibly {
		out = append(append(out, n.any...), n.one...)
		for _, m := range []*node{n.ifs, n.then, n.elses, n.dynamic} {
			if m != nil {
				out = append(out, m)
			}
		}
		for _, d := range n.needs {
			if d.node != nil {
				out = append(out, d.node)
			}
		}
	}
	return out
}

// appliedProperties also counts unevaluatedProperties, where its reach is certain in the way asked for: as an
// assumption it applies where nothing possibly evaluates, as an obligation wherever nothing surely does.
func (n *node) appliedProperties(k class, assumption bool) []*node {
	out := n.applied(k)
	if n.unevaluatedProperties == nil || len(out) > 0 {
		return out
	}
	if !slices.ContainsFunc(n.evaluators(assumption), func(m *node) bool { return m.evaluates(k, assumption) }) {
		out = append(out, n.unevaluatedProperties)
	}
	return out
}

// child is what a case says of the properties of a class.
func (p *prover) child(c *conjunction, k class) conjunction {
	out := conjunction{kinds: kindAll}
	for _, n := range c.nodes {
		for _, child := range n.appliedProperties(k, true) {
			if !slices.Contains(out.nodes, child) {
				out.nodes = append(out.nodes, child)
			}
		}
	}
	return out
}

// itemOf is the schema that a schema by its own keywords applies to an item.
func (n *node) itemOf(i int) *node {
	if i < len(n.prefix) {
		return n.prefix[i]
	}
	return n.items
}

func (n *node) evaluatesItem(i int, possibly bool) bool {
	return slices.ContainsFunc(n.reach(possibly), func(m *node) bool {
		return m.itemOf(i) != nil || m.unevaluatedItems != nil || (possibly && m.contains != nil)
	})
}

func (n *node) appliedItem(i int, assumption bool) *node {
	if child := n.itemOf(i); child != nil || n.unevaluatedItems == nil {
		return child
	}
	if assumption && n.contains != nil {
		return nil
	}
	if slices.ContainsFunc(n.evaluators(assumption), func(m *node) bool { return m.evaluatesItem(i, assumption) }) {
		return nil
	}
	return n.unevaluatedItems
}

// item is what a case says of an item.
func (p *prover) item(c *conjunction, i int) conjunction {
	out := conjunction{kinds: kindAll}
	for _, n := range c.nodes {
		if child := n.appliedItem(i, true); child != nil && !slices.Contains(out.nodes, child) {
			out.nodes = append(out.nodes, child)
		}
	}
	return out
}

// sortedNames are the names that some schemas list as properties.
func sortedNames(nodes ...*node) []string {
	var names []string
	for _, n := range nodes {
		for _, p := range n.properties {
			names = append(names, p.name)
		}
	}
	slices.SortFunc(names, strings.Compare)
	return slices.Compact(names)
}

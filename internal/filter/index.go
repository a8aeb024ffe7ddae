package filter

import "slices"

// maxEqualities bounds what an index has to hold for one filter; one with more is evaluated for every event instead.
const maxEqualities = 1000

// equalities maps attributes to values: an event can match only if, for each of the attributes, it has one of the
// values.
type equalities map[string][]string

func equalitiesIn(n node) equalities {
	switch n := n.(type) {
	case exact:
		return equalities{n.name: {n.value}}
	case oneOf:
		return equalities{n.name: n.values}
	case all:
		out := equalities{}
		for _, part := range n {
			for name, values := range equalitiesIn(part) {
				if have, ok := out[name]; !ok || len(values) < len(have) {
					out[name] = values
				}
			}
		}
		return out
	case anyone:
		if len(n) == 0 {
			return nil
		}
		out := equalitiesIn(n[0])
		for _, part := range n[1:] {
			more := equalitiesIn(part)
			for name, values := range out {
				also, ok := more[name]
				if !ok || len(values)+len(also) > maxEqualities {
					delete(out, name)
					continue
				}
				out[name] = append(slices.Clone(values), also...)
			}
		}
		return out
	}
	return nil
}

// equalitiesOf picks the most selective attribute of those that an index can find the filter by.
func equalitiesOf(n node) []Equality {
	best := ""
	found := equalitiesIn(n)
	for name, values := range found {
		if len(values) > maxEqualities {
			continue
		}
		if best == "" || selectivity(name) > selectivity(best) ||
			selectivity(name) == selectivity(best) && (len(values) < len(found[best]) || len(values) == len(found[best]) && name < best) {
			best = name
		}
	}
	if best == "" {
		return nil
	}
	values := slices.Clone(found[best])
	slices.Sort(values)
	values = slices.Compact(values)
	out := make([]Equality, len(values))
	for i, v := range values {
		out[i] = Equality{best, v}
	}
	return out
}

// selectivity ranks attributes by how few events usually share a value. Nothing but speed depends on it.
func selectivity(name string) int {
	switch name {
	case "id":
		return 5
	case "subject":
		return 4
	case "source", "type":
		return 1
	case "specversion", "datacontenttype", "dataschema":
		return 0
	case "resource":
		return 3
	}
	return 2 // extension attributes, and time
}

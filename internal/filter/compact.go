package filter

import (
	"unique"

	"github.com/eventissuer/eventissuer/internal/event"
)

// compact gives a whole filter the form that takes the least memory. Only what holds whole filters sees such nodes.
func compact(n node) node {
	parts, ok := n.(all)
	if !ok {
		return share(n)
	}
	for i, part := range parts {
		parts[i] = share(part)
	}
	if len(parts) == 2 {
		return &both{parts[0], parts[1]}
	}
	return parts
}

// both is all of two parts, as most filters have.
type both struct{ first, second node }

func (n *both) match(e *event.Event) bool { return n.first.match(e) && n.second.match(e) }

func (n *both) appendKey(dst []byte) []byte { return appendKeys(dst, "all", []node{n.first, n.second}) }

func (n *both) cost() int { return 1 + n.first.cost() + n.second.cost() }

// shared is an exact that many filters have in common, held once for all of them.
type shared struct{ unique.Handle[exact] }

// share makes one of the equalities that many filters have in common.
func share(n node) node {
	if n, ok := n.(exact); ok && (n.name == "type" || n.name == "source") {
		return shared{unique.Make(n)}
	}
	return n
}

func (n shared) match(e *event.Event) bool { return n.Value().match(e) }

func (n shared) appendKey(dst []byte) []byte { return n.Value().appendKey(dst) }

func (shared) cost() int { return 0 }

package filter

import (
	"hash/maphash"
	"runtime/debug"
	"slices"

	"github.com/eventissuer/eventissuer/internal/event"
)

// Index finds, among many filters, those that match an event, at a cost in proportion to the matches and not to the
// filters. It files each under conditions that an event has to meet: that an attribute equals, begins with or ends in a
// text. A filter that has no such is evaluated for every event.
//
// The zero Index is empty and ready for use. Match may be called concurrently with itself, and with Len, but not with Add
// or Remove.
type Index[T comparable] struct {
	// Panicked is told of a filter that failed by a mistake of ours. It is then taken for a match, for what it would have
	// said is not known, and nothing may be lost. Where it is nil the panic goes on.
	Panicked func(value any, stack []byte)

	count      int
	seed       maphash.Seed // of the hashes of keys and whole values
	everything []T          // those with a nil filter
	entries    map[uint64]*entry[T]
	attributes []attribute[T]
	scanned    []*entry[T]
}

// entry is a filter and what it was added with.
type entry[T comparable] struct {
	filter *Filter
	next   *entry[T] // whose key has the same hash
	first  T
	more   *more[T]
	choice uint16 // which of the filter's candidates it is filed by: no more than two of each part
}

// more is what few entries have.
type more[T comparable] struct {
	values  []T     // beside the first
	anchors anchors // where an event can hold more than one of those that the entry is filed by
}

// Add adds v, which Match returns for what f matches from now on. A nil filter matches everything. Equal filters, that is
// with equal keys, are evaluated once for all their values. A v is to be in the index once.
func (x *Index[T]) Add(f *Filter, v T) {
	x.count++
	if f == nil {
		x.everything = append(x.everything, v)
		return
	}
	if x.entries == nil {
		x.entries, x.seed = map[uint64]*entry[T]{}, maphash.MakeSeed()
	}
	e, hash := x.find(f)
	if e != nil {
		if e.more == nil {
			e.more = &more[T]{}
		}
		e.more.values = append(e.more.values, v)
		return
	}
	e = &entry[T]{filter: f, next: x.entries[hash], first: v}
	x.entries[hash] = e
	x.file(e)
}

// Remove takes out v, which was added with f or an equal filter. It does nothing where that is not so.
func (x *Index[T]) Remove(f *Filter, v T) {
	if f == nil {
		x.everything = x.without(x.everything, v)
		return
	}
	e, hash := x.find(f)
	switch {
	case e == nil:
	case e.first != v:
		if e.more != nil {
			e.more.values = x.without(e.more.values, v)
		}
	case e.more != nil && len(e.more.values) > 0:
		last := len(e.more.values) - 1
		e.first = e.more.values[last]
		e.more.values = x.without(e.more.values, e.first)
	default:
		x.count--
		x.unfile(e)
		x.unlink(e, hash)
	}
}

// without takes one out of values, and counts it.
func (x *Index[T]) without(values []T, v T) []T {
	rest := remove(values, v)
	x.count -= len(values) - len(rest)
	return rest
}

// Len tells how many values there are.
func (x *Index[T]) Len() int { return x.count }

// Match appends to dst, in no order, each v whose filter matches e.
func (x *Index[T]) Match(dst []T, e *event.Event) []T {
	dst = append(dst, x.everything...)
	for i := range x.attributes {
		a := &x.attributes[i]
		if v, ok := e.Attribute(a.name); ok {
			dst = x.matchAttribute(dst, e, a, v.String())
		}
	}
	for _, entry := range x.scanned {
		if x.matches(entry.filter, e) {
			dst = entry.appendTo(dst)
		}
	}
	return dst
}

func (x *Index[T]) matches(f *Filter, e *event.Event) (matched bool) {
	if x.Panicked != nil {
		defer func() {
			if p := recover(); p != nil {
				x.Panicked(p, debug.Stack())
				matched = true
			}
		}()
	}
	return f.Match(e)
}

func (e *entry[T]) appendTo(dst []T) []T {
	dst = append(dst, e.first)
	if e.more != nil {
		dst = append(dst, e.more.values...)
	}
	return dst
}

// find returns the entry with the filter's key, nil if there is none, and the key's hash.
func (x *Index[T]) find(f *Filter) (*entry[T], uint64) {
	if x.entries == nil {
		return nil, 0
	}
	var text, other [256]byte
	key := f.appendKey(text[:0])
	hash := maphash.Bytes(x.seed, key)
	e := x.entries[hash]
	for e != nil && e.filter != f && string(e.filter.appendKey(other[:0])) != string(key) {
		e = e.next
	}
	return e, hash
}

// unlink takes an entry out of those with its hash.
func (x *Index[T]) unlink(e *entry[T], hash uint64) {
	head := x.entries[hash]
	if head != e {
		for head.next != e {
			head = head.next
		}
		head.next = e.next
		return
	}
	if e.next == nil {
		delete(x.entries, hash)
		return
	}
	x.entries[hash] = e.next
}

// remove takes one out of a list, whose order does not matter.
func remove[E comparable](list []E, one E) []E {
	i := slices.Index(list, one)
	if i < 0 {
		return list
	}
	last := len(list) - 1
	list[i] = list[last]
	clear(list[last:])
	return list[:last]
}

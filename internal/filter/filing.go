package filter

import (
	"hash/maphash"
	"math"
	"slices"

	"github.com/eventissuer/eventissuer/internal/event"
)

// attribute holds the entries that are filed by one attribute. They are found by hashes of the texts alone: an entry that
// is found is evaluated in any case.
type attribute[T comparable] struct {
	name   string
	equal  slots[T]
	begins affixes[T]
	ends   affixes[T]
}

func (a *attribute[T]) empty() bool {
	return len(a.equal) == 0 && len(a.begins.slots) == 0 && len(a.ends.slots) == 0
}

// slots hold entries by the hash of a text.
type slots[T comparable] map[uint64]slot[T]

// slot is mostly of one entry.
type slot[T comparable] struct {
	one  *entry[T]
	more *[]*entry[T]
}

func (s slot[T]) len() int {
	switch {
	case s.one == nil:
		return 0
	case s.more == nil:
		return 1
	}
	return 1 + len(*s.more)
}

// last is what was added last.
func (s slot[T]) last() *entry[T] {
	if s.more == nil {
		return s.one
	}
	return (*s.more)[len(*s.more)-1]
}

func (s slots[T]) add(hash uint64, e *entry[T]) {
	have := s[hash]
	switch {
	case have.one == nil:
		s[hash] = slot[T]{one: e}
	case have.last() == e: // by another of its anchors
	case have.more == nil:
		s[hash] = slot[T]{one: have.one, more: &[]*entry[T]{e}}
	default:
		*have.more = append(*have.more, e)
	}
}

func (s slots[T]) remove(hash uint64, e *entry[T]) {
	have := s[hash]
	switch {
	case have.one == e && have.more == nil:
		delete(s, hash)
		return
	case have.more == nil:
		return
	case have.one == e:
		have.one = (*have.more)[0]
		e = have.one
	}
	if *have.more = remove(*have.more, e); len(*have.more) == 0 {
		have.more = nil
	}
	s[hash] = have
}

// affixes hold entries by what a value begins with or ends in. To look a value up takes time in proportion to its length.
type affixes[T comparable] struct {
	lengths []filedLength // by bytes
	slots   slots[T]
}

// filedLength is the length of so many anchors.
type filedLength struct{ bytes, anchors int }

// affixHash is that of a text by FNV-1a, which can be taken of each beginning of a value on the way to the next. Texts
// that share a hash are only evaluated in vain.
type affixHash uint64

const newAffixHash affixHash = 0xcbf29ce484222325

func (h affixHash) with(b byte) affixHash { return (h ^ affixHash(b)) * 0x100000001b3 }

// hashAffix hashes the text from its beginning, or from its end.
func hashAffix(text string, kind anchorKind) uint64 {
	h := newAffixHash
	for i := range len(text) {
		if kind == ends {
			i = len(text) - 1 - i
		}
		h = h.with(text[i])
	}
	return uint64(h)
}

func (f *affixes[T]) add(text string, hash uint64, e *entry[T]) {
	if f.slots == nil {
		f.slots = slots[T]{}
	}
	f.slots.add(hash, e)
	i, ok := f.length(text)
	if !ok {
		f.lengths = slices.Insert(f.lengths, i, filedLength{bytes: len(text)})
	}
	f.lengths[i].anchors++
}

func (f *affixes[T]) remove(text string, hash uint64, e *entry[T]) {
	f.slots.remove(hash, e)
	if i, ok := f.length(text); ok {
		if f.lengths[i].anchors--; f.lengths[i].anchors == 0 {
			f.lengths = slices.Delete(f.lengths, i, i+1)
		}
	}
}

func (f *affixes[T]) length(text string) (int, bool) {
	return slices.BinarySearchFunc(f.lengths, len(text), func(l filedLength, n int) int { return l.bytes - n })
}

// file puts an entry where Match finds it: under the candidate that the fewest events hold, as far as is known. What many
// filters ask for is taken for something that many events have.
func (x *Index[T]) file(e *entry[T]) {
	candidates := candidatesOf(e.filter.root)
	if len(candidates) == 0 {
		x.scanned = append(x.scanned, e)
		return
	}
	lightest := math.MaxInt
	for i, set := range candidates {
		weight := 0
		for _, a := range set {
			weight = max(weight, a.weight()*(1+x.slot(a).len()))
		}
		if weight < lightest {
			lightest, e.choice = weight, uint16(i)
		}
	}
	set := candidates[e.choice]
	for _, a := range set {
		at := x.attribute(a.name)
		hash := x.hash(a)
		switch a.kind {
		case begins:
			at.begins.add(a.text, hash, e)
		case ends:
			at.ends.add(a.text, hash, e)
		case equals:
			if at.equal == nil {
				at.equal = slots[T]{}
			}
			at.equal.add(hash, e)
		}
	}
	if plural(set) {
		e.more = &more[T]{anchors: set}
	}
}

// plural tells whether one event can hold several of the anchors.
func plural(set anchors) bool {
	return len(set) > 1 && slices.ContainsFunc(set, func(a anchor) bool { return a.kind != equals || a.name != set[0].name })
}

// unfile takes an entry out of where it was filed.
func (x *Index[T]) unfile(e *entry[T]) {
	candidates := candidatesOf(e.filter.root)
	if len(candidates) == 0 {
		x.scanned = remove(x.scanned, e)
		return
	}
	for _, a := range candidates[e.choice] {
		at := x.attribute(a.name)
		hash := x.hash(a)
		switch a.kind {
		case begins:
			at.begins.remove(a.text, hash, e)
		case ends:
			at.ends.remove(a.text, hash, e)
		case equals:
			at.equal.remove(hash, e)
		}
	}
	x.attributes = slices.DeleteFunc(x.attributes, func(a attribute[T]) bool { return a.empty() })
}

// attribute finds or makes what is filed by the attribute. It is valid until the next call.
func (x *Index[T]) attribute(name string) *attribute[T] {
	i := slices.IndexFunc(x.attributes, func(a attribute[T]) bool { return a.name == name })
	if i < 0 {
		i = len(x.attributes)
		x.attributes = append(x.attributes, attribute[T]{name: name})
	}
	return &x.attributes[i]
}

func (x *Index[T]) hash(a anchor) uint64 {
	if a.kind == equals {
		return maphash.String(x.seed, a.text)
	}
	return hashAffix(a.text, a.kind)
}

func (x *Index[T]) slot(a anchor) slot[T] {
	i := slices.IndexFunc(x.attributes, func(at attribute[T]) bool { return at.name == a.name })
	if i < 0 {
		return slot[T]{}
	}
	at := &x.attributes[i]
	switch a.kind {
	case begins:
		return at.begins.slots[x.hash(a)]
	case ends:
		return at.ends.slots[x.hash(a)]
	}
	return at.equal[x.hash(a)]
}

func (x *Index[T]) matchAttribute(dst []T, e *event.Event, a *attribute[T], value string) []T {
	if len(a.equal) > 0 && len(value) <= maxLength {
		dst = x.matchSlot(dst, e, a.equal[maphash.String(x.seed, value)], anchor{a.name, value, equals})
	}
	h, at := newAffixHash, 0
	for _, l := range a.begins.lengths {
		if l.bytes > len(value) {
			break
		}
		for ; at < l.bytes; at++ {
			h = h.with(value[at])
		}
		dst = x.matchSlot(dst, e, a.begins.slots[uint64(h)], anchor{a.name, value[:at], begins})
	}
	h, at = newAffixHash, len(value)
	for _, l := range a.ends.lengths {
		if l.bytes > len(value) {
			break
		}
		for ; at > len(value)-l.bytes; at-- {
			h = h.with(value[at-1])
		}
		dst = x.matchSlot(dst, e, a.ends.slots[uint64(h)], anchor{a.name, value[at:], ends})
	}
	return dst
}

// matchSlot appends what matches of those that are filed by an anchor that the event holds.
func (x *Index[T]) matchSlot(dst []T, e *event.Event, s slot[T], by anchor) []T {
	if s.one == nil {
		return dst
	}
	dst = x.matchEntry(dst, e, s.one, by)
	if s.more != nil {
		for _, entry := range *s.more {
			dst = x.matchEntry(dst, e, entry, by)
		}
	}
	return dst
}

func (x *Index[T]) matchEntry(dst []T, e *event.Event, entry *entry[T], by anchor) []T {
	if entry.more != nil && len(entry.more.anchors) > 0 {
		// It is found by each that the event holds, and counts by the first.
		i := slices.IndexFunc(entry.more.anchors, func(a anchor) bool { return a.holds(e) })
		if i < 0 || entry.more.anchors[i] != by {
			return dst
		}
	}
	if x.matches(entry.filter, e) {
		dst = entry.appendTo(dst)
	}
	return dst
}

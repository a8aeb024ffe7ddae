package catalog

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/maphash"
	"maps"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/google/uuid"

	"github.com/eventissuer/eventissuer/internal/table"
)

// object is a version of a definition, as it is in the table. It is immutable.
type object[T any] struct {
	key    string // unique within the kind
	u      uuid.UUID
	offset int64 // in the table's log
	v      T
}

// kind is one kind of definition. Its objects' ids in the table are "<name>/<key>": what must be unique is the id.
// Every kind has the same life: written by compare-and-set, collected as the table applies it, and looked up in an
// index that is replaced bucket by bucket.
type kind[T any] struct {
	name    string
	table   *table.Table
	index   index[object[T]]
	fresh   []version[T]          // owned by the table's goroutine: what is not in applied yet
	applied map[string]*object[T] // likewise: changes since the last settle; nil: deleted
	changed func(was, is *object[T])
	adopt   func(v *T)                           // makes what came from the table ready for use; may be nil
	read    func(v *T, from table.Version) error // makes it of what is in the table, alone with v; default: as JSON
	failed  func(id string, err error)
}

// keeper is what the catalog needs of a kind while the table is applied.
type keeper interface {
	apply(key string, v table.Version, deleted bool)
	settle()
}

func newKind[T any](name string, t *table.Table, failed func(string, error)) *kind[T] {
	return &kind[T]{name: name, table: t, applied: map[string]*object[T]{}, index: newIndex[object[T]](), failed: failed}
}

func (k *kind[T]) id(key string) string { return k.name + "/" + key }

// get returns the applied version of an object, nil where there is none.
func (k *kind[T]) get(key string) *object[T] { return k.index.get(key) }

// all returns all objects, by key.
func (k *kind[T]) all() []*object[T] {
	return slices.SortedFunc(k.index.values(), func(a, b *object[T]) int { return cmp.Compare(a.key, b.key) })
}

// put writes v over prev, or creates it where prev is nil. Errors are the table's.
func (k *kind[T]) put(ctx context.Context, key string, prev *object[T], v T) (*object[T], error) {
	body, err := marshal(v)
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w", k.name, key, err)
	}
	var over uuid.UUID
	if prev != nil {
		over = prev.u
	}
	written, err := k.table.Put(ctx, k.id(key), over, body)
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w", k.name, key, err)
	}
	if k.adopt != nil {
		k.adopt(&v)
	}
	if k.read != nil {
		if err := k.read(&v, written); err != nil {
			return nil, fmt.Errorf("%s %s: %w", k.name, key, err)
		}
	}
	return &object[T]{key, written.U, written.Offset, v}, nil
}

// marshal is json.Marshal that keeps JSON texts in v as they were given.
func marshal(v any) ([]byte, error) {
	var body bytes.Buffer
	enc := json.NewEncoder(&body)
	enc.SetEscapeHTML(false)
	err := enc.Encode(v)
	return bytes.TrimSpace(body.Bytes()), err
}

func (k *kind[T]) delete(ctx context.Context, o *object[T]) error {
	if _, err := k.table.Delete(ctx, k.id(o.key), o.u); err != nil {
		return fmt.Errorf("%s %s: %w", k.name, o.key, err)
	}
	return nil
}

// version is a change as the table tells it.
type version[T any] struct {
	key     string
	is      table.Version
	deleted bool
	made    T     // of it
	err     error // why it cannot be read
}

// together is how many versions are read at a time: by several goroutines, since a load may bring very many.
const together = 1024

func (k *kind[T]) apply(key string, v table.Version, deleted bool) {
	k.fresh = append(k.fresh, version[T]{key: key, is: v, deleted: deleted})
	if len(k.fresh) == together {
		k.readFresh()
	}
}

// readFresh makes objects of the versions that were applied.
func (k *kind[T]) readFresh() {
	read := k.read
	if read == nil {
		read = func(to *T, from table.Version) error { return json.Unmarshal(from.Body, to) }
	}
	inParts(k.fresh, func(part []version[T]) {
		for i := range part {
			if v := &part[i]; !v.deleted {
				v.err = read(&v.made, v.is)
			}
		}
	})
	for i := range k.fresh {
		v := &k.fresh[i]
		switch {
		case v.deleted:
			k.applied[v.key] = nil
			continue
		case v.err != nil:
			k.failed(k.id(v.key), v.err) // what was there before stays
			continue
		case k.adopt != nil:
			k.adopt(&v.made)
		}
		k.applied[v.key] = &object[T]{key: v.key, u: v.is.U, offset: v.is.Offset, v: v.made}
	}
	clear(k.fresh)
	k.fresh = k.fresh[:0]
}

// inParts has do work on a part of all for each processor, where there is enough to do for that.
func inParts[E any](all []E, do func(part []E)) {
	const least = 64
	workers := min(runtime.GOMAXPROCS(0), len(all)/least)
	if workers < 2 {
		do(all)
		return
	}
	var working sync.WaitGroup
	for part := range slices.Chunk(all, (len(all)+workers-1)/workers) {
		working.Go(func() { do(part) })
	}
	working.Wait()
}

func (k *kind[T]) settle() {
	k.readFresh()
	if len(k.applied) == 0 {
		return
	}
	was := make(map[string]*object[T], len(k.applied))
	for key := range k.applied {
		was[key] = k.index.get(key)
	}
	k.index.update(k.applied)
	if k.changed != nil {
		for _, key := range slices.Sorted(maps.Keys(k.applied)) {
			k.changed(was[key], k.applied[key])
		}
	}
	if len(k.applied) > together {
		k.fresh, k.applied = nil, map[string]*object[T]{} // a load's; what follows is little
	} else {
		clear(k.applied)
	}
}

// index is a map for one writer and any number of readers that take no lock. It is copied bucket by bucket, so that
// a change costs a small part of what is in it.
type index[V any] struct {
	seed    maphash.Seed
	buckets *[256]atomic.Pointer[map[string]*V]
}

func newIndex[V any]() index[V] {
	return index[V]{seed: maphash.MakeSeed(), buckets: new([256]atomic.Pointer[map[string]*V])}
}

func (x *index[V]) bucket(key string) int {
	return int(maphash.String(x.seed, key) % uint64(len(x.buckets)))
}

func (x *index[V]) get(key string) *V {
	if m := x.buckets[x.bucket(key)].Load(); m != nil {
		return (*m)[key]
	}
	return nil
}

// update enters values, and removes where the value is nil.
func (x *index[V]) update(changes map[string]*V) {
	copies := map[int]map[string]*V{}
	for key, v := range changes {
		b := x.bucket(key)
		if copies[b] == nil {
			copies[b] = map[string]*V{}
			if old := x.buckets[b].Load(); old != nil {
				copies[b] = maps.Clone(*old)
			}
		}
		if v == nil {
			delete(copies[b], key)
		} else {
			copies[b][key] = v
		}
	}
	for b, m := range copies {
		x.buckets[b].Store(&m)
	}
}

func (x *index[V]) values() func(yield func(*V) bool) {
	return func(yield func(*V) bool) {
		for b := range x.buckets {
			if m := x.buckets[b].Load(); m != nil {
				for _, v := range *m {
					if !yield(v) {
						return
					}
				}
			}
		}
	}
}

// isConflict reports whether the table rejected a write.
func isConflict(err error) bool { return errors.Is(err, table.ErrConflict) }

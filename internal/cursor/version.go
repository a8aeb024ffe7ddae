package cursor

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strconv"

	"github.com/google/uuid"
)

// Name identifies a consumer.
type Name struct{ Owner, Stream, Consumer string }

// Check returns ErrName where the name is not one that a consumer may have.
func (n Name) Check() error {
	_, err := n.id()
	return err
}

// ErrName says that a consumer's name is not one.
var ErrName = errors.New("a consumer's name has 1 to 128 letters, digits and any of . _ ~ : @ -, and begins with a letter or digit")

var consumerName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._~:@-]{0,127}$`)

// id is the consumer's id in the table: what must be unique is the id.
func (n Name) id() (string, error) {
	if !consumerName.MatchString(n.Consumer) {
		return "", ErrName
	}
	return url.PathEscape(n.Owner) + "/" + url.PathEscape(n.Stream) + "/" + n.Consumer, nil
}

// State is where a consumer stands.
type State struct {
	Lease  Lease
	Epoch  uint64  // of the stream that Next is of
	Next   []int64 // saved: what survives everything
	Cut    uint64  // how often the log lost its end under the consumer
	Reason string  // what made this version: created, taken over, saved, reset
}

const (
	reasonCreated = "created"
	reasonTaken   = "taken over"
	reasonSaved   = "saved"
	reasonReset   = "reset"
)

// version is a consumer's body in the table (rule 1).
type version struct {
	u uuid.UUID // of the version itself; not part of the body

	Incarnation uuid.UUID `json:"incarnation"`
	Lease       uint64    `json:"lease"`
	Parent      uint64    `json:"parent,omitempty"` // the number that this lease's taker presented
	Cut         uint64    `json:"cut,omitempty"`    // rises whenever Pos sinks because the log lost its end
	Pos         position  `json:"pos"`
	Reason      string    `json:"reason"`
}

type position struct {
	Epoch epoch   `json:"epoch"`
	Next  []int64 `json:"next"`
}

// in returns the version's place in the stream's present epoch: offsets of another one are replaced by 0 (rule 3).
func (v *version) in(present uint64) place {
	if uint64(v.Pos.Epoch) != present {
		return place{cut: v.Cut}
	}
	return place{v.Cut, v.Pos.Next}
}

// place is a position in one epoch of a stream. Offsets of different cuts cannot be compared: what lay beyond the log's
// end when it was cut may since have been given to other events.
type place struct {
	cut  uint64
	next []int64
}

// join returns where somebody stands of whom both are known: the higher cut counts alone (rule 3).
func join(a, b place) place {
	switch {
	case a.cut > b.cut:
		return place{a.cut, Max(a.next, nil)}
	case a.cut < b.cut:
		return place{b.cut, Max(b.next, nil)}
	}
	return place{a.cut, Max(a.next, b.next)}
}

// passes reports whether a says more than b.
func (a place) passes(b place) bool {
	return a.cut > b.cut || a.cut == b.cut && beyond(a.next, b.next)
}

// epoch is written in hexadecimal: many readers of JSON lose the last bits of such a number.
type epoch uint64

// MarshalText implements encoding.TextMarshaler.
func (e epoch) MarshalText() ([]byte, error) { return fmt.Appendf(nil, "%016x", uint64(e)), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (e *epoch) UnmarshalText(b []byte) error {
	v, err := strconv.ParseUint(string(b), 16, 64)
	*e = epoch(v)
	return err
}

func newIncarnation() uuid.UUID { return uuid.New() }

// incarnation is the short form that cursors carry.
func (v *version) incarnation() uint64 { return binary.BigEndian.Uint64(v.Incarnation[:8]) }

func (v *version) lease() Lease { return Lease{Incarnation: v.incarnation(), Number: v.Lease} }

func (v *version) state() State {
	return State{Lease: v.lease(), Epoch: uint64(v.Pos.Epoch), Next: slices.Clone(v.Pos.Next), Cut: v.Cut, Reason: v.Reason}
}

func decodeVersion(u uuid.UUID, body []byte) (*version, error) {
	v := &version{}
	if err := json.Unmarshal(body, v); err != nil {
		return nil, fmt.Errorf("a consumer's body in the table: %w", err)
	}
	v.u = u
	return v, nil
}

// read returns a consumer's applied version; nil where there is none.
func (c *Consumers) read(id string) (*version, error) {
	v, ok := c.table.Get(id)
	if !ok {
		return nil, nil
	}
	return decodeVersion(v.U, v.Body)
}

// put writes v over cur, or creates it where cur is nil, and notes the UUID it got.
func (c *Consumers) put(ctx context.Context, id string, cur, v *version) error {
	if v.Pos.Next == nil {
		v.Pos.Next = []int64{}
	}
	body, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("a consumer's body: %w", err)
	}
	prev := uuid.Nil
	if cur != nil {
		prev = cur.u
	}
	written, err := c.table.Put(ctx, id, prev, body)
	v.u = written.U
	return err
}

// trim keeps a client's vector within the stream's partitions, so that nobody grows a body by a forged cursor.
func trim(next []int64, partitions int) []int64 {
	return next[:min(len(next), max(partitions, 0))]
}

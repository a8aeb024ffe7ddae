package catalog

import (
	"cmp"
	"encoding/json"
	"time"
)

// State lets the server keep the latest event of each record key of a stream in memory, for readers who ask for a snapshot.
// The bounds hold on each replica by itself. In a stream that can be looked up all are set; given to CreateStream, a zero
// stands for the default.
type State struct {
	// Window is how long a key is kept after its latest event: keys that have had none for that long are left out. With
	// "forever" none are.
	Window Duration `json:"window"`
	// MaxKeys and MaxBytes bound what is kept, in keys and in bytes of memory. Over either the oldest keys are dropped.
	MaxKeys  int  `json:"maxKeys"`
	MaxBytes Size `json:"maxBytes"`
}

// Bounds of a stream's state, and what it has where nothing is said.
const (
	minWindow       = Duration(time.Second)
	defaultWindow   = Duration(time.Hour) // without compaction; with it the log keeps every key for ever, and so does the state
	maxStateKeys    = 10_000_000
	defaultKeys     = 100_000
	minStateBytes   = 64 * kibibyte
	maxStateBytes   = 64 * gibibyte
	defaultMaxBytes = 256 * mebibyte
)

// StatePatch is a change of a stream's state, or its beginning, with the defaults, where there was none. Nil fields stay;
// zeros become the default.
type StatePatch struct {
	Remove   bool // the stream has no state any more, whatever else is said
	Window   *Duration
	MaxKeys  *int
	MaxBytes *Size
}

// filled is a copy with the defaults for what is zero. That of nil is nil.
func (s *State) filled(compaction bool) *State {
	if s == nil {
		return nil
	}
	window := defaultWindow
	if compaction {
		window = -1
	}
	return &State{cmp.Or(s.Window, window), cmp.Or(s.MaxKeys, defaultKeys), cmp.Or(s.MaxBytes, defaultMaxBytes)}
}

// check checks a state. Zeros stand for defaults.
func (s *State) check(v *InvalidError) {
	if s == nil {
		return
	}
	s = s.filled(false)
	checkWindow(v, s.Window)
	checkMaxKeys(v, s.MaxKeys)
	checkMaxBytes(v, s.MaxBytes)
}

func checkWindow(v *InvalidError, d Duration) {
	if d >= 0 && d < minWindow {
		v.add("/state/window", "%v or longer, or \"forever\"; got %v", minWindow, d)
	}
}

func checkMaxKeys(v *InvalidError, n int) {
	if n < 1 || n > maxStateKeys {
		v.add("/state/maxKeys", "1 to %d; got %d", maxStateKeys, n)
	}
}

func checkMaxBytes(v *InvalidError, n Size) {
	if n < minStateBytes || n > maxStateBytes {
		v.add("/state/maxBytes", "%v to %v; got %v", minStateBytes, maxStateBytes, n)
	}
}

// onto gives s with what is changed. Zeros are not filled yet.
func (p *StatePatch) onto(s State) State {
	if p.Window != nil {
		s.Window = *p.Window
	}
	if p.MaxKeys != nil {
		s.MaxKeys = *p.MaxKeys
	}
	if p.MaxBytes != nil {
		s.MaxBytes = *p.MaxBytes
	}
	return s
}

// patchedState gives the stream's state after a change: the very same where that changes nothing, so that streams can be compared.
func (s *Stream) patchedState(p StatePatch) *State {
	if p.Remove {
		return nil
	}
	var was State
	if s.State != nil {
		was = *s.State
	}
	is := p.onto(was)
	next := is.filled(s.Compaction)
	if s.State != nil && *next == was {
		return s.State
	}
	return next
}

// decodeState reads the state of a new stream, nil where there is none. What is left out, or null, is zero in it.
func decodeState(v *InvalidError, raw json.RawMessage) (*State, error) {
	p, err := decodeStatePatch(v, raw)
	if p == nil || p.Remove {
		return nil, err
	}
	s := p.onto(State{})
	return &s, err
}

// decodeStatePatch reads what a merge patch says of a state, nil where it says nothing. A zero that is given is refused:
// what asks for the default is null.
func decodeStatePatch(v *InvalidError, raw json.RawMessage) (*StatePatch, error) {
	if raw == nil {
		return nil, nil
	}
	p := &StatePatch{}
	if !given(raw) {
		p.Remove = true
		return p, nil
	}
	var window, keys, size json.RawMessage
	err := v.take("/state", decode(raw, map[string]any{"window": &window, "maxKeys": &keys, "maxBytes": &size}, nil))
	decodeBound(v, "/state/window", window, &p.Window, checkWindow)
	decodeBound(v, "/state/maxKeys", keys, &p.MaxKeys, checkMaxKeys)
	decodeBound(v, "/state/maxBytes", size, &p.MaxBytes, checkMaxBytes)
	return p, err
}

func decodeBound[T any](v *InvalidError, pointer string, raw json.RawMessage, to **T, check func(*InvalidError, T)) {
	if removable(v, pointer, raw, to); given(raw) && *to != nil {
		check(v, **to)
	}
}

package main

import (
	"encoding/json"
	"maps"
	"math"
	"strconv"
	"strings"
)

// memberState is the member of a stream that says which of its latest events are kept by key.
const memberState = "state"

// stateFlags are the settings of a stream's state.
type stateFlags struct {
	State         bool    `help:"Keep the latest event of each record key in memory, for readers who ask for a snapshot. The flags that begin with --state- imply it."`
	StateWindow   *string `placeholder:"1h" help:"Leave out keys that have had no event for that long; 'forever' leaves out none. Default 1h, with --compaction forever."`
	StateMaxKeys  *int    `placeholder:"100000" help:"How many keys to keep: over that the oldest are dropped."`
	StateMaxBytes *string `placeholder:"256MiB" help:"How much memory they may take on each replica: over that the oldest are dropped."`
}

// member is the state as it is sent, nil for none. What was not said is left to the server.
func (f *stateFlags) member() any {
	settings := map[string]any{}
	if f.StateWindow != nil {
		settings["window"] = *f.StateWindow
	}
	if f.StateMaxKeys != nil {
		settings["maxKeys"] = *f.StateMaxKeys
	}
	if f.StateMaxBytes != nil {
		settings["maxBytes"] = *f.StateMaxBytes
	}
	if !f.State && len(settings) == 0 {
		return nil
	}
	return settings
}

// sameState reports whether a stream's state is as a file says. Every state has all members: those that the file leaves
// out stay as they are.
func sameState(have, want json.RawMessage) bool {
	is, to := stateMembers(have), stateMembers(want)
	if is == nil || to == nil {
		return sameJSON(have, want)
	}
	for name, value := range to {
		same := sameJSON
		switch name {
		case "window":
			same = sameDuration
		case "maxBytes":
			same = sameSize
		}
		if !same(is[name], value) {
			return false
		}
	}
	return true
}

// stateMembers are the members that have a value; nil for what is no object.
func stateMembers(raw json.RawMessage) map[string]json.RawMessage {
	var object map[string]json.RawMessage
	if json.Unmarshal(raw, &object) != nil {
		return nil
	}
	maps.DeleteFunc(object, func(_ string, value json.RawMessage) bool { return string(value) == "null" })
	return object
}

// statePatch is what a file says of a state as a merge patch: without its nulls, which would not leave members as they are.
func statePatch(raw json.RawMessage) json.RawMessage {
	if members := stateMembers(raw); members != nil {
		if patch, err := encode(members); err == nil {
			return patch
		}
	}
	return raw // which the server refuses
}

// sameSize is sameJSON, where a number of bytes may be spelled in several ways.
func sameSize(a, b json.RawMessage) bool {
	x, okX := bytesOf(a)
	y, okY := bytesOf(b)
	return okX && okY && x == y || sameJSON(a, b)
}

// bytesOf reads a number of bytes as the server does: a number, or a text that may end with a unit.
func bytesOf(raw json.RawMessage) (n int64, ok bool) {
	text := string(raw)
	if strings.HasPrefix(text, `"`) && json.Unmarshal(raw, &text) != nil {
		return 0, false
	}
	factor := int64(1)
	for i, unit := range []string{"KiB", "MiB", "GiB"} {
		if digits, is := strings.CutSuffix(text, unit); is {
			text, factor = digits, 1<<(10*(i+1))
			break
		}
	}
	n, err := strconv.ParseInt(text, 10, 64)
	return n * factor, err == nil && n >= 0 && n <= math.MaxInt64/factor
}

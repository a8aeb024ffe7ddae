package catalog

import (
	"context"
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"time"
)

// Editor changes the catalog in somebody's name.
type Editor struct {
	c   *Catalog
	by  Actor
	own bool // it is the server itself, whose types others may not register
}

// Actor is who asks for a change.
type Actor struct {
	Name      string // the principal; without access control the owner of everything
	RequestID string
	// Base is the server's address as who asks uses it, under which references between schemas may name it.
	Base string
}

// As returns an editor for changes that by asks for.
func (c *Catalog) As(by Actor) Editor { return Editor{c: c, by: by} }

// AsServer returns an editor for changes that the server makes of itself. It alone registers the server's own types.
func (c *Catalog) AsServer() Editor { return Editor{c: c, by: Actor{Name: "eventissuer"}, own: true} }

// Stamp says who made a version of a definition, and when.
type Stamp struct {
	At        time.Time `json:"at"`
	By        string    `json:"by,omitempty"`
	RequestID string    `json:"requestId,omitempty"`
}

func (e Editor) stamp() Stamp {
	return Stamp{At: e.c.cfg.Now().UTC().Truncate(time.Millisecond), By: e.by.Name, RequestID: e.by.RequestID}
}

// Action is what was done to a definition.
type Action string

// The actions.
const (
	ActionCreated    Action = "created"
	ActionChanged    Action = "changed"
	ActionDeleted    Action = "deleted"
	ActionRegistered Action = "registered" // a version of a schema

	// Of subscriptions with a sink.
	ActionPaused   Action = "paused"
	ActionResumed  Action = "resumed"
	ActionDisabled Action = "disabled"
	ActionVerified Action = "verified" // its endpoint has proven that it wants the events, or has not
	ActionRotated  Action = "rotated"  // its secrets
	ActionRewound  Action = "rewound"
	ActionReplayed Action = "replayed"
)

// Entry is one change, for the audit.
type Entry struct {
	Stamp
	Action  Action `json:"action"`
	Kind    string `json:"kind"` // stream, event-type, schema or subscription
	Name    string `json:"name"`
	Version int    `json:"version,omitempty"` // of a schema
	Detail  string `json:"detail,omitempty"`
}

// Auditor keeps the entries of changes.
type Auditor interface {
	// Record blocks until the entry is kept. The change is made already: an error is for the operator, not for the
	// caller of the change.
	Record(ctx context.Context, e Entry) error
}

// AuditTo has changes recorded from now on. It must be called before the first change.
func (c *Catalog) AuditTo(a Auditor) { c.cfg.Auditor = a }

// maxDetail bounds what is told of one member that was changed.
const maxDetail = 200

// differences tells which members of a definition were changed, from what to what.
func differences[T any](was, is T) string {
	members := func(v T) map[string]json.RawMessage {
		var object map[string]json.RawMessage
		if raw, err := json.Marshal(v); err == nil {
			_ = json.Unmarshal(raw, &object) // it is what was just written
		}
		delete(object, "created")
		delete(object, "changed")
		return object
	}
	brief := func(raw json.RawMessage) string {
		switch text := []rune(string(raw)); {
		case len(text) == 0, string(raw) == "null", string(raw) == `""`:
			return "nothing"
		case len(text) > maxDetail:
			return string(text[:maxDetail]) + "…"
		}
		return string(raw)
	}
	before, after := members(was), members(is)
	all := maps.Clone(before)
	maps.Copy(all, after)
	var told []string
	for _, name := range slices.Sorted(maps.Keys(all)) {
		if from, to := brief(before[name]), brief(after[name]); string(before[name]) != string(after[name]) && from != to {
			told = append(told, name+": "+from+" -> "+to)
		}
	}
	return strings.Join(told, "; ")
}

// audit records a change that was made. Who asked for it has no more patience than the change took, so a caller that
// goes away does not keep it from being recorded.
func (e Editor) audit(ctx context.Context, entry Entry) {
	entry.Stamp = e.stamp()
	e.c.log.Info("definition changed", "action", entry.Action, "kind", entry.Kind, "name", entry.Name, "version", entry.Version,
		"by", entry.By, "requestId", entry.RequestID)
	if e.c.cfg.Auditor == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), auditTime)
	defer cancel()
	if err := e.c.cfg.Auditor.Record(ctx, entry); err != nil {
		e.c.unaudited.Inc()
		e.c.log.Error("a change of a definition is not in the audit", "action", entry.Action, "kind", entry.Kind, "name", entry.Name,
			"version", entry.Version, "by", entry.By, "requestId", entry.RequestID, "error", err)
	}
}

const auditTime = 10 * time.Second

package catalog

import (
	"context"
	"time"
)

// Editor changes the catalog in somebody's name.
type Editor struct {
	c  *Catalog
	by Actor
}

// Actor is who asks for a change.
type Actor struct {
	Name      string // the principal; without access control the owner of everything
	RequestID string
}

// As returns an editor for changes that by asks for.
func (c *Catalog) As(by Actor) Editor { return Editor{c, by} }

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
)

// Entry is one change, for the audit.
type Entry struct {
	Stamp
	Action  Action `json:"action"`
	Kind    string `json:"kind"` // stream, event-type or schema
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

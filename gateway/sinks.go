package gateway

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"time"

	"github.com/eventissuer/eventissuer/internal/catalog"
	"github.com/eventissuer/eventissuer/push"
)

// Push tells how the events of subscriptions with a sink are being sent.
type Push interface {
	// Failing says why the endpoint of a subscription does not take its events at the moment; ok is false where it does.
	Failing(subscription string) (reason string, ok bool)
	// FailingSince tells since when the endpoint has only failed.
	FailingSince(subscription string) (since time.Time, ok bool)
	// Standings tells how far a subscription is in the partitions that this replica delivers.
	Standings(subscription string) []push.Standing
	// Verify asks the endpoint for its proof that it wants the events.
	Verify(ctx context.Context, subscription string) (push.Verdict, error)
	// Consent takes the proof by the callback that the endpoint was given.
	Consent(ctx context.Context, subscription, code, rate string) error
	// Test sends an example event.
	Test(ctx context.Context, subscription string) (*push.Attempt, error)
	// Resend sends an event again.
	Resend(ctx context.Context, subscription string, at push.Place) (*push.Attempt, error)
	// ConsumerGroup names the group to which the positions of a topic are committed.
	ConsumerGroup(topic string) string
}

// sunk finds the subscription that the address names, which must have a sink. It answers by itself, and returns false,
// where there is none such.
func (g *Gateway) sunk(w http.ResponseWriter, r *http.Request) (catalog.Subscription, bool) {
	s, ok := g.deps.Catalog.Subscription(pathVar(r, "id"))
	var p *problem
	switch {
	case !ok:
		p = unknownSubscription(pathVar(r, "id"))
	case s.Sink == "":
		p = notPushed()
	default:
		return s, true
	}
	if r.Method == http.MethodPost { // with a body, which is not read
		g.refuse(w, r, p)
	} else {
		writeProblem(w, r, p)
	}
	return s, false
}

func notPushed() *problem {
	return newProblem(kindOtherDelivery, "the subscription has no sink: its sessions read it with GET …/events, and :reset has them read from another place")
}

func notRead() *problem {
	return newProblem(kindOtherDelivery, "the subscription has a sink, which its events are sent to: no sessions read it, and :replay has events sent again")
}

func (g *Gateway) pauseSubscription(w http.ResponseWriter, r *http.Request) {
	s, err := g.editor(r).PauseSubscription(r.Context(), pathVar(r, "id"), r.Header.Get("If-Match"))
	g.writeChangedSubscription(w, r, s, err)
}

func (g *Gateway) resumeSubscription(w http.ResponseWriter, r *http.Request) {
	s, err := g.editor(r).ResumeSubscription(r.Context(), pathVar(r, "id"), r.Header.Get("If-Match"))
	g.writeChangedSubscription(w, r, s, err)
}

// signing is what a subscription's messages are signed with. It is answered once.
type signing struct {
	Secret    string `json:"secret"`
	PublicKey string `json:"publicKey"`
}

// rotateSecret answers POST …:rotate-secret with the new secret, this once.
func (g *Gateway) rotateSecret(w http.ResponseWriter, r *http.Request) {
	was, ok := g.sunk(w, r)
	if !ok {
		return
	}
	var rotation catalog.Rotation
	if r.ContentLength != 0 {
		var raw json.RawMessage
		if !g.readDocument(w, r, &raw) {
			return
		}
		var err error
		if rotation, err = catalog.DecodeRotation(raw); err != nil {
			writeProblem(w, r, err)
			return
		}
	}
	s, err := g.editor(r).RotateSecret(r.Context(), was.ID, rotation, r.Header.Get("If-Match"))
	if errors.Is(err, catalog.ErrNotFound) {
		err = unknownSubscription(was.ID)
	}
	if err != nil {
		writeProblem(w, r, err)
		return
	}
	w.Header().Set("Cache-Control", "no-store")
	writeVersion(w, r, http.StatusOK, s.ETag(), signing{s.Secret.Text(), s.PublicKey})
}

// replayed says what a replay does.
type replayed struct {
	Mode    string    `json:"mode"`             // "rewind" or "beside"
	Replay  string    `json:"replay,omitempty"` // which of those beside it is
	Since   time.Time `json:"since,omitzero"`
	Records int64     `json:"records"` // that it goes through at most; those that the subscription's filters let pass are sent
}

// replaySubscription answers POST …:replay: events of before are sent again. One that keeps the order of keys is taken
// back as a whole; of one that keeps none they are sent beside those that go on being sent.
func (g *Gateway) replaySubscription(w http.ResponseWriter, r *http.Request) {
	s, ok := g.sunk(w, r)
	if !ok {
		return
	}
	var in struct {
		Since    string   `json:"since"`
		From     string   `json:"from"`
		Attempts []string `json:"attempts"`
	}
	if !g.readDocument(w, r, &in) {
		return
	}
	if len(in.Attempts) > 0 && in.Since == "" && in.From == "" {
		g.replayAttempts(w, r, s, in.Attempts)
		return
	}
	answer, from, err := replayFrom(in.Since, in.From, in.Attempts != nil)
	if err != nil {
		writeProblem(w, r, err)
		return
	}
	var names []string
	for _, name := range s.Streams {
		if _, ok := g.deps.Catalog.Stream(name); ok {
			names = append(names, name)
		}
	}
	replay := catalog.Replay{Since: answer.Since}
	if replay.Start, err = g.starts(r.Context(), names, from); err == nil {
		replay.Until, err = g.starts(r.Context(), names, catalog.FromLatest)
	}
	if err != nil {
		writeProblem(w, r, err)
		return
	}
	if s.Config.Ordering == catalog.OrderingKey {
		answer.Mode = "rewind"
		s, err = g.editor(r).RewindSubscription(r.Context(), s.ID, replay.Start, r.Header.Get("If-Match"))
	} else {
		answer.Mode = "beside"
		s, answer.Replay, err = g.editor(r).ReplaySubscription(r.Context(), s.ID, replay, r.Header.Get("If-Match"))
	}
	if errors.Is(err, catalog.ErrNotFound) {
		err = unknownSubscription(pathVar(r, "id"))
	}
	if err != nil {
		writeProblem(w, r, err)
		return
	}
	answer.Records = between(replay.Start, replay.Until)
	writeVersion(w, r, http.StatusAccepted, s.ETag(), answer)
}

// replayFrom reads where a replay begins.
func replayFrom(since, from string, others bool) (replayed, string, error) {
	if others || (since == "") == (from == "") || from != "" && from != catalog.FromOldest {
		return replayed{}, "", newProblem(kindInvalidBody, `give one of {"since":"2026-01-02T03:04:05Z"}, a time, {"from":"oldest"} and {"attempts":["…"]}`)
	}
	if from != "" {
		return replayed{}, from, nil
	}
	at, err := time.Parse(time.RFC3339, since)
	if err != nil || at.After(time.Now()) {
		return replayed{}, "", newProblem(kindInvalidBody, "since=%q: give a time in the past, such as 2026-01-02T03:04:05Z", since).
			at(fieldError{Pointer: "/since", Message: "must be a time in the past (RFC 3339)"})
	}
	return replayed{Since: at.UTC()}, since, nil
}

// between counts the records from positions to others.
func between(start, until map[string]catalog.Position) (n int64) {
	for name, at := range until {
		if at.Epoch != start[name].Epoch {
			continue
		}
		for p, next := range at.Next {
			if from := start[name].Next; p < len(from) {
				n += max(0, next-from[p])
			}
		}
	}
	return n
}

package gateway

import (
	"context"
	"encoding/json"
	"errors"
	"iter"
	"net/http"
	"strings"
	"time"

	"github.com/eventissuer/eventissuer/internal/catalog"
)

// subscriptionAnswer is a subscription as GET shows it: with how it is.
type subscriptionAnswer struct {
	catalog.Subscription
	Secret string            `json:"secret,omitempty"` // in the answer to its creation alone
	Status subscriptionState `json:"status"`
}

// subscriptionState is how a subscription is.
type subscriptionState struct {
	catalog.SubscriptionStatus
	// Of one with a sink.
	Proof   *catalog.Proof `json:"proof,omitempty"`
	Replays []replaying    `json:"replays,omitempty"`
}

// replaying is a replay beside the live way, under way.
type replaying struct {
	Replay  string    `json:"replay"`
	Since   time.Time `json:"since,omitzero"`
	Records int64     `json:"records"` // in the partitions that it is not done with
}

func (g *Gateway) subscriptionAnswer(s catalog.Subscription) subscriptionAnswer {
	answer := subscriptionAnswer{Subscription: s, Status: subscriptionState{SubscriptionStatus: g.subscriptionStatus(s)}}
	if s.Sink == "" {
		return answer
	}
	proof := s.Proof
	if proof.State != catalog.ProofPending || time.Until(proof.Next) > furthestTry {
		proof.Next = time.Time{} // nobody asks by itself
	}
	answer.Status.Proof = &proof
	for _, r := range s.Replays {
		answer.Status.Replays = append(answer.Status.Replays, replaying{r.Incarnation, r.Since, between(r.Start, r.Until)})
	}
	return answer
}

// furthestTry is more than what lies between two tries to have an endpoint's proof.
const furthestTry = 366 * 24 * time.Hour

func (g *Gateway) subscriptionStatus(s catalog.Subscription) catalog.SubscriptionStatus {
	status := g.deps.Catalog.SubscriptionStatus(s)
	if s.Sink == "" || g.deps.Push == nil || status.State != catalog.SubscriptionActive {
		return status
	}
	if reason, failing := g.deps.Push.Failing(s.ID); failing {
		return catalog.SubscriptionStatus{State: catalog.SubscriptionFailing, Reason: reason}
	}
	return status
}

// listSubscriptions answers GET /v1/subscriptions: all of them, or those that have each word of q=.
func (g *Gateway) listSubscriptions(w http.ResponseWriter, r *http.Request) {
	words := strings.Fields(strings.ToLower(r.URL.Query().Get("q")))
	found := func(after string) iter.Seq[subscriptionAnswer] {
		return func(yield func(subscriptionAnswer) bool) {
			for s := range g.deps.Catalog.SubscriptionsAfter(after) {
				said := append([]string{s.ID, s.Name, s.Owner, s.Description, s.Sink}, s.Streams...)
				if hasWords(words, append(said, s.Types...)...) && !yield(g.subscriptionAnswer(s)) {
					return
				}
			}
		}
	}
	page, err := pageAfter(r, found, func(s subscriptionAnswer) string { return s.ID })
	if err != nil {
		writeProblem(w, r, err)
		return
	}
	writeJSON(w, r, http.StatusOK, page)
}

// createSubscription answers POST: 201, or 200 where the same is there already.
func (g *Gateway) createSubscription(w http.ResponseWriter, r *http.Request) {
	var raw json.RawMessage
	if !g.readDocument(w, r, &raw) {
		return
	}
	s, err := catalog.DecodeSubscription(raw)
	created := false
	if err == nil {
		s, created, err = g.editor(r).CreateSubscription(r.Context(), s, g.starts)
	}
	if err != nil {
		writeProblem(w, r, err)
		return
	}
	status, answer := http.StatusOK, g.subscriptionAnswer(s)
	if created {
		status = http.StatusCreated
	}
	if s.Secret != nil {
		answer.Secret = s.Secret.Text()
		w.Header().Set("Cache-Control", "no-store")
	}
	w.Header().Set("Location", g.link(r, "v1", "subscriptions", s.ID))
	writeVersion(w, r, status, s.ETag(), answer)
}

func (g *Gateway) getSubscription(w http.ResponseWriter, r *http.Request) {
	id := pathVar(r, "id")
	s, ok := g.deps.Catalog.Subscription(id)
	if !ok {
		writeProblem(w, r, unknownSubscription(id))
		return
	}
	// No 304: the status is no part of the version that the ETag names.
	writeVersion(w, r, http.StatusOK, s.ETag(), g.subscriptionAnswer(s))
}

// putSubscription replaces a definition. It makes none: the address is made of what it would be.
func (g *Gateway) putSubscription(w http.ResponseWriter, r *http.Request) {
	id := pathVar(r, "id")
	var raw json.RawMessage
	if !g.readDocument(w, r, &raw) {
		return
	}
	s, err := catalog.DecodeSubscription(raw)
	if err == nil && s.ID != "" && s.ID != id {
		err = newProblem(kindInvalidObject, "the body is of subscription %q, the address of %q: they must be the same, or the body's left out", s.ID, id).
			at(fieldError{Pointer: "/id", Message: "must be that of the address"})
	}
	if err == nil {
		s.ID = id
		s, err = g.editor(r).UpdateSubscription(r.Context(), s, r.Header.Get("If-Match"), g.starts)
	}
	g.writeChangedSubscription(w, r, s, err)
}

func (g *Gateway) patchSubscription(w http.ResponseWriter, r *http.Request) {
	var raw json.RawMessage
	if !g.readDocument(w, r, &raw, mergePatch, "application/json") {
		return
	}
	s, err := g.editor(r).PatchSubscription(r.Context(), pathVar(r, "id"), raw, r.Header.Get("If-Match"), g.starts)
	g.writeChangedSubscription(w, r, s, err)
}

func (g *Gateway) writeChangedSubscription(w http.ResponseWriter, r *http.Request, s catalog.Subscription, err error) {
	if errors.Is(err, catalog.ErrNotFound) {
		err = unknownSubscription(pathVar(r, "id"))
	}
	if err != nil {
		writeProblem(w, r, err)
		return
	}
	writeVersion(w, r, http.StatusOK, s.ETag(), g.subscriptionAnswer(s))
}

func (g *Gateway) deleteSubscription(w http.ResponseWriter, r *http.Request) {
	id := pathVar(r, "id")
	was, _ := g.deps.Catalog.Subscription(id)
	err := g.editor(r).DeleteSubscription(r.Context(), id, r.Header.Get("If-Match"))
	if errors.Is(err, catalog.ErrNotFound) {
		err = unknownSubscription(id)
	}
	if err != nil {
		writeProblem(w, r, err)
		return
	}
	if was.Sink == "" {
		g.forget(r.Context(), was)
		g.disband(r.Context(), id)
	} else if g.deps.Attempts != nil {
		// Also where the client has gone; what is left does no harm, and goes by itself.
		if err := g.deps.Attempts.Forget(context.WithoutCancel(r.Context()), id); err != nil {
			g.log.Warn("some of what was kept of a subscription's attempts is left", "subscription", id, "error", err)
		}
	}
	w.WriteHeader(http.StatusNoContent)
}

// starts implements catalog.Starts.
func (g *Gateway) starts(ctx context.Context, streams []string, from string) (map[string]catalog.Position, error) {
	start := make(map[string]catalog.Position, len(streams))
	for _, name := range streams {
		// The topic's life first: where it is made again in between, the position is of a life that is over, which the
		// reader is told, and not one of the new life that skips its events.
		stream, info, err := g.streamOf(ctx, name)
		if err != nil {
			return nil, err
		}
		next, err := g.resolveFrom(ctx, stream.Topic, from)
		if err != nil {
			return nil, err
		}
		start[name] = catalog.Position{Epoch: info.Epoch.Hex(), Next: next}
	}
	return start, nil
}

func unknownSubscription(id string) *problem {
	return newProblem(kindUnknownSubscription, "there is no subscription %q: GET /v1/subscriptions lists those there are", id)
}

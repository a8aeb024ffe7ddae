package gateway

import (
	"cmp"
	"errors"
	"net/http"
	"time"

	"github.com/eventissuer/eventissuer/internal/catalog"
	"github.com/eventissuer/eventissuer/internal/guard"
	"github.com/eventissuer/eventissuer/push"
)

// retryAsked is when a host that was asked too often may be asked again.
const retryAsked = 5 * time.Second

// deliverer answers by itself, and returns false, where this server sends nothing.
func (g *Gateway) deliverer(w http.ResponseWriter, r *http.Request) (Push, bool) {
	if g.deps.Push == nil {
		g.refuse(w, r, newProblem(kindNoSinks, "this server sends nothing"))
		return nil, false
	}
	return g.deps.Push, true
}

// verifySubscription answers POST …:verify: the endpoint is asked now for its proof that it wants the events.
func (g *Gateway) verifySubscription(w http.ResponseWriter, r *http.Request) {
	was, ok := g.sunk(w, r)
	if !ok {
		return
	}
	deliveries, ok := g.deliverer(w, r)
	if !ok {
		return
	}
	if _, err := deliveries.Verify(r.Context(), was.ID); err != nil {
		writeProblem(w, r, deliveryProblem(err))
		return
	}
	s, ok := g.deps.Catalog.Subscription(was.ID)
	if !ok {
		writeProblem(w, r, unknownSubscription(was.ID))
		return
	}
	writeVersion(w, r, http.StatusOK, s.ETag(), g.subscriptionAnswer(s))
}

// testSubscription answers POST …:test with what became of an example event.
func (g *Gateway) testSubscription(w http.ResponseWriter, r *http.Request) {
	s, ok := g.sunk(w, r)
	if !ok {
		return
	}
	deliveries, ok := g.deliverer(w, r)
	if !ok {
		return
	}
	a, err := deliveries.Test(r.Context(), s.ID)
	if err != nil {
		writeProblem(w, r, deliveryProblem(err))
		return
	}
	writeJSON(w, r, http.StatusOK, shown(a))
}

// shown is an attempt as it is answered: whose it is, the address says.
func shown(a *push.Attempt) push.Attempt {
	is := *a
	is.Subscription = ""
	return is
}

// deliveryProblem translates why an endpoint was not sent anything.
func deliveryProblem(err error) error {
	var way *guard.Error
	switch {
	case errors.Is(err, push.ErrNotPushed):
		return notPushed()
	case errors.Is(err, push.ErrBusyHost):
		return newProblem(kindAskedTooOften, "%s: try again", err).retry(retryAsked)
	case errors.Is(err, push.ErrBlocked):
		return newProblem(kindUnproven, "%s: POST …:verify asks the endpoint now", err)
	case errors.As(err, &way):
		return newProblem(kindConflict, "there is no way to the endpoint: %s", way.Reason).because(err)
	}
	return err
}

// unproven says why nothing is sent to a subscription's sink by hand.
func unproven(s catalog.Subscription) *problem {
	reason := cmp.Or(s.Proof.Reason, "it has not answered yet")
	return newProblem(kindUnproven, "the endpoint has not proven that it wants the events (%s): POST …:verify asks it now", reason)
}

// consent answers GET and POST …:consent, the callback by which an endpoint consents (HTTP 1.1 Web Hooks for Event
// Delivery, section 4.1). The code is all the authorization there is. Whoever has none learns nothing of what there is.
func (g *Gateway) consent(w http.ResponseWriter, r *http.Request) {
	deliveries, ok := g.deliverer(w, r)
	if !ok {
		return
	}
	if r.Method == http.MethodHead { // whoever looks whether there is something here says nothing
		w.Header().Set("Cache-Control", "no-store")
		return
	}
	query := r.URL.Query()
	err := deliveries.Consent(r.Context(), pathVar(r, "id"), query.Get("code"), r.Header.Get("WebHook-Allowed-Rate"))
	switch {
	case errors.Is(err, push.ErrCode), errors.Is(err, push.ErrNotPushed):
		g.refuse(w, r, newProblem(kindWrongCode, "the code is none that was given for this subscription's present sink: use the last callback that the endpoint was sent, as it is"))
	case errors.Is(err, push.ErrRate):
		g.refuse(w, r, newProblem(kindInvalidParameter, "%s", err))
	case err != nil:
		writeProblem(w, r, err)
	default:
		h := w.Header()
		h.Set("Content-Type", "text/plain; charset=utf-8")
		h.Set("Cache-Control", "no-store")
		_, _ = w.Write([]byte("Thank you: the events will be sent.\n")) // who has gone needs no answer
	}
}

// keysAge is how long the keys that sign tokens may be kept.
const keysAge = "max-age=300"

// jwks answers GET /.well-known/jwks.json.
func (g *Gateway) jwks(w http.ResponseWriter, _ *http.Request) {
	keys := []byte(`{"keys":[]}`)
	if g.deps.TokenKeys != nil {
		keys = g.deps.TokenKeys.JWKS()
	}
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Cache-Control", keysAge)
	_, _ = w.Write(keys) // who has gone needs no answer
}

package gateway

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"time"

	"github.com/eventissuer/eventissuer/broker"
	"github.com/eventissuer/eventissuer/internal/catalog"
	"github.com/eventissuer/eventissuer/internal/cursor"
	"github.com/eventissuer/eventissuer/internal/fanout"
	"github.com/eventissuer/eventissuer/internal/group"
	"github.com/eventissuer/eventissuer/session"
)

// subscriptionOf finds the subscription that the address names, which sessions read. It answers by itself, and returns
// false, where there is none, it has a sink, or this replica serves none.
func (g *Gateway) subscriptionOf(w http.ResponseWriter, r *http.Request) (catalog.Subscription, bool) {
	if !g.readBySessions(w, r) {
		return catalog.Subscription{}, false
	}
	s, ok := g.deps.Catalog.Subscription(pathVar(r, "id"))
	if !ok { // deleted meanwhile
		g.refuse(w, r, unknownSubscription(pathVar(r, "id")))
	}
	return s, ok
}

// readBySessions is subscriptionOf for who needs nothing of the subscription: to look it up costs something.
func (g *Gateway) readBySessions(w http.ResponseWriter, r *http.Request) bool {
	sink, ok := g.deps.Catalog.HasSink(pathVar(r, "id"))
	var p *problem
	switch {
	case !ok:
		p = unknownSubscription(pathVar(r, "id"))
	case sink:
		p = notRead()
	case g.deps.Groups == nil:
		p = newProblem(kindNotReady, "this replica serves no subscriptions").retry(retrySoon)
	default:
		return true
	}
	if r.Method == http.MethodPost { // with a body, which is not read
		g.refuse(w, r, p)
	} else {
		writeProblem(w, r, p)
	}
	return false
}

// readSubscription answers GET …/events: a session of the subscription, in every transport.
func (g *Gateway) readSubscription(w http.ResponseWriter, r *http.Request) {
	s, ok := g.subscriptionOf(w, r)
	if !ok {
		return
	}
	for name := range r.URL.Query() {
		switch name {
		case "after", "limit", "wait", "heartbeat", "flush", "event":
		default:
			writeProblem(w, r, newProblem(kindInvalidParameter, "there is no parameter %q: reading a subscription takes after, limit, wait, heartbeat, flush and event; what it reads is said by its definition", name))
			return
		}
	}
	var q readQuery
	err := q.fromURL(r.URL.Query())
	var media string
	if err == nil {
		media, err = transport(r)
	}
	req := session.Request{Subscription: s.ID, Turned: q.After, Address: g.clientAddr(r).String(), RequestID: requestID(r.Context())}
	for _, name := range s.Streams {
		req.Streams = append(req.Streams, fanout.Stream{Name: name})
	}
	if err == nil {
		err = q.pace(&req)
	}
	if err == nil {
		err = q.page(&req, media == mediaBatch)
	}
	if err == nil && media != mediaBatch && q.After != "" {
		err = newProblem(kindInvalidParameter, "after= is a page's, and acknowledges the one before: on other transports acknowledge in band, or with POST …/cursors")
	}
	if err != nil {
		writeProblem(w, r, g.readProblem(err))
		return
	}
	if infoOf(r.Context()).method == http.MethodHead { // looking must take no events
		w.Header().Set("Content-Type", mediaBatch)
		w.WriteHeader(http.StatusOK)
		return
	}
	g.serveSession(w, r, media, req)
}

// saidMost bounds what one request says of deliveries.
const saidMost = 1000

// mostDelay is for how long an event may be given back.
const mostDelay = 12 * time.Hour

// saidRange is a stretch of deliveries, by their cursors.
type saidRange struct {
	From string `json:"from"`
	To   string `json:"to"`
}

// saidNack gives deliveries back.
type saidNack struct {
	saidRange
	Delay string `json:"delay"`
}

// said is what a client says of deliveries.
type said struct {
	Cursors []string    `json:"cursors"`
	Ranges  []saidRange `json:"ranges"`
	Nacks   []saidNack  `json:"nacks"`
}

// words checks what was said. What is given back is said first, so that a cursor behind it does not acknowledge it.
func (s *said) words() ([]group.Word, error) {
	n := len(s.Cursors) + len(s.Ranges) + len(s.Nacks)
	if n == 0 || n > saidMost {
		return nil, newProblem(kindInvalidBody, "there are %d cursors, ranges and nacks: give 1 to %d in one request", n, saidMost)
	}
	words := make([]group.Word, 0, n)
	missing := func(list string, at int, member string) error {
		pointer := "/" + list + "/" + strconv.Itoa(at) + member
		return newProblem(kindInvalidBody, "%s must be a cursor", pointer).at(fieldError{Pointer: pointer, Message: "must be a cursor"})
	}
	for i, nack := range s.Nacks {
		if nack.To == "" {
			return nil, missing("nacks", i, "/to")
		}
		delay, err := nackDelay(nack.Delay)
		if err != nil {
			return nil, asProblem(err).at(fieldError{Pointer: "/nacks/" + strconv.Itoa(i) + "/delay", Message: "must be a duration from 0s to 12h"})
		}
		words = append(words, group.Word{From: nack.From, To: nack.To, Back: true, Delay: delay})
	}
	for i, r := range s.Ranges {
		switch {
		case r.From == "":
			return nil, missing("ranges", i, "/from")
		case r.To == "":
			return nil, missing("ranges", i, "/to")
		}
		words = append(words, group.Word{From: r.From, To: r.To})
	}
	for i, at := range s.Cursors {
		if at == "" {
			return nil, missing("cursors", i, "")
		}
		words = append(words, group.Word{To: at})
	}
	return words, nil
}

// nackDelay reads for how long something is given back.
func nackDelay(text string) (time.Duration, error) { return duration("delay", text, 0, mostDelay) }

// putCursors answers POST …/cursors: what is acknowledged in the answer is durable.
func (g *Gateway) putCursors(w http.ResponseWriter, r *http.Request) {
	if !g.readBySessions(w, r) {
		return
	}
	var in said
	if !g.readDocument(w, r, &in) {
		return
	}
	words, err := in.words()
	if err != nil {
		writeProblem(w, r, err)
		return
	}
	// It is said also where the client does not wait for the answer; Say bounds the wait itself.
	answer, err := g.deps.Groups.Say(context.WithoutCancel(r.Context()), pathVar(r, "id"), words)
	switch {
	case err != nil:
		writeProblem(w, r, g.readProblem(err))
	case answer.Refused > 0:
		p := reconnect()
		p.answer = &answer
		writeProblem(w, r, p)
	default:
		writeJSON(w, r, http.StatusOK, struct {
			Acknowledged int `json:"acknowledged"`
			Returned     int `json:"returned"`
		}{answer.Acknowledged, answer.Returned})
	}
}

func reconnect() *problem {
	return newProblem(kindReconnect, "some of it is no longer this session's, and is given again: open the session again")
}

// subscriptionStats tell how far a subscription is.
type subscriptionStats struct {
	ID     string                    `json:"id"`
	Name   string                    `json:"name,omitempty"`
	State  catalog.SubscriptionState `json:"state"`
	Reason string                    `json:"reason,omitempty"`
	group.Stats
}

func (g *Gateway) getSubscriptionStats(w http.ResponseWriter, r *http.Request) {
	if sink, _ := g.deps.Catalog.HasSink(pathVar(r, "id")); sink {
		g.getDeliveryStats(w, r)
		return
	}
	s, ok := g.subscriptionOf(w, r)
	if !ok {
		return
	}
	g.writeStats(w, r, s)
}

func (g *Gateway) writeStats(w http.ResponseWriter, r *http.Request, s catalog.Subscription) {
	stats, err := g.deps.Groups.Stats(r.Context(), s.ID)
	if err != nil {
		g.refuseRead(w, r, err)
		return
	}
	status := g.subscriptionStatus(s)
	writeJSON(w, r, http.StatusOK, subscriptionStats{s.ID, s.Name, status.State, status.Reason, stats})
}

// resetSubscription answers POST …:reset: the subscription begins anew from another place.
func (g *Gateway) resetSubscription(w http.ResponseWriter, r *http.Request) {
	force, err := boolean(r, "force")
	if err != nil {
		g.refuse(w, r, err)
		return
	}
	was, ok := g.subscriptionOf(w, r)
	if !ok {
		return
	}
	var in struct {
		From   string `json:"from"`
		Cursor string `json:"cursor"`
	}
	if !g.readDocument(w, r, &in) {
		return
	}
	start, err := g.resetTo(r.Context(), was, in.From, in.Cursor)
	if err == nil && !force {
		err = g.quiet(r.Context(), was)
	}
	var s catalog.Subscription
	if err == nil {
		s, err = g.editor(r).ResetSubscription(r.Context(), was.ID, start, r.Header.Get("If-Match"))
	}
	if errors.Is(err, catalog.ErrNotFound) {
		err = unknownSubscription(was.ID)
	}
	if err != nil {
		writeProblem(w, r, err)
		return
	}
	g.forget(r.Context(), was)
	w.Header().Set("ETag", s.ETag())
	g.writeStats(w, r, s)
}

// quiet refuses a reset while sessions read.
func (g *Gateway) quiet(ctx context.Context, s catalog.Subscription) error {
	n, err := g.deps.Log.Members(ctx, group.ConsumerGroup(s.ID))
	if err == nil && n > 0 {
		err = newProblem(kindConflict, "the subscription has sessions (replicas that have some: %d): end them, which takes a few seconds to show here, or add force=true, with which they go on from the new place", n)
	}
	return err
}

// resetTo finds the positions that a reset names.
func (g *Gateway) resetTo(ctx context.Context, s catalog.Subscription, from, token string) (map[string]catalog.Position, error) {
	var names []string
	for _, name := range s.Streams {
		if _, ok := g.deps.Catalog.Stream(name); ok {
			names = append(names, name)
		}
	}
	switch {
	case (from == "") == (token == ""):
		return nil, newProblem(kindInvalidBody, `give either {"from":"oldest"}, latest or a time, or {"cursor":"…"}, a cursor of the streams such as …/stats tells`)
	case from != "":
		return g.starts(ctx, names, from)
	}
	c, err := cursor.Parse(token)
	if err != nil {
		return nil, err
	}
	start := make(map[string]catalog.Position, len(names))
	for _, name := range names {
		at, ok := c.For(name)
		if !ok {
			return nil, newProblem(kindInvalidCursor, "the cursor says nothing of stream %q, which the subscription reads: present one of all its streams", name)
		}
		_, info, err := g.streamOf(ctx, name)
		if err != nil {
			return nil, err
		}
		if at.Epoch != cursor.EpochOf(info.Epoch) {
			return nil, newProblem(kindConflict, "stream %q was deleted and made again since the cursor was given: say where to begin with from", name)
		}
		start[name] = catalog.Position{Epoch: info.Epoch.Hex(), Next: append([]int64{}, at.Next...)}
	}
	return start, nil
}

// forgetTime is how long a reset or deletion waits for what was kept to be deleted. What is left does no harm.
const forgetTime = 3 * time.Second

// forget deletes what is kept of a life of a subscription that is over.
func (g *Gateway) forget(ctx context.Context, s catalog.Subscription) {
	if g.deps.Groups == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), forgetTime)
	defer cancel()
	over := group.Subscription{ID: s.ID, Incarnation: s.Incarnation}
	for _, name := range s.Streams {
		if stream, ok := g.deps.Catalog.Stream(name); ok {
			over.Sources = append(over.Sources, group.Source{Stream: fanout.Stream{Name: name, Topic: stream.Topic}})
		}
	}
	if err := g.deps.Groups.Forget(ctx, over); err != nil {
		g.log.Warn("some of what was kept of a subscription's positions is left", "subscription", s.ID, "error", err)
	}
}

// disband deletes the consumer group of a subscription that is gone, once its last members have left it.
func (g *Gateway) disband(ctx context.Context, id string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), forgetTime)
	defer cancel()
	for {
		err := g.deps.Log.DeleteGroup(ctx, group.ConsumerGroup(id))
		if err == nil {
			return
		}
		if !errors.Is(err, broker.ErrInUse) || ctx.Err() != nil {
			g.log.Warn("the consumer group of a subscription is left to expire", "subscription", id, "error", err)
			return
		}
		again := time.NewTimer(disbandEvery)
		select {
		case <-again.C:
		case <-ctx.Done():
		}
		again.Stop()
	}
}

const disbandEvery = 100 * time.Millisecond

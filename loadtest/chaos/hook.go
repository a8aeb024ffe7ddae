package chaos

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/eventissuer/eventissuer/internal/clock"
)

// hook is the endpoint of a subscription with a sink. It takes most of what it is sent at once, some of it late, and
// refuses some.
type hook struct {
	Reader
	name      string
	journal   *Journal
	published func(key string) int // how many events of a key there are
	keys      []string

	server   *http.Server
	listener net.Listener

	mu    sync.Mutex
	rand  *rand.Rand         // guarded by mu
	taken map[string]numbers // by key; guarded by mu
	posts int                // guarded by mu
}

// numbers are those of a key's events that were taken: all below next, and some above.
type numbers struct {
	next  int
	above map[int]bool
}

// take adds a number.
func (n numbers) take(number int) numbers {
	if n.above == nil {
		n.above = map[int]bool{}
	}
	if number >= n.next {
		n.above[number] = true
	}
	for n.above[n.next] {
		delete(n.above, n.next)
		n.next++
	}
	return n
}

const (
	hookTimeout = "2s"
	hookSlow    = 2500 * time.Millisecond // longer than that
	hookGrace   = 5 * time.Second
)

// open has the endpoint listen, and returns its address.
func (h *hook) open(ctx context.Context) (sink string, err error) {
	var config net.ListenConfig
	if h.listener, err = config.Listen(ctx, "tcp", "127.0.0.1:0"); err != nil {
		return "", err
	}
	h.server = &http.Server{Handler: h, ReadHeaderTimeout: hookGrace}
	return "http://" + h.listener.Addr().String() + "/" + h.name, nil
}

func (h *hook) title() string { return h.name }

// run answers until ctx ends.
func (h *hook) run(ctx context.Context) {
	h.journal.Note(Entry{What: WhatReader, Who: h.name, Reader: &h.Reader})
	var serving sync.WaitGroup
	serving.Go(func() {
		if err := h.server.Serve(h.listener); !errors.Is(err, http.ErrServerClosed) {
			h.journal.Note(Entry{What: WhatNote, Who: h.name, Text: err.Error()})
		}
	})
	<-ctx.Done()
	late, cancel := context.WithTimeout(context.WithoutCancel(ctx), hookGrace)
	defer cancel()
	if err := h.server.Shutdown(late); err != nil {
		_ = h.server.Close()
	}
	serving.Wait()
}

// ServeHTTP implements http.Handler.
func (h *hook) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("WebHook-Allowed-Origin", "*")
	if r.Method != http.MethodPost {
		return
	}
	var event arrival
	body, err := io.ReadAll(io.LimitReader(r.Body, largestMessage))
	if err == nil {
		err = json.Unmarshal(body, &event)
	}
	if err != nil {
		w.WriteHeader(http.StatusBadRequest) // cut off on its way: it comes again
		return
	}
	status, late := h.draws()
	e := Entry{What: WhatPosted, Who: h.name, IDs: []string{event.ID}, Flag: status == http.StatusNoContent, Text: cut(event.faithful())}
	h.mu.Lock()
	h.posts++
	e.Link = h.posts
	h.mu.Unlock()
	h.journal.Note(e)
	clock.Pause(r.Context(), late)
	if status == http.StatusNoContent {
		h.journal.Note(Entry{What: WhatDone, Who: h.name, Link: e.Link, IDs: e.IDs})
		key, n := splitID(event.ID)
		h.mu.Lock()
		h.taken[key] = h.taken[key].take(n)
		h.mu.Unlock()
	}
	w.WriteHeader(status)
}

// draws says how a message is answered, and after what time.
func (h *hook) draws() (status int, late time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch draw := h.rand.IntN(200); {
	case draw < 4:
		return http.StatusServiceUnavailable, 0
	case draw < 5:
		return http.StatusNoContent, hookSlow
	case draw < 20:
		return http.StatusNoContent, time.Duration(h.rand.IntN(100)) * time.Millisecond
	}
	return http.StatusNoContent, 0
}

// whole reports whether the endpoint has taken all that was published.
func (h *hook) whole(context.Context, []int64) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, key := range h.keys {
		if h.wants(key) && h.taken[key].next < h.published(key) {
			return false
		}
	}
	return true
}

// push makes the subscription of an endpoint.
func (c *cluster) push(ctx context.Context, name, sink string, ordered bool) error {
	_, err := c.subscribe(ctx, name, sink, map[string]any{
		"from": "oldest", "ordering": ordering(ordered), "timeout": hookTimeout, "onExhausted": "block",
		"retry": map[string]any{"schedule": []string{"1s"}},
	})
	if err != nil {
		return fmt.Errorf("subscribe %s: %w", name, err)
	}
	return nil
}

// hookWitness follows an endpoint.
type hookWitness struct {
	follower
	posted map[string]bool
	done   map[string]bool // it was acknowledged, or was about to be
}

func (h *hookWitness) note(e *Entry) {
	switch e.What {
	case WhatPosted:
		h.sent(e, e.IDs[0])
	case WhatDone:
		h.done[e.IDs[0]] = true
	}
}

// sent takes a message that was read.
func (h *hookWitness) sent(e *Entry, id string) {
	places := h.checker.truth.places[id]
	key, n := splitID(id)
	first := !h.posted[id]
	h.posted[id] = true
	switch before := eventID(key, n-1); {
	case len(places) == 0:
		h.checker.breaks(e, PromiseGenuine, id, "%s was sent, and is not on the log", id)
	case !h.what.wants(key):
		h.checker.breaks(e, PromiseWanted, id, "%s was sent, which the subscription does not want", id)
	case first && h.what.Ordered && n > 0 && !h.done[before] && h.checker.truth.places[before] != nil:
		h.checker.breaks(e, PromiseTurn, id, "%s was sent, and %s was not taken", id, before)
	}
}

func (h *hookWitness) end() {
	for p, all := range h.checker.truth.partitions {
		for _, r := range all {
			if key, _ := splitID(r.id); h.what.wants(key) && !h.done[r.id] {
				h.checker.breaks(&Entry{Who: h.who}, PromisePushed, r.id, "%s at %d/%d was never taken", r.id, p, r.offset)
			}
		}
	}
}

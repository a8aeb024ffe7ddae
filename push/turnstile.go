package push

import "sync"

// turnstile lets a bounded number through at once. Those that find it full wait in a queue, one turn each, so that who asks
// for much does not get more than who asks for little.
type turnstile struct {
	most int

	mu    sync.Mutex
	in    int
	queue []*turn
}

// turn is somebody's place at a turnstile. Its fields are guarded by the turnstile's mu.
type turn struct {
	wake    func() // static: called when it is let through
	waiting bool
	granted bool
}

// enter lets the turn's owner through, or queues it and returns false.
func (t *turnstile) enter(w *turn) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case w.granted:
		w.granted = false
		return true
	case t.in < t.most && len(t.queue) == 0:
		t.in++
		return true
	case !w.waiting:
		w.waiting = true
		t.queue = append(t.queue, w)
	}
	return false
}

// leave gives one place back, to who has waited longest.
func (t *turnstile) leave() {
	t.mu.Lock()
	if len(t.queue) == 0 {
		t.in--
		t.mu.Unlock()
		return
	}
	w := t.queue[0]
	t.queue[0] = nil
	t.queue = t.queue[1:]
	w.waiting, w.granted = false, true
	t.mu.Unlock()
	go w.wake()
}

// decline gives up a place that was kept for the turn's owner, who has nothing to do with it any more.
func (t *turnstile) decline(w *turn) {
	t.mu.Lock()
	granted := w.granted
	w.granted = false
	t.mu.Unlock()
	if granted {
		t.leave()
	}
}

// hosts are the turnstiles of destination hosts.
type hosts struct {
	most int

	mu sync.Mutex
	by map[string]*hostGate // guarded by mu
}

type hostGate struct {
	turnstile
	users int // endpoints; guarded by the hosts' mu
}

// use finds a host's turnstile for an endpoint, until it is dropped.
func (h *hosts) use(name string) *turnstile {
	h.mu.Lock()
	defer h.mu.Unlock()
	g := h.by[name]
	if g == nil {
		g = &hostGate{turnstile: turnstile{most: h.most}}
		h.by[name] = g
	}
	g.users++
	return &g.turnstile
}

func (h *hosts) drop(name string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if g := h.by[name]; g != nil {
		if g.users--; g.users == 0 {
			delete(h.by, name)
		}
	}
}

package gateway

import (
	queue "container/list"
	"crypto/tls"
	"net"
	"net/http"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
)

// connections bounds how many connections are open, so that clients that connect and say nothing keep nobody out and leave
// the process the descriptors that it needs for itself. Over a limit it closes the connection that has waited for a request
// the longest, be it the first one or the next: a client that means to ask something does so at once. Where none waits, and all
// are too many, the newest goes.
type connections struct {
	// static
	most        int        // open at once; 0: no limit
	mostWaiting int        // of these, without a request; 0: no limit
	taken       func() int // connections that sessions took over
	shed        prometheus.Counter

	mu      sync.Mutex
	known   map[net.Conn]*queue.Element // the element is nil while a request is under way; guarded by mu
	waiting queue.List                  // of net.Conn, the longest first; guarded by mu
}

// changed is told by net/http what becomes of a connection.
func (c *connections) changed(conn net.Conn, state http.ConnState) {
	victim := c.follow(conn, state)
	if victim == nil {
		return
	}
	c.shed.Inc()
	if secure, ok := victim.(*tls.Conn); ok {
		victim = secure.NetConn() // to say goodbye over TLS might have to wait for the peer
	}
	_ = victim.Close()
}

// follow keeps account, and gives the connection that is to be closed for the sake of this one.
func (c *connections) follow(conn net.Conn, state http.ConnState) (victim net.Conn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.known == nil {
		c.known = map[net.Conn]*queue.Element{}
	}
	if at := c.known[conn]; at != nil {
		c.waiting.Remove(at)
		c.known[conn] = nil
	}
	switch state {
	case http.StateNew, http.StateIdle:
		c.known[conn] = c.waiting.PushBack(conn)
	case http.StateActive:
		c.known[conn] = nil
		return nil
	case http.StateHijacked, http.StateClosed:
		delete(c.known, conn)
		return nil
	}
	if c.mostWaiting > 0 && c.waiting.Len() > c.mostWaiting || c.most > 0 && len(c.known)+c.taken() > c.most {
		return c.evict()
	}
	return nil
}

// evict takes off the list the connection that has waited the longest, and whose silence is its own: where what it sent lies
// unread it is this process that is behind, as when thousands come back at once, and with the eldest all are spared for now.
// Only the limit of all closes such a one. The caller holds mu. What is known of the connection goes when net/http tells that
// it is closed.
func (c *connections) evict() net.Conn {
	for e, looked := c.waiting.Front(), 0; e != nil && looked < lookMost; e, looked = e.Next(), looked+1 {
		if unread(e.Value.(net.Conn)) == 0 {
			return c.drop(e)
		}
	}
	if c.most > 0 && len(c.known)+c.taken() > c.most {
		return c.drop(c.waiting.Front())
	}
	return nil
}

// lookMost is how many connections are looked at, under the lock, for one that says nothing.
const lookMost = 16

func (c *connections) drop(e *queue.Element) net.Conn {
	if e == nil {
		return nil
	}
	conn := c.waiting.Remove(e).(net.Conn)
	delete(c.known, conn)
	return conn
}

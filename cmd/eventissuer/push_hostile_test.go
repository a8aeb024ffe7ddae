package main_test

import (
	"bufio"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/eventissuer/eventissuer/internal/testenv"
)

// Endpoints that consent, and then do the worst they can think of, have their subscriptions fail with a reason that says
// what they did. The server's memory stays bounded meanwhile, an endpoint beside them is sent every event, and when the
// subscriptions are gone nothing of them is left.
func TestHostileEndpointsFailWithTheirReasonAndCostOthersNothing(t *testing.T) {
	certFile, keyFile := testenv.Certificate(t, t.TempDir())
	t.Setenv("SSL_CERT_FILE", certFile) // the server inherits it
	v := startServer(t, embedded(t), "--allow-loopback-sinks")
	define(t, 3, v)
	good := newGood(t)
	good.id = pushTo(t, v, "good", "http://"+good.addr, map[string]any{"ordering": "key"})
	villains := villains(t, certFile, keyFile)
	if n := len(villains); leastAttempts*n <= goroutineSlack || n <= socketSlack {
		t.Fatalf("%d villains leave no more than what may come without them", n)
	}

	p := publish(t, 2, 12, 5*time.Millisecond, "", v)
	p.more(t, 20)
	good.catchesUp(t, p)
	v.client.CloseIdleConnections()
	goroutines, sockets := v.metric(t, "go_goroutines"), v.sockets(t)
	memory := v.metric(t, "process_resident_memory_bytes")

	ids := map[string]string{}
	for name, x := range villains {
		ids[name] = pushTo(t, v, strings.ReplaceAll(name, " ", "-"), x.sink(), map[string]any{
			"ordering": "none", "timeout": "1s", "concurrency": 4, "retry": map[string]any{"schedule": []string{"1s"}},
		})
	}
	haveConsented(t, v, ids)
	for _, x := range villains {
		x.turn(t)
	}
	for name, x := range villains {
		last := fails(t, v, name, ids[name], x.reason)
		eventually(t, "the attempts at "+name+" say so too", func() bool {
			all := attemptsOf(t, v, ids[name])
			return len(all) > 0 && !slices.ContainsFunc(all, func(a pushAttempt) bool {
				return a.State != "failed" || !strings.Contains(a.Reason, x.reason) || a.Event == "" || a.Message == ""
			})
		})
		t.Logf("%s: %s", name, last.Reason)
	}
	most := 0.0
	before := p.acked.Load()
	eventually(t, "more is published", func() bool {
		most = max(most, v.metric(t, "process_resident_memory_bytes"))
		return p.acked.Load() > before+1000
	})
	p.finish()
	good.catchesUp(t, p)
	if grown := most - memory; grown > 150<<20 {
		t.Errorf("%d hostile endpoints cost %v bytes of memory", len(villains), grown)
	}

	for _, id := range ids {
		v.call(t, http.StatusNoContent, http.MethodDelete, "/v1/subscriptions/"+id, nil)
	}
	eventually(t, "nothing is left of the hostile endpoints", func() bool {
		v.client.CloseIdleConnections()
		return v.metric(t, "go_goroutines") <= goroutines+goroutineSlack && v.sockets(t) <= sockets+socketSlack
	})
	t.Logf("%v goroutines and %d sockets before, %v and %d after; %v MiB of memory before, %v at most",
		goroutines, sockets, v.metric(t, "go_goroutines"), v.sockets(t), int(memory)>>20, int(most)>>20)
}

// What may have come meanwhile: the storage has a goroutine for each partition of the topics of attempts and of dead
// letters that something was written to, 24 in all, and a few connections more. An attempt that left something behind
// would show: of each villain there are leastAttempts. So would an endpoint that left a connection.
const (
	goroutineSlack = 60
	socketSlack    = 16
	leastAttempts  = 5 // which is when a subscription is said to fail
)

// sockets is how many the server has open.
func (v *server) sockets(t *testing.T) (n int) {
	t.Helper()
	folder := filepath.Join("/proc", strconv.Itoa(v.Pid()), "fd")
	files, err := os.ReadDir(folder)
	if err != nil {
		t.Skipf("open files can be counted on Linux alone: %v", err)
	}
	for _, f := range files {
		if to, err := os.Readlink(filepath.Join(folder, f.Name())); err == nil && strings.HasPrefix(to, "socket:") {
			n++
		}
	}
	return n
}

// A server that is told to stop while endpoints keep it waiting does not wait for them.
func TestServerStopsThoughEndpointsHang(t *testing.T) {
	v := startServer(t, embedded(t), "--allow-loopback-sinks", "--drain-timeout", "3s")
	define(t, 1, v)
	x := newVillain(t, "", nil, func(c net.Conn, x *villain) { <-x.over })
	id := pushTo(t, v, "hangs", x.sink(), map[string]any{"timeout": "60s"})
	eventually(t, "it has consented", func() bool { return statusOf(t, v, id).State == "active" })
	x.turn(t)
	p := publish(t, 1, 1, 0, "", v)
	p.more(t, 10)
	p.finish()
	eventually(t, "it is sent something", func() bool { return x.posts.Load() > 0 })
	v.sigterm(t, 15*time.Second)
}

type pushStatus struct{ State, Reason string }

func statusOf(t *testing.T, v *server, id string) pushStatus {
	t.Helper()
	var s struct{ Status pushStatus }
	if err := json.Unmarshal(v.call(t, http.StatusOK, http.MethodGet, "/v1/subscriptions/"+id, nil), &s); err != nil {
		t.Fatal(err)
	}
	return s.Status
}

// haveConsented waits until the endpoints of subscriptions, by name, have consented.
func haveConsented(t *testing.T, v *server, ids map[string]string) {
	t.Helper()
	for name, id := range ids {
		eventually(t, name+" has consented", func() bool { return statusOf(t, v, id).State == "active" })
	}
}

// fails waits until a subscription is said to fail, and holds its reason to what is to be in it.
func fails(t *testing.T, v *server, name, id, reason string) (last pushStatus) {
	t.Helper()
	eventually(t, name+" fails", func() bool {
		last = statusOf(t, v, id)
		return last.State == "failing"
	})
	if !strings.Contains(last.Reason, reason) {
		t.Errorf("%s: it fails with %q, want %q in it", name, last.Reason, reason)
	}
	return last
}

type pushAttempt struct{ State, Reason, Event, Message string }

// attemptsOf are the newest attempts of a subscription.
func attemptsOf(t *testing.T, v *server, id string) []pushAttempt {
	t.Helper()
	var page struct{ Items []pushAttempt }
	if err := json.Unmarshal(v.call(t, http.StatusOK, http.MethodGet, "/v1/subscriptions/"+id+"/attempts?limit=10", nil), &page); err != nil {
		t.Fatal(err)
	}
	return page.Items
}

// pushTo makes a subscription with a sink.
func pushTo(t *testing.T, v *server, name, sink string, config map[string]any) (id string) {
	t.Helper()
	out := v.call(t, http.StatusCreated, http.MethodPost, "/v1/subscriptions", map[string]any{
		"name": name, "streams": []string{theStream}, "sink": sink, "config": config,
	})
	var made struct{ ID string }
	if err := json.Unmarshal(out, &made); err != nil || made.ID == "" {
		t.Fatalf("a new subscription is %s (%v), expected an id in it", out, err)
	}
	return made.ID
}

// good is an endpoint as it should be.
type good struct {
	addr, id string

	mu  sync.Mutex
	had map[string]bool // ids of events; guarded by mu
}

func newGood(t *testing.T) *good {
	t.Helper()
	g := &good{addr: freeAddress(t), had: map[string]bool{}}
	d := &door{addr: g.addr, handler: g}
	if err := d.open(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.shut(); err != nil {
			t.Error(err)
		}
	})
	return g
}

func freeAddress(t *testing.T) string {
	t.Helper()
	return net.JoinHostPort("127.0.0.1", fmt.Sprint(testenv.FreePort(t)))
}

// ServeHTTP implements http.Handler.
func (g *good) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("WebHook-Allowed-Origin", "*")
	var e struct{ ID string }
	if r.Method == http.MethodPost && json.NewDecoder(r.Body).Decode(&e) == nil {
		g.mu.Lock()
		g.had[e.ID] = true
		g.mu.Unlock()
	}
}

// catchesUp waits until the endpoint has had all that was acknowledged: its subscription was there before.
func (g *good) catchesUp(t *testing.T, p *publisher) {
	t.Helper()
	eventually(t, "the good endpoint is sent everything", func() bool {
		p.mu.Lock()
		defer p.mu.Unlock()
		g.mu.Lock()
		defer g.mu.Unlock()
		for _, id := range p.acks {
			if !g.had[id] {
				return false
			}
		}
		return len(p.acks) > 0
	})
}

// villain is an endpoint that consents, and once it is turned does something else with every POST.
type villain struct {
	reason string // what the subscription is to say
	scheme string
	addr   string
	play   func(c net.Conn, x *villain)
	more   func(t *testing.T) // what is done beside when it is turned; nil: nothing

	listener net.Listener
	conns    sync.WaitGroup
	over     chan struct{} // closed at the end
	turned   atomic.Bool
	posts    atomic.Int64
	deaf     bool        // once it is turned it does not read first
	bad      *tls.Config // how it speaks once it is turned; nil: as before
}

func (x *villain) sink() string { return x.scheme + "://" + x.addr + "/hook" }

func (x *villain) turn(t *testing.T) {
	t.Helper()
	x.turned.Store(true)
	if x.more != nil {
		x.more(t)
	}
}

// newVillain starts one. With certificate it speaks TLS.
func newVillain(t *testing.T, reason string, secure *tls.Config, play func(c net.Conn, x *villain)) *villain {
	t.Helper()
	l, err := net.Listen("tcp", freeAddress(t))
	if err != nil {
		t.Fatal(err)
	}
	x := &villain{reason: reason, scheme: "http", addr: l.Addr().String(), play: play, listener: l, over: make(chan struct{})}
	if secure != nil {
		x.scheme = "https"
	}
	x.conns.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			x.conns.Go(func() { x.serve(c, secure) })
		}
	})
	t.Cleanup(func() {
		close(x.over)
		_ = l.Close() // it may be closed already: that is what one does
		x.conns.Wait()
	})
	return x
}

// serve answers OPTIONS as a server that consents, and POST by the play.
func (x *villain) serve(raw net.Conn, secure *tls.Config) {
	done := make(chan struct{})
	defer close(done)
	x.conns.Go(func() { // the end of the test ends every read and write
		select {
		case <-x.over:
		case <-done:
		}
		_ = raw.Close()
	})
	c := raw
	if x.turned.Load() && x.deaf { // in this order: what a villain is like is settled when it is turned
		x.play(c, x)
		return
	}
	if secure != nil {
		if x.turned.Load() && x.bad == nil {
			x.play(raw, x)
			return
		}
		if x.turned.Load() {
			secure = x.bad
		}
		c = tls.Server(raw, secure)
	}
	r, err := http.ReadRequest(bufio.NewReader(c))
	if err != nil {
		return
	}
	if _, err := io.Copy(io.Discard, r.Body); err != nil {
		return
	}
	if r.Method == http.MethodPost && x.turned.Load() && secure == nil {
		x.posts.Add(1)
		x.play(c, x)
		return
	}
	// It closes, so that what comes once it is turned comes over a new connection.
	_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nWebHook-Allowed-Origin: *\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
}

// says writes something and ends the connection.
func says(text string) func(net.Conn, *villain) {
	return func(c net.Conn, _ *villain) { _, _ = io.WriteString(c, text) }
}

// floods writes something over and over, as long as it is taken.
func floods(head, over string) func(net.Conn, *villain) {
	over = strings.Repeat(over, 1+(32<<10)/len(over))
	return func(c net.Conn, _ *villain) {
		_, err := io.WriteString(c, head)
		for err == nil {
			_, err = io.WriteString(c, over)
		}
	}
}

// drips writes a byte a second.
func drips(head, over string) func(net.Conn, *villain) {
	return func(c net.Conn, x *villain) {
		tick := time.NewTicker(time.Second)
		defer tick.Stop()
		_, err := io.WriteString(c, head)
		for i := 0; err == nil; i++ {
			select {
			case <-tick.C:
				_, err = c.Write([]byte{over[i%len(over)]})
			case <-x.over:
				return
			}
		}
	}
}

// resets ends the connection so that the peer is told of an error.
func resets(head string) func(net.Conn, *villain) {
	return func(c net.Conn, _ *villain) {
		_, _ = io.WriteString(c, head)
		_ = c.(*net.TCPConn).SetLinger(0)
	}
}

const (
	tooLate  = "in time"
	tooLarge = "are larger than 64 KiB"
	noHTTP   = "is no HTTP that could be read"
	noAnswer = "ended the connection without an answer"
)

// villains are all kinds of them, by what they do.
func villains(t *testing.T, certFile, keyFile string) map[string]*villain {
	t.Helper()
	all := map[string]*villain{}
	for name, x := range map[string]struct {
		play   func(net.Conn, *villain)
		reason string
	}{
		"says nothing":            {func(_ net.Conn, x *villain) { <-x.over }, tooLate},
		"drips its status line":   {drips("HTTP/1.1 200 ", "O"), tooLate},
		"drips its headers":       {drips("HTTP/1.1 200 OK\r\n", "a: b\r\n"), tooLate},
		"fails and drips":         {drips("HTTP/1.1 500 No\r\nTransfer-Encoding: chunked\r\n\r\n", "1\r\na\r\n"), "answered 500"},
		"fails without end":       {floods("HTTP/1.1 503 No\r\n\r\n", "why not "), "answered 503"},
		"fails in endless chunks": {floods("HTTP/1.1 502 No\r\nTransfer-Encoding: chunked\r\n\r\n", "1\r\na\r\n"), "answered 502"},
		"resets":                  {resets(""), noAnswer},
		"resets in its headers":   {resets("HTTP/1.1 200 OK\r\nA: "), noAnswer},
		"resets in its body":      {resets("HTTP/1.1 500 No\r\nContent-Length: 10\r\n\r\na"), "answered 500"},
		"closes":                  {says(""), noAnswer},
		"closes in its headers":   {says("HTTP/1.1 200 OK\r\n"), noAnswer},
		"says two lengths":        {says("HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab"), noHTTP},
		"says a length below 0":   {says("HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\nab"), noHTTP},
		"fails and says too long": {says("HTTP/1.1 500 No\r\nContent-Length: 100\r\n\r\nab"), "answered 500"},
		"goes on for ever":        {floods("", "HTTP/1.1 100 Continue\r\n\r\n"), tooLarge},
		"hints for ever":          {floods("", "HTTP/1.1 103 Early Hints\r\nLink: <a>\r\n\r\n"), tooLarge},
		"has large headers":       {says("HTTP/1.1 200 OK\r\n" + strings.Repeat("A: "+strings.Repeat("b", 1021)+"\r\n", 10<<10) + "\r\n"), tooLarge},
		"has one large header":    {floods("HTTP/1.1 200 OK\r\nA: ", "b"), tooLarge},
		"speaks something else":   {says("220 mail.example.org ESMTP\r\n"), noHTTP},
		"switches protocols":      {floods("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n", "a"), "switched to another protocol"},
		"sends elsewhere":         {says("HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1/\r\nContent-Length: 0\r\n\r\n"), "redirects are not followed"},
	} {
		all[name] = newVillain(t, x.reason, nil, x.play)
	}

	shut := newVillain(t, "refuses connections", nil, says(""))
	shut.more = func(*testing.T) { _ = shut.listener.Close() }
	all["refuses"] = shut

	pair, err := tls.LoadX509KeyPair(certFile, keyFile)
	if err != nil {
		t.Fatal(err)
	}
	strange, err := tls.LoadX509KeyPair(testenv.Certificate(t, t.TempDir()))
	if err != nil {
		t.Fatal(err)
	}
	secure := func(pair tls.Certificate) *tls.Config { return &tls.Config{Certificates: []tls.Certificate{pair}} }
	all["speaks no TLS"] = newVillain(t, "no TLS", secure(pair), floods("", "HTTP/1.1 200 OK\r\n\r\n"))
	all["closes in the handshake"] = newVillain(t, "closed during the handshake", secure(pair), func(c net.Conn, _ *villain) { _, _ = c.Read(make([]byte, 1)) })
	all["hangs in the handshake"] = newVillain(t, tooLate, secure(pair), func(_ net.Conn, x *villain) { <-x.over })
	other := newVillain(t, "unknown authority", secure(pair), nil)
	other.bad = secure(strange)
	all["has another certificate"] = other

	for name, x := range map[string]struct {
		play   func(net.Conn, *villain)
		reason string
	}{
		"reads nothing":          {func(_ net.Conn, x *villain) { <-x.over }, tooLate},
		"closes before it reads": {says(""), noAnswer},
	} {
		all[name] = newVillain(t, x.reason, nil, x.play)
		all[name].deaf = true
	}
	return all
}

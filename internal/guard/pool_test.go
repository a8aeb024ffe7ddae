package guard

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/eventissuer/eventissuer/internal/webhook"
)

// countingServer counts the connections that it was opened, and those that are open.
func countingServer(t testing.TB, h http.HandlerFunc) (s *httptest.Server, opened, open *atomic.Int64, closed <-chan struct{}) {
	t.Helper()
	opened, open = new(atomic.Int64), new(atomic.Int64)
	signal := make(chan struct{}, 10_000)
	s = httptest.NewUnstartedServer(h)
	s.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		switch state {
		case http.StateNew:
			opened.Add(1)
			open.Add(1)
		case http.StateClosed:
			open.Add(-1)
			signal <- struct{}{}
		}
	}
	s.Start()
	t.Cleanup(s.Close)
	return s, opened, open, signal
}

func noContent(w http.ResponseWriter, r *http.Request) {
	_, _ = io.Copy(io.Discard, r.Body)
	w.WriteHeader(http.StatusNoContent)
}

func TestConnectionsAreKeptAndNotShared(t *testing.T) {
	s, opened, _, _ := countingServer(t, noContent)
	g := newGuard(t, Config{AllowLoopback: true})
	for n := range int64(3) {
		client := newClient(t, g, webhook.Credential{})
		for range 5 {
			if _, err := client.Do(t.Context(), Request{URL: s.URL, Body: []byte("{}")}); err != nil {
				t.Fatal(err)
			}
		}
		if opened.Load() != n+1 {
			t.Errorf("%d clients opened %d connections", n+1, opened.Load())
		}
	}
}

func TestTheConnectionUnusedForLongestGivesWay(t *testing.T) {
	s, opened, open, closed := countingServer(t, noContent)
	g := newGuard(t, Config{AllowLoopback: true, MaxIdle: 3})
	clients := make([]*Client, 5)
	do := func(i int) {
		t.Helper()
		if clients[i] == nil {
			clients[i] = newClient(t, g, webhook.Credential{})
		}
		if _, err := clients[i].Do(t.Context(), Request{URL: s.URL}); err != nil {
			t.Fatal(err)
		}
	}
	for _, i := range []int{0, 1, 2, 0, 3, 4} { // 1, then 2, give way
		do(i)
	}
	<-closed
	<-closed
	if opened.Load() != 5 || open.Load() != 3 {
		t.Errorf("%d connections were opened, %d are open", opened.Load(), open.Load())
	}
	for _, i := range []int{0, 3, 4} {
		do(i)
	}
	if opened.Load() != 5 {
		t.Errorf("another one gave way than that unused for longest: %d were opened", opened.Load())
	}
	do(1)
	if opened.Load() != 6 {
		t.Errorf("a client whose connection gave way has it still: %d were opened", opened.Load())
	}
	if n := len(g.open); n > 4 {
		t.Errorf("%d connections are counted", n)
	}
}

func TestABrokenIdleConnectionIsReplacedUnnoticed(t *testing.T) {
	s, _, open, closed := countingServer(t, noContent)
	client := newClient(t, newGuard(t, Config{AllowLoopback: true}), webhook.Credential{})
	for range 20 {
		if _, err := client.Do(t.Context(), Request{URL: s.URL, Body: []byte("{}")}); err != nil {
			t.Fatal(err)
		}
		s.CloseClientConnections() // which waits until they are closed
	}
	for range 20 {
		<-closed
	}
	if open.Load() != 0 {
		t.Errorf("%d connections are open", open.Load())
	}
}

func TestAClosedClientEndsWhatIsUnderWayAndTakesNoMore(t *testing.T) {
	entered, leave := make(chan struct{}), make(chan struct{})
	s, _, open, closed := countingServer(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/slow" {
			entered <- struct{}{}
			<-leave
		}
		noContent(w, r)
	})
	client := newClient(t, newGuard(t, Config{AllowLoopback: true}), webhook.Credential{})
	if _, err := client.Do(t.Context(), Request{URL: s.URL}); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		if resp, err := client.Do(t.Context(), Request{URL: s.URL + "/slow"}); err != nil || resp.Status != 204 {
			t.Errorf("%+v, %v", resp, err)
		}
	})
	<-entered
	client.Close()
	if _, err := client.Do(t.Context(), Request{URL: s.URL}); !errors.Is(err, ErrClosed) {
		t.Error(err)
	}
	close(leave)
	wg.Wait()
	<-closed
	if open.Load() != 0 {
		t.Errorf("%d connections are open", open.Load())
	}
}

func TestClosingTheGuardEndsEverything(t *testing.T) {
	entered := make(chan struct{}, 1)
	s, _, _, closed := countingServer(t, func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		entered <- struct{}{}
		<-r.Context().Done()
	})
	lookups := make(chan struct{})
	g := newGuard(t, Config{AllowLoopback: true, Resolver: stuck(lookups)})
	client := newClient(t, g, webhook.Credential{})
	var wg sync.WaitGroup
	wg.Go(func() {
		if _, err := client.Do(t.Context(), Request{URL: s.URL}); kindOf(err) != Reset {
			t.Errorf("under way: %v", err)
		}
	})
	wg.Go(func() {
		if _, err := client.Do(t.Context(), Request{URL: "https://stuck.example"}); err == nil {
			t.Error("a name that is not found was connected to")
		}
	})
	<-entered
	<-lookups
	g.Close()
	wg.Wait()
	<-closed
	if _, err := client.Do(t.Context(), Request{URL: s.URL}); !errors.Is(err, ErrClosed) {
		t.Error(err)
	}
	if len(g.open) != 0 || len(g.cancels) != 0 || g.idle != 0 {
		t.Errorf("%d connections, %d dials and %d idle are left", len(g.open), len(g.cancels), g.idle)
	}
}

func TestARequestWithoutADeadlineIsGivenOne(t *testing.T) {
	s := plainServer(t, func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		<-r.Context().Done()
	})
	r := prometheus.NewPedanticRegistry()
	g := newGuard(t, Config{AllowLoopback: true, Timeout: 50 * time.Millisecond, Metrics: r})
	if _, err := newClient(t, g, webhook.Credential{}).Do(context.WithoutCancel(t.Context()), Request{URL: s.URL}); kindOf(err) != Timeout {
		t.Error(err)
	}
	if got := testutil.ToFloat64(g.metrics.failures[Timeout]); got != 1 {
		t.Errorf("%v time-outs were counted", got)
	}
	if problems, err := testutil.GatherAndLint(r); err != nil || len(problems) != 0 {
		t.Errorf("%v, %v", problems, err)
	}
}

// Requests, closes and evictions at once leave nothing behind and miscount nothing.
func TestClientsInUseByManyAreCountedRight(t *testing.T) {
	s, _, _, _ := countingServer(t, noContent)
	g := newGuard(t, Config{AllowLoopback: true, MaxIdle: 4, MaxIdlePerHost: 2})
	var wg sync.WaitGroup
	for n := range 16 {
		wg.Go(func() {
			client, err := g.Client("owner", webhook.Credential{})
			if err != nil {
				t.Error(err)
				return
			}
			for i := range 30 {
				ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
				if i%10 == n%10 {
					cancel()
				}
				if _, err := client.Do(ctx, Request{URL: s.URL, Body: []byte("{}")}); err != nil && kindOf(err) != Canceled {
					t.Error(err)
				}
				cancel()
			}
			if n%2 == 0 {
				client.Close()
			}
		})
	}
	wg.Wait()
	g.mu.Lock()
	idle := g.idle
	g.mu.Unlock()
	if idle < 0 || idle > 4 {
		t.Errorf("%d are counted as idle", idle)
	}
	g.Close()
	if g.idle != 0 || g.unused.oldest() != nil {
		t.Errorf("%d are counted as idle after the close", g.idle)
	}
}

// An idle client costs less than a kilobyte: there are as many as subscriptions.
func TestAnIdleClientIsSmall(t *testing.T) {
	s, _, _, closed := countingServer(t, noContent)
	g := newGuard(t, Config{AllowLoopback: true, MaxIdle: 1})
	const n = 2000
	measure := func(use bool) uint64 {
		heap := func() uint64 {
			for range 3 {
				runtime.GC()
			}
			var m runtime.MemStats
			runtime.ReadMemStats(&m)
			return m.HeapAlloc
		}
		clients := make([]*Client, n)
		before := heap()
		for i := range clients {
			var err error
			if clients[i], err = g.Client("owner", webhook.Credential{Type: webhook.Plain, Identifier: "name", Secret: "a secret of some length"}); err != nil {
				t.Fatal(err)
			}
			if use {
				if _, err := clients[i].Do(t.Context(), Request{URL: s.URL}); err != nil {
					t.Fatal(err)
				}
				if i > 0 {
					<-closed // that of the one before
				}
			}
		}
		after := heap()
		runtime.KeepAlive(clients)
		return (max(after, before) - before) / n
	}
	for use, bound := range map[bool]uint64{false: 500, true: 1000} {
		got := measure(use)
		t.Logf("%d bytes a client, used: %v", got, use)
		if got > bound {
			t.Errorf("%d bytes a client, used: %v", got, use)
		}
	}
}

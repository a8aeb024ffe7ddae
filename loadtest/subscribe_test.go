package loadtest_test

import (
	"context"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/eventissuer/eventissuer/loadtest"
)

// contextUntil is the request's context, ended early by a channel.
func contextUntil(r *http.Request, ended <-chan struct{}) (context.Context, func()) {
	ctx, cancel := context.WithCancel(r.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		select {
		case <-ended:
			cancel()
		case <-ctx.Done():
		}
	}()
	return ctx, func() { cancel(); <-done }
}

// clients are all clients of this system, each with the path that it reads.
func clients() map[string]string {
	m := map[string]string{loadtest.ClientGoroutine: "/sub", loadtest.ClientR3labs: "/sub", loadtest.ClientWebSocket: "/ws"}
	if runtime.GOOS == "linux" {
		m[loadtest.ClientEpoll] = "/sub"
	}
	return m
}

func config(f *feed, client, path string) loadtest.SubscribeConfig {
	c := loadtest.SubscribeConfig{
		URL: f.URL + path, Client: client, Connections: 5, Settle: time.Millisecond, Duration: 500 * time.Millisecond, Linger: 300 * time.Millisecond,
		Publish: &loadtest.PublishConfig{URL: f.URL + "/pub", Rate: 200, Publishers: 1},
	}
	if client == loadtest.ClientWebSocket {
		c.Subprotocol = "eventissuer.v1"
	}
	return c
}

func subscribe(t *testing.T, c loadtest.SubscribeConfig) *loadtest.Report {
	t.Helper()
	r, err := loadtest.Subscribe(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	if testing.Verbose() {
		_ = r.WriteText(os.Stderr)
	}
	return r
}

func TestFaultlessServerHasNothingLostDoubledOrDisordered(t *testing.T) {
	for client, path := range clients() {
		for name, set := range map[string]func(*feed){
			"chunked":         nil,
			"close-delimited": func(f *feed) { f.plain = true },
			"crlf":            func(f *feed) { f.eol = "\r\n" },
		} {
			if path == "/ws" && name != "chunked" {
				continue
			}
			t.Run(client+" "+name, func(t *testing.T) {
				f := newFeed(t, set)
				r := subscribe(t, config(f, client, path))
				d := r.Delivered
				if d.Lost+d.Duplicates+d.Disordered+d.Unexpected+d.Foreign != 0 {
					t.Errorf("faults found where there are none: %+v", d)
				}
				if r.Published.Events < 50 || d.Events != 5*r.Published.Events || d.Expected != d.Events {
					t.Errorf("published %d, delivered %d of %d expected, want five times what was published", r.Published.Events, d.Events, d.Expected)
				}
				if r.Connections.Live != 5 || r.Connections.Reconnects != 0 || r.Latency == nil || d.Bytes < 5*390*r.Published.Events {
					t.Errorf("connections %+v, latency %v, bytes %d", r.Connections, r.Latency, d.Bytes)
				}
			})
		}
	}
}

func TestLossesDuplicatesAndDisorderAreFoundByContent(t *testing.T) {
	for client, path := range clients() {
		t.Run(client, func(t *testing.T) {
			var held string
			f := newFeed(t, func(f *feed) {
				f.fault = func(n int, text string) []string {
					switch {
					case n == 10 || n == 20 || n == 21: // lost
						return nil
					case n == 30: // doubled
						return []string{text, text}
					case n == 40: // comes after 41
						held = text
						return nil
					case n == 41:
						return []string{text, held}
					}
					return []string{text}
				}
			})
			r := subscribe(t, config(f, client, path))
			if d := r.Delivered; d.Lost != 3*5 || d.Duplicates != 5 || d.Disordered != 5 || d.Events != d.Expected-15 {
				t.Errorf("lost %d duplicates %d disordered %d, want 15, 5 and 5; events %d of %d", d.Lost, d.Duplicates, d.Disordered, d.Events, d.Expected)
			}
		})
	}
}

func TestLatencyIsFromPublishingToArrival(t *testing.T) {
	const delay = 40 * time.Millisecond
	for client, path := range clients() {
		t.Run(client, func(t *testing.T) {
			f := newFeed(t, func(f *feed) { f.delay = delay })
			c := config(f, client, path)
			c.Publish.Rate = 20
			q := subscribe(t, c).Latency
			if q == nil || q.P50 < 40 || q.P50 > 150 {
				t.Errorf("latency %v, want a little over %s", q, delay)
			}
		})
	}
}

func TestStormedReadersComeBackWithTheirCursorsAndLoseNothing(t *testing.T) {
	for client, path := range clients() {
		t.Run(client, func(t *testing.T) {
			f := newFeed(t, nil)
			c := config(f, client, path)
			c.Storms, c.Connections = 2, 20
			r := subscribe(t, c)
			if d := r.Delivered; d.Lost != 0 || d.Disordered != 0 || d.Events != d.Expected {
				t.Errorf("after storms: %+v", d)
			}
			if len(r.Storms) != 2 || r.Storms[0].Timeout || r.Connections.Reconnects != 40 || r.Comeback.Head.Count != 40 || r.Comeback.Event.Count < 20 {
				t.Errorf("storms %+v, connections %+v, comeback %+v", r.Storms, r.Connections, r.Comeback)
			}
			f.mu.Lock()
			defer f.mu.Unlock()
			if f.opened != 60 || f.resumed != 40 {
				t.Errorf("%d connections were opened, %d with a cursor; want 60 and 40", f.opened, f.resumed)
			}
		})
	}
}

func TestReadersComeBackAfterTheServerClosesThem(t *testing.T) {
	for client, path := range clients() {
		t.Run(client, func(t *testing.T) {
			f := newFeed(t, nil)
			c := config(f, client, path)
			cut := time.AfterFunc(250*time.Millisecond, f.cut)
			defer cut.Stop()
			c.Duration = 1500 * time.Millisecond
			r := subscribe(t, c)
			if d := r.Delivered; d.Lost != 0 || r.Connections.Reconnects < 5 {
				t.Errorf("lost %d, %d reconnects, want none lost and all back", d.Lost, r.Connections.Reconnects)
			}
		})
	}
}

func TestFiltersOfAConnectionHoldItToItsOwnLane(t *testing.T) {
	f := newFeed(t, nil) // which filters nothing
	c := config(f, loadtest.ClientGoroutine, "/sub")
	c.Query = []string{"subject=/train/{lane}"}
	c.Publish.Lanes, c.Publish.Subject = 3, "/train/{lane}"
	r := subscribe(t, c)
	if d := r.Delivered; d.Unexpected == 0 || d.Lost != 0 || d.Unexpected+d.Events != 5*r.Published.Events {
		t.Errorf("unexpected %d, lost %d, events %d; want every event of another lane unexpected", d.Unexpected, d.Lost, d.Events)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.paths["/sub?subject=%2Ftrain%2F0"] != 2 || f.paths["/sub?subject=%2Ftrain%2F2"] != 1 {
		t.Errorf("asked for %v", f.paths)
	}
	if !strings.Contains(f.bodies[1], `"subject":"/train/1"`) {
		t.Errorf("second event %s, want the subject of lane 1", f.bodies[1])
	}
}

func TestWhatThePublisherCouldNotPublishIsNoLoss(t *testing.T) {
	f := newFeed(t, func(f *feed) {
		f.refuse = func(n int) int {
			if n%10 == 3 {
				return http.StatusServiceUnavailable
			}
			return 0
		}
	})
	r := subscribe(t, config(f, loadtest.ClientGoroutine, "/sub"))
	if r.Published.Failed == 0 || r.Published.Answers[503] != r.Published.Failed || r.Delivered.Lost != 0 {
		t.Errorf("published %+v, lost %d", r.Published, r.Delivered.Lost)
	}
}

func TestAStreamThatIsNotThereIsSaid(t *testing.T) {
	for client := range clients() {
		f := newFeed(t, nil)
		c := config(f, client, "/gone")
		if _, err := loadtest.Subscribe(t.Context(), c); err == nil || !strings.Contains(err.Error(), "404") {
			t.Errorf("%s: %v, want the status that the server answered", client, err)
		}
	}
}

func TestInterruptedRunReportsWhatWasUntilThen(t *testing.T) {
	for client, path := range clients() {
		f := newFeed(t, nil)
		c := config(f, client, path)
		c.Duration = time.Hour
		ctx, stop := context.WithTimeout(t.Context(), 400*time.Millisecond)
		defer stop()
		r, err := loadtest.Subscribe(ctx, c)
		if err != nil || r.Interrupted == "" || r.Delivered.Events == 0 || r.Latency == nil {
			t.Errorf("%s: %v, %+v", client, err, r)
		}
	}
}

func TestEventsOfAnotherProcessAreAccountedForFromTheFirstSeen(t *testing.T) {
	f := newFeed(t, func(f *feed) {
		f.fault = func(n int, text string) []string {
			if n == 50 {
				return nil
			}
			return []string{text}
		}
	})
	ctx, stop := context.WithCancel(t.Context())
	published := make(chan error, 1)
	go func() {
		_, err := loadtest.Publish(ctx, loadtest.PublishRunConfig{
			Run: "shared", Duration: time.Hour, Publish: loadtest.PublishConfig{URL: f.URL + "/pub", Rate: 100},
		})
		published <- err
	}()
	c := config(f, loadtest.ClientGoroutine, "/sub")
	c.Run, c.Publish, c.Duration = "shared", nil, time.Second
	r := subscribe(t, c)
	stop()
	if err := <-published; err != nil {
		t.Fatal(err)
	}
	if d := r.Delivered; d.Lost != 5 || d.Events == 0 || r.Latency == nil {
		t.Errorf("%+v, want one lost by each of five", d)
	}
}

func TestCommandAsPublisherGetsOneEventALine(t *testing.T) {
	f := newFeed(t, nil)
	out := filepath.Join(t.TempDir(), "events")
	c := config(f, loadtest.ClientGoroutine, "/sub")
	c.Publish = &loadtest.PublishConfig{Command: "cat > " + out, Rate: 100, Body: "m={mark}&n={seq}"}
	r := subscribe(t, c)
	got, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(string(got)), "\n")
	if uint64(len(lines)) != r.Published.Events || !strings.HasPrefix(lines[0], "m=~lt:"+r.Run+":0:0:") || !strings.HasSuffix(lines[2], "&n=2") {
		t.Errorf("%d lines of %d events; first %q", len(lines), r.Published.Events, lines[0])
	}
	if r.Delivered.Lost != 5*r.Published.Events {
		t.Errorf("lost %d, want all that the command kept to itself", r.Delivered.Lost)
	}
}

func TestProcessIsMeasured(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("/proc is Linux's")
	}
	f := newFeed(t, nil)
	c := config(f, loadtest.ClientEpoll, "/sub")
	c.PIDs, c.PIDTree, c.Publish.Rate = []int{os.Getpid()}, true, 2000
	p := subscribe(t, c).Processes
	if len(p) != 1 || p[0].CPUSeconds <= 0 || p[0].CPUPerDelivery <= 0 || p[0].RSSBefore < 1<<20 || p[0].RSSConnected < 1<<20 || p[0].PSSAfter < 1<<20 {
		t.Errorf("measured %+v", p)
	}
	c.PIDs = []int{1 << 30}
	if _, err := loadtest.Subscribe(t.Context(), c); err == nil {
		t.Error("a process that does not exist was measured")
	}
}

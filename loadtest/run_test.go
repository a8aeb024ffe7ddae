package loadtest_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"runtime"
	"testing"
	"time"

	"github.com/eventissuer/eventissuer/loadtest"
)

// transports are all ways of reading, by each client that there is for them here.
func transports() map[string]loadtest.ReaderConfig {
	m := map[string]loadtest.ReaderConfig{
		"websocket": {Transport: loadtest.TransportWebSocket, URL: "/ws", Subprotocol: "eventissuer.v1"},
	}
	names := []string{loadtest.ClientGoroutine}
	if runtime.GOOS == "linux" {
		names = append(names, loadtest.ClientEpoll)
	}
	for _, client := range names {
		m["sse "+client] = loadtest.ReaderConfig{Transport: loadtest.TransportSSE, Client: client, URL: "/sub"}
		m["ndjson "+client] = loadtest.ReaderConfig{Transport: loadtest.TransportNDJSON, Client: client, URL: "/lines"}
		m["poll "+client] = loadtest.ReaderConfig{Transport: loadtest.TransportPoll, Client: client, URL: "/pages"}
		m["poll now and then "+client] = loadtest.ReaderConfig{Transport: loadtest.TransportPoll, Client: client, URL: "/pages", Every: 50 * time.Millisecond}
	}
	return m
}

// all is a run of a group for each transport.
func all(f *feed) loadtest.RunConfig {
	c := loadtest.RunConfig{
		Settle: time.Millisecond, Duration: 500 * time.Millisecond, Linger: time.Second,
		Publishers: []loadtest.PublishConfig{{URL: f.URL + "/pub", Rate: 200, Publishers: 2, Lanes: 4, Scheduled: true}},
	}
	for name, r := range transports() {
		r.Name, r.URL, r.Connections = name, f.URL+r.URL, 5
		c.Readers = append(c.Readers, r)
	}
	return c
}

func runAll(t *testing.T, c loadtest.RunConfig) *loadtest.Report {
	t.Helper()
	r, err := loadtest.Run(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	if testing.Verbose() {
		_ = r.WriteText(os.Stderr)
	}
	return r
}

// faultless checks that every reader of each group got everything once, in order.
func faultless(t *testing.T, r *loadtest.Report) {
	t.Helper()
	if r.Published.Events < 10 || r.Published.Failed > 0 {
		t.Fatalf("published %+v", r.Published)
	}
	for _, g := range r.Readers {
		d := g.Delivered
		if d.Lost+d.Disordered+d.Unexpected+d.Foreign != 0 || d.Events != d.Expected || d.Expected != r.Published.Events*uint64(g.Connections.Wanted) {
			t.Errorf("%s: published %d, delivered %+v", g.Name, r.Published.Events, d)
		}
	}
}

func TestAllTransportsAtOnceGetEverything(t *testing.T) {
	f := newFeed(t, nil)
	r := runAll(t, all(f))
	faultless(t, r)
	for _, g := range r.Readers {
		if g.Connections.Live != 5 || g.Delivered.Duplicates != 0 || g.Latency == nil || g.LatencySent == nil || g.Latency.Max < g.LatencySent.P50 {
			t.Errorf("%s: %+v, %d duplicates, latency %v, from sending %v", g.Name, g.Connections, g.Delivered.Duplicates, g.Latency, g.LatencySent)
		}
	}
	if total := r.Delivered; total.Events != r.Published.Events*uint64(len(r.Readers))*5 || r.Connections.Wanted != len(r.Readers)*5 {
		t.Errorf("in all %+v, connections %+v", total, r.Connections)
	}
}

func TestLossesAreFoundInEachGroup(t *testing.T) {
	f := newFeed(t, func(f *feed) {
		f.fault = func(n int, text string) []string {
			switch n {
			case 3, 6:
				return nil
			case 8:
				return []string{text, text}
			}
			return []string{text}
		}
	})
	for _, g := range runAll(t, all(f)).Readers {
		if d := g.Delivered; d.Lost != 2*5 || d.Duplicates != 5 {
			t.Errorf("%s: lost %d and doubled %d, want 10 and 5", g.Name, d.Lost, d.Duplicates)
		}
	}
}

func TestShareOfEachGroupIsStormedAndComesBack(t *testing.T) {
	f := newFeed(t, nil)
	c := all(f)
	for i := range c.Readers {
		c.Readers[i].Connections = 10
		c.Readers[i].Storms = []loadtest.StormConfig{{At: 100 * time.Millisecond, Share: 0.4}}
	}
	r := runAll(t, c)
	faultless(t, r)
	for _, g := range r.Readers {
		if len(g.Storms) != 1 || g.Storms[0].Timeout || g.Comeback == nil || g.Comeback.Head == nil || g.Comeback.Head.Count != 4 || g.Comeback.Block.Count != 4 {
			t.Errorf("%s: storms %+v, comeback %+v", g.Name, g.Storms, g.Comeback)
		}
	}
}

func TestConnectionsThatLiveShortlyLoseNothing(t *testing.T) {
	f := newFeed(t, nil)
	c := all(f)
	for i := range c.Readers {
		c.Readers[i].Lifetime = 100 * time.Millisecond
	}
	r := runAll(t, c)
	faultless(t, r)
	for _, g := range r.Readers {
		if g.Connections.Reconnects < 5 || len(g.Connections.Failures) > 0 {
			t.Errorf("%s: %+v, want each to have come back", g.Name, g.Connections)
		}
	}
}

func TestSlowReadersAreLateAndLoseNothing(t *testing.T) {
	f := newFeed(t, nil)
	c := all(f)
	c.Publishers[0].Size = 1000
	for i := range c.Readers {
		c.Readers[i].Slow = &loadtest.Slowness{BytesPerSecond: 10_000, Every: 100 * time.Millisecond, For: 50 * time.Millisecond}
	}
	r := runAll(t, c)
	faultless(t, r)
	for _, g := range r.Readers {
		// 200 kB/s are published: within the half second, a reader may have some five kilobytes of a hundred.
		if g.Delivered.Window > g.Delivered.Events/2 {
			t.Errorf("%s: %d of %d events came while its readers were slow", g.Name, g.Delivered.Window, g.Delivered.Events)
		}
	}
}

func TestSeveralPublishersHaveLanesOfTheirOwn(t *testing.T) {
	f := newFeed(t, nil) // which filters nothing
	c := all(f)
	c.Publishers = []loadtest.PublishConfig{
		{Name: "a", URL: f.URL + "/pub", Rate: 100, Lanes: 2, Publishers: 1},
		{Name: "b", URL: f.URL + "/pub", Batch: 1, Lanes: 3, Publishers: 1, Pace: &loadtest.Pace{Stages: []loadtest.Stage{{From: 100, To: 200, For: time.Second}}}},
	}
	c.Readers = []loadtest.ReaderConfig{
		{Name: "all", URL: f.URL + "/sub", Connections: 2},
		{Name: "b", URL: f.URL + "/sub", Of: "b", Connections: 2},
		{Name: "own", URL: f.URL + "/sub?lane={lane}", Of: "b", Connections: 3},
	}
	r := runAll(t, c)
	if len(r.Publishers) != 2 || r.Published.Events != r.Publishers[0].Events+r.Publishers[1].Events || r.Publishers[1].Events == 0 {
		t.Fatalf("published %+v by %+v", r.Published, r.Publishers)
	}
	a, b := r.Publishers[0].Events, r.Publishers[1].Events
	for i, want := range []struct{ expected, unexpected uint64 }{{2 * (a + b), 0}, {2 * b, 2 * a}, {b, 3*a + 2*b}} {
		if d := r.Readers[i].Delivered; d.Expected != want.expected || d.Events != want.expected || d.Unexpected != want.unexpected || d.Lost != 0 {
			t.Errorf("readers %s: %+v, want %+v", r.Readers[i].Name, d, want)
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for lane := 2; lane < 5; lane++ {
		if f.paths[fmt.Sprintf("/sub?lane=%d", lane)] != 1 {
			t.Errorf("asked for %v", f.paths)
		}
	}
	c.Readers[0].Of = "nobody"
	if _, err := loadtest.Run(t.Context(), c); err == nil {
		t.Error("readers of publishers that there are not were taken")
	}
}

func TestPartsOfAGroupAreNumberedAsTheWholeIs(t *testing.T) {
	f := newFeed(t, nil)
	c := all(f)
	c.Readers = []loadtest.ReaderConfig{
		{URL: f.URL + "/sub?i={i}&lane={lane}", Connections: 3},
		{URL: f.URL + "/sub?i={i}&lane={lane}", Connections: 2, First: 3},
	}
	r := runAll(t, c)
	f.mu.Lock()
	defer f.mu.Unlock()
	for i := range 5 {
		if f.paths[fmt.Sprintf("/sub?i=%d&lane=%d", i, i%4)] != 1 {
			t.Errorf("asked for %v", f.paths)
		}
	}
	if d := r.Delivered; d.Lost != 0 || d.Events != d.Expected || d.Events+d.Unexpected != 5*r.Published.Events {
		t.Errorf("%+v", d)
	}
}

func TestConflatedReadersLoseOnlyWhatWasLast(t *testing.T) {
	f := newFeed(t, func(f *feed) {
		f.fault = func(n int, text string) []string {
			if n%2 == 0 {
				return nil // a later one takes its place
			}
			return []string{text}
		}
	})
	c := all(f)
	c.Publishers = []loadtest.PublishConfig{{URL: f.URL + "/pub", Events: 40, Rate: 200, Publishers: 1}}
	c.Readers = []loadtest.ReaderConfig{{URL: f.URL + "/sub", Connections: 2, Latest: true}}
	r := runAll(t, c)
	if d := r.Delivered; r.Published.Events != 40 || d.Lost != 0 || d.Superseded != 40 {
		t.Errorf("the last one came: %d published, %+v", r.Published.Events, d)
	}
	c.Publishers[0].Events = 41
	if d := runAll(t, c).Delivered; d.Lost == 0 {
		t.Errorf("the last one did not come: %+v", d)
	}
}

func TestShardsCountAsOneProcessDoes(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	f := newFeed(t, nil)
	c := all(f)
	c.Shards, c.Shard = 3, []string{self, asShard}
	c.Readers[0].Storms = []loadtest.StormConfig{{At: 50 * time.Millisecond, Share: 0.6}}
	r := runAll(t, c)
	faultless(t, r)
	for i, g := range r.Readers {
		if g.Connections.Live != 5 || g.Latency == nil || uint64(g.Latency.Count) > g.Delivered.Events {
			t.Errorf("%s: %+v, latency %v", g.Name, g.Connections, g.Latency)
		}
		if i == 0 && (len(g.Storms) != 1 || g.Comeback.Head.Count != 3) {
			t.Errorf("storm of three of five: %+v, %+v", g.Storms, g.Comeback)
		}
	}
	if r.Latency.Count == 0 || r.Self == nil {
		t.Errorf("%+v", r)
	}
}

func TestShardThatCannotGoOnEndsTheRun(t *testing.T) {
	f := newFeed(t, nil)
	c := all(f)
	c.Shards, c.Shard = 2, []string{"false"}
	if r, err := loadtest.Run(t.Context(), c); err == nil {
		t.Errorf("%+v", r)
	}
}

func TestRunThatIsInterruptedEarlyReportsWhatThereWas(t *testing.T) {
	f := newFeed(t, nil)
	c := all(f)
	c.Settle = time.Hour
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	c.Watch = func(p loadtest.Progress) {
		if p.Phase == "settling" && len(p.Seconds) > 1 {
			stop()
		}
	}
	r, err := loadtest.Run(ctx, c)
	if err != nil {
		t.Fatal(err)
	}
	if r.Interrupted == "" || r.Connections.Live != r.Connections.Wanted || r.Delivered.Lost != 0 || len(r.Series) < 2 || r.Series[0].At < 0 || r.Series[0].At > 60 {
		t.Errorf("%+v", r)
	}
}

func TestEverySecondIsTold(t *testing.T) {
	f := newFeed(t, nil)
	c := all(f)
	c.Duration = 2200 * time.Millisecond
	c.PIDs = []int{os.Getpid()}
	var told []loadtest.Progress
	c.Watch = func(p loadtest.Progress) { told = append(told, p) }
	r := runAll(t, c)
	faultless(t, r)
	var published, delivered uint64
	for i, s := range r.Series {
		published += s.Published
		delivered += s.Delivered
		if i > 0 && s.At <= r.Series[i-1].At || s.Live != r.Connections.Wanted || len(s.Groups) != len(c.Readers) || len(s.Processes) != 1 || s.Processes[0].RSS == 0 {
			t.Errorf("second %d: %+v", i, s)
		}
		if s.Delivered > 0 && (s.P50 <= 0 || s.P99 < s.P50 || s.Max < s.P99) {
			t.Errorf("second %d: p50 %g, p99 %g, max %g", i, s.P50, s.P99, s.Max)
		}
	}
	if len(r.Series) < 2 || published == 0 || delivered < published || published > r.Published.Events {
		t.Errorf("%d published and %d delivered in %d seconds", published, delivered, len(r.Series))
	}
	if len(told) < 2 || told[len(told)-1].Live != r.Connections.Wanted || told[1].Phase == "" {
		t.Errorf("told %+v", told)
	}
	p, err := json.Marshal(r)
	if err != nil || !json.Valid(p) {
		t.Fatal(err)
	}
}

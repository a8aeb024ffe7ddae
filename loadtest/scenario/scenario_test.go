package scenario_test

import (
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/eventissuer/eventissuer/loadtest"
	"github.com/eventissuer/eventissuer/loadtest/scenario"
)

func TestScenarioSaysWhatIsRun(t *testing.T) {
	s, err := scenario.Parse("x.yaml", []byte(`
name: all that there is
server: http://h:1/
stream: a stream
partitions: 3
header: {Authorization: Bearer x}
shards: 2
connectTimeout: 10s
settle: 1s
warmup: 2s
duration: 1m
linger: 4s
pid: [1, 2]
pidTree: true
publishers:
  - {name: steady, rate: 1_000, batch: 10, size: 500, lanes: 8, connections: 4, type: t, source: /s, subject: "/x/{lane}", header: {X: [a, b]}, sentTime: true}
  - {name: bursts, rate: 50, burst: {on: 1s, off: 2s}}
  - {name: ramp, rate: 50, ramp: {over: 30s}, url: http://other/}
  - {name: steps, steps: [{rate: 1, for: 1s}, {rate: 1, to: 0, for: 2s}], repeat: true}
  - {name: fast, rate: max, events: 7}
readers:
  - {name: a, connections: 5, query: {type: [x, y], subject: "/x/{lane}"}, of: steady, ramp: 10, dials: 7, lifetime: 3s, storms: [{at: 1s, percent: 25}, {at: 2s, timeout: 5s}]}
  - {name: b, transport: websocket, connections: 1, server: http://h:2, slow: {bytesPerSecond: 10, reads: 1s, pauses: 2s, buffer: 4096}}
  - {name: c, transport: poll, connections: 1, every: 2s, path: /p, latest: true}
  - {name: d, transport: websocket, subprotocol: "", connections: 1, url: ws://z/y}
subscriptions:
  - {name: e, sessions: 3, ordering: none, transport: sse, types: [t], of: steady, maxUncommitted: 5, ackEvery: 6, ackAfter: 7s, servers: [http://h:1, http://h:2]}
webhooks:
  - {name: f, subscriptions: 4, endpoints: 2, mode: binary, signatures: [v1, v1a], ordering: none, batch: 5, concurrency: 6, timeout: 7s, schedule: [1s], hang: 1, failPercent: 10, delay: 1s}
`))
	if err != nil {
		t.Fatal(err)
	}
	got, err := s.Config()
	if err != nil {
		t.Fatal(err)
	}
	h := http.Header{"Authorization": {"Bearer x"}}
	second := time.Second
	want := loadtest.RunConfig{
		Scenario: "all that there is", ConnectTimeout: 10 * second, Settle: second, Warmup: 2 * second, Duration: time.Minute, Linger: 4 * second,
		Shards: 2, PIDs: []int{1, 2}, PIDTree: true,
		Publishers: []loadtest.PublishConfig{
			{
				Name: "steady", URL: "http://h:1/v1/events", Rate: 1000, Batch: 10, Size: 500, Lanes: 8, Publishers: 4, Type: "t", Source: "/s", Subject: "/x/{lane}",
				Header: http.Header{"Authorization": {"Bearer x"}, "X": {"a", "b"}},
			},
			{
				Name: "bursts", Type: "a stream.tick", URL: "http://h:1/v1/events", Rate: 50, Header: h, Scheduled: true,
				Pace: &loadtest.Pace{Stages: []loadtest.Stage{{From: 50, To: 50, For: second}, {For: 2 * second}}, Repeat: true},
			},
			{
				Name: "ramp", Type: "a stream.tick", URL: "http://other/", Rate: 50, Header: h, Scheduled: true,
				Pace: &loadtest.Pace{Stages: []loadtest.Stage{{To: 50, For: 30 * second}}},
			},
			{
				Name: "steps", Type: "a stream.tick", URL: "http://h:1/v1/events", Header: h, Scheduled: true,
				Pace: &loadtest.Pace{Stages: []loadtest.Stage{{From: 1, To: 1, For: second}, {From: 1, To: 0, For: 2 * second}}, Repeat: true},
			},
			{Name: "fast", Type: "a stream.tick", URL: "http://h:1/v1/events", Header: h, Scheduled: true, Events: 7},
		},
		Readers: []loadtest.ReaderConfig{
			{
				Name: "a", URL: "http://h:1/v1/streams/a%20stream/events", Query: []string{"type=x", "type=y", "subject=/x/{lane}"}, Header: h,
				Connections: 5, Ramp: 10, Dials: 7, Lifetime: 3 * second, Of: "steady",
				Storms: []loadtest.StormConfig{{At: second, Share: 0.25}, {At: 2 * second, Timeout: 5 * second}},
			},
			{
				Name: "b", URL: "http://h:2/v1/streams/a%20stream/events", Transport: "websocket", Subprotocol: "eventissuer.v1", Header: h, Connections: 1,
				Slow: &loadtest.Slowness{BytesPerSecond: 10, Every: second, For: 2 * second, Buffer: 4096},
			},
			{Name: "c", URL: "http://h:1/p", Transport: "poll", Header: h, Connections: 1, Every: 2 * second, Latest: true},
			{Name: "d", URL: "ws://z/y", Transport: "websocket", Header: h, Connections: 1},
		},
	}
	want.Sessions = []loadtest.SessionsConfig{{Name: "e", Of: "steady", Group: loadtest.GroupConfig{
		Servers: []string{"http://h:1", "http://h:2"}, Header: h, Stream: "a stream", Types: []string{"t"}, Ordering: "none", Client: "sse", Sessions: 3,
		MaxUncommitted: 5, AckEvery: 6, AckAfter: 7 * second,
	}}}
	want.Webhooks = []loadtest.WebhooksConfig{{Name: "f", Hook: loadtest.WebhookConfig{
		Server: "http://h:1", Header: h, Stream: "a stream", Subscriptions: 4, Endpoints: 2, Mode: "binary", Signatures: []string{"v1", "v1a"}, Ordering: "none",
		Batch: 5, Concurrency: 6, Timeout: 7 * second, Schedule: []string{"1s"}, Hang: 1, Fail: 0.1, Delay: second, Verify: 0.01,
	}}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-expected +got:\n%s", diff)
	}
}

func TestMistakesAreToldWithTheirLineAndWhatWasExpected(t *testing.T) {
	const readers = "readers:\n  - connections: 1\n"
	for text, want := range map[string]string{
		"":                                    "x.yaml: it is empty",
		"readers: []":                         "x.yaml:1: readers: expected at least one group",
		"name: x\n":                           "x.yaml:1: readers: expected at least one group",
		"[1]":                                 "x.yaml:1: expected the keys name, server,",
		"a: [\n":                              "x.yaml:1: did not find expected",
		readers + "---\na: 1\n":               "x.yaml: expected one document",
		readers + "server: a\nservers: [b]\n": "x.yaml:4: servers: expected either",
		readers + "duratoin: 3s\n":            "x.yaml:3: duratoin: there is no such key: expected name, server,",
		readers + "duration: 3\n":             `x.yaml:3: duration: expected a time such as 10s, 1m30s or 500ms, got "3"`,
		readers + "duration: -3s\n":           "x.yaml:3: duration: expected a time",
		readers + "duration: {a: 1}\n":        "x.yaml:3: duration: expected one value, got keys and values",
		readers + "shards: many\n":            `x.yaml:3: shards: expected a whole number of at least 0, got "many"`,
		readers + "shards: 1\nshards: 2\n":    "shards",
		readers + "header: x\n":               "x.yaml:3: header: expected names with values",
		readers + "header: {a: {b: c}}\n":     "x.yaml:3: header: a: expected a value or a list of values",
		"readers:\n  - transport: sse\n":      "x.yaml:2: readers[0].connections: expected at least 1",
		"readers:\n  -\n    connections: 1\n    transport: telepathy\n":                          `x.yaml:4: readers[0].transport: expected sse, websocket, ndjson or poll, got "telepathy"`,
		"readers:\n  - connections: 1\n    client: x\n":                                          "x.yaml:3: readers[0].client: expected epoll,",
		"readers:\n  - connections: 1\n    subprotocol: x\n":                                     "x.yaml:3: readers[0].subprotocol: only transport websocket has one",
		"readers:\n  - connections: 1\n    wait: 3s\n":                                           "x.yaml:3: readers[0].wait: only transport poll has it",
		"readers:\n  - connections: 1\n    every: 3s\n":                                          "x.yaml:3: readers[0].every: only transport poll has it",
		"readers:\n  - connections: 1\n    slow: {}\n":                                           "x.yaml:3: readers[0].slow: expected bytesPerSecond",
		"readers:\n  - connections: 1\n    slow: {reads: 1s}\n":                                  "x.yaml:3: readers[0].slow: expected both",
		"readers:\n  - connections: 1\n    storms:\n      - percent: 101":                        "x.yaml:4: readers[0].storms[0].percent: expected above 0 up to 100, got 101",
		"readers:\n  - connections: 1\n    of: x\n":                                              "x.yaml:3: readers[0].of: there are no publishers of that name",
		"readers:\n  - connections: 1\n    url: http://x\n    path: /y":                          "x.yaml:3: readers[0].url: expected either a url",
		"readers:\n  - {connections: 1, name: a}\n  - {connections: 1, name: a}":                 "x.yaml:3: readers[1].name: ",
		"subscriptions:\n  - name: x\n":                                                          "x.yaml:2: subscriptions[0].sessions: expected at least 1",
		"subscriptions:\n  - sessions: 1\n    ordering: x\n":                                     "x.yaml:3: subscriptions[0].ordering: expected key or none",
		"subscriptions:\n  - sessions: 1\n    transport: x\n":                                    "x.yaml:3: subscriptions[0].transport: expected ndjson or sse",
		"subscriptions:\n  - sessions: 1\n    of: x\n":                                           "x.yaml:3: subscriptions[0].of: there are no publishers",
		"webhooks:\n  - name: x\n":                                                               "x.yaml:2: webhooks[0].subscriptions: expected at least 1",
		"webhooks:\n  - subscriptions: 1\n    endpoints: 2\n":                                    "x.yaml:3: webhooks[0].endpoints: expected at most as many",
		"webhooks:\n  - subscriptions: 1\n    mode: x\n":                                         "x.yaml:3: webhooks[0].mode: expected structured or binary",
		"webhooks:\n  - subscriptions: 1\n    signatures: [v1, v2]\n":                            "x.yaml:3: webhooks[0].signatures[1]: expected v1 or v1a",
		"webhooks:\n  - subscriptions: 1\n    failPercent: 100\n":                                "x.yaml:3: webhooks[0].failPercent: expected below 100",
		"webhooks:\n  - subscriptions: 1\n    verifyPercent: 101\n":                              "x.yaml:3: webhooks[0].verifyPercent: expected up to 100",
		readers + "publishers:\n  - size: 3\n":                                                   "x.yaml:4: publishers[0]: expected a rate, or steps",
		readers + "publishers:\n  - rate: 0\n":                                                   "x.yaml:4: publishers[0].rate: expected events a second, or max",
		readers + "publishers:\n  - rate: 1\n    burst: {on: 1s}\n":                              "x.yaml:5: publishers[0].burst: expected on and off",
		readers + "publishers:\n  - rate: 1\n    ramp: {from: 3}\n":                              "x.yaml:5: publishers[0].ramp: expected over",
		readers + "publishers:\n  - rate: max\n    ramp: {over: 3s}\n":                           "x.yaml:4: publishers[0].rate: expected a number",
		readers + "publishers:\n  - steps: [{rate: 1}]\n":                                        "x.yaml:4: publishers[0].steps[0]: expected for",
		readers + "publishers:\n  - steps: [{rate: 0, for: 1s}]\n":                               "x.yaml:4: publishers[0].steps: expected a rate above 0",
		readers + "publishers:\n  - steps: [{rate: 1, for: 1s}]\n    rate: 1":                    "x.yaml:5: publishers[0].rate: expected either",
		readers + "publishers:\n  - rate: 1\n    repeat: true":                                   "x.yaml:5: publishers[0].repeat: only steps",
		readers + "publishers:\n  - rate: 1\n    body: x":                                        "x.yaml:5: publishers[0].body: expected {mark}",
		readers + "publishers:\n  - rate: 1\n    lanes: 1\n    connections: 2":                   "x.yaml:5: publishers[0].lanes: expected at least one for each of 2",
		readers + "publishers:\n  - {rate: 1, name: a}\n  - {rate: 1, name: a}":                  "x.yaml:5: publishers[1].name: ",
		readers + "publishers:\n  - rate: 1\n    burst: {on: 1s, off: 1s}\n    ramp: {over: 1s}": "x.yaml:4: publishers[0]: expected one of",
	} {
		_, err := scenario.Parse("x.yaml", []byte(text))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q:\n%v, want %s", text, err, want)
		}
		if err != nil && !errors.As(err, new(*scenario.Error)) {
			t.Errorf("%q: the error is a %T", text, err)
		}
	}
}

func TestReadersAreDealtOutAmongReplicas(t *testing.T) {
	s, err := scenario.Parse("x.yaml", []byte("servers: [http://a, http://b/]\nstream: s\nreaders: [{name: r, connections: 5, ramp: 4}, {name: x, connections: 1, server: http://c}]\n"+
		"publishers: [{rate: 1}]\nsubscriptions: [{sessions: 2}]\n"))
	if err != nil {
		t.Fatal(err)
	}
	c, err := s.Config()
	if err != nil {
		t.Fatal(err)
	}
	want := []loadtest.ReaderConfig{
		{Name: "r (server 1)", URL: "http://a/v1/streams/s/events", Connections: 2, Ramp: 2, Header: http.Header{}},
		{Name: "r (server 2)", URL: "http://b/v1/streams/s/events", Connections: 3, First: 2, Ramp: 2, Header: http.Header{}},
		{Name: "x", URL: "http://c/v1/streams/s/events", Connections: 1, Header: http.Header{}},
	}
	if diff := cmp.Diff(want, c.Readers); diff != "" {
		t.Errorf("-expected +got:\n%s", diff)
	}
	if c.Publishers[0].URL != "http://a/v1/events" || !slices.Equal(c.Sessions[0].Group.Servers, []string{"http://a", "http://b"}) {
		t.Errorf("%+v, %+v", c.Publishers, c.Sessions)
	}
}

func TestGroupsAreAddedAsAFileHasThem(t *testing.T) {
	s := &scenario.Scenario{Stream: "s"}
	if err := s.AddReaders("--reader", "{transport: ndjson, connections: 3}"); err != nil {
		t.Fatal(err)
	}
	if err := s.AddPublisher("--publisher", "rate: 10"); err != nil {
		t.Fatal(err)
	}
	c, err := s.Config()
	if err != nil || c.Readers[0].Transport != "ndjson" || c.Readers[0].Connections != 3 || c.Publishers[0].Rate != 10 || c.Publishers[0].URL != "http://127.0.0.1:8080/v1/events" {
		t.Errorf("%+v, %v", c, err)
	}
	if err := s.AddReaders("--reader", "{conections: 3}"); err == nil || !strings.HasPrefix(err.Error(), "--reader:1: conections: there is no such key") {
		t.Error(err)
	}
}

func TestShippedScenariosAreRightAndScale(t *testing.T) {
	files, err := filepath.Glob("../scenarios/*.yaml")
	if err != nil || len(files) < 3 {
		t.Fatalf("%v, %v", files, err)
	}
	for _, file := range files {
		s, err := scenario.Read(file)
		if err != nil {
			t.Fatal(err)
		}
		whole, err := s.Config()
		if err != nil || s.Name == "" {
			t.Fatalf("%s: %v", file, err)
		}
		s.Scale(0.01, 0.1)
		small, err := s.Config()
		if err != nil || small.Duration != whole.Duration/10 {
			t.Errorf("%s: lasts %s, of %s; %v", file, small.Duration, whole.Duration, err)
		}
		for i, r := range small.Readers {
			if r.Connections < 1 || r.Connections > max(1, whole.Readers[i].Connections/50) {
				t.Errorf("%s: readers %s are %d", file, r.Name, r.Connections)
			}
		}
	}
}

func TestDocumentSaysEveryKeyAndItsExampleIsRight(t *testing.T) {
	text, err := os.ReadFile("../../docs/loadtest.md")
	if err != nil {
		t.Fatal(err)
	}
	_, example, ok := strings.Cut(string(text), "```yaml\n")
	example, _, closed := strings.Cut(example, "```")
	if s, err := scenario.Parse("the example", []byte(example)); !ok || !closed || err != nil || len(s.Readers) != 2 {
		t.Errorf("%v: %s", err, example)
	}
	for _, of := range []reflect.Type{
		reflect.TypeFor[scenario.Scenario](), reflect.TypeFor[scenario.Publisher](), reflect.TypeFor[scenario.Readers](), reflect.TypeFor[scenario.Slow](),
		reflect.TypeFor[scenario.Storm](), reflect.TypeFor[scenario.Burst](), reflect.TypeFor[scenario.Ramp](), reflect.TypeFor[scenario.Step](),
		reflect.TypeFor[scenario.Subscription](), reflect.TypeFor[scenario.Webhooks](),
	} {
		for i := range of.NumField() {
			key := of.Field(i).Tag.Get("yaml")
			if !regexp.MustCompile(`\b` + key + `\b`).Match(text) {
				t.Errorf("docs/loadtest.md does not say %s of %s", key, of.Name())
			}
		}
	}
}

func FuzzParse(f *testing.F) {
	files, _ := filepath.Glob("../scenarios/*.yaml")
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(string(text))
	}
	f.Add("readers: [{connections: 1, url: 'http://x'}]")
	f.Fuzz(func(t *testing.T, text string) {
		s, err := scenario.Parse("x", []byte(text))
		if (s == nil) == (err == nil) {
			t.Fatalf("%v, %v", s, err)
		}
		if err == nil {
			_, _ = s.Config()
		}
	})
}

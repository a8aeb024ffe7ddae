package main_test

import (
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/eventissuer/eventissuer/loadtest"
	"github.com/eventissuer/eventissuer/loadtest/hostile"
)

// answers are how the server ends the connections of each attack that it ends by itself at once. The others it keeps for a
// while: as long as it waits for a header or a body, or for a peer that takes nothing.
var answers = map[string]string{
	"header-flood":    "431",
	"long-cursors":    "431",
	"compressed-bomb": "413",
	"websocket-pings": "WebSocket 1008",
	"websocket-huge":  "WebSocket 1009",
	"websocket-bomb":  "WebSocket 1009",
	"early-fin":       "200",
	"reset-connect":   "closed by us",
	"reset-stream":    "200, closed by us",
	"garbage":         "400",
}

func TestHostileClientsTakeNothingFromOthersAndLittleMemory(t *testing.T) {
	v := startServer(t, embedded(t), "--ring-bytes=8MiB", "--memory-bytes=32MiB", "--drain-timeout=3s")
	stream, publish, err := loadtest.Prepare(t.Context(), loadtest.PrepareConfig{Server: v.base, Stream: "attacked", Type: "attacked.tick"})
	if err != nil {
		t.Fatal(err)
	}
	report, err := hostile.Run(t.Context(), hostile.Config{
		URL: stream, PublishURL: publish, PID: v.Pid(), Publish: loadtest.PublishConfig{Type: "attacked.tick", Rate: 50},
		Connections: 100, Opens: 1000, Bytes: 8 << 20, Pace: 20 * time.Millisecond, Warmup: 100 * time.Millisecond, Duration: 500 * time.Millisecond,
		Rounds: 1, Readers: 50,
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(report.Attacks) != len(hostile.Attacks())-1 { // without that on TLS
		t.Errorf("%d attacks were run of %d", len(report.Attacks), len(hostile.Attacks()))
	}
	const most = 400 << 20 // beside what is configured: the bodies under way, and what the collector has not got to
	for _, o := range report.Attacks {
		if o.Lost+o.Disordered+o.Failed+o.Reconnects > 0 || o.Delivered == 0 {
			t.Errorf("%s: of %d events that ordinary readers were given %d were lost, %d out of order, %d not published; they reconnected %d times",
				o.Attack, o.Delivered, o.Lost, o.Disordered, o.Failed, o.Reconnects)
		}
		if want := answers[o.Attack]; want != "" && o.Ends[want] == 0 {
			t.Errorf("%s: no connection ended with %q, but %v", o.Attack, want, o.Ends)
		}
		if o.Opened == 0 || o.Ends["refused"] > 0 {
			t.Errorf("%s: %d connections were opened: %v", o.Attack, o.Opened, o.Ends)
		}
		if o.Server.Most.RSS > most {
			t.Errorf("%s: the server held %d bytes of memory", o.Attack, o.Server.Most.RSS)
		}
		if o.Server.After.Files > o.Server.Before.Files+40 {
			t.Errorf("%s: the server holds %d files, and held %d before", o.Attack, o.Server.After.Files, o.Server.Before.Files)
		}
	}
	for name := range answers {
		if !slices.ContainsFunc(report.Attacks, func(o hostile.Outcome) bool { return o.Attack == name }) {
			t.Errorf("there is no attack %s among %v", name, slices.Sorted(maps.Keys(answers)))
		}
	}
	if got := v.metric(t, "eventissuer_session_panics_total") + v.metric(t, "eventissuer_http_panics_total") + v.metric(t, "eventissuer_fanout_panics_total"); got != 0 {
		t.Errorf("%v panics", got)
	}
	v.sigterm(t, 15*time.Second)
}

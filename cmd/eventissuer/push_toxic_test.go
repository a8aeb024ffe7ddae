package main_test

import (
	"encoding/json"
	"net/http"
	"testing"
	"time"

	"github.com/eventissuer/eventissuer/internal/testenv"
)

// Endpoints that are well, at the end of lines that are not: each subscription says what is wrong, one whose line is only
// slow is served, and when the lines are mended everything arrives that was published meanwhile.
func TestEndpointsAtTheEndOfBadLines(t *testing.T) {
	toxiproxy := testenv.StartToxiproxy(t)
	v := startServer(t, embedded(t), "--allow-loopback-sinks")
	define(t, 3, v)
	lines := map[string]struct {
		kind       string // "": it is cut
		attributes map[string]any
		reason     string // "": it is served all the same
	}{
		"late":       {"latency", map[string]any{"latency": 3000}, tooLate},
		"black-hole": {"timeout", map[string]any{"timeout": 0}, tooLate},
		"cut-off":    {"timeout", map[string]any{"timeout": 100}, noAnswer},
		"reset":      {"reset_peer", map[string]any{"timeout": 0}, noAnswer},
		"cut-short":  {"limit_data", map[string]any{"bytes": 20}, noHTTP},
		"down":       {"", nil, "refuses connections"},
		"jittery":    {"latency", map[string]any{"latency": 20, "jitter": 20}, ""},
		"narrow":     {"bandwidth", map[string]any{"rate": 8}, ""},
		"in-slices":  {"slicer", map[string]any{"average_size": 4, "size_variation": 2, "delay": 100}, ""},
		"slow-close": {"slow_close", map[string]any{"delay": 500}, ""},
	}
	goods, ids := map[string]*good{}, map[string]string{}
	for name := range lines {
		goods[name] = newGood(t)
		sink := "http://" + toxiproxy.Proxy(t, name, goods[name].addr) + "/hook"
		ids[name] = pushTo(t, v, name, sink, map[string]any{
			"ordering": "none", "timeout": "1s", "retry": map[string]any{"schedule": []string{"1s"}},
		})
	}
	haveConsented(t, v, ids)
	for name, line := range lines {
		if line.kind == "" {
			toxiproxy.Disable(t, name)
		} else {
			toxiproxy.Toxic(t, name, line.kind, line.attributes)
		}
	}

	p := publish(t, 2, 12, 20*time.Millisecond, "", v)
	p.more(t, 50)
	for name, line := range lines {
		if line.reason != "" {
			fails(t, v, name, ids[name], line.reason)
		}
	}
	p.finish()
	for name, line := range lines {
		if line.reason == "" {
			goods[name].catchesUp(t, p)
		}
	}
	toxiproxy.Reset(t)
	for _, g := range goods {
		g.catchesUp(t, p)
	}
	for name, id := range ids {
		var letters struct{ Items []struct{ ID string } }
		if err := json.Unmarshal(v.call(t, http.StatusOK, http.MethodGet, "/v1/subscriptions/"+id+"/dead-letters", nil), &letters); err != nil {
			t.Fatal(err)
		}
		if n := len(letters.Items); n > 0 {
			t.Errorf("%d events for %s were set aside, whose line was at fault", n, name)
		}
	}
}

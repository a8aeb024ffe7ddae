package main

import (
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestAStreamsStateIsCreatedShownAndListed(t *testing.T) {
	server := startServer(t)
	at(t, server, 0, "", "streams", "create", "trains", "--state-max-keys", "5", "--state-max-bytes", "1024MiB")
	at(t, server, 0, "", "streams", "create", "plain")
	var shown struct{ State map[string]any }
	if err := json.Unmarshal([]byte(at(t, server, 0, "", "streams", "show", "trains").out), &shown); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[string]any{"window": "1h", "maxKeys": 5.0, "maxBytes": "1GiB"}, shown.State); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	lines := strings.Split(at(t, server, 0, "", "streams", "list").out, "\n")
	for i, want := range []string{"NAME PARTITIONS RETENTION STATE TOPIC", "plain 12 168h - eventissuer.plain", "trains 12 168h 1h eventissuer.trains"} {
		if got := strings.Join(strings.Fields(lines[i]), " "); !strings.HasPrefix(got, want) {
			t.Errorf("line %d is %q, want %q", i, got, want)
		}
	}
	if o := at(t, server, 4, "", "streams", "create", "other", "--state-max-bytes", "1TB"); !strings.Contains(o.err, "/state/maxBytes: a size such as") {
		t.Error(o.err)
	}
}

func TestAStreamsStateIsAsItsFileSays(t *testing.T) {
	server := startServer(t)
	at(t, server, 0, "", "streams", "create", "trains")
	dir := t.TempDir()
	at(t, server, 0, "", "types", "export", dir)
	path := filepath.Join(dir, streamsFolder, "trains.json")
	without, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, step := range []struct {
		state      string // of the file; "" for none
		told, then string
	}{
		{`{}`, "~ stream trains\n    state: {}\n", `{"window":"1h","maxKeys":100000,"maxBytes":"256MiB"}`},
		{`{"window":"60m","maxBytes":268435456}`, "", `{"window":"1h","maxKeys":100000,"maxBytes":"256MiB"}`},
		{`{"maxKeys":5,"maxBytes":"1GiB"}`, "~ stream trains\n    state: {\"window\":\"1h\",\"maxKeys\":100000,\"maxBytes\":\"256MiB\"} -> {\"maxKeys\":5,\"maxBytes\":\"1GiB\"}\n", `{"window":"1h","maxKeys":5,"maxBytes":"1GiB"}`},
		{`{"maxBytes":"1024MiB"}`, "", `{"window":"1h","maxKeys":5,"maxBytes":"1GiB"}`},
		{`{"window":"2h","maxKeys":null}`, "~ stream trains\n    state: {\"window\":\"1h\",\"maxKeys\":5,\"maxBytes\":\"1GiB\"} -> {\"window\":\"2h\",\"maxKeys\":null}\n", `{"window":"2h","maxKeys":5,"maxBytes":"1GiB"}`},
		{``, "~ stream trains\n    - state: was {\"window\":\"2h\",\"maxKeys\":5,\"maxBytes\":\"1GiB\"}\n", ""},
		{`null`, "", ""},
		{`{"window":"forever"}`, "~ stream trains\n    state: {\"window\":\"forever\"}\n", `{"window":"forever","maxKeys":100000,"maxBytes":"256MiB"}`},
	} {
		text := string(without)
		if step.state != "" {
			text = strings.Replace(text, "{", `{"state":`+step.state+`,`, 1)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		code := 0
		if step.told != "" {
			code = 5
		}
		if diff := cmp.Diff(step.told, at(t, server, code, "", "types", "diff", dir).out); diff != "" {
			t.Errorf("%s: (-want +got)\n%s", step.state, diff)
		}
		at(t, server, 0, "", "types", "apply", dir)
		at(t, server, 0, "", "types", "diff", dir)
		got := ""
		if state, ok := call(t, server, http.MethodGet, "/v1/streams/trains", "")["state"].(map[string]any); ok {
			got = stateText(state)
		}
		if got != step.then {
			t.Errorf("after the file's %s the state is %s, want %s", step.state, got, step.then)
		}
	}
	// What is exported is made elsewhere as it was here.
	other := startServer(t)
	at(t, server, 0, "", "types", "export", dir)
	at(t, other, 0, "", "types", "apply", dir)
	at(t, other, 0, "", "types", "diff", dir)
	if got := stateText(call(t, other, http.MethodGet, "/v1/streams/trains", "")["state"].(map[string]any)); got != `{"window":"forever","maxKeys":100000,"maxBytes":"256MiB"}` {
		t.Error(got)
	}
}

// stateText is a state with its members in the server's order.
func stateText(state map[string]any) string {
	var parts []string
	for _, name := range []string{"window", "maxKeys", "maxBytes"} {
		value, _ := json.Marshal(state[name])
		parts = append(parts, `"`+name+`":`+string(value))
	}
	return "{" + strings.Join(parts, ",") + "}"
}

func TestSizesAreComparedHoweverTheyAreSpelled(t *testing.T) {
	for _, c := range []struct {
		a, b string
		same bool
	}{
		{`"1GiB"`, `"1024MiB"`, true},
		{`"1KiB"`, `1024`, true},
		{`"1024"`, `1024`, true},
		{`"64KiB"`, `"64MiB"`, false},
		{`"17179869184GiB"`, `0`, false},
		{`"big"`, `"big"`, true},
		{`"big"`, `0`, false},
		{``, `"1KiB"`, false},
	} {
		if got := sameSize(json.RawMessage(c.a), json.RawMessage(c.b)); got != c.same {
			t.Errorf("%s and %s are the same: %v", c.a, c.b, got)
		}
	}
}

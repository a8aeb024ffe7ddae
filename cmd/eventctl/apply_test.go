package main

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// Two schemas that take the same, which nothing finds out.
const (
	undecidedOld = `{"type":"string","pattern":"^a+$"}`
	undecidedNew = `{"type":"string","pattern":"^aa*$"}`
)

// call makes a request of a real server, which must succeed.
func call(t *testing.T, server, method, path, body string) map[string]any {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, server+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode/100 != 2 {
		t.Fatalf("%s %s: %d %s", method, path, resp.StatusCode, text)
	}
	var answer map[string]any
	if len(text) > 0 {
		if err := json.Unmarshal(text, &answer); err != nil {
			t.Fatal(err)
		}
	}
	return answer
}

// typeAt is what a server has of a type, without what it adds by itself.
func typeAt(t *testing.T, server, typ string) map[string]any {
	t.Helper()
	answer := call(t, server, http.MethodGet, typePath(typ), "")
	for _, own := range serversOwn[typesFolder] {
		delete(answer, own)
	}
	return answer
}

// names lists the event types of a server.
func names(t *testing.T, server string) string {
	t.Helper()
	var all []string
	for _, item := range call(t, server, http.MethodGet, "/v1/event-types", "")["items"].([]any) {
		all = append(all, item.(map[string]any)["type"].(string))
	}
	return strings.Join(all, " ")
}

// files writes definitions of types into a folder, each with the stream trains.
func files(t *testing.T, types ...string) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, typesFolder), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, text := range types {
		var members map[string]json.RawMessage
		if err := json.Unmarshal([]byte(text), &members); err != nil {
			t.Fatal(err)
		}
		members["stream"] = json.RawMessage(`"trains"`)
		var name string
		if err := json.Unmarshal(members["type"], &name); err != nil {
			t.Fatal(err)
		}
		raw, err := json.Marshal(members)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, typesFolder, fileName(name)), raw, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// wire is what goes between the program and a real server.
type wire struct {
	*httptest.Server
	mu     sync.Mutex
	before func(r *http.Request) // each change
	sent   []string              // the changes: method, path and body
}

// wireTo leads to a real server. before is called ahead of each request that is to change something.
func wireTo(t *testing.T, server string, before func(r *http.Request)) *wire {
	t.Helper()
	target, err := url.Parse(server)
	if err != nil {
		t.Fatal(err)
	}
	w := &wire{before: before}
	proxy := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(target) }}
	w.Server = httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet && !strings.HasSuffix(r.URL.Path, ":check") {
			body, _ := io.ReadAll(r.Body)
			r.Body = io.NopCloser(bytes.NewReader(body))
			w.mu.Lock()
			w.sent = append(w.sent, r.Method+" "+r.URL.Path+" "+string(body))
			w.mu.Unlock()
			if w.before != nil {
				w.before(r)
			}
		}
		proxy.ServeHTTP(rw, r)
	}))
	t.Cleanup(func() {
		http.DefaultTransport.(*http.Transport).CloseIdleConnections()
		w.Close()
	})
	return w
}

func (w *wire) changes() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([]string{}, w.sent...)
}

func TestWhatAFileLacksIsShownBeforeItIsRemoved(t *testing.T) {
	server := startServer(t)
	at(t, server, 0, "", "streams", "create", "trains", "--partitions", "3", "--owner", "rail", "--description", "old")
	call(t, server, http.MethodPut, "/v1/event-types/w.v1", `{"type":"w.v1","stream":"trains","owner":"rail","audience":"public","keyAttribute":"source","dedupe":"1h",
		"compatibility":"full","sources":["/trains/"],"personal":true,"quota":{"eventsPerSecond":5},"dedupeRequired":true,"documentation":"# W","schema":`+speedSchema+`}`)
	before := typeAt(t, server, "w.v1")
	dir := files(t, `{"type":"w.v1","description":"new text","dedupeRequired":false,"schemas":[`+speedSchema+`]}`)
	if err := os.Mkdir(filepath.Join(dir, streamsFolder), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, streamsFolder, "trains.json"), []byte(`{"name":"trains"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	const want = `~ stream trains
    - description: was "old"
~ event type w.v1
    - dedupeRequired: was true
    description: "new text"
    - documentation: was "# W"
    - personal: was true
    - quota: was {"eventsPerSecond":5}
    - sources: was ["/trains/"]
`
	for _, args := range [][]string{{"types", "diff", dir}, {"types", "apply", dir, "--dry-run"}} {
		code := 5
		if args[1] == "apply" {
			code = 0
		}
		if diff := cmp.Diff(want, at(t, server, code, "", args...).out); diff != "" {
			t.Errorf("%v (-want +got)\n%s", args, diff)
		}
	}
	if diff := cmp.Diff(before, typeAt(t, server, "w.v1")); diff != "" {
		t.Errorf("telling changed something\n%s", diff)
	}
	if diff := cmp.Diff(want, at(t, server, 0, "", "types", "apply", dir).out); diff != "" {
		t.Error(diff)
	}
	at(t, server, 0, "", "types", "diff", dir)
	left := map[string]any{
		"type": "w.v1", "stream": "trains", "description": "new text", "owner": "rail", "audience": "public",
		"keyAttribute": "source", "dedupe": "1h", "compatibility": "full",
	}
	if diff := cmp.Diff(left, typeAt(t, server, "w.v1")); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	stream := call(t, server, http.MethodGet, "/v1/streams/trains", "")
	if stream["owner"] != "rail" || stream["partitions"] != 3.0 || stream["description"] != nil {
		t.Errorf("%v", stream)
	}
}

func TestApplyOverwritesNobodyAndTellsWhatWasDone(t *testing.T) {
	server := startServer(t)
	at(t, server, 0, "", "streams", "create", "trains")
	for _, typ := range []string{"a", "b", "c"} {
		at(t, server, 0, "", "types", "register", typ, "--stream", "trains")
	}
	dir := files(t, `{"type":"a","description":"A"}`, `{"type":"b","description":"B"}`, `{"type":"c","description":"C"}`)
	w := wireTo(t, server, func(r *http.Request) {
		if r.URL.Path == "/v1/event-types/b" {
			call(t, server, http.MethodPut, "/v1/event-types/b", `{"stream":"trains","personal":true}`)
		}
	})
	o := at(t, w.URL, 4, "", "types", "apply", dir)
	for _, want := range []string{"event type b: somebody else has changed it", "done: event type a\n", "not done: event type b, event type c\n"} {
		if !strings.Contains(o.err, want) {
			t.Errorf("lacks %q:\n%s", want, o.err)
		}
	}
	if got := typeAt(t, server, "b"); got["personal"] != true || got["description"] != nil {
		t.Errorf("the other's change was overwritten: %v", got)
	}
	if a, c := typeAt(t, server, "a"), typeAt(t, server, "c"); a["description"] != "A" || c["description"] != nil {
		t.Errorf("%v %v", a, c)
	}

	// Of a type that somebody makes meanwhile too.
	dir = files(t, `{"type":"d","description":"D"}`)
	w = wireTo(t, server, func(*http.Request) {
		call(t, server, http.MethodPut, "/v1/event-types/d", `{"stream":"trains","personal":true}`)
	})
	if o := at(t, w.URL, 4, "", "types", "apply", dir); !strings.Contains(o.err, "already exists") {
		t.Error(o.err)
	}
	if got := typeAt(t, server, "d"); got["personal"] != true {
		t.Errorf("%v", got)
	}
}

func TestTypesComeWithTheirSchemasAfterWhatTheseReferTo(t *testing.T) {
	from, to := startServer(t), startServer(t)
	at(t, from, 0, "", "streams", "create", "trains")
	ref := func(to string) string { return `{"type":"object","properties":{"x":{"$ref":"` + to + `"}}}` }
	for _, def := range []struct{ typ, schema string }{
		{"zz.base.v1", `{"type":"integer","$comment":"<1>"}`},
		{"aa.ref.v1", ref("/v1/event-types/zz.base.v1/schemas/1")},
		{"bb.ref.v1", ref("../../aa.ref.v1/schemas/1#/properties/x")},
	} {
		at(t, from, 0, def.schema, "types", "register", def.typ, "--stream", "trains", "--schema", "-")
	}
	// Two types may each refer to the other, in versions that come after one another.
	at(t, from, 0, ref("../../bb.ref.v1/schemas/1"), "types", "register", "zz.base.v1", "--replace", "--compatibility", "none", "--schema", "-")
	at(t, from, 0, "", "types", "register", "zz.base.v1", "--replace", "--compatibility", "backward", "--example", file(t, `{"x":{}}`))

	dir, other := t.TempDir(), t.TempDir()
	at(t, from, 0, "", "types", "export", dir)
	at(t, to, 0, "", "types", "apply", dir, "--dry-run")
	w := wireTo(t, to, nil)
	at(t, w.URL, 0, "", "types", "apply", dir)
	for _, change := range w.changes() {
		if strings.HasPrefix(change, "POST /v1/event-types ") && !strings.Contains(change, `"schema":`) {
			t.Errorf("made without its schema: %s", change)
		}
	}
	at(t, to, 0, "", "types", "export", other)
	if diff := cmp.Diff(read(t, dir), read(t, other)); diff != "" {
		t.Errorf("what came out differs from what went in (-in +out)\n%s", diff)
	}
}

func TestReferencesThatWouldLeadAstrayAreToldBeforeAnythingIsWritten(t *testing.T) {
	server := startServer(t)
	at(t, server, 0, "", "streams", "create", "trains")
	// A name that was used before goes on with its numbers.
	at(t, server, 0, speedSchema, "types", "register", "used", "--stream", "trains", "--schema", "-")
	at(t, server, 0, "", "types", "delete", "used", "--yes")
	at(t, server, 0, `{"type":"string"}`, "types", "register", "there", "--stream", "trains", "--schema", "-")
	was := names(t, server)
	for name, test := range map[string]struct {
		types []string
		told  string
	}{
		"absent type":    {[]string{`{"type":"a","schemas":[{"$ref":"../../nowhere/schemas/1"}]}`}, "neither the server nor the files have version 1 of nowhere"},
		"absent version": {[]string{`{"type":"a","schemas":[{"$ref":"../../there/schemas/2"}]}`}, "neither the server nor the files have version 2 of there"},
		"latest":         {[]string{`{"type":"a","schemas":[{"$ref":"../../there/schemas/latest"}]}`}, "by its number"},
		"cycle": {
			[]string{`{"type":"a","schemas":[{"$ref":"../../b/schemas/1"}]}`, `{"type":"b","schemas":[{"$ref":"https://x.test/v1/event-types/a/schemas/1"}]}`},
			"refers to itself by way of others",
		},
		"taken number": {
			[]string{`{"type":"a","schemas":[{"$ref":"../../used/schemas/1"}]}`, `{"type":"used","schemas":[{"type":"integer"}]}`},
			"that schema the number 2",
		},
		"number of another schema": {
			[]string{`{"type":"a","schemas":[{"$ref":"../../there/schemas/1"}]}`, `{"type":"there","compatibility":"none","schemas":[{"type":"integer"}]}`},
			"that schema the number 2",
		},
		"number that is not in the target yet": {
			[]string{`{"type":"a","schemas":[{"$ref":"../../b/schemas/3"}]}`, `{"type":"b","firstVersion":3,"schemas":[{"type":"integer"}]}`},
			"that schema the number 1",
		},
		"absent stream": {nil, `there is no stream "nowhere"`},
	} {
		t.Run(name, func(t *testing.T) {
			dir := files(t, test.types...)
			if test.types == nil {
				if err := os.WriteFile(filepath.Join(dir, typesFolder, "a.json"), []byte(`{"type":"a","stream":"nowhere"}`), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			if o := at(t, server, 5, "", "types", "apply", dir, "--dry-run"); !strings.Contains(o.out, test.told) {
				t.Error(o.out)
			}
			if o := at(t, server, 4, "", "types", "apply", dir); !strings.Contains(o.err, "nothing was written") {
				t.Error(o.err)
			}
			if is := names(t, server); is != was {
				t.Errorf("there are %s", is)
			}
		})
	}
	// The same numbers lead nowhere else: a name may be taken up again with its last schema.
	at(t, server, 0, "", "types", "apply", files(t, `{"type":"a","schemas":[{"$ref":"../../used/schemas/1"}]}`, `{"type":"used","schemas":[`+speedSchema+`]}`))
}

func TestHistoryThatWasTakenUnderOtherRulesMovesToANewTypeOnly(t *testing.T) {
	from, to := startServer(t), startServer(t)
	at(t, from, 0, "", "streams", "create", "trains")
	// Undecided, so forced.
	at(t, from, 0, undecidedOld, "types", "register", "forced", "--stream", "trains", "--schema", "-")
	at(t, from, 4, undecidedNew, "schemas", "register", "forced", "-")
	at(t, from, 0, undecidedNew, "schemas", "register", "forced", "-", "--force")
	// Of when nothing was promised.
	at(t, from, 0, speedSchema, "types", "register", "wild", "--stream", "trains", "--schema", "-", "--compatibility", "none")
	at(t, from, 0, speedBroken, "schemas", "register", "wild", "-")
	at(t, from, 0, "", "types", "register", "wild", "--replace", "--compatibility", "backward", "--example", file(t, `{"speed":"fast"}`))

	dir, other := t.TempDir(), t.TempDir()
	at(t, from, 0, "", "types", "export", dir)
	if text := read(t, dir)["types/forced.json"]; !strings.Contains(strings.Join(strings.Fields(text), ""), `"forcedVersions":[2]`) {
		t.Error(text)
	}
	if o := at(t, to, 0, "", "types", "apply", dir, "--dry-run"); strings.Count(o.out, "not known before the type is there") != 2 {
		t.Error(o.out)
	}
	if o := at(t, to, 0, "", "types", "apply", dir); !strings.Contains(o.out, "event type wild: schema 2 is incompatible with those before it (backward)") {
		t.Error(o.out)
	}
	at(t, to, 0, "", "types", "export", other)
	if diff := cmp.Diff(read(t, dir), read(t, other)); diff != "" {
		t.Errorf("what came out differs from what went in (-in +out)\n%s", diff)
	}

	// A type that is there keeps its promise.
	third := startServer(t)
	at(t, third, 0, "", "streams", "create", "trains")
	at(t, third, 0, speedSchema, "types", "register", "wild", "--stream", "trains", "--schema", "-")
	at(t, third, 0, undecidedOld, "types", "register", "forced", "--stream", "trains", "--schema", "-", "--example", file(t, `"aa"`))
	o := at(t, third, 5, "", "types", "apply", dir, "--dry-run")
	if !strings.Contains(o.out, "incompatible with version 1 (backward)") || !strings.Contains(o.out, "undecided with version 1 (backward)") {
		t.Error(o.out)
	}
	at(t, third, 4, "", "types", "apply", dir)
	for _, typ := range []string{"wild", "forced"} {
		if got := call(t, third, http.MethodGet, typePath(typ), ""); got["latestVersion"] != 1.0 || got["compatibility"] != "backward" {
			t.Errorf("%v", got)
		}
	}
	// Nor does it where that shows only on the way.
	onTheWay := files(t, `{"type":"wild","schemas":[`+speedSchema+`,`+speedSchema2+`,`+speedBroken+`]}`)
	o = at(t, third, 0, "", "types", "apply", onTheWay, "--dry-run")
	if !strings.Contains(o.out, "of the schemas after 2 it is not known") {
		t.Error(o.out)
	}
	o = at(t, third, 4, "", "types", "apply", onTheWay)
	if !strings.Contains(o.err, "done in part: event type wild (schema 2 registered, schema 3 not registered)\n") {
		t.Error(o.err)
	}
	if got := call(t, third, http.MethodGet, typePath("wild"), ""); got["latestVersion"] != 2.0 || got["compatibility"] != "backward" {
		t.Errorf("%v", got)
	}
	// What is to be forced is, also where the type is there.
	if err := os.Remove(filepath.Join(dir, typesFolder, "wild.json")); err != nil {
		t.Fatal(err)
	}
	at(t, third, 0, "", "types", "apply", dir)
	at(t, third, 0, "", "types", "diff", dir)
}

func TestApplyThatStopsHalfWayTellsSoAndGoesOnLater(t *testing.T) {
	server := startServer(t)
	at(t, server, 0, "", "streams", "create", "trains")
	valid := []string{
		`{"type":"a","schemas":[` + speedSchema + `]}`,
		`{"type":"b","compatibility":"backward","examples":[{"speed":1,"at":"Oslo S"}],"schemas":[` + speedSchema + `,` + speedBroken + `,` + speedSchema2 + `]}`,
		`{"type":"c","schemas":[` + speedSchema + `,` + speedBroken + `]}`,
	}
	broken := append([]string{}, valid...)
	broken[1] = strings.Replace(valid[1], `Oslo S"`, `Oslo S","more":1`, 1)
	o := at(t, server, 4, "", "types", "apply", files(t, broken...))
	for _, want := range []string{"event type b: schema 3", "/examples/0", "done: event type a\n", "done in part: event type b (it is made, schema 1 registered, schema 2 registered, schema 3 not registered, compatibility none until it is done, without examples until it is done)\n", "not done: event type c\n"} {
		if !strings.Contains(o.err, want) {
			t.Errorf("lacks %q:\n%s", want, o.err)
		}
	}
	dir := files(t, valid...)
	at(t, server, 0, "", "types", "apply", dir)
	at(t, server, 0, "", "types", "diff", dir)
	for typ, latest := range map[string]float64{"b": 3, "c": 2} {
		if got := call(t, server, http.MethodGet, typePath(typ), ""); got["latestVersion"] != latest || got["compatibility"] != "backward" {
			t.Errorf("%v", got)
		}
	}
}

func TestWhatAStreamCannotChangeIsToldBeforeAnythingIsWritten(t *testing.T) {
	server := startServer(t)
	at(t, server, 0, "", "streams", "create", "trains", "--description", "old")
	dir := files(t, `{"type":"a"}`)
	if err := os.Mkdir(filepath.Join(dir, streamsFolder), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, streamsFolder, "trains.json"), []byte(`{"name":"trains","description":"new","compaction":true}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if o := at(t, server, 5, "", "types", "apply", dir, "--dry-run"); !strings.Contains(o.out, "compaction cannot be changed") {
		t.Error(o.out)
	}
	at(t, server, 4, "", "types", "apply", dir)
	if got := call(t, server, http.MethodGet, "/v1/streams/trains", ""); got["description"] != "old" {
		t.Errorf("%v", got)
	}
}

func TestReferencesAreFoundWhereSchemasAre(t *testing.T) {
	got := references("a", 1, json.RawMessage(`{
		"$ref":"#/$defs/x", "$defs":{"self":{"$ref":"/v1/event-types/a/schemas/1"},"x":{"$ref":"1#/$defs/y"},"const":{"$ref":"2"},"$ref":{"$ref":"/v1/event-types/b%2Fc/schemas/3#/x"}},
		"allOf":[{"$ref":"../../d/schemas/4"},{"$dynamicRef":"https://x.test/deep/v1/event-types/e/schemas/5"}],
		"const":{"$ref":"../../no/schemas/1"}, "default":{"$ref":"../../no/schemas/1"},
		"properties":{"default":{"$id":"/v1/event-types/f/schemas/9","$ref":"6"}},
		"items":{"$ref":"../../g/schemas/latest"}, "not":{"$ref":"/elsewhere"}}`))
	want := []reference{
		{"../../d/schemas/4", "d", 4},
		{"../../g/schemas/latest", "g", 0},
		{"/v1/event-types/b%2Fc/schemas/3#/x", "b/c", 3},
		{"2", "a", 2},
		{"6", "f", 6},
		{"https://x.test/deep/v1/event-types/e/schemas/5", "e", 5},
	}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(reference{})); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

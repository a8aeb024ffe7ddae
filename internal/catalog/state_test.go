package catalog

import (
	"encoding/json"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/eventissuer/eventissuer/broker"
	"github.com/eventissuer/eventissuer/internal/table"
	"github.com/eventissuer/eventissuer/internal/table/tabletest"
)

// shownState is a stream's state as the API has it; "null" for none.
func shownState(t *testing.T, s Stream) string {
	t.Helper()
	return string(must(json.Marshal(s.State))(t))
}

func TestAStateTakesTheDefaultsOfWhatIsNotSaid(t *testing.T) {
	fleet(t, 1, func(t *testing.T, log *tabletest.Log, r []*process) {
		for name, compaction := range map[string]bool{"plain": false, "compacted": true} {
			if err := log.Create(t.Context(), name, broker.TopicConfig{Partitions: 1, Compaction: compaction}); err != nil {
				t.Fatal(err)
			}
		}
		for _, c := range []struct{ stream, want string }{
			{`{}`, `null`},
			{`{"state":null}`, `null`},
			{`{"state":{}}`, `{"window":"1h","maxKeys":100000,"maxBytes":"256MiB"}`},
			{`{"state":{"window":null,"maxKeys":null,"maxBytes":null}}`, `{"window":"1h","maxKeys":100000,"maxBytes":"256MiB"}`},
			{`{"compaction":true,"state":{}}`, `{"window":"forever","maxKeys":100000,"maxBytes":"256MiB"}`},
			{`{"topic":"plain","state":{}}`, `{"window":"1h","maxKeys":100000,"maxBytes":"256MiB"}`},
			{`{"topic":"compacted","state":{"maxKeys":5}}`, `{"window":"forever","maxKeys":5,"maxBytes":"256MiB"}`},
			{`{"compaction":true,"state":{"window":"24h"}}`, `{"window":"24h","maxKeys":100000,"maxBytes":"256MiB"}`},
			{`{"state":{"window":"forever","maxKeys":1,"maxBytes":65536}}`, `{"window":"forever","maxKeys":1,"maxBytes":"64KiB"}`},
			{`{"state":{"window":"1s","maxKeys":10000000,"maxBytes":"64GiB"}}`, `{"window":"1s","maxKeys":10000000,"maxBytes":"64GiB"}`},
			{`{"state":{"maxBytes":"100001"}}`, `{"window":"1h","maxKeys":100000,"maxBytes":"100001"}`},
		} {
			s := must(DecodeStream([]byte(c.stream)))(t)
			s.Name = "s"
			s = must(r[0].CreateStream(t.Context(), s))(t)
			if got := shownState(t, s); got != c.want {
				t.Errorf("%s has the state %s, want %s", c.stream, got, c.want)
			}
			if err := r[0].DeleteStream(t.Context(), "s", "", false); err != nil {
				t.Fatal(err)
			}
		}
	})
}

func TestAStateIsKeptWithItsDefaults(t *testing.T) {
	fleet(t, 2, func(t *testing.T, log *tabletest.Log, r []*process) {
		given := Stream{Name: "s", State: &State{MaxKeys: 7}}
		made := must(r[0].CreateStream(t.Context(), given))(t)
		want := State{Window: Duration(time.Hour), MaxKeys: 7, MaxBytes: 256 << 20}
		if *made.State != want {
			t.Errorf("created with %+v", made.State)
		}
		if *given.State != (State{MaxKeys: 7}) {
			t.Errorf("what was given has become %+v", given.State)
		}
		synctest.Wait()
		late := start(t, log.View(9, tabletest.Faults{}))
		defer late.stop()
		for i, p := range append(r, late) {
			if s, ok := p.Stream("s"); !ok || s.State == nil || *s.State != want {
				t.Errorf("replica %d has %+v", i, s.State)
			}
		}
		_, err := r[1].CreateStream(t.Context(), given)
		wants(t, err, ErrExists)
		records := log.Records("_test.catalog", 0)
		if last := string(records[len(records)-1].Value); !strings.Contains(last, `"state":{"window":"1h","maxKeys":7,"maxBytes":"256MiB"}`) {
			t.Errorf("the table has %s", last)
		}
	})
}

func TestAStreamFromBeforeThereWereStatesHasNone(t *testing.T) {
	k := newKind[streamBody]("stream", nil, func(string, error) { t.Error("the stream is not read") })
	old := `{"name":"old","topic":"t","partitions":1,"retention":"1h","compaction":true,"owner":"local"}`
	k.apply("old", table.Version{Body: []byte(old)}, false)
	k.settle()
	if s, ok := visible(k.get("old")); !ok || s.State != nil {
		t.Errorf("%+v", s)
	}
	if got := string(must(marshal(k.get("old").v))(t)); got != old {
		t.Errorf("written again as %s", got)
	}
}

func TestAStateIsChangedMemberByMember(t *testing.T) {
	const defaults = `{"window":"1h","maxKeys":100000,"maxBytes":"256MiB"}`
	fleet(t, 1, func(t *testing.T, _ *tabletest.Log, r []*process) {
		var told []string
		r[0].AuditTo(auditorFunc(func(e Entry) {
			if e.Action == ActionChanged {
				told = append(told, e.Detail)
			}
		}))
		for _, name := range []string{"s", "compacted"} {
			must(r[0].CreateStream(t.Context(), Stream{Name: name, Compaction: name == "compacted"}))(t)
		}
		for _, step := range []struct{ stream, patch, want string }{
			{"s", `{"state":null}`, `null`},
			{"s", `{"state":{}}`, defaults},
			{"s", `{"state":{"maxKeys":5}}`, `{"window":"1h","maxKeys":5,"maxBytes":"256MiB"}`},
			{"s", `{"state":{"window":"forever","maxBytes":"1GiB"}}`, `{"window":"forever","maxKeys":5,"maxBytes":"1GiB"}`},
			{"s", `{"description":"x"}`, `{"window":"forever","maxKeys":5,"maxBytes":"1GiB"}`},
			{"s", `{"state":{"window":null,"maxKeys":6}}`, `{"window":"1h","maxKeys":6,"maxBytes":"1GiB"}`},
			{"s", `{"state":{"maxKeys":null,"maxBytes":null}}`, defaults},
			{"s", `{"state":null}`, `null`},
			{"s", `{"state":{"window":"2h","maxKeys":null}}`, `{"window":"2h","maxKeys":100000,"maxBytes":"256MiB"}`},
			{"compacted", `{"state":{}}`, `{"window":"forever","maxKeys":100000,"maxBytes":"256MiB"}`},
			{"compacted", `{"state":{"window":"2h"}}`, `{"window":"2h","maxKeys":100000,"maxBytes":"256MiB"}`},
			{"compacted", `{"state":{"window":null}}`, `{"window":"forever","maxKeys":100000,"maxBytes":"256MiB"}`},
		} {
			patch := must(DecodeStreamPatch([]byte(step.patch)))(t)
			s := must(r[0].UpdateStream(t.Context(), step.stream, patch, "", false))(t)
			if got := shownState(t, s); got != step.want {
				t.Errorf("%s makes it %s, want %s", step.patch, got, step.want)
			}
			if again := must(r[0].UpdateStream(t.Context(), step.stream, patch, "", false))(t); again.ETag() != s.ETag() {
				t.Errorf("%s a second time makes another version", step.patch)
			}
		}
		want := []string{
			"state: nothing -> " + defaults,
			`state: ` + defaults + ` -> {"window":"1h","maxKeys":5,"maxBytes":"256MiB"}`,
		}
		if diff := cmp.Diff(want, told[:len(want)]); diff != "" {
			t.Errorf("the audit tells (-want +got)\n%s", diff)
		}
	})
}

func TestWhatIsWrongWithAStateIsPointedAt(t *testing.T) {
	for _, c := range []struct {
		state string
		want  []string
	}{
		{`1`, []string{"/state"}},
		{`[]`, []string{"/state"}},
		{`"1h"`, []string{"/state"}},
		{`true`, []string{"/state"}},
		{`{"size":1}`, []string{"/state/size"}},
		{`{"maxKeys":1,"maxKeys":2}`, []string{"/state/maxKeys"}},
		{`{"window":"0s","maxKeys":0,"maxBytes":0}`, []string{"/state/maxBytes", "/state/maxKeys", "/state/window"}},
		{`{"window":3600,"maxKeys":"5","maxBytes":true}`, []string{"/state/maxBytes", "/state/maxKeys", "/state/window"}},
		{`{"window":"999ms","maxKeys":10000001,"maxBytes":"65GiB"}`, []string{"/state/maxBytes", "/state/maxKeys", "/state/window"}},
		{`{"window":"-1h","maxKeys":-1,"maxBytes":-1}`, []string{"/state/maxBytes", "/state/maxKeys", "/state/window"}},
		{`{"maxKeys":1.5,"maxBytes":"1.5MiB"}`, []string{"/state/maxBytes", "/state/maxKeys"}},
		{`{"maxBytes":"65535"}`, []string{"/state/maxBytes"}},
		{`{"maxBytes":"99999999999GiB"}`, []string{"/state/maxBytes"}},
		{`{"maxKeys":1e400}`, []string{"/state/maxKeys"}},
	} {
		pointers(t, second(DecodeStream([]byte(`{"name":"s","state":`+c.state+`}`))), c.want...)
		pointers(t, second(DecodeStreamPatch([]byte(`{"state":`+c.state+`}`))), c.want...)
	}
	err := second(DecodeStream([]byte(`{"name":1,"retention":"0s","state":{"window":"1ms","maxKeys":0,"maxBytes":"big"}}`)))
	pointers(t, err, "/name", "/retention", "/state/maxBytes", "/state/maxKeys", "/state/window")
	for _, want := range []string{`1s or longer, or "forever"; got 1ms`, "1 to 10000000; got 0", `a size such as "256MiB" or "64KiB", or a whole number of bytes; got "big"`} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%v\nsays not: %s", err, want)
		}
	}
	fleet(t, 1, func(t *testing.T, _ *tabletest.Log, r []*process) {
		wrong := State{Window: 1, MaxKeys: -1, MaxBytes: 1}
		want := []string{"/state/window", "/state/maxKeys", "/state/maxBytes"}
		pointers(t, second(r[0].CreateStream(t.Context(), Stream{Name: "s", State: &wrong})), want...)
		must(r[0].CreateStream(t.Context(), Stream{Name: "s"}))(t)
		pointers(t, second(r[0].UpdateStream(t.Context(), "s", StreamPatch{State: &StatePatch{Window: &wrong.Window, MaxKeys: &wrong.MaxKeys, MaxBytes: &wrong.MaxBytes}}, "", false)), want...)
	})
}

func TestASizeIsShownInTheLargestUnitThatKeepsItExact(t *testing.T) {
	for given, want := range map[string]string{
		`0`: "0", `1`: "1", `"17"`: "17", `1023`: "1023", `1024`: "1KiB", `"1024KiB"`: "1MiB", `"1536MiB"`: "1536MiB", `"2048MiB"`: "2GiB",
		`"1025KiB"`: "1025KiB", `1048577`: "1048577", `"0GiB"`: "0", `"\u0031KiB"`: "1KiB", `9223372036854775807`: "9223372036854775807",
	} {
		var s Size
		if err := json.Unmarshal([]byte(given), &s); err != nil || s.String() != want {
			t.Errorf("%s is %v, want %s: %v", given, s, want, err)
		}
	}
	for _, bad := range []string{`""`, `"KiB"`, `"1kib"`, `"1KB"`, `"1 KiB"`, `" 1"`, `"+1"`, `"-1"`, `-1`, `1.5`, `1e3`, `"0x10"`, `"1_0"`, `true`, `[]`, `{}`, `9223372036854775808`, `"8589934592GiB"`} {
		s := Size(5)
		if err := json.Unmarshal([]byte(bad), &s); err == nil || s != 5 {
			t.Errorf("%s is read as %v: %v", bad, s, err)
		}
	}
}

func FuzzSize(f *testing.F) {
	for _, seed := range []string{"1", "64KiB", "256MiB", "8589934591GiB", "-1", "1.5GiB", ""} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		var s, again Size
		if s.UnmarshalText([]byte(text)) != nil {
			return
		}
		if err := again.UnmarshalText([]byte(s.String())); err != nil || again != s || s < 0 {
			t.Errorf("%q is %d, shown as %v, which is %d: %v", text, s, s, again, err)
		}
	})
}

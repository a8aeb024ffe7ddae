package event_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/eventissuer/eventissuer/internal/event"
)

func mustJSON(t testing.TB, v any) []byte {
	t.Helper()
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		t.Fatal(err)
	}
	return bytes.TrimSpace(b.Bytes())
}

func parsed(t testing.TB, text string) event.Event {
	t.Helper()
	e, err := event.Parse([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func promotion(t testing.TB, promote map[string]string) *event.Promotion {
	t.Helper()
	p, err := event.CompilePromote(promote)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestValuesOfDataBecomeAttributes(t *testing.T) {
	for _, c := range []struct{ name, given, want string }{
		{"of each kind", `,"data":{"s":"a\"b","n":-7,"big":2147483648,"half":0.50,"yes":true}`, `,"data":{"s":"a\"b","n":-7,"big":2147483648,"half":0.50,"yes":true},"big":"2147483648","half":"0.50","n":-7,"s":"a\"b","yes":true`},
		{"what is not there, and null", `,"data":{"s":null}`, `,"data":{"s":null}`},
		{"no object", `,"data":["s"]`, `,"data":["s"]`},
		{"no data", ``, ``},
		{"data in Base64", `,"data_base64":"eyJzIjoxfQ=="`, `,"data_base64":"eyJzIjoxfQ=="`},
		{"the same already", `,"n":"-7","yes":true,"data":{"n":-7,"yes":true}`, `,"n":"-7","yes":true,"data":{"n":-7,"yes":true}`},
		{"null already", `,"n":null,"data":{"n":-7,"s":"x"} `, `,"n":-7,"data":{"n":-7,"s":"x"} ,"s":"x"`},
		{"an attribute without data for it", `,"n":5,"data":{}`, `,"n":5,"data":{}`},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := promotion(t, map[string]string{"s": "/s", "n": "/n", "big": "/big", "half": "/half", "yes": "/yes"})
			e, problems := p.Apply(parsed(t, with(c.given)))
			if problems != nil {
				t.Fatal(problems)
			}
			if diff := cmp.Diff(with(c.want), string(e.JSON())); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			sound(t, e, false)
			sameEvent(t, parsed(t, string(e.JSON())), e)
			again, problems := p.Apply(e)
			if problems != nil || !bytes.Equal(again.JSON(), e.JSON()) {
				t.Errorf("promoted twice: %s, %v", again.JSON(), problems)
			}
		})
	}
}

func TestWhatCannotBePromotedIsTold(t *testing.T) {
	p := promotion(t, map[string]string{"a": "/a", "b": "/deep/b", "c": "/c", "d": "/d", "e": "/e"})
	raw := with(`,"c":"1","data":{"a":[],"deep":{"b":{}},"c":2,"d":"\u0000","e":"` + strings.Repeat("x", 5000) + `"}`)
	e, problems := p.Apply(parsed(t, raw))
	var got []string
	for _, p := range problems {
		if p.Message == "" || p.Expected == "" {
			t.Errorf("%+v does not say what to do", p)
		}
		got = append(got, p.Pointer)
	}
	if diff := cmp.Diff([]string{"/data/a", "/data/deep/b", "/c", "/data/d", "/data/e"}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if string(e.JSON()) != raw {
		t.Errorf("the event is changed: %s", e.JSON())
	}
}

func TestPromotionsThatCannotBeAreRefused(t *testing.T) {
	for _, c := range []struct {
		promote map[string]string
		want    []string
	}{
		{map[string]string{"type": "/a", "data": "/a", "A": "/a", "": "/a", "eventissuercursor": "/a", "a/b": "/a", "ok": "/a"}, []string{"/", "/A", "/a~1b", "/data", "/eventissuercursor", "/type"}},
		{map[string]string{"a": "b", "b": "/~", "c": "/~3", "d": strings.Repeat("/x", 1000), "partitionkey": ""}, []string{"/a", "/b", "/c", "/d"}},
		{map[string]string{"a": "", "b": "", "c": "", "d": "", "e": "", "f": "", "g": "", "h": "", "i": "", "j": "", "k": "", "l": "", "m": "", "n": "", "o": "", "p": "", "q": ""}, []string{""}},
	} {
		_, err := event.CompilePromote(c.promote)
		var mistakes *event.MappingError
		if !errors.As(err, &mistakes) {
			t.Errorf("%v gives %v", c.promote, err)
			continue
		}
		var got []string
		for _, p := range mistakes.Problems {
			got = append(got, p.Pointer)
		}
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%v: (-want +got):\n%s", c.promote, diff)
		}
	}
}

func TestAnAttributeIsSetAndAllElseStays(t *testing.T) {
	for _, c := range []struct{ given, name, value, want string }{
		{with(``), "dataschema", "https://x/1", with(`,"dataschema":"https://x/1"`)},
		{with(`,"data":{"dataschema":"y:y"} `), "dataschema", "x:y", with(`,"data":{"dataschema":"y:y"} ,"dataschema":"x:y"`)},
		{with(` , "dataschema" : "a:b" ,"x":1`), "dataschema", "x:y", with(` , "dataschema" : "x:y" ,"x":1`)},
		{with(`,"d\u0061taschema":"a:\u0062"`), "dataschema", "x:y", with(`,"d\u0061taschema":"x:y"`)},
		{with(`,"dataschema":null`), "dataschema", "x:y", with(`,"dataschema":"x:y"`)},
		{with(`,"dataschema":"x:y"`), "dataschema", "x:y", with(`,"dataschema":"x:y"`)},
		{with(`,"n":-0`), "n", "5", with(`,"n":"5"`)},
		{with(`,"n":5`), "n", "5", with(`,"n":"5"`)},
		{with(`,"x":"\u00e6"`), "y", `æ"`, with(`,"x":"\u00e6","y":"æ\""`)},
	} {
		e := parsed(t, c.given)
		got, err := e.With(c.name, c.value)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(c.want, string(got.JSON())); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
		sameEvent(t, parsed(t, c.want), got)
		if string(e.JSON()) != c.given {
			t.Errorf("the event itself becomes %s", e.JSON())
		}
	}
	e := parsed(t, with(``))
	for name, value := range map[string]string{
		"": "x", "X": "x", "data": "x", "data_base64": "x", "eventissuercursor": "x", "subject": "", "dataschema": "/x", "time": "now",
		"source": " ", "specversion": "2", "x": "\n", "y": "\xff", strings.Repeat("n", 256): "x",
	} {
		got, err := e.With(name, value)
		explained(t, err)
		if got.JSON() != nil {
			t.Errorf("%s: %q gives an event", name, value)
		}
	}
	var none event.Event
	if _, err := none.With("x", "y"); err == nil {
		t.Error("what is no event gets an attribute")
	}
}

func TestAnEventHasNoMoreAttributesThanCanBeCounted(t *testing.T) {
	e := parsed(t, with(``))
	var err error
	for i := 4; i < 255; i++ {
		if e, err = e.With("x"+strings.Repeat("x", i%200)+string(rune('a'+i/200)), "y"); err != nil {
			t.Fatal(i, err)
		}
	}
	if _, err = e.With("more", "y"); err == nil {
		t.Error("there are 256")
	}
	if _, err = e.With("xxxxxa", "z"); err != nil {
		t.Errorf("one that is there cannot be replaced: %v", err)
	}
}

func TestAnEventCanStandOverOtherBytes(t *testing.T) {
	e := parsed(t, with(`,"x":"\u00e6","data":{"a":1}`))
	other := bytes.Clone(e.JSON())
	moved := e
	moved.MoveTo(other)
	sameEvent(t, e, moved)
	if &moved.JSON()[0] != &other[0] {
		t.Error("the event still holds its own bytes")
	}
}

// onlyOneChanged checks that after differs from before in one attribute alone.
func onlyOneChanged(t *testing.T, before, after event.Event, name, value string) {
	t.Helper()
	sound(t, after, true)
	again, err := event.ParseStored(bytes.Clone(after.JSON()))
	if err != nil {
		t.Fatal(err)
	}
	sameEvent(t, again, after)
	if v, ok := after.Attribute(name); !ok || v.String() != value || v.Kind() != event.String {
		t.Fatalf("%s: %s is %q of kind %s, want %q", after.JSON(), name, v, v.Kind(), value)
	}
	var was, is map[string]json.RawMessage
	if err := json.Unmarshal(before.JSON(), &was); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(after.JSON(), &is); err != nil {
		t.Fatal(err)
	}
	delete(was, name)
	delete(is, name)
	if diff := cmp.Diff(was, is); diff != "" {
		t.Fatalf("%s: (-before +after):\n%s", name, diff)
	}
}

func FuzzWith(f *testing.F) {
	seedEvents(func(text string) {
		f.Add([]byte(text), "dataschema", "https://x/1")
		f.Add([]byte(text), "x", `a"b\æ`)
	})
	f.Fuzz(func(t *testing.T, raw []byte, name, value string) {
		e, err := event.ParseStored(raw)
		if err != nil {
			return
		}
		before := bytes.Clone(e.JSON())
		after, err := e.With(name, value)
		if !bytes.Equal(before, e.JSON()) {
			t.Fatal("the event itself is changed")
		}
		if err != nil {
			explained(t, err)
			return
		}
		onlyOneChanged(t, e, after, name, value)
		if strict, err := event.Parse(bytes.Clone(before)); err == nil {
			after, err := strict.With(name, value)
			if err != nil {
				t.Fatal(err)
			}
			sound(t, after, false)
		}
	})
}

func FuzzPromote(f *testing.F) {
	seedEvents(func(text string) { f.Add([]byte(text), "/a", "/b/0") })
	f.Add([]byte(with(`,"x":"1","data":{"a":1,"a":[{"b":"\u00e6"}]}`)), "/a", "/a/0/b")
	f.Fuzz(func(t *testing.T, raw []byte, x, y string) {
		e, err := event.Parse(raw)
		if err != nil {
			return
		}
		p, err := event.CompilePromote(map[string]string{"x": x, "y": y})
		if err != nil {
			return
		}
		made, problems := p.Apply(e)
		sound(t, made, false)
		if problems != nil {
			if !bytes.Equal(made.JSON(), e.JSON()) {
				t.Fatalf("%s is changed in spite of %v", e.JSON(), problems)
			}
			return
		}
		again, problems := p.Apply(made)
		if problems != nil || !bytes.Equal(again.JSON(), made.JSON()) {
			t.Fatalf("%s becomes %s, %v", made.JSON(), again.JSON(), problems)
		}
		sameEvent(t, parsed(t, string(made.JSON())), made)
	})
}

func TestPromotedAttributesAreTheValuesOfData(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		quote := func(s string) string { return string(mustJSON(t, s)) }
		data := drawJSON(rt, quote, rapid.String(), 3)
		e, err := event.Parse([]byte(with(`,"data":` + data)))
		if err != nil {
			t.Fatal(err)
		}
		made, problems := promotion(t, map[string]string{"x": "/a", "y": "/a/b"}).Apply(e)
		if problems != nil {
			return
		}
		var decoded any
		dec := json.NewDecoder(strings.NewReader(data))
		dec.UseNumber()
		if err := dec.Decode(&decoded); err != nil {
			t.Fatal(err)
		}
		at := func(v any, name string) any { m, _ := v.(map[string]any); return m[name] }
		for name, want := range map[string]any{"x": at(decoded, "a"), "y": at(at(decoded, "a"), "b")} {
			got, ok := made.Attribute(name)
			text := ""
			switch v := want.(type) {
			case string:
				text = v
			case json.Number:
				if text = v.String(); text == "-0" {
					text = "0"
				}
			case bool:
				text = string(mustJSON(t, v))
			}
			if ok != (want != nil) || got.String() != text {
				t.Fatalf("%s: %s is %q (%v), want %v", data, name, got, ok, want)
			}
		}
	})
}

func BenchmarkWith(b *testing.B) {
	short := strings.Replace(position, `,"speed":132,"heading":341.5,"delay":-12,"next":"HMR"`, "", 1) // 300 B and something
	for name, text := range map[string]string{"insert": short, "replace": strings.Replace(short, `"subject"`, `"dataschema":"x:y","subject"`, 1)} {
		e := parsed(b, text)
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := e.With("dataschema", "https://events.example/v1/event-types/no.banenor.train/schemas/3"); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkPromote(b *testing.B) {
	e := parsed(b, position)
	p := promotion(b, map[string]string{"next": "/next", "delay": "/delay"})
	b.ReportAllocs()
	for b.Loop() {
		if _, problems := p.Apply(e); problems != nil {
			b.Fatal(problems)
		}
	}
}

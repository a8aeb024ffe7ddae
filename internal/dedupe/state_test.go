package dedupe

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func drawState(t *rapid.T) state {
	s := state{
		kind:      rapid.SampledFrom([]kind{reserved, done}).Draw(t, "kind"),
		partition: rapid.Int32Range(0, 1<<31-1).Draw(t, "partition"),
		offset:    rapid.Int64Range(0, 1<<62).Draw(t, "offset"),
	}
	copy(s.life.epoch[:], rapid.SliceOfN(rapid.Byte(), 8, 8).Draw(t, "epoch"))
	s.life.stream = rapid.StringN(0, 300, -1).Draw(t, "stream")
	s.life.topic = rapid.SampledFrom([]string{"", "a.", strings.Repeat("x", 254), strings.Repeat("x", 255)}).Draw(t, "prefix") + s.life.stream
	if rapid.Bool().Draw(t, "adopted") {
		s.life.topic = rapid.String().Draw(t, "topic")
	}
	if s.kind == reserved {
		copy(s.token[:], rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "token"))
		s.window = time.Duration(rapid.Int64Range(0, 1<<40).Draw(t, "window")) * time.Millisecond
	}
	return s
}

func TestStatesComeBackAsTheyWent(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := drawState(t)
		got, err := parseState(string(s.text(nil)))
		if diff := cmp.Diff(s, got, cmp.AllowUnexported(state{}, life{})); err != nil || diff != "" {
			t.Fatalf("%v\n%s", err, diff)
		}
		if !bytes.HasPrefix(s.text(nil), s.claim(nil)) {
			t.Fatal("what a script compares is not the beginning of what is there")
		}
	})
}

func FuzzParseState(f *testing.F) {
	s := state{kind: done, life: life{"eventissuer.s", "s", epoch{1, 2}}, partition: 3, offset: 1 << 40}
	f.Add(string(s.text(nil)))
	s.kind, s.window, s.life.stream = reserved, day, "other"
	f.Add(string(s.text(nil)))
	f.Add("D")
	f.Fuzz(func(t *testing.T, text string) {
		s, err := parseState(text)
		if err != nil {
			return
		}
		again, err := parseState(string(s.text(nil)))
		if diff := cmp.Diff(s, again, cmp.AllowUnexported(state{}, life{})); err != nil || diff != "" {
			t.Errorf("%v\n%s", err, diff)
		}
	})
}

func TestKeysTellSourceAndIDApart(t *testing.T) {
	seen := make(map[key]string)
	for _, e := range [][2]string{{"", ""}, {"a", ""}, {"", "a"}, {"ab", "c"}, {"a", "bc"}, {"abc", ""}, {strings.Repeat("x", 300), "y"}, {strings.Repeat("x", 299), "xy"}} {
		k := keyOf(e[0], e[1])
		if other, ok := seen[k]; ok {
			t.Errorf("%q and %q have the same key", e, other)
		}
		seen[k] = strings.Join(e[:], " ")
	}
}

package group

import (
	"errors"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/eventissuer/eventissuer/internal/cursor"
)

// drawn is a state, and what it says of the offsets below 64.
func drawn(r *rand.Rand) (s state, isDone [64]bool) {
	s.pos = int64(r.IntN(40))
	for o := range s.pos {
		isDone[o] = true
	}
	for at := s.pos + 1; at < 60; {
		from := at + int64(r.IntN(8))
		to := from + 1 + int64(r.IntN(6))
		if to > 60 {
			break
		}
		s.done = append(s.done, span{from, to})
		for o := from; o < to; o++ {
			isDone[o] = true
		}
		at = to + 1
	}
	for o := range int64(64) {
		if !isDone[o] && r.IntN(3) == 0 {
			s.attempts = append(s.attempts, attempt{span{o, o + 1}, 1 + r.IntN(300)})
		}
	}
	return s, isDone
}

func TestAStateComesBackAsItWasWritten(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	for range 2000 {
		s, isDone := drawn(r)
		s.cut = uint64(r.IntN(3))
		got, err := parseState(s.binary())
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(s, got, cmp.AllowUnexported(state{}, span{}, attempt{})); diff != "" {
			t.Fatal(diff)
		}
		for o, want := range isDone {
			if got.isDone(int64(o)) != want {
				t.Fatalf("%+v: %d is done: %t", got, o, !want)
			}
		}
	}
}

func TestJoiningStatesLosesNothingAndInventsNothing(t *testing.T) {
	r := rand.New(rand.NewPCG(2, 2))
	for range 5000 {
		a, doneA := drawn(r)
		b, doneB := drawn(r)
		j := join(a, b)
		for o := range doneA {
			if want := doneA[o] || doneB[o]; j.isDone(int64(o)) != want {
				t.Fatalf("%+v and %+v: %d is done: %t", a, b, o, !want)
			}
			want := max(a.attemptsOf(int64(o)), b.attemptsOf(int64(o)))
			if j.isDone(int64(o)) {
				want = 0
			}
			if got := j.attemptsOf(int64(o)); got != want {
				t.Fatalf("%+v and %+v: %d attempts of %d, want %d", a, b, got, o, want)
			}
		}
		if back, err := parseState(j.binary()); err != nil || back.pos != j.pos {
			t.Fatalf("%+v cannot be written: %v", j, err)
		}
	}
}

func TestAStateOfAnEarlierCutSaysNothing(t *testing.T) {
	before := state{pos: 90, done: []span{{92, 95}}}
	after := before.cutAt(93)
	if diff := cmp.Diff(state{cut: 1, pos: 90, done: []span{{92, 93}}}, after, cmp.AllowUnexported(state{}, span{}, attempt{})); diff != "" {
		t.Fatal(diff)
	}
	if j := join(after, state{pos: 200}); j.pos != 90 || j.cut != 1 {
		t.Fatalf("joined to %+v", j)
	}
	if cut := (state{pos: 90}).cutAt(50); cut.pos != 50 {
		t.Fatalf("cut to %+v", cut)
	}
}

func FuzzParseState(f *testing.F) {
	s := state{cut: 1, pos: 1000, done: []span{{1002, 1010}}, attempts: []attempt{{span{1000, 1002}, 2}}}
	f.Add(s.binary())
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := parseState(b)
		if err != nil {
			return
		}
		again, err := parseState(s.binary())
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(s, again, cmp.AllowUnexported(state{}, span{}, attempt{})); diff != "" {
			t.Fatal(diff)
		}
	})
}

func TestACursorOfASessionIsKnownAsOne(t *testing.T) {
	want := token{newID(), newID(), 12345678}
	text := string(want.append(nil))
	got, err := parseToken(text)
	if err != nil || got != want {
		t.Fatalf("%+v, %v", got, err)
	}
	stream := string(cursor.AppendOne(nil, cursor.StreamCursor{Tag: cursor.TagOf("orders"), Next: []int64{1, 2, 3}}))
	for name, bad := range map[string]string{
		"damaged": strings.Replace(text, text[10:11], string(text[10]^1), 1), "cut": text[:len(text)-2], "empty": "", "of a stream": stream,
		"long": strings.Repeat("A", 1000), "no text": "\x00\xff",
	} {
		if _, err := parseToken(bad); !errors.Is(err, ErrCursor) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := cursor.Parse(text); err == nil {
		t.Error("it is taken for a stream's")
	}
}

func FuzzParseToken(f *testing.F) {
	f.Add(string(token{ID{1}, ID{2}, 3}.append(nil)))
	f.Fuzz(func(t *testing.T, text string) {
		tok, err := parseToken(text)
		if err != nil {
			return
		}
		if again := string(tok.append(nil)); again != text {
			t.Fatalf("%q has another text, %q", text, again)
		}
	})
}

func TestACommitOfAnotherLifeSaysNothing(t *testing.T) {
	at := place{"i1", "0102", 3}
	own := note{at, 7}.String()
	if s, ok := floorOf(at, 12, own); !ok || s.pos != 12 || s.cut != 7 {
		t.Fatalf("%+v, %t", s, ok)
	}
	for name, text := range map[string]string{
		"another incarnation": note{place{"i2", "0102", 3}, 7}.String(), "another topic": note{place{"i1", "0103", 3}, 7}.String(), "another tool's": "", "words": "a b c",
	} {
		if _, ok := floorOf(at, 12, text); ok {
			t.Errorf("%s counts", name)
		}
	}
	if _, ok := floorOf(at, -1, own); ok {
		t.Error("no commit counts")
	}
}

func TestACursorCostsNoMemory(t *testing.T) {
	h := token{newID(), newID(), 0}.head()
	dst := make([]byte, 0, 64)
	if n := testing.AllocsPerRun(100, func() { dst = h.append(dst[:0], 1<<40) }); n > 0 {
		t.Errorf("%v allocations", n)
	}
}

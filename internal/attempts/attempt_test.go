package attempts

import (
	"encoding/json"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func TestAttemptIsReadAsItWasWritten(t *testing.T) {
	whole := failed("sub", 1)
	whole.ID, whole.Replay, whole.Manual, whole.DeadLetter = "id", true, true, true
	lost := Attempt{Subscription: "sub", Stream: "orders", Offsets: []int64{3, 9}, At: epoch, Outcome: Lost, Reason: "the log no longer keeps them"}
	for _, a := range []Attempt{*whole, lost, {At: epoch}} {
		raw, err := json.Marshal(a)
		if err != nil {
			t.Fatal(err)
		}
		var got Attempt
		if err := json.Unmarshal(raw, &got); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(a, got); diff != "" {
			t.Errorf("%s (-want +got)\n%s", raw, diff)
		}
	}
}

func TestAttemptsJSONIsTheFormOfTheAPI(t *testing.T) {
	raw, err := json.Marshal(Attempt{
		ID: "x", At: epoch.In(time.FixedZone("", 3600)), Took: 12*time.Millisecond + 345*time.Nanosecond, Outcome: Refused, Status: 422, Number: 2,
		Offsets: []int64{7}, EventID: "e", EventType: "t", Stream: "s", Partition: 1, Message: "msg_1", Reason: "r", Answer: []byte("\xffno"), Next: epoch, DeadLetter: true,
	})
	want := `{"id":"x","time":"2026-03-01T12:00:00Z","state":"refused","status":422,"took":"12ms","event":"e","type":"t","stream":"s","partition":1,` +
		`"offsets":[7],"message":"msg_1","attempt":2,"reason":"r","answer":"` + "\uFFFD" + `no","nextAttempt":"2026-03-01T12:00:00Z","deadLetter":true}`
	if string(raw) != want || err != nil {
		t.Errorf("got  %s, %v\nwant %s", raw, err, want)
	}
}

func TestTextsAreCutBetweenCharactersAndOnce(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.OneOf(
			rapid.StringN(0, 3000, -1),
			rapid.Map(rapid.SliceOfN(rapid.Byte(), 0, 3000), func(b []byte) string { return string(b) }),
			rapid.Map(rapid.IntRange(1000, 1040), func(n int) string { return strings.Repeat("å", n/2) + "€𝄞" }),
		).Draw(t, "text")
		got := clip(text)
		if len(got) > maxText || !utf8.ValidString(got) {
			t.Fatalf("%d bytes, valid: %v", len(got), utf8.ValidString(got))
		}
		if clip(got) != got {
			t.Fatal("clipping again changes it")
		}
		if utf8.ValidString(text) && !strings.HasPrefix(text, got) {
			t.Fatalf("%q is no beginning of the text", got)
		}
		if len(text) <= maxText && utf8.ValidString(text) && got != text {
			t.Fatal("a text that fits is changed")
		}
		if len(text) > maxText && len(got) < maxText-utf8.UTFMax+1 && utf8.ValidString(text) {
			t.Fatalf("%d bytes of %d are left", len(got), len(text))
		}
	})
}

func TestReferencesAndIDsAreReadAsTheyWereWritten(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := reference{
			at: rapid.Int64Range(0, 1<<48-1).Draw(t, "at"), outcome: rapid.Byte().Draw(t, "outcome"), event: rapid.Uint32().Draw(t, "event"),
			partition: rapid.Int32Range(0, maxPartition).Draw(t, "partition"), offset: rapid.Int64Range(0, 1<<48-1).Draw(t, "offset"),
		}
		if got, ok := unpack(r.packed()); !ok || got != r {
			t.Fatalf("got %+v, %v; want %+v", got, ok, r)
		}
		if got, err := parseID(r.id()); err != nil || got != r {
			t.Fatalf("got %+v, %v; want %+v", got, err, r)
		}
	})
}

func FuzzIDsOfOthersMaking(f *testing.F) {
	f.Add(reference{at: 1, offset: 2}.id())
	f.Add("")
	f.Add("AAAA")
	whole := reference{at: 1, offset: 2}.id()
	f.Add(whole[:4] + "\n" + whole[4:])
	f.Add(whole[:len(whole)-1] + "/")
	f.Add(whole[:len(whole)-1] + "h") // differs from the whole behind the last byte alone
	f.Fuzz(func(t *testing.T, id string) {
		if r, err := parseID(id); err == nil && r.id() != id {
			t.Errorf("%q stands for %+v, as %q does", id, r, r.id())
		}
	})
}

func FuzzCountsOfOthersMaking(f *testing.F) {
	some := counts{delivered: 300, refused: 1}
	some.took[7] = 301
	f.Add(some.packed())
	f.Add("")
	f.Add("\x01\x02\x03\xff")
	f.Fuzz(func(t *testing.T, packed string) {
		var c counts
		before := c
		if err := c.join(packed); err != nil && c != before {
			t.Errorf("%q is refused, and yet counted", packed)
		}
	})
}

func TestOfSuccessesOneASecondIsKeptAndTheFirstAfterAFailure(t *testing.T) {
	success, failure := &Attempt{Subscription: "a", Outcome: Delivered}, &Attempt{Subscription: "a", Outcome: Failed}
	other := &Attempt{Subscription: "b", Outcome: Delivered}
	repeat, manual := &Attempt{Subscription: "a", Outcome: Delivered, Number: 2}, &Attempt{Subscription: "a", Outcome: Delivered, Manual: true}
	var s sampler
	for i, step := range []struct {
		a      *Attempt
		second int64
		want   verdict
	}{
		{success, 1, keep},
		{success, 1, leave},
		{other, 1, keep},
		{failure, 1, keep},
		{failure, 1, keep},
		{success, 1, keep},
		{success, 1, leave},
		{repeat, 1, keep},
		{manual, 1, keep},
		{success, 1, leave},
		{success, 2, keep},
		{success, 2, leave},
		{success, 9, keep},
	} {
		if got := s.decide(step.a, step.second, 100); got != step.want {
			t.Errorf("step %d: got %v, want %v", i, got, step.want)
		}
	}
}

func TestASubscriptionHasItsShareOfASecond(t *testing.T) {
	var s sampler
	kept := map[string]int{}
	for range 50 {
		for _, id := range []string{"a", "b"} {
			if s.decide(&Attempt{Subscription: id, Outcome: Failed}, 1, 10) == keep {
				kept[id]++
			}
		}
	}
	if kept["a"] != 10 || kept["b"] != 10 {
		t.Errorf("kept %v", kept)
	}
	if v := s.decide(&Attempt{Subscription: "a", Outcome: Failed, Manual: true}, 1, 10); v != keep {
		t.Error("one that somebody asked for is not kept")
	}
	if v := s.decide(&Attempt{Subscription: "a", Outcome: Failed}, 2, 10); v != keep {
		t.Error("the next second has no room")
	}
}

package keyring_test

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/eventissuer/eventissuer/internal/keyring"
)

// line is a ring's line for a key of 32 equal bytes.
func line(id string, b byte) string {
	return id + " " + base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{b}, keyring.KeySize)) + "\n"
}

func ring(t testing.TB, lines ...string) *keyring.Ring {
	t.Helper()
	r, err := keyring.Parse([]byte(strings.Join(lines, "")))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func seal(t testing.TB, r *keyring.Ring, plain, place, field string) string {
	t.Helper()
	sealed, err := r.Seal([]byte(plain), place, field)
	if err != nil {
		t.Fatal(err)
	}
	return sealed
}

func TestWhatIsSealedOpensAsItWas(t *testing.T) {
	r := ring(t, line("k1", 1))
	for _, plain := range []string{"", "x", "whsec_abc", strings.Repeat("é", keyring.MaxPlain/2)} {
		sealed := seal(t, r, plain, "sub-1", "secret")
		if !strings.HasPrefix(sealed, "k1.") || len(plain) > 1 && strings.Contains(sealed, plain) {
			t.Errorf("sealed as %.60q", sealed)
		}
		got, err := r.Open(sealed, "sub-1", "secret")
		if err != nil || string(got) != plain {
			t.Errorf("opened as %.60q, %v; want %.60q", got, err, plain)
		}
	}
	if a, b := seal(t, r, "same", "p", "f"), seal(t, r, "same", "p", "f"); a == b {
		t.Error("two seals of one plaintext are equal: they tell that it is the same")
	}
	if _, err := r.Seal(make([]byte, keyring.MaxPlain+1), "p", "secret"); err == nil || !strings.Contains(err.Error(), "may have 65536") {
		t.Errorf("a plaintext beyond the limit: %v", err)
	}
}

// kept is "hidden" for the place "p" and the field "f", and keptMAC a MAC of "data" for "consent", by the ring of k1 and k2.
const (
	kept    = "k1.pbjjAlHrHkSscGQsMpl2dWpaXHkat29Y5kDatoP8eaSFsA"
	keptMAC = "af21605f00760c7ce5d8bd3541aad3c911a9718510d6c1e5873530605f65666c"
)

func TestWhatIsKeptOpensInEveryVersionOfTheProgram(t *testing.T) {
	r := ring(t, line("k1", 1), line("k2", 2))
	if plain, err := r.Open(kept, "p", "f"); err != nil || string(plain) != "hidden" {
		t.Errorf("opened as %q, %v", plain, err)
	}
	if got := fmt.Sprintf("%x", r.MAC("consent", []byte("data"))); got != keptMAC {
		t.Errorf("the MAC is %s, want %s", got, keptMAC)
	}
}

func TestASealedTextOpensOnlyInItsOwnPlaceAndField(t *testing.T) {
	r := ring(t, line("k1", 1))
	sealed := seal(t, r, "hidden", "ab", "c")
	for _, as := range [][2]string{{"ab", "d"}, {"aa", "c"}, {"a", "bc"}, {"abc", ""}, {"", "abc"}, {"c", "ab"}, {"ab\x01c", ""}} {
		plain, err := r.Open(sealed, as[0], as[1])
		if !errors.Is(err, keyring.ErrForged) || plain != nil {
			t.Errorf("opened as place %q and field %q: %q, %v", as[0], as[1], plain, err)
		}
	}
}

func TestAForgedTextDoesNotOpen(t *testing.T) {
	r := ring(t, line("k1", 1), line("k2", 2))
	sealed := seal(t, r, "hidden", "p", "f")
	id, text, _ := strings.Cut(sealed, ".")
	forged := map[string]string{
		"nothing":           "",
		"no key id":         text,
		"an empty key id":   "." + text,
		"an impossible id":  "k 1." + text,
		"no text":           id + ".",
		"another's key":     "k2." + text,
		"padded":            sealed + "=",
		"a line break":      sealed[:len(sealed)-4] + "\n" + sealed[len(sealed)-4:],
		"longer":            sealed + "A",
		"shorter":           sealed[:len(sealed)-1],
		"no more than tag":  id + "." + text[:20],
		"another alphabet":  id + ".+/" + text[2:],
		"larger than it is": id + "." + strings.Repeat("A", 2*keyring.MaxPlain),
	}
	for i := range text { // every character counts, the spare bits of the last one too
		other := byte('A')
		if text[i] == other {
			other = 'B'
		}
		forged[fmt.Sprintf("character %d", i)] = id + "." + text[:i] + string(other) + text[i+1:]
	}
	for name, text := range forged {
		if plain, err := r.Open(text, "p", "f"); !errors.Is(err, keyring.ErrForged) || plain != nil {
			t.Errorf("%s: opened as %q, %v", name, plain, err)
		}
	}
	// A key that took another's id is told apart from one that is not there.
	if _, err := ring(t, line("k1", 9)).Open(sealed, "p", "f"); !errors.Is(err, keyring.ErrForged) {
		t.Errorf("another key of the same id: %v", err)
	}
}

func TestAKeyIsReplacedWithoutLosingWhatItSealed(t *testing.T) {
	before := ring(t, line("old", 1))
	during := ring(t, line("new", 2), line("old", 1))
	after := ring(t, line("new", 2))

	old := seal(t, before, "a", "p", "f")
	fresh := seal(t, during, "b", "p", "f")
	if !strings.HasPrefix(fresh, "new.") {
		t.Errorf("sealed as %q, not by the first key", fresh)
	}
	for sealed, want := range map[string]string{old: "a", fresh: "b"} {
		if plain, err := during.Open(sealed, "p", "f"); err != nil || string(plain) != want {
			t.Errorf("opened as %q, %v; want %q", plain, err, want)
		}
	}
	var unknown *keyring.UnknownKeyError
	if _, err := after.Open(old, "p", "f"); !errors.As(err, &unknown) || unknown.ID != "old" || errors.Is(err, keyring.ErrForged) {
		t.Errorf("without the old key: %v", err)
	}
	if plain, err := after.Open(fresh, "p", "f"); err != nil || string(plain) != "b" {
		t.Errorf("without the old key: %q, %v", plain, err)
	}

	mac := before.MAC("consent", []byte("data"))
	if !during.VerifyMAC("consent", []byte("data"), mac) || after.VerifyMAC("consent", []byte("data"), mac) {
		t.Error("a MAC holds as long as its key is in the ring, and no longer")
	}
	if bytes.Equal(mac, during.MAC("consent", []byte("data"))) {
		t.Error("the first key does not make the MACs")
	}
}

func TestAMACHoldsForItsPurposeAndDataAlone(t *testing.T) {
	r := ring(t, line("k1", 1), line("k2", 2))
	mac := r.MAC("consent", []byte("data"))
	if len(mac) != 32 || !r.VerifyMAC("consent", []byte("data"), mac) {
		t.Fatalf("the MAC %x does not hold", mac)
	}
	flipped := bytes.Clone(mac)
	flipped[31] ^= 1
	for name, holds := range map[string]bool{
		"another purpose": r.VerifyMAC("consent2", []byte("data"), mac),
		"other data":      r.VerifyMAC("consent", []byte("date"), mac),
		"shifted":         r.VerifyMAC("consentd", []byte("ata"), mac),
		"one bit":         r.VerifyMAC("consent", []byte("data"), flipped),
		"shorter":         r.VerifyMAC("consent", []byte("data"), mac[:31]),
		"nothing":         r.VerifyMAC("consent", []byte("data"), nil),
	} {
		if holds {
			t.Errorf("%s: the MAC holds", name)
		}
	}
}

func TestARingIsReadFromLines(t *testing.T) {
	r := ring(t, "# a comment\r\n\n  ", line("2026-02_a", 1), "\t\n", strings.TrimSuffix(line("b", 2), "\n"))
	if got, want := r.String(), "key ring [2026-02_a b]"; got != want {
		t.Errorf("the ring is %s, want %s", got, want)
	}
}

func TestAMistakeInARingNamesItsLineAndNoKey(t *testing.T) {
	good := line("k1", 1)
	_, text, _ := strings.Cut(strings.TrimSpace(line("x", 7)), " ")
	var many strings.Builder
	for i := range keyring.MaxKeys + 1 {
		many.WriteString(line(fmt.Sprint("k", i), byte(i)))
	}
	for _, test := range []struct{ name, text, want string }{
		{"empty", "", "no key"},
		{"comments alone", "# " + text + "\n\n", "no key"},
		{"no id", good + text, "line 2: an id and a key are expected"},
		{"three fields", good + "\n# x\nk2 " + text + " # mine", "line 4: an id and a key"},
		{"an id with a full stop", "k.1 " + text, "line 1: a key's id is 1 to 32"},
		{"the key before the id", text + " k1", "line 1: a key's id is 1 to 32"},
		{"a long id", strings.Repeat("k", 33) + " " + text, "line 1: a key's id is 1 to 32"},
		{"the same id", good + line("k2", 2) + line("k1", 3), "line 3: the id k1 stands on a line above"},
		{"no Base64", good + "k2 " + text[:20] + "!" + text[21:], "line 2: the key k2 is no Base64"},
		{"unpadded", good + "k2 " + strings.TrimRight(text, "="), "line 2: the key k2 is no Base64"},
		{"too short", "k2 " + base64.StdEncoding.EncodeToString(make([]byte, 16)), "line 1: the key k2 has 16 bytes, and must have 32"},
		{"too many", many.String(), "line 65: there are more than 64 keys"},
	} {
		r, err := keyring.Parse([]byte(test.text))
		if err == nil || r != nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v; want %q", test.name, err, test.want)
			continue
		}
		if strings.Contains(err.Error(), text[:8]) {
			t.Errorf("%s: the error shows a key: %v", test.name, err)
		}
	}
}

func TestNoKeyIsShown(t *testing.T) {
	r := ring(t, line("k1", 'A'))
	var log bytes.Buffer
	slog.New(slog.NewJSONHandler(&log, nil)).Info("loaded", "ring", r)
	shown := log.String()
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		text := fmt.Sprintf(verb, r)
		if text != "key ring [k1]" {
			t.Errorf("%s gives %s", verb, text)
		}
		shown += text
	}
	if strings.Contains(shown, "AAAA") || strings.Contains(shown, "QUFB") || strings.Contains(shown, "4141") {
		t.Errorf("a key is shown: %s", shown)
	}
}

func FuzzOpen(f *testing.F) {
	r := ring(f, line("k1", 1), line("k2", 2))
	const sealed = kept // the same in each of the fuzzer's processes
	id, text, _ := strings.Cut(sealed, ".")
	f.Add(sealed)
	f.Add("k2." + text)
	f.Add(id + "." + text[:len(text)/2])
	f.Add("k3." + text)
	f.Add(".")
	f.Add("")
	f.Fuzz(func(t *testing.T, text string) {
		plain, err := r.Open(text, "p", "f")
		var unknown *keyring.UnknownKeyError
		switch {
		case err == nil:
			if text != sealed || string(plain) != "hidden" {
				t.Errorf("%q, which nobody sealed, opens as %q", text, plain)
			}
		case plain != nil:
			t.Errorf("an error comes with %q", plain)
		case errors.As(err, &unknown):
			if unknown.ID == "k1" || unknown.ID == "k2" || !strings.HasPrefix(text, unknown.ID+".") {
				t.Errorf("the key %q of %q is said to be unknown", unknown.ID, text)
			}
		case !errors.Is(err, keyring.ErrForged):
			t.Errorf("another error: %v", err)
		}
	})
}

func FuzzParse(f *testing.F) {
	f.Add([]byte("# comment\n\n" + line("k1", 1) + line("k2", 2)))
	f.Add([]byte("k1 AAAA"))
	f.Add([]byte(line("k1", 1) + line("k1", 1)))
	f.Fuzz(func(t *testing.T, text []byte) {
		r, err := keyring.Parse(text)
		if (r == nil) == (err == nil) {
			t.Fatalf("a ring and an error: %v, %v", r, err)
		}
		if err != nil {
			return
		}
		if plain, err := r.Open(seal(t, r, "x", "p", "f"), "p", "f"); err != nil || string(plain) != "x" {
			t.Errorf("the ring does not open what it sealed: %q, %v", plain, err)
		}
	})
}

func BenchmarkOpen(b *testing.B) {
	r := ring(b, line("k1", 1))
	sealed := seal(b, r, strings.Repeat("x", 50), "0194f7a2-6c3e-7d10-9f6b-2b6e1f0c9a41", "secret")
	b.ReportAllocs()
	for b.Loop() {
		if _, err := r.Open(sealed, "0194f7a2-6c3e-7d10-9f6b-2b6e1f0c9a41", "secret"); err != nil {
			b.Fatal(err)
		}
	}
}

func Example() {
	ring, err := keyring.Parse([]byte("# made by openssl rand -base64 32\n2026 0y5vG1cRrLm6xJtPWn3kO6yqfSBsk0a8eRzjKx2Yh1c=\n"))
	if err != nil {
		fmt.Println(err)
		return
	}
	sealed, err := ring.Seal([]byte("whsec_…"), "subscription 7", "secret")
	if err != nil {
		fmt.Println(err)
		return
	}
	plain, err := ring.Open(sealed, "subscription 7", "secret")
	fmt.Println(string(plain), err)
	_, err = ring.Open(sealed, "subscription 8", "secret")
	fmt.Println(errors.Is(err, keyring.ErrForged))
	// Output:
	// whsec_… <nil>
	// true
}

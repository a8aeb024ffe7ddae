package base64url_test

import (
	"bytes"
	"encoding/base64"
	"errors"
	"testing"

	"github.com/eventissuer/eventissuer/internal/base64url"
)

func TestOneTextStandsForOneToken(t *testing.T) {
	for length := range 10 {
		token := bytes.Repeat([]byte{0xfb}, length) // whose text has a character of the URL's alphabet alone
		text := base64.RawURLEncoding.EncodeToString(token)
		if got, err := base64url.Decode(text); err != nil || !bytes.Equal(got, token) {
			t.Errorf("%q: %x, %v, want %x", text, got, err, token)
		}
		others := []string{text + "=", text + " ", text + "!"}
		for i := range len(text) + 1 {
			for _, between := range []string{"\n", "\r", "\r\n"} {
				others = append(others, text[:i]+between+text[i:])
			}
		}
		if length > 0 {
			others = append(others, base64.RawStdEncoding.EncodeToString(token))
		}
		for _, other := range others {
			if got, err := base64url.Decode(other); err == nil || !errors.As(err, new(base64.CorruptInputError)) {
				t.Errorf("%q is taken for %x (%v)", other, got, err)
			}
		}
	}
	for text, other := range map[string]string{"-w": "-x", "-_s": "-_t"} { // which differ behind the last byte
		if got, err := base64url.Decode(other); err == nil {
			t.Errorf("%q is taken for %x, as %q is", other, got, text)
		}
	}
}

func TestAppendDecodeAppendsOrLeavesWhatThereWas(t *testing.T) {
	for text, want := range map[string]string{"YQ": "xa", "": "x", "Y\nQ": "x", "YWJ!": "x"} {
		got, err := base64url.AppendDecode([]byte("x"), text)
		if string(got) != want || (err == nil) != (text == "YQ" || text == "") {
			t.Errorf("%q: %q, %v, want %q", text, got, err, want)
		}
	}
}

func TestAppendDecodeNeedsNoMemoryOfItsOwn(t *testing.T) {
	text := base64.RawURLEncoding.EncodeToString(make([]byte, 45))
	n := testing.AllocsPerRun(100, func() {
		var room [48]byte
		if b, err := base64url.AppendDecode(room[:0], text); err != nil || len(b) != 45 {
			t.Error(len(b), err)
		}
	})
	if n != 0 {
		t.Errorf("%v allocations", n)
	}
}

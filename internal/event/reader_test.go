package event_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/eventissuer/eventissuer/broker"
	"github.com/eventissuer/eventissuer/internal/event"
)

// mixedRecords are records in all modes, some of which are no events.
func mixedRecords() []broker.Record {
	structured := headers("content-type", event.MediaType+"; charset=UTF-8")
	records := []broker.Record{
		{},
		{Headers: structured},
		{Value: []byte(`{`)},
		{Value: []byte(`{}`)},
		{Headers: headers("content-type", event.BatchMediaType), Value: []byte("[]")},
		{Headers: binaryHeaders("ce_x", "y", "content-type", "text/plain"), Value: []byte("x")},
		plainRecord(trainRecord), plainRecord(trainRecord, headers("Content-Type", event.MediaType)...),
		plainRecord(with(``), headers("Content-Type", event.MediaType)...), plainRecord(with(``), structured...),
		{Headers: structured, Value: []byte("{\n" + with(`,"eventissuercursor":"c","x":"\u00e6"`)[1:])},
	}
	for n := range 260 { // attributes beside the required ones: up to more than there may be
		var more strings.Builder
		for i := range n {
			fmt.Fprintf(&more, `,"x%d":"%d"`, i, n)
		}
		records = append(records, broker.Record{Headers: structured, Value: []byte(with(more.String() + `,"data":1`))})
	}
	return records
}

func TestAReaderReadsAsIsReadOneByOne(t *testing.T) {
	for _, wrap := range []*event.Wrap{nil, wrapOf(t, trainWrap)} {
		for _, rd := range []*event.Reader{nil, event.NewReader(0), event.NewReader(3), event.NewReader(1000)} {
			records := mixedRecords()
			got, errs := make([]event.Event, len(records)), make([]error, len(records))
			for i := range records {
				errs[i] = rd.Read(&got[i], &records[i], wrap)
			}
			for i, r := range records { // when all are read, so that none may have written over another
				want, err := event.FromRecordOf(r, wrap)
				if fmt.Sprint(errs[i]) != fmt.Sprint(err) || errors.Is(errs[i], event.ErrTombstone) != errors.Is(err, event.ErrTombstone) {
					t.Fatalf("%s: %v, read alone %v", r.Value, errs[i], err)
				}
				if err != nil {
					sameEvent(t, event.Event{}, got[i])
					continue
				}
				if !bytes.Equal(want.JSON(), got[i].JSON()) {
					t.Fatalf("%s, read alone %s", got[i].JSON(), want.JSON())
				}
				sameEvent(t, want, got[i])
			}
		}
	}
}

// Strings are scanned eight bytes at a time: every byte has to be told from every other wherever it stands.
func TestStringsAreReadAsEncodingJSONReadsThem(t *testing.T) {
	check := func(inside string) {
		raw := []byte(with(`,"x":"` + inside + `","data":["` + inside + `"]`))
		e, err := event.ParseStored(raw)
		var want struct {
			X    string
			Data []string
		}
		wantErr := json.Unmarshal(raw, &want)
		if (wantErr == nil && utf8.Valid(raw)) != (err == nil) {
			t.Fatalf("%q: %v, by encoding/json %v", raw, err, wantErr)
		}
		if err != nil {
			return
		}
		if x, _ := e.Attribute("x"); x.String() != want.X {
			t.Fatalf("%q is read as %q, not %q", inside, x, want.X)
		}
		if data, err := json.Marshal(want.Data); err != nil || !jsonEqual(t, data, e.Data()) {
			t.Fatalf("%q: data %s, not %s (%v)", inside, e.Data(), data, err)
		}
	}
	for size := range 18 { // more than two words
		for at := range size {
			for c := range 256 {
				text := bytes.Repeat([]byte{'a'}, size)
				text[at] = byte(c)
				check(string(text))
				if at+1 < size { // behind an escape the scan begins anew
					text[at], text[at+1] = '\\', byte(c)
					check(string(text))
				}
			}
			// What differs from a special byte by one, or by the highest bit, beside it: borrows must not be taken for it.
			for _, pair := range []string{"\x1f!", "!\x1f", `\\#`, `#\\`, `\"]`, `]\"`, "\u00a2", "\u00dc", "\x00\x01", "\x7f\u0080"} {
				check(strings.Repeat("a", at) + pair + strings.Repeat("b", size-at))
			}
		}
	}
}

func jsonEqual(t *testing.T, a, b []byte) bool {
	t.Helper()
	var x, y any
	if err := errors.Join(json.Unmarshal(a, &x), json.Unmarshal(b, &y)); err != nil {
		t.Fatal(err)
	}
	return fmt.Sprint(x) == fmt.Sprint(y)
}

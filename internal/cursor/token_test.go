package cursor

import (
	"encoding/base64"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"math"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/eventissuer/eventissuer/broker"
)

func sample(partitions int) StreamCursor {
	s := StreamCursor{Tag: TagOf("train-positions"), Epoch: 0x0123456789abcdef, Next: make([]int64, partitions)}
	for i := range s.Next {
		s.Next[i] = int64(i) * 1_234_567
	}
	return s
}

func TestTokenComesBackAsItWent(t *testing.T) {
	leased := sample(3)
	leased.Lease = Lease{Incarnation: math.MaxUint64, Number: 300}
	cut := leased
	cut.Cut = MaxCut
	doubt, doubtCut := sample(2), cut
	doubt.Doubt, doubtCut.Doubt = true, true
	wide := sample(MaxPartitions)
	for name, c := range map[string]Cursor{
		"one stream":        {Streams: []StreamCursor{sample(12)}},
		"lease":             {Streams: []StreamCursor{leased}},
		"cut":               {Streams: []StreamCursor{cut}},
		"one of them cut":   {Streams: []StreamCursor{leased, cut, sample(1)}},
		"doubt":             {Streams: []StreamCursor{doubt}},
		"doubt and cut":     {Streams: []StreamCursor{leased, doubtCut, sample(1)}},
		"several streams":   {Streams: []StreamCursor{sample(1), leased, {Tag: TagOf("x"), Next: []int64{math.MaxInt64}}}},
		"no partitions":     {Streams: []StreamCursor{{Tag: TagOf("x"), Epoch: 1}}},
		"widest":            {Streams: []StreamCursor{wide}},
		"lease of number 0": {Streams: []StreamCursor{{Lease: Lease{Incarnation: 7}}}},
	} {
		t.Run(name, func(t *testing.T) {
			text := string(Append([]byte("id: "), c))
			token, ok := strings.CutPrefix(text, "id: ")
			if !ok || strings.Trim(token, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_") != "" {
				t.Fatalf("not unpadded base64url behind what was there: %q", text)
			}
			got, err := Parse(token)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c, got, cmpopts.EquateEmpty()); diff != "" {
				t.Fatalf("(-want +got)\n%s", diff)
			}
		})
	}
}

func TestOneStreamHasTheSameTextEitherWay(t *testing.T) {
	s := sample(12)
	s.Lease = Lease{Incarnation: 5, Number: 6}
	a, b := Append(nil, Cursor{Streams: []StreamCursor{s}}), AppendOne([]byte{}, s)
	if string(a) != string(b) {
		t.Fatalf("Append %s, AppendOne %s", a, b)
	}
}

func TestTokenTextIsFixed(t *testing.T) {
	// Clients keep tokens for months: what was handed out must parse for ever.
	s := StreamCursor{Tag: TagOf("app"), Epoch: 1, Next: []int64{0, 127, 128}, Lease: Lease{Incarnation: 2, Number: 3}}
	const want = "AR9qgywAAAAAAAAAAQcAf4ABAAAAAAAAAAIDGtIMsA"
	if got := string(AppendOne(nil, s)); got != want {
		t.Fatalf("got %s, want %s", got, want)
	}
	s.Cut = 4
	const wantCut = "Ah9qgywAAAAAAAAAAQcAf4ABAAAAAAAAAAIDBMQ6jyY"
	if got := string(AppendOne(nil, s)); got != wantCut {
		t.Fatalf("got %s, want %s", got, wantCut)
	}
	s.Doubt = true
	const wantDoubt = "Ax9qgywAAAAAAAAAAQ8Af4ABAAAAAAAAAAIDBFRsdwk"
	if got := string(AppendOne(nil, s)); got != wantDoubt {
		t.Fatalf("got %s, want %s", got, wantDoubt)
	}
}

// forge seals a binary form, so that what lies behind the checksum can be tested.
func forge(body ...byte) string {
	sum := crc32.Checksum(body, crc32.MakeTable(crc32.Castagnoli))
	return base64.RawURLEncoding.EncodeToString(binary.BigEndian.AppendUint32(body, sum))
}

func TestEveryChangedCharacterIsNoticed(t *testing.T) {
	token := AppendOne(nil, sample(3))
	for i := range token {
		for _, c := range []byte("A_b0") {
			if token[i] == c {
				continue
			}
			broken := append([]byte(nil), token...)
			broken[i] = c
			if _, err := Parse(string(broken)); !errors.Is(err, ErrMalformed) {
				t.Fatalf("character %d changed to %c: %v", i, c, err)
			}
		}
		if _, err := Parse(string(token[:i])); !errors.Is(err, ErrMalformed) {
			t.Fatalf("cut at %d: %v", i, err)
		}
	}
}

func TestBrokenAndNewerTokensAreToldApart(t *testing.T) {
	stream := append([]byte{1}, make([]byte, 12)...) // version, tag, epoch
	many := []byte{1}
	for range MaxStreams + 1 {
		many = append(many, append(make([]byte, 12), 0)...)
	}
	for name, tc := range map[string]struct {
		token string
		want  error
	}{
		"empty":                    {"", ErrMalformed},
		"garbage":                  {"hello, world", ErrMalformed},
		"padding":                  {forge(append(stream, 0)...) + "=", ErrMalformed},
		"checksum alone":           {forge(), ErrMalformed},
		"no stream":                {forge(1), ErrMalformed},
		"version 0":                {forge(append([]byte{0}, stream...)...), ErrMalformed},
		"next version":             {forge(4, 1, 2, 3), ErrVersion},
		"no cut in format 2":       {forge(append(append([]byte{2}, stream[1:]...), 0)...), ErrMalformed},
		"a cut of 0 in format 2":   {forge(append(append([]byte{2}, stream[1:]...), 1, 0, 0, 0, 0, 0, 0, 0, 1, 1, 0)...), ErrMalformed},
		"no doubt in format 3":     {forge(append(append([]byte{3}, stream[1:]...), 0)...), ErrMalformed},
		"too many cuts":            {forge(append(append([]byte{2}, stream[1:]...), append([]byte{1, 0, 0, 0, 0, 0, 0, 0, 1, 1}, binary.AppendUvarint(nil, MaxCut+1)...)...)...), ErrMalformed},
		"far version, empty":       {forge(255), ErrVersion},
		"stream cut short":         {forge(stream...), ErrMalformed},
		"fewer offsets than told":  {forge(append(stream, 4, 1)...), ErrMalformed},
		"too many partitions":      {forge(append(stream, binary.AppendUvarint(nil, (MaxPartitions+1)<<1)...)...), ErrMalformed},
		"huge count of partitions": {forge(append(stream, binary.AppendUvarint(nil, math.MaxUint64)...)...), ErrMalformed},
		"negative offset":          {forge(append(stream, append([]byte{2}, binary.AppendUvarint(nil, 1<<63)...)...)...), ErrMalformed},
		"longer form of a varint":  {forge(append(stream, 2, 0x80, 0)...), ErrMalformed},
		"lease cut short":          {forge(append(stream, 1, 0, 0)...), ErrMalformed},
		"lease of zeros":           {forge(append(append(stream, 1), make([]byte, 9)...)...), ErrMalformed},
		"too many streams":         {forge(many...), ErrMalformed},
		"too long":                 {strings.Repeat("A", MaxToken+1), ErrMalformed},
	} {
		t.Run(name, func(t *testing.T) {
			c, err := Parse(tc.token)
			if !errors.Is(err, tc.want) {
				t.Fatalf("got %v, want %v", err, tc.want)
			}
			if len(c.Streams) != 0 {
				t.Fatalf("a refused token gave %v", c)
			}
		})
	}
}

func TestTokenOfAnotherStreamHasNothingForThisOne(t *testing.T) {
	c, err := Parse(string(AppendOne(nil, sample(2))))
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := c.For("departures"); ok {
		t.Fatal("found a stream that is not in the token")
	}
	if s, ok := c.For("train-positions"); !ok || s.Next[1] != 1_234_567 {
		t.Fatalf("got %v, %v", s, ok)
	}
}

func TestMaxIsElementWise(t *testing.T) {
	for _, tc := range []struct{ a, b, want []int64 }{
		{nil, nil, nil},
		{[]int64{1, 5}, []int64{3, 2}, []int64{3, 5}},
		{[]int64{1}, []int64{0, 2, 0}, []int64{1, 2, 0}},
		{[]int64{4, 4, 4}, nil, []int64{4, 4, 4}},
	} {
		if diff := cmp.Diff(tc.want, Max(tc.a, tc.b), cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("Max(%v, %v) (-want +got)\n%s", tc.a, tc.b, diff)
		}
	}
	a := []int64{1, 2}
	if Max(a, []int64{9}); a[0] != 1 {
		t.Error("Max changed its argument")
	}
}

func TestEpochIsTheBeginningOfTheTopicID(t *testing.T) {
	if got := EpochOf(broker.Epoch{1, 2, 3, 4, 5, 6, 7, 8, 9, 10}); got != 0x0102030405060708 {
		t.Fatalf("%x", got)
	}
}

func FuzzParse(f *testing.F) {
	leased := sample(2)
	leased.Lease = Lease{Incarnation: 1, Number: 2}
	f.Add(string(AppendOne(nil, sample(12))))
	f.Add(string(Append(nil, Cursor{Streams: []StreamCursor{sample(1), leased}})))
	f.Add(forge(2, 0))
	f.Add("")
	whole := string(AppendOne(nil, sample(12)))
	f.Add(whole[:9] + "\r" + whole[9:]) // decoding passes over it
	f.Add(whole + "\n")
	f.Fuzz(func(t *testing.T, token string) {
		c, err := Parse(token)
		if err != nil {
			if !errors.Is(err, ErrMalformed) && !errors.Is(err, ErrVersion) {
				t.Fatalf("an error of no kind: %v", err)
			}
			return
		}
		if back := string(Append(nil, c)); back != token {
			t.Fatalf("%q parsed, but its text is %q", token, back)
		}
	})
}

// FuzzParseBody goes past the checksum, which random input never would.
func FuzzParseBody(f *testing.F) {
	f.Add([]byte{1})
	f.Add(append([]byte{1}, make([]byte, 14)...))
	f.Fuzz(func(t *testing.T, body []byte) {
		token := forge(body[:len(body):len(body)]...)
		c, err := Parse(token)
		if err == nil && string(Append(nil, c)) != token {
			t.Fatalf("%x parsed to %v, whose text is another", body, c)
		}
	})
}

func TestAppendOneAllocatesNothing(t *testing.T) {
	s, buf := sample(12), make([]byte, 0, 512)
	if n := testing.AllocsPerRun(100, func() { buf = AppendOne(buf[:0], s) }); n != 0 {
		t.Fatalf("%v allocations", n)
	}
}

func BenchmarkAppendOne(b *testing.B) {
	s, buf := sample(12), make([]byte, 0, 512)
	b.ReportAllocs()
	for b.Loop() {
		buf = AppendOne(buf[:0], s)
	}
}

func BenchmarkParse(b *testing.B) {
	token := string(AppendOne(nil, sample(12)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Parse(token); err != nil {
			b.Fatal(err)
		}
	}
}

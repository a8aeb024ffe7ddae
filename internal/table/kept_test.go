package table

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/google/uuid"
)

// bodyLike draws a body that is much like all others, now and then one that is not.
func bodyLike(r *rand.Rand) []byte {
	switch r.IntN(20) {
	case 0:
		return bytes.Repeat([]byte{byte(r.Uint32())}, r.IntN(100_000))
	case 1:
		body := make([]byte, r.IntN(3000))
		for i := range body {
			body[i] = byte(r.Uint32())
		}
		return body
	case 2:
		return []byte(fmt.Sprint(r.IntN(100)))
	}
	return fmt.Appendf(nil, `{"id":"%x","owner":"local","streams":["messages"],"types":["no.example.message.v1"],"filters":[{"exact":{"subject":"/party/%d"}}],`+
		`"config":{"from":"latest","ordering":"key","ackTimeout":"1m0s","maxUncommitted":1000,"maxSessions":100,"maxAttempts":10}}`, r.Uint64(), r.IntN(1000))
}

func TestWhatIsKeptComesBack(t *testing.T) {
	seed := seedFrom(t)
	r := rand.New(rand.NewPCG(seed, 1))
	var p packer
	packed := 0
	var all []*Kept
	var want []Version
	for i := range 2 * firstWords * moreWords {
		v := Version{U: uuid.New(), Offset: r.Int64N(1 << 40)}
		if r.IntN(30) > 0 {
			v.Body = bodyLike(r)
		}
		k := p.keep(v)
		if k.words != nil {
			packed++
			if len(k.body) >= len(v.Body) {
				t.Fatalf("body %d of %d bytes is packed into %d", i, len(v.Body), len(k.body))
			}
		}
		all, want = append(all, k), append(want, v)
	}
	words := map[any]bool{}
	for i, k := range all {
		got := k.Version()
		if w := want[i]; got.U != w.U || got.Offset != w.Offset || (got.Body == nil) != (w.Body == nil) || !bytes.Equal(got.Body, w.Body) {
			t.Fatalf("version %d (-want +got)\n%s", i, cmp.Diff(w, got, cmpopts.IgnoreUnexported(Version{})))
		}
		if got.Kept() != k || k.U() != got.U || k.size() != len(got.Body) {
			t.Fatalf("version %d is not what is kept of it", i)
		}
		words[k.words] = true
	}
	if packed < len(all)/2 || len(words) != 3 { // without a dictionary, with the first, with the second
		t.Errorf("%d of %d are packed, with %d dictionaries", packed, len(all), len(words)-1)
	}
}

func TestADictionaryIsMadeOfBodiesThatAreThereToBeLearned(t *testing.T) {
	var p packer
	for i := range int64(firstWords + 1) { // too small, each of them
		p.keep(Version{U: uuid.New(), Body: []byte("1"), Offset: i})
	}
	if p.words != nil {
		t.Error("a dictionary was made of next to nothing")
	}
}

func FuzzKept(f *testing.F) {
	var p packer
	r := rand.New(rand.NewPCG(1, 2))
	for range firstWords {
		p.keep(Version{U: uuid.New(), Body: bodyLike(r)})
	}
	f.Add([]byte(nil))
	f.Add(bodyLike(r))
	f.Add(bytes.Repeat(bodyLike(r), 10))
	f.Fuzz(func(t *testing.T, body []byte) {
		mine := p // what is learned from one input must not matter to the next
		got := mine.keep(Version{U: uuid.Max, Body: body}).Version()
		if (got.Body == nil) != (body == nil) || !bytes.Equal(got.Body, body) {
			t.Fatalf("%q came back as %q", body, got.Body)
		}
	})
}

func BenchmarkKeep(b *testing.B) {
	var p packer
	r := rand.New(rand.NewPCG(1, 2))
	bodies := make([][]byte, 2*firstWords)
	for i := range bodies {
		bodies[i] = fmt.Appendf(nil, `{"id":"%x","owner":"local","streams":["messages"],"incarnation":"%s","filters":[{"exact":{"subject":"/party/%d"}}],"digest":"%x%x",`+
			`"config":{"from":"latest","ordering":"key","ackTimeout":"1m0s","maxUncommitted":1000,"maxSessions":100,"maxAttempts":10}}`, r.Uint64(), uuid.New(), i, r.Uint64(), r.Uint64())
		p.keep(Version{U: uuid.New(), Body: bodies[i]})
	}
	v := Version{U: uuid.New(), Body: bodies[0]}
	b.Run("pack", func(b *testing.B) {
		b.ReportAllocs()
		for i := 0; b.Loop(); i++ {
			v.Body = bodies[i%len(bodies)]
			p.keep(v)
		}
		b.ReportMetric(float64(len(v.Body)), "B/body")
		b.ReportMetric(float64(len(p.keep(v).body)), "B/packed")
	})
	b.Run("unpack", func(b *testing.B) {
		k := p.keep(v)
		b.ReportAllocs()
		for b.Loop() {
			if len(k.Version().Body) != len(v.Body) {
				b.Fatal("cut short")
			}
		}
	})
}

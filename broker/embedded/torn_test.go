package embedded_test

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/eventissuer/eventissuer/broker"
)

// A machine that loses its power leaves less of a file than was written to it, or another end. What is whole before that must
// be there afterwards, under the offsets that were told, and the log must go on behind it.
func TestALogWithATornEndKeepsWhatIsWhole(t *testing.T) {
	const written = 20
	for name, c := range map[string]struct {
		tear func(t *testing.T, segment string)
		kept int
	}{
		"its last batch is cut off":      {cut(7), written - 1},
		"only the last header is left":   {cut(100), written - 1},
		"its last batch has another bit": {flip(20), written - 1},
		"zeros follow":                   {follow(make([]byte, 4096)), written},
		"something else follows":         {follow([]byte("no batch of records")), written},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			child := newChild(t)
			log := child.Open(t)
			if err := log.Create(t.Context(), "torn", broker.TopicConfig{Partitions: 1}); err != nil {
				t.Fatal(err)
			}
			var want []string
			for i := range written {
				appended(t, log, i)
				if i < c.kept {
					want = append(want, valueOf(i))
				}
			}
			child.end()
			_ = log.Close()
			segments, err := filepath.Glob(filepath.Join(child.dir, "kafka", "partitions", "torn-0", "*.dat"))
			if err != nil || len(segments) != 1 {
				t.Fatalf("segments: %v, %v", segments, err)
			}
			c.tear(t, segments[0])
			child.start(t)
			log = child.Open(t)
			defer log.Close()
			if got := appended(t, log, 100); got != int64(c.kept) {
				t.Errorf("the next record is at %d, want %d", got, c.kept)
			}
			batch, err := log.Read(t.Context(), "torn", 0, 0, 1<<20)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for i, r := range batch.Records {
				if r.Offset != int64(i) {
					t.Errorf("record %d is at %d", i, r.Offset)
				}
				got = append(got, string(r.Value))
			}
			if diff := cmp.Diff(append(want, valueOf(100)), got); diff != "" {
				t.Errorf("records (-want +got)\n%s", diff)
			}
		})
	}
}

func valueOf(i int) string { return fmt.Sprintf("record %04d of the log: %0200d", i, i) }

func appended(t *testing.T, log broker.Log, i int) int64 {
	t.Helper()
	ack := log.Append(t.Context(), "torn", []broker.Message{{Value: []byte(valueOf(i))}})[0]
	if ack.Err != nil {
		t.Fatal(ack.Err)
	}
	return ack.Offset
}

func cut(bytes int64) func(t *testing.T, segment string) {
	return func(t *testing.T, segment string) {
		info, err := os.Stat(segment)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Truncate(segment, info.Size()-bytes); err != nil {
			t.Fatal(err)
		}
	}
}

func flip(fromEnd int) func(t *testing.T, segment string) {
	return func(t *testing.T, segment string) {
		b, err := os.ReadFile(segment)
		if err != nil {
			t.Fatal(err)
		}
		b[len(b)-fromEnd] ^= 1
		if err := os.WriteFile(segment, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func follow(more []byte) func(t *testing.T, segment string) {
	return func(t *testing.T, segment string) {
		f, err := os.OpenFile(segment, os.O_APPEND|os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.Write(more); err != nil {
			t.Fatal(err)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

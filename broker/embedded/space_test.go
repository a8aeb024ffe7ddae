package embedded_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/eventissuer/eventissuer/broker"
	"github.com/eventissuer/eventissuer/broker/embedded"
	"github.com/eventissuer/eventissuer/broker/kafka"
	"github.com/eventissuer/eventissuer/internal/testenv"
)

// syncBuffer is a buffer that a server logs into while its test looks.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

// Write implements io.Writer.
func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// diskLog is a log on a small disk, and what it has acknowledged.
type diskLog struct {
	t       *testing.T
	dir     string
	log     broker.Log
	stop    func()
	written map[string]int64 // offsets of values, by value
	n       int
}

func openDiskLog(t *testing.T, dir string, out io.Writer) *diskLog {
	t.Helper()
	s, err := embedded.Start(t.Context(), embedded.Config{Dir: dir, SaveEvery: 50 * time.Millisecond, Log: slog.New(slog.NewTextHandler(out, nil))})
	if err != nil {
		t.Fatal(err)
	}
	log, err := kafka.New(kafka.Config{Brokers: s.Brokers()}, kafka.Deps{})
	if err != nil {
		t.Fatal(err)
	}
	stopped := false
	d := &diskLog{t: t, dir: dir, log: log, written: map[string]int64{}}
	d.stop = func() {
		if stopped {
			return
		}
		stopped = true
		if err := log.Close(); err != nil {
			t.Error(err)
		}
		if err := s.Close(); err != nil && !errors.Is(err, unix.ENOSPC) { // Redis has no room then, and says so
			t.Error(err)
		}
	}
	t.Cleanup(func() { d.stop() })
	return d
}

// append writes a record of about so many bytes, which nothing compresses.
func (d *diskLog) append(topic string, size int) error {
	d.n++
	value := fmt.Appendf(make([]byte, 0, size+16), "%08d:", d.n)
	noise := rand.NewChaCha8([32]byte{byte(d.n), byte(d.n >> 8)})
	for len(value) < size {
		value = append(value, 'a'+byte(noise.Uint64()%26))
	}
	ctx, cancel := context.WithTimeout(d.t.Context(), 20*time.Second)
	defer cancel()
	ack := d.log.Append(ctx, topic, []broker.Message{{Partition: 0, Value: value}})[0]
	if ack.Err == nil {
		d.written[string(value)] = ack.Offset
	}
	return ack.Err
}

func (d *diskLog) mustAppend(topic string, size int) {
	d.t.Helper()
	if err := d.append(topic, size); err != nil {
		d.t.Fatal(err)
	}
}

// verify holds what can be read to what was acknowledged. What was refused may not be there.
func (d *diskLog) verify(topic string) {
	d.t.Helper()
	bounds, err := d.log.Bounds(d.t.Context(), topic)
	if err != nil {
		d.t.Fatal(err)
	}
	found := map[string]int64{}
	for at := bounds[0].First; at < bounds[0].Next; {
		batch, err := d.log.Read(d.t.Context(), topic, 0, at, 1<<20)
		if err != nil {
			d.t.Fatal(err)
		}
		for _, r := range batch.Records {
			found[string(r.Value)] = r.Offset
		}
		if batch.Next <= at {
			d.t.Fatalf("reading stands still at %d of %d", at, bounds[0].Next)
		}
		at = batch.Next
	}
	for value, offset := range d.written {
		if at, ok := found[value]; !ok || at != offset {
			d.t.Errorf("record %.8s was acknowledged at %d, and is there: %v, at %d", value, offset, ok, at)
		}
	}
	if len(found) != len(d.written) {
		d.t.Errorf("%d records are there, of %d that were acknowledged", len(found), len(d.written))
	}
}

func TestAFullDiskRefusesRecordsAndLosesNone(t *testing.T) {
	dir := testenv.SmallDisk(t, 16<<20)
	var out syncBuffer
	d := openDiskLog(t, dir, &out)
	for _, topic := range []string{"a", "_own"} {
		if err := d.log.Create(t.Context(), topic, broker.TopicConfig{Partitions: 1}); err != nil {
			t.Fatal(err)
		}
	}
	var err error
	for err == nil && d.n < 1000 {
		err = d.append("a", 64<<10)
	}
	if !errors.Is(err, broker.ErrFull) || !errors.Is(err, broker.ErrRefused) {
		t.Fatalf("after %d records the disk is full: %v", d.n, err)
	}
	if !strings.Contains(out.String(), "the disk is full") {
		t.Errorf("the log does not say so: %s", out.String())
	}
	d.verify("a")
	kept := len(d.written)
	if ack := d.log.Append(t.Context(), "_own", []broker.Message{{Value: []byte("a definition")}})[0]; ack.Err != nil {
		t.Errorf("the server's own records have no room: %v", ack.Err)
	}
	release := testenv.Fill(t, dir) // and now there is nothing left at all
	for range 5 {
		if err := d.append("a", 64<<10); !errors.Is(err, broker.ErrFull) {
			t.Errorf("with nothing left: %v", err)
		}
	}
	if ack := d.log.Append(t.Context(), "_own", []broker.Message{{Value: []byte("another")}})[0]; !errors.Is(ack.Err, broker.ErrFull) {
		t.Errorf("with nothing left the server's own record: %v", ack.Err)
	}
	if err := d.log.Create(t.Context(), "b", broker.TopicConfig{Partitions: 1}); !errors.Is(err, broker.ErrFull) {
		t.Errorf("with nothing left a topic is made: %v", err)
	}
	d.verify("a")
	release()
	// The log itself is still in the way: what is truncated makes room.
	if err := d.log.Delete(t.Context(), "_own"); err != nil {
		t.Fatal(err)
	}
	if len(d.written) != kept {
		t.Errorf("%d records were acknowledged by a full disk", len(d.written)-kept)
	}
	d.stop()

	again := openDiskLog(t, dir, &out)
	again.written, again.n = d.written, d.n
	again.verify("a")
}

func TestWritingGoesOnOnceThereIsRoomOnTheDisk(t *testing.T) {
	dir := testenv.SmallDisk(t, 16<<20)
	var out syncBuffer
	d := openDiskLog(t, dir, &out)
	if err := d.log.Create(t.Context(), "a", broker.TopicConfig{Partitions: 1}); err != nil {
		t.Fatal(err)
	}
	for round := range 3 {
		for range 10 {
			d.mustAppend("a", 16<<10)
		}
		release := testenv.Fill(t, dir)
		for range 3 {
			if err := d.append("a", 16<<10); !errors.Is(err, broker.ErrFull) {
				t.Errorf("round %d: %v", round, err)
			}
		}
		d.verify("a")
		if round == 1 { // and the process starts on a disk that is full
			d.stop()
			again := openDiskLog(t, dir, &out)
			again.written, again.n = d.written, d.n
			d = again
			d.verify("a")
			if err := d.append("a", 16<<10); !errors.Is(err, broker.ErrFull) {
				t.Errorf("after a start on a full disk: %v", err)
			}
		}
		release()
	}
	d.mustAppend("a", 16<<10)
	d.verify("a")
	if !strings.Contains(out.String(), "there is room on the disk again") {
		t.Errorf("the log does not say that it is over: %s", out.String())
	}
}

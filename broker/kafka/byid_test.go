package kafka

import (
	"bytes"
	"encoding/binary"
	"io"
	"net"
	"testing"
	"testing/iotest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/eventissuer/eventissuer/broker"
)

// wire is a connection whose other end is given and kept.
type wire struct {
	net.Conn
	in  io.Reader
	out bytes.Buffer
}

func (w *wire) Read(p []byte) (int, error)  { return w.in.Read(p) }
func (w *wire) Write(p []byte) (int, error) { return w.out.Write(p) }

func fetchByName(topics ...string) *kmsg.FetchRequest {
	req := kmsg.NewPtrFetchRequest()
	req.Version, req.SessionEpoch, req.MaxWaitMillis, req.MinBytes, req.MaxBytes, req.Rack = fetchVersion, -1, 500, 1, 1<<20, "here"
	for _, name := range topics {
		topic := kmsg.NewFetchRequestTopic()
		topic.Topic = name
		for p := range int32(3) {
			part := kmsg.NewFetchRequestTopicPartition()
			part.Partition, part.FetchOffset, part.PartitionMaxBytes = p, int64(p)*1000, 1<<20
			topic.Partitions = append(topic.Partitions, part)
		}
		req.Topics = append(req.Topics, topic)
	}
	return req
}

func answerByID(correlation int32, ids ...broker.Epoch) (frame []byte, resp *kmsg.FetchResponse) {
	resp = kmsg.NewPtrFetchResponse()
	resp.Version, resp.ThrottleMillis, resp.SessionID = fetchByID, 7, 9
	for _, id := range ids {
		topic := kmsg.NewFetchResponseTopic()
		topic.TopicID = id
		part := kmsg.NewFetchResponseTopicPartition()
		part.Partition, part.HighWatermark, part.RecordBatches = 2, 5000, bytes.Repeat([]byte("records "), 4000)
		topic.Partitions = append(topic.Partitions, part)
		resp.Topics = append(resp.Topics, topic)
	}
	return framed(correlation, resp), resp
}

func framed(correlation int32, resp kmsg.Response) []byte {
	frame := binary.BigEndian.AppendUint32(make([]byte, 4), uint32(correlation))
	frame = resp.AppendTo(append(frame, 0))
	binary.BigEndian.PutUint32(frame, uint32(len(frame)-4))
	return frame
}

var topicID = broker.Epoch{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16}

func newWire(in io.Reader) (*byID, *wire) {
	w := &wire{in: in}
	c := newByID()
	c.stand(w)
	return c, w
}

func write(t *testing.T, c *byID, req kmsg.Request, correlation int32) error {
	t.Helper()
	n, err := c.Write(kmsg.NewRequestFormatter(kmsg.FormatterClientID("me")).AppendRequest(nil, req, correlation))
	if err == nil && n == 0 {
		t.Error("nothing is said to be written")
	}
	return err
}

func TestAFetchGoesOutByTheTopicsID(t *testing.T) {
	c, w := newWire(nil)
	c.use("trains", topicID)
	if err := write(t, c, fetchByName("trains"), 42); err != nil {
		t.Fatal(err)
	}
	want := fetchByName("")
	want.Version, want.Topics[0].TopicID = fetchByID, topicID
	if diff := cmp.Diff(kmsg.NewRequestFormatter(kmsg.FormatterClientID("me")).AppendRequest(nil, want, 42), w.out.Bytes()); diff != "" {
		t.Errorf("the request (-want +got)\n%s", diff)
	}
}

func TestAnAnswerByIDIsReadAsOneByName(t *testing.T) {
	byID, resp := answerByID(42, topicID)
	other := framed(43, kmsg.NewPtrHeartbeatResponse())
	refused, empty := answerByID(44)
	for name, in := range map[string]io.Reader{
		"whole":        bytes.NewReader(append(append(bytes.Clone(byID), other...), refused...)),
		"byte by byte": iotest.OneByteReader(bytes.NewReader(append(append(bytes.Clone(byID), other...), refused...))),
	} {
		t.Run(name, func(t *testing.T) {
			c, _ := newWire(in)
			c.use("trains", topicID)
			for _, correlation := range []int32{42, 44} {
				if err := write(t, c, fetchByName("trains"), correlation); err != nil {
					t.Fatal(err)
				}
			}
			named, none := *resp, *empty
			named.Version, none.Version = fetchVersion, fetchVersion
			named.Topics = append([]kmsg.FetchResponseTopic(nil), resp.Topics...)
			named.Topics[0].Topic = "trains"
			want := append(append(framed(42, &named), other...), framed(44, &none)...)
			got, err := io.ReadAll(c)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got, want) {
				t.Errorf("read %d bytes, want %d: %.60x, want %.60x", len(got), len(want), got, want)
			}
		})
	}
}

func TestAnAnswerThatIsNotOfTheTopicAloneIsNone(t *testing.T) {
	for name, of := range map[string][]broker.Epoch{"of another": {{9}}, "of several": {topicID, {9}}} {
		frame, _ := answerByID(42, of...)
		c, _ := newWire(bytes.NewReader(frame))
		c.use("trains", topicID)
		if err := write(t, c, fetchByName("trains"), 42); err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(c); err == nil || len(got) > 0 {
			t.Errorf("%s: read %d bytes, %v", name, len(got), err)
		}
	}
}

func TestAFetchThatCannotBeByIDIsNotSent(t *testing.T) {
	older := fetchByName("trains")
	older.Version = fetchVersion - 1
	for name, req := range map[string]*kmsg.FetchRequest{
		"of another topic": fetchByName("trams"), "of two": fetchByName("trains", "trams"), "of none": fetchByName(), "of another version": older,
	} {
		c, w := newWire(nil)
		c.use("trains", topicID)
		if err := write(t, c, req, 1); err == nil || w.out.Len() > 0 {
			t.Errorf("%s: %v, %d bytes were sent", name, err, w.out.Len())
		}
	}
}

func TestWhatIsNoFetchPassesAsItIs(t *testing.T) {
	c, w := newWire(nil)
	frame := kmsg.NewRequestFormatter().AppendRequest(nil, kmsg.NewPtrMetadataRequest(), 1)
	byName := kmsg.NewRequestFormatter().AppendRequest(nil, fetchByName("trams"), 2)
	if _, err := c.Write(byName); err != nil { // before any topic is in use
		t.Error(err)
	}
	c.use("trains", topicID)
	if _, err := c.Write(frame); err != nil {
		t.Error(err)
	}
	if !bytes.Equal(w.out.Bytes(), append(byName, frame...)) {
		t.Error("it was changed")
	}
}

func FuzzAnswersByID(f *testing.F) {
	whole, _ := answerByID(1, topicID)
	none, _ := answerByID(1)
	f.Add(whole[:200], 200)
	f.Add(none, 3)
	f.Add([]byte{0, 0, 0, 3, 0, 0, 0, 1}, 1)
	f.Fuzz(func(t *testing.T, in []byte, most int) {
		c, _ := newWire(bytes.NewReader(in))
		c.use("trains", topicID)
		c.asked[1] = true
		p := make([]byte, 1+uint(most)%512)
		for begun := time.Now(); ; {
			n, err := c.Read(p)
			if err != nil {
				return
			}
			if n == 0 || time.Since(begun) > 10*time.Second {
				t.Fatalf("read %d bytes without an error", n)
			}
		}
	})
}

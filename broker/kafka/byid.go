package kafka

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"

	"github.com/IBM/sarama"

	"github.com/eventissuer/eventissuer/broker"
)

// What of Kafka's protocol is looked at here.
const (
	keyFetch     = 1
	fetchByID    = 13     // the version of a fetch that has a topic's id in place of its name, and no other difference (KIP-516)
	fetchHeld    = 15     // what a broker knows that also holds the id to the log that it reads, see fetchesByID
	fetchFixed   = 25     // bytes of a fetch's body before its topics
	fetchedFixed = 1 + 10 // bytes of an answer's header and body after the correlation id, before its topics
	frameHead    = 4 + 4  // an answer's size and correlation id
)

// byID is the connection beneath one of sarama's, which speaks of topics by their names alone. Where a broker knows topics by
// their ids, fetches of one topic that leave here, and their answers, are changed from the one to the other: such an answer
// is surely of the topic that was asked for, while one by name may be of another that was made in its place.
//
// It counts on sarama's ways: one Write is one request, and one goroutine reads. Requests other than fetches pass unchanged.
type byID struct {
	net.Conn
	in *bufio.Reader

	head []byte // what was changed of an answer, still to be read; with left owned by the reader
	left int    // bytes of the answer beneath it

	mu    sync.Mutex // guards what follows
	topic string     // of which fetches are by id; "": none are
	id    broker.Epoch
	asked map[int32]bool // correlation ids of the changed requests that were not answered yet
}

func newByID() *byID { return &byID{asked: make(map[int32]bool)} }

// stand puts it upon a connection, before it is used.
func (c *byID) stand(on net.Conn) { c.Conn, c.in = on, bufio.NewReader(on) }

// use has fetches of a topic be by its id from now on.
func (c *byID) use(topic string, id broker.Epoch) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.topic, c.id = topic, id
}

// Write implements net.Conn.
func (c *byID) Write(request []byte) (int, error) {
	changed, err := c.change(request)
	if err != nil {
		return 0, err
	}
	if changed == nil {
		return c.Conn.Write(request)
	}
	if _, err := c.Conn.Write(changed); err != nil {
		return 0, err
	}
	return len(request), nil
}

// change gives a fetch by the topic's id, or nil for what is to pass as it is. A fetch that cannot be changed is an error: it
// would be answered by name.
func (c *byID) change(request []byte) ([]byte, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.topic == "" || len(request) < 14 || binary.BigEndian.Uint16(request[4:]) != keyFetch {
		return nil, nil
	}
	client := int(int16(binary.BigEndian.Uint16(request[12:]))) // the length of its name; -1: none
	topics := 14 + max(client, 0) + 1 + fetchFixed              // behind the header's tags
	name := compact(c.topic)
	at := topics + 1 // of the first topic
	if binary.BigEndian.Uint16(request[6:]) != fetchVersion || int(binary.BigEndian.Uint32(request)) != len(request)-4 ||
		len(request) < at || request[topics] != 1+1 || !bytes.HasPrefix(request[at:], name) {
		return nil, errors.New("a fetch that is not of the topic in use alone, or of another version")
	}
	changed := make([]byte, 0, len(request)+len(c.id))
	changed = append(changed, request[:at]...)
	changed = append(changed, c.id[:]...)
	changed = append(changed, request[at+len(name):]...)
	binary.BigEndian.PutUint32(changed, uint32(len(changed)-4))
	binary.BigEndian.PutUint16(changed[6:], fetchByID)
	c.asked[int32(binary.BigEndian.Uint32(request[8:]))] = true
	return changed, nil
}

// Read implements net.Conn.
func (c *byID) Read(p []byte) (int, error) {
	if len(c.head) == 0 && c.left == 0 {
		if err := c.next(); err != nil {
			return 0, err
		}
	}
	if len(c.head) > 0 {
		n := copy(p, c.head)
		c.head = c.head[n:]
		return n, nil
	}
	n, err := c.in.Read(p[:min(len(p), c.left)])
	c.left -= n
	return n, err
}

// next begins the next answer.
func (c *byID) next() error {
	head := make([]byte, frameHead, 128)
	if _, err := io.ReadFull(c.in, head); err != nil {
		return err
	}
	size := int(int32(binary.BigEndian.Uint32(head)))
	if size < frameHead-4 {
		return fmt.Errorf("an answer of %d bytes", size)
	}
	c.head, c.left = head, size-(frameHead-4)
	topic, id, ok := c.answered(int32(binary.BigEndian.Uint32(head[4:])))
	if !ok {
		return nil
	}
	rest := head[frameHead : frameHead+fetchedFixed+1+len(id)]
	n := fetchedFixed + 1 // with how many topics there are
	if c.left < n {
		return nil // sarama says what is wrong with it
	}
	if _, err := io.ReadFull(c.in, rest[:n]); err != nil {
		return err
	}
	c.left -= n
	c.head = head[:frameHead+n]
	switch topics := rest[n-1]; {
	case rest[0] != 0 || topics > 1+1:
		return fmt.Errorf("an answer to a fetch of one topic has %d tags and topics of length %d", rest[0], topics)
	case topics < 1+1:
		return nil // all is refused
	}
	if c.left < len(id) {
		return fmt.Errorf("an answer of %d bytes to a fetch", size)
	}
	got := rest[n : n+len(id)]
	if _, err := io.ReadFull(c.in, got); err != nil {
		return err
	}
	c.left -= len(id)
	if !bytes.Equal(got, id[:]) {
		return fmt.Errorf("asked for the topic %x, and answered for %x", id, got)
	}
	c.head = append(c.head, compact(topic)...)
	binary.BigEndian.PutUint32(c.head, uint32(len(c.head)-4+c.left))
	return nil
}

// answered tells of which topic a fetch was that is answered now; ok is false for what passed unchanged.
func (c *byID) answered(correlation int32) (topic string, id broker.Epoch, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	ok = c.asked[correlation]
	delete(c.asked, correlation)
	return c.topic, c.id, ok
}

// compact is a string as the protocol has it since its flexible versions. Names of topics have at most 249 bytes.
func compact(s string) []byte {
	return append(binary.AppendUvarint(nil, uint64(len(s)+1)), s...)
}

// fetchesByID reports whether fetches of a topic are by its id on c, as they are from then on where its broker knows it, and
// holds it to the log when that is read, as Kafka does. Redpanda, which does not know fetchHeld, looks up the topic's name when
// the request comes, and may read another topic's log at the end of a long poll.
func (c *conn) fetchesByID(ctx context.Context, topic string, id broker.Epoch) (bool, error) {
	if id == (broker.Epoch{}) {
		return false, nil
	}
	versions, err := call(ctx, c, func(b *sarama.Broker) (*sarama.ApiVersionsResponse, error) {
		return b.ApiVersions(&sarama.ApiVersionsRequest{})
	})
	if err != nil {
		return false, err
	}
	for _, k := range versions.ApiKeys {
		if k.ApiKey == keyFetch && k.MinVersion <= fetchByID && k.MaxVersion >= fetchHeld {
			c.dialer.ids.use(topic, id)
			return true, nil
		}
	}
	return false, nil
}

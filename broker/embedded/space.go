package embedded

import (
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
	"golang.org/x/sys/unix"
)

// What is kept free on the disk. The log must not be written to until nothing is left: a write that fails half way through
// would leave what the broker has in memory and what is on the disk at odds, and the producer that repeats it would be told
// that the broker has it already. So records are refused before that, whole, while there is room for what cannot be refused:
// positions of groups, the files in which topics are listed, Redis's snapshot.
const (
	reserveMost = 64 << 20
	reservePart = 20 // of the disk: at most a twentieth
	// Topics that begin with an underscore are the server's own: definitions are still written, so that a stream can be
	// deleted, while others' records are refused. They have three quarters of the reserve.
	ownPart = 4
)

// A look at the disk takes a twentieth of what a lone event takes in all. So one counts for a while, where what is left is more
// than is likely to be written within that time.
const (
	lookAge = time.Second
	plenty  = 8 << 30 // bytes above the reserve
)

// refusal is Kafka's LOG_DIR_NOT_FOUND, by which no Kafka refuses a record or a topic, and which no client repeats by itself.
const refusal = 57

// FullError tells that the disk has no room for more records.
type FullError struct {
	Dir           string
	Left, Reserve uint64 // bytes
}

// Error implements error.
func (e *FullError) Error() string {
	return fmt.Sprintf("the disk of %s is full: %d MiB are left, of which %d are kept free; make room, and writing goes on by itself", e.Dir, e.Left>>20, e.Reserve>>20)
}

// space watches how much room there is on a folder's disk.
type space struct {
	// static
	dir  string
	free func(dir string) (left, size uint64, err error)
	log  *slog.Logger

	mu     sync.Mutex // guards what follows
	full   bool
	looked time.Time // when the disk was last looked at
	roomy  bool      // there was plenty left
	since  uint64    // bytes that were let in since
}

// free gives the bytes that are left to this process on a folder's disk, and the disk's size.
func free(dir string) (left, size uint64, err error) {
	var s unix.Statfs_t
	if err := unix.Statfs(dir, &s); err != nil {
		return 0, 0, fmt.Errorf("look how much room there is in %s: %w", dir, err)
	}
	block := uint64(max(s.Bsize, 0))
	return s.Bavail * block, s.Blocks * block, nil
}

// check gives a *FullError where there is no room for so many bytes of records, or, with own, none even for the server's own.
// What cannot be told is no reason to refuse anything.
func (s *space) check(bytes uint64, own bool) error {
	if s.ample(bytes) {
		return nil
	}
	looked := time.Now()
	left, size, err := s.free(s.dir)
	if err != nil {
		return nil //nolint:nilerr // see above
	}
	reserve := min(reserveMost, size/reservePart)
	s.note(looked, left >= reserve+plenty, bytes)
	left -= min(left, bytes)
	full := s.turn(left, reserve)
	if own {
		full = left < reserve/ownPart
	}
	if !full {
		return nil
	}
	return &FullError{Dir: s.dir, Left: left, Reserve: reserve}
}

// ample reports whether the last look at the disk suffices for so many bytes more.
func (s *space) ample(bytes uint64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.since += bytes
	return s.roomy && s.since <= plenty/2 && time.Since(s.looked) < lookAge
}

// note takes down what a look at the disk has shown to who is let in with so many bytes.
func (s *space) note(looked time.Time, roomy bool, bytes uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !looked.Before(s.looked) {
		s.looked, s.roomy, s.since = looked, roomy, bytes
	}
}

// turn notes, and logs once, that the disk has become full, or is no longer. That takes half as much again as the reserve,
// so that a disk at its edge is not now one and now the other.
func (s *space) turn(left, reserve uint64) (full bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	before := s.full
	s.full = left < reserve || before && left < reserve+reserve/2
	switch {
	case s.full && !before:
		s.log.Error("the disk is full: nothing is published until there is room, and all else goes on", "dir", s.dir, "leftMiB", left>>20, "keptMiB", reserve>>20)
	case !s.full && before:
		s.log.Info("there is room on the disk again: publishing goes on", "dir", s.dir, "leftMiB", left>>20)
	}
	return s.full
}

// produce gives the refusal of a request to append, or nil. A request is for several topics at times: it is refused whole.
func (s *space) produce(req kmsg.Request) kmsg.Response {
	r, ok := req.(*kmsg.ProduceRequest)
	if !ok {
		return nil
	}
	own, bytes := true, 0
	for i := range r.Topics {
		own = own && strings.HasPrefix(r.Topics[i].Topic, "_")
		for j := range r.Topics[i].Partitions {
			bytes += len(r.Topics[i].Partitions[j].Records)
		}
	}
	why := s.check(uint64(bytes), own)
	if why == nil {
		return nil
	}
	resp := r.ResponseKind().(*kmsg.ProduceResponse)
	for i := range r.Topics {
		t := kmsg.NewProduceResponseTopic()
		t.Topic, t.TopicID = r.Topics[i].Topic, r.Topics[i].TopicID
		for j := range r.Topics[i].Partitions {
			p := kmsg.NewProduceResponseTopicPartition()
			p.Partition, p.ErrorCode, p.ErrorMessage = r.Topics[i].Partitions[j].Partition, refusal, kmsg.StringPtr(why.Error())
			p.BaseOffset = -1
			t.Partitions = append(t.Partitions, p)
		}
		resp.Topics = append(resp.Topics, t)
	}
	return resp
}

// create gives the refusal of a request to make topics, or nil: a topic that is not on the list on the disk would be gone with
// the process.
func (s *space) create(req kmsg.Request) kmsg.Response {
	r, ok := req.(*kmsg.CreateTopicsRequest)
	if !ok {
		return nil
	}
	why := s.check(0, true)
	if why == nil {
		return nil
	}
	resp := r.ResponseKind().(*kmsg.CreateTopicsResponse)
	for i := range r.Topics {
		t := kmsg.NewCreateTopicsResponseTopic()
		t.Topic, t.ErrorCode, t.ErrorMessage = r.Topics[i].Topic, refusal, kmsg.StringPtr(why.Error())
		resp.Topics = append(resp.Topics, t)
	}
	return resp
}

// grow gives the refusal of a request for more partitions, or nil.
func (s *space) grow(req kmsg.Request) kmsg.Response {
	r, ok := req.(*kmsg.CreatePartitionsRequest)
	if !ok {
		return nil
	}
	why := s.check(0, true)
	if why == nil {
		return nil
	}
	resp := r.ResponseKind().(*kmsg.CreatePartitionsResponse)
	for i := range r.Topics {
		t := kmsg.NewCreatePartitionsResponseTopic()
		t.Topic, t.ErrorCode, t.ErrorMessage = r.Topics[i].Topic, refusal, kmsg.StringPtr(why.Error())
		resp.Topics = append(resp.Topics, t)
	}
	return resp
}

// Full tells why no records are taken at the moment, as a *FullError, or nil.
func (s *Server) Full() error {
	return s.space.check(0, false)
}

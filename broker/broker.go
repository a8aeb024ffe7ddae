// Package broker is the contract of a durable, partitioned, ordered log of records.
//
// What every implementation guarantees, and package brokertest holds it to:
//
//   - Order. Within a partition records are delivered in ascending order of offset, each at most once per reader.
//   - Loss. A record whose [Ack] has no error is on the log, acknowledged by all in-sync replicas, and reaches every
//     later read until retention deletes it. An Ack with an error says nothing about the record's fate unless the error
//     is [ErrRefused]: then it is surely not on the log.
//   - Offsets ascend but are not dense: compaction, control batches and aborted transactions leave holes. A hole is
//     never told. What retention or a lost log end took away is always told, as a [Gap] or a [RangeError]: no reader
//     is moved silently.
//   - Isolation is read-committed.
//   - A topic that was deleted and made again is another topic: it has another [Epoch], and no reader passes from
//     one to the other unnoticed.
//
// Byte slices handed out may be kept and must not be changed. The records of one [Batch] share memory, so that one that is
// kept keeps what came with it: in a Batch of [Reader] all that the fetch brought, in one of [Tailer] its records alone.
// Who keeps a record for long clones what it needs.
// All methods may be called concurrently.
package broker

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"time"
)

// AnyPartition as a [Message]'s partition leaves the choice to the partitioner: Java's murmur2 of the key,
// or any partition where there is no key.
const AnyPartition int32 = -1

// Epoch identifies one life of a topic: Kafka's topic id (KIP-516). The zero Epoch stands for "any".
type Epoch [16]byte

// Hex is the epoch in hexadecimal, as it is kept.
func (e Epoch) Hex() string { return hex.EncodeToString(e[:]) }

// Header is a record header. Keys may repeat.
type Header struct {
	Key   string
	Value []byte
}

// Message is a record to be appended.
type Message struct {
	Partition int32 // AnyPartition, or the partition to write to
	Key       []byte
	Value     []byte // nil is a tombstone
	Headers   []Header
}

// Ack is the fate of one appended message.
type Ack struct {
	Partition int32
	Offset    int64
	Err       error // nil: on the log. ErrRefused: surely not written. Anything else: in doubt
}

// Record is a message at its position.
type Record struct {
	Partition int32
	Offset    int64
	Timestamp time.Time // log-append time where the topic keeps it, else the producer's
	Key       []byte
	Value     []byte // nil is a tombstone
	Headers   []Header
}

// Batch is what one fetch of one partition gave.
type Batch struct {
	Partition int32
	Records   []Record // ascending offsets; may be empty
	Next      int64    // where to read on: above the last record, past any holes that the fetch covered
	Start     int64    // the log's first offset
	End       int64    // the end of what may be read (last stable offset)
}

// GapReason says why what a reader pointed at is gone.
type GapReason string

// The reasons of a Gap.
const (
	GapRetention GapReason = "retention" // retention deleted it
	GapTruncated GapReason = "truncated" // the log lost its end (a crash, an unclean election)
	GapRecreated GapReason = "recreated" // the topic was deleted and made again
)

// Gap tells that a reader could not go on at From and goes on at To.
type Gap struct {
	Partition int32
	From, To  int64
	Reason    GapReason
}

// Bounds are the ends of a partition: First is the log's first offset, Next the offset after the last record that may be
// read. An open transaction holds Next back, so that who begins there misses nothing that is committed later.
type Bounds struct {
	First, Next int64
}

// TopicConfig describes a topic to be made. Zero values mean the cluster's defaults.
type TopicConfig struct {
	Partitions        int32
	ReplicationFactor int16         // 0 or -1: the cluster's default
	Retention         time.Duration // 0: the cluster's default; negative: for ever
	RetentionBytes    int64         // per partition; 0: the cluster's default; negative: unlimited
	Compaction        bool
	MaxMessageBytes   int // 0: 2 MiB
}

// TopicInfo describes a topic as it is.
type TopicInfo struct {
	TopicConfig
	Epoch Epoch
}

// TopicChange lists what is to change; nil fields stay.
type TopicChange struct {
	Partitions     *int32 // may only grow
	Retention      *time.Duration
	RetentionBytes *int64
}

// Appender writes to the log.
type Appender interface {
	// Append writes msgs in order and blocks until the fate of each is known or its deadline (10 s by default) has
	// passed. It returns one Ack per message, in the same order. Messages of one call to one partition keep their
	// order among those that are written: one that fails does not hold back those after it. When ctx ends first, what is
	// not yet acknowledged is in doubt. The messages' slices must not be changed afterwards: what is in doubt may still
	// be on its way. The first append after a topic was made again, or lost its end, may fail and succeed when repeated.
	Append(ctx context.Context, topic string, msgs []Message) []Ack
}

// Placer is for who must be able to find an append again whose fate was not told.
type Placer interface {
	// Place gives every message of AnyPartition the partition that Append would choose; those without key all get the
	// same one. It returns the topic's epoch and, by partition, ends: offsets that the partition's end had reached before
	// Place returned, so that what is appended afterwards lies at or above them. An end may be some seconds old, and is
	// 0 where nothing newer is known of this life of the topic; it is never that of an earlier life. Place asks the
	// brokers for a topic that was not in use lately, and answers from memory otherwise; a topic that another process
	// made again may so be taken for the old one for up to five seconds. ends must not be changed.
	Place(ctx context.Context, topic string, msgs []Message) (epoch Epoch, ends []int64, err error)
	// End asks a partition's leader for its end, what no reader may have yet included: for an open transaction, or because the
	// other replicas do not have it.
	End(ctx context.Context, topic string, partition int32) (int64, error)
}

// Prover tells one life of a topic from another.
type Prover interface {
	// Present asks the brokers which life of the topic is the present one. Epochs never come back: what was read before
	// the question, and after the same answer to an earlier one, is of that life. ErrNoTopic tells that there is none.
	Present(ctx context.Context, topic string) (Epoch, error)
}

// Reader reads the log at random.
type Reader interface {
	// Read makes one fetch of about maxBytes from offset on. It does not wait for new records: at the log's end it
	// returns an empty Batch. It returns records at or above offset only, and always makes progress where there are
	// records, however large (up to the topic's limit); a Batch without records whose Next has moved is a step past a
	// hole. A *RangeError tells an offset outside the log. Read asks for the topic by its name: that it is still the
	// same topic is for the caller's Tail to tell, or for a Describe after the Read.
	Read(ctx context.Context, topic string, partition int32, offset int64, maxBytes int) (Batch, error)
}

// Tailer follows the log.
type Tailer interface {
	// Tail delivers all partitions of a topic to h, partition p from offset from[p] on (partitions beyond len(from)
	// from 0), and blocks until ctx ends (ctx.Err()), the topic is gone (ErrNoTopic) or its epoch is no longer
	// the one given (ErrRecreated). It belongs to no consumer group. Everything else that goes wrong is retried and
	// told through h.Health. The epoch is looked up every second, and before anything is delivered that came after an
	// error, or so long after the last proof of the epoch that the topic could have been made again meanwhile.
	Tail(ctx context.Context, topic string, epoch Epoch, from []int64, h TailHandler) error
}

// TailHandler receives a tail. Its methods are called one at a time, in the log's order for each partition; while
// one blocks, the tail does not fetch further.
type TailHandler interface {
	Records(b Batch)      // b.Records is never empty unless b.Next moved past holes
	Gap(g Gap)            // reading goes on at g.To
	Partitions(n int32)   // the topic has grown to n partitions; new ones are read from 0
	Health(problem error) // non-nil: the log cannot be reached at the moment; nil: it can again
}

// Joiner shares the partitions of topics among the members of a consumer group.
type Joiner interface {
	// Join makes this process a member of group until ctx ends, and blocks as long. For every partition that the
	// group assigns, own is called in a goroutine of its own; its ctx ends when the partition is lost, and Join does
	// not return before every own has. The group gives ownership alone: the owner reads with Read.
	Join(ctx context.Context, group string, topics []string, own func(ctx context.Context, c Claim)) error
}

// Claim is the ownership of one partition in one generation of a group.
type Claim interface {
	Topic() string
	Partition() int32
	// Committed returns the group's committed offset and its note, or -1 and "" where there is none.
	Committed(ctx context.Context) (offset int64, note string, err error)
	// Commit commits offset as the partition's owner, with a note: at most MaxNote bytes of UTF-8, kept beside the
	// offset (Kafka's commit metadata), where ordinary tools show it. While the group rebalances it waits for this
	// member's next generation; where none comes in time that is ErrUnavailable, and the partition may still be this
	// claim's. It is ErrNotOwner, for good, once the partition is lost: no commit succeeds, not even a late one, after
	// another's own has been called. The end of own's ctx asks the owner to let go: it may still commit before it
	// returns, not afterwards.
	Commit(ctx context.Context, offset int64, note string) error
}

// MaxNote bounds the note of a commit, in bytes. Kafka takes 4096 by default (offset.metadata.max.bytes).
const MaxNote = 256

// Commit is what a group has committed for a partition.
type Commit struct {
	Offset int64 // -1: nothing
	Note   string
}

// Groups looks at consumer groups from outside, without being a member.
type Groups interface {
	// Members returns how many members a group has now: 0 where there is no such group.
	Members(ctx context.Context, group string) (int, error)
	// CommittedOffsets returns what a group has committed for each partition of a topic. ErrNoTopic tells that there is
	// no such topic; a group that does not exist has committed nothing.
	CommittedOffsets(ctx context.Context, group, topic string) ([]Commit, error)
	// DeleteGroup deletes a group with all that it has committed. It is no error if there is no such group; ErrInUse
	// tells that it has members.
	DeleteGroup(ctx context.Context, group string) error
}

// Offsets finds and moves the ends of partitions.
type Offsets interface {
	// Bounds asks the leaders for the ends of all partitions.
	Bounds(ctx context.Context, topic string) ([]Bounds, error)
	// At returns, per partition, the offset of the first record whose timestamp is not before t, or the partition's
	// end where there is none.
	At(ctx context.Context, topic string, t time.Time) ([]int64, error)
	// Truncate deletes the records of a partition below offset (Kafka's DeleteRecords).
	Truncate(ctx context.Context, topic string, partition int32, offset int64) error
}

// Admin makes and changes topics. Topics are never made by anything else. After ErrUnavailable a change may have been
// made: ErrTopicExists is told only where the call itself cannot have made the topic.
type Admin interface {
	Create(ctx context.Context, topic string, c TopicConfig) error // ErrTopicExists, ErrTopicName
	Describe(ctx context.Context, topic string) (TopicInfo, error) // ErrNoTopic
	Change(ctx context.Context, topic string, c TopicChange) error // ErrNoTopic
	Delete(ctx context.Context, topic string) error                // ErrNoTopic
}

// Log is the whole contract.
type Log interface {
	Appender
	Reader
	Tailer
	Joiner
	Groups
	Offsets
	Prover
	Admin
	// Close ends everything under way and frees all resources; it blocks until no goroutine is left.
	Close() error
}

// What callers decide on.
var (
	ErrNoTopic     = errors.New("no such topic")
	ErrNoPartition = errors.New("no such partition")
	ErrTopicExists = errors.New("topic exists")
	ErrTopicName   = errors.New("no name for a topic") // not valid, or another topic's but for . and _ (they collide)
	ErrRecreated   = errors.New("topic was deleted and made again")
	ErrNotOwner    = errors.New("partition belongs to another member or generation")
	ErrInUse       = errors.New("consumer group has members")
	ErrNotAllowed  = errors.New("the cluster does not allow it")             // authorization, policy, settings: asking again is of no use
	ErrUnavailable = errors.New("log unavailable")                           // may pass: retry
	ErrRefused     = errors.New("not written")                               // surely not on the log
	ErrFull        = fmt.Errorf("%w: no room on the log's disk", ErrRefused) // may pass: retry
	ErrTooLarge    = fmt.Errorf("%w: message too large", ErrRefused)         // above the topic's max.message.bytes
	ErrClosed      = fmt.Errorf("%w: the log client is closed", ErrRefused)
)

// RangeError tells that an offset lies outside the log.
type RangeError struct {
	Partition int32
	Offset    int64
	Bounds    Bounds
}

// Error implements error.
func (e *RangeError) Error() string {
	return fmt.Sprintf("offset %d of partition %d is outside the log [%d, %d)", e.Offset, e.Partition, e.Bounds.First, e.Bounds.Next)
}

// Gap turns the error into what a reader is told: below the log's start retention took the records, and reading goes
// on there; beyond its end the log was truncated, and reading goes on at the end.
func (e *RangeError) Gap() Gap {
	if e.Offset < e.Bounds.First {
		return Gap{Partition: e.Partition, From: e.Offset, To: e.Bounds.First, Reason: GapRetention}
	}
	return Gap{Partition: e.Partition, From: e.Offset, To: e.Bounds.Next, Reason: GapTruncated}
}

// ParseEpoch reads what Hex has written. ok is false for anything else.
func ParseEpoch(text string) (e Epoch, ok bool) {
	b, err := hex.DecodeString(text)
	if err != nil || len(b) != len(e) {
		return Epoch{}, false
	}
	return Epoch(b), true
}

// Package brokertest is the contract of package broker as a test suite.
//
// Every implementation runs it. What a case needs beyond a client (a broker to restart, a log to truncate) is a power
// that the harness may have: a small interface that it implements. A case without its power is skipped, and says so.
package brokertest

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/eventissuer/eventissuer/broker"
)

// Harness is a running broker.
type Harness interface {
	// Open returns a client of its own. The suite closes it.
	Open(t testing.TB) broker.Log
}

// Powers that a harness may have. They block until the broker answers again.
type (
	// Restarter stops the broker in order and starts it again.
	Restarter interface{ Restart(t testing.TB) }
	// Killer ends the broker as kill -9 does and starts it again.
	Killer interface{ Kill(t testing.TB) }
	// EndLoser lets the broker lose what write appends: afterwards its log ends where it did before.
	EndLoser interface {
		LoseEnd(t testing.TB, write func())
	}
	// Compactor has compaction remove all but the last record of each key in partition 0 of topic.
	Compactor interface {
		Compact(t testing.TB, topic string)
	}
	// Kafka says where a Kafka answers, for cases that speak to it by themselves: transactions, compression.
	Kafka interface{ Brokers() []string }
	// ForgetsProducers marks a broker that is killed together with what it knows of idempotent producers. What it took
	// without an answer may then be on the log twice.
	ForgetsProducers interface{ ForgetsProducers() }
	// FetchCounter counts the fetches that the broker has answered to all clients, by kind: "tail" or "read".
	FetchCounter interface{ Fetches(kind string) int }
)

// patience is how long anything may take before a case fails. It is long, because machines that run tests are slow;
// nothing waits for it to pass.
const patience = 45 * time.Second

type suite struct {
	h Harness
	n *atomic.Int64
}

// Run runs the contract.
func Run(t *testing.T, start func(t *testing.T) Harness) {
	s := &suite{h: start(t), n: new(atomic.Int64)}
	for _, c := range s.cases() {
		t.Run(c.name, c.run)
	}
}

// RunCase runs one case of the contract, for a harness that exists for its sake.
func RunCase(t *testing.T, h Harness, name string) {
	s := &suite{h: h, n: new(atomic.Int64)}
	for _, c := range s.cases() {
		if c.name == name {
			c.run(t)
			return
		}
	}
	t.Fatalf("there is no case %s", name)
}

type testCase struct {
	name string
	run  func(*testing.T)
}

func (s *suite) cases() []testCase {
	return []testCase{
		{"AckedPositionsAscendInOrderOfTheCall", s.ackedPositions},
		{"KeysGoWhereJavaPutsThem", s.murmur2},
		{"PlacesAreThoseOfAppends", s.places},
		{"PlacesOfARemadeTopicAreOfItsNewLife", s.placesOfRemade},
		{"EndCountsWhatIsNotYetCommitted", s.endOfOpenTransaction},
		{"RecordsComeBackAsTheyWent", s.roundTrip},
		{"ConcurrentAppendsGetPositionsOfTheirOwn", s.concurrentAppends},
		{"WhatCannotBeWrittenIsRefusedAlone", s.refusals},
		{"BatchesStayBelowATopicsLimit", s.smallLimit},
		{"AppendEndsWithItsContext", s.appendContext},
		{"LargeEventsComeWhole", s.largeEvents},
		{"TailDeliversEachPartitionInOrder", s.tailOrder},
		{"ResumeByOffsetHasNoGap", s.resumeByOffset},
		{"ResumeByTimeStartsAtTheFirstRecordOfIt", s.resumeByTime},
		{"TimesPastTheEndAreTheEnd", s.timesPastTheEnd},
		{"ReadStepsThroughTheWholeLog", s.readThrough},
		{"RetentionIsToldAsAGap", s.retention},
		{"OffsetsBeyondTheEndAreToldAsTruncated", s.beyondTheEnd},
		{"PublishDoesNotWaitForALongPoll", s.publishBesideLongPoll},
		{"AddedPartitionsAreReadFromTheirStart", s.growth},
		{"TopicsAreMadeDescribedChangedAndDeleted", s.admin},
		{"TopicsThatCannotBeMadeAreToldWhy", s.unmakeable},
		{"UnknownTopicsAreToldApart", s.unknownTopic},
		{"DeletedTopicEndsATail", s.deleted},
		{"RemadeTopicEndsATail", s.remade},
		{"RemadeTopicWithMoreRecordsEndsATail", s.remadeLonger},
		{"RemadeTopicBehindASlowReaderEndsATail", s.remadeBehindSlowReader},
		{"AppendsGoOnAfterATopicIsRemade", s.appendToRemade},
		{"CommittedTransactionsAreReadAndAbortedAreNot", s.transactions},
		{"OpenTransactionHoldsReadersBack", s.openTransaction},
		{"CompressedRecordsAreRead", s.compressed},
		{"CompactionLeavesHolesThatAreNoGaps", s.compaction},
		{"CompactedEndIsReached", s.compactedEnd},
		{"GroupMembersShareAndHandOver", s.rebalance},
		{"CommitsAreKeptForTheNextOwner", s.commits},
		{"CommitOfALostPartitionIsRefused", s.staleCommit},
		{"CommitsUnderWayAreRefusedOnceThePartitionIsAnothers", s.lateCommits},
		{"CommitWaitsForTheEndOfARebalance", s.commitInRebalance},
		{"NotesThatAreNoneAreRefused", s.notes},
		{"GroupsAreToldAndDeletedFromOutside", s.groups},
		{"CloseEndsEverything", s.closing},
		{"RestartMidReadAndMidWriteLosesNothing", s.restart},
		{"KillMidReadAndMidWriteLosesNothing", s.kill},
		{"LostEndIsToldAsTruncated", s.lostEnd},
	}
}

// power returns what the harness can do beyond the least, or skips the case.
func power[P any](t *testing.T, s *suite) P {
	t.Helper()
	p, ok := s.h.(P)
	if !ok {
		t.Skipf("the harness %T has no %T", s.h, &p)
	}
	return p
}

// open returns a client that is closed at the end of the case.
func (s *suite) open(t *testing.T) broker.Log {
	t.Helper()
	log := s.h.Open(t)
	t.Cleanup(func() {
		if err := log.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return log
}

func (s *suite) name(prefix string) string {
	return fmt.Sprintf("%s-%d-%d", prefix, time.Now().UnixNano(), s.n.Add(1))
}

// topic makes a topic of the case's own.
func (s *suite) topic(t *testing.T, log broker.Log, c broker.TopicConfig) (string, broker.Epoch) {
	t.Helper()
	name := s.name("case")
	return name, create(t, log, name, c)
}

func create(t testing.TB, log broker.Log, name string, c broker.TopicConfig) broker.Epoch {
	t.Helper()
	ctx := within(t)
	if err := log.Create(ctx, name, c); err != nil {
		t.Fatalf("create %s: %v", name, err)
	}
	info, err := log.Describe(ctx, name)
	if err != nil {
		t.Fatalf("describe %s: %v", name, err)
	}
	if (info.Epoch == broker.Epoch{}) {
		t.Fatalf("topic %s has no epoch", name)
	}
	return info.Epoch
}

// within is a context for one step of a case.
func within(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}

// put appends and fails the test unless all is acknowledged.
func put(t testing.TB, log broker.Log, topic string, msgs ...broker.Message) []broker.Ack {
	t.Helper()
	acks := log.Append(within(t), topic, msgs)
	if len(acks) != len(msgs) {
		t.Fatalf("%d messages got %d acks", len(msgs), len(acks))
	}
	for i, a := range acks {
		if a.Err != nil {
			t.Fatalf("append of message %d: %v", i, a.Err)
		}
	}
	return acks
}

// numbered makes n messages for a partition whose values say which they are.
func numbered(partition int32, from, n int) []broker.Message {
	msgs := make([]broker.Message, n)
	for i := range msgs {
		msgs[i] = broker.Message{Partition: partition, Value: fmt.Appendf(nil, "%d", from+i)}
	}
	return msgs
}

// readAll reads a partition from offset to its end.
func readAll(t testing.TB, log broker.Log, topic string, partition int32, offset int64, maxBytes int) []broker.Record {
	t.Helper()
	var all []broker.Record
	for {
		b, err := log.Read(within(t), topic, partition, offset, maxBytes)
		if err != nil {
			t.Fatalf("read %s/%d at %d: %v", topic, partition, offset, err)
		}
		for _, r := range b.Records {
			if r.Offset < offset || r.Offset >= b.Next {
				t.Fatalf("read at %d gave a record at %d, next %d", offset, r.Offset, b.Next)
			}
		}
		all = append(all, b.Records...)
		if b.Next == offset {
			if b.Next < b.End {
				t.Fatalf("read at %d makes no progress, though the end is %d", offset, b.End)
			}
			return all
		}
		offset = b.Next
	}
}

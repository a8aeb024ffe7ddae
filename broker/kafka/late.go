package kafka

import (
	"errors"
	"sync"
	"time"

	"github.com/IBM/sarama"
)

// lateness knows the messages of a producer whose callers have left without an answer. sarama has no deadline for a
// message: it would send one again for minutes while each attempt hangs, long after its fate was looked for in the log.
type lateness struct {
	mu  sync.Mutex // guards due
	due map[place]map[owed]time.Time
}

// place is a partition, or any of a topic: -1.
type place struct {
	topic     string
	partition int32
}

// owed is a message of a call.
type owed struct {
	call  *appendCall
	index int
}

func newLateness() *lateness { return &lateness{due: make(map[place]map[owed]time.Time)} }

// add notes that nobody waits for message i of c any more, which asked for the partition.
func (l *lateness) add(c *appendCall, i int, partition int32) {
	l.mu.Lock()
	defer l.mu.Unlock()
	at := place{c.topic, max(partition, -1)}
	if l.due[at] == nil {
		l.due[at] = make(map[owed]time.Time)
	}
	l.due[at][owed{c, i}] = c.due
}

// settled notes that the producer is done with a message, which may have been added.
func (l *lateness) settled(t ticket) {
	l.mu.Lock()
	defer l.mu.Unlock()
	at := place{t.call.topic, max(t.partition, -1)}
	delete(l.due[at], owed{t.call, t.index})
	if len(l.due[at]) == 0 {
		delete(l.due, at)
	}
}

// past reports whether a partition has a message that must not be sent again.
func (l *lateness) past(topic string, partition int32) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.due) == 0 {
		return false
	}
	now := time.Now()
	for _, p := range []int32{partition, -1} {
		for _, due := range l.due[place{topic, p}] {
			if !now.Before(due) {
				return true
			}
		}
	}
	return false
}

// errLate stands for a message that was not sent, because one before it is given up.
var errLate = errors.New("a message before it is being given up, which was not acknowledged in time")

// punctual is the client of a producer. sarama asks it for the leader before it sends a batch again, and gives the
// batch up, in doubt, when there is none. What comes behind may fail with errLate, unsent.
type punctual struct {
	sarama.Client
	late *lateness
}

// Leader implements sarama.Client.
func (c punctual) Leader(topic string, partition int32) (*sarama.Broker, error) {
	if c.late.past(topic, partition) {
		return nil, errLate
	}
	return c.Client.Leader(topic, partition)
}

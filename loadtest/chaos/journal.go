package chaos

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"sync"
	"time"
)

// What says what an entry of the journal tells.
type What string

// What is told of a run.
const (
	WhatRun    What = "run"    // Text: the seed
	WhatReader What = "reader" // Reader: a client that reads
	WhatNote   What = "note"   // Text: something for who reads the journal

	// A tombstone's id is its key, without a number.
	WhatSend   What = "send"   // IDs: a publisher is about to send them; Link: the attempt
	WhatAck    What = "ack"    // IDs: they were acknowledged to be in the Places; Flag: without deduplication
	WhatDoubt  What = "doubt"  // IDs: they were not acknowledged, and may be written; Text: why
	WhatAnswer What = "answer" // Text: an answer that no client should ever be given

	WhatOpen    What = "open"    // a connection is about to be opened; Cursor: the one that is presented, if any; Text: what is asked for by a query
	WhatGiven   What = "given"   // IDs: events came; Cursor: and the place after them; Flag: the server is in doubt about the picture there; Text: an event that is not as it was sent
	WhatControl What = "control" // Text: the control message; Gap: where it is one; IDs: the event that is removed; Places: what is no event; Cursor, Flag: likewise
	WhatClosed  What = "closed"  // Text: why

	WhatBounds What = "bounds" // Stream is said to end at the Cursor, and to begin at the Places

	WhatSay   What = "say"   // IDs or Cursor: the client is about to acknowledge them
	WhatSaid  What = "said"  // IDs or Cursor: that was answered as durable
	WhatPlace What = "place" // Cursor: where the server says that a named consumer stands

	WhatPosted What = "posted" // IDs: a webhook's message was read; Flag: and will be acknowledged
	WhatDone   What = "done"   // IDs: a webhook's message was acknowledged

	WhatFault   What = "fault"   // Who: what it is done to; Text: what is done
	WhatMended  What = "mended"  // Who, Text: that is over
	WhatExit    What = "exit"    // Link: the code with which a replica ended that was told to
	WhatBroke   What = "broke"   // Who: a replica that broke by itself; Text: what it logged, or that it does not answer
	WhatGrowth  What = "growth"  // Who: a replica that holds more than in the beginning; Text: of what
	WhatUnwhole What = "unwhole" // Who: a client that was not whole in time after everything was repaired

	WhatTrim   What = "trim"   // what is below the Cursor is about to be deleted; Flag: it is
	WhatEnds   What = "ends"   // Cursor: the log's ends once nothing more was published
	WhatStarts What = "starts" // Cursor: the log's beginnings
	WhatRecord What = "record" // IDs: an event or tombstone on the log, in the one of the Places
)

// Place is where an event is: partition and offset.
type Place [2]int64

func (p Place) String() string { return fmt.Sprintf("%d/%d", p[0], p[1]) }

// Gap is what a client was told to be gone.
type Gap struct {
	Stream    string `json:"stream,omitempty"`
	Partition int64  `json:"partition"` // over all streams
	From      int64  `json:"from"`
	To        int64  `json:"to"`
	Reason    string `json:"reason"`
}

// Reader describes a client that reads.
type Reader struct {
	Kind    Kind     `json:"kind"`
	Over    string   `json:"over"`              // the transport
	Streams []string `json:"streams,omitempty"` // that it reads at once; none are the first
	Key     string   `json:"key,omitempty"`     // it wants this key alone
	Prefix  string   `json:"prefix,omitempty"`  // it wants keys that begin so
	Latest  bool     `json:"latest,omitempty"`  // without a cursor it begins at the latest event, else at the oldest
	Group   string   `json:"group,omitempty"`   // the subscription that it takes from
	Ordered bool     `json:"ordered,omitempty"` // that is ordered by key

	Conflated bool `json:"conflated,omitempty"` // of a picture: it is given each key's latest event once an interval
}

// Kind is how a client keeps its place.
type Kind string

// The kinds of clients.
const (
	KindStream   Kind = "stream"   // it keeps its cursor itself
	KindPicture  Kind = "picture"  // likewise, and of each key the latest event
	KindConsumer Kind = "consumer" // a named consumer: it remembers nothing
	KindTaker    Kind = "taker"    // a session of a subscription that acknowledges
	KindHook     Kind = "hook"     // an endpoint
	KindQuery    Kind = "query"    // it asks for one answer after the other
)

// streams are those that the client reads.
func (r *Reader) streams() []string {
	if len(r.Streams) == 0 {
		return []string{theStream}
	}
	return r.Streams
}

// of is the part of a row of offsets that is of the client's streams; the others are 0.
func (r *Reader) of(offsets []int64) []int64 {
	all := slices.Clone(offsets)
	for _, s := range streams {
		if from, to := min(s.first, len(all)), min(s.first+s.partitions, len(all)); !slices.Contains(r.streams(), s.name) {
			clear(all[from:to])
		}
	}
	return all
}

// wants reports whether an event of the key is for the client.
func (r *Reader) wants(key string) bool {
	switch {
	case !slices.Contains(r.streams(), streamOf(key)):
		return false
	case r.Key != "":
		return key == r.Key
	case r.Prefix != "":
		return len(key) >= len(r.Prefix) && key[:len(r.Prefix)] == r.Prefix
	}
	return true
}

// Entry is a line of the journal.
type Entry struct {
	At     time.Duration `json:"t"` // since the run began, by a clock that does not jump
	What   What          `json:"what"`
	Who    string        `json:"who,omitempty"`  // the client, or what a fault is done to
	On     string        `json:"on,omitempty"`   // the replica
	Link   int           `json:"link,omitempty"` // the client's connection, counted from 1
	IDs    []string      `json:"ids,omitempty"`
	Places []Place       `json:"at,omitempty"`
	Cursor []int64       `json:"cursor,omitempty"` // per partition the next offset
	Gap    *Gap          `json:"gap,omitempty"`
	Stream string        `json:"stream,omitempty"` // of a control message about a picture
	Reader *Reader       `json:"reader,omitempty"`
	Flag   bool          `json:"flag,omitempty"`
	Text   string        `json:"text,omitempty"`
}

// Journal is a file of entries, in the order in which they were noted. It may be written to concurrently.
type Journal struct {
	began time.Time

	mu   sync.Mutex
	file *os.File
	out  *bufio.Writer
	last time.Duration
	err  error // the first; guarded by mu, as all above
}

// NewJournal begins a journal in a new file.
func NewJournal(path string) (*Journal, error) {
	f, err := os.Create(path)
	if err != nil {
		return nil, fmt.Errorf("begin the journal: %w", err)
	}
	return &Journal{began: time.Now(), file: f, out: bufio.NewWriterSize(f, 256<<10)}, nil
}

// Note writes an entry, and gives it its time. What goes wrong is told by Close.
func (j *Journal) Note(e Entry) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.last = max(j.last+1, time.Since(j.began)) // no two at the same time
	e.At = j.last
	line, err := json.Marshal(e)
	if err == nil {
		_, err = j.out.Write(append(line, '\n'))
	}
	if j.err == nil {
		j.err = err
	}
}

// Close writes what is left. It returns the first error of all that was written.
func (j *Journal) Close() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	return errors.Join(j.err, j.out.Flush(), j.file.Close())
}

// readJournal gives each entry of a journal to each, until one returns an error.
func readJournal(path string, each func(*Entry) error) (err error) {
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("read the journal: %w", err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	in := json.NewDecoder(bufio.NewReaderSize(f, 256<<10))
	for n := 1; ; n++ {
		var e Entry
		switch err := in.Decode(&e); {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return fmt.Errorf("read the journal: entry %d: %w", n, err)
		}
		if err := each(&e); err != nil {
			return err
		}
	}
}

package chaos

import (
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// forger makes up a journal, entry by entry in the order of time, of a log with two partitions.
type forger struct {
	now     time.Duration
	entries []Entry
	log     [2][]string // by partition, by offset; "" is a hole
	links   map[string]int
}

func newForger() *forger { return &forger{links: map[string]int{}} }

func (f *forger) note(e Entry) {
	f.now += time.Millisecond
	e.At = f.now
	f.entries = append(f.entries, e)
}

// wait has time pass in which something else is noted.
func (f *forger) wait(d time.Duration) {
	for ; d > 0; d -= standstill / 2 {
		f.now += standstill / 2
		f.note(Entry{What: WhatNote})
	}
}

// append puts events on the log.
func (f *forger) append(partition int, ids ...string) {
	f.log[partition] = append(f.log[partition], ids...)
}

func (f *forger) send(ids ...string) { f.note(Entry{What: WhatSend, Who: "publisher", IDs: ids}) }

func (f *forger) doubt(ids ...string) { f.note(Entry{What: WhatDoubt, Who: "publisher", IDs: ids}) }

// ack says that an event is on the log.
func (f *forger) ack(id string, partition, offset int64) {
	f.note(Entry{What: WhatAck, Who: "publisher", IDs: []string{id}, Places: []Place{{partition, offset}}})
}

// publish sends events, puts them on the log, and acknowledges them.
func (f *forger) publish(partition int, ids ...string) {
	for _, id := range ids {
		f.send(id)
		f.append(partition, id)
		f.ack(id, int64(partition), int64(len(f.log[partition])-1))
	}
}

func (f *forger) client(who string, r Reader) { f.note(Entry{What: WhatReader, Who: who, Reader: &r}) }

// open has a client connect, with a cursor or none.
func (f *forger) open(who string, cursor ...int64) {
	f.links[who]++
	f.note(Entry{What: WhatOpen, Who: who, On: "replica-0", Link: f.links[who], Cursor: cursor})
}

func (f *forger) given(who string, cursor []int64, ids ...string) {
	f.note(Entry{What: WhatGiven, Who: who, On: "replica-0", Link: f.links[who], IDs: ids, Cursor: cursor})
}

func (f *forger) say(who string, ids ...string) { f.note(Entry{What: WhatSay, Who: who, IDs: ids}) }

func (f *forger) said(who string, ids ...string) { f.note(Entry{What: WhatSaid, Who: who, IDs: ids}) }

// acknowledge has a taker acknowledge events, and be answered.
func (f *forger) acknowledge(who string, ids ...string) {
	f.say(who, ids...)
	f.said(who, ids...)
}

func (f *forger) gap(who string, g Gap) {
	f.note(Entry{What: WhatControl, Who: who, Text: "gap", Gap: &g})
}

// reads has a reader get all that two partitions hold, first the one and then the other.
func (f *forger) reads(who string) {
	f.open(who)
	f.given(who, []int64{0, 0})
	var at [2]int64
	for p, all := range f.log {
		for _, id := range all {
			at[p]++
			if id != "" {
				f.given(who, []int64{at[0], at[1]}, id)
			}
		}
	}
}

// posted has an endpoint be sent an event, and take it or not.
func (f *forger) posted(who, id string, takes bool) {
	f.note(Entry{What: WhatPosted, Who: who, IDs: []string{id}, Flag: takes})
	if takes {
		f.note(Entry{What: WhatDone, Who: who, IDs: []string{id}})
	}
}

// check ends the journal with what the log holds, and finds what it shows broken.
func (f *forger) check(t *testing.T) *Findings {
	t.Helper()
	f.note(Entry{What: WhatEnds, Cursor: []int64{int64(len(f.log[0])), int64(len(f.log[1]))}})
	for p, all := range f.log {
		for o, id := range all {
			if id != "" {
				f.note(Entry{What: WhatRecord, IDs: []string{id}, Places: []Place{{int64(p), int64(o)}}})
			}
		}
	}
	f.note(Entry{What: WhatStarts, Cursor: []int64{0, 0}})
	path := filepath.Join(t.TempDir(), "journal.ndjson")
	file, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	out := json.NewEncoder(file)
	for _, e := range f.entries {
		if err := out.Encode(e); err != nil {
			t.Fatal(err)
		}
	}
	if err := file.Close(); err != nil {
		t.Fatal(err)
	}
	found, err := Check(path)
	if err != nil {
		t.Fatal(err)
	}
	return found
}

var (
	toAll       = Reader{Kind: KindStream, Over: overSSE}
	toBoth      = Reader{Kind: KindStream, Over: overSSE, Streams: []string{theStream, theBoard}}
	toPicture   = Reader{Kind: KindPicture, Over: overSSE}
	toBoard     = Reader{Kind: KindPicture, Over: overSSE, Streams: []string{theBoard}}
	toPages     = Reader{Kind: KindPicture, Over: overPages, Streams: []string{theBoard}}
	toLatest    = Reader{Kind: KindPicture, Over: overSSE, Streams: []string{theBoard}, Conflated: true}
	toBoards    = Reader{Kind: KindPicture, Over: overSSE, Streams: []string{theStream, theBoard}}
	toAsk       = Reader{Kind: KindQuery, Over: overPages}
	toConflated = Reader{Kind: KindPicture, Over: overSSE, Conflated: true}
	toConsumer  = Reader{Kind: KindConsumer, Over: overBatch}
	toTaker     = Reader{Kind: KindTaker, Over: overNDJSON, Group: "shared", Ordered: true}
	toTakerOf   = Reader{Kind: KindTaker, Over: overNDJSON, Group: "shared"}
	toHook      = Reader{Kind: KindHook, Over: "webhook", Ordered: true}
)

func TestCheckFindsWhatBreaksPromises(t *testing.T) {
	tests := []struct {
		name string
		play func(f *forger)
		want []Promise
	}{
		{"all is well", func(f *forger) {
			f.client("r", toAll)
			f.publish(0, "a00-0", "a00-1")
			f.publish(1, "b01-0")
			f.reads("r")
		}, nil},

		// The log.
		{"an acknowledged event is not on the log", func(f *forger) {
			f.send("a00-0")
			f.ack("a00-0", 0, 0)
		}, []Promise{PromiseKept}},
		{"an acknowledged event is elsewhere", func(f *forger) {
			f.send("a00-0")
			f.append(1, "a00-0")
			f.ack("a00-0", 0, 0)
		}, []Promise{PromiseKept}},
		{"an event that was not acknowledged is on the log", func(f *forger) {
			f.send("a00-0")
			f.append(0, "a00-0")
		}, nil},
		{"an event is on the log that was not published", func(f *forger) {
			f.append(0, "a00-0")
		}, []Promise{PromiseGenuine}},
		{"a record is no event", func(f *forger) {
			f.note(Entry{What: WhatRecord, IDs: []string{""}, Places: []Place{{0, 0}}, Text: "no JSON"})
		}, []Promise{PromiseGenuine}},
		{"an event that is never to be there twice is there twice", func(f *forger) {
			f.send("a00-0")
			f.doubt("a00-0")
			f.append(0, "a00-0", "a00-0")
			f.ack("a00-0", 0, 0)
		}, []Promise{PromiseOnce}},
		{"an event that was in doubt is there twice where Redis was away", func(f *forger) {
			f.send("b01-0")
			f.doubt("b01-0")
			f.append(0, "b01-0", "b01-0")
			f.ack("b01-0", 0, 1)
		}, nil},
		{"an event that was never in doubt is there twice", func(f *forger) {
			f.publish(0, "b01-0")
			f.append(0, "b01-0")
		}, []Promise{PromiseOnce}},
		{"an event that was in doubt is there twice where Redis lost its data", func(f *forger) {
			f.send("a00-0")
			f.doubt("a00-0")
			f.fault("redis", RedisFlush)
			f.mended("redis")
			f.append(0, "a00-0", "a00-0")
			f.ack("a00-0", 0, 0)
		}, nil},
		{"an event is there twice that was published before Redis lost its data", func(f *forger) {
			f.send("a00-0")
			f.doubt("a00-0")
			f.append(0, "a00-0", "a00-0")
			f.ack("a00-0", 0, 0)
			f.now += lateAttempt
			f.fault("redis", RedisEmpty)
			f.mended("redis")
		}, []Promise{PromiseOnce}},
		{"an event is there twice that was published after Redis lost its data", func(f *forger) {
			f.fault("redis", RedisEmpty)
			f.mended("redis")
			f.send("a00-0")
			f.doubt("a00-0")
			f.append(0, "a00-0", "a00-0")
			f.ack("a00-0", 0, 0)
		}, []Promise{PromiseOnce}},
		{"an event that was never in doubt is there twice where Redis lost its data", func(f *forger) {
			f.send("a00-0")
			f.fault("redis", RedisFlush)
			f.mended("redis")
			f.append(0, "a00-0", "a00-0")
			f.ack("a00-0", 0, 0)
		}, []Promise{PromiseOnce}},
		{"an acknowledged event is lost with Redis's data", func(f *forger) {
			f.send("a00-0")
			f.fault("redis", RedisFlush)
			f.ack("a00-0", 0, 0)
			f.mended("redis")
		}, []Promise{PromiseKept}},
		{"the events of a key are not in order", func(f *forger) {
			f.publish(0, "a00-0")
			f.send("a00-1")
			f.ack("a00-1", 0, 2)
			f.send("a00-2")
			f.ack("a00-2", 0, 1)
			f.append(0, "a00-2", "a00-1")
		}, []Promise{PromiseOrder}},

		// Readers.
		{"an event is not given, and the cursor passes it", func(f *forger) {
			f.client("r", toAll)
			f.publish(0, "a00-0", "a00-1")
			f.open("r")
			f.given("r", []int64{0, 0})
			f.given("r", []int64{2, 0}, "a00-0")
		}, []Promise{PromiseCursor}},
		{"an event is left out", func(f *forger) {
			f.client("r", toAll)
			f.publish(0, "a00-0", "a00-1")
			f.open("r")
			f.given("r", []int64{2, 0}, "a00-1")
		}, []Promise{PromiseComplete}},
		{"the last event is not given", func(f *forger) {
			f.client("r", toAll)
			f.publish(0, "a00-0", "a00-1")
			f.open("r")
			f.given("r", []int64{1, 0}, "a00-0")
		}, []Promise{PromiseComplete}},
		{"nothing is given", func(f *forger) {
			f.client("r", Reader{Kind: KindStream, Over: overSSE, Latest: true})
			f.publish(0, "a00-0")
			f.open("r")
		}, []Promise{PromiseComplete}},
		{"what is before the latest is not given", func(f *forger) {
			f.client("r", Reader{Kind: KindStream, Over: overSSE, Latest: true})
			f.publish(0, "a00-0", "a00-1")
			f.open("r")
			f.given("r", []int64{1, 0})
			f.given("r", []int64{2, 0}, "a00-1")
		}, nil},
		{"what the filter does not want is not given", func(f *forger) {
			f.client("r", Reader{Kind: KindStream, Over: overSSE, Prefix: "b"})
			f.publish(0, "a00-0", "b01-0", "a00-1")
			f.open("r")
			f.given("r", []int64{2, 0}, "b01-0")
			f.given("r", []int64{3, 0})
		}, nil},
		{"what the filter does not want is given", func(f *forger) {
			f.client("r", Reader{Kind: KindStream, Over: overSSE, Key: "b01"})
			f.publish(0, "a00-0")
			f.open("r")
			f.given("r", []int64{1, 0}, "a00-0")
		}, []Promise{PromiseWanted}},
		{"events come in the wrong order", func(f *forger) {
			f.client("r", toAll)
			f.publish(0, "a00-0", "a00-1")
			f.open("r")
			f.given("r", nil, "a00-1", "a00-0")
			f.given("r", []int64{2, 0})
		}, []Promise{PromiseComplete, PromiseRepeat}},
		{"an event comes twice on a connection", func(f *forger) {
			f.client("r", toAll)
			f.publish(0, "a00-0")
			f.open("r")
			f.given("r", []int64{1, 0}, "a00-0", "a00-0")
		}, []Promise{PromiseRepeat}},
		{"an event comes again that is before the cursor presented", func(f *forger) {
			f.client("r", toAll)
			f.publish(0, "a00-0", "a00-1")
			f.reads("r")
			f.open("r", 1, 0)
			f.given("r", []int64{2, 0}, "a00-0", "a00-1")
		}, []Promise{PromiseRepeat}},
		{"an event comes again that is after the cursor presented", func(f *forger) {
			f.client("r", toAll)
			f.publish(0, "a00-0", "a00-1")
			f.reads("r")
			f.open("r", 1, 0)
			f.given("r", []int64{2, 0}, "a00-1")
		}, nil},
		{"a resume skips", func(f *forger) {
			f.client("r", toAll)
			f.publish(0, "a00-0", "a00-1", "a00-2")
			f.open("r")
			f.given("r", []int64{1, 0}, "a00-0")
			f.open("r", 1, 0)
			f.given("r", []int64{2, 0})
			f.given("r", []int64{3, 0}, "a00-2")
		}, []Promise{PromiseCursor}},
		{"a cursor goes back", func(f *forger) {
			f.client("r", toAll)
			f.publish(0, "a00-0")
			f.reads("r")
			f.given("r", []int64{0, 0})
		}, []Promise{PromiseCursor}},
		{"a cursor has partitions that there are not", func(f *forger) {
			f.client("r", toAll)
			f.publish(0, "a00-0")
			f.reads("r")
			f.given("r", []int64{1, 0, 1})
		}, []Promise{PromiseCursor}},
		{"an event comes that is not on the log", func(f *forger) {
			f.client("r", toAll)
			f.send("a00-0")
			f.open("r")
			f.given("r", nil, "a00-0")
		}, []Promise{PromiseGenuine}},
		{"an event comes that was changed", func(f *forger) {
			f.client("r", toAll)
			f.publish(0, "a00-0")
			f.open("r")
			f.note(Entry{What: WhatGiven, Who: "r", IDs: []string{"a00-0"}, Cursor: []int64{1, 0}, Text: "the data is another"})
		}, []Promise{PromiseGenuine}},
		{"a copy comes after the other", func(f *forger) {
			f.client("r", toAll)
			f.send("b01-0")
			f.doubt("b01-0")
			f.append(0, "b01-0", "b01-0")
			f.ack("b01-0", 0, 1)
			f.open("r")
			f.given("r", []int64{2, 0}, "b01-0", "b01-0")
		}, nil},
		{"a copy does not come", func(f *forger) {
			f.client("r", toAll)
			f.send("b01-0")
			f.doubt("b01-0")
			f.append(0, "b01-0", "b01-0")
			f.ack("b01-0", 0, 1)
			f.open("r")
			f.given("r", []int64{2, 0}, "b01-0")
		}, []Promise{PromiseCursor}},

		// Several streams at once. The second partition is the other stream's.
		{"two streams are read under one cursor", func(f *forger) {
			f.client("r", toBoth)
			f.client("one", toAll)
			f.publish(0, "a00-0", "a00-1")
			f.publish(1, "e00-0")
			f.open("r")
			f.given("r", []int64{0, 1}, "e00-0")
			f.open("r", 0, 1)
			f.given("r", []int64{2, 1}, "a00-0", "a00-1")
			f.open("one")
			f.given("one", []int64{2, 0}, "a00-0", "a00-1")
		}, nil},
		{"of two streams one is left out", func(f *forger) {
			f.client("r", toBoth)
			f.publish(0, "a00-0")
			f.publish(1, "e00-0")
			f.open("r")
			f.given("r", []int64{1, 0}, "a00-0")
		}, []Promise{PromiseComplete}},
		{"a cursor of two streams is ahead in one", func(f *forger) {
			f.client("r", toBoth)
			f.publish(0, "a00-0")
			f.publish(1, "e00-0")
			f.open("r")
			f.given("r", []int64{1, 1}, "a00-0")
		}, []Promise{PromiseCursor}},
		{"a cursor of two streams lacks one", func(f *forger) {
			f.client("r", toBoth)
			f.publish(0, "a00-0")
			f.publish(1, "e00-0")
			f.open("r")
			f.given("r", []int64{0, 1}, "e00-0")
			f.given("r", []int64{1, 0}, "a00-0")
		}, []Promise{PromiseCursor}},
		{"of two streams one comes again after a resume", func(f *forger) {
			f.client("r", toBoth)
			f.publish(0, "a00-0")
			f.publish(1, "e00-0")
			f.open("r")
			f.given("r", []int64{0, 1}, "e00-0")
			f.open("r", 0, 1)
			f.given("r", []int64{1, 1}, "e00-0", "a00-0")
		}, []Promise{PromiseRepeat}},
		{"the events of a key of one stream come in the wrong order", func(f *forger) {
			f.client("r", toBoth)
			f.publish(0, "a00-0")
			f.publish(1, "e00-0", "e00-1")
			f.open("r")
			f.given("r", nil, "e00-1", "a00-0", "e00-0")
			f.given("r", []int64{1, 2})
		}, []Promise{PromiseComplete, PromiseRepeat}},
		{"what is of another stream is given", func(f *forger) {
			f.client("r", toAll)
			f.publish(1, "e00-0")
			f.open("r")
			f.given("r", []int64{0, 1}, "e00-0")
		}, []Promise{PromiseWanted}},

		// Gaps.
		{"a gap is told of what is gone", func(f *forger) {
			f.client("r", toAll)
			f.publish(0, "a00-0", "a00-1", "a00-2")
			f.trim(true, 2, 0)
			f.open("r", 1, 0)
			f.gap("r", Gap{Partition: 0, From: 1, To: 2, Reason: "retention"})
			f.given("r", []int64{2, 0})
			f.given("r", []int64{3, 0}, "a00-2")
		}, nil},
		{"a gap is told of what is there", func(f *forger) {
			f.client("r", toAll)
			f.publish(0, "a00-0", "a00-1")
			f.open("r")
			f.gap("r", Gap{Partition: 0, From: 0, To: 1, Reason: "retention"})
			f.given("r", []int64{2, 0}, "a00-1")
		}, []Promise{PromiseGap}},
		{"a gap is told of what is deleted only later", func(f *forger) {
			f.client("r", toAll)
			f.publish(0, "a00-0", "a00-1")
			f.open("r", 0, 0)
			f.gap("r", Gap{Partition: 0, From: 0, To: 1, Reason: "retention"})
			f.trim(true, 1, 0)
			f.given("r", []int64{2, 0}, "a00-1")
		}, []Promise{PromiseGap}},
		{"a gap is not told", func(f *forger) {
			f.client("r", toAll)
			f.publish(0, "a00-0", "a00-1")
			f.trim(true, 1, 0)
			f.open("r", 0, 0)
			f.given("r", []int64{1, 0})
			f.given("r", []int64{2, 0}, "a00-1")
		}, []Promise{PromiseCursor}},
		{"reading from the oldest begins where the log does", func(f *forger) {
			f.client("r", toAll)
			f.publish(0, "a00-0", "a00-1")
			f.trim(true, 1, 0)
			f.open("r")
			f.given("r", []int64{1, 0})
			f.given("r", []int64{2, 0}, "a00-1")
		}, nil},
		{"reading another stream from the oldest begins where that one does", func(f *forger) {
			f.client("r", Reader{Kind: KindQuery, Over: overPages, Streams: []string{theBoard}})
			f.publish(0, "a00-0", "a00-1")
			f.trim(true, 1, 0)
			f.ask("r", askPage)
			f.given("r", []int64{0, 0})
		}, nil},
		{"reading from the oldest skips", func(f *forger) {
			f.client("r", toAll)
			f.publish(0, "a00-0", "a00-1", "a00-2")
			f.trim(true, 1, 0)
			f.open("r")
			f.given("r", []int64{2, 0})
			f.given("r", []int64{3, 0}, "a00-2")
		}, []Promise{PromiseCursor}},
		{"the log's beginning is deleted while a client asks for the oldest", func(f *forger) {
			f.client("r", toAll)
			f.publish(0, "a00-0", "a00-1", "a00-2")
			f.open("r")
			f.trim(false, 2, 0)
			f.given("r", []int64{1, 0})
			f.given("r", []int64{3, 0}, "a00-1", "a00-2")
		}, nil},
		{"a client is begun behind the log's beginning, which is being deleted", func(f *forger) {
			f.client("r", toAll)
			f.publish(0, "a00-0", "a00-1", "a00-2")
			f.trim(false, 1, 0)
			f.open("r")
			f.given("r", []int64{2, 0})
			f.given("r", []int64{3, 0}, "a00-2")
		}, []Promise{PromiseComplete}},
		{"a gap begins behind what is not given", func(f *forger) {
			f.client("r", toAll)
			f.publish(0, "a00-0")
			f.append(0, "")
			f.publish(0, "a00-1")
			f.open("r")
			f.gap("r", Gap{Partition: 0, From: 1, To: 2, Reason: "retention"})
			f.given("r", []int64{3, 0}, "a00-1")
		}, []Promise{PromiseComplete}},
		{"a log is told to be cut off, and other events are there since", func(f *forger) {
			f.client("r", toAll)
			f.open("r", 1, 0)
			f.gap("r", Gap{Partition: 0, From: 1, To: 0, Reason: "truncated"})
			f.publish(0, "a00-0")
			f.given("r", []int64{1, 0}, "a00-0")
		}, nil},
		{"a log is told to be cut off that was not", func(f *forger) {
			f.client("r", toAll)
			f.publish(0, "a00-0")
			f.open("r", 1, 0)
			f.gap("r", Gap{Partition: 0, From: 1, To: 0, Reason: "truncated"})
			f.given("r", []int64{1, 0}, "a00-0")
		}, []Promise{PromiseGap}},
		{"a gap is told in a partition that there is not", func(f *forger) {
			f.client("r", toAll)
			f.open("r")
			f.gap("r", Gap{Partition: 2, From: 0, To: 1, Reason: "retention"})
			f.given("r", []int64{0, 0})
		}, []Promise{PromiseGap}},

		// Pictures.
		{"a picture follows the log", func(f *forger) {
			f.client("p", toPicture)
			f.publish(0, "a00-0", "a00-1")
			f.publish(1, "b01-0")
			f.open("p")
			f.draws("p", []int64{1, 1}, "a00-0", "b01-0")
			f.given("p", []int64{2, 1}, "a00-1")
		}, nil},
		{"a snapshot has what is not the latest", func(f *forger) {
			f.client("p", toPicture)
			f.publish(0, "a00-0", "a00-1")
			f.open("p")
			f.draws("p", []int64{2, 0}, "a00-0")
			f.open("p")
			f.draws("p", []int64{2, 0}, "a00-1")
		}, []Promise{PromisePicture}},
		{"a snapshot lacks a key", func(f *forger) {
			f.client("p", toConflated)
			f.publish(0, "a00-0", "b01-0")
			f.open("p")
			f.draws("p", []int64{2, 0}, "a00-0")
			f.given("p", []int64{2, 0}, "b01-0")
		}, []Promise{PromisePicture}},
		{"a snapshot has what comes after it", func(f *forger) {
			f.client("p", toPicture)
			f.publish(0, "a00-0")
			f.open("p")
			f.draws("p", []int64{0, 0}, "a00-0")
			f.given("p", []int64{1, 0}, "a00-0")
		}, []Promise{PromisePicture}},
		{"a picture is left unfinished", func(f *forger) {
			f.client("p", toPicture)
			f.publish(0, "a00-0")
			f.open("p")
			f.note(Entry{What: WhatControl, Who: "p", Text: "snapshot", Stream: theStream})
			f.given("p", nil, "a00-0")
		}, []Promise{PromisePicture}},
		{"conflation leaves out what is not the latest", func(f *forger) {
			f.client("p", toConflated)
			f.publish(0, "a00-0", "a00-1", "a00-2")
			f.open("p")
			f.draws("p", []int64{1, 0}, "a00-0")
			f.given("p", []int64{3, 0}, "a00-2")
		}, nil},
		{"conflation leaves out the latest", func(f *forger) {
			f.client("p", toConflated)
			f.publish(0, "a00-0", "a00-1", "a00-2")
			f.open("p")
			f.draws("p", []int64{1, 0}, "a00-0")
			f.given("p", []int64{3, 0}, "a00-1")
		}, []Promise{PromisePicture}},
		{"without conflation nothing is left out", func(f *forger) {
			f.client("p", toPicture)
			f.publish(0, "a00-0", "a00-1", "a00-2")
			f.open("p")
			f.draws("p", []int64{1, 0}, "a00-0")
			f.given("p", []int64{3, 0}, "a00-2")
		}, []Promise{PromiseComplete}},
		{"a picture goes back", func(f *forger) {
			f.client("p", toConflated)
			f.publish(0, "a00-0", "a00-1")
			f.open("p")
			f.draws("p", []int64{2, 0}, "a00-1")
			f.given("p", nil, "a00-0")
			f.given("p", []int64{2, 0}, "a00-1")
		}, []Promise{PromiseRepeat}},
		{"a picture has what is not on the log", func(f *forger) {
			f.client("p", toPicture)
			f.open("p")
			f.draws("p", []int64{0, 0}, "a00-0")
		}, []Promise{PromiseGenuine}},
		{"a picture has what was not asked for", func(f *forger) {
			f.client("p", Reader{Kind: KindPicture, Prefix: "b", Conflated: true})
			f.publish(0, "a00-0")
			f.open("p")
			f.draws("p", []int64{1, 0})
			f.given("p", []int64{1, 0}, "a00-0")
			f.open("p")
			f.draws("p", []int64{1, 0})
		}, []Promise{PromiseWanted}},

		// Tombstones, and pictures of several streams.
		{"a picture follows what is removed", func(f *forger) {
			f.client("p", toBoard)
			f.publish(0, "e00-0", "f01-0")
			f.open("p")
			f.drawsOf("p", theBoard, []int64{2, 0}, "e00-0", "f01-0")
			f.publish(0, "e00", "e00-1", "e00", "f01")
			f.removed("p", "e00-0", 3, 0)
			f.given("p", []int64{4, 0}, "e00-1")
			f.removed("p", "e00-1", 5, 0)
			f.removed("p", "f01-0", 6, 0)
		}, nil},
		{"a snapshot lacks what was removed", func(f *forger) {
			f.client("p", toBoard)
			f.publish(0, "e00-0", "f01-0", "e00")
			f.open("p")
			f.drawsOf("p", theBoard, []int64{3, 0}, "f01-0")
		}, nil},
		{"a snapshot has what was removed", func(f *forger) {
			f.client("p", toLatest)
			f.publish(0, "e00-0", "e00")
			f.open("p")
			f.drawsOf("p", theBoard, []int64{2, 0}, "e00-0")
			f.removed("p", "e00-0", 2, 0)
		}, []Promise{PromisePicture}},
		{"what is removed is not told", func(f *forger) {
			f.client("p", toBoard)
			f.publish(0, "e00-0", "e00", "e00-1")
			f.open("p")
			f.drawsOf("p", theBoard, []int64{1, 0}, "e00-0")
			f.given("p", []int64{2, 0})
			f.given("p", []int64{3, 0}, "e00-1")
		}, []Promise{PromisePicture}},
		{"what is removed is not told, and the server says that it cannot", func(f *forger) {
			f.client("p", toBoard)
			f.publish(0, "e00-0", "e00", "f01-0")
			f.open("p")
			f.drawsOf("p", theBoard, []int64{1, 0}, "e00-0")
			f.note(Entry{What: WhatGiven, Who: "p", IDs: []string{"f01-0"}, Cursor: []int64{3, 0}, Flag: true})
			f.open("p", 3, 0)
			f.drawsOf("p", theBoard, []int64{3, 0}, "f01-0")
		}, nil},
		{"a picture in doubt is not drawn anew", func(f *forger) {
			f.client("p", toBoard)
			f.publish(0, "e00-0", "e00", "f01-0")
			f.open("p")
			f.drawsOf("p", theBoard, []int64{1, 0}, "e00-0")
			f.note(Entry{What: WhatGiven, Who: "p", IDs: []string{"f01-0"}, Cursor: []int64{3, 0}, Flag: true})
			f.open("p", 3, 0)
			f.given("p", []int64{3, 0})
		}, []Promise{PromisePicture}},
		{"a snapshot that was cut short is taken for whole", func(f *forger) {
			f.client("p", toBoard)
			f.publish(0, "e00-0", "f01-0")
			f.open("p")
			f.drawsOf("p", theBoard, []int64{1, 0}, "e00-0")
			f.note(Entry{What: WhatControl, Who: "p", Text: "snapshot", Stream: theBoard})
			f.open("p", 1, 0)
			f.given("p", []int64{2, 0}, "f01-0")
			f.open("p")
			f.drawsOf("p", theBoard, []int64{2, 0}, "e00-0", "f01-0")
		}, []Promise{PromisePicture}},
		{"what is not removed is told to be", func(f *forger) {
			f.client("p", toBoard)
			f.publish(0, "e00-0")
			f.open("p")
			f.drawsOf("p", theBoard, []int64{1, 0}, "e00-0")
			f.removed("p", "e00-0", 1, 0)
			f.open("p")
			f.drawsOf("p", theBoard, []int64{1, 0}, "e00-0")
		}, []Promise{PromisePicture}},
		{"what is removed is told too late", func(f *forger) {
			f.client("p", toBoard)
			f.publish(0, "e00-0", "e00", "e00-1")
			f.open("p")
			f.drawsOf("p", theBoard, []int64{1, 0}, "e00-0")
			f.given("p", nil, "e00-1")
			f.removed("p", "e00-0", 3, 0)
			f.open("p")
			f.drawsOf("p", theBoard, []int64{3, 0}, "e00-1")
		}, []Promise{PromisePicture}},
		{"a page tells what is removed beside what follows it", func(f *forger) {
			f.client("p", toPages)
			f.publish(0, "e00-0", "e00", "e00-1")
			f.open("p")
			f.drawsOf("p", theBoard, []int64{1, 0}, "e00-0")
			f.given("p", nil, "e00-1")
			f.removed("p", "e00-0")
			f.given("p", []int64{3, 0})
		}, nil},
		{"what was not asked for is told to be removed", func(f *forger) {
			f.client("p", Reader{Kind: KindPicture, Streams: []string{theBoard}, Prefix: "f"})
			f.publish(0, "e00-0", "e00")
			f.open("p")
			f.drawsOf("p", theBoard, []int64{1, 0})
			f.removed("p", "e00-0", 2, 0)
		}, []Promise{PromiseWanted}},
		{"what never was is told to be removed", func(f *forger) {
			f.client("p", toBoard)
			f.publish(0, "e00-0")
			f.open("p")
			f.drawsOf("p", theBoard, []int64{1, 0}, "e00-0")
			f.removed("p", "e00-1", 1, 0)
		}, []Promise{PromiseGenuine}},
		{"a conflated picture follows what is removed", func(f *forger) {
			f.client("p", toLatest)
			f.publish(0, "e00-0", "e00-1", "e00", "f01-0", "f01")
			f.open("p")
			f.drawsOf("p", theBoard, []int64{1, 0}, "e00-0")
			f.removed("p", "e00-1")
			f.given("p", []int64{5, 0})
		}, nil},
		{"a conflated picture keeps what is removed", func(f *forger) {
			f.client("p", toLatest)
			f.publish(0, "e00-0", "e00")
			f.open("p")
			f.drawsOf("p", theBoard, []int64{1, 0}, "e00-0")
			f.given("p", []int64{2, 0})
		}, []Promise{PromisePicture}},
		{"who has no picture is told what is removed", func(f *forger) {
			f.client("r", toBoth)
			f.publish(0, "e00-0", "e00")
			f.open("r")
			f.given("r", []int64{1, 0}, "e00-0")
			f.removed("r", "e00-0", 2, 0)
		}, []Promise{PromiseAnswer}},
		{"who has no picture is told to pass what is removed", func(f *forger) {
			f.client("r", toBoth)
			f.publish(0, "e00-0", "e00", "e00-1")
			f.open("r")
			f.given("r", []int64{1, 0}, "e00-0")
			f.note(Entry{What: WhatControl, Who: "r", Text: "skipped", Places: []Place{{0, 1}}, Cursor: []int64{2, 0}})
			f.given("r", []int64{3, 0}, "e00-1")
		}, nil},
		{"a tombstone comes as an event", func(f *forger) {
			f.client("r", toBoth)
			f.publish(0, "e00-0", "e00", "e00-1")
			f.reads("r")
		}, []Promise{PromiseGenuine}},
		{"two streams are drawn one after the other", func(f *forger) {
			f.client("p", toBoards)
			f.publish(0, "a00-0")
			f.publish(1, "e00-0")
			f.open("p")
			f.drawsOf("p", theStream, nil, "a00-0")
			f.drawsOf("p", theBoard, []int64{1, 1}, "e00-0")
			f.publish(1, "e00")
			f.removed("p", "e00-0", 1, 2)
			f.drawsOf("p", theBoard, []int64{1, 2})
		}, nil},
		{"of two streams one is not drawn", func(f *forger) {
			f.client("p", toBoards)
			f.publish(0, "a00-0")
			f.publish(1, "e00-0")
			f.open("p")
			f.drawsOf("p", theStream, []int64{1, 1}, "a00-0")
		}, []Promise{PromisePicture}},
		{"a tombstone is acknowledged that is not on the log", func(f *forger) {
			f.publish(0, "e00-0")
			f.send("e00")
			f.ack("e00", 0, 1)
		}, []Promise{PromiseKept}},
		{"a tombstone is on the log that was not sent", func(f *forger) {
			f.publish(0, "e00-0")
			f.append(0, "e00")
		}, []Promise{PromiseGenuine}},
		{"a tombstone that was in doubt is on the log twice", func(f *forger) {
			f.publish(0, "e00-0")
			f.send("e00")
			f.doubt("e00")
			f.append(0, "e00")
			f.publish(0, "e00")
		}, nil},
		{"a tombstone is on the log more often than it was sent", func(f *forger) {
			f.publish(0, "e00-0", "e00")
			f.append(0, "e00")
		}, []Promise{PromiseOnce}},
		{"a tombstone is on the log before what it followed", func(f *forger) {
			f.send("e00-0")
			f.ack("e00-0", 0, 1)
			f.send("e00")
			f.ack("e00", 0, 0)
			f.append(0, "e00", "e00-0")
		}, []Promise{PromiseOrder}},

		// Queries.
		{"each page follows its own cursor", func(f *forger) {
			f.client("q", toAsk)
			f.publish(0, "a00-0", "a00-1", "b01-0")
			f.ask("q", askPage, 1, 0)
			f.given("q", []int64{2, 0}, "a00-1")
			f.ask("q", askPage)
			f.given("q", []int64{1, 0}, "a00-0")
			f.ask("q", askPage, 1, 0)
			f.given("q", []int64{3, 0}, "a00-1", "b01-0")
			f.ask("q", askPage, 3, 0)
			f.given("q", []int64{3, 0})
			f.ask("q", askPage, 0, 0) // and no answer comes
		}, nil},
		{"a page lacks its beginning", func(f *forger) {
			f.client("q", toAsk)
			f.publish(0, "a00-0", "a00-1")
			f.ask("q", askPage, 0, 0)
			f.given("q", []int64{2, 0}, "a00-1")
		}, []Promise{PromiseComplete}},
		{"a page lacks its end", func(f *forger) {
			f.client("q", toAsk)
			f.publish(0, "a00-0", "a00-1")
			f.ask("q", askPage, 0, 0)
			f.given("q", []int64{2, 0}, "a00-0")
		}, []Promise{PromiseCursor}},
		{"a page has what was before its cursor", func(f *forger) {
			f.client("q", toAsk)
			f.publish(0, "a00-0", "a00-1")
			f.ask("q", askPage, 1, 0)
			f.given("q", []int64{2, 0}, "a00-0", "a00-1")
		}, []Promise{PromiseRepeat}},
		{"an answer is the state", func(f *forger) {
			f.client("q", toAsk)
			f.publish(0, "a00-0", "a00-1", "b01-0")
			f.ask("q", askSnapshot)
			f.drawsOf("q", theStream, nil)
			f.given("q", []int64{2, 0}, "a00-1")
		}, nil},
		{"an answer is half of the state", func(f *forger) {
			f.client("q", toAsk)
			f.publish(0, "a00-0", "b01-0")
			f.ask("q", askSnapshot)
			f.drawsOf("q", theStream, nil)
			f.given("q", []int64{2, 0}, "b01-0")
		}, []Promise{PromisePicture}},
		{"an answer is a state that was", func(f *forger) {
			f.client("q", toAsk)
			f.publish(0, "a00-0", "a00-1")
			f.ask("q", askSnapshot)
			f.drawsOf("q", theStream, nil)
			f.given("q", []int64{2, 0}, "a00-0")
		}, []Promise{PromisePicture}},
		{"an answer has two events of a key", func(f *forger) {
			f.client("q", toAsk)
			f.publish(0, "a00-0", "a00-1")
			f.ask("q", askSnapshot)
			f.drawsOf("q", theStream, nil)
			f.given("q", []int64{2, 0}, "a00-0", "a00-1")
		}, []Promise{PromisePicture}},
		{"an answer is no snapshot", func(f *forger) {
			f.client("q", toAsk)
			f.ask("q", askSnapshot)
			f.given("q", []int64{0, 0})
		}, []Promise{PromisePicture}},
		{"an answer has the latest of each key", func(f *forger) {
			f.client("q", toAsk)
			f.publish(0, "a00-0", "a00-1", "b01-0", "a00-2", "c02-0", "d03-0")
			f.ask("q", askConflated, 1, 0)
			f.given("q", []int64{5, 0}, "b01-0", "a00-2", "c02-0", "d03-0")
		}, nil},
		{"an answer has the latest of each key but for what is gone", func(f *forger) {
			f.askAcrossAGap("q")
			f.given("q", []int64{5, 0}, "d03-0", "a00-1")
		}, nil},
		{"an answer lacks what it passed before a gap", func(f *forger) {
			f.askAcrossAGap("q")
			f.given("q", []int64{5, 0}, "a00-1")
		}, []Promise{PromiseComplete}},
		{"an answer says that something is gone which is not", func(f *forger) {
			f.client("q", toAsk)
			f.publish(0, "a00-0", "b01-0", "c02-0")
			f.trim(true, 1, 0)
			f.ask("q", askConflated, 0, 0)
			f.gap("q", Gap{From: 0, To: 2, Reason: "retention"})
			f.given("q", []int64{3, 0}, "c02-0")
		}, []Promise{PromiseGap}},
		{"an answer leaves a key for the next one", func(f *forger) {
			f.client("q", toAsk)
			f.publish(0, "a00-0", "b01-0", "a00-1")
			f.ask("q", askConflated, 0, 0)
			f.given("q", []int64{2, 0}, "b01-0")
		}, nil},
		{"an answer lacks a key", func(f *forger) {
			f.client("q", toAsk)
			f.publish(0, "a00-0", "b01-0")
			f.ask("q", askConflated, 0, 0)
			f.given("q", []int64{2, 0}, "b01-0")
			f.publish(0, "a00-1")
		}, []Promise{PromiseComplete}},
		{"an answer has what is not the latest", func(f *forger) {
			f.client("q", toAsk)
			f.publish(0, "a00-0", "a00-1")
			f.ask("q", askConflated, 0, 0)
			f.given("q", []int64{2, 0}, "a00-0")
		}, []Promise{PromiseComplete}},
		{"an answer has a key twice", func(f *forger) {
			f.client("q", toAsk)
			f.publish(0, "a00-0", "a00-1")
			f.ask("q", askConflated, 0, 0)
			f.given("q", []int64{2, 0}, "a00-0", "a00-1")
		}, []Promise{PromiseRepeat}},
		{"an answer has what was before its cursor", func(f *forger) {
			f.client("q", toAsk)
			f.publish(0, "a00-0", "b01-0")
			f.ask("q", askConflated, 1, 0)
			f.given("q", []int64{2, 0}, "a00-0", "b01-0")
		}, []Promise{PromiseRepeat}},
		{"an answer has a cursor before that of the question", func(f *forger) {
			f.client("q", toAsk)
			f.publish(0, "a00-0")
			f.ask("q", askConflated, 1, 0)
			f.given("q", []int64{0, 0})
		}, []Promise{PromiseCursor}},
		{"an answer has what is not on the log", func(f *forger) {
			f.client("q", toAsk)
			f.ask("q", askConflated, 0, 0)
			f.given("q", []int64{0, 0}, "a00-0")
		}, []Promise{PromiseGenuine}},
		{"a stream is said to begin and end where it does", func(f *forger) {
			f.client("q", toAsk)
			f.publish(0, "a00-0", "a00-1")
			f.ask("q", askEnds)
			f.publish(0, "a00-2")
			f.trim(false, 1, 0)
			f.bounds("q", 0, 2)
			f.trim(true, 1, 0)
			f.ask("q", askEnds)
			f.bounds("q", 1, 3)
		}, nil},
		{"a stream is said to end before what is acknowledged", func(f *forger) {
			f.client("q", toAsk)
			f.publish(0, "a00-0", "a00-1")
			f.ask("q", askEnds)
			f.bounds("q", 0, 1)
		}, []Promise{PromiseEnds}},
		{"a stream is said to end behind all that there is", func(f *forger) {
			f.client("q", toAsk)
			f.publish(0, "a00-0")
			f.ask("q", askEnds)
			f.bounds("q", 0, 2)
		}, []Promise{PromiseEnds}},
		{"a stream is said to begin with what is deleted", func(f *forger) {
			f.client("q", toAsk)
			f.publish(0, "a00-0", "a00-1")
			f.trim(true, 1, 0)
			f.ask("q", askEnds)
			f.bounds("q", 0, 2)
		}, []Promise{PromiseEnds}},
		{"a stream is said to begin behind what is there", func(f *forger) {
			f.client("q", toAsk)
			f.publish(0, "a00-0", "a00-1")
			f.ask("q", askEnds)
			f.bounds("q", 1, 2)
		}, []Promise{PromiseEnds}},

		// What else clients and replicas are told and tell.
		{"a client is answered what it gave no reason for", func(f *forger) {
			f.note(Entry{What: WhatAnswer, Who: "r", Text: "answered 404"})
		}, []Promise{PromiseAnswer}},
		{"a control message comes that there is no reason for", func(f *forger) {
			f.client("r", toAll)
			f.publish(0, "a00-0")
			f.reads("r")
			f.note(Entry{What: WhatControl, Who: "r", Text: "rewound"})
		}, []Promise{PromiseAnswer}},
		{"an event is told to be none", func(f *forger) {
			f.client("r", toAll)
			f.publish(0, "a00-0")
			f.reads("r")
			f.note(Entry{What: WhatControl, Who: "r", Text: "skipped", Places: []Place{{0, 0}}})
		}, []Promise{PromiseAnswer}},
		{"nothing is told to be no event", func(f *forger) {
			f.client("r", toAll)
			f.publish(0, "a00-0")
			f.reads("r")
			f.note(Entry{What: WhatControl, Who: "r", Text: "skipped", Places: []Place{{0, 1}}})
		}, []Promise{PromiseAnswer}},
		{"a client is told that the log is out of reach", func(f *forger) {
			f.client("r", toAll)
			f.publish(0, "a00-0")
			f.reads("r")
			f.note(Entry{What: WhatControl, Who: "r", Text: "stalled"})
		}, nil},
		{"a replica does not stop well", func(f *forger) {
			f.note(Entry{What: WhatExit, Who: "replica-0", Link: 0})
			f.note(Entry{What: WhatExit, Who: "replica-0", Link: 2})
		}, []Promise{PromiseStop}},
		{"a replica panics", func(f *forger) {
			f.note(Entry{What: WhatBroke, Who: "replica-0", Text: "panic: nil"})
		}, []Promise{PromiseAlive}},
		{"a client does not become whole", func(f *forger) {
			f.note(Entry{What: WhatUnwhole, Who: "r", Text: "it is not at the end"})
		}, []Promise{PromiseWhole}},
		{"a replica holds more at the end", func(f *forger) {
			f.note(Entry{What: WhatGrowth, Who: "replica-0", Text: "9,000 goroutines"})
		}, []Promise{PromiseGrowth}},

		// Named consumers.
		{"a consumer goes on where it was", func(f *forger) {
			f.client("c", toConsumer)
			f.publish(0, "a00-0", "a00-1")
			f.open("c")
			f.given("c", []int64{0, 0})
			f.given("c", []int64{1, 0}, "a00-0")
			f.place("c", WhatSay, 1, 0)
			f.place("c", WhatSaid, 1, 0)
			f.open("c")
			f.given("c", []int64{1, 0})
			f.given("c", []int64{2, 0}, "a00-1")
			f.place("c", WhatSay, 2, 0)
			f.place("c", WhatPlace, 1, 0)
			f.place("c", WhatSaid, 2, 0)
			f.place("c", WhatPlace, 2, 0)
		}, nil},
		{"a consumer begins behind what it acknowledged", func(f *forger) {
			f.client("c", toConsumer)
			f.publish(0, "a00-0")
			f.open("c")
			f.given("c", []int64{1, 0})
			f.place("c", WhatSay, 1, 0)
			f.place("c", WhatSaid, 1, 0)
		}, []Promise{PromiseSaved}},
		{"a consumer begins before what was saved", func(f *forger) {
			f.client("c", toConsumer)
			f.saves("c")
			f.open("c")
			f.given("c", []int64{0, 0})
		}, []Promise{PromiseSaved}},
		{"a consumer was opened before what was saved", func(f *forger) {
			f.client("c", toConsumer)
			f.publish(0, "a00-0")
			f.open("c")
			f.place("c", WhatSay, 1, 0)
			f.place("c", WhatSaid, 1, 0)
			f.given("c", []int64{0, 0})
		}, nil},
		{"what was not acknowledged is saved", func(f *forger) {
			f.client("c", toConsumer)
			f.saves("c")
			f.publish(0, "a00-1")
			f.place("c", WhatSaid, 2, 0)
		}, []Promise{PromiseSaved}},
		{"a replica says that a consumer is where it never was", func(f *forger) {
			f.client("c", toConsumer)
			f.saves("c")
			f.place("c", WhatPlace, 2, 0)
		}, []Promise{PromiseSaved}},
		{"a consumer's position goes back", func(f *forger) {
			f.client("c", toConsumer)
			f.saves("c")
			f.place("c", WhatPlace, 1, 0)
			f.place("c", WhatPlace, 0, 0)
		}, []Promise{PromiseForward}},
		{"a replica does not know at the end what is saved", func(f *forger) {
			f.client("c", toConsumer)
			f.saves("c")
			f.note(Entry{What: WhatPlace, Who: "c", On: "replica-1", Cursor: []int64{0, 0}, Flag: true})
		}, []Promise{PromiseForward}},
		{"a consumer is not given an event", func(f *forger) {
			f.client("c", toConsumer)
			f.saves("c")
			f.publish(0, "a00-1", "a00-2")
			f.open("c")
			f.given("c", []int64{1, 0})
			f.given("c", []int64{3, 0}, "a00-2")
			f.place("c", WhatSay, 3, 0)
			f.place("c", WhatSaid, 3, 0)
		}, []Promise{PromiseComplete}},
		{"a consumer is not at the end", func(f *forger) {
			f.client("c", toConsumer)
			f.saves("c")
			f.publish(0, "a00-1")
		}, []Promise{PromiseComplete}},

		// Sessions of a subscription.
		{"two sessions share the events", func(f *forger) {
			f.client("a", toTaker)
			f.client("b", toTaker)
			f.publish(0, "a00-0", "a00-1")
			f.publish(1, "b01-0")
			f.open("a")
			f.open("b")
			f.given("a", nil, "a00-0")
			f.given("b", nil, "b01-0")
			f.acknowledge("a", "a00-0")
			f.acknowledge("b", "b01-0")
			f.given("a", nil, "a00-1")
			f.acknowledge("a", "a00-1")
		}, nil},
		{"an event is acknowledged by nobody", func(f *forger) {
			f.client("a", toTaker)
			f.publish(0, "a00-0")
			f.open("a")
			f.given("a", nil, "a00-0")
		}, []Promise{PromiseShared}},
		{"an event is given again after its acknowledgement", func(f *forger) {
			f.client("a", toTaker)
			f.shares("a")
			f.open("a")
			f.given("a", nil, "a00-0")
		}, []Promise{PromiseAgain}},
		{"an event is given again that was on its way", func(f *forger) {
			f.client("a", toTaker)
			f.client("b", toTaker)
			f.open("b")
			f.shares("a")
			f.given("b", nil, "a00-0")
		}, nil},
		{"an event is given again whose acknowledgement was not answered", func(f *forger) {
			f.client("a", toTaker)
			f.publish(0, "a00-0")
			f.open("a")
			f.given("a", nil, "a00-0")
			f.say("a", "a00-0")
			f.open("a")
			f.given("a", nil, "a00-0")
		}, nil},
		{"an event is given again by a replica that was cut from Kafka", func(f *forger) {
			f.client("a", toTaker)
			f.fault("line of replica-0 to kafka", KafkaLineCut)
			f.shares("a")
			f.mended("line of replica-0 to kafka")
			f.open("a")
			f.given("a", nil, "a00-0")
		}, nil},
		{"an event is given again by a replica beside one that was cut from Kafka", func(f *forger) {
			f.client("a", toTaker)
			f.fault("line of replica-1 to kafka", KafkaLineCut)
			f.shares("a")
			f.mended("line of replica-1 to kafka")
			f.open("a")
			f.given("a", nil, "a00-0")
		}, []Promise{PromiseAgain}},
		{"an event is given again by a replica that stood still", func(f *forger) {
			f.client("a", toTaker)
			f.fault("replica-0", ReplicaPause)
			f.shares("a")
			f.mended("replica-0")
			f.open("a")
			f.given("a", nil, "a00-0")
		}, []Promise{PromiseAgain}},
		{"an event is given again when Redis lost its data", func(f *forger) {
			f.client("a", toTaker)
			f.shares("a")
			f.fault("redis", RedisEmpty)
			f.mended("redis")
			f.open("a")
			f.given("a", nil, "a00-0")
			f.acknowledge("a", "a00-0")
		}, nil},
		{"an event is given again that was acknowledged before Redis lost its data, and answered after", func(f *forger) {
			f.client("a", toTaker)
			f.publish(0, "a00-0")
			f.open("a")
			f.given("a", nil, "a00-0")
			f.say("a", "a00-0")
			f.fault("redis", RedisFlush)
			f.mended("redis")
			f.said("a", "a00-0")
			f.open("a")
			f.given("a", nil, "a00-0")
			f.acknowledge("a", "a00-0")
		}, nil},
		{"an event is given again that was acknowledged after Redis lost its data", func(f *forger) {
			f.client("a", toTaker)
			f.publish(0, "a00-0")
			f.open("a")
			f.given("a", nil, "a00-0")
			f.fault("redis", RedisFlush)
			f.mended("redis")
			f.acknowledge("a", "a00-0")
			f.open("a")
			f.given("a", nil, "a00-0")
		}, []Promise{PromiseAgain}},
		{"an event is given again twice when Redis lost its data once", func(f *forger) {
			f.client("a", toTaker)
			f.shares("a")
			f.fault("redis", RedisFlush)
			f.mended("redis")
			for range 2 {
				f.open("a")
				f.given("a", nil, "a00-0")
				f.acknowledge("a", "a00-0")
			}
		}, []Promise{PromiseAgain}},
		{"an event is given again when Redis lost its data and the machine stood still", func(f *forger) {
			f.client("a", toTaker)
			f.shares("a")
			f.now += 2 * recall
			f.fault("redis", RedisFlush)
			f.mended("redis")
			f.open("a")
			f.given("a", nil, "a00-0")
		}, nil},
		{"an event is given again long after Redis lost its data", func(f *forger) {
			f.client("a", toTaker)
			f.shares("a")
			f.fault("redis", RedisFlush)
			f.mended("redis")
			f.wait(recall)
			f.open("a")
			f.given("a", nil, "a00-0")
		}, []Promise{PromiseAgain}},
		{"an event is given again that was acknowledged long before Redis lost its data", func(f *forger) {
			f.client("a", toTaker)
			f.shares("a")
			f.wait(recall)
			f.fault("redis", RedisFlush)
			f.mended("redis")
			f.open("a")
			f.given("a", nil, "a00-0")
		}, []Promise{PromiseAgain}},
		{"without ordering an event is given again long after Redis lost its data", func(f *forger) {
			f.client("a", toTakerOf)
			f.shares("a")
			f.fault("redis", RedisFlush)
			f.mended("redis")
			f.wait(recall)
			f.open("a")
			f.given("a", nil, "a00-0")
		}, []Promise{PromiseAgain}},
		{"a consumer goes back when Redis lost its data", func(f *forger) {
			f.client("c", toConsumer)
			f.saves("c")
			f.fault("redis", RedisFlush)
			f.mended("redis")
			f.open("c")
			f.given("c", []int64{0, 0})
		}, []Promise{PromiseSaved}},
		{"without ordering an event is given again when something stood still", func(f *forger) {
			f.client("a", toTakerOf)
			f.shares("a")
			f.fault("replica-1", ReplicaPause)
			f.now += 2 * ackTimeout
			f.mended("replica-1")
			f.open("a")
			f.given("a", nil, "a00-0")
		}, nil},
		{"an event is given again by a replica that was started anew", func(f *forger) {
			f.client("a", toTaker)
			f.shares("a")
			f.fault("replica-0", ReplicaKill)
			f.mended("replica-0")
			f.open("a")
			f.given("a", nil, "a00-0")
		}, []Promise{PromiseAgain}},
		{"without ordering an event is given again soon after its acknowledgement", func(f *forger) {
			f.client("a", toTakerOf)
			f.shares("a")
			f.open("a")
			f.given("a", nil, "a00-0")
		}, nil},
		{"without ordering an event is given again long after its acknowledgement", func(f *forger) {
			f.client("a", toTakerOf)
			f.shares("a")
			f.now += 2 * ackTimeout
			f.open("a")
			f.given("a", nil, "a00-0")
		}, []Promise{PromiseAgain}},
		{"an event is given out before the one before it is acknowledged", func(f *forger) {
			f.client("a", toTaker)
			f.publish(0, "a00-0", "a00-1")
			f.open("a")
			f.given("a", nil, "a00-0", "a00-1")
			f.acknowledge("a", "a00-0", "a00-1")
		}, []Promise{PromiseTurn}},
		{"without ordering an event need not wait", func(f *forger) {
			f.client("a", toTakerOf)
			f.publish(0, "a00-0", "a00-1")
			f.open("a")
			f.given("a", nil, "a00-1", "a00-0")
			f.acknowledge("a", "a00-0", "a00-1")
		}, nil},
		{"an event is given out that is not on the log", func(f *forger) {
			f.client("a", toTaker)
			f.open("a")
			f.given("a", nil, "a00-0")
		}, []Promise{PromiseGenuine}},
		{"an event is given out that the subscription does not want", func(f *forger) {
			f.client("a", Reader{Kind: KindTaker, Group: "shared", Key: "b01"})
			f.publish(0, "a00-0")
			f.open("a")
			f.given("a", nil, "a00-0")
			f.acknowledge("a", "a00-0")
		}, []Promise{PromiseWanted}},

		// Webhooks.
		{"an endpoint takes events in order", func(f *forger) {
			f.client("h", toHook)
			f.publish(0, "a00-0", "a00-1")
			f.posted("h", "a00-0", false)
			f.posted("h", "a00-0", true)
			f.posted("h", "a00-1", true)
			f.posted("h", "a00-0", true) // the answer was lost
		}, nil},
		{"an event is not sent", func(f *forger) {
			f.client("h", toHook)
			f.publish(0, "a00-0")
		}, []Promise{PromisePushed}},
		{"an event is not sent until it is taken", func(f *forger) {
			f.client("h", toHook)
			f.publish(0, "a00-0")
			f.posted("h", "a00-0", false)
		}, []Promise{PromisePushed}},
		{"an event is sent before the one before it is taken", func(f *forger) {
			f.client("h", toHook)
			f.publish(0, "a00-0", "a00-1")
			f.posted("h", "a00-0", false)
			f.posted("h", "a00-1", true)
			f.posted("h", "a00-0", true)
		}, []Promise{PromiseTurn}},
		{"an event is sent that is not on the log", func(f *forger) {
			f.client("h", toHook)
			f.posted("h", "a00-0", true)
		}, []Promise{PromiseGenuine}},
		{"an event is sent that the subscription does not want", func(f *forger) {
			f.client("h", Reader{Kind: KindHook, Prefix: "b"})
			f.publish(0, "a00-0")
			f.posted("h", "a00-0", true)
		}, []Promise{PromiseWanted}},
	}
	shown := map[Promise]bool{}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := newForger()
			tt.play(f)
			found := f.check(t)
			for _, v := range found.Violations {
				t.Log(v)
			}
			if diff := cmp.Diff(slices.Sorted(slices.Values(tt.want)), slices.Sorted(maps.Keys(found.Broken))); diff != "" {
				t.Errorf("-expected +found:\n%s", diff)
			}
		})
		for _, p := range tt.want {
			shown[p] = true
		}
	}
	for _, p := range promises {
		if !shown[p] {
			t.Errorf("no journal breaks the promise %q", p)
		}
	}
}

// trim deletes what is before a place, or is about to.
func (f *forger) trim(done bool, cursor ...int64) {
	f.note(Entry{What: WhatTrim, Cursor: cursor})
	if done {
		f.note(Entry{What: WhatTrim, Cursor: cursor, Flag: true})
	}
}

// place notes a cursor that a consumer acknowledges, or that is answered about it.
func (f *forger) place(who string, what What, cursor ...int64) {
	f.note(Entry{What: what, Who: who, On: "replica-0", Cursor: cursor})
}

// saves has a consumer be given the first event, and have that saved.
func (f *forger) saves(who string) {
	f.publish(0, "a00-0")
	f.open(who)
	f.given(who, []int64{0, 0})
	f.given(who, []int64{1, 0}, "a00-0")
	f.place(who, WhatSay, 1, 0)
	f.place(who, WhatSaid, 1, 0)
}

// shares has a taker be given the first event, and acknowledge it.
func (f *forger) shares(who string) {
	f.publish(0, "a00-0")
	f.open(who)
	f.given(who, nil, "a00-0")
	f.acknowledge(who, "a00-0")
}

// draws has a client be given a snapshot, up to a place.
func (f *forger) draws(who string, upTo []int64, ids ...string) {
	f.drawsOf(who, theStream, upTo, ids...)
}

// drawsOf has a client be given a snapshot of a stream; without a place another is to follow before there is a cursor.
func (f *forger) drawsOf(who, stream string, upTo []int64, ids ...string) {
	f.note(Entry{What: WhatControl, Who: who, Text: "snapshot", Stream: stream})
	f.given(who, nil, ids...)
	f.note(Entry{What: WhatControl, Who: who, Text: "live", Stream: stream, Cursor: upTo})
}

// ask has a client ask for something, with a cursor or none.
func (f *forger) ask(who, what string, cursor ...int64) {
	f.open(who, cursor...)
	f.entries[len(f.entries)-1].Text = what
}

// askAcrossAGap has a client ask for the latest of each key, and be told that two events amid five are gone.
func (f *forger) askAcrossAGap(who string) {
	f.client(who, toAsk)
	f.publish(0, "a00-0", "d03-0", "b01-0", "c02-0", "a00-1")
	f.trim(true, 4, 0)
	f.ask(who, askConflated, 0, 0)
	f.gap(who, Gap{From: 2, To: 4, Reason: "retention"})
}

// bounds answers where the first partition begins and ends.
func (f *forger) bounds(who string, first, end int64) {
	f.note(Entry{What: WhatBounds, Who: who, Stream: theStream, Places: []Place{{0, first}}, Cursor: []int64{end, 0}})
}

// removed tells a client that an event's key has none any more.
func (f *forger) removed(who, id string, cursor ...int64) {
	f.note(Entry{What: WhatControl, Who: who, Text: "removed", Stream: theBoard, IDs: []string{id}, Cursor: cursor})
}

func (f *forger) fault(who string, kind FaultKind) {
	f.note(Entry{What: WhatFault, Who: who, Text: string(kind) + " of " + who})
}

func (f *forger) mended(who string) { f.note(Entry{What: WhatMended, Who: who}) }

func TestAJournalWithoutItsEndIsRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "journal.ndjson")
	j, err := NewJournal(path)
	if err != nil {
		t.Fatal(err)
	}
	j.Note(Entry{What: WhatSend, IDs: []string{"a00-0"}})
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	if found, err := Check(path); err == nil {
		t.Errorf("found %v, expected an error", found)
	}
	if err := os.WriteFile(path, []byte("{\"t\":1}\n{\"t\":"), 0o600); err != nil {
		t.Fatal(err)
	}
	if found, err := Check(path); err == nil {
		t.Errorf("found %v in a journal that is cut short, expected an error", found)
	}
}

func TestAViolationIsShownWithWhatLedToIt(t *testing.T) {
	f := newForger()
	f.note(Entry{What: WhatRun, Text: "4711"})
	f.client("r", toAll)
	f.client("other", toAll)
	f.publish(0, "a00-0", "a00-1")
	f.publish(1, "b01-0")
	f.fault("redis", RedisKill)
	f.open("r")
	f.given("r", []int64{2, 1}, "b01-0", "a00-1")
	f.reads("other")
	found := f.check(t)
	if len(found.Violations) != 1 || found.Seed != "4711" {
		t.Fatalf("found %v with seed %q, expected one violation with seed 4711", found.Violations, found.Seed)
	}
	path := filepath.Join(t.TempDir(), "journal.ndjson")
	j, err := NewJournal(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range f.entries {
		j.Note(e)
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	report, err := Examine(path)
	if err != nil {
		t.Fatal(err)
	}
	h := report.histories[0]
	var whats []What
	for _, e := range h.Key {
		whats = append(whats, e.What)
	}
	// The event's own way, its neighbour's, and what the client and others were given of it.
	want := []What{WhatSend, WhatAck, WhatSend, WhatAck, WhatGiven, WhatGiven, WhatRecord, WhatRecord}
	if diff := cmp.Diff(want, whats); diff != "" {
		t.Errorf("-expected +shown of the key:\n%s", diff)
	}
	if len(h.Client) == 0 || h.Client[len(h.Client)-1].What != WhatOpen {
		t.Errorf("of the client is shown %v, expected its connection", h.Client)
	}
	if len(h.Faults) != 1 || h.Faults[0].Who != "redis" {
		t.Errorf("the faults near are %v, expected that of Redis", h.Faults)
	}
}

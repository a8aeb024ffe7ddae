package main_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/eventissuer/eventissuer/internal/cursor"
)

// journal is what a stream holds, in the order of the log: what every client is compared with.
type journal struct {
	partitions [][]record
	ends       []int64
}

type record struct {
	offset     int64
	id, source string
}

// readJournal reads the whole stream through a server.
func readJournal(t *testing.T, v *server) *journal {
	t.Helper()
	var about struct{ Newest string }
	if err := json.Unmarshal(v.call(t, http.StatusOK, http.MethodGet, "/v1/streams/"+theStream, nil), &about); err != nil {
		t.Fatal(err)
	}
	j := &journal{ends: positionOf(t, about.Newest)}
	j.partitions = make([][]record, len(j.ends))
	at := make([]int64, len(j.ends))
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, v.base+"/v1/streams/"+theStream+"/events?from=oldest", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Accept", "application/x-ndjson")
	resp, err := v.client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }() // it goes on for ever
	if resp.StatusCode != http.StatusOK {
		t.Fatalf("reading the stream answered %s", resp.Status)
	}
	lines := bufio.NewReader(resp.Body)
	for !reached(at, j.ends) {
		line, err := lines.ReadBytes('\n')
		if err != nil {
			t.Fatalf("reading the stream up to %v ended at %v: %v", j.ends, at, err)
		}
		var block struct {
			Cursor string
			Event  *struct{ ID, Source string }
		}
		if err := json.Unmarshal(line, &block); err != nil {
			t.Fatalf("%v in %s", err, line)
		}
		next := positionOf(t, block.Cursor)
		if block.Event != nil {
			p := 0
			for next[p] == at[p] { // an event moves its own partition alone
				p++
			}
			j.partitions[p] = append(j.partitions[p], record{next[p] - 1, block.Event.ID, block.Event.Source})
		}
		at = next
	}
	return j
}

// holds wants every acknowledged event where it was acknowledged to be.
func (j *journal) holds(t *testing.T, acks map[place]string) {
	t.Helper()
	found := map[place]string{}
	for p, records := range j.partitions {
		for _, r := range records {
			found[place{p, r.offset}] = r.id
		}
	}
	lost := 0
	for at, id := range acks {
		if found[at] != id {
			if lost++; lost < 10 {
				t.Errorf("%s was acknowledged at %v, where there is %q", id, at, found[at])
			}
		}
	}
	if lost > 0 {
		t.Errorf("%d of %d acknowledged events are lost", lost, len(acks))
	}
}

// positionOf is the one stream's position in a cursor's text.
func positionOf(t testing.TB, token string) []int64 {
	t.Helper()
	c, err := cursor.Parse(token)
	if err != nil || len(c.Streams) != 1 {
		t.Fatalf("cursor %q: %v", token, err)
	}
	return c.Streams[0].Next
}

// positionIn is positionOf for a token that was read off the wire by a goroutine; nil for none.
func positionIn(token string) []int64 {
	c, err := cursor.Parse(token)
	if err != nil || len(c.Streams) != 1 {
		return nil
	}
	return c.Streams[0].Next
}

func reached(at, end []int64) bool {
	for p, e := range end {
		if e > 0 && (p >= len(at) || at[p] < e) {
			return false
		}
	}
	return true
}

// selection is a filter as the test itself understands it, beside its query.
type selection struct {
	query url.Values
	takes func(id string) bool // nil: all
}

func (s selection) matches(id string) bool { return s.takes == nil || s.takes(id) }

// selections are those that clients of the tests use; ids are as eventID makes them.
func selections() []selection {
	one := func(name, value string) url.Values { return url.Values{name: {value}} }
	return []selection{
		{},
		{one("subject", "s01"), func(id string) bool { return id[:3] == "s01" }},
		{one("type", "e2e.b"), func(id string) bool { return id[4] == 'b' }},
		{one("subject", "s0*"), func(id string) bool { return strings.HasPrefix(id, "s0") }},
		{url.Values{"subject": {"s02", "s05"}, "type": {"e2e.a", "e2e.c"}}, func(id string) bool {
			return (id[:3] == "s02" || id[:3] == "s05") && (id[4] == 'a' || id[4] == 'c')
		}},
		{one("filter", "subject = 's03' OR type LIKE '%.c'"), func(id string) bool { return id[:3] == "s03" || id[4] == 'c' }},
		{one("subject", "nobody"), func(string) bool { return false }},
	}
}

// walk is a client's way through the journal: for each partition the offset below which it had everything it wants.
type walk struct {
	journal *journal
	wants   selection
	at      []int64
	index   []int // of the first record at or above at
}

func (j *journal) walk(wants selection, from []int64) *walk {
	w := &walk{journal: j, wants: wants, at: make([]int64, len(j.partitions)), index: make([]int, len(j.partitions))}
	copy(w.at, from)
	for p := range w.at {
		w.index[p] = j.find(p, w.at[p])
	}
	return w
}

func (j *journal) find(p int, offset int64) int {
	i, _ := slices.BinarySearchFunc(j.partitions[p], offset, func(r record, o int64) int { return int(r.offset - o) })
	return i
}

// next is the next record of p that the client wants.
func (w *walk) next(p int) (record, bool) {
	all := w.journal.partitions[p]
	for ; w.index[p] < len(all); w.index[p]++ {
		if r := all[w.index[p]]; r.offset >= w.at[p] && w.wants.matches(r.id) {
			return r, true
		}
	}
	return record{}, false
}

// event takes one step: the event must be the next one of its partition.
func (w *walk) event(id string) error {
	var due []string
	for p := range w.at {
		r, ok := w.next(p)
		if ok && r.id == id {
			w.at[p] = r.offset + 1
			return nil
		}
		due = append(due, fmt.Sprintf("partition %d: %s at %d", p, r.id, r.offset))
	}
	return fmt.Errorf("got %s, but due are %s", id, strings.Join(due, ", "))
}

// cursor takes a cursor: it must not pass what the client wants and has not got, nor go back.
func (w *walk) cursor(at []int64) error {
	for p := range w.at {
		var to int64
		if p < len(at) {
			to = at[p]
		}
		if to < w.at[p] {
			return fmt.Errorf("the cursor of partition %d goes back from %d to %d", p, w.at[p], to)
		}
		if r, ok := w.next(p); ok && r.offset < to {
			return fmt.Errorf("the cursor passes %s at %d of partition %d, which was not delivered, and stands at %d", r.id, r.offset, p, to)
		}
		w.at[p] = to
	}
	return nil
}

// complete wants nothing left over.
func (w *walk) complete() error {
	for p := range w.at {
		if r, ok := w.next(p); ok {
			return fmt.Errorf("%s at %d of partition %d was never delivered", r.id, r.offset, p)
		}
	}
	return nil
}

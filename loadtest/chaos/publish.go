package chaos

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/eventissuer/eventissuer/internal/clock"
)

const (
	// attemptTimeout is of requests that are soon sent again.
	attemptTimeout = 4 * time.Second
	// patientTimeout is longer than the server takes. A publisher that gives up sooner leaves the event's fate open, until
	// the lease of deduplication has run out.
	patientTimeout = 12 * time.Second
	// batchKeys is how many keys a worker has whose events go out in batches.
	batchKeys = 5
	// boardKeys is how many keys the second stream has.
	boardKeys = 12
)

// publishing is all that publishes: each key belongs to one worker, which sends its next event when the one before is
// acknowledged. What is in doubt is sent again under the same id, through whichever replica.
type publishing struct {
	cluster *cluster
	journal *Journal
	client  *http.Client
	seed    uint64

	acked   atomic.Int64
	retries atomic.Int64
	counts  map[string]*atomic.Int64 // by key: how many of its events are acknowledged; the map is static once begun
	workers sync.WaitGroup
	working atomic.Int64 // workers
}

// count is how many events of a key are acknowledged.
func (p *publishing) count(key string) int { return int(p.counts[key].Load()) }

// prepare names the keys of the first stream.
func (p *publishing) prepare(keys int) (names []string) {
	p.counts = map[string]*atomic.Int64{}
	for i := range keys {
		names = append(names, keyName(i))
		p.counts[keyName(i)] = &atomic.Int64{}
	}
	for i := range boardKeys {
		p.counts[streams[1].keyName(i)] = &atomic.Int64{}
	}
	return names
}

// begin starts workers for so many keys, which together publish about so many events a second until stop is closed, and
// give up what is not acknowledged when ctx ends. Those of the second stream's keys come on top, as often each.
func (p *publishing) begin(ctx context.Context, stop <-chan struct{}, keys int, rate float64) {
	var groups [][]string
	for i := 0; i < keys; {
		n := 1
		if len(groups)%3 == 2 { // a third of the workers, with most of the keys, send batches
			n = min(batchKeys, keys-i)
		}
		var group []string
		for range n {
			group = append(group, keyName(i))
			i++
		}
		groups = append(groups, group)
	}
	for i := range boardKeys {
		groups = append(groups, []string{streams[1].keyName(i)})
	}
	every := time.Duration(float64(keys) / rate * float64(time.Second))
	for w, group := range groups {
		p.working.Add(1)
		p.workers.Go(func() {
			defer p.working.Add(-1)
			p.work(ctx, stop, w, group, every)
		})
	}
}

// work publishes an event of each of the keys every so long on average.
func (p *publishing) work(ctx context.Context, stop <-chan struct{}, worker int, keys []string, every time.Duration) {
	r := rand.New(rand.NewPCG(p.seed, 1<<33+uint64(worker)))
	who := fmt.Sprintf("publisher-%d", worker)
	for n := 0; ; n++ {
		select {
		case <-stop:
			return
		case <-ctx.Done():
			return
		case <-time.After(every/2 + time.Duration(r.Int64N(int64(every)))):
		}
		var ids []string
		for _, key := range keys {
			ids = append(ids, eventID(key, n))
		}
		if !p.send(ctx, r, who, ids) {
			return
		}
		for _, key := range keys {
			p.counts[key].Add(1)
		}
		if streamOf(keys[0]) == theBoard && r.IntN(4) == 0 && !p.send(ctx, r, who, keys) { // a tombstone's id is the key
			return
		}
	}
}

// send publishes events, those that are not acknowledged again and again, until all are, or ctx ends. It
// reports whether all are.
func (p *publishing) send(ctx context.Context, r *rand.Rand, who string, ids []string) bool {
	for attempt := 1; len(ids) > 0 && ctx.Err() == nil; attempt++ {
		v := p.cluster.replicas[r.IntN(replicaCount)]
		p.journal.Note(Entry{What: WhatSend, Who: who, On: v.name, Link: attempt, IDs: ids})
		patience := patientTimeout
		if r.IntN(4) == 0 {
			patience = attemptTimeout
		}
		rest, err := p.attempt(ctx, patience, who, attempt, v, ids)
		if err != nil {
			p.journal.Note(Entry{What: WhatDoubt, Who: who, On: v.name, Link: attempt, IDs: ids, Text: cut(err.Error())})
			rest = ids
		}
		p.acked.Add(int64(len(ids) - len(rest)))
		if ids = rest; len(ids) > 0 {
			p.retries.Add(1)
			clock.Pause(ctx, time.Duration(20+r.IntN(300))*time.Millisecond)
		}
	}
	return len(ids) == 0
}

// attempt sends events once, and returns those that are not acknowledged. An error says that none is known to be.
func (p *publishing) attempt(
	ctx context.Context, patience time.Duration, who string, number int, v *replica, ids []string,
) (rest []string, err error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	path, contentType, body := "/v1/events", "application/cloudevents+json", eventJSON(ids[0])
	switch {
	case removes(ids[0]):
		path, contentType, body = path+":tombstone", "application/json", fmt.Appendf(nil, `{"type":%q,"key":%q}`, kindOf(ids[0]), ids[0])
	case len(ids) > 1:
		var all [][]byte
		for _, id := range ids {
			all = append(all, eventJSON(id))
		}
		contentType = "application/cloudevents-batch+json"
		body = append(append([]byte{'['}, bytes.Join(all, []byte{','})...), ']')
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, v.base+path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", contentType)
	resp, err := p.client.Do(req)
	if err != nil {
		return nil, err
	}
	out, err := io.ReadAll(io.LimitReader(resp.Body, largestAnswer))
	if err = errors.Join(err, resp.Body.Close()); err != nil {
		return nil, err
	}
	return p.answered(who, number, v, ids, resp, out)
}

// answered notes what the answer to events says, and returns those that are not acknowledged by it.
func (p *publishing) answered(
	who string, number int, v *replica, ids []string, resp *http.Response, out []byte,
) (rest []string, err error) {
	type result struct {
		ID, Status, Stream string
		Position           struct{ Partition, Offset int64 }
	}
	var answer struct {
		Results []result
		result  // of a tombstone
	}
	err = json.Unmarshal(out, &answer)
	if removes(ids[0]) && resp.StatusCode == http.StatusOK {
		answer.ID = ids[0]
		answer.Results = []result{answer.result}
	}
	passing := (&statusError{status: resp.StatusCode}).passing()
	if passing && len(answer.Results) == 0 {
		return nil, &statusError{resp.StatusCode, string(out)}
	}
	if err != nil || len(answer.Results) != len(ids) {
		return nil, p.strange(who, v, ids, resp, out)
	}
	done := Entry{What: WhatAck, Who: who, On: v.name, Flag: resp.Header.Get("Eventissuer-Deduplicated") == "false"}
	for i, result := range answer.Results {
		switch result.Status {
		case "persisted", "duplicate":
			s, err := streamNamed(result.Stream)
			if err != nil || s.name != streamOf(ids[i]) {
				return nil, p.strange(who, v, ids, resp, out)
			}
			done.IDs = append(done.IDs, ids[i])
			done.Places = append(done.Places, Place{int64(s.first) + result.Position.Partition, result.Position.Offset})
		case "failed":
			rest = append(rest, ids[i])
		default:
			return nil, p.strange(who, v, ids, resp, out)
		}
		if result.ID != ids[i] {
			return nil, p.strange(who, v, ids, resp, out)
		}
	}
	if len(done.IDs) > 0 {
		p.journal.Note(done)
	}
	if len(rest) > 0 {
		p.journal.Note(Entry{What: WhatDoubt, Who: who, On: v.name, Link: number, IDs: rest, Text: "answered failed"})
	}
	return rest, nil
}

// strange notes an answer that should never be given.
func (p *publishing) strange(who string, v *replica, ids []string, resp *http.Response, out []byte) error {
	text := fmt.Sprintf("publishing was answered %s: %s", resp.Status, out)
	p.journal.Note(Entry{What: WhatAnswer, Who: who, On: v.name, IDs: ids, Text: cut(text)})
	return errors.New(text)
}

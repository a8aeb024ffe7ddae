package main_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// place is where an event is.
type place struct {
	partition int
	offset    int64
}

// publisher publishes steadily through whichever server lives, each subject's events one after the other: the next only
// when the one before is acknowledged. One whose fate is not known is sent again under the same id.
type publisher struct {
	servers []*server
	pad     string // makes events larger

	acked atomic.Int64
	mu    sync.Mutex
	acks  map[place]string // the events' ids; guarded by mu

	stop chan struct{}
	done sync.WaitGroup
}

// subject and kind of an event are in its id: "s03-a-000017".
func eventID(subject, n int) string {
	return fmt.Sprintf("s%02d-%c-%06d", subject, 'a'+rune(n%3), n)
}

func eventJSON(id, pad string) []byte {
	return fmt.Appendf(nil, `{"specversion":"1.0","id":"%s","source":"/e2e","type":"e2e.%s","subject":"%s","data":{"pad":"%s"}}`, id, id[4:5], id[:3], pad)
}

// publish starts workers, with some subjects each, that publish one event every pause until finish. Pause 0 is load.
func publish(t *testing.T, workers, subjects int, pause time.Duration, pad string, servers ...*server) *publisher {
	t.Helper()
	p := &publisher{servers: servers, pad: pad, acks: map[place]string{}, stop: make(chan struct{})}
	for w := range workers {
		p.done.Go(func() { p.work(t, w, workers, subjects, pause) })
	}
	t.Cleanup(p.finish)
	return p
}

// finish stops the workers, each when its last event is acknowledged. It may be called twice.
func (p *publisher) finish() {
	select {
	case <-p.stop:
	default:
		close(p.stop)
	}
	p.done.Wait()
}

func (p *publisher) work(t *testing.T, worker, workers, subjects int, pause time.Duration) {
	at := worker
	for n := 0; ; n++ {
		for subject := worker; subject < subjects; subject += workers {
			select {
			case <-p.stop:
				return
			case <-t.Context().Done():
				return
			case <-time.After(pause):
			}
			for !p.send(t, at, eventID(subject, n)) {
				at++
				select {
				case <-t.Context().Done():
					return
				case <-time.After(5 * time.Millisecond):
				}
			}
		}
	}
}

// send reports whether the event is acknowledged.
func (p *publisher) send(t *testing.T, at int, id string) bool {
	ctx, cancel := context.WithTimeout(t.Context(), 15*time.Second)
	defer cancel()
	v := p.servers[at%len(p.servers)]
	where, err := v.publishOne(ctx, eventJSON(id, p.pad))
	if err != nil {
		return false
	}
	p.mu.Lock()
	if other, ok := p.acks[where]; ok {
		t.Errorf("%s and %s were both acknowledged at %v", other, id, where)
	}
	p.acks[where] = id
	p.mu.Unlock()
	p.acked.Add(1)
	return true
}

type publishAnswer struct {
	Results []struct {
		ID, Status string
		Position   struct {
			Partition int
			Offset    int64
		}
	}
}

// publishOne publishes an event and returns where it is acknowledged to be.
func (v *server) publishOne(ctx context.Context, event []byte) (place, error) {
	all, err := v.publishBody(ctx, "application/cloudevents+json", event)
	if err != nil {
		return place{}, err
	}
	return all[0], nil
}

// publishBatch publishes events that must all be acknowledged.
func (v *server) publishBatch(ctx context.Context, events [][]byte) ([]place, error) {
	body := append(append([]byte{'['}, bytes.Join(events, []byte{','})...), ']')
	return v.publishBody(ctx, "application/cloudevents-batch+json", body)
}

func (v *server) publishBody(ctx context.Context, mediaType string, body []byte) ([]place, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, v.base+"/v1/events", bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", mediaType)
	resp, err := v.client.Do(req)
	if err != nil {
		return nil, err
	}
	out, err := io.ReadAll(resp.Body)
	if err = errors.Join(err, resp.Body.Close()); err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("publish answered %d: %s", resp.StatusCode, out)
	}
	var answer publishAnswer
	if err := json.Unmarshal(out, &answer); err != nil {
		return nil, err
	}
	places := make([]place, len(answer.Results))
	for i, r := range answer.Results {
		if r.Status != "persisted" && r.Status != "duplicate" { // of one whose answer was lost
			return nil, fmt.Errorf("publish answered %s", out)
		}
		places[i] = place{r.Position.Partition, r.Position.Offset}
	}
	if len(places) == 0 {
		return nil, fmt.Errorf("publish answered no result: %s", out)
	}
	return places, nil
}

// more waits until n more events are acknowledged.
func (p *publisher) more(t *testing.T, n int64) {
	t.Helper()
	want := p.acked.Load() + n
	eventually(t, "publishing goes on", func() bool { return p.acked.Load() >= want })
}

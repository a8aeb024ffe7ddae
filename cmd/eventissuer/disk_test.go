package main_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/eventissuer/eventissuer/internal/testenv"
)

// tryEvent publishes an event, and gives the answer's status and body.
func tryEvent(t *testing.T, v *server, n int) (int, []byte) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, v.base+"/v1/events", bytes.NewReader(eventJSON(eventID(0, n), strings.Repeat("x", 4<<10))))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/cloudevents+json")
	resp, err := v.client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	var body bytes.Buffer
	if _, err := body.ReadFrom(resp.Body); err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode == http.StatusServiceUnavailable && resp.Header.Get("Retry-After") == "" {
		t.Error("503 without Retry-After")
	}
	return resp.StatusCode, body.Bytes()
}

func TestAFullDiskStopsPublishingAloneUntilThereIsRoom(t *testing.T) {
	disk := testenv.SmallDisk(t, 32<<20)
	v := startServer(t, storage{"--data-dir", filepath.Join(disk, "data")}, "--drain-timeout=3s")
	define(t, 1, v)
	readers := map[string]func() string{}
	for accept, mark := range map[string]string{"text/event-stream": "data: {", "application/x-ndjson": `{"cursor":`} {
		_, in := rawSession(t, v, "HTTP/1.1", accept, "")
		if accept == "text/event-stream" {
			lineWith(t, in, "id: ")
		} else {
			lineWith(t, in, `{"cursor":`)
		}
		readers[accept] = func() string { return lineWith(t, in, mark) }
	}
	n, acked := 0, []string{}
	publish := func(times int) {
		t.Helper()
		for range times {
			if status, body := tryEvent(t, v, n); status != http.StatusOK {
				t.Fatalf("event %d: %d %s", n, status, body)
			}
			acked = append(acked, eventID(0, n))
			for accept, next := range readers {
				if line := next(); !strings.Contains(line, eventID(0, n)) {
					t.Errorf("%s: got %.200s, want event %d", accept, line, n)
				}
			}
			n++
		}
	}
	all := func() {
		t.Helper()
		var got []string
		// A page holds what the stream's tail has reached, which may be a moment after the acknowledgement.
		eventually(t, fmt.Sprintf("a page has the %d events that were acknowledged", len(acked)), func() bool {
			status, body, err := v.try(t.Context(), http.MethodGet, "/v1/streams/"+theStream+"/events?from=oldest&limit=1000", nil)
			if err != nil || status != http.StatusOK {
				t.Fatalf("reading all: %d %v", status, err)
			}
			var events []struct{ ID string }
			if err := json.Unmarshal(body, &events); err != nil {
				t.Fatal(err)
			}
			got = got[:0]
			for _, e := range events {
				got = append(got, e.ID)
			}
			return len(got) >= len(acked)
		})
		if fmt.Sprint(got) != fmt.Sprint(acked) {
			t.Errorf("there are %d events, of %d that were acknowledged: %v", len(got), len(acked), got)
		}
	}
	for range 2 {
		publish(10)
		release := testenv.Fill(t, disk)
		for range 3 {
			status, body := tryEvent(t, v, n)
			var p struct{ Type, Detail string }
			if err := json.Unmarshal(body, &p); err != nil || status != http.StatusServiceUnavailable || !strings.HasSuffix(p.Type, "/storage-full") {
				t.Errorf("on a full disk an event is answered %d %s", status, body)
			}
			n++
		}
		if status, body, err := v.try(t.Context(), http.MethodPost, "/v1/streams", map[string]any{"name": "more"}); err != nil || status != http.StatusServiceUnavailable || !bytes.Contains(body, []byte("storage-full")) {
			t.Errorf("on a full disk a stream is created: %d %s %v", status, body, err)
		}
		if status, body, err := v.try(t.Context(), http.MethodGet, "/readyz", nil); err != nil || status != http.StatusOK || !bytes.Contains(body, []byte("it is full")) {
			t.Errorf("on a full disk /readyz says %d %s %v", status, body, err)
		}
		all()
		release()
		publish(1) // the readers never left
		if _, body, err := v.try(t.Context(), http.MethodGet, "/readyz", nil); err != nil || bytes.Contains(body, []byte("it is full")) {
			t.Errorf("with room again /readyz says %s %v", body, err)
		}
	}
	// A kill while the disk is full, and a start on it.
	release := testenv.Fill(t, disk)
	if err := v.Kill(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if err := v.Start(ctx); err != nil {
		t.Fatal(err)
	}
	all()
	if status, body := tryEvent(t, v, n); status != http.StatusServiceUnavailable {
		t.Errorf("after a start on a full disk an event is answered %d %s", status, body)
	}
	n++
	release()
	clear(readers)
	publish(3)
	all()
}

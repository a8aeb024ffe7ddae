package loadtest

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// PrepareConfig names what an Event Issuer must have before events can be published to it.
type PrepareConfig struct {
	Server     string // base URL
	Stream     string
	Partitions int // of a stream that is created; default 1
	Type       string
	Dedupe     string // window of a type that is registered, as 0s; default the server's
	Header     http.Header
}

// Prepare creates the stream and registers the event type, unless they are there, and returns where to read and where to publish.
func Prepare(ctx context.Context, c PrepareConfig) (read, publish string, err error) {
	set(&c.Partitions, 1)
	base := strings.TrimSuffix(c.Server, "/") + "/v1/"
	err = create(ctx, base+"streams", c.Header, map[string]any{"name": c.Stream, "partitions": c.Partitions, "description": "events of a load test"})
	if err != nil {
		return "", "", fmt.Errorf("create stream %s: %w", c.Stream, err)
	}
	kind := map[string]any{"type": c.Type, "stream": c.Stream, "description": "a load test's event"}
	if c.Dedupe != "" {
		kind["dedupe"] = c.Dedupe
	}
	err = create(ctx, base+"event-types", c.Header, kind)
	if err != nil {
		return "", "", fmt.Errorf("register event type %s: %w", c.Type, err)
	}
	if err := belongs(ctx, base+"event-types/"+url.PathEscape(c.Type), c); err != nil {
		return "", "", err
	}
	return base + "streams/" + url.PathEscape(c.Stream) + "/events", base + "events", nil
}

// belongs checks that the type, which may have been there before, publishes to the stream that is read.
func belongs(ctx context.Context, target string, c PrepareConfig) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, target, nil)
	if err != nil {
		return err
	}
	if c.Header != nil {
		req.Header = c.Header.Clone()
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	var found struct {
		Stream string `json:"stream"`
	}
	if err := json.NewDecoder(io.LimitReader(resp.Body, 1<<20)).Decode(&found); err != nil {
		return fmt.Errorf("read event type %s: %w", c.Type, err)
	}
	if found.Stream != c.Stream {
		return fmt.Errorf("event type %s is published to stream %s, not to %s: give another --type", c.Type, found.Stream, c.Stream)
	}
	return nil
}

// Await blocks until a server, such as a replica of the one at which it was made, knows a stream; for 10 s at most.
func Await(ctx context.Context, server, stream string, header http.Header) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	target := strings.TrimSuffix(server, "/") + "/v1/streams/" + url.PathEscape(stream)
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, target, nil)
		if err != nil {
			return err
		}
		if header != nil {
			req.Header = header.Clone()
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			return fmt.Errorf("find stream %s at %s: %w", stream, server, err)
		}
		_ = resp.Body.Close()
		if resp.StatusCode == http.StatusOK {
			return nil
		}
		if resp.StatusCode != http.StatusNotFound || !wait(ctx, 20*time.Millisecond) {
			return fmt.Errorf("find stream %s at %s: %s", stream, server, resp.Status)
		}
	}
}

func create(ctx context.Context, target string, header http.Header, object any) error {
	body, err := json.Marshal(object)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, target, bytes.NewReader(body))
	if err != nil {
		return err
	}
	if header != nil {
		req.Header = header.Clone()
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	answer, _ := io.ReadAll(io.LimitReader(resp.Body, 1<<10))
	if resp.StatusCode/100 == 2 || resp.StatusCode == http.StatusConflict {
		return nil
	}
	return fmt.Errorf("%s: %s", resp.Status, answer)
}

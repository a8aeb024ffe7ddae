package demo

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// api is the gateway as this publisher uses it.
type api struct {
	base   string
	client *http.Client
}

// answerError is an answer other than the one hoped for.
type answerError struct {
	status     int
	retryAfter time.Duration
	detail     string
}

func (e *answerError) Error() string {
	return strings.TrimSpace(fmt.Sprintf("the gateway answers %d %s", e.status, e.detail))
}

const (
	answerTimeout = 15 * time.Second
	maxAnswer     = 16 << 20
)

// do sends a request and gives the answer's body if its status is among those that are well.
func (a *api) do(ctx context.Context, method, path, contentType string, body []byte, well ...int) ([]byte, *http.Response, error) {
	ctx, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, a.base+path, bytes.NewReader(body))
	if err != nil {
		return nil, nil, err
	}
	if contentType != "" {
		req.Header.Set("Content-Type", contentType)
	}
	res, err := a.client.Do(req)
	if err != nil {
		return nil, nil, err
	}
	defer res.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer))
	if err != nil {
		return nil, nil, fmt.Errorf("read the answer: %w", err)
	}
	for _, status := range well {
		if res.StatusCode == status {
			return answer, res, nil
		}
	}
	return nil, nil, &answerError{res.StatusCode, retryAfter(res.Header), detailOf(answer)}
}

// retryAfter reads the header's seconds (RFC 9110, section 10.2.3; our gateway sends no dates).
func retryAfter(h http.Header) time.Duration {
	s, err := strconv.Atoi(h.Get("Retry-After"))
	if err != nil || s < 0 {
		return 0
	}
	return time.Duration(s) * time.Second
}

// detailOf takes what a problem (RFC 9457) says.
func detailOf(body []byte) string {
	var problem struct{ Title, Detail string }
	if json.Unmarshal(body, &problem) != nil {
		return ""
	}
	return strings.TrimPrefix(problem.Title+": "+problem.Detail, ": ")
}

// make creates a resource where there is none of its name yet, and returns the one that was there, or nil. It looks first,
// so that a restart is no row of refused requests in the gateway's log; that another makes it meanwhile is well.
func (a *api) make(ctx context.Context, collection, name string, resource any) (found json.RawMessage, err error) {
	answer, res, err := a.do(ctx, http.MethodGet, collection+"/"+url.PathEscape(name), "", nil, http.StatusOK, http.StatusNotFound)
	if err != nil {
		return nil, err
	}
	if res.StatusCode == http.StatusOK {
		return answer, nil
	}
	body, err := json.Marshal(resource)
	if err != nil {
		return nil, err
	}
	_, _, err = a.do(ctx, http.MethodPost, collection, "application/json", body, http.StatusOK, http.StatusCreated, http.StatusConflict)
	return nil, err
}

// patch changes what the merge patch names of a resource, and leaves the rest.
func (a *api) patch(ctx context.Context, path string, changes any) error {
	body, err := json.Marshal(changes)
	if err != nil {
		return err
	}
	_, _, err = a.do(ctx, http.MethodPatch, path, "application/merge-patch+json", body, http.StatusOK)
	return err
}

// keep makes or changes a definition.
func (a *api) keep(ctx context.Context, path string, definition any) error {
	body, err := json.Marshal(definition)
	if err != nil {
		return err
	}
	_, _, err = a.do(ctx, http.MethodPut, path, "application/json", body, http.StatusOK, http.StatusCreated)
	return err
}

// publish sends a batch. rest is what is not yet on the log and is to be sent again: because it failed, or because
// nobody knows (err != nil). refused is the reason why an event never will be, or empty.
func (a *api) publish(ctx context.Context, batch []item) (rest []item, refused string, err error) {
	var body bytes.Buffer
	for i, it := range batch {
		if i == 0 {
			body.WriteByte('[')
		} else {
			body.WriteByte(',')
		}
		body.Write(it.json)
	}
	body.WriteByte(']')
	answer, res, err := a.do(ctx, http.MethodPost, "/v1/events", "application/cloudevents-batch+json", body.Bytes(),
		http.StatusOK, http.StatusMultiStatus, http.StatusUnprocessableEntity, http.StatusForbidden, http.StatusServiceUnavailable)
	if err != nil {
		return batch, "", err
	}
	var results struct {
		Results []struct {
			Status string
			Errors []struct{ Pointer, Message string }
		}
	}
	if jerr := json.Unmarshal(answer, &results); jerr != nil || len(results.Results) != len(batch) {
		return batch, "", &answerError{res.StatusCode, retryAfter(res.Header), detailOf(answer)}
	}
	for i, result := range results.Results {
		switch result.Status {
		case "persisted", "duplicate":
		case "invalid", "forbidden":
			refused = result.Status
			for _, e := range result.Errors {
				refused += " " + e.Pointer + ": " + e.Message
			}
		default:
			rest = append(rest, batch[i])
		}
	}
	if len(rest) > 0 {
		err = &answerError{res.StatusCode, retryAfter(res.Header), fmt.Sprintf("%d of %d events are not yet persisted", len(rest), len(batch))}
	}
	return rest, refused, err
}

// readSince gives every event of the stream since that time, page by page.
func (a *api) readSince(ctx context.Context, stream string, since time.Time, each func(json.RawMessage)) error {
	query := url.Values{"from": {since.UTC().Format(time.RFC3339)}, "limit": {"1000"}}
	for range 100 {
		answer, res, err := a.do(ctx, http.MethodGet, "/v1/streams/"+stream+"/events?"+query.Encode(), "", nil, http.StatusOK)
		if err != nil {
			return err
		}
		var events []json.RawMessage
		if err := json.Unmarshal(answer, &events); err != nil {
			return fmt.Errorf("read a page: %w", err)
		}
		for _, e := range events {
			each(e)
		}
		if len(events) == 0 {
			return nil
		}
		query = url.Values{"after": {res.Header.Get("Cursor")}, "limit": {"1000"}}
	}
	return nil
}

// backoff waits longer each time: 0.25 s to 5 s, with jitter, but as long as the gateway asks for, up to half a minute.
type backoff struct{ tries int }

func (b *backoff) sleep(ctx context.Context, err error) bool {
	wait := min(250*time.Millisecond<<min(b.tries, 5), 5*time.Second)
	b.tries++
	var asked *answerError
	if errors.As(err, &asked) {
		wait = max(wait, min(asked.retryAfter, 30*time.Second))
	}
	wait += rand.N(wait/4 + 1)
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

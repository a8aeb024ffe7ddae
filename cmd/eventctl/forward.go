package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/google/uuid"

	"github.com/eventissuer/eventissuer/internal/clock"
	"github.com/eventissuer/eventissuer/internal/event"
	"github.com/eventissuer/eventissuer/internal/webhook"
)

// forwarder posts events to one address, one after another.
type forwarder struct {
	console  *console
	http     *http.Client
	to       string
	origin   string // who sends
	mode     webhook.Mode
	signer   webhook.Signer
	attempts int
}

// announce says what the receiver needs to know.
func (f *forwarder) announce() error {
	_, err := fmt.Fprintf(f.console.out, "signing secret  %s\npublic key      %s\nforwarding to   %s; Ctrl-C ends it\n",
		f.signer.Secrets[0].Text(), f.signer.Keys[0].Public(), f.to)
	return err
}

// forward posts an event until it is taken, or its attempts are used up: then it says so. It is an error only that this
// cannot be printed.
func (f *forwarder) forward(ctx context.Context, raw []byte) error {
	e, err := event.ParseStored(bytes.Clone(raw))
	if err != nil {
		f.console.note("an event is passed, since it cannot be read: %v", err)
		return nil
	}
	id := messageID(&e)
	for n := 1; ; n++ {
		begin := time.Now()
		status, after, err := f.post(ctx, &e, id, begin)
		took := time.Since(begin)
		if ctx.Err() != nil {
			f.console.note("interrupted while %s was posted: it may have been handled or not", describe(&e))
			return nil //nolint:nilerr // to be interrupted is no failure
		}
		taken := err == nil && status/100 == 2
		outcome := outcomeOf(status, err)
		if taken || n == f.attempts {
			return f.print(&e, begin, outcome, took, n, taken)
		}
		wait := max(backoff(n-1), min(after, maxPostWait))
		f.console.note("%s: %s; posting it again in %s (attempt %d of %d)", describe(&e), outcome, wait.Round(10*time.Millisecond), n+1, f.attempts)
		if !clock.Pause(ctx, wait) {
			return nil
		}
	}
}

const (
	// maxPostWait bounds how long a receiver may ask to be left alone.
	maxPostWait = 30 * time.Second
	// maxPostAnswer bounds what is read of an answer, so that its connection can be used again.
	maxPostAnswer = 64 << 10
)

// post makes one attempt. after is how long the receiver asks to wait.
func (f *forwarder) post(ctx context.Context, e *event.Event, id string, at time.Time) (status int, after time.Duration, err error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, f.to, nil)
	if err != nil {
		return 0, 0, err
	}
	body, err := webhook.Body(r.Header, f.mode, []*event.Event{e})
	if err != nil {
		return 0, 0, err
	}
	r.Header.Set("User-Agent", name())
	r.Header.Set("WebHook-Request-Origin", f.origin)
	f.signer.Sign(r.Header, id, at, body)
	r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
	r.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(body)), nil }
	resp, err := f.http.Do(r)
	if err != nil {
		return 0, 0, err
	}
	_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, maxPostAnswer)) // the status has been said
	_ = resp.Body.Close()
	return resp.StatusCode, retryAfter(resp.Header), nil
}

// messageID is the same for an event at every attempt and in every run.
func messageID(e *event.Event) string {
	sum := sha256.Sum256([]byte(e.Source() + "\x00" + e.ID()))
	return webhook.MessageID(uuid.UUID(sum[:16]), [16]byte(sum[16:]), 0)
}

// outcomeOf says what a post came to.
func outcomeOf(status int, err error) string {
	var at *url.Error
	switch {
	case err == nil:
		text := strings.TrimSpace(strconv.Itoa(status) + " " + http.StatusText(status))
		if status/100 == 3 {
			text += " (redirects are not followed)"
		}
		return text
	case os.IsTimeout(err):
		return "no answer in time"
	case errors.As(err, &at): // without the address, which is known
		return "no answer: " + at.Err.Error()
	}
	return err.Error()
}

// print writes the line of an event that is done with.
func (f *forwarder) print(e *event.Event, at time.Time, outcome string, took time.Duration, attempts int, taken bool) error {
	begin, end := "", ""
	if f.console.terminals.out {
		begin, end = map[bool]string{true: "\x1b[32m", false: "\x1b[31m"}[taken], "\x1b[0m"
	}
	note := ""
	switch {
	case !taken:
		note = fmt.Sprintf("  given up after %s", times(attempts))
	case attempts > 1:
		note = fmt.Sprintf("  attempt %d", attempts)
	}
	_, err := fmt.Fprintf(f.console.out, "%s  %s  → %s%s%s  %s%s\n", at.Format(time.TimeOnly), describe(e), begin, outcome, end, shorter(took), note)
	return err
}

func times(n int) string {
	if n == 1 {
		return "1 attempt"
	}
	return strconv.Itoa(n) + " attempts"
}

func shorter(d time.Duration) time.Duration {
	if d < 10*time.Millisecond {
		return d.Round(100 * time.Microsecond)
	}
	return d.Round(time.Millisecond)
}

// describe names an event by type and subject. What would move a terminal's cursor is replaced.
func describe(e *event.Event) string {
	text := e.Type()
	if e.Subject() != "" {
		text += "  " + e.Subject()
	}
	return printable(text, unicode.ReplacementChar)
}

// printable puts another character in place of what would move a terminal's cursor.
func printable(text string, instead rune) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return instead
		}
		return r
	}, text)
}

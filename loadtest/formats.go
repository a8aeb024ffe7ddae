package loadtest

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// format is what the answers that a client reads over plain HTTP are made of.
type format int

const (
	formatSSE   format = iota // blocks of Server-Sent Events, without end
	formatLines               // NDJSON, a line for each event, without end
	formatPage                // an array of events; then the next is asked for
)

func (f format) accept() string {
	switch f {
	case formatLines:
		return "application/x-ndjson"
	case formatPage:
		return "application/cloudevents-batch+json"
	case formatSSE:
	}
	return "text/event-stream"
}

// errPageEnd says that a page is whole: the next may be asked for on the same connection.
var errPageEnd = errors.New("the page has ended")

// maxPage bounds a page's body.
const maxPage = 32 << 20

var (
	cursorKey   = []byte(`{"cursor":"`)
	cursorAfter = []byte(`,"cursor":"`)
)

// lineCursor finds the cursor of a line of NDJSON: it comes first beside an event, and last beside anything else.
func lineCursor(p []byte) []byte {
	rest, ok := bytes.CutPrefix(p, cursorKey)
	if !ok {
		i := bytes.LastIndex(p, cursorAfter)
		if i < 0 {
			return nil
		}
		rest = p[i+len(cursorAfter):]
	}
	if end := bytes.IndexByte(rest, '"'); end >= 0 {
		return rest[:end]
	}
	return nil
}

// entry takes a line of NDJSON.
func (s *stream) entry(p []byte, now int64) {
	if len(p) == 0 {
		return
	}
	r := s.reader
	if !r.data(p, now) {
		switch name := controlIn(p); {
		case name == "" || bytes.Contains(p, []byte(`"event":{`)):
			r.tally.foreign++
		case name != "cursor": // which is a heartbeat
			r.tally.controls[name]++
		}
	}
	r.block(lineCursor(p), now)
}

// pageField takes a header field of a page.
func (s *stream) pageField(name, value []byte) error {
	switch {
	case bytes.EqualFold(name, []byte("Content-Length")):
		n, err := strconv.ParseInt(string(value), 10, 64)
		if err != nil || n < 0 || n > maxPage {
			return fmt.Errorf("a page of %.20q bytes, expected up to %d", value, maxPage)
		}
		s.left, s.sized = n, true
	case bytes.EqualFold(name, []byte("Cursor")):
		s.id, s.hasID = append(s.id[:0], value...), true
	case bytes.EqualFold(name, []byte("Link")):
		if target, ok := nextLink(value); ok {
			s.next = append(s.next[:0], target...)
		}
	default:
		for _, control := range []string{"Gap", "Skipped", "Stalled", "Drain", "Snapshot", "Removed", "Waiting"} {
			if strings.EqualFold(control, string(name)) {
				s.reader.tally.controls[strings.ToLower(control)]++
			}
		}
	}
	return nil
}

// nextLink returns the target of a Link field that leads to the next page.
func nextLink(value []byte) ([]byte, bool) {
	target, params, ok := bytes.Cut(value, []byte(">"))
	target, open := bytes.CutPrefix(target, []byte("<"))
	if !ok || !open || !bytes.Contains(params, []byte(`rel="next"`)) {
		return nil, false
	}
	return target, true
}

// pageBody collects a page's body, of which size bytes are left, or with 0 no one knows.
func (s *stream) pageBody(p []byte) error {
	if s.rest = append(s.rest, p...); len(s.rest) > maxPage {
		return fmt.Errorf("a page is longer than %d bytes", maxPage)
	}
	return nil
}

// pageEnd takes a whole page. It returns errPageEnd.
func (s *stream) pageEnd(now int64) error {
	body := bytes.TrimSpace(s.rest)
	if len(body) > 2 && !s.reader.data(body, now) {
		s.reader.tally.foreign++
	}
	var id []byte
	if s.hasID {
		id = s.id
	}
	s.reader.block(id, now)
	s.state, s.sized, s.hasID = readingHead, false, false
	s.rest = s.rest[:0]
	if cap(s.rest) > 1<<10 {
		s.rest = nil
	}
	return errPageEnd
}

// apart is how long after a page the next is asked for. What is outstanding at the run's end is not waited for so long.
func (f *fleet) apart() time.Duration {
	if f.all.to.Load() != 0 {
		return min(f.every, 200*time.Millisecond)
	}
	return f.every
}

// streamRequest is the request that opens a stream, or resumes it with a cursor.
func streamRequest(dst []byte, target string, header http.Header, cursor []byte, f format) ([]byte, error) {
	u, err := url.Parse(target)
	if err != nil {
		return nil, fmt.Errorf("url %q: %w", target, err)
	}
	return appendRequest(dst, u.RequestURI(), u.Host, header, cursor, f), nil
}

// nextPage is the request for the page after the last, which waits for its first event as long as the reader does.
func nextPage(dst []byte, target string, header http.Header, s *stream, wait time.Duration) ([]byte, error) {
	u, err := url.Parse(target)
	if err != nil {
		return nil, fmt.Errorf("url %q: %w", target, err)
	}
	cursor := s.reader.cursor
	uri := u.RequestURI()
	if len(s.next) > 0 {
		next, err := url.Parse(string(s.next))
		if err != nil {
			return nil, fmt.Errorf("the link to the next page: %w", err)
		}
		uri, cursor = next.RequestURI(), nil // which the link has
	}
	if wait > 0 && !strings.Contains(uri, "wait=") {
		separator := "?"
		if strings.Contains(uri, "?") {
			separator = "&"
		}
		uri += separator + "wait=" + wait.String()
	}
	return appendRequest(dst, uri, u.Host, header, cursor, formatPage), nil
}

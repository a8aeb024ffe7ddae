package loadtest

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"time"
)

// Bounds of what the parser keeps of an unfinished header, chunk size or line.
const (
	maxHead      = 64 << 10
	maxChunkLine = 256
	maxLine      = 8 << 20
)

// errStreamEnd says that the server ended the body in order (the last chunk has come).
var errStreamEnd = errors.New("the server ended the stream")

// rejection is an answer that is no event stream.
type rejection struct {
	status int
	line   string // the status line, and what came with it of the body
}

func (e *rejection) Error() string { return e.line }

type parserState int

const (
	readingHead parserState = iota
	readingBody             // delimited by the close of the connection
	readingSize             // a chunk's size line
	readingChunk
	readingChunkEnd // the line break after a chunk
)

// stream parses HTTP/1.1 answers that carry events, piece by piece as they come off a socket, and tells its reader. It
// keeps nothing but an unfinished line, or page: an idle connection costs no buffer.
type stream struct {
	reader *reader
	format format

	state  parserState
	rest   []byte // unfinished header or line
	size   []byte // unfinished chunk size
	left   int64  // bytes left in the chunk, or the page
	sized  bool   // the page has said how long it is
	next   []byte // where the next page is, if the last one said so
	id     []byte // of the block being read
	hasID  bool
	filled bool // the block being read has had any field
	bare   bool // it has data without a mark
	named  bool // it has an event name: a control message
}

// begin makes the stream ready for a new connection.
func (s *stream) begin() {
	s.state, s.rest, s.size, s.left = readingHead, s.rest[:0], s.size[:0], 0
	s.id, s.hasID, s.filled, s.bare, s.named = s.id[:0], false, false, false, false
	s.sized, s.next = false, s.next[:0]
}

// feed takes the next bytes. Any error but errPageEnd ends the connection: *rejection, errStreamEnd, or malformed framing.
func (s *stream) feed(p []byte, now int64) error {
	s.reader.received(len(p), now)
	for len(p) > 0 {
		switch s.state {
		case readingHead:
			rest, err := s.head(p, now)
			if err != nil {
				return err
			}
			p = rest
		case readingBody:
			if s.format == formatPage {
				return s.page(p, now)
			}
			return s.content(p, now)
		case readingSize:
			i := bytes.IndexByte(p, '\n')
			if i < 0 {
				if s.size = append(s.size, p...); len(s.size) > maxChunkLine {
					return errors.New("chunk size line is too long")
				}
				return nil
			}
			line := p[:i]
			if len(s.size) > 0 {
				s.size = append(s.size, line...)
				line = s.size
			}
			n, err := chunkSize(line)
			s.size, p = s.size[:0], p[i+1:]
			if err != nil {
				return err
			}
			if n == 0 && s.format == formatPage {
				return s.pageEnd(now) // what follows has no trailer: nobody asked for one
			}
			if n == 0 {
				return errStreamEnd
			}
			s.left, s.state = n, readingChunk
		case readingChunk:
			n := min(int64(len(p)), s.left)
			if err := s.content(p[:n], now); err != nil {
				return err
			}
			s.left -= n
			p = p[n:]
			if s.left == 0 {
				s.state = readingChunkEnd
			}
		case readingChunkEnd:
			if p[0] == '\n' {
				s.state = readingSize
			} else if p[0] != '\r' {
				return fmt.Errorf("a chunk ends with %q, not with a line break", p[0])
			}
			p = p[1:]
		}
	}
	return nil
}

func chunkSize(line []byte) (int64, error) {
	if i := bytes.IndexByte(line, ';'); i >= 0 {
		line = line[:i]
	}
	line = bytes.TrimSpace(line)
	n, err := strconv.ParseInt(string(line), 16, 48)
	if err != nil || n < 0 {
		return 0, fmt.Errorf("chunk size %q is no hexadecimal number", line)
	}
	return n, nil
}

// head reads the status line and header fields, and returns what follows them.
func (s *stream) head(p []byte, now int64) ([]byte, error) {
	// The line break that ends the last page's chunks may come before the next page's header.
	for s.format == formatPage && len(s.rest) == 0 && len(p) > 0 && (p[0] == '\r' || p[0] == '\n') {
		p = p[1:]
	}
	before := len(s.rest)
	s.rest = append(s.rest, p...)
	end := bytes.Index(s.rest, []byte("\r\n\r\n"))
	if end < 0 {
		if len(s.rest) > maxHead {
			return nil, errors.New("the response header is longer than 64 KiB")
		}
		return nil, nil
	}
	head := s.rest[:end]
	line, fields, _ := bytes.Cut(head, []byte("\r\n"))
	status := 0
	if _, after, ok := bytes.Cut(line, []byte(" ")); ok && bytes.HasPrefix(line, []byte("HTTP/1.")) {
		status, _ = strconv.Atoi(string(after[:min(3, len(after))]))
	}
	chunked := false
	s.sized, s.hasID, s.next = false, false, s.next[:0]
	for f := range bytes.SplitSeq(fields, []byte("\r\n")) {
		name, value, _ := bytes.Cut(f, []byte(":"))
		if bytes.EqualFold(name, []byte("Transfer-Encoding")) && bytes.Contains(bytes.ToLower(value), []byte("chunked")) {
			chunked = true
		}
		if status != 200 && bytes.EqualFold(name, []byte("Retry-After")) {
			if n, err := strconv.Atoi(string(bytes.TrimSpace(value))); err == nil && n >= 0 {
				s.reader.retry = time.Duration(n) * time.Second
			}
		}
		if s.format == formatPage && status == 200 {
			if err := s.pageField(name, bytes.TrimSpace(value)); err != nil {
				return nil, err
			}
		}
	}
	if status != 200 {
		body := bytes.TrimSpace(s.rest[end+4:])
		return nil, &rejection{status: status, line: string(line) + ": " + string(body[:min(len(body), 300)])}
	}
	follows := p[end+4-before:]
	s.rest = s.rest[:0]
	s.state = readingBody
	if chunked {
		s.state = readingSize
	}
	if !s.reader.headed {
		s.reader.head(now)
	}
	if s.format == formatPage && !chunked && s.sized && s.left == 0 {
		return nil, s.pageEnd(now)
	}
	return follows, nil
}

// page takes a piece of a page that is not chunked.
func (s *stream) page(p []byte, now int64) error {
	if !s.sized {
		return errors.New("a page has neither a length nor chunks")
	}
	n := min(int64(len(p)), s.left)
	if err := s.pageBody(p[:n]); err != nil {
		return err
	}
	if s.left -= n; s.left == 0 {
		return s.pageEnd(now)
	}
	return nil
}

// content takes what a chunk holds, or what comes without chunks.
func (s *stream) content(p []byte, now int64) error {
	if s.format == formatPage {
		return s.pageBody(p)
	}
	return s.body(p, now)
}

// body reads lines. Those that lie whole in p are not copied.
func (s *stream) body(p []byte, now int64) error {
	for {
		i := bytes.IndexByte(p, '\n')
		if i < 0 {
			if len(p) == 0 {
				break
			}
			if s.rest = append(s.rest, p...); len(s.rest) > maxLine {
				return errors.New("a line of the stream is longer than 8 MiB")
			}
			break
		}
		if len(s.rest) > 0 {
			s.rest = append(s.rest, p[:i]...)
			s.line(s.rest, now)
			s.rest = s.rest[:0]
		} else {
			s.line(p[:i], now)
		}
		p = p[i+1:]
	}
	// A finished line leaves its buffer to the garbage collector if it was a large one: readers are many.
	if len(s.rest) == 0 && cap(s.rest) > 1<<10 {
		s.rest = nil
	}
	return nil
}

func (s *stream) line(p []byte, now int64) {
	if n := len(p); n > 0 && p[n-1] == '\r' {
		p = p[:n-1]
	}
	if s.format == formatLines {
		s.entry(p, now)
		return
	}
	if len(p) == 0 {
		if s.filled {
			var id []byte
			if s.hasID {
				id = s.id
			}
			s.reader.block(id, now)
			if s.bare && !s.named {
				s.reader.tally.foreign++
			}
		}
		s.hasID, s.filled, s.bare, s.named = false, false, false, false
		return
	}
	s.filled = true
	switch p[0] {
	case 'd':
		if v, ok := field(p, "data:"); ok {
			if !s.reader.data(v, now) {
				s.bare = true
			}
		}
	case 'i':
		if v, ok := field(p, "id:"); ok {
			s.id, s.hasID = append(s.id[:0], v...), true
		}
	case 'e':
		if v, ok := field(p, "event:"); ok && string(v) != "message" {
			s.reader.tally.controls[string(v)]++
			s.named = true
		}
	case 'r':
		if v, ok := field(p, "retry:"); ok {
			if n, err := strconv.Atoi(string(v)); err == nil && n >= 0 {
				s.reader.retry = time.Duration(n) * time.Millisecond
			}
		}
	}
}

// field returns the value of an SSE field, without the one space that may follow the colon.
func field(p []byte, name string) ([]byte, bool) {
	if len(p) < len(name) || string(p[:len(name)]) != name {
		return nil, false
	}
	p = p[len(name):]
	if len(p) > 0 && p[0] == ' ' {
		p = p[1:]
	}
	return p, true
}

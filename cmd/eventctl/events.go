package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"sync/atomic"
	"unicode"
)

// eventReader reads events from NDJSON (or JSON values in a row, on any number of lines) or from one JSON array, and
// never holds more than one.
type eventReader struct {
	name    string
	file    io.Closer // nil: not ours to close
	buffer  *bufio.Reader
	decoder *json.Decoder
	array   bool
	number  int   // of the last event, from 1
	skipped int64 // bytes of the input before the decoder's
	broken  int   // places that were no JSON
	over    bool  // what follows cannot be read
	read    atomic.Int64
	size    int64 // 0: not known
}

// maxInputEvent bounds one event of the input. It is far above what a server takes, so that the server's own word is heard.
const maxInputEvent = 64 << 20

// maxBroken bounds the places of an input that are passed because they are no JSON: it is probably no file of events.
const maxBroken = 100

// eventError is an event of the input that cannot be read. The next one may be.
type eventError struct{ text string }

func (e *eventError) Error() string { return e.text }

func (r *eventReader) unreadable(format string, args ...any) error {
	return &eventError{fmt.Sprintf(format, args...)}
}

// openEvents opens a file, or standard input for "-".
func openEvents(name string, stdin io.Reader) (*eventReader, error) {
	if name == "-" {
		return newEventReader("standard input", stdin, 0, nil)
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, &fileError{err}
	}
	var size int64
	switch info, err := f.Stat(); {
	case err != nil:
	case info.IsDir():
		_ = f.Close()
		return nil, &fileError{fmt.Errorf("%s is a folder: name files of events", name)}
	case info.Mode().IsRegular():
		size = info.Size()
	}
	return newEventReader(name, f, size, f)
}

func newEventReader(name string, from io.Reader, size int64, file io.Closer) (*eventReader, error) {
	r := &eventReader{name: name, file: file, size: size}
	r.buffer = bufio.NewReaderSize(&countingReader{from, &r.read}, 64<<10)
	for {
		c, _, err := r.buffer.ReadRune()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, errors.Join(fmt.Errorf("%s: %w", name, err), r.Close())
		}
		if unicode.IsSpace(c) || c == '\uFEFF' {
			continue
		}
		r.array = c == '['
		if err := r.buffer.UnreadRune(); err != nil {
			return nil, err
		}
		break
	}
	r.decoder = json.NewDecoder(r.buffer)
	if r.array {
		if _, err := r.decoder.Token(); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
	}
	return r, nil
}

type countingReader struct {
	from  io.Reader
	count *atomic.Int64
}

func (c *countingReader) Read(p []byte) (int, error) {
	n, err := c.from.Read(p)
	c.count.Add(int64(n))
	return n, err
}

// next returns the next event's JSON, or io.EOF. After an *eventError the one that follows can be asked for.
func (r *eventReader) next() (json.RawMessage, error) {
	if r.over {
		return nil, io.EOF
	}
	if r.array && !r.decoder.More() {
		r.over = true
		if _, err := r.decoder.Token(); err != nil {
			return nil, r.unreadable("the array is cut off after event %d: %v", r.number, unexpected(err))
		}
		return nil, io.EOF
	}
	var raw json.RawMessage
	if err := r.decoder.Decode(&raw); err != nil {
		if errors.Is(err, io.EOF) && !r.array {
			return nil, io.EOF
		}
		var syntax *json.SyntaxError
		if !errors.As(err, &syntax) && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, io.EOF) {
			return nil, fmt.Errorf("%s: %w", r.name, err) // it cannot be read at all
		}
		r.number++
		held, _ := io.ReadAll(r.decoder.Buffered()) // from memory
		at := r.skipped + r.decoder.InputOffset() + int64(len(held)-len(bytes.TrimLeft(held, " \t\r\n,")))
		if err := r.pass(); err != nil {
			return nil, err
		}
		rest := ""
		if r.over {
			rest = "; what follows is not read"
		}
		return nil, r.unreadable("is no JSON (byte %d): %v%s", at, unexpected(err), rest)
	}
	r.number++
	if len(raw) > maxInputEvent {
		return nil, r.unreadable("has %d bytes", len(raw))
	}
	if c := bytes.TrimSpace(raw); len(c) == 0 || c[0] != '{' {
		return nil, r.unreadable("is no JSON object: %.60s", raw)
	}
	return raw, nil
}

// pass goes on after a value that is no JSON: at the next line that begins with an object. In an array there is no such
// place.
func (r *eventReader) pass() error {
	if r.broken++; r.array || r.broken >= maxBroken {
		r.over = true
		return nil
	}
	begin := r.skipped + r.decoder.InputOffset()
	from := bufio.NewReaderSize(io.MultiReader(r.decoder.Buffered(), r.buffer), 64<<10)
	for inValue := false; ; {
		if next, err := from.Peek(1); errors.Is(err, io.EOF) || err == nil && inValue && next[0] == '{' {
			break
		} else if err != nil {
			return fmt.Errorf("%s: %w", r.name, err)
		}
		for more := true; more; { // a line
			part, err := from.ReadSlice('\n')
			begin += int64(len(part))
			inValue = inValue || len(bytes.TrimSpace(part)) > 0
			if more = errors.Is(err, bufio.ErrBufferFull); err != nil && !more && !errors.Is(err, io.EOF) {
				return fmt.Errorf("%s: %w", r.name, err)
			}
		}
	}
	r.skipped, r.buffer = begin, from
	r.decoder = json.NewDecoder(from)
	return nil
}

// unexpected keeps an end of the input within an event from being taken for its end.
func unexpected(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// Close closes the file, if it is one.
func (r *eventReader) Close() error {
	if r.file == nil {
		return nil
	}
	return r.file.Close()
}

// edit changes members of an event; everything else stays as it is, but for the order of members.
func edit(raw json.RawMessage, members map[string]string) (json.RawMessage, error) {
	var event map[string]json.RawMessage
	if err := json.Unmarshal(raw, &event); err != nil {
		return nil, err
	}
	for name, value := range members {
		text, err := json.Marshal(value)
		if err != nil {
			return nil, err
		}
		event[name] = text
	}
	return json.Marshal(event)
}

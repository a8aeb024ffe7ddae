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
	number  int // of the last event, from 1
	read    atomic.Int64
	size    int64 // 0: not known
}

// maxInputEvent bounds one event of the input. It is far above what a server takes, so that the server's own word is heard.
const maxInputEvent = 64 << 20

// openEvents opens a file, or standard input for "-".
func openEvents(name string, stdin io.Reader) (*eventReader, error) {
	if name == "-" {
		return newEventReader("standard input", stdin, 0, nil)
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	var size int64
	if info, err := f.Stat(); err == nil && info.Mode().IsRegular() {
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

// next returns the next event's JSON, or io.EOF.
func (r *eventReader) next() (json.RawMessage, error) {
	if r.array && !r.decoder.More() {
		if _, err := r.decoder.Token(); err != nil {
			return nil, fmt.Errorf("%s: the array is cut off after event %d: %w", r.name, r.number, unexpected(err))
		}
		return nil, io.EOF
	}
	var raw json.RawMessage
	if err := r.decoder.Decode(&raw); err != nil {
		if errors.Is(err, io.EOF) && !r.array {
			return nil, io.EOF
		}
		return nil, fmt.Errorf("%s: event %d (byte %d) is no JSON: %w", r.name, r.number+1, r.decoder.InputOffset(), unexpected(err))
	}
	r.number++
	if len(raw) > maxInputEvent {
		return nil, fmt.Errorf("%s: event %d has %d bytes", r.name, r.number, len(raw))
	}
	if c := bytes.TrimSpace(raw); len(c) == 0 || c[0] != '{' {
		return nil, fmt.Errorf("%s: event %d is no JSON object: %.60s", r.name, r.number, raw)
	}
	return raw, nil
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

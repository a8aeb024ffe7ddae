package loadtest

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// defaultBody is a CloudEvent whose data holds the mark.
const defaultBody = `{"specversion":"1.0","id":"{id}","source":"{source}","type":"{type}","subject":"{subject}","time":"{time}",` +
	`"datacontenttype":"application/json","data":{"mark":"{mark}","pad":"{pad}"}}`

// keys is how many {key} goes through.
const keys = 5000

var placeholders = []string{"mark", "id", "lane", "key", "seq", "time", "pad", "source", "type", "subject"}

// template is an event's text with placeholders, split once.
type template struct {
	run    string
	parts  []part
	padded []byte
}

type part struct {
	text []byte
	name string // of the placeholder after text, or ""
}

// newTemplate reads a body. {mark} must be in it; {source}, {type} and {subject} stand for the settings of those names
// (in which {lane} may occur, and {key}, which goes through 5,000 numbers from event to event), {pad} for as many letters as bring an event to about size bytes.
func newTemplate(run, body string, c *PublishConfig) (*template, error) {
	if !strings.Contains(body, "{mark}") {
		return nil, fmt.Errorf("the body %.60q… lacks {mark}, by which events are recognised", body)
	}
	body = strings.NewReplacer("{source}", c.Source, "{type}", c.Type, "{subject}", c.Subject).Replace(body)
	t := &template{run: run}
	text := []byte{}
	for len(body) > 0 {
		before, after, ok := strings.Cut(body, "{")
		text = append(text, before...)
		if !ok {
			break
		}
		name, rest, closed := strings.Cut(after, "}")
		if closed && slices.Contains(placeholders, name) {
			t.parts = append(t.parts, part{text: text, name: name})
			text, body = nil, rest
		} else {
			text, body = append(text, '{'), after
		}
	}
	t.parts = append(t.parts, part{text: text})
	bare := len(t.append(nil, mark{seq: 1000, sent: time.Now().UnixNano()}))
	if c.Size > bare {
		t.padded = []byte(strings.Repeat("x", c.Size-bare))
	}
	return t, nil
}

// append renders one event.
func (t *template) append(dst []byte, m mark) []byte {
	for _, p := range t.parts {
		dst = append(dst, p.text...)
		switch p.name {
		case "mark":
			dst = appendMark(dst, t.run, m)
		case "id":
			dst = append(dst, t.run...)
			dst = append(dst, '-')
			dst = strconv.AppendInt(dst, int64(m.lane), 10)
			dst = append(dst, '-')
			dst = strconv.AppendUint(dst, m.seq, 10)
		case "lane":
			dst = strconv.AppendInt(dst, int64(m.lane), 10)
		case "key":
			dst = strconv.AppendUint(dst, (m.seq+uint64(m.lane)*1237)%keys, 10)
		case "seq":
			dst = strconv.AppendUint(dst, m.seq, 10)
		case "time":
			dst = time.Unix(0, m.sent).UTC().AppendFormat(dst, "2006-01-02T15:04:05.000Z")
		case "pad":
			dst = append(dst, t.padded...)
		}
	}
	return dst
}

package event

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"unicode/utf8"
)

// parts are an event as the binary mode carries it: attributes apart from the data.
type parts struct {
	names       []string
	values      []string
	contentType string // datacontenttype, "" if unset
	data        []byte // nil: no data
	hasData     bool
	err         *Error // what could not be decoded
}

func (b *parts) set(name, value string) {
	for _, n := range b.names {
		if n == name {
			b.problem(name, "one header of the name", "the attribute comes twice")
			return
		}
	}
	b.names = append(b.names, name)
	b.values = append(b.values, value)
}

func (b *parts) problem(name, expected, format string, args ...any) {
	if b.err == nil {
		b.err = &Error{}
	}
	b.err.add(pointer(name), expected, format, args...)
}

// event turns the parts into the structured form and reads that, so that one reader checks both forms.
func (b *parts) event(stored bool) (Event, error) {
	size := len(b.contentType) + len(b.data) + len(b.data)/3 + 64
	for i, name := range b.names {
		size += len(name) + len(b.values[i]) + 8
	}
	dst := make([]byte, 0, size)
	dst = append(dst, '{')
	for i, name := range b.names {
		dst = appendMember(dst, name, b.values[i])
	}
	if b.contentType != "" {
		dst = appendMember(dst, "datacontenttype", b.contentType)
	}
	if b.hasData {
		dst = b.appendData(dst, stored)
	}
	dst = append(dst, '}')

	e, err := parse(dst, stored)
	if b.err == nil {
		return e, err
	}
	var more *Error
	if errors.As(err, &more) {
		for _, p := range more.Problems {
			b.err.add(p.Pointer, p.Expected, "%s", p.Message)
		}
	}
	return e, b.err
}

// appendData appends the member that holds the data (JSON format, section 3.1): JSON as it is, text as a string, all
// else in Base64. JSON that is none is a mistake of who publishes it; in a log it is kept as the bytes that it is.
func (b *parts) appendData(dst []byte, stored bool) []byte {
	switch {
	case IsJSON(b.contentType):
		fault, at := jsonFault(b.data)
		if fault == "" {
			dst = appendName(dst, "data")
			return appendOneLine(dst, b.data)
		}
		if b.contentType != "" && !stored {
			b.problem("data", "data of the content type that it is sent with: "+abbreviate(b.contentType),
				"the data is no JSON, at byte %d: %s", at, fault)
			return dst
		}
	case isText(b.contentType, b.data):
		before := len(dst)
		dst = appendName(dst, "data")
		dst = appendString(dst, textOf(b.data))
		// Escapes can make text six times as long, and an event that came within its limit larger than its topic takes.
		if len(dst)-before <= len(`,"data_base64":""`)+base64.StdEncoding.EncodedLen(len(b.data)) {
			return dst
		}
		dst = dst[:before]
	}
	dst = appendName(dst, "data_base64")
	dst = append(dst, '"')
	dst = base64.StdEncoding.AppendEncode(dst, b.data)
	return append(dst, '"')
}

// jsonFault says what keeps data from being one JSON value inside an event, "" if nothing does.
func jsonFault(data []byte) (fault string, at int) {
	text := textOf(data)
	if at := invalidUTF8(text); at >= 0 {
		return "it is not UTF-8", at
	}
	s := scanner{text: text}
	if s.skip(1) && s.end() {
		return "", 0
	}
	return s.fault, s.at
}

// appendOneLine appends JSON without line breaks and without white space around it.
func appendOneLine(dst, data []byte) []byte {
	data = bytes.Trim(data, " \t\r\n")
	if bytes.IndexByte(data, '\n') < 0 && bytes.IndexByte(data, '\r') < 0 {
		return append(dst, data...)
	}
	out := bytes.NewBuffer(dst)
	if err := json.Compact(out, data); err != nil { // cannot be: the grammar has been checked
		return append(dst, "null"...)
	}
	return out.Bytes()
}

func appendMember(dst []byte, name, value string) []byte {
	return appendString(appendName(dst, name), value)
}

func appendName(dst []byte, name string) []byte {
	if dst[len(dst)-1] != '{' {
		dst = append(dst, ',')
	}
	return append(appendString(dst, name), ':')
}

// appendString appends text as a JSON string. What is not UTF-8 becomes U+FFFD.
func appendString(dst []byte, text string) []byte {
	const hex = "0123456789abcdef"
	dst = append(dst, '"')
	from := 0
	for i := 0; i < len(text); {
		c := text[i]
		if c < utf8.RuneSelf {
			if plain[c] {
				i++
				continue
			}
			dst = append(dst, text[from:i]...)
			switch c {
			case '"', '\\':
				dst = append(dst, '\\', c)
			case '\n':
				dst = append(dst, '\\', 'n')
			case '\r':
				dst = append(dst, '\\', 'r')
			case '\t':
				dst = append(dst, '\\', 't')
			default:
				dst = append(dst, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
			}
			i++
			from = i
			continue
		}
		r, n := utf8.DecodeRuneInString(text[i:])
		if r == utf8.RuneError && n == 1 {
			dst = append(dst, text[from:i]...)
			dst = utf8.AppendRune(dst, utf8.RuneError)
			from = i + 1
		}
		i += n
	}
	dst = append(dst, text[from:]...)
	return append(dst, '"')
}

// Payload returns the data as the binary mode carries it, and its content type: JSON as it stands in the event, the
// text of a string where the content type is no JSON, the bytes of data_base64. It returns nil and "" where the event
// has neither data nor datacontenttype. The bytes must not be changed.
func (e *Event) Payload() (data []byte, contentType string, err error) {
	contentType = e.DataContentType()
	if text, ok := e.DataBase64(); ok {
		data, err = base64.StdEncoding.DecodeString(text)
		if data == nil && err == nil {
			data = []byte{}
		}
		return data, contentType, err
	}
	data = e.Data()
	if data == nil {
		return nil, contentType, nil
	}
	if contentType == "" {
		// Leaving the JSON format, what it implies has to be said (JSON format, section 3.1).
		return data, "application/json", nil
	}
	if data[0] == '"' && !IsJSON(contentType) {
		text, _ := appendUnescaped(make([]byte, 0, len(data)), textOf(data[1:len(data)-1]))
		return text, contentType, nil
	}
	return data, contentType, nil
}

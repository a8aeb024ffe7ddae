package event

import (
	"mime"
	"strings"
	"unicode/utf8"
)

// Media types of CloudEvents in JSON.
const (
	MediaType      = "application/cloudevents+json"
	BatchMediaType = "application/cloudevents-batch+json"

	// structuredContentType is what structured events are sent with.
	structuredContentType = MediaType + "; charset=UTF-8"
)

// mode is the way in which a content type says that events come.
type mode uint8

const (
	binaryMode mode = iota
	structuredMode
	batchMode
)

// modeOf tells the mode, by the prefixes of the media type and the batch's first, since it begins with the other's;
// json tells whether the format is JSON.
func modeOf(contentType string) (m mode, json bool) {
	essence := essenceOf(contentType)
	switch {
	case strings.HasPrefix(essence, "application/cloudevents-batch"):
		return batchMode, essence == BatchMediaType
	case strings.HasPrefix(essence, "application/cloudevents"):
		return structuredMode, essence == MediaType
	}
	return binaryMode, false
}

// essenceOf is a content type in lower case without its parameters.
func essenceOf(contentType string) string {
	if i := strings.IndexByte(contentType, ';'); i >= 0 {
		contentType = contentType[:i]
	}
	return strings.ToLower(strings.Trim(contentType, " \t"))
}

// charsetOf is the parameter charset in lower case, "" where there is none or the parameters cannot be read.
func charsetOf(contentType string) string {
	if strings.IndexByte(contentType, ';') < 0 {
		return ""
	}
	_, parameters, err := mime.ParseMediaType(contentType)
	if err != nil {
		return ""
	}
	return strings.ToLower(parameters["charset"])
}

// utf8Compatible tells the charsets whose texts are UTF-8.
func utf8Compatible(charset string) bool {
	return charset == "" || charset == "utf-8" || charset == "utf8" || charset == "us-ascii" || charset == "ascii"
}

// IsJSON tells the content types of JSON data; none means JSON in CloudEvents' JSON format (section 3.1).
func IsJSON(contentType string) bool {
	essence := essenceOf(contentType)
	_, subtype, _ := strings.Cut(essence, "/")
	return contentType == "" || subtype == "json" || strings.HasSuffix(subtype, "+json")
}

// isText tells whether data of a content type that is no JSON is text that JSON can hold as a string without changing
// a byte. Whatever else it is, is binary.
func isText(contentType string, data []byte) bool {
	essence := essenceOf(contentType)
	kind, subtype, _ := strings.Cut(essence, "/")
	switch {
	case kind == "text":
	case subtype == "xml", strings.HasSuffix(subtype, "+xml"), strings.HasSuffix(subtype, "+yaml"):
	case essence == "application/yaml", essence == "application/javascript", essence == "application/graphql",
		essence == "application/x-www-form-urlencoded":
	default:
		return false
	}
	return utf8Compatible(charsetOf(contentType)) && utf8.Valid(data)
}

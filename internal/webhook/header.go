package webhook

import (
	"maps"
	"net/textproto"
	"slices"
	"strings"
)

// Bounds of a subscription's own headers.
const (
	MaxHeaders     = 20
	MaxHeaderBytes = 4 << 10 // names and values together
)

// CheckHeaders says what is wrong with a subscription's own headers, by JSON Pointers into them, in their order. Those
// that tell of the message, of who sends it, or of the connection are not to be had: they are ours to set.
func CheckHeaders(headers map[string]string) []Problem {
	var p problems
	if len(headers) > MaxHeaders {
		p.add("", "there are %d headers, and may be %d", len(headers), MaxHeaders)
		return p
	}
	size := 0
	seen := make(map[string]string, len(headers))
	for _, name := range slices.Sorted(maps.Keys(headers)) {
		value, at := headers[name], "/"+escapePointer(name)
		size += len(name) + len(value)
		if fault := headerNameFault(name); fault != "" {
			p.add(at, "%s", fault)
			continue
		}
		key := textproto.CanonicalMIMEHeaderKey(name)
		if other, ok := seen[key]; ok {
			p.add(at, "it is the same header as %s: names differ by more than their case", other)
			continue
		}
		seen[key] = name
		if fault := headerValueFault(value); fault != "" {
			p.add(at, "the value %s", fault)
		}
	}
	if size > MaxHeaderBytes {
		p.add("", "the headers have %d bytes, and may have %d", size, MaxHeaderBytes)
	}
	return p
}

// headerNameFault says why a header cannot be a subscription's own, "" if it can.
func headerNameFault(name string) string {
	if fault := headerTokenFault(name); fault != "" {
		return fault
	}
	lower := strings.ToLower(name)
	switch lower {
	case "host":
		return "Host is the endpoint's: it follows from the sink"
	case "authorization":
		return "Authorization is the credential's: set sinkcredential"
	case "connection", "keep-alive", "proxy-connection", "proxy-authenticate", "proxy-authorization", "te", "trailer",
		"transfer-encoding", "upgrade", "http2-settings", "expect":
		return name + " is the connection's, and not to be set"
	}
	for _, prefix := range [...]string{"content-", "webhook-", "ce-"} {
		if strings.HasPrefix(lower, prefix) {
			return name + " is the message's: headers that begin with " + prefix + " are not to be set"
		}
	}
	return ""
}

// headerTokenFault says why a text is no name of a header (RFC 9110, section 5.1), "" if it is one.
func headerTokenFault(name string) string {
	if name == "" {
		return "a header's name is expected, and it is empty"
	}
	for i := range len(name) {
		switch c := name[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', strings.IndexByte("!#$%&'*+-.^_`|~", c) >= 0:
		default:
			return "it is no name of a header: letters, digits and hyphens are expected"
		}
	}
	return ""
}

// headerValueFault says why a text is no value of a header (RFC 9110, section 5.5), "" if it is one. It does not show it.
func headerValueFault(value string) string {
	if value == "" {
		return "is empty"
	}
	if strings.Trim(value, " \t") != value {
		return "has white space around it"
	}
	for i := range len(value) {
		if c := value[i]; c != '\t' && (c < ' ' || c > '~') {
			return "holds what no header can: printable ASCII is expected"
		}
	}
	return ""
}

var pointerEscapes = strings.NewReplacer("~", "~0", "/", "~1")

func escapePointer(name string) string {
	const longest = 64
	if len(name) > longest {
		name = strings.ToValidUTF8(name[:longest], "") + "…"
	}
	return pointerEscapes.Replace(name)
}

package event

import (
	"mime"
	"net/netip"
	"strings"
	"unicode/utf8"
)

var coreNames = [coreCount]string{
	coreSpecVersion: "specversion", coreID: "id", coreSource: "source", coreType: "type", coreSubject: "subject",
	coreTime: "time", coreDataContentType: "datacontenttype", coreDataSchema: "dataschema",
}

// check holds the event, whose attributes are attrs, to the specification, a stored event only to what its users rely
// on: the specification's own attributes are strings, and the required ones are there.
func (p *parser) check(e *Event, attrs []attribute) {
	for c := range coreCount {
		i := e.core[c]
		if i == 0 {
			if c <= coreType {
				p.problem(coreNames[c], "a non-empty string", "the required attribute is missing")
			}
			continue
		}
		a := &attrs[i-1]
		if p.stored && c != coreSpecVersion && a.kind == String && a.length > 0 {
			continue
		}
		if !p.checkSet(e, c, a) {
			e.core[c] = 0
		}
	}
	if e.flags&(hasData|hasBase64) == hasData|hasBase64 {
		if e.json[e.data.from:e.data.to] == "null" {
			e.flags &^= hasData
		} else {
			p.problem("data_base64", "either data or data_base64", "the event has both data and data_base64")
		}
	}
	if p.stored {
		return
	}
	for i := range attrs {
		if a := &attrs[i]; a.kind == String {
			p.checkString(e.name(a), e.value(a).text)
		}
	}
	if text, ok := e.DataBase64(); ok && !validBase64(text) {
		p.problem("data_base64", "Base64 (RFC 4648, with padding)", "the value is no Base64")
	}
}

// checkSet checks one of the specification's own attributes, and tells whether it counts as set.
func (p *parser) checkSet(e *Event, c core, a *attribute) bool {
	name, required := coreNames[c], c <= coreType
	if a.kind == Unset {
		if required {
			p.problem(name, "a non-empty string", "the required attribute is missing")
		}
		return false
	}
	if a.kind != String {
		p.problem(name, "a string", "the attribute is no string")
		return false
	}
	text := e.value(a).text
	if text == "" {
		if required {
			p.problem(name, "a non-empty string", "the required attribute is empty")
		} else if !p.stored {
			p.problem(name, "a non-empty string, or leave the attribute out", "the attribute is empty")
		}
		a.kind = Unset
		return false
	}
	if c == coreSpecVersion {
		if text != "1.0" && (!p.stored || !strings.HasPrefix(text, "1.")) {
			p.problem(name, `"1.0"`, "version %q of CloudEvents is not known here", abbreviate(text))
		}
	} else if !p.stored {
		p.checkCore(c, name, text)
	}
	return true
}

// checkCore checks the syntax of one of the specification's own attributes.
func (p *parser) checkCore(c core, name, text string) {
	if noun, expected := coreFault(c, text); noun != "" {
		p.problem(name, expected, "%q is no %s", abbreviate(text), noun)
	}
}

// coreFault tells what the text of one of the specification's own attributes should be and is not; "" where it is.
func coreFault(c core, text string) (noun, expected string) {
	switch c {
	case coreSource:
		if !validURI(text, false) {
			return "URI-reference", "a URI-reference (RFC 3986), with anything else percent-encoded"
		}
	case coreDataSchema:
		if !validURI(text, true) {
			return "absolute URI", "an absolute URI (RFC 3986)"
		}
	case coreTime:
		if !validTime(text) {
			return "timestamp", "a timestamp as in RFC 3339, such as 2026-02-28T17:31:00Z"
		}
	case coreDataContentType:
		if !validMediaType(text) {
			return "media type", "a media type (RFC 2046), such as application/json"
		}
	}
	return "", ""
}

// checkString looks for the characters that CloudEvents' String excludes.
func (p *parser) checkString(name, text string) {
	if r, ok := excluded(text); ok {
		p.problem(name, "text without control characters and noncharacters", "the attribute holds the character U+%04X", r)
	}
}

// excluded finds a character that CloudEvents' String excludes: control characters and noncharacters.
func excluded(text string) (rune, bool) {
	for i := range len(text) {
		if c := text[i]; c >= 0x20 && c < 0x7f {
			continue
		}
		for _, r := range text[i:] {
			if r < 0x20 || r >= 0x7f && r <= 0x9f || r >= 0xfdd0 && r <= 0xfdef || r&0xfffe == 0xfffe {
				return r, true
			}
		}
		return 0, false
	}
	return 0, false
}

var nameCharacters = func() (t [256]bool) {
	for c := range t {
		t[c] = 'a' <= c && c <= 'z' || '0' <= c && c <= '9'
	}
	return t
}()

// validName tells whether name can be that of a context attribute.
func validName(name string) bool {
	for i := range len(name) {
		if !nameCharacters[name[i]] {
			return false
		}
	}
	return name != "" && name != "data"
}

func validBase64(text string) bool {
	if len(text)%4 != 0 {
		return false
	}
	for range 2 {
		text = strings.TrimSuffix(text, "=")
	}
	for i := range len(text) {
		if base64Value(text[i]) < 0 {
			return false
		}
	}
	// The bits of the last character that stand for nothing have to be zero: else two texts stand for the same bytes.
	switch len(text) % 4 {
	case 2:
		return base64Value(text[len(text)-1])&0xf == 0
	case 3:
		return base64Value(text[len(text)-1])&0x3 == 0
	}
	return true
}

func base64Value(c byte) int {
	switch {
	case 'A' <= c && c <= 'Z':
		return int(c - 'A')
	case 'a' <= c && c <= 'z':
		return int(c-'a') + 26
	case '0' <= c && c <= '9':
		return int(c-'0') + 52
	case c == '+':
		return 62
	case c == '/':
		return 63
	}
	return -1
}

// validTime tells whether text is a date-time of RFC 3339. Unlike package time it takes leap seconds and lower-case
// letters, and does not take a comma before the fraction.
func validTime(text string) bool {
	if len(text) < len("2006-01-02T15:04:05Z") {
		return false
	}
	two := func(i int) int {
		a, b := text[i]-'0', text[i+1]-'0'
		if a > 9 || b > 9 {
			return -1 << 10
		}
		return int(a)*10 + int(b)
	}
	in := func(n, low, high int) bool { return n >= low && n <= high }
	year := two(0)*100 + two(2)
	month, day := two(5), two(8)
	hour, minute, second := two(11), two(14), two(17)
	if year < 0 || text[4] != '-' || text[7] != '-' || text[10]|0x20 != 't' || text[13] != ':' || text[16] != ':' ||
		!in(month, 1, 12) || !in(day, 1, daysIn(year, month)) || !in(hour, 0, 23) || !in(minute, 0, 59) || !in(second, 0, 60) {
		return false
	}
	rest := text[19:]
	if rest[0] == '.' {
		n := 1
		for n < len(rest) && '0' <= rest[n] && rest[n] <= '9' {
			n++
		}
		if n == 1 {
			return false
		}
		rest = rest[n:]
	}
	if len(rest) == 1 {
		return rest[0]|0x20 == 'z'
	}
	if len(rest) != len("+00:00") || rest[0] != '+' && rest[0] != '-' || rest[3] != ':' {
		return false
	}
	at := len(text) - len(rest)
	return in(two(at+1), 0, 23) && in(two(at+4), 0, 59)
}

func daysIn(year, month int) int {
	switch month {
	case 4, 6, 9, 11:
		return 30
	case 2:
		if year%4 == 0 && (year%100 != 0 || year%400 == 0) {
			return 29
		}
		return 28
	}
	return 31
}

// The characters of RFC 3986.
const (
	uriPlain  = 1 << iota // unreserved, sub-delims and / ? : @: anywhere behind the scheme
	uriScheme             // in a scheme
)

var uriCharacters = func() (t [256]uint8) {
	for c := range t {
		letter := c|0x20 >= 'a' && c|0x20 <= 'z'
		digit := c >= '0' && c <= '9'
		switch {
		case letter, digit:
			t[c] = uriPlain | uriScheme
		case strings.IndexByte("+-.", byte(c)) >= 0:
			t[c] = uriPlain | uriScheme
		case strings.IndexByte("_~!$&'()*,;=/?:@", byte(c)) >= 0:
			t[c] = uriPlain
		}
	}
	return t
}()

// validURI tells whether text is a URI-reference by the grammar of RFC 3986, or an absolute URI, one with a scheme.
func validURI(text string, absolute bool) bool {
	scheme := strings.IndexAny(text, ":/?#")
	if scheme >= 0 && text[scheme] != ':' {
		scheme = -1
	}
	if scheme >= 0 && !validScheme(text[:scheme]) || absolute && scheme < 0 {
		return false
	}
	rest := text[scheme+1:]
	if strings.HasPrefix(rest, "//") {
		authority := rest[2:]
		if n := strings.IndexAny(authority, "/?#"); n >= 0 {
			authority = authority[:n]
		}
		if !validAuthority(authority) {
			return false
		}
		rest = rest[2+len(authority):]
	}
	path, fragment, _ := strings.Cut(rest, "#")
	return text != "" && validURIText(path) && validURIText(fragment)
}

// validURIText tells whether text has only what may stand in a path, a query or a fragment.
func validURIText(text string) bool {
	for i := 0; i < len(text); i++ {
		if c := text[i]; uriCharacters[c]&uriPlain == 0 {
			if c != '%' || i+2 >= len(text) {
				return false
			}
			_, high := hexDigit(text[i+1])
			_, low := hexDigit(text[i+2])
			if !high || !low {
				return false
			}
			i += 2
		}
	}
	return true
}

// validAuthority checks [userinfo@]host[:port].
func validAuthority(text string) bool {
	host := text
	if n := strings.IndexByte(text, '@'); n >= 0 {
		if !validURIText(text[:n]) {
			return false
		}
		host = text[n+1:]
	}
	port := ""
	if strings.HasPrefix(host, "[") {
		n := strings.IndexByte(host, ']')
		if n < 0 || !validIPLiteral(host[1:n]) {
			return false
		}
		if port = host[n+1:]; port != "" && port[0] != ':' {
			return false
		}
		port = strings.TrimPrefix(port, ":")
	} else {
		if host, port, _ = strings.Cut(host, ":"); strings.IndexByte(host, '@') >= 0 || !validURIText(host) {
			return false
		}
	}
	return strings.Trim(port, "0123456789") == ""
}

// validIPLiteral checks what stands between the brackets of a host: an IPv6 address, or one of a later version.
func validIPLiteral(text string) bool {
	if len(text) > 0 && text[0]|0x20 == 'v' {
		version, address, ok := strings.Cut(text[1:], ".")
		return ok && version != "" && strings.Trim(version, "0123456789abcdefABCDEF") == "" &&
			address != "" && validURIText(address) && !strings.ContainsAny(address, "%/?@")
	}
	address, err := netip.ParseAddr(text)
	return err == nil && address.Is6() && address.Zone() == ""
}

func validScheme(text string) bool {
	if text == "" || text[0]|0x20 < 'a' || text[0]|0x20 > 'z' {
		return false
	}
	for i := 1; i < len(text); i++ {
		if uriCharacters[text[i]]&uriScheme == 0 {
			return false
		}
	}
	return true
}

// validMediaType tells whether text is a media type with or without parameters.
func validMediaType(text string) bool {
	essence, _, parameters := strings.Cut(text, ";")
	essence = strings.TrimRight(essence, " \t")
	slash := strings.IndexByte(essence, '/')
	if slash <= 0 || slash == len(essence)-1 {
		return false
	}
	for i := range len(essence) {
		if i != slash && !tokenCharacter(essence[i]) {
			return false
		}
	}
	if !parameters {
		return len(essence) == len(text)
	}
	_, _, err := mime.ParseMediaType(text)
	return err == nil
}

// tokenCharacter tells the characters of a token of RFC 9110.
func tokenCharacter(c byte) bool {
	return c|0x20 >= 'a' && c|0x20 <= 'z' || c >= '0' && c <= '9' || c < 0x80 && strings.IndexByte("!#$%&'*+-.^_`|~", c) >= 0
}

// abbreviate cuts a text that is going to be quoted in a message.
func abbreviate(text string) string {
	const longest = 60
	if len(text) <= longest {
		return text
	}
	n := longest
	for n > 0 && !utf8.RuneStart(text[n]) {
		n--
	}
	return text[:n] + "…"
}

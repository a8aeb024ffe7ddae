package schema

import (
	"errors"
	"fmt"
	"regexp"
	"regexp/syntax"
	"strconv"
	"strings"
	"unicode/utf16"
)

// maxProgram bounds what a short regular expression may expand to: (a{1000}){1000} is fourteen bytes.
const maxProgram = 5000

// ECMA-262's white space, and everything else, as ranges for a character class.
const (
	spaces    = `\x09-\x0d\x20\x{a0}\x{1680}\x{2000}-\x{200a}\x{2028}\x{2029}\x{202f}\x{205f}\x{3000}\x{feff}`
	nonSpaces = `\x00-\x08\x0e-\x1f\x21-\x{9f}\x{a1}-\x{167f}\x{1681}-\x{1fff}\x{200b}-\x{2027}\x{202a}-\x{202e}` +
		`\x{2030}-\x{205e}\x{2060}-\x{2fff}\x{3001}-\x{fefe}\x{ff00}-\x{10ffff}`
	anyCharacter = `\x00-\x{10ffff}`
)

// pattern is a regular expression of a schema: ECMA-262 by its spelling, matched in linear time.
type pattern struct {
	source string
	re     *regexp.Regexp
	cost   int // instructions
}

// String is the expression as the schema has it.
func (p *pattern) String() string { return p.source }

// MatchString reports whether the expression matches anywhere in s.
func (p *pattern) MatchString(s string) bool { return p.re.MatchString(s) }

func compilePattern(source string, maxLength int) (*pattern, error) {
	if len(source) > maxLength {
		return nil, fmt.Errorf("a regular expression of %d bytes: at most %d are taken", len(source), maxLength)
	}
	translated, err := translate(source)
	if err != nil {
		return nil, err
	}
	parsed, err := syntax.Parse(translated, syntax.Perl)
	if err != nil {
		var bad *syntax.Error
		if errors.As(err, &bad) {
			err = errors.New(bad.Code.String())
		}
		return nil, fmt.Errorf("regular expression %q: %w", source, err)
	}
	program, err := syntax.Compile(parsed.Simplify())
	if err != nil {
		return nil, fmt.Errorf("regular expression %q: %w", source, err)
	}
	if len(program.Inst) > maxProgram {
		return nil, fmt.Errorf("regular expression %q repeats too much: it takes %d steps a character, at most %d are taken",
			source, len(program.Inst), maxProgram)
	}
	re, err := regexp.Compile(translated)
	if err != nil {
		return nil, fmt.Errorf("regular expression %q: %w", source, err)
	}
	return &pattern{source: source, re: re, cost: len(program.Inst)}, nil
}

// translate turns ECMA-262's spelling into RE2's, and refuses what RE2 has no like of.
func translate(s string) (string, error) {
	var b strings.Builder
	inClass := false
	for i := 0; i < len(s); {
		rest := s[i:]
		switch c := s[i]; {
		case c == '\\':
			text, n, err := translateEscape(rest, inClass)
			if err != nil {
				return "", fmt.Errorf("regular expression %q: %w", s, err)
			}
			b.WriteString(text)
			i += n
			continue
		case inClass && c == ']':
			inClass = false
			b.WriteByte(c)
		case inClass && c == '[': // RE2 would take [: as the start of a named class
			b.WriteString(`\[`)
		case inClass:
			b.WriteByte(c)
		case strings.HasPrefix(rest, "[^]"):
			b.WriteString("[" + anyCharacter + "]")
			i += 3
			continue
		case strings.HasPrefix(rest, "[]"):
			b.WriteString("[^" + anyCharacter + "]")
			i += 2
			continue
		case c == '[':
			inClass = true
			b.WriteByte(c)
			if strings.HasPrefix(rest, "[^") {
				b.WriteByte('^')
				i++
			}
		case c == '.':
			b.WriteString(`[^\n\r\x{2028}\x{2029}]`)
		case strings.HasPrefix(rest, "(?=") || strings.HasPrefix(rest, "(?!"):
			return "", fmt.Errorf("regular expression %q: lookahead %s is not taken, for matching takes linear time here; write it without, or as two patterns in allOf", s, rest[:3])
		case strings.HasPrefix(rest, "(?<=") || strings.HasPrefix(rest, "(?<!"):
			return "", fmt.Errorf("regular expression %q: lookbehind %s is not taken, for matching takes linear time here", s, rest[:4])
		default:
			b.WriteByte(c)
		}
		i++
	}
	return b.String(), nil
}

// translateEscape reads the escape at the start of s: what it is for RE2, and its length.
func translateEscape(s string, inClass bool) (string, int, error) {
	if len(s) < 2 {
		return "", 0, errors.New("it ends with a backslash")
	}
	class := func(ranges string) (string, int, error) {
		if !inClass {
			ranges = "[" + ranges + "]"
		}
		return ranges, 2, nil
	}
	switch c := s[1]; c {
	case 'd', 'D', 'w', 'W', 't', 'n', 'v', 'f', 'r', 'B':
		return s[:2], 2, nil
	case 'b':
		if inClass {
			return `\x08`, 2, nil
		}
		return s[:2], 2, nil
	case 's':
		return class(spaces)
	case 'S':
		return class(nonSpaces)
	case 'c':
		if len(s) > 2 && ('a' <= s[2]|0x20 && s[2]|0x20 <= 'z') {
			return fmt.Sprintf(`\x%02x`, s[2]&31), 3, nil
		}
		return "", 0, errors.New(`\c must be followed by a letter`)
	case 'x':
		if len(s) >= 4 {
			if _, err := strconv.ParseUint(s[2:4], 16, 8); err == nil {
				return `\x{` + s[2:4] + `}`, 4, nil
			}
		}
		return "", 0, errors.New(`\x must be followed by two hexadecimal digits`)
	case 'u':
		return translateUnicode(s)
	case 'p', 'P':
		if end := strings.IndexByte(s, '}'); end > 0 && strings.HasPrefix(s[2:], "{") {
			return s[:2] + "{" + unicodeClass(s[3:end]) + "}", end + 1, nil
		}
		return "", 0, fmt.Errorf(`\%c must be followed by a property in braces`, c)
	case '0':
		return `\x00`, 2, nil
	case 'k':
		return "", 0, errors.New("a back reference is not taken, for matching takes linear time here")
	default:
		switch {
		case '1' <= c && c <= '9':
			return "", 0, errors.New("a back reference is not taken, for matching takes linear time here")
		case c == '/':
			return "/", 2, nil
		case 'a' <= c|0x20 && c|0x20 <= 'z':
			return "", 0, fmt.Errorf(`\%c is no escape of ECMA-262`, c)
		case c >= 0x80: // the character itself
			return "", 1, nil
		}
		return s[:2], 2, nil // RE2 lets any sign be escaped
	}
}

func translateUnicode(s string) (string, int, error) {
	if strings.HasPrefix(s, `\u{`) {
		if end := strings.IndexByte(s, '}'); end > 0 {
			if r, err := strconv.ParseUint(s[3:end], 16, 32); err == nil && r <= 0x10ffff {
				return fmt.Sprintf(`\x{%x}`, r), end + 1, nil
			}
		}
		return "", 0, errors.New(`\u{ must be followed by a code point and }`)
	}
	unit := func(at int) (rune, bool) {
		if len(s) < at+6 || s[at:at+2] != `\u` {
			return 0, false
		}
		r, err := strconv.ParseUint(s[at+2:at+6], 16, 16)
		return rune(r), err == nil
	}
	r, ok := unit(0)
	if !ok {
		return "", 0, errors.New(`\u must be followed by four hexadecimal digits`)
	}
	if !utf16.IsSurrogate(r) {
		return fmt.Sprintf(`\x{%x}`, r), 6, nil
	}
	low, ok := unit(6)
	if r = utf16.DecodeRune(r, low); !ok || r == 0xfffd {
		return "", 0, errors.New(`\u with half a surrogate pair matches no character`)
	}
	return fmt.Sprintf(`\x{%x}`, r), 12, nil
}

// unicodeClass is RE2's name of a Unicode property.
func unicodeClass(name string) string {
	for _, prefix := range []string{"Script=", "sc=", "Script_Extensions=", "scx=", "General_Category=", "gc="} {
		name = strings.TrimPrefix(name, prefix)
	}
	switch name {
	case "Letter":
		return "L"
	case "Lowercase_Letter", "Lowercase":
		return "Ll"
	case "Uppercase_Letter", "Uppercase":
		return "Lu"
	case "Mark":
		return "M"
	case "Number":
		return "N"
	case "Decimal_Number", "digit":
		return "Nd"
	case "Punctuation", "punct":
		return "P"
	case "Symbol":
		return "S"
	case "Separator":
		return "Z"
	}
	return name
}

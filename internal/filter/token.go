package filter

import (
	"strings"
	"unicode/utf8"
)

// tokenKind tells the kinds of tokens.
type tokenKind uint8

const (
	tokenEnd     tokenKind = iota
	tokenWord              // a keyword, an attribute or a function
	tokenInteger           // with its sign
	tokenString            // with its quotes
	tokenSymbol            // an operator, a bracket or a comma
)

type token struct {
	kind tokenKind
	text string // as it stands in the expression, keywords in upper case
	at   int
}

// advance reads the next token.
func (r *sqlReader) advance() {
	last := r.token
	at := r.end
	for at < len(r.text) && strings.IndexByte(" \t\r\n", r.text[at]) >= 0 {
		at++
	}
	rest := r.text[at:]
	r.token = token{at: at}
	if rest == "" {
		r.end = at
		return
	}
	n := 0
	switch c := rest[0]; {
	case wordCharacter(c):
		r.token.kind, n = tokenWord, countWord(rest)
		if countDigits(rest) == n {
			r.token.kind = tokenInteger
		}
	case (c == '-' || c == '+') && countDigits(rest[1:]) > 0 && !endsOperand(last):
		r.token.kind, n = tokenInteger, 1+countDigits(rest[1:])
	case c == '\'' || c == '"':
		r.token.kind, n = tokenString, countString(rest)
		if n == 0 {
			r.fail(at, "the quotes are not closed")
		}
	default:
		r.token.kind, n = tokenSymbol, countSymbol(rest)
		if n == 0 {
			_, n = utf8.DecodeRuneInString(rest)
			r.fail(at, "%s begins nothing that CESQL has", quote(rest[:n]))
		}
	}
	r.token.text = rest[:n]
	if r.token.kind == tokenWord && isKeyword(rest[:n]) {
		r.token.text = strings.ToUpper(rest[:n])
	}
	r.end = at + n
}

func wordCharacter(c byte) bool {
	return c|0x20 >= 'a' && c|0x20 <= 'z' || c >= '0' && c <= '9' || c == '_'
}

func countWord(text string) (n int) {
	for n < len(text) && wordCharacter(text[n]) {
		n++
	}
	return n
}

func countDigits(text string) (n int) {
	for n < len(text) && text[n] >= '0' && text[n] <= '9' {
		n++
	}
	return n
}

// countString is the length of a string literal, in which a backslash keeps what follows, and the quote twice is no
// end; 0 if it has no end.
func countString(text string) int {
	for i := 1; i < len(text); i++ {
		switch text[i] {
		case '\\':
			i++
		case text[0]:
			if i+1 < len(text) && text[i+1] == text[0] {
				i++
				continue
			}
			return i + 1
		}
	}
	return 0
}

func countSymbol(text string) int {
	if len(text) > 1 {
		switch text[:2] {
		case "!=", "<>", "<=", ">=":
			return 2
		}
	}
	if strings.IndexByte("()*,/%+-=<>", text[0]) >= 0 {
		return 1
	}
	return 0
}

// endsOperand tells whether a sign after the token is an operator rather than a number's own.
func endsOperand(t token) bool {
	switch t.kind {
	case tokenInteger, tokenString:
		return true
	case tokenWord:
		return !isKeyword(t.text) || t.text == "TRUE" || t.text == "FALSE"
	}
	return t.text == ")"
}

func isKeyword(word string) bool {
	switch len(word) {
	case 2, 3, 4, 5, 6:
		switch strings.ToUpper(word) {
		case "AND", "OR", "XOR", "NOT", "LIKE", "EXISTS", "IN", "TRUE", "FALSE":
			return true
		}
	}
	return false
}

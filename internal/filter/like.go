package filter

import (
	"strings"
	"unicode/utf8"

	sqlerrors "github.com/cloudevents/sdk-go/sql/v2/errors"
)

// anyRune stands for _ in a segment.
const anyRune rune = -1

// maxLikeText bounds the texts that patterns with _ between two % are tried on, since that takes time in proportion to
// the product of both lengths.
const maxLikeText = 4 << 10

// pattern is the pattern of a LIKE: segments between the percent signs, matched from left to right, the first and the
// last where the text begins and ends. It needs no backtracking beyond the segment that it is at.
type pattern struct {
	text     string // as it stands in the expression
	segments []segment
	slow     bool // a segment in the middle has _
}

type segment struct {
	literal string // where no _ is in it
	runes   []rune // else; anyRune for _
}

func newPattern(text string) *pattern {
	p := &pattern{text: text}
	var runes []rune
	wild := false
	flush := func() {
		s := segment{literal: string(runes)}
		if wild {
			s = segment{runes: runes}
		}
		p.segments = append(p.segments, s)
		runes, wild = nil, false
	}
	for i := 0; i < len(text); {
		r, n := utf8.DecodeRuneInString(text[i:])
		i += n
		switch r {
		case '%':
			flush()
			continue
		case '_':
			runes = append(runes, anyRune)
			wild = true
			continue
		case '\\':
			if i < len(text) && (text[i] == '%' || text[i] == '_') {
				r = rune(text[i])
				i++
			}
		}
		runes = append(runes, r)
	}
	flush()
	for i := 1; i < len(p.segments)-1; i++ {
		p.slow = p.slow || p.segments[i].runes != nil
	}
	return p
}

// simple tells what the pattern says without LIKE: that a text begins with, ends in or is the literal.
func (p *pattern) simple() (kind byte, literal string) {
	for _, s := range p.segments {
		if s.runes != nil {
			return 0, ""
		}
	}
	switch {
	case len(p.segments) == 1:
		return '=', p.segments[0].literal
	case len(p.segments) == 2 && p.segments[1].literal == "":
		return '^', p.segments[0].literal
	case len(p.segments) == 2 && p.segments[0].literal == "":
		return '$', p.segments[1].literal
	}
	return 0, ""
}

// ends are the literals that every text that fits begins with and ends in.
func (p *pattern) ends() (first, last string) {
	s := &p.segments[0]
	first = s.literal
	for _, r := range s.runes {
		if r == anyRune {
			break
		}
		first += string(r)
	}
	s = &p.segments[len(p.segments)-1]
	last = s.literal
	for i := len(s.runes) - 1; i >= 0 && s.runes[i] != anyRune; i-- {
		last = string(s.runes[i]) + last
	}
	return first, last
}

// match tells whether the whole text fits.
func (p *pattern) match(text string) (bool, error) {
	if p.slow && len(text) > maxLikeText {
		return false, errLikeText
	}
	first, last := &p.segments[0], &p.segments[len(p.segments)-1]
	n := first.at(text)
	if n < 0 {
		return false, nil
	}
	if first == last {
		return n == len(text), nil
	}
	text = text[n:]
	tail := last.atEnd(text)
	if tail < 0 {
		return false, nil
	}
	text = text[:tail]
	for i := 1; i < len(p.segments)-1; i++ {
		from, to := p.segments[i].find(text)
		if from < 0 {
			return false, nil
		}
		text = text[to:]
	}
	return true, nil
}

// at returns how many bytes of text the segment takes at its beginning, -1 if it is not there.
func (s *segment) at(text string) int {
	if s.runes == nil {
		if strings.HasPrefix(text, s.literal) {
			return len(s.literal)
		}
		return -1
	}
	i := 0
	for _, want := range s.runes {
		if i == len(text) {
			return -1
		}
		r, n := utf8.DecodeRuneInString(text[i:])
		if want != anyRune && want != r {
			return -1
		}
		i += n
	}
	return i
}

// atEnd returns where the segment begins at the end of text, -1 if it is not there.
func (s *segment) atEnd(text string) int {
	if s.runes == nil {
		if strings.HasSuffix(text, s.literal) {
			return len(text) - len(s.literal)
		}
		return -1
	}
	begin := len(text)
	for range s.runes {
		if begin == 0 {
			return -1
		}
		_, n := utf8.DecodeLastRuneInString(text[:begin])
		begin -= n
	}
	if s.at(text[begin:]) != len(text)-begin {
		return -1
	}
	return begin
}

// find returns the first place in text where the segment is.
func (s *segment) find(text string) (from, to int) {
	if s.runes == nil {
		if from = strings.Index(text, s.literal); from < 0 {
			return -1, -1
		}
		return from, from + len(s.literal)
	}
	for from <= len(text) {
		if n := s.at(text[from:]); n >= 0 {
			return from, from + n
		}
		if from == len(text) {
			break
		}
		_, n := utf8.DecodeRuneInString(text[from:])
		from += n
	}
	return -1, -1
}

var errLikeText = sqlerrors.NewFunctionEvaluationError(errTooLong)

package schema

import (
	"math/big"
	"regexp/syntax"
	"slices"
	"strings"
	"unicode/utf8"
)

func (c *conjunction) sampleNumbers(around []*node) []value {
	one, half := big.NewRat(1, 1), big.NewRat(1, 2)
	var out []value
	add := func(r *big.Rat) { out = append(out, numberValue(numberOf(r).String())) }
	b := c.bounds()
	nodes := append(slices.Clone(around), c.nodes...)
	for _, n := range nodes {
		for _, at := range []*number{n.minimum, n.maximum, n.exclusiveMinimum, n.exclusiveMaximum} {
			if at == nil {
				continue
			}
			r := at.rat()
			add(r)
			for _, d := range []*big.Rat{one, half} {
				add(new(big.Rat).Add(r, d))
				add(new(big.Rat).Sub(r, d))
			}
		}
		if n.divisor != nil {
			d := n.divisor.rat()
			add(new(big.Rat).Mul(d, half))
			add(d)
		}
	}
	// Multiples of the divisors at the bounds.
	for _, d := range b.divisors {
		step := d.rat()
		for _, at := range []*number{b.low, b.high} {
			if at == nil || step.Sign() == 0 {
				continue
			}
			q := new(big.Rat).Quo(at.rat(), step)
			k := new(big.Int).Quo(q.Num(), q.Denom())
			for _, i := range []int64{-1, 0, 1} {
				m := new(big.Rat).SetInt(new(big.Int).Add(k, big.NewInt(i)))
				add(m.Mul(m, step))
			}
		}
		for _, i := range []int64{1, 2, 3, 5, -1} {
			add(new(big.Rat).Mul(step, big.NewRat(i, 1)))
		}
	}
	for _, s := range []string{"0", "1", "-1", "0.5", "7", "100", "-100", "1000000007", "0.125"} {
		out = append(out, numberValue(s))
	}
	return out
}

func (c *conjunction) sampleStrings(around []*node) []value {
	var texts []string
	lengths := []int{0, 1}
	for _, n := range append(slices.Clone(around), c.nodes...) {
		for _, l := range []*int{n.minLength, n.maxLength} {
			if l != nil && *l < 5000 {
				lengths = append(lengths, *l-1, *l, *l+1)
			}
		}
		if n.pattern != nil {
			texts = append(texts, n.pattern.samples()...)
		}
		if n.format != nil {
			texts = append(texts, formatSamples(n.format.Name)...)
		}
		for i := range n.enum {
			texts = append(texts, n.enum[i].text)
		}
		if n.hasConst {
			texts = append(texts, n.constant.text)
		}
	}
	texts = append(texts, "", "a", "other", "A", "0", "a b", "Zz-9_é", "\u0000")
	var out []value
	for _, l := range lengths {
		if l >= 0 {
			out = append(out, stringValue(strings.Repeat("a", l)), stringValue(strings.Repeat("7", l)))
		}
	}
	for _, s := range texts {
		out = append(out, stringValue(s))
		for _, l := range lengths { // a pattern is often open at an end
			if n := l - utf8.RuneCountInString(s); n > 0 && s != "" {
				last, _ := utf8.DecodeLastRuneInString(s)
				out = append(out, stringValue(s+strings.Repeat(string(last), n)))
			}
		}
	}
	return out
}

func formatSamples(name string) []string {
	switch name {
	case "date-time":
		return []string{"2026-03-01T12:00:00Z"}
	case "date":
		return []string{"2026-03-01"}
	case "time":
		return []string{"12:00:00Z"}
	case "duration":
		return []string{"PT15M"}
	case "email", "idn-email":
		return []string{"a@example.com"}
	case "uri", "iri":
		return []string{"https://example.com/a"}
	case "uri-reference", "iri-reference":
		return []string{"/a", "https://example.com/a", "a"}
	case "uuid":
		return []string{"2eb8aa08-aa98-11ea-b4aa-73b441d16380"}
	case "ipv4":
		return []string{"192.0.2.1"}
	case "ipv6":
		return []string{"2001:db8::1"}
	case "hostname", "idn-hostname":
		return []string{"example.com"}
	case "json-pointer":
		return []string{"/a"}
	case "regex":
		return []string{"^a$"}
	}
	return nil
}

// sampleRegexp writes a string that a regular expression matches; the choice varies which.
func sampleRegexp(b *strings.Builder, re *syntax.Regexp, choice int) bool {
	if b.Len() > 4000 {
		return false
	}
	switch re.Op {
	case syntax.OpLiteral:
		b.WriteString(string(re.Rune))
	case syntax.OpCharClass:
		if len(re.Rune) == 0 {
			return false
		}
		r := re.Rune[0]
		for i := 0; i < len(re.Rune); i += 2 { // something to look at, where there is
			if lo, hi := re.Rune[i], re.Rune[i+1]; lo <= 'z' && hi >= '0' {
				r = max(lo, '0')
				if hi >= 'a' && lo <= 'a' && choice != 1 {
					r = 'a'
				}
				break
			}
		}
		b.WriteRune(r)
	case syntax.OpAnyChar, syntax.OpAnyCharNotNL:
		b.WriteByte("ax0"[choice%3])
	case syntax.OpStar, syntax.OpQuest:
		if choice > 0 {
			return sampleRegexp(b, re.Sub[0], choice)
		}
	case syntax.OpPlus, syntax.OpCapture:
		return sampleRegexp(b, re.Sub[0], choice)
	case syntax.OpConcat:
		for _, s := range re.Sub {
			if !sampleRegexp(b, s, choice) {
				return false
			}
		}
	case syntax.OpAlternate:
		return sampleRegexp(b, re.Sub[choice%len(re.Sub)], choice)
	case syntax.OpNoMatch:
		return false
	}
	return true
}

// samples are some strings that a pattern is likely to match.
func (p *pattern) samples() []string {
	re, err := syntax.Parse(p.re.String(), syntax.Perl)
	if err != nil {
		return nil
	}
	re = re.Simplify()
	var out []string
	for choice := range 3 {
		var b strings.Builder
		if sampleRegexp(&b, re, choice) && !slices.Contains(out, b.String()) {
			out = append(out, b.String())
		}
	}
	return out
}

package schema

import (
	"math/big"
	"strconv"
	"strings"
)

// number is an exact decimal: digits × 10^exp, without leading or trailing zeros, so that equal numbers are equal here.
// Zero has no digits. What fits in 18 digits is also in small, with its sign.
type number struct {
	negative bool
	digits   string
	exp      int
	small    int64
	isSmall  bool
}

// parseNumber reads a number that the decoder has let through.
func parseNumber(s string) number {
	var n number
	if s[0] == '-' {
		n.negative = true
		s = s[1:]
	}
	if i := strings.IndexAny(s, "eE"); i >= 0 {
		n.exp, _ = strconv.Atoi(strings.TrimPrefix(s[i+1:], "+"))
		s = s[:i]
	}
	if i := strings.IndexByte(s, '.'); i >= 0 {
		n.exp -= len(s) - i - 1
		if s[:i] == "0" {
			s = s[i+1:]
		} else {
			s = s[:i] + s[i+1:]
		}
	}
	s = strings.TrimLeft(s, "0")
	n.digits = strings.TrimRight(s, "0")
	n.exp += len(s) - len(n.digits)
	if n.digits == "" {
		return number{isSmall: true}
	}
	if len(n.digits) <= 18 {
		n.isSmall = true
		for _, c := range []byte(n.digits) {
			n.small = n.small*10 + int64(c-'0')
		}
		if n.negative {
			n.small = -n.small
		}
	}
	return n
}

// numberOf is exact for what was once written as a decimal.
func numberOf(r *big.Rat) *number {
	if r == nil {
		return nil
	}
	precision, _ := r.FloatPrec()
	n := parseNumber(r.FloatString(precision))
	return &n
}

func (n number) equal(m number) bool {
	return n.negative == m.negative && n.exp == m.exp && n.digits == m.digits
}

func (n number) integer() bool { return n.exp >= 0 }

func (n number) sign() int {
	switch {
	case n.digits == "":
		return 0
	case n.negative:
		return -1
	}
	return 1
}

// aligned gives both as integers over one power of ten, where they are small enough.
func aligned(n, m number) (a, b int64, ok bool) {
	if !n.isSmall || !m.isSmall {
		return 0, 0, false
	}
	e := min(n.exp, m.exp)
	if n.small == 0 {
		e = m.exp
	} else if m.small == 0 {
		e = n.exp
	}
	if a, ok = scaled(n, e); !ok {
		return 0, 0, false
	}
	b, ok = scaled(m, e)
	return a, b, ok
}

func scaled(n number, e int) (int64, bool) {
	if n.small == 0 {
		return 0, true
	}
	shift := n.exp - e
	if len(n.digits)+shift > 18 {
		return 0, false
	}
	s := n.small
	for range shift {
		s *= 10
	}
	return s, true
}

func (n number) cmp(m number) int {
	if a, b, ok := aligned(n, m); ok {
		switch {
		case a < b:
			return -1
		case a > b:
			return 1
		}
		return 0
	}
	return n.rat().Cmp(m.rat())
}

func (n number) multipleOf(m number) bool {
	if m.sign() == 0 {
		return false
	}
	if a, b, ok := aligned(n, m); ok {
		return a%b == 0
	}
	return new(big.Rat).Quo(n.rat(), m.rat()).IsInt()
}

func (n number) rat() *big.Rat {
	i, _ := new(big.Int).SetString("0"+n.digits, 10)
	if n.negative {
		i.Neg(i)
	}
	if n.exp >= 0 {
		return new(big.Rat).SetInt(i.Mul(i, power(n.exp)))
	}
	return new(big.Rat).SetFrac(i, power(-n.exp))
}

func power(e int) *big.Int { return new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(e)), nil) }

// String is the number's one canonical text: plain digits where that is short, else with an exponent.
func (n number) String() string {
	if n.digits == "" {
		return "0"
	}
	sign := ""
	if n.negative {
		sign = "-"
	}
	point := len(n.digits) + n.exp // where the decimal point stands
	switch {
	case n.exp >= 0 && point <= 21:
		return sign + n.digits + strings.Repeat("0", n.exp)
	case 0 < point && point <= 21:
		return sign + n.digits[:point] + "." + n.digits[point:]
	case -6 < point && point <= 0:
		return sign + "0." + strings.Repeat("0", -point) + n.digits
	}
	e := point - 1
	mantissa := n.digits[:1]
	if len(n.digits) > 1 {
		mantissa += "." + n.digits[1:]
	}
	if e >= 0 {
		return sign + mantissa + "e+" + strconv.Itoa(e)
	}
	return sign + mantissa + "e" + strconv.Itoa(e)
}

// ceiling is the least integer that is at least n, or above it.
func (n number) ceiling(above bool) number {
	if n.integer() {
		if !above {
			return n
		}
		return n.plus(1)
	}
	f := n.truncated()
	if n.negative {
		return f
	}
	return f.plus(1)
}

// floor is the greatest integer that is at most n, or below it.
func (n number) floor(below bool) number {
	if n.integer() {
		if !below {
			return n
		}
		return n.plus(-1)
	}
	f := n.truncated()
	if n.negative {
		return f.plus(-1)
	}
	return f
}

// truncated leaves a fraction out.
func (n number) truncated() number {
	whole := len(n.digits) + n.exp
	if whole <= 0 {
		return number{isSmall: true}
	}
	s := n.digits[:whole]
	if n.negative {
		s = "-" + s
	}
	return parseNumber(s)
}

func (n number) plus(i int64) number {
	sum := n.rat()
	sum.Add(sum, new(big.Rat).SetInt64(i))
	return *numberOf(sum)
}

func formatInt(i int64) string { return strconv.FormatInt(i, 10) }

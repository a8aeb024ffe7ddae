package schema

// bounds are the tightest bounds of a case's numbers.
type bounds struct {
	low, high         *number
	lowOpen, highOpen bool
	integer           bool
	divisors          []number
}

func (c *conjunction) bounds() bounds {
	b := bounds{integer: c.kinds == kindInteger}
	for _, n := range c.nodes {
		b.raise(n.minimum, false)
		b.raise(n.exclusiveMinimum, true)
		b.lower(n.maximum, false)
		b.lower(n.exclusiveMaximum, true)
		if n.divisor != nil {
			b.divisors = append(b.divisors, *n.divisor)
			b.integer = b.integer || n.divisor.integer()
		}
	}
	return b
}

func (b *bounds) raise(to *number, open bool) {
	if to == nil {
		return
	}
	if b.low != nil {
		if c := to.cmp(*b.low); c < 0 || (c == 0 && !open) {
			return
		}
	}
	b.low, b.lowOpen = to, open
}

func (b *bounds) lower(to *number, open bool) {
	if to == nil {
		return
	}
	if b.high != nil {
		if c := to.cmp(*b.high); c > 0 || (c == 0 && !open) {
			return
		}
	}
	b.high, b.highOpen = to, open
}

// atLeast is whether all numbers within the bounds are at least n, or above it where open.
func (b bounds) atLeast(n number, open bool) bool {
	if b.low == nil {
		return false
	}
	low, lowOpen := *b.low, b.lowOpen
	if b.integer {
		low, lowOpen = low.ceiling(lowOpen), false
	}
	c := low.cmp(n)
	return c > 0 || (c == 0 && (!open || lowOpen))
}

// atMost is whether all numbers within the bounds are at most n, or below it where open.
func (b bounds) atMost(n number, open bool) bool {
	if b.high == nil {
		return false
	}
	high, highOpen := *b.high, b.highOpen
	if b.integer {
		high, highOpen = high.floor(highOpen), false
	}
	c := high.cmp(n)
	return c < 0 || (c == 0 && (!open || highOpen))
}

// integers lists the integers within the bounds, where they are few.
func (b bounds) integers() ([]value, bool) {
	const few = 64
	if b.low == nil || b.high == nil {
		return nil, false
	}
	low, high := b.low.ceiling(b.lowOpen), b.high.floor(b.highOpen)
	l, h, ok := aligned(low, high)
	if low.exp != 0 || high.exp != 0 { // then the two are not in units
		var lok, hok bool
		l, lok = scaled(low, 0)
		h, hok = scaled(high, 0)
		ok = lok && hok
	}
	if !ok || h-l >= few {
		return nil, false
	}
	var out []value
	for i := l; i <= h; i++ {
		out = append(out, numberValue(formatInt(i)))
	}
	return out, true
}

func (b bounds) empty() bool {
	if b.low == nil || b.high == nil {
		return false
	}
	c := b.low.cmp(*b.high)
	return c > 0 || (c == 0 && (b.lowOpen || b.highOpen))
}

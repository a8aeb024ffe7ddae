package main

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// ByteSize is a number of bytes, written as 4096, 64KiB, 8MiB or 2GiB (powers of 1024), or 10MB (powers of 1000).
type ByteSize int64

// byteUnits are ordered so that a suffix is found before one that it ends with.
var byteUnits = []struct {
	suffix string
	factor float64
}{
	{"KIB", 1 << 10},
	{"MIB", 1 << 20},
	{"GIB", 1 << 30},
	{"TIB", 1 << 40},
	{"KB", 1e3},
	{"MB", 1e6},
	{"GB", 1e9},
	{"TB", 1e12},
	{"K", 1 << 10},
	{"M", 1 << 20},
	{"G", 1 << 30},
	{"T", 1 << 40},
	{"B", 1},
	{"", 1},
}

// UnmarshalText implements encoding.TextUnmarshaler.
func (b *ByteSize) UnmarshalText(text []byte) error {
	upper := strings.ToUpper(strings.TrimSpace(string(text)))
	for _, unit := range byteUnits {
		digits, ok := strings.CutSuffix(upper, unit.suffix)
		if !ok {
			continue
		}
		n, err := strconv.ParseFloat(strings.TrimSpace(digits), 64)
		if err != nil || n < 0 || math.IsNaN(n) || n*unit.factor > math.MaxInt64/2 {
			break
		}
		*b = ByteSize(n * unit.factor)
		return nil
	}
	return fmt.Errorf("%q is no size: write a number of bytes, or one with a unit, such as 64KiB or 256MiB", text)
}

// String gives the largest unit that keeps it exact.
func (b ByteSize) String() string {
	for i := 3; i >= 0; i-- {
		if factor := int64(byteUnits[i].factor); b != 0 && int64(b)%factor == 0 {
			return strconv.FormatInt(int64(b)/factor, 10) + []string{"KiB", "MiB", "GiB", "TiB"}[i]
		}
	}
	return strconv.FormatInt(int64(b), 10)
}

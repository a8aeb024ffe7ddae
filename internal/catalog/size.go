package catalog

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
)

// Size is a number of bytes whose JSON is a string such as "256MiB", in the largest unit that keeps it exact. A number of
// bytes is read, too, with or without quotation marks.
type Size int64

const (
	kibibyte Size = 1 << 10
	mebibyte Size = 1 << 20
	gibibyte Size = 1 << 30
)

// sizeUnits are the largest first.
var sizeUnits = []struct {
	suffix string
	bytes  Size
}{{"GiB", gibibyte}, {"MiB", mebibyte}, {"KiB", kibibyte}, {"", 1}}

// String implements fmt.Stringer.
func (s Size) String() string {
	for _, unit := range sizeUnits {
		if s != 0 && s%unit.bytes == 0 {
			return fmt.Sprint(int64(s/unit.bytes), unit.suffix)
		}
	}
	return "0"
}

// MarshalText implements encoding.TextMarshaler.
func (s Size) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (s *Size) UnmarshalText(b []byte) error {
	for _, unit := range sizeUnits {
		digits, ok := strings.CutSuffix(string(b), unit.suffix)
		if !ok {
			continue
		}
		n, err := strconv.ParseUint(digits, 10, 63)
		if err != nil || n > uint64(math.MaxInt64/unit.bytes) {
			break
		}
		*s = Size(n) * unit.bytes
		return nil
	}
	return errors.New(`a size such as "256MiB" or "64KiB", or a whole number of bytes`)
}

// UnmarshalJSON implements json.Unmarshaler: a text, or a number of bytes. As everywhere, null changes nothing.
func (s *Size) UnmarshalJSON(b []byte) error {
	text := string(b)
	if text == "null" {
		return nil
	}
	if strings.HasPrefix(text, `"`) {
		if err := json.Unmarshal(b, &text); err != nil {
			return err
		}
	}
	return s.UnmarshalText([]byte(text))
}

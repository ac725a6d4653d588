// Package bytesize has sizes as people write and read them, in units of 1024: 64MiB.
package bytesize

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
)

// units are the letters of IEC 80000-13's units, each 1024 of the one before.
const units = "KMGTPE"

// ErrSyntax is a text that is no size.
var ErrSyntax = errors.New("a size is a whole number of bytes, or of KiB, MiB, GiB or TiB, as in 64MiB or 10G")

// Parse reads a size in bytes: a whole number, with the name of a unit or its first
// letter behind it, large or small.
func Parse(text string) (int64, error) {
	digits := strings.TrimRight(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")
	unit := strings.ToUpper(text[len(digits):])
	n, err := strconv.ParseUint(strings.TrimSuffix(digits, " "), 10, 63)
	if err != nil {
		return 0, fmt.Errorf("%.40q: %w", text, ErrSyntax)
	}
	if unit == "" || unit == "B" {
		return int64(n), nil
	}
	power := strings.IndexByte(units, unit[0]) + 1
	// Of "MB" nobody knows whether it is meant in thousands.
	if power == 0 || len(unit) > 1 && unit[1:] != "IB" || n > math.MaxInt64>>(10*power) {
		return 0, fmt.Errorf("%.40q: %w", text, ErrSyntax)
	}
	return int64(n) << (10 * power), nil
}

// Format writes a size in bytes, as short as can be: with one decimal where it is no
// whole number of the unit. What Parse reads of a whole one is that again.
func Format(n int64) string {
	power := 0
	for power < len(units) && n >= 1<<(10*(power+1)) {
		power++
	}
	if power == 0 {
		return strconv.FormatInt(n, 10) + "B"
	}
	name := units[power-1:power] + "iB"
	if unit := int64(1) << (10 * power); n%unit != 0 {
		return strconv.FormatFloat(float64(n)/float64(unit), 'f', 1, 64) + name
	}
	return strconv.FormatInt(n>>(10*power), 10) + name
}

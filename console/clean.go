package console

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"
)

// clean makes a string that came from a network or a setting fit for a
// terminal: what is not printable (control characters, escape sequences,
// marks that turn the writing's direction) is shown as an escape.
func clean(s string) string { return escapeRunes(s, "") }

// cleanText is clean for text of several lines.
func cleanText(s string) string { return escapeRunes(s, "\n\t") }

// escapeRunes writes \u escapes as JSON does, so that JSON stays JSON.
func escapeRunes(s, allowed string) string {
	ok := func(r rune) bool { return unicode.IsPrint(r) || strings.ContainsRune(allowed, r) }
	if utf8.ValidString(s) && strings.IndexFunc(s, func(r rune) bool { return !ok(r) }) < 0 {
		return s
	}
	var b strings.Builder
	for i, r := range s {
		switch {
		case r == utf8.RuneError && !strings.HasPrefix(s[i:], string(utf8.RuneError)):
			fmt.Fprintf(&b, `\x%02x`, s[i])
		case ok(r):
			b.WriteRune(r)
		case r > 0xffff:
			hi, lo := utf16.EncodeRune(r)
			fmt.Fprintf(&b, `\u%04x\u%04x`, hi, lo)
		default:
			fmt.Fprintf(&b, `\u%04x`, r)
		}
	}
	return b.String()
}

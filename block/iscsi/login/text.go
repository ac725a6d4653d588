package login

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// The limits of what an initiator can say.
const (
	maxText = 64 << 10 // of a login or of one Text Request, bytes
	maxKeys = 256      // of the same
	maxKey  = 63       // a key's name (section 6.1), bytes
	maxName = 223      // an iSCSI name (section 4.2.7.1), bytes
)

// The answers that are no value of a key (section 6.2).
const (
	reject        = "Reject"
	irrelevant    = "Irrelevant"
	notUnderstood = "NotUnderstood"
)

// isAnswer reports whether an initiator's value only answers what we have said.
func isAnswer(value string) bool {
	return value == reject || value == irrelevant || value == notUnderstood
}

// A pair is a key with its value.
type pair struct{ key, value string }

// pairs are those of one text: what of a request has not been looked at, or an
// answer.
type pairs []pair

// parse takes a whole text apart (section 6.1).
func parse(text []byte) (pairs, error) {
	if len(text) > maxText {
		return nil, refusal(InitiatorError, "more than %d bytes of text", maxText)
	}
	var all pairs
	for len(text) > 0 {
		one, rest, ended := bytes.Cut(text, []byte{0})
		if !ended {
			return nil, refusal(InitiatorError, "a key has no end")
		}
		text = rest
		if len(one) == 0 { // some pad with zero bytes
			continue
		}
		key, value, is := strings.Cut(string(one), "=")
		if !is || !isKey(key) || !utf8.ValidString(value) || strings.ContainsFunc(value, isControl) {
			return nil, refusal(InitiatorError, "%.40q is no key with a value", one)
		}
		if len(all) == maxKeys {
			return nil, refusal(InitiatorError, "more than %d keys", maxKeys)
		}
		all = append(all, pair{key, value})
	}
	return all, nil
}

func isControl(r rune) bool { return r < ' ' || r == 0x7f }

// isKey reports whether s is a key name (section 6.1), or one of a private
// extension (section 13.22).
func isKey(s string) bool {
	return len(s) >= 1 && len(s) <= maxKey && !strings.ContainsFunc(s, func(r rune) bool {
		return !(r >= 'A' && r <= 'Z' || r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || strings.ContainsRune(".-+@_/#", r))
	})
}

// take removes key and returns its value.
func (p *pairs) take(key string) (value string, found bool) {
	i := slices.IndexFunc(*p, func(one pair) bool { return one.key == key })
	if i < 0 {
		return "", false
	}
	value = (*p)[i].value
	*p = slices.Delete(*p, i, i+1)
	return value, true
}

// add appends an answer.
func (p *pairs) add(key, value string) { *p = append(*p, pair{key, value}) }

// appendTo appends them as they go over the wire.
func (p pairs) appendTo(b []byte) []byte {
	for _, one := range p {
		b = append(b, one.key...)
		b = append(b, '=')
		b = append(b, one.value...)
		b = append(b, 0)
	}
	return b
}

// number parses a numerical value, decimal or hexadecimal (section 6.1).
func number(s string, least, most int) (n int, ok bool) {
	base := 10
	if digits, is := cutHex(s); is {
		s, base = digits, 16
	}
	u, err := strconv.ParseUint(s, base, 32)
	return int(u), err == nil && int(u) >= least && int(u) <= most
}

func cutHex(s string) (digits string, is bool) {
	if len(s) > 2 && (s[:2] == "0x" || s[:2] == "0X") {
		return s[2:], true
	}
	return s, false
}

// octets parses a binary value, hexadecimal or base64 (section 6.1), of 1 to most
// bytes.
func octets(s string, most int) ([]byte, bool) {
	var b []byte
	var err error
	if digits, is := cutHex(s); is {
		if len(digits)%2 == 1 {
			digits = "0" + digits
		}
		b, err = hex.DecodeString(digits)
	} else if len(s) > 2 && (s[:2] == "0b" || s[:2] == "0B") {
		b, err = base64.RawStdEncoding.DecodeString(strings.TrimRight(s[2:], "="))
	} else {
		return nil, false
	}
	return b, err == nil && len(b) >= 1 && len(b) <= most
}

// isName reports whether s, in lower case, can be an iSCSI name (sections 4.2.7.1
// and 4.2.7.2). The underscore, which should not be there, comes with names of
// hosts.
func isName(s string) bool {
	if len(s) <= 4 || len(s) > maxName || (s[:4] != "iqn." && s[:4] != "eui." && s[:4] != "naa.") {
		return false
	}
	return !strings.ContainsFunc(s, func(r rune) bool {
		return r < 0x80 && !(r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || strings.ContainsRune("-.:_", r))
	})
}

func refusal(s Status, format string, args ...any) error {
	return &Error{s, fmt.Sprintf(format, args...)}
}

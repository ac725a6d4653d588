package console

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
)

var errQuote = errors.New("a quote or a backslash at the end is not complete")

// split cuts a command line into words. Spaces and tabs part words; between
// single quotes everything stands for itself; between double quotes a
// backslash before " or \ is taken away; elsewhere a backslash makes the next
// character an ordinary one. A word that begins with [ or { and is JSON stands
// for itself, as far as the JSON goes: ssh takes a shell's quotes away, and
// nobody should have to quote twice. Nothing else is special.
func split(line string) ([]string, error) {
	words, open := splitOpen(line)
	if open != "" {
		return nil, fmt.Errorf("%w: %w", errUsage, errQuote)
	}
	return words, nil
}

// splitOpen is split for a line that is still being typed: open is the quote
// or the backslash that has no end yet, "" where there is none.
func splitOpen(line string) (words []string, open string) {
	var word strings.Builder
	in := false // a word has begun; it may be empty, as '' is
	var quote byte
	for i := 0; i < len(line); i++ {
		c := line[i]
		if !in && (c == '[' || c == '{') {
			var value json.RawMessage
			d := json.NewDecoder(strings.NewReader(line[i:]))
			if d.Decode(&value) == nil {
				word.Write(value)
				in = true
				i += int(d.InputOffset()) - 1
				continue
			}
		}
		switch {
		case quote == 0 && (c == ' ' || c == '\t'):
			if in {
				words = append(words, word.String())
				word.Reset()
				in = false
			}
			continue
		case quote == 0 && (c == '\'' || c == '"'):
			quote = c
		case quote != 0 && c == quote:
			quote = 0
		case c == '\\' && quote == 0, c == '\\' && quote == '"' && i+1 < len(line) && (line[i+1] == '"' || line[i+1] == '\\'):
			if i++; i == len(line) {
				open = `\`
				break
			}
			word.WriteByte(line[i])
		default:
			word.WriteByte(c)
		}
		in = true
	}
	if in {
		words = append(words, word.String())
	}
	if quote != 0 {
		open = string(quote)
	}
	return words, open
}

// A flag is an option of a command.
type flag struct {
	name  string // "-f", "--json"
	long  string // a second name, "" where there is none
	value string // what its value is called, "" where it takes none
	does  string
}

// parse takes a command's options, which may stand anywhere before a "--",
// out of its arguments. The value of an option without one is "".
func parse(args []string, flags []flag) (given map[string]string, rest []string, err error) {
	given = make(map[string]string)
	for i := 0; i < len(args); i++ {
		a := args[i]
		if a == "--" {
			return given, append(rest, args[i+1:]...), nil
		}
		if len(a) < 2 || a[0] != '-' {
			rest = append(rest, a)
			continue
		}
		name, value, hasValue := strings.Cut(a, "=")
		f, ok := findFlag(flags, name)
		switch {
		case !ok:
			return nil, nil, fmt.Errorf("%w: unknown option %s", errUsage, clean(name))
		case f.value == "" && hasValue:
			return nil, nil, fmt.Errorf("%w: %s takes no value", errUsage, f.name)
		case f.value != "" && !hasValue:
			if i++; i == len(args) {
				return nil, nil, fmt.Errorf("%w: %s needs %s", errUsage, f.name, f.value)
			}
			value = args[i]
		}
		given[f.name] = value
	}
	return given, rest, nil
}

func findFlag(flags []flag, name string) (flag, bool) {
	for _, f := range flags {
		if name == f.name || name == f.long && f.long != "" {
			return f, true
		}
	}
	return flag{}, false
}

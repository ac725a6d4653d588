package kernel

import (
	"fmt"
	"slices"
	"strings"
)

// A config says of each symbol which value it has or shall have: as it stands
// after "CONFIG_X=", or "" for one that is not set.
type config map[string]string

// parseConfig reads a .config, or a fragment of one: lines "CONFIG_X=value" and
// "# CONFIG_X is not set"; other comments and blank lines are skipped. It is an
// error to name a symbol twice with different values: the last would silently
// win.
func parseConfig(text string) (config, error) {
	c := config{}
	n := 0
	for line := range strings.Lines(text) {
		n++
		line = strings.TrimSpace(line)
		name, value, ok := parseSymbol(line)
		if !ok {
			if line == "" || line[0] == '#' {
				continue
			}
			return nil, fmt.Errorf("line %d: %q is neither a symbol nor a comment", n, line)
		}
		if old, ok := c[name]; ok && old != value {
			return nil, fmt.Errorf("line %d: %s is %s, and above it is %s", n, name, orUnset(value), orUnset(old))
		}
		c[name] = value
	}
	return c, nil
}

func parseSymbol(line string) (name, value string, ok bool) {
	if rest, found := strings.CutPrefix(line, "# "); found {
		name, found = strings.CutSuffix(rest, " is not set")
		return name, "", found && isSymbol(name)
	}
	name, value, ok = strings.Cut(line, "=")
	return name, value, ok && value != "" && isSymbol(name)
}

func isSymbol(name string) bool {
	rest, ok := strings.CutPrefix(name, "CONFIG_")
	return ok && rest != "" && strings.Trim(rest, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_") == ""
}

func orUnset(value string) string {
	if value == "" || value == "n" {
		return "not set"
	}
	return value
}

// check compares what a fragment asks for with what came out. The kernel's own
// tools drop a symbol whose dependencies are not met without a word; here it is
// an error that names each of them.
func check(asked, got config) error {
	var missing []string
	for name, want := range asked {
		if have := got[name]; orUnset(have) != orUnset(want) {
			missing = append(missing, fmt.Sprintf("%s is %s, not %s", name, orUnset(have), orUnset(want)))
		}
	}
	if len(missing) == 0 {
		return nil
	}
	// A map has no order, an error should have one.
	slices.Sort(missing)
	return fmt.Errorf("the kernel's configuration is not what fragment.config asks for "+
		"(a dependency is missing, or the symbol is unknown to this version):\n  %s", strings.Join(missing, "\n  "))
}

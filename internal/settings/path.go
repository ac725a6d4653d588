package settings

import (
	"fmt"
	"slices"
	"strings"

	"github.com/go-json-experiment/json/jsontext"
)

// splitPath takes "power.off_time", or a JSON pointer (RFC 6901) like
// "/nics/eth0.7/mtu", which names with dots need. "" is the whole document.
func splitPath(path string) ([]string, error) {
	switch {
	case path == "":
		return nil, nil
	case path[0] == '/':
		if p := jsontext.Pointer(path); p.IsValid() {
			return slices.Collect(p.Tokens()), nil
		}
	default:
		if names := strings.Split(path, "."); !slices.Contains(names, "") {
			return names, nil
		}
	}
	return nil, fmt.Errorf("%q: %w: want names joined by dots, like power.off_time", path, ErrUnknownPath)
}

// pathOf is the path of a pointer: dotted where that can be read back.
func pathOf(at jsontext.Pointer) string {
	names := slices.Collect(at.Tokens())
	for _, name := range names {
		if name == "" || strings.Contains(name, ".") {
			return string(at)
		}
	}
	if path := strings.Join(names, "."); !strings.HasPrefix(path, "/") {
		return path
	}
	return string(at)
}

func pointerOf(names []string) jsontext.Pointer {
	var at jsontext.Pointer
	for _, name := range names {
		at = at.AppendToken(name)
	}
	return at
}

package clock

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/nitrino/nitrino/internal/settings"
)

// maxServers is how many time servers are asked.
const maxServers = 8

// A Config is the section "time" of the settings.
type Config struct {
	// NTP: the clock is kept by time servers.
	NTP bool `json:"ntp"`
	// Servers are names or addresses; empty: those that DHCP tells.
	Servers []string `json:"servers"`
}

// DefaultConfig asks whom the network names. There is no server that any board
// should ask unasked: the network for managing mostly has no way out.
func DefaultConfig() Config { return Config{NTP: true, Servers: []string{}} }

// Equal says whether c and o are the same.
func (c Config) Equal(o Config) bool { return c.NTP == o.NTP && slices.Equal(c.Servers, o.Servers) }

// Validate answers a *settings.FieldError, relative to the section, for the
// first field that cannot be.
func (c Config) Validate() error {
	if len(c.Servers) > maxServers {
		return &settings.FieldError{Pointer: "/servers", Err: fmt.Errorf("%d time servers are more than %d", len(c.Servers), maxServers)}
	}
	for i, s := range c.Servers {
		err := checkServer(s)
		if err == nil && slices.Contains(c.Servers[:i], s) {
			err = fmt.Errorf("%s is there twice", s)
		}
		if err != nil {
			return &settings.FieldError{Pointer: fmt.Sprintf("/servers/%d", i), Err: err}
		}
	}
	return nil
}

// checkServer takes an address, or a name (RFC 1123 section 2.1).
func checkServer(s string) error {
	if a, err := netip.ParseAddr(s); err == nil {
		if a.IsUnspecified() || a.IsMulticast() {
			return fmt.Errorf("%s cannot be the address of a time server", s)
		}
		return nil
	}
	bad := fmt.Errorf("%q is neither an IP address nor a host name", s)
	if len(s) > 253 {
		return errors.New("a host name has at most 253 characters")
	}
	last := ""
	for label := range strings.SplitSeq(strings.TrimSuffix(s, "."), ".") {
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' {
			return bad
		}
		for _, c := range label {
			if c != '-' && (c < '0' || c > '9') && (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') {
				return bad
			}
		}
		last = label
	}
	if strings.Trim(last, "0123456789") == "" {
		return bad // an address with a part too few or too many
	}
	return nil
}

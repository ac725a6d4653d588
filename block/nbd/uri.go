package nbd

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
)

// defaultPort is IANA's for NBD.
const defaultPort = "10809"

// A place is what an NBD URI names.
type place struct {
	host, address string // address with the port
	export        string
	tls           bool
}

// errURI: an address is no NBD URI that a disk can be on.
var errURI = errors.New("not of the form nbd://host[:port]/export or nbds://host[:port]/export")

// Check tells whether Dial can do anything with a URI.
func Check(uri string) error {
	_, err := parse(uri)
	return err
}

// parse reads an NBD URI (doc/uri.md of the NBD project). Sockets of this machine
// and query parameters are left out: whoever may name a disk's storage is not to
// reach the board's own sockets and files by it.
func parse(uri string) (place, error) {
	u, err := url.Parse(uri)
	if err != nil {
		// The parser's own error repeats the URI, which may have a password.
		return place{}, fmt.Errorf("NBD URI: %w", errURI)
	}
	if u.Scheme != "nbd" && u.Scheme != "nbds" || u.User != nil || u.RawQuery != "" || u.Fragment != "" || u.Opaque != "" || u.Hostname() == "" {
		return place{}, fmt.Errorf("NBD URI: %w", errURI)
	}
	port := u.Port()
	if port == "" {
		port = defaultPort
	}
	p := place{host: u.Hostname(), export: strings.TrimPrefix(u.Path, "/"), tls: u.Scheme == "nbds"}
	p.address = net.JoinHostPort(p.host, port)
	if len(p.export) > 4096 {
		return place{}, fmt.Errorf("NBD URI: an export's name of %d bytes", len(p.export))
	}
	return p, nil
}

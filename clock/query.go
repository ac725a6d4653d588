package clock

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/beevik/ntp"
)

// queryLimit is how long a server may take to answer.
const queryLimit = 5 * time.Second

// A sample is what a server says of the clock.
type sample struct {
	server string
	// offset is what the clock lacks; distance bounds the error of that (root
	// distance of RFC 5905).
	offset, distance time.Duration
}

// A kissError is a kiss-o'-death packet (RFC 5905 section 7.4): the server wants
// to be asked less, or never again.
type kissError struct{ code string }

func (e *kissError) Error() string { return fmt.Sprintf("it refuses to answer (%q)", e.code) }

// forever says whether the server is not to be asked again at all.
func (e *kissError) forever() bool { return e.code == "DENY" || e.code == "RSTR" }

// A careful connection gives no answer away that the module would panic at: it
// takes the exponents of two of poll and precision, bytes 2 and 3 of the header
// (RFC 5905 section 7.3), and -128 has no opposite in eight bits.
type careful struct{ net.Conn }

// Read reads a packet.
func (c careful) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	const least = 0x80
	if err == nil && n >= 4 && (p[2] == least || p[3] == least) {
		return 0, errors.New("its answer makes no sense")
	}
	return n, err
}

// query asks a server, given as host:port, once (RFC 5905 section 14).
func query(ctx context.Context, server string) (s sample, err error) {
	ctx, cancel := context.WithTimeout(ctx, queryLimit)
	defer cancel()
	stop := func() bool { return true }
	defer func() { stop() }()
	r, err := ntp.QueryWithOptions(server, ntp.QueryOptions{
		Timeout: queryLimit,
		Dialer: func(_, address string) (net.Conn, error) {
			c, err := new(net.Dialer).DialContext(ctx, "udp", address)
			if err != nil {
				return nil, err
			}
			// What is closed twice fails the second time, which says nothing.
			stop = context.AfterFunc(ctx, func() { _ = c.Close() })
			return careful{c}, nil
		},
	})
	switch {
	case ctx.Err() != nil && err != nil:
		return sample{}, errors.Join(context.Cause(ctx), err)
	case err != nil:
		return sample{}, err
	case r.IsKissOfDeath():
		return sample{}, &kissError{r.KissCode}
	}
	if err := r.Validate(); err != nil {
		return sample{}, err
	}
	return sample{server: server, offset: r.ClockOffset, distance: r.RootDistance}, nil
}

package clock

import (
	"context"
	"encoding/binary"
	"errors"
	"net"
	"testing"
	"time"
)

// timestamp is a time in NTP's form (RFC 5905 section 6).
func timestamp(t time.Time) uint64 {
	const from1900 = 2208988800
	return uint64(t.Unix()+from1900)<<32 | uint64(t.Nanosecond())<<32/1e9
}

// answer makes a server's answer to a request.
func answer(request []byte, now time.Time, change func(p []byte)) []byte {
	p := make([]byte, 48)
	p[0] = 4<<3 | 4 // version 4, server
	p[1] = 2        // stratum
	copy(p[24:32], request[40:48])
	binary.BigEndian.PutUint64(p[16:], timestamp(now.Add(-time.Minute)))
	binary.BigEndian.PutUint64(p[32:], timestamp(now))
	binary.BigEndian.PutUint64(p[40:], timestamp(now))
	change(p)
	return p
}

// serve answers on a port of loopback until the test ends.
func serve(t *testing.T, reply func(request []byte) []byte) string {
	t.Helper()
	c, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		request := make([]byte, 512)
		for {
			n, from, err := c.ReadFrom(request)
			if err != nil {
				return // closed
			}
			if p := reply(request[:n]); p != nil {
				if _, err := c.WriteTo(p, from); err != nil {
					t.Error(err)
				}
			}
		}
	}()
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
		<-done
	})
	return c.LocalAddr().String()
}

func TestQuery(t *testing.T) {
	same := func([]byte) {}
	for _, tt := range []struct {
		name   string
		ahead  time.Duration
		change func(p []byte)
		ok     bool
		kiss   string
	}{
		{"an hour ahead", time.Hour, same, true, ""},
		{"years behind", -3 * 365 * 24 * time.Hour, same, true, ""},
		{"unsynchronized", 0, func(p []byte) { p[0] |= 3 << 6 }, false, ""},
		{"stratum 16", 0, func(p []byte) { p[1] = 16 }, false, ""},
		{"DENY", 0, func(p []byte) { p[1] = 0; copy(p[12:], "DENY") }, false, "DENY"},
		{"RATE", 0, func(p []byte) { p[1] = 0; copy(p[12:], "RATE") }, false, "RATE"},
		{"another's answer", 0, func(p []byte) { p[24] ^= 1 }, false, ""},
		{"a client's packet", 0, func(p []byte) { p[0] = 4<<3 | 3 }, false, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			server := serve(t, func(request []byte) []byte { return answer(request, time.Now().Add(tt.ahead), tt.change) })
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			s, err := query(ctx, server)
			if tt.ok {
				if wrong := s.offset - tt.ahead; err != nil || wrong.Abs() > 500*time.Millisecond || s.server != server {
					t.Errorf("got %+v, %v, want %v", s, err, tt.ahead)
				}
				return
			}
			kiss, ok := errors.AsType[*kissError](err)
			if err == nil || ok != (tt.kiss != "") || ok && kiss.code != tt.kiss {
				t.Errorf("got %+v, %v, want an error", s, err)
			}
		})
	}
}

// TestQueryEnds: a server that says nothing is given up when ctx ends.
func TestQueryEnds(t *testing.T) {
	server := serve(t, func([]byte) []byte { return nil })
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	start := time.Now()
	if _, err := query(ctx, server); !errors.Is(err, context.DeadlineExceeded) || time.Since(start) > 2*time.Second {
		t.Errorf("got %v after %v, want %v", err, time.Since(start), context.DeadlineExceeded)
	}
}

// FuzzQuery has a server answer with anything.
func FuzzQuery(f *testing.F) {
	f.Add(answer(make([]byte, 48), time.Unix(1800000000, 0), func([]byte) {}), true)
	f.Add([]byte{}, false)
	f.Fuzz(func(t *testing.T, p []byte, fits bool) {
		if len(p) == 0 {
			return // nothing is what TestQueryEnds has
		}
		server := serve(t, func(request []byte) []byte {
			p := append([]byte(nil), p...)
			if fits && len(p) >= 32 {
				copy(p[24:32], request[40:48])
			}
			return p
		})
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		if s, err := query(ctx, server); err == nil && s.server != server {
			t.Errorf("got %+v without a server", s)
		}
	})
}

//go:build e2e

package test

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// serveTime answers on loopback's port of NTP with a time that is ahead of the
// real one (RFC 5905 section 7.3), and counts.
func serveTime(t *testing.T, ahead time.Duration) *atomic.Int64 {
	t.Helper()
	l, err := net.ListenPacket("udp", "127.0.0.1:123")
	if err != nil {
		t.Fatal(err)
	}
	var served atomic.Int64
	var g sync.WaitGroup
	g.Go(func() {
		q := make([]byte, 512)
		for {
			n, from, err := l.ReadFrom(q)
			if errors.Is(err, net.ErrClosed) {
				return
			}
			if err != nil || n < 48 {
				t.Errorf("a request of %d bytes: %v", n, err)
				continue
			}
			now := time.Now().Add(ahead)
			const epoch = 2_208_988_800 // 1970 in seconds since 1900
			stamp := uint64(now.Unix()+epoch)<<32 | uint64(now.Nanosecond())<<32/1e9
			a := make([]byte, 48)
			a[0], a[1], a[2], a[3] = 4<<3|4, 1, q[2], 0xec // version 4, server; stratum 1; poll; precision 2^-20
			copy(a[12:], "GPS\x00")
			copy(a[24:], q[40:48]) // originate
			for _, at := range []int{16, 32, 40} {
				binary.BigEndian.PutUint64(a[at:], stamp)
			}
			if _, err := l.WriteTo(a, from); err == nil {
				served.Add(1)
			}
		}
	})
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
		g.Wait()
	})
	return &served
}

// TestCardClock: a board without a battery learns the time from the server that
// its owner names over Redfish. All is in a network of its own, where the port of
// NTP is free; the board sees that host as 10.0.2.2.
func TestCardClock(t *testing.T) {
	const ahead = 400 * 24 * time.Hour
	image := card(t)
	alone(t)
	served := serveTime(t, ahead)
	b := boot(t, image, "-host", "none")
	curl := func(args ...string) map[string]any {
		t.Helper()
		// A process: this test's own connections may come from another thread's
		// network.
		out := client(t, "curl", append([]string{"-sSfk", "-u", b.User + ":" + b.Password}, args...)...).must(t)
		var v map[string]any
		if err := json.Unmarshal([]byte(out), &v); err != nil {
			t.Fatalf("%v in %s", err, out)
		}
		return v
	}
	manager := b.Redfish + "/redfish/v1/Managers/bmc"
	curl("-X", "PATCH", "-H", "Content-Type: application/json", "-d", `{"NTP": {"ProtocolEnabled": true, "NTPServers": ["10.0.2.2"]}}`, manager+"/NetworkProtocol")
	eventually(t, "the server's time", 60*time.Second, func() bool {
		text, _ := curl(manager)["DateTime"].(string)
		now, err := time.Parse(time.RFC3339, text)
		return err == nil && now.Sub(time.Now().Add(ahead)).Abs() < 5*time.Second
	})
	if served.Load() == 0 {
		t.Error("nobody asked the server")
	}
	eventually(t, "the event", 20*time.Second, func() bool {
		got := b.ssh("events -n 0").out
		return strings.Contains(got, "clock.stepped") && strings.Contains(got, "10.0.2.2")
	})
}

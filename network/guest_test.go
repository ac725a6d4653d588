//go:build guest

package network

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// What is here runs on a board's kernel, as its /init: see vlan_e2e_test.go.

func TestMain(m *testing.M) {
	os.Args = []string{os.Args[0], "-test.v", "-test.timeout", "5m", "-test.run", "^TestVLANInGuest$"}
	code := 1
	if err := mount(); err != nil {
		fmt.Println("setting up the guest:", err)
	} else {
		code = m.Run()
	}
	fmt.Printf("exit code %d\n", code)
	if err := unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF); err != nil {
		fmt.Println("power off:", err)
	}
	select {} // init must not end
}

func mount() error {
	for _, m := range []struct{ fs, at string }{{"proc", "/proc"}, {"sysfs", "/sys"}, {"devtmpfs", "/dev"}} {
		if err := os.MkdirAll(m.at, 0o755); err != nil {
			return err
		}
		if err := unix.Mount(m.fs, m.at, m.fs, 0, ""); err != nil && !errors.Is(err, unix.EBUSY) {
			return fmt.Errorf("mounting %s: %w", m.at, err)
		}
	}
	return os.MkdirAll(os.TempDir(), 0o777)
}

// guestLimit is for one thing to happen, on a busy computer.
const guestLimit = time.Minute

func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(guestLimit); !ok(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("it does not come: %s", what)
		}
	}
}

// runGuest starts a manager; the answer stops it.
func runGuest(t *testing.T, c Config) (m *Manager, stop func()) {
	t.Helper()
	m, err := New(Options{
		Config: c, HostName: "rack7", Interface: func() (string, error) { return "eth0", nil },
		Report: func(Event) {}, Log: slog.New(slog.NewTextHandler(t.Output(), nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- m.Run(ctx) }()
	return m, func() {
		t.Helper()
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	}
}

// within waits for an address of a net.
func within(t *testing.T, m *Manager, prefix string) {
	t.Helper()
	start := time.Now()
	until(t, "an address of "+prefix, func() bool {
		return slices.ContainsFunc(m.State().Addresses, func(a Address) bool { return netip.MustParsePrefix(prefix).Contains(a.Prefix.Addr()) })
	})
	t.Logf("%+v after %v", m.State().Addresses, time.Since(start))
}

// TestVLANInGuest has the board in a VLAN by DHCP, SLAAC and fixed, over a
// restart of the software and in another VLAN, and then in none.
func TestVLANInGuest(t *testing.T) {
	asked := make(chan string, 100)
	l, err := net.Listen("tcp", ":80")
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { asked <- r.Host })}
	done := make(chan error, 1)
	go func() { done <- server.Serve(l) }()
	defer func() { <-done }()
	defer server.Close()
	// reached waits until the outside asked for something at an address.
	reached := func(address string) {
		t.Helper()
		until(t, "somebody at "+address, func() bool {
			select {
			case host := <-asked:
				return host == address
			default:
				return false
			}
		})
	}
	kernel := linux{}
	names := func() (names []string) {
		parent, err := kernel.Link("eth0")
		if err != nil {
			t.Fatal(err)
		}
		list, err := kernel.VLANs(parent)
		if err != nil {
			t.Fatal(err)
		}
		for _, l := range list {
			names = append(names, l.name)
		}
		return names
	}

	c := DefaultConfig()
	m, stop := runGuest(t, c)
	within(t, m, "10.77.0.0/24")

	c.VLAN, c.VLANPriority = 7, 5
	if err := m.Configure(c, "rack7"); err != nil {
		t.Fatal(err)
	}
	within(t, m, "10.88.0.0/24")
	within(t, m, "2001:db8:88::/64")
	if s := m.State(); s.Interface != "eth0.7" || s.VLAN != 7 || !s.Carrier {
		t.Errorf("got the state %+v, want eth0.7 with VLAN 7", s)
	}
	if _, ok := m.Applied(c); !ok {
		t.Error("got not applied, want applied")
	}
	v, err := kernel.Link("eth0.7")
	if err != nil || v.vlan.id != 7 || v.vlan.priority != 5 {
		t.Errorf("got the link %+v, %v, want VLAN 7 with priority 5", v, err)
	}
	below, err := kernel.Link("eth0")
	if err != nil {
		t.Fatal(err)
	}
	if have, err := kernel.Addresses(below); err != nil || len(have) > 0 {
		t.Errorf("got the addresses %v, %v of the interface below, want none", have, err)
	}

	// The software starts again: the interface stays.
	stop()
	m, stop = runGuest(t, c)
	within(t, m, "10.88.0.0/24")
	until(t, "the server's acknowledgement", func() bool { return m.State().Server.IsValid() })
	if again, err := kernel.Link("eth0.7"); err != nil || again.index != v.index {
		t.Errorf("got the link %+v, %v after a restart, want %+v", again, err, v)
	}

	// A fixed address in it, then in another.
	c.IPv4 = IPv4Config{Method: MethodStatic, Address: "10.88.0.5/24", Gateway: "10.88.0.1"}
	if err := m.Configure(c, "rack7"); err != nil {
		t.Fatal(err)
	}
	within(t, m, "10.88.0.5/32")
	reached("10.88.0.5")
	c.VLAN, c.VLANPriority = 4094, 5
	if err := m.Configure(c, "rack7"); err != nil {
		t.Fatal(err)
	}
	until(t, "the other VLAN", func() bool { return m.State().Interface == "eth0.4094" })
	until(t, "the first to be gone", func() bool { return slices.Equal(names(), []string{"eth0.4094"}) })

	// A run without a VLAN removes what the one before made.
	stop()
	c.VLAN, c.IPv4 = 0, IPv4Config{Method: MethodStatic, Address: "10.77.0.5/24"}
	m, stop = runGuest(t, c)
	within(t, m, "10.77.0.5/32")
	if s := m.State(); s.Interface != "eth0" || s.VLAN != 0 {
		t.Errorf("got the state %+v, want eth0", s)
	}
	if _, err := kernel.Link("eth0.4094"); !errors.Is(err, fs.ErrNotExist) || len(names()) > 0 {
		t.Errorf("got the VLANs %v, %v, want none", names(), err)
	}
	if off, err := kernel.Sysctl("net/ipv6/conf/eth0/disable_ipv6"); err != nil || off != "0" {
		t.Errorf("got disable_ipv6 %s, %v, want 0 again", off, err)
	}
	reached("10.77.0.5")
	stop()
}

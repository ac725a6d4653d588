package lan

import (
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nitrino/nitrino/host"
	"github.com/nitrino/nitrino/internal/store"
	"github.com/nitrino/nitrino/ipmi/command"
	"github.com/nitrino/nitrino/ipmi/command/commandtest"
)

// fakeNetwork takes each configuration at once, but one that bad refuses.
type fakeNetwork struct {
	mu    sync.Mutex
	state State
	conf  Config
	sets  []string
	asked int // for neighbors
	bad   func(Config) error
}

func (f *fakeNetwork) State() State {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.state
}

func (f *fakeNetwork) Config() Config {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.conf
}

func (f *fakeNetwork) Neighbor(a netip.Addr) (mac [6]byte) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.asked++
	if a == netip.MustParseAddr("10.0.2.2") {
		mac = [6]byte{2, 0, 0, 0, 0, 9}
	}
	return mac
}

func (f *fakeNetwork) Set(c Config, from host.Origin) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.bad != nil {
		if err := f.bad(c); err != nil {
			return err
		}
	}
	f.conf = c
	if c.IPv4.Method == Static {
		f.state.IPv4, f.state.IPv4Gateway = c.IPv4.Address, c.IPv4.Gateway
	}
	f.state.VLAN = c.VLAN
	f.sets = append(f.sets, fmt.Sprintf("%s vlan %d/%d, %s by %s", family(c.IPv4), c.VLAN, c.VLANPriority, family(c.IPv6), from))
	return nil
}

func family(f Family) string {
	if f.Method != Static {
		return string(f.Method)
	}
	return fmt.Sprintf("%v gw %v", f.Address, f.Gateway)
}

type fakeEvents struct {
	mu   sync.Mutex
	list []host.Event
}

func (f *fakeEvents) Add(e host.Event) host.Event {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.list = append(f.list, e)
	return e
}

func dhcpNetwork() *fakeNetwork {
	return &fakeNetwork{
		conf: Config{IPv4: Family{Method: DHCP}, IPv6: Family{Method: SLAAC}},
		state: State{
			MAC: [6]byte{2, 0, 0, 0, 0, 1}, IPv4: netip.MustParsePrefix("10.0.2.15/24"), IPv4Gateway: netip.MustParseAddr("10.0.2.2"),
			IPv6:         []Address{{Prefix: netip.MustParsePrefix("fe80::1/64"), Dynamic: true}, {Prefix: netip.MustParsePrefix("2001:db8::5/64"), Dynamic: true}},
			IPv6Gateways: []netip.Addr{netip.MustParseAddr("fe80::2")},
		},
	}
}

func testOptions(t testing.TB, n *fakeNetwork) Options {
	t.Helper()
	db, err := store.Open(filepath.Join(t.TempDir(), "db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	o := Options{
		Port: 623, CipherSuites: func() []byte { return []byte{17, 3} },
		Lockout: func() Lockout { return Lockout{Threshold: 5, Forget: time.Hour, Duration: 5 * time.Minute} },
		Store:   db, Events: &fakeEvents{}, Log: slog.New(slog.NewTextHandler(io.Discard, nil)),
	}
	if n != nil {
		o.Network = n
	}
	return o
}

func newLAN(t testing.TB, o Options) *LAN {
	t.Helper()
	l, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// write and read are Set and Get LAN Configuration Parameters.
func write(t testing.TB, l *LAN, param byte, data ...byte) command.Code {
	t.Helper()
	code, _ := commandtest.Call(t, l.Commands(), command.Transport, 0x01, append([]byte{1, param}, data...)...)
	return code
}

func read(t testing.TB, l *LAN, param byte, set ...byte) []byte {
	t.Helper()
	code, data := commandtest.Call(t, l.Commands(), command.Transport, 0x02, append([]byte{1, param}, append(set, 0, 0)[:2]...)...)
	if code != command.OK {
		t.Fatalf("reading parameter %d: %v", param, code)
	}
	if data[0] != 0x11 {
		t.Errorf("parameter %d: revision %02X, want 11", param, data[0])
	}
	return data[1:]
}

func mustWrite(t testing.TB, l *LAN, param byte, data ...byte) {
	t.Helper()
	if code := write(t, l, param, data...); code != command.OK {
		t.Fatalf("writing parameter %d, % X: %v", param, data, code)
	}
}

func mustRead(t testing.TB, l *LAN, want []byte, param byte, set ...byte) {
	t.Helper()
	if got := read(t, l, param, set...); !bytes.Equal(got, want) {
		t.Errorf("parameter %d: got % X, want % X", param, got, want)
	}
}

// ipmitool is what `ipmitool lan set` does with one parameter: it locks, writes,
// reads back what it wrote, commits and unlocks.
func ipmitool(t testing.TB, l *LAN, param byte, data ...byte) {
	t.Helper()
	if read(t, l, 0)[0]&3 != 1 {
		mustWrite(t, l, 0, 1)
	}
	mustWrite(t, l, param, data...)
	mustRead(t, l, data, param)
	mustWrite(t, l, 0, 2)
	mustWrite(t, l, 0, 0)
	mustRead(t, l, data, param)
	mustRead(t, l, []byte{0}, 0)
}

func wantSets(t testing.TB, n *fakeNetwork, want ...string) {
	t.Helper()
	for i := range want {
		want[i] += " by admin from 192.0.2.1 by ipmi"
	}
	if !slices.Equal(n.sets, want) {
		t.Errorf("the network was set to\n%q, want\n%q", n.sets, want)
	}
	n.sets = nil
}

// TestPrint is what `ipmitool lan print 1` reads, in its order: it gives up at
// the first parameter that is not there.
func TestPrint(t *testing.T) {
	n := dhcpNetwork()
	l := newLAN(t, testOptions(t, n))
	for _, tt := range []struct {
		param byte
		want  []byte
	}{
		{0, []byte{0}},
		{1, []byte{0}},
		{2, []byte{0, 0, 0, 0, 0}},
		{4, []byte{2}},
		{3, []byte{10, 0, 2, 15}},
		{6, []byte{255, 255, 255, 0}},
		{5, []byte{2, 0, 0, 0, 0, 1}},
		{16, append([]byte("public"), make([]byte, 12)...)},
		{7, []byte{64, 0x40, 0}},
		{8, []byte{0x6F, 0x02}},
		{9, []byte{0x98, 0x02}},
		{10, []byte{3}},
		{11, []byte{3}},
		{12, []byte{10, 0, 2, 2}},
		{13, []byte{2, 0, 0, 0, 0, 9}},
		{14, []byte{0, 0, 0, 0}},
		{15, []byte{0, 0, 0, 0, 0, 0}},
		{17, []byte{4}},
		{20, []byte{0, 0}},
		{21, []byte{0}},
		{22, []byte{2}},
		{23, []byte{0, 17, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}},
		{24, []byte{0, 0, 0x40, 0, 0, 0, 0, 0, 0}},
		{25, []byte{0, 0, 0, 0}},
		{26, []byte{1, 5, 0x68, 1, 30, 0}},
	} {
		mustRead(t, l, tt.want, tt.param)
	}
	if n.asked != 1 {
		t.Errorf("the kernel was asked for neighbors %d times, want once: all sessions wait for it", n.asked)
	}
}

// TestIpmitool are the commands of a script, each in a session of its own.
func TestIpmitool(t *testing.T) {
	dhcp := "dhcp vlan 0/0, slaac"
	for _, tt := range []struct {
		name string
		do   func(t *testing.T, l *LAN, n *fakeNetwork)
	}{
		{"in another net", func(t *testing.T, l *LAN, n *fakeNetwork) {
			ipmitool(t, l, 4, 1)
			ipmitool(t, l, 3, 192, 168, 7, 5)
			ipmitool(t, l, 6, 255, 255, 0, 0)
			wantSets(t, n) // the lease's gateway is in another net
			ipmitool(t, l, 12, 192, 168, 0, 1)
			wantSets(t, n, "192.168.7.5/16 gw 192.168.0.1 vlan 0/0, slaac")
			mustRead(t, l, []byte{1}, 4)
			mustRead(t, l, []byte{255, 255, 0, 0}, 6)
			ipmitool(t, l, 4, 2)
			wantSets(t, n, dhcp)
		}},
		{"the address last", func(t *testing.T, l *LAN, n *fakeNetwork) {
			ipmitool(t, l, 6, 255, 255, 0, 0)
			ipmitool(t, l, 12, 192, 168, 0, 1)
			ipmitool(t, l, 3, 192, 168, 7, 5)
			wantSets(t, n)
			ipmitool(t, l, 4, 1)
			wantSets(t, n, "192.168.7.5/16 gw 192.168.0.1 vlan 0/0, slaac")
		}},
		{"in the lease's net", func(t *testing.T, l *LAN, n *fakeNetwork) {
			ipmitool(t, l, 4, 1)
			mustRead(t, l, []byte{10, 0, 2, 15}, 3) // as it is
			wantSets(t, n)
			ipmitool(t, l, 3, 10, 0, 2, 77)
			wantSets(t, n, "10.0.2.77/24 gw 10.0.2.2 vlan 0/0, slaac")
			ipmitool(t, l, 6, 255, 255, 255, 0)
			ipmitool(t, l, 12, 10, 0, 2, 2)
			wantSets(t, n)
			ipmitool(t, l, 3, 10, 0, 2, 78)
			wantSets(t, n, "10.0.2.78/24 gw 10.0.2.2 vlan 0/0, slaac")
		}},
		{"without a gateway", func(t *testing.T, l *LAN, n *fakeNetwork) {
			ipmitool(t, l, 4, 1)
			ipmitool(t, l, 12, 0, 0, 0, 0)
			ipmitool(t, l, 3, 192, 168, 7, 5)
			wantSets(t, n, "192.168.7.5/24 gw invalid IP vlan 0/0, slaac")
		}},
		{"vlan", func(t *testing.T, l *LAN, n *fakeNetwork) {
			ipmitool(t, l, 20, 0x67, 0x81)
			wantSets(t, n, "dhcp vlan 359/0, slaac")
			ipmitool(t, l, 21, 5)
			wantSets(t, n, "dhcp vlan 359/5, slaac")
			ipmitool(t, l, 20, 0x67, 0x01) // "vlan id off"
			wantSets(t, n, "dhcp vlan 0/5, slaac")
		}},
		{"ipv6", func(t *testing.T, l *LAN, n *fakeNetwork) {
			ip := netip.MustParseAddr("2001:db8::77").As16()
			gw := netip.MustParseAddr("2001:db8::1").As16()
			mustWrite(t, l, 0, 1) // lan6 set 1 static_addr 0 enable …
			mustWrite(t, l, 56, slices.Concat([]byte{0, 0x80}, ip[:], []byte{64, 0})...)
			mustWrite(t, l, 0, 2)
			mustWrite(t, l, 0, 0)
			wantSets(t, n, "dhcp vlan 0/0, 2001:db8::77/64 gw invalid IP")
			mustRead(t, l, slices.Concat([]byte{0, 0x80}, ip[:], []byte{64, pending6}), 56)
			mustWrite(t, l, 0, 1) // lan6 set 1 static_rtr 1 …
			mustWrite(t, l, 65, gw[:]...)
			mustWrite(t, l, 66, 0, 0, 0, 0, 0, 0)
			mustWrite(t, l, 67, 0)
			mustWrite(t, l, 68, make([]byte, 16)...)
			mustWrite(t, l, 0, 2)
			mustWrite(t, l, 0, 0)
			wantSets(t, n, "dhcp vlan 0/0, 2001:db8::77/64 gw 2001:db8::1")
			mustWrite(t, l, 64, 1) // lan6 set 1 rtr_cfg static
			ipmitool(t, l, 51, 0)  // lan6 set 1 enables ipv4
			wantSets(t, n, "dhcp vlan 0/0, off")
			ipmitool(t, l, 51, 1)
			wantSets(t, n, "off vlan 0/0, slaac")
			mustRead(t, l, []byte{0}, 4)
			mustRead(t, l, []byte{0, 0, 0, 0}, 3)
			ipmitool(t, l, 51, 2)
			wantSets(t, n, dhcp)
		}},
		{"one lock for all", func(t *testing.T, l *LAN, n *fakeNetwork) {
			mustWrite(t, l, 0, 1)
			mustWrite(t, l, 4, 1)
			mustWrite(t, l, 3, 10, 0, 2, 77)
			mustWrite(t, l, 20, 7, 0x80)
			wantSets(t, n)
			if got := write(t, l, 0, 1); got != codeInProgress {
				t.Errorf("a second lock: %v, want %v", got, codeInProgress)
			}
			mustWrite(t, l, 0, 0) // no commit before
			wantSets(t, n, "10.0.2.77/24 gw 10.0.2.2 vlan 7/0, slaac")
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			n := dhcpNetwork()
			tt.do(t, newLAN(t, testOptions(t, n)), n)
		})
	}
}

// TestBMCConfig: bmc-config writes without a lock, field by field in this order,
// and its commit of its own checkout changes nothing.
func TestBMCConfig(t *testing.T) {
	commit := func(t *testing.T, l *LAN) {
		t.Helper()
		for _, p := range []byte{4, 3, 5, 6, 12, 13, 14, 15, 20, 21, 10, 11, 16, 7, 24, 26, 51} {
			mustWrite(t, l, p, read(t, l, p)...)
		}
		for set := range byte(5) {
			mustWrite(t, l, 18, read(t, l, 18, set)...)
			mustWrite(t, l, 19, read(t, l, 19, set)...)
		}
		mustWrite(t, l, 2, 0, 0, 0, 0, 0)
		mustWrite(t, l, 56, read(t, l, 56)...)
	}
	t.Run("dhcp", func(t *testing.T) {
		n := dhcpNetwork()
		commit(t, newLAN(t, testOptions(t, n)))
		wantSets(t, n)
	})
	t.Run("static", func(t *testing.T) {
		n := dhcpNetwork()
		n.conf.IPv4 = Family{Method: Static, Address: n.state.IPv4, Gateway: n.state.IPv4Gateway}
		n.conf.VLAN = 12
		commit(t, newLAN(t, testOptions(t, n)))
		wantSets(t, n)
	})
	t.Run("no network", func(t *testing.T) {
		o := testOptions(t, nil)
		o.Fixed = State{IPv4: netip.MustParsePrefix("127.0.0.1/8"), MAC: [6]byte{2}}
		l := newLAN(t, o)
		mustRead(t, l, []byte{1}, 4)
		mustRead(t, l, []byte{127, 0, 0, 1}, 3)
		mustRead(t, l, []byte{255, 0, 0, 0}, 6)
		commit(t, l)
		for _, w := range [][]byte{{4, 2}, {3, 10, 0, 0, 1}, {6, 255, 255, 0, 0}, {12, 10, 0, 0, 1}, {20, 1, 0x80}, {51, 2}} {
			if got := write(t, l, w[0], w[1:]...); got != codeReadOnly {
				t.Errorf("writing % X: %v, want %v", w, got, codeReadOnly)
			}
		}
	})
}

func TestBadWrites(t *testing.T) {
	n := dhcpNetwork()
	l := newLAN(t, testOptions(t, n))
	for _, tt := range []struct {
		param byte
		data  []byte
		want  command.Code
	}{
		{0, []byte{3}, command.InvalidField},
		{0, []byte{0, 0}, command.BadLength},
		{1, []byte{1}, codeReadOnly},
		{2, []byte{4, 4, 4, 4, 4}, codeReadOnly},
		{2, []byte{0}, command.BadLength},
		{3, []byte{224, 0, 0, 1}, command.InvalidField},
		{3, []byte{127, 0, 0, 1}, command.InvalidField},
		{3, []byte{255, 255, 255, 255}, command.InvalidField},
		{3, []byte{10, 0, 0}, command.BadLength},
		{4, []byte{3}, command.InvalidField},
		{4, []byte{0}, command.InvalidField},
		{5, []byte{2, 0, 0, 0, 0, 2}, codeReadOnly},
		{6, []byte{255, 0, 255, 0}, command.InvalidField},
		{8, []byte{1, 0}, codeReadOnly},
		{10, []byte{0}, codeReadOnly},
		{13, []byte{1, 2, 3, 4, 5, 6}, codeReadOnly},
		{14, []byte{10, 0, 0, 1}, codeReadOnly},
		{16, bytes.Repeat([]byte{'x'}, 19), command.BadLength},
		{16, []byte{'a', 0, 'b'}, command.InvalidField},
		{16, []byte{0xFF}, command.InvalidField},
		{17, []byte{2}, codeReadOnly},
		{18, []byte{5, 0, 3, 3}, command.OutOfRange},
		{18, []byte{1, 6, 3, 3}, command.InvalidField},
		{18, []byte{1, 0, 3, 8}, command.InvalidField},
		{18, []byte{1, 0, 3}, command.BadLength},
		{19, []byte{1, 0, 0, 224, 0, 0, 1, 0, 0, 0, 0, 0, 0}, command.InvalidField},
		{19, []byte{1, 0x20, 0, 10, 0, 0, 1, 0, 0, 0, 0, 0, 0}, command.InvalidField},
		{19, []byte{9, 0, 0, 10, 0, 0, 1, 0, 0, 0, 0, 0, 0}, command.OutOfRange},
		{19, []byte{1, 0, 0, 10}, command.BadLength},
		{20, []byte{0, 0x80}, command.InvalidField},
		{20, []byte{0xFF, 0x8F}, command.InvalidField},
		{20, []byte{1, 0x90}, command.InvalidField},
		{21, []byte{8}, command.InvalidField},
		{24, []byte{0, 0x34, 0, 0, 0, 0, 0, 0, 0}, codeReadOnly},
		{26, []byte{1, 9, 0, 0, 0, 0}, codeReadOnly},
		{27, []byte{0}, codeUnsupported},
		{51, []byte{3}, command.InvalidField},
		{52, []byte{1}, codeReadOnly},
		{56, append([]byte{1, 0x80}, make([]byte, 18)...), command.OutOfRange},
		{56, append([]byte{0, 0x80}, make([]byte, 18)...), command.InvalidField},
		{56, append([]byte{0, 0x82}, make([]byte, 18)...), command.InvalidField},
		{59, make([]byte, 20), codeReadOnly},
		{64, []byte{3}, codeReadOnly},
		{96, []byte{0}, codeUnsupported},
		{192, []byte{0}, codeUnsupported},
	} {
		if got := write(t, l, tt.param, tt.data...); got != tt.want {
			t.Errorf("parameter %d, % X: got %v, want %v", tt.param, tt.data, got, tt.want)
		}
	}
	wantSets(t, n)
	for _, tt := range []struct {
		data []byte
		want command.Code
	}{
		{[]byte{2, 3, 0, 0}, command.InvalidField}, // another channel
		{[]byte{1, 27, 0, 0}, codeUnsupported},
		{[]byte{1, 18, 5, 0}, command.OutOfRange},
		{[]byte{1, 56, 1, 0}, command.OutOfRange},
		{[]byte{1, 59, 4, 0}, command.OutOfRange},
		{[]byte{1, 74, 1, 0}, command.OutOfRange},
		{[]byte{1, 61, 0, 0}, codeUnsupported},
		{[]byte{1, 3, 0}, command.BadLength},
	} {
		if got, _ := commandtest.Call(t, l.Commands(), command.Transport, 0x02, tt.data...); got != tt.want {
			t.Errorf("reading % X: got %v, want %v", tt.data, got, tt.want)
		}
	}
	code, data := commandtest.Call(t, l.Commands(), command.Transport, 0x02, 0x8E, 3, 0, 0)
	if code != command.OK || !bytes.Equal(data, []byte{0x11}) {
		t.Errorf("the revision alone: %v % X, want 11", code, data)
	}
}

// TestRefused: a configuration that the network refuses leaves nothing behind
// where it was written at once, and can be mended where it was committed.
func TestRefused(t *testing.T) {
	n := dhcpNetwork()
	n.conf.IPv4 = Family{Method: Static, Address: netip.MustParsePrefix("10.0.2.15/24"), Gateway: netip.MustParseAddr("10.0.2.2")}
	n.bad = func(c Config) error {
		if c.IPv4.Address.Addr() == netip.MustParseAddr("10.0.2.255") && c.IPv4.Address.Bits() == 24 {
			return fmt.Errorf("the broadcast address: %w", host.ErrInvalid)
		}
		return nil
	}
	l := newLAN(t, testOptions(t, n))
	if got := write(t, l, 3, 10, 0, 2, 255); got != command.InvalidField {
		t.Errorf("got %v, want %v", got, command.InvalidField)
	}
	mustRead(t, l, []byte{10, 0, 2, 15}, 3)
	mustWrite(t, l, 0, 1)
	mustWrite(t, l, 3, 10, 0, 2, 255)
	if got := write(t, l, 0, 2); got != command.InvalidField {
		t.Errorf("got %v, want %v", got, command.InvalidField)
	}
	mustWrite(t, l, 6, 255, 255, 0, 0)
	mustWrite(t, l, 0, 0)
	wantSets(t, n, "10.0.2.255/16 gw 10.0.2.2 vlan 0/0, slaac")

	mustWrite(t, l, 0, 1)
	mustWrite(t, l, 6, 255, 255, 255, 0)
	if got := write(t, l, 0, 0); got != command.InvalidField {
		t.Errorf("got %v, want %v", got, command.InvalidField)
	}
	mustRead(t, l, []byte{255, 255, 0, 0}, 6)
	mustWrite(t, l, 20, 7, 0x80)
	wantSets(t, n, "10.0.2.255/16 gw 10.0.2.2 vlan 7/0, slaac")
}

// TestRefusedAndLeft: a console that dies after its commit was refused leaves
// nothing behind.
func TestRefusedAndLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := dhcpNetwork()
		n.bad = func(Config) error { return host.ErrInvalid }
		l := newLAN(t, testOptions(t, n))
		mustWrite(t, l, 0, 1)
		mustWrite(t, l, 20, 7, 0x80)
		if got := write(t, l, 0, 2); got != command.InvalidField {
			t.Errorf("got %v, want %v", got, command.InvalidField)
		}
		mustRead(t, l, []byte{7, 0x80}, 20)
		time.Sleep(lockLife)
		mustRead(t, l, []byte{0, 0}, 20)
	})
}

// TestSetOtherwise: a draft does not undo what another front-end, or the end of
// a trial, made of the network meanwhile.
func TestSetOtherwise(t *testing.T) {
	n := dhcpNetwork()
	before := n.conf
	l := newLAN(t, testOptions(t, n))
	mustWrite(t, l, 12, 10, 0, 2, 1) // waits for a static source
	mustWrite(t, l, 20, 7, 0x80)
	mustRead(t, l, []byte{10, 0, 2, 1}, 12)
	wantSets(t, n, "dhcp vlan 7/0, slaac")
	n.conf = before // nobody logged in
	mustRead(t, l, []byte{0, 0}, 20)
	mustRead(t, l, []byte{10, 0, 2, 2}, 12)
	mustWrite(t, l, 21, 3)
	wantSets(t, n, "dhcp vlan 0/3, slaac")
}

// TestIdleVLAN: the ID that is kept while there is no VLAN is the last one
// written, since ipmitool waits until it reads what it wrote.
func TestIdleVLAN(t *testing.T) {
	n := dhcpNetwork()
	l := newLAN(t, testOptions(t, n))
	for _, v := range [][]byte{{100, 0}, {0, 0}, {100, 0}, {100, 0x80}, {100, 0}, {0, 0}} {
		ipmitool(t, l, 20, v...)
	}
	n.bad = func(Config) error { return host.ErrBusy }
	n.conf.VLAN = 5
	if got := write(t, l, 20, 9, 0); got != command.Busy {
		t.Errorf("got %v, want %v", got, command.Busy)
	}
	n.conf.VLAN = 0
	mustRead(t, l, []byte{0, 0}, 20)
}

// TestForgotten: what a console began and never ended.
func TestForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := dhcpNetwork()
		l := newLAN(t, testOptions(t, n))
		mustWrite(t, l, 0, 1)
		mustWrite(t, l, 20, 7, 0x80)
		mustRead(t, l, []byte{1}, 0)
		time.Sleep(lockLife)
		mustRead(t, l, []byte{0}, 0)
		mustRead(t, l, []byte{0, 0}, 20)
		mustWrite(t, l, 0, 1)
		mustWrite(t, l, 0, 0)
		wantSets(t, n)

		mustWrite(t, l, 4, 1)
		mustRead(t, l, []byte{1}, 4)
		time.Sleep(draftLife)
		mustRead(t, l, []byte{2}, 4)
		mustWrite(t, l, 3, 10, 0, 2, 77)
		wantSets(t, n)
	})
}

func TestDestinations(t *testing.T) {
	o := testOptions(t, nil)
	l := newLAN(t, o)
	mustRead(t, l, []byte{1, 0, 2, 3}, 18, 1)
	mustRead(t, l, make([]byte, 13), 19, 0)
	mustWrite(t, l, 18, 1, 0x80, 9, 7) // ipmitool lan alert set 1 1 ack on, …
	mustWrite(t, l, 19, 1, 0, 0, 192, 0, 2, 7, 1, 2, 3, 4, 5, 6)
	six := netip.MustParseAddr("2001:db8::9").As16()
	mustWrite(t, l, 19, append([]byte{2, 0x10}, six[:]...)...)
	mustWrite(t, l, 19, 0, 0, 1, 192, 0, 2, 8, 0, 0, 0, 0, 0, 0)
	mustWrite(t, l, 16, append([]byte("secret"), make([]byte, 12)...)...)
	mustWrite(t, l, 16, []byte("secret")...)

	l = newLAN(t, o) // the board restarts
	mustRead(t, l, []byte{1, 0x80, 9, 7}, 18, 1)
	mustRead(t, l, []byte{1, 0, 0, 192, 0, 2, 7, 1, 2, 3, 4, 5, 6}, 19, 1)
	mustRead(t, l, append([]byte{2, 0x10}, six[:]...), 19, 2)
	mustRead(t, l, make([]byte, 13), 19, 0)
	want := Destination{Acknowledge: true, Interval: 10 * time.Second, Retries: 7, Address: netip.MustParseAddr("192.0.2.7"), MAC: [6]byte{1, 2, 3, 4, 5, 6}}
	if got, ok := l.Destination(1); !ok || got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if _, ok := l.Destination(5); ok {
		t.Error("there is a destination 5")
	}
	if got := l.Community(); got != "secret" {
		t.Errorf("community %q, want secret", got)
	}
	events := o.Events.(*fakeEvents).list
	if len(events) != 1 || events[0].Kind != "ipmi.alert-destinations" || events[0].Origin != commandtest.Origin() {
		t.Errorf("events %+v, want one for the whole burst", events)
	}
}

func TestLockout(t *testing.T) {
	l := newLAN(t, testOptions(t, nil))
	mustWrite(t, l, 26, read(t, l, 26)...)
	if code := write(t, l, 26, 1, 3, 6, 0, 12, 0); code != codeReadOnly {
		t.Errorf("another lockout: %v, want %v", code, codeReadOnly)
	}
}

// TestIPv6 is what `ipmitool lan6 print` reads.
func TestIPv6(t *testing.T) {
	l := newLAN(t, testOptions(t, dhcpNetwork()))
	addr := func(before []byte, a string, after ...byte) []byte {
		b := netip.MustParseAddr(a).As16()
		return slices.Concat(before, b[:], after)
	}
	mustRead(t, l, []byte{7}, 50)
	mustRead(t, l, []byte{2}, 51)
	mustRead(t, l, []byte{0}, 52)
	mustRead(t, l, []byte{64}, 53)
	mustRead(t, l, []byte{0, 0, 0}, 54)
	mustRead(t, l, []byte{1, 4, 2}, 55)
	mustRead(t, l, addr([]byte{0, 0}, "::", 0, disabled6), 56)
	mustRead(t, l, addr([]byte{0, 1}, "fe80::1", 64, active6), 59, 0)
	mustRead(t, l, addr([]byte{1, 1}, "2001:db8::5", 64, active6), 59, 1)
	mustRead(t, l, addr([]byte{2, 0}, "::", 0, disabled6), 59, 2)
	mustRead(t, l, []byte{2}, 64)
	mustRead(t, l, make([]byte, 16), 65)
	mustRead(t, l, []byte{1}, 73)
	mustRead(t, l, addr([]byte{0}, "fe80::2"), 74)
	mustRead(t, l, make([]byte, 7), 75)
	mustRead(t, l, make([]byte, 2), 76)
	mustRead(t, l, make([]byte, 17), 77)
}

func FuzzCommands(f *testing.F) {
	commandtest.Fuzz(f, newLAN(f, testOptions(f, dhcpNetwork())).Commands())
}

// FuzzSet throws parameters at Set LAN Configuration Parameters; whatever it
// takes, everything can be read.
func FuzzSet(f *testing.F) {
	f.Add(byte(3), []byte{10, 0, 0, 1})
	f.Add(byte(56), make([]byte, 20))
	f.Add(byte(19), make([]byte, 13))
	l := newLAN(f, testOptions(f, dhcpNetwork()))
	f.Fuzz(func(t *testing.T, param byte, data []byte) {
		write(t, l, param, data...)
		for p := range byte(100) {
			_, reply := commandtest.Call(t, l.Commands(), command.Transport, 0x02, 1, p, 0, 0)
			if len(reply) > 32 {
				t.Errorf("parameter %d has %d bytes", p, len(reply))
			}
		}
	})
}

package bmc

import (
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/nitrino/nitrino/host"
	"github.com/nitrino/nitrino/internal/store"
	"github.com/nitrino/nitrino/ipmi/command"
	"github.com/nitrino/nitrino/ipmi/dcmi"
	"github.com/nitrino/nitrino/ipmi/lan"
	"github.com/nitrino/nitrino/ipmi/user"
	"github.com/nitrino/nitrino/network"
)

func byIPMI() host.Origin { return host.Origin{Via: "ipmi", User: "admin", Source: "192.0.2.9"} }

func openBMC(t *testing.T, dir string) *BMC {
	t.Helper()
	b, err := Open(options(dir))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	})
	return b
}

// lastEvent checks that the last event is a change of the settings by IPMI.
func lastEvent(t *testing.T, b *BMC) {
	t.Helper()
	events := b.Events.Since(0, 0)
	if len(events) == 0 {
		t.Fatal("got no event")
	}
	if e := events[len(events)-1]; e.Kind != "settings.changed" || e.Origin != byIPMI() {
		t.Errorf("got the event %+v, want settings.changed by %v", e, byIPMI())
	}
}

func TestLANNetwork(t *testing.T) {
	b := openBMC(t, t.TempDir())
	if err := b.Settings.Set("network", `{"interface":"eth7","dns":["192.0.2.1"]}`); err != nil {
		t.Fatal(err)
	}
	var n lan.Network = lanNetwork{b, nil}
	prefix, addr := netip.MustParsePrefix, netip.MustParseAddr
	for _, tt := range []struct {
		name string
		set  lan.Config
		want lan.Config // zero: as set
		err  error
	}{
		{"fixed", lan.Config{
			IPv4: lan.Family{Method: lan.Static, Address: prefix("192.0.2.5/24"), Gateway: addr("192.0.2.1")},
			IPv6: lan.Family{Method: lan.Static, Address: prefix("2001:db8::5/64"), Gateway: addr("fe80::1")},
			VLAN: 7, VLANPriority: 3,
		}, lan.Config{}, nil},
		{"without gateway", lan.Config{
			IPv4: lan.Family{Method: lan.Static, Address: prefix("192.0.2.6/24")},
			IPv6: lan.Family{Method: lan.Off},
		}, lan.Config{}, nil},
		{"automatic", lan.Config{IPv4: lan.Family{Method: lan.DHCP}, IPv6: lan.Family{Method: lan.SLAAC}}, lan.Config{}, nil},
		{"automatic with a left-over address", lan.Config{
			IPv4: lan.Family{Method: lan.DHCP, Address: prefix("192.0.2.5/24"), Gateway: addr("192.0.2.1")},
			IPv6: lan.Family{Method: lan.SLAAC},
		}, lan.Config{IPv4: lan.Family{Method: lan.DHCP}, IPv6: lan.Family{Method: lan.SLAAC}}, nil},
		{"none", lan.Config{IPv4: lan.Family{Method: lan.Off}, IPv6: lan.Family{Method: lan.Off}}, lan.Config{}, host.ErrInvalid},
		{"no address", lan.Config{IPv4: lan.Family{Method: lan.Static}, IPv6: lan.Family{Method: lan.SLAAC}}, lan.Config{}, host.ErrInvalid},
		{"VLAN", lan.Config{IPv4: lan.Family{Method: lan.DHCP}, IPv6: lan.Family{Method: lan.Off}, VLAN: 4095}, lan.Config{}, host.ErrInvalid},
	} {
		before := n.Config()
		err := n.Set(tt.set, byIPMI())
		want := tt.want
		if want == (lan.Config{}) {
			want = tt.set
		}
		if tt.err != nil {
			want = before
		} else {
			lastEvent(t, b)
		}
		if got := n.Config(); !errors.Is(err, tt.err) || got != want {
			t.Errorf("%s: got %v, %+v, want %v, %+v", tt.name, err, got, tt.err, want)
		}
	}
	if c := b.Settings.Get().Network; c.Interface != "eth7" || !slices.Equal(c.DNS, []string{"192.0.2.1"}) {
		t.Errorf("got %+v, want what IPMI knows nothing of to stay", c)
	}
}

func TestLANState(t *testing.T) {
	prefix, addr := netip.MustParsePrefix, netip.MustParseAddr
	got := lanState(network.State{
		Interface: "eth0.7", VLAN: 7, MAC: net.HardwareAddr{2, 0, 0, 0, 0, 5},
		Addresses: []network.Address{
			{Prefix: prefix("2001:db8::5/64"), Method: network.MethodSLAAC}, {Prefix: prefix("192.0.2.5/24"), Method: network.MethodDHCP},
			{Prefix: prefix("192.0.2.6/24"), Method: network.MethodDHCP}, {Prefix: prefix("2001:db8::6/64"), Method: network.MethodStatic},
		},
		Gateways: []netip.Addr{addr("fe80::1"), addr("192.0.2.1"), addr("192.0.2.2")},
	})
	if got.VLAN != 7 || got.MAC != [6]byte{2, 0, 0, 0, 0, 5} || got.IPv4 != prefix("192.0.2.5/24") || got.IPv4Gateway != addr("192.0.2.1") ||
		!slices.Equal(got.IPv6, []lan.Address{{Prefix: prefix("2001:db8::5/64"), Dynamic: true}, {Prefix: prefix("2001:db8::6/64")}}) ||
		!slices.Equal(got.IPv6Gateways, []netip.Addr{addr("fe80::1")}) {
		t.Errorf("got %+v", got)
	}
	if s := lanState(network.State{}); s.IPv4.IsValid() || s.IPv4Gateway.IsValid() || s.MAC != [6]byte{} {
		t.Errorf("got %+v of no network, want the zero state", s)
	}
}

func TestSettingsByIPMI(t *testing.T) {
	b := openBMC(t, t.TempDir())
	var names dcmi.Names = boardName{b}
	for _, tt := range []struct {
		name string
		set  func() error
		err  error
	}{
		{"cycle interval", func() error { return b.setCycleInterval(7*time.Second, byIPMI()) }, nil},
		{"a long cycle interval", func() error { return b.setCycleInterval(time.Hour, byIPMI()) }, host.ErrInvalid},
		{"host name", func() error { return names.SetHostName("42", byIPMI()) }, nil},
		{"no host name", func() error { return names.SetHostName("two words", byIPMI()) }, host.ErrInvalid},
		{"empty host name", func() error { return names.SetHostName("", byIPMI()) }, host.ErrInvalid},
	} {
		if err := tt.set(); !errors.Is(err, tt.err) {
			t.Errorf("%s: got %v, want %v", tt.name, err, tt.err)
		} else if err == nil {
			lastEvent(t, b)
		}
	}
	count := len(b.Events.Since(0, 0))
	for range 3 {
		if err := errors.Join(b.setCycleInterval(7*time.Second, byIPMI()), names.SetHostName("42", byIPMI()), b.changer().Unset("ssh.enabled", byIPMI())); err != nil {
			t.Error(err)
		}
	}
	if got := b.Events.Since(0, 0); len(got) != count {
		t.Errorf("what changes nothing made the events %+v", got[count:])
	}
	if s := b.Settings.Get(); s.Power.OffTime != 7*time.Second || s.HostName != "42" || names.HostName() != "42" {
		t.Errorf("got %v and %s, want 7s and 42", s.Power.OffTime, s.HostName)
	}
	if got, want := b.lanLockout(), (lan.Lockout{Threshold: 20, Forget: time.Hour, Duration: 30 * time.Second}); got != want {
		t.Errorf("got the lockout %+v, want %+v", got, want)
	}
	if err := b.Settings.Set("lockout.threshold", "0"); err != nil {
		t.Fatal(err)
	}
	if got := b.lanLockout(); got != (lan.Lockout{}) {
		t.Errorf("got the lockout %+v with locks switched off", got)
	}
}

func TestLANChannel(t *testing.T) {
	b := openBMC(t, t.TempDir())
	var c user.Channel = b.channel
	full := user.Access{Enabled: true, Limit: command.Administrator, Alerts: true}
	off := user.Access{Limit: command.Administrator, Alerts: true}
	less := user.Access{Enabled: true, Limit: command.Operator}
	set := func(a user.Access, kept bool) func() error {
		return func() error { return c.SetAccess(a, kept, byIPMI()) }
	}
	for i, step := range []struct {
		do          func() error
		kept, force user.Access
	}{
		{func() error { return nil }, full, full},
		{set(off, false), full, off},
		{set(less, true), less, off}, // each without the other
		{set(less, false), less, less},
		{set(full, true), full, less},
		// Any other way counts at once.
		{func() error { return b.Settings.Set("ipmi.max_privilege", "user") }, user.Access{Enabled: true, Limit: command.User, Alerts: true}, user.Access{Enabled: true, Limit: command.User, Alerts: true}},
		{set(full, true), full, user.Access{Enabled: true, Limit: command.User, Alerts: true}},
		{set(full, false), full, full},
	} {
		if err := step.do(); err != nil {
			t.Errorf("step %d: %v", i, err)
		}
		if kept, force := c.Access(true), c.Access(false); kept != step.kept || force != step.force {
			t.Errorf("step %d: got %+v kept and %+v in force, want %+v and %+v", i, kept, force, step.kept, step.force)
		}
		if s := b.channel.apply(b.Settings.Get()).IPMI; accessOf(s) != step.force {
			t.Errorf("step %d: got the settings %+v, want %+v in force", i, s, step.force)
		}
	}
	lastEvent(t, b)
	// What lay over settings that were changed does not come back with them.
	for _, do := range []func() error{
		set(less, false),
		func() error { return b.Settings.Set("ipmi.max_privilege", "user") },
		func() error { b.channel.apply(b.Settings.Get()); return nil }, // as BMC.Run does
		func() error { return b.Settings.Set("ipmi.max_privilege", "administrator") },
	} {
		if err := do(); err != nil {
			t.Error(err)
		}
	}
	if got := c.Access(false); got != full {
		t.Errorf("got %+v in force, want %+v", got, full)
	}
	// Sessions are opened, by anybody, as fast as this can be read.
	if n := testing.AllocsPerRun(100, func() { c.Access(false) }); n > 0 {
		t.Errorf("reading the access allocates %v times", n)
	}
	if err := c.SetAccess(user.Access{Limit: command.OEMLevel}, true, byIPMI()); !errors.Is(err, host.ErrInvalid) {
		t.Errorf("got %v of an unknown limit, want %v", err, host.ErrInvalid)
	}
}

// A channel that is disabled for now does not answer, and does again.
func TestLANChannelActs(t *testing.T) {
	r := start(t, t.TempDir())
	free := func() bool {
		c, err := net.ListenPacket("udp", r.at.IPMI)
		if err != nil {
			return false
		}
		c.Close()
		return true
	}
	if free() {
		t.Fatal("IPMI does not listen")
	}
	a := r.channel.Access(false)
	a.Enabled = false
	if err := r.channel.SetAccess(a, false, byIPMI()); err != nil {
		t.Fatal(err)
	}
	eventually(t, "IPMI to be off", free)
	if !r.Settings.Get().IPMI.Enabled {
		t.Error("the setting was changed, too")
	}
}

func TestChannelKeys(t *testing.T) {
	db, err := store.Open(t.TempDir() + "/state.db")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	events, err := host.OpenEvents(db, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	seal := [32]byte{1, 2, 3}
	open := func(seal [32]byte) user.Keys {
		t.Helper()
		k, err := openKeys(db, seal, events)
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	want := func(k user.Keys, key [20]byte, locked bool) {
		t.Helper()
		if got, l := k.KG(); got != key || l != locked {
			t.Errorf("got %x, locked %v, want %x, %v", got, l, key, locked)
		}
	}
	k := open(seal)
	want(k, [20]byte{}, false)
	key := [20]byte{0, 'k', 'e', 'y', 0, 1}
	if err := k.SetKG(key, byIPMI()); err != nil {
		t.Fatal(err)
	}
	want(k, key, false)
	want(open(seal), key, false)
	if err := k.LockKG(byIPMI()); err != nil {
		t.Fatal(err)
	}
	want(k, key, true)
	want(open(seal), key, true)
	// It is not to be found in clear, nor with the card in another board.
	var raw []byte
	if err := db.View(func(tx store.Tx) error { raw = tx.Get(keyBucket, []byte(keyName)); return nil }); err != nil {
		t.Fatal(err)
	}
	if slices.ContainsFunc(events.Since(0, 0), func(e host.Event) bool { return e.Severity != host.OK || e.Origin != byIPMI() }) || len(raw) == 0 {
		t.Errorf("got the events %v", events.Since(0, 0))
	}
	want(open([32]byte{9}), [20]byte{}, false)
	if e := events.Since(0, 0); e[len(e)-1].Kind != "key.damaged" {
		t.Errorf("got the event %+v, want key.damaged", e[len(e)-1])
	}
	if err := k.SetKG([20]byte{}, byIPMI()); err != nil {
		t.Fatal(err)
	}
	want(open(seal), [20]byte{}, true)
}

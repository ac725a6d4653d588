package manager

import (
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/nitrino/nitrino/host"
	"github.com/nitrino/nitrino/redfish/protocol"
	"github.com/nitrino/nitrino/redfish/redfishtest"
	"github.com/nitrino/nitrino/redfish/resource"
)

// A board is all that the chapter is made of; err is what each setter answers.
type board struct {
	mu     sync.Mutex
	err    error
	now    time.Time
	state  State
	config Config
	sets   int
	trial  time.Duration
	goes   bool // the interface, with a change

	enabled map[Service]bool
	ntp     bool
	servers []string

	resets   int
	defaults []Scope
}

func newBoard() *board {
	return &board{
		now: time.Date(2026, 11, 22, 21, 30, 0, 0, time.UTC),
		state: State{
			Interface: "eth0", Managed: true, MAC: net.HardwareAddr{0xdc, 0xa6, 0x32, 1, 2, 3}, MTU: 1500, Carrier: true, SpeedMbps: 1000, FullDuplex: new(true),
			Addresses: []Address{
				{netip.MustParsePrefix("192.0.2.5/24"), DHCP},
				{netip.MustParsePrefix("2001:db8::5/64"), SLAAC},
			},
			Gateways: []netip.Addr{netip.MustParseAddr("fe80::1"), netip.MustParseAddr("192.0.2.1")},
			DNS:      []netip.Addr{netip.MustParseAddr("192.0.2.53")},
		},
		config:  Config{HostName: "bmc.example.com", IPv4: Family{Method: DHCP}, IPv6: Family{Method: SLAAC}},
		trial:   2 * time.Minute,
		enabled: map[Service]bool{HTTPS: true, SSH: true, IPMI: false},
		ntp:     true, servers: []string{"a.example"},
	}
}

// fromRedfish checks who is said to change something.
func fromRedfish(from host.Origin) error {
	if want := (host.Origin{Via: resource.Via, User: "admin", Source: "127.0.0.1"}); from != want {
		return fmt.Errorf("origin %+v", from)
	}
	return nil
}

// change is what every setter does.
func (b *board) change(from host.Origin, set func()) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := fromRedfish(from); err != nil {
		return err
	}
	if b.err != nil {
		return b.err
	}
	set()
	return nil
}

func (b *board) fail(err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.err = err
}

type fakeClock struct{ *board }

func (b fakeClock) Now() time.Time {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.now = b.now.Add(time.Second)
	return b.now
}

func (b fakeClock) Set(t time.Time, from host.Origin) error {
	return b.change(from, func() { b.now = t })
}

type fakeNetwork struct{ *board }

func (b fakeNetwork) State() State {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.state
}

func (b fakeNetwork) Config() Config {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.config
}

func (b fakeNetwork) Set(c Config, from host.Origin) (time.Duration, error) {
	return b.trial, b.change(from, func() {
		b.config = c
		b.sets++
		if b.goes {
			b.state.Interface = ""
		}
	})
}

// set sets the network behind the service's back.
func (b *board) set(c Config) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.config, b.sets = c, 0
}

type fakeServices struct{ *board }

func (b fakeServices) Service(s Service) (on bool, port int, there bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	on, there = b.enabled[s]
	return on, map[Service]int{HTTPS: 443, SSH: 22, IPMI: 623}[s], there
}

func (b fakeServices) SetEnabled(s Service, on bool, from host.Origin) error {
	return b.change(from, func() { b.enabled[s] = on })
}

type fakeNTP struct{ *board }

func (b fakeNTP) Config() (bool, []string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.ntp, slices.Clone(b.servers)
}

func (b fakeNTP) Offered() []string { return []string{"192.0.2.123"} }

func (b fakeNTP) Set(on bool, servers []string, from host.Origin) error {
	return b.change(from, func() { b.ntp, b.servers = on, servers })
}

type fakeLifecycle struct{ *board }

func (b fakeLifecycle) Reset(host.Origin) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.resets++
}

// count says how often it was reset.
func (b *board) count() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.resets
}

func (b fakeLifecycle) ToDefaults(s Scope, from host.Origin) error {
	return b.change(from, func() { b.defaults = append(b.defaults, s) })
}

// options are those of a board that has everything.
func (b *board) options() Options {
	all := func(types ...string) func() Access {
		return func() Access { return Access{true, 16, types} }
	}
	return Options{
		UUID: "6ba7b810-9dad-41d1-80b4-00c04fd430c8", ServiceUUID: "6ba7b811-9dad-41d1-80b4-00c04fd430c8",
		FirmwareVersion: "0.1.0", Identity: host.Identity{Manufacturer: "Raspberry Pi", Model: "4 Model B", Serial: "10000000abcdef01"},
		Started: time.Date(2026, 11, 22, 20, 0, 0, 0, time.UTC),
		Clock:   fakeClock{b}, Network: fakeNetwork{b}, Services: fakeServices{b}, NTP: fakeNTP{b}, Lifecycle: fakeLifecycle{b},
		Console: all("SSH", "IPMI"), Graphics: all("KVMIP"), Shell: all("SSH"),
		System: true, Chassis: true, LogServices: true, VirtualMedia: true, Firmware: true, Certificates: true,
		Log: slog.New(slog.DiscardHandler),
	}
}

// A rig is the chapter of a board, served.
type rig struct {
	*redfishtest.Rig
	*board
	manager *Manager
}

func newRig(t testing.TB, change func(*Options)) *rig {
	t.Helper()
	r := &rig{board: newBoard()}
	o := r.options()
	if change != nil {
		change(&o)
	}
	r.manager = New(o)
	service, err := protocol.New(protocol.Options{Auth: redfishtest.NewAuth(), Log: o.Log, Routes: r.manager.Routes()})
	if err != nil {
		t.Fatal(err)
	}
	r.Rig = redfishtest.New(t, service)
	return r
}

func (r *rig) get(uri string) redfishtest.Answer {
	return r.Want(redfishtest.Call{Method: "GET", URI: uri, User: "reader"}, 200)
}

// patch does it as admin and checks the answer.
func (r *rig) patch(t *testing.T, uri, body string, status int, keys, related []string) redfishtest.Answer {
	t.Helper()
	a := r.Want(redfishtest.Call{Method: "PATCH", URI: uri, User: "admin", Body: body}, status, keys...)
	if got := a.Related(); !slices.Equal(got, related) {
		t.Errorf("%s: RelatedProperties %v, want %v", body, got, related)
	}
	return a
}

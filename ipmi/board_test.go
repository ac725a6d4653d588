package ipmi

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net/netip"
	"path/filepath"
	"testing"
	"time"

	"github.com/nitrino/nitrino/auth"
	"github.com/nitrino/nitrino/host"
	"github.com/nitrino/nitrino/internal/store"
	"github.com/nitrino/nitrino/ipmi/command"
	"github.com/nitrino/nitrino/ipmi/lan"
	"github.com/nitrino/nitrino/ipmi/user"
)

// A wire is any of a board's wires: outputs go nowhere, and inputs are active.
type wire struct{}

func (wire) Set(bool) error { return nil }

func (wire) Level() (bool, error) { return true, nil }

func (wire) Watch(ctx context.Context, changed func(bool)) error {
	changed(true)
	<-ctx.Done()
	return ctx.Err()
}

func (wire) Open(ctx context.Context) (host.PortConn, error) { <-ctx.Done(); return nil, ctx.Err() }

func (wire) Targets() []host.BootTarget { return []host.BootTarget{host.BootPXE, host.BootDisk} }

func (wire) SelectBoot(context.Context, host.BootTarget, host.BootMode) error { return nil }

func (wire) Read(context.Context) (float64, error) { return 25, nil }

// allWires are those of a fully wired board.
func allWires() host.Parts {
	return host.Parts{
		PowerButton: wire{}, ResetButton: wire{}, NMIButton: wire{}, IDLight: wire{},
		PowerLED: wire{}, Standby: wire{}, HostReset: wire{}, PowerButtonPressed: wire{}, ResetButtonPressed: wire{},
		Console: wire{}, Boot: wire{},
		Sensors: []host.SensorPart{
			{Name: "Inlet", Quantity: host.Temperature, Place: host.PlaceInlet, Min: -40, Max: 125, Gauge: wire{}},
			{Name: "Input", Quantity: host.Wattage, Place: host.PlaceSystem, Min: 0, Max: 500, Gauge: wire{}},
		},
	}
}

type boardName struct{}

func (boardName) HostName() string { return "nitrino" }

func (boardName) SetHostName(string, host.Origin) error { return nil }

// newBoard is a server with a real host and real users behind it, as a board
// has them.
func newBoard(t testing.TB, parts host.Parts) *Server {
	t.Helper()
	log := slog.New(slog.NewTextHandler(io.Discard, nil))
	db, err := store.Open(filepath.Join(t.TempDir(), "db"))
	if err != nil {
		t.Fatal(err)
	}
	events, err := host.OpenEvents(db, log)
	if err != nil {
		t.Fatal(err)
	}
	h, err := host.New(parts, host.Options{Store: db, Events: events, Log: log, Power: host.DefaultPowerConfig(),
		SaveRestorePolicy: func(host.RestorePolicy, host.Origin) error { return nil }})
	if err != nil {
		t.Fatal(err)
	}
	users, err := auth.Open(auth.Options{Store: db, Log: log})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := users.Close(); err != nil {
			t.Error(err)
		}
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	if err := users.Create(auth.User{Name: "admin", Role: auth.Administrator, Enabled: true}, "", auth.Attempt{}); err != nil {
		t.Fatal(err)
	}
	if err := users.SetIPMISecret("admin", "secret-20-characters", auth.Attempt{}); err != nil {
		t.Fatal(err)
	}
	s, err := New(Options{
		Config: DefaultConfig(), Accounts: users, Host: h, Log: log, Store: db, Port: 623,
		ResetBMC: func(bool, host.Origin) {}, SelfTest: func() SelfTest { return 0 },
		Board: Board{
			Users: users, Channel: fakeChannel{limit: command.Administrator}, Keys: newKeys(""), Names: boardName{},
			Fixed:   lan.State{IPv4: netip.MustParsePrefix("192.0.2.5/24")},
			Lockout: func() lan.Lockout { return lan.Lockout{Threshold: 5, Duration: time.Minute} },
			SetCycleInterval: func(time.Duration, host.Origin) error {
				return nil
			},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

var _ user.Channel = fakeChannel{}

// TestMustCommands: what a data centre's tools need is there on a fully wired
// board, and what lacks a wire is not on a bare one.
func TestMustCommands(t *testing.T) {
	all, bare := newBoard(t, allWires()), newBoard(t, host.Parts{})
	for _, list := range []struct {
		netFn command.NetFn
		body  uint32
		cmds  string
	}{
		{command.App, 0, "\x01\x02\x03\x04\x06\x07\x08\x22\x24\x25\x2E\x2F\x37\x38\x3B\x3C\x3D\x40\x41\x42\x43\x44\x45\x46\x47\x48\x49\x4A\x4B\x4C\x4D\x4E\x4F\x54\x55\x56\x58\x59"},
		{command.Chassis, 0, "\x00\x01\x02\x04\x05\x06\x07\x08\x09\x0A\x0B\x0F"},
		{command.Sensor, 0, "\x02\x10\x11\x12\x13\x14\x15\x16\x17\x20\x21\x22\x23\x24\x25\x26\x27\x28\x29\x2A\x2B\x2D\x2F"},
		{command.Storage, 0, "\x10\x11\x12\x20\x21\x22\x23\x40\x41\x42\x43\x44\x46\x47\x48\x49\x5C\x5D"},
		{command.Transport, 0, "\x01\x02\x21\x22"},
		{command.Group, command.BodyDCMI, "\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0A\x10"},
	} {
		for _, cmd := range []byte(list.cmds) {
			if all.commands[commandKey{list.netFn, cmd, list.body}] == nil {
				t.Errorf("%02X/%02X is missing", list.netFn, cmd)
			}
		}
	}
	for _, k := range []commandKey{{command.Chassis, 0x04, 0}, {command.Chassis, 0x08, 0}, {command.App, 0x48, 0}, {command.Transport, 0x22, 0}, {command.Group, 0x02, command.BodyDCMI}} {
		if bare.commands[k] != nil {
			t.Errorf("%02X/%02X is there without its wire", k.netFn, k.cmd)
		}
	}
	for _, k := range []commandKey{{command.App, 0x39, 0}, {command.App, 0x3A, 0}, {command.App, 0x52, 0}} {
		if all.commands[k] != nil {
			t.Errorf("%02X/%02X is there", k.netFn, k.cmd)
		}
	}
}

// TestEveryCommand runs each command of a fully wired board once with data that
// says little, and with some that says much: none may panic.
func TestEveryCommand(t *testing.T) {
	s := newBoard(t, allWires())
	for i := range s.list {
		c := &s.list[i]
		if needsSession(c) {
			continue
		}
		for _, fill := range []byte{0x00, 0x01, 0x80, 0xFF} {
			for _, n := range []int{c.MinLen, c.MaxLen} {
				call := command.Call{Now: time.Now(), Origin: host.Origin{Via: "ipmi", User: "admin"}}
				m := message{netFn: c.NetFn, cmd: c.Cmd, data: bytes.Repeat([]byte{fill}, n+bodyLen(c.NetFn))}
				if code := s.perform(c, &call, &m); code == command.Unspecified {
					t.Errorf("%s with %d bytes %02X: %v", c.Name, n, fill, code)
				}
			}
		}
	}
}

// needsSession is for the commands that a session belongs to; FuzzSession has
// them.
func needsSession(c *command.Command) bool {
	return c.NetFn == command.App && (c.Cmd == 0x3B || c.Cmd == 0x3C || c.Cmd == 0x3D || c.Cmd >= 0x48 && c.Cmd <= 0x4B || c.Cmd == 0x55)
}

// FuzzTable throws data at every command of a fully wired board, in a session of
// an administrator.
func FuzzTable(f *testing.F) {
	s := newBoard(f, allWires())
	for i, c := range s.list {
		f.Add(uint16(i), make([]byte, c.MinLen))
	}
	f.Fuzz(func(t *testing.T, which uint16, data []byte) {
		c := &s.list[int(which)%len(s.list)]
		if len(data) < c.MinLen || len(data) > c.MaxLen {
			return
		}
		if needsSession(c) {
			return
		}
		call := command.Call{Data: data, Now: time.Now(), Origin: host.Origin{Via: "ipmi", User: "admin"}}
		code := c.Run(&call)
		if len(call.Reply) > 250 {
			t.Errorf("%s answers %d bytes", c.Name, len(call.Reply))
		}
		if code == command.OK && c.Conduct != command.Reads && len(call.Reply) > command.MaxKept {
			t.Errorf("%s answers %d bytes, which are more than are kept", c.Name, len(call.Reply))
		}
	})
}

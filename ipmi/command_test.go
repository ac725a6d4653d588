package ipmi

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/nitrino/nitrino/host"
	"github.com/nitrino/nitrino/ipmi/command"
)

func TestFind(t *testing.T) {
	b := newBMC(t)
	extra := []command.Command{
		{NetFn: command.Group, Cmd: 0x01, Body: 0xDC, Name: "group", Privilege: command.User, MaxLen: 1, Run: func(c *command.Call) command.Code {
			c.Put(0x77, c.Arg(0))
			return command.OK
		}},
		{NetFn: command.Group, Cmd: 0x02, Body: 0xDC, Name: "group that fails", Privilege: command.User, Run: func(c *command.Call) command.Code {
			c.Put(1, 2, 3)
			return command.Busy
		}},
		{NetFn: command.OEM, Cmd: 0x01, Body: 0x00F21B, Name: "OEM", Privilege: command.User, Run: func(c *command.Call) command.Code { return command.OK }},
		{NetFn: command.App, Cmd: 0xF0, Name: "panics", Privilege: command.User, Run: func(*command.Call) command.Code { panic("a bug") }},
		{NetFn: command.App, Cmd: 0xF1, Name: "panics elsewhere", Privilege: command.User, Conduct: command.Waits, Run: func(*command.Call) command.Code { panic("a bug") }},
	}
	if err := b.register(extra); err != nil {
		t.Fatal(err)
	}
	if err := b.register(extra); err == nil {
		t.Error("the same commands could be registered twice")
	}
	c := b.console(t, here).login()
	for _, test := range []struct {
		name  string
		netFn command.NetFn
		cmd   byte
		data  []byte
		code  command.Code
		want  []byte
	}{
		{"unknown", command.App, 0xEE, nil, command.InvalidCommand, nil},
		{"Master Write-Read", command.App, 0x52, []byte{0, 0, 0}, command.InvalidCommand, nil},
		{"Send Message", command.App, 0x34, []byte{0, 0x20}, command.InvalidCommand, nil},
		{"Get Session Challenge", command.App, 0x39, make([]byte, 17), command.InvalidCommand, nil},
		{"Activate Session", command.App, 0x3A, make([]byte, 22), command.InvalidCommand, nil},
		{"ipmitool's PICMG probe", command.Group, 0x00, []byte{0}, command.InvalidCommand, nil},
		{"ipmitool's VITA probe", command.Group, 0x3E, []byte{3}, command.InvalidCommand, nil},
		{"group without body", command.Group, 0x01, nil, command.InvalidCommand, nil},
		{"another group's", command.Group, 0x01, []byte{0xDD}, command.InvalidCommand, nil},
		{"group", command.Group, 0x01, []byte{0xDC, 5}, command.OK, []byte{0xDC, 0x77, 5}},
		{"group, too long", command.Group, 0x01, []byte{0xDC, 5, 6}, command.BadLength, nil},
		{"group that fails", command.Group, 0x02, []byte{0xDC}, command.Busy, []byte{0xDC}},
		{"OEM", command.OEM, 0x01, []byte{0x1B, 0xF2, 0x00}, command.OK, []byte{0x1B, 0xF2, 0x00}},
		{"OEM, cut", command.OEM, 0x01, []byte{0x1B, 0xF2}, command.InvalidCommand, nil},
		{"too long", command.App, 0x01, []byte{1}, command.BadLength, nil},
		{"too short", command.App, 0x3B, nil, command.BadLength, nil},
		{"privilege", command.App, 0x02, nil, command.TooLow, nil},
		{"privilege before length", command.Chassis, 0x02, nil, command.TooLow, nil},
		{"panics", command.App, 0xF0, nil, command.Unspecified, nil},
		{"panics elsewhere", command.App, 0xF1, nil, command.Unspecified, nil},
		{"and goes on", command.App, 0x3B, []byte{0}, command.OK, []byte{2}},
	} {
		code, got := c.command(test.netFn, test.cmd, test.data...)
		if code != test.code || !slices.Equal(got, test.want) {
			t.Errorf("%s: %v % X, want %v % X", test.name, code, got, test.code, test.want)
		}
	}
	// Another LUN.
	m := request(1, command.App, 0x01)
	m[1], m[2] = m[1]|2, m[2]-2
	out := c.unseal(c.send(c.next(m)))
	if got := command.Code(out[6]); got != command.InvalidLUN || out[4] != 1<<2|2 {
		t.Errorf("LUN 2: % X, want code %v and LUN 2", out, command.InvalidLUN)
	}
}

// TestTable holds rules that every command keeps.
func TestTable(t *testing.T) {
	b := newBMC(t)
	seen := map[string]bool{}
	for _, c := range b.Commands() {
		name := fmt.Sprintf("%02X/%02X %s", c.NetFn, c.Cmd, c.Name)
		if c.Name == "" || seen[c.Name] {
			t.Errorf("%s: no name, or one that is there twice", name)
		}
		seen[c.Name] = true
		if c.Sessionless != (c.Cmd == 0x37 || c.Cmd == 0x38 || c.Cmd == 0x54) {
			t.Errorf("%s: sessionless %v", name, c.Sessionless)
		}
		if c.Privilege == command.None && !c.Sessionless {
			t.Errorf("%s: needs no privilege in a session", name)
		}
		if c.MinLen > c.MaxLen {
			t.Errorf("%s: lengths %d to %d", name, c.MinLen, c.MaxLen)
		}
		// What repeats a command's answer must be able to hold it.
		if c.Conduct == command.Reads {
			continue
		}
		x := b.console(t, here).at(command.Administrator)
		data := make([]byte, c.MinLen)
		if c.NetFn == command.App && c.Cmd == 0x3C {
			data = le32(x.id)
		}
		if _, got := x.command(c.NetFn, c.Cmd, data...); len(got) > command.MaxKept {
			t.Errorf("%s: answers %d bytes, more than %d", name, len(got), command.MaxKept)
		}
	}
}

func TestAppCommands(t *testing.T) {
	b := newBMC(t)
	c := b.console(t, here).at(command.Administrator)
	board := reversed(boardGUID(b.Server.host.uuid))
	for _, test := range []struct {
		name string
		cmd  byte
		data []byte
		code command.Code
		want []byte
	}{
		{"Get Device ID", 0x01, nil, command.OK, []byte{0x20, 0, 1, 0x23, 0x02, 0x80, 0, 0, 0, 0x55, 0x44, 1, 2, 3, 4}},
		{"Get Self Test Results", 0x04, nil, command.OK, []byte{0x56, 0}},
		{"Get Device GUID", 0x08, nil, command.OK, board[:]},
		{"Get System GUID", 0x37, nil, command.OK, []byte{15, 14, 13, 12, 11, 10, 9, 0x88, 7, 0x46, 5, 4, 3, 2, 1, 0}},
		{"Get Channel Info", 0x42, []byte{0x0E}, command.OK, []byte{1, 4, 1, 0x81, 0xF2, 0x1B, 0, 0, 0}},
		{"Get Channel Info, system interface", 0x42, []byte{0x0F}, command.InvalidField, nil},
		{"Get Channel Info, IPMB", 0x42, []byte{0}, command.InvalidField, nil},
		{"Get Channel Authentication Capabilities", 0x38, []byte{0x8E, 4}, command.OK, []byte{1, 0x80, 4, 2, 0, 0, 0, 0}},
		{"… with privilege 0", 0x38, []byte{0x8E, 0}, command.InvalidField, nil},
	} {
		code, got := c.command(command.App, test.cmd, test.data...)
		if code != test.code || !slices.Equal(got, test.want) {
			t.Errorf("%s: %v % X, want %v % X", test.name, code, got, test.code, test.want)
		}
	}
	if board[9]>>4 != 8 || board[7]>>6 != 2 {
		t.Errorf("device GUID % X is no version 8 UUID", board)
	}
}

func TestReset(t *testing.T) {
	b := newBMC(t)
	c := b.console(t, here).at(command.Administrator)
	for range 2 {
		c.seq++
		if out := c.send(c.seal(c.seq, 0xC0, request(3, command.App, 0x02))); len(out) == 0 {
			t.Error("Cold Reset is not answered")
		}
	}
	if code, _ := c.command(command.App, 0x03); code != command.OK {
		t.Errorf("Warm Reset = %v", code)
	}
	const who = " for admin from 192.0.2.1 by ipmi"
	if want := []string{"cold" + who, "warm" + who}; !slices.Equal(b.resets, want) {
		t.Errorf("resets %q, want %q", b.resets, want)
	}
	b = newBMC(t, func(o *Options, _ *machine) { o.ResetBMC = nil })
	c = b.console(t, here).at(command.Administrator)
	for _, cmd := range []byte{0x02, 0x03} {
		if code, _ := c.command(command.App, cmd); code != command.InvalidCommand {
			t.Errorf("06/%02X without a way to reset = %v, want %v", cmd, code, command.InvalidCommand)
		}
	}
}

func TestSelfTest(t *testing.T) {
	for failed, want := range map[SelfTest][]byte{0: {0x55, 0}, 0x80: {0x57, 0x80}} {
		b := newBMC(t, func(o *Options, _ *machine) { o.SelfTest = func() SelfTest { return failed } })
		if _, got := b.console(t, here).login().command(command.App, 0x04); !slices.Equal(got, want) {
			t.Errorf("self-test %02X: % X, want % X", failed, got, want)
		}
	}
}

func TestGetCipherSuites(t *testing.T) {
	const s3, s17 = "c003014181", "c011034481"
	for _, test := range []struct {
		suite3 bool
		data   []byte
		code   command.Code
		want   string
	}{
		{false, []byte{0x0E, 0, 0x80}, command.OK, "01" + s17},
		{true, []byte{0x0E, 0, 0x80}, command.OK, "01" + s3 + s17},
		{true, []byte{0x01, 1, 0x80}, command.OK, "01" + s3 + s17},
		{true, []byte{0x0E, 0, 0x81}, command.OK, "01"},
		{true, []byte{0x0E, 0, 0xBF}, command.OK, "01"},
		{false, []byte{0x0E, 0, 0x00}, command.OK, "01" + "034481"},
		{true, []byte{0x0E, 0, 0x00}, command.OK, "01" + "0103" + "4144" + "81"},
		{true, []byte{0x0E, 2, 0x80}, command.InvalidField, ""},
		{true, []byte{0x02, 0, 0x80}, command.InvalidField, ""},
	} {
		b := newBMC(t, func(o *Options, _ *machine) { o.Config.Suite3 = test.suite3 })
		code, got := b.console(t, here).login().command(command.App, 0x54, test.data...)
		if want := unhex(t, test.want); code != test.code || !slices.Equal(got, want) {
			t.Errorf("suite 3 %v, % X: %v % X, want %v % X", test.suite3, test.data, code, got, test.code, want)
		}
	}
}

func TestErrorCodes(t *testing.T) {
	b := newBMC(t)
	c := b.console(t, here).at(command.Operator)
	for _, test := range []struct {
		err  error
		want command.Code
	}{
		{nil, 0x00}, {host.ErrBusy, 0xC0}, {host.ErrStopped, 0xC0}, {host.ErrNoPower, 0xD5}, {host.ErrAsleep, 0xD5},
		{host.ErrNoStandby, 0xD5}, {errors.ErrUnsupported, 0xD6}, {host.ErrInvalid, 0xCC}, {errors.New("disk full"), 0xFF},
		{fmt.Errorf("wrapped: %w", host.ErrBusy), 0xC0},
	} {
		b.host.change(func(f *fakeHost) { f.err = test.err })
		if code, _ := c.command(command.Chassis, 0x02, 1); code != test.want {
			t.Errorf("%v = %v, want %v", test.err, code, test.want)
		}
	}
}

func TestConfig(t *testing.T) {
	if err := DefaultConfig().Validate(); err != nil {
		t.Errorf("the default: %v", err)
	}
	for name, change := range map[string]func(*Config){
		"max_sessions":      func(c *Config) { c.MaxSessions = 65 },
		"idle_timeout":      func(c *Config) { c.IdleTimeout = time.Second },
		"logins_per_second": func(c *Config) { c.LoginsPerSecond = 0 },
	} {
		c := DefaultConfig()
		change(&c)
		if err := c.Validate(); !errors.Is(err, host.ErrInvalid) {
			t.Errorf("%s: %v, want an error that is host.ErrInvalid", name, err)
		}
	}
}

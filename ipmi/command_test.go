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
	b.commands, b.list = nil, b.list[:len(b.list)-len(extra)]
	if err := b.register(); err != nil {
		t.Fatal(err)
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
		{"Get Channel Access", 0x41, []byte{1, 0x40}, command.OK, []byte{0x22, 4}},
		{"Get Channel Access, volatile", 0x41, []byte{0x0E, 0x80}, command.OK, []byte{0x22, 4}},
		{"Get Channel Access, neither", 0x41, []byte{1, 0}, command.InvalidField, nil},
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

func TestACPIState(t *testing.T) {
	for _, test := range []struct {
		status host.PowerStatus
		want   byte
	}{
		{host.PowerStatus{State: host.StateOn, PowerGood: true}, 0x00},
		{host.PowerStatus{State: host.StatePoweringOff, PowerGood: true}, 0x00},
		{host.PowerStatus{State: host.StatePoweringOn}, 0x06},
		{host.PowerStatus{State: host.StateOff}, 0x06},
		{host.PowerStatus{State: host.StateOff, StandbyWired: true, Standby: true}, 0x06},
		{host.PowerStatus{State: host.StateOff, StandbyWired: true}, 0x07},
		{host.PowerStatus{State: host.StateAsleep, PowerGood: true}, 0x03},
		{host.PowerStatus{State: host.StateUnknown}, 0x2A},
	} {
		b := newBMC(t)
		b.host.status = test.status
		if _, got := b.console(t, here).login().command(command.App, 0x07); !slices.Equal(got, []byte{test.want, 0}) {
			t.Errorf("%+v: % X, want %02X 00", test.status, got, test.want)
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

func TestChassisStatus(t *testing.T) {
	for _, test := range []struct {
		name   string
		status host.PowerStatus
		light  bool
		want   []byte
	}{
		{"off", host.PowerStatus{State: host.StateOff, Restore: host.AlwaysOff}, false, []byte{0x00, 0, 0x40}},
		{"on", host.PowerStatus{State: host.StateOn, PowerGood: true, Restore: host.LastState, OnByCommand: true}, false, []byte{0x21, 0x10, 0x40}},
		{"going on, not there yet", host.PowerStatus{State: host.StatePoweringOn, Restore: host.AlwaysOn}, false, []byte{0x40, 0, 0x40}},
		{"going off, still on", host.PowerStatus{State: host.StatePoweringOff, PowerGood: true, Restore: host.AlwaysOn}, false, []byte{0x41, 0, 0x40}},
		{"fault, AC failed", host.PowerStatus{State: host.StateOff, Fault: true, ACFailed: true, Restore: host.LastState}, false, []byte{0x30, 0x01, 0x40}},
		{"no policy known", host.PowerStatus{State: host.StateUnknown}, false, []byte{0x60, 0, 0x40}},
		{"ID light on by others", host.PowerStatus{Restore: host.AlwaysOff}, true, []byte{0, 0, 0x60}},
	} {
		b := newBMC(t)
		b.host.status, b.host.light = test.status, test.light
		if _, got := b.console(t, here).login().command(command.Chassis, 0x01); !slices.Equal(got, test.want) {
			t.Errorf("%s: % X, want % X", test.name, got, test.want)
		}
	}
}

func TestChassisControl(t *testing.T) {
	b := newBMC(t)
	c := b.console(t, here).at(command.Operator)
	names := []string{"off", "on", "cycle", "reset", "diag", "soft"}
	for i, name := range names {
		if code, _ := c.command(command.Chassis, 0x02, byte(i)); code != command.OK {
			t.Errorf("%s = %v", name, code)
		}
	}
	want := make([]string, len(names))
	for i, name := range names {
		want[i] = name + " as command for admin from 192.0.2.1 by ipmi"
	}
	if got := b.host.calls(); !slices.Equal(got, want) {
		t.Errorf("the host was asked %q, want %q", got, want)
	}
	if code, _ := c.command(command.Chassis, 0x02, 6); code != command.InvalidField {
		t.Errorf("control 6 = %v, want %v", code, command.InvalidField)
	}
	b.host.change(func(f *fakeHost) { f.absent = []host.Action{host.NMI} })
	if code, _ := c.command(command.Chassis, 0x02, 4); code != command.Unavailable {
		t.Errorf("diagnostic interrupt without its wire = %v, want %v", code, command.Unavailable)
	}
	if _, got := c.command(command.Chassis, 0x00); !slices.Equal(got, []byte{0, 0, 0, 0, 0x20}) {
		t.Errorf("capabilities without NMI = % X", got)
	}
	b.host.change(func(f *fakeHost) { f.absent = nil })
	if _, got := c.command(command.Chassis, 0x00); !slices.Equal(got, []byte{4, 0, 0, 0, 0x20}) {
		t.Errorf("capabilities with NMI = % X", got)
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

func TestIdentify(t *testing.T) {
	b := newBMC(t)
	c := b.console(t, here).at(command.Operator)
	state := func() byte { _, got := c.command(command.Chassis, 0x01); return got[2] & 0x30 }
	for _, test := range []struct {
		data  []byte
		asked string
		state byte
	}{
		{nil, "15s", 0x10}, {[]byte{30}, "30s", 0x10}, {[]byte{0}, "0s", 0}, {[]byte{0, 1}, "-1ns", 0x20}, {[]byte{255, 1}, "-1ns", 0x20}, {[]byte{5, 0}, "5s", 0x10},
	} {
		if code, _ := c.command(command.Chassis, 0x04, test.data...); code != command.OK {
			t.Errorf("% X = %v", test.data, code)
		}
		calls := b.host.calls()
		if got, want := calls[len(calls)-1], "identify "+test.asked+" for admin from 192.0.2.1 by ipmi"; got != want {
			t.Errorf("% X asked %q, want %q", test.data, got, want)
		}
		if got := state(); got != test.state {
			t.Errorf("% X: identify state %02X, want %02X", test.data, got, test.state)
		}
	}
	b = newBMC(t, func(_ *Options, m *machine) { m.identify = nil })
	c = b.console(t, here).at(command.Operator)
	if code, _ := c.command(command.Chassis, 0x04); code != command.InvalidCommand {
		t.Errorf("Chassis Identify without a light = %v, want %v", code, command.InvalidCommand)
	}
	if _, got := c.command(command.Chassis, 0x01); got[2] != 0 {
		t.Errorf("chassis status without a light has byte %02X, want 00", got[2])
	}
}

func TestRestorePolicy(t *testing.T) {
	b := newBMC(t)
	c := b.console(t, here).at(command.Operator)
	for i, want := range []host.RestorePolicy{host.AlwaysOff, host.LastState, host.AlwaysOn, host.AlwaysOn} {
		code, got := c.command(command.Chassis, 0x06, byte(i))
		if code != command.OK || !slices.Equal(got, []byte{7}) || b.host.status.Restore != want {
			t.Errorf("policy %d: %v % X, policy %v, want 07 and %v", i, code, got, b.host.status.Restore, want)
		}
	}
	if got := len(b.host.calls()); got != 3 {
		t.Errorf("the host was asked %d times, want 3: 3 changes nothing", got)
	}
	if code, _ := c.command(command.Chassis, 0x06, 4); code != command.InvalidField {
		t.Errorf("policy 4 = %v, want %v", code, command.InvalidField)
	}
}

func TestRestartCause(t *testing.T) {
	for cause, want := range map[host.Cause][]byte{
		host.CauseUnknown: {0, 0}, host.CauseCommand: {1, 1}, host.CauseResetButton: {2, 0}, host.CausePowerButton: {3, 0},
		host.CauseWatchdog: {4, 0}, host.CauseAlwaysOn: {6, 0}, host.CauseRestore: {7, 0}, host.CauseSoftReset: {0x0A, 0},
	} {
		b := newBMC(t)
		b.host.status.RestartCause = cause
		if _, got := b.console(t, here).login().command(command.Chassis, 0x07); !slices.Equal(got, want) {
			t.Errorf("%s: % X, want % X", cause, got, want)
		}
	}
}

func TestConfig(t *testing.T) {
	if err := DefaultConfig().Validate(); err != nil {
		t.Errorf("the default: %v", err)
	}
	for name, change := range map[string]func(*Config){
		"max_sessions":      func(c *Config) { c.MaxSessions = 64 },
		"idle_timeout":      func(c *Config) { c.IdleTimeout = time.Second },
		"max_privilege":     func(c *Config) { c.MaxPrivilege = command.OEMLevel },
		"logins_per_second": func(c *Config) { c.LoginsPerSecond = 0 },
		"kg":                func(c *Config) { c.KG = "a key of 21 characters" },
	} {
		c := DefaultConfig()
		change(&c)
		if err := c.Validate(); !errors.Is(err, host.ErrInvalid) {
			t.Errorf("%s: %v, want an error that is host.ErrInvalid", name, err)
		}
	}
}

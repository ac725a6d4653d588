package chassis

import (
	"slices"
	"testing"
	"time"

	"github.com/nitrino/nitrino/host"
	"github.com/nitrino/nitrino/ipmi/command"
	"github.com/nitrino/nitrino/ipmi/command/commandtest"
)

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
		b := newRig(t)
		b.host.status, b.host.light = test.status, test.light
		if _, got := b.call(t, 0x01); !slices.Equal(got, test.want) {
			t.Errorf("%s: % X, want % X", test.name, got, test.want)
		}
	}
}

func TestChassisControl(t *testing.T) {
	b := newRig(t)
	c := b
	names := []string{"off", "on", "cycle", "reset", "diag", "soft"}
	for i, name := range names {
		if code, _ := c.call(t, 0x02, byte(i)); code != command.OK {
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
	if code, _ := c.call(t, 0x02, 6); code != command.InvalidField {
		t.Errorf("control 6 = %v, want %v", code, command.InvalidField)
	}
	b.host.change(func(f *fakeHost) { f.absent = []host.Action{host.NMI} })
	if code, _ := c.call(t, 0x02, 4); code != command.Unavailable {
		t.Errorf("diagnostic interrupt without its wire = %v, want %v", code, command.Unavailable)
	}
	if _, got := c.call(t, 0x00); !slices.Equal(got, []byte{0, 0, 0, 0, 0x20}) {
		t.Errorf("capabilities without NMI = % X", got)
	}
	b.host.change(func(f *fakeHost) { f.absent = nil })
	if _, got := c.call(t, 0x00); !slices.Equal(got, []byte{4, 0, 0, 0, 0x20}) {
		t.Errorf("capabilities with NMI = % X", got)
	}
}

func TestIdentify(t *testing.T) {
	b := newRig(t)
	c := b
	state := func() byte { _, got := c.call(t, 0x01); return got[2] & 0x30 }
	for _, test := range []struct {
		data  []byte
		asked string
		state byte
	}{
		{nil, "15s", 0x10}, {[]byte{30}, "30s", 0x10}, {[]byte{0}, "0s", 0}, {[]byte{0, 1}, "-1ns", 0x20}, {[]byte{255, 1}, "-1ns", 0x20}, {[]byte{5, 0}, "5s", 0x10},
	} {
		if code, _ := c.call(t, 0x04, test.data...); code != command.OK {
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
	b = newRig(t, func(o *Options) { o.Identify = nil })
	c = b
	if code, _ := c.call(t, 0x04); code != command.InvalidCommand {
		t.Errorf("Chassis Identify without a light = %v, want %v", code, command.InvalidCommand)
	}
	if _, got := c.call(t, 0x01); got[2] != 0 {
		t.Errorf("chassis status without a light has byte %02X, want 00", got[2])
	}
}

func TestRestorePolicy(t *testing.T) {
	b := newRig(t)
	c := b
	for i, want := range []host.RestorePolicy{host.AlwaysOff, host.LastState, host.AlwaysOn, host.AlwaysOn} {
		code, got := c.call(t, 0x06, byte(i))
		if code != command.OK || !slices.Equal(got, []byte{7}) || b.host.status.Restore != want {
			t.Errorf("policy %d: %v % X, policy %v, want 07 and %v", i, code, got, b.host.status.Restore, want)
		}
	}
	if got := len(b.host.calls()); got != 3 {
		t.Errorf("the host was asked %d times, want 3: 3 changes nothing", got)
	}
	if code, _ := c.call(t, 0x06, 4); code != command.InvalidField {
		t.Errorf("policy 4 = %v, want %v", code, command.InvalidField)
	}
}

func TestRestartCause(t *testing.T) {
	for cause, want := range map[host.Cause][]byte{
		host.CauseUnknown: {0, 0}, host.CauseCommand: {1, 1}, host.CauseResetButton: {2, 0}, host.CausePowerButton: {3, 0},
		host.CauseWatchdog: {4, 0}, host.CauseAlwaysOn: {6, 0}, host.CauseRestore: {7, 0}, host.CauseSoftReset: {0x0A, 0},
	} {
		b := newRig(t)
		b.host.status.RestartCause, b.host.status.RestartVia = cause, "ipmi"
		if _, got := b.call(t, 0x07); !slices.Equal(got, want) {
			t.Errorf("%s: % X, want % X", cause, got, want)
		}
	}
}

// TestRestartCauseElsewhere: a command that came over no channel of IPMI's has
// none.
func TestRestartCauseElsewhere(t *testing.T) {
	b := newRig(t)
	b.host.status.RestartCause, b.host.status.RestartVia = host.CauseCommand, "redfish"
	if _, got := b.call(t, 0x07); !slices.Equal(got, []byte{1, 0}) {
		t.Errorf("% X, want 01 00", got)
	}
	for warm, want := range map[bool]byte{true: 0x08, false: 0x09} {
		b.host.status.RestartVia, b.host.status.RestartWarm = viaPEF, warm
		if _, got := b.call(t, 0x07); !slices.Equal(got, []byte{want, 0}) {
			t.Errorf("by the event filter, warm %v: % X, want %02X 00", warm, got, want)
		}
	}
}

func TestCapabilities(t *testing.T) {
	b := newRig(t, func(o *Options) { o.Has = func(n command.NetFn, cmd uint8) bool { return n == command.Storage } })
	_, got := b.call(t, 0x00)
	if want := []byte{4, 0x20, 0x20, 0x20, 0x20}; !slices.Equal(got, want) {
		t.Fatalf("capabilities % X, want % X", got, want)
	}
	for _, test := range []struct {
		data []byte
		want command.Code
	}{
		{[]byte{0, 0x20, 0x20, 0x20, 0x20}, command.OK},
		{[]byte{0, 0x20, 0x20, 0x20, 0x20, 0x20}, command.OK},
		{[]byte{1, 0x20, 0x20, 0x20, 0x20}, command.InvalidField}, // a sensor of intrusion
		{[]byte{0, 0x22, 0x20, 0x20, 0x20}, command.InvalidField},
		{[]byte{0x80, 0x20, 0x20, 0x20, 0x20}, command.InvalidField},
		{[]byte{0, 0x20, 0x20, 0x20}, command.BadLength},
	} {
		if code, _ := b.call(t, 0x05, test.data...); code != test.want {
			t.Errorf("set % X: %v, want %v", test.data, code, test.want)
		}
	}
}

func TestFrontPanel(t *testing.T) {
	b := newRig(t)
	for data, want := range map[byte]command.Code{0x00: command.OK, 0x01: command.Unavailable, 0x0F: command.Unavailable, 0x10: command.InvalidField} {
		if code, _ := b.call(t, 0x0A, data); code != want {
			t.Errorf("%02X: %v, want %v", data, code, want)
		}
	}
}

func TestCycleInterval(t *testing.T) {
	b := newRig(t)
	if code, _ := b.call(t, 0x0B, 7); code != command.OK {
		t.Errorf("7 s: %v", code)
	}
	if got, want := b.host.calls(), []string{"off time 7s for admin from 192.0.2.1 by ipmi"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	b.host.err = host.ErrInvalid
	if code, _ := b.call(t, 0x0B, 255); code != command.InvalidField {
		t.Errorf("an interval that is refused: %v", code)
	}
	b.host.absent = []host.Action{host.Cycle}
	if code, _ := b.call(t, 0x0B, 7); code != command.InvalidCommand {
		t.Errorf("a host that cannot be cycled: %v", code)
	}
}

func TestHours(t *testing.T) {
	b := newRig(t)
	for _, test := range []struct {
		on   time.Duration
		want []byte
	}{
		{0, []byte{60, 0, 0, 0, 0}},
		{59 * time.Minute, []byte{60, 0, 0, 0, 0}},
		{0x1234 * time.Hour, []byte{60, 0x34, 0x12, 0, 0}},
	} {
		b.host.hours = test.on
		if _, got := b.call(t, 0x0F); !slices.Equal(got, test.want) {
			t.Errorf("%v: % X, want % X", test.on, got, test.want)
		}
	}
	b.host.hours = -1
	if code, _ := b.call(t, 0x0F); code != command.InvalidCommand {
		t.Errorf("nobody can tell: %v", code)
	}
}

func FuzzCommands(f *testing.F) { commandtest.Fuzz(f, newRig(f).Commands()) }

package chassis

import (
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nitrino/nitrino/host"
	"github.com/nitrino/nitrino/ipmi/command"
)

func TestBootFlags(t *testing.T) {
	pxe := host.BootOverride{Target: host.BootPXE}
	with := func(o host.BootOverride, f func(*host.BootOverride)) host.BootOverride { f(&o); return o }
	uefi := func(o *host.BootOverride) { o.Mode = host.BootModeUEFI }
	always := func(o *host.BootOverride) { o.Continuous = true }
	for _, test := range []struct {
		name string
		data []byte
		code command.Code
		want host.BootOverride
		back []byte // as read again; nil: as set
	}{
		{"PXE", []byte{0x80, 0x04, 0, 0, 0}, command.OK, pxe, nil},
		{"PXE, always", []byte{0xC0, 0x04, 0, 0, 0}, command.OK, with(pxe, always), nil},
		{"Ironic, one boot", []byte{0xA0, 0x04, 0, 0, 0}, command.OK, with(pxe, uefi), nil},
		{"Ironic, always", []byte{0xE0, 0x08, 0, 0, 0}, command.OK, with(with(host.BootOverride{Target: host.BootDisk}, uefi), always), nil},
		{"CD", []byte{0x80, 0x14, 0, 0, 0}, command.OK, host.BootOverride{Target: host.BootCD}, nil},
		{"remote CD", []byte{0x80, 0x20, 0, 0, 0}, command.OK, host.BootOverride{Target: host.BootCD}, []byte{0x80, 0x14, 0, 0, 0}},
		{"setup", []byte{0x80, 0x18, 0, 0, 0}, command.OK, host.BootOverride{Target: host.BootBIOSSetup}, nil},
		{"no override", []byte{0x80, 0, 0, 0, 0}, command.OK, host.BootOverride{Target: host.BootDefault}, make([]byte, 5)},
		{"not valid", []byte{0x00, 0x04, 0, 0, 0}, command.OK, host.BootOverride{Target: host.BootDefault}, make([]byte, 5)},
		{"safe mode", []byte{0x80, 0x0C, 0, 0, 0}, command.InvalidField, host.BootOverride{}, nil},
		{"diagnostic partition", []byte{0x80, 0x10, 0, 0, 0}, command.InvalidField, host.BootOverride{}, nil},
		{"clear CMOS", []byte{0x80, 0x84, 0, 0, 0}, command.InvalidField, host.BootOverride{}, nil},
		{"lock out reset", []byte{0x80, 0x05, 0, 0, 0}, command.InvalidField, host.BootOverride{}, nil},
		{"console redirection", []byte{0x80, 0x04, 1, 0, 0}, command.InvalidField, host.BootOverride{}, nil},
		{"device instance", []byte{0x80, 0x04, 0, 0, 1}, command.InvalidField, host.BootOverride{}, nil},
		{"short", []byte{0x80, 0x04, 0, 0}, command.BadLength, host.BootOverride{}, nil},
	} {
		b := newRig(t)
		c := b
		code, _ := c.call(t, 0x08, append([]byte{5}, test.data...)...)
		if code != test.code {
			t.Errorf("%s: %v, want %v", test.name, code, test.code)
		}
		if code != command.OK {
			if got := b.host.calls(); len(got) != 0 {
				t.Errorf("%s: refused, and the host was asked %q", test.name, got)
			}
			continue
		}
		got := b.host.boots
		oneTime := got.Target != host.BootDefault && !got.Continuous
		if oneTime == got.Expires.IsZero() {
			t.Errorf("%s: expires %v", test.name, got.Expires)
		}
		got.Expires = time.Time{}
		if got != test.want {
			t.Errorf("%s: override %+v, want %+v", test.name, got, test.want)
		}
		back := test.back
		if back == nil {
			back = test.data
		}
		if code, got := c.call(t, 0x09, 5, 0, 0); code != command.OK || !slices.Equal(got, append([]byte{1, 5}, back...)) {
			t.Errorf("%s: read back %v % X, want 01 05 % X", test.name, code, got, back)
		}
	}
}

func TestBootFlagsOfOthers(t *testing.T) {
	for _, test := range []struct {
		o    host.BootOverride
		want []byte
	}{
		{host.BootOverride{Target: host.BootUEFIHTTP, Mode: host.BootModeUEFI}, []byte{0xA0, 0x04, 0, 0, 0}},
		{host.BootOverride{Target: host.BootDisk, Mode: host.BootModeLegacy, Continuous: true}, []byte{0xC0, 0x08, 0, 0, 0}},
		{host.BootOverride{}, []byte{0, 0, 0, 0, 0}},
	} {
		b := newRig(t)
		b.host.boots = test.o
		c := b
		if _, got := c.call(t, 0x09, 5, 0, 0); !slices.Equal(got[2:], test.want) {
			t.Errorf("%+v: % X, want % X", test.o, got[2:], test.want)
		}
	}
	b := newRig(t)
	b.host.err = errors.ErrUnsupported
	if code, _ := b.call(t, 0x08, 5, 0x80, 4, 0, 0, 0); code != command.InvalidField {
		t.Errorf("a target without a wire = %v, want %v", code, command.InvalidField)
	}
}

func TestBootFlagsExpire(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newRig(t)
		login := func() *rig { return b }
		valid := func() bool {
			_, got := login().call(t, 0x09, 5, 0, 0)
			return got[2]&0x80 != 0
		}
		set := func() {
			if code, _ := login().call(t, 0x08, 5, 0x80, 4, 0, 0, 0); code != command.OK {
				t.Fatalf("setting boot flags = %v", code)
			}
		}
		set()
		time.Sleep(59 * time.Second)
		if !valid() {
			t.Error("the flags ended before 60 s")
		}
		// A chassis control command begins the count again.
		if code, _ := login().call(t, 0x02, 2); code != command.OK {
			t.Errorf("Chassis Control = %v", code)
		}
		time.Sleep(59 * time.Second)
		if !valid() {
			t.Error("the flags ended 59 s after the chassis control command")
		}
		time.Sleep(2 * time.Second)
		if valid() {
			t.Error("the flags live after 60 s")
		}
		// Ironic: parameter 3, bit 3.
		if code, _ := login().call(t, 0x08, 3, 8); code != command.OK {
			t.Errorf("parameter 3 = %v", code)
		}
		set()
		time.Sleep(time.Hour)
		if !valid() {
			t.Error("the flags ended though parameter 3 says never")
		}
	})
}

// TestBootCountdownSteps: who repeats a command moves the end of the flags now
// and then, not each time.
func TestBootCountdownSteps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newRig(t)
		if code, _ := b.call(t, 0x08, 5, 0x80, 4, 0, 0, 0); code != command.OK {
			t.Fatalf("setting boot flags = %v", code)
		}
		moved, end := 0, b.host.boots.Expires
		for range 200 { // 20 s
			time.Sleep(100 * time.Millisecond)
			b.call(t, 0x02, 1)
			if now := b.host.boots.Expires; now != end {
				moved, end = moved+1, now
			}
		}
		if moved != 4 {
			t.Errorf("the end was moved %d times in 20 s, want 4", moved)
		}
	})
}

func TestBootParameters(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newRig(t)
		c := b
		for _, test := range []struct {
			name string
			cmd  byte
			data []byte
			code command.Code
			want []byte
		}{
			{"progress", 9, []byte{0, 0, 0}, command.OK, []byte{1, 0, 0}},
			{"set progress", 8, []byte{0, 1}, command.OK, nil},
			{"progress", 9, []byte{0, 0, 0}, command.OK, []byte{1, 0, 1}},
			{"set progress twice", 8, []byte{0, 1}, codeInProgress, nil},
			{"complete", 8, []byte{0, 0}, command.OK, nil},
			{"set progress again", 8, []byte{0, 1}, command.OK, nil},
			{"commit", 8, []byte{0, 2}, command.InvalidField, nil},
			{"clearing", 9, []byte{3, 0, 0}, command.OK, []byte{1, 3, 0}},
			{"set clearing", 8, []byte{3, 0xFF}, command.OK, nil},
			{"clearing", 9, []byte{3, 0, 0}, command.OK, []byte{1, 3, 0x1F}},
			{"acknowledge", 9, []byte{4, 0, 0}, command.OK, []byte{1, 4, 0, 0}},
			{"ipmitool's acknowledge", 8, []byte{4, 1, 1}, command.OK, nil},
			{"acknowledge other bits", 8, []byte{4, 0x1E, 4}, command.OK, nil},
			{"acknowledge", 9, []byte{4, 0, 0}, command.OK, []byte{1, 4, 0, 5}},
			{"acknowledge off", 8, []byte{4, 1, 0}, command.OK, nil},
			{"acknowledge", 9, []byte{4, 0, 0}, command.OK, []byte{1, 4, 0, 4}},
			{"set service partition", 8, []byte{1, 7}, command.OK, nil},
			{"service partition", 9, []byte{1, 0, 0}, command.OK, []byte{1, 1, 7}},
			{"set partition scan", 8, []byte{2, 3}, command.OK, nil},
			{"partition scan", 9, []byte{2, 0, 0}, command.OK, []byte{1, 2, 3}},
			{"set initiator info", 8, []byte{6, 1, 2, 3, 4, 5, 6, 7, 8, 9}, command.OK, nil},
			{"initiator info", 9, []byte{6, 0, 0}, command.OK, []byte{1, 6, 1, 2, 3, 4, 5, 6, 7, 8, 9}},
			{"half of the initiator info", 8, []byte{6, 1, 2, 3, 4}, command.BadLength, nil},
			{"set mailbox", 8, []byte{7, 15, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16}, command.OK, nil},
			{"mailbox", 9, []byte{7, 15, 0}, command.OK, []byte{1, 7, 15, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16}},
			{"set a part of a block", 8, []byte{7, 15, 0x57, 1, 0, 'h', 'i'}, command.OK, nil},
			{"the rest is cleared", 9, []byte{7, 15, 0}, command.OK, []byte{1, 7, 15, 0x57, 1, 0, 'h', 'i', 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}},
			{"set nothing of a block", 8, []byte{7, 15}, command.BadLength, nil},
			{"mailbox's first block", 9, []byte{7, 0, 0}, command.OK, append([]byte{1, 7, 0}, make([]byte, 16)...)},
			{"beyond the mailbox", 9, []byte{7, 16, 0}, command.OutOfRange, nil},
			{"set beyond the mailbox", 8, append([]byte{7, 16}, make([]byte, 16)...), command.OutOfRange, nil},
			{"parameter 8", 9, []byte{8, 0, 0}, codeParamUnsupported, nil},
			{"set parameter 8", 8, []byte{8, 0}, codeParamUnsupported, nil},
			{"lock", 8, []byte{0x83, 0}, command.InvalidField, nil},
			{"selector only", 8, []byte{3}, command.BadLength, nil},
			{"too much", 8, []byte{3, 0, 0}, command.BadLength, nil},
		} {
			code, got := c.call(t, test.cmd, test.data...)
			if code != test.code || !slices.Equal(got, test.want) {
				t.Errorf("%s: %v % X, want %v % X", test.name, code, got, test.code, test.want)
			}
		}
		// A console that died in the middle does not lock out the others.
		time.Sleep(61 * time.Second)
		if code, _ := c.call(t, 0x08, 0, 1); code != command.OK {
			t.Errorf("set progress 61 s after a console died = %v", code)
		}
	})
	b := newRig(t, func(o *Options) { o.Boot = nil })
	c := b
	for _, cmd := range []byte{8, 9} {
		if code, _ := c.call(t, cmd, 5, 0, 0); code != command.InvalidCommand {
			t.Errorf("00/%02X without a way to steer the boot = %v, want %v", cmd, code, command.InvalidCommand)
		}
	}
}

// TestBootDevices: a selector means what the host can do of it.
func TestBootDevices(t *testing.T) {
	for _, test := range []struct {
		name     string
		targets  []host.BootTarget
		selector byte
		want     host.BootTarget // empty: refused
		back     byte
	}{
		{"a removable medium by USB", []host.BootTarget{host.BootUSB, host.BootFloppy}, 0xF, host.BootUSB, 0xF},
		{"a floppy", []host.BootTarget{host.BootFloppy}, 0xF, host.BootFloppy, 0xF},
		{"a remote floppy", []host.BootTarget{host.BootFloppy}, 0x7, host.BootFloppy, 0xF},
		{"no removable medium", []host.BootTarget{host.BootPXE}, 0xF, "", 0},
		{"diagnostics", []host.BootTarget{host.BootDiags}, 0x4, host.BootDiags, 0x4},
		{"network by HTTP alone", []host.BootTarget{host.BootUEFIHTTP}, 0x1, host.BootUEFIHTTP, 0x1},
	} {
		b := newRig(t)
		b.host.targets = test.targets
		code, _ := b.call(t, 0x08, 5, 0x80, test.selector<<2, 0, 0, 0)
		if want := map[bool]command.Code{true: command.OK, false: command.InvalidField}[test.want != ""]; code != want {
			t.Errorf("%s: %v, want %v", test.name, code, want)
		}
		if test.want == "" {
			continue
		}
		if got := b.host.boots.Target; got != test.want {
			t.Errorf("%s: target %q, want %q", test.name, got, test.want)
		}
		if _, got := b.call(t, 0x09, 5, 0, 0); got[3]>>2 != test.back {
			t.Errorf("%s: read back as %X, want %X", test.name, got[3]>>2, test.back)
		}
	}
}

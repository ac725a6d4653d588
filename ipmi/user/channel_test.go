package user

import (
	"errors"
	"slices"
	"testing"

	"github.com/nitrino/nitrino/host"
	"github.com/nitrino/nitrino/ipmi/command"
	"github.com/nitrino/nitrino/ipmi/command/commandtest"
)

func TestGetChannelAccess(t *testing.T) {
	r := newRig(t)
	r.channel.kept = Access{Alerts: true, Limit: command.Operator}
	r.gets("kept", []byte{0x00, 3}, 0x41, 1, 0x40)
	r.gets("in force", []byte{0x22, 4}, 0x41, 0x0E, 0x80)
	r.ask("neither", "CCh", 0x41, 1, 0x00)
	r.ask("reserved", "CCh", 0x41, 1, 0xC0)
	r.ask("another channel", "CCh", 0x41, 0, 0x40)
	r.ask("too short", "C7h", 0x41, 1)
}

func TestSetChannelAccess(t *testing.T) {
	const from = " for admin from 192.0.2.1 by ipmi"
	for _, c := range []struct {
		what  string
		data  []byte
		code  string
		asked []string
	}{
		{"nothing", []byte{1, 0x00, 0x00}, "00h", nil},
		{"what is so already", []byte{1, 0x62, 0x44}, "00h", nil},
		{"kept mode and limit", []byte{1, 0x60, 0x43}, "00h", []string{"kept true: enabled false, OPERATOR, alerts false" + from}},
		{"limit in force", []byte{0x0E, 0x00, 0x82}, "00h", []string{"kept false: enabled true, USER, alerts false" + from}},
		{"alerts in force", []byte{1, 0x82, 0x00}, "00h", []string{"kept false: enabled true, ADMINISTRATOR, alerts true" + from}},
		{"one kept, one in force", []byte{1, 0x42, 0x83}, "00h", []string{
			"kept true: enabled true, ADMINISTRATOR, alerts true" + from, "kept false: enabled true, OPERATOR, alerts false" + from}},
		{"another channel", []byte{2, 0x62, 0x44}, "CCh", nil},
		{"reserved access", []byte{1, 0xC2, 0x00}, "CCh", nil},
		{"reserved limit", []byte{1, 0x00, 0xC4}, "CCh", nil},
		{"no authentication of messages", []byte{1, 0x72, 0x00}, "CCh", nil},
		{"no authentication of users", []byte{1, 0x6A, 0x00}, "CCh", nil},
		{"before the boot only", []byte{1, 0x61, 0x00}, "83h", nil},
		{"shared", []byte{1, 0x83, 0x00}, "83h", nil},
		{"limit of callback", []byte{1, 0x00, 0x41}, "CCh", nil},
		{"limit of OEM", []byte{1, 0x00, 0x45}, "CCh", nil},
		{"too short", []byte{1, 0x00}, "C7h", nil},
	} {
		r := newRig(t)
		r.ask(c.what, c.code, 0x40, c.data...)
		if !slices.Equal(r.channel.asked, c.asked) {
			t.Errorf("%s: got %q, want %q", c.what, r.channel.asked, c.asked)
		}
	}
}

func TestChannelErrors(t *testing.T) {
	r := newRig(t)
	r.channel.err = host.ErrInvalid
	r.ask("refused", "CCh", 0x40, 1, 0x42, 0x00)
	r.channel.err = errors.New("disk full")
	r.ask("failed", "FFh", 0x40, 1, 0x42, 0x00)
}

// TestDisableOwnChannel: the port closes, but not before the answer is out; what
// is kept can be set first.
func TestDisableOwnChannel(t *testing.T) {
	r := newRig(t)
	call := command.Call{Data: []byte{1, 0xA0, 0x84}, Origin: commandtest.Origin()}
	r.ask("lan set 1 access off: kept", "00h", 0x40, 1, 0x60, 0x44)
	if code := r.setChannelAccess(&call); code != command.OK || !r.channel.inForce.Enabled || call.After == nil {
		t.Fatalf("got %v, enabled %v; want 00h, and the port closed only when the answer is out", code, r.channel.inForce.Enabled)
	}
	call.After()
	if r.channel.inForce.Enabled || r.channel.kept.Enabled {
		t.Error("the channel is still enabled")
	}
	// Whether that worked cannot be told any more.
	r.channel.inForce.Enabled, r.channel.err = true, errors.New("disk full")
	call = command.Call{Data: []byte{1, 0xA0, 0x84}, Origin: commandtest.Origin()}
	if code := r.setChannelAccess(&call); code != command.OK {
		t.Errorf("got %v, want 00h", code)
	}
	call.After()
}

func TestSecurityKeys(t *testing.T) {
	r := newRig(t)
	key := padded("a\x00b\x00\xFF", 20)
	r.ask("another channel", "CCh", 0x56, 2, 0, 1)
	r.ask("reserved operation", "CCh", 0x56, 1, 3, 1)
	r.ask("unknown key", "CCh", 0x56, 1, 0, 2)
	r.ask("K_R read", "84h", 0x56, 1, 0, 0)
	r.ask("K_R set", "84h", 0x56, append([]byte{1, 1, 0}, key...)...)
	r.ask("K_R locked", "84h", 0x56, 1, 2, 0)
	r.gets("no K_G", append([]byte{2}, padded("", 20)...), 0x56, 1, 0, 1)
	r.ask("a key where one is read", "C7h", 0x56, append([]byte{1, 0, 1}, key...)...)
	r.ask("no bytes", "81h", 0x56, 1, 1, 1)
	r.ask("19 bytes", "81h", 0x56, append([]byte{1, 1, 1}, key[:19]...)...)
	r.ask("21 bytes", "82h", 0x56, append([]byte{1, 1, 1, 0}, key...)...)
	r.gets("set", []byte{2}, 0x56, append([]byte{0x0E, 1, 1}, key...)...)
	r.gets("set again", []byte{2}, 0x56, append([]byte{1, 1, 1}, key...)...)
	if r.keys.sets != 1 {
		t.Errorf("the same key was set %d times, want once", r.keys.sets)
	}
	r.gets("read", append([]byte{2}, key...), 0x56, 1, 0, 1)
	r.keys.err = errors.New("disk full")
	r.ask("set, and the disk fails", "FFh", 0x56, append([]byte{1, 1, 1}, padded("", 20)...)...)
	r.ask("lock, and the disk fails", "FFh", 0x56, 1, 2, 1)
	r.keys.err = nil
	r.gets("lock", []byte{1}, 0x56, 1, 2, 1)
	r.gets("lock again", []byte{1}, 0x56, 1, 2, 1)
	r.ask("read what is locked", "80h", 0x56, 1, 0, 1)
	r.ask("set what is locked", "80h", 0x56, append([]byte{1, 1, 1}, key...)...)
}

package watchdog

import (
	"errors"
	"io"
	"log/slog"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/nitrino/nitrino/host"
	"github.com/nitrino/nitrino/ipmi/command"
	"github.com/nitrino/nitrino/ipmi/command/commandtest"
)

// fakeTimer remembers what it was told.
type fakeTimer struct {
	config host.WatchdogConfig
	status host.WatchdogStatus
	starts []host.Origin
	err    error
}

func (f *fakeTimer) Set(c host.WatchdogConfig, _ host.Origin) error {
	if f.err == nil {
		f.config = c
	}
	return f.err
}

func (f *fakeTimer) Start(o host.Origin) error {
	if f.err == nil {
		f.starts = append(f.starts, o)
	}
	return f.err
}

func (f *fakeTimer) Status() host.WatchdogStatus { return f.status }

func newRig() (*fakeTimer, []command.Command) {
	f := &fakeTimer{}
	return f, New(f, slog.New(slog.NewTextHandler(io.Discard, nil))).Commands()
}

func TestSet(t *testing.T) {
	for _, test := range []struct {
		name string
		data []byte
		err  error
		code command.Code
		want host.WatchdogConfig
	}{
		{"ipmitool's off", []byte{0x04, 0x00, 0, 0x10, 0xB8, 0x0B}, nil, command.OK,
			host.WatchdogConfig{Use: host.WatchdogSMSOS, Timeout: 300 * time.Second, ClearExpired: []host.WatchdogUse{host.WatchdogSMSOS}}},
		{"all", []byte{0xC1, 0x23, 9, 0x3E, 0xFF, 0xFF}, nil, command.OK,
			host.WatchdogConfig{Use: host.WatchdogBIOSFRB2, Action: host.Cycle, PreNMI: true, PreTimeout: 9 * time.Second, Timeout: 65535 * tick, Quiet: true, KeepRunning: true,
				ClearExpired: []host.WatchdogUse{host.WatchdogBIOSFRB2, host.WatchdogBIOSPost, host.WatchdogOSLoad, host.WatchdogSMSOS, host.WatchdogOEM}}},
		{"power down, at once", []byte{0x03, 0x02, 0, 0, 0, 0}, nil, command.OK, host.WatchdogConfig{Use: host.WatchdogOSLoad, Action: host.ForceOff}},
		{"use 0", []byte{0x00, 0x01, 0, 0, 1, 0}, nil, command.InvalidField, host.WatchdogConfig{}},
		{"use 6", []byte{0x06, 0x01, 0, 0, 1, 0}, nil, command.InvalidField, host.WatchdogConfig{}},
		{"reserved bit of the use", []byte{0x0C, 0x01, 0, 0, 1, 0}, nil, command.InvalidField, host.WatchdogConfig{}},
		{"action 4", []byte{0x04, 0x04, 0, 0, 1, 0}, nil, command.InvalidField, host.WatchdogConfig{}},
		{"SMI", []byte{0x04, 0x11, 1, 0, 100, 0}, nil, command.InvalidField, host.WatchdogConfig{}},
		{"messaging interrupt", []byte{0x04, 0x31, 1, 0, 100, 0}, nil, command.InvalidField, host.WatchdogConfig{}},
		{"reserved bit of the action", []byte{0x04, 0x81, 1, 0, 100, 0}, nil, command.InvalidField, host.WatchdogConfig{}},
		{"an action without its wire", []byte{0x04, 0x01, 0, 0, 1, 0}, errors.ErrUnsupported, command.InvalidField, host.WatchdogConfig{}},
		{"refused by the host", []byte{0x04, 0x01, 0, 0, 1, 0}, host.ErrInvalid, command.InvalidField, host.WatchdogConfig{}},
		{"short", []byte{0x04, 0x01, 0, 0, 1}, nil, command.BadLength, host.WatchdogConfig{}},
	} {
		f, list := newRig()
		f.err = test.err
		code, got := commandtest.Call(t, list, command.App, 0x24, test.data...)
		if code != test.code || len(got) != 0 || !reflect.DeepEqual(f.config, test.want) {
			t.Errorf("%s: %v, % X, %+v, want %v, %+v", test.name, code, got, f.config, test.code, test.want)
		}
	}
}

func TestGet(t *testing.T) {
	for _, test := range []struct {
		name   string
		status host.WatchdogStatus
		want   []byte
	}{
		{"never set", host.WatchdogStatus{}, []byte{0, 0, 0, 0, 0, 0, 0, 0}},
		{"runs", host.WatchdogStatus{Set: true, Running: true, Left: 59900 * time.Millisecond,
			Config: host.WatchdogConfig{Use: host.WatchdogSMSOS, Action: host.Reset, Timeout: time.Minute}}, []byte{0x44, 0x01, 0, 0, 0x58, 0x02, 0x57, 0x02}},
		{"expired", host.WatchdogStatus{Set: true, Expired: map[host.WatchdogUse]bool{host.WatchdogBIOSPost: true, host.WatchdogOEM: true},
			Config: host.WatchdogConfig{Use: host.WatchdogOEM, Action: host.ForceOff, PreNMI: true, PreTimeout: 5 * time.Second, Timeout: 10 * time.Second, Quiet: true}},
			[]byte{0x85, 0x22, 5, 0x24, 100, 0, 0, 0}},
	} {
		f, list := newRig()
		f.status = test.status
		if code, got := commandtest.Call(t, list, command.App, 0x25); code != command.OK || !slices.Equal(got, test.want) {
			t.Errorf("%s: %v, % X, want % X", test.name, code, got, test.want)
		}
	}
}

func TestReset(t *testing.T) {
	f, list := newRig()
	f.err = host.ErrNotSet
	if code, _ := commandtest.Call(t, list, command.App, 0x22); code != codeNotSet {
		t.Errorf("before it was set: %v, want %v", code, codeNotSet)
	}
	f.err = nil
	if code, _ := commandtest.Call(t, list, command.App, 0x22); code != command.OK {
		t.Errorf("got %v", code)
	}
	if want := []host.Origin{commandtest.Origin()}; !slices.Equal(f.starts, want) {
		t.Errorf("started by %v, want %v", f.starts, want)
	}
}

func FuzzCommands(f *testing.F) {
	_, list := newRig()
	commandtest.Fuzz(f, list)
}

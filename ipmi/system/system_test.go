package system

import (
	"bytes"
	"io"
	"log/slog"
	"path/filepath"
	"testing"

	"github.com/nitrino/nitrino/host"
	"github.com/nitrino/nitrino/internal/store"
	"github.com/nitrino/nitrino/ipmi/command"
	"github.com/nitrino/nitrino/ipmi/command/commandtest"
)

type fakePower host.PowerStatus

func (p *fakePower) Status() host.PowerStatus { return host.PowerStatus(*p) }

type fakeLogging struct{ on bool }

func (l *fakeLogging) Logging() bool { return l.on }

func (l *fakeLogging) SetLogging(on bool, _ host.Origin) error { l.on = on; return nil }

type rig struct {
	*System
	events *[]host.Event
	power  *fakePower
	log    *fakeLogging
}

func open(t testing.TB, path string) (rig, *store.Store) {
	t.Helper()
	db, err := store.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	r := rig{power: &fakePower{State: host.StateOff}, log: &fakeLogging{on: true}}
	r.events = new([]host.Event)
	r.System = New(Options{Power: r.power, Logging: r.log, Event: func(e host.Event) { *r.events = append(*r.events, e) }, Store: db, Log: slog.New(slog.NewTextHandler(io.Discard, nil))})
	return r, db
}

func newRig(t testing.TB) rig {
	r, db := open(t, filepath.Join(t.TempDir(), "db"))
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	return r
}

func (r rig) call(t testing.TB, cmd byte, data ...byte) (command.Code, []byte) {
	t.Helper()
	return commandtest.Call(t, r.Commands(), command.App, cmd, data...)
}

func TestACPI(t *testing.T) {
	r := newRig(t)
	for _, test := range []struct {
		status host.PowerStatus
		want   byte
	}{
		{host.PowerStatus{State: host.StateOn, PowerGood: true}, 0x00},
		{host.PowerStatus{State: host.StateAsleep, PowerGood: true}, 0x03},
		{host.PowerStatus{State: host.StateOff}, 0x06},
		{host.PowerStatus{State: host.StateOff, StandbyWired: true, Standby: true}, 0x06},
		{host.PowerStatus{State: host.StateOff, StandbyWired: true}, 0x07},
		{host.PowerStatus{State: host.StateUnknown}, 0x2A},
	} {
		*r.power = fakePower(test.status)
		if code, got := r.call(t, 0x07); code != command.OK || !bytes.Equal(got, []byte{test.want, 0}) {
			t.Errorf("%+v: got %v, % X, want %02X 00", test.status, code, got, test.want)
		}
		for _, set := range []struct {
			data [2]byte
			want command.Code
		}{
			{[2]byte{0x00, 0x00}, command.OK}, // nothing is to be set
			{[2]byte{0xFF, 0xFF}, command.OK}, // no change
			{[2]byte{0x80 | test.want, 0x80}, command.OK},
			{[2]byte{0x80 | 0x01, 0x00}, command.InvalidField}, // S1, which no wire tells
			{[2]byte{0x00, 0x83}, command.InvalidField},        // a BMC in D3 does not answer
		} {
			if code, _ := r.call(t, 0x06, set.data[:]...); code != set.want {
				t.Errorf("%+v: setting % X: got %v, want %v", test.status, set.data, code, set.want)
			}
		}
	}
}

func TestEnables(t *testing.T) {
	r := newRig(t)
	for _, step := range []struct {
		set  byte
		want command.Code
		get  byte
	}{
		{0x08, command.OK, 0x08},
		{0x00, command.OK, 0x00},
		{0x0C, command.InvalidField, 0x00}, // the event message buffer
		{0x08, command.OK, 0x08},
		{0x80, command.InvalidField, 0x08},
	} {
		if code, _ := r.call(t, 0x2E, step.set); code != step.want {
			t.Errorf("set %02X: got %v, want %v", step.set, code, step.want)
		}
		if code, got := r.call(t, 0x2F); code != command.OK || !bytes.Equal(got, []byte{step.get}) {
			t.Errorf("after %02X: got %v, % X, want %02X", step.set, code, got, step.get)
		}
	}
}

// TestInfo sets the system's name as ipmitool does, reads it back, and again
// after a restart, when what is not to be kept is gone.
func TestInfo(t *testing.T) {
	path := filepath.Join(t.TempDir(), "db")
	r, db := open(t, path)
	// Encoding 0, 20 characters, in two blocks.
	first := append([]byte{0x02, 0, 0x00, 20}, "machine-of-th"[:13]...)
	first = append(first, 'e')
	second := append([]byte{0x02, 1}, "-cellar"...)
	for _, set := range [][]byte{{0, 1}, first, second, {0, 0}, {0x04, 0, 0, 5, 'L', 'i', 'n', 'u', 'x'}} {
		if code, _ := r.call(t, 0x58, set...); code != command.OK {
			t.Errorf("set % X: got %v", set, code)
		}
	}
	check := func(r rig, param, set byte, want []byte) {
		t.Helper()
		want = append(append([]byte{0x11, set}, want...), make([]byte, 16-len(want))...)
		if code, got := r.call(t, 0x59, 0, param, set, 0); code != command.OK || !bytes.Equal(got, want) {
			t.Errorf("parameter %d, block %d: got %v, % X, want % X", param, set, code, got, want)
		}
	}
	if len(*r.events) != 1 || (*r.events)[0].Kind != "ipmi.system-info" || (*r.events)[0].Origin != commandtest.Origin() {
		t.Errorf("events %+v, want one of who changed it", *r.events)
	}
	check(r, 2, 0, first[2:])
	check(r, 2, 1, second[2:])
	check(r, 3, 0, nil)
	check(r, 4, 0, []byte{0, 5, 'L', 'i', 'n', 'u', 'x'})
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	// What is there already is not written again.
	if code, _ := r.call(t, 0x58, first...); code != command.OK {
		t.Errorf("the same again: got %v", code)
	}
	if code, _ := r.call(t, 0x58, 0x02, 0, 0x00, 1, 'x'); code != command.Unspecified {
		t.Errorf("a change that cannot be written: got %v", code)
	}
	r, db = open(t, path)
	defer db.Close()
	check(r, 2, 0, first[2:])
	check(r, 2, 1, second[2:])
	check(r, 4, 0, nil)
}

func TestInfoRefused(t *testing.T) {
	r := newRig(t)
	for _, test := range []struct {
		cmd  byte
		data []byte
		want command.Code
	}{
		{0x58, []byte{0, 1}, command.OK},
		{0x58, []byte{0, 1}, codeInProgress},
		{0x58, []byte{0, 2}, command.InvalidField},
		{0x58, []byte{0, 0, 0}, command.BadLength},
		{0x58, []byte{8, 0, 0}, codeParamUnsupported},
		{0x58, []byte{2, 0}, command.BadLength},
		{0x58, []byte{2, blocks, 0}, command.OutOfRange},
		{0x59, []byte{0, 8, 0, 0}, codeParamUnsupported},
		{0x59, []byte{0, 2, blocks, 0}, command.OutOfRange},
		{0x59, []byte{0, 0, 0, 0}, command.OK},
		{0x59, []byte{0x80, 2, 0, 0}, command.OK},
	} {
		if code, _ := r.call(t, test.cmd, test.data...); code != test.want {
			t.Errorf("%02X % X: got %v, want %v", test.cmd, test.data, code, test.want)
		}
	}
}

func FuzzCommands(f *testing.F) { commandtest.Fuzz(f, newRig(f).Commands()) }

package dcmi

import (
	"bytes"
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nitrino/nitrino/host"
	"github.com/nitrino/nitrino/internal/fru"
	"github.com/nitrino/nitrino/ipmi/command"
)

// A step is one command and its answer.
type step struct {
	name string
	cmd  byte
	data []byte
	code command.Code
	want []byte
}

func (b *bench) steps(t *testing.T, list []step) {
	t.Helper()
	for _, s := range list {
		code, got := b.call(t, s.cmd, s.data...)
		if code != s.code || code == command.OK && !bytes.Equal(got, s.want) {
			t.Errorf("%s: got %v % x, want %v % x", s.name, code, got, s.code, s.want)
		}
	}
}

func TestCapabilities(t *testing.T) {
	newBench(t).steps(t, []step{
		{"supported", 0x01, []byte{1}, command.OK, []byte{1, 5, 2, 0x0F, 0x01, 0x18}},
		{"mandatory", 0x01, []byte{2}, command.OK, []byte{1, 5, 2, 0xE8, 0xA3, 0x07, 0x07, 1}},
		{"optional", 0x01, []byte{3}, command.OK, []byte{1, 5, 2, 0x40, 0x01}},
		{"access", 0x01, []byte{4}, command.OK, []byte{1, 5, 2, 1, 0xFF, 0xFF}},
		{"power", 0x01, []byte{5}, command.OK, []byte{1, 5, 2, 9, 0x05, 0x0F, 0x1E, 0x41, 0x43, 0x47, 0x4F, 0x5E, 0x81}},
		{"none", 0x01, []byte{0}, command.InvalidField, nil},
		{"unknown", 0x01, []byte{6}, command.InvalidField, nil},
	})
	bare := newBench(t, func(b *bench, o *Options) {
		o.Features, o.Meter, o.Names, o.Thermometers = Features{SELEntries: 70000}, nil, nil, nil
	})
	bare.steps(t, []step{
		{"supported, bare", 0x01, []byte{1}, command.OK, []byte{1, 5, 2, 0x03, 0x00, 0x08}},
		{"mandatory, bare", 0x01, []byte{2}, command.OK, []byte{1, 5, 2, 0xFF, 0x0F, 0x05, 0x00, 1}},
		{"power, bare", 0x01, []byte{5}, command.NotPresent, nil},
	})
	for _, cmd := range []byte{0x02, 0x03, 0x04, 0x05, 0x09, 0x0A, 0x0B, 0x0C} {
		if slices.ContainsFunc(bare.Commands(), func(c command.Command) bool { return c.Cmd == cmd }) {
			t.Errorf("command %02Xh is there without its wire", cmd)
		}
	}
}

func TestPowerReading(t *testing.T) {
	b := newBench(t)
	b.meter.set(host.MeterStatus{Now: 150.4, At: time.Unix(9_999, 0), Valid: true, Min: -3, Max: 70_000, Average: 149.6, Since: time.Unix(9_000, 0)})
	b.steps(t, []step{
		{"normal", 0x02, []byte{1, 0, 0}, command.OK,
			[]byte{150, 0, 0, 0, 0xFE, 0xFF, 150, 0, 0x0F, 0x27, 0, 0, 0x40, 0x42, 0x0F, 0, 0x40}},
		{"mode", 0x02, []byte{3, 0, 0}, command.InvalidField, nil},
		{"window", 0x02, []byte{2, 0x42, 0}, command.OutOfRange, nil},
		{"nothing sampled", 0x02, []byte{2, 0x05, 0}, command.OK, []byte{150, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x05, 0, 0, 0, 0}},
	})
	b.meter.set(host.MeterStatus{})
	b.steps(t, []step{
		{"not measured", 0x02, []byte{1, 0, 0}, command.OK, make([]byte, 17)},
	})
}

// TestWindows: the averages roll, and seconds without a reading do not count.
func TestWindows(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		ended := make(chan error)
		go func() { ended <- b.Run(ctx) }()
		time.Sleep(time.Second / 2)
		for i := range 4000 {
			b.meter.set(host.MeterStatus{Now: float64(i), At: time.Now(), Valid: i%2 == 0})
			time.Sleep(time.Second)
		}
		for _, tt := range []struct {
			code           byte
			lowest, newest uint16
		}{
			{0x05, 3996, 3998}, // 3995 to 3999, the even ones of them
			{0x1E, 3970, 3998},
			{0x41, 3940, 3998},
			{0x81, 400, 3998},
		} {
			code, got := b.call(t, 0x02, 2, tt.code, 0)
			if code != command.OK || len(got) != 17 {
				t.Fatalf("%v % x", code, got)
			}
			word := func(i int) uint16 { return uint16(got[i]) | uint16(got[i+1])<<8 }
			if now, low, high, average := word(0), word(2), word(4), word(6); now != 3999 || low != tt.lowest || high != tt.newest || average != (low+high)/2 {
				t.Errorf("%02Xh: now %d, %d to %d, average %d; want %d to %d", tt.code, now, low, high, average, tt.lowest, tt.newest)
			}
			if got[12] != tt.code || got[16] != 0x40 {
				t.Errorf("%02Xh: period % x, state %x", tt.code, got[12:16], got[16])
			}
		}
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	})
}

func TestPowerLimit(t *testing.T) {
	b := newBench(t)
	set := func(action byte, watts, seconds byte, milliseconds ...byte) []byte {
		d := append([]byte{0, 0, 0, action, watts, 0}, milliseconds...)
		return append(d, 0, 0, seconds, 0)
	}
	code, got := b.call(t, 0x03, 0, 0)
	if want := []byte{0, 0, 0x11, 0, 0, 0x10, 0x27, 0, 0, 0, 0, 60, 0}; code != codeNoLimit || !bytes.Equal(got, want) {
		t.Errorf("never set: got %v % x, want % x", code, got, want)
	}
	b.steps(t, []step{
		{"activate nothing", 0x05, []byte{1, 0, 0}, command.WrongState, nil},
		{"no watts", 0x04, set(0x11, 0, 5, 0xE8, 3, 0, 0), codeLimitOutOfRange, nil},
		{"too quick", 0x04, set(0x11, 200, 5, 0xE7, 3, 0, 0), codeTimeOutOfRange, nil},
		{"too slow", 0x04, set(0x11, 200, 5, 0xFF, 0xFF, 0xFF, 0xFF), codeTimeOutOfRange, nil},
		{"no period", 0x04, set(0x11, 200, 0, 0xE8, 3, 0, 0), codePeriodOutOfRange, nil},
		{"OEM action", 0x04, set(0x02, 200, 5, 0xE8, 3, 0, 0), command.InvalidField, nil},
		{"set", 0x04, set(0x01, 200, 5, 0xE8, 3, 0, 0), command.OK, nil},
		{"not active", 0x03, []byte{0, 0}, codeNoLimit, nil},
		{"activate", 0x05, []byte{1, 0, 0}, command.OK, nil},
		{"active", 0x03, []byte{0, 0}, command.OK, []byte{0, 0, 0x01, 200, 0, 0xE8, 3, 0, 0, 0, 0, 5, 0}},
		{"set again", 0x04, set(0x00, 201, 5, 0xE8, 3, 0, 0), command.OK, nil},
		{"still active", 0x03, []byte{0, 0}, command.OK, []byte{0, 0, 0x11, 201, 0, 0xE8, 3, 0, 0, 0, 0, 5, 0}},
		{"what", 0x05, []byte{2, 0, 0}, command.InvalidField, nil},
		{"deactivate", 0x05, []byte{0, 0, 0}, command.OK, nil},
		{"over", 0x03, []byte{0, 0}, codeNoLimit, nil},
	})
	if want := (host.PowerLimit{Watts: 201, Correction: time.Second, Period: 5 * time.Second, Action: host.LimitLog}); b.meter.limit != want {
		t.Errorf("limit is %+v, want %+v", b.meter.limit, want)
	}
	b.meter.err = errors.ErrUnsupported
	b.steps(t, []step{{"no button", 0x05, []byte{1, 0, 0}, command.Unavailable, nil}})
}

func TestAssetTag(t *testing.T) {
	b := newBench(t)
	part := func(offset byte, s string) []byte { return append([]byte{offset, byte(len(s))}, s...) }
	long := strings.Repeat("0123456789abcde ", 4)
	b.steps(t, []step{
		{"none", 0x06, []byte{0, 16}, command.OK, []byte{0}},
		{"behind none", 0x06, []byte{1, 16}, command.OutOfRange, nil},
		{"gap", 0x08, part(1, "x"), command.OutOfRange, nil},
		{"length", 0x08, []byte{0, 3, 'x', 'y'}, command.BadLength, nil},
		{"set", 0x08, part(0, "rack 7"), command.OK, []byte{6}},
		{"get", 0x06, []byte{0, 16}, command.OK, append([]byte{6}, "rack 7"...)},
		{"length alone", 0x06, []byte{0, 0}, command.OK, []byte{6}},
		{"from", 0x06, []byte{5, 16}, command.OK, []byte{6, '7'}},
		{"end", 0x06, []byte{6, 16}, command.OK, []byte{6}},
		{"too much", 0x06, []byte{0, 17}, command.OutOfRange, nil},
		{"one character", 0x08, part(0, "x"), command.OK, []byte{1}},
		{"is one", 0x06, []byte{0, 16}, command.OK, []byte{1, 'x'}},
		{"second part", 0x08, part(1, "y"), command.OK, []byte{2}},
		{"both", 0x06, []byte{0, 16}, command.OK, []byte{2, 'x', 'y'}},
		{"chunk 1", 0x08, part(0, long[:16]), command.OK, []byte{16}},
		{"chunk 2", 0x08, part(16, long[16:32]), command.OK, []byte{32}},
		{"chunk 3", 0x08, part(32, long[32:48]), command.OK, []byte{48}},
		{"64 bytes", 0x08, part(48, long[48:64]), command.OutOfRange, nil},
		{"chunk 4", 0x08, part(48, long[48:63]), command.OK, []byte{63}},
		{"last", 0x06, []byte{48, 16}, command.OK, append([]byte{63}, long[48:63]...)},
		{"clear", 0x08, part(0, ""), command.OK, []byte{0}},
		{"cleared", 0x06, []byte{0, 16}, command.OK, []byte{0}},
	})
	if _, err := fru.Decode(b.inventory.data); err != nil {
		t.Error(err)
	}
	writes := b.inventory.writes
	b.steps(t, []step{{"clear again", 0x08, part(0, ""), command.OK, []byte{0}}})
	if b.inventory.writes != writes {
		t.Error("a tag that stays was written")
	}
}

func TestAssetTagForms(t *testing.T) {
	for _, tt := range []struct {
		name     string
		field    fru.Field
		language byte
		code     command.Code
		want     []byte
	}{
		{"binary", fru.Field{Encoding: fru.Binary, Data: []byte{1}}, 0, 0x80, []byte{1, 1}},
		{"BCD plus", fru.Field{Encoding: fru.BCDPlus, Data: []byte{0x12}}, 0, 0x81, []byte{1, 0x12}},
		{"6-bit ASCII", fru.Field{Encoding: fru.SixBit, Data: []byte{0x29, 0xDC, 0xA6}}, 0, 0x82, []byte{3, 0x29, 0xDC, 0xA6}},
		{"UTF-16", fru.Field{Encoding: fru.Latin1, Data: []byte{'a', 0}}, 5, 0x83, []byte{2, 'a', 0}},
		{"UTF-8", fru.Field{Encoding: fru.Latin1, Data: []byte("\xEF\xBB\xBF€")}, 5, command.OK, append([]byte{6}, "\xEF\xBB\xBF€"...)},
		{"blank", fru.Field{Encoding: fru.Latin1, Data: []byte("  ")}, 0, command.OK, []byte{0}},
		{"empty binary", fru.Field{}, 0, command.OK, []byte{0}},
	} {
		area := &fru.Area{Language: tt.language, Fields: make([]fru.Field, 7)}
		area.Fields[fru.ProductAssetTag] = tt.field
		b := newBench(t)
		b.inventory.data = image(t, &fru.Inventory{Product: area})
		if code, got := b.call(t, 0x06, 0, 16); code != tt.code || !bytes.Equal(got, tt.want) {
			t.Errorf("%s: got %v % x, want %v % x", tt.name, code, got, tt.code, tt.want)
		}
		if code, got := b.call(t, 0x08, 0, 3, 't', 'a', 'g'); code != command.OK || !bytes.Equal(got, []byte{3}) {
			t.Errorf("%s: set answers %v % x", tt.name, code, got)
		}
	}

	b := newBench(t)
	b.inventory.data[0] = 7
	b.steps(t, []step{
		{"damaged", 0x06, []byte{0, 16}, command.NotPresent, nil},
		{"damaged, set", 0x08, []byte{0, 1, 'x'}, command.WrongState, nil},
	})
	b = newBench(t)
	b.inventory.data = b.inventory.data[:16]
	b.steps(t, []step{{"full", 0x08, []byte{0, 2, 'x', 'y'}, command.NoSpace, nil}})
	b.inventory.err = io.ErrUnexpectedEOF
	b.steps(t, []step{
		{"memory fails", 0x06, []byte{0, 16}, command.Busy, nil},
		{"memory fails, set", 0x08, []byte{0, 1, 'x'}, command.Unspecified, nil},
	})
}

func TestName(t *testing.T) {
	b := newBench(t)
	part := func(offset byte, s string) []byte { return append([]byte{offset, byte(len(s))}, s...) }
	b.steps(t, []step{
		{"length", 0x09, []byte{0, 1}, command.OK, []byte{7, 'n'}},
		{"get", 0x09, []byte{0, 16}, command.OK, append([]byte{7}, "nitrino"...)},
		{"behind", 0x09, []byte{8, 16}, command.OutOfRange, nil},
		{"part 1", 0x0A, part(0, "a-name-of-many-c"), command.OK, []byte{16}},
		{"not yet", 0x09, []byte{0, 16}, command.OK, append([]byte{7}, "nitrino"...)},
		{"gap", 0x0A, part(17, "x"), command.OutOfRange, nil},
		{"part 2", 0x0A, part(16, "haracters\x00"), command.OK, []byte{26}},
		{"new", 0x09, []byte{16, 16}, command.OK, append([]byte{25}, "haracters"...)},
		{"empty", 0x0A, part(0, "\x00"), command.InvalidField, nil},
		{"over the end", 0x0A, part(60, "12345"), command.OutOfRange, nil},
		{"change the end", 0x0A, part(6, "\x00"), command.OK, []byte{7}},
		{"shorter", 0x09, []byte{0, 16}, command.OK, append([]byte{6}, "a-name"...)},
	})
	b.names.name = strings.Repeat("n", 80)
	b.steps(t, []step{{"long", 0x09, []byte{63, 16}, command.OK, []byte{63}}})
}

func TestSensors(t *testing.T) {
	b := newBench(t)
	b.sensors[1].set(-3.6, true)
	b.sensors[2].set(500, true)
	b.sensors[3].set(0, false)
	b.sensors[4].set(-0.2, true)
	inlets := []byte{10, 8, 0, 1, 1, 1, 2, 1, 3, 1, 4, 1, 5, 1, 6, 1, 7, 1}
	b.steps(t, []step{
		{"inlets, ipmitool", 0x07, []byte{1, 0x40, 0, 0}, command.OK, inlets},
		{"inlets, FreeIPMI", 0x07, []byte{1, 0x40, 0, 1}, command.OK, inlets},
		{"the rest", 0x07, []byte{1, 0x37, 0, 9}, command.OK, []byte{10, 2, 8, 1, 9, 1}},
		{"behind", 0x07, []byte{1, 0x37, 0, 99}, command.OK, []byte{10, 0}},
		{"one", 0x07, []byte{1, 0x40, 9, 0}, command.OK, []byte{10, 1, 8, 1}},
		{"CPU", 0x07, []byte{1, 0x03, 0, 1}, command.OK, []byte{1, 1, 10, 1}},
		{"baseboard", 0x07, []byte{1, 0x42, 0, 1}, command.OK, []byte{1, 1, 11, 1}},
		{"absent", 0x07, []byte{1, 0x42, 2, 0}, command.NotPresent, nil},
		{"fans", 0x07, []byte{4, 0x40, 0, 0}, command.InvalidField, nil},
		{"entity", 0x07, []byte{1, 0x1D, 0, 0}, command.InvalidField, nil},
		{"readings", 0x10, []byte{1, 0x40, 0, 0}, command.OK, []byte{10, 8, 20, 1, 0x84, 2, 127, 3, 0, 5, 25, 6, 26, 7, 27, 8, 28, 9}},
		{"reading of one", 0x10, []byte{1, 0x40, 2, 0}, command.OK, []byte{10, 1, 0x84, 2}},
		{"none now", 0x10, []byte{1, 0x40, 4, 0}, command.OK, []byte{10, 0}},
		{"CPU reading", 0x10, []byte{1, 0x41, 0, 0}, command.OK, []byte{1, 1, 30, 1}},
	})
	none := newBench(t, func(b *bench, o *Options) { o.Thermometers = nil })
	none.steps(t, []step{{"no sensor", 0x07, []byte{1, 0x40, 0, 1}, command.OK, []byte{0, 0}}})
}

func TestThermalLimit(t *testing.T) {
	b := newBench(t)
	b.steps(t, []step{
		{"none", 0x0C, []byte{0x40, 1}, command.OK, []byte{0, 0, 0, 0}},
		{"CPU", 0x0C, []byte{0x41, 1}, command.InvalidField, nil},
		{"absent", 0x0C, []byte{0x40, 11}, command.NotPresent, nil},
		{"no degrees", 0x0B, []byte{0x40, 1, 0x20, 0, 1, 0}, codeLimitOutOfRange, nil},
		{"boiling", 0x0B, []byte{0x40, 1, 0x20, 126, 1, 0}, codeLimitOutOfRange, nil},
		{"reserved", 0x0B, []byte{0x40, 1, 0x21, 40, 1, 0}, command.InvalidField, nil},
		{"for now", 0x0B, []byte{0x40, 1, 0x20, 40, 1, 0}, command.OK, nil},
		{"for good", 0x0B, []byte{0x37, 2, 0xE0, 41, 2, 1}, command.OK, nil},
		{"is", 0x0C, []byte{0x40, 2}, command.OK, []byte{0xE0, 41, 2, 1}},
	})
	if got, want := b.events.take(), []string{"thermal.limit-changed", "thermal.limit-changed"}; !slices.Equal(got, want) {
		t.Errorf("events %q, want %q", got, want)
	}
	b.steps(t, []step{{"the same", 0x0B, []byte{0x37, 2, 0xE0, 41, 2, 1}, command.OK, nil}})
	if got := b.events.take(); len(got) != 0 {
		t.Errorf("the same again: events %q", got)
	}
	b.DCMI = New(b.Options)
	b.steps(t, []step{
		{"volatile", 0x0C, []byte{0x40, 1}, command.OK, []byte{0, 0, 0, 0}},
		{"kept", 0x0C, []byte{0x40, 2}, command.OK, []byte{0xE0, 41, 2, 1}},
	})
	for name, change := range map[string]func(*bench, *Options){
		"no button": func(b *bench, o *Options) { b.power.none = true },
		"no inlet":  func(b *bench, o *Options) { o.Thermometers = o.Thermometers[10:] },
	} {
		if code, _ := newBench(t, change).call(t, 0x0C, 0x40, 1); code != command.InvalidCommand {
			t.Errorf("%s: got %v", name, code)
		}
	}
}

// TestHeat: the host is switched off after the time given, and again while it is
// on and the inlet warm.
func TestHeat(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		ended := make(chan error)
		go func() { ended <- b.Run(ctx) }()
		time.Sleep(time.Second / 2)
		b.steps(t, []step{{"set", 0x0B, []byte{0x40, 1, 0x60, 40, 5, 0}, command.OK, nil}})
		b.events.take()
		check := func(after time.Duration, offs int, kinds ...string) {
			t.Helper()
			time.Sleep(after)
			b.power.mu.Lock()
			got := b.power.offs
			b.power.mu.Unlock()
			if told := b.events.take(); got != offs || !slices.Equal(told, kinds) {
				t.Errorf("switched off %d times, events %q; want %d, %q", got, told, offs, kinds)
			}
		}
		b.sensors[0].set(40, true)
		check(time.Minute, 0)
		b.sensors[0].set(41, true)
		check(5*time.Second, 0)
		b.sensors[0].set(41, false)
		check(2*time.Second, 0)
		b.sensors[0].set(41, true)
		check(5*time.Second, 0)
		check(time.Second, 1, "thermal.limit")
		if got, want := b.events.sensor, (host.SensorChange{Name: b.sensors[0].Name(), Limit: host.UpperCritical, Beyond: true, Value: 41, At: 40}); got != want {
			t.Errorf("got %+v, want %+v", got, want)
		}
		check(30*time.Second, 2)
		b.power.mu.Lock()
		b.power.state = host.StateUnknown
		b.power.mu.Unlock()
		check(time.Minute, 2)
		b.sensors[0].set(30, true)
		check(time.Second, 2, "thermal.limit-cleared")
		b.power.mu.Lock()
		b.power.err = host.ErrStopped
		b.power.mu.Unlock()
		b.sensors[0].set(50, true)
		check(6*time.Second, 3, "thermal.limit", "thermal.limit-failed")
		// The same limit again: the sensor stands to it as before.
		b.steps(t, []step{{"again", 0x0B, []byte{0x40, 1, 0x60, 40, 5, 0}, command.OK, nil}})
		b.power.mu.Lock()
		b.power.state = host.StateOff
		b.power.mu.Unlock()
		check(20*time.Second, 3)
		// One that dances on its limit is told once.
		b.steps(t, []step{{"log", 0x0B, []byte{0x40, 1, 0x20, 40, 0, 0}, command.OK, nil}})
		check(0, 3, "thermal.limit-cleared", "thermal.limit-changed")
		for i := range 60 {
			b.sensors[0].set(40+float64(i%2), true)
			time.Sleep(time.Second)
		}
		check(0, 3, "thermal.limit")
		b.sensors[0].set(38, true)
		check(2*time.Second, 3, "thermal.limit-cleared")
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	})
}

func TestReadsAllocate(t *testing.T) {
	b := newBench(t)
	for _, data := range [][]byte{{0x01, 2}, {0x02, 1, 0, 0}, {0x02, 2, 0x81, 0}, {0x03, 0, 0}, {0x07, 1, 0x40, 0, 0}, {0x10, 1, 0x40, 0, 0}, {0x0C, 0x40, 1}} {
		i := slices.IndexFunc(b.Commands(), func(c command.Command) bool { return c.Cmd == data[0] })
		c := b.Commands()[i]
		call := command.Call{Data: data[1:], Reply: make([]byte, 0, 64), Now: time.Unix(10_000, 0)}
		if n := testing.AllocsPerRun(100, func() {
			call.Reply = call.Reply[:0]
			c.Run(&call)
		}); n != 0 {
			t.Errorf("%s: %v allocations", c.Name, n)
		}
	}
}

func FuzzCommands(f *testing.F) {
	b := newBench(f)
	list := b.Commands()
	f.Add(uint8(3), []byte{0, 2, 'x', 'y'})
	f.Add(uint8(11), []byte{0x40, 1, 0xE0, 40, 0, 0})
	f.Fuzz(func(t *testing.T, which uint8, data []byte) {
		code, reply := b.call(t, list[int(which)%len(list)].Cmd, data...)
		if len(reply) > 250 {
			t.Errorf("%v, %d bytes", code, len(reply))
		}
		if _, err := fru.Decode(b.inventory.data); err != nil {
			t.Fatal(err)
		}
	})
}

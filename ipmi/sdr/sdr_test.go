package sdr

import (
	"bytes"
	"encoding/binary"
	"slices"
	"testing"

	"github.com/nitrino/nitrino/host"
	"github.com/nitrino/nitrino/ipmi/command"
	"github.com/nitrino/nitrino/ipmi/command/commandtest"
)

// all reads the repository as consoles do: the header, then parts.
func (r *rig) all(n command.NetFn, reserve, get byte) (records [][]byte) {
	r.t.Helper()
	id := r.call(command.OK, n, reserve)
	next := []byte{0, 0}
	for {
		header := r.call(command.OK, n, get, id[0], id[1], next[0], next[1], 0, 5)
		if len(header) != 7 {
			r.t.Fatalf("the header is % X", header)
		}
		data := slices.Clone(header[2:])
		for end := 5 + int(header[6]); len(data) < end; {
			part := r.call(command.OK, n, get, id[0], id[1], next[0], next[1], byte(len(data)), byte(min(16, end-len(data))))
			if len(part) < 3 {
				r.t.Fatalf("the part is % X", part)
			}
			data = append(data, part[2:]...)
		}
		records = append(records, data)
		if next = header[:2]; next[0] == 0xFF && next[1] == 0xFF {
			return records
		}
		if len(records) > 300 {
			r.t.Fatal("the repository has no end")
		}
	}
}

func TestRecords(t *testing.T) {
	r := newRig(t)
	records := r.all(command.Storage, 0x22, 0x23)
	want := []string{
		"01 00 51 01 33 20 00 01 03 01 7f 68 01 01 95 7a 95 7a 18 3f 80 01 00 00 01 00 00 00 00 00 00 00 00 00 7d d8 00 5a 50 00 00 00 02 02 00 00 00 c8 43 50 55 20 54 65 6d 70",
		"02 00 51 01 2e 20 00 02 07 01 7f 68 02 01 95 7a 95 7a 00 3f 00 04 00 00 41 00 00 00 00 d0 00 00 00 00 f6 00 00 00 00 00 00 00 00 00 00 00 00 c3 31 32 56",
		"03 00 51 01 2d 20 00 03 0a 01 7f 68 0b 01 95 7a 95 7a 00 3f 00 06 00 00 02 00 00 00 00 00 00 00 00 00 ff 00 00 00 00 00 00 00 00 00 00 00 00 c2 50 20",
		"04 00 51 02 26 20 00 e0 07 01 67 40 22 6f 49 00 00 00 c9 00 c0 00 00 01 00 00 00 00 00 00 00 cb 50 6f 77 65 72 20 53 74 61 74 65",
		"05 00 51 02 25 20 00 e1 07 01 67 40 09 6f 31 00 10 00 30 00 c0 00 00 01 00 00 00 00 00 00 00 ca 50 6f 77 65 72 20 55 6e 69 74",
		"06 00 51 02 23 20 00 e2 07 01 67 40 23 6f 0f 01 00 00 0f 01 c0 00 00 01 00 00 00 00 00 00 00 c8 57 61 74 63 68 64 6f 67",
		"07 00 51 03 13 20 00 e3 07 01 14 6f 01 00 00 00 c7 42 75 74 74 6f 6e 73",
		"08 00 51 03 1a 20 00 e4 07 01 1d 6f 01 00 00 00 ce 53 79 73 74 65 6d 20 52 65 73 74 61 72 74",
		"09 00 51 03 19 20 00 e5 06 01 2a 6f 01 00 00 00 cd 53 65 73 73 69 6f 6e 20 41 75 64 69 74",
		"0a 00 51 03 15 20 00 e6 06 01 10 6f 01 00 00 00 c9 45 76 65 6e 74 20 4c 6f 67",
		"0b 00 51 03 16 20 00 e7 06 01 28 6f 01 00 00 00 ca 42 4d 43 20 48 65 61 6c 74 68",
		"0c 00 51 03 15 20 00 e8 07 01 13 6f 01 00 00 00 c9 49 6e 74 65 72 72 75 70 74",
		"0d 00 51 03 17 20 00 e9 07 01 0b 05 01 00 00 00 cb 50 6f 77 65 72 20 4c 69 6d 69 74",
		"0e 00 51 11 11 20 00 80 00 00 10 00 07 01 00 c6 53 79 73 74 65 6d",
		"0f 00 51 12 12 20 00 00 8f 00 00 00 06 01 00 c7 6e 69 74 72 69 6e 6f",
	}
	if len(records) != len(want) {
		t.Fatalf("got %d records, want %d", len(records), len(want))
	}
	for i, got := range records {
		r.wants(got, want[i])
	}
	for i, device := range r.all(command.Sensor, 0x22, 0x21) {
		if !bytes.Equal(device, records[i]) {
			t.Errorf("the device's record is % X, the repository's % X", device, records[i])
		}
	}
	if got, want := r.storage(command.OK, 0x20)[:5], []byte{0x51, byte(len(want)), 0, 0, 0}; !bytes.Equal(got, want) {
		t.Errorf("info: got % X, want % X", got, want)
	}
	r.wants(r.storage(command.OK, 0x21), "0f 00 40 00 00 00 00 00 01")
	r.wants(r.sensor(command.OK, 0x20), "0d 01")
	r.wants(r.sensor(command.OK, 0x20, 0), "0d 01")
	r.wants(r.sensor(command.OK, 0x20, 1), "0f 01")
}

// What is not wired has no record, and the repository is never empty.
func TestLeast(t *testing.T) {
	r := newRig(t, func(r *rig) {
		r.gauges, r.host.absent, r.host.status = nil, host.Actions[:], host.PowerStatus{State: host.StateUnknown}
		r.opt.Watchdog, r.opt.Buttons, r.opt.PowerLimit, r.opt.Inventory = nil, false, false, false
	})
	var numbers []byte
	for _, rec := range r.all(command.Storage, 0x22, 0x23) {
		if rec[3] != typeMC {
			numbers = append(numbers, rec[7])
		} else if rec[8] != 0x87 {
			t.Errorf("capabilities: got %02X", rec[8])
		}
	}
	if want := []byte{NumberPower, NumberBoot, NumberSession, NumberLog, NumberHealth}; !bytes.Equal(numbers, want) {
		t.Errorf("got the sensors % X, want % X", numbers, want)
	}
	r.wants(r.sensor(command.OK, 0x2D, NumberPower), "00 e0 00 80")
	for _, absent := range []byte{0, 1, NumberAC, NumberWatchdog, 0xFF} {
		r.sensor(command.NotPresent, 0x2D, absent)
	}
}

func TestGetSDR(t *testing.T) {
	r := newRig(t)
	id := r.storage(command.OK, 0x22)
	low, high := id[0], id[1]
	for _, tt := range []struct {
		name string
		data []byte
		want command.Code
		n    int
		next uint16
	}{
		{"the first", []byte{0, 0, 0, 0, 0, 0xFF}, command.OK, 56, 2},
		{"the last", []byte{0, 0, 0xFF, 0xFF, 0, 0xFF}, command.OK, 23, 0xFFFF},
		{"the last by its ID", []byte{0, 0, 15, 0, 0, 0xFF}, command.OK, 23, 0xFFFF},
		{"a part", []byte{low, high, 1, 0, 20, 16}, command.OK, 16, 2},
		{"the rest", []byte{low, high, 1, 0, 50, 0xFF}, command.OK, 6, 2},
		{"no reservation", []byte{0, 0, 1, 0, 20, 16}, command.ReservationBad, 0, 0},
		{"another's", []byte{low + 1, high, 1, 0, 20, 16}, command.ReservationBad, 0, 0},
		{"too much", []byte{low, high, 1, 0, 50, 7}, command.CannotReturn, 0, 0},
		{"behind it", []byte{low, high, 1, 0, 56, 1}, command.OutOfRange, 0, 0},
		{"one that is not there", []byte{0, 0, 16, 0, 0, 5}, command.NotPresent, 0, 0},
		{"short", []byte{0, 0, 16, 0, 0}, command.BadLength, 0, 0},
	} {
		got := r.storage(tt.want, 0x23, tt.data...)
		if tt.want == command.OK && (len(got) != 2+tt.n || binary.LittleEndian.Uint16(got) != tt.next) {
			t.Errorf("%s: got % X, want %d bytes and the next ID %04X", tt.name, got, tt.n, tt.next)
		}
	}
	again := r.storage(command.OK, 0x22)
	r.storage(command.ReservationBad, 0x23, low, high, 1, 0, 20, 16)
	r.storage(command.OK, 0x23, again[0], again[1], 1, 0, 20, 16)
	r.sensor(command.ReservationBad, 0x21, again[0], again[1], 1, 0, 20, 16)
}

type fakeSession struct{ command.Session }

// Consoles do not end each other's reservations.
func TestReservations(t *testing.T) {
	var l reservations
	sessions := make([]fakeSession, 65)
	ids := map[uint16]bool{}
	first := l.reserve(&sessions[0])
	for i := range sessions[1:64] {
		ids[l.reserve(&sessions[1+i])] = true
	}
	if len(ids) != 63 || ids[0] || ids[first] || !l.holds(first, &sessions[0]) || l.holds(first, &sessions[1]) || l.holds(0, &sessions[0]) {
		t.Errorf("the first is %d, the others %v", first, ids)
	}
	l.reserve(&sessions[64])
	if l.holds(first, &sessions[0]) {
		t.Error("65 reservations are held")
	}
	l.last = 0xFFFF
	if id := l.reserve(&sessions[3]); id != 1 || !l.holds(1, &sessions[3]) {
		t.Errorf("after FFFFh: got %d, want 1", id)
	}
}

// The time of the records changes when they do, and not at a start.
func TestStamp(t *testing.T) {
	r := newRig(t)
	added := func() uint32 { return binary.LittleEndian.Uint32(r.storage(command.OK, 0x20)[5:]) }
	first := added()
	r.sensor(command.OK, 0x26, 1, 0x08, 0, 0, 0, 180, 0, 0)
	r.restart()
	if got := added(); got != first || got == 0 {
		t.Errorf("after a start: got %d, want %d", got, first)
	}
	r.gauges = r.gauges[:2]
	r.opt.Clock.(*fakeClock).now = 0 // the board's clock went back
	r.restart()
	second := added()
	if second <= first {
		t.Errorf("with other sensors: got %d, want more than %d", second, first)
	}
	r.restart()
	if got := added(); got != second {
		t.Errorf("after a start: got %d, want %d", got, second)
	}
	r.storage(command.OK, 0x29, 0, 0, 1, 0)
	if got := r.storage(command.OK, 0x28); got[2] != 1 {
		t.Errorf("the clock shows % X", got)
	}
}

func TestTooMany(t *testing.T) {
	r := newRig(t)
	o := r.opt
	o.Sensors = slices.Repeat([]Sensor{r.gauges[0]}, maxGauges+1)
	if _, err := New(o); err == nil {
		t.Error("224 gauges have numbers")
	}
	o.Sensors = o.Sensors[1:]
	all, err := New(o)
	must(t, err)
	if got := all.Gauges(); len(got) != maxGauges || got[4].Instance != 5 || got[200].Instance != 0x5F || got[222].Number != 0xDF || got[222].Record != 223 {
		t.Errorf("got %+v", got)
	}
}

func TestGauge(t *testing.T) {
	r := newRig(t)
	g, ok := r.Gauge("12V")
	if !ok || g.Number != 2 || g.Record != 2 || g.Type != 2 || g.Entity != 7 || g.Instance != 1 || g.Factors.Raw(12) != 185 {
		t.Errorf("got %+v, %v", g, ok)
	}
	for _, name := range []string{"", "none", "Watchdog"} {
		if g, ok := r.Gauge(name); ok {
			t.Errorf("%q: got %+v", name, g)
		}
	}
}

// Whatever consoles send breaks nothing.
func FuzzCommands(f *testing.F) {
	r := newRig(f)
	r.gauges[0].reading = host.Reading{Value: 50, Valid: true}
	f.Add(uint8(3), []byte{1, 0, 1, 0, 3, 9})
	f.Add(uint8(12), []byte{1, 0x3F, 1, 2, 3, 4, 5, 6})
	commandtest.Fuzz(f, r.Commands())
}

func benchmark(b *testing.B, name string, data ...byte) {
	r := newRig(b)
	r.gauges[0].reading = host.Reading{Value: 50, Valid: true}
	commands := r.Commands()
	run := commands[slices.IndexFunc(commands, func(c command.Command) bool { return c.Name == name })].Run
	c := command.Call{Data: data, Reply: make([]byte, 0, 250)}
	b.ReportAllocs()
	for b.Loop() {
		c.Reply = c.Reply[:0]
		if code := run(&c); code != command.OK {
			b.Fatal(code)
		}
	}
}

func BenchmarkGetSDR(b *testing.B)     { benchmark(b, "Get SDR", 0, 0, 1, 0, 0, 0xFF) }
func BenchmarkGetReading(b *testing.B) { benchmark(b, "Get Sensor Reading", 1) }

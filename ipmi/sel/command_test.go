package sel

import (
	"bytes"
	"encoding/binary"
	"slices"
	"testing"
	"time"

	"github.com/nitrino/nitrino/host"
	"github.com/nitrino/nitrino/ipmi/command"
	"github.com/nitrino/nitrino/ipmi/command/commandtest"
)

func TestInfo(t *testing.T) {
	r := newRig(t)
	want := []byte{0x51, 0, 0, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0x0B}
	if got := r.call(command.OK, 0x40); !bytes.Equal(got, want) {
		t.Errorf("of an empty log: got % X, want % X", got, want)
	}
	if got, want := r.call(command.OK, 0x41), []byte{0, 0x10, 16, 0, 0, 0x10, 0, 0x10, 1}; !bytes.Equal(got, want) {
		t.Errorf("allocation: got % X, want % X", got, want)
	}
	r.add(host.Event{Kind: "power.on", Time: time.Unix(0x61020304, 0)})
	if got, want := r.call(command.OK, 0x40)[5:9], []byte{4, 3, 2, 0x61}; !bytes.Equal(got, want) {
		t.Errorf("last addition: got % X, want % X", got, want)
	}
	low, high := r.reservation()
	before := time.Now().Unix()
	r.call(command.OK, 0x46, low, high, 1, 0)
	if got := int64(binary.LittleEndian.Uint32(r.call(command.OK, 0x40)[9:])); got < before || got > before+60 {
		t.Errorf("last erasure: got %d, want %d", got, before)
	}
}

func TestGetEntry(t *testing.T) {
	r := newRig(t)
	for _, id := range []byte{0, 1, 0xFF} {
		r.call(command.NotPresent, 0x43, 0, 0, id, id, 0, 0xFF)
	}
	r.add(on, off, on)
	low, high := r.reservation()
	whole := r.records()[1]
	for _, tt := range []struct {
		name string
		data []byte
		want command.Code
		next uint16
		part []byte
	}{
		{"the first", []byte{0, 0, 0, 0, 0, 3}, command.OK, 2, []byte{1, 0, 2}},
		{"the last", []byte{0, 0, 0xFF, 0xFF, 0, 3}, command.OK, 0xFFFF, []byte{3, 0, 2}},
		{"all of it", []byte{0, 0, 2, 0, 0, 0xFF}, command.OK, 3, whole[:]},
		{"sixteen", []byte{0, 0, 2, 0, 0, 16}, command.OK, 3, whole[:]},
		{"none of it", []byte{0, 0, 2, 0, 0, 0}, command.OK, 3, nil},
		{"a part", []byte{low, high, 2, 0, 5, 4}, command.OK, 3, whole[5:9]},
		{"the rest", []byte{low, high, 2, 0, 15, 0xFF}, command.OK, 3, whole[15:]},
		{"without a reservation", []byte{0, 0, 2, 0, 5, 4}, command.ReservationBad, 0, nil},
		{"with another", []byte{low + 1, high, 2, 0, 5, 4}, command.ReservationBad, 0, nil},
		{"too much", []byte{low, high, 2, 0, 5, 12}, command.CannotReturn, 0, nil},
		{"seventeen", []byte{0, 0, 2, 0, 0, 17}, command.CannotReturn, 0, nil},
		{"behind it", []byte{low, high, 2, 0, 16, 1}, command.OutOfRange, 0, nil},
		{"one that is not there", []byte{0, 0, 4, 0, 0, 0xFF}, command.NotPresent, 0, nil},
		{"short", []byte{0, 0, 4, 0, 0}, command.BadLength, 0, nil},
		{"long", []byte{0, 0, 4, 0, 0, 0xFF, 0}, command.BadLength, 0, nil},
	} {
		got := r.call(tt.want, 0x43, tt.data...)
		if tt.want == command.OK && (binary.LittleEndian.Uint16(got) != tt.next || !bytes.Equal(got[2:], tt.part)) {
			t.Errorf("%s: got % X, want next %04X and % X", tt.name, got, tt.next, tt.part)
		}
	}
}

// A reservation ends with a new one, with a record that comes, and with the
// clearing (section 31.4).
func TestReservation(t *testing.T) {
	r := newRig(t)
	r.events.Add(on) // as the console's own login: it comes before the reservation
	low, high := r.reservation()
	r.call(command.OK, 0x43, low, high, 0, 0, 1, 1)
	low2, high2 := r.reservation()
	r.call(command.ReservationBad, 0x43, low, high, 0, 0, 1, 1)
	r.call(command.OK, 0x43, low2, high2, 0, 0, 1, 1)
	r.add(host.Event{Kind: "network.up"})
	r.call(command.OK, 0x43, low2, high2, 0, 0, 1, 1)
	r.add(off)
	r.call(command.ReservationBad, 0x43, low2, high2, 0, 0, 1, 1)
	r.call(command.ReservationBad, 0x46, low2, high2, 1, 0)
	r.call(command.ReservationBad, 0x47, low2, high2, 'C', 'L', 'R', 0xAA)
	r.wantIDs(1, 2)

	low, high = r.reservation()
	r.call(command.OK, 0x46, low, high, 1, 0)
	r.call(command.OK, 0x46, low, high, 2, 0) // the others' IDs stay: it holds
	r.wantIDs()
	r.call(command.NotPresent, 0x46, low, high, 2, 0)
	r.call(command.ReservationBad, 0x46, 0, 0, 2, 0)
	r.Log.reserved = 0xFFFF
	if low, high = r.reservation(); low != 1 || high != 0 {
		t.Errorf("after FFFFh: got %d, want 1", uint16(low)|uint16(high)<<8)
	}
}

func TestAdd(t *testing.T) {
	r := newRig(t)
	r.add(on)
	given := []byte{9, 9, 0x02, 1, 2, 3, 4, 0x41, 0, 4, 0x0C, 0x30, 0x6F, 1, 2, 3}
	before := uint32(time.Now().Unix())
	if got := r.call(command.OK, 0x44, given...); !bytes.Equal(got, []byte{2, 0}) {
		t.Errorf("got the ID % X, want 2", got)
	}
	got := r.records()[1]
	if at := binary.LittleEndian.Uint32(got[3:]); at < before || at > before+60 {
		t.Errorf("the time is %d, want %d", at, before)
	}
	if got[2] != 2 || !bytes.Equal(got[7:], given[7:]) {
		t.Errorf("got % X, want % X", got, given)
	}
	for _, kind := range []byte{0xC0, 0xDF, 0xE0, 0xFF} {
		given[2] = kind
		r.call(command.OK, 0x44, given...)
		all := r.records()
		got := all[len(all)-1]
		if stamped := !bytes.Equal(got[3:7], given[3:7]); stamped != (kind < 0xE0) || got[2] != kind || !bytes.Equal(got[7:], given[7:]) {
			t.Errorf("type %02Xh: got % X of % X", kind, got, given)
		}
	}
	for _, kind := range []byte{0, 1, 3, 0xBF} {
		given[2] = kind
		r.call(0x80, 0x44, given...)
	}
	r.call(command.BadLength, 0x44, given[:15]...)
	r.wantIDs(1, 2, 3, 4, 5, 6)
	e := r.Since(0, 0)[1]
	if e.Origin != commandtest.Origin() {
		t.Errorf("it came from %v, want %v", e.Origin, commandtest.Origin())
	}
}

func TestDelete(t *testing.T) {
	r := newRig(t)
	r.add(on, off, on, off, on)
	low, high := r.reservation()
	for _, tt := range []struct {
		id, want uint16
		left     []uint16
	}{
		{3, 3, []uint16{1, 2, 4, 5}},
		{0, 1, []uint16{2, 4, 5}},
		{0xFFFF, 5, []uint16{2, 4}},
	} {
		got := r.call(command.OK, 0x46, low, high, byte(tt.id), byte(tt.id>>8))
		if binary.LittleEndian.Uint16(got) != tt.want {
			t.Errorf("deleting %04Xh: got % X, want %d", tt.id, got, tt.want)
		}
		r.wantIDs(tt.left...)
	}
	r.call(command.NotPresent, 0x46, low, high, 3, 0)
	r.add(on)
	r.wantIDs(2, 4, 6)
	kinds := r.kinds(0)
	if n := len(kinds); n != 7 || kinds[5] != "sel.deleted" || kinds[0] != "power.on" {
		t.Errorf("events: got %v, want all of them and one for the deletions", kinds)
	}
	r.deleted = r.deleted.Add(-deletionBurst - time.Second)
	low, high = r.reservation() // the record that came ended the other
	r.call(command.OK, 0x46, low, high, 0, 0)
	if kinds := r.kinds(7); !slices.Equal(kinds, []string{"sel.deleted"}) {
		t.Errorf("a deletion long after: got %v", kinds)
	}
}

func TestClear(t *testing.T) {
	r := newRig(t)
	r.add(on, off)
	low, high := r.reservation()
	r.call(command.InvalidField, 0x47, low, high, 'C', 'L', 'X', 0xAA)
	r.call(command.InvalidField, 0x47, low, high, 'C', 'L', 'R', 0xAB)
	r.call(command.ReservationBad, 0x47, 0, 0, 'C', 'L', 'R', 0xAA)
	r.call(command.ReservationBad, 0x47, 0, 0, 'C', 'L', 'R', 0x00)
	if got := r.call(command.OK, 0x47, low, high, 'C', 'L', 'R', 0xAA); !bytes.Equal(got, []byte{1}) {
		t.Errorf("got % X, want completed", got)
	}
	if got := r.call(command.OK, 0x47, low, high, 'C', 'L', 'R', 0x00); !bytes.Equal(got, []byte{1}) {
		t.Errorf("got % X, want completed", got)
	}
	r.call(command.ReservationBad, 0x47, low, high, 'C', 'L', 'R', 0xAA)
	all := r.records()
	if len(all) != 1 || !bytes.Equal(all[0][atEvent:], []byte{0x10, 0xE6, 0x6F, 0x02, 0xFF, 0xFF}) {
		t.Errorf("got % X, want that the log was cleared", all)
	}
	if got, want := r.kinds(0), []string{"power.on", "power.off", "sel.cleared"}; !slices.Equal(got, want) {
		t.Errorf("events: got %v, want %v", got, want)
	}
	if got := r.Since(0, 0); len(got) != 1 || got[0].Origin != commandtest.Origin() || r.Last() != 3 {
		t.Errorf("got %+v", got)
	}
}

// The clock is the log's own, and records keep the time that they got.
func TestClock(t *testing.T) {
	r := newRig(t)
	now := func() int64 { return int64(binary.LittleEndian.Uint32(r.call(command.OK, 0x48))) }
	if got, want := now(), time.Now().Unix(); got < want-5 || got > want+5 {
		t.Errorf("at first it shows %d, want %d", got, want)
	}
	r.add(on)
	first := r.records()[0]
	const set = 0x33445566
	r.call(command.OK, 0x49, 0x66, 0x55, 0x44, 0x33)
	if got := now(); got < set || got > set+60 {
		t.Errorf("it shows %d, want %d", got, set)
	}
	r.add(off)
	r.restart()
	if got := now(); got < set || got > set+60 {
		t.Errorf("after a restart it shows %d, want %d", got, set)
	}
	all := r.records()
	if at := binary.LittleEndian.Uint32(all[1][3:]); all[0] != first || at < set || at > set+60 {
		t.Errorf("got % X, of which the first was % X", all, first)
	}
	before := r.events.Last()
	for range 3 { // a script that sets it over and over again
		shown := uint32(now())
		r.call(command.OK, 0x49, byte(shown), byte(shown>>8), byte(shown>>16), byte(shown>>24))
	}
	if kinds := r.kinds(before); len(kinds) > 1 { // the second may have ended meanwhile
		t.Errorf("setting it to what it shows: got the events %v", kinds)
	}
	for _, edge := range []uint32{0, 0xFFFFFFFE} {
		r.call(command.OK, 0x49, byte(edge), byte(edge>>8), byte(edge>>16), byte(edge>>24))
		if got := now(); got < int64(edge) || got > int64(edge)+60 {
			t.Errorf("it shows %d, want %d", got, edge)
		}
	}
}

func TestUTCOffset(t *testing.T) {
	r := newRig(t)
	for _, tt := range []struct {
		minutes int16
		want    command.Code
	}{{60, command.OK}, {-1440, command.OK}, {1440, command.OK}, {0x07FF, command.OK}, {1441, command.InvalidField}, {-1441, command.InvalidField}, {-30, command.OK}} {
		r.call(tt.want, 0x5D, byte(tt.minutes), byte(uint16(tt.minutes)>>8))
	}
	before := r.events.Last()
	minutes := int16(-30)
	r.call(command.OK, 0x5D, byte(minutes), byte(uint16(minutes)>>8))
	if kinds := r.kinds(before); len(kinds) != 0 {
		t.Errorf("the same again: got the events %v", kinds)
	}
	r.restart()
	if got := r.call(command.OK, 0x5C); int16(binary.LittleEndian.Uint16(got)) != -30 {
		t.Errorf("got % X, want -30", got)
	}
}

func TestPlatformEvent(t *testing.T) {
	r := newRig(t)
	send := func(want command.Code, data ...byte) {
		t.Helper()
		if code, _ := commandtest.Call(t, r.Commands(), command.Sensor, 0x02, data...); code != want {
			t.Errorf("% X: got %v, want %v", data, code, want)
		}
	}
	send(command.OK, 4, 1, 0x30, 1, 0x59, 0, 0)
	send(command.InvalidField, 5, 1, 0x30, 1, 0x59, 0, 0)
	send(command.BadLength, 4, 1, 0x30, 1, 0x59, 0)
	all := r.records()
	if len(all) != 1 || !bytes.Equal(all[0][:3], []byte{1, 0, 2}) || !bytes.Equal(all[0][7:], []byte{0x81, 0x10, 4, 1, 0x30, 1, 0x59, 0, 0}) {
		t.Errorf("got % X", all)
	}
	must(t, r.SetLogging(false, host.Origin{}))
	send(command.OK, 4, 1, 0x30, 1, 0x59, 0, 0)
	r.wantIDs(1, 2)
}

// Whatever consoles send breaks nothing.
func FuzzCommands(f *testing.F) {
	r := newRig(f)
	r.add(on, off, on)
	low, high := r.reservation()
	f.Add(uint8(3), []byte{low, high, 1, 0, 3, 9})
	f.Add(uint8(6), []byte{low, high, 'C', 'L', 'R', 0xAA})
	commandtest.Fuzz(f, r.Commands())
}

// Whatever is in the one log becomes a record or not, and breaks nothing.
func FuzzRecord(f *testing.F) {
	r := newRig(f)
	f.Add("sel.added", []byte("0123456789abcdef"), "CPU", 1.5, uint8(3))
	f.Add("sensor.limit", []byte(nil), "CPU", -1e300, uint8(255))
	f.Fuzz(func(t *testing.T, kind string, data []byte, name string, value float64, limit uint8) {
		e := host.Event{Kind: kind, Data: data, Sensor: &host.SensorChange{Name: name, Value: value, At: value, Limit: host.Limit(limit)}}
		got, verdict := r.record(&e)
		if verdict == recorded && got[atType] != typeEvent && kind != kindAdded && kind != kindEvent {
			t.Errorf("got % X", got)
		}
	})
}

// full is a log with as many records as there can be.
func full(b *testing.B) *rig {
	r := newRig(b)
	for range host.MaxEvents {
		r.events.Add(on)
	}
	r.follow()
	return r
}

func BenchmarkGetEntry(b *testing.B) {
	r := full(b)
	commands := r.Commands()
	get := commands[slices.IndexFunc(commands, func(c command.Command) bool { return c.Name == "Get SEL Entry" })]
	c := command.Call{Data: []byte{0, 0, 0, 0, 0, 0xFF}, Reply: make([]byte, 0, 64)}
	b.ReportAllocs()
	for b.Loop() {
		c.Reply = c.Reply[:0]
		if get.Run(&c) != command.OK {
			b.Fatal("no record")
		}
		copy(c.Data[2:4], c.Reply)
		if c.Reply[0] == 0xFF && c.Reply[1] == 0xFF {
			c.Data[2], c.Data[3] = 0, 0
		}
	}
}

func BenchmarkAdd(b *testing.B) {
	r := full(b)
	b.ReportAllocs()
	for b.Loop() {
		for range 100 { // a burst
			r.events.Add(on)
		}
		r.follow()
	}
}

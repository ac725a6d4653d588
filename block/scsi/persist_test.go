package scsi

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/nitrino/nitrino/block"
)

// out is a PERSISTENT RESERVE OUT.
func out(n *Nexus, action, kind byte, key, actionKey uint64, flags byte) *Command {
	list := binary.BigEndian.AppendUint64(nil, key)
	list = binary.BigEndian.AppendUint64(list, actionKey)
	list = append(list, 0, 0, 0, 0, flags, 0, 0, 0)
	return do(n, []byte{0x5f, action, kind, 0, 0, 0, 0, 0, 24, 0}, list)
}

// keysOf is the generation and the keys of READ KEYS.
func keysOf(n *Nexus) string {
	c := do(n, []byte{0x5e, 0, 0, 0, 0, 0, 0, 1, 0, 0}, nil)
	var s strings.Builder
	fmt.Fprint(&s, binary.BigEndian.Uint32(c.Data))
	for b := c.Data[8:]; len(b) > 0; b = b[8:] {
		fmt.Fprintf(&s, " %x", binary.BigEndian.Uint64(b))
	}
	return s.String()
}

// reserved is the key and the type of READ RESERVATION.
func reserved(n *Nexus) string {
	c := do(n, []byte{0x5e, 1, 0, 0, 0, 0, 0, 1, 0, 0}, nil)
	if len(c.Data) == 8 {
		return "none"
	}
	return fmt.Sprintf("%x as %d", binary.BigEndian.Uint64(c.Data[8:]), c.Data[21])
}

// What each type lets others do, registered or not (SPC-4 table 66, SBC-3 table 9).
func TestConflicts(t *testing.T) {
	reads := [][]byte{code10(0x28, 0, 0, 1), code10(0x2f, 0, 0, 1), code10(0x34, 0, 0, 1), {0x1a, 0, 0x3f, 0, 255}, {0xa3, 0x0c, 0, 0, 0, 0, 0, 0, 0, 255}, code16(0x9e, 0x12, 0, 24)}
	writes := [][]byte{code10(0x2a, 0, 0, 1), code10(0x41, 0, 0, 1), code10(0x42, 0, 0, 0), code10(0x35, 0, 0, 0), code16(0x89, 0, 0, 0), code16(0x8b, 0, 0, 0),
		{0x15, 0x10}, {0x1b, 0, 0, 0, 0}, {0x1e, 0, 0, 0, 1}, code16(0x83, 0, 0, 0), {0x48, 2}}
	always := [][]byte{{0x12, 0, 0, 0, 36}, {0x03, 0, 0, 0, 18}, {0}, {0xa0, 0, 0, 0, 0, 0, 0, 0, 0, 16}, code10(0x25, 0, 0, 0), code16(0x9e, 0x10, 0, 32),
		{0x1b, 0, 0, 0, 1}, {0x1e, 0, 0, 0, 0}, {0x5e, 0, 0, 0, 0, 0, 0, 0, 8}, {0xa3, 0x0a, 0, 0, 0, 0, 0, 0, 0, 16}}
	for _, tt := range []struct {
		kind                 byte
		stranger, registrant [2]bool // may read, may write
	}{
		{1, [2]bool{true, false}, [2]bool{true, false}},
		{3, [2]bool{false, false}, [2]bool{false, false}},
		{5, [2]bool{true, false}, [2]bool{true, true}},
		{6, [2]bool{false, false}, [2]bool{true, true}},
		{7, [2]bool{true, false}, [2]bool{true, true}},
		{8, [2]bool{false, false}, [2]bool{true, true}},
	} {
		b := newRig(t, block.Identity{}, nil)
		holder, registrant, stranger := b.connect("iqn.a"), b.connect("iqn.b"), b.connect("iqn.c")
		expect(t, "register", out(holder, 0, 0, 0, 0xa, 0), "good")
		expect(t, "register", out(registrant, 0, 0, 0, 0xb, 0), "good")
		expect(t, "reserve", out(holder, 1, tt.kind, 0xa, 0, 0), "good")
		for who, x := range map[string]struct {
			n   *Nexus
			may [2]bool
		}{"the holder": {holder, [2]bool{true, true}}, "a registrant": {registrant, tt.registrant}, "a stranger": {stranger, tt.stranger}} {
			for i, group := range [][][]byte{reads, writes, always} {
				for _, code := range group {
					want := i == 2 || x.may[i]
					if got := outcome(do(x.n, code, blocks(1, 0))) != "conflict"; got != want {
						t.Errorf("type %d, %s, %#x: allowed %t, want %t", tt.kind, who, code[0], got, want)
					}
				}
			}
		}
	}
}

func TestPersistent(t *testing.T) {
	b := newRig(t, block.Identity{}, nil)
	x, y, z := b.connect("iqn.a"), b.connect("iqn.b"), b.connect("iqn.z")
	for i, tt := range []struct {
		c          *Command
		want, keys string
	}{
		{out(x, 1, 1, 0xa, 0, 0), "conflict", "0"}, // not registered
		{out(x, 0, 0, 9, 0xa, 0), "conflict", "0"}, // a key that it has not
		{out(x, 0, 0, 0, 0xa, 0x08), "5/2600", "0"},
		{out(x, 0, 0, 0, 0xa, 0x04), "5/2600", "0"},
		{out(x, 0, 0, 0, 0xa, 0x01), "5/2600", "0"}, // nothing is kept here
	} {
		expect(t, fmt.Sprintf("refused %d", i), tt.c, tt.want)
		if got := keysOf(z); got != tt.keys {
			t.Errorf("refused %d: got keys %s, want %s", i, got, tt.keys)
		}
	}
	step := func(what string, c *Command, want, keys, reservation string) {
		t.Helper()
		expect(t, what, c, want)
		if got := keysOf(z); got != keys {
			t.Errorf("%s: got generation and keys %s, want %s", what, got, keys)
		}
		if got := reserved(z); got != reservation {
			t.Errorf("%s: reserved %s, want %s", what, got, reservation)
		}
	}
	step("ignore", out(x, 6, 0, 99, 0xa, 0), "good", "1 a", "none")
	step("ignore, of nobody, 0", out(y, 6, 0, 99, 0, 0), "good", "1 a", "none")
	step("register", out(y, 0, 0, 0, 0xb, 0), "good", "2 a b", "none")
	step("another key", out(y, 0, 0, 0xb, 0xbb, 0), "good", "3 a bb", "none")
	step("reserve", out(x, 1, 5, 0xa, 0, 0), "good", "3 a bb", "a as 5")
	step("reserve again", out(x, 1, 5, 0xa, 0, 0), "good", "3 a bb", "a as 5")
	step("as another type", out(x, 1, 6, 0xa, 0, 0), "conflict", "3 a bb", "a as 5")
	step("by another", out(y, 1, 5, 0xbb, 0, 0), "conflict", "3 a bb", "a as 5")
	step("release by another", out(y, 2, 5, 0xbb, 0, 0), "good", "3 a bb", "a as 5")
	step("release of another type", out(x, 2, 6, 0xa, 0, 0), "5/2604", "3 a bb", "a as 5")
	step("release", out(x, 2, 5, 0xa, 0, 0), "good", "3 a bb", "none")
	step("reserve anew", outAfter(t, y, "6/2a04", x, 1, 5, 0xa, 0), "good", "3 a bb", "a as 5")
	step("unregister the holder", out(x, 0, 0, 0xa, 0, 0), "good", "4 bb", "none")
	step("register again", outAfter(t, y, "6/2a04", x, 0, 0, 0, 0xa), "good", "5 bb a", "none")
	step("all registrants", out(x, 1, 8, 0xa, 0, 0), "good", "5 bb a", "0 as 8")
	step("unregister one holder", out(x, 0, 0, 0xa, 0, 0), "good", "6 bb", "0 as 8")
	step("release by the other", out(y, 2, 8, 0xbb, 0, 0), "good", "6 bb", "none")
	step("register once more", out(x, 0, 0, 0, 0xa, 0), "good", "7 bb a", "none")
	step("reserve", out(x, 1, 1, 0xa, 0, 0), "good", "7 bb a", "a as 1")
	step("preempt with an unknown key", out(y, 4, 3, 0xbb, 0x77, 0), "conflict", "7 bb a", "a as 1")
	step("preempt with 0", out(y, 4, 3, 0xbb, 0, 0), "5/2600", "7 bb a", "a as 1")
	step("preempt", out(y, 4, 3, 0xbb, 0xa, 0), "good", "8 bb", "bb as 3")
	expect(t, "the preempted one is told", do(x, []byte{0}, nil), "6/2a05")
	step("preempt oneself", out(y, 4, 5, 0xbb, 0xbb, 0), "good", "9 bb", "bb as 5")
	step("register for CLEAR", out(x, 0, 0, 0, 0xa, 0), "good", "10 bb a", "bb as 5")
	step("clear", out(y, 3, 0, 0xbb, 0, 0), "good", "11", "none")
	expect(t, "the cleared one is told", do(x, []byte{0}, nil), "6/2a03")
}

// outAfter sees the attention of one nexus before another's PERSISTENT RESERVE OUT.
func outAfter(t *testing.T, of *Nexus, attention string, n *Nexus, action, kind byte, key, actionKey uint64) *Command {
	t.Helper()
	expect(t, "the other registrant", do(of, []byte{0}, nil), attention)
	return out(n, action, kind, key, actionKey, 0)
}

func TestFullStatus(t *testing.T) {
	b := newRig(t, block.Identity{}, nil)
	n := b.connect("iqn.a")
	out(n, 0, 0, 0, 0xa, 0)
	out(n, 1, 3, 0xa, 0, 0)
	c := do(n, []byte{0x5e, 3, 0, 0, 0, 0, 0, 1, 0, 0}, nil)
	want := "0000000100000034" + "000000000000000a00000000" + "0103" + "00000000" + "0001" + "0000001c" +
		"45000018" + hex.EncodeToString([]byte("iqn.a,i,0x000000000001")) + "0000"
	if got := hex.EncodeToString(c.Data); got != want {
		t.Errorf("got\n%s, want\n%s", got, want)
	}
}

func TestMove(t *testing.T) {
	b := newRig(t, block.Identity{}, nil)
	x, y := b.connect("iqn.a"), b.connect("iqn.b")
	move := func(n *Nexus, key, next uint64, flags byte, port uint16, to string) *Command {
		id := transportID(to)
		list := binary.BigEndian.AppendUint64(nil, key)
		list = binary.BigEndian.AppendUint64(list, next)
		list = append(list, 0, flags, byte(port>>8), byte(port))
		list = binary.BigEndian.AppendUint32(list, uint32(len(id)))
		list = append(list, id...)
		return do(n, []byte{0x5f, 7, 0, 0, 0, 0, 0, 0, byte(len(list)), 0}, list)
	}
	const other = "iqn.b,i,0x000000000001"
	expect(t, "without registration", move(x, 0xa, 0xb, 0, 1, other), "conflict")
	out(x, 0, 0, 0, 0xa, 0)
	expect(t, "without reservation", move(x, 0xa, 0xb, 0, 1, other), "conflict")
	out(x, 1, 3, 0xa, 0, 0)
	expect(t, "to itself", move(x, 0xa, 0xb, 0, 1, "iqn.a,i,0x000000000001"), "5/2600")
	expect(t, "to another port", move(x, 0xa, 0xb, 0, 2, other), "5/2600")
	expect(t, "with key 0", move(x, 0xa, 0, 0, 1, other), "5/2600")
	expect(t, "to a name without ISID", move(x, 0xa, 0xb, 0, 1, "iqn.some.long.name.b"), "5/2600")
	expect(t, "to the other", move(x, 0xa, 0xb, 2, 1, other), "good")
	if got := keysOf(y); got != "2 b" {
		t.Errorf("got %s, want 2 b", got)
	}
	expect(t, "the new holder writes", do(y, code10(0x2a, 0, 0, 1), blocks(1, 1)), "good")
	expect(t, "the old one does not", do(x, code10(0x2a, 0, 0, 1), blocks(1, 1)), "conflict")
}

// Registrations outlive the nexus, and with APTPL a loss of power.
func TestKept(t *testing.T) {
	var kept []byte
	b := newRig(t, block.Identity{}, func(o *UnitOptions) {
		o.Keep = func(b []byte) error {
			kept = b
			return nil
		}
	})
	x, y := b.connect("iqn.a"), b.connect("iqn.b")
	expect(t, "register", out(x, 0, 0, 0, 0xa, 1), "good")
	expect(t, "reserve", out(x, 1, 3, 0xa, 0, 0), "good")
	x.Close()
	expect(t, "another, after the holder left", do(y, code10(0x28, 0, 0, 1), nil), "conflict")
	x = b.connect("iqn.a")
	expect(t, "the holder, back again", do(x, code10(0x28, 0, 0, 1), nil), "good")

	after := newRig(t, block.Identity{}, func(o *UnitOptions) {
		o.Kept, o.Keep = kept, func([]byte) error { return fmt.Errorf("the card is full") }
	})
	x, y = after.connect("iqn.a"), after.connect("iqn.b")
	expect(t, "another, after the loss of power", do(y, code10(0x28, 0, 0, 1), nil), "conflict")
	expect(t, "the holder, after it", do(x, code10(0x28, 0, 0, 1), nil), "good")
	expect(t, "what cannot be kept", out(x, 2, 3, 0xa, 0, 0), "5/5504")
	if got := reserved(x); got != "a as 3" {
		t.Errorf("after a change that was not kept: reserved %s", got)
	}
	expect(t, "no longer to be kept", out(b.connect("iqn.c"), 0, 0, 0, 0xc, 0), "good")
	if kept != nil {
		t.Errorf("kept %s, want nothing", kept)
	}
	const who = `{"initiator":"iqn.a,i,0x000000000001","target":"iqn.t","port":1,"key":10,"holder":false}`
	for _, bad := range []string{
		"{", `{"type":2}`, `{"other":1}`, `{}`, `{"type":3,"registrations":[]}`, `{"type":3,"registrations":[` + who + `]}`,
		`{"type":0,"registrations":[` + who + `]}{}`, `{"type":0,"registrations":[` + strings.Replace(who, "10", "0", 1) + `]}`,
		`{"type":3,"registrations":[` + strings.ReplaceAll(who+","+who, "false", "true") + `]}`,
	} {
		if _, err := NewUnit(UnitOptions{Disk: b.disk, Kept: []byte(bad)}); !errors.Is(err, ErrKept) {
			t.Errorf("reservations of %s: got %v, want %v", bad, err, ErrKept)
		}
	}
	for _, good := range []string{`{"type":0,"registrations":[` + who + `]}`, `{"type":7,"registrations":[` + who + `]}`} {
		var r reservations
		if err := r.restore([]byte(good)); err != nil {
			t.Errorf("reservations of %s: %v", good, err)
		}
	}
}

// FuzzKept: whatever is found where reservations were kept, it is refused, or such that
// somebody holds them.
func FuzzKept(f *testing.F) {
	f.Add([]byte(`{"type":3,"registrations":[{"initiator":"iqn.a,i,0x000000000001","target":"iqn.t","port":1,"key":10,"holder":true}]}`))
	f.Add([]byte(`{"type":7,"registrations":[{"initiator":"i","target":"t","port":1,"key":10,"holder":false}]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		var r reservations
		err := r.restore(b)
		held := r.kind == 0
		for i := range r.registrations {
			held = held || r.holds(i)
		}
		if err != nil && (!errors.Is(err, ErrKept) || r.keep) || !held {
			t.Errorf("%s: got %+v, %v", b, r, err)
		}
	})
}

// A write that waits for its data when its nexus is preempted does not land later.
func TestPreemptAbort(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, action := range []byte{actionPreempt, actionPreemptAbort} {
			b := newRig(t, block.Identity{}, nil)
			var aborted []*Command
			x := b.target.Connect("iqn.a,i,0x000000000001", func(c *Command) { aborted = append(aborted, c) })
			do(x, []byte{0}, nil)
			y := b.connect("iqn.b")
			out(x, 0, 0, 0, 0xa, 0)
			out(y, 0, 0, 0, 0xb, 0)
			out(x, 1, 1, 0xa, 0, 0)
			c := begin(t, x, Simple, 3)
			done := make(chan *Command)
			go func() { done <- out(y, action, 1, 0xb, 0xa, 0) }()
			synctest.Wait()
			want := "conflict"
			if action == actionPreemptAbort {
				want = "aborted"
				if len(aborted) != 1 || aborted[0] != c {
					t.Fatalf("the transport was told of %d commands, want 1", len(aborted))
				}
			}
			if !x.Try(c) {
				x.Execute(c)
			}
			expect(t, "the write", c, want)
			x.End(c)
			expect(t, "the preemption", <-done, "good")
			if b.memory.data[3*512] != 0 {
				t.Errorf("action %d: the write landed", action)
			}
		}
	})
}

func TestReserve(t *testing.T) {
	b := newRig(t, block.Identity{}, nil)
	x, y := b.connect("iqn.a"), b.connect("iqn.b")
	expect(t, "RESERVE(6)", do(x, []byte{0x16}, nil), "good")
	expect(t, "again", do(x, []byte{0x56}, nil), "good")
	expect(t, "for a third party", do(x, []byte{0x16, 0x10}, nil), "5/2400")
	expect(t, "REGISTER beside it", out(x, 0, 0, 0, 1, 0), "conflict")
	for _, tt := range []struct {
		code []byte
		want string
	}{
		{[]byte{0x16}, "conflict"}, {[]byte{0x17}, "good"}, {[]byte{0}, "conflict"}, {code10(0x28, 0, 0, 1), "conflict"},
		{[]byte{0x12, 0, 0, 0, 5}, "good"}, {[]byte{0x03, 0, 0, 0, 18}, "good"}, {[]byte{0xa0, 0, 0, 0, 0, 0, 0, 0, 0, 16}, "good"},
		{[]byte{0x5e, 0, 0, 0, 0, 0, 0, 0, 8}, "conflict"}, {[]byte{0x5f, 0, 0, 0, 0, 0, 0, 0, 24}, "conflict"}, {[]byte{0x1e}, "good"},
	} {
		expect(t, fmt.Sprintf("%#x of the other", tt.code[0]), do(y, tt.code, nil), tt.want)
	}
	x.Close()
	expect(t, "after the nexus was lost", do(y, []byte{0x16}, nil), "good")
	x = b.target.Connect("iqn.a,i,0x000000000001", nil)
	expect(t, "the attention comes first", do(x, []byte{0}, nil), "6/2900")
	expect(t, "the other way round", do(x, []byte{0}, nil), "conflict")
	if _, ends := x.Manage(LogicalUnitReset, 0); ends.Wait(t.Context()) != nil {
		t.Error("the reset does not end")
	}
	expect(t, "after the reset", do(x, []byte{0}, nil), "6/2903")
	expect(t, "after the attention", do(x, []byte{0}, nil), "good")
	expect(t, "REGISTER", out(x, 0, 0, 0, 1, 0), "good")
	expect(t, "RESERVE of a registrant", do(x, []byte{0x16}, nil), "good")
	expect(t, "it reserves nothing", do(y, []byte{0}, nil), "6/2903")
	expect(t, "really", do(y, []byte{0}, nil), "good")
	expect(t, "RESERVE of a stranger", do(y, []byte{0x16}, nil), "conflict")
}

func FuzzTransportID(f *testing.F) {
	f.Add(transportID("iqn.2026-01.test:a,i,0x00023d000001"))
	f.Fuzz(func(t *testing.T, b []byte) {
		name, ok := parseTransportID(b)
		if !ok {
			return
		}
		if again, ok := parseTransportID(transportID(name)); !ok || again != name {
			t.Errorf("%q: got %q, %t", name, again, ok)
		}
	})
}

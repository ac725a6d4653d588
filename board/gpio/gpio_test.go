package gpio

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/nitrino/nitrino/board"
	"github.com/nitrino/nitrino/host"
	"github.com/nitrino/nitrino/internal/settings"
)

// The sizes are part of the ioctl numbers, and so is a mistake in a struct.
func TestABI(t *testing.T) {
	for _, tt := range []struct {
		name   string
		size   uintptr
		number uintptr
	}{
		{"gpiochip_info", unsafe.Sizeof(chipInfo{}), getChipInfo},
		{"gpio_v2_line_info", unsafe.Sizeof(lineInfo{}), unix.GPIO_V2_GET_LINEINFO_IOCTL},
		{"gpio_v2_line_request", unsafe.Sizeof(lineRequest{}), unix.GPIO_V2_GET_LINE_IOCTL},
		{"gpio_v2_line_values", unsafe.Sizeof(lineValues{}), unix.GPIO_V2_LINE_GET_VALUES_IOCTL},
	} {
		if want := tt.number >> 16 & 0x3fff; tt.size != want {
			t.Errorf("%s: got %d bytes, want %d", tt.name, tt.size, want)
		}
	}
}

// A record is what one Watch told.
type record struct {
	mu     sync.Mutex
	levels []bool
	err    error
}

func (r *record) take() []bool {
	synctest.Wait()
	r.mu.Lock()
	defer r.mu.Unlock()
	got := r.levels
	r.levels = nil
	return got
}

func watch(ctx context.Context, s host.Sense) *record {
	r := &record{}
	go func() {
		err := s.Watch(ctx, func(active bool) {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.levels = append(r.levels, active)
		})
		r.mu.Lock()
		defer r.mu.Unlock()
		r.err = err
	}()
	synctest.Wait()
	return r
}

func TestWatch(t *testing.T) {
	const on, off = true, false
	for _, tt := range []struct {
		name   string
		begin  bool
		level  bool   // in the end
		events []bool // the kernel's
		want   []bool // told besides the first
	}{
		{"one edge", off, on, []bool{on}, []bool{on}},
		{"a pulse", off, off, []bool{on, off}, []bool{on, off}},
		{"both edges seen after the second", off, off, []bool{off, off}, nil},
		{"the first edge seen after the third", off, on, []bool{on, on, on}, []bool{on}},
		{"many", on, on, []bool{off, on, off, on, off, on}, []bool{off, on, off, on, off, on}},
		{"an event was dropped", off, on, []bool{off}, []bool{on}},
		{"the last event was dropped", off, off, []bool{on}, []bool{on, off}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := newFakeLine()
				l.level = tt.begin
				in, err := newInput("x", l)
				if err != nil {
					t.Fatal(err)
				}
				first, second := watch(t.Context(), in), watch(t.Context(), in)
				l.change(tt.level, tt.events...)
				want := append([]bool{tt.begin}, tt.want...)
				for _, r := range []*record{first, second} {
					if got := r.take(); !slices.Equal(got, want) {
						t.Errorf("got %v, want %v", got, want)
					}
				}
				if got := watch(t.Context(), in).take(); !slices.Equal(got, []bool{tt.level}) {
					t.Errorf("a late watch: got %v, want %v", got, tt.level)
				}
				if err := in.Close(); err != nil {
					t.Error(err)
				}
				synctest.Wait()
				if !errors.Is(first.err, fs.ErrClosed) || !errors.Is(second.err, fs.ErrClosed) {
					t.Errorf("after Close: got %v and %v, want %v", first.err, second.err, fs.ErrClosed)
				}
			})
		})
	}
}

// The level at the call counts, even before the event of it comes.
func TestWatchBeforeEvent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newFakeLine()
		in, err := newInput("x", l)
		if err != nil {
			t.Fatal(err)
		}
		defer in.Close()
		first := watch(t.Context(), in)
		l.change(true) // an event is to come
		late := watch(t.Context(), in)
		if got := late.take(); !slices.Equal(got, []bool{true}) {
			t.Errorf("got %v, want the level at the call", got)
		}
		l.change(true, true)
		if got := late.take(); got != nil {
			t.Errorf("told %v again", got)
		}
		if got := first.take(); !slices.Equal(got, []bool{false, true}) {
			t.Errorf("the first watch: got %v, want each level once", got)
		}
	})
}

func TestWatchEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newFakeLine()
		in, err := newInput("line 7 of GPIO chip x", l)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		r, other := watch(ctx, in), watch(t.Context(), in)
		cancel()
		synctest.Wait()
		if !errors.Is(r.err, context.Canceled) {
			t.Errorf("got %v, want %v", r.err, context.Canceled)
		}
		called := false
		if err := in.Watch(ctx, func(bool) { called = true }); !errors.Is(err, context.Canceled) || called {
			t.Errorf("an ended ctx: got %v, called %v", err, called)
		}
		l.change(true, true)
		if got := other.take(); !slices.Equal(got, []bool{false, true}) {
			t.Errorf("the other watch: got %v", got)
		}
		l.unplug(unix.ENODEV)
		synctest.Wait()
		if !errors.Is(other.err, unix.ENODEV) || !strings.Contains(other.err.Error(), "line 7") {
			t.Errorf("the wire fails: got %v", other.err)
		}
		if err := in.Watch(t.Context(), func(bool) {}); !errors.Is(err, unix.ENODEV) {
			t.Errorf("a later watch: got %v", err)
		}
		if _, err := in.Level(); !errors.Is(err, unix.ENODEV) {
			t.Errorf("Level: got %v", err)
		}
		if err := in.Close(); err != nil {
			t.Error(err)
		}
	})
}

// Many edges and watches at once: each is told an alternation that ends right.
func TestWatchMany(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newFakeLine()
		in, err := newInput("x", l)
		if err != nil {
			t.Fatal(err)
		}
		const watches, edges = 8, 1001
		var all, begun sync.WaitGroup
		begun.Add(watches)
		for range watches {
			all.Go(func() {
				var got []bool
				err := in.Watch(t.Context(), func(active bool) {
					if got = append(got, active); len(got) == 1 {
						begun.Done()
					}
				})
				if !errors.Is(err, unix.ENODEV) {
					t.Errorf("got %v, want %v", err, unix.ENODEV)
				}
				for i := range got[1:] {
					if got[i] == got[i+1] {
						t.Errorf("told %v twice", got[i])
					}
				}
				if !got[len(got)-1] {
					t.Error("the last level told is false")
				}
			})
		}
		begun.Wait()
		for i := range edges {
			l.change(i%2 == 0, i%2 == 0)
		}
		synctest.Wait() // what is queued when a line fails is lost
		l.unplug(unix.ENODEV)
		all.Wait()
		if err := in.Close(); err != nil {
			t.Error(err)
		}
	})
}

func wires(chip string) board.Wires {
	return board.Wires{
		PowerButton: &board.Wire{Line: 0, ActiveLow: true, Chip: chip},
		ResetButton: &board.Wire{Line: 1},
		PowerLED:    &board.Wire{Line: 5},
		Standby:     &board.Wire{Line: 6, ActiveLow: true, Chip: chip},
	}
}

func TestConnect(t *testing.T) {
	newChip := func() *fakeChip {
		return &fakeChip{count: 8, flags: map[int]uint64{}, free: map[int]*fakeLine{0: newFakeLine(), 1: newFakeLine(), 5: newFakeLine(), 6: newFakeLine()}}
	}
	t.Run("all", func(t *testing.T) {
		c := newChip()
		var p host.Parts
		failed, release := Connect(func(label string) (*Chip, error) { c.open++; return &Chip{"fake", c}, nil }, wires(""), &p)
		if len(failed) != 0 || p.PowerButton == nil || p.ResetButton == nil || p.PowerLED == nil || p.Standby == nil {
			t.Fatalf("got %v, %+v", failed, p)
		}
		if p.NMIButton != nil || p.HostReset != nil {
			t.Error("parts without wires")
		}
		if c.open != 0 {
			t.Errorf("%d chips are still open", c.open)
		}
		for line, want := range map[int]uint64{
			0: flagOutput | flagActiveLow,
			1: flagOutput,
			5: flagInput | flagEdgeRising | flagEdgeFalling | flagBiasPullDown,
			6: flagInput | flagEdgeRising | flagEdgeFalling | flagBiasPullUp | flagActiveLow,
		} {
			if got := c.flags[line]; got != want {
				t.Errorf("line %d: got flags %#x, want %#x", line, got, want)
			}
		}
		if err := p.PowerButton.Set(true); err != nil {
			t.Error(err)
		}
		if err := release(); err != nil {
			t.Error(err)
		}
		if got := c.free[0].set; !slices.Equal(got, []bool{true, false}) {
			t.Errorf("the button was set to %v, want released at the end", got)
		}
		for n, l := range c.free {
			if !l.closed {
				t.Errorf("line %d was not given back", n)
			}
		}
		if err := p.PowerButton.Set(true); !errors.Is(err, fs.ErrClosed) {
			t.Errorf("Set after the end: got %v, want %v", err, fs.ErrClosed)
		}
		if _, err := p.PowerLED.Level(); !errors.Is(err, fs.ErrClosed) {
			t.Errorf("Level after the end: got %v, want %v", err, fs.ErrClosed)
		}
	})
	t.Run("some", func(t *testing.T) {
		c := newChip()
		delete(c.free, 1)
		c.count = 6
		var p host.Parts
		failed, release := Connect(func(label string) (*Chip, error) {
			if label != "" {
				return nil, fmt.Errorf("%w: no chip", board.ErrNoLine)
			}
			return &Chip{"fake", c}, nil
		}, wires("gone"), &p)
		defer release()
		want := []struct {
			name string
			err  error
			text string
		}{
			{"power_button", board.ErrNoLine, "no chip"},
			{"reset_button", board.ErrBusy, `line 1 of GPIO chip fake, by "Poweroff"`},
			{"standby", board.ErrNoLine, "no chip"},
		}
		if len(failed) != len(want) {
			t.Fatalf("got %v, want %d", failed, len(want))
		}
		for i, w := range want {
			if f := failed[i]; f.Path != "wires."+w.name || !errors.Is(f, w.err) || !strings.Contains(f.Error(), w.text) {
				t.Errorf("got %v, want %s: %v with %q", f, w.name, w.err, w.text)
			}
		}
		if p.PowerButton != nil || p.ResetButton != nil || p.Standby != nil || p.PowerLED == nil {
			t.Errorf("got %+v, want the power LED alone", p)
		}
	})
	t.Run("no interrupt", func(t *testing.T) {
		c := newChip()
		c.fail = unix.ENXIO
		chip := Chip{"fake", c}
		if _, err := chip.Input(5, false); !errors.Is(err, unix.ENXIO) || !strings.Contains(err.Error(), "no interrupt") {
			t.Errorf("got %v", err)
		}
		if _, err := chip.Output(5, false); !errors.Is(err, unix.ENXIO) || strings.Contains(err.Error(), "no interrupt") {
			t.Errorf("got %v", err)
		}
	})
}

func TestCheck(t *testing.T) {
	for _, tt := range []struct {
		name  string
		wires board.Wires
		field string
		err   error
	}{
		{"none", board.Wires{}, "", nil},
		{"all there, one busy", wires(""), "", nil},
		{"no such line", board.Wires{PowerLED: &board.Wire{Line: 8}}, "/power_led/line", board.ErrNoLine},
		{"no such chip", wires("gone"), "/power_button/chip", board.ErrNoLine},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := &fakeChip{count: 8}
			err := Check(func(label string) (*Chip, error) {
				if label != "" {
					return nil, fmt.Errorf("%w: no chip", board.ErrNoLine)
				}
				c.open++
				return &Chip{"fake", c}, nil
			}, tt.wires)
			if !errors.Is(err, tt.err) {
				t.Fatalf("got %v, want %v", err, tt.err)
			}
			if f, ok := errors.AsType[*settings.FieldError](err); ok != (tt.err != nil) || ok && f.Pointer != tt.field {
				t.Errorf("got %v, want field %q", err, tt.field)
			}
			if c.open != 0 {
				t.Errorf("%d chips are still open", c.open)
			}
		})
	}
}

func TestOpenAbsent(t *testing.T) {
	dev := t.TempDir()
	if _, err := Open(dev, "pinctrl"); !errors.Is(err, board.ErrNoLine) || !strings.Contains(err.Error(), "pinctrl") {
		t.Errorf("no chips: got %v, want %v", err, board.ErrNoLine)
	}
	if err := os.WriteFile(filepath.Join(dev, "gpiochip0"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(dev, "pinctrl"); !errors.Is(err, unix.ENOTTY) {
		t.Errorf("no device: got %v, want %v", err, unix.ENOTTY)
	}
}

func FuzzLevels(f *testing.F) {
	event := make([]byte, eventSize)
	binary.NativeEndian.PutUint32(event[eventID:], unix.GPIO_V2_LINE_EVENT_RISING_EDGE)
	f.Add(event)
	f.Add(event[1:])
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		got, err := levels(b)
		if err == nil && len(got)*eventSize != len(b) {
			t.Errorf("%d bytes: got %d levels", len(b), len(got))
		}
	})
}

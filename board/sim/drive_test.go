package sim

import (
	"errors"
	"log/slog"
	"strings"
	"testing"

	"github.com/nitrino/nitrino/host"
)

// text is a medium that nobody writes to.
type text struct{ *strings.Reader }

func (text) WriteAt([]byte, int64) (int, error) { return 0, errors.ErrUnsupported }
func (text) Flush() error                       { return nil }

func TestFakeDrive(t *testing.T) {
	f, err := NewFake(DefaultFake(), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close(t.Context())
	parts, err := f.Parts(Wires())
	if err != nil {
		t.Fatal(err)
	}
	if len(parts.Drives) != 2 || parts.Drives[0].Name != "cd" || parts.Drives[1].Name != "usb" || parts.Hardware == nil {
		t.Fatalf("parts: %+v, %+v", parts.Drives, parts.Hardware)
	}
	d := parts.Drives[0].Drive
	ejected := 0
	m := text{strings.NewReader("content")}
	insert := func() error {
		return d.Insert(t.Context(), host.Loading{Medium: m, Kind: host.MediumCD, Ejected: func() { ejected++ }})
	}
	broken := errors.New("broken")
	for _, tt := range []struct {
		what   string
		do     func() error
		want   error
		in     bool
		served bool
	}{
		{"insert a disk", func() error { return d.Insert(t.Context(), host.Loading{Medium: m, Kind: host.MediumDisk}) }, errors.ErrUnsupported, false, false},
		{"insert", insert, nil, true, true},
		{"insert twice", insert, host.ErrDriveFull, true, true},
		{"release", func() error { d.Release(); return nil }, nil, true, false},
		{"insert again", insert, nil, true, true},
		{"the system ejects", func() error { f.CD().OSEject(); return nil }, nil, true, true},
		{"fail", func() error { f.CD().Fail(broken); return d.Eject(t.Context()) }, broken, true, true},
		{"eject", func() error { f.CD().Fail(nil); return d.Eject(t.Context()) }, nil, false, false},
		{"eject twice", func() error { return d.Eject(t.Context()) }, nil, false, false},
	} {
		if err := tt.do(); !errors.Is(err, tt.want) {
			t.Errorf("%s: got %v, want %v", tt.what, err, tt.want)
		}
		l, served := f.CD().Loading()
		if (l.Medium != nil) != tt.in || served != tt.served || tt.in && !l.ReadOnly {
			t.Errorf("%s: got %+v, %v", tt.what, l, served)
		}
	}
	if ejected != 1 {
		t.Errorf("told of %d ejections, want 1", ejected)
	}
	if l, served := f.USB().Loading(); l.Medium != nil || served {
		t.Errorf("the other drive has %+v", l)
	}
}

func TestHardware(t *testing.T) {
	for machine, want := range map[string]string{"pc": "i440FX", "q35": "Q35"} {
		h := QEMUConfig{Machine: machine, Memory: 256}.hardware()
		if h.Manufacturer != "QEMU" || !strings.Contains(h.Model, want) || h.MemoryBytes != 256<<20 || h.CoreCount != 1 {
			t.Errorf("%s: got %+v", machine, h)
		}
	}
}

package main

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nitrino/nitrino/cmds/emulate/i2c"
)

// A fakeHost is a host that is on or off.
type fakeHost bool

func (h fakeHost) On() bool                     { return bool(h) }
func (fakeHost) SetStandby(bool)                {}
func (fakeHost) PressPowerButton(time.Duration) {}
func (fakeHost) PressReset(time.Duration)       {}

func TestWatts(t *testing.T) {
	for _, c := range []struct {
		name string
		h    hands
		ac   bool
		want float64
	}{
		{"no host", nil, false, 0},
		{"on", fakeHost(true), true, wattsOn},
		{"off", fakeHost(false), true, wattsStandby},
		{"without AC", fakeHost(false), false, 0},
	} {
		w := newWires(slog.New(slog.DiscardHandler))
		w.input(6, c.ac)
		if got := watts(w, c.h); got != c.want {
			t.Errorf("%s: got %v, want %v", c.name, got, c.want)
		}
	}
}

// bytesAt reads n bytes of a chip behind a pointer.
func bytesAt(t *testing.T, c i2c.Chip, pointer []byte, n int) []byte {
	t.Helper()
	p := make([]byte, n)
	if err := c.Write(pointer); err != nil {
		return nil
	}
	if err := c.Read(p); err != nil {
		return nil
	}
	return p
}

func TestSensorWords(t *testing.T) {
	dir := t.TempDir()
	// What an older one left is kept.
	if err := os.WriteFile(filepath.Join(dir, fruFile), []byte("FRU"), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := newChips(dir, func() float64 { return 12 })
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := c.close(); err != nil {
			t.Error(err)
		}
	}()
	p := panel{chips: c}
	for _, s := range []struct {
		word string
		err  string // "" for none
		chip i2c.Chip
		at   []byte
		want string // "" for no answer
	}{
		{"sensor inlet 30.5", "", c.inlet, []byte{0}, "\x1e\x80"},
		{"sensor inlet fail", "", c.inlet, []byte{0}, ""},
		{"sensor inlet ok", "", c.inlet, []byte{0}, "\x18\x00"},
		{"sensor power 60", "", c.power, []byte{1}, "\x27\x10"},
		{"sensor power ok", "", c.power, []byte{1}, "\x07\xd0"},
		{"sensor fru ok", "", c.fru, []byte{0, 0}, "FRU\xff\xff"},
		{"sensor fru fail", "", c.fru, []byte{0, 0}, ""},
		{"sensor fru 5", "want a number (not for fru)", c.fru, []byte{0, 0}, ""},
		{"sensor inlet NaN", "want a number", c.inlet, []byte{0}, "\x18\x00"},
		{"sensor inlet", "want a number", c.inlet, []byte{0}, "\x18\x00"},
		{"sensor outlet 5", "want inlet, power or fru", c.inlet, []byte{0}, "\x18\x00"},
	} {
		_, err := p.do(s.word)
		if s.err == "" && err != nil || s.err != "" && (err == nil || !strings.Contains(err.Error(), s.err)) {
			t.Errorf("%s: got %v, want %q", s.word, err, s.err)
		}
		if got := bytesAt(t, s.chip, s.at, len(s.want)); !bytes.Equal(got, []byte(s.want)) {
			t.Errorf("%s: got % x, want % x", s.word, got, s.want)
		}
	}
	if info, err := os.Stat(filepath.Join(dir, fruFile)); err != nil || info.Size() != i2c.EEPROMSize {
		t.Errorf("got %v, %v, want %d bytes", info, err, i2c.EEPROMSize)
	}
}

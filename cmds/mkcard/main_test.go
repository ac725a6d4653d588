package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nitrino/nitrino/image/flash"
	"github.com/nitrino/nitrino/image/sdcard"
	"github.com/nitrino/nitrino/internal/card"
	"github.com/nitrino/nitrino/update/manifest"
)

func TestParse(t *testing.T) {
	for _, tt := range []struct {
		args string
		want options
		err  string
	}{
		{"-o x.img", options{file: "x.img"}, ""},
		{"-device /dev/sdX -bmc bmc.json -yes", options{device: "/dev/sdX", settings: "bmc.json", yes: true}, ""},
		{"-only kernel", options{only: "kernel"}, ""},
		{"", options{}, "nothing to do"},
		{"-image x.img -device /dev/sdX", options{image: "x.img", device: "/dev/sdX"}, ""},
		{"-image x.img", options{}, "-image"},
		{"-image x.img -o y.img -device /dev/sdX", options{}, "-image"},
		{"-only card", options{}, `-only "card"`},
		{"-only kernel -o x.img", options{}, "no other flag"},
		{"-bundle x.bundle -key k.pem", options{bundle: "x.bundle", key: "k.pem"}, ""},
		{"-o x.img -bundle x.bundle -key k.pem", options{file: "x.img", bundle: "x.bundle", key: "k.pem"}, ""},
		{"-bundle x.bundle", options{}, "-key"},
		{"-o x.img -key k.pem", options{}, "-bundle"},
		{"-bundle x.bundle -key k.pem -bmc bmc.json", options{}, "onto a card"},
		{"-newkey k.pem", options{newKey: "k.pem"}, ""},
		{"-newkey k.pem -o x.img", options{}, "no other flag"},
		{"x.img", options{}, `unexpected argument "x.img"`},
	} {
		o, err := parse(strings.Fields(tt.args), io.Discard)
		if tt.err != "" {
			if err == nil || !strings.Contains(err.Error(), tt.err) {
				t.Errorf("%q: got %v, want an error with %q", tt.args, err, tt.err)
			}
		} else if err != nil || o != tt.want {
			t.Errorf("%q: got %+v, %v, want %+v", tt.args, o, err, tt.want)
		}
	}
}

// fake parts are small, and count how often they were asked for.
type fake struct {
	kernel string
	asked  int
}

func (f *fake) onlyKernel(context.Context) error    { f.asked++; return nil }
func (f *fake) onlyInitramfs(context.Context) error { f.asked++; return nil }

func (f *fake) contents(context.Context) (*sdcard.Contents, error) {
	f.asked++
	c := &sdcard.Contents{
		Version: version, Revision: "0123", Date: time.Date(2026, 11, 22, 0, 0, 0, 0, time.UTC),
		Components: []manifest.Component{{Name: "linux", Version: "6", Source: "Debian", SHA256: sdcard.Hash(nil)}},
	}
	for _, name := range []string{card.KernelFile, card.InitramfsFile, "overlays/host-uart.dtbo", "overlays/gadget.dtbo", "overlays/header-gpio.dtbo"} {
		c.Slot = append(c.Slot, sdcard.File{Name: name, Component: "linux", Data: []byte(f.kernel + name)})
	}
	return c, nil
}

func TestMakeCard(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "out", "card.img")
	settings := filepath.Join(dir, "mine.json")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(settings, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	p := &fake{kernel: "one"}
	make := func(o options) (string, error) {
		t.Helper()
		var out bytes.Buffer
		err := makeCard(t.Context(), o, p, flash.Live(), dir, strings.NewReader(""), &out)
		return out.String(), err
	}
	boot := func(name string) string {
		t.Helper()
		f, err := os.Open(file)
		if err != nil {
			t.Fatal(err)
		}
		text, err := sdcard.BootFile(f, name)
		if err = errors.Join(err, sdcard.Check(f), f.Close()); err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	const again = "made before"
	for _, tt := range []struct {
		name     string
		kernel   string
		settings string
		reused   bool
	}{
		{"the first time", "one", "", false},
		{"again", "one", "", true},
		{"with settings", "one", `{"version":1,"hostname":"rack7"}`, false},
		{"with them again", "one", `{"version":1,"hostname":"rack7"}`, true},
		{"with others", "one", `{"version":1,"hostname":"rack8"}`, false},
		{"with another kernel", "two", `{"version":1,"hostname":"rack8"}`, false},
	} {
		p.kernel = tt.kernel
		o := options{file: file}
		if tt.settings != "" {
			o.settings = settings
			write(tt.settings)
		}
		out, err := make(o)
		if err != nil {
			t.Fatalf("%s: %v", tt.name, err)
		}
		if reused := strings.Contains(out, again); reused != tt.reused {
			t.Errorf("%s: got %q, want reused %v", tt.name, out, tt.reused)
		}
		if got := boot(card.SettingsFile); tt.settings != "" && got != tt.settings {
			t.Errorf("%s: got settings %q, want %q", tt.name, got, tt.settings)
		}
	}
	// What a board wrote onto the card is no reason to make it anew.
	f, err := os.OpenFile(file, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.WriteAt([]byte("state"), sdcard.Size-4096)
	if err = errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
	if out, err := make(options{file: file, settings: settings}); err != nil || !strings.Contains(out, again) {
		t.Errorf("with state on it: got %q, %v, want it left alone", out, err)
	}
	left, err := os.ReadDir(filepath.Dir(file))
	if err != nil || len(left) != 1 {
		t.Errorf("got %v, %v beside the image, want nothing", left, err)
	}
}

// TestRefusedFirst: what cannot be is said before anything is built.
func TestRefusedFirst(t *testing.T) {
	dir := t.TempDir()
	bad := filepath.Join(dir, "bad.json")
	for _, tt := range []struct {
		name, settings string
		o              options
		want           string
	}{
		{"an unknown field", "{\"version\": 1,\n \"hostnam\": \"x\"}", options{file: "card.img", settings: bad}, "bad.json:2:2"},
		{"a value that cannot be", `{"version": 1, "hostname": "-"}`, options{file: "card.img", settings: bad}, "hostname"},
		{"no version", `{}`, options{file: "card.img", settings: bad}, "version"},
		{"no such file", "", options{file: "card.img", settings: filepath.Join(dir, "none.json")}, "none.json"},
		{"no block device", "", options{device: "/dev/null"}, flash.ErrNotDevice.Error()},
		{"no device", "", options{device: filepath.Join(dir, "sdX")}, "no such file"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if err := os.WriteFile(bad, []byte(tt.settings), 0o600); err != nil {
				t.Fatal(err)
			}
			p := &fake{}
			if tt.o.file != "" {
				tt.o.file = filepath.Join(dir, tt.o.file)
			}
			err := makeCard(t.Context(), tt.o, p, flash.Live(), dir, strings.NewReader("yes\n"), t.Output())
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want an error with %q", err, tt.want)
			}
			if p.asked != 0 {
				t.Error("parts were built")
			}
			if _, err := os.Stat(tt.o.file); tt.o.file != "" && !errors.Is(err, os.ErrNotExist) {
				t.Errorf("the image: got %v, want none", err)
			}
		})
	}
}

func TestImageIsNoDevice(t *testing.T) {
	err := makeCard(t.Context(), options{file: "/dev/null"}, &fake{}, flash.Live(), t.TempDir(), strings.NewReader(""), t.Output())
	if err == nil || !strings.Contains(err.Error(), "-device") {
		t.Errorf("got %v, want an error that names -device", err)
	}
}

func TestAsk(t *testing.T) {
	d := flash.Device{Path: "/dev/sdX", Model: "SD/MMC", Size: 32e9}
	for answer, want := range map[string]error{"yes\n": nil, "yes": nil, "y\n": errNo, "no\n": errNo, "": errNo} {
		var out bytes.Buffer
		if err := ask(d, strings.NewReader(answer), &out); !errors.Is(err, want) {
			t.Errorf("%q: got %v, want %v", answer, err, want)
		}
		if !strings.Contains(out.String(), "/dev/sdX (SD/MMC, 32.0 GB)") {
			t.Errorf("%q: got %q, want the device's model and size", answer, out.String())
		}
	}
}

// TestImage: what is no sound card is not written, nor to what is no card.
func TestImage(t *testing.T) {
	dir := t.TempDir()
	junk, file := filepath.Join(dir, "junk.img"), filepath.Join(dir, "card.img")
	if err := os.WriteFile(junk, make([]byte, 4096), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := makeCard(t.Context(), options{file: file}, &fake{kernel: "one"}, flash.Live(), dir, strings.NewReader(""), t.Output()); err != nil {
		t.Fatal(err)
	}
	for image, want := range map[string]string{
		junk:                       "partition table",
		file:                       flash.ErrNotDevice.Error(),
		filepath.Join(dir, "none"): "none",
	} {
		err := run(t.Context(), []string{"-image", image, "-device", "/dev/null", "-yes"}, strings.NewReader(""), t.Output(), t.Output())
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want an error with %q", image, err, want)
		}
	}
}

func TestRevision(t *testing.T) {
	t.Setenv("SOURCE_DATE_EPOCH", "1700000000")
	commit, date, err := revision(t.Context(), t.TempDir())
	if err != nil || commit != "unknown" || date.Unix() != 1700000000 {
		t.Errorf("no history: got %s, %v, %v, want unknown and the date that was given", commit, date, err)
	}
	t.Setenv("SOURCE_DATE_EPOCH", "yesterday")
	if _, _, err := revision(t.Context(), t.TempDir()); err == nil {
		t.Error("a date that is none: got no error")
	}
}

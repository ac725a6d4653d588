package main

import (
	"flag"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/nitrino/nitrino/cmds/emulate/firmware"
)

func TestParse(t *testing.T) {
	for _, c := range []struct {
		args, want string // want: what the error says; "" for none
	}{
		{"-card x", ""},
		{"-card x -host q35 -base 0 -addr 127.0.0.2 -initrd a -initrd b -append word -record y -v", ""},
		{"-card x -machine raspi3b", ""},
		{"", "-card is missing"},
		{"-card x y", `unexpected argument "y"`},
		{"-card x -base 59636", "want 0 to 59635"},
		{"-card x -base -1", "want 0 to 59635"},
		{"-card x -machine pc", "want virt or raspi3b"},
		{"-card x -host fake", "want none, pc or q35"},
		{"-card x -machine raspi3b -host pc", "no wires that reach outside"},
		{"-card x -addr ::1", "want an IPv4 address"},
		{"-card x -addr localhost", "want an IPv4 address"},
	} {
		_, err := parse(strings.Fields(c.args), io.Discard)
		switch {
		case c.want == "" && err != nil:
			t.Errorf("%s: got %v", c.args, err)
		case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)):
			t.Errorf("%s: got %v, want %q", c.args, err, c.want)
		}
	}
	if _, err := parse([]string{"-h"}, io.Discard); err != flag.ErrHelp {
		t.Errorf("-h: got %v, want flag.ErrHelp", err)
	}
	if _, err := parse([]string{"-card", "x", "-append", "a\nb"}, io.Discard); err == nil {
		t.Error("-append with two lines: no error")
	}
}

func TestArgs(t *testing.T) {
	value := func(args []string, option, with string) string {
		for i, a := range args {
			if a == option && strings.Contains(args[i+1], with) {
				return args[i+1]
			}
		}
		return ""
	}
	boot := &firmware.Boot{Cmdline: "console=null quiet", Initramfs: []byte{1}}
	for _, c := range []struct {
		args         string
		logged       int64
		option, with string
		want         string
	}{
		{"-card /c", 0, "-append", "", "console=null quiet console=ttyAMA0"},
		{"-card /c -append word", 0, "-append", "", "console=null quiet console=ttyAMA0 word"},
		{"-card /c,d", 0, "-drive", "", "if=none,id=card,format=raw,file=/c,,d"},
		{"-card /c -base 30000 -addr 127.0.0.9", 0, "-netdev", "user", "user,id=net0,hostfwd=tcp:127.0.0.9:30443-:443,hostfwd=tcp:127.0.0.9:30022-:22,hostfwd=udp:127.0.0.9:30623-:623,hostfwd=tcp:127.0.0.9:33260-:3260"},
		{"-card /c -record /r,s", 0, "-drive", "", "if=none,id=card,driver=raw,file.driver=blklogwrites,file.file.driver=file,file.log.driver=file,file.log-super-update-interval=1,file.file.filename=/c,file.log.filename=/r,,s"},
		{"-card /c -record /r", 512, "-drive", "", "if=none,id=card,driver=raw,file.driver=blklogwrites,file.file.driver=file,file.log.driver=file,file.log-super-update-interval=1,file.file.filename=/c,file.log.filename=/r,file.log-append=on"},
		{"-card /c -machine raspi3b", 0, "-drive", "", "if=sd,id=card,format=raw,file=/c"},
		{"-card /c -machine raspi3b", 0, "-dtb", "", "boot/dtb"},
		{"-card /c", 0, "-initrd", "", "boot/initramfs"},
	} {
		o, err := parse(strings.Fields(c.args), io.Discard)
		if err != nil {
			t.Fatal(err)
		}
		if got := value(args(o, boot, c.logged), c.option, c.with); got != c.want {
			t.Errorf("%s: got %s %q, want %q", c.args, c.option, got, c.want)
		}
	}
	o, err := parse([]string{"-card", "/c"}, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	if slices.Contains(args(o, &firmware.Boot{}, 0), "-initrd") {
		t.Error("got -initrd where there is no initramfs")
	}
}

func TestPanicReboot(t *testing.T) {
	for _, c := range []struct {
		cmdline string
		want    int
	}{
		{"panic=5 bcm2835_wdt.panic_partition=3 quiet", 3},
		{"panic=5", 0},
		{"bcm2835_wdt.panic_partition=99", 0},
		{"bcm2835_wdt.panic_partition=", 0},
	} {
		if got := panicReboot(c.cmdline); got != (firmware.Reboot{Partition: c.want}) {
			t.Errorf("%q: got %v, want partition %d", c.cmdline, got, c.want)
		}
	}
}

//go:build e2e

package test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// The flows of bmcsim, on the booted card: RMCP+ in the image, GPIO chardev,
// PL061, host QEMU, and its light back again.
func TestCard(t *testing.T) {
	b := boot(t, card(t), "-host", "pc")
	for _, c := range []struct {
		name string
		run  func(*testing.T, *sim)
	}{
		{"ipmitool", powerLife},
		{"console", twoOnConsole},
		{"redfish", redfishLife},
		{"AC loss", func(t *testing.T, s *sim) { loseAC(t, s, "previous", "on") }},
		{"BMC reset", resetBMC},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := *b.sim
			s.tb = t
			if s.qemu() != 0 {
				s.ipmitool("chassis", "power", "off").must(t)
				s.power("off")
			}
			s.reset() // the console forgets what was, and host and disk stay
			c.run(t, &s)
		})
	}
	t.Run("what has no wire", func(t *testing.T) {
		for _, c := range []string{"boot pxe", "boot"} {
			if got := b.ssh(c); got.code == 0 {
				t.Errorf("%s: got %q, want it refused: a header has no wire for it", c, got.out)
			}
		}
	})
}

// The first start: the login is on the FAT partition and nowhere else, /perm
// grows to the card's end while the board serves, and the names are the
// owner's.
func TestCardFirstStart(t *testing.T) {
	image := card(t)
	before := partitions(t, image)[3]
	const size = 2 << 30
	if err := os.Truncate(image, size); err != nil {
		t.Fatal(err)
	}
	b := boot(t, image)
	var login struct{ User, Password string }
	text := client(t, "mtype", "-i", fat(t, image, 1), "::login.json").must(t)
	if err := json.Unmarshal([]byte(text), &login); err != nil || login.User != "admin" || login.Password != b.Password {
		t.Errorf("login.json: got %s, %v, want the login that the ready line has", text, err)
	}
	kernel := b.get("kmsg", "")
	for _, secret := range []string{b.Password, b.IPMIPassword} {
		if strings.Contains(b.log(), secret) || strings.Contains(kernel, secret) {
			t.Error("a password is in the board's log")
		}
	}
	if got := strings.TrimSpace(b.get("read", "/proc/sys/kernel/hostname")); got != "rack7" {
		t.Errorf("host name: got %q, want the settings' rack7", got)
	}
	eventually(t, "/perm to have grown", 60*time.Second, func() bool {
		var now int64
		if _, err := fmt.Sscan(b.get("size", "/perm"), &now); err != nil {
			t.Fatal(err)
		}
		return now > size-before.start-(200<<20)
	})
	if after := partitions(t, image)[3]; after.start != before.start || after.start+after.size > size || after.size < size-before.start-(4<<20) {
		t.Errorf("partition 4: got %+v, want %+v grown to the end of %d bytes", after, before, size)
	}
	b.ssh("settings set power.off_time 4s").must(t)
	password, keys := b.Password, b.ssh("users").must(t)

	// It is all there after a power cut, and grows no more.
	b.cut()
	if got := b.ssh("settings show power.off_time").must(t); !strings.Contains(got, "4s") {
		t.Errorf("off_time after a cut: got %q, want 4s", got)
	}
	if got := b.ssh("users").must(t); got != keys || b.Password != password {
		t.Errorf("users after a cut: got %q, want %q", got, keys)
	}
	b.stop()
	client(t, "fsck.fat", "-n", loop(t, image, 1)).must(t)
	perm := loop(t, image, 4)
	if got := client(t, "e2fsck", "-fp", perm); got.code > 1 { // 1: it replayed the journal of the cut, or made lost+found
		t.Errorf("e2fsck: got %d, %s", got.code, got.out)
	}
	client(t, "e2fsck", "-fn", perm).must(t)
}

// loop copies a partition into a file of its own.
func loop(t *testing.T, image string, number int) string {
	t.Helper()
	p := partitions(t, image)[number-1]
	path := filepath.Join(t.TempDir(), fmt.Sprintf("p%d", number))
	client(t, "dd", "if="+image, "of="+path, "bs=1M", "conv=sparse", "iflag=skip_bytes,count_bytes",
		fmt.Sprintf("skip=%d", p.start), fmt.Sprintf("count=%d", p.size)).must(t)
	return path
}

// What runs in core may fail, and nothing else notices; nor does core when disk
// fails.
func TestCardKillCoreAndDisk(t *testing.T) {
	b := boot(t, card(t), "-host", "pc")
	b.ipmitool("chassis", "power", "on").must(t)
	b.power("on")
	eventually(t, "the demo host", 60*time.Second, func() bool { return strings.Contains(b.ssh("console -p").out, "demo host is up") })
	host, disk, parent := b.qemu(), b.process("disk"), b.process("/bin/uinit")
	core := b.killed("core")
	b.answers()
	b.power("on")
	if now := b.process("core"); now.pid == core.pid {
		t.Error("the same core runs")
	}
	if now := b.process("disk"); now.pid != disk.pid || disk.pid == 0 {
		t.Errorf("disk: process %d, want %d as before", now.pid, disk.pid)
	}
	if now := b.process("/bin/uinit"); now.pid != parent.pid || parent.pid == 0 {
		t.Errorf("parent: process %d, want %d as before", now.pid, parent.pid)
	}
	if now := b.qemu(); now != host || host == 0 {
		t.Errorf("host: process %d, want %d as before", now, host)
	}
	if got := b.ssh("events").must(t); !strings.Contains(got, "process.exited: The process core") || strings.Count(got, "power.on") != 1 {
		t.Errorf("events: got %q, want core's end and one power.on", got)
	}

	core = b.process("core")
	b.killed("disk")
	eventually(t, "disk to run again", 20*time.Second, func() bool { p := b.process("disk"); return p.pid != 0 && p.pid != disk.pid })
	b.power("on")
	if now := b.process("core"); now.pid != core.pid {
		t.Errorf("core: process %d, want %d as before", now.pid, core.pid)
	}
	eventually(t, "events of it", 20*time.Second, func() bool {
		got := b.ssh("events").must(t)
		return strings.Contains(got, "process.exited: The process disk") && strings.Contains(got, "disk.down") && strings.Count(got, "disk.up") >= 2
	})

	// Time and again, and it still comes back.
	for range 3 {
		b.killed("core")
		b.answers()
	}
	if now := b.qemu(); now != host {
		t.Errorf("host: process %d, want %d as before", now, host)
	}
}

// The card is pulled out of a running board: it serves on from memory, says so,
// and does not lie about what it cannot keep.
func TestCardPulled(t *testing.T) {
	b := boot(t, card(t), "-host", "pc")
	b.ipmitool("chassis", "power", "on").must(t)
	b.power("on")
	names := strings.Fields(b.get("list", "/sys/bus/mmc/drivers/mmcblk"))
	var device string
	for _, n := range names {
		if strings.HasPrefix(n, "mmc") {
			device = n
		}
	}
	if _, err := b.ask(map[string]any{"op": "write", "path": "/sys/bus/mmc/drivers/mmcblk/unbind", "text": device}); err != nil {
		t.Fatal(err)
	}
	if got := b.ssh("settings set power.off_time 4s"); got.code == 0 {
		t.Errorf("a setting without a card: got %q, want an error", got.out)
	}
	b.ipmitool("chassis", "power", "status").must(t)
	b.ipmitool("chassis", "power", "off").must(t)
	b.power("off")
	b.ipmitool("chassis", "power", "on").must(t)
	b.power("on")
	if got := b.ssh("whoami").must(t); !strings.Contains(got, "admin") {
		t.Errorf("whoami: got %q", got)
	}
	eventually(t, "an event", 30*time.Second, func() bool {
		got := b.ssh("events").must(t)
		return strings.Contains(got, "volumes.failed") || strings.Contains(got, "perm.failed")
	})
}

// Bad cards: the board comes up on what it has, says so, and serves.
func TestBadCards(t *testing.T) {
	for _, tt := range []struct {
		name  string
		spoil func(t *testing.T, image string)
		event string
	}{
		{"no /perm", func(t *testing.T, image string) {
			scratch(t, image, 446+3*16, make([]byte, 16))
		}, "perm."},
		{"an unreadable /perm", func(t *testing.T, image string) {
			scratch(t, image, partitions(t, image)[3].start, bytes.Repeat([]byte{0xa5}, 1<<20))
		}, "perm."},
		{"settings that are none", func(t *testing.T, image string) {
			onCard(t, image, 1, "bmc.json", `{"version": 1, "hostname": `)
		}, "settings.bad"},
		{"a wire to nowhere", func(t *testing.T, image string) {
			onCard(t, image, 1, "bmc.json", `{"version": 1, "ipmi": {"enabled": true}, "wires": {"power_button": {"line": 99}}}`)
		}, "settings.bad"},
		{"no settings", func(t *testing.T, image string) {
			client(t, "mdel", "-i", fat(t, image, 1), "::bmc.json").must(t)
		}, "bmc.started"},
		{"slot A without its start", func(t *testing.T, image string) {
			scratch(t, image, partitions(t, image)[1].start, make([]byte, 1<<20))
		}, "slot."},
		{"slot A with a damaged kernel", func(t *testing.T, image string) {
			damage(t, image, "kernel8.img")
		}, "slot."},
		{"slot A with a damaged initramfs", func(t *testing.T, image string) {
			damage(t, image, "initramfs.img")
		}, "slot."},
		{"autoboot.txt that says nothing", func(t *testing.T, image string) {
			onCard(t, image, 1, "autoboot.txt", "")
		}, "slot."},
	} {
		t.Run(tt.name, func(t *testing.T) {
			image := card(t)
			tt.spoil(t, image)
			// Without the hand of the tests, which would outlive a broken uinit and
			// keep init waiting.
			b := plain(t, image)
			b.run()
			t.Cleanup(b.stop)
			eventually(t, "an event "+tt.event, 20*time.Second, func() bool { return strings.Contains(b.ssh("events").must(t), tt.event) })
			fellBack := strings.Contains(b.ssh("events").must(t), "System B runs although")
			if want := strings.HasPrefix(tt.name, "slot A"); fellBack != want {
				t.Errorf("system B runs: %v, want %v", fellBack, want)
			}
		})
	}
}

// damage turns bytes in the middle of a file of slot A over.
func damage(t *testing.T, image, name string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	client(t, "mcopy", "-i", fat(t, image, 2), "::"+name, path).must(t)
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	// LZ4 has no checksum: little damage could pass for other contents.
	for i := len(data) / 2; i < len(data)/2+64<<10; i++ {
		data[i] ^= 0xff
	}
	onCard(t, image, 2, name, string(data))
}

// A full /perm: what is there is kept, what cannot be written is an error, and
// the next start comes up.
func TestCardFull(t *testing.T) {
	b := boot(t, card(t))
	b.ssh("settings set power.off_time 4s").must(t)
	b.get("fill", "/perm/filler")
	b.killed("core")
	b.answers()
	if got := b.ssh("settings show power.off_time").must(t); !strings.Contains(got, "4s") {
		t.Errorf("off_time: got %q, want 4s", got)
	}
	eventually(t, "an event", 30*time.Second, func() bool { return strings.Contains(b.ssh("events").must(t), "perm.") })
	b.cut()
	if got := b.ssh("settings show power.off_time").must(t); !strings.Contains(got, "4s") {
		t.Errorf("off_time after a cut: got %q, want 4s", got)
	}
}

// Without a cable the board comes up, and serves once there is one.
func TestCardWithoutNetwork(t *testing.T) {
	b := boot(t, card(t))
	b.do("cut")
	b.forget()
	b.do("net-off")
	b.do("restore")
	eventually(t, "core without a network", 60*time.Second, func() bool { return strings.Contains(b.get("kmsg", ""), "nitrino: core is ready") })
	if code, text, err := b.redfish("GET", "/redfish/v1/", ""); err == nil {
		t.Fatalf("without a network: got %d, %s", code, text)
	}
	b.do("net-on")
	b.answers()
	if got := b.ssh("events").must(t); !strings.Contains(got, "network.") {
		t.Errorf("events: got %q, want the network's", got)
	}
}

// A line that somebody else holds is left out, and the rest works.
func TestCardBusyLine(t *testing.T) {
	image := card(t)
	onCard(t, image, 1, "bmc.json", `{"version": 1, "ipmi": {"enabled": true}, "wires": {"nmi_button": null}}`)
	b := boot(t, image, "-host", "pc")
	if _, err := b.ask(map[string]any{"op": "hold", "text": "pl061", "line": 2}); err != nil {
		t.Fatal(err)
	}
	b.ssh("settings set wires.nmi_button.line 2").must(t)
	b.ipmitool("mc", "reset", "cold").must(t)
	eventually(t, "an event", 30*time.Second, func() bool {
		got := b.ssh("events")
		return got.code == 0 && strings.Contains(got.out, "wire.failed") && strings.Contains(got.out, "nmi_button")
	})
	b.ipmitool("chassis", "power", "on").must(t)
	b.power("on")
	if got := b.ipmitool("chassis", "power", "diag"); got.code == 0 {
		t.Errorf("diag without its line: got %q, want it refused", got.out)
	}
}

// The same card in another board: it finds its board, the GPIO chip, the card.
func TestRaspi3b(t *testing.T) {
	b := plain(t, card(t), "-machine", "raspi3b", "-append", "ignore_loglevel")
	b.spawn()
	t.Cleanup(b.stop)
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(tail(b.log()))
		}
	})
	for _, want := range []string{"nitrino: board found board=rpi", "nitrino: GPIO chip found label=pinctrl-bcm2835", "nitrino: card found"} {
		eventually(t, want+" in the log", 3*time.Minute, func() bool { return strings.Contains(b.log(), want) })
	}
}

// Two builds of the same sources are the same card.
func TestReproducible(t *testing.T) {
	image := card(t)
	again := filepath.Join(t.TempDir(), "again.img")
	cache := t.TempDir()
	// Nothing of the first build but the kernel, which takes minutes.
	if err := os.Symlink(filepath.Join(cacheDir(t), "kernel"), filepath.Join(cache, "kernel")); err != nil {
		t.Fatal(err)
	}
	bmc := filepath.Join(cache, "bmc.json")
	if err := writeSettings(bmc); err != nil {
		t.Fatal(err)
	}
	if got := clientFor(t, 10*time.Minute, []string{"NITRINO_CACHE=" + cache}, "", made.mkcard, "-o", again, "-bmc", bmc); got.code != 0 {
		t.Fatal(got.out)
	}
	client(t, "cmp", image, again).must(t)
}

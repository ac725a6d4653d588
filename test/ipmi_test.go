//go:build e2e

package test

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestIPMIToolPower(t *testing.T) { powerLife(t, start(t)) }

// powerLife is the whole life of a real QEMU host through ipmitool, and what
// chassis status says at each step beside whether QEMU really runs.
func powerLife(t *testing.T, s *sim) {
	t.Helper()
	says := func() string {
		t.Helper()
		said := strings.TrimSpace(s.ipmitool("chassis", "power", "status").must(t))
		return strings.TrimPrefix(said, "Chassis Power is ")
	}
	// At rest what is said is whether QEMU runs.
	truth := func(step, want string) {
		t.Helper()
		if said, runs := says(), s.qemu() != 0; said != want || runs != (want == "on") {
			t.Errorf("%s: ipmitool says %q, QEMU runs: %v, want %s", step, said, runs, want)
		}
	}
	// On the way it is said to be as before until the power light tells
	// otherwise, which a QEMU that is only starting does not light yet; then the
	// new state, which QEMU bears out, and never the old one again.
	becomes := func(step, want string) {
		t.Helper()
		seen := 0
		eventually(t, step, 30*time.Second, func() bool {
			switch said := says(); {
			case said != "on" && said != "off":
				t.Fatalf("%s: ipmitool says %q", step, said)
			case said == want:
				seen++
				if want == "on" && s.qemu() == 0 {
					t.Errorf("%s: ipmitool says on, and no QEMU runs", step)
				}
			case seen > 0:
				t.Errorf("%s: ipmitool says %s after it said %s", step, said, want)
			}
			return seen == 10
		})
		truth(step+", at rest", want)
	}
	console := func(want string) {
		t.Helper()
		eventually(t, fmt.Sprintf("%q on the serial console", want), 60*time.Second, func() bool {
			return strings.Contains(s.ssh("console -p").out, want)
		})
	}
	truth("at start", "off")
	s.ipmitool("chassis", "power", "on").must(t)
	becomes("powering on", "on")
	first := s.qemu()
	console("SeaBIOS")
	console("nitrino demo host is up")

	s.ipmitool("chassis", "power", "reset").must(t)
	eventually(t, "a second boot", 60*time.Second, func() bool {
		return strings.Count(s.ssh("console -p").out, "demo host is up") == 2
	})
	if s.qemu() != first {
		t.Error("a reset started another QEMU")
	}
	if got := s.ipmitool("chassis", "restart_cause").must(t); !strings.Contains(got, "chassis power control command") {
		t.Errorf("restart cause: got %q", got)
	}

	eventually(t, "a diagnostic interrupt to be taken", 10*time.Second, func() bool {
		return s.ipmitool("chassis", "power", "diag").code == 0 // busy while the reset lasts
	})
	console("NMI")

	s.ipmitool("chassis", "power", "cycle").must(t)
	busy := s.ipmitool("chassis", "power", "reset")
	if busy.code == 0 || !strings.Contains(busy.out, "Node busy") {
		t.Errorf("a reset during a cycle: got %d, %q, want it refused as busy", busy.code, busy.out)
	}
	s.power("off")
	s.power("on")
	if s.qemu() == first {
		t.Error("a cycle left the same QEMU running")
	}
	eventually(t, "a third boot", 60*time.Second, func() bool {
		return strings.Count(s.ssh("console -p").out, "demo host is up") == 3
	})

	s.ipmitool("chassis", "power", "soft").must(t)
	s.power("off")
	console("shutting down")
	eventually(t, "QEMU to be gone", 5*time.Second, func() bool { return s.qemu() == 0 })
	s.ipmitool("chassis", "power", "soft").must(t) // it is off, as asked

	for _, a := range []string{"reset", "cycle", "diag"} {
		got := s.ipmitool("chassis", "power", a)
		if got.code == 0 || !strings.Contains(got.out, "not supported in present state") {
			t.Errorf("power %s of a host that is off: got %d, %q", a, got.code, got.out)
		}
	}

	s.ipmitool("chassis", "power", "on").must(t)
	s.power("on")
	s.ipmitool("chassis", "power", "off").must(t)
	becomes("powering off", "off")
}

func TestIPMITool(t *testing.T) {
	s := start(t, "-host", "fake")
	tests := []struct {
		args string
		want []string
	}{
		{"chassis status", []string{"System Power         : off", "Power Restore Policy : previous", "Main Power Fault     : false"}},
		{"chassis policy list", []string{"always-off always-on previous"}},
		{"chassis policy always-on", []string{"Set chassis power restore policy to always-on"}},
		{"chassis status", []string{"Power Restore Policy : always-on"}},
		{"chassis policy previous", []string{"previous"}},
		{"chassis identify 10", []string{"Chassis identify interval: 10 seconds"}},
		{"raw 0x00 0x01", []string{" 20 00 50"}}, // identify supported, on for a time
		{"chassis identify 0", []string{"off"}},
		{"chassis bootdev pxe", []string{"Set Boot Device to pxe"}},
		{"chassis bootparam get 5", []string{"Boot Flag Valid", "Force PXE"}},
		{"chassis bootdev disk options=persistent", []string{"Set Boot Device to disk"}},
		{"chassis bootparam get 5", []string{"Options apply to all future boots", "Force Boot from default Hard-Drive"}},
		{"chassis bootdev none", []string{"Set Boot Device to none"}},
		{"raw 0x00 0x08 0x03 0x08", []string{""}}, // Ironic: do not clear the valid bit
		{"raw 0x00 0x08 0x05 0xe0 0x08 0x00 0x00 0x00", []string{""}},
		{"raw 0x00 0x09 0x05 0x00 0x00", []string{"01 05 "}},
		{"chassis restart_cause", []string{"System restart cause"}},
		{"mc info", []string{"IPMI Version              : 2.0", "Chassis Device"}},
		{"mc guid", []string{"System GUID"}},
		{"mc selftest", []string{"Selftest: passed"}},
		{"channel info 1", []string{"802.3 LAN", "IPMB-1.0"}},
		{"channel getciphers ipmi 1", []string{"17", "sha256"}},
		{"session info active", []string{"user id", "privilege level", "ADMINISTRATOR"}},
	}
	for _, tt := range tests {
		t.Run(tt.args, func(t *testing.T) {
			got := s.ipmitool(strings.Fields(tt.args)...).must(t)
			for _, want := range tt.want {
				if !strings.Contains(strings.ToLower(got), strings.ToLower(want)) {
					t.Errorf("got %q, want %q in it", got, want)
				}
			}
		})
	}
}

// Each suite but 17 is refused, and 3 is there once the owner wants it.
func TestCipherSuites(t *testing.T) {
	s := start(t, "-host", "fake")
	for _, suite := range []string{"0", "1", "2", "3", "6", "7", "8", "11", "12", "15", "16"} {
		if got := s.ipmitoolAs(s.User, s.IPMIPassword, suite, "chassis", "power", "status"); got.code == 0 {
			t.Errorf("suite %s: got %q, want it refused", suite, got.out)
		}
	}
	s.ipmitool("chassis", "power", "status").must(t)
	s.ssh("settings set ipmi.cipher_suite_3 true").must(t)
	eventually(t, "suite 3", 10*time.Second, func() bool {
		return s.ipmitoolAs(s.User, s.IPMIPassword, "3", "chassis", "power", "status").code == 0
	})
	s.ipmitool("chassis", "power", "status").must(t)
	s.ssh("settings set ipmi.enabled false").must(t)
	eventually(t, "IPMI to be off", 10*time.Second, func() bool {
		c, err := net.Dial("udp", s.IPMI)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		// A closed port answers with ICMP, which the socket tells as an error.
		c.SetDeadline(time.Now().Add(time.Second))
		if _, err := c.Write([]byte{6, 0, 0xff, 6, 0, 0, 0x11, 0xbe, 0x80, 0, 0, 0}); err != nil {
			return true
		}
		_, err = c.Read(make([]byte, 64))
		return err != nil && !os.IsTimeout(err)
	})
}

func TestWrongLogins(t *testing.T) {
	s := start(t, "-host", "fake", "-password", "right-one-1")
	for _, tt := range []struct{ user, password string }{{"admin", "wrong-one-1"}, {"nobody", "right-one-1"}} {
		got := s.ipmitoolAs(tt.user, tt.password, "17", "chassis", "power", "status")
		if got.code == 0 || !strings.Contains(got.out, "Unable to establish IPMI v2 / RMCP+ session") {
			t.Errorf("%s/%s: got %d, %q", tt.user, tt.password, got.code, got.out)
		}
	}
	s.ipmitool("chassis", "power", "status").must(t)
}

func TestFreeIPMI(t *testing.T) {
	s := start(t, "-host", "fake")
	run := func(name string, args ...string) string {
		t.Helper()
		full := append([]string{"-D", "LAN_2_0", "-I", "17", "-h", s.IPMI, "-u", s.User, "-p", s.IPMIPassword}, args...)
		return client(t, name, full...).must(t)
	}
	home := t.TempDir()
	t.Setenv("HOME", home)
	if err := os.MkdirAll(filepath.Join(home, ".freeipmi"), 0o700); err != nil {
		t.Fatal(err)
	}
	contains := func(got string, want ...string) {
		t.Helper()
		for _, w := range want {
			if !strings.Contains(got, w) {
				t.Errorf("got %q, want %q in it", got, w)
			}
		}
	}
	contains(run("bmc-info"), "IPMI Version          : 2.0", "GUID")
	contains(run("ipmi-chassis", "--get-chassis-status"), "System Power                        : off")
	contains(run("ipmi-chassis", "--get-chassis-capabilities"), "Diagnostic Interrupt")
	contains(run("ipmi-chassis", "--chassis-identify=FORCE"), "")
	contains(run("ipmi-chassis", "--get-chassis-status"), "Chassis Identify state              : Indefinite on")
	contains(run("ipmi-chassis", "--get-system-restart-cause"), "Restart cause")
	contains(run("ipmi-chassis", "--chassis-control=POWER-UP"), "")
	s.power("on")

	at, port, err := net.SplitHostPort(s.IPMI)
	if err != nil {
		t.Fatal(err)
	}
	power := func(args ...string) string {
		t.Helper()
		full := append([]string{"-D", "LAN_2_0", "-I", "17", "-h", at + ":" + port, "-u", s.User, "-p", s.IPMIPassword}, args...)
		return client(t, "ipmipower", full...).must(t)
	}
	contains(power("--stat"), "on")
	contains(power("--off"), "ok")
	s.power("off")
	contains(power("--on", "--wait-until-on"), "ok")
	contains(power("--stat", "-W", "opensesspriv"), "on")
	contains(power("--reset"), "ok")
	eventually(t, "soft to be taken", 10*time.Second, func() bool {
		return strings.Contains(power("--soft"), "ok") // busy while the reset lasts
	})
	s.power("off")
}

func TestResetBMC(t *testing.T) { resetBMC(t, start(t)) }

// resetBMC: a reset of the BMC ends the software and starts it again; the host
// is not touched, and events and users stay.
func resetBMC(t *testing.T, s *sim) {
	t.Helper()
	s.ipmitool("chassis", "power", "on").must(t)
	s.power("on")
	pid := s.qemu()
	s.reset()
	s.power("on")
	if got := s.qemu(); got != pid || pid == 0 {
		t.Errorf("QEMU: got %d, want %d as before", got, pid)
	}
}

// reset resets the BMC and waits until it is up again.
func (s *sim) reset() {
	s.tb.Helper()
	starts := strings.Count(s.ssh("events -n 0").must(s.tb), "bmc.started")
	s.ipmitool("mc", "reset", "cold").must(s.tb)
	eventually(s.tb, "another start", 30*time.Second, func() bool {
		return strings.Count(s.ssh("events -n 0").out, "bmc.started") == starts+1
	})
}

// The boot override reaches the host: its firmware runs iPXE from the network
// card once, and the disk again after that.
func TestBootOverride(t *testing.T) {
	s := start(t)
	s.ipmitool("chassis", "bootdev", "pxe").must(t)
	s.ipmitool("chassis", "power", "on").must(t)
	eventually(t, "iPXE", 60*time.Second, func() bool {
		return strings.Contains(s.ssh("console -p").out, "Booting from ROM")
	})
	if got := s.ipmitool("chassis", "bootparam", "get", "5").must(t); !strings.Contains(got, "Boot Flag Invalid") {
		t.Errorf("after the boot: got %q, want the flags cleared", got)
	}
	s.ipmitool("chassis", "power", "reset").must(t)
	eventually(t, "the disk", 60*time.Second, func() bool {
		return strings.Contains(s.ssh("console -p").out, "demo host is up")
	})
}

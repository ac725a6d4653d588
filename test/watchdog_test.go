//go:build e2e

package test

import (
	"strings"
	"testing"
	"time"
)

// TestWatchdog: a host that stops to feed the timer gets an NMI, and a second
// later is reset.
func TestWatchdog(t *testing.T) {
	s := start(t)
	boots := func() int { return strings.Count(s.ssh("console -p").out, "demo host is up") }
	s.ipmitool("chassis", "power", "on").must(t)
	eventually(t, "the host's start", 30*time.Second, func() bool { return boots() == 1 })
	pid := s.qemu()
	if got := s.ipmitool("mc", "watchdog", "reset"); got.code == 0 {
		t.Errorf("a timer that was never set starts: %q", got.out)
	}
	// SMS/OS; NMI before, and hard reset; a second before; its mark is taken
	// away; 3 s.
	set := fields("raw 0x06 0x24 0x04 0x21 0x01 0x10 0x1e 0x00")
	s.ipmitool(set...).must(t)
	var fed time.Time
	for range 6 {
		fed = time.Now()
		s.ipmitool("mc", "watchdog", "reset").must(t)
		time.Sleep(time.Second)
	}
	if got := s.ipmitool("mc", "watchdog", "get").must(t); !strings.Contains(got, "Started/Running") || boots() != 1 {
		t.Errorf("a timer that is fed: %d starts of the host, %s", boots(), got)
	}
	eventually(t, "the reset", 20*time.Second, func() bool { return boots() == 2 })
	if after := time.Since(fed); after < 3*time.Second {
		t.Errorf("the host was reset and is up %v after the timer was fed, want more than 3 s", after)
	}
	if s.qemu() != pid {
		t.Error("a reset started another QEMU")
	}
	if got := s.ssh("console -p").must(t); !strings.Contains(got, "\r\nNMI\r\n") {
		t.Errorf("the console shows no NMI: %q", got)
	}
	// That it was a restart shows in that the power stays on.
	eventually(t, "the restart's cause", 10*time.Second, func() bool {
		return strings.Contains(s.ipmitool("chassis", "restart_cause").must(t), "watchdog expired")
	})
	play(t, s.ipmitool, []step{
		{args: "sel elist", want: []string{"/Watchdog2 Watchdog \\| Timer interrupt", "/Watchdog2 Watchdog \\| Hard reset \\| Asserted"}},
		{args: "mc watchdog get", want: []string{"/Timer Is: +Stopped", "/Expiration Flags: \\(0x10\\)", "/Present Countdown: +0"}},
	})
	s.ipmitool(set...).must(t)
	if got := s.ipmitool("mc", "watchdog", "get").must(t); !strings.Contains(got, "(0x00)") {
		t.Errorf("the mark is not taken away: %s", got)
	}
}

// TestWatchdogActions: the other actions of the timer.
func TestWatchdogActions(t *testing.T) {
	s := start(t, "-host", "fake")
	s.ssh("settings set power.off_time 3s").must(t)
	s.ipmitool("chassis", "power", "on").must(t)
	s.power("on")
	expire := func(action, entry string) {
		t.Helper()
		s.ipmitool("mc", "watchdog", "set", "use=osload", "action="+action, "timeout=1").must(t)
		s.ipmitool("mc", "watchdog", "reset").must(t)
		eventually(t, entry, 10*time.Second, func() bool {
			return strings.Contains(s.ipmitool("sel", "elist").out, "Watchdog2 Watchdog | "+entry)
		})
	}
	expire("none", "Timer expired")
	s.power("on")
	expire("cycle", "Power cycle")
	s.power("off")
	s.power("on")
	// The light is on a little before the start is judged.
	eventually(t, "the watchdog as the cause of the restart", 10*time.Second, func() bool {
		return strings.Contains(s.ipmitool("chassis", "restart_cause").must(t), "watchdog")
	})
	expire("poweroff", "Power down")
	s.power("off")
	time.Sleep(4 * time.Second) // longer than a cycle leaves it off
	s.power("off")
}

// TestWatchdogFilter: an event filter switches the host off when it gets too
// hot, once.
func TestWatchdogFilter(t *testing.T) {
	s := start(t, "-host", "fake")
	s.ipmitool("chassis", "power", "on").must(t)
	s.power("on")
	// Filter 13: on; power off; no policy; critical; any generator; temperature;
	// any sensor; thresholds; upper critical going high.
	s.ipmitool(fields("raw 0x04 0x12 0x06 0x0d 0x80 0x02 0x00 0x10 0xff 0xff 0x01 0xff 0x01 0x00 0x02 0 0 0 0 0 0 0 0 0")...).must(t)
	if got := s.ipmitool("pef", "filter", "list").must(t); !strings.Contains(got, "13 | enabled") || !strings.Contains(got, "Power-off") {
		t.Errorf("the list of filters: %s", got)
	}
	s.heat()
	s.power("off")
	s.told("Event filter 13 matched SEL record")
	s.ipmitool("chassis", "power", "on").must(t) // it is still hot, which is no event
	s.power("on")
	s.cool()
	s.power("on")
	s.heat()
	s.power("off")
}

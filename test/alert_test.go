//go:build e2e

package test

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A receiver is net-snmp's snmptrapd.
type receiver struct {
	t     *testing.T
	mu    sync.Mutex
	traps []trap
}

// A trap is one that was received.
type trap struct{ community, number, fields string }

// alone puts the test into a network of its own, where the port of traps is free:
// Debian's package snmptrapd has one of its own listen. Programs that the test
// starts are there too; its thread ends with it.
func alone(t *testing.T) {
	t.Helper()
	runtime.LockOSThread()
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Fatal(err)
	}
	client(t, "ip", "link", "set", "lo", "up").must(t)
}

// receive starts snmptrapd on loopback at the port of traps.
func receive(t *testing.T) *receiver {
	t.Helper()
	alone(t)
	dir := t.TempDir()
	conf := filepath.Join(dir, "snmptrapd.conf")
	// Numbers instead of names, and hexadecimal instead of characters.
	text := "authCommunity log public\nauthCommunity log cellar\nformat1 TRAP community %P number %q fields %v END\\n\n"
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("snmptrapd", "-f", "-Lo", "-On", "-Ox", "-n", "-C", "-c", conf, "-m", "", "-M", dir,
		"--persistentDir="+dir, "-x", filepath.Join(dir, "agentx"), "-p", filepath.Join(dir, "pid"), "udp:127.0.0.1:162")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = cmd.Stdout
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	r := &receiver{t: t}
	ready, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		r.read(bufio.NewScanner(out), ready)
	}()
	t.Cleanup(func() {
		if err := cmd.Process.Kill(); err != nil {
			t.Error(err)
		}
		<-done
		_ = cmd.Wait() // it says that it was killed
	})
	select {
	case <-ready:
	case <-done:
		t.Fatal("snmptrapd ended")
	case <-time.After(20 * time.Second):
		t.Fatal("snmptrapd does not start")
	}
	return r
}

// read collects the traps: each is told in several lines.
func (r *receiver) read(lines *bufio.Scanner, ready chan struct{}) {
	pattern := regexp.MustCompile(`^TRAP community .*community (\S+) number \S*?([0-9]+) fields .*Hex-STRING: ([0-9A-F ]+?) *END`)
	said := ""
	for lines.Scan() {
		line := strings.TrimSpace(lines.Text())
		if strings.Contains(line, "NET-SNMP version") {
			close(ready)
			continue
		}
		if strings.HasPrefix(line, "TRAP ") {
			said = ""
		}
		said += line + " "
		if m := pattern.FindStringSubmatch(said); m != nil {
			r.mu.Lock()
			r.traps = append(r.traps, trap{m[1], m[2], m[3]})
			r.mu.Unlock()
			said = ""
		}
	}
}

func (r *receiver) got() []trap {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.traps[:len(r.traps):len(r.traps)]
}

// wait waits until there are n traps and returns the last.
func (r *receiver) wait(n int) trap {
	r.t.Helper()
	eventually(r.t, fmt.Sprintf("trap %d", n), 20*time.Second, func() bool { return len(r.got()) >= n })
	return r.got()[n-1]
}

// alerts makes a board alert this machine of what is critical: the destination,
// the policy and the filter that it begins with.
func (s *sim) alerts() {
	s.tb.Helper()
	for _, args := range []string{
		"lan alert set 1 1 ipaddr 127.0.0.1", "lan alert set 1 1 retry 0", "lan alert set 1 1 time 1",
		"lan set 1 snmp cellar", "pef policy enable 1", "pef filter enable 1",
	} {
		s.ipmitool(fields(args)...).must(s.tb)
	}
}

// interpret is what FreeIPMI makes of a trap, with the names of the board's
// sensors.
func (s *sim) interpret(t trap, args ...string) string {
	s.tb.Helper()
	args = append(args, t.number)
	for b := range strings.FieldsSeq(t.fields) {
		args = append(args, "0x"+b)
	}
	run := append([]string{"-D", "LAN_2_0", "-I", "17", "-h", s.IPMI, "-u", s.User, "-p", s.IPMIPassword,
		"--sdr-cache-directory=" + s.tb.TempDir(), "--quiet-cache", "--sdr-cache-recreate"}, args...)
	return client(s.tb, "ipmi-pet", run...).must(s.tb)
}

// TestAlert: a sensor that goes over its limit makes a trap that says which,
// while the channel may alert.
func TestAlert(t *testing.T) {
	r := receive(t)
	s := start(t, "-host", "fake")
	s.alerts()
	s.heat()
	first := r.wait(1)
	if first.community != "cellar" {
		t.Errorf("community %q, want cellar", first.community)
	}
	got := s.interpret(first, "--output-event-severity")
	for _, want := range []string{"Inlet temp", "Temperature", "Critical condition", "Upper Critical - going high", "Sensor Reading = 42.00 C"} {
		if !strings.Contains(got, want) {
			t.Errorf("ipmi-pet says %q, want %q in it", got, want)
		}
	}
	t.Logf("ipmi-pet: %s", got)

	s.ssh("settings set ipmi.alerts false").must(t)
	s.cool()
	s.heat()
	s.told("did not reach destination 1: alerting is switched off on the channel")
	if n := len(r.got()); n != 1 {
		t.Errorf("%d traps while alerts are off, want 1 as before", n)
	}

	s.ssh("settings set ipmi.alerts true").must(t)
	s.cool()
	s.heat()
	second := r.wait(2)
	if second.fields == first.fields {
		t.Error("the second trap is the first one")
	}
}

// TestAlertAcknowledged: an alert is sent again until it is acknowledged.
func TestAlertAcknowledged(t *testing.T) {
	r := receive(t)
	s := start(t, "-host", "fake")
	s.alerts()
	for _, args := range []string{"ack on", "time 2", "retry 2"} {
		s.ipmitool(append([]string{"lan", "alert", "set", "1", "1"}, strings.Fields(args)...)...).must(t)
	}
	s.heat()
	if one, two := r.wait(1), r.wait(2); one != two {
		t.Errorf("a trap that was not acknowledged is followed by another: %v, then %v", one, two)
	}
	r.wait(3)
	s.told("did not reach destination 1: nobody acknowledged it")

	s.ipmitool("lan", "alert", "set", "1", "1", "retry", "7").must(t)
	s.cool()
	s.heat()
	last := r.wait(4)
	s.interpret(last, "--pet-acknowledge")
	s.told("Alert 2 of event filter 1 was sent to destination 1")
	n := len(r.got())
	time.Sleep(3 * time.Second) // longer than the time between two tries
	if now := len(r.got()); now != n {
		t.Errorf("%d traps after the acknowledgement, want %d", now, n)
	}
}

// heat makes it too hot in the rack, and waits until that is logged.
func (s *sim) heat() {
	s.tb.Helper()
	s.inlet("42")
}

// cool ends that.
func (s *sim) cool() {
	s.tb.Helper()
	s.inlet("20")
}

// inlet gives the sensor a value, and waits until it was read.
func (s *sim) inlet(degrees string) {
	s.tb.Helper()
	s.do("sensor inlet " + degrees)
	eventually(s.tb, degrees+" degrees", 10*time.Second, func() bool {
		return strings.Contains(s.ipmitool("sensor", "reading", "Inlet temp").out, "| "+degrees)
	})
}

// told waits until the events say something.
func (s *sim) told(want string) {
	s.tb.Helper()
	eventually(s.tb, fmt.Sprintf("the event %q", want), 30*time.Second, func() bool {
		return strings.Contains(s.ssh("events -n 0").out, want)
	})
}

//go:build e2e

package pef

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nitrino/nitrino/host"
	"github.com/nitrino/nitrino/ipmi/lan"
)

// freePort is a UDP port that nobody has.
func freePort(t *testing.T) uint16 {
	t.Helper()
	c, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	}()
	return c.LocalAddr().(*net.UDPAddr).AddrPort().Port()
}

// TestSnmptrapd: an event's alert reaches net-snmp's snmptrapd.
func TestSnmptrapd(t *testing.T) {
	b := newBench(t)
	b.opt.Port = freePort(t)
	b.dest[1] = lan.Destination{Address: netip.MustParseAddr("127.0.0.1"), Interval: time.Second, Retries: 2}
	b.make(t, b.opt)
	b.send = sendUDP

	dir := t.TempDir()
	conf := filepath.Join(dir, "snmptrapd.conf")
	// Numbers instead of names, and hexadecimal instead of characters.
	text := "authCommunity log public\nformat1 trap %a community %P enterprise %N generic %w specific %q bound %v\n"
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "snmptrapd", "-f", "-Lo", "-On", "-Ox", "-n", "-C", "-c", conf, "-m", "", "-M", dir,
		"--persistentDir="+dir, "-x", filepath.Join(dir, "agentx"), "-p", filepath.Join(dir, "pid"), fmt.Sprintf("udp:127.0.0.1:%d", b.opt.Port))
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := make(chan string, 100)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for s := bufio.NewScanner(out); s.Scan(); {
			lines <- s.Text()
		}
	}()
	defer func() {
		if err := cmd.Process.Kill(); err != nil {
			t.Error(err)
		}
		<-done
		_ = cmd.Wait() // it says that it was killed
	}()
	said := "" // a trap is told in several lines
	want := func(words ...string) {
		t.Helper()
		for timeout := time.After(20 * time.Second); slices.ContainsFunc(words, func(w string) bool { return !strings.Contains(said, w) }); {
			select {
			case l := <-lines:
				said += strings.TrimSpace(l) + " "
			case <-timeout:
				t.Fatalf("snmptrapd said %q, want %q", said, words)
			}
		}
	}
	want("NET-SNMP version")

	ctx, cancel := context.WithCancel(t.Context())
	ran := make(chan error, 1)
	go func() { ran <- b.Run(ctx) }()
	defer func() { cancel(); <-ran }()
	b.set(t, 6, any(1, actionAlert, 1)...)
	b.set(t, 9, 1, 0x18, 0x11, 1)
	b.set(t, 13, append([]byte{1, 1}, "it is hot"...)...)
	time.Sleep(100 * time.Millisecond)
	b.sel.add(sensorTemperature, 5, 1, 0x59, 0x70, 0x6E)
	want("trap 127.0.0.1", "community TRAP, SNMP v1, community public", "enterprise .1.3.6.1.4.1.3183.1.1 ", "generic 6 ", "specific .65801 ", ".1.3.6.1.4.1.3183.1.1.1",
		"01 02 03 00 00 00 00 00 00 00 00 00 00 00 00 00", "C9 69 74 20 69 73 20 68 6F 74 C1")
	for deadline := time.Now().Add(10 * time.Second); ; {
		last := b.events.last()
		if last.Kind == "pef.alert" && last.Severity != host.Warning {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("the last event is %+v", last)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

//go:build e2e

package bmc

import (
	"context"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nitrino/nitrino/board/sim"
	"github.com/nitrino/nitrino/host"
)

// insideEnv is set in the process that runs in namespaces of its own.
const insideEnv = "NITRINO_TRIAL_TEST_INSIDE"

// TestTrialOnTheWire changes a board's address to one that nobody reaches, and
// finds the board at its old one again; then to one that somebody logs in over.
// The board is this process in a network of its own, with a cable to another
// network, "lan".
func TestTrialOnTheWire(t *testing.T) {
	if os.Getenv(insideEnv) == "" {
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestTrialOnTheWire$", "-test.count=1", "-test.timeout=3m", "-test.v")
		cmd.Env = append(os.Environ(), insideEnv+"=1")
		cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
		out, err := cmd.CombinedOutput()
		t.Logf("inside:\n%s", out)
		if err != nil {
			t.Errorf("inside: %v", err)
		}
		return
	}
	// Private, or the names of the namespaces would show outside.
	if err := syscall.Mount("none", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll("/run/netns", 0o755); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount("tmpfs", "/run/netns", "tmpfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{
		{"netns", "add", "lan"},
		{"link", "add", "eth0", "type", "veth", "peer", "name", "port", "netns", "lan"},
		{"-n", "lan", "link", "set", "port", "up"},
		{"-n", "lan", "addr", "add", "10.77.0.1/24", "dev", "port"},
	} {
		if out, err := exec.CommandContext(t.Context(), "ip", args...).CombinedOutput(); err != nil {
			t.Fatalf("ip %v: %v: %s", args, err, out)
		}
	}

	dir := t.TempDir()
	card := filepath.Join(dir, "card.json")
	if err := os.WriteFile(card, []byte(`{"version":1,"network":{"trial":"10s","ipv4":{"method":"static","address":"10.77.0.5/24"},"ipv6":{"method":"off"}}}`), 0o600); err != nil {
		t.Fatal(err)
	}
	b, err := Open(Options{Dir: filepath.Join(dir, "perm"), Card: card, Version: "1.2.3", Log: slog.New(slog.NewTextHandler(t.Output(), nil))})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	if _, err := b.Login(filepath.Join(dir, "login.json"), "secret of admin"); err != nil {
		t.Fatal(err)
	}
	machine, err := sim.NewFake(sim.DefaultFake(), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer machine.Close(context.Background())
	parts, err := machine.Parts(sim.Wires())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ready, done := make(chan Addresses, 1), make(chan error, 1)
	go func() {
		done <- b.Run(ctx, Run{Parts: parts, Network: &Network{Interface: func() (string, error) { return "eth0", nil }}, Ready: func(a Addresses) { ready <- a }})
	}()
	defer func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	}()
	_, port, err := net.SplitHostPort((<-ready).HTTPS)
	if err != nil {
		t.Fatal(err)
	}
	reached := func(address string) bool {
		return exec.CommandContext(t.Context(), "ip", "netns", "exec", "lan", "curl", "-sk", "-o", "/dev/null", "--max-time", "1",
			"https://"+net.JoinHostPort(address, port)+"/redfish/v1/").Run() == nil
	}
	event := func(kind string) func() bool {
		return func() bool {
			return slices.ContainsFunc(b.Events.Since(0, 0), func(e host.Event) bool { return e.Kind == kind })
		}
	}
	eventually(t, "the board to answer", func() bool { return reached("10.77.0.5") })

	if err := b.changer().Set("network.ipv4.address", "10.66.0.5/24", host.Origin{Via: "test"}); err != nil {
		t.Fatal(err)
	}
	changed := time.Now()
	eventually(t, "the old address to be gone", func() bool { return !reached("10.77.0.5") })
	if reached("10.66.0.5") {
		t.Error("the wrong address can be reached")
	}
	eventually(t, "the roll-back", event(kindRolledBack))
	eventually(t, "the board to answer again", func() bool { return reached("10.77.0.5") })
	if d := time.Since(changed); d < 10*time.Second || d > 15*time.Second {
		t.Errorf("got the old address back after %v, want 10s and a moment", d)
	}

	login := func(address string) {
		t.Helper()
		if out, err := exec.CommandContext(t.Context(), "ip", "netns", "exec", "lan", "curl", "-skf", "-o", "/dev/null", "--max-time", "10", "-u", "admin:secret of admin",
			"https://"+net.JoinHostPort(address, port)+"/redfish/v1/Systems").CombinedOutput(); err != nil {
			t.Errorf("the login at %s: %v: %s", address, err, out)
		}
	}
	login("10.77.0.5") // which does not count later
	if err := b.changer().Set("network.ipv4.address", "10.77.0.6/24", host.Origin{Via: "test"}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the board to answer at its new address", func() bool { return reached("10.77.0.6") })
	if event(kindKept)() {
		t.Error("the network was kept before anybody logged in over it")
	}
	login("10.77.0.6")
	eventually(t, "the network to be kept", event(kindKept))
	time.Sleep(11 * time.Second)
	if !reached("10.77.0.6") {
		t.Error("the board is not at the address that was kept")
	}

	// The same by Redfish.
	rolledBack := func() (n int) {
		for _, e := range b.Events.Since(0, 0) {
			if e.Kind == kindRolledBack {
				n++
			}
		}
		return n
	}
	before := rolledBack()
	redfish := func(args ...string) string {
		t.Helper()
		out, err := exec.CommandContext(t.Context(), "ip", slices.Concat([]string{"netns", "exec", "lan", "curl", "-sk", "--max-time", "10", "-u", "admin:secret of admin"}, args,
			[]string{"https://" + net.JoinHostPort("10.77.0.6", port) + "/redfish/v1/Managers/bmc/EthernetInterfaces/eth0"})...).Output()
		if err != nil {
			t.Errorf("curl %v: %v", args, err)
		}
		return string(out)
	}
	answer := redfish("-X", "PATCH", "-H", "Content-Type: application/json", "-d", `{"IPv4StaticAddresses":[{"Address":"10.66.0.6"}]}`)
	if !strings.Contains(answer, `"IPv4StaticAddresses":[{"Address":"10.66.0.6","SubnetMask":"255.255.255.0"`) || !strings.Contains(answer, "is on trial") {
		t.Errorf("PATCH answered %s", answer)
	}
	eventually(t, "the kept address to be gone", func() bool { return !reached("10.77.0.6") })
	eventually(t, "the roll-back of Redfish's change", func() bool { return rolledBack() > before })
	eventually(t, "the board to answer at the kept address", func() bool { return reached("10.77.0.6") })
	if answer = redfish(); !strings.Contains(answer, `"IPv4StaticAddresses":[{"Address":"10.77.0.6"`) {
		t.Errorf("GET answered %s", answer)
	}
}

package console

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	gossh "golang.org/x/crypto/ssh"

	"github.com/nitrino/nitrino/auth"
	"github.com/nitrino/nitrino/host"
	"github.com/nitrino/nitrino/internal/settings"
)

// TestExec runs commands in order on one host: what an earlier one changed, a
// later one sees.
func TestExec(t *testing.T) {
	r := newRig(t, nil)
	clients := map[string]*gossh.Client{"admin": r.login("admin"), "op": r.login("op"), "ro": r.login("ro")}
	ed, _, _ := keys(t)
	key := authorized(ed) + " my key"
	print := gossh.FingerprintSHA256(ed.PublicKey())
	for _, tt := range []struct {
		user, command, stdin string
		out, err             string // "*": anything but nothing
		code                 int
	}{
		{"ro", "power status -q", "", "", "", 1},
		{"ro", "power -q", "", "", "", 1},
		{"ro", "power on", "", "", "power: your role does not permit this: it needs Operator\n", 5},
		{"op", "power on", "", "On\n", "", 0},
		{"op", "power on", "", "On\n", "", 0},
		{"ro", "power status -q", "", "", "", 0},
		{"ro", "power status -x", "", "", "usage: unknown option -x\nusage: power status [-q]\n", 2},
		{"ro", "power status x", "", "", "usage: power status [-q]\n", 2},
		{"op", "power reset", "", "", "power: no wire of this board does this: unsupported operation\n", 3},
		{"op", "power diag --no-wait", "", "", "", 0},
		{"op", "power off", "", "Off\n", "", 0},
		{"op", "power cycle", "", "", "power cycle: the host is off\n", 1},
		{"op", "power banana", "", "", "*", 2},
		{"ro", "power policy", "", "last-state\n", "", 0},
		{"ro", "power policy always-on", "", "", "*", 5},
		{"op", "power policy always-on", "", "", "", 0},
		{"op", "power policy never", "", "", "*", 2},
		{"ro", "power policy", "", "always-on\n", "", 0},

		{"ro", "boot", "", "none\n", "", 0},
		{"ro", "boot pxe", "", "", "*", 5},
		{"op", "boot pxe", "", "", "", 0},
		{"ro", "boot", "", "pxe once\n", "", 0},
		{"op", "boot --always cd --uefi", "", "", "", 0},
		{"ro", "boot", "", "cd always UEFI\n", "", 0},
		{"op", "boot bios", "", "", "*", 3},
		{"op", "boot floppy", "", "", "*", 2},
		{"op", "boot pxe --once --always", "", "", "*", 2},
		{"op", "boot --once", "", "", "*", 2},
		{"op", "boot none", "", "", "", 0},
		{"ro", "boot", "", "none\n", "", 0},

		{"ro", "identify", "", "off\n", "", 0},
		{"ro", "identify on", "", "", "*", 5},
		{"op", "identify on", "", "", "", 0},
		{"ro", "identify", "", "on\n", "", 0},
		{"op", "identify off", "", "", "", 0},
		{"ro", "identify", "", "off\n", "", 0},
		{"op", "identify 3600", "", "", "", 0},
		{"op", "identify 0", "", "", "*", 2},

		{"ro", "users", "", "", "*", 5},
		{"op", "users list", "", "", "*", 5},
		{"admin", "users", "", "ID  NAME   ROLE           ENABLED  IPMI  KEYS\n" +
			"2   admin  Administrator  yes      yes   0\n17  off    Administrator  no       no    0\n" +
			"3   op     Operator       yes      no    0\n4   ro     ReadOnly       yes      no    0\n", "", 0},
		{"admin", "users add new readonly", "new-password\n", "", "", 0},
		{"admin", "users add new operator", "x\n", "", "users: the user exists\n", 1},
		{"admin", "users add other king", "x\n", "", "*", 2},
		{"admin", "users add other operator", "", "", "*", 2},
		{"admin", "users add other operator", "\n", "", "*", 2},
		{"admin", "users add keyed operator --no-password", "", "", "", 0},
		{"admin", "users role new operator", "", "", "", 0},
		{"admin", "users role nobody operator", "", "", "users: no such user\n", 1},
		{"admin", "users rename new newer", "", "", "", 0},
		{"admin", "users rename new newest", "", "", "users: no such user\n", 1},
		{"admin", "users rename newer new", "", "", "", 0},
		{"admin", "users ipmi-access op on", "", "", "", 0},
		{"admin", "users ipmi-access op off", "", "", "", 0},
		{"admin", "users ipmi-access op maybe", "", "", "*", 2},
		{"op", "users ipmi-access op on", "", "", "*", 5},
		{"admin", "users disable new", "", "", "", 0},
		{"admin", "users enable new", "", "", "", 0},
		{"admin", "users passwd new", "newer-password", "", "", 0},
		{"admin", "users passwd nobody", "x\n", "", "users: no such user\n", 1},
		{"op", "users passwd new", "x\n", "", "*", 5},
		{"op", "passwd new", "x\n", "", "*", 2},
		{"op", "users passwd op", "op-password-2\r\n", "", "", 0},
		{"ro", "passwd", "ro-password-2\n", "", "", 0},
		{"admin", "users ipmi-secret new --type", "typed secret\n", "", "", 0},
		{"admin", "users keys new", "", "", "", 0},
		{"admin", "users keys new add " + key, "", "", "", 0},
		{"admin", "users keys new add", key + "\n", "", "users: the user has this key already\n", 1},
		{"admin", "users keys new add ssh-ed25519 x", "", "", "*", 2},
		{"admin", `users keys op add 'command="x" ` + key + `'`, "", "", "*", 2},
		{"admin", "users keys new list", "", "1  ssh-ed25519 " + print + " my key\n", "", 0},
		{"admin", "users keys new delete 2", "", "", "*", 2},
		{"admin", "users keys new delete 1", "", "", "", 0},
		{"admin", "users keys new", "", "", "", 0},
		{"admin", "users keys nobody", "", "", "users: no such user\n", 1},
		{"admin", "users keys", "", "", "*", 2},
		{"admin", "users frobnicate", "", "", "usage: users takes one of: list, add, delete, rename, role, enable, disable, passwd, ipmi-secret, ipmi-access, keys\n", 2},
		{"admin", "users delete new", "", "", "", 0},
		{"admin", "users delete new", "", "", "users: no such user\n", 1},

		{"ro", "settings", "", "", "*", 5},
		{"op", "settings", "", "{\n}\n", "", 0},
		{"op", "settings show host.name", "", "board\n", "", 0},
		{"op", "settings show nothing", "", "", "settings: bmc.json:3:5: no setting \"nothing\"\n", 1},
		{"op", "settings set host.name x", "", "", "*", 5},
		{"admin", "settings set host.name 'two words'", "", "", "", 0},
		{"admin", "settings show host.name", "", "two words by admin\n", "", 0},
		{"admin", "settings set host.name bad", "", "", "settings: bmc.json:3:5: host.name: invalid value\n", 2},
		{"admin", "settings set host.name two words", "", "", "*", 2},
		{"admin", "settings unset host.name", "", "", "", 0},
		{"op", "network keep", "", "", "*", 5},
		{"admin", "network keep now", "", "", "*", 2},
		{"admin", "network keep", "", "", "network: not on trial: invalid value\n", 2},
		{"admin", "settings set network.vlan 7", "", "", "", 0},
		{"admin", "network keep", "", "", "", 0},

		{"ro", "whoami", "", "ro (ReadOnly) from 127.0.0.1\n", "", 0},
		{"ro", "version", "", "nitrino 1.2.3\n", "", 0},
		{"ro", "version x", "", "", "usage: version\n", 2},
		{"ro", "help", "", "*", "", 0},
		{"ro", "help power on", "", "power on [-n|--no-wait]\n    switch the host on (Operator)\n    -n               do not wait for the outcome\n", "", 0},
		{"ro", "power on --help", "", "power on [-n|--no-wait]\n    switch the host on (Operator)\n    -n               do not wait for the outcome\n", "", 0},
		{"ro", "help power", "", "*", "", 0},
		{"ro", "help nothing", "", "", "*", 2},
		{"ro", "exit", "", "", "", 0},
		{"ro", "frobnicate", "", "", "usage: no command \"frobnicate\"; try help\n", 2},
		{"ro", "\x1b[2J", "", "", "usage: no command \"\\u001b[2J\"; try help\n", 2},
		{"ro", "whoami 'x", "", "", "usage: a quote or a backslash at the end is not complete\n", 2},
		{"ro", "", "", "", "*", 2},
		{"ro", "whoami\nversion", "", "", "*", 2},
		{"ro", "events -n x", "", "", "*", 2},
	} {
		out, errs, code := r.exec(clients[tt.user], tt.command, tt.stdin)
		same := func(got, want string) bool { return got == want || want == "*" && got != "" }
		if !same(out, tt.out) || !same(errs, tt.err) || code != tt.code {
			t.Errorf("%s: %q: got %q, %q, %d, want %q, %q, %d", tt.user, tt.command, out, errs, code, tt.out, tt.err, tt.code)
		}
	}
	for name, want := range map[string]string{"new": "newer-password", "op": "op-password-2", "ro": "ro-password-2", "keyed": ""} {
		if got := r.users.of(r.users.passwords, name); got != want {
			t.Errorf("password of %s: got %q, want %q", name, got, want)
		}
	}
	if got := r.users.of(r.users.secrets, "new"); got != "typed secret" {
		t.Errorf("IPMI secret: got %q", got)
	}
}

func TestIPMISecret(t *testing.T) {
	r := newRig(t, nil)
	c := r.login("admin")
	first, _, _ := r.exec(c, "users ipmi-secret op", "")
	second, _, _ := r.exec(c, "users ipmi-secret op", "")
	if len(first) != ipmiSecretLen+1 || first == second || r.users.of(r.users.secrets, "op")+"\n" != second {
		t.Errorf("secrets: %q, then %q, now %q", first, second, r.users.of(r.users.secrets, "op"))
	}
	if _, _, code := r.exec(c, "users ipmi-secret op --remove", ""); code != 0 || r.users.of(r.users.secrets, "op") != "" {
		t.Errorf("remove: %d, %q", code, r.users.of(r.users.secrets, "op"))
	}
}

func TestPowerStatus(t *testing.T) {
	r := newRig(t, nil)
	out, _, _ := r.exec(r.login("ro"), "power", "")
	for _, want := range []string{"power:         Off\n", "since:         ", "restart cause: ", "policy:        last-state\n"} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in %q", want, out)
		}
	}
}

// A host that does not react, and a second request meanwhile.
func TestPowerNoResponse(t *testing.T) {
	r := newRig(t, func(r *rig, _ *host.Parts, _ *Options) { r.power.edge = nil })
	a, b := r.login("op"), r.login("op")
	waiting := r.terminal(a, false, "power on")
	r.until("the request", func() bool { return r.h.Power.Status().State == host.StatePoweringOn })
	if _, errs, code := r.exec(b, "power cycle", ""); code != busy {
		t.Errorf("second request: %q, %d, want %d", errs, code, busy)
	}
	if code := waiting.wait(); code != noAnswer {
		t.Errorf("first request: %d, want %d; %q", code, noAnswer, waiting.all())
	}
}

// With a terminal the states are shown as they come.
func TestPowerStatesOnTerminal(t *testing.T) {
	r := newRig(t, func(r *rig, _ *host.Parts, _ *Options) {
		r.power.edge = func(active bool) {
			if active {
				time.AfterFunc(50*time.Millisecond, func() { r.led.set(true) })
			}
		}
	})
	x := r.terminal(r.login("op"), true, "power on")
	if code := x.wait(); code != 0 {
		t.Errorf("exit code %d", code)
	}
	<-x.end
	if got, want := x.all(), "PoweringOn\r\nOn\r\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestAbsentWires(t *testing.T) {
	r := newRig(t, func(r *rig, p *host.Parts, o *Options) {
		*p = host.Parts{ResetButton: &line{}}
		o.Settings = nil
	})
	c := r.login("admin")
	out, _, _ := r.exec(c, "help", "")
	for _, gone := range []string{"console", "boot", "identify", "power on", "settings", "power diag"} {
		if strings.Contains(out, "\n"+gone+" ") {
			t.Errorf("help shows %q", gone)
		}
	}
	if !strings.Contains(out, "\npower reset ") {
		t.Error("help does not show power reset")
	}
	for _, command := range []string{"console", "boot pxe", "identify on", "power on", "power diag"} {
		if _, _, code := r.exec(c, command, ""); code != unsupported {
			t.Errorf("%s: exit code %d, want %d", command, code, unsupported)
		}
	}
}

func TestEvents(t *testing.T) {
	r := newRig(t, nil)
	c := r.login("ro")
	when := time.Date(2026, 1, 2, 3, 4, 5, 0, time.FixedZone("", 3600))
	for i := range 30 {
		r.h.Events.Add(host.Event{Kind: fmt.Sprintf("test.%d", i), Message: "Fine.", Time: when})
	}
	r.h.Events.Add(host.Event{Kind: "auth.failed", Severity: host.Warning, Time: when,
		Message: "User \x1b[31mroot\n failed.", Origin: host.Origin{Via: "ssh", User: "a\u009bb", Source: "192.0.2.1"}})
	out, _, _ := r.exec(c, "events -n 2", "")
	want := "2026-01-02T02:04:05Z  OK        test.29: Fine.\n" +
		`2026-01-02T02:04:05Z  Warning   auth.failed: User \u001b[31mroot\u000a failed. (a\u009bb from 192.0.2.1 by ssh)` + "\n"
	if out != want {
		t.Errorf("events -n 2:\n%s\nwant\n%s", out, want)
	}
	if out, _, _ = r.exec(c, "events", ""); strings.Count(out, "\n") != 20 {
		t.Errorf("events: %d lines, want 20", strings.Count(out, "\n"))
	}
	if out, _, _ = r.exec(c, "events -n 0", ""); strings.Count(out, "\n") != len(r.h.Events.Since(0, 0)) {
		t.Errorf("events -n 0: %d lines, want %d", strings.Count(out, "\n"), len(r.h.Events.Since(0, 0)))
	}
	out, _, _ = r.exec(c, "events --json -n 1", "")
	var e host.Event
	if err := json.Unmarshal([]byte(out), &e); err != nil || e.Origin.User != "a\u009bb" || strings.ContainsAny(out, "\u009b\x1b") {
		t.Errorf("events --json: %v, %q", err, out)
	}
}

func TestEventsFollow(t *testing.T) {
	r := newRig(t, nil)
	x := r.terminal(r.login("ro"), false, "events -f -n 1 --json")
	for i := range 3 {
		r.h.Events.Add(host.Event{Kind: fmt.Sprintf("test.%d", i), Message: "Now."})
		x.expect(fmt.Sprintf("test.%d", i))
	}
}

func TestExitCodes(t *testing.T) {
	for _, tt := range []struct {
		err  error
		want int
	}{
		{nil, 0},
		{errors.New("other"), 1},
		{errNotOn, 1},
		{errInterrupted, 1},
		{host.ErrNoPower, 1},
		{host.ErrAsleep, 1},
		{host.ErrNoStandby, 1},
		{host.ErrStopped, 1},
		{host.ErrSuperseded, 1},
		{auth.ErrLastAdministrator, 1},
		{auth.ErrNotFound, 1},
		{errUsage, 2},
		{host.ErrInvalid, 2},
		{auth.ErrInvalid, 2},
		{settings.ErrUnknownPath, 2},
		{&settings.Error{Problem: "not a number"}, 2},
		{errors.ErrUnsupported, 3},
		{host.ErrBusy, 4},
		{auth.ErrBusy, 4},
		{errDenied, 5},
		{auth.ErrDenied, 5},
		{host.ErrNoResponse, 6},
	} {
		err := tt.err
		if err != nil {
			err = fmt.Errorf("wrapped: %w", err)
		}
		if got := exitCode(err); got != tt.want {
			t.Errorf("%v: got %d, want %d", tt.err, got, tt.want)
		}
	}
}

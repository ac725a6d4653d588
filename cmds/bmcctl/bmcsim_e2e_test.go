//go:build e2e

package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// TestBmcsim is a morning with bmcctl in front of a simulated board.
func TestBmcsim(t *testing.T) {
	dir := t.TempDir()
	sim := filepath.Join(dir, "bmcsim")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", sim, "../bmcsim").CombinedOutput(); err != nil {
		t.Fatalf("building bmcsim: %v\n%s", err, out)
	}
	const password = "correct horse"
	cmd := exec.Command(sim, "-dir", filepath.Join(dir, "sim"), "-base", fmt.Sprint(41000+os.Getpid()%8000), "-host", "fake", "-password", password)
	cmd.Stderr = t.Output()
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
			t.Error(err)
		}
		if err := cmd.Wait(); err != nil {
			t.Errorf("bmcsim: %v", err)
		}
	})
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	var ready struct{ Redfish string }
	if err := json.Unmarshal([]byte(line), &ready); err != nil {
		t.Fatal(err)
	}
	u, err := url.Parse(ready.Redfish)
	if err != nil {
		t.Fatal(err)
	}
	d := &desk{t: t, home: filepath.Join(dir, "home"), env: map[string]string{"BMCCTL_PASSWORD": password}, answers: "y\n"}
	for _, s := range []step{
		{line: "-u admin profile add sim " + u.Host, out: "certificate pinned"},
		{line: "login", out: "as admin"},
		{line: "info", out: "nitrino"},
		{line: "power status", out: "Off"},
		{line: "power on -w", out: "system: On"},
		{line: "power cycle -w", out: "system: On"},
		{line: "power soft -w", out: "system: Off"},
		{line: "power policy always-on", out: "AlwaysOn"},
		{line: "boot set pxe", out: "boots from Pxe: once"},
		{line: "boot show", out: "Pxe"},
		{line: "boot clear"},
		{line: "boot show", out: "Disabled"},
		{line: "sessions list -o json", out: `"own": true`},
		{line: `patch /redfish/v1/Systems/system {"PowerState":"On"}`, code: exitFailed, err: "read-only property"},
		{line: "-u admin -p sim info", out: "nitrino"},
		{line: "logout"},
		{line: "logout", out: "Not logged in"},
	} {
		r := d.run(strings.Fields(s.line)...)
		if r.code != s.code || !strings.Contains(r.stdout, s.out) || !strings.Contains(r.stderr, s.err) {
			t.Errorf("%s:\ngot code %d\nout %q\nerr %q\nwant code %d, out %q, err %q", s.line, r.code, r.stdout, r.stderr, s.code, s.out, s.err)
		}
	}
	d.env["BMCCTL_PASSWORD"] = "wrong"
	if r := d.run("info"); r.code != exitDenied {
		t.Errorf("a wrong password: %+v", r)
	}
}

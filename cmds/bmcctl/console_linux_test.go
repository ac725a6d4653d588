package main

import (
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/nitrino/nitrino/internal/pty"
)

// At a terminal every key goes to the host, and ~. leaves.
func TestConsoleTerminal(t *testing.T) {
	v := newVendor(t)
	d := newDesk(t, v)
	port, _ := sshConsole(t)
	v.set("/redfish/v1/S/Blade.1", strings.Replace(vendorDocs()["/redfish/v1/S/Blade.1"], `"PowerState"`,
		fmt.Sprintf(`"SerialConsole":{"SSH":{"ServiceEnabled":true,"Port":%d,"ConsoleEntryCommand":"console"}},"PowerState"`, port), 1))
	keyboard, tty, err := pty.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer keyboard.Close()
	defer tty.Close()
	p, _, stderr := d.program()
	out, stdout := io.Pipe()
	p.terminal, p.stdin, p.stdout = true, tty, stdout
	if _, err := keyboard.WriteString("y\n"); err != nil {
		t.Fatal(err)
	}
	done := make(chan int)
	go func() {
		code := p.main(t.Context(), []string{"console"})
		_ = stdout.Close() // never fails
		done <- code
	}()
	// What the terminal echoes is of no interest, but has to be read.
	go func() { _, _ = io.Copy(io.Discard, keyboard) }()
	// Only what came before it is left is shown.
	want := "console: "
	got := make([]byte, len(want))
	if _, err := io.ReadFull(out, got); err != nil || string(got) != want {
		t.Errorf("got %q, %v, want %q", got, err, want)
	}
	go func() { _, _ = io.Copy(io.Discard, out) }()
	if _, err := keyboard.WriteString("\r~."); err != nil {
		t.Fatal(err)
	}
	if code := <-done; code != 0 || !strings.Contains(stderr.String(), "Console left.") {
		t.Errorf("got %d, %s", code, stderr)
	}
}

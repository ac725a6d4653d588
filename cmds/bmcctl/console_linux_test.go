package main

import (
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

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
	p, stdout, stderr := d.program()
	p.terminal, p.stdin = true, tty
	if _, err := keyboard.WriteString("y\n"); err != nil {
		t.Fatal(err)
	}
	done := make(chan int)
	go func() { done <- p.main(t.Context(), []string{"console"}) }()
	// What the terminal echoes is of no interest, but has to be read.
	go func() { _, _ = io.Copy(io.Discard, keyboard) }()
	again := time.NewTicker(50 * time.Millisecond)
	defer again.Stop()
	for {
		select {
		case code := <-done:
			if code != 0 || !strings.HasPrefix(stdout.String(), "console: ") || !strings.Contains(stderr.String(), "Console left.") {
				t.Errorf("got %d, %q, %s", code, stdout, stderr)
			}
			return
		case <-again.C: // until the console is joined
			if _, err := keyboard.WriteString("\r~."); err != nil {
				t.Fatal(err)
			}
		}
	}
}

package console

import (
	"bytes"
	"strings"
	"testing"

	"github.com/nitrino/nitrino/auth"
	"github.com/nitrino/nitrino/host"
)

const hint = "[console of board; ~. leaves (with OpenSSH ~~.), ~? helps]\r\n"

// Two who type and two who watch see all.
func TestConsoleShared(t *testing.T) {
	r := newRig(t, nil)
	var all []*terminal
	for _, user := range []string{"admin", "op", "ro"} {
		all = append(all, r.terminal(r.login(user), true, "console"))
	}
	all = append(all, r.terminal(r.login("ro"), false, "console"))
	for _, x := range all[:3] {
		x.expect(hint)
	}
	r.serial.conn.say([]byte("login: "))
	for _, x := range all {
		x.expect("login: ")
	}
	all[0].typ("ro")
	for _, x := range all {
		x.expect("ro")
	}
	all[1].typ("ot\r")
	for _, x := range all {
		x.expect("ot\r")
	}
	if typed, _ := r.serial.seen(); typed != "root\r" {
		t.Errorf("the host got %q", typed)
	}
	for _, x := range all[:3] {
		x.typ("\r~.") // the watcher's return is refused and counts for the escape
		x.expect("[left the console]\r\n")
		if code := x.wait(); code != 0 {
			t.Errorf("exit code %d", code)
		}
	}
}

// From the shell and back, with keys that mean something to the shell.
func TestConsoleFromShell(t *testing.T) {
	r := newRig(t, nil)
	x := r.terminal(r.login("op"), true, "")
	x.expect("board> ")
	x.typ("console\rtyped ahead\x03\x04\t\r")
	x.expect(hint)
	x.expect("typed ahead\x03\x04\t\r")
	x.typ("~.whoami\r")
	x.expect("[left the console]\r\n")
	x.expect("op (Operator)")
	if typed, _ := r.serial.seen(); typed != "typed ahead\x03\x04\t\r" {
		t.Errorf("the host got %q", typed)
	}
}

func TestConsoleEscapes(t *testing.T) {
	r := newRig(t, nil)
	x := r.terminal(r.login("op"), true, "console")
	x.expect(hint)
	x.typ("~?")
	x.expect("send a break")
	x.typ("~B")
	r.until("the break", func() bool { _, n := r.serial.seen(); return n == 1 })
	x.typ("~~x")
	x.expect("~x")
	// A break by the client's own means.
	if ok, err := x.s.SendRequest("break", true, []byte{0, 0, 1, 0}); !ok || err != nil {
		t.Errorf("break request: %v, %v", ok, err)
	}
	r.until("the second break", func() bool { _, n := r.serial.seen(); return n == 2 })
	if typed, _ := r.serial.seen(); typed != "~x" {
		t.Errorf("the host got %q", typed)
	}
}

// A terminal's stream is raw: a newline is the host's business.
func TestConsoleIsRaw(t *testing.T) {
	r := newRig(t, nil)
	x := r.terminal(r.login("ro"), true, "console")
	x.expect(hint)
	raw := "a\nb\r\r\nc\x00\xff\x1b[7m\n"
	r.serial.conn.say([]byte(raw + "."))
	if got := x.expect("."); got != raw {
		t.Errorf("got %q, want %q", got, raw)
	}
}

func TestConsoleReadOnly(t *testing.T) {
	const notice = "your role may only watch"
	for _, pty := range []bool{true, false} {
		r := newRig(t, nil)
		x := r.terminal(r.login("ro"), pty, "console")
		x.typ("reboot\r")
		x.expect(notice)
		x.typ("again\r")
		r.serial.conn.say([]byte("still watching"))
		if said := x.expect("still watching"); strings.Contains(said, notice) {
			t.Error("told twice")
		}
		if ok, err := x.s.SendRequest("break", true, []byte{0, 0, 1, 0}); err != nil {
			t.Errorf("break: %v, %v", ok, err)
		}
		if typed, breaks := r.serial.seen(); typed != "" || breaks != 0 {
			t.Errorf("the host got %q and %d breaks", typed, breaks)
		}
	}
}

// Who loses the right to type loses it at once.
func TestConsoleRoleChanges(t *testing.T) {
	r := newRig(t, nil)
	x := r.terminal(r.login("op"), true, "console")
	x.expect(hint)
	x.typ("one")
	x.expect("one")
	if err := r.users.SetRole("op", auth.ReadOnly, clientAttempt); err != nil {
		t.Fatal(err)
	}
	x.typ("two")
	x.expect("may only watch")
	if typed, _ := r.serial.seen(); typed != "one" {
		t.Errorf("the host got %q", typed)
	}
}

func TestConsoleReplay(t *testing.T) {
	r := newRig(t, func(r *rig, _ *host.Parts, _ *Options) { r.config.ConsoleReplay = 10 })
	c := r.login("ro")
	past := "0123456789abcdef"
	w := r.h.Console.Watch(0)
	r.serial.conn.say([]byte(past))
	for n := 0; n < len(past); {
		k, _, err := w.Next(t.Context(), make([]byte, 100))
		if err != nil {
			t.Fatal(err)
		}
		n += k
	}
	for _, tt := range []struct {
		command, want string
		code          int
	}{
		{"console -p", past[6:], 0},
		{"console -p -n 4", past[12:], 0},
		{"console -p -n 0", "", 0},
		{"console --print --replay=100", past, 0},
		{"console -p -n 262145", "", badUsage},
		{"console -p -n -1", "", badUsage},
		{"console x", "", badUsage},
	} {
		out, _, code := r.exec(c, tt.command, "")
		if out != tt.want || code != tt.code {
			t.Errorf("%s: got %q, %d, want %q, %d", tt.command, out, code, tt.want, tt.code)
		}
	}
	x := r.terminal(c, true, "console -n 3")
	x.expect(hint)
	if got := x.expect("def"); got != "" {
		t.Errorf("replay: got %q before def", got)
	}
	r.serial.conn.say([]byte("XYZ."))
	if got, want := x.expect("."), "XYZ"; got != want {
		t.Errorf("live after the replay: got %q, want %q", got, want)
	}
}

// Without a terminal every byte passes, escapes and the input's end included.
func TestConsolePipe(t *testing.T) {
	r := newRig(t, nil)
	x := r.terminal(r.login("op"), false, "console")
	var every []byte
	for i := range 256 {
		every = append(every, byte(i))
	}
	sent := "~.~B\r~.\n~?" + string(every)
	x.typ(sent)
	if err := x.in.Close(); err != nil {
		t.Fatal(err)
	}
	x.expect(sent)
	r.serial.conn.say([]byte("after the end"))
	x.expect("after the end")
	if typed, _ := r.serial.seen(); typed != sent {
		t.Errorf("the host got %q, want %q", typed, sent)
	}
}

// Who reads too slowly loses bytes, is told so, and slows nobody.
func TestConsoleSlowWatcher(t *testing.T) {
	r := newRig(t, nil)
	for _, pty := range []bool{true, false} {
		s, err := r.login("ro").NewSession()
		if err != nil {
			t.Fatal(err)
		}
		if pty {
			if err := s.RequestPty("xterm", 24, 80, nil); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := s.StdinPipe(); err != nil { // else the input ends at once
			t.Fatal(err)
		}
		slow, err := s.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		notices, err := s.StderrPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Start("console"); err != nil {
			t.Fatal(err)
		}
		first := make([]byte, 1)
		if pty { // it has joined when the hint comes
			if _, err := slow.Read(first); err != nil {
				t.Fatal(err)
			}
		}
		fast := r.terminal(r.login("ro"), false, "console -n 0")
		r.until("both at the console", func() bool {
			r.serial.conn.say([]byte("?"))
			return strings.Contains(fast.all(), "?")
		})
		// More than the SSH window and the ring hold.
		chunk := bytes.Repeat([]byte("."), 16<<10)
		for range 8 << 20 / len(chunk) {
			r.serial.conn.say(chunk)
		}
		r.serial.conn.say([]byte("THE END"))
		fast.expect("THE END")
		want, from := []byte(" bytes were lost: the connection is too slow"), slow
		if !pty {
			from = notices
			go func() { _, _ = (&bytes.Buffer{}).ReadFrom(slow) }() // now it reads; ends with the session
		}
		var got []byte
		buf := make([]byte, 64<<10)
		for !bytes.Contains(got, want) {
			n, err := from.Read(buf)
			if err != nil {
				t.Fatalf("pty %v: no notice in %d bytes: %v", pty, len(got), err)
			}
			got = append(got, buf[:n]...)
		}
		if !pty && bytes.Contains(got, []byte("..")) {
			t.Error("the stream is in the notices")
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// What is typed while the port is closed is not sent, and said once.
func TestConsoleNotOpen(t *testing.T) {
	r := newRig(t, nil)
	x := r.terminal(r.login("op"), true, "console")
	x.expect(hint)
	r.serial.fail()
	r.until("the notice", func() bool {
		x.typ("a")
		return strings.Contains(x.all(), "[not sent: ")
	})
	x.expect("[not sent: ")
	typed, _ := r.serial.seen()
	x.typ("bcd\r~B")
	x.typ("\r~?")
	if said := x.expect("send a break"); strings.Contains(said, "not sent: ") || !strings.Contains(said, "no break was sent: ") {
		t.Errorf("said %q", said)
	}
	if again, _ := r.serial.seen(); again != typed {
		t.Errorf("the host got %q, then %q", typed, again)
	}
}

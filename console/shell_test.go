package console

import (
	"slices"
	"strings"
	"testing"

	"github.com/nitrino/nitrino/auth"
	"github.com/nitrino/nitrino/host"
)

func TestCandidates(t *testing.T) {
	r := newRig(t, nil)
	for _, tt := range []struct {
		user, line string
		want       []string
	}{
		{"ro", "", []string{"power", "console", "boot", "identify", "events", "users", "passwd", "whoami", "version", "help", "exit"}},
		{"admin", "s", []string{"settings"}},
		{"ro", "s", nil},
		{"ro", "ev", []string{"events"}},
		{"ro", "  ev", []string{"events"}},
		{"ro", "power ", []string{"status", "policy"}},
		{"op", "power ", []string{"status", "on", "off", "soft", "restart", "cycle", "diag", "press", "policy"}},
		{"op", "power o", []string{"on", "off"}},
		{"op", "power r", []string{"restart"}}, // no reset button is wired
		{"op", "power on ", nil},
		{"op", "power on -", []string{"-n", "--no-wait"}},
		{"op", "power on --", []string{"--no-wait"}},
		{"op", "power -", []string{"-q"}},
		{"op", "power policy ", []string{"always-off", "always-on", "last-state"}},
		{"op", "power policy always-o", []string{"always-off", "always-on"}},
		{"op", "power policy always-on ", nil},
		{"op", "boot ", []string{"none", "pxe", "disk", "cd", "usb"}},
		{"op", "boot --once p", []string{"pxe"}},
		{"op", "boot pxe --", []string{"--once", "--always", "--uefi", "--legacy"}},
		{"op", "identify o", []string{"on", "off"}},
		{"op", "events -n ", nil},
		{"op", "events --", []string{"--follow", "--lines", "--json"}},
		{"op", "users ", []string{"passwd"}},
		{"admin", "users d", []string{"delete", "disable"}},
		{"admin", "users delete ", []string{"admin", "off", "op", "ro"}},
		{"admin", "users delete o", []string{"off", "op"}},
		{"admin", "users role op ", []string{"Administrator", "Operator", "ReadOnly"}},
		{"admin", "users add ", nil},
		{"admin", "users add new O", []string{"Operator"}},
		{"admin", "users keys op ", []string{"list", "add", "delete"}},
		{"admin", "settings set power.", []string{"power.off_time", "power.power_pulse"}},
		{"admin", "settings show h", []string{"host.name"}},
		{"op", "help po", []string{"power"}},
		{"op", "help power o", []string{"on", "off"}},
		{"op", "nothing ", nil},
		{"op", "nothing", nil},
		{"op", "'pow", nil},
	} {
		s := &session{conn: &conn{s: r.s}, user: tt.user}
		if _, got := s.candidates(tt.line); !slices.Equal(got, tt.want) {
			t.Errorf("%s: %q: got %q, want %q", tt.user, tt.line, got, tt.want)
		}
	}
}

func TestShell(t *testing.T) {
	r := newRig(t, nil)
	x := r.terminal(r.login("op"), true, "")
	x.expect("board: the host is Off since ")
	x.expect("board> ")
	x.typ("pow\t")
	x.expect("power ")
	x.typ("pol\talwa\t")
	x.expect("policy always-o")
	x.typ("\t")
	x.expect("always-off  always-on\r\n")
	x.typ("n\r")
	x.expect("board> ")
	x.typ("power policy\r")
	x.expect("always-on\r\n")
	x.expect("board> ")

	// Ctrl-C clears the line.
	x.typ("nonsense\x03whoami\r")
	x.expect("op (Operator) from 127.0.0.1\r\n")
	// The up key goes back over it.
	x.typ("\x1b[A\r")
	x.expect("op (Operator) from 127.0.0.1\r\n")

	// Ctrl-C ends what runs; what was typed ahead of it is gone.
	x.typ("events -f\r")
	x.expect("events -f\r\n")
	r.h.Events.Add(host.Event{Kind: "test.one", Message: "Here."})
	x.expect("test.one: Here.\r\n")
	x.typ("bogus\r\x03")
	if got := x.expect("board> "); strings.Contains(got, "events") {
		t.Errorf("Ctrl-C, which is how to leave, is told as an error: %q", got)
	}
	x.typ("version\r")
	x.expect("nitrino 1.2.3\r\n")
	if strings.Contains(x.all(), "bogus") {
		t.Error("what was typed before Ctrl-C was run")
	}

	// Windows may be of any size.
	for _, size := range [][2]int{{1, 1}, {0, 0}, {1 << 30, 1 << 30}, {24, 80}} {
		if err := x.s.WindowChange(size[0], size[1]); err != nil {
			t.Fatal(err)
		}
	}
	x.typ("frobnicate\r")
	x.expect("no command")
	x.typ("exit\r")
	if code := x.wait(); code != badUsage {
		t.Errorf("exit code: got %d, want the last command's, %d", code, badUsage)
	}
}

func TestShellCtrlD(t *testing.T) {
	r := newRig(t, nil)
	x := r.terminal(r.login("ro"), true, "")
	x.expect("board> ")
	x.typ("\x04")
	if code := x.wait(); code != 0 {
		t.Errorf("exit code %d", code)
	}
	<-x.end
	if got := x.all(); strings.HasSuffix(got, "> ") {
		t.Errorf("a prompt stays behind: %q", got)
	}
}

// A password is typed twice and never shown; Ctrl-C and Ctrl-D give up.
func TestPasswordAtTerminal(t *testing.T) {
	r := newRig(t, nil)
	x := r.terminal(r.login("op"), true, "")
	x.expect("board> ")
	for _, key := range []string{"\x03", "\x04"} {
		x.typ("passwd\r")
		x.expect("new password: ")
		x.typ("half" + key)
		x.expect("passwd: interrupted\r\n")
		x.expect("board> ")
	}
	x.typ("passwd\r")
	x.expect("new password: ")
	x.typ("first-one\r")
	x.expect("the same again: ")
	x.typ("second-one\r")
	x.expect("passwd: the two are not the same\r\n")
	x.typ("passwd\r")
	x.expect("new password: ")
	x.typ("right-one\r")
	x.expect("the same again: ")
	x.typ("right-one\r")
	x.typ("whoami\r")
	said := x.expect("op (Operator)")
	if strings.Contains(said, "right-one") || strings.Contains(said, "half") {
		t.Errorf("a password was shown: %q", said)
	}
	if got := r.users.of(r.users.passwords, "op"); got != "right-one" {
		t.Errorf("password: got %q", got)
	}
}

// The role is the one that the user has now, not the login's.
func TestRoleChanges(t *testing.T) {
	r := newRig(t, nil)
	x := r.terminal(r.login("op"), true, "")
	x.expect("board> ")
	if err := r.users.SetRole("op", auth.ReadOnly, clientAttempt); err != nil {
		t.Fatal(err)
	}
	x.typ("power on\r")
	x.expect("your role does not permit this")
}

func TestScript(t *testing.T) {
	r := newRig(t, nil)
	c := r.login("admin")
	for _, tt := range []struct {
		name, in, out string
		code          int
	}{
		{"nothing", "", "", 0},
		{"commands", "# a comment\n\nversion\r\n  whoami\n", "nitrino 1.2.3\nadmin (Administrator) from 127.0.0.1\n", 0},
		{"no newline at the end", "version", "nitrino 1.2.3\n", 0},
		{"goes on after a failure", "bogus\nversion\n", "nitrino 1.2.3\n", 0},
		{"the last one's code", "version\nbogus\n\n# end\n", "nitrino 1.2.3\n", 2},
		{"exit", "bogus\nexit\nversion\n", "", 2},
		{"a command that reads", "users passwd ro\nnew password of ro\nversion\n", "nitrino 1.2.3\n", 0},
		{"bad quotes", "version\n'x\n", "nitrino 1.2.3\n", 2},
		{"long line", strings.Repeat("x", maxLine+1), "", 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			x := r.terminal(c, false, "")
			var err error
			if _, err = x.in.Write([]byte(tt.in)); err == nil {
				err = x.in.Close()
			}
			if err != nil && tt.code != failed { // a server that gave up takes no more
				t.Fatal(err)
			}
			code := x.wait()
			<-x.end
			if out := x.all(); code != tt.code || !strings.HasPrefix(out, tt.out) && !strings.HasSuffix(out, tt.out) {
				t.Errorf("got %q, %d, want %q, %d", out, code, tt.out, tt.code)
			}
		})
	}
	if got := r.users.of(r.users.passwords, "ro"); got != "new password of ro" {
		t.Errorf("password: got %q", got)
	}
}

// An escape sequence that never ends must not keep the server busy.
func TestEndlessEscapeSequence(t *testing.T) {
	r := newRig(t, nil)
	x := r.terminal(r.login("ro"), true, "")
	x.expect("board> ")
	x.typ("\x1b[" + strings.Repeat("0", 400))
	x.wait()
}

//go:build e2e

package test

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestSSHCommands(t *testing.T) {
	s := start(t, "-host", "fake")
	tests := []struct {
		command string
		code    int
		want    string
	}{
		{"power status", 0, "Off"},
		{"power on", 0, ""},
		{"power status", 0, "On"},
		{"power", 0, "On"},
		{"power reset", 0, ""},
		{"power soft", 0, ""},
		{"power status", 0, "Off"},
		{"power reset", 1, "the host is off"},
		{"power explode", 2, ""},
		{"nonsense", 2, "nonsense"},
		{"events", 0, "power.on"},
		{"users", 0, "Administrator"},
		{"users add guest ReadOnly", 0, ""},
		{"settings show power.off_time", 0, "5s"},
		{"settings set power.off_time 3s", 0, ""},
		{"settings show power.off_time", 0, "3s"},
		{"settings set power.off_time never", 2, "never"},
		{"settings show power.off_time", 0, "3s"},
		{"whoami", 0, "admin"},
		{"help", 0, "console"},
	}
	for _, tt := range tests {
		t.Run(tt.command, func(t *testing.T) {
			stdin := ""
			if strings.HasPrefix(tt.command, "users add") {
				stdin = "guest-password\n"
			}
			got := s.sshIn(stdin, tt.command)
			if got.code != tt.code || !strings.Contains(got.out, tt.want) {
				t.Errorf("got exit code %d and %q, want %d and %q in it", got.code, got.out, tt.code, tt.want)
			}
			if strings.Contains(got.out, "\x1b") {
				t.Errorf("escape codes in a script's output: %q", got.out)
			}
		})
	}
	// The guest may look, and nothing else.
	guest := *s
	guest.User, guest.Password = "guest", "guest-password"
	if got := guest.ssh("power status"); got.code != 0 {
		t.Errorf("guest, power status: got %d, %q", got.code, got.out)
	}
	for _, c := range []string{"power on", "users add other ReadOnly", "settings set power.off_time 1s"} {
		if got := guest.ssh(c); got.code != 5 {
			t.Errorf("guest, %s: got %d, %q, want exit code 5", c, got.code, got.out)
		}
	}
}

func TestSSHLogins(t *testing.T) {
	dir := t.TempDir()
	key := filepath.Join(dir, "key")
	client(t, "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key).must(t)
	public, err := os.ReadFile(key + ".pub")
	if err != nil {
		t.Fatal(err)
	}
	config := filepath.Join(dir, "bmc.json")
	text := fmt.Sprintf("{\"version\": 1, \"hostname\": \"rack7\", \"ssh_keys\": [%q]}", strings.TrimSpace(string(public)))
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	s := start(t, "-host", "fake", "-config", config)
	withKey := client(t, "ssh", append(s.sshArgs("-T", "-i", key, "-o", "BatchMode=yes"), "whoami")...)
	if withKey.code != 0 || !strings.Contains(withKey.out, "admin") {
		t.Errorf("key: got %d, %q", withKey.code, withKey.out)
	}
	wrong := clientIn(t, s.askpass("wrong"), "", "ssh", append(s.sshArgs("-T"), "whoami")...)
	if wrong.code != 255 || !strings.Contains(wrong.out, "Permission denied") {
		t.Errorf("wrong password: got %d, %q", wrong.code, wrong.out)
	}
	if got := s.ssh("whoami"); got.code != 0 {
		t.Errorf("password: got %d, %q", got.code, got.out)
	}
	for _, weak := range []string{
		"KexAlgorithms=diffie-hellman-group14-sha1", "Ciphers=aes128-cbc", "Ciphers=3des-cbc", "Ciphers=aes128-ctr", "HostKeyAlgorithms=ssh-rsa",
	} {
		got := clientIn(t, s.askpass(s.Password), "", "ssh", append(s.sshArgs("-T", "-o", weak), "whoami")...)
		if got.code != 255 {
			t.Errorf("%s: got %d, %q, want no connection", weak, got.code, got.out)
		}
	}
}

// A terminal is one ssh on the console.
type terminal struct {
	t     *testing.T
	cmd   *exec.Cmd
	stdin io.WriteCloser
	out   *lockedBuffer
}

func (s *sim) terminal(t *testing.T, command ...string) *terminal {
	t.Helper()
	cmd := exec.Command("ssh", append(s.sshArgs("-tt", "-e", "none"), command...)...)
	cmd.Env = append(os.Environ(), s.askpass(s.Password)...)
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	term := &terminal{t, cmd, stdin, &lockedBuffer{}}
	cmd.Stdout, cmd.Stderr = term.out, term.out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if cmd.ProcessState == nil {
			cmd.Process.Kill()
			cmd.Wait() // killed
		}
	})
	return term
}

func (term *terminal) typeIn(text string) {
	term.t.Helper()
	if _, err := io.WriteString(term.stdin, text); err != nil {
		term.t.Fatal(err)
	}
}

func (term *terminal) see(want string) {
	term.t.Helper()
	for end := time.Now().Add(60 * time.Second); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		if strings.Contains(term.out.String(), want) {
			return
		}
	}
	term.t.Fatalf("%q does not come; there is %q", want, term.out)
}

func (term *terminal) ends() {
	term.t.Helper()
	ended := make(chan error, 1)
	go func() { ended <- term.cmd.Wait() }()
	select {
	case err := <-ended:
		if err != nil {
			term.t.Errorf("ssh: %v; %q", err, term.out)
		}
	case <-time.After(20 * time.Second):
		term.t.Errorf("ssh does not end; %q", term.out)
	}
}

func TestConsole(t *testing.T) { twoOnConsole(t, start(t)) }

// twoOnConsole: two people on the real host's console. Both see what each
// types, who joins later sees what was, and ~. leaves.
func twoOnConsole(t *testing.T, s *sim) {
	t.Helper()
	one := s.terminal(t, "console")
	s.ssh("power on").must(t)
	one.see("SeaBIOS")
	one.see("demo host is up")
	two := s.terminal(t, "console")
	two.see("SeaBIOS") // replayed
	one.typeIn("hello from one")
	two.see("hello from one")
	two.typeIn(" and two")
	one.see("hello from one and two")
	two.typeIn("\r~.")
	two.ends()
	one.typeIn(" still here")
	one.see("still here")
	one.typeIn("\r~.")
	one.ends()
}

// The command line of a person: prompt, completion, a command, leaving.
func TestCommandLine(t *testing.T) {
	s := start(t, "-host", "fake")
	term := s.terminal(t)
	term.see("bmcsim> ")
	term.typeIn("power st\t\r")
	term.see("power status")
	term.see("Off")
	term.typeIn("power on\r")
	term.see("PoweringOn")
	term.typeIn("events -f\r")
	term.see("power.on")
	s.ssh("power reset").must(t)
	term.see("power.restarted")
	term.typeIn("\x03")
	term.typeIn("whoami\r")
	term.see("Administrator")
	term.typeIn("exit\r")
	term.ends()
}

// The last 256 KiB are replayed, byte for byte.
func TestConsoleReplay(t *testing.T) {
	s := start(t)
	s.ssh("power on").must(t)
	eventually(t, "the demo host", 60*time.Second, func() bool { return strings.Contains(s.ssh("console -p").out, "demo host is up") })
	term := s.terminal(t, "console")
	term.see("demo host is up")
	var typed strings.Builder
	for i := range 200 {
		fmt.Fprintf(&typed, "%05d abcdefghijklmnopqrstuvwxyz ", i)
	}
	// As a person would: the demo host's serial port has no flow control.
	for r := bufio.NewReader(strings.NewReader(typed.String())); ; {
		chunk := make([]byte, 8)
		n, err := r.Read(chunk)
		if err != nil {
			break
		}
		term.typeIn(string(chunk[:n]))
		time.Sleep(10 * time.Millisecond)
	}
	term.see(strings.TrimSpace(typed.String()[typed.Len()-40:]))
	if got := s.ssh("console -p").out; !strings.Contains(got, typed.String()) {
		t.Errorf("the replay of %d bytes lacks what was typed", len(got))
	}
	term.typeIn("\r~.")
	term.ends()
}

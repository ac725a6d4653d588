//go:build e2e

package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/nitrino/nitrino/internal/pty"
	software "github.com/nitrino/nitrino/update"
	"github.com/nitrino/nitrino/update/manifest"
)

const (
	simPassword = "correct horse"
	bobPassword = "the-secret-of-bob-1"
)

// TestBmcsim is days with bmcctl in front of simulated boards, of which each
// subtest has its own.
func TestBmcsim(t *testing.T) {
	dir := t.TempDir()
	out, err := exec.CommandContext(t.Context(), "go", "build", "-o", dir, ".", "../bmcsim").CombinedOutput()
	if err != nil {
		t.Fatalf("building: %v\n%s", err, out)
	}
	for i, day := range []struct {
		name, host string
		do         func(*lab, *testing.T)
	}{
		{"power", "fake", (*lab).powerDay},
		{"media", "fake", (*lab).mediaDay},
		{"media with QEMU", "qemu", (*lab).mediaDay},
		{"console", "fake", (*lab).consoleDay},
		{"console with QEMU", "qemu", (*lab).consoleDay},
		{"events", "fake", (*lab).eventDay},
		{"volumes", "fake", (*lab).volumeDay},
		{"users", "fake", (*lab).userDay},
		{"settings", "fake", (*lab).settingDay},
		{"certificate", "fake", (*lab).certificateDay},
		{"update", "fake", (*lab).updateDay},
		{"reset", "fake", (*lab).resetDay},
	} {
		t.Run(day.name, func(t *testing.T) { day.do(newLab(t, dir, day.host, i), t) })
	}
}

// A lab is a simulated board and somebody in front of it.
type lab struct {
	*desk
	host    string             // of the service, with its port
	fake    bool               // the board's host is no QEMU
	bmcctl  string             // the program, for what needs a process
	release ed25519.PrivateKey // whose bundles the board takes
	dir     string             // for files
}

// newLab starts the nth board of this test, with a profile of it.
func newLab(t *testing.T, programs, kind string, n int) *lab {
	t.Helper()
	dir := t.TempDir()
	text, public, err := software.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	l := &lab{bmcctl: filepath.Join(programs, "bmcctl"), dir: dir, fake: kind == "fake"}
	if l.release, err = software.ParsePrivateKey(text); err != nil {
		t.Fatal(err)
	}
	config := l.write(t, "bmc.json", fmt.Appendf(nil, `{"version": 1, "update": {"keys": [%q]}}`, software.FormatKey(public)))
	base := 41000 + os.Getpid()%800*20 + n
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute) // t's ends before its cleanup
	cmd := exec.CommandContext(ctx, filepath.Join(programs, "bmcsim"), "-dir", filepath.Join(dir, "sim"), "-base", fmt.Sprint(base), "-host", kind, "-password", simPassword, "-config", config)
	cmd.Stderr = t.Output()
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		defer cancel()
		if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
			t.Error(err)
		}
		if err := cmd.Wait(); err != nil {
			t.Errorf("bmcsim: %v", err)
		}
	})
	line, err := bufio.NewReader(stdout).ReadString('\n')
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
	l.host = u.Host
	l.desk = &desk{t: t, home: filepath.Join(dir, "home", "bmcctl"), env: map[string]string{"BMCCTL_PASSWORD": simPassword}, answers: "y\n"}
	l.steps(step{line: "-u admin profile add sim " + l.host, out: "certificate pinned"})
	return l
}

func (l *lab) write(t *testing.T, name string, data []byte) string {
	t.Helper()
	path := filepath.Join(l.dir, name)
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// steps does them one after the other.
func (l *lab) steps(some ...step) {
	l.t.Helper()
	for _, s := range some {
		r := l.run(strings.Fields(s.line)...)
		if r.code != s.code || !strings.Contains(r.stdout, s.out) || !strings.Contains(r.stderr, s.err) {
			l.t.Errorf("%s:\ngot code %d\nout %q\nerr %q\nwant code %d, out %q, err %q", s.line, r.code, r.stdout, r.stderr, s.code, s.out, s.err)
		}
	}
}

// as has another user log in.
func (l *lab) as(user, password string) *lab {
	other, d := *l, *l.desk
	d.env = map[string]string{"BMCCTL_PASSWORD": password, "BMCCTL_USER": user}
	other.desk = &d
	return &other
}

// process is bmcctl as a program of its own.
func (l *lab) process(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, l.bmcctl, args...)
	cmd.Env = []string{"XDG_CONFIG_HOME=" + filepath.Dir(l.home), "BMCCTL_PASSWORD=" + simPassword, "TERM=vt100"}
	return cmd
}

func (l *lab) powerDay(t *testing.T) {
	l.steps(
		step{line: "login", out: "as admin"},
		step{line: "info", out: "nitrino"},
		step{line: "power status", out: "Off"},
		step{line: "power on -w", out: "system: On"},
		step{line: "power status -q"},
		step{line: "sensors", out: "Inlet temp"},
		step{line: "sensors -o json", out: `"units": "Cel"`},
		step{line: "power cycle -w", out: "system: On"},
		step{line: "power restart -w", out: "system: On"},
		step{line: "power reset -w", out: "system: On"},
		step{line: "power nmi", out: "Nmi was requested"},
		step{line: "power soft -w", out: "system: Off"},
		step{line: "power policy always-on", out: "AlwaysOn"},
		step{line: "boot set pxe", out: "boots from Pxe: once"},
		step{line: "boot show", out: "Pxe"},
		step{line: "boot clear"},
		step{line: "boot show", out: "Disabled"},
		step{line: "sessions list -o json", out: `"own": true`},
		step{line: `patch /redfish/v1/Systems/system {"PowerState":"On"}`, code: exitFailed, err: "read-only property"},
		step{line: "-u admin -p sim info", out: "nitrino"},
		step{line: "sessions rm none", code: exitFailed, err: "there is no session"},
	)
	// Another's session is ended, and its next command logs in anew.
	var before []sessionRow
	l.json(t, &before, "sessions list")
	if len(before) != 1 {
		t.Fatalf("sessions: %+v, want only the one that login kept", before)
	}
	l.steps(step{line: "-u admin sessions rm " + before[0].ID, out: "of admin is ended"},
		step{line: "info", out: "nitrino"},
		step{line: "logout", out: "Logged out"},
		step{line: "logout", out: "Not logged in"})
	l.as("admin", "wrong").steps(step{line: "info", code: exitDenied, err: "wrong user or password"})
	// Who reads no more ends the program, and the session too.
	cmd := l.process(t.Context(), "info")
	reader, writer, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stdout, cmd.Stderr = writer, t.Output()
	if err := reader.Close(); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Run(); cmd.ProcessState.ExitCode() != exitFailed {
		t.Errorf("a closed pipe: %v", err)
	}
	if err := writer.Close(); err != nil {
		t.Fatal(err)
	}
	var after []sessionRow
	if l.json(t, &after, "sessions list"); len(after) != 1 {
		t.Errorf("sessions: %+v, want only the own one", after)
	}
}

// json runs a command and reads what it prints.
func (l *lab) json(t *testing.T, v any, line string) {
	t.Helper()
	r := l.run(append(strings.Fields(line), "-o", "json")...)
	if err := json.Unmarshal([]byte(r.stdout), v); err != nil || r.code != 0 {
		t.Fatalf("%s: %+v, %v", line, r, err)
	}
}

func (l *lab) mediaDay(t *testing.T) {
	if !l.fake {
		l.steps(step{line: "power on -w", out: "On"}) // the host has the drives then
	}
	iso, stick := l.write(t, "my.iso", bytes.Repeat([]byte("disc"), 100_000)), l.write(t, "stick (1).img", bytes.Repeat([]byte{7}, 1<<20))
	l.steps(
		step{line: "media images -o json", out: "[]"},
		step{line: "media upload " + iso, out: "my.iso is uploaded"},
		step{line: "media upload " + iso, code: exitFailed, err: "insert it as /media/my.iso"},
		step{line: "media images", out: "my.iso  400000"},
		step{line: "media insert my.iso", out: "in drive cd"},
		step{line: "media list -o json", out: `"image": "/media/my.iso"`},
		step{line: "media insert my.iso", code: exitFailed, err: "-f"},
		step{line: "media insert my.iso -f", out: "in drive cd"},
		step{line: "media rm my.iso", code: exitBusy, err: "Eject it first"},
		step{line: "media insert http://127.0.0.1:9/x.img", code: exitFailed, err: "connection refused"},
	)
	if r := l.run("media", "insert", stick); r.code != exitFailed || !strings.Contains(r.stderr, "bmcctl: An image's name has") {
		t.Errorf("a name that the board does not take: %+v", r)
	}
	if r := l.run("media", "insert", stick, "-as", "stick.img", "-w"); r.code != 0 {
		t.Errorf("another name: %+v", r)
	}
	l.steps(
		step{line: "media list", out: "USBStick  yes       no         /media/stick.img"},
		step{line: "media eject", code: exitUsage, err: "say which"},
		step{line: "media eject usb", out: "Drive usb is empty"},
		step{line: "media eject", out: "Drive cd is empty"},
		step{line: "media eject", out: "No drive has an image"},
		step{line: "media rm my.iso", out: "is deleted"},
		step{line: "media rm stick.img", out: "is deleted"},
		step{line: "media rm my.iso", code: exitFailed, err: "not found"},
		step{line: "media images -o json", out: "[]"},
	)
}

// consoleDay joins the console at a terminal, types and leaves, and a second time
// without a question.
func (l *lab) consoleDay(t *testing.T) {
	l.steps(step{line: "power on -w", out: "On"})
	for _, first := range []bool{true, false} {
		person, tty, err := pty.Open()
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		cmd := l.process(ctx, "console")
		cmd.Stdin, cmd.Stdout, cmd.Stderr = tty, tty, tty
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		if err := tty.Close(); err != nil {
			t.Fatal(err)
		}
		s := &screen{t: t, from: person}
		if first {
			s.expect("Trust it? [y/N] ")
			s.enter("y\n")
		}
		s.expect("Console joined")
		s.enter("\r")
		s.expect("> ")
		s.enter("hello\r")
		s.expect("hello")
		if s.enter("\r~B"); l.fake { // QEMU's guest does not tell of it
			s.expect("BREAK")
		}
		s.enter("\r~.")
		s.expect("Console left.")
		if err := cmd.Wait(); err != nil {
			t.Errorf("console: %v", err)
		}
		cancel()
		if err := person.Close(); err != nil {
			t.Error(err)
		}
	}
	l.steps(step{line: "settings disable ssh", out: "SSH is off"}, step{line: "console", code: exitUnsupported, err: "switched off"})
}

// A screen is what a person at a terminal sees.
type screen struct {
	t    *testing.T
	from *os.File
	seen []byte
}

// expect reads until a text comes, which is forgotten with all before it.
func (s *screen) expect(text string) {
	s.t.Helper()
	buffer := make([]byte, 4096)
	for {
		if i := bytes.Index(s.seen, []byte(text)); i >= 0 {
			s.seen = s.seen[i+len(text):]
			return
		}
		n, err := s.from.Read(buffer)
		if err != nil {
			s.t.Fatalf("waiting for %q: %v; seen %q", text, err, s.seen)
		}
		s.seen = append(s.seen, buffer[:n]...)
	}
}

func (s *screen) enter(keys string) {
	s.t.Helper()
	if _, err := s.from.WriteString(keys); err != nil {
		s.t.Fatal(err)
	}
}

func (l *lab) eventDay(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := l.process(ctx, "events", "follow", "-o", "json", "-origin", "/redfish/v1/AccountService", "-message", "AuthUserCreated")
	cmd.Stderr = t.Output()
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	// Each try causes an event, until one is seen.
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			case <-time.After(200 * time.Millisecond):
				d := l.as("admin", simPassword)
				d.env["BMCCTL_NEW_PASSWORD"] = bobPassword
				d.steps(step{line: fmt.Sprintf("users add bob%d operator", i), out: "Operator"})
			}
		}
	}()
	line, err := bufio.NewReader(stdout).ReadString('\n')
	close(stop)
	<-stopped
	var e entry
	if err != nil || json.Unmarshal([]byte(line), &e) != nil || !strings.HasPrefix(e.Message, "User bob") || !strings.HasSuffix(e.MessageID, ".AuthUserCreated") {
		t.Errorf("followed %q, %v", line, err)
	}
	if err := cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); cmd.ProcessState.ExitCode() != exitInterrupted {
		t.Errorf("Ctrl-C: %v", err)
	}
	l.steps(
		step{line: "events list", out: "User bob0 was created as Operator."},
		step{line: "log services", out: "system/EventLog"},
		step{line: "log list Log -n 0", out: "User bob0 was created"},
		step{line: "log list EventLog -o json", out: `"log": "system/EventLog"`},
		step{line: "log clear Log", out: "manager/Log is empty"},
	)
	var all []entry
	if l.json(t, &all, "log list manager/Log -n 0"); strings.Contains(fmt.Sprint(all), "bob") {
		t.Errorf("a log that was cleared has %+v", all)
	}
	l.steps(step{line: "events follow -filter nonsense", code: exitFailed, err: "ilter"})
}

// volumeDay makes volumes of files, a pipe and a URL, and shows them to hosts.
func (l *lab) volumeDay(t *testing.T) {
	data := make([]byte, 3<<20)
	if _, err := rand.Read(data); err != nil {
		t.Fatal(err)
	}
	file, back := l.write(t, "golden.img", data), filepath.Join(l.dir, "back.img")
	digest := fmt.Sprintf("%x", sha256.Sum256(data))
	web := httptest.NewServer(http.FileServer(http.Dir(l.dir)))
	defer web.Close()
	l.steps(
		step{line: "volume import golden " + file + " -sha256 " + digest, out: "golden is made"},
		step{line: "volume import golden " + file, code: exitFailed, err: "already exists"},
		step{line: "volume import bad " + file + " -sha256 " + strings.Repeat("0", 64), code: exitFailed, err: "unusable"},
		step{line: "volume import web " + web.URL + "/golden.img -disk", out: "web is made"},
		step{line: "volume import web2 " + web.URL + "/none", code: exitFailed, err: "404"},
		step{line: "volume clone golden disk1", out: "disk1 is a clone of golden"},
		step{line: "volume create disk2 64MiB -block 4096", out: "disk2 is made"},
		step{line: "volume create disk3 1M -from golden", code: exitFailed},
		step{line: "volume snapshot disk1 before", out: "before is a snapshot of disk1"},
		step{line: "volume resize disk1 8M", out: "disk1 has 8MiB"},
		step{line: "volume resize disk1 1M", code: exitFailed, err: "shrink"},
		step{line: "volume revert disk1 before", out: "disk1 is what it was as before"},
		step{line: "volume rename disk2 spare", out: "disk2 is called spare"},
		step{line: "volume list", out: "spare   disk      64MiB"},
		step{line: "volume show before -o json", out: `"snapshot_of": "disk1"`},
		step{line: "volume verify golden", out: "golden is as it was at first"},
		step{line: "volume export golden " + back, out: "golden is in"},
		step{line: "volume export nothing " + back + " -f", code: exitFailed},
	)
	if got, err := os.ReadFile(back); err != nil || !bytes.Equal(got, data) {
		t.Errorf("what was exported is not what was imported: %v", err)
	}
	l.answers = string(data) // on the standard input
	l.steps(step{line: "volume import piped -", out: "piped is made"}, step{line: "volume export piped -", out: string(data)})
	l.answers = ""

	l.env["BMCCTL_CHAP_SECRET"], l.env["BMCCTL_MUTUAL_CHAP_SECRET"] = "a-secret-of-mine", "another-of-yours"
	l.steps(
		step{line: "target add disk1 -chap me -mutual you -initiators iqn.2026-01.com.example:host", out: "iqn.2026-01.io.nitrino:disk1 shows disk1"},
		step{line: "target list", out: "mutual"},
		step{line: "target lun disk1 7 golden -cd", out: "LUN 7"},
		step{line: "target show disk1", out: "0=disk1, 7=golden (cd)"},
		step{line: "volume delete golden", code: exitBusy, err: "shows it"},
		step{line: "target lun disk1 7 none", out: "has no LUN 7"},
		step{line: "target set disk1 -chap none -initiators any -alias first", out: "is changed"},
		step{line: "target show disk1 -o json", out: `"alias": "first"`},
		step{line: "target sessions -o json", out: "[]"},
		step{line: "target remove disk1", out: "is removed"},
		step{line: "volume delete disk1", out: "disk1 is deleted"},
		step{line: "volume delete disk1", code: exitFailed, err: "there is no volume"},
	)
}

func (l *lab) userDay(t *testing.T) {
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := ssh.NewSignerFromKey(private)
	if err != nil {
		t.Fatal(err)
	}
	line := strings.TrimSpace(string(ssh.MarshalAuthorizedKey(signer.PublicKey()))) + " bob@desk\n"
	key, print := l.write(t, "id.pub", []byte(line)), ssh.FingerprintSHA256(signer.PublicKey())
	l.env["BMCCTL_NEW_PASSWORD"] = bobPassword
	l.steps(
		step{line: "users add bob Boss", code: exitFailed, err: "RoleId"},
		step{line: "users add bob operator", out: "bob was made: Operator"},
		step{line: "users add bob operator", code: exitFailed, err: "already exists"},
		step{line: "users list", out: "bob    Operator       yes      no"},
		step{line: "users keys list bob -o json", out: "[]"},
		step{line: "users keys add bob " + key, out: "bob has the key"},
		step{line: "users keys add bob " + key, code: exitFailed, err: "already exists"},
		step{line: "users keys list bob", out: print + "  bob@desk"},
		step{line: "users keys rm bob " + print, out: "no more"},
		step{line: "users keys rm bob " + print, code: exitFailed, err: "has no key"},
		step{line: "users rm admin", code: exitFailed, err: "cannot be deleted"},
	)
	bob := l.as("bob", bobPassword)
	bob.env["BMCCTL_NEW_PASSWORD"] = bobPassword + "2"
	bob.steps(
		step{line: "power on -w", out: "On"},
		step{line: "users list", out: "bob   Operator"}, // and nobody else
		step{line: "users add eve ReadOnly", code: exitDenied, err: "insufficient privileges"},
		step{line: "users passwd", out: "password of bob is changed"},
		step{line: "info", code: exitDenied},
	)
	bob = l.as("bob", bobPassword+"2")
	l.steps(step{line: "users role bob readonly", out: "role ReadOnly"})
	bob.steps(step{line: "power off", code: exitDenied})
	l.steps(step{line: "users disable bob", out: "disabled"})
	bob.steps(step{line: "info", code: exitDenied, err: "disabled"})
	l.steps(step{line: "users enable bob"}, step{line: "users passwd bob", out: "password of bob is changed"}, step{line: "users unlock bob"})
	l.as("bob", bobPassword).steps(step{line: "info"})
	l.steps(step{line: "users rm bob", out: "deleted"}, step{line: "users rm bob", code: exitFailed, err: `no user "bob"`})
	// Who has to change the password can do so, and little else before.
	l.steps(step{line: "users add new Operator -change"})
	fresh := l.as("new", bobPassword)
	fresh.env["BMCCTL_NEW_PASSWORD"] = bobPassword + "3"
	fresh.steps(step{line: "power on", code: exitDenied, err: "bmcctl users passwd does it"}, step{line: "users passwd", out: "password of new is changed"})
	l.as("new", bobPassword+"3").steps(step{line: "power status", out: "On"})
}

func (l *lab) settingDay(*testing.T) {
	l.steps(
		step{line: "settings network show", out: "127.0.0.1/8"},
		step{line: "settings services", out: "IPMI     on"},
		step{line: "settings disable ipmi", out: "IPMI is off"},
		step{line: "settings services", out: "IPMI     off"},
		step{line: "settings enable ipmi", out: "IPMI is on"},
		step{line: "settings enable telnet", code: exitUsage, err: "only HTTP, HTTPS, IPMI, SSH"},
		step{line: "settings hostname rack9", out: "rack9"},
		step{line: "settings hostname", out: "rack9\n"},
		step{line: "settings hostname a_b", code: exitFailed, err: "is not a host name"},
		step{line: "settings time", out: "T"},
		// The simulated board has the network and the clock of where it runs.
		step{line: "settings time now", code: exitFailed, err: "read-only"},
		step{line: "settings ntp", code: exitUnsupported},
		step{line: "settings network set -dns 192.0.2.1", code: exitFailed, err: "read-only"},
	)
	l.answers = "n\n"
	l.steps(step{line: "settings disable https", code: exitFailed, err: "nothing was changed"}, step{line: "info"},
		step{line: "settings disable https -yes", out: "HTTPS is off"},
		step{line: "info", code: exitNoService, err: "connection refused"})
}

func (l *lab) certificateDay(t *testing.T) {
	l.steps(step{line: "login"}, step{line: "cert show", out: "bmcsim"})
	r := l.run("cert", "csr", "-cn", "bmc.example", "-san", "bmc,127.0.0.1", "-org", "Lab")
	block, _ := pem.Decode([]byte(r.stdout))
	if block == nil {
		t.Fatalf("cert csr: %+v", r)
	}
	request, err := x509.ParseCertificateRequest(block.Bytes)
	if err != nil || request.CheckSignature() != nil {
		t.Fatalf("the request: %v", err)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	authority := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Lab CA"}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	sign := func(one *x509.Certificate, public any) []byte {
		der, err := x509.CreateCertificate(rand.Reader, one, authority, public, key)
		if err != nil {
			t.Fatal(err)
		}
		return der
	}
	ca := sign(authority, &key.PublicKey)
	leaf := sign(&x509.Certificate{SerialNumber: big.NewInt(2), Subject: request.Subject, DNSNames: request.DNSNames, IPAddresses: request.IPAddresses,
		NotBefore: authority.NotBefore, NotAfter: authority.NotAfter, KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}, request.PublicKey)
	chain := l.write(t, "chain.pem", append(certificatePEM(leaf), certificatePEM(ca)...))
	authorities := l.write(t, "ca.pem", certificatePEM(ca))
	l.steps(
		step{line: "cert replace " + authorities, code: exitFailed, err: "it is a CA's"},
		step{line: "cert replace " + chain, out: fingerprint(leaf)},
		step{line: "profile list -o json", out: fingerprint(leaf)},
		step{line: "cert show", out: "Lab CA"},
		step{line: "info", out: "nitrino"},
		step{line: "-H " + l.host + " -u admin -ca " + authorities + " info", out: "nitrino"},
		step{line: "-H " + l.host + " -u admin info", code: exitNoService, err: "is not trusted"},
		step{line: "reset -w", out: "answers again"},
		step{line: "cert show", out: fingerprint(leaf)},
	)
}

// bundle writes a signed one.
func (l *lab) bundle(t *testing.T, name string, key ed25519.PrivateKey) string {
	t.Helper()
	content := bytes.Repeat([]byte("kernel "), 100_000)
	sum := func(data []byte) string {
		s := sha256.Sum256(data)
		return hex.EncodeToString(s[:])
	}
	m := manifest.Manifest{Format: manifest.Format, Version: "9.9.9", Revision: "0123abc", Arch: "arm64", Cmdline: "quiet",
		Components: []manifest.Component{{Name: "all", Version: "1", Source: "test", SHA256: sum(nil)}},
		Files:      []manifest.File{{Name: "kernel8.img", Component: "all", Size: int64(len(content)), SHA256: sum(content)}}}
	text, err := m.Encode()
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := software.Write(&b, text, func(string) (io.Reader, error) { return bytes.NewReader(content), nil }, key); err != nil {
		t.Fatal(err)
	}
	return l.write(t, name, b.Bytes())
}

func (l *lab) updateDay(t *testing.T) {
	_, other, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	l.steps(
		step{line: "firmware", out: "bmc"},
		step{line: "update " + l.write(t, "bad.bundle", []byte("no bundle")), code: exitFailed, err: "Not a bundle"},
		step{line: "update " + l.bundle(t, "other.bundle", other), code: exitFailed, err: "sign"},
		step{line: "update http://127.0.0.1:9/x.bundle", code: exitFailed, err: "connection refused"},
		step{line: "update " + l.bundle(t, "good.bundle", l.release), out: "Update: completed", err: "good.bundle"},
		step{line: "firmware", out: "9.9.9"},
		step{line: "update " + l.dir + "/nothing", code: exitFailed, err: "no such file"},
	)
}

// resetDay waits for a restart, and takes the board back to its defaults.
func (l *lab) resetDay(t *testing.T) {
	l.steps(step{line: "power on -w"}, step{line: "login"},
		step{line: "reset -w", out: "bmc answers again"},
		step{line: "info", out: "nitrino"},
		step{line: "power status", out: "On"}) // the host went on
	l.env["BMCCTL_NEW_PASSWORD"] = bobPassword
	l.steps(step{line: "users add bob Operator"})
	l.answers = ""
	l.steps(step{line: "reset defaults all", code: exitUsage, err: "-yes says so"})
	l.answers = "n\n"
	l.steps(step{line: "reset defaults all", code: exitFailed, err: "nothing was changed"}, step{line: "users list", out: "bob"})
	l.answers = "y\n"
	for _, scope := range []struct {
		name string
		bob  bool
	}{{"keep-network-and-users", true}, {"all", false}} {
		l.steps(step{line: "settings hostname rack9"}, step{line: "reset defaults " + scope.name, out: "was requested of bmc", err: "profile trust"})
		// It has another certificate, which tells that the reset is over.
		limit := time.Now().Add(30 * time.Second)
		for r := l.run("info"); !strings.Contains(r.stderr, "not the one that was pinned"); r = l.run("info") {
			if time.Now().After(limit) {
				t.Fatalf("after reset defaults %s: %+v", scope.name, r)
			}
			time.Sleep(200 * time.Millisecond)
		}
		l.steps(step{line: "profile trust", out: "certificate pinned"}, step{line: "power status", out: "On"})
		var all []userRow
		if l.json(t, &all, "users list"); (len(all) == 2) != scope.bob {
			t.Errorf("after reset defaults %s: %+v", scope.name, all)
		}
	}
	l.steps(step{line: "settings hostname", out: "bmcsim\n"})
}

//go:build e2e || bench

// Package test drives bmcsim with real clients: ipmitool, FreeIPMI, ssh, curl
// and QEMU. Its tests have the build tag e2e, its benchmarks the tag bench.
package test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// program is the bmcsim under test.
var program string

func TestMain(m *testing.M) {
	// What runs in parallel here waits most of the time. The command line's -parallel
	// is set after this.
	if err := flag.Set("test.parallel", "8"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	dir, err := os.MkdirTemp("", "nitrino-test-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	program = filepath.Join(dir, "bmcsim")
	out, err := exec.Command("go", "build", "-o", program, "../cmds/bmcsim").CombinedOutput()
	if err != nil {
		fmt.Fprintf(os.Stderr, "building bmcsim: %v\n%s", err, out)
		os.Exit(1)
	}
	code := m.Run()
	if err := os.RemoveAll(dir); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

// A sim is a board that runs in front of a simulated host.
type sim struct {
	tb      testing.TB
	program string // bmcsim or emulate: what is typed and printed is the same
	dir     string
	args    []string
	base    int

	cmd    *exec.Cmd
	stdout io.ReadCloser
	stderr *lockedBuffer

	Ready        bool   `json:"ready"`
	Redfish      string `json:"redfish"`
	SSH          string `json:"ssh"`
	IPMI         string `json:"ipmi"`
	ISCSI        string `json:"iscsi"`
	User         string `json:"user"`
	Password     string `json:"password"`
	IPMIPassword string `json:"ipmi_password"`
	ReadyMS      int    `json:"ready_ms"`
}

// lockedBuffer is a buffer that a process writes while a test reads.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

var lastBase atomic.Int64

// freeBase finds a -base whose ports nobody uses.
func freeBase(tb testing.TB) int {
	tb.Helper()
	for range 200 {
		base := 21000 + int(lastBase.Add(1))*7
		udp, err := net.ListenPacket("udp", fmt.Sprintf("127.0.0.1:%d", base+623))
		if err != nil {
			continue
		}
		udp.Close()
		free := true
		for _, port := range []int{22, 443, 3260} {
			l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", base+port))
			if err != nil {
				free = false
				break
			}
			l.Close()
		}
		if free {
			return base
		}
	}
	tb.Fatal("no free ports")
	return 0
}

// start runs bmcsim in a folder of its own and waits for its ready line.
func start(tb testing.TB, args ...string) *sim {
	tb.Helper()
	s := &sim{tb: tb, program: program, dir: tb.TempDir(), args: args, base: freeBase(tb)}
	s.run()
	tb.Cleanup(s.stop)
	return s
}

// run starts the process on the same folder and ports.
func (s *sim) run() {
	s.tb.Helper()
	s.spawn()
	lines := bufio.NewReader(s.stdout)
	line, err := lines.ReadBytes('\n')
	if err == nil {
		err = json.Unmarshal(line, s)
	}
	if err != nil || !s.Ready {
		s.tb.Fatalf("no ready line: %v; %q\n%s", err, line, s.stderr)
	}
	// Whatever else came to standard output would confuse a script.
	stderr := s.stderr
	go func() {
		rest, _ := io.ReadAll(lines) // ends with the process
		if len(rest) > 0 {
			fmt.Fprintf(stderr, "MORE ON STDOUT: %q\n", rest)
		}
	}()
}

func (s *sim) spawn() {
	s.tb.Helper()
	s.cmd = exec.Command(s.program, append([]string{"-dir", s.dir, "-base", fmt.Sprint(s.base)}, s.args...)...)
	s.stderr = &lockedBuffer{}
	s.cmd.Stderr = s.stderr
	var err error
	if s.stdout, err = s.cmd.StdoutPipe(); err != nil {
		s.tb.Fatal(err)
	}
	if err := s.cmd.Start(); err != nil {
		s.tb.Fatal(err)
	}
}

// stop ends it as a user does and holds it to its contract: exit code 0, and
// nothing of what it started is left.
func (s *sim) stop() {
	s.tb.Helper()
	if s.cmd.ProcessState == nil {
		qemu := s.qemu()
		if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil {
			s.tb.Errorf("SIGTERM: %v", err)
		}
		ended := make(chan error, 1)
		go func() { ended <- s.cmd.Wait() }()
		select {
		case err := <-ended:
			if err != nil {
				s.tb.Errorf("after SIGTERM: %v\n%s", err, s.stderr)
			}
		case <-time.After(30 * time.Second):
			s.tb.Errorf("it does not end\n%s", s.stderr)
			s.cmd.Process.Kill()
			<-ended
		}
		if alive(qemu) {
			s.tb.Errorf("QEMU %d still runs", qemu)
		}
	}
	if strings.Contains(s.stderr.String(), "MORE ON STDOUT") {
		s.tb.Errorf("standard output has more than the ready line: %s", s.stderr)
	}
}

// kill ends it as a power cut does.
func (s *sim) kill() {
	s.tb.Helper()
	if err := s.cmd.Process.Kill(); err != nil {
		s.tb.Fatal(err)
	}
	s.cmd.Wait() // its error is the kill
}

// qemu returns the process ID of the host, 0 while there is none.
func (s *sim) qemu() int {
	var pid int
	text, err := os.ReadFile(filepath.Join(s.dir, "host", "qemu.pid"))
	if err != nil {
		return 0
	}
	if _, err := fmt.Sscan(string(text), &pid); err != nil || !alive(pid) {
		return 0
	}
	return pid
}

// alive says whether a process runs. One that has ended and that nobody waits
// for, since its parent was killed, does not.
func alive(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	_, after, _ := strings.Cut(string(stat), ") ")
	return err == nil && pid != 0 && !strings.HasPrefix(after, "Z")
}

// resident is a process's resident set, in MiB.
func resident(tb testing.TB, pid int) float64 {
	tb.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		tb.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			kib, err := strconv.Atoi(strings.Fields(rest)[0])
			if err != nil {
				tb.Fatal(err)
			}
			return float64(kib) / 1024
		}
	}
	tb.Fatalf("process %d has no VmRSS", pid)
	return 0
}

// A result is how a client's run ended.
type result struct {
	out  string // both outputs
	code int
}

// client runs a program and returns its output and exit code.
func client(tb testing.TB, name string, args ...string) result {
	tb.Helper()
	return clientIn(tb, nil, "", name, args...)
}

func clientIn(tb testing.TB, env []string, stdin, name string, args ...string) result {
	tb.Helper()
	return clientFor(tb, time.Minute, env, stdin, name, args...)
}

// clientFor is for what may take longer.
func clientFor(tb testing.TB, limit time.Duration, env []string, stdin, name string, args ...string) result {
	tb.Helper()
	ctx, cancel := context.WithTimeout(tb.Context(), limit)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = append(os.Environ(), env...)
	if stdin != "" {
		cmd.Stdin = strings.NewReader(stdin) // else /dev/null: ipmipower minds a closed pipe
	}
	out, err := cmd.CombinedOutput()
	if cmd.ProcessState == nil || ctx.Err() != nil {
		tb.Fatalf("%s %v: %v\n%s", name, args, err, out)
	}
	return result{string(out), cmd.ProcessState.ExitCode()}
}

// ipmitool runs ipmitool as admin with cipher suite 17.
func (s *sim) ipmitool(args ...string) result {
	s.tb.Helper()
	return s.ipmitoolAs(s.User, s.IPMIPassword, "17", args...)
}

func (s *sim) ipmitoolAs(user, password, suite string, args ...string) result {
	s.tb.Helper()
	at, port, err := net.SplitHostPort(s.IPMI)
	if err != nil {
		s.tb.Fatal(err)
	}
	return client(s.tb, "ipmitool", append([]string{"-I", "lanplus", "-C", suite, "-H", at, "-p", port, "-U", user, "-P", password}, args...)...)
}

// must fails the test unless the client succeeded, and returns its output.
func (r result) must(tb testing.TB) string {
	tb.Helper()
	if r.code != 0 {
		tb.Fatalf("exit code %d: %s", r.code, r.out)
	}
	return r.out
}

// eventually waits until f answers true.
func eventually(tb testing.TB, what string, limit time.Duration, f func() bool) {
	tb.Helper()
	for end := time.Now().Add(limit); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		if f() {
			return
		}
	}
	tb.Fatalf("not within %v: %s", limit, what)
}

// power waits until chassis power status says so.
func (s *sim) power(want string) {
	s.tb.Helper()
	eventually(s.tb, "power is "+want, 30*time.Second, func() bool {
		return strings.TrimSpace(s.ipmitool("chassis", "power", "status").out) == "Chassis Power is "+want
	})
}

// sshArgs are ssh's arguments for a login with the password.
func (s *sim) sshArgs(extra ...string) []string {
	s.tb.Helper()
	at, port, err := net.SplitHostPort(s.SSH)
	if err != nil {
		s.tb.Fatal(err)
	}
	args := []string{"-F", "none", "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR",
		"-o", "NumberOfPasswordPrompts=1", "-o", "ConnectTimeout=20", "-p", port}
	return append(append(args, extra...), s.User+"@"+at)
}

// askpass makes ssh read a password from a program.
func (s *sim) askpass(password string) []string {
	s.tb.Helper()
	path := filepath.Join(s.tb.TempDir(), "askpass")
	if err := os.WriteFile(path, []byte("#!/bin/sh\nprintf '%s\\n' '"+password+"'\n"), 0o700); err != nil {
		s.tb.Fatal(err)
	}
	return []string{"SSH_ASKPASS=" + path, "SSH_ASKPASS_REQUIRE=force", "DISPLAY=none"}
}

// ssh runs one command on the board.
func (s *sim) ssh(command string) result {
	s.tb.Helper()
	return s.sshIn("", command)
}

func (s *sim) sshIn(stdin, command string) result {
	s.tb.Helper()
	return clientIn(s.tb, s.askpass(s.Password), stdin, "ssh", append(s.sshArgs("-T"), command)...)
}

// do sends one word to the control socket, the hands in front of the machine.
func (s *sim) do(word string) {
	s.tb.Helper()
	// The folder's path may be too long for a unix socket's address.
	dir, err := os.Open(s.dir)
	if err != nil {
		s.tb.Fatal(err)
	}
	defer dir.Close()
	c, err := net.Dial("unix", fmt.Sprintf("/proc/self/fd/%d/control", dir.Fd()))
	if err != nil {
		s.tb.Fatal(err)
	}
	defer c.Close()
	if _, err := io.WriteString(c, word+"\n"); err != nil {
		s.tb.Fatal(err)
	}
	if got, err := bufio.NewReader(c).ReadString('\n'); got != "ok\n" {
		s.tb.Fatalf("%s: %q, %v", word, got, err)
	}
}

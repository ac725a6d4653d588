//go:build e2e

package test

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"fmt"
	"io"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nitrino/nitrino/internal/pty"
)

// TestBmcctlProgress: at a terminal, bmcctl shows how far the import of a volume is.
func TestBmcctlProgress(t *testing.T) {
	s := start(t, "-host", "fake")
	dir := t.TempDir()
	bmcctl, file := filepath.Join(dir, "bmcctl"), filepath.Join(dir, "golden.img")
	client(t, "go", "build", "-o", bmcctl, "../cmds/bmcctl").must(t)
	data := make([]byte, 64<<20)
	if _, err := rand.Read(data); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, data, 0o600); err != nil {
		t.Fatal(err)
	}
	u, err := url.Parse(s.Redfish)
	if err != nil {
		t.Fatal(err)
	}
	c, err := tls.Dial("tcp", u.Host, &tls.Config{InsecureSkipVerify: true}) // it is this test's own
	if err != nil {
		t.Fatal(err)
	}
	fingerprint := fmt.Sprintf("%x", sha256.Sum256(c.ConnectionState().PeerCertificates[0].Raw))
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	// onScreen runs it at a terminal, and answers what a person saw.
	onScreen := func(args ...string) (screen string, code int) {
		t.Helper()
		person, tty, err := pty.Open()
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		cmd := exec.CommandContext(ctx, bmcctl, append([]string{"-H", u.Host, "-u", s.User, "-fingerprint", fingerprint}, args...)...)
		cmd.Env = []string{"XDG_CONFIG_HOME=" + filepath.Join(dir, "home"), "BMCCTL_PASSWORD=" + s.Password, "TERM=vt100"}
		cmd.Stdin, cmd.Stdout, cmd.Stderr = tty, tty, tty
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		if err := tty.Close(); err != nil {
			t.Fatal(err)
		}
		var seen bytes.Buffer
		io.Copy(&seen, person) // the error is the program's end
		cmd.Wait()             // the exit code says it
		if err := person.Close(); err != nil {
			t.Error(err)
		}
		return seen.String(), cmd.ProcessState.ExitCode()
	}

	screen, code := onScreen("volume", "import", "golden", file)
	last, steps := 0, 0
	for _, m := range regexp.MustCompile(`uploading golden\.img[^\r\n]*?(\d+)%`).FindAllStringSubmatch(screen, -1) {
		n, err := strconv.Atoi(m[1])
		if err != nil || n < last || n > 100 {
			t.Errorf("after %d%% it shows %q, %v", last, m[0], err)
		}
		if n > last {
			steps++
		}
		last = n
	}
	if code != 0 || steps < 3 || !strings.HasSuffix(strings.TrimSpace(screen), "\nVolume golden is made") {
		t.Errorf("exit code %d, %d steps, on the screen:\n%q", code, steps, screen)
	}
	if screen, code := onScreen("volume", "import", "golden", file); code != 1 || strings.Contains(screen, "is made") || !strings.Contains(screen, "exists") {
		t.Errorf("a name that is taken: exit code %d, on the screen:\n%q", code, screen)
	}
}

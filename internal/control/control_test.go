package control

import (
	"bufio"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestServer(t *testing.T) {
	// Longer than a socket's address may be.
	path := filepath.Join(t.TempDir(), strings.Repeat("long", 40))
	dir, err := Lock(path, "sim")
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	if err := os.WriteFile(filepath.Join(path, "control"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := Listen(dir, func(line string) (string, error) {
		switch line {
		case "cut":
			return "", nil
		case "line 5":
			return "1", nil
		}
		return "", errors.New("what?")
	}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	conn, err := net.Dial("unix", fmt.Sprintf("/proc/self/fd/%d/control", dir.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	answers := bufio.NewScanner(conn)
	for _, c := range []struct{ line, want string }{{"cut", "ok"}, {"line 5", "ok 1"}, {"", "error: what?"}, {"cut", "ok"}} {
		if _, err := fmt.Fprintln(conn, c.line); err != nil {
			t.Fatal(err)
		}
		if !answers.Scan() || answers.Text() != c.want {
			t.Errorf("%q: got %q (%v), want %q", c.line, answers.Text(), answers.Err(), c.want)
		}
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if answers.Scan() {
		t.Errorf("got %q after Close", answers.Text())
	}
}

func TestLock(t *testing.T) {
	path := t.TempDir()
	first, err := Lock(path, "sim")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Lock(path, "sim"); err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("got %v, want an error that names %s", err, path)
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	second, err := Lock(path, "sim")
	if err != nil {
		t.Fatal(err)
	}
	if err := second.Close(); err != nil {
		t.Error(err)
	}
}

package atomicfile

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// childEnv holds the path that the test binary, run as the child of
// TestKilledWriter, writes to.
const childEnv = "ATOMICFILE_TEST_CHILD"

func TestMain(m *testing.M) {
	if path := os.Getenv(childEnv); path != "" {
		fmt.Fprintln(os.Stderr, writeLoop(path))
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// content is generation n of the file: its number, its length and a body
// whose bytes all depend on n, so that a mixture or a part shows.
func content(n int) []byte {
	body := bytes.Repeat([]byte{byte('a' + n%26)}, 1+(n*7919)%100_000)
	return append(fmt.Appendf(nil, "%d %d\n", n, len(body)), body...)
}

// generation returns which one a file's content is, and an error where it is
// not a whole one.
func generation(data []byte) (int, error) {
	head, _, _ := bytes.Cut(data, []byte("\n"))
	first, _, _ := strings.Cut(string(head), " ")
	n, err := strconv.Atoi(first)
	if err != nil {
		return 0, fmt.Errorf("%d bytes, header %.40q: %w", len(data), head, err)
	}
	if want := content(n); !bytes.Equal(data, want) {
		return 0, fmt.Errorf("generation %d has %d bytes, want %d and all alike", n, len(data), len(want))
	}
	return n, nil
}

// writeLoop writes rising generations and says on standard output which one
// has been written.
func writeLoop(path string) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	n, err := generation(data)
	if err != nil {
		return err
	}
	for {
		n++
		if err := Write(path, content(n), 0o600); err != nil {
			return err
		}
		if _, err := fmt.Println(n); err != nil {
			return err
		}
	}
}

func TestKilledWriter(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "f")
	if err := Write(path, content(0), 0o600); err != nil {
		t.Fatal(err)
	}
	last := 0
	check := func() {
		t.Helper()
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatalf("neither the old nor the new file: %v", err)
		}
		n, err := generation(data)
		if err != nil {
			t.Fatal(err)
		}
		if n < last {
			t.Fatalf("generation %d after %d was seen or acknowledged", n, last)
		}
		last = n
	}
	for range 5 {
		cmd := exec.CommandContext(t.Context(), os.Args[0])
		cmd.Env = append(os.Environ(), childEnv+"="+path)
		cmd.Stderr = os.Stderr
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		acked := make(chan int)
		go func() { // ends with the child, whose end of the pipe closes
			n := 0
			for s := bufio.NewScanner(out); s.Scan(); {
				if v, err := strconv.Atoi(s.Text()); err == nil {
					if n == 0 {
						acked <- v
					}
					n = v
				}
			}
			acked <- n
			close(acked)
		}()
		<-acked // the child is past its start
		for end := time.Now().Add(150 * time.Millisecond); time.Now().Before(end); {
			check()
		}
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		last = max(last, <-acked)
		if err := cmd.Wait(); err == nil || cmd.ProcessState.Exited() {
			t.Fatalf("the child ended by itself: %v", err)
		}
		check()
	}
	if err := Clean(dir); err != nil {
		t.Fatal(err)
	}
	if got := names(t, dir); len(got) != 1 || got[0] != "f" {
		t.Errorf("after Clean the folder holds %q, want only f", got)
	}
	check()
}

func TestWrite(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "f")
	for _, tt := range []struct {
		data string
		perm os.FileMode
	}{
		{"first", 0o600},
		{"", 0o644},
		{"a longer third", 0o600},
		{"short", 0o400},
		{"over a file that is read-only", 0o600},
	} {
		if err := Write(path, []byte(tt.data), tt.perm); err != nil {
			t.Fatalf("Write(%q): %v", tt.data, err)
		}
		got, err := os.ReadFile(path)
		if err != nil || string(got) != tt.data {
			t.Errorf("after Write(%q) the file holds %q, %v", tt.data, got, err)
		}
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode().Perm() != tt.perm {
			t.Errorf("after Write(%q) the mode is %v, want %v", tt.data, info.Mode().Perm(), tt.perm)
		}
		if got := names(t, dir); len(got) != 1 {
			t.Errorf("after Write(%q) the folder holds %q", tt.data, got)
		}
	}
}

func TestWriteFails(t *testing.T) {
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "folder", "full"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "file"), []byte("old"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name, path string
		want       error // nil: any
	}{
		{"no folder", "absent/f", os.ErrNotExist},
		{"a file for a folder", "file/f", nil},
		{"a folder in its place", "folder", nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			before := names(t, dir)
			err := Write(filepath.Join(dir, tt.path), []byte("new"), 0o600)
			if err == nil || tt.want != nil && !errors.Is(err, tt.want) {
				t.Errorf("got error %v, want %v", err, tt.want)
			}
			if err != nil && !strings.Contains(err.Error(), tt.path) {
				t.Errorf("the error %q does not name %s", err, tt.path)
			}
			if err != nil && strings.Contains(err.Error(), tempPrefix) {
				t.Errorf("the error %q names a file that nobody knows", err)
			}
			if after := names(t, dir); !equal(before, after) {
				t.Errorf("the folder held %q, now %q", before, after)
			}
		})
	}
}

func TestWriteReplacesLink(t *testing.T) {
	dir := t.TempDir()
	target, link := filepath.Join(dir, "target"), filepath.Join(dir, "link")
	if err := os.WriteFile(target, []byte("old"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(target, link); err != nil {
		t.Fatal(err)
	}
	if err := Write(link, []byte("new"), 0o600); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{target: "old", link: "new"} {
		if got, err := os.ReadFile(path); err != nil || string(got) != want {
			t.Errorf("%s holds %q, %v, want %q", path, got, err, want)
		}
	}
}

func TestClean(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{".atomicfile-ABC.tmp", ".atomicfile-DEF.tmp", "x.tmp", ".atomicfile-notes", "bmc.json"} {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(filepath.Join(dir, ".atomicfile-folder.tmp"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := Clean(dir); err != nil {
		t.Fatal(err)
	}
	want := []string{".atomicfile-folder.tmp", ".atomicfile-notes", "bmc.json", "x.tmp"}
	if got := names(t, dir); !equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if err := Clean(filepath.Join(dir, "absent")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("Clean of no folder: got %v, want %v", err, os.ErrNotExist)
	}
}

func names(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var list []string
	for _, e := range entries {
		list = append(list, e.Name())
	}
	return list
}

func equal(a, b []string) bool { return strings.Join(a, "\n") == strings.Join(b, "\n") }

//go:build e2e

package test

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// sshPipe is OpenSSH with a command, and with a file or pipe at each end.
func (s *sim) sshPipe(ctx context.Context, in, out *os.File, command string) *exec.Cmd {
	s.tb.Helper()
	cmd := exec.CommandContext(ctx, "ssh", append(s.sshArgs("-T"), command)...)
	cmd.Env = append(os.Environ(), s.askpass(s.Password)...)
	if in != nil { // else /dev/null
		cmd.Stdin = in
	}
	cmd.Stdout, cmd.Stderr = out, &lockedBuffer{}
	return cmd
}

// sshFiles runs a command from a file to a file, and answers what it said on the side.
func (s *sim) sshFiles(from, to, command string) (said string, code int) {
	s.tb.Helper()
	in, err := os.Open(from)
	if err != nil {
		s.tb.Fatal(err)
	}
	defer in.Close() // it was read only
	out, err := os.Create(to)
	if err != nil {
		s.tb.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(s.tb.Context(), time.Minute)
	defer cancel()
	cmd := s.sshPipe(ctx, in, out, command)
	err = cmd.Run()
	if cmd.ProcessState == nil || ctx.Err() != nil {
		s.tb.Fatalf("ssh %s: %v, %v\n%s", command, err, ctx.Err(), cmd.Stderr)
	}
	if err := out.Close(); err != nil {
		s.tb.Fatal(err)
	}
	return fmt.Sprint(cmd.Stderr), cmd.ProcessState.ExitCode()
}

// stored are the files of the board's volumes.
func (s *sim) stored() []string {
	s.tb.Helper()
	var names []string
	err := filepath.WalkDir(filepath.Join(s.dir, "volumes"), func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			names = append(names, path)
		}
		return err
	})
	if err != nil {
		s.tb.Fatal(err)
	}
	return names
}

// diskImages makes an image of data and holes, as raw and as packed qcow2.
func diskImages(t *testing.T) (data []byte, raw, qcow2 string) {
	t.Helper()
	data = make([]byte, 12<<20)
	for _, part := range [][]byte{data[:3<<20], data[8<<20 : 9<<20]} {
		if _, err := rand.Read(part); err != nil {
			t.Fatal(err)
		}
	}
	copy(data[10<<20:], bytes.Repeat([]byte("packs well"), 1<<16))
	dir := t.TempDir()
	raw, qcow2 = filepath.Join(dir, "image.raw"), filepath.Join(dir, "image.qcow2")
	if err := os.WriteFile(raw, data, 0o600); err != nil {
		t.Fatal(err)
	}
	client(t, "qemu-img", "convert", "-c", "-f", "raw", "-O", "qcow2", raw, qcow2).must(t)
	return data, raw, qcow2
}

// TestSSHVolumes: OpenSSH carries volumes in and out by its standard input and output,
// which have nothing but their bytes.
func TestSSHVolumes(t *testing.T) {
	s := start(t, "-host", "fake")
	data, raw, qcow2 := diskImages(t)
	back := filepath.Join(t.TempDir(), "back")
	read := func(path string) []byte {
		t.Helper()
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	for _, path := range []string{raw, qcow2} {
		name := strings.TrimPrefix(filepath.Ext(path), ".")
		if said, code := s.sshFiles(path, back, fmt.Sprintf("volume import %s - --sha256 %x", name, sha256.Sum256(read(path)))); code != 0 || said != "" || len(read(back)) != 0 {
			t.Errorf("import of %s: exit code %d, %q, %q", name, code, read(back), said)
		}
		for _, format := range []string{"raw", "qcow2"} {
			if said, code := s.sshFiles(os.DevNull, back, "volume export "+name+" --format "+format); code != 0 || said != "" {
				t.Errorf("export of %s as %s: exit code %d, %q", name, format, code, said)
			}
			if format == "raw" && sha256.Sum256(read(back)) != sha256.Sum256(data) {
				t.Errorf("%s, exported as raw, is not what was imported", name)
			}
			client(t, "qemu-img", "compare", "-f", "raw", "-F", format, raw, back).must(t)
		}
	}

	before := s.stored()
	half := filepath.Join(t.TempDir(), "half.qcow2")
	packed := read(qcow2)
	if err := os.WriteFile(half, packed[:len(packed)/2], 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, path, command string
		code                int
		want                string // among its errors
	}{
		{"a name that is taken", raw, "volume import raw -", 1, "exist"},
		{"another digest", raw, "volume import new - --sha256 " + strings.Repeat("0", 64), 1, "SHA-256"},
		{"another format", raw, "volume import new - --format qcow2", 1, "qcow2"},
		{"half of it", half, "volume import new -", 1, ""},
		{"nothing", os.DevNull, "volume import new -", 1, ""},
		{"no name", raw, "volume import -", 2, ""},
		{"a bad name", raw, "volume import ../new -", 2, ""},
		{"a volume that is not there", os.DevNull, "volume export new", 1, "new"},
		{"a bad format", os.DevNull, "volume export raw --format vmdk", 2, "qcow2"},
	} {
		if said, code := s.sshFiles(c.path, back, c.command); code != c.code || len(read(back)) != 0 || said == "" || !strings.Contains(said, c.want) {
			t.Errorf("%s: exit code %d, %q, %.100q, want %d, %q, and nothing", c.name, code, said, read(back), c.code, c.want)
		}
	}
	s.sshIn("guest-password\n", "users add guest ReadOnly").must(t)
	guest := *s
	guest.User, guest.Password = "guest", "guest-password"
	for _, command := range []string{"volume import new -", "volume export raw"} {
		if got := guest.sshIn("data", command); got.code != 5 {
			t.Errorf("guest, %s: exit code %d, %q, want 5", command, got.code, got.out)
		}
	}
	if after := s.stored(); !slices.Equal(after, before) {
		t.Errorf("what failed left files: %v, before it were %v", after, before)
	}
}

// TestSSHVolumesCutOff: an import whose client dies in the middle leaves nothing, and an
// export whose client does is in nobody's way.
func TestSSHVolumesCutOff(t *testing.T) {
	s := start(t, "-host", "fake")
	data, raw, qcow2 := diskImages(t)
	if said, code := s.sshFiles(raw, os.DevNull, "volume import there -"); code != 0 {
		t.Fatalf("import: exit code %d, %s", code, said)
	}
	before := s.stored()
	packed, err := os.ReadFile(qcow2)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, command string
		feed          []byte // to its standard input
		begun         func(out *os.File) bool
	}{
		{"import of raw", "volume import new -", data[:len(data)/2], func(*os.File) bool { return len(s.stored()) > len(before) }},
		{"import of qcow2", "volume import new -", packed[:len(packed)/2], func(*os.File) bool { return len(s.stored()) > len(before) }},
		{"export", "volume export there", nil, func(out *os.File) bool {
			_, err := io.ReadFull(out, make([]byte, 64<<10))
			return err == nil
		}},
	} {
		in, feed, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		out, to, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		ssh := s.sshPipe(t.Context(), in, to, c.command)
		if err := ssh.Start(); err != nil {
			t.Fatal(err)
		}
		if _, err := feed.Write(c.feed); err != nil {
			t.Fatal(err)
		}
		eventually(t, c.name, 10*time.Second, func() bool { return c.begun(out) })
		if err := ssh.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		ssh.Wait() // its error is the kill
		if err := errors.Join(in.Close(), feed.Close(), out.Close(), to.Close()); err != nil {
			t.Error(err)
		}
		eventually(t, "nothing to be left of the "+c.name, 20*time.Second, func() bool { return slices.Equal(s.stored(), before) })
	}
	if got := s.ssh("volume list").must(t); strings.Contains(got, "new") {
		t.Errorf("there is a volume of an import that was cut off: %s", got)
	}
	eventually(t, "the end of the export", 20*time.Second, func() bool { return s.ssh("volume delete there").code == 0 })
}

//go:build e2e

package kernel_test

import (
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/nitrino/nitrino/image/initramfs"
	"github.com/nitrino/nitrino/image/kernel"
)

// rsts is the address of PM_RSTS on a Pi 3, and 0x1000 in it, which is not ours,
// says that the power was cut last.
const (
	rsts    = "0x3f100020"
	powered = 0x1000
)

// TestRestartPartition restarts an emulated Pi 3 in each way and looks at what is
// left for its firmware to read.
func TestRestartPartition(t *testing.T) {
	folder, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	k, err := kernel.Build(t.Context(), kernel.Options{Cache: filepath.Join(folder, "nitrino"), Progress: t.Output()})
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	image, initrd := filepath.Join(dir, "Image"), filepath.Join(dir, "initrd")
	unpack(t, k.Image, image)
	writeInitrd(t, dir, initrd)
	var dtb string
	for _, path := range k.DTBs {
		if filepath.Base(path) == "bcm2837-rpi-3-b.dtb" {
			dtb = path
		}
	}
	for _, tt := range []struct {
		argument string
		want     uint32
	}{
		{"panic", powered | 0b101}, // partition 3 of the command line
		{"2", powered | 0b100},
		{"62", powered | 0b10101010100},
		{"63", powered}, // would halt the board
		{"0 tryboot", powered},
		{"tryboot", powered},
	} {
		t.Run(tt.argument, func(t *testing.T) {
			got := restart(t, image, initrd, dtb, tt.argument)
			if got != tt.want {
				t.Errorf("PM_RSTS is %#x, want %#x", got, tt.want)
			}
		})
	}
}

// restart boots, has the guest restart itself and answers PM_RSTS.
func restart(t *testing.T, image, initrd, dtb, argument string) uint32 {
	t.Helper()
	ends, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	ours, theirs := os.NewFile(uintptr(ends[0]), "qmp"), os.NewFile(uintptr(ends[1]), "qmp")
	log := filepath.Join(t.TempDir(), "serial")
	cmd := exec.CommandContext(t.Context(), "qemu-system-aarch64", "-M", "raspi3b", "-nodefaults", "-display", "none",
		"-serial", "file:"+log, "-action", "reboot=shutdown,shutdown=pause",
		"-chardev", "socket,id=qmp,fd=3", "-mon", "chardev=qmp,mode=control",
		"-kernel", image, "-initrd", initrd, "-dtb", dtb,
		"-append", "console=ttyAMA0,115200 quiet panic=-1 bcm2835_wdt.panic_partition=3 -- "+argument)
	cmd.ExtraFiles = []*os.File{theirs}
	cmd.Stderr = t.Output()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		// It is killed: what it says to that is not of interest.
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if text, err := os.ReadFile(log); t.Failed() && err == nil {
			t.Logf("%s", text)
		}
	}()
	if err := theirs.Close(); err != nil {
		t.Fatal(err)
	}
	conn, err := net.FileConn(ours)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(4 * time.Minute)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(conn, `{"execute":"qmp_capabilities"}`+"\n"); err != nil {
		t.Fatal(err)
	}
	messages := json.NewDecoder(conn)
	for {
		var m struct {
			Event  string
			Return json.RawMessage
		}
		if err := messages.Decode(&m); err != nil {
			t.Fatal(err)
		}
		if m.Event == "SHUTDOWN" {
			ask := fmt.Sprintf(`{"execute":"human-monitor-command","arguments":{"command-line":"xp /1wx %s"}}`+"\n", rsts)
			if _, err := io.WriteString(conn, ask); err != nil {
				t.Fatal(err)
			}
		}
		var text string
		if json.Unmarshal(m.Return, &text) != nil {
			continue // the answer to qmp_capabilities is {}, an event has none
		}
		_, digits, _ := strings.Cut(text, ": ")
		var value uint32
		if _, err := fmt.Sscanf(digits, "0x%x", &value); err != nil {
			t.Fatalf("QEMU says %q: %v", text, err)
		}
		return value
	}
}

func unpack(t *testing.T, from, to string) {
	t.Helper()
	packed, err := os.Open(from)
	if err != nil {
		t.Fatal(err)
	}
	defer packed.Close()
	r, err := gzip.NewReader(packed)
	if err != nil {
		t.Fatal(err)
	}
	image, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(to, image, 0o644); err != nil {
		t.Fatal(err)
	}
}

// writeInitrd builds testdata/restart as the only file of an initramfs.
func writeInitrd(t *testing.T, dir, to string) {
	t.Helper()
	build := exec.CommandContext(t.Context(), "go", "build", "-trimpath", "-ldflags=-s -w", "-o", filepath.Join(dir, "init"), "./testdata/restart")
	build.Env = append(os.Environ(), "GOOS=linux", "GOARCH=arm64", "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	data, err := os.ReadFile(filepath.Join(dir, "init"))
	if err != nil {
		t.Fatal(err)
	}
	archive, err := initramfs.Archive([]initramfs.File{{Name: "init", Mode: 0o755, Data: data}})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(to, archive, 0o644); err != nil {
		t.Fatal(err)
	}
}

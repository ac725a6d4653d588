//go:build e2e

package nbd

import (
	"bytes"
	"os/exec"
	"strings"
	"testing"
)

func run(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %q: %v: %s", name, args, err, out)
	}
	return string(out)
}

// QEMU's own client reads, writes, trims and copies.
func TestQEMU(t *testing.T) {
	m := &memory{data: make([]byte, 8<<20)}
	address, _ := serve(t, Export{Name: "disk", Device: trimmed{m}})
	url := "nbd+unix:///disk?socket=" + address
	if got := run(t, "qemu-img", "info", url); !strings.Contains(got, "virtual size: 8 MiB") {
		t.Errorf("qemu-img info: got %s", got)
	}
	got := run(t, "qemu-io", "-f", "raw",
		"-c", "write -P 0x5a 1M 3M", "-c", "write -f -P 0x11 512 512", "-c", "read -P 0x5a 1M 3M", "-c", "read -P 0 5M 1M",
		"-c", "write -z 2M 1M", "-c", "discard 3M 512k", "-c", "flush",
		"-c", "read -P 0 2M 1M", "-c", "aio_read -P 0x5a 1M 1M", "-c", "aio_read -P 0x11 512 512", "-c", "aio_flush", url)
	if strings.Contains(got, "rror") || strings.Contains(got, "failed") {
		t.Errorf("qemu-io: %s", got)
	}
	if m.data[512] != 0x11 || m.data[1<<20] != 0x5a || m.data[2<<20] != 0 || m.flushes == 0 {
		t.Errorf("the device has %x %x %x, %d flushes", m.data[512], m.data[1<<20], m.data[2<<20], m.flushes)
	}

	for i := range m.data {
		m.data[i] = byte(i * i >> 7)
	}
	copied := &memory{data: make([]byte, len(m.data))}
	to, _ := serve(t, Export{Device: copied})
	run(t, "qemu-img", "convert", "-n", "-f", "raw", "-O", "raw", url, "nbd+unix:///?socket="+to)
	if !bytes.Equal(m.data, copied.data) {
		t.Error("qemu-img convert: the copy differs")
	}
	fixed, _ := serve(t, Export{Device: m, ReadOnly: true})
	out, err := exec.CommandContext(t.Context(), "qemu-io", "-f", "raw", "-c", "write 0 512", "nbd+unix:///?socket="+fixed).CombinedOutput()
	if err == nil {
		t.Errorf("read-only: written: %s", out)
	}
	run(t, "qemu-io", "-r", "-f", "raw", "-c", "read 0 512", "nbd+unix:///?socket="+fixed)
}

//go:build e2e

package flash

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/nitrino/nitrino/internal/progress"
)

// These need root: they write to loop devices of their own.

// loop makes a block device of a file of so many bytes, filled with noise.
func loop(t *testing.T, size int64, flags ...string) (device, file string) {
	t.Helper()
	file = filepath.Join(t.TempDir(), "disk")
	put(t, file, string(noise(size, 1)))
	out, err := exec.Command("/sbin/losetup", append(append([]string{"--show", "-f"}, flags...), file)...).CombinedOutput()
	if err != nil {
		t.Fatalf("losetup: %v: %s", err, out)
	}
	device = strings.TrimSpace(string(out))
	t.Cleanup(func() {
		if out, err := exec.Command("/sbin/losetup", "-d", device).CombinedOutput(); err != nil {
			t.Errorf("losetup -d: %v: %s", err, out)
		}
	})
	return device, file
}

func noise(n int64, seed byte) []byte {
	b := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{seed}).Read(b) // never fails
	return b
}

// pretend is a system that takes the loop device for a disk on USB, and knows
// else what the real one does.
func pretend(t *testing.T, device string, size int64) (s System, disk string) {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Stat(device, &st); err != nil {
		t.Fatal(err)
	}
	s, disk, _ = machine(t, "usb1/1-1", "sdb", uint64(st.Rdev))
	put(t, disk+"/size", strconv.FormatInt(size/512, 10))
	s.Proc = Live().Proc
	return s, disk
}

// picture is an image with noise and holes, not of whole chunks.
func picture(t *testing.T) (*os.File, []byte) {
	t.Helper()
	data := make([]byte, 9*chunk+3*512)
	copy(data, noise(600, 2))
	copy(data[2*chunk+100:], noise(chunk, 3))
	copy(data[8*chunk:], noise(chunk+512, 4))
	path := filepath.Join(t.TempDir(), "image")
	put(t, path, string(data))
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	})
	return f, data
}

func TestWriteDevice(t *testing.T) {
	const size = 16 * chunk
	device, file := loop(t, size)
	image, want := picture(t)
	s, _ := pretend(t, device, size)
	if err := s.Write(t.Context(), device, image, t.Output()); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got[:len(want)], want) {
		t.Error("the device does not hold the image")
	}
	if !bytes.Equal(got[len(want):], noise(size, 1)[len(want):]) {
		t.Error("what is behind the image was changed")
	}

	d, err := s.Find(device, int64(len(want)))
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(want[1:])
	if err := verify(t.Context(), d, int64(len(want)), sum[:], progress.Start(t.Output(), "verifying", 0, "B")); !errors.Is(err, errDiffers) {
		t.Errorf("another hash: got %v, want %v", err, errDiffers)
	}
}

func TestWriteDeviceRefuses(t *testing.T) {
	const size = 16 * chunk
	for _, tt := range []struct {
		name  string
		flags []string
		size  int64
		use   func(t *testing.T, device, disk string)
		want  error
	}{
		{"too small", nil, 9 * chunk, nil, ErrTooSmall},
		{"mounted", nil, size, func(t *testing.T, device, _ string) {
			if out, err := exec.Command("/sbin/mkfs.ext4", "-q", device).CombinedOutput(); err != nil {
				t.Fatalf("mkfs: %v: %s", err, out)
			}
			at := t.TempDir()
			if err := unix.Mount(device, at, "ext4", unix.MS_RDONLY, ""); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() {
				if err := unix.Unmount(at, 0); err != nil {
					t.Error(err)
				}
			})
		}, ErrInUse},
		{"held by another program", nil, size, func(t *testing.T, device, _ string) {
			f, err := os.OpenFile(device, os.O_RDONLY|os.O_EXCL, 0)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() {
				if err := f.Close(); err != nil {
					t.Error(err)
				}
			})
		}, ErrInUse},
		{"read-only", []string{"-r"}, size, func(t *testing.T, _, disk string) { put(t, disk+"/ro", "1") }, ErrReadOnly},
	} {
		t.Run(tt.name, func(t *testing.T) {
			device, file := loop(t, tt.size, tt.flags...)
			image, _ := picture(t)
			s, disk := pretend(t, device, tt.size)
			if tt.use != nil {
				tt.use(t, device, disk)
			}
			before, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if err := s.Write(t.Context(), device, image, t.Output()); !errors.Is(err, tt.want) {
				t.Errorf("got %v, want %v", err, tt.want)
			}
			if after, err := os.ReadFile(file); err != nil || !bytes.Equal(before, after) {
				t.Errorf("the device was changed (%v)", err)
			}
		})
	}
}

// TestLive has the real sysfs refuse a loop device.
func TestLive(t *testing.T) {
	device, file := loop(t, 16*chunk)
	image, _ := picture(t)
	if err := Live().Write(t.Context(), device, image, t.Output()); !errors.Is(err, ErrNotRemovable) {
		t.Errorf("got %v, want %v", err, ErrNotRemovable)
	}
	if got, err := os.ReadFile(file); err != nil || !bytes.Equal(got, noise(16*chunk, 1)) {
		t.Errorf("the device was changed (%v)", err)
	}
}

// TestBroken stops half-way: the device has no partition table then, neither the
// old one nor the new.
func TestBroken(t *testing.T) {
	const size = 16 * chunk
	device, file := loop(t, size)
	image, _ := picture(t)
	s, _ := pretend(t, device, size)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Write(ctx, device, image, t.Output()); !errors.Is(err, context.Canceled) {
		t.Fatalf("got %v, want %v", err, context.Canceled)
	}
	got, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got[:chunk], make([]byte, chunk)) {
		t.Error("there is a partition table")
	}
}

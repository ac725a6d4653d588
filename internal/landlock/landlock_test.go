package landlock

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"
)

// TestRestrict restricts one thread, which ends with its goroutine.
func TestRestrict(t *testing.T) {
	allowed, other := t.TempDir(), filepath.Join(t.TempDir(), "other")
	readable := t.TempDir()
	known := filepath.Join(readable, "resolv.conf")
	if err := os.WriteFile(known, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(other, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // never unlocked: the thread is thrown away
		err := restrict(allowed, []string{readable}, func(trap, a, b, c, d, e uintptr) error {
			_, _, errno := syscall.Syscall6(trap, a, b, c, d, e, 0)
			return asError(errno)
		})
		if errors.Is(err, errors.ErrUnsupported) {
			t.Logf("this kernel cannot show more: %v", err)
			return
		}
		if err != nil {
			t.Error(err)
			return
		}
		if _, err := os.ReadFile(other); !errors.Is(err, fs.ErrPermission) {
			t.Errorf("reading a file elsewhere: got %v, want %v", err, fs.ErrPermission)
		}
		if err := os.WriteFile(other, []byte("y"), 0o600); !errors.Is(err, fs.ErrPermission) {
			t.Errorf("writing a file elsewhere: got %v, want %v", err, fs.ErrPermission)
		}
		if _, err := os.ReadFile(known); err != nil {
			t.Errorf("reading what may be read: %v", err)
		}
		if err := os.WriteFile(known, []byte("y"), 0o600); !errors.Is(err, fs.ErrPermission) {
			t.Errorf("writing what may be read: got %v, want %v", err, fs.ErrPermission)
		}
		if err := os.WriteFile(known+".new", []byte("y"), 0o600); !errors.Is(err, fs.ErrPermission) {
			t.Errorf("a new file where there may be read: got %v, want %v", err, fs.ErrPermission)
		}
		inside := filepath.Join(allowed, "volume")
		if err := os.WriteFile(inside, []byte("z"), 0o600); err != nil {
			t.Errorf("writing below the folder: %v", err)
		}
		if err := os.Truncate(inside, 4096); err != nil {
			t.Errorf("truncating below the folder: %v", err)
		}
		if err := os.Mkdir(filepath.Join(allowed, "folder"), 0o700); err != nil {
			t.Errorf("a folder below the folder: %v", err)
		}
	}()
	<-done
}

func TestAccessRights(t *testing.T) {
	for version, want := range map[int]uint64{1: 1<<13 - 1, 2: 1<<14 - 1, 3: 1<<15 - 1, 4: 1<<15 - 1, 5: 1<<16 - 1, 9: 1<<16 - 1} {
		if got := accessRights(version); got != want {
			t.Errorf("version %d: got %#x, want %#x", version, got, want)
		}
	}
}

func TestNoFolder(t *testing.T) {
	err := restrict(filepath.Join(t.TempDir(), "none"), nil, func(_, _, _, _, _, _ uintptr) error {
		t.Error("restricted although the folder is not there")
		return nil
	})
	if err == nil {
		t.Error("got success, want an error")
	}
}

package i2c

import (
	"errors"
	"testing"

	"golang.org/x/sys/unix"
)

// blocked says whether the thread takes SIGURG.
func blocked(t *testing.T) bool {
	t.Helper()
	var now unix.Sigset_t
	if err := unix.PthreadSigmask(unix.SIG_BLOCK, nil, &now); err != nil {
		t.Fatal(err)
	}
	return now.Val[0]&(1<<(unix.SIGURG-1)) != 0
}

func TestUndisturbed(t *testing.T) {
	want := errors.New("of the call")
	err := Undisturbed(func() error {
		if !blocked(t) {
			t.Error("the thread takes SIGURG")
		}
		// One that comes waits until the call is over.
		if err := unix.Tgkill(unix.Getpid(), unix.Gettid(), unix.SIGURG); err != nil {
			t.Error(err)
		}
		return want
	})
	if !errors.Is(err, want) {
		t.Errorf("got %v", err)
	}
	if blocked(t) {
		t.Error("the thread takes no SIGURG any more")
	}
}

package i2c

import (
	"errors"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// Undisturbed runs what makes the kernel use a bus, on a thread that Go's runtime
// does not signal meanwhile. It sends SIGURG to a thread that is in a system call
// for more than 10 ms. Linux 6.12's virtio driver takes any signal for the end of the
// transfer: it fails, and what the chip then answers goes to memory that the driver
// has given back.
func Undisturbed(do func() error) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var urgent, before unix.Sigset_t
	// Bit n-1 of the set is signal n; SIGURG is in the first word, whose size is
	// the machine's.
	urgent.Val[0] = 1 << (unix.SIGURG - 1)
	if err := unix.PthreadSigmask(unix.SIG_BLOCK, &urgent, &before); err != nil {
		return os.NewSyscallError("rt_sigprocmask", err)
	}
	err := do()
	return errors.Join(err, os.NewSyscallError("rt_sigprocmask", unix.PthreadSigmask(unix.SIG_SETMASK, &before, nil)))
}

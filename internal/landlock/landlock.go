// Package landlock gives up, for the rest of the process's life, all access to
// files but those below one folder, and reading a few others (landlock(7)). What is
// open already stays open.
package landlock

import (
	"errors"
	"fmt"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Restrict leaves the process the files below dir, and reading those below the
// folders readable, all its threads included. It fails with errors.ErrUnsupported
// where the kernel has no Landlock; nothing has changed then.
func Restrict(dir string, readable ...string) error {
	// A rule set counts for one thread; the Go runtime makes the call on all.
	return restrict(dir, readable, func(trap, a, b, c, d, e uintptr) error {
		_, _, errno := syscall.AllThreadsSyscall6(trap, a, b, c, d, e, 0)
		return asError(errno)
	})
}

// restrict makes the rule set and lets call put it into force.
func restrict(dir string, readable []string, call func(trap, a, b, c, d, e uintptr) error) error {
	version, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, unix.LANDLOCK_CREATE_RULESET_VERSION)
	if errno == unix.ENOSYS || errno == unix.EOPNOTSUPP {
		return fmt.Errorf("landlock: the kernel has none: %w", errors.ErrUnsupported)
	}
	if errno != 0 {
		return fmt.Errorf("landlock: %w", errno)
	}
	rights := accessRights(int(version))
	// The first field alone is the structure's size of version 1, which every
	// kernel takes; the network is not restricted.
	rules := unix.LandlockRulesetAttr{Handled_access_fs: rights}
	fd, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, uintptr(unsafe.Pointer(&rules)), unsafe.Sizeof(rules.Handled_access_fs), 0)
	if errno != 0 {
		return fmt.Errorf("landlock: rule set: %w", errno)
	}
	err := allow(int(fd), dir, rights)
	for _, folder := range readable {
		err = errors.Join(err, allow(int(fd), folder, unix.LANDLOCK_ACCESS_FS_READ_FILE|unix.LANDLOCK_ACCESS_FS_READ_DIR))
	}
	if err == nil {
		// Without this, restricting needs CAP_SYS_ADMIN.
		err = call(unix.SYS_PRCTL, unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
	}
	if err == nil {
		err = call(unix.SYS_LANDLOCK_RESTRICT_SELF, fd, 0, 0, 0, 0)
	}
	if err := errors.Join(err, unix.Close(int(fd))); err != nil {
		return fmt.Errorf("landlock: %w", err)
	}
	return nil
}

// accessRights are all that a version of Landlock knows of files: what a rule
// set does not name stays allowed.
func accessRights(version int) uint64 {
	rights := uint64(unix.LANDLOCK_ACCESS_FS_MAKE_SYM)<<1 - 1 // version 1
	if version >= 2 {
		rights |= unix.LANDLOCK_ACCESS_FS_REFER
	}
	if version >= 3 {
		rights |= unix.LANDLOCK_ACCESS_FS_TRUNCATE
	}
	if version >= 5 {
		rights |= unix.LANDLOCK_ACCESS_FS_IOCTL_DEV
	}
	return rights
}

// allow adds the rule that these rights are had of all below dir.
func allow(rules int, dir string, rights uint64) error {
	fd, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("%s: %w", dir, err)
	}
	rule := unix.LandlockPathBeneathAttr{Allowed_access: rights, Parent_fd: int32(fd)}
	_, _, errno := unix.Syscall6(unix.SYS_LANDLOCK_ADD_RULE, uintptr(rules), unix.LANDLOCK_RULE_PATH_BENEATH, uintptr(unsafe.Pointer(&rule)), 0, 0, 0)
	return errors.Join(asError(errno), unix.Close(fd))
}

func asError(errno syscall.Errno) error {
	if errno == 0 {
		return nil
	}
	return errno
}

package main

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// restart is LINUX_REBOOT_CMD_RESTART2, which package unix has no call for.
func restart(argument *byte) error {
	_, _, errno := unix.Syscall6(unix.SYS_REBOOT, unix.LINUX_REBOOT_MAGIC1, unix.LINUX_REBOOT_MAGIC2,
		unix.LINUX_REBOOT_CMD_RESTART2, uintptr(unsafe.Pointer(argument)), 0, 0)
	return errno
}

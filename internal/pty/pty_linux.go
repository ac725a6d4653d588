// Package pty makes pseudo terminals, for tests of programs that want one.
package pty

import (
	"errors"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// Open makes a pseudo terminal that passes all bytes as they are (pts(4)): pty
// is the person's end, tty the program's. The caller closes both.
func Open() (pty, tty *os.File, err error) {
	if pty, err = os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0); err != nil {
		return nil, nil, err
	}
	var n int
	if err = unix.IoctlSetPointerInt(int(pty.Fd()), unix.TIOCSPTLCK, 0); err == nil {
		n, err = unix.IoctlGetInt(int(pty.Fd()), unix.TIOCGPTN)
	}
	if err == nil {
		tty, err = os.OpenFile("/dev/pts/"+strconv.Itoa(n), os.O_RDWR|unix.O_NOCTTY, 0)
	}
	if err != nil {
		return nil, nil, errors.Join(err, pty.Close())
	}
	mode, err := unix.IoctlGetTermios(int(tty.Fd()), unix.TCGETS)
	if err == nil {
		mode.Iflag, mode.Oflag = 0, 0
		mode.Lflag &^= unix.ECHO | unix.ICANON | unix.ISIG | unix.IEXTEN
		err = unix.IoctlSetTermios(int(tty.Fd()), unix.TCSETS, mode)
	}
	if err != nil {
		return nil, nil, errors.Join(err, pty.Close(), tty.Close())
	}
	return pty, tty, nil
}

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// uevents is the kernel's socket that tells of devices that come and go.
type uevents struct {
	f *os.File
}

// openUevents hears all that comes from now on.
func openUevents() (*uevents, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_KOBJECT_UEVENT)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: 1}); err != nil {
		return nil, errors.Join(os.NewSyscallError("bind", err), unix.Close(fd))
	}
	return &uevents{os.NewFile(uintptr(fd), "uevents")}, nil
}

// Close ends it.
func (u *uevents) Close() error { return u.f.Close() }

// await calls there until it answers nil, now and after each device that came,
// for so long; then it answers there's error.
func (u *uevents) await(ctx context.Context, limit time.Duration, there func() error) error {
	if err := u.f.SetReadDeadline(time.Now().Add(limit)); err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() {
		u.f.SetReadDeadline(time.Now()) // it was set a moment ago; what could fail has not
	})
	defer stop()
	event := make([]byte, 8<<10)
	for {
		why := there()
		if why == nil {
			return nil
		}
		_, err := u.f.Read(event)
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
			return errors.Join(why, ctx.Err())
		case errors.Is(err, unix.ENOBUFS): // some were lost: look again
		case err != nil:
			return fmt.Errorf("uevents: %w", err)
		}
	}
}

package sim

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/nitrino/nitrino/host"
	"github.com/nitrino/nitrino/internal/qmp"
)

// Files in QEMUConfig.Dir, and ids of QEMU's devices.
const (
	qmpSocket    = "qmp.sock"
	serialSocket = "serial.sock"
	pidFile      = "qemu.pid"
	logFile      = "qemu.log"
	cdSocket     = "cd.sock"
	usbSocket    = "usb.sock"

	serialID = "com1"
	diskID   = "hd0"
	cdID     = "cd0"
	usbID    = "usb0"
	usbBus   = "usb"
	nicID    = "nic0"
)

// complete fills the defaults in and looks for the emulator.
func (c QEMUConfig) complete() (QEMUConfig, error) {
	if c.Dir == "" {
		return c, errors.New("QEMU: Dir is not set")
	}
	if c.Machine == "" {
		c.Machine = "pc"
	}
	if c.Machine != "pc" && c.Machine != "q35" {
		return c, fmt.Errorf("QEMU machine %q: want pc or q35", c.Machine)
	}
	if c.Accel == "" {
		c.Accel = "tcg"
	}
	if c.Accel != "tcg" && c.Accel != "kvm" {
		return c, fmt.Errorf("QEMU accelerator %q: want tcg or kvm", c.Accel)
	}
	if c.Memory == 0 {
		c.Memory = 128
	}
	if c.Netdev == "" {
		c.Netdev = "user,restrict=on"
	}
	if c.Disk != "" && c.DiskFormat == "" {
		c.DiskFormat = "raw"
	}
	if c.Binary == "" {
		c.Binary = "qemu-system-x86_64"
	}
	path, err := exec.LookPath(c.Binary)
	if err != nil {
		return c, fmt.Errorf("the emulator is missing (Debian package qemu-system-x86): %w", err)
	}
	c.Binary = path
	for _, p := range []*string{&c.Dir, &c.Disk} {
		if *p != "" {
			if *p, err = filepath.Abs(*p); err != nil {
				return c, err
			}
		}
	}
	return c, nil
}

// writeDemoDisk makes the demo disk, unless it is there: the guest may have
// written to it.
func writeDemoDisk(path string) error {
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	disk := make([]byte, 1<<20)
	copy(disk, demoSector())
	if err := os.WriteFile(path+".new", disk, 0o600); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

// hardware is the machine that args start.
func (c QEMUConfig) hardware() *host.Hardware {
	h := &host.Hardware{
		Manufacturer: "QEMU", Model: "Standard PC (i440FX + PIIX, 1996)", // SMBIOS type 1
		ProcessorCount: 1, CoreCount: 1, ThreadCount: 1, MemoryBytes: int64(c.Memory) << 20,
	}
	if c.Machine == "q35" {
		h.Model = "Standard PC (Q35 + ICH9, 2009)"
	}
	return h
}

// bootOrder lists the devices' ids in the order in which t boots them.
func bootOrder(t host.BootTarget) []string {
	first := map[host.BootTarget]string{host.BootPXE: nicID, host.BootCD: cdID, host.BootUSB: usbID}[t]
	if first == "" {
		first = diskID
	}
	order := []string{first}
	for _, id := range []string{diskID, cdID, usbID, nicID} {
		if id != first {
			order = append(order, id)
		}
	}
	return order
}

// args are QEMU's arguments. The sockets are inherited as descriptors 3 (QMP)
// and 4 (serial).
func (q *QEMU) args(t host.BootTarget) ([]string, error) {
	// As JSON, so that no character of the path has a meaning.
	disk, err := json.Marshal(map[string]any{
		"node-name": diskID + "-image", "driver": q.cfg.DiskFormat,
		"file": map[string]any{"driver": "file", "filename": q.cfg.Disk},
	})
	if err != nil {
		return nil, err
	}
	accel := q.cfg.Accel
	if accel == "tcg" {
		accel = "tcg,thread=multi"
	}
	order := bootOrder(t)
	device := func(id, what string) string {
		return fmt.Sprintf("%s,id=%s,bootindex=%d", what, id, slices.Index(order, id))
	}
	return append([]string{
		"-nodefaults", "-no-user-config", "-name", "nitrino-host",
		// graphics=off makes SeaBIOS write to the serial port, beside the VGA.
		"-machine", q.cfg.Machine + ",graphics=off",
		"-accel", accel, "-cpu", "max", "-smp", "1", "-m", strconv.Itoa(q.cfg.Memory),
		"-display", "none", "-vga", "std",
		"-pidfile", filepath.Join(q.cfg.Dir, pidFile),
		"-chardev", "socket,id=qmp,fd=3,server=on,wait=off", "-mon", "chardev=qmp,mode=control",
		"-chardev", "socket,id=" + serialID + ",fd=4,server=on,wait=off", "-serial", "chardev:" + serialID,
		"-blockdev", string(disk), "-device", device(diskID, "virtio-blk-pci,drive="+diskID+"-image"),
		"-device", device(cdID, "ide-cd,bus=ide.1"),
		"-device", "qemu-xhci,id=" + usbBus, // for what is plugged in later
		"-netdev", q.cfg.Netdev + ",id=net0", "-device", device(nicID, "virtio-net-pci,netdev=net0"),
		"-boot", "strict=on",
		"-S", // until the console is connected, so that none of its bytes is lost
	}, q.cfg.Args...), nil
}

// A process is one QEMU and the connections to it.
type process struct {
	cmd    *exec.Cmd   // nil for one that was taken over
	os     *os.Process // a pidfd: never another process that got the pid
	qmp    *qmp.Client
	serial net.Conn
	cut    atomic.Bool   // it was told to end: however it does, it is right
	gone   chan struct{} // closed when it has ended and is forgotten
	once   sync.Once
}

func (p *process) signal(s os.Signal) error {
	err := p.os.Signal(s)
	if errors.Is(err, os.ErrProcessDone) {
		return nil
	}
	return err
}

func (p *process) disconnect() {
	p.once.Do(func() {
		p.qmp.Close()
		_ = p.serial.Close() // nothing is kept for it: no error matters
	})
}

// reap waits until the process, whose QMP connection has ended, is gone; if
// that takes too long it is killed.
func (p *process) reap() error {
	late := make(chan struct{})
	var killed error
	timer := time.AfterFunc(2*time.Second, func() {
		killed = p.signal(syscall.SIGKILL)
		close(late)
	})
	err := p.await()
	if !timer.Stop() {
		<-late
		err = errors.Join(errors.New("QEMU gave up QMP and had to be killed"), killed)
	}
	return err
}

// await waits for the end of the process, forever.
func (p *process) await() error {
	if p.cmd != nil {
		return p.cmd.Wait()
	}
	for alive(p.os.Pid) {
		if err := p.os.Signal(syscall.Signal(0)); errors.Is(err, os.ErrProcessDone) {
			return nil
		}
		time.Sleep(10 * time.Millisecond)
	}
	return nil
}

// alive reports whether a process has the pid and has not ended: one that
// nobody reaps (state Z) is dead (proc(5), /proc/pid/stat).
func alive(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false
	}
	_, after, _ := bytes.Cut(stat[max(0, bytes.LastIndexByte(stat, ')')):], []byte(") "))
	return len(after) > 0 && after[0] != 'Z' && after[0] != 'X'
}

// socketPath is a path to a file in Dir that is short whatever Dir is: a
// socket's address has room for 107 bytes only (unix(7)).
func (q *QEMU) socketPath(name string) string {
	return fmt.Sprintf("/proc/self/fd/%d/%s", q.dir.Fd(), name)
}

func (q *QEMU) dial(name string) (net.Conn, error) {
	return net.Dial("unix", q.socketPath(name))
}

// listen makes a socket in Dir for QEMU to inherit. It listens before QEMU
// runs, so connecting needs no retries.
func (q *QEMU) listen(name string) (*os.File, error) {
	if err := q.remove(name); err != nil {
		return nil, err
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Net: "unix", Name: q.socketPath(name)})
	if err != nil {
		return nil, err
	}
	l.SetUnlinkOnClose(false)
	err = os.Chmod(q.socketPath(name), 0o600) // who reaches QMP can run programs as us
	if err != nil {
		return nil, errors.Join(err, l.Close())
	}
	f, err := l.File()
	return f, errors.Join(err, l.Close())
}

func (q *QEMU) remove(name string) error {
	err := os.Remove(filepath.Join(q.cfg.Dir, name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// clean removes what a QEMU that is gone left behind.
func (q *QEMU) clean() {
	for _, name := range []string{qmpSocket, serialSocket, pidFile} {
		if err := q.remove(name); err != nil {
			q.log.Warn("cleaning up after QEMU", "error", err)
		}
	}
}

// launch starts QEMU, stopped before its first instruction.
func (q *QEMU) launch(ctx context.Context, t host.BootTarget) (*process, error) {
	args, err := q.args(t)
	if err != nil {
		return nil, err
	}
	var files []*os.File
	defer func() {
		for _, f := range files {
			_ = f.Close() // QEMU has its own copy of each, or does not run
		}
	}()
	for _, name := range []string{qmpSocket, serialSocket} {
		f, err := q.listen(name)
		if err != nil {
			return nil, fmt.Errorf("socket for QEMU: %w", err)
		}
		files = append(files, f)
	}
	if err := q.remove(pidFile); err != nil {
		return nil, err
	}
	output, err := os.OpenFile(filepath.Join(q.cfg.Dir, logFile), os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return nil, err
	}
	files = append(files, output)

	cmd := exec.Command(q.cfg.Binary, args...)
	cmd.Stdout, cmd.Stderr = output, output
	cmd.ExtraFiles = files[:2]
	cmd.Dir = q.cfg.Dir
	// A session of its own: neither Ctrl-C nor the end of our terminal
	// reaches it.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("starting QEMU: %w", err)
	}
	// From here on only QEMU must listen: else connecting to one that died
	// would wait instead of failing.
	for _, f := range files {
		_ = f.Close() // QEMU has its own copy
	}
	p := &process{cmd: cmd, os: cmd.Process, gone: make(chan struct{})}
	if err := q.connect(ctx, p); err != nil {
		killed := p.signal(syscall.SIGKILL)
		ended := cmd.Wait()
		q.clean()
		return nil, fmt.Errorf("starting QEMU: %w", errors.Join(err, ended, killed, errors.New(q.lastOutput())))
	}
	return p, nil
}

// connect joins the console and QMP of p.
func (q *QEMU) connect(ctx context.Context, p *process) error {
	ctx, cancel := context.WithTimeout(ctx, qmpLimit)
	defer cancel()
	serial, err := q.dial(serialSocket)
	if err != nil {
		return err
	}
	conn, err := q.dial(qmpSocket)
	if err == nil {
		p.serial = serial
		p.qmp, err = qmp.New(ctx, conn, q.event)
	}
	if err != nil {
		return errors.Join(err, serial.Close())
	}
	return nil
}

// lastOutput is the end of what QEMU wrote to its log.
func (q *QEMU) lastOutput() string {
	text, err := os.ReadFile(filepath.Join(q.cfg.Dir, logFile))
	if err != nil {
		return err.Error()
	}
	return strings.TrimSpace(string(text[max(0, len(text)-1024):]))
}

// adopt takes a QEMU over that still runs, and cleans up after one that does
// not. One that runs and does not answer is ended: its disk is locked.
func (q *QEMU) adopt(ctx context.Context) error {
	found, err := q.find()
	if err != nil {
		return err
	}
	if found == nil {
		q.clean()
		return nil
	}
	p := &process{os: found, gone: make(chan struct{})}
	ctx, cancel := context.WithTimeout(ctx, reachLimit)
	defer cancel()
	if err := q.connect(ctx, p); err != nil {
		q.log.Warn("a QEMU that does not answer is ended", "pid", found.Pid, "error", err)
		if err := p.signal(syscall.SIGKILL); err != nil {
			return fmt.Errorf("killing QEMU: %w", err)
		}
		if err := p.await(); err != nil {
			return err
		}
		q.clean()
		return nil
	}
	q.own(p)
	var status struct {
		Status string `json:"status"`
	}
	err = q.Execute(ctx, "query-status", nil, &status)
	if err == nil && status.Status == "prelaunch" { // its starter was killed before it could say so
		err = q.Execute(ctx, "cont", nil, nil)
	}
	if err != nil {
		q.log.Warn("a QEMU that was taken over", "pid", found.Pid, "error", err)
		return nil
	}
	q.log.Info("took over a running QEMU", "pid", found.Pid, "status", status.Status)
	if status.Status == "suspended" {
		q.sleeps(true)
	}
	return nil
}

// find returns the QEMU that was started with Dir's pid file, nil if none runs.
// It looks at the processes, not at the file: QEMU writes that only some
// milliseconds after it was started, and its starter may be killed meanwhile.
func (q *QEMU) find() (*os.Process, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || !q.runs(pid) {
			continue
		}
		p, err := os.FindProcess(pid) // holds a pidfd, so what is checked now is what is signalled later
		if err != nil {
			return nil, err
		}
		if q.runs(pid) {
			return p, nil
		}
	}
	return nil, nil
}

// runs says whether a process is a QEMU of this folder. One that has ended
// and is not reaped has no command line.
func (q *QEMU) runs(pid int) bool {
	line, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	return err == nil && isOurs(line, q.cfg.Binary, filepath.Join(q.cfg.Dir, pidFile))
}

// isOurs reports whether a command line (proc(5), /proc/pid/cmdline) is that
// of binary, whose path may have changed, started with the pid file.
func isOurs(cmdline []byte, binary, pidfile string) bool {
	args := strings.Split(strings.TrimSuffix(string(cmdline), "\x00"), "\x00")
	i := slices.Index(args, "-pidfile")
	return filepath.Base(args[0]) == filepath.Base(binary) && i >= 0 && i+1 < len(args) && args[i+1] == pidfile
}

package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/nitrino/nitrino/cmds/emulate/firmware"
	"github.com/nitrino/nitrino/internal/card"
	"github.com/nitrino/nitrino/internal/qmp"
)

// The machines of -machine.
const (
	virt    = "virt"
	raspi3b = "raspi3b"
)

// model is the board whose firmware reads the card.
func model(machine string) firmware.Model {
	if machine == raspi3b {
		return firmware.Model{Filters: []string{"pi3"}, DeviceTree: "bcm2710-rpi-3-b.dtb", Upstream: "bcm2837-rpi-3-b.dtb"}
	}
	return firmware.Model{Filters: []string{"pi4"}} // QEMU makes virt's device tree
}

// Files in -dir. Both QEMUs run in its folders and name sockets from there: a
// socket's address has room for 107 bytes.
const (
	serialLog = "serial.log"
	outputLog = "qemu.log"
	bootDir   = "boot" // what the firmware has loaded
	hostDir   = "host"
	boardLink = "link.sock"                // the board's second network card
	hostLink  = "link.sock"                // the host's, in its folder
	hostPeer  = hostDir + "/" + hostLink   // as the board's QEMU names it
	wordsName = "org.nitrino.board"        // the virtio-serial port
	pl061Type = "child<pl061>"             // in QEMU's object tree
	treeRoot  = "/machine/unattached"      // where unnamed devices are in it
	wdtSlot   = 0x10                       // the watchdog's PCI slot
	ecamBase  = 0x40_1000_0000             // virt's PCIe configuration space
	wdtConfig = ecamBase + wdtSlot<<15 + 4 // the watchdog's PCI command register
	ram       = "1024M"                    // of the board
)

// A service is one that the board's network has.
type service struct {
	protocol string
	port     int // the well-known one
}

func https() service { return service{"tcp", 443} }
func ssh() service   { return service{"tcp", 22} }
func ipmi() service  { return service{"udp", 623} }
func iscsi() service { return service{"tcp", 3260} }

// services are those that are forwarded to -base and the well-known port.
func services() []service { return []service{https(), ssh(), ipmi(), iscsi()} }

// at is where the service answers outside.
func (s service) at(o options) string {
	return net.JoinHostPort(o.addr.String(), strconv.Itoa(o.base+s.port))
}

// dgram is one end of the wire between the network cards of two QEMUs, which
// either may leave and come back to.
func dgram(local, remote string) string {
	return fmt.Sprintf("dgram,local.type=unix,local.path=%s,remote.type=unix,remote.path=%s", local, remote)
}

// quoted is a value among QEMU's options, where a comma ends one.
func quoted(s string) string { return strings.ReplaceAll(s, ",", ",,") }

// drive is the card; with -record, behind a log of writes that is empty (it
// begins) or not (it goes on).
func drive(o options, logged int64) string {
	if o.record == "" {
		return "id=card,format=raw,file=" + quoted(o.card)
	}
	d := "id=card,driver=raw,file.driver=blklogwrites,file.file.driver=file,file.log.driver=file" +
		// After each write, so that a cut loses no end of the log.
		",file.log-super-update-interval=1" +
		",file.file.filename=" + quoted(o.card) + ",file.log.filename=" + quoted(o.record)
	if logged > 0 {
		d += ",file.log-append=on"
	}
	return d
}

// args are QEMU's arguments. Connected sockets are inherited as descriptors 3
// (QMP), 4 (qtest), 5 (serial port), 6 (words) and 7 (I2C).
func args(o options, b *firmware.Boot, logged int64) []string {
	network := "user,id=net0"
	for _, s := range services() {
		network += fmt.Sprintf(",hostfwd=%s:%s-:%d", s.protocol, s.at(o), s.port)
	}
	cmdline := []string{b.Cmdline}
	if b.Tryboot && o.machine == virt { // whose device tree is QEMU's
		cmdline = append(cmdline, card.TrialParam+"=1")
	}
	a := []string{
		"-nodefaults", "-no-user-config", "-name", "nitrino-board", "-display", "none",
		"-accel", "tcg,thread=multi", "-m", ram,
		"-S", "-no-reboot", "-action", "watchdog=reset", "-action", "panic=none",
		"-chardev", "socket,id=qmp,fd=3", "-mon", "chardev=qmp,mode=control",
		"-chardev", "socket,id=qtest,fd=4", "-qtest", "chardev:qtest", "-qtest-log", "none",
		"-chardev", "socket,id=com,fd=5", "-chardev", "socket,id=words,fd=6",
		"-chardev", "file,id=log,append=on,path=" + serialLog, "-serial", "chardev:log",
		"-netdev", network,
		"-kernel", filepath.Join(bootDir, "kernel"),
	}
	switch o.machine {
	case virt:
		cmdline = append(cmdline, "console=ttyAMA0")
		a = append(a, "-machine", "virt,memory-backend=ram", "-cpu", "cortex-a72", "-smp", "2",
			// What plays the I2C bus reads and writes the board's memory.
			"-object", "memory-backend-memfd,id=ram,share=on,size="+ram,
			"-device", "virtio-net-pci,netdev=net0,romfile=",
			"-netdev", dgram(boardLink, hostPeer)+",id=link",
			"-device", "virtio-net-pci,netdev=link,romfile=,mac=52:54:00:12:34:57",
			"-drive", "if=none,"+drive(o, logged), "-device", "sdhci-pci", "-device", "sd-card,drive=card",
			"-device", "pci-serial,chardev=com",
			"-device", "virtio-serial-pci", "-device", "virtserialport,chardev=words,name="+wordsName,
			"-device", "virtio-rng-pci", "-device", "pvpanic-pci",
			"-device", fmt.Sprintf("i6300esb,addr=%#x", wdtSlot),
			// QEMU would offer event indexes without asking who is to obey them.
			"-chardev", "socket,id=i2c,fd=7", "-device", "vhost-user-i2c-pci,chardev=i2c,event_idx=off",
		)
	case raspi3b:
		// The card's kernel has no console: its UART belongs to the host. This
		// one writes to it without being one.
		cmdline = append(cmdline, "earlycon=pl011,mmio32,0x3f201000", "keep_bootcon",
			// QEMU's watchdog does not count: it resets as soon as it is started.
			"initcall_blacklist=bcm2835_wdt_driver_init")
		a = append(a, "-machine", "raspi3b", "-drive", "if=sd,"+drive(o, logged),
			"-device", "usb-net,netdev=net0", "-dtb", filepath.Join(bootDir, "dtb"))
	}
	if len(b.Initramfs) > 0 {
		a = append(a, "-initrd", filepath.Join(bootDir, "initramfs"))
	}
	if o.words != "" {
		cmdline = append(cmdline, o.words)
	}
	a = append(a, o.qemu...)
	return append(a, "-append", strings.TrimSpace(strings.Join(cmdline, " ")))
}

// An end is why a board's QEMU has ended.
type end int

const (
	failed end = iota // by itself
	killed            // by us
	reset             // the guest reset the board, or its watchdog did
	off               // the guest switched the board off
)

// A process is the board's QEMU, which runs while the board has power and until
// its next reset.
type process struct {
	log   *slog.Logger
	link  func()
	cmd   *exec.Cmd
	qmp   *qmp.Client
	qtest *qtest
	conns []net.Conn
	wait  sync.WaitGroup
	done  chan struct{} // closed when it has ended, and all that was wired to it
	panic firmware.Reboot

	mu   sync.Mutex
	end  end
	told firmware.Reboot // what the firmware is told at the next reset
}

const qmpLimit = 10 * time.Second // on a busy computer

// launch starts QEMU, wired to w and c; link is called when the guest brings its
// network up. It must be called by a goroutine that stays
// on its thread: QEMU is killed when that thread ends, however it does.
func launch(ctx context.Context, o options, b *firmware.Boot, w *wires, c *chips, link func(), log *slog.Logger) (_ *process, err error) {
	p := &process{log: log, link: link, done: make(chan struct{}), panic: panicReboot(b.Cmdline)}
	logged, err := size(o.record)
	if err != nil {
		return nil, fmt.Errorf("-record: %w", err)
	}
	var theirs []*os.File
	defer func() {
		for _, f := range theirs {
			_ = f.Close() // QEMU has its own copy of each, or does not run
		}
		if err != nil {
			for _, c := range p.conns {
				_ = c.Close() // the error above is the one that matters
			}
		}
	}()
	for range 5 {
		ours, their, err := socketPair()
		if err != nil {
			return nil, err
		}
		p.conns, theirs = append(p.conns, ours), append(theirs, their)
	}
	output, err := os.OpenFile(filepath.Join(o.dir, outputLog), os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return nil, err
	}
	theirs = append(theirs, output)
	p.cmd = exec.Command("qemu-system-aarch64", args(o, b, logged)...)
	p.cmd.Dir, p.cmd.Stdout, p.cmd.Stderr, p.cmd.ExtraFiles = o.dir, output, output, theirs[:5]
	// Neither Ctrl-C reaches it, which is for us, nor does it outlive us.
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	log.Debug("QEMU", "arguments", p.cmd.Args)
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("the emulator (Debian package qemu-system-arm): %w", err)
	}
	for _, f := range theirs {
		_ = f.Close() // only QEMU has its ends now, so they end with it
	}
	theirs = nil
	p.wait.Go(func() { c.serve(p.conns[4], log) }) // from the start: QEMU asks it before QMP answers
	if err := p.bringUp(ctx, o, w); err != nil {
		killErr := p.cmd.Process.Kill()
		if errors.Is(killErr, os.ErrProcessDone) {
			killErr = nil
		}
		_ = p.cmd.Wait() // says only that it was killed, or what its output says better
		if p.qtest != nil {
			p.qtest.close()
		}
		w.detach()
		p.wait.Wait()
		return nil, fmt.Errorf("starting QEMU: %w: %s", errors.Join(err, killErr), lastOutput(o))
	}
	p.wait.Go(func() { w.copyFromBoard(p.conns[2]) })
	p.wait.Go(func() { p.listen(p.conns[3]) })
	go p.watch(w)
	if err := p.execute(ctx, "cont", nil, nil); err != nil {
		p.kill()
		return nil, fmt.Errorf("starting QEMU: %w", err)
	}
	return p, nil
}

// size is that of a file, 0 where none is named.
func size(name string) (int64, error) {
	if name == "" {
		return 0, nil
	}
	info, err := os.Stat(name)
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}

// socketPair returns a connection and the other end of it, for QEMU.
func socketPair() (net.Conn, *os.File, error) {
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, err
	}
	ours, theirs := os.NewFile(uintptr(fds[0]), "socketpair"), os.NewFile(uintptr(fds[1]), "socketpair")
	conn, err := net.FileConn(ours)
	if err = errors.Join(err, ours.Close()); err != nil {
		return nil, nil, errors.Join(err, theirs.Close())
	}
	return conn, theirs, nil
}

// bringUp joins QEMU, which waits to be continued, to QMP and the wires.
func (p *process) bringUp(ctx context.Context, o options, w *wires) error {
	ctx, cancel := context.WithTimeout(ctx, qmpLimit)
	defer cancel()
	var err error
	p.qtest = newQtest(p.conns[1], w.output)
	if p.qmp, err = qmp.New(ctx, p.conns[0], p.event); err != nil {
		return err
	}
	if o.machine != virt {
		return nil
	}
	path, err := p.find(ctx, pl061Type)
	if err != nil {
		return err
	}
	if _, err := p.qtest.execute(ctx, "irq_intercept_out "+path); err != nil {
		return err
	}
	w.attach(p.qtest, path)
	if o.unplugged {
		return p.plug(ctx, false)
	}
	return nil
}

// plug puts the cable of the management network in, or pulls it.
func (p *process) plug(ctx context.Context, in bool) error {
	return p.execute(ctx, "set_link", map[string]any{"name": "net0", "up": in}, nil)
}

// find returns the path of the device of a type in QEMU's object tree.
func (p *process) find(ctx context.Context, kind string) (string, error) {
	var devices []struct {
		Name string `json:"name"`
		Type string `json:"type"`
	}
	if err := p.qmp.Execute(ctx, "qom-list", map[string]string{"path": treeRoot}, &devices); err != nil {
		return "", err
	}
	for _, d := range devices {
		if d.Type == kind {
			return treeRoot + "/" + d.Name, nil
		}
	}
	return "", fmt.Errorf("QEMU's machine has no %s", kind)
}

func (p *process) execute(ctx context.Context, command string, args, result any) error {
	ctx, cancel := context.WithTimeout(ctx, qmpLimit)
	defer cancel()
	return p.qmp.Execute(ctx, command, args, result)
}

// event takes QMP events.
func (p *process) event(name string, data []byte) {
	p.log.Debug("QEMU", "event", name, "data", string(data))
	p.mu.Lock()
	defer p.mu.Unlock()
	switch name {
	case "NIC_RX_FILTER_CHANGED":
		p.link()
	case "WATCHDOG":
		p.log.Warn("the board's watchdog fires")
	case "GUEST_PANICKED":
		p.log.Warn("the board's kernel panics")
		p.told = p.panic
	case "SHUTDOWN":
		var why struct {
			Reason string `json:"reason"`
		}
		if err := json.Unmarshal(data, &why); err != nil {
			p.log.Error("QEMU", "event", name, "error", err)
		}
		switch why.Reason {
		case "guest-reset":
			p.end = reset
		case "guest-shutdown":
			p.end = off
		}
	}
}

// panicReboot is what our kernel tells the firmware when it panics.
func panicReboot(cmdline string) firmware.Reboot {
	for word := range strings.FieldsSeq(cmdline) {
		if n, ok := strings.CutPrefix(word, "bcm2835_wdt.panic_partition="); ok {
			if r, err := firmware.ParseReboot(n); err == nil {
				return r
			}
		}
	}
	return firmware.Reboot{}
}

// wordLimit bounds a line from the board.
const wordLimit = 512

// listen answers the board's words: "reboot ARGUMENT", before the board reboots
// with that argument of reboot(2), which PSCI does not carry.
func (p *process) listen(conn net.Conn) {
	lines := bufio.NewScanner(conn)
	lines.Buffer(make([]byte, wordLimit), wordLimit)
	for lines.Scan() {
		answer := "ok\n"
		if err := p.word(lines.Text()); err != nil {
			answer = "error: " + err.Error() + "\n"
		}
		if err := conn.SetWriteDeadline(time.Now().Add(time.Second)); err != nil {
			return // the board has just ended
		}
		if _, err := conn.Write([]byte(answer)); err != nil {
			p.log.Warn("answering the board", "error", err)
			return
		}
	}
	if errors.Is(lines.Err(), bufio.ErrTooLong) {
		p.log.Warn("the board's words make no sense: no more are read")
	}
}

func (p *process) word(line string) error {
	argument, ok := strings.CutPrefix(line, "reboot ")
	if !ok {
		return fmt.Errorf("%q: want reboot ARGUMENT", line)
	}
	told, err := firmware.ParseReboot(argument)
	if err != nil {
		return err
	}
	p.log.Info("the board will reboot", "argument", argument)
	p.mu.Lock()
	p.told = told
	p.mu.Unlock()
	return nil
}

// watch sees QEMU off.
func (p *process) watch(w *wires) {
	if err := p.cmd.Wait(); err != nil {
		p.log.Debug("QEMU", "end", err)
	}
	w.detach()
	<-p.qmp.Done() // the last event has come
	// The serial ports end with QEMU; the qtest client closes on our side.
	p.wait.Wait()
	p.qtest.close()
	for _, c := range p.conns {
		_ = c.Close() // nothing is kept for it: no error matters
	}
	close(p.done)
}

// quit ends QEMU in order.
func (p *process) quit() {
	p.mu.Lock()
	p.end = killed
	p.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	// Whether it was answered says nothing: what counts is that QEMU is gone.
	_ = p.qmp.Execute(ctx, "quit", nil, nil)
	select {
	case <-p.done:
	case <-ctx.Done():
		p.kill()
	}
}

// kill is the end of the board's power.
func (p *process) kill() {
	p.mu.Lock()
	p.end = killed
	p.mu.Unlock()
	if err := p.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		p.log.Error("killing QEMU", "error", err)
	}
	<-p.done
}

// outcome is why it has ended, and what the firmware is told then.
func (p *process) outcome() (end, firmware.Reboot) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.end, p.told
}

// watched says whether the kernel has taken the watchdog over: its driver has
// enabled the device's registers (PCI command register, bit 1).
func (p *process) watched(ctx context.Context) (bool, error) {
	answer, err := p.qtest.execute(ctx, fmt.Sprintf("readw %#x", wdtConfig))
	if err != nil {
		return false, err
	}
	register, err := strconv.ParseUint(answer, 0, 64)
	if err != nil {
		return false, fmt.Errorf("qtest readw: %w", err)
	}
	return register&2 != 0, nil
}

// lastOutput is the end of what QEMU wrote to its log.
func lastOutput(o options) string {
	text, err := os.ReadFile(filepath.Join(o.dir, outputLog))
	if err != nil {
		return err.Error()
	}
	return string(bytes.TrimSpace(text[max(0, len(text)-1024):]))
}

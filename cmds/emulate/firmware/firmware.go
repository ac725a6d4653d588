// Package firmware reads a card as the firmware of a Raspberry Pi does, whose
// EEPROM has PARTITION_WALK=1: autoboot.txt says which partition is started,
// config.txt what in it, and a partition that cannot be started is passed over.
package firmware

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strconv"
	"strings"
	"time"

	"github.com/nitrino/nitrino/internal/card"
	"github.com/nitrino/nitrino/internal/fat"
)

// A Model is the board whose firmware this is.
type Model struct {
	// Filters are the names that config.txt has for it.
	Filters []string
	// DeviceTree is the file that it takes where config.txt names none; empty:
	// it needs none, neither overlays.
	DeviceTree string
	// Upstream is Linux's own name for it, which upstream_kernel=1 selects.
	Upstream string
}

// A Reboot is what the last reboot told the firmware; the zero value is a
// power-up.
type Reboot struct {
	Partition int  // to start, 0: the one of autoboot.txt
	Tryboot   bool // once
}

// maxPartition is the highest number that fits; 63 means "do not start".
const maxPartition = 62

// ParseReboot reads the argument of reboot(2) as the kernel's watchdog and
// firmware drivers do: a leading number is the partition, the word tryboot
// anywhere the flag.
func ParseReboot(argument string) (Reboot, error) {
	r := Reboot{Tryboot: strings.Contains(argument, "tryboot")}
	digits := argument[:len(argument)-len(strings.TrimLeft(argument, "0123456789"))]
	if digits == "" {
		return r, nil
	}
	n, err := strconv.ParseUint(digits, 10, 16)
	if err != nil || n > maxPartition {
		return Reboot{}, fmt.Errorf("reboot argument %q: partition %s is not between 0 and %d", argument, digits, maxPartition)
	}
	r.Partition = int(n)
	return r, nil
}

// A Boot is what the firmware loads and starts.
type Boot struct {
	Partition int
	Tryboot   bool

	Kernel    []byte // an arm64 Image, unpacked
	Initramfs []byte // empty: none
	Cmdline   string // one line

	DeviceTree []byte // as on the card; nil where the model needs none
	Overlays   []Overlay

	// Watchdog is how long the kernel has to take the watchdog over, 0 for
	// ever. Else the board restarts as if told WatchdogPartition.
	Watchdog          time.Duration
	WatchdogPartition int
}

// An Overlay is to be applied to the device tree.
type Overlay struct {
	Name    string
	Content []byte
}

// ErrNothing says that no partition of the card can be started.
var ErrNothing = errors.New("nothing on the card can be started")

// Read decides what is started. passed says of each partition that was looked
// at before why it was passed over; where nothing can be started the error is
// ErrNothing.
func Read(disk io.ReaderAt, size int64, told Reboot, m Model) (b *Boot, passed []error, err error) {
	partitions, err := readTable(disk, size)
	if err != nil {
		return nil, []error{err}, ErrNothing
	}
	first := told.Partition
	if first == 0 {
		first = card.BootPartition
		a, err := autoboot(partitions)
		switch {
		case err != nil:
			passed = append(passed, err)
		case told.Tryboot:
			first = a.Try
		default:
			first = a.Boot
		}
	}
	order := []int{first}
	for i := range partitions.parts {
		if i+1 != first {
			order = append(order, i+1)
		}
	}
	for _, n := range order {
		b, err := start(partitions, n, condition{m.Filters, told.Tryboot}, m)
		if err == nil {
			return b, passed, nil
		}
		passed = append(passed, fmt.Errorf("partition %d: %w", n, err))
	}
	return nil, passed, ErrNothing
}

// ReadFile returns a file of one of the card's partitions, fs.ErrNotExist where
// it is not there.
func ReadFile(disk io.ReaderAt, size int64, partition int, name string) ([]byte, error) {
	partitions, err := readTable(disk, size)
	if err != nil {
		return nil, err
	}
	v, err := partitions.open(partition)
	if err != nil {
		return nil, err
	}
	return v.ReadFile(name, fileLimit)
}

func autoboot(t table) (card.Autoboot, error) {
	v, err := t.open(card.BootPartition)
	if err != nil {
		return card.Autoboot{}, fmt.Errorf("partition %d: %w", card.BootPartition, err)
	}
	text, err := v.ReadFile(card.AutobootFile, fileLimit)
	if err != nil {
		return card.Autoboot{}, err
	}
	return card.ParseAutoboot(text)
}

// start loads what a partition starts. It fails where anything that is named
// cannot be read or is broken; an overlay may be missing, as on a Pi.
func start(t table, partition int, on condition, m Model) (*Boot, error) {
	v, err := t.open(partition)
	if err != nil {
		return nil, err
	}
	text, err := v.ReadFile(card.ConfigFile, fileLimit)
	if err != nil {
		return nil, err
	}
	c := parseConfig(string(text), on)
	b := &Boot{Partition: partition, Tryboot: on.tryboot, Watchdog: c.watchdog, WatchdogPartition: c.watchdogPartition}
	kernel, err := v.ReadFile(c.kernel, fileLimit)
	if err != nil {
		return nil, err
	}
	if b.Kernel, err = unpack(kernel); err != nil {
		return nil, fmt.Errorf("%s: %w", c.kernel, err)
	}
	for _, name := range c.initramfs {
		part, err := v.ReadFile(name, fileLimit)
		if err != nil {
			return nil, err
		}
		b.Initramfs = append(b.Initramfs, part...)
	}
	line, err := v.ReadFile(c.cmdline, fileLimit)
	if err != nil {
		return nil, err
	}
	first, _, _ := strings.Cut(string(line), "\n")
	b.Cmdline = strings.TrimSpace(strings.Trim(first, "\x00"))
	if m.DeviceTree == "" {
		return b, nil
	}
	if c.deviceTree == "" {
		c.deviceTree = m.DeviceTree
		if c.upstream && m.Upstream != "" {
			c.deviceTree = m.Upstream
		}
	}
	if b.DeviceTree, err = v.ReadFile(c.deviceTree, fileLimit); err != nil {
		return nil, err
	}
	for _, name := range c.overlays {
		content, err := v.ReadFile("overlays/"+name+".dtbo", fileLimit)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		b.Overlays = append(b.Overlays, Overlay{name, content})
	}
	return b, nil
}

// Bounds in bytes: of one file, since no kernel or initramfs of a board is as
// large, and of an unpacked kernel.
const (
	fileLimit   = 512 << 20
	kernelLimit = 256 << 20
)

var errKernel = errors.New("not an arm64 kernel")

// unpack returns the kernel itself, whose checksum was right if it was packed.
func unpack(kernel []byte) ([]byte, error) {
	if bytes.HasPrefix(kernel, []byte{0x1f, 0x8b}) {
		z, err := gzip.NewReader(bytes.NewReader(kernel))
		if err != nil {
			return nil, err
		}
		if kernel, err = io.ReadAll(io.LimitReader(z, kernelLimit)); err != nil {
			return nil, err
		}
		if len(kernel) == kernelLimit {
			return nil, fmt.Errorf("%w: it unpacks to more than %d MiB", errKernel, kernelLimit>>20)
		}
	}
	// Documentation/arch/arm64/booting.rst: the magic number of the header.
	if len(kernel) < 64 || string(kernel[56:60]) != "ARM\x64" {
		return nil, errKernel
	}
	return kernel, nil
}

// A table is the card's MBR: four partitions.
type table struct {
	disk  io.ReaderAt
	parts []part
}

type part struct {
	kind        byte
	start, size int64 // bytes
}

func readTable(disk io.ReaderAt, size int64) (table, error) {
	var b [512]byte
	if _, err := disk.ReadAt(b[:], 0); err != nil {
		return table{}, fmt.Errorf("partition table: %w", err)
	}
	if b[510] != 0x55 || b[511] != 0xaa {
		return table{}, errors.New("partition table: no signature")
	}
	t := table{disk: disk}
	for e := b[446:510]; len(e) > 0; e = e[16:] {
		p := part{kind: e[4], start: int64(binary.LittleEndian.Uint32(e[8:])) * 512, size: int64(binary.LittleEndian.Uint32(e[12:])) * 512}
		p.size = min(p.size, size-p.start)
		t.parts = append(t.parts, p)
	}
	return t, nil
}

// open opens a partition, from 1.
func (t table) open(n int) (*fat.Volume, error) {
	if n < 1 || n > len(t.parts) {
		return nil, errors.New("there is no such partition")
	}
	switch p := t.parts[n-1]; {
	case p.kind == 0:
		return nil, errors.New("there is no such partition")
	case p.kind != 0x0b && p.kind != 0x0c: // FAT32, by CHS or by LBA
		return nil, fmt.Errorf("type %#02x is not FAT32", p.kind)
	case p.size <= 0:
		return nil, errors.New("it begins behind the card's end")
	default:
		return fat.Open(io.NewSectionReader(t.disk, p.start, p.size), p.size)
	}
}

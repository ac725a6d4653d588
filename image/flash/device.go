// Package flash writes an image to a card, and to nothing else: a disk that may
// be in use, or that cannot be taken out, is refused before a byte is written.
package flash

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Why a device is refused. Compare with errors.Is.
var (
	ErrNotDevice    = errors.New("not a block device")
	ErrPartition    = errors.New("a partition, not a whole disk")
	ErrInUse        = errors.New("in use")
	ErrNotRemovable = errors.New("not a removable disk, a card or a USB disk")
	ErrTooSmall     = errors.New("too small")
	ErrReadOnly     = errors.New("read-only")
	ErrImage        = errors.New("the image itself")
)

// A System is where the kernel says what disks there are and who uses them.
type System struct {
	Sys, Proc fs.FS // sysfs and procfs
}

// Live is the running system.
func Live() System { return System{os.DirFS("/sys"), os.DirFS("/proc")} }

// A Device is a disk that may be written.
type Device struct {
	Path string
	// Model is what the device calls itself; empty where it does not.
	Model string
	Size  int64 // bytes

	number uint64 // as stat(2) has it
}

func (d Device) String() string {
	model := d.Model
	if model == "" {
		model = "unnamed"
	}
	return fmt.Sprintf("%s (%s, %.1f GB)", d.Path, model, float64(d.Size)/1e9)
}

// Find looks at the block device at path and answers why it cannot take an image
// of so many bytes, if it cannot: one of the errors above. There is no way
// around it: a disk that a system runs on is never the right one.
func (s System) Find(path string, size int64) (Device, error) {
	d, err := s.find(path, size)
	if err != nil {
		return Device{}, fmt.Errorf("%s: %w", path, err)
	}
	return d, nil
}

func (s System) find(path string, size int64) (Device, error) {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return Device{}, err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFBLK {
		return Device{}, ErrNotDevice
	}
	d, err := s.look(uint64(st.Rdev))
	if err != nil {
		return Device{}, err
	}
	d.Path = path
	if d.Size < size {
		return Device{}, fmt.Errorf("%w: it has %d bytes, the image %d", ErrTooSmall, d.Size, size)
	}
	return d, nil
}

// look reads what the system knows of the device with this number.
func (s System) look(number uint64) (Device, error) {
	dir := "dev/block/" + devName(number)
	name, err := s.diskName(dir)
	if err != nil {
		return Device{}, err
	}
	if _, err := fs.Stat(s.Sys, dir+"/partition"); err == nil {
		return Device{}, fmt.Errorf("%w: give the disk that %s is on", ErrPartition, name)
	} else if !errors.Is(err, fs.ErrNotExist) {
		return Device{}, err
	}
	if err := s.removable(dir, name); err != nil {
		return Device{}, err
	}
	if ro, err := s.text(dir + "/ro"); err != nil {
		return Device{}, err
	} else if ro != "0" {
		return Device{}, ErrReadOnly
	}
	if err := s.unused(dir, name); err != nil {
		return Device{}, err
	}
	text, err := s.text(dir + "/size")
	if err != nil {
		return Device{}, err
	}
	sectors, err := strconv.ParseInt(text, 10, 54)
	if err != nil {
		return Device{}, fmt.Errorf("its size %q: %w", text, err)
	}
	return Device{Size: sectors * 512, Model: s.model(dir), number: number}, nil
}

// diskName is the kernel's name of a disk, "sda", which its folder in sysfs has.
func (s System) diskName(dir string) (string, error) {
	text, err := s.text(dir + "/uevent")
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(text) {
		if name, ok := strings.CutPrefix(strings.TrimSpace(line), "DEVNAME="); ok {
			return name, nil
		}
	}
	return "", fmt.Errorf("%s/uevent has no DEVNAME", dir)
}

// removable wants a medium that can be taken out: the flag of card readers, a
// card in a slot of its own, anything on USB.
func (s System) removable(dir, name string) error {
	flag, err := s.text(dir + "/removable")
	if err != nil {
		return err
	}
	if flag == "1" || strings.HasPrefix(name, "mmcblk") {
		return nil
	}
	// A link to the device's place on its bus.
	place, err := fs.ReadLink(s.Sys, dir)
	if err != nil {
		return err
	}
	for part := range strings.SplitSeq(place, "/") {
		if digits, ok := strings.CutPrefix(part, "usb"); ok && digits != "" && strings.Trim(digits, "0123456789") == "" {
			return nil
		}
	}
	return ErrNotRemovable
}

// unused wants neither the disk nor a partition to be mounted, swapped to, or
// part of another device.
func (s System) unused(dir, name string) error {
	parts, err := s.partitions(dir)
	if err != nil {
		return err
	}
	numbers := map[string]string{strings.TrimPrefix(dir, "dev/block/"): name}
	for _, part := range parts {
		number, err := s.text(path.Join(dir, part, "dev"))
		if err != nil {
			return err
		}
		numbers[number] = part
	}
	for _, at := range append([]string{"."}, parts...) {
		holders, err := fs.ReadDir(s.Sys, path.Join(dir, at, "holders"))
		if err != nil {
			return err
		}
		if len(holders) > 0 {
			return fmt.Errorf("%w: %s is part of %s", ErrInUse, path.Join(name, at), holders[0].Name())
		}
	}
	mounts, err := fs.ReadFile(s.Proc, "self/mountinfo")
	if err != nil {
		return err
	}
	for _, m := range parseMounts(string(mounts)) {
		part, ok := numbers[m.number]
		if !ok {
			// File systems over several devices have a number of their own.
			base, isDev := strings.CutPrefix(m.source, "/dev/")
			for _, p := range numbers {
				if ok = isDev && base == p; ok {
					part = p
					break
				}
			}
		}
		if ok {
			return fmt.Errorf("%w: %s is mounted at %s", ErrInUse, part, m.at)
		}
	}
	swaps, err := fs.ReadFile(s.Proc, "swaps")
	if errors.Is(err, fs.ErrNotExist) {
		return nil // a kernel without swap
	} else if err != nil {
		return err
	}
	for line := range strings.Lines(string(swaps)) {
		file, _, _ := strings.Cut(line, " ")
		for _, part := range numbers {
			if file == "/dev/"+part {
				return fmt.Errorf("%w: %s is swapped to", ErrInUse, part)
			}
		}
	}
	return nil
}

// partitions are the names of a disk's partitions, which are folders in its own.
func (s System) partitions(dir string) ([]string, error) {
	entries, err := fs.ReadDir(s.Sys, dir)
	if err != nil {
		return nil, err
	}
	var list []string
	for _, e := range entries {
		if !e.IsDir() {
			continue
		}
		if _, err := fs.Stat(s.Sys, path.Join(dir, e.Name(), "partition")); err == nil {
			list = append(list, e.Name())
		} else if !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
	}
	return list, nil
}

// model is for people: what it lacks is left out.
func (s System) model(dir string) string {
	var words []string
	for _, file := range []string{"vendor", "model", "name"} {
		if text, err := s.text(dir + "/device/" + file); err == nil && text != "" {
			words = append(words, text)
		}
	}
	return strings.Join(words, " ")
}

func (s System) text(name string) (string, error) {
	b, err := fs.ReadFile(s.Sys, name)
	return strings.TrimSpace(string(b)), err
}

func devName(number uint64) string {
	return fmt.Sprintf("%d:%d", unix.Major(number), unix.Minor(number))
}

// A mount is a line of mountinfo (proc(5)).
type mount struct {
	number     string // major:minor
	at, source string
}

// parseMounts reads mountinfo, and skips lines that it does not understand.
func parseMounts(text string) []mount {
	var list []mount
	for line := range strings.Lines(text) {
		left, right, ok := strings.Cut(line, " - ")
		l, r := strings.Fields(left), strings.Fields(right)
		if !ok || len(l) < 6 || len(r) < 2 {
			continue
		}
		list = append(list, mount{number: l[2], at: unescape(l[4]), source: unescape(r[1])})
	}
	return list
}

// unescape resolves the octal escapes of blanks and backslashes in mountinfo.
func unescape(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) {
			if n, err := strconv.ParseUint(s[i+1:i+4], 8, 8); err == nil {
				b.WriteByte(byte(n))
				i += 3
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

//go:build e2e

package sim

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nitrino/nitrino/host"
)

// content is a medium in memory that counts what is read.
type content struct {
	mu    sync.Mutex
	data  []byte
	reads atomic.Int64
}

func (c *content) Size() int64 { return int64(len(c.data)) }

func (c *content) ReadAt(p []byte, off int64) (int, error) {
	c.reads.Add(1)
	c.mu.Lock()
	defer c.mu.Unlock()
	return bytes.NewReader(c.data).ReadAt(p, off)
}

func (c *content) WriteAt(p []byte, off int64) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if n := copy(c.data[off:], p); n < len(p) {
		return n, io.ErrShortWrite
	}
	return len(p), nil
}

func (*content) Flush() error { return nil }

// bootable is the demo disk's sector, which says by 9 characters what it is.
func bootable(name string) []byte {
	return bytes.Replace(demoSector(), []byte("demo host"), []byte(name), 1)
}

// bootableDisk has at least a cylinder, which BIOSes count in.
func bootableDisk(name string, size int) []byte {
	return append(bootable(name), make([]byte, size-512)...)
}

// bootableCD is the least that is an El Torito CD without emulation
// ("El Torito" Bootable CD-ROM Format Specification 1.0, section 2).
func bootableCD(name string) []byte {
	cd := make([]byte, 24*2048)
	copy(cd[16*2048:], "\x01CD001\x01")
	copy(cd[17*2048:], "\x00CD001\x01EL TORITO SPECIFICATION")
	binary.LittleEndian.PutUint32(cd[17*2048+0x47:], 19) // the catalog
	copy(cd[18*2048:], "\xffCD001\x01")
	catalog := cd[19*2048:]
	catalog[0], catalog[30], catalog[31] = 1, 0x55, 0xaa // validation entry
	var sum uint16
	for i := 0; i < 32; i += 2 {
		sum += binary.LittleEndian.Uint16(catalog[i:])
	}
	binary.LittleEndian.PutUint16(catalog[28:], -sum)
	catalog[32] = 0x88                              // bootable, no emulation, segment 0x7c0
	binary.LittleEndian.PutUint16(catalog[38:], 4)  // sectors of 512 bytes
	binary.LittleEndian.PutUint32(catalog[40:], 20) // where
	copy(cd[20*2048:], bootable(name))
	return cd
}

func (d *drive) insert(t *testing.T, data []byte, readOnly bool) *content {
	t.Helper()
	c := &content{data: data}
	if err := d.Insert(t.Context(), host.Loading{Medium: c, Kind: d.kind, ReadOnly: readOnly}); err != nil {
		t.Fatalf("inserting %s: %v", d.node, err)
	}
	return c
}

func TestQEMUDrives(t *testing.T) {
	for _, machine := range []string{"pc", "q35"} {
		t.Run(machine, func(t *testing.T) {
			q := newTestQEMU(t, QEMUConfig{Dir: t.TempDir(), Machine: machine})
			defer closeQEMU(t, q)
			s := openScreen(t, q)
			boots := func(target host.BootTarget, name string) {
				t.Helper()
				if err := q.SelectBoot(t.Context(), target, host.BootModeDefault); err != nil {
					t.Fatal(err)
				}
				if q.On() {
					q.PressReset(50 * time.Millisecond)
				} else {
					press(q)
				}
				s.expect(t, "SeaBIOS")
				s.expect(t, "nitrino "+name+" is up")
			}
			q.cd.insert(t, bootableCD("CD number"), true) // while off
			boots(host.BootCD, "CD number")
			boots(host.BootDefault, "demo host")
			q.usb.insert(t, bootableDisk("USB disk.", 1<<20), true) // while on
			boots(host.BootUSB, "USB disk.")
			boots(host.BootDefault, "demo host")
			if err := q.cd.Insert(t.Context(), host.Loading{Medium: &content{}, Kind: host.MediumCD}); !errors.Is(err, host.ErrDriveFull) {
				t.Errorf("inserting twice: got %v, want %v", err, host.ErrDriveFull)
			}
			for range 2 { // the second time it is empty
				if err := errors.Join(q.cd.Eject(t.Context()), q.usb.Eject(t.Context())); err != nil {
					t.Fatal(err)
				}
			}
			boots(host.BootUSB, "demo host")
			boots(host.BootCD, "demo host")
			q.usb.insert(t, bootableDisk("disk no 2", 2<<20), false)
			boots(host.BootUSB, "disk no 2")

			// A medium outlives the host's power.
			q.SetStandby(false)
			eventually(t, "off", func() bool { return q.process() == nil })
			q.SetStandby(true)
			boots(host.BootUSB, "disk no 2")
		})
	}
}

// What was in when the software was killed goes on, once it is inserted again.
func TestQEMUDriveAdopted(t *testing.T) {
	dir := t.TempDir()
	q := newTestQEMU(t, QEMUConfig{Dir: dir})
	s := openScreen(t, q)
	cd := bootableCD("CD number")
	q.cd.insert(t, cd, true)
	q.usb.insert(t, bootableDisk("USB disk.", 1<<20), false)
	press(q)
	s.expect(t, up)
	if err := q.Detach(); err != nil {
		t.Fatal(err)
	}

	q = newTestQEMU(t, QEMUConfig{Dir: dir})
	defer closeQEMU(t, q)
	s = openScreen(t, q)
	c := q.cd.insert(t, cd, true)
	usb := q.usb.insert(t, bootableDisk("other USB", 2<<20), false) // another size
	for _, tt := range []struct {
		target host.BootTarget
		name   string
		read   *content
	}{{host.BootCD, "CD number", c}, {host.BootUSB, "other USB", usb}} {
		if err := q.SelectBoot(t.Context(), tt.target, host.BootModeDefault); err != nil {
			t.Fatal(err)
		}
		q.PressReset(50 * time.Millisecond)
		s.expect(t, "nitrino "+tt.name+" is up")
		if tt.read.reads.Load() == 0 {
			t.Errorf("%s: nothing was read", tt.name)
		}
	}

	// A software that does not put it in again takes it out.
	q.cd.Release()
	if err := q.cd.Eject(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := q.usb.Eject(t.Context()); err != nil {
		t.Fatal(err)
	}
	cd = bootableCD("third one")
	q.cd.insert(t, cd, true)
	if err := q.SelectBoot(t.Context(), host.BootCD, host.BootModeDefault); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		q.PressReset(50 * time.Millisecond)
		s.expect(t, "nitrino third one is up")
		// As a restart of the BMC's software in this process does: the machine
		// waits for it.
		q.cd.Release()
		q.PressReset(50 * time.Millisecond)
		s.expect(t, "SeaBIOS")
		time.Sleep(200 * time.Millisecond)
		q.cd.insert(t, cd, true)
		s.expect(t, "nitrino third one is up")
	}
}

// The guest opens the drive.
func TestQEMUDriveEjected(t *testing.T) {
	q := newTestQEMU(t, QEMUConfig{Dir: t.TempDir()})
	defer closeQEMU(t, q)
	s := openScreen(t, q)
	press(q)
	s.expect(t, up)
	for range 2 {
		ejected := make(chan struct{}, 9)
		c := &content{data: bootableCD("CD number")}
		if err := q.cd.Insert(t.Context(), host.Loading{Medium: c, Kind: host.MediumCD, Ejected: func() { ejected <- struct{}{} }}); err != nil {
			t.Fatal(err)
		}
		// QMP's event is the same for a guest.
		if err := q.Execute(t.Context(), "blockdev-open-tray", map[string]any{"id": cdID}, nil); err != nil {
			t.Fatal(err)
		}
		eventually(t, "told", func() bool { return len(ejected) > 0 })
		if err := q.cd.Eject(t.Context()); err != nil {
			t.Fatal(err)
		}
		if len(ejected) != 1 {
			t.Errorf("told %d times, want 1", len(ejected))
		}
	}
	if err := q.cd.Insert(t.Context(), host.Loading{Medium: &content{}, Kind: host.MediumDisk}); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("a disk in the CD drive: got %v, want %v", err, errors.ErrUnsupported)
	}
}

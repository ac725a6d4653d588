package sim

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/nitrino/nitrino/host"
)

// driveParts are the drives of every simulated machine.
func driveParts(cd, usb host.Drive) []host.DrivePart {
	return []host.DrivePart{
		{Name: "cd", Kinds: []host.MediumKind{host.MediumCD}, Drive: cd},
		{Name: "usb", Kinds: []host.MediumKind{host.MediumDisk}, Drive: usb},
	}
}

// A FakeDrive remembers what is in it.
type FakeDrive struct {
	kind host.MediumKind

	mu     sync.Mutex
	in     host.Loading // without a medium: empty
	served bool
	err    error // what Insert and Eject fail with
}

// CD and USB are the machine's drives for virtual media.
func (f *Fake) CD() *FakeDrive  { return f.cd }
func (f *Fake) USB() *FakeDrive { return f.usb }

// Insert implements host.Drive.
func (d *FakeDrive) Insert(ctx context.Context, l host.Loading) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case l.Kind != d.kind:
		return fmt.Errorf("a medium of kind %s: %w", l.Kind, errors.ErrUnsupported)
	case d.served:
		return host.ErrDriveFull
	case d.err != nil:
		return d.err
	}
	l.ReadOnly = l.ReadOnly || l.Kind == host.MediumCD
	d.in, d.served = l, true
	return ctx.Err()
}

// Eject implements host.Drive.
func (d *FakeDrive) Eject(ctx context.Context) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.err != nil {
		return d.err
	}
	d.in, d.served = host.Loading{}, false
	return ctx.Err()
}

// Release implements host.Drive.
func (d *FakeDrive) Release() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.served = false
}

// Loading is what is in the drive; it has no medium where the drive is empty.
// served says whether the machine could read it now.
func (d *FakeDrive) Loading() (l host.Loading, served bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.in, d.served
}

// Fail makes Insert and Eject fail from now on, or work again (nil).
func (d *FakeDrive) Fail(err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.err = err
}

// OSEject is the operating system that opens the drive.
func (d *FakeDrive) OSEject() {
	d.mu.Lock()
	ejected := d.in.Ejected
	d.mu.Unlock()
	if ejected != nil {
		ejected()
	}
}

package sim

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/nitrino/nitrino/host"
	"github.com/nitrino/nitrino/internal/nbd"
	"github.com/nitrino/nitrino/internal/qmp"
)

const (
	// noDevice is QMP's class of error for an id or path that is not there.
	noDevice = "DeviceNotFound"
	// reconnectDelay is how long QEMU keeps what its guest asks of a medium
	// while nobody serves it, in seconds: this software may be restarting.
	reconnectDelay = 30
	// unplugLimit is how long a device that was unplugged keeps its medium.
	unplugLimit = 5 * time.Second
)

// A drive is one of QEMU's for virtual media. QEMU reads the medium by NBD over
// a unix socket in QEMUConfig.Dir. The CD drive is always there; the USB disk
// is plugged in with its medium, as only so can QEMU tell its guest whether it
// can be written.
type drive struct {
	q      *QEMU
	kind   host.MediumKind
	node   string // QEMU's block node, there while it has the medium
	socket string

	mu sync.Mutex
	in *host.Loading // nil: empty

	moving  atomic.Bool                  // we move the tray, not the guest
	ejected atomic.Pointer[host.Loading] // whom to tell that the guest does

	serving sync.Mutex // guards what follows
	cancel  context.CancelFunc
	done    chan struct{}
}

// Insert implements host.Drive.
func (d *drive) Insert(ctx context.Context, l host.Loading) error {
	d.q.booting.Lock() // before mu, as at a start
	defer d.q.booting.Unlock()
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case l.Kind != d.kind:
		return fmt.Errorf("a medium of kind %s: %w", l.Kind, errors.ErrUnsupported)
	case d.isServed():
		return host.ErrDriveFull
	}
	l.ReadOnly = l.ReadOnly || l.Kind == host.MediumCD
	d.settle()
	if err := d.serve(l); err != nil {
		return err
	}
	d.in = &l
	d.ejected.Store(&l)
	if err := d.join(ctx); err != nil {
		d.in = nil
		d.ejected.Store(nil)
		d.Release()
		return err
	}
	return nil
}

// Eject implements host.Drive.
func (d *drive) Eject(ctx context.Context) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.ejected.Store(nil)
	if err := d.part(ctx); err != nil && !errors.Is(err, host.ErrNoPower) {
		return err
	}
	d.in = nil
	d.Release()
	d.settle()
	return nil
}

// Release implements host.Drive.
func (d *drive) Release() {
	d.serving.Lock()
	defer d.serving.Unlock()
	if d.cancel != nil {
		d.cancel()
		d.cancel = nil
	}
}

// settle waits until what was released has ended.
func (d *drive) settle() {
	d.serving.Lock()
	done := d.done
	d.serving.Unlock()
	if done != nil {
		<-done
	}
}

func (d *drive) isServed() bool {
	d.serving.Lock()
	defer d.serving.Unlock()
	return d.cancel != nil
}

// serve serves l's medium on the drive's socket, until Release.
func (d *drive) serve(l host.Loading) error {
	server, err := nbd.New(nbd.Export{Name: d.node, Device: l.Medium, ReadOnly: l.ReadOnly}, d.q.log)
	if err != nil {
		return err
	}
	if err := d.q.remove(d.socket); err != nil {
		return err
	}
	path := d.q.socketPath(d.socket)
	socket, err := net.ListenUnix("unix", &net.UnixAddr{Net: "unix", Name: path})
	if err != nil {
		return fmt.Errorf("socket for a medium: %w", err)
	}
	socket.SetUnlinkOnClose(false) // the path leads through a descriptor that may be closed by then
	if err := os.Chmod(path, 0o600); err != nil {
		return errors.Join(err, socket.Close())
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	d.serving.Lock()
	defer d.serving.Unlock()
	d.cancel, d.done = cancel, done
	go func() {
		defer close(done)
		if err := server.Serve(ctx, socket); ctx.Err() == nil {
			d.q.log.Error("QEMU: a medium is no longer served", "node", d.node, "error", err)
		}
	}()
	return nil
}

// A medium is what QEMU has under d.node.
type medium struct {
	Name     string `json:"node-name"`
	ReadOnly bool   `json:"ro"`
	Image    struct {
		Size int64 `json:"virtual-size"`
	} `json:"image"`
}

// connect gives a QEMU that was just started what is in the drive. q.booting is
// held.
func (d *drive) connect(ctx context.Context) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.in == nil || !d.isServed() {
		return nil
	}
	return d.join(ctx)
}

// join makes QEMU have what is in the drive. One that was taken over may have
// it already. q.booting and d.mu are held.
func (d *drive) join(ctx context.Context) error {
	var nodes []medium
	err := d.q.Execute(ctx, "query-named-block-nodes", map[string]any{"flat": true}, &nodes)
	if errors.Is(err, host.ErrNoPower) {
		return nil // the next start joins them
	}
	if err != nil {
		return err
	}
	size := (d.in.Medium.Size() + 511) &^ 511 // QEMU counts in sectors
	if i := slices.IndexFunc(nodes, func(m medium) bool { return m.Name == d.node }); i >= 0 {
		if nodes[i].Image.Size == size && nodes[i].ReadOnly == d.in.ReadOnly {
			return nil
		}
		if err := d.part(ctx); err != nil {
			return err
		}
	}
	err = d.q.Execute(ctx, "blockdev-add", map[string]any{
		"driver": "nbd", "node-name": d.node, "export": d.node,
		"server":    map[string]any{"type": "unix", "path": d.socket}, // QEMU runs in Dir
		"read-only": d.in.ReadOnly, "reconnect-delay": reconnectDelay,
	}, nil)
	if err == nil {
		if d.kind == host.MediumCD {
			err = d.load(ctx)
		} else {
			err = d.plug(ctx)
		}
	}
	if errors.Is(err, host.ErrNoPower) {
		return nil
	}
	if err != nil {
		// A ctx that has ended must not leave half of it.
		return errors.Join(err, d.part(context.WithoutCancel(ctx)))
	}
	return nil
}

// load puts the node into the CD drive.
func (d *drive) load(ctx context.Context) error {
	return d.change(ctx, "blockdev-insert-medium", map[string]any{"id": cdID, "node-name": d.node})
}

// change opens the CD drive's tray, has QEMU do what command says, and closes it.
// The host may close it in between, as its firmware does: then it is opened again.
func (d *drive) change(ctx context.Context, command string, args map[string]any) error {
	d.moving.Store(true)
	defer d.moving.Store(false)
	const tries = 5
	for try := 1; ; try++ {
		if err := d.q.Execute(ctx, "blockdev-open-tray", map[string]any{"id": cdID, "force": true}, nil); err != nil {
			return err
		}
		err := d.q.Execute(ctx, command, args, nil)
		if err == nil {
			break
		}
		refusal, ok := errors.AsType[*qmp.Error](err)
		if !ok || !strings.HasPrefix(refusal.Desc, "Tray of the device is not open") || try == tries {
			return err
		}
	}
	return d.q.Execute(ctx, "blockdev-close-tray", map[string]any{"id": cdID}, nil)
}

// plug adds the USB disk. q.booting is held.
func (d *drive) plug(ctx context.Context) error {
	return d.q.Execute(ctx, "device_add", map[string]any{
		"driver": "usb-storage", "id": usbID, "bus": usbBus + ".0", "drive": d.node, "removable": true,
		"bootindex": slices.Index(bootOrder(d.q.target), usbID),
	}, nil)
}

// part takes the medium out of QEMU, as far as it is there. d.mu is held.
func (d *drive) part(ctx context.Context) error {
	gone := func(err error) error {
		if refusal, ok := errors.AsType[*qmp.Error](err); ok && refusal.Class == noDevice {
			return nil
		}
		return err
	}
	if d.kind == host.MediumCD {
		if err := d.change(ctx, "blockdev-remove-medium", map[string]any{"id": cdID}); err != nil {
			return err
		}
	} else if err := gone(d.q.Execute(ctx, "device_del", map[string]any{"id": usbID}, nil)); err != nil {
		return err
	}
	// The node is busy until the device has really gone.
	for end := time.Now().Add(unplugLimit); ; {
		var nodes []medium
		if err := d.q.Execute(ctx, "query-named-block-nodes", map[string]any{"flat": true}, &nodes); err != nil {
			return err
		}
		if !slices.ContainsFunc(nodes, func(m medium) bool { return m.Name == d.node }) {
			return nil
		}
		err := d.q.Execute(ctx, "blockdev-del", map[string]any{"node-name": d.node}, nil)
		if err == nil {
			return nil
		}
		if _, refused := errors.AsType[*qmp.Error](err); !refused || time.Now().After(end) {
			return err
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// trayMoved takes QMP's event DEVICE_TRAY_MOVED, of which the guest may be the
// cause.
func (d *drive) trayMoved(data []byte) {
	var moved struct {
		ID   string `json:"id"`
		Open bool   `json:"tray-open"`
	}
	if err := json.Unmarshal(data, &moved); err != nil {
		d.q.log.Warn("QEMU: DEVICE_TRAY_MOVED", "error", err)
		return
	}
	l := d.ejected.Load()
	if moved.ID == cdID && moved.Open && !d.moving.Load() && l != nil && l.Ejected != nil {
		l.Ejected()
	}
}

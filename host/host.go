package host

import (
	"context"
	"crypto/rand"
	"errors"
	"log/slog"
	"sync"

	"github.com/nitrino/nitrino/internal/store"
)

// A Host is the managed machine. Its fields never change after New.
type Host struct {
	// Power is the power state machine.
	Power *Power
	// Boot is the boot override; nil where no wire can act on it.
	Boot *Boot
	// Console is the serial console; nil where no serial port is wired.
	Console *Console
	// Identify is the ID light; nil where none is wired.
	Identify *Identify
	// Panel: presses of the front panel's own buttons are seen.
	Panel bool
	// Events is the one event log.
	Events *Events
	// Sensors measure the host and what is around it; there may be none.
	Sensors *Sensors
	// Meter tells what the host draws; nil where nothing measures it.
	Meter *Meter
	// Watchdog is the timer that deals with a host that hangs.
	Watchdog *Watchdog
	// Inventory is the memory with the host's FRU information.
	Inventory *Inventory
	// Drives take virtual media; there may be none.
	Drives []DrivePart
	// Hardware is what the board knows of the host's machine; nil: nothing.
	Hardware *Hardware
	// Identity says which board and which host these are.
	Identity Identity
	// UUID names the host (SMBIOS byte order is up to each front-end). It is
	// made at random at first start and stays.
	UUID [16]byte
}

// Options are what New needs besides the wires.
type Options struct {
	Store  *store.Store
	Events *Events
	Log    *slog.Logger
	Power  PowerConfig
	// SaveRestorePolicy makes a policy set by a front-end part of the
	// settings. It must be on the disk when it returns.
	SaveRestorePolicy func(RestorePolicy, Origin) error
}

const (
	hostBucket = "host"
	uuidKey    = "uuid"
)

// New makes the host of a board's parts. Nothing runs, and no wire is driven,
// before Run.
func New(parts Parts, opt Options) (*Host, error) {
	h := &Host{Events: opt.Events, Panel: parts.PowerButtonPressed != nil || parts.ResetButtonPressed != nil, Identity: parts.Identity, Drives: parts.Drives, Hardware: parts.Hardware}
	if err := h.loadUUID(opt.Store); err != nil {
		return nil, err
	}
	if parts.Boot != nil {
		h.Boot = newBoot(parts.Boot, opt)
	}
	if parts.Console != nil {
		h.Console = newConsole(parts.Console, opt.Log)
	}
	if parts.IDLight != nil {
		h.Identify = &Identify{line: parts.IDLight, events: opt.Events}
	}
	h.Inventory = newInventory(parts.FRU, opt)
	h.Watchdog = newWatchdog(opt.Events)
	var err error
	if h.Power, err = newPower(parts, h.Boot, h.Watchdog, opt); err != nil {
		return nil, err
	}
	h.Watchdog.power = h.Power
	if h.Sensors, err = newSensors(parts.Sensors, h.Power, opt); err != nil {
		return nil, err
	}
	h.Meter = newMeter(h.Sensors, h.Power, opt)
	return h, nil
}

// loadUUID reads the host's UUID, made at random (RFC 9562 version 4) once.
func (h *Host) loadUUID(db *store.Store) error {
	var kept []byte
	if err := db.View(func(t store.Tx) error { kept = t.Get(hostBucket, []byte(uuidKey)); return nil }); err != nil {
		return err
	}
	if copy(h.UUID[:], kept) == len(h.UUID) && len(kept) == len(h.UUID) {
		return nil
	}
	rand.Read(h.UUID[:]) // crypto/rand.Read never fails
	h.UUID[6] = h.UUID[6]&0x0f | 0x40
	h.UUID[8] = h.UUID[8]&0x3f | 0x80
	return db.Update(func(t store.Tx) error { return t.Put(hostBucket, []byte(uuidKey), h.UUID[:]) })
}

// Run drives the host until ctx ends: it takes up what the wires and the
// store say, restores the host's power where the policy asks for it, and
// answers requests. When it returns, its goroutines are gone and every line
// is released; the error names what failed, ctx's end excepted. It may be
// called again then.
func (h *Host) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var tasks sync.WaitGroup
	if h.Boot != nil {
		tasks.Go(func() { h.Boot.run(ctx) })
	}
	if h.Console != nil {
		tasks.Go(func() { h.Console.run(ctx) })
	}
	if h.Identify != nil {
		h.Identify.begin()
	}
	tasks.Go(func() { h.Watchdog.run(ctx) })
	if len(h.Sensors.list) > 0 {
		tasks.Go(func() { h.Sensors.run(ctx, h.Meter) })
	}
	err := h.Power.run(ctx)
	cancel()
	tasks.Wait()
	if h.Boot != nil {
		h.Boot.settle() // the last boot may have begun just now
	}
	if h.Identify != nil {
		err = errors.Join(err, h.Identify.stop())
	}
	return err
}

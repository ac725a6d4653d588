package host

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/nitrino/nitrino/internal/store"
)

// A BootTarget is a device to boot from, named as Redfish names it.
type BootTarget string

// The targets. BootDefault leaves the choice to the host's firmware.
const (
	BootDefault   BootTarget = "None"
	BootPXE       BootTarget = "Pxe"
	BootDisk      BootTarget = "Hdd"
	BootCD        BootTarget = "Cd"
	BootUEFIHTTP  BootTarget = "UefiHttp"
	BootBIOSSetup BootTarget = "BiosSetup"
)

// A BootMode is how the firmware boots.
type BootMode string

// The modes; BootModeDefault leaves it to the firmware.
const (
	BootModeDefault BootMode = ""
	BootModeLegacy  BootMode = "Legacy"
	BootModeUEFI    BootMode = "UEFI"
)

// A BootOverride is what the host boots instead of its own order.
type BootOverride struct {
	Target BootTarget `json:"target"`
	Mode   BootMode   `json:"mode,omitempty"`
	// Continuous keeps the override over boots; else one boot uses it up.
	Continuous bool `json:"continuous,omitempty"`
	// Expires ends an override that no boot has used by then (IPMI 2.0
	// section 28.12, boot flag valid bit clearing); zero: it never ends.
	Expires time.Time `json:"expires,omitzero"`
}

const (
	bootBucket = "boot"
	bootKey    = "override"
)

// selectLimit bounds one call of a BootSelector.
const selectLimit = 5 * time.Second

// Boot holds the one boot override that every front-end shows and sets.
type Boot struct {
	sel    BootSelector
	db     *store.Store
	events *Events
	log    *slog.Logger

	setting sync.Mutex // one change at a time, the selector's part included
	wake    chan struct{}

	mu  sync.Mutex
	now BootOverride
	// current is what the boot under way began with.
	current BootOverride
	used    bool // a boot began and the override is still to be cleared
}

func newBoot(sel BootSelector, opt Options) *Boot {
	b := &Boot{sel: sel, db: opt.Store, events: opt.Events, log: opt.Log, wake: make(chan struct{}, 1)}
	none := BootOverride{Target: BootDefault}
	b.now, b.current = none, none
	if _, err := b.db.GetJSON(bootBucket, bootKey, &b.now); err != nil {
		b.now = none
		b.events.Add(Event{Severity: Warning, Kind: "boot.record", Message: fmt.Sprintf("The saved boot override cannot be read: %v.", err)})
	}
	return b
}

// Targets lists what Set takes besides BootDefault.
func (b *Boot) Targets() []BootTarget { return b.sel.Targets() }

// Get returns the override that the next boot will use.
func (b *Boot) Get() BootOverride {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.now.Expires.IsZero() && !time.Now().Before(b.now.Expires) {
		return BootOverride{Target: BootDefault}
	}
	return b.now
}

// Current returns the override that the boot under way began with: what a
// network boot service answers by.
func (b *Boot) Current() BootOverride {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.current
}

// Set changes the override. It answers errors.ErrUnsupported where the wires
// cannot boot the host that way, and ErrInvalid for values that make no sense.
// When it returns nil the override is on the disk and at the selector.
func (b *Boot) Set(o BootOverride, from Origin) error {
	switch o.Mode {
	case BootModeDefault, BootModeLegacy, BootModeUEFI:
	default:
		return fmt.Errorf("boot mode %q: %w", o.Mode, ErrInvalid)
	}
	if o.Target == BootDefault {
		o = BootOverride{Target: BootDefault}
	} else if !slices.Contains(b.sel.Targets(), o.Target) {
		return fmt.Errorf("boot target %q: %w", o.Target, errors.ErrUnsupported)
	}
	b.setting.Lock()
	defer b.setting.Unlock()
	b.mu.Lock()
	old := b.now
	b.mu.Unlock()
	if err := b.apply(o); err != nil {
		return err
	}
	if o != old {
		msg := "The boot override was cleared."
		if o.Target != BootDefault {
			msg = fmt.Sprintf("The host's next boot is from %s.", o.Target)
			if o.Continuous {
				msg = fmt.Sprintf("The host boots from %s from now on.", o.Target)
			}
		}
		b.events.Add(Event{Kind: "boot.override", Origin: from, Message: msg})
	}
	return nil
}

// apply makes o the override: selector, disk, memory. b.setting is held.
func (b *Boot) apply(o BootOverride) error {
	ctx, cancel := context.WithTimeout(context.Background(), selectLimit)
	defer cancel()
	if err := b.sel.SelectBoot(ctx, o.Target, o.Mode); err != nil {
		return fmt.Errorf("selecting boot from %s: %w", o.Target, err)
	}
	if err := b.db.PutJSON(bootBucket, bootKey, o); err != nil {
		return err
	}
	b.mu.Lock()
	b.now, b.used = o, false
	b.mu.Unlock()
	b.poke()
	return nil
}

// booted is told that a boot began. It returns at once: run clears an
// override that one boot uses up.
func (b *Boot) booted() {
	b.mu.Lock()
	b.current = b.now
	b.used = b.now.Target != BootDefault && !b.now.Continuous
	b.mu.Unlock()
	b.poke()
}

func (b *Boot) poke() {
	select {
	case b.wake <- struct{}{}:
	default: // run is awake already
	}
}

// run brings the kept override to the selector and clears it when it is used
// up or expired, until ctx ends.
func (b *Boot) run(ctx context.Context) {
	b.setting.Lock()
	if err := b.apply(b.Get()); err != nil {
		b.log.Warn("the boot override could not be taken up", "error", err)
	}
	b.setting.Unlock()
	for {
		b.mu.Lock()
		used, expires := b.used, b.now.Expires
		b.mu.Unlock()
		var due <-chan time.Time
		if !expires.IsZero() {
			due = time.After(time.Until(expires))
		}
		if used {
			b.clear("The boot override was used.")
			continue
		}
		select {
		case <-b.wake:
		case <-due:
			b.clear("The boot override expired unused.")
		case <-ctx.Done():
			return
		}
	}
}

// clear ends the override. A selector that fails is told and not asked again:
// its next change is.
func (b *Boot) clear(why string) {
	b.setting.Lock()
	defer b.setting.Unlock()
	b.mu.Lock()
	stale := !b.used && (b.now.Expires.IsZero() || time.Now().Before(b.now.Expires))
	b.mu.Unlock()
	if stale {
		return // somebody set another meanwhile
	}
	if err := b.apply(BootOverride{Target: BootDefault}); err != nil {
		b.mu.Lock()
		b.now, b.used = BootOverride{Target: BootDefault}, false
		b.mu.Unlock()
		b.events.Add(Event{Severity: Warning, Kind: "boot.override", Message: fmt.Sprintf("The boot override could not be cleared: %v.", err)})
		return
	}
	b.events.Add(Event{Kind: "boot.override", Message: why})
}

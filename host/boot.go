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
	BootUSB       BootTarget = "Usb"
	BootFloppy    BootTarget = "Floppy"
	BootDiags     BootTarget = "Diags"
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

// A BootOverride is what the host boots instead of its own order. A Mode
// beside BootDefault says only how it boots: it holds until BootDefault is set
// again, and comes back when an override that was set meanwhile is used up.
type BootOverride struct {
	Target BootTarget `json:"target"`
	Mode   BootMode   `json:"mode,omitempty"`
	// Continuous keeps the override over boots; else one boot uses it up.
	Continuous bool `json:"continuous,omitempty"`
	// Expires ends an override that no boot has used by then (IPMI 2.0
	// section 28.12, boot flag valid bit clearing); zero: it never ends.
	Expires time.Time `json:"expires,omitzero"`
}

// A bootRecord is what the store keeps.
type bootRecord struct {
	BootOverride
	// Standing is the mode that was set beside BootDefault.
	Standing BootMode `json:"standing_mode,omitempty"`
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
	// mode is the one that was set beside BootDefault.
	mode BootMode
	// current is what the boot under way began with.
	current BootOverride
	used    bool // a boot began and the override is still to be cleared
	chosen  bool // the selector knows of now
	saved   bool // and the disk
	told    bool // that the selector fails
}

func newBoot(sel BootSelector, opt Options) *Boot {
	b := &Boot{sel: sel, db: opt.Store, events: opt.Events, log: opt.Log, wake: make(chan struct{}, 1)}
	none := BootOverride{Target: BootDefault}
	b.now, b.current, b.saved = none, none, true
	kept := bootRecord{BootOverride: none}
	if _, err := b.db.GetJSON(bootBucket, bootKey, &kept); err == nil {
		b.now, b.mode = kept.BootOverride, kept.Standing
	} else {
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
	return b.get()
}

func (b *Boot) get() BootOverride {
	if b.used || b.expired() {
		return BootOverride{Target: BootDefault, Mode: b.mode}
	}
	return b.now
}

func (b *Boot) expired() bool {
	return !b.now.Expires.IsZero() && !time.Now().Before(b.now.Expires)
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
		o = BootOverride{Target: BootDefault, Mode: o.Mode}
	} else if !slices.Contains(b.sel.Targets(), o.Target) {
		return fmt.Errorf("boot target %q: %w", o.Target, errors.ErrUnsupported)
	}
	b.setting.Lock()
	defer b.setting.Unlock()
	b.mu.Lock()
	old, mode := b.now, b.mode
	b.mu.Unlock()
	if o.Target == BootDefault {
		mode = o.Mode
	}
	if err := b.choose(o); err != nil {
		return err
	}
	if err := b.db.PutJSON(bootBucket, bootKey, bootRecord{o, mode}); err != nil {
		return errors.Join(err, b.choose(old)) // a refused override must not be used
	}
	b.mu.Lock()
	b.mode = mode
	b.now, b.used, b.chosen, b.saved = o, false, true, true
	b.mu.Unlock()
	b.poke() // run has its end to wait for
	// Another end alone is no news: scripts set the same flags again and again.
	old.Expires, o.Expires = time.Time{}, time.Time{}
	if o != old {
		var msg string
		switch {
		case o.Target == BootDefault && o.Mode != BootModeDefault:
			msg = fmt.Sprintf("The host boots in %s mode, from what its firmware chooses, from now on.", o.Mode)
		case o.Target == BootDefault:
			msg = "The boot override was cleared."
		case o.Continuous:
			msg = fmt.Sprintf("The host boots from %s from now on.", o.Target)
		default:
			msg = fmt.Sprintf("The host's next boot is from %s.", o.Target)
		}
		b.events.Add(Event{Kind: "boot.override", Origin: from, Message: msg})
	}
	return nil
}

// Extend gives an override that has an end another one; zero: it has none from
// now on. Where there is no such override it does nothing. When it returns nil
// the end is on the disk.
func (b *Boot) Extend(expires time.Time, from Origin) error {
	b.setting.Lock()
	defer b.setting.Unlock()
	b.mu.Lock()
	old := b.now.Expires
	if b.get().Target == BootDefault || old.IsZero() || old.Equal(expires) {
		b.mu.Unlock()
		return nil
	}
	// At once, so that it cannot end while the disk is waited for.
	b.now.Expires = expires
	now := bootRecord{b.now, b.mode}
	b.mu.Unlock()
	err := b.db.PutJSON(bootBucket, bootKey, now)
	if err != nil {
		b.mu.Lock()
		b.now.Expires = old
		b.mu.Unlock()
	}
	b.poke() // run has another end to wait for
	if err != nil {
		return err
	}
	if expires.IsZero() {
		b.events.Add(Event{Kind: "boot.override", Origin: from, Message: "The boot override lasts until a boot uses it."})
	}
	return nil
}

// choose tells the selector. b.setting is held.
func (b *Boot) choose(o BootOverride) error {
	ctx, cancel := context.WithTimeout(context.Background(), selectLimit)
	defer cancel()
	if err := b.sel.SelectBoot(ctx, o.Target, o.Mode); err != nil {
		return fmt.Errorf("selecting boot from %s: %w", o.Target, err)
	}
	return nil
}

// booted is told that a boot began. It returns at once: run clears an
// override that one boot uses up.
func (b *Boot) booted() {
	b.mu.Lock()
	b.current = b.get()
	b.used = b.used || b.current.Target != BootDefault && !b.current.Continuous
	b.mu.Unlock()
	b.poke()
}

func (b *Boot) poke() {
	select {
	case b.wake <- struct{}{}:
	default: // run is awake already
	}
}

// selectRetry is how long a selector that failed is left alone.
const selectRetry = 10 * time.Second

// run brings the override to the selector, and clears it when it is used up
// or expired, until ctx ends.
func (b *Boot) run(ctx context.Context) {
	b.mu.Lock()
	b.chosen = false // another run may have told it otherwise
	b.mu.Unlock()
	for {
		b.settle()
		b.mu.Lock()
		done, expires := b.chosen && b.saved, b.now.Expires
		b.mu.Unlock()
		var due, retry <-chan time.Time
		if !expires.IsZero() {
			due = time.After(time.Until(expires))
		}
		if !done {
			retry = time.After(selectRetry)
		}
		select {
		case <-b.wake:
		case <-due:
		case <-retry:
		case <-ctx.Done():
			return
		}
	}
}

// settle clears an override that is used up or expired, and sees to it that
// the selector knows what is chosen now.
func (b *Boot) settle() {
	b.setting.Lock()
	defer b.setting.Unlock()
	b.mu.Lock()
	used, expired := b.used, b.expired()
	if used || expired {
		b.now, b.used = BootOverride{Target: BootDefault, Mode: b.mode}, false
		b.chosen, b.saved = false, false
	}
	now, mode, chosen, saved, told := b.now, b.mode, b.chosen, b.saved, b.told
	b.mu.Unlock()
	switch {
	case used:
		b.events.Add(Event{Kind: "boot.override", Message: "The boot override was used."})
	case expired:
		b.events.Add(Event{Kind: "boot.override", Message: "The boot override expired unused."})
	}
	var errs []error
	if !saved {
		err := b.db.PutJSON(bootBucket, bootKey, bootRecord{now, mode})
		saved = err == nil
		errs = append(errs, err)
	}
	if !chosen {
		err := b.choose(now)
		chosen = err == nil
		errs = append(errs, err)
	}
	err := errors.Join(errs...)
	b.mu.Lock()
	b.chosen, b.saved, b.told = chosen, saved, err != nil
	b.mu.Unlock()
	if err != nil && !told {
		b.events.Add(Event{Severity: Warning, Kind: "boot.override", Message: fmt.Sprintf("The host may not boot as shown: %v.", err)})
	}
}

package bmc

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/nitrino/nitrino/block"
	"github.com/nitrino/nitrino/block/volume"
	"github.com/nitrino/nitrino/host"
	"github.com/nitrino/nitrino/internal/ipc"
	"github.com/nitrino/nitrino/internal/settings"
)

// kindTargetChanged is the event of a target that was made, changed or deleted.
const kindTargetChanged = "iscsi.target-changed"

// An iscsiView is what the settings say of iSCSI, without secrets: to read all settings
// for each of a thousand targets takes long.
type iscsiView struct {
	mu         sync.Mutex
	generation uint64 // of the settings that it is of; 0: of none yet
	set        ISCSISettings
}

// iscsi is what the settings say of iSCSI, without secrets, and only to be read.
func (d *Disks) iscsi() ISCSISettings {
	d.view.mu.Lock()
	defer d.view.mu.Unlock()
	// What is newer than this generation is only read once more.
	if now := d.settings.Generation(); now != d.view.generation {
		d.view.set, d.view.generation = d.settings.Get().ISCSI, now
		for i := range d.view.set.Targets {
			t := &d.view.set.Targets[i]
			t.CHAP.Secret, t.Mutual.Secret = "", ""
		}
	}
	return d.view.set
}

// Targets are the iSCSI targets, without their secrets.
func (d *Disks) Targets() []block.Target {
	list := slices.Clone(d.iscsi().Targets)
	for i, t := range list {
		list[i].LUNs, list[i].Initiators = slices.Clone(t.LUNs), slices.Clone(t.Initiators)
	}
	return list
}

// TargetFailed says what of a target is not served, and why; "": all is, or iSCSI is off.
func (d *Disks) TargetFailed(name string) string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.served.list[name].Failed
}

// Served says how the targets that are exported fare; nothing while iSCSI is off.
func (d *Disks) Served() []ServedTarget {
	d.mu.Lock()
	defer d.mu.Unlock()
	list := []ServedTarget{}
	for _, t := range d.served.list {
		list = append(list, t)
	}
	slices.SortFunc(list, func(a, b ServedTarget) int { return slices.Compare([]byte(a.Name), []byte(b.Name)) })
	return list
}

// TargetName is the usual name of the target of a volume.
func (d *Disks) TargetName(volume string) string { return TargetName(volume) }

// PutTarget makes a target, or changes the one of its name. Credentials whose user
// stays the same and that have no secret keep theirs. host.ErrInvalid says what is
// wrong with it.
func (d *Disks) PutTarget(ctx context.Context, t block.Target, from host.Origin) error {
	for _, text := range []string{t.Alias, t.CHAP.User, t.CHAP.Secret, t.Mutual.User, t.Mutual.Secret} {
		if !utf8.ValidString(text) { // the settings would keep another one
			return fmt.Errorf("%w: a text of the target is not UTF-8", host.ErrInvalid)
		}
	}
	// Lists that are absent are empty.
	t.LUNs, t.Initiators = append([]block.LUN{}, t.LUNs...), append([]string{}, t.Initiators...)
	what := "made"
	err := d.changeTargets(ctx, func(list []block.Target) ([]block.Target, error) {
		i := slices.IndexFunc(list, func(o block.Target) bool { return o.Name == t.Name })
		if i < 0 {
			return append(list, t), nil
		}
		what = "changed"
		keep := func(now *block.Credentials, was block.Credentials) {
			if now.Secret == "" && now.User == was.User {
				now.Secret = was.Secret
			}
		}
		keep(&t.CHAP, list[i].CHAP)
		keep(&t.Mutual, list[i].Mutual)
		list[i] = t
		return list, nil
	})
	if err == nil {
		d.events.Add(Event{Kind: kindTargetChanged, Origin: from, Message: fmt.Sprintf("The iSCSI target %s was %s.", t.Name, what)})
	}
	return err
}

// DeleteTarget takes a target away, also from those that are logged in;
// volume.ErrNotFound where there is none of the name.
func (d *Disks) DeleteTarget(ctx context.Context, name string, from host.Origin) error {
	err := d.changeTargets(ctx, func(list []block.Target) ([]block.Target, error) {
		i := slices.IndexFunc(list, func(o block.Target) bool { return o.Name == name })
		if i < 0 {
			return nil, fmt.Errorf("the target %.240q: %w", name, errNoTarget)
		}
		return slices.Delete(list, i, i+1), nil
	})
	if err == nil {
		d.events.Add(Event{Kind: kindTargetChanged, Origin: from, Message: fmt.Sprintf("The iSCSI target %s was deleted.", name)})
	}
	return err
}

// errNoTarget is also volume.ErrNotFound, so that front-ends have one kind to know.
var errNoTarget error = &diskError{"there is no such target", []error{volume.ErrNotFound}}

// changeTargets changes the targets in the settings, and has them exported.
func (d *Disks) changeTargets(ctx context.Context, change func([]block.Target) ([]block.Target, error)) error {
	d.targeting.Lock()
	defer d.targeting.Unlock()
	list, err := change(d.settings.Get().ISCSI.Targets)
	if err != nil {
		return err
	}
	text, err := json.Marshal(list)
	if err != nil {
		return err
	}
	if err := d.settings.Set("iscsi.targets", string(text)); err != nil {
		if _, wrong := errors.AsType[*settings.Error](err); wrong {
			return fmt.Errorf("%w: %w", host.ErrInvalid, err)
		}
		return err
	}
	if err := d.push(ctx, false); err != nil && !errors.Is(err, ErrDisk) {
		// It is in the settings, and the next connection brings it there.
		d.log.Warn("the iSCSI targets", "error", err)
	}
	return nil
}

// pushed is what the disk process was told to export.
type pushed struct {
	conn *ipc.Conn
	text string
}

// pushLimit is how long the disk process has for what it is to export. It may wait
// for storage that does not answer; what comes next must not wait with it, as that
// may be the end of it all.
const pushLimit = 30 * time.Second

// held is what is left of the settings of iSCSI where a part of the settings was lost.
type held struct {
	text string // as JSON; empty: nothing was lost
	told bool
}

// hold is for settings of which a part was lost. What the disk process exports may
// have been in that part, and hosts are at work on it: it stays as it is until somebody
// changes what is left of the settings of iSCSI. Call it before run.
func (d *Disks) hold() error {
	text, err := json.Marshal(d.settings.Get().ISCSI)
	d.held.text = string(text)
	return err
}

// holds says whether what the disk process exports is to stay as it is. One that
// exports nothing has nothing to lose. The caller holds pushing.
func (d *Disks) holds(wanted string) bool {
	if wanted != d.held.text || len(d.Served()) == 0 {
		d.held.text = ""
		return false
	}
	if !d.held.told {
		d.held.told = true
		d.events.Add(Event{Severity: Warning, Kind: kindNotApplied,
			Message: "A part of the settings is lost. iSCSI still exports what it did before. Set anew what it shall export: any change of the settings makes the loss final at the next start."})
	}
	return true
}

// push tells the disk process what to export, again also where it knows, and returns
// when it does.
func (d *Disks) push(ctx context.Context, again bool) error {
	ctx, cancel := context.WithTimeout(ctx, pushLimit)
	defer cancel()
	d.pushing.Lock()
	defer d.pushing.Unlock()
	c, err := d.connection()
	if err != nil {
		return err
	}
	set := d.settings.Get().ISCSI
	text, err := json.Marshal(set)
	if err != nil {
		return err
	}
	if d.held.text != "" && d.holds(string(text)) {
		return nil
	}
	now := &pushed{c, string(text)}
	if !again && d.pushed != nil && *d.pushed == *now {
		return nil
	}
	m := targetsMessage{First: true, Enabled: set.Enabled, List: []block.Target{}}
	size := 0
	for _, t := range set.Targets {
		text, err := json.Marshal(t)
		if err != nil {
			return err
		}
		if size += len(text); size > pageSize && len(m.List) > 0 {
			m.More = true
			if err := callError(c.Call(ctx, diskTargets, m, nil)); err != nil {
				return err
			}
			m = targetsMessage{Enabled: set.Enabled}
			size = len(text)
		}
		m.List = append(m.List, t)
	}
	if err := callError(c.Call(ctx, diskTargets, m, nil)); err != nil {
		return err
	}
	d.pushed = now
	return nil
}

package bmc

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/nitrino/nitrino/block"
	"github.com/nitrino/nitrino/block/volume"
	"github.com/nitrino/nitrino/host"
	"github.com/nitrino/nitrino/internal/ipc"
	"github.com/nitrino/nitrino/internal/settings"
)

// kindTargetChanged is the event of a target that was made, changed or deleted.
const kindTargetChanged = "iscsi.target-changed"

// Targets are the iSCSI targets, without their secrets.
func (d *Disks) Targets() []block.Target {
	list := d.settings.Get().ISCSI.Targets
	for i := range list {
		list[i].CHAP.Secret, list[i].Mutual.Secret = "", ""
	}
	return list
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
	if err := d.push(ctx); err != nil && !errors.Is(err, ErrDisk) {
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

// push tells the disk process what to export, and returns when it does.
func (d *Disks) push(ctx context.Context) error {
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
	now := &pushed{c, string(text)}
	if d.pushed != nil && *d.pushed == *now {
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

package bmc

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/nitrino/nitrino/block"
	"github.com/nitrino/nitrino/block/volume"
	"github.com/nitrino/nitrino/host"
)

// kindVolumeMissing is the event of a volume of the settings that cannot be made.
const kindVolumeMissing = "volume.missing"

// maxRetry bounds the pause between two attempts to make a volume. A file that was
// loaded whole and is another one than expected hardly becomes right, and each attempt
// writes it to the card, which wears out: maxReload is for that.
const (
	maxRetry  = 10 * time.Minute
	maxReload = 24 * time.Hour
)

// A wantedVolume is how a volume of the settings fares.
type wantedVolume struct {
	settings VolumeSettings
	failed   string // the last attempt's error
	pause    time.Duration
	next     time.Time // of the next attempt
	coming   <-chan error
}

// provide has the volumes that the settings want made, until ctx ends.
func (d *Disks) provide(ctx context.Context) {
	wanted := make(map[string]*wantedVolume)
	for ctx.Err() == nil {
		gen := d.settings.Generation() // before Get: no change in between is missed
		changed := d.Changed()
		set := d.settings.Get()
		var wait time.Duration
		if d.Up() {
			wait = d.provideAll(ctx, set, wanted)
		}
		d.wait(ctx, gen, changed, wait)
	}
}

// export has what the settings want exported, until ctx ends. It is apart from provide,
// as volumes that cannot be had may take long: a revocation does not wait for them.
func (d *Disks) export(ctx context.Context) {
	for ctx.Err() == nil {
		gen := d.settings.Generation() // before push: no change in between is missed
		changed := d.Changed()
		var wait time.Duration
		if d.Up() {
			if err := d.push(ctx, false); err != nil && ctx.Err() == nil && !errors.Is(err, ErrDisk) {
				d.log.Warn("the iSCSI targets", "error", err)
				wait = d.retry
			}
		}
		d.wait(ctx, gen, changed, wait)
	}
}

// wait waits for a change, of the settings since gen or of the volumes, at most for
// the limit; 0 is a long one.
func (d *Disks) wait(ctx context.Context, gen uint64, changed <-chan struct{}, limit time.Duration) {
	if limit <= 0 {
		limit = maxRetry
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	var watch sync.WaitGroup
	defer watch.Wait()
	defer cancel()
	watch.Go(func() {
		if _, err := d.settings.Wait(ctx, gen); err == nil {
			cancel()
		}
	})
	select {
	case <-changed:
	case <-ctx.Done():
	}
}

// provideAll makes what is missing, and says when to look again though nothing has
// changed; 0: never.
func (d *Disks) provideAll(ctx context.Context, set Settings, wanted map[string]*wantedVolume) (wait time.Duration) {
	there := make(map[string]bool, len(set.Volumes))
	for _, v := range set.Volumes {
		there[v.Name] = true
		w := wanted[v.Name]
		if w == nil || !w.settings.equal(v) {
			next := &wantedVolume{settings: v}
			if w != nil {
				next.coming = w.coming // it goes on
			}
			wanted[v.Name] = next
		}
	}
	settled := true
	for _, v := range set.Volumes {
		w := wanted[v.Name]
		if left := d.provideOne(ctx, w, wanted[v.Clone]); left > 0 && (wait == 0 || left < wait) {
			wait = left
		}
		settled = settled && w.coming == nil
	}
	for name := range wanted {
		if !there[name] {
			delete(wanted, name)
		}
	}
	if !settled || d.Settled() {
		return wait
	}
	// Targets may have been exported before their volumes were there, whose units the
	// disk process adds by itself, some time. When it answers this it has.
	err := d.push(ctx, true)
	if err == nil {
		d.set(func() { d.settled = true })
	} else if ctx.Err() == nil && !errors.Is(err, ErrDisk) {
		d.log.Warn("the iSCSI targets", "error", err)
		if wait == 0 || d.retry < wait {
			wait = d.retry
		}
	}
	return wait
}

func (v VolumeSettings) equal(o VolumeSettings) bool {
	a, b := v.Image, o.Image
	v.Image, o.Image = nil, nil
	return v == o && (a == nil) == (b == nil) && (a == nil || *a == *b)
}

// Settled says whether the volumes of the settings are there as far as they can be,
// and exported, for the first time since the start.
func (d *Disks) Settled() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.settled
}

// provideOne makes or grows a volume if that is to be done now, and says how soon to
// look again; 0: not before something changes. image is what it is to be a clone of,
// where that is in the settings too.
func (d *Disks) provideOne(ctx context.Context, w, image *wantedVolume) time.Duration {
	var err error
	if w.coming != nil {
		select {
		case err = <-w.coming:
			w.coming = nil
		default:
			return 0 // its end is a change
		}
	}
	v := w.settings
	i, gerr := d.Get(v.Name)
	if _, absent := d.Get(v.Clone); gerr != nil && v.Clone != "" && absent != nil {
		// It is made as soon as that is there.
		w.pause, w.next = 0, time.Time{}
		if image == nil || image.coming == nil && image.failed != "" {
			d.volumeMissing(w, absent)
		}
		return 0
	}
	switch {
	case gerr == nil && i.Size >= v.Size:
		w.failed, w.pause, w.next = "", 0, time.Time{}
		return 0
	case err == nil && time.Now().Before(w.next):
		return time.Until(w.next)
	case err != nil: // of the import that just ended
	case gerr == nil:
		err = d.Resize(ctx, v.Name, v.Size, host.Origin{})
	case v.Image != nil:
		w.coming, err = d.provideImage(v)
	default:
		_, err = d.Create(ctx, block.CreateRequest{Name: v.Name, Size: v.Size, BlockSize: v.BlockSize, Clone: v.Clone, Upstream: v.Upstream}, host.Origin{})
		if errors.Is(err, volume.ErrExists) {
			err = nil // somebody was quicker
		}
	}
	if err == nil || ctx.Err() != nil || errors.Is(err, ErrDisk) {
		return 0
	}
	d.volumeMissing(w, err)
	w.pause = min(max(2*w.pause, d.retry), maxRetry)
	if errors.Is(err, volume.ErrContent) {
		w.pause = maxReload
	}
	w.next = time.Now().Add(w.pause)
	return w.pause
}

// volumeMissing tells why a volume cannot be made, once.
func (d *Disks) volumeMissing(w *wantedVolume, err error) {
	if w.failed != err.Error() {
		w.failed = err.Error()
		d.events.Add(Event{Severity: Warning, Kind: kindVolumeMissing, Message: fmt.Sprintf("The volume %s of the settings cannot be had; it is tried again: %v.", w.settings.Name, err)})
	}
}

// provideImage begins to import an image. volumeMissing tells that it failed, and not
// each time.
func (d *Disks) provideImage(v VolumeSettings) (<-chan error, error) {
	_, ended, err := d.beginImport(block.ImportRequest{
		Name: v.Name, Kind: block.KindImage, Format: v.Image.Format, SHA256: v.Image.SHA256, Size: v.Size, BlockSize: v.BlockSize,
	}, v.Image.URL, host.Origin{}, func(error) {})
	return ended, err
}

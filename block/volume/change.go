package volume

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/nitrino/nitrino/block"
	"github.com/nitrino/nitrino/block/raw"
	"github.com/nitrino/nitrino/host"
)

// defaultPhysical is the physical block of volumes that nobody asked another one
// for, in bytes: that of file systems, and of the overlays' clusters.
const defaultPhysical = 4096

// Create makes an empty disk, a clone of an image or a snapshot, or a volume on an
// NBD server.
func (s *Store) Create(ctx context.Context, r block.CreateRequest) (block.Info, error) {
	d := volumeDescription{Kind: block.KindDisk, BlockSize: r.BlockSize, PhysicalSize: r.PhysicalSize}
	switch {
	case r.Clone != "" && r.Upstream != "":
		return block.Info{}, fmt.Errorf("%w: a clone has no upstream of its own", ErrRequest)
	case r.ReadOnly && r.Upstream == "":
		return block.Info{}, fmt.Errorf("%w: an empty volume or a clone that is read-only", ErrRequest)
	case r.ReadOnly:
		d.Kind = block.KindImage
	}
	l := layerDescription{Format: block.FormatRaw, Size: r.Size}
	if r.Upstream != "" {
		size, err := s.probe(ctx, r.Upstream)
		if err != nil {
			return block.Info{}, fmt.Errorf("creating %s: %w", r.Name, err)
		}
		if r.Size != 0 && r.Size != size {
			return block.Info{}, fmt.Errorf("%w: the NBD server's disk has %d bytes", ErrRequest, size)
		}
		l = layerDescription{Format: block.FormatNBD, Size: size, Upstream: r.Upstream, ReadOnly: r.ReadOnly}
	}
	if err := s.lock(ctx); err != nil {
		return block.Info{}, err
	}
	defer s.unlock()
	if err := s.vacant(r.Name); err != nil {
		return block.Info{}, err
	}
	if r.Clone != "" {
		base, err := s.cloneable(r.Clone)
		if err != nil {
			return block.Info{}, err
		}
		d.Base = naming{base.desc.UUID, base.name}
		d.BlockSize = cmp.Or(d.BlockSize, base.desc.BlockSize)
		d.PhysicalSize = cmp.Or(d.PhysicalSize, base.desc.PhysicalSize)
		below := s.layerOf(base)
		size := cmp.Or(r.Size, below.desc.Size)
		if size < below.desc.Size {
			return block.Info{}, fmt.Errorf("%w: %s has %d bytes", ErrShrink, r.Clone, below.desc.Size)
		}
		l = layerDescription{Format: block.FormatCoW, Size: size, Base: below.id}
	}
	if err := s.create(r.Name, d, l); err != nil {
		return block.Info{}, fmt.Errorf("creating %s: %w", r.Name, err)
	}
	what := "created"
	if r.Clone != "" {
		what = "created as a clone of " + r.Clone
	}
	s.notify()
	s.report(host.OK, "volume.created", "The volume %s was %s.", r.Name, what)
	return s.Get(r.Name)
}

// create makes a volume with a layer of its own. The caller holds changing.
func (s *Store) create(name string, d volumeDescription, l layerDescription) error {
	d.BlockSize = cmp.Or(d.BlockSize, block.SectorSize)
	d.PhysicalSize = cmp.Or(d.PhysicalSize, max(d.BlockSize, defaultPhysical))
	if err := errors.Join(checkBlocks(d.BlockSize, d.PhysicalSize), checkSize(l.Size)); err != nil {
		return fmt.Errorf("%w: %w", ErrRequest, err)
	}
	if l.Size%int64(d.BlockSize) != 0 {
		return fmt.Errorf("%w: %d bytes are no whole blocks of %d", ErrRequest, l.Size, d.BlockSize)
	}
	if err := s.depth(l.Base); err != nil {
		return err
	}
	if err := s.room.need(2 * maxDescription); err != nil {
		return err
	}
	made, err := s.newLayer(l)
	if err != nil {
		return err
	}
	if err := s.name(name, d, made); err != nil {
		s.sweep()
		return err
	}
	return nil
}

// name gives a layer its volume, which is what makes it count.
func (s *Store) name(name string, d volumeDescription, l *layer) error {
	d.Version, d.Layer = descriptionVersion, l.id
	d.UUID = cmp.Or(d.UUID, uuid.NewString())
	d.Created = time.Now().UTC().Truncate(time.Second)
	path := s.volumePath(name)
	if err := s.put(path, d); err != nil {
		if gone := s.remove(path); gone != nil {
			s.setUnsure() // which of the two it is
			return errors.Join(err, gone)
		}
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.volumes[name] = &volume{name: name, desc: d}
	return nil
}

func (s *Store) setUnsure() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.unsure = true
}

// probe asks an NBD server how large its disk is.
func (s *Store) probe(ctx context.Context, uri string) (int64, error) {
	if s.opt.Dial == nil {
		return 0, fmt.Errorf("NBD servers: %w", errors.ErrUnsupported)
	}
	ctx, cancel := context.WithTimeout(ctx, dialTime)
	defer cancel()
	d, err := s.opt.Dial(ctx, uri, nil)
	if err != nil {
		return 0, err
	}
	return d.Size(), d.Close()
}

// vacant is nil for a name that a new volume can have. The caller holds changing.
func (s *Store) vacant(name string) error {
	if err := CheckName(name); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.volumes[name] != nil || s.reserved[name] {
		return fmt.Errorf("%w: %s", ErrExists, name)
	}
	return nil
}

// sound finds a volume that has not failed.
func (s *Store) sound(name string) (*volume, error) {
	v, err := s.find(name)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.layers[v.desc.Layer] == nil {
		return nil, fmt.Errorf("%w: %s: %s", ErrFailed, name, v.failed)
	}
	return v, nil
}

func (s *Store) cloneable(name string) (*volume, error) {
	v, err := s.sound(name)
	if err == nil && v.desc.Kind == block.KindDisk {
		err = fmt.Errorf("%w: %s may be written to; a clone is made of an image or a snapshot", ErrRequest, name)
	}
	return v, err
}

func (s *Store) layerOf(v *volume) *layer {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.layers[v.desc.Layer]
}

// depth fails where a layer on this one would be one too many.
func (s *Store) depth(id string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for l := s.layers[id]; l != nil; l = s.layers[l.desc.Base] {
		if n++; n >= maxDepth {
			return fmt.Errorf("%w: it would stand on more than %d others; delete snapshots first", ErrRequest, maxDepth)
		}
	}
	return nil
}

// Resize grows a volume, also while hosts use it. Size is in bytes.
func (s *Store) Resize(ctx context.Context, name string, size int64) error {
	if err := s.lock(ctx); err != nil {
		return err
	}
	defer s.unlock()
	v, err := s.sound(name)
	if err != nil {
		return err
	}
	l := s.layerOf(v)
	switch {
	case v.desc.Kind != block.KindDisk:
		return fmt.Errorf("resizing %s: %w", name, block.ErrReadOnly)
	case checkSize(size) != nil || size%int64(v.desc.BlockSize) != 0:
		return fmt.Errorf("%w: %d bytes are no whole blocks of %d", ErrRequest, size, v.desc.BlockSize)
	case size < l.desc.Size:
		return fmt.Errorf("resizing %s from %d to %d bytes: %w", name, l.desc.Size, size, ErrShrink)
	case size == l.desc.Size:
		return nil
	}
	s.quiesce(l)
	disk, err := s.enter(v)
	if err != nil {
		return err
	}
	defer s.leave(v)
	if err := disk.Resize(size); err != nil {
		return fmt.Errorf("resizing %s: %w", name, err)
	}
	s.notify()
	s.report(host.OK, "volume.resized", "The volume %s has %d bytes now.", name, size)
	return nil
}

// resizeLayer grows the files and then the description: a description that has the
// smaller size of the two is right.
func (s *Store) resizeLayer(l *layer, d block.Device, size int64) error {
	r, ok := d.(block.Resizer)
	if !ok {
		return fmt.Errorf("the size cannot change: %w", errors.ErrUnsupported)
	}
	if err := s.step("resize files of layer"); err != nil {
		return err
	}
	if err := r.Resize(size); err != nil {
		return err
	}
	desc := l.desc
	desc.Size = size
	return s.describe(l, desc)
}

// describe replaces a layer's description.
func (s *Store) describe(l *layer, desc layerDescription) error {
	if err := s.replace(s.layerPath(l.id), desc, l.desc); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	l.desc = desc
	return nil
}

// Rename gives a volume that nobody uses another name.
func (s *Store) Rename(ctx context.Context, name, to string) error {
	if err := s.lock(ctx); err != nil {
		return err
	}
	defer s.unlock()
	v, err := s.find(name)
	if err != nil {
		return err
	}
	if err := s.vacant(to); err != nil {
		return err
	}
	s.quiesce(s.layerOf(v))
	v.use.Lock()
	defer v.use.Unlock()
	if v.opens > 0 {
		return fmt.Errorf("renaming %s: %w", name, ErrInUse)
	}
	if err := s.step("rename volume"); err != nil {
		return err
	}
	if err := os.Rename(s.volumePath(name), s.volumePath(to)); err != nil {
		return fmt.Errorf("renaming %s: %w", name, raw.NoSpace(err))
	}
	s.mu.Lock()
	delete(s.volumes, name)
	v.name = to
	s.volumes[to] = v
	s.mu.Unlock()
	s.notify()
	if err := syncFolder(s.folder("volumes")); err != nil {
		return fmt.Errorf("renaming %s: %w", name, err)
	}
	return nil
}

// Delete removes a volume that nobody uses. An image with clones stays; what stands
// on a snapshot takes over what it needs of it.
func (s *Store) Delete(ctx context.Context, name string) error {
	if err := s.lock(ctx); err != nil {
		return err
	}
	defer s.unlock()
	v, err := s.find(name)
	if err != nil {
		return err
	}
	l := s.layerOf(v)
	if v.desc.Kind == block.KindImage && l != nil {
		if on := s.standingOn(l); len(on) > 0 {
			return fmt.Errorf("%s: %w: %s", name, ErrStandsOn, strings.Join(on, ", "))
		}
	}
	s.quiesceDown(l)
	v.use.Lock()
	defer v.use.Unlock()
	if v.opens > 0 {
		return fmt.Errorf("deleting %s: %w", name, ErrInUse)
	}
	if err := s.remove(s.volumePath(name)); err != nil {
		return fmt.Errorf("deleting %s: %w", name, err)
	}
	s.mu.Lock()
	v.gone = true
	delete(s.volumes, name)
	s.mu.Unlock()
	s.sweep()
	s.wake()
	s.notify()
	s.report(host.OK, "volume.deleted", "The volume %s was deleted.", name)
	return nil
}

// standingOn names the volumes whose contents are on a layer, without those that
// have it themselves.
func (s *Store) standingOn(l *layer) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	names := make(map[string]bool)
	for _, v := range s.volumes {
		own, ok := s.layers[v.desc.Layer]
		for ok && own != l {
			if own.desc.Base == l.id {
				names[v.name] = true
			}
			own, ok = s.layers[own.desc.Base]
		}
	}
	return slices.Sorted(maps.Keys(names))
}

// Snapshot keeps how a disk is now under a name. Hosts that use it wait for a
// moment.
func (s *Store) Snapshot(ctx context.Context, of, name string) (block.Info, error) {
	if err := s.lock(ctx); err != nil {
		return block.Info{}, err
	}
	defer s.unlock()
	if err := s.vacant(name); err != nil {
		return block.Info{}, err
	}
	v, err := s.sound(of)
	if err != nil {
		return block.Info{}, err
	}
	if err := s.freeze(v, name); err != nil {
		return block.Info{}, fmt.Errorf("a snapshot of %s: %w", of, err)
	}
	s.notify()
	s.report(host.OK, "volume.snapshot", "The snapshot %s of the volume %s was taken.", name, of)
	return s.Get(name)
}

// freeze puts a new overlay on top of a disk's layer; the layer stays as it is now
// and becomes the snapshot of that name, if there is one. The caller holds changing.
func (s *Store) freeze(v *volume, snapshot string) error {
	if v.desc.Kind != block.KindDisk {
		return fmt.Errorf("%w: it is no disk", ErrRequest)
	}
	l := s.layerOf(v)
	s.quiesce(l)
	if err := s.depth(l.id); err != nil {
		return err
	}
	if err := s.room.need(3 * maxDescription); err != nil {
		return err
	}
	top, err := s.newLayer(layerDescription{Format: block.FormatCoW, Size: l.desc.Size, Base: l.id})
	if err != nil {
		return err
	}
	if err := s.moveTo(v, top); err != nil {
		s.sweep()
		return err
	}
	if snapshot == "" {
		return nil
	}
	d := v.desc
	d.UUID, d.Kind, d.Of, d.Source = "", block.KindSnapshot, naming{v.desc.UUID, v.name}, ""
	if err := s.name(snapshot, d, l); err != nil {
		s.wake() // nobody needs two layers
		return err
	}
	return nil
}

// moveTo has a disk go on with an empty overlay on its layer, also while it is in
// use.
func (s *Store) moveTo(v *volume, top *layer) error {
	v.use.Lock()
	defer v.use.Unlock()
	if v.disk == nil {
		return s.point(v, top)
	}
	return v.disk.Exchange(func(d block.Device) (block.Device, bool, error) {
		h := v.head
		// What the host knows to be written stays so; then the layer may be left alone.
		if err := d.Flush(); err != nil {
			return nil, false, err
		}
		// The overlay opens the layer below once more, and so keeps it when the head
		// has given it up.
		dev, err := s.acquire(top)
		if err != nil {
			return nil, false, err
		}
		if err := s.point(v, top); err != nil {
			s.release(top)
			return nil, false, err
		}
		s.release(h.layer)
		h.layer = top
		h.put(dev)
		return h, false, nil
	})
}

// point has a volume go on with another layer.
func (s *Store) point(v *volume, l *layer) error {
	d := v.desc
	d.Layer = l.id
	if err := s.replace(s.volumePath(v.name), d, v.desc); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	v.desc = d
	return nil
}

// Revert has a disk that nobody uses be as it was when one of its snapshots was
// taken, its size included.
func (s *Store) Revert(ctx context.Context, name, snapshot string) error {
	if err := s.lock(ctx); err != nil {
		return err
	}
	defer s.unlock()
	v, err := s.sound(name)
	if err != nil {
		return err
	}
	snap, err := s.sound(snapshot)
	if err != nil {
		return err
	}
	if snap.desc.Kind != block.KindSnapshot || snap.desc.Of.UUID != v.desc.UUID {
		return fmt.Errorf("%w: %s is no snapshot of %s", ErrRequest, snapshot, name)
	}
	s.quiesceDown(s.layerOf(v))
	v.use.Lock()
	defer v.use.Unlock()
	if v.opens > 0 {
		return fmt.Errorf("going back to %s: %w", snapshot, ErrInUse)
	}
	below := s.layerOf(snap)
	err = s.depth(below.id)
	var top *layer
	if err == nil {
		top, err = s.newLayer(layerDescription{Format: block.FormatCoW, Size: below.desc.Size, Base: below.id})
	}
	if err == nil {
		err = s.point(v, top)
	}
	s.sweep() // the layer that is not needed now, whichever it is
	if err != nil {
		return fmt.Errorf("going back to %s: %w", snapshot, err)
	}
	s.wake()
	s.notify()
	s.report(host.OK, "volume.reverted", "The volume %s is again as in its snapshot %s.", name, snapshot)
	return nil
}

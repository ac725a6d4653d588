package volume

import (
	"context"
	"fmt"
	"io"

	"github.com/nitrino/nitrino/block"
	"github.com/nitrino/nitrino/block/qcow2"
)

// Export writes a volume's contents as "raw" or "qcow2". Those of a disk are how it
// is when Export begins, whoever writes to it meanwhile. progress may be nil; it
// counts bytes of the volume.
func (s *Store) Export(ctx context.Context, name, format string, w io.Writer, progress func(done, total int64)) error {
	if format != "raw" && format != "qcow2" {
		return fmt.Errorf("%w: the format %q is not raw or qcow2", ErrRequest, format)
	}
	if progress == nil {
		progress = func(int64, int64) {}
	}
	l, err := s.moment(ctx, name)
	if err != nil {
		return fmt.Errorf("exporting %s: %w", name, err)
	}
	defer s.unpin(l)
	dev, err := s.acquire(l)
	if err != nil {
		return fmt.Errorf("exporting %s: %w", name, err)
	}
	defer s.release(l)
	if format == "qcow2" {
		err = qcow2.Write(ctx, w, dev, progress)
	} else {
		err = writeRaw(ctx, w, dev, progress)
	}
	if err != nil {
		return fmt.Errorf("exporting %s: %w", name, err)
	}
	return nil
}

// moment pins the layer that has a volume's contents as they are now. A disk's is
// frozen first, and merged again when nobody reads it any more.
func (s *Store) moment(ctx context.Context, name string) (*layer, error) {
	if err := s.lock(ctx); err != nil {
		return nil, err
	}
	defer s.unlock()
	v, err := s.sound(name)
	if err != nil {
		return nil, err
	}
	l := s.layerOf(v)
	s.quiesce(l) // it would put another device in the place of the one that is read
	s.mu.Lock()
	l.pins++
	s.mu.Unlock()
	if v.desc.Kind == block.KindDisk {
		if err := s.freeze(v, ""); err != nil {
			s.unpin(l)
			return nil, err
		}
	}
	return l, nil
}

func writeRaw(ctx context.Context, w io.Writer, d block.Device, progress func(done, total int64)) error {
	zeros := make([]byte, chunk)
	return walk(ctx, deviceSource{d}, func(offset, length int64, p []byte) error {
		for left := length; p == nil && left > 0; left -= chunk {
			if err := ctx.Err(); err != nil {
				return err
			}
			if _, err := w.Write(zeros[:min(left, chunk)]); err != nil {
				return err
			}
		}
		if _, err := w.Write(p); err != nil {
			return err
		}
		progress(offset+length, d.Size())
		return nil
	})
}

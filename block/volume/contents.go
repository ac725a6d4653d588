package volume

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"

	"github.com/nitrino/nitrino/block"
)

const (
	// grain is the unit of holes and digests, in bytes.
	grain = 4096
	// chunk is how much contents are moved at once, in bytes; whole grains.
	chunk = 256 << 10
	// digestSize is that of a digest, in bytes.
	digestSize = sha256.Size
)

// A digest is the SHA-256 of contents without their holes: of each grain that is
// not all zeros, in order, first its offset as 8 bytes, big-endian, then the grain,
// the last one filled up with zeros. A disk that is nearly empty so takes no longer
// than what is on it, whatever its size.
type digest struct {
	h    hash.Hash
	head [8]byte
}

func newDigest() *digest { return &digest{h: sha256.New()} }

// add takes a part of the contents whose offset is a multiple of grain.
func (d *digest) add(offset int64, p []byte) {
	for at := 0; at < len(p); at += grain {
		g := p[at:min(at+grain, len(p))]
		if isZero(g) {
			continue
		}
		binary.BigEndian.PutUint64(d.head[:], uint64(offset)+uint64(at))
		d.h.Write(d.head[:])
		d.h.Write(g)
		if missing := grain - len(g); missing > 0 {
			d.h.Write(make([]byte, missing))
		}
	}
}

func (d *digest) String() string { return hex.EncodeToString(d.h.Sum(nil)) }

func isZero(p []byte) bool {
	// Each byte equals its neighbour, and the first one is zero.
	return len(p) == 0 || p[0] == 0 && bytes.Equal(p[1:], p[:len(p)-1])
}

// A source is what contents are read from.
type source interface {
	Size() int64
	Extent(offset int64) (length int64, mapped bool, err error)
	ReadAt(p []byte, offset int64) (int, error)
}

// A deviceSource is a device as a source.
type deviceSource struct{ block.Device }

func (d deviceSource) ReadAt(p []byte, offset int64) (int, error) {
	if err := d.Readv([][]byte{p}, offset); err != nil {
		return 0, err
	}
	return len(p), nil
}

// walk calls f for all parts of the contents in order: with their bytes, or with
// none for length bytes that are zeros. Parts begin at multiples of grain.
func walk(ctx context.Context, from source, f func(offset, length int64, p []byte) error) error {
	buf := make([]byte, chunk)
	for at, size := int64(0), from.Size(); at < size; {
		if err := ctx.Err(); err != nil {
			return err
		}
		n, mapped, err := from.Extent(at)
		if err != nil {
			return err
		}
		if n <= 0 {
			return fmt.Errorf("%w: nothing at %d", block.ErrMedium, at)
		}
		end := at + n
		if !mapped && end < size {
			end &^= grain - 1 // the grain that a hole ends in is read
		}
		var p []byte
		if !mapped && end > at {
			n = end - at
		} else {
			n = min((n+grain-1)&^(grain-1), chunk, size-at)
			p = buf[:n]
			if read, err := from.ReadAt(p, at); read < len(p) {
				return errors.Join(fmt.Errorf("%w at %d", block.ErrMedium, at), err)
			}
		}
		if err := f(at, n, p); err != nil {
			return err
		}
		at += n
	}
	return nil
}

// Verify reads an image and compares it with the digest that it had when it came.
func (s *Store) Verify(ctx context.Context, name string) error {
	v, err := s.sound(name)
	if err != nil {
		return err
	}
	s.mu.Lock()
	want, l := v.desc.Digest, s.layers[v.desc.Layer]
	if l != nil {
		l.pins++
	}
	s.mu.Unlock()
	if l == nil {
		return fmt.Errorf("%w: %s", ErrNotFound, name)
	}
	defer s.unpin(l)
	if want == "" {
		return fmt.Errorf("verifying %s, of which no digest is known: %w", name, errors.ErrUnsupported)
	}
	dev, err := s.acquire(l)
	if err != nil {
		return err
	}
	defer s.release(l)
	got := newDigest()
	err = walk(ctx, deviceSource{dev}, func(offset, _ int64, p []byte) error {
		got.add(offset, p)
		return nil
	})
	if err == nil && got.String() != want {
		err = fmt.Errorf("%w: the digest is %s, not %s", block.ErrMedium, got, want)
	}
	if err == nil || errors.Is(err, block.ErrMedium) {
		s.failure(v, &v.damaged, err)
	}
	if err != nil {
		return fmt.Errorf("verifying %s: %w", name, err)
	}
	return nil
}

// unpin lets go of a layer that was kept for reading.
func (s *Store) unpin(l *layer) {
	s.mu.Lock()
	l.pins--
	s.mu.Unlock()
	s.wake() // Run deletes it, or merges it, if nothing has it any more
}

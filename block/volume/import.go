package volume

import (
	"bufio"
	"bytes"
	"cmp"
	"compress/gzip"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/klauspost/compress/zstd"

	"github.com/nitrino/nitrino/block"
	"github.com/nitrino/nitrino/block/qcow2"
	"github.com/nitrino/nitrino/block/raw"
	"github.com/nitrino/nitrino/host"
)

// maxWindow is how much of the unpacked data xz or zstd may have the reader keep in
// memory, in bytes: what xz -7 uses and zstd -19 does not reach. xz -9 would have
// 64 MiB, more than the process that serves the disks may take in all; one such
// stream is unpacked at a time (Store.unpacking).
const maxWindow = 16 << 20

// Import makes a volume of the data that in gives, to its end. progress, which may
// be nil, is told how many bytes of it have come. After an error nothing is left of
// it. Where ctx ends, in has to end too: a read under way is waited for.
func (s *Store) Import(ctx context.Context, r block.ImportRequest, in io.Reader, progress func(done, total int64)) (block.Info, error) {
	r.Kind = cmp.Or(r.Kind, block.KindImage)
	r.BlockSize = cmp.Or(r.BlockSize, block.SectorSize)
	if err := checkImport(r); err != nil {
		return block.Info{}, err
	}
	if err := s.reserve(ctx, r.Name); err != nil {
		return block.Info{}, err
	}
	defer s.unreserve(r.Name)
	info, err := s.receive(ctx, r, in, progress)
	if err != nil {
		return block.Info{}, fmt.Errorf("importing %s: %w", r.Name, raw.NoSpace(err))
	}
	return info, nil
}

func checkImport(r block.ImportRequest) error {
	sum, err := hex.DecodeString(r.SHA256)
	switch {
	case r.Kind != block.KindDisk && r.Kind != block.KindImage:
		return fmt.Errorf("%w: an import of the kind %q", ErrRequest, r.Kind)
	case r.Format != "" && r.Format != "raw" && r.Format != "qcow2":
		return fmt.Errorf("%w: the format %q is not raw or qcow2", ErrRequest, r.Format)
	case err != nil || len(sum) != 0 && len(sum) != sha256.Size:
		return fmt.Errorf("%w: a SHA-256 has 64 hexadecimal digits", ErrRequest)
	case r.Length < 0:
		return fmt.Errorf("%w: a length of %d bytes", ErrRequest, r.Length)
	}
	if r.Size != 0 {
		if err := checkSize(r.Size); err != nil {
			return fmt.Errorf("%w: %w", ErrRequest, err)
		}
	}
	if err := checkBlocks(r.BlockSize, max(r.BlockSize, defaultPhysical)); err != nil {
		return fmt.Errorf("%w: %w", ErrRequest, err)
	}
	return nil
}

// reserve keeps a name for an import.
func (s *Store) reserve(ctx context.Context, name string) error {
	if err := s.lock(ctx); err != nil {
		return err
	}
	defer s.unlock()
	if err := s.vacant(name); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.reserved[name] = true
	return nil
}

func (s *Store) unreserve(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.reserved, name)
}

// receive reads the data into a file of its own and makes that a volume.
func (s *Store) receive(ctx context.Context, r block.ImportRequest, in io.Reader, progress func(done, total int64)) (info block.Info, err error) {
	path := filepath.Join(s.folder("incoming"), rand.Text())
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return block.Info{}, err
	}
	defer func() {
		err = errors.Join(err, f.Close())
		if gone := os.Remove(path); gone != nil && !errors.Is(gone, os.ErrNotExist) {
			err = errors.Join(err, gone)
		}
	}()
	d := volumeDescription{Kind: r.Kind, Source: r.Source, BlockSize: r.BlockSize}
	l := layerDescription{Format: block.FormatRaw, ReadOnly: r.Kind == block.KindImage}
	l.Size, d.Digest, err = s.unpack(ctx, r, in, f, progress)
	if err != nil {
		return block.Info{}, err
	}
	mode := os.FileMode(0o600)
	if l.ReadOnly {
		mode = 0o400
	} else {
		d.Digest = ""
	}
	if err := errors.Join(f.Truncate(l.Size), f.Chmod(mode), f.Sync()); err != nil {
		return block.Info{}, err
	}
	if err := s.lock(ctx); err != nil {
		return block.Info{}, err
	}
	defer s.unlock()
	if err := s.install(path, r.Name, d, l); err != nil {
		return block.Info{}, err
	}
	s.notify()
	s.report(host.OK, "volume.imported", "The volume %s was imported (%d bytes).", r.Name, l.Size)
	return s.Get(r.Name)
}

// install makes a finished file a layer, and that a volume. The caller holds
// changing.
func (s *Store) install(path, name string, d volumeDescription, desc layerDescription) error {
	l := &layer{id: rand.Text(), desc: desc}
	l.desc.Version, l.desc.Data = descriptionVersion, l.id
	if err := s.step("install import"); err != nil {
		return err
	}
	if err := os.Rename(path, s.dataPath(l.desc)+".raw"); err != nil {
		return err
	}
	if err := syncFolder(s.folder("layers")); err != nil {
		return errors.Join(err, s.removeFiles(l.desc))
	}
	if err := s.addLayer(l); err != nil {
		return err
	}
	d.PhysicalSize = max(d.BlockSize, defaultPhysical)
	if err := s.name(name, d, l); err != nil {
		s.sweep()
		return err
	}
	return nil
}

// unpack reads the stream to its end and writes the contents to f. It gives the
// volume's size and the contents' digest.
func (s *Store) unpack(ctx context.Context, r block.ImportRequest, in io.Reader, f *os.File, progress func(done, total int64)) (int64, string, error) {
	arriving := &arrival{ctx: ctx, in: in, length: r.Length, sum: sha256.New(), progress: progress}
	buffered := bufio.NewReaderSize(arriving, chunk)
	data, packed, err := unpacked(buffered)
	if err != nil {
		return 0, "", err
	}
	defer data.Close()
	if packed == windowed {
		select {
		case s.unpacking <- struct{}{}:
			defer func() { <-s.unpacking }()
		case <-ctx.Done():
			return 0, "", ctx.Err()
		}
	}
	plain := bufio.NewReaderSize(data, 4096)
	magic, err := plain.Peek(4)
	if err != nil && !errors.Is(err, io.EOF) {
		return 0, "", readError(err)
	}
	limit := int64(MaxSize)
	if packed != unpackedAlready {
		// A few bytes can unpack to any number: more than the card has is of no use.
		if _, limit, err = s.room.space(); err != nil {
			return 0, "", err
		}
	}
	isQcow2 := bytes.Equal(magic, []byte("QFI\xfb")) // docs/interop/qcow2.txt of QEMU, "Header"
	if isQcow2 && r.Format == "" || r.Format == "qcow2" {
		if packed == unpackedAlready {
			if err := s.room.need(r.Length); err != nil {
				return 0, "", err
			}
		}
		if !isQcow2 {
			return 0, "", fmt.Errorf("%w: it is no qcow2 image", ErrContent)
		}
		return s.unpackQcow2(ctx, r, plain, buffered, arriving, f, limit)
	}
	w := newSparse(f, s.room)
	if err := w.copy(plain, limit); err != nil {
		return 0, "", err
	}
	if err := arriving.end(buffered, r); err != nil {
		return 0, "", err
	}
	size, err := finalSize(r, w.at)
	return size, w.digest.String(), err
}

// unpackQcow2 keeps the image in a file that has no name, since its parts come in
// no order, and converts that.
func (s *Store) unpackQcow2(ctx context.Context, r block.ImportRequest, in io.Reader, buffered *bufio.Reader, arriving *arrival, f *os.File, limit int64) (_ int64, _ string, err error) {
	image, err := os.CreateTemp(s.folder("incoming"), "")
	if err != nil {
		return 0, "", err
	}
	defer func() { err = errors.Join(err, image.Close()) }()
	if err := os.Remove(image.Name()); err != nil {
		return 0, "", err
	}
	spool := newSparse(image, s.room)
	spool.digest = nil
	if err := spool.copy(in, limit); err != nil {
		return 0, "", err
	}
	if err := arriving.end(buffered, r); err != nil {
		return 0, "", err
	}
	if err := image.Truncate(spool.at); err != nil { // it may end in a hole
		return 0, "", err
	}
	from, err := qcow2.Open(image, spool.at)
	if err != nil {
		return 0, "", fmt.Errorf("%w: %w", ErrContent, err)
	}
	size, err := finalSize(r, from.Size())
	if err != nil {
		return 0, "", err
	}
	w := newSparse(f, s.room)
	if err := walk(ctx, from, func(offset, _ int64, p []byte) error { return w.put(p, offset) }); err != nil {
		if errors.Is(err, block.ErrNoSpace) || ctx.Err() != nil {
			return 0, "", err
		}
		return 0, "", fmt.Errorf("%w: %w", ErrContent, err)
	}
	return size, w.digest.String(), nil
}

// finalSize is that of a volume with so many bytes of contents: where nobody asked for
// another, up to 4 KiB, so that any image can be shown with blocks of any size, an
// ISO image as a CD of 2 KiB blocks too. What is added are zeros.
func finalSize(r block.ImportRequest, data int64) (int64, error) {
	unit := int64(r.BlockSize)
	whole := (data + unit - 1) / unit * unit
	size := cmp.Or(r.Size, (data+grain-1)/grain*grain)
	switch {
	case data == 0:
		return 0, fmt.Errorf("%w: it is empty", ErrContent)
	case checkSize(size) != nil || size%unit != 0:
		return 0, fmt.Errorf("%w: a volume of %d bytes", ErrRequest, size)
	case size < whole:
		return 0, fmt.Errorf("%w: the data has %d bytes, more than the %d of the volume", ErrRequest, whole, size)
	}
	return size, nil
}

// A packing says how much memory unpacking takes.
type packing int

const (
	unpackedAlready packing = iota
	small                   // 32 KiB
	windowed                // up to maxWindow
)

// unpacked looks at the first bytes of a stream and unpacks it, if it is packed.
func unpacked(in *bufio.Reader) (data io.ReadCloser, packed packing, err error) {
	magic, err := in.Peek(6)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, 0, readError(err)
	}
	switch {
	case bytes.HasPrefix(magic, []byte{0x1f, 0x8b}): // RFC 1952 section 2.3.1
		z, err := gzip.NewReader(in)
		if err != nil {
			return nil, 0, readError(err)
		}
		return z, small, nil
	case bytes.HasPrefix(magic, []byte{0x28, 0xb5, 0x2f, 0xfd}): // RFC 8878 section 3.1.1
		z, err := zstd.NewReader(in, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(maxWindow))
		if err != nil {
			return nil, 0, readError(err)
		}
		return z.IOReadCloser(), windowed, nil
	case string(magic) == xzMagic:
		return io.NopCloser(newXZ(in)), windowed, nil
	}
	return io.NopCloser(in), unpackedAlready, nil
}

// readError tells an error of unpacking from those that happen on the way.
func readError(err error) error {
	if _, ok := errors.AsType[*streamError](err); ok {
		return err
	}
	if errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) {
		return fmt.Errorf("%w: it ends too early", ErrContent)
	}
	return fmt.Errorf("%w: it cannot be unpacked: %w", ErrContent, err)
}

// A streamError is one of the stream itself.
type streamError struct{ err error }

func (e *streamError) Error() string { return e.err.Error() }
func (e *streamError) Unwrap() error { return e.err }

// An arrival is the stream as it comes: it counts, sums up, and ends with ctx.
type arrival struct {
	ctx      context.Context
	in       io.Reader
	length   int64 // 0: nobody knows
	n        int64
	sum      hash.Hash
	progress func(done, total int64)
}

func (a *arrival) Read(p []byte) (int, error) {
	if err := a.ctx.Err(); err != nil {
		return 0, &streamError{err}
	}
	n, err := a.in.Read(p)
	a.n += int64(n)
	a.sum.Write(p[:n])
	if a.length > 0 && a.n > a.length {
		return 0, &streamError{fmt.Errorf("%w: more than the %d bytes that were announced", ErrContent, a.length)}
	}
	if a.progress != nil && n > 0 {
		a.progress(a.n, a.length)
	}
	if err == io.EOF && a.length > 0 && a.n < a.length {
		err = fmt.Errorf("%w: %d bytes have come, %d were announced", ErrContent, a.n, a.length)
	}
	if err != nil && err != io.EOF {
		err = &streamError{err}
	}
	return n, err
}

// end reads what is left, which is nothing, and looks at the sum.
func (a *arrival) end(rest *bufio.Reader, r block.ImportRequest) error {
	if _, err := rest.ReadByte(); err == nil {
		return fmt.Errorf("%w: more follows behind its end", ErrContent)
	} else if err != io.EOF {
		return readError(err)
	}
	if got := hex.EncodeToString(a.sum.Sum(nil)); r.SHA256 != "" && !strings.EqualFold(got, r.SHA256) {
		return fmt.Errorf("%w: its SHA-256 is %s, not %s", ErrContent, got, strings.ToLower(r.SHA256))
	}
	return nil
}

// A sparse writes a file in which zeros take no room.
type sparse struct {
	f      *os.File
	room   *room
	digest *digest // nil: nobody asks
	at     int64   // what copy has come to
}

func newSparse(f *os.File, r *room) *sparse { return &sparse{f: f, room: r, digest: newDigest()} }

// copy writes all that in gives, at most limit bytes.
func (w *sparse) copy(in io.Reader, limit int64) error {
	buf := make([]byte, chunk)
	for {
		n, err := 0, error(nil)
		for n < len(buf) && err == nil {
			var k int
			k, err = in.Read(buf[n:])
			n += k
		}
		if w.at+int64(n) > limit {
			return fmt.Errorf("%w: it has more than %d bytes", ErrContent, limit)
		}
		if err := w.put(buf[:n], w.at); err != nil {
			return err
		}
		w.at += int64(n)
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return readError(err)
		}
	}
}

// put writes what is not zero of p, which belongs at a multiple of grain.
func (w *sparse) put(p []byte, offset int64) error {
	if len(p) == 0 {
		return nil
	}
	if w.digest != nil {
		w.digest.add(offset, p)
	}
	for at := 0; at < len(p); {
		end := at
		for end < len(p) && !isZero(p[end:min(end+grain, len(p))]) {
			end = min(end+grain, len(p))
		}
		if end > at {
			// The disks in use keep room to go on.
			if err := w.room.need(int64(end-at) + lookAfter); err != nil {
				return err
			}
			if _, err := w.f.WriteAt(p[at:end], offset+int64(at)); err != nil {
				return err
			}
		}
		at = end + grain
	}
	return nil
}

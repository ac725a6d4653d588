// Package qcow2 reads and writes QEMU's disk images, versions 2 and 3
// (docs/interop/qcow2 in QEMU's documentation). An Image is read where it lies,
// with little memory whatever it says of itself; Write makes one as a stream.
//
// Left out are what takes a second file (backing files, external data) and
// encryption: Open refuses them by name. Internal snapshots and bitmaps are passed
// over. An image that was not closed well (the dirty bit) is read, as only its
// reference counts are in doubt then, which nobody needs who does not write.
package qcow2

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/klauspost/compress/zstd"
)

// Tables are read through a cache of pages, one place for each that its number
// leads to: 1 MiB in all.
const (
	pageSize = 4096
	pages    = 256
)

// Fields of L1 and L2 entries.
const (
	offsetMask     = 0x00fffffffffffe00
	flagCompressed = 1 << 62
	flagZero       = 1 << 0
	subclusters    = 32
)

// An Image is an open image. Its methods are safe for several goroutines, which
// wait for each other where they need tables or compressed data.
type Image struct {
	r           io.ReaderAt
	length      int64 // of the file
	header      header
	clusterSize int64
	entrySize   int64 // of an L2 entry: 8, extended 16
	entries     int64 // of an L2 table

	mu    sync.Mutex
	pages [pages]page
	// The cluster that was unpacked last, and the L2 entry that it was of.
	packed, unpacked []byte
	unpackedEntry    uint64
	inflate          io.ReadCloser
	zstd             *zstd.Decoder
}

// A page is a piece of the file.
type page struct {
	number int64 // of the page, plus one: zero is none
	n      int   // bytes that the file has of it
	data   *[pageSize]byte
}

// Open opens the image that r has in its first size bytes. It fails with
// errors.ErrUnsupported for what this package leaves out, and with ErrDamaged.
func Open(r io.ReaderAt, size int64) (*Image, error) {
	h, err := readHeader(r, size)
	if err != nil {
		return nil, err
	}
	m := &Image{r: r, length: size, header: h, clusterSize: 1 << h.clusterBits, entrySize: 8}
	if h.features&featureExtendedL2 != 0 {
		m.entrySize = 16
	}
	m.entries = m.clusterSize / m.entrySize
	covers := m.clusterSize * m.entries
	tables := (int64(h.size) + covers - 1) / covers
	switch {
	case int64(h.l1Size) < tables:
		return nil, fmt.Errorf("%w: an L1 table of %d entries for %d bytes", ErrDamaged, h.l1Size, h.size)
	case tables > 0 && (h.l1Offset == 0 || h.l1Offset%uint64(m.clusterSize) != 0 || h.l1Offset > uint64(size) || uint64(tables)*8 > uint64(size)-h.l1Offset):
		return nil, fmt.Errorf("%w: the L1 table at %d is not within its %d bytes", ErrDamaged, h.l1Offset, size)
	}
	return m, nil
}

// Size is the length of the disk in bytes.
func (m *Image) Size() int64 { return int64(m.header.size) }

// A state is what is known of a piece of a cluster.
type state int

const (
	absent     state = iota // reads as zeros
	plain                   // is in the file as it is
	compressed              // is in the file, packed
)

// A place says where a piece of the disk is. Pieces are subclusters where there
// are any.
type place struct {
	state  state
	offset int64  // plain: of the cluster in the file
	entry  uint64 // compressed: the L2 entry
}

// Extent tells whether the bytes at offset are in the file, and how many bytes from
// there on the answer holds for. What is not reads as zeros.
func (m *Image) Extent(offset int64) (length int64, mapped bool, err error) {
	if offset < 0 || offset >= m.Size() {
		return 0, false, fmt.Errorf("qcow2: %d is outside the disk's %d bytes", offset, m.Size())
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	// The look ahead is bounded, so that no image can hold a caller for long.
	for range pageSize / 8 {
		at := offset + length
		if at >= m.Size() {
			break
		}
		p, n, err := m.find(at)
		if err != nil {
			if length > 0 {
				break // whoever comes there is told
			}
			return 0, false, err
		}
		if here := p.state != absent; length == 0 {
			mapped = here
		} else if here != mapped {
			break
		}
		length += n
	}
	return min(length, m.Size()-offset), mapped, nil
}

// ReadAt reads from the disk (io.ReaderAt).
func (m *Image) ReadAt(p []byte, offset int64) (int, error) {
	if offset < 0 {
		return 0, fmt.Errorf("qcow2: offset %d", offset)
	}
	done := 0
	for done < len(p) {
		at := offset + int64(done)
		if at >= m.Size() {
			return done, io.EOF
		}
		part := p[done:min(int64(len(p)), int64(done)+m.Size()-at)]
		n, err := m.readPiece(part, at)
		done += n
		if err != nil {
			return done, err
		}
	}
	return done, nil
}

// readPiece reads what lies in one piece, or less.
func (m *Image) readPiece(p []byte, at int64) (int, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	where, n, err := m.find(at)
	if err != nil {
		return 0, err
	}
	p = p[:min(n, int64(len(p)))]
	within := at & (m.clusterSize - 1)
	switch where.state {
	case absent:
		clear(p)
	case compressed:
		if err := m.unpack(where.entry); err != nil {
			return 0, err
		}
		copy(p, m.unpacked[within:])
	case plain:
		m.mu.Unlock()
		n, err := m.r.ReadAt(p, where.offset+within)
		m.mu.Lock()
		if n < len(p) {
			if errors.Is(err, io.EOF) {
				err = fmt.Errorf("%w: the file ends within the data for %d", ErrDamaged, at)
			}
			return n, err
		}
	}
	return len(p), nil
}

// find looks up where the piece of the disk with offset is, and how many bytes from
// offset on belong to it. The caller holds mu.
func (m *Image) find(offset int64) (p place, n int64, err error) {
	covers := m.clusterSize * m.entries
	l1, err := m.entry(int64(m.header.l1Offset) + offset/covers*8)
	if err != nil {
		return place{}, 0, err
	}
	table := int64(l1 & offsetMask)
	if table == 0 {
		return place{}, covers - offset%covers, nil
	}
	if table%m.clusterSize != 0 {
		return place{}, 0, fmt.Errorf("%w: an L2 table at %d", ErrDamaged, table)
	}
	at := table + offset%covers/m.clusterSize*m.entrySize
	l2, err := m.entry(at)
	if err != nil {
		return place{}, 0, err
	}
	left := m.clusterSize - offset%m.clusterSize
	if l2&flagCompressed != 0 {
		return place{state: compressed, entry: l2}, left, nil
	}
	data := int64(l2 & offsetMask)
	if data%m.clusterSize != 0 {
		return place{}, 0, fmt.Errorf("%w: a cluster at %d", ErrDamaged, data)
	}
	if m.entrySize == 16 {
		bitmap, err := m.entry(at + 8)
		if err != nil {
			return place{}, 0, err
		}
		return m.subcluster(data, bitmap, offset)
	}
	// In version 2 the bit is reserved.
	if data == 0 || l2&flagZero != 0 && m.header.version >= 3 {
		return place{}, left, nil
	}
	return place{state: plain, offset: data}, left, nil
}

// subcluster is find within a cluster with an extended entry: 32 bits for those
// subclusters that are in the file, above them 32 for those that read as zeros.
func (m *Image) subcluster(data int64, bitmap uint64, offset int64) (place, int64, error) {
	there, zero := uint32(bitmap), uint32(bitmap>>32)
	if there&zero != 0 || there != 0 && data == 0 {
		return place{}, 0, fmt.Errorf("%w: subclusters %#x of the cluster at %d", ErrDamaged, bitmap, data)
	}
	size := m.clusterSize / subclusters
	first := offset % m.clusterSize / size
	mapped := there>>first&1 != 0
	last := first + 1
	for last < subclusters && there>>last&1 != 0 == mapped {
		last++
	}
	n := last*size - offset%m.clusterSize
	if !mapped {
		return place{}, n, nil
	}
	return place{state: plain, offset: data}, n, nil
}

// entry reads eight bytes of a table. The caller holds mu.
func (m *Image) entry(offset int64) (uint64, error) {
	number, within := offset/pageSize, int(offset%pageSize)
	p := &m.pages[number%pages]
	if p.number != number+1 {
		if p.data == nil {
			p.data = new([pageSize]byte)
		}
		p.number = 0
		p.n = int(min(pageSize, max(0, m.length-number*pageSize)))
		if n, err := m.r.ReadAt(p.data[:p.n], number*pageSize); n < p.n {
			return 0, fmt.Errorf("reading a table at %d: %w", offset, err)
		}
		p.number = number + 1
	}
	if within+8 > p.n {
		return 0, fmt.Errorf("%w: the file ends before a table at %d", ErrDamaged, offset)
	}
	return binary.BigEndian.Uint64(p.data[within:]), nil
}

package qcow2

import (
	"bytes"
	"compress/flate"
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/zstd"
)

// zstdWindow bounds the memory that a zstd frame can ask for. QEMU's frames have a
// window of a cluster at most.
const zstdWindow = 1 << maxClusterBits

// unpack unpacks the cluster of a compressed L2 entry into m.unpacked. The entry has
// the place of the packed data, and in how many further sectors of 512 bytes it
// goes on. The caller holds mu.
func (m *Image) unpack(entry uint64) error {
	if m.unpacked != nil && m.unpackedEntry == entry {
		return nil
	}
	x := 62 - (m.header.clusterBits - 8)
	offset := int64(entry & (1<<x - 1))
	sectors := int64(entry&(1<<62-1)>>x) + 1
	n := min(sectors*512-offset%512, m.length-offset) // the last sector may be cut off by the file's end
	if n <= 0 {
		return fmt.Errorf("%w: compressed data at %d, after the file's end", ErrDamaged, offset)
	}
	if m.unpacked == nil {
		m.unpacked = make([]byte, m.clusterSize)
	}
	m.unpackedEntry = 0 // of no compressed cluster: their bit 62 is set
	if int64(cap(m.packed)) < n {
		m.packed = make([]byte, n) // two clusters at most, by the width of the field
	}
	m.packed = m.packed[:n]
	if got, err := m.r.ReadAt(m.packed, offset); got < len(m.packed) {
		return fmt.Errorf("reading compressed data at %d: %w", offset, err)
	}
	r, err := m.decompressor(bytes.NewReader(m.packed))
	if err == nil {
		_, err = io.ReadFull(r, m.unpacked) // what comes after it fills the sector
	}
	if err != nil {
		return fmt.Errorf("%w: compressed data at %d: %w", ErrDamaged, offset, err)
	}
	m.unpackedEntry = entry
	return nil
}

// decompressor has a reader of what r has packed, in the image's way.
func (m *Image) decompressor(r io.Reader) (io.Reader, error) {
	if m.header.compression == compressionZstd {
		if m.zstd == nil {
			// One at a time, without goroutines: there is nothing to close then.
			d, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(zstdWindow))
			m.zstd = d
			return d, err
		}
		return m.zstd, m.zstd.Reset(r)
	}
	if m.inflate == nil {
		m.inflate = flate.NewReader(r)
		return m.inflate, nil
	}
	again, ok := m.inflate.(flate.Resetter)
	if !ok {
		return nil, errors.New("compress/flate: no Resetter")
	}
	return m.inflate, again.Reset(r, nil)
}

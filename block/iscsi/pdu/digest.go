package pdu

import (
	"encoding/binary"
	"hash/crc32"
)

// A Digest is the CRC32C of what it has seen (section 13.1); zero has seen
// nothing. A header's covers the additional segments, a data segment's the
// padding.
type Digest uint32

// Update is the digest after p.
func (d Digest) Update(p []byte) Digest {
	return Digest(crc32.Update(uint32(d), crc32.MakeTable(crc32.Castagnoli), p))
}

// Pad is the digest after the zero bytes that fill n bytes up to a whole word.
func (d Digest) Pad(n int) Digest {
	var zeros [3]byte
	return d.Update(zeros[:Padding(n)])
}

// Put writes the digest as it goes over the wire, 4 bytes.
func (d Digest) Put(b []byte) { binary.LittleEndian.PutUint32(b, uint32(d)) }

// Is reports whether the 4 bytes that came are this digest.
func (d Digest) Is(b []byte) bool { return binary.LittleEndian.Uint32(b) == uint32(d) }

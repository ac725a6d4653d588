package qcow2

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"
)

// Magic is what every image begins with.
const Magic = "QFI\xfb"

// ErrDamaged: an image is not what the specification has, or a part of it is missing.
var ErrDamaged = errors.New("the qcow2 image is damaged")

// Lengths of headers, and limits of what an image may say.
const (
	headerLen2 = 72
	headerLen3 = 104
	// headerMost is how much of the first cluster is looked at for extensions.
	headerMost     = 64 << 10
	minClusterBits = 9
	maxClusterBits = 21
	// maxName bounds a backing file's name, as the specification does.
	maxName = 1023
)

// Bits of incompatible_features.
const (
	featureDirty       = 1 << 0
	featureCorrupt     = 1 << 1
	featureDataFile    = 1 << 2
	featureCompression = 1 << 3
	featureExtendedL2  = 1 << 4
)

// Values of compression_type.
const (
	compressionDeflate = 0
	compressionZstd    = 1
)

// Header extensions.
const (
	extensionEnd      = 0
	extensionFeatures = 0x6803f857
)

// A header is what an image says of itself.
type header struct {
	version       uint32
	clusterBits   uint32
	size          uint64
	l1Size        uint32
	l1Offset      uint64
	features      uint64 // incompatible ones
	compression   byte
	backing       string
	encryption    uint32
	featureNames  map[byte]string // those that the image gives to its incompatible bits
	backingOffset uint64
	backingLen    uint32
}

// readHeader reads the header of an image of size bytes, and refuses what this
// package cannot read.
func readHeader(r io.ReaderAt, size int64) (header, error) {
	b := make([]byte, min(size, headerMost))
	if n, err := r.ReadAt(b, 0); n < len(b) {
		return header{}, fmt.Errorf("reading the header: %w", err)
	}
	h, err := parseHeader(b)
	if err != nil {
		return header{}, err
	}
	if h.backingOffset != 0 && h.backingLen > 0 {
		name := make([]byte, min(h.backingLen, maxName))
		if h.backingOffset > uint64(size) {
			name = nil
		} else if n, err := r.ReadAt(name, int64(h.backingOffset)); n < len(name) {
			return header{}, fmt.Errorf("%w: the backing file's name: %w", ErrDamaged, err)
		}
		h.backing = string(name)
	}
	return h, h.check()
}

// parseHeader decodes the beginning of an image.
func parseHeader(b []byte) (header, error) {
	if len(b) < headerLen2 || string(b[:4]) != Magic {
		return header{}, fmt.Errorf("%w: it does not begin as one", ErrDamaged)
	}
	be := binary.BigEndian
	h := header{
		version:       be.Uint32(b[4:]),
		backingOffset: be.Uint64(b[8:]),
		backingLen:    be.Uint32(b[16:]),
		clusterBits:   be.Uint32(b[20:]),
		size:          be.Uint64(b[24:]),
		encryption:    be.Uint32(b[32:]),
		l1Size:        be.Uint32(b[36:]),
		l1Offset:      be.Uint64(b[40:]),
	}
	switch h.version {
	case 2:
		return h, nil
	case 3:
	default:
		return header{}, fmt.Errorf("qcow2 version %d: %w", h.version, errors.ErrUnsupported)
	}
	if len(b) < headerLen3 {
		return header{}, fmt.Errorf("%w: a header of %d bytes", ErrDamaged, len(b))
	}
	h.features = be.Uint64(b[72:])
	n := be.Uint32(b[100:])
	if n < headerLen3 || n%8 != 0 || uint64(n) > uint64(len(b)) {
		return header{}, fmt.Errorf("%w: a header of %d bytes", ErrDamaged, n)
	}
	if n > headerLen3 {
		h.compression = b[104]
	}
	// The header's extensions end with the first cluster, whose size is checked later.
	if first := b[:min(len(b), 1<<min(h.clusterBits, maxClusterBits))]; int(n) < len(first) {
		h.extensions(first[n:])
	}
	return h, nil
}

// extensions takes the names of features; all other extensions are for those who
// write, or belong to a feature that is refused by its bit.
func (h *header) extensions(b []byte) {
	for len(b) >= 8 {
		kind, n := binary.BigEndian.Uint32(b), binary.BigEndian.Uint32(b[4:])
		padded := (uint64(n) + 7) &^ 7
		if b = b[8:]; kind == extensionEnd || padded > uint64(len(b)) {
			return
		}
		if kind == extensionFeatures {
			h.featureNames = make(map[byte]string)
			for row := b[:n]; len(row) >= 48; row = row[48:] {
				if row[0] == 0 { // an incompatible one
					name, _, _ := bytes.Cut(row[2:48], []byte{0})
					h.featureNames[row[1]] = string(name)
				}
			}
		}
		b = b[padded:]
	}
}

// check refuses what cannot be read, in words for whoever made the image.
func (h *header) check() error {
	unsupported := func(format string, args ...any) error {
		return fmt.Errorf("qcow2: %s: %w", fmt.Sprintf(format, args...), errors.ErrUnsupported)
	}
	const known = featureDirty | featureCorrupt | featureDataFile | featureCompression | featureExtendedL2
	if unknown := h.features &^ known; unknown != 0 {
		var names []string
		for bit := range byte(64) {
			if unknown>>bit&1 == 0 {
				continue
			}
			name := fmt.Sprintf("bit %d", bit)
			if given := h.featureNames[bit]; given != "" {
				name += fmt.Sprintf(" (%q)", given)
			}
			names = append(names, name)
		}
		return unsupported("the image needs incompatible features that are not known: %s", strings.Join(names, ", "))
	}
	switch {
	case h.clusterBits < minClusterBits || h.clusterBits > maxClusterBits:
		return fmt.Errorf("%w: clusters of 2^%d bytes", ErrDamaged, h.clusterBits)
	case h.backing != "" || h.backingLen > 0 && h.backingOffset != 0:
		return unsupported("the image is only the difference to its backing file %q; flatten it with qemu-img convert", h.backing)
	case h.encryption != 0:
		return unsupported("the image is encrypted (method %d)", h.encryption)
	case h.features&featureDataFile != 0:
		return unsupported("the image's data is in an external data file")
	case h.features&featureCorrupt != 0:
		return fmt.Errorf("%w: it is marked as corrupt; qemu-img check -r all may mend it", ErrDamaged)
	case h.features&featureCompression == 0 && h.compression != compressionDeflate:
		return fmt.Errorf("%w: compression type %d without its feature bit", ErrDamaged, h.compression)
	case h.compression > compressionZstd:
		return unsupported("compression type %d", h.compression)
	case h.features&featureExtendedL2 != 0 && h.clusterBits < minClusterBits+5:
		return fmt.Errorf("%w: 32 subclusters in a cluster of 2^%d bytes", ErrDamaged, h.clusterBits)
	case h.size > 1<<62:
		return fmt.Errorf("%w: a disk of %d bytes", ErrDamaged, h.size)
	}
	return nil
}

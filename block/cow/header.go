package cow

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"strings"

	"github.com/nitrino/nitrino/block"
)

const (
	// headerSize is what a header takes, a sector; headerRoom what is kept for it.
	headerSize = block.SectorSize
	headerRoom = 4096

	mapMagic  = "nitromap"
	liveMagic = "nitrolve"

	// maxSize keeps the list of a bitmap's pages within 8 MiB.
	maxSize = 1 << 46

	bootIDAt  = 40
	bootIDLen = 64
	sumAt     = headerSize - 4
)

// A header begins a map or a live file: magic, size, inherited, generation, boot ID
// (zeros follow), and at the end a CRC-32C; numbers little-endian.
type header struct {
	// size is the volume's, in bytes; inherited how many of them, from the first on,
	// are the base's where the overlay has no own.
	size, inherited int64
	generation      [16]byte
	// bootID is the kernel's that a live file was written under; a map has none.
	bootID string
}

func castagnoli() *crc32.Table { return crc32.MakeTable(crc32.Castagnoli) }

func (h header) encode(magic string) []byte {
	b := make([]byte, headerSize)
	copy(b, magic)
	binary.LittleEndian.PutUint64(b[8:], uint64(h.size))
	binary.LittleEndian.PutUint64(b[16:], uint64(h.inherited))
	copy(b[24:], h.generation[:])
	copy(b[bootIDAt:], h.bootID)
	binary.LittleEndian.PutUint32(b[sumAt:], crc32.Checksum(b[:sumAt], castagnoli()))
	return b
}

func decodeHeader(b []byte, magic string) (header, error) {
	if len(b) < headerSize || string(b[:8]) != magic {
		return header{}, fmt.Errorf("%w: no header", block.ErrMedium)
	}
	if binary.LittleEndian.Uint32(b[sumAt:]) != crc32.Checksum(b[:sumAt], castagnoli()) {
		return header{}, fmt.Errorf("%w: the header's checksum", block.ErrMedium)
	}
	h := header{
		size:       int64(binary.LittleEndian.Uint64(b[8:])),
		inherited:  int64(binary.LittleEndian.Uint64(b[16:])),
		generation: [16]byte(b[24:]),
		bootID:     strings.TrimRight(string(b[bootIDAt:bootIDAt+bootIDLen]), "\x00"),
	}
	if !validSize(h.size) || h.inherited < 0 || h.inherited > h.size || h.inherited%block.SectorSize != 0 {
		return header{}, fmt.Errorf("%w: a header with size %d, of which %d inherited", block.ErrMedium, h.size, h.inherited)
	}
	return h, nil
}

func validSize(size int64) bool { return size > 0 && size <= maxSize && size%block.SectorSize == 0 }

// Package fattest makes small FAT32 file systems for tests of what reads them.
package fattest

import (
	"encoding/binary"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Where things are in a New, in bytes. Clusters are sectors of 512.
const (
	Table = 512  // the one table
	Root  = 1024 // the root folder, cluster 2
)

// New makes a volume with these files in its root, in the order of their names,
// which are short ones. Each has one cluster of 512 bytes, from 3 on; there may
// be 16 of them.
func New(files map[string]string) []byte {
	const sectors = 32
	b := make([]byte, sectors*512)
	le := binary.LittleEndian
	le.PutUint16(b[11:], 512)
	b[13] = 1
	le.PutUint16(b[14:], 1)
	b[16] = 1
	le.PutUint32(b[32:], sectors)
	le.PutUint32(b[36:], 1)
	le.PutUint32(b[44:], 2)
	b[510], b[511] = 0x55, 0xaa
	le.PutUint32(b[Table+2*4:], 0x0fffffff)
	for i, name := range slices.Sorted(maps.Keys(files)) {
		e := b[Root+i*32:]
		base, ext, _ := strings.Cut(name, ".")
		copy(e, fmt.Sprintf("%-8s%-3s", base, ext))
		le.PutUint16(e[26:], uint16(3+i))
		le.PutUint32(e[28:], uint32(len(files[name])))
		le.PutUint32(b[Table+(3+i)*4:], 0xffffffff) // the upper four bits count for nothing
		copy(b[Root+(1+i)*512:], files[name])
	}
	return b
}

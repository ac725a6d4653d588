package sdcard

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode/utf16"
)

// A fat is a FAT32 file system that is read with suspicion: it may come from a
// card that failed. It is read and not mounted, so that a card is checked
// without root and whatever it holds.
type fat struct {
	r       io.ReaderAt // of the partition
	size    int64
	table   []byte // the first copy
	data    int64  // where cluster 2 begins
	cluster int64  // bytes of one
	last    uint32 // the highest cluster
	root    uint32
}

// A fatEntry is a file or folder.
type fatEntry struct {
	name  string // path from the root
	dir   bool
	label bool // the volume's label, which is no file
	dot   bool // the folder itself or its parent
	size  int64
	first uint32 // cluster; 0 of an empty file
	at    int64  // of its short entry in the partition
}

// Bounds of what is read.
const (
	maxDirSize = 1 << 20
	maxDepth   = 8
	entrySize  = 32
)

var errFAT = errors.New("not a sound FAT32 file system")

// openFAT reads the boot sector and the table (Microsoft, FAT32 File System
// Specification 1.03, "Boot Sector and BPB").
func openFAT(r io.ReaderAt, size int64) (*fat, error) {
	boot := make([]byte, sector)
	if _, err := r.ReadAt(boot, 0); err != nil {
		return nil, err
	}
	le := binary.LittleEndian
	perSector, perCluster := int64(le.Uint16(boot[11:])), int64(boot[13])
	reserved, copies := int64(le.Uint16(boot[14:])), int64(boot[16])
	total, perTable := int64(le.Uint32(boot[32:])), int64(le.Uint32(boot[36:]))
	data := (reserved + copies*perTable) * sector
	switch {
	case boot[510] != 0x55 || boot[511] != 0xaa:
		return nil, fmt.Errorf("%w: no signature", errFAT)
	case perSector != sector || perCluster == 0 || perCluster&(perCluster-1) != 0 || reserved == 0 || copies != 2 || le.Uint16(boot[22:]) != 0:
		return nil, fmt.Errorf("%w: its boot sector is not that of FAT32", errFAT)
	case total*sector > size || data+perCluster*sector > total*sector:
		return nil, fmt.Errorf("%w: it is larger than its partition", errFAT)
	}
	f := &fat{r: r, size: total * sector, data: data, cluster: perCluster * sector, root: le.Uint32(boot[44:])}
	clusters := (f.size - data) / f.cluster
	if (clusters+2)*4 > perTable*sector {
		return nil, fmt.Errorf("%w: its table is too small", errFAT)
	}
	f.last = uint32(clusters + 1)
	f.table = make([]byte, (clusters+2)*4)
	second := make([]byte, len(f.table))
	if _, err := r.ReadAt(f.table, reserved*sector); err != nil {
		return nil, err
	}
	if _, err := r.ReadAt(second, (reserved+perTable)*sector); err != nil {
		return nil, err
	}
	if !bytes.Equal(f.table, second) {
		return nil, fmt.Errorf("%w: its two tables differ", errFAT)
	}
	return f, nil
}

// at is where a cluster is in the partition.
func (f *fat) at(cluster uint32) int64 { return f.data + int64(cluster-2)*f.cluster }

// chain returns the clusters of a chain, no more than limit bytes of them.
func (f *fat) chain(first uint32, limit int64) ([]uint32, error) {
	var list []uint32
	for c := first; c < 0x0ffffff8; c = binary.LittleEndian.Uint32(f.table[4*c:]) & 0x0fffffff {
		if c < 2 || c > f.last {
			return nil, fmt.Errorf("%w: a chain leads to cluster %d", errFAT, c)
		}
		if int64(len(list))*f.cluster >= limit {
			return nil, fmt.Errorf("%w: a chain is longer than %d bytes", errFAT, limit)
		}
		list = append(list, c)
	}
	return list, nil
}

// copy writes a file's bytes to w.
func (f *fat) copy(w io.Writer, e fatEntry) error {
	if e.size == 0 {
		return nil
	}
	if e.size > f.size {
		return fmt.Errorf("%w: %s is larger than it", errFAT, e.name)
	}
	list, err := f.chain(e.first, e.size)
	if err != nil {
		return fmt.Errorf("%s: %w", e.name, err)
	}
	if int64(len(list))*f.cluster < e.size {
		return fmt.Errorf("%w: the chain of %s is too short", errFAT, e.name)
	}
	left := e.size
	for i := 0; i < len(list); {
		run := 1
		for i+run < len(list) && list[i+run] == list[i]+uint32(run) && int64(run)*f.cluster < mib {
			run++
		}
		n := min(left, int64(run)*f.cluster)
		if _, err := io.Copy(w, io.NewSectionReader(f.r, f.at(list[i]), n)); err != nil {
			return fmt.Errorf("%s: %w", e.name, err)
		}
		left -= n
		i += run
	}
	return nil
}

// walk returns everything, folders before what is in them.
func (f *fat) walk() ([]fatEntry, error) { return f.walkDir(nil, "", f.root, 0) }

func (f *fat) walkDir(all []fatEntry, dir string, first uint32, depth int) ([]fatEntry, error) {
	if depth > maxDepth {
		return nil, fmt.Errorf("%w: its folders are nested too deep", errFAT)
	}
	list, err := f.chain(first, maxDirSize)
	if err != nil {
		return nil, fmt.Errorf("/%s: %w", dir, err)
	}
	var long longName
	for _, c := range list {
		block := make([]byte, f.cluster)
		if _, err := f.r.ReadAt(block, f.at(c)); err != nil {
			return nil, err
		}
		for i := 0; i < len(block); i += entrySize {
			b := block[i : i+entrySize]
			switch {
			case b[0] == 0:
				return all, nil
			case b[0] == 0xe5: // deleted
				long = longName{}
				continue
			case b[11] == 0x0f:
				long.add(b)
				continue
			}
			e := shortEntry(b, long.take(b))
			e.at = f.at(c) + int64(i)
			e.dot = b[0] == '.'
			if dir != "" {
				e.name = dir + "/" + e.name
			}
			if all = append(all, e); len(all) > maxDirSize/entrySize {
				return nil, fmt.Errorf("%w: it has too many files", errFAT)
			}
			if e.dir && !e.dot {
				if all, err = f.walkDir(all, e.name, e.first, depth+1); err != nil {
					return nil, err
				}
			}
		}
	}
	return all, nil
}

// shortEntry reads an 8.3 entry; name is its long name, if it has one.
func shortEntry(b []byte, name string) fatEntry {
	le := binary.LittleEndian
	if name == "" {
		base, ext := strings.TrimRight(string(b[:8]), " "), strings.TrimRight(string(b[8:11]), " ")
		// Windows NT's bits for names that are in lower case throughout.
		if b[12]&0x08 != 0 {
			base = strings.ToLower(base)
		}
		if b[12]&0x10 != 0 {
			ext = strings.ToLower(ext)
		}
		if name = base; ext != "" {
			name += "." + ext
		}
	}
	return fatEntry{
		name: name, dir: b[11]&0x10 != 0, label: b[11]&0x08 != 0, size: int64(le.Uint32(b[28:])),
		first: uint32(le.Uint16(b[20:]))<<16 | uint32(le.Uint16(b[26:])),
	}
}

// A longName gathers the entries of a long name, which stand before the short
// one, the last first.
type longName struct {
	units []uint16
	sum   byte
	next  byte // number of the entry that has to come
}

func (l *longName) add(b []byte) {
	number := b[0] & 0x3f
	if b[0]&0x40 != 0 {
		*l = longName{sum: b[13], next: number}
	}
	if number == 0 || number > 20 || number != l.next || b[13] != l.sum {
		*l = longName{}
		return
	}
	l.next--
	part := make([]uint16, 0, 13)
	for _, span := range [][2]int{{1, 11}, {14, 26}, {28, 32}} {
		for i := span[0]; i < span[1]; i += 2 {
			part = append(part, binary.LittleEndian.Uint16(b[i:]))
		}
	}
	l.units = append(part, l.units...)
}

// take returns the name that was gathered if it belongs to the short entry b.
func (l *longName) take(b []byte) string {
	name := *l
	*l = longName{}
	var sum byte
	for _, c := range b[:11] {
		sum = sum>>1 | sum<<7
		sum += c
	}
	if len(name.units) == 0 || name.next != 0 || name.sum != sum {
		return ""
	}
	for i, u := range name.units {
		if u == 0 {
			name.units = name.units[:i]
			break
		}
	}
	return string(utf16.Decode(name.units))
}

// Package fat reads FAT32 file systems with suspicion: a card may have failed,
// or come from anywhere. It reads and does not mount, so that a card is looked
// at without root, whatever it holds. It is as tolerant as the Raspberry Pi's
// firmware and Linux are: the first table alone counts, since a power cut may
// leave the copies different, and what is damaged in one file is no error of
// another. Pages are those of Microsoft's FAT specification 1.03 ("FAT: General
// Overview of On-Disk Format").
package fat

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
)

// ErrDamaged says that something is no sound FAT32.
var ErrDamaged = errors.New("not a sound FAT32 file system")

// Bounds of what is read.
const (
	// folderLimit is how many bytes of folders a walk or look-up reads; one
	// folder has 2 MiB at most (page 35).
	folderLimit = 64 << 20
	maxDepth    = 32
	// pieceLimit is how much of a file is read at once.
	pieceLimit = 1 << 20
	// tableBlock is how much of the table is read at once.
	tableBlock = 4096
)

// A Volume is one file system. It is used by one goroutine at a time.
type Volume struct {
	r           io.ReaderAt
	cluster     int64  // bytes of one
	table, data int64  // offsets: of the first table, of cluster 2
	end         uint32 // above the highest cluster
	root        uint32

	block   []byte // the part of the table that was read last
	blockAt int64  // its place in the table
}

// Open reads the BIOS parameter block (page 9) of a partition of size bytes.
// Where it says that it is larger than its partition, the clusters that are not
// there cannot be read, and the rest can.
func Open(r io.ReaderAt, size int64) (*Volume, error) {
	var b [512]byte
	if _, err := r.ReadAt(b[:], 0); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	le := binary.LittleEndian
	var (
		bytesPerSector    = int64(le.Uint16(b[11:]))
		sectorsPerCluster = int64(b[13])
		reserved          = int64(le.Uint16(b[14:]))
		tables            = int64(b[16])
		rootEntries       = le.Uint16(b[17:])
		tableSize16       = le.Uint16(b[22:])
		total             = int64(le.Uint32(b[32:]))
		tableSize         = int64(le.Uint32(b[36:])) * bytesPerSector
	)
	power := func(n int64) bool { return n > 0 && n&(n-1) == 0 }
	switch {
	case b[510] != 0x55 || b[511] != 0xaa:
		return nil, fmt.Errorf("%w: no signature", ErrDamaged)
	case rootEntries != 0 || tableSize16 != 0:
		return nil, fmt.Errorf("%w: it is FAT12 or FAT16", ErrDamaged)
	case !power(bytesPerSector) || bytesPerSector < 512 || bytesPerSector > 4096 || !power(sectorsPerCluster) || reserved == 0 || tables == 0 || tableSize == 0:
		return nil, fmt.Errorf("%w: its parameters make no sense", ErrDamaged)
	}
	v := &Volume{r: r, cluster: sectorsPerCluster * bytesPerSector, table: reserved * bytesPerSector, root: le.Uint32(b[44:])}
	v.data = v.table + tables*tableSize
	size = min(size, total*bytesPerSector)
	if v.data+v.cluster > size {
		return nil, fmt.Errorf("%w: it is larger than its partition", ErrDamaged)
	}
	// The table has an entry for each cluster and two before them (page 13);
	// one that has fewer bounds the clusters, as it does for Linux.
	v.end = uint32(min((size-v.data)/v.cluster+2, tableSize/4, 0x0ffffff0))
	return v, nil
}

// Root is the cluster where the root folder begins.
func (v *Volume) Root() uint32 { return v.root }

// Offset is where a cluster, from 2, is in the partition.
func (v *Volume) Offset(cluster uint32) int64 { return v.data + int64(cluster-2)*v.cluster }

// entry is the table's entry of a cluster below end. The upper four bits are
// reserved (page 18).
func (v *Volume) entry(cluster uint32) (uint32, error) {
	at := int64(cluster) * 4
	if at < v.blockAt || at >= v.blockAt+int64(len(v.block)) {
		begin := at - at%tableBlock
		block := make([]byte, min(tableBlock, int64(v.end)*4-begin))
		if _, err := v.r.ReadAt(block, v.table+begin); err != nil {
			return 0, fmt.Errorf("%w: %w", ErrDamaged, err)
		}
		v.block, v.blockAt = block, begin
	}
	return binary.LittleEndian.Uint32(v.block[at-v.blockAt:]) & 0x0fffffff, nil
}

// Free says how many clusters are free, and which is the first (0: none is).
func (v *Volume) Free() (count, first uint32, err error) {
	for c := uint32(2); c < v.end; c++ {
		next, err := v.entry(c)
		if err != nil {
			return 0, 0, err
		}
		if next != 0 {
			continue
		}
		if count++; first == 0 {
			first = c
		}
	}
	return count, first, nil
}

// chain calls do with each cluster of a chain until do has enough. A chain that
// is longer than the volume runs in a circle.
func (v *Volume) chain(cluster uint32, do func(cluster uint32) (more bool, err error)) error {
	for range v.end {
		if cluster < 2 || cluster >= v.end {
			return fmt.Errorf("%w: a chain leads to cluster %d", ErrDamaged, cluster)
		}
		more, err := do(cluster)
		if err != nil || !more {
			return err
		}
		next, err := v.entry(cluster)
		if err != nil {
			return err
		}
		if next >= 0x0ffffff8 { // the end (page 18)
			return nil
		}
		cluster = next
	}
	return fmt.Errorf("%w: a chain runs in a circle", ErrDamaged)
}

// Copy writes a file's bytes to w. A chain may be longer than the file, which is
// how a power cut leaves one that was growing.
func (v *Volume) Copy(w io.Writer, e Entry) error {
	if e.Size > int64(v.end)*v.cluster {
		return fmt.Errorf("%s: %w: it is larger than its volume", e.Name, ErrDamaged)
	}
	if e.Size == 0 {
		return nil // it has no chain
	}
	left := e.Size
	var from, length int64 // what is to be read next, as one piece
	piece := func() error {
		n, err := io.Copy(w, io.NewSectionReader(v.r, from, min(length, left)))
		if err == nil && n < min(length, left) {
			err = fmt.Errorf("%w: it goes beyond the end", ErrDamaged)
		}
		left -= n
		length = 0
		return err
	}
	err := v.chain(e.Cluster, func(c uint32) (bool, error) {
		if length > 0 && (v.Offset(c) != from+length || length >= pieceLimit) {
			if err := piece(); err != nil {
				return false, err
			}
		}
		if length == 0 {
			from = v.Offset(c)
		}
		length += v.cluster
		return length < left, nil
	})
	if err == nil {
		err = piece()
	}
	if err == nil && left > 0 {
		err = fmt.Errorf("%w: it ends after %d of %d bytes", ErrDamaged, e.Size-left, e.Size)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", e.Name, err)
	}
	return nil
}

// ReadFile returns a file's content, of limit bytes at most. Case does not
// matter in its name, whose folders are separated by slashes. A file that is not
// there is fs.ErrNotExist.
func (v *Volume) ReadFile(name string, limit int64) ([]byte, error) {
	at := Entry{Dir: true, Cluster: v.root}
	budget := int64(folderLimit)
	for part := range strings.SplitSeq(name, "/") {
		var err error
		if at, err = v.find(at, part, &budget); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
	}
	switch {
	case at.Dir:
		return nil, fmt.Errorf("%s: is a folder: %w", name, fs.ErrNotExist)
	case at.Size > limit:
		return nil, fmt.Errorf("%s: %d bytes are more than the %d that it may have", name, at.Size, limit)
	}
	at.Name = name
	var b bytes.Buffer // grows with what is there, not with what an entry says
	if err := v.Copy(&b, at); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

// find looks a name up in a folder. A file answers to its short name too.
func (v *Volume) find(folder Entry, name string, budget *int64) (Entry, error) {
	if !folder.Dir {
		return Entry{}, fs.ErrNotExist
	}
	var found *Entry
	err := v.folder(folder.Cluster, budget, func(e Entry) (bool, error) {
		if !e.Label && !e.Dot && (strings.EqualFold(e.Name, name) || strings.EqualFold(e.short, name)) {
			found = &e
		}
		return found == nil, nil
	})
	switch {
	case err != nil:
		return Entry{}, err
	case found == nil:
		return Entry{}, fs.ErrNotExist
	}
	return *found, nil
}

// Walk returns everything, each folder before what is in it.
func (v *Volume) Walk() ([]Entry, error) {
	budget := int64(folderLimit)
	return v.walk(nil, "", v.root, 0, &budget)
}

func (v *Volume) walk(all []Entry, dir string, first uint32, depth int, budget *int64) ([]Entry, error) {
	if depth > maxDepth {
		return nil, fmt.Errorf("/%s: %w: its folders are nested too deep", dir, ErrDamaged)
	}
	var below error // of a folder in this one, which it names
	err := v.folder(first, budget, func(e Entry) (bool, error) {
		if dir != "" {
			e.Name = dir + "/" + e.Name
		}
		all = append(all, e)
		if e.Dir && !e.Dot && !e.Label {
			all, below = v.walk(all, e.Name, e.Cluster, depth+1, budget)
		}
		return below == nil, nil
	})
	if err != nil {
		return nil, fmt.Errorf("/%s: %w", dir, err)
	}
	return all, below
}

// folder calls do with each entry of the folder that begins at a cluster, until
// do has enough (page 22). It takes the bytes that it reads from the budget.
func (v *Volume) folder(first uint32, budget *int64, do func(Entry) (more bool, err error)) error {
	var long longName
	block := make([]byte, v.cluster)
	return v.chain(first, func(c uint32) (bool, error) {
		if *budget -= v.cluster; *budget < 0 {
			return false, fmt.Errorf("%w: its folders have no end", ErrDamaged)
		}
		if _, err := v.r.ReadAt(block, v.Offset(c)); err != nil {
			return false, fmt.Errorf("%w: %w", ErrDamaged, err)
		}
		for i := 0; i < len(block); i += EntrySize {
			b := block[i : i+EntrySize]
			switch {
			case b[0] == 0: // this and all after it are free
				return false, nil
			case b[0] == 0xe5: // free
				long = longName{}
				continue
			case b[11]&0x3f == attrLong:
				long.add(b)
				continue
			}
			e := newEntry(b, long.take(b[:11]))
			e.Offset = v.Offset(c) + int64(i)
			if more, err := do(e); err != nil || !more {
				return false, err
			}
		}
		return true, nil
	})
}

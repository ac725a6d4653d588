package firmware

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"unicode/utf16"
)

// A volume is a FAT32 file system, read as a firmware does that must live with
// every card: the first table alone counts (a power cut may leave the copies
// different), and damage is an error, whatever it is. Section numbers are those
// of Microsoft's FAT specification 1.03 ("FAT: General Overview of On-Disk
// Format").
type volume struct {
	r         io.ReaderAt
	cluster   int64 // bytes
	fat, data int64 // offsets in bytes
	clusters  uint32
	root      uint32
}

var errFAT = errors.New("not a readable FAT32 file system")

// fileLimit bounds one file: no kernel or initramfs of a board is as large.
const fileLimit = 512 << 20

// openVolume reads the BIOS parameter block (page 9).
func openVolume(r io.ReaderAt, size int64) (*volume, error) {
	var b [512]byte
	if _, err := r.ReadAt(b[:], 0); err != nil {
		return nil, fmt.Errorf("%w: %w", errFAT, err)
	}
	le := binary.LittleEndian
	var (
		bytesPerSector    = int64(le.Uint16(b[11:]))
		sectorsPerCluster = int64(b[13])
		reserved          = int64(le.Uint16(b[14:]))
		fats              = int64(b[16])
		rootEntries       = le.Uint16(b[17:])
		fatSize16         = le.Uint16(b[22:])
		total             = int64(le.Uint32(b[32:]))
		fatSize           = int64(le.Uint32(b[36:]))
	)
	power := func(n int64) bool { return n > 0 && n&(n-1) == 0 }
	switch {
	case b[510] != 0x55 || b[511] != 0xaa:
		return nil, fmt.Errorf("%w: no signature", errFAT)
	case rootEntries != 0 || fatSize16 != 0:
		return nil, fmt.Errorf("%w: it is FAT12 or FAT16", errFAT)
	case !power(bytesPerSector) || bytesPerSector < 512 || bytesPerSector > 4096 || !power(sectorsPerCluster) || reserved == 0 || fats == 0 || fatSize == 0:
		return nil, fmt.Errorf("%w: its parameters make no sense", errFAT)
	}
	v := &volume{r: r, cluster: sectorsPerCluster * bytesPerSector, fat: reserved * bytesPerSector}
	v.data = v.fat + fats*fatSize*bytesPerSector
	bytesOfVolume := min(total*bytesPerSector, size)
	if v.data >= bytesOfVolume {
		return nil, fmt.Errorf("%w: it is larger than its partition", errFAT)
	}
	// The table has an entry for each cluster and two more (page 13).
	v.clusters = uint32(min((bytesOfVolume-v.data)/v.cluster+2, fatSize*bytesPerSector/4, 0x0ffffff0))
	v.root = le.Uint32(b[44:])
	return v, nil
}

// chain calls do with the offset of each cluster of a chain until do says that
// it has enough. A chain that is longer than the volume runs in a circle.
func (v *volume) chain(cluster uint32, do func(offset int64) (more bool, err error)) error {
	for range v.clusters {
		if cluster < 2 || cluster >= v.clusters {
			return fmt.Errorf("%w: a chain leads to cluster %d", errFAT, cluster)
		}
		more, err := do(v.data + int64(cluster-2)*v.cluster)
		if err != nil || !more {
			return err
		}
		var entry [4]byte
		if _, err := v.r.ReadAt(entry[:], v.fat+int64(cluster)*4); err != nil {
			return fmt.Errorf("%w: %w", errFAT, err)
		}
		// The upper four bits are reserved; 0x0ffffff8 and above end the chain
		// (page 18).
		if cluster = binary.LittleEndian.Uint32(entry[:]) & 0x0fffffff; cluster >= 0x0ffffff8 {
			return nil
		}
	}
	return fmt.Errorf("%w: a chain runs in a circle", errFAT)
}

// An entry is a file or a folder.
type entry struct {
	folder  bool
	cluster uint32
	size    int64
}

// readFile returns a file's content. Case does not matter in its name, whose
// folders are separated by slashes. A file that is not there is fs.ErrNotExist.
func (v *volume) readFile(name string) ([]byte, error) {
	at := entry{folder: true, cluster: v.root}
	for part := range strings.SplitSeq(name, "/") {
		var err error
		if !at.folder {
			err = fs.ErrNotExist
		} else {
			at, err = v.find(at.cluster, part)
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
	}
	if at.folder {
		return nil, fmt.Errorf("%s: is a folder: %w", name, fs.ErrNotExist)
	}
	content, err := v.read(at)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return content, nil
}

func (v *volume) read(e entry) ([]byte, error) {
	if e.size > fileLimit || e.size > int64(v.clusters)*v.cluster {
		return nil, fmt.Errorf("%w: a file of %d bytes", errFAT, e.size)
	}
	if e.size == 0 {
		return nil, nil
	}
	var b bytes.Buffer // grows with what is there, not with what an entry says
	err := v.chain(e.cluster, func(offset int64) (bool, error) {
		n := min(v.cluster, e.size-int64(b.Len()))
		_, err := io.Copy(&b, io.NewSectionReader(v.r, offset, n))
		return int64(b.Len()) < e.size, err
	})
	if err == nil && int64(b.Len()) != e.size {
		err = fmt.Errorf("%w: a file ends after %d of %d bytes", errFAT, b.Len(), e.size)
	}
	return b.Bytes(), err
}

// folderLimit is the most entries that a folder has (page 35: 2 MiB).
const folderLimit = 65536

// find looks a name up in the folder that begins at the cluster (page 22).
func (v *volume) find(cluster uint32, name string) (entry, error) {
	var (
		found  *entry
		long   longName
		seen   int
		buffer = make([]byte, v.cluster)
	)
	err := v.chain(cluster, func(offset int64) (bool, error) {
		if _, err := v.r.ReadAt(buffer, offset); err != nil {
			return false, fmt.Errorf("%w: %w", errFAT, err)
		}
		for i := 0; i+32 <= len(buffer); i += 32 {
			e := buffer[i : i+32]
			const (
				attrVolume = 0x08
				attrFolder = 0x10
				attrLong   = 0x0f
			)
			seen++
			switch attr := e[11]; {
			case e[0] == 0: // this and all after it are free
				return false, nil
			case seen > folderLimit:
				return false, fmt.Errorf("%w: a folder without end", errFAT)
			case e[0] == 0xe5: // free
				long = longName{}
				continue
			case attr&0x3f == attrLong:
				long.add(e)
				continue
			case attr&attrVolume != 0:
				long = longName{}
				continue
			default:
				if strings.EqualFold(long.take(e[:11]), name) || strings.EqualFold(shortName(e), name) {
					le := binary.LittleEndian
					found = &entry{
						folder:  attr&attrFolder != 0,
						cluster: uint32(le.Uint16(e[20:]))<<16 | uint32(le.Uint16(e[26:])),
						size:    int64(le.Uint32(e[28:])),
					}
					return false, nil
				}
			}
		}
		return true, nil
	})
	switch {
	case err != nil:
		return entry{}, err
	case found == nil:
		return entry{}, fs.ErrNotExist
	}
	return *found, nil
}

// shortName is an entry's 8.3 name. Case bits of Windows NT are of no matter
// where case is of none.
func shortName(e []byte) string {
	base, ext := strings.TrimRight(string(e[:8]), " "), strings.TrimRight(string(e[8:11]), " ")
	if ext == "" {
		return base
	}
	return base + "." + ext
}

// A longName collects the entries of a long name, which stand before their
// file's, the last part first (page 28).
type longName struct {
	units []uint16
	next  byte // the number of the part that has to come; 0: the name is whole
	sum   byte
}

func (l *longName) add(e []byte) {
	number := e[0] &^ 0x40
	switch {
	case e[0]&0x40 != 0 && number > 0 && number <= 20:
		*l = longName{sum: e[13], next: number}
	case number == 0 || number != l.next || e[13] != l.sum:
		*l = longName{}
		return
	}
	var part []uint16
	for _, span := range [][2]int{{1, 11}, {14, 26}, {28, 32}} {
		for i := span[0]; i < span[1]; i += 2 {
			part = append(part, binary.LittleEndian.Uint16(e[i:]))
		}
	}
	l.units = append(part, l.units...)
	l.next--
}

// take returns the name if it belongs to the entry with this short name, else
// "", and begins anew.
func (l *longName) take(short []byte) string {
	units, whole, want := l.units, l.next == 0, l.sum
	*l = longName{}
	var sum byte
	for _, c := range short {
		sum = sum>>1 | sum<<7
		sum += c
	}
	if !whole || len(units) == 0 || sum != want {
		return ""
	}
	for i, u := range units {
		if u == 0 {
			units = units[:i]
			break
		}
	}
	return string(utf16.Decode(units))
}

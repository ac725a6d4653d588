package sdcard

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path"
	"time"

	"github.com/diskfs/go-diskfs/filesystem/fat32"

	"github.com/nitrino/nitrino/internal/fat"
)

// A volume is what a FAT file system has besides files.
type volume struct {
	label string
	id    [sha256.Size]byte
	date  time.Time
}

// writeFAT makes a file system with the files in it.
func writeFAT(ctx context.Context, out image, p partition, v volume, files []File, progress func(int64)) error {
	fs, err := fat32.Create(out, p.size, p.start, sector, v.label, true)
	if err != nil {
		return err
	}
	made := make(map[string]bool)
	for _, f := range files {
		if err := ctx.Err(); err != nil {
			return err
		}
		if dir := path.Dir(f.Name); dir != "." && !made[dir] {
			if err := fs.Mkdir("/" + dir); err != nil {
				return fmt.Errorf("%s: %w", dir, err)
			}
			made[dir] = true
		}
		if err := writeFile(fs, f); err != nil {
			return fmt.Errorf("%s: %w", f.Name, err)
		}
		progress(int64(len(f.Data)))
	}
	return finish(sub{out, p.start, p.size}, v)
}

// writeFile adds one file, in one piece: go-diskfs writes the table anew for
// each write.
func writeFile(fs *fat32.FileSystem, f File) error {
	if len(f.Data) == 0 {
		// go-diskfs gives it a cluster, which no empty file may have.
		return errors.New("the file is empty")
	}
	file, err := fs.OpenFile("/"+f.Name, os.O_CREATE|os.O_RDWR)
	if err != nil {
		return err
	}
	if _, err := file.Write(f.Data); err != nil {
		return err
	}
	return file.Close()
}

// finish sets what go-diskfs takes from the clock or leaves out: the dates of all
// entries, the volume's number, the place on the disk, the count of free clusters;
// and where the folders in the root have their parent.
func finish(s sub, v volume) error {
	f, err := fat.Open(s, s.size)
	if err != nil {
		return err
	}
	entries, err := f.Walk()
	if err != nil {
		return err
	}
	le := binary.LittleEndian
	date, clock := dosTime(v.date)
	for _, e := range entries {
		b := make([]byte, fat.EntrySize)
		if _, err := s.ReadAt(b, e.Offset); err != nil {
			return err
		}
		b[13] = 0 // hundredths of the creation's seconds
		le.PutUint16(b[14:], clock)
		le.PutUint16(b[16:], date)
		le.PutUint16(b[18:], date)
		le.PutUint16(b[22:], clock)
		le.PutUint16(b[24:], date)
		if string(b[:3]) == ".. " && e.Cluster == f.Root() {
			le.PutUint16(b[20:], 0) // the root is 0 here (FAT32 specification, "FAT Directories")
			le.PutUint16(b[26:], 0)
		}
		if _, err := s.WriteAt(b, e.Offset); err != nil {
			return err
		}
	}
	free, next, err := f.Free()
	if err != nil {
		return err
	}
	for _, at := range []int64{0, 6 * sector} { // the boot sector and its copy
		for field, value := range map[int64]uint32{28: uint32(s.start / sector), 67: number(v.id)} {
			if _, err := s.WriteAt(le.AppendUint32(nil, value), at+field); err != nil {
				return err
			}
		}
		info := le.AppendUint32(le.AppendUint32(nil, free), next)
		if _, err := s.WriteAt(info, at+sector+488); err != nil {
			return err
		}
	}
	return nil
}

// dosTime is a time as FAT keeps it, to two seconds, from 1980 on.
func dosTime(t time.Time) (date, clock uint16) {
	t = t.UTC()
	if t.Year() < 1980 {
		return 1<<5 | 1, 0
	}
	return uint16(t.Year()-1980)<<9 | uint16(t.Month())<<5 | uint16(t.Day()),
		uint16(t.Hour())<<11 | uint16(t.Minute())<<5 | uint16(t.Second()/2)
}

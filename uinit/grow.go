package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/nitrino/nitrino/internal/card"
)

// The master boot record: four entries of 16 bytes, then the signature. Sizes
// and places are in sectors of 512 bytes.
const (
	sectorSize   = 512
	mbrTable     = 446
	mbrEntry     = 16
	mbrType      = 4  // offset of the type in an entry, one byte
	mbrStart     = 8  // of the first sector, little endian, four bytes
	mbrSize      = 12 // of the number of sectors
	mbrSignature = 510
	typeFAT32    = 0x0c
	typeLinux    = 0x83
)

// extResize is EXT4_IOC_RESIZE_FS, _IOW('f', 16, __u64): the new number of
// blocks.
const extResize = 1<<30 | 8<<16 | 'f'<<8 | 16

// growAlign is what the partition's size is a multiple of, in sectors: 1 MiB.
const growAlign = 1 << 20 / sectorSize

// An mbr is a card's first sector.
type mbr [sectorSize]byte

// errNoCard says that a disk is no card of ours.
var errNoCard = errors.New("it does not begin with a boot partition as a card does")

// readMBR reads the first sector of a card.
func readMBR(f *os.File) (*mbr, error) {
	m := new(mbr)
	if _, err := f.ReadAt(m[:], 0); err != nil {
		return nil, err
	}
	if m[mbrSignature] != 0x55 || m[mbrSignature+1] != 0xaa || m.entry(card.BootPartition)[mbrType] != typeFAT32 {
		return nil, errNoCard
	}
	return m, nil
}

// hasPerm says whether there is a partition for /perm.
func (m *mbr) hasPerm() bool {
	_, size := m.sectors(card.PermPartition)
	return m.entry(card.PermPartition)[mbrType] == typeLinux && size > 0
}

// entry is the entry of a partition, which counts from 1.
func (m *mbr) entry(partition int) []byte {
	at := mbrTable + (partition-1)*mbrEntry
	return m[at : at+mbrEntry]
}

// sectors answers where a partition begins and how long it is.
func (m *mbr) sectors(partition int) (start, size uint32) {
	e := m.entry(partition)
	return binary.LittleEndian.Uint32(e[mbrStart:]), binary.LittleEndian.Uint32(e[mbrSize:])
}

// grow makes the last partition reach to the end of a disk of so many sectors;
// false: it does already, or the rest is not worth it.
func (m *mbr) grow(disk int64) bool {
	start, size := m.sectors(card.PermPartition)
	end := min(disk, math.MaxUint32)
	want := (end - int64(start)) / growAlign * growAlign
	if want <= int64(size) {
		return false
	}
	binary.LittleEndian.PutUint32(m.entry(card.PermPartition)[mbrSize:], uint32(want))
	return true
}

// growPerm makes the partition and the file system on /perm as large as the card
// has room, and answers the partition's size in bytes. It may be cut at any
// instruction and is done again from where it was: the one sector is written
// whole or not, the kernel reads it at the next start, and ext4's own journal
// covers the rest.
func growPerm(disk, partition, perm string) (size int64, err error) {
	f, err := os.OpenFile(disk, os.O_RDWR, 0)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	m, err := readMBR(f)
	if err != nil {
		return 0, fmt.Errorf("%s: %w", disk, err)
	}
	end, err := f.Seek(0, 2)
	if err != nil {
		return 0, err
	}
	if m.grow(end / sectorSize) {
		if _, err := f.WriteAt(m[:], 0); err != nil {
			return 0, err
		}
		if err := f.Sync(); err != nil {
			return 0, err
		}
	}
	start, sectors := m.sectors(card.PermPartition)
	size = int64(sectors) * sectorSize
	if err := resizePartition(f, partition, int64(start)*sectorSize, size); err != nil {
		return 0, fmt.Errorf("%s: %w", partition, err)
	}
	now, err := fileSystemSize(partition)
	if err == nil && now < size/extBlock*extBlock {
		err = resizeFileSystem(perm, size)
	}
	if err != nil {
		return 0, fmt.Errorf("the file system on %s: %w", partition, err)
	}
	return size, nil
}

// resizePartition tells the kernel the partition's size, if it has another.
func resizePartition(disk *os.File, partition string, start, size int64) error {
	f, err := os.Open(partition)
	if err != nil {
		return err
	}
	now, err := f.Seek(0, 2)
	if err = errors.Join(err, f.Close()); err != nil || now == size {
		return err
	}
	p := unix.BlkpgPartition{Start: start, Length: size, Pno: card.PermPartition}
	arg := unix.BlkpgIoctlArg{Op: unix.BLKPG_RESIZE_PARTITION, Datalen: int32(unsafe.Sizeof(p)), Data: (*byte)(unsafe.Pointer(&p))}
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, disk.Fd(), unix.BLKPG, uintptr(unsafe.Pointer(&arg))); errno != 0 {
		return fmt.Errorf("resizing: %w", errno)
	}
	return nil
}

// extBlock is the size of the blocks that /perm is made with, in bytes.
const extBlock = 4096

// fileSystemSize reads an ext4's size in bytes from its superblock
// (Documentation/filesystems/ext4/super.rst). Above 16 TiB, which MBR has no
// room for, it would be wrong.
func fileSystemSize(partition string) (int64, error) {
	f, err := os.Open(partition)
	if err != nil {
		return 0, err
	}
	var super [64]byte
	_, err = f.ReadAt(super[:], 1024)
	if err = errors.Join(err, f.Close()); err != nil {
		return 0, err
	}
	blocks, blockSize := binary.LittleEndian.Uint32(super[4:]), 1024<<(super[24]&15)
	if binary.LittleEndian.Uint16(super[56:]) != unix.EXT4_SUPER_MAGIC || blockSize != extBlock {
		return 0, fmt.Errorf("%s is no ext4 with blocks of %d bytes", partition, extBlock)
	}
	return int64(blocks) * extBlock, nil
}

// resizeFileSystem grows the mounted ext4 at dir to a size in bytes.
func resizeFileSystem(dir string, size int64) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	blocks := uint64(size / extBlock)
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), extResize, uintptr(unsafe.Pointer(&blocks)))
	if errno != 0 {
		err = fmt.Errorf("growing: %w", errno)
	}
	return errors.Join(err, f.Close())
}

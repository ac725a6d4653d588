package sdcard

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/diskfs/go-diskfs/filesystem/ext4"
	"github.com/google/uuid"
)

// Places in ext4's structures (Linux, Documentation/filesystems/ext4).
const (
	superblockAt     = 1024
	superblockSize   = 1024
	superMagic       = 0x38
	blockSize        = 4096
	groupBlocks      = 8 * blockSize // blocks in a group: what a block of bits can tell
	groupSize        = 64            // of a descriptor
	groupInodeTable  = 0x08
	groupFlags       = 0x12
	groupInodeZeroed = 0x04 // the flag that the inode table is zeros
	inodeSize        = 256
	inodeBlock       = 0x28
	resizeInode      = 7
	journalInode     = 8
	journalUUID      = 0x30
	extentMagic      = 0xf30a
	extentHeaderSize = 12

	// inodesPerGroup is one inode to 16 KiB, as mke2fs has it. The kernel grows
	// only file systems whose inode tables are whole blocks.
	inodesPerGroup = groupBlocks * blockSize / 16384
	groups         = (permSize/blockSize + groupBlocks - 1) / groupBlocks
)

// writeExt4 makes the file system of /perm: 4 KiB blocks, which the kernel grows
// on line in a moment where smaller ones take minutes.
func writeExt4(out image, p partition, id [sha256.Size]byte, date time.Time) error {
	name := uuid.UUID(id[:16])
	// RFC 9562, section 5.8: a UUID made by a rule of one's own.
	name[6] = name[6]&0x0f | 0x80
	name[8] = name[8]&0x3f | 0x80
	if _, err := ext4.Create(out, p.size, p.start, sector, &ext4.Params{
		UUID: &name, SectorsPerBlock: blockSize / sector, InodeCount: groups * inodesPerGroup, VolumeName: "perm",
	}); err != nil {
		return err
	}
	s := sub{out, p.start, p.size}
	for group := range int64(groups) {
		if err := settleSuper(s, group, id[16:], date); err != nil {
			return err
		}
	}
	table := make([]byte, groupSize)
	if _, err := s.ReadAt(table, blockSize); err != nil {
		return err
	}
	inodes := int64(binary.LittleEndian.Uint32(table[groupInodeTable:])) * blockSize
	for number := int64(1); number <= 11; number++ {
		inode, err := settleInode(s, inodes+(number-1)*inodeSize, date)
		if err != nil {
			return err
		}
		switch number {
		case resizeInode:
			err = mendResize(s, inodes+(number-1)*inodeSize, inode)
		case journalInode:
			err = nameJournal(s, inode, name)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// settleSuper replaces what go-diskfs takes from the clock and from chance in a
// superblock, the dates and the seed of directory hashes, and says in the
// descriptors behind it that all inode tables are zeros, which the kernel would
// otherwise write again. There are no checksums over these: the features
// metadata_csum and gdt_csum are off. Most groups have neither.
func settleSuper(s sub, group int64, seed []byte, date time.Time) error {
	le := binary.LittleEndian
	start := group * groupBlocks * blockSize
	at := start
	if group == 0 {
		at = superblockAt // behind the place of a boot sector
	}
	super := make([]byte, superblockSize)
	if _, err := s.ReadAt(super, at); err != nil {
		return err
	}
	if le.Uint16(super[superMagic:]) != 0xef53 {
		return nil
	}
	le.PutUint32(super[0x2c:], 0)                    // s_mtime: it was never mounted
	for _, field := range []int{0x30, 0x40, 0x108} { // s_wtime, s_lastcheck, s_mkfs_time
		le.PutUint32(super[field:], uint32(date.Unix()))
	}
	le.PutUint16(super[0x36:], 0xffff) // s_max_mnt_count: no check after so many mounts
	copy(super[0xec:0xfc], seed)       // s_hash_seed
	if _, err := s.WriteAt(super, at); err != nil {
		return err
	}
	table := make([]byte, groups*groupSize)
	if _, err := s.ReadAt(table, start+blockSize); err != nil {
		return err
	}
	for g := range groups {
		flags := table[g*groupSize+groupFlags:]
		le.PutUint16(flags, le.Uint16(flags)|groupInodeZeroed)
	}
	_, err := s.WriteAt(table, start+blockSize)
	return err
}

// settleInode sets the dates of an inode that is in use, and returns it.
func settleInode(s sub, at int64, date time.Time) ([]byte, error) {
	le := binary.LittleEndian
	inode := make([]byte, inodeSize)
	if _, err := s.ReadAt(inode, at); err != nil {
		return nil, err
	}
	if le.Uint16(inode) == 0 { // i_mode
		return inode, nil
	}
	for _, field := range []int{0x08, 0x0c, 0x10, 0x90} { // i_atime, i_ctime, i_mtime, i_crtime
		le.PutUint32(inode[field:], uint32(date.Unix()))
	}
	for _, field := range []int{0x84, 0x88, 0x8c, 0x94} { // their nanoseconds
		le.PutUint32(inode[field:], 0)
	}
	// The checksum that go-diskfs leaves here without the feature.
	le.PutUint16(inode[0x7c:], 0)
	le.PutUint16(inode[0x82:], 0)
	_, err := s.WriteAt(inode, at)
	return inode, err
}

// mendResize puts the list of blocks that are kept free for more descriptors
// where the kernel looks for it (fs/ext4/resize.c, reserve_backup_gdb): block n
// of the file system at place n - 1. go-diskfs has the last one at place 0, which
// is right for blocks of 1 KiB only. The inode gets the size that mke2fs gives
// it: all that 12 direct, one indirect and one double indirect block can reach.
func mendResize(s sub, inodeAt int64, inode []byte) error {
	const pointers = blockSize / 4
	const size = (12 + pointers + pointers*pointers) * blockSize
	le := binary.LittleEndian
	le.PutUint32(inode[0x04:], size&0xffffffff) // i_size_lo
	le.PutUint32(inode[0x6c:], size>>32)        // i_size_high
	if _, err := s.WriteAt(inode, inodeAt); err != nil {
		return err
	}
	at := int64(le.Uint32(inode[inodeBlock+13*4:])) * blockSize // the list: i_block[13]
	list := make([]byte, blockSize)
	if _, err := s.ReadAt(list, at); err != nil {
		return err
	}
	last := le.Uint32(list)
	if last == 0 || last > pointers || at == 0 {
		return fmt.Errorf("ext4: the resize inode begins with block %d", last)
	}
	le.PutUint32(list, 0)
	le.PutUint32(list[(last-1)*4:], last)
	_, err := s.WriteAt(list, at)
	return err
}

// nameJournal gives the journal the name of its file system in place of one by
// chance.
func nameJournal(s sub, inode []byte, name uuid.UUID) error {
	le := binary.LittleEndian
	extent := inode[inodeBlock:]
	if le.Uint16(extent) != extentMagic || le.Uint16(extent[6:]) != 0 {
		return errors.New("ext4: the journal's extents are not in its inode")
	}
	extent = extent[extentHeaderSize:]
	block := int64(le.Uint16(extent[6:]))<<32 | int64(le.Uint32(extent[8:]))
	_, err := s.WriteAt(name[:], block*blockSize+journalUUID)
	return err
}

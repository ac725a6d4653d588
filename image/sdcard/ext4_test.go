package sdcard

import (
	"encoding/binary"
	"testing"

	"github.com/nitrino/nitrino/internal/card"
)

// TestPermGrows checks what the kernel wants of a file system that it grows on
// line; e2fsck does not mind the rest.
func TestPermGrows(t *testing.T) {
	f := build(t, contents())
	perm := partitions()[card.PermPartition]
	le := binary.LittleEndian
	block := func(n int64) []byte {
		t.Helper()
		b := make([]byte, blockSize)
		if _, err := f.ReadAt(b, perm.start+n*blockSize); err != nil {
			t.Fatal(err)
		}
		return b
	}
	super := block(0)[superblockAt:]
	perBlock := uint32(blockSize / inodeSize)
	if got := le.Uint32(super[0x28:]); got != inodesPerGroup || got%perBlock != 0 {
		t.Errorf("got %d inodes in a group, want %d, a multiple of %d", got, inodesPerGroup, perBlock)
	}
	if got := le.Uint32(super[0x20:]); got != groupBlocks {
		t.Errorf("got %d blocks in a group, want %d", got, groupBlocks)
	}
	descriptors := block(1)
	for g := range groups {
		if flags := le.Uint16(descriptors[g*groupSize+groupFlags:]); flags&groupInodeZeroed == 0 {
			t.Errorf("group %d: got flags %#x, want that its inode table is zeros", g, flags)
		}
	}
	// fs/ext4/resize.c, reserve_backup_gdb: block n at place n - 1.
	inode := block(int64(le.Uint32(descriptors[groupInodeTable:])))[(resizeInode-1)*inodeSize:]
	list := block(int64(le.Uint32(inode[inodeBlock+13*4:])))
	reserved := uint32(le.Uint16(super[0xce:]))
	if reserved == 0 {
		t.Error("no blocks are kept for descriptors")
	}
	for place := range uint32(blockSize / 4) {
		want := uint32(0)
		if 1 <= place && place <= reserved {
			want = place + 1
		}
		if got := le.Uint32(list[place*4:]); got != want {
			t.Errorf("place %d: got block %d, want %d", place, got, want)
		}
	}
}

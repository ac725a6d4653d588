// Package sdcard makes the image of a card, as internal/card lays it out, and
// checks the slots of one.
//
// The same contents give the same bytes: dates are that of the contents, and
// identities are derived from their hash.
package sdcard

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/diskfs/go-diskfs/partition/mbr"

	"github.com/nitrino/nitrino/internal/card"
)

const (
	mib    = 1 << 20
	sector = 512

	// Size is that of an image in bytes: cards of QEMU have sizes of powers of
	// two, and the smallest that are sold are larger.
	Size = 1 << 30

	// first is where the first partition begins: at a whole erase block.
	first = 4 * mib
	// bootSize and slotSize leave FAT32 its least number of clusters and a slot
	// room to grow. permSize is the rest; ext4 grows well on line only from a
	// size of 512 MiB or more.
	bootSize = 128 * mib
	slotSize = 160 * mib
	permSize = Size - first - bootSize - 2*slotSize
)

// A partition of the image: where it is, in bytes, and its type in the MBR.
type partition struct {
	start, size int64
	kind        mbr.Type
}

// partitions are indexed by the numbers of package card; 0 is none.
func partitions() [5]partition {
	var p [5]partition
	p[card.BootPartition] = partition{first, bootSize, mbr.Fat32LBA}
	p[card.SlotA] = partition{first + bootSize, slotSize, mbr.Fat32LBA}
	p[card.SlotB] = partition{first + bootSize + slotSize, slotSize, mbr.Fat32LBA}
	p[card.PermPartition] = partition{first + bootSize + 2*slotSize, permSize, mbr.Linux}
	return p
}

// Write makes the image in f, which is empty, and leaves holes where nothing is.
// It calls progress, which may be nil, with the bytes of files that were added.
func Write(ctx context.Context, f *os.File, c *Contents, progress func(n int64)) error {
	text, err := c.manifest()
	if err != nil {
		return err
	}
	if info, err := f.Stat(); err != nil {
		return err
	} else if info.Size() != 0 {
		return errors.New("sdcard: the image's file is not empty")
	}
	if err := f.Truncate(Size); err != nil {
		return err
	}
	if progress == nil {
		progress = func(int64) {}
	}
	boot, err := c.bootFiles()
	if err != nil {
		return err
	}
	id := identity(text, boot)
	out := image{f}
	for n, p := range partitions() {
		var err error
		switch n {
		case 0:
			err = writeTable(out, id("table"))
		case card.BootPartition:
			err = writeFAT(ctx, out, p, volume{"NITRINO", id("boot"), c.Date}, boot, progress)
		case card.SlotA, card.SlotB:
			name := card.SlotName(n)
			err = writeFAT(ctx, out, p, volume{"SLOT-" + strings.ToUpper(name), id("slot " + name), c.Date}, c.slotFiles(name, text), progress)
		case card.PermPartition:
			err = writeExt4(out, p, id("perm"), c.Date)
		}
		if err != nil {
			return fmt.Errorf("sdcard: partition %d: %w", n, err)
		}
	}
	return nil
}

// identity returns what makes identities of the contents, each for one use.
func identity(manifest []byte, boot []File) func(use string) [sha256.Size]byte {
	all := sha256.New()
	all.Write(manifest) // a hash never fails
	for _, f := range boot {
		sum := sha256.Sum256(f.Data)
		fmt.Fprintf(all, "%q %x\n", f.Name, sum)
	}
	seed := all.Sum(nil)
	return func(use string) [sha256.Size]byte { return sha256.Sum256(append(seed[:len(seed):len(seed)], use...)) }
}

// writeTable writes the MBR with its disk signature, which no disk may share
// with another that is in use in the same machine.
func writeTable(out image, id [sha256.Size]byte) error {
	t := &mbr.Table{LogicalSectorSize: sector, PhysicalSectorSize: sector}
	for n, p := range partitions() {
		if n == 0 {
			continue
		}
		t.Partitions = append(t.Partitions, &mbr.Partition{
			Index: n, Type: p.kind, Start: uint32(p.start / sector), Size: uint32(p.size / sector),
			// Beyond what heads and cylinders can say: the greatest values.
			StartHead: 0xfe, StartSector: 0xff, StartCylinder: 0xff,
			EndHead: 0xfe, EndSector: 0xff, EndCylinder: 0xff,
		})
	}
	if err := t.Write(out, Size); err != nil {
		return err
	}
	const signature = 440
	_, err := out.WriteAt(binary.LittleEndian.AppendUint32(nil, number(id)), signature)
	return err
}

// number makes a 32-bit identity, which is not 0.
func number(id [sha256.Size]byte) uint32 { return binary.LittleEndian.Uint32(id[:]) | 1 }

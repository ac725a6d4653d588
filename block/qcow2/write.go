package qcow2

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"math/bits"

	"github.com/nitrino/nitrino/block"
)

// What Write makes has clusters of 64 KiB and reference counts of 16 bits, as QEMU
// makes them by itself.
const (
	writeBits     = 16
	writeCluster  = 1 << writeBits
	refcountOrder = 4
	refcounts     = writeCluster / 2 // in a block of them
	l2Entries     = writeCluster / 8
	flagCopied    = 1 << 63 // the reference count is one
)

// A layout says what is where in an image that is written: the header, the
// reference count table and its blocks, L1, the L2 tables, the data. All are
// counts of clusters, one after another.
type layout struct {
	size                                          int64
	refTable, refBlocks, l1, l2, data, used       int64
	refTableAt, refBlocksAt, l1At, l2At, dataFrom int64
}

func ceil(n, unit int64) int64 { return (n + unit - 1) / unit }

// lay lays out an image of size bytes with so many L2 tables and data clusters.
func lay(size, tables, data int64) layout {
	l := layout{size: size, l2: tables, data: data}
	l.l1 = max(1, ceil(ceil(ceil(size, writeCluster), l2Entries)*8, writeCluster))
	fixed := 1 + l.l1 + l.l2 + l.data
	// The blocks count themselves too: that settles after a few rounds.
	for {
		used := fixed + l.refTable + l.refBlocks
		blocks := ceil(used, refcounts)
		table := ceil(blocks*8, writeCluster)
		if blocks == l.refBlocks && table == l.refTable {
			l.used = used
			break
		}
		l.refBlocks, l.refTable = blocks, table
	}
	l.refTableAt = 1
	l.refBlocksAt = l.refTableAt + l.refTable
	l.l1At = l.refBlocksAt + l.refBlocks
	l.l2At = l.l1At + l.l1
	l.dataFrom = l.l2At + l.l2
	return l
}

// A clusterSet has a bit for each cluster of a disk, where an L2 table has any: a disk may
// be much larger than what is on it, and than memory.
type clusterSet []*[l2Entries / 64]uint64

func newClusterSet(clusters int64) clusterSet { return make(clusterSet, ceil(clusters, l2Entries)) }

func (s clusterSet) add(i int64) {
	t := &s[i/l2Entries]
	if *t == nil {
		*t = new([l2Entries / 64]uint64)
	}
	(*t)[i%l2Entries/64] |= 1 << (i % 64)
}

func (s clusterSet) drop(i int64) { s[i/l2Entries][i%l2Entries/64] &^= 1 << (i % 64) }

func (s clusterSet) has(i int64) bool {
	t := s[i/l2Entries]
	return t != nil && t[i%l2Entries/64]>>(i%64)&1 != 0
}

// in counts the clusters of one L2 table, all those of all.
func (s clusterSet) in(table int64) (n int64) {
	if t := s[table]; t != nil {
		for _, word := range t {
			n += int64(bits.OnesCount64(word))
		}
	}
	return n
}

func (s clusterSet) all() (n int64) {
	for table := range s {
		n += s.in(int64(table))
	}
	return n
}

// Write writes what d has as a compact image, version 3, front to back. Since an
// image begins with its tables, what takes room in d is read twice: once to find
// the clusters that are zeros, and once to write the others. d must not change
// meanwhile. progress (nil: none) gets bytes of both readings; total shrinks when the
// first is done.
func Write(ctx context.Context, w io.Writer, d block.Device, progress func(done, total int64)) error {
	if progress == nil {
		progress = func(int64, int64) {}
	}
	size := d.Size()
	clusters := ceil(size, writeCluster)
	buf := make([]byte, writeCluster)
	there, err := mapped(ctx, d, clusters)
	if err != nil {
		return err
	}
	found := there.all() * writeCluster
	keep := there
	var done int64
	err = each(ctx, d, there, clusters, buf, func(i int64, data []byte) error {
		if zeros(data) {
			keep.drop(i)
		}
		done += writeCluster
		progress(done, 2*found)
		return nil
	})
	if err != nil {
		return err
	}
	tables := int64(0)
	for table := range keep {
		if keep.in(int64(table)) > 0 {
			tables++
		}
	}
	l := lay(size, tables, keep.all())
	if err := l.write(ctx, w, keep, clusters); err != nil {
		return fmt.Errorf("writing the image's tables: %w", err)
	}
	total := found + l.data*writeCluster
	progress(done, total)
	return each(ctx, d, keep, clusters, buf, func(_ int64, data []byte) error {
		if _, err := w.Write(data); err != nil {
			return fmt.Errorf("writing the image: %w", err)
		}
		done += writeCluster
		progress(done, total)
		return nil
	})
}

// mapped has the clusters of which something takes room.
func mapped(ctx context.Context, d block.Device, clusters int64) (clusterSet, error) {
	set := newClusterSet(clusters)
	for at := int64(0); at < d.Size(); {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		n, there, err := d.Extent(at)
		if err != nil {
			return nil, fmt.Errorf("looking at %d: %w", at, err)
		}
		if n <= 0 {
			return nil, fmt.Errorf("looking at %d: an extent of %d bytes", at, n)
		}
		n = min(n, d.Size()-at)
		if there {
			for i := at / writeCluster; i <= (at+n-1)/writeCluster; i++ {
				set.add(i)
			}
		}
		at += n
	}
	return set, nil
}

// each reads the clusters of set into buf and calls f with them, the last one filled
// up with zeros.
func each(ctx context.Context, d block.Device, set clusterSet, clusters int64, buf []byte, f func(i int64, data []byte) error) error {
	for i := int64(0); i < clusters; i++ {
		if set[i/l2Entries] == nil {
			i |= l2Entries - 1 // the table's last
			continue
		}
		if !set.has(i) {
			continue
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		at := i * writeCluster
		n := min(writeCluster, d.Size()-at)
		clear(buf[n:])
		if err := d.Readv([][]byte{buf[:n]}, at); err != nil {
			return fmt.Errorf("reading at %d: %w", at, err)
		}
		if err := f(i, buf); err != nil {
			return err
		}
	}
	return nil
}

func zeros(b []byte) bool {
	for ; len(b) >= 8; b = b[8:] {
		if binary.NativeEndian.Uint64(b) != 0 {
			return false
		}
	}
	return true // a cluster is whole words
}

// write writes all that comes before the data.
func (l layout) write(ctx context.Context, w io.Writer, keep clusterSet, clusters int64) error {
	buf := make([]byte, writeCluster)
	be := binary.BigEndian
	copy(buf, Magic)
	be.PutUint32(buf[4:], 3)
	be.PutUint32(buf[20:], writeBits)
	be.PutUint64(buf[24:], uint64(l.size))
	be.PutUint32(buf[36:], uint32(max(1, ceil(clusters, l2Entries))))
	be.PutUint64(buf[40:], uint64(l.l1At*writeCluster))
	be.PutUint64(buf[48:], uint64(l.refTableAt*writeCluster))
	be.PutUint32(buf[56:], uint32(l.refTable))
	be.PutUint32(buf[96:], refcountOrder)
	be.PutUint32(buf[100:], headerLen3)
	if _, err := w.Write(buf); err != nil {
		return err
	}

	// Each section is entries of 8 or 2 bytes; put fills a cluster and sends it on.
	section := func(count, width int64, entry func(i int64) uint64) error {
		per := writeCluster / width
		for c := range count {
			if err := ctx.Err(); err != nil {
				return err
			}
			for i := range per {
				if v := entry(c*per + i); width == 8 {
					be.PutUint64(buf[i*8:], v)
				} else {
					be.PutUint16(buf[i*2:], uint16(v))
				}
			}
			if _, err := w.Write(buf); err != nil {
				return err
			}
		}
		return nil
	}
	err := section(l.refTable, 8, func(i int64) uint64 {
		if i >= l.refBlocks {
			return 0
		}
		return uint64((l.refBlocksAt + i) * writeCluster)
	})
	if err != nil {
		return err
	}
	err = section(l.refBlocks, 2, func(i int64) uint64 {
		if i >= l.used {
			return 0
		}
		return 1
	})
	if err != nil {
		return err
	}
	table := l.l2At
	err = section(l.l1, 8, func(i int64) uint64 {
		from := i * l2Entries
		if from >= clusters || keep.in(i) == 0 {
			return 0
		}
		table++
		return flagCopied | uint64((table-1)*writeCluster)
	})
	if err != nil {
		return err
	}
	at := l.dataFrom
	for from := int64(0); from < clusters; from += l2Entries {
		if keep.in(from/l2Entries) == 0 {
			continue
		}
		err := section(1, 8, func(i int64) uint64 {
			if from+i >= clusters || !keep.has(from+i) {
				return 0
			}
			at++
			return flagCopied | uint64((at-1)*writeCluster)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

package cow

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"math/bits"
	"sync/atomic"

	"github.com/nitrino/nitrino/block"
)

const (
	clusterSize  = 4096
	wordClusters = 64
	wordBytes    = wordClusters * clusterSize // of the volume
	// A sector of the map has the bits of 8 MiB of the volume, in half of itself: so
	// all that is divided by is a power of two, and a checksum finds room.
	sectorWords = 32
	// A page of memory has the bits of as many sectors as the map's block of 4 KiB.
	pageSectors  = 8
	pageWords    = pageSectors * sectorWords
	pageClusters = pageWords * wordClusters
)

// clustersOf is how many clusters size bytes have, the last perhaps in part.
func clustersOf(size int64) int64 { return (size + clusterSize - 1) / clusterSize }

func sectorsOf(size int64) int64 {
	const reach = sectorWords * wordBytes
	return (size + reach - 1) / reach
}

// mapLength and liveLength are the lengths of the files.
func mapLength(size int64) int64 { return sectorAt(sectorsOf(size)) }
func liveLength(size int64) int64 {
	return (wordAt(sectorsOf(size)*sectorWords) + block.SectorSize - 1) &^ (block.SectorSize - 1)
}

// sectorAt is where a sector is in the map, wordAt where a word is in the live file.
func sectorAt(sector int64) int64 { return headerRoom + sector*block.SectorSize }
func wordAt(word int64) int64     { return headerRoom + word*8 }

// A page is a part of a bitmap in which a bit is set.
type page struct {
	words [pageWords]atomic.Uint64
	// dirty has a bit for each sector that the map has not, or not so.
	dirty atomic.Uint32
}

// A bitmap has the bits of a volume. Bits are read and added by many goroutines at
// once; it is resized alone.
type bitmap struct {
	pages []atomic.Pointer[page]
}

// resize makes room for clusters, and forgets those beyond.
func (b *bitmap) resize(clusters int64) {
	pages := make([]atomic.Pointer[page], (clusters+pageClusters-1)/pageClusters)
	for i := range min(len(pages), len(b.pages)) {
		pages[i].Store(b.pages[i].Load())
	}
	b.pages = pages
	if len(pages) == 0 {
		return
	}
	p := pages[len(pages)-1].Load()
	if p == nil {
		return
	}
	last := clusters - int64(len(pages)-1)*pageClusters // of this page
	for i := range p.words {
		keep := min(max(last-int64(i)*wordClusters, 0), wordClusters)
		p.words[i].And(mask(0, keep))
	}
}

// mask has the bits from first to before end, of 64.
func mask(first, end int64) uint64 {
	if first >= end {
		return 0
	}
	return ^uint64(0) << first & (^uint64(0) >> (64 - end))
}

func (b *bitmap) page(word int64) *page { return b.pages[word/pageWords].Load() }

func (b *bitmap) word(word int64) uint64 {
	if p := b.page(word); p != nil {
		return p.words[word%pageWords].Load()
	}
	return 0
}

func (b *bitmap) has(cluster int64) bool {
	return b.word(cluster/wordClusters)>>(cluster%wordClusters)&1 != 0
}

// addPage has a word's page be there. Of its callers there is one at a time.
func (b *bitmap) addPage(word int64) {
	if b.page(word) == nil {
		b.pages[word/pageWords].Store(new(page))
	}
}

// add sets bits of a word, whose page is there. The map has to be written if dirty is
// set.
func (b *bitmap) add(word int64, set uint64, dirty bool) {
	p, in := b.page(word), word%pageWords
	p.words[in].Or(set)
	if dirty {
		p.dirty.Or(1 << (in / sectorWords)) // after the bits: see snapshot
	}
}

// run tells whether a cluster is here, and up to which other, at most end, the same
// is so.
func (b *bitmap) run(from, end int64) (here bool, to int64) {
	for c := from; c < end; {
		p := b.pages[c/pageClusters].Load()
		var w uint64
		if p != nil {
			w = p.words[c/wordClusters%pageWords].Load()
		}
		w >>= c % wordClusters
		if c == from {
			here = w&1 != 0
		}
		if here {
			w = ^w << (c % wordClusters) >> (c % wordClusters) // of zeros shifted in
		}
		switch {
		case w != 0:
			return here, min(c+int64(bits.TrailingZeros64(w)), end)
		case p == nil:
			c = (c/pageClusters + 1) * pageClusters
		default:
			c = (c/wordClusters + 1) * wordClusters
		}
	}
	return here, end
}

// A sector is one of the map.
type sector struct {
	number int64
	data   [block.SectorSize]byte
}

// snapshot takes the dirty sectors as they are now; they count as clean then. A bit
// that is set meanwhile is in it, or its sector is dirty again.
func (b *bitmap) snapshot() []sector {
	var all []sector
	for i := range b.pages {
		p := b.pages[i].Load()
		if p == nil {
			continue
		}
		for dirty := p.dirty.Swap(0); dirty != 0; dirty &= dirty - 1 {
			all = append(all, b.sector(int64(i)*pageSectors+int64(bits.TrailingZeros32(dirty))))
		}
	}
	return all
}

// soil takes a snapshot back.
func (b *bitmap) soil(all []sector) {
	for _, s := range all {
		b.add(s.number*sectorWords, 0, true)
	}
}

const bitsBytes = sectorWords * 8

// sector is the map's: the bits, a CRC-32C of them and the sector's number, zeros.
func (b *bitmap) sector(number int64) sector {
	s := sector{number: number}
	for i := range int64(sectorWords) {
		binary.LittleEndian.PutUint64(s.data[i*8:], b.word(number*sectorWords+i))
	}
	binary.LittleEndian.PutUint32(s.data[bitsBytes:], sectorSum(s.data[:bitsBytes], number))
	return s
}

func sectorSum(data []byte, number int64) uint32 {
	var n [8]byte
	binary.LittleEndian.PutUint64(n[:], uint64(number))
	return crc32.Update(crc32.Checksum(n[:], castagnoli()), castagnoli(), data)
}

// load adds the bits of a sector of the map, without those from clusters on.
func (b *bitmap) load(number int64, data []byte, clusters int64) error {
	sum := binary.LittleEndian.Uint32(data[bitsBytes:])
	var any uint64
	for i := range sectorWords {
		any |= binary.LittleEndian.Uint64(data[i*8:])
	}
	if any == 0 && sum == 0 {
		return nil
	}
	if sum != sectorSum(data[:bitsBytes], number) {
		return fmt.Errorf("%w: the checksum of the map's sector %d", block.ErrMedium, number)
	}
	for i := range int64(sectorWords) {
		word := number*sectorWords + i
		set := binary.LittleEndian.Uint64(data[i*8:]) & valid(word, clusters)
		if set != 0 {
			b.addPage(word)
			b.add(word, set, false)
		}
	}
	return nil
}

// valid has the bits of a word that are of the first clusters.
func valid(word, clusters int64) uint64 {
	return mask(0, min(max(clusters-word*wordClusters, 0), wordClusters))
}

package cow

import (
	"encoding/binary"

	"github.com/nitrino/nitrino/block"
)

// Writev writes bufs, one after another, from offset on.
func (o *Overlay) Writev(bufs [][]byte, offset int64) error {
	if err := o.enter(true); err != nil {
		return err
	}
	defer o.io.RUnlock()
	return o.writev(bufs, offset)
}

func (o *Overlay) writev(bufs [][]byte, offset int64) error {
	end := offset + block.Length(bufs)
	if end == offset {
		return nil
	}
	here, to := o.run(offset, end)
	if here && to == end {
		return o.tell(o.data.Writev(bufs, offset))
	}
	s := o.scratch()
	defer o.release(s)
	for at := offset; at < end; at = to {
		var err error
		if here, to = o.run(at, end); here {
			s.bufs = block.Cut(s.bufs[:0], bufs, at-offset, to-at)
			err = o.tell(o.data.Writev(s.bufs, at))
		} else {
			to = min(end, (at/wordBytes+1)*wordBytes)
			err = o.first(s, bufs, offset, at, to)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// first writes, of bufs that begin at offset, the bytes from at to end, which are of
// one word, some of whose clusters are not here.
func (o *Overlay) first(s *scratch, bufs [][]byte, offset, at, end int64) error {
	word := at / wordBytes
	lock := &o.words[word%int64(len(o.words))]
	lock.Lock()
	defer lock.Unlock()
	if err := o.prepare(word); err != nil {
		return err
	}
	list := s.bufs[:0]
	from := at
	if part := at % clusterSize; part != 0 && !o.bits.has(at/clusterSize) {
		from -= part
		list = append(list, s.head[:part])
		if err := o.readBase(o.base, s.vector(s.head[:part]), from, at); err != nil {
			return err
		}
	}
	list = block.Cut(list, bufs, at-offset, end-at)
	if end%clusterSize != 0 && end != o.head.size && !o.bits.has(end/clusterSize) {
		rest := min((end/clusterSize+1)*clusterSize, o.head.size) - end
		list = append(list, s.tail[:rest])
		if err := o.readBase(o.base, s.vector(s.tail[:rest]), end, end+rest); err != nil {
			return err
		}
	}
	s.bufs = list
	if err := o.data.Writev(list, from); err != nil {
		return o.tell(err)
	}
	return o.commit(s, word, at, end)
}

// vector is a list of one buffer.
func (s *scratch) vector(b []byte) [][]byte {
	s.one[0] = b
	return s.one[:]
}

// prepare has what a bit of a word will need. The caller holds the word's lock.
func (o *Overlay) prepare(word int64) error {
	if err := o.begin(); err != nil {
		return o.tell(err)
	}
	if o.bits.page(word) != nil {
		return nil
	}
	o.beginning.Lock()
	defer o.beginning.Unlock()
	if o.bits.page(word) != nil {
		return nil
	}
	// Room now, so that no Flush fails for want of it. This must be over before any
	// sector of the page is written: hence before there is the page.
	first := word / pageWords * pageSectors
	n := min(sectorsOf(o.head.size)-first, pageSectors) * block.SectorSize
	if err := o.own.WriteZeroes(sectorAt(first), n, true); err != nil {
		return o.tell(err)
	}
	o.bits.addPage(word)
	return nil
}

// commit sets the bits of the clusters from at to end, which are of one word, whose
// lock the caller holds. The data file has them.
func (o *Overlay) commit(s *scratch, word, at, end int64) error {
	first := word * wordClusters
	set := mask(at/clusterSize-first, clustersOf(end)-first)
	has := o.bits.word(word)
	if set&^has == 0 {
		return nil
	}
	binary.LittleEndian.PutUint64(s.word[:], has|set)
	if err := (*o.live.Load()).Writev(s.vector(s.word[:]), wordAt(word)); err != nil {
		return o.tell(err)
	}
	o.bits.add(word, set, true)
	return nil
}

// Discard gives up what a range holds; it reads as zeros then.
func (o *Overlay) Discard(offset, length int64) error {
	return o.clear(offset, length, o.data.Discard, true)
}

// CanDiscard tells whether Discard gives room back.
func (o *Overlay) CanDiscard() bool { return o.data.CanDiscard() }

// WriteZeroes clears a range. If keep is set it has room then.
func (o *Overlay) WriteZeroes(offset, length int64, keep bool) error {
	if !keep {
		return o.Discard(offset, length)
	}
	return o.clear(offset, length, func(at, n int64) error { return o.data.WriteZeroes(at, n, true) }, false)
}

// clear clears a range by way of how. What is zeros already is left as it is if sparse
// is set.
func (o *Overlay) clear(offset, length int64, how func(at, n int64) error, sparse bool) error {
	if err := o.enter(true); err != nil {
		return err
	}
	defer o.io.RUnlock()
	s := o.scratch()
	defer o.release(s)
	end := offset + length
	for at, to := offset, offset; at < end; at = to {
		var here bool
		var err error
		here, to = o.run(at, end)
		whole := min((at/clusterSize+1)*clusterSize, o.head.size)
		var hole int64 // from at on, that of the base
		if sparse && !here {
			if hole, err = o.baseHole(at, to); err != nil {
				return err
			}
		}
		switch {
		case here:
			err = o.tell(how(at, to-at))
		case hole > 0:
			to = at + hole
		case at%clusterSize != 0 || to < whole: // in part
			to = min(to, whole)
			err = o.first(s, [][]byte{make([]byte, to-at)}, at, at, to)
		default:
			to = min(to, (at/wordBytes+1)*wordBytes)
			if to != o.head.size {
				to -= to % clusterSize
			}
			err = o.firstClear(s, at, to, how)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// baseHole is how many bytes from at on, before end, read as zeros as they take no
// room in the base. To hide them would take bits for nothing: a host that discards a
// large empty disk would have the whole bitmap in memory.
func (o *Overlay) baseHole(at, end int64) (int64, error) {
	shown := o.shown(o.base)
	if at >= shown {
		return end - at, nil
	}
	length, mapped, err := o.base.Extent(at)
	if err != nil || mapped {
		return 0, err
	}
	return min(length, shown-at, end-at), nil
}

// firstClear clears whole clusters of one word that are not here.
func (o *Overlay) firstClear(s *scratch, at, end int64, how func(at, n int64) error) error {
	word := at / wordBytes
	lock := &o.words[word%int64(len(o.words))]
	lock.Lock()
	defer lock.Unlock()
	if err := o.prepare(word); err != nil {
		return err
	}
	if err := o.tell(how(at, end-at)); err != nil {
		return err
	}
	return o.commit(s, word, at, end)
}

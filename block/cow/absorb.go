package cow

import (
	"context"
	"math/bits"

	"github.com/nitrino/nitrino/block"
)

// Absorb copies what lower, an overlay that nobody writes to and on which this one
// stands, has and this one has not; after it this overlay reads the same on lower's
// base, for which there is Rebase. It can be in use meanwhile. Until Rebase nothing
// has changed, so an Absorb that failed or was interrupted can be done again.
// progress, which may be nil, is told bytes.
func (o *Overlay) Absorb(ctx context.Context, lower *Overlay, progress func(done, total int64)) error {
	var done, total int64
	// Twice, rather than to keep a list: of a large volume it would be large.
	err := o.eachMissing(lower, func(_ int64, missing uint64) error {
		total += int64(bits.OnesCount64(missing)) * clusterSize
		return nil
	})
	if err != nil {
		return err
	}
	b := make([]byte, wordBytes)
	err = o.eachMissing(lower, func(word int64, _ uint64) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		n, err := o.absorb(lower, word, b)
		if err != nil {
			return err
		}
		done += n
		if progress != nil {
			progress(done, total)
		}
		return nil
	})
	if err != nil {
		return err
	}
	return o.limit(lower)
}

// eachMissing calls f, which is not under io, for the words of which lower has
// clusters that o has not.
func (o *Overlay) eachMissing(lower *Overlay, f func(word int64, missing uint64) error) error {
	for word := int64(0); ; {
		set, next, err := o.peek(lower, word)
		if err != nil || next == 0 {
			return err
		}
		if set != 0 {
			if err := f(word, set); err != nil {
				return err
			}
		}
		word = next
	}
}

// peek is missing for who does not hold io.
func (o *Overlay) peek(lower *Overlay, word int64) (set uint64, next int64, err error) {
	if err := o.enter(true); err != nil {
		return 0, 0, err
	}
	defer o.io.RUnlock()
	return o.missing(lower, word)
}

// missing has the clusters of a word that lower has and o has not, as far as they can
// show. next is the next word to ask for, 0 behind the last.
func (o *Overlay) missing(lower *Overlay, word int64) (set uint64, next int64, err error) {
	if err := lower.enter(false); err != nil {
		return 0, 0, err
	}
	defer lower.io.RUnlock()
	shown := clustersOf(o.shown(lower))
	switch {
	case word*wordClusters >= shown:
		return 0, 0, nil
	case lower.bits.page(word) == nil:
		return 0, (word/pageWords + 1) * pageWords, nil
	}
	return lower.bits.word(word) & valid(word, shown) &^ o.bits.word(word), word + 1, nil
}

// absorb copies the clusters of one word, and returns how many bytes it has.
func (o *Overlay) absorb(lower *Overlay, word int64, b []byte) (n int64, err error) {
	if err := o.enter(true); err != nil {
		return 0, err
	}
	defer o.io.RUnlock()
	lock := &o.words[word%int64(len(o.words))]
	lock.Lock()
	defer lock.Unlock()
	set, _, err := o.missing(lower, word)
	if err != nil || set == 0 {
		return 0, err
	}
	if err := o.prepare(word); err != nil {
		return 0, err
	}
	s := o.scratch()
	defer o.release(s)
	for set != 0 {
		first := int64(bits.TrailingZeros64(set))
		count := int64(bits.TrailingZeros64(^(set >> first)))
		set &^= mask(first, first+count)
		at := word*wordBytes + first*clusterSize
		end := min(at+count*clusterSize, o.head.size)
		if err := o.copyUp(lower, at, end, b); err != nil {
			return n, err
		}
		if err := o.commit(s, word, at, end); err != nil {
			return n, err
		}
		n += count * clusterSize
	}
	return n, nil
}

// copyUp brings clusters that are not here from lower, holes as holes.
func (o *Overlay) copyUp(lower *Overlay, at, end int64, b []byte) error {
	for to := at; at < end; at = to {
		mapped := false
		to = end
		if shown := o.shown(lower); at < shown {
			length, has, err := lower.Extent(at)
			if err != nil {
				return err
			}
			mapped = has
			if to = min(at+length, end); to != end {
				to -= to % clusterSize
			}
			if to <= at { // a cluster that is there in part
				to, mapped = min(at+clusterSize, end), true
			}
		}
		var err error
		if mapped {
			bufs := [][]byte{b[:to-at]}
			if err = o.readBase(lower, bufs, at, to); err == nil {
				err = o.tell(o.data.Writev(bufs, at))
			}
		} else {
			err = o.tell(o.data.Discard(at, to-at))
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// limit has no more of a base show through than does through both.
func (o *Overlay) limit(lower *Overlay) error {
	if err := lower.enter(false); err != nil {
		return err
	}
	shown := lower.head.inherited
	lower.io.RUnlock()
	o.io.Lock()
	defer o.io.Unlock()
	if err := o.may(true); err != nil {
		return err
	}
	if err := o.flush(); err != nil {
		return err
	}
	if o.head.inherited <= shown {
		return nil
	}
	h := o.head
	h.inherited = shown
	return o.tell(o.putHeader(h))
}

var _ interface {
	block.Device
	block.Prompt
	block.Resizer
} = (*Overlay)(nil)

package cow

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/nitrino/nitrino/block"
)

// A history is of one volume on a card, which loses its power and its process again
// and again.
type history struct {
	t    *testing.T
	rnd  *rand.Rand
	card *card
	base block.Device
	name string
	boot int
	v    *Overlay
	size int64 // as the volume's owner has noted it
	next tag

	// now is what was acknowledged, flushed what the last Flush came after, maybe all
	// that was written since, acknowledged or not; flight what was begun last. What
	// is not in now and flushed is untouched.
	now, flushed map[int64]tag
	maybe        map[int64][]tag
	flight       map[int64]tag
	grown        int64 // sectors from there on were never the base's
}

func newHistory(t *testing.T, rnd *rand.Rand, c *card, name string, base block.Device, size int64) *history {
	t.Helper()
	h := &history{
		t: t, rnd: rnd, card: c, base: base, name: name, size: size, grown: size / block.SectorSize,
		now: make(map[int64]tag), flushed: make(map[int64]tag), maybe: make(map[int64][]tag),
	}
	if err := (folder{c, name}).create(size); err != nil {
		t.Fatal(err)
	}
	h.open()
	return h
}

func (h *history) open() {
	h.t.Helper()
	v, err := open(folder{h.card, h.name}, Options{Base: h.base, Size: h.size, BootID: fmt.Sprint(h.boot)})
	if err != nil {
		h.t.Fatalf("open: %v", err)
	}
	h.v = v
}

// untouched is what a sector has that was never written.
func (h *history) untouched(sector int64) tag {
	if h.base != nil && sector < h.grown {
		switch b := h.base.(type) {
		case goldenBase:
			if sector*block.SectorSize < b.size {
				return golden
			}
		case *Overlay:
			if sector*block.SectorSize < b.Size() {
				return h.read(b, sector)
			}
		}
	}
	return 0
}

func (h *history) get(of map[int64]tag, sector int64) tag {
	if g, ok := of[sector]; ok {
		return g
	}
	return h.untouched(sector)
}

func (h *history) read(d block.Device, sector int64) tag {
	b := make([]byte, block.SectorSize)
	if err := d.Readv([][]byte{b}, sector*block.SectorSize); err != nil {
		h.t.Fatalf("Readv of sector %d: %v", sector, err)
	}
	g, ok := tagOf(b, sector)
	if !ok {
		h.t.Fatalf("sector %d is none that was written: %x…", sector, b[:16])
	}
	return g
}

// place is a range near where something begins or ends.
func (h *history) place() (sector, count int64) {
	spots := []int64{0, 0, wordBytes, 3 * wordBytes, sectorWords * wordBytes, pageClusters * clusterSize, h.size, h.grown * block.SectorSize}
	near := spots[h.rnd.IntN(len(spots))] / block.SectorSize
	sector = min(max(near+h.rnd.Int64N(48)-24, 0), h.size/block.SectorSize-1)
	count = 1 + h.rnd.Int64N(20)
	if h.rnd.IntN(40) == 0 {
		count = 1 + h.rnd.Int64N(700)
	}
	return sector, min(count, h.size/block.SectorSize-sector)
}

// step does something; an error ends the run of the process.
func (h *history) step() error {
	h.flight = make(map[int64]tag)
	sector, count := h.place()
	offset, length := sector*block.SectorSize, count*block.SectorSize
	begin := func(g tag) {
		for s := sector; s < sector+count; s++ {
			h.flight[s] = g
			h.maybe[s] = append(h.maybe[s], g)
		}
	}
	var err error
	switch op := h.rnd.IntN(100); {
	case op < 70:
		h.next++
		begin(h.next)
		b := make([]byte, length)
		for s := range count {
			h.next.fill(b[s*block.SectorSize:][:block.SectorSize], sector+s)
		}
		err = h.v.Writev([][]byte{b}, offset)
	case op < 82:
		begin(0)
		err = h.v.Discard(offset, length)
	case op < 86:
		begin(0)
		err = h.v.WriteZeroes(offset, length, true)
	case op < 97:
		err = h.v.Flush()
		if err == nil {
			h.allFlushed()
		}
	default:
		return h.resize()
	}
	if errors.Is(err, block.ErrNoSpace) {
		h.settle(func(s int64) []tag { return []tag{h.get(h.now, s), h.flight[s]} }, slices.Collect(maps.Keys(h.flight)))
		return nil
	}
	if err == nil {
		maps.Copy(h.now, h.flight)
		clear(h.flight)
	}
	return err
}

func (h *history) allFlushed() {
	for s := range h.maybe {
		h.flushed[s] = h.get(h.now, s)
	}
	clear(h.maybe)
}

// resize notes a smaller size before, a larger one after.
func (h *history) resize() error {
	sizes := []int64{1 << 20, sectorWords * wordBytes, pageClusters * clusterSize}
	size := sizes[h.rnd.IntN(len(sizes))] + (h.rnd.Int64N(40)-20)*block.SectorSize
	if size == h.size {
		return nil // which flushes nothing
	}
	if size < h.size {
		h.shrunk(size)
	}
	err := h.v.Resize(size)
	if errors.Is(err, block.ErrNoSpace) {
		// As nothing was noted when it was to grow, and cannot be when it was to shrink.
		h.card.off = true
		return err
	}
	if err != nil {
		return err
	}
	h.allFlushed()
	h.size = size
	return nil
}

func (h *history) shrunk(size int64) {
	h.size = size
	h.grown = min(h.grown, size/block.SectorSize)
	gone := func(s int64) bool { return s*block.SectorSize >= size }
	maps.DeleteFunc(h.now, func(s int64, _ tag) bool { return gone(s) })
	maps.DeleteFunc(h.flushed, func(s int64, _ tag) bool { return gone(s) })
	maps.DeleteFunc(h.maybe, func(s int64, _ []tag) bool { return gone(s) })
}

// settle checks that sectors have what they may have, and notes what it is.
func (h *history) settle(may func(sector int64) []tag, sectors []int64) {
	h.t.Helper()
	for _, s := range sectors {
		got := h.read(h.v, s)
		if want := may(s); !slices.Contains(want, got) {
			h.t.Fatalf("sector %d of %d: got %#x, want one of %#x", s, h.size/block.SectorSize, got, want)
		}
		h.now[s] = got
	}
}

// all are the sectors that were written, and their neighbours.
func (h *history) all() []int64 {
	set := make(map[int64]bool)
	for _, m := range []map[int64]tag{h.now, h.flushed, h.flight} {
		for s := range m {
			for n := s - 8; n <= s+8; n++ {
				set[n] = n >= 0 && n*block.SectorSize < h.size
			}
		}
	}
	for range 20 {
		set[h.rnd.Int64N(h.size/block.SectorSize)] = true
	}
	maps.DeleteFunc(set, func(_ int64, in bool) bool { return !in })
	return slices.Sorted(maps.Keys(set))
}

// crash ends the process, or the power, and checks what is there after it.
func (h *history) crash() {
	h.t.Helper()
	may := func(s int64) []tag {
		all := []tag{h.get(h.now, s)}
		if g, ok := h.flight[s]; ok {
			all = append(all, g)
		}
		return all
	}
	power := h.rnd.IntN(2) == 0
	if power {
		h.boot++
		h.card.cut()
		may = func(s int64) []tag { return append([]tag{h.get(h.flushed, s)}, h.maybe[s]...) }
	} else {
		h.card.kill()
	}
	sectors := h.all()
	h.card.left = -1
	h.open()
	h.settle(may, sectors)
	if power {
		h.flushed = maps.Clone(h.now)
		clear(h.maybe)
	}
	clear(h.flight)
}

// run goes on until the machine stops.
func (h *history) run() {
	h.card.left = 1 + h.rnd.IntN(150)
	for range 40 {
		if err := h.step(); err != nil {
			if !h.card.off {
				h.t.Fatalf("it failed while the machine was on: %v", err)
			}
			break
		}
	}
}

func histories(t *testing.T, count int, one func(t *testing.T, rnd *rand.Rand)) {
	first, i := rand.Uint64(), uint64(0)
	defer func() {
		if t.Failed() {
			t.Logf("seed %d, %d", first, i)
		}
	}()
	for ; i < uint64(count); i++ {
		one(t, rand.New(rand.NewPCG(first, i)))
	}
}

// After any loss of power all that was flushed is there, what was not is old or new,
// sector by sector; after any end of the process, all that was acknowledged.
func TestPowerCut(t *testing.T) {
	histories(t, 15*rounds(t), func(t *testing.T, rnd *rand.Rand) {
		c := newCard(rnd)
		base := goldenBase{(1 << 20) + rnd.Int64N(16)*block.SectorSize}
		h := newHistory(t, rnd, c, "v", base, []int64{1<<20 + 1024, 9<<20 - 512, 66 << 20}[rnd.IntN(3)])
		c.full = []int{0, 0, 30}[rnd.IntN(3)]
		for range 5 {
			h.run()
			full := c.full
			c.full = 0 // to open is no test of this
			h.crash()
			c.full = full
		}
	})
}

// An Absorb may end anywhere, and is done again.
func TestPowerCutAbsorb(t *testing.T) {
	histories(t, rounds(t), func(t *testing.T, rnd *rand.Rand) {
		c := newCard(rnd)
		root := goldenBase{(1 << 20) + rnd.Int64N(16)*block.SectorSize}
		size := 1<<20 + rnd.Int64N(64)*block.SectorSize - 32*block.SectorSize
		below := newHistory(t, rnd, c, "lower", root, size)
		for range 30 {
			if err := below.step(); err != nil {
				t.Fatal(err)
			}
		}
		if err := below.v.Flush(); err != nil {
			t.Fatal(err)
		}
		h := newHistory(t, rnd, c, "upper", below.v, below.size+(rnd.Int64N(32)-16)*block.SectorSize)
		h.next = 1 << 20
		reopen := func() {
			below.boot = h.boot
			below.open()
			h.base = below.v
		}
		for most := 200; ; most *= 2 { // so that it comes to an end
			h.run()
			c.left = 1 + rnd.IntN(most)
			if c.off {
				c.left = -1
			}
			err := h.v.Absorb(t.Context(), below.v, nil)
			if err == nil {
				break
			}
			if !errors.Is(err, errOff) {
				t.Fatal(err)
			}
			c.off, c.left = false, -1
			reopen()
			h.crash()
		}
		c.left, c.off = -1, false
		var sectors []int64
		for s := range h.size / block.SectorSize {
			sectors = append(sectors, s)
		}
		h.settle(func(s int64) []tag { return []tag{h.get(h.now, s)} }, sectors)
		want := h.now
		h.base = root
		h.v.Rebase(root)
		for range 2 {
			for s, g := range want {
				if got := h.read(h.v, s); got != g {
					t.Fatalf("on the other base sector %d: got %#x, want %#x", s, got, g)
				}
			}
			h.boot++
			c.cut()
			h.open()
		}
	})
}

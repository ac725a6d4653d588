// Package blocktest is what every kind of block.Device has to pass.
package blocktest

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"

	"github.com/nitrino/nitrino/block"
)

// Options say how to make the device to be tested.
type Options struct {
	// New makes a device of size bytes, which the test closes, each time another one.
	New func(t *testing.T, size int64) block.Device
	// Reopen closes what New or Reopen returned and opens it again; nil: that cannot
	// be, what a device had ends with it.
	Reopen func(t *testing.T, d block.Device) block.Device
	// Content is what a new device begins with; zeros follow.
	Content []byte
	// Granularity is that of offsets and lengths, 0 for block.SectorSize.
	Granularity int64
	// Resizes: the device is a block.Resizer that can grow; one that can also
	// shrink needs no word.
	Resizes bool
	// Prompt: the device is a block.Prompt, if only to say that it has done nothing.
	Prompt bool
}

// size is of few clusters of any kind, and no whole number of them.
const size = 1<<20 + 11*4096

// Run tests a kind of device.
func Run(t *testing.T, o Options) {
	if o.Granularity == 0 {
		o.Granularity = block.SectorSize
	}
	t.Run("New", func(t *testing.T) { c := o.start(t, size-o.Granularity%4096); c.compare() })
	t.Run("Vectors", o.vectors)
	t.Run("Clear", o.clear)
	t.Run("Random", o.random)
	t.Run("Parallel", o.parallel)
	t.Run("Close", o.close)
	if o.Resizes {
		t.Run("Resize", o.resize)
	}
}

// A check holds a device against a model in memory.
type check struct {
	*Options
	t     *testing.T
	d     block.Device
	model []byte
	rnd   *rand.Rand
}

func (o *Options) start(t *testing.T, size int64) *check {
	t.Helper()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	c := &check{Options: o, t: t, rnd: rand.New(rand.NewPCG(seed, 0)), model: make([]byte, size)}
	copy(c.model, o.Content)
	c.d = o.New(t, size)
	t.Cleanup(func() {
		if err := c.d.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	if got := c.d.Size(); got != size {
		t.Fatalf("Size: got %d, want %d", got, size)
	}
	if _, ok := c.d.(block.Prompt); ok != o.Prompt {
		t.Fatalf("a block.Prompt: got %t, want %t", ok, o.Prompt)
	}
	if _, ok := c.d.(block.Resizer); o.Resizes && !ok {
		t.Fatal("it is no block.Resizer")
	}
	return c
}

// cut makes a vector of n bytes, in up to parts pieces of which some may be empty.
func cut(rnd *rand.Rand, n int64, parts int) [][]byte {
	all := make([]byte, n)
	ends := []int64{0, n}
	for range rnd.IntN(parts) {
		ends = append(ends, rnd.Int64N(n+1))
	}
	slices.Sort(ends)
	var bufs [][]byte
	for i, end := range ends[1:] {
		bufs = append(bufs, all[ends[i]:end:end])
	}
	return bufs
}

// fill gives each buffer another content, which no shift by sectors leaves the same.
func fill(rnd *rand.Rand, bufs [][]byte) {
	var some [61]byte
	for _, b := range bufs {
		for i := range some {
			some[i] = byte(rnd.Uint32())
		}
		for n := copy(b, some[:]); n < len(b); {
			n += copy(b[n:], b[:n])
		}
	}
}

// span is a random range.
func (c *check) span(most int64) (offset, length int64) {
	units := int64(len(c.model)) / c.Granularity
	offset = c.rnd.Int64N(units)
	length = 1 + c.rnd.Int64N(min(most/c.Granularity, units-offset))
	return offset * c.Granularity, length * c.Granularity
}

// either is one way to read or write, at random.
func (c *check) either(try func(block.Prompt) (bool, error), wait func() error) error {
	if p, ok := c.d.(block.Prompt); ok && c.rnd.IntN(2) == 0 {
		if done, err := try(p); done || err != nil {
			if !done {
				c.t.Fatalf("Try: not done, but error %v", err)
			}
			return err
		}
	}
	return wait()
}

func (c *check) read(offset, length int64, parts int) {
	c.t.Helper()
	bufs := cut(c.rnd, length, parts)
	fill(c.rnd, bufs)
	list := slices.Clone(bufs)
	err := c.either(
		func(p block.Prompt) (bool, error) { return p.TryReadv(bufs, offset) },
		func() error { return c.d.Readv(bufs, offset) })
	if err != nil {
		c.t.Fatalf("Readv of %d at %d: %v", length, offset, err)
	}
	c.same(bufs, list)
	c.equal(slices.Concat(bufs...), offset)
}

func (c *check) equal(got []byte, offset int64) {
	c.t.Helper()
	want := c.model[offset:][:len(got)]
	if bytes.Equal(got, want) {
		return
	}
	for i := range got {
		if got[i] != want[i] {
			c.t.Fatalf("read of %d at %d: byte %d is %#x, want %#x", len(got), offset, offset+int64(i), got[i], want[i])
		}
	}
}

// same checks that the list of buffers was left as it was.
func (c *check) same(got, want [][]byte) {
	c.t.Helper()
	if !slices.EqualFunc(got, want, func(a, b []byte) bool {
		return len(a) == len(b) && (len(a) == 0 || &a[0] == &b[0])
	}) {
		c.t.Fatal("the list of buffers was changed")
	}
}

func (c *check) write(offset, length int64, parts int) {
	c.t.Helper()
	bufs := cut(c.rnd, length, parts)
	fill(c.rnd, bufs)
	list, data := slices.Clone(bufs), slices.Concat(bufs...)
	err := c.either(
		func(p block.Prompt) (bool, error) { return p.TryWritev(bufs, offset) },
		func() error { return c.d.Writev(bufs, offset) })
	if err != nil {
		c.t.Fatalf("Writev of %d at %d: %v", length, offset, err)
	}
	c.same(bufs, list)
	if !bytes.Equal(slices.Concat(bufs...), data) {
		c.t.Fatal("Writev changed the data")
	}
	copy(c.model[offset:], data)
}

func (c *check) zero(offset, length int64, how int) {
	c.t.Helper()
	var err error
	switch how {
	case 0:
		err = c.d.Discard(offset, length)
	case 1:
		err = c.d.WriteZeroes(offset, length, false)
	default:
		err = c.d.WriteZeroes(offset, length, true)
	}
	if err != nil {
		c.t.Fatalf("clearing (%d) of %d at %d: %v", how, length, offset, err)
	}
	clear(c.model[offset:][:length])
}

// extents checks that the answers are within the device, and that what takes no
// room is zero.
func (c *check) extents(from int64) {
	c.t.Helper()
	for offset := from; offset < int64(len(c.model)); {
		n, mapped, err := c.d.Extent(offset)
		if err != nil {
			c.t.Fatalf("Extent at %d: %v", offset, err)
		}
		if n <= 0 || n%block.SectorSize != 0 || n > int64(len(c.model))-offset {
			c.t.Fatalf("Extent at %d of %d: got %d bytes", offset, len(c.model), n)
		}
		if zeros := bytes.Count(c.model[offset:][:n], []byte{0}); !mapped && int64(zeros) < n {
			c.t.Fatalf("Extent at %d: %d bytes take no room, but only %d are zeros", offset, n, zeros)
		}
		offset += n
	}
}

func (c *check) compare() {
	c.t.Helper()
	if got, want := c.d.Size(), int64(len(c.model)); got != want {
		c.t.Fatalf("Size: got %d, want %d", got, want)
	}
	const step = 128 << 10
	for offset := int64(0); offset < int64(len(c.model)); offset += step {
		c.read(offset, min(step, int64(len(c.model))-offset), 1)
	}
	c.extents(0)
}

func (c *check) reopen() {
	c.t.Helper()
	if c.Reopen != nil {
		c.d = c.Reopen(c.t, c.d)
	}
}

func (c *check) flush() {
	c.t.Helper()
	if err := c.d.Flush(); err != nil {
		c.t.Fatalf("Flush: %v", err)
	}
}

// Vectors of many shapes, more buffers than a system call takes among them.
func (o *Options) vectors(t *testing.T) {
	c := o.start(t, size)
	g := c.Granularity
	for _, n := range []int64{g, 2 * g, 4096, 3 * 4096, 65536 + g, 512 << 10} {
		for _, parts := range []int{1, 2, 3, 9, 70, 2500} {
			offset := c.rnd.Int64N((size-n)/g+1) * g
			c.write(offset, n, parts)
			c.read(offset, n, parts)
		}
	}
	c.write(size-g, g, 1)
	c.read(size-g, g, 1)
	if err := c.d.Writev(nil, 0); err != nil {
		t.Errorf("Writev of nothing: %v", err)
	}
	if err := c.d.Readv([][]byte{{}}, 0); err != nil {
		t.Errorf("Readv of nothing: %v", err)
	}
	c.reopen()
	c.compare()
}

// What is cleared in any way reads as zeros, its neighbours as before.
func (o *Options) clear(t *testing.T) {
	c := o.start(t, size)
	for how := range 3 {
		c.write(0, size, 3)
		for range 20 {
			offset, n := c.span(100 << 10)
			c.zero(offset, n, how)
		}
		c.compare()
		c.zero(0, size, how)
		c.compare()
		c.reopen()
		c.compare()
	}
}

func (o *Options) random(t *testing.T) {
	c := o.start(t, size)
	for i := range 600 {
		most := int64(16 << 10)
		if i%16 == 0 {
			most = 400 << 10
		}
		offset, n := c.span(most)
		switch op := c.rnd.IntN(100); {
		case op < 45:
			c.write(offset, n, 6)
		case op < 75:
			c.read(offset, n, 6)
		case op < 90:
			c.zero(offset, n, op%3)
		case op < 95:
			c.extents(offset)
		case op < 98:
			c.flush()
		default:
			c.reopen()
		}
	}
	c.compare()
	c.flush()
	c.reopen()
	c.compare()
}

// Writers with ranges of their own, neighbours in the same cluster, do not touch
// each other's.
func (o *Options) parallel(t *testing.T) {
	const writers = 6
	c := o.start(t, size)
	type span struct{ offset, length int64 }
	var own [writers][]span
	for offset, w := int64(0), 0; offset < size; w = (w + 1) % writers {
		n := min((1+c.rnd.Int64N(24))*c.Granularity, size-offset)
		own[w] = append(own[w], span{offset, n})
		offset += n
	}
	work := func(w int, rnd *rand.Rand) error {
		spans := own[w]
		for range 120 {
			s := spans[rnd.IntN(len(spans))]
			part := c.model[s.offset:][:s.length]
			switch op := rnd.IntN(20); {
			case op < 11:
				bufs := cut(rnd, s.length, 3)
				fill(rnd, bufs)
				copy(part, slices.Concat(bufs...))
				if err := c.d.Writev(bufs, s.offset); err != nil {
					return err
				}
			case op < 13:
				clear(part)
				if err := c.d.Discard(s.offset, s.length); err != nil {
					return err
				}
			case op < 14:
				clear(part)
				if err := c.d.WriteZeroes(s.offset, s.length, op%2 == 0); err != nil {
					return err
				}
			case op < 15:
				if err := c.d.Flush(); err != nil {
					return err
				}
			default:
				got := make([]byte, s.length)
				if err := c.d.Readv([][]byte{got}, s.offset); err != nil {
					return err
				}
				if !bytes.Equal(got, part) {
					t.Errorf("writer %d: %d bytes at %d are not what it wrote", w, s.length, s.offset)
				}
			}
		}
		return nil
	}
	var wg sync.WaitGroup
	for w := range writers {
		rnd := rand.New(rand.NewPCG(c.rnd.Uint64(), uint64(w)))
		wg.Go(func() {
			if err := work(w, rnd); err != nil {
				t.Errorf("writer %d: %v", w, err)
			}
		})
	}
	wg.Wait()
	c.compare()
	c.reopen()
	c.compare()
}

// A closed device does nothing any more.
func (o *Options) close(t *testing.T) {
	d := o.New(t, size)
	if err := d.Close(); err != nil {
		t.Fatalf("Close: %v", err)
	}
	b := [][]byte{make([]byte, 4096)}
	for _, c := range []struct {
		name string
		err  error
	}{
		{"Readv", d.Readv(b, 0)},
		{"Writev", d.Writev(b, 0)},
		{"Flush", d.Flush()},
		{"Discard", d.Discard(0, 4096)},
		{"WriteZeroes", d.WriteZeroes(0, 4096, true)},
	} {
		if !errors.Is(c.err, block.ErrClosed) {
			t.Errorf("%s after Close: got %v, want %v", c.name, c.err, block.ErrClosed)
		}
	}
	if p, ok := d.(block.Prompt); ok {
		if done, err := p.TryReadv(b, 0); done && !errors.Is(err, block.ErrClosed) {
			t.Errorf("TryReadv after Close: done, error %v", err)
		}
		if done, err := p.TryWritev(b, 0); done && !errors.Is(err, block.ErrClosed) {
			t.Errorf("TryWritev after Close: done, error %v", err)
		}
	}
}

// What is new reads as zeros, also where something was before.
func (o *Options) resize(t *testing.T) {
	c := o.start(t, size)
	shrinks := true
	for range 12 {
		to := (1 + c.rnd.Int64N(2*size/c.Granularity)) * c.Granularity
		switch was := int64(len(c.model)); {
		case to < was && !shrinks:
			continue
		case to < was:
			err := c.d.(block.Resizer).Resize(to)
			if errors.Is(err, errors.ErrUnsupported) {
				shrinks = false
				continue
			}
			if err != nil {
				t.Fatalf("Resize from %d to %d: %v", was, to, err)
			}
			c.model = c.model[:to:to]
		default:
			if err := c.d.(block.Resizer).Resize(to); err != nil {
				t.Fatalf("Resize from %d to %d: %v", was, to, err)
			}
			c.model = append(c.model, make([]byte, to-was)...)
		}
		c.compare()
		for range 10 {
			offset, n := c.span(64 << 10)
			c.write(offset, n, 3)
		}
		if c.rnd.IntN(3) == 0 {
			c.flush()
		}
		if c.rnd.IntN(3) == 0 {
			c.reopen()
		}
		c.compare()
	}
}

package volume

import (
	"bufio"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"hash/crc32"
	"hash/crc64"
	"io"

	"github.com/ulikunitz/xz/lzma"
)

// xzMagic begins a stream (The .xz File Format 1.1.0, section 2.1.1.1).
const xzMagic = "\xfd7zXZ\x00"

// errXZ: it is not what the format describes.
var errXZ = errors.New("the xz data is damaged")

// An xzReader unpacks the .xz container of LZMA2 data. The module's own reader
// takes as much memory as a block's header asks for, which is up to 4 GiB; this one
// takes at most maxWindow.
type xzReader struct {
	in    *xzInput
	err   error
	check byte // of the stream's blocks, section 2.1.1.2

	block         *lzma.Reader2 // nil between blocks
	begin         int64         // where the block's header began
	header, out   int64         // bytes of the block's header, and of what it unpacked to
	packed, plain int64         // what the header says, -1 where it does not
	sum           hash.Hash

	// records has the sizes of all blocks of the stream, as its index repeats them.
	records hash.Hash
	blocks  uint64
}

// An xzInput counts what is read.
type xzInput struct {
	r *bufio.Reader
	n int64
}

func (i *xzInput) Read(p []byte) (int, error) {
	n, err := i.r.Read(p)
	i.n += int64(n)
	return n, err
}

func (i *xzInput) ReadByte() (byte, error) {
	b, err := i.r.ReadByte()
	if err == nil {
		i.n++
	}
	return b, err
}

// newXZ reads an xz file that begins where in is.
func newXZ(in *bufio.Reader) *xzReader {
	return &xzReader{in: &xzInput{r: in}, check: noStream}
}

// noStream is the check of no stream at all: none has begun.
const noStream = 0xff

func (x *xzReader) Read(p []byte) (int, error) {
	for x.err == nil {
		if x.block == nil {
			x.err = x.next()
			continue
		}
		n, err := x.block.Read(p)
		x.out += int64(n)
		x.sum.Write(p[:n])
		if err == io.EOF {
			err = x.endBlock()
		}
		x.err = unexpected(err)
		if n > 0 {
			return n, nil
		}
	}
	return 0, x.err
}

// unexpected has an end of the input within something be no end.
func unexpected(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

// next gets to the data of the next block, or to io.EOF behind the last stream.
func (x *xzReader) next() error {
	if x.check == noStream {
		return x.streamHeader()
	}
	x.begin = x.in.n
	size, err := x.in.ReadByte()
	if err != nil {
		return unexpected(err)
	}
	if size == 0 {
		return unexpected(x.index())
	}
	return unexpected(x.blockHeader(size))
}

// streamHeader is section 2.1.1; between streams there may be padding, section 2.2.
func (x *xzReader) streamHeader() error {
	var h [12]byte
	for {
		if _, err := io.ReadFull(x.in, h[:4]); err != nil {
			return err // io.EOF: behind a stream
		}
		if h[0]|h[1]|h[2]|h[3] != 0 {
			break
		}
	}
	if _, err := io.ReadFull(x.in, h[4:]); err != nil {
		return unexpected(err)
	}
	if string(h[:6]) != xzMagic || h[6] != 0 || h[7] > 15 || crc32.ChecksumIEEE(h[6:8]) != binary.LittleEndian.Uint32(h[8:]) {
		return errXZ
	}
	x.check, x.blocks, x.records = h[7], 0, sha256.New()
	return nil
}

// blockHeader is section 3.1.
func (x *xzReader) blockHeader(size byte) error {
	h := make([]byte, (int(size)+1)*4)
	h[0] = size
	if _, err := io.ReadFull(x.in, h[1:]); err != nil {
		return err
	}
	body, crc := h[:len(h)-4], binary.LittleEndian.Uint32(h[len(h)-4:])
	if crc32.ChecksumIEEE(body) != crc || body[1]&0x3c != 0 {
		return errXZ
	}
	if body[1]&3 != 0 {
		return fmt.Errorf("%w: xz data with filters for machine code", errors.ErrUnsupported)
	}
	flags, rest := body[1], body[2:]
	var ok bool
	x.packed, x.plain = -1, -1
	if flags&0x40 != 0 {
		if x.packed, rest, ok = xzNumber(rest); !ok {
			return errXZ
		}
	}
	if flags&0x80 != 0 {
		if x.plain, rest, ok = xzNumber(rest); !ok {
			return errXZ
		}
	}
	// LZMA2 has the filter ID 0x21 and one byte of properties, section 5.3.1.
	if len(rest) < 3 || rest[0] != 0x21 || rest[1] != 1 || rest[2] > 40 {
		return errXZ
	}
	window := int64(2|rest[2]&1) << (rest[2]/2 + 11)
	if window > maxWindow {
		return fmt.Errorf("%w: xz data with a dictionary of %d MiB, more than %d MiB", errors.ErrUnsupported, window>>20, maxWindow>>20)
	}
	for _, b := range rest[3:] {
		if b != 0 {
			return errXZ
		}
	}
	var err error
	if x.block, err = (lzma.Reader2Config{DictCap: int(window)}).NewReader2(x.in); err != nil {
		return err
	}
	x.header, x.out, x.sum = int64(len(h)), 0, x.newCheck()
	return nil
}

// newCheck is what sums up a block, section 2.1.1.2; other checks than these are
// passed over.
func (x *xzReader) newCheck() hash.Hash {
	switch x.check {
	case 1:
		return crc32.NewIEEE()
	case 4:
		return crc64.New(crc64.MakeTable(crc64.ECMA))
	case 10:
		return sha256.New()
	}
	return noSum{}
}

// noSum sums up nothing.
type noSum struct{}

func (noSum) Write(p []byte) (int, error) { return len(p), nil }
func (noSum) Sum(b []byte) []byte         { return b }
func (noSum) Reset()                      {}
func (noSum) Size() int                   { return 0 }
func (noSum) BlockSize() int              { return 1 }

// endBlock is sections 3.3 and 3.4.
func (x *xzReader) endBlock() error {
	x.block = nil
	packed := x.in.n - x.begin - x.header
	if x.packed >= 0 && x.packed != packed || x.plain >= 0 && x.plain != x.out {
		return errXZ
	}
	if err := x.padding(packed); err != nil {
		return err
	}
	// Section 2.1.1.2 has the lengths of the checks.
	length := [16]int{0, 4, 4, 4, 8, 8, 8, 16, 16, 16, 32, 32, 32, 64, 64, 64}[x.check]
	stored := make([]byte, length)
	if _, err := io.ReadFull(x.in, stored); err != nil {
		return unexpected(err)
	}
	sum := x.sum.Sum(nil)
	for i := range sum {
		at := len(sum) - 1 - i // CRCs are little-endian
		if x.check == 10 {
			at = i
		}
		if stored[i] != sum[at] {
			return fmt.Errorf("%w: a checksum is wrong", errXZ)
		}
	}
	x.blocks++
	x.record(x.header+packed+int64(length), x.out)
	return nil
}

// record takes a block, or its line of the index.
func (x *xzReader) record(unpadded, plain int64) {
	var b [16]byte
	binary.BigEndian.PutUint64(b[:8], uint64(unpadded))
	binary.BigEndian.PutUint64(b[8:], uint64(plain))
	x.records.Write(b[:])
}

// padding reads what fills n bytes up to a multiple of four.
func (x *xzReader) padding(n int64) error {
	for ; n%4 != 0; n++ {
		if b, err := x.in.ReadByte(); err != nil {
			return unexpected(err)
		} else if b != 0 {
			return errXZ
		}
	}
	return nil
}

// index is sections 4 and 2.1.2: it repeats the sizes of the blocks, and the
// footer that follows it the stream's check.
func (x *xzReader) index() error {
	sum := crc32.NewIEEE()
	sum.Write([]byte{0})
	in := &summed{x.in, sum}
	want := string(x.records.Sum(nil))
	n, err := in.number()
	if err != nil {
		return err
	}
	if uint64(n) != x.blocks {
		return errXZ
	}
	x.records.Reset()
	for range n {
		unpadded, err := in.number()
		if err != nil {
			return err
		}
		plain, err := in.number()
		if err != nil {
			return err
		}
		x.record(unpadded, plain)
	}
	for (x.in.n-x.begin)%4 != 0 {
		if b, err := in.ReadByte(); err != nil || b != 0 {
			return errors.Join(errXZ, err)
		}
	}
	size := x.in.n - x.begin + 4
	var tail [16]byte // the index' CRC32 and the footer
	if _, err := io.ReadFull(x.in, tail[:]); err != nil {
		return err
	}
	number := binary.LittleEndian.Uint32
	if string(x.records.Sum(nil)) != want || number(tail[:]) != sum.Sum32() ||
		number(tail[4:]) != crc32.ChecksumIEEE(tail[8:14]) || (int64(number(tail[8:]))+1)*4 != size ||
		tail[12] != 0 || tail[13] != x.check || string(tail[14:]) != "YZ" {
		return errXZ
	}
	x.check = noStream
	return nil
}

// A summed reads bytes into a checksum.
type summed struct {
	in  io.ByteReader
	sum hash.Hash32
}

func (s *summed) ReadByte() (byte, error) {
	b, err := s.in.ReadByte()
	if err == nil {
		s.sum.Write([]byte{b})
	}
	return b, err
}

// number is section 1.2.
func (s *summed) number() (int64, error) {
	var n int64
	for i := range 9 {
		b, err := s.ReadByte()
		if err != nil {
			return 0, err
		}
		n |= int64(b&0x7f) << (7 * i)
		if b&0x80 == 0 {
			return n, nil
		}
	}
	return 0, errXZ
}

func xzNumber(p []byte) (n int64, rest []byte, ok bool) {
	for i, b := range p[:min(9, len(p))] {
		n |= int64(b&0x7f) << (7 * i)
		if b&0x80 == 0 {
			return n, p[i+1:], true
		}
	}
	return 0, nil, false
}

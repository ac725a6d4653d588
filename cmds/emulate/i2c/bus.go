// Package i2c plays an I2C bus with chips on it: what is behind a virtio I2C
// adapter (Virtual I/O Device specification 1.2, section 5.8).
package i2c

import (
	"encoding/binary"
	"errors"
	"sync"
)

// A Chip is one chip on the bus. The bus calls it from one goroutine at a time. An
// error is a byte that the chip does not acknowledge.
type Chip interface {
	// Write takes what is written to the chip between start and stop; nothing, if
	// it is only asked whether it is there.
	Write(p []byte) error
	// Read fills p with what is read from the chip.
	Read(p []byte) error
}

// ErrSilent is a chip that does not answer.
var ErrSilent = errors.New("the chip does not answer")

// A Bus is an I2C bus with its adapter.
type Bus struct {
	mu     sync.Mutex
	chips  map[uint16]Chip
	failed bool // the last request, and the next one is to fail with it
}

// New makes a bus with those chips, by their 7-bit addresses.
func New(chips map[uint16]Chip) *Bus { return &Bus{chips: chips} }

// The request's header and last byte (section 5.8.6).
const (
	headerSize = 8 // le16 address, le16 padding, le32 flags
	failNext   = 1 << 0
	toRead     = 1 << 1
	statusOK   = 0
	statusErr  = 1
)

// Features are the device's own feature bits: a request may have no data
// (VIRTIO_I2C_F_ZERO_LENGTH_REQUEST, section 5.8.3).
const Features = 1 << 0

// Request carries out one request of the driver: out is what it sends, in what
// it takes, whose last byte is the status. It returns how much of in it has
// written.
func (b *Bus) Request(out, in []byte) int {
	if len(in) == 0 {
		return 0 // there is no place to say anything
	}
	status := &in[len(in)-1]
	*status = statusErr
	if len(out) < headerSize {
		return len(in)
	}
	address, flags := binary.LittleEndian.Uint16(out), binary.LittleEndian.Uint32(out[4:])
	b.mu.Lock()
	defer b.mu.Unlock()
	skip := b.failed
	b.failed = false
	if !skip {
		if err := b.transfer(address>>1, flags&toRead != 0, out[headerSize:], in[:len(in)-1]); err == nil {
			*status = statusOK
		}
	}
	b.failed = *status != statusOK && flags&failNext != 0
	return len(in)
}

// transfer is called with mu held.
func (b *Bus) transfer(address uint16, read bool, out, in []byte) error {
	chip := b.chips[address]
	switch {
	case chip == nil:
		return ErrSilent
	case read:
		return chip.Read(in)
	default:
		return chip.Write(out)
	}
}

// Package fru is the inventory of the host: the FRU inventory commands (chapter
// 34 of the IPMI v2.0 specification, revision 1.1), and what the inventory says
// before anybody wrote it.
package fru

import (
	"errors"
	"io/fs"
	"log/slog"
	"math"
	"sync"
	"syscall"

	"github.com/nitrino/nitrino/host"
	"github.com/nitrino/nitrino/ipmi/command"
)

// Inventory is the memory; *host.Inventory is one.
type Inventory interface {
	// Size is how many bytes there are.
	Size() int
	// Read returns a copy of all of them. It waits for the memory the first
	// time, and after an error.
	Read() ([]byte, error)
	// Cached is what Read would return, nil where it would wait. It never
	// blocks.
	Cached() []byte
	// WriteAt returns when the bytes are on the medium.
	WriteAt(p []byte, off int, from host.Origin) error
	// Blank says that nobody has written it yet. It waits as Read does.
	Blank() bool
	// Changed counts the writes.
	Changed() uint64
}

// Options are what New needs.
type Options struct {
	Inventory Inventory
	// Identity is the board's, and UUID the host's: what a blank inventory
	// begins with.
	Identity host.Identity
	UUID     [16]byte
	Log      *slog.Logger
}

// A FRU answers the commands of this package.
type FRU struct {
	Options

	mu      sync.Mutex
	version uint64 // of data, by Inventory.Changed
	data    []byte // never changed in place; nil: not read
}

// New gives a blank inventory its first content, and reads it. A memory that
// fails is no reason to go without everything else: the log says so, and Get
// FRU Inventory Area Info tries again.
func New(o Options) *FRU {
	x := &FRU{Options: o}
	if err := x.prepare(); err != nil {
		o.Log.Warn("the blank inventory of the host stays blank", "error", err)
	}
	if _, err := x.Inventory.Read(); err != nil {
		o.Log.Warn("the inventory of the host cannot be read", "error", err)
	}
	return x
}

// Commands lists the commands.
func (x *FRU) Commands() []command.Command {
	// The longest request that fits in a message with one byte for its length.
	const maxWrite = 3 + 240
	return []command.Command{
		{NetFn: command.Storage, Cmd: 0x10, Name: "Get FRU Inventory Area Info", Privilege: command.User, Conduct: command.Waits, MinLen: 1, MaxLen: 1, Run: x.getInfo},
		{NetFn: command.Storage, Cmd: 0x11, Name: "Read FRU Data", Privilege: command.User, MinLen: 4, MaxLen: 4, Run: x.read},
		{NetFn: command.Storage, Cmd: 0x12, Name: "Write FRU Data", Privilege: command.Operator, Conduct: command.Waits, MinLen: 4, MaxLen: maxWrite, Run: x.write},
	}
}

// deviceID is the FRU device that is the host's inventory, the only one.
const deviceID = 0

// Completion codes of these commands alone (tables 34-3 and 34-4).
const (
	codeProtected command.Code = 0x80
	codeBusy      command.Code = 0x81
)

// maxRead is how many bytes one answer brings; asked for more, it answers that
// it cannot, and consoles ask for less.
const maxRead = 240

// size is what offsets of 16 bits reach.
func (x *FRU) size() int { return min(x.Inventory.Size(), math.MaxUint16) }

// image is what the inventory holds now, nil where the memory would have to be
// waited for. It must not be changed.
func (x *FRU) image() []byte {
	x.mu.Lock()
	defer x.mu.Unlock()
	// Asked before Cached: a write in between is looked at twice, never missed.
	if version := x.Inventory.Changed(); x.data == nil || version != x.version {
		x.data, x.version = x.Inventory.Cached(), version
	}
	return x.data
}

// getInfo: section 34.1. The memory is read and written by bytes. Consoles ask
// this first: a memory that failed is tried again here, since Read FRU Data must
// not wait for it.
func (x *FRU) getInfo(c *command.Call) command.Code {
	if c.Data[0] != deviceID {
		return command.NotPresent
	}
	_, _ = x.Inventory.Read() // Read FRU Data tells whether it went well
	const byBytes = 0
	c.Put16(uint16(x.size()))
	c.Put(byBytes)
	return command.OK
}

// read: section 34.2. Less is returned than asked for where the memory ends.
func (x *FRU) read(c *command.Call) command.Code {
	offset, count := int(c.Data[1])|int(c.Data[2])<<8, int(c.Data[3])
	switch {
	case c.Data[0] != deviceID:
		return command.NotPresent
	case offset >= x.size():
		return command.OutOfRange
	case count > maxRead:
		return command.CannotReturn
	}
	image := x.image()
	if image == nil {
		return codeBusy
	}
	part := image[offset:min(offset+count, x.size())]
	c.Put(byte(len(part)))
	c.Put(part...)
	return command.OK
}

// write: section 34.3. All of it is written, or nothing.
func (x *FRU) write(c *command.Call) command.Code {
	offset, data := int(c.Data[1])|int(c.Data[2])<<8, c.Data[3:]
	switch {
	case c.Data[0] != deviceID:
		return command.NotPresent
	case offset+len(data) > x.size():
		return command.OutOfRange
	}
	err := x.Inventory.WriteAt(data, offset, c.Origin)
	switch {
	case errors.Is(err, host.ErrBusy):
		return codeBusy
	case errors.Is(err, fs.ErrPermission), errors.Is(err, syscall.EROFS), errors.Is(err, errors.ErrUnsupported):
		return codeProtected
	case err != nil:
		return command.Result(x.Log, "Write FRU Data", err)
	}
	c.Put(byte(len(data)))
	return command.OK
}

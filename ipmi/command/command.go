// Package command says what a line of the table of IPMI commands is, and what a
// handler gets and answers. The packages beside it have the handlers, a chapter
// of the specification each; package ipmi has the sessions they are called in.
package command

import (
	"fmt"
	"time"

	"github.com/nitrino/nitrino/host"
)

// A NetFn is a network function (table 5-1), the even number of requests.
type NetFn uint8

// The network functions that commands are sorted into.
const (
	Chassis   NetFn = 0x00
	Bridge    NetFn = 0x02
	Sensor    NetFn = 0x04
	App       NetFn = 0x06
	Firmware  NetFn = 0x08
	Storage   NetFn = 0x0A
	Transport NetFn = 0x0C
	Group     NetFn = 0x2C // requests and answers begin with the defining body
	OEM       NetFn = 0x2E // likewise, with an IANA number of three bytes
)

// BodyDCMI is the defining body of DCMI's commands in NetFn Group (table 5-1).
const BodyDCMI = 0xDC

// A Privilege is a privilege level (section 6.8);
// each one may do what those below it may.
type Privilege uint8

// The levels.
const (
	None          Privilege = 0
	Callback      Privilege = 1
	User          Privilege = 2
	Operator      Privilege = 3
	Administrator Privilege = 4
	OEMLevel      Privilege = 5
)

// String names the level as the specification does.
func (p Privilege) String() string {
	names := [...]string{"NONE", "CALLBACK", "USER", "OPERATOR", "ADMINISTRATOR", "OEM"}
	if int(p) < len(names) {
		return names[p]
	}
	return fmt.Sprintf("Privilege(%d)", uint8(p))
}

// A Conduct says how a command is run.
type Conduct uint8

// The conducts.
const (
	// Reads: the command changes nothing, or nothing that doing it twice would
	// spoil. It runs in the receiver and must not block; a repetition runs
	// again.
	Reads Conduct = iota
	// Changes: likewise, but a repetition gets the first answer again. Its
	// answer has at most MaxKept bytes.
	Changes
	// Waits: as Changes, and it may wait for a disk or a wire: it runs in a
	// goroutine of its own, without the server's lock, and meanwhile every
	// other command is answered.
	Waits
)

// MaxKept bounds the data that a command which Changes or Waits answers.
const MaxKept = 24

// Channels (table 6-1). The board has no system interface: the host cannot
// speak to it but over the LAN.
const (
	ChannelLAN     = 0x01
	ChannelCurrent = 0x0E // the channel a request came over
)

// IsLAN says whether a request's channel byte names the LAN channel.
func IsLAN(b byte) bool { return b&0x0F == ChannelLAN || b&0x0F == ChannelCurrent }

// BMCAddr is the BMC's slave address (section 5.3).
const BMCAddr = 0x20

// A Command is one line of the table of commands.
type Command struct {
	NetFn NetFn
	Cmd   uint8
	// Body is the defining body of Group (one byte) and OEM (an IANA number).
	// Handlers do not see it.
	Body uint32
	Name string
	// Privilege is the least that may use it (appendix G).
	Privilege Privilege
	// Sessionless: it is also answered outside sessions.
	Sessionless bool
	Conduct     Conduct
	// MinLen and MaxLen bound the request's data, in bytes.
	MinLen, MaxLen int
	// Run is the handler. It may be called from several goroutines at once.
	// What it put is not sent where it answers another code than OK, unless it
	// set Whole.
	Run func(*Call) Code
}

// A Call is one request under way.
type Call struct {
	Data  []byte // of the request; valid only during the call
	Reply []byte // of the answer; handlers append
	Now   time.Time
	// Origin is who asks; set unless the command Reads.
	Origin host.Origin
	// Session is nil outside a session and for commands that Wait, since those
	// do not hold the lock that guards it.
	Session Session
	// Whole: what was put is sent with whatever code, for the few codes that
	// say something of the data after them.
	Whole bool
	// After, where a handler sets it, is run when the answer is sent, without
	// the lock.
	After func()
}

// A Session is what a handler may know of the session it was called in.
type Session interface {
	// Username is the name that logged in.
	Username() string
	// Level is the session's present privilege level.
	Level() Privilege
}

// Put appends to the answer.
func (c *Call) Put(b ...byte) { c.Reply = append(c.Reply, b...) }

// Put16 and Put32 append a number, least significant byte first.
func (c *Call) Put16(v uint16) { c.Put(byte(v), byte(v>>8)) }

// Put32 is as Put16.
func (c *Call) Put32(v uint32) { c.Put(byte(v), byte(v>>8), byte(v>>16), byte(v>>24)) }

// Arg is the request's byte i, 0 where the request is shorter.
func (c *Call) Arg(i int) byte {
	if i < len(c.Data) {
		return c.Data[i]
	}
	return 0
}

package sol

// A SOL packet is a header of four bytes and characters (section 15.9, table
// 15-2).
const (
	headerLen = 4
	// PayloadSize is the longest SOL payload in each direction, header
	// included, as Activate Payload tells it.
	PayloadSize = 255
	// maxData is what that leaves for characters.
	maxData = PayloadSize - headerLen
	// maxInbound is the most that the accepted character count can tell, and
	// so the most that is read of a console that sends more than it was told.
	maxInbound = 255

	sequences = 15 // packets count from 1 to 15; 0 is no packet's number
)

// Operation bits of a packet from the console.
const (
	opNACK          = 0x40
	opBreak         = 0x10
	opFlushInbound  = 0x02
	opFlushOutbound = 0x01
	// Ring (20h), CTS (08h) and DCD/DSR (04h) move wires that the board does
	// not have. Deasserted CTS must not stop the output either: the characters
	// that come all the same are to be sent on (section 15.11), and ipmitool
	// leaves CTS deasserted when it begins, until something is typed.
)

// Status bits of a packet to the console.
const (
	statusNACK        = 0x40
	statusUnavailable = 0x20 // the host is powered down or sleeps
	statusDeactivated = 0x10
	statusOverrun     = 0x08 // characters were lost before this packet
)

// header is a packet without its characters.
type header struct {
	seq   byte // 0: not to be acknowledged
	ack   byte // the packet that is acknowledged, 0: none
	count byte // characters accepted of that
	op    byte
}

// parse takes a payload apart; data is a part of p.
func parse(p []byte) (h header, data []byte, ok bool) {
	if len(p) < headerLen || len(p) > headerLen+maxInbound {
		return h, nil, false
	}
	return header{seq: p[0] & 0x0F, ack: p[1] & 0x0F, count: p[2], op: p[3]}, p[headerLen:], true
}

func (h header) append(b []byte) []byte { return append(b, h.seq, h.ack, h.count, h.op) }

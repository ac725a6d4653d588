package pdu

import "encoding/binary"

// What a target sends. Encode fills the whole header but for StatSN, ExpCmdSN and
// MaxCmdSN, which are left zero for Header.SetStatSN and Header.SetWindow: they
// are known only when the PDU takes its place in the order of what is sent.

func (h *Header) begin(op Opcode, flags byte, itt uint32, data int) {
	*h = Header{0: byte(op), 1: flags}
	h.SetDataLength(data)
	binary.BigEndian.PutUint32(h[16:], itt)
}

func bit(b bool, value byte) byte {
	if b {
		return value
	}
	return 0
}

// A Residual is what was not, or could not be, transferred (section 11.4.5).
type Residual struct {
	// Overflow: Count bytes more than expected would have been transferred.
	// Underflow: Count bytes of the expected ones were not.
	Overflow, Underflow bool
	Count               uint32
}

// A SCSIResponse is section 11.4. Its data segment is SenseLength (2 bytes) and the
// sense data, or empty.
type SCSIResponse struct {
	// Response is 0 where the command completed at the target, else 1, a target
	// failure; Status means something only with 0.
	Response, Status byte
	ITT              uint32
	// ExpDataSN is how many Data-In and R2T were sent for the command.
	ExpDataSN    uint32
	Residual     Residual
	ReadResidual Residual // of the read of a bidirectional command
	DataLength   int
}

// Encode fills h.
func (r *SCSIResponse) Encode(h *Header) {
	h.begin(OpSCSIResponse, 0x80|bit(r.ReadResidual.Overflow, 0x10)|bit(r.ReadResidual.Underflow, 0x08)|
		bit(r.Residual.Overflow, 0x04)|bit(r.Residual.Underflow, 0x02), r.ITT, r.DataLength)
	h[2], h[3] = r.Response, r.Status
	binary.BigEndian.PutUint32(h[36:], r.ExpDataSN)
	binary.BigEndian.PutUint32(h[40:], r.ReadResidual.Count)
	binary.BigEndian.PutUint32(h[44:], r.Residual.Count)
}

// A DataIn is section 11.7.
type DataIn struct {
	Final bool
	// Status goes with the data where HasStatus (the S bit) is set, in the last PDU
	// of a command that has ended well; Residual only then.
	HasStatus    bool
	Status       byte
	Residual     Residual
	ITT          uint32
	DataSN       uint32
	BufferOffset uint32
	DataLength   int
}

// Encode fills h. No acknowledgement is asked for (the A bit): that is for error
// recovery levels above 0.
func (d *DataIn) Encode(h *Header) {
	h.begin(OpDataIn, bit(d.Final, 0x80)|bit(d.Residual.Overflow, 0x04)|bit(d.Residual.Underflow, 0x02)|bit(d.HasStatus, 0x01),
		d.ITT, d.DataLength)
	h[3] = d.Status
	binary.BigEndian.PutUint32(h[20:], NoTag)
	binary.BigEndian.PutUint32(h[36:], d.DataSN)
	binary.BigEndian.PutUint32(h[40:], d.BufferOffset)
	binary.BigEndian.PutUint32(h[44:], d.Residual.Count)
}

// An R2T is section 11.8.
type R2T struct {
	LUN           uint64
	ITT, TTT      uint32
	R2TSN         uint32
	BufferOffset  uint32
	DesiredLength uint32
}

// Encode fills h.
func (r *R2T) Encode(h *Header) {
	h.begin(OpR2T, 0x80, r.ITT, 0)
	binary.BigEndian.PutUint64(h[8:], r.LUN)
	binary.BigEndian.PutUint32(h[20:], r.TTT)
	binary.BigEndian.PutUint32(h[36:], r.R2TSN)
	binary.BigEndian.PutUint32(h[40:], r.BufferOffset)
	binary.BigEndian.PutUint32(h[44:], r.DesiredLength)
}

// Responses of task management (section 11.6.1).
const (
	FunctionComplete      = 0
	TaskDoesNotExist      = 1
	LUNDoesNotExist       = 2
	TaskStillAllegiant    = 3
	ReassignNotSupported  = 4
	FunctionNotSupported  = 5
	FunctionNotAuthorized = 6
	FunctionRejected      = 255
)

// A TaskManagementResponse is section 11.6.
type TaskManagementResponse struct {
	Response byte
	ITT      uint32
}

// Encode fills h.
func (r *TaskManagementResponse) Encode(h *Header) {
	h.begin(OpTaskManagementResponse, 0x80, r.ITT, 0)
	h[2] = r.Response
}

// A NOPIn is section 11.19: an answer (ITT of the NOP-Out, TTT NoTag), or a ping
// (ITT NoTag; TTT is NoTag where no answer is wanted).
type NOPIn struct {
	LUN        uint64 // as in the NOP-Out, or 0
	ITT, TTT   uint32
	DataLength int
}

// Encode fills h.
func (n *NOPIn) Encode(h *Header) {
	h.begin(OpNOPIn, 0x80, n.ITT, n.DataLength)
	binary.BigEndian.PutUint64(h[8:], n.LUN)
	binary.BigEndian.PutUint32(h[20:], n.TTT)
}

// A TextResponse is section 11.11.
type TextResponse struct {
	Final, Continue bool
	LUN             uint64
	ITT, TTT        uint32 // TTT is NoTag with Final, else anything but that
	DataLength      int
}

// Encode fills h.
func (t *TextResponse) Encode(h *Header) {
	h.begin(OpTextResponse, bit(t.Final, 0x80)|bit(t.Continue, 0x40), t.ITT, t.DataLength)
	binary.BigEndian.PutUint64(h[8:], t.LUN)
	binary.BigEndian.PutUint32(h[20:], t.TTT)
}

// Responses of a logout (section 11.15.1).
const (
	LogoutDone                 = 0
	LogoutCIDNotFound          = 1
	LogoutRecoveryNotSupported = 2
	LogoutCleanupFailed        = 3
)

// A LogoutResponse is section 11.15. Time2Wait and Time2Retain are seconds.
type LogoutResponse struct {
	Response               byte
	ITT                    uint32
	Time2Wait, Time2Retain uint16
}

// Encode fills h.
func (l *LogoutResponse) Encode(h *Header) {
	h.begin(OpLogoutResponse, 0x80, l.ITT, 0)
	h[2] = l.Response
	binary.BigEndian.PutUint16(h[40:], l.Time2Wait)
	binary.BigEndian.PutUint16(h[42:], l.Time2Retain)
}

// Events of an asynchronous message (section 11.9.1).
const (
	AsyncSCSI            = 0
	AsyncLogoutRequest   = 1
	AsyncDropConnection  = 2
	AsyncDropSession     = 3
	AsyncNegotiate       = 4
	AsyncTasksTerminated = 5
	AsyncVendor          = 255
)

// An Async is an Asynchronous Message, section 11.9. Parameter3 of a logout request
// is the time that the initiator has for it, seconds.
type Async struct {
	Event, VendorCode byte
	LUN               uint64 // with AsyncSCSI and AsyncTasksTerminated
	Parameter         [3]uint16
	DataLength        int
}

// Encode fills h.
func (a *Async) Encode(h *Header) {
	h.begin(OpAsync, 0x80, NoTag, a.DataLength)
	binary.BigEndian.PutUint64(h[8:], a.LUN)
	h[36], h[37] = a.Event, a.VendorCode
	for i, p := range a.Parameter {
		binary.BigEndian.PutUint16(h[38+2*i:], p)
	}
}

// A Reject is section 11.17. Its data segment is the header of the PDU that is
// rejected, with its additional segments or without.
type Reject struct {
	Reason     Reason
	DataSN     uint32 // the next one, where a Data-Out of a sequence is rejected
	DataLength int
}

// Encode fills h.
func (r *Reject) Encode(h *Header) {
	h.begin(OpReject, 0x80, NoTag, r.DataLength)
	h[2] = byte(r.Reason)
	binary.BigEndian.PutUint32(h[36:], r.DataSN)
}

// A LoginResponse is section 11.13.
type LoginResponse struct {
	Transit, Continue bool
	Current, Next     Stage
	ISID              [6]byte
	TSIH              uint16
	ITT               uint32
	// StatusClass and StatusDetail are section 11.13.5.
	StatusClass, StatusDetail byte
	DataLength                int
}

// Encode fills h. The version is 0, the only one there is (section 11.12.4).
func (l *LoginResponse) Encode(h *Header) {
	h.begin(OpLoginResponse, bit(l.Transit, 0x80)|bit(l.Continue, 0x40)|byte(l.Current&3)<<2, l.ITT, l.DataLength)
	if l.Transit {
		h[1] |= byte(l.Next & 3)
	}
	copy(h[8:14], l.ISID[:])
	h.SetTSIH(l.TSIH)
	h[36], h[37] = l.StatusClass, l.StatusDetail
}

// SetTSIH names the session in the last Login Response of a new one.
func (h *Header) SetTSIH(tsih uint16) { binary.BigEndian.PutUint16(h[14:], tsih) }

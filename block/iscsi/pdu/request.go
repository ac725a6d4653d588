package pdu

import "encoding/binary"

// A SCSICommand is section 11.3.
type SCSICommand struct {
	Immediate bool
	// Final: no unsolicited Data-Out follows.
	Final, Read, Write bool
	// Attribute is the task's: 0 untagged, 1 simple, 2 ordered, 3 head of queue, 4 ACA.
	Attribute        byte
	LUN              uint64
	ITT              uint32
	CmdSN, ExpStatSN uint32
	// ExpectedLength is the Expected Data Transfer Length: of the data to the target
	// where Write is set, else of that to the initiator, bytes.
	ExpectedLength uint32
	// ReadLength is the Bidirectional Read Expected Data Transfer Length where both
	// Read and Write are set (section 11.2.2.4), else 0.
	ReadLength uint32
	// CDB has 16 bytes, or more with an extended CDB. Its space is used again.
	CDB []byte
}

// Types of additional header segments (section 11.2.2.1).
const (
	ahsExtendedCDB = 1
	ahsReadLength  = 2
)

// Decode takes a SCSI Command apart. ahs are its additional header segments.
func (c *SCSICommand) Decode(h *Header, ahs []byte) error {
	*c = SCSICommand{
		Immediate: h.Immediate(), Final: h.Final(), Read: h[1]&0x40 != 0, Write: h[1]&0x20 != 0,
		Attribute: h[1] & 7, LUN: h.LUN(), ITT: h.ITT(), CmdSN: h.CmdSN(), ExpStatSN: h.ExpStatSN(),
		ExpectedLength: binary.BigEndian.Uint32(h[20:]),
		CDB:            append(c.CDB[:0], h[32:48]...),
	}
	switch {
	case c.ITT == NoTag:
		return invalid("a SCSI command without a task tag")
	case c.Attribute > 4:
		return invalid("a SCSI command's attribute is reserved")
	case !c.Write && (!c.Final || h.DataLength() > 0):
		return protocol("a SCSI command that does not write brings data") // section 11.3.1
	case h.DataLength() > int(c.ExpectedLength):
		return protocol("a SCSI command brings more data than it expects to transfer")
	}
	return c.additional(ahs)
}

// additional are the two segments that there are, each once at most.
func (c *SCSICommand) additional(ahs []byte) error {
	var extended, bidirectional bool
	for len(ahs) > 0 {
		if len(ahs) < 4 {
			return invalid("an additional header segment is cut off")
		}
		n := int(binary.BigEndian.Uint16(ahs)) // without AHSLength and AHSType
		whole := 3 + n + Padding(3+n)
		if whole > len(ahs) {
			return invalid("an additional header segment is longer than all of them")
		}
		switch kind := ahs[2] & 0x3f; {
		case kind == ahsExtendedCDB && !extended && n > 1:
			extended = true
			c.CDB = append(c.CDB, ahs[4:3+n]...)
		case kind == ahsReadLength && !bidirectional && n == 5 && c.Read && c.Write:
			bidirectional = true
			c.ReadLength = binary.BigEndian.Uint32(ahs[4:])
		default:
			return invalid("an additional header segment that should not be there")
		}
		ahs = ahs[whole:]
	}
	if c.Read && c.Write && !bidirectional {
		return protocol("a bidirectional command does not say how much it reads") // section 11.2.2.4
	}
	return nil
}

// A DataOut is section 11.7.
type DataOut struct {
	Final        bool
	LUN          uint64
	ITT          uint32
	TTT          uint32 // NoTag: unsolicited
	ExpStatSN    uint32
	DataSN       uint32
	BufferOffset uint32
}

// Decode takes a SCSI Data-Out apart.
func (d *DataOut) Decode(h *Header) error {
	*d = DataOut{
		Final: h.Final(), LUN: h.LUN(), ITT: h.ITT(), TTT: h.TTT(), ExpStatSN: h.ExpStatSN(),
		DataSN: binary.BigEndian.Uint32(h[36:]), BufferOffset: binary.BigEndian.Uint32(h[40:]),
	}
	if h.AHSLength() > 0 {
		return protocol("a Data-Out has additional header segments")
	}
	if d.ITT == NoTag {
		return invalid("a Data-Out without a task tag")
	}
	return nil
}

// A Function is what task management is asked to do (section 11.5.1).
type Function byte

// The functions of section 11.5.1.
const (
	AbortTask        Function = 1
	AbortTaskSet     Function = 2
	ClearACA         Function = 3
	ClearTaskSet     Function = 4
	LogicalUnitReset Function = 5
	TargetWarmReset  Function = 6
	TargetColdReset  Function = 7
	TaskReassign     Function = 8
)

// A TaskManagement is section 11.5.
type TaskManagement struct {
	Immediate        bool
	Function         Function // as it came: it may be reserved
	LUN              uint64
	ITT              uint32
	ReferencedTag    uint32
	CmdSN, ExpStatSN uint32
	RefCmdSN         uint32
	ExpDataSN        uint32
}

// Decode takes a Task Management Function Request apart.
func (m *TaskManagement) Decode(h *Header) error {
	*m = TaskManagement{
		Immediate: h.Immediate(), Function: Function(h[1] & 0x7f), LUN: h.LUN(), ITT: h.ITT(), ReferencedTag: h.TTT(),
		CmdSN: h.CmdSN(), ExpStatSN: h.ExpStatSN(),
		RefCmdSN: binary.BigEndian.Uint32(h[32:]), ExpDataSN: binary.BigEndian.Uint32(h[36:]),
	}
	return plain(h, "a Task Management Function Request")
}

// plain refuses what a request with neither data nor segments nor an unfinished
// sequence may not have.
func plain(h *Header, name string) error {
	switch {
	case h.AHSLength() > 0:
		return protocol(name + " has additional header segments")
	case h.DataLength() > 0:
		return protocol(name + " brings data")
	case !h.Final():
		return protocol(name + " without its F bit")
	case h.ITT() == NoTag:
		return invalid(name + " without a task tag")
	}
	return nil
}

// A NOPOut is section 11.18.
type NOPOut struct {
	Immediate        bool
	LUN              uint64
	ITT              uint32 // NoTag: no answer is wanted
	TTT              uint32 // NoTag: it answers no NOP-In
	CmdSN, ExpStatSN uint32
}

// Decode takes a NOP-Out apart.
func (n *NOPOut) Decode(h *Header) error {
	*n = NOPOut{Immediate: h.Immediate(), LUN: h.LUN(), ITT: h.ITT(), TTT: h.TTT(), CmdSN: h.CmdSN(), ExpStatSN: h.ExpStatSN()}
	switch {
	case h.AHSLength() > 0:
		return protocol("a NOP-Out has additional header segments")
	case !h.Final():
		return protocol("a NOP-Out without its F bit")
	case n.ITT == NoTag && !n.Immediate: // section 11.18.1
		return protocol("a NOP-Out that wants no answer is not immediate")
	}
	return nil
}

// A Text is a Text Request, section 11.10.
type Text struct {
	Immediate        bool
	Final, Continue  bool // the F and C bits
	LUN              uint64
	ITT              uint32
	TTT              uint32 // NoTag: the first of an exchange
	CmdSN, ExpStatSN uint32
}

// Decode takes a Text Request apart.
func (t *Text) Decode(h *Header) error {
	*t = Text{
		Immediate: h.Immediate(), Final: h.Final(), Continue: h[1]&0x40 != 0,
		LUN: h.LUN(), ITT: h.ITT(), TTT: h.TTT(), CmdSN: h.CmdSN(), ExpStatSN: h.ExpStatSN(),
	}
	switch {
	case h.AHSLength() > 0:
		return protocol("a Text Request has additional header segments")
	case t.Final && t.Continue: // section 11.10.2
		return protocol("a Text Request that is both final and continued")
	case t.ITT == NoTag:
		return invalid("a Text Request without a task tag")
	}
	return nil
}

// A Logout is section 11.14.
type Logout struct {
	Immediate bool
	// Reason is 0 to close the session, 1 the connection, 2 to remove it for
	// recovery.
	Reason           byte
	ITT              uint32
	CID              uint16
	CmdSN, ExpStatSN uint32
}

// Reasons of a logout (section 11.14.1).
const (
	CloseSession      = 0
	CloseConnection   = 1
	RemoveForRecovery = 2
)

// Decode takes a Logout Request apart.
func (l *Logout) Decode(h *Header) error {
	*l = Logout{
		Immediate: h.Immediate(), Reason: h[1] & 0x7f, ITT: h.ITT(), CID: binary.BigEndian.Uint16(h[20:]),
		CmdSN: h.CmdSN(), ExpStatSN: h.ExpStatSN(),
	}
	if err := plain(h, "a Logout Request"); err != nil {
		return err
	}
	if l.Reason > RemoveForRecovery {
		return invalid("a Logout Request's reason is reserved")
	}
	return nil
}

// A SNACK is section 11.16.
type SNACK struct {
	Type      byte // 0 data or R2T, 1 status, 2 DataACK, 3 R-Data
	LUN       uint64
	ITT       uint32
	TTT       uint32
	ExpStatSN uint32
	BegRun    uint32
	RunLength uint32
}

// Decode takes a SNACK Request apart.
func (s *SNACK) Decode(h *Header) error {
	*s = SNACK{
		Type: h[1] & 0x0f, LUN: h.LUN(), ITT: h.ITT(), TTT: h.TTT(), ExpStatSN: h.ExpStatSN(),
		BegRun: binary.BigEndian.Uint32(h[40:]), RunLength: binary.BigEndian.Uint32(h[44:]),
	}
	switch {
	case h.AHSLength() > 0 || h.DataLength() > 0:
		return protocol("a SNACK Request has more than a header")
	case !h.Final():
		return protocol("a SNACK Request without its F bit")
	case s.Type > 3:
		return invalid("a SNACK Request's type is reserved")
	}
	return nil
}

// A Stage is one of a login (section 11.12.3).
type Stage byte

// The stages; 2 is reserved.
const (
	Security    Stage = 0
	Operational Stage = 1
	FullFeature Stage = 3
)

// A Login is a Login Request, section 11.12.
type Login struct {
	Transit, Continue      bool // the T and C bits
	Current, Next          Stage
	VersionMax, VersionMin byte
	ISID                   [6]byte
	TSIH                   uint16
	ITT                    uint32
	CID                    uint16
	CmdSN, ExpStatSN       uint32
}

// Decode takes a Login Request apart.
func (l *Login) Decode(h *Header) error {
	*l = Login{
		Transit: h[1]&0x80 != 0, Continue: h[1]&0x40 != 0, Current: Stage(h[1] >> 2 & 3), Next: Stage(h[1] & 3),
		VersionMax: h[2], VersionMin: h[3], ISID: [6]byte(h[8:14]), TSIH: binary.BigEndian.Uint16(h[14:]),
		ITT: h.ITT(), CID: binary.BigEndian.Uint16(h[20:]), CmdSN: h.CmdSN(), ExpStatSN: h.ExpStatSN(),
	}
	switch {
	case !h.Immediate():
		return protocol("a Login Request that is not immediate")
	case h.AHSLength() > 0:
		return protocol("a Login Request has additional header segments")
	case l.Transit && l.Continue: // section 11.12.2
		return protocol("a Login Request that goes on to the next stage in the middle of its text")
	case l.Current != Security && l.Current != Operational:
		return protocol("a Login Request of a stage that is none")
	case l.Transit && (l.Next <= l.Current || l.Next == 2):
		return protocol("a Login Request that goes on to a stage that is not next")
	}
	return nil
}

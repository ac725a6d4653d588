package pdu

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"reflect"
	"strings"
	"testing"
)

// header makes one out of hexadecimal digits with spaces; what is left out is zero.
func header(t testing.TB, s string) *Header {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	var h Header
	copy(h[:], b)
	return &h
}

func TestHeader(t *testing.T) {
	h := header(t, "41 80 0000 02 010203 0102030405060708 11121314 21222324 31323334 41424344 51525354")
	for _, tt := range []struct {
		name      string
		got, want any
	}{
		{"Opcode", h.Opcode(), OpSCSICommand},
		{"Immediate", h.Immediate(), true},
		{"Final", h.Final(), true},
		{"AHSLength", h.AHSLength(), 8},
		{"DataLength", h.DataLength(), 0x010203},
		{"LUN", h.LUN(), uint64(0x0102030405060708)},
		{"ITT", h.ITT(), uint32(0x11121314)},
		{"TTT", h.TTT(), uint32(0x21222324)},
		{"CmdSN", h.CmdSN(), uint32(0x31323334)},
		{"ExpStatSN", h.ExpStatSN(), uint32(0x41424344)},
		{"StatSN", h.StatSN(), uint32(0x31323334)},
		{"ExpCmdSN", h.ExpCmdSN(), uint32(0x41424344)},
		{"MaxCmdSN", h.MaxCmdSN(), uint32(0x51525354)},
		{"Length", h.Length(false, false), 48 + 8 + 0x010204},
		{"Length with digests", h.Length(true, true), 48 + 8 + 4 + 0x010204 + 4},
		{"Length without data", header(t, "40 80").Length(true, true), 52},
	} {
		if tt.got != tt.want {
			t.Errorf("%s: got %v, want %v", tt.name, tt.got, tt.want)
		}
	}
	for n, want := range []int{0, 3, 2, 1, 0, 3} {
		if got := Padding(n); got != want {
			t.Errorf("Padding(%d): got %d, want %d", n, got, want)
		}
	}
}

func TestBefore(t *testing.T) {
	for _, tt := range []struct {
		a, b uint32
		want bool
	}{{1, 2, true}, {2, 1, false}, {1, 1, false}, {0xffffffff, 0, true}, {0, 0xffffffff, false}, {0xfffffff0, 0x10, true}} {
		if got := Before(tt.a, tt.b); got != tt.want {
			t.Errorf("Before(%#x, %#x): got %v, want %v", tt.a, tt.b, got, tt.want)
		}
	}
}

// The examples of RFC 7143 appendix B.4.
func TestDigest(t *testing.T) {
	ascending, descending := make([]byte, 32), make([]byte, 32)
	for i := range ascending {
		ascending[i], descending[31-i] = byte(i), byte(i)
	}
	read := header(t, "01c00000 00000000 00000000 00000000 14000000 00000400 00000014 00000018 28000000 00000000 02000000 00000000")
	for _, tt := range []struct {
		name string
		data []byte
		want string
	}{
		{"zeros", make([]byte, 32), "aa36918a"},
		{"ones", bytes.Repeat([]byte{0xff}, 32), "43aba862"},
		{"ascending", ascending, "4e79dd46"},
		{"descending", descending, "5cdb3f11"},
		{"a SCSI Read", read[:], "563a96d9"},
	} {
		var got [4]byte
		d := Digest(0).Update(tt.data[:7]).Update(tt.data[7:]) // piece by piece
		d.Put(got[:])
		if hex.EncodeToString(got[:]) != tt.want {
			t.Errorf("%s: got %x, want %s", tt.name, got, tt.want)
		}
		if !d.Is(got[:]) || d.Is([]byte{1, 2, 3, 4}) {
			t.Errorf("%s: Is is wrong", tt.name)
		}
	}
	if got, want := Digest(0).Update([]byte{1}).Pad(1), Digest(0).Update([]byte{1, 0, 0, 0}); got != want {
		t.Errorf("padded: got %x, want %x", got, want)
	}
}

const cdb = "2a00 00000010 00 0008 00 000000000000"

func TestSCSICommand(t *testing.T) {
	for _, tt := range []struct {
		name, header, ahs string
		want              SCSICommand
		reason            Reason
	}{
		{"a read", "01 c1 0000 00000000 0001000000000000 00000007 00001000 00000003 00000004" + cdb, "", SCSICommand{
			Final: true, Read: true, Attribute: 1, LUN: 1 << 48, ITT: 7, ExpectedLength: 4096, CmdSN: 3, ExpStatSN: 4}, 0},
		{"a write with immediate data", "41 22 0000 00000200 0000000000000000 00000007 00001000 00000003 00000004" + cdb, "", SCSICommand{
			Immediate: true, Write: true, Attribute: 2, ITT: 7, ExpectedLength: 4096, CmdSN: 3, ExpStatSN: 4}, 0},
		{"no data at all", "01 80 0000 00000000 0000000000000000 00000007 00000000 00000003 00000004" + cdb, "", SCSICommand{
			Final: true, ITT: 7, CmdSN: 3, ExpStatSN: 4}, 0},
		{"a long CDB", "01 80 0000 02000000 0000000000000000 00000007 00000000 00000003 00000004" + cdb, "0005 01 00 01020304", SCSICommand{
			Final: true, ITT: 7, CmdSN: 3, ExpStatSN: 4, CDB: []byte{1, 2, 3, 4}}, 0},
		{"both ways with a long CDB of 17 bytes", "01 e0 0000 04000000 0000000000000000 00000007 00000200 00000003 00000004" + cdb,
			"0005 02 00 00000400" + "0002 01 00 09 000000", SCSICommand{
				Final: true, Read: true, Write: true, ITT: 7, ExpectedLength: 512, ReadLength: 1024, CmdSN: 3, ExpStatSN: 4, CDB: []byte{9}}, 0},
		{"both ways without a length", "01 e0 0000 00000000 0000000000000000 00000007 00000200" + strings.Repeat("00", 8) + cdb, "", SCSICommand{}, ReasonProtocolError},
		{"a length of a read alone", "01 c0 0000 02000000 0000000000000000 00000007 00000200" + strings.Repeat("00", 8) + cdb, "0005 02 00 00000400", SCSICommand{}, ReasonInvalidField},
		{"a long CDB twice", "01 80 0000 04000000 0000000000000000 00000007 00000000" + strings.Repeat("00", 8) + cdb, "0005 01 00 01020304 0005 01 00 01020304", SCSICommand{}, ReasonInvalidField},
		{"a segment longer than all", "01 80 0000 02000000 0000000000000000 00000007 00000000" + strings.Repeat("00", 8) + cdb, "0006 01 00 01020304", SCSICommand{}, ReasonInvalidField},
		{"a segment as long as can be", "01 80 0000 02000000 0000000000000000 00000007 00000000" + strings.Repeat("00", 8) + cdb, "ffff 01 00 01020304", SCSICommand{}, ReasonInvalidField},
		{"an empty segment", "01 80 0000 01000000 0000000000000000 00000007 00000000" + strings.Repeat("00", 8) + cdb, "0000 01 00", SCSICommand{}, ReasonInvalidField},
		{"a segment of another type", "01 80 0000 01000000 0000000000000000 00000007 00000000" + strings.Repeat("00", 8) + cdb, "0001 03 00", SCSICommand{}, ReasonInvalidField},
		{"a segment cut off", "01 80 0000 01000000 0000000000000000 00000007 00000000" + strings.Repeat("00", 8) + cdb, "0001", SCSICommand{}, ReasonInvalidField},
		{"no task tag", "01 80 0000 00000000 0000000000000000 ffffffff", "", SCSICommand{}, ReasonInvalidField},
		{"a reserved attribute", "01 85 0000 00000000 0000000000000000 00000007", "", SCSICommand{}, ReasonInvalidField},
		{"a read that goes on", "01 40 0000 00000000 0000000000000000 00000007", "", SCSICommand{}, ReasonProtocolError},
		{"a read with data", "01 c0 0000 00000004 0000000000000000 00000007 00000004", "", SCSICommand{}, ReasonProtocolError},
		{"more data than expected", "01 a0 0000 00000005 0000000000000000 00000007 00000004", "", SCSICommand{}, ReasonProtocolError},
	} {
		got := SCSICommand{CDB: make([]byte, 0, 64)}
		ahs, err := hex.DecodeString(strings.ReplaceAll(tt.ahs, " ", ""))
		if err != nil {
			t.Fatal(err)
		}
		err = got.Decode(header(t, tt.header), ahs)
		if !rejects(err, tt.reason) {
			t.Errorf("%s: got error %v, want reason %#x", tt.name, err, tt.reason)
		}
		if err != nil {
			continue
		}
		plain, err := hex.DecodeString(strings.ReplaceAll(cdb, " ", ""))
		if err != nil {
			t.Fatal(err)
		}
		tt.want.CDB = append(plain, tt.want.CDB...)
		if !reflect.DeepEqual(got, tt.want) {
			t.Errorf("%s:\n got %+v\nwant %+v", tt.name, got, tt.want)
		}
	}
}

// rejects reports whether err is what a PDU is rejected with for reason; 0 is none.
func rejects(err error, reason Reason) bool {
	e, ok := errors.AsType[*Error](err)
	return ok && e.Reason == reason && e.Error() != "" || err == nil && reason == 0
}

func TestSCSICommandAllocatesNothing(t *testing.T) {
	h := header(t, "01 c1 0000 00000000 0001000000000000 00000007 00001000 00000003 00000004"+cdb)
	c := SCSICommand{CDB: make([]byte, 0, 16)}
	var out Header
	if got := testing.AllocsPerRun(100, func() {
		if err := c.Decode(h, nil); err != nil {
			t.Fatal(err)
		}
		(&DataIn{Final: true, HasStatus: true, ITT: c.ITT, DataLength: 4096}).Encode(&out)
		out.SetStatSN(1)
		out.SetWindow(2, 3)
	}); got != 0 {
		t.Errorf("got %v allocations, want none", got)
	}
}

// The requests but SCSI Command and Login: what is decoded, and what is refused.
func TestRequests(t *testing.T) {
	for _, tt := range []struct {
		name, header string
		decode       func(*Header) (any, error)
		want         any
		reason       Reason
	}{
		{"Data-Out", "05 80 0000 00000200 0001000000000000 00000007 00000008 00000000 00000009 00000000 0000000a 00000400 00000000", dataOut,
			DataOut{Final: true, LUN: 1 << 48, ITT: 7, TTT: 8, ExpStatSN: 9, DataSN: 10, BufferOffset: 1024}, 0},
		{"Data-Out without a tag", "05 80 0000 00000200 0001000000000000 ffffffff", dataOut, nil, ReasonInvalidField},
		{"Data-Out with segments", "05 80 0000 01000200 0001000000000000 00000007", dataOut, nil, ReasonProtocolError},
		{"task management", "42 81 0000 00000000 0001000000000000 00000007 00000008 00000009 0000000a 0000000b 0000000c", taskManagement,
			TaskManagement{Immediate: true, Function: AbortTask, LUN: 1 << 48, ITT: 7, ReferencedTag: 8, CmdSN: 9, ExpStatSN: 10, RefCmdSN: 11, ExpDataSN: 12}, 0},
		{"task management of a function that is none", "42 ff 0000 00000000 0001000000000000 00000007", taskManagement,
			TaskManagement{Immediate: true, Function: 127, LUN: 1 << 48, ITT: 7}, 0},
		{"task management with data", "42 81 0000 00000001", taskManagement, nil, ReasonProtocolError},
		{"task management with segments", "42 81 0000 01000000", taskManagement, nil, ReasonProtocolError},
		{"task management without F", "42 01 0000 00000000", taskManagement, nil, ReasonProtocolError},
		{"task management without a tag", "42 81 0000 00000000 0001000000000000 ffffffff", taskManagement, nil, ReasonInvalidField},
		{"NOP-Out", "00 80 0000 00000004 0001000000000000 00000007 ffffffff 00000009 0000000a", nopOut,
			NOPOut{LUN: 1 << 48, ITT: 7, TTT: NoTag, CmdSN: 9, ExpStatSN: 10}, 0},
		{"NOP-Out that answers", "40 80 0000 00000000 0001000000000000 ffffffff 00000001 00000009 0000000a", nopOut,
			NOPOut{Immediate: true, LUN: 1 << 48, ITT: NoTag, TTT: 1, CmdSN: 9, ExpStatSN: 10}, 0},
		{"NOP-Out that answers out of order", "00 80 0000 00000000 0001000000000000 ffffffff 00000001", nopOut, nil, ReasonProtocolError},
		{"NOP-Out with segments", "40 80 0000 01000000", nopOut, nil, ReasonProtocolError},
		{"NOP-Out without F", "40 00 0000 00000000", nopOut, nil, ReasonProtocolError},
		{"Text", "04 80 0000 00000010 0000000000000000 00000007 ffffffff 00000009 0000000a", text,
			Text{Final: true, ITT: 7, TTT: NoTag, CmdSN: 9, ExpStatSN: 10}, 0},
		{"Text that goes on", "44 40 0000 00000010 0000000000000000 00000007 00000001 00000009 0000000a", text,
			Text{Immediate: true, Continue: true, ITT: 7, TTT: 1, CmdSN: 9, ExpStatSN: 10}, 0},
		{"Text that goes on and ends", "44 c0", text, nil, ReasonProtocolError},
		{"Text without a tag", "44 80 0000 00000000 0000000000000000 ffffffff", text, nil, ReasonInvalidField},
		{"Text with segments", "44 80 0000 01000000", text, nil, ReasonProtocolError},
		{"Logout", "46 81 0000 00000000 0000000000000000 00000007 00010000 00000009 0000000a", logout,
			Logout{Immediate: true, Reason: CloseConnection, ITT: 7, CID: 1, CmdSN: 9, ExpStatSN: 10}, 0},
		{"Logout for another reason", "46 83", logout, nil, ReasonInvalidField},
		{"Logout with data", "46 80 0000 00000001", logout, nil, ReasonProtocolError},
		{"SNACK", "10 81 0000 00000000 0001000000000000 00000007 00000008 00000000 00000009 00000000 00000000 0000000a 0000000b", snack,
			SNACK{Type: 1, LUN: 1 << 48, ITT: 7, TTT: 8, ExpStatSN: 9, BegRun: 10, RunLength: 11}, 0},
		{"SNACK of another type", "10 84", snack, nil, ReasonInvalidField},
		{"SNACK with data", "10 81 0000 00000001", snack, nil, ReasonProtocolError},
		{"SNACK without F", "10 01", snack, nil, ReasonProtocolError},
		{"Login", "43 87 0001 00000010 010203040506 0007 00000008 00090000 0000000a 0000000b", login,
			Login{Transit: true, Current: Operational, Next: FullFeature, VersionMin: 1, ISID: [6]byte{1, 2, 3, 4, 5, 6}, TSIH: 7, ITT: 8, CID: 9, CmdSN: 10, ExpStatSN: 11}, 0},
		{"Login that goes on", "43 40", login, Login{Continue: true}, 0},
		{"Login that is not immediate", "03 87", login, nil, ReasonProtocolError},
		{"Login with segments", "43 87 0000 01000000", login, nil, ReasonProtocolError},
		{"Login that goes on in two ways", "43 c7", login, nil, ReasonProtocolError},
		{"Login of stage 2", "43 08", login, nil, ReasonProtocolError},
		{"Login of stage 3", "43 0c", login, nil, ReasonProtocolError},
		{"Login to the same stage", "43 85", login, nil, ReasonProtocolError},
		{"Login to stage 2", "43 86", login, nil, ReasonProtocolError},
		{"Login back", "43 84", login, nil, ReasonProtocolError},
	} {
		got, err := tt.decode(header(t, tt.header))
		if !rejects(err, tt.reason) {
			t.Errorf("%s: got error %v, want reason %#x", tt.name, err, tt.reason)
		}
		if err == nil && got != tt.want {
			t.Errorf("%s:\n got %+v\nwant %+v", tt.name, got, tt.want)
		}
	}
}

func dataOut(h *Header) (any, error)        { var p DataOut; err := p.Decode(h); return p, err }
func taskManagement(h *Header) (any, error) { var p TaskManagement; err := p.Decode(h); return p, err }
func nopOut(h *Header) (any, error)         { var p NOPOut; err := p.Decode(h); return p, err }
func text(h *Header) (any, error)           { var p Text; err := p.Decode(h); return p, err }
func logout(h *Header) (any, error)         { var p Logout; err := p.Decode(h); return p, err }
func snack(h *Header) (any, error)          { var p SNACK; err := p.Decode(h); return p, err }
func login(h *Header) (any, error)          { var p Login; err := p.Decode(h); return p, err }

// What a target sends, byte for byte, with StatSN 0x51, ExpCmdSN 0x61 and MaxCmdSN
// 0x71; the slot was used before.
func TestResponses(t *testing.T) {
	const numbers = "00000051 00000061 00000071"
	for _, tt := range []struct {
		name string
		pdu  interface{ Encode(*Header) }
		want string
	}{
		{"SCSI Response", &SCSIResponse{Status: 2, ITT: 7, ExpDataSN: 3, DataLength: 20, Residual: Residual{Underflow: true, Count: 9}, ReadResidual: Residual{Overflow: true, Count: 5}},
			"21 92 00 02 00 000014 0000000000000000 00000007 00000000" + numbers + "00000003 00000005 00000009"},
		{"SCSI Response of a failure", &SCSIResponse{Response: 1, ITT: 7, Residual: Residual{Overflow: true, Count: 9}, ReadResidual: Residual{Underflow: true, Count: 5}},
			"21 8c 01 00 00 000000 0000000000000000 00000007 00000000" + numbers + "00000000 00000005 00000009"},
		{"Data-In", &DataIn{ITT: 7, DataSN: 3, BufferOffset: 1024, DataLength: 512},
			"25 00 00 00 00 000200 0000000000000000 00000007 ffffffff" + numbers + "00000003 00000400 00000000"},
		{"Data-In with status", &DataIn{Final: true, HasStatus: true, Residual: Residual{Underflow: true, Count: 9}, ITT: 7, DataLength: 1},
			"25 83 00 00 00 000001 0000000000000000 00000007 ffffffff" + numbers + "00000000 00000000 00000009"},
		{"Data-In with status and overflow", &DataIn{Final: true, HasStatus: true, Status: 4, Residual: Residual{Overflow: true, Count: 9}, ITT: 7, DataLength: 1},
			"25 85 00 04 00 000001 0000000000000000 00000007 ffffffff" + numbers + "00000000 00000000 00000009"},
		{"R2T", &R2T{LUN: 1 << 48, ITT: 7, TTT: 8, R2TSN: 3, BufferOffset: 1024, DesiredLength: 512},
			"31 80 00 00 00 000000 0001000000000000 00000007 00000008" + numbers + "00000003 00000400 00000200"},
		{"task management", &TaskManagementResponse{Response: FunctionNotSupported, ITT: 7},
			"22 80 05 00 00 000000 0000000000000000 00000007 00000000" + numbers + "00000000 00000000 00000000"},
		{"NOP-In", &NOPIn{LUN: 1 << 48, ITT: 7, TTT: NoTag, DataLength: 4},
			"20 80 00 00 00 000004 0001000000000000 00000007 ffffffff" + numbers + "00000000 00000000 00000000"},
		{"Text", &TextResponse{Final: true, ITT: 7, TTT: NoTag, DataLength: 4},
			"24 80 00 00 00 000004 0000000000000000 00000007 ffffffff" + numbers + "00000000 00000000 00000000"},
		{"Text that goes on", &TextResponse{Continue: true, LUN: 1 << 48, ITT: 7, TTT: 8, DataLength: 4},
			"24 40 00 00 00 000004 0001000000000000 00000007 00000008" + numbers + "00000000 00000000 00000000"},
		{"Logout", &LogoutResponse{Response: LogoutCIDNotFound, ITT: 7, Time2Wait: 2, Time2Retain: 3},
			"26 80 01 00 00 000000 0000000000000000 00000007 00000000" + numbers + "00000000 00020003 00000000"},
		{"Async", &Async{Event: AsyncLogoutRequest, Parameter: [3]uint16{0, 0, 10}},
			"32 80 00 00 00 000000 0000000000000000 ffffffff 00000000" + numbers + "01 00 0000 0000 000a 00000000"},
		{"Reject", &Reject{Reason: ReasonDataDigest, DataSN: 3, DataLength: 48},
			"3f 80 02 00 00 000030 0000000000000000 ffffffff 00000000" + numbers + "00000003 00000000 00000000"},
		{"Login", &LoginResponse{Transit: true, Current: Operational, Next: FullFeature, ISID: [6]byte{1, 2, 3, 4, 5, 6}, TSIH: 7, ITT: 8, DataLength: 4},
			"23 87 00 00 00 000004 010203040506 0007 00000008 00000000" + numbers + "00000000 00000000 00000000"},
		{"Login refused", &LoginResponse{Continue: true, Current: Operational, Next: FullFeature, ITT: 8, StatusClass: 2, StatusDetail: 1},
			"23 44 00 00 00 000000 000000000000 0000 00000008 00000000" + numbers + "02010000 00000000 00000000"},
	} {
		h := Header(bytes.Repeat([]byte{0xa5}, HeaderLength))
		tt.pdu.Encode(&h)
		h.SetStatSN(0x51)
		h.SetWindow(0x61, 0x71)
		if want := header(t, tt.want); h != *want {
			t.Errorf("%s:\n got %x\nwant %x", tt.name, h, *want)
		}
	}
}

// Any header with any segments: whatever is taken can be made again.
func FuzzDecode(f *testing.F) {
	for _, seed := range []string{
		"01c1000000000000" + "0001000000000000" + "0000000700001000" + "0000000300000004" + "2a00000000100000" + "0800000000000000",
		"01e0000004000000" + "0000000000000000" + "0000000700000200" + "0000000300000004" + "2a00000000100000" + "0800000000000000" + "0005020000000400" + "0002010009000000",
	} {
		b, err := hex.DecodeString(seed)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	for op := range byte(0x40) {
		f.Add(append([]byte{op, 0x80}, make([]byte, 46)...))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) < HeaderLength {
			return
		}
		h := (*Header)(b)
		ahs := b[HeaderLength:]
		if h.Length(true, true) < HeaderLength+DigestLength || h.DataLength() > MaxDataSegmentLength || h.AHSLength() > MaxAHSLength {
			t.Fatalf("impossible lengths: %x", h)
		}
		for _, decode := range []func(*Header) (any, error){dataOut, taskManagement, nopOut, text, logout, snack, login} {
			if _, err := decode(h); err != nil && errorless(err) {
				t.Fatalf("%x: %v is no Error with a reason", h, err)
			}
		}
		var c SCSICommand
		err := c.Decode(h, ahs)
		if err != nil {
			if errorless(err) {
				t.Fatalf("%x: %v is no Error with a reason", h, err)
			}
			return
		}
		if len(c.CDB) < 16 || len(c.CDB) > 16+len(ahs) {
			t.Fatalf("%x: a CDB of %d bytes", b, len(c.CDB))
		}
		again, segments := encodeCommand(&c, h.DataLength())
		var d SCSICommand
		if err := d.Decode(&again, segments); err != nil || !reflect.DeepEqual(c, d) {
			t.Fatalf("round trip: got %+v, %v; want %+v", d, err, c)
		}
	})
}

func errorless(err error) bool {
	e, ok := errors.AsType[*Error](err)
	return !ok || e.Reason == 0 || e.What == ""
}

// encodeCommand is the initiator's side of SCSICommand.Decode.
func encodeCommand(c *SCSICommand, data int) (h Header, ahs []byte) {
	h.begin(OpSCSICommand|Opcode(bit(c.Immediate, 0x40)), bit(c.Final, 0x80)|bit(c.Read, 0x40)|bit(c.Write, 0x20)|c.Attribute, c.ITT, data)
	binary.BigEndian.PutUint64(h[8:], c.LUN)
	binary.BigEndian.PutUint32(h[20:], c.ExpectedLength)
	binary.BigEndian.PutUint32(h[24:], c.CmdSN)
	binary.BigEndian.PutUint32(h[28:], c.ExpStatSN)
	copy(h[32:], c.CDB)
	segment := func(kind byte, p []byte) {
		ahs = binary.BigEndian.AppendUint16(ahs, uint16(1+len(p)))
		ahs = append(append(ahs, kind, 0), p...)
		ahs = append(ahs, make([]byte, Padding(len(ahs)))...)
	}
	if long := c.CDB[16:]; len(long) > 0 {
		segment(ahsExtendedCDB, long)
	}
	if c.Read && c.Write {
		segment(ahsReadLength, binary.BigEndian.AppendUint32(nil, c.ReadLength))
	}
	return h, ahs
}

package scsi

import (
	"encoding/binary"
	"encoding/hex"
	"math"
	"math/bits"
)

// Peripheral device types (SPC-4 table 144).
const (
	typeDisk = 0x00
	typeCD   = 0x05
	// noUnit: nothing there, and nothing can be (peripheral qualifier 3).
	noUnit = 0x7f
)

// Version descriptors of INQUIRY (SPC-4 section 6.6.2): without a claim to a
// revision.
const (
	versionSAM5  = 0x00a0
	versionSPC4  = 0x0460
	versionSBC3  = 0x04c0
	versionMMC6  = 0x04e0
	versionISCSI = 0x0960
)

// Pages of vital product data.
const (
	pageSupported    = 0x00
	pageSerial       = 0x80
	pageIdentity     = 0x83
	pageExtended     = 0x86
	pagePolicy       = 0x87
	pageThirdParty   = 0x8f
	pageLimits       = 0xb0
	pageCharacter    = 0xb1
	pageProvisioning = 0xb2
)

// maxCompare is the most blocks of COMPARE AND WRITE, all that its CDB has room for.
const maxCompare = 255

// maxUnmaps is the most block descriptors of UNMAP.
const maxUnmaps = 256

func (u *Unit) deviceType() byte {
	if u.o.CD {
		return typeCD
	}
	return typeDisk
}

func decodeInquiry(_ *Unit, c *Command) *condition {
	switch evpd, page := c.CDB[1]&0x01, c.CDB[2]; {
	case c.CDB[1]&0x02 != 0: // CMDDT, obsolete
		return badField(1, 1)
	case evpd == 0 && page != 0:
		return badField(2, 7)
	}
	c.allow(allocation16(c.CDB[3:]))
	return nil
}

// inquiry is INQUIRY (SPC-4 section 6.6).
func inquiry(u *Unit, c *Command) *condition {
	if u == nil {
		if c.CDB[1]&0x01 != 0 {
			return badField(1, 0)
		}
		data := make([]byte, 36)
		data[0], data[2], data[3], data[4] = noUnit, 0x06, 0x02, 31
		copy(data[8:], "                            ")
		c.reply(data)
		return nil
	}
	if c.CDB[1]&0x01 == 0 {
		c.reply(u.standard())
		return nil
	}
	data := u.vital(c.CDB[2], c.nexus.target)
	if data == nil {
		return badField(2, 7)
	}
	c.reply(data)
	return nil
}

// standard is the standard INQUIRY data.
func (u *Unit) standard() []byte {
	data := make([]byte, 96)
	data[0] = u.deviceType()
	if u.o.Removable {
		data[1] = 0x80
	}
	data[2] = 0x06 // SPC-4
	data[3] = 0x12 // HISUP, response data format 2
	data[4] = byte(len(data) - 5)
	data[5] = 0x10 // TPGS: implicit asymmetric access
	if !u.o.CD {
		data[5] |= 0x08 // 3PC
	}
	data[7] = 0x02 // CMDQUE
	padded(data[8:16], u.o.Vendor)
	padded(data[16:32], u.o.Product)
	padded(data[32:36], u.o.Revision)
	device := uint16(versionSBC3)
	if u.o.CD {
		device = versionMMC6
	}
	for i, v := range []uint16{versionSAM5, versionISCSI, versionSPC4, device} {
		binary.BigEndian.PutUint16(data[58+2*i:], v)
	}
	return data
}

// padded fills dst with s and blanks.
func padded(dst []byte, s string) {
	for i := copy(dst, s); i < len(dst); i++ {
		dst[i] = ' '
	}
}

func (u *Unit) serial() string {
	id := u.disk.Identity().UUID
	return hex.EncodeToString(id[:])
}

// vital is a page of vital product data; nil: there is no such page.
func (u *Unit) vital(page byte, t *Target) []byte {
	pages := []byte{pageSupported, pageSerial, pageIdentity, pageExtended, pagePolicy}
	if !u.o.CD {
		pages = append(pages, pageThirdParty, pageLimits, pageCharacter, pageProvisioning)
	}
	data := []byte{u.deviceType(), page, 0, 0}
	switch {
	case page == pageSupported:
		data = append(data, pages...)
	case page == pageSerial:
		data = append(data, u.serial()...)
	case page == pageIdentity:
		data = u.appendIdentity(data, t)
	case page == pageExtended:
		data = append(data, make([]byte, 60)...)
		data[5] = 0x07 // HEADSUP, ORDSUP, SIMPSUP
		data[6] = 0x01 // V_SUP: there is a volatile cache
	case page == pagePolicy:
		data = append(data, 0x3f, 0xff, 0x00, 0x00) // all mode pages: shared
	case u.o.CD:
		return nil
	case page == pageThirdParty:
		data = appendThirdParty(data)
	case page == pageLimits:
		data = u.appendLimits(data)
	case page == pageCharacter:
		data = append(data, make([]byte, 60)...)
		data[5] = 1    // non-rotating
		data[7] = 0x40 // WABEREQ: what was erased reads as zeros
	case page == pageProvisioning:
		data = append(data, 0, 0, 0, 0)
		if u.thin() {
			data[5] = 0x80 | 0x40 | 0x20 | 0x04 // LBPU, LBPWS, LBPWS10, LBPRZ
			data[6] = 0x02                      // thin provisioned
		}
	default:
		return nil
	}
	binary.BigEndian.PutUint16(data[2:], uint16(len(data)-4))
	return data
}

// Designators of the device identification page (SPC-4 section 7.8.6.2).
const (
	codesBinary = 0x01
	codesASCII  = 0x02
	codesUTF8   = 0x03

	ofUnit   = 0x00
	ofPort   = 0x80 | 0x10 // with PIV: an iSCSI one
	ofTarget = 0x80 | 0x20

	designatorVendor = 0x01
	designatorNAA    = 0x03
	designatorPort   = 0x04
	designatorGroup  = 0x05
	designatorName   = 0x08
)

// NAA is the name of the unit that is the disk of that UUID, by which hosts know it
// (the page of device identification; Linux: wwn-0x…): locally assigned (NAA 3,
// SPC-4 section 7.8.6.6.4), since the other kinds need an organization's number, of
// 60 bits of the UUID.
func NAA(id [16]byte) [8]byte {
	name := [8]byte(id[8:])
	// The UUID's variant bits, always the same, give way to bits of its first half.
	name[0] = 0x30 | (name[0]^id[0])&0x0f
	return name
}

func (u *Unit) naa() [8]byte { return NAA(u.disk.Identity().UUID) }

// vendorID is the unit's name by the T10 vendor: the product and the serial number.
func (u *Unit) vendorID() []byte {
	b := make([]byte, 24, 24+32)
	padded(b[:8], u.o.Vendor)
	padded(b[8:], u.o.Product)
	return append(b, u.serial()...)
}

func (u *Unit) appendIdentity(data []byte, t *Target) []byte {
	add := func(codes, kind byte, id []byte) {
		const iscsi = 0x50
		if kind&0x80 != 0 {
			codes |= iscsi
		}
		data = append(data, codes, kind, 0, byte(len(id)))
		data = append(data, id...)
	}
	naa := u.naa()
	add(codesBinary, ofUnit|designatorNAA, naa[:])
	add(codesASCII, ofUnit|designatorVendor, u.vendorID())
	group := []byte{0, 0, byte(t.group >> 8), byte(t.group)}
	add(codesBinary, ofPort|designatorPort, group)
	add(codesBinary, ofPort|designatorGroup, group)
	const digits = "0123456789abcdef"
	port := t.name + ",t,0x" + string([]byte{digits[t.group>>12], digits[t.group>>8&15], digits[t.group>>4&15], digits[t.group&15]})
	add(codesUTF8, ofPort|designatorName, terminated(port))
	add(codesUTF8, ofTarget|designatorName, terminated(t.name))
	return data
}

// terminated is a name with zeros to a multiple of four bytes.
func terminated(name string) []byte {
	b := append([]byte(name), 0)
	for len(b)%4 != 0 {
		b = append(b, 0)
	}
	return b
}

// appendLimits is the block limits page (SBC-3 section 6.5.3).
func (u *Unit) appendLimits(data []byte) []byte {
	b := make([]byte, 64)
	copy(b, data)
	b[4] = 0x01 // WSNZ
	b[5] = maxCompare
	physical := max(int64(u.disk.Identity().PhysicalSize)/u.block, 1)
	binary.BigEndian.PutUint16(b[6:], uint16(physical))
	binary.BigEndian.PutUint32(b[8:], uint32(maxTransfer/u.block))
	binary.BigEndian.PutUint32(b[12:], uint32((1<<20)/u.block))
	binary.BigEndian.PutUint32(b[20:], math.MaxUint32) // as much of UNMAP as fits the descriptors
	binary.BigEndian.PutUint32(b[24:], maxUnmaps)
	binary.BigEndian.PutUint32(b[28:], uint32(physical))
	binary.BigEndian.PutUint32(b[32:], 1<<31) // UGAVALID, alignment 0
	binary.BigEndian.PutUint64(b[36:], maxSame)
	return b
}

func decodeCapacity10(_ *Unit, c *Command) *condition {
	c.In = 8
	return nil
}

// capacity10 is READ CAPACITY(10).
func capacity10(u *Unit, c *Command) *condition {
	data := make([]byte, 8)
	last := u.disk.Size()/u.block - 1
	binary.BigEndian.PutUint32(data, uint32(min(last, math.MaxUint32)))
	binary.BigEndian.PutUint32(data[4:], uint32(u.block))
	c.reply(data)
	return nil
}

func decodeCapacity16(_ *Unit, c *Command) *condition {
	c.allow(allocation32(c.CDB[10:]))
	return nil
}

// capacity16 is READ CAPACITY(16) (SBC-3 section 5.16).
func capacity16(u *Unit, c *Command) *condition {
	data := make([]byte, 32)
	binary.BigEndian.PutUint64(data, uint64(u.disk.Size()/u.block-1))
	binary.BigEndian.PutUint32(data[8:], uint32(u.block))
	physical := max(int64(u.disk.Identity().PhysicalSize)/u.block, 1)
	data[13] = byte(bits.TrailingZeros64(uint64(physical)))
	if u.thin() {
		data[14] = 0x80 | 0x40 // LBPME, LBPRZ
	}
	c.reply(data)
	return nil
}

// thin says whether to offer logical block provisioning: hosts that clear a file
// system by UNMAP should know where that only writes zeros.
func (u *Unit) thin() bool { return u.disk.CanDiscard() }

// ready is TEST UNIT READY; Begin has found what speaks against it.
func ready(*Unit, *Command) *condition { return nil }

func decodeRequestSense(_ *Unit, c *Command) *condition {
	c.allow(int(c.CDB[4]))
	return nil
}

// requestSense is REQUEST SENSE: the unit attention that waits, if any, as data.
func requestSense(u *Unit, c *Command) *condition {
	d := &condition{key: noSense, code: codeNone}
	if u == nil {
		d = illegal(codeNoSuchUnit)
	} else {
		u.tasks.mu.Lock()
		code, ok := c.link.attentions.take()
		ejected := u.ejected
		u.tasks.mu.Unlock()
		switch {
		case ok:
			d = &condition{key: unitAttention, code: code}
		case ejected:
			d = &condition{key: notReady, code: codeNoMedium}
		}
	}
	c.reply(d.append(nil, c.CDB[1]&0x01 != 0))
	return nil
}

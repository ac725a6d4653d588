package scsi

import "encoding/binary"

// discBlock is a block of a CD-ROM, in bytes.
const discBlock = 2048

// Profiles of GET CONFIGURATION (MMC-6 section 5.3.1).
const (
	profileCD  = 0x0008
	profileDVD = 0x0010
)

// leadOut is the number of the track after the last one.
const leadOut = 0xaa

// capabilities is the mode page of that name, which is legacy but what hosts ask for
// first.
func (u *Unit) capabilities(fixed bool) []byte {
	p := make([]byte, 22)
	if fixed {
		p[2] = 0x3b // reads CD-R, CD-RW, method 2, DVD-ROM, DVD-R
		p[4] = 0x70 // mode 2 form 1 and 2, multisession
		p[6] = 0x29 // a tray, that can be locked and ejects
	}
	return p
}

func decodeDisc(_ *Unit, c *Command) *condition {
	c.allow(allocation16(c.CDB[7:]))
	return nil
}

// readTOC is READ TOC/PMA/ATIP: one track with data (MMC-6 section 6.26).
func readTOC(u *Unit, c *Command) *condition {
	const data = 0x14 // ADR 1, CONTROL: data track
	msf, format, track := c.CDB[1]&0x02 != 0, c.CDB[2]&0x0f, c.CDB[6]
	if format == 0 {
		format = c.CDB[9] >> 6 // where SFF-8020 had it
	}
	b := []byte{0, 0, 1, 1}
	add := func(number byte, lba uint32) {
		b = append(b, 0, data, number, 0)
		if msf {
			frames := lba + 150 // two seconds of lead-in
			b = append(b, 0, byte(min(frames/75/60, 255)), byte(frames/75%60), byte(frames%75))
			return
		}
		b = binary.BigEndian.AppendUint32(b, lba)
	}
	switch {
	case format == 0 && track > 1 && track != leadOut:
		return badField(6, 7)
	case format == 0:
		if track <= 1 {
			add(1, 0)
		}
		add(leadOut, uint32(u.disk.Size()/discBlock))
	case format == 1: // sessions
		add(1, 0)
	default:
		return badField(2, 3)
	}
	binary.BigEndian.PutUint16(b, uint16(len(b)-2))
	c.reply(b)
	return nil
}

// configuration is GET CONFIGURATION (MMC-6 section 6.6).
func configuration(u *Unit, c *Command) *condition {
	const (
		all       = 0
		currently = 1
		one       = 2
	)
	option, first := c.CDB[1]&0x03, binary.BigEndian.Uint16(c.CDB[2:])
	if option > one {
		return badField(1, 1)
	}
	u.tasks.mu.Lock()
	present := !u.ejected
	u.tasks.mu.Unlock()
	profile, other := uint16(profileCD), uint16(profileDVD)
	const largestCD = 900 << 20
	if u.disk.Size() > largestCD {
		profile, other = other, profile
	}
	b := make([]byte, 8)
	if present {
		binary.BigEndian.PutUint16(b[6:], profile)
	}
	add := func(feature uint16, version byte, is bool, data ...byte) {
		if feature < first || option == one && feature != first || option == currently && !is {
			return
		}
		flags := version<<2 | 0x02 // persistent
		if is {
			flags |= 0x01
		}
		b = append(b, byte(feature>>8), byte(feature), flags, byte(len(data)))
		b = append(b, data...)
	}
	mark := func(p uint16) byte {
		if present && p == profile {
			return 1
		}
		return 0
	}
	add(0x0000, 0, true, // profile list
		0, profileDVD, mark(profileDVD), 0, 0, profileCD, mark(profileCD), 0)
	add(0x0001, 2, true, 0, 0, 0, 1, 0, 0, 0, 0)               // core: SCSI
	add(0x0003, 0, true, 0x29, 0, 0, 0)                        // removable medium: a tray, eject, lock
	add(0x0010, 0, present, 0, 0, discBlock>>8, 0, 0, 1, 0, 0) // random readable, one block
	add(0x001e, 2, present && profile == profileCD, 0, 0, 0, 0)
	add(0x001f, 1, present && profile == profileDVD, 0, 0, 0, 0)
	binary.BigEndian.PutUint32(b, uint32(len(b)-4))
	c.reply(b)
	return nil
}

// eventStatus is GET EVENT STATUS NOTIFICATION, polled (MMC-6 section 6.7). What
// happens to the disc is told by unit attentions; this says whether there is one.
func eventStatus(u *Unit, c *Command) *condition {
	const media = 4
	if c.CDB[1]&0x01 == 0 { // POLLED
		return badField(1, 0)
	}
	if c.CDB[4]&(1<<media) == 0 {
		c.reply([]byte{0, 2, 0x80, 1 << media}) // NEA: none of those
		return nil
	}
	u.tasks.mu.Lock()
	ejected := u.ejected
	u.tasks.mu.Unlock()
	state := byte(0x02) // a disc is there
	if ejected {
		state = 0x01 // the tray is open
	}
	c.reply([]byte{0, 6, media, 1 << media, 0, state, 0, 0})
	return nil
}

// discInformation is READ DISC INFORMATION: a finished disc of one session (MMC-6
// section 6.22).
func discInformation(_ *Unit, c *Command) *condition {
	if c.CDB[1]&0x07 != 0 {
		return badField(1, 2)
	}
	b := make([]byte, 34)
	b[1] = byte(len(b) - 2)
	b[2] = 0x0e // last session complete, finalized
	b[3], b[4], b[5], b[6] = 1, 1, 1, 1
	for i := 16; i < 24; i++ {
		b[i] = 0xff // nothing can be added
	}
	c.reply(b)
	return nil
}

package scsi

import (
	"encoding/binary"
)

func decodeMaintenance(_ *Unit, c *Command) *condition {
	c.allow(allocation32(c.CDB[6:]))
	return nil
}

// reportOperations is REPORT SUPPORTED OPERATION CODES (SPC-4 section 6.35).
func reportOperations(u *Unit, c *Command) *condition {
	const (
		all     = 0
		one     = 1 // a code without service actions
		action  = 2
		either  = 3
		present = 0x03 // as the standard has it
		absent  = 0x01
	)
	timeouts := c.CDB[2]&0x80 != 0 // RCTD
	code, sa := c.CDB[3], allocation16(c.CDB[4:])
	found := u.table[code]
	actions := len(found) > 0 && found[0].action >= 0
	option := c.CDB[2] & 0x07
	switch {
	case option == all:
		c.reply(u.table.describe(timeouts))
		return nil
	case option > either:
		return badField(2, 2)
	case option == one && actions, option == action && len(found) > 0 && !actions:
		return badField(4, 7)
	}
	b := []byte{0, absent, 0, 0}
	for _, o := range found {
		if o.action == sa || !actions && (option == one || sa == 0) {
			b[1] = present
			if timeouts {
				b[1] |= 0x80 // CTDP
			}
			binary.BigEndian.PutUint16(b[2:], uint16(len(o.usage)))
			b = append(b, o.usage...)
			if timeouts {
				b = appendTimeouts(b)
			}
			break
		}
	}
	c.reply(b)
	return nil
}

// describe is the list of all commands.
func (t *table) describe(timeouts bool) []byte {
	b := make([]byte, 4)
	for _, list := range t {
		for _, o := range list {
			var flags byte
			sa := uint16(0)
			if o.action >= 0 {
				flags, sa = 0x01, uint16(o.action) // SERVACTV
			}
			if timeouts {
				flags |= 0x02
			}
			b = append(b, o.code, 0, byte(sa>>8), byte(sa), 0, flags, 0, byte(len(o.usage)))
			if timeouts {
				b = appendTimeouts(b)
			}
		}
	}
	binary.BigEndian.PutUint32(b, uint32(len(b)-4))
	return b
}

// appendTimeouts appends a timeouts descriptor that recommends nothing.
func appendTimeouts(b []byte) []byte {
	return append(b, 0, 10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)
}

// reportGroups is REPORT TARGET PORT GROUPS (SPC-4 section 6.37): the one group that
// the initiator came by, which is active.
func reportGroups(_ *Unit, c *Command) *condition {
	b := make([]byte, 4)
	switch c.CDB[1] >> 5 {
	case 0:
	case 1: // with the extended header
		b = append(b, 0x10, 0, 0, 0)
	default:
		return badField(1, 7)
	}
	group := c.nexus.target.group
	b = append(b, 0x00, 0x01, byte(group>>8), byte(group), 0, 0, 0, 1) // active/optimized, the only state that there is
	b = append(b, 0, 0, byte(group>>8), byte(group))
	binary.BigEndian.PutUint32(b, uint32(len(b)-4))
	c.reply(b)
	return nil
}

// reportIdentifying is REPORT IDENTIFYING INFORMATION (SPC-4 section 6.32). None can
// be set.
func reportIdentifying(_ *Unit, c *Command) *condition {
	switch c.CDB[10] >> 1 {
	case 0x00, 0x7f: // the information, or the kinds of it
		c.reply(make([]byte, 4))
		return nil
	}
	return badField(10, 7)
}

// decodeDefects is READ DEFECT DATA(10) and (12) (SBC-3 section 5.14).
func decodeDefects(_ *Unit, c *Command) *condition {
	if c.CDB[0] == opReadDefects12 {
		c.allow(allocation32(c.CDB[6:]))
	} else {
		c.allow(allocation16(c.CDB[7:]))
	}
	return nil
}

// defects answers with empty lists: what the storage has mapped out is its own.
func defects(_ *Unit, c *Command) *condition {
	if c.CDB[0] == opReadDefects12 {
		c.reply([]byte{0, c.CDB[1] & 0x1f, 0, 0, 0, 0, 0, 0})
	} else {
		c.reply([]byte{0, c.CDB[2] & 0x1f, 0, 0})
	}
	return nil
}

package scsi

// A medium that can be ejected: that of a CD-ROM drive, or of a removable disk.

// startStop is START STOP UNIT (SBC-3 section 5.25). There is no motor to stop: a
// disk that a host stopped when it went down must be there when it comes up.
func startStop(u *Unit, c *Command) *condition {
	start, load, power := c.CDB[4]&0x01 != 0, c.CDB[4]&0x02 != 0, c.CDB[4]>>4
	if power != 0 {
		return nil // with a power condition START and LOEJ mean nothing
	}
	if load && !u.o.Removable {
		return badField(4, 1)
	}
	if !start && c.CDB[4]&0x04 == 0 { // NO_FLUSH
		if err := u.disk.Flush(); err != nil {
			return failure(err, writing, 0)
		}
	}
	if !load {
		return nil
	}
	u.tasks.mu.Lock()
	defer u.tasks.mu.Unlock()
	for l := range u.links {
		if l.prevents {
			return illegal(codeRemovalPrevented)
		}
	}
	if start && u.ejected {
		u.attend(codeMediumChanged, c.link)
	}
	u.ejected = !start
	return nil
}

// starts: what makes a unit ready conflicts with no reservation.
func starts(c *Command) bool { return c.CDB[4]&0x01 != 0 && c.CDB[4]>>4 == 0 }

// prevent is PREVENT ALLOW MEDIUM REMOVAL, of each nexus for itself (SPC-4 section
// 6.14).
func prevent(u *Unit, c *Command) *condition {
	u.tasks.mu.Lock()
	defer u.tasks.mu.Unlock()
	c.link.prevents = c.CDB[4]&0x01 != 0
	return nil
}

func allows(c *Command) bool { return c.CDB[4]&0x03 == 0 }

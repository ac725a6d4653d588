package scsi

// RESERVE and RELEASE of SPC-2, which older clusters use. While there are
// persistent registrations they change nothing (SPC-4 section 5.12.3, CRH).

func decodeReserve(_ *Unit, c *Command) *condition {
	switch {
	case c.CDB[1]&0x10 != 0: // 3RDPTY: for another initiator
		return badField(1, 4)
	case c.CDB[1]&0x01 != 0: // EXTENT: for a part of the disk
		return badField(1, 0)
	}
	return nil
}

func reserve(u *Unit, c *Command) *condition {
	u.tasks.mu.Lock()
	defer u.tasks.mu.Unlock()
	if len(u.persist.registrations) > 0 {
		if !c.link.registered {
			c.Status = StatusReservationConflict
		}
		return nil
	}
	if u.reserver != nil && u.reserver != c.link { // meanwhile
		c.Status = StatusReservationConflict
		return nil
	}
	if !c.link.gone {
		u.reserver = c.link
		u.changes.Add(1)
	}
	return nil
}

// release is RELEASE, which does nothing for who has no reservation.
func release(u *Unit, c *Command) *condition {
	u.tasks.mu.Lock()
	defer u.tasks.mu.Unlock()
	if u.reserver == c.link {
		u.reserver = nil
		u.changes.Add(1)
	}
	return nil
}

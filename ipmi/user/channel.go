package user

import (
	"github.com/nitrino/nitrino/host"
	"github.com/nitrino/nitrino/ipmi/command"
)

// Access is how a channel can be used (sections 22.22 and 22.23). Each message
// and each user level is always authenticated.
type Access struct {
	// Enabled: always available, else disabled, and the port does not answer.
	Enabled bool
	// Limit is the most that any session may do: User to Administrator.
	Limit command.Privilege
	// Alerts: the event filter may send alerts over the channel.
	Alerts bool
}

// A Channel keeps the LAN channel's access, twice: what is in force, and what
// will be at the next start of the board's software.
type Channel interface {
	// Access answers one of the two; it does not block.
	Access(kept bool) Access
	// SetAccess changes one of the two and not the other; host.ErrInvalid where
	// it cannot be.
	SetAccess(a Access, kept bool, from host.Origin) error
}

// Completion codes of Set Channel Access.
const codeModeUnsupported command.Code = 0x83

// Bits of the access byte.
const (
	alertsDisabled         = 0x20
	perMessageAuthDisabled = 0x10
	userLevelAuthDisabled  = 0x08
	modeMask               = 0x07
	modeDisabled           = 0
	modeAlways             = 2
)

// Which of the two settings, in bits 7:6.
const (
	keptSettings     = 1 // non-volatile
	settingsInForce  = 2 // volatile
	reservedSettings = 3
)

// getChannelAccess: section 22.23.
func (m *Manager) getChannelAccess(c *command.Call) command.Code {
	which := c.Data[1] >> 6
	if !command.IsLAN(c.Data[0]) || which != keptSettings && which != settingsInForce {
		return command.InvalidField
	}
	a := m.channel.Access(which == keptSettings)
	b := byte(modeDisabled)
	if a.Enabled {
		b = modeAlways
	}
	if !a.Alerts {
		b |= alertsDisabled
	}
	c.Put(b, byte(a.Limit))
	return command.OK
}

// setChannelAccess: section 22.22. Who disables the channel he talks over is
// obeyed: there is SSH and Redfish to come back by. The answer goes out first.
func (m *Manager) setChannelAccess(c *command.Call) command.Code {
	access, limit := c.Data[1]>>6, c.Data[2]>>6
	if !command.IsLAN(c.Data[0]) || access == reservedSettings || limit == reservedSettings {
		return command.InvalidField
	}
	if access != 0 {
		if c.Data[1]&(perMessageAuthDisabled|userLevelAuthDisabled) != 0 {
			return command.InvalidField // not to be disabled
		}
		if mode := c.Data[1] & modeMask; mode != modeDisabled && mode != modeAlways {
			return codeModeUnsupported
		}
	}
	most := command.Privilege(c.Data[2] & 0x0F)
	if limit != 0 && (most < command.User || most > command.Administrator) {
		return command.InvalidField
	}
	for _, which := range [...]byte{keptSettings, settingsInForce} {
		kept := which == keptSettings
		before := m.channel.Access(kept)
		a := before
		if access == which {
			a.Enabled = c.Data[1]&modeMask == modeAlways
			a.Alerts = c.Data[1]&alertsDisabled == 0
		}
		if limit == which {
			a.Limit = most
		}
		switch {
		case a == before:
		case !kept && !a.Enabled:
			from := c.Origin
			c.After = func() {
				if err := m.channel.SetAccess(a, false, from); err != nil {
					m.log.Error("the LAN channel was not disabled", "error", err, "origin", from.String())
				}
			}
		default:
			if err := m.channel.SetAccess(a, kept, c.Origin); err != nil {
				return command.Result(m.log, "Set Channel Access", err)
			}
		}
	}
	return command.OK
}

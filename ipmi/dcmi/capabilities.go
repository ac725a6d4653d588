package dcmi

import (
	"slices"

	"github.com/nitrino/nitrino/host"
	"github.com/nitrino/nitrino/ipmi/command"
)

// putVersion answers the version of DCMI, and a parameter's revision.
func putVersion(c *command.Call, revision byte) { c.Put(1, 5, revision) }

// getCapabilities is Get DCMI Capabilities Info. Bits that are in reserve since
// revision 2 of the parameters tell what they told before: consoles that follow
// revision 2 pass over them, and ipmitool shows nothing else.
func (x *DCMI) getCapabilities(c *command.Call) command.Code {
	const revision, none, slaveAddress, deviceRevision = 2, 0xFF, 2 * command.BMCAddr, 1
	f := &x.Features
	bits := func(list ...bool) (b byte) {
		for i, is := range list {
			if is {
				b |= 1 << i
			}
		}
		return b
	}
	putVersion(c, revision)
	switch c.Data[0] {
	case 1: // supported DCMI capabilities
		identification, primaryLAN := true, true
		c.Put(bits(identification, f.SELEntries > 0, f.ChassisPower, len(x.Thermometers) > 0),
			bits(x.Meter != nil),
			bits(false, false, false, primaryLAN, f.SOL, f.VLAN))
	case 2: // mandatory platform attributes
		const rollover, byRecord, most = 0x8000, 0x2000, 0x0FFF
		sel := uint16(min(f.SELEntries, most))
		if f.SELRollover {
			sel |= rollover | byRecord
		}
		has := func(p host.Place) bool {
			return slices.ContainsFunc(x.Thermometers, func(t Thermometer) bool { return t.Sensor.Place() == p })
		}
		guid, hostName, assetTag := true, x.Names != nil, true
		c.Put16(sel)
		c.Put(bits(guid, hostName, assetTag),
			bits(has(host.PlaceInlet), has(host.PlaceCPU), has(host.PlaceSystem)),
			byte(samplePeriod.Seconds()))
	case 3: // optional platform attributes
		// The 7 bits of the address field hold 20h: so ipmitool and FreeIPMI
		// both take it for the BMC's. The channel is 0, the primary IPMB.
		c.Put(slaveAddress, deviceRevision)
	case 4: // manageability access attributes: LAN, second LAN, serial
		c.Put(command.ChannelLAN, none, none)
	case 5: // enhanced system power statistics attributes
		if x.Meter == nil {
			return command.NotPresent
		}
		c.Put(byte(len(windows)))
		for _, w := range windows {
			c.Put(w.code)
		}
	default:
		return command.InvalidField
	}
	return command.OK
}

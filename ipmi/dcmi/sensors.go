package dcmi

import (
	"math"

	"github.com/nitrino/nitrino/host"
	"github.com/nitrino/nitrino/ipmi/command"
)

// maxInstances is how many sensors one answer tells of.
const maxInstances = 8

// placeOf is what an entity ID stands for, by DCMI's own numbers or by IPMI's
// (DCMI v1.5, entity ID extension). The baseboard is the host's: the board that
// runs nitrino is no part of what DCMI looks at.
func placeOf(entity byte) (p host.Place, known bool) {
	switch entity {
	case 0x40, 0x37:
		return host.PlaceInlet, true
	case 0x41, 0x03:
		return host.PlaceCPU, true
	case 0x42, 0x07:
		return host.PlaceSystem, true
	}
	return "", false
}

// instances runs what the two commands about temperatures have in common: sensor
// type, entity ID, the instance or 0 for all, and where to start then. It
// answers how many there are, and how many of them follow; put appends one, or
// says that there is nothing to tell of it now.
func (x *DCMI) instances(c *command.Call, put func(*Thermometer) bool) command.Code {
	const temperature, all = 0x01, 0
	place, known := placeOf(c.Data[1])
	if c.Data[0] != temperature || !known {
		return command.InvalidField
	}
	wanted, start := c.Data[2], c.Data[3]
	total, told, found := 0, 0, false
	head := len(c.Reply)
	c.Put(0, 0)
	for i := range x.Thermometers {
		t := &x.Thermometers[i]
		if t.Sensor.Place() != place {
			continue
		}
		total++
		// FreeIPMI counts the start from 1, as instances are, and ipmitool from 0.
		if wanted == t.Instance || wanted == all && t.Instance >= start && told < maxInstances {
			found = true
			if put(t) {
				told++
			}
		}
	}
	if wanted != all && !found {
		return command.NotPresent
	}
	c.Reply[head], c.Reply[head+1] = byte(min(total, math.MaxUint8)), byte(told)
	return command.OK
}

// getSensorInfo answers the record IDs of sensors.
func (x *DCMI) getSensorInfo(c *command.Call) command.Code {
	return x.instances(c, func(t *Thermometer) bool {
		c.Put16(t.RecordID)
		return true
	})
}

// getTemperatures answers the readings of sensors, in degrees with a sign bit.
// One that has none now is left out.
func (x *DCMI) getTemperatures(c *command.Call) command.Code {
	return x.instances(c, func(t *Thermometer) bool {
		r := t.Sensor.Reading()
		if !r.Valid {
			return false
		}
		const negative, most = 0x80, 0x7F
		v := byte(min(math.Round(math.Abs(r.Value)), most))
		if r.Value < 0 && v != 0 {
			v |= negative
		}
		c.Put(v, t.Instance)
		return true
	})
}

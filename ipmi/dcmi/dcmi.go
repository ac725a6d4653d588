// Package dcmi has the commands that the Data Center Manageability Interface
// (DCMI v1.5) adds to IPMI: capabilities, power, asset tag, temperatures, and
// the name of the BMC.
package dcmi

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/nitrino/nitrino/host"
	"github.com/nitrino/nitrino/internal/store"
	"github.com/nitrino/nitrino/ipmi/command"
)

// Meter tells what the host draws; *host.Meter is one.
type Meter interface {
	// Status and Limit never block.
	Status() host.MeterStatus
	Limit() host.PowerLimit
	SetLimit(host.PowerLimit, host.Origin) error
}

// Inventory is the memory that has the asset tag; *host.Inventory is one.
type Inventory interface {
	// Read returns a copy of all of it; it may wait for the memory.
	Read() ([]byte, error)
	// Edit makes of it what change makes of it, while nobody else writes; it
	// returns change's error as it is.
	Edit(change func(old []byte) ([]byte, error), from host.Origin) error
}

// Names are what the board is called.
type Names interface {
	// HostName never blocks.
	HostName() string
	// SetHostName keeps the name over restarts. It answers host.ErrInvalid
	// (wrapped) for what is no host name.
	SetHostName(name string, from host.Origin) error
}

// Sensor is a temperature sensor; *host.Sensor is one.
type Sensor interface {
	Name() string
	Place() host.Place
	// Reading never blocks.
	Reading() host.Reading
}

// A Thermometer is a Sensor and where the SDR repository has it.
type Thermometer struct {
	Sensor   Sensor
	RecordID uint16
	// Instance is that of its entity.
	Instance uint8
}

// Power switches the host; *host.Power is one.
type Power interface {
	Supports(host.Action) bool
	Status() host.PowerStatus
	Request(host.Action, host.Cause, host.Origin) (*host.Operation, error)
}

// Events is the one event log; *host.Events is one.
type Events interface {
	Add(host.Event) host.Event
}

// Features are what other packages offer, as Get DCMI Capabilities Info tells.
type Features struct {
	// SELEntries is how many records the SEL holds, and SELRollover that the
	// oldest make room when it is full.
	SELEntries  int
	SELRollover bool
	// ChassisPower: the host can be switched on and off.
	ChassisPower bool
	SOL, VLAN    bool
}

// Options are what New needs.
type Options struct {
	Features Features
	// Meter, where it is nil, is absent, and the commands about power with it.
	Meter        Meter
	Inventory    Inventory
	Names        Names // nil: the BMC has no name
	Thermometers []Thermometer
	Power        Power
	Events       Events
	Store        *store.Store
	Log          *slog.Logger
}

// A DCMI answers the commands of this package.
type DCMI struct {
	Options
	history history
	thermal thermal

	naming sync.Mutex
	name   []byte // as far as it was transferred; nil: no transfer is under way
}

// New reads what is kept. What cannot be read is left out, and the log says so.
func New(o Options) *DCMI {
	x := &DCMI{Options: o}
	x.loadThermal()
	return x
}

// Run takes what the host draws into the statistics, and sees to the thermal
// limits, once a second until ctx ends.
func (x *DCMI) Run(ctx context.Context) error {
	tick := time.NewTicker(samplePeriod)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case now := <-tick.C:
			if x.Meter != nil {
				x.history.add(x.Meter.Status())
			}
			x.watchHeat(now)
		}
	}
}

// samplePeriod is how often sensors are read.
const samplePeriod = time.Second

// Commands lists the commands that the wires can answer. Privileges are those
// of DCMI's own table of commands.
func (x *DCMI) Commands() []command.Command {
	list := []command.Command{
		{Cmd: 0x01, Name: "Get DCMI Capabilities Info", Privilege: command.User, MinLen: 1, MaxLen: 1, Run: x.getCapabilities},
		{Cmd: 0x06, Name: "Get Asset Tag", Privilege: command.User, Conduct: command.Waits, MinLen: 2, MaxLen: 2, Run: x.getAssetTag},
		{Cmd: 0x07, Name: "Get DCMI Sensor Info", Privilege: command.Operator, MinLen: 4, MaxLen: 4, Run: x.getSensorInfo},
		{Cmd: 0x08, Name: "Set Asset Tag", Privilege: command.Operator, Conduct: command.Waits, MinLen: 2, MaxLen: 2 + chunk, Run: x.setAssetTag},
		{Cmd: 0x10, Name: "Get Temperature Readings", Privilege: command.User, MinLen: 4, MaxLen: 4, Run: x.getTemperatures},
	}
	if x.Meter != nil {
		list = append(list,
			command.Command{Cmd: 0x02, Name: "Get Power Reading", Privilege: command.User, MinLen: 3, MaxLen: 3, Run: x.getPowerReading},
			command.Command{Cmd: 0x03, Name: "Get Power Limit", Privilege: command.User, MinLen: 2, MaxLen: 2, Run: x.getPowerLimit},
			command.Command{Cmd: 0x04, Name: "Set Power Limit", Privilege: command.Operator, Conduct: command.Waits, MinLen: 14, MaxLen: 14, Run: x.setPowerLimit},
			command.Command{Cmd: 0x05, Name: "Activate/Deactivate Power Limit", Privilege: command.Operator, Conduct: command.Waits, MinLen: 3, MaxLen: 3, Run: x.activatePowerLimit},
		)
	}
	if x.Names != nil {
		list = append(list,
			command.Command{Cmd: 0x09, Name: "Get Management Controller Identifier String", Privilege: command.User, MinLen: 2, MaxLen: 2, Run: x.getName},
			command.Command{Cmd: 0x0A, Name: "Set Management Controller Identifier String", Privilege: command.Administrator, Conduct: command.Waits, MinLen: 2, MaxLen: 2 + chunk, Run: x.setName},
		)
	}
	if len(x.thermal.inlets) > 0 {
		list = append(list,
			command.Command{Cmd: 0x0B, Name: "Set Thermal Limit", Privilege: command.Operator, Conduct: command.Waits, MinLen: 6, MaxLen: 6, Run: x.setThermalLimit},
			command.Command{Cmd: 0x0C, Name: "Get Thermal Limit", Privilege: command.User, MinLen: 2, MaxLen: 2, Run: x.getThermalLimit},
		)
	}
	for i := range list {
		list[i].NetFn, list[i].Body = command.Group, command.BodyDCMI
	}
	return list
}

// Completion codes that several of these commands have.
const (
	codeLimitOutOfRange  command.Code = 0x84
	codeTimeOutOfRange   command.Code = 0x85
	codePeriodOutOfRange command.Code = 0x89
)

// chunk is how many bytes of a text one command carries.
const chunk = 16

// putChunk answers a part of a text: its whole length, and count bytes from
// offset on.
func putChunk(c *command.Call, text []byte) command.Code {
	offset, count := int(c.Data[0]), int(c.Data[1])
	if offset > len(text) || count > chunk {
		return command.OutOfRange
	}
	c.Put(byte(len(text)))
	c.Put(text[offset:min(offset+count, len(text))]...)
	return command.OK
}

// takeChunk puts the request's part of a text behind what came before its
// offset. The text then ends with it, and has longest bytes at most.
func takeChunk(c *command.Call, text []byte, longest int) ([]byte, command.Code) {
	offset, count, data := int(c.Data[0]), int(c.Data[1]), c.Data[2:]
	switch {
	case count != len(data):
		return nil, command.BadLength
	case offset > len(text) || offset+count > longest:
		return nil, command.OutOfRange
	}
	return append(text[:offset:offset], data...), command.OK
}

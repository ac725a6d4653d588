// Package chassis is Redfish's view of the enclosure that the host is in:
// Chassis, its sensors, and what they say of temperature and power.
package chassis

import (
	"log/slog"

	"github.com/nitrino/nitrino/host"
	"github.com/nitrino/nitrino/redfish/machine"
	"github.com/nitrino/nitrino/redfish/message"
	"github.com/nitrino/nitrino/redfish/resource"
)

// Options are what New needs. Host and Log are required.
type Options struct {
	Host *host.Host
	Log  *slog.Logger
	// Hardware is what is known of the host's machine; nil: nothing.
	Hardware *host.Hardware
	// Type is the ChassisType where the inventory does not say it; empty:
	// RackMount.
	Type string
	// System, Manager and the system's LogServices: these resources are there,
	// with the URIs that package resource has for them.
	System, Manager, LogServices bool
}

// Chassis is the chapter.
type Chassis struct {
	Options
	sensors []sensor
}

// New makes it.
func New(o Options) *Chassis {
	if o.Type == "" {
		o.Type = "RackMount"
	}
	return &Chassis{Options: o, sensors: newSensors(o.Host.Sensors.List())}
}

const (
	collectionType = "ChassisCollection.ChassisCollection"
	chassisType    = "Chassis.v1_28_0.Chassis"
)

// Routes are the chapter's.
func (c *Chassis) Routes() []resource.Route {
	all := []resource.Route{
		{Pattern: resource.ChassisCollectionURI, Type: collectionType, Get: c.getCollection},
		{Pattern: resource.ChassisURI, Type: chassisType, Get: c.getChassis, Patch: c.patchChassis},
		{Pattern: resource.SensorsURI, Type: sensorCollectionType, Get: c.getSensors},
		{Pattern: resource.SensorsURI + "/{id}", Type: sensorType, Get: c.getSensor, Patch: c.patchSensor},
		{Pattern: resource.ThermalSubsystemURI, Type: thermalSubsystemType, Get: c.getThermalSubsystem},
		{Pattern: thermalMetricsURI, Type: thermalMetricsType, Get: c.getThermalMetrics},
		{Pattern: fansURI, Type: fanCollectionType, Get: c.getFans},
		{Pattern: fansURI + "/{id}", Type: fanType, Get: c.getFan},
		{Pattern: resource.PowerSubsystemURI, Type: powerSubsystemType, Get: c.getPowerSubsystem},
		{Pattern: powerSuppliesURI, Type: powerSupplyCollectionType, Get: c.getPowerSupplies},
		{Pattern: powerSuppliesURI + "/{id}", Type: powerSupplyType, Get: c.getPowerSupply},
		{Pattern: powerSuppliesURI + "/{id}/Metrics", Type: powerSupplyMetricsType, Get: c.getPowerSupplyMetrics},
		{Pattern: thermalURI, Type: thermalType, Get: c.getThermal},
		{Pattern: controlsURI, Type: controlCollectionType, Get: c.getControls},
	}
	metrics := resource.Route{Pattern: environmentMetricsURI, Type: environmentMetricsType, Get: c.getEnvironmentMetrics}
	power := resource.Route{Pattern: powerURI, Type: powerType, Get: c.getPower}
	if c.Host.Meter != nil {
		metrics.Patch, power.Patch = c.patchEnvironmentMetrics, c.patchPower
		all = append(all, resource.Route{Pattern: powerLimitURI, Type: controlType, Get: c.getPowerLimit, Patch: c.patchPowerLimit})
	}
	return append(all, metrics, power)
}

type chassis struct {
	resource.OData
	ChassisType             string  `json:"ChassisType"`
	Manufacturer            *string `json:"Manufacturer,omitempty"`
	Model                   *string `json:"Model"`
	PartNumber              *string `json:"PartNumber,omitempty"`
	SerialNumber            *string `json:"SerialNumber"`
	AssetTag                *string `json:"AssetTag"`                // null: it cannot be read
	LocationIndicatorActive *bool   `json:"LocationIndicatorActive"` // null: there is no light
	// IndicatorLED is the same light; the schema has deprecated it, and Ansible's
	// and OpenStack Ironic's commands for the light know nothing else.
	IndicatorLED       string          `json:"IndicatorLED,omitempty"`
	PowerState         *string         `json:"PowerState"` // null: no wire tells
	Status             resource.Status `json:"Status"`
	Sensors            resource.Link   `json:"Sensors"`
	ThermalSubsystem   resource.Link   `json:"ThermalSubsystem"`
	PowerSubsystem     resource.Link   `json:"PowerSubsystem"`
	EnvironmentMetrics resource.Link   `json:"EnvironmentMetrics"`
	Controls           resource.Link   `json:"Controls"`
	Thermal            resource.Link   `json:"Thermal"`
	Power              resource.Link   `json:"Power"`
	// LogServices are the system's: clients look for its log here, too.
	LogServices *resource.Link `json:"LogServices,omitempty"`
	Links       chassisLinks   `json:"Links"`
}

type chassisLinks struct {
	ComputerSystems   []resource.Link `json:"ComputerSystems,omitempty"`
	ManagedBy         []resource.Link `json:"ManagedBy,omitempty"`
	ManagersInChassis []resource.Link `json:"ManagersInChassis,omitempty"`
}

func (c *Chassis) getCollection(*resource.Request) *resource.Reply {
	return resource.OK(resource.NewCollection(resource.ChassisCollectionURI, "ChassisCollection", "Chassis Collection", resource.ChassisURI))
}

func (c *Chassis) getChassis(*resource.Request) *resource.Reply {
	facts := machine.Look(c.Host.Inventory, c.Hardware)
	r := chassis{
		OData:              resource.NewOData(resource.ChassisURI, chassisType, "Chassis"),
		ChassisType:        enclosure(facts.Enclosure, c.Type),
		Manufacturer:       machine.Known(facts.Manufacturer),
		Model:              machine.Known(facts.Model),
		PartNumber:         machine.Known(facts.EnclosurePartNumber),
		SerialNumber:       machine.Known(facts.EnclosureSerial),
		AssetTag:           facts.AssetTag,
		PowerState:         machine.PowerState(c.Host.Power.Status().State),
		Status:             c.rollup(func(sensor) bool { return true }),
		Sensors:            resource.Link{ODataID: resource.SensorsURI},
		ThermalSubsystem:   resource.Link{ODataID: resource.ThermalSubsystemURI},
		PowerSubsystem:     resource.Link{ODataID: resource.PowerSubsystemURI},
		EnvironmentMetrics: resource.Link{ODataID: environmentMetricsURI},
		Controls:           resource.Link{ODataID: controlsURI},
		Thermal:            resource.Link{ODataID: thermalURI},
		Power:              resource.Link{ODataID: powerURI},
	}
	// A machine whose enclosure has no numbers of its own has the product's.
	if r.PartNumber == nil {
		r.PartNumber = machine.Known(facts.PartNumber)
	}
	if r.SerialNumber == nil {
		r.SerialNumber = machine.Known(facts.Serial)
	}
	if c.Host.Identify != nil {
		r.LocationIndicatorActive, r.IndicatorLED = machine.Indicators(c.Host.Identify)
	}
	if c.LogServices {
		r.LogServices = &resource.Link{ODataID: resource.SystemLogServicesURI}
	}
	if c.System {
		r.Links.ComputerSystems = resource.Links(resource.SystemURI)
	}
	if c.Manager {
		r.Links.ManagedBy, r.Links.ManagersInChassis = resource.Links(resource.ManagerURI), resource.Links(resource.ManagerURI)
	}
	return resource.OK(r)
}

// enclosure is Chassis.ChassisType of SMBIOS' type of enclosure (DSP0134 table
// 17); otherwise is it where that says nothing.
func enclosure(smbios byte, otherwise string) string {
	switch smbios {
	case 0x03, 0x04, 0x05, 0x06, 0x07, 0x08, 0x09, 0x0A, 0x0D, 0x0E, 0x0F, 0x10, 0x18, 0x23, 0x24: // desktops, towers, portables
		return "StandAlone"
	case 0x12:
		return "Expansion"
	case 0x17:
		return "RackMount"
	case 0x19, 0x1B, 0x1D: // multi-system, Advanced TCA and blade enclosures
		return "Enclosure"
	case 0x1A: // CompactPCI
		return "Card"
	case 0x1C:
		return "Blade"
	}
	return otherwise
}

func (c *Chassis) patchChassis(q *resource.Request) *resource.Reply {
	writable := []resource.Property{machine.AssetTag(c.Host, q.Origin(), func(err error) { c.failed("AssetTag", err) })}
	if c.Host.Identify != nil {
		failed := func(err error) { c.failed("LocationIndicatorActive", err) }
		writable = append(writable, machine.LocationIndicator(c.Host.Identify, q.Origin(), failed), machine.IndicatorLED(c.Host.Identify, q.Origin(), failed))
	}
	return resource.Patch(q, c.getChassis, writable...)
}

// failed logs why a property could not be written, and is the message for it.
func (c *Chassis) failed(name string, err error) message.Message {
	c.Log.Error("property not updated", "property", name, "error", err)
	return message.PropertyNotUpdated(name)
}

// rollup is the Status of what has these sensors: its own health is that of the
// wires, which are well, and HealthRollup that of its worst sensor.
func (c *Chassis) rollup(of func(sensor) bool) resource.Status {
	s := resource.Enabled()
	worst := host.Limit(0)
	for _, x := range c.sensors {
		if now := x.Reading(); of(x) && now.Valid {
			worst |= now.Crossed
		}
	}
	s.HealthRollup = health(worst)
	return s
}

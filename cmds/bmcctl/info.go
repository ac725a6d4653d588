package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"

	"github.com/stmcginnis/gofish/common"
)

func infoCommands() []command {
	return []command{
		{name: "info", help: "show what the server and its BMC are", setup: plain(info)},
		{name: "sensors", help: "show the sensors' readings", setup: plain(sensors)},
	}
}

// An infoReport is what info prints. What the service does not tell is left out.
type infoReport struct {
	Service struct {
		Product string `json:"product,omitempty"`
		Vendor  string `json:"vendor,omitempty"`
		Redfish string `json:"redfish"`
		UUID    string `json:"uuid,omitempty"`
	} `json:"service"`
	System struct {
		ID           string   `json:"id"`
		Power        string   `json:"power,omitempty"`
		Health       string   `json:"health,omitempty"`
		HostName     string   `json:"host_name,omitempty"`
		Manufacturer string   `json:"manufacturer,omitempty"`
		Model        string   `json:"model,omitempty"`
		Serial       string   `json:"serial,omitempty"`
		AssetTag     string   `json:"asset_tag,omitempty"`
		UUID         string   `json:"uuid,omitempty"`
		BIOS         string   `json:"bios,omitempty"`
		Processors   *int     `json:"processors,omitempty"`
		Processor    string   `json:"processor,omitempty"`
		MemoryGiB    *float64 `json:"memory_gib,omitempty"`
	} `json:"system"`
	Manager *managerReport `json:"manager,omitempty"`
}

type managerReport struct {
	ID      string `json:"id"`
	Model   string `json:"model,omitempty"`
	Version string `json:"version,omitempty"`
	Health  string `json:"health,omitempty"`
	Time    string `json:"time,omitempty"`
}

func info(ctx context.Context, p *program, _ []string) error {
	c, err := p.connect(ctx)
	if err != nil {
		return err
	}
	r, err := c.root()
	if err != nil {
		return err
	}
	s, err := p.system(c)
	if err != nil {
		return err
	}
	var all infoReport
	v, y := &all.Service, &all.System
	v.Product, v.Vendor, v.Redfish, v.UUID = r.Product, r.Vendor, r.RedfishVersion, r.UUID
	y.ID, y.Power, y.Health, y.HostName, y.Manufacturer, y.Model = s.ID, s.PowerState, string(s.Status.Health), s.HostName, s.Manufacturer, s.Model
	y.Serial, y.AssetTag, y.UUID, y.BIOS = s.SerialNumber, s.AssetTag, s.UUID, s.BIOSVersion
	y.Processors, y.Processor, y.MemoryGiB = s.ProcessorSummary.Count, s.ProcessorSummary.Model, s.MemorySummary.TotalSystemMemoryGiB
	m, err := p.manager(c)
	switch {
	case err == nil:
		all.Manager = &managerReport{m.ID, m.Model, m.FirmwareVersion, string(m.Status.Health), m.DateTime}
	case !errors.Is(err, errUnsupported):
		return err
	}
	return p.show(all, func(w io.Writer) {
		field(w, "Service", v.Product)
		field(w, "Vendor", v.Vendor)
		field(w, "Redfish", v.Redfish)
		field(w, "System", y.ID)
		field(w, "  Power", y.Power)
		field(w, "  Health", y.Health)
		field(w, "  Host name", y.HostName)
		field(w, "  Manufacturer", y.Manufacturer)
		field(w, "  Model", y.Model)
		field(w, "  Serial number", y.Serial)
		field(w, "  Asset tag", y.AssetTag)
		field(w, "  UUID", y.UUID)
		field(w, "  BIOS", y.BIOS)
		if y.Processors != nil {
			field(w, "  Processors", strconv.Itoa(*y.Processors)+" "+y.Processor)
		}
		if y.MemoryGiB != nil {
			field(w, "  Memory", number(y.MemoryGiB)+" GiB")
		}
		if m := all.Manager; m != nil {
			field(w, "Manager", m.ID)
			field(w, "  Model", m.Model)
			field(w, "  Version", m.Version)
			field(w, "  Health", m.Health)
			field(w, "  Time", local(m.Time))
		}
	})
}

// A sensor is a row of sensors. Reading is null where the sensor has none now.
type sensor struct {
	Chassis string   `json:"chassis"`
	Name    string   `json:"name"`
	Reading *float64 `json:"reading"`
	Units   string   `json:"units"`
	Health  string   `json:"health,omitempty"`
	State   string   `json:"state,omitempty"`
	// The limits beyond which it is a warning or critical.
	LowerCritical *float64 `json:"lower_critical,omitempty"`
	LowerCaution  *float64 `json:"lower_caution,omitempty"`
	UpperCaution  *float64 `json:"upper_caution,omitempty"`
	UpperCritical *float64 `json:"upper_critical,omitempty"`
}

// A chassis is where sensors are. Thermal and Power are the older schemas.
type chassis struct {
	ID                      string `json:"Id"`
	Sensors, Thermal, Power link
}

type threshold struct{ Reading *float64 }

// A wireSensor is the schema Sensor's.
type wireSensor struct {
	Name         string
	Reading      *float64
	ReadingUnits string
	Status       common.Status
	Thresholds   struct{ LowerCritical, LowerCaution, UpperCaution, UpperCritical threshold }
}

func sensors(ctx context.Context, p *program, _ []string) error {
	c, err := p.connect(ctx)
	if err != nil {
		return err
	}
	r, err := c.root()
	if err != nil {
		return err
	}
	cases, err := members[chassis](c, r.Chassis.URI)
	if err != nil {
		return fmt.Errorf("chassis: %w", err)
	}
	all := []sensor{}
	for _, one := range cases {
		some, err := c.sensors(one)
		if err != nil {
			return err
		}
		all = append(all, some...)
	}
	return p.show(all, func(w io.Writer) {
		row(w, "SENSOR", "READING", "UNITS", "HEALTH", "LOW CRIT", "LOW WARN", "HIGH WARN", "HIGH CRIT")
		for _, s := range all {
			health := s.Health
			if s.Reading == nil {
				health = s.State
			}
			row(w, s.Name, number(s.Reading), unit(s.Units), health, number(s.LowerCritical), number(s.LowerCaution), number(s.UpperCaution), number(s.UpperCritical))
		}
	})
}

// sensors reads those of a chassis; of a service without the collection, what the
// older Thermal and Power have.
func (c *client) sensors(one chassis) (all []sensor, err error) {
	if one.Sensors.URI != "" {
		some, err := members[wireSensor](c, one.Sensors.URI)
		if err != nil {
			return nil, fmt.Errorf("sensors: %w", err)
		}
		for _, s := range some {
			t := s.Thresholds
			all = append(all, sensor{one.ID, s.Name, s.Reading, s.ReadingUnits, string(s.Status.Health), string(s.Status.State),
				t.LowerCritical.Reading, t.LowerCaution.Reading, t.UpperCaution.Reading, t.UpperCritical.Reading})
		}
		return all, nil
	}
	type legacy struct {
		Name, FanName                                     string
		Reading, ReadingCelsius, ReadingVolts             *float64
		PowerConsumedWatts                                *float64
		ReadingUnits                                      string
		LowerThresholdCritical, LowerThresholdNonCritical *float64
		UpperThresholdNonCritical, UpperThresholdCritical *float64
		Status                                            common.Status
	}
	add := func(s legacy, reading *float64, units string) {
		if s.Name == "" {
			s.Name = s.FanName
		}
		all = append(all, sensor{one.ID, s.Name, reading, units, string(s.Status.Health), string(s.Status.State),
			s.LowerThresholdCritical, s.LowerThresholdNonCritical, s.UpperThresholdNonCritical, s.UpperThresholdCritical})
	}
	if one.Thermal.URI != "" {
		var t struct{ Temperatures, Fans []legacy }
		if _, err := c.read(one.Thermal.URI, &t); err != nil {
			return nil, err
		}
		for _, s := range t.Temperatures {
			add(s, s.ReadingCelsius, "Cel")
		}
		for _, s := range t.Fans {
			add(s, s.Reading, s.ReadingUnits)
		}
	}
	if one.Power.URI != "" {
		var t struct{ Voltages, PowerControl []legacy }
		if _, err := c.read(one.Power.URI, &t); err != nil {
			return nil, err
		}
		for _, s := range t.Voltages {
			add(s, s.ReadingVolts, "V")
		}
		for _, s := range t.PowerControl {
			add(s, s.PowerConsumedWatts, "W")
		}
	}
	return all, nil
}

// unit writes a unit as people do; Redfish has UCUM's.
func unit(text string) string {
	switch text {
	case "Cel":
		return "°C"
	case "{rev}/min":
		return "rpm"
	}
	return text
}

// number writes one with no more digits than it has; nil is nothing.
func number(n *float64) string {
	if n == nil {
		return ""
	}
	return strconv.FormatFloat(*n, 'f', -1, 64)
}

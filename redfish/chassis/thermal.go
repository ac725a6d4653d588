package chassis

import (
	"github.com/nitrino/nitrino/host"
	"github.com/nitrino/nitrino/redfish/resource"
)

const (
	thermalMetricsURI = resource.ThermalSubsystemURI + "/ThermalMetrics"
	fansURI           = resource.ThermalSubsystemURI + "/Fans"

	thermalSubsystemType = "ThermalSubsystem.v1_5_0.ThermalSubsystem"
	thermalMetricsType   = "ThermalMetrics.v1_3_2.ThermalMetrics"
	fanCollectionType    = "FanCollection.FanCollection"
	fanType              = "Fan.v1_6_0.Fan"
)

type thermalSubsystem struct {
	resource.OData
	Status         resource.Status `json:"Status"`
	ThermalMetrics resource.Link   `json:"ThermalMetrics"`
	Fans           resource.Link   `json:"Fans"`
}

func (c *Chassis) getThermalSubsystem(*resource.Request) *resource.Reply {
	return resource.OK(thermalSubsystem{
		OData: resource.NewOData(resource.ThermalSubsystemURI, thermalSubsystemType, "Thermal Subsystem"),
		Status: c.rollup(func(x sensor) bool {
			return x.Quantity() == host.Temperature || x.Quantity() == host.FanSpeed
		}),
		ThermalMetrics: resource.Link{ODataID: thermalMetricsURI},
		Fans:           resource.Link{ODataID: fansURI},
	})
}

type thermalMetrics struct {
	resource.OData
	Summary  temperatureSummary   `json:"TemperatureSummaryCelsius"`
	Readings []temperatureExcerpt `json:"TemperatureReadingsCelsius"`
}

type temperatureSummary struct {
	Intake  *excerpt `json:"Intake,omitempty"`
	Exhaust *excerpt `json:"Exhaust,omitempty"`
}

type temperatureExcerpt struct {
	excerpt
	DeviceName      string `json:"DeviceName"`
	PhysicalContext string `json:"PhysicalContext"`
}

func (c *Chassis) getThermalMetrics(*resource.Request) *resource.Reply {
	r := thermalMetrics{
		OData: resource.NewOData(thermalMetricsURI, thermalMetricsType, "Thermal Metrics"),
		Summary: temperatureSummary{
			Intake:  first(c.which(host.Temperature, host.PlaceInlet)),
			Exhaust: first(c.which(host.Temperature, host.PlaceExhaust)),
		},
		Readings: []temperatureExcerpt{},
	}
	for _, x := range c.which(host.Temperature, "") {
		r.Readings = append(r.Readings, temperatureExcerpt{excerpt{x.uri(), x.reading()}, x.Name(), physicalContext(x.Place())})
	}
	return resource.OK(r)
}

type fan struct {
	resource.OData
	PhysicalContext string          `json:"PhysicalContext"`
	Speed           fanSpeed        `json:"SpeedPercent"`
	Status          resource.Status `json:"Status"`
}

// A fanSpeed has no DataSourceUri, which may only lead to a sensor of percent,
// and its Reading is null: nobody knows how fast the fan can turn.
type fanSpeed struct {
	Reading  *float64 `json:"Reading"`
	SpeedRPM *float64 `json:"SpeedRPM"`
}

func (c *Chassis) getFans(*resource.Request) *resource.Reply {
	var uris []string
	for _, x := range c.which(host.FanSpeed, "") {
		uris = append(uris, fansURI+"/"+x.id)
	}
	return resource.OK(resource.NewCollection(fansURI, "FanCollection", "Fan Collection", uris...))
}

func (c *Chassis) getFan(q *resource.Request) *resource.Reply {
	x, problem := find(q, "Fan", c.which(host.FanSpeed, ""))
	if problem != nil {
		return problem
	}
	return resource.OK(fan{
		OData:           resource.NewOData(fansURI+"/"+x.id, fanType, x.Name()),
		PhysicalContext: physicalContext(x.Place()),
		Speed:           fanSpeed{SpeedRPM: x.reading()},
		Status:          x.status(),
	})
}

package chassis

import (
	"github.com/nitrino/nitrino/host"
	"github.com/nitrino/nitrino/redfish/resource"
)

const (
	powerSuppliesURI = resource.PowerSubsystemURI + "/PowerSupplies"

	powerSubsystemType        = "PowerSubsystem.v1_1_3.PowerSubsystem"
	powerSupplyCollectionType = "PowerSupplyCollection.PowerSupplyCollection"
	powerSupplyType           = "PowerSupply.v1_6_0.PowerSupply"
	powerSupplyMetricsType    = "PowerSupplyMetrics.v1_2_0.PowerSupplyMetrics"
)

type powerSubsystem struct {
	resource.OData
	Status        resource.Status `json:"Status"`
	PowerSupplies resource.Link   `json:"PowerSupplies"`
}

func (c *Chassis) getPowerSubsystem(*resource.Request) *resource.Reply {
	return resource.OK(powerSubsystem{
		OData: resource.NewOData(resource.PowerSubsystemURI, powerSubsystemType, "Power Subsystem"),
		Status: c.rollup(func(x sensor) bool {
			return x.Quantity() == host.Wattage || x.Quantity() == host.Voltage || x.Quantity() == host.Current
		}),
		PowerSupplies: resource.Link{ODataID: powerSuppliesURI},
	})
}

// supplies are the power supplies that are known: those whose watts are
// measured, each by a sensor of its own (see host.Meter).
func (c *Chassis) supplies() []sensor { return c.which(host.Wattage, host.PlacePSU) }

type powerSupply struct {
	resource.OData
	Status  resource.Status `json:"Status"`
	Metrics resource.Link   `json:"Metrics"`
}

type powerSupplyMetrics struct {
	resource.OData
	InputPowerWatts excerpt         `json:"InputPowerWatts"`
	Status          resource.Status `json:"Status"`
}

func (c *Chassis) getPowerSupplies(*resource.Request) *resource.Reply {
	var uris []string
	for _, x := range c.supplies() {
		uris = append(uris, powerSuppliesURI+"/"+x.id)
	}
	return resource.OK(resource.NewCollection(powerSuppliesURI, "PowerSupplyCollection", "Power Supply Collection", uris...))
}

func (c *Chassis) getPowerSupply(q *resource.Request) *resource.Reply {
	x, problem := find(q, "PowerSupply", c.supplies())
	if problem != nil {
		return problem
	}
	uri := powerSuppliesURI + "/" + x.id
	return resource.OK(powerSupply{
		OData:   resource.NewOData(uri, powerSupplyType, x.Name()),
		Status:  x.status(),
		Metrics: resource.Link{ODataID: uri + "/Metrics"},
	})
}

func (c *Chassis) getPowerSupplyMetrics(q *resource.Request) *resource.Reply {
	x, problem := find(q, "PowerSupply", c.supplies())
	if problem != nil {
		return problem
	}
	return resource.OK(powerSupplyMetrics{
		OData:           resource.NewOData(powerSuppliesURI+"/"+x.id+"/Metrics", powerSupplyMetricsType, x.Name()+" Metrics"),
		InputPowerWatts: excerpt{x.uri(), x.reading()},
		Status:          x.status(),
	})
}

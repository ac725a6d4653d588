package main

import (
	"fmt"
	"strings"

	"github.com/stmcginnis/gofish/common"
	"github.com/stmcginnis/gofish/redfish"
)

// A root is the ServiceRoot: where everything else is found. No path but its own is
// known beforehand (DSP0266, Resource URIs).
//
// The resources are read into types of this program's own where gofish's cannot
// tell null from zero, or refuse what other services send.
type root struct {
	Product, Vendor, RedfishVersion, UUID        string
	Systems, Chassis, Managers                   link
	AccountService, SessionService, EventService link
	UpdateService, CertificateService, Fabrics   link
	Links                                        struct{ Sessions link }
}

func (c *client) root() (r root, err error) {
	_, err = c.read(common.DefaultServiceRoot, &r)
	return r, err
}

// A system is a managed server.
type system struct {
	URI                                           string `json:"@odata.id"`
	ID                                            string `json:"Id"`
	Name, Manufacturer, Model, SerialNumber, UUID string
	HostName, AssetTag                            string
	BIOSVersion                                   string `json:"BiosVersion"`
	PowerState, PowerRestorePolicy                string
	LastResetTime                                 string
	Status                                        common.Status
	ProcessorSummary                              struct {
		Count *int
		Model string
	}
	MemorySummary             struct{ TotalSystemMemoryGiB *float64 }
	Boot                      boot
	SerialConsole             redfish.HostSerialConsole
	LogServices, VirtualMedia link
	Storage                   link
	Links                     struct{ ManagedBy []link }
	Actions                   struct {
		Reset resetAction `json:"#ComputerSystem.Reset"`
	}
}

// A resetAction is a reset with the kinds that are offered; none: it does not say.
type resetAction struct {
	action
	Types []string `json:"ResetType@Redfish.AllowableValues"`
	Info  string   `json:"@Redfish.ActionInfo"`
}

// kinds are the values of ResetType. A service may list them in an ActionInfo
// resource instead.
func (c *client) kinds(a resetAction) ([]string, error) {
	if a.Types != nil || a.Info == "" {
		return a.Types, nil
	}
	var info struct {
		Parameters []struct {
			Name            string
			AllowableValues []string
		}
	}
	if _, err := c.read(a.Info, &info); err != nil {
		return nil, err
	}
	for _, p := range info.Parameters {
		if p.Name == "ResetType" {
			return p.AllowableValues, nil
		}
	}
	return nil, nil
}

// A manager is the BMC itself.
type manager struct {
	URI                                 string `json:"@odata.id"`
	ID                                  string `json:"Id"`
	Name, Model, FirmwareVersion        string
	DateTime, DateTimeLocalOffset       string
	Status                              common.Status
	EthernetInterfaces, NetworkProtocol link
	LogServices, VirtualMedia           link
	Actions                             struct {
		Reset           resetAction `json:"#Manager.Reset"`
		ResetToDefaults resetAction `json:"#Manager.ResetToDefaults"`
	}
}

// system finds the system that is meant: the only one, or the one of -system.
func (p *program) system(c *client) (*system, error) {
	r, err := c.root()
	if err != nil {
		return nil, err
	}
	all, err := members[system](c, r.Systems.URI)
	if err != nil {
		return nil, fmt.Errorf("systems: %w", err)
	}
	var ids []string
	for i, s := range all {
		if s.ID == p.global.system || p.global.system == "" && len(all) == 1 {
			return &all[i], nil
		}
		ids = append(ids, s.ID)
	}
	if p.global.system == "" && len(all) > 1 {
		return nil, usagef("the service has several systems: want -system with one of %s", strings.Join(ids, ", "))
	}
	if p.global.system == "" {
		return nil, fmt.Errorf("systems: the service has none: %w", errUnsupported)
	}
	return nil, usagef("there is no system %q, only %s", p.global.system, strings.Join(ids, ", "))
}

// manager finds the BMC that manages the system, or the first.
func (p *program) manager(c *client) (*manager, error) {
	r, err := c.root()
	if err != nil {
		return nil, err
	}
	if p.global.system != "" {
		s, err := p.system(c)
		if err != nil {
			return nil, err
		}
		if len(s.Links.ManagedBy) > 0 {
			var m manager
			_, err := c.read(s.Links.ManagedBy[0].URI, &m)
			return &m, err
		}
	}
	all, err := members[manager](c, r.Managers.URI)
	if err != nil {
		return nil, fmt.Errorf("managers: %w", err)
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("managers: the service has none: %w", errUnsupported)
	}
	return &all[0], nil
}

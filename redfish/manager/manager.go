// Package manager is Redfish's view of the board that manages the host: Manager
// and what belongs to it, its network and the protocols that it speaks.
package manager

import (
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/nitrino/nitrino/host"
	"github.com/nitrino/nitrino/redfish/message"
	"github.com/nitrino/nitrino/redfish/resource"
)

// Options are what New needs. Clock, Network, Services, Lifecycle and Log are
// required.
type Options struct {
	// UUID is the board's own, ServiceUUID the one that ServiceRoot shows; empty
	// ones are left out.
	UUID, ServiceUUID string
	// FirmwareVersion is the software's. Identity is the board's; what is empty
	// of it is not shown.
	FirmwareVersion string
	Identity        host.Identity
	// Started is when the software came up last; zero: unknown.
	Started time.Time
	// Healthy answers whether all services work; nil: they do.
	Healthy func() bool

	Clock     Clock
	Network   Network
	Services  Services
	NTP       NTP // nil: the clock is not the board's to keep
	Lifecycle Lifecycle

	// Console and Graphics are the ways to the host's serial console and screen,
	// and Shell to the board's own commands; nil: there is none.
	Console, Graphics, Shell func() Access

	// Of these resources the manager has a link: System, Chassis, the collections
	// LogServices and VirtualMedia, the Firmware among the software inventory, and
	// the Certificates of HTTPS.
	System, Chassis, LogServices, VirtualMedia, Firmware, Certificates bool

	Log *slog.Logger
}

// ErrKept is what Clock's Set answers while time servers keep the clock.
var ErrKept = errors.New("the clock is kept by time servers")

// A Clock is the board's, which is in UTC.
type Clock interface {
	Now() time.Time
	// Set answers ErrKept, host.ErrInvalid for a time that cannot be, and
	// errors.ErrUnsupported where the clock is not the board's to set.
	Set(t time.Time, from host.Origin) error
}

// An Access is a way in that several may use at once.
type Access struct {
	Enabled     bool
	MaxSessions int
	// Types are Redfish's words for how: "SSH", "IPMI", "KVMIP".
	Types []string
}

// Manager is the chapter.
type Manager struct {
	opt Options
	log *slog.Logger
	// todo is the reset that waits for its answer to be out.
	todo chan func()
}

// New makes it.
func New(o Options) *Manager {
	return &Manager{opt: o, log: o.Log, todo: make(chan func(), 1)}
}

// managerType is the newest version in which nothing that is shown is deprecated:
// SerialConsole and VirtualMedia are since 1.10, where the System has them too, but
// clients look for them here.
const (
	collectionType = "ManagerCollection.ManagerCollection"
	managerType    = "Manager.v1_9_8.Manager"
)

// Routes are the chapter's.
func (m *Manager) Routes() []resource.Route {
	return []resource.Route{
		{Pattern: resource.ManagersURI, Type: collectionType, Get: m.getManagers},
		{Pattern: resource.ManagerURI, Type: managerType, Get: m.getManager, Patch: m.patchManager},
		{Pattern: resetURI, Type: managerType, Action: resetName, Post: m.postReset},
		{Pattern: defaultsURI, Type: managerType, Action: defaultsName, Post: m.postDefaults},
		{Pattern: resource.EthernetInterfacesURI, Type: interfacesType, Under: "Manager", Get: m.getInterfaces},
		{Pattern: resource.EthernetInterfacesURI + "/{id}", Type: interfaceType, Under: "Manager", Get: m.getInterface, Patch: m.patchInterface},
		{Pattern: resource.NetworkProtocolURI, Type: protocolType, Get: m.getProtocol, Patch: m.patchProtocol},
	}
}

type manager struct {
	resource.OData
	ManagerType           string          `json:"ManagerType"`
	UUID                  string          `json:"UUID,omitempty"`
	ServiceEntryPointUUID string          `json:"ServiceEntryPointUUID,omitempty"`
	FirmwareVersion       string          `json:"FirmwareVersion,omitempty"`
	Manufacturer          string          `json:"Manufacturer,omitempty"`
	Model                 string          `json:"Model,omitempty"`
	SerialNumber          string          `json:"SerialNumber,omitempty"`
	PowerState            string          `json:"PowerState"`
	Status                resource.Status `json:"Status"`
	LastResetTime         string          `json:"LastResetTime,omitempty"`
	DateTime              string          `json:"DateTime,omitempty"`
	DateTimeLocalOffset   string          `json:"DateTimeLocalOffset"`
	SerialConsole         *access         `json:"SerialConsole,omitempty"`
	GraphicalConsole      *access         `json:"GraphicalConsole,omitempty"`
	CommandShell          *access         `json:"CommandShell,omitempty"`
	EthernetInterfaces    resource.Link   `json:"EthernetInterfaces"`
	NetworkProtocol       resource.Link   `json:"NetworkProtocol"`
	LogServices           *resource.Link  `json:"LogServices,omitempty"`
	VirtualMedia          *resource.Link  `json:"VirtualMedia,omitempty"`
	Links                 managerLinks    `json:"Links"`
	Actions               managerActions  `json:"Actions"`
}

// Settled implements resource.Settled.
func (m manager) Settled() resource.Typed {
	m.DateTime = ""
	return m
}

type managerLinks struct {
	ManagerForServers   []resource.Link `json:"ManagerForServers,omitempty"`
	ManagerForChassis   []resource.Link `json:"ManagerForChassis,omitempty"`
	ManagerInChassis    *resource.Link  `json:"ManagerInChassis,omitempty"`
	SoftwareImages      []resource.Link `json:"SoftwareImages,omitempty"`
	ActiveSoftwareImage *resource.Link  `json:"ActiveSoftwareImage,omitempty"`
}

// access is SerialConsole, GraphicalConsole or CommandShell. They are switched by
// ManagerNetworkProtocol, where the protocols are.
type access struct {
	ServiceEnabled        bool     `json:"ServiceEnabled"`
	MaxConcurrentSessions int      `json:"MaxConcurrentSessions"`
	ConnectTypesSupported []string `json:"ConnectTypesSupported"`
}

func newAccess(f func() Access) *access {
	if f == nil {
		return nil
	}
	a := f()
	return &access{a.Enabled, a.MaxSessions, a.Types}
}

func (m *Manager) getManagers(*resource.Request) *resource.Reply {
	return resource.OK(resource.NewCollection(resource.ManagersURI, "ManagerCollection", "Manager Collection", resource.ManagerURI))
}

// utc is the board's only offset.
const utc = "+00:00"

func (m *Manager) getManager(*resource.Request) *resource.Reply {
	o := m.opt
	r := manager{
		OData:                 resource.NewOData(resource.ManagerURI, managerType, "Manager"),
		ManagerType:           "BMC",
		UUID:                  o.UUID,
		ServiceEntryPointUUID: o.ServiceUUID,
		FirmwareVersion:       o.FirmwareVersion,
		Manufacturer:          o.Identity.Manufacturer,
		Model:                 o.Identity.Model,
		SerialNumber:          o.Identity.Serial,
		PowerState:            "On", // or it would not answer
		Status:                m.status(),
		DateTime:              o.Clock.Now().UTC().Format(time.RFC3339),
		DateTimeLocalOffset:   utc,
		SerialConsole:         newAccess(o.Console),
		GraphicalConsole:      newAccess(o.Graphics),
		CommandShell:          newAccess(o.Shell),
		EthernetInterfaces:    resource.Link{ODataID: resource.EthernetInterfacesURI},
		NetworkProtocol:       resource.Link{ODataID: resource.NetworkProtocolURI},
		LogServices:           link(o.LogServices, resource.ManagerLogServicesURI),
		VirtualMedia:          link(o.VirtualMedia, resource.ManagerVirtualMediaURI),
		Actions:               newManagerActions(),
	}
	if !o.Started.IsZero() {
		r.LastResetTime = o.Started.UTC().Format(time.RFC3339)
	}
	if o.System {
		r.Links.ManagerForServers = resource.Links(resource.SystemURI)
	}
	if o.Chassis {
		r.Links.ManagerForChassis = resource.Links(resource.ChassisURI)
	}
	r.Links.ManagerInChassis = link(o.Chassis, resource.ChassisURI)
	if o.Firmware {
		r.Links.SoftwareImages = resource.Links(resource.FirmwareURI)
	}
	r.Links.ActiveSoftwareImage = link(o.Firmware, resource.FirmwareURI)
	return resource.OK(r)
}

func (m *Manager) status() resource.Status {
	s := resource.Enabled()
	if m.opt.Healthy != nil && !m.opt.Healthy() {
		s.Health = "Warning"
	}
	return s
}

// link is one to what there is, or nil.
func link(there bool, uri string) *resource.Link {
	if !there {
		return nil
	}
	return &resource.Link{ODataID: uri}
}

func (m *Manager) patchManager(q *resource.Request) *resource.Reply {
	return resource.Patch(q, m.getManager,
		resource.String("DateTime", func(text string) []message.Message { return m.setTime(text, q.Origin()) }),
		// A client that sends back what it read asks for nothing.
		resource.Enum("DateTimeLocalOffset", []string{utc}, func(string) []message.Message { return nil }),
	)
}

func (m *Manager) setTime(text string, from host.Origin) []message.Message {
	const name = "DateTime"
	t, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return []message.Message{message.PropertyValueFormatError(text, name)}
	}
	switch err := m.opt.Clock.Set(t, from); {
	case err == nil:
		return nil
	case errors.Is(err, errors.ErrUnsupported):
		return []message.Message{message.PropertyNotWritable(name)}
	case errors.Is(err, ErrKept):
		p := message.PropertyValueExternalConflict(name, text)
		p.Resolution = fmt.Sprintf("Time servers keep the clock. To set it by hand, first set NTP.ProtocolEnabled of %s to false.", resource.NetworkProtocolURI)
		return []message.Message{p}
	case errors.Is(err, host.ErrInvalid):
		return []message.Message{message.PropertyValueOutOfRange(text, name)}
	default:
		return m.notUpdated(name, err)
	}
}

// notUpdated logs why a property could not be written.
func (m *Manager) notUpdated(name string, err error) []message.Message {
	m.log.Error("property not updated", "property", name, "error", err)
	return []message.Message{message.PropertyNotUpdated(name).About(message.Pointer(name))}
}

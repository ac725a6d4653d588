// Package system is Redfish's view of the managed host: ComputerSystem and what
// belongs to it.
package system

import (
	"errors"
	"log/slog"
	"slices"

	"github.com/nitrino/nitrino/host"
	"github.com/nitrino/nitrino/redfish/machine"
	"github.com/nitrino/nitrino/redfish/message"
	"github.com/nitrino/nitrino/redfish/resource"
)

// Options are what New needs. Host and Log are required; without the others
// there is less to show.
type Options struct {
	Host *host.Host
	Log  *slog.Logger
	// Hardware is what is known of the host's machine.
	Hardware *host.Hardware
	// SerialConsole says how the serial console is reached now, GraphicalConsole
	// likewise; nil: there is none.
	SerialConsole    func() SerialConsole
	GraphicalConsole func() GraphicalConsole
	// Chassis, Manager, LogServices, VirtualMedia and Storage: these resources are there,
	// with the URIs that package resource has for them.
	Chassis, Manager, LogServices, VirtualMedia, Storage bool
}

// System is the chapter.
type System struct {
	Options
	uuid     string
	resets   *resetAction // nil: no wire for any reset
	restarts restarts
}

// New makes it.
func New(o Options) *System {
	return &System{Options: o, resets: newResetAction(o.Host.Power.Supports), restarts: restarts{events: o.Host.Events},
		uuid: resource.UUID(o.Host.UUID)}
}

const (
	collectionType = "ComputerSystemCollection.ComputerSystemCollection"
	systemType     = "ComputerSystem.v1_27_0.ComputerSystem"
	resetName      = "ComputerSystem.Reset"
	resetURI       = resource.SystemURI + "/Actions/" + resetName
)

// Routes are the chapter's.
func (s *System) Routes() []resource.Route {
	all := []resource.Route{
		{Pattern: resource.SystemsURI, Type: collectionType, Get: s.getSystems},
		{Pattern: resource.SystemURI, Type: systemType, Get: s.getSystem, Patch: s.patchSystem},
	}
	if s.resets != nil {
		all = append(all, resource.Route{Pattern: resetURI, Type: systemType, Action: resetName, Post: s.postReset})
	}
	return all
}

type computerSystem struct {
	resource.OData
	SystemType              string            `json:"SystemType"`
	Manufacturer            *string           `json:"Manufacturer,omitempty"`
	Model                   *string           `json:"Model,omitempty"`
	PartNumber              *string           `json:"PartNumber,omitempty"`
	SerialNumber            *string           `json:"SerialNumber,omitempty"`
	AssetTag                *string           `json:"AssetTag"` // null: it cannot be read
	UUID                    string            `json:"UUID"`
	BIOSVersion             *string           `json:"BiosVersion,omitempty"`
	ProcessorSummary        *processorSummary `json:"ProcessorSummary,omitempty"`
	MemorySummary           memorySummary     `json:"MemorySummary"`
	PowerState              *string           `json:"PowerState"` // null: no wire tells
	Status                  resource.Status   `json:"Status"`
	LastResetCause          string            `json:"LastResetCause,omitempty"`
	LastResetTime           string            `json:"LastResetTime,omitempty"`
	PowerRestorePolicy      string            `json:"PowerRestorePolicy,omitempty"`
	LocationIndicatorActive *bool             `json:"LocationIndicatorActive,omitempty"`
	// IndicatorLED is the same light; the schema has deprecated it, and OpenStack
	// Ironic's profile asks for it.
	IndicatorLED      string            `json:"IndicatorLED,omitempty"`
	Boot              *boot             `json:"Boot,omitempty"`
	HostWatchdogTimer watchdogTimer     `json:"HostWatchdogTimer"`
	SerialConsole     *serialConsole    `json:"SerialConsole,omitempty"`
	GraphicalConsole  *graphicalConsole `json:"GraphicalConsole,omitempty"`
	LogServices       *resource.Link    `json:"LogServices,omitempty"`
	VirtualMedia      *resource.Link    `json:"VirtualMedia,omitempty"`
	Storage           *resource.Link    `json:"Storage,omitempty"`
	Links             systemLinks       `json:"Links"`
	Actions           *systemActions    `json:"Actions,omitempty"`
}

// A processorSummary leaves out what is not known.
type processorSummary struct {
	Model                 *string `json:"Model,omitempty"`
	Count                 int     `json:"Count,omitempty"`
	CoreCount             int     `json:"CoreCount,omitempty"`
	LogicalProcessorCount int     `json:"LogicalProcessorCount,omitempty"`
}

type memorySummary struct {
	TotalSystemMemoryGiB *float64 `json:"TotalSystemMemoryGiB"` // null: nobody knows
}

type systemLinks struct {
	Chassis   []resource.Link `json:"Chassis,omitempty"`
	ManagedBy []resource.Link `json:"ManagedBy,omitempty"`
}

type systemActions struct {
	Reset *resetAction `json:"#ComputerSystem.Reset"`
}

func (s *System) getSystems(*resource.Request) *resource.Reply {
	return resource.OK(resource.NewCollection(resource.SystemsURI, "ComputerSystemCollection", "Computer System Collection", resource.SystemURI))
}

func (s *System) getSystem(*resource.Request) *resource.Reply {
	now, facts := s.Host.Power.Status(), machine.Look(s.Host.Inventory, s.Hardware)
	r := computerSystem{
		OData:             resource.NewOData(resource.SystemURI, systemType, "System"),
		SystemType:        "Physical",
		Manufacturer:      machine.Known(facts.Manufacturer),
		Model:             machine.Known(facts.Model),
		PartNumber:        machine.Known(facts.PartNumber),
		SerialNumber:      machine.Known(facts.Serial),
		AssetTag:          facts.AssetTag,
		UUID:              s.uuid,
		PowerState:        machine.PowerState(now.State),
		Status:            systemStatus(now),
		LastResetCause:    resetCause(now.RestartCause),
		LastResetTime:     s.restarts.last(),
		HostWatchdogTimer: newWatchdogTimer(s.Host.Watchdog.Status()),
	}
	if hw := s.Hardware; hw != nil {
		r.BIOSVersion = machine.Known(hw.BIOSVersion)
		if sum := (processorSummary{machine.Known(hw.ProcessorModel), hw.ProcessorCount, hw.CoreCount, hw.ThreadCount}); sum != (processorSummary{}) {
			r.ProcessorSummary = &sum
		}
		if hw.MemoryBytes > 0 {
			r.MemorySummary.TotalSystemMemoryGiB = new(float64(hw.MemoryBytes) / (1 << 30))
		}
	}
	if s.canRestore() {
		r.PowerRestorePolicy = restorePolicy(now.Restore)
	}
	if s.Host.Identify != nil {
		r.LocationIndicatorActive, r.IndicatorLED = machine.Indicators(s.Host.Identify)
	}
	if s.Host.Boot != nil {
		r.Boot = newBoot(s.Host.Boot.Targets(), s.Host.Boot.Get())
	}
	if s.SerialConsole != nil {
		r.SerialConsole = newSerialConsole(s.SerialConsole())
	}
	if s.GraphicalConsole != nil {
		r.GraphicalConsole = newGraphicalConsole(s.GraphicalConsole())
	}
	if s.LogServices {
		r.LogServices = &resource.Link{ODataID: resource.SystemLogServicesURI}
	}
	if s.VirtualMedia {
		r.VirtualMedia = &resource.Link{ODataID: resource.SystemVirtualMediaURI}
	}
	if s.Storage {
		r.Storage = &resource.Link{ODataID: resource.SystemStorageURI}
	}
	if s.Chassis {
		r.Links.Chassis = resource.Links(resource.ChassisURI)
	}
	if s.Manager {
		r.Links.ManagedBy = resource.Links(resource.ManagerURI)
	}
	if s.resets != nil {
		r.Actions = &systemActions{s.resets}
	}
	return resource.OK(r)
}

// canRestore: without a wire that switches on there is no policy to have.
func (s *System) canRestore() bool { return s.Host.Power.Supports(host.PowerOn) }

func (s *System) patchSystem(q *resource.Request) *resource.Reply {
	writable := []resource.Property{machine.AssetTag(s.Host, q.Origin(), func(err error) { s.notUpdated("AssetTag", err) })}
	if s.canRestore() {
		policies := []string{restorePolicy(host.AlwaysOff), restorePolicy(host.AlwaysOn), restorePolicy(host.LastState)}
		writable = append(writable, resource.Enum("PowerRestorePolicy", policies, func(text string) []message.Message { return s.setRestorePolicy(text, q.Origin()) }))
	}
	if s.Host.Identify != nil {
		failed := func(err error) { s.notUpdated("LocationIndicatorActive", err) }
		writable = append(writable, machine.LocationIndicator(s.Host.Identify, q.Origin(), failed), machine.IndicatorLED(s.Host.Identify, q.Origin(), failed))
	}
	if s.Host.Boot != nil {
		writable = append(writable, resource.Property{Name: "Boot", Set: func(v any) (bool, []message.Message) { return s.setBoot(v, q.Origin()) }})
	}
	return resource.Patch(q, s.getSystem, writable...)
}

func (s *System) setRestorePolicy(text string, o host.Origin) []message.Message {
	for _, p := range []host.RestorePolicy{host.AlwaysOff, host.AlwaysOn, host.LastState} {
		if restorePolicy(p) != text {
			continue
		}
		if err := s.Host.Power.SetRestorePolicy(p, o); err != nil {
			return []message.Message{s.notUpdated("PowerRestorePolicy", err)}
		}
	}
	return nil
}

// A resetAction describes the action #ComputerSystem.Reset.
type resetAction struct {
	Target string   `json:"target"`
	Types  []string `json:"ResetType@Redfish.AllowableValues"`
}

// A resetType is a value of Resource.ResetType and what it asks of the host.
type resetType struct {
	name   string
	action host.Action
	endsOn bool // the host runs in the end
}

func resetTypes() []resetType {
	return []resetType{
		{"On", host.PowerOn, true},
		{"ForceOff", host.ForceOff, false},
		{"GracefulShutdown", host.GracefulOff, false},
		{"GracefulRestart", host.GracefulRestart, true},
		{"ForceRestart", host.Reset, true},
		{"PowerCycle", host.Cycle, true},
		{"Nmi", host.NMI, false},
		{"PushPowerButton", host.PressButton, false},
	}
}

// newResetAction offers what the wires can do; nil: nothing.
func newResetAction(supports func(host.Action) bool) *resetAction {
	a := &resetAction{Target: resetURI}
	for _, t := range resetTypes() {
		if supports(t.action) {
			a.Types = append(a.Types, t.name)
		}
	}
	if a.Types == nil {
		return nil
	}
	return a
}

// postReset answers when the request has begun: its outcome is told by
// PowerState and the event log. The schema lets a service choose a reset where
// ResetType is missing; this one does not guess.
func (s *System) postReset(q *resource.Request) *resource.Reply {
	var text string
	if problems := q.Parameters(resetName, resource.Required(resource.Word("ResetType", s.resets.Types, &text))); problems != nil {
		return resource.Fail(problems...)
	}
	all := resetTypes()
	chosen := all[slices.IndexFunc(all, func(t resetType) bool { return t.name == text })]
	op, err := s.Host.Power.Request(chosen.action, host.CauseCommand, q.Origin())
	if errors.Is(err, host.ErrNoPower) && chosen.endsOn && s.Host.Power.Supports(host.PowerOn) {
		// It is to run in the end, and its off part is done: clients that restart a
		// host mean this, and DMTF's own use cases want it.
		op, err = s.Host.Power.Request(host.PowerOn, host.CauseCommand, q.Origin())
	}
	if err == nil {
		select {
		case <-op.Done():
			err = op.Err()
		default:
		}
	}
	if errors.Is(err, errors.ErrUnsupported) {
		return resource.Fail(message.ActionParameterValueNotInList(text, "ResetType", resetName).About(message.Pointer("ResetType")))
	}
	if err != nil {
		return resource.Fail(s.powerProblem(err))
	}
	return resource.NoContent()
}

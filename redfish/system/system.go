// Package system is Redfish's view of the managed host: ComputerSystem and what
// belongs to it.
package system

import (
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/nitrino/nitrino/host"
	"github.com/nitrino/nitrino/redfish/message"
	"github.com/nitrino/nitrino/redfish/resource"
)

// Options are what New needs; all are required.
type Options struct {
	Host *host.Host
	Log  *slog.Logger
}

// System is the chapter.
type System struct {
	host   *host.Host
	log    *slog.Logger
	uuid   string
	resets *resetAction // nil: no wire for any reset
}

// New makes it.
func New(o Options) *System {
	u := o.Host.UUID
	return &System{host: o.Host, log: o.Log, resets: newResetAction(o.Host.Power.Supports),
		uuid: fmt.Sprintf("%x-%x-%x-%x-%x", u[0:4], u[4:6], u[6:8], u[8:10], u[10:])} // RFC 4122 section 3
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
	SystemType              string          `json:"SystemType"`
	UUID                    string          `json:"UUID"`
	PowerState              *string         `json:"PowerState"` // null: no wire tells
	Status                  resource.Status `json:"Status"`
	LastResetCause          string          `json:"LastResetCause,omitempty"`
	PowerRestorePolicy      string          `json:"PowerRestorePolicy,omitempty"`
	LocationIndicatorActive *bool           `json:"LocationIndicatorActive,omitempty"`
	Boot                    *boot           `json:"Boot,omitempty"`
	Actions                 *systemActions  `json:"Actions,omitempty"`
}

type systemActions struct {
	Reset *resetAction `json:"#ComputerSystem.Reset"`
}

func (s *System) getSystems(*resource.Request) *resource.Reply {
	return resource.OK(resource.NewCollection(resource.SystemsURI, "ComputerSystemCollection", "Computer System Collection", resource.SystemURI))
}

func (s *System) getSystem(*resource.Request) *resource.Reply {
	now := s.host.Power.Status()
	r := computerSystem{
		OData:          resource.NewOData(resource.SystemURI, systemType, "System"),
		SystemType:     "Physical",
		UUID:           s.uuid,
		PowerState:     powerState(now.State),
		Status:         systemStatus(now),
		LastResetCause: resetCause(now.RestartCause),
	}
	if s.canRestore() {
		r.PowerRestorePolicy = restorePolicy(now.Restore)
	}
	if s.host.Identify != nil {
		r.LocationIndicatorActive = new(s.host.Identify.On())
	}
	if s.host.Boot != nil {
		r.Boot = newBoot(s.host.Boot.Targets(), s.host.Boot.Get())
	}
	if s.resets != nil {
		r.Actions = &systemActions{s.resets}
	}
	return resource.OK(r)
}

// canRestore: without a wire that switches on there is no policy to have.
func (s *System) canRestore() bool { return s.host.Power.Supports(host.PowerOn) }

func (s *System) patchSystem(q *resource.Request) *resource.Reply {
	var writable []resource.Property
	if s.canRestore() {
		policies := []string{restorePolicy(host.AlwaysOff), restorePolicy(host.AlwaysOn), restorePolicy(host.LastState)}
		writable = append(writable, resource.Enum("PowerRestorePolicy", policies, func(text string) []message.Message { return s.setRestorePolicy(text, q.Origin()) }))
	}
	if s.host.Identify != nil {
		writable = append(writable, resource.Bool("LocationIndicatorActive", func(on bool) []message.Message { return s.setLocationIndicator(on, q.Origin()) }))
	}
	if s.host.Boot != nil {
		writable = append(writable, resource.Property{Name: "Boot", Set: func(v any) (bool, []message.Message) { return s.setBoot(v, q.Origin()) }})
	}
	return resource.Patch(q, s.getSystem, writable...)
}

func (s *System) setRestorePolicy(text string, o host.Origin) []message.Message {
	for _, p := range []host.RestorePolicy{host.AlwaysOff, host.AlwaysOn, host.LastState} {
		if restorePolicy(p) != text {
			continue
		}
		if err := s.host.Power.SetRestorePolicy(p, o); err != nil {
			return []message.Message{s.notUpdated("PowerRestorePolicy", err)}
		}
	}
	return nil
}

func (s *System) setLocationIndicator(on bool, o host.Origin) []message.Message {
	d := time.Duration(0)
	if on {
		d = -1 // until it is switched off
	}
	if err := s.host.Identify.Set(d, o); err != nil {
		return []message.Message{s.notUpdated("LocationIndicatorActive", err)}
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
}

func resetTypes() []resetType {
	return []resetType{
		{"On", host.PowerOn},
		{"ForceOff", host.ForceOff},
		{"GracefulShutdown", host.GracefulOff},
		{"GracefulRestart", host.GracefulRestart},
		{"ForceRestart", host.Reset},
		{"PowerCycle", host.Cycle},
		{"Nmi", host.NMI},
		{"PushPowerButton", host.PressButton},
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
	op, err := s.host.Power.Request(chosen.action, host.CauseCommand, q.Origin())
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

package redfish

import (
	"errors"
	"slices"
	"time"

	"github.com/nitrino/nitrino/host"
)

const (
	computerSystemSchema = "ComputerSystem.v1_27_0"
	computerSystemType   = "#" + computerSystemSchema + ".ComputerSystem"
)

type computerSystem struct {
	odata
	ID                      string         `json:"Id"`
	SystemType              string         `json:"SystemType"`
	UUID                    string         `json:"UUID"`
	PowerState              *string        `json:"PowerState"` // null: no wire tells
	Status                  status         `json:"Status"`
	LastResetCause          string         `json:"LastResetCause,omitempty"`
	PowerRestorePolicy      string         `json:"PowerRestorePolicy,omitempty"`
	LocationIndicatorActive *bool          `json:"LocationIndicatorActive,omitempty"`
	Boot                    *boot          `json:"Boot,omitempty"`
	Actions                 *systemActions `json:"Actions,omitempty"`
}

type systemActions struct {
	Reset *resetAction `json:"#ComputerSystem.Reset"`
}

func (s *Service) getSystems(*request) *reply {
	return ok(newCollection(systemsURI, "ComputerSystemCollection", "Computer System Collection", systemURI))
}

func (s *Service) getSystem(*request) *reply {
	now := s.host.Power.Status()
	r := computerSystem{
		odata:          odata{systemURI, computerSystemType, "System"},
		ID:             "system",
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
	return ok(r)
}

// canRestore: without a wire that switches on there is no policy to have.
func (s *Service) canRestore() bool { return s.host.Power.Supports(host.PowerOn) }

func (s *Service) patchSystem(q *request) *reply {
	var writable []property
	if s.canRestore() {
		writable = append(writable, property{"PowerRestorePolicy", func(v any) (bool, []message) { return s.setRestorePolicy(v, q.origin()) }})
	}
	if s.host.Identify != nil {
		writable = append(writable, property{"LocationIndicatorActive", func(v any) (bool, []message) { return s.setLocationIndicator(v, q.origin()) }})
	}
	if s.host.Boot != nil {
		writable = append(writable, property{"Boot", func(v any) (bool, []message) { return s.setBoot(v, q.origin()) }})
	}
	return s.patch(q, s.getSystem, writable)
}

func (s *Service) setRestorePolicy(value any, o host.Origin) (bool, []message) {
	const name = "PowerRestorePolicy"
	text, isString := value.(string)
	if !isString {
		return false, []message{propertyValueTypeError(value, name).about(pointer(name))}
	}
	for _, p := range []host.RestorePolicy{host.AlwaysOff, host.AlwaysOn, host.LastState} {
		if restorePolicy(p) != text {
			continue
		}
		if err := s.host.Power.SetRestorePolicy(p, o); err != nil {
			return false, []message{s.notUpdated(name, err)}
		}
		return true, nil
	}
	return false, []message{propertyValueNotInList(value, name).about(pointer(name))}
}

func (s *Service) setLocationIndicator(value any, o host.Origin) (bool, []message) {
	const name = "LocationIndicatorActive"
	on, isBool := value.(bool)
	if !isBool {
		return false, []message{propertyValueTypeError(value, name).about(pointer(name))}
	}
	d := time.Duration(0)
	if on {
		d = -1 // until it is switched off
	}
	if err := s.host.Identify.Set(d, o); err != nil {
		return false, []message{s.notUpdated(name, err)}
	}
	return true, nil
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
func (s *Service) postReset(q *request) *reply {
	const name = "ResetType"
	action := actionOf(resetURI)
	var value any
	given := false
	var problems []message
	for _, m := range q.body {
		switch {
		case m.name == name:
			value, given = m.value, true
		case !ignored(m.name):
			problems = append(problems, actionParameterUnknown(action, m.name).about(pointer(m.name)))
		}
	}
	text, isString := value.(string)
	switch {
	case !given:
		problems = append(problems, actionParameterMissing(action, name).about(pointer(name)))
	case !isString:
		problems = append(problems, actionParameterValueTypeError(value, name, action).about(pointer(name)))
	case !slices.Contains(s.resets.Types, text):
		problems = append(problems, actionParameterValueNotInList(value, name, action).about(pointer(name)))
	}
	if problems != nil {
		return fail(problems...)
	}
	all := resetTypes()
	chosen := all[slices.IndexFunc(all, func(t resetType) bool { return t.name == text })]
	op, err := s.host.Power.Request(chosen.action, host.CauseCommand, q.origin())
	if err == nil {
		select {
		case <-op.Done():
			err = op.Err()
		default:
		}
	}
	if errors.Is(err, errors.ErrUnsupported) {
		return fail(actionParameterValueNotInList(value, name, action).about(pointer(name)))
	}
	if err != nil {
		return fail(s.powerProblem(err))
	}
	return noContent()
}

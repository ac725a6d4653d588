package manager

import (
	"context"
	"time"

	"github.com/nitrino/nitrino/host"
	"github.com/nitrino/nitrino/redfish/message"
	"github.com/nitrino/nitrino/redfish/resource"
)

// A Lifecycle starts the board's software anew. Neither of its methods touches
// the host.
type Lifecycle interface {
	// Reset ends what runs and starts it again.
	Reset(from host.Origin)
	// ToDefaults has the next start reset what scope says; nil: it will happen,
	// even if the power fails before. Reset is called afterwards.
	ToDefaults(scope Scope, from host.Origin) error
}

// A Scope says what a reset to defaults takes: a Manager.ResetToDefaultsType.
type Scope string

// The scopes.
const (
	ResetAll                Scope = "ResetAll"
	PreserveNetwork         Scope = "PreserveNetwork"
	PreserveNetworkAndUsers Scope = "PreserveNetworkAndUsers"
)

const (
	resetName    = "Manager.Reset"
	resetURI     = resource.ManagerURI + "/Actions/" + resetName
	defaultsName = "Manager.ResetToDefaults"
	defaultsURI  = resource.ManagerURI + "/Actions/" + defaultsName
)

// grace is how long an answer has to get out before the software ends (DSP0268,
// Manager.Reset: the answer comes before the reset).
const grace = time.Second

// resetTypes: the software always ends in order, so that both mean the same.
func resetTypes() []string { return []string{"ForceRestart", "GracefulRestart"} }

func scopes() []string {
	return []string{string(ResetAll), string(PreserveNetwork), string(PreserveNetworkAndUsers)}
}

type managerActions struct {
	Reset           typedAction `json:"#Manager.Reset"`
	ResetToDefaults typedAction `json:"#Manager.ResetToDefaults"`
}

// A typedAction describes one that takes a ResetType.
type typedAction struct {
	Target string   `json:"target"`
	Types  []string `json:"ResetType@Redfish.AllowableValues"`
}

func newManagerActions() managerActions {
	return managerActions{typedAction{resetURI, resetTypes()}, typedAction{defaultsURI, scopes()}}
}

// postReset takes a request without ResetType, as the schema allows: there is but
// one kind of reset.
func (m *Manager) postReset(q *resource.Request) *resource.Reply {
	var kind string
	if problems := q.Parameters(resetName, resource.Word("ResetType", resetTypes(), &kind)); problems != nil {
		return resource.Fail(problems...)
	}
	m.resetSoon(q.Origin())
	return resource.NoContent()
}

func (m *Manager) postDefaults(q *resource.Request) *resource.Reply {
	var scope string
	if problems := q.Parameters(defaultsName, resource.Required(resource.Word("ResetType", scopes(), &scope))); problems != nil {
		return resource.Fail(problems...)
	}
	if err := m.opt.Lifecycle.ToDefaults(Scope(scope), q.Origin()); err != nil {
		m.log.Error("no reset to defaults", "error", err)
		return resource.Fail(message.InternalError())
	}
	m.resetSoon(q.Origin())
	return resource.NoContent()
}

// resetSoon has Run reset the software.
func (m *Manager) resetSoon(from host.Origin) {
	select {
	case m.todo <- func() { m.opt.Lifecycle.Reset(from) }:
	default: // it is about to
	}
}

// Run resets the software when that was asked for and the answer has had time to
// get out, until ctx ends.
func (m *Manager) Run(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case reset := <-m.todo:
			select {
			case <-ctx.Done():
				return ctx.Err() // what was to end ends
			case <-time.After(grace):
				reset()
			}
		}
	}
}

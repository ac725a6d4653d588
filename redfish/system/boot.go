package system

import (
	"encoding/json"
	"errors"
	"slices"

	"github.com/nitrino/nitrino/host"
	"github.com/nitrino/nitrino/redfish/message"
	"github.com/nitrino/nitrino/redfish/resource"
)

// boot is ComputerSystem.Boot: the boot override.
type boot struct {
	Enabled  string   `json:"BootSourceOverrideEnabled"`
	Enableds []string `json:"BootSourceOverrideEnabled@Redfish.AllowableValues"`
	Target   string   `json:"BootSourceOverrideTarget"`
	Targets  []string `json:"BootSourceOverrideTarget@Redfish.AllowableValues"`
	Mode     *string  `json:"BootSourceOverrideMode"` // null: the firmware decides
	Modes    []string `json:"BootSourceOverrideMode@Redfish.AllowableValues"`
	Writable []string `json:"@Redfish.WriteableProperties"`
	// HTTP is where UefiHttp boots from, and is there beside that target: null,
	// as it is DHCP that says it.
	HTTP json.RawMessage `json:"HttpBootUri,omitempty"`
}

// The names of what PATCH takes in Boot.
const (
	bootEnabled = "BootSourceOverrideEnabled"
	bootTarget  = "BootSourceOverrideTarget"
	bootMode    = "BootSourceOverrideMode"
	httpBootURI = "HttpBootUri" // only shown
)

func newBoot(targets []host.BootTarget, now host.BootOverride) *boot {
	b := &boot{Enabled: "Once", Enableds: []string{"Disabled", "Once", "Continuous"},
		Target: string(now.Target), Targets: []string{string(host.BootDefault)},
		Modes:    []string{string(host.BootModeLegacy), string(host.BootModeUEFI)},
		Writable: []string{bootEnabled, bootTarget, bootMode}}
	for _, t := range targets {
		b.Targets = append(b.Targets, string(t))
		if t == host.BootUEFIHTTP {
			b.HTTP = json.RawMessage("null")
		}
	}
	switch {
	case now.Target == host.BootDefault || now.Target == "":
		b.Enabled, b.Target = "Disabled", string(host.BootDefault)
	case now.Continuous:
		b.Enabled = "Continuous"
	}
	if now.Mode != host.BootModeDefault {
		b.Mode = new(string(now.Mode))
	}
	return b
}

// setBoot changes the override as a whole: its properties mean something only
// together, so one bad one leaves all as it was.
func (s *System) setBoot(value any, o host.Origin) (bool, []message.Message) {
	given, isObject := value.(resource.Object)
	if !isObject {
		return false, []message.Message{message.PropertyValueTypeError(value, "Boot").About(message.Pointer("Boot"))}
	}
	now := s.Host.Boot.Get()
	shown := newBoot(s.Host.Boot.Targets(), now)
	sent, problems := bootValues(given, shown)
	if problems != nil {
		return false, problems
	}
	want, problems := parseBoot(sent, shown, now)
	if problems != nil {
		return false, problems
	}
	switch err := s.Host.Boot.Set(want, o); {
	case errors.Is(err, errors.ErrUnsupported) && want.Mode != host.BootModeDefault:
		// The target is one that the host offers, so it is the mode.
		return false, []message.Message{message.PropertyValueNotInList(string(want.Mode), bootMode).About(message.Pointer("Boot", bootMode))}
	case errors.Is(err, errors.ErrUnsupported):
		return false, []message.Message{message.PropertyValueNotInList(string(want.Target), bootTarget).About(message.Pointer("Boot", bootTarget))}
	case err != nil:
		return false, []message.Message{s.notUpdated("Boot", err)}
	}
	return true, nil
}

// bootValues reads the properties of Boot that can be written. A mode of null
// is "".
func bootValues(given resource.Object, shown *boot) (sent map[string]string, problems []message.Message) {
	sent = map[string]string{}
	for _, m := range given {
		var values []string
		switch m.Name {
		case bootEnabled:
			values = shown.Enableds
		case bootTarget:
			values = shown.Targets
		case bootMode:
			values = shown.Modes
			if m.Value == nil {
				sent[m.Name] = string(host.BootModeDefault)
				continue
			}
		default:
			switch {
			case resource.Ignored(m.Name), m.Name == httpBootURI && m.Value == nil && shown.HTTP != nil: // as it was read
			case m.Name == httpBootURI && shown.HTTP != nil:
				problems = append(problems, message.PropertyNotWritable(m.Name).About(message.Pointer("Boot", m.Name)))
			default:
				problems = append(problems, message.PropertyUnknown(m.Name).About(message.Pointer("Boot", m.Name)))
			}
			continue
		}
		switch text, isString := m.Value.(string); {
		case !isString:
			problems = append(problems, message.PropertyValueTypeError(m.Value, m.Name).About(message.Pointer("Boot", m.Name)))
		case !slices.Contains(values, text):
			problems = append(problems, message.PropertyValueNotInList(text, m.Name).About(message.Pointer("Boot", m.Name)))
		default:
			sent[m.Name] = text
		}
	}
	return sent, problems
}

// parseBoot tells what a client wants the override to be. What it has not sent
// stays as shown, except where that would be a guess: the host keeps no target
// while the override is disabled, so half of an override is refused.
func parseBoot(sent map[string]string, shown *boot, now host.BootOverride) (host.BootOverride, []message.Message) {
	none := string(host.BootDefault)
	enabled, enabledSent := sent[bootEnabled]
	target, targetSent := sent[bootTarget]
	mode, modeSent := sent[bootMode]
	if modeSent {
		now.Mode = host.BootMode(mode)
	}
	off := host.BootOverride{Target: host.BootDefault, Mode: now.Mode}
	switch {
	case len(sent) == 0:
		return now, []message.Message{message.NoOperation().About(message.Pointer("Boot"))}
	case !enabledSent && !targetSent:
		return now, nil // another mode; its end stays too
	case enabledSent && enabled == "Disabled":
		// A client that sends back what it read means no target by it.
		if targetSent && target != none && target != shown.Target {
			return now, []message.Message{message.PropertyValueConflict(bootTarget, bootEnabled).About(message.Pointer("Boot", bootTarget))}
		}
		return off, nil
	case targetSent && target == none:
		return off, nil
	case !enabledSent && shown.Enabled == "Disabled":
		return now, []message.Message{message.PropertyMissing(bootEnabled).About(message.Pointer("Boot", bootEnabled))}
	case !targetSent && shown.Target == none:
		return now, []message.Message{message.PropertyMissing(bootTarget).About(message.Pointer("Boot", bootTarget))}
	}
	if !enabledSent {
		enabled = shown.Enabled
	}
	if !targetSent {
		target = shown.Target
	}
	return host.BootOverride{Target: host.BootTarget(target), Mode: now.Mode, Continuous: enabled == "Continuous"}, nil
}

package board

import "github.com/nitrino/nitrino/host"

// Places says where in p each wire goes, by its name in the settings.
func Places(p *host.Parts) (outputs map[string]*host.Line, inputs map[string]*host.Sense) {
	outputs = map[string]*host.Line{
		"power_button": &p.PowerButton,
		"reset_button": &p.ResetButton,
		"nmi_button":   &p.NMIButton,
		"id_light":     &p.IDLight,
	}
	inputs = map[string]*host.Sense{
		"power_led":            &p.PowerLED,
		"standby":              &p.Standby,
		"host_reset":           &p.HostReset,
		"power_button_pressed": &p.PowerButtonPressed,
		"reset_button_pressed": &p.ResetButtonPressed,
	}
	return outputs, inputs
}

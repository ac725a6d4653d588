package board

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/nitrino/nitrino/internal/settings"
)

const power = `{"address":64,"chip":"ina226","place":"system","name":"Input"`

func TestSensorsValidate(t *testing.T) {
	for _, c := range []struct {
		name    string
		sensors string
		field   string // "" where it is right
		text    string
	}{
		{"none", `{}`, "", ""},
		{"a chip and a memory", `{"chips":[{"bus":1,"address":64,"chip":"ina226","shunt_micro_ohm":5000,"place":"system","name":"Input"}],"fru":{"bus":1,"address":80,"chip":"24c02"}}`, "", ""},
		{"the same address of two buses", `{"chips":[` + power + `},{"bus":3,"address":64,"chip":"ina226","place":"psu","name":"PSU 2"}]}`, "", ""},
		{"channels", `{"chips":[` + power + `,"channels":{"in1":{"name":"12 V","max":16,"limits":{"lower_critical":10.8,"upper_critical":13.2}},"curr1":{"off":true}}}]}`, "", ""},
		{"no memory", `{"fru":{"address":3}}`, "", ""},

		{"twice", `{"chips":[` + power + `},{"address":64,"chip":"lm75","place":"inlet","name":"x"}]}`, "/chips/1/address", "chips/0 already"},
		{"the memory on a chip", `{"chips":[` + power + `}],"fru":{"address":64,"chip":"24c02"}}`, "/fru/address", "chips/0 already"},
		{"a reserved address", `{"chips":[{"address":7,"chip":"lm75","place":"inlet","name":"x"}]}`, "/chips/0/address", "8 and 119"},
		{"no such bus", `{"chips":[{"bus":-1,"address":72,"chip":"lm75","place":"inlet","name":"x"}]}`, "/chips/0/bus", "0 and 255"},
		{"a name twice", `{"chips":[` + power + `},{"address":65,"chip":"lm75","place":"inlet","name":"Input"}]}`, "/chips/1/name", "chips/0/name already"},
		{"no name", `{"chips":[{"address":72,"chip":"lm75","place":"inlet"}]}`, "/chips/0/name", "1 to 16"},
		{"a long name", `{"chips":[{"address":72,"chip":"lm75","place":"inlet","name":"12345678901234567"}]}`, "/chips/0/name", "1 to 16"},
		{"a name that is not ASCII", `{"chips":[{"address":72,"chip":"lm75","place":"inlet","name":"Zuluft °C"}]}`, "/chips/0/name", "1 to 16"},
		{"no chip", `{"chips":[{"address":72,"place":"inlet","name":"x"}]}`, "/chips/0/chip", "name of a chip"},
		{"a chip with an end of its own", `{"chips":[{"address":72,"chip":"lm75 0x48","place":"inlet","name":"x"}]}`, "/chips/0/chip", "name of a chip"},
		{"a negative shunt", `{"chips":[{"address":64,"chip":"ina226","shunt_micro_ohm":-1,"place":"system","name":"x"}]}`, "/chips/0/shunt_micro_ohm", "0 and"},
		{"no place", `{"chips":[{"address":72,"chip":"lm75","name":"x"}]}`, "/chips/0/place", "inlet"},
		{"no such place", `{"chips":[{"address":72,"chip":"lm75","place":"moon","name":"x"}]}`, "/chips/0/place", "inlet"},
		{"no such channel", `{"chips":[` + power + `,"channels":{"../in1":{}}}]}`, "/chips/0/channels/..~1in1", "temp1"},
		{"a channel's place", `{"chips":[` + power + `,"channels":{"in1":{"place":"moon"}}}]}`, "/chips/0/channels/in1/place", "inlet"},
		{"a channel's range", `{"chips":[` + power + `,"channels":{"in1":{"min":5,"max":4}}}]}`, "/chips/0/channels/in1/max", "above"},
		{"a channel's limits", `{"chips":[` + power + `,"channels":{"in1":{"limits":{"lower_caution":5,"upper_caution":4}}}}]}`, "/chips/0/channels/in1/limits", "≤"},
		{"a limit beyond the range", `{"chips":[` + power + `,"channels":{"in1":{"max":5,"limits":{"upper_caution":6}}}}]}`, "/chips/0/channels/in1/limits", "0 to 5"},
		{"one limit both ways", `{"chips":[` + power + `,"channels":{"in1":{"limits":{"lower_fatal":5,"upper_caution":5}}}}]}`, "/chips/0/channels/in1/limits", "<"},
		{"a negative hysteresis", `{"chips":[` + power + `,"channels":{"in1":{"limits":{"hysteresis":-1}}}}]}`, "/chips/0/channels/in1/limits", "hysteresis"},
		{"two channels of a name", `{"chips":[` + power + `,"channels":{"in1":{"name":"a"},"in2":{"name":"a"}}}]}`, "/chips/0/channels/in2/name", "already"},
		{"no such memory", `{"fru":{"address":80,"chip":"24c03"}}`, "/fru/chip", "24c01"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var s Sensors
			if err := json.Unmarshal([]byte(c.sensors), &s); err != nil {
				t.Fatal(err)
			}
			err := s.Validate()
			if c.field == "" {
				if err != nil {
					t.Fatal(err)
				}
				return
			}
			f, ok := errors.AsType[*settings.FieldError](err)
			if !ok || f.Pointer != c.field || !strings.Contains(err.Error(), c.text) {
				t.Errorf("got %v, want field %s with %q", err, c.field, c.text)
			}
		})
	}
	if err := DefaultSensors().Validate(); err != nil {
		t.Error(err)
	}
}

func TestSensorsEqual(t *testing.T) {
	parse := func(text string) (s Sensors) {
		if err := json.Unmarshal([]byte(text), &s); err != nil {
			t.Fatal(err)
		}
		return s
	}
	texts := []string{
		`{}`, `{"fru":{"address":80,"chip":"24c02"}}`, `{"chips":[` + power + `}]}`,
		`{"chips":[` + power + `,"shunt_micro_ohm":1}]}`,
		`{"chips":[` + power + `,"channels":{"in1":{}}}]}`,
		`{"chips":[` + power + `,"channels":{"in1":{"max":1}}}]}`,
		`{"chips":[` + power + `,"channels":{"in1":{"limits":{}}}}]}`,
		`{"chips":[` + power + `,"channels":{"in1":{"limits":{"upper_fatal":1}}}}]}`,
		`{"chips":[` + power + `,"channels":{"in1":{"limits":{"upper_fatal":2}}}}]}`,
		`{"chips":[` + power + `,"channels":{"in1":{"limits":{"hysteresis":2}}}}]}`,
	}
	for i, a := range texts {
		for j, b := range texts {
			if got := parse(a).Equal(parse(b)); got != (i == j) {
				t.Errorf("%s and %s: got %v", a, b, got)
			}
		}
	}
}

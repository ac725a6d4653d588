package protocol

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
)

func TestFilter(t *testing.T) {
	const member = `{"Name":"it's (one)","Count":2,"Size":2.5,"On":true,"Off":false,"Nothing":null,"Created":"2026-11-22T10:00:00Z",
		"Status":{"State":"Enabled","Health":"OK"},"List":[1],"Members@odata.count":3}`
	for _, c := range []struct {
		text string
		want bool
		err  error
	}{
		{`Count eq 2`, true, nil},
		{`Count eq 2.0`, true, nil},
		{`Count ne 2`, false, nil},
		{`2 lt Size`, true, nil},
		{`Count lt Size`, true, nil},
		{`Size gt 2 and Size ge 2.5 and Size le 2.5 and Size lt 3`, true, nil},
		{`Count eq -2`, false, nil},
		{`Name eq 'it''s (one)'`, true, nil},
		{`Name gt 'a'`, true, nil},
		{`Status/State eq 'Enabled'`, true, nil},
		{`Status/State/Deep eq 'Enabled'`, false, nil},
		{`Members@odata.count eq 3`, true, nil},
		{`On`, true, nil},
		{`not On`, false, nil},
		{`not(Off)`, true, nil},
		{`not not On`, true, nil},
		{`On eq true and Off eq false`, true, nil},
		{`On ne Off`, true, nil},
		{`Nothing eq null`, true, nil},
		{`Missing eq null`, true, nil},
		{`Missing eq 'x'`, false, nil},
		{`Missing ne 'x'`, true, nil},
		{`Missing gt 1`, false, nil},
		{`Missing le 1`, false, nil},
		{`Created ge 2026-11-22T11:00:00+01:00`, true, nil},
		{`Created gt '2026-11-22T11:00:00+01:00'`, false, nil},
		{`Created lt 2026-11-22T10:00:01Z`, true, nil},
		// and binds before or, and the parentheses change that.
		{`On or Off and Off`, true, nil},
		{`(On or Off) and Off`, false, nil},
		{`((Count eq 3) or (Status/State eq 'Enabled' and Status/Health eq 'OK'))`, true, nil},
		{"\tCount  eq 2 ", true, nil},
		// Literals of another type.
		{`Count eq '2'`, false, errFilterType},
		{`Name eq 2`, false, errFilterType},
		{`On gt false`, false, errFilterType},
		{`On eq 'true'`, false, errFilterType},
		{`List eq 1`, false, errFilterType},
		{`Status eq 'Enabled'`, false, errFilterType},
		{`Name ge 2026-11-22T11:00:00Z`, false, errFilterType},
		// What is no expression.
		{``, false, errFilter},
		{`Count`, false, errFilterType},
		{`Count eq`, false, errFilter},
		{`eq 2`, false, errFilter},
		{`1 eq 1`, false, errFilter},
		{`true`, false, errFilter},
		{`Count = 2`, false, errFilter},
		{`Count eq 2 2`, false, errFilter},
		{`Count EQ 2`, false, errFilter},
		{`(Count eq 2`, false, errFilter},
		{`Count eq 2)`, false, errFilter},
		{`Name eq 'it`, false, errFilter},
		{`Name eq 'it''`, false, errFilter},
		{`Name eq '`, false, errFilter},
		{`Name eq "it"`, false, errFilter},
		{`Name/ eq 'it'`, false, errFilter},
		{`/Name eq 'it'`, false, errFilter},
		{`Count eq 0x2`, false, errFilter},
		{`Count eq 1_0`, false, errFilter},
		{`Count eq 1e999`, false, errFilter},
		{`Count eq 2026-13-01T00:00:00Z`, false, errFilter},
		{`Count eq 2 and`, false, errFilter},
		{`and Count eq 2`, false, errFilter},
		{`not`, false, errFilter},
		{`()`, false, errFilter},
		// OData has it, Redfish does not.
		{`contains(Name,'it')`, false, errFilterWord},
		{`Count add 2 eq 4`, false, errFilterWord},
		{`Name in ('a')`, false, errFilterWord},
		{strings.Repeat("(", maxFilterDepth-1) + "On" + strings.Repeat(")", maxFilterDepth-1), true, nil},
		{strings.Repeat("(", maxFilterDepth) + "On" + strings.Repeat(")", maxFilterDepth), false, errFilterTooBig},
		{strings.Repeat("not ", 100000) + "On", false, errFilterTooBig},
		{strings.Repeat("Off or ", maxFilterTerms-1) + "On", true, nil},
		{strings.Repeat("Off or ", maxFilterTerms) + "On", false, errFilterTooBig},
	} {
		var decoded map[string]any
		if err := json.Unmarshal([]byte(member), &decoded); err != nil {
			t.Fatal(err)
		}
		condition, err := parseFilter(c.text)
		got := false
		if err == nil {
			got, err = condition.holds(decoded)
		}
		if got != c.want || !errors.Is(err, c.err) {
			t.Errorf("%.80s: got %v, %v, want %v, %v", c.text, got, err, c.want, c.err)
		}
	}
}

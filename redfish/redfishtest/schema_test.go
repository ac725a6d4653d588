package redfishtest

import (
	"encoding/json"
	"testing"
)

// The checker must be able to fail.
func TestSchemaChecker(t *testing.T) {
	set := Schemas(t)
	good := `"@odata.id":"/redfish/v1/Systems/system","@odata.type":"x","Id":"system","Name":"n"`
	for _, c := range []struct {
		name, namespace, body string
		ok                    bool
	}{
		{"good", "ComputerSystem.v1_27_0", `{` + good + `,"PowerState":null,"Status":{"State":"Enabled","Health":"OK"}}`, true},
		{"unknown property", "ComputerSystem.v1_27_0", `{` + good + `,"Colour":"red"}`, false},
		{"annotation", "ComputerSystem.v1_27_0", `{` + good + `,"Name@Message.ExtendedInfo":[]}`, true},
		{"wrong enum", "ComputerSystem.v1_27_0", `{` + good + `,"PowerState":"Asleep"}`, false},
		{"wrong type", "ComputerSystem.v1_27_0", `{` + good + `,"LocationIndicatorActive":"yes"}`, false},
		{"nested unknown", "ComputerSystem.v1_27_0", `{` + good + `,"Status":{"Mood":"OK"}}`, false},
		{"required", "ComputerSystem.v1_27_0", `{"@odata.id":"/redfish/v1/x","@odata.type":"x","Name":"n"}`, false},
		{"too new for the version", "ComputerSystem.v1_12_0", `{` + good + `,"LocationIndicatorActive":true}`, false},
		{"link", "ComputerSystem.v1_27_0", `{` + good + `,"Processors":{"@odata.id":"/redfish/v1/Systems/system/Processors"}}`, true},
		{"no link", "ComputerSystem.v1_27_0", `{` + good + `,"Processors":{"Id":"p"}}`, false},
		{"range", "SessionService.v1_2_0", `{` + good + `,"SessionTimeout":29}`, false},
		{"date", "Session.v1_8_0", `{` + good + `,"CreatedTime":"today"}`, false},
		{"error", "redfish-error.v1_0_2", `{"error":{"code":"c"}}`, false},
	} {
		var v any
		if err := json.Unmarshal([]byte(c.body), &v); err != nil {
			t.Fatal(err)
		}
		if bad := set.Check(c.namespace, "", v); (bad == nil) != c.ok {
			t.Errorf("%s: got %v, want ok %v", c.name, bad, c.ok)
		}
	}
}

package message_test

import (
	"encoding/json"
	"testing"

	"github.com/nitrino/nitrino/redfish/message"
	"github.com/nitrino/nitrino/redfish/redfishtest"
)

func TestOwnRegistrySchema(t *testing.T) {
	doc, err := message.OwnRegistryDocument()
	if err != nil {
		t.Fatal(err)
	}
	var r map[string]any
	if err := json.Unmarshal(doc, &r); err != nil {
		t.Fatal(err)
	}
	for _, problem := range redfishtest.Schemas(t).Check("MessageRegistry.v1_6_3", "", r) {
		t.Error(problem)
	}
}

package registry

import (
	"log/slog"
	"slices"
	"strings"
	"testing"

	"github.com/nitrino/nitrino/redfish/protocol"
	"github.com/nitrino/nitrino/redfish/redfishtest"
	"github.com/nitrino/nitrino/redfish/resource"
)

func newRig(t *testing.T) *redfishtest.Rig {
	t.Helper()
	r, err := New([]string{"Chassis.v1_25_0.Chassis", "ChassisCollection.ChassisCollection"})
	if err != nil {
		t.Fatal(err)
	}
	service, err := protocol.New(protocol.Options{Auth: redfishtest.NewAuth(), Routes: r.Routes(), Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	return redfishtest.New(t, service)
}

// members are the URIs in a collection.
func members(r *redfishtest.Rig, uri string) (uris []string) {
	a := r.Want(redfishtest.Call{Method: "GET", URI: uri, User: "reader"}, 200)
	for _, m := range a.JSON["Members"].([]any) {
		uris = append(uris, m.(map[string]any)["@odata.id"].(string))
	}
	return uris
}

func TestRegistries(t *testing.T) {
	r := newRig(t)
	names := map[string]string{} // Registry by Id
	for _, uri := range members(r, resource.RegistriesURI) {
		a := r.Want(redfishtest.Call{Method: "GET", URI: uri, User: "reader"}, 200)
		names[a.JSON["Id"].(string)] = a.JSON["Registry"].(string)
		at := a.JSON["Location"].([]any)[0].(map[string]any)
		id := a.JSON["Id"].(string)
		if got, want := at["Uri"], uri+"/"+id+".json"; got != want {
			t.Errorf("%s: Uri: got %v, want %v", id, got, want)
		}
		if published := at["PublicationUri"]; (published == nil) != strings.HasPrefix(id, "Nitrino") {
			t.Errorf("%s: PublicationUri %v", id, published)
		}
		document := r.Want(redfishtest.Call{Method: "GET", URI: at["Uri"].(string), User: "reader"}, 200)
		odataType, _ := document.JSON["@odata.type"].(string)
		if document.JSON["Id"] != id || document.JSON["@Redfish.Copyright"] != nil || !slices.Contains(Types(), strings.TrimPrefix(odataType, "#")) {
			t.Errorf("%s: got the document %v of type %s", id, document.JSON["Id"], odataType)
		}
		again := redfishtest.Call{Method: "GET", URI: at["Uri"].(string), User: "reader", Header: map[string]string{"If-None-Match": document.Header.Get("ETag")}}
		r.Want(again, 304)
		r.Want(redfishtest.Call{Method: "GET", URI: uri + "/other.json", User: "reader"}, 404, "InvalidURI")
		r.Want(redfishtest.Call{Method: "GET", URI: at["Uri"].(string)}, 401, "AccessUnauthorized")
	}
	for id, want := range map[string]string{
		"Base.1.22.1": "Base.1.22", "ResourceEvent.1.4.3": "ResourceEvent.1.4", "TaskEvent.1.0.5": "TaskEvent.1.0", "Update.1.3.0": "Update.1.3",
		"Redfish_1.8.0_PrivilegeRegistry": "Redfish_1.8.0_PrivilegeRegistry",
	} {
		if got := names[id]; got != want {
			t.Errorf("%s: Registry: got %q, want %q", id, got, want)
		}
	}
	if len(names) != 6 {
		t.Errorf("got %v, want 5 of DMTF and one of our own", names)
	}
	r.Want(redfishtest.Call{Method: "GET", URI: resource.PrivilegeMapURI, User: "reader"}, 200)
	r.Want(redfishtest.Call{Method: "GET", URI: resource.RegistriesURI + "/None.1.0.0", User: "reader"}, 404, "ResourceNotFound")
	r.Want(redfishtest.Call{Method: "GET", URI: resource.RegistriesURI + "/None.1.0.0/None.1.0.0.json", User: "reader"}, 404, "ResourceNotFound")
	r.Want(redfishtest.Call{Method: "GET", URI: resource.RegistriesURI + "/Base.1.22.1/Base.1.22.1.json?$select=Id", User: "reader"}, 400, "QueryNotSupportedOnResource")
}

func TestSchemas(t *testing.T) {
	r := newRig(t)
	got := map[any]any{}
	for _, uri := range members(r, resource.JSONSchemasURI) {
		a := r.Want(redfishtest.Call{Method: "GET", URI: uri, User: "reader"}, 200)
		got[a.JSON["Schema"]] = a.JSON["Location"].([]any)[0].(map[string]any)["PublicationUri"]
	}
	for schema, want := range map[string]string{
		"#Chassis.v1_25_0.Chassis":              "http://redfish.dmtf.org/schemas/v1/Chassis.v1_25_0.json",
		"#ChassisCollection.ChassisCollection":  "http://redfish.dmtf.org/schemas/v1/ChassisCollection.json",
		"#JsonSchemaFile.v1_1_5.JsonSchemaFile": "http://redfish.dmtf.org/schemas/v1/JsonSchemaFile.v1_1_5.json",
		"#" + registriesType:                    "http://redfish.dmtf.org/schemas/v1/MessageRegistryFileCollection.json",
	} {
		if got[schema] != want {
			t.Errorf("%s: got %v, want %s", schema, got[schema], want)
		}
	}
	r.Want(redfishtest.Call{Method: "GET", URI: resource.JSONSchemasURI + "/None", User: "reader"}, 404, "ResourceNotFound")
}

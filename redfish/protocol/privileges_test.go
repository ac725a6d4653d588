package protocol

import (
	"compress/gzip"
	"encoding/json"
	"maps"
	"os"
	"slices"
	"testing"

	"github.com/nitrino/nitrino/redfish/resource"
)

// An operationMap is, by method, what is needed: any one of the lists, and of
// that list all.
type operationMap map[string][]struct{ Privilege []string }

// standard must be DMTF's registry, which package registry serves.
func TestStandardPrivileges(t *testing.T) {
	f, err := os.Open("../registry/files/Redfish_1.8.0_PrivilegeRegistry.json.gz")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	var registry struct {
		Mappings []struct {
			Entity               string
			OperationMap         operationMap
			SubordinateOverrides []struct {
				Targets      []string
				OperationMap operationMap
			}
			PropertyOverrides, ResourceURIOverrides []struct {
				Targets      []string
				OperationMap operationMap
			}
		}
	}
	if err := json.NewDecoder(z).Decode(&registry); err != nil {
		t.Fatal(err)
	}
	bits := map[string]resource.Privilege{"Login": resource.Login, "ConfigureManager": resource.ConfigureManager, "ConfigureUsers": resource.ConfigureUsers,
		"ConfigureSelf": resource.ConfigureSelf, "ConfigureComponents": resource.ConfigureComponents}
	want := map[[2]string]mapping{} // by entity and what it is under
	of := func(entity, under string, operations operationMap) mapping {
		m := mapping{entity: entity, under: under}
		for method, to := range map[string]*resource.Privilege{"GET": &m.get, "PATCH": &m.patch, "POST": &m.post, "PUT": &m.put, "DELETE": &m.delete} {
			for _, any := range operations[method] {
				if len(any.Privilege) != 1 {
					t.Errorf("%s: %v are needed together, which the table cannot say", entity, any.Privilege)
				}
				*to |= bits[any.Privilege[0]]
			}
			if slices.ContainsFunc(operations[method], func(any struct{ Privilege []string }) bool { return slices.Contains(any.Privilege, "NoAuth") }) {
				*to = 0 // without a login, and so with any
			}
		}
		return m
	}
	for _, m := range registry.Mappings {
		want[[2]string{m.Entity, ""}] = of(m.Entity, "", m.OperationMap)
		for _, o := range m.SubordinateOverrides {
			// What an override leaves out is as it is elsewhere.
			all := maps.Clone(m.OperationMap)
			maps.Copy(all, o.OperationMap)
			want[[2]string{m.Entity, o.Targets[0]}] = of(m.Entity, o.Targets[0], all)
		}
		// Route.Self is for this one.
		if len(m.ResourceURIOverrides) > 0 || len(m.PropertyOverrides) > 0 && (m.Entity != "ManagerAccount" || !slices.Equal(m.PropertyOverrides[0].Targets, []string{"Password"})) {
			t.Errorf("%s: overrides that package protocol does not know", m.Entity)
		}
	}
	have := map[[2]string]mapping{}
	for _, m := range standard() {
		key := [2]string{m.entity, m.under}
		have[key] = m
		if w, found := want[key]; !found || m != w {
			t.Errorf("%v: got %+v, want %+v (there: %v)", key, m, w, found)
		}
	}
	// What is under one of ours must have its override.
	for key, w := range want {
		plain, served := have[[2]string{key[0], ""}]
		_, overridden := have[key]
		plain.under = key[1]
		if served && !overridden && plain != w && slices.Contains([]string{"ComputerSystem", "Chassis", "Manager"}, key[1]) {
			t.Errorf("%v: its override is missing: %+v", key, w)
		}
	}
}

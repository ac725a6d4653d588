//go:build e2e

package test

import (
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nitrino/nitrino/redfish/redfishtest"
)

// TestRedfishWalk: each resource of a board with all wires, and things in all of
// its collections, is as DMTF's schemas say, and no link leads nowhere.
func TestRedfishWalk(t *testing.T) {
	s := start(t, "-host", "fake")
	admin := s.admin()
	fillTree(t, s)
	tree := validTree(t, admin)
	for _, want := range []string{
		"/redfish/v1/Systems/system", "/redfish/v1/Systems/system/VirtualMedia/cd", "/redfish/v1/Systems/system/LogServices/EventLog/Entries",
		"/redfish/v1/Chassis/chassis/Thermal", "/redfish/v1/Chassis/chassis/Power", "/redfish/v1/Chassis/chassis/ThermalSubsystem", "/redfish/v1/Chassis/chassis/PowerSubsystem",
		"/redfish/v1/Managers/bmc/NetworkProtocol/HTTPS/Certificates/1", "/redfish/v1/Managers/bmc/EthernetInterfaces", "/redfish/v1/Managers/bmc/VirtualMedia/usb",
		"/redfish/v1/AccountService/Roles/ReadOnly", "/redfish/v1/SessionService", "/redfish/v1/CertificateService", "/redfish/v1/EventService/Subscriptions",
		"/redfish/v1/TaskService", "/redfish/v1/UpdateService/FirmwareInventory/bmc", "/redfish/v1/TelemetryService/MetricReports/Sensors", "/redfish/v1/Registries", "/redfish/v1/JsonSchemas",
	} {
		if _, there := tree[want]; !there {
			t.Errorf("no link leads to %s", want)
		}
	}
	kinds := map[string]int{}
	for _, a := range tree {
		kind, _, _ := strings.Cut(strings.TrimPrefix(a.text("@odata.type"), "#"), ".")
		kinds[kind]++
	}
	for _, want := range []string{"Session", "EventDestination", "Task", "Key", "LogEntry", "Sensor", "MetricReport", "Certificate"} {
		if kinds[want] == 0 {
			t.Errorf("the tree has no %s: %v", want, kinds)
		}
	}
	t.Logf("%d resources: %v", len(tree), kinds)

	// Who may only read sees less, and nothing breaks.
	admin.do(http.StatusCreated, "POST", "/redfish/v1/AccountService/Accounts", `{"UserName": "reader", "Password": "reader-password-1", "RoleId": "ReadOnly"}`)
	reader := s.as("reader", "reader-password-1")
	allowed := 0
	for uri := range maps.Keys(tree) {
		a, err := reader.try("GET", uri, "")
		switch {
		case err != nil || a.status != http.StatusOK && a.status != http.StatusForbidden:
			t.Errorf("GET %s as ReadOnly: got %d, %v, %s", uri, a.status, err, a.body)
		case a.status == http.StatusOK:
			allowed++
		}
	}
	if allowed < len(tree)/2 || allowed == len(tree) {
		t.Errorf("ReadOnly sees %d of %d resources", allowed, len(tree))
	}
	stranger := s.as("", "")
	for uri := range maps.Keys(tree) {
		a, err := stranger.try("GET", uri, "")
		if open := uri == "/redfish/v1/" || uri == "/redfish/v1"; err != nil || (a.status == http.StatusOK) != open || !open && a.status != http.StatusUnauthorized {
			t.Errorf("GET %s without login: got %d, %v", uri, a.status, err)
		}
	}
}

// fillTree puts something into each collection that can be empty.
func fillTree(t *testing.T, s *sim) {
	t.Helper()
	admin := s.admin()
	s.ipmitool("chassis", "power", "on").must(t)
	s.power("on")
	admin.do(http.StatusCreated, "POST", "/redfish/v1/SessionService/Sessions", fmt.Sprintf(`{"UserName": %q, "Password": %q, "Context": "the walk"}`, s.User, s.Password))
	admin.do(http.StatusCreated, "POST", "/redfish/v1/EventService/Subscriptions", `{"Destination": "http://127.0.0.1:9/", "Protocol": "Redfish", "Context": "nobody"}`)
	admin.do(http.StatusCreated, "POST", "/redfish/v1/AccountService/Accounts/"+accountID(admin, s.User)+"/Keys",
		`{"KeyType": "SSH", "KeyString": "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f walker"}`)
	// Nobody listens there: the task fails.
	task := admin.do(http.StatusAccepted, "POST", "/redfish/v1/UpdateService/Actions/UpdateService.SimpleUpdate", `{"ImageURI": "http://127.0.0.1:9/none.bundle"}`)
	eventually(t, "the task to end", 30*time.Second, func() bool { return admin.get(task.text("@odata.id")).text("EndTime") != "" })
	// A change has the report made anew.
	admin.do(http.StatusOK, "PATCH", admin.get("/redfish/v1/TelemetryService/MetricReportDefinitions").members()[0], `{"Schedule": {"RecurrenceInterval": "PT10S"}}`)
	eventually(t, "a metric report", 30*time.Second, func() bool {
		values, _ := admin.get("/redfish/v1/TelemetryService/MetricReports/Sensors").at("MetricValues").([]any)
		return len(values) > 0
	})
}

// accountID is the Id of a user's account.
func accountID(c caller, user string) string {
	c.tb.Helper()
	for _, uri := range c.get("/redfish/v1/AccountService/Accounts").members() {
		if a := c.get(uri); a.text("UserName") == user {
			return a.text("Id")
		}
	}
	c.tb.Fatalf("%s has no account", user)
	return ""
}

// validTree walks as a caller who may see everything, and checks all that there
// is.
func validTree(t *testing.T, c caller) map[string]answer {
	t.Helper()
	schemas := redfishtest.Schemas(t)
	tree := c.walk()
	for _, uri := range slices.Sorted(maps.Keys(tree)) {
		for _, problem := range invalid(schemas, uri, tree[uri]) {
			t.Errorf("GET %s: %s\n%.2000s", uri, problem, tree[uri].body)
		}
	}
	return tree
}

// invalid lists what is wrong with a resource, or with a document that a
// resource leads to.
func invalid(schemas redfishtest.SchemaSet, uri string, a answer) (problems []string) {
	if a.status != http.StatusOK {
		return []string{fmt.Sprintf("status %d", a.status)}
	}
	if got := a.header.Get("OData-Version"); got != "4.0" {
		problems = append(problems, fmt.Sprintf("OData-Version %q", got))
	}
	if a.header.Get("ETag") == "" {
		problems = append(problems, "no ETag")
	}
	kind := a.text("@odata.type")
	if kind == "" || a.json["@odata.id"] == nil {
		return problems // a document
	}
	if got, want := a.text("@odata.id"), strings.TrimSuffix(uri, "/"); strings.TrimSuffix(got, "/") != want {
		problems = append(problems, fmt.Sprintf("@odata.id: got %q, want %q", got, want))
	}
	schema := strings.TrimPrefix(kind[:strings.LastIndexByte(kind, '.')], "#")
	return append(problems, schemas.Check(schema, "", any(a.json))...)
}

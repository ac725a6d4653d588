package manager

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nitrino/nitrino/host"
	"github.com/nitrino/nitrino/redfish/redfishtest"
	"github.com/nitrino/nitrino/redfish/resource"
)

func TestManager(t *testing.T) {
	r := newRig(t, nil)
	a := r.get(resource.ManagersURI)
	if got := fmt.Sprint(a.At("Members")); got != "[map[@odata.id:/redfish/v1/Managers/bmc]]" {
		t.Errorf("members: %s", got)
	}
	a = r.get(resource.ManagerURI)
	for _, c := range []struct {
		path []string
		want any
	}{
		{[]string{"Id"}, "bmc"},
		{[]string{"ManagerType"}, "BMC"},
		{[]string{"UUID"}, "6ba7b810-9dad-41d1-80b4-00c04fd430c8"},
		{[]string{"ServiceEntryPointUUID"}, "6ba7b811-9dad-41d1-80b4-00c04fd430c8"},
		{[]string{"FirmwareVersion"}, "0.1.0"},
		{[]string{"SerialNumber"}, "10000000abcdef01"},
		{[]string{"PowerState"}, "On"},
		{[]string{"Status", "Health"}, "OK"},
		{[]string{"LastResetTime"}, "2026-11-22T20:00:00Z"},
		{[]string{"DateTimeLocalOffset"}, "+00:00"},
		{[]string{"SerialConsole", "ConnectTypesSupported"}, "[SSH IPMI]"},
		{[]string{"GraphicalConsole", "MaxConcurrentSessions"}, 16.0},
		{[]string{"CommandShell", "ServiceEnabled"}, true},
		{[]string{"LogServices", "@odata.id"}, resource.ManagerLogServicesURI},
		{[]string{"VirtualMedia", "@odata.id"}, resource.ManagerVirtualMediaURI},
		{[]string{"Links", "ManagerForServers"}, "[map[@odata.id:/redfish/v1/Systems/system]]"},
		{[]string{"Links", "ManagerInChassis", "@odata.id"}, resource.ChassisURI},
		{[]string{"Links", "ActiveSoftwareImage", "@odata.id"}, resource.FirmwareURI},
		{[]string{"Actions", "#Manager.Reset", "target"}, resetURI},
		{[]string{"Actions", "#Manager.Reset", "ResetType@Redfish.AllowableValues"}, "[ForceRestart GracefulRestart]"},
		{[]string{"Actions", "#Manager.ResetToDefaults", "ResetType@Redfish.AllowableValues"}, "[ResetAll PreserveNetwork PreserveNetworkAndUsers]"},
	} {
		got := a.At(c.path...)
		if list, isList := got.([]any); isList {
			got = fmt.Sprint(list)
		}
		if got != c.want {
			t.Errorf("%v: got %v, want %v", c.path, got, c.want)
		}
	}
	// Time goes on, and the entity tag stays.
	b := r.get(resource.ManagerURI)
	if a.At("DateTime") == b.At("DateTime") || a.Header.Get("ETag") != b.Header.Get("ETag") {
		t.Errorf("DateTime %v and %v, ETag %s and %s", a.At("DateTime"), b.At("DateTime"), a.Header.Get("ETag"), b.Header.Get("ETag"))
	}
}

// What is not there is not shown.
func TestBareManager(t *testing.T) {
	r := newRig(t, func(o *Options) {
		*o = Options{Clock: o.Clock, Network: o.Network, Services: o.Services, Lifecycle: o.Lifecycle, Log: o.Log, Healthy: func() bool { return false }}
	})
	a := r.get(resource.ManagerURI)
	for _, name := range []string{"UUID", "ServiceEntryPointUUID", "FirmwareVersion", "Manufacturer", "Model", "SerialNumber", "LastResetTime",
		"SerialConsole", "GraphicalConsole", "CommandShell", "LogServices", "VirtualMedia"} {
		if _, there := a.JSON[name]; there {
			t.Errorf("%s is shown", name)
		}
	}
	if links, _ := a.At("Links").(map[string]any); len(links) != 0 {
		t.Errorf("links: %v", links)
	}
	if got := a.At("Status", "Health"); got != "Warning" {
		t.Errorf("health: got %v, want Warning", got)
	}
	if p := r.get(resource.NetworkProtocolURI); p.At("NTP") != nil || p.At("HTTPS", "Certificates") != nil {
		t.Errorf("NTP or certificates are shown: %s", p.Body)
	}
}

func TestPatchManager(t *testing.T) {
	r := newRig(t, nil)
	for _, c := range []struct {
		body    string
		err     error // of the clock
		status  int
		keys    []string
		related []string
	}{
		{`{"DateTime":"2027-01-02T03:04:05+01:00"}`, nil, 200, nil, nil},
		{`{"DateTimeLocalOffset":"+00:00"}`, nil, 200, nil, nil},
		{`{"DateTimeLocalOffset":"+01:00"}`, nil, 400, []string{"PropertyValueNotInList"}, []string{"#/DateTimeLocalOffset"}},
		{`{"DateTime":"yesterday"}`, nil, 400, []string{"PropertyValueFormatError"}, []string{"#/DateTime"}},
		{`{"DateTime":null}`, nil, 400, []string{"PropertyValueTypeError"}, []string{"#/DateTime"}},
		{`{"DateTime":"1970-01-01T00:00:00Z"}`, fmt.Errorf("early: %w", host.ErrInvalid), 400, []string{"PropertyValueOutOfRange"}, []string{"#/DateTime"}},
		{`{"DateTime":"2027-01-01T00:00:00Z"}`, ErrKept, 409, []string{"PropertyValueExternalConflict"}, []string{"#/DateTime"}},
		{`{"DateTime":"2027-01-01T00:00:00Z"}`, errors.ErrUnsupported, 400, []string{"PropertyNotWritable"}, []string{"#/DateTime"}},
		{`{"DateTime":"2027-01-01T00:00:00Z"}`, errors.New("wire"), 500, []string{"PropertyNotUpdated"}, []string{"#/DateTime"}},
		{`{"FirmwareVersion":"2","Bogus":1}`, nil, 400, []string{"PropertyNotWritable", "PropertyUnknown"}, []string{"#/FirmwareVersion", "#/Bogus"}},
		{`{"SerialConsole":{"ServiceEnabled":false}}`, nil, 400, []string{"PropertyNotWritable"}, []string{"#/SerialConsole"}},
	} {
		r.fail(c.err)
		a := r.patch(t, resource.ManagerURI, c.body, c.status, c.keys, c.related)
		if c.status == 200 && a.At("@odata.id") != resource.ManagerURI {
			t.Errorf("%s: %s", c.body, a.Body)
		}
	}
	if want := time.Date(2027, 1, 2, 2, 4, 5, 0, time.UTC); r.now.Sub(want).Abs() > time.Minute {
		t.Errorf("the clock: got %v, want %v", r.now, want)
	}
	r.fail(nil)
	for _, user := range []string{"oper", "reader"} {
		r.Want(redfishtest.Call{Method: "PATCH", URI: resource.ManagerURI, User: user, Body: `{"DateTimeLocalOffset":"+00:00"}`}, 403, "InsufficientPrivilege")
	}
}

func TestReset(t *testing.T) {
	r := newRig(t, nil)
	for _, c := range []struct {
		uri, user, body string
		err             error
		status          int
		keys            []string
	}{
		{resetURI, "admin", `{"ResetType":"ForceRestart"}`, nil, 204, nil},
		{resetURI, "admin", `{"ResetType":"GracefulRestart"}`, nil, 204, nil},
		{resetURI, "admin", `{}`, nil, 204, nil},
		{resetURI, "admin", `{"ResetType":"On"}`, nil, 400, []string{"ActionParameterValueNotInList"}},
		{resetURI, "oper", `{"ResetType":"ForceRestart"}`, nil, 403, []string{"InsufficientPrivilege"}},
		{defaultsURI, "admin", `{"ResetType":"PreserveNetwork"}`, nil, 204, nil},
		{defaultsURI, "admin", `{}`, nil, 400, []string{"ActionParameterMissing"}},
		{defaultsURI, "admin", `{"ResetType":"SensorThresholds"}`, nil, 400, []string{"ActionParameterValueNotInList"}},
		{defaultsURI, "admin", `{"ResetType":"ResetAll"}`, errors.New("disk"), 500, []string{"InternalError"}},
		{defaultsURI, "oper", `{"ResetType":"ResetAll"}`, nil, 403, []string{"InsufficientPrivilege"}},
	} {
		r.fail(c.err)
		r.Want(redfishtest.Call{Method: "POST", URI: c.uri, User: c.user, Body: c.body}, c.status, c.keys...)
	}
	if want := []Scope{PreserveNetwork}; !slices.Equal(r.defaults, want) {
		t.Errorf("reset to defaults: got %v, want %v", r.defaults, want)
	}
	if r.count() != 0 {
		t.Errorf("reset %d times before the answer is out", r.count())
	}
}

// The answer gets out before the reset comes, which comes once.
func TestResetComesAfterTheAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBoard()
		m := New(b.options())
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- m.Run(ctx) }()
		m.resetSoon(host.Origin{})
		synctest.Wait()
		if b.count() != 0 {
			t.Error("reset at once")
		}
		time.Sleep(grace)
		synctest.Wait()
		if b.count() != 1 {
			t.Errorf("reset %d times, want 1", b.count())
		}
		m.resetSoon(host.Origin{})
		synctest.Wait()
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) || b.count() != 1 {
			t.Errorf("at the end: %v, reset %d times", err, b.count())
		}
	})
}

package system

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nitrino/nitrino/host"
	"github.com/nitrino/nitrino/redfish/machine"
	"github.com/nitrino/nitrino/redfish/message"
	"github.com/nitrino/nitrino/redfish/protocol"
	"github.com/nitrino/nitrino/redfish/redfishtest"
	"github.com/nitrino/nitrino/redfish/resource"
)

// A rig is the chapter on a host of fake wires.
type rig struct {
	*redfishtest.Rig
	host   *redfishtest.Host
	system *System
}

func newRig(t testing.TB, o redfishtest.HostOptions) *rig {
	t.Helper()
	r := &rig{host: redfishtest.NewHost(t, o)}
	log := slog.New(slog.DiscardHandler)
	r.system = New(Options{Host: r.host.Host, Log: log})
	r.serve(t, log)
	return r
}

func (r *rig) serve(t testing.TB, log *slog.Logger) {
	t.Helper()
	service, err := protocol.New(protocol.Options{Auth: redfishtest.NewAuth(), Log: log, Routes: r.system.Routes()})
	if err != nil {
		t.Fatal(err)
	}
	r.Rig = redfishtest.New(t, service)
}

// What the owner of the service knows is shown.
func TestFullSystem(t *testing.T) {
	r := &rig{host: redfishtest.NewHost(t, redfishtest.HostOptions{})}
	log := slog.New(slog.DiscardHandler)
	console := SerialConsole{
		MaxSessions: 5,
		SSH:         &ConsoleService{Enabled: true, Port: 22, Shared: true, Command: "console", HotKeys: "Press Enter, then ~ and ."},
		IPMI:        &ConsoleService{Port: 623},
	}
	r.system = New(Options{Host: r.host.Host, Log: log,
		Hardware: &host.Hardware{Manufacturer: "QEMU", Model: "pc", Serial: "42", ProcessorModel: "Fast", ProcessorCount: 2, CoreCount: 8, ThreadCount: 16, MemoryBytes: 3 << 29, BIOSVersion: "1.2"},
		Chassis:  true, Manager: true, LogServices: true, VirtualMedia: true, Storage: true,
		SerialConsole: func() SerialConsole { return console },
		GraphicalConsole: func() GraphicalConsole {
			return GraphicalConsole{Enabled: true, Port: 5900, MaxSessions: 4, Types: []string{"KVMIP"}}
		},
	})
	r.serve(t, log)
	patch := func(body string) redfishtest.Call {
		return redfishtest.Call{Method: "PATCH", URI: resource.SystemURI, User: "oper", Body: body}
	}
	r.Want(patch(`{"AssetTag":"Regal 7"}`), 200)
	r.Want(patch(`{"AssetTag":"`+strings.Repeat("x", 64)+`"}`), 400, "StringValueTooLong")
	if err := r.host.Watchdog.Set(host.WatchdogConfig{Use: host.WatchdogSMSOS, Action: host.Cycle, Timeout: time.Hour}, host.Origin{}); err != nil {
		t.Fatal(err)
	}
	if err := r.host.Watchdog.Start(host.Origin{}); err != nil {
		t.Fatal(err)
	}
	check := func(want map[string]string) {
		t.Helper()
		a := r.Want(redfishtest.Call{Method: "GET", URI: resource.SystemURI, User: "reader"}, 200)
		for path, w := range want {
			if got := fmt.Sprint(a.At(strings.Split(path, "/")...)); got != w {
				t.Errorf("%s: got %s, want %s", path, got, w)
			}
		}
	}
	check(map[string]string{
		"Manufacturer": "QEMU", "Model": "pc", "SerialNumber": "42", "AssetTag": "Regal 7", "BiosVersion": "1.2",
		"ProcessorSummary": "map[CoreCount:8 Count:2 LogicalProcessorCount:16 Model:Fast]", "MemorySummary": "map[TotalSystemMemoryGiB:1.5]",
		"Links":                  "map[Chassis:[map[@odata.id:/redfish/v1/Chassis/chassis]] ManagedBy:[map[@odata.id:/redfish/v1/Managers/bmc]]]",
		"LogServices/@odata.id":  resource.SystemLogServicesURI,
		"VirtualMedia/@odata.id": resource.SystemVirtualMediaURI,
		"Storage/@odata.id":      resource.SystemStorageURI,
		"SerialConsole/SSH":      "map[ConsoleEntryCommand:console HotKeySequenceDisplay:Press Enter, then ~ and . Port:22 ServiceEnabled:true SharedWithManagerCLI:true]",
		"SerialConsole/IPMI":     "map[Port:623 ServiceEnabled:false]", "SerialConsole/MaxConcurrentSessions": "5",
		"GraphicalConsole":  "map[ConnectTypesSupported:[KVMIP] MaxConcurrentSessions:4 Port:5900 ServiceEnabled:true]",
		"HostWatchdogTimer": "map[FunctionEnabled:true Status:map[Health:OK State:Enabled] TimeoutAction:PowerCycle WarningAction:None]",
		"LastResetTime":     "<nil>",
	})
	console.SSH = nil
	at := time.Date(2026, 1, 2, 3, 4, 5, 60, time.UTC)
	r.host.Events.Add(host.Event{Kind: "power.restarted", Time: at})
	r.host.Events.Add(host.Event{Kind: "power.asleep", Time: at.Add(time.Hour)})
	check(map[string]string{"SerialConsole/SSH": "<nil>", "LastResetTime": "2026-01-02T03:04:05.00000006Z"})
	for action, want := range map[host.Action]string{"": "None", host.Reset: "ResetSystem", host.ForceOff: "PowerDown"} {
		got := newWatchdogTimer(host.WatchdogStatus{Config: host.WatchdogConfig{Action: action, PreNMI: true}})
		if got.TimeoutAction != want || got.WarningAction != "DiagnosticInterrupt" {
			t.Errorf("%s: got %+v, want %s", action, got, want)
		}
	}
}

func TestSystem(t *testing.T) {
	r := newRig(t, redfishtest.HostOptions{On: true})
	a := r.Want(redfishtest.Call{Method: "GET", URI: resource.SystemURI, User: "reader"}, 200)
	for _, c := range []struct {
		path []string
		want any
	}{
		{[]string{"Id"}, "system"},
		{[]string{"UUID"}, r.system.uuid},
		{[]string{"SystemType"}, "Physical"},
		{[]string{"PowerState"}, "On"},
		{[]string{"Status", "State"}, "Enabled"},
		{[]string{"Status", "Health"}, "OK"},
		{[]string{"PowerRestorePolicy"}, "AlwaysOff"},
		{[]string{"LocationIndicatorActive"}, false},
		{[]string{"IndicatorLED"}, "Off"},
		{[]string{"Boot", "BootSourceOverrideEnabled"}, "Disabled"},
		{[]string{"Boot", "BootSourceOverrideTarget"}, "None"},
		{[]string{"Boot", "BootSourceOverrideMode"}, nil},
		{[]string{"Boot", "BootSourceOverrideTarget@Redfish.AllowableValues"}, "[None Pxe Hdd UefiHttp]"},
		{[]string{"Boot", "BootSourceOverrideEnabled@Redfish.AllowableValues"}, "[Disabled Once Continuous]"},
		{[]string{"Boot", "BootSourceOverrideMode@Redfish.AllowableValues"}, "[Legacy UEFI]"},
		{[]string{"Boot", "@Redfish.WriteableProperties"}, "[BootSourceOverrideEnabled BootSourceOverrideTarget BootSourceOverrideMode]"},
		{[]string{"Boot", "HttpBootUri"}, nil},
		{[]string{"MemorySummary", "TotalSystemMemoryGiB"}, nil},
		{[]string{"AssetTag"}, ""},
		{[]string{"HostWatchdogTimer", "TimeoutAction"}, "None"},
		{[]string{"HostWatchdogTimer", "Status", "State"}, "Disabled"},
		{[]string{"Actions", "#ComputerSystem.Reset", "target"}, resetURI},
		{[]string{"Actions", "#ComputerSystem.Reset", "ResetType@Redfish.AllowableValues"},
			"[On ForceOff GracefulShutdown GracefulRestart ForceRestart PowerCycle PushPowerButton]"},
	} {
		got := a.At(c.path...)
		if list, isList := got.([]any); isList {
			got = fmt.Sprint(list)
		}
		if got != c.want {
			t.Errorf("%v: got %v, want %v", c.path, got, c.want)
		}
	}
}

// What no wire can do is not shown.
func TestBareSystem(t *testing.T) {
	r := newRig(t, redfishtest.HostOptions{Bare: true})
	a := r.Want(redfishtest.Call{Method: "GET", URI: resource.SystemURI, User: "reader"}, 200)
	for _, name := range []string{"PowerRestorePolicy", "LocationIndicatorActive", "IndicatorLED", "Boot", "Manufacturer", "Model", "SerialNumber", "ProcessorSummary", "BiosVersion",
		"LastResetTime", "SerialConsole", "GraphicalConsole", "LogServices", "VirtualMedia", "Storage"} {
		if _, there := a.JSON[name]; there {
			t.Errorf("%s is shown", name)
		}
	}
	if state, there := a.JSON["PowerState"]; !there || state != nil {
		t.Errorf("PowerState: got %v, want null", state)
	}
	if got := fmt.Sprint(a.At("Actions", "#ComputerSystem.Reset", "ResetType@Redfish.AllowableValues")); got != "[ForceRestart]" {
		t.Errorf("reset types: got %s, want [ForceRestart]", got)
	}
	for _, body := range []string{`{"PowerRestorePolicy":"AlwaysOn"}`, `{"LocationIndicatorActive":true}`, `{"Boot":{"BootSourceOverrideMode":"UEFI"}}`} {
		r.Want(redfishtest.Call{Method: "PATCH", URI: resource.SystemURI, User: "admin", Body: body}, 400, "PropertyUnknown")
	}
	if links, _ := a.At("Links").(map[string]any); len(links) != 0 {
		t.Errorf("Links: %v", links)
	}
	if newResetAction(func(host.Action) bool { return false }) != nil {
		t.Error("a host without wires has a reset action")
	}
}

func TestReset(t *testing.T) {
	reset := func(kind string) redfishtest.Call {
		return redfishtest.Call{Method: "POST", URI: resetURI, User: "oper", Body: `{"ResetType":"` + kind + `"}`}
	}
	state := func(r *rig) any {
		return r.Do(redfishtest.Call{Method: "GET", URI: resource.SystemURI, User: "oper"}).At("PowerState")
	}

	r := newRig(t, redfishtest.HostOptions{})
	if got := state(r); got != "Off" {
		t.Fatalf("PowerState: got %v, want Off", got)
	}
	r.Want(reset("Nmi"), 400, "ActionParameterValueNotInList") // no such wire
	r.Want(reset("ForceOff"), 204)                             // it is off
	for i, kind := range []string{"ForceRestart", "GracefulRestart", "PowerCycle", "On"} {
		r.Want(reset(kind), 204)
		r.host.Await(t, host.StateOn)
		if got := r.host.Button.Count(); got != i+1 {
			t.Errorf("%s of a host that is off: the power button was pressed %d times in all, want %d", kind, got, i+1)
		}
		if kind != "On" {
			r.host.LED.Set(false)
			r.host.Await(t, host.StateOff)
		}
	}
	r.Want(reset("On"), 204)
	a := r.Do(redfishtest.Call{Method: "GET", URI: resource.SystemURI, User: "oper"})
	if got := a.At("LastResetCause"); got != "ManagementCommand" {
		t.Errorf("LastResetCause: got %v, want ManagementCommand", got)
	}
	// The operating system takes its time: the host is in transition.
	r.Want(reset("GracefulShutdown"), 204)
	r.host.Await(t, host.StatePoweringOff)
	if got := state(r); got != "PoweringOff" {
		t.Errorf("PowerState: got %v, want PoweringOff", got)
	}
	r.Want(reset("On"), 409, "ResourceInUse")
	r.host.LED.Set(false)
	r.host.Await(t, host.StateOff)
	// Who asked is in the log.
	found := slices.ContainsFunc(r.host.Events.Since(0, 0), func(e host.Event) bool {
		return e.Kind == "power.request" && e.Origin == host.Origin{Via: resource.Via, User: "oper", Source: "127.0.0.1"}
	})
	if !found {
		t.Error("no event of kind power.request with the origin")
	}
}

func TestResetRefused(t *testing.T) {
	r := newRig(t, redfishtest.HostOptions{On: true})
	for _, c := range []struct {
		body, key string
		related   string
	}{
		{``, "ActionParameterMissing", "#/ResetType"},
		{`{}`, "ActionParameterMissing", "#/ResetType"},
		{`{"@odata.type":"x"}`, "ActionParameterMissing", "#/ResetType"},
		{`{"ResetType":"Nmi"}`, "ActionParameterValueNotInList", "#/ResetType"}, // not wired
		{`{"ResetType":"ForceOn"}`, "ActionParameterValueNotInList", "#/ResetType"},
		{`{"ResetType":"on"}`, "ActionParameterValueNotInList", "#/ResetType"},
		{`{"ResetType":1}`, "ActionParameterValueTypeError", "#/ResetType"},
		{`{"ResetType":null}`, "ActionParameterValueTypeError", "#/ResetType"},
		{`{"ResetType":"On","De/lay~":1}`, "ActionParameterUnknown", "#/De~1lay~0"},
		{`{"ResetType":"On","@Redfish.OperationApplyTime":"OnReset"}`, "ActionParameterUnknown", "#/@Redfish.OperationApplyTime"},
	} {
		a := r.Want(redfishtest.Call{Method: "POST", URI: resetURI, User: "admin", Body: c.body}, 400, c.key)
		if got := a.Related(); !slices.Equal(got, []string{c.related}) {
			t.Errorf("%s: RelatedProperties %v, want %s", c.body, got, c.related)
		}
	}
	if got := r.host.Button.Count(); got != 0 {
		t.Errorf("the power button was pressed %d times, want 0", got)
	}
	// Before the host's machine runs, nothing can be asked of it.
	r = newRig(t, redfishtest.HostOptions{Stopped: true})
	r.Want(redfishtest.Call{Method: "POST", URI: resetURI, User: "admin", Body: `{"ResetType":"On"}`}, 503, "ServiceTemporarilyUnavailable")
}

func TestPowerProblems(t *testing.T) {
	r := newRig(t, redfishtest.HostOptions{Stopped: true})
	for _, c := range []struct {
		err    error
		status int
		id     string
	}{
		{host.ErrBusy, 409, "ResourceInUse"},
		{host.ErrNoPower, 409, "ResourceInStandby"},
		{host.ErrAsleep, 409, "ResourceInStandby"},
		{host.ErrNoStandby, 409, "ResourceInStandby"},
		{host.ErrStopped, 503, "ServiceTemporarilyUnavailable"},
		{errors.New("wire"), 500, "InternalError"},
	} {
		m := r.system.powerProblem(fmt.Errorf("wrapped: %w", c.err))
		if m.Status != c.status || m.ID != message.BaseRegistry+c.id {
			t.Errorf("%v: got %d %s, want %d %s", c.err, m.Status, m.ID, c.status, c.id)
		}
	}
}

func TestHostWords(t *testing.T) {
	show := func(p *string) string {
		if p == nil {
			return "null"
		}
		return *p
	}
	for _, c := range []struct {
		in                  host.PowerStatus
		power, state, helth string
	}{
		{host.PowerStatus{State: host.StateUnknown}, "null", "null", "OK"},
		{host.PowerStatus{State: host.StateOff}, "Off", "StandbyOffline", "OK"},
		{host.PowerStatus{State: host.StateOff, StandbyWired: true, Standby: true, Fault: true}, "Off", "StandbyOffline", "Warning"},
		{host.PowerStatus{State: host.StateOff, StandbyWired: true}, "Off", "UnavailableOffline", "OK"},
		{host.PowerStatus{State: host.StatePoweringOn}, "PoweringOn", "Starting", "OK"},
		{host.PowerStatus{State: host.StateOn}, "On", "Enabled", "OK"},
		{host.PowerStatus{State: host.StatePoweringOff}, "PoweringOff", "Enabled", "OK"},
		{host.PowerStatus{State: host.StateAsleep}, "Paused", "StandbyOffline", "OK"},
	} {
		st := systemStatus(c.in)
		if got := show(machine.PowerState(c.in.State)); got != c.power {
			t.Errorf("%+v: PowerState %s, want %s", c.in, got, c.power)
		}
		if got := show(st.State); got != c.state || st.Health != c.helth {
			t.Errorf("%+v: Status %s %s, want %s %s", c.in, got, st.Health, c.state, c.helth)
		}
	}
	// Every word must be one of the schema's.
	set := redfishtest.Schemas(t)
	for _, c := range []host.Cause{host.CauseWatchdog, host.CauseCommand, host.CausePowerButton, host.CauseAlwaysOn, host.CauseRestore, host.CauseSoftReset, host.CauseUnknown} {
		if bad := set.Check("ComputerSystem.v1_28_0", "LastResetCauses", resetCause(c)); bad != nil {
			t.Errorf("%s: %v", c, bad)
		}
	}
	for _, c := range []host.Cause{host.CauseResetButton, ""} {
		if got := resetCause(c); got != "" {
			t.Errorf("%q: got %q, want nothing", c, got)
		}
	}
	for _, k := range resetTypes() {
		if bad := set.Check("Resource", "ResetType", k.name); bad != nil {
			t.Errorf("%s: %v", k.name, bad)
		}
	}
	if got := restorePolicy("sometimes"); got != "" {
		t.Errorf("restore policy: got %q, want nothing", got)
	}
}

func TestPatchSystem(t *testing.T) {
	r := newRig(t, redfishtest.HostOptions{On: true})
	for _, c := range []struct {
		body    string
		status  int
		keys    []string
		related []string
	}{
		{`{"PowerRestorePolicy":"AlwaysOn"}`, 200, nil, nil},
		{`{"PowerRestorePolicy":"Sometimes"}`, 400, []string{"PropertyValueNotInList"}, []string{"#/PowerRestorePolicy"}},
		{`{"PowerRestorePolicy":1}`, 400, []string{"PropertyValueTypeError"}, []string{"#/PowerRestorePolicy"}},
		{`{"LocationIndicatorActive":true}`, 200, nil, nil},
		{`{"IndicatorLED":"Off"}`, 200, nil, nil},
		{`{"IndicatorLED":"Lit"}`, 200, nil, nil},
		{`{"IndicatorLED":"Blinking"}`, 400, []string{"PropertyValueNotInList"}, []string{"#/IndicatorLED"}},
		{`{"LocationIndicatorActive":"true"}`, 400, []string{"PropertyValueTypeError"}, []string{"#/LocationIndicatorActive"}},
		{`{"LocationIndicatorActive":null}`, 400, []string{"PropertyValueTypeError"}, []string{"#/LocationIndicatorActive"}},
		{`{"PowerState":"Off"}`, 400, []string{"PropertyNotWritable"}, []string{"#/PowerState"}},
		{`{"BogusProp":1}`, 400, []string{"PropertyUnknown"}, []string{"#/BogusProp"}},
		{`{"BogusProp":1,"Id":"x"}`, 400, []string{"PropertyUnknown", "PropertyNotWritable"}, []string{"#/BogusProp", "#/Id"}},
		{`{"BogusProp":1,"PowerRestorePolicy":"LastState","Id":"x"}`, 200, []string{"PropertyUnknown", "PropertyNotWritable"}, []string{"#/BogusProp", "#/Id"}},
	} {
		a := r.Want(redfishtest.Call{Method: "PATCH", URI: resource.SystemURI, User: "oper", Body: c.body}, c.status, c.keys...)
		if got := a.Related(); !slices.Equal(got, c.related) {
			t.Errorf("%s: RelatedProperties %v, want %v", c.body, got, c.related)
		}
	}
	if want := []host.RestorePolicy{host.AlwaysOn, host.LastState}; !slices.Equal(r.host.Policies, want) {
		t.Errorf("saved policies: got %v, want %v", r.host.Policies, want)
	}
	a := r.Do(redfishtest.Call{Method: "GET", URI: resource.SystemURI, User: "oper"})
	if a.At("PowerRestorePolicy") != "LastState" || a.At("LocationIndicatorActive") != true || a.At("IndicatorLED") != "Lit" || !r.host.Identify.On() {
		t.Errorf("after PATCH: %s", a.Body)
	}
	r.host.Light.Fail(errors.New("wire"))
	r.Want(redfishtest.Call{Method: "PATCH", URI: resource.SystemURI, User: "oper", Body: `{"LocationIndicatorActive":false}`}, 500, "PropertyNotUpdated")
	r.host.Light.Fail(nil)
}

func TestBoot(t *testing.T) {
	r := newRig(t, redfishtest.HostOptions{On: true})
	type shown struct{ enabled, target, mode any }
	off := shown{"Disabled", "None", nil}
	const enabled, target, mode = bootEnabled, bootTarget, bootMode
	for _, c := range []struct {
		boot   string
		status int
		keys   []string
		want   shown
	}{
		{`{"BootSourceOverrideEnabled":"Once","BootSourceOverrideTarget":"Pxe","BootSourceOverrideMode":"UEFI"}`, 200, nil, shown{"Once", "Pxe", "UEFI"}},
		{`{"BootSourceOverrideEnabled":"Continuous"}`, 200, nil, shown{"Continuous", "Pxe", "UEFI"}},
		{`{"BootSourceOverrideTarget":"Hdd"}`, 200, nil, shown{"Continuous", "Hdd", "UEFI"}},
		{`{"BootSourceOverrideMode":"Legacy"}`, 200, nil, shown{"Continuous", "Hdd", "Legacy"}},
		{`{"BootSourceOverrideMode":null}`, 200, nil, shown{"Continuous", "Hdd", nil}},
		{`{"BootSourceOverrideEnabled":"Disabled","BootSourceOverrideTarget":"Pxe"}`, 400, []string{"PropertyValueConflict"}, shown{"Continuous", "Hdd", nil}},
		{`{"BootSourceOverrideEnabled":"Disabled","BootSourceOverrideTarget":"Hdd"}`, 200, nil, off},
		{`{"BootSourceOverrideTarget":"Pxe"}`, 400, []string{"PropertyMissing"}, off},
		{`{"BootSourceOverrideEnabled":"Once"}`, 400, []string{"PropertyMissing"}, off},
		// A mode holds without a target, too.
		{`{"BootSourceOverrideMode":"UEFI"}`, 200, nil, shown{"Disabled", "None", "UEFI"}},
		{`{"BootSourceOverrideEnabled":"Disabled","BootSourceOverrideMode":"Legacy"}`, 200, nil, shown{"Disabled", "None", "Legacy"}},
		{`{"BootSourceOverrideTarget":"None"}`, 200, nil, shown{"Disabled", "None", "Legacy"}},
		{`{"BootSourceOverrideMode":null}`, 200, nil, off},
		{`{"BootSourceOverrideMode":"BIOS"}`, 400, []string{"PropertyValueNotInList"}, off},
		{`{"HttpBootUri":"http://boot/","BootSourceOverrideEnabled":"Once","BootSourceOverrideTarget":"UefiHttp"}`, 400, []string{"PropertyNotWritable"}, off},
		{`{"HttpBootUri":null,"BootSourceOverrideTarget":"None"}`, 200, nil, off}, // as it was read
		{`{"BootSourceOverrideEnabled":"Once","BootSourceOverrideTarget":"Cd"}`, 400, []string{"PropertyValueNotInList"}, off},
		{`{"BootSourceOverrideEnabled":"Twice","BootSourceOverrideTarget":"Pxe"}`, 400, []string{"PropertyValueNotInList"}, off},
		{`{"BootSourceOverrideEnabled":true,"BootSourceOverrideTarget":"Pxe"}`, 400, []string{"PropertyValueTypeError"}, off},
		{`{"BootNext":"Boot0001","BootSourceOverrideEnabled":"Once","BootSourceOverrideTarget":"Pxe"}`, 400, []string{"PropertyUnknown"}, off},
		{`{"BootSourceOverrideEnabled":"Once","BootSourceOverrideTarget":"UefiHttp"}`, 200, nil, shown{"Once", "UefiHttp", nil}},
		{`{"BootSourceOverrideTarget":"None"}`, 200, nil, off},
		{`{"BootSourceOverrideEnabled":"Once","BootSourceOverrideTarget":"None"}`, 200, nil, off},
		{`{}`, 400, []string{"NoOperation"}, off},
		{`"Pxe"`, 400, []string{"PropertyValueTypeError"}, off},
	} {
		r.Want(redfishtest.Call{Method: "PATCH", URI: resource.SystemURI, User: "oper", Body: `{"Boot":` + c.boot + `}`}, c.status, c.keys...)
		a := r.Do(redfishtest.Call{Method: "GET", URI: resource.SystemURI, User: "oper"})
		if got := (shown{a.At("Boot", enabled), a.At("Boot", target), a.At("Boot", mode)}); got != c.want {
			t.Errorf("%s: got %v, want %v", c.boot, got, c.want)
		}
	}
	const pxe = `{"Boot":{"BootSourceOverrideEnabled":"Once","BootSourceOverrideTarget":"Pxe"}}`
	for _, c := range []struct {
		err    error // of the selector
		body   string
		status int
		key    string
		about  string
	}{
		{errors.New("wire"), pxe, 500, "PropertyNotUpdated", "#/Boot"},
		{errors.ErrUnsupported, pxe, 400, "PropertyValueNotInList", "#/Boot/" + target},
		{errors.ErrUnsupported, strings.Replace(pxe, "}", `,"BootSourceOverrideMode":"UEFI"}`, 1), 400, "PropertyValueNotInList", "#/Boot/" + mode},
	} {
		r.host.Selector.Fail(c.err)
		a := r.Want(redfishtest.Call{Method: "PATCH", URI: resource.SystemURI, User: "oper", Body: c.body}, c.status, c.key)
		info, _ := a.At("error", "@Message.ExtendedInfo").([]any) // want has looked at it
		if got := fmt.Sprint(info); !strings.Contains(got, "["+c.about+"]") {
			t.Errorf("%v, %s: want it about %s, got %s", c.err, c.body, c.about, got)
		}
	}
}

// FuzzPatch: whatever is sent, the override stays one that the host offers.
func FuzzPatch(f *testing.F) {
	for _, s := range []string{
		`{"Boot":{"BootSourceOverrideEnabled":"Once","BootSourceOverrideTarget":"Pxe","BootSourceOverrideMode":"UEFI"}}`,
		`{"Boot":{"BootSourceOverrideEnabled":"Disabled","BootSourceOverrideMode":null,"HttpBootUri":null}}`,
		`{"PowerRestorePolicy":"AlwaysOn","LocationIndicatorActive":true,"IndicatorLED":"Off"}`, `{"AssetTag":"x"}`, `{"Boot":[]}`,
	} {
		f.Add([]byte(s))
	}
	r := newRig(f, redfishtest.HostOptions{Stopped: true})
	f.Fuzz(func(t *testing.T, data []byte) {
		body, problem := resource.Decode(data, "")
		if problem != nil {
			return
		}
		// No policy: saving it is not this test's.
		body = slices.DeleteFunc(body, func(m resource.Member) bool { return m.Name == "PowerRestorePolicy" })
		request := &resource.Request{Request: httptest.NewRequest("PATCH", resource.SystemURI, nil), Body: body}
		if reply := r.system.patchSystem(request); reply.Resource == nil && reply.Problems == nil {
			t.Error("neither done nor refused")
		}
		o := r.host.Boot.Get()
		if o.Target != host.BootDefault && !slices.Contains(r.host.Boot.Targets(), o.Target) {
			t.Errorf("the override is %+v", o)
		}
	})
}

func BenchmarkSystem(b *testing.B) {
	r := newRig(b, redfishtest.HostOptions{Stopped: true})
	for b.Loop() {
		if _, err := json.Marshal(r.system.getSystem(nil).Resource); err != nil {
			b.Fatal(err)
		}
	}
}

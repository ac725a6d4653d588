package chassis

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nitrino/nitrino/host"
	"github.com/nitrino/nitrino/internal/fru"
	"github.com/nitrino/nitrino/redfish/protocol"
	"github.com/nitrino/nitrino/redfish/redfishtest"
	"github.com/nitrino/nitrino/redfish/resource"
)

// A gauge tells what a test set.
type gauge struct {
	mu    sync.Mutex
	value float64
	err   error
}

func (g *gauge) Read(context.Context) (float64, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.value, g.err
}

func (g *gauge) set(v float64, err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.value, g.err = v, err
}

// A memory is a FRU memory.
type memory struct {
	data []byte
	err  error
}

func (m *memory) Size() int { return len(m.data) }

func (m *memory) ReadAt(p []byte, off int64) (int, error) {
	if m.err != nil {
		return 0, m.err
	}
	return copy(p, m.data[off:]), nil
}

func (m *memory) WriteAt(p []byte, off int64) (int, error) {
	if m.err != nil {
		return 0, m.err
	}
	return copy(m.data[off:], p), nil
}

type rig struct {
	*redfishtest.Rig
	host    *redfishtest.Host
	chassis *Chassis
	gauges  map[string]*gauge
	memory  *memory
}

// newRig has a sensor of each kind, unless o says otherwise.
func newRig(t testing.TB, o redfishtest.HostOptions, inv *fru.Inventory, hw *host.Hardware) *rig {
	t.Helper()
	r := &rig{gauges: map[string]*gauge{}, memory: &memory{data: make([]byte, 1024)}}
	if inv != nil {
		image, err := inv.Encode(len(r.memory.data))
		if err != nil {
			t.Fatal(err)
		}
		copy(r.memory.data, image)
	}
	if o.Parts == nil && !o.Bare {
		o.Parts = func(p *host.Parts) {
			p.FRU = r.memory
			add := func(name string, q host.Quantity, place host.Place, value, low, high float64, l host.Limits) {
				g := &gauge{value: value}
				r.gauges[name] = g
				p.Sensors = append(p.Sensors, host.SensorPart{Name: name, Quantity: q, Place: place, Min: low, Max: high, Limits: l, Gauge: g})
			}
			add("Inlet temp", host.Temperature, host.PlaceInlet, 23.04567, -10, 127.5, host.Limits{LowerCaution: new(0.), UpperCaution: new(35.), UpperCritical: new(40.), UpperFatal: new(45.), Hysteresis: 2})
			add("Inlet/temp", host.Temperature, host.PlaceExhaust, 31, -10, 127.5, host.Limits{})
			add("CPU", host.Temperature, host.PlaceCPU, 90, 0, 127.5, host.Limits{UpperCaution: new(85.), UpperCritical: new(95.)})
			add("Fan 1", host.FanSpeed, host.PlaceFan, 1234.4, 0, 5100, host.Limits{LowerCaution: new(600.), LowerCritical: new(400.), Hysteresis: 50})
			add("12 V", host.Voltage, host.PlaceSystem, 12.05, 0, 15.3, host.Limits{LowerCritical: new(10.8), UpperCritical: new(13.2)})
			add("Amps", host.Current, host.PlaceBoard, 1, 0, 10, host.Limits{})
			add("PSU1", host.Wattage, host.PlacePSU, 70, 0, 500, host.Limits{})
			add("Humidity", host.Humidity, host.PlaceInlet, 40, 0, 100, host.Limits{})
		}
	}
	r.host = redfishtest.NewHost(t, o)
	log := slog.New(slog.DiscardHandler)
	r.chassis = New(Options{Host: r.host.Host, Log: log, Hardware: hw, System: true, Manager: true})
	service, err := protocol.New(protocol.Options{Auth: redfishtest.NewAuth(), Log: log, Routes: r.chassis.Routes()})
	if err != nil {
		t.Fatal(err)
	}
	r.Rig = redfishtest.New(t, service)
	if !o.Stopped {
		r.await(t, func() bool {
			return !slices.ContainsFunc(r.host.Sensors.List(), func(x *host.Sensor) bool { return !x.Reading().Valid })
		})
	}
	return r
}

func (r *rig) await(t testing.TB, what func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !what(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("it does not come")
		}
	}
}

func get(uri string) redfishtest.Call {
	return redfishtest.Call{Method: "GET", URI: uri, User: "reader"}
}

func patch(uri, body string) redfishtest.Call {
	return redfishtest.Call{Method: "PATCH", URI: uri, User: "admin", Body: body}
}

// check compares parts of an answer, as text.
func check(t *testing.T, a redfishtest.Answer, want map[string]string) {
	t.Helper()
	for path, w := range want {
		if got := fmt.Sprint(a.At(strings.Split(path, "/")...)); got != w {
			t.Errorf("%v %s: got %s, want %s", a.JSON["@odata.id"], path, got, w)
		}
	}
}

// all are the URIs that a walk from the collection finds, each read.
func (r *rig) all(t *testing.T) map[string]redfishtest.Answer {
	t.Helper()
	found := map[string]redfishtest.Answer{}
	todo := []string{resource.ChassisCollectionURI}
	for len(todo) > 0 {
		uri := todo[0]
		todo = todo[1:]
		if _, done := found[uri]; done {
			continue
		}
		a := r.Want(get(uri), 200)
		if id := a.JSON["@odata.id"]; id != uri {
			t.Errorf("%s: @odata.id %v", uri, id)
		}
		found[uri] = a
		var walk func(any)
		walk = func(v any) {
			switch v := v.(type) {
			case []any:
				for _, each := range v {
					walk(each)
				}
			case map[string]any:
				for name, each := range v {
					link, isText := each.(string)
					if (name == "@odata.id" || name == "DataSourceUri") && isText && !strings.Contains(link, "#") && strings.HasPrefix(link, resource.ChassisCollectionURI) {
						todo = append(todo, link)
					}
					walk(each)
				}
			}
		}
		walk(a.JSON)
	}
	return found
}

func TestChassis(t *testing.T) {
	blank := fru.Field{Encoding: fru.Latin1}
	text := func(s string) fru.Field {
		f, err := fru.NewField(s)
		if err != nil {
			t.Fatal(err)
		}
		return f
	}
	product := &fru.Area{Fields: []fru.Field{text("ACME"), text("Anvil"), text("P-1"), blank, text("S-1"), text("tag-1"), blank}}
	r := newRig(t, redfishtest.HostOptions{On: true}, &fru.Inventory{
		Chassis: &fru.Area{ChassisType: 0x17, Fields: []fru.Field{text("CP-1"), text("CS-1")}}, Product: product,
	}, &host.Hardware{Manufacturer: "QEMU", Model: "pc"})
	check(t, r.Want(get(resource.ChassisURI), 200), map[string]string{
		"Id": "chassis", "ChassisType": "RackMount", "Manufacturer": "ACME", "Model": "Anvil", "PartNumber": "CP-1", "SerialNumber": "CS-1", "AssetTag": "tag-1",
		"LocationIndicatorActive": "false", "PowerState": "On", "Status/State": "Enabled", "Status/Health": "OK", "Status/HealthRollup": "Warning",
		"Links/ComputerSystems": "[map[@odata.id:/redfish/v1/Systems/system]]", "Links/ManagedBy": "[map[@odata.id:/redfish/v1/Managers/bmc]]",
		"Links/ManagersInChassis": "[map[@odata.id:/redfish/v1/Managers/bmc]]",
	})
	// All of the tree can be read, and all of it was.
	found := r.all(t)
	if got, want := len(found), 24; got != want {
		t.Errorf("the walk found %d resources, want %d", got, want)
	}
	for _, route := range r.chassis.Routes() {
		if _, ok := found[route.Pattern]; !ok && !strings.Contains(route.Pattern, "{id}") {
			t.Errorf("no link leads to %s", route.Pattern)
		}
	}
	for _, c := range []struct {
		body   string
		status int
		keys   []string
	}{
		{`{"LocationIndicatorActive":true,"AssetTag":"Regal 7, ß"}`, 200, nil},
		{`{"AssetTag":"` + strings.Repeat("x", 64) + `"}`, 400, []string{"StringValueTooLong"}},
		{`{"AssetTag":"a\nb"}`, 400, []string{"PropertyValueFormatError"}},
		{`{"AssetTag":7}`, 400, []string{"PropertyValueTypeError"}},
		{`{"LocationIndicatorActive":1}`, 400, []string{"PropertyValueTypeError"}},
		{`{"IndicatorLED":"Lit"}`, 200, nil}, // as Ansible's IndicatorLedOn has it
		{`{"IndicatorLED":"Blinking"}`, 400, []string{"PropertyValueNotInList"}},
		{`{"Model":"x"}`, 400, []string{"PropertyNotWritable"}},
		{`{"Colour":"x"}`, 400, []string{"PropertyUnknown"}},
	} {
		r.Want(patch(resource.ChassisURI, c.body), c.status, c.keys...)
	}
	r.Want(redfishtest.Call{Method: "PATCH", URI: resource.ChassisURI, User: "reader", Body: `{"AssetTag":"x"}`}, 403, "InsufficientPrivilege")
	check(t, r.Want(get(resource.ChassisURI), 200), map[string]string{"AssetTag": "Regal 7, ß", "LocationIndicatorActive": "true", "IndicatorLED": "Lit", "Model": "Anvil"})
	if !r.host.Identify.On() {
		t.Error("the ID light is off")
	}
	check(t, r.Want(patch(resource.ChassisURI, `{"AssetTag":null}`), 200), map[string]string{"AssetTag": ""})
	r.host.Light.Fail(errors.New("wire"))
	r.Want(patch(resource.ChassisURI, `{"LocationIndicatorActive":false}`), 500, "PropertyNotUpdated")
	r.host.Light.Fail(nil)
	r.memory.err = errors.New("bus")
	r.Want(patch(resource.ChassisURI, `{"AssetTag":"y"}`), 500, "PropertyNotUpdated")
}

// Clients that clear "the" log look for it at the chassis.
func TestChassisLogServices(t *testing.T) {
	for _, there := range []bool{false, true} {
		h := redfishtest.NewHost(t, redfishtest.HostOptions{Bare: true, Stopped: true})
		got := New(Options{Host: h.Host, LogServices: there}).getChassis(nil).Resource.(chassis).LogServices
		if (got != nil) != there || there && got.ODataID != resource.SystemLogServicesURI {
			t.Errorf("LogServices there %t: got %v", there, got)
		}
	}
}

// A board without sensors, meter and inventory shows what is left.
func TestBareChassis(t *testing.T) {
	r := newRig(t, redfishtest.HostOptions{Bare: true}, nil, nil)
	if got, want := len(r.all(t)), 12; got != want {
		t.Errorf("the walk found %d resources, want %d", got, want)
	}
	check(t, r.Want(get(resource.ChassisURI), 200), map[string]string{
		"ChassisType": "RackMount", "Model": "<nil>", "SerialNumber": "<nil>", "LocationIndicatorActive": "<nil>", "PowerState": "<nil>", "AssetTag": "", "Status/HealthRollup": "OK",
	})
	check(t, r.Want(get(powerURI), 200), map[string]string{"PowerControl": "[]", "Voltages": "[]", "PowerSupplies": "[]"})
	r.Want(patch(powerURI, `{"PowerControl":[]}`), 405, "OperationNotAllowed")
	r.Want(patch(environmentMetricsURI, `{}`), 405, "OperationNotAllowed")
	r.Want(get(powerLimitURI), 404, "InvalidURI")
	r.Want(patch(resource.ChassisURI, `{"LocationIndicatorActive":true}`), 400, "PropertyNotWritable")
	// The inventory is blank, and gets its first content.
	check(t, r.Want(patch(resource.ChassisURI, `{"AssetTag":"first"}`), 200), map[string]string{"AssetTag": "first"})
	// The hardware tells what the inventory does not.
	r = newRig(t, redfishtest.HostOptions{Bare: true}, nil, &host.Hardware{Manufacturer: "QEMU", Model: "pc", Serial: "42"})
	check(t, r.Want(get(resource.ChassisURI), 200), map[string]string{"Manufacturer": "QEMU", "Model": "pc", "SerialNumber": "42"})
}

// A damaged inventory says nothing, and nothing is written over it.
func TestDamagedInventory(t *testing.T) {
	r := newRig(t, redfishtest.HostOptions{On: true, Stopped: true}, nil, nil)
	r.memory.data[3] = 0x77
	check(t, r.Want(get(resource.ChassisURI), 200), map[string]string{"AssetTag": "<nil>", "Model": "<nil>"})
	r.Want(patch(resource.ChassisURI, `{"AssetTag":"x"}`), 500, "PropertyNotUpdated")
	if r.memory.data[3] != 0x77 || r.memory.data[0] != 0 {
		t.Error("it was written over")
	}
}

func TestEnclosure(t *testing.T) {
	set := redfishtest.Schemas(t)
	for i := range 256 {
		if bad := set.Check("Chassis.v1_28_0", "ChassisType", enclosure(byte(i), "Other")); bad != nil {
			t.Errorf("%#02x: %v", i, bad)
		}
	}
	for smbios, want := range map[byte]string{0: "Sled", 2: "Sled", 3: "StandAlone", 0x17: "RackMount", 0x1C: "Blade"} {
		if got := enclosure(smbios, "Sled"); got != want {
			t.Errorf("%#02x: got %s, want %s", smbios, got, want)
		}
	}
}

func TestSensors(t *testing.T) {
	r := newRig(t, redfishtest.HostOptions{On: true}, nil, nil)
	a := r.Want(get(resource.SensorsURI+"/Inlet_temp"), 200)
	check(t, a, map[string]string{
		"Name": "Inlet temp", "ReadingType": "Temperature", "ReadingUnits": "Cel", "Reading": "23.046", "ReadingRangeMin": "-10", "ReadingRangeMax": "127.5",
		"PhysicalContext": "Intake", "Status/State": "Enabled", "Status/Health": "OK",
		"Thresholds/UpperCaution":  "map[Activation:Increasing HysteresisReading:-2 Reading:35]",
		"Thresholds/LowerCaution":  "map[Activation:Decreasing HysteresisReading:2 Reading:0]",
		"Thresholds/LowerCritical": "<nil>",
	})
	check(t, r.Want(get(resource.SensorsURI+"/Inlet_temp_2"), 200), map[string]string{"Name": "Inlet/temp", "PhysicalContext": "Exhaust", "Thresholds": "map[]"})
	check(t, r.Want(get(resource.SensorsURI+"/CPU"), 200), map[string]string{"Status/Health": "Warning", "PhysicalContext": "CPU"})
	check(t, r.Want(get(resource.SensorsURI+"/Fan_1"), 200), map[string]string{"ReadingType": "Rotational", "ReadingUnits": "{rev}/min", "Reading": "1234.4"})
	r.Want(get(resource.SensorsURI+"/Fan"), 404, "ResourceNotFound")
	if got := r.chassis.SensorURI("Inlet/temp"); got != resource.SensorsURI+"/Inlet_temp_2" {
		t.Errorf("SensorURI: got %q", got)
	}
	if got := r.chassis.SensorURI("none"); got != "" {
		t.Errorf("SensorURI of no sensor: got %q", got)
	}
	// Another reading is no other sensor; a broken one is.
	r.gauges["Inlet temp"].set(24, nil)
	r.await(t, func() bool {
		return r.Do(get(resource.SensorsURI+"/Inlet_temp")).At("Reading") == 24.
	})
	if got, want := r.Do(get(resource.SensorsURI+"/Inlet_temp")).Header.Get("ETag"), a.Header.Get("ETag"); got != want {
		t.Errorf("ETag: got %s, want %s", got, want)
	}
	r.gauges["Inlet temp"].set(0, errors.New("bus"))
	r.await(t, func() bool {
		return r.Do(get(resource.SensorsURI+"/Inlet_temp")).At("Status", "State") == "UnavailableOffline"
	})
	check(t, r.Do(get(resource.SensorsURI+"/Inlet_temp")), map[string]string{"Reading": "<nil>", "Status/Health": "<nil>"})
	set := redfishtest.Schemas(t)
	for _, q := range []host.Quantity{host.Temperature, host.Voltage, host.Current, host.FanSpeed, host.Wattage, host.Humidity} {
		if word, unit := kind(q); set.Check("Sensor.v1_13_0", "ReadingType", word) != nil || unit == "" {
			t.Errorf("%s: ReadingType %q, unit %q", q, word, unit)
		}
	}
	for _, p := range []host.Place{host.PlaceBoard, host.PlaceSystem, host.PlaceInlet, host.PlaceExhaust, host.PlaceCPU, host.PlacePSU, host.PlaceFan} {
		if bad := set.Check("PhysicalContext", "PhysicalContext", physicalContext(p)); bad != nil {
			t.Errorf("%s: %v", p, bad)
		}
	}
}

func TestThresholds(t *testing.T) {
	r := newRig(t, redfishtest.HostOptions{On: true}, nil, nil)
	uri := resource.SensorsURI + "/Inlet_temp"
	for _, c := range []struct {
		thresholds string
		status     int
		keys       []string
		related    []string
	}{
		{`{"UpperCaution":{"Reading":30}}`, 200, nil, nil},
		{`{"UpperCaution":{"Reading":31,"Activation":"Increasing"},"LowerCritical":{"Reading":-5}}`, 200, nil, nil},
		{`{"UpperFatal":null,"UpperCritical":{"Reading":null}}`, 200, nil, nil},
		{`{"UpperFatal":{"Reading":50.5}}`, 200, nil, nil},
		{`{"UpperCaution":{"Reading":128}}`, 400, []string{"PropertyValueOutOfRange"}, []string{"#/Thresholds/UpperCaution/Reading"}},
		{`{"UpperCaution":{"Reading":1e400}}`, 400, []string{"PropertyValueOutOfRange"}, []string{"#/Thresholds/UpperCaution/Reading"}},
		{`{"UpperCaution":{"Reading":-1}}`, 400, []string{"PropertyValueConflict"}, []string{"#/Thresholds/LowerCaution/Reading", "#/Thresholds/UpperCaution/Reading"}},
		{`{"UpperCaution":{"Reading":32},"LowerFatal":{"Reading":-11}}`, 400, []string{"PropertyValueOutOfRange"}, []string{"#/Thresholds/LowerFatal/Reading"}},
		{`{"UpperCaution":{"Reading":"30"}}`, 400, []string{"PropertyValueTypeError"}, []string{"#/Thresholds/UpperCaution/Reading"}},
		{`{"UpperCaution":{"Reading":32,"Activation":"Decreasing"}}`, 400, []string{"PropertyValueNotInList"}, []string{"#/Thresholds/UpperCaution/Activation"}},
		{`{"UpperCaution":{"HysteresisReading":-1}}`, 400, []string{"PropertyNotWritable"}, []string{"#/Thresholds/UpperCaution/HysteresisReading"}},
		{`{"UpperCaution":{"DwellTime":"PT1S"}}`, 400, []string{"PropertyUnknown"}, []string{"#/Thresholds/UpperCaution/DwellTime"}},
		{`{"UpperCautionUser":{"Reading":1}}`, 400, []string{"PropertyUnknown"}, []string{"#/Thresholds/UpperCautionUser"}},
		{`{"UpperCaution":30}`, 400, []string{"PropertyValueTypeError"}, []string{"#/Thresholds/UpperCaution"}},
		{`null`, 400, []string{"PropertyValueTypeError"}, []string{"#/Thresholds"}},
		{`{}`, 400, []string{"NoOperation"}, nil},
	} {
		a := r.Want(patch(uri, `{"Thresholds":`+c.thresholds+`}`), c.status, c.keys...)
		if got := a.Related(); !slices.Equal(got, c.related) {
			t.Errorf("%s: RelatedProperties %v, want %v", c.thresholds, got, c.related)
		}
	}
	l := r.host.Sensors.List()[0].Limits()
	if *l.UpperCaution != 31 || l.UpperCritical != nil || *l.UpperFatal != 50.5 || *l.LowerCritical != -5 || *l.LowerCaution != 0 || l.LowerFatal != nil || l.Hysteresis != 2 {
		t.Errorf("limits: got %+v", newThresholds(l))
	}
	if !slices.ContainsFunc(r.host.Events.Since(0, 0), func(e host.Event) bool {
		return e.Kind == "sensor.limits-changed" && e.Origin == host.Origin{Via: resource.Via, User: "admin", Source: "127.0.0.1"}
	}) {
		t.Error("no event with the origin")
	}
	r.Want(patch(uri, `{"Reading":1}`), 400, "PropertyNotWritable")
	r.Want(patch(resource.SensorsURI+"/x", `{"Thresholds":{"UpperCaution":{"Reading":30}}}`), 404, "ResourceNotFound")
	r.Want(redfishtest.Call{Method: "PATCH", URI: uri, User: "oper", Body: `{"Thresholds":{"UpperCaution":{"Reading":33}}}`}, 200)
	r.Want(redfishtest.Call{Method: "PATCH", URI: uri, User: "reader", Body: `{"Thresholds":{"UpperCaution":{"Reading":33}}}`}, 403, "InsufficientPrivilege")
	// The sensor is judged by them at once.
	check(t, r.Want(patch(uri, `{"Thresholds":{"UpperCaution":{"Reading":20},"UpperFatal":{"Reading":21}}}`), 200), map[string]string{"Status/Health": "Critical"})
	check(t, r.Want(get(resource.ChassisURI), 200), map[string]string{"Status/HealthRollup": "Critical"})
	check(t, r.Want(get(thermalURI), 200), map[string]string{"Status/HealthRollup": "Critical"})
}

func TestThermal(t *testing.T) {
	r := newRig(t, redfishtest.HostOptions{On: true}, nil, nil)
	check(t, r.Want(get(thermalMetricsURI), 200), map[string]string{
		"TemperatureSummaryCelsius": "map[Exhaust:map[DataSourceUri:/redfish/v1/Chassis/chassis/Sensors/Inlet_temp_2 Reading:31] Intake:map[DataSourceUri:/redfish/v1/Chassis/chassis/Sensors/Inlet_temp Reading:23.046]]",
	})
	if list, _ := r.Do(get(thermalMetricsURI)).At("TemperatureReadingsCelsius").([]any); len(list) != 3 {
		t.Errorf("%d temperatures, want 3", len(list))
	}
	check(t, r.Want(get(fansURI+"/Fan_1"), 200), map[string]string{"SpeedPercent": "map[Reading:<nil> SpeedRPM:1234.4]", "Name": "Fan 1", "Status/Health": "OK"})
	r.Want(get(fansURI+"/CPU"), 404, "ResourceNotFound") // a sensor, and no fan
	a := r.Want(get(thermalURI), 200)
	temperatures, _ := a.At("Temperatures").([]any)
	fans, _ := a.At("Fans").([]any)
	if len(temperatures) != 3 || len(fans) != 1 {
		t.Fatalf("%d temperatures and %d fans, want 3 and 1", len(temperatures), len(fans))
	}
	for _, c := range []struct {
		in   any
		want string
	}{
		{temperatures[0], "map[@odata.id:/redfish/v1/Chassis/chassis/Thermal#/Temperatures/0 LowerThresholdNonCritical:0 MaxReadingRangeTemp:127.5 MemberId:0 MinReadingRangeTemp:-10 Name:Inlet temp PhysicalContext:Intake ReadingCelsius:23.046 Status:map[Health:OK State:Enabled] UpperThresholdCritical:40 UpperThresholdFatal:45 UpperThresholdNonCritical:35]"},
		{fans[0], "map[@odata.id:/redfish/v1/Chassis/chassis/Thermal#/Fans/0 LowerThresholdCritical:400 LowerThresholdNonCritical:600 MaxReadingRange:5100 MemberId:0 MinReadingRange:0 Name:Fan 1 PhysicalContext:Fan Reading:1234 ReadingUnits:RPM Status:map[Health:OK State:Enabled]]"},
	} {
		if got := fmt.Sprint(c.in); got != c.want {
			t.Errorf("got %s, want %s", got, c.want)
		}
	}
}

func TestPower(t *testing.T) {
	r := newRig(t, redfishtest.HostOptions{On: true}, nil, nil)
	check(t, r.Want(get(powerSuppliesURI+"/PSU1/Metrics"), 200), map[string]string{"InputPowerWatts/Reading": "70"})
	r.Want(get(powerSuppliesURI+"/CPU"), 404, "ResourceNotFound")
	r.Want(get(powerSuppliesURI+"/CPU/Metrics"), 404, "ResourceNotFound")
	check(t, r.Want(get(environmentMetricsURI), 200), map[string]string{
		"PowerWatts":         "map[DataSourceUri:/redfish/v1/Chassis/chassis/Sensors/PSU1 Reading:70]",
		"TemperatureCelsius": "map[DataSourceUri:/redfish/v1/Chassis/chassis/Sensors/Inlet_temp Reading:23.046]",
		"HumidityPercent":    "map[DataSourceUri:/redfish/v1/Chassis/chassis/Sensors/Humidity Reading:40]", "PowerLimitWatts/SetPoint": "<nil>", "PowerLimitWatts/ControlMode": "Disabled",
	})
	r.await(t, func() bool { return !r.host.Meter.Status().Since.IsZero() })
	a := r.Want(get(powerURI), 200)
	controls, _ := a.At("PowerControl").([]any)
	if got, want := fmt.Sprint(controls), "[map[@odata.id:/redfish/v1/Chassis/chassis/Power#/PowerControl/0 MemberId:0 Name:Host Power PhysicalContext:Chassis PowerConsumedWatts:70 PowerLimit:map[CorrectionInMs:0 LimitException:LogEventOnly LimitException@Redfish.AllowableValues:[LogEventOnly HardPowerOff] LimitInWatts:<nil>] PowerMetrics:map[AverageConsumedWatts:70 IntervalInMin:1 MaxConsumedWatts:70 MinConsumedWatts:70] Status:map[Health:OK State:Enabled]]]"; got != want {
		t.Errorf("PowerControl: got %s, want %s", got, want)
	}
	check(t, a, map[string]string{
		"PowerSupplies": "[map[@odata.id:/redfish/v1/Chassis/chassis/Power#/PowerSupplies/0 MemberId:0 Name:PSU1 PowerInputWatts:70 Status:map[Health:OK State:Enabled]]]",
		"Voltages":      "[map[@odata.id:/redfish/v1/Chassis/chassis/Power#/Voltages/0 LowerThresholdCritical:10.8 MaxReadingRange:15.3 MemberId:0 MinReadingRange:0 Name:12 V PhysicalContext:Chassis ReadingVolts:12.05 Status:map[Health:OK State:Enabled] UpperThresholdCritical:13.2]]",
	})
	// What is measured is no part of the tags of what can be written.
	r.gauges["PSU1"].set(71, nil)
	tags := map[string]string{}
	for _, uri := range []string{powerURI, environmentMetricsURI, powerLimitURI} {
		tags[uri] = r.Do(get(uri)).Header.Get("ETag")
	}
	r.await(t, func() bool { return r.Do(get(environmentMetricsURI)).At("PowerWatts", "Reading") == 71. })
	for uri, want := range tags {
		if got := r.Do(get(uri)).Header.Get("ETag"); got != want {
			t.Errorf("%s: ETag %s, want %s", uri, got, want)
		}
	}
}

// The limit is one, whatever it is seen and set by.
func TestPowerLimit(t *testing.T) {
	r := newRig(t, redfishtest.HostOptions{On: true}, nil, nil)
	limit := func(active bool, watts int, correction time.Duration, action host.LimitAction) *host.PowerLimit {
		return &host.PowerLimit{Active: active, Watts: watts, Correction: correction, Action: action}
	}
	now := host.PowerLimit{Action: host.LimitLog}
	metrics := func(s string) (string, string) { return environmentMetricsURI, `{"PowerLimitWatts":` + s + `}` }
	control := func(s string) (string, string) { return powerLimitURI, s }
	old := func(s string) (string, string) { return powerURI, `{"PowerControl":[{"PowerLimit":` + s + `}]}` }
	raw := func(s string) (string, string) { return powerURI, `{"PowerControl":` + s + `}` }
	for _, c := range []struct {
		by     func(string) (uri, body string)
		body   string
		status int
		keys   []string
		about  []string
		want   *host.PowerLimit // nil: as before
	}{
		{metrics, `{"ControlMode":"Automatic"}`, 400, []string{"PropertyValueConflict"}, []string{"#/PowerLimitWatts/ControlMode", "#/PowerLimitWatts/SetPoint"}, nil},
		{metrics, `{"SetPoint":200}`, 200, nil, nil, limit(false, 200, 0, host.LimitLog)},
		{metrics, `{"ControlMode":"Automatic"}`, 200, nil, nil, limit(true, 200, 0, host.LimitLog)},
		{metrics, `{"SetPoint":null}`, 400, []string{"PropertyValueConflict"}, []string{"#/PowerLimitWatts/ControlMode", "#/PowerLimitWatts/SetPoint"}, nil},
		{metrics, `{"SetPoint":0}`, 400, []string{"PropertyValueOutOfRange"}, []string{"#/PowerLimitWatts/SetPoint"}, nil},
		{metrics, `{"SetPoint":65535}`, 400, []string{"PropertyValueOutOfRange"}, []string{"#/PowerLimitWatts/SetPoint"}, nil},
		{metrics, `{"SetPoint":200.5}`, 400, []string{"PropertyValueTypeError"}, []string{"#/PowerLimitWatts/SetPoint"}, nil},
		{metrics, `{"ControlMode":"Manual"}`, 400, []string{"PropertyValueNotInList"}, []string{"#/PowerLimitWatts/ControlMode"}, nil},
		{metrics, `{"Reading":1}`, 400, []string{"PropertyNotWritable"}, []string{"#/PowerLimitWatts/Reading"}, nil},
		{metrics, `{"SetPoint":null,"ControlMode":"Disabled"}`, 200, nil, nil, limit(false, 0, 0, host.LimitLog)},
		{control, `{"ControlMode":"Automatic","SetPoint":300,"ControlDelaySeconds":1.5}`, 200, nil, nil, limit(true, 300, 1500*time.Millisecond, host.LimitLog)},
		{control, `{"SetPoint":null}`, 400, []string{"PropertyValueConflict"}, []string{"#/ControlMode", "#/SetPoint"}, nil},
		{control, `{"SetPoint":null,"ControlMode":"Disabled"}`, 200, nil, nil, limit(false, 0, 1500*time.Millisecond, host.LimitLog)},
		{control, `{"ControlDelaySeconds":-1}`, 400, []string{"PropertyValueOutOfRange"}, []string{"#/ControlDelaySeconds"}, nil},
		{control, `{"ControlDelaySeconds":86401}`, 400, []string{"PropertyValueOutOfRange"}, []string{"#/ControlDelaySeconds"}, nil},
		{control, `{"ControlType":"Power"}`, 400, []string{"PropertyNotWritable"}, []string{"#/ControlType"}, nil},
		{old, `{"LimitInWatts":250,"LimitException":"HardPowerOff","CorrectionInMs":60000}`, 200, nil, nil, limit(true, 250, time.Minute, host.LimitOff)},
		{old, `{"LimitInWatts":null}`, 200, nil, nil, limit(false, 250, time.Minute, host.LimitOff)},
		{old, `{"LimitException":"LogEventOnly"}`, 200, nil, nil, limit(false, 250, time.Minute, host.LimitLog)},
		{old, `{"LimitException":"NoAction"}`, 400, []string{"PropertyValueNotInList"}, []string{"#/PowerControl/0/PowerLimit/LimitException"}, nil},
		{old, `{"LimitInWatts":-1}`, 400, []string{"PropertyValueOutOfRange"}, []string{"#/PowerControl/0/PowerLimit/LimitInWatts"}, nil},
		{old, `{"CorrectionInMs":86400001}`, 400, []string{"PropertyValueOutOfRange"}, []string{"#/PowerControl/0/PowerLimit/CorrectionInMs"}, nil},
		{old, `7`, 400, []string{"PropertyValueTypeError"}, []string{"#/PowerControl/0/PowerLimit"}, nil},
		{raw, `[{"Name":"x"}]`, 400, []string{"PropertyNotWritable"}, []string{"#/PowerControl/0/Name"}, nil},
		{raw, `[7]`, 400, []string{"PropertyValueTypeError"}, []string{"#/PowerControl/0"}, nil},
		{raw, `[{},{}]`, 400, []string{"ArraySizeTooLong"}, []string{"#/PowerControl"}, nil},
		{raw, `{}`, 400, []string{"PropertyValueTypeError"}, []string{"#/PowerControl"}, nil},
		{raw, `[{}]`, 400, []string{"NoOperation"}, nil, nil},
	} {
		uri, body := c.by(c.body)
		a := r.Want(patch(uri, body), c.status, c.keys...)
		if got := a.Related(); !slices.Equal(got, c.about) {
			t.Errorf("%s: RelatedProperties %v, want %v", body, got, c.about)
		}
		if c.want != nil {
			now = *c.want
		}
		if got := r.host.Meter.Limit(); got != now {
			t.Errorf("%s: the limit is %+v, want %+v", body, got, now)
		}
	}
	// DMTF's registry has it that these are the manager's.
	for _, uri := range []string{environmentMetricsURI, powerLimitURI, powerURI} {
		r.Want(redfishtest.Call{Method: "PATCH", URI: uri, User: "oper", Body: `{}`}, 403, "InsufficientPrivilege")
	}
	check(t, r.Want(get(powerLimitURI), 200), map[string]string{"ControlDelaySeconds": "60", "Sensor/Reading": "70", "SetPoint": "250", "ControlMode": "Disabled"})
}

// FuzzPatch: whatever is sent, the limits stay such as the host takes.
func FuzzPatch(f *testing.F) {
	for _, s := range []string{
		`{"Thresholds":{"UpperCaution":{"Reading":30},"LowerFatal":null}}`, `{"PowerLimitWatts":{"SetPoint":5,"ControlMode":"Automatic"}}`,
		`{"SetPoint":null,"ControlMode":"Automatic","ControlDelaySeconds":1e9}`, `{"PowerControl":[{"PowerLimit":{"LimitInWatts":1,"CorrectionInMs":1}}]}`,
		`{"AssetTag":"\u0000"}`, `{"AssetTag":"\ud800"}`,
	} {
		f.Add([]byte(s))
	}
	r := newRig(f, redfishtest.HostOptions{On: true}, nil, nil)
	f.Fuzz(func(t *testing.T, data []byte) {
		body, problem := resource.Decode(data, "")
		if problem != nil {
			return
		}
		for _, route := range r.chassis.Routes() {
			if route.Patch == nil {
				continue
			}
			request, err := newRequest(route, "Inlet_temp", body)
			if err != nil {
				t.Fatal(err)
			}
			reply := route.Patch(request)
			if reply.Resource == nil && reply.Problems == nil {
				t.Errorf("%s: neither done nor refused", route.Pattern)
			}
		}
		if l := r.host.Meter.Limit(); l.Watts < 0 || l.Watts > maxWatts || l.Active && l.Watts == 0 || l.Correction < 0 || l.Correction > maxCorrection*time.Second {
			t.Errorf("the limit is %+v", l)
		}
		if image, err := r.host.Inventory.Read(); err != nil {
			t.Error(err)
		} else if _, err := fru.Decode(image); err != nil && !r.host.Inventory.Blank() {
			t.Errorf("the inventory is damaged: %v", err)
		}
	})
}

func newRequest(route resource.Route, id string, body resource.Object) (*resource.Request, error) {
	r, err := http.NewRequest("PATCH", route.Pattern, nil)
	if err != nil {
		return nil, err
	}
	r.SetPathValue("id", id)
	return &resource.Request{Request: r, Body: body}, nil
}

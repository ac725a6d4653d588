package telemetry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nitrino/nitrino/host"
	"github.com/nitrino/nitrino/internal/store"
	"github.com/nitrino/nitrino/redfish/protocol"
	"github.com/nitrino/nitrino/redfish/redfishtest"
	"github.com/nitrino/nitrino/redfish/resource"
)

type call = redfishtest.Call

type gauge struct {
	value float64
	err   error
}

func (g gauge) Read(context.Context) (float64, error) { return g.value, g.err }

type bench struct {
	*redfishtest.Rig
	service *Service
	store   *store.Store
	sent    chan resource.Typed
}

// newBench has a host whose sensors were read; db nil: a new store.
func newBench(t *testing.T, db *store.Store) *bench {
	t.Helper()
	h := redfishtest.NewHost(t, redfishtest.HostOptions{On: true, Parts: func(p *host.Parts) {
		p.Sensors = []host.SensorPart{
			{Name: "cpu", Quantity: host.Temperature, Place: host.PlaceCPU, Min: -40, Max: 125, Gauge: gauge{value: 41.25}},
			{Name: "fan", Quantity: host.FanSpeed, Place: host.PlaceFan, Min: 0, Max: 9000, Gauge: gauge{value: 1200}},
			{Name: "broken", Quantity: host.Voltage, Place: host.PlaceBoard, Min: 0, Max: 20, Gauge: gauge{err: errors.New("no chip")}},
		}
	}})
	for !h.Sensors.List()[0].Reading().Valid || !h.Sensors.List()[1].Reading().Valid {
		time.Sleep(time.Millisecond)
	}
	if db == nil {
		var err error
		if db, err = store.Open(filepath.Join(t.TempDir(), "state")); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := db.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	b := &bench{store: db, sent: make(chan resource.Typed, 100)}
	log := slog.New(slog.DiscardHandler)
	b.service = New(Options{Sensors: h.Sensors.List(), Store: db, Log: log,
		Sensor: func(name string) string { return resource.SensorsURI + "/" + name },
		Report: func(definition string, r resource.Typed) error {
			if definition != definitionURI {
				t.Errorf("definition %s", definition)
			}
			b.sent <- r
			return nil
		}})
	p, err := protocol.New(protocol.Options{Auth: redfishtest.NewAuth(), Routes: b.service.Routes(), Log: log})
	if err != nil {
		t.Fatal(err)
	}
	b.Rig = redfishtest.New(t, p)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- b.service.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	})
	return b
}

func get(uri string) call { return call{Method: "GET", URI: uri, User: "reader"} }

func patch(body string) call {
	return call{Method: "PATCH", URI: definitionURI, User: "admin", Body: body}
}

// Every resource is valid, and the report has what the sensors told.
func TestReport(t *testing.T) {
	b := newBench(t, nil)
	<-b.sent
	for _, uri := range []string{resource.TelemetryServiceURI, definitionsURI, reportDefinitionsURI, reportsURI, definitionsURI + "/cpu", definitionsURI + "/broken", definitionURI} {
		b.Want(get(uri), 200)
	}
	b.Want(get(definitionsURI+"/none"), 404, "ResourceNotFound")
	a := b.Want(get(reportURI), 200)
	values, _ := a.At("MetricValues").([]any)
	got := ""
	for _, v := range values {
		m := v.(map[string]any)
		got += fmt.Sprintf("%v %v %v;", m["MetricId"], m["MetricProperty"], m["MetricValue"])
	}
	if want := "cpu /redfish/v1/Chassis/chassis/Sensors/cpu#/Reading 41.25;fan /redfish/v1/Chassis/chassis/Sensors/fan#/Reading 1200;"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	d := b.Want(get(definitionsURI+"/fan"), 200)
	if got := fmt.Sprint(d.At("Units"), d.At("MaxReadingRange")); got != "{rev}/min9000" && got != "{rev}/min 9000" {
		t.Errorf("got %s", got)
	}

	b.Want(call{Method: "POST", URI: resource.TelemetryServiceURI + "/Actions/" + clearAction, User: "oper"}, 403, "InsufficientPrivilege")
	b.Want(call{Method: "POST", URI: resource.TelemetryServiceURI + "/Actions/" + clearAction, User: "admin", Body: `{"x":1}`}, 400, "ActionParameterUnknown")
	b.Want(call{Method: "POST", URI: resource.TelemetryServiceURI + "/Actions/" + clearAction, User: "admin"}, 204)
	if got := b.Want(get(reportURI), 200).At("MetricValues"); fmt.Sprint(got) != "[]" {
		t.Errorf("after ClearMetricReports: %v", got)
	}
}

func TestDefinition(t *testing.T) {
	b := newBench(t, nil)
	<-b.sent
	b.Want(patch(`{"Schedule":{"RecurrenceInterval":"PT30S"},"ReportUpdates":"AppendWrapsWhenFull"}`), 200)
	<-b.sent // a change makes a report
	a := b.Want(get(definitionURI), 200)
	if got := fmt.Sprint(a.At("Schedule", "RecurrenceInterval"), a.At("ReportUpdates"), a.At("ReportActions")); got != "PT30SAppendWrapsWhenFull[LogToMetricReportsCollection RedfishEvent]" &&
		got != "PT30S AppendWrapsWhenFull [LogToMetricReportsCollection RedfishEvent]" {
		t.Errorf("got %s", got)
	}
	for body, want := range map[string]string{
		`{"Schedule":{"RecurrenceInterval":"soon"}}`: "PropertyValueFormatError",
		`{"Schedule":{"RecurrenceInterval":"PT1S"}}`: "PropertyValueOutOfRange",
		`{"Schedule":{"RecurrenceInterval":"P9D"}}`:  "PropertyValueOutOfRange",
		`{"Schedule":{"Lifetime":"PT1S"}}`:           "PropertyUnknown",
		`{"ReportUpdates":"NewReport"}`:              "PropertyValueNotInList",
		`{"AppendLimit":1}`:                          "PropertyNotWritable",
	} {
		b.Want(patch(body), 400, want)
	}
	b.Want(call{Method: "PATCH", URI: definitionURI, User: "oper", Body: `{}`}, 403, "InsufficientPrivilege")
	b.Want(patch(`{"MetricReportDefinitionEnabled":false}`), 200)

	again := newBench(t, b.store)
	a = again.Want(get(definitionURI), 200)
	if got := fmt.Sprint(a.At("MetricReportDefinitionEnabled"), a.At("Status", "State"), a.At("Schedule", "RecurrenceInterval")); strings.ReplaceAll(got, " ", "") != "falseDisabledPT30S" {
		t.Errorf("after a restart: got %s", got)
	}
	again.Want(call{Method: "POST", URI: resource.TelemetryServiceURI + "/Actions/" + resetAction, User: "admin"}, 204)
	if got := again.Want(get(definitionURI), 200).At("Schedule", "RecurrenceInterval"); got != "PT1M" {
		t.Errorf("after the reset: got %v, want PT1M", got)
	}
}

// A report that appends is bounded.
func TestWrap(t *testing.T) {
	b := newBench(t, nil)
	<-b.sent
	b.service.mu.Lock()
	b.service.conf.Updates = wrap
	b.service.mu.Unlock()
	now := time.Now()
	for range 3 + maxValues/2 {
		b.service.collect(now)
		r, err := json.Marshal(<-b.sent)
		if err != nil || len(r) > maxValues*300 {
			t.Fatalf("%d bytes, %v", len(r), err)
		}
	}
	if got := len(b.service.values); got != maxValues {
		t.Errorf("got %d values, want %d", got, maxValues)
	}
}

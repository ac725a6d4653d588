// Package telemetry is Redfish's TelemetryService: what the sensors told, now
// and then, as metric reports.
package telemetry

import (
	"context"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nitrino/nitrino/host"
	"github.com/nitrino/nitrino/internal/store"
	"github.com/nitrino/nitrino/redfish/message"
	"github.com/nitrino/nitrino/redfish/resource"
)

// Options are what a Service is made of; all are required but Report.
type Options struct {
	Sensors []*host.Sensor
	Store   *store.Store
	Log     *slog.Logger
	// Sensor is the URI of a sensor.
	Sensor func(name string) string
	// Report sends each new report to those who subscribed to it; nil: nobody
	// can.
	Report func(definition string, report resource.Typed) error
}

// Service is the chapter. It has one report, of all sensors.
type Service struct {
	opt Options

	mu     sync.Mutex
	conf   config
	values []metricValue // oldest first
	at     time.Time     // of the newest; zero: there is none
	turn   chan struct{} // wakes Run when conf changed
}

// config is what is kept of the report's definition.
type config struct {
	Enabled  bool          `json:"enabled"`
	Interval time.Duration `json:"interval"`
	Updates  string        `json:"updates"`
}

const (
	configBucket = "telemetry"
	configKey    = "sensors"

	// overwrite: a report has the newest values; wrap: the older ones too, as
	// long as there is room.
	overwrite = "Overwrite"
	wrap      = "AppendWrapsWhenFull"
	// maxValues is how many values a report has room for.
	maxValues = 1000

	minInterval = 10 * time.Second
	maxInterval = 24 * time.Hour
)

// settle is when the sensors have been read, which is once a second: before, a
// report would be empty.
const settle = 2 * time.Second

// New makes the service as it was configured.
func New(o Options) *Service {
	s := &Service{opt: o, conf: config{Enabled: true, Interval: time.Minute, Updates: overwrite}, turn: make(chan struct{}, 1)}
	kept := s.conf
	found, err := o.Store.GetJSON(configBucket, configKey, &kept)
	switch {
	case err != nil:
		o.Log.Warn("the metric report begins with its defaults", "error", err)
	case found && kept.Interval >= minInterval && kept.Interval <= maxInterval:
		s.conf = kept
	}
	return s
}

// Run makes reports until ctx ends.
func (s *Service) Run(ctx context.Context) error {
	select {
	case <-time.After(settle):
	case <-s.turn:
	case <-ctx.Done():
		return ctx.Err()
	}
	for {
		s.mu.Lock()
		c := s.conf
		s.mu.Unlock()
		var next <-chan time.Time // never, while it is disabled
		if c.Enabled {
			s.collect(time.Now())
			next = time.After(c.Interval)
		}
		select {
		case <-next:
		case <-s.turn:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// collect takes the sensors' readings into the report and sends it.
func (s *Service) collect(now time.Time) {
	var values []metricValue
	for _, x := range s.opt.Sensors {
		if r := x.Reading(); r.Valid {
			uri := s.opt.Sensor(x.Name())
			values = append(values, metricValue{
				ID: lastOf(uri), Property: uri + "#/Reading", Value: strconv.FormatFloat(r.Value, 'f', -1, 64), Timestamp: stamp(r.At),
			})
		}
	}
	s.mu.Lock()
	if s.conf.Updates == wrap {
		values = append(s.values, values...)
		values = append([]metricValue(nil), values[max(0, len(values)-maxValues):]...)
	}
	s.values, s.at = values, now
	report := s.report()
	s.mu.Unlock()
	if s.opt.Report == nil {
		return
	}
	if err := s.opt.Report(definitionURI, report); err != nil {
		s.opt.Log.Error("metric report not sent", "error", err)
	}
}

// lastOf is the last part of a URI: the resource's Id.
func lastOf(uri string) string { return uri[strings.LastIndexByte(uri, '/')+1:] }

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339Nano) }

const (
	serviceType          = "TelemetryService.v1_4_1.TelemetryService"
	definitionType       = "MetricDefinition.v1_3_5.MetricDefinition"
	reportType           = "MetricReport.v1_5_2.MetricReport"
	reportDefinitionType = "MetricReportDefinition.v1_4_7.MetricReportDefinition"
	definitionsURI       = resource.TelemetryServiceURI + "/MetricDefinitions"
	reportsURI           = resource.TelemetryServiceURI + "/MetricReports"
	reportURI            = reportsURI + "/Sensors"
	reportDefinitionsURI = resource.TelemetryServiceURI + "/MetricReportDefinitions"
	definitionURI        = reportDefinitionsURI + "/Sensors"
	definitionCollection = "MetricDefinitionCollection"
	reportCollection     = "MetricReportCollection"
	reportDefinitionColl = "MetricReportDefinitionCollection"
	clearAction          = "TelemetryService.ClearMetricReports"
	resetAction          = "TelemetryService.ResetMetricReportDefinitionsToDefaults"
	reportName           = "Sensor Readings"
)

// Routes are the chapter's.
func (s *Service) Routes() []resource.Route {
	collection := func(uri, schema, name string, members ...string) resource.Route {
		c := resource.NewCollection(uri, schema, name, members...)
		return resource.Route{Pattern: uri, Type: schema + "." + schema, Get: func(*resource.Request) *resource.Reply { return resource.OK(c) }}
	}
	var definitions []string
	for _, x := range s.opt.Sensors {
		definitions = append(definitions, definitionsURI+"/"+lastOf(s.opt.Sensor(x.Name())))
	}
	return []resource.Route{
		{Pattern: resource.TelemetryServiceURI, Type: serviceType, Get: s.getService},
		{Pattern: resource.TelemetryServiceURI + "/Actions/" + clearAction, Type: serviceType, Action: clearAction, Post: s.postClear},
		{Pattern: resource.TelemetryServiceURI + "/Actions/" + resetAction, Type: serviceType, Action: resetAction, Post: s.postReset},
		collection(definitionsURI, definitionCollection, "Metric Definitions", definitions...),
		{Pattern: definitionsURI + "/{id}", Type: definitionType, Get: s.getDefinition},
		collection(reportDefinitionsURI, reportDefinitionColl, "Metric Report Definitions", definitionURI),
		{Pattern: definitionURI, Type: reportDefinitionType, Get: s.getReportDefinition, Patch: s.patchReportDefinition},
		collection(reportsURI, reportCollection, "Metric Reports", reportURI),
		{Pattern: reportURI, Type: reportType, Get: s.getReport},
	}
}

type telemetryService struct {
	resource.OData
	Status              resource.Status  `json:"Status"`
	MaxReports          int              `json:"MaxReports"`
	MinInterval         string           `json:"MinCollectionInterval"`
	CollectionFunctions []string         `json:"SupportedCollectionFunctions"` // none
	Definitions         resource.Link    `json:"MetricDefinitions"`
	ReportDefinitions   resource.Link    `json:"MetricReportDefinitions"`
	Reports             resource.Link    `json:"MetricReports"`
	Actions             telemetryActions `json:"Actions"`
}

type telemetryActions struct {
	Clear resource.Action `json:"#TelemetryService.ClearMetricReports"`
	Reset resource.Action `json:"#TelemetryService.ResetMetricReportDefinitionsToDefaults"`
}

func (s *Service) getService(*resource.Request) *resource.Reply {
	return resource.OK(telemetryService{
		OData:  resource.NewOData(resource.TelemetryServiceURI, serviceType, "Telemetry Service"),
		Status: resource.Enabled(), MaxReports: 1, MinInterval: resource.FormatDuration(minInterval), CollectionFunctions: []string{},
		Definitions: resource.Link{ODataID: definitionsURI}, ReportDefinitions: resource.Link{ODataID: reportDefinitionsURI}, Reports: resource.Link{ODataID: reportsURI},
		Actions: telemetryActions{resource.Action{Target: resource.TelemetryServiceURI + "/Actions/" + clearAction}, resource.Action{Target: resource.TelemetryServiceURI + "/Actions/" + resetAction}},
	})
}

// postClear forgets what was collected.
func (s *Service) postClear(q *resource.Request) *resource.Reply {
	if problems := q.Parameters(clearAction); problems != nil {
		return resource.Fail(problems...)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.values, s.at = nil, time.Time{}
	return resource.NoContent()
}

func (s *Service) postReset(q *resource.Request) *resource.Reply {
	if problems := q.Parameters(resetAction); problems != nil {
		return resource.Fail(problems...)
	}
	if err := s.configure(func(c *config) { *c = config{Enabled: true, Interval: time.Minute, Updates: overwrite} }); err != nil {
		s.opt.Log.Error("metric report not reset", "error", err)
		return resource.Fail(message.InternalError())
	}
	return resource.NoContent()
}

// configure changes the report's definition for good.
func (s *Service) configure(f func(*config)) error {
	s.mu.Lock()
	c := s.conf
	s.mu.Unlock()
	f(&c)
	if err := s.opt.Store.PutJSON(configBucket, configKey, c); err != nil {
		return fmt.Errorf("keeping the report's definition: %w", err)
	}
	s.mu.Lock()
	s.conf = c
	s.mu.Unlock()
	select {
	case s.turn <- struct{}{}:
	default: // Run is about to look
	}
	return nil
}

// metricDefinition is of one sensor.
type metricDefinition struct {
	resource.OData
	Type            string   `json:"MetricType"`
	DataType        string   `json:"MetricDataType"`
	Implementation  string   `json:"Implementation"`
	Units           string   `json:"Units"`
	Lowest          float64  `json:"MinReadingRange"`
	Highest         float64  `json:"MaxReadingRange"`
	Properties      []string `json:"MetricProperties"`
	SensingInterval string   `json:"SensingInterval"`
}

// unitOf is a quantity's unit in the symbols of UCUM.
func unitOf(q host.Quantity) string {
	switch q {
	case host.Temperature:
		return "Cel"
	case host.Voltage:
		return "V"
	case host.Current:
		return "A"
	case host.FanSpeed:
		return "{rev}/min"
	case host.Wattage:
		return "W"
	}
	return "%"
}

func (s *Service) getDefinition(q *resource.Request) *resource.Reply {
	for _, x := range s.opt.Sensors {
		uri := s.opt.Sensor(x.Name())
		if lastOf(uri) != q.PathValue("id") {
			continue
		}
		lowest, highest := x.Range()
		return resource.OK(metricDefinition{
			OData: resource.NewOData(definitionsURI+"/"+lastOf(uri), definitionType, x.Name()),
			Type:  "Gauge", DataType: "Decimal", Implementation: "PhysicalSensor", Units: unitOf(x.Quantity()), Lowest: lowest, Highest: highest,
			// The sensors are read once a second.
			Properties: []string{uri + "#/Reading"}, SensingInterval: "PT1S",
		})
	}
	return resource.Fail(message.ResourceNotFound("MetricDefinition", q.PathValue("id")))
}

type reportDefinition struct {
	resource.OData
	Enabled    bool            `json:"MetricReportDefinitionEnabled"`
	Type       string          `json:"MetricReportDefinitionType"`
	Actions    []string        `json:"ReportActions"`
	Updates    string          `json:"ReportUpdates"`
	Limit      int             `json:"AppendLimit"`
	Schedule   schedule        `json:"Schedule"`
	Status     resource.Status `json:"Status"`
	Properties []string        `json:"MetricProperties"`
	Report     resource.Link   `json:"MetricReport"`
}

type schedule struct {
	Interval string `json:"RecurrenceInterval"`
}

func (s *Service) getReportDefinition(*resource.Request) *resource.Reply {
	s.mu.Lock()
	c := s.conf
	s.mu.Unlock()
	d := reportDefinition{
		OData:   resource.NewOData(definitionURI, reportDefinitionType, reportName),
		Enabled: c.Enabled, Type: "Periodic", Actions: []string{"LogToMetricReportsCollection"}, Updates: c.Updates, Limit: maxValues,
		Schedule: schedule{resource.FormatDuration(c.Interval)}, Status: resource.Enabled(), Properties: []string{}, Report: resource.Link{ODataID: reportURI},
	}
	if s.opt.Report != nil {
		d.Actions = append(d.Actions, "RedfishEvent")
	}
	if !c.Enabled {
		d.Status = resource.Disabled()
	}
	for _, x := range s.opt.Sensors {
		d.Properties = append(d.Properties, s.opt.Sensor(x.Name())+"#/Reading")
	}
	return resource.OK(d)
}

func (s *Service) patchReportDefinition(q *resource.Request) *resource.Reply {
	set := func(name string, f func(*config)) []message.Message {
		if err := s.configure(f); err != nil {
			s.opt.Log.Error("metric report not changed", "error", err)
			return []message.Message{message.PropertyNotUpdated(name)}
		}
		return nil
	}
	return resource.Patch(q, s.getReportDefinition,
		resource.Bool("MetricReportDefinitionEnabled", func(on bool) []message.Message {
			return set("MetricReportDefinitionEnabled", func(c *config) { c.Enabled = on })
		}),
		resource.Enum("ReportUpdates", []string{overwrite, wrap}, func(word string) []message.Message {
			return set("ReportUpdates", func(c *config) { c.Updates = word })
		}),
		resource.Group("Schedule", schedule{}, resource.String("RecurrenceInterval", func(text string) []message.Message {
			d, ok := resource.ParseDuration(text)
			switch {
			case !ok:
				return []message.Message{message.PropertyValueFormatError(text, "RecurrenceInterval")}
			case d < minInterval || d > maxInterval:
				return []message.Message{message.PropertyValueOutOfRange(text, "RecurrenceInterval")}
			}
			return set("RecurrenceInterval", func(c *config) { c.Interval = d })
		})))
}

type metricReport struct {
	resource.OData
	Timestamp  string        `json:"Timestamp,omitempty"`
	Definition resource.Link `json:"MetricReportDefinition"`
	Values     []metricValue `json:"MetricValues"`
}

type metricValue struct {
	ID        string `json:"MetricId"`
	Property  string `json:"MetricProperty"`
	Value     string `json:"MetricValue"`
	Timestamp string `json:"Timestamp"`
}

// report is the report as it is now. The lock is held.
func (s *Service) report() metricReport {
	r := metricReport{
		OData:      resource.NewOData(reportURI, reportType, reportName),
		Definition: resource.Link{ODataID: definitionURI}, Values: append([]metricValue{}, s.values...),
	}
	if !s.at.IsZero() {
		r.Timestamp = stamp(s.at)
	}
	return r
}

func (s *Service) getReport(*resource.Request) *resource.Reply {
	s.mu.Lock()
	defer s.mu.Unlock()
	return resource.OK(s.report())
}

package redfish

import (
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/nitrino/nitrino/redfish/message"
	"github.com/nitrino/nitrino/redfish/protocol"
	"github.com/nitrino/nitrino/redfish/registry"
	"github.com/nitrino/nitrino/redfish/resource"
)

// redfishVersion is the version of DSP0266 that the service follows.
const redfishVersion = "1.21.0"

// The URIs that need no login.
const (
	versionsURI = "/redfish"
	rootURI     = "/redfish/v1"
	odataURI    = rootURI + "/odata"
	metadataURI = rootURI + "/$metadata"
)

// serviceRootType is pinned to a version whose namespace defines the
// EntityContainer that $metadata extends.
const (
	serviceRootSchema = "ServiceRoot.v1_19_0"
	serviceRootType   = serviceRootSchema + ".ServiceRoot"
)

type serviceRoot struct {
	resource.OData
	RedfishVersion string           `json:"RedfishVersion"`
	UUID           string           `json:"UUID"`
	Vendor         string           `json:"Vendor,omitempty"`
	Product        string           `json:"Product,omitempty"`
	Features       protocolFeatures `json:"ProtocolFeaturesSupported"`
	chapterLinks
	Links serviceRootLinks `json:"Links"`
}

// chapterLinks are the links to the chapters that are there.
type chapterLinks struct {
	Systems            *resource.Link `json:"Systems,omitempty"`
	Chassis            *resource.Link `json:"Chassis,omitempty"`
	Managers           *resource.Link `json:"Managers,omitempty"`
	SessionService     *resource.Link `json:"SessionService,omitempty"`
	AccountService     *resource.Link `json:"AccountService,omitempty"`
	CertificateService *resource.Link `json:"CertificateService,omitempty"`
	EventService       *resource.Link `json:"EventService,omitempty"`
	Tasks              *resource.Link `json:"Tasks,omitempty"`
	UpdateService      *resource.Link `json:"UpdateService,omitempty"`
	Storage            *resource.Link `json:"Storage,omitempty"`
	Fabrics            *resource.Link `json:"Fabrics,omitempty"`
	TelemetryService   *resource.Link `json:"TelemetryService,omitempty"`
	Registries         *resource.Link `json:"Registries,omitempty"`
	JSONSchemas        *resource.Link `json:"JsonSchemas,omitempty"`
}

type serviceRootLinks struct {
	Sessions resource.Link `json:"Sessions"`
}

// protocolFeatures says which query parameters and operations there are (see
// package protocol).
type protocolFeatures struct {
	ExcerptQuery                    bool           `json:"ExcerptQuery"`
	ExpandQuery                     expandQuery    `json:"ExpandQuery"`
	FilterQuery                     bool           `json:"FilterQuery"`
	FilterQueryComparisonOperations bool           `json:"FilterQueryComparisonOperations"`
	FilterQueryCompoundOperations   bool           `json:"FilterQueryCompoundOperations"`
	OnlyMemberQuery                 bool           `json:"OnlyMemberQuery"`
	SelectQuery                     bool           `json:"SelectQuery"`
	TopSkipQuery                    bool           `json:"TopSkipQuery"`
	IncludeOriginOfConditionQuery   bool           `json:"IncludeOriginOfConditionQuery"`
	MultipleHTTPRequests            bool           `json:"MultipleHTTPRequests"`
	DeepOperations                  deepOperations `json:"DeepOperations"`
}

type expandQuery struct {
	ExpandAll bool `json:"ExpandAll"`
	Levels    bool `json:"Levels"`
	MaxLevels int  `json:"MaxLevels"`
	Links     bool `json:"Links"`
	NoLinks   bool `json:"NoLinks"`
}

type deepOperations struct {
	DeepPATCH bool `json:"DeepPATCH"`
	DeepPOST  bool `json:"DeepPOST"`
}

// serviceDocument is the OData service document (DSP0266, OData service
// document): the service root and each resource right below it.
type serviceDocument struct {
	Context string         `json:"@odata.context"`
	Value   []serviceEntry `json:"value"`
}

type serviceEntry struct {
	Name string `json:"name"`
	Kind string `json:"kind"`
	URL  string `json:"url"`
}

// types are those of all that is served: what $metadata and JsonSchemas list.
func types(routes []resource.Route) []string {
	all := append(registry.Types(), serviceRootType, message.Type[1:], "Resource.v1_23_0.Resource", resource.ApplyTimesType, resource.CapabilitiesType)
	for _, r := range routes {
		if r.Type != "" {
			all = append(all, r.Type)
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// root makes the routes of what never changes and leads to the rest.
func root(o Options, routes []resource.Route) ([]resource.Route, error) {
	versions, err := protocol.JSONDocument(map[string]string{"v1": resource.RootURI})
	if err != nil {
		return nil, err
	}
	r := serviceRoot{
		OData:          resource.OData{ODataID: resource.RootURI, ODataType: "#" + serviceRootType, ID: "RootService", Name: "Root Service"},
		RedfishVersion: redfishVersion,
		UUID:           resource.UUID(o.Host.UUID),
		Vendor:         o.Product,
		Product:        strings.TrimSpace(o.Product + " " + o.Version),
		Features: protocolFeatures{
			ExcerptQuery: true, FilterQuery: true, FilterQueryComparisonOperations: true, FilterQueryCompoundOperations: true,
			OnlyMemberQuery: true, SelectQuery: true, TopSkipQuery: true, MultipleHTTPRequests: true,
			ExpandQuery: expandQuery{ExpandAll: true, Levels: true, MaxLevels: protocol.MaxLevels, Links: true, NoLinks: true},
		},
		Links: serviceRootLinks{resource.Link{ODataID: resource.SessionsURI}},
	}
	entries := []serviceEntry{{"Service", "Singleton", resource.RootURI}}
	for _, chapter := range []struct {
		name, uri string
		link      **resource.Link
	}{
		{"Systems", resource.SystemsURI, &r.Systems},
		{"Chassis", resource.ChassisCollectionURI, &r.Chassis},
		{"Managers", resource.ManagersURI, &r.Managers},
		{"SessionService", resource.SessionServiceURI, &r.SessionService},
		{"AccountService", resource.AccountServiceURI, &r.AccountService},
		{"CertificateService", resource.CertificateServiceURI, &r.CertificateService},
		{"EventService", resource.EventServiceURI, &r.EventService},
		{"Tasks", resource.TaskServiceURI, &r.Tasks},
		{"UpdateService", resource.UpdateServiceURI, &r.UpdateService},
		{"Storage", resource.StoragesURI, &r.Storage},
		{"Fabrics", resource.FabricsURI, &r.Fabrics},
		{"TelemetryService", resource.TelemetryServiceURI, &r.TelemetryService},
		{"Registries", resource.RegistriesURI, &r.Registries},
		{"JsonSchemas", resource.JSONSchemasURI, &r.JSONSchemas},
	} {
		if slices.ContainsFunc(routes, func(rt resource.Route) bool { return rt.Pattern == chapter.uri && rt.Get != nil }) {
			*chapter.link = &resource.Link{ODataID: chapter.uri}
			entries = append(entries, serviceEntry{chapter.name, "Singleton", chapter.uri})
		}
	}
	entries = append(entries, serviceEntry{"Sessions", "Singleton", resource.SessionsURI})
	first, err := protocol.ResourceDocument(r)
	if err != nil {
		return nil, err
	}
	service, err := protocol.JSONDocument(serviceDocument{metadataURI, entries})
	if err != nil {
		return nil, err
	}
	document := func(d *resource.Document) resource.Handler {
		return func(*resource.Request) *resource.Reply { return &resource.Reply{Status: http.StatusOK, Document: d} }
	}
	return []resource.Route{
		{Pattern: versionsURI, Get: document(versions)},
		{Pattern: rootURI, Type: serviceRootType, Get: document(first)},
		{Pattern: odataURI, Get: document(service)},
		{Pattern: metadataURI, Media: protocol.XMLType, Get: document(protocol.XMLDocument(metadataXML(types(routes))))},
	}, nil
}

// metadataXML is the OData metadata document (DSP0266, OData metadata): a
// reference for each schema, and the container of the top-level resources.
func metadataXML(types []string) []byte {
	var b strings.Builder
	b.WriteString(`<?xml version="1.0" encoding="UTF-8"?>
<edmx:Edmx xmlns:edmx="http://docs.oasis-open.org/odata/ns/edmx" Version="4.0">
`)
	for _, t := range types {
		schema := t[:strings.LastIndexByte(t, '.')]
		name, _, versioned := strings.Cut(schema, ".")
		fmt.Fprintf(&b, "  <edmx:Reference Uri=\"%s%s_v1.xml\">\n    <edmx:Include Namespace=%q/>\n", resource.SchemaFolder(name), name, name)
		if versioned {
			fmt.Fprintf(&b, "    <edmx:Include Namespace=%q/>\n", schema)
		}
		b.WriteString("  </edmx:Reference>\n")
	}
	b.WriteString(`  <edmx:Reference Uri="http://redfish.dmtf.org/schemas/v1/RedfishExtensions_v1.xml">
    <edmx:Include Namespace="RedfishExtensions.v1_0_0" Alias="Redfish"/>
  </edmx:Reference>
  <edmx:DataServices>
    <Schema xmlns="http://docs.oasis-open.org/odata/ns/edm" Namespace="Service">
      <EntityContainer Name="Service" Extends="` + serviceRootSchema + `.ServiceContainer"/>
    </Schema>
  </edmx:DataServices>
</edmx:Edmx>
`)
	return []byte(b.String())
}

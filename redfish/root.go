package redfish

import (
	"fmt"
	"slices"
	"strings"

	"github.com/nitrino/nitrino/redfish/message"
	"github.com/nitrino/nitrino/redfish/protocol"
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
	Product        string           `json:"Product,omitempty"`
	Features       protocolFeatures `json:"ProtocolFeaturesSupported"`
	Systems        resource.Link    `json:"Systems"`
	SessionService resource.Link    `json:"SessionService"`
	Links          serviceRootLinks `json:"Links"`
}

type serviceRootLinks struct {
	Sessions resource.Link `json:"Sessions"`
}

// protocolFeatures says which query parameters and operations there are: none
// yet, and the zero value says so.
type protocolFeatures struct {
	ExcerptQuery         bool           `json:"ExcerptQuery"`
	ExpandQuery          expandQuery    `json:"ExpandQuery"`
	FilterQuery          bool           `json:"FilterQuery"`
	OnlyMemberQuery      bool           `json:"OnlyMemberQuery"`
	SelectQuery          bool           `json:"SelectQuery"`
	TopSkipQuery         bool           `json:"TopSkipQuery"`
	MultipleHTTPRequests bool           `json:"MultipleHTTPRequests"`
	DeepOperations       deepOperations `json:"DeepOperations"`
}

type expandQuery struct {
	ExpandAll bool `json:"ExpandAll"`
	Levels    bool `json:"Levels"`
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

// schemas are the namespaces of all that is served, unversioned for the
// collections: what $metadata refers to.
func schemas(routes []resource.Route) []string {
	all := []string{serviceRootSchema, strings.TrimSuffix(message.Type[1:], ".Message"), "Resource.v1_23_0"}
	for _, r := range routes {
		if r.Type != "" {
			all = append(all, r.Type[:strings.LastIndexByte(r.Type, '.')])
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
	service, err := protocol.JSONDocument(serviceDocument{metadataURI, []serviceEntry{
		{"Service", "Singleton", resource.RootURI},
		{"Systems", "Singleton", resource.SystemsURI},
		{"SessionService", "Singleton", resource.SessionServiceURI},
		{"Sessions", "Singleton", resource.SessionsURI},
	}})
	if err != nil {
		return nil, err
	}
	u := o.Host.UUID
	r := serviceRoot{
		OData:          resource.OData{ODataID: resource.RootURI, ODataType: "#" + serviceRootType, ID: "RootService", Name: "Root Service"},
		RedfishVersion: redfishVersion,
		UUID:           fmt.Sprintf("%x-%x-%x-%x-%x", u[0:4], u[4:6], u[6:8], u[8:10], u[10:]), // RFC 4122 section 3
		Product:        strings.TrimSpace(o.Product + " " + o.Version),
		Systems:        resource.Link{ODataID: resource.SystemsURI},
		SessionService: resource.Link{ODataID: resource.SessionServiceURI},
		Links:          serviceRootLinks{resource.Link{ODataID: resource.SessionsURI}},
	}
	document := func(d *resource.Document) resource.Handler {
		return func(*resource.Request) *resource.Reply { return &resource.Reply{Status: 200, Document: d} }
	}
	return []resource.Route{
		{Pattern: versionsURI, Get: document(versions)},
		{Pattern: rootURI, Type: serviceRootType, Get: func(*resource.Request) *resource.Reply { return resource.OK(r) }},
		{Pattern: odataURI, Get: document(service)},
		{Pattern: metadataURI, Get: document(protocol.XMLDocument(metadataXML(schemas(routes))))},
	}, nil
}

// metadataXML is the OData metadata document (DSP0266, OData metadata): a
// reference for each schema, and the container of the top-level resources.
func metadataXML(schemas []string) []byte {
	var b strings.Builder
	b.WriteString(`<?xml version="1.0" encoding="UTF-8"?>
<edmx:Edmx xmlns:edmx="http://docs.oasis-open.org/odata/ns/edmx" Version="4.0">
`)
	for _, schema := range schemas {
		name, _, versioned := strings.Cut(schema, ".")
		fmt.Fprintf(&b, "  <edmx:Reference Uri=\"http://redfish.dmtf.org/schemas/v1/%s_v1.xml\">\n    <edmx:Include Namespace=%q/>\n", name, name)
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

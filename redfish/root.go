package redfish

import (
	"encoding/json"
	"fmt"
	"strings"
)

// redfishVersion is the version of DSP0266 that the service follows.
const redfishVersion = "1.21.0"

// serviceRootType is pinned to a version whose namespace defines the
// EntityContainer that $metadata extends.
const (
	serviceRootSchema = "ServiceRoot.v1_19_0"
	serviceRootType   = "#" + serviceRootSchema + ".ServiceRoot"
)

type serviceRoot struct {
	odata
	ID             string           `json:"Id"`
	RedfishVersion string           `json:"RedfishVersion"`
	UUID           string           `json:"UUID"`
	Product        string           `json:"Product,omitempty"`
	Features       protocolFeatures `json:"ProtocolFeaturesSupported"`
	Systems        link             `json:"Systems"`
	SessionService link             `json:"SessionService"`
	Links          serviceRootLinks `json:"Links"`
}

type serviceRootLinks struct {
	Sessions link `json:"Sessions"`
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
func schemas() []string {
	return []string{
		serviceRootSchema, "ComputerSystemCollection", computerSystemSchema, "SessionCollection",
		sessionServiceSchema, sessionSchema, strings.TrimSuffix(messageType[1:], ".Message"), "Resource.v1_23_0",
	}
}

// documents makes what needs no login and never changes.
func documents(o Options, uuid string) (versions, root, service, metadata *document, err error) {
	if versions, err = jsonDocument(map[string]string{"v1": rootURI}); err != nil {
		return
	}
	service, err = jsonDocument(serviceDocument{metadataURI, []serviceEntry{
		{"Service", "Singleton", rootURI},
		{"Systems", "Singleton", systemsURI},
		{"SessionService", "Singleton", sessionServiceURI},
		{"Sessions", "Singleton", sessionsURI},
	}})
	if err != nil {
		return
	}
	r := serviceRoot{
		odata:          odata{rootURI, serviceRootType, "Root Service"},
		ID:             "RootService",
		RedfishVersion: redfishVersion,
		UUID:           uuid,
		Product:        strings.TrimSpace(o.Product + " " + o.Version),
		Systems:        link{systemsURI},
		SessionService: link{sessionServiceURI},
		Links:          serviceRootLinks{link{sessionsURI}},
	}
	body, etag, err := encode(r, nil)
	if err != nil {
		return
	}
	root = &document{jsonType, describedBy(serviceRootType), etag, body}
	xml := metadataXML()
	metadata = &document{contentType: xmlType, etag: tagOf(xml), body: xml}
	return
}

func jsonDocument(v any) (*document, error) {
	body, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("encoding %T: %w", v, err)
	}
	return &document{contentType: jsonType, etag: tagOf(body), body: body}, nil
}

// metadataXML is the OData metadata document (DSP0266, OData metadata): a
// reference for each schema, and the container of the top-level resources.
func metadataXML() []byte {
	var b strings.Builder
	b.WriteString(`<?xml version="1.0" encoding="UTF-8"?>
<edmx:Edmx xmlns:edmx="http://docs.oasis-open.org/odata/ns/edmx" Version="4.0">
`)
	for _, schema := range schemas() {
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

func (s *Service) getVersions(*request) *reply { return &reply{status: 200, document: s.versions} }
func (s *Service) getRoot(*request) *reply     { return &reply{status: 200, document: s.root} }
func (s *Service) getOData(*request) *reply    { return &reply{status: 200, document: s.odata} }
func (s *Service) getMetadata(*request) *reply { return &reply{status: 200, document: s.metadata} }

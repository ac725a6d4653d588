// Package resource is what every chapter of the Redfish service is written
// with: what resources are made of, the routes that show them, and how bodies
// of requests are read. Package protocol does the rest of DSP0266.
//
// A resource is a plain struct that embeds OData, written once, with the version
// of its schema (DSP8010) in a constant beside it.
package resource

import (
	"fmt"
	"strings"
)

// OData is what every resource begins with. Its entity tag is put in when the
// resource is encoded.
type OData struct {
	ODataID   string `json:"@odata.id"`
	ODataType string `json:"@odata.type"`
	ID        string `json:"Id"`
	Name      string `json:"Name"`
}

// NewOData makes it of a URI, whose last segment is the resource's Id, and of
// a schema's type as Go constants have it: "Chassis.v1_25_0.Chassis".
func NewOData(uri, schema, name string) OData {
	id := strings.TrimSuffix(uri, "/")
	return OData{uri, "#" + schema, id[strings.LastIndexByte(id, '/')+1:], name}
}

func (o OData) odataType() string { return o.ODataType }

// Typed is a resource: a struct that embeds OData, or a Collection.
type Typed interface{ odataType() string }

// TypeOf is the resource's @odata.type.
func TypeOf(r Typed) string { return r.odataType() }

// Settled is a resource of which something changes by itself all the time, as
// a clock's time. Its entity tag is that of what Settled returns, the resource
// without it: else nobody who read it could ever change it.
type Settled interface {
	Typed
	Settled() Typed
}

// SchemaFolder is where the schema of that name is published, with a slash at the
// end. Those of storage that are SNIA's (Swordfish) have a folder of their own.
func SchemaFolder(name string) string {
	name, _, _ = strings.Cut(name, ".")
	switch strings.TrimSuffix(name, "Collection") {
	case "Volume", "StoragePool":
		return "http://redfish.dmtf.org/schemas/swordfish/v1/"
	}
	return "http://redfish.dmtf.org/schemas/v1/"
}

// A Link refers to another resource (schema odata-v4, idRef).
type Link struct {
	ODataID string `json:"@odata.id"`
}

// Links makes a Link of each URI, never nil.
func Links(uris ...string) []Link {
	l := []Link{}
	for _, u := range uris {
		l = append(l, Link{u})
	}
	return l
}

// A Collection is any resource collection; none of their schemas has more, but
// the annotations of its capabilities.
type Collection struct {
	ODataID   string `json:"@odata.id"`
	ODataType string `json:"@odata.type"`
	Name      string `json:"Name"`
	Count     int    `json:"Members@odata.count"`
	Members   []any  `json:"Members"`
	// Next is the URI of the rest, where this is a part: handlers show all
	// members, and package protocol makes pages.
	Next string `json:"Members@odata.nextLink,omitempty"`
	// ApplyTimes and Capabilities are about the making of members; nil: nothing is
	// said of it.
	ApplyTimes   *ApplyTimes   `json:"@Redfish.OperationApplyTimeSupport,omitempty"`
	Capabilities *Capabilities `json:"@Redfish.CollectionCapabilities,omitempty"`
}

// ApplyTimes are the times that a client may ask for by @Redfish.OperationApplyTime
// (DSP0266, Operation apply time).
type ApplyTimes struct {
	Type      string   `json:"@odata.type"`
	Supported []string `json:"SupportedValues"`
}

// The types of the annotations that have one.
const (
	ApplyTimesType   = "Settings.v1_3_6.OperationApplyTimeSupport"
	CapabilitiesType = "CollectionCapabilities.v1_4_1.CollectionCapabilities"
)

// Capabilities say what a POST to a collection may have (DSP0266, Collection
// capabilities).
type Capabilities struct {
	Type string       `json:"@odata.type"`
	All  []Capability `json:"Capabilities"`
}

// A Capability is one use of a collection: Object is a resource of the members'
// kind, whose annotations say which properties may be sent.
type Capability struct {
	Object  Link            `json:"CapabilitiesObject"`
	UseCase string          `json:"UseCase"`
	Links   CapabilityLinks `json:"Links"`
}

// CapabilityLinks lead to the collection that takes the POST.
type CapabilityLinks struct {
	Target Link `json:"TargetCollection"`
}

func (c Collection) odataType() string { return c.ODataType }

// NewCollection makes one of its members' URIs.
func NewCollection(uri, schema, name string, members ...string) Collection {
	c := Collection{ODataID: uri, ODataType: "#" + schema + "." + schema, Name: name, Count: len(members), Members: []any{}}
	for _, m := range members {
		c.Members = append(c.Members, Link{m})
	}
	return c
}

// NewFullCollection makes one that has its members in it, as log entries are
// (DSP0266, Resource collections).
func NewFullCollection[T Typed](uri, schema, name string, members []T) Collection {
	c := Collection{ODataID: uri, ODataType: "#" + schema + "." + schema, Name: name, Count: len(members), Members: []any{}}
	for _, m := range members {
		c.Members = append(c.Members, m)
	}
	return c
}

// Status is Resource.Status. A nil State is null: nobody can tell.
type Status struct {
	State        *string `json:"State"`
	Health       string  `json:"Health,omitempty"`
	HealthRollup string  `json:"HealthRollup,omitempty"`
}

// Enabled is the Status of what works.
func Enabled() Status { return Status{State: new("Enabled"), Health: "OK"} }

// Disabled is the Status of what is switched off.
func Disabled() Status { return Status{State: new("Disabled"), Health: "OK"} }

// An Action describes one that a resource has, where its parameters have no
// allowable values to tell.
type Action struct {
	Target string `json:"target"`
}

// An Identifier is Resource.Identifier.
type Identifier struct {
	DurableName       string `json:"DurableName"`
	DurableNameFormat string `json:"DurableNameFormat"`
}

// UUID writes a UUID as RFC 9562 section 4 has it.
func UUID(u [16]byte) string {
	return fmt.Sprintf("%x-%x-%x-%x-%x", u[0:4], u[4:6], u[6:8], u[8:10], u[10:])
}

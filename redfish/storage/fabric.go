package storage

import (
	"net/url"
	"slices"

	"github.com/nitrino/nitrino/block"
	"github.com/nitrino/nitrino/redfish/message"
	"github.com/nitrino/nitrino/redfish/resource"
)

// iSCSI is the protocol's name (Protocol.Protocol).
const iSCSI = "iSCSI"

// endpointURI is the URI of what has an iSCSI name, which is its Id.
func endpointURI(name string) string { return endpointsURI + "/" + url.PathEscape(name) }

// fabric is where hosts meet targets.
type fabric struct {
	resource.OData
	FabricType  string          `json:"FabricType"`
	Status      resource.Status `json:"Status"`
	Endpoints   resource.Link   `json:"Endpoints"`
	Connections resource.Link   `json:"Connections"`
}

func (s *Service) getFabrics(*resource.Request) *resource.Reply {
	return resource.OK(resource.NewCollection(resource.FabricsURI, "FabricCollection", "Fabric Collection", fabricURI))
}

func (s *Service) getFabric(*resource.Request) *resource.Reply {
	return resource.OK(fabric{
		OData:       resource.NewOData(fabricURI, fabricType, iSCSI),
		FabricType:  iSCSI,
		Status:      s.served(),
		Endpoints:   resource.Link{ODataID: endpointsURI},
		Connections: resource.Link{ODataID: connectionsURI},
	})
}

// served is the status of what iSCSI serves.
func (s *Service) served() resource.Status {
	if on, _ := s.ISCSI(); !on {
		return resource.Disabled()
	}
	return s.status()
}

// An endpoint is one that iSCSI knows by name: a target, and an initiator that a
// target lets in by name or that is logged in. One of either is there as long as
// that holds.
type endpoint struct {
	resource.OData
	EndpointProtocol   string                `json:"EndpointProtocol"`
	Status             *resource.Status      `json:"Status,omitempty"`
	Identifiers        []resource.Identifier `json:"Identifiers"`
	ConnectedEntities  []connectedEntity     `json:"ConnectedEntities"`
	IPTransportDetails []transport           `json:"IPTransportDetails,omitempty"`
	Links              endpointLinks         `json:"Links"`
}

type connectedEntity struct {
	EntityRole string         `json:"EntityRole"`
	EntityType string         `json:"EntityType"`
	EntityLink *resource.Link `json:"EntityLink,omitempty"`
}

type transport struct {
	TransportProtocol string `json:"TransportProtocol"`
	Port              int    `json:"Port"`
}

type endpointLinks struct {
	Connections []resource.Link `json:"Connections"`
}

// endpoints are the names of all, in their order.
func (s *Service) endpoints() []string {
	var names []string
	for _, t := range s.Disks.Targets() {
		names = append(append(names, t.Name), t.Initiators...)
	}
	for _, o := range s.Disks.Sessions() {
		names = append(names, o.Initiator)
	}
	slices.Sort(names)
	return slices.Compact(names)
}

func (s *Service) getEndpoints(*resource.Request) *resource.Reply {
	var uris []string
	for _, name := range s.endpoints() {
		uris = append(uris, endpointURI(name))
	}
	return resource.OK(resource.NewCollection(endpointsURI, "EndpointCollection", "Endpoint Collection", uris...))
}

func (s *Service) getEndpoint(q *resource.Request) *resource.Reply {
	name := q.PathValue("id")
	r := endpoint{
		OData:             resource.OData{ODataID: endpointURI(name), ODataType: "#" + endpointType, ID: name, Name: name},
		EndpointProtocol:  iSCSI,
		Identifiers:       []resource.Identifier{identifier(name)},
		ConnectedEntities: []connectedEntity{},
		Links:             endpointLinks{[]resource.Link{}},
	}
	sessions := s.Disks.Sessions()
	initiates := slices.ContainsFunc(sessions, func(o block.Session) bool { return o.Initiator == name })
	for _, t := range s.Disks.Targets() {
		isTarget := t.Name == name
		if isTarget {
			r.ConnectedEntities = append(r.ConnectedEntities, connectedEntity{"Target", "StorageSubsystem", &resource.Link{ODataID: storageURI}})
			r.Status = new(s.targetStatus(t))
			if on, port := s.ISCSI(); on {
				r.IPTransportDetails = []transport{{"TCP", port}}
			}
		}
		isInitiator := slices.Contains(t.Initiators, name) ||
			slices.ContainsFunc(sessions, func(o block.Session) bool { return o.Target == t.Name && o.Initiator == name })
		initiates = initiates || isInitiator
		if isTarget || isInitiator {
			r.Links.Connections = append(r.Links.Connections, resource.Link{ODataID: connectionURI(t.Name)})
		}
	}
	if !initiates && len(r.ConnectedEntities) == 0 {
		return resource.Fail(message.ResourceNotFound("Endpoint", name))
	}
	if initiates {
		r.ConnectedEntities = append(r.ConnectedEntities, connectedEntity{EntityRole: "Initiator", EntityType: "StorageInitiator"})
	}
	return resource.OK(r)
}

// identifier is an iSCSI name, which may be of three kinds (RFC 7143 section 4.2.7).
func identifier(name string) resource.Identifier {
	switch {
	case len(name) > 4 && name[:4] == "naa.":
		return resource.Identifier{DurableName: name[4:], DurableNameFormat: "NAA"}
	case len(name) > 4 && name[:4] == "eui.":
		return resource.Identifier{DurableName: name[4:], DurableNameFormat: "EUI"}
	}
	return resource.Identifier{DurableName: name, DurableNameFormat: "iQN"}
}

// targetStatus is that of a target.
func (s *Service) targetStatus(t block.Target) resource.Status {
	status := s.served()
	if s.TargetFailed != nil && s.TargetFailed(t.Name) != "" && status.Health == message.OK {
		status.Health = message.Critical
	}
	return status
}

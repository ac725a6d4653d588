// Package storage is Redfish's view of the disks that the board serves to hosts:
// the Storage with its volumes and the pool that they are in, and the fabric of
// iSCSI by which hosts get at them. Schemas are DMTF's, and SNIA's Swordfish 1.2
// where those lead to it.
//
// What is in a volume goes past Redfish: see Files.
package storage

import (
	"log/slog"

	"github.com/nitrino/nitrino/block"
	"github.com/nitrino/nitrino/redfish/message"
	"github.com/nitrino/nitrino/redfish/resource"
)

const (
	storagesType    = "StorageCollection.StorageCollection"
	storageType     = "Storage.v1_20_0.Storage"
	controllersType = "StorageControllerCollection.StorageControllerCollection"
	controllerType  = "StorageController.v1_10_1.StorageController"
	poolsType       = "StoragePoolCollection.StoragePoolCollection"
	poolType        = "StoragePool.v1_9_1.StoragePool"
	volumesType     = "VolumeCollection.VolumeCollection"
	volumeType      = "Volume.v1_10_2.Volume"
	fabricsType     = "FabricCollection.FabricCollection"
	fabricType      = "Fabric.v1_3_2.Fabric"
	endpointsType   = "EndpointCollection.EndpointCollection"
	endpointType    = "Endpoint.v1_8_2.Endpoint"
	connectionsType = "ConnectionCollection.ConnectionCollection"
	connectionType  = "Connection.v1_4_0.Connection"
)

const (
	storageURI       = resource.StorageURI
	controllersURI   = storageURI + "/Controllers"
	controllerURI    = controllersURI + "/bmc"
	poolsURI         = storageURI + "/StoragePools"
	poolURI          = poolsURI + "/card"
	pooledVolumesURI = poolURI + "/AllocatedVolumes"
	volumesURI       = storageURI + "/Volumes"
	capabilitiesURI  = volumesURI + "/Capabilities" // no volume's: names have no capitals
	fabricURI        = resource.ISCSIFabricURI
	endpointsURI     = fabricURI + "/Endpoints"
	connectionsURI   = fabricURI + "/Connections"
)

// The actions. Those that are nobody's standard have the prefix of our own schemas.
const (
	replicaName = "Volume.CreateReplicaTarget"
	checkName   = "Volume.CheckConsistency"
	addName     = "Connection.AddVolumeInfo"
	removeName  = "Connection.RemoveVolumeInfo"
	revertName  = "NitrinoVolume.Revert"
	importName  = "NitrinoStorage.Import"
)

// oemAction is where the action of a resource is that is our own.
func oemAction(uri, name string) string { return uri + "/Actions/Oem/" + name }

// Disks are the volumes and their exports. What cannot be done while what serves them
// is away fails with one of Options.Later.
type Disks interface {
	block.Manager
	// Up says that what serves them is there.
	Up() bool
}

// Options are what New needs; Disks, Tasks, Log and ISCSI are required.
type Options struct {
	Disks Disks
	Tasks resource.Tasks
	Log   *slog.Logger
	// Later are the errors of Disks that pass by themselves: they are away for a
	// moment, or have too much to do.
	Later []error
	// ISCSI says whether iSCSI is served, and at which TCP port.
	ISCSI func() (on bool, port int)
	// TargetFailed says what of a target is not there, and why; "": all is. nil:
	// nobody can tell.
	TargetFailed func(name string) string
	// Version is that of the software, "" if nobody knows.
	Version string
}

// Service is the chapter.
type Service struct{ Options }

// New makes the service.
func New(o Options) *Service { return &Service{o} }

// Routes are the chapter's.
func (s *Service) Routes() []resource.Route {
	volume, connection := volumesURI+"/{id}", connectionsURI+"/{id}"
	return []resource.Route{
		{Pattern: resource.StoragesURI, Type: storagesType, Get: getStorages(resource.StoragesURI)},
		{Pattern: resource.SystemStorageURI, Type: storagesType, Get: getStorages(resource.SystemStorageURI)},
		{Pattern: storageURI, Type: storageType, Get: s.getStorage},
		{Pattern: oemAction(storageURI, importName), Type: storageType, Action: importName, Post: s.postImport},
		{Pattern: controllersURI, Type: controllersType, Get: s.getControllers},
		{Pattern: controllerURI, Type: controllerType, Get: s.getController},
		{Pattern: poolsURI, Type: poolsType, Get: s.getPools},
		{Pattern: poolURI, Type: poolType, Get: s.getPool},
		{Pattern: pooledVolumesURI, Type: volumesType, Get: s.getPooledVolumes, Post: s.postPooledVolume},
		{Pattern: volumesURI, Type: volumesType, Get: s.getVolumes, Post: s.postVolume},
		{Pattern: capabilitiesURI, Type: volumeType, Get: getCapabilities},
		{Pattern: volume, Type: volumeType, Get: s.getVolume, Patch: s.patchVolume, Delete: s.deleteVolume},
		{Pattern: volume + "/Actions/" + replicaName, Type: volumeType, Action: replicaName, Post: s.postReplica},
		{Pattern: volume + "/Actions/" + checkName, Type: volumeType, Action: checkName, Post: s.postCheck},
		{Pattern: oemAction(volume, revertName), Type: volumeType, Action: revertName, Post: s.postRevert},
		{Pattern: resource.FabricsURI, Type: fabricsType, Get: s.getFabrics},
		{Pattern: fabricURI, Type: fabricType, Get: s.getFabric},
		{Pattern: endpointsURI, Type: endpointsType, Get: s.getEndpoints},
		{Pattern: endpointsURI + "/{id}", Type: endpointType, Get: s.getEndpoint},
		{Pattern: connectionsURI, Type: connectionsType, Get: s.getConnections, Post: s.postConnection},
		{Pattern: connection, Type: connectionType, Get: s.getConnection, Patch: s.patchConnection, Delete: s.deleteConnection},
		{Pattern: connection + "/Actions/" + addName, Type: connectionType, Action: addName, Post: s.postAddVolume},
		{Pattern: connection + "/Actions/" + removeName, Type: connectionType, Action: removeName, Post: s.postRemoveVolume},
	}
}

type storage struct {
	resource.OData
	Status       resource.Status `json:"Status"`
	Controllers  resource.Link   `json:"Controllers"`
	Drives       []resource.Link `json:"Drives"`
	StoragePools resource.Link   `json:"StoragePools"`
	Volumes      resource.Link   `json:"Volumes"`
	Links        storageLinks    `json:"Links"`
	Actions      storageActions  `json:"Actions"`
	// Legacy is what Controllers has, as clients look for it that are older than that.
	Legacy []legacyController `json:"StorageControllers"`
}

type legacyController struct {
	ODataID  string `json:"@odata.id"`
	MemberID string `json:"MemberId"`
	Name     string `json:"Name"`
	controllerCore
}

type storageLinks struct {
	HostingStorageSystems []resource.Link `json:"HostingStorageSystems"`
}

type storageActions struct {
	OEM storageOEMActions `json:"Oem"`
}

type storageOEMActions struct {
	Import importAction `json:"#NitrinoStorage.Import"`
}

type importAction struct {
	Target  string   `json:"target"`
	Kinds   []string `json:"Kind@Redfish.AllowableValues"`
	Formats []string `json:"Format@Redfish.AllowableValues"`
}

// status is that of what serves the volumes.
func (s *Service) status() resource.Status {
	if !s.Disks.Up() {
		return resource.Status{State: new("UnavailableOffline"), Health: message.Critical}
	}
	return resource.Enabled()
}

// getStorages shows what is in the system's collection, and in that of all: Swordfish
// begins at the latter.
func getStorages(uri string) resource.Handler {
	return func(*resource.Request) *resource.Reply {
		return resource.OK(resource.NewCollection(uri, "StorageCollection", "Storage Collection", storageURI))
	}
}

func (s *Service) getStorage(*resource.Request) *resource.Reply {
	r := storage{
		OData:        resource.NewOData(storageURI, storageType, "Volumes"),
		Status:       s.status(),
		Controllers:  resource.Link{ODataID: controllersURI},
		Drives:       []resource.Link{},
		StoragePools: resource.Link{ODataID: poolsURI},
		Volumes:      resource.Link{ODataID: volumesURI},
		Links:        storageLinks{resource.Links(resource.SystemURI)},
		Legacy:       []legacyController{{storageURI + "#/StorageControllers/0", "0", boardName, s.board()}},
		Actions:      storageActions{storageOEMActions{importAction{oemAction(storageURI, importName), kinds(), formats()}}},
	}
	r.Status.HealthRollup = r.Status.Health
	for _, i := range s.Disks.List() {
		if i.Failed != "" {
			r.Status.HealthRollup = message.Critical
		}
	}
	return resource.OK(r)
}

type controller struct {
	resource.OData
	controllerCore
	IsLogical bool            `json:"IsLogical"`
	Links     controllerLinks `json:"Links"`
}

type controllerCore struct {
	Status                       resource.Status `json:"Status"`
	FirmwareVersion              string          `json:"FirmwareVersion,omitempty"`
	SupportedControllerProtocols []string        `json:"SupportedControllerProtocols"`
	SupportedDeviceProtocols     []string        `json:"SupportedDeviceProtocols"`
}

// boardName is the controller's.
const boardName = "Board"

type controllerLinks struct {
	Endpoints []resource.Link `json:"Endpoints"`
}

func (s *Service) getControllers(*resource.Request) *resource.Reply {
	return resource.OK(resource.NewCollection(controllersURI, "StorageControllerCollection", "Storage Controller Collection", controllerURI))
}

// board is the controller: hosts talk to it by iSCSI, and there is no device behind
// it that it would talk to.
func (s *Service) board() controllerCore {
	return controllerCore{Status: s.status(), FirmwareVersion: s.Version, SupportedControllerProtocols: []string{iSCSI}, SupportedDeviceProtocols: []string{}}
}

func (s *Service) getController(*resource.Request) *resource.Reply {
	r := controller{
		OData:          resource.NewOData(controllerURI, controllerType, boardName),
		controllerCore: s.board(),
		IsLogical:      true,
		Links:          controllerLinks{[]resource.Link{}},
	}
	for _, t := range s.Disks.Targets() {
		r.Links.Endpoints = append(r.Links.Endpoints, resource.Link{ODataID: endpointURI(t.Name)})
	}
	return resource.OK(r)
}

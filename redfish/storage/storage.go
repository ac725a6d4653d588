// Package storage is Redfish's view of the disks that the board serves to hosts:
// the Storage with its volumes and the pool that they are in, and the fabric of
// iSCSI by which hosts get at them. Schemas are DMTF's, and SNIA's Swordfish 1.2
// where those lead to it.
//
// What is in a volume goes past Redfish: see Files.
package storage

import (
	"context"
	"io"
	"log/slog"

	"github.com/nitrino/nitrino/block"
	"github.com/nitrino/nitrino/host"
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
	connectionType  = "Connection.v1_3_3.Connection"
)

const (
	storageURI       = resource.SystemStorageURI + "/volumes"
	controllersURI   = storageURI + "/Controllers"
	controllerURI    = controllersURI + "/bmc"
	poolsURI         = storageURI + "/StoragePools"
	poolURI          = poolsURI + "/card"
	pooledVolumesURI = poolURI + "/AllocatedVolumes"
	volumesURI       = storageURI + "/Volumes"
	fabricURI        = resource.FabricsURI + "/iSCSI"
	endpointsURI     = fabricURI + "/Endpoints"
	connectionsURI   = fabricURI + "/Connections"
)

// The actions. Those that are nobody's standard have the prefix of our own schemas.
const (
	replicaName = "Volume.CreateReplicaTarget"
	checkName   = "Volume.CheckConsistency"
	revertName  = "NitrinoVolume.Revert"
	importName  = "NitrinoStorage.Import"
)

// oemAction is where the action of a resource is that is our own.
func oemAction(uri, name string) string { return uri + "/Actions/Oem/" + name }

// Disks are the volumes and their exports. What is read is there also while what
// serves them is away; all else fails with one of Options.Later then. Other
// errors are of the kinds of packages block and volume, and host.ErrInvalid.
type Disks interface {
	List() []block.Info
	Get(name string) (block.Info, error)
	Create(ctx context.Context, r block.CreateRequest, from host.Origin) (block.Info, error)
	Snapshot(ctx context.Context, of, name string, from host.Origin) (block.Info, error)
	Revert(ctx context.Context, name, snapshot string, from host.Origin) error
	Resize(ctx context.Context, name string, size int64, from host.Origin) error
	Rename(ctx context.Context, name, to string, from host.Origin) error
	Delete(ctx context.Context, name string, from host.Origin) error
	Verify(ctx context.Context, name string) error

	ImportURL(ctx context.Context, r block.ImportRequest, url string, from host.Origin) (block.Job, error)
	ImportStream(ctx context.Context, r block.ImportRequest, data io.Reader, from host.Origin) (block.Info, error)
	Export(ctx context.Context, name, format string, w io.Writer) error
	Jobs() []block.Job
	CancelJob(ctx context.Context, id string, from host.Origin) error
	// Space is the room for volumes, and what of it is free, in bytes.
	Space() (size, free int64)

	// Targets have no secrets; PutTarget keeps one that is left out, where the
	// user is the same.
	Targets() []block.Target
	PutTarget(ctx context.Context, t block.Target, from host.Origin) error
	DeleteTarget(ctx context.Context, name string, from host.Origin) error
	// TargetName is the usual name of a target for a volume.
	TargetName(volume string) string
	Sessions() []block.Session

	Up() bool
	// Changed is closed at the next change of what can be read.
	Changed() <-chan struct{}
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
		{Pattern: resource.SystemStorageURI, Type: storagesType, Get: s.getStorages},
		{Pattern: storageURI, Type: storageType, Get: s.getStorage},
		{Pattern: oemAction(storageURI, importName), Type: storageType, Action: importName, Post: s.postImport},
		{Pattern: controllersURI, Type: controllersType, Get: s.getControllers},
		{Pattern: controllerURI, Type: controllerType, Get: s.getController},
		{Pattern: poolsURI, Type: poolsType, Get: s.getPools},
		{Pattern: poolURI, Type: poolType, Get: s.getPool},
		{Pattern: pooledVolumesURI, Type: volumesType, Get: s.getPooledVolumes},
		{Pattern: volumesURI, Type: volumesType, Get: s.getVolumes, Post: s.postVolume},
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

func (s *Service) getStorages(*resource.Request) *resource.Reply {
	return resource.OK(resource.NewCollection(resource.SystemStorageURI, "StorageCollection", "Storage Collection", storageURI))
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
	Status                       resource.Status `json:"Status"`
	FirmwareVersion              string          `json:"FirmwareVersion,omitempty"`
	IsLogical                    bool            `json:"IsLogical"`
	SupportedControllerProtocols []string        `json:"SupportedControllerProtocols"`
	SupportedDeviceProtocols     []string        `json:"SupportedDeviceProtocols"`
	Links                        controllerLinks `json:"Links"`
}

type controllerLinks struct {
	Endpoints []resource.Link `json:"Endpoints"`
}

func (s *Service) getControllers(*resource.Request) *resource.Reply {
	return resource.OK(resource.NewCollection(controllersURI, "StorageControllerCollection", "Storage Controller Collection", controllerURI))
}

// getController shows the board itself: hosts talk to it by iSCSI, and there is no
// device behind it that it would talk to.
func (s *Service) getController(*resource.Request) *resource.Reply {
	r := controller{
		OData:                        resource.NewOData(controllerURI, controllerType, "Board"),
		Status:                       s.status(),
		FirmwareVersion:              s.Version,
		IsLogical:                    true,
		SupportedControllerProtocols: []string{iSCSI},
		SupportedDeviceProtocols:     []string{},
		Links:                        controllerLinks{[]resource.Link{}},
	}
	for _, t := range s.Disks.Targets() {
		r.Links.Endpoints = append(r.Links.Endpoints, resource.Link{ODataID: endpointURI(t.Name)})
	}
	return resource.OK(r)
}

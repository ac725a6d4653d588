package storage

import (
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/nitrino/nitrino/block"
	"github.com/nitrino/nitrino/block/scsi"
	"github.com/nitrino/nitrino/redfish/message"
	"github.com/nitrino/nitrino/redfish/resource"
)

// volumeURI is the URI of a volume. Its Id is its name, all of whose characters a
// URI may have; a volume that gets another name gets another URI.
func volumeURI(name string) string { return volumesURI + "/" + name }

// Kinds of replicas (StorageReplicaInfo.ReplicaType).
const (
	snapshotReplica = "Snapshot"
	cloneReplica    = "Clone"
)

// What may be done with a volume (DataStorageLoSCapabilities.StorageAccessCapability).
const (
	canRead  = "Read"
	canWrite = "Write"
)

// A volumeResource is a Volume. DisplayName is Name once more, for the schema lets clients
// write nothing else.
type volumeResource struct {
	resource.OData
	DisplayName        string                `json:"DisplayName"`
	Status             resource.Status       `json:"Status"`
	Identifiers        []resource.Identifier `json:"Identifiers"`
	BlockSizeBytes     int                   `json:"BlockSizeBytes"`
	OptimumIOSizeBytes int                   `json:"OptimumIOSizeBytes"`
	CapacityBytes      int64                 `json:"CapacityBytes"`
	Capacity           capacity              `json:"Capacity"`
	ProvisioningPolicy string                `json:"ProvisioningPolicy"`
	VolumeUsage        string                `json:"VolumeUsage"`
	AccessCapabilities []string              `json:"AccessCapabilities"`
	WriteCachePolicy   string                `json:"WriteCachePolicy,omitempty"`
	WriteCacheState    string                `json:"WriteCacheState,omitempty"`
	ReplicaInfo        *replicaInfo          `json:"ReplicaInfo,omitempty"`
	ReplicaTargets     []resource.Link       `json:"ReplicaTargets"`
	Operations         []operation           `json:"Operations"`
	Connections        []resource.Link       `json:"Connections"`
	Links              volumeLinks           `json:"Links"`
	OEM                volumeOEM             `json:"Oem"`
	Writeable          []string              `json:"@Redfish.WriteableProperties"`
	Actions            volumeActions         `json:"Actions"`
}

// A replicaInfo says what a snapshot is of, or a clone was made of. Replica is
// absent where that is gone.
type replicaInfo struct {
	ReplicaType   string         `json:"ReplicaType"`
	ReplicaRole   string         `json:"ReplicaRole"`
	Replica       *resource.Link `json:"Replica,omitempty"`
	WhenActivated string         `json:"WhenActivated"`
}

type operation struct {
	Operation          string `json:"Operation"`
	PercentageComplete *int64 `json:"PercentageComplete"` // null: nobody can tell
}

type volumeLinks struct {
	OwningStorageResource resource.Link   `json:"OwningStorageResource"`
	ProvidingStoragePool  *resource.Link  `json:"ProvidingStoragePool,omitempty"`
	ClientEndpoints       []resource.Link `json:"ClientEndpoints"`
	ServerEndpoints       []resource.Link `json:"ServerEndpoints"`
}

type volumeOEM struct {
	Nitrino nitrinoVolume `json:"Nitrino"`
}

// A nitrinoVolume is what Volume has no words for.
type nitrinoVolume struct {
	Type   string `json:"@odata.type"`
	Kind   string `json:"Kind"`   // disk, image, snapshot
	Format string `json:"Format"` // raw, cow, nbd
	// Data is where the contents are downloaded: see Files.
	Data     string  `json:"DataUri"`
	Created  string  `json:"Created"`
	Source   *string `json:"Source,omitempty"`   // what it was imported from
	Upstream *string `json:"Upstream,omitempty"` // the NBD server that has it
	// Of and Base are the names of what a snapshot is of and a clone was made of,
	// also where that is gone.
	Of     *string `json:"SnapshotOf,omitempty"`
	Base   *string `json:"CloneOf,omitempty"`
	Failed *string `json:"Failed,omitempty"` // why it cannot be used
}

type volumeActions struct {
	Replica replicaAction    `json:"#Volume.CreateReplicaTarget"`
	Check   *resource.Action `json:"#Volume.CheckConsistency,omitempty"`
	OEM     volumeOEMActions `json:"Oem"`
}

type replicaAction struct {
	Target string   `json:"target"`
	Types  []string `json:"ReplicaType@Redfish.AllowableValues"`
	Modes  []string `json:"ReplicaUpdateMode@Redfish.AllowableValues"`
	Pools  []string `json:"TargetStoragePool@Redfish.AllowableValues"`
}

type volumeOEMActions struct {
	Revert *resource.Action `json:"#NitrinoVolume.Revert,omitempty"`
}

// Settled leaves out what passes by itself: how much room it takes, and how far
// something is.
func (v volumeResource) Settled() resource.Typed {
	v.Capacity.Data.AllocatedBytes, v.Capacity.Data.ConsumedBytes, v.Operations = 0, 0, nil
	return v
}

func (s *Service) getVolumes(*resource.Request) *resource.Reply {
	var uris []string
	for _, i := range s.Disks.List() {
		uris = append(uris, volumeURI(i.Name))
	}
	return resource.OK(volumeCollection(volumesURI, "Volume Collection", uris))
}

func (s *Service) getVolume(q *resource.Request) *resource.Reply {
	name := q.PathValue("id")
	i, err := s.Disks.Get(name)
	if err != nil {
		return resource.Fail(s.problem(err, name))
	}
	return resource.OK(s.show(i))
}

// replicaTypes are the replicas that can be made of a volume: a clone stands on
// what never changes.
func replicaTypes(k block.Kind) []string {
	if k == block.KindDisk {
		return []string{snapshotReplica}
	}
	return []string{cloneReplica}
}

func (s *Service) show(i block.Info) volumeResource {
	uri := volumeURI(i.Name)
	r := volumeResource{
		OData:              resource.NewOData(uri, volumeType, i.Name),
		DisplayName:        i.Name,
		Status:             resource.Enabled(),
		Identifiers:        identifiers(i.UUID),
		BlockSizeBytes:     i.BlockSize,
		OptimumIOSizeBytes: i.PhysicalSize,
		CapacityBytes:      i.Size,
		Capacity: capacity{Data: capacityData{AllocatedBytes: i.Used, ConsumedBytes: i.Used, ProvisionedBytes: &i.Size},
			IsThinProvisioned: true},
		ProvisioningPolicy: thin,
		VolumeUsage:        dataUsage,
		AccessCapabilities: access(i.Kind),
		ReplicaTargets:     []resource.Link{},
		Operations:         s.operations(i.Name),
		Connections:        []resource.Link{},
		Links:              volumeLinks{OwningStorageResource: resource.Link{ODataID: storageURI}, ClientEndpoints: []resource.Link{}, ServerEndpoints: []resource.Link{}},
		OEM: volumeOEM{nitrinoVolume{Type: "#NitrinoVolume.v1_0_0.Volume", Kind: string(i.Kind), Format: string(i.Format), Data: VolumesPath + i.Name,
			Created: when(i.Created), Source: known(i.Source), Upstream: known(i.Upstream), Of: known(i.Of), Base: known(i.Base), Failed: known(i.Failed)}},
		Actions: volumeActions{Replica: replicaAction{uri + "/Actions/" + replicaName, replicaTypes(i.Kind), updateModes(), []string{poolURI}}},
	}
	switch i.Kind {
	case block.KindDisk:
		// A write that has returned outlives the software, and a loss of power once
		// the host has flushed it.
		r.WriteCachePolicy, r.WriteCacheState = "UnprotectedWriteBack", "Unprotected"
		r.Writeable = []string{"CapacityBytes", "DisplayName"}
		r.Actions.OEM.Revert = &resource.Action{Target: oemAction(uri, revertName)}
	default:
		r.Writeable = []string{"DisplayName"}
	}
	if isChecked(i) {
		r.Actions.Check = &resource.Action{Target: uri + "/Actions/" + checkName}
	}
	if i.Failed != "" {
		r.Status = resource.Status{State: new("UnavailableOffline"), Health: message.Critical}
	}
	if i.Format != block.FormatNBD {
		r.Links.ProvidingStoragePool = &resource.Link{ODataID: poolURI}
	}
	s.addReplicas(&r, i)
	for _, t := range s.Disks.Targets() {
		if !slices.ContainsFunc(t.LUNs, func(l block.LUN) bool { return l.Volume == i.Name }) {
			continue
		}
		r.Connections = append(r.Connections, resource.Link{ODataID: connectionURI(t.Name)})
		r.Links.ServerEndpoints = append(r.Links.ServerEndpoints, resource.Link{ODataID: endpointURI(t.Name)})
		for _, name := range t.Initiators {
			if link := (resource.Link{ODataID: endpointURI(name)}); !slices.Contains(r.Links.ClientEndpoints, link) {
				r.Links.ClientEndpoints = append(r.Links.ClientEndpoints, link)
			}
		}
	}
	return r
}

// identifiers are the names by which hosts know a volume: its serial number, and
// what the page of device identification says.
func identifiers(uuid string) []resource.Identifier {
	all := []resource.Identifier{{DurableName: uuid, DurableNameFormat: "UUID"}}
	if id, err := hex.DecodeString(strings.ReplaceAll(uuid, "-", "")); err == nil && len(id) == 16 {
		all = append(all, resource.Identifier{DurableName: fmt.Sprintf("%x", scsi.NAA([16]byte(id))), DurableNameFormat: "NAA"})
	}
	return all
}

// addReplicas adds what a volume is made of, and what is made of it.
func (s *Service) addReplicas(r *volumeResource, i block.Info) {
	source := i.Base
	switch {
	case i.Of != "":
		source, r.ReplicaInfo = i.Of, &replicaInfo{ReplicaType: snapshotReplica}
	case i.Base != "":
		r.ReplicaInfo = &replicaInfo{ReplicaType: cloneReplica}
	}
	for _, o := range s.Disks.List() {
		if o.Of == i.Name || o.Of == "" && o.Base == i.Name {
			r.ReplicaTargets = append(r.ReplicaTargets, resource.Link{ODataID: volumeURI(o.Name)})
		}
		if r.ReplicaInfo != nil && o.Name == source {
			r.ReplicaInfo.Replica = &resource.Link{ODataID: volumeURI(source)}
		}
	}
	if r.ReplicaInfo != nil {
		r.ReplicaInfo.ReplicaRole, r.ReplicaInfo.WhenActivated = "Target", when(i.Created)
	}
}

// operations are the jobs under way with a volume. Volume.OperationType has no words
// for some of them.
func (s *Service) operations(name string) []operation {
	all := []operation{}
	for _, j := range s.Disks.Jobs() {
		if j.Volume != name || !j.Ended.IsZero() {
			continue
		}
		o := operation{Operation: "Initialize"}
		switch j.Operation {
		case "export":
			o.Operation = "Replicate"
		case "merge":
			o.Operation = "Rebuild"
		}
		if j.Total > 0 {
			o.PercentageComplete = new(min(j.Done*100/j.Total, 100))
		}
		all = append(all, o)
	}
	return all
}

// access is what may be done with a volume of a kind.
func access(k block.Kind) []string {
	if k == block.KindDisk {
		return []string{canRead, canWrite}
	}
	return []string{canRead}
}

func when(t time.Time) string { return t.UTC().Format(time.RFC3339) }

// known is nil for an empty text.
func known(text string) *string {
	if text == "" {
		return nil
	}
	return &text
}

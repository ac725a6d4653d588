package storage

import (
	"github.com/nitrino/nitrino/block"
	"github.com/nitrino/nitrino/redfish/resource"
)

// immediate is the only time at which a volume is made (Settings.OperationApplyTime).
const immediate = "Immediate"

// volumeCollection is a collection to which volumes can be posted.
func volumeCollection(uri, name string, members []string) resource.Collection {
	c := resource.NewCollection(uri, "VolumeCollection", name, members...)
	c.ApplyTimes = &resource.ApplyTimes{Type: "#" + resource.ApplyTimesType, Supported: []string{immediate}}
	c.Capabilities = &resource.Capabilities{Type: "#" + resource.CapabilitiesType, All: []resource.Capability{{
		Object: resource.Link{ODataID: capabilitiesURI}, UseCase: "VolumeCreation",
		Links: resource.CapabilityLinks{Target: resource.Link{ODataID: uri}}}}}
	return c
}

// The capabilities are what a POST of a volume may have: a Volume of nothing but
// annotations (DSP0266, Collection capabilities).
type capabilities struct {
	resource.OData
	Named       bool                `json:"Name@Redfish.RequiredOnCreate"`
	Sized       bool                `json:"CapacityBytes@Redfish.OptionalOnCreate"`
	Grows       bool                `json:"CapacityBytes@Redfish.UpdatableAfterCreate"`
	InBlocks    bool                `json:"BlockSizeBytes@Redfish.OptionalOnCreate"`
	BlockSizes  []string            `json:"BlockSizeBytes@Redfish.AllowableNumbers"`
	Accessed    bool                `json:"AccessCapabilities@Redfish.OptionalOnCreate"`
	Access      []string            `json:"AccessCapabilities@Redfish.AllowableValues"`
	Provisioned bool                `json:"ProvisioningPolicy@Redfish.OptionalOnCreate"`
	Policies    []string            `json:"ProvisioningPolicy@Redfish.AllowableValues"`
	Used        bool                `json:"VolumeUsage@Redfish.OptionalOnCreate"`
	Usages      []string            `json:"VolumeUsage@Redfish.AllowableValues"`
	Replicates  bool                `json:"ReplicaInfo@Redfish.OptionalOnCreate"`
	ReplicaInfo replicaCapabilities `json:"ReplicaInfo"`
	Linked      bool                `json:"Links@Redfish.OptionalOnCreate"`
	Links       linkCapabilities    `json:"Links"`
}

type replicaCapabilities struct {
	Typed  bool     `json:"ReplicaType@Redfish.RequiredOnCreate"`
	Types  []string `json:"ReplicaType@Redfish.AllowableValues"`
	Source bool     `json:"Replica@Redfish.RequiredOnCreate"`
}

type linkCapabilities struct {
	Pooled bool `json:"ProvidingStoragePool@Redfish.OptionalOnCreate"`
}

func getCapabilities(*resource.Request) *resource.Reply {
	return resource.OK(capabilities{
		OData: resource.NewOData(capabilitiesURI, volumeType, "Capabilities for the Volume Collection"),
		Named: true, Sized: true, Grows: true, InBlocks: true, BlockSizes: []string{"512", "4096"},
		Accessed: true, Access: access(block.KindDisk), Provisioned: true, Policies: []string{thin},
		Used: true, Usages: []string{dataUsage},
		Replicates: true, ReplicaInfo: replicaCapabilities{true, newReplicas(), true},
		Linked: true, Links: linkCapabilities{true},
	})
}

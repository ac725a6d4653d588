package storage

import (
	"slices"
	"strings"

	"github.com/nitrino/nitrino/block"
	"github.com/nitrino/nitrino/block/nbd"
	"github.com/nitrino/nitrino/redfish/message"
	"github.com/nitrino/nitrino/redfish/resource"
)

// immediate is the only time at which a volume is made (Settings.OperationApplyTime).
const immediate = "Immediate"

// What volumes are where nothing else is said.
const (
	thin      = "Thin" // DataStorageLoSCapabilities.ProvisioningPolicy
	dataUsage = "Data" // Volume.VolumeUsageType
)

// volumes is a collection to which volumes can be posted.
func volumes(uri, name string, members []string) resource.Collection {
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

// newReplicas are the replicas that a POST can make.
func newReplicas() []string { return []string{cloneReplica, snapshotReplica} }

// A newVolume is what a POST asks for.
type newVolume struct {
	block.CreateRequest
	replica  string // Clone is its source; "": none
	isPooled bool
}

// read reads the body of a POST.
func (s *Service) read(q *resource.Request, pooled bool) (v newVolume, problems []message.Message) {
	var display, ignored string
	v.isPooled = pooled
	may := access(block.KindDisk)
	word := func(name, only string) resource.Parameter { return resource.Word(name, []string{only}, &ignored) }
	problems = q.Parameters("",
		volumeName("Name", &v.Name), volumeName("DisplayName", &display),
		resource.Count("CapacityBytes", 1, maxBytes, &v.Size),
		blockSize("BlockSizeBytes", &v.BlockSize),
		resource.Texts("AccessCapabilities", &may),
		word("ProvisioningPolicy", thin), word("VolumeUsage", dataUsage), word("@Redfish.OperationApplyTime", immediate),
		group("ReplicaInfo",
			resource.Required(resource.Word("ReplicaType", newReplicas(), &v.replica)),
			s.volumeLink("Replica", &v.Clone), s.volumeLink("SourceReplica", &v.Clone)),
		group("Links", poolLink(&v.isPooled)),
		group("Oem", group("Nitrino", upstream(&v.Upstream))))
	if problems != nil {
		return v, problems
	}
	bad := func(m message.Message, path ...string) {
		problems = append(problems, m.About(message.Pointer(path...)))
	}
	if v.Name == "" {
		v.Name = display
	}
	slices.Sort(may)
	v.ReadOnly = slices.Equal(may, access(block.KindImage))
	switch {
	case v.Name == "":
		bad(message.PropertyMissing("Name"), "Name")
	case display != "" && display != v.Name:
		bad(message.PropertyValueConflict("DisplayName", "Name"), "DisplayName")
	}
	if !v.ReadOnly && !slices.Equal(may, access(block.KindDisk)) {
		bad(message.PropertyValueNotInList(strings.Join(may, ", "), "AccessCapabilities"), "AccessCapabilities")
	}
	switch {
	case v.replica != "" && v.Clone == "":
		bad(message.PropertyMissing("Replica"), "ReplicaInfo", "Replica")
	case v.replica == snapshotReplica && (v.Size != 0 || v.BlockSize != 0):
		bad(message.PropertyValueConflict("ReplicaType", "CapacityBytes"), "ReplicaInfo", "ReplicaType")
	case v.Upstream != "" && v.isPooled:
		bad(message.PropertyValueConflict("Upstream", "ProvidingStoragePool"), "Oem", "Nitrino", "Upstream")
	case v.Size == 0 && v.Clone == "" && v.Upstream == "":
		bad(message.PropertyMissing("CapacityBytes"), "CapacityBytes")
	}
	return v, problems
}

// upstream is the property that is the URI of an NBD server's disk.
func upstream(to *string) resource.Parameter {
	const name = "Upstream"
	text := resource.Text(name, to)
	return resource.Parameter{Name: name, Set: func(value any, action string) *message.Message {
		if problem := text.Set(value, action); problem != nil {
			return problem
		}
		if err := nbd.Check(*to); err != nil {
			return new(advise(*resource.BadFormat(value, name, action), sentence(err)))
		}
		return nil
	}}
}

// poolLink is the property that names the pool, of which there is one.
func poolLink(named *bool) resource.Parameter {
	const name = "ProvidingStoragePool"
	return resource.Parameter{Name: name, Set: func(value any, action string) *message.Message {
		id, ok := linked(value, poolsURI)
		if !ok {
			return resource.BadFormat(value, name, action)
		}
		if uri := poolsURI + "/" + id; uri != poolURI {
			return new(message.ResourceMissingAtURI(uri).About(message.Pointer(name)))
		}
		*named = true
		return nil
	}}
}

// postVolume creates an empty volume, a clone or a snapshot (ReplicaInfo), or one whose
// storage is an NBD server's (Upstream), which may be for reading only.
func (s *Service) postVolume(q *resource.Request) *resource.Reply { return s.create(q, false) }

// postPooledVolume creates one on the card.
func (s *Service) postPooledVolume(q *resource.Request) *resource.Reply { return s.create(q, true) }

func (s *Service) create(q *resource.Request, pooled bool) *resource.Reply {
	v, problems := s.read(q, pooled)
	if problems != nil {
		return resource.Fail(problems...)
	}
	return s.replicate(q, v.replica, v.CreateRequest)
}

// replicate makes a volume, or a snapshot of r.Clone.
func (s *Service) replicate(q *resource.Request, replica string, r block.CreateRequest) *resource.Reply {
	var i block.Info
	var err error
	if replica == snapshotReplica {
		i, err = s.Disks.Snapshot(q.Context(), r.Clone, r.Name, q.Origin())
	} else {
		i, err = s.Disks.Create(q.Context(), r, q.Origin())
	}
	if err != nil {
		return resource.Fail(s.problem(err, r.Name))
	}
	return s.created(i)
}

func (s *Service) created(i block.Info) *resource.Reply {
	return resource.Created(s.show(i), volumeURI(i.Name))
}

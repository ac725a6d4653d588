package storage

import (
	"slices"
	"strings"

	"github.com/nitrino/nitrino/block"
	"github.com/nitrino/nitrino/block/nbd"
	"github.com/nitrino/nitrino/redfish/message"
	"github.com/nitrino/nitrino/redfish/resource"
)

// What volumes are where nothing else is said.
const (
	thin      = "Thin" // DataStorageLoSCapabilities.ProvisioningPolicy
	dataUsage = "Data" // Volume.VolumeUsageType
)

// newReplicas are the replicas that a POST can make.
func newReplicas() []string { return []string{cloneReplica, snapshotReplica} }

// A newVolume is what a POST asks for.
type newVolume struct {
	block.CreateRequest
	replica  string // Clone is its source; "": none
	isPooled bool
}

// readVolume reads the body of a POST; pooled: it is to be on the card.
func (s *Service) readVolume(q *resource.Request, pooled bool) (v newVolume, problems []message.Message) {
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
	v, problems := s.readVolume(q, pooled)
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

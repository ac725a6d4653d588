package storage

import (
	"context"
	"net/url"
	"strings"
	"time"

	"github.com/nitrino/nitrino/block"
	"github.com/nitrino/nitrino/block/volume"
	"github.com/nitrino/nitrino/redfish/message"
	"github.com/nitrino/nitrino/redfish/resource"
)

// patience is how long a client waits before what it asked for becomes a task.
const patience = 25 * time.Second

// maxBytes is the greatest size that can be asked for; what is possible is less.
const maxBytes = 1 << 53

// group is a parameter that is an object of parameters.
func group(name string, fields ...resource.Parameter) resource.Parameter {
	return resource.Parameter{Name: name, Set: func(value any, action string) *message.Message {
		body, isObject := value.(resource.Object)
		if !isObject {
			return resource.WrongType(value, name, action)
		}
		for _, p := range (&resource.Request{Body: body}).Parameters(action, fields...) {
			return new(p.About(resource.Within(name, p.RelatedProperties)...))
		}
		return nil
	}}
}

// linked answers the Id of a resource in a collection that a value links to;
// false: it does not.
func linked(value any, collection string) (id string, ok bool) {
	link, isObject := value.(resource.Object)
	if !isObject || len(link) != 1 {
		return "", false
	}
	uri, _ := link.Get("@odata.id").(string)
	return idIn(uri, collection)
}

// idIn is the Id of a resource of a collection, by its URI.
func idIn(uri, collection string) (id string, ok bool) {
	rest, ok := strings.CutPrefix(strings.TrimSuffix(uri, "/"), collection+"/")
	id, err := url.PathUnescape(rest)
	return id, ok && err == nil && id != "" && !strings.Contains(rest, "/")
}

// volumeOf is a parameter that links to a volume, which need not be there.
func volumeOf(name string, to *string) resource.Parameter {
	return resource.Parameter{Name: name, Set: func(value any, action string) *message.Message {
		id, ok := linked(value, volumesURI)
		if !ok {
			return resource.BadFormat(value, name, action)
		}
		*to = id
		return nil
	}}
}

// volumeLink is a parameter that links to a volume, which is there.
func (s *Service) volumeLink(name string, to *string) resource.Parameter {
	var id string
	link := volumeOf(name, &id)
	return resource.Parameter{Name: name, Set: func(value any, action string) *message.Message {
		if problem := link.Set(value, action); problem != nil {
			return problem
		}
		if _, err := s.Disks.Get(id); err != nil {
			return new(message.ResourceMissingAtURI(volumeURI(id)).About(message.Pointer(name)))
		}
		*to = id
		return nil
	}}
}

// volumeName is a parameter that is the name of a new volume.
func volumeName(name string, to *string) resource.Parameter {
	text := resource.Text(name, to)
	return resource.Parameter{Name: name, Set: func(value any, action string) *message.Message {
		if problem := text.Set(value, action); problem != nil {
			return problem
		}
		if err := volume.CheckName(*to); err != nil {
			m := resource.BadFormat(value, name, action).About(message.Pointer(name))
			m.Resolution = sentence(err)
			return &m
		}
		return nil
	}}
}

// blockSize is a parameter that is the size of blocks.
func blockSize(name string, to *int) resource.Parameter {
	var n int64
	count := resource.Count(name, 0, maxBytes, &n)
	return resource.Parameter{Name: name, Set: func(value any, action string) *message.Message {
		if problem := count.Set(value, action); problem != nil {
			return problem
		}
		if n != 512 && n != 4096 {
			return resource.NotInList(value, name, action)
		}
		*to = int(n)
		return nil
	}}
}

// patchVolume grows and renames. A volume that got another name is shown where it is
// now, and Location says so.
func (s *Service) patchVolume(q *resource.Request) *resource.Reply {
	name := q.PathValue("id")
	failed := func(err error) []message.Message {
		if err == nil {
			return nil
		}
		return []message.Message{s.problem(err, name)}
	}
	get := func(*resource.Request) *resource.Reply {
		i, err := s.Disks.Get(name)
		if err != nil {
			return resource.Fail(s.problem(err, name))
		}
		return resource.OK(s.show(i))
	}
	rename := func(property string) resource.Property {
		return resource.String(property, func(to string) []message.Message {
			if to == name {
				return nil
			}
			if err := volume.CheckName(to); err != nil {
				return []message.Message{advise(message.PropertyValueFormatError(to, property), sentence(err))}
			}
			if err := s.Disks.Rename(q.Context(), name, to, q.Origin()); err != nil {
				return []message.Message{s.problem(err, to)}
			}
			name = to
			return nil
		})
	}
	writable := []resource.Property{rename("DisplayName"), rename("Name")}
	if i, err := s.Disks.Get(name); err == nil && i.Kind == block.KindDisk { // the others never change
		writable = append(writable, resource.Integer("CapacityBytes", 1, maxBytes, func(size int64) []message.Message {
			if i, err := s.Disks.Get(name); err == nil && i.Size == size {
				return nil
			}
			return failed(s.Disks.Resize(q.Context(), name, size, q.Origin()))
		}))
	}
	reply := resource.Patch(q, get, writable...)
	if !reply.Failed() && name != q.PathValue("id") {
		reply.Location = volumeURI(name)
	}
	return reply
}

func (s *Service) deleteVolume(q *resource.Request) *resource.Reply {
	name := q.PathValue("id")
	if err := s.Disks.Delete(q.Context(), name, q.Origin()); err != nil {
		return resource.Fail(s.problem(err, name))
	}
	return resource.NoContent()
}

// updateModes are StorageReplicaInfo.ReplicaUpdateMode, which the schema wants to be
// said. A copy of one moment is never updated, so all mean the same.
func updateModes() []string { return []string{"Active", "Synchronous", "Asynchronous", "Adaptive"} }

// postReplica takes a snapshot of a volume, or makes a clone of what never changes.
func (s *Service) postReplica(q *resource.Request) *resource.Reply {
	of := q.PathValue("id")
	i, err := s.Disks.Get(of)
	if err != nil {
		return resource.Fail(s.problem(err, of))
	}
	var name, mode, pool, replica string
	if problems := q.Parameters(replicaName,
		resource.Required(volumeName("VolumeName", &name)),
		resource.Required(resource.Word("ReplicaType", replicaTypes(i.Kind), &replica)),
		resource.Word("ReplicaUpdateMode", updateModes(), &mode),
		resource.Word("TargetStoragePool", []string{poolURI}, &pool)); problems != nil {
		return resource.Fail(problems...)
	}
	return s.replicate(q, replica, block.CreateRequest{Name: name, Clone: of})
}

// postRevert makes a volume what it was when a snapshot of it was taken.
func (s *Service) postRevert(q *resource.Request) *resource.Reply {
	name, snapshot := q.PathValue("id"), ""
	switch i, err := s.Disks.Get(name); {
	case err != nil:
		return resource.Fail(s.problem(err, name))
	case i.Kind != block.KindDisk:
		return resource.Fail(message.ActionNotSupported(revertName))
	}
	if problems := q.Parameters(revertName, resource.Required(s.volumeLink("Snapshot", &snapshot))); problems != nil {
		return resource.Fail(problems...)
	}
	if err := s.Disks.Revert(q.Context(), name, snapshot, q.Origin()); err != nil {
		return resource.Fail(s.problem(err, name))
	}
	return resource.NoContent()
}

// isChecked says whether there is a digest to compare a volume with: of what is on a
// server nobody knows one.
func isChecked(i block.Info) bool { return i.Kind == block.KindImage && i.Format != block.FormatNBD }

// postCheck reads an image to its end.
func (s *Service) postCheck(q *resource.Request) *resource.Reply {
	name := q.PathValue("id")
	if problems := q.Parameters(checkName); problems != nil {
		return resource.Fail(problems...)
	}
	switch i, err := s.Disks.Get(name); {
	case err != nil:
		return resource.Fail(s.problem(err, name))
	case !isChecked(i):
		return resource.Fail(message.ActionNotSupported(checkName))
	}
	return s.Tasks.Start(q, "Check of "+name, patience, func(ctx context.Context, _ resource.Progress) *resource.Reply {
		if err := s.Disks.Verify(ctx, name); err != nil {
			return resource.Fail(s.problem(err, name))
		}
		return resource.NoContent()
	})
}

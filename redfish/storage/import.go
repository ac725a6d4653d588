package storage

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"time"

	"github.com/nitrino/nitrino/block"
	"github.com/nitrino/nitrino/host"
	"github.com/nitrino/nitrino/redfish/message"
	"github.com/nitrino/nitrino/redfish/resource"
)

// kinds are what an import can make, and formats what it can read; without one it
// looks at the first bytes.
func kinds() []string   { return []string{string(block.KindImage), string(block.KindDisk)} }
func formats() []string { return []string{"raw", "qcow2"} }

// cancelLimit is how long an import that was cancelled may take to end.
const cancelLimit = 10 * time.Second

// postImport makes a volume of a file on a web server, as a task.
func (s *Service) postImport(q *resource.Request) *resource.Reply {
	var r block.ImportRequest
	var address, kind string
	if problems := q.Parameters(importName,
		resource.Required(volumeName("Name", &r.Name)),
		resource.Required(resource.Text("ImageURI", &address)),
		resource.Word("Kind", kinds(), &kind),
		resource.Word("Format", formats(), &r.Format),
		resource.Text("SHA256", &r.SHA256),
		resource.Count("CapacityBytes", 1, maxBytes, &r.Size),
		blockSize("BlockSizeBytes", &r.BlockSize)); problems != nil {
		return resource.Fail(problems...)
	}
	r.Kind = block.Kind(kind)
	u, err := url.Parse(address)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" {
		m := resource.BadFormat(address, "ImageURI", importName).About(message.Pointer("ImageURI"))
		return resource.Fail(advise(m, "Give the address of an image on a server for HTTP or HTTPS, and resubmit the request."))
	}
	from := q.Origin()
	job, err := s.Disks.ImportURL(q.Context(), r, address, from)
	if err != nil {
		return resource.Fail(s.problem(err, r.Name))
	}
	reply := s.Tasks.Start(q, "Import of "+r.Name, 0, func(ctx context.Context, p resource.Progress) *resource.Reply {
		return s.follow(ctx, p, job, from)
	})
	if reply.Failed() { // it was not begun
		s.cancel(q.Context(), job, from)
	}
	return reply
}

// cancel ends an import, unless it has ended by itself.
func (s *Service) cancel(ctx context.Context, job block.Job, from host.Origin) {
	if err := s.Disks.CancelJob(context.WithoutCancel(ctx), job.ID, from); err != nil {
		s.Log.Info("an import is not cancelled", "volume", job.Volume, "error", err)
	}
}

// follow tells of an import until it has ended, which it soon does after ctx.
func (s *Service) follow(ctx context.Context, p resource.Progress, job block.Job, from host.Origin) *resource.Reply {
	canceled := ctx.Done()
	var limit <-chan time.Time
	for {
		changed := s.Disks.Changed()
		all := s.Disks.Jobs()
		i := slices.IndexFunc(all, func(j block.Job) bool { return j.ID == job.ID })
		switch {
		case i < 0: // what it was done by has ended
			return resource.Fail(message.OperationFailed())
		case !all[i].Ended.IsZero() && all[i].Error != "" && limit != nil:
			return resource.Fail(message.OperationFailed())
		case !all[i].Ended.IsZero() && all[i].Error != "":
			return resource.Fail(message.GeneralError(http.StatusBadRequest, sentence(errors.New(all[i].Error))))
		case !all[i].Ended.IsZero():
			info, err := s.Disks.Get(job.Volume)
			if err != nil {
				return resource.Fail(s.problem(err, job.Volume))
			}
			return s.created(info)
		case all[i].Total > 0:
			p.Percent(int(min(all[i].Done*99/all[i].Total, 99))) // the rest is to put it in its place
		}
		select {
		case <-changed:
		case <-canceled:
			canceled, limit = nil, time.After(cancelLimit)
			s.cancel(ctx, job, from)
		case <-limit:
			return resource.Fail(message.OperationFailed())
		}
	}
}

package block

import (
	"context"
	"io"

	"github.com/nitrino/nitrino/host"
)

// A Manager is what front-ends do with volumes and their exports, on behalf of people.
// What is read is there also while what serves the disks is away; all else fails then.
// Errors are of the kinds of this package and of package volume, and host.ErrInvalid.
type Manager interface {
	List() []Info
	Get(name string) (Info, error)
	Create(ctx context.Context, r CreateRequest, from host.Origin) (Info, error)
	Snapshot(ctx context.Context, of, name string, from host.Origin) (Info, error)
	Revert(ctx context.Context, name, snapshot string, from host.Origin) error
	Resize(ctx context.Context, name string, size int64, from host.Origin) error
	Rename(ctx context.Context, name, to string, from host.Origin) error
	Delete(ctx context.Context, name string, from host.Origin) error
	Verify(ctx context.Context, name string) error

	// ImportURL begins a job.
	ImportURL(ctx context.Context, r ImportRequest, url string, from host.Origin) (Job, error)
	ImportStream(ctx context.Context, r ImportRequest, data io.Reader, from host.Origin) (Info, error)
	Export(ctx context.Context, name, format string, w io.Writer) error
	Jobs() []Job
	CancelJob(ctx context.Context, id string, from host.Origin) error
	// Space is the room for volumes, and what of it is free, in bytes.
	Space() (size, free int64)

	// Targets have no secrets; PutTarget keeps one that is left out, where the
	// user is the same.
	Targets() []Target
	PutTarget(ctx context.Context, t Target, from host.Origin) error
	DeleteTarget(ctx context.Context, name string, from host.Origin) error
	// TargetName is the usual name of a target for a volume.
	TargetName(volume string) string
	Sessions() []Session

	// Changed is closed at the next change of what can be read.
	Changed() <-chan struct{}
}

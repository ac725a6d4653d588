package media

import (
	"context"
	"io"

	"github.com/nitrino/nitrino/host"
	"github.com/nitrino/nitrino/media"
)

// A Drive is one of the host's for virtual media: a *media.Drive.
type Drive interface {
	Name() string
	Kinds() []host.MediumKind
	Status() media.Status
	Insert(ctx context.Context, src media.Source, from host.Origin) error
	Eject(ctx context.Context, from host.Origin) error
}

// A Library keeps images that were uploaded: a *media.Service.
type Library interface {
	Images() ([]media.Image, error)
	Put(name string, r io.Reader, size int64, from host.Origin) (media.Image, error)
	Remove(name string, from host.Origin) error
	OpenImage(name string) (io.ReadSeekCloser, media.Image, error)
}

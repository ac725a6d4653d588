package update

import (
	"context"
	"io"

	"github.com/nitrino/nitrino/host"
	"github.com/nitrino/nitrino/update"
)

// Bundles takes bundles of new software in: an *update.Staging.
type Bundles interface {
	Put(ctx context.Context, r io.Reader, size int64, from host.Origin) (update.Bundle, error)
	Fetch(ctx context.Context, src update.Source, progress func(done, total int64), from host.Origin) (update.Bundle, error)
	Staged() (update.Bundle, bool)
	Discard(from host.Origin) error
}
